/* SPDX-License-Identifier: Apache-2.0
 *
 * XADD by template: each command byte for byte, within its bound.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "drivers/redis_format.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Formats into exactly the room that the bound promises, so that a sanitizer sees a byte more. */
static void expect(const salvo_redis_wish *wish, const salvo_redis_item *item, bool apart,
                   const char *text, size_t length, uint32_t wanted_args)
{
    salvo_redis_template t;
    uint32_t args = 0;
    assert_int_equal(salvo_redis_template_init(&t, wish), 0);
    size_t bound = salvo_redis_bound(&t, item) + (apart ? 0 : item->value_len);
    char *room = malloc(bound);
    assert_non_null(room);
    char *end = salvo_redis_format(room, &t, item, apart, &args);
    size_t n = (size_t)(end - room);
    assert_true(n <= bound);
    if (n != length || memcmp(room, text, n) != 0)
        fail_msg("got %zu bytes: %.*s", n, (int)n, room);
    assert_int_equal(args, wanted_args);
    free(room);
    salvo_redis_template_free(&t);
}

#define EXPECT(wish, item, apart, text, args) \
    expect(wish, item, apart, text, sizeof(text) - 1, args)

static const salvo_redis_wish plain = {.stream = "s"};

static void a_value_alone(void **state)
{
    (void)state;
    salvo_redis_item item = {.value = "hello", .value_len = 5};
    EXPECT(&plain, &item, false,
           "*5\r\n$4\r\nXADD\r\n$1\r\ns\r\n$1\r\n*\r\n$5\r\nvalue\r\n$5\r\nhello\r\n", 6);
    item.value_len = 0;
    EXPECT(&plain, &item, false,
           "*5\r\n$4\r\nXADD\r\n$1\r\ns\r\n$1\r\n*\r\n$5\r\nvalue\r\n$0\r\n\r\n", 6);
    item = (salvo_redis_item){.value = "\0\r\n$", .value_len = 4};
    EXPECT(&plain, &item, false,
           "*5\r\n$4\r\nXADD\r\n$1\r\ns\r\n$1\r\n*\r\n$5\r\nvalue\r\n$4\r\n\0\r\n$\r\n", 6);
}

static void a_null_value_is_not_an_empty_one(void **state)
{
    (void)state;
    salvo_redis_item item = {0};
    EXPECT(&plain, &item, false,
           "*5\r\n$4\r\nXADD\r\n$1\r\ns\r\n$1\r\n*\r\n$4\r\nnull\r\n$0\r\n\r\n", 6);
}

static void every_field_in_its_place(void **state)
{
    (void)state;
    char headers[64];
    uint32_t used = 0;
    const uint32_t lengths[3][2] = {{1, 2}, {1, UINT32_MAX}, {0, 0}};
    static const char *const bytes[3] = {"axy", "b", ""};
    for (int i = 0; i < 3; i++) {
        memcpy(headers + used, lengths[i], 8);
        memcpy(headers + used + 8, bytes[i], strlen(bytes[i]));
        used += 8 + (uint32_t)strlen(bytes[i]);
    }
    salvo_redis_item item = {.value = "v", .value_len = 1, .key = "", .headers = headers,
                             .headers_bytes = used, .timestamp_ms = 1700000000123,
                             .encoding = "zstd"};
    item.header_count = salvo_redis_header_count(headers, used);
    assert_int_equal(item.header_count, 3);
    EXPECT(&plain, &item, false,
           "*17\r\n$4\r\nXADD\r\n$1\r\ns\r\n$1\r\n*\r\n$3\r\nkey\r\n$0\r\n\r\n"
           "$9\r\ntimestamp\r\n$13\r\n1700000000123\r\n$3\r\nh:a\r\n$2\r\nxy\r\n"
           "$3\r\nn:b\r\n$0\r\n\r\n$2\r\nh:\r\n$0\r\n\r\n"
           "$16\r\ncontent-encoding\r\n$4\r\nzstd\r\n$5\r\nvalue\r\n$1\r\nv\r\n", 18);
}

static void options_of_the_stream(void **state)
{
    (void)state;
    salvo_redis_item item = {.value = "v", .value_len = 1};
    salvo_redis_wish wish = {.stream = "a.b-c", .maxlen = 123456, .nomkstream = true};
    EXPECT(&wish, &item, false,
           "*9\r\n$4\r\nXADD\r\n$5\r\na.b-c\r\n$10\r\nNOMKSTREAM\r\n$6\r\nMAXLEN\r\n$1\r\n~\r\n"
           "$6\r\n123456\r\n$1\r\n*\r\n$5\r\nvalue\r\n$1\r\nv\r\n", 10);
    wish.nested = true;
    EXPECT(&wish, &item, false,
           "$1\r\n7\r\n$10\r\nNOMKSTREAM\r\n$6\r\nMAXLEN\r\n$1\r\n~\r\n"
           "$6\r\n123456\r\n$1\r\n*\r\n$5\r\nvalue\r\n$1\r\nv\r\n", 8);
}

static void a_large_value_follows_apart(void **state)
{
    (void)state;
    salvo_redis_item item = {.value = "", .value_len = 100000, .key = "k", .key_len = 1};
    EXPECT(&plain, &item, true,
           "*7\r\n$4\r\nXADD\r\n$1\r\ns\r\n$1\r\n*\r\n$3\r\nkey\r\n$1\r\nk\r\n"
           "$5\r\nvalue\r\n$100000\r\n", 8);
}

static void numbers_of_every_length(void **state)
{
    (void)state;
    uint64_t n = 0;
    for (int digits = 0; digits < 20; digits++, n = n * 10 + 9) {
        for (uint64_t i = n; i <= n + 1; i++) {
            char got[64], want[64], digits_text[32];
            int length = snprintf(digits_text, sizeof digits_text, "%llu", (unsigned long long)i);
            snprintf(want, sizeof want, "$%d\r\n%s\r\n", length, digits_text);
            *salvo_redis_put_number(got, i) = '\0';
            assert_string_equal(got, want);
            snprintf(want, sizeof want, "*%s\r\n", digits_text);
            *salvo_redis_put_count(got, i) = '\0';
            assert_string_equal(got, want);
        }
    }
    for (uint32_t i = 0; i < 100000; i++) {
        char got[64], want[64];
        snprintf(want, sizeof want, "*%u\r\n", i);
        *salvo_redis_put_count(got, i) = '\0';
        assert_string_equal(got, want);
    }
}

static void headers_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    uint32_t lengths[2] = {4, 4};
    char headers[16] = "";
    memcpy(headers, lengths, 8);
    assert_int_equal(salvo_redis_header_count(headers, 16), 1);
    for (uint32_t n = 1; n < 16; n++)
        assert_int_equal(salvo_redis_header_count(headers, n), -1);
    lengths[0] = UINT32_MAX;
    memcpy(headers, lengths, 8);
    assert_int_equal(salvo_redis_header_count(headers, 16), -1);
    assert_int_equal(salvo_redis_header_count(headers, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_value_alone),
        cmocka_unit_test(a_null_value_is_not_an_empty_one),
        cmocka_unit_test(every_field_in_its_place),
        cmocka_unit_test(options_of_the_stream),
        cmocka_unit_test(a_large_value_follows_apart),
        cmocka_unit_test(numbers_of_every_length),
        cmocka_unit_test(headers_that_do_not_fit_are_refused),
    };
    return cmocka_run_group_tests_name("redis format", tests, NULL, NULL);
}
