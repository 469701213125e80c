/* SPDX-License-Identifier: Apache-2.0
 *
 * The search: all simulations of one case share their random numbers (common random numbers), so
 * that settings are compared and not luck; each answer is bisected over short steady windows.
 *
 *   1. flushers: as few as keep up         2. linger and batch: the fewest requests within p99
 *   3. buffer: the least that survives     4. check of the whole at this size
 *
 * Everything is sought at 1.3 times the rate: that is the headroom. Outages with more messages
 * than a search can afford are shortened, and memory with them (it grows in proportion); what
 * comes out is checked with the whole outage by the caller.
 */
#include "plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MIB (UINT64_C(1) << 20)
#define SECOND UINT64_C(1000000000)
enum { STEADY_RECORDS = 1000000, OUTAGE_RECORDS = 3000000, AMPLE_MIB = 512,
       PARTITIONS_MOST = 10000 };

static const uint64_t lingers_us[] = {0, 100, 200, 500, 1000, 1500, 2000, 3000, 4000, 5000, 7000,
                                      10000, 15000, 20000, 30000, 50000, 70000, 100000, 150000,
                                      200000, 300000, 500000, 1000000};
enum { LINGERS = sizeof lingers_us / sizeof lingers_us[0] };

uint64_t salvo_cli_plan_steady_ns(const salvo_plan_case *c, uint32_t scale_permille)
{
    return salvo_cli_plan_span(c, scale_permille, STEADY_RECORDS, SECOND, 10 * SECOND);
}

int salvo_cli_plan_steady(const salvo_plan_case *c, const salvo_plan_choice *choice,
                          uint32_t scale_permille, uint64_t seed, salvo_plan_result *r,
                          salvo_plan_limit *broken)
{
    salvo_plan_shot shot = {.scale_permille = scale_permille, .seed = seed, .warmup_ns = SECOND,
                            .duration_ns = salvo_cli_plan_steady_ns(c, scale_permille)};
    shot.window_ns = shot.duration_ns / 4; /* four windows: does pending grow? */
    int status = salvo_cli_plan_shoot(c, choice, &shot, r);
    if (status != 0)
        return status;
    const salvo_ledger *l = &r->ledger;
    *broken = PLAN_FITS;
    if (r->growing || l->acknowledged < l->accepted - l->accepted / 20)
        *broken = PLAN_THROUGHPUT;
    else if (r->p99_ns == UINT64_MAX && l->accepted < l->offered) /* infinite by refusals */
        *broken = PLAN_REFUSED;
    else if (r->p99_ns > c->p99_ns)
        *broken = PLAN_P99;
    else if (l->accepted < l->offered || r->blocked != 0)
        *broken = PLAN_REFUSED;
    bool saturated = r->server_busy_permille >= 950 || r->flusher_busy_permille >= 950 ||
                     r->library_busy_permille >= 950;
    if (*broken == PLAN_REFUSED && saturated)
        *broken = PLAN_THROUGHPUT; /* the room is full because nothing leaves */
    return 0;
}

int salvo_cli_plan_outage(const salvo_plan_case *c, const salvo_plan_choice *choice,
                          uint32_t scale_permille, uint64_t seed, uint64_t shrink_permille,
                          salvo_plan_result *r, salvo_plan_limit *broken)
{
    salvo_plan_choice mine = *choice;
    uint64_t recovery_ns = c->recovery_ns * shrink_permille / 1000;
    salvo_plan_shot shot = {.scale_permille = scale_permille, .seed = seed, .warmup_ns = SECOND,
                            .outage_ns = c->outage_ns * shrink_permille / 1000};
    mine.buffer_bytes = choice->buffer_bytes * shrink_permille / 1000;
    shot.duration_ns = shot.outage_ns + recovery_ns + 2 * SECOND;
    shot.window_ns = shot.duration_ns / 48; /* for the picture */
    int status = salvo_cli_plan_shoot(c, &mine, &shot, r);
    if (status != 0)
        return status;
    const salvo_ledger *l = &r->ledger;
    *broken = PLAN_FITS;
    if (l->accepted < l->offered || r->blocked != 0)
        *broken = PLAN_REFUSED;
    else if (l->expired != 0 || l->failed != 0)
        *broken = PLAN_EXPIRED;
    else if (r->recovery_ns > recovery_ns)
        *broken = PLAN_RECOVERY;
    return 0;
}

static int try_steady(const salvo_plan_case *c, salvo_plan_found *f,
                      const salvo_plan_choice *choice, salvo_plan_limit *broken)
{
    salvo_plan_result_free(&f->steady);
    f->simulations++;
    int status = salvo_cli_plan_steady(c, choice, PLAN_HEADROOM_PERMILLE, c->seed, &f->steady,
                                       broken);
    f->simulated_records += f->steady.records;
    return status;
}

/* The largest linger of the list that holds, or the one that is fixed; found: there is one. */
static int bisect_linger(const salvo_plan_case *c, salvo_plan_found *f, salvo_plan_choice *choice,
                         bool *found)
{
    salvo_plan_limit broken;
    int low = -1, high = LINGERS, status = 0;
    if (c->fixed.linger_us != UINT64_MAX) {
        choice->linger_us = c->fixed.linger_us;
        status = try_steady(c, f, choice, &broken);
        *found = broken == PLAN_FITS;
        return status;
    }
    while (high > 0 && lingers_us[high - 1] * 1000 > c->p99_ns)
        high--; /* a message lingers at least once in a hundred so long */
    high = high < LINGERS ? high + 1 : high;
    while (high > 0 && lingers_us[high - 1] >= c->linger_below_us)
        high--;
    while (status == 0 && high - low > 1) {
        int middle = low < 0 && high == LINGERS ? 0 : low + (high - low) / 2;
        choice->linger_us = lingers_us[middle];
        status = try_steady(c, f, choice, &broken);
        if (broken == PLAN_FITS)
            low = middle;
        else
            high = middle;
    }
    *found = low >= 0;
    if (*found)
        choice->linger_us = lingers_us[low];
    return status;
}

/* What a steady run with headroom did not keep. */
static void steady_broke(const salvo_plan_case *c, salvo_plan_found *f, salvo_plan_limit how,
                         const char *where)
{
    salvo_cli_plan_why(c, f, &(salvo_plan_broke){
        .how = how, .where = where, .r = &f->steady, .p99_ns = f->steady.p99_ns,
        .over_ns = salvo_cli_plan_steady_ns(c, PLAN_HEADROOM_PERMILLE), .shrunk_permille = 1000});
}

/* No linger holds: the best of any of up to 3 ms, or of the one that is fixed, says why. What does
 * not keep up is further from the target than a late answer, and that than too little room. */
static int explain_steady(const salvo_plan_case *c, salvo_plan_found *f, salvo_plan_choice *choice)
{
    static const int nearer[] = {[PLAN_FITS] = 0, [PLAN_REFUSED] = 1, [PLAN_P99] = 2,
                                 [PLAN_THROUGHPUT] = 3};
    bool fixed = c->fixed.linger_us != UINT64_MAX;
    salvo_plan_limit how = PLAN_THROUGHPUT, broken;
    uint64_t best_ns = UINT64_MAX, most = 0;
    char where[128];
    choice->batch_bytes = c->fixed.batch_bytes != 0 ? c->fixed.batch_bytes : 64 << 10;
    for (size_t i = 0; i < (fixed ? 1 : 8); i++) {
        choice->linger_us = fixed ? c->fixed.linger_us : lingers_us[i];
        if (!fixed && i > 0 && choice->linger_us >= c->linger_below_us)
            return 0;
        int status = try_steady(c, f, choice, &broken);
        if (status != 0)
            return status;
        f->possible = broken == PLAN_FITS; /* between two that the bisection tried */
        if (f->possible)
            return 0;
        bool faster = broken == PLAN_THROUGHPUT ? f->steady.ledger.acknowledged > most
                                                : f->steady.p99_ns < best_ns;
        if (most != 0 && (nearer[broken] > nearer[how] || (broken == how && !faster)))
            continue;
        how = broken;
        best_ns = f->steady.p99_ns;
        most = f->steady.ledger.acknowledged;
        snprintf(where, sizeof where, broken == PLAN_P99
                 ? "the best that %s linger gives at %llu messages a second (30 %% headroom) is"
                 : "with %s linger, at %llu messages a second (30 %% headroom),",
                 fixed ? "this" : "any",
                 (unsigned long long)salvo_cli_plan_rate(c, PLAN_HEADROOM_PERMILLE));
        steady_broke(c, f, how, where);
    }
    return 0;
}

/* Arena bytes of a message that waits, in thousandths: blocks are powers of two, so some sizes of
 * batches waste nearly half. Without an outage nothing waits long enough to matter. */
static int room_of(const salvo_plan_case *c, salvo_plan_found *f, const salvo_plan_choice *choice,
                   uint64_t *room)
{
    enum { RECORDS = 300000 };
    salvo_plan_choice roomy = *choice;
    salvo_plan_result r;
    salvo_plan_shot shot = {.scale_permille = PLAN_HEADROOM_PERMILLE, .seed = c->seed,
                            .warmup_ns = SECOND / 4};
    *room = 0;
    if (c->outage_ns == 0)
        return 0;
    roomy.buffer_bytes = UINT64_C(64) << 30;
    shot.outage_ns = salvo_cli_plan_span(c, shot.scale_permille, RECORDS, SECOND / 4,
                                         10 * SECOND);
    shot.duration_ns = SECOND + shot.outage_ns; /* the end of the run: while all of it waits */
    int status = salvo_cli_plan_shoot(c, &roomy, &shot, &r);
    f->simulations++;
    f->simulated_records += r.records;
    if (status == 0 && r.ledger.pending != 0)
        *room = r.arena_peak_bytes * 1000 / r.ledger.pending;
    salvo_plan_result_free(&r);
    return status;
}

typedef struct weighed { /* what is compared of two ways to batch */
    uint64_t room, requests, cpu_permille;
} weighed;

/* The least room, to 3 %; then the fewest requests, to 2 %; then the least CPU, to 3 %. */
static bool is_better(const weighed *a, const weighed *than)
{
    if (a->room * 100 < than->room * 97 || a->room * 100 > than->room * 103)
        return a->room < than->room;
    if (a->requests * 100 < than->requests * 98 || a->requests * 100 > than->requests * 102)
        return a->requests < than->requests;
    return a->cpu_permille * 100 < than->cpu_permille * 97;
}

/* One batch size with its largest linger; found: there is one. */
static int weigh(const salvo_plan_case *c, salvo_plan_found *f, salvo_plan_choice *choice,
                 weighed *w, bool *found)
{
    salvo_plan_limit broken;
    int status = bisect_linger(c, f, choice, found);
    if (status != 0 || !*found)
        return status;
    status = try_steady(c, f, choice, &broken);
    w->requests = f->steady.requests;
    w->cpu_permille = f->steady.cores_busy_permille;
    return status != 0 ? status : room_of(c, f, choice, &w->room);
}

static int choose_batching(const salvo_plan_case *c, salvo_plan_found *f)
{
    static const uint64_t batches[] = {64 << 10, 128 << 10, 256 << 10, 512 << 10, 1 << 20};
    size_t count = c->fixed.batch_bytes != 0 ? 1 : sizeof batches / sizeof batches[0];
    salvo_plan_choice best = {0};
    weighed least = {0}, mine = {0};
    f->possible = false;
    for (size_t i = 0; i < count; i++) {
        salvo_plan_choice choice = f->choice;
        bool found;
        choice.batch_bytes = c->fixed.batch_bytes != 0 ? c->fixed.batch_bytes : batches[i];
        int status = weigh(c, f, &choice, &mine, &found);
        if (status != 0)
            return status;
        if (!found || (f->possible && !is_better(&mine, &least)))
            continue;
        least = mine;
        best = choice;
        f->possible = true;
    }
    if (f->possible)
        f->choice = best;
    return 0;
}

/* As many as consumers of that rate need, with the same headroom. */
static bool choose_partitions(const salvo_plan_case *c, salvo_plan_found *f)
{
    uint64_t rate = salvo_cli_plan_rate(c, PLAN_HEADROOM_PERMILLE);
    uint64_t need = (rate + c->consumer_per_s - 1) / c->consumer_per_s;
    need = (need + c->traffic.topic_count - 1) / c->traffic.topic_count;
    f->choice.partitions = need < 1 ? 1 : (uint32_t)(need < UINT32_MAX ? need : UINT32_MAX);
    if (need <= PARTITIONS_MOST)
        return true;
    f->possible = false;
    f->broken = PLAN_CONSUMERS;
    snprintf(f->why, sizeof f->why, "partitions: consumers of %llu messages a second need %llu of "
             "each topic for %llu (30 %% headroom); %d are possible",
             (unsigned long long)c->consumer_per_s, (unsigned long long)need,
             (unsigned long long)rate, PARTITIONS_MOST);
    return false;
}

static int choose_flushers(const salvo_plan_case *c, salvo_plan_found *f)
{
    f->choice = (salvo_plan_choice){
        .buffer_bytes = AMPLE_MIB * MIB, .flushers = c->fixed.flushers != 0 ? c->fixed.flushers : 1,
        .delivery_timeout_ms = c->fixed.delivery_timeout_ms,
        .partitions = c->model.broker.partitions};
    if (c->consumer_per_s != 0 && !choose_partitions(c, f))
        return 0;
    for (;;) {
        int status = choose_batching(c, f);
        if (status != 0 || (f->possible && f->steady.flusher_busy_permille < 800))
            return status;
        bool busy = f->steady.flusher_busy_permille >= 800 ||
                    f->steady.library_busy_permille >= 900;
        if (!busy || c->fixed.flushers != 0 || f->choice.flushers * 2 > c->model.host.cores)
            return f->possible ? 0 : explain_steady(c, f, &f->choice);
        f->choice.flushers *= 2;
    }
}

int salvo_cli_plan_fits(const salvo_plan_case *c, salvo_plan_found *f, uint64_t seed,
                        uint64_t buffer, salvo_plan_limit *broken)
{
    salvo_plan_choice choice = f->choice;
    choice.buffer_bytes = buffer;
    f->simulations++;
    if (c->outage_ns == 0) {
        salvo_plan_result_free(&f->steady);
        int status = salvo_cli_plan_steady(c, &choice, PLAN_HEADROOM_PERMILLE, seed, &f->steady,
                                           broken);
        f->simulated_records += f->steady.records;
        return status;
    }
    salvo_plan_result_free(&f->outage);
    int status = salvo_cli_plan_outage(c, &choice, PLAN_HEADROOM_PERMILLE, seed,
                                       f->outage_shrunk_permille, &f->outage, broken);
    f->simulated_records += f->outage.records;
    return status;
}

int salvo_cli_plan_least_buffer(const salvo_plan_case *c, salvo_plan_found *f, uint64_t seed,
                                uint64_t low, uint64_t high, uint64_t *least)
{
    while (high - low > MIB && high - low > high / 64) {
        uint64_t middle = (low + (high - low) / 2) / MIB * MIB;
        salvo_plan_limit broken;
        int status = salvo_cli_plan_fits(c, f, seed, middle, &broken);
        if (status != 0)
            return status;
        if (broken == PLAN_FITS)
            high = middle;
        else
            low = middle;
    }
    *least = high;
    return 0;
}

uint64_t salvo_cli_plan_least_ring(const salvo_plan_case *c, const salvo_plan_choice *choice)
{
    salvo_config *config = salvo_cli_plan_config(c, choice);
    uint64_t message = salvo_cli_config_number(config, "max_message_bytes", 1000000);
    salvo_config_free(config);
    uint64_t ring = 64 << 10; /* four of the largest */
    while (ring < 4 * (message + 1024))
        ring *= 2;
    return ring;
}

/* The least buffer that the engine takes at all with these settings. */
static uint64_t floor_bytes(const salvo_plan_case *c, const salvo_plan_choice *choice)
{
    salvo_config *config = salvo_cli_plan_config(c, choice);
    uint64_t message = salvo_cli_config_number(config, "max_message_bytes", 1000000);
    uint64_t fixed = salvo_cli_config_number(config, "ring_bytes", 0);
    salvo_config_free(config);
    uint64_t ring = salvo_cli_plan_least_ring(c, choice);
    uint64_t least = (choice->flushers * (ring + 2 * message + 4 * MIB)) * 4 / 3 + MIB;
    if (least < 4 * ring * choice->flushers)
        least = 4 * ring * choice->flushers;
    if (fixed != 0) { /* as many as cores, where the user says how large */
        uint64_t rings = fixed * c->model.host.cores * choice->flushers;
        least = (rings + choice->flushers * (4 * MIB + 2 * message)) * 4 / 3 + MIB;
        least = least < 2 * rings ? 2 * rings : least;
    }
    if (least < 4 * choice->batch_bytes)
        least = 4 * choice->batch_bytes;
    return (least + MIB - 1) / MIB * MIB;
}

uint64_t salvo_cli_plan_floor(const salvo_plan_case *c, const salvo_plan_found *f)
{
    uint64_t least = floor_bytes(c, &f->choice);
    if (f->outage_shrunk_permille == 0 || f->outage_shrunk_permille == 1000)
        return least;
    return least * 1000 / f->outage_shrunk_permille / MIB * MIB + MIB;
}

/* What the shortened outage did not keep. */
static void outage_broke(const salvo_plan_case *c, salvo_plan_found *f, salvo_plan_limit how,
                         const char *where)
{
    salvo_cli_plan_why(c, f, &(salvo_plan_broke){.how = how, .where = where, .r = &f->outage,
                                                 .shrunk_permille = f->outage_shrunk_permille});
}

/* The buffer that is fixed: does it hold? */
static int check_buffer(const salvo_plan_case *c, salvo_plan_found *f)
{
    char where[64];
    salvo_plan_limit broken;
    f->outage_shrunk_permille = 1000;
    f->choice.buffer_bytes = c->fixed.buffer_bytes;
    int status = salvo_cli_plan_fits(c, f, c->seed, c->fixed.buffer_bytes, &broken);
    if (status != 0 || broken == PLAN_FITS)
        return status;
    snprintf(where, sizeof where, "with buffer_bytes = %llu as told,",
             (unsigned long long)c->fixed.buffer_bytes);
    (c->outage_ns != 0 ? outage_broke : steady_broke)(c, f, broken, where);
    return 0;
}

uint64_t salvo_cli_plan_more_room(uint64_t buffer, uint64_t more)
{
    more = more < MIB ? MIB : more;
    return buffer + more < PLAN_BUFFER_MOST ? (buffer + more) / MIB * MIB : PLAN_BUFFER_MOST;
}

int salvo_cli_plan_ample_buffer(const salvo_plan_case *c, salvo_plan_found *f, uint64_t seed,
                                uint64_t *low, uint64_t *high, const char *where)
{
    salvo_plan_limit broken;
    for (;;) {
        int status = salvo_cli_plan_fits(c, f, seed, *high, &broken);
        if (status != 0 || broken == PLAN_FITS)
            return status;
        bool by_room = broken == PLAN_REFUSED || c->outage_ns == 0; /* tight room closes early */
        if (!by_room || *high >= PLAN_BUFFER_MOST) {
            (c->outage_ns != 0 ? outage_broke : steady_broke)(c, f, broken, where);
            return 0;
        }
        *low = *high;
        *high = salvo_cli_plan_more_room(*high, *high);
    }
}

static int choose_buffer(const salvo_plan_case *c, salvo_plan_found *f)
{
    if (c->fixed.buffer_bytes != 0)
        return check_buffer(c, f);
    f->outage_shrunk_permille = 1000;
    if (c->outage_ns != 0) {
        uint64_t records = salvo_cli_plan_rate(c, PLAN_HEADROOM_PERMILLE) *
                           ((c->outage_ns + c->recovery_ns) / 1000000) / 1000;
        uint64_t shrink = records > OUTAGE_RECORDS ? OUTAGE_RECORDS * UINT64_C(1000) / records
                                                   : 1000;
        f->outage_shrunk_permille = shrink < 20 ? 20 : shrink;
    }
    uint64_t least = salvo_cli_plan_floor(c, f);
    least = least < c->buffer_least ? c->buffer_least : least;
    uint64_t low = least, high = least;
    int status = salvo_cli_plan_ample_buffer(c, f, c->seed, &low, &high,
                                             c->outage_ns != 0
                                                 ? "in the outage, with all the room it takes,"
                                                 : "with all the room it takes,");
    if (status == 0 && f->possible && high != least)
        status = salvo_cli_plan_least_buffer(c, f, c->seed, low, high, &high);
    f->choice.buffer_bytes = high;
    return status;
}

/* A message must outlive the outage and what lies before it: twice that, in whole 10 s. */
static void choose_deadline(const salvo_plan_case *c, salvo_plan_found *f)
{
    uint64_t need_ms = (c->outage_ns + c->recovery_ns) / 1000000 * 2;
    uint64_t usual_ms = 120000;
    if (c->fixed.delivery_timeout_ms != 0)
        return;
    f->choice.delivery_timeout_ms = c->outage_ns == 0 || need_ms <= usual_ms
                                        ? usual_ms
                                        : (need_ms + 9999) / 10000 * 10000;
}

int salvo_cli_plan_search(const salvo_plan_case *c, salvo_plan_found *f)
{
    salvo_plan_limit broken;
    int status = choose_flushers(c, f);
    if (status != 0 || !f->possible)
        return status;
    choose_deadline(c, f);
    status = choose_buffer(c, f);
    if (status != 0 || !f->possible)
        return status;
    status = try_steady(c, f, &f->choice, &broken);
    bool free = c->fixed.buffer_bytes == 0;
    while (status == 0 && free && broken == PLAN_REFUSED &&
           f->choice.buffer_bytes < PLAN_BUFFER_MOST) { /* bursts shrink less well */
        f->choice.buffer_bytes = salvo_cli_plan_more_room(f->choice.buffer_bytes,
                                                          f->choice.buffer_bytes / 4);
        status = try_steady(c, f, &f->choice, &broken);
    }
    if (status == 0 && free && broken == PLAN_P99) { /* a tighter buffer closes batches early */
        f->choice.buffer_bytes = salvo_cli_plan_more_room(f->choice.buffer_bytes,
                                                          f->choice.buffer_bytes / 2);
        status = try_steady(c, f, &f->choice, &broken);
    }
    if (status == 0 && broken != PLAN_FITS)
        steady_broke(c, f, broken, free ? "with the least memory that survives"
                                        : "with buffer_bytes as told");
    return status;
}
