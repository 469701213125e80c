/* SPDX-License-Identifier: Apache-2.0
 *
 * Which partition a key goes to. Guarantee: the same as Kafka's Java client chooses for the same
 * bytes and number of partitions (murmur2), so that producers of both kinds can share a topic.
 * A message without a key never comes here; an empty key is a key.
 */
#ifndef SALVO_PARTITION_H
#define SALVO_PARTITION_H

#include <stddef.h>
#include <stdint.h>

uint32_t salvo_murmur2(const void *data, size_t len);

/* 0 .. partitions - 1; partitions must be at least 1. */
int32_t salvo_partition_for_key(const void *key, size_t len, int32_t partitions);

#endif
