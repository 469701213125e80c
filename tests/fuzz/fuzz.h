/* SPDX-License-Identifier: Apache-2.0
 *
 * What the fuzz targets share: the entry that libFuzzer (or replay.c) calls, a check that ends
 * the program, and input that is taken piece by piece.
 */
#ifndef SALVO_FUZZ_H
#define SALVO_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What must hold whatever the input: a failure is a finding, as a crash is. */
static inline void fuzz_check(int holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "broken: %s\n", what);
    abort();
}

/* The next n bytes of the input into *out, zeros where it has ended. */
static inline void fuzz_take(const uint8_t **data, size_t *size, void *out, size_t n)
{
    size_t have = n < *size ? n : *size;
    memset(out, 0, n);
    if (have > 0)
        memcpy(out, *data, have);
    *data += have;
    *size -= have;
}

static inline uint32_t fuzz_number(const uint8_t **data, size_t *size)
{
    uint32_t number;
    fuzz_take(data, size, &number, sizeof number);
    return number;
}

/* Every byte is read, so that the sanitizer sees a span that is not ours. */
static inline void fuzz_touch(const void *span, size_t size)
{
    const uint8_t *bytes = span;
    uint8_t sum = 0;
    for (size_t i = 0; i < size; i++)
        sum = (uint8_t)(sum + bytes[i]);
    __asm__ __volatile__("" : : "r"(sum)); /* it counts as used: the loop stays */
}

#endif
