/* SPDX-License-Identifier: Apache-2.0
 *
 * What a consumer has of a stream: the ids that it was given and that the server still counts as
 * pending, and the acknowledgements that the server has not confirmed. Guarantees: an id is there
 * once, from add until its XACK was answered; looking up costs the same however many there are.
 *
 *   acks: [0, sent) on their way | [sent, due) to be sent | [due, count) not committed yet
 */
#ifndef SALVO_REDIS_HAND_H
#define SALVO_REDIS_HAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct salvo_redis_id {
    uint64_t ms, seq; /* 0-0 is no entry's */
} salvo_redis_id;

typedef struct salvo_redis_held {
    salvo_redis_id id; /* 0-0: an empty place */
    bool settled;
} salvo_redis_held;

typedef struct salvo_redis_hand {
    salvo_redis_held *places; /* a table by hash, of a power of two */
    uint32_t mask, count, held; /* held: not settled */
    salvo_redis_id *acks;
    uint32_t ack_count, ack_due, ack_sent, ack_room;
} salvo_redis_hand;

void salvo_redis_hand_free(salvo_redis_hand *hand);

/* 1: it is new; 0: it was there; -1: no memory. */
int salvo_redis_hand_add(salvo_redis_hand *hand, salvo_redis_id id);

/* It is processed: an acknowledgement is noted (commit: to be sent). False: it was not held, or
 * there is no memory for it. */
bool salvo_redis_hand_settle(salvo_redis_hand *hand, salvo_redis_id id, bool commit);

/* The first n acknowledgements were answered. */
void salvo_redis_hand_acked(salvo_redis_hand *hand, uint32_t n);

/* What is not settled is no longer ours; with `uncommitted` neither what is not committed. */
void salvo_redis_hand_forget(salvo_redis_hand *hand, bool uncommitted);
void salvo_redis_hand_clear(salvo_redis_hand *hand);

/* Walk what is pending at the server: the next id from *place on; false: that was all. */
bool salvo_redis_hand_next(const salvo_redis_hand *hand, uint32_t *place, salvo_redis_id *id);

/* "ms-seq", exactly so. */
bool salvo_redis_id_parse(const char *text, size_t length, salvo_redis_id *id);
enum { SALVO_REDIS_ID_TEXT = 48 };
size_t salvo_redis_id_print(salvo_redis_id id, char text[SALVO_REDIS_ID_TEXT]);

#endif
