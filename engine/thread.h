/* SPDX-License-Identifier: Apache-2.0
 *
 * A sending thread's place in a producer: its ring, its counters, its waiter.
 *
 * Guarantees: a place belongs to one living thread at a time; its counters only grow and outlive
 * the thread; finding it costs a thread-local comparison. Places are never freed before close, so
 * a flusher may follow a waiter's slot number at any time.
 */
#ifndef SALVO_THREAD_H
#define SALVO_THREAD_H

#include "producer.h"

enum { SALVO_THREAD_SAMPLES = 16 };

/* Who waits for one message's outcome. state = turn << 2 | phase. */
enum { SALVO_WAITER_IDLE, SALVO_WAITER_WAITING, SALVO_WAITER_SETTLING, SALVO_WAITER_DONE };
typedef struct salvo_waiter {
    _Atomic uint32_t state;
    salvo_event done;
    salvo_report report;
} salvo_waiter;

struct salvo_thread {
    /* Written by the owner on every send. */
    _Alignas(128) salvo *producer;
    uint32_t slot, ring, home;   /* home: the flusher of messages without key and partition */
    uint32_t until_sample;
    _Atomic uint32_t sample_head; /* owner writes, flusher `home` reads */
    _Atomic uint64_t samples[SALVO_THREAD_SAMPLES]; /* ticks inside a send */
    /* Written by flusher `home`. */
    _Alignas(128) _Atomic uint32_t sample_tail;
    _Alignas(128) salvo_waiter waiter;
    bool taken; /* under producer->lock */
    _Alignas(128) _Atomic uint64_t accepted[]; /* [max_topics], one writer: the owner */
};

typedef struct salvo_thread_cache { /* the calling thread's last used producers */
    const salvo *producer;
    salvo_thread *thread;
} salvo_thread_cache;
extern _Thread_local salvo_thread_cache salvo_thread_last
    __attribute__((tls_model("initial-exec")));

/* The place that the calling thread already has, or NULL. Also while closing. */
salvo_thread *salvo_thread_attached(const salvo *producer);

/* The slow way: attaches if need be. NULL with *err set. */
salvo_thread *salvo_thread_find(salvo *producer, int *err);
void salvo_thread_leave(void *context);     /* the key's destructor */
void salvo_thread_forget(salvo *producer); /* the calling thread's caches, at close */
uint64_t salvo_thread_bytes(const salvo_settings *settings);

static inline salvo_thread *salvo_thread_of(salvo *producer, int *err)
{
    if (__builtin_expect(salvo_thread_last.producer == producer && producer != NULL, 1))
        return salvo_thread_last.thread;
    return salvo_thread_find(producer, err);
}

/* Accepted counts at the commit and just before its release store, so that whoever sees an
 * outcome sees it accepted. One writer: a plain add. */
static inline void salvo_thread_accept(salvo_thread *thread, salvo_topic topic, uint64_t n)
{
    _Atomic uint64_t *counter = &thread->accepted[topic];
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

/* The waiter's side. */
uint32_t salvo_waiter_begin(salvo_thread *thread);
int salvo_waiter_wait(salvo_thread *thread, uint32_t turn, uint64_t deadline_ns,
                      salvo_report *report);
void salvo_waiter_cancel(salvo_thread *thread, uint32_t turn);

/* The flusher's side: nobody is told when the turn is over. */
void salvo_waiter_settle(salvo *producer, uint32_t slot, uint32_t turn,
                         const salvo_report *report);

#endif
