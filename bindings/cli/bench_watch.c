/* SPDX-License-Identifier: Apache-2.0
 *
 * The main thread of a run: once a second it takes what the slots have counted since. Recorders
 * are only ever read while they run; nothing is reset under a writer's hands.
 */
#include "bench.h"
#include "load_hdrlog.h"
#include "load_result.h"
#include "progress.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/resource.h>

#define SECOND_NS 1000000000u
#define LOOK_NS 100000000u
#define RELAXED memory_order_relaxed

const char *const salvo_bench_columns[BENCH_COLUMNS] = {"call", "accepted", "acknowledged",
                                                        "consumed", "lateness"};

static uint64_t process_cpu_ns(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * SECOND_NS +
           (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1000;
}

static uint64_t cpu_of(pthread_t thread, const _Atomic uint64_t *ended)
{
    struct timespec t = {0};
    clockid_t clock;
    uint64_t ns = atomic_load_explicit(ended, RELAXED);
    if (ns == 0 && pthread_getcpuclockid(thread, &clock) == 0 && clock_gettime(clock, &t) == 0)
        ns = (uint64_t)t.tv_sec * SECOND_NS + (uint64_t)t.tv_nsec;
    return ns;
}

/* What the generator's own threads used; the calls of the senders are subtracted later. */
static uint64_t own_cpu_ns(const salvo_bench_run *run)
{
    static const _Atomic uint64_t running;
    const salvo_bench_options *o = run->options;
    uint64_t sum = salvo_load_thread_cpu_ns();
    for (unsigned i = 0; i < o->threads; i++)
        sum += cpu_of(run->senders[i].thread, &run->senders[i].cpu_ns);
    for (unsigned i = 0; run->readers && i < o->topics; i++)
        sum += cpu_of(run->readers[i].thread, &run->readers[i].cpu_ns);
    return sum + (run->host_runs ? cpu_of(run->host.thread, &running) : 0);
}

/* The sum of a column over all slots; NULL without memory. */
static salvo_histogram *sum_of(salvo_bench_run *run, int column)
{
    salvo_histogram *sum = salvo_histogram_new(3);
    for (unsigned i = 0; sum && i < BENCH_SLOTS_MOST; i++) {
        salvo_bench_slot *slot = salvo_bench_slot_at(run, i);
        if (slot && slot->columns[column])
            salvo_histogram_add(sum, slot->columns[column]);
    }
    return sum;
}

static salvo_bench_slice counts_of(salvo_bench_run *run)
{
    salvo_bench_slice sum = {0};
    for (unsigned i = 0; i < BENCH_SLOTS_MOST; i++) {
        salvo_bench_slot *slot = salvo_bench_slot_at(run, i);
        if (!slot)
            continue;
        sum.offered += atomic_load_explicit(&slot->offered, RELAXED);
        sum.accepted += atomic_load_explicit(&slot->accepted, RELAXED);
        sum.acknowledged += atomic_load_explicit(&slot->acknowledged, RELAXED);
        sum.refused += atomic_load_explicit(&slot->refused, RELAXED);
        sum.failed += atomic_load_explicit(&slot->failed, RELAXED);
    }
    return sum;
}

static void take_column(salvo_bench_run *run, int column, salvo_bench_slice *slice,
                        double start_s, double length_s)
{
    salvo_histogram *now = sum_of(run, column), *fresh = salvo_histogram_new(3);
    if (now && fresh) {
        salvo_histogram_since(fresh, now, run->before[column]);
        if (column == BENCH_ACKNOWLEDGED) {
            uint64_t never = slice->refused + slice->failed;
            slice->p50_ns = salvo_result_at(fresh, never, 50);
            slice->p99_ns = salvo_result_at(fresh, never, 99);
        }
        if (run->log)
            (void)salvo_hdrlog_write(run->log, salvo_bench_columns[column], start_s, length_s,
                                     fresh);
    }
    salvo_histogram_free(now);
    salvo_histogram_free(fresh);
}

/* What became known since the last slice: a message belongs to the second of its outcome. */
static void take_slice(salvo_bench_run *run, double start_s, double length_s)
{
    salvo_bench_slice now = counts_of(run), *slice = &run->slices[run->slice_count++];
    *slice = (salvo_bench_slice){.offered = now.offered - run->sum.offered,
                                 .accepted = now.accepted - run->sum.accepted,
                                 .acknowledged = now.acknowledged - run->sum.acknowledged,
                                 .refused = now.refused - run->sum.refused,
                                 .failed = now.failed - run->sum.failed};
    run->sum = now;
    for (int c = 0; c < BENCH_COLUMNS; c++)
        take_column(run, c, slice, start_s, length_s);
}

/* The warm-up is over. */
static void begin_measuring(salvo_bench_run *run)
{
    for (int s = 0; s < SALVO_STAGES; s++)
        if (salvo_get_stage(run->producer, (salvo_stage)s, run->stages[s]) != 0)
            salvo_cli_say("bench: no stage %d", s);
    salvo_host_count(&run->host);
    run->cpu_begin_ns = process_cpu_ns();
    run->own_begin_ns = own_cpu_ns(run);
}

static bool sleep_to(salvo_bench_run *run, salvo_progress *progress, uint64_t at_ns)
{
    for (;;) {
        uint64_t now = salvo_load_now_ns(), due = run->start_ns + at_ns;
        if (salvo_cli_signals() > 0) {
            run->interrupted = true;
            atomic_store_explicit(&run->stop, true, RELAXED);
            return false;
        }
        if (now >= due)
            return true;
        uint64_t left = due - now < LOOK_NS ? due - now : LOOK_NS;
        nanosleep(&(struct timespec){.tv_nsec = (long)left}, NULL);
        salvo_progress_step(progress, run->producer);
    }
}

static uint64_t drained_ns(const salvo_bench_run *run)
{
    return run->start_ns + run->warmup_ns + run->duration_ns + run->options->drain_s * SECOND_NS;
}

/* Senders that are late have the drain time, unless a signal comes. */
static void join_sender(salvo_bench_run *run, const salvo_bench_sender *s,
                        salvo_progress *progress)
{
    for (;;) {
        uint64_t until_ns = salvo_load_now_ns() + LOOK_NS;
        struct timespec until = {.tv_sec = (time_t)(until_ns / SECOND_NS),
                                 .tv_nsec = (long)(until_ns % SECOND_NS)};
        int err = pthread_clockjoin_np(s->thread, NULL, CLOCK_MONOTONIC, &until);
        run->interrupted = run->interrupted || salvo_cli_signals() > 0;
        if (err != ETIMEDOUT)
            return;
        run->overdue = salvo_load_now_ns() > drained_ns(run);
        if (run->interrupted || run->overdue) {
            atomic_store_explicit(&run->stop, true, RELAXED);
            (void)!salvo_unblock(run->producer);
        }
        salvo_progress_step(progress, run->producer);
    }
}

void salvo_bench_watch(salvo_bench_run *run)
{
    salvo_progress progress;
    salvo_progress_init(&progress, run->options->quiet);
    bool going = sleep_to(run, &progress, run->warmup_ns);
    begin_measuring(run);
    for (uint64_t at = 0; going && at < run->duration_ns; at += SECOND_NS) {
        uint64_t length = run->duration_ns - at < SECOND_NS ? run->duration_ns - at : SECOND_NS;
        uint64_t end = run->warmup_ns + at + length;
        going = sleep_to(run, &progress, end);
        if (going && end < run->warmup_ns + run->duration_ns) /* the last one waits for the rest */
            take_slice(run, (double)(run->warmup_ns + at) / 1e9, (double)length / 1e9);
    }
    for (unsigned i = 0; i < run->options->threads; i++)
        join_sender(run, &run->senders[i], &progress);
    salvo_progress_end(&progress);
    if (run->overdue && !run->interrupted)
        salvo_bench_count_unsent(run);
}

/* In slices: a signal ends it. */
static int drain(salvo_bench_run *run)
{
    int err;
    do {
        err = salvo_flush(run->producer, LOOK_NS / 1000000);
        run->interrupted = run->interrupted || salvo_cli_signals() > 0;
    } while (err == SALVO_ERR_TIMEOUT && !run->interrupted &&
             salvo_load_now_ns() < drained_ns(run));
    return err;
}

void salvo_bench_settle(salvo_bench_run *run)
{
    salvo_close_report report = {0};
    int err = drain(run);
    salvo_bench_read_end(run);
    run->cpu_ns = process_cpu_ns() - run->cpu_begin_ns;
    run->own_ns = own_cpu_ns(run) - run->own_begin_ns;
    run->end_ns = salvo_load_now_ns();
    if (run->host_runs)
        run->steal_percent = salvo_host_end(&run->host);
    run->host_runs = false;
    for (int s = 0; s < SALVO_STAGES; s++) {
        salvo_histogram *now = salvo_histogram_new(2), *fresh = salvo_histogram_new(2);
        if (now && fresh && salvo_get_stage(run->producer, (salvo_stage)s, now) == 0)
            salvo_histogram_since(fresh, now, run->stages[s]);
        salvo_histogram_free(now);
        salvo_histogram_free(run->stages[s]);
        run->stages[s] = fresh;
    }
    if (err != 0 && !run->interrupted)
        salvo_cli_say("bench: not all was delivered %llu s after the load's end; the rest counts "
                      "as infinite", (unsigned long long)run->options->drain_s);
    if (salvo_close(run->producer, 0, &report) != 0 && report.undelivered == 0)
        salvo_cli_say("bench: the producer did not close as it should");
    run->producer = NULL;
    run->ledger = report.ledger;
    for (unsigned i = 0; i < run->options->threads; i++) {
        const salvo_bench_sender *s = &run->senders[i];
        run->ledger.offered += s->never_sent;
        run->ledger.refused_timeout += s->never_sent;
    }
    double begun = (double)(run->warmup_ns + run->slice_count * SECOND_NS) / 1e9;
    double ended = (double)(run->end_ns - run->start_ns) / 1e9;
    if (ended > begun)
        take_slice(run, begun, ended - begun);
}
