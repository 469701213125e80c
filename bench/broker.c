/* SPDX-License-Identifier: Apache-2.0
 *
 * A real Kafka and its topics; see broker.h for the guarantees.
 */
#include "broker.h"
#include "harness.h"
#include "server.h"

#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *bench_broker(void)
{
    static bench_server server; /* what the topics of long runs leave behind stays small */
    return bench_server_start(&server, "kafka", "SALVO_BENCH_KAFKA",
                              "--set log.retention.bytes=536870912 "
                              "--set log.segment.bytes=67108864 "
                              "--set log.retention.check.interval.ms=5000 "
                              "--set log.segment.delete.delay.ms=1000");
}

static rd_kafka_t *admin_open(const char *at)
{
    char text[256] = "";
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    if (rd_kafka_conf_set(conf, "bootstrap.servers", at, text, sizeof text))
        bench_die("Kafka address '%s': %s", at, text);
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, text, sizeof text);
    if (!rk)
        bench_die("librdkafka: %s", text);
    return rk;
}

static void admin_result(rd_kafka_queue_t *queue, const char *what, const char *at)
{
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, 30000);
    if (!event)
        bench_die("%s: no answer from Kafka at %s in 30 s; is it up?", what, at);
    if (rd_kafka_event_error(event))
        bench_die("%s at %s: %s", what, at, rd_kafka_event_error_string(event));
    rd_kafka_event_destroy(event);
}

void bench_topic_create(const char *at, int partitions, char *name, unsigned long size)
{
    static unsigned serial;
    char text[256] = "";
    snprintf(name, size, "salvo-bench-%d-%u", (int)getpid(), serial++);
    rd_kafka_t *rk = admin_open(at);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
    rd_kafka_NewTopic_t *topic = rd_kafka_NewTopic_new(name, partitions, 1, text, sizeof text);
    if (!topic)
        bench_die("topic %s: %s", name, text);
    rd_kafka_NewTopic_set_config(topic, "retention.bytes", "536870912");
    rd_kafka_NewTopic_set_config(topic, "segment.bytes", "67108864");
    rd_kafka_CreateTopics(rk, &topic, 1, NULL, queue);
    admin_result(queue, "creating a topic", at);
    rd_kafka_NewTopic_destroy(topic);
    rd_kafka_queue_destroy(queue);
    rd_kafka_destroy(rk);
}

void bench_topic_delete(const char *at, const char *name)
{
    rd_kafka_t *rk = admin_open(at);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
    rd_kafka_DeleteTopic_t *topic = rd_kafka_DeleteTopic_new(name);
    rd_kafka_DeleteTopics(rk, &topic, 1, NULL, queue);
    admin_result(queue, "deleting a topic", at);
    rd_kafka_DeleteTopic_destroy(topic);
    rd_kafka_queue_destroy(queue);
    rd_kafka_destroy(rk);
}
