/* SPDX-License-Identifier: Apache-2.0
 *
 * What librdkafka tells: delivery reports by the batch, errors, log lines. All of it on the
 * flusher, off one queue, so that nothing of librdkafka's threads runs our code. Guarantees: an
 * event is used up as a whole; a fatal error is seen before the reports that it causes are
 * judged; the state for people changes, and is logged, once per change and not once per attempt.
 */
#include "clock.h"
#include "error.h"
#include "kafka_internal.h"
#include <stdio.h>
#include <string.h>

#define REPORTS_AT_ONCE 256

void salvo_kafka_link_up(salvo_kafka *k)
{
    /* relaxed: a hint for people; `reason` has its lock */
    if (atomic_load_explicit(&k->link, memory_order_relaxed) == SALVO_KAFKA_UP)
        return;
    int old = atomic_exchange_explicit(&k->link, SALVO_KAFKA_UP, memory_order_relaxed);
    if (old == SALVO_KAFKA_DOWN)
        k->env->log(SALVO_LOG_NOTICE, "kafka: up again");
}

static void link_down(salvo_kafka *k, const char *reason)
{
    pthread_mutex_lock(&k->lock);
    snprintf(k->reason, sizeof k->reason, "%s", reason);
    pthread_mutex_unlock(&k->lock);
    int old = atomic_exchange_explicit(&k->link, SALVO_KAFKA_DOWN, memory_order_relaxed);
    if (old != SALVO_KAFKA_DOWN)
        k->env->log(SALVO_LOG_WARNING, "kafka: down: %s", reason);
}

/* Nothing new gets in from here on; what is queued comes back at once, what is in flight when the
 * broker has answered, or after a while without its answer (see kafka.c). */
void salvo_kafka_begin_fatal(salvo_kafka *k)
{
    if (k->mode != SALVO_KAFKA_RUNNING)
        return;
    char text[256] = "";
    k->fatal_error = rd_kafka_fatal_error(k->rk, text, sizeof text);
    k->mode = SALVO_KAFKA_FATAL;
    k->fatal_since_ns = salvo_clock_monotonic_ns();
    k->env->log(SALVO_LOG_WARNING, "kafka: fatal, the handle is re-opened: %s", text);
    rd_kafka_purge(k->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_NON_BLOCKING);
}

static int32_t judge(salvo_kafka *k, const rd_kafka_message_t *m)
{
    if (k->mode == SALVO_KAFKA_RUNNING &&
        (m->err == RD_KAFKA_RESP_ERR__FATAL || rd_kafka_fatal_error(k->rk, NULL, 0)))
        salvo_kafka_begin_fatal(k);
    int32_t status = salvo_kafka_status(m->err, rd_kafka_message_status(m), k->mode);
    /* A handle that is refused would be refused again and again: these messages end here. */
    if (status == SALVO_ERR_FATAL && salvo_kafka_is_auth(k->fatal_error))
        return SALVO_ERR_AUTH;
    return status;
}

static void reports(salvo_kafka *k, rd_kafka_event_t *event)
{
    const rd_kafka_message_t *messages[REPORTS_AT_ONCE];
    size_t n;
    bool any_good = false;
    while ((n = rd_kafka_event_message_array(event, messages, REPORTS_AT_ONCE)) > 0) {
        for (size_t i = 0; i < n && !k->abandoned; i++) {
            const rd_kafka_message_t *m = messages[i];
            uintptr_t opaque = (uintptr_t)m->_private;
            int32_t status = m->err ? judge(k, m) : 0;
            any_good |= !m->err;
            salvo_kafka_slots_record(&k->slots, (uint32_t)(opaque >> 32), (uint32_t)opaque, 1,
                                     status, m->err ? -1 : m->offset);
        }
    }
    if (any_good)
        salvo_kafka_link_up(k);
}

static void trouble(salvo_kafka *k, rd_kafka_event_t *event)
{
    rd_kafka_resp_err_t err = rd_kafka_event_error(event);
    const char *text = rd_kafka_event_error_string(event);
    if (err == RD_KAFKA_RESP_ERR__FATAL || rd_kafka_event_error_is_fatal(event)) {
        salvo_kafka_begin_fatal(k);
        return;
    }
    bool down = atomic_load_explicit(&k->link, memory_order_relaxed) == SALVO_KAFKA_DOWN;
    if (salvo_kafka_is_auth(err)) {
        if (!atomic_load_explicit(&k->refused_since_ns, memory_order_relaxed))
            atomic_store_explicit(&k->refused_since_ns, salvo_clock_monotonic_ns(),
                                  memory_order_relaxed);
        link_down(k, text);
    } else if (err == RD_KAFKA_RESP_ERR__RESOLVE || err == RD_KAFKA_RESP_ERR__SSL) {
        link_down(k, text);
    } else if (err == RD_KAFKA_RESP_ERR__TRANSPORT) {
        /* One connection of several, or an idle one: only a reason in case all are down. */
        pthread_mutex_lock(&k->lock);
        snprintf(k->reason, sizeof k->reason, "%s", text);
        pthread_mutex_unlock(&k->lock);
    } else if (err == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN) {
        char reason[SALVO_KAFKA_REASON_BYTES];
        pthread_mutex_lock(&k->lock);
        snprintf(reason, sizeof reason, "%s", k->reason[0] ? k->reason : text);
        pthread_mutex_unlock(&k->lock);
        if (!down)
            link_down(k, reason);
    } else {
        k->env->log(SALVO_LOG_WARNING, "kafka: %s: %s", rd_kafka_err2name(err), text);
    }
}

/* FAIL repeats for every attempt to connect what link_down said once; GETPID is retried. */
static int log_level(const char *facility, int level)
{
    if (strcmp(facility, "FAIL") == 0 || strcmp(facility, "GETPID") == 0)
        return SALVO_LOG_INFO;
    return level < SALVO_LOG_ERROR ? SALVO_LOG_ERROR : level;
}

static void log_line(salvo_kafka *k, rd_kafka_event_t *event)
{
    const char *facility, *text;
    int level;
    if (rd_kafka_event_log(event, &facility, &text, &level) == 0)
        k->env->log(log_level(facility, level), "kafka: %s: %s", facility, text);
}

bool salvo_kafka_event(salvo_kafka *k, int timeout_ms)
{
    rd_kafka_event_t *event = rd_kafka_queue_poll(k->queue, timeout_ms);
    if (!event)
        return false;
    switch (rd_kafka_event_type(event)) {
    case RD_KAFKA_EVENT_DR:
        reports(k, event);
        break;
    case RD_KAFKA_EVENT_ERROR:
        trouble(k, event);
        break;
    case RD_KAFKA_EVENT_LOG:
        log_line(k, event);
        break;
    case RD_KAFKA_EVENT_STATS: /* only where the user set statistics.interval.ms */
        k->env->log(SALVO_LOG_DEBUG, "kafka: stats: %s", rd_kafka_event_stats(event));
        break;
    default:
        break;
    }
    rd_kafka_event_destroy(event);
    return true;
}
