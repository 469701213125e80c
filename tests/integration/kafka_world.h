/* SPDX-License-Identifier: Apache-2.0
 *
 * What the tests of the engine against Kafka share: brokers, topics, producers, the ledger's two
 * equations, reading back. Include it after cmocka.h. Its functions fail the running test, so only
 * the test's own thread may call them.
 */
#ifndef KAFKA_WORLD_H
#define KAFKA_WORLD_H

#include <librdkafka/rdkafka.h>
#include <salvo/reader.h>
#include <salvo/salvo.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef struct world {
    salvo_config *config;
    salvo *producer;
} world;

static inline uint64_t world_now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static inline const char *shared_broker(void)
{
    const char *text = getenv("SALVO_TEST_KAFKA");
    if (!text || !*text)
        fail_msg("SALVO_TEST_KAFKA is not set: start a broker with `script/broker kafka start` "
                 "and give its address, or run script/test");
    return text;
}

/* script/broker for an instance of this process; the address that it prints goes to `address`. */
static inline void own_broker(const char *what, char *address, size_t size)
{
    char command[512], line[256] = "";
    snprintf(command, sizeof command, "%s/script/broker kafka %s --name world-test-%d 2>&1",
             SALVO_SOURCE_DIR, what, (int)getpid());
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    while (fgets(line, sizeof line, pipe)) {
        line[strcspn(line, "\n")] = '\0';
        if (address && strncmp(line, "127.0.0.1:", 10) == 0)
            snprintf(address, size, "%.63s", line);
    }
    if (pclose(pipe))
        fail_msg("script/broker kafka %s: %s", what, line);
}

/* A topic name that no other run has used. */
static inline const char *fresh_name(char name[96], const char *what)
{
    snprintf(name, 96, "salvo-engine-%s-%d-%llx", what, (int)getpid(),
             (unsigned long long)world_now_ms());
    return name;
}

/* key: a setting of the topic, or NULL. */
static inline void create_topic_of(const char *address, const char *name, int partitions,
                                   const char *key, const char *value)
{
    char error[256];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set(conf, "bootstrap.servers", address, error, sizeof error);
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, error, sizeof error);
    assert_non_null(rk);
    rd_kafka_NewTopic_t *topic = rd_kafka_NewTopic_new(name, partitions, 1, error, sizeof error);
    if (key)
        assert_int_equal(rd_kafka_NewTopic_set_config(topic, key, value), 0);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
    rd_kafka_CreateTopics(rk, &topic, 1, NULL, queue);
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, 30000);
    assert_non_null(event);
    size_t count;
    const rd_kafka_CreateTopics_result_t *result = rd_kafka_event_CreateTopics_result(event);
    assert_non_null(result);
    const rd_kafka_topic_result_t **topics = rd_kafka_CreateTopics_result_topics(result, &count);
    assert_int_equal(rd_kafka_topic_result_error(topics[0]), 0);
    rd_kafka_event_destroy(event);
    rd_kafka_NewTopic_destroy(topic);
    rd_kafka_queue_destroy(queue);
    rd_kafka_destroy(rk);
}

static inline void create_topic(const char *address, const char *name, int partitions)
{
    create_topic_of(address, name, partitions, NULL, NULL);
}

static inline void world_set(world *w, const char *key, const char *value)
{
    if (salvo_config_set(w->config, key, value))
        fail_msg("%s", salvo_config_error(w->config));
}

static inline world world_new(const char *address)
{
    world w = {0};
    assert_int_equal(salvo_config_new(&w.config), 0);
    world_set(&w, "message_broker", "kafka");
    world_set(&w, "kafka_bootstrap_servers", address);
    return w;
}

static inline salvo_topic world_open(world *w, const char *name)
{
    salvo_topic topic;
    if (salvo_open(w->config, NULL, &w->producer))
        fail_msg("salvo_open: %s", salvo_last_error());
    assert_int_equal(salvo_topic_open(w->producer, name, NULL, &topic), 0);
    return topic;
}

/* Both equations, from numbers that were counted in different places. */
static inline void assert_ledger(const salvo_ledger *l)
{
    assert_int_equal(l->offered, l->accepted + l->refused_full + l->refused_dropped +
                                     l->refused_timeout + l->refused_too_large +
                                     l->refused_invalid);
    assert_int_equal(l->accepted,
                     l->acknowledged + l->failed + l->expired + l->dropped + l->pending);
    assert_true(l->maybe_delivered <= l->failed);
}

/* The ledger when nothing is on its way. */
static inline salvo_ledger world_rest(world *w)
{
    salvo_ledger l;
    assert_int_equal(salvo_get_ledger(w->producer, SALVO_ALL_TOPICS, &l), 0);
    assert_ledger(&l);
    assert_int_equal(l.pending, 0);
    assert_int_equal(l.pending_counted, 0);
    return l;
}

static inline void world_flush(world *w, uint64_t timeout_ms)
{
    int err = salvo_flush(w->producer, timeout_ms);
    if (!err)
        return;
    salvo_stats s = {.size = sizeof s};
    assert_int_equal(salvo_get_stats(w->producer, &s), 0);
    fail_msg("salvo_flush: %s; pending %llu, in flight %llu, broker %s", salvo_strerror(err),
             (unsigned long long)s.total.pending, (unsigned long long)s.in_flight_messages,
             s.broker_state);
}

/* Close; what it reports must be the ledger at rest. Returns what salvo_close() said. */
static inline int world_end(world *w, uint64_t timeout_ms)
{
    salvo_close_report r;
    int err = salvo_close(w->producer, timeout_ms, &r);
    assert_true(err == 0 || err == SALVO_ERR_DROPPED);
    assert_ledger(&r.ledger);
    assert_int_equal(r.ledger.pending, 0);
    assert_int_equal(r.ledger.pending_counted, 0);
    assert_int_equal(r.undelivered, r.ledger.failed + r.ledger.expired + r.ledger.dropped);
    assert_int_equal(err == 0, r.undelivered == 0);
    assert_int_equal(r.stuck_claims, 0);
    salvo_config_free(w->config);
    *w = (world){0};
    return err;
}

/* Wait for `count` reports; fails when they do not all come, or more do. */
static inline void world_reports(world *w, salvo_report *reports, size_t count, uint64_t wait_ms)
{
    uint64_t end = world_now_ms() + wait_ms;
    size_t got = 0;
    salvo_report extra;
    while (got < count && world_now_ms() < end) {
        int n = salvo_poll_reports(w->producer, reports + got, count - got);
        assert_true(n >= 0);
        got += (size_t)n;
        if (!n)
            usleep(2000);
    }
    assert_int_equal(got, count);
    assert_int_equal(salvo_poll_reports(w->producer, &extra, 1), 0);
}

static inline salvo_reader *world_read(world *w, const char *topic)
{
    salvo_reader *reader;
    salvo_reader_options options = {.size = sizeof options, .stop_at_end = 1};
    if (salvo_reader_open(w->config, NULL, topic, &options, &reader))
        fail_msg("salvo_reader_open: %s", salvo_last_error());
    return reader;
}

/* False at the end. */
static inline bool world_next(salvo_reader *reader, salvo_record *record)
{
    int err = salvo_reader_next(reader, 20000, record);
    if (err && err != SALVO_ERR_END)
        fail_msg("salvo_reader_next: %s", salvo_last_error());
    return !err;
}

#endif
