/* SPDX-License-Identifier: Apache-2.0
 *
 * Outcomes of batches whose messages fare differently and are reported in any order: ranges are
 * merged, ascending and without gaps, a token comes once; and what librdkafka's errors mean.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "drivers/kafka_slots.h"

static void assert_range(const salvo_driver_range *r, uint32_t first, uint32_t count,
                         int32_t status, int64_t offset)
{
    assert_int_equal(r->first, first);
    assert_int_equal(r->count, count);
    assert_int_equal(r->status, status);
    assert_int_equal(r->base_offset, offset);
}

static uint32_t take(salvo_kafka_slots *s, uint64_t token, uint32_t count)
{
    uint32_t slot = salvo_kafka_slots_take(s, token, count);
    assert_int_not_equal(slot, SALVO_KAFKA_NO_SLOT);
    salvo_kafka_slots_charge(s, slot, count * 256u, count * 100u);
    assert_false(salvo_kafka_slots_filled(s, slot));
    return slot;
}

static void reports_in_any_order_make_the_same_ranges(void **state)
{
    (void)state;
    enum { COUNT = 60 };
    /* 0..19 good at 100, 20 too large, 21..59 good at 120 */
    for (uint32_t step = 1; step < COUNT; step++) {
        if (COUNT % step == 0 && step != 1)
            continue;
        salvo_kafka_slots s;
        salvo_driver_outcome o[2];
        assert_int_equal(salvo_kafka_slots_init(&s, 2), 0);
        uint32_t slot = take(&s, 7, COUNT), done[COUNT] = {0};
        for (uint32_t i = 0, at = 0; i < COUNT; i++, at = (at + step) % COUNT) {
            while (done[at])
                at = (at + 1) % COUNT;
            done[at] = 1;
            assert_int_equal(salvo_kafka_slots_hand_out(&s, o, 2), 0);
            salvo_kafka_slots_record(&s, slot, at, 1, at == 20 ? SALVO_ERR_TOO_LARGE : 0,
                                     at == 20 ? -1 : (int64_t)(100 + at - (at > 20)));
        }
        assert_int_equal(salvo_kafka_slots_hand_out(&s, o, 2), 1);
        assert_int_equal(o[0].token, 7);
        assert_int_equal(o[0].range_count, 3);
        assert_range(&o[0].ranges[0], 0, 20, 0, 100);
        assert_range(&o[0].ranges[1], 20, 1, SALVO_ERR_TOO_LARGE, -1);
        assert_range(&o[0].ranges[2], 21, 39, 0, 120);
        assert_int_equal(salvo_kafka_slots_hand_out(&s, o, 2), 0);
        assert_int_equal(s.out_count + s.out_messages + s.out_cost + s.out_bytes, 0);
        salvo_kafka_slots_free(&s);
    }
}

static void handed_out_ranges_stay_until_recycled(void **state)
{
    (void)state;
    salvo_kafka_slots s;
    salvo_driver_outcome o[1];
    assert_int_equal(salvo_kafka_slots_init(&s, 1), 0);
    salvo_kafka_slots_record(&s, take(&s, 1, 3), 0, 3, 0, 5);
    assert_int_equal(salvo_kafka_slots_hand_out(&s, o, 1), 1);
    assert_int_equal(salvo_kafka_slots_take(&s, 2, 1), SALVO_KAFKA_NO_SLOT);
    assert_range(o[0].ranges, 0, 3, 0, 5);
    salvo_kafka_slots_recycle(&s);
    salvo_kafka_slots_record(&s, take(&s, 2, 1), 0, 1, SALVO_ERR_EXPIRED, -1);
    assert_int_equal(salvo_kafka_slots_hand_out(&s, o, 1), 1);
    assert_int_equal(o[0].token, 2);
    salvo_kafka_slots_free(&s);
}

static void a_batch_refused_as_a_whole_waits_for_filled(void **state)
{
    (void)state;
    salvo_kafka_slots s;
    salvo_driver_outcome o[1];
    assert_int_equal(salvo_kafka_slots_init(&s, 1), 0);
    uint32_t slot = salvo_kafka_slots_take(&s, 1, 2);
    salvo_kafka_slots_record(&s, slot, 0, 2, SALVO_ERR_TRANSIENT, -1);
    assert_false(salvo_kafka_slots_have_ready(&s));
    salvo_kafka_slots_untake(&s, slot); /* nothing was sent: it never was out */
    assert_int_equal(s.out_count, 0);
    slot = salvo_kafka_slots_take(&s, 2, 2);
    salvo_kafka_slots_record(&s, slot, 0, 2, SALVO_ERR_TOO_LARGE, -1);
    assert_true(salvo_kafka_slots_filled(&s, slot));
    assert_int_equal(salvo_kafka_slots_hand_out(&s, o, 1), 1);
    assert_int_equal(o[0].token, 2);
    salvo_kafka_slots_free(&s);
}

static void giving_up_fills_every_gap(void **state)
{
    (void)state;
    salvo_kafka_slots s;
    salvo_driver_outcome o[2];
    assert_int_equal(salvo_kafka_slots_init(&s, 2), 0);
    uint32_t slot = take(&s, 1, 20);
    take(&s, 2, 4);
    for (uint32_t i = 2; i < 20; i += 4)
        salvo_kafka_slots_record(&s, slot, i, 1, 0, i);
    salvo_kafka_slots_give_up(&s, SALVO_ERR_MAYBE);
    assert_int_equal(salvo_kafka_slots_hand_out(&s, o, 2), 2);
    assert_int_equal(o[0].range_count, 11);
    uint32_t next = 0;
    for (uint32_t i = 0; i < o[0].range_count; i++) {
        assert_int_equal(o[0].ranges[i].first, next);
        assert_int_equal(o[0].ranges[i].status, i % 2 ? 0 : SALVO_ERR_MAYBE);
        next += o[0].ranges[i].count;
    }
    assert_int_equal(next, 20);
    assert_int_equal(o[1].range_count, 1);
    assert_range(o[1].ranges, 0, 4, SALVO_ERR_MAYBE, -1);
    salvo_kafka_slots_free(&s);
}

static void errors_say_what_is_known(void **state)
{
    (void)state;
    enum { NO = RD_KAFKA_MSG_STATUS_NOT_PERSISTED, MAY = RD_KAFKA_MSG_STATUS_POSSIBLY_PERSISTED };
    static const struct {
        rd_kafka_resp_err_t err;
        int persisted;
        salvo_kafka_mode mode;
        int32_t status;
    } cases[] = {
        {RD_KAFKA_RESP_ERR__MSG_TIMED_OUT, NO, SALVO_KAFKA_RUNNING, SALVO_ERR_EXPIRED},
        {RD_KAFKA_RESP_ERR__MSG_TIMED_OUT, MAY, SALVO_KAFKA_RUNNING, SALVO_ERR_MAYBE},
        {RD_KAFKA_RESP_ERR__PURGE_QUEUE, NO, SALVO_KAFKA_PURGED, SALVO_ERR_DROPPED},
        {RD_KAFKA_RESP_ERR__PURGE_QUEUE, MAY, SALVO_KAFKA_PURGED, SALVO_ERR_MAYBE},
        {RD_KAFKA_RESP_ERR__PURGE_INFLIGHT, MAY, SALVO_KAFKA_PURGED, SALVO_ERR_MAYBE},
        {RD_KAFKA_RESP_ERR__PURGE_QUEUE, NO, SALVO_KAFKA_FATAL, SALVO_ERR_FATAL},
        {RD_KAFKA_RESP_ERR__PURGE_INFLIGHT, MAY, SALVO_KAFKA_FATAL, SALVO_ERR_FATAL},
        {RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, NO, SALVO_KAFKA_RUNNING, SALVO_ERR_TOO_LARGE},
        {RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART, NO, SALVO_KAFKA_RUNNING,
         SALVO_ERR_UNKNOWN_TOPIC},
        {RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, NO, SALVO_KAFKA_FATAL, SALVO_ERR_AUTH},
        {RD_KAFKA_RESP_ERR__QUEUE_FULL, NO, SALVO_KAFKA_RUNNING, SALVO_ERR_TRANSIENT},
        {RD_KAFKA_RESP_ERR_INVALID_RECORD, NO, SALVO_KAFKA_RUNNING, SALVO_ERR_REJECTED},
        {RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT, MAY, SALVO_KAFKA_RUNNING, SALVO_ERR_MAYBE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(salvo_kafka_status(cases[i].err,
                                            (rd_kafka_msg_status_t)cases[i].persisted,
                                            cases[i].mode),
                         cases[i].status);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reports_in_any_order_make_the_same_ranges),
        cmocka_unit_test(handed_out_ranges_stay_until_recycled),
        cmocka_unit_test(a_batch_refused_as_a_whole_waits_for_filled),
        cmocka_unit_test(giving_up_fills_every_gap),
        cmocka_unit_test(errors_say_what_is_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
