/* SPDX-License-Identifier: Apache-2.0
 *
 * Snapshots: the ledger, the stages, the machinery. Readers take no lock.
 *
 * A ledger is read outcomes first (acquire) and accepted last: a message's acceptance is stored
 * before its commit, its outcome after its drain, so an outcome seen implies its acceptance seen,
 * and pending is never negative. pending_counted comes from other numbers: what the rings hold
 * and what the flushers hold.
 */
#include "flusher.h"
#include "report.h"
#include "thread.h"

static void add_outcomes(salvo *p, salvo_topic topic, salvo_ledger *l)
{
    for (uint32_t i = 0; i < p->settings.flushers; i++) {
        salvo_lane_topic *t = &p->flushers[i].topics[topic];
        /* Acquire: pairs with the release in salvo_count(). */
        l->acknowledged += atomic_load_explicit(&t->outcomes[SALVO_OUT_ACKNOWLEDGED],
                                                memory_order_acquire);
        l->maybe_delivered += atomic_load_explicit(&t->outcomes[SALVO_OUT_MAYBE],
                                                   memory_order_acquire);
        l->failed += atomic_load_explicit(&t->outcomes[SALVO_OUT_FAILED], memory_order_acquire);
        l->expired += atomic_load_explicit(&t->outcomes[SALVO_OUT_EXPIRED], memory_order_acquire);
        l->dropped += atomic_load_explicit(&t->outcomes[SALVO_OUT_DROPPED], memory_order_acquire);
        l->pending_counted += atomic_load_explicit(&t->in_batches, memory_order_relaxed);
    }
}

static void add_accepted(salvo *p, salvo_topic topic, salvo_ledger *l)
{
    uint32_t threads = atomic_load_explicit(&p->thread_count, memory_order_acquire);
    for (uint32_t i = 0; i < threads; i++)
        l->accepted += atomic_load_explicit(&p->threads[i]->accepted[topic], memory_order_relaxed);
}

static void add_refused(salvo *p, salvo_topic topic, salvo_ledger *l)
{
    _Atomic uint64_t *refused = p->topics.entries[topic].refused;
    l->refused_full += atomic_load_explicit(&refused[SALVO_REFUSED_FULL], memory_order_relaxed);
    l->refused_dropped += atomic_load_explicit(&refused[SALVO_REFUSED_DROPPED],
                                               memory_order_relaxed);
    l->refused_timeout += atomic_load_explicit(&refused[SALVO_REFUSED_TIMEOUT],
                                               memory_order_relaxed);
    l->refused_too_large += atomic_load_explicit(&refused[SALVO_REFUSED_TOO_LARGE],
                                                 memory_order_relaxed);
    l->refused_invalid += atomic_load_explicit(&refused[SALVO_REFUSED_INVALID],
                                               memory_order_relaxed);
}

static uint64_t records_in_rings(salvo *p)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < p->settings.flushers * p->settings.rings; i++) {
        uint64_t head = salvo_ring_head(&p->rings[i]), tail = salvo_ring_tail(&p->rings[i]);
        n += salvo_ring_sequence(tail) - salvo_ring_sequence(head);
    }
    return n;
}

int salvo_ledger_read(salvo *p, salvo_topic topic, salvo_ledger *l)
{
    uint32_t count = atomic_load_explicit(&p->topics.count, memory_order_acquire);
    memset(l, 0, sizeof *l);
    if (topic != SALVO_ALL_TOPICS && topic >= count)
        return SALVO_ERR_UNKNOWN_TOPIC;
    uint32_t first = topic == SALVO_ALL_TOPICS ? 0 : topic;
    uint32_t end = topic == SALVO_ALL_TOPICS ? count : topic + 1;
    for (uint32_t i = first; i < end; i++)
        add_outcomes(p, i, l);
    for (uint32_t i = first; i < end; i++) {
        add_accepted(p, i, l);
        add_refused(p, i, l);
    }
    if (topic == SALVO_ALL_TOPICS)
        l->pending_counted += records_in_rings(p);
    l->offered = l->accepted + l->refused_full + l->refused_dropped + l->refused_timeout +
                 l->refused_too_large + l->refused_invalid;
    l->pending = l->accepted - l->acknowledged - l->failed - l->expired - l->dropped;
    return 0;
}

int salvo_get_ledger(salvo *producer, salvo_topic topic, salvo_ledger *ledger)
{
    int err = salvo_producer_check(producer);
    if (err != 0 || ledger == NULL)
        return err != 0 ? err : SALVO_ERR_INVALID;
    return salvo_ledger_read(producer, topic, ledger);
}

static salvo_histogram *merged(salvo *p, salvo_stage stage)
{
    salvo_histogram *sum = salvo_histogram_new(SALVO_SEGMENT_DIGITS);
    for (uint32_t i = 0; sum != NULL && i < p->settings.flushers; i++)
        salvo_histogram_add(sum, p->flushers[i].stages[stage]);
    return sum;
}

static uint64_t read_counter(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static void add_flusher(salvo_flusher *f, salvo_stats *s)
{
    salvo_flusher_counters *c = &f->counters;
    salvo_drain_stall stall;
    s->arena_bytes += f->pool.arena.bytes;
    s->arena_used_bytes += read_counter(&f->pool.arena.used);
    s->in_flight_messages += read_counter(&c->in_flight_messages);
    s->in_flight_batches += read_counter(&c->in_flight_batches);
    s->batches += read_counter(&c->batches);
    s->closed_by_bytes += read_counter(&c->closed_by_bytes);
    s->closed_by_count += read_counter(&c->closed_by_count);
    s->closed_by_linger += read_counter(&c->closed_by_linger);
    s->closed_by_waiter += read_counter(&c->closed_by_waiter);
    s->retries += read_counter(&c->retries);
    s->reopens += read_counter(&c->reopens);
    s->broker_errors += read_counter(&c->broker_errors);
    salvo_drain_stalls(&f->drain, &stall);
    s->stalled_claims += stall.count;
    if (stall.count != 0)
        s->stalled_ring = f->index * f->producer->settings.rings + stall.ring;
    if (stall.since != 0) {
        const salvo_clock *clock = &f->producer->clock;
        uint64_t now = salvo_clock_stamp(clock);
        s->stalled_since_ns = salvo_clock_ns(clock, now > stall.since ? now - stall.since : 1);
    }
}

void salvo_stats_fill(salvo *p, salvo_stats *s)
{
    static const char *const clocks[] = {"tsc", "monotonic", "fake"};
    memset(s, 0, sizeof *s);
    s->size = sizeof *s;
    (void)salvo_ledger_read(p, SALVO_ALL_TOPICS, &s->total);
    s->memory_bytes = p->memory_bytes;
    s->rings = p->settings.flushers * p->settings.rings;
    s->flushers = p->settings.flushers;
    s->topics = atomic_load_explicit(&p->topics.count, memory_order_relaxed);
    s->threads = atomic_load_explicit(&p->thread_count, memory_order_relaxed);
    s->ring_bytes = (uint64_t)s->rings * p->settings.ring_bytes;
    for (uint32_t i = 0; i < s->rings; i++)
        s->ring_used_bytes += salvo_ring_used_bytes(&p->rings[i]);
    for (uint32_t i = 0; i < s->flushers; i++)
        add_flusher(&p->flushers[i], s);
    s->reports_waiting = salvo_reports_waiting(p->reports);
    snprintf(s->driver, sizeof s->driver, "%s", p->driver->name);
    snprintf(s->clock, sizeof s->clock, "%s", clocks[p->clock.kind]);
    salvo_flusher_state(&p->flushers[0], s->broker_state, sizeof s->broker_state);
}

int salvo_get_stats(salvo *producer, salvo_stats *stats)
{
    salvo_stats s;
    int err = salvo_producer_check(producer);
    if (err != 0 || stats == NULL || stats->size < sizeof stats->size)
        return err != 0 ? err : SALVO_ERR_INVALID;
    salvo_stats_fill(producer, &s);
    for (int i = 0; i < SALVO_STAGES; i++) {
        salvo_histogram *sum = merged(producer, (salvo_stage)i);
        if (sum == NULL)
            return SALVO_ERR_NOMEM;
        salvo_histogram_summary(sum, &s.stage[i]);
        salvo_histogram_free(sum);
    }
    s.size = stats->size < sizeof s ? stats->size : sizeof s;
    memcpy(stats, &s, s.size);
    return 0;
}

int salvo_get_stage(salvo *producer, salvo_stage stage, salvo_histogram *into)
{
    int err = salvo_producer_check(producer);
    if (err != 0 || into == NULL || (unsigned)stage >= SALVO_STAGES)
        return err != 0 ? err : SALVO_ERR_INVALID;
    for (uint32_t i = 0; i < producer->settings.flushers; i++)
        salvo_histogram_add(into, producer->flushers[i].stages[stage]);
    return 0;
}

int salvo_write_percentiles(salvo *producer, salvo_stage stage, FILE *stream)
{
    int err = salvo_producer_check(producer);
    if (err != 0 || stream == NULL || (unsigned)stage >= SALVO_STAGES)
        return err != 0 ? err : SALVO_ERR_INVALID;
    salvo_histogram *sum = merged(producer, stage);
    if (sum == NULL)
        return SALVO_ERR_NOMEM;
    err = salvo_histogram_write_percentiles(sum, stream, 1000.0);
    salvo_histogram_free(sum);
    return err == 0 ? 0 : SALVO_ERR_IO;
}
