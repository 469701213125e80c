/* SPDX-License-Identifier: Apache-2.0
 *
 * io.h and io_set.h without a socket, all of their functions (the linker complains where one is
 * missing, since it then finds the true ones too): what is put is read and thrown away at the next
 * step, what arrives comes from the input. Incoming bytes lie in memory of exactly their length, so
 * that a look beyond them is seen by AddressSanitizer, as is a look at them after the next step.
 */
#include "wire.h"

#include "io.h"
#include "io_set.h"

#include <time.h>

/* The linker gives us the calls of clock_gettime(). */
int __real_clock_gettime(clockid_t id, struct timespec *out);
int __wrap_clock_gettime(clockid_t id, struct timespec *out);

enum { PIECE_END = 255, PIECE_SILENCE = 254, STABLE_MAX = 256 };

typedef struct stable {
    const void *bytes;
    size_t n;
} stable;

struct salvo_io_conn {
    salvo_io *io;
    salvo_io_state state;
    size_t out_bytes, in_bytes;
    uint64_t put, sent;
    stable spans[STABLE_MAX];
    size_t span_count;
    size_t copied; /* of `copy` */
    uint8_t *in;   /* unread, exactly */
    size_t in_count, consumed;
};

struct salvo_io {
    salvo_io_conn *conn; /* drivers have one at a time */
};

static uint8_t copy[8 << 20]; /* what was put and not sent */
static const uint8_t *peer;
static size_t peer_left;
static char said[64 << 10]; /* what arrived, without the lengths of its pieces */
static size_t said_count;
static uint64_t now_ns;

void salvo_wire_start(const uint8_t *data, size_t size)
{
    peer = data;
    peer_left = size;
    said_count = 0;
    now_ns = 1000000000;
}

bool salvo_wire_said(const char *text)
{
    return said_count != 0 && memmem(said, said_count, text, strlen(text)) != NULL;
}

size_t salvo_wire_left(void)
{
    return peer_left;
}

uint64_t salvo_wire_now_ns(void *clock)
{
    (void)clock;
    return now_ns;
}

/* Readers look at the monotonic clock themselves. A look takes a while, so that every wait ends. */
int __wrap_clock_gettime(clockid_t id, struct timespec *out)
{
    if (id != CLOCK_MONOTONIC)
        return __real_clock_gettime(id, out);
    now_ns += 10000;
    *out = (struct timespec){.tv_sec = (time_t)(now_ns / 1000000000),
                             .tv_nsec = (long)(now_ns % 1000000000)};
    return 0;
}

void salvo_wire_pass(void)
{
    now_ns += 2000000;
}

int salvo_io_open(const salvo_io_options *options, salvo_io **out, char *error, size_t error_size)
{
    (void)options, (void)error, (void)error_size;
    *out = calloc(1, sizeof **out);
    return *out ? 0 : -2;
}

void salvo_io_close(salvo_io *io)
{
    if (io->conn)
        salvo_io_disconnect(io->conn);
    free(io);
}

const char *salvo_io_backend(const salvo_io *io)
{
    (void)io;
    return "poll";
}

int salvo_io_descriptors(const salvo_io *io, int *fds, int max)
{
    (void)io, (void)fds, (void)max;
    return 0;
}

/* All that is unread in memory of its own length, with n new bytes behind it. */
static void arrive(salvo_io_conn *conn, const uint8_t *bytes, size_t n)
{
    size_t rest = conn->in_count - conn->consumed;
    if (n > conn->in_bytes - rest)
        n = conn->in_bytes - rest;
    uint8_t *in = malloc(rest + n ? rest + n : 1);
    fuzz_check(in != NULL, "memory for the input");
    if (rest)
        memcpy(in, conn->in + conn->consumed, rest);
    if (n) {
        memcpy(in + rest, bytes, n);
        fuzz_check(n <= sizeof said - said_count, "no input is that long");
        memcpy(said + said_count, bytes, n);
        said_count += n;
    }
    free(conn->in);
    conn->in = in;
    conn->in_count = rest + n;
    conn->consumed = 0;
}

static void receive(salvo_io_conn *conn)
{
    uint8_t n = 0;
    if (peer_left == 0) {
        arrive(conn, NULL, 0);
        return;
    }
    fuzz_take(&peer, &peer_left, &n, 1);
    if (n == PIECE_END) {
        conn->state = SALVO_IO_DOWN;
    } else if (n == PIECE_SILENCE) {
        now_ns += 1000000000;
    } else {
        size_t have = n < peer_left ? n : peer_left;
        arrive(conn, peer, have);
        peer += have;
        peer_left -= have;
    }
}

int salvo_io_step(salvo_io *io)
{
    salvo_io_conn *conn = io->conn;
    now_ns += 1000000;
    if (!conn || conn->state == SALVO_IO_DOWN)
        return 0;
    if (conn->state == SALVO_IO_CONNECTING) {
        conn->state = SALVO_IO_UP;
        return 1;
    }
    for (size_t i = 0; i < conn->span_count; i++)
        fuzz_touch(conn->spans[i].bytes, conn->spans[i].n);
    fuzz_touch(copy, conn->copied);
    conn->span_count = conn->copied = 0;
    conn->sent = conn->put;
    receive(conn);
    return 1;
}

int salvo_io_wait(salvo_io *io, uint64_t timeout_ms)
{
    if (!io->conn || peer_left == 0) /* else what comes ends the wait */
        now_ns += timeout_ms * 1000000;
    return salvo_io_step(io);
}

int salvo_io_connect(salvo_io *io, const salvo_io_target *target, salvo_io_conn **out, char *error,
                     size_t error_size)
{
    (void)error, (void)error_size;
    fuzz_check(io->conn == NULL, "one connection at a time");
    salvo_io_conn *conn = calloc(1, sizeof *conn);
    fuzz_check(conn != NULL && target->out_bytes <= sizeof copy, "memory for a connection");
    conn->io = io;
    conn->out_bytes = target->out_bytes;
    conn->in_bytes = target->in_bytes;
    io->conn = *out = conn;
    return 0;
}

salvo_io_state salvo_io_conn_state(const salvo_io_conn *conn)
{
    return conn->state;
}

const char *salvo_io_conn_error(const salvo_io_conn *conn)
{
    return conn->state == SALVO_IO_DOWN ? "the server closed the connection" : "";
}

void salvo_io_disconnect(salvo_io_conn *conn)
{
    conn->io->conn = NULL;
    free(conn->in);
    free(conn);
}

size_t salvo_io_room(const salvo_io_conn *conn)
{
    return conn->out_bytes - (size_t)(conn->put - conn->sent);
}

void *salvo_io_reserve(salvo_io_conn *conn, size_t n)
{
    return n <= salvo_io_room(conn) ? copy + conn->copied : NULL;
}

void salvo_io_commit(salvo_io_conn *conn, size_t n)
{
    fuzz_check(n <= salvo_io_room(conn), "no more is committed than there was room for");
    conn->copied += n;
    conn->put += n;
}

bool salvo_io_put(salvo_io_conn *conn, const void *bytes, size_t n)
{
    void *to = salvo_io_reserve(conn, n);
    if (!to)
        return false;
    if (n)
        memcpy(to, bytes, n);
    salvo_io_commit(conn, n);
    return true;
}

bool salvo_io_put_stable(salvo_io_conn *conn, const void *bytes, size_t n)
{
    if (n > salvo_io_room(conn) || conn->span_count == STABLE_MAX)
        return false;
    conn->spans[conn->span_count++] = (stable){bytes, n};
    conn->put += n;
    return true;
}

uint64_t salvo_io_bytes_put(const salvo_io_conn *conn)
{
    return conn->put;
}

uint64_t salvo_io_bytes_sent(const salvo_io_conn *conn)
{
    return conn->sent;
}

/* What is sent was touched already. */
uint64_t salvo_io_bytes_released(const salvo_io_conn *conn)
{
    return conn->sent;
}

size_t salvo_io_input(salvo_io_conn *conn, const void **bytes)
{
    *bytes = conn->in ? conn->in + conn->consumed : NULL;
    return conn->in_count - conn->consumed;
}

void salvo_io_consume(salvo_io_conn *conn, size_t n)
{
    fuzz_check(n <= conn->in_count - conn->consumed, "no more is consumed than arrived");
    conn->consumed += n;
}

/* Nobody waits for real: time passes, or what comes ends the wait. */
int salvo_io_set_open(salvo_io_set *set, salvo_io *const *ios, int count, char *error,
                      size_t error_size)
{
    (void)ios, (void)error, (void)error_size;
    *set = (salvo_io_set){.count = count};
    return 0;
}

void salvo_io_set_close(salvo_io_set *set)
{
    (void)set;
}

int salvo_io_set_descriptor(const salvo_io_set *set)
{
    (void)set;
    return -1;
}

void salvo_io_set_wake(const salvo_io_set *set)
{
    (void)set;
}

bool salvo_io_set_wait(salvo_io_set *set, uint64_t timeout_ms)
{
    (void)set;
    if (peer_left == 0)
        now_ns += timeout_ms * 1000000;
    return false;
}

void salvo_io_set_leave(salvo_io_set *set, bool more)
{
    (void)set, (void)more;
}
