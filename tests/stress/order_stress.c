/* SPDX-License-Identifier: Apache-2.0
 *
 * Order across threads: a baton goes round, whoever has it sends its number into some ring and
 * hands it on; what the drain takes must be in the order of the baton. Noise threads send into
 * the same rings meanwhile and now and then sleep with a claim open.
 *
 * order_stress [--long | handovers]. It exits 1 at the first inversion, unless built with
 *   SALVO_CLOCK_UNFENCED  a plain rdtsc: counts inversions, reports them and exits 0
 *   SALVO_T0_LATE         T0 lies after the reading of the tails: expected to fail
 */
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#include "drain.h"
#include "stamp.h"

#define RINGS 4u
#define RUNNERS 2u
#define NOISE_TAG UINT32_MAX

static salvo_ring rings[RINGS];
static uint32_t handovers = 1000000;
static _Alignas(128) _Atomic uint32_t baton; /* the number to be sent next */
static _Alignas(128) _Atomic bool done;

static void send_one(uint32_t ring, uint32_t tag, uint32_t hold)
{
    salvo_ring_claim c;
    uint64_t now = stamp();
    while (salvo_ring_claim_n(&rings[ring], 1, 2, &c) != 0) {
        sched_yield();
        now = stamp();
    }
    if (hold)
        sched_yield();
    for (uint32_t i = 0; i < hold; i++)
        atomic_signal_fence(memory_order_seq_cst);
    salvo_ring_commit(&rings[ring], c.sequence, c.position, 16, tag, 0, 0, now);
}

/* Runner k sends the numbers that are k modulo RUNNERS, into changing rings. */
static void *run(void *argument)
{
    uint32_t k = (uint32_t)(uintptr_t)argument, spins = 0;
    for (uint32_t number = k; number < handovers;) {
        if (atomic_load_explicit(&baton, memory_order_acquire) != number) {
            if (++spins % 500 == 0) /* two cores, more threads */
                sched_yield();
            continue;
        }
        send_one((number ^ number >> 3) % RINGS, number, 0);
        atomic_store_explicit(&baton, number + 1, memory_order_release);
        number += RUNNERS;
    }
    return NULL;
}

/* Mostly asleep, so that the runners have the cores; wakes to send, or to hold a claim open. */
static void *make_noise(void *argument)
{
    (void)argument;
    for (uint32_t i = 0; !atomic_load_explicit(&done, memory_order_relaxed); i++) {
        send_one(i % RINGS, NOISE_TAG, i % 3 == 0 ? 2000 : 0);
        if (i % 8 == 0)
            nanosleep(&(struct timespec){0, 50000}, NULL);
    }
    return NULL;
}

static uint64_t read_t0(void)
{
#if defined(SALVO_T0_LATE)
    /* As if the clock were read long after the tails: the bound means nothing. */
    return UINT64_MAX - 1;
#else
    return stamp_fenced();
#endif
}

/* Take everything; returns how many came out of turn. */
static uint64_t drain_all(salvo_drain *drain)
{
    uint64_t inversions = 0, passes = 0, start = stamp_ns();
    uint32_t taken = 0, highest = 0;
    while (taken < handovers) {
        salvo_drain_record r;
        salvo_drain_begin(drain, read_t0());
        passes++;
        uint32_t before = taken;
        while (salvo_drain_peek(drain, &r)) {
            if (r.tag != NOISE_TAG) {
                if (taken != 0 && r.tag < highest)
                    inversions++;
                else
                    highest = r.tag;
                taken++;
            }
            salvo_drain_advance(drain);
        }
        salvo_drain_release(drain);
#if !defined(SALVO_CLOCK_UNFENCED)
        if (inversions != 0)
            break;
#endif
        if (taken == before && passes % 64 == 0)
            sched_yield();
    }
    printf("%u hand-overs taken in %" PRIu64 " passes, %" PRIu64 " ms: %" PRIu64 " inversions\n",
           taken, passes, (stamp_ns() - start) / 1000000, inversions);
    return inversions;
}

int main(int argc, char **argv)
{
    if (argc > 1)
        handovers = strcmp(argv[1], "--long") == 0 ? 10000000u : (uint32_t)atol(argv[1]);
    stamp_init();
    salvo_ring *pointers[RINGS];
    salvo_ring_options options = {1u << 20, 16384, 0, 0xFFFFFF00u, 0xFFFFFF00u};
    for (uint32_t i = 0; i < RINGS; i++) {
        pointers[i] = &rings[i];
        if (salvo_ring_open(&rings[i], &options) != 0)
            return printf("cannot open a ring\n"), 2;
    }
    salvo_drain drain;
    pthread_t runner[RUNNERS], noise;
    if (salvo_drain_open(&drain, pointers, RINGS, UINT64_MAX) != 0)
        return printf("cannot open the drain\n"), 2;
    for (uintptr_t k = 0; k < RUNNERS; k++)
        if (pthread_create(&runner[k], NULL, run, (void *)k) != 0)
            return 2;
    if (pthread_create(&noise, NULL, make_noise, NULL) != 0)
        return 2;
    uint64_t inversions = drain_all(&drain);
#if defined(SALVO_CLOCK_UNFENCED)
    printf("plain rdtsc: 1 inversion in %.0f hand-overs\n",
           inversions == 0 ? 0.0 : (double)handovers / (double)inversions);
    return 0;
#endif
    if (inversions != 0)
        return 1; /* the threads end with the process */
    atomic_store_explicit(&done, true, memory_order_relaxed);
    for (uint32_t k = 0; k < RUNNERS; k++)
        pthread_join(runner[k], NULL);
    pthread_join(noise, NULL);
    salvo_drain_close(&drain);
    for (uint32_t i = 0; i < RINGS; i++)
        salvo_ring_close(&rings[i]);
    return 0;
}
