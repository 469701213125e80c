/* SPDX-License-Identifier: Apache-2.0
 *
 * A plan's ledgers of sizes against the ring and the drain themselves: the same random claims,
 * passes and releases on both, and every answer, place and order must be the same; and the batch
 * pool that keeps no bytes against the one that does.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "batch.h"
#include "plan/draw.h"
#include "plan/sizes.h"
#include <stdlib.h>

enum { RINGS = 3, STEPS = 60000 };

typedef struct pair {
    salvo_ring real[RINGS], view[RINGS];
    salvo_drain drain;
    salvo_sizes *sizes;
    uint64_t stamp;
    salvo_draw draw;
    unsigned full, never, padded, passes;
} pair;

static void open_pair(pair *p, const salvo_ring_options *o, uint64_t seed)
{
    salvo_ring *list[RINGS];
    *p = (pair){.stamp = 1000, .draw = salvo_draw_stream(seed, 77, 0)};
    for (int i = 0; i < RINGS; i++) {
        assert_int_equal(salvo_ring_open(&p->real[i], o), 0);
        p->view[i] = salvo_sizes_view(o);
        list[i] = &p->real[i];
    }
    assert_int_equal(salvo_drain_open(&p->drain, list, RINGS, UINT64_MAX), 0);
    p->sizes = salvo_sizes_new(p->view, RINGS);
    assert_non_null(p->sizes);
}

static void close_pair(pair *p)
{
    salvo_sizes_free(p->sizes);
    salvo_drain_close(&p->drain);
    for (int i = 0; i < RINGS; i++)
        salvo_ring_close(&p->real[i]);
}

/* Small ones mostly, some that wrap early, some that never fit. */
static uint32_t some_length(pair *p)
{
    uint64_t kind = salvo_draw_below(&p->draw, 20), quarter = p->real[0].max_units * 8;
    if (kind == 0)
        return (uint32_t)(quarter - 8 + salvo_draw_below(&p->draw, 64));
    if (kind < 4)
        return (uint32_t)salvo_draw_below(&p->draw, quarter);
    return 16 + (uint32_t)salvo_draw_below(&p->draw, 400);
}

static void claim_both(pair *p)
{
    uint32_t ring = (uint32_t)salvo_draw_below(&p->draw, RINGS), length = some_length(p);
    salvo_ring_claim a = {0}, b = {0};
    salvo_sizes_record record = {.stamp = p->stamp += salvo_draw_below(&p->draw, 2),
                                 .length = length, .topic = 5};
    uint32_t before = salvo_ring_sequence(salvo_ring_tail(&p->real[ring]));
    int real = salvo_ring_claim_n(&p->real[ring], 1, salvo_ring_units(length), &a);
    assert_int_equal(salvo_sizes_claim(p->sizes, ring, &record, &b), real);
    p->full += real == SALVO_RING_FULL;
    p->never += real == SALVO_RING_NEVER;
    if (real == 0) {
        p->padded += a.sequence != before;
        assert_int_equal(a.sequence, b.sequence);
        assert_int_equal(a.position, b.position);
        salvo_ring_commit(&p->real[ring], a.sequence, a.position, length, 5, 0, 0, record.stamp);
    }
    assert_int_equal(salvo_ring_tail(&p->real[ring]), salvo_ring_tail(&p->view[ring]));
    assert_int_equal(salvo_ring_used_bytes(&p->real[ring]), salvo_ring_used_bytes(&p->view[ring]));
}

static void pass_both(pair *p)
{
    uint64_t t0 = p->stamp - salvo_draw_below(&p->draw, 3); /* the latest may be left behind */
    uint64_t most = salvo_draw_below(&p->draw, 4) == 0 ? 1 + salvo_draw_below(&p->draw, 20)
                                                       : UINT64_MAX;
    salvo_drain_record a, b;
    salvo_drain_begin(&p->drain, t0);
    salvo_sizes_begin(p->sizes, t0);
    for (uint64_t n = 0; n < most; n++) {
        bool got = salvo_drain_peek(&p->drain, &a);
        assert_int_equal(salvo_sizes_peek(p->sizes, &b), got);
        if (!got)
            break;
        assert_int_equal(a.stamp, b.stamp);
        assert_int_equal(a.length, b.length);
        assert_int_equal(a.ring, b.ring);
        assert_int_equal(a.tag, b.tag);
        salvo_drain_advance(&p->drain);
        salvo_sizes_advance(p->sizes);
    }
    salvo_drain_release(&p->drain);
    salvo_sizes_release(p->sizes);
    for (int i = 0; i < RINGS; i++)
        assert_int_equal(salvo_ring_head(&p->real[i]), salvo_ring_head(&p->view[i]));
    assert_int_equal(salvo_drain_backlog(&p->drain), salvo_sizes_backlog(p->sizes));
    p->passes++;
}

static void play(uint32_t flags, uint32_t descriptors, uint64_t seed)
{
    pair p;
    const salvo_ring_options o = {.bytes = 64 << 10, .descriptors = descriptors, .flags = flags};
    open_pair(&p, &o, seed);
    for (int i = 0; i < STEPS; i++) {
        if (salvo_draw_below(&p.draw, 60) == 0)
            pass_both(&p);
        else
            claim_both(&p);
    }
    /* The play must have met what it is about. */
    assert_true(p.full > 100 && p.never > 100 && p.passes > 100);
    assert_true(flags == 0 ? p.padded == 0 : p.padded > 100);
    close_pair(&p);
}

static void same_as_the_ring(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 4; seed++) {
        play(0, 1024, seed);
        play(SALVO_RING_UNMIRRORED, 1024, seed);
        play(SALVO_RING_UNMIRRORED, 64, seed); /* descriptors run out first */
    }
}

static void same_pool(void **state)
{
    enum { OPEN = 32 };
    salvo_batch_pool a, b;
    salvo_batch *in_a[OPEN] = {0}, *in_b[OPEN] = {0};
    static unsigned char bytes[70000];
    salvo_draw d = salvo_draw_stream(9, 9, 9);
    unsigned refused = 0;
    (void)state;
    assert_int_equal(salvo_batch_pool_open(&a, 4 << 20, 1000), 0);
    assert_int_equal(salvo_batch_pool_open_sizes(&b, 4 << 20, 1000), 0);
    assert_int_equal(a.arena.bytes, b.arena.bytes);
    for (int i = 0; i < 300000; i++) {
        uint64_t at = salvo_draw_below(&d, OPEN);
        if (in_a[at] == NULL) {
            in_a[at] = salvo_batch_open(&a, 1, 2);
            in_b[at] = salvo_batch_open(&b, 1, 2);
            assert_int_equal(in_a[at]->index, in_b[at]->index);
            assert_int_equal(in_a[at]->turn, in_b[at]->turn);
        }
        salvo_batch_item item = {.payload = bytes, .length = 16 + (uint32_t)salvo_draw_below(
                                     &d, salvo_draw_below(&d, 50) == 0 ? 60000 : 900)};
        item.head.value_len = item.length - 16;
        bool took = salvo_batch_append(&a, in_a[at], &item, 128 << 10);
        assert_int_equal(salvo_batch_append(&b, in_b[at], &item, 128 << 10), took);
        refused += !took;
        assert_int_equal(in_a[at]->arena_bytes, in_b[at]->arena_bytes);
        assert_int_equal(in_a[at]->driver.bytes, in_b[at]->driver.bytes);
        if (!took || salvo_draw_below(&d, 200) == 0) {
            unsigned n = 0;
            salvo_batch_walk walk = salvo_batch_walk_start(in_b[at]);
            while (salvo_batch_walk_next(&walk) != NULL)
                n++;
            assert_int_equal(n, in_a[at]->records);
            salvo_batch_free(&a, in_a[at]);
            salvo_batch_free(&b, in_b[at]);
            in_a[at] = in_b[at] = NULL;
        }
        assert_int_equal(atomic_load(&a.arena.used), atomic_load(&b.arena.used));
    }
    assert_true(refused > 10);
    salvo_batch_pool_close(&a);
    salvo_batch_pool_close(&b);
}

/* 100 GB of messages of 100 KB are accounted for in a few MB of memory. */
static void large_on_a_laptop(void **state)
{
    salvo_batch_pool pool;
    static unsigned char bytes[1];
    uint64_t wanted = UINT64_C(100) << 30, taken = 0;
    (void)state;
    assert_int_equal(salvo_batch_pool_open_sizes(&pool, wanted, 1 << 20), 0);
    salvo_batch_item item = {.payload = bytes, .length = 100000};
    item.head.value_len = item.length - 16;
    while (taken < UINT64_C(99) << 30) {
        salvo_batch *b = salvo_batch_open(&pool, 0, 0);
        assert_non_null(b);
        for (int i = 0; i < 5; i++)
            assert_true(salvo_batch_append(&pool, b, &item, 512 << 10));
        taken += b->arena_bytes;
    }
    assert_true(atomic_load(&pool.arena.used) >= UINT64_C(99) << 30);
    salvo_batch_pool_close(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_as_the_ring),
        cmocka_unit_test(same_pool),
        cmocka_unit_test(large_on_a_laptop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
