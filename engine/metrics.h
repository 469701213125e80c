/* SPDX-License-Identifier: Apache-2.0
 *
 * Metrics inside the engine: what is known of producers at one moment, its text, its server.
 */
#ifndef SALVO_ENGINE_METRICS_H
#define SALVO_ENGINE_METRICS_H

#include <salvo/metrics.h>
#include <salvo/watch.h>
#include <stdbool.h>

typedef struct salvo_metrics_topic {
    char name[256];
    salvo_ledger ledger;
} salvo_metrics_topic;

typedef struct salvo_metrics_source { /* a producer, in memory of our own */
    char id[64];                      /* differs between the producers of a process too */
    salvo_watch_info info;
    bool known; /* there are counters; else it has not told any yet */
    salvo_stats stats;
    salvo_metrics_topic *topics;
    size_t topic_count;
    salvo_histogram *stages[SALVO_STAGES];
} salvo_metrics_source;

/* Of a live producer, whatever the state of its handle; 0 or SALVO_ERR_NOMEM. */
int salvo_metrics_take(salvo *producer, salvo_metrics_source *source);
void salvo_metrics_release(salvo_metrics_source *source);

/* The text. SALVO_ERR_IO: the stream failed. */
int salvo_metrics_render(const salvo_metrics_source *sources, size_t count,
                         salvo_metrics_format format, FILE *stream);

/* As salvo_metrics_serve(): producer's own where it is not NULL, else those of the directory. */
int salvo_metrics_serve_one(const char *listen, salvo *producer, const char *directory,
                            salvo_metrics_server **out);

#endif
