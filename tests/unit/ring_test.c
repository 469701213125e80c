/* SPDX-License-Identifier: Apache-2.0
 *
 * The ring alone, one thread, a consumer by hand. Every behaviour is run from all starts of the
 * counters (just below each wrap) and, where it applies, in both mappings.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <cmocka.h>

#include "ring.h"

#define BYTES (64u << 10)
#define UNITS (BYTES / SALVO_RING_UNIT)
#define DESCRIPTORS 64u

static const uint32_t starts[] = {0, 1, 0xFFFFFFF0u, 0xFFFFFFFFu, 0x7FFFFFF8u, 0xFFFFFFC1u};
#define STARTS (sizeof starts / sizeof starts[0])

typedef void body(salvo_ring *ring, const salvo_ring_options *options);

/* Run body from every start, with flags. */
static void from_all_starts(body *run, uint32_t flags)
{
    for (size_t i = 0; i < STARTS; i++) {
        for (size_t j = 0; j < STARTS; j++) {
            salvo_ring_options options = {BYTES, DESCRIPTORS, flags, starts[i], starts[j]};
            salvo_ring ring;
            assert_int_equal(salvo_ring_open(&ring, &options), 0);
            run(&ring, &options);
            salvo_ring_close(&ring);
        }
    }
}

static void in_both_modes(body *run)
{
    from_all_starts(run, 0);
    from_all_starts(run, SALVO_RING_UNMIRRORED);
}

static void commit(salvo_ring *ring, salvo_ring_claim c, uint32_t length, uint32_t tag)
{
    salvo_ring_commit(ring, c.sequence, c.position, length, tag, 0, 7, 1);
}

static const salvo_ring_desc *desc_at(const salvo_ring *ring, uint32_t sequence)
{
    return &ring->desc[sequence & ring->desc_mask];
}

static void test_options(void **state)
{
    (void)state;
    const salvo_ring_options bad[] = {
        {0, 64, 0, 0, 0},         {BYTES / 2, 64, 0, 0, 0}, {BYTES + 8, 64, 0, 0, 0},
        {BYTES * 3, 64, 0, 0, 0}, {BYTES, 0, 0, 0, 0},      {BYTES, 8, 0, 0, 0},
        {BYTES, 65, 0, 0, 0},     {BYTES, 1u << 31, 0, 0, 0}, {BYTES, 64, 2, 0, 0},
    };
    salvo_ring ring;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(salvo_ring_open(&ring, &bad[i]), -EINVAL);
        salvo_ring_close(&ring); /* harmless after a failed open */
    }
    salvo_ring_options good = {BYTES, 1024, 0, 0, 0};
    assert_int_equal(salvo_ring_footprint(&good), 4096 + 1024 * 32 + BYTES);
}

static void test_units(void **state)
{
    (void)state;
    assert_int_equal(salvo_ring_units(0), 1);
    assert_int_equal(salvo_ring_units(1), 1);
    assert_int_equal(salvo_ring_units(8), 1);
    assert_int_equal(salvo_ring_units(9), 2);
    assert_int_equal(salvo_ring_units(UINT32_MAX), 1u << 29);
}

static void nothing_ready(salvo_ring *ring, const salvo_ring_options *options)
{
    for (uint32_t k = 0; k < DESCRIPTORS; k++)
        assert_false(salvo_ring_ready(ring, options->start_sequence + k));
    assert_true(salvo_ring_empty(ring));
    assert_int_equal(salvo_ring_used_bytes(ring), 0);
}

static void test_nothing_ready_at_open(void **state)
{
    (void)state;
    in_both_modes(nothing_ready);
}

static void full_of_descriptors(salvo_ring *ring, const salvo_ring_options *options)
{
    salvo_ring_claim c;
    for (uint32_t k = 0; k < DESCRIPTORS; k++) {
        assert_int_equal(salvo_ring_claim_n(ring, 1, 1, &c), 0);
        /* From some starts, padding may shift by one; single units never need it. */
        assert_int_equal(c.sequence, options->start_sequence + k);
        assert_int_equal(c.position, options->start_position + k);
        assert_false(salvo_ring_ready(ring, c.sequence));
        commit(ring, c, 8, k);
        assert_true(salvo_ring_ready(ring, c.sequence));
        assert_false(salvo_ring_empty(ring));
        assert_int_equal(salvo_ring_used_bytes(ring), (k + 1) * 8);
    }
    assert_int_equal(salvo_ring_claim_n(ring, 1, 1, &c), SALVO_RING_FULL);
    /* One record released: one fits, two do not. */
    salvo_ring_release(ring, salvo_ring_pack(options->start_sequence + 1,
                                             options->start_position + 1));
    assert_int_equal(salvo_ring_claim_n(ring, 2, 2, &c), SALVO_RING_FULL);
    assert_int_equal(salvo_ring_claim_n(ring, 1, 1, &c), 0);
    assert_false(salvo_ring_ready(ring, c.sequence)); /* the slot's last lap does not count */
    assert_int_equal(salvo_ring_claim_n(ring, 1, 1, &c), SALVO_RING_FULL);
}

static void test_full_of_descriptors(void **state)
{
    (void)state;
    in_both_modes(full_of_descriptors);
}

static void full_of_units(salvo_ring *ring, const salvo_ring_options *options)
{
    salvo_ring_claim c;
    for (uint32_t k = 0; k < 4; k++)
        assert_int_equal(salvo_ring_claim_n(ring, 1, UNITS / 4, &c), 0);
    assert_int_equal(salvo_ring_used_bytes(ring), BYTES);
    assert_int_equal(salvo_ring_claim_n(ring, 1, 1, &c), SALVO_RING_FULL);
    salvo_ring_release(ring, salvo_ring_pack(options->start_sequence + 1,
                                             options->start_position + UNITS / 4));
    assert_int_equal(salvo_ring_claim_n(ring, 1, UNITS / 4, &c), 0);
    assert_int_equal(c.position, options->start_position + UNITS);
    assert_int_equal(salvo_ring_claim_n(ring, 1, 1, &c), SALVO_RING_FULL);
    salvo_ring_release(ring, salvo_ring_tail(ring));
    assert_true(salvo_ring_empty(ring));
    assert_int_equal(salvo_ring_used_bytes(ring), 0);
}

static void test_full_of_units(void **state)
{
    (void)state;
    from_all_starts(full_of_units, 0);
}

static void too_large(salvo_ring *ring, const salvo_ring_options *options)
{
    (void)options;
    salvo_ring_claim c;
    uint64_t before = salvo_ring_tail(ring);
    assert_int_equal(salvo_ring_claim_n(ring, 1, UNITS / 4 + 1, &c), SALVO_RING_NEVER);
    assert_int_equal(salvo_ring_claim_n(ring, 1, UINT32_MAX, &c), SALVO_RING_NEVER);
    assert_int_equal(salvo_ring_claim_n(ring, DESCRIPTORS / 4 + 1, UNITS / 4, &c),
                     SALVO_RING_NEVER);
    assert_true(before == salvo_ring_tail(ring));
    assert_int_equal(salvo_ring_claim_n(ring, DESCRIPTORS / 4, UNITS / 4, &c), 0);
}

static void test_too_large(void **state)
{
    (void)state;
    in_both_modes(too_large);
}

/* Random claims of 1 to 5 records through many laps; checks slots, contents and bounds. */
static void many_laps(salvo_ring *ring, const salvo_ring_options *options)
{
    uint64_t head = salvo_ring_pack(options->start_sequence, options->start_position);
    uint32_t random = 12345, tag = 0, expected = 0;
    for (int round = 0; round < 2000; round++) {
        random = random * 1664525u + 1013904223u;
        uint32_t n = 1 + (random >> 28) % 5, length = (random >> 8) % 1500;
        uint32_t each = salvo_ring_units(length);
        salvo_ring_claim c;
        while (salvo_ring_claim_n(ring, n, n * each, &c) != 0) {
            uint32_t sequence = salvo_ring_sequence(head);
            assert_true(salvo_ring_ready(ring, sequence)); /* full, so there is one */
            const salvo_ring_desc *d = desc_at(ring, sequence);
            if (!(d->flags & SALVO_RING_ABORTED)) {
                assert_int_equal(d->tag, expected);
                const unsigned char *p = salvo_ring_payload(ring, d->position);
                for (uint32_t b = 0; b < d->length; b++)
                    assert_int_equal(p[b], (unsigned char)(expected + b));
                expected++;
            } else {
                assert_int_equal(d->claimant, SALVO_RING_NOBODY);
                assert_int_equal((d->position + d->length / 8) % UNITS, 0);
            }
            assert_int_equal(d->position, salvo_ring_position(head));
            head = salvo_ring_pack(sequence + 1, d->position + salvo_ring_units(d->length));
            salvo_ring_release(ring, head);
        }
        assert_true(salvo_ring_used_bytes(ring) <= BYTES);
        if (options->flags & SALVO_RING_UNMIRRORED)
            assert_true(c.position % UNITS + n * each <= UNITS);
        for (uint32_t k = 0; k < n; k++, tag++) {
            salvo_ring_claim one = {c.sequence + k, c.position + k * each};
            unsigned char *p = salvo_ring_payload(ring, one.position);
            for (uint32_t b = 0; b < length; b++)
                p[b] = (unsigned char)(tag + b);
            commit(ring, one, length, tag);
        }
    }
    assert_true(tag - expected <= DESCRIPTORS && expected > 1000);
}

static void test_many_laps(void **state)
{
    (void)state;
    in_both_modes(many_laps);
}

static void test_mirror(void **state)
{
    (void)state;
    salvo_ring_options options = {BYTES, DESCRIPTORS, 0, 0, UNITS - 1};
    salvo_ring ring;
    assert_int_equal(salvo_ring_open(&ring, &options), 0);
    salvo_ring_claim c;
    assert_int_equal(salvo_ring_claim_n(&ring, 1, 2, &c), 0);
    memcpy(salvo_ring_payload(&ring, c.position), "0123456789abcdef", 16);
    assert_memory_equal(ring.bytes, "89abcdef", 8); /* the end is the beginning */
    assert_memory_equal(ring.bytes + BYTES, "89abcdef", 8);
    salvo_ring_close(&ring);
}

static void test_padding(void **state)
{
    (void)state;
    salvo_ring_options options = {BYTES, DESCRIPTORS, SALVO_RING_UNMIRRORED, 5, UNITS - 3};
    salvo_ring ring;
    assert_int_equal(salvo_ring_open(&ring, &options), 0);
    salvo_ring_claim c;
    assert_int_equal(salvo_ring_claim_n(&ring, 2, 4, &c), 0);
    assert_int_equal(c.sequence, 6);
    assert_int_equal(c.position, UNITS);
    assert_ptr_equal(salvo_ring_payload(&ring, c.position), ring.bytes);
    assert_true(salvo_ring_ready(&ring, 5));
    assert_true(desc_at(&ring, 5)->flags & SALVO_RING_ABORTED);
    assert_int_equal(desc_at(&ring, 5)->length, 24);
    assert_false(salvo_ring_ready(&ring, 6));
    assert_int_equal(salvo_ring_tail(&ring) >> 32, 8);
    assert_int_equal(salvo_ring_used_bytes(&ring), 7 * 8);
    salvo_ring_close(&ring);
    /* A claim that ends exactly at the end needs no padding. */
    assert_int_equal(salvo_ring_open(&ring, &options), 0);
    assert_int_equal(salvo_ring_claim_n(&ring, 1, 3, &c), 0);
    assert_int_equal(c.sequence, 5);
    salvo_ring_close(&ring);
}

static void test_abort(void **state)
{
    (void)state;
    salvo_ring_options options = {BYTES, DESCRIPTORS, 0, 0, 0};
    salvo_ring ring;
    assert_int_equal(salvo_ring_open(&ring, &options), 0);
    salvo_ring_claim c;
    assert_int_equal(salvo_ring_claim_n(&ring, 1, 4, &c), 0);
    salvo_ring_commit(&ring, c.sequence, c.position, 32, 1, SALVO_RING_ABORTED | 0x50000u, 9, 3);
    assert_true(salvo_ring_ready(&ring, c.sequence));
    assert_int_equal(desc_at(&ring, c.sequence)->flags, SALVO_RING_ABORTED | 0x50000u);
    assert_int_equal(desc_at(&ring, c.sequence)->claimant, 9);
    salvo_ring_close(&ring);
}

/* What refresh does with views that are stale. */
static void test_refresh(void **state)
{
    (void)state;
    salvo_ring_options options = {BYTES, DESCRIPTORS, 0, 0xFFFFFFFEu, 0xFFFFFFFEu};
    salvo_ring ring;
    assert_int_equal(salvo_ring_open(&ring, &options), 0);
    uint64_t start = salvo_ring_tail(&ring);
    salvo_ring_claim c;
    for (int i = 0; i < 4; i++)
        assert_int_equal(salvo_ring_claim_n(&ring, 1, 1, &c), 0);
    /* The tail has moved: look again, nothing said about full. */
    uint64_t tail = start;
    assert_int_equal(salvo_ring_refresh(&ring, &tail, start), 0);
    assert_true(tail == salvo_ring_tail(&ring));
    /* Nothing was released: full. */
    assert_int_equal(salvo_ring_refresh(&ring, &tail, start), SALVO_RING_FULL);
    /* Released: cached_head follows. */
    uint64_t first = salvo_ring_pack(0xFFFFFFFFu, 0xFFFFFFFFu), second = salvo_ring_pack(0, 0);
    salvo_ring_release(&ring, first);
    assert_int_equal(salvo_ring_refresh(&ring, &tail, start), 0);
    assert_true(atomic_load(&ring.segment->cached_head) == first);
    salvo_ring_release(&ring, second);
    /* A sleeper that still holds the oldest value must not move cached_head. */
    assert_int_equal(salvo_ring_refresh(&ring, &tail, start), 0);
    assert_true(atomic_load(&ring.segment->cached_head) == first);
    salvo_ring_close(&ring);
}

/* A tail behind the cached head looks like 2^32 - x used: never room, whatever n adds to it. */
static void test_stale_tail(void **state)
{
    (void)state;
    salvo_ring_options options = {BYTES, DESCRIPTORS, 0, 0, 0};
    salvo_ring ring;
    assert_int_equal(salvo_ring_open(&ring, &options), 0);
    uint64_t head = salvo_ring_pack(10, 100);
    for (uint32_t n = 1; n <= 16; n++) {
        assert_false(salvo_ring_fits(&ring, salvo_ring_pack(10 - n, 100 - n), head, n, n));
        assert_false(salvo_ring_fits(&ring, salvo_ring_pack(10, 100 - n), head, n, n));
        assert_false(salvo_ring_fits(&ring, salvo_ring_pack(10 - n, 100), head, n, n));
        assert_true(salvo_ring_fits(&ring, head, head, n, n));
    }
    salvo_ring_close(&ring);
}

static void no_faults(salvo_ring *ring, const salvo_ring_options *options)
{
    (void)options;
    struct rusage before, after;
    size_t end = ring->flags & SALVO_RING_UNMIRRORED ? BYTES : 2 * BYTES;
    getrusage(RUSAGE_SELF, &before);
    for (size_t at = 0; at < end; at += 4096)
        ring->bytes[at] = 1;
    for (uint32_t i = 0; i < DESCRIPTORS; i++)
        ring->desc[i].tag = 1;
    getrusage(RUSAGE_SELF, &after);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* shadows fault */
    assert_int_equal(after.ru_minflt, before.ru_minflt);
#endif
}

static void test_no_faults_after_open(void **state)
{
    (void)state;
    struct rusage warm; /* the first call may fault by itself */
    getrusage(RUSAGE_SELF, &warm);
    in_both_modes(no_faults);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_units),
        cmocka_unit_test(test_nothing_ready_at_open),
        cmocka_unit_test(test_full_of_descriptors),
        cmocka_unit_test(test_full_of_units),
        cmocka_unit_test(test_too_large),
        cmocka_unit_test(test_many_laps),
        cmocka_unit_test(test_mirror),
        cmocka_unit_test(test_padding),
        cmocka_unit_test(test_abort),
        cmocka_unit_test(test_refresh),
        cmocka_unit_test(test_stale_tail),
        cmocka_unit_test(test_no_faults_after_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
