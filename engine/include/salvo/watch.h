/* SPDX-License-Identifier: Apache-2.0
 *
 * Producers seen from outside: every producer keeps a copy of its counters in shared memory, ten
 * times a second, and its latency histograms all the time (keys stats_shared and stats_dir).
 * Another process of the same user reads them without the producer's help and without slowing it,
 * also when the producer is stopped or was killed. A process does not see its own producers here:
 * salvo_get_stats() and salvo_get_stage() tell it more.
 * What is read is another process's memory and is checked as such.
 */
#ifndef SALVO_WATCH_H
#define SALVO_WATCH_H

#include <salvo/histogram.h>
#include <salvo/stats.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct salvo_watch salvo_watch;

typedef struct salvo_watch_info {
    size_t size;            /* set by the caller: sizeof(salvo_watch_info) */
    int64_t pid;
    uint64_t started_at_ms; /* Unix time */
    uint64_t updated_at_ms; /* Unix time of the newest copy */
    uint32_t alive;         /* 0: ended without closing its producer */
    char program[16];       /* as ps shows it */
    char client_id[64];
    char driver[16];
    char version[16];
    char path[256];         /* for salvo_watch_open() */
} salvo_watch_info;

/* The producers of this user on this host, by the time of their start; those that died during the
 * last hour too, and older remains are removed. directory: NULL or "" for the default, else the
 * producers' stats_dir. infos[i].size need not be set. Returns how many there are, of which the
 * first max are written, or a negative error with salvo_last_error(). */
SALVO_API SALVO_MUST_USE int salvo_watch_list(const char *directory, salvo_watch_info *infos,
                                              size_t max);

/* Attach to one, dead or alive. 0, SALVO_ERR_INVALID (not such a file, damaged, another version,
 * another user's, this process's), SALVO_ERR_IO, SALVO_ERR_NOMEM. One thread at a time uses a
 * watch. */
SALVO_API SALVO_MUST_USE int salvo_watch_open(const char *path, salvo_watch **out);
SALVO_API void salvo_watch_close(salvo_watch *watch); /* NULL is allowed */

SALVO_API SALVO_MUST_USE int salvo_watch_get_info(salvo_watch *watch, salvo_watch_info *info);

/* A copy of the counters, all of one moment: read it, then ask for what it holds. 0, or
 * SALVO_ERR_TRANSIENT: there was none yet, or it changed all the time. SALVO_ERR_IO: somebody
 * cut the file off. */
SALVO_API SALVO_MUST_USE int salvo_watch_update(salvo_watch *watch);

/* Of the last update: as salvo_get_stats(); the stages' summaries are of now. */
SALVO_API SALVO_MUST_USE int salvo_watch_get_stats(salvo_watch *watch, salvo_stats *stats);

/* Of the last update: name (valid until the next update) and ledger of topic 0, 1, ...
 * SALVO_ERR_UNKNOWN_TOPIC after the last. Topics beyond the first 1024 are in the total only. */
SALVO_API SALVO_MUST_USE int salvo_watch_get_topic(salvo_watch *watch, salvo_topic topic,
                                                   const char **name, salvo_ledger *ledger);

/* Add a stage's counts as they are now (2 digits) to a histogram of the caller's. */
SALVO_API SALVO_MUST_USE int salvo_watch_get_stage(salvo_watch *watch, salvo_stage stage,
                                                   salvo_histogram *into);

#ifdef __cplusplus
}
#endif
#endif
