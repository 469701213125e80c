/* SPDX-License-Identifier: Apache-2.0
 *
 * Every system call, mapping and thread of the sockets module goes through this table, so that a
 * test can make each of them fail. A program never changes it. A test does it thus, before it
 * opens a handle and with no handle open on another thread:
 *
 *     salvo_io_sys_table mine = salvo_io_system;
 *     mine.sendmsg = my_sendmsg;      (which sets errno and returns -1, or calls the real one)
 *     salvo_io_sys = &mine;           ... the test ...           salvo_io_sys = &salvo_io_system;
 *
 * Calls keep the signatures and conventions of the C library (-1 and errno; ring_*: -errno as in
 * liburing; getaddrinfo and thread: the error itself; alloc and mmap: NULL and MAP_FAILED).
 */
#ifndef SALVO_IO_SYS_H
#define SALVO_IO_SYS_H

#include <poll.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>

struct addrinfo;
struct epoll_event;
struct io_uring;
struct io_uring_params;

typedef struct salvo_io_sys_table {
    int (*socket)(int domain, int type, int protocol);
    int (*connect)(int fd, const struct sockaddr *address, socklen_t size);
    int (*getsockopt)(int fd, int level, int name, void *value, socklen_t *size);
    int (*setsockopt)(int fd, int level, int name, const void *value, socklen_t size);
    int (*set_blocking)(int fd);
    ssize_t (*sendmsg)(int fd, const struct msghdr *message, int flags);
    ssize_t (*recv)(int fd, void *bytes, size_t n, int flags);
    int (*shutdown)(int fd, int how);
    int (*close)(int fd);
    int (*ppoll)(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
                 const sigset_t *mask);
    int (*epoll_create1)(int flags);
    int (*epoll_ctl)(int fd, int operation, int of, struct epoll_event *event);
    int (*eventfd)(unsigned initial, int flags);
    ssize_t (*read)(int fd, void *bytes, size_t n);
    ssize_t (*write)(int fd, const void *bytes, size_t n);
    int (*memfd_create)(const char *name, unsigned flags);
    int (*ftruncate)(int fd, off_t size);
    void *(*mmap)(void *at, size_t n, int protection, int flags, int fd, off_t offset);
    void *(*alloc)(size_t count, size_t size); /* zeroed */
    int (*getaddrinfo)(const char *host, const char *port, const struct addrinfo *hints,
                       struct addrinfo **addresses);
    int (*thread)(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                  void *context);
    int (*ring_init)(unsigned entries, struct io_uring *ring, struct io_uring_params *params);
    int (*ring_submit)(struct io_uring *ring);
    int (*ring_submit_and_wait)(struct io_uring *ring, unsigned n);
} salvo_io_sys_table;

extern const salvo_io_sys_table salvo_io_system;
extern const salvo_io_sys_table *salvo_io_sys;

#endif
