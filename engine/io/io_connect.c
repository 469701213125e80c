/* SPDX-License-Identifier: Apache-2.0
 *
 * From a target to a connected socket. Guarantees: no call blocks; every address of a name gets
 * its turn, each with an equal share of what is left until the deadline; the text of a failure is
 * the last address's; a deadline ends any phase before UP.
 */
#include "io_internal.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/un.h>

void salvo_io_leave(salvo_io_conn *conn)
{
    if (conn->added)
        conn->stuck = !conn->io->backend->remove(conn);
    conn->added = false;
    if (conn->fd >= 0 && !conn->stuck)
        salvo_io_sys->close(conn->fd);
    conn->fd = -1;
}

static void connected(salvo_io_conn *conn)
{
    conn->io->events++;
    conn->io->backend->connected(conn);
    if (conn->phase == SALVO_IO_PHASE_DOWN)
        return;
    if (conn->tls == NULL) {
        salvo_io_up(conn);
        return;
    }
    conn->phase = SALVO_IO_PHASE_HANDSHAKE;
    salvo_io_tls_pump(conn);
}

/* 0, or the errno of what failed. */
static int try_address(salvo_io_conn *conn, int family, const struct sockaddr *address,
                       socklen_t size)
{
    const salvo_io_sys_table *sys = salvo_io_sys;
    int one = 1;
    conn->fd = sys->socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (conn->fd < 0)
        return errno;
    if (family != AF_UNIX && (sys->setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &one,
                                              sizeof one) != 0 ||
                              sys->setsockopt(conn->fd, SOL_SOCKET, SO_KEEPALIVE, &one,
                                              sizeof one) != 0))
        return errno;
    bool at_once = sys->connect(conn->fd, address, size) == 0;
    if (!at_once && errno != EINPROGRESS && errno != EINTR) /* EINTR: it goes on, too */
        return errno;
    int err = conn->io->backend->add(conn);
    if (err != 0)
        return -err;
    conn->added = true;
    if (at_once)
        connected(conn);
    return 0;
}

static void refused(salvo_io_conn *conn, int error)
{
    char text[96];
    salvo_io_down(conn, "cannot connect to %s: %s", conn->where,
                  salvo_io_errno_text(error, text, sizeof text));
}

static void try_unix(salvo_io_conn *conn)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    conn->attempt_deadline_ns = conn->deadline_ns;
    strncpy(address.sun_path, conn->target.unix_path, sizeof address.sun_path - 1);
    int error = try_address(conn, AF_UNIX, (const struct sockaddr *)&address, sizeof address);
    if (error != 0)
        refused(conn, error);
}

/* conn->address and those after it, until one is under way. */
static void try_addresses(salvo_io_conn *conn)
{
    int error = 0;
    conn->phase = SALVO_IO_PHASE_CONNECT;
    for (; conn->address != NULL; conn->address = conn->address->ai_next) {
        const struct addrinfo *a = conn->address;
        uint64_t now_ns = conn->io->options.now_ns(conn->io->options.clock), left = 0;
        for (const struct addrinfo *i = a; i != NULL; i = i->ai_next)
            left++;
        uint64_t rest_ns = conn->deadline_ns > now_ns ? conn->deadline_ns - now_ns : 0;
        conn->attempt_deadline_ns = now_ns + rest_ns / left;
        error = try_address(conn, a->ai_family, a->ai_addr, a->ai_addrlen);
        if (error == 0)
            return;
        salvo_io_leave(conn);
    }
    refused(conn, error);
}

static void next_address(salvo_io_conn *conn, int error)
{
    salvo_io_leave(conn);
    if (conn->address == NULL || conn->address->ai_next == NULL) {
        refused(conn, error);
        return;
    }
    conn->address = conn->address->ai_next;
    try_addresses(conn);
}

void salvo_io_connect_ready(salvo_io_conn *conn)
{
    int error = 0;
    socklen_t size = sizeof error;
    if (conn->phase != SALVO_IO_PHASE_CONNECT)
        return;
    if (salvo_io_sys->getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0)
        error = errno;
    if (error != 0)
        next_address(conn, error);
    else
        connected(conn);
}

void salvo_io_connect_start(salvo_io_conn *conn)
{
    const char *host = conn->target.host, *port = conn->target.port;
    if (conn->target.unix_path != NULL) {
        conn->phase = SALVO_IO_PHASE_CONNECT;
        try_unix(conn);
    } else if (salvo_io_resolve_numeric(host, port, &conn->addresses) == 0) {
        conn->address = conn->addresses;
        try_addresses(conn);
    } else {
        conn->job = salvo_io_resolve(conn->io, host, port);
        if (conn->job == NULL)
            salvo_io_down(conn, "cannot resolve '%s': no memory or no thread for it", host);
    }
}

static void resolved(salvo_io_conn *conn)
{
    int error = salvo_io_resolved(conn->job, &conn->addresses);
    if (error == 1)
        return;
    conn->job = NULL;
    conn->address = conn->addresses;
    if (error != 0 || conn->address == NULL)
        salvo_io_down(conn, "cannot resolve '%s': %s; is the name right?", conn->target.host,
                      gai_strerror(error));
    else
        try_addresses(conn);
}

void salvo_io_connect_advance(salvo_io_conn *conn, uint64_t now_ns)
{
    static const char *const doing[] = {"resolving its name", "connecting", "the TLS handshake"};
    if (conn->job != NULL)
        resolved(conn);
    if (conn->phase == SALVO_IO_PHASE_CONNECT && now_ns >= conn->attempt_deadline_ns &&
        now_ns < conn->deadline_ns)
        next_address(conn, ETIMEDOUT);
    if (conn->phase < SALVO_IO_PHASE_UP && now_ns >= conn->deadline_ns)
        salvo_io_down(conn, "cannot connect to %s: %s took longer than %u ms "
                            "(connect_timeout_ms)", conn->where, doing[conn->phase],
                      (unsigned)conn->target.connect_timeout_ms);
}
