/* SPDX-License-Identifier: Apache-2.0
 *
 * Schemas: parsed by avro-c, with the defaults of record fields kept beside it. Guarantees: a
 * schema that was parsed never changes.
 */
#include "avro_codec.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_MAX_BYTES = 1024 };

void salvo_schema_bytes_free(salvo_schema_bytes *bytes)
{
    free(bytes->data);
    *bytes = (salvo_schema_bytes){NULL, 0, 0};
}

bool salvo_avro_append(salvo_schema_bytes *out, const void *data, size_t len)
{
    if (len > out->size - out->len) {
        if (len > SIZE_MAX / 4 - out->len)
            return false;
        size_t size = out->size < 256 ? 256 : out->size * 2;
        if (size < out->len + len)
            size = out->len + len;
        unsigned char *moved = realloc(out->data, size);
        if (moved == NULL)
            return false;
        out->data = moved;
        out->size = size;
    }
    if (len != 0)
        memcpy(out->data + out->len, data, len);
    out->len += len;
    return true;
}

/* "a.b.3", outermost first. */
static size_t write_path(const salvo_avro_path *at, char *to, size_t size)
{
    if (at == NULL || size == 0)
        return 0;
    size_t used = write_path(at->up, to, size);
    const char *dot = used != 0 ? "." : "";
    int n = at->name != NULL ? snprintf(to + used, size - used, "%s%s", dot, at->name)
                             : snprintf(to + used, size - used, "%s%zu", dot, at->index);
    return n < 0 || (size_t)n >= size - used ? size - 1 : used + (size_t)n;
}

int salvo_avro_fail(salvo_schema_fault *fault, const salvo_avro_path *at, const char *format, ...)
{
    if (fault == NULL)
        return SALVO_ERR_INVALID;
    char path[160] = "";
    size_t used = 0;
    if (write_path(at, path, sizeof path) != 0)
        used = (size_t)snprintf(fault->text, sizeof fault->text, "%s: ", path);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(fault->text + used, sizeof fault->text - used, format, arguments);
    va_end(arguments);
    return SALVO_ERR_INVALID;
}

avro_schema_t salvo_avro_target(avro_schema_t schema)
{
    return is_avro_link(schema) ? avro_schema_link_target(schema) : schema;
}

const char *salvo_avro_branch_name(avro_schema_t schema, char *room, size_t size)
{
    schema = salvo_avro_target(schema);
    bool named = is_avro_record(schema) || is_avro_enum(schema) || is_avro_fixed(schema);
    if (!named)
        return avro_schema_type_name(schema);
    const char *space = avro_schema_namespace(schema);
    if (space == NULL || *space == '\0')
        return avro_schema_name(schema);
    snprintf(room, size, "%s.%s", space, avro_schema_name(schema));
    return room;
}

long salvo_avro_null_branch(avro_schema_t schema, long *other)
{
    size_t count = avro_schema_union_size(schema);
    long null = -1;
    *other = -1;
    for (size_t i = 0; i < count && null < 0; i++)
        if (is_avro_null(avro_schema_union_branch(schema, (int)i)))
            null = (long)i;
    if (count == 2 && null >= 0)
        *other = 1 - null;
    return null;
}

/* --- defaults --- */

static void collect(const json_t *json, const char *space, json_t *defaults, int depth);

/* name and namespace as one, and (*inner) the namespace of what is inside. */
static void full_name(const json_t *json, const char *space, char *full, char *inner)
{
    const char *name = json_string_value(json_object_get(json, "name"));
    const char *given = json_string_value(json_object_get(json, "namespace"));
    if (given == NULL)
        given = space;
    if (name == NULL)
        name = "";
    if (strchr(name, '.') != NULL || *given == '\0')
        snprintf(full, NAME_MAX_BYTES, "%s", name);
    else
        snprintf(full, NAME_MAX_BYTES, "%s.%s", given, name);
    const char *dot = strrchr(full, '.');
    snprintf(inner, NAME_MAX_BYTES, "%.*s", dot != NULL ? (int)(dot - full) : 0, full);
}

static void collect_record(const json_t *json, const char *space, json_t *defaults, int depth)
{
    char full[NAME_MAX_BYTES], inner[NAME_MAX_BYTES];
    full_name(json, space, full, inner);
    json_t *own = json_object();
    size_t i;
    json_t *field;
    json_array_foreach(json_object_get(json, "fields"), i, field) {
        const char *name = json_string_value(json_object_get(field, "name"));
        json_t *value = json_object_get(field, "default");
        if (name != NULL && value != NULL)
            json_object_set(own, name, value);
        collect(json_object_get(field, "type"), inner, defaults, depth + 1);
    }
    json_object_set_new(defaults, full, own);
}

static void collect(const json_t *json, const char *space, json_t *defaults, int depth)
{
    if (depth > SALVO_AVRO_DEPTH_MAX)
        return;
    size_t i;
    json_t *branch;
    json_array_foreach(json, i, branch) collect(branch, space, defaults, depth + 1);
    if (!json_is_object(json))
        return;
    const json_t *type = json_object_get(json, "type");
    const char *kind = json_string_value(type);
    if (kind == NULL)
        collect(type, space, defaults, depth + 1);
    else if (strcmp(kind, "record") == 0 || strcmp(kind, "error") == 0)
        collect_record(json, space, defaults, depth);
    else
        collect(json_object_get(json, strcmp(kind, "map") == 0 ? "values" : "items"), space,
                defaults, depth + 1);
}

/* --- schemas --- */

static size_t depth_of(const json_t *json)
{
    size_t deepest = 0, i;
    const char *key;
    json_t *part;
    json_array_foreach(json, i, part) {
        size_t depth = depth_of(part);
        deepest = depth > deepest ? depth : deepest;
    }
    if (json_is_object(json))
        json_object_foreach((json_t *)(uintptr_t)json, key, part) {
            size_t depth = depth_of(part);
            deepest = depth > deepest ? depth : deepest;
        }
    return deepest + 1;
}

static int fill(salvo_schema *schema, const char *text, size_t len, salvo_schema_fault *fault)
{
    json_error_t error;
    json_t *json = json_loadb(text, len, JSON_DECODE_ANY, &error);
    if (json == NULL)
        return salvo_avro_fail(fault, NULL, "the schema is no JSON: %s (line %d)", error.text,
                               error.line);
    if (depth_of(json) > SALVO_AVRO_DEPTH_MAX) {
        json_decref(json);
        return salvo_avro_fail(fault, NULL, "the schema is nested more than %d levels deep",
                               SALVO_AVRO_DEPTH_MAX);
    }
    schema->defaults = json_object();
    collect(json, "", schema->defaults, 0);
    /* avro-c takes no bare type as a document, but the same as an object. */
    char *wrapped = NULL;
    if (json_is_string(json)) {
        json_t *object = json_pack("{s:O}", "type", json);
        wrapped = object != NULL ? json_dumps(object, JSON_COMPACT) : NULL;
        json_decref(object);
    }
    json_decref(json);
    int bad = avro_schema_from_json_length(wrapped != NULL ? wrapped : text,
                                           wrapped != NULL ? strlen(wrapped) : len,
                                           &schema->avro);
    free(wrapped);
    if (bad != 0) {
        schema->avro = NULL;
        const char *why = avro_strerror();
        return salvo_avro_fail(fault, NULL, "the schema is no Avro schema: %s",
                               why != NULL && *why != '\0' ? why : "a type is wrong");
    }
    return 0;
}

int salvo_schema_parse(const char *json, size_t len, salvo_schema **out, salvo_schema_fault *fault)
{
    char room[2 * NAME_MAX_BYTES];
    *out = NULL;
    salvo_schema *schema = calloc(1, sizeof *schema);
    if (schema == NULL)
        return SALVO_ERR_NOMEM;
    int err = fill(schema, json, len, fault);
    if (err == 0) {
        bool named = is_avro_record(schema->avro) || is_avro_enum(schema->avro) ||
                     is_avro_fixed(schema->avro);
        schema->text = strndup(json, len);
        schema->name = strdup(named ? salvo_avro_branch_name(schema->avro, room, sizeof room)
                                    : "");
        if (schema->text == NULL || schema->name == NULL)
            err = SALVO_ERR_NOMEM;
    }
    if (err != 0)
        salvo_schema_free(schema);
    else
        *out = schema;
    return err;
}

void salvo_schema_free(salvo_schema *schema)
{
    if (schema == NULL)
        return;
    if (schema->avro != NULL)
        avro_schema_decref(schema->avro);
    json_decref(schema->defaults);
    free(schema->text);
    free(schema->name);
    free(schema);
}

const char *salvo_schema_text(const salvo_schema *schema)
{
    return schema->text;
}

const char *salvo_schema_name(const salvo_schema *schema)
{
    return schema->name;
}

int salvo_schema_put_id(salvo_schema_bytes *out, int32_t id)
{
    uint32_t bits = (uint32_t)id;
    unsigned char header[] = {0, (unsigned char)(bits >> 24), (unsigned char)(bits >> 16),
                              (unsigned char)(bits >> 8), (unsigned char)bits};
    return salvo_avro_append(out, header, sizeof header) ? 0 : SALVO_ERR_NOMEM;
}

int32_t salvo_schema_id_of(const void *data, size_t len)
{
    const unsigned char *at = data;
    if (len < SALVO_SCHEMA_HEADER_BYTES || at[0] != 0 || at[1] > 127)
        return -1;
    return (int32_t)((uint32_t)at[1] << 24 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 8 | at[4]);
}
