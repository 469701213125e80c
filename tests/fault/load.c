/* SPDX-License-Identifier: Apache-2.0
 *
 * The load: application threads that send at a fixed rate, whatever the broker does. Guarantees:
 * every send call is timed (healthy and struck apart); a message's number is used once; each
 * report is marked, and a second one for a message counted; what it used of memory is measured
 * for this process alone.
 */
#include "fault.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef struct sender {
    fault_shared *shared;
    salvo *producer;
    salvo_topic topic;
    uint32_t thread;
    pthread_t id;
} sender;

/* --- reports: on the flusher's thread -------------------------------------------------------- */

static void on_report(void *context, const salvo_report *reports, size_t count)
{
    fault_shared *s = context;
    for (size_t i = 0; i < count; i++) {
        uint32_t thread = (uint32_t)(reports[i].opaque >> 32), n = (uint32_t)reports[i].opaque;
        int32_t status = reports[i].status;
        bool again = false;
        if (status == 0)
            again = fault_set_bit(&s->acked, thread, n);
        else if (status != SALVO_ERR_MAYBE)
            again = fault_set_bit(&s->refused, thread, n);
        _Atomic uint64_t *sum = status == 0                 ? &s->acknowledged
                                : status == SALVO_ERR_MAYBE ? &s->maybe
                                                            : &s->other;
        atomic_fetch_add_explicit(sum, 1, memory_order_relaxed);
        if (again)
            atomic_fetch_add_explicit(&s->twice, 1, memory_order_relaxed);
        if (status != 0)
            atomic_store_explicit(&s->last_status, status, memory_order_relaxed);
    }
}

/* --- sending --------------------------------------------------------------------------------- */

static void send_one(sender *me, uint32_t n)
{
    fault_shared *s = me->shared;
    unsigned char value[FAULT_VALUE_BYTES];
    char key[16];
    const salvo_message m = {
        .value = value,
        .value_len = sizeof value,
        .key = key,
        .key_len = fault_key(key, me->thread, n),
        .opaque = (uint64_t)me->thread << 32 | n,
        .report = 1,
    };
    fault_value_write(value, me->thread, n);
    uint32_t phase = atomic_load_explicit(&s->phase, memory_order_relaxed);
    uint64_t before = fault_now_ns();
    int err = salvo_send(me->producer, me->topic, &m);
    fault_calls_record(&s->calls[phase], fault_now_ns() - before);
    (void)err; /* the ledger counts refusals; the test asks that there are none */
    atomic_store_explicit(&s->offered[me->thread], n + 1, memory_order_relaxed);
}

/* What is due is sent; a thread that was held up makes up for it, so that the rate is kept. */
static void *send_at_rate(void *context)
{
    sender *me = context;
    fault_shared *s = me->shared;
    const double per_ns = (double)s->rate / FAULT_THREADS / 1e9;
    if (salvo_thread_attach(me->producer) != 0)
        snprintf(s->error, sizeof s->error, "salvo_thread_attach: %s", salvo_last_error());
    const uint64_t begin = fault_now_ns();
    uint32_t n = 0;
    while (!atomic_load_explicit(&s->stop, memory_order_relaxed) && n < FAULT_MOST) {
        uint64_t due = (uint64_t)((double)(fault_now_ns() - begin) * per_ns);
        for (; n < due && n < FAULT_MOST; n++) {
            if (atomic_load_explicit(&s->stop, memory_order_relaxed))
                break;
            send_one(me, n);
        }
        nanosleep(&(struct timespec){0, 500000}, NULL);
    }
    return NULL;
}

/* --- memory ---------------------------------------------------------------------------------- */

/* Proportional: a page that the engine maps twice counts once. 0: not told here. */
static uint64_t memory_now(void)
{
    char line[128];
    unsigned long long kib = 0;
    FILE *f = fopen("/proc/self/smaps_rollup", "r");
    while (f != NULL && fgets(line, sizeof line, f) != NULL)
        if (sscanf(line, "Pss: %llu kB", &kib) == 1)
            break;
    if (f != NULL)
        fclose(f);
    return kib * 1024;
}

/* The marks for acknowledged messages are shared with the test and not the engine's memory. */
static void watch(fault_shared *s, salvo *producer)
{
    salvo_stats stats = {.size = sizeof stats};
    for (uint32_t round = 0; !atomic_load_explicit(&s->stop, memory_order_relaxed); round++) {
        if (salvo_get_stats(producer, &stats) == 0) {
            uint64_t pending = stats.total.pending;
            atomic_store_explicit(&s->pending, pending, memory_order_relaxed);
            if (pending > atomic_load_explicit(&s->most_pending, memory_order_relaxed))
                atomic_store_explicit(&s->most_pending, pending, memory_order_relaxed);
        }
        if (round % 25 == 0) {
            uint64_t now = memory_now();
            s->memory_peak = now > s->memory_peak ? now : s->memory_peak;
        }
        nanosleep(&(struct timespec){0, 10000000}, NULL);
    }
}

/* --- the process ----------------------------------------------------------------------------- */

static int fail(fault_shared *s, const char *what, const char *why)
{
    snprintf(s->error, sizeof s->error, "%s: %s", what, why);
    return 1;
}

static int open_producer(fault_shared *s, salvo **producer, salvo_topic *topic)
{
    salvo_options options = {.size = sizeof options, .on_report = on_report,
                             .report_context = s};
    salvo_config *config;
    if (salvo_config_new(&config) != 0)
        return fail(s, "salvo_config_new", "no memory");
    for (int i = 0; i < FAULT_SETTINGS && s->setting[i][0][0] != '\0'; i++)
        if (salvo_config_set(config, s->setting[i][0], s->setting[i][1]) != 0)
            return fail(s, "salvo_config_set", salvo_config_error(config));
    s->memory_before = memory_now();
    if (salvo_open(config, &options, producer) != 0)
        return fail(s, "salvo_open", salvo_last_error());
    salvo_config_free(config);
    if (salvo_topic_open(*producer, s->topic, NULL, topic) != 0)
        return fail(s, "salvo_topic_open", salvo_last_error());
    return 0;
}

/* With a broker inside: what is acknowledged is given time to be read before the broker goes. */
static void await_verifier(fault_shared *s)
{
    const uint64_t end = fault_now_ns() + UINT64_C(10000000000);
    while (fault_lost(s, NULL, 0) > 0 && fault_now_ns() < end)
        nanosleep(&(struct timespec){0, 10000000}, NULL);
    nanosleep(&(struct timespec){0, 200000000}, NULL); /* a repeat would come now */
    atomic_store(&s->stop_verifier, 1);
    fault_verify_join();
}

int fault_load(fault_shared *s)
{
    static sender senders[FAULT_THREADS];
    salvo *producer;
    salvo_topic topic;
    if (open_producer(s, &producer, &topic) != 0)
        return 1;
    if (s->verify_inside && fault_verify_start(s, producer) != 0)
        return fail(s, "verifier", "no thread");
    uint64_t begin = fault_now_ns();
    for (uint32_t i = 0; i < FAULT_THREADS; i++) {
        senders[i] = (sender){.shared = s, .producer = producer, .topic = topic, .thread = i};
        if (pthread_create(&senders[i].id, NULL, send_at_rate, &senders[i]) != 0)
            return fail(s, "sender", "no thread");
    }
    atomic_store(&s->ready, 1);
    watch(s, producer);
    for (int i = 0; i < FAULT_THREADS; i++)
        pthread_join(senders[i].id, NULL);
    s->sending_ns = fault_now_ns() - begin;
    s->flushed = salvo_flush(producer, s->flush_ms);
    s->flush_ns = fault_now_ns() - begin - s->sending_ns;
    uint64_t now = memory_now();
    s->memory_peak = now > s->memory_peak ? now : s->memory_peak;
    s->stats.size = sizeof s->stats;
    if (salvo_get_stats(producer, &s->stats) != 0)
        return fail(s, "salvo_get_stats", "failed");
    if (s->verify_inside)
        await_verifier(s);
    salvo_close_report report;
    s->closed = salvo_close(producer, 10000, &report);
    s->ledger = report.ledger;
    atomic_store(&s->done, 1);
    return s->error[0] != '\0';
}
