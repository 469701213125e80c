/* SPDX-License-Identifier: Apache-2.0
 *
 * Administration of Kafka: a client of its own per call, on the calling thread. Guarantees: a call
 * ends within its deadline (and a second); credentials that are refused are told at once, not at
 * the deadline; nothing joins a group, and no topic is made by looking at it.
 */
#ifndef SALVO_KAFKA_ADMIN_H
#define SALVO_KAFKA_ADMIN_H

#include "driver_consumer.h"
#include <librdkafka/rdkafka.h>

typedef struct salvo_kafka_admin {
    rd_kafka_t *rk;
    rd_kafka_queue_t *queue;
    uint64_t end_ns;
    uint32_t timeout_ms;
    const char *servers; /* the configuration's */
    bool refused;        /* these two: the last trouble, from error_cb on this thread */
    char reason[256];
} salvo_kafka_admin;

/* group: NULL, or whose offsets are asked for. 0 or CONFIG with *error; then nothing is open. */
int salvo_kafka_admin_open(salvo_kafka_admin *a, const salvo_config *config, const char *group,
                           uint32_t timeout_ms, char *error, size_t error_size);
void salvo_kafka_admin_close(salvo_kafka_admin *a);

int salvo_kafka_admin_left_ms(const salvo_kafka_admin *a); /* at least 1 */

/* For one request of that kind; the caller destroys it. */
rd_kafka_AdminOptions_t *salvo_kafka_admin_options(const salvo_kafka_admin *a,
                                                   rd_kafka_admin_op_t op);
/* The answer to a request on a->queue, or NULL: none came, see salvo_kafka_admin_fail(). */
rd_kafka_event_t *salvo_kafka_admin_wait(salvo_kafka_admin *a);

/* What an error about `what` ("topic 'x'") means: a salvo_err, with its line in *error. text:
 * the broker's own words, or NULL. */
int salvo_kafka_admin_fail(salvo_kafka_admin *a, rd_kafka_resp_err_t err, const char *text,
                           const char *what, char *error, size_t error_size);

/* Metadata of the topic (NULL: of all), to be destroyed by rd_kafka_metadata_destroy(); in the
 * first case the topic is there and has partitions. NULL with *err and its line. */
const struct rd_kafka_metadata *salvo_kafka_admin_metadata(salvo_kafka_admin *a,
                                                           const char *topic, int *err,
                                                           char *error, size_t error_size);

/* Of all partitions, in their order: RD_KAFKA_OFFSET_BEGINNING, _END, or _STORED: what the client's
 * group committed. *out is NULL after an error. */
rd_kafka_resp_err_t salvo_kafka_admin_offsets(salvo_kafka_admin *a, const char *topic,
                                              int32_t partitions, int64_t which,
                                              rd_kafka_topic_partition_list_t **out);
/* Where each partition begins and ends, by librdkafka's lists [partition]. 0 or an error. */
int salvo_kafka_admin_bounds(salvo_kafka_admin *a, const char *topic, int32_t partitions,
                             rd_kafka_topic_partition_list_t **first,
                             rd_kafka_topic_partition_list_t **last, char *error,
                             size_t error_size);

int salvo_kafka_topic_delete(const salvo_config *config, const char *topic, uint32_t timeout_ms,
                             char *error, size_t error_size);

/* kafka_describe.c */
int64_t salvo_kafka_topic_list(const salvo_config *config, void *shared,
                               salvo_topic_info **topics, uint32_t timeout_ms, char *error,
                               size_t error_size);
int salvo_kafka_topic_describe(const salvo_config *config, void *shared, const char *name,
                               salvo_topic_info *info, uint32_t timeout_ms, char *error,
                               size_t error_size);

/* kafka_lag.c: for the consumer's table. */
int64_t salvo_kafka_group_lag(const salvo_config *config, void *shared, const char *group,
                              const char *topic, salvo_lag *lags, size_t max,
                              uint32_t timeout_ms, char *error, size_t error_size);

extern const salvo_driver_topic_ops salvo_kafka_topic_ops;

#endif
