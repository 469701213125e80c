/* SPDX-License-Identifier: Apache-2.0
 *
 * What librdkafka tells a consumer: rebalances, trouble, log lines. Guarantees: a broker that is
 * away, or a topic that is not there yet, is no error but a state, logged once per change; what a
 * person must mend (credentials, a fenced member, kafka_auto_offset_reset = none) is an error
 * of the next poll, with a text that says what to do.
 */
#include "kafka_consumer.h"
#include "clock.h"
#include "config_internal.h"
#include "error.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define MS UINT64_C(1000000)
#define PROBE_NS (1000 * MS)
#define PROBE_TIMEOUT_MS 2000

static void set_state(salvo_kafka_consumer *c, salvo_kafka_link link, const char *reason)
{
    pthread_mutex_lock(&c->lock);
    c->link = link;
    snprintf(c->reason, sizeof c->reason, "%s", reason);
    pthread_mutex_unlock(&c->lock);
}

void salvo_kafka_consumer_up(salvo_kafka_consumer *c)
{
    bool was_down = c->link == SALVO_KAFKA_DOWN; /* written by this thread alone */
    if (c->link == SALVO_KAFKA_UP && !c->reason[0])
        return;
    set_state(c, SALVO_KAFKA_UP, "");
    if (was_down)
        c->env->log(SALVO_LOG_NOTICE, "kafka: group '%s': up again", c->env->options->group);
}

static void down(salvo_kafka_consumer *c, const char *reason)
{
    bool was_down = c->link == SALVO_KAFKA_DOWN;
    set_state(c, SALVO_KAFKA_DOWN, reason);
    c->probe_ns = salvo_clock_monotonic_ns() + PROBE_NS;
    if (!was_down)
        c->env->log(SALVO_LOG_WARNING, "kafka: group '%s': down: %s", c->env->options->group,
                    reason);
}

static void down_for_last_reason(salvo_kafka_consumer *c, const char *otherwise)
{
    char reason[SALVO_KAFKA_REASON_BYTES];
    snprintf(reason, sizeof reason, "%s", c->reason[0] ? c->reason : otherwise);
    down(c, reason);
}

__attribute__((format(printf, 3, 4)))
static void fail(salvo_kafka_consumer *c, int code, const char *format, ...)
{
    if (c->fatal)
        return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(c->failure, sizeof c->failure, format, arguments);
    va_end(arguments);
    c->failed = code;
    c->fatal = code == SALVO_ERR_FATAL;
}

static void fatal(salvo_kafka_consumer *c, const char *text)
{
    char reason[256] = "";
    rd_kafka_resp_err_t err = rd_kafka_fatal_error(c->rk, reason, sizeof reason);
    const char *why = reason[0] ? reason : text;
    if (err == RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID)
        fail(c, SALVO_ERR_FATAL, "kafka: group '%s' has another member named '%s' now: close this "
             "one; each member needs a name of its own", c->env->options->group,
             c->env->options->member ? c->env->options->member : "");
    else
        fail(c, SALVO_ERR_FATAL, "kafka: group '%s': %s; close this consumer and open another",
             c->env->options->group, why);
    down(c, c->failure);
}

static void set_missing(salvo_kafka_consumer *c, const char *topic)
{
    pthread_mutex_lock(&c->lock);
    snprintf(c->missing, sizeof c->missing, "%s", topic);
    pthread_mutex_unlock(&c->lock);
}

void salvo_kafka_consumer_found(salvo_kafka_consumer *c, const char *topic)
{
    if (strcmp(c->missing, topic) == 0)
        set_missing(c, "");
}

/* A topic is not there: librdkafka looks again by itself. Its text alone tells which. */
static void unknown_topic(salvo_kafka_consumer *c, const char *text)
{
    const salvo_consumer_options *o = c->env->options;
    const char *topic = NULL;
    for (size_t i = 0; i < o->topic_count; i++)
        if (strstr(text, o->topics[i]) && (!topic || strlen(o->topics[i]) > strlen(topic)))
            topic = o->topics[i];
    if (!topic || strcmp(c->missing, topic) == 0)
        return;
    set_missing(c, topic);
    c->env->log(SALVO_LOG_WARNING, "kafka: group '%s': topic '%s' is not there yet; it is read "
                "once it is (salvo topics create makes it)", o->group, topic);
}

static void no_offset(salvo_kafka_consumer *c, const char *topic, int32_t partition,
                      const char *text)
{
    fail(c, SALVO_ERR_CONFIG, "kafka: group '%s' has no offset to begin with in topic '%s', "
         "partition %d, and kafka_auto_offset_reset = none: seek, or set it to earliest or latest "
         "(%s)", c->env->options->group, topic, (int)partition, text);
}

void salvo_kafka_consumer_error(salvo_kafka_consumer *c, rd_kafka_resp_err_t err,
                                const char *topic, int32_t partition, const char *text)
{
    if (err == RD_KAFKA_RESP_ERR__FATAL || rd_kafka_fatal_error(c->rk, NULL, 0))
        fatal(c, text);
    else if (salvo_kafka_is_auth(err)) {
        c->refused = true;
        fail(c, SALVO_ERR_AUTH, "kafka: group '%s' was refused%s%s: %s; see the rights of this "
             "user, kafka_security_protocol and kafka_sasl_*", c->env->options->group,
             topic ? " topic " : "", topic ? topic : "", text);
        down(c, text);
    } else if (err == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET ||
               err == RD_KAFKA_RESP_ERR__NO_OFFSET)
        no_offset(c, topic ? topic : "?", partition, text);
    else if (err == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART ||
             err == RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC)
        unknown_topic(c, text);
    else if (err == RD_KAFKA_RESP_ERR_INVALID_SESSION_TIMEOUT)
        fail(c, SALVO_ERR_CONFIG, "kafka: the broker does not take kafka_session_timeout_ms = %s; "
             "see its group.min.session.timeout.ms and group.max.session.timeout.ms",
             salvo_config_get(c->env->config, "kafka_session_timeout_ms"));
    else if (err == RD_KAFKA_RESP_ERR__MAX_POLL_EXCEEDED)
        c->env->log(SALVO_LOG_WARNING, "kafka: group '%s' has given this member up, which did not "
                    "poll in time (max.poll.interval.ms): it joins again; what was in hand is "
                    "given again", c->env->options->group);
    else
        c->env->log(SALVO_LOG_WARNING, "kafka: group '%s': %s: %s", c->env->options->group,
                    rd_kafka_err2name(err), text);
}

static void trouble(salvo_kafka_consumer *c, rd_kafka_event_t *event)
{
    rd_kafka_resp_err_t err = rd_kafka_event_error(event);
    const char *text = rd_kafka_event_error_string(event);
    rd_kafka_topic_partition_t *of = rd_kafka_event_topic_partition(event);
    bool is_down = c->link == SALVO_KAFKA_DOWN;
    if (err == RD_KAFKA_RESP_ERR__TRANSPORT && !is_down) {
        /* One connection of several, or an idle one: a reason to ask, and one to tell. */
        set_state(c, c->link, text);
        c->in_doubt = true;
    } else if (err == RD_KAFKA_RESP_ERR__TRANSPORT ||
               (err == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN && is_down)) {
        /* told already */
    } else if (err == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN) {
        down_for_last_reason(c, text);
    } else if (err == RD_KAFKA_RESP_ERR__RESOLVE || err == RD_KAFKA_RESP_ERR__SSL) {
        down(c, text);
    } else {
        salvo_kafka_consumer_error(c, err, of && of->topic && *of->topic ? of->topic : NULL,
                                   of ? of->partition : -1, text);
    }
    if (of)
        rd_kafka_topic_partition_destroy(of);
}

static void log_line(salvo_kafka_consumer *c, rd_kafka_event_t *event)
{
    const char *facility, *text;
    int level;
    if (rd_kafka_event_log(event, &facility, &text, &level) == 0)
        c->env->log(salvo_kafka_client_level(facility, level), "kafka: group '%s': %s: %s",
                    c->env->options->group, facility, text);
}

/* A message that came by the wrong queue (its partition is not forwarded, which forward() rules
 * out as far as librdkafka's threads can be known): fetched again, by the right one. */
static void stray(salvo_kafka_consumer *c, rd_kafka_event_t *event)
{
    const rd_kafka_message_t *m;
    while ((m = rd_kafka_event_message_next(event)) != NULL) {
        salvo_kafka_claim *claim = m->rkt ? salvo_kafka_claim_of(c, m) : NULL;
        if (m->err)
            salvo_kafka_consumer_error(c, m->err, m->rkt ? rd_kafka_topic_name(m->rkt) : NULL,
                                       m->partition, rd_kafka_message_errstr(m));
        if (!claim || m->err || claim->refetch)
            continue;
        rd_kafka_topic_partition_list_t *one = rd_kafka_topic_partition_list_new(1);
        rd_kafka_topic_partition_list_add(one, claim->topic, claim->partition);
        salvo_kafka_forward(c, one);
        rd_kafka_topic_partition_list_destroy(one);
        if (claim->window.next < 0)
            salvo_window_pass(&claim->window, m->offset);
        claim->refetch = true;
    }
}

static void probed(salvo_kafka_consumer *c, rd_kafka_event_t *event)
{
    c->probe_out = c->in_doubt = false;
    if (c->fatal || c->refused)
        return;
    if (!rd_kafka_event_error(event))
        salvo_kafka_consumer_up(c);
    else if (c->link != SALVO_KAFKA_DOWN)
        down_for_last_reason(c, rd_kafka_event_error_string(event));
}

void salvo_kafka_consumer_events(salvo_kafka_consumer *c)
{
    rd_kafka_event_t *event;
    while ((event = rd_kafka_queue_poll(c->events, 0)) != NULL) {
        switch (rd_kafka_event_type(event)) {
        case RD_KAFKA_EVENT_REBALANCE:
            salvo_kafka_rebalance(c, event);
            break;
        case RD_KAFKA_EVENT_ERROR:
            trouble(c, event);
            break;
        case RD_KAFKA_EVENT_LOG:
            log_line(c, event);
            break;
        case RD_KAFKA_EVENT_FETCH:
            stray(c, event);
            break;
        case RD_KAFKA_EVENT_DESCRIBECONFIGS_RESULT:
            probed(c, event);
            break;
        case RD_KAFKA_EVENT_STATS: /* only where the user set statistics.interval.ms */
            c->env->log(SALVO_LOG_DEBUG, "kafka: stats: %s", rd_kafka_event_stats(event));
            break;
        default:
            break;
        }
        rd_kafka_event_destroy(event);
    }
}

/* An idle group hears nothing when its broker is back, and not always when the last one goes: ask,
 * while it is down or a connection broke. A question that any
 * broker answers (one for the group's coordinator can end librdkafka 2.0's process by an assertion
 * when the connection breaks); a refusal is an answer too. */
void salvo_kafka_consumer_probe(salvo_kafka_consumer *c)
{
    if ((c->link != SALVO_KAFKA_DOWN && !c->in_doubt) || c->probe_out || c->fatal ||
        salvo_clock_monotonic_ns() < c->probe_ns)
        return;
    char text[128];
    c->probe_ns = salvo_clock_monotonic_ns() + PROBE_NS;
    rd_kafka_ConfigResource_t *wish =
        rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, c->env->options->topics[0]);
    rd_kafka_AdminOptions_t *options =
        rd_kafka_AdminOptions_new(c->rk, RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS);
    rd_kafka_AdminOptions_set_request_timeout(options, PROBE_TIMEOUT_MS, text, sizeof text);
    rd_kafka_DescribeConfigs(c->rk, &wish, 1, options, c->events);
    c->probe_out = true;
    rd_kafka_AdminOptions_destroy(options);
    rd_kafka_ConfigResource_destroy(wish);
}
