/* SPDX-License-Identifier: Apache-2.0
 *
 * Each kafka_* key reaches librdkafka's property, rdkafka.* wins, and what is refused is refused
 * by name and without showing a secret.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "driver.h"
#include "drivers/kafka_config.h"
#include <stdio.h>
#include <string.h>

static int notes;

static void count_notes(int level, const char *format, ...)
{
    (void)level, (void)format;
    notes++;
}

/* keys: name, value, name, value, ..., NULL */
static rd_kafka_conf_t *build(const char *const *keys, rd_kafka_type_t type, int expected,
                              char *error, size_t size)
{
    salvo_config *config;
    assert_int_equal(salvo_config_new(&config), 0);
    for (; *keys; keys += 2)
        if (salvo_config_set(config, keys[0], keys[1]))
            fail_msg("%s", salvo_config_error(config));
    int err;
    error[0] = '\0';
    rd_kafka_conf_t *conf = salvo_kafka_conf(config, type, count_notes, &err, error, size);
    salvo_config_free(config);
    if (err != expected)
        fail_msg("%d: %s", err, error);
    assert_int_equal(conf == NULL, expected != 0);
    return conf;
}

static void assert_is(rd_kafka_conf_t *conf, const char *property, const char *expected)
{
    char text[256] = "";
    size_t size = sizeof text;
    assert_int_equal(rd_kafka_conf_get(conf, property, text, &size), RD_KAFKA_CONF_OK);
    assert_string_equal(text, expected);
}

static void every_key_reaches_its_property(void **state)
{
    (void)state;
    static const char *const keys[] = {
        "kafka_bootstrap_servers", "a:1,b:2", "kafka_client_id", "me",
        "kafka_security_protocol", "SASL_SSL", "kafka_sasl_mechanism", "SCRAM-SHA-512",
        "kafka_sasl_username", "user", "kafka_sasl_password", "pass word",
        "kafka_ssl_cafile", "/ca", "kafka_ssl_certfile", "/cert", "kafka_ssl_keyfile", "/key",
        "kafka_compression_type", "zstd", "kafka_request_timeout_ms", "4000",
        "kafka_retry_backoff_ms", "70", "delivery_timeout_ms", "9000",
        "reconnect_backoff_ms", "30", "retry_backoff_max_ms", "800",
        "max_message_bytes", "2000000", "batch_messages", "20000",
        "rdkafka.socket.keepalive.enable", "true", NULL};
    static const char *const expected[][2] = {
        {"bootstrap.servers", "a:1,b:2"}, {"client.id", "me"},
        {"security.protocol", "sasl_ssl"}, {"sasl.mechanism", "SCRAM-SHA-512"},
        {"sasl.username", "user"}, {"sasl.password", "pass word"},
        {"ssl.ca.location", "/ca"}, {"ssl.certificate.location", "/cert"},
        {"ssl.key.location", "/key"}, {"compression.type", "zstd"},
        {"request.timeout.ms", "4000"}, {"socket.timeout.ms", "4000"},
        {"retry.backoff.ms", "70"}, {"message.timeout.ms", "9000"},
        {"reconnect.backoff.ms", "30"}, {"reconnect.backoff.max.ms", "800"},
        {"message.max.bytes", "2004096"}, {"batch.num.messages", "20000"},
        {"acks", "-1"}, {"enable.idempotence", "true"}, {"linger.ms", "0.5"},
        {"socket.keepalive.enable", "true"}, {"socket.nagle.disable", "true"}};
    char error[512];
    rd_kafka_conf_t *conf = build(keys, RD_KAFKA_PRODUCER, 0, error, sizeof error);
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++)
        assert_is(conf, expected[i][0], expected[i][1]);
    rd_kafka_conf_destroy(conf);
    conf = build(keys, RD_KAFKA_CONSUMER, 0, error, sizeof error);
    assert_is(conf, "sasl.password", "pass word");
    assert_is(conf, "enable.auto.commit", "false");
    assert_is(conf, "enable.partition.eof", "true");
    rd_kafka_conf_destroy(conf);
}

static void hear(void *context, int level, const char *text)
{
    (void)level;
    *(unsigned *)context += strstr(text, "through librdkafka") != NULL;
}

static void another_client_is_answered_once(void **state)
{
    (void)state;
    static const char *const backends[] = {"confluent", "aiokafka", "native"};
    unsigned heard = 0;
    salvo_set_log(hear, &heard);
    for (unsigned i = 0; i < 3; i++) {
        salvo_config *config;
        void *shared;
        char error[64];
        assert_int_equal(salvo_config_new(&config), 0);
        assert_int_equal(salvo_config_set(config, "kafka_backend", backends[i]), 0);
        assert_int_equal(salvo_driver_kafka.open_shared(config, &shared, error, sizeof error), 0);
        salvo_config_free(config);
        assert_int_equal(heard, i); /* not for confluent */
    }
    salvo_set_log(NULL, NULL);
}

static void acks_and_idempotence_are_reconciled(void **state)
{
    (void)state;
    char error[512];
    notes = 0;
    static const char *const one[] = {"kafka_acks", "1", NULL};
    rd_kafka_conf_t *conf = build(one, RD_KAFKA_PRODUCER, 0, error, sizeof error);
    assert_is(conf, "acks", "1");
    assert_is(conf, "enable.idempotence", "false");
    assert_is(conf, "max.in.flight.requests.per.connection", "1"); /* order survives retries */
    assert_int_equal(notes, 1);
    rd_kafka_conf_destroy(conf);
    static const char *const both[] = {"kafka_acks", "0", "kafka_enable_idempotence", "true",
                                       NULL};
    build(both, RD_KAFKA_PRODUCER, SALVO_ERR_CONFIG, error, sizeof error);
    assert_non_null(strstr(error, "kafka_acks"));
    assert_non_null(strstr(error, "kafka_enable_idempotence"));
}

static void passed_through_properties_win(void **state)
{
    (void)state;
    char error[512];
    static const char *const keys[] = {"kafka_client_id", "first", "rdkafka.client.id", "second",
                                       "rdkafka.linger.ms", "7", NULL};
    rd_kafka_conf_t *conf = build(keys, RD_KAFKA_PRODUCER, 0, error, sizeof error);
    assert_is(conf, "client.id", "second");
    assert_int_equal(salvo_kafka_conf_number(conf, "linger.ms", -1), 7);
    assert_int_equal(salvo_kafka_conf_number(conf, "no.such", -1), -1);
    rd_kafka_conf_destroy(conf);
}

static void refusals_name_the_key_and_no_secret(void **state)
{
    (void)state;
    char error[512];
    static const char *const refused[][3] = {
        {"rdkafka.no.such.property", "1", "rdkafka.no.such.property"},
        {"rdkafka.queue.buffering.max.messages", "many", "rdkafka.queue.buffering.max.messages"},
        {"rdkafka.delivery.report.only.error", "true", "rdkafka.delivery.report.only.error"},
        {"rdkafka.transactional.id", "t", "rdkafka.transactional.id"},
    };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        const char *const keys[] = {refused[i][0], refused[i][1], NULL};
        build(keys, RD_KAFKA_PRODUCER, SALVO_ERR_CONFIG, error, sizeof error);
        assert_non_null(strstr(error, refused[i][2]));
        assert_non_null(strstr(error, "code")); /* the source */
    }
    static const char *const secret[] = {"rdkafka.no.such.password", "hunter2", NULL};
    build(secret, RD_KAFKA_PRODUCER, SALVO_ERR_CONFIG, error, sizeof error);
    assert_null(strstr(error, "hunter2"));
}

static salvo_driver_burst burst_of(const char *key, const char *value)
{
    salvo_driver_burst burst = {0};
    salvo_config *config;
    assert_int_equal(salvo_config_new(&config), 0);
    if (key != NULL)
        assert_int_equal(salvo_config_set(config, key, value), 0);
    salvo_kafka_burst(config, &burst);
    salvo_config_free(config);
    return burst;
}

static void a_burst_is_one_request(void **state)
{
    (void)state;
    salvo_driver_burst burst = burst_of(NULL, NULL);
    assert_int_equal(burst.bytes, 1000000);
    assert_int_equal(burst.messages, 10000);
    assert_true(burst.message_bytes > 0);
    assert_int_equal(burst_of("rdkafka.batch.size", "200000").bytes, 200000);
    assert_int_equal(burst_of("batch_messages", "20000").messages, 20000);
    assert_int_equal(burst_of("kafka_enable_idempotence", "false").bytes, 0); /* no bound */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_key_reaches_its_property),
        cmocka_unit_test(another_client_is_answered_once),
        cmocka_unit_test(acks_and_idempotence_are_reconciled),
        cmocka_unit_test(a_burst_is_one_request),
        cmocka_unit_test(passed_through_properties_win),
        cmocka_unit_test(refusals_name_the_key_and_no_secret),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
