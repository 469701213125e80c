/* SPDX-License-Identifier: Apache-2.0
 *
 * May results be added? Only those of one load that several processes sent at the same time, each
 * once: a sum of anything else would be described as the first of them and be about nothing.
 */
#include "bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct pair {
    const json_t *a, *b;
    const char *a_path, *b_path;
} pair;

static bool differs(const pair *p, const char *what, const char *name, const json_t *a,
                    const json_t *b)
{
    if (json_equal((json_t *)(uintptr_t)a, (json_t *)(uintptr_t)b) || (!a && !b))
        return false;
    char *x = a ? json_dumps(a, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    char *y = b ? json_dumps(b, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    salvo_cli_say("bench merge: %s%s is %s in %s and %s in %s: results of one load are merged",
                  what, name, x ? x : "not set", p->a_path, y ? y : "not set", p->b_path);
    free(x);
    free(y);
    return true;
}

/* Where the broker is and who asks, which hosts may see in different ways, and what bench itself
 * made of the load's first messages. */
static bool of_one_process(const char *key)
{
    static const char *const parts[] = {"message_broker", "_servers",   "_url",      "file",
                                        "_username",      "_password",  "client_id", "stats_dir",
                                        "metrics_listen", "redis_maxlen"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (strstr(key, parts[i]))
            return true;
    return false;
}

static bool settings_differ(const pair *p)
{
    const char *key;
    json_t *value;
    const json_t *a = json_object_get(p->a, "settings"), *b = json_object_get(p->b, "settings");
    json_object_foreach((json_t *)(uintptr_t)a, key, value)
        if (!of_one_process(key) && differs(p, "settings.", key, value, json_object_get(b, key)))
            return true;
    json_object_foreach((json_t *)(uintptr_t)b, key, value)
        if (!of_one_process(key) && differs(p, "settings.", key, json_object_get(a, key), value))
            return true;
    return false;
}

static bool load_differs(const pair *p)
{
    static const char *const whole[] = {"client", "client_version", "broker", "duration_s"};
    static const char *const loads[] = {"arrivals", "size", "payload", "keys", "topics"};
    const json_t *a = json_object_get(p->a, "load"), *b = json_object_get(p->b, "load");
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++)
        if (differs(p, "", whole[i], json_object_get(p->a, whole[i]),
                    json_object_get(p->b, whole[i])))
            return true;
    for (size_t i = 0; i < sizeof loads / sizeof *loads; i++)
        if (differs(p, "load.", loads[i], json_object_get(a, loads[i]),
                    json_object_get(b, loads[i])))
            return true;
    return settings_differ(p);
}

/* Each run has a number of its own; a merged result has those of all. Results without are of an
 * older salvo or another client: no two runs give the same in every member. */
static bool same_run(const pair *p)
{
    size_t i, k;
    json_t *x, *y;
    const json_t *a = json_object_get(p->a, "runs"), *b = json_object_get(p->b, "runs");
    bool same = !a && !b && json_equal(p->a, p->b);
    json_array_foreach(a, i, x)
        json_array_foreach(b, k, y)
            same = same || json_equal(x, y);
    if (same)
        salvo_cli_say("bench merge: %s and %s are the same run", p->a_path, p->b_path);
    return same;
}

/* The begin of the measured part, in Unix seconds; NAN: it is not told. */
static double measured_from(const json_t *result)
{
    struct tm parts = {0};
    const char *text = json_string_value(json_object_get(result, "started_at"));
    const char *end = text ? strptime(text, "%Y-%m-%dT%H:%M:%SZ", &parts) : NULL;
    if (!end || *end)
        return NAN;
    return (double)timegm(&parts) + json_number_value(json_object_get(result, "warmup_s"));
}

/* Both last equally long, so one difference tells. */
static bool apart(const pair *p)
{
    double seconds = json_number_value(json_object_get(p->a, "duration_s"));
    double away = fabs(measured_from(p->a) - measured_from(p->b));
    if (away <= seconds / 2)
        return false;
    if (isnan(away))
        salvo_cli_say("bench merge: %s or %s does not tell when it started", p->a_path, p->b_path);
    else
        salvo_cli_say("bench merge: the measured parts of %s and %s begin %.0f s apart, and last "
                      "%g s: start them together (--start-at)", p->a_path, p->b_path, away,
                      seconds);
    return true;
}

bool salvo_bench_alike(const json_t *a, const json_t *b, const char *a_path, const char *b_path)
{
    const pair p = {a, b, a_path, b_path};
    return !same_run(&p) && !load_differs(&p) && !apart(&p);
}
