/* SPDX-License-Identifier: Apache-2.0
 *
 * What the engine asks of a driver, and the whole of it.
 *
 * One handle belongs to one flusher thread: every slot below runs on that thread unless it says
 * otherwise, and none may block longer than the time it says. The contract of completion:
 * a token that submit() took (returned 0) comes back from poll() exactly once, whatever happens
 * (errors, re-open, close); until then the batch's bytes stay where they are and unchanged.
 * Who retries: the driver's library where it can; the engine re-submits what comes back as
 * SALVO_ERR_TRANSIENT (refused before it was sent) and, in order, what SALVO_ERR_FATAL brings
 * back from a handle that must be re-opened.
 */
#ifndef SALVO_DRIVER_H
#define SALVO_DRIVER_H

#include <salvo/reader.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SALVO_DRIVER_ABI 1u

/* Capabilities. */
#define SALVO_CAP_KEYS (1u << 0)
#define SALVO_CAP_HEADERS (1u << 1)
#define SALVO_CAP_PARTITIONS (1u << 2)
#define SALVO_CAP_TIMESTAMPS (1u << 3)
#define SALVO_CAP_ORDERED_RETRY (1u << 4) /* order per partition survives retries */
#define SALVO_CAP_OFFSETS (1u << 5)
#define SALVO_CAP_READ (1u << 6)
#define SALVO_CAP_OWN_RETRIES (1u << 7) /* its library retries, in order: the engine keeps more
                                          than one batch of a partition in flight */
#define SALVO_CAP_GROUPS (1u << 8) /* two groups that consume a topic each get all of it */

/* A message as a driver sees it: spans into the batch's arena blocks, stable until the outcome.
 * headers are packed: {u32 name_len, u32 value_len (UINT32_MAX: null), name, value} each. */
typedef struct salvo_driver_message {
    const void *value; /* NULL: null value */
    size_t value_len;
    const void *key; /* NULL: none */
    size_t key_len;
    const void *headers;
    uint32_t headers_bytes;
    int64_t timestamp_ms; /* 0: the driver stamps */
} salvo_driver_message;

/* What submit() gets: `count` messages for one partition, walked with salvo_batch_next(). */
typedef struct salvo_driver_batch {
    uint32_t topic;
    int32_t partition;
    uint32_t count;
    uint32_t extras;       /* not 0: some message has headers or a timestamp of its own */
    uint64_t bytes;        /* of keys, values and headers */
    uint64_t deadline_ns;  /* of its oldest message, on env->now_ns's clock */
    const void *walk;      /* the engine's: where the first message is */
} salvo_driver_batch;

/* Iterate: `struct salvo_driver_cursor c = {0}; while (salvo_batch_next(batch, &c, &m)) ...`.
 * Any thread while the token is out. Given by the engine (batch.c). */
typedef struct salvo_driver_cursor {
    const void *block;
    uint32_t offset, index;
} salvo_driver_cursor;
bool salvo_batch_next(const salvo_driver_batch *batch, salvo_driver_cursor *cursor,
                      salvo_driver_message *message);

/* Part of an outcome: messages [first, first + count) of the batch fared like this. */
typedef struct salvo_driver_range {
    uint32_t first, count;
    int32_t status;      /* 0 or salvo_err: TRANSIENT, FATAL (both resubmitted by the engine),
                            EXPIRED, MAYBE, REJECTED, TOO_LARGE, AUTH, UNKNOWN_TOPIC, DROPPED */
    int32_t reserved;
    int64_t base_offset; /* of message `first`; -1 unknown */
} salvo_driver_range;

typedef struct salvo_driver_outcome {
    uint64_t token;
    uint32_t range_count; /* ranges cover the batch, ascending, without gaps */
    const salvo_driver_range *ranges; /* valid until the next call of poll or close */
} salvo_driver_outcome;

typedef struct salvo_driver_credit { /* what submit() would take now */
    uint32_t batches;
    uint32_t messages;
    uint64_t bytes;
} salvo_driver_credit;

/* What of one partition may be out at a time: batches that are submitted in one round, while
 * nothing of it is out, up to both sums (the first batch always). 0: no bound. */
typedef struct salvo_driver_burst {
    uint64_t bytes; /* of keys, values and headers, and message_bytes for each message */
    uint32_t messages, message_bytes;
} salvo_driver_burst;

/* What the engine gives a driver at open; lives as long as the handle. */
typedef struct salvo_driver_env {
    const salvo_config *config;
    void *shared;                 /* from open_shared, one per producer */
    uint64_t (*now_ns)(void *clock);
    void *clock;
    void (*log)(int level, const char *format, ...) __attribute__((format(printf, 2, 3)));
    void (*wake)(void *flusher);  /* any thread: makes the flusher poll soon */
    void *flusher;
    uint32_t flusher_index, flusher_count;
    uint64_t queue_bytes;         /* the driver's share of buffer_bytes */
    uint32_t max_topics;
    uint32_t max_batches;         /* most tokens that are out at once */
} salvo_driver_env;

/* What a topic wants of its driver: its own options, else the configuration's. Lives as long as
 * the producer. Each driver reads what is its own. */
typedef struct salvo_driver_topic {
    const struct salvo_codec *codec;   /* NULL: payloads go as they are */
    uint32_t compress_least_bytes;     /* smaller values go as they are */
    uint64_t redis_maxlen;             /* 0: no bound */
    bool redis_nomkstream;
    bool rabbitmq_mandatory;
    const char *rabbitmq_exchange;     /* "": the default exchange */
    const char *rabbitmq_exchange_type; /* "": it must exist; else it is declared, durable */
    const char *rabbitmq_routing_key;  /* "": the topic's name */
} salvo_driver_topic;

typedef struct salvo_driver_ops {
    size_t size;
    uint32_t abi;
    const char *name;
    uint32_t (*capabilities)(const salvo_config *config);

    /* Bytes that one handle will use beside env->queue_bytes. Any thread, before open. */
    uint64_t (*overhead_bytes)(const salvo_config *config);

    /* For a library that sends one request of a partition after the other and would keep a core
     * busy while others wait for it; NULL: no bound. Any thread, before open. */
    void (*burst)(const salvo_config *config, salvo_driver_burst *burst);

    /* Once per producer, on the opening thread; may be NULL. close_shared after all handles. */
    int (*open_shared)(const salvo_config *config, void **shared, char *error, size_t error_size);
    void (*close_shared)(void *shared);

    /* Per flusher, on the opening thread. A broker that is down is not an error. */
    int (*open)(const salvo_driver_env *env, void **handle, char *error, size_t error_size);

    /* On the opening thread, right after open, only where the user asks for it: wait until a
     * broker answered (0), refused us, or timeout passed. Blocks up to timeout_ms. */
    int (*require)(void *handle, uint32_t timeout_ms, char *error, size_t error_size);

    /* Flusher: make a topic known under the producer's id. Never blocks; network work is the
     * driver's helper thread's. Idempotent. */
    int (*topic)(void *handle, uint32_t topic, const char *name,
                 const salvo_driver_topic *options);

    /* Flusher: > 0 the number of partitions, 0 not known yet, < 0 a permanent error
     * (UNKNOWN_TOPIC, AUTH). Never blocks. */
    int (*partitions)(void *handle, uint32_t topic);

    /* Flusher: what submit() would take now. */
    void (*credit)(void *handle, salvo_driver_credit *credit);

    /* Flusher: all or nothing. 0: taken, the token will come back. TRANSIENT: not now (nothing
     * was taken). Other errors: permanent for this batch, the token will not come back. */
    int (*submit)(void *handle, const salvo_driver_batch *batch, uint64_t token);

    /* Flusher: at most max outcomes that are ready now; > 0 how many, 0 none, FATAL: the handle
     * must be re-opened: all its tokens have come back before (as FATAL where undelivered). */
    int (*poll)(void *handle, salvo_driver_outcome *outcomes, uint32_t max);

    /* Flusher: send now what lingers in the library. Never blocks. */
    void (*flush)(void *handle);

    /* Flusher: descriptors that become readable when poll() has work; how many (<= max). */
    int (*descriptors)(void *handle, int *fds, int max);

    /* Give up what is out: afterwards poll() returns the remaining tokens at once, DROPPED where
     * surely unsent, MAYBE otherwise. Blocks up to timeout_ms. */
    void (*purge)(void *handle, uint32_t timeout_ms);

    /* After the last token came back. May block (called on a helper thread or at close). */
    void (*close)(void *handle);

    /* For people: "up", "down: connection refused" ... Any thread. */
    void (*state)(void *handle, char *text, size_t size);

    /* Reading; NULL without SALVO_CAP_READ. Any thread, one per reader; see salvo/reader.h. */
    int (*reader_open)(const salvo_config *config, void *shared, const char *topic,
                       const salvo_reader_options *options, void **reader, char *error,
                       size_t error_size);
    int (*reader_next)(void *reader, uint64_t timeout_ms, salvo_record *record, char *error,
                       size_t error_size);
    void (*reader_close)(void *reader);

    /* Any thread, with a connection of its own; NULL where topics end with their producer. Remove
     * a topic and what it holds: 0 also when there is none. Blocks up to timeout_ms. */
    int (*topic_delete)(const salvo_config *config, const char *topic, uint32_t timeout_ms,
                        char *error, size_t error_size);

    /* NULL where there is none of it; see driver_consumer.h. */
    const struct salvo_driver_consumer_ops *consumer;
    const struct salvo_driver_transaction_ops *transaction;
    const struct salvo_driver_topic_ops *topics;
} salvo_driver_ops;

/* The drivers of this build; NULL when there is none of that name. (drivers.c) */
const salvo_driver_ops *salvo_driver_find(const char *name);
extern const salvo_driver_ops salvo_driver_rabbitmq;
extern const salvo_driver_ops salvo_driver_memory, salvo_driver_null, salvo_driver_kafka;
extern const salvo_driver_ops salvo_driver_redis;

#endif
