/* SPDX-License-Identifier: Apache-2.0
 *
 * Removing a queue: the one of the topic's name, on the default exchange of the configuration's
 * routing key where that is set; with all its messages, whoever reads it. Exchanges stay.
 */
#include "clock.h"
#include "config_internal.h"
#include "error.h"
#include "rabbitmq_internal.h"
#include <stdio.h>

#define MS UINT64_C(1000000)
#define CHANNEL 1
enum { OUT_BYTES = 16384, SLICE_MS = 100 };

typedef struct removal {
    salvo_rabbitmq_link link;
    const char *queue;
    bool done;
    int error;
    char why[SALVO_RABBITMQ_TEXT_BYTES];
} removal;

static void ask(removal *r)
{
    amqp_queue_delete_t wish = {.queue = salvo_rabbitmq_bytes(r->queue)};
    r->done = !salvo_rabbitmq_put_method(&r->link, CHANNEL, AMQP_QUEUE_DELETE_METHOD, &wish);
    r->error = r->done ? SALVO_ERR_UNREACHABLE : 0;
}

static void on_close(removal *r, const amqp_channel_close_t *close)
{
    char text[SALVO_RABBITMQ_TEXT_BYTES - 16];
    r->done = true;
    r->error = close->reply_code == AMQP_NOT_FOUND        ? 0
               : close->reply_code == AMQP_ACCESS_REFUSED ? SALVO_ERR_AUTH
                                                          : SALVO_ERR_REJECTED;
    snprintf(r->why, sizeof r->why, "%u %s", close->reply_code,
             salvo_rabbitmq_text(text, sizeof text, close->reply_text));
    amqp_channel_close_ok_t ok = {0};
    (void)salvo_rabbitmq_put_method(&r->link, CHANNEL, AMQP_CHANNEL_CLOSE_OK_METHOD, &ok);
}

static void on_frame(void *context, const salvo_rabbitmq_frame *frame)
{
    removal *r = context;
    if (frame->type != AMQP_FRAME_METHOD || frame->channel != CHANNEL)
        return;
    if (frame->method.id == AMQP_CHANNEL_OPEN_OK_METHOD)
        ask(r);
    else if (frame->method.id == AMQP_QUEUE_DELETE_OK_METHOD)
        r->done = true;
    else if (frame->method.id == AMQP_CHANNEL_CLOSE_METHOD)
        on_close(r, frame->method.decoded);
}

static void run(removal *r, uint32_t timeout_ms)
{
    uint64_t end = salvo_clock_monotonic_ns() + timeout_ms * MS;
    salvo_rabbitmq_link_connect(&r->link);
    while (!r->done) {
        bool before = r->link.stage == SALVO_RABBITMQ_OPEN;
        (void)salvo_rabbitmq_link_step(&r->link);
        if (r->link.stage == SALVO_RABBITMQ_OPEN && !before) {
            amqp_channel_open_t channel = {0};
            (void)salvo_rabbitmq_put_method(&r->link, CHANNEL, AMQP_CHANNEL_OPEN_METHOD, &channel);
            salvo_rabbitmq_link_send(&r->link);
        }
        bool down = r->link.stage == SALVO_RABBITMQ_DOWN;
        if (!r->done && (down || salvo_clock_monotonic_ns() >= end)) {
            r->done = true;
            r->error = down && r->link.error ? r->link.error : SALVO_ERR_UNREACHABLE;
            snprintf(r->why, sizeof r->why, "%s", down ? r->link.why : "it did not answer in time");
        }
        if (!r->done)
            (void)salvo_io_wait(r->link.io, SLICE_MS);
    }
}

static uint64_t monotonic(void *clock)
{
    (void)clock;
    return salvo_clock_monotonic_ns();
}

int salvo_rabbitmq_topic_delete(const salvo_config *config, const char *topic, uint32_t timeout_ms,
                                char *error, size_t error_size)
{
    const char *key = salvo_config_get(config, "rabbitmq_routing_key");
    bool own = salvo_config_is(config, "rabbitmq_exchange", ""); /* the default exchange */
    removal r = {.queue = own && key != NULL && key[0] != '\0' ? key : topic};
    salvo_io_options io = {.backend = salvo_config_get(config, "io_backend"), .now_ns = monotonic};
    int err = salvo_rabbitmq_link_open(&r.link, config, &io, OUT_BYTES, error, error_size);
    r.link.on_frame = on_frame;
    r.link.context = &r;
    if (err == 0) {
        run(&r, timeout_ms);
        err = r.error;
        salvo_rabbitmq_link_bye(&r.link, 500);
        if (err != 0)
            snprintf(error, error_size, "rabbitmq: queue '%s' at %s:%s was not removed: %s",
                     r.queue, r.link.url.host, r.link.url.port, r.why);
    }
    salvo_rabbitmq_link_free(&r.link);
    return err;
}
