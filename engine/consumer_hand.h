/* SPDX-License-Identifier: Apache-2.0
 *
 * What a consumer has in hand: messages that were given and are not settled, by their ids, and the
 * tags of those that were acknowledged since the driver was last told. Any thread; one short
 * mutex; nothing is called while it is held.
 *
 *   slots[id & mask] is the only place of an id; id 0 there: free
 *   an id whose place is taken is skipped, so ids ascend, with gaps, and are never reused
 *   held + queued <= 2 * most <= mask + 1 at full size, so a free place is never far
 *   queued <= the number of slots: acknowledging never allocates
 */
#ifndef SALVO_CONSUMER_HAND_H
#define SALVO_CONSUMER_HAND_H

#include "driver_consumer.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct salvo_hand_slot {
    uint64_t id;
    salvo_driver_tag tag;
} salvo_hand_slot;

typedef struct salvo_hand {
    pthread_mutex_t mutex;
    salvo_hand_slot *slots;
    uint64_t mask, next_id;
    uint32_t most, held;
    salvo_driver_tag *queue;  /* acknowledged, not passed on */
    salvo_driver_tag *passed; /* the polling thread's: what it is passing on */
    uint32_t queued;
    uint64_t received, acknowledged, lost, redelivered;
} salvo_hand;

/* most: messages that may be in hand. 0 or SALVO_ERR_NOMEM. */
int salvo_hand_init(salvo_hand *hand, uint32_t most);

/* Whoever acknowledges or asks afterwards finds nothing; the mutex stays. */
void salvo_hand_free(salvo_hand *hand);

/* How many more may be given. */
uint32_t salvo_hand_room(salvo_hand *hand);

/* The polling thread: makes room for `count` more, before the driver is asked for them. Returns
 * for how many there is room: fewer where memory or `most` ends, never more than count. */
uint32_t salvo_hand_reserve(salvo_hand *hand, uint32_t count);

/* The polling thread: these were given; count is at most what was reserved. Fills out[i].id. */
void salvo_hand_give(salvo_hand *hand, const salvo_driver_delivery *given, uint32_t count,
                     salvo_delivered *out);

/* How many were in hand until now. */
uint32_t salvo_hand_ack(salvo_hand *hand, const uint64_t *ids, size_t count);
bool salvo_hand_has(salvo_hand *hand, uint64_t id);

/* The polling thread: the tags that were acknowledged since the last call; valid until the next. */
uint32_t salvo_hand_take_acks(salvo_hand *hand, const salvo_driver_tag **tags);

/* A claim has ended: its messages are lost to us, its tags are passed on no more. */
void salvo_hand_revoke(salvo_hand *hand, uint32_t claim);

#endif
