/* SPDX-License-Identifier: Apache-2.0
 *
 * Playing a trace of `salvo record` (docs/formats.md) as a load: its times (divided by a scale),
 * sizes and hashed keys. Messages that were refused or blocked are demand and are played too. The
 * whole is read and checked first; the records become those of a schedule in memory.
 */
#include "load_source.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <zlib.h>

enum { HEADER_BYTES = 4096, TRACE_BYTES = 24, RECORD_BYTES = 16, AT_ONCE = 4096 };
#define MESSAGES_MOST UINT64_C(250000000)
#define FIRST_BYTES ((size_t)1 << 20)

static bool grow(salvo_load *load, size_t bytes)
{
    size_t room = load->file_bytes ? load->file_bytes : FIRST_BYTES;
    while (room < bytes)
        room *= 2;
    if (room == load->file_bytes)
        return true;
    void *old = (void *)(uintptr_t)load->file;
    void *memory = old ? mremap(old, load->file_bytes, room, MREMAP_MAYMOVE)
                       : mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                              0);
    if (memory == MAP_FAILED)
        return false;
    load->file = memory;
    load->file_bytes = room;
    return true;
}

static uint64_t little(const unsigned char *bytes, int count)
{
    uint64_t value = 0;
    for (int i = 0; i < count; i++)
        value |= (uint64_t)bytes[i] << 8 * i;
    return value;
}

/* One record; NULL, or what is wrong with it. */
static const char *take(salvo_load *load, const unsigned char *from, double scale, uint64_t *last)
{
    double at = (double)little(from, 8) / scale;
    uint64_t at_ns = at < 8.64e16 ? (uint64_t)at : UINT64_MAX;
    size_t place = HEADER_BYTES + load->file_messages * RECORD_BYTES;
    if (at_ns == UINT64_MAX)
        return "a time beyond 1000 days";
    if (at_ns < *last)
        return "times go backwards";
    if (little(from + 8, 4) > SALVO_LOAD_SIZE_MOST)
        return "a size above 1000000";
    if (load->file_messages >= MESSAGES_MOST)
        return "more than 250 million messages";
    if (!grow(load, place + RECORD_BYTES))
        return "no memory";
    unsigned char *to = (unsigned char *)(uintptr_t)load->file + place;
    for (int i = 0; i < 8; i++)
        to[i] = (unsigned char)(at_ns >> 8 * i);
    memcpy(to + 8, from + 8, 8); /* size and key lie alike */
    load->file_messages++;
    *last = at_ns;
    return NULL;
}

static const char *take_all(salvo_load *load, gzFile file, double scale, uint64_t *last)
{
    unsigned char records[AT_ONCE * TRACE_BYTES];
    for (;;) {
        const char *wrong = NULL;
        int length = gzread(file, records, sizeof records);
        if (length < 0)
            return "the compressed data is damaged";
        for (int at = 0; at + TRACE_BYTES <= length && !wrong; at += TRACE_BYTES)
            wrong = take(load, records + at, scale, last);
        if (wrong || length < (int)sizeof records)
            return wrong;
    }
}

static const char *take_header(gzFile file)
{
    char header[HEADER_BYTES];
    json_error_t where;
    if (gzread(file, header, sizeof header) != (int)sizeof header)
        return "not a trace of salvo record";
    json_t *h = json_loadb(header, sizeof header, 0, &where);
    const char *format = json_string_value(json_object_get(h, "format"));
    bool trace = format && strcmp(format, "salvo-trace") == 0;
    bool known = json_integer_value(json_object_get(h, "version")) == 1;
    json_decref(h);
    return !trace ? "not a trace of salvo record"
           : !known ? "a trace of a version that this salvo does not know; it knows 1"
                    : NULL;
}

bool salvo_load_open_trace(salvo_load *load, const char *path, double scale, char *error,
                           size_t error_size)
{
    uint64_t last = 0;
    gzFile file = gzopen(path, "re");
    if (!file) {
        snprintf(error, error_size, "cannot read %s: %s", path, strerror(errno));
        return false;
    }
    const char *wrong = take_header(file);
    if (!wrong)
        wrong = take_all(load, file, scale, &last);
    if (gzclose(file) != Z_OK && !wrong)
        wrong = "it ends in the middle of its compressed data";
    if (!wrong && load->file_messages == 0)
        wrong = "it holds no messages";
    load->duration_s = (double)(last + 1000) / 1e9; /* the last one is within it */
    load->rate_text = load->arrivals_text = load->size_text = load->keys_text = "trace";
    if (wrong)
        snprintf(error, error_size, "%s: after %llu messages: %s", path,
                 (unsigned long long)load->file_messages, wrong);
    return !wrong;
}
