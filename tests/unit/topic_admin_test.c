/* SPDX-License-Identifier: Apache-2.0
 *
 * Topics at the broker: what is wrong is told before anything is asked, a broker that is not there
 * within the time that was given; and all of it on `memory`. Real servers: the conformance suite
 * (tests/conformance/cases_topics.c) and the command's tests (tests/cli/topics_test.sh).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <salvo/consumer.h>
#include <salvo/topics.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static salvo_config *config_of(const char *broker, const char *key, const char *value)
{
    salvo_config *config = NULL;
    assert_int_equal(salvo_config_new(&config), 0);
    assert_int_equal(salvo_config_set(config, "message_broker", broker), 0);
    if (key)
        assert_int_equal(salvo_config_set(config, key, value), 0);
    return config;
}

static void test_what_is_wrong_is_told(void **state)
{
    (void)state;
    salvo_config *config = config_of("memory", NULL, NULL);
    char longer[260];
    memset(longer, 'x', sizeof longer);
    longer[sizeof longer - 1] = '\0';
    assert_int_equal(salvo_topic_delete(NULL, "a", 0), SALVO_ERR_INVALID);
    assert_int_equal(salvo_topic_delete(config, NULL, 0), SALVO_ERR_INVALID);
    assert_int_equal(salvo_topic_delete(config, "", 0), SALVO_ERR_INVALID);
    assert_int_equal(salvo_topic_delete(config, longer, 0), SALVO_ERR_INVALID);
    assert_non_null(strstr(salvo_last_error(), "249"));
    assert_int_equal(salvo_topic_delete(config, "a", 0), 0); /* ends with its producer anyway */
    salvo_config_free(config);
}

static void refused(int err, int expected, const char *words)
{
    assert_int_equal(err, expected);
    if (!strstr(salvo_last_error(), words))
        fail_msg("\"%s\" lacks \"%s\"", salvo_last_error(), words);
}

static void test_specs_are_checked(void **state)
{
    (void)state;
    static const struct {
        salvo_topic_spec spec;
        const char *words;
    } wrong[] = {
        {{.size = 0, .name = "a"}, "size"},
        {{.size = sizeof(salvo_topic_spec)}, "249"},
        {{.size = sizeof(salvo_topic_spec), .name = ""}, "249"},
        {{.size = sizeof(salvo_topic_spec), .name = "a b"}, "letters"},
        {{.size = sizeof(salvo_topic_spec), .name = "a", .partitions = -1}, "partitions"},
        {{.size = sizeof(salvo_topic_spec), .name = "a", .partitions = 100001}, "partitions"},
        {{.size = sizeof(salvo_topic_spec), .name = "a", .replication_factor = -2}, "replication"},
        {{.size = sizeof(salvo_topic_spec), .name = "a", .retention_ms = -2}, "retention_ms"},
        {{.size = sizeof(salvo_topic_spec), .name = "a", .cleanup_policy = "keep"}, "cleanup"},
        {{.size = sizeof(salvo_topic_spec), .name = "a", .cleanup_policy = ""}, "cleanup"},
    };
    salvo_config *config = config_of("memory", NULL, NULL);
    char text[64] = "old";
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        refused(salvo_topic_create(config, NULL, &wrong[i].spec, 0), SALVO_ERR_INVALID,
                wrong[i].words);
        refused(salvo_topic_ensure(config, NULL, &wrong[i].spec, text, sizeof text, 0),
                SALVO_ERR_INVALID, wrong[i].words);
    }
    assert_string_equal(text, "");
    refused(salvo_topic_create(config, NULL, NULL, 0), SALVO_ERR_INVALID, "NULL");
    refused((int)salvo_topic_list(config, NULL, NULL, 1, 0), SALVO_ERR_INVALID, "NULL");
    refused(salvo_topic_describe(config, NULL, "a", NULL, 0), SALVO_ERR_INVALID, "NULL");
    salvo_lag lag;
    refused((int)salvo_group_lag(config, NULL, "", "a", &lag, 1, 0), SALVO_ERR_INVALID, "group");
    refused((int)salvo_group_lag(config, NULL, "g", NULL, &lag, 1, 0), SALVO_ERR_INVALID, "topic");
    refused((int)salvo_group_lag(config, NULL, "g", "a", NULL, 1, 0), SALVO_ERR_INVALID, "NULL");
    salvo_topic_spec plain = {.size = sizeof plain, .name = "a"};
    refused(salvo_topic_create(config, NULL, &plain, 0), SALVO_ERR_INVALID, "give that producer");
    salvo_config_free(config);
    config = config_of("null", NULL, NULL);
    refused(salvo_topic_create(config, NULL, &plain, 0), SALVO_ERR_UNSUPPORTED, "null");
    salvo_config_free(config);
}

/* Refused before anybody is asked: there is no server here. */
static void test_wishes_that_cannot_be_fulfilled(void **state)
{
    (void)state;
    static const struct {
        const char *broker;
        salvo_topic_spec spec;
        const char *words;
    } wishes[] = {
        {"redis", {.partitions = 2}, "partition"},
        {"redis", {.replication_factor = 2}, "replication"},
        {"redis", {.retention_ms = 1000}, "retention"},
        {"redis", {.retention_ms = SALVO_RETENTION_FOREVER}, "retention"},
        {"redis", {.cleanup_policy = "compact"}, "compacted"},
        {"rabbitmq", {.partitions = 2}, "partition"},
        {"rabbitmq", {.replication_factor = 2}, "replication"},
        {"rabbitmq", {.cleanup_policy = "compact,delete"}, "compacted"},
    };
    for (size_t i = 0; i < sizeof wishes / sizeof *wishes; i++) {
        salvo_config *config = config_of(wishes[i].broker, NULL, NULL);
        salvo_topic_spec spec = wishes[i].spec;
        spec.size = sizeof spec;
        spec.name = "a";
        refused(salvo_topic_create(config, NULL, &spec, 200), SALVO_ERR_UNSUPPORTED,
                wishes[i].words);
        refused(salvo_topic_ensure(config, NULL, &spec, NULL, 0, 200), SALVO_ERR_UNSUPPORTED,
                wishes[i].words);
        salvo_config_free(config);
    }
}

/* --- memory ---------------------------------------------------------------------------------- */

static salvo *memory_producer(void)
{
    salvo_config *config = config_of("memory", "memory_partitions", "2");
    salvo *producer = NULL;
    assert_int_equal(salvo_open(config, NULL, &producer), 0);
    salvo_config_free(config);
    return producer;
}

static void send_some(salvo *producer, const char *name, int count)
{
    salvo_topic topic;
    assert_int_equal(salvo_topic_open(producer, name, NULL, &topic), 0);
    for (int i = 0; i < count; i++)
        assert_int_equal(salvo_send_fire_and_forget(producer, topic, &i, sizeof i, "v", 1), 0);
    assert_int_equal(salvo_flush(producer, 10000), 0);
}

static void test_memory(void **state)
{
    (void)state;
    salvo *producer = memory_producer();
    salvo_topic_info info, all[4];
    salvo_topic_spec b = {.size = sizeof b, .name = "b", .partitions = 5, .cleanup_policy =
                          "delete"};
    refused(salvo_topic_describe(NULL, producer, "b", &info, 0), SALVO_ERR_UNKNOWN_TOPIC, "'b'");
    assert_int_equal(salvo_topic_list(NULL, producer, NULL, 0, 0), 0);
    assert_int_equal(salvo_topic_create(NULL, producer, &b, 0), 0);
    refused(salvo_topic_create(NULL, producer, &b, 0), SALVO_ERR_REJECTED, "'b' already");
    send_some(producer, "b", 100);
    send_some(producer, "a", 3); /* made by its first message */
    assert_int_equal(salvo_topic_describe(NULL, producer, "b", &info, 0), 0);
    assert_string_equal(info.name, "b");
    assert_int_equal(info.partitions, 5);
    assert_int_equal(info.messages, 100);
    assert_int_equal(info.replication_factor, -1);
    assert_string_equal(info.cleanup_policy, "");
    memset(all, 'x', sizeof all);
    assert_int_equal(salvo_topic_list(NULL, producer, all, 1, 0), 2); /* there is room for one */
    assert_string_equal(all[0].name, "a");
    assert_int_equal(all[1].name[0], 'x');
    assert_int_equal(salvo_topic_list(NULL, producer, all, 4, 0), 2);
    assert_int_equal(all[0].partitions, 2);
    assert_int_equal(all[0].messages, -1);
    assert_string_equal(all[1].name, "b");
    b.partitions = 1025;
    b.name = "c";
    refused(salvo_topic_create(NULL, producer, &b, 0), SALVO_ERR_INVALID, "1024");
    assert_int_equal(salvo_close(producer, 1000, NULL), 0);
    refused(salvo_topic_describe(NULL, producer, "b", &info, 0), SALVO_ERR_CLOSED, "closed");
}

static void test_ensure(void **state)
{
    (void)state;
    salvo *producer = memory_producer();
    char text[256];
    salvo_topic_spec spec = {.size = sizeof spec, .name = "a", .partitions = 3};
    assert_int_equal(salvo_topic_ensure(NULL, producer, &spec, text, sizeof text, 0), 1);
    assert_string_equal(text, "");
    assert_int_equal(salvo_topic_ensure(NULL, producer, &spec, text, sizeof text, 0), 0);
    spec.partitions = 6;
    assert_int_equal(salvo_topic_ensure(NULL, producer, &spec, text, sizeof text, 0), 2);
    assert_string_equal(text, "partitions: 3, wanted 6");
    assert_int_equal(salvo_topic_ensure(NULL, producer, &spec, text, 11, 0), 2);
    assert_string_equal(text, "partitions"); /* cut where the room ends */
    assert_int_equal(salvo_topic_ensure(NULL, producer, &spec, NULL, 0, 0), 2);
    spec.partitions = 0; /* any will do */
    assert_int_equal(salvo_topic_ensure(NULL, producer, &spec, text, sizeof text, 0), 0);
    salvo_topic_info info;
    assert_int_equal(salvo_topic_describe(NULL, producer, "a", &info, 0), 0);
    assert_int_equal(info.partitions, 3); /* nothing was changed */
    spec.retention_ms = 1000;
    refused(salvo_topic_ensure(NULL, producer, &spec, text, sizeof text, 0),
            SALVO_ERR_UNSUPPORTED, "retention");
    assert_int_equal(salvo_close(producer, 1000, NULL), 0);
}

/* Of a group that nobody has joined yet, from where it would begin. */
static void test_lag_of_a_new_group(void **state)
{
    (void)state;
    static const struct {
        const char *reset;
        int64_t lag;
    } cases[] = {{"earliest", 30}, {"latest", 0}, {"none", -1}};
    salvo *producer = memory_producer();
    send_some(producer, "a", 30);
    for (size_t i = 0; i < 3; i++) {
        salvo_lag lags[2];
        salvo_config *config = config_of("memory", "kafka_auto_offset_reset", cases[i].reset);
        assert_int_equal(salvo_group_lag(config, producer, "g", "a", lags, 2, 0), 2);
        assert_string_equal(lags[1].topic, "a");
        assert_int_equal(lags[1].partition, 1);
        assert_int_equal(lags[0].committed, -1);
        assert_int_equal(lags[0].end + lags[1].end, 30);
        assert_int_equal(lags[0].lag < 0 ? -1 : lags[0].lag + lags[1].lag, cases[i].lag);
        refused((int)salvo_group_lag(config, producer, "g", "b", lags, 2, 0),
                SALVO_ERR_UNKNOWN_TOPIC, "'b'");
        refused((int)salvo_group_lag(config, NULL, "g", "a", lags, 2, 0), SALVO_ERR_INVALID,
                "give that producer");
        salvo_config_free(config);
    }
    assert_int_equal(salvo_close(producer, 1000, NULL), 0);
}

/* config NULL and no producer: what file and environment say. */
static void test_the_environment_is_read(void **state)
{
    (void)state;
    salvo_topic_info info;
    assert_int_equal(setenv("MESSAGE_BROKER", "null", 1), 0);
    refused(salvo_topic_describe(NULL, NULL, "a", &info, 0), SALVO_ERR_UNSUPPORTED, "null");
    assert_int_equal(unsetenv("MESSAGE_BROKER"), 0);
    salvo_config *kafka = config_of("kafka", NULL, NULL);
    salvo *producer = memory_producer();
    refused(salvo_topic_describe(kafka, producer, "a", &info, 0), SALVO_ERR_INVALID,
            "message_broker is kafka, but the producer's is memory");
    assert_int_equal(salvo_close(producer, 1000, NULL), 0);
    salvo_config_free(kafka);
}

/* A port of this host that nobody listens on: bound, so that nobody else takes it. */
static int closed_port(int *fd)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof at;
    *fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(*fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(getsockname(*fd, (struct sockaddr *)&at, &length), 0);
    return ntohs(at.sin_port);
}

static int try_all(const salvo_config *config, size_t which)
{
    salvo_topic_info info;
    salvo_lag lag;
    salvo_topic_spec spec = {.size = sizeof spec, .name = "a"};
    switch (which) {
    case 0: return salvo_topic_delete(config, "a", 500);
    case 1: return salvo_topic_create(config, NULL, &spec, 500);
    case 2: return salvo_topic_describe(config, NULL, "a", &info, 500);
    case 3: return salvo_topic_ensure(config, NULL, &spec, NULL, 0, 500);
    case 4: return (int)salvo_topic_list(config, NULL, &info, 1, 500);
    default: return (int)salvo_group_lag(config, NULL, "g", "a", &lag, 1, 500);
    }
}

static void test_a_broker_that_is_away(void **state)
{
    static const struct {
        const char *broker, *key, *form;
    } cases[] = {{"kafka", "kafka_bootstrap_servers", "127.0.0.1:%d"},
                 {"redis", "redis_url", "redis://127.0.0.1:%d/0"},
                 {"rabbitmq", "rabbitmq_url", "amqp://guest:secret@127.0.0.1:%d/"}};
    int fd, port = closed_port(&fd);
    (void)state;
    salvo_set_log(NULL, NULL);
#ifdef __SANITIZE_THREAD__ /* knows no C11 threads, which call us back from librdkafka */
    size_t first = 1;
#else
    size_t first = 0;
#endif
    for (size_t i = first; i < sizeof cases / sizeof *cases; i++) {
        char address[64];
        snprintf(address, sizeof address, cases[i].form, port);
        salvo_config *config = config_of(cases[i].broker, cases[i].key, address);
        for (size_t call = 0; call < 6; call++) {
            time_t begin = time(NULL);
            bool listing = call == 4 && strcmp(cases[i].broker, "rabbitmq") == 0; /* it cannot */
            assert_int_equal(try_all(config, call),
                             listing ? SALVO_ERR_UNSUPPORTED : SALVO_ERR_UNREACHABLE);
            assert_true(time(NULL) - begin < 20);
            assert_true(strlen(salvo_last_error()) > 10);
            assert_null(strstr(salvo_last_error(), "secret"));
        }
        salvo_config_free(config);
    }
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_wrong_is_told),
        cmocka_unit_test(test_specs_are_checked),
        cmocka_unit_test(test_wishes_that_cannot_be_fulfilled),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_ensure),
        cmocka_unit_test(test_lag_of_a_new_group),
        cmocka_unit_test(test_the_environment_is_read),
        cmocka_unit_test(test_a_broker_that_is_away),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
