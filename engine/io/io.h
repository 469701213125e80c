/* SPDX-License-Identifier: Apache-2.0
 *
 * Sockets for brokers whose wire protocol is ours to write.
 *
 * A salvo_io belongs to one thread (a flusher, or a reader's caller) and carries its connections.
 * A connection is two streams of bytes: what is put goes out in order, what arrived is looked at
 * and consumed. Two backends do the work, io_uring where the kernel allows it and poll where it
 * does not; nothing of either shows here.
 *
 * Guarantees: no call blocks, but salvo_io_wait() and salvo_io_close(); names are resolved on a
 * helper thread; a connect that takes longer than its deadline ends in DOWN with a text; with TLS
 * the certificate's chain, name and dates are verified before a byte of ours goes out; a
 * connection holds at most out_bytes of unsent and in_bytes of unread bytes; SIGPIPE is never
 * raised. Not guaranteed: that what was sent arrived.
 */
#ifndef SALVO_IO_H
#define SALVO_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct salvo_io salvo_io;
typedef struct salvo_io_conn salvo_io_conn;

typedef struct salvo_io_options {
    const char *backend;               /* "auto", "io_uring" or "poll" */
    uint64_t (*now_ns)(void *clock);   /* deadlines are on this clock */
    void *clock;
    void (*wake)(void *flusher);       /* any thread: a name was resolved; NULL: nobody to wake */
    void *flusher;
} salvo_io_options;

typedef struct salvo_io_target {
    const char *host, *port;           /* name or number; an IPv6 address without brackets */
    const char *unix_path;             /* instead of host and port */
    bool tls;
    const char *tls_cafile;            /* PEM; NULL: the system's authorities */
    const char *tls_certfile, *tls_keyfile; /* this client's, PEM; NULL: none */
    uint32_t connect_timeout_ms;       /* of resolution, connect and handshake together */
    size_t out_bytes, in_bytes;        /* bounds of the two streams; powers of two */
} salvo_io_target;

typedef enum salvo_io_state {
    SALVO_IO_CONNECTING,
    SALVO_IO_UP,
    SALVO_IO_DOWN /* for good: see the text, then disconnect and connect anew */
} salvo_io_state;

/* 0, SALVO_ERR_UNSUPPORTED ("io_uring" where the kernel forbids it), NOMEM or LIMIT (descriptors);
 * *error gets the text. */
int salvo_io_open(const salvo_io_options *options, salvo_io **out, char *error, size_t error_size);
void salvo_io_close(salvo_io *io); /* disconnects what is left; waits for a resolution under way */
const char *salvo_io_backend(const salvo_io *io); /* "io_uring" or "poll" */

/* Descriptors that become readable when salvo_io_step() has work; how many (<= max, 2 suffice).
 * Ask right before each sleep: they are armed by it. Deadlines of connects they do not tell. */
int salvo_io_descriptors(const salvo_io *io, int *fds, int max);

/* Send, receive, connect as far as it goes without blocking. > 0: something happened on some
 * connection (state, bytes in, room out). */
int salvo_io_step(salvo_io *io);

/* For readers and require(): block until a step has work or timeout_ms passed; then step. */
int salvo_io_wait(salvo_io *io, uint64_t timeout_ms);

/* Begin to connect. The target's texts are copied. 0, NOMEM or INVALID (a file of the target that
 * cannot be read, named in *error). */
int salvo_io_connect(salvo_io *io, const salvo_io_target *target, salvo_io_conn **out, char *error,
                     size_t error_size);
salvo_io_state salvo_io_conn_state(const salvo_io_conn *conn);
const char *salvo_io_conn_error(const salvo_io_conn *conn); /* why DOWN, in words; else "" */

/* After it nothing that was put stable is looked at any more. */
void salvo_io_disconnect(salvo_io_conn *conn);

/* Outgoing. May be used while CONNECTING: it goes out once UP.
 * reserve: `n` bytes in one piece, to be written and then committed (n or fewer), NULL when there
 * is no room now. put: a copy; false when there is no room now. put_stable: no copy; the bytes
 * stay unchanged until bytes_released() passed them or the connection is disconnected (short ones
 * are copied all the same). Room counts all of them. It all goes out in the next steps. */
size_t salvo_io_room(const salvo_io_conn *conn);
void *salvo_io_reserve(salvo_io_conn *conn, size_t n);
void salvo_io_commit(salvo_io_conn *conn, size_t n);
bool salvo_io_put(salvo_io_conn *conn, const void *bytes, size_t n);
bool salvo_io_put_stable(salvo_io_conn *conn, const void *bytes, size_t n);

/* Bytes put so far, and how many of them the kernel may have taken (never too few): what lies
 * beyond was surely not sent. */
uint64_t salvo_io_bytes_put(const salvo_io_conn *conn);
uint64_t salvo_io_bytes_sent(const salvo_io_conn *conn);

/* How many of them are not looked at any more, so that stable pieces among them may change (never
 * too many): less than bytes_sent() while the kernel has some in its hands. */
uint64_t salvo_io_bytes_released(const salvo_io_conn *conn);

/* Incoming: what arrived and was not consumed, in one piece, valid until the next step. */
size_t salvo_io_input(salvo_io_conn *conn, const void **bytes);
void salvo_io_consume(salvo_io_conn *conn, size_t n);

#endif
