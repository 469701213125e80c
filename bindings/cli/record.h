/* SPDX-License-Identifier: Apache-2.0
 *
 * `salvo record` between its files: a trace in memory (docs/formats.md), in gzip on disk, and from
 * CSV.
 */
#ifndef SALVO_CLI_RECORD_H
#define SALVO_CLI_RECORD_H

#include "cli.h"

enum { TRACE_TOPICS = 4096, TRACE_HEADER = 4096, TRACE_RECORD = 24, TRACE_PATH = 4096 };

typedef struct salvo_trace_message {
    uint64_t at_ns;
    uint32_t value_bytes, key, fate;
    uint16_t topic, key_bytes;
} salvo_trace_message;

typedef struct salvo_trace {
    salvo_trace_message *list;
    size_t count, room, most;    /* most: more are not kept */
    char *topics[TRACE_TOPICS];
    size_t topic_count;
    uint64_t started_at_ms, lost, max_bytes;
    uint64_t resolution_ns; /* of the times, before the scale */
    double scale;
    bool truncated;
} salvo_trace;

/* False: the cap is reached; the trace says so. */
bool salvo_trace_add(salvo_trace *trace, const salvo_trace_message *message);
/* The index of a topic's name; -1: too many topics. */
int salvo_trace_topic(salvo_trace *trace, const char *name);
void salvo_trace_sort(salvo_trace *trace); /* by time; the first is at 0 afterwards */
void salvo_trace_free(salvo_trace *trace);

/* The file that is written before it gets its name; false: the path is too long. */
bool salvo_trace_part(const char *path, char part[TRACE_PATH]);
/* Times divided by the scale, in gzip, at most max_bytes. 0, or CLI_FAILED after an error. */
int salvo_trace_write(salvo_trace *trace, const char *path);

/* record_csv.c: 0, or CLI_FAILED after an error that names the line. */
int salvo_trace_from_csv(salvo_trace *trace, const char *path);

#endif
