/* SPDX-License-Identifier: Apache-2.0
 *
 * `salvo top --json`: all that is known of each producer, one object a look on one line. Times are
 * nanoseconds where the name says so, rates are a second, and null where no two looks tell them.
 */
#include "top.h"

#include <jansson.h>
#include <stdlib.h>

static json_t *number(uint64_t value)
{
    return json_integer((json_int_t)(value > INT64_MAX ? INT64_MAX : value));
}

static json_t *ledger_object(const salvo_ledger *l)
{
    const struct {
        const char *name;
        uint64_t value;
    } all[] = {{"offered", l->offered}, {"accepted", l->accepted},
               {"refused_full", l->refused_full}, {"refused_dropped", l->refused_dropped},
               {"refused_timeout", l->refused_timeout},
               {"refused_too_large", l->refused_too_large},
               {"refused_invalid", l->refused_invalid}, {"acknowledged", l->acknowledged},
               {"failed", l->failed}, {"maybe_delivered", l->maybe_delivered},
               {"expired", l->expired}, {"dropped", l->dropped}, {"pending", l->pending}};
    json_t *o = json_object();
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        json_object_set_new(o, all[i].name, number(all[i].value));
    return o;
}

static json_t *per_second(const top_source *s, uint64_t now, uint64_t before)
{
    return s->seconds > 0 ? json_real(salvo_top_rate(s, now, before)) : json_null();
}

static json_t *rates_object(const top_source *s, const salvo_ledger *now,
                            const salvo_ledger *before)
{
    json_t *o = json_object();
    json_object_set_new(o, "offered_per_s", per_second(s, now->offered, before->offered));
    json_object_set_new(o, "accepted_per_s", per_second(s, now->accepted, before->accepted));
    json_object_set_new(o, "acknowledged_per_s",
                        per_second(s, now->acknowledged, before->acknowledged));
    json_object_set_new(o, "refused_per_s",
                        per_second(s, salvo_top_refused(now), salvo_top_refused(before)));
    json_object_set_new(o, "failed_per_s",
                        per_second(s, now->failed + now->expired + now->dropped,
                                   before->failed + before->expired + before->dropped));
    return o;
}

static json_t *latency_object(const salvo_latency *l)
{
    const struct {
        const char *name;
        uint64_t value;
    } all[] = {{"min_ns", l->min}, {"mean_ns", l->mean}, {"p50_ns", l->p50}, {"p90_ns", l->p90},
               {"p99_ns", l->p99}, {"p999_ns", l->p999}, {"p9999_ns", l->p9999},
               {"max_ns", l->max}};
    json_t *o = json_object();
    json_object_set_new(o, "count", number(l->count));
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        json_object_set_new(o, all[i].name, l->count ? number(all[i].value) : json_null());
    return o;
}

static json_t *stages_object(const top_source *s)
{
    static const char *const names[SALVO_STAGES] = {"enqueue", "queue", "broker", "total"};
    json_t *o = json_object();
    for (int i = 0; i < SALVO_STAGES; i++) {
        json_t *stage = json_object(), *start = latency_object(&s->now.stats.stage[i]);
        char *text = NULL;
        if (s->start[i] != NULL && salvo_histogram_encode(s->start[i], &text) == 0)
            json_object_set_new(start, "hdr", json_string(text));
        free(text);
        json_object_set_new(stage, "since_start", start);
        json_object_set_new(stage, "interval",
                            s->seconds > 0 ? latency_object(&s->interval[i]) : json_null());
        json_object_set_new(o, names[i], stage);
    }
    return o;
}

static json_t *counters_object(const salvo_stats *t)
{
    const struct {
        const char *name;
        uint64_t value;
    } all[] = {{"memory_bytes", t->memory_bytes}, {"ring_bytes", t->ring_bytes},
               {"ring_used_bytes", t->ring_used_bytes}, {"arena_bytes", t->arena_bytes},
               {"arena_used_bytes", t->arena_used_bytes},
               {"in_flight_messages", t->in_flight_messages},
               {"in_flight_batches", t->in_flight_batches}, {"batches", t->batches},
               {"closed_by_bytes", t->closed_by_bytes}, {"closed_by_count", t->closed_by_count},
               {"closed_by_linger", t->closed_by_linger},
               {"closed_by_waiter", t->closed_by_waiter}, {"retries", t->retries},
               {"reopens", t->reopens}, {"broker_errors", t->broker_errors},
               {"stalled_claims", t->stalled_claims}, {"stalled_ring", t->stalled_ring},
               {"stalled_since_ns", t->stalled_since_ns}, {"rings", t->rings},
               {"flushers", t->flushers}, {"topics", t->topics}, {"threads", t->threads},
               {"reports_waiting", t->reports_waiting}};
    json_t *o = json_object();
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        json_object_set_new(o, all[i].name, number(all[i].value));
    return o;
}

static json_t *topics_array(const top_source *s)
{
    static const salvo_ledger none;
    json_t *topics = json_array();
    size_t *order = malloc((s->now.topic_count + 1) * sizeof *order);
    size_t count = order != NULL ? salvo_top_busiest(s, order, s->now.topic_count) : 0;
    for (size_t i = 0; i < count; i++) {
        const top_topic *t = &s->now.topics[order[i]];
        const salvo_ledger *before =
            order[i] < s->before.topic_count ? &s->before.topics[order[i]].ledger : &none;
        json_t *o = json_object();
        json_object_set_new(o, "name", json_string(t->name));
        json_object_set_new(o, "ledger", ledger_object(&t->ledger));
        json_object_set_new(o, "rates", rates_object(s, &t->ledger, before));
        json_array_append_new(topics, o);
    }
    free(order);
    return topics;
}

static json_t *producer_object(const top_source *s)
{
    uint64_t since_ms;
    json_t *o = json_object();
    json_object_set_new(o, "pid", json_integer(s->info.pid));
    json_object_set_new(o, "program", json_string(s->info.program));
    json_object_set_new(o, "client_id", json_string(s->info.client_id));
    json_object_set_new(o, "driver", json_string(s->info.driver));
    json_object_set_new(o, "version", json_string(s->info.version));
    json_object_set_new(o, "path", json_string(s->info.path));
    json_object_set_new(o, "state", json_string(salvo_top_state(s, &since_ms)));
    json_object_set_new(o, "state_since_ms", number(since_ms));
    json_object_set_new(o, "started_at_ms", number(s->info.started_at_ms));
    json_object_set_new(o, "updated_at_ms", s->now.known ? number(s->now.at_ms) : json_null());
    if (!s->now.known)
        return o;
    json_object_set_new(o, "interval_s", s->seconds > 0 ? json_real(s->seconds) : json_null());
    json_object_set_new(o, "broker_state", json_string(s->now.stats.broker_state));
    json_object_set_new(o, "clock", json_string(s->now.stats.clock));
    json_object_set_new(o, "ledger", ledger_object(&s->now.stats.total));
    json_object_set_new(o, "balanced", json_boolean(salvo_picture_balanced(&s->now.stats.total)));
    json_object_set_new(o, "rates", rates_object(s, &s->now.stats.total, &s->before.stats.total));
    json_object_set_new(o, "stages", stages_object(s));
    json_object_set_new(o, "counters", counters_object(&s->now.stats));
    json_object_set_new(o, "topics", topics_array(s));
    return o;
}

bool salvo_top_json(const top_view *view, FILE *to)
{
    json_t *all = json_array(), *o = json_object();
    for (size_t i = 0; i < view->count; i++)
        json_array_append_new(all, producer_object(view->sources[i]));
    json_object_set_new(o, "producers", all);
    bool ok = json_dumpf(o, to, JSON_COMPACT | JSON_REAL_PRECISION(9)) == 0;
    json_decref(o);
    fputc('\n', to);
    return fflush(to) == 0 && ok;
}
