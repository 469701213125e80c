/* SPDX-License-Identifier: Apache-2.0
 *
 * JSON to Avro's binary form. Guarantees: what does not fit is told with its path, and nothing of
 * it stays in the output; a line whose unions leave too much to guess is refused after TRIES_MAX
 * values instead of being tried for ever.
 */
#include "avro_codec.h"

#include <float.h>
#include <math.h>
#include <string.h>

enum { TRIES_MAX = 1 << 20 };

typedef struct run {
    const salvo_schema *schema;
    salvo_schema_bytes *out;
    salvo_schema_fault *fault;
    unsigned tries;
    bool is_default; /* a default belongs to the first branch of its union */
} run;

typedef const salvo_avro_path path;

static int put(run *r, avro_schema_t schema, const json_t *json, path *at, int depth);

static int put_raw(run *r, const void *data, size_t len)
{
    return salvo_avro_append(r->out, data, len) ? 0 : SALVO_ERR_NOMEM;
}

static int put_long(run *r, int64_t number)
{
    unsigned char text[10];
    size_t len = 0;
    uint64_t rest = ((uint64_t)number << 1) ^ (uint64_t)(number >> 63);
    for (; rest > 127; rest >>= 7)
        text[len++] = (unsigned char)(rest | 128);
    text[len++] = (unsigned char)rest;
    return put_raw(r, text, len);
}

static const char *kind_of(const json_t *json)
{
    static const char *const names[] = {"an object", "an array", "a text", "a whole number",
                                        "a number", "true", "false", "null"};
    return names[json_typeof(json)];
}

static int wrong(run *r, path *at, const char *wanted, const json_t *json)
{
    return salvo_avro_fail(r->fault, at, "%s is needed, not %s", wanted, kind_of(json));
}

static int put_integer(run *r, const json_t *json, bool is_int, path *at)
{
    if (!json_is_integer(json))
        return wrong(r, at, "a whole number", json);
    int64_t number = json_integer_value(json);
    if (is_int && (number < INT32_MIN || number > INT32_MAX))
        return salvo_avro_fail(r->fault, at, "%lld has more than the 32 bits of Avro's int",
                               (long long)number);
    return put_long(r, number);
}

/* Numbers that JSON has no way to write are texts. */
static bool special(const json_t *json, double *number)
{
    const char *text = json_string_value(json);
    if (text == NULL)
        return false;
    if (strcmp(text, "NaN") == 0)
        *number = (double)NAN;
    else if (strcmp(text, "Infinity") == 0 || strcmp(text, "-Infinity") == 0)
        *number = *text == '-' ? -(double)INFINITY : (double)INFINITY;
    else
        return false;
    return true;
}

static int put_real(run *r, const json_t *json, bool is_float, path *at)
{
    double number = json_number_value(json);
    if (!json_is_number(json) && !special(json, &number))
        return wrong(r, at, "a number", json);
    if (!is_float)
        return put_raw(r, &number, sizeof number);
    if (isfinite(number) && fabs(number) > (double)FLT_MAX)
        return salvo_avro_fail(r->fault, at, "the number has more than the 32 bits of Avro's "
                               "float");
    float narrow = (float)number;
    return put_raw(r, &narrow, sizeof narrow);
}

static int put_text(run *r, const char *text, size_t len)
{
    int err = put_long(r, (int64_t)len);
    return err != 0 ? err : put_raw(r, text, len);
}

/* The bytes that a text of U+0000 to U+00FF stands for, in place of their UTF-8. */
static int put_bytes(run *r, const json_t *json, int64_t fixed, path *at)
{
    if (!json_is_string(json))
        return wrong(r, at, "a text that stands for bytes", json);
    const unsigned char *text = (const unsigned char *)json_string_value(json);
    size_t len = json_string_length(json), count = 0;
    for (size_t i = 0; i < len; i++) {
        if (text[i] > 0xC3)
            return salvo_avro_fail(r->fault, at, "a text that stands for bytes has characters up "
                                   "to U+00FF only");
        count += (text[i] & 0xC0) != 0x80;
    }
    if (fixed >= 0 && count != (size_t)fixed)
        return salvo_avro_fail(r->fault, at, "%lld bytes are needed, not %zu", (long long)fixed,
                               count);
    int err = fixed < 0 ? put_long(r, (int64_t)count) : 0;
    for (size_t i = 0; i < len && err == 0; i++) {
        unsigned char byte = text[i];
        if (byte >= 0xC0) /* its second byte follows: JSON's texts are valid UTF-8 */
            byte = (unsigned char)((byte & 3) << 6 | (text[++i] & 0x3F));
        err = put_raw(r, &byte, 1);
    }
    return err;
}

static int put_symbol(run *r, avro_schema_t schema, const json_t *json, path *at)
{
    if (!json_is_string(json))
        return wrong(r, at, "a symbol", json);
    int symbol = avro_schema_enum_get_by_name(schema, json_string_value(json));
    if (symbol < 0)
        return salvo_avro_fail(r->fault, at, "`%.100s` is none of the enum's symbols",
                               json_string_value(json));
    return put_long(r, symbol);
}

static int put_array(run *r, avro_schema_t schema, const json_t *json, path *at, int depth)
{
    if (!json_is_array(json))
        return wrong(r, at, "an array", json);
    salvo_avro_path here = {.up = at};
    json_t *item;
    size_t count = json_array_size(json);
    int err = count != 0 ? put_long(r, (int64_t)count) : 0;
    for (; here.index < count && err == 0; here.index++) {
        item = json_array_get(json, here.index);
        err = put(r, avro_schema_array_items(schema), item, &here, depth + 1);
    }
    return err != 0 ? err : put_long(r, 0);
}

static int put_map(run *r, avro_schema_t schema, const json_t *json, path *at, int depth)
{
    if (!json_is_object(json))
        return wrong(r, at, "an object", json);
    size_t count = json_object_size(json);
    int err = count != 0 ? put_long(r, (int64_t)count) : 0;
    void *member = json_object_iter((json_t *)(uintptr_t)json);
    for (; member != NULL && err == 0;
         member = json_object_iter_next((json_t *)(uintptr_t)json, member)) {
        const char *name = json_object_iter_key(member);
        salvo_avro_path here = {.up = at, .name = name};
        err = put_text(r, name, json_object_iter_key_len(member));
        if (err == 0)
            err = put(r, avro_schema_map_values(schema), json_object_iter_value(member), &here,
                      depth + 1);
    }
    return err != 0 ? err : put_long(r, 0);
}

static int put_field(run *r, avro_schema_t record, int index, const json_t *json, const char *name,
                     path *at, int depth)
{
    char room[2048];
    avro_schema_t schema = avro_schema_record_field_get_by_index(record, index);
    salvo_avro_path here = {.up = at, .name = name};
    const json_t *value = json_object_get(json, name);
    if (value != NULL)
        return put(r, schema, value, &here, depth + 1);
    const json_t *own = json_object_get(r->schema->defaults,
                                        salvo_avro_branch_name(record, room, sizeof room));
    value = json_object_get(own, name);
    if (value == NULL)
        return salvo_avro_fail(r->fault, &here, "it is missing, and the schema has no default "
                               "for it");
    bool before = r->is_default;
    r->is_default = true;
    int err = put(r, schema, value, &here, depth + 1);
    r->is_default = before;
    return err;
}

static int put_record(run *r, avro_schema_t schema, const json_t *json, path *at, int depth)
{
    if (!json_is_object(json))
        return wrong(r, at, "an object", json);
    void *member = json_object_iter((json_t *)(uintptr_t)json);
    for (; member != NULL; member = json_object_iter_next((json_t *)(uintptr_t)json, member)) {
        const char *name = json_object_iter_key(member);
        if (avro_schema_record_field_get_index(schema, name) < 0)
            return salvo_avro_fail(r->fault, at, "the record `%s` has no field `%.100s`",
                                   avro_schema_name(schema), name);
    }
    int count = (int)avro_schema_record_size(schema), err = 0;
    for (int i = 0; i < count && err == 0; i++)
        err = put_field(r, schema, i, json, avro_schema_record_field_name(schema, i), at, depth);
    return err;
}

/* --- unions --- */

static int put_branch(run *r, avro_schema_t schema, long branch, const json_t *json, path *at,
                      int depth)
{
    size_t before = r->out->len;
    int err = put_long(r, branch);
    if (err == 0)
        err = put(r, avro_schema_union_branch(schema, (int)branch), json, at, depth + 1);
    if (err != 0)
        r->out->len = before;
    return err;
}

/* {"BRANCH": value}: which branch, and the value; -1: it is no such thing. */
static long tagged(avro_schema_t schema, const json_t *json, const json_t **value)
{
    char room[2048];
    if (!json_is_object(json) || json_object_size(json) != 1)
        return -1;
    void *member = json_object_iter((json_t *)(uintptr_t)json);
    size_t count = avro_schema_union_size(schema);
    for (size_t i = 0; i < count; i++) {
        avro_schema_t branch = avro_schema_union_branch(schema, (int)i);
        if (strcmp(json_object_iter_key(member),
                   salvo_avro_branch_name(branch, room, sizeof room)) != 0)
            continue;
        *value = json_object_iter_value(member);
        return (long)i;
    }
    return -1;
}

/* The first branch that takes the plain value. */
static int put_any(run *r, avro_schema_t schema, const json_t *json, path *at, int depth)
{
    salvo_schema_fault *fault = r->fault;
    size_t count = avro_schema_union_size(schema);
    int err = SALVO_ERR_INVALID;
    r->fault = NULL;
    for (size_t i = 0; i < count && err == SALVO_ERR_INVALID; i++)
        err = put_branch(r, schema, (long)i, json, at, depth);
    r->fault = fault;
    if (err != SALVO_ERR_INVALID)
        return err;
    return salvo_avro_fail(fault, at, "%s fits no branch of the union", kind_of(json));
}

static int put_union(run *r, avro_schema_t schema, const json_t *json, path *at, int depth)
{
    long other, null = salvo_avro_null_branch(schema, &other);
    const json_t *inner = NULL;
    if (r->is_default)
        return put_branch(r, schema, 0, json, at, depth);
    if (json_is_null(json) && null >= 0)
        return put_long(r, null);
    long named = tagged(schema, json, &inner);
    if (other >= 0) { /* the plain value comes first here, as decoding writes it */
        salvo_schema_fault *fault = r->fault;
        r->fault = named >= 0 ? NULL : fault;
        int err = put_branch(r, schema, other, json, at, depth);
        r->fault = fault;
        if (err != SALVO_ERR_INVALID || named < 0)
            return err;
        return put_branch(r, schema, named, inner, at, depth);
    }
    if (named >= 0) {
        int err = put_branch(r, schema, named, inner, at, depth);
        if (err != SALVO_ERR_INVALID)
            return err;
    }
    return put_any(r, schema, json, at, depth);
}

static int put(run *r, avro_schema_t schema, const json_t *json, path *at, int depth)
{
    schema = salvo_avro_target(schema);
    if (depth > SALVO_AVRO_DEPTH_MAX)
        return salvo_avro_fail(r->fault, at, "it is nested more than %d levels deep",
                               SALVO_AVRO_DEPTH_MAX);
    if (r->tries++ > TRIES_MAX)
        return salvo_avro_fail(r->fault, at, "it is too large, or leaves too many branches to try");
    switch (avro_typeof(schema)) {
    case AVRO_NULL: return json_is_null(json) ? 0 : wrong(r, at, "null", json);
    case AVRO_BOOLEAN:
        return json_is_boolean(json) ? put_raw(r, json_is_true(json) ? "\1" : "\0", 1)
                                     : wrong(r, at, "true or false", json);
    case AVRO_INT32: return put_integer(r, json, true, at);
    case AVRO_INT64: return put_integer(r, json, false, at);
    case AVRO_FLOAT: return put_real(r, json, true, at);
    case AVRO_DOUBLE: return put_real(r, json, false, at);
    case AVRO_STRING:
        return json_is_string(json)
                   ? put_text(r, json_string_value(json), json_string_length(json))
                   : wrong(r, at, "a text", json);
    case AVRO_BYTES: return put_bytes(r, json, -1, at);
    case AVRO_FIXED: return put_bytes(r, json, avro_schema_fixed_size(schema), at);
    case AVRO_ENUM: return put_symbol(r, schema, json, at);
    case AVRO_ARRAY: return put_array(r, schema, json, at, depth);
    case AVRO_MAP: return put_map(r, schema, json, at, depth);
    case AVRO_UNION: return put_union(r, schema, json, at, depth);
    case AVRO_RECORD: return put_record(r, schema, json, at, depth);
    default: return salvo_avro_fail(r->fault, at, "the schema has an unknown type here");
    }
}

int salvo_schema_encode(const salvo_schema *schema, const char *json, size_t len,
                        salvo_schema_bytes *out, salvo_schema_fault *fault)
{
    json_error_t error;
    json_t *value = json_loadb(json, len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
    if (value == NULL)
        return salvo_avro_fail(fault, NULL, "invalid JSON: %s (column %d)", error.text,
                               error.column > 0 ? error.column : 1);
    run r = {.schema = schema, .out = out, .fault = fault};
    size_t before = out->len;
    int err = put(&r, schema->avro, value, NULL, 0);
    json_decref(value);
    if (err != 0)
        out->len = before;
    return err;
}
