/* SPDX-License-Identifier: Apache-2.0
 *
 * Murmur2 (32 bits, the seed of Kafka's Java client). Guarantee: the same hash on every machine:
 * words are read as little-endian whatever the host's order, bytes as unsigned.
 * tests/unit/Murmur2Vectors.java makes the vectors that hold it to the Java client.
 */
#include "partition.h"

#include <endian.h>
#include <string.h>

#define MURMUR2_SEED 0x9747b28cu
#define MURMUR2_MULTIPLIER 0x5bd1e995u
#define MURMUR2_SHIFT 24

uint32_t salvo_murmur2(const void *data, size_t len)
{
    const unsigned char *at = data;
    uint32_t hash = MURMUR2_SEED ^ (uint32_t)len;
    size_t left = len;

    for (; left >= 4; at += 4, left -= 4) {
        uint32_t word;
        memcpy(&word, at, sizeof word);
        word = le32toh(word) * MURMUR2_MULTIPLIER;
        word = (word ^ word >> MURMUR2_SHIFT) * MURMUR2_MULTIPLIER;
        hash = hash * MURMUR2_MULTIPLIER ^ word;
    }
    if (left > 0) {
        for (size_t i = 0; i < left; i++)
            hash ^= (uint32_t)at[i] << (8 * i);
        hash *= MURMUR2_MULTIPLIER;
    }
    hash = (hash ^ hash >> 13) * MURMUR2_MULTIPLIER;
    return hash ^ hash >> 15;
}

int32_t salvo_partition_for_key(const void *key, size_t len, int32_t partitions)
{
    /* The Java client clears the sign bit rather than taking the absolute value. */
    return (int32_t)(salvo_murmur2(key, len) & 0x7fffffffu) % partitions;
}
