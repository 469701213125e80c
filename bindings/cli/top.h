/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of `salvo top` share: producers as they were seen last and before that, and what
 * follows from the two. All of it comes from salvo/watch.h; nothing here reaches into a producer.
 */
#ifndef SALVO_CLI_TOP_H
#define SALVO_CLI_TOP_H

#include "picture.h"

#include <salvo/watch.h>

enum { TOP_HISTORY = 120, TOP_PRODUCERS_MAX = 256 };

typedef struct top_topic {
    char name[256];
    salvo_ledger ledger;
} top_topic;

typedef struct top_look { /* one moment */
    bool known;           /* there was a copy to read */
    uint64_t at_ms;       /* of the copy, Unix time */
    salvo_stats stats;
    top_topic *topics;
    size_t topic_count;
} top_look;

typedef struct top_source {
    salvo_watch *watch;
    salvo_watch_info info;
    bool listed;   /* its file is there; else it was closed */
    top_look now, before;
    double seconds; /* between the two; 0: one look, or nothing new */
    salvo_histogram *start[SALVO_STAGES], *mark[SALVO_STAGES];
    salvo_latency interval[SALVO_STAGES];
    double history[TOP_HISTORY]; /* acknowledged a second, oldest first */
    size_t history_count;
} top_source;

typedef struct top_view {
    const char *directory; /* NULL: the default */
    const char *who;       /* PID, program or client id; NULL: all */
    uint64_t interval_ms;
    top_source *sources[TOP_PRODUCERS_MAX];
    size_t count;
} top_view;

/* Look for producers, and look at each. How many are there; negative after a printed error. */
int salvo_top_look(top_view *view);
void salvo_top_free(top_view *view);

/* (now - before) a second, 0 where that cannot be told. */
double salvo_top_rate(const top_source *source, uint64_t now, uint64_t before);
uint64_t salvo_top_refused(const salvo_ledger *ledger);

/* Its topics by how many were offered since the last look, then since the start: indexes into
 * source->now.topics, at most max. */
size_t salvo_top_busiest(const top_source *source, size_t *topics, size_t max);

/* "alive", "not answering", "closed" or "dead", and since when (0: not known). */
const char *salvo_top_state(const top_source *source, uint64_t *since_ms);

void salvo_top_draw_one(const salvo_picture *picture, const top_source *source);
void salvo_top_draw_list(const salvo_picture *picture, const top_view *view);

/* One object on one line; false: it could not be written. */
bool salvo_top_json(const top_view *view, FILE *to);

#endif
