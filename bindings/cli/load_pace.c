/* SPDX-License-Identifier: Apache-2.0
 *
 * Pacing. A thread sleeps until shortly before the due time and spins for the rest, because a
 * sleep ends some 50 us late; where every core is needed it only sleeps, and then long enough that
 * sleeping itself does not take a core.
 */
#include "load_pace.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <unistd.h>

#define SPIN_NS 50000u
#define NAP_NS 50000u
#define SLICE_NS 100000000u /* a request to stop is noticed this fast */
#define HICCUP_NS 1000000u

static uint64_t read_clock(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t salvo_load_unix_ns(void)
{
    return read_clock(CLOCK_REALTIME);
}

uint64_t salvo_load_thread_cpu_ns(void)
{
    return read_clock(CLOCK_THREAD_CPUTIME_ID);
}

unsigned salvo_load_cores(void)
{
    cpu_set_t ours;
    return sched_getaffinity(0, sizeof ours, &ours) == 0
               ? (unsigned)CPU_COUNT(&ours)
               : (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
}

uint64_t salvo_pace_spin_ns(unsigned threads)
{
    return salvo_load_cores() >= threads + 2 ? SPIN_NS : 0;
}

void salvo_pace_attach(void)
{
    (void)prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
}

static void sleep_until(uint64_t ns)
{
    struct timespec t = {.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
        ;
}

uint64_t salvo_pace_sleep_ns(uint64_t now_ns, uint64_t due_ns, uint64_t spin_ns)
{
    uint64_t wake = due_ns - now_ns > SLICE_NS ? now_ns + SLICE_NS : due_ns;
    if (spin_ns == 0 && wake - now_ns < NAP_NS)
        return now_ns + NAP_NS;
    return wake - now_ns > spin_ns ? wake - spin_ns : now_ns;
}

uint64_t salvo_pace_wait(salvo_pace *pace, uint64_t at_ns, bool measured)
{
    uint64_t due = pace->start_ns + at_ns, now = salvo_load_now_ns();
    pace->ideal_ns = pace->free_ns > due ? pace->free_ns : due;
    while (now < due) {
        if (atomic_load_explicit(pace->stop, memory_order_relaxed))
            return 0;
        uint64_t until = salvo_pace_sleep_ns(now, due, pace->spin_ns);
        if (until > now)
            sleep_until(until);
        now = salvo_load_now_ns();
    }
    if (atomic_load_explicit(pace->stop, memory_order_relaxed))
        return 0;
    if (measured)
        salvo_histogram_record(pace->lateness, now > pace->ideal_ns ? now - pace->ideal_ns : 0, 1);
    return now;
}

/* Jiffies of all cores from the first line of /proc/stat. */
salvo_steal salvo_steal_begin(void)
{
    unsigned long long v[8] = {0};
    salvo_steal now = {0};
    FILE *file = fopen("/proc/stat", "re");
    if (!file)
        return now;
    int count = fscanf(file, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &v[0], &v[1], &v[2],
                       &v[3], &v[4], &v[5], &v[6], &v[7]);
    fclose(file);
    for (int i = 0; i < count; i++)
        now.total += v[i];
    now.stolen = v[7];
    return now;
}

double salvo_steal_percent(const salvo_steal *since)
{
    salvo_steal now = salvo_steal_begin();
    return now.total > since->total ? 100.0 * (double)(now.stolen - since->stolen) /
                                          (double)(now.total - since->total)
                                    : 0;
}

static void *watch(void *context)
{
    salvo_host *host = context;
    salvo_pace_attach();
    while (!atomic_load_explicit(&host->stop, memory_order_acquire)) {
        uint64_t due = salvo_load_now_ns() + HICCUP_NS;
        sleep_until(due);
        uint64_t now = salvo_load_now_ns();
        if (atomic_load_explicit(&host->counting, memory_order_relaxed))
            salvo_histogram_record(host->hiccups, now > due ? now - due : 0, 1);
    }
    host->cpu_ns = salvo_load_thread_cpu_ns();
    return NULL;
}

bool salvo_host_start(salvo_host *host)
{
    *host = (salvo_host){.hiccups = salvo_histogram_new(3)};
    return host->hiccups && pthread_create(&host->thread, NULL, watch, host) == 0;
}

void salvo_host_count(salvo_host *host)
{
    host->steal = salvo_steal_begin();
    atomic_store_explicit(&host->counting, true, memory_order_relaxed);
}

double salvo_host_end(salvo_host *host)
{
    atomic_store_explicit(&host->stop, true, memory_order_release);
    pthread_join(host->thread, NULL);
    return salvo_steal_percent(&host->steal);
}
