/* SPDX-License-Identifier: Apache-2.0
 *
 * A load as a sequence of messages, each with the time at which it is due: drawn from a
 * description, or played from a schedule file (docs/formats.md). The sequence depends on the
 * description alone, never on how fast it is taken. Each thread has a source of its own and
 * sends every n-th of its messages.
 *
 *   rate     = n | n ":" time { "," n ":" time }     messages a second; steps are repeated
 *   arrivals = "constant" | "poisson" | "burst:" n   n at once, at the same mean rate
 */
#ifndef SALVO_LOAD_SOURCE_H
#define SALVO_LOAD_SOURCE_H

#include "load_draw.h"

#include <jansson.h>

#define SALVO_LOAD_STEPS 64
#define SALVO_LOAD_RATE_MOST 1e8
#define SALVO_LOAD_IN_TURN UINT32_MAX

typedef struct salvo_load_message {
    uint64_t at_ns; /* since the start of the run */
    uint32_t value_bytes;
    uint32_t key; /* 0: none */
    uint32_t topic; /* its index in a trace, or SALVO_LOAD_IN_TURN */
} salvo_load_message;

typedef struct salvo_load_step {
    double rate, seconds;
} salvo_load_step;

typedef struct salvo_load {
    double warmup_s, duration_s; /* the warm-up plays the first step's rate */
    uint64_t seed;
    salvo_load_step steps[SALVO_LOAD_STEPS];
    size_t step_count;
    uint32_t burst; /* messages at once; 1: alone */
    bool poisson;
    salvo_load_sizes sizes;
    salvo_load_keys keys;
    const char *rate_text, *arrivals_text, *size_text, *payload_text, *keys_text;

    /* A file that is played instead. */
    const unsigned char *file;
    size_t file_bytes;
    uint64_t file_messages;
    json_t *file_header;
    uint16_t *file_topics; /* of each message of a trace */
    uint32_t file_topic_count;
    uint64_t trace_one_of, trace_lost; /* a trace of one of so many messages, without so many */
    bool trace_truncated;
} salvo_load;

/* A time in seconds, or with s, ms, m (minutes); up to a million seconds. */
bool salvo_load_seconds(const char *text, const char **end, double *out);

/* Descriptions of a load; false with a text. */
bool salvo_load_take_rate(salvo_load *load, const char *text, char *error, size_t error_size);
bool salvo_load_take_arrivals(salvo_load *load, const char *text, char *error, size_t error_size);

/* Open a schedule file: its records are checked as they are played, its header and size here. */
bool salvo_load_open_file(salvo_load *load, const char *path, char *error, size_t error_size);

/* Read a trace, its times divided by scale; the caller sets the warm-up, a shorter duration, the
 * payload and the seed. */
bool salvo_load_open_trace(salvo_load *load, const char *path, double scale, char *error,
                           size_t error_size);

/* Write what a source yields. load_json: the description, as in a result. */
bool salvo_load_write_file(const salvo_load *load, const char *path, json_t *load_json,
                           char *error, size_t error_size);
void salvo_load_free(salvo_load *load);

typedef struct salvo_load_source {
    const salvo_load *load;
    uint64_t index; /* of the next message */
    uint64_t last_ns;
    uint64_t end_ns;
    double step_at_ns, step_end_ns, at_ns; /* of the step that is played */
    size_t step;
    uint32_t burst_left;
    uint64_t arrival, size, key; /* random states */
    bool damaged; /* the file's times go backwards or a size is beyond its bound */
} salvo_load_source;

salvo_load_source salvo_load_begin(const salvo_load *load);

/* The next message and its index; false at the end. */
bool salvo_load_next(salvo_load_source *source, salvo_load_message *message, uint64_t *index);

#endif
