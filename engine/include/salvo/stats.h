/* SPDX-License-Identifier: Apache-2.0
 *
 * What a producer knows of itself: the ledger, the stages' latency, the machinery.
 * Every function here may be called from any thread at any time before salvo_close() and takes
 * no lock that a send or a flusher takes.
 */
#ifndef SALVO_STATS_H
#define SALVO_STATS_H

#include <salvo/err.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct salvo salvo;
typedef uint32_t salvo_topic; /* index of a topic in its producer */
#define SALVO_ALL_TOPICS UINT32_MAX

/* offered = accepted + refused_*
 * accepted = acknowledged + failed + expired + dropped + pending
 * Live: outcomes are read first and accepted last, so pending is never negative.
 * At rest pending equals pending_counted, which is counted in rings, batches and flight. */
typedef struct salvo_ledger {
    uint64_t offered;
    uint64_t accepted;
    uint64_t refused_full;      /* policy `fail`: ring or share was full */
    uint64_t refused_dropped;   /* policy `drop_newest` */
    uint64_t refused_timeout;   /* policy `block`: the deadline passed */
    uint64_t refused_too_large;
    uint64_t refused_invalid;   /* bad partition, headers, closed, no report slot */
    uint64_t acknowledged;
    uint64_t failed;            /* includes maybe_delivered */
    uint64_t maybe_delivered;   /* part of failed: fate unknown */
    uint64_t expired;
    uint64_t dropped;           /* given up at close */
    uint64_t pending;           /* accepted - outcomes */
    uint64_t pending_counted;   /* counted independently */
} salvo_ledger;

typedef enum salvo_stage {
    SALVO_STAGE_ENQUEUE = 0, /* inside the send call, sampled */
    SALVO_STAGE_QUEUE = 1,   /* commit to drain */
    SALVO_STAGE_BROKER = 2,  /* submit to outcome */
    SALVO_STAGE_TOTAL = 3,   /* stamp to outcome */
    SALVO_STAGES = 4
} salvo_stage;

typedef struct salvo_latency { /* nanoseconds; 0 when count is 0 */
    uint64_t count, min, mean, p50, p90, p99, p999, p9999, max;
} salvo_latency;

typedef struct salvo_stats {
    size_t size;                 /* set by the caller: sizeof(salvo_stats) */
    salvo_ledger total;
    salvo_latency stage[SALVO_STAGES];
    uint64_t memory_bytes;       /* computed at open: rings + arena + driver's queues + tables */
    uint64_t ring_bytes, ring_used_bytes;
    uint64_t arena_bytes, arena_used_bytes;
    uint64_t in_flight_messages, in_flight_batches;
    uint64_t batches;            /* closed so far */
    uint64_t closed_by_bytes, closed_by_count, closed_by_linger, closed_by_waiter;
    uint64_t retries;            /* batches submitted again by the engine */
    uint64_t reopens;            /* fatal errors of the driver that were mended by re-opening */
    uint64_t broker_errors;      /* transient errors seen */
    uint64_t stalled_claims;     /* claims that stayed uncommitted for claim_stall_ms, so far */
    uint32_t stalled_ring;       /* the ring of the latest one ... */
    uint64_t stalled_since_ns;   /* ... and since when: ns ago; 0: none is stuck now */
    uint32_t rings, flushers, topics, threads;
    uint64_t reports_waiting;    /* reports ready to be polled */
    char driver[16];
    char clock[16];              /* "tsc" or "monotonic" */
    char broker_state[96];       /* "up", "up: io_uring", "blocked: ...", "down: ..." */
} salvo_stats;

/* Fill *stats. 0, SALVO_ERR_INVALID, SALVO_ERR_CLOSED or SALVO_ERR_FORKED. Never blocks. */
SALVO_API SALVO_MUST_USE int salvo_get_stats(salvo *producer, salvo_stats *stats);

/* The ledger of one topic, or of all with SALVO_ALL_TOPICS. */
SALVO_API SALVO_MUST_USE int salvo_get_ledger(salvo *producer, salvo_topic topic,
                                              salvo_ledger *ledger);

/* Add a stage's counts as they are now (2 digits are kept) to a histogram of the caller's; see
 * salvo/histogram.h. */
typedef struct salvo_histogram salvo_histogram;
SALVO_API SALVO_MUST_USE int salvo_get_stage(salvo *producer, salvo_stage stage,
                                             salvo_histogram *into);

/* Write a stage's percentile distribution in HdrHistogram's text form (value, percentile,
 * count, 1/(1-p)), values in microseconds. SALVO_ERR_IO when the stream failed. */
SALVO_API SALVO_MUST_USE int salvo_write_percentiles(salvo *producer, salvo_stage stage,
                                                     FILE *stream);

#ifdef __cplusplus
}
#endif
#endif
