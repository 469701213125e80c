/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading a queue back, for tools and tests: the queue of the topic's name (on the default
 * exchange, of its routing key where the configuration sets one).
 *
 * A peek: nothing is acknowledged, so at close every message goes back to its place in the queue,
 * marked as redelivered. While the reader is open other consumers do not get what it was shown,
 * and it is not shown what they hold. Guarantees: messages in the queue's order, each once; with
 * stop_at_end those that were there at the open, or fewer where others took them. The offset is a
 * running number of this reader: a queue has none. What the server sends is bounded by
 * MESSAGE_MOST, and grows in memory only as it arrives.
 */
#include "clock.h"
#include "config_internal.h"
#include "error.h"
#include "rabbitmq_internal.h"
#include "rabbitmq_record.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MS UINT64_C(1000000)
#define MESSAGE_MOST (UINT64_C(256) << 20)
#define OUT_BYTES 65536
#define CHANNEL 1
#define ASK_EVERY_NS (200 * MS)
enum { OPEN_TIMEOUT_MS = 10000, SLICE_MS = 100 };

typedef enum { OPENING, DECLARING, CONSUMING, FAILED } stage;

typedef struct reader {
    salvo_rabbitmq_link link;
    char *topic;
    const char *queue; /* topic, or the configuration's */
    bool stop_at_end, from_end;
    stage stage;
    int error; /* of FAILED */
    char why[SALVO_RABBITMQ_TEXT_BYTES];
    uint64_t there;  /* messages in the queue at the open */
    uint64_t passed; /* messages that came */
    bool asking; /* whether the queue is empty */
    uint32_t empties; /* answers in a row that it is, and nothing was delivered */
    uint64_t ask_ns;
    int64_t offset;

    salvo_rabbitmq_record next; /* being received, then shown */
    bool delivering, header_seen, complete;
    uint64_t left;
} reader;

static void failed(reader *r, int error, const char *text)
{
    r->stage = FAILED;
    r->error = error;
    snprintf(r->why, sizeof r->why, "%s", text);
}

/* --- frames -------------------------------------------------------------------------------- */

static void declare(reader *r)
{
    amqp_queue_declare_t queue = {.queue = salvo_rabbitmq_bytes(r->queue), .passive = 1};
    if (!salvo_rabbitmq_put_method(&r->link, CHANNEL, AMQP_QUEUE_DECLARE_METHOD, &queue))
        failed(r, SALVO_ERR_UNREACHABLE, "no room to ask for the queue");
}

static void on_declared(reader *r, const amqp_queue_declare_ok_t *ok)
{
    if (r->stage == CONSUMING) {
        /* The server may answer before what it has taken from the queue for us, but never a second
         * time: that was delivered between the two. */
        r->asking = false;
        r->empties = ok->message_count == 0 ? r->empties + 1 : 0;
        return;
    }
    amqp_basic_consume_t consume = {.queue = salvo_rabbitmq_bytes(r->queue)};
    r->there = ok->message_count;
    r->stage = CONSUMING;
    if (!salvo_rabbitmq_put_method(&r->link, CHANNEL, AMQP_BASIC_CONSUME_METHOD, &consume))
        failed(r, SALVO_ERR_UNREACHABLE, "no room to ask for messages");
}

static void on_close(reader *r, const amqp_channel_close_t *close)
{
    char text[SALVO_RABBITMQ_TEXT_BYTES - 16], said[SALVO_RABBITMQ_TEXT_BYTES];
    int error = close->reply_code == AMQP_NOT_FOUND        ? SALVO_ERR_UNKNOWN_TOPIC
                : close->reply_code == AMQP_ACCESS_REFUSED ? SALVO_ERR_AUTH
                                                           : SALVO_ERR_UNREACHABLE;
    snprintf(said, sizeof said, "%u %s", close->reply_code,
             salvo_rabbitmq_text(text, sizeof text, close->reply_text));
    failed(r, error, said);
    amqp_channel_close_ok_t ok = {0};
    (void)salvo_rabbitmq_put_method(&r->link, CHANNEL, AMQP_CHANNEL_CLOSE_OK_METHOD, &ok);
}

static void on_method(reader *r, const salvo_rabbitmq_frame *frame)
{
    switch (frame->method.id) {
    case AMQP_CHANNEL_OPEN_OK_METHOD:
        r->stage = DECLARING;
        declare(r);
        return;
    case AMQP_QUEUE_DECLARE_OK_METHOD:
        on_declared(r, frame->method.decoded);
        return;
    case AMQP_BASIC_CONSUME_OK_METHOD:
        return;
    case AMQP_BASIC_DELIVER_METHOD:
        r->delivering = true;
        r->header_seen = false;
        return;
    case AMQP_BASIC_CANCEL_METHOD:
        failed(r, SALVO_ERR_UNKNOWN_TOPIC, "the queue was deleted");
        return;
    case AMQP_CHANNEL_CLOSE_METHOD:
        on_close(r, frame->method.decoded);
        return;
    default:
        failed(r, SALVO_ERR_UNREACHABLE, "a method that nobody asked for");
    }
}

static void on_content(reader *r, const salvo_rabbitmq_frame *frame)
{
    bool header = frame->type == AMQP_FRAME_HEADER;
    if (!r->delivering || header == r->header_seen || (!header && frame->size > r->left)) {
        failed(r, SALVO_ERR_UNREACHABLE, "the server broke the protocol: content of no message");
        return;
    }
    if (header) {
        r->header_seen = true;
        if (!salvo_rabbitmq_record_begin(&r->next, frame->payload, frame->size, &r->left)) {
            failed(r, SALVO_ERR_UNREACHABLE, "a content header that cannot be read");
            return;
        }
        if (r->left > MESSAGE_MOST) {
            failed(r, SALVO_ERR_TOO_LARGE, "a message of more than 256 MiB");
            return;
        }
    } else {
        if (!salvo_rabbitmq_record_body(&r->next, frame->payload, frame->size)) {
            failed(r, SALVO_ERR_NOMEM, "no memory for a message");
            return;
        }
        r->left -= frame->size;
    }
    if (r->left)
        return;
    r->delivering = false;
    r->complete = !r->from_end || r->passed >= r->there;
    r->passed++;
    r->ask_ns = 0;
    r->empties = 0;
    if (r->complete)
        salvo_rabbitmq_link_pause(&r->link); /* one at a time: its bytes are shown in place */
}

static void on_frame(void *context, const salvo_rabbitmq_frame *frame)
{
    reader *r = context;
    if (r->stage == FAILED)
        return;
    if (frame->channel != CHANNEL)
        failed(r, SALVO_ERR_UNREACHABLE, "the server used a channel that is not open");
    else if (frame->type == AMQP_FRAME_METHOD)
        on_method(r, frame);
    else
        on_content(r, frame);
}

/* --- open, next, close --------------------------------------------------------------------- */

static void step(reader *r)
{
    bool before = r->link.stage == SALVO_RABBITMQ_OPEN;
    if (r->link.stage != SALVO_RABBITMQ_DOWN)
        (void)salvo_rabbitmq_link_step(&r->link);
    if (r->link.stage == SALVO_RABBITMQ_OPEN && !before) {
        amqp_channel_open_t channel = {0};
        if (!salvo_rabbitmq_put_method(&r->link, CHANNEL, AMQP_CHANNEL_OPEN_METHOD, &channel))
            failed(r, SALVO_ERR_UNREACHABLE, "no room to open a channel");
        salvo_rabbitmq_link_send(&r->link);
    }
    if (r->link.stage == SALVO_RABBITMQ_DOWN && r->stage != FAILED)
        failed(r, r->link.error, r->link.why);
}

static int say(const reader *r, char *error, size_t error_size)
{
    snprintf(error, error_size, "rabbitmq: queue '%s' at %s:%s: %s", r->queue, r->link.url.host,
             r->link.url.port, r->why);
    return r->error;
}

static int wait_open(reader *r, uint32_t timeout_ms, char *error, size_t error_size)
{
    uint64_t end = salvo_clock_monotonic_ns() + timeout_ms * MS;
    salvo_rabbitmq_link_connect(&r->link);
    for (;;) {
        step(r);
        uint64_t now = salvo_clock_monotonic_ns();
        if (r->stage == CONSUMING)
            return 0;
        bool again = r->stage == FAILED && r->error == SALVO_ERR_UNREACHABLE && now < end;
        if (r->stage == FAILED && !again)
            return say(r, error, error_size);
        if (now >= end) {
            snprintf(error, error_size, "rabbitmq: %s:%s did not answer within %u ms%s%s",
                     r->link.url.host, r->link.url.port, timeout_ms, r->why[0] ? ": " : "",
                     r->why);
            return SALVO_ERR_UNREACHABLE;
        }
        (void)salvo_io_wait(r->link.io, SLICE_MS);
        if (again) { /* it may be starting */
            r->stage = OPENING;
            if (r->link.conn)
                salvo_rabbitmq_link_fail(&r->link, SALVO_ERR_UNREACHABLE, "%s", r->why);
            salvo_rabbitmq_link_connect(&r->link);
        }
    }
}

static uint64_t monotonic(void *clock)
{
    (void)clock;
    return salvo_clock_monotonic_ns();
}

int salvo_rabbitmq_reader_open(const salvo_config *config, void *shared, const char *topic,
                               const salvo_reader_options *options, void **out, char *error,
                               size_t error_size)
{
    const char *key = salvo_config_get(config, "rabbitmq_routing_key");
    bool own = salvo_config_is(config, "rabbitmq_exchange", ""); /* the default exchange */
    (void)shared;
    *out = NULL;
    snprintf(error, error_size, "rabbitmq: no memory for a reader");
    reader *r = calloc(1, sizeof *r);
    if (!r)
        return SALVO_ERR_NOMEM;
    r->topic = strdup(topic);
    r->queue = own && key != NULL && key[0] != '\0' ? key : r->topic;
    r->stop_at_end = options && options->stop_at_end;
    r->from_end = options && options->from_end;
    salvo_rabbitmq_record_open(&r->next);
    salvo_io_options io = {.backend = salvo_config_get(config, "io_backend"), .now_ns = monotonic};
    int err = r->topic ? salvo_rabbitmq_link_open(&r->link, config, &io, OUT_BYTES, error,
                                                  error_size)
                       : SALVO_ERR_NOMEM;
    r->link.on_frame = on_frame;
    r->link.context = r;
    uint32_t timeout_ms = options && options->open_timeout_ms ? options->open_timeout_ms
                                                              : OPEN_TIMEOUT_MS;
    if (err == 0)
        err = wait_open(r, timeout_ms, error, error_size);
    if (err != 0) {
        salvo_rabbitmq_reader_close(r);
        return err;
    }
    *out = r;
    error[0] = '\0';
    return 0;
}

static int show(reader *r, salvo_record *record, char *error, size_t error_size)
{
    int err = salvo_rabbitmq_record_show(&r->next, MESSAGE_MOST, record);
    r->complete = false;
    record->topic = r->topic;
    record->offset = r->offset++;
    if (err != 0)
        snprintf(error, error_size, "rabbitmq: queue '%s', message %lld: %s", r->queue,
                 (long long)record->offset,
                 err == SALVO_ERR_NOMEM ? "no memory" : "its content-encoding does not fit it");
    return err;
}

static bool at_end(reader *r)
{
    if (!r->stop_at_end)
        return false;
    if (r->from_end || r->passed >= r->there)
        return true;
    uint64_t now = salvo_clock_monotonic_ns();
    if (r->empties > 1 || r->asking || now < r->ask_ns)
        return r->empties > 1;
    if (r->ask_ns) { /* nothing came for a while: did others take the rest? */
        r->asking = true;
        declare(r);
    }
    r->ask_ns = now + ASK_EVERY_NS;
    return false;
}

int salvo_rabbitmq_reader_next(void *handle, uint64_t timeout_ms, salvo_record *record, char *error,
                               size_t error_size)
{
    reader *r = handle;
    uint64_t start = salvo_clock_monotonic_ns();
    for (;;) {
        step(r);
        if (r->complete)
            return show(r, record, error, error_size);
        if (at_end(r))
            return SALVO_ERR_END;
        if (r->stage == FAILED)
            return say(r, error, error_size);
        uint64_t spent = (salvo_clock_monotonic_ns() - start) / MS;
        if (spent >= timeout_ms) {
            snprintf(error, error_size, "rabbitmq: nothing new in queue '%s'", r->queue);
            return SALVO_ERR_TIMEOUT;
        }
        uint64_t left = timeout_ms - spent;
        (void)salvo_io_wait(r->link.io, left < SLICE_MS ? left : SLICE_MS);
    }
}

void salvo_rabbitmq_reader_close(void *handle)
{
    reader *r = handle;
    salvo_rabbitmq_link_bye(&r->link, 500);
    salvo_rabbitmq_link_free(&r->link);
    salvo_rabbitmq_record_close(&r->next);
    free(r->topic);
    free(r);
}
