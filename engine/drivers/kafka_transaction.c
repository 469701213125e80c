/* SPDX-License-Identifier: Apache-2.0
 *
 * Kafka's transactions: a producer of its own with a transactional id.
 *
 * Guarantees: a commit that returned 0 made all messages of the transaction and the offsets of
 * its consumer visible together; one that returned TRANSIENT or REJECTED made nothing visible, and
 * an abort follows; FATAL: this producer is fenced, or the outcome is the broker's to tell: the
 * next open of the id waits for it, and a rewind of the consumer then finds what was committed.
 * A message that failed fails the commit, with its topic and the reason. The queue is bounded by
 * buffer_bytes. All callbacks of librdkafka run on the calling thread but for its log lines.
 */
#include "clock.h"
#include "config_internal.h"
#include "error.h"
#include "kafka_consumer.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MS UINT64_C(1000000)
#define RETRY_PAUSE_MS 20
#define SERVE_SLICE_MS 100
#define ABORT_LEAST_MS 1000 /* so that a call with a timeout of 0 can ask at all */

typedef struct transaction {
    rd_kafka_t *rk;
    char *id, *servers;
    bool refused;
    char reason[SALVO_KAFKA_REASON_BYTES]; /* of the last trouble */
    bool aborting;
    uint64_t failed;           /* messages of this transaction */
    rd_kafka_resp_err_t first; /* why the first of them did */
    char first_topic[250];
} transaction;

/* --- callbacks --------------------------------------------------------------------------------*/

static void on_log(const rd_kafka_t *rk, int level, const char *facility, const char *text)
{
    (void)rk;
    salvo_log(salvo_kafka_client_level(facility, level), "kafka transaction: %s: %s", facility,
              text);
}

static void on_error(rd_kafka_t *rk, int err, const char *reason, void *opaque)
{
    (void)rk;
    transaction *t = opaque;
    if (salvo_kafka_is_auth(err))
        t->refused = true;
    else if (err == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN && t->reason[0])
        return; /* the reason before says more */
    snprintf(t->reason, sizeof t->reason, "%s", reason);
}

static void on_report(rd_kafka_t *rk, const rd_kafka_message_t *m, void *opaque)
{
    (void)rk;
    transaction *t = opaque;
    if (!m->err || t->aborting) /* an abort purges what is queued */
        return;
    if (t->failed++ == 0) {
        t->first = m->err;
        snprintf(t->first_topic, sizeof t->first_topic, "%s",
                 m->rkt ? rd_kafka_topic_name(m->rkt) : "?");
    }
}

/* --- errors -----------------------------------------------------------------------------------*/

/* Uses `failed` up. */
static int judge(transaction *t, const char *what, rd_kafka_error_t *failed, char *error,
                 size_t error_size)
{
    rd_kafka_resp_err_t err = rd_kafka_error_code(failed);
    char fatal_text[256] = "";
    bool fatal = rd_kafka_error_is_fatal(failed) ||
                 rd_kafka_fatal_error(t->rk, fatal_text, sizeof fatal_text);
    int code = fatal ? SALVO_ERR_FATAL : salvo_kafka_error_code(err);
    if (!fatal && (rd_kafka_error_is_retriable(failed) ||
                   (rd_kafka_error_txn_requires_abort(failed) && code != SALVO_ERR_AUTH)))
        code = SALVO_ERR_TRANSIENT;
    const char *next = code == SALVO_ERR_FATAL
                           ? "; close this transaction: another producer has its id, or it is "
                             "beyond repair"
                       : code == SALVO_ERR_TRANSIENT ? "; abort, and do the batch again" : "";
    snprintf(error, error_size, "kafka transaction '%s': %s: %s%s", t->id, what,
             fatal_text[0] ? fatal_text : rd_kafka_error_string(failed), next);
    rd_kafka_error_destroy(failed);
    return code;
}

static void pause_a_moment(void)
{
    struct timespec pause = {.tv_nsec = RETRY_PAUSE_MS * (long)MS};
    nanosleep(&pause, NULL);
}

/* True: it may be repeated, and was used up. */
static bool again(rd_kafka_error_t *failed, uint64_t deadline)
{
    if (!failed || !rd_kafka_error_is_retriable(failed) || salvo_kafka_left_ms(deadline) == 0)
        return false;
    rd_kafka_error_destroy(failed);
    pause_a_moment();
    return true;
}

/* --- open and close ---------------------------------------------------------------------------*/

static void free_transaction(transaction *t)
{
    if (t->rk)
        salvo_kafka_client_destroy(t->rk, salvo_log);
    free(t->id);
    free(t->servers);
    free(t);
}

static int start(transaction *t, const salvo_config *config, char *error, size_t error_size)
{
    int err;
    char text[384];
    rd_kafka_conf_t *conf =
        salvo_kafka_transaction_conf(config, t->id, salvo_log, &err, error, error_size);
    if (!conf)
        return err;
    rd_kafka_conf_set_log_cb(conf, on_log);
    rd_kafka_conf_set_error_cb(conf, on_error);
    rd_kafka_conf_set_dr_msg_cb(conf, on_report);
    rd_kafka_conf_set_opaque(conf, t);
    t->rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, text, sizeof text);
    if (t->rk)
        return 0;
    rd_kafka_conf_destroy(conf);
    snprintf(error, error_size, "kafka transaction: %s", text);
    return SALVO_ERR_CONFIG;
}

static void serve(void *context)
{
    rd_kafka_poll(((transaction *)context)->rk, 0);
}

/* Fences earlier producers of the id, and waits for what they left open to end. */
static int init(transaction *t, uint64_t deadline, char *error, size_t error_size)
{
    rd_kafka_error_t *failed;
    do {
        serve(t);
        int left = salvo_kafka_left_ms(deadline);
        failed = rd_kafka_init_transactions(t->rk, left > 0 ? left : 1);
    } while (again(failed, deadline));
    if (!failed)
        return 0;
    int code = judge(t, "cannot be opened", failed, error, error_size);
    return code == SALVO_ERR_TRANSIENT ? SALVO_ERR_UNREACHABLE : code;
}

static int open_transaction(const salvo_config *config, const char *id, uint32_t timeout_ms,
                            void **handle, char *error, size_t error_size)
{
    uint64_t deadline = salvo_kafka_deadline_ns(timeout_ms);
    *handle = NULL;
    snprintf(error, error_size, "kafka transaction: no memory");
    transaction *t = calloc(1, sizeof *t);
    if (!t)
        return SALVO_ERR_NOMEM;
    const char *servers = salvo_config_get(config, "kafka_bootstrap_servers");
    t->id = strdup(id);
    t->servers = strdup(servers ? servers : "");
    int err = t->id && t->servers ? 0 : SALVO_ERR_NOMEM;
    if (!err)
        err = start(t, config, error, error_size);
    salvo_kafka_waiting waiting = {.rk = t->rk, .serve = serve, .context = t,
                                   .refused = &t->refused, .reason = t->reason,
                                   .servers = t->servers, .timeout_ms = timeout_ms};
    if (!err)
        err = salvo_kafka_await_broker(&waiting, error, error_size);
    if (!err)
        err = init(t, deadline, error, error_size);
    if (err) {
        free_transaction(t);
        return err;
    }
    error[0] = '\0';
    *handle = t;
    return 0;
}

/* --- begin and send ---------------------------------------------------------------------------*/

static int begin(void *handle, char *error, size_t error_size)
{
    transaction *t = handle;
    serve(t);
    t->failed = 0;
    t->reason[0] = '\0';
    rd_kafka_error_t *failed = rd_kafka_begin_transaction(t->rk);
    return failed ? judge(t, "cannot begin", failed, error, error_size) : 0;
}

static rd_kafka_headers_t *headers_of(const salvo_message *m)
{
    rd_kafka_headers_t *headers = m->header_count ? rd_kafka_headers_new(m->header_count) : NULL;
    for (size_t i = 0; headers && i < m->header_count; i++) {
        const salvo_header *h = &m->headers[i];
        if (rd_kafka_header_add(headers, h->name, (ssize_t)h->name_len, h->value,
                                h->value ? (ssize_t)h->value_len : 0)) {
            rd_kafka_headers_destroy(headers);
            return NULL;
        }
    }
    return headers;
}

static rd_kafka_resp_err_t produce(transaction *t, const char *topic, const salvo_message *m)
{
    rd_kafka_headers_t *headers = headers_of(m);
    if (m->header_count && !headers)
        return RD_KAFKA_RESP_ERR__FAIL;
    union { const void *in; void *out; } value = {m->value}, key = {m->key};
    int32_t partition = m->partition_plus1 ? m->partition_plus1 - 1 : RD_KAFKA_PARTITION_UA;
    rd_kafka_vu_t vus[] = {
        {.vtype = RD_KAFKA_VTYPE_TOPIC, .u.cstr = topic},
        {.vtype = RD_KAFKA_VTYPE_PARTITION, .u.i32 = partition},
        {.vtype = RD_KAFKA_VTYPE_VALUE, .u.mem = {value.out, m->value_len}},
        {.vtype = RD_KAFKA_VTYPE_KEY, .u.mem = {key.out, m->key_len}},
        {.vtype = RD_KAFKA_VTYPE_MSGFLAGS, .u.i = RD_KAFKA_MSG_F_COPY},
        {.vtype = RD_KAFKA_VTYPE_TIMESTAMP, .u.i64 = m->timestamp_ms},
        {.vtype = RD_KAFKA_VTYPE_HEADERS, .u.headers = headers},
    };
    size_t count = sizeof vus / sizeof *vus;
    rd_kafka_error_t *failed = rd_kafka_produceva(t->rk, vus, headers ? count : count - 1);
    if (!failed)
        return RD_KAFKA_RESP_ERR_NO_ERROR; /* librdkafka owns the headers now */
    rd_kafka_resp_err_t err = rd_kafka_error_code(failed);
    rd_kafka_error_destroy(failed);
    if (headers)
        rd_kafka_headers_destroy(headers);
    return err;
}

static int send_refused(transaction *t, const char *topic, rd_kafka_resp_err_t err, char *error,
                        size_t error_size)
{
    if (rd_kafka_fatal_error(t->rk, NULL, 0))
        return judge(t, "cannot send", rd_kafka_error_new(RD_KAFKA_RESP_ERR__FATAL, "%s",
                                                          rd_kafka_err2str(err)),
                     error, error_size);
    /* State: an error before this one has ended the transaction. */
    int code = err == RD_KAFKA_RESP_ERR__STATE ? SALVO_ERR_TRANSIENT
               : err == RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION ? SALVO_ERR_PARTITION
                                                       : salvo_kafka_status(
                                                             err, RD_KAFKA_MSG_STATUS_NOT_PERSISTED,
                                                             SALVO_KAFKA_RUNNING);
    snprintf(error, error_size, "kafka transaction '%s': cannot send to topic '%s': %s%s%s", t->id,
             topic, rd_kafka_err2str(err), t->reason[0] ? "; last trouble: " : "", t->reason);
    return code;
}

static int send_message(void *handle, const char *topic, const salvo_message *message,
                        uint64_t timeout_ms, char *error, size_t error_size)
{
    transaction *t = handle;
    uint64_t deadline = salvo_kafka_deadline_ns(timeout_ms);
    for (;;) {
        rd_kafka_resp_err_t err = produce(t, topic, message);
        if (!err)
            return 0;
        if (err != RD_KAFKA_RESP_ERR__QUEUE_FULL)
            return send_refused(t, topic, err, error, error_size);
        int left = salvo_kafka_left_ms(deadline);
        if (left == 0) {
            snprintf(error, error_size, "kafka transaction '%s': no room for a message to topic "
                     "'%s' within %llu ms; commit sooner, or raise buffer_bytes%s%s", t->id, topic,
                     (unsigned long long)timeout_ms, t->reason[0] ? "; last trouble: " : "",
                     t->reason);
            return SALVO_ERR_TIMEOUT;
        }
        rd_kafka_poll(t->rk, left < SERVE_SLICE_MS ? left : SERVE_SLICE_MS);
    }
}

/* --- commit and abort -------------------------------------------------------------------------*/

/* All messages have their outcome, and it is good. */
static int deliver(transaction *t, uint64_t deadline, char *error, size_t error_size)
{
    rd_kafka_resp_err_t err;
    do { /* in slices: after the first failure the others wait for the abort */
        int left = salvo_kafka_left_ms(deadline);
        err = rd_kafka_flush(t->rk, left < SERVE_SLICE_MS ? left : SERVE_SLICE_MS);
    } while (err == RD_KAFKA_RESP_ERR__TIMED_OUT && t->failed == 0 &&
             salvo_kafka_left_ms(deadline) > 0);
    if (t->failed > 0) {
        if (rd_kafka_fatal_error(t->rk, NULL, 0))
            return judge(t, "cannot be committed", rd_kafka_error_new(RD_KAFKA_RESP_ERR__FATAL,
                                                                      "fatal"), error, error_size);
        bool passes = t->first == RD_KAFKA_RESP_ERR__MSG_TIMED_OUT ||
                      t->first == RD_KAFKA_RESP_ERR__PURGE_QUEUE || /* for another one's sake */
                      t->first == RD_KAFKA_RESP_ERR__PURGE_INFLIGHT ||
                      salvo_kafka_passes(t->first);
        snprintf(error, error_size, "kafka transaction '%s': %llu of its messages failed, the "
                 "first to topic '%s': %s; abort%s", t->id, (unsigned long long)t->failed,
                 t->first_topic, rd_kafka_err2str(t->first),
                 passes ? ", and do the batch again" : "; again it would fail again");
        return passes ? SALVO_ERR_TRANSIENT : SALVO_ERR_REJECTED;
    }
    if (!err)
        return 0;
    snprintf(error, error_size, "kafka transaction '%s': %d messages were not delivered in time%s%s"
             "; abort, and do the batch again", t->id, rd_kafka_outq_len(t->rk),
             t->reason[0] ? ": " : "", t->reason);
    return SALVO_ERR_TRANSIENT;
}

static int settle(transaction *t, salvo_kafka_consumer *consumer, uint64_t deadline,
                  rd_kafka_topic_partition_list_t **offsets, char *error, size_t error_size)
{
    rd_kafka_consumer_group_metadata_t *group;
    int err = salvo_kafka_consumer_settle(consumer, offsets, &group, error, error_size);
    if (err || !*offsets)
        return err;
    rd_kafka_error_t *failed;
    do {
        serve(t);
        int left = salvo_kafka_left_ms(deadline);
        failed = rd_kafka_send_offsets_to_transaction(t->rk, *offsets, group, left > 0 ? left : 1);
    } while (again(failed, deadline));
    rd_kafka_consumer_group_metadata_destroy(group);
    return failed ? judge(t, "its input cannot be settled", failed, error, error_size) : 0;
}

/* From here on the broker may have it: only the broker can tell, where its answer stays away. */
static int end(transaction *t, uint64_t deadline, char *error, size_t error_size)
{
    rd_kafka_error_t *failed;
    do {
        serve(t);
        int left = salvo_kafka_left_ms(deadline);
        failed = rd_kafka_commit_transaction(t->rk, left > 0 ? left : 1);
    } while (again(failed, deadline));
    if (!failed)
        return 0;
    if (!rd_kafka_error_is_retriable(failed))
        return judge(t, "cannot be committed", failed, error, error_size);
    snprintf(error, error_size, "kafka transaction '%s': whether it was committed is not known: "
             "%s; close it, open it again (which waits for the outcome), and rewind the consumer",
             t->id, rd_kafka_error_string(failed));
    rd_kafka_error_destroy(failed);
    return SALVO_ERR_FATAL;
}

static int commit(void *handle, void *consumer, uint32_t timeout_ms, char *error,
                  size_t error_size)
{
    transaction *t = handle;
    uint64_t deadline = salvo_kafka_deadline_ns(timeout_ms);
    rd_kafka_topic_partition_list_t *offsets = NULL;
    int err = deliver(t, deadline, error, error_size);
    if (!err && consumer)
        err = settle(t, consumer, deadline, &offsets, error, error_size);
    if (!err)
        err = end(t, deadline, error, error_size);
    if (offsets) {
        salvo_kafka_consumer *c = consumer;
        if (!err)
            salvo_kafka_offsets_known(c, offsets);
        c->env->count(c->env->consumer,
                      err ? SALVO_COUNT_COMMIT_FAILURES : SALVO_COUNT_COMMITS, 1);
        rd_kafka_topic_partition_list_destroy(offsets);
    }
    return err;
}

static int abort_transaction(void *handle, uint32_t timeout_ms, char *error, size_t error_size)
{
    transaction *t = handle;
    uint64_t deadline =
        salvo_kafka_deadline_ns(timeout_ms > ABORT_LEAST_MS ? timeout_ms : ABORT_LEAST_MS);
    rd_kafka_error_t *failed;
    t->aborting = true;
    do {
        serve(t);
        int left = salvo_kafka_left_ms(deadline);
        failed = rd_kafka_abort_transaction(t->rk, left > 0 ? left : 1);
    } while (again(failed, deadline));
    t->aborting = false;
    t->failed = 0;
    return failed ? judge(t, "cannot be aborted", failed, error, error_size) : 0;
}

static void close_transaction(void *handle, uint32_t timeout_ms)
{
    (void)timeout_ms; /* an open one was aborted by the engine */
    free_transaction(handle);
}

const salvo_driver_transaction_ops salvo_kafka_transaction_ops = {
    .open = open_transaction,
    .begin = begin,
    .send = send_message,
    .commit = commit,
    .abort = abort_transaction,
    .close = close_transaction,
};
