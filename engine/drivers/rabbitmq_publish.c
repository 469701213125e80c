/* SPDX-License-Identifier: Apache-2.0
 *
 * Messages into the connection: first again[], in order, then the slots, in order. A small message
 * is written in one piece into the connection's own memory; a large body goes frame by frame as
 * room allows, straight from where it lies, so a message may be larger than all buffers. Nothing
 * here sends: the frames of all messages that fit leave together.
 */
#include "rabbitmq_internal.h"

#include "error.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    SMALL = 16384,      /* up to here a copy costs less than a span of its own */
    ROOM_LEAST = 32768, /* less room: wait for more */
    LOG_EVERY_S = 10
};

void salvo_rabbitmq_publish_close(salvo_rabbitmq *r)
{
    for (size_t i = 0; i < sizeof r->codecs / sizeof *r->codecs; i++)
        if (r->codecs[i].codec)
            r->codecs[i].codec->close(r->codecs[i].context);
    free(r->scratch);
    r->scratch = NULL;
}

static void **context_of(salvo_rabbitmq *r, const salvo_codec *codec)
{
    for (size_t i = 0; i < sizeof r->codecs / sizeof *r->codecs; i++) {
        if (r->codecs[i].codec == codec)
            return &r->codecs[i].context;
        if (r->codecs[i].codec == NULL && codec->open(&r->codecs[i].context) == 0) {
            r->codecs[i].codec = codec;
            return &r->codecs[i].context;
        }
    }
    return NULL;
}

/* What would not become smaller, or cannot be compressed now, goes as it is. */
static void compress(salvo_rabbitmq *r, salvo_rabbitmq_content *c)
{
    const salvo_codec *codec = c->topic->options->codec;
    if (c->body_len < 2 || c->body_len < c->topic->options->compress_least_bytes)
        return;
    void **context = context_of(r, codec);
    if (!context)
        return;
    size_t room = codec->bound(c->body_len); /* some codecs want all of it */
    if (r->scratch_bytes < room) {
        uint8_t *more = realloc(r->scratch, room);
        if (!more)
            return;
        r->scratch = more;
        r->scratch_bytes = room;
    }
    size_t n = codec->compress(*context, c->body, c->body_len, r->scratch, room);
    if (n == 0 || n >= c->body_len)
        return;
    c->encoding = codec->content_encoding;
    c->body = r->scratch;
    c->body_len = n;
}

static uint8_t *put_frame_head(uint8_t *at, uint8_t type, size_t size)
{
    *at++ = type;
    at = salvo_rabbitmq_be(at, SALVO_RABBITMQ_PUBLISHING, 2);
    return salvo_rabbitmq_be(at, size, 4);
}

/* All of it at once. False: no room now. */
static bool write_small(salvo_rabbitmq *r, const salvo_rabbitmq_content *c, size_t head)
{
    size_t total = head + (c->body_len ? c->body_len + SALVO_RABBITMQ_FRAME_COST : 0);
    uint8_t *at = salvo_io_reserve(r->link.conn, total);
    if (!at)
        return false;
    at = salvo_rabbitmq_head_write(r, c, at);
    if (c->body_len) {
        at = put_frame_head(at, AMQP_FRAME_BODY, c->body_len);
        at = (uint8_t *)mempcpy(at, c->body, c->body_len);
        *at = SALVO_RABBITMQ_FRAME_END;
    }
    salvo_io_commit(r->link.conn, total);
    return true;
}

/* The head; the body follows by write_more(). */
static bool write_large(salvo_rabbitmq *r, const salvo_rabbitmq_content *c, size_t head)
{
    uint8_t *at = salvo_io_reserve(r->link.conn, head);
    if (!at)
        return false;
    salvo_rabbitmq_head_write(r, c, at);
    salvo_io_commit(r->link.conn, head);
    r->writer = (salvo_rabbitmq_writer){.active = true, .stable = c->body != r->scratch,
                                        .body = c->body, .left = c->body_len};
    return true;
}

static bool write_chunk(salvo_rabbitmq *r, salvo_rabbitmq_writer *w)
{
    salvo_io_conn *conn = r->link.conn;
    static const uint8_t end = SALVO_RABBITMQ_FRAME_END;
    if (w->chunk == 0) {
        size_t most = r->link.frame_max - SALVO_RABBITMQ_FRAME_COST;
        size_t chunk = w->left < most ? w->left : most;
        uint8_t *at = salvo_io_room(conn) >= chunk + SALVO_RABBITMQ_FRAME_COST
                          ? salvo_io_reserve(conn, SALVO_RABBITMQ_FRAME_HEAD)
                          : NULL;
        if (!at)
            return false;
        put_frame_head(at, AMQP_FRAME_BODY, chunk);
        salvo_io_commit(conn, SALVO_RABBITMQ_FRAME_HEAD);
        w->chunk = chunk;
        w->piece = 1;
    }
    if (w->piece == 1) {
        if (!(w->stable ? salvo_io_put_stable(conn, w->body, w->chunk)
                        : salvo_io_put(conn, w->body, w->chunk)))
            return false;
        if (w->stable)
            r->stable_end = salvo_io_bytes_put(conn);
        w->piece = 2;
    }
    if (!salvo_io_put(conn, &end, 1))
        return false;
    w->body += w->chunk;
    w->left -= w->chunk;
    w->chunk = 0;
    return true;
}

/* True: the message is complete. */
static bool write_more(salvo_rabbitmq *r)
{
    salvo_rabbitmq_writer *w = &r->writer;
    while (w->left != 0)
        if (!write_chunk(r, w))
            return false;
    w->active = false;
    r->out[(r->next_tag - 1) & r->out_mask].end = salvo_io_bytes_put(r->link.conn);
    return true;
}

static void refuse(salvo_rabbitmq *r, salvo_rabbitmq_entry *e, const salvo_rabbitmq_topic *topic,
                   int32_t status)
{
    uint64_t now = salvo_rabbitmq_now(r);
    if (now >= r->return_logged_ns) {
        r->return_logged_ns = now + LOG_EVERY_S * UINT64_C(1000000000);
        r->env->log(SALVO_LOG_ERROR, "rabbitmq: topic '%s': a message cannot be sent: %s",
                    topic->name, status == SALVO_ERR_TOO_LARGE
                        ? "key and headers must fit one frame of the server (frame_max)"
                        : "a header is named CC or BCC, or its name is longer than 255 bytes");
    }
    salvo_rabbitmq_entry_settle(r, e, status);
}

/* One message under the next tag. False: no room now, nothing happened. */
static bool publish_one(salvo_rabbitmq *r, salvo_rabbitmq_entry *e,
                        const salvo_driver_message *message)
{
    const salvo_rabbitmq_topic *topic = &r->topics[r->slots.slot[e->slot].batch.topic];
    salvo_rabbitmq_content c = {.message = message, .topic = topic, .body = message->value,
                                .body_len = message->value ? message->value_len : 0,
                                .seq = e->seq};
    if (topic->options->codec)
        compress(r, &c);
    int64_t head = salvo_rabbitmq_head_bytes(r, &c);
    if (head < 0) {
        refuse(r, e, topic, (int32_t)head);
        return true;
    }
    e->begin = salvo_io_bytes_put(r->link.conn);
    e->end = UINT64_MAX;
    bool small = (size_t)head + c.body_len <= SMALL &&
                 c.body_len + SALVO_RABBITMQ_FRAME_COST <= r->link.frame_max;
    if (!(small ? write_small(r, &c, (size_t)head) : write_large(r, &c, (size_t)head)))
        return false;
    if (small)
        e->end = salvo_io_bytes_put(r->link.conn);
    r->out[r->next_tag++ & r->out_mask] = *e;
    return true;
}

/* May a message of this topic go now? The topic's error settles it. */
typedef enum { GO, WAIT, NEVER } leave;
static leave may_go(const salvo_rabbitmq *r, uint32_t slot, int *error)
{
    const salvo_rabbitmq_topic *topic = &r->topics[r->slots.slot[slot].batch.topic];
    *error = topic->error;
    return topic->declared == SALVO_RABBITMQ_DECLARED  ? GO
           : topic->declared == SALVO_RABBITMQ_REFUSED ? NEVER
                                                       : WAIT;
}

/* The first of again[]. False: not now. */
static bool publish_again(salvo_rabbitmq *r)
{
    salvo_rabbitmq_entry *e = &r->again[r->again_head];
    int error;
    if (e->slot != SALVO_RABBITMQ_NO_SLOT) {
        leave may = may_go(r, e->slot, &error);
        if (may == WAIT || (may == GO && salvo_rabbitmq_now(r) < r->again_ns))
            return false;
        if (may == NEVER) {
            salvo_rabbitmq_entry_settle(r, e, e->maybe ? SALVO_ERR_MAYBE : error);
        } else {
            const salvo_driver_batch *batch = &r->slots.slot[e->slot].batch;
            salvo_driver_cursor at = e->at;
            salvo_driver_message message;
            e->alone = r->careful != 0;
            if (!salvo_batch_next(batch, &at, &message) || !publish_one(r, e, &message))
                return false;
        }
    }
    r->again_head++;
    r->again_count--;
    r->careful -= r->careful != 0;
    return true;
}

static bool publish_next(salvo_rabbitmq *r)
{
    uint32_t slot = salvo_rabbitmq_slots_first(&r->slots);
    int error;
    if (slot == SALVO_RABBITMQ_NO_SLOT)
        return false;
    leave may = may_go(r, slot, &error);
    if (may == NEVER)
        salvo_rabbitmq_slots_refuse(&r->slots, slot, error);
    if (may != GO)
        return may == NEVER;
    salvo_driver_message message;
    salvo_rabbitmq_entry e = {.slot = slot, .seq = r->seq};
    e.index = salvo_rabbitmq_slots_take(&r->slots, slot, &e.at, &message);
    if (!publish_one(r, &e, &message)) {
        salvo_rabbitmq_slots_untake(&r->slots, slot, &e.at);
        return false;
    }
    r->seq++;
    return true;
}

bool salvo_rabbitmq_publish(salvo_rabbitmq *r)
{
    if (!r->ready || r->link.blocked || r->purged)
        return false;
    uint64_t before = salvo_io_bytes_put(r->link.conn);
    r->wall_s = (int64_t)time(NULL);
    for (bool more = true; more;) {
        uint64_t open = r->next_tag - r->first_tag;
        if (r->writer.active && !write_more(r))
            break;
        if (open >= r->window || salvo_io_room(r->link.conn) < ROOM_LEAST)
            break;
        /* One at a time: what goes next must be told from what failed. */
        if (open && (r->careful || r->out[r->first_tag & r->out_mask].alone))
            break;
        more = r->again_count ? publish_again(r) : publish_next(r);
    }
    return salvo_io_bytes_put(r->link.conn) != before;
}
