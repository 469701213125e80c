/* SPDX-License-Identifier: Apache-2.0
 *
 * Salvo: a producer engine. Application threads put messages into per-core lock-free rings;
 * flusher threads batch them into Kafka, Redis Streams, RabbitMQ or the embedded `memory` broker.
 *
 * After a thread's first send (or salvo_thread_attach) a send takes no lock, makes no system call
 * and allocates nothing until its ring is full (lock-free until full, not wait-free). A full ring
 * or topic share is met by the topic's policy. All calls may be made from any thread unless they
 * say otherwise. After fork() the child gets SALVO_ERR_FORKED; after salvo_close()
 * SALVO_ERR_CLOSED as long as the handle's memory lives (see salvo_close).
 * Acceptance level: `memory`: what is accepted is lost with the process.
 */
#ifndef SALVO_SALVO_H
#define SALVO_SALVO_H

#include <salvo/config.h>
#include <salvo/err.h>
#include <salvo/stats.h>
#include <salvo/version.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SALVO_PARTITION_ANY (-1)
#define SALVO_WAIT_FOREVER UINT64_MAX

typedef struct salvo_header {
    const char *name; /* at most 255 bytes */
    size_t name_len;
    const void *value; /* NULL with value_len 0 for a null value */
    size_t value_len;
} salvo_header;

/* One message. Zero-initialise, then set what is needed; nothing is kept after the call. */
typedef struct salvo_message {
    const void *value; /* NULL: a null value (a tombstone in Kafka), unlike a length of 0 */
    size_t value_len;  /* bytes */
    const void *key;   /* NULL: no key, unlike a length of 0 */
    size_t key_len;
    const salvo_header *headers;
    size_t header_count;    /* at most 64 */
    int64_t timestamp_ms;   /* Unix time; 0: when the driver takes it, soon after */
    uint64_t opaque;        /* comes back in the report */
    uint32_t ttl_ms;        /* 0: the producer's delivery_timeout_ms */
    int32_t partition_plus1; /* 0: chosen by key, or sticky; n + 1: partition n */
    uint32_t report;        /* not 0: a delivery report is wanted */
} salvo_message;

typedef struct salvo_bytes {
    const void *data;
    size_t len;
} salvo_bytes;

typedef enum salvo_policy { /* what a full ring or a full topic share does to a send */
    SALVO_POLICY_DEFAULT = 0, /* the configuration's full_policy */
    SALVO_POLICY_BLOCK = 1,   /* wait up to block_ms, then SALVO_ERR_TIMEOUT */
    SALVO_POLICY_FAIL = 2,    /* SALVO_ERR_FULL at once */
    SALVO_POLICY_DROP_NEWEST = 3 /* SALVO_ERR_FULL at once, counted as dropped by policy */
} salvo_policy;

typedef struct salvo_topic_options { /* zero means default */
    size_t size;
    salvo_policy full_policy;
    uint32_t block_ms;
    uint32_t linger_us;
    uint32_t batch_bytes;
    uint32_t batch_messages;
    /* Of the drivers; texts are copied, NULL or 0 means the configuration's. */
    const char *payload_compression; /* "none", "gzip", "lz4", "zstd", "snappy" */
    uint64_t redis_maxlen;           /* messages, roughly; UINT64_MAX: no bound */
    const char *rabbitmq_exchange, *rabbitmq_exchange_type, *rabbitmq_routing_key;
    uint32_t redis_nomkstream, rabbitmq_optional; /* 1: yes, 2: no; optional: not mandatory */
} salvo_topic_options;

typedef struct salvo_report {
    uint64_t opaque;
    int64_t offset;       /* -1 when unknown */
    int64_t timestamp_ms; /* as given, else when it was accepted */
    uint64_t latency_ns;  /* stamp to outcome */
    salvo_topic topic;
    int32_t partition; /* -1 when unknown */
    int32_t status;    /* 0 acknowledged; SALVO_ERR_EXPIRED, _MAYBE, _REJECTED, _TOO_LARGE, ... */
    uint32_t reserved;
} salvo_report;

/* Called on a flusher thread with up to some hundreds of reports, valid during the call. It must
 * not block: it holds up its flusher's deliveries. Waiting calls from it are SALVO_ERR_REENTRANT.*/
typedef void salvo_report_fn(void *context, const salvo_report *reports, size_t count);

typedef struct salvo_options { /* zero means default */
    size_t size;
    salvo_report_fn *on_report; /* NULL: reports are polled */
    void *report_context;
    uint32_t open_timeout_ms; /* with require_broker: how long to wait for it; default 10000 */
    uint32_t require_broker;  /* not 0: a broker that is down fails the open */
} salvo_options;

/* Open a producer. config NULL: file and environment are read as `salvo config` does. options
 * NULL: defaults. May block up to open_timeout_ms. On failure *out is NULL and salvo_last_error()
 * tells what to do. The memory it will use is computed here (salvo_stats.memory_bytes). */
SALVO_API SALVO_MUST_USE int salvo_open(const salvo_config *config, const salvo_options *options,
                                        salvo **out);

/* Resolve a topic once; the same name gives the same id (options of the first call hold). Name:
 * 1 to 249 of [A-Za-z0-9._-]. Takes a lock; never waits for the broker. */
SALVO_API SALVO_MUST_USE int salvo_topic_open(salvo *producer, const char *name,
                                              const salvo_topic_options *options,
                                              salvo_topic *out);

/* Remove a topic and all that it holds from the broker that the configuration names: a Kafka
 * topic, a Redis stream, a RabbitMQ queue; of `memory` and `null` nothing outlives the producer.
 * For tools that made the topic: nothing asks whether others use it. Blocks up to timeout_ms (0:
 * 10 s). 0: it is gone or was not there; else an error with salvo_last_error(). */
SALVO_API SALVO_MUST_USE int salvo_topic_delete(const salvo_config *config, const char *topic,
                                                uint32_t timeout_ms);

/* Give the calling thread its place (ring, counters), so that its first send is as fast as the
 * rest. Allocates. A thread's place is given back when it ends. */
SALVO_API SALVO_MUST_USE int salvo_thread_attach(salvo *producer);

/* Accept one message (copied). 0 or SALVO_ERR_FULL, _TIMEOUT, _TOO_LARGE, _INVALID, _LIMIT, ... */
SALVO_API SALVO_MUST_USE int salvo_send(salvo *producer, salvo_topic topic,
                                        const salvo_message *message);

/* Accept a value, with an optional key (NULL: none). The fastest way for one message. */
SALVO_API SALVO_MUST_USE int salvo_send_fire_and_forget(salvo *producer, salvo_topic topic,
                                                        const void *key, size_t key_len,
                                                        const void *value, size_t value_len);

/* Accept values[0..count), without keys, in order, by as few claims as possible. Returns how many
 * were accepted (a prefix; the ledger has the refused ones) or a negative error. */
SALVO_API SALVO_MUST_USE int64_t salvo_send_batch_fire_and_forget(salvo *producer,
                                                                  salvo_topic topic,
                                                                  const salvo_bytes *values,
                                                                  size_t count);

/* Send and wait for the outcome. 0: acknowledged, *report (may be NULL) is filled. TIMEOUT: still
 * pending, the message goes on; its late outcome is counted but reported to nobody. */
SALVO_API SALVO_MUST_USE int salvo_send_wait(salvo *producer, salvo_topic topic,
                                             const salvo_message *message, uint64_t timeout_ms,
                                             salvo_report *report);

/* Zero copy: a place for a value of len bytes. Write it, then commit or abort, soon: an open
 * claim holds others back (claim_stall_ms at most). Both by the claiming thread, once. */
typedef struct salvo_claim_slot {
    void *value;
    size_t len;
    uint64_t opaque_[6]; /* the engine's */
} salvo_claim_slot;
SALVO_API SALVO_MUST_USE int salvo_claim(salvo *producer, salvo_topic topic, const void *key,
                                         size_t key_len, size_t value_len,
                                         salvo_claim_slot *slot);
SALVO_API SALVO_MUST_USE int salvo_commit(salvo *producer, salvo_claim_slot *slot);
SALVO_API SALVO_MUST_USE int salvo_abort(salvo *producer, salvo_claim_slot *slot);

/* Take up to max reports; returns how many (0: none now) or an error. Any thread. Never blocks. */
SALVO_API SALVO_MUST_USE int salvo_poll_reports(salvo *producer, salvo_report *reports,
                                                size_t max);

/* A descriptor that is readable while reports wait; salvo_poll_reports() resets it. Owned by the
 * producer: do not read or close it. */
SALVO_API SALVO_MUST_USE int salvo_report_fd(salvo *producer);

/* Wait until all that was accepted before the call is settled. Cuts linger short. Returns 0,
 * SALVO_ERR_TIMEOUT (see salvo_get_ledger for what is pending) or SALVO_ERR_REENTRANT. It takes a
 * round of each flusher: a timeout of 0 starts one and gives SALVO_ERR_TIMEOUT. */
SALVO_API SALVO_MUST_USE int salvo_flush(salvo *producer, uint64_t timeout_ms);

/* Sends that wait for room, and from now on all that would, get SALVO_ERR_TIMEOUT at once: for a
 * program that ends while its broker takes nothing. All else goes on; there is no way back. Never
 * blocks; a waiting send hears of it within a millisecond. */
SALVO_API SALVO_MUST_USE int salvo_unblock(salvo *producer);

typedef struct salvo_close_report {
    salvo_ledger ledger;    /* at rest: pending is 0 */
    uint64_t undelivered;   /* failed + expired + dropped */
    uint64_t stuck_claims;  /* claims never committed, quarantined */
} salvo_close_report;

/* Refuse new messages, deliver what was accepted for up to timeout_ms, give up the rest (dropped,
 * or maybe_delivered where the broker may have it), end all threads, free everything. No other
 * call may be running or follow; calls that come anyway get SALVO_ERR_CLOSED while they can be
 * told. 0: everything was delivered; SALVO_ERR_DROPPED: see *report (may be NULL). */
SALVO_API SALVO_MUST_USE int salvo_close(salvo *producer, uint64_t timeout_ms,
                                         salvo_close_report *report);

/* The library's log hook, its only global setting. Level as syslog's (3 error .. 7 debug). NULL:
 * warnings and worse go to standard error. Set it before the first salvo_open(). */
SALVO_API void salvo_set_log(void (*log)(void *context, int level, const char *text),
                             void *context);

#ifdef __cplusplus
}
#endif
#endif
