/* SPDX-License-Identifier: Apache-2.0
 *
 * engine/io when the system fails it: each call of salvo_io_sys, each time that a conversation
 * makes it, fails once, with several errors; and each fails from some time on for good. Whatever
 * fails, the conversation ends in time: completed, or with an error in words; nothing leaks
 * (descriptors are counted here, memory by the sanitizers' build); what arrived is the pattern.
 */
#include "io_fixture.h"

#include <dirent.h>
#include <fcntl.h>
#include <liburing.h>
#include <netdb.h>
#include <salvo/err.h>
#include <sys/epoll.h>
#include <sys/mman.h>

typedef enum call {
    C_SOCKET, C_CONNECT, C_GETSOCKOPT, C_SETSOCKOPT, C_SET_BLOCKING, C_SENDMSG, C_RECV,
    C_SHUTDOWN, C_PPOLL, C_EPOLL_CREATE, C_EPOLL_CTL, C_EVENTFD, C_READ, C_WRITE, C_MEMFD,
    C_FTRUNCATE, C_MMAP, C_ALLOC, C_GETADDRINFO, C_THREAD, C_RING_INIT, C_RING_SUBMIT,
    C_RING_WAIT, CALLS
} call;
static const char *const call_names[CALLS] = {
    "socket", "connect", "getsockopt", "setsockopt", "set_blocking", "sendmsg", "recv",
    "shutdown", "ppoll", "epoll_create1", "epoll_ctl", "eventfd", "read", "write",
    "memfd_create", "ftruncate", "mmap", "alloc", "getaddrinfo", "thread", "ring_init",
    "ring_submit", "ring_submit_and_wait"};

/* Call `which` fails with `error` at its `at`-th time, and after it too where `stays`. */
static struct {
    call which;
    int at, error;
    bool stays;
    atomic_int seen;
} plan;

static bool fails(call c)
{
    if (c != plan.which)
        return false;
    int seen = atomic_fetch_add(&plan.seen, 1) + 1;
    if (plan.stays ? seen < plan.at : seen != plan.at)
        return false;
    errno = plan.error;
    return true;
}

static const salvo_io_sys_table *real(void)
{
    return &salvo_io_system;
}

static int f_socket(int a, int b, int c)
{
    return fails(C_SOCKET) ? -1 : real()->socket(a, b, c);
}
static int f_connect(int fd, const struct sockaddr *a, socklen_t n)
{
    return fails(C_CONNECT) ? -1 : real()->connect(fd, a, n);
}
static int f_getsockopt(int fd, int l, int o, void *v, socklen_t *n)
{
    return fails(C_GETSOCKOPT) ? -1 : real()->getsockopt(fd, l, o, v, n);
}
static int f_setsockopt(int fd, int l, int o, const void *v, socklen_t n)
{
    return fails(C_SETSOCKOPT) ? -1 : real()->setsockopt(fd, l, o, v, n);
}
static int f_set_blocking(int fd)
{
    return fails(C_SET_BLOCKING) ? -1 : real()->set_blocking(fd);
}
static ssize_t f_sendmsg(int fd, const struct msghdr *m, int flags)
{
    return fails(C_SENDMSG) ? -1 : real()->sendmsg(fd, m, flags);
}
static ssize_t f_recv(int fd, void *bytes, size_t n, int flags)
{
    return fails(C_RECV) ? -1 : real()->recv(fd, bytes, n, flags);
}
static int f_shutdown(int fd, int how)
{
    return fails(C_SHUTDOWN) ? -1 : real()->shutdown(fd, how);
}
static int f_ppoll(struct pollfd *fds, nfds_t n, const struct timespec *t, const sigset_t *mask)
{
    return fails(C_PPOLL) ? -1 : real()->ppoll(fds, n, t, mask);
}
static int f_epoll_create1(int flags)
{
    return fails(C_EPOLL_CREATE) ? -1 : real()->epoll_create1(flags);
}
static int f_epoll_ctl(int fd, int operation, int of, struct epoll_event *event)
{
    return fails(C_EPOLL_CTL) ? -1 : real()->epoll_ctl(fd, operation, of, event);
}
static int f_eventfd(unsigned initial, int flags)
{
    return fails(C_EVENTFD) ? -1 : real()->eventfd(initial, flags);
}
static ssize_t f_read(int fd, void *bytes, size_t n)
{
    return fails(C_READ) ? -1 : real()->read(fd, bytes, n);
}
static ssize_t f_write(int fd, const void *bytes, size_t n)
{
    return fails(C_WRITE) ? -1 : real()->write(fd, bytes, n);
}
static int f_memfd_create(const char *name, unsigned flags)
{
    return fails(C_MEMFD) ? -1 : real()->memfd_create(name, flags);
}
static int f_ftruncate(int fd, off_t size)
{
    return fails(C_FTRUNCATE) ? -1 : real()->ftruncate(fd, size);
}
static void *f_mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset)
{
    return fails(C_MMAP) ? MAP_FAILED : real()->mmap(at, n, protection, flags, fd, offset);
}
static void *f_alloc(size_t count, size_t size)
{
    return fails(C_ALLOC) ? NULL : real()->alloc(count, size);
}
static int f_getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
                         struct addrinfo **found)
{
    return fails(C_GETADDRINFO) ? EAI_AGAIN : real()->getaddrinfo(host, port, hints, found);
}
static int f_thread(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                    void *context)
{
    return fails(C_THREAD) ? plan.error : real()->thread(thread, attributes, run, context);
}
static int f_ring_init(unsigned entries, struct io_uring *ring, struct io_uring_params *params)
{
    return fails(C_RING_INIT) ? -plan.error : real()->ring_init(entries, ring, params);
}
static int f_ring_submit(struct io_uring *ring)
{
    return fails(C_RING_SUBMIT) ? -plan.error : real()->ring_submit(ring);
}
static int f_ring_wait(struct io_uring *ring, unsigned n)
{
    return fails(C_RING_WAIT) ? -plan.error : real()->ring_submit_and_wait(ring, n);
}

static const salvo_io_sys_table failing = {
    .socket = f_socket, .connect = f_connect, .getsockopt = f_getsockopt,
    .setsockopt = f_setsockopt, .set_blocking = f_set_blocking, .sendmsg = f_sendmsg,
    .recv = f_recv, .shutdown = f_shutdown, .close = close, .ppoll = f_ppoll,
    .epoll_create1 = f_epoll_create1, .epoll_ctl = f_epoll_ctl, .eventfd = f_eventfd,
    .read = f_read, .write = f_write, .memfd_create = f_memfd_create,
    .ftruncate = f_ftruncate, .mmap = f_mmap, .alloc = f_alloc, .getaddrinfo = f_getaddrinfo,
    .thread = f_thread, .ring_init = f_ring_init, .ring_submit = f_ring_submit,
    .ring_submit_and_wait = f_ring_wait,
};

static int count_descriptors(void)
{
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    assert_non_null(d);
    while (readdir(d) != NULL)
        n++;
    closedir(d);
    return n;
}

/* --- the conversation ---------------------------------------------------------------------- */

enum { TOTAL = 150000, TIMEOUT_MS = 2000 };
static certs files;
static uint8_t whole[TOTAL];
static int completed, down, refused;

static bool talk(salvo_io *io, salvo_io_conn *conn)
{
    uint64_t put = 0, got = 0, until = io_now(NULL) + UINT64_C(10000000000);
    while (got < TOTAL && salvo_io_conn_state(conn) != SALVO_IO_DOWN) {
        const void *bytes;
        size_t n = TOTAL - put < 7000 ? (size_t)(TOTAL - put) : 7000;
        while (n > 0 && salvo_io_put_stable(conn, whole + put, n)) {
            put += n;
            n = TOTAL - put < 7000 ? (size_t)(TOTAL - put) : 7000;
        }
        salvo_io_wait(io, 50);
        n = salvo_io_input(conn, &bytes);
        assert_memory_equal(bytes, whole + got, n);
        salvo_io_consume(conn, n);
        got += n;
        if (io_now(NULL) > until)
            fail_msg("%s fails at %d%s with %s: the conversation hangs at %llu of %llu",
                     call_names[plan.which], plan.at, plan.stays ? " and on" : "",
                     strerror(plan.error), (unsigned long long)got, (unsigned long long)put);
    }
    assert_true(salvo_io_bytes_sent(conn) >= got);
    if (salvo_io_conn_state(conn) != SALVO_IO_DOWN)
        assert_string_equal(salvo_io_conn_error(conn), "");
    return got == TOTAL;
}

static void converse(const char *backend, const char *host, bool tls)
{
    char error[512] = "";
    salvo_io *io = NULL;
    salvo_io_conn *conn = NULL;
    salvo_io_options options = {.backend = backend, .now_ns = io_now};
    peer p = {.deed = PEER_ECHO, .certificate = tls ? &files.good : NULL, .small = 8192};
    peer_start(&p);
    salvo_io_target target = io_target(&p);
    target.host = host;
    target.tls_cafile = files.ca;
    target.connect_timeout_ms = TIMEOUT_MS;
    target.out_bytes = target.in_bytes = 16384;
    salvo_io_sys = &failing;
    int err = salvo_io_open(&options, &io, error, sizeof error);
    if (err == 0)
        err = salvo_io_connect(io, &target, &conn, error, sizeof error);
    if (err != 0) {
        refused++;
        assert_string_not_equal(error, "");
    } else if (talk(io, conn)) {
        completed++;
    } else {
        down++;
        assert_string_not_equal(salvo_io_conn_error(conn), "");
    }
    if (io != NULL && atomic_load(&plan.seen) % 2 == 0)
        salvo_io_disconnect(conn); /* else closing does it */
    salvo_io_close(io);
    salvo_io_sys = &salvo_io_system;
    peer_end(&p);
}

static void each_time(const char *backend, call which, int error, bool stays)
{
    enum { MOST_TIMES = 24 };
    static const struct {
        const char *host;
        bool tls;
    } ways[] = {{"127.0.0.1", false}, {"localhost", true}};
    for (size_t way = 0; way < 2; way++)
        for (int at = 1; at <= MOST_TIMES; at += at < 6 ? 1 : stays ? 18 : 6) {
            plan.which = which;
            plan.at = at;
            plan.error = error;
            plan.stays = stays;
            atomic_store(&plan.seen, 0);
            converse(backend, ways[way].host, ways[way].tls);
            if (atomic_load(&plan.seen) < at)
                break; /* the conversation does not call it so often */
        }
}

static void every_call(const char *backend, bool stays)
{
    for (int which = 0; which < CALLS; which++) {
        /* `read` and `write` on our eventfd, and waiting, do not fail for good. */
        if (stays && (which == C_READ || which == C_WRITE || which == C_PPOLL))
            continue;
        int before = count_descriptors();
        completed = down = refused = 0;
        each_time(backend, (call)which, stays ? EPERM : ENOMEM, stays);
        if (!stays) {
            each_time(backend, (call)which, EINTR, false);
            each_time(backend, (call)which, EINVAL, false);
        }
        printf("  %s, %s%s: completed %d, down %d, refused %d\n", backend, call_names[which],
               stays ? " for good" : "", completed, down, refused);
        assert_int_equal(count_descriptors(), before);
    }
}

static void each_call_fails_once(void **state)
{
    const io_fixture *f = *state;
    every_call(f->backend, false);
}

static void each_call_fails_for_good(void **state)
{
    const io_fixture *f = *state;
    every_call(f->backend, true);
}

/* An error that usually passes is waited out, but not for ever. */
static void a_shortage_that_stays_is_down(void **state)
{
    const io_fixture *f = *state;
    plan.which = C_RING_SUBMIT;
    plan.at = 3;
    plan.error = ENOMEM;
    plan.stays = true;
    atomic_store(&plan.seen, 0);
    completed = down = 0;
    converse(f->backend, "127.0.0.1", false);
    assert_int_equal(strcmp(f->backend, "poll") == 0 ? completed : down, 1);
}

/* A ring that refused its work serves the next connection. */
static void a_ring_gets_a_new_chance(void **state)
{
    const io_fixture *f = *state;
    uint8_t byte = pattern(0);
    const void *bytes;
    peer first = {.deed = PEER_ECHO}, second = {.deed = PEER_ECHO};
    peer_start(&first);
    peer_start(&second);
    salvo_io_target target = io_target(&first), next = io_target(&second);
    plan.which = C_RING_SUBMIT;
    plan.at = 1;
    plan.error = EINVAL;
    plan.stays = false;
    atomic_store(&plan.seen, 1); /* not yet */
    salvo_io_sys = &failing;
    salvo_io_conn *conn = io_up(f->io, &target);
    if (strcmp(f->backend, "poll") != 0) {
        assert_true(salvo_io_put(conn, &byte, 1));
        atomic_store(&plan.seen, 0);
        io_expect_down(f->io, conn, "io_uring does not take work any more");
    }
    salvo_io_disconnect(conn);
    conn = io_up(f->io, &next);
    assert_true(salvo_io_put(conn, &byte, 1));
    while (salvo_io_input(conn, &bytes) == 0)
        salvo_io_wait(f->io, 1000);
    salvo_io_disconnect(conn);
    peer_end(&first);
    peer_end(&second);
}

/* auto falls back where the kernel forbids io_uring; asked for by name it is an error. */
static void a_forbidden_ring_means_poll(void **state)
{
    char error[256] = "";
    salvo_io *io;
    salvo_io_options options = {.backend = "auto", .now_ns = io_now};
    (void)state;
    plan.which = C_RING_INIT;
    plan.at = 1;
    plan.error = EPERM;
    plan.stays = true;
    salvo_io_sys = &failing;
    assert_int_equal(salvo_io_open(&options, &io, error, sizeof error), 0);
    assert_string_equal(salvo_io_backend(io), "poll");
    salvo_io_close(io);
    options.backend = "io_uring";
    assert_int_equal(salvo_io_open(&options, &io, error, sizeof error), SALVO_ERR_UNSUPPORTED);
    assert_non_null(strstr(error, "io_backend=poll"));
    assert_null(io);
}

#define CASE(name) {#name, name}

int main(void)
{
    static const io_case cases[] = {CASE(each_call_fails_once), CASE(each_call_fails_for_good),
                                    CASE(a_shortage_that_stays_is_down),
                                    CASE(a_ring_gets_a_new_chance),
                                    CASE(a_forbidden_ring_means_poll)};
    for (size_t i = 0; i < TOTAL; i++)
        whole[i] = pattern(i);
    certs_make(&files);
    int failed = io_run_cases("io_fault", cases, sizeof cases / sizeof cases[0]);
    certs_end(&files);
    return failed;
}
