/* SPDX-License-Identifier: Apache-2.0
 *
 * The system call that fails once; see once.h. Each entry of the sockets' table is led through
 * here, and fails as the kernel would.
 */
#include "once.h"

#include "io_sys.h"

#include <errno.h>
#include <liburing.h>
#include <netdb.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/mman.h>

enum {
    C_SOCKET, C_CONNECT, C_GETSOCKOPT, C_SETSOCKOPT, C_SET_BLOCKING, C_SENDMSG, C_RECV,
    C_SHUTDOWN, C_PPOLL, C_EPOLL_CREATE, C_EPOLL_CTL, C_EVENTFD, C_READ, C_WRITE, C_MEMFD,
    C_FTRUNCATE, C_MMAP, C_ALLOC, C_GETADDRINFO, C_THREAD, C_RING_INIT, C_RING_SUBMIT,
    C_RING_WAIT, CALLS
};

static const struct {
    const char *name;
    int error;
} calls[CALLS] = {
    [C_SOCKET] = {"socket", EMFILE},
    [C_CONNECT] = {"connect", ECONNREFUSED},
    [C_GETSOCKOPT] = {"getsockopt", ENOBUFS},
    [C_SETSOCKOPT] = {"setsockopt", ENOBUFS},
    [C_SET_BLOCKING] = {"set_blocking", EBADF},
    [C_SENDMSG] = {"sendmsg", ECONNRESET},
    [C_RECV] = {"recv", ECONNRESET},
    [C_SHUTDOWN] = {"shutdown", ENOTCONN},
    [C_PPOLL] = {"ppoll", ENOMEM},
    [C_EPOLL_CREATE] = {"epoll_create1", EMFILE},
    [C_EPOLL_CTL] = {"epoll_ctl", ENOSPC},
    [C_EVENTFD] = {"eventfd", ENFILE},
    [C_READ] = {"read", EIO},
    [C_WRITE] = {"write", EIO},
    [C_MEMFD] = {"memfd_create", EMFILE},
    [C_FTRUNCATE] = {"ftruncate", ENOSPC},
    [C_MMAP] = {"mmap", ENOMEM},
    [C_ALLOC] = {"alloc", ENOMEM},
    [C_GETADDRINFO] = {"getaddrinfo", EAI_AGAIN},
    [C_THREAD] = {"thread", EAGAIN},
    [C_RING_INIT] = {"ring_init", ENOMEM},
    [C_RING_SUBMIT] = {"ring_submit", EAGAIN},
    [C_RING_WAIT] = {"ring_submit_and_wait", EAGAIN},
};
const int fault_call_count = CALLS;

static struct {
    int call;
    uint64_t at;
    _Atomic uint64_t seen;
} plan = {.call = -1};

static bool fails(int call)
{
    if (call != plan.call || atomic_fetch_add(&plan.seen, 1) + 1 != plan.at)
        return false;
    errno = calls[call].error;
    return true;
}

static const salvo_io_sys_table *const real = &salvo_io_system;

static int f_socket(int domain, int type, int protocol)
{
    return fails(C_SOCKET) ? -1 : real->socket(domain, type, protocol);
}

static int f_connect(int fd, const struct sockaddr *a, socklen_t n)
{
    return fails(C_CONNECT) ? -1 : real->connect(fd, a, n);
}

static int f_getsockopt(int fd, int level, int name, void *value, socklen_t *n)
{
    return fails(C_GETSOCKOPT) ? -1 : real->getsockopt(fd, level, name, value, n);
}

static int f_setsockopt(int fd, int level, int name, const void *value, socklen_t n)
{
    return fails(C_SETSOCKOPT) ? -1 : real->setsockopt(fd, level, name, value, n);
}

static int f_set_blocking(int fd) { return fails(C_SET_BLOCKING) ? -1 : real->set_blocking(fd); }

static ssize_t f_sendmsg(int fd, const struct msghdr *m, int flags)
{
    return fails(C_SENDMSG) ? -1 : real->sendmsg(fd, m, flags);
}

static ssize_t f_recv(int fd, void *bytes, size_t n, int flags)
{
    return fails(C_RECV) ? -1 : real->recv(fd, bytes, n, flags);
}

static int f_shutdown(int fd, int how)
{
    return fails(C_SHUTDOWN) ? -1 : real->shutdown(fd, how);
}

static int f_ppoll(struct pollfd *fds, nfds_t n, const struct timespec *t, const sigset_t *mask)
{
    return fails(C_PPOLL) ? -1 : real->ppoll(fds, n, t, mask);
}

static int f_epoll_create1(int flags)
{
    return fails(C_EPOLL_CREATE) ? -1 : real->epoll_create1(flags);
}

static int f_epoll_ctl(int fd, int operation, int of, struct epoll_event *event)
{
    return fails(C_EPOLL_CTL) ? -1 : real->epoll_ctl(fd, operation, of, event);
}

static int f_eventfd(unsigned initial, int flags)
{
    return fails(C_EVENTFD) ? -1 : real->eventfd(initial, flags);
}

static ssize_t f_read(int fd, void *bytes, size_t n)
{
    return fails(C_READ) ? -1 : real->read(fd, bytes, n);
}

static ssize_t f_write(int fd, const void *bytes, size_t n)
{
    return fails(C_WRITE) ? -1 : real->write(fd, bytes, n);
}

static int f_memfd_create(const char *name, unsigned flags)
{
    return fails(C_MEMFD) ? -1 : real->memfd_create(name, flags);
}

static int f_ftruncate(int fd, off_t size)
{
    return fails(C_FTRUNCATE) ? -1 : real->ftruncate(fd, size);
}

static void *f_mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset)
{
    return fails(C_MMAP) ? MAP_FAILED : real->mmap(at, n, protection, flags, fd, offset);
}

static void *f_alloc(size_t count, size_t size)
{
    return fails(C_ALLOC) ? NULL : real->alloc(count, size);
}

static int f_getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
                         struct addrinfo **out)
{
    return fails(C_GETADDRINFO) ? EAI_AGAIN : real->getaddrinfo(host, port, hints, out);
}

static int f_thread(pthread_t *t, const pthread_attr_t *a, void *(*run)(void *), void *context)
{
    return fails(C_THREAD) ? EAGAIN : real->thread(t, a, run, context);
}

static int f_ring_init(unsigned entries, struct io_uring *ring, struct io_uring_params *params)
{
    return fails(C_RING_INIT) ? -ENOMEM : real->ring_init(entries, ring, params);
}

static int f_ring_submit(struct io_uring *ring)
{
    return fails(C_RING_SUBMIT) ? -EAGAIN : real->ring_submit(ring);
}

static int f_ring_wait(struct io_uring *ring, unsigned n)
{
    return fails(C_RING_WAIT) ? -EAGAIN : real->ring_submit_and_wait(ring, n);
}

static salvo_io_sys_table failing;

static void fill(salvo_io_sys_table *t)
{
    *t = *real; /* close() never fails in a way that anybody could mend */
    t->socket = f_socket;
    t->connect = f_connect;
    t->getsockopt = f_getsockopt;
    t->setsockopt = f_setsockopt;
    t->set_blocking = f_set_blocking;
    t->sendmsg = f_sendmsg;
    t->recv = f_recv;
    t->shutdown = f_shutdown;
    t->ppoll = f_ppoll;
    t->epoll_create1 = f_epoll_create1;
    t->epoll_ctl = f_epoll_ctl;
    t->eventfd = f_eventfd;
    t->read = f_read;
    t->write = f_write;
    t->memfd_create = f_memfd_create;
    t->ftruncate = f_ftruncate;
    t->mmap = f_mmap;
    t->alloc = f_alloc;
    t->getaddrinfo = f_getaddrinfo;
    t->thread = f_thread;
    t->ring_init = f_ring_init;
    t->ring_submit = f_ring_submit;
    t->ring_submit_and_wait = f_ring_wait;
}

const char *fault_call_name(int call) { return calls[call].name; }

void fault_call_arm(int call, uint64_t n)
{
    fill(&failing);
    plan.call = call;
    plan.at = n;
    atomic_store(&plan.seen, 0);
    salvo_io_sys = &failing;
}

uint64_t fault_call_disarm(void)
{
    salvo_io_sys = &salvo_io_system;
    plan.call = -1;
    return atomic_load(&plan.seen);
}
