/* SPDX-License-Identifier: Apache-2.0
 *
 * A trace as the traffic of a plan (docs/formats.md). Guarantees: what the plan would not see is
 * refused or told: messages that were sampled, lost, refused or held up.
 */
#include "plan.h"

#include "load_trace_file.h"

#include <stdio.h>
#include <stdlib.h>

#define RECORDS_MOST UINT64_C(200000000)
#define SECOND UINT64_C(1000000000)

typedef struct tracing {
    salvo_trace_file file;
    salvo_plan_arrival *list;
    uint64_t count, room, bytes, largest;
    uint64_t held; /* refused, or accepted after waiting */
} tracing;

static void add(tracing *t, const salvo_trace_record *r)
{
    if (t->count == t->room) {
        t->room = t->room != 0 ? t->room * 2 : 4096;
        t->list = salvo_cli_realloc(t->list, t->room * sizeof *t->list);
    }
    t->list[t->count++] = (salvo_plan_arrival){.at_ns = r->at_ns, .value_bytes = r->value_bytes,
                                               .key = r->key, .topic = r->topic,
                                               .key_bytes = r->key_bytes};
    uint64_t bytes = r->value_bytes + (r->key != 0 ? r->key_bytes : 0);
    t->bytes += bytes;
    t->largest = bytes > t->largest ? bytes : t->largest;
    t->held += r->fate != 0;
}

static bool fits(const salvo_trace_file *file)
{
    if (file->one_of > 1)
        salvo_cli_say("%s: holds one of %llu messages; a plan needs a trace of all", file->path,
                      (unsigned long long)file->one_of);
    else if (file->topic_count > PLAN_MAX_TOPICS)
        salvo_cli_say("%s: %u topics; 1 to %d are allowed", file->path, file->topic_count,
                      PLAN_MAX_TOPICS);
    else
        return true;
    return false;
}

static bool read_all(tracing *t)
{
    char error[512];
    salvo_trace_record record;
    int got;
    if (!fits(&t->file))
        return false;
    while ((got = salvo_trace_next(&t->file, &record, error, sizeof error)) == 1) {
        if (t->count == RECORDS_MOST) {
            salvo_cli_say("%s: more than %llu messages: cut the trace", t->file.path,
                          (unsigned long long)RECORDS_MOST);
            return false;
        }
        add(t, &record);
    }
    if (got == 0 && t->count >= 2 && t->list[t->count - 1].at_ns != t->list[0].at_ns)
        return true;
    if (got != 0)
        salvo_cli_say("%s", error);
    else
        salvo_cli_say("%s: %llu messages: too few for a rate", t->file.path,
                      (unsigned long long)t->count);
    return false;
}

/* What a plan from it does not see. */
static void warn(const tracing *t)
{
    if (t->file.lost != 0)
        salvo_cli_say("%s: %llu messages more came too fast to be recorded: add --scale %.2f",
                      t->file.path, (unsigned long long)t->file.lost,
                      1.0 + (double)t->file.lost / (double)t->count);
    if (t->file.truncated)
        salvo_cli_say("%s: its size cap ended it: what came later is not planned for",
                      t->file.path);
    if (t->held != 0)
        salvo_cli_say("%s: %llu of %llu messages were refused or had to wait; they count as "
                      "offered when they were noted, so the demand may have been higher",
                      t->file.path, (unsigned long long)t->held, (unsigned long long)t->count);
}

/* Where the second begins in which most came. */
static uint64_t busiest(const tracing *t)
{
    uint64_t most = 0, peak_ns = 0;
    for (uint64_t first = 0, end = 0; first < t->count; first++) {
        while (end < t->count && t->list[end].at_ns < t->list[first].at_ns + SECOND)
            end++;
        if (end - first > most) {
            most = end - first;
            peak_ns = t->list[first].at_ns;
        }
    }
    return peak_ns;
}

bool salvo_cli_plan_trace(const char *path, salvo_plan_case *c)
{
    char error[512];
    tracing t = {0};
    if (!salvo_trace_open(&t.file, path, error, sizeof error)) {
        salvo_cli_say("%s", error);
        return false;
    }
    bool good = read_all(&t);
    salvo_trace_close(&t.file);
    if (!good) {
        free(t.list);
        return false;
    }
    warn(&t);
    uint64_t first_ns = t.list[0].at_ns;
    for (uint64_t i = 0; i < t.count; i++)
        t.list[i].at_ns -= first_ns;
    uint64_t span_ns = t.list[t.count - 1].at_ns;
    c->peak_ns = busiest(&t);
    c->trace = t.list;
    c->traffic.trace = t.list;
    c->traffic.trace_count = t.count;
    c->traffic.trace_ns = span_ns + span_ns / (t.count - 1); /* to the next first message */
    c->traffic.topic_count = t.file.topic_count;
    c->rate_per_s = (uint64_t)((unsigned __int128)(t.count - 1) * 1000000000u / span_ns);
    c->mean_bytes = t.bytes / t.count;
    c->largest_bytes = t.largest;
    c->least_bytes = 0;
    c->most_bytes = UINT32_MAX;
    return true;
}
