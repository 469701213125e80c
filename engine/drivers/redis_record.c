/* SPDX-License-Identifier: Apache-2.0
 *
 * Fields to a record; see redis_record.h.
 */
#include "redis_record.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static bool is(salvo_redis_text text, const char *name)
{
    return text.length == strlen(name) && memcmp(text.bytes, name, text.length) == 0;
}

static void add_header(salvo_record *record, salvo_header *headers, salvo_redis_text name,
                       size_t skip, salvo_redis_text value, bool null)
{
    headers[record->header_count++] = (salvo_header){
        .name = name.bytes + skip, .name_len = name.length - skip,
        .value = null ? NULL : value.bytes, .value_len = null ? 0 : value.length};
}

void salvo_redis_record_field(salvo_record *record, salvo_header *headers, salvo_redis_text name,
                              salvo_redis_text value, const salvo_codec **codec)
{
    const char *text = name.bytes;
    record->headers = headers;
    if (is(name, "value")) {
        record->value = value.bytes;
        record->value_len = value.length;
    } else if (is(name, "key")) {
        record->key = value.bytes;
        record->key_len = value.length;
    } else if (is(name, "timestamp")) {
        record->timestamp_ms = strtoll(value.bytes, NULL, 10);
    } else if (is(name, "content-encoding")) {
        *codec = salvo_codec_for_encoding(value.bytes, value.length);
        if (!*codec)
            add_header(record, headers, name, 0, value, false);
    } else if (name.length >= 2 && text[1] == ':' && (text[0] == 'h' || text[0] == 'n')) {
        add_header(record, headers, name, 2, value, text[0] == 'n');
    } else if (!is(name, "null")) {
        add_header(record, headers, name, 0, value, false);
    }
}

int salvo_redis_record_unpack(salvo_record *record, const salvo_codec *codec, size_t most,
                              void **unpacked)
{
    void *context = NULL, *out = NULL;
    size_t length;
    int err = codec->open(&context);
    if (err)
        return err;
    err = codec->decompress(context, record->value, record->value_len, most, &out, &length);
    codec->close(context);
    if (err)
        return err;
    *unpacked = out;
    record->value = out;
    record->value_len = length;
    return 0;
}
