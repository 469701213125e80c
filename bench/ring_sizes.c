/* SPDX-License-Identifier: Apache-2.0
 *
 * What does the size of a ring cost a sender? For 1 to 16 MiB: a producer paced at 200k/s against
 * a drain once per millisecond (p50 and p99 of stamp + claim + copy of 100 bytes + commit), and
 * the rate of both at full speed, and the drain's cost per record. Prints a table; x86-64 only.
 */
#include <inttypes.h>
#include <stdio.h>

#if !defined(__x86_64__)
int main(void)
{
    puts("ring_sizes needs the TSC of x86-64");
    return 0;
}
#else
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <x86intrin.h>

#include "drain.h"

#define LENGTH 100u
#define PACED_SENDS 600000u
#define PACE_NS 5000.0
#define FULL_SENDS 20000000u

static salvo_ring ring;
static double ticks_per_ns;
static uint32_t *samples;
static _Atomic bool done;

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t ticks(void)
{
    unsigned aux;
    return __rdtscp(&aux);
}

static void calibrate(void)
{
    uint64_t t0 = ticks(), n0 = now_ns();
    while (now_ns() - n0 < 50000000u)
        ;
    ticks_per_ns = (double)(ticks() - t0) / (double)(now_ns() - n0);
}

static inline bool send_one(const void *message, uint32_t number)
{
    salvo_ring_claim c;
    uint64_t stamp = ticks();
    if (salvo_ring_claim_n(&ring, 1, salvo_ring_units(LENGTH), &c) != 0)
        return false;
    memcpy(salvo_ring_payload(&ring, c.position), message, LENGTH);
    salvo_ring_commit(&ring, c.sequence, c.position, LENGTH, number, 0, 0, stamp);
    return true;
}

static void *send_paced(void *message)
{
    uint64_t next = ticks(), pace = (uint64_t)(PACE_NS * ticks_per_ns);
    for (uint32_t i = 0; i < PACED_SENDS; i++) {
        while (ticks() < next)
            ;
        uint64_t start = ticks();
        if (!send_one(message, i))
            exit((puts("full at a paced rate"), 1));
        samples[i] = (uint32_t)(ticks() - start);
        next += pace;
    }
    atomic_store(&done, true);
    return NULL;
}

static void *send_fast(void *message)
{
    for (uint32_t i = 0; i < FULL_SENDS;) {
        if (send_one(message, i))
            i++;
        else
            _mm_pause();
    }
    atomic_store(&done, true);
    return NULL;
}

static uint32_t drain_once(salvo_drain *drain)
{
    salvo_drain_record r;
    uint32_t n = 0, sum = 0;
    uint64_t t0 = ticks();
    _mm_lfence();
    salvo_drain_begin(drain, t0);
    for (; salvo_drain_peek(drain, &r); n++) {
        sum += *(const unsigned char *)r.payload + r.tag;
        salvo_drain_advance(drain);
    }
    salvo_drain_release(drain);
    __asm__ __volatile__("" : : "r"(sum));
    return n;
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* One run of a sender against the drain; returns its ns. */
static double run(void *(*sender)(void *), uint64_t interval_ns, double *ns_per_record)
{
    static unsigned char message[LENGTH];
    salvo_ring *pointers[1] = {&ring};
    salvo_drain drain;
    pthread_t thread;
    if (salvo_drain_open(&drain, pointers, 1, UINT64_MAX) != 0)
        exit(1);
    atomic_store(&done, false);
    uint64_t start = now_ns(), busy = 0, records = 0;
    if (pthread_create(&thread, NULL, sender, message) != 0)
        exit(1);
    while (!atomic_load(&done)) {
        if (interval_ns)
            nanosleep(&(struct timespec){0, (long)interval_ns}, NULL);
        uint64_t from = ticks();
        uint32_t n = drain_once(&drain);
        records += n;
        busy += n ? ticks() - from : 0;
    }
    double elapsed = (double)(now_ns() - start);
    pthread_join(thread, NULL);
    while (drain_once(&drain) != 0)
        ;
    *ns_per_record = (double)busy / ticks_per_ns / (double)(records ? records : 1);
    salvo_drain_close(&drain);
    return elapsed;
}

static double percentile(double p)
{
    return samples[(uint32_t)(p * (PACED_SENDS - 1))] / ticks_per_ns;
}

int main(void)
{
    samples = malloc(PACED_SENDS * sizeof *samples);
    if (!samples)
        return 1;
    calibrate();
    puts("  MiB | paced 200k/s, drain every 1 ms             | saturated");
    puts("      |   p50 ns   p99 ns  p99.9 ns  drain ns/rec | million/s  drain ns/rec");
    for (uint32_t mib = 1; mib <= 16; mib *= 2) {
        salvo_ring_options options = {mib << 20, mib << 14, 0, 0, 0};
        double drain_paced, drain_fast;
        if (salvo_ring_open(&ring, &options) != 0)
            return 1;
        run(send_paced, 1000000, &drain_paced);
        qsort(samples, PACED_SENDS, sizeof *samples, compare);
        double p50 = percentile(0.5), p99 = percentile(0.99), p999 = percentile(0.999);
        double ns = run(send_fast, 0, &drain_fast);
        printf("%5u | %8.0f %8.0f %9.0f %13.1f | %9.1f %13.1f\n", mib, p50, p99, p999,
               drain_paced, FULL_SENDS * 1e3 / ns, drain_fast);
        fflush(stdout);
        salvo_ring_close(&ring);
    }
    free(samples);
    return 0;
}
#endif
