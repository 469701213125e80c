/* SPDX-License-Identifier: Apache-2.0
 *
 * A message up to its body: the method frame, which is the topic's, and the content header frame.
 * Written by hand, field by field, since most messages differ in a few bytes only; the tests read
 * the result back with rabbitmq-c.
 *
 * What a message becomes: the value is the body; delivery-mode 2; message-id is this handle's
 * number and the message's, the same in each attempt, so that a duplicate can be told; timestamp
 * in seconds. As headers: the user's own (long strings, void where null), the key, a mark where
 * the value is null, and a time given by the user in ms.
 */
#include "rabbitmq_internal.h"

#include "error.h"
#include <string.h>

enum { FIXED = 2 + 2 + 8 + 2 /* class, weight, body size, flags */ };

static const uint16_t flags_always =
    AMQP_BASIC_DELIVERY_MODE_FLAG | AMQP_BASIC_MESSAGE_ID_FLAG | AMQP_BASIC_TIMESTAMP_FLAG;

typedef struct header { /* a packed one */
    const char *name, *value;
    uint32_t name_len, value_len;
    bool null;
} header;

static const char *next_header(const char *at, header *h)
{
    uint32_t lengths[2];
    memcpy(lengths, at, sizeof lengths);
    h->name = at + sizeof lengths;
    h->name_len = lengths[0];
    h->value = h->name + lengths[0];
    h->null = lengths[1] == UINT32_MAX;
    h->value_len = h->null ? 0 : lengths[1];
    return h->value + h->value_len;
}

/* CC and BCC would be routing instructions, and close the channel unless they are arrays. */
static bool reserved(const header *h)
{
    return (h->name_len == 2 && memcmp(h->name, "CC", 2) == 0) ||
           (h->name_len == 3 && memcmp(h->name, "BCC", 3) == 0);
}

/* Of the table, without its own length; < 0: an error. */
static int64_t table_bytes(const salvo_driver_message *m)
{
    int64_t n = 0;
    if (m->key)
        n += 1 + (int64_t)sizeof SALVO_RABBITMQ_KEY - 1 + 5 + (int64_t)m->key_len;
    if (!m->value)
        n += 1 + (int64_t)sizeof SALVO_RABBITMQ_NULL - 1 + 2;
    if (m->timestamp_ms)
        n += 1 + (int64_t)sizeof SALVO_RABBITMQ_MS - 1 + 9;
    for (const char *at = m->headers, *end = at + m->headers_bytes; at < end;) {
        header h;
        at = next_header(at, &h);
        if (h.name_len > UINT8_MAX || reserved(&h))
            return SALVO_ERR_REJECTED;
        n += 1 + (int64_t)h.name_len + 1 + (h.null ? 0 : 4 + (int64_t)h.value_len);
    }
    return n;
}

static int64_t header_frame_bytes(const salvo_rabbitmq_content *c)
{
    int64_t table = 0, n = FIXED + 1 + 1 + SALVO_RABBITMQ_ID_LEN + 8;
    const salvo_driver_message *m = c->message;
    if (c->encoding)
        n += 1 + (int64_t)strlen(c->encoding);
    if (m->key || !m->value || m->timestamp_ms || m->headers_bytes)
        table = table_bytes(m);
    if (table < 0)
        return table;
    return SALVO_RABBITMQ_FRAME_COST + n + (table ? 4 + table : 0);
}

int64_t salvo_rabbitmq_head_bytes(const salvo_rabbitmq *r, const salvo_rabbitmq_content *c)
{
    int64_t n = header_frame_bytes(c);
    if (n > (int64_t)r->link.frame_max)
        return SALVO_ERR_TOO_LARGE; /* properties cannot be split */
    return n < 0 ? n : n + (int64_t)c->topic->method_len;
}

static uint8_t *put(uint8_t *at, const void *bytes, size_t n)
{
    return n ? (uint8_t *)mempcpy(at, bytes, n) : at;
}

static uint8_t *put_name(uint8_t *at, const char *name, size_t n, char kind)
{
    *at++ = (uint8_t)n;
    at = put(at, name, n);
    *at++ = (uint8_t)kind;
    return at;
}

static uint8_t *put_long_string(uint8_t *at, const void *bytes, size_t n)
{
    return put(salvo_rabbitmq_be(at, n, 4), bytes, n);
}

static uint8_t *put_table(uint8_t *at, const salvo_driver_message *m)
{
    if (m->key) {
        at = put_name(at, SALVO_RABBITMQ_KEY, sizeof SALVO_RABBITMQ_KEY - 1, 'S');
        at = put_long_string(at, m->key, m->key_len);
    }
    if (!m->value) {
        at = put_name(at, SALVO_RABBITMQ_NULL, sizeof SALVO_RABBITMQ_NULL - 1, 't');
        *at++ = 1;
    }
    if (m->timestamp_ms) {
        at = put_name(at, SALVO_RABBITMQ_MS, sizeof SALVO_RABBITMQ_MS - 1, 'l');
        at = salvo_rabbitmq_be(at, (uint64_t)m->timestamp_ms, 8);
    }
    for (const char *from = m->headers, *end = from + m->headers_bytes; from < end;) {
        header h;
        from = next_header(from, &h);
        at = put_name(at, h.name, h.name_len, h.null ? 'V' : 'S');
        if (!h.null)
            at = put_long_string(at, h.value, h.value_len);
    }
    return at;
}

static uint8_t *put_id(uint8_t *at, const salvo_rabbitmq *r, uint64_t seq)
{
    static const char digits[] = "0123456789abcdef";
    *at++ = SALVO_RABBITMQ_ID_LEN;
    at = put(at, r->id, 17);
    for (int shift = 44; shift >= 0; shift -= 4)
        *at++ = (uint8_t)digits[seq >> shift & 15];
    return at;
}

uint8_t *salvo_rabbitmq_head_write(const salvo_rabbitmq *r, const salvo_rabbitmq_content *c,
                                   uint8_t *at)
{
    const salvo_driver_message *m = c->message;
    at = put(at, c->topic->method, c->topic->method_len);
    uint8_t *start = at;
    at = salvo_rabbitmq_be(at, AMQP_FRAME_HEADER, 1);
    at = salvo_rabbitmq_be(at, SALVO_RABBITMQ_PUBLISHING, 2) + 4;
    at = salvo_rabbitmq_be(at, (uint64_t)AMQP_BASIC_CLASS << 16, 4);
    at = salvo_rabbitmq_be(at, c->body_len, 8);
    uint8_t *flags = at;
    uint16_t set = flags_always;
    at += 2;
    if (c->encoding) {
        size_t n = strlen(c->encoding);
        set |= AMQP_BASIC_CONTENT_ENCODING_FLAG;
        *at++ = (uint8_t)n;
        at = put(at, c->encoding, n);
    }
    if (m->key || !m->value || m->timestamp_ms || m->headers_bytes) {
        uint8_t *length = at;
        set |= AMQP_BASIC_HEADERS_FLAG;
        at = put_table(at + 4, m);
        salvo_rabbitmq_be(length, (uint64_t)(at - length) - 4, 4);
    }
    *at++ = 2; /* persistent */
    at = put_id(at, r, c->seq);
    int64_t seconds = m->timestamp_ms ? m->timestamp_ms / 1000 : r->wall_s;
    at = salvo_rabbitmq_be(at, seconds > 0 ? (uint64_t)seconds : 0, 8);
    salvo_rabbitmq_be(flags, set, 2);
    salvo_rabbitmq_be(start + 3, (uint64_t)(at - start) - SALVO_RABBITMQ_FRAME_HEAD, 4);
    *at++ = SALVO_RABBITMQ_FRAME_END;
    return at;
}

bool salvo_rabbitmq_id_parse(const salvo_rabbitmq *r, amqp_bytes_t id, uint64_t *seq)
{
    const char *text = id.bytes;
    *seq = 0;
    if (id.len != SALVO_RABBITMQ_ID_LEN || memcmp(text, r->id, 17) != 0)
        return false;
    for (int i = 17; i < SALVO_RABBITMQ_ID_LEN; i++) {
        int digit = text[i] >= '0' && text[i] <= '9'   ? text[i] - '0'
                    : text[i] >= 'a' && text[i] <= 'f' ? text[i] - 'a' + 10
                                                       : -1;
        if (digit < 0)
            return false;
        *seq = *seq << 4 | (uint64_t)digit;
    }
    return true;
}
