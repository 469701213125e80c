/* SPDX-License-Identifier: Apache-2.0
 *
 * One run: topics of its own that exist before the load begins, threads that are ready before the
 * start, then the load, then the account.
 */
#include "bench.h"
#include "load_hdrlog.h"
#include "load_payload.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define OPEN_MS 10000u
#define PRIME_NS 30000000000u
#define LOOK_MS 1000u
#define HEAD_START_NS 20000000u

/* NULL: it has arrived; else why not. Waited for in slices, so that a signal ends it. */
static const char *first_message(salvo_bench_run *run, salvo_topic topic)
{
    unsigned char zeros[8] = {0};
    salvo_message first = {.value = zeros, .value_len = sizeof zeros};
    salvo_ledger ledger;
    uint64_t end_ns = salvo_load_now_ns() + PRIME_NS;
    int err = salvo_send_wait(run->producer, topic, &first, LOOK_MS, NULL);
    if (err != SALVO_ERR_TIMEOUT)
        return err == 0 ? NULL : salvo_strerror(err);
    while (err == SALVO_ERR_TIMEOUT && salvo_cli_signals() == 0 && salvo_load_now_ns() < end_ns)
        err = salvo_flush(run->producer, LOOK_MS);
    if (err == 0)
        err = salvo_get_ledger(run->producer, topic, &ledger);
    if (err != 0)
        return salvo_strerror(err);
    return ledger.acknowledged != 0 ? NULL : "it failed, after more than a second";
}

/* A message to each topic first: it makes the topic where the broker does so, and what a first
 * message costs is not what is measured. */
static bool open_topics(salvo_bench_run *run)
{
    for (size_t i = 0; i < run->options->topics; i++) {
        int err = salvo_topic_open(run->producer, run->topic_names[i], NULL, &run->topics[i]);
        if (err != 0) {
            salvo_cli_say("bench: topic %s: %s", run->topic_names[i], salvo_last_error());
            return false;
        }
        salvo_bench_topic_made(i);
        const char *why = first_message(run, run->topics[i]);
        if (why) {
            salvo_cli_say("bench: topic %s: a first message did not arrive: %s",
                          run->topic_names[i], why);
            return false;
        }
    }
    return true;
}

static bool open_producer(salvo_bench_run *run)
{
    salvo_options options = {.size = sizeof options, .on_report = salvo_bench_report,
                             .report_context = run, .open_timeout_ms = OPEN_MS,
                             .require_broker = 1};
    salvo_stats stats = {.size = sizeof stats};
    int err = salvo_open(run->config, &options, &run->producer);
    if (err != 0) {
        const char *text = salvo_last_error();
        salvo_cli_say("bench: %s", *text ? text : salvo_strerror(err));
        return false;
    }
    if (salvo_get_stats(run->producer, &stats) == 0) {
        memcpy(run->clock, stats.clock, sizeof run->clock);
        memcpy(run->driver, stats.driver, sizeof run->driver);
    }
    for (size_t i = 0; i < run->options->topics; i++)
        salvo_bench_topic_name(run->options, i, run->topic_names[i], sizeof run->topic_names[i]);
    return open_topics(run) && salvo_bench_read_start(run);
}

static bool prepare_sender(salvo_bench_run *run, unsigned index)
{
    const salvo_bench_options *o = run->options;
    salvo_bench_sender *s = &run->senders[index];
    char error[256];
    s->run = run;
    s->index = index;
    s->slot = salvo_bench_slot_new(run, 1u << BENCH_CALL | 1u << BENCH_ACCEPTED |
                                            1u << BENCH_LATENESS);
    s->pace = (salvo_pace){
        .spin_ns = o->spin_given ? o->spin_us * 1000 : salvo_pace_spin_ns((unsigned)o->threads),
        .stop = &run->stop,
        .lateness = s->slot->columns[BENCH_LATENESS]};
    s->block = salvo_cli_alloc(SALVO_LOAD_BLOCK_BYTES);
    if (salvo_payload_fill(s->block, o->load.payload_text, o->load.seed, error, sizeof error))
        return true;
    salvo_cli_say("bench: %s", error);
    return false;
}

static bool start_senders(salvo_bench_run *run)
{
    unsigned threads = (unsigned)run->options->threads;
    run->senders = aligned_alloc(64, threads * sizeof *run->senders);
    if (!run->senders)
        return false;
    memset(run->senders, 0, threads * sizeof *run->senders);
    for (unsigned i = 0; i < threads; i++)
        if (!prepare_sender(run, i))
            return false;
    pthread_barrier_init(&run->ready, NULL, threads + 1);
    pthread_barrier_init(&run->go, NULL, threads + 1);
    for (unsigned i = 0; i < threads; i++) {
        salvo_bench_sender *s = &run->senders[i];
        if (pthread_create(&s->thread, NULL, salvo_bench_send, s) == 0)
            continue;
        salvo_cli_say("bench: cannot start a thread: %s", strerror(errno));
        exit(CLI_FAILED); /* the others wait at the barrier */
    }
    return true;
}

/* Same moment for all threads, and with --start-at for all processes. */
static void start_clock(salvo_bench_run *run)
{
    uint64_t unix_now = salvo_load_unix_ns(), now = salvo_load_now_ns();
    uint64_t delay = HEAD_START_NS;
    double at = run->options->start_at * 1e9;
    if (at > (double)unix_now)
        delay = (uint64_t)at - unix_now;
    else if (at > 0)
        salvo_cli_say("bench: --start-at is in the past: starting now");
    run->start_ns = now + delay;
    run->start_unix_ns = unix_now + delay;
}

static bool prepare(salvo_bench_run *run)
{
    const salvo_bench_options *o = run->options;
    size_t seconds = (size_t)o->load.duration_s + 3;
    run->warmup_ns = (uint64_t)(o->load.warmup_s * 1e9);
    run->duration_ns = (uint64_t)(o->load.duration_s * 1e9);
    run->slices = salvo_cli_alloc(seconds * sizeof *run->slices);
    for (int c = 0; c < BENCH_COLUMNS; c++)
        if (!(run->before[c] = salvo_histogram_new(3)))
            return false;
    for (int s = 0; s < SALVO_STAGES; s++)
        if (!(run->stages[s] = salvo_histogram_new(2)))
            return false;
    run->host_runs = salvo_host_start(&run->host);
    return run->host_runs && open_producer(run) && start_senders(run);
}

static void free_run(salvo_bench_run *run)
{
    if (run->host_runs)
        (void)salvo_host_end(&run->host);
    if (run->producer) {
        run->interrupted = true; /* nothing is waited for */
        salvo_bench_read_end(run);
        if (salvo_close(run->producer, 0, NULL) != 0)
            salvo_cli_say("bench: what was sent before the load was dropped");
    }
    for (unsigned i = 0; i < BENCH_SLOTS_MOST; i++) {
        salvo_bench_slot *slot = salvo_bench_slot_at(run, i);
        for (int c = 0; slot && c < BENCH_COLUMNS; c++)
            salvo_histogram_free(slot->columns[c]);
        free(slot);
    }
    for (unsigned i = 0; run->senders && i < run->options->threads; i++)
        free(run->senders[i].block);
    for (int c = 0; c < BENCH_COLUMNS; c++)
        salvo_histogram_free(run->before[c]);
    for (int s = 0; s < SALVO_STAGES; s++)
        salvo_histogram_free(run->stages[s]);
    salvo_histogram_free(run->host.hiccups);
    free(run->senders);
    free(run->readers);
    free(run->slices);
    free(run);
}

static int play(salvo_bench_run *run, json_t **result)
{
    const salvo_bench_options *o = run->options;
    pthread_barrier_wait(&run->ready);
    start_clock(run);
    if (o->hdr && !(run->log = salvo_hdrlog_open(o->hdr, run->start_unix_ns))) {
        salvo_cli_say("bench: cannot write %s: %s", o->hdr, strerror(errno));
        atomic_store_explicit(&run->stop, true, memory_order_relaxed);
    }
    bool unwritable = o->hdr && !run->log;
    pthread_barrier_wait(&run->go);
    salvo_bench_watch(run);
    bool damaged = false;
    for (unsigned i = 0; i < o->threads; i++)
        damaged = damaged || run->senders[i].damaged;
    salvo_bench_settle(run);
    if (run->log && !salvo_hdrlog_close(run->log)) {
        salvo_cli_say("bench: cannot write %s: %s", o->hdr, strerror(errno));
        unwritable = true;
    }
    if (damaged)
        salvo_cli_say("bench: %s: times go backwards or a size is above %u",
                      o->schedule ? o->schedule : o->trace,
                      SALVO_LOAD_SIZE_MOST);
    *result = damaged || unwritable ? NULL : salvo_bench_result(run);
    return !*result ? CLI_FAILED : run->interrupted ? CLI_INTERRUPTED : CLI_OK;
}

/* Processes that start together must not have the same. */
static uint64_t draw_mark(void)
{
    uint64_t mark;
    if (getrandom(&mark, sizeof mark, 0) != (ssize_t)sizeof mark)
        mark = salvo_load_unix_ns() ^ (uint64_t)getpid() << 40;
    return mark;
}

int salvo_bench_once(const salvo_bench_options *o, salvo_config *config, json_t **result)
{
    static uint64_t runs;
    salvo_bench_run *run = aligned_alloc(64, (sizeof *run + 63u) & ~(size_t)63u);
    if (!run) {
        salvo_cli_say("bench: no memory");
        return CLI_FAILED;
    }
    memset(run, 0, sizeof *run);
    run->options = o;
    run->config = config;
    run->id = ++runs;
    run->mark = draw_mark();
    *result = NULL;
    int status = prepare(run)              ? play(run, result)
                 : salvo_cli_signals() > 0 ? CLI_INTERRUPTED
                                           : CLI_FAILED;
    free_run(run);
    return status;
}
