/* SPDX-License-Identifier: Apache-2.0
 *
 * The poll backend: plain non-blocking calls. A step tries to send what is queued and to receive
 * what came, a system call each; nothing is polled for that. An epoll set exists only so that
 * salvo_io_descriptors() is one descriptor: it waits for input where there is room for it, and for
 * room in the socket only while something unsent did not fit.
 */
#include "io_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

/* One connection shall not hold the others up for longer than so many calls a step. */
enum { CALLS_A_STEP = 16 };

static int *set_of(const salvo_io *io)
{
    return io->backend_data;
}

static int poll_open(salvo_io *io)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    int *set = salvo_io_sys->alloc(1, sizeof *set);
    if (set == NULL)
        return -ENOMEM;
    *set = salvo_io_sys->epoll_create1(EPOLL_CLOEXEC);
    if (*set < 0 || salvo_io_sys->epoll_ctl(*set, EPOLL_CTL_ADD, io->event_fd, &event) != 0) {
        int error = errno;
        if (*set >= 0)
            salvo_io_sys->close(*set);
        free(set);
        return -error;
    }
    io->backend_data = set;
    return 0;
}

static void poll_close(salvo_io *io)
{
    salvo_io_sys->close(*set_of(io));
    free(io->backend_data);
}

static uint32_t wanted(salvo_io_conn *conn)
{
    size_t space;
    if (conn->phase == SALVO_IO_PHASE_CONNECT)
        return EPOLLOUT;
    salvo_io_wire_space(conn, &space);
    return (space > 0 ? (uint32_t)EPOLLIN : 0) | (conn->blocked ? (uint32_t)EPOLLOUT : 0);
}

static void update(salvo_io_conn *conn)
{
    struct epoll_event event = {.events = wanted(conn), .data.ptr = conn};
    if (event.events == conn->interest || conn->phase == SALVO_IO_PHASE_DOWN)
        return;
    if (salvo_io_sys->epoll_ctl(*set_of(conn->io), EPOLL_CTL_MOD, conn->fd, &event) != 0) {
        int error = errno;
        char text[96];
        salvo_io_down(conn, "cannot wait for %s: %s", conn->where,
                      salvo_io_errno_text(error, text, sizeof text));
        return;
    }
    conn->interest = event.events;
}

static int poll_add(salvo_io_conn *conn)
{
    struct epoll_event event = {.events = EPOLLOUT, .data.ptr = conn};
    conn->blocked = false;
    conn->interest = event.events;
    return salvo_io_sys->epoll_ctl(*set_of(conn->io), EPOLL_CTL_ADD, conn->fd, &event) == 0
               ? 0
               : -errno;
}

static bool poll_remove(salvo_io_conn *conn)
{
    struct epoll_event event = {.events = 0};
    /* It cannot fail in a way that matters: closing the descriptor removes it as well. */
    salvo_io_sys->epoll_ctl(*set_of(conn->io), EPOLL_CTL_DEL, conn->fd, &event);
    return true;
}

static void poll_connected(salvo_io_conn *conn)
{
    (void)conn; /* the step ends with update() */
}

static size_t sum(const struct iovec *spans, int n)
{
    size_t bytes = 0;
    for (int i = 0; i < n; i++)
        bytes += spans[i].iov_len;
    return bytes;
}

static void send_some(salvo_io_conn *conn)
{
    for (int calls = 0; calls < CALLS_A_STEP; calls++) {
        struct msghdr message = {.msg_iov = conn->spans};
        int n = salvo_io_wire_spans(conn, conn->spans, SALVO_IO_SPANS);
        conn->blocked = false;
        if (n == 0)
            return;
        message.msg_iovlen = (size_t)n;
        ssize_t sent = salvo_io_sys->sendmsg(conn->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        int error = errno;
        if (sent > 0)
            salvo_io_wire_sent(conn, (size_t)sent);
        if (sent >= 0 && (size_t)sent == sum(conn->spans, n))
            continue;
        if (sent >= 0 || error == EAGAIN) {
            conn->blocked = true;
            return;
        }
        if (error != EINTR) {
            salvo_io_wire_send_failed(conn, error);
            return;
        }
    }
    conn->blocked = true; /* not so, but there is more to send: the socket is writable at once */
}

static void receive_some(salvo_io_conn *conn)
{
    for (int calls = 0; calls < CALLS_A_STEP; calls++) {
        size_t space;
        void *at = salvo_io_wire_space(conn, &space);
        if (space == 0)
            return;
        ssize_t got = salvo_io_sys->recv(conn->fd, at, space, MSG_DONTWAIT);
        if (got >= 0) {
            salvo_io_wire_received(conn, (size_t)got);
            if ((size_t)got < space && conn->send_errno == 0)
                return; /* that was all */
        } else if (errno == EAGAIN) {
            return;
        } else if (errno != EINTR) {
            salvo_io_wire_receive_failed(conn, errno);
        }
    }
}

static void poll_step(salvo_io *io)
{
    for (salvo_io_conn *conn = io->conns; conn != NULL; conn = conn->next) {
        if (!conn->added)
            continue;
        if (conn->phase == SALVO_IO_PHASE_CONNECT) {
            struct pollfd fd = {.fd = conn->fd, .events = POLLOUT};
            struct timespec zero = {0, 0};
            if (salvo_io_sys->ppoll(&fd, 1, &zero, NULL) > 0)
                salvo_io_connect_ready(conn);
        }
        if (salvo_io_wire_live(conn)) {
            send_some(conn);
            receive_some(conn);
            if (conn->tls != NULL) /* what came may be what sending waited for: the handshake */
                send_some(conn);
        }
        if (conn->added)
            update(conn);
    }
}

static int poll_descriptors(const salvo_io *io, int *fds, int max)
{
    if (max < 1)
        return 0;
    fds[0] = *set_of(io);
    return 1;
}

const salvo_io_backend_ops salvo_io_poll = {
    .name = "poll",
    .open = poll_open,
    .close = poll_close,
    .add = poll_add,
    .remove = poll_remove,
    .connected = poll_connected,
    .room = update,
    .step = poll_step,
    .descriptors = poll_descriptors,
};
