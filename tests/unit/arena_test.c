/* SPDX-License-Identifier: Apache-2.0
 *
 * The arena: sizes, alignment, exhaustion, and that free blocks grow together again.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "arena.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { MIB = 1 << 20 };

static uint64_t used(salvo_arena *a)
{
    return atomic_load(&a->used);
}

static void rounds_sizes_up_and_aligns(void **state)
{
    (void)state;
    salvo_arena a;
    const struct {
        uint64_t asked, given;
    } cases[] = {{1, 4096}, {4096, 4096}, {4097, 8192}, {100000, 131072}, {MIB, MIB}};
    assert_int_equal(salvo_arena_open(&a, 4 * MIB, MIB), 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t size = 0;
        unsigned char *block = salvo_arena_take(&a, cases[i].asked, &size);
        assert_non_null(block);
        assert_int_equal(size, cases[i].given);
        assert_int_equal((uint64_t)(block - a.base) % size, 0);
        assert_int_equal(used(&a), size);
        salvo_arena_give(&a, block);
        assert_int_equal(used(&a), 0);
    }
    uint64_t size;
    assert_null(salvo_arena_take(&a, MIB + 1, &size));
    salvo_arena_close(&a);
}

static void refuses_impossible_sizes(void **state)
{
    (void)state;
    salvo_arena a;
    assert_int_equal(salvo_arena_open(&a, MIB - 1, MIB), -EINVAL);
    assert_int_equal(salvo_arena_open(&a, UINT64_C(1) << 40, UINT64_C(1) << 40), -EINVAL);
    assert_int_equal(salvo_arena_open(&a, 3 * MIB + 5, MIB - 7), 0); /* both are rounded */
    assert_int_equal(a.bytes, 3 * MIB);
    salvo_arena_close(&a);
    salvo_arena_close(&a); /* harmless */
}

static void grows_together_again(void **state)
{
    (void)state;
    salvo_arena a;
    void *blocks[512];
    uint64_t size;
    assert_int_equal(salvo_arena_open(&a, 2 * MIB, MIB), 0);
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < 512; i++)
            assert_non_null(blocks[i] = salvo_arena_take(&a, 4096, &size));
        assert_null(salvo_arena_take(&a, 1, &size));
        assert_int_equal(used(&a), 2 * MIB);
        for (size_t i = 0; i < 512; i++) /* odd ones first: no buddies until the second half */
            salvo_arena_give(&a, blocks[i < 256 ? 2 * i + 1 : 2 * (i - 256)]);
        assert_int_equal(used(&a), 0);
        void *top[2];
        for (int i = 0; i < 2; i++)
            assert_non_null(top[i] = salvo_arena_take(&a, MIB, &size));
        salvo_arena_give(&a, top[0]);
        salvo_arena_give(&a, top[1]);
    }
    salvo_arena_close(&a);
}

/* Every block is filled with its number; whoever overlaps another one destroys it. */
static void blocks_never_overlap(void **state)
{
    (void)state;
    enum { BLOCKS = 64, TURNS = 20000 };
    struct {
        unsigned char *at;
        uint64_t size;
    } held[BLOCKS] = {0};
    salvo_arena a;
    uint64_t sum = 0;
    unsigned seed = 7;
    assert_int_equal(salvo_arena_open(&a, 4 * MIB, MIB), 0);
    for (int turn = 0; turn < TURNS; turn++) {
        size_t i = (size_t)rand_r(&seed) % BLOCKS;
        if (held[i].at != NULL) {
            assert_int_equal(held[i].at[0], i);
            assert_int_equal(held[i].at[held[i].size - 1], i);
            salvo_arena_give(&a, held[i].at);
            sum -= held[i].size;
            held[i].at = NULL;
        } else if ((held[i].at = salvo_arena_take(&a, 1 + (uint64_t)rand_r(&seed) % 200000,
                                                  &held[i].size)) != NULL) {
            held[i].at[0] = held[i].at[held[i].size - 1] = (unsigned char)i;
            sum += held[i].size;
        }
        assert_int_equal(used(&a), sum);
    }
    salvo_arena_close(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rounds_sizes_up_and_aligns),
        cmocka_unit_test(refuses_impossible_sizes),
        cmocka_unit_test(grows_together_again),
        cmocka_unit_test(blocks_never_overlap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
