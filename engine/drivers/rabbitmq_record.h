/* SPDX-License-Identifier: Apache-2.0
 *
 * A message that came from a queue, from its content header and body to what a reader shows: the
 * inverse of rabbitmq_message.c. Guarantees: what a server sent is checked before it is used;
 * what is shown stays until the next begin.
 */
#ifndef SALVO_RABBITMQ_RECORD_H
#define SALVO_RABBITMQ_RECORD_H

#include <amqp.h>
#include <salvo/reader.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct salvo_rabbitmq_record {
    amqp_pool_t pool; /* of its properties */
    uint8_t *properties; /* a copy: they point into it */
    size_t properties_room;
    const struct amqp_basic_properties_t_ *p;
    uint8_t *body;
    size_t body_len, body_room;
    void *unpacked;
    salvo_header *headers;
    size_t header_room;
    char (*numbers)[32]; /* texts of headers that are numbers */
} salvo_rabbitmq_record;

void salvo_rabbitmq_record_open(salvo_rabbitmq_record *record);
void salvo_rabbitmq_record_close(salvo_rabbitmq_record *record);

/* A content header frame's payload; *body_bytes: how many will follow. False: it is none. */
bool salvo_rabbitmq_record_begin(salvo_rabbitmq_record *record, const uint8_t *payload, size_t n,
                                 uint64_t *body_bytes);
/* False: no memory. */
bool salvo_rabbitmq_record_body(salvo_rabbitmq_record *record, const void *bytes, size_t n);

/* value, key, headers and timestamp of `shown`. 0, NOMEM, INVALID or TOO_LARGE: it cannot be
 * unpacked into `most` bytes. */
int salvo_rabbitmq_record_show(salvo_rabbitmq_record *record, uint64_t most, salvo_record *shown);

#endif
