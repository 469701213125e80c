/* SPDX-License-Identifier: Apache-2.0
 *
 * From Salvo's configuration to librdkafka's. Guarantees: rdkafka.* properties come last and win,
 * but for those that the driver's contract rests on, which are refused by name; an error names the
 * key and where it came from; the value of a secret is in no text.
 */
#ifndef SALVO_KAFKA_CONFIG_H
#define SALVO_KAFKA_CONFIG_H

#include "driver.h"
#include <librdkafka/rdkafka.h>
#include <salvo/config.h>
#include <stddef.h>
#include <stdint.h>

typedef void salvo_kafka_log(int level, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* A configuration for rd_kafka_new(), or NULL with *err (CONFIG or NOMEM) and a text. type
 * RD_KAFKA_CONSUMER leaves out what is for producers. The caller owns it until rd_kafka_new(). */
rd_kafka_conf_t *salvo_kafka_conf(const salvo_config *config, rd_kafka_type_t type,
                                  salvo_kafka_log *log, int *err, char *error,
                                  size_t error_size);

/* The same for a member of a group (member: its name, or NULL), and for the producer of an id's
 * transactions. */
rd_kafka_conf_t *salvo_kafka_group_conf(const salvo_config *config, const char *group,
                                        const char *member, salvo_kafka_log *log, int *err,
                                        char *error, size_t error_size);
rd_kafka_conf_t *salvo_kafka_transaction_conf(const salvo_config *config, const char *id,
                                              salvo_kafka_log *log, int *err, char *error,
                                              size_t error_size);

/* The number that a property of a built configuration has, or `otherwise`. */
int64_t salvo_kafka_conf_number(const rd_kafka_conf_t *conf, const char *property,
                                int64_t otherwise);

/* What a producer gives librdkafka of a partition at a time; see driver.h. */
void salvo_kafka_burst(const salvo_config *config, salvo_driver_burst *burst);

#endif
