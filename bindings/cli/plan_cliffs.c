/* SPDX-License-Identifier: Apache-2.0
 *
 * How far a plan is from its cliffs: by how much the rate may grow until each target breaks, and,
 * at the rate that was told, how far each setting may go while the others stay.
 */
#include "plan.h"

#include <string.h>

#define MIB (UINT64_C(1) << 20)
enum { CLIFF_MOST_PERMILLE = 16000, BATCH_LEAST = 4096, LINGER_MOST_US = 10000000 };

/* ---- Of the rate ---- */

typedef int (*rate_probe)(const salvo_plan_case *c, salvo_plan_found *f, uint32_t permille,
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
static int cliff(const salvo_plan_case *c, salvo_plan_found *f, rate_probe look, uint64_t *permille,
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

int salvo_cli_plan_rate_cliffs(const salvo_plan_case *c, salvo_plan_found *f)
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

/* ---- Of each setting ---- */

typedef struct seeking { /* one setting's way to its cliff */
    const salvo_plan_case *c;
    salvo_plan_found *f;
    salvo_plan_setting setting;
    uint64_t end;  /* no further than this, towards smaller or larger values */
    uint64_t step; /* no finer; 0: by halves or doubles only */
} seeking;

static const char *const setting_names[PLAN_EDGES] = {
    "buffer_bytes", "ring_bytes", "linger_us", "batch_bytes", "flushers", "partitions",
    "delivery_timeout_ms"};

const char *salvo_cli_plan_setting_name(salvo_plan_setting setting)
{
    return setting_names[setting];
}

static void put(salvo_plan_choice *choice, salvo_plan_setting setting, uint64_t value)
{
    switch (setting) {
    case PLAN_BUFFER: choice->buffer_bytes = value; break;
    case PLAN_RING: choice->ring_bytes = value; break;
    case PLAN_LINGER: choice->linger_us = value; break;
    case PLAN_BATCH: choice->batch_bytes = value; break;
    case PLAN_FLUSHERS: choice->flushers = (uint32_t)value; break;
    case PLAN_PARTITIONS: choice->partitions = (uint32_t)value; break;
    default: choice->delivery_timeout_ms = value; break;
    }
}

/* Does the target hold with this value? */
static int look_at(const seeking *s, uint64_t value, salvo_plan_limit *broken)
{
    salvo_plan_choice choice = s->f->choice;
    salvo_plan_result r;
    uint64_t consumed = value * s->c->traffic.topic_count * s->c->consumer_per_s;
    *broken = PLAN_CONSUMERS;
    if (s->setting == PLAN_PARTITIONS && s->c->consumer_per_s != 0 &&
        consumed < salvo_cli_plan_rate(s->c, 1000))
        return 0;
    put(&choice, s->setting, value);
    int status = salvo_cli_plan_steady(s->c, &choice, 1000, s->c->seed, &r, broken);
    s->f->simulations++;
    s->f->simulated_records += r.records;
    salvo_plan_result_free(&r);
    if (status != 0 || *broken != PLAN_FITS || s->c->outage_ns == 0)
        return status;
    status = salvo_cli_plan_outage(s->c, &choice, 1000, s->c->seed, s->f->outage_shrunk_permille,
                                   &r, broken);
    s->f->simulations++;
    s->f->simulated_records += r.records;
    salvo_plan_result_free(&r);
    return status;
}

static uint64_t further(const seeking *s, uint64_t value)
{
    if (s->end < value)
        return value / 2 > s->end ? value / 2 : s->end;
    uint64_t next = value < s->step ? s->step : value * 2;
    return next < s->end ? next : s->end;
}

static uint64_t distance(uint64_t a, uint64_t b)
{
    return a > b ? a - b : b - a;
}

/* By halves or doubles to the first value that breaks it, then between to a sixteenth. */
static int seek(const seeking *s, uint64_t value)
{
    salvo_plan_edge edge = {.setting = s->setting, .value = value, .holds = value};
    salvo_plan_limit broken = PLAN_FITS;
    uint64_t bad = value;
    int status = 0;
    while (status == 0 && broken == PLAN_FITS && edge.holds != s->end) {
        bad = further(s, edge.holds);
        status = look_at(s, bad, &broken);
        if (broken == PLAN_FITS)
            edge.holds = bad;
        else
            edge.how = broken;
    }
    while (status == 0 && edge.how != PLAN_FITS && s->step != 0 &&
           distance(bad, edge.holds) > s->step && distance(bad, edge.holds) > edge.holds / 16) {
        uint64_t middle = (bad + edge.holds) / 2;
        status = look_at(s, middle, &broken);
        if (broken == PLAN_FITS) {
            edge.holds = middle;
        } else {
            bad = middle;
            edge.how = broken;
        }
    }
    edge.breaks_at = bad;
    s->f->edges[s->f->edge_count++] = edge;
    return status;
}

/* What the engine takes for each ring with this plan. */
static int ring_of(const salvo_plan_case *c, salvo_plan_found *f, uint64_t *bytes)
{
    salvo_plan_limit broken;
    salvo_plan_result r;
    int status = salvo_cli_plan_steady(c, &f->choice, 1000, c->seed, &r, &broken);
    *bytes = status == 0 ? r.ring_bytes / r.rings / f->choice.flushers : 0;
    f->simulations++;
    f->simulated_records += r.records;
    salvo_plan_result_free(&r);
    return status;
}

/* Exactly known: the oldest message of the whole outage, with the headroom's messages. */
void salvo_cli_plan_deadline_cliff(const salvo_plan_case *c, salvo_plan_found *f)
{
    uint64_t oldest_ms = f->outage.oldest_ns / 1000000;
    if (c->outage_ns == 0)
        return;
    f->edges[f->edge_count++] = (salvo_plan_edge){
        .setting = PLAN_DEADLINE, .value = f->choice.delivery_timeout_ms, .holds = oldest_ms + 1,
        .breaks_at = oldest_ms, .how = PLAN_EXPIRED};
}

int salvo_cli_plan_setting_cliffs(const salvo_plan_case *c, salvo_plan_found *f)
{
    const salvo_plan_choice *s = &f->choice;
    uint64_t ring;
    f->edge_count = 0;
    int status = ring_of(c, f, &ring);
    const struct {
        salvo_plan_setting setting;
        uint64_t value, end, step;
    } list[] = {{PLAN_BUFFER, s->buffer_bytes, salvo_cli_plan_floor(c, f), MIB},
                {PLAN_RING, ring, salvo_cli_plan_least_ring(c, s), 0},
                {PLAN_LINGER, s->linger_us, LINGER_MOST_US, 50},
                {PLAN_BATCH, s->batch_bytes, BATCH_LEAST, 0},
                {PLAN_FLUSHERS, s->flushers, 1, 1},
                {PLAN_PARTITIONS, s->partitions, 1, 1}};
    for (size_t i = 0; status == 0 && i < sizeof list / sizeof list[0]; i++) {
        seeking one = {c, f, list[i].setting, list[i].end, list[i].step};
        bool upwards = one.setting == PLAN_LINGER;
        if (upwards ? one.end < list[i].value : one.end > list[i].value)
            one.end = list[i].value; /* it is there already */
        status = seek(&one, list[i].value);
    }
    return status;
}
