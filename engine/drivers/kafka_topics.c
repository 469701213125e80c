/* SPDX-License-Identifier: Apache-2.0
 *
 * How many partitions a topic has, and pushes. librdkafka blocks while it asks a broker and while
 * it flushes, so one helper thread per handle does both and wakes the flusher when it knows more.
 * Guarantees: the flusher never waits here (the lock is never held over the network); a count
 * never shrinks; a topic that is missing is an error only after the broker has said so for some
 * seconds, since creating it on demand takes a moment, and is mended when it appears later; close
 * waits one request or push at most. A push may come late, behind a request, but then librdkafka's
 * own linger has sent the messages.
 */
#include "clock.h"
#include "error.h"
#include "kafka_internal.h"
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define MS UINT64_C(1000000)
#define REQUEST_MS 1000 /* bounds how long close waits; a slow connect goes on meanwhile */
#define BACKOFF_FIRST_NS (50 * MS)
#define BACKOFF_MAX_NS (1000 * MS)
#define UNKNOWN_AFTER_NS (5000 * MS)
#define UNKNOWN_RECHECK_NS (5000 * MS)
/* For as long librdkafka's threads, which are awake in some 50 us, find that nothing lingers: any
 * longer, and they tear the next burst apart. */
#define PUSH_MS 1

typedef enum answer { KNOWN, NOT_YET, MISSING, FORBIDDEN } answer;

static answer judge(const rd_kafka_metadata_topic_t *found)
{
    if (found->err == RD_KAFKA_RESP_ERR_NO_ERROR || found->partition_cnt > 0)
        return found->partition_cnt > 0 ? KNOWN : NOT_YET;
    if (salvo_kafka_is_auth(found->err))
        return FORBIDDEN;
    if (found->err == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART ||
        found->err == RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION)
        return MISSING;
    return NOT_YET;
}

static answer ask(salvo_kafka *k, salvo_kafka_topic *topic, int *count)
{
    const struct rd_kafka_metadata *metadata;
    if (rd_kafka_metadata(k->rk, 0, topic->rkt, &metadata, REQUEST_MS))
        return NOT_YET;
    salvo_kafka_link_up(k);
    /* relaxed: one number, nothing is published with it */
    atomic_store_explicit(&k->refused_since_ns, 0, memory_order_relaxed);
    answer result = NOT_YET;
    if (metadata->topic_cnt == 1) {
        result = judge(&metadata->topics[0]);
        *count = metadata->topics[0].partition_cnt;
    }
    rd_kafka_metadata_destroy(metadata);
    return result;
}

/* relaxed throughout: the number alone is what is told, rkt was there before */
static void tell(salvo_kafka *k, salvo_kafka_topic *topic, int32_t value)
{
    int32_t old = atomic_load_explicit(&topic->partitions, memory_order_relaxed);
    if (old == value || (old > 0 && value < old))
        return;
    atomic_store_explicit(&topic->partitions, value, memory_order_relaxed);
    if (k->env->wake)
        k->env->wake(k->env->flusher);
}

static void log_refused(salvo_kafka *k, salvo_kafka_topic *topic, const char *why)
{
    if (topic->refused_logged)
        return;
    topic->refused_logged = true;
    k->env->log(SALVO_LOG_ERROR, "kafka: topic '%s' %s", topic->name, why);
}

static void resolve(salvo_kafka *k, salvo_kafka_topic *topic)
{
    int count = 0;
    answer result = ask(k, topic, &count);
    uint64_t now = salvo_clock_monotonic_ns();
    if (result == KNOWN) {
        tell(k, topic, count);
        topic->unknown_since_ns = 0;
        topic->refused_logged = false;
        topic->backoff_ns = BACKOFF_FIRST_NS;
        topic->next_ns = now + k->refresh_ns;
        return;
    }
    topic->next_ns = now + topic->backoff_ns;
    if (topic->backoff_ns < BACKOFF_MAX_NS)
        topic->backoff_ns *= 2;
    if (result == FORBIDDEN) {
        log_refused(k, topic, "may not be written or described with these credentials");
        tell(k, topic, SALVO_ERR_AUTH);
        topic->next_ns = now + UNKNOWN_RECHECK_NS;
    } else if (result == MISSING) {
        if (!topic->unknown_since_ns)
            topic->unknown_since_ns = now;
        if (now - topic->unknown_since_ns < UNKNOWN_AFTER_NS)
            return;
        log_refused(k, topic, "is not known to the broker, which does not create it; "
                              "create it or allow auto.create.topics.enable");
        tell(k, topic, SALVO_ERR_UNKNOWN_TOPIC);
        topic->next_ns = now + UNKNOWN_RECHECK_NS;
    }
}

static salvo_kafka_topic *next_due(salvo_kafka *k)
{
    salvo_kafka_topic *first = NULL;
    for (uint32_t i = 0; i < k->listed_count; i++) {
        salvo_kafka_topic *topic = &k->topics[k->listed[i]];
        if (!first || topic->next_ns < first->next_ns)
            first = topic;
    }
    return first;
}

static void wait_until(salvo_kafka *k, uint64_t ns)
{
    struct timespec t = {.tv_sec = (time_t)(ns / (1000 * MS)), .tv_nsec = (long)(ns % (1000 * MS))};
    pthread_cond_timedwait(&k->wake_helper, &k->lock, &t);
}

static void *helper(void *context)
{
    salvo_kafka *k = context;
    pthread_mutex_lock(&k->lock);
    while (!k->helper_stop) {
        salvo_kafka_topic *topic = next_due(k);
        bool due = topic && topic->next_ns <= salvo_clock_monotonic_ns();
        if (due || k->push_wanted) {
            k->push_wanted = k->push_wanted && due;
            pthread_mutex_unlock(&k->lock);
            if (due)
                resolve(k, topic);
            else
                rd_kafka_flush(k->rk, PUSH_MS); /* while it runs, nothing lingers */
            pthread_mutex_lock(&k->lock);
        } else if (topic) {
            wait_until(k, topic->next_ns);
        } else {
            pthread_cond_wait(&k->wake_helper, &k->lock);
        }
    }
    pthread_mutex_unlock(&k->lock);
    return NULL;
}

void salvo_kafka_push(salvo_kafka *k)
{
    pthread_mutex_lock(&k->lock);
    k->push_wanted = true;
    pthread_cond_signal(&k->wake_helper); /* costs nothing while the helper is at work */
    pthread_mutex_unlock(&k->lock);
}

int salvo_kafka_topics_start(salvo_kafka *k)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&k->wake_helper, &attributes);
    pthread_condattr_destroy(&attributes);

    sigset_t all, before; /* signals are the application's threads' */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int err = pthread_create(&k->helper, NULL, helper, k);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    k->helper_runs = !err;
    if (err) {
        pthread_cond_destroy(&k->wake_helper);
        return SALVO_ERR_NOMEM;
    }
    pthread_setname_np(k->helper, "salvo-kafka");
    return 0;
}

void salvo_kafka_topics_stop(salvo_kafka *k)
{
    if (k->helper_runs) {
        pthread_mutex_lock(&k->lock);
        k->helper_stop = true;
        pthread_cond_signal(&k->wake_helper);
        pthread_mutex_unlock(&k->lock);
        pthread_join(k->helper, NULL);
        pthread_cond_destroy(&k->wake_helper);
        k->helper_runs = false;
    }
    for (uint32_t i = 0; i < k->listed_count; i++) {
        salvo_kafka_topic *topic = &k->topics[k->listed[i]];
        rd_kafka_topic_destroy(topic->rkt);
        free(topic->name);
    }
    k->listed_count = 0;
}

int salvo_kafka_topic_add(salvo_kafka *k, uint32_t id, const char *name)
{
    if (id >= k->env->max_topics)
        return SALVO_ERR_LIMIT;
    salvo_kafka_topic *topic = &k->topics[id];
    if (topic->rkt)
        return 0;
    topic->name = strdup(name);
    topic->rkt = topic->name ? rd_kafka_topic_new(k->rk, name, NULL) : NULL;
    if (!topic->rkt) {
        free(topic->name);
        topic->name = NULL;
        return SALVO_ERR_NOMEM;
    }
    topic->backoff_ns = BACKOFF_FIRST_NS;
    pthread_mutex_lock(&k->lock);
    k->listed[k->listed_count++] = id;
    pthread_cond_signal(&k->wake_helper);
    pthread_mutex_unlock(&k->lock);
    return 0;
}

int salvo_kafka_topic_partitions(salvo_kafka *k, uint32_t id)
{
    if (id >= k->env->max_topics || !k->topics[id].rkt)
        return SALVO_ERR_UNKNOWN_TOPIC;
    int32_t count = atomic_load_explicit(&k->topics[id].partitions, memory_order_relaxed);
    if (count)
        return count;
    /* Nobody answers because we are refused: that is final once it lasted. */
    uint64_t since = atomic_load_explicit(&k->refused_since_ns, memory_order_relaxed);
    if (since && salvo_clock_monotonic_ns() - since > UNKNOWN_AFTER_NS)
        return SALVO_ERR_AUTH;
    return 0;
}
