/* SPDX-License-Identifier: Apache-2.0
 *
 * A real RabbitMQ with a limit of 1 MiB a message. Its administration goes over a connection of
 * rabbitmq-c, so that what the driver wrote is looked at by somebody else.
 */
#include "conformance.h"
#include <amqp.h>
#include <amqp_tcp_socket.h>

static void start_arguments(char *text, size_t size)
{
    snprintf(text, size, " --set max_message_size=1048576");
}

static void login(world *w, const char *password)
{
    char url[160];
    snprintf(url, sizeof url, "amqp://guest:%s@%s/",
             strcmp(password, "right") == 0 ? "guest" : password, server_address());
    world_set(w, "rabbitmq_url", url);
}

static amqp_connection_state_t admin_open(void)
{
    amqp_connection_state_t c = amqp_new_connection();
    amqp_socket_t *socket = amqp_tcp_socket_new(c);
    assert_non_null(socket);
    assert_int_equal(amqp_socket_open(socket, "127.0.0.1", server_port()), AMQP_STATUS_OK);
    amqp_rpc_reply_t reply =
        amqp_login(c, "/", 0, 131072, 0, AMQP_SASL_METHOD_PLAIN, "guest", "guest");
    assert_int_equal(reply.reply_type, AMQP_RESPONSE_NORMAL);
    assert_non_null(amqp_channel_open(c, 1));
    return c;
}

static void admin_close(amqp_connection_state_t c)
{
    (void)amqp_connection_close(c, AMQP_REPLY_SUCCESS);
    amqp_destroy_connection(c);
}

/* A queue that gets only what has the header route = yes. */
static void make_route(const char *exchange, const char *queue)
{
    amqp_table_entry_t entry[] = {
        {amqp_cstring_bytes("x-match"),
         {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = amqp_cstring_bytes("all")}},
        {amqp_cstring_bytes("route"),
         {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = amqp_cstring_bytes("yes")}},
    };
    amqp_table_t arguments = {.num_entries = 2, .entries = entry};
    amqp_bytes_t x = amqp_cstring_bytes(exchange), q = amqp_cstring_bytes(queue);
    amqp_connection_state_t c = admin_open();
    assert_non_null(amqp_exchange_declare(c, 1, x, amqp_cstring_bytes("headers"), 0, 1, 0, 0,
                                          amqp_empty_table));
    assert_non_null(amqp_queue_declare(c, 1, q, 0, 1, 0, 0, amqp_empty_table));
    assert_non_null(amqp_queue_bind(c, 1, q, x, amqp_empty_bytes, arguments));
    admin_close(c);
}

static void refuse_some(world *w)
{
    char queue[96], exchange[96];
    const salvo_header yes = {"route", 5, "yes", 3}, no = {"route", 5, "no", 2};
    make_route(world_fresh_name(exchange), world_fresh_name(queue));
    world_set(w, "linger_us", "300000"); /* one batch each, all in one window */
    world_open(w);
    salvo_topic_options options = {.size = sizeof options, .rabbitmq_exchange = exchange};
    uint32_t routed = world_topic_named(w, queue, &options), other = world_topic(w, NULL);
    for (uint32_t i = 0; i < 60; i++) {
        bool good = i % 7 != 3;
        char text[16];
        salvo_message m = {.value = text, .headers = good ? &yes : &no, .header_count = 1};
        m.value_len = (size_t)snprintf(text, sizeof text, "%u", i);
        assert_true(world_send(w, routed, 0, &m));
        world_expect_last(w, good ? 0 : SALVO_ERR_UNKNOWN_TOPIC); /* it reached no queue */
        assert_true(world_send(w, other, 1, &m));
        world_expect_last(w, 0);
    }
}

static size_t lower_limit(world *w)
{
    world_set(w, "max_message_bytes", "4194304");
    world_set(w, "buffer_bytes", "134217728");
    return 2000000;
}

static void restore_limit(world *w)
{
    (void)w; /* it was so from the start */
}

/* The body of the only message, which stays. */
static size_t stored_bytes(world *w, const char *topic)
{
    (void)w;
    amqp_message_t message;
    amqp_connection_state_t c = admin_open();
    amqp_rpc_reply_t reply = amqp_basic_get(c, 1, amqp_cstring_bytes(topic), 0);
    assert_int_equal(reply.reply_type, AMQP_RESPONSE_NORMAL);
    assert_int_equal(reply.reply.id, AMQP_BASIC_GET_OK_METHOD);
    amqp_basic_get_ok_t *got = reply.reply.decoded;
    assert_int_equal(got->message_count, 0);
    uint64_t tag = got->delivery_tag;
    reply = amqp_read_message(c, 1, &message, 0);
    assert_int_equal(reply.reply_type, AMQP_RESPONSE_NORMAL);
    size_t bytes = message.body.len;
    amqp_destroy_message(&message);
    assert_int_equal(amqp_basic_reject(c, 1, tag, 1), AMQP_STATUS_OK);
    admin_close(c);
    return bytes;
}

const target_hooks rabbitmq_hooks = {
    .topic_settles_ms = 3000, /* it keeps declarations in memory for up to two seconds */
    .start_arguments = start_arguments,
    .login = login,
    .refuse_some = refuse_some,
    .lower_limit = lower_limit,
    .restore_limit = restore_limit,
    .stored_bytes = stored_bytes,
};
