/* SPDX-License-Identifier: Apache-2.0
 *
 * What the server says of messages, and what is done when it can say nothing any more.
 *
 * ack: acknowledged. nack: published again after a pause, and before anything new. return: it
 * reached no queue, which is for good; the ack that follows says nothing new. The message of a
 * return is told by its message-id. channel.close because of a message: the only one that is on
 * its way is refused; where there were several, they are published again one at a time, until it
 * is known which.
 *
 * Untrusted: a confirm of what was not sent, a return without content, content without a return
 * end the connection.
 */
#include "rabbitmq_internal.h"

#include "error.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define SECOND UINT64_C(1000000000)
#define LOG_EVERY (10 * SECOND)

void salvo_rabbitmq_entry_settle(salvo_rabbitmq *r, salvo_rabbitmq_entry *e, int32_t status)
{
    if (e->slot == SALVO_RABBITMQ_NO_SLOT)
        return;
    salvo_rabbitmq_slots_record(&r->slots, e->slot, e->index, 1, status);
    e->slot = SALVO_RABBITMQ_NO_SLOT;
}

static salvo_rabbitmq_entry *out_at(salvo_rabbitmq *r, uint64_t tag)
{
    return &r->out[tag & r->out_mask];
}

static void broken(salvo_rabbitmq *r, const char *what)
{
    salvo_rabbitmq_link_fail(&r->link, SALVO_ERR_UNREACHABLE, "the server broke the protocol: %s",
                             what);
}

/* --- ack and nack -------------------------------------------------------------------------- */

void salvo_rabbitmq_out_trim(salvo_rabbitmq *r)
{
    while (r->first_tag != r->next_tag && out_at(r, r->first_tag)->slot == SALVO_RABBITMQ_NO_SLOT &&
           out_at(r, r->first_tag)->begin == UINT64_MAX)
        r->first_tag++;
}

/* Sorted by seq; nearly always at the end. */
static void add_again(salvo_rabbitmq *r, const salvo_rabbitmq_entry *e)
{
    if (r->again_head + r->again_count == r->again_room) {
        memmove(r->again, r->again + r->again_head, r->again_count * sizeof *r->again);
        r->again_head = 0;
    }
    salvo_rabbitmq_entry *first = r->again + r->again_head, *at = first + r->again_count++;
    for (; at > first && at[-1].seq > e->seq; at--)
        *at = at[-1];
    *at = *e;
}

/* The server holds nothing of it, unless several queues were to get it. */
static void nacked(salvo_rabbitmq *r, salvo_rabbitmq_entry *e)
{
    if (e->slot == SALVO_RABBITMQ_NO_SLOT)
        return;
    const salvo_rabbitmq_topic *topic = &r->topics[r->slots.slot[e->slot].batch.topic];
    uint64_t now = salvo_rabbitmq_now(r);
    if (now >= r->nack_logged_ns) {
        r->nack_logged_ns = now + LOG_EVERY;
        r->env->log(SALVO_LOG_WARNING, "rabbitmq: topic '%s': the server refused a message for "
                    "now (nack); it is sent again", topic->name);
    }
    e->maybe |= topic->exchange[0] != '\0';
    add_again(r, e);
    e->slot = SALVO_RABBITMQ_NO_SLOT;
}

static void confirm(salvo_rabbitmq *r, uint64_t tag, bool multiple, bool ack)
{
    uint64_t sent = salvo_io_bytes_sent(r->link.conn), before = r->first_tag;
    if (multiple && tag == 0)
        tag = r->next_tag - 1;
    if (tag == 0 || tag >= r->next_tag || (tag >= r->first_tag && out_at(r, tag)->end > sent)) {
        broken(r, "it confirmed what it was not sent");
        return;
    }
    for (uint64_t t = multiple ? r->first_tag : tag; t <= tag && tag >= r->first_tag; t++) {
        salvo_rabbitmq_entry *e = out_at(r, t);
        if (e->begin == UINT64_MAX)
            continue; /* confirmed before */
        if (ack)
            salvo_rabbitmq_entry_settle(r, e, 0);
        else
            nacked(r, e);
        e->begin = UINT64_MAX; /* the server is through with this tag */
    }
    salvo_rabbitmq_out_trim(r);
    if (ack && r->first_tag != before) {
        r->nacks = 0;
        r->attempts = 0;
    } else if (!ack) {
        r->again_ns = salvo_rabbitmq_now(r) +
                      salvo_rabbitmq_backoff_ns(r, "retry_backoff_ms", r->nacks++);
    }
}

/* --- returns ------------------------------------------------------------------------------- */

static void refused_by_return(salvo_rabbitmq *r, salvo_rabbitmq_entry *e)
{
    uint32_t id = r->slots.slot[e->slot].batch.topic;
    const salvo_rabbitmq_topic *topic = &r->topics[id];
    bool no_route = r->returned.code == AMQP_NO_ROUTE;
    uint64_t now = salvo_rabbitmq_now(r);
    if (now >= r->return_logged_ns) {
        r->return_logged_ns = now + LOG_EVERY;
        r->env->log(SALVO_LOG_ERROR, "rabbitmq: topic '%s': a message reached no queue: %u %s "
                    "(exchange '%s', routing key '%s')", topic->name, r->returned.code,
                    r->returned.text, topic->exchange, topic->routing_key);
    }
    salvo_rabbitmq_entry_settle(r, e, e->maybe     ? SALVO_ERR_MAYBE
                                      : no_route ? SALVO_ERR_UNKNOWN_TOPIC
                                                 : SALVO_ERR_REJECTED);
    if (topic->exchange[0] == '\0') /* its queue was deleted: those that follow get a new one */
        salvo_rabbitmq_topic_again(r, id);
}

static void on_return_header(salvo_rabbitmq *r, const salvo_rabbitmq_frame *frame)
{
    enum { FIXED = 12 }; /* class, weight, body size */
    void *decoded;
    uint64_t seq, sent = salvo_io_bytes_sent(r->link.conn);
    union { const uint8_t *in; void *out; } at = {frame->payload + FIXED};
    if (frame->size < FIXED + 2 || salvo_rabbitmq_get_be(frame->payload, 2) != AMQP_BASIC_CLASS ||
        amqp_decode_properties(AMQP_BASIC_CLASS, &r->link.pool,
                               (amqp_bytes_t){.len = frame->size - FIXED, .bytes = at.out},
                               &decoded) != 0) {
        broken(r, "a content header that cannot be read");
        return;
    }
    r->returned.header_seen = true;
    r->returned.left = salvo_rabbitmq_get_be(frame->payload + 4, 8);
    r->returned.active = r->returned.left != 0;
    const amqp_basic_properties_t *p = decoded;
    if (!(p->_flags & AMQP_BASIC_MESSAGE_ID_FLAG) ||
        !salvo_rabbitmq_id_parse(r, p->message_id, &seq))
        return; /* not one of ours: nothing that we wait for */
    for (uint64_t tag = r->first_tag; tag != r->next_tag; tag++) {
        salvo_rabbitmq_entry *e = out_at(r, tag);
        if (e->seq != seq || e->slot == SALVO_RABBITMQ_NO_SLOT)
            continue;
        if (e->end > sent)
            broken(r, "it returned what it was not sent");
        else
            refused_by_return(r, e);
        return;
    }
}

static void on_content(salvo_rabbitmq *r, const salvo_rabbitmq_frame *frame)
{
    salvo_rabbitmq_returned *back = &r->returned;
    bool header = frame->type == AMQP_FRAME_HEADER;
    if (!back->active || header == back->header_seen || (!header && frame->size > back->left)) {
        broken(r, "content that is no message's");
        return;
    }
    if (header) {
        on_return_header(r, frame);
        return;
    }
    back->left -= frame->size;
    back->active = back->left != 0;
}

/* --- losing a channel, or all -------------------------------------------------------------- */

static int by_seq(const void *a, const void *b)
{
    const salvo_rabbitmq_entry *x = a, *y = b;
    return (x->seq > y->seq) - (x->seq < y->seq);
}

void salvo_rabbitmq_out_lost(salvo_rabbitmq *r, uint64_t sent)
{
    r->ready = false;
    r->writer.active = false;
    r->returned.active = false;
    if (r->again_head) {
        memmove(r->again, r->again + r->again_head, r->again_count * sizeof *r->again);
        r->again_head = 0;
    }
    for (; r->first_tag != r->next_tag; r->first_tag++) {
        salvo_rabbitmq_entry *e = out_at(r, r->first_tag);
        if (e->slot == SALVO_RABBITMQ_NO_SLOT)
            continue;
        e->maybe |= e->begin < sent;
        r->again[r->again_count++] = *e;
    }
    r->first_tag = r->next_tag = 1;
    r->again_ns = 0;
    qsort(r->again, r->again_count, sizeof *r->again, by_seq);
}

static uint32_t count_open(salvo_rabbitmq *r, salvo_rabbitmq_entry **only)
{
    uint32_t n = 0;
    for (uint64_t tag = r->first_tag; tag != r->next_tag; tag++)
        if (out_at(r, tag)->slot != SALVO_RABBITMQ_NO_SLOT) {
            *only = out_at(r, tag);
            n++;
        }
    return n;
}

static int32_t status_of(uint16_t code, const char *text)
{
    if (code == AMQP_PRECONDITION_FAILED && strstr(text, "larger than")) /* max_message_size */
        return SALVO_ERR_TOO_LARGE;
    return code == AMQP_ACCESS_REFUSED ? SALVO_ERR_AUTH
           : code == AMQP_NOT_FOUND    ? SALVO_ERR_UNKNOWN_TOPIC
                                       : SALVO_ERR_REJECTED;
}

/* The server closed the publishing channel. A missing exchange may be declared anew, so its
 * message gets a second chance, alone. */
static void on_close(salvo_rabbitmq *r, const amqp_channel_close_t *close)
{
    char text[128];
    salvo_rabbitmq_entry *only = NULL;
    uint32_t open = count_open(r, &only);
    salvo_rabbitmq_text(text, sizeof text, close->reply_text);
    r->env->log(SALVO_LOG_WARNING, "rabbitmq: the channel was closed: %u %s", close->reply_code,
                text);
    if (open == 1 && (close->reply_code != AMQP_NOT_FOUND || only->alone)) {
        r->env->log(SALVO_LOG_ERROR, "rabbitmq: topic '%s': the server refused a message: %u %s",
                    r->topics[r->slots.slot[only->slot].batch.topic].name, close->reply_code, text);
        salvo_rabbitmq_entry_settle(r, only, status_of(close->reply_code, text));
    }
    salvo_rabbitmq_out_lost(r, salvo_io_bytes_sent(r->link.conn));
    r->careful = r->again_count;
    for (uint32_t i = 0; i < r->listed_count; i++)
        if (r->topics[r->listed[i]].exchange[0] != '\0')
            salvo_rabbitmq_topic_again(r, r->listed[i]);
    amqp_channel_close_ok_t ok = {0};
    amqp_channel_open_t again = {0};
    amqp_confirm_select_t select = {0};
    const uint16_t channel = SALVO_RABBITMQ_PUBLISHING;
    if (!salvo_rabbitmq_put_method(&r->link, channel, AMQP_CHANNEL_CLOSE_OK_METHOD, &ok) ||
        !salvo_rabbitmq_put_method(&r->link, channel, AMQP_CHANNEL_OPEN_METHOD, &again) ||
        !salvo_rabbitmq_put_method(&r->link, channel, AMQP_CONFIRM_SELECT_METHOD, &select))
        salvo_rabbitmq_link_fail(&r->link, SALVO_ERR_UNREACHABLE, "no room to open the channel "
                                                                  "again");
}

void salvo_rabbitmq_publishing_frame(salvo_rabbitmq *r, const salvo_rabbitmq_frame *frame)
{
    if (frame->type != AMQP_FRAME_METHOD) {
        on_content(r, frame);
        return;
    }
    if (r->returned.active) {
        broken(r, "a method inside of content");
        return;
    }
    switch (frame->method.id) {
    case AMQP_BASIC_ACK_METHOD: {
        const amqp_basic_ack_t *ack = frame->method.decoded;
        confirm(r, ack->delivery_tag, ack->multiple, true);
        return;
    }
    case AMQP_BASIC_NACK_METHOD: {
        const amqp_basic_nack_t *nack = frame->method.decoded;
        confirm(r, nack->delivery_tag, nack->multiple, false);
        return;
    }
    case AMQP_BASIC_RETURN_METHOD: {
        const amqp_basic_return_t *back = frame->method.decoded;
        r->returned = (salvo_rabbitmq_returned){.active = true, .code = back->reply_code};
        salvo_rabbitmq_text(r->returned.text, sizeof r->returned.text, back->reply_text);
        return;
    }
    case AMQP_CHANNEL_CLOSE_METHOD:
        on_close(r, frame->method.decoded);
        return;
    case AMQP_CONFIRM_SELECT_OK_METHOD:
        r->ready = true;
        return;
    case AMQP_CHANNEL_OPEN_OK_METHOD:
        return;
    default:
        broken(r, "a method that nobody asked for");
    }
}
