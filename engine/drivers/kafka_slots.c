/* SPDX-License-Identifier: Apache-2.0
 *
 * Slots of batches that are out, and the meaning of librdkafka's errors. A report that does not
 * continue its slot's last range opens another one; when the slot is complete they are sorted and
 * merged. So the usual batch costs one range, and a batch whose every message fares differently
 * costs a range each, bounded by its count. Where memory for more ranges is refused the slot turns
 * coarse: its outcome is MAYBE as a whole, which is true if not precise, rather than lost.
 */
#include "kafka_slots.h"
#include <stdlib.h>

#define RANGES_AT_FIRST 4u

void salvo_kafka_slots_free(salvo_kafka_slots *s)
{
    for (uint32_t i = 0; s->slot && i < s->room; i++)
        free(s->slot[i].ranges);
    free(s->slot);
    free(s->free_);
    free(s->ready);
    free(s->handed);
    *s = (salvo_kafka_slots){0};
}

int salvo_kafka_slots_init(salvo_kafka_slots *s, uint32_t room)
{
    *s = (salvo_kafka_slots){.room = room,
                             .slot = calloc(room, sizeof *s->slot),
                             .free_ = calloc(room, sizeof *s->free_),
                             .ready = calloc(room, sizeof *s->ready),
                             .handed = calloc(room, sizeof *s->handed)};
    if (!s->slot || !s->free_ || !s->ready || !s->handed) {
        salvo_kafka_slots_free(s);
        return SALVO_ERR_NOMEM;
    }
    for (uint32_t i = 0; i < room; i++) {
        s->slot[i].ranges = calloc(RANGES_AT_FIRST, sizeof *s->slot[i].ranges);
        s->slot[i].range_room = RANGES_AT_FIRST;
        if (!s->slot[i].ranges) {
            salvo_kafka_slots_free(s);
            return SALVO_ERR_NOMEM;
        }
        s->free_[s->free_count++] = room - 1 - i; /* low ones first: they stay in the cache */
    }
    return 0;
}

uint32_t salvo_kafka_slots_take(salvo_kafka_slots *s, uint64_t token, uint32_t count)
{
    if (!s->free_count)
        return SALVO_KAFKA_NO_SLOT;
    uint32_t index = s->free_[--s->free_count];
    salvo_kafka_slot *slot = &s->slot[index];
    slot->token = token;
    slot->count = count;
    slot->cost = slot->bytes = 0;
    slot->recorded = slot->range_count = 0;
    slot->out = slot->filling = true;
    slot->coarse = false;
    s->out_count++;
    s->out_messages += count;
    return index;
}

void salvo_kafka_slots_charge(salvo_kafka_slots *s, uint32_t index, uint64_t cost,
                              uint64_t bytes)
{
    s->slot[index].cost = cost;
    s->slot[index].bytes = bytes;
    s->out_cost += cost;
    s->out_bytes += bytes;
}

static void no_longer_out(salvo_kafka_slots *s, salvo_kafka_slot *slot)
{
    slot->out = false;
    s->out_count--;
    s->out_messages -= slot->count;
    s->out_cost -= slot->cost;
    s->out_bytes -= slot->bytes;
}

void salvo_kafka_slots_untake(salvo_kafka_slots *s, uint32_t index)
{
    no_longer_out(s, &s->slot[index]);
    s->free_[s->free_count++] = index;
}

static bool continues(const salvo_driver_range *last, uint32_t first, int32_t status,
                      int64_t offset)
{
    if (last->first + last->count != first || last->status != status)
        return false;
    return last->base_offset < 0 ? offset < 0 : offset == last->base_offset + last->count;
}

static void add_range(salvo_kafka_slot *slot, uint32_t first, uint32_t count, int32_t status,
                      int64_t offset)
{
    if (slot->range_count == slot->range_room) {
        uint32_t room = slot->range_room * 2;
        salvo_driver_range *more = realloc(slot->ranges, room * sizeof *more);
        if (!more) {
            slot->coarse = true;
            return;
        }
        slot->ranges = more;
        slot->range_room = room;
    }
    slot->ranges[slot->range_count++] = (salvo_driver_range){
        .first = first, .count = count, .status = status,
        .base_offset = offset < 0 ? -1 : offset};
}

static int by_first(const void *a, const void *b)
{
    const salvo_driver_range *x = a, *y = b;
    return (x->first > y->first) - (x->first < y->first);
}

static void merge(salvo_kafka_slot *slot)
{
    qsort(slot->ranges, slot->range_count, sizeof *slot->ranges, by_first);
    uint32_t last = 0;
    for (uint32_t i = 1; i < slot->range_count; i++) {
        const salvo_driver_range *r = &slot->ranges[i];
        if (continues(&slot->ranges[last], r->first, r->status, r->base_offset))
            slot->ranges[last].count += r->count;
        else
            slot->ranges[++last] = *r;
    }
    slot->range_count = last + 1;
}

static void complete(salvo_kafka_slots *s, uint32_t index)
{
    salvo_kafka_slot *slot = &s->slot[index];
    if (slot->coarse) {
        slot->ranges[0] = (salvo_driver_range){
            .count = slot->count, .status = SALVO_ERR_MAYBE, .base_offset = -1};
        slot->range_count = 1;
    } else if (slot->range_count > 1) {
        merge(slot);
    }
    no_longer_out(s, slot);
    s->ready[s->ready_tail++ % s->room] = index;
}

void salvo_kafka_slots_record(salvo_kafka_slots *s, uint32_t index, uint32_t first,
                              uint32_t count, int32_t status, int64_t offset)
{
    salvo_kafka_slot *slot = &s->slot[index];
    salvo_driver_range *last = slot->range_count ? &slot->ranges[slot->range_count - 1] : NULL;
    if (last && continues(last, first, status, offset))
        last->count += count;
    else if (!slot->coarse)
        add_range(slot, first, count, status, offset);
    slot->recorded += count;
    if (slot->recorded == slot->count && !slot->filling)
        complete(s, index);
}

bool salvo_kafka_slots_filled(salvo_kafka_slots *s, uint32_t index)
{
    s->slot[index].filling = false;
    if (s->slot[index].recorded < s->slot[index].count)
        return false;
    complete(s, index);
    return true;
}

static void fill_gaps(salvo_kafka_slot *slot, int32_t status)
{
    uint32_t known = slot->range_count, next = 0;
    qsort(slot->ranges, known, sizeof *slot->ranges, by_first);
    for (uint32_t i = 0; i < known && !slot->coarse; i++) {
        uint32_t first = slot->ranges[i].first; /* by value: add_range may move them */
        uint32_t end = first + slot->ranges[i].count;
        if (first > next)
            add_range(slot, next, first - next, status, -1);
        next = end;
    }
    if (next < slot->count && !slot->coarse)
        add_range(slot, next, slot->count - next, status, -1);
}

void salvo_kafka_slots_give_up(salvo_kafka_slots *s, int32_t status)
{
    for (uint32_t i = 0; i < s->room; i++) {
        if (!s->slot[i].out)
            continue;
        fill_gaps(&s->slot[i], status);
        complete(s, i);
    }
}

uint32_t salvo_kafka_slots_hand_out(salvo_kafka_slots *s, salvo_driver_outcome *outcomes,
                                    uint32_t max)
{
    uint32_t n = 0;
    for (; n < max && salvo_kafka_slots_have_ready(s); n++) {
        uint32_t index = s->ready[s->ready_head++ % s->room];
        const salvo_kafka_slot *slot = &s->slot[index];
        outcomes[n] = (salvo_driver_outcome){
            .token = slot->token, .range_count = slot->range_count, .ranges = slot->ranges};
        s->handed[s->handed_count++] = index;
    }
    return n;
}

void salvo_kafka_slots_recycle(salvo_kafka_slots *s)
{
    while (s->handed_count)
        s->free_[s->free_count++] = s->handed[--s->handed_count];
}

bool salvo_kafka_is_auth(rd_kafka_resp_err_t err)
{
    switch ((int)err) {
    case RD_KAFKA_RESP_ERR__AUTHENTICATION:
    case RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED:
    case RD_KAFKA_RESP_ERR_UNSUPPORTED_SASL_MECHANISM:
    case RD_KAFKA_RESP_ERR_ILLEGAL_SASL_STATE:
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED:
        return true;
    default:
        return false;
    }
}

/* In FATAL mode whatever was not acknowledged comes back as FATAL, to be sent again first and in
 * order, also what had left for the broker without an answer: nothing may be lost by a re-open.
 * The price is that such a message can arrive twice, since the new handle has a new producer id,
 * by which the broker cannot tell. In PURGED mode nobody sends again, so unknown is MAYBE. */
int32_t salvo_kafka_status(rd_kafka_resp_err_t err, rd_kafka_msg_status_t persisted,
                           salvo_kafka_mode mode)
{
    bool unsent = persisted == RD_KAFKA_MSG_STATUS_NOT_PERSISTED;
    if (salvo_kafka_is_auth(err))
        return SALVO_ERR_AUTH;
    switch ((int)err) {
    case RD_KAFKA_RESP_ERR_NO_ERROR:
        return 0;
    case RD_KAFKA_RESP_ERR__QUEUE_FULL:
        return SALVO_ERR_TRANSIENT;
    case RD_KAFKA_RESP_ERR__MSG_TIMED_OUT:
        return unsent ? SALVO_ERR_EXPIRED : SALVO_ERR_MAYBE;
    case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
    case RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE:
        return SALVO_ERR_TOO_LARGE;
    case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
        return SALVO_ERR_UNKNOWN_TOPIC;
    case RD_KAFKA_RESP_ERR__FATAL:
        if (mode != SALVO_KAFKA_PURGED)
            return SALVO_ERR_FATAL;
        return unsent ? SALVO_ERR_DROPPED : SALVO_ERR_MAYBE;
    default:
        break;
    }
    if (mode == SALVO_KAFKA_FATAL)
        return SALVO_ERR_FATAL;
    if (err == RD_KAFKA_RESP_ERR__PURGE_QUEUE && unsent)
        return SALVO_ERR_DROPPED;
    if (err == RD_KAFKA_RESP_ERR__PURGE_INFLIGHT)
        return SALVO_ERR_MAYBE;
    /* librdkafka has retried what can be retried. */
    return unsent ? SALVO_ERR_REJECTED : SALVO_ERR_MAYBE;
}
