/* SPDX-License-Identifier: Apache-2.0
 *
 * What the memory broker was told to do (`memory_script`), for tests and rehearsals.
 *
 *   script   = [ step { ";" step } ]        spaces around steps are ignored
 *   step     = action [ "*" times ]         times: 1 to 1000000000, default 1
 *   action   = "ok"                         store, acknowledge
 *            | "fail:" status               store nothing, the whole batch fares so; "maybe": it
 *                                           is stored, but its acknowledgement is lost
 *            | "reject" | "maybe"           short for fail:rejected, fail:maybe
 *            | "partial:" n ":" status      the first n messages are stored, the rest fare so
 *            | "delay:" time                stored and acknowledged that long after the submit
 *            | "down:" time                 from when its turn comes nothing is taken and no
 *                                           topic's partitions are known, for that long
 *            | "fatal"                      the handle breaks: all that is out comes back FATAL
 *   status   = "transient" | "rejected" | "too_large" | "auth" | "unknown_topic" | "expired"
 *            | "maybe"
 *   time     = n ("us" | "ms" | "s")        1 us to 1000000 s
 *
 * Each batch that is taken uses up one step, in the order of submission by all flushers and
 * across re-opens; "down" is used up by time. After the last step all is ok for ever.
 */
#ifndef SALVO_MEMORY_SCRIPT_H
#define SALVO_MEMORY_SCRIPT_H

#include <stddef.h>
#include <stdint.h>

typedef enum salvo_memory_action {
    SALVO_MEMORY_OK,
    SALVO_MEMORY_FAIL,
    SALVO_MEMORY_PARTIAL,
    SALVO_MEMORY_DELAY,
    SALVO_MEMORY_DOWN,
    SALVO_MEMORY_FATAL
} salvo_memory_action;

typedef struct salvo_memory_step {
    salvo_memory_action action;
    int32_t status;   /* fail, partial */
    uint32_t keep;    /* partial: how many are stored */
    uint64_t time_ns; /* delay, down */
    uint64_t times;
} salvo_memory_step;

typedef struct salvo_memory_script {
    salvo_memory_step *steps;
    size_t count;
    size_t at;     /* the current step ... */
    uint64_t done; /* ... and how often it was used */
} salvo_memory_script;

/* 0, SALVO_ERR_CONFIG or SALVO_ERR_NOMEM with a text in error. text NULL: an empty script. */
int salvo_memory_script_parse(salvo_memory_script *script, const char *text, char *error,
                              size_t error_size);
void salvo_memory_script_free(salvo_memory_script *script);

/* The step whose turn it is ("ok" after the end), and going on to the next. */
salvo_memory_step salvo_memory_script_peek(const salvo_memory_script *script);
void salvo_memory_script_next(salvo_memory_script *script);

#endif
