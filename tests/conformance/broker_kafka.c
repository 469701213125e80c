/* SPDX-License-Identifier: Apache-2.0
 *
 * A real Kafka: topics of three partitions, a second listener that asks for a password, a limit of
 * 1 MiB (its default) that a larger message runs into.
 */
#include "conformance.h"

static int login_port;

static void start_arguments(char *text, size_t size)
{
    int port = free_port(), controller = free_port();
    login_port = free_port();
    snprintf(text, size,
             " --port %d --set num.partitions=3 --set sasl.enabled.mechanisms=PLAIN"
             " --set controller.quorum.voters=1@127.0.0.1:%d"
             " --set listeners=PLAINTEXT://127.0.0.1:%d,LOGIN://127.0.0.1:%d,"
             "CONTROLLER://127.0.0.1:%d"
             " --set advertised.listeners=PLAINTEXT://127.0.0.1:%d,LOGIN://127.0.0.1:%d"
             " --set listener.security.protocol.map=PLAINTEXT:PLAINTEXT,LOGIN:SASL_PLAINTEXT,"
             "CONTROLLER:PLAINTEXT"
             " --set 'listener.name.login.plain.sasl.jaas.config=org.apache.kafka.common.security"
             ".plain.PlainLoginModule required user_salvo=\"right\";'",
             port, controller, port, login_port, controller, port, login_port);
}

static void login(world *w, const char *password)
{
    char host_port[32];
    snprintf(host_port, sizeof host_port, "127.0.0.1:%d", login_port);
    world_address(w, host_port);
    world_set(w, "kafka_security_protocol", "SASL_PLAINTEXT");
    world_set(w, "kafka_sasl_mechanism", "PLAIN");
    world_set(w, "kafka_sasl_username", "salvo");
    world_set(w, "kafka_sasl_password", password);
}

static size_t lower_limit(world *w)
{
    world_set(w, "max_message_bytes", "4194304");
    world_set(w, "buffer_bytes", "134217728");
    return 2000000;
}

static void restore_limit(world *w)
{
    (void)w; /* it is the default */
}

static void refuse_some(world *w)
{
    size_t size = lower_limit(w);
    char *big = calloc(1, size);
    assert_non_null(big);
    world_set(w, "batch_bytes", "8388608");
    world_set(w, "linger_us", "300000"); /* one batch */
    world_open(w);
    uint32_t topic = world_topic(w, NULL);
    for (uint32_t i = 0; i < 40; i++) {
        char text[16];
        salvo_message m = {.value = text, .partition_plus1 = 2};
        m.value_len = (size_t)snprintf(text, sizeof text, "%u", i);
        if (i % 10 == 5)
            m = (salvo_message){.value = big, .value_len = size - i, .partition_plus1 = 2};
        assert_true(world_send(w, topic, 0, &m));
        world_expect_last(w, i % 10 == 5 ? SALVO_ERR_TOO_LARGE : 0);
    }
    free(big);
}

const target_hooks kafka_hooks = {
    .start_arguments = start_arguments,
    .login = login,
    .refuse_some = refuse_some,
    .lower_limit = lower_limit,
    .restore_limit = restore_limit,
};
