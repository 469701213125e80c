/* SPDX-License-Identifier: Apache-2.0
 *
 * The one reader of trace files. zlib reads plain files as they are, and with its buffer a call a
 * record costs little.
 */
#include "load_trace_file.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <zlib.h>

enum { HEADER_BYTES = 4096, RECORD_BYTES = 24, BUFFER_BYTES = 1 << 18, TOPICS_MOST = 4096 };
#define TIME_MOST_NS UINT64_C(86400000000000000) /* 1000 days */

static uint64_t little(const unsigned char *at, int bytes)
{
    uint64_t value = 0;
    while (bytes-- > 0)
        value = value << 8 | at[bytes];
    return value;
}

static const char *take_header(salvo_trace_file *t, char *header)
{
    json_t *root = json_loadb(header, HEADER_BYTES, 0, NULL);
    const char *format = json_string_value(json_object_get(root, "format"));
    bool ours = format != NULL && strcmp(format, "salvo-trace") == 0;
    bool known = json_integer_value(json_object_get(root, "version")) == 1;
    json_int_t one_of = json_integer_value(json_object_get(root, "one_of"));
    json_int_t lost = json_integer_value(json_object_get(root, "lost"));
    t->truncated = json_is_true(json_object_get(root, "truncated"));
    const json_t *names = json_object_get(root, "topics");
    json_int_t topics = json_is_integer(names) ? json_integer_value(names)
                                               : (json_int_t)json_array_size(names);
    json_decref(root);
    t->one_of = one_of > 1 ? (uint64_t)one_of : 1;
    t->lost = lost > 0 ? (uint64_t)lost : 0;
    t->topic_count = topics > 0 && topics <= TOPICS_MOST ? (uint32_t)topics : 0;
    if (!ours)
        return "not a trace: `salvo record` writes them, of CSV too (--from-csv)";
    if (!known)
        return "a trace of a version that this salvo does not know; it knows 1";
    return t->topic_count == 0 ? "a trace names 1 to 4096 topics" : NULL;
}

bool salvo_trace_open(salvo_trace_file *t, const char *path, char *error, size_t error_size)
{
    char header[HEADER_BYTES] = "";
    *t = (salvo_trace_file){.path = path};
    gzFile file = gzopen(path, "re");
    if (file == NULL) {
        snprintf(error, error_size, "cannot read %s: %s", path, strerror(errno));
        return false;
    }
    t->stream = file;
    gzbuffer(file, BUFFER_BYTES);
    int length = gzread(file, header, HEADER_BYTES);
    const char *wrong = length == HEADER_BYTES ? take_header(t, header)
                        : length < 0           ? "the compressed data is damaged"
                        : header[0] == '{'     ? "ends within its header: the file is cut"
                                               : take_header(t, header);
    if (wrong == NULL)
        return true;
    snprintf(error, error_size, "%s: %s", path, wrong);
    salvo_trace_close(t);
    return false;
}

static int bad(const salvo_trace_file *t, const char *what, char *error, size_t error_size)
{
    snprintf(error, error_size, "%s: message %llu: %s", t->path, (unsigned long long)t->count + 1,
             what);
    return -1;
}

int salvo_trace_next(salvo_trace_file *t, salvo_trace_record *record, char *error,
                     size_t error_size)
{
    unsigned char b[RECORD_BYTES];
    int length = gzread(t->stream, b, RECORD_BYTES), code = Z_OK;
    if (length == 0)
        (void)gzerror(t->stream, &code); /* the end of the file may be none of the stream */
    if (length < 0 || code != Z_OK)
        return bad(t, "the compressed data is damaged, or cut", error, error_size);
    if (length == 0)
        return 0;
    if (length != RECORD_BYTES)
        return bad(t, "the file ends within it: it is cut or damaged", error, error_size);
    *record = (salvo_trace_record){
        .at_ns = little(b, 8), .value_bytes = (uint32_t)little(b + 8, 4),
        .key = (uint32_t)little(b + 12, 4), .topic = (uint16_t)little(b + 16, 2),
        .key_bytes = (uint16_t)little(b + 18, 2), .fate = (uint32_t)little(b + 20, 4)};
    if (record->topic >= t->topic_count)
        return bad(t, "a topic that the header has not: the file is damaged", error, error_size);
    if (record->at_ns > TIME_MOST_NS)
        return bad(t, "a time beyond 1000 days", error, error_size);
    if (record->at_ns < t->last_ns)
        return bad(t, "times go backwards", error, error_size);
    t->last_ns = record->at_ns;
    t->count++;
    return 1;
}

void salvo_trace_close(salvo_trace_file *t)
{
    if (t->stream != NULL)
        gzclose(t->stream);
    t->stream = NULL;
}
