/* SPDX-License-Identifier: Apache-2.0
 *
 * What a line means: its value and its key. In the line format the key ends at the first
 * delimiter, and a line without one has no key. In NDJSON every line is checked to be one JSON
 * value; the key is a string, number or boolean at a path of object fields.
 */
#include "produce.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool cut_at_delimiter(const produce_options *options, salvo_bytes *value,
                             salvo_bytes *key)
{
    const char *found = value->len == 0 ? NULL
                                        : memmem(value->data, value->len, options->key_delimiter,
                                                 options->key_delimiter_len);
    if (!found)
        return true;
    key->data = value->data;
    key->len = (size_t)(found - (const char *)value->data);
    value->data = found + options->key_delimiter_len;
    value->len -= key->len + options->key_delimiter_len;
    return true;
}

static const json_t *field_at(const json_t *root, const char *path)
{
    const json_t *at = root;
    while (at && json_is_object(at)) {
        const char *dot = strchrnul(path, '.');
        at = json_object_getn(at, path, (size_t)(dot - path));
        if (*dot == '\0')
            return at;
        path = dot + 1;
    }
    return NULL;
}

static bool key_text(const json_t *field, produce_block *block, salvo_bytes *key)
{
    char text[64];
    const char *source = text;
    size_t len;
    if (json_is_string(field)) {
        source = json_string_value(field);
        len = json_string_length(field);
    } else if (json_is_integer(field)) {
        len = (size_t)snprintf(text, sizeof text, "%" JSON_INTEGER_FORMAT,
                               json_integer_value(field));
    } else if (json_is_boolean(field)) {
        source = json_is_true(field) ? "true" : "false";
        len = strlen(source);
    } else if (json_is_real(field)) {
        len = json_dumpb(field, text, sizeof text, JSON_ENCODE_ANY);
        len = len > sizeof text ? sizeof text : len;
    } else {
        return false;
    }
    key->data = salvo_produce_block_store(block, source, len);
    key->len = len;
    return true;
}

static bool json_key(const produce_options *options, produce_block *block, const json_t *root,
                     salvo_bytes *key, char *error, size_t error_size)
{
    const json_t *field = field_at(root, options->key_field);
    if (field && key_text(field, block, key))
        return true;
    snprintf(error, error_size,
             field ? "key field `%s` is not a string, number or boolean"
                   : "no key field `%s`; each line needs it",
             options->key_field);
    return false;
}

bool salvo_produce_key(const produce_options *options, produce_block *block, salvo_bytes *value,
                       salvo_bytes *key, char *error, size_t error_size)
{
    if (!options->ndjson)
        return options->key_delimiter ? cut_at_delimiter(options, value, key) : true;
    json_error_t fault;
    json_t *root = json_loadb(value->data, value->len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &fault);
    if (!root) {
        snprintf(error, error_size, "invalid JSON: %s (column %d)", fault.text,
                 fault.column > 0 ? fault.column : 1);
        return false;
    }
    bool good = !options->key_field || json_key(options, block, root, key, error, error_size);
    json_decref(root);
    return good;
}
