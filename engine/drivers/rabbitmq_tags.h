/* SPDX-License-Identifier: Apache-2.0
 *
 * Delivery tags of one channel, and what the server has still to hear of them. Tags are given one
 * after the other and settled in any order. Guarantees: no tag is told twice; as much as possible
 * is told by one `multiple`, which names a tag that the server still waits for (any other would
 * close the channel).
 *
 *   [first, next): state of each: given | settled | told;  first is always `given`, or next
 */
#ifndef SALVO_RABBITMQ_TAGS_H
#define SALVO_RABBITMQ_TAGS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct salvo_rabbitmq_tags {
    uint8_t *state; /* a ring of a power of two; NULL: none yet */
    uint64_t first, next;
    uint64_t prefix; /* settled, untold, and all before it settled or told; 0: none */
    uint32_t room;
    uint32_t open;   /* given, not settled */
    uint32_t apart;  /* settled, untold, behind one that is open */
} salvo_rabbitmq_tags;

void salvo_rabbitmq_tags_free(salvo_rabbitmq_tags *tags);
/* A new channel: tags begin at 1. */
void salvo_rabbitmq_tags_reset(salvo_rabbitmq_tags *tags);

/* The next tag came. False: no memory, or more than a sane server leaves open. */
bool salvo_rabbitmq_tags_give(salvo_rabbitmq_tags *tags);
/* True: it was open until now. */
bool salvo_rabbitmq_tags_settle(salvo_rabbitmq_tags *tags, uint64_t tag);

/* The next of the settled ones behind an open one, from `from` on; 0: none. */
uint64_t salvo_rabbitmq_tags_apart(const salvo_rabbitmq_tags *tags, uint64_t from);
void salvo_rabbitmq_tags_told(salvo_rabbitmq_tags *tags, uint64_t tag);
void salvo_rabbitmq_tags_told_prefix(salvo_rabbitmq_tags *tags);

#endif
