/* SPDX-License-Identifier: Apache-2.0
 *
 * Reports; see report.h. The descriptor is an eventfd; `signalled` keeps a flusher from writing
 * it more than once until a poller has looked.
 */
#include "report.h"

#include "producer.h"

#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { CALLBACK_BATCH = 256 };

typedef struct salvo_report_ring {
    salvo_report *slots; /* callback mode: CALLBACK_BATCH of them, gathered */
    uint64_t pushed;     /* flusher's own */
    _Alignas(64) _Atomic uint64_t head; /* flusher: release after the slots */
    _Alignas(64) _Atomic uint64_t tail; /* poller */
} salvo_report_ring;

struct salvo_reports {
    salvo_report_fn *callback;
    void *context;
    uint32_t capacity, mask, flushers;
    int fd;
    pthread_mutex_t lock; /* pollers among themselves */
    _Alignas(64) _Atomic uint32_t reserved;
    _Alignas(64) _Atomic uint32_t signalled;
    salvo_report_ring rings[];
};

static uint32_t slots_for(uint32_t max_reports)
{
    uint32_t n = 1;
    while (n < max_reports)
        n <<= 1;
    return n;
}

uint64_t salvo_reports_bytes(uint32_t max_reports, uint32_t flushers)
{
    return (uint64_t)flushers * slots_for(max_reports) * sizeof(salvo_report);
}

salvo_reports *salvo_reports_new(uint32_t max_reports, uint32_t flushers,
                                 salvo_report_fn *callback, void *context)
{
    size_t bytes = sizeof(salvo_reports) + flushers * sizeof(salvo_report_ring);
    salvo_reports *r = aligned_alloc(64, (bytes + 63u) & ~(size_t)63u);
    if (r == NULL)
        return NULL;
    memset(r, 0, bytes);
    r->fd = -1;
    r->callback = callback;
    r->context = context;
    r->flushers = flushers;
    r->capacity = max_reports;
    pthread_mutex_init(&r->lock, NULL);
    uint32_t slots = callback != NULL ? CALLBACK_BATCH : slots_for(max_reports);
    r->mask = slots - 1;
    for (uint32_t i = 0; i < flushers; i++) {
        r->rings[i].slots = calloc(slots, sizeof(salvo_report));
        if (r->rings[i].slots == NULL)
            goto fail;
    }
    r->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (r->fd >= 0)
        return r;
fail:
    salvo_reports_free(r);
    return NULL;
}

void salvo_reports_free(salvo_reports *reports)
{
    if (reports == NULL)
        return;
    for (uint32_t i = 0; i < reports->flushers; i++)
        free(reports->rings[i].slots);
    if (reports->fd >= 0)
        close(reports->fd);
    pthread_mutex_destroy(&reports->lock);
    free(reports);
}

bool salvo_reports_reserve(salvo_reports *reports)
{
    /* Acquire: pairs with the release in salvo_reports_poll(): freed slots were read. */
    uint32_t before = atomic_fetch_add_explicit(&reports->reserved, 1, memory_order_acquire);
    if (before < reports->capacity)
        return true;
    salvo_reports_unreserve(reports);
    return false;
}

void salvo_reports_unreserve(salvo_reports *reports)
{
    atomic_fetch_sub_explicit(&reports->reserved, 1, memory_order_relaxed);
}

static void call_back(salvo_reports *r, salvo_report_ring *ring)
{
    size_t n = (size_t)ring->pushed;
    ring->pushed = 0;
    if (n == 0)
        return;
    atomic_fetch_sub_explicit(&r->reserved, (uint32_t)n, memory_order_relaxed);
    salvo_in_callback = true;
    r->callback(r->context, ring->slots, n);
    salvo_in_callback = false;
}

void salvo_reports_push(salvo_reports *reports, uint32_t flusher, const salvo_report *report)
{
    salvo_report_ring *ring = &reports->rings[flusher];
    ring->slots[ring->pushed++ & reports->mask] = *report;
    if (reports->callback != NULL && ring->pushed == CALLBACK_BATCH)
        call_back(reports, ring);
}

void salvo_reports_publish(salvo_reports *reports, uint32_t flusher)
{
    salvo_report_ring *ring = &reports->rings[flusher];
    if (reports->callback != NULL) {
        call_back(reports, ring);
        return;
    }
    if (atomic_load_explicit(&ring->head, memory_order_relaxed) == ring->pushed)
        return;
    /* Release: pairs with the acquire in take_from(). */
    atomic_store_explicit(&ring->head, ring->pushed, memory_order_release);
    /* seq_cst exchange against the poller's: either it sees the head or we see its 0. */
    if (atomic_exchange(&reports->signalled, 1) == 0) {
        uint64_t one = 1;
        ssize_t ignored = write(reports->fd, &one, sizeof one); /* full counter: readable anyway */
        (void)ignored;
    }
}

static size_t take_from(salvo_reports *r, salvo_report_ring *ring, salvo_report *out, size_t max)
{
    uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    uint64_t head = atomic_load_explicit(&ring->head, memory_order_acquire);
    size_t n = 0;
    while (tail != head && n < max)
        out[n++] = ring->slots[tail++ & r->mask];
    /* Relaxed is enough: the slots return to senders through `reserved`, below. */
    atomic_store_explicit(&ring->tail, tail, memory_order_relaxed);
    return n;
}

uint64_t salvo_reports_waiting(const salvo_reports *reports)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < reports->flushers; i++) {
        uint64_t tail = atomic_load_explicit(&reports->rings[i].tail, memory_order_relaxed);
        n += atomic_load_explicit(&reports->rings[i].head, memory_order_relaxed) - tail;
    }
    return n;
}

int salvo_reports_poll(salvo_reports *reports, salvo_report *out, size_t max)
{
    size_t n = 0;
    uint64_t count, one = 1;
    ssize_t ignored;
    if (reports->callback != NULL)
        return SALVO_ERR_UNSUPPORTED;
    pthread_mutex_lock(&reports->lock);
    /* The descriptor first, then the flag: a flusher that signals in between writes again. The
     * other way round its write would be swallowed here and the flag stay up for ever. */
    ignored = read(reports->fd, &count, sizeof count);
    atomic_exchange(&reports->signalled, 0);
    for (uint32_t i = 0; i < reports->flushers && n < max; i++)
        n += take_from(reports, &reports->rings[i], out + n, max - n);
    if (salvo_reports_waiting(reports) != 0 && atomic_exchange(&reports->signalled, 1) == 0) {
        ignored = write(reports->fd, &one, sizeof one);
    }
    (void)ignored;
    pthread_mutex_unlock(&reports->lock);
    /* Release: the slots were read before they can be reserved and overwritten again. The chain
     * to the flusher goes through the sender's reservation and its commit. */
    atomic_fetch_sub_explicit(&reports->reserved, (uint32_t)n, memory_order_release);
    return (int)n;
}

int salvo_reports_fd(const salvo_reports *reports)
{
    return reports->fd;
}
