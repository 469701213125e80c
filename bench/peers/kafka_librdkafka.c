/* SPDX-License-Identifier: Apache-2.0
 *
 * librdkafka, called from C: rd_kafka_produce() without blocking; a full queue refuses. Delivery
 * reports are taken as events, by a thread that does nothing else.
 */
#include "play.h"

#include <librdkafka/rdkafka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum { OPEN_MS = 30000 };

typedef struct client {
    play *play;
    rd_kafka_t *rk;
    rd_kafka_topic_t *topic;
    rd_kafka_queue_t *queue;
    pthread_t reporter;
    atomic_bool stop, primed;
} client;

static void set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
    char text[256];
    if (rd_kafka_conf_set(conf, name, value, text, sizeof text) != RD_KAFKA_CONF_OK)
        play_die("librdkafka: %s", text);
}

static void set_number(rd_kafka_conf_t *conf, const char *name, uint64_t value)
{
    char text[32];
    snprintf(text, sizeof text, "%llu", (unsigned long long)value);
    set(conf, name, text);
}

static rd_kafka_conf_t *configure(play *p)
{
    char linger[32];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set(conf, "bootstrap.servers", play_text(p, "address"));
    set(conf, "acks", play_text(p, "acks"));
    set(conf, "enable.idempotence", play_text(p, "idempotence"));
    set(conf, "compression.codec", play_text(p, "compression"));
    set_number(conf, "max.in.flight.requests.per.connection", play_number(p, "in_flight"));
    set_number(conf, "batch.size", play_number(p, "batch_bytes"));
    set_number(conf, "queue.buffering.max.kbytes", play_number(p, "buffer_bytes") / 1024);
    set(conf, "queue.buffering.max.messages", "10000000"); /* the bytes are the bound */
    snprintf(linger, sizeof linger, "%g", (double)play_number(p, "linger_us") / 1000);
    set(conf, "linger.ms", linger);
    set(conf, "log_level", "3"); /* retries while a broker starts are no news */
    rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR);
    return conf;
}

static void take_reports(client *c, rd_kafka_event_t *event)
{
    const rd_kafka_message_t *message;
    while ((message = rd_kafka_event_message_next(event))) {
        if (atomic_load_explicit(&c->primed, memory_order_acquire))
            play_settled(c->play, (uint64_t)(uintptr_t)message->_private, !message->err);
        else if (message->err)
            play_die("librdkafka: no first message: %s", rd_kafka_err2str(message->err));
        /* Release: pairs with open()'s acquire; what comes later is the load's. */
        atomic_store_explicit(&c->primed, true, memory_order_release);
    }
}

static void *report_loop(void *argument)
{
    client *c = argument;
    while (!atomic_load_explicit(&c->stop, memory_order_relaxed)) {
        rd_kafka_event_t *event = rd_kafka_queue_poll(c->queue, 1000);
        if (!event)
            continue;
        if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_DR)
            take_reports(c, event);
        else if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_ERROR)
            fprintf(stderr, "peer: librdkafka: %s\n", rd_kafka_event_error_string(event));
        rd_kafka_event_destroy(event);
    }
    return NULL;
}

static bool send_to_kafka(void *state, const play_message *m)
{
    client *c = state;
    void *value = (void *)(uintptr_t)m->value, *opaque = (void *)(uintptr_t)m->at_ns;
    if (rd_kafka_produce(c->topic, RD_KAFKA_PARTITION_UA, RD_KAFKA_MSG_F_COPY, value, m->value_len,
                         m->key, m->key_len, opaque) == 0)
        return true;
    if (rd_kafka_last_error() != RD_KAFKA_RESP_ERR__QUEUE_FULL)
        play_die("librdkafka: %s", rd_kafka_err2str(rd_kafka_last_error()));
    return false;
}

static void drain(void *state, unsigned timeout_ms)
{
    client *c = state;
    if (rd_kafka_flush(c->rk, (int)timeout_ms) != 0)
        fprintf(stderr, "peer: librdkafka: not all was settled in %u ms\n", timeout_ms);
}

static void *open_client(play *p)
{
    char text[256];
    client *c = calloc(1, sizeof *c);
    if (!c)
        play_die("no memory");
    c->play = p;
    c->rk = rd_kafka_new(RD_KAFKA_PRODUCER, configure(p), text, sizeof text);
    if (!c->rk)
        play_die("librdkafka: %s", text);
    c->topic = rd_kafka_topic_new(c->rk, play_text(p, "topic"), NULL);
    c->queue = rd_kafka_queue_get_main(c->rk);
    if (!c->topic || pthread_create(&c->reporter, NULL, report_loop, c))
        play_die("librdkafka: no topic or no thread");
    if (!send_to_kafka(c, &(play_message){.value = "first", .value_len = 5}))
        play_die("librdkafka: no room for a first message");
    drain(c, OPEN_MS);
    if (!atomic_load_explicit(&c->primed, memory_order_acquire))
        play_die("librdkafka: a first message did not arrive in %d s", OPEN_MS / 1000);
    return c;
}

static void close_client(void *state)
{
    client *c = state;
    atomic_store_explicit(&c->stop, true, memory_order_relaxed);
    rd_kafka_queue_yield(c->queue);
    pthread_join(c->reporter, NULL);
    rd_kafka_queue_destroy(c->queue);
    rd_kafka_topic_destroy(c->topic);
    rd_kafka_destroy(c->rk);
    free(c);
}

int main(int argc, char **argv)
{
    const play_client librdkafka = {
        .name = "librdkafka", .version = rd_kafka_version_str, .open = open_client,
        .send = send_to_kafka, .drain = drain, .close = close_client};
    return play_main(argc, argv, &librdkafka);
}
