/* SPDX-License-Identifier: Apache-2.0
 *
 * What a load is made of by chance: message sizes and keys. The same text and seed give the same
 * sequence everywhere. A description is parsed once, is read-only from then on and may be shared
 * by threads; each drawer has a random state of its own.
 *
 *   sizes = n | n "-" n | n ":" weight { "," n ":" weight }     fixed, uniform, weighted
 *         | "exp:" mean | "normal:" mean ":" deviation | "lognormal:" median ":" sigma
 *         | "file:" path                                        lines "size" or "size weight"
 *   keys  = n [ ":zipf" [ ":" exponent ] ]                      n keys, alike or Zipf (1.0)
 */
#ifndef SALVO_LOAD_DRAW_H
#define SALVO_LOAD_DRAW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SALVO_LOAD_SIZE_MOST 1000000u /* bytes; the payload block has 1 MiB */

typedef enum salvo_load_size_kind {
    SALVO_LOAD_SIZE_RANGE, /* low to high */
    SALVO_LOAD_SIZE_LIST,
    SALVO_LOAD_SIZE_EXP,
    SALVO_LOAD_SIZE_NORMAL,
    SALVO_LOAD_SIZE_LOGNORMAL
} salvo_load_size_kind;

typedef struct salvo_load_sizes {
    salvo_load_size_kind kind;
    double low, high; /* or the two parameters */
    uint32_t *values; /* of a list, with the running sums of their weights */
    double *upto;
    size_t count;
} salvo_load_sizes;

/* False with a text in error that says what is allowed. */
bool salvo_load_sizes_parse(salvo_load_sizes *sizes, const char *text, char *error,
                            size_t error_size);
void salvo_load_sizes_free(salvo_load_sizes *sizes);
uint32_t salvo_load_sizes_draw(const salvo_load_sizes *sizes, uint64_t *random);

typedef struct salvo_load_keys {
    uint32_t count; /* 0: messages have no key */
    double exponent; /* 0: all alike */
    double first, last, cut; /* of Zipf: see load_draw.c */
} salvo_load_keys;

bool salvo_load_keys_parse(salvo_load_keys *keys, const char *text, char *error,
                           size_t error_size);
uint32_t salvo_load_keys_draw(const salvo_load_keys *keys, uint64_t *random); /* 1 to count, or 0 */

/* xorshift64*, as the payload block of docs/formats.md uses it; state is never 0. */
static inline uint64_t salvo_load_random(uint64_t *state)
{
    uint64_t x = *state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return x * UINT64_C(2685821657736338717);
}

/* Above 0, at most 1. */
static inline double salvo_load_unit(uint64_t *state)
{
    return (double)((salvo_load_random(state) >> 11) + 1) * 0x1p-53;
}

/* A state for the stream-th of a seed's independent sequences. */
uint64_t salvo_load_stream(uint64_t seed, uint64_t stream);

/* A number with k, M, G (thousands); false: none, negative, or something follows up to end. */
bool salvo_load_number(const char *text, const char **end, double *out);

#endif
