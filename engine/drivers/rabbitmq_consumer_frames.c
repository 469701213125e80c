/* SPDX-License-Identifier: Apache-2.0
 *
 * What comes on the consuming channel; see rabbitmq_consumer.h. Guarantees: a delivery counts only
 * when all of it arrived; memory grows only as bytes arrive; what does not belong where it comes
 * ends the connection.
 */
#include "rabbitmq_consumer.h"

#include "clock.h"
#include "error.h"
#include <stdlib.h>
#include <string.h>

#define MS UINT64_C(1000000)
#define MESSAGE_MOST (UINT64_C(256) << 20)
enum { BODY_FIRST = 64 << 10, AGAIN_MS = 200, REFUSED_MS = 30000 };

void salvo_rabbitmq_parcel_free(salvo_rabbitmq_parcel *parcel)
{
    if (!parcel)
        return;
    free(parcel->header);
    free(parcel->body);
    free(parcel);
}

static void broken(salvo_rabbitmq_consumer *c, const char *what)
{
    salvo_rabbitmq_link_fail(&c->link, SALVO_ERR_UNREACHABLE, "the server broke the protocol: %s",
                             what);
}

static void no_memory(salvo_rabbitmq_consumer *c)
{
    salvo_rabbitmq_link_fail(&c->link, SALVO_ERR_NOMEM, "no memory for a message");
}

void salvo_rabbitmq_consumer_over(salvo_rabbitmq_consumer *c)
{
    salvo_rabbitmq_parcel_free(c->receiving);
    c->receiving = NULL;
    for (salvo_rabbitmq_parcel *next; c->first; c->first = next) {
        next = c->first->next;
        salvo_rabbitmq_parcel_free(c->first);
    }
    c->last = NULL;
    c->buffered_bytes = 0;
    salvo_rabbitmq_tags_reset(&c->tags);
    c->apart_ns = 0;
    c->unconfirmed = false;
    if (c->ended == 0)
        c->ended = c->claim; /* of later ones nothing was given yet */
    c->claim++;
    c->channel = SALVO_RABBITMQ_CHANNEL_NONE;
    c->subscribing = UINT32_MAX;
    c->confirming = 0;
    for (uint32_t i = 0; i < c->queue_count; i++)
        c->queues[i].subscribed = SALVO_RABBITMQ_NOT_SUBSCRIBED;
}

bool salvo_rabbitmq_requeue(salvo_rabbitmq_consumer *c, uint64_t tag)
{
    amqp_basic_nack_t nack = {.delivery_tag = tag, .requeue = 1};
    if (!salvo_rabbitmq_put_method(&c->link, SALVO_RABBITMQ_CONSUMING, AMQP_BASIC_NACK_METHOD,
                                   &nack))
        return false;
    salvo_rabbitmq_tags_told(&c->tags, tag);
    return true;
}

/* --- methods -------------------------------------------------------------------------------- */

static uint32_t queue_of(const salvo_rabbitmq_consumer *c, amqp_bytes_t tag)
{
    uint32_t i = 0;
    while (i < c->queue_count && (strlen(c->queues[i].tag) != tag.len ||
                                  memcmp(c->queues[i].tag, tag.bytes, tag.len) != 0))
        i++;
    return i;
}

static void on_deliver(salvo_rabbitmq_consumer *c, const amqp_basic_deliver_t *deliver)
{
    uint32_t queue = queue_of(c, deliver->consumer_tag);
    if (c->receiving || queue == c->queue_count || deliver->delivery_tag != c->tags.next) {
        broken(c, "a delivery that nobody asked for");
        return;
    }
    c->receiving = calloc(1, sizeof *c->receiving);
    if (!c->receiving || !salvo_rabbitmq_tags_give(&c->tags)) {
        no_memory(c);
        return;
    }
    c->header_seen = false;
    c->receiving->tag = deliver->delivery_tag;
    c->receiving->queue = queue;
    c->receiving->redelivered = deliver->redelivered != 0;
}

/* The server ended our consumer: the queue was deleted, or its node went away. */
static void on_cancelled(salvo_rabbitmq_consumer *c, const amqp_basic_cancel_t *cancel)
{
    uint32_t i = queue_of(c, cancel->consumer_tag);
    if (i == c->queue_count)
        return;
    c->env->log(SALVO_LOG_WARNING, "rabbitmq: queue '%s' was removed; declaring it again",
                c->queues[i].name);
    c->queues[i].there = false;
    c->queues[i].subscribed = SALVO_RABBITMQ_NOT_SUBSCRIBED;
}

static void on_close(salvo_rabbitmq_consumer *c, const amqp_channel_close_t *close)
{
    char text[160];
    amqp_channel_close_ok_t ok = {0};
    if (c->subscribing != UINT32_MAX)
        salvo_rabbitmq_queue_refused(c, &c->queues[c->subscribing], close, REFUSED_MS);
    else
        c->env->log(SALVO_LOG_WARNING, "rabbitmq: the server closed the consuming channel: %u %s; "
                    "opening it again", close->reply_code,
                    salvo_rabbitmq_text(text, sizeof text, close->reply_text));
    if (!salvo_rabbitmq_put_method(&c->link, SALVO_RABBITMQ_CONSUMING,
                                   AMQP_CHANNEL_CLOSE_OK_METHOD, &ok))
        salvo_rabbitmq_link_fail(&c->link, SALVO_ERR_UNREACHABLE, "no room to close a channel");
    salvo_rabbitmq_consumer_over(c);
    c->channel_ns = salvo_clock_monotonic_ns() + AGAIN_MS * MS;
}

static void on_qos_ok(salvo_rabbitmq_consumer *c)
{
    if (c->channel == SALVO_RABBITMQ_CHANNEL_QOS)
        c->channel = SALVO_RABBITMQ_CHANNEL_OPEN;
    else if (c->confirming > 0)
        c->confirming--;
    else
        broken(c, "a basic.qos-ok that nobody asked for");
}

static void on_consume_ok(salvo_rabbitmq_consumer *c)
{
    if (c->subscribing == UINT32_MAX) {
        broken(c, "a basic.consume-ok that nobody asked for");
        return;
    }
    c->queues[c->subscribing].subscribed = SALVO_RABBITMQ_SUBSCRIBED;
    c->queues[c->subscribing].error = 0;
    c->subscribing = UINT32_MAX;
    c->attempts = 0;
}

static void on_cancel_ok(salvo_rabbitmq_consumer *c, const amqp_basic_cancel_ok_t *ok)
{
    uint32_t i = queue_of(c, ok->consumer_tag);
    if (i < c->queue_count && c->queues[i].subscribed == SALVO_RABBITMQ_CANCELLING)
        c->queues[i].subscribed = SALVO_RABBITMQ_NOT_SUBSCRIBED;
}

static void on_method(salvo_rabbitmq_consumer *c, const salvo_rabbitmq_frame *frame)
{
    switch (frame->method.id) {
    case AMQP_BASIC_DELIVER_METHOD:
        on_deliver(c, frame->method.decoded);
        return;
    case AMQP_CHANNEL_OPEN_OK_METHOD:
        if (c->channel != SALVO_RABBITMQ_CHANNEL_OPENING)
            broken(c, "a channel that nobody asked for");
        else if (salvo_rabbitmq_consumer_qos(c))
            c->channel = SALVO_RABBITMQ_CHANNEL_QOS;
        else
            salvo_rabbitmq_link_fail(&c->link, SALVO_ERR_UNREACHABLE, "no room for basic.qos");
        return;
    case AMQP_BASIC_QOS_OK_METHOD:
        on_qos_ok(c);
        return;
    case AMQP_BASIC_CONSUME_OK_METHOD:
        on_consume_ok(c);
        return;
    case AMQP_BASIC_CANCEL_OK_METHOD:
        on_cancel_ok(c, frame->method.decoded);
        return;
    case AMQP_BASIC_CANCEL_METHOD:
        on_cancelled(c, frame->method.decoded);
        return;
    case AMQP_CHANNEL_CLOSE_METHOD:
        on_close(c, frame->method.decoded);
        return;
    default:
        broken(c, "a method that nobody asked for");
    }
}

/* --- content -------------------------------------------------------------------------------- */

static void received(salvo_rabbitmq_consumer *c)
{
    salvo_rabbitmq_parcel *parcel = c->receiving;
    c->receiving = NULL;
    if (c->queues[parcel->queue].paused && salvo_rabbitmq_requeue(c, parcel->tag)) {
        salvo_rabbitmq_parcel_free(parcel);
        return;
    }
    if (c->last)
        c->last->next = parcel;
    else
        c->first = parcel;
    c->last = parcel;
    c->buffered_bytes += parcel->got + parcel->header_len;
}

static void on_header(salvo_rabbitmq_consumer *c, const salvo_rabbitmq_frame *frame)
{
    enum { FIXED = 12, SIZE_AT = 4 }; /* class, weight, body's size; flags follow */
    salvo_rabbitmq_parcel *parcel = c->receiving;
    if (frame->size < FIXED + 2 ||
        salvo_rabbitmq_get_be(frame->payload, 2) != AMQP_BASIC_CLASS ||
        (parcel->body_len = salvo_rabbitmq_get_be(frame->payload + SIZE_AT, 8)) > MESSAGE_MOST) {
        broken(c, "a content header that cannot be read");
        return;
    }
    c->header_seen = true;
    parcel->header = malloc(frame->size);
    if (!parcel->header) {
        no_memory(c);
        return;
    }
    memcpy(parcel->header, frame->payload, frame->size);
    parcel->header_len = frame->size;
    if (parcel->body_len == 0)
        received(c);
}

static bool body_room(salvo_rabbitmq_parcel *parcel, size_t need)
{
    size_t room = parcel->room ? 2 * parcel->room : BODY_FIRST;
    if (need <= parcel->room)
        return true;
    room = room < need ? need : room > parcel->body_len ? (size_t)parcel->body_len : room;
    uint8_t *body = realloc(parcel->body, room);
    if (body) {
        parcel->body = body;
        parcel->room = room;
    }
    return body != NULL;
}

static void on_body(salvo_rabbitmq_consumer *c, const salvo_rabbitmq_frame *frame)
{
    salvo_rabbitmq_parcel *parcel = c->receiving;
    if (frame->size > parcel->body_len - parcel->got) {
        broken(c, "more content than was announced");
        return;
    }
    if (!body_room(parcel, parcel->got + frame->size)) {
        no_memory(c);
        return;
    }
    memcpy(parcel->body + parcel->got, frame->payload, frame->size);
    parcel->got += frame->size;
    if (parcel->got == parcel->body_len)
        received(c);
}

/* Until our channel.close is answered. */
static void closing_frame(salvo_rabbitmq_consumer *c, const salvo_rabbitmq_frame *frame)
{
    amqp_method_number_t id = frame->type == AMQP_FRAME_METHOD ? frame->method.id : 0;
    amqp_channel_close_ok_t ok = {0};
    if (id == AMQP_CHANNEL_CLOSE_METHOD) /* both at once: theirs is answered, ours will be */
        (void)salvo_rabbitmq_put_method(&c->link, SALVO_RABBITMQ_CONSUMING,
                                        AMQP_CHANNEL_CLOSE_OK_METHOD, &ok);
    else if (id == AMQP_CHANNEL_CLOSE_OK_METHOD)
        c->channel = SALVO_RABBITMQ_CHANNEL_NONE;
}

void salvo_rabbitmq_consumer_frame(void *context, const salvo_rabbitmq_frame *frame)
{
    salvo_rabbitmq_consumer *c = context;
    if (frame->channel == SALVO_RABBITMQ_DECLARING)
        salvo_rabbitmq_consumer_declaring_frame(c, frame);
    else if (frame->channel != SALVO_RABBITMQ_CONSUMING)
        broken(c, "a channel that is not open");
    else if (c->channel == SALVO_RABBITMQ_CHANNEL_CLOSING)
        closing_frame(c, frame);
    else if (c->channel == SALVO_RABBITMQ_CHANNEL_NONE)
        broken(c, "a frame on a channel that is closed");
    else if (frame->type == AMQP_FRAME_METHOD && c->receiving &&
             frame->method.id != AMQP_CHANNEL_CLOSE_METHOD)
        broken(c, "a method within a message");
    else if (frame->type == AMQP_FRAME_METHOD)
        on_method(c, frame);
    else if (!c->receiving || (frame->type == AMQP_FRAME_HEADER) == c->header_seen)
        broken(c, "content of no message");
    else if (frame->type == AMQP_FRAME_HEADER)
        on_header(c, frame);
    else
        on_body(c, frame);
}
