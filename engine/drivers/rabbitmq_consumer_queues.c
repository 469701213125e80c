/* SPDX-License-Identifier: Apache-2.0
 *
 * Queues of a consumer: declared durable where they are missing, as the producer does, used as
 * they are where they exist otherwise or are not ours to declare; then consumed, one request at a
 * time on each channel, so that a refusal tells whose it is.
 */
#include "rabbitmq_consumer.h"

#include "clock.h"
#include "error.h"
#include <stdio.h>
#include <string.h>

#define MS UINT64_C(1000000)
#define RECHECK_MS 5000
enum { PREFETCH_MOST = 65535 };

void salvo_rabbitmq_queue_refused(salvo_rabbitmq_consumer *c, salvo_rabbitmq_queue *q,
                                  const amqp_channel_close_t *close, uint64_t pause_ms)
{
    char text[128];
    bool rights = close->reply_code == AMQP_ACCESS_REFUSED ||
                  close->reply_code == AMQP_RESOURCE_LOCKED;
    bool first = q->error == 0;
    q->there = false;
    q->error = rights ? SALVO_ERR_AUTH : SALVO_ERR_UNKNOWN_TOPIC;
    q->retry_ns = salvo_clock_monotonic_ns() + pause_ms * MS;
    snprintf(q->why, sizeof q->why, "%u %s", close->reply_code,
             salvo_rabbitmq_text(text, sizeof text, close->reply_text));
    if (first)
        c->env->log(SALVO_LOG_ERROR, "rabbitmq: queue '%s': %s", q->name, q->why);
}

/* --- declaring ------------------------------------------------------------------------------ */

static void declare_next(salvo_rabbitmq_consumer *c, uint64_t now_ns)
{
    for (uint32_t i = 0; i < c->queue_count; i++) {
        salvo_rabbitmq_queue *q = &c->queues[i];
        if (q->there || now_ns < q->retry_ns)
            continue;
        amqp_queue_declare_t queue = {.queue = salvo_rabbitmq_bytes(q->name),
                                      .passive = q->passive, .durable = 1};
        if (salvo_rabbitmq_put_method(&c->link, SALVO_RABBITMQ_DECLARING,
                                      AMQP_QUEUE_DECLARE_METHOD, &queue))
            c->declaring = i;
        return;
    }
}

static void on_close(salvo_rabbitmq_consumer *c, const amqp_channel_close_t *close)
{
    amqp_channel_close_ok_t ok = {0};
    amqp_channel_open_t again = {0};
    if (c->declaring != UINT32_MAX) {
        salvo_rabbitmq_queue *q = &c->queues[c->declaring];
        bool otherwise = !q->passive && close->reply_code != AMQP_NOT_FOUND;
        q->passive = otherwise; /* it may be there all the same */
        if (!otherwise)
            salvo_rabbitmq_queue_refused(c, q, close, RECHECK_MS);
    }
    c->declaring = UINT32_MAX;
    c->declare_open = false;
    if (!salvo_rabbitmq_put_method(&c->link, SALVO_RABBITMQ_DECLARING,
                                   AMQP_CHANNEL_CLOSE_OK_METHOD, &ok) ||
        !salvo_rabbitmq_put_method(&c->link, SALVO_RABBITMQ_DECLARING, AMQP_CHANNEL_OPEN_METHOD,
                                   &again))
        salvo_rabbitmq_link_fail(&c->link, SALVO_ERR_UNREACHABLE, "no room to open a channel");
}

void salvo_rabbitmq_consumer_declaring_frame(salvo_rabbitmq_consumer *c,
                                             const salvo_rabbitmq_frame *frame)
{
    amqp_method_number_t id = frame->type == AMQP_FRAME_METHOD ? frame->method.id : 0;
    if (id == AMQP_CHANNEL_OPEN_OK_METHOD) {
        c->declare_open = true;
    } else if (id == AMQP_CHANNEL_CLOSE_METHOD) {
        on_close(c, frame->method.decoded);
    } else if (id == AMQP_QUEUE_DECLARE_OK_METHOD && c->declaring != UINT32_MAX) {
        c->queues[c->declaring].there = true;
        c->queues[c->declaring].passive = false;
        c->declaring = UINT32_MAX;
    } else {
        salvo_rabbitmq_link_fail(&c->link, SALVO_ERR_UNREACHABLE, "the server broke the protocol: "
                                 "0x%08x on the channel for declarations", id);
    }
}

/* --- consuming ------------------------------------------------------------------------------ */

/* Of each queue, not of the channel: quorum queues know no other. */
bool salvo_rabbitmq_consumer_qos(salvo_rabbitmq_consumer *c)
{
    uint32_t each = c->env->options->max_in_hand / c->queue_count;
    each = each < 1 ? 1 : each > PREFETCH_MOST ? PREFETCH_MOST : each;
    amqp_basic_qos_t qos = {.prefetch_count = (uint16_t)each};
    return salvo_rabbitmq_put_method(&c->link, SALVO_RABBITMQ_CONSUMING, AMQP_BASIC_QOS_METHOD,
                                     &qos);
}

static void cancel(salvo_rabbitmq_consumer *c, salvo_rabbitmq_queue *q)
{
    amqp_basic_cancel_t method = {.consumer_tag = salvo_rabbitmq_bytes(q->tag)};
    if (salvo_rabbitmq_put_method(&c->link, SALVO_RABBITMQ_CONSUMING, AMQP_BASIC_CANCEL_METHOD,
                                  &method))
        q->subscribed = SALVO_RABBITMQ_CANCELLING;
}

static void subscribe_next(salvo_rabbitmq_consumer *c)
{
    for (uint32_t i = 0; i < c->queue_count; i++) {
        salvo_rabbitmq_queue *q = &c->queues[i];
        if (q->paused && q->subscribed == SALVO_RABBITMQ_SUBSCRIBED)
            cancel(c, q);
        if (c->subscribing != UINT32_MAX || q->paused || !q->there || c->closing ||
            q->subscribed != SALVO_RABBITMQ_NOT_SUBSCRIBED)
            continue;
        amqp_basic_consume_t consume = {.queue = salvo_rabbitmq_bytes(q->name),
                                        .consumer_tag = salvo_rabbitmq_bytes(q->tag)};
        if (!salvo_rabbitmq_put_method(&c->link, SALVO_RABBITMQ_CONSUMING,
                                       AMQP_BASIC_CONSUME_METHOD, &consume))
            return;
        q->subscribed = SALVO_RABBITMQ_SUBSCRIBING;
        c->subscribing = i;
    }
}

void salvo_rabbitmq_consumer_queues_step(salvo_rabbitmq_consumer *c, uint64_t now_ns)
{
    amqp_channel_open_t open = {0};
    if (c->declare_open && c->declaring == UINT32_MAX && !c->closing)
        declare_next(c, now_ns);
    if (c->channel == SALVO_RABBITMQ_CHANNEL_NONE && now_ns >= c->channel_ns && !c->closing &&
        salvo_rabbitmq_put_method(&c->link, SALVO_RABBITMQ_CONSUMING, AMQP_CHANNEL_OPEN_METHOD,
                                  &open))
        c->channel = SALVO_RABBITMQ_CHANNEL_OPENING;
    if (c->channel == SALVO_RABBITMQ_CHANNEL_OPEN)
        subscribe_next(c);
}
