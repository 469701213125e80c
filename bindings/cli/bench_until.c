/* SPDX-License-Identifier: Apache-2.0
 *
 * The highest rate that keeps a bound: doubling or halving until the bound lies between two
 * rates, bisection to 5 %, then three more runs that all must keep it. Latency counts from the
 * intended time, so a bound that is kept is kept whatever the generator's lateness. Where it is
 * broken and the generator was late, nothing is known about the system: such a rate is tried once
 * more, then it is the generator's limit.
 */
#include "bench.h"
#include "load_result.h"
#include "picture.h"

#include <math.h>
#include <string.h>

#define NEAR 1.05
#define CONFIRMATIONS 3
#define LOWEST 1.0

typedef enum { KEEPS, BREAKS, GENERATOR, STOPPED } verdict;

typedef struct search {
    salvo_bench_options *o;
    salvo_config *config;
    json_t *last; /* result of the last run */
    int status;
    bool generator; /* the lowest rate that failed did so by the generator */
    char rate[32];
} search;

static void say(const search *s, double rate, verdict v, uint64_t ns)
{
    static const char *const words[] = {"keeps it", "too slow", "the generator was late", ""};
    char count[28], text[16];
    salvo_cli_say("bench: %s messages/s: %s is %s: %s",
                  salvo_picture_count((uint64_t)(rate + 0.5), count), s->o->until.percentile,
                  salvo_bench_time(ns, text), words[v]);
}

static verdict run_at(search *s, double rate)
{
    char error[256];
    uint64_t ns;
    json_decref(s->last);
    s->last = NULL;
    snprintf(s->rate, sizeof s->rate, "%.0f", rate);
    if (!salvo_load_take_rate(&s->o->load, s->rate, error, sizeof error))
        return STOPPED;
    s->status = salvo_bench_once(s->o, s->config, &s->last);
    if (s->status != CLI_OK)
        return STOPPED;
    if (json_number_value(json_object_get(s->last, "offered_per_s")) <= 0) {
        salvo_cli_say("bench: --until: at %s messages/s none is due in the measured part; use a "
                      "longer --duration", s->rate);
        s->status = CLI_FAILED;
        return STOPPED;
    }
    bool holds = salvo_bench_bound_holds(&s->o->until, s->last, &ns);
    bool valid = json_is_true(json_object_get(s->last, "valid"));
    verdict v = holds ? KEEPS : valid ? BREAKS : GENERATOR;
    say(s, rate, v, ns);
    return v;
}

static verdict try_rate(search *s, double rate)
{
    verdict v = run_at(s, rate);
    return v == GENERATOR ? run_at(s, rate) : v;
}

/* Brackets the limit: *low keeps the bound, *high does not. False: stopped, or no rate does. */
static bool bracket(search *s, double *low, double *high)
{
    double rate = floor(s->o->load.steps[0].rate + 0.5); /* whole ones are tried */
    verdict v = try_rate(s, rate);
    bool up = v == KEEPS;
    while (v != STOPPED) {
        if (v == KEEPS)
            *low = rate;
        else
            *high = rate;
        s->generator = v == KEEPS ? s->generator : v == GENERATOR;
        if ((v == KEEPS) != up)
            return true;
        rate = up ? rate * 2 : floor(rate / 2);
        if (rate > SALVO_LOAD_RATE_MOST || rate < LOWEST)
            return up;
        v = try_rate(s, rate);
    }
    return false;
}

static bool bisect(search *s, double *low, double *high)
{
    while (*high / *low > NEAR) {
        double rate = floor(sqrt(*low * *high));
        if (rate <= *low)
            return true;
        verdict v = try_rate(s, rate);
        if (v == STOPPED)
            return false;
        if (v == KEEPS) {
            *low = rate;
            continue;
        }
        *high = rate;
        s->generator = v == GENERATOR;
    }
    return true;
}

/* Three runs in a row; a rate that fails one of them gives way to a lower one, in growing steps:
 * a host that has become slower since the bisection shall not take all day. */
static bool confirm(search *s, double *low)
{
    double step = NEAR;
    for (int kept = 0; kept < CONFIRMATIONS;) {
        verdict v = try_rate(s, *low);
        if (v == STOPPED)
            return false;
        if (v == KEEPS) {
            kept++;
            continue;
        }
        s->generator = v == GENERATOR;
        kept = 0;
        *low = floor(*low / step);
        step = step < 1.5 ? step * NEAR : step;
        if (*low < LOWEST)
            return false;
    }
    return true;
}

static void conclude(const search *s, double rate)
{
    char count[28];
    salvo_cli_say("bench: %s messages/s keep %s, confirmed %d times; above it %s",
                  salvo_picture_count((uint64_t)rate, count), s->o->until.text, CONFIRMATIONS,
                  s->generator ? "the generator is the limit, not the system: try more --threads, "
                                 "--spin or other hosts"
                               : "the system breaks it");
    json_object_set_new(s->last, "until",
                        json_pack("{s:s, s:f, s:i, s:s}", "bound", s->o->until.text, "rate", rate,
                                  "confirmed", CONFIRMATIONS, "limit",
                                  s->generator ? "generator" : "system"));
}

int salvo_bench_until(salvo_bench_options *o, salvo_config *config, json_t **result)
{
    search s = {.o = o, .config = config};
    double low = 0, high = SALVO_LOAD_RATE_MOST;
    bool found = bracket(&s, &low, &high) && low > 0 && bisect(&s, &low, &high) &&
                 confirm(&s, &low);
    *result = s.last;
    if (found)
        conclude(&s, low);
    else if (s.status == CLI_OK)
        salvo_cli_say("bench: no rate keeps %s; %s", o->until.text,
                      s.generator ? "the generator was late at the lowest"
                                  : "not even the lowest that was tried");
    o->load.rate_text = "";
    return found ? CLI_OK : s.status == CLI_OK ? CLI_FAILED : s.status;
}
