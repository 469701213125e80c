/* SPDX-License-Identifier: Apache-2.0
 *
 * What every benchmark shares: time, pacing, samples, tables, the JSON line, options.
 *
 * Guarantees: a timed region is closed by the same timer on both sides and its cost is measured
 * (bench_timer_ticks); samples go into memory that was touched before; nothing here allocates or
 * calls the kernel inside a timed region. Independent of the engine, so that a fault of its clock
 * or histogram cannot flatter its figures.
 */
#ifndef BENCH_HARNESS_H
#define BENCH_HARNESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#if defined(__x86_64__)
#include <x86intrin.h>
#else
#include <time.h>
#endif

/* --- time ---------------------------------------------------------------------------------- */

/* Calibrates; call once, before any thread. Prints the timer's cost. */
void bench_time_init(void);
uint64_t bench_now_ns(void);         /* CLOCK_MONOTONIC */
uint64_t bench_thread_cpu_ns(void);  /* of the calling thread */
uint64_t bench_process_cpu_ns(void); /* user + system, all threads */
double bench_ns(double ticks);
uint64_t bench_timer_ticks(void); /* median of two readings back to back */

static inline uint64_t bench_ticks(void)
{
#if defined(__x86_64__)
    unsigned aux;
    uint64_t t = __rdtscp(&aux); /* waits for what came before ... */
    _mm_lfence();                /* ... and nothing after starts earlier */
    return t;
#else
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
#endif
}

/* --- pacing -------------------------------------------------------------------------------- */

typedef enum bench_pace {
    BENCH_PACE_SLEEP, /* sleep until shortly before where there is time to, spin the rest */
    BENCH_PACE_NAP    /* never spin: sleep whenever ahead, then send what has come due */
} bench_pace;

typedef struct bench_pacer { /* an open loop: who is late catches up */
    double next_ticks, period_ticks;
    bench_pace pace;
} bench_pacer;

/* per_second 0: as fast as it goes. Sets the calling thread's timer slack to its least. */
void bench_pacer_start(bench_pacer *pacer, double per_second, bench_pace pace);
void bench_pacer_wait(bench_pacer *pacer);

/* --- samples ------------------------------------------------------------------------------- */

typedef struct bench_samples { /* ticks; UINT32_MAX stands for longer ones */
    uint32_t *ticks;
    size_t count, capacity;
} bench_samples;

void bench_samples_init(bench_samples *samples, size_t capacity); /* touches every page */
void bench_samples_free(bench_samples *samples);
void bench_samples_append(bench_samples *into, const bench_samples *from);
void bench_samples_sort(bench_samples *samples);
double bench_percentile(const bench_samples *sorted, double percent); /* ticks */

static inline void bench_sample(bench_samples *samples, uint64_t ticks)
{
    samples->ticks[samples->count++] = ticks < UINT32_MAX ? (uint32_t)ticks : UINT32_MAX;
}

/* --- rounds -------------------------------------------------------------------------------- */

#define BENCH_MAX_ROUNDS 64
typedef struct bench_rounds {
    double value[BENCH_MAX_ROUNDS];
    size_t count;
} bench_rounds;

void bench_round_add(bench_rounds *rounds, double value);
double bench_median(const bench_rounds *rounds);
double bench_least(const bench_rounds *rounds);
double bench_most(const bench_rounds *rounds);
/* Warns, once, that the machine is noisy: the rounds of `what` spread over more than factor. */
void bench_warn_spread(const char *what, const bench_rounds *rounds, double factor);

/* --- output -------------------------------------------------------------------------------- */

/* A bar of '#' on a scale of powers of ten from `from` to `to`. */
void bench_bar(const char *label, double value, double from, double to, const char *unit);
const char *bench_time_text(double ns, char *text, size_t size); /* "24 ns", "1.9 us" */

typedef struct bench_json {
    char text[4096];
    size_t used;
} bench_json;
void bench_json_number(bench_json *json, const char *name, double value);
void bench_json_text(bench_json *json, const char *name, const char *value);
void bench_json_print(bench_json *json); /* one line, the last one */

/* --- options ------------------------------------------------------------------------------- */

typedef struct bench_option { /* exactly one of number, flag, text */
    const char *name;         /* without "--" */
    double *number;
    bool *flag;
    const char **text;
    double least, most; /* of a number */
    const char *help;
} bench_option;

/* Ends the process for --help (0) and for a bad option (2, one line). */
void bench_options(int argc, char **argv, const char *about, const bench_option *options,
                   size_t count);

/* One line on standard error, exit status 1. */
void bench_die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

#endif
