/* SPDX-License-Identifier: Apache-2.0
 *
 * Threads' places: attach, ring choice, and giving back; see thread.h.
 *
 * A new thread takes the ring with the fewest threads and keeps it, so that a thread's own order
 * never depends on two rings. Its place is given back when the thread ends; the counters stay.
 */
#include "thread.h"

#include "error.h"

#include <stdlib.h>
#include <string.h>

_Thread_local salvo_thread_cache salvo_thread_last __attribute__((tls_model("initial-exec")));

uint64_t salvo_thread_bytes(const salvo_settings *s)
{
    uint64_t bytes = sizeof(salvo_thread) + (uint64_t)s->max_topics * sizeof(uint64_t);
    return (bytes + 127u) & ~(uint64_t)127u;
}

static salvo_thread *slot_take(salvo *p)
{
    uint32_t count = atomic_load_explicit(&p->thread_count, memory_order_relaxed);
    for (uint32_t i = 0; i < count; i++)
        if (!p->threads[i]->taken)
            return p->threads[i];
    if (count == p->settings.max_threads) {
        salvo_error_set("max_threads (%u) reached; raise max_threads", count);
        return NULL;
    }
    uint64_t bytes = salvo_thread_bytes(&p->settings);
    salvo_thread *t = aligned_alloc(128, bytes);
    if (t == NULL) {
        salvo_error_set("no memory for another thread's place");
        return NULL;
    }
    memset(t, 0, bytes);
    t->producer = p;
    t->slot = count;
    p->threads[count] = t;
    /* Release: readers of the count see the slot; pairs with the acquire in stats and flusher. */
    atomic_store_explicit(&p->thread_count, count + 1, memory_order_release);
    return t;
}

static uint32_t least_used_ring(const salvo *p)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < p->settings.rings; i++)
        if (p->ring_users[i] < p->ring_users[best])
            best = i;
    return best;
}

static salvo_thread *attach(salvo *p, int *err)
{
    pthread_mutex_lock(&p->lock);
    salvo_thread *t = slot_take(p);
    if (t != NULL) {
        p->places[t->slot] = (salvo_place){p, t->slot};
        if (pthread_setspecific(p->thread_key, &p->places[t->slot]) != 0)
            t = NULL;
    }
    if (t != NULL) {
        t->taken = true;
        t->ring = least_used_ring(p);
        t->home = t->slot % p->settings.flushers;
        t->until_sample = p->settings.enqueue_sample;
        p->ring_users[t->ring]++;
    }
    pthread_mutex_unlock(&p->lock);
    if (t == NULL)
        *err = SALVO_ERR_LIMIT;
    return t;
}

salvo_thread *salvo_thread_find(salvo *producer, int *err)
{
    *err = salvo_producer_check(producer);
    if (*err != 0)
        return NULL;
    salvo_thread *t = salvo_thread_attached(producer);
    if (t == NULL)
        t = attach(producer, err);
    if (t != NULL)
        salvo_thread_last = (salvo_thread_cache){producer, t};
    return t;
}

salvo_thread *salvo_thread_attached(const salvo *producer)
{
    const salvo_place *place = pthread_getspecific(producer->thread_key);
    return place != NULL ? producer->threads[place->slot] : NULL;
}

/* Runs when a thread ends (key destructor), perhaps while another closes the producer: the places
 * and the lock outlive close, so `live` can be asked under the lock. In a forked child the places
 * are wiped. */
void salvo_thread_leave(void *context)
{
    const salvo_place *place = context;
    salvo *p = place->producer;
    if (p == NULL)
        return;
    salvo_thread_forget(p);
    pthread_mutex_lock(&p->lock);
    if (salvo_producer_check(p) == 0) {
        salvo_thread *t = p->threads[place->slot];
        t->taken = false;
        p->ring_users[t->ring]--;
    }
    pthread_mutex_unlock(&p->lock);
}

void salvo_thread_forget(salvo *producer)
{
    if (salvo_thread_last.producer == producer)
        salvo_thread_last = (salvo_thread_cache){NULL, NULL};
}

int salvo_thread_attach(salvo *producer)
{
    salvo_error_clear();
    int err = salvo_producer_check(producer); /* a place may outlive a fork or a close */
    if (err == 0)
        (void)salvo_thread_of(producer, &err);
    return err;
}

uint32_t salvo_waiter_begin(salvo_thread *thread)
{
    salvo_waiter *w = &thread->waiter;
    uint32_t turn = (atomic_load_explicit(&w->state, memory_order_relaxed) >> 2) + 1;
    turn &= UINT32_MAX >> 2;
    /* Release: the flusher's CAS acquires it and owns the report from then on. */
    atomic_store_explicit(&w->state, turn << 2 | SALVO_WAITER_WAITING, memory_order_release);
    return turn;
}

void salvo_waiter_cancel(salvo_thread *thread, uint32_t turn)
{
    atomic_store_explicit(&thread->waiter.state, turn << 2 | SALVO_WAITER_IDLE,
                          memory_order_release);
}

int salvo_waiter_wait(salvo_thread *thread, uint32_t turn, uint64_t deadline_ns,
                      salvo_report *report)
{
    salvo_waiter *w = &thread->waiter;
    uint32_t done = turn << 2 | SALVO_WAITER_DONE;
    bool waiting = true;
    for (;;) {
        uint32_t seen = salvo_event_read(&w->done);
        /* Acquire: pairs with the release of DONE in salvo_waiter_settle(). */
        uint32_t state = atomic_load_explicit(&w->state, memory_order_acquire);
        if (state == done)
            break;
        if (waiting && !salvo_event_wait(&w->done, seen, deadline_ns)) {
            uint32_t expected = turn << 2 | SALVO_WAITER_WAITING;
            if (atomic_compare_exchange_strong_explicit(
                    &w->state, &expected, turn << 2 | SALVO_WAITER_IDLE, memory_order_acq_rel,
                    memory_order_acquire))
                return SALVO_ERR_TIMEOUT;
            waiting = false; /* the flusher is writing the report: some instructions more */
        }
    }
    if (report != NULL)
        *report = w->report;
    return w->report.status;
}

void salvo_waiter_settle(salvo *producer, uint32_t slot, uint32_t turn, const salvo_report *report)
{
    /* Acquire: pairs with the release in slot_take(). */
    if (slot >= atomic_load_explicit(&producer->thread_count, memory_order_acquire))
        return;
    salvo_waiter *w = &producer->threads[slot]->waiter;
    uint32_t expected = turn << 2 | SALVO_WAITER_WAITING;
    if (!atomic_compare_exchange_strong_explicit(&w->state, &expected,
                                                 turn << 2 | SALVO_WAITER_SETTLING,
                                                 memory_order_acq_rel, memory_order_relaxed))
        return; /* timed out: nobody listens */
    w->report = *report;
    atomic_store_explicit(&w->state, turn << 2 | SALVO_WAITER_DONE, memory_order_release);
    salvo_event_signal(&w->done);
}
