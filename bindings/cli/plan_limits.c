/* SPDX-License-Identifier: Apache-2.0
 *
 * Around a plan that was found: how far the rate may grow until each target breaks, what other
 * seeds say, a longer run at the rate that was told, and predictions for given settings.
 */
#include "plan.h"

#include <stdio.h>
#include <string.h>

#define MIB (UINT64_C(1) << 20)
#define SECOND UINT64_C(1000000000)
enum { CONFIRM_RECORDS = 24000000, CLIFF_MOST_PERMILLE = 16000, PREDICT_RECORDS = 2000000 };

typedef int (*probe)(const salvo_plan_case *c, salvo_plan_found *f, uint32_t permille,
                     salvo_plan_limit *broken);

static int probe_steady(const salvo_plan_case *c, salvo_plan_found *f, uint32_t permille,
                        salvo_plan_limit *broken)
{
    salvo_plan_result r;
    int status = salvo_cli_plan_steady(c, &f->choice, permille, c->seed, &r, broken);
    f->simulated_records += r.records;
    salvo_plan_result_free(&r);
    return status;
}

static int probe_outage(const salvo_plan_case *c, salvo_plan_found *f, uint32_t permille,
                        salvo_plan_limit *broken)
{
    salvo_plan_result r;
    int status = salvo_cli_plan_outage(c, &f->choice, permille, c->seed,
                                       f->outage_shrunk_permille, &r, broken);
    f->simulated_records += r.records;
    salvo_plan_result_free(&r);
    return status;
}

/* The least multiple of the rate at which it breaks, to 4 %; 0: none up to 16. */
static int cliff(const salvo_plan_case *c, salvo_plan_found *f, probe look, uint64_t *permille,
                 salvo_plan_limit *how)
{
    uint32_t low = PLAN_HEADROOM_PERMILLE, high = low;
    salvo_plan_limit broken = PLAN_FITS;
    int status = 0;
    while (status == 0 && broken == PLAN_FITS && high < CLIFF_MOST_PERMILLE) {
        low = high;
        high += high / 2;
        f->simulations++;
        status = look(c, f, high, &broken);
    }
    *permille = 0;
    if (status != 0 || broken == PLAN_FITS)
        return status;
    *how = broken;
    while (status == 0 && high - low > high / 25) {
        uint32_t middle = low + (high - low) / 2;
        f->simulations++;
        status = look(c, f, middle, &broken);
        if (broken == PLAN_FITS) {
            low = middle;
        } else {
            high = middle;
            *how = broken;
        }
    }
    *permille = high;
    return status;
}

static int cliffs(const salvo_plan_case *c, salvo_plan_found *f)
{
    salvo_plan_limit steady = PLAN_P99, outage = PLAN_REFUSED;
    int status = cliff(c, f, probe_steady, &f->cliff_permille[0], &steady);
    if (status == 0 && c->outage_ns != 0)
        status = cliff(c, f, probe_outage, &f->cliff_permille[1], &outage);
    f->first = PLAN_FITS;
    if (f->cliff_permille[0] != 0)
        f->first = steady;
    if (f->cliff_permille[1] != 0 &&
        (f->cliff_permille[0] == 0 || f->cliff_permille[1] < f->cliff_permille[0]))
        f->first = outage;
    return status;
}

static int other_seeds(const salvo_plan_case *c, salvo_plan_found *f)
{
    f->buffer_low = f->buffer_high = f->choice.buffer_bytes;
    f->p99_low_ns = f->p99_high_ns = f->steady.p99_ns;
    for (uint64_t i = 1; i < PLAN_SEEDS; i++) {
        salvo_plan_result r;
        salvo_plan_limit broken;
        uint64_t least = f->choice.buffer_bytes;
        int status = salvo_cli_plan_steady(c, &f->choice, PLAN_HEADROOM_PERMILLE, c->seed + i,
                                           &r, &broken);
        if (status != 0)
            return status;
        f->simulations++;
        f->simulated_records += r.records;
        if (r.p99_ns < f->p99_low_ns)
            f->p99_low_ns = r.p99_ns;
        if (r.p99_ns > f->p99_high_ns)
            f->p99_high_ns = r.p99_ns;
        salvo_plan_result_free(&r);
        if (c->outage_ns == 0)
            continue;
        status = salvo_cli_plan_least_buffer(c, f, c->seed + i, least - least / 10,
                                             least + least / 10, &least);
        if (status != 0)
            return status;
        if (least < f->buffer_low)
            f->buffer_low = least;
        if (least > f->buffer_high)
            f->buffer_high = least;
    }
    f->choice.buffer_bytes = f->buffer_high; /* what all seeds survive */
    return 0;
}

/* The winner over the longest time that can be afforded, an hour at most, and the whole outage. */
static int confirm(const salvo_plan_case *c, salvo_plan_found *f)
{
    salvo_plan_shot shot = {.scale_permille = 1000, .seed = c->seed, .warmup_ns = SECOND,
                            .window_ns = 10 * SECOND};
    shot.duration_ns = salvo_cli_plan_span(c, 1000, CONFIRM_RECORDS, 10 * SECOND, 3600 * SECOND);
    f->as_told_ns = shot.duration_ns;
    int status = salvo_cli_plan_shoot(c, &f->choice, &shot, &f->as_told);
    f->simulations++;
    f->simulated_records += f->as_told.records;
    if (status != 0 || c->outage_ns == 0)
        return status;
    salvo_plan_result_free(&f->outage);
    f->simulations++;
    salvo_plan_limit broken;
    status = salvo_cli_plan_outage(c, &f->choice, PLAN_HEADROOM_PERMILLE, c->seed, 1000,
                                   &f->outage, &broken);
    while (status == 0 && broken == PLAN_REFUSED && f->outage_shrunk_permille != 1000 &&
           f->choice.buffer_bytes < UINT64_C(1) << 40) {
        f->simulated_records += f->outage.records; /* the shortened one told a little too few */
        f->choice.buffer_bytes = (f->choice.buffer_bytes + f->choice.buffer_bytes / 16) / MIB * MIB;
        salvo_plan_result_free(&f->outage);
        f->simulations++;
        status = salvo_cli_plan_outage(c, &f->choice, PLAN_HEADROOM_PERMILLE, c->seed, 1000,
                                       &f->outage, &broken);
    }
    f->simulated_records += f->outage.records;
    if (status == 0 && broken != PLAN_FITS) {
        f->possible = false;
        f->broken = broken;
        snprintf(f->why, sizeof f->why, "outage: the whole outage breaks what a shortened one "
                 "keeps: %s", salvo_cli_plan_limit_name(broken));
    }
    return status;
}

int salvo_cli_plan_limits(const salvo_plan_case *c, salvo_plan_found *f)
{
    int status = other_seeds(c, f);
    if (status == 0)
        status = confirm(c, f);
    if (status == 0 && f->possible)
        status = cliffs(c, f);
    return status;
}

/* ---- Predictions ---- */

static const char *bound_of(const salvo_plan_result *r)
{
    if (r->server_busy_permille >= 900)
        return "the broker's servers";
    if (r->flusher_busy_permille >= 900)
        return "the flusher's core";
    if (r->library_busy_permille >= 900)
        return "the client library's thread";
    if (r->cores_busy_permille >= 950)
        return "the host's cores";
    return "the window of requests in flight";
}

/* What is acknowledged when far more is offered: doubled until it does not grow any more. */
static int find_limit(const salvo_plan_case *c, salvo_plan_prediction *p)
{
    uint64_t permille = 1000, before = 0;
    p->limit_per_s = 0;
    for (;;) {
        salvo_plan_result r;
        salvo_plan_shot shot = {.scale_permille = (uint32_t)permille, .seed = c->seed};
        shot.duration_ns = salvo_cli_plan_span(c, shot.scale_permille, PREDICT_RECORDS, SECOND,
                                               5 * SECOND);
        shot.warmup_ns = shot.duration_ns / 2;
        shot.window_ns = shot.duration_ns;
        int status = salvo_cli_plan_shoot(c, &p->choice, &shot, &r);
        if (status != 0)
            return status;
        uint64_t rate = (uint64_t)((unsigned __int128)r.ledger.acknowledged * SECOND /
                                   shot.duration_ns);
        salvo_plan_result_free(&r);
        if (rate > p->limit_per_s) {
            p->limit_per_s = rate;
            p->bound = bound_of(&r);
        }
        if ((before != 0 && rate < before + before / 50) ||
            permille * c->traffic.scale_permille / 1000 > 1000000000)
            return 0;
        before = rate;
        permille *= 2;
    }
}

int salvo_cli_plan_predict(const salvo_plan_case *c, salvo_plan_prediction *p)
{
    p->choice = (salvo_plan_choice){.linger_us = UINT64_MAX,
                                    .partitions = c->model.broker.partitions};
    salvo_plan_shot shot = {.scale_permille = 1000, .seed = c->seed, .warmup_ns = 2 * SECOND,
                            .window_ns = 10 * SECOND};
    shot.duration_ns = salvo_cli_plan_span(c, 1000, 4 * PREDICT_RECORDS, 5 * SECOND, 30 * SECOND);
    int status = salvo_cli_plan_shoot(c, &p->choice, &shot, &p->at_rate);
    return status != 0 ? status : find_limit(c, p);
}
