/* SPDX-License-Identifier: Apache-2.0
 *
 * The bytes that messages carry: values are cut from one block of 1 MiB (docs/formats.md), because
 * constant bytes would falsify compression. A block belongs to one thread.
 *
 *   payload = "random" | "text" | "ratio:" r | "file:" path
 */
#ifndef SALVO_LOAD_PAYLOAD_H
#define SALVO_LOAD_PAYLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define SALVO_LOAD_BLOCK_BYTES (1u << 20)

/* Fill a block; false with a text. */
bool salvo_payload_fill(unsigned char *block, const char *text, uint64_t seed, char *error,
                        size_t error_size);

/* Where the value of message index lies in its block. */
static inline unsigned char *salvo_payload_at(unsigned char *block, uint64_t index,
                                              uint32_t value_bytes)
{
    return block + index * 4099 % (SALVO_LOAD_BLOCK_BYTES - value_bytes);
}

/* The intended time travels in the first 8 bytes: Unix time in ns, little-endian. What is read
 * back has its run's mark in the next 8, where it has as many. */
enum { SALVO_PAYLOAD_TIME_BYTES = 8, SALVO_PAYLOAD_MARKED_BYTES = 16 };

static inline void salvo_payload_stamp(unsigned char *value, uint64_t unix_ns)
{
    for (int i = 0; i < 8; i++)
        value[i] = (unsigned char)(unix_ns >> 8 * i);
}

static inline uint64_t salvo_payload_stamp_of(const unsigned char *value)
{
    uint64_t unix_ns = 0;
    for (int i = 0; i < 8; i++)
        unix_ns |= (uint64_t)value[i] << 8 * i;
    return unix_ns;
}

#endif
