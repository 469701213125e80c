/* SPDX-License-Identifier: Apache-2.0
 *
 * Salvo's ring, concurrencykit's ring in its multi-producer mode (values in its slots), and a
 * mutex around an array; see ring_queues.h.
 */
#include "ring_queues.h"
#include "harness.h"
#include "ring.h"

#include <ck_ring.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

typedef struct bench_value {
    unsigned char bytes[QUEUE_VALUE_BYTES];
} bench_value;

static void *room(size_t bytes)
{
    void *memory = aligned_alloc(128, (bytes + 127) / 128 * 128);
    if (!memory)
        bench_die("no memory for a queue");
    memset(memory, 0, bytes);
    return memory;
}

static void keep(const void *value)
{
    __asm__ volatile("" ::"r"(value) : "memory"); /* the copy is wanted */
}

/* --- Salvo's ring, without the engine's stamp ------------------------------------------------ */

typedef struct salvo_queue {
    salvo_ring ring;
    uint64_t head;
} salvo_queue;

static void *salvo_queue_open(void)
{
    salvo_queue *q = room(sizeof *q);
    salvo_ring_options options = {.bytes = QUEUE_SLOTS * 128, .descriptors = QUEUE_SLOTS};
    if (salvo_ring_open(&q->ring, &options))
        bench_die("the ring could not be opened");
    q->head = salvo_ring_head(&q->ring);
    return q;
}

static void salvo_queue_close(void *queue)
{
    salvo_queue *q = queue;
    salvo_ring_close(&q->ring);
    free(q);
}

static int salvo_queue_put(void *queue, const void *value)
{
    salvo_queue *q = queue;
    salvo_ring_claim claim;
    if (salvo_ring_claim_n(&q->ring, 1, salvo_ring_units(QUEUE_VALUE_BYTES), &claim))
        return -1;
    memcpy(salvo_ring_payload(&q->ring, claim.position), value, QUEUE_VALUE_BYTES);
    salvo_ring_commit(&q->ring, claim.sequence, claim.position, QUEUE_VALUE_BYTES, 0, 0, 1, 0);
    return 0;
}

static size_t salvo_queue_take(void *queue)
{
    salvo_queue *q = queue;
    bench_value value;
    size_t taken = 0;
    uint32_t at = salvo_ring_sequence(q->head), position = salvo_ring_position(q->head);
    uint32_t end = salvo_ring_sequence(salvo_ring_tail(&q->ring));
    for (; at != end && salvo_ring_ready(&q->ring, at); at++, taken++) {
        memcpy(&value, salvo_ring_payload(&q->ring, position), sizeof value);
        keep(&value);
        position += salvo_ring_units(QUEUE_VALUE_BYTES);
    }
    q->head = salvo_ring_pack(at, position);
    if (taken)
        salvo_ring_release(&q->ring, q->head);
    return taken;
}

const queue_ops queue_salvo_ring = {"salvo_ring", salvo_queue_open, salvo_queue_close,
                                    salvo_queue_put, salvo_queue_take};

/* --- ck_ring ---------------------------------------------------------------------------------- */

CK_RING_PROTOTYPE(value, bench_value)

typedef struct ck_queue {
    ck_ring_t ring;
    struct bench_value slots[QUEUE_SLOTS];
} ck_queue;

static void *ck_queue_open(void)
{
    ck_queue *q = room(sizeof *q);
    ck_ring_init(&q->ring, QUEUE_SLOTS);
    return q;
}

static int ck_queue_put(void *queue, const void *value)
{
    ck_queue *q = queue;
    bench_value copy;
    memcpy(&copy, value, sizeof copy);
    return ck_ring_enqueue_mpsc_value(&q->ring, q->slots, &copy) ? 0 : -1;
}

static size_t ck_queue_take(void *queue)
{
    ck_queue *q = queue;
    bench_value value;
    size_t taken = 0;
    while (taken < QUEUE_SLOTS && ck_ring_dequeue_mpsc_value(&q->ring, q->slots, &value)) {
        keep(&value);
        taken++;
    }
    return taken;
}

const queue_ops queue_ck_ring = {"ck_ring_mpsc", ck_queue_open, free, ck_queue_put, ck_queue_take};

/* --- a mutex ---------------------------------------------------------------------------------- */

typedef struct mutex_queue {
    pthread_mutex_t mutex;
    size_t head, tail;
    bench_value slots[QUEUE_SLOTS];
} mutex_queue;

static void *mutex_queue_open(void)
{
    mutex_queue *q = room(sizeof *q);
    pthread_mutex_init(&q->mutex, NULL);
    return q;
}

static void mutex_queue_close(void *queue)
{
    mutex_queue *q = queue;
    pthread_mutex_destroy(&q->mutex);
    free(q);
}

static int mutex_queue_put(void *queue, const void *value)
{
    mutex_queue *q = queue;
    pthread_mutex_lock(&q->mutex);
    int full = q->tail - q->head == QUEUE_SLOTS;
    if (!full)
        memcpy(&q->slots[q->tail++ % QUEUE_SLOTS], value, sizeof q->slots[0]);
    pthread_mutex_unlock(&q->mutex);
    return full;
}

/* In pieces, so that producers do not wait for all of it. */
static size_t mutex_queue_take(void *queue)
{
    mutex_queue *q = queue;
    bench_value value;
    size_t taken = 0;
    pthread_mutex_lock(&q->mutex);
    for (; taken < 256 && q->head != q->tail; taken++) {
        value = q->slots[q->head++ % QUEUE_SLOTS];
        keep(&value);
    }
    pthread_mutex_unlock(&q->mutex);
    return taken;
}

const queue_ops queue_mutex = {"mutex", mutex_queue_open, mutex_queue_close, mutex_queue_put,
                               mutex_queue_take};
