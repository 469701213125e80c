/* SPDX-License-Identifier: Apache-2.0
 *
 * Names, on a helper thread each, because getaddrinfo() blocks for as long as it likes.
 *
 * Guarantees: nobody but salvo_io_resolve_sweep(wait) waits for one; a look-up that nobody wants
 * any more goes on, and the next connection to the same name adopts it, so that a silent name
 * server never costs more than one thread a name. The thread touches its job, and of the handle
 * only its wake-up; both outlive it, as every job is joined before the handle ends.
 */
#include "io_internal.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

struct salvo_io_job {
    salvo_io_job *next;
    salvo_io *io;
    pthread_t thread;
    bool abandoned;
    atomic_bool done; /* release by the thread after the result; acquire in salvo_io_resolved */
    int error;
    struct addrinfo *addresses;
    char host[256], port[32];
};

static const struct addrinfo stream_hints = {.ai_family = AF_UNSPEC,
                                             .ai_socktype = SOCK_STREAM};

int salvo_io_resolve_numeric(const char *host, const char *port, struct addrinfo **addresses)
{
    struct addrinfo hints = stream_hints;
    hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
    return salvo_io_sys->getaddrinfo(host, port, &hints, addresses);
}

static void *run(void *context)
{
    salvo_io_job *job = context;
    prctl(PR_SET_NAME, "salvo-resolve");
    job->error = salvo_io_sys->getaddrinfo(job->host, job->port, &stream_hints, &job->addresses);
    atomic_store_explicit(&job->done, true, memory_order_release);
    salvo_io_wake(job->io);
    if (job->io->options.wake != NULL)
        job->io->options.wake(job->io->options.flusher);
    return NULL;
}

static bool start(salvo_io_job *job)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are the application's */
    int err = salvo_io_sys->thread(&job->thread, NULL, run, job);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return err == 0;
}

salvo_io_job *salvo_io_resolve(salvo_io *io, const char *host, const char *port)
{
    for (salvo_io_job *job = io->jobs; job != NULL; job = job->next)
        if (job->abandoned && strcmp(job->host, host) == 0 && strcmp(job->port, port) == 0) {
            job->abandoned = false;
            return job;
        }
    salvo_io_job *job = salvo_io_sys->alloc(1, sizeof *job);
    if (job == NULL)
        return NULL;
    job->io = io;
    strncpy(job->host, host, sizeof job->host - 1); /* salvo_io_connect() checked the lengths */
    strncpy(job->port, port, sizeof job->port - 1);
    if (!start(job)) {
        free(job);
        return NULL;
    }
    job->next = io->jobs;
    io->jobs = job;
    return job;
}

/* Joins: at once where the job is done. */
static void end(salvo_io_job *job)
{
    salvo_io_job **link = &job->io->jobs;
    while (*link != job)
        link = &(*link)->next;
    *link = job->next;
    pthread_join(job->thread, NULL);
    if (job->addresses != NULL)
        freeaddrinfo(job->addresses);
    free(job);
}

int salvo_io_resolved(salvo_io_job *job, struct addrinfo **addresses)
{
    if (!atomic_load_explicit(&job->done, memory_order_acquire)) /* pairs with run() */
        return 1;
    int error = job->error; /* getaddrinfo's are negative */
    *addresses = job->addresses;
    job->addresses = NULL;
    end(job);
    return error;
}

void salvo_io_resolve_abandon(salvo_io_job *job)
{
    job->abandoned = true;
}

void salvo_io_resolve_sweep(salvo_io *io, bool wait)
{
    for (salvo_io_job *job = io->jobs, *next; job != NULL; job = next) {
        next = job->next;
        /* acquire pairs with run() */
        if (wait || (job->abandoned && atomic_load_explicit(&job->done, memory_order_acquire)))
            end(job);
    }
}
