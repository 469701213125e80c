/* SPDX-License-Identifier: Apache-2.0
 *
 * The clock, and the numbered messages: thread and number, then bytes that follow from them, so
 * that a message that was torn, mixed or cut on its way is known.
 */
#include "fault.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

uint64_t fault_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

typedef struct head {
    uint32_t magic, thread, number, nothing;
} head;

enum { MAGIC = 0x53414c56 };

void fault_value_write(unsigned char value[FAULT_VALUE_BYTES], uint32_t thread, uint32_t n)
{
    const head h = {MAGIC, thread, n, 0};
    uint64_t x = ((uint64_t)thread << 32 | n) * UINT64_C(0x9e3779b97f4a7c15) + 1;
    memcpy(value, &h, sizeof h);
    for (size_t at = sizeof h; at < FAULT_VALUE_BYTES; at += 4) { /* all byte values, zeros too */
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        uint32_t word = (uint32_t)(x >> 16);
        memcpy(value + at, &word, 4);
    }
}

bool fault_value_read(const void *value, size_t len, uint32_t *thread, uint32_t *n)
{
    unsigned char expected[FAULT_VALUE_BYTES];
    head h;
    if (len != FAULT_VALUE_BYTES)
        return false;
    memcpy(&h, value, sizeof h);
    if (h.magic != MAGIC || h.thread >= FAULT_THREADS || h.number >= FAULT_MOST)
        return false;
    fault_value_write(expected, h.thread, h.number);
    *thread = h.thread;
    *n = h.number;
    return memcmp(value, expected, sizeof expected) == 0;
}

size_t fault_key(char key[16], uint32_t thread, uint32_t n)
{
    return (size_t)snprintf(key, 16, "key-%u-%u", thread, n % FAULT_KEYS);
}
