/* SPDX-License-Identifier: Apache-2.0
 *
 * Commands of a consumer; see redis_consumer.h. Guarantees: a command goes out whole or not at
 * all, and only where its reply can be noted; no more entries are asked for than may be in hand.
 */
#include "redis_consumer.h"

#include "redis_format.h"
#include <salvo/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MS UINT64_C(1000000)

enum {
    BLOCK_MS = 200,        /* also the longest that a close waits for a silent stream */
    CHUNK_LEAST = 256,
    CHUNKS = 32,
    CLAIM_MOST = 100,      /* entries of one XAUTOCLAIM */
    CLAIM_EVERY_MS = 1000, /* at most */
    BUFFERED_BYTES = 32 << 20,
    READ_BYTES = 16 << 20, /* of one reply */
    NUMBER_BYTES = 32,
    ID_BYTES = SALVO_REDIS_ID_TEXT + 8
};

/* A line for the longest command: ids in a chunk, or all the streams. */
int salvo_redis_consumer_buffers(salvo_redis_consumer *c, size_t *out_bytes)
{
    size_t names = 0, ring = 256, out = 256 << 10;
    c->chunk = c->env->options->max_in_hand / CHUNKS + 1;
    if (c->chunk < CHUNK_LEAST)
        c->chunk = CHUNK_LEAST;
    for (uint32_t i = 0; i < c->stream_count; i++)
        names += strlen(c->streams[i].name) + NUMBER_BYTES;
    c->line_room = 4096 + names + (size_t)c->chunk * ID_BYTES;
    while (ring < 256u + 8u * (size_t)c->stream_count)
        ring *= 2;
    while (out < 2 * c->line_room + (size_t)c->env->options->max_in_hand * ID_BYTES &&
           out < (size_t)1 << 28)
        out *= 2;
    c->asked_mask = (uint32_t)ring - 1;
    c->asked = calloc(ring, sizeof *c->asked);
    c->line = malloc(c->line_room);
    *out_bytes = out;
    return c->asked && c->line ? 0 : SALVO_ERR_NOMEM;
}

static char *put(char *at, const char *text)
{
    return salvo_redis_put_bulk(at, text, strlen(text));
}

static char *put_id(char *at, salvo_redis_id id)
{
    char text[SALVO_REDIS_ID_TEXT];
    return salvo_redis_put_bulk(at, text, salvo_redis_id_print(id, text));
}

static bool note(salvo_redis_consumer *c, const char *end, salvo_redis_command command)
{
    if (c->asked_tail - c->asked_head > c->asked_mask ||
        !salvo_io_put(c->commands.conn, c->line, (size_t)(end - c->line)))
        return false;
    c->asked[c->asked_tail++ & c->asked_mask] = command;
    return true;
}

static uint32_t room(const salvo_redis_consumer *c)
{
    uint32_t held = salvo_redis_in_hand(c), most = c->env->options->max_in_hand;
    return held < most ? most - held : 0;
}

static char *put_begin(const salvo_redis_consumer *c, uint64_t words, const char *command,
                       const salvo_redis_stream *s)
{
    char *at = salvo_redis_put_count(c->line, words);
    return put(put(put(at, command), s->name), c->group);
}

static char *put_group(const salvo_redis_consumer *c, const salvo_redis_stream *s)
{
    if (c->must_exist)
        return put_begin(c, 3, "XPENDING", s);
    char *at = put(put(salvo_redis_put_count(c->line, 6), "XGROUP"), "CREATE");
    at = put(put(at, s->name), c->group);
    return put(put(at, c->from_end && !s->made ? "$" : "0"), "MKSTREAM");
}

static char *put_history(const salvo_redis_consumer *c, const salvo_redis_stream *s)
{
    uint32_t count = c->read_count < room(c) ? c->read_count : room(c);
    char *at = put(put(salvo_redis_put_count(c->line, 9), "XREADGROUP"), "GROUP");
    at = put(put(put(at, c->group), c->name), "COUNT");
    at = put(salvo_redis_put_number(at, count), "STREAMS");
    return put_id(put(at, s->name), s->history_at);
}

static char *put_claim(const salvo_redis_consumer *c, const salvo_redis_stream *s)
{
    uint32_t count = room(c) < CLAIM_MOST ? room(c) : CLAIM_MOST;
    char *at = put(put_begin(c, 8, "XAUTOCLAIM", s), c->name);
    at = put_id(salvo_redis_put_number(at, c->claim_idle_ns / MS), s->claim_at);
    return salvo_redis_put_number(put(at, "COUNT"), count);
}

static char *put_left(const salvo_redis_consumer *c, const salvo_redis_stream *s)
{
    char *at = put(put(put_begin(c, 7, "XPENDING", s), "-"), "+");
    return put(salvo_redis_put_number(at, 1), c->name);
}

static char *put_remove(const salvo_redis_consumer *c, const salvo_redis_stream *s)
{
    char *at = put(put(salvo_redis_put_count(c->line, 5), "XGROUP"), "DELCONSUMER");
    return put(put(put(at, s->name), c->group), c->name);
}

bool salvo_redis_consumer_ask(salvo_redis_consumer *c, salvo_redis_asked what, uint32_t stream)
{
    const salvo_redis_stream *s = &c->streams[stream];
    const char *end = what == SALVO_REDIS_ASKED_GROUP     ? put_group(c, s)
                      : what == SALVO_REDIS_ASKED_HISTORY ? put_history(c, s)
                      : what == SALVO_REDIS_ASKED_CLAIM   ? put_claim(c, s)
                      : what == SALVO_REDIS_ASKED_LEFT    ? put_left(c, s)
                                                          : put_remove(c, s);
    return note(c, end, (salvo_redis_command){.what = what, .stream = stream});
}

void salvo_redis_consumer_count(salvo_redis_consumer *c, salvo_redis_batch *batch, uint32_t stream)
{
    const salvo_redis_stream *s = &c->streams[stream];
    if (batch->count == 0) {
        salvo_redis_batch_free(c, batch);
        return;
    }
    char *at = put_begin(c, 7, "XPENDING", s);
    at = put_id(put_id(at, batch->found[0].id), batch->found[batch->count - 1].id);
    at = put(salvo_redis_put_number(at, batch->count + s->hand.count), c->name);
    for (size_t i = 0; i < batch->count; i++)
        batch->found[i].deliveries = 2; /* at least, should the answer not tell */
    if (!note(c, at, (salvo_redis_command){.what = SALVO_REDIS_ASKED_COUNTS, .stream = stream,
                                           .batch = batch}))
        salvo_redis_batch_queue(c, batch);
}

/* --- acknowledging and keeping -------------------------------------------------------------- */

static bool send_acks(salvo_redis_consumer *c, uint32_t stream)
{
    salvo_redis_stream *s = &c->streams[stream];
    salvo_redis_hand *hand = &s->hand;
    while (hand->ack_sent < hand->ack_due) {
        uint32_t left = hand->ack_due - hand->ack_sent, n = left < c->chunk ? left : c->chunk;
        char *at = put_begin(c, 3 + (uint64_t)n, "XACK", s);
        for (uint32_t i = 0; i < n; i++)
            at = put_id(at, hand->acks[hand->ack_sent + i]);
        if (!note(c, at, (salvo_redis_command){.what = SALVO_REDIS_ASKED_ACK, .stream = stream,
                                               .n = n}))
            return false;
        hand->ack_sent += n;
    }
    return true;
}

/* What is pending with us counts as idle for idle_ms. False: not all of it went out. */
static bool touch(salvo_redis_consumer *c, uint32_t stream, uint64_t idle_ms)
{
    salvo_redis_stream *s = &c->streams[stream];
    uint32_t place = 0, left = s->hand.count;
    while (left > 0) {
        uint32_t n = left < c->chunk ? left : c->chunk;
        salvo_redis_id id;
        char *at = put_begin(c, 8 + (uint64_t)n, "XCLAIM", s);
        at = salvo_redis_put_number(put(at, c->name), 0);
        for (uint32_t i = 0; i < n && salvo_redis_hand_next(&s->hand, &place, &id); i++)
            at = put_id(at, id);
        at = put(salvo_redis_put_number(put(at, "IDLE"), idle_ms), "JUSTID");
        if (!note(c, at, (salvo_redis_command){.what = SALVO_REDIS_ASKED_RENEW,
                                               .stream = stream}))
            return false;
        c->renewals++;
        left -= n;
    }
    return true;
}

bool salvo_redis_consumer_give_back(salvo_redis_consumer *c, uint32_t stream)
{
    return c->streams[stream].hand.count == 0 || touch(c, stream, 2 * c->claim_idle_ns / MS);
}

static void renew(salvo_redis_consumer *c, uint64_t now_ns)
{
    if (c->renewing_ns != 0 || now_ns - c->renewed_ns < c->claim_idle_ns / 3)
        return;
    c->renewing_ns = now_ns;
    c->renewal_cut = false;
    for (uint32_t i = 0; i < c->stream_count; i++)
        c->renewal_cut = !touch(c, i, 0) || c->renewal_cut;
    if (c->renewals > 0)
        return;
    if (!c->renewal_cut)
        c->renewed_ns = now_ns;
    c->renewing_ns = 0;
}

static void send_stream(salvo_redis_consumer *c, uint32_t i, uint64_t now_ns)
{
    salvo_redis_stream *s = &c->streams[i];
    uint64_t every_ns = c->claim_idle_ns / 4;
    if (s->group == SALVO_REDIS_GROUP_UNKNOWN && now_ns >= s->retry_ns &&
        salvo_redis_consumer_ask(c, SALVO_REDIS_ASKED_GROUP, i))
        s->group = SALVO_REDIS_GROUP_ASKED;
    if (s->group != SALVO_REDIS_GROUP_THERE || !send_acks(c, i) || c->closing || room(c) == 0)
        return;
    if (s->history == SALVO_REDIS_HISTORY_DUE &&
        salvo_redis_consumer_ask(c, SALVO_REDIS_ASKED_HISTORY, i))
        s->history = SALVO_REDIS_HISTORY_ASKED;
    if (s->claiming || s->paused || now_ns < s->claim_ns ||
        s->history != SALVO_REDIS_HISTORY_READ)
        return;
    s->claiming = salvo_redis_consumer_ask(c, SALVO_REDIS_ASKED_CLAIM, i);
    s->claim_ns = now_ns + (every_ns < CLAIM_EVERY_MS * MS ? every_ns : CLAIM_EVERY_MS * MS);
}

void salvo_redis_consumer_send(salvo_redis_consumer *c, uint64_t now_ns)
{
    for (uint32_t i = 0; i < c->stream_count; i++)
        send_stream(c, i, now_ns);
    if (!c->closing)
        renew(c, now_ns);
}

/* --- reading -------------------------------------------------------------------------------- */

static bool readable(const salvo_redis_stream *s)
{
    return s->group == SALVO_REDIS_GROUP_THERE && s->history == SALVO_REDIS_HISTORY_READ &&
           !s->paused;
}

static uint32_t readable_streams(const salvo_redis_consumer *c)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->stream_count; i++)
        n += readable(&c->streams[i]);
    return n;
}

static bool wants_more(const salvo_redis_consumer *c)
{
    uint32_t most = c->env->options->max_in_hand, left = room(c);
    size_t bytes = 0;
    for (const salvo_redis_batch *batch = c->first; batch; batch = batch->next)
        bytes += batch->tree.used;
    /* Not for every message that leaves: a reply shall be worth its command. */
    return left > 0 && bytes < BUFFERED_BYTES && (c->buffered == 0 || left >= most / 8);
}

void salvo_redis_consumer_read(salvo_redis_consumer *c, uint64_t now_ns)
{
    uint32_t streams = readable_streams(c), left = room(c);
    if (c->reading_asked || c->closing || streams == 0 || now_ns < c->read_retry_ns ||
        !wants_more(c))
        return;
    uint32_t count = left / streams < c->read_count ? left / streams : c->read_count;
    count = count > 0 ? count : 1;
    c->read_into->tree.most = count > 1 ? READ_BYTES : 2 * SALVO_REDIS_TEXT_MOST;
    char *at = put(put(salvo_redis_put_count(c->line, 9 + 2 * (uint64_t)streams), "XREADGROUP"),
                   "GROUP");
    at = put(salvo_redis_put_number(put(put(put(at, c->group), c->name), "COUNT"), count),
             "BLOCK");
    at = put(salvo_redis_put_number(at, BLOCK_MS), "STREAMS");
    for (uint32_t i = 0; i < c->stream_count; i++)
        if (readable(&c->streams[i]))
            at = put(at, c->streams[i].name);
    for (uint32_t i = 0; i < streams; i++)
        at = put(at, ">");
    c->reading_asked = salvo_io_put(c->reading.conn, c->line, (size_t)(at - c->line));
}
