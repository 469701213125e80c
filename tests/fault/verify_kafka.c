/* SPDX-License-Identifier: Apache-2.0
 *
 * Kafka's store for the verifier: read by the engine's reader, trimmed by DeleteRecords up to what
 * was read, the topic removed at the end. A broker that is away is waited for.
 */
#include "fault.h"

#include <librdkafka/rdkafka.h>
#include <salvo/reader.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { WAIT_MS = 30000 };
#define TRIM_NS UINT64_C(2000000000)

typedef struct kafka_store {
    salvo_reader *reader;
    rd_kafka_t *admin;
    rd_kafka_queue_t *answers; /* of trims; nobody waits for them */
    int64_t next[FAULT_PARTITIONS];
    uint64_t trimmed_ns;
} kafka_store;

static int tell(fault_shared *s, const char *what, const char *why)
{
    snprintf(s->verdict.error, sizeof s->verdict.error, "%s: %s", what, why);
    return -1;
}

static rd_kafka_t *admin_of(fault_shared *s)
{
    char error[256];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set(conf, "bootstrap.servers", s->address, error, sizeof error);
    rd_kafka_conf_set(conf, "log_level", "0", error, sizeof error);
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, error, sizeof error);
    if (rk == NULL)
        tell(s, "kafka", error);
    return rk;
}

static int create(fault_shared *s)
{
    char error[256];
    size_t count;
    rd_kafka_t *rk = admin_of(s);
    if (rk == NULL)
        return -1;
    rd_kafka_NewTopic_t *topic =
        rd_kafka_NewTopic_new(s->topic, FAULT_PARTITIONS, 1, error, sizeof error);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
    rd_kafka_CreateTopics(rk, &topic, 1, NULL, queue);
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, WAIT_MS);
    const rd_kafka_CreateTopics_result_t *result =
        event != NULL ? rd_kafka_event_CreateTopics_result(event) : NULL;
    const rd_kafka_topic_result_t **topics =
        result != NULL ? rd_kafka_CreateTopics_result_topics(result, &count) : NULL;
    int err = topics == NULL || rd_kafka_topic_result_error(topics[0]) != 0
                  ? tell(s, "CreateTopics", event == NULL ? "no answer"
                                                          : rd_kafka_event_error_string(event))
                  : 0;
    if (event != NULL)
        rd_kafka_event_destroy(event);
    rd_kafka_NewTopic_destroy(topic);
    rd_kafka_queue_destroy(queue);
    rd_kafka_destroy(rk);
    return err;
}

/* A topic that was just made may not be known to the broker's readers yet. */
static int open_reader(const salvo_config *config, const char *topic, salvo_reader **reader)
{
    const salvo_reader_options options = {.size = sizeof options, .open_timeout_ms = WAIT_MS};
    const uint64_t end = fault_now_ns() + UINT64_C(10000000000);
    int err;
    while ((err = salvo_reader_open(config, NULL, topic, &options, reader)) ==
               SALVO_ERR_UNKNOWN_TOPIC &&
           fault_now_ns() < end)
        nanosleep(&(struct timespec){0, 50000000}, NULL);
    return err;
}

static void *open_store(fault_shared *s, salvo *producer)
{
    (void)producer;
    salvo_config *config = NULL;
    kafka_store *k = calloc(1, sizeof *k);
    if (k == NULL || salvo_config_new(&config) != 0 ||
        salvo_config_set(config, "message_broker", "kafka") != 0 ||
        salvo_config_set(config, "kafka_bootstrap_servers", s->address) != 0 ||
        open_reader(config, s->topic, &k->reader) != 0 ||
        (k->admin = admin_of(s)) == NULL) {
        tell(s, "kafka reader", salvo_last_error());
        free(k);
        k = NULL;
    } else {
        k->answers = rd_kafka_queue_new(k->admin);
    }
    salvo_config_free(config);
    return k;
}

static void drop_answers(kafka_store *k)
{
    for (rd_kafka_event_t *e; (e = rd_kafka_queue_poll(k->answers, 0)) != NULL;)
        rd_kafka_event_destroy(e);
}

static void trim(kafka_store *k, fault_shared *s)
{
    k->trimmed_ns = fault_now_ns();
    drop_answers(k);
    rd_kafka_topic_partition_list_t *before =
        rd_kafka_topic_partition_list_new(FAULT_PARTITIONS);
    for (int p = 0; p < FAULT_PARTITIONS; p++)
        if (k->next[p] > 0)
            rd_kafka_topic_partition_list_add(before, s->topic, p)->offset = k->next[p];
    if (before->cnt > 0) {
        rd_kafka_DeleteRecords_t *request = rd_kafka_DeleteRecords_new(before);
        rd_kafka_DeleteRecords(k->admin, &request, 1, NULL, k->answers);
        rd_kafka_DeleteRecords_destroy(request);
    }
    rd_kafka_topic_partition_list_destroy(before);
}

static int read_some(void *store, fault_shared *s)
{
    kafka_store *k = store;
    salvo_record r;
    int n = 0, err = 0;
    while (n < 5000 && (err = salvo_reader_next(k->reader, n == 0 ? 100 : 0, &r)) == 0) {
        fault_take(s, r.key, r.key_len, r.value, r.value_len, false);
        if (r.partition >= 0 && r.partition < FAULT_PARTITIONS)
            k->next[r.partition] = r.offset + 1;
        n++;
    }
    if (err != 0 && err != SALVO_ERR_TIMEOUT)
        return tell(s, "kafka reader", salvo_last_error());
    if (fault_now_ns() - k->trimmed_ns > TRIM_NS)
        trim(k, s);
    return n;
}

static void close_store(void *store, fault_shared *s)
{
    kafka_store *k = store;
    rd_kafka_DeleteTopic_t *topic = rd_kafka_DeleteTopic_new(s->topic);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(k->admin);
    salvo_reader_close(k->reader);
    drop_answers(k);
    rd_kafka_DeleteTopics(k->admin, &topic, 1, NULL, queue);
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, 5000);
    if (event != NULL)
        rd_kafka_event_destroy(event);
    rd_kafka_DeleteTopic_destroy(topic);
    rd_kafka_queue_destroy(queue);
    rd_kafka_queue_destroy(k->answers);
    rd_kafka_destroy(k->admin);
    free(k);
}

const fault_store fault_store_kafka = {"kafka", create, open_store, read_some, close_store};
