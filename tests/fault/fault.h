/* SPDX-License-Identifier: Apache-2.0
 *
 * What the parts of the fault suite share. Three parties: the load, a process of its own so that
 * its memory is nobody else's, which sends numbered messages at a fixed rate and marks what was
 * acknowledged; the verifier, a thread that reads the broker (directly, never through the proxy),
 * trims it, and marks what is there; and the test, which breaks things and judges. They meet in
 * one piece of shared memory.
 */
#ifndef SALVO_FAULT_H
#define SALVO_FAULT_H

#include "calls.h"

#include <salvo/salvo.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    FAULT_THREADS = 2,
    FAULT_KEYS = 8, /* of each thread, in turn */
    FAULT_VALUE_BYTES = 100,
    FAULT_SETTINGS = 32,
    FAULT_PARTITIONS = 4,
    FAULT_MOST = 1 << 23, /* messages of one thread in one run */
    FAULT_WORDS = FAULT_MOST / 64
};

enum fault_phase { FAULT_HEALTHY, FAULT_STRUCK, FAULT_PHASES };

/* One bit a message of each thread. Relaxed: a bit is looked at by another party only after what
 * made it was joined, or again and again until it is there. */
typedef struct fault_bits {
    _Atomic uint64_t word[FAULT_THREADS][FAULT_WORDS];
} fault_bits;

typedef struct fault_verdict { /* the verifier's */
    _Atomic uint64_t read, distinct, duplicates, redelivered, disorder, corrupt;
    int64_t last[FAULT_THREADS][FAULT_KEYS]; /* first comings only; the verifier's own */
    char error[512];
} fault_verdict;

typedef struct fault_shared {
    /* The test's, before the load begins. */
    char driver[16], topic[96], address[64];
    char setting[FAULT_SETTINGS][2][256];
    uint32_t rate, flush_ms; /* messages a second of all threads together */
    bool verify_inside;      /* the broker lives in the load's process */
    /* The test's, while it runs. */
    _Atomic uint32_t phase, stop, stop_verifier;
    bool recovered; /* little waited again before the load was ended */
    uint64_t recovered_ns;
    /* The load's. */
    _Atomic uint32_t ready, done;
    char error[512];
    _Atomic uint64_t offered[FAULT_THREADS], pending, most_pending;
    _Atomic uint64_t acknowledged, maybe, other, twice; /* reports */
    _Atomic int32_t last_status;                        /* of a report that was not 0 */
    uint64_t memory_before, memory_peak; /* proportional set size, bytes */
    uint64_t sending_ns, flush_ns;
    int flushed, closed;
    salvo_stats stats; /* after the flush */
    salvo_ledger ledger; /* after the close */
    fault_calls calls[FAULT_PHASES];
    fault_verdict verdict;
    fault_bits acked, refused, seen;
} fault_shared;

/* load.c: the body of the load's process. */
int fault_load(fault_shared *shared);

/* value.c: the clock; message n of a thread, and what one that came back says it is. */
uint64_t fault_now_ns(void);
void fault_value_write(unsigned char value[FAULT_VALUE_BYTES], uint32_t thread, uint32_t n);
bool fault_value_read(const void *value, size_t len, uint32_t *thread, uint32_t *n);
size_t fault_key(char key[16], uint32_t thread, uint32_t n);
static inline bool fault_set_bit(fault_bits *bits, uint32_t thread, uint32_t n)
{
    uint64_t bit = UINT64_C(1) << (n % 64);
    return (atomic_fetch_or_explicit(&bits->word[thread][n / 64], bit, memory_order_relaxed) &
            bit) != 0;
}

/* verify.c: take what was read into account; the thread; what is still missing. */
void fault_take(fault_shared *shared, const void *key, size_t key_len, const void *value,
                size_t len, bool redelivered);
int fault_create_topic(fault_shared *shared);
int fault_verify_start(fault_shared *shared, salvo *producer);
void fault_verify_join(void);
uint64_t fault_lost(const fault_shared *shared, char *first, size_t size); /* acked, not there */
uint64_t fault_ghosts(const fault_shared *shared); /* reported as surely not sent, yet there */

/* A store that a verifier reads: open, up to some thousand records into fault_take(), trim. All
 * mend broken connections by themselves. read: how many, or -1 with verdict.error. */
typedef struct fault_store {
    const char *driver;
    int (*create)(fault_shared *shared); /* the topic, before the run */
    void *(*open)(fault_shared *shared, salvo *producer);
    int (*read)(void *store, fault_shared *shared);
    void (*close)(void *store, fault_shared *shared); /* and remove the topic */
} fault_store;
extern const fault_store fault_store_kafka, fault_store_memory, fault_store_redis,
    fault_store_rabbitmq;

/* broker.c: script/broker for an instance of this process. */
typedef struct fault_broker {
    const char *driver;
    uint16_t port, proxied_port; /* where clients of each kind connect to */
    int pid;
} fault_broker;
void fault_broker_start(fault_broker *broker, const char *driver, uint16_t proxy_port);
void fault_broker_kill(fault_broker *broker);
void fault_broker_restart(fault_broker *broker);
void fault_broker_signal(const fault_broker *broker, int signal);
void fault_broker_stop(fault_broker *broker);

#endif
