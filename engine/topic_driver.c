/* SPDX-License-Identifier: Apache-2.0
 *
 * What a topic wants of its driver: its options, else the configuration's, checked and copied.
 */
#include "compress.h"
#include "config_internal.h"
#include "error.h"
#include "topic.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static int take_codec(salvo_driver_topic *d, const salvo_config *config, const char *topic,
                      const char *wish)
{
    const char *name = wish != NULL ? wish : salvo_config_get(config, "payload_compression");
    d->codec = salvo_codec_find(name);
    if (d->codec != NULL || name == NULL || strcmp(name, "none") == 0)
        return 0;
    salvo_error_set("topic \"%s\": payload_compression = \"%.32s\"; allowed: none, gzip, lz4, "
                    "zstd, snappy", topic, name);
    return SALVO_ERR_INVALID;
}

static int check_length(const char *topic, const char *option, const char *text)
{
    size_t length = strlen(text);
    if (length <= SALVO_RABBITMQ_NAME_MAX)
        return 0;
    salvo_error_set("topic \"%s\": %s has %zu bytes; allowed: at most %u", topic, option, length,
                    SALVO_RABBITMQ_NAME_MAX);
    return SALVO_ERR_INVALID;
}

static int check_exchange(const salvo_driver_topic *d, const char *topic)
{
    static const char *const types[] = {"", "direct", "fanout", "topic", "headers"};
    int err = check_length(topic, "rabbitmq_exchange", d->rabbitmq_exchange);
    if (err == 0)
        err = check_length(topic, "rabbitmq_routing_key", d->rabbitmq_routing_key);
    if (err != 0)
        return err;
    if (*d->rabbitmq_exchange_type != '\0' && *d->rabbitmq_exchange == '\0') {
        salvo_error_set("topic \"%s\": rabbitmq_exchange_type = \"%.32s\" without "
                        "rabbitmq_exchange: the default exchange cannot be declared; name one",
                        topic, d->rabbitmq_exchange_type);
        return SALVO_ERR_INVALID;
    }
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(d->rabbitmq_exchange_type, types[i]) == 0)
            return 0;
    salvo_error_set("topic \"%s\": rabbitmq_exchange_type = \"%.32s\"; allowed: direct, fanout, "
                    "topic, headers", topic, d->rabbitmq_exchange_type);
    return SALVO_ERR_INVALID;
}

/* A copy of the wish, else of the configuration's value, else ""; NULL: no memory. */
static const char *copy(const salvo_config *config, const char *wish, const char *key)
{
    const char *text = wish != NULL ? wish : salvo_config_get(config, key);
    return strdup(text != NULL ? text : "");
}

static int check_switch(const char *topic, const char *option, uint32_t wish)
{
    if (wish <= 2)
        return 0;
    salvo_error_set("topic \"%s\": %s = %u; allowed: 0 (the configuration's), 1 (yes), 2 (no)",
                    topic, option, wish);
    return SALVO_ERR_INVALID;
}

static bool yes(const salvo_config *config, uint32_t wish, const char *key)
{
    return wish == 0 ? salvo_config_bool(config, key) : wish == 1;
}

static uint64_t maxlen(const salvo_config *config, uint64_t wish)
{
    if (wish == UINT64_MAX)
        return 0;
    return wish != 0 ? wish : (uint64_t)salvo_config_int(config, "redis_maxlen");
}

/* The texts: 0, INVALID or NOMEM. */
static int take_exchange(salvo_driver_topic *d, const salvo_config *config, const char *topic,
                         const salvo_topic_options *o)
{
    d->rabbitmq_exchange = copy(config, o->rabbitmq_exchange, "rabbitmq_exchange");
    d->rabbitmq_exchange_type = copy(config, o->rabbitmq_exchange_type, "rabbitmq_exchange_type");
    d->rabbitmq_routing_key = copy(config, o->rabbitmq_routing_key, "rabbitmq_routing_key");
    if (d->rabbitmq_exchange == NULL || d->rabbitmq_exchange_type == NULL ||
        d->rabbitmq_routing_key == NULL)
        return SALVO_ERR_NOMEM;
    return check_exchange(d, topic);
}

int salvo_topic_driver_fill(salvo_driver_topic *d, const salvo_config *config, const char *topic,
                            const salvo_topic_options *o)
{
    memset(d, 0, sizeof *d);
    int err = take_codec(d, config, topic, o->payload_compression);
    if (err == 0)
        err = check_switch(topic, "redis_nomkstream", o->redis_nomkstream);
    if (err == 0)
        err = check_switch(topic, "rabbitmq_optional", o->rabbitmq_optional);
    if (err == 0)
        err = take_exchange(d, config, topic, o);
    if (err != 0) {
        salvo_topic_driver_free(d);
        return err;
    }
    d->compress_least_bytes =
        (uint32_t)salvo_config_int(config, "payload_compression_least_bytes");
    d->redis_maxlen = maxlen(config, o->redis_maxlen);
    d->redis_nomkstream = yes(config, o->redis_nomkstream, "redis_nomkstream");
    d->rabbitmq_mandatory = o->rabbitmq_optional == 0
                                ? salvo_config_bool(config, "rabbitmq_mandatory")
                                : o->rabbitmq_optional == 2;
    return 0;
}

void salvo_topic_driver_free(salvo_driver_topic *d)
{
    free((char *)(uintptr_t)d->rabbitmq_exchange);
    free((char *)(uintptr_t)d->rabbitmq_exchange_type);
    free((char *)(uintptr_t)d->rabbitmq_routing_key);
    memset(d, 0, sizeof *d);
}
