/* SPDX-License-Identifier: Apache-2.0
 *
 * The send calls: what is refused and how it is counted, that bytes come back as they went in,
 * batches of values, claims, and waiting for one message's outcome.
 */
#include "engine_fixture.h"

#include "batch.h"
#include <pthread.h>

static const char *const small_ring[] = {"max_message_bytes", "15000", "ring_bytes", "65536",
                                         "ring_descriptors", "1024", NULL};

/* Fill the ring of this thread; nobody drains. The refusal's error. */
static int fill(engine *e, salvo_topic topic, unsigned *sent)
{
    static const char value[4000];
    int err = 0;
    for (*sent = 0; *sent < 1000 && err == 0; *sent += err == 0)
        err = salvo_send_fire_and_forget(e->p, topic, NULL, 0, value, sizeof value);
    return err;
}

static void full_is_refused_by_policy(void **state)
{
    (void)state;
    const struct {
        salvo_policy policy;
        uint64_t full, dropped;
    } cases[] = {{SALVO_POLICY_FAIL, 1, 0}, {SALVO_POLICY_DROP_NEWEST, 0, 1}};
    for (int i = 0; i < 2; i++) {
        engine e;
        unsigned sent;
        salvo_topic topic;
        engine_open(&e, small_ring);
        const salvo_topic_options o = {.size = sizeof o, .full_policy = cases[i].policy};
        assert_int_equal(salvo_topic_open(e.p, "x", &o, &topic), 0);
        assert_int_equal(fill(&e, topic, &sent), SALVO_ERR_FULL);
        assert_in_range(sent, 8, 16);
        engine_check(&e);
        salvo_ledger l = engine_ledger(&e, topic);
        assert_int_equal(l.accepted, sent);
        assert_int_equal(l.refused_full, cases[i].full);
        assert_int_equal(l.refused_dropped, cases[i].dropped);
        engine_settle(&e, 1 * MS, 50);
        assert_int_equal(fill(&e, topic, &sent), SALVO_ERR_FULL); /* room again */
        assert_true(sent > 0);
        engine_settle(&e, 1 * MS, 50);
        engine_close(&e, 0);
    }
}

/* With threads: the broker is away, the arena fills, the ring fills, and the deadline passes. */
static void block_gives_up_at_its_deadline(void **state)
{
    (void)state;
    engine e;
    static const char value[10000];
    int err = 0;
    engine_open_as(&e, false, NULL,
                   (const char *[]){"memory_script", "down:1000s", "buffer_bytes", "8388608",
                                    "max_message_bytes", "15000", "send_timeout_ms", "30", NULL});
    for (int i = 0; i < 10000 && err == 0; i++)
        err = salvo_send_fire_and_forget(e.p, e.topic, NULL, 0, value, sizeof value);
    assert_int_equal(err, SALVO_ERR_TIMEOUT);
    assert_int_equal(engine_ledger(&e, e.topic).refused_timeout, 1);
    salvo_close_report r;
    assert_int_equal(salvo_close(e.p, 1, &r), SALVO_ERR_DROPPED);
    engine_check_ledger(&r.ledger);
    assert_int_equal(r.ledger.pending, 0);
    assert_int_equal(r.ledger.dropped, r.ledger.accepted);
}

/* With threads: a blocked sender goes on as soon as there is room. */
static void block_waits_for_room(void **state)
{
    (void)state;
    engine e;
    static const char value[10000];
    engine_open_as(&e, false, NULL,
                   (const char *[]){"memory_script", "delay:50ms", "buffer_bytes", "8388608",
                                    "max_message_bytes", "15000", NULL});
    for (int i = 0; i < 3000; i++)
        assert_int_equal(salvo_send_fire_and_forget(e.p, e.topic, NULL, 0, value, sizeof value),
                         0);
    assert_int_equal(salvo_flush(e.p, 60000), 0);
    engine_check(&e);
    assert_int_equal(engine_close(&e, 0).ledger.acknowledged, 3000);
}

static void *send_until_refused(void *context)
{
    static const char value[10000];
    engine *e = context;
    int err = 0;
    while (err == 0)
        err = salvo_send_fire_and_forget(e->p, e->topic, NULL, 0, value, sizeof value);
    return err == SALVO_ERR_TIMEOUT ? NULL : e;
}

/* A broker that takes nothing, and a send that would wait for an hour. */
static void unblock_ends_waits(void **state)
{
    (void)state;
    engine e;
    pthread_t sender;
    void *wrong;
    engine_open_as(&e, false, NULL,
                   (const char *[]){"memory_script", "down:3600s", "buffer_bytes", "8388608",
                                    "max_message_bytes", "15000", "send_timeout_ms", "3600000",
                                    NULL});
    assert_int_equal(pthread_create(&sender, NULL, send_until_refused, &e), 0);
    while (atomic_load(&e.p->space_waiters) == 0)
        sched_yield();
    assert_int_equal(salvo_unblock(e.p), 0);
    assert_int_equal(pthread_join(sender, &wrong), 0);
    assert_null(wrong);
    assert_int_equal(engine_ledger(&e, e.topic).refused_timeout, 1);
    assert_null(send_until_refused(&e)); /* none waits from now on */
    assert_int_equal(engine_ledger(&e, e.topic).refused_timeout, 2);
    salvo_close_report report;
    assert_int_equal(salvo_close(e.p, 0, &report), SALVO_ERR_DROPPED);
    engine_check_ledger(&report.ledger);
    assert_int_equal(report.ledger.dropped, report.ledger.accepted);
}

static void too_large_is_counted(void **state)
{
    (void)state;
    engine e;
    static char value[1001];
    const salvo_header h = {"n", 1, value, 990};
    engine_open(&e, (const char *[]){"max_message_bytes", "1000", NULL});
    salvo_message m = {.value = value, .value_len = 1001};
    assert_int_equal(salvo_send(e.p, e.topic, &m), SALVO_ERR_TOO_LARGE);
    assert_non_null(strstr(salvo_last_error(), "max_message_bytes = "));
    m = (salvo_message){.value = value, .value_len = 2, .headers = &h, .header_count = 1};
    assert_int_equal(salvo_send(e.p, e.topic, &m), SALVO_ERR_TOO_LARGE);
    assert_int_equal(salvo_send_fire_and_forget(e.p, e.topic, value, 1, value, 1000),
                     SALVO_ERR_TOO_LARGE);
    assert_int_equal(salvo_send_fire_and_forget(e.p, e.topic, value, SIZE_MAX, value, SIZE_MAX),
                     SALVO_ERR_TOO_LARGE);
    assert_int_equal(salvo_send_fire_and_forget(e.p, e.topic, value, 1, value, 999), 0);
    m = (salvo_message){.value = value, .value_len = 1, .headers = &h, .header_count = 1};
    assert_int_equal(salvo_send(e.p, e.topic, &m), 0); /* 8 + 1 + 990 + 1: exactly the limit */
    assert_int_equal(engine_ledger(&e, e.topic).refused_too_large, 4);
    engine_settle(&e, 1 * MS, 5);
    engine_close(&e, 0);
}

static void invalid_is_counted(void **state)
{
    (void)state;
    engine e;
    engine_open(&e, NULL);
    const salvo_header nameless = {"", 0, "v", 1};
    const salvo_message bad[] = {{.value_len = 1},
                                 {.key_len = 1},
                                 {.partition_plus1 = -1},
                                 {.timestamp_ms = -1},
                                 {.header_count = 1},
                                 {.headers = &nameless, .header_count = 1},
                                 {.headers = &nameless, .header_count = 65}};
    size_t n = sizeof bad / sizeof bad[0];
    for (size_t i = 0; i < n; i++)
        assert_int_equal(salvo_send(e.p, e.topic, &bad[i]), SALVO_ERR_INVALID);
    assert_int_equal(salvo_send(e.p, e.topic, NULL), SALVO_ERR_INVALID);
    assert_int_equal(salvo_send_fire_and_forget(e.p, e.topic, NULL, 1, "", 0), SALVO_ERR_INVALID);
    assert_int_equal(engine_ledger(&e, e.topic).refused_invalid, n + 2);
    assert_int_equal(salvo_send(e.p, e.topic + 1, &bad[0]), SALVO_ERR_UNKNOWN_TOPIC);
    engine_check(&e);
    engine_close(&e, 0);
}

static void expect_record(salvo_reader *reader, const char *key, const char *value)
{
    salvo_record r;
    assert_int_equal(salvo_reader_next(reader, 0, &r), 0);
    assert_int_equal(r.key == NULL, key == NULL);
    assert_int_equal(r.value == NULL, value == NULL);
    assert_int_equal(r.key_len, key != NULL ? strlen(key) : 0);
    assert_int_equal(r.value_len, value != NULL ? strlen(value) : 0);
    if (r.key_len != 0)
        assert_memory_equal(r.key, key, r.key_len);
    if (r.value_len != 0)
        assert_memory_equal(r.value, value, r.value_len);
}

static void bytes_come_back(void **state)
{
    (void)state;
    engine e;
    salvo_record r;
    engine_open(&e, NULL);
    assert_int_equal(salvo_send_fire_and_forget(e.p, e.topic, NULL, 0, NULL, 0), 0);
    assert_int_equal(salvo_send_fire_and_forget(e.p, e.topic, "", 0, "", 0), 0);
    assert_int_equal(salvo_send_fire_and_forget(e.p, e.topic, "k", 1, NULL, 0), 0);
    salvo_message tombstone = {.key = "k2", .key_len = 2};
    assert_int_equal(salvo_send(e.p, e.topic, &tombstone), 0);
    const salvo_header headers[] = {{"a", 1, "1", 1}, {"empty", 5, "", 0}, {"none", 4, NULL, 0}};
    salvo_message m = {.value = "v", .value_len = 1, .key = "", .headers = headers,
                       .header_count = 3, .timestamp_ms = 1234567890123};
    assert_int_equal(salvo_send(e.p, e.topic, &m), 0);
    engine_settle(&e, 1 * MS, 5);
    salvo_reader *reader = engine_reader(&e, "t");
    expect_record(reader, NULL, NULL);
    expect_record(reader, "", "");
    expect_record(reader, "k", NULL);
    expect_record(reader, "k2", NULL);
    assert_int_equal(salvo_reader_next(reader, 0, &r), 0);
    assert_int_equal(r.timestamp_ms, 1234567890123);
    assert_int_equal(r.header_count, 3);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(r.headers[i].name_len, headers[i].name_len);
        assert_memory_equal(r.headers[i].name, headers[i].name, headers[i].name_len);
        assert_int_equal(r.headers[i].value == NULL, headers[i].value == NULL);
        assert_int_equal(r.headers[i].value_len, headers[i].value_len);
    }
    assert_memory_equal(r.value, "v", 1);
    salvo_reader_close(reader);
    engine_close(&e, 0);
}

static void a_batch_counts_its_prefix(void **state)
{
    (void)state;
    engine e;
    static const char large[20000];
    salvo_bytes values[40];
    engine_open(&e, small_ring);
    const salvo_topic_options o = {.size = sizeof o, .full_policy = SALVO_POLICY_FAIL};
    salvo_topic topic;
    assert_int_equal(salvo_topic_open(e.p, "x", &o, &topic), 0);
    for (int i = 0; i < 40; i++)
        values[i] = (salvo_bytes){large, 4000};
    values[3].len = sizeof large; /* over max_message_bytes */
    assert_int_equal(salvo_send_batch_fire_and_forget(e.p, topic, values, 5), 3);
    assert_int_equal(engine_ledger(&e, topic).refused_too_large, 2);
    assert_int_equal(salvo_send_batch_fire_and_forget(e.p, topic, values + 3, 1),
                     SALVO_ERR_TOO_LARGE);
    engine_settle(&e, 1 * MS, 50);
    values[3].len = 4000;
    int64_t n = salvo_send_batch_fire_and_forget(e.p, topic, values, 40);
    assert_in_range(n, 4, 16); /* until the ring was full */
    engine_check(&e);
    salvo_ledger l = engine_ledger(&e, topic);
    assert_int_equal(l.accepted, 3 + (uint64_t)n);
    assert_int_equal(l.refused_full, 40 - (uint64_t)n);
    assert_int_equal(l.offered, 5 + 1 + 40);
    assert_int_equal(salvo_send_batch_fire_and_forget(e.p, topic, NULL, 1), SALVO_ERR_INVALID);
    assert_int_equal(salvo_send_batch_fire_and_forget(e.p, topic, NULL, 0), 0);
    engine_settle(&e, 1 * MS, 50);
    engine_close(&e, 0);
}

static void a_batch_that_meets_a_full_ring_says_so(void **state)
{
    (void)state;
    engine e;
    unsigned sent;
    const salvo_bytes values[2] = {{"0123456789", 10}, {"0123456789", 10}};
    engine_open(&e, small_ring);
    const salvo_topic_options o = {.size = sizeof o, .full_policy = SALVO_POLICY_DROP_NEWEST};
    salvo_topic topic;
    assert_int_equal(salvo_topic_open(e.p, "x", &o, &topic), 0);
    assert_int_equal(fill(&e, topic, &sent), SALVO_ERR_FULL);
    while (salvo_send_fire_and_forget(e.p, topic, NULL, 0, "0123456789", 10) == 0)
        sent++;
    uint64_t before = engine_ledger(&e, topic).refused_dropped;
    assert_int_equal(salvo_send_batch_fire_and_forget(e.p, topic, values, 2), 0);
    assert_int_equal(engine_ledger(&e, topic).refused_dropped, before + 2);
    engine_settle(&e, 1 * MS, 50);
    engine_close(&e, 0);
}

static void claims_commit_and_abort(void **state)
{
    (void)state;
    engine e;
    salvo_claim_slot slot, other;
    engine_open(&e, NULL);
    assert_int_equal(salvo_claim(e.p, e.topic, "key", 3, 2, &slot), 0);
    assert_int_equal(slot.len, 2);
    memcpy(slot.value, "ab", 2);
    assert_int_equal(salvo_claim(e.p, e.topic, NULL, 0, 1, &other), 0);
    e.open_claims = 2;
    assert_int_equal(engine_ledger(&e, e.topic).accepted, 0);
    engine_step(&e, 10 * MS);
    assert_int_equal(salvo_abort(e.p, &other), 0);
    assert_int_equal(salvo_commit(e.p, &slot), 0);
    assert_int_equal(salvo_commit(e.p, &slot), SALVO_ERR_INVALID); /* once */
    assert_int_equal(salvo_abort(e.p, &other), SALVO_ERR_INVALID);
    e.open_claims = 0;
    salvo_flusher_work(&e.p->flushers[0]);
    engine_settle(&e, 1 * MS, 5);
    salvo_ledger l = engine_ledger(&e, e.topic);
    assert_int_equal(l.offered, 1);
    assert_int_equal(l.acknowledged, 1);
    salvo_reader *reader = engine_reader(&e, "t");
    expect_record(reader, "key", "ab");
    salvo_reader_close(reader);
    engine_close(&e, 0);
}

/* Two claims are never committed; what lies behind each is accepted, and so has an outcome. */
static void stuck_claims_are_quarantined(void **state)
{
    (void)state;
    engine e;
    salvo_claim_slot first, second;
    engine_open(&e, NULL);
    engine_send(&e, 0, 1, 1);
    assert_int_equal(salvo_claim(e.p, e.topic, NULL, 0, 1, &first), 0);
    e.open_claims = 1;
    engine_send(&e, 0, 2, 2);
    assert_int_equal(salvo_claim(e.p, e.topic, NULL, 0, 1, &second), 0);
    e.open_claims = 2;
    engine_send(&e, 0, 4, 1);
    for (int i = 0; i < 20; i++)
        engine_step(&e, 10 * MS);
    assert_int_equal(engine_ledger(&e, e.topic).acknowledged, 1);
    assert_int_equal(engine_stats(&e).stalled_claims, 1);
    assert_true(engine_stats(&e).stalled_since_ns > 0);
    salvo_close_report r = engine_close(&e, SALVO_ERR_DROPPED);
    assert_int_equal(r.stuck_claims, 2);
    assert_int_equal(r.ledger.accepted, 4);
    assert_int_equal(r.ledger.dropped, 3);
}

typedef struct waiting {
    engine *e;
    uint64_t timeout_ms;
    salvo_report report;
    int result;
    _Atomic int done;
} waiting;

static void *send_and_wait(void *context)
{
    waiting *w = context;
    salvo_message m = {.value = "w", .value_len = 1, .opaque = 7};
    w->result = salvo_send_wait(w->e->p, w->e->topic, &m, w->timeout_ms, &w->report);
    atomic_store(&w->done, 1);
    return NULL;
}

/* By hand, since a sender works meanwhile: the ledger is not at rest. */
static void wait_until_done(engine *e, waiting *w, uint64_t each_ns)
{
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, send_and_wait, w), 0);
    while (atomic_load(&w->done) == 0) {
        __atomic_fetch_add(&e->now_ns, each_ns, __ATOMIC_RELAXED);
        salvo_flusher_work(&e->p->flushers[0]);
    }
    pthread_join(thread, NULL);
    engine_check(e);
}

static void send_wait_tells_the_outcome(void **state)
{
    (void)state;
    engine e;
    engine_open(&e, (const char *[]){"linger_us", "100000000", "memory_script", "ok; reject",
                                     NULL});
    waiting w = {.e = &e, .timeout_ms = SALVO_WAIT_FOREVER};
    wait_until_done(&e, &w, 0); /* not by linger */
    assert_int_equal(w.result, 0);
    assert_int_equal(w.report.status, 0);
    assert_int_equal(w.report.offset, 0);
    assert_int_equal(w.report.opaque, 7);
    assert_int_equal(engine_stats(&e).closed_by_waiter, 1);
    atomic_store(&w.done, 0);
    wait_until_done(&e, &w, 0);
    assert_int_equal(w.result, SALVO_ERR_REJECTED);
    assert_int_equal(engine_ledger(&e, e.topic).failed, 1);
    engine_close(&e, SALVO_ERR_DROPPED);
}

static void a_late_outcome_finds_nobody(void **state)
{
    (void)state;
    engine e;
    engine_open(&e, (const char *[]){"memory_script", "delay:1s; reject", NULL});
    waiting w = {.e = &e, .timeout_ms = 1};
    salvo_message m = {.value = "w", .value_len = 1};
    assert_int_equal(salvo_send_wait(e.p, e.topic, &m, 1, &w.report), SALVO_ERR_TIMEOUT);
    engine_step(&e, 1 * MS);
    assert_int_equal(engine_ledger(&e, e.topic).pending, 1);
    w.timeout_ms = SALVO_WAIT_FOREVER; /* the next wait gets its own outcome, not the late one */
    wait_until_done(&e, &w, 10 * MS);
    assert_int_equal(w.result, SALVO_ERR_REJECTED);
    salvo_ledger l = engine_ledger(&e, e.topic);
    assert_int_equal(l.acknowledged, 1);
    assert_int_equal(l.failed, 1);
    engine_close(&e, SALVO_ERR_DROPPED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(full_is_refused_by_policy),
        cmocka_unit_test(block_gives_up_at_its_deadline),
        cmocka_unit_test(block_waits_for_room),
        cmocka_unit_test(unblock_ends_waits),
        cmocka_unit_test(too_large_is_counted),
        cmocka_unit_test(invalid_is_counted),
        cmocka_unit_test(bytes_come_back),
        cmocka_unit_test(a_batch_counts_its_prefix),
        cmocka_unit_test(a_batch_that_meets_a_full_ring_says_so),
        cmocka_unit_test(claims_commit_and_abort),
        cmocka_unit_test(stuck_claims_are_quarantined),
        cmocka_unit_test(send_wait_tells_the_outcome),
        cmocka_unit_test(a_late_outcome_finds_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
