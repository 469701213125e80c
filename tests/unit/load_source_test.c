/* SPDX-License-Identifier: Apache-2.0
 *
 * The load: rates that are exact, arrivals, sizes and keys of the shape that was asked for, the
 * same for the same seed, and schedule files that give back what was written and refuse the rest.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "load_payload.h"
#include "load_source.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

static char text[512];

static salvo_load load_of(const char *rate, const char *arrivals, const char *size,
                          const char *keys)
{
    salvo_load load = {.warmup_s = 1, .duration_s = 10, .seed = 7, .payload_text = "random",
                       .size_text = size, .keys_text = keys};
    assert_true(salvo_load_take_rate(&load, rate, text, sizeof text));
    assert_true(salvo_load_take_arrivals(&load, arrivals, text, sizeof text));
    assert_true(salvo_load_sizes_parse(&load.sizes, size, text, sizeof text));
    assert_true(salvo_load_keys_parse(&load.keys, keys, text, sizeof text));
    return load;
}

/* Messages with from <= at < to, in s; the order of times is checked on the way. */
static unsigned between(const salvo_load *load, double from, double to)
{
    salvo_load_source source = salvo_load_begin(load);
    salvo_load_message m;
    uint64_t index, expected = 0, last = 0;
    unsigned count = 0;
    while (salvo_load_next(&source, &m, &index)) {
        assert_int_equal(index, expected++);
        assert_true(m.at_ns >= last);
        last = m.at_ns;
        count += (double)m.at_ns >= from * 1e9 && (double)m.at_ns < to * 1e9;
    }
    return count;
}

static void test_constant_rate_is_exact(void **state)
{
    (void)state;
    salvo_load load = load_of("12.5k", "constant", "100", "0");
    assert_int_equal(between(&load, 0, 11), 137500);
    for (int s = 0; s < 11; s++)
        assert_in_range(between(&load, s, s + 1), 12499, 12501);
    salvo_load_free(&load);
}

static void test_steps_follow_each_other_and_repeat(void **state)
{
    (void)state;
    salvo_load load = load_of("1k:2s,0:500ms,5k:1s", "constant", "100", "0");
    assert_in_range(between(&load, 0, 3), 2998, 3002); /* the warm-up plays the first step */
    assert_int_equal(between(&load, 3, 3.5), 0);
    assert_in_range(between(&load, 3.5, 4.5), 4998, 5002);
    assert_in_range(between(&load, 4.5, 6.5), 1998, 2002);
    assert_int_equal(between(&load, 6.5, 7), 0);
    salvo_load_free(&load);
}

static void test_poisson_gaps_are_exponential(void **state)
{
    (void)state;
    salvo_load load = load_of("20k", "poisson", "100", "0");
    salvo_load_source source = salvo_load_begin(&load);
    salvo_load_message m;
    uint64_t index, last = 0;
    double count = 0, sum = 0, squares = 0, above = 0;
    while (salvo_load_next(&source, &m, &index)) {
        double gap = (double)(m.at_ns - last) / 50000; /* the mean */
        last = m.at_ns;
        count++;
        sum += gap;
        squares += gap * gap;
        above += gap > 1;
    }
    assert_true(fabs(count / 220000 - 1) < 0.01);
    assert_true(fabs(sum / count - 1) < 0.01);
    assert_true(fabs(squares / count - 2) < 0.05); /* of an exponential distribution */
    assert_true(fabs(above / count - exp(-1)) < 0.01);
    salvo_load_free(&load);
}

static void test_bursts_come_at_once_at_the_mean_rate(void **state)
{
    (void)state;
    salvo_load load = load_of("1k", "burst:50", "100", "0");
    salvo_load_source source = salvo_load_begin(&load);
    salvo_load_message m;
    uint64_t index;
    while (salvo_load_next(&source, &m, &index))
        assert_int_equal(m.at_ns, index / 50 * 50000000);
    assert_int_equal(source.index, 11000);
    salvo_load_free(&load);
}

static void test_sizes_have_their_shape(void **state)
{
    static const struct {
        const char *text;
        double mean, most_off;
        uint32_t low, high;
    } cases[] = {{"100", 100, 0, 100, 100},
                 {"50-150", 100, 1, 50, 150},
                 {"10:3,1000:1", 257.5, 5, 10, 1000},
                 {"exp:200", 200, 3, 0, SALVO_LOAD_SIZE_MOST},
                 {"normal:500:20", 500, 1, 350, 650},
                 {"lognormal:100:0.5", 113.3, 2, 1, SALVO_LOAD_SIZE_MOST}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        salvo_load_sizes sizes;
        uint64_t random = salvo_load_stream(1, 1);
        double sum = 0;
        assert_true(salvo_load_sizes_parse(&sizes, cases[i].text, text, sizeof text));
        for (int k = 0; k < 100000; k++) {
            uint32_t size = salvo_load_sizes_draw(&sizes, &random);
            assert_in_range(size, cases[i].low, cases[i].high);
            sum += size;
        }
        assert_true(fabs(sum / 100000 - cases[i].mean) <= cases[i].most_off);
        salvo_load_sizes_free(&sizes);
    }
}

static void test_zipf_has_its_frequencies(void **state)
{
    static const double exponents[] = {0.5, 1, 1.2};
    enum { KEYS = 1000, DRAWS = 400000 };
    static unsigned counts[KEYS + 1];
    (void)state;
    for (size_t e = 0; e < 3; e++) {
        salvo_load_keys keys;
        uint64_t random = salvo_load_stream(1, 2);
        double harmonic = 0;
        snprintf(text, sizeof text, "%d:zipf:%g", KEYS, exponents[e]);
        assert_true(salvo_load_keys_parse(&keys, text, text, sizeof text));
        memset(counts, 0, sizeof counts);
        for (int i = 0; i < DRAWS; i++) {
            uint32_t key = salvo_load_keys_draw(&keys, &random);
            assert_in_range(key, 1, KEYS);
            counts[key]++;
        }
        for (int k = 1; k <= KEYS; k++)
            harmonic += pow(k, -exponents[e]);
        static const int looked_at[] = {1, 2, 3, 10, 100};
        for (size_t i = 0; i < 5; i++) {
            double expected = DRAWS * pow(looked_at[i], -exponents[e]) / harmonic;
            assert_true(fabs(counts[looked_at[i]] - expected) < 5 * sqrt(expected));
        }
    }
}

static void test_what_is_wrong_is_refused(void **state)
{
    static const char *const rates[] = {"", "x", "-1", "0", "1e9", "10k:", "10k:0s", "1k,2k",
                                        "nan", "10k:1s,", "1k:1s;2k:1s"};
    static const char *const sizes[] = {"", "x", "-1", "2000000", "9-3", "10:0", "10:1,", "exp:0",
                                        "normal:5", "file:/nonexistent", "1 2"};
    static const char *const keys[] = {"", "x", "5000000000", "10:zip", "10:zipf:0", "10:zipf:99"};
    static const char *const arrivals[] = {"", "burst", "burst:0", "burst:2x", "Poisson"};
    salvo_load load = {0};
    (void)state;
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++)
        assert_false(salvo_load_take_rate(&load, rates[i], text, sizeof text));
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        assert_false(salvo_load_sizes_parse(&load.sizes, sizes[i], text, sizeof text));
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        assert_false(salvo_load_keys_parse(&load.keys, keys[i], text, sizeof text));
    for (size_t i = 0; i < sizeof arrivals / sizeof *arrivals; i++)
        assert_false(salvo_load_take_arrivals(&load, arrivals[i], text, sizeof text));
}

/* --- files ----------------------------------------------------------------------------------- */

static char path[] = "/tmp/salvo-load-XXXXXX";

static void write_file(const salvo_load *load)
{
    json_t *about = json_pack("{s:s, s:s, s:s, s:s}", "rate", "3k", "arrivals", "poisson", "size",
                              "50-500", "keys", "100:zipf");
    assert_true(salvo_load_write_file(load, path, about, text, sizeof text));
    json_decref(about);
}

static void test_a_file_plays_what_was_written(void **state)
{
    (void)state;
    salvo_load load = load_of("3k", "poisson", "50-500", "100:zipf"), played = {0};
    salvo_load_message a, b;
    uint64_t i, k;
    write_file(&load);
    assert_true(salvo_load_open_file(&played, path, text, sizeof text));
    assert_true(played.warmup_s == 1 && played.duration_s == 10 && played.seed == 7);
    assert_string_equal(played.size_text, "50-500");
    salvo_load_source drawn = salvo_load_begin(&load), file = salvo_load_begin(&played);
    while (salvo_load_next(&drawn, &a, &i)) {
        assert_true(salvo_load_next(&file, &b, &k));
        assert_true(i == k && a.at_ns == b.at_ns && a.value_bytes == b.value_bytes &&
                    a.key == b.key);
    }
    assert_false(salvo_load_next(&file, &b, &k));
    assert_int_equal(file.index, played.file_messages);
    assert_false(file.damaged);
    salvo_load_free(&load);
    salvo_load_free(&played);
}

static void patch(long at, const void *bytes, size_t count)
{
    FILE *file = fopen(path, "r+");
    assert_non_null(file);
    assert_int_equal(fseek(file, at, SEEK_SET), 0);
    assert_int_equal(fwrite(bytes, 1, count, file), count);
    fclose(file);
}

static void test_damaged_files_are_refused(void **state)
{
    (void)state;
    salvo_load load = load_of("3k", "constant", "100", "0"), played = {0};
    salvo_load_message m;
    uint64_t i;
    write_file(&load);
    patch(4096 + 16 * 5 + 8, "\xff\xff\xff\xff", 4); /* a size of 4 GiB */
    assert_true(salvo_load_open_file(&played, path, text, sizeof text));
    salvo_load_source source = salvo_load_begin(&played);
    while (salvo_load_next(&source, &m, &i))
        assert_int_equal(m.value_bytes, 100);
    assert_true(source.damaged && source.index == 5);
    salvo_load_free(&played);
    assert_int_equal(truncate(path, 4096 + 16 * 100), 0);
    assert_false(salvo_load_open_file(&played, path, text, sizeof text));
    assert_non_null(strstr(text, "promised"));
    salvo_load_free(&played);
    patch(0, "{]", 2);
    assert_false(salvo_load_open_file(&played, path, text, sizeof text));
    salvo_load_free(&played);
    assert_int_equal(truncate(path, 10), 0);
    assert_false(salvo_load_open_file(&played, path, text, sizeof text));
    salvo_load_free(&played);
    salvo_load_free(&load);
}

/* --- payload --------------------------------------------------------------------------------- */

static double packed_ratio(const char *payload)
{
    static unsigned char block[SALVO_LOAD_BLOCK_BYTES], packed[2 * SALVO_LOAD_BLOCK_BYTES];
    uLongf length = sizeof packed;
    assert_true(salvo_payload_fill(block, payload, 3, text, sizeof text));
    assert_int_equal(compress2(packed, &length, block, sizeof block, 6), Z_OK);
    return (double)sizeof block / (double)length;
}

static void test_payload_compresses_as_told(void **state)
{
    (void)state;
    assert_true(packed_ratio("random") < 1.01);
    assert_true(packed_ratio("text") > 2.5);
    assert_true(fabs(packed_ratio("ratio:2") / 2 - 1) < 0.1);
    assert_true(fabs(packed_ratio("ratio:4") / 4 - 1) < 0.1);
    assert_true(fabs(packed_ratio("ratio:1") - 1) < 0.02);
}

static void test_random_payload_is_the_documented_sequence(void **state)
{
    static unsigned char block[SALVO_LOAD_BLOCK_BYTES];
    uint64_t x = 1;
    (void)state;
    assert_true(salvo_payload_fill(block, "random", 1, text, sizeof text));
    for (int i = 0; i < 3; i++) {
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        assert_true(salvo_payload_stamp_of(block + 8 * i) == x * UINT64_C(0x2545F4914F6CDD1D));
    }
    assert_true(salvo_payload_at(block, 1000000, SALVO_LOAD_SIZE_MOST) + SALVO_LOAD_SIZE_MOST <=
                block + sizeof block);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_constant_rate_is_exact),
        cmocka_unit_test(test_steps_follow_each_other_and_repeat),
        cmocka_unit_test(test_poisson_gaps_are_exponential),
        cmocka_unit_test(test_bursts_come_at_once_at_the_mean_rate),
        cmocka_unit_test(test_sizes_have_their_shape),
        cmocka_unit_test(test_zipf_has_its_frequencies),
        cmocka_unit_test(test_what_is_wrong_is_refused),
        cmocka_unit_test(test_a_file_plays_what_was_written),
        cmocka_unit_test(test_damaged_files_are_refused),
        cmocka_unit_test(test_payload_compresses_as_told),
        cmocka_unit_test(test_random_payload_is_the_documented_sequence),
    };
    int fd = mkstemp(path);
    if (fd < 0)
        return 1;
    close(fd);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return failed;
}
