/* SPDX-License-Identifier: Apache-2.0
 *
 * Consuming: the public calls, handed to the driver one at a time. Guarantees: a poll that waits
 * makes way for other threads' calls within a moment, passes acknowledgements on at least every
 * SLICE_MS, and never gives more than max_in_hand allows; acknowledging, asking and waking never
 * wait for the broker.
 */
#include "consumer_internal.h"

#include "clock.h"
#include "error.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SLICE_MS 100u
#define MS_NS UINT64_C(1000000)

/* --- who may ----------------------------------------------------------------------------------*/

int salvo_consumer_failed(int err, const char *text)
{
    salvo_error_set("%s", text && *text ? text : salvo_strerror(err));
    return err;
}

int salvo_consumer_check(const salvo_consumer *consumer, const char *call)
{
    /* Acquire: pairs with the release of SALVO_CONSUMER_OPEN at the end of open. */
    uint32_t live = consumer ? atomic_load_explicit(&consumer->live, memory_order_acquire)
                             : SALVO_CONSUMER_OPEN;
    if (consumer && live == SALVO_CONSUMER_OPEN)
        return 0;
    if (!consumer) {
        salvo_error_set("%s: consumer is NULL", call);
        return SALVO_ERR_INVALID;
    }
    bool forked = live == SALVO_CONSUMER_FORKED;
    salvo_error_set("%s: the consumer %s", call,
                    forked ? "belongs to the parent process: open one of your own" : "is closed");
    return forked ? SALVO_ERR_FORKED : SALVO_ERR_CLOSED;
}

/* Begin a call that uses the handle; close waits for its end. */
static int begin(salvo_consumer *c, const char *call)
{
    int err = salvo_consumer_check(c, call);
    if (err)
        return err;
    pthread_mutex_lock(&c->gate);
    err = salvo_consumer_check(c, call);
    c->callers += !err;
    pthread_mutex_unlock(&c->gate);
    return err;
}

static void end(salvo_consumer *c)
{
    pthread_mutex_lock(&c->gate);
    c->callers--;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->gate);
}

void salvo_consumer_alone(salvo_consumer *c)
{
    pthread_mutex_lock(&c->gate);
    c->visitors++;
    if (c->busy)
        c->ops->wake(c->handle); /* a poll that waits */
    while (c->busy)
        pthread_cond_wait(&c->changed, &c->gate);
    c->visitors--;
    c->busy = true;
    pthread_mutex_unlock(&c->gate);
}

/* The same for a poll: who visits goes first. */
static void alone_after_visitors(salvo_consumer *c)
{
    pthread_mutex_lock(&c->gate);
    while (c->busy || c->visitors > 0)
        pthread_cond_wait(&c->changed, &c->gate);
    c->busy = true;
    pthread_mutex_unlock(&c->gate);
}

void salvo_consumer_end_alone(salvo_consumer *c)
{
    pthread_mutex_lock(&c->gate);
    c->busy = false;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->gate);
}

void salvo_consumer_pass_acks(salvo_consumer *c)
{
    const salvo_driver_tag *tags;
    uint32_t count = salvo_hand_take_acks(&c->hand, &tags);
    if (count > 0)
        c->ops->ack(c->handle, tags, count);
}

int salvo_consumer_enter(salvo_consumer *consumer, const salvo_driver_ops **driver, void **handle)
{
    int err = begin(consumer, "salvo_consumer_enter");
    if (err)
        return err;
    salvo_consumer_alone(consumer);
    salvo_consumer_pass_acks(consumer);
    *driver = consumer->driver;
    *handle = consumer->handle;
    return 0;
}

void salvo_consumer_leave(salvo_consumer *consumer)
{
    salvo_consumer_end_alone(consumer);
    end(consumer);
}

/* Begin a call of one slot: alone with the handle, acknowledgements passed on. */
static int visit(salvo_consumer *c, const char *call)
{
    salvo_error_clear();
    int err = begin(c, call);
    if (err)
        return err;
    salvo_consumer_alone(c);
    salvo_consumer_pass_acks(c);
    return 0;
}

/* --- polling ----------------------------------------------------------------------------------*/

static bool grow_arrays(salvo_consumer *c, uint32_t room)
{
    if (room <= c->array_room)
        return true;
    salvo_driver_delivery *given = realloc(c->given, room * sizeof *given);
    if (given)
        c->given = given;
    salvo_delivered *delivered = given ? realloc(c->delivered, room * sizeof *delivered) : NULL;
    if (!delivered)
        return false;
    c->delivered = delivered;
    c->array_room = room;
    return true;
}

/* One look at the driver. How many, or an error; *full: nothing may be given. */
static int poll_once(salvo_consumer *c, uint64_t wait_ms, uint32_t max, bool *full)
{
    char text[SALVO_ERROR_BYTES] = "";
    alone_after_visitors(c);
    salvo_consumer_pass_acks(c);
    uint32_t room = salvo_hand_reserve(&c->hand, max);
    *full = max > 0 && room == 0;
    int count = c->ops->poll(c->handle, *full ? 0 : wait_ms, c->given, room, text, sizeof text);
    if (count > 0)
        salvo_hand_give(&c->hand, c->given, (uint32_t)count, c->delivered);
    salvo_consumer_end_alone(c);
    return count < 0 ? salvo_consumer_failed(count, text) : count;
}

static uint64_t slice_ms(uint64_t now_ns, uint64_t deadline_ns)
{
    uint64_t left_ns = deadline_ns > now_ns ? deadline_ns - now_ns : 0;
    uint64_t left_ms = left_ns / MS_NS + (left_ns % MS_NS != 0);
    return left_ms < SLICE_MS ? left_ms : SLICE_MS;
}

static int poll_until(salvo_consumer *c, uint64_t deadline_ns, uint32_t max)
{
    for (;;) {
        bool full;
        uint32_t seen = salvo_event_read(&c->room);
        uint64_t slice = slice_ms(salvo_clock_monotonic_ns(), deadline_ns);
        int count = poll_once(c, max > 0 ? slice : 0, max, &full);
        if (count != 0)
            return count;
        if (atomic_load_explicit(&c->live, memory_order_acquire) != SALVO_CONSUMER_OPEN)
            return salvo_consumer_check(c, "salvo_consumer_poll");
        /* Acquire: pairs with the release in salvo_consumer_wake. */
        if (atomic_exchange_explicit(&c->woken, 0, memory_order_acquire) || max == 0)
            return SALVO_ERR_TIMEOUT;
        slice = slice_ms(salvo_clock_monotonic_ns(), deadline_ns);
        if (slice == 0)
            return SALVO_ERR_TIMEOUT;
        if (full)
            (void)salvo_event_wait(&c->room, seen, salvo_clock_monotonic_ns() + slice * MS_NS);
    }
}

/* Only one thread polls: what the last poll gave is its. */
static int begin_poll(salvo_consumer *c)
{
    int err = begin(c, "salvo_consumer_poll");
    if (err)
        return err;
    pthread_mutex_lock(&c->gate);
    bool other = c->polling;
    c->polling = true;
    pthread_mutex_unlock(&c->gate);
    if (!other)
        return 0;
    end(c);
    salvo_error_set("salvo_consumer_poll: another thread is polling this consumer");
    return SALVO_ERR_INVALID;
}

/* count messages lie ready. How many are given: none where close has begun, which frees them. */
static int end_poll(salvo_consumer *c, int count)
{
    pthread_mutex_lock(&c->gate);
    if (count > 0)
        count = salvo_consumer_check(c, "salvo_consumer_poll") == 0 ? count : SALVO_ERR_CLOSED;
    c->polling = false;
    pthread_mutex_unlock(&c->gate);
    end(c);
    return count;
}

int salvo_consumer_poll(salvo_consumer *consumer, uint64_t timeout_ms,
                        const salvo_delivered **messages, size_t max, size_t *count)
{
    if (!messages || !count) {
        salvo_error_set("salvo_consumer_poll: %s is NULL", messages ? "count" : "messages");
        return SALVO_ERR_INVALID;
    }
    *messages = NULL;
    *count = 0;
    int err = begin_poll(consumer);
    if (err)
        return err;
    uint64_t now_ns = salvo_clock_monotonic_ns();
    uint64_t deadline_ns = timeout_ms < (UINT64_MAX / 2) / MS_NS ? now_ns + timeout_ms * MS_NS
                                                                 : UINT64_MAX;
    uint32_t most = max < consumer->most_at_once ? (uint32_t)max : consumer->most_at_once;
    int given = grow_arrays(consumer, most)
                    ? poll_until(consumer, deadline_ns, most)
                    : salvo_consumer_failed(SALVO_ERR_NOMEM, "no memory for what a poll gives");
    given = end_poll(consumer, given);
    if (given <= 0)
        return given;
    *messages = consumer->delivered;
    *count = (size_t)given;
    return 0;
}

int salvo_consumer_fd(salvo_consumer *consumer)
{
    int err = begin(consumer, "salvo_consumer_fd");
    if (err)
        return err;
    int fd = consumer->ops->descriptor(consumer->handle);
    end(consumer);
    return fd;
}

void salvo_consumer_wake(salvo_consumer *consumer)
{
    int kept_errno = errno;
    if (!consumer)
        return; /* no error text: this may be a signal handler */
    /* Sequentially consistent, as in begin_close: either close sees us here and waits, or we see
     * that it closes. */
    atomic_fetch_add_explicit(&consumer->wakers, 1, memory_order_seq_cst);
    if (atomic_load_explicit(&consumer->live, memory_order_seq_cst) == SALVO_CONSUMER_OPEN) {
        /* Release: pairs with the exchange in poll_until. First the word, then what ends waits. */
        atomic_store_explicit(&consumer->woken, 1, memory_order_release);
        salvo_event_signal(&consumer->room);
        consumer->ops->wake(consumer->handle);
    }
    /* Release: pairs with the load in begin_close: what we did to the handle is over. */
    atomic_fetch_sub_explicit(&consumer->wakers, 1, memory_order_release);
    errno = kept_errno;
}

/* --- settling ---------------------------------------------------------------------------------*/

int64_t salvo_consumer_ack(salvo_consumer *consumer, const uint64_t *ids, size_t count)
{
    int err = salvo_consumer_check(consumer, "salvo_consumer_ack");
    if (err)
        return err;
    if (!ids && count > 0)
        return salvo_consumer_failed(SALVO_ERR_INVALID, "salvo_consumer_ack: ids is NULL");
    uint32_t settled = salvo_hand_ack(&consumer->hand, ids, count);
    if (settled > 0)
        salvo_event_signal(&consumer->room);
    return settled;
}

int salvo_consumer_is_held(salvo_consumer *consumer, uint64_t id)
{
    int err = salvo_consumer_check(consumer, "salvo_consumer_is_held");
    return err ? err : salvo_hand_has(&consumer->hand, id);
}

int salvo_consumer_commit(salvo_consumer *consumer, uint64_t timeout_ms)
{
    char text[SALVO_ERROR_BYTES] = "";
    int err = visit(consumer, "salvo_consumer_commit");
    if (err)
        return err;
    if (consumer->options.transactional) {
        err = SALVO_ERR_UNSUPPORTED;
        snprintf(text, sizeof text, "salvo_consumer_commit: this consumer was opened as "
                 "transactional: only salvo_transaction_commit() commits");
    } else {
        err = consumer->ops->commit(consumer->handle, timeout_ms, text, sizeof text);
    }
    salvo_consumer_leave(consumer);
    return err ? salvo_consumer_failed(err, text) : 0;
}

/* --- moving about -----------------------------------------------------------------------------*/

/* The topic is one of those that were subscribed. */
static int check_topic(const salvo_consumer *c, const char *call, const char *topic)
{
    for (size_t i = 0; topic && i < c->options.topic_count; i++)
        if (strcmp(c->options.topics[i], topic) == 0)
            return 0;
    salvo_error_set("%s: %s%s", call, topic ? "this consumer does not read " : "topic is NULL",
                    topic ? topic : "");
    return topic ? SALVO_ERR_UNKNOWN_TOPIC : SALVO_ERR_INVALID;
}

int salvo_consumer_seek(salvo_consumer *consumer, const char *topic, int32_t partition,
                        int64_t offset)
{
    char text[SALVO_ERROR_BYTES] = "";
    int err = visit(consumer, "salvo_consumer_seek");
    if (err)
        return err;
    err = check_topic(consumer, "salvo_consumer_seek", topic);
    if (!err && (partition < 0 || offset < SALVO_OFFSET_BEGIN)) {
        salvo_error_set("salvo_consumer_seek: partition %d, offset %lld: both must be 0 or more, "
                        "or the offset SALVO_OFFSET_BEGIN or _END", (int)partition,
                        (long long)offset);
        err = SALVO_ERR_INVALID;
    } else if (!err && !consumer->ops->seek) {
        salvo_error_set("salvo_consumer_seek: %s has no offsets to seek", consumer->driver->name);
        err = SALVO_ERR_UNSUPPORTED;
    } else if (!err) {
        err = consumer->ops->seek(consumer->handle, topic, partition, offset, text, sizeof text);
        if (err)
            salvo_consumer_failed(err, text);
    }
    salvo_consumer_leave(consumer);
    return err;
}

int salvo_consumer_rewind(salvo_consumer *consumer)
{
    char text[SALVO_ERROR_BYTES] = "";
    int err = visit(consumer, "salvo_consumer_rewind");
    if (err)
        return err;
    err = consumer->ops->rewind(consumer->handle, text, sizeof text);
    salvo_consumer_leave(consumer);
    return err ? salvo_consumer_failed(err, text) : 0;
}

static int set_paused(salvo_consumer *c, const char *call, const char *topic, int32_t partition,
                      bool paused)
{
    char text[SALVO_ERROR_BYTES] = "";
    int err = visit(c, call);
    if (err)
        return err;
    err = check_topic(c, call, topic);
    if (!err && partition < SALVO_PARTITION_ALL) {
        salvo_error_set("%s: partition %d: it must be 0 or more, or SALVO_PARTITION_ALL", call,
                        (int)partition);
        err = SALVO_ERR_INVALID;
    } else if (!err) {
        err = c->ops->pause(c->handle, topic, partition, paused, text, sizeof text);
        if (err)
            salvo_consumer_failed(err, text);
    }
    salvo_consumer_leave(c);
    return err;
}

int salvo_consumer_pause(salvo_consumer *consumer, const char *topic, int32_t partition)
{
    return set_paused(consumer, "salvo_consumer_pause", topic, partition, true);
}

int salvo_consumer_resume(salvo_consumer *consumer, const char *topic, int32_t partition)
{
    return set_paused(consumer, "salvo_consumer_resume", topic, partition, false);
}

/* --- looking ----------------------------------------------------------------------------------*/

int64_t salvo_consumer_lag(salvo_consumer *consumer, salvo_lag *lags, size_t max,
                           uint64_t timeout_ms)
{
    char text[SALVO_ERROR_BYTES] = "";
    if (!lags && max > 0)
        return salvo_consumer_failed(SALVO_ERR_INVALID, "salvo_consumer_lag: lags is NULL");
    int err = visit(consumer, "salvo_consumer_lag");
    if (err)
        return err;
    int64_t count = consumer->ops->lag(consumer->handle, lags, max, timeout_ms, text, sizeof text);
    salvo_consumer_leave(consumer);
    return count < 0 ? salvo_consumer_failed((int)count, text) : count;
}

static uint64_t count_of(const salvo_consumer *c, int what)
{
    /* Relaxed: each is a figure of its own. */
    int64_t count = atomic_load_explicit(&c->counts[what], memory_order_relaxed);
    return count > 0 ? (uint64_t)count : 0;
}

int salvo_consumer_get_stats(salvo_consumer *consumer, salvo_consumer_stats *stats)
{
    if (!stats || stats->size < sizeof stats->size)
        return salvo_consumer_failed(SALVO_ERR_INVALID, "salvo_consumer_get_stats: set "
                                     "stats->size to sizeof(salvo_consumer_stats) first");
    int err = begin(consumer, "salvo_consumer_get_stats");
    if (err)
        return err;
    salvo_consumer_stats all = {.size = stats->size};
    salvo_hand *hand = &consumer->hand;
    pthread_mutex_lock(&hand->mutex);
    all.received = hand->received;
    all.acknowledged = hand->acknowledged;
    all.lost = hand->lost;
    all.in_hand = hand->held;
    all.redelivered = hand->redelivered;
    pthread_mutex_unlock(&hand->mutex);
    all.rebalances = count_of(consumer, SALVO_COUNT_REBALANCES);
    all.commits = count_of(consumer, SALVO_COUNT_COMMITS);
    all.commit_failures = count_of(consumer, SALVO_COUNT_COMMIT_FAILURES);
    all.assigned = (uint32_t)count_of(consumer, SALVO_COUNT_ASSIGNED);
    consumer->ops->state(consumer->handle, all.broker_state, sizeof all.broker_state);
    end(consumer);
    memcpy(stats, &all, stats->size < sizeof all ? stats->size : sizeof all);
    return 0;
}
