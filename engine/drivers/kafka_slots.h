/* SPDX-License-Identifier: Apache-2.0
 *
 * Which batches are out, and how their messages fared so far. Guarantees: a taken slot becomes
 * ready exactly once, when each of its messages was recorded once; its ranges are ascending,
 * merged and without gaps, and stay as they are until the next salvo_kafka_slots_recycle().
 * One thread. Costs a few nanoseconds a message while reports come in order (they nearly always
 * do): they extend the slot's last range, and nothing per message is stored.
 */
#ifndef SALVO_KAFKA_SLOTS_H
#define SALVO_KAFKA_SLOTS_H

#include "driver.h"
#include <librdkafka/rdkafka.h>

#define SALVO_KAFKA_NO_SLOT UINT32_MAX

typedef struct salvo_kafka_slot {
    uint64_t token;
    uint64_t cost;  /* what librdkafka keeps of it, in bytes */
    uint64_t bytes; /* what it refers to */
    uint32_t count, recorded;
    uint32_t range_count, range_room;
    salvo_driver_range *ranges;
    bool out;
    bool filling; /* between take and filled: not to be completed yet */
    bool coarse;  /* no memory to tell its messages apart: all MAYBE */
} salvo_kafka_slot;

/* free_[0, free_count): to be taken. ready ring: complete, waiting for poll. handed[]: given out
 * by the last poll, so still read by the engine. Every slot is out or in exactly one of them. */
typedef struct salvo_kafka_slots {
    salvo_kafka_slot *slot;
    uint32_t room, out_count;
    uint32_t *free_, *ready, *handed;
    uint32_t free_count, handed_count;
    uint64_t ready_head, ready_tail;
    uint64_t out_messages, out_cost, out_bytes;
} salvo_kafka_slots;

int salvo_kafka_slots_init(salvo_kafka_slots *slots, uint32_t room);
void salvo_kafka_slots_free(salvo_kafka_slots *slots);

/* A slot for a batch of count messages, or SALVO_KAFKA_NO_SLOT. It is followed by
 * salvo_kafka_slots_charge and _filled, or by _untake. */
uint32_t salvo_kafka_slots_take(salvo_kafka_slots *slots, uint64_t token, uint32_t count);

/* What a taken slot costs; counted until it is ready or given back. */
void salvo_kafka_slots_charge(salvo_kafka_slots *slots, uint32_t index, uint64_t cost,
                              uint64_t bytes);

/* The batch was offered as a whole. True: it is ready already, since all of it was refused. */
bool salvo_kafka_slots_filled(salvo_kafka_slots *slots, uint32_t index);

/* Give a slot back of which nothing was sent. */
void salvo_kafka_slots_untake(salvo_kafka_slots *slots, uint32_t index);

/* Messages [first, first + count) of a slot fared like this. */
void salvo_kafka_slots_record(salvo_kafka_slots *slots, uint32_t index, uint32_t first,
                              uint32_t count, int32_t status, int64_t offset);

/* Make every slot that is out ready now; what was not recorded gets `status`. */
void salvo_kafka_slots_give_up(salvo_kafka_slots *slots, int32_t status);

/* Up to max outcomes of ready slots. */
uint32_t salvo_kafka_slots_hand_out(salvo_kafka_slots *slots, salvo_driver_outcome *outcomes,
                                    uint32_t max);
void salvo_kafka_slots_recycle(salvo_kafka_slots *slots);

static inline bool salvo_kafka_slots_have_ready(const salvo_kafka_slots *slots)
{
    return slots->ready_head != slots->ready_tail;
}

typedef enum salvo_kafka_mode {
    SALVO_KAFKA_RUNNING,
    SALVO_KAFKA_FATAL,  /* being emptied so that it can be re-opened */
    SALVO_KAFKA_PURGED, /* being given up at close */
} salvo_kafka_mode;

/* The status that the engine gets for librdkafka's report on a message. */
int32_t salvo_kafka_status(rd_kafka_resp_err_t err, rd_kafka_msg_status_t persisted,
                           salvo_kafka_mode mode);
bool salvo_kafka_is_auth(rd_kafka_resp_err_t err);

#endif
