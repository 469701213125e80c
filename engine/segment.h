/* SPDX-License-Identifier: Apache-2.0
 *
 * A producer's counters in shared memory: layout, and the producer's side. watch.c reads it.
 *
 * Guarantees: all of the memory is reserved at open, so that no write meets a full file system
 * (SIGBUS); the file lies on a tmpfs, because a page of a disk's file stalls its writer while it
 * is written back; it is its owner's alone (0600) and is locked for as long as the producer lives.
 * Where it cannot be had, the same memory is private, and only watching is missing.
 *
 *   head | copy 0 | copy 1 | histograms [flushers][SALVO_STAGES]
 *
 * The histograms are the flushers' own. The counters are copies, by flusher 0: it fills the copy
 * that is not current, then makes it current by `generation`. A reader loads the generation g,
 * reads copy g % 2, and loads the generation again. Words are stored with release and loaded with
 * acquire: a reader that met a word of round g + 2 also sees generation >= g + 1 and reads again.
 */
#ifndef SALVO_SEGMENT_H
#define SALVO_SEGMENT_H

#include <salvo/watch.h>
#include <stdatomic.h>
#include <stdbool.h>

#define SALVO_SEGMENT_MAGIC UINT64_C(0x314745534f564c41)
enum {
    SALVO_SEGMENT_ABI = 1,
    SALVO_SEGMENT_TOPICS_MAX = 1024,
    SALVO_SEGMENT_DIGITS = 2, /* of the histograms */
    SALVO_SEGMENT_EVERY_MS = 100
};

typedef struct salvo_segment_head {
    _Atomic uint64_t magic; /* stored last, with release */
    uint32_t abi, flushers;
    uint32_t topics;        /* room for so many in a copy */
    uint32_t reserved;
    int64_t pid;
    uint64_t started_at_ms;
    char program[16], client_id[64], driver[16], version[16];
    _Alignas(64) _Atomic uint64_t generation; /* 0: no copy yet */
} salvo_segment_head;

typedef struct salvo_segment_topic {
    char name[256];
    salvo_ledger ledger;
} salvo_segment_topic;

typedef struct salvo_segment_copy {
    uint64_t updated_at_ms;
    uint64_t topic_count;
    salvo_stats stats; /* without the stages */
    salvo_segment_topic topics[];
} salvo_segment_copy;

_Static_assert(sizeof(salvo_segment_copy) % 8 == 0 && sizeof(salvo_segment_topic) % 8 == 0,
               "copied by words");

typedef struct salvo_segment_shape { /* offsets and sizes that follow from the head */
    size_t copy_bytes, copy_at[2], histogram_bytes, histograms_at, bytes;
} salvo_segment_shape;

typedef struct salvo_segment { /* the producer's side */
    salvo_segment_head *head;
    salvo_segment_shape shape;
    salvo_segment_copy *mine; /* where a copy is made */
    int fd;                   /* -1: private memory */
    uint64_t next_ns;
    char path[256];
} salvo_segment;

void salvo_segment_shape_of(uint32_t flushers, uint32_t topics, salvo_segment_shape *shape);
uint64_t salvo_segment_bytes(uint32_t flushers, uint32_t max_topics);

/* The directory that `configured` means, "" for the default: false when the text is too long. */
bool salvo_segment_directory(const char *configured, char *path, size_t size);

/* 0, SALVO_ERR_NOMEM, or with a configured directory that does not serve SALVO_ERR_CONFIG (text
 * set). shared false: private memory. */
struct salvo;
int salvo_segment_open(salvo_segment *s, const struct salvo *producer, bool shared);
void salvo_segment_close(salvo_segment *s); /* removes the file */

/* What it says of itself, as a watcher would see it now; path "" where the memory is private. */
void salvo_segment_info(const salvo_segment *s, salvo_watch_info *info);

/* Where the histogram of a flusher's stage lies, aligned to 64. */
void *salvo_segment_histogram(const salvo_segment *s, uint32_t flusher, salvo_stage stage);

/* Flusher 0, each round: a copy, when it is time. */
void salvo_segment_publish(salvo_segment *s, struct salvo *producer, uint64_t now_ns);

#endif
