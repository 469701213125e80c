/* SPDX-License-Identifier: Apache-2.0
 *
 * Random numbers for plans: a stream per entity (xoshiro256++ seeded by splitmix64), so that one
 * entity's draws never shift another's. Integers only: the same on every machine.
 */
#ifndef SALVO_PLAN_DRAW_H
#define SALVO_PLAN_DRAW_H

#include <salvo/plan.h>

typedef struct salvo_draw {
    uint64_t s[4];
} salvo_draw;

/* The stream of an entity: its kind and its number. */
salvo_draw salvo_draw_stream(uint64_t seed, uint32_t kind, uint32_t number);

static inline uint64_t salvo_draw_rotate(uint64_t x, int by)
{
    return x << by | x >> (64 - by);
}

static inline uint64_t salvo_draw_bits(salvo_draw *d)
{
    uint64_t *s = d->s, result = salvo_draw_rotate(s[0] + s[3], 23) + s[0], t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = salvo_draw_rotate(s[3], 45);
    return result;
}

/* Evenly from [0, n). */
static inline uint64_t salvo_draw_below(salvo_draw *d, uint64_t n)
{
    return (uint64_t)(((unsigned __int128)salvo_draw_bits(d) * n) >> 64);
}

/* Exponentially distributed, with this mean (below 2^43). */
uint64_t salvo_draw_exponential(salvo_draw *d, uint64_t mean);

int64_t salvo_draw_table(salvo_draw *d, const salvo_plan_table *table);

/* A zipf distribution of exponent 1 over [1, n]: cumulative weights. NULL: no memory. */
uint64_t *salvo_draw_zipf_new(uint32_t n);
uint32_t salvo_draw_zipf(salvo_draw *d, const uint64_t *cumulative, uint32_t n);

#endif
