/* SPDX-License-Identifier: Apache-2.0
 *
 * What the engine, the drivers and the tests ask of a configuration beyond the public header.
 *
 * Every getter gives the effective value: the highest layer that set the key, else its default,
 * else what the key follows (linger_us follows kafka_linger_ms, batch_bytes follows
 * kafka_max_batch_size, retry_backoff_ms follows kafka_retry_backoff_ms; bootstrap_servers is
 * already folded into the chosen broker's address). No getter allocates or fails; a name that is
 * not in the table is a bug of the caller (assert), and gives -1, false or NULL.
 */
#ifndef SALVO_CONFIG_INTERNAL_H
#define SALVO_CONFIG_INTERNAL_H

#include <salvo/config.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* int and size keys, in the unit of the table. Enum keys: the position in the list of choices
 * (kafka_acks: -1 counts as all), or -1 when unset; salvo_config_is() reads better. */
int64_t salvo_config_int(const salvo_config *config, const char *key);
bool salvo_config_bool(const salvo_config *config, const char *key);

/* True for an enum or string key whose effective value is exactly `value`. */
bool salvo_config_is(const salvo_config *config, const char *key, const char *value);

/* True when no layer set the key, nor the key whose value it follows. */
bool salvo_config_source_is_default(const salvo_config *config, const char *key);

/* The broker to use: "kafka", "redis", "rabbitmq", "memory" or "null". *why (may be NULL) gets
 * a sentence for the log. NULL when the choice is ambiguous; *why then is the error. */
const char *salvo_config_broker(const salvo_config *config, const char **why);

/* What no single key can be checked for. 0 or SALVO_ERR_CONFIG with salvo_config_error(). */
int salvo_config_validate(salvo_config *config);

/* The rdkafka.* properties, without the prefix, secrets in clear, in the order they came. Stops
 * at and returns the first value that is not 0. */
int salvo_config_each_rdkafka(const salvo_config *config,
                              int (*visit)(const char *property, const char *value,
                                           const char *source, void *context),
                              void *context);

/* TOML from memory; `name` stands for the file in sources and errors. All or nothing. */
int salvo_config_load_text(salvo_config *config, const char *text, size_t size,
                           const char *name);

/* A copy that shares nothing with the original. 0, INVALID or NOMEM (then *out is NULL). */
int salvo_config_clone(const salvo_config *config, salvo_config **out);

#endif
