/* SPDX-License-Identifier: Apache-2.0
 *
 * rabbitmq-c with publisher confirms: one channel, persistent and mandatory messages to a durable
 * queue, amqp_basic_publish() as they are due, confirms taken when nothing is due. A full window
 * waits for confirms.
 */
#include "play.h"

#include <amqp.h>
#include <amqp_tcp_socket.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

enum { CHANNEL = 1, FIRST_MS = 10000 };

typedef struct client {
    play *play;
    amqp_connection_state_t connection;
    amqp_bytes_t queue;
    play_queue waiting; /* the n-th message has the delivery tag n */
} client;

static void check(amqp_rpc_reply_t reply, const char *what)
{
    if (reply.reply_type != AMQP_RESPONSE_NORMAL)
        play_die("rabbitmq-c: %s failed: %s", what,
                 reply.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION
                     ? amqp_error_string2(reply.library_error)
                     : "the server refused");
}

static void settle(client *c, uint64_t tag, bool multiple, bool good)
{
    play_queue *q = &c->waiting;
    if (tag > q->put || (!multiple && tag != q->taken + 1))
        play_die("rabbitmq-c: an unexpected confirm: %llu", (unsigned long long)tag);
    while (q->taken < tag)
        play_settled(c->play, q->at_ns[q->taken++ % q->room], good);
}

/* One frame, if a whole one is there. */
static bool take_frame(client *c)
{
    amqp_frame_t frame;
    struct timeval none = {0};
    int status = amqp_simple_wait_frame_noblock(c->connection, &frame, &none);
    if (status == AMQP_STATUS_TIMEOUT)
        return false;
    if (status != AMQP_STATUS_OK)
        play_die("rabbitmq-c: %s", amqp_error_string2(status));
    if (frame.frame_type != AMQP_FRAME_METHOD)
        play_die("rabbitmq-c: a message came back: its queue is gone");
    if (frame.payload.method.id == AMQP_BASIC_ACK_METHOD) {
        const amqp_basic_ack_t *ack = frame.payload.method.decoded;
        settle(c, ack->delivery_tag, ack->multiple, true);
    } else if (frame.payload.method.id == AMQP_BASIC_NACK_METHOD) {
        const amqp_basic_nack_t *nack = frame.payload.method.decoded;
        settle(c, nack->delivery_tag, nack->multiple, false);
    } else {
        play_die("rabbitmq-c: the server says %s", amqp_method_name(frame.payload.method.id));
    }
    amqp_maybe_release_buffers(c->connection);
    return true;
}

/* The waiting is done here, because the library's is in whole milliseconds. */
static void serve(void *state, uint64_t until_ns)
{
    client *c = state;
    uint64_t now = play_now_ns();
    do {
        struct pollfd fd = {.fd = amqp_get_sockfd(c->connection), .events = POLLIN};
        uint64_t left = until_ns > now ? until_ns - now : 0;
        struct timespec t = {.tv_sec = (time_t)(left / 1000000000u),
                             .tv_nsec = (long)(left % 1000000000u)};
        if (ppoll(&fd, 1, &t, NULL) > 0)
            while (take_frame(c) && (amqp_data_in_buffer(c->connection) ||
                                     amqp_frames_enqueued(c->connection)))
                ;
        now = play_now_ns();
    } while (now < until_ns);
}

static bool send_to_rabbitmq(void *state, const play_message *m)
{
    client *c = state;
    amqp_basic_properties_t properties = {._flags = AMQP_BASIC_DELIVERY_MODE_FLAG,
                                          .delivery_mode = 2};
    amqp_table_entry_t key = {.key = amqp_cstring_bytes("salvo-key"),
                              .value = {.kind = AMQP_FIELD_KIND_UTF8}};
    if (m->key) {
        key.value.value.bytes = (amqp_bytes_t){.len = m->key_len,
                                               .bytes = (void *)(uintptr_t)m->key};
        properties._flags |= AMQP_BASIC_HEADERS_FLAG;
        properties.headers = (amqp_table_t){.num_entries = 1, .entries = &key};
    }
    while (c->waiting.put - c->waiting.taken >= c->waiting.room)
        serve(c, play_now_ns() + 1000000);
    amqp_bytes_t value = {.len = m->value_len, .bytes = (void *)(uintptr_t)m->value};
    int status = amqp_basic_publish(c->connection, CHANNEL, amqp_empty_bytes, c->queue, 1, 0,
                                    &properties, value);
    if (status != AMQP_STATUS_OK)
        play_die("rabbitmq-c: a publish failed: %s", amqp_error_string2(status));
    c->waiting.at_ns[c->waiting.put++ % c->waiting.room] = m->at_ns;
    return true;
}

static void drain(void *state, unsigned timeout_ms)
{
    client *c = state;
    uint64_t end = play_now_ns() + timeout_ms * UINT64_C(1000000);
    while (c->waiting.taken < c->waiting.put && play_now_ns() < end)
        serve(c, play_now_ns() + 1000000);
}

static void log_in(client *c, const char *address)
{
    struct amqp_connection_info info;
    char url[512];
    snprintf(url, sizeof url, "%s", address);
    if (amqp_parse_url(url, &info))
        play_die("address=%s: amqp://USER:PASSWORD@HOST:PORT/ is wanted", address);
    const char *vhost = info.vhost && info.vhost[0] ? info.vhost : "/";
    amqp_socket_t *socket = amqp_tcp_socket_new(c->connection);
    if (!socket || amqp_socket_open(socket, info.host, info.port))
        play_die("rabbitmq-c: no connection to %s", address);
    check(amqp_login(c->connection, vhost, 0, AMQP_DEFAULT_FRAME_SIZE, 0, AMQP_SASL_METHOD_PLAIN,
                     info.user, info.password), "login");
}

static void *open_client(play *p)
{
    client *c = calloc(1, sizeof *c);
    if (!c || !(c->connection = amqp_new_connection()))
        play_die("no memory");
    c->play = p;
    c->queue = amqp_cstring_bytes(play_text(p, "topic"));
    play_queue_init(&c->waiting, play_number(p, "window"));
    log_in(c, play_text(p, "address"));
    amqp_channel_open(c->connection, CHANNEL);
    check(amqp_get_rpc_reply(c->connection), "channel.open");
    amqp_queue_declare(c->connection, CHANNEL, c->queue, 0, 1, 0, 0, amqp_empty_table);
    check(amqp_get_rpc_reply(c->connection), "queue.declare");
    amqp_confirm_select(c->connection, CHANNEL);
    check(amqp_get_rpc_reply(c->connection), "confirm.select");
    send_to_rabbitmq(c, &(play_message){.at_ns = 0, .value = "first", .value_len = 5});
    drain(c, FIRST_MS);
    if (c->waiting.taken != 1)
        play_die("rabbitmq-c: a first message was not confirmed");
    return c;
}

static void close_client(void *state)
{
    client *c = state;
    amqp_connection_close(c->connection, AMQP_REPLY_SUCCESS);
    amqp_destroy_connection(c->connection);
    free(c->waiting.at_ns);
    free(c);
}

int main(int argc, char **argv)
{
    const play_client rabbitmq_c = {
        .name = "rabbitmq-c", .version = amqp_version, .open = open_client,
        .send = send_to_rabbitmq, .serve = serve, .drain = drain, .close = close_client};
    return play_main(argc, argv, &rabbitmq_c);
}
