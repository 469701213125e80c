/* SPDX-License-Identifier: Apache-2.0
 *
 * Removing topics: what is wrong is told, a broker that is not there within the time that was
 * given. That topics really go is the command's test with real servers (tests/cli/bench_test.sh).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <salvo/salvo.h>
#include <stdio.h>
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
        time_t begin = time(NULL);
        assert_int_equal(salvo_topic_delete(config, "a", 500), SALVO_ERR_UNREACHABLE);
        assert_true(time(NULL) - begin < 20);
        assert_true(strlen(salvo_last_error()) > 10);
        assert_null(strstr(salvo_last_error(), "secret"));
        salvo_config_free(config);
    }
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_wrong_is_told),
        cmocka_unit_test(test_a_broker_that_is_away),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
