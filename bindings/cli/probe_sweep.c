/* SPDX-License-Identifier: Apache-2.0
 *
 * The sweep of `salvo probe`: so many requests in flight, sent again as they come back. It tells
 * rates, the CPU of this side and of a broker here under load, and with one in flight how much
 * requests differ (probe_noise.h).
 * Guarantee: over a driver that takes one request of a partition at a time, no more are out.
 */
#include "probe.h"

#include <stdlib.h>

#define MS UINT64_C(1000000)
enum { SAMPLES = 64, SLICES = 24, FLIGHT_MOST = 32, STREAM_BATCHES = 512, FLOW_SAMPLES = 1 << 17,
       LARGE_BYTES = 50000, ALONE = 3 /* times as long with one in flight: it tells most */ };

/* What came back in each slice of a flow: the middle one tells the rate, whatever hiccups there
 * were. Where a slice holds few, the mean does. */
static double rate_of(int64_t *slices, size_t count, uint64_t slice_ns)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += (double)slices[i];
    salvo_fit_quantiles(slices, count, NULL, 0);
    double middle = salvo_fit_percentile(slices, count, 50);
    return (middle >= 5 ? middle : sum / (double)count) * 1e9 / (double)slice_ns;
}

/* CPU so far: ours, all of this process, the broker's. */
typedef struct costs {
    uint64_t thread_ns, process_ns, host_ns;
} costs;

static costs costs_now(const salvo_probing *p)
{
    return (costs){salvo_probing_cpu_ns(CLOCK_THREAD_CPUTIME_ID), salvo_probing_process_cpu_ns(),
                   p->on_host ? salvo_probing_cpu_of(p->broker_pid) : 0};
}

static void share(salvo_probing *p, salvo_fit_flow *f, const costs *before, uint64_t requests,
                  uint64_t took_ns)
{
    costs now = costs_now(p);
    double n = requests != 0 ? (double)requests : 1;
    double idle = (double)took_ns * (double)p->broker_idle_permille / 1000;
    f->thread_ns = (double)(now.thread_ns - before->thread_ns) / n;
    f->library_ns = (double)(now.process_ns - before->process_ns) / n - f->thread_ns;
    f->host_ns = ((double)(now.host_ns - before->host_ns) - idle) / n;
}

/* The batches of a flow: each request's lie side by side. */
typedef struct stream {
    uint32_t batches[STREAM_BATCHES], back[STREAM_BATCHES]; /* back: of a request */
    uint64_t requests;
} stream;

static int submit_request(salvo_probing *p, const salvo_fit_flow *f, stream *s, uint32_t request)
{
    int err = 0;
    s->back[request] = 0;
    for (uint32_t k = 0; err == 0 && k < f->batches; k++)
        err = salvo_probe_submit(p->probe, s->batches[request * f->batches + k]);
    if (err == 0 && salvo_probe_bursts(p->probe))
        salvo_probe_hurry(p->probe); /* as a producer does under load */
    return err;
}

static int begin_flow(salvo_probing *p, salvo_fit_flow *f, stream *s)
{
    uint32_t records = (uint32_t)f->records / f->batches;
    for (uint32_t i = 0; i < f->in_flight; i++) {
        int err = 0;
        for (uint32_t k = 0; err == 0 && k < f->batches; k++)
            err = salvo_probing_make(p, records, (uint32_t)(f->bytes / f->records), i,
                                     &s->batches[i * f->batches + k]);
        if (err == 0)
            err = submit_request(p, f, s, i);
        if (err == SALVO_ERR_TRANSIENT)
            f->in_flight = i; /* so many the driver takes */
        else if (err != 0)
            return salvo_probing_failed("the sweep", err);
    }
    return 0;
}

/* A batch is back: its request goes again when all of it is. */
static void came_back(salvo_probing *p, const salvo_fit_flow *f, stream *s, uint32_t batch)
{
    uint32_t at = 0;
    while (at < f->in_flight * f->batches && s->batches[at] != batch)
        at++;
    if (at == f->in_flight * f->batches || ++s->back[at / f->batches] < f->batches)
        return;
    s->requests++;
    (void)!submit_request(p, f, s, at / f->batches);
}

/* Only told with one in flight; with more, one pause is met by many. Requests of 10 KB are their
 * way there and back, not the broker's work. */
static void keep_noise(salvo_probing *p, const salvo_fit_flow *f, double took_ns,
                       salvo_noise_request *requests, size_t count)
{
    if (f->in_flight != 1)
        return;
    salvo_probing_watched(p, &(salvo_probe_watch){
        .wall_ns = took_ns, .requests = (double)count, .bytes = f->bytes, .records = f->records,
        .pauses = (double)salvo_noise_add(&p->noise, requests, count, f->bytes < LARGE_BYTES),
        .busy = true});
}

static int play_flow(salvo_probing *p, salvo_fit_flow *f, uint64_t length_ns,
                     salvo_noise_request *requests)
{
    salvo_probe_sample samples[SAMPLES];
    int64_t slices[SLICES + 1] = {0};
    stream s = {0};
    size_t kept = 0;
    costs before = costs_now(p);
    int status = begin_flow(p, f, &s);
    uint64_t slice_ns = length_ns / SLICES, now_ns = salvo_cli_now_ns(), begin_ns = now_ns;
    while (status == 0 && now_ns < begin_ns + length_ns) {
        int n = salvo_probe_wait(p->probe, now_ns + 100 * MS, samples, SAMPLES);
        uint64_t before_these = s.requests, was;
        now_ns = salvo_cli_now_ns();
        if (n < 0)
            return salvo_probing_failed("the driver gave up its connection", n);
        for (int i = 0; i < n; i++) {
            salvo_probing_note(p, &samples[i]);
            was = s.requests;
            came_back(p, f, &s, samples[i].batch);
            if (s.requests != was && samples[i].status == 0 && kept < FLOW_SAMPLES)
                requests[kept++] = (salvo_noise_request){
                    (int64_t)(samples[i].end_ns - samples[i].begin_ns),
                    (int64_t)(samples[i].end_ns - begin_ns)};
        }
        uint64_t slice = (now_ns - begin_ns) / slice_ns;
        slices[slice < SLICES ? slice : SLICES] += (int64_t)(s.requests - before_these);
        status = salvo_probing_interrupted();
    }
    if (status != 0)
        return status;
    share(p, f, &before, s.requests, now_ns - begin_ns);
    f->per_s = rate_of(slices + SLICES / 4, SLICES - SLICES / 4, slice_ns);
    keep_noise(p, f, (double)(now_ns - begin_ns), requests, kept);
    status = salvo_probing_settle(p);
    salvo_probe_remove_all(p->probe);
    return status;
}

static int flow(salvo_probing *p, salvo_fit_flow *f, uint64_t length_ns)
{
    salvo_noise_request *requests = salvo_cli_alloc(FLOW_SAMPLES * sizeof *requests);
    int status = play_flow(p, f, length_ns, requests);
    free(requests);
    return status;
}

typedef struct shape { /* of a request; the first with each number in flight, others with few */
    uint32_t records, value_bytes, batches;
} shape;

static bool wanted(const salvo_probing *p, const shape *s, uint32_t in_flight, bool few)
{
    uint64_t batch = (uint64_t)s->records / s->batches * s->value_bytes;
    bool bursts = salvo_probe_bursts(p->probe) != 0;
    if (batch > p->batch_bytes || s->records / s->batches > p->batch_messages)
        return false;
    if (bursts)
        return in_flight <= p->partitions;
    return s->batches == 1 && (!few || in_flight == 1 || in_flight == FLIGHT_MOST);
}

static uint64_t weight(uint32_t in_flight)
{
    return in_flight == 1 ? ALONE : 1;
}

int salvo_probing_sweep(salvo_probing *p, uint64_t budget_ns)
{
    static const uint32_t flights[] = {1, 2, 3, 4, 6, 8, 12, 16, 24, FLIGHT_MOST};
    static const shape shapes[] = {{100, 100, 1}, {1000, 100, 1}, {100, 1000, 1}, {500, 1000, 1},
                                   {1600, 100, 16}};
    enum { FLIGHTS = sizeof flights / sizeof *flights, SHAPES = sizeof shapes / sizeof *shapes };
    uint64_t count = 0;
    for (size_t s = 0; s < SHAPES; s++)
        for (size_t i = 0; i < FLIGHTS; i++)
            count += wanted(p, &shapes[s], flights[i], s > 0) ? weight(flights[i]) : 0;
    for (size_t s = 0; s < SHAPES; s++)
        for (size_t i = 0; i < FLIGHTS; i++) {
            if (!wanted(p, &shapes[s], flights[i], s > 0) || p->flow_count == PROBE_FLOWS)
                continue;
            double bytes = (double)shapes[s].records * shapes[s].value_bytes;
            salvo_fit_flow *f = &p->flows[p->flow_count];
            *f = (salvo_fit_flow){.bytes = bytes, .records = shapes[s].records,
                                  .in_flight = flights[i], .batches = shapes[s].batches};
            salvo_probing_progress(p, "sweep: %u requests of %.0f bytes in flight", flights[i],
                                   bytes);
            int status = flow(p, f, budget_ns * weight(flights[i]) / count);
            if (status != 0)
                return status;
            p->flow_count += f->per_s > 0 && f->in_flight == flights[i];
        }
    return 0;
}
