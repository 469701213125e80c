/* SPDX-License-Identifier: Apache-2.0
 *
 * The stress tests' own clock, so that they need nothing but ring/: the TSC where this machine's
 * kernel trusts it, else CLOCK_MONOTONIC. Ordered as the drain's proof demands, unless built with
 * SALVO_CLOCK_UNFENCED, which exists to show what a plain rdtsc costs.
 */
#ifndef SALVO_TEST_STAMP_H
#define SALVO_TEST_STAMP_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#if defined(__x86_64__)
#include <x86intrin.h>
#endif

static bool stamp_tsc; /* set by stamp_init before threads start */

static inline void stamp_init(void)
{
#if defined(__x86_64__)
    char name[32] = "";
    FILE *f = fopen("/sys/devices/system/clocksource/clocksource0/available_clocksource", "r");
    if (f) {
        stamp_tsc = fgets(name, sizeof name, f) && strstr(name, "tsc");
        fclose(f);
    }
#endif
}

static inline uint64_t stamp_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline uint64_t stamp(void)
{
#if defined(__x86_64__) && defined(SALVO_CLOCK_UNFENCED)
    if (stamp_tsc)
        return __rdtsc(); /* may be read before an earlier load: before the baton arrived */
#elif defined(__x86_64__)
    unsigned aux;
    if (stamp_tsc)
        return __rdtscp(&aux);
#endif
    return stamp_ns();
}

/* T0 of a pass: also before all later loads. */
static inline uint64_t stamp_fenced(void)
{
    uint64_t t = stamp();
#if defined(__x86_64__) && !defined(SALVO_CLOCK_UNFENCED)
    _mm_lfence();
#elif !defined(__x86_64__)
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
    return t;
}

#endif
