/* SPDX-License-Identifier: Apache-2.0
 *
 * What is believed of ring memory: a record's place, its lengths, its packed headers. The flusher
 * asks all three before it touches a record; tests/fuzz/ring_fuzz.c feeds them arbitrary bytes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "record.h"
#include "ring.h"

static void place(uint32_t flags)
{
    salvo_ring ring;
    const salvo_ring_options options = {.bytes = SALVO_RING_MIN_BYTES, .descriptors = 16,
                                        .flags = flags};
    const uint32_t quarter = SALVO_RING_MIN_BYTES / 4, units = SALVO_RING_MIN_BYTES / 8;
    const bool mirrored = flags == 0;
    assert_int_equal(salvo_ring_open(&ring, &options), 0);
    assert_true(salvo_ring_holds(&ring, salvo_ring_payload(&ring, 0), 0));
    assert_true(salvo_ring_holds(&ring, salvo_ring_payload(&ring, 7), quarter));
    assert_false(salvo_ring_holds(&ring, salvo_ring_payload(&ring, 7), quarter + 1));
    assert_false(salvo_ring_holds(&ring, salvo_ring_payload(&ring, 7), UINT32_MAX));
    /* The last unit: beyond it lies the second mapping, or nothing. */
    assert_true(salvo_ring_holds(&ring, salvo_ring_payload(&ring, units - 1), 8));
    assert_int_equal(salvo_ring_holds(&ring, salvo_ring_payload(&ring, units - 1), 9), mirrored);
    assert_int_equal(salvo_ring_holds(&ring, salvo_ring_payload(&ring, UINT32_MAX), quarter),
                     mirrored);
    salvo_ring_close(&ring);
}

static void a_record_lies_in_its_ring(void **state)
{
    (void)state;
    place(0);
    place(SALVO_RING_UNMIRRORED);
}

static void lengths_add_up(void **state)
{
    (void)state;
    salvo_record_head head = {.value_len = 5, .key_len = SALVO_NULL_LEN}, out;
    unsigned char record[64] = {0};
    memcpy(record, &head, sizeof head);
    assert_true(salvo_record_sound(record, sizeof head + 5, 0, &out));
    assert_false(salvo_record_sound(record, sizeof head + 4, 0, &out));
    assert_false(salvo_record_sound(record, sizeof head - 1, 0, &out));
    assert_false(salvo_record_sound(record, sizeof head + 5, SALVO_RECORD_EXTRA, &out));
    head.key_len = 0xfffffff0u; /* the sum does not wrap */
    memcpy(record, &head, sizeof head);
    assert_false(salvo_record_sound(record, sizeof head - 11, 0, &out));
    assert_false(salvo_record_sound(record, sizeof head + 5 - 16, 0, &out));
}

static void headers_end_where_they_say(void **state)
{
    (void)state;
    struct {
        salvo_record_head head;
        unsigned char headers[24]; /* a name of 3 with a value of 5, and one with a null value */
    } record = {.head = {.value_len = SALVO_NULL_LEN, .key_len = SALVO_NULL_LEN,
                         .headers_len = 24}};
    const uint32_t first[2] = {3, 5}, second[2] = {0, SALVO_NULL_LEN};
    uint32_t wrong[2] = {3, 6};
    salvo_record_head out;
    memcpy(record.headers, first, sizeof first);
    memcpy(record.headers + 16, second, sizeof second);
    assert_true(salvo_record_sound(&record, sizeof record, 0, &out));
    memcpy(record.headers, wrong, sizeof wrong);
    assert_false(salvo_record_sound(&record, sizeof record, 0, &out));
    wrong[0] = UINT32_MAX; /* the sum does not wrap */
    memcpy(record.headers, wrong, sizeof wrong);
    assert_false(salvo_record_sound(&record, sizeof record, 0, &out));
    assert_false(salvo_record_headers_sound(record.headers, 7));
    assert_true(salvo_record_headers_sound(record.headers, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_record_lies_in_its_ring),
        cmocka_unit_test(lengths_add_up),
        cmocka_unit_test(headers_end_where_they_say),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
