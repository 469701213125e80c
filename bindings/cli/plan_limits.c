/* SPDX-License-Identifier: Apache-2.0
 *
 * Around a plan that was found: what other seeds say, an hour at the rate that was told (beside
 * it, the cliffs), and predictions for given settings.
 */
#include "plan.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MIB (UINT64_C(1) << 20)
#define SECOND UINT64_C(1000000000)
enum { CONFIRM_RECORDS = 300000000, PREDICT_RECORDS = 2000000 };

/* ---- Side by side ----
 * Runs that need nothing of each other go on threads of their own, each with its own copy of what
 * was found. Copies are read in a fixed order, so the result does not depend on who was first. */

typedef struct task {
    const salvo_plan_case *c;
    salvo_plan_found found; /* a copy; its results are this task's own */
    uint64_t seed;
    int (*run)(struct task *t);
    int status;
    bool started;
    pthread_t thread;
} task;

static void *run_task(void *context)
{
    task *t = context;
    t->status = t->run(t);
    return NULL;
}

static void start(task *t, const salvo_plan_case *c, const salvo_plan_found *f,
                  int (*run)(task *t))
{
    t->c = c;
    t->found = *f;
    t->run = run;
    t->found.steady = t->found.outage = t->found.as_told = (salvo_plan_result){0};
    t->found.simulations = 0;
    t->found.simulated_records = 0;
    t->started = pthread_create(&t->thread, NULL, run_task, t) == 0;
    if (!t->started)
        (void)run_task(t);
}

static int finish(task *t, salvo_plan_found *f)
{
    if (t->started)
        pthread_join(t->thread, NULL);
    f->simulations += t->found.simulations;
    f->simulated_records += t->found.simulated_records;
    return t->status;
}

/* The buffer that this seed's outage needs: around the one that was found. */
static int seed_buffer(task *t)
{
    salvo_plan_found *f = &t->found;
    uint64_t low = f->choice.buffer_bytes / 10 * 9, high = f->choice.buffer_bytes;
    salvo_plan_limit broken = PLAN_REFUSED;
    f->buffer_low = high;
    if (t->c->outage_ns == 0 || t->c->fixed.buffer_bytes != 0)
        return 0;
    for (;;) {
        int status = salvo_cli_plan_fits(t->c, f, t->seed, high, &broken);
        if (status != 0)
            return status;
        if (broken == PLAN_FITS || high >= 2 * f->choice.buffer_bytes)
            break;
        low = high;
        high += high / 10;
    }
    return salvo_cli_plan_least_buffer(t->c, f, t->seed, low, high, &f->buffer_low);
}

/* p99 of another seed, and the buffer that it needs. */
static int seed_task(task *t)
{
    salvo_plan_found *f = &t->found;
    uint64_t permille = PLAN_HEADROOM_PERMILLE;
    int status = salvo_cli_plan_steady(t->c, &f->choice, (uint32_t)permille, t->seed, &f->steady,
                                       &f->broken);
    f->simulations++;
    f->simulated_records += f->steady.records;
    f->p99_low_ns = f->steady.p99_ns;
    salvo_plan_result_free(&f->steady);
    if (status == 0)
        status = seed_buffer(t);
    salvo_plan_result_free(&f->steady);
    salvo_plan_result_free(&f->outage);
    return status;
}

static int other_seeds(const salvo_plan_case *c, salvo_plan_found *f)
{
    task *tasks = salvo_cli_alloc((PLAN_SEEDS - 1) * sizeof *tasks);
    int status = 0;
    f->buffer_low = f->buffer_high = f->choice.buffer_bytes;
    f->p99_low_ns = f->p99_high_ns = f->steady.p99_ns;
    for (uint64_t i = 0; i < PLAN_SEEDS - 1; i++) {
        tasks[i].seed = c->seed + 1 + i;
        start(&tasks[i], c, f, seed_task);
    }
    for (uint64_t i = 0; i < PLAN_SEEDS - 1; i++) {
        int mine = finish(&tasks[i], f);
        const salvo_plan_found *t = &tasks[i].found;
        status = status != 0 ? status : mine;
        f->p99_low_ns = t->p99_low_ns < f->p99_low_ns ? t->p99_low_ns : f->p99_low_ns;
        f->p99_high_ns = t->p99_low_ns > f->p99_high_ns ? t->p99_low_ns : f->p99_high_ns;
        f->buffer_low = t->buffer_low < f->buffer_low ? t->buffer_low : f->buffer_low;
        f->buffer_high = t->buffer_low > f->buffer_high ? t->buffer_low : f->buffer_high;
    }
    free(tasks);
    f->choice.buffer_bytes = f->buffer_high; /* what all seeds survive */
    if (f->p99_high_ns > c->p99_ns && status == 0) {
        f->possible = false;
        f->broken = PLAN_P99;
        snprintf(f->why, sizeof f->why, "p99: with other random numbers %.2f ms; %.2f ms are asked "
                 "for, %.2f ms too slow", (double)f->p99_high_ns / 1e6, (double)c->p99_ns / 1e6,
                 (double)(f->p99_high_ns - c->p99_ns) / 1e6);
    }
    return status;
}

/* The winner at the rate that was told, for as long as was asked (an hour). */
static int hour_task(task *t)
{
    salvo_plan_found *f = &t->found;
    salvo_plan_shot shot = {.scale_permille = 1000, .seed = t->c->seed, .warmup_ns = SECOND,
                            .window_ns = 10 * SECOND};
    shot.duration_ns = salvo_cli_plan_span(t->c, 1000, CONFIRM_RECORDS, 10 * SECOND,
                                           t->c->confirm_ns);
    f->as_told_ns = shot.duration_ns;
    int status = salvo_cli_plan_shoot(t->c, &f->choice, &shot, &f->as_told);
    f->simulations++;
    f->simulated_records += f->as_told.records;
    return status;
}

static int cliffs_task(task *t)
{
    int status = salvo_cli_plan_rate_cliffs(t->c, &t->found);
    return status != 0 ? status : salvo_cli_plan_setting_cliffs(t->c, &t->found);
}

/* The whole outage, where a shortened one was searched with. */
static int whole_outage(const salvo_plan_case *c, salvo_plan_found *f)
{
    salvo_plan_limit broken;
    if (c->outage_ns == 0)
        return 0;
    salvo_plan_result_free(&f->outage);
    f->simulations++;
    int status = salvo_cli_plan_outage(c, &f->choice, PLAN_HEADROOM_PERMILLE, c->seed, 1000,
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

/* The hour must keep the target too: windows that a short run did not meet count. */
static void check_hour(const salvo_plan_case *c, salvo_plan_found *f)
{
    const salvo_plan_result *r = &f->as_told;
    uint64_t refused = r->ledger.offered - r->ledger.accepted;
    if (!f->possible || (r->worst_p99_ns <= c->p99_ns && refused == 0))
        return;
    f->possible = false;
    f->broken = refused != 0 ? PLAN_REFUSED : PLAN_P99;
    if (refused != 0)
        snprintf(f->why, sizeof f->why, "%s: over %llu s %llu of %llu messages are refused",
                 salvo_cli_plan_limit_name(f->broken),
                 (unsigned long long)(f->as_told_ns / SECOND), (unsigned long long)refused,
                 (unsigned long long)r->ledger.offered);
    else
        snprintf(f->why, sizeof f->why, "p99: over %llu s the worst 10 s have %.2f ms; %.2f ms are "
                 "asked for, %.2f ms too slow", (unsigned long long)(f->as_told_ns / SECOND),
                 (double)r->worst_p99_ns / 1e6, (double)c->p99_ns / 1e6,
                 (double)(r->worst_p99_ns - c->p99_ns) / 1e6);
}

int salvo_cli_plan_limits(const salvo_plan_case *c, salvo_plan_found *f)
{
    task *hour = salvo_cli_alloc(2 * sizeof *hour), *grows = hour + 1;
    int status = other_seeds(c, f);
    if (status == 0 && f->possible)
        status = whole_outage(c, f);
    if (status == 0 && f->possible) {
        start(hour, c, f, hour_task);
        start(grows, c, f, cliffs_task);
        status = finish(hour, f);
        int mine = finish(grows, f);
        status = status != 0 ? status : mine;
        f->as_told = hour->found.as_told;
        f->as_told_ns = hour->found.as_told_ns;
        f->first = grows->found.first;
        memcpy(f->cliff_permille, grows->found.cliff_permille, sizeof f->cliff_permille);
        memcpy(f->edges, grows->found.edges, sizeof f->edges);
        f->edge_count = grows->found.edge_count;
        salvo_cli_plan_deadline_cliff(c, f);
        if (status == 0)
            check_hour(c, f);
    }
    free(hour);
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

/* What is acknowledged a second when so much is offered. */
static int acknowledged_at(const salvo_plan_case *c, salvo_plan_prediction *p, uint64_t permille,
                           uint64_t *rate)
{
    salvo_plan_result r;
    salvo_plan_shot shot = {.scale_permille = (uint32_t)permille, .seed = c->seed};
    shot.duration_ns = salvo_cli_plan_span(c, shot.scale_permille, PREDICT_RECORDS, SECOND,
                                           5 * SECOND);
    shot.warmup_ns = shot.duration_ns / 2;
    shot.window_ns = shot.duration_ns;
    int status = salvo_cli_plan_shoot(c, &p->choice, &shot, &r);
    if (status != 0)
        return status;
    *rate = (uint64_t)((unsigned __int128)r.ledger.acknowledged * SECOND / shot.duration_ns);
    if (*rate > p->limit_per_s) {
        p->limit_per_s = *rate;
        p->bound = bound_of(&r);
    }
    salvo_plan_result_free(&r);
    return 0;
}

/* The most that is acknowledged: doubled until it does not grow any more, then in ever smaller
 * steps around the best, because an overload may cost more than it brings: without them the answer
 * would be a multiple of the rate that was asked for. */
static int find_limit(const salvo_plan_case *c, salvo_plan_prediction *p)
{
    uint64_t permille = 1000, best = 1000, before = 0, rate = 0;
    int status = 0;
    p->limit_per_s = 0;
    for (; status == 0; permille *= 2) {
        uint64_t most = p->limit_per_s;
        status = acknowledged_at(c, p, permille, &rate);
        if (p->limit_per_s > most)
            best = permille;
        if ((before != 0 && rate < before + before / 50) ||
            permille * c->traffic.scale_permille / 1000 > 1000000000)
            break;
        before = rate;
    }
    for (uint64_t share = 400; status == 0 && share >= 25; share /= 2) { /* of 1,000 */
        const uint64_t around[] = {best - best * share / 1000, best + best * share / 1000};
        for (int i = 0; status == 0 && i < 2; i++) {
            uint64_t most = p->limit_per_s;
            status = acknowledged_at(c, p, around[i], &rate);
            if (p->limit_per_s > most)
                best = around[i];
        }
    }
    return status;
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
