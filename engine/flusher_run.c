/* SPDX-License-Identifier: Apache-2.0
 *
 * A flusher's thread: rounds, and what it does between them.
 *
 *   busy      never sleeps: lowest latency, one core
 *   adaptive  sleeps until the next round is due; rounds come more often while rings fill
 *   park      sleeps park_max each time: least CPU
 *
 * Sleeping is ppoll on the flusher's eventfd and the driver's descriptors. Nobody wakes it for a
 * message unless wake=idle. A kick is never lost: the kicker sets `kicked` and then looks at
 * `parked`, the flusher sets `parked` and then looks at `kicked`, both sequentially consistent.
 */
#include "flusher.h"

#include "error.h"

#include <linux/membarrier.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { MAX_FDS = 8, TIMER_SLACK_NS = 5000, WORTH_SLEEPING_NS = 5000 };

static void write_event(salvo_flusher *f)
{
    uint64_t one = 1;
    ssize_t ignored = write(f->event_fd, &one, sizeof one); /* full: it is readable anyway */
    (void)ignored;
}

void salvo_flusher_kick(salvo_flusher *f)
{
    atomic_store(&f->kicked, 1);
    if (atomic_load(&f->parked) != 0)
        write_event(f);
}

static void clear_event(salvo_flusher *f)
{
    uint64_t count;
    ssize_t ignored = read(f->event_fd, &count, sizeof count);
    (void)ignored;
}

static void sleep_until(salvo_flusher *f, uint64_t nap_ns)
{
    struct pollfd fds[MAX_FDS];
    int raw[MAX_FDS];
    struct timespec timeout = {(time_t)(nap_ns / 1000000000u), (long)(nap_ns % 1000000000u)};
    int n = f->handle_dead ? 0
                           : f->producer->driver->descriptors(f->handle, raw, MAX_FDS - 1);
    fds[0] = (struct pollfd){f->event_fd, POLLIN, 0};
    for (int i = 0; i < n; i++)
        fds[i + 1] = (struct pollfd){raw[i], POLLIN, 0};
    if (ppoll(fds, (nfds_t)n + 1, &timeout, NULL) > 0 && fds[0].revents != 0)
        clear_event(f);
}

/* After a long idle time; or where nothing lingers and messages come one by one, so that being
 * woken for each costs no more rounds than looking every millisecond, and saves them the wait. */
bool salvo_flusher_offers(const salvo_flusher *f)
{
    return f->producer->settings.wake_idle && !f->short_of_memory &&
           (f->thin || f->drain_every_ns >= f->producer->settings.park_max_ns / 4);
}

/* wake=idle: from here on the first sender wakes us. The barrier on all our threads makes the
 * flag's store visible to senders before we look at the rings once more, so senders need none. */
static bool offer_idle(salvo_flusher *f)
{
    if (!salvo_flusher_offers(f) || f->left_backlog)
        return true;
    atomic_store(&f->idle, 1);
    syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
    if (salvo_drain_backlog(&f->drain) == 0)
        return true;
    f->next_drain_ns = 0; /* somebody sent meanwhile: look at once */
    return false;
}

void salvo_flusher_idle(salvo_flusher *f, int work)
{
    if (work != 0 || f->producer->settings.idle == SALVO_IDLE_BUSY)
        return;
    salvo_flusher_read_clock(f);
    if (f->wake_at_ns <= f->now_ns + WORTH_SLEEPING_NS)
        return;
    uint64_t nap_ns = f->wake_at_ns - f->now_ns;
    bool quiet = offer_idle(f);
    atomic_store(&f->parked, 1);
    if (quiet && atomic_load(&f->kicked) == 0)
        sleep_until(f, nap_ns);
    atomic_store(&f->parked, 0);
    atomic_store_explicit(&f->idle, 0, memory_order_relaxed);
}

static void *run(void *context)
{
    salvo_flusher *f = context;
    prctl(PR_SET_NAME, "salvo-flusher");
    prctl(PR_SET_TIMERSLACK, TIMER_SLACK_NS);
    if (f->producer->settings.wake_idle)
        syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0);
    while ((atomic_load_explicit(&f->requests, memory_order_relaxed) & SALVO_REQUEST_STOP) == 0)
        salvo_flusher_idle(f, salvo_flusher_work(f));
    salvo_flusher_end(f);
    return NULL;
}

int salvo_flusher_start(salvo_flusher *f)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are the application's */
    int err = pthread_create(&f->thread, NULL, run, f);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    f->running = err == 0;
    return err == 0 ? 0 : SALVO_ERR_LIMIT;
}

void salvo_flusher_join(salvo_flusher *f)
{
    /* Relaxed: the request publishes nothing; the kick makes it be seen soon. */
    atomic_fetch_or_explicit(&f->requests, SALVO_REQUEST_STOP, memory_order_relaxed);
    salvo_flusher_kick(f);
    if (f->running)
        pthread_join(f->thread, NULL);
    else if (f->handle != NULL)
        salvo_flusher_end(f);
    f->running = false;
}
