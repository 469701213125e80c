/* SPDX-License-Identifier: Apache-2.0
 *
 * Administration of RabbitMQ queues: the driver's operations on topics, and the lag of a group for
 * the consumer's table. Each call makes a connection of its own and blocks up to timeout_ms.
 */
#ifndef SALVO_RABBITMQ_ADMIN_H
#define SALVO_RABBITMQ_ADMIN_H

#include "driver_consumer.h"

extern const salvo_driver_topic_ops salvo_rabbitmq_topic_ops;

int salvo_rabbitmq_topic_delete(const salvo_config *config, const char *topic, uint32_t timeout_ms,
                                char *error, size_t error_size);
/* One row: what waits in the queue. AMQP knows neither groups nor what consumers have in hand. */
int64_t salvo_rabbitmq_group_lag(const salvo_config *config, void *shared, const char *group,
                                 const char *topic, salvo_lag *lags, size_t max,
                                 uint32_t timeout_ms, char *error, size_t error_size);

#endif
