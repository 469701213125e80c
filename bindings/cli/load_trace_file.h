/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading a trace file, for whoever replays one (docs/formats.md): binary, plain or in gzip.
 * Guarantees: every record that is given was checked: times ascend, topics are the header's; a
 * bad one ends with its number.
 */
#ifndef SALVO_LOAD_TRACE_FILE_H
#define SALVO_LOAD_TRACE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TRACE_FATE_REFUSED UINT32_C(0xfffffffe) /* and above; below: us of blocking */

typedef struct salvo_trace_record {
    uint64_t at_ns;
    uint32_t value_bytes, key, fate; /* key: a hash, 0 for none */
    uint16_t topic, key_bytes;
} salvo_trace_record;

typedef struct salvo_trace_file {
    const char *path; /* the caller's */
    void *stream;
    uint32_t topic_count;
    uint64_t one_of;  /* 1: every message was recorded */
    uint64_t lost;    /* messages that were not */
    bool truncated;   /* its size cap ended it */
    uint64_t count;   /* given so far */
    uint64_t last_ns;
} salvo_trace_file;

/* False: error has one line. */
bool salvo_trace_open(salvo_trace_file *t, const char *path, char *error, size_t error_size);
/* 1; 0 at the end; -1: error has one line. */
int salvo_trace_next(salvo_trace_file *t, salvo_trace_record *record, char *error,
                     size_t error_size);
void salvo_trace_close(salvo_trace_file *t);

#endif
