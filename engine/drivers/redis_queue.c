/* SPDX-License-Identifier: Apache-2.0
 *
 * Entries and what becomes of them; the equations are in redis_internal.h. Guarantees: an entry's
 * ranges ascend without gaps; it is handed out once, when all its messages have their outcome;
 * what may have reached the server never goes back as unsent.
 */
#include "redis_internal.h"

#include "error.h"
#include <stdlib.h>
#include <string.h>

#define GRACE_NS UINT64_C(1000000000) /* for replies of a server that is up, behind the deadline */

static void unlink_entry(salvo_redis *h, salvo_redis_entry *e)
{
    *(e->previous ? &e->previous->next : &h->first) = e->next;
    *(e->next ? &e->next->previous : &h->last) = e->previous;
    if (h->sending == e)
        h->sending = e->next;
}

void salvo_redis_push(salvo_redis *h, salvo_redis_entry *e)
{
    e->next = NULL;
    e->previous = h->last;
    *(h->last ? &h->last->next : &h->first) = e;
    h->last = e;
    if (!h->sending)
        h->sending = e;
    h->out++;
    h->topics[e->batch.topic].out++;
}

static bool grow(salvo_redis_entry *e)
{
    uint32_t room = 4 * e->range_room;
    bool inside = e->ranges == e->few;
    salvo_driver_range *more = realloc(inside ? NULL : e->ranges, room * sizeof *more);
    if (!more)
        return false;
    if (inside)
        memcpy(more, e->few, sizeof e->few);
    e->ranges = more;
    e->range_room = room;
    return true;
}

static void add_range(salvo_redis_entry *e, uint32_t count, int32_t status, int64_t offset)
{
    salvo_driver_range *last = e->range_count ? &e->ranges[e->range_count - 1] : NULL;
    uint32_t first = last ? last->first + last->count : 0;
    if (last && last->status == status &&
        (offset < 0 ? last->base_offset < 0
                    : last->base_offset >= 0 && last->base_offset + last->count == offset)) {
        last->count += count;
        return;
    }
    if (e->range_count < e->range_room || grow(e)) {
        e->ranges[e->range_count++] = (salvo_driver_range){
            .first = first, .count = count, .status = status, .base_offset = offset};
        return;
    }
    /* No memory: the outcome is kept, what it said of offsets is not; two outcomes that differ
     * become the honest one of both. */
    last->status = last->status == status ? status : SALVO_ERR_MAYBE;
    last->base_offset = -1;
    last->count += count;
}

static void finish(salvo_redis *h, salvo_redis_entry *e)
{
    if (e->limit < e->batch.count)
        add_range(e, e->batch.count - e->limit, e->rest_status, -1);
    unlink_entry(h, e);
    e->next = NULL;
    *(h->done ? &h->done_last->next : &h->done) = e;
    h->done_last = e;
}

void salvo_redis_settle(salvo_redis *h, salvo_redis_entry *e, uint32_t to, int32_t status,
                        int64_t offset)
{
    if (to > e->settled)
        add_range(e, to - e->settled, status, offset);
    e->settled = to;
    if (e->settled == e->limit)
        finish(h, e);
}

/* No more of it than `limit` messages is sent; the rest goes back as status. */
static void cut(salvo_redis *h, salvo_redis_entry *e, uint32_t limit, int32_t status)
{
    if (limit >= e->limit)
        return;
    e->limit = limit;
    e->rest_status = status;
    if (h->sending == e && e->sent == e->limit)
        h->sending = e->next;
    if (e->settled == e->limit)
        finish(h, e);
}

static uint32_t surely_unsent_from(const salvo_redis_entry *e)
{
    return e->sent > e->maybe ? e->sent : e->maybe;
}

void salvo_redis_doom(salvo_redis *h, uint32_t topic)
{
    h->topics[topic].doomed = h->topics[topic].out > 0; /* until the last is handed out */
    h->topics[topic].synced = false;
    for (salvo_redis_entry *e = h->first, *next; e; e = next) {
        next = e->next;
        if (e->batch.topic == topic)
            cut(h, e, surely_unsent_from(e), SALVO_ERR_TRANSIENT);
    }
}

/* Its messages in flight get no more than "maybe"; replies that still come find nobody. */
static void abandon(salvo_redis *h, salvo_redis_entry *e)
{
    uint32_t slot = salvo_redis_slot(h, e);
    for (uint32_t i = h->flight_head; i != h->flight_tail; i++)
        if (h->flights[i & h->flight_mask].slot == slot)
            h->flights[i & h->flight_mask].slot = SALVO_REDIS_NONE;
    cut(h, e, surely_unsent_from(e), SALVO_ERR_TRANSIENT);
    if (e->settled < e->limit)
        salvo_redis_settle(h, e, e->limit, SALVO_ERR_MAYBE, -1);
}

/* Past the deadline. False: the connection stands in the way (it still reads from the batch). */
static bool expire(salvo_redis *h, salvo_redis_entry *e, uint64_t now_ns)
{
    bool up = h->link.state == SALVO_REDIS_UP;
    uint32_t topic = e->batch.topic;
    bool unsent = surely_unsent_from(e) < e->limit;
    bool late = !up || now_ns >= e->batch.deadline_ns + GRACE_NS;
    if (late && up && e->stable_end > salvo_io_bytes_released(h->link.conn))
        return false;
    if (late)
        abandon(h, e);
    if (unsent) /* the engine expires each by its own time, and keeps the order of the rest */
        salvo_redis_doom(h, topic);
    return true;
}

void salvo_redis_look_at_deadlines(salvo_redis *h, uint64_t now_ns)
{
    enum { EVERY_NS = 5 * 1000 * 1000 };
    if (now_ns < h->next_look_ns)
        return;
    h->next_look_ns = now_ns + EVERY_NS;
    for (salvo_redis_entry *e = h->first; e;) {
        uint64_t deadline_ns = e->batch.deadline_ns;
        if (deadline_ns == 0 || deadline_ns > now_ns ||
            (surely_unsent_from(e) == e->limit && h->link.state == SALVO_REDIS_UP &&
             now_ns < deadline_ns + GRACE_NS)) {
            e = e->next;
            continue;
        }
        if (!expire(h, e, now_ns)) {
            h->link.lost = true; /* poll drops it, and looks again */
            h->next_look_ns = now_ns;
            return;
        }
        e = h->first; /* the list has changed */
    }
}

void salvo_redis_rewind(salvo_redis *h)
{
    uint64_t sent_bytes = h->link.conn ? salvo_io_bytes_sent(h->link.conn) : 0;
    for (uint32_t i = h->flight_head; i != h->flight_tail; i++) {
        const salvo_redis_flight *f = &h->flights[i & h->flight_mask];
        if (f->slot == SALVO_REDIS_NONE || f->kind == SALVO_REDIS_LOCAL ||
            f->kind == SALVO_REDIS_SYNC || f->put_at >= sent_bytes)
            continue;
        if (f->first + f->count > h->entries[f->slot].maybe)
            h->entries[f->slot].maybe = f->first + f->count;
    }
    h->flight_head = h->flight_tail;
    h->in_flight = 0;
    for (uint32_t i = 0; i < h->env.max_topics; i++)
        h->topics[i].synced = h->topics[i].syncing = false;
    for (salvo_redis_entry *e = h->first, *next; e; e = next) {
        next = e->next;
        if (e->maybe < e->settled)
            e->maybe = e->settled;
        e->sent = e->settled;
        e->stable_end = 0;
        if (e->limit < e->batch.count) /* doomed: nothing more than need be is sent */
            cut(h, e, e->maybe, e->rest_status);
    }
    h->sending = h->first;
}

void salvo_redis_give_up(salvo_redis *h)
{
    while (h->first) {
        salvo_redis_entry *e = h->first;
        e->rest_status = SALVO_ERR_DROPPED;
        e->limit = e->batch.count;
        if (e->maybe > e->settled && e->maybe < e->limit) {
            e->limit = e->maybe;
            salvo_redis_settle(h, e, e->maybe, SALVO_ERR_MAYBE, -1);
        } else {
            salvo_redis_settle(h, e, e->limit,
                               e->maybe > e->settled ? SALVO_ERR_MAYBE : SALVO_ERR_DROPPED, -1);
        }
    }
}

void salvo_redis_release_handed(salvo_redis *h)
{
    while (h->handed) {
        salvo_redis_entry *e = h->handed;
        h->handed = e->next;
        if (e->ranges != e->few)
            free(e->ranges);
        e->ranges = e->few;
        e->next = h->free;
        h->free = e;
    }
}

uint32_t salvo_redis_hand_out(salvo_redis *h, salvo_driver_outcome *outcomes, uint32_t max)
{
    uint32_t n = 0;
    while (n < max && h->done) {
        salvo_redis_entry *e = h->done;
        salvo_redis_topic *t = &h->topics[e->batch.topic];
        h->done = e->next;
        e->next = h->handed;
        h->handed = e;
        h->out--;
        if (--t->out == 0)
            t->doomed = false;
        outcomes[n++] = (salvo_driver_outcome){
            .token = e->token, .range_count = e->range_count, .ranges = e->ranges};
    }
    return n;
}
