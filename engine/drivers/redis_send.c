/* SPDX-License-Identifier: Apache-2.0
 *
 * The queue onto the connection: commands written where the socket takes them from. Guarantees:
 * first in, first out; no more than redis_window messages ahead of their replies; a command goes
 * whole or not at all; what can never be sent (too large, no memory for it) gets its outcome in
 * its turn.
 */
#include "redis_internal.h"

#include "error.h"
#include <stdlib.h>
#include <string.h>

enum { CHUNK_BYTES = 32 << 10 };

typedef struct chunk { /* room of the connection that is being written */
    salvo_io_conn *conn;
    char *begin, *at, *end;
    uint64_t put; /* bytes_put at begin */
} chunk;

static void chunk_commit(chunk *c)
{
    if (c->at != c->begin)
        salvo_io_commit(c->conn, (size_t)(c->at - c->begin));
    c->put += (uint64_t)(c->at - c->begin);
    c->begin = c->at = c->end = NULL;
}

static bool chunk_need(chunk *c, size_t n)
{
    if ((size_t)(c->end - c->at) >= n)
        return true;
    chunk_commit(c);
    size_t room = salvo_io_room(c->conn), wish = n < CHUNK_BYTES ? CHUNK_BYTES : n;
    if (room < n)
        return false;
    wish = room < wish ? room : wish;
    c->begin = c->at = salvo_io_reserve(c->conn, wish);
    c->end = c->begin ? c->begin + wish : NULL;
    return c->begin != NULL;
}

bool salvo_redis_scratch(char **bytes, size_t *room, size_t need)
{
    if (*room >= need)
        return true;
    char *more = realloc(*bytes, need);
    if (!more)
        return false;
    *bytes = more;
    *room = need;
    return true;
}

salvo_redis_flight *salvo_redis_take_off(salvo_redis *h, salvo_redis_kind kind, uint32_t topic,
                                         const salvo_redis_entry *e)
{
    if (h->flight_head == h->flight_tail)
        h->answered_ns = salvo_redis_now(h);
    salvo_redis_flight *f = &h->flights[h->flight_tail++ & h->flight_mask];
    f->slot = e ? salvo_redis_slot(h, e) : SALVO_REDIS_NONE;
    f->topic = topic;
    f->first = e ? e->sent : 0;
    f->count = 1;
    f->status = 0;
    f->kind = kind;
    f->put_at = 0;
    h->in_flight++;
    return f;
}

/* The cursor stands where sending goes on, also after a reconnect. */
bool salvo_redis_catch_up(salvo_redis_entry *e)
{
    salvo_driver_message ignored;
    if (e->at > e->sent) {
        e->cursor = (salvo_driver_cursor){0};
        e->at = 0;
    }
    for (; e->at < e->sent; e->at++)
        if (!salvo_batch_next(&e->batch, &e->cursor, &ignored))
            return false;
    return true;
}

static int32_t compress(salvo_redis *h, const salvo_redis_topic *t, salvo_redis_item *item)
{
    size_t bound = t->codec->bound(item->value_len);
    if (!salvo_redis_scratch(&h->packed, &h->packed_room, bound))
        return 0; /* no memory: it goes as it is */
    size_t n = t->codec->compress(t->codec_context, item->value, item->value_len, h->packed,
                                  h->packed_room);
    if (n == 0 || n >= item->value_len)
        return 0;
    item->value = h->packed;
    item->value_len = n;
    item->encoding = t->codec->content_encoding;
    return 0;
}

int32_t salvo_redis_next_item(salvo_redis *h, salvo_redis_entry *e, salvo_redis_item *item)
{
    const salvo_redis_topic *t = &h->topics[e->batch.topic];
    salvo_driver_message m;
    if (!salvo_batch_next(&e->batch, &e->cursor, &m))
        return SALVO_ERR_REJECTED; /* shorter than its count */
    e->at++;
    if (m.key_len + m.value_len + m.headers_bytes > h->max_message_bytes)
        return SALVO_ERR_TOO_LARGE;
    *item = (salvo_redis_item){.value = m.value, .value_len = m.value_len, .key = m.key,
                               .key_len = m.key_len, .headers = m.headers,
                               .headers_bytes = m.headers_bytes,
                               .timestamp_ms = m.timestamp_ms};
    if (m.headers_bytes > 0 &&
        (item->header_count = salvo_redis_header_count(m.headers, m.headers_bytes)) < 0)
        return SALVO_ERR_REJECTED;
    if (t->codec && m.value && m.value_len >= t->compress_least)
        return compress(h, t, item);
    return 0;
}

static void put_local(salvo_redis *h, salvo_redis_entry *e, int32_t status)
{
    salvo_redis_take_off(h, SALVO_REDIS_LOCAL, e->batch.topic, e)->status = status;
    e->sent++;
}

/* False: there is no room for it now. */
static bool put_item(salvo_redis *h, salvo_redis_entry *e, const salvo_redis_item *item, chunk *c)
{
    const salvo_redis_topic *t = &h->topics[e->batch.topic];
    bool apart = item->value_len >= SALVO_REDIS_STABLE && item->value != h->packed;
    size_t bound = salvo_redis_bound(&t->xadd, item) + (apart ? 0 : item->value_len);
    uint32_t args;
    if (bound + (apart ? item->value_len : 0) > h->out_bytes) {
        put_local(h, e, SALVO_ERR_TOO_LARGE);
        return true;
    }
    if (!chunk_need(c, bound))
        return false;
    if (apart && salvo_io_room(c->conn) < (size_t)(c->at - c->begin) + bound + item->value_len + 2)
        return false;
    uint64_t put_at = c->put + (uint64_t)(c->at - c->begin);
    c->at = salvo_redis_format(c->at, &t->xadd, item, apart, &args);
    if (apart) {
        chunk_commit(c);
        salvo_io_put_stable(c->conn, item->value, item->value_len);
        e->stable_end = salvo_io_bytes_put(c->conn);
        salvo_io_put(c->conn, "\r\n", 2);
        c->put = salvo_io_bytes_put(c->conn);
    }
    salvo_redis_take_off(h, SALVO_REDIS_ADD, e->batch.topic, e)->put_at = put_at;
    h->resent += e->sent < e->maybe;
    e->sent++;
    return true;
}

/* True: all of it is sent. False: no room, or the window is full. */
static bool send_entry(salvo_redis *h, salvo_redis_entry *e, chunk *c)
{
    while (e->sent < e->limit && h->in_flight < h->window) {
        salvo_driver_cursor before = e->cursor;
        salvo_redis_item item;
        int32_t status = salvo_redis_next_item(h, e, &item);
        if (status == 0) {
            if (!put_item(h, e, &item, c)) {
                e->cursor = before;
                e->at = e->sent;
                return false;
            }
            continue;
        }
        put_local(h, e, status);
        e->at = e->sent;
    }
    return e->sent == e->limit;
}

bool salvo_redis_send(salvo_redis *h)
{
    chunk c = {.conn = h->link.conn, .put = salvo_io_bytes_put(h->link.conn)};
    uint64_t before = c.put;
    salvo_redis_entry *e;
    while ((e = h->sending) && h->in_flight < h->window) {
        bool all = salvo_redis_catch_up(e);
        if (!all)
            put_local(h, e, SALVO_ERR_REJECTED);
        else
            all = e->sent == e->limit || (h->once ? salvo_redis_once_send(h, e)
                                                  : send_entry(h, e, &c));
        if (!all)
            break;
        if (h->sending == e && e->sent == e->limit)
            h->sending = e->next;
    }
    chunk_commit(&c);
    return salvo_io_bytes_put(h->link.conn) != before;
}
