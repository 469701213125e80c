/* SPDX-License-Identifier: Apache-2.0
 *
 * Records as text. Keys and values are written byte for byte, but in JSON, where text that is
 * not UTF-8 becomes base64 under another name ("value_base64"), so that nothing is changed
 * silently. Null keys and values are written as nothing, in JSON as null.
 */
#include "consume_format.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

const char *salvo_format_check(const char *format)
{
    for (const char *at = strchr(format, '%'); at; at = strchr(at + 2, '%'))
        if (at[1] == '\0' || !strchr("kvpothT%", at[1]))
            return "allowed are value, key-value, json, or a text with %k %v %p %o %t %T %h %%";
    bool name = strcmp(format, "value") == 0 || strcmp(format, "key-value") == 0 ||
                strcmp(format, "json") == 0;
    if (!name && !strchr(format, '%'))
        return "allowed are value, key-value, json, or a text with %k %v %p %o %t %T %h %%";
    return NULL;
}

static void put(FILE *to, const void *data, size_t len)
{
    if (len)
        fwrite(data, 1, len, to);
}

static void put_headers(FILE *to, const salvo_record *record)
{
    for (size_t i = 0; i < record->header_count; i++) {
        const salvo_header *h = &record->headers[i];
        if (i)
            fputc(',', to);
        put(to, h->name, h->name_len);
        fputc('=', to);
        put(to, h->value, h->value_len);
    }
}

static void put_field(FILE *to, char field, const salvo_record *record)
{
    switch (field) {
    case 'k': put(to, record->key, record->key_len); break;
    case 'v': put(to, record->value, record->value_len); break;
    case 'p': fprintf(to, "%d", (int)record->partition); break;
    case 'o': fprintf(to, "%lld", (long long)record->offset); break;
    case 't': fputs(record->topic, to); break;
    case 'T': fprintf(to, "%lld", (long long)record->timestamp_ms); break;
    case 'h': put_headers(to, record); break;
    default: fputc('%', to); break;
    }
}

static char unescaped(char letter)
{
    switch (letter) {
    case 'n': return '\n';
    case 't': return '\t';
    case 'r': return '\r';
    case '0': return '\0';
    default: return letter;
    }
}

static void put_text(FILE *to, const char *format, const salvo_record *record)
{
    for (const char *at = format; *at; at++) {
        if (*at == '%' && at[1])
            put_field(to, *++at, record);
        else if (*at == '\\' && at[1])
            fputc(unescaped(*++at), to);
        else
            fputc(*at, to);
    }
}

static json_t *base64(const unsigned char *data, size_t len)
{
    static const char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t size = (len + 2) / 3 * 4, used = 0;
    char *text = malloc(size + 1);
    if (!text)
        return NULL;
    for (size_t i = 0; i < len; i += 3) {
        unsigned long bits = (unsigned long)data[i] << 16;
        bits |= i + 1 < len ? (unsigned long)data[i + 1] << 8 : 0;
        bits |= i + 2 < len ? (unsigned long)data[i + 2] : 0;
        text[used++] = digits[bits >> 18 & 63];
        text[used++] = digits[bits >> 12 & 63];
        text[used++] = i + 1 < len ? digits[bits >> 6 & 63] : '=';
        text[used++] = i + 2 < len ? digits[bits & 63] : '=';
    }
    json_t *string = json_stringn(text, used);
    free(text);
    return string;
}

static void set_bytes(json_t *object, const char *name, const char *base64_name,
                      const void *data, size_t len)
{
    json_t *text = data ? json_stringn(data, len) : json_null();
    if (text)
        json_object_set_new(object, name, text);
    else
        json_object_set_new(object, base64_name, base64(data, len));
}

static json_t *header_array(const salvo_record *record)
{
    json_t *array = json_array(); /* names may repeat, so no object */
    for (size_t i = 0; i < record->header_count; i++) {
        const salvo_header *h = &record->headers[i];
        json_t *one = json_object();
        set_bytes(one, "name", "name_base64", h->name, h->name_len);
        set_bytes(one, "value", "value_base64", h->value, h->value_len);
        json_array_append_new(array, one);
    }
    return array;
}

static bool put_json(FILE *to, const salvo_record *record, bool value_is_json)
{
    json_t *o = json_object();
    json_object_set_new(o, "topic", json_string(record->topic));
    json_object_set_new(o, "partition", json_integer(record->partition));
    json_object_set_new(o, "offset", json_integer(record->offset));
    json_object_set_new(o, "timestamp_ms", json_integer(record->timestamp_ms));
    set_bytes(o, "key", "key_base64", record->key, record->key_len);
    json_t *value = value_is_json ? json_loadb(record->value, record->value_len,
                                               JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL)
                                  : NULL;
    if (value)
        json_object_set_new(o, "value", value);
    else
        set_bytes(o, "value", "value_base64", record->value, record->value_len);
    json_object_set_new(o, "headers", header_array(record));
    bool good = json_dumpf(o, to, JSON_COMPACT) == 0;
    json_decref(o);
    fputc('\n', to);
    return good;
}

bool salvo_format_write(FILE *to, const char *format, const salvo_record *record,
                        bool value_is_json)
{
    if (strcmp(format, "json") == 0)
        return put_json(to, record, value_is_json) && !ferror(to);
    if (strcmp(format, "value") == 0) {
        put(to, record->value, record->value_len);
        putc_unlocked('\n', to);
    } else if (strcmp(format, "key-value") == 0) {
        put(to, record->key, record->key_len);
        putc_unlocked('\t', to);
        put(to, record->value, record->value_len);
        putc_unlocked('\n', to);
    } else {
        put_text(to, format, record);
    }
    return !ferror(to);
}
