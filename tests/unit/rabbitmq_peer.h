/* SPDX-License-Identifier: Apache-2.0
 *
 * The other end of a RabbitMQ connection, for tests of what a real server does rarely or never: it
 * says what the test wants, byte for byte if need be, encoded and decoded by rabbitmq-c. The
 * driver is stepped by the test (peer_step), so everything happens in one thread.
 */
#ifndef RABBITMQ_PEER_H
#define RABBITMQ_PEER_H

#include "driver_fixture.h"
#include "drivers/rabbitmq_internal.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PEER_PATIENCE_MS = 5000 };

typedef struct peer {
    fixture f;
    int listener, fd;
    char url[64];
    uint8_t *in;
    size_t in_len, in_room;
    amqp_pool_t pool;
    salvo_rabbitmq_frame frame; /* the last one that peer_frame() took */
    uint8_t taken[SALVO_RABBITMQ_FRAME_MAX];
    salvo_driver_outcome outcome; /* of the last poll that gave one */
    salvo_driver_range ranges[16];
    bool have_outcome;
    uint32_t frame_max; /* as agreed; 0: not yet */
} peer;

static inline uint64_t peer_real_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* One poll of the driver; an outcome that comes is kept. */
static inline int peer_step(peer *p)
{
    salvo_driver_outcome o;
    int n = p->f.ops->poll(p->f.handle, &o, 1);
    if (n == 1) {
        assert_false(p->have_outcome);
        assert_true(o.range_count <= 16);
        p->have_outcome = true;
        p->outcome = o;
        memcpy(p->ranges, o.ranges, o.range_count * sizeof *o.ranges);
        p->outcome.ranges = p->ranges;
    }
    uint8_t more[65536];
    ssize_t got = p->fd >= 0 ? recv(p->fd, more, sizeof more, MSG_DONTWAIT) : 0;
    if (got > 0) {
        if (p->in_len + (size_t)got > p->in_room) {
            p->in_room = 2 * (p->in_len + (size_t)got);
            p->in = realloc(p->in, p->in_room);
            assert_non_null(p->in);
        }
        memcpy(p->in + p->in_len, more, (size_t)got);
        p->in_len += (size_t)got;
    }
    if (n == 0 && got <= 0)
        usleep(200);
    return n;
}

static inline void peer_take(peer *p, size_t n)
{
    memmove(p->in, p->in + n, p->in_len - n);
    p->in_len -= n;
}

/* The next frame of the driver, heartbeats too, into p->frame. */
static inline void peer_frame(peer *p)
{
    uint64_t end = peer_real_ms() + PEER_PATIENCE_MS;
    int64_t n;
    while ((n = salvo_rabbitmq_cut(p->in, p->in_len, &p->frame)) == 0) {
        peer_step(p);
        if (peer_real_ms() > end)
            fail_msg("the driver sent no frame");
    }
    assert_true(n > 0);
    assert_true(p->frame_max == 0 || n <= (int64_t)p->frame_max);
    memcpy(p->taken, p->frame.payload, p->frame.size);
    p->frame.payload = p->taken;
    peer_take(p, (size_t)n);
    recycle_amqp_pool(&p->pool);
    if (p->frame.type == AMQP_FRAME_METHOD) {
        p->frame.method.id = (amqp_method_number_t)salvo_rabbitmq_get_be(p->taken, 4);
        amqp_bytes_t rest = {.len = p->frame.size - 4, .bytes = p->taken + 4};
        assert_int_equal(amqp_decode_method(p->frame.method.id, &p->pool, rest,
                                            &p->frame.method.decoded), 0);
    }
}

static inline void *peer_expect(peer *p, uint16_t channel, amqp_method_number_t id)
{
    peer_frame(p);
    assert_int_equal(p->frame.type, AMQP_FRAME_METHOD);
    if (p->frame.method.id != id)
        fail_msg("expected %s, got %s", amqp_method_name(id), amqp_method_name(p->frame.method.id));
    assert_int_equal(p->frame.channel, channel);
    return p->frame.method.decoded;
}

static inline void peer_raw(peer *p, const void *bytes, size_t n)
{
    assert_int_equal(send(p->fd, bytes, n, MSG_NOSIGNAL), (ssize_t)n);
}

static inline void peer_say(peer *p, uint16_t channel, amqp_method_number_t id, void *method)
{
    uint8_t frame[4096];
    size_t n = salvo_rabbitmq_encode(frame, sizeof frame, channel, id, method);
    assert_true(n > 0);
    peer_raw(p, frame, n);
}

/* Step until the state says so. */
static inline void peer_until(peer *p, const char *state)
{
    char text[256];
    uint64_t end = peer_real_ms() + PEER_PATIENCE_MS;
    for (;;) {
        p->f.ops->state(p->f.handle, text, sizeof text);
        if (strstr(text, state))
            return;
        if (peer_real_ms() > end)
            fail_msg("expected the state '%s', it is '%s'", state, text);
        peer_step(p);
    }
}

static inline void peer_expect_outcome(peer *p, uint64_t token)
{
    uint64_t end = peer_real_ms() + PEER_PATIENCE_MS;
    while (!p->have_outcome && peer_real_ms() < end)
        peer_step(p);
    assert_true(p->have_outcome);
    assert_int_equal(p->outcome.token, token);
    p->have_outcome = false;
}

static inline void peer_range(const peer *p, uint32_t at, uint32_t first, uint32_t count,
                              int32_t status)
{
    assert_true(at < p->outcome.range_count);
    assert_int_equal(p->ranges[at].first, first);
    assert_int_equal(p->ranges[at].count, count);
    assert_int_equal(p->ranges[at].status, status);
}

static inline void peer_accept(peer *p)
{
    uint64_t end = peer_real_ms() + PEER_PATIENCE_MS;
    p->in_len = 0;
    while ((p->fd = accept(p->listener, NULL, NULL)) < 0) {
        peer_step(p);
        if (peer_real_ms() > end)
            fail_msg("the driver did not connect");
    }
}

static inline void peer_start(peer *p)
{
    static const uint8_t greeting[] = {'A', 'M', 'Q', 'P', 0, 0, 9, 1};
    uint64_t end = peer_real_ms() + PEER_PATIENCE_MS;
    while (p->in_len < sizeof greeting && peer_real_ms() < end)
        peer_step(p);
    assert_true(p->in_len >= sizeof greeting);
    assert_memory_equal(p->in, greeting, sizeof greeting);
    peer_take(p, sizeof greeting);
    amqp_connection_start_t start = {.version_minor = 9,
                                     .mechanisms = amqp_cstring_bytes("AMQPLAIN PLAIN"),
                                     .locales = amqp_cstring_bytes("en_US")};
    peer_say(p, 0, AMQP_CONNECTION_START_METHOD, &start);
}

static inline void peer_open_channel(peer *p, uint16_t channel)
{
    amqp_channel_open_ok_t ok = {.channel_id = amqp_empty_bytes};
    peer_say(p, channel, AMQP_CHANNEL_OPEN_OK_METHOD, &ok);
}

/* Until confirms are selected; frames of frame_max bytes at most. */
static inline void peer_login(peer *p, uint32_t frame_max)
{
    amqp_connection_tune_t tune = {.channel_max = 2047, .frame_max = frame_max, .heartbeat = 60};
    amqp_connection_open_ok_t open_ok = {.known_hosts = amqp_empty_bytes};
    amqp_confirm_select_ok_t select_ok = {0};
    peer_start(p);
    const amqp_connection_start_ok_t *start = peer_expect(p, 0, AMQP_CONNECTION_START_OK_METHOD);
    assert_int_equal(start->response.len, 9);
    assert_memory_equal(start->response.bytes, "\0user\0p@s", 9);
    peer_say(p, 0, AMQP_CONNECTION_TUNE_METHOD, &tune);
    const amqp_connection_tune_ok_t *tuned = peer_expect(p, 0, AMQP_CONNECTION_TUNE_OK_METHOD);
    assert_int_equal(tuned->frame_max, frame_max);
    p->frame_max = frame_max;
    const amqp_connection_open_t *open = peer_expect(p, 0, AMQP_CONNECTION_OPEN_METHOD);
    assert_int_equal(open->virtual_host.len, 4);
    assert_memory_equal(open->virtual_host.bytes, "a/ b", 4);
    peer_say(p, 0, AMQP_CONNECTION_OPEN_OK_METHOD, &open_ok);
    (void)peer_expect(p, 1, AMQP_CHANNEL_OPEN_METHOD);
    (void)peer_expect(p, 1, AMQP_CONFIRM_SELECT_METHOD);
    (void)peer_expect(p, 2, AMQP_CHANNEL_OPEN_METHOD);
    peer_open_channel(p, 1);
    peer_say(p, 1, AMQP_CONFIRM_SELECT_OK_METHOD, &select_ok);
    peer_open_channel(p, 2);
}

/* Answer the declarations of the topics "zero" and "one". */
static inline void peer_declare(peer *p)
{
    amqp_queue_declare_ok_t ok = {.queue = amqp_cstring_bytes("it")};
    for (int i = 0; i < 2; i++) {
        const amqp_queue_declare_t *queue = peer_expect(p, 2, AMQP_QUEUE_DECLARE_METHOD);
        assert_memory_equal(queue->queue.bytes, i == 0 ? "zero" : "one", queue->queue.len);
        assert_true(queue->durable);
        assert_false(queue->passive);
        peer_say(p, 2, AMQP_QUEUE_DECLARE_OK_METHOD, &ok);
    }
    uint64_t end = peer_real_ms() + PEER_PATIENCE_MS;
    while (p->f.ops->partitions(p->f.handle, 1) == 0 && peer_real_ms() < end)
        peer_step(p);
    assert_int_equal(p->f.ops->partitions(p->f.handle, 0), 1);
    assert_int_equal(p->f.ops->partitions(p->f.handle, 1), 1);
}

/* A driver that is not yet connected, and who it will connect to. window: NULL is the default. */
static inline void peer_open(peer *p, const char *window)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    memset(p, 0, sizeof *p);
    p->fd = -1;
    init_amqp_pool(&p->pool, 4096);
    p->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(p->listener, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(p->listener, 4), 0);
    assert_int_equal(getsockname(p->listener, (struct sockaddr *)&at, &size), 0);
    snprintf(p->url, sizeof p->url, "amqp://user:p%%40s@127.0.0.1:%d/a%%2F%%20b",
             ntohs(at.sin_port));
    const char *pairs[] = {"message_broker", "rabbitmq", "rabbitmq_url", p->url,
                           "rabbitmq_window", window ? window : "2048", NULL};
    fixture_open(&p->f, salvo_driver_find("rabbitmq"), pairs);
}

static inline void peer_up(peer *p, const char *window)
{
    peer_open(p, window);
    peer_accept(p);
    peer_login(p, SALVO_RABBITMQ_FRAME_MAX);
    peer_declare(p);
}

static inline void peer_hang_up(peer *p)
{
    if (p->fd >= 0)
        close(p->fd);
    p->fd = -1;
}

static inline void peer_end(peer *p)
{
    peer_hang_up(p);
    close(p->listener);
    if (((salvo_rabbitmq *)p->f.handle)->link.conn)
        peer_until(p, "down");
    fixture_close(&p->f);
    empty_amqp_pool(&p->pool);
    free(p->in);
}

/* A message of the driver: publish, header, body. */
typedef struct peer_message {
    char routing_key[32], body[64];
    uint64_t body_len;
    char id[64];
} peer_message;

static inline peer_message peer_expect_message(peer *p)
{
    peer_message m = {0};
    void *decoded;
    const amqp_basic_publish_t *publish = peer_expect(p, 1, AMQP_BASIC_PUBLISH_METHOD);
    snprintf(m.routing_key, sizeof m.routing_key, "%.*s", (int)publish->routing_key.len,
             (const char *)publish->routing_key.bytes);
    peer_frame(p);
    assert_int_equal(p->frame.type, AMQP_FRAME_HEADER);
    m.body_len = salvo_rabbitmq_get_be(p->taken + 4, 8);
    amqp_bytes_t rest = {.len = p->frame.size - 12, .bytes = p->taken + 12};
    assert_int_equal(amqp_decode_properties(AMQP_BASIC_CLASS, &p->pool, rest, &decoded), 0);
    const amqp_basic_properties_t *properties = decoded;
    assert_int_equal(properties->delivery_mode, 2);
    snprintf(m.id, sizeof m.id, "%.*s", (int)properties->message_id.len,
             (const char *)properties->message_id.bytes);
    for (uint64_t left = m.body_len; left != 0;) {
        peer_frame(p);
        assert_int_equal(p->frame.type, AMQP_FRAME_BODY);
        assert_true(p->frame.size <= left);
        if (left == m.body_len)
            memcpy(m.body, p->taken, p->frame.size < 63 ? p->frame.size : 63);
        left -= p->frame.size;
    }
    return m;
}

static inline void peer_ack(peer *p, uint64_t tag, bool multiple)
{
    amqp_basic_ack_t ack = {.delivery_tag = tag, .multiple = multiple};
    peer_say(p, 1, AMQP_BASIC_ACK_METHOD, &ack);
}

static inline void peer_nack(peer *p, uint64_t tag, bool multiple)
{
    amqp_basic_nack_t nack = {.delivery_tag = tag, .multiple = multiple};
    peer_say(p, 1, AMQP_BASIC_NACK_METHOD, &nack);
}

/* basic.return with the content that a message had. */
static inline void peer_return(peer *p, const peer_message *m)
{
    uint8_t frame[256], *at = frame;
    amqp_basic_return_t back = {.reply_code = AMQP_NO_ROUTE,
                                .reply_text = amqp_cstring_bytes("NO_ROUTE"),
                                .exchange = amqp_empty_bytes,
                                .routing_key = amqp_cstring_bytes(m->routing_key)};
    amqp_basic_properties_t properties = {._flags = AMQP_BASIC_MESSAGE_ID_FLAG,
                                          .message_id = amqp_cstring_bytes(m->id)};
    peer_say(p, 1, AMQP_BASIC_RETURN_METHOD, &back);
    amqp_bytes_t room = {.len = 128, .bytes = frame + 7 + 12};
    int n = amqp_encode_properties(AMQP_BASIC_CLASS, &properties, room);
    assert_true(n > 0);
    *at++ = AMQP_FRAME_HEADER;
    at = salvo_rabbitmq_be(at, 1, 2);
    at = salvo_rabbitmq_be(at, 12 + (uint64_t)n, 4);
    at = salvo_rabbitmq_be(at, (uint64_t)AMQP_BASIC_CLASS << 16, 4);
    at = salvo_rabbitmq_be(at, m->body_len, 8) + n;
    *at++ = SALVO_RABBITMQ_FRAME_END;
    if (m->body_len) {
        *at++ = AMQP_FRAME_BODY;
        at = salvo_rabbitmq_be(at, 1, 2);
        at = salvo_rabbitmq_be(at, m->body_len, 4);
        at = (uint8_t *)mempcpy(at, m->body, m->body_len);
        *at++ = SALVO_RABBITMQ_FRAME_END;
    }
    peer_raw(p, frame, (size_t)(at - frame));
}

#endif
