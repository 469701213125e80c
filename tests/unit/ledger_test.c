/* SPDX-License-Identifier: Apache-2.0
 *
 * The ledger: it balances per topic and in all after every step of a long, mixed run, and a
 * reader beside running threads never sees an outcome before its acceptance.
 */
#include "engine_fixture.h"

#include <pthread.h>

static const char everything[] =
    "ok; maybe; fail:transient*3; partial:1:rejected; delay:3ms; reject; fatal; "
    "partial:2:transient; down:30ms; ok; fail:too_large; delay:1ms*5; partial:1:maybe; fatal";

/* What was sent, by the caller's own count. */
typedef struct tally {
    uint64_t accepted, too_large, invalid, full;
} tally;

static void send_one(engine *e, salvo_topic topic, unsigned *seed, tally *t)
{
    static const char value[2000];
    char key = (char)('a' + rand_r(seed) % 4);
    salvo_message m = {.value = value, .value_len = (size_t)rand_r(seed) % 1100};
    if (rand_r(seed) % 2 == 0)
        m.key = &key, m.key_len = 1;
    if (rand_r(seed) % 8 == 0)
        m.ttl_ms = 5;
    if (rand_r(seed) % 16 == 0)
        m.partition_plus1 = 1 + rand_r(seed) % 4; /* the fourth is not there */
    if (rand_r(seed) % 50 == 0)
        m.timestamp_ms = -1;
    int err = salvo_send(e->p, topic, &m);
    t->accepted += err == 0;
    t->too_large += err == SALVO_ERR_TOO_LARGE;
    t->invalid += err == SALVO_ERR_INVALID;
    t->full += err == SALVO_ERR_FULL;
}

static void balances_after_every_step(void **state)
{
    (void)state;
    engine e;
    salvo_topic topics[3];
    tally tallies[3] = {0};
    unsigned seed = 11;
    engine_open(&e, (const char *[]){"memory_script", everything, "memory_partitions", "3",
                                     "max_message_bytes", "1000", "batch_bytes", "4000",
                                     "retry_backoff_ms", "2", "full_policy", "fail", NULL});
    const char *const names[] = {"t", "u", "v"};
    for (int i = 0; i < 3; i++)
        assert_int_equal(salvo_topic_open(e.p, names[i], NULL, &topics[i]), 0);
    for (int turn = 0; turn < 600; turn++) {
        for (int n = rand_r(&seed) % 8; n > 0; n--) {
            int i = rand_r(&seed) % 3;
            send_one(&e, topics[i], &seed, &tallies[i]);
        }
        engine_check(&e);
        engine_step(&e, (uint64_t)rand_r(&seed) % (2 * MS));
        for (int i = 0; i < 3; i++) {
            salvo_ledger l = engine_ledger(&e, topics[i]);
            engine_check_ledger(&l);
        }
    }
    engine_settle(&e, 10 * MS, 500);
    salvo_ledger all = engine_ledger(&e, SALVO_ALL_TOPICS), sum = {0};
    for (int i = 0; i < 3; i++) {
        salvo_ledger l = engine_ledger(&e, topics[i]);
        assert_int_equal(l.accepted, tallies[i].accepted);
        assert_int_equal(l.refused_too_large, tallies[i].too_large);
        assert_int_equal(l.refused_invalid, tallies[i].invalid);
        assert_int_equal(l.refused_full, tallies[i].full);
        assert_int_equal(l.pending, 0);
        assert_int_equal(l.pending_counted, 0);
        sum.accepted += l.accepted;
        sum.failed += l.failed;
        sum.acknowledged += l.acknowledged;
    }
    assert_int_equal(sum.accepted, all.accepted);
    assert_int_equal(sum.failed, all.failed);
    assert_int_equal(sum.acknowledged, all.acknowledged);
    assert_true(all.expired > 0 && all.failed > 0 && all.maybe_delivered > 0);
    assert_int_equal(e.p->flushers[0].epoch_records[0] + e.p->flushers[0].epoch_records[1], 0);
    assert_int_equal(engine_stats(&e).arena_used_bytes, 0);
    assert_int_equal(engine_stats(&e).in_flight_messages, 0);
    engine_close(&e, SALVO_ERR_DROPPED);
}

/* Close at a random moment of the same run: everything that was accepted has an outcome. */
static void close_balances_at_any_moment(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 60; seed++) {
        engine e;
        tally t = {0};
        unsigned dice = seed;
        engine_open(&e, (const char *[]){"memory_script", everything, "memory_partitions", "3",
                                         "max_message_bytes", "1000", "batch_bytes", "4000",
                                         "max_topics", "4", NULL});
        for (unsigned turn = 0; turn < seed; turn++) {
            send_one(&e, e.topic, &dice, &t);
            send_one(&e, e.topic, &dice, &t);
            engine_step(&e, (uint64_t)rand_r(&dice) % (4 * MS));
        }
        send_one(&e, e.topic, &dice, &t);
        bool whole = engine_ledger(&e, e.topic).acknowledged == t.accepted;
        salvo_close_report r = engine_close(&e, whole ? 0 : SALVO_ERR_DROPPED);
        assert_int_equal(r.ledger.accepted, t.accepted);
    }
}

static void *send_many(void *context)
{
    engine *e = context;
    for (int i = 0; i < 20000; i++)
        if (salvo_send_fire_and_forget(e->p, e->topic, NULL, 0, "0123456789", 10) != 0)
            return e; /* a failure */
    return NULL;
}

static void pending_is_never_negative(void **state)
{
    (void)state;
    engine e;
    pthread_t threads[3];
    engine_open_as(&e, false, NULL, NULL);
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, send_many, &e), 0);
    for (;;) {
        salvo_ledger l = engine_ledger(&e, SALVO_ALL_TOPICS);
        assert_true(l.acknowledged <= l.accepted);
        assert_true(l.pending <= 60000);
        if (l.accepted == 60000)
            break;
    }
    for (int i = 0; i < 3; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    assert_int_equal(salvo_flush(e.p, 60000), 0);
    engine_check(&e);
    assert_int_equal(engine_close(&e, 0).ledger.acknowledged, 60000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(balances_after_every_step),
        cmocka_unit_test(close_balances_at_any_moment),
        cmocka_unit_test(pending_is_never_negative),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
