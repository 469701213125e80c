/* SPDX-License-Identifier: Apache-2.0
 *
 * What `salvo probe` measures at the driver's seam, but for the sweep: a shuffled grid of requests
 * one at a time, a ramp of rates in open loop, and what this side costs.
 * Guarantees: latency in the ramp counts from when a request was due; shapes of the grid come in
 * a new random order each time round, so that drift spreads over all of them.
 */
#include "probe.h"

#include "load_draw.h"
#include "load_pace.h"
#include "load_payload.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MS UINT64_C(1000000)
#define SECOND UINT64_C(1000000000)
enum { SAMPLES = 64, GAP_NS = 3000000, BURST_BYTES = 400000, BURST_MOST = 16,
       RAMP_BATCHES = 128, GRID_ROUNDS = 4, RAMP_SAMPLES = 1 << 20, RAMP_STEPS = 20,
       RAMP_REQUESTS = 20 /* of a step, at least: a p99 of fewer is one request */ };

/* What all cores of this host have done so far. */
static uint64_t host_cpu_ns(void)
{
    unsigned long long user = 0, nice = 0, system = 0, idle, wait, irq = 0, soft = 0;
    FILE *file = fopen("/proc/stat", "re");
    int n = file != NULL ? fscanf(file, "cpu %llu %llu %llu %llu %llu %llu %llu", &user, &nice,
                                  &system, &idle, &wait, &irq, &soft)
                         : 0;
    if (file != NULL)
        fclose(file);
    return n == 7 ? (user + nice + system + irq + soft) * (SECOND / (uint64_t)sysconf(_SC_CLK_TCK))
                  : 0;
}

/* ---- This side ---- */

int salvo_probing_own_costs(salvo_probing *p)
{
    static const uint32_t shapes[PROBE_ENGINE][2] = {{1, 100}, {10, 100}, {100, 100}, {1000, 100},
                                                     {2000, 16}, {100, 1000}, {10, 10000},
                                                     {400, 1000}};
    salvo_probing_progress(p, "this side: sleeps and the engine's own rounds");
    for (size_t i = 0; i < PROBE_NAPS; i++)
        p->naps[i] = (int64_t)salvo_probe_overshoot(MS + salvo_load_random(&p->random) % MS);
    for (size_t i = 0; i < PROBE_ENGINE; i++) {
        p->engine_bytes[i] = shapes[i][1];
        int err = salvo_probe_measure_engine(p->config, shapes[i][0], shapes[i][1], &p->engine[i]);
        if (err != 0)
            return salvo_probing_failed("the engine over `null`", err);
    }
    uint64_t host = host_cpu_ns(), own = salvo_probing_process_cpu_ns();
    uint64_t begin_ns = salvo_cli_now_ns();
    uint64_t broker = p->on_host ? salvo_probing_cpu_of(p->broker_pid) : 0;
    salvo_probing_sleep(SECOND);
    uint64_t elapsed_ns = salvo_cli_now_ns() - begin_ns;
    if (p->on_host)
        p->broker_idle_permille =
            (salvo_probing_cpu_of(p->broker_pid) - broker) * 1000 / elapsed_ns;
    uint64_t busy = host_cpu_ns() - host, mine = salvo_probing_process_cpu_ns() - own;
    p->background_permille = busy > mine ? (busy - mine) * 1000 / elapsed_ns : 0;
    if (p->background_permille > 200)
        salvo_cli_say("probe: something else keeps %.1f cores of this host busy: what is measured "
                      "now holds for such a host only", (double)p->background_permille / 1000);
    return salvo_probing_interrupted();
}

static int given_up(const char *what, int err)
{
    return salvo_probing_interrupted() != 0 ? CLI_INTERRUPTED : salvo_probing_failed(what, err);
}

/* One request, and nothing else in flight. */
static int exchange(salvo_probing *p, uint32_t batch, salvo_probe_sample *s)
{
    uint64_t until_ns = salvo_cli_now_ns() + PROBE_REQUEST_TIMEOUT_S * SECOND;
    int err, n = 0;
    while ((err = salvo_probe_submit(p->probe, batch)) == SALVO_ERR_TRANSIENT &&
           salvo_cli_now_ns() < until_ns && salvo_probing_interrupted() == 0)
        (void)salvo_probe_wait(p->probe, salvo_cli_now_ns() + MS, s, 1);
    if (err != 0)
        return given_up("a request was not taken", err);
    while (n == 0 && salvo_cli_now_ns() < until_ns && salvo_probing_interrupted() == 0)
        n = salvo_probe_wait(p->probe, salvo_cli_now_ns() + 100 * MS, s, 1);
    if (n == 1)
        return 0;
    return given_up("a request without an answer", n < 0 ? n : SALVO_ERR_TIMEOUT);
}

/* ---- The grid ---- */

static void add_shapes(salvo_probing *p)
{
    static const uint32_t records[] = {1, 10, 100, 1000, 4000},
                          bytes[] = {16, 100, 400, 1000, 10000, 100000};
    uint64_t most = p->batch_bytes < 450000 ? p->batch_bytes : 450000;
    for (size_t r = 0; r < sizeof records / sizeof *records; r++)
        for (size_t b = 0; b < sizeof bytes / sizeof *bytes; b++) {
            uint64_t size = (uint64_t)records[r] * bytes[b];
            if ((size > most && records[r] > 1) || records[r] > p->batch_messages ||
                p->shape_count == PROBE_SHAPES)
                continue;
            p->shapes[p->shape_count++] = (salvo_probe_shape){.records = records[r],
                                                              .value_bytes = bytes[b]};
        }
}

static void keep(salvo_probe_shape *s, const salvo_probe_sample *sample)
{
    uint64_t took_ns = sample->end_ns - sample->begin_ns;
    if (s->count == s->room) {
        s->room = s->room != 0 ? 2 * s->room : 256;
        s->service_ns = salvo_cli_realloc(s->service_ns, s->room * sizeof *s->service_ns);
    }
    /* This thread's own work is told apart: the planner has it in the flusher's costs. */
    s->service_ns[s->count++] = (int64_t)(took_ns > sample->cpu_ns ? took_ns - sample->cpu_ns : 1);
    s->wall_ns += took_ns;
    s->thread_ns += sample->cpu_ns;
}

/* At least two; a slow broker is asked no longer than share_ns. */
static int burst(salvo_probing *p, salvo_probe_shape *s, const uint32_t *batches, bool counted,
                 uint64_t share_ns)
{
    salvo_probe_sample sample;
    uint64_t bytes = (uint64_t)s->records * s->value_bytes;
    uint64_t requests = BURST_BYTES / (bytes + 1);
    requests = requests < 2 ? 2 : requests > BURST_MOST ? BURST_MOST : requests;
    uint64_t host = p->on_host ? salvo_probing_cpu_of(p->broker_pid) : 0;
    uint64_t process = 0, before = salvo_probing_process_cpu_ns(), begin_ns = salvo_cli_now_ns();
    for (uint64_t i = 0; i < requests; i++) {
        if (i >= 2 && salvo_cli_now_ns() - begin_ns > share_ns)
            break;
        /* as between the lingers of a producer */
        salvo_probing_sleep(salvo_load_random(&p->random) % GAP_NS);
        int status = exchange(p, batches[i % p->partitions % 4], &sample);
        if (status != 0)
            return status;
        salvo_probing_note(p, &sample);
        if (counted && sample.status == 0)
            keep(s, &sample);
    }
    process = salvo_probing_process_cpu_ns() - before;
    if (!counted)
        return 0;
    s->process_ns += process;
    if (p->on_host) { /* signed: the kernel counts in ticks, the sum comes out right */
        uint64_t idle = (salvo_cli_now_ns() - begin_ns) * p->broker_idle_permille / 1000;
        s->host_ns += (int64_t)(salvo_probing_cpu_of(p->broker_pid) - host) - (int64_t)idle;
    }
    return salvo_probing_interrupted();
}

static void shuffle(salvo_probing *p, size_t *order, size_t n)
{
    for (size_t i = 0; i < n; i++)
        order[i] = i;
    for (size_t i = n; i > 1; i--) {
        size_t k = salvo_load_random(&p->random) % i, other = order[k];
        order[k] = order[i - 1];
        order[i - 1] = other;
    }
}

int salvo_probing_grid(salvo_probing *p, uint64_t budget_ns)
{
    uint32_t batches[PROBE_SHAPES][4];
    size_t order[PROBE_SHAPES];
    add_shapes(p);
    for (size_t i = 0; i < p->shape_count; i++)
        for (uint32_t k = 0; k < 4; k++) {
            int err = salvo_probing_make(p, p->shapes[i].records, p->shapes[i].value_bytes, k,
                                         &batches[i][k]);
            if (err != 0)
                return salvo_probing_failed("a batch", err);
        }
    uint64_t begin_ns = salvo_cli_now_ns(), share_ns = budget_ns / p->shape_count / GRID_ROUNDS;
    for (unsigned round = 0; round < 2 || salvo_cli_now_ns() - begin_ns < budget_ns; round++) {
        salvo_probing_progress(p, "grid: round %u, %zu shapes of requests, one at a time", round,
                               p->shape_count);
        shuffle(p, order, p->shape_count);
        for (size_t i = 0; i < p->shape_count; i++) { /* the first round warms up */
            int status = burst(p, &p->shapes[order[i]], batches[order[i]], round > 0,
                               share_ns);
            if (status != 0)
                return status;
        }
    }
    salvo_probe_remove_all(p->probe);
    return 0;
}

/* ---- The ramp ---- */

typedef struct ramp {
    uint32_t batches[RAMP_BATCHES], records, free_count, count;
    uint64_t interval_ns, due_ns[RAMP_BATCHES * 4]; /* by the pool's index */
    int64_t *latency_ns;
    size_t latencies;
    uint64_t acknowledged, requests, first_ns, last_ns; /* when the first and last came back */
} ramp;

/* Nanoseconds that one request takes alone; 0: the sweep does not tell. */
static double alone_ns(const salvo_probing *p)
{
    double least = 0;
    for (size_t i = 0; i < p->flow_count; i++) {
        const salvo_fit_flow *f = &p->flows[i];
        double one = f->in_flight == 1 && f->per_s > 0 ? 1e9 / f->per_s : 0;
        least = one > 0 && (least <= 0 || one < least) ? one : least;
    }
    return least;
}

/* A request an interval: as a producer's linger would make them, or a full batch more often. A
 * broker that answers late gets fewer and larger ones: there are not batches for more. */
static bool prepare(salvo_probing *p, ramp *r, double rate)
{
    double interval = (double)(p->linger_ns > MS ? p->linger_ns : MS);
    double spread = 2 * alone_ns(p) / RAMP_BATCHES;
    interval = spread > interval ? spread : interval;
    double records = rate * interval / 1e9;
    double most = (double)p->batch_bytes / (p->value_bytes + 64.0);
    most = most > (double)p->batch_messages ? (double)p->batch_messages : most;
    records = records < 1 ? 1 : records > most ? most : records;
    r->records = (uint32_t)records;
    r->interval_ns = (uint64_t)((double)r->records / rate * 1e9);
    for (r->count = 0; r->count < RAMP_BATCHES; r->count++)
        if (salvo_probing_make(p, r->records, p->value_bytes, r->count,
                               &r->batches[r->count]) != 0 ||
            r->batches[r->count] >= RAMP_BATCHES * 4)
            break;
    r->free_count = r->count;
    return r->count > 4;
}

static int collect(salvo_probing *p, ramp *r, uint64_t until_ns, uint64_t count_from_ns)
{
    salvo_probe_sample samples[SAMPLES];
    int n = salvo_probe_wait(p->probe, until_ns, samples, SAMPLES);
    if (n < 0)
        return salvo_probing_failed("the driver gave up its connection", n);
    for (int i = 0; i < n; i++) {
        uint64_t due_ns = r->due_ns[samples[i].batch];
        salvo_probing_note(p, &samples[i]);
        r->batches[r->free_count++] = samples[i].batch;
        if (due_ns < count_from_ns || samples[i].status != 0)
            continue;
        r->requests++;
        r->acknowledged += samples[i].records;
        if (r->first_ns == 0 || samples[i].end_ns < r->first_ns)
            r->first_ns = samples[i].end_ns;
        if (samples[i].end_ns > r->last_ns)
            r->last_ns = samples[i].end_ns;
        if (r->latencies < RAMP_SAMPLES)
            r->latency_ns[r->latencies++] = (int64_t)(samples[i].end_ns - due_ns);
    }
    return salvo_probing_interrupted();
}

static void hurry(salvo_probing *p)
{
    if (salvo_probe_bursts(p->probe))
        salvo_probe_hurry(p->probe);
}

/* One of the free batches whose partition may take it. */
static int submit_any(salvo_probing *p, ramp *r, uint32_t *batch)
{
    int err = SALVO_ERR_TRANSIENT;
    for (uint32_t k = r->free_count; err == SALVO_ERR_TRANSIENT && k-- > 0;) {
        *batch = r->batches[k];
        err = salvo_probe_submit(p->probe, *batch);
        if (err == 0)
            r->batches[k] = r->batches[--r->free_count];
    }
    return err;
}

static int play(salvo_probing *p, ramp *r, uint64_t length_ns, salvo_probe_step *step)
{
    uint64_t begin_ns = salvo_cli_now_ns() + MS, due_ns = begin_ns;
    uint64_t from_ns = begin_ns + length_ns / 4, end_ns = begin_ns + length_ns, offered = 0, now_ns;
    int status = 0;
    while (status == 0 && due_ns < end_ns && (now_ns = salvo_cli_now_ns()) < end_ns) {
        if (now_ns < due_ns || r->free_count == 0) {
            status = collect(p, r, r->free_count == 0 ? end_ns : due_ns, from_ns);
            continue;
        }
        uint32_t batch;
        int err = submit_any(p, r, &batch);
        if (err == SALVO_ERR_TRANSIENT) { /* more waits, so what is out is a whole burst */
            hurry(p);
            status = collect(p, r, now_ns + MS / 4, from_ns);
            continue;
        }
        if (err != 0)
            return salvo_probing_failed("the ramp", err);
        r->due_ns[batch] = due_ns;
        if (p->linger_ns <= MS)
            hurry(p);
        offered += due_ns >= from_ns ? r->records : 0;
        due_ns += r->interval_ns;
    }
    for (; due_ns < end_ns; due_ns += r->interval_ns)
        offered += r->records; /* what was due and could not be submitted any more */
    uint64_t give_up_ns = end_ns + PROBE_REQUEST_TIMEOUT_S * SECOND;
    while (status == 0 && salvo_probe_out(p->probe) != 0 && salvo_cli_now_ns() < give_up_ns)
        status = collect(p, r, salvo_cli_now_ns() + 100 * MS, from_ns);
    /* As long as what was due took to come back, so that a late answer is no missing one. */
    uint64_t took_ns = r->last_ns - r->first_ns, wanted_ns = end_ns - from_ns;
    double span_s = (double)(took_ns > wanted_ns ? took_ns : wanted_ns) / 1e9;
    step->offered_per_s = (double)offered * 1e9 / (double)(end_ns - from_ns);
    step->acknowledged_per_s = (double)r->acknowledged / span_s;
    step->requests_per_s = (double)r->requests / span_s;
    return status;
}

static double fastest(const salvo_probing *p)
{
    double most = 0;
    for (size_t i = 0; i < p->flow_count; i++) {
        double per_s = p->flows[i].per_s * p->flows[i].records;
        most = per_s > most ? per_s : most;
    }
    return most;
}

/* Of the last three quarters, as the latencies are. Above half of what the sweep reached a queue
 * can look like a pause. */
static void watch(salvo_probing *p, const ramp *r, double rate, uint64_t length_ns)
{
    if (rate > fastest(p) / 2)
        return;
    salvo_probing_watched(p, &(salvo_probe_watch){
        .wall_ns = (double)(length_ns - length_ns / 4), .requests = (double)r->latencies,
        .bytes = (double)r->records * p->value_bytes, .records = r->records,
        .pauses = (double)salvo_noise_watch(&p->noise, r->latency_ns, r->latencies)});
}

static int one_step(salvo_probing *p, double rate, uint64_t length_ns, salvo_probe_step *step)
{
    ramp *r = salvo_cli_alloc(sizeof *r);
    r->latency_ns = salvo_cli_alloc(RAMP_SAMPLES * sizeof *r->latency_ns);
    int status = CLI_FAILED;
    salvo_probing_progress(p, "ramp: %.0f messages/s of %u bytes", rate, p->value_bytes);
    if (!prepare(p, r, rate))
        salvo_cli_say("probe: no memory for the ramp's batches");
    else
        status = play(p, r, length_ns, step);
    if (status == 0) {
        watch(p, r, rate, length_ns);
        salvo_fit_quantiles(r->latency_ns, r->latencies, NULL, 0);
        step->p50_ns = (uint64_t)salvo_fit_percentile(r->latency_ns, r->latencies, 50);
        step->p99_ns = (uint64_t)salvo_fit_percentile(r->latency_ns, r->latencies, 99);
        status = salvo_probing_settle(p);
    }
    salvo_probe_remove_all(p->probe);
    free(r->latency_ns);
    free(r);
    return status;
}

static bool kept(const salvo_probe_step *step, uint64_t calm_ns)
{
    return step->p99_ns <= 3 * calm_ns && step->acknowledged_per_s >= 0.95 * step->offered_per_s;
}

/* Steps are kept in the order of their rates. */
static void insert(salvo_probing *p, const salvo_probe_step *step)
{
    size_t i = p->step_count++;
    for (; i > 0 && p->steps[i - 1].offered_per_s > step->offered_per_s; i--)
        p->steps[i] = p->steps[i - 1];
    p->steps[i] = *step;
}

/* A step is so many answers long at least: of less a short pause would be a good part. */
#define STEP_ANSWERS 4

/* Where a --max-rate makes the ramp begin at its quarter. */
uint64_t salvo_probing_least_rate(uint64_t budget_ns)
{
    double counted_s = (double)(budget_ns / RAMP_STEPS) * 3 / 4 / 1e9; /* as play() counts */
    return (uint64_t)ceil(4 * RAMP_REQUESTS / counted_s);
}

int salvo_probing_ramp(salvo_probing *p, uint64_t budget_ns)
{
    bool slow = p->max_rate != 0 && p->max_rate < 4000;
    double low = 0, high = 0, rate = slow ? (double)p->max_rate / 4 : 1000;
    uint64_t calm_ns = 0, least_ns = (uint64_t)(STEP_ANSWERS * alone_ns(p));
    uint64_t length_ns = budget_ns / RAMP_STEPS > least_ns ? budget_ns / RAMP_STEPS : least_ns;
    for (unsigned i = 0; i < 30; i++) {
        salvo_probe_step step = {0};
        int status = one_step(p, rate, length_ns, &step);
        if (status != 0)
            return status;
        if (i < 3 && step.p99_ns > calm_ns)
            calm_ns = step.p99_ns; /* the first steps tell what is normal */
        step.kept = kept(&step, calm_ns);
        if (!step.kept) { /* once more: one hiccup is no limit */
            status = one_step(p, rate, length_ns, &step);
            if (status != 0)
                return status;
            step.kept = kept(&step, calm_ns);
        }
        insert(p, &step);
        if (step.kept && rate > low) {
            low = rate;
            p->limit = step;
        } else if (!step.kept) {
            high = rate;
            p->limit_met = true;
        }
        bool at_most = p->max_rate != 0 && low >= (double)p->max_rate;
        if (at_most || low >= 2e7 || (high > 0 && high / (low + 1) < 1.06))
            break;
        rate = high > 0 ? (low > 0 ? (low + high) / 2 : high / 2) : rate * 2;
        if (p->max_rate != 0 && rate > (double)p->max_rate)
            rate = (double)p->max_rate;
        if (rate < 10)
            break;
    }
    return 0;
}
