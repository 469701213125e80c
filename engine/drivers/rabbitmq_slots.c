/* SPDX-License-Identifier: Apache-2.0
 *
 * Batches that are out; see rabbitmq_slots.h.
 */
#include "rabbitmq_slots.h"

#include <stdlib.h>
#include <string.h>

enum { RANGES = 4 };

int salvo_rabbitmq_slots_open(salvo_rabbitmq_slots *s, uint32_t room)
{
    memset(s, 0, sizeof *s);
    s->room = room;
    s->slot = calloc(room, sizeof *s->slot);
    s->free_ = calloc(room, sizeof *s->free_);
    s->ready = calloc(room, sizeof *s->ready);
    s->handed = calloc(room, sizeof *s->handed);
    s->queue = calloc(room, sizeof *s->queue);
    bool failed = !s->slot || !s->free_ || !s->ready || !s->handed || !s->queue;
    for (uint32_t i = 0; i < room && !failed; i++) {
        s->slot[i].range_room = RANGES;
        s->slot[i].ranges = calloc(RANGES, sizeof *s->slot[i].ranges);
        failed = s->slot[i].ranges == NULL;
        s->free_[s->free_count++] = room - 1 - i; /* low ones first: they stay in the cache */
    }
    if (failed)
        salvo_rabbitmq_slots_close(s);
    return failed ? SALVO_ERR_NOMEM : 0;
}

void salvo_rabbitmq_slots_close(salvo_rabbitmq_slots *s)
{
    for (uint32_t i = 0; s->slot && i < s->room; i++)
        free(s->slot[i].ranges);
    free(s->slot);
    free(s->free_);
    free(s->ready);
    free(s->handed);
    free(s->queue);
    memset(s, 0, sizeof *s);
}

bool salvo_rabbitmq_slots_add(salvo_rabbitmq_slots *s, const salvo_driver_batch *batch,
                              uint64_t token)
{
    /* The queue may hold slots that were taken since; its oldest ones are dropped first. */
    (void)salvo_rabbitmq_slots_first(s);
    if (s->free_count == 0 || s->queue_tail - s->queue_head == s->room)
        return false;
    uint32_t index = s->free_[--s->free_count];
    salvo_rabbitmq_slot *slot = &s->slot[index];
    slot->batch = *batch;
    slot->token = token;
    slot->next = (salvo_driver_cursor){0};
    slot->taken = slot->recorded = slot->range_count = 0;
    slot->out = true;
    slot->coarse = false;
    s->queue[s->queue_tail++ % s->room] = index;
    s->out_count++;
    s->untaken += batch->count;
    return true;
}

uint32_t salvo_rabbitmq_slots_first(salvo_rabbitmq_slots *s)
{
    while (s->queue_head != s->queue_tail) {
        uint32_t index = s->queue[s->queue_head % s->room];
        const salvo_rabbitmq_slot *slot = &s->slot[index];
        if (slot->out && slot->taken < slot->batch.count)
            return index;
        s->queue_head++;
    }
    return SALVO_RABBITMQ_NO_SLOT;
}

uint32_t salvo_rabbitmq_slots_take(salvo_rabbitmq_slots *s, uint32_t index,
                                   salvo_driver_cursor *at, salvo_driver_message *message)
{
    salvo_rabbitmq_slot *slot = &s->slot[index];
    *at = slot->next;
    if (!salvo_batch_next(&slot->batch, &slot->next, message))
        *message = (salvo_driver_message){0}; /* fewer than counted: the engine's bug */
    s->untaken--;
    return slot->taken++;
}

void salvo_rabbitmq_slots_untake(salvo_rabbitmq_slots *s, uint32_t index,
                                 const salvo_driver_cursor *at)
{
    s->slot[index].next = *at;
    s->slot[index].taken--;
    s->untaken++;
}

static void add_range(salvo_rabbitmq_slot *slot, uint32_t first, uint32_t count, int32_t status)
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
        .first = first, .count = count, .status = status, .base_offset = -1};
}

static int by_first(const void *a, const void *b)
{
    const salvo_driver_range *x = a, *y = b;
    return (x->first > y->first) - (x->first < y->first);
}

static void merge(salvo_rabbitmq_slot *slot)
{
    uint32_t last = 0;
    qsort(slot->ranges, slot->range_count, sizeof *slot->ranges, by_first);
    for (uint32_t i = 1; i < slot->range_count; i++) {
        const salvo_driver_range *r = &slot->ranges[i];
        if (r->status == slot->ranges[last].status)
            slot->ranges[last].count += r->count;
        else
            slot->ranges[++last] = *r;
    }
    slot->range_count = last + 1;
}

static void complete(salvo_rabbitmq_slots *s, uint32_t index)
{
    salvo_rabbitmq_slot *slot = &s->slot[index];
    if (slot->coarse) {
        slot->ranges[0] = (salvo_driver_range){
            .count = slot->batch.count, .status = SALVO_ERR_MAYBE, .base_offset = -1};
        slot->range_count = 1;
    } else if (slot->range_count > 1) {
        merge(slot);
    }
    slot->out = false;
    s->out_count--;
    s->ready[s->ready_tail++ % s->room] = index;
}

void salvo_rabbitmq_slots_record(salvo_rabbitmq_slots *s, uint32_t index, uint32_t first,
                                 uint32_t count, int32_t status)
{
    salvo_rabbitmq_slot *slot = &s->slot[index];
    salvo_driver_range *last = slot->range_count ? &slot->ranges[slot->range_count - 1] : NULL;
    if (last && last->status == status && last->first + last->count == first)
        last->count += count;
    else if (!slot->coarse)
        add_range(slot, first, count, status);
    slot->recorded += count;
    if (slot->recorded == slot->batch.count)
        complete(s, index);
}

void salvo_rabbitmq_slots_refuse(salvo_rabbitmq_slots *s, uint32_t index, int32_t status)
{
    salvo_rabbitmq_slot *slot = &s->slot[index];
    uint32_t first = slot->taken, count = slot->batch.count - first;
    if (!slot->out || count == 0)
        return;
    slot->taken = slot->batch.count;
    s->untaken -= count;
    salvo_rabbitmq_slots_record(s, index, first, count, status);
}

uint32_t salvo_rabbitmq_slots_hand_out(salvo_rabbitmq_slots *s, salvo_driver_outcome *outcomes,
                                       uint32_t max)
{
    uint32_t n = 0;
    for (; n < max && s->ready_head != s->ready_tail; n++) {
        uint32_t index = s->ready[s->ready_head++ % s->room];
        const salvo_rabbitmq_slot *slot = &s->slot[index];
        outcomes[n] = (salvo_driver_outcome){
            .token = slot->token, .range_count = slot->range_count, .ranges = slot->ranges};
        s->handed[s->handed_count++] = index;
    }
    return n;
}

void salvo_rabbitmq_slots_recycle(salvo_rabbitmq_slots *s)
{
    while (s->handed_count)
        s->free_[s->free_count++] = s->handed[--s->handed_count];
}
