/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading a topic back, for tools and tests. All partitions are assigned by hand: nothing joins a
 * group, nothing is committed, no topic is created. Guarantees: records of one partition in order,
 * each once; with stop_at_end exactly those up to the ends found at the open, then
 * SALVO_ERR_END; errors of connections are librdkafka's to mend while the deadline lasts.
 */
#include "clock.h"
#include "error.h"
#include "kafka_config.h"
#include "kafka_internal.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MS UINT64_C(1000000)
#define FETCH_AT_ONCE 256
#define OPEN_TIMEOUT_MS 10000
#define SLICE_MS 500

typedef struct kafka_reader {
    rd_kafka_t *rk;
    rd_kafka_queue_t *queue;
    char *topic;
    const char *servers; /* the configuration's */
    bool stop_at_end, from_end;
    uint64_t deadline_ns; /* of the open */
    uint32_t timeout_ms;  /* of the open */
    int32_t partitions, partitions_left;
    int64_t *end;  /* by partition: first offset that is not read; -1: it is done */
    rd_kafka_message_t *fetched[FETCH_AT_ONCE];
    size_t fetched_count, next;
    salvo_header *headers;
    size_t header_room;
    bool refused; /* these two: the last trouble, from error_cb on this thread */
    char reason[SALVO_KAFKA_REASON_BYTES];
} kafka_reader;

static void on_log(const rd_kafka_t *rk, int level, const char *facility, const char *text)
{
    (void)rk;
    /* CONFWARN: a property for producers that passes through to a consumer too. FAIL: repeats for
     * every attempt what the error at the deadline tells once. */
    bool said = strcmp(facility, "CONFWARN") == 0 || strcmp(facility, "FAIL") == 0;
    salvo_log(said ? SALVO_LOG_DEBUG : level, "kafka reader: %s: %s", facility, text);
}

static void on_error(rd_kafka_t *rk, int err, const char *reason, void *opaque)
{
    (void)rk;
    kafka_reader *r = opaque;
    if (salvo_kafka_is_auth(err))
        r->refused = true;
    else if (err == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN && r->reason[0])
        return; /* the reason before says more */
    snprintf(r->reason, sizeof r->reason, "%s", reason);
}

static void drop_fetched(kafka_reader *r)
{
    for (size_t i = r->next; i < r->fetched_count; i++)
        rd_kafka_message_destroy(r->fetched[i]);
    r->next = r->fetched_count = 0;
}

void salvo_kafka_reader_close(void *reader)
{
    kafka_reader *r = reader;
    if (r->next)
        r->next--; /* the record that is still shown */
    drop_fetched(r);
    if (r->queue)
        rd_kafka_queue_destroy(r->queue);
    if (r->rk)
        rd_kafka_destroy_flags(r->rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    free(r->topic);
    free(r->end);
    free(r->headers);
    free(r);
}

static int start(kafka_reader *r, const salvo_config *config, char *error, size_t error_size)
{
    int err;
    char text[384];
    rd_kafka_conf_t *conf =
        salvo_kafka_conf(config, RD_KAFKA_CONSUMER, NULL, &err, error, error_size);
    if (!conf)
        return err;
    rd_kafka_conf_set_log_cb(conf, on_log);
    rd_kafka_conf_set_error_cb(conf, on_error);
    rd_kafka_conf_set_opaque(conf, r);
    r->rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, text, sizeof text);
    if (!r->rk) {
        rd_kafka_conf_destroy(conf);
        snprintf(error, error_size, "kafka reader: %s", text);
        return SALVO_ERR_CONFIG;
    }
    rd_kafka_poll_set_consumer(r->rk);
    r->queue = rd_kafka_queue_get_consumer(r->rk);
    return 0;
}

static int slice_ms(const kafka_reader *r)
{
    uint64_t now = salvo_clock_monotonic_ns();
    uint64_t left = now < r->deadline_ns ? (r->deadline_ns - now) / MS + 1 : 0;
    return left < SLICE_MS ? (int)left : SLICE_MS;
}

/* After a failed attempt: 0 to go on, or the error with its text. */
static int may_go_on(kafka_reader *r, rd_kafka_resp_err_t err, char *error, size_t error_size)
{
    while (rd_kafka_consume_batch_queue(r->queue, 0, r->fetched, 1) > 0)
        rd_kafka_message_destroy(r->fetched[0]); /* serves on_error; nothing is assigned yet */
    if (r->refused || salvo_kafka_is_auth(err)) {
        snprintf(error, error_size, "kafka: %s refused us for topic '%s': %s; see "
                 "kafka_security_protocol and kafka_sasl_*", r->servers, r->topic,
                 r->refused ? r->reason : rd_kafka_err2str(err));
        return SALVO_ERR_AUTH;
    }
    if (err == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART ||
        err == RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC || err == RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION) {
        snprintf(error, error_size, "kafka: there is no topic '%s' at %s", r->topic, r->servers);
        return SALVO_ERR_UNKNOWN_TOPIC;
    }
    if (slice_ms(r) > 0)
        return 0;
    snprintf(error, error_size, "kafka: no broker of kafka_bootstrap_servers = %s answered for "
             "topic '%s' within %u ms: %s", r->servers, r->topic, r->timeout_ms,
             r->reason[0] ? r->reason : rd_kafka_err2str(err));
    return SALVO_ERR_UNREACHABLE;
}

static int count_partitions(kafka_reader *r, char *error, size_t error_size)
{
    rd_kafka_topic_t *rkt = rd_kafka_topic_new(r->rk, r->topic, NULL);
    int failed = rkt ? 0 : SALVO_ERR_NOMEM;
    while (!failed && !r->partitions) {
        const struct rd_kafka_metadata *metadata;
        rd_kafka_resp_err_t err = rd_kafka_metadata(r->rk, 0, rkt, &metadata, slice_ms(r));
        if (!err) {
            err = metadata->topic_cnt ? metadata->topics[0].err : RD_KAFKA_RESP_ERR__FAIL;
            if (!err)
                r->partitions = metadata->topics[0].partition_cnt;
            rd_kafka_metadata_destroy(metadata);
        }
        if (!r->partitions)
            failed = may_go_on(r, err, error, error_size);
    }
    if (rkt)
        rd_kafka_topic_destroy(rkt);
    return failed;
}

static int assign(kafka_reader *r, char *error, size_t error_size)
{
    r->end = calloc((size_t)r->partitions, sizeof *r->end);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(r->partitions);
    int failed = r->end ? 0 : SALVO_ERR_NOMEM;
    for (int32_t p = 0; p < r->partitions && !failed; p++) {
        int64_t low, high;
        rd_kafka_resp_err_t err;
        do {
            err = rd_kafka_query_watermark_offsets(r->rk, r->topic, p, &low, &high, slice_ms(r));
            failed = err ? may_go_on(r, err, error, error_size) : 0;
        } while (err && !failed);
        if (failed)
            break;
        int64_t from = r->from_end ? high : low;
        r->end[p] = r->stop_at_end ? high : INT64_MAX;
        if (from >= r->end[p]) { /* nothing there to be read */
            r->end[p] = -1;
            continue;
        }
        r->partitions_left++;
        rd_kafka_topic_partition_list_add(list, r->topic, p)->offset = from;
    }
    rd_kafka_resp_err_t err = failed || !list->cnt ? RD_KAFKA_RESP_ERR_NO_ERROR
                                                   : rd_kafka_assign(r->rk, list);
    rd_kafka_topic_partition_list_destroy(list);
    if (!err)
        return failed;
    snprintf(error, error_size, "kafka: topic '%s': %s", r->topic, rd_kafka_err2str(err));
    return SALVO_ERR_UNREACHABLE;
}

int salvo_kafka_reader_open(const salvo_config *config, void *shared, const char *topic,
                            const salvo_reader_options *options, void **reader, char *error,
                            size_t error_size)
{
    (void)shared;
    *reader = NULL;
    snprintf(error, error_size, "kafka reader: no memory");
    kafka_reader *r = calloc(1, sizeof *r);
    if (!r)
        return SALVO_ERR_NOMEM;
    r->timeout_ms = options && options->open_timeout_ms ? options->open_timeout_ms
                                                        : OPEN_TIMEOUT_MS;
    r->deadline_ns = salvo_clock_monotonic_ns() + r->timeout_ms * MS;
    r->stop_at_end = options && options->stop_at_end;
    r->from_end = options && options->from_end;
    r->servers = salvo_config_get(config, "kafka_bootstrap_servers");
    r->topic = strdup(topic);
    int err = r->topic ? start(r, config, error, error_size) : SALVO_ERR_NOMEM;
    if (!err)
        err = count_partitions(r, error, error_size);
    if (!err)
        err = assign(r, error, error_size);
    if (err) {
        salvo_kafka_reader_close(r);
        return err;
    }
    *reader = r;
    error[0] = '\0';
    return 0;
}

static int show_headers(kafka_reader *r, const rd_kafka_message_t *m, salvo_record *record)
{
    rd_kafka_headers_t *headers;
    if (rd_kafka_message_headers(m, &headers))
        return 0; /* it has none */
    size_t count = rd_kafka_header_cnt(headers);
    if (count > r->header_room) {
        salvo_header *more = realloc(r->headers, count * sizeof *more);
        if (!more)
            return SALVO_ERR_NOMEM;
        r->headers = more;
        r->header_room = count;
    }
    for (size_t i = 0; i < count; i++) {
        salvo_header *h = &r->headers[i];
        rd_kafka_header_get_all(headers, i, &h->name, &h->value, &h->value_len);
        h->name_len = strlen(h->name);
    }
    record->headers = r->headers;
    record->header_count = count;
    return 0;
}

static int show(kafka_reader *r, const rd_kafka_message_t *m, salvo_record *record)
{
    *record = (salvo_record){
        .topic = r->topic,
        .partition = m->partition,
        .offset = m->offset,
        .timestamp_ms = rd_kafka_message_timestamp(m, NULL),
        .key = m->key,
        .key_len = m->key_len,
        .value = m->payload,
        .value_len = m->len,
    };
    return show_headers(r, m, record);
}

static void finish(kafka_reader *r, int32_t partition)
{
    r->end[partition] = -1;
    r->partitions_left--;
}

/* What a fetched message means: 1 a record, 0 go on, or an error. */
static int judge(kafka_reader *r, const rd_kafka_message_t *m, char *error, size_t error_size)
{
    bool ours = m->rkt && m->partition >= 0 && m->partition < r->partitions;
    if (m->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
        /* The log may end in what is no record (transaction markers). */
        if (ours && r->end[m->partition] >= 0 && m->offset >= r->end[m->partition])
            finish(r, m->partition);
        return 0;
    }
    if (m->err) {
        int32_t status = salvo_kafka_status(m->err, RD_KAFKA_MSG_STATUS_NOT_PERSISTED,
                                            SALVO_KAFKA_RUNNING);
        if (status != SALVO_ERR_AUTH && status != SALVO_ERR_UNKNOWN_TOPIC)
            return 0; /* librdkafka goes on by itself */
        snprintf(error, error_size, "kafka: topic '%s': %s", r->topic,
                 rd_kafka_message_errstr(m));
        return status;
    }
    if (!ours || r->end[m->partition] < 0)
        return 0;
    if (m->offset >= r->end[m->partition]) {
        finish(r, m->partition);
        return 0;
    }
    return 1;
}

/* The message after the last one; NULL: none came in time. Waits for one, takes what is there. */
static rd_kafka_message_t *fetch(kafka_reader *r, uint64_t wait_ms)
{
    if (r->next == r->fetched_count) {
        int wait = wait_ms < SLICE_MS ? (int)wait_ms : SLICE_MS;
        r->next = r->fetched_count = 0;
        ssize_t n = rd_kafka_consume_batch_queue(r->queue, wait, r->fetched, 1);
        if (n < 1)
            return NULL;
        r->fetched_count = 1;
        n = rd_kafka_consume_batch_queue(r->queue, 0, r->fetched + 1, FETCH_AT_ONCE - 1);
        r->fetched_count += n > 0 ? (size_t)n : 0;
    }
    return r->fetched[r->next++];
}

int salvo_kafka_reader_next(void *reader, uint64_t timeout_ms, salvo_record *record, char *error,
                            size_t error_size)
{
    kafka_reader *r = reader;
    uint64_t start_ns = salvo_clock_monotonic_ns();
    if (r->next)
        rd_kafka_message_destroy(r->fetched[r->next - 1]);
    for (;;) {
        if (!r->partitions_left && r->stop_at_end) {
            drop_fetched(r);
            return SALVO_ERR_END;
        }
        uint64_t spent = (salvo_clock_monotonic_ns() - start_ns) / MS;
        rd_kafka_message_t *m = fetch(r, timeout_ms > spent ? timeout_ms - spent : 0);
        if (!m && (salvo_clock_monotonic_ns() - start_ns) / MS < timeout_ms)
            continue;
        if (!m) {
            snprintf(error, error_size, "kafka: nothing new in topic '%s'%s%s", r->topic,
                     r->reason[0] ? "; last trouble: " : "", r->reason);
            return SALVO_ERR_TIMEOUT;
        }
        int what = judge(r, m, error, error_size);
        if (what == 1) {
            int err = show(r, m, record);
            /* the last one of its partition: nothing need follow to know that it ends */
            if (r->end[m->partition] == m->offset + 1)
                finish(r, m->partition);
            return err;
        }
        if (what < 0)
            return what; /* it stays "shown", and is given back by the next call */
        rd_kafka_message_destroy(m);
        if (r->next == r->fetched_count)
            r->next = r->fetched_count = 0;
    }
}
