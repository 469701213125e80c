/* SPDX-License-Identifier: Apache-2.0
 *
 * Histograms: guarantees HdrHistogram's bucket boundaries, exact percentiles of known sets, exact
 * count, min, max and mean, saturation, merging, and the text form line by line.
 */
#include "histogram.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define HOUR_NS UINT64_C(3600000000000)

static salvo_histogram *fresh(void)
{
    salvo_histogram *h = salvo_histogram_new(3);

    assert_non_null(h);
    return h;
}

/* What is reported for value when larger ones are there too: the end of its range. */
static uint64_t reported(uint64_t value)
{
    salvo_histogram *h = fresh();

    salvo_histogram_record(h, value, 10);
    salvo_histogram_record(h, HOUR_NS, 1);
    uint64_t at = salvo_histogram_at(h, 50.0);
    salvo_histogram_free(h);
    return at;
}

static void empty_is_all_zero(void **state)
{
    salvo_histogram *h = fresh();
    salvo_latency zero, l;

    (void)state;
    memset(&zero, 0, sizeof zero);
    memset(&l, 0xff, sizeof l);
    salvo_histogram_summary(h, &l);
    assert_memory_equal(&l, &zero, sizeof l);
    assert_int_equal(salvo_histogram_at(h, 99.0), 0);
    salvo_histogram_record(h, 5, 0);
    salvo_histogram_summary(h, &l);
    assert_memory_equal(&l, &zero, sizeof l);
    salvo_histogram_free(h);
}

/* value, and the highest value that HdrHistogram (1 .. 1 h, 3 digits) holds equivalent to it. */
static void buckets_end_where_hdrhistograms_do(void **state)
{
    static const uint64_t pairs[][2] = {
        {0, 0},         {1, 1},         {1023, 1023},   {1024, 1024},   {2047, 2047},
        {2048, 2049},   {2049, 2049},   {2050, 2051},   {4095, 4095},   {4096, 4099},
        {4099, 4099},   {4100, 4103},   {8191, 8191},   {8192, 8199},   {10007, 10007},
        {10000, 10007}, {10008, 10015}, {1000000, 1000447},             {1000448, 1000959},
        {1000000000, 1000341503},       {UINT64_C(1099511627776), UINT64_C(1100585369599)},
    };

    (void)state;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        assert_int_equal(reported(pairs[i][0]), pairs[i][1]);
}

/* Every power of two and its neighbours: never below the value, at most 1/1024 above it. */
static void error_is_below_one_in_1024(void **state)
{
    (void)state;
    for (unsigned bit = 0; bit < 41; bit++) {
        for (uint64_t step = 0; step < 3; step++) {
            uint64_t value = (UINT64_C(1) << bit) + step - 1;
            uint64_t at = reported(value);
            assert_true(at >= value);
            assert_true((at - value) * 1024 <= value);
        }
    }
}

static void percentiles_of_one_to_a_thousand(void **state)
{
    salvo_histogram *h = fresh();
    salvo_latency l;

    (void)state;
    for (uint64_t v = 1000; v >= 1; v--)
        salvo_histogram_record(h, v, 1);
    salvo_histogram_summary(h, &l);
    assert_int_equal(l.count, 1000);
    assert_int_equal(l.min, 1);
    assert_int_equal(l.max, 1000);
    assert_int_equal(l.mean, 501); /* 500.5, rounded */
    assert_int_equal(l.p50, 500);
    assert_int_equal(l.p90, 900);
    assert_int_equal(l.p99, 990);
    assert_int_equal(l.p999, 999);
    assert_int_equal(l.p9999, 1000);
    assert_int_equal(salvo_histogram_at(h, -1.0), 1);
    assert_int_equal(salvo_histogram_at(h, 0.0), 1);
    assert_int_equal(salvo_histogram_at(h, 0.1), 1);
    assert_int_equal(salvo_histogram_at(h, 0.2), 2);
    assert_int_equal(salvo_histogram_at(h, 100.0), 1000);
    assert_int_equal(salvo_histogram_at(h, 200.0), 1000);
    salvo_histogram_free(h);
}

/* A tail of 1 in 10,000 shows from p99.99 on, not before. */
static void rare_tail_shows_where_it_belongs(void **state)
{
    salvo_histogram *h = fresh();
    salvo_latency l;

    (void)state;
    salvo_histogram_record(h, 100, 999800);
    salvo_histogram_record(h, 5000, 150);
    salvo_histogram_record(h, 70001, 50);
    salvo_histogram_summary(h, &l);
    assert_int_equal(l.count, 1000000);
    assert_int_equal(l.p999, 100);
    assert_int_equal(l.p9999, 5003);
    assert_int_equal(l.max, 70001); /* exact, though its range ends at 70015 */
    assert_int_equal(salvo_histogram_at(h, 99.995), 5003);
    assert_int_equal(salvo_histogram_at(h, 99.996), 70001);
    salvo_histogram_free(h);
}

static void above_an_hour_counts_as_an_hour(void **state)
{
    salvo_histogram *h = fresh();
    salvo_latency l;

    (void)state;
    salvo_histogram_record(h, HOUR_NS, 1);
    salvo_histogram_record(h, HOUR_NS + 1, 1);
    salvo_histogram_record(h, UINT64_MAX, 1);
    salvo_histogram_summary(h, &l);
    assert_int_equal(l.count, 3);
    assert_int_equal(l.min, HOUR_NS);
    assert_int_equal(l.max, HOUR_NS);
    assert_int_equal(l.p50, HOUR_NS);
    assert_int_equal(l.mean, HOUR_NS);
    salvo_histogram_free(h);
}

/* 10 million hours in ns do not fit into 64 bits: the mean must not wrap. */
static void mean_survives_a_wrapped_sum(void **state)
{
    salvo_histogram *h = fresh();
    salvo_latency l;

    (void)state;
    salvo_histogram_record(h, HOUR_NS, 10000000);
    salvo_histogram_summary(h, &l);
    assert_true(l.mean > HOUR_NS - HOUR_NS / 1000 && l.mean < HOUR_NS + HOUR_NS / 1000);
    salvo_histogram_free(h);
}

static void merge_equals_recording_into_one(void **state)
{
    salvo_histogram *a = fresh(), *b = fresh(), *both = fresh(), *merged = fresh();
    salvo_latency expected, got;
    uint64_t v = 12345;

    (void)state;
    for (int i = 0; i < 100000; i++) {
        v = v * UINT64_C(6364136223846793005) + 1442695040888963407;
        uint64_t value = (v >> 33) >> (v >> 27 & 31);
        salvo_histogram_record(i % 3 ? a : b, value, 1);
        salvo_histogram_record(both, value, 1);
    }
    salvo_histogram_add(merged, a);
    salvo_histogram_add(merged, b);
    salvo_histogram_summary(both, &expected);
    salvo_histogram_summary(merged, &got);
    assert_memory_equal(&got, &expected, sizeof got);
    assert_int_equal(got.count, 100000);
    for (double p = 0; p <= 100; p += 0.37)
        assert_int_equal(salvo_histogram_at(merged, p), salvo_histogram_at(both, p));
    salvo_histogram_add(merged, both);
    salvo_histogram_summary(merged, &got);
    assert_int_equal(got.count, 200000);
    assert_int_equal(got.p99, expected.p99);
    salvo_histogram_free(a);
    salvo_histogram_free(b);
    salvo_histogram_free(both);
    salvo_histogram_free(merged);
}

/* Of 2 and 3 digits into each other: every count arrives, and lies where 2 digits allow. */
static void merge_of_other_digits_keeps_every_count(void **state)
{
    for (unsigned from = 2; from <= 3; from++) {
        salvo_histogram *a = salvo_histogram_new(from), *b = salvo_histogram_new(5 - from);
        (void)state;
        for (uint64_t v = 1; v < HOUR_NS; v += v / 3 + 1)
            salvo_histogram_record(a, v, v % 5 + 1);
        salvo_histogram_add(b, a);
        assert_int_equal(salvo_histogram_count(b), salvo_histogram_count(a));
        assert_int_equal(salvo_histogram_sum(b), salvo_histogram_sum(a));
        for (double p = 1; p <= 100; p += 1) {
            double x = (double)salvo_histogram_at(a, p), y = (double)salvo_histogram_at(b, p);
            assert_true(x <= y * (1 + 1.0 / 64) + 1 && y <= x * (1 + 1.0 / 64) + 1);
        }
        salvo_histogram_free(a);
        salvo_histogram_free(b);
    }
    assert_null(salvo_histogram_new(1));
    assert_null(salvo_histogram_new(4));
}

/* What was recorded between two looks, look after look. */
static void since_is_what_was_added(void **state)
{
    salvo_histogram *h = salvo_histogram_new(2), *mark = salvo_histogram_new(2);
    uint64_t seen = 0;

    (void)state;
    for (uint64_t round = 1; round <= 5; round++) {
        salvo_histogram *added = salvo_histogram_new(2);
        salvo_latency l;
        salvo_histogram_record(h, 100 * round, round);
        salvo_histogram_record(h, 50, 1);
        salvo_histogram_since(added, h, mark);
        salvo_histogram_summary(added, &l);
        assert_int_equal(l.count, round + 1);
        assert_int_equal(l.min, 50);
        assert_true(l.max >= 100 * round && l.max <= 100 * round + 100 * round / 128);
        assert_int_equal(salvo_histogram_upto(added, 50), 1);
        assert_int_equal(salvo_histogram_sum(added), 100 * round * round + 50);
        seen += l.count;
        assert_int_equal(salvo_histogram_count(mark), seen);
        salvo_histogram_since(added, h, mark); /* nothing new */
        assert_int_equal(salvo_histogram_count(added), round + 1);
        salvo_histogram_free(added);
    }
    assert_int_equal(salvo_histogram_count(h), seen);
    salvo_histogram_free(h);
    salvo_histogram_free(mark);
}

static void text_is_hdrhistograms(void **state)
{
    static const char expected[] =
        "       Value     Percentile TotalCount 1/(1-Percentile)\n"
        "\n"
        "       1.000 0.000000000000          1           1.00\n"
        "       1.000 0.100000000000          1           1.11\n"
        "       1.000 0.200000000000          1           1.25\n"
        "       2.000 0.300000000000          2           1.43\n"
        "       2.000 0.400000000000          2           1.67\n"
        "       2.000 0.500000000000          2           2.00\n"
        "       3.001 0.550000000000          3           2.22\n"
        "       3.001 0.600000000000          3           2.50\n"
        "       3.001 0.650000000000          3           2.86\n"
        "       3.001 0.700000000000          3           3.33\n"
        "       3.001 0.750000000000          3           4.00\n"
        "      10.000 0.775000000000          4           4.44\n"
        "      10.000 1.000000000000          4\n"
        "#[Mean    =        4.000, StdDeviation   =        3.537]\n"
        "#[Max     =       10.000, Total count    =            4]\n"
        "#[Buckets =           32, SubBuckets     =         2048]\n";
    salvo_histogram *h = fresh();
    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);

    (void)state;
    assert_non_null(stream);
    salvo_histogram_record(h, 1000, 1);
    salvo_histogram_record(h, 2000, 1);
    salvo_histogram_record(h, 3000, 1);
    salvo_histogram_record(h, 10000, 1);
    assert_int_equal(salvo_histogram_write_percentiles(h, stream, 1000.0), SALVO_OK);
    fclose(stream);
    assert_string_equal(text, expected);
    free(text);
    salvo_histogram_free(h);
}

static void text_to_a_full_disk_is_an_error(void **state)
{
    salvo_histogram *h = fresh();
    FILE *stream = fopen("/dev/full", "w");

    (void)state;
    assert_non_null(stream);
    assert_int_equal(salvo_histogram_write_percentiles(h, stream, 1.0), SALVO_ERR_IO);
    fclose(stream);
    salvo_histogram_free(h);
}

#define WRITES 2000000

static void *write_many(void *h)
{
    for (uint64_t i = 0; i < WRITES; i++)
        salvo_histogram_record(h, 100 + i % 1000, 1);
    return NULL;
}

/* A reader beside the writer sees counts grow and never a value that was not written. */
static void reader_beside_the_writer(void **state)
{
    salvo_histogram *h = fresh();
    pthread_t writer;
    salvo_latency l;
    uint64_t last = 0;

    (void)state;
    assert_int_equal(pthread_create(&writer, NULL, write_many, h), 0);
    do {
        salvo_histogram_summary(h, &l);
        assert_true(l.count >= last && l.count <= WRITES);
        assert_true(l.p50 <= l.p99 && l.p99 <= l.p9999 && l.p9999 <= l.max && l.max <= 1099);
        last = l.count;
    } while (last < WRITES);
    pthread_join(writer, NULL);
    salvo_histogram_summary(h, &l);
    assert_int_equal(l.count, WRITES);
    assert_int_equal(l.min, 100);
    assert_int_equal(l.max, 1099);
    assert_int_equal(l.p50, 599);
    salvo_histogram_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(empty_is_all_zero),
        cmocka_unit_test(buckets_end_where_hdrhistograms_do),
        cmocka_unit_test(error_is_below_one_in_1024),
        cmocka_unit_test(percentiles_of_one_to_a_thousand),
        cmocka_unit_test(rare_tail_shows_where_it_belongs),
        cmocka_unit_test(above_an_hour_counts_as_an_hour),
        cmocka_unit_test(mean_survives_a_wrapped_sum),
        cmocka_unit_test(merge_equals_recording_into_one),
        cmocka_unit_test(merge_of_other_digits_keeps_every_count),
        cmocka_unit_test(since_is_what_was_added),
        cmocka_unit_test(text_is_hdrhistograms),
        cmocka_unit_test(text_to_a_full_disk_is_an_error),
        cmocka_unit_test(reader_beside_the_writer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
