/* SPDX-License-Identifier: Apache-2.0
 *
 * Outcomes: every message is counted, measured and reported exactly once, here.
 *
 * A record is settled by setting SALVO_RECORD_SETTLED in its arena copy; ranges count the records
 * that were not settled when the batch was submitted, in order.
 */
#include "flusher.h"

#include "probes.h"
#include "report.h"
#include "thread.h"

static salvo_outcome_kind kind_of(int status)
{
    switch (status) {
    case 0: return SALVO_OUT_ACKNOWLEDGED;
    case SALVO_ERR_EXPIRED: return SALVO_OUT_EXPIRED;
    case SALVO_ERR_DROPPED: return SALVO_OUT_DROPPED;
    case SALVO_ERR_MAYBE: return SALVO_OUT_MAYBE;
    default: return SALVO_OUT_FAILED;
    }
}

static void count_outcomes(salvo_flusher *f, uint32_t topic, int status, uint64_t n)
{
    salvo_lane_topic *t = &f->topics[topic];
    salvo_outcome_kind kind = kind_of(status);
    if (n == 0)
        return;
    salvo_probe_outcome(f->producer->topics.entries[topic].name, status, n);
    if (kind == SALVO_OUT_MAYBE)
        salvo_count(&t->outcomes[SALVO_OUT_FAILED], n);
    salvo_count(&t->outcomes[kind], n);
    salvo_count(&t->in_batches, (uint64_t)-n);
}

/* A report for whoever asked: by poll or callback, or waiting in salvo_send_wait(). */
static void tell(salvo_flusher *f, const salvo_driver_batch *where, uint64_t stamp, uint32_t flags,
                 const salvo_record_extra *extra, int status, int64_t offset)
{
    const salvo_clock *clock = &f->producer->clock;
    salvo_report report = {
        .opaque = extra->opaque,
        .offset = offset,
        .timestamp_ms = extra->timestamp_ms != 0 ? extra->timestamp_ms
                                                 : salvo_clock_wall_ms(clock, stamp),
        .latency_ns = salvo_clock_ns(clock, f->now_tick - stamp),
        .topic = where->topic,
        .partition = where->partition,
        .status = status,
    };
    if ((flags & SALVO_RECORD_WAITER) != 0)
        salvo_waiter_settle(f->producer, extra->waiter, extra->waiter_turn, &report);
    if ((flags & SALVO_RECORD_REPORT) != 0)
        salvo_reports_push(f->producer->reports, f->index, &report);
}

/* The time from a record's stamp to this round. Batch sends share a stamp: runs cost one step. */
void salvo_flusher_measure(salvo_flusher *f, salvo_stage stage, uint64_t stamp)
{
    if (stamp == f->runs[stage].stamp) {
        f->runs[stage].count++;
        return;
    }
    salvo_flusher_measure_end(f, stage);
    f->runs[stage].stamp = stamp;
    f->runs[stage].count = 1;
}

void salvo_flusher_measure_end(salvo_flusher *f, salvo_stage stage)
{
    uint64_t stamp = f->runs[stage].stamp;
    if (f->runs[stage].count == 0)
        return;
    salvo_histogram_record(
        f->stages[stage],
        salvo_clock_ns(&f->producer->clock, f->now_tick > stamp ? f->now_tick - stamp : 0),
        f->runs[stage].count);
    f->runs[stage].count = 0;
    f->runs[stage].stamp = 0;
}

static void settle_stored(salvo_flusher *f, const salvo_batch *b, salvo_record_stored *s,
                          int status, int64_t offset)
{
    s->flags |= SALVO_RECORD_SETTLED;
    if (status == 0)
        salvo_flusher_measure(f, SALVO_STAGE_TOTAL, s->stamp);
    if ((s->flags & (SALVO_RECORD_REPORT | SALVO_RECORD_WAITER)) != 0) {
        salvo_record_extra extra;
        salvo_stored_extra(s, &extra);
        tell(f, &b->driver, s->stamp, s->flags, &extra, status, offset);
    }
}

static void shrink(salvo_flusher *f, salvo_batch *b, uint32_t n)
{
    b->driver.count -= n;
    f->epoch_records[b->epoch & 1] -= n;
}

static salvo_record_stored *next_unsettled(salvo_batch_walk *walk)
{
    salvo_record_stored *s;
    do {
        s = salvo_batch_walk_next(walk);
    } while (s != NULL && (s->flags & SALVO_RECORD_SETTLED) != 0);
    return s;
}

static bool is_retried(int status)
{
    return status == SALVO_ERR_TRANSIENT || status == SALVO_ERR_FATAL;
}

void salvo_flusher_settle(salvo_flusher *f, salvo_batch *b, const salvo_driver_range *ranges,
                          uint32_t range_count)
{
    salvo_batch_walk walk = salvo_batch_walk_start(b);
    uint32_t settled = 0, acknowledged = 0;
    for (uint32_t i = 0; i < range_count; i++) {
        const salvo_driver_range *range = &ranges[i];
        uint32_t n = 0;
        salvo_record_stored *s;
        while (n < range->count && (s = next_unsettled(&walk)) != NULL) {
            if (!is_retried(range->status))
                settle_stored(f, b, s, range->status,
                              range->base_offset < 0 ? -1 : range->base_offset + n);
            n++;
        }
        if (is_retried(range->status))
            continue;
        count_outcomes(f, b->driver.topic, range->status, n);
        settled += n;
        acknowledged += range->status == 0 ? n : 0;
    }
    salvo_flusher_measure_end(f, SALVO_STAGE_TOTAL);
    if (acknowledged != 0)
        f->reopens_in_row = 0;
    if (acknowledged != 0)
        salvo_histogram_record(f->stages[SALVO_STAGE_BROKER], f->now_ns - b->submitted_ns,
                                 acknowledged);
    shrink(f, b, settled);
}

void salvo_flusher_settle_all(salvo_flusher *f, salvo_batch *b, int status)
{
    salvo_driver_range all = {.count = b->driver.count, .status = status, .base_offset = -1};
    salvo_flusher_settle(f, b, &all, 1);
}

void salvo_flusher_settle_expired(salvo_flusher *f, salvo_batch *b)
{
    salvo_batch_walk walk = salvo_batch_walk_start(b);
    salvo_record_stored *s;
    uint32_t settled = 0;
    b->expires_ns = UINT64_MAX;
    while ((s = next_unsettled(&walk)) != NULL) {
        salvo_record_extra extra;
        salvo_stored_extra(s, &extra);
        uint64_t expires_ns = salvo_clock_ns(&f->producer->clock, s->stamp) +
                              (extra.ttl_ms != 0 ? (uint64_t)extra.ttl_ms * 1000000u
                                                 : f->producer->settings.delivery_timeout_ns);
        if (expires_ns <= f->now_ns) {
            settle_stored(f, b, s, SALVO_ERR_EXPIRED, -1);
            settled++;
        } else if (expires_ns < b->expires_ns) {
            b->expires_ns = expires_ns;
        }
    }
    b->driver.deadline_ns = b->expires_ns;
    count_outcomes(f, b->driver.topic, SALVO_ERR_EXPIRED, settled);
    shrink(f, b, settled);
}

/* One that never reached a batch. */
void salvo_flusher_settle_record(salvo_flusher *f, uint32_t topic, const salvo_batch_item *item,
                                 int status)
{
    salvo_driver_batch where = {.topic = topic, .partition = item->head.partition};
    salvo_record_extra extra = {0};
    if ((item->flags & SALVO_RECORD_EXTRA) != 0)
        memcpy(&extra, (const unsigned char *)item->payload + sizeof item->head, sizeof extra);
    if ((item->flags & (SALVO_RECORD_REPORT | SALVO_RECORD_WAITER)) != 0)
        tell(f, &where, item->stamp, item->flags, &extra, status, -1);
    count_outcomes(f, topic, status, 1);
}

/* The topic's share of the arena. A full share raises the topic's flag, which claims look at;
 * it falls again at three quarters, so that it does not flicker. */
static void look_at_share(salvo_flusher *f, uint32_t topic)
{
    salvo_lane_topic *t = &f->topics[topic];
    salvo_topic_entry *entry = &f->producer->topics.entries[topic];
    if (!t->full && t->arena_used >= f->share_bytes) {
        t->full = true;
        atomic_fetch_add_explicit(&entry->full, 1, memory_order_relaxed);
    } else if (t->full && (t->arena_used < f->share_bytes / 4 * 3 || t->arena_used == 0)) {
        t->full = false;
        atomic_fetch_sub_explicit(&entry->full, 1, memory_order_relaxed);
    }
}

void salvo_flusher_charge(salvo_flusher *f, uint32_t topic, uint64_t arena_bytes_before,
                          const salvo_batch *b)
{
    if (b->arena_bytes == arena_bytes_before)
        return;
    f->topics[topic].arena_used += b->arena_bytes - arena_bytes_before;
    look_at_share(f, topic);
}

void salvo_flusher_free_batch(salvo_flusher *f, salvo_batch *b)
{
    f->topics[b->driver.topic].arena_used -= b->arena_bytes;
    look_at_share(f, b->driver.topic);
    salvo_batch_free(&f->pool, b);
}
