/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of `salvo plan` share: the case that is planned, the settings that are sought,
 * and what was found.
 *
 *   plan.c          the command line
 *   plan_fixed.c    what the configuration says about a plan
 *   plan_read.c     numbers with units, broker models
 *   plan_notes.c    what a result leans on
 *   plan_trace.c    traces as traffic
 *   plan_run.c      one simulation of a case with settings
 *   plan_search.c   the search; plan_limits.c: the plan of it; seeds, the hour, predictions
 *   plan_why.c      one line for what cannot be met
 *   plan_cliffs.c   how far the rate and each setting are from where it breaks
 *   plan_print.c    the table, the picture, JSON, core.toml; plan_page.c: the page
 */
#ifndef SALVO_CLI_PLAN_H
#define SALVO_CLI_PLAN_H

#include "cli.h"

#include <jansson.h>
#include <salvo/plan.h>

enum { PLAN_HEADROOM_PERMILLE = 1300, PLAN_SEEDS = 5, PLAN_TEXT = 240, PLAN_MAX_TOPICS = 256,
       PLAN_NOTES = 8, PLAN_SHAPING = 4 };
#define PLAN_BUFFER_MOST (UINT64_C(1) << 40) /* what the engine allows */

typedef struct salvo_plan_model { /* a broker model and what came with it */
    salvo_plan_broker broker;
    salvo_plan_host host;
    char name[96], driver[16];
    uint64_t bytes_max, records_max, in_flight_max; /* measured; 0: not told */
    uint64_t steal_permille;          /* of the processors, by the host above, meanwhile */
    uint64_t bytes_per_s_max;         /* where the probe ended without a limit; 0: it met one */
    char *settings[PLAN_SHAPING];     /* the probe's, of salvo_cli_plan_shaping; NULL: default */
    bool measured;
    int64_t *tables[4];               /* residual, stalls, overshoot, pauses */
    uint32_t *pace;
} salvo_plan_model;

typedef struct salvo_plan_choice { /* what a plan decides */
    uint64_t linger_us, batch_bytes, buffer_bytes, delivery_timeout_ms;
    uint64_t ring_bytes;              /* 0: the engine's own choice */
    uint32_t flushers, partitions;
} salvo_plan_choice;

typedef struct salvo_plan_case {
    salvo_cli_settings settings;      /* --config and --set */
    salvo_plan_choice fixed;          /* what those say; linger UINT64_MAX, others 0: sought */
    uint64_t linger_below_us;         /* a longer one did not hold */
    uint64_t buffer_least;            /* a smaller one did not */
    char *other_settings;             /* what else is told, as lines of TOML; NULL: nothing */
    char shaping[PLAN_SHAPING][32];   /* salvo_cli_plan_shaping as configured */
    salvo_plan_model model;
    salvo_plan_topic topics[PLAN_MAX_TOPICS];
    salvo_plan_traffic traffic;
    salvo_plan_arrival *trace;
    int64_t sizes[2];
    uint64_t rate_per_s;              /* of all topics */
    uint64_t least_bytes, most_bytes;             /* of values */
    uint64_t mean_bytes, largest_bytes;           /* keys and values */
    uint64_t peak_ns;                 /* of the traffic's own time: its busiest second begins */
    uint64_t p99_ns, outage_ns, recovery_ns, consumer_per_s;
    uint32_t outage_kind, outage_brokers, slow_permille;
    uint64_t seed, confirm_ns;
    bool quiet;
} salvo_plan_case;

typedef enum salvo_plan_limit {
    PLAN_FITS, PLAN_P99, PLAN_THROUGHPUT, PLAN_REFUSED, PLAN_EXPIRED, PLAN_RECOVERY, PLAN_CONSUMERS
} salvo_plan_limit;

typedef enum salvo_plan_setting {
    PLAN_BUFFER, PLAN_RING, PLAN_LINGER, PLAN_BATCH, PLAN_FLUSHERS, PLAN_PARTITIONS, PLAN_DEADLINE,
    PLAN_EDGES
} salvo_plan_setting;

typedef struct salvo_plan_edge {      /* how far a setting may go, the others as they are */
    salvo_plan_setting setting;
    uint64_t value, holds, breaks_at; /* in the setting's unit; holds: the last that did */
    salvo_plan_limit how;             /* PLAN_FITS: nothing broke up to `holds` */
} salvo_plan_edge;

typedef struct salvo_plan_found {
    salvo_plan_choice choice;
    bool possible;
    salvo_plan_limit broken;
    char why[PLAN_TEXT];              /* one line, where impossible */
    salvo_plan_result steady, outage; /* with headroom; outage: where one was asked for */
    salvo_plan_result as_told;        /* at the rate that was told, over the longest time */
    uint64_t as_told_ns;
    uint64_t buffer_low, buffer_high; /* of the seeds */
    uint64_t p99_low_ns, p99_high_ns;
    uint64_t cliff_permille[3];       /* of the rate: p99 or throughput, room, recovery; 0: none */
    salvo_plan_limit first;           /* what breaks first */
    salvo_plan_edge edges[PLAN_EDGES]; /* at the rate that was told */
    size_t edge_count;
    uint64_t outage_shrunk_permille;  /* 1000: the whole outage was simulated while searching */
    uint64_t simulated_records;
    unsigned simulations;
} salvo_plan_found;

typedef struct salvo_plan_broke {     /* a run that did not keep the target */
    salvo_plan_limit how;
    const char *where;                /* "with other random numbers" */
    const salvo_plan_result *r;
    uint64_t p99_ns, over_ns;         /* what was judged; how long it measured */
    uint64_t shrunk_permille;         /* of the outage; 1000: the whole */
} salvo_plan_broke;

typedef struct salvo_plan_prediction {
    salvo_plan_choice choice;
    uint64_t limit_per_s;
    salvo_plan_result at_rate;
    const char *bound;                /* which part is the limit */
} salvo_plan_prediction;

/* plan_read.c; false after a printed error. Numbers: decimals and k, M, G; times: ns, us, ms, s,
 * m, h; sizes: k, M, G of 1,024; shares: 30 or 30%. */
bool salvo_cli_plan_count(const char *option, const char *text, uint64_t *out);
bool salvo_cli_plan_time(const char *option, const char *text, uint64_t *out_ns);
bool salvo_cli_plan_size(const char *option, const char *text, uint64_t *out);
bool salvo_cli_plan_ps(const char *option, const char *text, uint64_t *out_ps);
bool salvo_cli_plan_model(const char *path, salvo_plan_model *model);
void salvo_cli_plan_model_default(salvo_plan_model *model);
void salvo_cli_plan_model_free(salvo_plan_model *model);

/* plan_fixed.c: what --set and --config fix, and what speaks against the case; 0, or a status
 * after a printed error. told: the driver was named by --broker or a model. */
int salvo_cli_plan_fixed(salvo_plan_case *c, bool told);

/* plan_notes.c: settings that shape a broker's answers, by name; and how many notes there are on
 * what a result leans on: a model that was left, or made under other conditions. */
extern const char *const salvo_cli_plan_shaping[PLAN_SHAPING];
typedef struct salvo_plan_basis {     /* the runs that a result is made of */
    const salvo_plan_result *told, *headroom, *outage; /* the latter two or NULL */
} salvo_plan_basis;
salvo_plan_basis salvo_cli_plan_basis(const salvo_plan_case *c, const salvo_plan_found *found);
size_t salvo_cli_plan_notes(const salvo_plan_case *c, const salvo_plan_basis *basis,
                            char notes[PLAN_NOTES][PLAN_TEXT]);

/* plan_trace.c */
bool salvo_cli_plan_trace(const char *path, salvo_plan_case *c);

/* plan_run.c: 0, or CLI_FAILED or CLI_USAGE after a printed error. */
typedef struct salvo_plan_shot {
    uint32_t scale_permille;
    uint64_t seed, warmup_ns, duration_ns, window_ns;
    uint64_t outage_ns;               /* 0: none */
} salvo_plan_shot;
int salvo_cli_plan_shoot(const salvo_plan_case *c, const salvo_plan_choice *choice,
                         const salvo_plan_shot *shot, salvo_plan_result *result);
salvo_config *salvo_cli_plan_config(const salvo_plan_case *c, const salvo_plan_choice *choice);
uint64_t salvo_cli_plan_rate(const salvo_plan_case *c, uint32_t scale_permille);
/* So long that about `records` come, within bounds. */
uint64_t salvo_cli_plan_span(const salvo_plan_case *c, uint32_t scale_permille, uint64_t records,
                             uint64_t least_ns, uint64_t most_ns);

/* plan_search.c, plan_limits.c: 0, or a status after a printed error. */
int salvo_cli_plan_search(const salvo_plan_case *c, salvo_plan_found *found);
uint64_t salvo_cli_plan_steady_ns(const salvo_plan_case *c, uint32_t scale_permille);
int salvo_cli_plan_steady(const salvo_plan_case *c, const salvo_plan_choice *choice,
                          uint32_t scale_permille, uint64_t seed, salvo_plan_result *result,
                          salvo_plan_limit *broken);
int salvo_cli_plan_outage(const salvo_plan_case *c, const salvo_plan_choice *choice,
                          uint32_t scale_permille, uint64_t seed, uint64_t shrink_permille,
                          salvo_plan_result *result, salvo_plan_limit *broken);
int salvo_cli_plan_fits(const salvo_plan_case *c, salvo_plan_found *found, uint64_t seed,
                        uint64_t buffer, salvo_plan_limit *broken);
/* Doubles *high until it fits, *low what did not; else the plan is impossible: `where`. */
int salvo_cli_plan_ample_buffer(const salvo_plan_case *c, salvo_plan_found *found, uint64_t seed,
                                uint64_t *low, uint64_t *high, const char *where);
uint64_t salvo_cli_plan_more_room(uint64_t buffer, uint64_t more); /* whole MiB, what is allowed */
int salvo_cli_plan_least_buffer(const salvo_plan_case *c, salvo_plan_found *found, uint64_t seed,
                                uint64_t low, uint64_t high, uint64_t *least);
/* The least buffer and ring that the engine takes; of a buffer before it is shortened with an
 * outage. */
uint64_t salvo_cli_plan_floor(const salvo_plan_case *c, const salvo_plan_found *found);
uint64_t salvo_cli_plan_least_ring(const salvo_plan_case *c, const salvo_plan_choice *choice);
/* The whole: the search, seeds, the hour, cliffs; c learns what did not hold. */
int salvo_cli_plan_find(salvo_plan_case *c, salvo_plan_found *found);
void salvo_cli_plan_found_free(salvo_plan_found *found);
int salvo_cli_plan_predict(const salvo_plan_case *c, salvo_plan_prediction *p);

/* plan_why.c: the plan is impossible, and why; which part bounds a result. */
void salvo_cli_plan_why(const salvo_plan_case *c, salvo_plan_found *found,
                        const salvo_plan_broke *broke);
const char *salvo_cli_plan_bound(const salvo_plan_result *r);

/* plan_cliffs.c: they fill in cliff_permille and first; edges and edge_count. 0, or a status after
 * a printed error. */
int salvo_cli_plan_rate_cliffs(const salvo_plan_case *c, salvo_plan_found *found);
int salvo_cli_plan_setting_cliffs(const salvo_plan_case *c, salvo_plan_found *found);
void salvo_cli_plan_deadline_cliff(const salvo_plan_case *c, salvo_plan_found *found);
const char *salvo_cli_plan_setting_name(salvo_plan_setting setting);

/* plan_print.c */
const char *salvo_cli_plan_limit_name(salvo_plan_limit limit);
/* "2000; breaks at 5600: p99" */
void salvo_cli_plan_edge_text(const salvo_plan_edge *edge, char text[PLAN_TEXT]);
/* " (black hole) of 1 of 3 brokers"; "": refused by all */
const char *salvo_cli_plan_outage_text(const salvo_plan_case *c, char text[64]);
void salvo_cli_plan_print(const salvo_plan_case *c, const salvo_plan_found *found);
void salvo_cli_plan_print_prediction(const salvo_plan_case *c, const salvo_plan_prediction *p);
json_t *salvo_cli_plan_json(const salvo_plan_case *c, const salvo_plan_found *found);
json_t *salvo_cli_plan_prediction_json(const salvo_plan_case *c, const salvo_plan_prediction *p);
/* The core.toml: allocated. */
char *salvo_cli_plan_toml(const salvo_plan_case *c, const salvo_plan_found *found);

/* plan_page.c: HTML, allocated; NULL: no memory. */
char *salvo_cli_plan_page(const salvo_plan_case *c, const salvo_plan_found *found);

#endif
