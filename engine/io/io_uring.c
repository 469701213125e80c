/* SPDX-License-Identifier: Apache-2.0
 *
 * The io_uring backend: at most one send and one receive of a connection are in the kernel's
 * hands; a step puts what is missing into the ring, submits all of it in one system call, and
 * takes what was completed. A receive stays armed while nothing comes, so an idle step costs no
 * system call. A receive that has to be armed anew waits for the next step's submission, or for
 * salvo_io_descriptors(), which precedes every sleep. The ring's own descriptor is readable while
 * there are completions.
 *
 * Guarantees: a buffer or a stable piece is not let go before its operation has completed
 * (remove() cancels, then waits); bytes_sent counts what is in the kernel's hands. The handle may
 * move to another thread, as from the one that opens it to a flusher: what the kernel cancels
 * because the thread that submitted it ended is submitted anew.
 */
#include "io_internal.h"

#include <errno.h>
#include <liburing.h>
#include <stdlib.h>

enum { ENTRIES = 64, ROUNDS_A_STEP = 16, RECALL_TRIES = 1000, GIVE_UP_NS = 1000000000 };

typedef struct uring {
    struct io_uring ring;
    salvo_io *io;
    bool broken;
    uint64_t failing_since_ns; /* 0: the last submission was taken */
} uring;

static uring *ring_of(const salvo_io *io)
{
    return io->backend_data;
}

static int uring_open(salvo_io *io)
{
    uring *u = salvo_io_sys->alloc(1, sizeof *u);
    if (u == NULL)
        return -ENOMEM;
    /* No interrupts for completions: we look when we come by, or sleep on the descriptor. */
    struct io_uring_params params = {.flags = IORING_SETUP_COOP_TASKRUN |
                                              IORING_SETUP_TASKRUN_FLAG};
    int err = salvo_io_sys->ring_init(ENTRIES, &u->ring, &params);
    if (err == -EINVAL) { /* before Linux 5.19 */
        params = (struct io_uring_params){.flags = 0};
        err = salvo_io_sys->ring_init(ENTRIES, &u->ring, &params);
    }
    if (err == 0 && (params.features & IORING_FEAT_FAST_POLL) == 0) { /* before Linux 5.7 */
        io_uring_queue_exit(&u->ring);
        err = -ENOSYS;
    }
    if (err != 0) {
        free(u);
        return err;
    }
    io_uring_ring_dontfork(&u->ring);
    u->io = io;
    io->backend_data = u;
    return 0;
}

static void uring_close(salvo_io *io)
{
    uring *u = ring_of(io);
    io_uring_queue_exit(&u->ring);
    free(u);
}

static bool passing(int error) /* the kernel is short of something: try again */
{
    return error == EAGAIN || error == EBUSY || error == EINTR || error == ENOMEM;
}

static void give_up(salvo_io *io, int error)
{
    char text[96];
    ring_of(io)->broken = true;
    for (salvo_io_conn *conn = io->conns; conn != NULL; conn = conn->next)
        salvo_io_down(conn, "io_uring does not take work any more: %s; io_backend=poll does "
                            "without it", salvo_io_errno_text(error, text, sizeof text));
}

static void submit(salvo_io *io)
{
    uring *u = ring_of(io);
    if (u->broken || io_uring_sq_ready(&u->ring) == 0)
        return;
    int n = salvo_io_sys->ring_submit(&u->ring);
    if (n >= 0) { /* what is left goes with the next submission */
        u->failing_since_ns = 0;
        return;
    }
    uint64_t now_ns = io->options.now_ns(io->options.clock);
    if (u->failing_since_ns == 0)
        u->failing_since_ns = now_ns;
    if (!passing(-n) || now_ns - u->failing_since_ns > GIVE_UP_NS)
        give_up(io, -n);
}

static struct io_uring_sqe *entry(salvo_io *io)
{
    uring *u = ring_of(io);
    struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
    if (sqe == NULL) {
        submit(io);
        sqe = io_uring_get_sqe(&u->ring);
    }
    return sqe;
}

static void launch(struct io_uring_sqe *sqe, salvo_io_op *op)
{
    io_uring_sqe_set_data(sqe, op);
    op->flying = true;
}

static bool prepare_send(salvo_io_conn *conn)
{
    salvo_io_op *op = &conn->ops[SALVO_IO_OP_SEND];
    if (op->flying)
        return false;
    int n = salvo_io_wire_spans(conn, conn->spans, SALVO_IO_SPANS);
    struct io_uring_sqe *sqe = n > 0 ? entry(conn->io) : NULL;
    if (sqe == NULL)
        return false;
    conn->message = (struct msghdr){.msg_iov = conn->spans, .msg_iovlen = (size_t)n};
    for (int i = 0; i < n; i++)
        conn->flying_bytes += conn->spans[i].iov_len;
    io_uring_prep_sendmsg(sqe, conn->fd, &conn->message, MSG_NOSIGNAL | MSG_WAITALL);
    launch(sqe, op);
    return true;
}

static void prepare_receive(salvo_io_conn *conn)
{
    salvo_io_op *op = &conn->ops[SALVO_IO_OP_RECV];
    size_t space;
    if (op->flying)
        return;
    void *at = salvo_io_wire_space(conn, &space);
    struct io_uring_sqe *sqe = space > 0 ? entry(conn->io) : NULL;
    if (sqe == NULL)
        return;
    io_uring_prep_recv(sqe, conn->fd, at, space, 0);
    launch(sqe, op);
}

static void prepare_connect(salvo_io_conn *conn)
{
    salvo_io_op *op = &conn->ops[SALVO_IO_OP_CONNECT];
    struct io_uring_sqe *sqe = op->flying ? NULL : entry(conn->io);
    if (sqe == NULL)
        return;
    io_uring_prep_poll_add(sqe, conn->fd, POLLOUT);
    launch(sqe, op);
}

/* True: something that should not wait for the next step. */
static bool prepare(salvo_io *io)
{
    bool urgent = false;
    for (salvo_io_conn *conn = io->conns; conn != NULL; conn = conn->next) {
        if (!conn->added || ring_of(io)->broken)
            continue;
        if (conn->phase == SALVO_IO_PHASE_CONNECT && !conn->writable)
            prepare_connect(conn);
        urgent |= prepare_send(conn);
        prepare_receive(conn);
    }
    return urgent;
}

static void sent(salvo_io_conn *conn, int result)
{
    conn->flying_bytes = 0;
    if (result > 0)
        salvo_io_wire_sent(conn, (size_t)result);
    else if (result != -ECANCELED && !passing(-result))
        salvo_io_wire_send_failed(conn, -result);
}

static void received(salvo_io_conn *conn, int result)
{
    if (result >= 0)
        salvo_io_wire_received(conn, (size_t)result);
    else if (result != -ECANCELED && !passing(-result))
        salvo_io_wire_receive_failed(conn, -result);
}

static int reap(salvo_io *io)
{
    struct io_uring_cqe *cqes[ENTRIES];
    struct io_uring *ring = &ring_of(io)->ring;
    unsigned n = io_uring_peek_batch_cqe(ring, cqes, ENTRIES);
    for (unsigned i = 0; i < n; i++) {
        salvo_io_op *op = io_uring_cqe_get_data(cqes[i]);
        int result = cqes[i]->res;
        if (op == NULL) /* a cancellation's own answer */
            continue;
        op->flying = false;
        if (op->kind == SALVO_IO_OP_SEND)
            sent(op->conn, result);
        else if (op->kind == SALVO_IO_OP_RECV)
            received(op->conn, result);
        else
            op->conn->writable = result > 0; /* a look at the error tells which way */
    }
    io_uring_cq_advance(ring, n);
    return (int)n;
}

/* Not inside of reap(), as leaving an address that failed reaps, too. */
static void finish_connects(salvo_io *io)
{
    for (salvo_io_conn *conn = io->conns; conn != NULL; conn = conn->next)
        if (conn->phase == SALVO_IO_PHASE_CONNECT && conn->writable) {
            conn->writable = false;
            salvo_io_connect_ready(conn);
        }
}

static bool in_flight(const salvo_io_conn *conn)
{
    return conn->ops[SALVO_IO_OP_RECV].flying || conn->ops[SALVO_IO_OP_SEND].flying ||
           conn->ops[SALVO_IO_OP_CONNECT].flying;
}

static void cancel(salvo_io_conn *conn)
{
    for (int i = 0; i < SALVO_IO_OPS; i++) {
        struct io_uring_sqe *sqe = conn->ops[i].flying ? entry(conn->io) : NULL;
        if (sqe != NULL) {
            io_uring_prep_cancel(sqe, &conn->ops[i], 0);
            io_uring_sqe_set_data(sqe, NULL);
        }
    }
}

/* Takes everything of the connection back from the kernel; false: in vain. */
static bool recall(salvo_io_conn *conn)
{
    uring *u = ring_of(conn->io);
    for (int tries = 0; in_flight(conn) && tries < RECALL_TRIES; tries++) {
        struct timespec nap = {0, 1000000};
        cancel(conn);
        (void)salvo_io_sys->ring_submit_and_wait(&u->ring, 1);
        reap(conn->io);
        /* Of a thread that has ended the kernel gives requests back in its own time: what woke us
         * was the answer to the cancelling. */
        if (in_flight(conn))
            salvo_io_sys->ppoll(NULL, 0, &nap, NULL);
    }
    return !in_flight(conn);
}

static int uring_add(salvo_io_conn *conn)
{
    uring *u = ring_of(conn->io);
    conn->writable = false;
    for (const salvo_io_conn *other = conn->io->conns; u->broken && other != NULL;
         other = other->next)
        if (in_flight(other))
            return -EIO;
    u->broken = false; /* nothing is left of what it refused: a new chance */
    u->failing_since_ns = 0;
    return 0;
}

static bool uring_remove(salvo_io_conn *conn)
{
    return recall(conn);
}

static void uring_connected(salvo_io_conn *conn)
{
    int error;
    char text[96];
    /* On a non-blocking descriptor the kernel would answer EAGAIN and not wait for us. */
    if (salvo_io_sys->set_blocking(conn->fd) == 0)
        return;
    error = errno;
    salvo_io_down(conn, "cannot use the socket to %s: %s", conn->where,
                  salvo_io_errno_text(error, text, sizeof text));
}

static void uring_room(salvo_io_conn *conn)
{
    (void)conn; /* a step looks at every connection, and so does descriptors() */
}

static void uring_step(salvo_io *io)
{
    for (int round = 0; round < ROUNDS_A_STEP; round++) {
        bool urgent = prepare(io);
        if (round > 0 && !urgent)
            break; /* receives that are prepared go with the next submission */
        submit(io);
        reap(io);
        if (io->connecting > 0)
            finish_connects(io);
    }
}

static int uring_descriptors(const salvo_io *io, int *fds, int max)
{
    const int mine[] = {ring_of(io)->ring.ring_fd, io->event_fd};
    int n = max < 2 ? max : 2;
    prepare(ring_of(io)->io); /* or nothing would complete while the caller sleeps */
    submit(ring_of(io)->io);
    for (int i = 0; i < n; i++)
        fds[i] = mine[i];
    return n;
}

const salvo_io_backend_ops salvo_io_uring = {
    .name = "io_uring",
    .open = uring_open,
    .close = uring_close,
    .add = uring_add,
    .remove = uring_remove,
    .connected = uring_connected,
    .room = uring_room,
    .step = uring_step,
    .descriptors = uring_descriptors,
};
