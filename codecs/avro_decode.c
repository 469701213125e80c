/* SPDX-License-Identifier: Apache-2.0
 *
 * Avro's binary form to JSON text. The bytes are somebody else's: every length and count is
 * checked against what is left, values without bytes of their own are bounded in number, texts
 * must be UTF-8. Guarantees: the same bytes are read back from the text by avro_encode.c.
 */
#include "avro_codec.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EMPTY_MAX = 1 << 16 };

typedef struct run {
    const unsigned char *at, *end;
    salvo_schema_bytes *out;
    salvo_schema_fault *fault;
    size_t empty_left; /* values of no bytes, of which a count may promise any number */
} run;

typedef const salvo_avro_path path;

static int get(run *r, avro_schema_t schema, path *at, int depth);

static int put(run *r, const char *text)
{
    return salvo_avro_append(r->out, text, strlen(text)) ? 0 : SALVO_ERR_NOMEM;
}

static int cut_short(run *r, path *at)
{
    return salvo_avro_fail(r->fault, at, "the message ends too early");
}

static int get_long(run *r, int64_t *number, path *at)
{
    uint64_t bits = 0;
    for (unsigned shift = 0; shift < 70; shift += 7) {
        if (r->at == r->end)
            return cut_short(r, at);
        unsigned char byte = *r->at++;
        if (shift == 63 && byte > 1)
            break;
        bits |= (uint64_t)(byte & 127) << shift;
        if (byte < 128) {
            *number = (int64_t)(bits >> 1) ^ -(int64_t)(bits & 1);
            return 0;
        }
    }
    return salvo_avro_fail(r->fault, at, "a number has more than 64 bits");
}

static int get_length(run *r, size_t *len, path *at)
{
    int64_t number;
    int err = get_long(r, &number, at);
    if (err != 0)
        return err;
    if (number < 0 || (uint64_t)number > (uint64_t)(r->end - r->at))
        return salvo_avro_fail(r->fault, at, "a length of %lld where %zu bytes are left",
                               (long long)number, (size_t)(r->end - r->at));
    *len = (size_t)number;
    return 0;
}

/* How many bytes the UTF-8 character at `at` has; 0: it is none. */
static size_t utf8(const unsigned char *at, const unsigned char *end)
{
    size_t len = *at < 0x80 ? 1 : *at < 0xC2 ? 0 : *at < 0xE0 ? 2 : *at < 0xF0 ? 3
                 : *at < 0xF5 ? 4 : 0;
    if (len == 0 || (size_t)(end - at) < len)
        return 0;
    for (size_t i = 1; i < len; i++)
        if ((at[i] & 0xC0) != 0x80)
            return 0;
    bool wrong = (at[0] == 0xE0 && at[1] < 0xA0) || (at[0] == 0xED && at[1] > 0x9F) ||
                 (at[0] == 0xF0 && at[1] < 0x90) || (at[0] == 0xF4 && at[1] > 0x8F);
    return wrong ? 0 : len;
}

/* One character of a JSON text. */
static int put_character(run *r, const unsigned char *at, size_t len)
{
    static const char shorts[] = "\b\t\n\f\r";
    static const char letters[] = "btnfr";
    char text[8];
    if (len == 1 && (*at == '"' || *at == '\\')) {
        snprintf(text, sizeof text, "\\%c", *at);
        return put(r, text);
    }
    if (len > 1 || *at >= 0x20)
        return salvo_avro_append(r->out, at, len) ? 0 : SALVO_ERR_NOMEM;
    const char *known = *at != 0 ? strchr(shorts, *at) : NULL;
    if (known != NULL)
        snprintf(text, sizeof text, "\\%c", letters[known - shorts]);
    else
        snprintf(text, sizeof text, "\\u%04x", *at);
    return put(r, text);
}

/* A text of the schema's own, as JSON. */
static int put_quoted(run *r, const char *text)
{
    const unsigned char *at = (const unsigned char *)text, *end = at + strlen(text);
    int err = put(r, "\"");
    for (size_t width; err == 0 && at < end; at += width) {
        width = utf8(at, end) != 0 ? utf8(at, end) : 1;
        err = put_character(r, at, width);
    }
    return err != 0 ? err : put(r, "\"");
}

static int get_text(run *r, path *at)
{
    size_t len;
    int err = get_length(r, &len, at);
    const unsigned char *end = r->at + (err == 0 ? len : 0);
    if (err == 0)
        err = put(r, "\"");
    while (err == 0 && r->at < end) {
        size_t width = utf8(r->at, end);
        if (width == 0)
            return salvo_avro_fail(r->fault, at, "a text is not UTF-8");
        err = put_character(r, r->at, width);
        r->at += width;
    }
    return err != 0 ? err : put(r, "\"");
}

static int get_bytes(run *r, size_t len, path *at)
{
    if (len > (size_t)(r->end - r->at))
        return cut_short(r, at);
    const unsigned char *end = r->at + len;
    int err = put(r, "\"");
    for (; err == 0 && r->at < end; r->at++) {
        unsigned char text[2] = {(unsigned char)(0xC0 | *r->at >> 6),
                                 (unsigned char)(0x80 | (*r->at & 0x3F))};
        err = *r->at < 0x80 ? put_character(r, r->at, 1) : put_character(r, text, 2);
    }
    return err != 0 ? err : put(r, "\"");
}

/* The shortest text that reads back as the same number; with a point, so that it is no integer. */
static int put_real(run *r, double number, bool is_float)
{
    char text[40];
    int digits = is_float ? 6 : 15, most = is_float ? 9 : 17;
    if (!isfinite(number))
        return put(r, isnan(number) ? "\"NaN\"" : number > 0 ? "\"Infinity\"" : "\"-Infinity\"");
    do {
        snprintf(text, sizeof text, "%.*g", digits, number);
    } while (digits++ < most && (is_float ? strtof(text, NULL) != (float)number
                                          : strtod(text, NULL) != number));
    char *comma = strchr(text, ','); /* the host's locale may write one */
    if (comma != NULL)
        *comma = '.';
    if (strpbrk(text, ".e") == NULL)
        strcat(text, ".0");
    return put(r, text);
}

static int get_real(run *r, bool is_float, path *at)
{
    size_t size = is_float ? sizeof(float) : sizeof(double);
    if ((size_t)(r->end - r->at) < size)
        return cut_short(r, at);
    float narrow = 0;
    double number = 0;
    memcpy(is_float ? (void *)&narrow : (void *)&number, r->at, size);
    r->at += size;
    return put_real(r, is_float ? (double)narrow : number, is_float);
}

static int get_integer(run *r, bool is_int, path *at)
{
    int64_t number;
    char text[24];
    int err = get_long(r, &number, at);
    if (err != 0)
        return err;
    if (is_int && (number < INT32_MIN || number > INT32_MAX))
        return salvo_avro_fail(r->fault, at, "%lld has more than the 32 bits of Avro's int",
                               (long long)number);
    snprintf(text, sizeof text, "%lld", (long long)number);
    return put(r, text);
}

static int get_boolean(run *r, path *at)
{
    if (r->at == r->end)
        return cut_short(r, at);
    if (*r->at > 1)
        return salvo_avro_fail(r->fault, at, "a boolean of %d", *r->at);
    return put(r, *r->at++ == 1 ? "true" : "false");
}

static int get_symbol(run *r, avro_schema_t schema, path *at)
{
    int64_t number;
    int err = get_long(r, &number, at);
    if (err != 0)
        return err;
    if (number < 0 || number >= avro_schema_enum_number_of_symbols(schema))
        return salvo_avro_fail(r->fault, at, "the enum has no symbol %lld", (long long)number);
    return put_quoted(r, avro_schema_enum_get(schema, (int)number));
}

/* The items of the next block; 0: there are no more. */
static int get_count(run *r, uint64_t *count, path *at)
{
    int64_t number, bytes;
    int err = get_long(r, &number, at);
    if (err == 0 && number < 0) {
        err = get_long(r, &bytes, at); /* the size of the block: for those who skip it */
        number = number == INT64_MIN ? INT64_MAX : -number;
    }
    if (err != 0)
        return err;
    if ((uint64_t)number > (uint64_t)(r->end - r->at) + r->empty_left)
        return salvo_avro_fail(r->fault, at, "a count of %lld where %zu bytes are left",
                               (long long)number, (size_t)(r->end - r->at));
    *count = (uint64_t)number;
    return 0;
}

static int get_many(run *r, avro_schema_t schema, bool is_map, path *at, int depth)
{
    salvo_avro_path here = {.up = at};
    avro_schema_t of = is_map ? avro_schema_map_values(schema) : avro_schema_array_items(schema);
    uint64_t count;
    int err = put(r, is_map ? "{" : "[");
    while (err == 0 && (err = get_count(r, &count, at)) == 0 && count != 0) {
        for (; count != 0 && err == 0; count--, here.index++) {
            if (here.index != 0)
                err = put(r, ",");
            if (err == 0 && is_map)
                err = get_text(r, &here);
            if (err == 0 && is_map)
                err = put(r, ":");
            if (err == 0)
                err = get(r, of, &here, depth + 1);
        }
    }
    return err != 0 ? err : put(r, is_map ? "}" : "]");
}

static int get_union(run *r, avro_schema_t schema, path *at, int depth)
{
    char room[2048];
    int64_t branch;
    long other, null = salvo_avro_null_branch(schema, &other);
    int err = get_long(r, &branch, at);
    if (err != 0)
        return err;
    if (branch < 0 || (uint64_t)branch >= avro_schema_union_size(schema))
        return salvo_avro_fail(r->fault, at, "the union has no branch %lld", (long long)branch);
    avro_schema_t of = avro_schema_union_branch(schema, (int)branch);
    bool plain = other >= 0 || branch == null;
    if (plain)
        return get(r, of, at, depth + 1);
    err = put(r, "{");
    if (err == 0)
        err = put_quoted(r, salvo_avro_branch_name(of, room, sizeof room));
    if (err == 0)
        err = put(r, ":");
    if (err == 0)
        err = get(r, of, at, depth + 1);
    return err != 0 ? err : put(r, "}");
}

static int get_record(run *r, avro_schema_t schema, path *at, int depth)
{
    int count = (int)avro_schema_record_size(schema);
    int err = put(r, "{");
    for (int i = 0; i < count && err == 0; i++) {
        const char *name = avro_schema_record_field_name(schema, i);
        salvo_avro_path here = {.up = at, .name = name};
        err = put(r, i != 0 ? "," : "");
        if (err == 0)
            err = put_quoted(r, name);
        if (err == 0)
            err = put(r, ":");
        if (err == 0)
            err = get(r, avro_schema_record_field_get_by_index(schema, i), &here, depth + 1);
    }
    return err != 0 ? err : put(r, "}");
}

static int get_any(run *r, avro_schema_t schema, path *at, int depth)
{
    size_t len = 0;
    int err;
    schema = salvo_avro_target(schema);
    if (depth > SALVO_AVRO_DEPTH_MAX)
        return salvo_avro_fail(r->fault, at, "it is nested more than %d levels deep",
                               SALVO_AVRO_DEPTH_MAX);
    switch (avro_typeof(schema)) {
    case AVRO_NULL: return put(r, "null");
    case AVRO_BOOLEAN: return get_boolean(r, at);
    case AVRO_INT32: return get_integer(r, true, at);
    case AVRO_INT64: return get_integer(r, false, at);
    case AVRO_FLOAT: return get_real(r, true, at);
    case AVRO_DOUBLE: return get_real(r, false, at);
    case AVRO_STRING: return get_text(r, at);
    case AVRO_BYTES:
        err = get_length(r, &len, at);
        return err != 0 ? err : get_bytes(r, len, at);
    case AVRO_FIXED: return get_bytes(r, (size_t)avro_schema_fixed_size(schema), at);
    case AVRO_ENUM: return get_symbol(r, schema, at);
    case AVRO_ARRAY: return get_many(r, schema, false, at, depth);
    case AVRO_MAP: return get_many(r, schema, true, at, depth);
    case AVRO_UNION: return get_union(r, schema, at, depth);
    case AVRO_RECORD: return get_record(r, schema, at, depth);
    default: return salvo_avro_fail(r->fault, at, "the schema has an unknown type here");
    }
}

static int get(run *r, avro_schema_t schema, path *at, int depth)
{
    const unsigned char *before = r->at;
    int err = get_any(r, schema, at, depth);
    if (err != 0 || r->at != before)
        return err;
    if (r->empty_left == 0)
        return salvo_avro_fail(r->fault, at, "it has more than %d values without bytes", EMPTY_MAX);
    r->empty_left--;
    return 0;
}

int salvo_schema_decode(const salvo_schema *schema, const void *data, size_t len,
                        salvo_schema_bytes *out, salvo_schema_fault *fault)
{
    const unsigned char *bytes = len != 0 ? data : (const unsigned char *)"";
    run r = {.at = bytes, .end = bytes + len, .out = out, .fault = fault,
             .empty_left = EMPTY_MAX};
    size_t before = out->len;
    int err = get(&r, schema->avro, NULL, 0);
    if (err == 0 && r.at != r.end)
        err = salvo_avro_fail(fault, NULL, "%zu bytes follow the value", (size_t)(r.end - r.at));
    if (err != 0)
        out->len = before;
    return err;
}
