/* SPDX-License-Identifier: Apache-2.0
 *
 * Consumer groups on a real Kafka, one member at a time or two: what is given, what is committed,
 * moving about, and what a person is told. The tests of kafka_group_test.c are about many members
 * and about trouble.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kafka_group_world.h"

static const salvo_consumer_options plain;

typedef struct scene {
    char topic[96], group[112];
    salvo_config *config;
    salvo_consumer *consumer;
} scene;

static scene begin(const char *what, int partitions, int messages,
                   const salvo_consumer_options *options)
{
    scene s = {0};
    fresh_name(s.topic, what);
    snprintf(s.group, sizeof s.group, "%s-group", s.topic);
    create_topic(shared_broker(), s.topic, partitions);
    if (messages > 0)
        fill(shared_broker(), s.topic, partitions, 0, messages);
    s.config = member_config(shared_broker());
    if (options)
        s.consumer = member_open(s.config, s.group, s.topic, *options);
    return s;
}

static void end(scene *s)
{
    if (s->consumer)
        assert_int_equal(salvo_consumer_close(s->consumer, 10000), 0);
    salvo_config_free(s->config);
}

static void reopen(scene *s)
{
    assert_int_equal(salvo_consumer_close(s->consumer, 10000), 0);
    s->consumer = member_open(s->config, s->group, s->topic, plain);
}

/* Each once, in order; the content as it was sent; a second look finds nothing. */
static void test_all_once(void **state)
{
    (void)state;
    enum { COUNT = 2000, PARTITIONS = 3 };
    scene s = begin("once", PARTITIONS, COUNT, &plain);
    int next[PARTITIONS] = {0}, got = 0;
    uint64_t deadline = world_now_ms() + 30000;
    while (got < COUNT * PARTITIONS && world_now_ms() < deadline) {
        const salvo_delivered *m;
        size_t count;
        int err = salvo_consumer_poll(s.consumer, 1000, &m, AT_ONCE, &count);
        assert_true(err == 0 || err == SALVO_ERR_TIMEOUT);
        for (size_t i = 0; i < count; i++) {
            const salvo_record *r = &m[i].record;
            assert_string_equal(r->topic, s.topic);
            assert_int_equal(number_of(r), next[r->partition]++);
            assert_int_equal(r->offset, number_of(r));
            assert_int_equal(r->key_len, r->value_len);
            assert_memory_equal(r->key, r->value, r->value_len);
            assert_true(r->timestamp_ms > 0);
            assert_int_equal(r->header_count, 0);
            assert_int_equal(salvo_consumer_ack(s.consumer, &m[i].id, 1), 1);
        }
        got += (int)count;
    }
    assert_int_equal(got, COUNT * PARTITIONS);
    salvo_lag lags[PARTITIONS];
    assert_int_equal(salvo_consumer_lag(s.consumer, lags, PARTITIONS, 10000), PARTITIONS);
    for (int p = 0; p < PARTITIONS; p++) {
        assert_int_equal(lags[p].end, COUNT);
        assert_int_equal(lags[p].lag, 0);
    }
    assert_int_equal(salvo_consumer_commit(s.consumer, 10000), 0);
    assert_int_equal(salvo_consumer_lag(s.consumer, lags, PARTITIONS, 10000), PARTITIONS);
    for (int p = 0; p < PARTITIONS; p++)
        assert_int_equal(lags[p].committed, COUNT);
    assert_string_equal(member_stats(s.consumer).broker_state, "up");
    reopen(&s);
    member_assigned(s.consumer, PARTITIONS);
    member_quiet(s.consumer, 1500);
    end(&s);
}

/* Headers, null values and keys, times: as they were sent; several messages of a poll at once. */
static void test_content(void **state)
{
    (void)state;
    enum { COUNT = 100 };
    scene s = begin("content", 1, 0, &plain);
    world w = world_new(shared_broker());
    salvo_topic topic = world_open(&w, s.topic);
    for (int i = 0; i < COUNT; i++) {
        salvo_header headers[3] = {{"a", 1, "1", 1}, {"null", 4, NULL, 0}, {"empty", 5, "", 0}};
        salvo_message m = {.value = i % 2 ? NULL : "v", .value_len = i % 2 ? 0 : 1,
                           .key = i % 3 ? "k" : NULL, .key_len = i % 3 ? 1 : 0,
                           .headers = headers, .header_count = (size_t)(i % 4),
                           .timestamp_ms = 1000 + i};
        assert_int_equal(salvo_send(w.producer, topic, &m), 0);
    }
    world_flush(&w, 30000);
    uint64_t end_ms = world_now_ms() + 30000;
    for (int got = 0; got < COUNT && world_now_ms() < end_ms;) {
        const salvo_delivered *m;
        size_t count;
        int err = salvo_consumer_poll(s.consumer, 1000, &m, AT_ONCE, &count);
        assert_true(err == 0 || err == SALVO_ERR_TIMEOUT);
        for (size_t i = 0; i < count; i++) {
            const salvo_record *r = &m[i].record;
            int n = (int)r->offset;
            assert_int_equal(n, got++);
            assert_int_equal(r->timestamp_ms, 1000 + n);
            assert_int_equal(r->value == NULL, n % 2);
            assert_int_equal(r->key != NULL, n % 3 != 0);
            assert_int_equal(r->header_count, n % 4);
            for (size_t h = 0; h < r->header_count; h++) {
                static const char *const names[] = {"a", "null", "empty"};
                assert_string_equal(r->headers[h].name, names[h]);
                assert_int_equal(r->headers[h].value_len, h == 0);
                assert_int_equal(r->headers[h].value == NULL, h == 1);
            }
        }
    }
    assert_int_equal(member_stats(s.consumer).received, COUNT);
    world_end(&w, 10000);
    end(&s);
}

/* Settled in any order: the lowest unsettled is what the next member begins with. */
static void test_lowest_unsettled(void **state)
{
    (void)state;
    enum { COUNT = 100, HOLE = 40 };
    scene s = begin("lowest", 1, COUNT, &plain);
    uint64_t ids[COUNT];
    tally *t = tally_new(1, COUNT);
    assert_int_equal(member_take(s.consumer, t, COUNT, 30000, ids), COUNT);
    for (int i = COUNT - 1; i >= 0; i--)
        if (i != HOLE)
            assert_int_equal(salvo_consumer_ack(s.consumer, &ids[i], 1), 1);
    assert_int_equal(salvo_consumer_is_held(s.consumer, ids[HOLE]), 1);
    salvo_lag lag;
    assert_int_equal(salvo_consumer_commit(s.consumer, 10000), 0);
    assert_int_equal(salvo_consumer_lag(s.consumer, &lag, 1, 10000), 1);
    assert_int_equal(lag.committed, HOLE);
    assert_int_equal(lag.lag, COUNT - HOLE);
    reopen(&s);
    assert_int_equal(member_take(s.consumer, t, COUNT - HOLE, 30000, NULL), COUNT - HOLE);
    assert_int_equal(atomic_load(&t->given[HOLE - 1]), 1);
    assert_int_equal(atomic_load(&t->given[HOLE]), 2);
    tally_free(t);
    end(&s);
}

/* By itself after the interval, and not with manual_commit. */
static void test_commit_interval(void **state)
{
    (void)state;
    scene s = begin("interval", 1, 10, NULL);
    config_set(s.config, "kafka_auto_commit_interval_ms", "200");
    for (uint32_t manual = 1; manual <= 2; manual++) { /* 2: automatic */
        salvo_consumer_options options = {.manual_commit = manual};
        uint64_t ids[10];
        salvo_lag lag = {0};
        s.consumer = member_open(s.config, s.group, s.topic, options);
        assert_int_equal(member_take(s.consumer, NULL, 10, 30000, ids), 10);
        assert_int_equal(salvo_consumer_ack(s.consumer, ids, 10), 10);
        member_quiet(s.consumer, 1000);
        assert_int_equal(salvo_consumer_lag(s.consumer, &lag, 1, 10000), 1);
        assert_int_equal(lag.committed, manual == 1 ? -1 : 10);
        assert_int_equal(lag.lag, 0);
        assert_int_equal(member_stats(s.consumer).commits, manual == 1 ? 0 : 1);
        assert_int_equal(salvo_consumer_close(s.consumer, 10000), 0);
    }
    s.consumer = NULL;
    end(&s);
}

static void test_seek_and_rewind(void **state)
{
    (void)state;
    enum { COUNT = 50 };
    scene s = begin("seek", 1, COUNT, &plain);
    uint64_t ids[COUNT];
    tally *t = tally_new(1, COUNT);
    assert_int_equal(member_take(s.consumer, t, COUNT, 30000, ids), COUNT);
    assert_int_equal(salvo_consumer_ack(s.consumer, ids, 20), 20);
    assert_int_equal(salvo_consumer_commit(s.consumer, 10000), 0);
    assert_int_equal(salvo_consumer_ack(s.consumer, ids + 20, 10), 10);
    assert_int_equal(salvo_consumer_rewind(s.consumer), 0); /* to 20; the last 10 are forgotten */
    assert_int_equal(salvo_consumer_is_held(s.consumer, ids[45]), 0);
    assert_int_equal(member_take(s.consumer, t, COUNT - 20, 30000, ids), COUNT - 20);
    assert_int_equal(atomic_load(&t->given[19]), 1);
    assert_int_equal(atomic_load(&t->given[20]), 2);
    assert_int_equal(salvo_consumer_seek(s.consumer, s.topic, 0, 45), 0);
    assert_int_equal(salvo_consumer_ack(s.consumer, ids, COUNT - 20), 0); /* ours no more */
    assert_int_equal(member_take(s.consumer, t, 5, 30000, ids), 5);
    assert_int_equal(atomic_load(&t->given[44]), 2);
    assert_int_equal(atomic_load(&t->given[45]), 3);
    assert_int_equal(salvo_consumer_seek(s.consumer, s.topic, 0, SALVO_OFFSET_BEGIN), 0);
    assert_int_equal(member_take(s.consumer, t, COUNT, 30000, NULL), COUNT);
    assert_int_equal(salvo_consumer_seek(s.consumer, s.topic, 0, SALVO_OFFSET_END), 0);
    member_quiet(s.consumer, 1000);
    fill(shared_broker(), s.topic, 1, 0, 1);
    assert_int_equal(member_take(s.consumer, NULL, 1, 10000, NULL), 1);
    assert_int_equal(salvo_consumer_seek(s.consumer, s.topic, 7, 0), SALVO_ERR_PARTITION);
    tally_free(t);
    end(&s);
}

/* What is paused stays so over a rebalance; the others go on. */
static void test_pause(void **state)
{
    (void)state;
    scene s = begin("pause", 2, 0, &plain);
    member_assigned(s.consumer, 2);
    assert_int_equal(salvo_consumer_pause(s.consumer, s.topic, 1), 0);
    fill(shared_broker(), s.topic, 2, 0, 100);
    tally *t = tally_new(2, 100);
    assert_int_equal(member_take(s.consumer, t, 101, 3000, NULL), 100);
    assert_int_equal(atomic_load(&t->given[100]), 0); /* partition 1 */
    assert_int_equal(salvo_consumer_pause(s.consumer, s.topic, 0), 0); /* whichever goes */
    salvo_consumer *other = member_open(s.config, s.group, s.topic, plain);
    uint64_t until = world_now_ms() + 30000;
    const salvo_delivered *m;
    size_t count;
    while (member_stats(other).assigned != 1 && world_now_ms() < until) {
        (void)!salvo_consumer_poll(other, 20, &m, 0, &count);
        (void)!salvo_consumer_poll(s.consumer, 20, &m, 0, &count);
    }
    assert_int_equal(salvo_consumer_close(other, 10000), 0);
    member_assigned(s.consumer, 2);
    fill(shared_broker(), s.topic, 2, 0, 1);
    member_quiet(s.consumer, 3000);
    assert_int_equal(salvo_consumer_resume(s.consumer, s.topic, SALVO_PARTITION_ALL), 0);
    (void)member_take(s.consumer, t, 1000, 5000, NULL);
    assert_int_equal(atomic_load(&t->given[199]), 1);
    assert_int_equal(atomic_load(&t->distinct), 200);
    tally_free(t);
    end(&s);
}

/* A full hand: nothing more comes, and a rebalance goes on all the same. */
static void test_full_hand(void **state)
{
    (void)state;
    salvo_consumer_options options = {.max_in_hand = 10};
    scene s = begin("hand", 2, 100, NULL);
    config_set(s.config, "kafka_rebalance_wait_ms", "500");
    s.consumer = member_open(s.config, s.group, s.topic, options);
    uint64_t ids[11];
    assert_int_equal(member_take(s.consumer, NULL, 11, 3000, ids), 10);
    salvo_consumer *other = member_open(s.config, s.group, s.topic, plain);
    const salvo_delivered *m;
    size_t count;
    uint64_t until = world_now_ms() + 30000;
    while (member_stats(other).assigned != 1 && world_now_ms() < until) {
        (void)!salvo_consumer_poll(other, 20, &m, 0, &count);
        (void)!salvo_consumer_poll(s.consumer, 20, &m, 10, &count);
        if (member_stats(s.consumer).lost == 0)
            assert_int_equal(count, 0);
    }
    assert_int_equal(member_stats(other).assigned, 1);
    assert_int_equal(member_stats(s.consumer).assigned, 1);
    assert_int_equal(salvo_consumer_close(other, 10000), 0);
    end(&s);
}

/* --- what a person is told --------------------------------------------------------------------*/

static void expect_open_error(const salvo_config *config, int wanted, const char *text)
{
    const char *topic = "some";
    salvo_consumer *consumer;
    salvo_consumer_options o = {.size = sizeof o, .group = "g", .topics = &topic,
                                .topic_count = 1, .open_timeout_ms = 1500};
    assert_int_equal(salvo_consumer_open(config, NULL, &o, &consumer), wanted);
    assert_null(consumer);
    if (!strstr(salvo_last_error(), text))
        fail_msg("'%s' is not in '%s'", text, salvo_last_error());
}

static void test_open_errors(void **state)
{
    (void)state;
    salvo_config *config = member_config("127.0.0.1:1");
    expect_open_error(config, SALVO_ERR_UNREACHABLE, "127.0.0.1:1");
    salvo_config_free(config);
    config = member_config(shared_broker());
    config_set(config, "kafka_heartbeat_interval_ms", "10000");
    expect_open_error(config, SALVO_ERR_CONFIG, "kafka_heartbeat_interval_ms");
    config_set(config, "kafka_heartbeat_interval_ms", "3000");
    config_set(config, "rdkafka.enable.auto.commit", "true");
    expect_open_error(config, SALVO_ERR_CONFIG, "rdkafka.enable.auto.commit");
    salvo_config_free(config);
}

/* A topic that is not there is a state; once it is made, its messages come. */
static void test_topic_comes_later(void **state)
{
    (void)state;
    char address[64], topic[96];
    own_broker("start --auto-create off", address, sizeof address);
    fresh_name(topic, "later");
    salvo_config *config = member_config(address);
    salvo_consumer *consumer = member_open(config, "later", topic, plain);
    uint64_t until = world_now_ms() + 15000;
    while (!strstr(member_stats(consumer).broker_state, "not there yet") && world_now_ms() < until)
        assert_int_equal(member_take(consumer, NULL, 1, 100, NULL), 0);
    assert_non_null(strstr(member_stats(consumer).broker_state, "not there yet"));
    create_topic(address, topic, 1);
    fill(address, topic, 1, 0, 5);
    assert_int_equal(member_take(consumer, NULL, 5, 30000, NULL), 5);
    assert_string_equal(member_stats(consumer).broker_state, "up");
    assert_int_equal(salvo_consumer_close(consumer, 10000), 0);
    salvo_config_free(config);
    own_broker("stop", NULL, 0);
}

static int poll_until_error(salvo_consumer *consumer, uint64_t wait_ms)
{
    uint64_t end_ms = world_now_ms() + wait_ms;
    int err = SALVO_ERR_TIMEOUT;
    const salvo_delivered *m;
    size_t count;
    while ((err == SALVO_ERR_TIMEOUT || err == 0) && world_now_ms() < end_ms)
        err = salvo_consumer_poll(consumer, 100, &m, AT_ONCE, &count);
    return err;
}

static void test_no_offset(void **state)
{
    (void)state;
    scene s = begin("none", 1, 5, NULL);
    config_set(s.config, "kafka_auto_offset_reset", "none");
    s.consumer = member_open(s.config, s.group, s.topic, plain);
    assert_int_equal(poll_until_error(s.consumer, 30000), SALVO_ERR_CONFIG);
    assert_non_null(strstr(salvo_last_error(), "kafka_auto_offset_reset = none"));
    assert_int_equal(salvo_consumer_seek(s.consumer, s.topic, 0, 2), 0);
    assert_int_equal(member_take(s.consumer, NULL, 3, 30000, NULL), 3);
    end(&s);
}

/* The name of a static member is taken by another: the first is told, for good. */
static void test_fenced_member(void **state)
{
    (void)state;
    salvo_consumer_options named = {.member = "one"};
    scene s = begin("fenced", 1, 1, &named);
    assert_int_equal(member_take(s.consumer, NULL, 1, 30000, NULL), 1);
    salvo_consumer *second = member_open(s.config, s.group, s.topic, named);
    assert_int_equal(member_take(second, NULL, 1, 30000, NULL), 1);
    assert_int_equal(poll_until_error(s.consumer, 30000), SALVO_ERR_FATAL);
    assert_non_null(strstr(salvo_last_error(), "'one'"));
    assert_int_equal(poll_until_error(s.consumer, 1000), SALVO_ERR_FATAL);
    assert_int_equal(salvo_consumer_close(second, 10000), 0);
    salvo_consumer_close(s.consumer, 10000);
    s.consumer = NULL;
    end(&s);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_once),
        cmocka_unit_test(test_content),
        cmocka_unit_test(test_lowest_unsettled),
        cmocka_unit_test(test_commit_interval),
        cmocka_unit_test(test_seek_and_rewind),
        cmocka_unit_test(test_pause),
        cmocka_unit_test(test_full_hand),
        cmocka_unit_test(test_open_errors),
        cmocka_unit_test(test_topic_comes_later),
        cmocka_unit_test(test_no_offset),
        cmocka_unit_test(test_fenced_member),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
