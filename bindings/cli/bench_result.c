/* SPDX-License-Identifier: Apache-2.0
 *
 * A run as a result (docs/formats.md). What was offered and has no value in a column counts there
 * as infinite, so nothing that was lost can make a percentile look better.
 */
#include "bench.h"
#include "load_result.h"

#include <string.h>
#include <time.h>

#define RELAXED memory_order_relaxed

typedef struct totals {
    uint64_t offered, accepted, refused, bytes, stamped, acknowledged, failed, consumed;
    uint64_t last_accepted_ns, last_acknowledged_ns, call_ns;
} totals;

static void later(uint64_t *last, const _Atomic uint64_t *ns)
{
    uint64_t value = atomic_load_explicit(ns, RELAXED);
    *last = value > *last ? value : *last;
}

static totals sum_up(salvo_bench_run *run)
{
    totals t = {0};
    for (unsigned i = 0; i < BENCH_SLOTS_MOST; i++) {
        salvo_bench_slot *slot = salvo_bench_slot_at(run, i);
        if (!slot)
            continue;
        t.offered += atomic_load_explicit(&slot->offered, RELAXED);
        t.accepted += atomic_load_explicit(&slot->accepted, RELAXED);
        t.refused += atomic_load_explicit(&slot->refused, RELAXED);
        t.bytes += atomic_load_explicit(&slot->bytes, RELAXED);
        t.stamped += atomic_load_explicit(&slot->stamped, RELAXED);
        t.acknowledged += atomic_load_explicit(&slot->acknowledged, RELAXED);
        t.failed += atomic_load_explicit(&slot->failed, RELAXED);
        t.consumed += atomic_load_explicit(&slot->consumed, RELAXED);
        later(&t.last_accepted_ns, &slot->last_accepted_ns);
        later(&t.last_acknowledged_ns, &slot->last_acknowledged_ns);
        if (slot->columns[BENCH_CALL])
            t.call_ns += salvo_histogram_sum(slot->columns[BENCH_CALL]);
    }
    return t;
}

/* With what the trace says that it has not. */
static void add_trace(json_t *load, const salvo_bench_options *o)
{
    const salvo_load *l = &o->load;
    json_object_set_new(load, "trace", json_string(o->trace));
    if (l->trace_one_of > 1)
        json_object_set_new(load, "trace_one_of", json_integer((json_int_t)l->trace_one_of));
    if (l->trace_lost > 0)
        json_object_set_new(load, "trace_lost", json_integer((json_int_t)l->trace_lost));
    if (l->trace_truncated)
        json_object_set_new(load, "trace_truncated", json_true());
}

json_t *salvo_bench_load_json(const salvo_bench_options *o, int partitions)
{
    const salvo_load *l = &o->load;
    json_t *load = json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:i, s:I}", "rate", l->rate_text,
                             "arrivals", l->arrivals_text, "size", l->size_text, "payload",
                             l->payload_text, "keys", l->keys_text, "threads",
                             (json_int_t)o->threads, "topics", (json_int_t)o->topics,
                             "partitions", partitions, "seed", (json_int_t)l->seed);
    char topic[256];
    salvo_bench_topic_name(o, 0, topic, sizeof topic);
    if (load && o->schedule)
        json_object_set_new(load, "schedule", json_string(o->schedule));
    if (load && o->trace)
        add_trace(load, o);
    if (load && !o->write_schedule) /* which would not be the same twice */
        json_object_set_new(load, "topic", json_string(topic));
    return load;
}

static int add_setting(const salvo_config_entry *entry, void *context)
{
    if (strcmp(entry->source, "default") != 0)
        json_object_set_new(context, entry->key, json_string(entry->value));
    return 0;
}

/* Without the first message to each topic, which is no load. */
static json_t *ledger_json(const salvo_bench_run *run)
{
    const salvo_ledger *l = &run->ledger;
    json_int_t first = (json_int_t)run->options->topics;
    uint64_t other = l->refused_timeout + l->refused_too_large + l->refused_invalid +
                     l->refused_dropped;
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "offered",
                     (json_int_t)l->offered - first, "accepted", (json_int_t)l->accepted - first,
                     "refused_full", (json_int_t)l->refused_full, "refused_other",
                     (json_int_t)other, "acknowledged", (json_int_t)l->acknowledged - first,
                     "failed", (json_int_t)l->failed, "maybe_delivered",
                     (json_int_t)l->maybe_delivered, "expired", (json_int_t)l->expired, "dropped",
                     (json_int_t)l->dropped, "pending", (json_int_t)l->pending);
}

/* run->before has every column's final counts. */
static json_t *columns_json(const salvo_bench_run *run, const totals *t)
{
    json_t *columns = json_object();
    for (int c = 0; c < BENCH_SHOWN; c++) {
        uint64_t of = c == BENCH_CONSUMED ? t->stamped : t->offered;
        uint64_t finite = salvo_histogram_count(run->before[c]);
        if (c == BENCH_CONSUMED && !run->options->consume)
            continue;
        json_object_set_new(columns, salvo_bench_columns[c],
                            salvo_result_histogram(run->before[c], of > finite ? of - finite : 0));
    }
    return columns;
}

static json_t *stages_json(const salvo_bench_run *run)
{
    static const char *const names[SALVO_STAGES] = {"enqueue", "queue", "broker", "total"};
    json_t *stages = json_object();
    for (int s = 0; s < SALVO_STAGES; s++)
        if (run->stages[s])
            json_object_set_new(stages, names[s], salvo_result_histogram(run->stages[s], 0));
    return stages;
}

static json_t *time_or_null(uint64_t ns)
{
    return ns == SALVO_INFINITE ? json_null() : json_integer((json_int_t)ns);
}

static json_t *over_time_json(const salvo_bench_run *run)
{
    json_t *list = json_array();
    for (size_t i = 0; i < run->slice_count; i++) {
        const salvo_bench_slice *s = &run->slices[i];
        json_array_append_new(list, json_pack("{s:I, s:I, s:I, s:I, s:I, s:o, s:o}", "at_s",
                                              (json_int_t)i, "offered", (json_int_t)s->offered,
                                              "accepted", (json_int_t)s->accepted, "acknowledged",
                                              (json_int_t)s->acknowledged, "refused",
                                              (json_int_t)s->refused, "p50_ns",
                                              time_or_null(s->p50_ns), "p99_ns",
                                              time_or_null(s->p99_ns)));
    }
    return list;
}

/* Messages a second from the end of the warm-up to the last one, or to the end of the load if
 * that is later: a backlog that is worked off afterwards does not count as a rate. */
static double rate(const salvo_bench_run *run, uint64_t count, uint64_t last_ns)
{
    uint64_t begin = run->start_ns + run->warmup_ns, passed = run->duration_ns;
    if (last_ns > begin + passed)
        passed = last_ns - begin;
    return (double)count * 1e9 / (double)passed;
}

/* The engine's share: the process without the generator's threads, but with their calls. */
static double cpu_per_message(const salvo_bench_run *run, const totals *t)
{
    uint64_t calls = t->call_ns < run->own_ns ? t->call_ns : run->own_ns;
    uint64_t others = run->cpu_ns > run->own_ns ? run->cpu_ns - run->own_ns : 0;
    return t->accepted ? (double)(others + calls) / (double)t->accepted : 0;
}

/* The generator's own: drawing, pacing, measuring, without its calls of the engine. */
static double own_cpu_per_message(const salvo_bench_run *run, const totals *t)
{
    uint64_t calls = t->call_ns < run->own_ns ? t->call_ns : run->own_ns;
    return t->offered ? (double)(run->own_ns - calls) / (double)t->offered : 0;
}

static void add_rates(json_t *result, const salvo_bench_run *run, const totals *t)
{
    json_object_set_new(result, "offered_per_s", json_real(rate(run, t->offered, 0)));
    json_object_set_new(result, "accepted_per_s",
                        json_real(rate(run, t->accepted, t->last_accepted_ns)));
    json_object_set_new(result, "acknowledged_per_s",
                        json_real(rate(run, t->acknowledged, t->last_acknowledged_ns)));
    json_object_set_new(result, "bytes_per_s",
                        json_real(rate(run, t->bytes, t->last_accepted_ns)));
    json_object_set_new(result, "cpu_ns_per_message", json_real(cpu_per_message(run, t)));
}

static const char *why_invalid(const salvo_bench_run *run, const totals *t)
{
    if (run->interrupted)
        return "it was interrupted";
    return t->offered == 0 ? "no message was due in the measured part" : NULL;
}

json_t *salvo_bench_result(salvo_bench_run *run)
{
    const salvo_bench_options *o = run->options;
    totals t = sum_up(run);
    char started[32];
    time_t seconds = (time_t)(run->start_unix_ns / 1000000000u);
    struct tm parts;
    strftime(started, sizeof started, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&seconds, &parts));
    json_t *settings = json_object();
    salvo_config_each(run->config, add_setting, settings);
    int partitions = atomic_load_explicit(&run->partition_most, RELAXED) + 1;
    json_t *result = json_pack(
        "{s:s, s:i, s:s, s:s, s:s, s:s, s:s, s:f, s:f, s:i, s:o, s:o, s:o, s:o}", "format",
        "salvo-result", "version", 1, "name", o->name ? o->name : run->driver, "client", "salvo",
        "client_version", salvo_version(), "broker", run->driver, "started_at", started,
        "warmup_s", o->load.warmup_s, "duration_s", o->load.duration_s, "processes", 1,
        "settings", settings, "load", salvo_bench_load_json(o, partitions), "machine",
        salvo_result_machine(run->clock), "ledger", ledger_json(run));
    if (!result)
        return NULL;
    char id[20];
    snprintf(id, sizeof id, "%016llx", (unsigned long long)run->mark);
    json_object_set_new(result, "runs", json_pack("[s]", id));
    add_rates(result, run, &t);
    json_object_set_new(result, "columns", columns_json(run, &t));
    json_object_set_new(result, "stages", stages_json(run));
    json_object_set_new(
        result, "generator",
        json_pack("{s:o, s:o, s:f, s:f}", "lateness",
                  salvo_result_histogram(run->before[BENCH_LATENESS], 0), "hiccups",
                  salvo_result_histogram(run->host.hiccups, 0), "steal_percent",
                  run->steal_percent, "cpu_ns_per_message", own_cpu_per_message(run, &t)));
    const char *why = why_invalid(run, &t);
    json_object_set_new(result, "valid", json_boolean(!why));
    json_object_set_new(result, "invalid_because", why ? json_string(why) : json_null());
    json_object_set_new(result, "over_time", over_time_json(run));
    salvo_result_judge(result);
    return result;
}
