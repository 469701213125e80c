/* SPDX-License-Identifier: Apache-2.0
 *
 * Slow moments, scatter and pauses of synthetic flows are told apart, and none is told twice.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "probe_noise.h"

#define US INT64_C(1000)
#define SLICE INT64_C(50000000)
enum { SLICES = 4, EACH = 50, COUNT = SLICES * EACH };

/* 50 requests a slice: 1 ms, in the third 1.5 ms, of which every other one is off by so much. */
static void make(salvo_noise_request *requests, int64_t scatter_ns)
{
    for (int i = 0; i < COUNT; i++) {
        int64_t middle = i / EACH == 2 ? 1500 * US : 1000 * US;
        int64_t off = i % 5 == 0 ? -scatter_ns : i % 5 == 1 ? scatter_ns : 0;
        requests[i] = (salvo_noise_request){middle + off, i / EACH * SLICE + i % EACH * 1000 * US};
    }
}

static void a_slow_slice_is_pace(void **state)
{
    static const uint32_t should[SLICES] = {1000, 1000, 1500, 1000};
    salvo_noise_request requests[COUNT];
    salvo_noise n = {0};
    int64_t table[NOISE_TABLE];
    (void)state;
    make(requests, 100 * US);
    assert_int_equal(salvo_noise_add(&n, requests, COUNT, false), 0);
    assert_int_equal(n.pace_count, SLICES);
    assert_memory_equal(n.pace_permille, should, sizeof should);
    assert_int_equal(salvo_noise_residuals(&n, table), 1);
    assert_int_equal(table[0], -100 * US); /* the slow slice's are no larger */
    assert_int_equal(table[NOISE_TABLE / 2], 0);
    assert_int_equal(table[NOISE_TABLE - 1], 100 * US);
    salvo_noise_free(&n);
}

static void a_pause_is_no_residual(void **state)
{
    salvo_noise_request requests[COUNT];
    salvo_noise n = {0};
    int64_t table[NOISE_TABLE];
    (void)state;
    make(requests, 0);
    requests[7].took_ns = 8000 * US;   /* rested */
    requests[120].took_ns = 3900 * US; /* late, by less than 3 ms */
    assert_int_equal(salvo_noise_add(&n, requests, COUNT, false), 1);
    assert_int_equal(n.pause_count, 1);
    assert_int_equal(n.pauses_ns[0], 7000 * US);
    assert_int_equal(n.pace_permille[0], 1000);
    salvo_noise_residuals(&n, table);
    assert_int_equal(table[NOISE_TABLE - 1], 2400 * US);
    salvo_noise_free(&n);
    n = (salvo_noise){0};
    for (int i = 50; i < 100; i++)
        requests[i].took_ns = 4500 * US; /* a whole slice of them */
    assert_int_equal(salvo_noise_add(&n, requests, COUNT, false), 51);
    assert_int_equal(n.pace_permille[1], 1000); /* is not told again */
    salvo_noise_free(&n);
}

/* A pause that several requests meet is one, and as long as the first of them waited. */
static void late_ones_in_a_row_met_one_pause(void **state)
{
    int64_t took[COUNT];
    salvo_noise n = {0};
    (void)state;
    for (int i = 0; i < COUNT; i++)
        took[i] = 1000 * US;
    took[10] = 6000 * US;
    took[11] = 5000 * US;
    took[12] = 4200 * US;
    took[50] = 9000 * US;
    took[60] = 3900 * US; /* late, by less than 3 ms */
    assert_int_equal(salvo_noise_watch(&n, took, COUNT), 2);
    assert_int_equal(n.pause_count, 2);
    assert_int_equal(n.pauses_ns[0], 5000 * US);
    assert_int_equal(n.pauses_ns[1], 8000 * US);
    assert_int_equal(salvo_noise_watch(&n, took, 99), 0); /* too few */
    salvo_noise_free(&n);
}

static void flows_weigh_alike(void **state)
{
    salvo_noise_request requests[COUNT];
    salvo_noise n = {0};
    int64_t table[NOISE_TABLE];
    (void)state;
    make(requests, 0);
    salvo_noise_add(&n, requests, COUNT, false);
    make(requests, 100 * US);
    salvo_noise_add(&n, requests, COUNT / 2, false); /* half as many: a fifth of them is later */
    assert_int_equal(salvo_noise_residuals(&n, table), 2);
    assert_int_equal(n.pace_count, SLICES + SLICES / 2);
    assert_int_equal(table[NOISE_TABLE * 88 / 100], 0);
    assert_int_equal(table[NOISE_TABLE * 92 / 100], 100 * US);
    salvo_noise_free(&n);
}

static void what_tells_little_is_left(void **state)
{
    salvo_noise_request requests[COUNT];
    salvo_noise n = {0};
    int64_t table[NOISE_TABLE] = {42};
    (void)state;
    make(requests, 0);
    requests[3].took_ns = 9000 * US;
    assert_int_equal(salvo_noise_add(&n, requests, 99, false), 0); /* too few */
    assert_int_equal(salvo_noise_add(&n, requests, COUNT, true), 1); /* pauses only */
    assert_int_equal(n.pace_count, 0);
    assert_int_equal(salvo_noise_residuals(&n, table), 0);
    assert_int_equal(table[0], 42);
    make(requests, 0);
    requests[COUNT - 4].ended_ns = requests[COUNT - 3].ended_ns = requests[COUNT - 2].ended_ns =
        requests[COUNT - 1].ended_ns = SLICES * SLICE;
    for (int i = COUNT - 4; i < COUNT; i++)
        requests[i].took_ns = 2000 * US;
    salvo_noise_add(&n, requests, COUNT, false); /* a slice of four is no pace */
    assert_int_equal(n.pace_count, SLICES + 1);
    assert_int_equal(n.pace_permille[SLICES], 1000);
    salvo_noise_free(&n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_slow_slice_is_pace),
        cmocka_unit_test(a_pause_is_no_residual),
        cmocka_unit_test(late_ones_in_a_row_met_one_pause),
        cmocka_unit_test(flows_weigh_alike),
        cmocka_unit_test(what_tells_little_is_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
