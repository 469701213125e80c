/* SPDX-License-Identifier: Apache-2.0
 *
 * Consuming: members of a group share the partitions of a Kafka topic, the entries of a Redis
 * stream, the messages of a RabbitMQ queue, or what the `memory` broker of this process holds.
 *
 * At least once: what was given and not acknowledged is given again, to this or another member of
 * the group. Nothing is acknowledged to the broker before salvo_consumer_ack(); where the broker
 * knows offsets, what is committed is the lowest one that is not settled yet, however the
 * acknowledgements come.
 *
 * Threads: one at a time polls, commits, seeks and closes; ack, is_held, pause, resume, lag, stats
 * and wake may be called by any thread meanwhile. salvo_consumer_poll() must be called often
 * (each 100 ms or when the descriptor is readable, with max 0 where nothing more is wanted):
 * rebalancing, heartbeats and commits happen in it.
 */
#ifndef SALVO_CONSUMER_H
#define SALVO_CONSUMER_H

#include <salvo/reader.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SALVO_OFFSET_BEGIN (-2)
#define SALVO_OFFSET_END (-1)
#define SALVO_PARTITION_ALL (-1)

typedef struct salvo_consumer salvo_consumer;

typedef struct salvo_consumer_options { /* zero means default */
    size_t size;
    const char *group;         /* required; 1 to 249 bytes */
    const char *const *topics; /* required, and how many */
    size_t topic_count;
    const char *member;        /* a name in the group, kept over restarts (Redis' consumer, Kafka's
                                  group.instance.id); NULL: a fresh one */
    uint32_t max_in_hand;      /* given and not settled, most; default: 10 times
                                  kafka_max_poll_records. RabbitMQ's prefetch */
    uint32_t open_timeout_ms;  /* default 10000 */
    uint32_t transactional;    /* not 0: nothing is committed but by salvo_transaction_commit() */
    uint32_t manual_commit;    /* 1: committed only by salvo_consumer_commit(); 2: every
                                  kafka_auto_commit_interval_ms, at a rebalance and at close; 0: as
                                  kafka_enable_auto_commit says */
} salvo_consumer_options;

typedef struct salvo_delivered {
    salvo_record record;  /* its bytes are valid until the next poll */
    uint64_t id;          /* names it to ack and is_held; never 0, never reused */
    uint32_t deliveries;  /* how often it was given to anybody, this time included; 0: unknown. On
                             RabbitMQ and `memory` 2 means before, no matter how often */
    uint32_t reserved;
} salvo_delivered;

typedef struct salvo_consumer_stats { /* since the open */
    size_t size;
    uint64_t received, acknowledged;
    uint64_t lost;      /* in hand when their partition, or claim, went to another member */
    uint64_t in_hand;   /* now */
    uint64_t redelivered, rebalances, commits, commit_failures;
    uint32_t assigned;  /* partitions, now; streams or queues where there are none */
    uint32_t reserved;
    char broker_state[96];
} salvo_consumer_stats;

typedef struct salvo_lag { /* of a partition; streams and queues are partition 0 */
    char topic[250];
    int32_t partition;
    int64_t committed; /* the next offset of the group; -1: none yet */
    int64_t end;       /* one past the last; -1: unknown */
    int64_t lag;       /* messages that the group has still to settle; -1: unknown */
} salvo_lag;

/* Join. producer: NULL, or for `memory` the producer whose broker is read. Topics need not exist
 * where the broker makes them. Blocks up to open_timeout_ms until a broker answered (joining may
 * still be under way). On failure *out is NULL and salvo_last_error() says why. */
SALVO_API SALVO_MUST_USE int salvo_consumer_open(const salvo_config *config, salvo *producer,
                                                 const salvo_consumer_options *options,
                                                 salvo_consumer **out);

/* The next messages, at most max, in order within a partition: 0 and *count > 0, or
 * SALVO_ERR_TIMEOUT (*count 0; also after wake), or an error that names what to do. A broker that
 * is away is no error: its state is in the stats. With max 0 only its own work is done, without
 * waiting. With max_in_hand messages unsettled nothing more is given. Gives at most
 * kafka_max_poll_records. */
SALVO_API SALVO_MUST_USE int salvo_consumer_poll(salvo_consumer *consumer, uint64_t timeout_ms,
                                                 const salvo_delivered **messages, size_t max,
                                                 size_t *count);

/* Readable while a poll may give something; with max_in_hand messages unsettled maybe too. Owned by
 * the consumer: do not read or close it. */
SALVO_API SALVO_MUST_USE int salvo_consumer_fd(salvo_consumer *consumer);

/* These were processed. Returns how many of them were still ours to settle, or an error. Unknown
 * and settled ids count nothing. Takes a short lock; never waits for the broker. */
SALVO_API int64_t salvo_consumer_ack(salvo_consumer *consumer, const uint64_t *ids, size_t count);

/* 1: unsettled and still ours; 0: settled, or another member has it. */
SALVO_API int salvo_consumer_is_held(salvo_consumer *consumer, uint64_t id);

/* Make the broker know what is acknowledged, now. Blocks up to timeout_ms. */
SALVO_API SALVO_MUST_USE int salvo_consumer_commit(salvo_consumer *consumer, uint64_t timeout_ms);

/* Read on from an offset (or SALVO_OFFSET_BEGIN, _END); what is in hand of that partition is lost
 * to this member. SALVO_ERR_UNSUPPORTED where there are no offsets to seek. */
SALVO_API SALVO_MUST_USE int salvo_consumer_seek(salvo_consumer *consumer, const char *topic,
                                                 int32_t partition, int64_t offset);

/* Forget what is in hand and read on from what is committed. */
SALVO_API SALVO_MUST_USE int salvo_consumer_rewind(salvo_consumer *consumer);

/* Give nothing more of a partition (SALVO_PARTITION_ALL: of the topic) until resume. */
SALVO_API SALVO_MUST_USE int salvo_consumer_pause(salvo_consumer *consumer, const char *topic,
                                                  int32_t partition);
SALVO_API SALVO_MUST_USE int salvo_consumer_resume(salvo_consumer *consumer, const char *topic,
                                                   int32_t partition);

/* Where this member stands, by its partitions: writes at most max, returns how many there are or
 * an error. Blocks up to timeout_ms. */
SALVO_API SALVO_MUST_USE int64_t salvo_consumer_lag(salvo_consumer *consumer, salvo_lag *lags,
                                                    size_t max, uint64_t timeout_ms);

/* Where a group stands on a topic, without joining it. producer: as in salvo_consumer_open. */
SALVO_API SALVO_MUST_USE int64_t salvo_group_lag(const salvo_config *config, salvo *producer,
                                                 const char *group, const char *topic,
                                                 salvo_lag *lags, size_t max,
                                                 uint32_t timeout_ms);

/* Set stats->size first. */
SALVO_API SALVO_MUST_USE int salvo_consumer_get_stats(salvo_consumer *consumer,
                                                      salvo_consumer_stats *stats);

/* End a poll that waits, from any thread or a signal handler. */
SALVO_API void salvo_consumer_wake(salvo_consumer *consumer);

/* Commit what is acknowledged, give the rest back, leave the group. Blocks up to timeout_ms.
 * 0, or the error of the last commit; it is closed either way. */
SALVO_API int salvo_consumer_close(salvo_consumer *consumer, uint64_t timeout_ms);

#ifdef __cplusplus
}
#endif
#endif
