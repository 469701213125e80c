/* SPDX-License-Identifier: Apache-2.0
 *
 * A run's topics: their names, their making with so many partitions, and their removal. All runs
 * of one process use the same topics, so that a search for a rate leaves no trail of them.
 */
#include "bench.h"

#include <salvo/topics.h>
#include <string.h>
#include <unistd.h>

#define MAKE_MS 30000u
#define KEEP_MS 600000 /* what a long run leaves at the broker: ten minutes of messages */
#define REMOVE_MS 10000u

static size_t made; /* the first so many may be there; others are not looked for at the end */

void salvo_bench_topic_made(size_t index)
{
    made = index < made ? made : index + 1;
}

void salvo_bench_topic_name(const salvo_bench_options *o, size_t index, char *name, size_t size)
{
    static unsigned long long stamp;
    if (stamp == 0)
        stamp = salvo_load_unix_ns() / 1000000;
    if (o->existing && o->topics == 1)
        snprintf(name, size, "%s", o->existing);
    else if (o->existing)
        snprintf(name, size, "%s-%zu", o->existing, index);
    else
        snprintf(name, size, "salvo-bench-%llu-%d-%zu", stamp, (int)getpid(), index);
}

static bool is_set(const salvo_config *config, const char *key)
{
    const char *value = salvo_config_get(config, key);
    return value && *value;
}

/* Redis bounds them by length, `memory` by its own size; others are made here, with a bound of
 * time: RabbitMQ's queues where a topic is a queue, Kafka's topics where their partitions are not
 * the broker's business, which makes them else. */
bool salvo_bench_make_topics(const salvo_bench_options *o, salvo_config *config)
{
    const char *broker = salvo_config_get(config, "message_broker");
    bool kafka = broker && strcmp(broker, "kafka") == 0;
    bool rabbitmq = broker && strcmp(broker, "rabbitmq") == 0;
    bool routed = is_set(config, "rabbitmq_exchange") || is_set(config, "rabbitmq_routing_key");
    bool make = o->partitions != 0 || (rabbitmq && !routed && !o->existing);
    if (o->partitions != 0 && broker && strcmp(broker, "memory") == 0) { /* made by the producer */
        char text[24];
        snprintf(text, sizeof text, "%llu", (unsigned long long)o->partitions);
        if (salvo_config_set(config, "memory_partitions", text) == 0)
            return true;
        salvo_cli_say("--partitions: %s", salvo_config_error(config));
        return false;
    }
    for (size_t i = 0; make && i < o->topics; i++) {
        char name[256];
        salvo_topic_spec spec = {.size = sizeof spec, .name = name,
                                 .partitions = (int32_t)o->partitions,
                                 .retention_ms = kafka || rabbitmq ? KEEP_MS : 0};
        salvo_bench_topic_name(o, i, name, sizeof name);
        if (salvo_topic_create(config, NULL, &spec, MAKE_MS) == 0) {
            salvo_bench_topic_made(i);
            continue;
        }
        if (o->partitions != 0)
            salvo_cli_say("--partitions %llu: topic %s: %s", (unsigned long long)o->partitions,
                          name, salvo_last_error());
        else
            salvo_cli_say("bench: topic %s: %s", name, salvo_last_error());
        return false;
    }
    return true;
}

void salvo_bench_remove_topics(const salvo_bench_options *o, salvo_config *config)
{
    for (size_t i = 0; !o->existing && i < made; i++) {
        char name[256];
        salvo_bench_topic_name(o, i, name, sizeof name);
        if (salvo_topic_delete(config, name, salvo_cli_signals() > 0 ? 1000 : REMOVE_MS) == 0)
            continue;
        salvo_cli_say("bench: topic %s could not be removed: %s", name, salvo_last_error());
        return; /* the others would not fare better, and each attempt takes its time */
    }
}
