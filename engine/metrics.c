/* SPDX-License-Identifier: Apache-2.0
 *
 * The text of metrics, in two dialects that differ in little: OpenMetrics names a counter's family
 * without _total, has units, infos, state sets and an end; Prometheus' text format has gauges for
 * the middle two. Families are whole, as both demand: all producers of one, then the next.
 *
 * Buckets of a histogram are counted at the histogram's own bounds: a value up to 1 part in 128
 * above a bucket's bound counts below it. _count is the last bucket.
 */
#include "metrics.h"

#include <inttypes.h>
#include <salvo/version.h>
#include <string.h>

typedef struct writer {
    FILE *to;
    const salvo_metrics_source *sources;
    size_t count;
    bool open; /* OpenMetrics */
} writer;

/* A label's value: quotes and backslashes escaped, anything but printable ASCII a "?". */
static void put_text(const writer *w, const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\')
            fputc('\\', w->to);
        fputc(*text >= ' ' && *text <= '~' ? *text : '?', w->to);
    }
}

static void put_label(const writer *w, const char *name, const char *value)
{
    fprintf(w->to, "%s=\"", name);
    put_text(w, value);
    fputc('"', w->to);
}

/* "name{labels of the producer": more labels may follow. */
static void put_name(const writer *w, const char *name, const char *suffix,
                     const salvo_metrics_source *s)
{
    fprintf(w->to, "%s%s{", name, suffix);
    put_label(w, "producer", s->id);
    fprintf(w->to, ",pid=\"%" PRId64 "\",", s->info.pid);
    put_label(w, "program", s->info.program);
    fputc(',', w->to);
    put_label(w, "client_id", s->info.client_id);
    fputc(',', w->to);
    put_label(w, "driver", s->info.driver);
}

static void more_label(const writer *w, const char *name, const char *value)
{
    fputc(',', w->to);
    put_label(w, name, value);
}

static bool ends_in(const char *name, const char *end)
{
    size_t a = strlen(name), b = strlen(end);
    return a > b && strcmp(name + a - b, end) == 0;
}

/* suffix: of the samples where they are not called as the family, "" else. */
static void begin(const writer *w, const char *name, const char *type, const char *suffix,
                  const char *help)
{
    const char *plain = strcmp(type, "info") == 0 || strcmp(type, "stateset") == 0 ? "gauge"
                                                                                  : type;
    suffix = w->open ? "" : suffix;
    fprintf(w->to, "# TYPE %s%s %s\n", name, suffix, w->open ? type : plain);
    if (w->open && ends_in(name, "_seconds"))
        fprintf(w->to, "# UNIT %s seconds\n", name);
    if (w->open && ends_in(name, "_bytes"))
        fprintf(w->to, "# UNIT %s bytes\n", name);
    fprintf(w->to, "# HELP %s%s %s\n", name, suffix, help);
}

typedef struct field { /* a number of the statistics or of a ledger */
    const char *name;
    const char *label; /* with `by`: its value, and the family is that of the line before */
    const char *help;
    size_t at;
} field;

#define LEDGER(name, help, member) {name, NULL, help, offsetof(salvo_ledger, member)}
#define REFUSED(reason, member) {NULL, reason, NULL, offsetof(salvo_ledger, member)}
static const field ledger_counters[] = {
    LEDGER("salvo_messages_offered", "Messages that were offered.", offered),
    LEDGER("salvo_messages_accepted", "Messages that were accepted.", accepted),
    LEDGER("salvo_messages_acknowledged", "Messages that the broker acknowledged.", acknowledged),
    LEDGER("salvo_messages_failed", "Accepted messages that failed for good.", failed),
    LEDGER("salvo_messages_maybe_delivered", "Those of the failed whose fate is unknown.",
           maybe_delivered),
    LEDGER("salvo_messages_expired", "Accepted messages whose time ran out.", expired),
    LEDGER("salvo_messages_dropped", "Accepted messages given up at close.", dropped),
    {"salvo_messages_refused", "full", "Messages that were refused, by reason.",
     offsetof(salvo_ledger, refused_full)},
    REFUSED("dropped", refused_dropped),
    REFUSED("timeout", refused_timeout),
    REFUSED("too_large", refused_too_large),
    REFUSED("invalid", refused_invalid),
};

#define STATS(name, help, member) {name, NULL, help, offsetof(salvo_stats, member)}
#define CLOSED(reason, member) {NULL, reason, NULL, offsetof(salvo_stats, member)}
static const field counters[] = {
    STATS("salvo_batches", "Batches that were closed.", batches),
    {"salvo_batches_closed", "bytes", "Batches that were closed, by reason.",
     offsetof(salvo_stats, closed_by_bytes)},
    CLOSED("count", closed_by_count),
    CLOSED("linger", closed_by_linger),
    CLOSED("waiter", closed_by_waiter),
    STATS("salvo_batch_retries", "Batches that the engine submitted again.", retries),
    STATS("salvo_driver_reopens", "Fatal errors of the driver, mended by opening again.", reopens),
    STATS("salvo_broker_errors", "Transient errors of the broker.", broker_errors),
    STATS("salvo_stalled_claims", "Claims left uncommitted for claim_stall_ms.", stalled_claims),
};
static const field gauges[] = {
    STATS("salvo_memory_bytes", "Memory that was computed at open.", memory_bytes),
    STATS("salvo_ring_bytes", "Room of the rings.", ring_bytes),
    STATS("salvo_ring_used_bytes", "Room of the rings that is used.", ring_used_bytes),
    STATS("salvo_arena_bytes", "Room for batches.", arena_bytes),
    STATS("salvo_arena_used_bytes", "Room for batches that is used.", arena_used_bytes),
    STATS("salvo_in_flight_messages", "Messages at the driver.", in_flight_messages),
    STATS("salvo_in_flight_batches", "Batches at the driver.", in_flight_batches),
    STATS("salvo_reports_waiting", "Delivery reports that nobody took yet.", reports_waiting),
};
static const field small_gauges[] = { /* 32 bits */
    STATS("salvo_rings", "Rings.", rings),
    STATS("salvo_flushers", "Flusher threads.", flushers),
    STATS("salvo_topics", "Topics that were opened.", topics),
    STATS("salvo_threads", "Places of sending threads.", threads),
};
#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static uint64_t at(const void *base, size_t offset)
{
    uint64_t value;
    memcpy(&value, (const char *)base + offset, sizeof value);
    return value;
}

/* fields[0] begins a family; how many fields belong to it. */
static size_t family_of(const field *fields, size_t count)
{
    size_t n = 1;
    while (n < count && fields[n].name == NULL)
        n++;
    return n;
}

static void put_ledgers(const writer *w, const field *f, size_t n, const char *type,
                        const char *suffix)
{
    begin(w, f->name, type, suffix, f->help);
    for (size_t i = 0; i < w->count; i++)
        for (size_t t = 0; t < w->sources[i].topic_count; t++)
            for (size_t k = 0; k < n; k++) {
                put_name(w, f->name, suffix, &w->sources[i]);
                more_label(w, "topic", w->sources[i].topics[t].name);
                if (f[k].label != NULL)
                    more_label(w, "reason", f[k].label);
                fprintf(w->to, "} %" PRIu64 "\n", at(&w->sources[i].topics[t].ledger, f[k].at));
            }
}

static void put_stats(const writer *w, const field *f, size_t n, const char *type,
                      const char *suffix, bool small)
{
    begin(w, f->name, type, suffix, f->help);
    for (size_t i = 0; i < w->count; i++)
        for (size_t k = 0; k < n && w->sources[i].known; k++) {
            const char *base = (const char *)&w->sources[i].stats;
            uint32_t value;
            put_name(w, f->name, suffix, &w->sources[i]);
            if (f[k].label != NULL)
                more_label(w, "reason", f[k].label);
            memcpy(&value, base + f[k].at, sizeof value);
            fprintf(w->to, "} %" PRIu64 "\n", small ? value : at(base, f[k].at));
        }
}

static void put_seconds(const writer *w, const char *name, const char *help,
                        double (*value)(const salvo_metrics_source *s))
{
    begin(w, name, "gauge", "", help);
    for (size_t i = 0; i < w->count; i++) {
        put_name(w, name, "", &w->sources[i]);
        fprintf(w->to, "} %.3f\n", value(&w->sources[i]));
    }
}

static double started(const salvo_metrics_source *s)
{
    return (double)s->info.started_at_ms / 1e3;
}

static double updated(const salvo_metrics_source *s)
{
    return (double)(s->known ? s->info.updated_at_ms : s->info.started_at_ms) / 1e3;
}

static double stalled(const salvo_metrics_source *s)
{
    return s->known ? (double)s->stats.stalled_since_ns / 1e9 : 0;
}

static void put_producers(const writer *w)
{
    begin(w, "salvo_build", "info", "_info", "The version that writes this.");
    fprintf(w->to, "salvo_build_info{version=\"%s\"} 1\n", salvo_version());
    begin(w, "salvo_producer", "info", "_info", "What a producer is.");
    for (size_t i = 0; i < w->count; i++) {
        put_name(w, "salvo_producer", "_info", &w->sources[i]);
        more_label(w, "version", w->sources[i].info.version);
        more_label(w, "clock", w->sources[i].known ? w->sources[i].stats.clock : "");
        fprintf(w->to, "} 1\n");
    }
    begin(w, "salvo_producer_up", "gauge", "", "1: it lives. 0: it ended without closing.");
    for (size_t i = 0; i < w->count; i++) {
        put_name(w, "salvo_producer_up", "", &w->sources[i]);
        fprintf(w->to, "} %d\n", w->sources[i].info.alive != 0);
    }
    put_seconds(w, "salvo_producer_start_time_seconds", "Unix time of its opening.", started);
    put_seconds(w, "salvo_producer_update_time_seconds", "Unix time of these numbers.", updated);
    put_seconds(w, "salvo_claim_stalled_seconds", "Since when a claim holds up a ring; 0: none.",
                stalled);
}

/* Drivers begin their state with one of these. */
static void put_broker_state(const writer *w)
{
    static const char *const states[] = {"up", "connecting", "blocked", "down", "other"};
    enum { OTHER = COUNT(states) - 1 };
    begin(w, "salvo_broker_state", "stateset", "", "How the driver sees its broker.");
    for (size_t i = 0; i < w->count; i++) {
        size_t is = 0;
        if (!w->sources[i].known)
            continue;
        while (is < OTHER && strncmp(w->sources[i].stats.broker_state, states[is],
                                     strlen(states[is])) != 0)
            is++;
        for (size_t k = 0; k < COUNT(states); k++) {
            put_name(w, "salvo_broker_state", "", &w->sources[i]);
            more_label(w, "salvo_broker_state", states[k]);
            fprintf(w->to, "} %d\n", k == is);
        }
    }
}

static uint64_t at_least(uint64_t value, uint64_t least)
{
    return value > least ? value : least;
}

/* 1, 2, 5 from 1 us to 50 s. In order even where a damaged file's counts wrap: one producer must
 * not spoil the text of all. */
static void put_buckets(const writer *w, const salvo_metrics_source *s, const char *stage,
                        const salvo_histogram *h)
{
    static const char *const name = "salvo_stage_latency_seconds";
    static const unsigned steps[] = {1, 2, 5};
    uint64_t unit_ns = 1000, all = salvo_histogram_count(h), upto = 0;
    for (int decade = 0; decade < 8; decade++, unit_ns *= 10)
        for (int i = 0; i < 3; i++) {
            char text[32];
            uint64_t ns = unit_ns * steps[i];
            snprintf(text, sizeof text, ns < 1000000000 ? "%g" : "%.1f", (double)ns / 1e9);
            put_name(w, name, "_bucket", s);
            more_label(w, "stage", stage);
            upto = at_least(salvo_histogram_upto(h, ns), upto);
            fprintf(w->to, ",le=\"%s\"} %" PRIu64 "\n", text, upto);
        }
    all = at_least(all, upto);
    put_name(w, name, "_bucket", s);
    more_label(w, "stage", stage);
    fprintf(w->to, ",le=\"+Inf\"} %" PRIu64 "\n", all);
    put_name(w, name, "_count", s);
    more_label(w, "stage", stage);
    fprintf(w->to, "} %" PRIu64 "\n", all);
    put_name(w, name, "_sum", s);
    more_label(w, "stage", stage);
    fprintf(w->to, "} %.9f\n", (double)salvo_histogram_sum(h) / 1e9);
}

static void put_stages(const writer *w)
{
    static const char *const names[SALVO_STAGES] = {"enqueue", "queue", "broker", "total"};
    begin(w, "salvo_stage_latency_seconds", "histogram", "",
          "Time of messages in a stage: enqueue (sampled), queue, broker, total.");
    for (size_t i = 0; i < w->count; i++)
        for (int stage = 0; stage < SALVO_STAGES; stage++)
            if (w->sources[i].stages[stage] != NULL)
                put_buckets(w, &w->sources[i], names[stage], w->sources[i].stages[stage]);
}

int salvo_metrics_render(const salvo_metrics_source *sources, size_t count,
                         salvo_metrics_format format, FILE *stream)
{
    static const field pending =
        LEDGER("salvo_messages_pending", "Accepted messages without an outcome.", pending);
    const writer w = {stream, sources, count, format == SALVO_METRICS_OPENMETRICS};
    size_t n;
    put_producers(&w);
    put_broker_state(&w);
    for (size_t i = 0; i < COUNT(ledger_counters); i += n) {
        n = family_of(&ledger_counters[i], COUNT(ledger_counters) - i);
        put_ledgers(&w, &ledger_counters[i], n, "counter", "_total");
    }
    put_ledgers(&w, &pending, 1, "gauge", "");
    for (size_t i = 0; i < COUNT(counters); i += n) {
        n = family_of(&counters[i], COUNT(counters) - i);
        put_stats(&w, &counters[i], n, "counter", "_total", false);
    }
    for (size_t i = 0; i < COUNT(gauges); i++)
        put_stats(&w, &gauges[i], 1, "gauge", "", false);
    for (size_t i = 0; i < COUNT(small_gauges); i++)
        put_stats(&w, &small_gauges[i], 1, "gauge", "", true);
    put_stages(&w);
    if (w.open)
        fputs("# EOF\n", stream);
    return fflush(stream) == 0 && !ferror(stream) ? 0 : SALVO_ERR_IO;
}
