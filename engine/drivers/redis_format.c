/* SPDX-License-Identifier: Apache-2.0
 *
 * XADD by template; see redis_format.h. Most messages are a value alone: for those all up to the
 * value's length is one copy.
 */
#include "redis_format.h"

#include "error.h"
#include <stdlib.h>
#include <string.h>

enum { LINE_MAX_BYTES = 24, FIELD_BYTES = 2 * LINE_MAX_BYTES + 32 };

static const char two_digits[] =
    "00010203040506070809101112131415161718192021222324252627282930313233343536373839"
    "40414243444546474849505152535455565758596061626364656667686970717273747576777879"
    "8081828384858687888990919293949596979899";

static char *put_digits(char *at, uint64_t n)
{
    char text[LINE_MAX_BYTES], *begin = text + sizeof text;
    while (n >= 100) {
        begin -= 2;
        memcpy(begin, two_digits + 2 * (n % 100), 2);
        n /= 100;
    }
    if (n >= 10) {
        begin -= 2;
        memcpy(begin, two_digits + 2 * n, 2);
    } else {
        *--begin = (char)('0' + n);
    }
    size_t length = (size_t)(text + sizeof text - begin);
    memcpy(at, begin, length);
    return at + length;
}

/* A number that is mostly small, and the end of its line. */
static inline char *put_line(char *at, uint64_t n)
{
    if (n < 100) {
        at[0] = two_digits[2 * n];
        at[n >= 10] = two_digits[2 * n + 1];
        at += n >= 10 ? 2 : 1;
    } else if (n < 1000) {
        at[0] = (char)('0' + n / 100);
        memcpy(at + 1, two_digits + 2 * (n % 100), 2);
        at += 3;
    } else {
        at = put_digits(at, n);
    }
    memcpy(at, "\r\n", 2);
    return at + 2;
}

char *salvo_redis_put_count(char *at, uint64_t n)
{
    *at = '*';
    return put_line(at + 1, n);
}

char *salvo_redis_put_bulk(char *at, const void *bytes, size_t n)
{
    *at = '$';
    at = put_line(at + 1, n);
    if (n > 0)
        memcpy(at, bytes, n);
    memcpy(at + n, "\r\n", 2);
    return at + n + 2;
}

char *salvo_redis_put_number(char *at, uint64_t n)
{
    char text[LINE_MAX_BYTES];
    return salvo_redis_put_bulk(at, text, (size_t)(put_digits(text, n) - text));
}

static char *put_text(char *at, const char *text)
{
    return salvo_redis_put_bulk(at, text, strlen(text));
}

/* The line that says how many arguments there are in all. */
static char *put_args(char *at, const salvo_redis_template *t, uint32_t args)
{
    return t->nested ? salvo_redis_put_number(at, args) : salvo_redis_put_count(at, args);
}

static char *put_head(char *at, salvo_redis_template *t, const salvo_redis_wish *wish)
{
    if (!wish->nested) {
        at = put_text(at, "XADD");
        at = put_text(at, wish->stream);
        t->args = 2;
    }
    if (wish->nomkstream) {
        at = put_text(at, "NOMKSTREAM");
        t->args++;
    }
    if (wish->maxlen > 0) {
        at = put_text(at, "MAXLEN");
        at = put_text(at, "~");
        at = salvo_redis_put_number(at, wish->maxlen);
        t->args += 3;
    }
    t->args++;
    return put_text(at, "*");
}

int salvo_redis_template_init(salvo_redis_template *t, const salvo_redis_wish *wish)
{
    char head[1024 + 6 * FIELD_BYTES];
    memset(t, 0, sizeof *t);
    t->nested = wish->nested;
    if (strlen(wish->stream) > 1024)
        return SALVO_ERR_INVALID;
    t->head_len = (uint32_t)(put_head(head, t, wish) - head);
    t->text = malloc(t->head_len + 2 * FIELD_BYTES);
    if (!t->text)
        return SALVO_ERR_NOMEM;
    char *at = put_args(t->text, t, t->args + 2);
    t->head_at = (uint32_t)(at - t->text);
    memcpy(at, head, t->head_len);
    at = put_text(at + t->head_len, "value");
    *at++ = '$';
    t->text_len = (uint32_t)(at - t->text);
    return 0;
}

void salvo_redis_template_free(salvo_redis_template *t)
{
    free(t->text);
    memset(t, 0, sizeof *t);
}

typedef struct packed { /* a header as it lies in a message */
    const char *name, *value; /* value NULL: null */
    uint32_t name_len, value_len;
} packed;

/* The header at *at, and *at behind it; false: it does not fit before the end. */
static bool next_header(const char **at, const char *end, packed *h)
{
    if (end - *at < 8)
        return false;
    memcpy(&h->name_len, *at, 4);
    memcpy(&h->value_len, *at + 4, 4);
    h->name = *at + 8;
    uint64_t value_len = h->value_len == UINT32_MAX ? 0 : h->value_len;
    if ((uint64_t)(end - h->name) < h->name_len + value_len)
        return false;
    h->value = h->value_len == UINT32_MAX ? NULL : h->name + h->name_len;
    h->value_len = (uint32_t)value_len;
    *at = h->name + h->name_len + value_len;
    return true;
}

int salvo_redis_header_count(const void *headers, uint32_t bytes)
{
    const char *at = headers;
    int count = 0;
    packed h;
    for (const char *end = at + bytes; at != end; count++)
        if (!next_header(&at, end, &h))
            return -1;
    return count;
}

size_t salvo_redis_bound(const salvo_redis_template *t, const salvo_redis_item *item)
{
    return t->text_len + 4u * FIELD_BYTES + item->key_len + item->headers_bytes +
           (size_t)item->header_count * FIELD_BYTES;
}

static char *put_headers(char *at, const salvo_redis_item *item)
{
    const char *from = item->headers, *end = from + item->headers_bytes;
    packed h;
    while (from != end && next_header(&from, end, &h)) {
        *at = '$';
        at = put_line(at + 1, h.name_len + 2u);
        at[0] = h.value ? 'h' : 'n';
        at[1] = ':';
        memcpy(at + 2, h.name, h.name_len);
        at += 2 + h.name_len;
        memcpy(at, "\r\n", 2);
        at = salvo_redis_put_bulk(at + 2, h.value, h.value_len);
    }
    return at;
}

/* All that comes before the value's length, of an item that has more than a value. */
static char *put_fields(char *at, const salvo_redis_template *t, const salvo_redis_item *item,
                        uint32_t fields)
{
    at = put_args(at, t, t->args + 2 * fields);
    memcpy(at, t->text + t->head_at, t->head_len);
    at += t->head_len;
    if (item->key) {
        memcpy(at, "$3\r\nkey\r\n", 9);
        at = salvo_redis_put_bulk(at + 9, item->key, item->key_len);
    }
    if (item->timestamp_ms > 0) {
        at = put_text(at, "timestamp");
        at = salvo_redis_put_number(at, (uint64_t)item->timestamp_ms);
    }
    at = put_headers(at, item);
    if (item->encoding) {
        at = put_text(at, "content-encoding");
        at = put_text(at, item->encoding);
    }
    at = put_text(at, item->value ? "value" : "null");
    *at = '$';
    return at + 1;
}

char *salvo_redis_format(char *at, const salvo_redis_template *t, const salvo_redis_item *item,
                         bool apart, uint32_t *args)
{
    uint32_t fields = 1u + (item->key != NULL) + (item->timestamp_ms > 0) +
                      (uint32_t)item->header_count + (item->encoding != NULL);
    if (fields == 1 && item->value) {
        memcpy(at, t->text, t->text_len);
        at += t->text_len;
    } else {
        at = put_fields(at, t, item, fields);
    }
    at = put_line(at, item->value_len);
    *args = 1 + t->args + 2 * fields;
    if (apart)
        return at;
    if (item->value_len > 0)
        memcpy(at, item->value, item->value_len);
    memcpy(at + item->value_len, "\r\n", 2);
    return at + item->value_len + 2;
}
