/* SPDX-License-Identifier: Apache-2.0
 *
 * From what was measured to a broker model (docs/formats.md). Nothing is counted twice: a
 * request's time is without this thread's CPU, which is told as `submit`, and without
 * the wake-up at its end, which the planner draws from `overshoot_ns`.
 */
#include "probe.h"

#include "load_pace.h"
#include "load_result.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { OVERSHOOT_STEPS = 101, STALL_STEPS = 101 };
#define STALL_NS 20000000.0 /* an excess above this, and above ten times the request, is a stall */
#define LIBRARY_LEAST_NS 300.0
#define TIB 1099511627776.0
#define HOUR_NS 3.6e12
#define HOST_LEAST_NS 5000.0 /* the kernel counts in ticks: less is noise */

static double at_least(double value, double least)
{
    return value > least ? value : least;
}

static double per_request(const salvo_probe_shape *s, uint64_t sum)
{
    return s->count != 0 ? (double)sum / (double)s->count : 0;
}

/* One cost from a sum of each shape. */
static void fit_sums(const salvo_probing *p, double (*of)(const salvo_probe_shape *), double least,
                     salvo_fit_cost *cost)
{
    salvo_fit_point points[PROBE_SHAPES];
    double sum = 0;
    *cost = (salvo_fit_cost){0};
    for (size_t i = 0; i < p->shape_count; i++) {
        const salvo_probe_shape *s = &p->shapes[i];
        sum += of(s);
        points[i] = (salvo_fit_point){(double)s->records * s->value_bytes, s->records,
                                      at_least(of(s), least)};
    }
    if (sum > least * (double)p->shape_count)
        (void)salvo_fit_request(points, p->shape_count, cost);
}

static double median_of(const salvo_probe_shape *s)
{
    return s->median_ns;
}

static double thread_of(const salvo_probe_shape *s)
{
    return per_request(s, s->thread_ns);
}

static double library_of(const salvo_probe_shape *s)
{
    return s->process_ns > s->thread_ns ? per_request(s, s->process_ns - s->thread_ns) : 0;
}

static double host_of(const salvo_probe_shape *s)
{
    return s->host_ns > 0 ? per_request(s, (uint64_t)s->host_ns) : 0;
}

static void fit_engine(salvo_probing *p)
{
    salvo_fit_point work[PROBE_ENGINE], calls[PROBE_ENGINE];
    salvo_fit_cost engine = {0}, call = {0};
    p->round_ns = INFINITY;
    for (size_t i = 0; i < PROBE_ENGINE; i++)
        p->round_ns = fmin(p->round_ns, (double)p->engine[i].empty_ns);
    for (size_t i = 0; i < PROBE_ENGINE; i++) {
        const salvo_probe_engine *e = &p->engine[i];
        double batches = at_least((double)e->batches, 1), records = at_least((double)e->records, 1);
        double busy = (double)e->work_ns - (double)e->rounds * p->round_ns;
        work[i] = (salvo_fit_point){records * p->engine_bytes[i] / batches, records / batches,
                                    at_least(busy / batches, 100)};
        calls[i] = (salvo_fit_point){p->engine_bytes[i], 0,
                                     at_least((double)e->send_ns / records, 1)};
    }
    (void)salvo_fit_request(work, PROBE_ENGINE, &engine);
    (void)salvo_fit_request(calls, PROBE_ENGINE, &call);
    p->call_ps = call.base_ns * 1000;
    p->call_byte_ps = call.per_byte_ns * 1000;
    p->flusher = engine;
}

/* The scatter of requests around the middle of their shape; those shapes that take longest would
 * bring theirs to all, so only the faster half has a say. */
static int fit_residuals(salvo_probing *p)
{
    size_t room = 0, count = 0;
    double middle[PROBE_SHAPES];
    for (size_t i = 0; i < p->shape_count; i++) {
        room += p->shapes[i].count;
        middle[i] = p->shapes[i].model_ns;
    }
    int64_t *all = salvo_cli_alloc((room + 1) * sizeof *all);
    p->stalls = salvo_cli_alloc((room + 1) * sizeof *p->stalls);
    for (size_t i = 0; i < p->shape_count; i++) {
        const salvo_probe_shape *s = &p->shapes[i];
        size_t faster = 0;
        for (size_t k = 0; k < p->shape_count; k++)
            faster += middle[k] < middle[i];
        p->observed_ns += s->wall_ns;
        for (size_t k = 0; k < s->count; k++) {
            double excess = (double)s->service_ns[k] - s->median_ns;
            if (excess > STALL_NS && excess > 10 * s->median_ns)
                p->stalls[p->stall_count++] = (int64_t)excess;
            else if (2 * faster <= p->shape_count)
                all[count++] = (int64_t)excess;
        }
    }
    if (count != 0)
        salvo_fit_quantiles(all, count, p->residual, PROBE_TABLE);
    free(all);
    return count != 0 ? 0 : CLI_FAILED;
}

static void fit_errors(salvo_probing *p)
{
    int64_t errors[PROBE_SHAPES];
    for (size_t i = 0; i < p->shape_count; i++) {
        salvo_probe_shape *s = &p->shapes[i];
        s->model_ns = salvo_fit_ns(&p->service, (double)s->records * s->value_bytes, s->records);
        errors[i] = llround(fabs(s->model_ns / s->median_ns - 1) * 10000);
    }
    salvo_fit_quantiles(errors, p->shape_count, NULL, 0);
    p->errors[0] = salvo_fit_percentile(errors, p->shape_count, 50) / 100;
    p->errors[1] = salvo_fit_percentile(errors, p->shape_count, 90) / 100;
    p->errors[2] = salvo_fit_percentile(errors, p->shape_count, 100) / 100;
}

int salvo_probing_fit_requests(salvo_probing *p)
{
    size_t kept = 0;
    for (size_t i = 0; i < p->shape_count; i++) {
        salvo_probe_shape *s = &p->shapes[i];
        if (s->count == 0) {
            free(s->service_ns);
            continue;
        }
        salvo_fit_quantiles(s->service_ns, s->count, NULL, 0);
        s->median_ns = at_least(salvo_fit_percentile(s->service_ns, s->count, 50), 1);
        p->shapes[kept++] = *s;
    }
    p->shape_count = kept;
    fit_sums(p, median_of, 0, &p->service);
    fit_sums(p, thread_of, 1, &p->thread);
    fit_sums(p, library_of, LIBRARY_LEAST_NS, &p->library);
    if (p->on_host)
        fit_sums(p, host_of, HOST_LEAST_NS, &p->host);
    double sum = 0;
    for (size_t i = 0; i < PROBE_NAPS; i++)
        sum += (double)p->naps[i];
    p->overshoot_mean_ns = sum / PROBE_NAPS;
    salvo_fit_quantiles(p->naps, PROBE_NAPS, p->overshoot, OVERSHOOT_STEPS);
    fit_errors(p);
    if (kept >= 3 && fit_residuals(p) == 0)
        return 0;
    salvo_cli_say("probe: %llu requests failed (%s): too few are left for a model",
                  (unsigned long long)p->failed, salvo_strerror(p->failed_status));
    return CLI_FAILED;
}

/* Bytes and records of requests that are served together share a disk and cores: how much dearer
 * they are then, at most as many times as there are servers. */
static double dearer(const salvo_probing *p, const salvo_fit_flow *flows, size_t count,
                     const salvo_fit_client *client)
{
    double best = 1, least = INFINITY;
    for (double by = 1; by <= p->window.servers; by *= 1.1) {
        salvo_fit_cost service = {p->service.base_ns - p->pushed_ns, p->service.per_byte_ns * by,
                                  p->service.per_record_ns * by};
        double sum = 0;
        for (size_t i = 0; i < count; i++)
            sum += fabs(log(salvo_fit_rate(&flows[i], &service, client, p->window.window,
                                           p->window.servers) / flows[i].per_s));
        if (sum < least * 0.99) {
            least = sum;
            best = by;
        }
    }
    return best;
}

/* What the settings allow on a connection: librdkafka with idempotence 5, in order without it 1. */
static uint32_t most_in_flight(const salvo_probing *p)
{
    const char *own = salvo_config_get(p->config, "rdkafka.max.in.flight.requests.per.connection");
    const char *idempotence = salvo_config_get(p->config, "kafka_enable_idempotence");
    if (strcmp(p->driver, "kafka") != 0)
        return UINT32_MAX;
    uint32_t most = idempotence != NULL && strcmp(idempotence, "true") == 0 ? 5 : 1;
    uint32_t asked = own != NULL ? (uint32_t)strtoul(own, NULL, 10) : 0;
    return asked != 0 && (asked < most || most == 1) ? asked : most;
}

/* One cost from the flows of one batch a request: of each size the one with most in flight, where
 * threads sleep less than between single requests. Too few sizes: what the grid told remains. */
static void fit_load(const salvo_probing *p, double (*of)(const salvo_fit_flow *), double least,
                     salvo_fit_cost *cost)
{
    salvo_fit_point points[PROBE_FLOWS];
    size_t n = 0;
    for (size_t i = 0; i < p->flow_count; i++) {
        const salvo_fit_flow *f = &p->flows[i], *next = i + 1 < p->flow_count ? f + 1 : NULL;
        if (f->batches > 1 || (next != NULL && next->bytes == f->bytes &&
                               next->records == f->records))
            continue;
        points[n++] = (salvo_fit_point){f->bytes, f->records, at_least(of(f), least)};
    }
    if (n >= 3)
        (void)salvo_fit_request(points, n, cost);
}

static double thread_load(const salvo_fit_flow *f)
{
    return f->thread_ns;
}

static double library_load(const salvo_fit_flow *f)
{
    return f->library_ns;
}

static double host_load(const salvo_fit_flow *f)
{
    return f->host_ns;
}

/* Part of what a request costs is each batch's in it, part its own: told by the flow of requests
 * of many batches. This thread's part of a request is counted with the library's. */
static void split_requests(salvo_probing *p)
{
    double batch, request;
    for (size_t i = 0; i < p->flow_count; i++) {
        const salvo_fit_flow *f = &p->flows[i];
        double m = f->batches;
        if (f->batches == 1)
            continue;
        double rest = salvo_fit_ns(&p->library, f->bytes / m, f->records / m) - p->library.base_ns;
        salvo_fit_split(p->library.base_ns, f->library_ns / m - rest, m, &batch, &request);
        p->library.base_ns = batch;
        p->library_request_ns = request;
        rest = salvo_fit_ns(&p->thread, f->bytes / m, f->records / m) - p->thread.base_ns;
        salvo_fit_split(p->thread.base_ns, f->thread_ns / m - rest, m, &batch, &request);
        p->thread.base_ns = batch;
        p->library_request_ns += request;
        return;
    }
}

static int by_value(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* How much sooner a request is answered that the library was hurried to send: flows of one in
 * flight are, the grid's requests are not. */
static double pushed(const salvo_probing *p)
{
    double sooner[PROBE_FLOWS];
    size_t n = 0;
    for (size_t i = 0; i < p->flow_count; i++) {
        const salvo_fit_flow *f = &p->flows[i];
        if (f->in_flight == 1 && f->batches == 1)
            sooner[n++] = salvo_fit_ns(&p->service, f->bytes, f->records) -
                          (1e9 / f->per_s - f->thread_ns);
    }
    if (n == 0)
        return 0;
    qsort(sooner, n, sizeof *sooner, by_value);
    double most = p->service.base_ns * 0.9, middle = sooner[n / 2];
    return middle < 0 ? 0 : middle > most ? most : middle;
}

static void fit_sweep(salvo_probing *p, const salvo_fit_client *client)
{
    salvo_fit_cost service = p->service;
    double sum = 0;
    service.base_ns -= p->pushed_ns;
    for (size_t i = 0; i < p->flow_count; i++) {
        p->flow_model[i] = salvo_fit_rate(&p->flows[i], &service, client, p->window.window,
                                          p->window.servers);
        sum += fabs(log(p->flow_model[i] / p->flows[i].per_s));
    }
    p->window.error = p->flow_count != 0 ? sum / (double)p->flow_count : 0;
}

/* Window and servers from the small requests, which are latency; then bytes from the large. */
void salvo_probing_fit_flows(salvo_probing *p)
{
    size_t small = 0;
    fit_load(p, thread_load, 1, &p->thread);
    fit_load(p, library_load, LIBRARY_LEAST_NS, &p->library);
    if (p->on_host)
        fit_load(p, host_load, HOST_LEAST_NS, &p->host);
    p->pushed_ns = p->bursts ? pushed(p) : 0;
    split_requests(p);
    fit_engine(p);
    salvo_fit_client client = {.thread = p->thread, .library = p->library,
                               .request_ns = p->library_request_ns};
    while (small < p->flow_count && p->flows[small].bytes <= p->flows[0].bytes)
        small++;
    salvo_fit_cost service = p->service;
    service.base_ns -= p->pushed_ns;
    p->window = salvo_fit_flows(p->flows, small, &service, &client, most_in_flight(p));
    if (small < p->flow_count) {
        double by = dearer(p, p->flows + small, p->flow_count - small, &client);
        p->service.per_byte_ns *= by;
        p->service.per_record_ns *= by;
        fit_errors(p);
    }
    fit_sweep(p, &client);
    (void)salvo_noise_residuals(&p->noise, p->residual); /* none: the grid's remain */
}

/* ---- JSON ---- */

static json_t *whole(double value)
{
    return json_integer(value > 0 ? (json_int_t)llround(value) : 0);
}

static json_t *table_of(const int64_t *values, size_t count)
{
    json_t *array = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(array, json_integer(values[i]));
    return array;
}

static int add_setting(const salvo_config_entry *entry, void *context)
{
    if (strcmp(entry->source, "default") != 0)
        json_object_set_new(context, entry->key, json_string(entry->value));
    return 0;
}

static json_t *cost_of(const salvo_fit_cost *c)
{
    return json_pack("{so so so}", "batch_ns", whole(c->base_ns), "record_ps",
                     whole(c->per_record_ns * 1000), "byte_ps", whole(c->per_byte_ns * 1000));
}

static json_t *service_of(const salvo_probing *p)
{
    double base = at_least(p->service.base_ns - p->overshoot_mean_ns, p->service.base_ns / 10);
    double sooner = p->pushed_ns < base * 0.9 ? p->pushed_ns : base * 0.9;
    return json_pack("{so so so so so}", "base_ns", whole(at_least(base, 1)), "pushed_ns",
                     whole(sooner), "per_byte_ps", whole(p->service.per_byte_ns * 1000),
                     "per_record_ps", whole(p->service.per_record_ns * 1000), "residual_ns",
                     table_of(p->residual, PROBE_TABLE));
}

static json_t *measured_of(const salvo_probing *p)
{
    uint64_t low[3] = {UINT64_MAX, UINT64_MAX, 1}, high[3] = {0, 0, 1};
    for (size_t i = 0; i < p->shape_count; i++) {
        uint64_t values[2] = {(uint64_t)p->shapes[i].records * p->shapes[i].value_bytes,
                              p->shapes[i].records};
        for (int k = 0; k < 2; k++) {
            low[k] = values[k] < low[k] ? values[k] : low[k];
            high[k] = values[k] > high[k] ? values[k] : high[k];
        }
    }
    for (size_t i = 0; i < p->flow_count; i++)
        high[2] = p->flows[i].in_flight > high[2] ? p->flows[i].in_flight : high[2];
    return json_pack("{s[II] s[II] s[II]}", "bytes", (json_int_t)low[0], (json_int_t)high[0],
                     "records", (json_int_t)low[1], (json_int_t)high[1], "in_flight",
                     (json_int_t)low[2], (json_int_t)high[2]);
}

static json_t *ramp_of(const salvo_probing *p)
{
    json_t *array = json_array();
    for (size_t i = 0; i < p->step_count; i++) {
        const salvo_probe_step *s = &p->steps[i];
        json_array_append_new(
            array, json_pack("{so so sI sI}", "offered_per_s", whole(s->offered_per_s),
                             "acknowledged_per_s", whole(s->acknowledged_per_s), "p50_ns",
                             (json_int_t)s->p50_ns, "p99_ns", (json_int_t)s->p99_ns));
    }
    return array;
}

static json_t *client_of(const salvo_probing *p)
{
    json_t *flusher = cost_of(&p->flusher), *library = cost_of(&p->library);
    json_object_set_new(flusher, "round_ns", whole(p->round_ns));
    json_object_set_new(library, "request_ns", whole(p->library_request_ns));
    return json_pack("{si so so so s{so so} so}", "cores", (int)salvo_load_cores(), "flusher",
                     flusher, "submit", cost_of(&p->thread), "library", library, "send", "call_ps",
                     whole(p->call_ps), "byte_ps", whole(p->call_byte_ps), "overshoot_ns",
                     table_of(p->overshoot, OVERSHOOT_STEPS));
}

static json_t *times_of(double how_often, const char *name, int64_t *values, size_t count)
{
    int64_t lengths[STALL_STEPS];
    salvo_fit_quantiles(values, count, lengths, STALL_STEPS);
    return json_pack("{so so}", name, whole(how_often), "duration_ns",
                     table_of(lengths, STALL_STEPS));
}

static salvo_fit_pause_rates pause_rates(const salvo_probing *p)
{
    salvo_fit_watch watches[PROBE_WATCHES];
    for (size_t i = 0; i < p->watch_count; i++) {
        const salvo_probe_watch *w = &p->watches[i];
        double each = salvo_fit_ns(&p->service, w->bytes, w->records) - p->pushed_ns;
        double busy_ns = fmin(w->requests * fmax(each, 0), w->wall_ns);
        watches[i] = (salvo_fit_watch){w->wall_ns, w->busy ? w->wall_ns : busy_ns,
                                       w->requests * w->bytes, w->pauses};
    }
    return salvo_fit_pauses(watches, p->watch_count);
}

/* Stalls of single requests, and pauses that came with time; apart from those with load. */
static void add_rests(const salvo_probing *p, json_t *model)
{
    salvo_fit_pause_rates rates = pause_rates(p);
    size_t paused = p->noise.pause_count, count = p->stall_count;
    int64_t *all = salvo_cli_alloc((count + paused + 1) * sizeof *all);
    double per_hour = (double)count * HOUR_NS / at_least((double)p->observed_ns, 1);
    for (size_t i = 0; i < count; i++)
        all[i] = p->stalls[i];
    for (size_t i = 0; i < paused && rates.per_ns > 0; i++)
        all[count++] = p->noise.pauses_ns[i];
    if (count != 0)
        json_object_set_new(model, "stalls", times_of(per_hour + rates.per_ns * HOUR_NS,
                                                      "per_hour", all, count));
    if (paused != 0 && rates.per_byte + rates.per_busy_ns > 0) {
        json_t *pauses = times_of(rates.per_byte * TIB, "per_tib", p->noise.pauses_ns, paused);
        json_object_set_new(pauses, "per_busy_hour", whole(rates.per_busy_ns * HOUR_NS));
        json_object_set_new(model, "pauses", pauses);
    }
    free(all);
}

static void add_pace(const salvo_probing *p, json_t *model)
{
    json_t *permille = json_array();
    for (size_t i = 0; i < p->noise.pace_count; i++)
        json_array_append_new(permille, json_integer(p->noise.pace_permille[i]));
    if (p->noise.pace_count != 0)
        json_object_set_new(model, "pace", json_pack("{sI sO}", "slice_ns",
                                                     (json_int_t)NOISE_SLICE_NS, "permille",
                                                     permille));
    json_decref(permille);
}

static json_t *at_work(const salvo_probe_load *l)
{
    return json_pack("{so so so so so}", "messages_per_s", whole(l->rate), "send_permille",
                     whole(l->send * 1000), "flusher_permille", whole(l->flusher * 1000),
                     "library_permille", whole(l->library * 1000), "broker_permille",
                     whole(l->broker * 1000));
}

json_t *salvo_probing_model(const salvo_probing *p)
{
    char made_at[32], name[40]; /* no address: a plan bears the name, and is shown to others */
    time_t now = time(NULL);
    struct tm utc;
    strftime(made_at, sizeof made_at, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    json_t *settings = json_object(), *machine = salvo_result_machine("tsc");
    salvo_config_each(p->config, add_setting, settings);
    snprintf(name, sizeof name, "%s, measured", p->driver);
    json_t *model = json_pack(
        "{ss si ss ss ss so so so si si si si si so so}", "format", "salvo-broker-model",
        "version", 1, "name", name, "driver", p->driver, "made_at", made_at, "machine", machine,
        "steal_permille", whole(p->steal_percent * 10), "settings", settings,
        "brokers", (int)p->brokers, "partitions", (int)p->partitions,
        "connections", (int)p->brokers, "window", (int)p->window.window,
        "servers", (int)p->window.servers, "service", service_of(p), "measured", measured_of(p));
    add_rests(p, model);
    add_pace(p, model);
    json_object_set_new(
        model, "limit",
        json_pack("{sb so so so}", "reached", p->limit_met, "messages_per_s",
                  whole(p->limit.acknowledged_per_s), "bytes_per_s",
                  whole(p->limit.acknowledged_per_s * p->value_bytes), "requests_per_s",
                  whole(p->limit.requests_per_s)));
    json_object_set_new(model, "fit",
                        json_pack("{si so so so}", "points", (int)p->shape_count,
                                  "error_percent_p50", whole(p->errors[0]), "error_percent_p90",
                                  whole(p->errors[1]), "error_percent_max", whole(p->errors[2])));
    json_object_set_new(model, "sweep", ramp_of(p));
    json_object_set_new(model, "client", client_of(p));
    if (p->load.rate > 0)
        json_object_set_new(model, "at_work", at_work(&p->load));
    if (p->on_host)
        json_object_set_new(model, "on_host", cost_of(&p->host));
    return model;
}
