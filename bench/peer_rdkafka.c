/* SPDX-License-Identifier: Apache-2.0
 *
 * librdkafka side by side with Salvo; see peer_rdkafka.h for how it is set up and why.
 */
#include "peer_rdkafka.h"
#include "harness.h"

#include <stdio.h>

static void set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
    char text[256];
    if (rd_kafka_conf_set(conf, name, value, text, sizeof text) != RD_KAFKA_CONF_OK)
        bench_die("librdkafka: %s", text);
}

static void take_reports(peer *p, rd_kafka_event_t *event)
{
    uint64_t good = 0, bad = 0;
    const rd_kafka_message_t *message;
    while ((message = rd_kafka_event_message_next(event)))
        message->err ? bad++ : good++;
    atomic_fetch_add_explicit(&p->acknowledged, good, memory_order_relaxed);
    atomic_fetch_add_explicit(&p->failed, bad, memory_order_relaxed);
}

static void *report_loop(void *argument)
{
    peer *p = argument;
    while (!atomic_load_explicit(&p->stop, memory_order_relaxed)) {
        rd_kafka_event_t *event = rd_kafka_queue_poll(p->queue, 1000);
        if (!event)
            continue;
        if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_DR)
            take_reports(p, event);
        else if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_ERROR)
            fprintf(stderr, "bench: librdkafka: %s\n", rd_kafka_event_error_string(event));
        rd_kafka_event_destroy(event);
    }
    return NULL;
}

static rd_kafka_conf_t *configure(const char *address, const peer_options *options)
{
    char text[32];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set(conf, "bootstrap.servers", address);
    set(conf, "acks", "all");
    set(conf, "enable.idempotence", "true");
    set(conf, "compression.codec", "none");
    set(conf, "log_level", "3"); /* retries while a broker starts are no news */
    set(conf, "partitioner", "murmur2_random");
    snprintf(text, sizeof text, "%g", options->linger_ms);
    set(conf, "linger.ms", text);
    snprintf(text, sizeof text, "%u",
             options->queue_messages ? options->queue_messages : 10000000u);
    set(conf, "queue.buffering.max.messages", text);
    set(conf, "queue.buffering.max.kbytes", "2147483647");
    if (options->batch_bytes) {
        snprintf(text, sizeof text, "%u", options->batch_bytes);
        set(conf, "batch.size", text);
    }
    if (options->only_errors)
        set(conf, "delivery.report.only.error", "true");
    rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR);
    return conf;
}

void peer_open(peer *p, const char *address, const char *topic, const peer_options *options)
{
    char text[256];
    p->flags = RD_KAFKA_MSG_F_COPY | (options->queue_messages ? RD_KAFKA_MSG_F_BLOCK : 0);
    atomic_store(&p->stop, 0);
    atomic_store(&p->acknowledged, 0);
    atomic_store(&p->failed, 0);
    p->rk = rd_kafka_new(RD_KAFKA_PRODUCER, configure(address, options), text, sizeof text);
    if (!p->rk)
        bench_die("librdkafka: %s", text);
    p->rkt = rd_kafka_topic_new(p->rk, topic, NULL);
    p->queue = rd_kafka_queue_get_main(p->rk);
    if (!p->rkt || pthread_create(&p->reporter, NULL, report_loop, p))
        bench_die("librdkafka: no topic or no thread");
}

int peer_flush(peer *p, int timeout_ms)
{
    return rd_kafka_flush(p->rk, timeout_ms) ? -1 : 0;
}

void peer_close(peer *p)
{
    atomic_store(&p->stop, 1);
    rd_kafka_queue_yield(p->queue);
    pthread_join(p->reporter, NULL);
    rd_kafka_queue_destroy(p->queue);
    rd_kafka_topic_destroy(p->rkt);
    rd_kafka_destroy(p->rk);
}
