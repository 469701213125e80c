/* SPDX-License-Identifier: Apache-2.0
 *
 * Removing a topic, by librdkafka's admin interface over a client of its own. The controller's
 * answer is awaited; the brokers drop the data soon after it.
 */
#include "error.h"
#include "kafka_config.h"
#include "kafka_internal.h"
#include <stdio.h>

static int judge(rd_kafka_event_t *event, const char *topic, char *error, size_t error_size)
{
    size_t count = 0;
    rd_kafka_resp_err_t err = rd_kafka_event_error(event);
    const char *text = rd_kafka_event_error_string(event);
    if (!err) {
        const rd_kafka_topic_result_t *const *results =
            rd_kafka_DeleteTopics_result_topics(rd_kafka_event_DeleteTopics_result(event), &count);
        err = count > 0 ? rd_kafka_topic_result_error(results[0]) : RD_KAFKA_RESP_ERR__FAIL;
        text = count > 0 ? rd_kafka_topic_result_error_string(results[0]) : NULL;
    }
    if (!err || err == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
        return 0;
    snprintf(error, error_size, "kafka: topic '%s' was not removed: %s", topic,
             text ? text : rd_kafka_err2str(err));
    return salvo_kafka_is_auth(err) ? SALVO_ERR_AUTH
           : err == RD_KAFKA_RESP_ERR__TIMED_OUT || err == RD_KAFKA_RESP_ERR__TRANSPORT
               ? SALVO_ERR_UNREACHABLE
               : SALVO_ERR_REJECTED;
}

static int ask(rd_kafka_t *rk, const char *topic, uint32_t timeout_ms, char *error,
               size_t error_size)
{
    char text[256];
    int timeout = timeout_ms > INT32_MAX / 2 ? INT32_MAX / 2 : (int)timeout_ms, err;
    rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
    rd_kafka_DeleteTopic_t *wish = rd_kafka_DeleteTopic_new(topic);
    rd_kafka_AdminOptions_t *options =
        rd_kafka_AdminOptions_new(rk, RD_KAFKA_ADMIN_OP_DELETETOPICS);
    rd_kafka_AdminOptions_set_request_timeout(options, timeout, text, sizeof text);
    rd_kafka_DeleteTopics(rk, &wish, 1, options, queue);
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, timeout + 1000);
    if (event) {
        err = judge(event, topic, error, error_size);
        rd_kafka_event_destroy(event);
    } else {
        snprintf(error, error_size, "kafka: no broker answered within %d ms about the removal of "
                 "topic '%s'", timeout, topic);
        err = SALVO_ERR_UNREACHABLE;
    }
    rd_kafka_AdminOptions_destroy(options);
    rd_kafka_DeleteTopic_destroy(wish);
    rd_kafka_queue_destroy(queue);
    return err;
}

static void on_log(const rd_kafka_t *rk, int level, const char *facility, const char *text)
{
    (void)rk;
    salvo_log(level > SALVO_LOG_DEBUG ? level : SALVO_LOG_DEBUG, "kafka admin: %s: %s", facility,
              text);
}

int salvo_kafka_topic_delete(const salvo_config *config, const char *topic, uint32_t timeout_ms,
                             char *error, size_t error_size)
{
    int err = 0;
    char text[384];
    rd_kafka_conf_t *conf =
        salvo_kafka_conf(config, RD_KAFKA_CONSUMER, NULL, &err, error, error_size);
    if (!conf)
        return err;
    rd_kafka_conf_set_log_cb(conf, on_log);
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, text, sizeof text);
    if (!rk) {
        rd_kafka_conf_destroy(conf);
        snprintf(error, error_size, "kafka admin: %s", text);
        return SALVO_ERR_CONFIG;
    }
    err = ask(rk, topic, timeout_ms, error, error_size);
    rd_kafka_destroy_flags(rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    return err;
}
