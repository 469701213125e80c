/* SPDX-License-Identifier: Apache-2.0
 *
 * The order of events.
 *
 * Events of one instant happen in this order: outages change, the broker, senders that give up,
 * the application's own work, flushers, arrivals. What a flusher's round did tells what it cost;
 * its requests leave, and its next round may begin, when the cores (cpu.c) have done that. Between
 * rounds it sleeps as flusher_run.c would, and wakes late by a draw.
 */
#include "world.h"

#include "error.h"
#include "thread.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { START_NS = 1000 * 1000 * 1000, WORTH_SLEEPING_NS = 5000, ROUND_LEAST_NS = 200 };

static uint64_t clock_now(void *context)
{
    return ((const plan_world *)context)->now_ns;
}

static uint64_t overshoot_ns(plan_world *w, plan_agent *agent)
{
    int64_t ns = salvo_draw_table(&agent->overshoot, &w->host.overshoot_ns);
    return ns > 0 ? (uint64_t)ns : 0;
}

void salvo_plan_wake(plan_world *w, uint32_t flusher)
{
    plan_agent *a = &w->agents[flusher];
    if (!a->sleeping)
        return;
    uint64_t at_ns = w->now_ns + overshoot_ns(w, a);
    a->sleeping = false;
    if (at_ns < a->due_ns)
        a->due_ns = at_ns;
}

/* As salvo_flusher_idle() would. */
static void rest(plan_world *w, salvo_flusher *f, int work, uint64_t end_ns)
{
    const salvo_settings *s = &w->p->settings;
    plan_agent *a = &w->agents[f->index];
    const plan_handle *h = w->handles[f->index];
    a->due_ns = end_ns;
    if (work != 0 || s->idle == SALVO_IDLE_BUSY || h->done_first != h->done_end ||
        f->wake_at_ns <= end_ns + WORTH_SLEEPING_NS ||
        atomic_load_explicit(&f->kicked, memory_order_relaxed) != 0)
        return;
    a->sleeping = true;
    a->due_ns = f->wake_at_ns + overshoot_ns(w, a);
    a->offers_idle = salvo_flusher_offers(f) && salvo_sizes_backlog(f->sizes) == 0;
}

/* What it drained and closed, and what it gave to the driver. Time must pass. */
static uint64_t round_cost_ns(const plan_world *w, const salvo_flusher *f, plan_agent *a)
{
    const salvo_plan_cost *drain = &w->host.flusher, *submit = &w->host.submit;
    uint64_t drained = atomic_load_explicit(&f->counters.drained, memory_order_relaxed);
    uint64_t batches = atomic_load_explicit(&f->counters.batches, memory_order_relaxed);
    uint64_t cost_ns = w->host.round_ns + (batches - a->batches) * drain->base_ns +
                       a->submitted * submit->base_ns +
                       ((drained - a->drained) * drain->per_record_ps +
                        a->records * submit->per_record_ps +
                        a->bytes * (drain->per_byte_ps + submit->per_byte_ps)) / 1000;
    a->drained = drained;
    a->batches = batches;
    return cost_ns > ROUND_LEAST_NS ? cost_ns : ROUND_LEAST_NS;
}

static void round_of(plan_world *w, uint32_t index)
{
    salvo_flusher *f = &w->p->flushers[index];
    plan_agent *a = &w->agents[index];
    a->sleeping = a->offers_idle = false;
    a->submitted = a->records = a->bytes = 0;
    salvo_plan_measure_before(w);
    int work = salvo_flusher_work(f);
    uint64_t cost_ns = round_cost_ns(w, f, a);
    a->busy_ns += cost_ns;
    uint64_t end_ns = salvo_plan_cpu_take(w, plan_task_flusher(index), cost_ns) + cost_ns;
    salvo_plan_round_ended(w, index, end_ns);
    rest(w, f, work, end_ns);
    w->measure.result->rounds++;
    salvo_plan_measure_round(w);
    if (w->blocked_threads != 0 && work != 0)
        salvo_plan_arrivals_room(w);
}

/* The application's own work: slices at random, so that they sum up to its share. */
static void application(plan_world *w)
{
    uint64_t slice_ns = w->host.app_slice_ns;
    salvo_plan_cpu_take(w, PLAN_TASK_APP, slice_ns);
    w->app_next_ns = w->now_ns + 1 + salvo_draw_exponential(
                                         &w->app, slice_ns * 1000 / w->host.app_busy_permille);
}

static uint64_t earliest(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* When something other than an arrival happens. */
static uint64_t next_event(const plan_world *w)
{
    uint64_t next = earliest(salvo_plan_brokers_next(w), salvo_plan_measure_next(w));
    for (uint32_t i = 0; i < w->p->settings.flushers; i++)
        next = earliest(next, w->agents[i].due_ns);
    if (w->next_change < w->change_count)
        next = earliest(next, w->changes[w->next_change].at_ns);
    if (w->blocked_threads != 0)
        next = earliest(next, salvo_plan_arrivals_deadline(w));
    return earliest(next, w->app_next_ns);
}

static void changes_now(plan_world *w)
{
    while (w->next_change < w->change_count && w->changes[w->next_change].at_ns <= w->now_ns) {
        const plan_change *change = &w->changes[w->next_change++];
        salvo_plan_brokers_change(w, change);
        salvo_plan_measure_change(w, change->begins);
    }
}

static void run_world(plan_world *w)
{
    while (!w->out_of_memory) {
        uint64_t next_ns = earliest(next_event(w), w->end_ns);
        uint64_t arrivals_end_ns = next_ns;
        while (w->next_arrival_ns < arrivals_end_ns) {
            w->now_ns = w->next_arrival_ns;
            salvo_plan_arrive(w);
            w->measure.result->records++;
            for (uint32_t i = 0; i < w->p->settings.flushers; i++) /* one may have been woken */
                arrivals_end_ns = earliest(arrivals_end_ns, w->agents[i].due_ns);
        }
        if (arrivals_end_ns < next_ns)
            next_ns = arrivals_end_ns;
        if (next_ns > w->now_ns)
            w->now_ns = next_ns;
        if (w->now_ns >= w->end_ns)
            return;
        if (w->now_ns >= salvo_plan_measure_next(w))
            salvo_plan_measure_turn(w);
        changes_now(w);
        salvo_plan_brokers_step(w);
        if (w->blocked_threads != 0 && salvo_plan_arrivals_deadline(w) <= w->now_ns)
            salvo_plan_arrivals_room(w);
        if (w->app_next_ns <= w->now_ns)
            application(w);
        for (uint32_t i = 0; i < w->p->settings.flushers; i++)
            if (w->agents[i].due_ns <= w->now_ns)
                round_of(w, i);
    }
}

/* ---- Opening and closing ---- */

static uint64_t or_else(uint64_t value, uint64_t fallback)
{
    return value != 0 ? value : fallback;
}

static void fill_defaults(plan_world *w)
{
    salvo_plan_broker *b = &w->broker;
    b->brokers = (uint32_t)or_else(b->brokers, 1);
    b->partitions = (uint32_t)or_else(b->partitions, 1);
    b->window = (uint32_t)or_else(b->window, 1);
    b->servers = (uint32_t)or_else(b->servers, 1);
    b->reconnect_ns = or_else(b->reconnect_ns, UINT64_C(100000000));
    b->request_timeout_ns = or_else(b->request_timeout_ns, UINT64_C(30000000000));
    w->host.cores = (uint32_t)or_else(w->host.cores, 2);
    w->host.app_slice_ns = or_else(w->host.app_slice_ns, 200000);
    w->traffic.threads = (uint32_t)or_else(w->traffic.threads, 1);
    w->traffic.scale_permille = (uint32_t)or_else(w->traffic.scale_permille, 1000);
}

static int check(const plan_world *w)
{
    const salvo_plan_traffic *t = &w->traffic;
    const salvo_plan_broker *b = &w->broker;
    const char *what = NULL;
    if (w->run->config == NULL || w->run->duration_ns == 0)
        what = "a configuration and a duration are needed";
    else if (t->topic_count == 0 || t->topic_count > PLAN_TOPICS_MAX)
        what = "1 to 1,024 topics are allowed";
    else if (b->servers > PLAN_SERVERS_MAX || b->brokers > 1000 || b->partitions > 10000)
        what = "at most 64 servers, 1,000 brokers and 10,000 partitions are allowed";
    else if (w->host.cores > PLAN_CORES_MAX || t->threads > 65536)
        what = "at most 256 cores and 65,536 threads are allowed";
    else if (b->pushed_ns > b->service.base_ns)
        what = "a request cannot be answered sooner by more than its base";
    else if (b->pace_count != 0 && (b->pace_permille == NULL || b->pace_slice_ns == 0))
        what = "a pace needs its figures and the length of a slice";
    else if (t->trace != NULL && (t->trace_count == 0 || t->trace_ns == 0))
        what = "the trace is empty";
    else if (t->trace != NULL && t->from_ns >= t->trace_ns)
        what = "the trace ends before its traffic begins";
    else if (t->burst_permille != 0 && (t->burst_every_ns == 0 || t->burst_ns == 0))
        what = "bursts need a length and a period";
    for (uint64_t i = 0; what == NULL && t->trace != NULL && i < t->trace_count; i++)
        if (t->trace[i].topic >= t->topic_count || t->trace[i].at_ns > t->trace_ns)
            what = "a message of the trace has no topic, or comes after its end";
    for (uint32_t i = 0; what == NULL && i < t->topic_count; i++)
        if (t->topics[i].key_bytes > UINT16_MAX)
            what = "keys of more than 65,535 bytes";
    if (what == NULL)
        return 0;
    salvo_error_set("plan: %s", what);
    return SALVO_ERR_INVALID;
}

static int by_time(const void *a, const void *b)
{
    const plan_change *x = a, *y = b;
    if (x->at_ns != y->at_ns)
        return x->at_ns < y->at_ns ? -1 : 1;
    return (int)x->begins - (int)y->begins;
}

static int open_changes(plan_world *w)
{
    uint32_t n = w->run->outage_count;
    w->changes = calloc(2 * (size_t)n + 1, sizeof *w->changes);
    if (w->changes == NULL)
        return SALVO_ERR_NOMEM;
    for (uint32_t i = 0; i < n; i++) {
        const salvo_plan_outage *o = &w->run->outages[i];
        w->changes[2 * i] = (plan_change){w->start_ns + o->from_ns, o, true};
        w->changes[2 * i + 1] = (plan_change){w->start_ns + o->from_ns + o->for_ns, o, false};
    }
    w->change_count = 2 * n;
    qsort(w->changes, w->change_count, sizeof *w->changes, by_time);
    return 0;
}

static int open_producer(plan_world *w)
{
    salvo_producer_hooks hooks = {.clock = clock_now, .clock_context = w, .stepped = true,
                                  .sizes_only = true, .cores = w->host.cores,
                                  .driver = &salvo_plan_driver, .driver_shared = w};
    w->handles = calloc(64, sizeof *w->handles); /* the most flushers there can be */
    if (w->handles == NULL)
        return SALVO_ERR_NOMEM;
    int err = salvo_producer_open(w->run->config, NULL, &hooks, &w->p);
    for (uint32_t i = 0; err == 0 && i < w->traffic.topic_count; i++) {
        char name[16];
        salvo_topic topic;
        snprintf(name, sizeof name, "t%u", i);
        err = salvo_topic_open(w->p, name, NULL, &topic);
    }
    if (err == 0)
        w->thread = salvo_thread_find(w->p, &err);
    if (err != 0)
        return err;
    uint32_t flushers = w->p->settings.flushers;
    w->agents = calloc(flushers, sizeof *w->agents);
    for (uint32_t i = 0; w->agents != NULL && i < flushers; i++)
        w->agents[i] = (plan_agent){
            .due_ns = w->now_ns,
            .overshoot = salvo_draw_stream(w->run->seed, PLAN_STREAM_OVERSHOOT, i)};
    return w->agents == NULL ? SALVO_ERR_NOMEM : 0;
}

static int open_world(plan_world *w, const salvo_plan_run *run, salvo_plan_result *result)
{
    w->run = run;
    w->broker = run->broker;
    w->host = run->host;
    w->traffic = run->traffic;
    fill_defaults(w);
    int err = check(w);
    if (err != 0)
        return err;
    w->now_ns = START_NS;
    w->start_ns = w->now_ns + run->warmup_ns;
    w->end_ns = w->start_ns + run->duration_ns;
    w->free_request = PLAN_NONE;
    w->app = salvo_draw_stream(run->seed, PLAN_STREAM_APP, 0);
    w->app_next_ns = w->host.app_busy_permille != 0 ? w->now_ns : PLAN_NEVER;
    err = open_producer(w);
    if (err == 0)
        err = salvo_plan_cpu_open(w);
    if (err == 0)
        err = salvo_plan_brokers_open(w);
    if (err == 0)
        err = salvo_plan_arrivals_open(w);
    if (err == 0)
        err = salvo_plan_measure_open(w, result);
    return err != 0 ? err : open_changes(w);
}

static void close_world(plan_world *w)
{
    if (w->p != NULL && salvo_close(w->p, 0, NULL) == SALVO_ERR_DROPPED)
        w->p = NULL; /* what was pending at the end of a plan is dropped */
    salvo_plan_measure_close(w); /* after it: closing records into its histograms */
    salvo_plan_arrivals_close(w);
    salvo_plan_brokers_close(w);
    salvo_plan_cpu_close(w);
    free(w->changes);
    free(w->agents);
    free(w->handles);
}

int salvo_plan_simulate(const salvo_plan_run *run, salvo_plan_result *result)
{
    salvo_plan_run mine = {0};
    salvo_error_clear();
    if (run == NULL || result == NULL || run->size > sizeof mine)
        return SALVO_ERR_INVALID;
    memcpy(&mine, run, run->size);
    memset(result, 0, sizeof *result);
    result->size = sizeof *result;
    plan_world *w = calloc(1, sizeof *w);
    if (w == NULL)
        return SALVO_ERR_NOMEM;
    int err = open_world(w, &mine, result);
    if (err == 0) {
        run_world(w);
        salvo_plan_measure_end(w);
        if (w->out_of_memory)
            err = SALVO_ERR_NOMEM;
    }
    close_world(w);
    free(w);
    if (err == SALVO_ERR_NOMEM)
        salvo_error_set("plan: no memory for a simulation of this size");
    if (err != 0)
        salvo_plan_result_free(result);
    return err;
}

void salvo_plan_result_free(salvo_plan_result *result)
{
    if (result == NULL)
        return;
    free(result->windows);
    result->windows = NULL;
    result->window_count = 0;
}
