/* SPDX-License-Identifier: Apache-2.0
 *
 * What the Kafka driver's clients (consumer, transaction) share: their end, their log lines, and
 * which errors of librdkafka pass by themselves.
 */
#ifndef SALVO_KAFKA_CLIENT_H
#define SALVO_KAFKA_CLIENT_H

#include "kafka_config.h"
#include <salvo/salvo.h>
#include <stdbool.h>

/* rd_kafka_destroy(), which waits for threads that may hang in name resolution: not longer than
 * some seconds; then they end by themselves. The consumer is closed already. */
void salvo_kafka_client_destroy(rd_kafka_t *rk, salvo_kafka_log *log);

/* The level of a log line; what repeats for each attempt to connect is INFO. */
int salvo_kafka_client_level(const char *facility, int level);

/* Broker trouble that passes: the same request may be right later. */
bool salvo_kafka_passes(rd_kafka_resp_err_t err);

/* SALVO_ERR_AUTH, _FATAL, _TRANSIENT or _REJECTED. */
int salvo_kafka_error_code(rd_kafka_resp_err_t err);

/* Milliseconds until deadline_ns, rounded up, as librdkafka takes them. */
int salvo_kafka_left_ms(uint64_t deadline_ns);
uint64_t salvo_kafka_deadline_ns(uint64_t timeout_ms);

/* Wait until a broker answered: 0, SALVO_ERR_UNREACHABLE or, when *refused is set meanwhile,
 * SALVO_ERR_AUTH. serve runs callbacks and events, `reason` is filled by it; both may be asked
 * between the attempts. */
typedef struct salvo_kafka_waiting {
    rd_kafka_t *rk;
    void (*serve)(void *context);
    void *context;
    const bool *refused;
    const char *reason; /* "" while there is none */
    const char *servers;
    uint32_t timeout_ms;
} salvo_kafka_waiting;
int salvo_kafka_await_broker(const salvo_kafka_waiting *waiting, char *error, size_t error_size);

#endif
