/* SPDX-License-Identifier: Apache-2.0
 *
 * The summary of `salvo produce` on standard error: for people, or as one JSON object on one
 * line, which is then the last line.
 */
#include "picture.h"
#include "produce.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

static void line_of(FILE *to, const char *format, uint64_t count)
{
    char text[28];
    if (count)
        fprintf(to, format, salvo_picture_count(count, text));
}

void salvo_produce_report(const produce_job *job, const produce_result *result)
{
    char sent[28], rate[28];
    uint64_t accepted = atomic_load_explicit(&job->sent, memory_order_relaxed);
    double per_second = result->seconds > 0 ? (double)result->ledger.acknowledged /
                                              result->seconds : 0;
    salvo_picture picture = salvo_picture_for(stderr);
    fprintf(stderr, "%s messages to %s on %s in %.2f s: %s/s\n",
            salvo_picture_count(accepted, sent), job->topic_name, job->broker, result->seconds,
            salvo_picture_count((uint64_t)per_second, rate));
    line_of(stderr, "%s invalid lines skipped\n", job->skipped_invalid);
    line_of(stderr, "%s empty lines skipped\n", job->skipped_empty);
    line_of(stderr, "%s lines were read and not sent\n", result->not_sent);
    if (job->blocking)
        line_of(stderr, "%s refusals for want of room; those lines were offered again\n",
                result->ledger.refused_timeout);
    fputc('\n', stderr);
    salvo_picture_latency(&picture, result->stats.stage);
    fputc('\n', stderr);
    salvo_picture_ledger(&picture, &result->ledger);
}

static json_t *number(uint64_t value)
{
    return json_integer((json_int_t)value);
}

static json_t *ledger_object(const salvo_ledger *l)
{
    json_t *o = json_object();
    json_object_set_new(o, "offered", number(l->offered));
    json_object_set_new(o, "accepted", number(l->accepted));
    json_object_set_new(o, "refused_full", number(l->refused_full));
    json_object_set_new(o, "refused_dropped", number(l->refused_dropped));
    json_object_set_new(o, "refused_timeout", number(l->refused_timeout));
    json_object_set_new(o, "refused_too_large", number(l->refused_too_large));
    json_object_set_new(o, "refused_invalid", number(l->refused_invalid));
    json_object_set_new(o, "acknowledged", number(l->acknowledged));
    json_object_set_new(o, "failed", number(l->failed));
    json_object_set_new(o, "maybe_delivered", number(l->maybe_delivered));
    json_object_set_new(o, "expired", number(l->expired));
    json_object_set_new(o, "dropped", number(l->dropped));
    json_object_set_new(o, "pending", number(l->pending));
    json_object_set_new(o, "balanced", json_boolean(salvo_picture_balanced(l)));
    return o;
}

static json_t *latency_object(const salvo_latency *l)
{
    json_t *o = json_object();
    json_object_set_new(o, "count", number(l->count));
    json_object_set_new(o, "min", number(l->min));
    json_object_set_new(o, "mean", number(l->mean));
    json_object_set_new(o, "p50", number(l->p50));
    json_object_set_new(o, "p90", number(l->p90));
    json_object_set_new(o, "p99", number(l->p99));
    json_object_set_new(o, "p99.9", number(l->p999));
    json_object_set_new(o, "p99.99", number(l->p9999));
    json_object_set_new(o, "max", number(l->max));
    return o;
}

void salvo_produce_report_json(const produce_job *job, const produce_result *result)
{
    static const char *const stages[SALVO_STAGES] = {"enqueue", "queue", "broker", "total"};
    json_t *o = json_object();
    json_t *latency = json_object();
    uint64_t sent = atomic_load_explicit(&job->sent, memory_order_relaxed);
    uint64_t lost = atomic_load_explicit(&job->lost, memory_order_relaxed);
    json_object_set_new(o, "topic", json_string(job->topic_name));
    json_object_set_new(o, "broker", json_string(job->broker));
    json_object_set_new(o, "lines", number(job->lines));
    json_object_set_new(o, "sent", number(sent));
    json_object_set_new(o, "not_sent", number(result->not_sent));
    json_object_set_new(o, "refused_for_good", number(lost));
    json_object_set_new(o, "skipped_invalid", number(job->skipped_invalid));
    json_object_set_new(o, "skipped_empty", number(job->skipped_empty));
    json_object_set_new(o, "seconds", json_real(result->seconds));
    json_object_set_new(o, "ledger", ledger_object(&result->ledger));
    for (int i = 0; i < SALVO_STAGES; i++)
        json_object_set_new(latency, stages[i], latency_object(&result->stats.stage[i]));
    json_object_set_new(o, "latency_ns", latency);
    json_object_set_new(o, "memory_bytes", number(result->stats.memory_bytes));
    json_object_set_new(o, "interrupted", json_boolean(salvo_cli_signals() > 0));
    json_object_set_new(o, "status", number((uint64_t)result->status));
    char *text = json_dumps(o, JSON_COMPACT | JSON_REAL_PRECISION(9));
    if (text)
        fprintf(stderr, "%s\n", text);
    else
        salvo_cli_say("out of memory: no JSON summary");
    free(text);
    json_decref(o);
}
