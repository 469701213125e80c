/* SPDX-License-Identifier: Apache-2.0
 *
 * Time for a load generator: waiting for a due time, the generator's own lateness, and what the
 * host did meanwhile (hiccups, steal). Times are CLOCK_MONOTONIC in ns.
 */
#ifndef SALVO_LOAD_PACE_H
#define SALVO_LOAD_PACE_H

#include <pthread.h>
#include <salvo/histogram.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

static inline uint64_t salvo_load_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t salvo_load_unix_ns(void);
uint64_t salvo_load_thread_cpu_ns(void);
unsigned salvo_load_cores(void); /* that this process may run on */

/* One per thread. spin_ns: how long before a due time sleeping gives way to spinning. */
typedef struct salvo_pace {
    uint64_t start_ns, spin_ns;
    uint64_t ideal_ns; /* when a generator that costs nothing would have begun the last call, */
    uint64_t free_ns;  /* and when it would have been free again */
    const atomic_bool *stop;
    salvo_histogram *lateness;
} salvo_pace;

/* How long before a due time a thread should spin where this many send on this machine: 50 us
 * where cores are left for the engine, 0 where spinning would take them from it. */
uint64_t salvo_pace_spin_ns(unsigned threads);

/* Least timer slack for the calling thread. */
void salvo_pace_attach(void);

/* Until when to sleep at now_ns, before due_ns; now_ns: spin. Without spinning a sleep lasts 50 us
 * at least, because many short ones would take the core that sleeping is to leave to others. */
uint64_t salvo_pace_sleep_ns(uint64_t now_ns, uint64_t due_ns, uint64_t spin_ns);

/* Wait until at_ns after the start; returns now, or 0 when told to stop. The lateness is the
 * generator's own: behind one that costs nothing and makes calls that last as long as these. What
 * the calls themselves held up is the measured system's doing, and shows in its latency. */
uint64_t salvo_pace_wait(salvo_pace *pace, uint64_t at_ns, bool measured);

/* After the call that began at begin_ns; returns its end. */
static inline uint64_t salvo_pace_called(salvo_pace *pace, uint64_t begin_ns)
{
    uint64_t now = salvo_load_now_ns();
    pace->free_ns = pace->ideal_ns + (now - begin_ns);
    return now;
}

/* How much of the processors the host above this virtual one takes meanwhile. From
 * SALVO_STEAL_TOLD on it is told: what was measured holds such an hour's noise. */
enum { SALVO_STEAL_TOLD = 2 }; /* per cent */
typedef struct salvo_steal {
    uint64_t stolen, total; /* jiffies at the begin */
} salvo_steal;

salvo_steal salvo_steal_begin(void);
double salvo_steal_percent(const salvo_steal *since);

/* The host. hiccups: how much longer than told sleeps of 1 ms last. */
typedef struct salvo_host {
    pthread_t thread;
    atomic_bool stop, counting;
    salvo_histogram *hiccups;
    uint64_t cpu_ns; /* of the watching thread, after the end */
    salvo_steal steal;
} salvo_host;

bool salvo_host_start(salvo_host *host);
void salvo_host_count(salvo_host *host);        /* the warm-up is over */
double salvo_host_end(salvo_host *host);        /* the share that was stolen, in per cent */

#endif
