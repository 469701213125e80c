/* SPDX-License-Identifier: Apache-2.0
 *
 * What a plan looks like: a table with pictures for people, JSON, and a core.toml. Nothing here
 * depends on the host or the time, so the same plan is the same bytes.
 */
#include "plan.h"

#include "picture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MIB (UINT64_C(1) << 20)
#define SECOND UINT64_C(1000000000)
enum { BAR = 40, SPARKS = 48 };

static const char *const driver_of_limit[] = {"nothing", "p99", "throughput", "room",
                                              "the delivery deadline", "recovery",
                                              "the consumers"};

const char *salvo_cli_plan_limit_name(salvo_plan_limit limit)
{
    return driver_of_limit[limit];
}

static const char *time_text(uint64_t ns, char text[16])
{
    return ns == UINT64_MAX ? "never" : salvo_picture_time(ns, text);
}

static const char *size_text(uint64_t bytes, char text[24])
{
    if (bytes >= 10240 * MIB)
        snprintf(text, 24, "%llu GiB", (unsigned long long)(bytes / 1024 / MIB));
    else if (bytes >= MIB)
        snprintf(text, 24, "%llu MiB", (unsigned long long)(bytes / MIB));
    else
        snprintf(text, 24, "%llu KiB", (unsigned long long)(bytes / 1024));
    return text;
}

static const char *setting_text(salvo_plan_setting setting, uint64_t value, char text[24])
{
    if (setting == PLAN_BUFFER || setting == PLAN_RING || setting == PLAN_BATCH)
        return size_text(value, text);
    snprintf(text, 24, "%llu", (unsigned long long)value);
    return text;
}

void salvo_cli_plan_edge_text(const salvo_plan_edge *e, char text[PLAN_TEXT])
{
    char is[24], at[24];
    setting_text(e->setting, e->value, is);
    if (e->how != PLAN_FITS)
        snprintf(text, PLAN_TEXT, "%s; breaks at %s: %s", is,
                 setting_text(e->setting, e->breaks_at, at), driver_of_limit[e->how]);
    else if (e->holds == e->value)
        snprintf(text, PLAN_TEXT, "%s; the least there is", is);
    else
        snprintf(text, PLAN_TEXT, "%s; holds %s %s", is,
                 e->holds < e->value ? "down to" : "up to", setting_text(e->setting, e->holds, at));
}

static uint64_t per_s(uint64_t count, uint64_t over_ns)
{
    return over_ns != 0 ? (uint64_t)((unsigned __int128)count * SECOND / over_ns) : 0;
}

/* used of whole as a bar. */
static void bar(const salvo_picture *picture, const char *name, uint64_t used, uint64_t whole,
                const char *text)
{
    uint64_t filled = whole != 0 ? used * BAR / whole : BAR;
    printf("  %-19s ", name);
    for (uint64_t i = 0; i < BAR; i++)
        fputs(i < filled ? (picture->utf8 ? "█" : "#") : (picture->utf8 ? "·" : "."), stdout);
    printf(" %s\n", text);
}

/* Pending messages over the outage's run. */
static void sparks(const salvo_picture *picture, const salvo_plan_result *r)
{
    static const char *const blocks[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
    static const char plain[] = " .:-=+*#";
    uint64_t most = 1;
    char count[28];
    for (uint32_t i = 0; i < r->window_count; i++)
        most = r->windows[i].pending > most ? r->windows[i].pending : most;
    printf("\nmessages that wait, from 1 s before the outage on\n  ");
    for (uint32_t i = 0; i < r->window_count; i++) {
        uint64_t height = r->windows[i].pending * 7 / most;
        if (picture->utf8)
            fputs(blocks[height], stdout);
        else
            putchar(plain[height]);
    }
    printf("  at most %s\n", salvo_picture_count(most, count));
}

static void row(const char *name, const char *value, const char *note)
{
    printf("  %-20s %-14s %s\n", name, value, note);
}

static void row_number(const char *name, uint64_t value, const char *note)
{
    char text[28];
    row(name, salvo_picture_count(value, text), note);
}

static const char *told(bool fixed, const char *else_note)
{
    return fixed ? "as told" : else_note;
}

static void print_settings(const salvo_plan_case *c, const salvo_plan_found *f)
{
    char text[24], note[96], low[24], high[24];
    const salvo_plan_choice *fixed = &c->fixed;
    const salvo_plan_choice *s = &f->choice;
    const salvo_plan_result *r = &f->as_told;
    int n = fixed->buffer_bytes != 0
                ? snprintf(note, sizeof note, "as told")
                : snprintf(note, sizeof note, "%s to %s over %d seeds",
                           size_text(f->buffer_low, low), size_text(f->buffer_high, high),
                           PLAN_SEEDS);
    snprintf(note + n, sizeof note - (size_t)n, "; the engine's tables add to it: %llu MiB",
             (unsigned long long)(r->memory_bytes / MIB));
    printf("\nsettings\n");
    row("buffer_bytes", size_text(s->buffer_bytes, text), note);
    snprintf(note, sizeof note, "%u a flusher: the engine's own choice", r->rings);
    row("ring_bytes", size_text(r->ring_bytes / r->rings / s->flushers, text), note);
    snprintf(text, sizeof text, "%llu", (unsigned long long)s->linger_us);
    row("linger_us", text, told(fixed->linger_us != UINT64_MAX,
                                "the largest within p99: the fewest requests"));
    row("batch_bytes", size_text(s->batch_bytes, text), told(fixed->batch_bytes != 0, ""));
    row_number("flushers", s->flushers, told(fixed->flushers != 0, ""));
    row_number("partitions", s->partitions, "of each topic");
    snprintf(text, sizeof text, "%llu", (unsigned long long)s->delivery_timeout_ms);
    row("delivery_timeout_ms", text, told(fixed->delivery_timeout_ms != 0, ""));
}

static void print_expected(const salvo_plan_case *c, const salvo_plan_found *f)
{
    char text[28], note[96], a[16], b[16], d[16];
    const salvo_plan_result *r = &f->as_told;
    printf("\nexpected at %s/s (simulated: %llu s)\n",
           salvo_picture_count(salvo_cli_plan_rate(c, 1000), text),
           (unsigned long long)(f->as_told_ns / SECOND));
    snprintf(note, sizeof note, "worst 10 s: %s; with 30 %% more: %s to %s",
             time_text(r->worst_p99_ns, a), time_text(f->p99_low_ns, b),
             time_text(f->p99_high_ns, d));
    row("p99", time_text(r->p99_ns, text), note);
    row("p50", time_text(r->p50_ns, text), "");
    row_number("requests/s", per_s(r->requests, f->as_told_ns), "");
    row_number("connections", (uint64_t)f->choice.flushers * c->model.broker.brokers, "");
    snprintf(text, sizeof text, "%llu.%llu %%",
             (unsigned long long)(r->flusher_busy_permille / 10),
             (unsigned long long)(r->flusher_busy_permille % 10));
    row("flusher CPU", text, "of a core");
    snprintf(text, sizeof text, "%llu.%llu %%", (unsigned long long)(r->cores_busy_permille / 10),
             (unsigned long long)(r->cores_busy_permille % 10));
    row("all cores", text, "");
    row_number("refused or late", r->ledger.offered - r->ledger.accepted + r->blocked, "");
}

static void print_cliffs(const salvo_plan_case *c, const salvo_plan_found *f)
{
    static const char *const names[] = {"p99, throughput", "room, recovery"};
    salvo_picture picture = salvo_picture_for(stdout);
    char text[64], a[16], b[16];
    printf("\nhow far from each cliff\n");
    for (size_t i = 0; i < 2; i++) {
        if (i == 1 && c->outage_ns == 0)
            continue;
        uint64_t permille = f->cliff_permille[i];
        if (permille == 0)
            snprintf(text, sizeof text, "no cliff up to 16 times the rate");
        else
            snprintf(text, sizeof text, "breaks at %llu.%02llu times the rate",
                     (unsigned long long)(permille / 1000),
                     (unsigned long long)(permille / 10 % 100));
        bar(&picture, names[i], 1000, permille != 0 ? permille : 16000, text);
    }
    snprintf(text, sizeof text, "%s of %s", time_text(f->as_told.worst_p99_ns, a),
             time_text(c->p99_ns, b));
    bar(&picture, "p99, worst 10 s", f->as_told.worst_p99_ns, c->p99_ns, text);
    if (c->outage_ns != 0) {
        bar(&picture, "room in the outage", f->outage.arena_peak_bytes, f->outage.arena_bytes,
            "with 30 % more messages");
        snprintf(text, sizeof text, "%s of %s, with 30 %% more messages",
                 time_text(f->outage.recovery_ns, a), time_text(c->recovery_ns, b));
        bar(&picture, "recovery", f->outage.recovery_ns, c->recovery_ns, text);
    }
    printf("  as the rate grows, what breaks first: %s\n", salvo_cli_plan_limit_name(f->first));
    if (c->outage_ns != 0)
        sparks(&picture, &f->outage);
}

/* A full bar is at its cliff, an empty one has none. */
static void print_edges(const salvo_plan_case *c, const salvo_plan_found *f)
{
    salvo_picture picture = salvo_picture_for(stdout);
    char rate[28], text[PLAN_TEXT];
    printf("\nhow far from its cliff each setting is at %s/s, the others as they are\n",
           salvo_picture_count(salvo_cli_plan_rate(c, 1000), rate));
    for (size_t i = 0; i < f->edge_count; i++) {
        const salvo_plan_edge *e = &f->edges[i];
        uint64_t at = e->breaks_at;
        salvo_cli_plan_edge_text(e, text);
        if (e->how == PLAN_FITS)
            bar(&picture, salvo_cli_plan_setting_name(e->setting), 0, 1, text);
        else
            bar(&picture, salvo_cli_plan_setting_name(e->setting), at < e->value ? at : e->value,
                at < e->value ? e->value : at, text);
    }
}

const char *salvo_cli_plan_outage_text(const salvo_plan_case *c, char text[64])
{
    int n = 0;
    text[0] = '\0';
    if (c->outage_kind == SALVO_PLAN_SLOW)
        n = snprintf(text, 64, " (%u.%u times as slow)", c->slow_permille / 1000,
                     c->slow_permille % 1000 / 100);
    else if (c->outage_kind == SALVO_PLAN_BLACK_HOLE)
        n = snprintf(text, 64, " (black hole)");
    if (c->outage_brokers != 0)
        snprintf(text + n, 64 - (size_t)n, " of %u of %u brokers", c->outage_brokers,
                 c->model.broker.brokers);
    return text;
}

static void print_outage(const salvo_plan_case *c)
{
    char outage[16], recovery[16], kind[64];
    printf(", an outage of %s%s survived without a refusal, recovery within %s",
           time_text(c->outage_ns, outage), salvo_cli_plan_outage_text(c, kind),
           time_text(c->recovery_ns, recovery));
}

static void print_case(const salvo_plan_case *c)
{
    char rate[28], p99[16];
    printf("plan for %s messages/s of %llu B%s, %s\n",
           salvo_picture_count(salvo_cli_plan_rate(c, 1000), rate),
           (unsigned long long)c->mean_bytes, c->least_bytes != c->most_bytes ? " on average" : "",
           c->model.driver);
    printf("  broker: %s\n", c->model.name);
    printf("  wanted: p99 %s", time_text(c->p99_ns, p99));
    if (c->outage_ns != 0)
        print_outage(c);
    puts("; 30 % headroom");
}

static void print_notes(const salvo_plan_case *c, salvo_plan_basis basis)
{
    char notes[PLAN_NOTES][PLAN_TEXT];
    size_t count = salvo_cli_plan_notes(c, &basis, notes);
    for (size_t i = 0; i < count; i++)
        printf("%s  %s\n", i == 0 ? "\n" : "", notes[i]);
}

void salvo_cli_plan_print(const salvo_plan_case *c, const salvo_plan_found *f)
{
    print_case(c);
    print_settings(c, f);
    print_expected(c, f);
    print_cliffs(c, f);
    print_edges(c, f);
    print_notes(c, salvo_cli_plan_basis(c, f));
    char records[28];
    printf("\n%u simulations of %s messages in all\n", f->simulations,
           salvo_picture_count(f->simulated_records, records));
}

void salvo_cli_plan_print_prediction(const salvo_plan_case *c, const salvo_plan_prediction *p)
{
    char text[28], note[64];
    const salvo_plan_result *r = &p->at_rate;
    printf("prediction for %s messages/s, %s\n  broker: %s\n\n",
           salvo_picture_count(salvo_cli_plan_rate(c, 1000), text), c->model.driver,
           c->model.name);
    snprintf(note, sizeof note, "messages/s; %s", p->bound);
    row_number("throughput limit", p->limit_per_s, note);
    row("p50", time_text(r->p50_ns, text), r->growing ? "and growing: over the limit" : "");
    row("p99", time_text(r->p99_ns, text), "");
    row("p99.9", time_text(r->p999_ns, text), "");
    row_number("refused or late", r->ledger.offered - r->ledger.accepted + r->blocked, "");
    print_notes(c, (salvo_plan_basis){.told = r});
}

/* ---- JSON ---- */

static json_t *number(uint64_t value)
{
    return value == UINT64_MAX ? json_null() : json_integer((json_int_t)value);
}

static json_t *result_json(const salvo_plan_result *r)
{
    return json_pack(
        "{so so so so so so so so so so so so so so so so so so so so so so so so so}",
        "offered", number(r->ledger.offered), "accepted", number(r->ledger.accepted),
        "acknowledged", number(r->ledger.acknowledged), "expired", number(r->ledger.expired),
        "blocked", number(r->blocked), "p50_ns", number(r->p50_ns), "p99_ns", number(r->p99_ns),
        "p999_ns", number(r->p999_ns), "max_ns", number(r->max_ns),
        "worst_p99_ns", number(r->worst_p99_ns), "broker_p50_ns", number(r->broker_p50_ns),
        "recovery_ns", number(r->recovery_ns),
        "batches", number(r->batches), "requests", number(r->requests),
        "retries", number(r->retries), "ring_peak_bytes", number(r->ring_peak_bytes),
        "arena_bytes", number(r->arena_bytes), "arena_peak_bytes", number(r->arena_peak_bytes),
        "in_flight_peak", number(r->in_flight_peak),
        "request_bytes_peak", number(r->request_bytes_peak),
        "request_records_peak", number(r->request_records_peak),
        "flusher_busy_permille", number(r->flusher_busy_permille),
        "server_busy_permille", number(r->server_busy_permille),
        "cores_busy_permille", number(r->cores_busy_permille),
        "growing", json_boolean(r->growing != 0));
}

static const char *outage_name(const salvo_plan_case *c)
{
    return c->outage_kind == SALVO_PLAN_SLOW ? "slow"
           : c->outage_kind == SALVO_PLAN_BLACK_HOLE ? "black-hole" : "refuse";
}

static json_t *notes_json(const salvo_plan_case *c, salvo_plan_basis basis)
{
    char notes[PLAN_NOTES][PLAN_TEXT];
    json_t *list = json_array();
    size_t count = salvo_cli_plan_notes(c, &basis, notes);
    for (size_t i = 0; i < count; i++)
        json_array_append_new(list, json_string(notes[i]));
    return list;
}

static json_t *edges_json(const salvo_plan_found *f)
{
    json_t *list = json_array();
    for (size_t i = 0; i < f->edge_count; i++) {
        const salvo_plan_edge *e = &f->edges[i];
        bool broke = e->how != PLAN_FITS;
        json_array_append_new(
            list, json_pack("{ss so so so ss?}", "setting", salvo_cli_plan_setting_name(e->setting),
                            "value", number(e->value), "holds", number(e->holds), "breaks_at",
                            broke ? number(e->breaks_at) : json_null(), "breaks",
                            broke ? salvo_cli_plan_limit_name(e->how) : NULL));
    }
    return list;
}

static json_t *case_json(const salvo_plan_case *c)
{
    return json_pack("{so ss ss so so so ss so so so so}", "rate_per_s",
                     number(salvo_cli_plan_rate(c, 1000)), "driver", c->model.driver, "broker",
                     c->model.name, "mean_bytes", number(c->mean_bytes), "p99_ns",
                     number(c->p99_ns), "outage_ns", number(c->outage_ns), "outage", outage_name(c),
                     "outage_brokers", number(c->outage_brokers), "slow_permille",
                     number(c->slow_permille), "recovery_ns", number(c->recovery_ns), "seed",
                     number(c->seed));
}

json_t *salvo_cli_plan_json(const salvo_plan_case *c, const salvo_plan_found *f)
{
    const salvo_plan_choice *s = &f->choice;
    const salvo_plan_result *r = &f->as_told;
    json_t *root = json_pack("{ss si so sb}", "format", "salvo-plan", "version", 1, "wanted",
                             case_json(c), "possible", f->possible);
    if (!f->possible) {
        json_object_set_new(root, "broken", json_string(salvo_cli_plan_limit_name(f->broken)));
        json_object_set_new(root, "why", json_string(f->why));
        return root;
    }
    json_object_set_new(
        root, "settings",
        json_pack("{so so so so so so so}", "buffer_bytes", number(s->buffer_bytes),
                  "ring_bytes", number(r->ring_bytes / r->rings / s->flushers), "linger_us",
                  number(s->linger_us), "batch_bytes", number(s->batch_bytes), "flushers",
                  number(s->flushers), "delivery_timeout_ms", number(s->delivery_timeout_ms),
                  "partitions", number(s->partitions)));
    json_object_set_new(root, "memory_bytes", number(r->memory_bytes));
    json_object_set_new(root, "connections",
                        number((uint64_t)s->flushers * c->model.broker.brokers));
    json_object_set_new(root, "requests_per_s", number(per_s(r->requests, f->as_told_ns)));
    json_object_set_new(root, "buffer_bytes_of_seeds",
                        json_pack("[oo]", number(f->buffer_low), number(f->buffer_high)));
    json_object_set_new(root, "p99_ns_of_seeds",
                        json_pack("[oo]", number(f->p99_low_ns), number(f->p99_high_ns)));
    json_object_set_new(root, "steady_cliff_permille", number(f->cliff_permille[0]));
    json_object_set_new(root, "outage_cliff_permille", number(f->cliff_permille[1]));
    json_object_set_new(root, "breaks_first", json_string(salvo_cli_plan_limit_name(f->first)));
    json_object_set_new(root, "setting_cliffs", edges_json(f));
    json_object_set_new(root, "simulated_ns", number(f->as_told_ns));
    json_object_set_new(root, "notes", notes_json(c, salvo_cli_plan_basis(c, f)));
    json_object_set_new(root, "as_told", result_json(r));
    json_object_set_new(root, "with_headroom", result_json(&f->steady));
    if (c->outage_ns != 0)
        json_object_set_new(root, "in_outage", result_json(&f->outage));
    return root;
}

json_t *salvo_cli_plan_prediction_json(const salvo_plan_case *c, const salvo_plan_prediction *p)
{
    const salvo_plan_result *r = &p->at_rate;
    return json_pack("{ss si so so ss so so so so so}", "format", "salvo-prediction", "version", 1,
                     "asked", case_json(c), "limit_per_s", number(p->limit_per_s), "limit_by",
                     p->bound, "p50_ns", number(r->p50_ns), "p99_ns", number(r->p99_ns),
                     "p999_ns", number(r->p999_ns), "notes",
                     notes_json(c, (salvo_plan_basis){.told = r}), "at_rate", result_json(r));
}

/* ---- core.toml ---- */

char *salvo_cli_plan_toml(const salvo_plan_case *c, const salvo_plan_found *f)
{
    const salvo_plan_choice *s = &f->choice;
    const char *other = c->other_settings != NULL ? c->other_settings : "";
    size_t size = 1024 + strlen(other);
    char *text = salvo_cli_alloc(size), p99[16], ring[24];
    snprintf(text, size,
             "# Planned for %llu messages/s of %llu B, p99 %s, an outage of %llu s; 30 %% headroom."
             "\n# Partitions of each topic: %u. Rings: the engine's choice on %u cores, %u of %s.\n"
             "[messaging]\nmessage_broker = \"%s\"\nbuffer_bytes = %llu\n"
             "batch_bytes = %llu\nlinger_us = %llu\nflushers = %u\ndelivery_timeout_ms = %llu\n%s",
             (unsigned long long)salvo_cli_plan_rate(c, 1000), (unsigned long long)c->mean_bytes,
             time_text(c->p99_ns, p99), (unsigned long long)(c->outage_ns / SECOND), s->partitions,
             c->model.host.cores, f->as_told.rings * s->flushers,
             size_text(f->as_told.ring_bytes / f->as_told.rings / s->flushers, ring),
             c->model.driver, (unsigned long long)s->buffer_bytes,
             (unsigned long long)s->batch_bytes, (unsigned long long)s->linger_us, s->flushers,
             (unsigned long long)s->delivery_timeout_ms, other);
    return text;
}
