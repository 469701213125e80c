/* SPDX-License-Identifier: Apache-2.0
 *
 * What the engine asks of a driver for consuming, transactions and topics: tables beside
 * salvo_driver_ops, NULL where the driver has none of it.
 *
 * One handle is one consumer. The engine (consumer.c) gives messages their ids, bounds what is in
 * hand, and serialises: all slots of a handle run on the polling thread, but where a slot says
 * "any thread". Acknowledgements reach the driver as tags, before or in the next poll or commit.
 * Offsets that may be committed are worked out by the driver with window.h.
 */
#ifndef SALVO_DRIVER_CONSUMER_H
#define SALVO_DRIVER_CONSUMER_H

#include <salvo/consumer.h>
#include <salvo/topics.h>
#include <salvo/transaction.h>
#include <stdbool.h>

/* A driver's name for a message in hand: Kafka {claim, offset}, Redis {ms, seq}, RabbitMQ's
 * delivery tag. claim: the driver's number for "this partition (stream, connection) as it was
 * assigned to us this time"; never reused. When it ends the driver says so (revoked), and
 * the engine forgets its messages and passes no more of its tags. */
typedef struct salvo_driver_tag {
    uint32_t claim;
    uint32_t reserved;
    uint64_t a, b;
} salvo_driver_tag;

typedef struct salvo_driver_delivery {
    salvo_record record; /* bytes valid until the next poll */
    salvo_driver_tag tag;
    uint32_t deliveries;
} salvo_driver_delivery;

typedef struct salvo_consumer_env { /* lives as long as the handle */
    const salvo_config *config;
    void *shared; /* memory: the producer's broker */
    const salvo_consumer_options *options; /* complete: defaults are filled in */
    void (*log)(int level, const char *format, ...) __attribute__((format(printf, 2, 3)));
    /* In poll, seek, rewind and close only. */
    void (*revoked)(void *consumer, uint32_t claim);
    void (*count)(void *consumer, int what, int64_t change); /* SALVO_COUNT_... */
    void *consumer;
} salvo_consumer_env;

enum { SALVO_COUNT_REBALANCES, SALVO_COUNT_COMMITS, SALVO_COUNT_COMMIT_FAILURES,
       SALVO_COUNT_ASSIGNED };

typedef struct salvo_driver_consumer_ops {
    /* Any thread. Blocks up to options->open_timeout_ms until the broker answered. */
    int (*open)(const salvo_consumer_env *env, void **handle, char *error, size_t error_size);

    /* At most max deliveries (0: only heartbeats, rebalancing, due commits). Waits up to
     * timeout_ms, or until `wake`. >= 0 how many, or an error with its text. */
    int (*poll)(void *handle, uint64_t timeout_ms, salvo_driver_delivery *deliveries, size_t max,
                char *error, size_t error_size);

    /* Any thread: readable while poll(0) may give something or has work. */
    int (*descriptor)(void *handle);
    void (*wake)(void *handle); /* any thread, or a signal handler: ends a poll that waits */

    /* These are settled. Never blocks; what the broker must hear goes out in poll, at the interval
     * of the options, or in commit. */
    void (*ack)(void *handle, const salvo_driver_tag *tags, size_t count);
    int (*commit)(void *handle, uint64_t timeout_ms, char *error, size_t error_size);

    /* NULL: no offsets. SALVO_OFFSET_BEGIN and _END are allowed. Ends the claim (revoked). */
    int (*seek)(void *handle, const char *topic, int32_t partition, int64_t offset, char *error,
                size_t error_size);
    /* Ends all claims (revoked) and reads on from what is committed. Redis and RabbitMQ: what is
     * in hand is given again. */
    int (*rewind)(void *handle, char *error, size_t error_size);
    int (*pause)(void *handle, const char *topic, int32_t partition, bool paused, char *error,
                 size_t error_size);
    int64_t (*lag)(void *handle, salvo_lag *lags, size_t max, uint64_t timeout_ms, char *error,
                   size_t error_size);
    void (*state)(void *handle, char *text, size_t size); /* any thread */
    int (*close)(void *handle, uint64_t timeout_ms, char *error, size_t error_size);

    /* Any thread, without a handle: salvo_group_lag(). */
    int64_t (*group_lag)(const salvo_config *config, void *shared, const char *group,
                         const char *topic, salvo_lag *lags, size_t max, uint32_t timeout_ms,
                         char *error, size_t error_size);
} salvo_driver_consumer_ops;

typedef struct salvo_driver_transaction_ops {
    int (*open)(const salvo_config *config, const char *id, uint32_t timeout_ms, void **handle,
                char *error, size_t error_size);
    int (*begin)(void *handle, char *error, size_t error_size);
    int (*send)(void *handle, const char *topic, const salvo_message *message,
                uint64_t timeout_ms, char *error, size_t error_size);
    /* consumer: the driver's handle of it, or NULL. */
    int (*commit)(void *handle, void *consumer, uint32_t timeout_ms, char *error,
                  size_t error_size);
    int (*abort)(void *handle, uint32_t timeout_ms, char *error, size_t error_size);
    void (*close)(void *handle, uint32_t timeout_ms);
} salvo_driver_transaction_ops;

/* What a topic of this broker can be given; the engine refuses the rest. */
#define SALVO_TOPIC_CAN_PARTITIONS (1u << 0)
#define SALVO_TOPIC_CAN_REPLICAS (1u << 1)
#define SALVO_TOPIC_CAN_RETENTION (1u << 2)
#define SALVO_TOPIC_CAN_COMPACT (1u << 3)

typedef struct salvo_driver_topic_ops { /* any thread; see salvo/topics.h */
    uint32_t can;
    /* The spec is checked and complete: counts are not 0. */
    int (*create)(const salvo_config *config, void *shared, const salvo_topic_spec *spec,
                  uint32_t timeout_ms, char *error, size_t error_size);
    /* How many; *topics (by malloc, any order, the caller's) gets them. NULL: it cannot list. */
    int64_t (*list)(const salvo_config *config, void *shared, salvo_topic_info **topics,
                    uint32_t timeout_ms, char *error, size_t error_size);
    /* *info is all zero before. */
    int (*describe)(const salvo_config *config, void *shared, const char *name,
                    salvo_topic_info *info, uint32_t timeout_ms, char *error, size_t error_size);
} salvo_driver_topic_ops;

#endif
