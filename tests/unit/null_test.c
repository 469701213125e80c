/* SPDX-License-Identifier: Apache-2.0
 *
 * The null driver: every token once and in order, offsets that count up, bounds.
 */
#include "driver_fixture.h"

static void acknowledges_at_once(void **state)
{
    (void)state;
    fixture f;
    salvo_driver_outcome o[FIXTURE_BATCHES];
    salvo_driver_credit credit;
    fixture_open(&f, &salvo_driver_null, (const char *[]){"null_partitions", "3", NULL});
    assert_int_equal(f.ops->partitions(f.handle, 0), 3);
    assert_int_equal(f.ops->partitions(f.handle, 5), SALVO_ERR_UNKNOWN_TOPIC);
    salvo_driver_batch b = {.topic = 0, .partition = 2, .count = 10};
    for (unsigned round = 0; round < 5; round++) {
        for (unsigned i = 0; i < FIXTURE_BATCHES; i++)
            assert_int_equal(f.ops->submit(f.handle, &b, i), 0);
        assert_int_equal(f.ops->submit(f.handle, &b, 99), SALVO_ERR_TRANSIENT);
        f.ops->credit(f.handle, &credit);
        assert_int_equal(credit.batches, 0);
        if (round > 0) /* what was handed out last stays until the next poll */
            assert_int_equal(o[0].ranges[0].base_offset, 640 * (round - 1));
        assert_int_equal(f.ops->poll(f.handle, o, FIXTURE_BATCHES), FIXTURE_BATCHES);
        for (unsigned i = 0; i < FIXTURE_BATCHES; i++) {
            assert_int_equal(o[i].token, i);
            assert_int_equal(o[i].range_count, 1);
            assert_int_equal(o[i].ranges[0].count, 10);
            assert_int_equal(o[i].ranges[0].status, 0);
            assert_int_equal(o[i].ranges[0].base_offset, 640 * round + 10 * i);
        }
    }
    fixture_expect_nothing(&f);
    fixture_close(&f);
}

static void refuses_what_is_not_there(void **state)
{
    (void)state;
    fixture f;
    fixture_open(&f, &salvo_driver_null, NULL);
    salvo_driver_batch b = {.topic = 0, .partition = 1, .count = 1};
    assert_int_equal(f.ops->submit(f.handle, &b, 1), SALVO_ERR_PARTITION);
    b = (salvo_driver_batch){.topic = 7, .count = 1};
    assert_int_equal(f.ops->submit(f.handle, &b, 1), SALVO_ERR_UNKNOWN_TOPIC);
    b.topic = FIXTURE_TOPICS;
    assert_int_equal(f.ops->submit(f.handle, &b, 1), SALVO_ERR_UNKNOWN_TOPIC);
    assert_int_equal(f.ops->topic(f.handle, FIXTURE_TOPICS, "over", &f.plain), SALVO_ERR_LIMIT);
    fixture_expect_nothing(&f);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(acknowledges_at_once),
        cmocka_unit_test(refuses_what_is_not_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
