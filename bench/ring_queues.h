/* SPDX-License-Identifier: Apache-2.0
 *
 * The queues that the ring bench compares, behind one face, each bounded to the same number of
 * 100 B values, copied in by many and copied out by one. Guarantees: every queue is called the
 * same way (through a pointer), so that the call costs all the same.
 */
#ifndef BENCH_RING_QUEUES_H
#define BENCH_RING_QUEUES_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { QUEUE_VALUE_BYTES = 100, QUEUE_SLOTS = 32768 };

typedef struct queue_ops {
    const char *name;
    void *(*open)(void);
    void (*close)(void *queue);
    int (*put)(void *queue, const void *value); /* any thread; 0, or not 0: full */
    size_t (*take)(void *queue);                /* one thread: all that is ready; how many */
} queue_ops;

extern const queue_ops queue_salvo_ring, queue_ck_ring, queue_mutex;

/* The second part of the bench: 1 to 64 threads through the engine into `null`. */
typedef struct engine_point {
    int threads;
    double paced_p50_ns, paced_p99_ns, full_p50_ns, full_p99_ns, full_per_second;
    unsigned long long refused;
} engine_point;

enum { ENGINE_POINTS = 7 };
void engine_scaling(engine_point points[ENGINE_POINTS], int calls, double paced_per_second,
                    const char *set);

#ifdef __cplusplus
}
#endif
#endif
