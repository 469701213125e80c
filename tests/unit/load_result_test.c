/* SPDX-License-Identifier: Apache-2.0
 *
 * Results: percentiles over messages that never arrived, histograms there and back, what is read
 * from damaged files, and the verdict on a generator that was late. And the pace: the lateness is
 * the generator's own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "load_pace.h"
#include "load_result.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char text[512];

static salvo_histogram *histogram_of(uint64_t ns, uint64_t count)
{
    salvo_histogram *h = salvo_histogram_new(3);
    assert_non_null(h);
    for (uint64_t i = 1; i <= count; i++)
        salvo_histogram_record(h, i * ns, 1);
    return h;
}

static void test_the_lost_are_the_slowest(void **state)
{
    (void)state;
    salvo_histogram *h = histogram_of(1, 900);
    assert_int_equal(salvo_result_at(h, 0, 50), 450);
    assert_int_equal(salvo_result_at(h, 100, 50), 500); /* of 1000, the 500th */
    assert_int_equal(salvo_result_at(h, 100, 90), 900);
    assert_true(salvo_result_at(h, 100, 91) == SALVO_INFINITE);
    assert_true(salvo_result_at(h, 1, 100) == SALVO_INFINITE);
    assert_int_equal(salvo_result_at(h, 0, 100), 900);
    salvo_histogram_free(h);
    h = histogram_of(1, 0);
    assert_int_equal(salvo_result_at(h, 0, 99), 0);
    assert_true(salvo_result_at(h, 5, 1) == SALVO_INFINITE);
    salvo_histogram_free(h);
}

static void test_a_histogram_comes_back(void **state)
{
    uint64_t infinite, ns;
    (void)state;
    salvo_histogram *h = histogram_of(1000, 990);
    json_t *object = salvo_result_histogram(h, 10);
    assert_int_equal(json_integer_value(json_object_get(object, "count")), 1000);
    assert_int_equal(json_integer_value(json_object_get(object, "infinite")), 10);
    assert_true(json_is_integer(json_object_get(object, "p99_ns")));
    assert_true(json_is_null(json_object_get(object, "p999_ns")));
    salvo_histogram *again = salvo_result_decode(object, &infinite);
    assert_non_null(again);
    assert_int_equal(infinite, 10);
    assert_int_equal(salvo_histogram_count(again), 990);
    assert_true(salvo_result_percentile(object, "p99", &ns) && ns >= 989000 && ns <= 991000);
    assert_true(salvo_result_percentile(object, "p99.9", &ns) && ns == SALVO_INFINITE);
    assert_true(salvo_result_percentile(object, "p75", &ns) && ns >= 749000 && ns <= 751000);
    assert_false(salvo_result_percentile(NULL, "p99", &ns));
    salvo_histogram_free(again);
    salvo_histogram_free(h);
    json_decref(object);
}

static json_t *result_of(uint64_t late_ns, uint64_t ns, uint64_t infinite)
{
    salvo_histogram *late = histogram_of(0, 0), *column = histogram_of(0, 0);
    salvo_histogram_record(late, late_ns, 100);
    salvo_histogram_record(column, ns, 100);
    json_t *result = json_pack(
        "{s:s, s:i, s:{s:o, s:o}, s:{s:o}, s:b, s:n}", "format", "salvo-result", "version", 1,
        "columns", "accepted", salvo_result_histogram(late, 0), "acknowledged",
        salvo_result_histogram(column, infinite), "generator", "lateness",
        salvo_result_histogram(late, 0), "valid", 1, "invalid_because");
    salvo_histogram_free(late);
    salvo_histogram_free(column);
    salvo_result_judge(result);
    return result;
}

static bool valid(json_t *result)
{
    bool is = json_is_true(json_object_get(result, "valid"));
    assert_true(is == json_is_null(json_object_get(result, "invalid_because")));
    json_decref(result);
    return is;
}

static void test_a_late_generator_is_not_believed(void **state)
{
    (void)state;
    assert_true(valid(result_of(90000, 1000000, 0)));
    assert_false(valid(result_of(110000, 1000000, 0)));
    assert_false(valid(result_of(110000, 1000000, 50))); /* p99 is never; p50 is what there is */
    assert_true(valid(result_of(110000, 1000000, 200))); /* no lateness explains this */
    assert_false(valid(result_of(110000000, 1000000, 200))); /* this one may */
    json_t *result = result_of(90000, 1000000, 0); /* but `accepted` is all lateness */
    json_t *columns = json_object_get(result, "columns");
    assert_true(json_is_true(json_object_get(json_object_get(columns, "accepted"), "invalid")));
    assert_null(json_object_get(json_object_get(columns, "acknowledged"), "invalid"));
    json_decref(result);
}

static char path[] = "/tmp/salvo-result-XXXXXX";

static bool reads(const char *content)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(content, file);
    fclose(file);
    json_t *result = salvo_result_read(path, text, sizeof text);
    json_decref(result);
    return result != NULL;
}

static void test_only_results_are_read(void **state)
{
    (void)state;
    json_t *result = result_of(1, 1000, 0);
    assert_true(salvo_result_write(result, path, text, sizeof text));
    json_decref(result);
    result = salvo_result_read(path, text, sizeof text);
    assert_non_null(result);
    json_decref(result);
    assert_false(reads(""));
    assert_false(reads("[1]"));
    assert_false(reads("{\"format\": \"salvo-schedule\", \"version\": 1}"));
    assert_false(reads("{\"format\": \"salvo-result\", \"version\": 2, \"columns\": {}}"));
    assert_non_null(strstr(text, "version"));
    assert_false(reads("{\"format\": \"salvo-result\", \"version\": 1}"));
    assert_false(reads("{\"format\": \"salvo-result\", \"version\": 1, \"columns\": "
                       "{\"call\": {\"count\": 1, \"hdr\": \"HISTFAAAA\"}}}"));
    assert_null(salvo_result_read("/nonexistent", text, sizeof text));
    assert_false(salvo_result_write(json_true(), "/nonexistent/x", text, sizeof text));
}

/* A call that takes 30 ms makes the next three messages late; that is the callee's doing. */
static void test_lateness_is_the_generators_own(void **state)
{
    atomic_bool stop = false;
    salvo_histogram *late = salvo_histogram_new(3);
    salvo_pace pace = {.start_ns = salvo_load_now_ns(), .spin_ns = 50000, .stop = &stop,
                       .lateness = late};
    (void)state;
    uint64_t begin = salvo_pace_wait(&pace, 1000000, true);
    assert_true(begin >= pace.start_ns + 1000000);
    while (salvo_load_now_ns() < begin + 30000000)
        ;
    (void)salvo_pace_called(&pace, begin);
    salvo_histogram *own = salvo_histogram_new(3);
    pace.lateness = own;
    for (int i = 2; i <= 4; i++) { /* due at 2, 3, 4 ms; it is 31 ms */
        begin = salvo_pace_wait(&pace, (uint64_t)i * 1000000, true);
        assert_true(begin - pace.start_ns - (uint64_t)i * 1000000 > 26000000);
        (void)salvo_pace_called(&pace, begin);
    }
    assert_true(salvo_histogram_at(own, 50) < 10000000);

    /* What it takes between calls is its own: 5 ms each for messages that are due at once. */
    salvo_histogram *slow = salvo_histogram_new(3);
    pace.lateness = slow;
    pace.start_ns = salvo_load_now_ns() - 10000000;
    for (int i = 0; i < 10; i++) {
        begin = salvo_pace_wait(&pace, 10000000, true);
        (void)salvo_pace_called(&pace, begin);
        while (salvo_load_now_ns() < begin + 5000000)
            ;
    }
    assert_true(salvo_histogram_at(slow, 100) >= 44000000);
    salvo_histogram_free(slow);
    atomic_store(&stop, true);
    assert_int_equal(salvo_pace_wait(&pace, UINT64_C(3600000000000), true), 0);
    salvo_histogram_free(late);
    salvo_histogram_free(own);
}

/* Without spinning even for a message that is due at once; with it, never into the spin. */
static void test_sleeps_are_long(void **state)
{
    (void)state;
    assert_int_equal(salvo_pace_sleep_ns(1000, 1001, 0), 51000);
    assert_int_equal(salvo_pace_sleep_ns(1000, 51001, 0), 51001);
    assert_int_equal(salvo_pace_sleep_ns(1000, 51000, 50000), 1000);
    assert_int_equal(salvo_pace_sleep_ns(1000, 71000, 50000), 21000);
    assert_int_equal(salvo_pace_sleep_ns(1000, 3000001000, 0), 100001000);
}

/* salvo_histogram_since(): what is new, once. */
static void test_since_takes_what_is_new(void **state)
{
    (void)state;
    salvo_histogram *now = salvo_histogram_new(3), *before = salvo_histogram_new(3);
    salvo_histogram *fresh = salvo_histogram_new(3);
    salvo_histogram_record(now, 100, 5);
    salvo_histogram_since(fresh, now, before);
    assert_int_equal(salvo_histogram_count(fresh), 5);
    salvo_histogram_record(now, 5000, 2);
    salvo_histogram_free(fresh);
    fresh = salvo_histogram_new(3);
    salvo_histogram_since(fresh, now, before);
    assert_int_equal(salvo_histogram_count(fresh), 2);
    assert_int_equal(salvo_histogram_sum(fresh), 10000);
    assert_in_range(salvo_histogram_at(fresh, 1), 4990, 5010);
    salvo_histogram_since(fresh, now, before);
    assert_int_equal(salvo_histogram_count(fresh), 2);
    assert_int_equal(salvo_histogram_count(before), 7);
    salvo_histogram *coarse = salvo_histogram_new(2);
    salvo_histogram_since(coarse, now, before);
    assert_int_equal(salvo_histogram_count(coarse), 0);
    salvo_histogram_free(coarse);
    salvo_histogram_free(now);
    salvo_histogram_free(before);
    salvo_histogram_free(fresh);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_lost_are_the_slowest),
        cmocka_unit_test(test_a_histogram_comes_back),
        cmocka_unit_test(test_a_late_generator_is_not_believed),
        cmocka_unit_test(test_only_results_are_read),
        cmocka_unit_test(test_lateness_is_the_generators_own),
        cmocka_unit_test(test_sleeps_are_long),
        cmocka_unit_test(test_since_takes_what_is_new),
    };
    int fd = mkstemp(path);
    if (fd < 0)
        return 1;
    close(fd);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return failed;
}
