/* SPDX-License-Identifier: Apache-2.0
 *
 * Time. A stamp is a 64-bit tick of one clock per producer: the TSC where the kernel trusts it,
 * CLOCK_MONOTONIC in ns elsewhere, or a test's own. Guarantee: if an event happens before
 * another (in C11's sense, on whatever cores), its stamp is not larger. salvo_clock_stamp() is
 * ordered after the loads before it; salvo_clock_read_fenced() also before the loads after it.
 */
#ifndef SALVO_CLOCK_H
#define SALVO_CLOCK_H

#include <stdint.h>
#include <stdbool.h>
#include <time.h>
#if defined(__x86_64__)
#include <x86intrin.h>
#endif

typedef enum salvo_clock_kind {
    SALVO_CLOCK_TSC,
    SALVO_CLOCK_MONOTONIC,
    SALVO_CLOCK_FAKE
} salvo_clock_kind;

typedef struct salvo_clock {
    salvo_clock_kind kind;
    uint32_t shift;           /* ns = (ticks * mult) >> shift, in 128 bits */
    uint64_t mult;
    uint64_t (*fake)(void *context); /* ticks are ns */
    void *context;
    uint64_t wall_base_ms;    /* wall clock (Unix ms) at tick wall_tick */
    uint64_t wall_tick;
} salvo_clock;

/* Choose and calibrate (once per producer, some ms). SALVO_CLOCK=monotonic is forced by kind. */
void salvo_clock_init(salvo_clock *clock, salvo_clock_kind kind);

static inline uint64_t salvo_clock_monotonic_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline uint64_t salvo_clock_stamp(const salvo_clock *clock)
{
#if defined(__x86_64__)
    if (__builtin_expect(clock->kind == SALVO_CLOCK_TSC, 1)) {
        unsigned aux;
        return __rdtscp(&aux); /* waits for all earlier loads; rdtsc does not, and loses order */
    }
#endif
    return clock->kind == SALVO_CLOCK_FAKE ? clock->fake(clock->context)
                                           : salvo_clock_monotonic_ns();
}

static inline uint64_t salvo_clock_read_fenced(const salvo_clock *clock)
{
#if defined(__x86_64__)
    uint64_t t = salvo_clock_stamp(clock);
    _mm_lfence(); /* no later load before the clock was read */
    return t;
#else
    uint64_t t = salvo_clock_stamp(clock);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return t;
#endif
}

static inline uint64_t salvo_clock_ns(const salvo_clock *clock, uint64_t ticks)
{
    return (uint64_t)(((unsigned __int128)ticks * clock->mult) >> clock->shift);
}
uint64_t salvo_clock_ticks(const salvo_clock *clock, uint64_t ns);
int64_t salvo_clock_wall_ms(const salvo_clock *clock, uint64_t tick);

#endif
