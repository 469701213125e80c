/* SPDX-License-Identifier: Apache-2.0
 *
 * How long send calls took, in memory that two processes share and that can be added up over
 * runs: log-linear counts, each within 1/32 of the time it stands for.
 */
#ifndef SALVO_FAULT_CALLS_H
#define SALVO_FAULT_CALLS_H

#include <stdatomic.h>
#include <stdint.h>

enum { FAULT_SUB_BITS = 5, FAULT_BUCKETS = (64 - FAULT_SUB_BITS + 1) << FAULT_SUB_BITS };

typedef struct fault_calls { /* relaxed: counts, read when the writers have ended */
    _Atomic uint64_t count, longest, bucket[FAULT_BUCKETS];
} fault_calls;

static inline uint32_t fault_bucket_of(uint64_t ns)
{
    uint32_t shift = 0;
    while (ns >> shift >= UINT64_C(2) << FAULT_SUB_BITS)
        shift++;
    return (shift << FAULT_SUB_BITS) + (uint32_t)(ns >> shift);
}

static inline void fault_calls_record(fault_calls *c, uint64_t ns)
{
    atomic_fetch_add_explicit(&c->bucket[fault_bucket_of(ns)], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&c->count, 1, memory_order_relaxed);
    uint64_t longest = atomic_load_explicit(&c->longest, memory_order_relaxed);
    while (ns > longest && !atomic_compare_exchange_weak_explicit(
                               &c->longest, &longest, ns, memory_order_relaxed,
                               memory_order_relaxed))
        ;
}

static inline void fault_calls_add(fault_calls *into, const fault_calls *from)
{
    for (uint32_t i = 0; i < FAULT_BUCKETS; i++)
        into->bucket[i] += from->bucket[i];
    into->count += from->count;
    into->longest = from->longest > into->longest ? from->longest : into->longest;
}

/* The time that `part` of the calls (0.9999) did not exceed, from below; 0: no calls. */
static inline uint64_t fault_calls_at(const fault_calls *c, double part)
{
    uint64_t sum = 0, wanted = (uint64_t)((double)c->count * part);
    for (uint32_t i = 0; i < FAULT_BUCKETS; i++) {
        sum += c->bucket[i];
        if (sum > wanted || (sum == c->count && sum > 0)) {
            uint32_t shift = i >> FAULT_SUB_BITS;
            shift = shift > 0 ? shift - 1 : 0;
            return (uint64_t)(i - (shift << FAULT_SUB_BITS)) << shift;
        }
    }
    return 0;
}

#endif
