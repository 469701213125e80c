/* SPDX-License-Identifier: Apache-2.0
 *
 * One descriptor for whoever waits for messages: the sockets of one or two salvo_io's, a wake-up
 * from elsewhere, and a mark that there is more to fetch at once. Guarantees: it is readable while
 * any of the three holds and the owner has looked at its sockets last by salvo_io_set_leave();
 * salvo_io_set_wake() may be called by any thread and by a signal handler; a wake-up that comes
 * between two waits ends the next one.
 */
#ifndef SALVO_IO_SET_H
#define SALVO_IO_SET_H

#include "io.h"

enum { SALVO_IO_SET_MOST = 2 };

typedef struct salvo_io_set {
    salvo_io *ios[SALVO_IO_SET_MOST];
    int count;
    int all, wake, more; /* epoll; eventfds */
    bool has_more;
} salvo_io_set;

/* 0 or SALVO_ERR_LIMIT (descriptors) with *error. Close it in any case, before its ios. */
int salvo_io_set_open(salvo_io_set *set, salvo_io *const *ios, int count, char *error,
                      size_t error_size);
void salvo_io_set_close(salvo_io_set *set);

int salvo_io_set_descriptor(const salvo_io_set *set);
void salvo_io_set_wake(const salvo_io_set *set);

/* Block until there is something, or timeout_ms passed. True: it was woken. */
bool salvo_io_set_wait(salvo_io_set *set, uint64_t timeout_ms);

/* Before others sleep on the descriptor; more: it shall be readable at once. */
void salvo_io_set_leave(salvo_io_set *set, bool more);

#endif
