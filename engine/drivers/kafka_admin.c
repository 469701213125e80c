/* SPDX-License-Identifier: Apache-2.0
 *
 * Making and removing topics, by librdkafka's admin interface: the controller's answer is awaited.
 * A topic that was made is known to the brokers when the call returns, as far as the deadline
 * allows; the brokers drop a removed one's data soon after it.
 */
#include "kafka_admin.h"
#include "clock.h"
#include "error.h"
#include "kafka_config.h"
#include "kafka_internal.h"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define MS UINT64_C(1000000)
enum { SLICE_MS = 50, GRACE_MS = 1000, TIMEOUT_MOST_MS = 3600000 };

static void on_log(const rd_kafka_t *rk, int level, const char *facility, const char *text)
{
    (void)rk;
    salvo_log(level > SALVO_LOG_DEBUG ? level : SALVO_LOG_DEBUG, "kafka admin: %s: %s", facility,
              text);
}

static void on_error(rd_kafka_t *rk, int err, const char *reason, void *opaque)
{
    (void)rk;
    salvo_kafka_admin *a = opaque;
    if (salvo_kafka_is_auth(err))
        a->refused = true;
    else if (err == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN && a->reason[0])
        return; /* the reason before says more */
    snprintf(a->reason, sizeof a->reason, "%s", reason);
}

int salvo_kafka_admin_open(salvo_kafka_admin *a, const salvo_config *config, const char *group,
                           uint32_t timeout_ms, char *error, size_t error_size)
{
    int err = 0;
    char text[384] = "";
    *a = (salvo_kafka_admin){.servers = salvo_config_get(config, "kafka_bootstrap_servers")};
    a->timeout_ms = timeout_ms < TIMEOUT_MOST_MS ? timeout_ms : TIMEOUT_MOST_MS;
    a->end_ns = salvo_clock_monotonic_ns() + a->timeout_ms * MS;
    rd_kafka_conf_t *conf =
        salvo_kafka_conf(config, RD_KAFKA_CONSUMER, NULL, &err, error, error_size);
    if (!conf)
        return err;
    rd_kafka_conf_set_log_cb(conf, on_log);
    rd_kafka_conf_set_error_cb(conf, on_error);
    rd_kafka_conf_set_opaque(conf, a);
    if (!group ||
        rd_kafka_conf_set(conf, "group.id", group, text, sizeof text) == RD_KAFKA_CONF_OK)
        a->rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, text, sizeof text);
    if (!a->rk) {
        rd_kafka_conf_destroy(conf);
        snprintf(error, error_size, "kafka admin: %s", text);
        return SALVO_ERR_CONFIG;
    }
    a->queue = rd_kafka_queue_new(a->rk);
    return 0;
}

void salvo_kafka_admin_close(salvo_kafka_admin *a)
{
    rd_kafka_queue_destroy(a->queue);
    rd_kafka_destroy_flags(a->rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
}

int salvo_kafka_admin_left_ms(const salvo_kafka_admin *a)
{
    uint64_t now = salvo_clock_monotonic_ns();
    return now < a->end_ns ? (int)((a->end_ns - now) / MS + 1) : 1;
}

rd_kafka_AdminOptions_t *salvo_kafka_admin_options(const salvo_kafka_admin *a,
                                                   rd_kafka_admin_op_t op)
{
    char text[256];
    rd_kafka_AdminOptions_t *options = rd_kafka_AdminOptions_new(a->rk, op);
    rd_kafka_AdminOptions_set_request_timeout(options, salvo_kafka_admin_left_ms(a), text,
                                              sizeof text);
    if (op == RD_KAFKA_ADMIN_OP_CREATETOPICS || op == RD_KAFKA_ADMIN_OP_DELETETOPICS)
        rd_kafka_AdminOptions_set_operation_timeout(options, salvo_kafka_admin_left_ms(a), text,
                                                    sizeof text);
    return options;
}

rd_kafka_event_t *salvo_kafka_admin_wait(salvo_kafka_admin *a)
{
    uint64_t end = a->end_ns + GRACE_MS * MS; /* librdkafka's own deadline comes first */
    rd_kafka_event_t *event = NULL;
    while (!event && !a->refused && salvo_clock_monotonic_ns() < end) {
        event = rd_kafka_queue_poll(a->queue, SLICE_MS);
        rd_kafka_poll(a->rk, 0); /* serves on_error */
    }
    return event;
}

static bool no_answer(rd_kafka_resp_err_t err)
{
    return err == RD_KAFKA_RESP_ERR__TIMED_OUT || err == RD_KAFKA_RESP_ERR__TRANSPORT ||
           err == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN || err == RD_KAFKA_RESP_ERR__RESOLVE ||
           err == RD_KAFKA_RESP_ERR__WAIT_COORD;
}

int salvo_kafka_admin_fail(salvo_kafka_admin *a, rd_kafka_resp_err_t err, const char *text,
                           const char *what, char *error, size_t error_size)
{
    rd_kafka_poll(a->rk, 0); /* serves on_error */
    if (a->refused || salvo_kafka_is_auth(err)) {
        snprintf(error, error_size, "kafka: %s refused us for %s: %s; see "
                 "kafka_security_protocol, kafka_sasl_* and the rights of the user", a->servers,
                 what, a->refused ? a->reason : rd_kafka_err2str(err));
        return SALVO_ERR_AUTH;
    }
    if (no_answer(err)) {
        snprintf(error, error_size, "kafka: no broker of kafka_bootstrap_servers = %s answered "
                 "for %s within %u ms: %s", a->servers, what, a->timeout_ms,
                 a->reason[0] ? a->reason : rd_kafka_err2str(err));
        return SALVO_ERR_UNREACHABLE;
    }
    if (err == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART ||
        err == RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC) {
        snprintf(error, error_size, "kafka: there is no %s at %s", what, a->servers);
        return SALVO_ERR_UNKNOWN_TOPIC;
    }
    if (err == RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS)
        snprintf(error, error_size, "kafka: there is a %s already at %s", what, a->servers);
    else
        snprintf(error, error_size, "kafka: %s: %s", what, text ? text : rd_kafka_err2str(err));
    return SALVO_ERR_REJECTED;
}

/* A topic that was just made, a leader or coordinator that moves. */
static bool is_passing(rd_kafka_resp_err_t err)
{
    static const rd_kafka_resp_err_t passing[] = {
        RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE, RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        RD_KAFKA_RESP_ERR_REPLICA_NOT_AVAILABLE, RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR,
        RD_KAFKA_RESP_ERR_OFFSET_NOT_AVAILABLE, RD_KAFKA_RESP_ERR_FENCED_LEADER_EPOCH,
        RD_KAFKA_RESP_ERR_UNKNOWN_LEADER_EPOCH, RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE,
        RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS, RD_KAFKA_RESP_ERR_NOT_COORDINATOR};
    for (size_t i = 0; i < sizeof passing / sizeof *passing; i++)
        if (err == passing[i])
            return true;
    return false;
}

static void nap(void)
{
    nanosleep(&(struct timespec){.tv_nsec = SLICE_MS * (long)MS}, NULL);
}

static rd_kafka_resp_err_t one_topic(rd_kafka_t *rk, const char *topic, int timeout_ms,
                                     const struct rd_kafka_metadata **metadata)
{
    rd_kafka_topic_t *rkt = topic ? rd_kafka_topic_new(rk, topic, NULL) : NULL;
    if (topic && !rkt)
        return rd_kafka_last_error();
    rd_kafka_resp_err_t err = rd_kafka_metadata(rk, !topic, rkt, metadata, timeout_ms);
    if (rkt)
        rd_kafka_topic_destroy(rkt);
    if (err || !topic)
        return err;
    err = (*metadata)->topic_cnt ? (*metadata)->topics[0].err : RD_KAFKA_RESP_ERR__FAIL;
    if (!err && (*metadata)->topics[0].partition_cnt == 0)
        err = RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE;
    if (err)
        rd_kafka_metadata_destroy(*metadata);
    return err;
}

const struct rd_kafka_metadata *salvo_kafka_admin_metadata(salvo_kafka_admin *a,
                                                           const char *topic, int *err,
                                                           char *error, size_t error_size)
{
    char what[280];
    const struct rd_kafka_metadata *metadata;
    rd_kafka_resp_err_t failed;
    do { /* in slices: a refusal is told at once */
        int left = salvo_kafka_admin_left_ms(a);
        failed = one_topic(a->rk, topic, left < 10 * SLICE_MS ? left : 10 * SLICE_MS, &metadata);
        rd_kafka_poll(a->rk, 0); /* serves on_error */
        if (is_passing(failed))
            nap();
    } while ((no_answer(failed) || is_passing(failed)) && !a->refused &&
             salvo_clock_monotonic_ns() < a->end_ns);
    *err = 0;
    if (!failed)
        return metadata;
    snprintf(what, sizeof what, topic ? "topic '%s'" : "the list of topics%s", topic ? topic : "");
    *err = salvo_kafka_admin_fail(a, failed, NULL, what, error, error_size);
    return NULL;
}

rd_kafka_resp_err_t salvo_kafka_admin_offsets(salvo_kafka_admin *a, const char *topic,
                                              int32_t partitions, int64_t which,
                                              rd_kafka_topic_partition_list_t **out)
{
    bool committed = which == RD_KAFKA_OFFSET_STORED;
    rd_kafka_resp_err_t err;
    for (;;) {
        int left = salvo_kafka_admin_left_ms(a);
        *out = rd_kafka_topic_partition_list_new(partitions);
        for (int32_t p = 0; p < partitions; p++)
            rd_kafka_topic_partition_list_add(*out, topic, p)->offset = which;
        err = committed ? rd_kafka_committed(a->rk, *out, left)
                        : rd_kafka_offsets_for_times(a->rk, *out, left);
        for (int p = 0; !err && p < (*out)->cnt; p++)
            err = (*out)->elems[p].err;
        if (!err && (*out)->cnt != partitions)
            err = RD_KAFKA_RESP_ERR__FAIL;
        if (!err)
            break;
        rd_kafka_topic_partition_list_destroy(*out);
        *out = NULL;
        rd_kafka_poll(a->rk, 0); /* serves on_error */
        if (!is_passing(err) || a->refused || salvo_clock_monotonic_ns() >= a->end_ns)
            return err;
        nap();
    }
    rd_kafka_topic_partition_list_sort(*out, NULL, NULL);
    return err;
}

int salvo_kafka_admin_bounds(salvo_kafka_admin *a, const char *topic, int32_t partitions,
                             rd_kafka_topic_partition_list_t **first,
                             rd_kafka_topic_partition_list_t **last, char *error,
                             size_t error_size)
{
    char what[280];
    rd_kafka_resp_err_t err = salvo_kafka_admin_offsets(a, topic, partitions,
                                                        RD_KAFKA_OFFSET_BEGINNING, first);
    if (!err)
        err = salvo_kafka_admin_offsets(a, topic, partitions, RD_KAFKA_OFFSET_END, last);
    if (!err)
        return 0;
    if (*first)
        rd_kafka_topic_partition_list_destroy(*first);
    snprintf(what, sizeof what, "topic '%s'", topic);
    return salvo_kafka_admin_fail(a, err, NULL, what, error, error_size);
}

/* --- create and delete ----------------------------------------------------------------------- */

/* The one result in the answer to a creation or a removal; NULL: no answer. */
static rd_kafka_resp_err_t result_of(rd_kafka_event_t *e, const char **text)
{
    size_t count = 0;
    const rd_kafka_topic_result_t *const *results = NULL;
    *text = NULL;
    if (!e)
        return RD_KAFKA_RESP_ERR__TIMED_OUT;
    if (rd_kafka_event_error(e)) {
        *text = rd_kafka_event_error_string(e);
        return rd_kafka_event_error(e);
    }
    if (rd_kafka_event_type(e) == RD_KAFKA_EVENT_CREATETOPICS_RESULT)
        results = (const rd_kafka_topic_result_t *const *)rd_kafka_CreateTopics_result_topics(
            rd_kafka_event_CreateTopics_result(e), &count);
    else if (rd_kafka_event_type(e) == RD_KAFKA_EVENT_DELETETOPICS_RESULT)
        results = (const rd_kafka_topic_result_t *const *)rd_kafka_DeleteTopics_result_topics(
            rd_kafka_event_DeleteTopics_result(e), &count);
    if (count == 0)
        return RD_KAFKA_RESP_ERR__FAIL;
    *text = rd_kafka_topic_result_error_string(results[0]);
    return rd_kafka_topic_result_error(results[0]);
}

static int judge(salvo_kafka_admin *a, const char *what, const char *topic, bool absent_is_fine,
                 char *error, size_t error_size)
{
    char words[300];
    const char *text;
    rd_kafka_event_t *event = salvo_kafka_admin_wait(a);
    rd_kafka_resp_err_t err = result_of(event, &text);
    int status = 0;
    snprintf(words, sizeof words, "%s '%s'", what, topic);
    if (err && !(absent_is_fine && err == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART))
        status = salvo_kafka_admin_fail(a, err, text, words, error, error_size);
    if (event)
        rd_kafka_event_destroy(event);
    return status;
}

int salvo_kafka_topic_delete(const salvo_config *config, const char *topic, uint32_t timeout_ms,
                             char *error, size_t error_size)
{
    salvo_kafka_admin a;
    int err = salvo_kafka_admin_open(&a, config, NULL, timeout_ms, error, error_size);
    if (err)
        return err;
    rd_kafka_DeleteTopic_t *wish = rd_kafka_DeleteTopic_new(topic);
    rd_kafka_AdminOptions_t *options =
        salvo_kafka_admin_options(&a, RD_KAFKA_ADMIN_OP_DELETETOPICS);
    rd_kafka_DeleteTopics(a.rk, &wish, 1, options, a.queue);
    err = judge(&a, "topic", topic, true, error, error_size);
    rd_kafka_AdminOptions_destroy(options);
    rd_kafka_DeleteTopic_destroy(wish);
    salvo_kafka_admin_close(&a);
    return err;
}

static rd_kafka_NewTopic_t *wish_of(const salvo_topic_spec *spec, char *error, size_t error_size)
{
    char text[256], number[24];
    rd_kafka_NewTopic_t *wish = rd_kafka_NewTopic_new(spec->name, spec->partitions,
                                                      spec->replication_factor, text, sizeof text);
    if (!wish) {
        snprintf(error, error_size, "kafka: topic '%s': %s", spec->name, text);
        return NULL;
    }
    snprintf(number, sizeof number, "%lld", (long long)spec->retention_ms);
    if (spec->retention_ms != SALVO_RETENTION_DEFAULT)
        rd_kafka_NewTopic_set_config(wish, "retention.ms", number);
    if (spec->cleanup_policy)
        rd_kafka_NewTopic_set_config(wish, "cleanup.policy", spec->cleanup_policy);
    return wish;
}

/* The controller has it; that the others have heard of it may take a moment. */
static void await_known(salvo_kafka_admin *a, const char *topic)
{
    char error[16];
    int err;
    const struct rd_kafka_metadata *metadata;
    do {
        metadata = salvo_kafka_admin_metadata(a, topic, &err, error, sizeof error);
        if (!metadata)
            nap();
    } while (!metadata && salvo_clock_monotonic_ns() < a->end_ns);
    if (metadata)
        rd_kafka_metadata_destroy(metadata);
}

static int kafka_create(const salvo_config *config, void *shared, const salvo_topic_spec *spec,
                        uint32_t timeout_ms, char *error, size_t error_size)
{
    salvo_kafka_admin a;
    (void)shared;
    int err = salvo_kafka_admin_open(&a, config, NULL, timeout_ms, error, error_size);
    if (err)
        return err;
    rd_kafka_NewTopic_t *wish = wish_of(spec, error, error_size);
    err = SALVO_ERR_INVALID;
    if (wish) {
        rd_kafka_AdminOptions_t *options =
            salvo_kafka_admin_options(&a, RD_KAFKA_ADMIN_OP_CREATETOPICS);
        rd_kafka_CreateTopics(a.rk, &wish, 1, options, a.queue);
        err = judge(&a, "topic", spec->name, false, error, error_size);
        rd_kafka_AdminOptions_destroy(options);
        rd_kafka_NewTopic_destroy(wish);
    }
    if (!err)
        await_known(&a, spec->name);
    salvo_kafka_admin_close(&a);
    return err;
}

const salvo_driver_topic_ops salvo_kafka_topic_ops = {
    .can = SALVO_TOPIC_CAN_PARTITIONS | SALVO_TOPIC_CAN_REPLICAS | SALVO_TOPIC_CAN_RETENTION |
           SALVO_TOPIC_CAN_COMPACT,
    .create = kafka_create,
    .list = salvo_kafka_topic_list,
    .describe = salvo_kafka_topic_describe,
};
