/* SPDX-License-Identifier: Apache-2.0
 *
 * names.h: look-ups share a lock that a fork takes for itself. It belongs to the process, as the
 * locks in glibc do that it stands for.
 */
#include "names.h"

#include <pthread.h>
#include <stdbool.h>
#include <time.h>

#define UNLOCKED PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP

static pthread_rwlock_t forking = UNLOCKED;
static _Thread_local bool holding; /* by the thread that forks */

int salvo_names_look_up(const char *host, const char *port, const struct addrinfo *hints,
                        struct addrinfo **addresses)
{
    pthread_rwlock_rdlock(&forking);
    int error = getaddrinfo(host, port, hints, addresses);
    pthread_rwlock_unlock(&forking);
    return error;
}

static void before_fork(void)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += SALVO_NAMES_FORK_MS * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    holding = pthread_rwlock_timedwrlock(&forking, &until) == 0;
}

static void after_fork_in_parent(void)
{
    if (holding)
        pthread_rwlock_unlock(&forking);
    holding = false;
}

/* Those who shared the lock are not here. */
static void after_fork_in_child(void)
{
    forking = (pthread_rwlock_t)UNLOCKED;
    holding = false;
}

/* When the library is loaded: at the first look-up a fork might be under way. */
__attribute__((constructor)) static void watch_forks(void)
{
    pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}
