/* SPDX-License-Identifier: Apache-2.0
 *
 * A sending thread of `salvo produce`. Guarantees: the lines of its queue are offered in order,
 * each until it is accepted (policy `block`) or once (the other policies); after a stop nothing
 * more is offered. While the broker is away a thread waits in short calls, so that it notices a
 * stop; each of those calls that ends without room is a refusal in the ledger.
 */
#include "produce.h"

#include <stdio.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define BATCH_LINES 1024u
#define SPIN_NS 15000u          /* shorter waits are not worth a sleep */
#define CATCH_UP_PS 10000000000u /* a schedule that is later than 10 ms starts anew: no bursts */

void salvo_produce_thread_ended(produce_job *job)
{
    uint64_t one = 1;
    /* release: its partner is the acquire in produce.c's wait; the counts of this thread. */
    atomic_fetch_sub_explicit(&job->running, 1, memory_order_release);
    ssize_t n = write(job->done_fd, &one, sizeof one);
    (void)n;
}

static bool stopped(produce_job *job)
{
    return atomic_load_explicit(&job->stop, memory_order_relaxed) || salvo_cli_signals() > 0;
}

static void wait_until(produce_job *job, uint64_t due_ns)
{
    for (;;) {
        uint64_t now = salvo_cli_now_ns();
        if (now >= due_ns || stopped(job))
            return;
        uint64_t left = due_ns - now;
        if (left <= SPIN_NS)
            continue;
        left -= SPIN_NS;
        if (left > 50000000)
            left = 50000000; /* look at the stop again */
        struct timespec nap = {0, (long)left};
        nanosleep(&nap, NULL);
    }
}

/* Takes the next place in the schedule that all threads share, and waits for its time. */
static void pace(produce_job *job)
{
    uint64_t interval = 1000000000000u / job->options->rate;
    uint64_t now = (salvo_cli_now_ns() - job->start_ns) * 1000;
    uint64_t earliest = now > CATCH_UP_PS ? now - CATCH_UP_PS : 0;
    /* relaxed throughout: the schedule orders nothing but itself. */
    uint64_t next = atomic_load_explicit(&job->next_ps, memory_order_relaxed);
    uint64_t due;
    do {
        due = next > earliest ? next : earliest;
    } while (!atomic_compare_exchange_weak_explicit(&job->next_ps, &next, due + interval,
                                                    memory_order_relaxed, memory_order_relaxed));
    wait_until(job, job->start_ns + due / 1000);
}

static int offer(produce_job *job, salvo_bytes value, salvo_bytes key)
{
    const produce_options *options = job->options;
    if (options->header_count == 0 && options->partition < 0)
        return salvo_send_fire_and_forget(job->producer, job->topic, key.data, key.len,
                                          value.data, value.len);
    salvo_message message = {.value = value.data, .value_len = value.len, .key = key.data,
                             .key_len = key.len, .headers = options->headers,
                             .header_count = options->header_count,
                             .partition_plus1 = (int32_t)(options->partition + 1)};
    return salvo_send(job->producer, job->topic, &message);
}

/* One line until it is accepted, refused for good or the job is stopped. */
static int send_one(produce_job *job, salvo_bytes value, salvo_bytes key)
{
    uint64_t start = 0;
    for (;;) {
        int err = offer(job, value, key);
        if (err == 0)
            atomic_fetch_add_explicit(&job->sent, 1, memory_order_relaxed);
        bool full = err == SALVO_ERR_TIMEOUT || err == SALVO_ERR_FULL;
        if (!full || stopped(job))
            return err == SALVO_ERR_TIMEOUT ? 0 : err;
        uint64_t now = salvo_cli_now_ns();
        if (start == 0)
            start = now;
        bool late = job->send_timeout_ms != 0 &&
                    now - start >= job->send_timeout_ms * 1000000;
        if (!job->blocking || late) {
            atomic_fetch_add_explicit(&job->lost, 1, memory_order_relaxed);
            return 0;
        }
    }
}

static void tell(produce_job *job, const produce_parcel *parcel, size_t i, int err)
{
    size_t key_len = parcel->keys ? parcel->keys[i].len : 0;
    unsigned long long line = parcel->lines[i];
    if (err == SALVO_ERR_TOO_LARGE)
        salvo_produce_fail(job, "%s:%llu: %zu bytes with its key, and headers; allowed are %llu "
                           "(max_message_bytes)", parcel->file, line,
                           parcel->values[i].len + key_len,
                           (unsigned long long)job->max_message_bytes);
    else
        salvo_produce_fail(job, "%s:%llu: not sent: %s", parcel->file, line,
                           salvo_strerror(err));
    atomic_store_explicit(&job->stop, true, memory_order_relaxed);
    salvo_cli_stop_readers();
}

/* Without keys, headers and a schedule, as many lines as there is room for at a time. */
static size_t send_many(produce_job *job, const produce_parcel *parcel, size_t from)
{
    size_t count = parcel->count - from;
    if (count > BATCH_LINES)
        count = BATCH_LINES;
    int64_t taken = salvo_send_batch_fire_and_forget(job->producer, job->topic,
                                                     parcel->values + from, count);
    if (taken <= 0)
        return 0; /* send_one will find out why */
    atomic_fetch_add_explicit(&job->sent, (uint64_t)taken, memory_order_relaxed);
    return (size_t)taken;
}

static void send_parcel(produce_job *job, const produce_parcel *parcel)
{
    const produce_options *options = job->options;
    bool many = !parcel->keys && options->header_count == 0 && options->partition < 0 &&
                options->rate == 0 && job->blocking;
    salvo_bytes none = {NULL, 0};
    for (size_t i = 0; i < parcel->count && !stopped(job);) {
        if (many) {
            size_t taken = send_many(job, parcel, i);
            i += taken;
            if (taken > 0)
                continue;
        }
        if (options->rate != 0)
            pace(job);
        if (stopped(job))
            return;
        int err = send_one(job, parcel->values[i], parcel->keys ? parcel->keys[i] : none);
        if (err != 0) {
            tell(job, parcel, i, err);
            return;
        }
        i++;
    }
}

void *salvo_produce_send(void *context)
{
    produce_sender *sender = context;
    produce_job *job = sender->job;
    produce_parcel *parcel;
    prctl(PR_SET_TIMERSLACK, 1L); /* a paced sender wakes when it asked to */
    int err = salvo_thread_attach(job->producer);
    if (err != 0) {
        salvo_produce_fail(job, "a thread cannot send: %s", salvo_strerror(err));
        atomic_store_explicit(&job->stop, true, memory_order_relaxed);
        salvo_cli_stop_readers();
    }
    while ((parcel = salvo_produce_queue_pop(sender->queue))) {
        send_parcel(job, parcel);
        salvo_produce_parcel_free(parcel);
    }
    salvo_produce_thread_ended(job);
    return NULL;
}
