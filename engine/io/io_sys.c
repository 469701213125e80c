/* SPDX-License-Identifier: Apache-2.0
 *
 * io_sys.h: the real calls. Guarantees: nothing but the calls themselves.
 */
#include "io_sys.h"
#include "names.h"

#include <fcntl.h>
#include <liburing.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

static int set_blocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    return flags < 0 ? -1 : fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
}

/* These take a transparent union, or an enum in the header of one C library or another. */
static int connect_to(int fd, const struct sockaddr *address, socklen_t size)
{
    return connect(fd, address, size);
}

static int create_eventfd(unsigned initial, int flags)
{
    return eventfd(initial, flags);
}

static int wait_poll(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
                     const sigset_t *mask)
{
    return ppoll(fds, n, timeout, mask);
}

const salvo_io_sys_table salvo_io_system = {
    .socket = socket,
    .connect = connect_to,
    .getsockopt = getsockopt,
    .setsockopt = setsockopt,
    .set_blocking = set_blocking,
    .sendmsg = sendmsg,
    .recv = recv,
    .shutdown = shutdown,
    .close = close,
    .ppoll = wait_poll,
    .epoll_create1 = epoll_create1,
    .epoll_ctl = epoll_ctl,
    .eventfd = create_eventfd,
    .read = read,
    .write = write,
    .memfd_create = memfd_create,
    .ftruncate = ftruncate,
    .mmap = mmap,
    .alloc = calloc,
    .getaddrinfo = salvo_names_look_up,
    .thread = pthread_create,
    .ring_init = io_uring_queue_init_params,
    .ring_submit = io_uring_submit,
    .ring_submit_and_wait = io_uring_submit_and_wait,
};
const salvo_io_sys_table *salvo_io_sys = &salvo_io_system;
