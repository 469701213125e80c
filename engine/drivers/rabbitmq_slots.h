/* SPDX-License-Identifier: Apache-2.0
 *
 * The batches that are out, in the order they came, and how their messages fared so far.
 *
 * Guarantees: a slot becomes ready exactly once, when each of its messages was recorded once; its
 * ranges are ascending, merged and without gaps, and stay as they are until the next recycle. In
 * the common case, confirms in order, a record extends the slot's last range. One thread.
 */
#ifndef SALVO_RABBITMQ_SLOTS_H
#define SALVO_RABBITMQ_SLOTS_H

#include "driver.h"

#define SALVO_RABBITMQ_NO_SLOT UINT32_MAX

typedef struct salvo_rabbitmq_slot {
    salvo_driver_batch batch; /* a copy: the engine's may be counted down */
    uint64_t token;
    salvo_driver_cursor next; /* the first message that was not taken yet */
    uint32_t taken, recorded; /* messages */
    uint32_t range_count, range_room;
    salvo_driver_range *ranges;
    bool out;
    bool coarse; /* no memory to tell its messages apart: all MAYBE */
} salvo_rabbitmq_slot;

/* Every slot is free, out, ready or handed out. queue: those that are out and not taken wholly,
 * and maybe some that were since, oldest first. */
typedef struct salvo_rabbitmq_slots {
    salvo_rabbitmq_slot *slot;
    uint32_t room, out_count;
    uint32_t *free_, *ready, *handed, *queue;
    uint32_t free_count, handed_count;
    uint64_t ready_head, ready_tail, queue_head, queue_tail;
    uint64_t untaken; /* messages in the queue */
} salvo_rabbitmq_slots;

int salvo_rabbitmq_slots_open(salvo_rabbitmq_slots *slots, uint32_t room);
void salvo_rabbitmq_slots_close(salvo_rabbitmq_slots *slots);

/* Take a batch in; false: no slot is free. */
bool salvo_rabbitmq_slots_add(salvo_rabbitmq_slots *slots, const salvo_driver_batch *batch,
                              uint64_t token);

/* The oldest slot with messages that were not taken; NO_SLOT: none. */
uint32_t salvo_rabbitmq_slots_first(salvo_rabbitmq_slots *slots);

/* Take the next message of a slot: its index, and where it begins. */
uint32_t salvo_rabbitmq_slots_take(salvo_rabbitmq_slots *slots, uint32_t index,
                                   salvo_driver_cursor *at, salvo_driver_message *message);

/* Put the message that was taken last back. */
void salvo_rabbitmq_slots_untake(salvo_rabbitmq_slots *slots, uint32_t index,
                                 const salvo_driver_cursor *at);

/* Messages [first, first + count) of a slot fared like this. */
void salvo_rabbitmq_slots_record(salvo_rabbitmq_slots *slots, uint32_t index, uint32_t first,
                                 uint32_t count, int32_t status);

/* Take and record all of a slot that was not taken. */
void salvo_rabbitmq_slots_refuse(salvo_rabbitmq_slots *slots, uint32_t index, int32_t status);

uint32_t salvo_rabbitmq_slots_hand_out(salvo_rabbitmq_slots *slots, salvo_driver_outcome *outcomes,
                                       uint32_t max);
void salvo_rabbitmq_slots_recycle(salvo_rabbitmq_slots *slots);

static inline uint32_t salvo_rabbitmq_slots_tokens(const salvo_rabbitmq_slots *slots)
{
    return slots->out_count + (uint32_t)(slots->ready_tail - slots->ready_head);
}

#endif
