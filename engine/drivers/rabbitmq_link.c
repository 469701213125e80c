/* SPDX-License-Identifier: Apache-2.0
 *
 * Frames and the life of a connection; see rabbitmq_link.h. The login is in rabbitmq_login.c.
 *
 * Heartbeats: rabbitmq_heartbeat_s is the silence after which either side gives the other up, so
 * both send something at least every half of it.
 */
#include "rabbitmq_login.h"

#include "config_internal.h"
#include "error.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MS UINT64_C(1000000)
#define SECOND (1000 * MS)
#define POOL_PAGE 4096
#define TYPE_HEARTBEAT 8

const char *salvo_rabbitmq_text(char *to, size_t size, amqp_bytes_t from)
{
    size_t n = from.len < size - 1 ? from.len : size - 1;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = ((const unsigned char *)from.bytes)[i];
        to[i] = (char)(c < 0x20 || c == 0x7f ? '?' : c);
    }
    to[n] = '\0';
    return to;
}

int64_t salvo_rabbitmq_cut(const uint8_t *bytes, size_t n, salvo_rabbitmq_frame *frame)
{
    if (n < SALVO_RABBITMQ_FRAME_HEAD)
        return 0;
    *frame = (salvo_rabbitmq_frame){
        .type = bytes[0],
        .channel = (uint16_t)salvo_rabbitmq_get_be(bytes + 1, 2),
        .payload = bytes + SALVO_RABBITMQ_FRAME_HEAD,
        .size = (uint32_t)salvo_rabbitmq_get_be(bytes + 3, 4)};
    bool known = frame->type == AMQP_FRAME_METHOD || frame->type == AMQP_FRAME_HEADER ||
                 frame->type == AMQP_FRAME_BODY || frame->type == TYPE_HEARTBEAT;
    if (!known || frame->size > SALVO_RABBITMQ_FRAME_MAX - SALVO_RABBITMQ_FRAME_COST)
        return -1;
    if (n < (size_t)frame->size + SALVO_RABBITMQ_FRAME_COST)
        return 0;
    return frame->payload[frame->size] == SALVO_RABBITMQ_FRAME_END
               ? (int64_t)frame->size + SALVO_RABBITMQ_FRAME_COST
               : -1;
}

size_t salvo_rabbitmq_encode(uint8_t *at, size_t room, uint16_t channel, amqp_method_number_t id,
                             void *method)
{
    if (room < SALVO_RABBITMQ_FRAME_COST + 4)
        return 0;
    amqp_bytes_t rest = {.len = room - SALVO_RABBITMQ_FRAME_COST - 4,
                         .bytes = at + SALVO_RABBITMQ_FRAME_HEAD + 4};
    int n = amqp_encode_method(id, method, rest);
    if (n < 0)
        return 0;
    at[0] = AMQP_FRAME_METHOD;
    salvo_rabbitmq_be(at + 1, channel, 2);
    salvo_rabbitmq_be(at + 3, (uint64_t)n + 4, 4);
    salvo_rabbitmq_be(at + SALVO_RABBITMQ_FRAME_HEAD, id, 4);
    at[SALVO_RABBITMQ_FRAME_HEAD + 4 + n] = SALVO_RABBITMQ_FRAME_END;
    return (size_t)n + 4 + SALVO_RABBITMQ_FRAME_COST;
}

bool salvo_rabbitmq_put_method(salvo_rabbitmq_link *link, uint16_t channel, amqp_method_number_t id,
                               void *method)
{
    uint8_t frame[SALVO_RABBITMQ_FRAME_MIN];
    size_t n = salvo_rabbitmq_encode(frame, sizeof frame, channel, id, method);
    bool put = n != 0 && link->conn != NULL && salvo_io_put(link->conn, frame, n);
    memset(frame, 0, n); /* start-ok carries the password */
    __asm__ volatile("" : : "r"(frame) : "memory"); /* ... so that store is not left out */
    return put;
}

/* --- up and down --------------------------------------------------------------------------- */

int salvo_rabbitmq_link_open(salvo_rabbitmq_link *link, const salvo_config *config,
                             const salvo_io_options *io, size_t out_bytes, char *error,
                             size_t error_size)
{
    memset(link, 0, sizeof *link);
    init_amqp_pool(&link->pool, POOL_PAGE);
    link->config = config;
    link->now_ns = io->now_ns;
    link->clock = io->clock;
    link->out_bytes = out_bytes;
    link->heartbeat_s = (uint32_t)salvo_config_int(config, "rabbitmq_heartbeat_s");
    link->timeout_ms = (uint32_t)salvo_config_int(config, "connect_timeout_ms");
    int err = salvo_rabbitmq_login_url(link, salvo_config_get(config, "rabbitmq_url"), error,
                                       error_size);
    return err != 0 ? err : salvo_io_open(io, &link->io, error, error_size);
}

void salvo_rabbitmq_link_free(salvo_rabbitmq_link *link)
{
    if (link->conn)
        salvo_io_disconnect(link->conn);
    link->conn = NULL;
    if (link->io)
        salvo_io_close(link->io);
    link->io = NULL;
    empty_amqp_pool(&link->pool);
    memset(&link->url, 0, sizeof link->url);
}

void salvo_rabbitmq_link_fail(salvo_rabbitmq_link *link, int error, const char *format, ...)
{
    char text[SALVO_RABBITMQ_TEXT_BYTES]; /* the arguments may point into the connection */
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    memcpy(link->why, text, sizeof link->why);
    link->error = error;
    link->stage = SALVO_RABBITMQ_DOWN;
    link->blocked = link->held = false;
    link->down_sent = link->conn ? salvo_io_bytes_sent(link->conn) : 0;
    if (link->conn)
        salvo_io_disconnect(link->conn);
    link->conn = NULL;
}

static void on_close(salvo_rabbitmq_link *link, const amqp_connection_close_t *close)
{
    char text[SALVO_RABBITMQ_TEXT_BYTES - 64];
    bool rights = close->reply_code == AMQP_ACCESS_REFUSED || close->reply_code == AMQP_NOT_ALLOWED;
    amqp_connection_close_ok_t ok = {0};
    unsigned code = close->reply_code;
    salvo_rabbitmq_text(text, sizeof text, close->reply_text); /* it lies in the input, which ... */
    (void)salvo_rabbitmq_put_method(link, 0, AMQP_CONNECTION_CLOSE_OK_METHOD, &ok);
    salvo_rabbitmq_link_send(link); /* ... is gone after a step */
    salvo_rabbitmq_link_fail(link, rights ? SALVO_ERR_AUTH : SALVO_ERR_UNREACHABLE,
                             "the server closed: %u %s", code, text);
}

/* Methods of the connection itself. */
static void on_control(salvo_rabbitmq_link *link, const salvo_rabbitmq_frame *frame)
{
    switch (frame->type == AMQP_FRAME_METHOD ? frame->method.id : 0) {
    case AMQP_CONNECTION_CLOSE_METHOD:
        on_close(link, frame->method.decoded);
        return;
    case AMQP_CONNECTION_CLOSE_OK_METHOD:
        salvo_rabbitmq_link_fail(link, SALVO_ERR_CLOSED, "closed");
        return;
    case AMQP_CONNECTION_BLOCKED_METHOD:
        link->blocked = true;
        salvo_rabbitmq_text(link->blocked_why, sizeof link->blocked_why,
                            ((const amqp_connection_blocked_t *)frame->method.decoded)->reason);
        return;
    case AMQP_CONNECTION_UNBLOCKED_METHOD:
        link->blocked = false;
        return;
    default:
        if (link->stage == SALVO_RABBITMQ_OPEN || link->stage == SALVO_RABBITMQ_CLOSING)
            return; /* an extension that is none of ours */
        salvo_rabbitmq_login_frame(link, frame);
    }
}

static void on_frame(salvo_rabbitmq_link *link, salvo_rabbitmq_frame *frame)
{
    recycle_amqp_pool(&link->pool);
    if (frame->type == TYPE_HEARTBEAT)
        return;
    if (frame->type == AMQP_FRAME_METHOD) {
        if (frame->size < 4) {
            salvo_rabbitmq_link_fail(link, SALVO_ERR_UNREACHABLE, "a method frame without method");
            return;
        }
        frame->method.id = (amqp_method_number_t)salvo_rabbitmq_get_be(frame->payload, 4);
        union { const uint8_t *in; void *out; } rest = {frame->payload + 4};
        amqp_bytes_t encoded = {.len = frame->size - 4, .bytes = rest.out};
        int err = amqp_decode_method(frame->method.id, &link->pool, encoded,
                                     &frame->method.decoded);
        if (err != 0) {
            salvo_rabbitmq_link_fail(link, SALVO_ERR_UNREACHABLE,
                                     "the server sent a method that cannot be read (0x%08x): %s",
                                     frame->method.id, amqp_error_string2(err));
            return;
        }
    }
    if (frame->channel == 0)
        on_control(link, frame);
    else if (link->stage == SALVO_RABBITMQ_OPEN)
        link->on_frame(link->context, frame);
    else if (link->stage != SALVO_RABBITMQ_CLOSING)
        salvo_rabbitmq_link_fail(link, SALVO_ERR_UNREACHABLE,
                                 "the server used channel %u before the login", frame->channel);
}

/* All frames that are complete. > 0: there were some. */
static int take_frames(salvo_rabbitmq_link *link)
{
    const void *input;
    size_t n = salvo_io_input(link->conn, &input), done = 0;
    salvo_rabbitmq_frame frame;
    if (n != 0)
        link->received_ns = link->now_ns(link->clock);
    link->paused = false;
    while (done < n && !link->paused && !link->held) {
        const uint8_t *at = (const uint8_t *)input + done;
        int64_t length = salvo_rabbitmq_cut(at, n - done, &frame);
        if (length == 0)
            break;
        if (length < 0) {
            bool greeting = n - done >= 4 && memcmp(at, "AMQP", 4) == 0;
            salvo_rabbitmq_link_fail(link, SALVO_ERR_UNREACHABLE, greeting
                                     ? "the server does not speak AMQP 0-9-1"
                                     : "what the server sent is no AMQP frame");
            return 1;
        }
        done += (size_t)length;
        on_frame(link, &frame);
        if (link->conn == NULL)
            return 1;
    }
    salvo_io_consume(link->conn, done);
    return done != 0;
}

static void look_at_time(salvo_rabbitmq_link *link)
{
    uint64_t now = link->now_ns(link->clock), put = salvo_io_bytes_put(link->conn);
    if (link->stage < SALVO_RABBITMQ_OPEN && now >= link->login_until_ns) {
        salvo_rabbitmq_link_fail(link, SALVO_ERR_UNREACHABLE,
                                 "no login within connect_timeout_ms = %u", link->timeout_ms);
        return;
    }
    if (put != link->put_before) {
        link->put_before = put;
        link->sent_ns = now;
    }
    if (link->stage < SALVO_RABBITMQ_OPEN || link->heartbeat_s == 0)
        return;
    uint64_t silence = link->heartbeat_s * SECOND;
    if (now - link->sent_ns >= silence / 2) {
        static const uint8_t beat[] = {TYPE_HEARTBEAT, 0, 0, 0, 0, 0, 0, SALVO_RABBITMQ_FRAME_END};
        (void)salvo_io_put(link->conn, beat, sizeof beat); /* no room: bytes wait to go anyway */
        link->sent_ns = now;
    }
    if (now > link->received_ns && now - link->received_ns >= silence)
        salvo_rabbitmq_link_fail(link, SALVO_ERR_UNREACHABLE,
                                 "silent for rabbitmq_heartbeat_s = %u", link->heartbeat_s);
}

int salvo_rabbitmq_link_step(salvo_rabbitmq_link *link)
{
    int work = salvo_io_step(link->io);
    if (link->conn == NULL)
        return work;
    int frames = take_frames(link); /* also what came just before it went down */
    if (link->conn && salvo_io_conn_state(link->conn) == SALVO_IO_DOWN)
        salvo_rabbitmq_link_fail(link, SALVO_ERR_UNREACHABLE, "%s",
                                 salvo_io_conn_error(link->conn));
    if (link->conn)
        look_at_time(link);
    return work + frames;
}

void salvo_rabbitmq_link_send(salvo_rabbitmq_link *link)
{
    if (link->conn)
        (void)salvo_io_step(link->io);
}

void salvo_rabbitmq_link_bye(salvo_rabbitmq_link *link, uint32_t timeout_ms)
{
    amqp_connection_close_t close = {.reply_code = AMQP_REPLY_SUCCESS};
    uint64_t end = link->now_ns(link->clock) + timeout_ms * MS;
    if (link->stage == SALVO_RABBITMQ_OPEN &&
        salvo_rabbitmq_put_method(link, 0, AMQP_CONNECTION_CLOSE_METHOD, &close)) {
        link->stage = SALVO_RABBITMQ_CLOSING;
        while (link->conn && link->now_ns(link->clock) < end) {
            salvo_rabbitmq_link_step(link);
            if (link->conn)
                (void)salvo_io_wait(link->io, 10);
        }
    }
    if (link->conn)
        salvo_rabbitmq_link_fail(link, SALVO_ERR_CLOSED, "closed");
}
