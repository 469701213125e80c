/* SPDX-License-Identifier: Apache-2.0
 *
 * Topics at the broker: create, list, describe, ensure (salvo_topic_delete() is in salvo.h). A
 * topic is a Kafka topic, a Redis stream, a durable RabbitMQ queue, or one of the `memory` broker
 * of `producer`. Each call uses a connection of its own, on the calling thread, and blocks up to
 * timeout_ms (0: 10 s). Any thread. On failure salvo_last_error() says what, where, and what next.
 */
#ifndef SALVO_TOPICS_H
#define SALVO_TOPICS_H

#include <salvo/salvo.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SALVO_RETENTION_DEFAULT INT64_MIN /* the broker's; in an answer: it does not tell */
#define SALVO_RETENTION_FOREVER (-1)

typedef struct salvo_topic_spec { /* zero means default */
    size_t size;
    const char *name;
    int32_t partitions;         /* 0: 1. More than 1 is UNSUPPORTED on Redis and RabbitMQ */
    int32_t replication_factor; /* 0: 1. More than 1 is Kafka's alone */
    int64_t retention_ms;       /* SALVO_RETENTION_DEFAULT; 0 means that too. Not on `memory` and
                                   Redis; RabbitMQ's x-message-ttl */
    const char *cleanup_policy; /* NULL: the broker's; "delete", "compact", "compact,delete" */
} salvo_topic_spec;

typedef struct salvo_topic_info { /* -1, or "" where the broker has no such thing */
    char name[250];
    int32_t partitions, replication_factor;
    int64_t retention_ms;
    int64_t messages; /* held now; in Kafka the sum of end minus begin, which compaction makes an
                         upper bound */
    char cleanup_policy[32];
    uint32_t internal; /* the broker's own */
    uint32_t reserved;
} salvo_topic_info;

/* config NULL: the producer's, else what file and environment say. producer: NULL, or for `memory`
 * the producer whose broker it is; so in all calls below. Of what the broker cannot do (retention
 * on Redis ...) nothing is ignored: SALVO_ERR_UNSUPPORTED. SALVO_ERR_REJECTED: it exists. */
SALVO_API SALVO_MUST_USE int salvo_topic_create(const salvo_config *config, salvo *producer,
                                                const salvo_topic_spec *spec,
                                                uint32_t timeout_ms);

/* Writes at most max (sorted by name; message counts are left -1), returns how many there are.
 * UNSUPPORTED on RabbitMQ: AMQP cannot list queues. */
SALVO_API SALVO_MUST_USE int64_t salvo_topic_list(const salvo_config *config, salvo *producer,
                                                  salvo_topic_info *topics, size_t max,
                                                  uint32_t timeout_ms);
SALVO_API SALVO_MUST_USE int salvo_topic_describe(const salvo_config *config, salvo *producer,
                                                  const char *name, salvo_topic_info *info,
                                                  uint32_t timeout_ms);

/* Create it where it is not there. Where it is there and differs, nothing is changed: the
 * differences are written, a line each ("partitions: 3, wanted 6"); what spec leaves out (0, NULL)
 * may be anything. Returns 1 created, 0 there and as wanted, 2 there and different, or an error. */
SALVO_API SALVO_MUST_USE int salvo_topic_ensure(const salvo_config *config, salvo *producer,
                                                const salvo_topic_spec *spec, char *differences,
                                                size_t differences_size, uint32_t timeout_ms);

#ifdef __cplusplus
}
#endif
#endif
