/* SPDX-License-Identifier: Apache-2.0
 *
 * The parts of the sockets module, to each other.
 *
 *   io.c          the handle, its connections' life: RESOLVE -> CONNECT -> HANDSHAKE -> UP -> DOWN
 *   io_stream.c   the two streams: mirrored buffers and the queue of outgoing segments
 *   io_wire.c     what a backend moves for a connection: plain bytes, or TLS records
 *   io_connect.c  addresses in turn, each with its share of the deadline
 *   io_resolve.c  names on a helper thread
 *   io_tls.c      OpenSSL between the streams and the wire
 *   io_poll.c, io_uring.c   the backends
 *   io_sys.c      every system call
 *
 * A backend moves bytes and tells what came of it by the salvo_io_wire_*() calls; it never looks
 * at streams or phases beyond `conn->phase`. A connection that fails becomes DOWN at once, and
 * its descriptor is taken from the backend at the end of the step.
 */
#ifndef SALVO_IO_INTERNAL_H
#define SALVO_IO_INTERNAL_H

#include "io.h"

#include "io_sys.h"

#include <netdb.h>
#include <stdatomic.h>
#include <sys/uio.h>

enum {
    SALVO_IO_SPANS = 64,         /* most pieces of one send */
    SALVO_IO_COPY_BELOW = 256,   /* a stable piece shorter than this is cheaper as a copy */
    SALVO_IO_ERROR_BYTES = 320
};

/* --- streams (io_stream.c) ----------------------------------------------------------------- */

/* A buffer mapped twice in a row: base[i] and base[i + bytes] are one byte, so what begins in it
 * is in one piece whatever its position, and nothing is ever moved under a running transfer. */
typedef struct salvo_io_mirror {
    uint8_t *base;
    size_t bytes; /* a power of two */
} salvo_io_mirror;

typedef struct salvo_io_segment {
    const uint8_t *base;
    uint32_t len, stable; /* stable: the caller's bytes, else in the mirror */
} salvo_io_segment;

typedef struct salvo_io_out { /* put = taken + what is queued <= limit */
    salvo_io_mirror mirror;
    size_t limit;
    uint64_t put, taken; /* bytes ever */
    uint64_t owned;      /* bytes ever written to the mirror */
    salvo_io_segment *segments;
    uint32_t mask, first, last; /* [first, last), free running */
} salvo_io_out;

typedef struct salvo_io_in { /* arrived = consumed + what is unread <= limit */
    salvo_io_mirror mirror;
    size_t limit;
    uint64_t arrived, consumed;
} salvo_io_in;

int salvo_io_out_open(salvo_io_out *out, size_t bytes); /* 0 or NOMEM */
void salvo_io_out_close(salvo_io_out *out);
int salvo_io_out_spans(const salvo_io_out *out, struct iovec *spans, int max);
void salvo_io_out_take(salvo_io_out *out, size_t n); /* the first n bytes are done with */
int salvo_io_in_open(salvo_io_in *in, size_t bytes);
void salvo_io_in_close(salvo_io_in *in);
void *salvo_io_in_space(const salvo_io_in *in, size_t *n);

/* --- names (io_resolve.c) ------------------------------------------------------------------ */

typedef struct salvo_io_job salvo_io_job;

/* Begin, or adopt one for the same name that nobody waits for any more. NULL: no memory, no
 * thread. */
salvo_io_job *salvo_io_resolve(salvo_io *io, const char *host, const char *port);
/* 0 with the addresses (the caller's), 1: not yet, else getaddrinfo's error. Not-1 ends the job. */
int salvo_io_resolved(salvo_io_job *job, struct addrinfo **addresses);
void salvo_io_resolve_abandon(salvo_io_job *job);
void salvo_io_resolve_sweep(salvo_io *io, bool wait); /* end abandoned ones that are done, or all */
int salvo_io_resolve_numeric(const char *host, const char *port, struct addrinfo **addresses);

/* --- the handle and its connections -------------------------------------------------------- */

typedef enum salvo_io_phase {
    SALVO_IO_PHASE_RESOLVE,
    SALVO_IO_PHASE_CONNECT,
    SALVO_IO_PHASE_HANDSHAKE,
    SALVO_IO_PHASE_UP,
    SALVO_IO_PHASE_DOWN
} salvo_io_phase;

typedef struct salvo_io_op { /* io_uring: what is in the kernel's hands */
    salvo_io_conn *conn;
    enum { SALVO_IO_OP_RECV, SALVO_IO_OP_SEND, SALVO_IO_OP_CONNECT, SALVO_IO_OPS } kind;
    bool flying;
} salvo_io_op;

typedef struct salvo_io_tls salvo_io_tls;

struct salvo_io_conn {
    salvo_io *io;
    salvo_io_conn *next, *previous;
    salvo_io_phase phase;
    int fd;
    salvo_io_target target; /* its texts point into `texts` */
    char *texts;
    uint64_t deadline_ns, attempt_deadline_ns;
    salvo_io_job *job;
    struct addrinfo *addresses, *address; /* all; the one that is tried */
    salvo_io_out out;
    salvo_io_in in;
    salvo_io_tls *tls;
    bool unread_records; /* TLS: input was full before all records were read */
    int send_errno; /* a send failed: what arrived before is still read */
    char error[SALVO_IO_ERROR_BYTES];
    char where[SALVO_IO_ERROR_BYTES / 2]; /* host:port or path, for errors */
    /* The backend's. */
    bool added, blocked;     /* blocked: the kernel took less than it was given */
    uint32_t interest;       /* poll: epoll's events */
    bool writable;           /* io_uring: so said the kernel, in phase CONNECT */
    bool stuck;              /* io_uring: the kernel does not give it back */
    salvo_io_op ops[SALVO_IO_OPS];
    struct msghdr message;
    struct iovec spans[SALVO_IO_SPANS];
    size_t flying_bytes; /* of the send in the kernel's hands */
};

typedef struct salvo_io_backend {
    const char *name;
    int (*open)(salvo_io *io); /* 0 or -errno */
    void (*close)(salvo_io *io);
    int (*add)(salvo_io_conn *conn);     /* conn->fd is new, of phase CONNECT. 0 or -errno */
    bool (*remove)(salvo_io_conn *conn); /* afterwards nothing of it is in the kernel's hands;
                                            false: that could not be had */
    void (*connected)(salvo_io_conn *conn); /* it leaves phase CONNECT */
    void (*room)(salvo_io_conn *conn);   /* there is room for input again */
    void (*step)(salvo_io *io);
    int (*descriptors)(const salvo_io *io, int *fds, int max);
} salvo_io_backend_ops;

extern const salvo_io_backend_ops salvo_io_poll, salvo_io_uring;

struct salvo_io {
    salvo_io_options options;
    const salvo_io_backend_ops *backend;
    void *backend_data;
    salvo_io_conn *conns;
    uint32_t connecting; /* of them, CONNECTING */
    int events;          /* of this step */
    int event_fd;        /* makes descriptors readable: a name was resolved, records wait */
    atomic_bool woken;   /* event_fd was written */
    salvo_io_job *jobs;
    struct salvo_io_tls_context *tls; /* the last one, for the next connection */
};

/* io.c */
void salvo_io_wake(salvo_io *io); /* any thread: descriptors become readable */
void salvo_io_down(salvo_io_conn *conn, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void salvo_io_up(salvo_io_conn *conn);
const char *salvo_io_errno_text(int error, char *text, size_t size);

/* io_connect.c */
void salvo_io_leave(salvo_io_conn *conn); /* the backend, then the descriptor */
void salvo_io_connect_start(salvo_io_conn *conn);
void salvo_io_connect_advance(salvo_io_conn *conn, uint64_t now_ns);
void salvo_io_connect_ready(salvo_io_conn *conn); /* backend: the descriptor became writable */

/* io_wire.c: backend calls these. */
int salvo_io_wire_spans(salvo_io_conn *conn, struct iovec *spans, int max); /* what to send */
void salvo_io_wire_sent(salvo_io_conn *conn, size_t n);
void *salvo_io_wire_space(salvo_io_conn *conn, size_t *n); /* where to receive; *n may be 0 */
void salvo_io_wire_received(salvo_io_conn *conn, size_t n); /* 0: the peer closed */
void salvo_io_wire_send_failed(salvo_io_conn *conn, int error);
void salvo_io_wire_receive_failed(salvo_io_conn *conn, int error);
static inline bool salvo_io_wire_live(const salvo_io_conn *conn)
{
    return conn->phase == SALVO_IO_PHASE_HANDSHAKE || conn->phase == SALVO_IO_PHASE_UP;
}

/* --- TLS (io_tls.c) ------------------------------------------------------------------------ */

/* Files are read here, once while they stay the same. 0, NOMEM or INVALID with *error. */
int salvo_io_tls_open(salvo_io_conn *conn, char *error, size_t error_size);
void salvo_io_tls_close(salvo_io_conn *conn);
void salvo_io_tls_context_release(struct salvo_io_tls_context *context);
void salvo_io_tls_pump(salvo_io_conn *conn); /* handshake, records in; may end in UP or DOWN */
int salvo_io_tls_spans(salvo_io_conn *conn, struct iovec *spans); /* encrypts what is queued */
void salvo_io_tls_sent(salvo_io_conn *conn, size_t n);
void *salvo_io_tls_space(salvo_io_conn *conn, size_t *n);
void salvo_io_tls_received(salvo_io_conn *conn, size_t n);
void salvo_io_tls_farewell(salvo_io_conn *conn); /* close_notify, as far as it goes */

#endif
