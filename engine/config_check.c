/* SPDX-License-Identifier: Apache-2.0
 *
 * What follows from several keys together: effective values, the choice of the broker, and the
 * checks that no single key allows. salvo_config_refresh() cannot fail and allocates nothing.
 *
 * The broker: message_broker where it is set; else the only one whose address is set; kafka when
 * it is among several; kafka when none is. Several without kafka are an error that names them.
 */
#include "config_store.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { BATCH_BYTES_DEFAULT = 512 << 10 };

static const struct {
    const char *broker, *address, *schemes[2];
} brokers[] = {{"kafka", "kafka_bootstrap_servers", {"", ""}},
               {"redis", "redis_url", {"redis", "unix"}},
               {"rabbitmq", "rabbitmq_url", {"amqp", "amqp"}}};
#define BROKER_COUNT (sizeof brokers / sizeof brokers[0])

static const salvo_stored *stored_of(const salvo_config *config, const char *key)
{
    return &config->stored[salvo_key_find(key)];
}

static salvo_effective *effective_of(salvo_config *config, const char *key)
{
    return &config->effective[salvo_key_find(key)];
}

static void take(salvo_effective *value, const salvo_stored *stored)
{
    value->text = stored->text;
    value->shown = stored->shown;
    value->source = stored->source;
    value->number = stored->number;
    value->layer = stored->layer;
}

static void take_default(salvo_effective *value, const salvo_key *key)
{
    char canonical[SALVO_KEY_VALUE_MAX];
    (void)salvo_key_parse(key, key->initial, canonical, &value->number);
    value->text = value->shown = key->initial; /* a default is no secret */
    value->source = "default";
    value->layer = SALVO_LAYER_DEFAULT;
}

/* Let a value be `number`, as its reason has it. */
static void derive(salvo_effective *value, int64_t number, const salvo_effective *reason)
{
    snprintf(value->derived, sizeof value->derived, "%" PRId64, number);
    value->text = value->shown = value->derived;
    value->number = number;
    value->source = reason->source;
    value->layer = reason->layer;
}

static void follow(salvo_config *config, const char *key, const char *leader, int64_t factor)
{
    salvo_effective *value = effective_of(config, key);
    const salvo_effective *reason = effective_of(config, leader);
    if (*value->text == '\0' || strcmp(value->text, "0") == 0) {
        /* linger_us = 0 is a wish of its own; an empty text is none. */
        if (*value->text != '\0' && *salvo_keys[salvo_key_find(key)].initial == '\0')
            return;
        derive(value, reason->number * factor, reason);
    }
}

/* The documented 16384 of kafka_max_batch_size counts where somebody set it. By default a batch is
 * larger: what is handed over costs by the batch (figures in ARCHITECTURE.md). */
static void refresh_batch(salvo_config *config)
{
    salvo_effective *value = effective_of(config, "batch_bytes");
    const salvo_effective *kafka = effective_of(config, "kafka_max_batch_size");
    if (value->number != 0)
        return;
    int64_t room = salvo_config_int(config, "buffer_bytes") / 4;
    if (kafka->layer == SALVO_LAYER_DEFAULT)
        derive(value, room < BATCH_BYTES_DEFAULT ? room : BATCH_BYTES_DEFAULT, value);
    else
        derive(value, kafka->number, kafka);
}

static void refresh_retries(salvo_config *config)
{
    follow(config, "retry_backoff_ms", "kafka_retry_backoff_ms", 1);
    const salvo_effective *first = effective_of(config, "retry_backoff_ms");
    salvo_effective *most = effective_of(config, "retry_backoff_max_ms");
    if (most->layer == SALVO_LAYER_DEFAULT && most->number < first->number)
        derive(most, first->number, first);
}

static void refresh_idempotence(salvo_config *config)
{
    const salvo_effective *acks = effective_of(config, "kafka_acks");
    salvo_effective *value = effective_of(config, "kafka_enable_idempotence");
    if (value->layer != SALVO_LAYER_DEFAULT || strcmp(acks->text, "all") == 0)
        return;
    value->text = value->shown = "false";
    value->number = 0;
    value->source = acks->source;
    value->layer = acks->layer;
}

static bool is_set(const salvo_config *config, const char *key)
{
    const salvo_stored *stored = stored_of(config, key);
    return stored->text != NULL && *stored->text != '\0';
}

/* Which broker an address without a name belongs to. */
static size_t broker_of_address(const char *address)
{
    for (size_t i = 1; i < BROKER_COUNT; i++)
        for (size_t j = 0; j < 2; j++)
            if (strncmp(address, brokers[i].schemes[j], strlen(brokers[i].schemes[j])) == 0 &&
                strstr(address, "://") != NULL)
                return i;
    return 0;
}

static bool has_address(const salvo_config *config, size_t broker)
{
    const char *alias = stored_of(config, "bootstrap_servers")->text;
    bool by_alias = alias != NULL && *alias != '\0' && broker_of_address(alias) == broker;
    /* Kafka that is switched off is not a candidate. */
    bool off = broker == 0 && config->effective[salvo_key_find("kafka_enabled")].number == 0;
    return !off && (by_alias || is_set(config, brokers[broker].address));
}

static void choose_broker(salvo_config *config)
{
    const salvo_effective *wish = effective_of(config, "message_broker");
    size_t found = 0, count = 0;
    for (size_t i = BROKER_COUNT; i-- > 0;) { /* kafka last: it wins */
        if (has_address(config, i)) {
            found = i;
            count++;
        }
    }
    if (*wish->text != '\0') {
        config->broker = wish->text;
        snprintf(config->why, sizeof config->why, "message_broker is set (%.128s)", wish->source);
        return;
    }
    config->broker = brokers[found].broker;
    if (count == 0)
        snprintf(config->why, sizeof config->why, "no broker's address is set");
    else if (count == 1)
        snprintf(config->why, sizeof config->why, "only its address is set");
    else if (found == 0)
        snprintf(config->why, sizeof config->why, "several addresses are set, kafka's among them");
    else {
        config->broker = NULL;
        snprintf(config->why, sizeof config->why,
                 "several brokers' addresses are set (redis_url, rabbitmq_url); "
                 "set message_broker to redis or rabbitmq");
    }
}

static void refresh_broker(salvo_config *config)
{
    choose_broker(config);
    const salvo_stored *alias = stored_of(config, "bootstrap_servers");
    for (size_t i = 0; config->broker != NULL && i < BROKER_COUNT; i++) {
        if (strcmp(config->broker, brokers[i].broker) != 0 || alias->text == NULL ||
            *alias->text == '\0')
            continue;
        salvo_effective *address = effective_of(config, brokers[i].address);
        if (address->layer < alias->layer)
            take(address, alias);
    }
    salvo_effective *broker = effective_of(config, "message_broker");
    if (*broker->text == '\0' && config->broker != NULL) {
        broker->text = broker->shown = config->broker;
        broker->source = config->why;
        for (size_t i = 0; i < BROKER_COUNT; i++)
            if (strcmp(config->broker, brokers[i].broker) == 0)
                broker->number = (int64_t)i; /* the choices begin with these, in this order */
    }
}

void salvo_config_refresh(salvo_config *config)
{
    for (size_t i = 0; i < salvo_key_count; i++) {
        if (config->stored[i].text != NULL)
            take(&config->effective[i], &config->stored[i]);
        else
            take_default(&config->effective[i], &salvo_keys[i]);
    }
    follow(config, "linger_us", "kafka_linger_ms", 1000);
    refresh_batch(config);
    refresh_retries(config);
    refresh_idempotence(config);
    refresh_broker(config);
}

const char *salvo_config_broker(const salvo_config *config, const char **why)
{
    if (why != NULL)
        *why = config->why;
    return config->broker;
}

static int check_broker(salvo_config *config)
{
    if (config->broker == NULL)
        return salvo_config_fail(config, "message_broker: %s", config->why);
    if (strcmp(config->broker, "kafka") == 0 && !salvo_config_bool(config, "kafka_enabled"))
        return salvo_config_fail(config,
                                 "kafka_enabled = false (%s), but the broker is kafka (%s); set "
                                 "kafka_enabled = true or another message_broker",
                                 effective_of(config, "kafka_enabled")->source, config->why);
    return SALVO_OK;
}

/* Fail unless low <= high, naming both keys, their values and where they came from. */
static int check_order(salvo_config *config, const char *low_key, int64_t low, const char *rule,
                       const char *high_key, int64_t high)
{
    if (low <= high)
        return SALVO_OK;
    const salvo_effective *a = effective_of(config, low_key), *b = effective_of(config, high_key);
    return salvo_config_fail(config,
                             "%s = %s (%.160s) does not go with %s = %s (%.160s); allowed: %s",
                             low_key, a->text, a->source, high_key, b->text, b->source, rule);
}

static int check_room(salvo_config *config)
{
    int64_t buffer = salvo_config_int(config, "buffer_bytes");
    int64_t rings = salvo_config_int(config, "ring_bytes") * salvo_config_int(config, "flushers");
    int err = check_order(config, "ring_bytes", rings,
                          "ring_bytes times flushers at most half of buffer_bytes",
                          "buffer_bytes", buffer / 2);
    if (err == SALVO_OK)
        err = check_order(config, "max_message_bytes",
                          salvo_config_int(config, "max_message_bytes"),
                          "max_message_bytes at most a quarter of buffer_bytes", "buffer_bytes",
                          buffer / 4);
    if (err == SALVO_OK)
        err = check_order(config, "batch_bytes", salvo_config_int(config, "batch_bytes"),
                          "batch_bytes at most a quarter of buffer_bytes", "buffer_bytes",
                          buffer / 4);
    if (err == SALVO_OK && strcmp(config->broker, "memory") == 0)
        err = check_order(config, "max_message_bytes",
                          salvo_config_int(config, "max_message_bytes"),
                          "max_message_bytes at most memory_bytes", "memory_bytes",
                          salvo_config_int(config, "memory_bytes"));
    return err;
}

static int check_times(salvo_config *config)
{
    int64_t deadline_us = salvo_config_int(config, "delivery_timeout_ms") * 1000;
    int err = check_order(config, "linger_us", salvo_config_int(config, "linger_us"),
                          "a linger shorter than delivery_timeout_ms", "delivery_timeout_ms",
                          deadline_us - 1);
    if (err == SALVO_OK)
        err = check_order(config, "retry_backoff_ms", salvo_config_int(config, "retry_backoff_ms"),
                          "a first pause of at most retry_backoff_max_ms", "retry_backoff_max_ms",
                          salvo_config_int(config, "retry_backoff_max_ms"));
    return err;
}

static bool has_property(const salvo_config *config, const char *name)
{
    return salvo_config_get(config, name) != NULL;
}

static int check_kafka(salvo_config *config)
{
    const salvo_effective *idempotence = effective_of(config, "kafka_enable_idempotence");
    if (idempotence->number == 1 && !salvo_config_is(config, "kafka_acks", "all"))
        return salvo_config_fail(config,
                                 "kafka_enable_idempotence = true (%.160s) does not go with "
                                 "kafka_acks = %s (%.160s); allowed: all",
                                 idempotence->source, salvo_config_get(config, "kafka_acks"),
                                 effective_of(config, "kafka_acks")->source);
    const salvo_effective *protocol = effective_of(config, "kafka_security_protocol");
    if (strncmp(protocol->text, "SASL", 4) != 0)
        return SALVO_OK;
    if (!is_set(config, "kafka_sasl_mechanism") && !has_property(config, "rdkafka.sasl.mechanism")
        && !has_property(config, "rdkafka.sasl.mechanisms"))
        return salvo_config_fail(config, "kafka_security_protocol = %s (%.160s) needs "
                                 "kafka_sasl_mechanism", protocol->text, protocol->source);
    const char *mechanism = effective_of(config, "kafka_sasl_mechanism")->text;
    bool by_name = strcmp(mechanism, "PLAIN") == 0 || strncmp(mechanism, "SCRAM", 5) == 0;
    bool name = is_set(config, "kafka_sasl_username") ||
                has_property(config, "rdkafka.sasl.username");
    bool password = is_set(config, "kafka_sasl_password") ||
                    has_property(config, "rdkafka.sasl.password");
    if (by_name && !(name && password))
        return salvo_config_fail(config, "kafka_sasl_mechanism = %s (%.160s) needs %s", mechanism,
                                 effective_of(config, "kafka_sasl_mechanism")->source,
                                 name ? "kafka_sasl_password" : "kafka_sasl_username");
    return SALVO_OK;
}

int salvo_config_validate(salvo_config *config)
{
    if (config == NULL)
        return SALVO_ERR_INVALID;
    int err = check_broker(config);
    if (err == SALVO_OK)
        err = check_room(config);
    if (err == SALVO_OK)
        err = check_times(config);
    if (err == SALVO_OK && strcmp(config->broker, "kafka") == 0)
        err = check_kafka(config);
    return err;
}
