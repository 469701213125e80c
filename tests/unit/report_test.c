/* SPDX-License-Identifier: Apache-2.0
 *
 * Delivery reports: by poll with a readable descriptor, by callback, what a callback may not do,
 * and that no more are promised than there are places for.
 */
#include "engine_fixture.h"

#include <poll.h>

static void send_reported(engine *e, uint64_t opaque)
{
    const salvo_message m = {.value = "v", .value_len = 1, .opaque = opaque, .report = 1};
    assert_int_equal(salvo_send(e->p, e->topic, &m), 0);
}

static bool readable(engine *e)
{
    struct pollfd fd = {.fd = salvo_report_fd(e->p), .events = POLLIN};
    assert_true(fd.fd >= 0);
    return poll(&fd, 1, 0) == 1;
}

static void polled_reports_make_the_descriptor_readable(void **state)
{
    (void)state;
    engine e;
    salvo_report r[4];
    engine_open(&e, NULL);
    for (uint64_t i = 0; i < 5; i++)
        send_reported(&e, 100 + i);
    engine_send(&e, -1, 1, 3); /* asked for none, gets none */
    assert_false(readable(&e));
    assert_int_equal(salvo_poll_reports(e.p, r, 4), 0);
    engine_step(&e, 1 * MS);
    assert_true(readable(&e));
    assert_int_equal(engine_stats(&e).reports_waiting, 5);
    assert_int_equal(salvo_poll_reports(e.p, r, 4), 4);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(r[i].opaque, 100 + i);
        assert_int_equal(r[i].offset, i);
        assert_int_equal(r[i].partition, 0);
        assert_int_equal(r[i].topic, e.topic);
        assert_int_equal(r[i].status, 0);
        assert_int_equal(r[i].latency_ns, 1 * MS);
    }
    assert_true(readable(&e)); /* one is left */
    assert_int_equal(salvo_poll_reports(e.p, r, 4), 1);
    assert_int_equal(r[0].opaque, 104);
    assert_false(readable(&e));
    assert_int_equal(salvo_poll_reports(e.p, NULL, 1), SALVO_ERR_INVALID);
    engine_close(&e, 0);
}

static void statuses_come_as_the_broker_said(void **state)
{
    (void)state;
    const int32_t expected[] = {0, SALVO_ERR_MAYBE, SALVO_ERR_REJECTED, SALVO_ERR_TOO_LARGE,
                                SALVO_ERR_AUTH, 0};
    engine e;
    salvo_report r[8];
    engine_open(&e, (const char *[]){"batch_messages", "1", "memory_script",
                                     "ok; maybe; reject; fail:too_large; fail:auth", NULL});
    for (uint64_t i = 0; i < 6; i++)
        send_reported(&e, i);
    engine_settle(&e, 1 * MS, 20);
    assert_int_equal(salvo_poll_reports(e.p, r, 8), 6);
    for (uint64_t i = 0; i < 6; i++) {
        assert_int_equal(r[i].opaque, i);
        assert_int_equal(r[i].status, expected[i]);
        assert_int_equal(r[i].offset < 0, expected[i] != 0);
    }
    salvo_ledger l = engine_ledger(&e, e.topic);
    assert_int_equal(l.acknowledged, 2);
    assert_int_equal(l.failed, 4);
    assert_int_equal(l.maybe_delivered, 1);
    assert_int_equal(engine_close(&e, SALVO_ERR_DROPPED).undelivered, 4);
}

static void places_are_reserved(void **state)
{
    (void)state;
    engine e;
    salvo_report r[4];
    const salvo_message m = {.value = "v", .value_len = 1, .report = 1};
    engine_open(&e, (const char *[]){"max_reports", "3", NULL});
    for (int round = 0; round < 3; round++) {
        for (uint64_t i = 0; i < 3; i++)
            send_reported(&e, i);
        assert_int_equal(salvo_send(e.p, e.topic, &m), SALVO_ERR_LIMIT);
        engine_settle(&e, 1 * MS, 5);
        assert_int_equal(salvo_send(e.p, e.topic, &m), SALVO_ERR_LIMIT); /* not taken yet */
        assert_int_equal(salvo_poll_reports(e.p, r, 4), 3);
    }
    assert_int_equal(engine_ledger(&e, e.topic).refused_invalid, 6);
    engine_close(&e, 0);
}

/* A refusal gives its place back. */
static void a_refused_message_keeps_no_place(void **state)
{
    (void)state;
    engine e;
    static const char value[1001];
    const salvo_message large = {.value = value, .value_len = sizeof value, .report = 1};
    engine_open(&e, (const char *[]){"max_reports", "1", "max_message_bytes", "1000", NULL});
    for (int i = 0; i < 3; i++)
        assert_int_equal(salvo_send(e.p, e.topic, &large), SALVO_ERR_TOO_LARGE);
    send_reported(&e, 1);
    engine_settle(&e, 1 * MS, 5);
    engine_close(&e, 0);
}

typedef struct listener {
    engine *e;
    size_t heard;
    uint64_t next;
    int flush, close, wait, send;
} listener;

static void listen(void *context, const salvo_report *reports, size_t count)
{
    listener *l = context;
    const salvo_message m = {.value = "w", .value_len = 1};
    for (size_t i = 0; i < count; i++)
        l->next += reports[i].opaque == l->next;
    l->heard += count;
    if (l->heard > count)
        return;
    l->flush = salvo_flush(l->e->p, 1000);
    l->close = salvo_close(l->e->p, 1000, NULL);
    l->wait = salvo_send_wait(l->e->p, l->e->topic, &m, 1000, NULL);
    l->send = salvo_send(l->e->p, l->e->topic, &m); /* does not wait: allowed */
}

static void a_callback_hears_all_and_may_not_wait(void **state)
{
    (void)state;
    engine e;
    listener l = {.e = &e};
    const salvo_options o = {.size = sizeof o, .on_report = listen, .report_context = &l};
    engine_open_as(&e, true, &o, NULL);
    for (uint64_t i = 0; i < 600; i++)
        send_reported(&e, i);
    engine_settle(&e, 1 * MS, 20);
    assert_int_equal(l.heard, 600);
    assert_int_equal(l.next, 600);
    assert_int_equal(l.flush, SALVO_ERR_REENTRANT);
    assert_int_equal(l.close, SALVO_ERR_REENTRANT);
    assert_int_equal(l.wait, SALVO_ERR_REENTRANT);
    assert_int_equal(l.send, 0);
    salvo_report r;
    assert_int_equal(salvo_poll_reports(e.p, &r, 1), SALVO_ERR_UNSUPPORTED);
    assert_int_equal(engine_ledger(&e, e.topic).acknowledged, 601);
    engine_close(&e, 0);
}

static void close_reports_what_it_drops(void **state)
{
    (void)state;
    engine e;
    listener l = {.e = &e, .heard = 1}; /* no calls from it */
    const salvo_options o = {.size = sizeof o, .on_report = listen, .report_context = &l};
    engine_open_as(&e, true, &o, NULL);
    for (uint64_t i = 0; i < 3; i++)
        send_reported(&e, i);
    engine_close(&e, SALVO_ERR_DROPPED);
    assert_int_equal(l.next, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(polled_reports_make_the_descriptor_readable),
        cmocka_unit_test(statuses_come_as_the_broker_said),
        cmocka_unit_test(places_are_reserved),
        cmocka_unit_test(a_refused_message_keeps_no_place),
        cmocka_unit_test(a_callback_hears_all_and_may_not_wait),
        cmocka_unit_test(close_reports_what_it_drops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
