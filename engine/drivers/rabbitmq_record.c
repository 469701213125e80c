/* SPDX-License-Identifier: Apache-2.0
 *
 * What a reader shows of a message; see rabbitmq_record.h. Headers of other clients are shown
 * where they have a plain value (text, bytes, number, boolean, void); tables and arrays are not.
 */
#include "rabbitmq_record.h"

#include "rabbitmq_internal.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { POOL_PAGE = 4096, FIXED = 12 /* class, weight, body size */ };

void salvo_rabbitmq_record_open(salvo_rabbitmq_record *r)
{
    memset(r, 0, sizeof *r);
    init_amqp_pool(&r->pool, POOL_PAGE);
}

void salvo_rabbitmq_record_close(salvo_rabbitmq_record *r)
{
    empty_amqp_pool(&r->pool);
    free(r->properties);
    free(r->body);
    free(r->unpacked);
    free(r->headers);
    free(r->numbers);
}

static bool room_for(uint8_t **bytes, size_t *room, size_t need)
{
    if (need <= *room)
        return true;
    size_t want = *room * 2 > need ? *room * 2 : need;
    uint8_t *more = realloc(*bytes, want);
    if (!more)
        return false;
    *bytes = more;
    *room = want;
    return true;
}

bool salvo_rabbitmq_record_begin(salvo_rabbitmq_record *r, const uint8_t *payload, size_t n,
                                 uint64_t *body_bytes)
{
    void *decoded;
    if (n < FIXED + 2 || salvo_rabbitmq_get_be(payload, 2) != AMQP_BASIC_CLASS ||
        !room_for(&r->properties, &r->properties_room, n))
        return false;
    recycle_amqp_pool(&r->pool);
    free(r->unpacked);
    r->unpacked = NULL;
    r->body_len = 0;
    memcpy(r->properties, payload, n);
    if (amqp_decode_properties(AMQP_BASIC_CLASS, &r->pool,
                               (amqp_bytes_t){.len = n - FIXED, .bytes = r->properties + FIXED},
                               &decoded) != 0)
        return false;
    r->p = decoded;
    *body_bytes = salvo_rabbitmq_get_be(payload + 4, 8);
    return true;
}

bool salvo_rabbitmq_record_body(salvo_rabbitmq_record *r, const void *bytes, size_t n)
{
    if (!room_for(&r->body, &r->body_room, r->body_len + n))
        return false;
    memcpy(r->body + r->body_len, bytes, n);
    r->body_len += n;
    return true;
}

static bool is(amqp_bytes_t name, const char *text)
{
    return name.len == strlen(text) && memcmp(name.bytes, text, name.len) == 0;
}

/* A number as text; false: no number. */
static bool number(const amqp_field_value_t *v, int64_t *value)
{
    switch (v->kind) {
    case AMQP_FIELD_KIND_BOOLEAN: *value = v->value.boolean != 0; return true;
    case AMQP_FIELD_KIND_I8: *value = v->value.i8; return true;
    case AMQP_FIELD_KIND_U8: *value = v->value.u8; return true;
    case AMQP_FIELD_KIND_I16: *value = v->value.i16; return true;
    case AMQP_FIELD_KIND_U16: *value = v->value.u16; return true;
    case AMQP_FIELD_KIND_I32: *value = v->value.i32; return true;
    case AMQP_FIELD_KIND_U32: *value = v->value.u32; return true;
    case AMQP_FIELD_KIND_I64: *value = v->value.i64; return true;
    case AMQP_FIELD_KIND_U64: *value = (int64_t)v->value.u64; return true;
    case AMQP_FIELD_KIND_TIMESTAMP: *value = (int64_t)v->value.u64; return true;
    default: return false;
    }
}

static bool text(const amqp_field_value_t *v)
{
    return v->kind == AMQP_FIELD_KIND_UTF8 || v->kind == AMQP_FIELD_KIND_BYTES;
}

static bool headers_room(salvo_rabbitmq_record *r, size_t count)
{
    if (count <= r->header_room)
        return true;
    salvo_header *headers = realloc(r->headers, count * sizeof *headers);
    if (headers)
        r->headers = headers;
    char(*numbers)[32] = realloc(r->numbers, count * sizeof *numbers);
    if (numbers)
        r->numbers = numbers;
    if (!headers || !numbers)
        return false;
    r->header_room = count;
    return true;
}

static void show_header(salvo_rabbitmq_record *r, const amqp_table_entry_t *e, salvo_record *shown)
{
    salvo_header *h = &r->headers[shown->header_count];
    char *digits = r->numbers[shown->header_count];
    int64_t value;
    *h = (salvo_header){.name = e->key.bytes, .name_len = e->key.len};
    if (text(&e->value)) {
        h->value = e->value.value.bytes.len ? e->value.value.bytes.bytes : "";
        h->value_len = e->value.value.bytes.len;
    } else if (number(&e->value, &value)) {
        h->value = digits;
        h->value_len = (size_t)snprintf(digits, sizeof *r->numbers, "%" PRId64, value);
    } else if (e->value.kind != AMQP_FIELD_KIND_VOID) {
        return;
    }
    shown->header_count++;
}

static void show_headers(salvo_rabbitmq_record *r, salvo_record *shown, bool *null)
{
    for (int i = 0; i < r->p->headers.num_entries; i++) {
        const amqp_table_entry_t *e = &r->p->headers.entries[i];
        int64_t value;
        if (is(e->key, SALVO_RABBITMQ_KEY) && text(&e->value) && !shown->key) {
            shown->key = e->value.value.bytes.len ? e->value.value.bytes.bytes : "";
            shown->key_len = e->value.value.bytes.len;
        } else if (is(e->key, SALVO_RABBITMQ_NULL)) {
            *null = true;
        } else if (is(e->key, SALVO_RABBITMQ_MS) && number(&e->value, &value)) {
            shown->timestamp_ms = value;
        } else {
            show_header(r, e, shown);
        }
    }
}

static int unpack(salvo_rabbitmq_record *r, uint64_t most, salvo_record *shown)
{
    void *context;
    size_t n;
    if (!(r->p->_flags & AMQP_BASIC_CONTENT_ENCODING_FLAG))
        return 0;
    const salvo_codec *codec = salvo_codec_for_encoding(r->p->content_encoding.bytes,
                                                        r->p->content_encoding.len);
    if (!codec)
        return 0; /* another one's: shown as it is */
    int err = codec->open(&context);
    if (err != 0)
        return err;
    err = codec->decompress(context, shown->value, shown->value_len, most, &r->unpacked, &n);
    codec->close(context);
    if (err != 0) {
        r->unpacked = NULL;
        return err;
    }
    shown->value = r->unpacked;
    shown->value_len = n;
    return 0;
}

int salvo_rabbitmq_record_show(salvo_rabbitmq_record *r, uint64_t most, salvo_record *shown)
{
    bool null = false;
    *shown = (salvo_record){.value = r->body_len ? (const void *)r->body : "",
                            .value_len = r->body_len};
    if (r->p->_flags & AMQP_BASIC_TIMESTAMP_FLAG)
        shown->timestamp_ms = r->p->timestamp <= INT64_MAX / 1000
                                  ? (int64_t)r->p->timestamp * 1000
                                  : 0;
    if (r->p->_flags & AMQP_BASIC_HEADERS_FLAG) {
        if (!headers_room(r, (size_t)r->p->headers.num_entries + 1))
            return SALVO_ERR_NOMEM;
        show_headers(r, shown, &null);
        shown->headers = r->headers;
    }
    if (null && shown->value_len == 0)
        shown->value = NULL;
    return unpack(r, most, shown);
}
