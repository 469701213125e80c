/* SPDX-License-Identifier: Apache-2.0
 *
 * What a plan's run comes to. The flushers' own stage `total` (stamp to outcome) is recorded into
 * the histogram of the window that runs. A window ends after its time, and early where an outage
 * begins or its recovery ends: so a window is disturbed as a whole or not at all.
 *
 * An outage is recovered from when no more is pending than was at most before it. Percentiles of
 * a window are over what was settled or refused in it: refused, failed and expired messages count
 * as slower than any other.
 */
#include "world.h"

#include "error.h"

#include <stdlib.h>
#include <string.h>

enum { DIGITS = 3, LOOK_EVERY_NS = 1000 * 1000, PENDING_SPARE = 16 };
#define WINDOW_NS UINT64_C(10000000000)

static void record_here(plan_world *w)
{
    w->measure.window = salvo_histogram_place(w->measure.memory, DIGITS);
    for (uint32_t i = 0; i < w->p->settings.flushers; i++)
        w->p->flushers[i].stages[SALVO_STAGE_TOTAL] = w->measure.window;
}

/* Of all flushers together, from here on. */
static void record_broker(plan_world *w)
{
    w->measure.broker = salvo_histogram_place(w->measure.broker_memory, DIGITS);
    for (uint32_t i = 0; i < w->p->settings.flushers; i++)
        w->p->flushers[i].stages[SALVO_STAGE_BROKER] = w->measure.broker;
}

int salvo_plan_measure_open(plan_world *w, salvo_plan_result *result)
{
    plan_measure *m = &w->measure;
    m->result = result;
    m->recovering_since_ns = PLAN_NEVER;
    m->window_from_ns = w->now_ns;
    m->memory = aligned_alloc(64, salvo_histogram_bytes(DIGITS));
    m->broker_memory = aligned_alloc(64, salvo_histogram_bytes(DIGITS));
    m->calm = salvo_histogram_new(DIGITS);
    if (m->memory == NULL || m->broker_memory == NULL || m->calm == NULL)
        return SALVO_ERR_NOMEM;
    record_here(w);
    record_broker(w);
    return 0;
}

void salvo_plan_measure_close(plan_world *w)
{
    free(w->measure.memory);
    free(w->measure.broker_memory);
    salvo_histogram_free(w->measure.calm);
}

static salvo_ledger ledger_now(plan_world *w)
{
    salvo_ledger l;
    (void)salvo_ledger_read(w->p, SALVO_ALL_TOPICS, &l);
    return l;
}

static uint64_t refused_of(const salvo_ledger *l)
{
    return l->refused_full + l->refused_dropped + l->refused_timeout + l->refused_too_large +
           l->refused_invalid;
}

static uint64_t bad_of(const salvo_ledger *l)
{
    return refused_of(l) + l->failed + l->expired + l->dropped;
}

/* Of `bad` infinite values and those in the histogram. */
static uint64_t percentile(const salvo_histogram *h, uint64_t bad, uint64_t permyriad)
{
    uint64_t count = salvo_histogram_count(h);
    uint64_t all = count + bad, want = (all * permyriad + 9999) / 10000;
    if (all == 0)
        return 0;
    if (want > count)
        return UINT64_MAX;
    return salvo_histogram_at(h, (double)want * 100.0 / (double)count);
}

uint64_t salvo_plan_measure_next(const plan_world *w)
{
    uint64_t window_ns = w->run->window_ns != 0 ? w->run->window_ns : WINDOW_NS;
    return w->measure.started ? w->measure.window_from_ns + window_ns : w->start_ns;
}

static salvo_plan_window *new_window(plan_world *w)
{
    plan_measure *m = &w->measure;
    salvo_plan_result *r = m->result;
    if (r->window_count == m->room) {
        uint32_t room = m->room != 0 ? m->room * 2 : 16;
        salvo_plan_window *more = realloc(r->windows, room * sizeof *more);
        if (more == NULL) {
            w->out_of_memory = true;
            return NULL;
        }
        r->windows = more;
        m->room = room;
    }
    return &r->windows[r->window_count++];
}

static void worse(uint64_t *worst, uint64_t value)
{
    if (value > *worst)
        *worst = value;
}

/* A window too short to have a 99th percentile of its own is merged into the whole only. */
static void end_window(plan_world *w)
{
    enum { FEWEST = 200 };
    plan_measure *m = &w->measure;
    salvo_ledger now = ledger_now(w);
    uint64_t bad = bad_of(&now) - bad_of(&m->at_window);
    salvo_latency all;
    salvo_histogram_summary(m->window, &all);
    worse(&m->result->oldest_ns, all.max);
    if (w->now_ns == m->window_from_ns || (all.count == 0 && bad == 0 && !m->disturbed))
        return;
    salvo_plan_window *window = new_window(w);
    if (window == NULL)
        return;
    *window = (salvo_plan_window){
        .from_ns = m->window_from_ns - w->start_ns,
        .for_ns = w->now_ns - m->window_from_ns,
        .offered = now.offered - m->at_window.offered,
        .refused = refused_of(&now) - refused_of(&m->at_window),
        .acknowledged = now.acknowledged - m->at_window.acknowledged,
        .p50_ns = percentile(m->window, bad, 5000),
        .p99_ns = percentile(m->window, bad, 9900),
        .max_ns = bad != 0 ? UINT64_MAX : all.max,
        .pending = now.pending,
        .disturbed = m->disturbed,
    };
    m->at_window = now;
    if (m->disturbed)
        return;
    m->calm_bad += bad;
    salvo_histogram_add(m->calm, m->window);
    if (all.count + bad < FEWEST && m->result->window_count > 1)
        return;
    worse(&m->result->worst_p50_ns, window->p50_ns);
    worse(&m->result->worst_p99_ns, window->p99_ns);
}

static void next_window(plan_world *w, bool disturbed)
{
    end_window(w);
    w->measure.window_from_ns = w->now_ns;
    w->measure.disturbed = disturbed;
    record_here(w);
}

static uint64_t counter(const _Atomic uint64_t *c)
{
    return atomic_load_explicit(c, memory_order_relaxed);
}

static void batches_now(const plan_world *w, uint64_t sums[4])
{
    memset(sums, 0, 4 * sizeof *sums);
    for (uint32_t i = 0; i < w->p->settings.flushers; i++) {
        const salvo_flusher_counters *c = &w->p->flushers[i].counters;
        sums[0] += counter(&c->batches);
        sums[1] += counter(&c->closed_by_bytes);
        sums[2] += counter(&c->closed_by_count);
        sums[3] += counter(&c->closed_by_linger);
    }
}

static void start(plan_world *w)
{
    plan_measure *m = &w->measure;
    m->started = true;
    m->at_start = m->at_window = ledger_now(w);
    m->window_from_ns = w->now_ns;
    m->busy_at_start_ns = w->cpu.busy_ns;
    m->requests_at_start = w->requests_done;
    m->retries_at_start = w->request_retries;
    m->result->blocked = m->result->blocked_longest_ns = 0;
    m->result->in_flight_peak = 0;
    m->result->request_bytes_peak = m->result->request_records_peak = 0;
    m->result->arena_peak_bytes = m->result->ring_peak_bytes = m->result->share_peak_bytes = 0;
    w->library_peak = 0;
    batches_now(w, m->batches_at_start);
    for (uint32_t i = 0; i < w->p->settings.flushers; i++)
        w->agents[i].busy_ns = 0;
    for (uint32_t i = 0; i < w->p->settings.flushers * w->broker.brokers; i++)
        w->links[i].thread_busy_ns = 0;
    for (uint32_t i = 0; i < w->broker.brokers; i++)
        w->nodes[i].busy_ns = 0;
    record_here(w);
    record_broker(w);
}

void salvo_plan_measure_turn(plan_world *w)
{
    if (w->measure.started)
        next_window(w, w->measure.disturbed);
    else
        start(w);
}

/* A ring is fullest right before a round. */
void salvo_plan_measure_before(plan_world *w)
{
    uint64_t used = 0;
    for (uint32_t i = 0; i < w->p->settings.flushers * w->p->settings.rings; i++)
        used += salvo_ring_used_bytes(&w->p->rings[i]);
    worse(&w->measure.result->ring_peak_bytes, used);
}

/* Pending messages, and on the way how full the arena and the fullest share are. */
static uint64_t look(plan_world *w)
{
    uint64_t pending = 0, arena = 0;
    salvo_plan_result *r = w->measure.result;
    for (uint32_t i = 0; i < w->p->settings.flushers; i++) {
        const salvo_flusher *f = &w->p->flushers[i];
        pending += salvo_sizes_backlog(f->sizes);
        arena += counter(&f->pool.arena.used);
        for (uint32_t k = 0; k < w->traffic.topic_count; k++) {
            pending += counter(&f->topics[k].in_batches);
            worse(&r->share_peak_bytes, f->topics[k].arena_used);
        }
    }
    worse(&r->arena_peak_bytes, arena);
    for (uint32_t i = 0; w->blocked_threads != 0 && i < w->traffic.threads; i++)
        pending += w->threads[i].end - w->threads[i].first;
    return pending;
}

static void recovered(plan_world *w)
{
    plan_measure *m = &w->measure;
    worse(&m->result->recovery_ns, w->now_ns - m->recovering_since_ns);
    m->recovering_since_ns = PLAN_NEVER;
    next_window(w, false);
}

void salvo_plan_measure_round(plan_world *w)
{
    plan_measure *m = &w->measure;
    if (w->now_ns < m->next_look_ns)
        return;
    m->next_look_ns = w->now_ns + LOOK_EVERY_NS;
    uint64_t pending = look(w);
    if (!m->disturbed)
        worse(&m->calm_peak, pending);
    else if (m->outages_now == 0 && m->recovering_since_ns != PLAN_NEVER &&
             pending <= m->calm_peak + PENDING_SPARE)
        recovered(w);
}

void salvo_plan_measure_change(plan_world *w, bool begins)
{
    plan_measure *m = &w->measure;
    m->outages_now += begins ? 1 : (uint32_t)-1;
    if (begins && !m->disturbed)
        next_window(w, true);
    if (!begins && m->outages_now == 0)
        m->recovering_since_ns = w->now_ns;
}

/* Pending that only grows from third to third: more comes than leaves. */
static bool grows(const salvo_plan_result *r, uint64_t calm_peak)
{
    uint32_t n = r->window_count;
    if (n < 3 || r->windows[n - 1].disturbed)
        return false;
    uint64_t a = r->windows[n / 3].pending, b = r->windows[n * 2 / 3].pending,
             c = r->windows[n - 1].pending;
    return a < b && b < c && c > calm_peak / 2 && c - a > r->windows[n - 1].offered / 50;
}

static uint64_t permille(uint64_t part, uint64_t whole)
{
    return whole != 0 ? (uint64_t)((unsigned __int128)part * 1000 / whole) : 0;
}

static void fill_machinery(plan_world *w)
{
    plan_measure *m = &w->measure;
    salvo_plan_result *r = m->result;
    const salvo_settings *s = &w->p->settings;
    uint64_t took_ns = w->now_ns - w->start_ns, sums[4];
    batches_now(w, sums);
    r->batches = sums[0] - m->batches_at_start[0];
    r->closed_by_bytes = sums[1] - m->batches_at_start[1];
    r->closed_by_count = sums[2] - m->batches_at_start[2];
    r->closed_by_linger = sums[3] - m->batches_at_start[3];
    r->requests = w->requests_done - m->requests_at_start;
    r->retries = w->request_retries - m->retries_at_start;
    r->rings = s->rings;
    r->ring_bytes = (uint64_t)s->rings * s->flushers * s->ring_bytes;
    r->arena_bytes = w->p->flushers[0].pool.arena.bytes * s->flushers;
    r->share_bytes = w->p->flushers[0].share_bytes;
    r->library_bytes = w->handles[0]->limit_bytes * s->flushers;
    r->library_peak_bytes = w->library_peak;
    r->memory_bytes = w->p->memory_bytes;
    for (uint32_t i = 0; i < s->flushers; i++)
        worse(&r->flusher_busy_permille, permille(w->agents[i].busy_ns, took_ns));
    for (uint32_t i = 0; i < s->flushers * w->broker.brokers; i++)
        worse(&r->library_busy_permille, permille(w->links[i].thread_busy_ns, took_ns));
    for (uint32_t i = 0; i < w->broker.brokers; i++)
        worse(&r->server_busy_permille,
              permille(w->nodes[i].busy_ns, took_ns * w->broker.servers));
    r->cores_busy_permille = permille(w->cpu.busy_ns - m->busy_at_start_ns,
                                      took_ns * w->cpu.cores);
}

void salvo_plan_measure_end(plan_world *w)
{
    plan_measure *m = &w->measure;
    salvo_plan_result *r = m->result;
    salvo_ledger now = ledger_now(w);
    end_window(w);
    const salvo_ledger *was = &m->at_start;
    r->ledger = (salvo_ledger){
        .offered = now.offered - was->offered, .accepted = now.accepted - was->accepted,
        .refused_full = now.refused_full - was->refused_full,
        .refused_dropped = now.refused_dropped - was->refused_dropped,
        .refused_timeout = now.refused_timeout - was->refused_timeout,
        .refused_too_large = now.refused_too_large - was->refused_too_large,
        .acknowledged = now.acknowledged - was->acknowledged,
        .failed = now.failed - was->failed, .expired = now.expired - was->expired,
        .dropped = now.dropped - was->dropped, .pending = now.pending,
        .pending_counted = now.pending_counted};
    salvo_latency calm;
    salvo_histogram_summary(m->calm, &calm);
    r->p50_ns = percentile(m->calm, m->calm_bad, 5000);
    r->p99_ns = percentile(m->calm, m->calm_bad, 9900);
    r->p999_ns = percentile(m->calm, m->calm_bad, 9990);
    r->max_ns = calm.max;
    r->broker_p50_ns = salvo_histogram_at(m->broker, 50);
    if (m->recovering_since_ns != PLAN_NEVER || m->outages_now != 0)
        r->recovery_ns = UINT64_MAX;
    fill_machinery(w);
    r->growing = grows(r, m->calm_peak);
}
