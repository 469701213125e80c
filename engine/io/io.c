/* SPDX-License-Identifier: Apache-2.0
 *
 * The handle and the life of its connections. Guarantees: a connection's phase only moves on; a
 * connection that went DOWN leaves its backend and its descriptor at the end of the step, and
 * keeps what it had received until it is disconnected; what a failed call allocated is freed.
 */
#include "io_internal.h"

#include <errno.h>
#include <salvo/err.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

const char *salvo_io_errno_text(int error, char *text, size_t size)
{
    return strerror_r(error, text, size);
}

void salvo_io_wake(salvo_io *io)
{
    uint64_t one = 1;
    ssize_t ignored = salvo_io_sys->write(io->event_fd, &one, sizeof one); /* full is readable */
    (void)ignored;
    atomic_store_explicit(&io->woken, true, memory_order_release); /* pairs with hear() */
}

static void hear(salvo_io *io)
{
    uint64_t count;
    /* Relaxed look first: whoever sees it late finds the descriptor readable still. */
    if (!atomic_load_explicit(&io->woken, memory_order_relaxed))
        return;
    atomic_exchange_explicit(&io->woken, false, memory_order_acquire); /* with salvo_io_wake() */
    ssize_t ignored = salvo_io_sys->read(io->event_fd, &count, sizeof count);
    (void)ignored;
}

/* --- the handle ---------------------------------------------------------------------------- */

static int open_backend(salvo_io *io, const char *wanted, char *error, size_t error_size)
{
    char text[96];
    bool any = wanted == NULL || strcmp(wanted, "auto") == 0;
    int err = -EINVAL;
    if (any || strcmp(wanted, salvo_io_uring.name) == 0) {
        io->backend = &salvo_io_uring;
        err = io->backend->open(io);
    }
    if ((any && err != 0) || (!any && strcmp(wanted, salvo_io_poll.name) == 0)) {
        io->backend = &salvo_io_poll;
        err = io->backend->open(io);
    }
    if (err == 0)
        return 0;
    snprintf(error, error_size, "the %s backend of the sockets cannot be opened: %s%s",
             any ? salvo_io_poll.name : wanted, salvo_io_errno_text(-err, text, sizeof text),
             any || strcmp(wanted, salvo_io_poll.name) == 0
                 ? "" : "; io_backend=poll works everywhere");
    return err == -ENOMEM ? SALVO_ERR_NOMEM
           : err == -EMFILE || err == -ENFILE ? SALVO_ERR_LIMIT : SALVO_ERR_UNSUPPORTED;
}

int salvo_io_open(const salvo_io_options *options, salvo_io **out, char *error, size_t error_size)
{
    *out = NULL;
    salvo_io *io = salvo_io_sys->alloc(1, sizeof *io);
    if (io == NULL) {
        snprintf(error, error_size, "no memory for sockets");
        return SALVO_ERR_NOMEM;
    }
    io->options = *options;
    io->event_fd = salvo_io_sys->eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (io->event_fd < 0) {
        char text[96];
        snprintf(error, error_size, "no descriptor for sockets: %s",
                 salvo_io_errno_text(errno, text, sizeof text));
        free(io);
        return SALVO_ERR_LIMIT;
    }
    int err = open_backend(io, options->backend, error, error_size);
    if (err != 0) {
        salvo_io_sys->close(io->event_fd);
        free(io);
        return err;
    }
    *out = io;
    return 0;
}

void salvo_io_close(salvo_io *io)
{
    if (io == NULL)
        return;
    while (io->conns != NULL)
        salvo_io_disconnect(io->conns);
    salvo_io_resolve_sweep(io, true);
    io->backend->close(io);
    salvo_io_tls_context_release(io->tls);
    salvo_io_sys->close(io->event_fd);
    free(io);
}

const char *salvo_io_backend(const salvo_io *io)
{
    return io->backend->name;
}

int salvo_io_descriptors(const salvo_io *io, int *fds, int max)
{
    return io->backend->descriptors(io, fds, max);
}

/* Phases that time moves, and connections that went DOWN. */
static void advance(salvo_io *io)
{
    uint64_t now_ns = io->connecting > 0 ? io->options.now_ns(io->options.clock) : 0;
    for (salvo_io_conn *conn = io->conns; conn != NULL; conn = conn->next)
        if (conn->phase < SALVO_IO_PHASE_UP)
            salvo_io_connect_advance(conn, now_ns);
}

int salvo_io_step(salvo_io *io)
{
    hear(io);
    if (io->connecting > 0)
        advance(io);
    for (salvo_io_conn *conn = io->conns; conn != NULL; conn = conn->next)
        if (conn->unread_records && salvo_io_wire_live(conn))
            salvo_io_tls_pump(conn);
    io->backend->step(io);
    for (salvo_io_conn *conn = io->conns; conn != NULL; conn = conn->next)
        if (conn->phase == SALVO_IO_PHASE_DOWN && conn->fd >= 0)
            salvo_io_leave(conn);
    if (io->jobs != NULL)
        salvo_io_resolve_sweep(io, false);
    int events = io->events;
    io->events = 0;
    return events;
}

/* The next moment at which a deadline has to be looked at. */
static uint64_t nearest_deadline_ns(const salvo_io *io)
{
    uint64_t nearest = UINT64_MAX;
    for (const salvo_io_conn *conn = io->conns; conn != NULL; conn = conn->next) {
        if (conn->phase >= SALVO_IO_PHASE_UP)
            continue;
        if (conn->deadline_ns < nearest)
            nearest = conn->deadline_ns;
        if (conn->phase == SALVO_IO_PHASE_CONNECT && conn->attempt_deadline_ns < nearest)
            nearest = conn->attempt_deadline_ns;
    }
    return nearest;
}

int salvo_io_wait(salvo_io *io, uint64_t timeout_ms)
{
    enum { MAX_FDS = 2 };
    uint64_t until = io->options.now_ns(io->options.clock);
    until = timeout_ms < (UINT64_MAX - until) / 1000000u ? until + timeout_ms * 1000000u
                                                          : UINT64_MAX;
    for (;;) {
        int events = salvo_io_step(io);
        uint64_t now_ns = io->options.now_ns(io->options.clock);
        if (events > 0 || now_ns >= until)
            return events;
        uint64_t wake_ns = nearest_deadline_ns(io);
        uint64_t nap_ns = (wake_ns < until ? wake_ns : until) - now_ns;
        if (wake_ns <= now_ns)
            continue;
        int raw[MAX_FDS], n = salvo_io_descriptors(io, raw, MAX_FDS);
        struct pollfd fds[MAX_FDS];
        for (int i = 0; i < n; i++)
            fds[i] = (struct pollfd){.fd = raw[i], .events = POLLIN};
        struct timespec nap = {(time_t)(nap_ns / 1000000000u), (long)(nap_ns % 1000000000u)};
        if (salvo_io_sys->ppoll(fds, (nfds_t)n, &nap, NULL) < 0)
            return salvo_io_step(io); /* a signal: the caller may want to know */
    }
}

/* --- connections --------------------------------------------------------------------------- */

void salvo_io_down(salvo_io_conn *conn, const char *format, ...)
{
    va_list arguments;
    if (conn->phase == SALVO_IO_PHASE_DOWN)
        return;
    va_start(arguments, format);
    vsnprintf(conn->error, sizeof conn->error, format, arguments);
    va_end(arguments);
    if (conn->phase < SALVO_IO_PHASE_UP)
        conn->io->connecting--;
    conn->phase = SALVO_IO_PHASE_DOWN;
    conn->io->events++;
}

void salvo_io_up(salvo_io_conn *conn)
{
    conn->phase = SALVO_IO_PHASE_UP;
    conn->io->connecting--;
    conn->io->events++;
}

static bool fits(const char *text, size_t size)
{
    return text != NULL && text[0] != 0 && strlen(text) < size;
}

static int check_target(const salvo_io_target *target, char *error, size_t error_size)
{
    struct sockaddr_un address;
    const char *wrong = NULL;
    if (target->unix_path != NULL && !fits(target->unix_path, sizeof address.sun_path))
        wrong = "the path of the socket is empty or longer than 107 bytes";
    else if (target->unix_path == NULL && !fits(target->host, 256))
        wrong = "the host's name is empty or longer than 255 bytes";
    else if (target->unix_path == NULL && !fits(target->port, 32))
        wrong = "the port is empty or longer than 31 bytes";
    else if ((target->tls_certfile == NULL) != (target->tls_keyfile == NULL))
        wrong = "of a client's certificate and key, one is missing; set both or none";
    else if (target->tls && target->unix_path != NULL)
        wrong = "TLS on a unix socket has no host to verify; use one or the other";
    if (wrong == NULL)
        return 0;
    snprintf(error, error_size, "cannot connect: %s", wrong);
    return SALVO_ERR_INVALID;
}

static const char *keep(char **at, const char *text)
{
    if (text == NULL)
        return NULL;
    char *kept = memcpy(*at, text, strlen(text) + 1);
    *at += strlen(text) + 1;
    return kept;
}

static int copy_target(salvo_io_conn *conn, const salvo_io_target *from)
{
    const char *const texts[] = {from->host, from->port, from->unix_path, from->tls_cafile,
                                 from->tls_certfile, from->tls_keyfile};
    const char *copies[6];
    size_t bytes = 1;
    for (int i = 0; i < 6; i++)
        bytes += texts[i] != NULL ? strlen(texts[i]) + 1 : 0;
    char *at = conn->texts = salvo_io_sys->alloc(1, bytes);
    if (at == NULL)
        return SALVO_ERR_NOMEM;
    for (int i = 0; i < 6; i++)
        copies[i] = keep(&at, texts[i]);
    conn->target = *from;
    conn->target.host = copies[0];
    conn->target.port = copies[1];
    conn->target.unix_path = copies[2];
    conn->target.tls_cafile = copies[3];
    conn->target.tls_certfile = copies[4];
    conn->target.tls_keyfile = copies[5];
    bool v6 = from->unix_path == NULL && strchr(from->host, ':') != NULL;
    if (from->unix_path != NULL)
        snprintf(conn->where, sizeof conn->where, "%s", from->unix_path);
    else
        snprintf(conn->where, sizeof conn->where, "%s%s%s:%s", v6 ? "[" : "", from->host,
                 v6 ? "]" : "", from->port);
    return 0;
}

static void release(salvo_io_conn *conn)
{
    salvo_io_tls_close(conn);
    salvo_io_out_close(&conn->out);
    salvo_io_in_close(&conn->in);
    free(conn->texts);
    free(conn);
}

static int prepare(salvo_io_conn *conn, const salvo_io_target *target, char *error,
                   size_t error_size)
{
    int err = copy_target(conn, target);
    if (err == 0)
        err = salvo_io_out_open(&conn->out, target->out_bytes);
    if (err == 0)
        err = salvo_io_in_open(&conn->in, target->in_bytes);
    if (err == SALVO_ERR_INVALID)
        snprintf(error, error_size, "cannot connect: out_bytes and in_bytes are 1 to 2^30");
    else if (err != 0)
        snprintf(error, error_size, "no memory for a connection to %s", conn->where);
    else if (target->tls)
        err = salvo_io_tls_open(conn, error, error_size);
    return err;
}

int salvo_io_connect(salvo_io *io, const salvo_io_target *target, salvo_io_conn **out, char *error,
                     size_t error_size)
{
    *out = NULL;
    int err = check_target(target, error, error_size);
    if (err != 0)
        return err;
    salvo_io_conn *conn = salvo_io_sys->alloc(1, sizeof *conn);
    if (conn == NULL) {
        snprintf(error, error_size, "no memory for a connection");
        return SALVO_ERR_NOMEM;
    }
    conn->io = io;
    conn->fd = -1;
    for (int i = 0; i < SALVO_IO_OPS; i++) {
        conn->ops[i].conn = conn;
        conn->ops[i].kind = i;
    }
    err = prepare(conn, target, error, error_size);
    if (err != 0) {
        release(conn);
        return err;
    }
    conn->next = io->conns;
    if (io->conns != NULL)
        io->conns->previous = conn;
    io->conns = conn;
    io->connecting++;
    conn->deadline_ns = io->options.now_ns(io->options.clock) +
                        (uint64_t)target->connect_timeout_ms * 1000000u;
    salvo_io_connect_start(conn);
    *out = conn;
    return 0;
}

salvo_io_state salvo_io_conn_state(const salvo_io_conn *conn)
{
    return conn->phase < SALVO_IO_PHASE_UP    ? SALVO_IO_CONNECTING
           : conn->phase == SALVO_IO_PHASE_UP ? SALVO_IO_UP
                                              : SALVO_IO_DOWN;
}

const char *salvo_io_conn_error(const salvo_io_conn *conn)
{
    return conn->error;
}

void salvo_io_disconnect(salvo_io_conn *conn)
{
    if (conn == NULL)
        return;
    salvo_io *io = conn->io;
    if (conn->tls != NULL && conn->phase == SALVO_IO_PHASE_UP && conn->flying_bytes == 0)
        salvo_io_tls_farewell(conn);
    if (conn->phase < SALVO_IO_PHASE_UP)
        io->connecting--;
    conn->phase = SALVO_IO_PHASE_DOWN;
    salvo_io_leave(conn);
    if (conn->job != NULL)
        salvo_io_resolve_abandon(conn->job);
    if (conn->addresses != NULL)
        freeaddrinfo(conn->addresses);
    if (conn->previous != NULL)
        conn->previous->next = conn->next;
    else
        io->conns = conn->next;
    if (conn->next != NULL)
        conn->next->previous = conn->previous;
    if (!conn->stuck) /* better lost than freed in the kernel's hands */
        release(conn);
}
