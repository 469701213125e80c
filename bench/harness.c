/* SPDX-License-Identifier: Apache-2.0
 *
 * Time, pacing, samples and rounds of the benchmarks; see harness.h for the guarantees.
 */
#include "harness.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>

static double ticks_per_ns = 1;
static double wake_ns;         /* how late a short sleep ends, 9 times of 10 */
static uint64_t timer_ticks;

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t bench_now_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

uint64_t bench_thread_cpu_ns(void)
{
    return clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

uint64_t bench_process_cpu_ns(void)
{
    return clock_ns(CLOCK_PROCESS_CPUTIME_ID);
}

double bench_ns(double ticks)
{
    return ticks / ticks_per_ns;
}

uint64_t bench_timer_ticks(void)
{
    return timer_ticks;
}

static void nap(double ns)
{
    struct timespec t = {(time_t)(ns / 1e9), (long)ns % 1000000000};
    nanosleep(&t, NULL);
}

static void measure_timer(void)
{
    enum { N = 100000 };
    bench_samples samples;
    bench_samples_init(&samples, N);
    for (int i = 0; i < N; i++) {
        uint64_t begin = bench_ticks();
        bench_sample(&samples, bench_ticks() - begin);
    }
    bench_samples_sort(&samples);
    timer_ticks = (uint64_t)bench_percentile(&samples, 50);
    bench_samples_free(&samples);
}

static void measure_wake(void)
{
    bench_rounds late = {.count = 0};
    prctl(PR_SET_TIMERSLACK, 1);
    for (int i = 0; i < BENCH_MAX_ROUNDS; i++) {
        uint64_t begin = bench_now_ns();
        nap(50e3);
        bench_round_add(&late, (double)(bench_now_ns() - begin) - 50e3);
    }
    wake_ns = bench_median(&late) * 1.25;
}

void bench_time_init(void)
{
    uint64_t ns = bench_now_ns(), ticks = bench_ticks();
    nap(100e6);
    double ns_passed = (double)(bench_now_ns() - ns);
    ticks_per_ns = (double)(bench_ticks() - ticks) / ns_passed;
    measure_timer();
    measure_wake();
    printf("timer: %.1f ns for two readings back to back, in every raw figure; "
           "a short sleep ends %.0f us late\n",
           bench_ns((double)timer_ticks), wake_ns / 1e3);
    printf("allocator: %s\n", dlsym(RTLD_DEFAULT, "mallctl") ? "jemalloc" : "the C library's");
}

void bench_pacer_start(bench_pacer *pacer, double per_second, bench_pace pace)
{
    prctl(PR_SET_TIMERSLACK, 1);
    pacer->pace = pace;
    pacer->period_ticks = per_second > 0 ? ticks_per_ns * 1e9 / per_second : 0;
    pacer->next_ticks = (double)bench_ticks();
}

void bench_pacer_wait(bench_pacer *pacer)
{
    if (pacer->period_ticks == 0)
        return;
    pacer->next_ticks += pacer->period_ticks;
    double ahead_ns = bench_ns(pacer->next_ticks - (double)bench_ticks());
    if (ahead_ns <= 0)
        return;
    if (pacer->pace == BENCH_PACE_NAP) {
        nap(ahead_ns);
        return;
    }
    if (ahead_ns > wake_ns)
        nap(ahead_ns - wake_ns);
    while ((double)bench_ticks() < pacer->next_ticks) {
#if defined(__x86_64__)
        _mm_pause();
#endif
    }
}

void bench_samples_init(bench_samples *samples, size_t capacity)
{
    samples->ticks = malloc(capacity * sizeof *samples->ticks + 1);
    if (!samples->ticks)
        bench_die("no memory for %zu samples; ask for fewer", capacity);
    memset(samples->ticks, 1, capacity * sizeof *samples->ticks);
    samples->count = 0;
    samples->capacity = capacity;
}

void bench_samples_free(bench_samples *samples)
{
    free(samples->ticks);
    samples->ticks = NULL;
}

void bench_samples_append(bench_samples *into, const bench_samples *from)
{
    size_t room = into->capacity - into->count;
    size_t n = from->count < room ? from->count : room;
    memcpy(into->ticks + into->count, from->ticks, n * sizeof *from->ticks);
    into->count += n;
}

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

void bench_samples_sort(bench_samples *samples)
{
    qsort(samples->ticks, samples->count, sizeof *samples->ticks, by_value);
}

double bench_percentile(const bench_samples *sorted, double percent)
{
    if (sorted->count == 0)
        return 0;
    size_t rank = (size_t)((double)sorted->count * percent / 100);
    return sorted->ticks[rank < sorted->count ? rank : sorted->count - 1];
}

void bench_round_add(bench_rounds *rounds, double value)
{
    if (rounds->count < BENCH_MAX_ROUNDS)
        rounds->value[rounds->count++] = value;
}

static int by_double(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

double bench_median(const bench_rounds *rounds)
{
    bench_rounds sorted = *rounds;
    qsort(sorted.value, sorted.count, sizeof *sorted.value, by_double);
    if (sorted.count == 0)
        return 0;
    size_t half = sorted.count / 2;
    return sorted.count % 2 ? sorted.value[half]
                            : (sorted.value[half - 1] + sorted.value[half]) / 2;
}

double bench_least(const bench_rounds *rounds)
{
    double least = rounds->count ? rounds->value[0] : 0;
    for (size_t i = 1; i < rounds->count; i++)
        least = rounds->value[i] < least ? rounds->value[i] : least;
    return least;
}

double bench_most(const bench_rounds *rounds)
{
    double most = rounds->count ? rounds->value[0] : 0;
    for (size_t i = 1; i < rounds->count; i++)
        most = rounds->value[i] > most ? rounds->value[i] : most;
    return most;
}
