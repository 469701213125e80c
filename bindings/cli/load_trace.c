/* SPDX-License-Identifier: Apache-2.0
 *
 * Playing a trace of `salvo record` as a load: its times (divided by a scale), sizes, hashed keys
 * and topics. Messages that were refused or blocked are demand and are played too. The whole is
 * read and checked first; the records become those of a schedule in memory.
 */
#include "load_source.h"
#include "load_trace_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { HEADER_BYTES = 4096, RECORD_BYTES = 16 };
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
    uint16_t *topics = realloc(load->file_topics, room / RECORD_BYTES * sizeof *topics);
    load->file_topics = topics ? topics : load->file_topics;
    return topics != NULL;
}

static void put_little(unsigned char *to, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        to[i] = (unsigned char)(value >> 8 * i);
}

/* NULL, or what is wrong with the record. */
static const char *take(salvo_load *load, const salvo_trace_record *r, double scale,
                        uint64_t *last_ns)
{
    double at = (double)r->at_ns / scale;
    size_t place = HEADER_BYTES + load->file_messages * RECORD_BYTES;
    if (!(at < 8.64e16))
        return "a time beyond 1000 days";
    if (r->value_bytes > SALVO_LOAD_SIZE_MOST)
        return "a size above 1000000";
    if (load->file_messages >= MESSAGES_MOST)
        return "more than 250 million messages";
    if (!grow(load, place + RECORD_BYTES))
        return "no memory";
    unsigned char *to = (unsigned char *)(uintptr_t)load->file + place;
    *last_ns = (uint64_t)at;
    put_little(to, *last_ns, 8);
    put_little(to + 8, r->value_bytes, 4);
    put_little(to + 12, r->key, 4);
    load->file_topics[load->file_messages++] = r->topic;
    return NULL;
}

/* Each message has its gap: the last one is as long before the end as they are from each other. */
static double length_s(uint64_t last_ns, uint64_t count)
{
    uint64_t gap_ns = count > 1 ? last_ns / (count - 1) : 0;
    return (double)(last_ns + gap_ns + 1000) / 1e9;
}

bool salvo_load_open_trace(salvo_load *load, const char *path, double scale, char *error,
                           size_t error_size)
{
    salvo_trace_file file;
    salvo_trace_record record;
    uint64_t last_ns = 0;
    int got;
    if (!salvo_trace_open(&file, path, error, error_size))
        return false;
    while ((got = salvo_trace_next(&file, &record, error, error_size)) == 1) {
        const char *wrong = take(load, &record, scale, &last_ns);
        if (wrong != NULL) {
            snprintf(error, error_size, "%s: message %llu: %s", path,
                     (unsigned long long)file.count, wrong);
            got = -1;
            break;
        }
    }
    load->file_topic_count = file.topic_count;
    load->trace_one_of = file.one_of;
    load->trace_lost = file.lost;
    load->trace_truncated = file.truncated;
    salvo_trace_close(&file);
    if (got == 0 && load->file_messages == 0) {
        snprintf(error, error_size, "%s: it holds no messages", path);
        got = -1;
    }
    load->duration_s = length_s(last_ns, load->file_messages);
    load->rate_text = load->arrivals_text = load->size_text = load->keys_text = "trace";
    return got == 0;
}
