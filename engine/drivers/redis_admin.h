/* SPDX-License-Identifier: Apache-2.0
 *
 * Administration of Redis streams: the driver's operations on topics, and the lag of a group for
 * the consumer's table. Each call makes a connection of its own and blocks up to timeout_ms.
 */
#ifndef SALVO_REDIS_ADMIN_H
#define SALVO_REDIS_ADMIN_H

#include "driver_consumer.h"

extern const salvo_driver_topic_ops salvo_redis_topic_ops;

int salvo_redis_topic_delete(const salvo_config *config, const char *topic, uint32_t timeout_ms,
                             char *error, size_t error_size);
int64_t salvo_redis_group_lag(const salvo_config *config, void *shared, const char *group,
                              const char *topic, salvo_lag *lags, size_t max,
                              uint32_t timeout_ms, char *error, size_t error_size);

#endif
