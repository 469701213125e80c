/* SPDX-License-Identifier: Apache-2.0
 *
 * Partitions by key: guarantees that hash and partition are the Java client's for every vector.
 */
#include "partition.h"

#include "murmur2_vectors.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define VECTORS (sizeof murmur2_vectors / sizeof *murmur2_vectors)
#define PARTITION_COUNTS (sizeof murmur2_partition_counts / sizeof *murmur2_partition_counts)

static void hash_is_the_java_clients(void **state)
{
    (void)state;
    assert_true(VECTORS >= 200);
    for (size_t i = 0; i < VECTORS; i++) {
        const struct murmur2_vector *v = &murmur2_vectors[i];
        assert_int_equal(salvo_murmur2(v->key, v->len), v->hash);
    }
}

static void partition_is_the_java_clients(void **state)
{
    (void)state;
    for (size_t i = 0; i < VECTORS; i++) {
        const struct murmur2_vector *v = &murmur2_vectors[i];
        for (size_t n = 0; n < PARTITION_COUNTS; n++)
            assert_int_equal(
                salvo_partition_for_key(v->key, v->len, murmur2_partition_counts[n]),
                v->partition[n]);
    }
}

/* Keys in a ring lie anywhere, and nothing behind them belongs to them. */
static void any_alignment_and_no_byte_beyond(void **state)
{
    (void)state;
    for (size_t i = 0; i < VECTORS; i++) {
        const struct murmur2_vector *v = &murmur2_vectors[i];
        for (size_t shift = 0; shift < 8; shift++) {
            char *exact = malloc(v->len + shift + 1); /* a sanitizer sees a byte too many */
            assert_non_null(exact);
            memset(exact, 0x5a, v->len + shift + 1);
            memcpy(exact + shift, v->key, v->len);
            assert_int_equal(salvo_murmur2(exact + shift, v->len), v->hash);
            free(exact);
        }
    }
}

/* The vectors hold hashes with the sign bit set and without, or they would prove little. */
static void largest_count_stays_in_range(void **state)
{
    size_t negative = 0;

    (void)state;
    for (size_t i = 0; i < VECTORS; i++) {
        const struct murmur2_vector *v = &murmur2_vectors[i];
        int32_t partition = salvo_partition_for_key(v->key, v->len, INT32_MAX);
        assert_true(partition >= 0 && partition < INT32_MAX);
        negative += v->hash >> 31;
    }
    assert_true(negative > VECTORS / 4 && negative < VECTORS * 3 / 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hash_is_the_java_clients),
        cmocka_unit_test(partition_is_the_java_clients),
        cmocka_unit_test(any_alignment_and_no_byte_beyond),
        cmocka_unit_test(largest_count_stays_in_range),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
