/* SPDX-License-Identifier: Apache-2.0
 *
 * The plan: what the search found, what other seeds say of it, an hour at the rate that was told
 * (beside it, the cliffs), and where those do not hold another attempt; predictions for given
 * settings.
 */
#include "plan.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MIB (UINT64_C(1) << 20)
#define SECOND UINT64_C(1000000000)
enum { ATTEMPTS = 3 }; /* each takes half a minute at high rates, and a plan two at most */
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

static bool may_grow(const salvo_plan_case *c)
{
    return c->fixed.buffer_bytes == 0;
}

/* p99 of another seed with headroom, and the room without which some would wait. */
static int seed_steady(task *t, salvo_plan_limit *broken)
{
    salvo_plan_found *f = &t->found;
    for (;;) {
        salvo_plan_result_free(&f->steady);
        int status = salvo_cli_plan_steady(t->c, &f->choice, PLAN_HEADROOM_PERMILLE, t->seed,
                                           &f->steady, broken);
        f->simulations++;
        f->simulated_records += f->steady.records;
        f->p99_low_ns = f->steady.p99_ns;
        if (status != 0 || *broken != PLAN_REFUSED || !may_grow(t->c) ||
            f->choice.buffer_bytes >= PLAN_BUFFER_MOST)
            return status;
        f->choice.buffer_bytes = salvo_cli_plan_more_room(f->choice.buffer_bytes,
                                                          f->choice.buffer_bytes / 4);
    }
}

/* The buffer that this seed's outage needs: around the one that was found. */
static int seed_buffer(task *t)
{
    salvo_plan_found *f = &t->found;
    uint64_t from = f->choice.buffer_bytes, high = from;
    uint64_t low = salvo_cli_plan_floor(t->c, f);
    salvo_plan_limit broken;
    if (low < from / 10 * 9)
        low = from / 10 * 9;
    if (low > from || from > f->buffer_low) /* less is refused, or broke this seed's steady run */
        low = from;
    int status = salvo_cli_plan_fits(t->c, f, t->seed, high, &broken);
    while (status == 0 && broken == PLAN_REFUSED && high < from + from / 2) {
        low = high;
        high = salvo_cli_plan_more_room(high, high / 10);
        status = salvo_cli_plan_fits(t->c, f, t->seed, high, &broken);
    }
    if (status == 0 && broken != PLAN_FITS)
        status = salvo_cli_plan_ample_buffer(t->c, f, t->seed, &low, &high,
                                             "in the outage, with other random numbers,");
    if (status != 0 || !f->possible)
        return status;
    return salvo_cli_plan_least_buffer(t->c, f, t->seed, low, high, &f->choice.buffer_bytes);
}

/* The outage of this seed, with a buffer that is fixed. */
static int seed_outage(task *t)
{
    salvo_plan_found *f = &t->found;
    salvo_plan_limit broken;
    int status = salvo_cli_plan_fits(t->c, f, t->seed, f->choice.buffer_bytes, &broken);
    if (status == 0 && broken != PLAN_FITS)
        salvo_cli_plan_why(t->c, f, &(salvo_plan_broke){
            .how = broken, .where = "in the outage, with other random numbers,", .r = &f->outage,
            .shrunk_permille = f->outage_shrunk_permille});
    return status;
}

/* What another seed needs to keep the target, or why it does not. */
static int seed_task(task *t)
{
    salvo_plan_found *f = &t->found;
    salvo_plan_limit broken = PLAN_FITS;
    int status = seed_steady(t, &broken);
    const salvo_ledger *l = &f->steady.ledger;
    if (broken == PLAN_THROUGHPUT && f->steady.p99_ns <= t->c->p99_ns && f->steady.blocked == 0 &&
        l->accepted == l->offered && l->acknowledged >= l->accepted - l->accepted / 20)
        broken = PLAN_FITS; /* it grew at the end only: a stall, not too high a rate */
    if (status == 0 && broken != PLAN_FITS)
        salvo_cli_plan_why(t->c, f, &(salvo_plan_broke){
            .how = broken, .where = "with other random numbers", .r = &f->steady,
            .p99_ns = f->steady.p99_ns, .shrunk_permille = 1000,
            .over_ns = salvo_cli_plan_steady_ns(t->c, PLAN_HEADROOM_PERMILLE)});
    else if (status == 0 && t->c->outage_ns != 0)
        status = may_grow(t->c) ? seed_buffer(t) : seed_outage(t);
    salvo_plan_result_free(&f->steady);
    salvo_plan_result_free(&f->outage);
    return status;
}

/* What another seed says widens the interval; one that does not keep the target ends the plan. */
static void take_seed(salvo_plan_found *f, const salvo_plan_found *t)
{
    uint64_t p99_ns = t->p99_low_ns, buffer = t->choice.buffer_bytes;
    f->p99_low_ns = p99_ns < f->p99_low_ns ? p99_ns : f->p99_low_ns;
    f->p99_high_ns = p99_ns > f->p99_high_ns ? p99_ns : f->p99_high_ns;
    f->buffer_low = buffer < f->buffer_low ? buffer : f->buffer_low;
    f->buffer_high = buffer > f->buffer_high ? buffer : f->buffer_high;
    if (t->possible || !f->possible)
        return;
    f->possible = false;
    f->broken = t->broken;
    memcpy(f->why, t->why, sizeof f->why);
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
        status = status != 0 ? status : mine;
        take_seed(f, &tasks[i].found);
    }
    free(tasks);
    f->choice.buffer_bytes = f->buffer_high; /* what all seeds survive */
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
           f->choice.buffer_bytes < PLAN_BUFFER_MOST) {
        f->simulated_records += f->outage.records; /* the shortened one told a little too few */
        f->choice.buffer_bytes = salvo_cli_plan_more_room(f->choice.buffer_bytes,
                                                          f->choice.buffer_bytes / 16);
        salvo_plan_result_free(&f->outage);
        f->simulations++;
        status = salvo_cli_plan_outage(c, &f->choice, PLAN_HEADROOM_PERMILLE, c->seed, 1000,
                                       &f->outage, &broken);
    }
    f->simulated_records += f->outage.records;
    if (status == 0 && broken != PLAN_FITS)
        salvo_cli_plan_why(c, f, &(salvo_plan_broke){.how = broken, .where = "in the whole outage",
                                                     .r = &f->outage, .shrunk_permille = 1000});
    return status;
}

/* The hour must keep the target too: windows that a short run did not meet count. */
static void check_hour(const salvo_plan_case *c, salvo_plan_found *f)
{
    const salvo_plan_result *r = &f->as_told;
    bool refused = r->ledger.offered != r->ledger.accepted || r->blocked != 0;
    char where[64];
    if (!f->possible || (r->worst_p99_ns <= c->p99_ns && !refused))
        return;
    snprintf(where, sizeof where, refused ? "over %llu s" : "over %llu s the worst 10 s have",
             (unsigned long long)(f->as_told_ns / SECOND));
    salvo_cli_plan_why(c, f, &(salvo_plan_broke){
        .how = refused ? PLAN_REFUSED : PLAN_P99, .where = where, .r = r,
        .p99_ns = r->worst_p99_ns, .over_ns = f->as_told_ns, .shrunk_permille = 1000});
}

static int limits(const salvo_plan_case *c, salvo_plan_found *f)
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

/* ---- The plan ---- */

void salvo_cli_plan_found_free(salvo_plan_found *f)
{
    salvo_plan_result_free(&f->steady);
    salvo_plan_result_free(&f->outage);
    salvo_plan_result_free(&f->as_told);
}

/* Room for what came in the hour while senders waited longest, or was refused in 10 s, generously
 * (a record's head, blocks half full); as much again as there was where neither is known. */
static uint64_t room_that_lacked(const salvo_plan_case *c, const salvo_plan_found *f)
{
    const salvo_plan_result *r = &f->as_told;
    uint64_t messages = salvo_cli_plan_rate(c, 1000) * (r->blocked_longest_ns / 1000000) / 1000;
    for (uint32_t i = 0; i < r->window_count; i++)
        if (r->windows[i].refused > messages)
            messages = r->windows[i].refused;
    return messages != 0 ? messages * (c->mean_bytes + 64) / 2 * 3 : f->choice.buffer_bytes;
}

/* What another attempt shall do about a plan that a long run or another seed did not keep: a
 * shorter linger for p99, more room for messages that had to wait. False: nothing. */
static bool ask_for_more(salvo_plan_case *c, const salvo_plan_found *f, int attempt)
{
    uint64_t buffer = f->choice.buffer_bytes;
    if (f->broken == PLAN_REFUSED && may_grow(c) && buffer < PLAN_BUFFER_MOST) {
        c->buffer_least = salvo_cli_plan_more_room(buffer, room_that_lacked(c, f));
        return true;
    }
    if (f->broken != PLAN_P99 || f->choice.linger_us == 0 || c->fixed.linger_us != UINT64_MAX)
        return false;
    c->linger_below_us = attempt == 0 ? f->choice.linger_us : f->choice.linger_us / 2 + 1;
    return true;
}

/* Where the long run or another seed does not keep what the short one kept, once more. */
int salvo_cli_plan_find(salvo_plan_case *c, salvo_plan_found *f)
{
    salvo_plan_limit broken = PLAN_FITS;
    char why[PLAN_TEXT] = "";
    for (int attempt = 0;; attempt++) {
        unsigned simulations = f->simulations;
        uint64_t records = f->simulated_records;
        *f = (salvo_plan_found){.simulations = simulations, .simulated_records = records};
        int status = salvo_cli_plan_search(c, f);
        if (status == 0 && !f->possible && attempt > 0) { /* the longer one says why */
            f->broken = broken;
            memcpy(f->why, why, sizeof f->why);
        }
        if (status != 0 || !f->possible)
            return status;
        status = limits(c, f);
        if (attempt == 0) {
            broken = f->broken;
            memcpy(why, f->why, sizeof why);
        }
        if (status != 0 || f->possible || attempt == ATTEMPTS - 1 || !ask_for_more(c, f, attempt))
            return status;
        salvo_cli_plan_found_free(f);
    }
}

/* ---- Predictions ---- */

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
        p->bound = salvo_cli_plan_bound(&r);
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
