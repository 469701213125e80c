/* SPDX-License-Identifier: Apache-2.0
 *
 * The producer handle: what its parts share, and who may touch what.
 *
 * The handle is one page of its own, wiped in a forked child (MADV_WIPEONFORK) and never
 * unmapped: so `live` can be asked after fork and after close, and an address is never used by
 * two producers. Everything after `live` is set at open and only read afterwards, or is atomic.
 */
#ifndef SALVO_PRODUCER_H
#define SALVO_PRODUCER_H

#include "clock.h"
#include "driver.h"
#include "ring.h"
#include "segment.h"
#include "tape.h"
#include "topic.h"
#include "wait.h"

#include <pthread.h>

typedef struct salvo_thread salvo_thread;
typedef struct salvo_flusher salvo_flusher;
typedef struct salvo_reports salvo_reports;

enum { /* live; a wiped page reads 0 */
    SALVO_LIVE_FORKED = 0,
    SALVO_LIVE_OPEN = 1,
    SALVO_LIVE_CLOSING = 2,
    SALVO_LIVE_CLOSED = 3
};

typedef struct salvo_settings { /* from the configuration, checked, in the engine's units */
    uint64_t buffer_bytes, arena_bytes, driver_bytes;
    uint32_t ring_bytes, ring_descriptors, rings, flushers;
    uint32_t max_message_bytes, max_topics, max_threads, max_reports, max_in_flight_batches;
    uint32_t batch_bytes, batch_messages;
    uint64_t linger_ns, delivery_timeout_ns, retry_backoff_ns, retry_backoff_max_ns;
    uint64_t claim_stall_ns, park_max_ns;
    uint32_t block_ms, enqueue_sample;
    salvo_policy full_policy;
    enum { SALVO_IDLE_BUSY, SALVO_IDLE_ADAPTIVE, SALVO_IDLE_PARK } idle;
    bool wake_idle;
    salvo_clock_kind clock;
} salvo_settings;

typedef struct salvo_place { /* what a thread's key points to; outlives close */
    salvo *producer;
    uint32_t slot;
} salvo_place;

struct salvo {
    _Atomic uint32_t live;
    salvo_settings settings;
    salvo_clock clock;
    const salvo_driver_ops *driver;
    salvo_config *config; /* a copy of the user's, secrets included */
    void *driver_shared;
    uint32_t capabilities;
    salvo_driver_burst burst;
    uint64_t memory_bytes;
    salvo_segment segment;    /* counters, for readers outside */
    salvo_taping taping;      /* what is sent, for a recorder outside */
    struct salvo_metrics_server *metrics; /* NULL: none is asked for */
    salvo_topic_table topics;
    salvo_ring *rings;        /* [flusher * settings.rings + ring] */
    salvo_flusher *flushers;  /* [settings.flushers] */
    salvo_reports *reports;
    salvo_event settled;      /* flush and close wait here */
    salvo_event space;        /* blocked senders wait here */
    _Atomic uint32_t space_waiters;
    atomic_bool unblocked;    /* salvo_unblock() was called: none waits there any more */

    pthread_mutex_t lock;     /* cold: attach, detach */
    pthread_key_t thread_key; /* gives a thread's place back when it ends */
    salvo_thread **threads;   /* [max_threads]; a slot once set is never freed before close */
    _Atomic uint32_t thread_count;
    salvo_place *places;      /* [max_threads]; wiped in a child, never unmapped */
    uint32_t *ring_users;     /* threads per ring, under lock */
    bool stepped;             /* tests: no flusher threads, do_work is called by hand */
};

/* For tests and plans: a clock of theirs, and flushers that they step by hand. A plan also brings
 * its driver and the cores of its host, and has ledgers of sizes in the place of rings. */
typedef struct salvo_producer_hooks {
    uint64_t (*clock)(void *context);
    void *clock_context;
    bool stepped;
    bool sizes_only;  /* each flusher's `sizes`; see plan/sizes.h */
    uint32_t cores;   /* 0: those of this host */
    const salvo_driver_ops *driver; /* NULL: the configuration's */
    void *driver_shared;            /* of that driver */
} salvo_producer_hooks;

int salvo_producer_open(const salvo_config *config, const salvo_options *options,
                        const salvo_producer_hooks *hooks, salvo **out);

/* 0, SALVO_ERR_INVALID, _FORKED or _CLOSED; a closing producer still answers. */
int salvo_producer_check(const salvo *producer);

salvo_ring_options salvo_settings_ring(const salvo_settings *s); /* how each ring is opened */

/* Fill settings from a configuration; SALVO_ERR_CONFIG with the text set. */
int salvo_settings_read(const salvo_config *config, const salvo_driver_ops *driver,
                        uint32_t cores, salvo_settings *settings);
uint64_t salvo_settings_memory(const salvo_settings *settings);
uint32_t salvo_usable_cores(void); /* the smaller of affinity and cgroup quota */

/* The ledger of a topic or of all, whatever the state of the handle. */
int salvo_ledger_read(salvo *producer, salvo_topic topic, salvo_ledger *ledger);

/* All of the statistics but the stages, whatever the state of the handle. */
void salvo_stats_fill(salvo *producer, salvo_stats *stats);

/* The way of readers, consumers and topic calls to the memory broker; see choose.h. */
void *salvo_producer_shared(salvo *producer);
const salvo_driver_ops *salvo_producer_driver(salvo *producer);
const salvo_config *salvo_producer_config(salvo *producer);

extern _Thread_local bool salvo_in_callback;

#endif
