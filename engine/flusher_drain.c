/* SPDX-License-Identifier: Apache-2.0
 *
 * From the rings into open batches, in time order.
 *
 * Guarantees: a record is advanced over only after it was appended, held or settled; when the
 * arena has no room the pass ends, the record stays in its ring, and the senders meet their
 * policy. Messages of a topic whose partitions are unknown are held in order and routed first.
 */
#include "flusher.h"

#include "error.h"
#include "partition.h"
#include "plan/sizes.h"

#include <stdlib.h>

enum {
    PASS_BYTES = 1 << 20,      /* a pass takes at most this, then submits and polls */
    RELEASE_EVERY = 256,       /* records: senders get their space back early */
    TARGET_BYTES = 256 << 10,  /* what a pass should find: fewer looks, fewer cache misses */
    EVERY_MIN_NS = 20 * 1000,
    EVERY_BUSY_NS = 1000 * 1000, /* between passes while anything comes, or half the linger */
    LONG_IDLE_NS = 1000 * 1000 * 1000,
    THIN_RECORDS = 2, /* a pass; with THIN_EVERY_NS: at most 10,000 wake-ups a second */
    THIN_EVERY_NS = 100 * 1000
};

/* The driver hears of a topic at its first record, and is asked for its partitions. */
void salvo_flusher_know_topic(salvo_flusher *f, uint32_t topic)
{
    const salvo_driver_ops *ops = f->producer->driver;
    salvo_lane_topic *t = &f->topics[topic];
    if (f->handle_dead)
        return;
    if (!t->known) {
        const salvo_topic_entry *entry = &f->producer->topics.entries[topic];
        int err = ops->topic(f->handle, topic, entry->name, &entry->driver);
        t->known = true;
        if (err != 0)
            t->error = err;
    }
    salvo_flusher_route_held(f, topic);
}

static int32_t choose_partition(salvo_flusher *f, salvo_lane_topic *t,
                                const salvo_batch_item *item)
{
    if (item->head.partition >= 0)
        return item->head.partition;
    if (item->head.key_len != SALVO_NULL_LEN)
        return salvo_partition_for_key((const unsigned char *)item->payload +
                                           salvo_record_prefix(item->flags),
                                       item->head.key_len, t->part_count);
    if (t->sticky < 0 || t->sticky >= t->part_count)
        t->sticky = (int32_t)(f->closed % (uint64_t)t->part_count);
    return t->sticky;
}

static bool append(salvo_flusher *f, salvo_batch *b, uint32_t topic, const salvo_batch_item *item)
{
    uint64_t before = b->arena_bytes;
    if (!salvo_batch_append(&f->pool, b, item,
                            f->producer->topics.entries[topic].batch_bytes))
        return false;
    f->epoch_records[b->epoch & 1]++;
    salvo_flusher_charge(f, topic, before, b);
    return true;
}

static void close_if_full(salvo_flusher *f, salvo_part *part, const salvo_batch_item *item)
{
    const salvo_topic_entry *entry = &f->producer->topics.entries[part->topic];
    if (part->open->driver.bytes >= entry->batch_bytes)
        salvo_flusher_close_batch(f, part, &f->counters.closed_by_bytes);
    else if (part->open->driver.count >= entry->batch_messages)
        salvo_flusher_close_batch(f, part, &f->counters.closed_by_count);
    else if ((item->flags & SALVO_RECORD_WAITER) != 0)
        salvo_flusher_close_batch(f, part, &f->counters.closed_by_waiter);
}

/* The partition of a record, with room in its open batch or none open; NULL: there is no such
 * partition. A full batch is closed here, which ends a sticky choice: a record without a key then
 * goes with its successors, instead of into a batch of its own that only its linger would end. */
static salvo_part *part_for(salvo_flusher *f, uint32_t topic, const salvo_batch_item *item)
{
    salvo_lane_topic *t = &f->topics[topic];
    for (;;) {
        int32_t partition = choose_partition(f, t, item);
        if (partition >= t->part_count)
            return NULL;
        salvo_part *part = &t->parts[partition];
        if (part->open == NULL || part->open->driver.bytes + item->length <=
                                      f->producer->topics.entries[topic].batch_bytes)
            return part;
        salvo_flusher_close_batch(f, part, &f->counters.closed_by_bytes);
    }
}

static bool append_routed(salvo_flusher *f, uint32_t topic, const salvo_batch_item *item,
                          uint32_t epoch)
{
    salvo_part *part = part_for(f, topic, item);
    if (part == NULL) {
        salvo_flusher_settle_record(f, topic, item, SALVO_ERR_PARTITION);
        return true;
    }
    if (part->open == NULL) {
        part->open = salvo_batch_open(&f->pool, topic,
                                      (int32_t)(part - f->topics[topic].parts));
        if (part->open == NULL)
            return false;
        part->open->epoch = epoch;
        salvo_flusher_part_active(f, part);
        uint64_t linger_ns = f->producer->topics.entries[topic].linger_ns;
        if (linger_ns < f->shortest_linger_ns)
            f->shortest_linger_ns = linger_ns;
    }
    if (!append(f, part->open, topic, item)) {
        if (part->open->records == 0) {
            salvo_batch_free(&f->pool, part->open);
            part->open = NULL;
            salvo_flusher_part_idle(f, part);
        }
        return false;
    }
    close_if_full(f, part, item);
    return true;
}

static bool append_held(salvo_flusher *f, uint32_t topic, const salvo_batch_item *item)
{
    salvo_batch_list *held = &f->topics[topic].held;
    const salvo_topic_entry *entry = &f->producer->topics.entries[topic];
    salvo_batch *b = held->last;
    if (b == NULL || b->epoch != f->epoch || b->driver.bytes + item->length > entry->batch_bytes) {
        b = salvo_batch_open(&f->pool, topic, -1);
        if (b == NULL)
            return false;
        b->epoch = f->epoch;
        if (!append(f, b, topic, item)) {
            salvo_batch_free(&f->pool, b);
            return false;
        }
        b->previous = held->last;
        if (held->last != NULL)
            held->last->next = b;
        else
            held->first = b;
        held->last = b;
        return true;
    }
    return append(f, b, topic, item);
}

static void read_item(const salvo_flusher *f, salvo_batch_item *item)
{
    salvo_record_extra extra = {0};
    const salvo *p = f->producer;
    if ((item->flags & SALVO_RECORD_EXTRA) != 0)
        memcpy(&extra, (const unsigned char *)item->payload + sizeof item->head, sizeof extra);
    item->expires_ns = salvo_clock_ns(&p->clock, item->stamp) +
                       (extra.ttl_ms != 0 ? (uint64_t)extra.ttl_ms * 1000000u
                                          : p->settings.delivery_timeout_ns);
}

/* The rings, or in a plan the ledgers that stand for them. */
static void begin_pass(salvo_flusher *f)
{
    if (f->sizes != NULL)
        salvo_sizes_begin(f->sizes, f->now_tick);
    else
        salvo_drain_begin(&f->drain, f->now_tick);
}

static bool next_record(salvo_flusher *f, salvo_drain_record *r)
{
    return f->sizes != NULL ? salvo_sizes_peek(f->sizes, r) : salvo_drain_peek(&f->drain, r);
}

static void take_record(salvo_flusher *f)
{
    if (f->sizes != NULL)
        salvo_sizes_advance(f->sizes);
    else
        salvo_drain_advance(&f->drain);
}

static void release_taken(salvo_flusher *f)
{
    if (f->sizes != NULL)
        salvo_sizes_release(f->sizes);
    else
        salvo_drain_release(&f->drain);
}

static bool holds(const salvo_flusher *f, const salvo_drain_record *r)
{
    return f->sizes != NULL ||
           salvo_ring_holds(f->drain.lanes[r->ring].ring, r->payload, r->length);
}

/* False: no memory now. */
static bool take(salvo_flusher *f, const salvo_drain_record *r)
{
    salvo_batch_item item = {.payload = r->payload, .length = r->length, .stamp = r->stamp,
                             .flags = r->flags & 0xffff0000u};
    uint32_t count = atomic_load_explicit(&f->producer->topics.count, memory_order_acquire);
    if (r->tag >= count ||
        !holds(f, r) ||
        !salvo_record_sound(item.payload, item.length, item.flags, &item.head)) {
        salvo_log(SALVO_LOG_ERROR, "ring %u of flusher %u holds a record that cannot be: skipped",
                  r->ring, f->index);
        return true;
    }
    salvo_lane_topic *t = &f->topics[r->tag];
    if (f->pool.arena.used + SALVO_ARENA_RESERVE > f->pool.arena.bytes)
        return false;
    if (__builtin_expect(t->part_count == 0, 0))
        salvo_flusher_know_topic(f, r->tag);
    read_item(f, &item);
    bool taken = true;
    if (__builtin_expect(t->error != 0, 0)) {
        salvo_count(&t->in_batches, 1);
        salvo_flusher_settle_record(f, r->tag, &item, t->error);
        return true;
    }
    salvo_count(&t->in_batches, 1);
    if (t->part_count > 0 && t->held.first == NULL)
        taken = append_routed(f, r->tag, &item, f->epoch);
    else
        taken = append_held(f, r->tag, &item);
    if (!taken)
        salvo_count(&t->in_batches, (uint64_t)-1);
    return taken;
}

/* Make the table of partitions as long as the driver says. Counts only grow. */
static bool grow_parts(salvo_lane_topic *t, uint32_t topic, int32_t count)
{
    salvo_part *parts = calloc((size_t)count, sizeof *parts);
    if (parts == NULL)
        return false;
    for (int32_t i = 0; i < count; i++)
        parts[i].topic = topic;
    t->parts = parts;
    t->part_count = count;
    t->sticky = -1;
    return true;
}

/* Records that waited for the partitions go where they belong, in their order. */
void salvo_flusher_route_held(salvo_flusher *f, uint32_t topic)
{
    salvo_lane_topic *t = &f->topics[topic];
    if (t->part_count == 0 && t->error == 0) {
        int n = f->producer->driver->partitions(f->handle, topic);
        if (n < 0)
            t->error = n;
        else if (n == 0 || !grow_parts(t, topic, n))
            return;
    }
    if (t->error != 0) {
        salvo_flusher_fail_held(f, topic, t->error);
        return;
    }
    while (t->held.first != NULL) {
        salvo_batch *b = t->held.first;
        salvo_batch_walk walk = salvo_batch_walk_start(b);
        salvo_record_stored *s;
        while ((s = salvo_batch_walk_next(&walk)) != NULL) {
            if ((s->flags & SALVO_RECORD_SETTLED) != 0)
                continue;
            salvo_batch_item item = {.payload = salvo_stored_payload(s), .stamp = s->stamp,
                                     .flags = s->flags};
            memcpy(&item.head, item.payload, sizeof item.head);
            item.length = (uint32_t)(salvo_record_prefix(s->flags) + item.head.headers_len) +
                          salvo_record_span(item.head.key_len) +
                          salvo_record_span(item.head.value_len);
            read_item(f, &item);
            if (!append_routed(f, topic, &item, b->epoch))
                return; /* the rest when there is memory */
            s->flags |= SALVO_RECORD_SETTLED; /* moved: this copy is nobody's */
            b->driver.count--;
            f->epoch_records[b->epoch & 1]--;
        }
        t->held.first = b->next;
        *(b->next != NULL ? &b->next->previous : &t->held.last) = NULL;
        salvo_flusher_free_batch(f, b);
    }
}

/* A message that lies in its ring lingers already, so that half of the linger may pass unseen: the
 * batch is closed in time. A wake-up costs 10 us and more (1.9 instead of 2.4 us CPU a message of
 * 1 KB at 50k/s and linger 5 ms). Short pauses keep the first messages after them quick; long
 * idleness costs little. */
static uint64_t longest_pause(salvo_flusher *f, uint64_t records)
{
    uint64_t park_ns = f->producer->settings.park_max_ns;
    uint64_t linger_ns = f->shortest_linger_ns;
    if (records != 0) {
        f->busy_at_ns = f->now_ns;
        linger_ns = linger_ns / 2 < park_ns / 4 ? linger_ns / 2 : park_ns / 4;
        return linger_ns > EVERY_BUSY_NS ? linger_ns : EVERY_BUSY_NS;
    }
    f->shortest_linger_ns = UINT64_MAX;
    return f->now_ns - f->busy_at_ns < LONG_IDLE_NS ? park_ns / 4 : park_ns;
}

static void adapt(salvo_flusher *f, uint64_t records, uint64_t bytes, bool more)
{
    const salvo_settings *s = &f->producer->settings;
    if (records != 0) {
        f->thin = f->shortest_linger_ns == 0 && records <= THIN_RECORDS &&
                  f->now_ns - f->met_at_ns >= THIN_EVERY_NS;
        f->met_at_ns = f->now_ns;
    }
    uint64_t longest = longest_pause(f, records);
    if (s->idle == SALVO_IDLE_BUSY)
        f->drain_every_ns = 0;
    else if (s->idle == SALVO_IDLE_PARK)
        f->drain_every_ns = s->park_max_ns;
    else if (bytes > TARGET_BYTES)
        f->drain_every_ns /= 2;
    else if (bytes < TARGET_BYTES / 4)
        f->drain_every_ns *= 2;
    if (f->drain_every_ns > longest)
        f->drain_every_ns = longest;
    if (f->drain_every_ns < EVERY_MIN_NS && s->idle != SALVO_IDLE_BUSY)
        f->drain_every_ns = EVERY_MIN_NS;
    f->next_drain_ns = f->now_ns + (more ? 0 : f->drain_every_ns);
}

void salvo_flusher_drain(salvo_flusher *f)
{
    salvo_drain_record r;
    uint64_t records = 0, bytes = 0;
    /* Acquire: pairs with the release in tape.c's start(), for the mapping. */
    salvo_tape_ring *tape = atomic_load_explicit(&f->producer->taping.ring, memory_order_acquire);
    salvo_flusher_read_clock(f);
    f->short_of_memory = false;
    begin_pass(f);
    while (bytes < PASS_BYTES && next_record(f, &r)) {
        if (!take(f, &r)) {
            f->short_of_memory = true;
            break;
        }
        salvo_flusher_measure(f, SALVO_STAGE_QUEUE, r.stamp);
        if (__builtin_expect(tape != NULL, 0))
            salvo_taping_drained(f->producer, tape, r.tag, r.stamp, r.flags & 0xffff0000u,
                                 r.payload, r.length);
        take_record(f);
        bytes += r.length;
        if (++records % RELEASE_EVERY == 0)
            release_taken(f);
    }
    salvo_flusher_measure_end(f, SALVO_STAGE_QUEUE);
    release_taken(f);
    salvo_count(&f->counters.drained, records);
    /* wake=idle asks: what an open claim holds back is no reason to stay awake. */
    f->left_backlog = f->producer->settings.wake_idle && salvo_drain_backlog(&f->drain) != 0;
    adapt(f, records, bytes, bytes >= PASS_BYTES);
}
