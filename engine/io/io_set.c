/* SPDX-License-Identifier: Apache-2.0
 *
 * An epoll set around the backends' own descriptors; see io_set.h. Those stay the same for the
 * life of a salvo_io, whatever its connections do.
 */
#include "io_set.h"

#include <poll.h>
#include <salvo/err.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { RAW_MOST = 2, MOST_MS = 60000 };

static bool add(const salvo_io_set *set, int fd)
{
    struct epoll_event event = {.events = EPOLLIN};
    return fd >= 0 && epoll_ctl(set->all, EPOLL_CTL_ADD, fd, &event) == 0;
}

int salvo_io_set_open(salvo_io_set *set, salvo_io *const *ios, int count, char *error,
                      size_t error_size)
{
    *set = (salvo_io_set){.count = count, .all = epoll_create1(EPOLL_CLOEXEC),
                          .wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
                          .more = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    bool ok = set->all >= 0 && add(set, set->wake) && add(set, set->more);
    for (int i = 0; i < count; i++) {
        int raw[RAW_MOST], n = salvo_io_descriptors(ios[i], raw, RAW_MOST);
        set->ios[i] = ios[i];
        for (int j = 0; j < n; j++)
            ok = ok && add(set, raw[j]);
    }
    if (ok)
        return 0;
    snprintf(error, error_size, "no descriptor to wait on: raise the limit of open files "
             "(ulimit -n)");
    return SALVO_ERR_LIMIT;
}

void salvo_io_set_close(salvo_io_set *set)
{
    const int fds[] = {set->all, set->wake, set->more};
    for (int i = 0; i < 3; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    set->all = set->wake = set->more = -1;
}

int salvo_io_set_descriptor(const salvo_io_set *set)
{
    return set->all;
}

void salvo_io_set_wake(const salvo_io_set *set)
{
    const uint64_t one = 1;
    ssize_t written = write(set->wake, &one, sizeof one); /* full: it is awake already */
    (void)written;
}

static bool take(int fd)
{
    uint64_t n;
    return read(fd, &n, sizeof n) == (ssize_t)sizeof n;
}

static void arm(const salvo_io_set *set)
{
    int raw[RAW_MOST];
    for (int i = 0; i < set->count; i++)
        (void)salvo_io_descriptors(set->ios[i], raw, RAW_MOST);
}

static void mark(salvo_io_set *set, bool more)
{
    const uint64_t one = 1;
    if (more == set->has_more)
        return;
    if (!more)
        set->has_more = !take(set->more);
    else
        set->has_more = write(set->more, &one, sizeof one) == (ssize_t)sizeof one;
}

bool salvo_io_set_wait(salvo_io_set *set, uint64_t timeout_ms)
{
    struct pollfd fd = {.fd = set->all, .events = POLLIN};
    mark(set, false);
    arm(set);
    (void)poll(&fd, 1, timeout_ms < MOST_MS ? (int)timeout_ms : MOST_MS);
    return take(set->wake);
}

void salvo_io_set_leave(salvo_io_set *set, bool more)
{
    (void)take(set->wake);
    mark(set, more);
    arm(set);
}
