/* SPDX-License-Identifier: Apache-2.0
 *
 * Queues made, looked at and removed: the one of the topic's name, on the default exchange of the
 * configuration's routing key where that is set. Exchanges stay. Guarantees: each call ends within
 * its deadline; a queue that is there is never changed but by removal.
 *
 * Not guaranteed, since AMQP has no "make it only if it is not there": of two that make a queue
 * with the same arguments at the same moment both may be told that they did. And it has no way to
 * read a queue's arguments: its x-message-ttl is learnt by declaring it once more without, which
 * the server refuses with the value where there is one; what a policy says is not seen.
 */
#include "rabbitmq_admin.h"
#include "clock.h"
#include "config_internal.h"
#include "error.h"
#include "rabbitmq_internal.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MS UINT64_C(1000000)
#define CHANNEL 1
enum { OUT_BYTES = 16384, SLICE_MS = 100, BYE_MS = 500 };

typedef struct talk { /* one question at a time on one channel */
    salvo_rabbitmq_link link;
    uint64_t end_ns;
    const char *queue;
    bool channel, answered;
    uint16_t refused; /* the reply code with which the channel was closed; 0: it was not */
    uint32_t messages;
    char why[SALVO_RABBITMQ_TEXT_BYTES];
    char *error;
    size_t error_size;
} talk;

static int fail(talk *t, int err, const char *why)
{
    snprintf(t->error, t->error_size, "rabbitmq: queue '%s' at %s:%s: %s", t->queue,
             t->link.url.host, t->link.url.port, why);
    return err;
}

/* What a refusal means that is not what was hoped for. */
static int refusal(talk *t)
{
    if (t->refused == AMQP_NOT_FOUND) {
        snprintf(t->error, t->error_size, "rabbitmq: there is no queue '%s' at %s:%s", t->queue,
                 t->link.url.host, t->link.url.port);
        return SALVO_ERR_UNKNOWN_TOPIC;
    }
    return fail(t, t->refused == AMQP_ACCESS_REFUSED ? SALVO_ERR_AUTH : SALVO_ERR_REJECTED, t->why);
}

static void on_close(talk *t, const amqp_channel_close_t *close)
{
    char text[SALVO_RABBITMQ_TEXT_BYTES - 16];
    t->refused = close->reply_code ? close->reply_code : AMQP_INTERNAL_ERROR;
    snprintf(t->why, sizeof t->why, "%u %s", close->reply_code,
             salvo_rabbitmq_text(text, sizeof text, close->reply_text));
    amqp_channel_close_ok_t ok = {0};
    (void)salvo_rabbitmq_put_method(&t->link, CHANNEL, AMQP_CHANNEL_CLOSE_OK_METHOD, &ok);
    t->channel = false;
    t->answered = true;
}

static void on_frame(void *context, const salvo_rabbitmq_frame *frame)
{
    talk *t = context;
    if (frame->type != AMQP_FRAME_METHOD || frame->channel != CHANNEL)
        return;
    if (frame->method.id == AMQP_CHANNEL_CLOSE_METHOD) {
        on_close(t, frame->method.decoded);
        return;
    }
    if (frame->method.id == AMQP_QUEUE_DECLARE_OK_METHOD)
        t->messages = ((const amqp_queue_declare_ok_t *)frame->method.decoded)->message_count;
    t->channel = true;
    t->answered = true;
}

/* Until the link is open and what was asked is answered. */
static int await_answer(talk *t, bool asked)
{
    while (t->link.stage != SALVO_RABBITMQ_OPEN || (asked && !t->answered)) {
        (void)salvo_rabbitmq_link_step(&t->link);
        if (t->link.stage == SALVO_RABBITMQ_DOWN)
            return fail(t, t->link.error ? t->link.error : SALVO_ERR_UNREACHABLE, t->link.why);
        bool done = t->link.stage == SALVO_RABBITMQ_OPEN && (!asked || t->answered);
        if (!done && salvo_clock_monotonic_ns() >= t->end_ns)
            return fail(t, SALVO_ERR_UNREACHABLE, "it did not answer in time");
        if (!done)
            (void)salvo_io_wait(t->link.io, SLICE_MS);
    }
    return 0;
}

static int put(talk *t, amqp_method_number_t id, void *method)
{
    t->answered = false;
    t->refused = 0;
    if (!salvo_rabbitmq_put_method(&t->link, CHANNEL, id, method))
        return fail(t, SALVO_ERR_UNREACHABLE, "the server takes no more");
    salvo_rabbitmq_link_send(&t->link);
    return await_answer(t, true);
}

/* 0: answered, see t->refused. A refusal closed the channel: the next question opens it again. */
static int ask(talk *t, amqp_method_number_t id, void *method)
{
    amqp_channel_open_t channel = {0};
    int err = t->channel ? 0 : put(t, AMQP_CHANNEL_OPEN_METHOD, &channel);
    if (!err && t->refused)
        err = refusal(t);
    return err ? err : put(t, id, method);
}

static uint64_t monotonic(void *clock)
{
    (void)clock;
    return salvo_clock_monotonic_ns();
}

/* End it in any case. */
static int begin(talk *t, const salvo_config *config, const char *topic, uint32_t timeout_ms,
                 char *error, size_t error_size)
{
    const char *key = salvo_config_get(config, "rabbitmq_routing_key");
    bool own = salvo_config_is(config, "rabbitmq_exchange", ""); /* the default exchange */
    *t = (talk){.queue = own && key != NULL && key[0] != '\0' ? key : topic, .error = error,
                .error_size = error_size};
    t->end_ns = salvo_clock_monotonic_ns() + timeout_ms * MS;
    salvo_io_options io = {.backend = salvo_config_get(config, "io_backend"), .now_ns = monotonic};
    int err = salvo_rabbitmq_link_open(&t->link, config, &io, OUT_BYTES, error, error_size);
    if (err)
        return err;
    t->link.on_frame = on_frame;
    t->link.context = t;
    salvo_rabbitmq_link_connect(&t->link);
    return await_answer(t, false);
}

static int end(talk *t, int err)
{
    if (t->link.io)
        salvo_rabbitmq_link_bye(&t->link, BYE_MS);
    salvo_rabbitmq_link_free(&t->link);
    return err;
}

int salvo_rabbitmq_topic_delete(const salvo_config *config, const char *topic, uint32_t timeout_ms,
                                char *error, size_t error_size)
{
    talk t;
    int err = begin(&t, config, topic, timeout_ms, error, error_size);
    amqp_queue_delete_t wish = {.queue = salvo_rabbitmq_bytes(t.queue)};
    if (!err)
        err = ask(&t, AMQP_QUEUE_DELETE_METHOD, &wish);
    if (!err && t.refused && t.refused != AMQP_NOT_FOUND)
        err = refusal(&t);
    return end(&t, err);
}

/* --- create ---------------------------------------------------------------------------------- */

static int declare(talk *t, bool passive, int64_t ttl_ms)
{
    amqp_table_entry_t ttl = {.key = salvo_rabbitmq_bytes("x-message-ttl"),
                              .value = {.kind = AMQP_FIELD_KIND_I64, .value = {.i64 = ttl_ms}}};
    amqp_queue_declare_t wish = {.queue = salvo_rabbitmq_bytes(t->queue), .passive = passive,
                                 .durable = 1};
    if (ttl_ms > 0)
        wish.arguments = (amqp_table_t){.num_entries = 1, .entries = &ttl};
    return ask(t, AMQP_QUEUE_DECLARE_METHOD, &wish);
}

static int make(talk *t, int64_t ttl_ms)
{
    int err = declare(t, true, 0);
    if (err)
        return err;
    if (!t->refused)
        return fail(t, SALVO_ERR_REJECTED, "it exists");
    if (t->refused != AMQP_NOT_FOUND)
        return refusal(t);
    err = declare(t, false, ttl_ms);
    return !err && t->refused ? refusal(t) : err;
}

static int rabbitmq_create(const salvo_config *config, void *shared, const salvo_topic_spec *spec,
                           uint32_t timeout_ms, char *error, size_t error_size)
{
    talk t;
    (void)shared;
    int err = begin(&t, config, spec->name, timeout_ms, error, error_size);
    return end(&t, err ? err : make(&t, spec->retention_ms));
}

/* --- describe, and what waits ---------------------------------------------------------------- */

/* Out of "... inequivalent arg 'x-message-ttl' ... current is the value '60000' of type ...". */
static int64_t ttl_of(const char *why)
{
    const char *arg = strstr(why, "inequivalent arg 'x-message-ttl'");
    const char *value = arg ? strstr(arg, "current is the value '") : NULL;
    if (!value)
        return SALVO_RETENTION_DEFAULT; /* something else differs: not told */
    char *rest;
    long long ms = strtoll(value + strlen("current is the value '"), &rest, 10);
    return *rest == '\'' && ms >= 0 ? ms : SALVO_RETENTION_DEFAULT;
}

static int look(talk *t, int64_t *messages)
{
    int err = declare(t, true, 0);
    if (!err && t->refused)
        err = refusal(t);
    *messages = t->messages;
    return err;
}

static int rabbitmq_describe(const salvo_config *config, void *shared, const char *name,
                             salvo_topic_info *info, uint32_t timeout_ms, char *error,
                             size_t error_size)
{
    talk t;
    (void)shared;
    *info = (salvo_topic_info){.partitions = 1, .replication_factor = -1};
    snprintf(info->name, sizeof info->name, "%s", name);
    int err = begin(&t, config, name, timeout_ms, error, error_size);
    if (!err)
        err = look(&t, &info->messages);
    if (!err)
        err = declare(&t, false, 0);
    if (!err)
        info->retention_ms = t.refused ? ttl_of(t.why) : SALVO_RETENTION_FOREVER;
    return end(&t, err);
}

int64_t salvo_rabbitmq_group_lag(const salvo_config *config, void *shared, const char *group,
                                 const char *topic, salvo_lag *lags, size_t max,
                                 uint32_t timeout_ms, char *error, size_t error_size)
{
    talk t;
    salvo_lag lag = {.committed = -1, .end = -1, .lag = -1};
    (void)shared, (void)group;
    snprintf(lag.topic, sizeof lag.topic, "%s", topic);
    int err = begin(&t, config, topic, timeout_ms, error, error_size);
    if (!err)
        err = look(&t, &lag.lag);
    if (end(&t, err))
        return err;
    if (max > 0)
        lags[0] = lag;
    return 1;
}

const salvo_driver_topic_ops salvo_rabbitmq_topic_ops = {
    .can = SALVO_TOPIC_CAN_RETENTION,
    .create = rabbitmq_create,
    .describe = rabbitmq_describe,
};
