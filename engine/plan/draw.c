/* SPDX-License-Identifier: Apache-2.0
 *
 * Random draws by integer arithmetic alone; see draw.h.
 *
 * The exponential distribution comes from -ln(U) at 1,024 even steps of U, between which the
 * value is drawn evenly; the last step is endless, and there the distribution has no memory: it
 * begins anew after ln(1024). The table is worked out bit by bit from ln 2, at the first use.
 */
#include "draw.h"

#include <pthread.h>
#include <stdlib.h>

enum { STEPS = 1024, STEPS_BITS = 10, ONE_BITS = 20 };
#define LN2_Q32 UINT64_C(2977044472) /* ln 2 * 2^32 */

static uint32_t table_q20[STEPS]; /* -ln(1 - i / STEPS) * 2^20 */
static pthread_once_t table_once = PTHREAD_ONCE_INIT;

/* -log2(x / 2^32) in 2^-32, for 0 < x <= 2^32: squaring doubles the logarithm. */
static uint64_t minus_log2_q32(uint64_t x)
{
    uint64_t whole = 0, fraction = 0;
    while (x < UINT64_C(1) << 31) {
        x <<= 1;
        whole++;
    }
    if (x == UINT64_C(1) << 32)
        return whole << 32;
    for (int bit = 0; bit < 32; bit++) { /* x in [1/2, 1): -log2 in (0, 1] */
        x = (uint64_t)(((unsigned __int128)x * x) >> 32);
        fraction <<= 1;
        if (x < UINT64_C(1) << 31) {
            x <<= 1;
            fraction |= 1;
        }
    }
    return (whole << 32) + fraction;
}

static void fill_table(void)
{
    for (uint64_t i = 0; i < STEPS; i++) {
        uint64_t log2 = minus_log2_q32((STEPS - i) << (32 - STEPS_BITS));
        table_q20[i] = (uint32_t)(((unsigned __int128)log2 * LN2_Q32) >> (64 - ONE_BITS));
    }
}

static uint64_t split_mix(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

salvo_draw salvo_draw_stream(uint64_t seed, uint32_t kind, uint32_t number)
{
    salvo_draw d;
    uint64_t state = seed;
    state = split_mix(&state) ^ ((uint64_t)kind << 32 | number);
    for (int i = 0; i < 4; i++)
        d.s[i] = split_mix(&state);
    pthread_once(&table_once, fill_table);
    return d;
}

uint64_t salvo_draw_exponential(salvo_draw *d, uint64_t mean)
{
    uint64_t sum_q20 = 0;
    for (;;) {
        uint64_t bits = salvo_draw_bits(d);
        uint32_t i = (uint32_t)(bits >> (64 - STEPS_BITS));
        if (i == STEPS - 1) {
            sum_q20 += table_q20[STEPS - 1];
            continue;
        }
        uint64_t within = bits & ((UINT64_C(1) << 32) - 1);
        sum_q20 += table_q20[i] + ((within * (table_q20[i + 1] - table_q20[i])) >> 32);
        return (uint64_t)(((unsigned __int128)sum_q20 * mean) >> ONE_BITS);
    }
}

int64_t salvo_draw_table(salvo_draw *d, const salvo_plan_table *table)
{
    if (table->count <= 1)
        return table->count == 0 ? 0 : table->values[0];
    uint64_t bits = salvo_draw_bits(d);
    uint64_t i = (uint64_t)(((unsigned __int128)bits * (table->count - 1)) >> 64);
    int64_t low = table->values[i];
    uint64_t width = (uint64_t)(table->values[i + 1] - low) + 1;
    return low + (int64_t)(((unsigned __int128)(bits * (table->count - 1)) * width) >> 64);
}

uint64_t *salvo_draw_zipf_new(uint32_t n)
{
    uint64_t *cumulative = malloc(n * sizeof *cumulative);
    uint64_t sum = 0;
    for (uint32_t i = 0; cumulative != NULL && i < n; i++)
        cumulative[i] = sum += (UINT64_C(1) << 40) / (i + 1);
    return cumulative;
}

uint32_t salvo_draw_zipf(salvo_draw *d, const uint64_t *cumulative, uint32_t n)
{
    uint64_t want = salvo_draw_below(d, cumulative[n - 1]);
    uint32_t low = 0, high = n - 1;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (cumulative[middle] > want)
            high = middle;
        else
            low = middle + 1;
    }
    return low + 1;
}
