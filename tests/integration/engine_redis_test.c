/* SPDX-License-Identifier: Apache-2.0
 *
 * The engine through its public functions against real Redis servers of the test's own: order per
 * key over threads, every part of a message, a server that is killed and restarted, one that is
 * away for longer than the deadline, a wrong password. The ledger balances in each.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "redis_server.h"
#include <pthread.h>
#include <salvo/reader.h>
#include <salvo/salvo.h>
#include <sched.h>
#include <stdatomic.h>

typedef struct world {
    redis_server server;
    salvo_config *config;
    salvo *producer;
    salvo_topic topic;
} world;

static void set(world *w, const char *key, const char *value)
{
    if (salvo_config_set(w->config, key, value))
        fail_msg("%s", salvo_config_error(w->config));
}

static world new_world(const char *const *extra)
{
    world w = {.server = redis_begin(extra)};
    assert_int_equal(salvo_config_new(&w.config), 0);
    set(&w, "message_broker", "redis");
    set(&w, "redis_url", w.server.url);
    set(&w, "reconnect_backoff_ms", "10");
    return w;
}

static void open_it(world *w, const char *topic)
{
    if (salvo_open(w->config, NULL, &w->producer))
        fail_msg("salvo_open: %s", salvo_last_error());
    assert_int_equal(salvo_topic_open(w->producer, topic, NULL, &w->topic), 0);
}

static void flush(world *w, uint64_t timeout_ms)
{
    int err = salvo_flush(w->producer, timeout_ms);
    salvo_stats s = {.size = sizeof s};
    if (!err)
        return;
    assert_int_equal(salvo_get_stats(w->producer, &s), 0);
    fail_msg("salvo_flush: %s; pending %llu, broker %s", salvo_strerror(err),
             (unsigned long long)s.total.pending, s.broker_state);
}

/* Close; its ledger must be at rest and balance. */
static salvo_ledger end(world *w, uint64_t timeout_ms)
{
    salvo_close_report r;
    int err = salvo_close(w->producer, timeout_ms, &r);
    const salvo_ledger *l = &r.ledger;
    assert_true(err == 0 || err == SALVO_ERR_DROPPED);
    assert_int_equal(l->accepted, l->acknowledged + l->failed + l->expired + l->dropped);
    assert_int_equal(l->pending, 0);
    assert_int_equal(l->pending_counted, 0);
    assert_true(l->maybe_delivered <= l->failed);
    salvo_config_free(w->config);
    redis_end(&w->server);
    return r.ledger;
}

static salvo_reader *read_back(world *w, const char *topic)
{
    salvo_reader *reader;
    salvo_reader_options options = {.size = sizeof options, .stop_at_end = 1};
    if (salvo_reader_open(w->config, NULL, topic, &options, &reader))
        fail_msg("salvo_reader_open: %s", salvo_last_error());
    return reader;
}

static bool next(salvo_reader *reader, salvo_record *record)
{
    int err = salvo_reader_next(reader, 20000, record);
    if (err && err != SALVO_ERR_END)
        fail_msg("salvo_reader_next: %s", salvo_last_error());
    return !err;
}

/* --- order: keys are handed from thread to thread, message by message ------------------------- */

enum { THREADS = 4, LANES = 16, PER_LANE = 1500 };

typedef struct mark {
    uint32_t lane, counter;
} mark;

typedef struct relay {
    world *world;
    _Atomic uint32_t baton[LANES]; /* the next counter; its remainder by THREADS is whose turn */
    _Atomic int errors;
} relay;

typedef struct runner {
    relay *relay;
    uint32_t me;
    pthread_t thread;
} runner;

static void *run(void *context)
{
    const runner *self = context;
    relay *r = self->relay;
    for (uint32_t left = LANES; left > 0; sched_yield()) {
        left = LANES;
        for (uint32_t lane = 0; lane < LANES; lane++) {
            /* acquire: pairs with the release below, so that the sends are one after the other */
            uint32_t counter = atomic_load_explicit(&r->baton[lane], memory_order_acquire);
            left -= counter == PER_LANE;
            if (counter == PER_LANE || counter % THREADS != self->me)
                continue;
            mark value = {lane, counter};
            char key[16];
            int n = snprintf(key, sizeof key, "key-%u", lane);
            if (salvo_send_fire_and_forget(r->world->producer, r->world->topic, key, (size_t)n,
                                           &value, sizeof value))
                atomic_fetch_add(&r->errors, 1);
            atomic_store_explicit(&r->baton[lane], counter + 1, memory_order_release);
        }
    }
    return NULL;
}

/* `cuts` times all connections are killed meanwhile. */
static void relay_with(const char *once, const char *flushers, int cuts)
{
    static relay r;
    static uint32_t expected[LANES];
    runner runners[THREADS];
    world w = new_world(NULL);
    set(&w, "redis_exactly_once", once);
    set(&w, "flushers", flushers);
    memset(&r, 0, sizeof r);
    memset(expected, 0, sizeof expected);
    r.world = &w;
    open_it(&w, "relay");
    for (uint32_t i = 0; i < THREADS; i++) {
        runners[i] = (runner){.relay = &r, .me = i};
        assert_int_equal(pthread_create(&runners[i].thread, NULL, run, &runners[i]), 0);
    }
    for (int i = 0; i < cuts; i++) {
        usleep(5000);
        redis_ask(&w.server, "CLIENT KILL TYPE normal SKIPME yes");
    }
    for (uint32_t i = 0; i < THREADS; i++)
        pthread_join(runners[i].thread, NULL);
    assert_int_equal(r.errors, 0);
    flush(&w, 30000);
    salvo_reader *reader = read_back(&w, "relay");
    salvo_record got;
    for (uint32_t total = 0; next(reader, &got); total++) {
        mark m;
        assert_int_equal(got.value_len, sizeof m);
        memcpy(&m, got.value, sizeof m);
        assert_in_range(m.lane, 0, LANES - 1);
        assert_int_equal(m.counter, expected[m.lane]++); /* order, no gap, no duplicate */
    }
    salvo_reader_close(reader);
    for (int i = 0; i < LANES; i++)
        assert_int_equal(expected[i], PER_LANE);
    assert_int_equal(end(&w, 10000).acknowledged, LANES * PER_LANE);
}

static void keys_stay_in_order_over_threads(void **state)
{
    (void)state;
    relay_with("false", "1", 0);
    relay_with("false", "2", 0);
}

static void keys_stay_in_order_through_cuts_exactly_once(void **state)
{
    (void)state;
    relay_with("true", "1", 20);
    relay_with("true", "2", 20);
}

/* --- every part of a message ------------------------------------------------------------------ */

static void assert_bytes(const void *got, size_t got_len, const void *sent, size_t sent_len)
{
    assert_int_equal(got == NULL, sent == NULL);
    assert_int_equal(got_len, sent_len);
    if (sent_len)
        assert_memory_equal(got, sent, sent_len);
}

static void every_part_arrives_with(const char *once, const char *packing)
{
    enum { COUNT = 6, BIG = 990000 };
    char *big = malloc(BIG);
    memset(big, 'b', BIG);
    static const salvo_header headers[3] = {
        {"trace", 5, "abc", 3}, {"null", 4, NULL, 0}, {"empty", 5, "", 0}};
    const salvo_message m[COUNT] = {
        {.value = "v", .value_len = 1, .key = "k", .key_len = 1},
        {.value = NULL, .key = "tomb", .key_len = 4},
        {.value = "", .key = ""},
        {.value = big, .value_len = BIG, .headers = headers, .header_count = 3,
         .timestamp_ms = 1700000000123},
        {.value = "\0\r\n\xff", .value_len = 4, .headers = headers, .header_count = 1},
        {.value = NULL}};
    world w = new_world(NULL);
    set(&w, "redis_exactly_once", once);
    set(&w, "payload_compression", packing);
    open_it(&w, "parts");
    for (uint64_t i = 0; i < COUNT; i++) {
        salvo_message copy = m[i];
        salvo_report report;
        assert_int_equal(salvo_send_wait(w.producer, w.topic, &copy, 10000, &report), 0);
        assert_int_equal(report.status, 0);
        assert_true(report.offset > 0);
    }
    salvo_reader *reader = read_back(&w, "parts");
    salvo_record got;
    for (int i = 0; i < COUNT; i++) {
        assert_true(next(reader, &got));
        assert_bytes(got.key, got.key_len, m[i].key, m[i].key_len);
        assert_bytes(got.value, got.value_len, m[i].value, m[i].value_len);
        assert_int_equal(got.header_count, m[i].header_count);
        for (size_t k = 0; k < got.header_count; k++) {
            assert_bytes(got.headers[k].name, got.headers[k].name_len, headers[k].name,
                         headers[k].name_len);
            assert_bytes(got.headers[k].value, got.headers[k].value_len, headers[k].value,
                         headers[k].value_len);
        }
        if (m[i].timestamp_ms)
            assert_int_equal(got.timestamp_ms, m[i].timestamp_ms);
    }
    assert_false(next(reader, &got));
    salvo_reader_close(reader);
    assert_int_equal(end(&w, 10000).acknowledged, COUNT);
    free(big);
}

static void every_part_of_a_message_arrives(void **state)
{
    (void)state;
    every_part_arrives_with("false", "none");
    every_part_arrives_with("false", "zstd");
    every_part_arrives_with("true", "none");
    every_part_arrives_with("true", "lz4");
}

/* --- trouble ---------------------------------------------------------------------------------- */

static void killed_and_restarted(const char *once)
{
    enum { COUNT = 60000 };
    static const char *const extra[] = {"--appendonly", "yes", "--appendfsync", "always", NULL};
    static uint8_t seen[COUNT];
    uint32_t twice = 0, disorder = 0, lost = 0;
    int64_t last = -1;
    world w = new_world(extra);
    set(&w, "redis_exactly_once", once);
    open_it(&w, "killed");
    memset(seen, 0, sizeof seen);
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_int_equal(salvo_send_fire_and_forget(w.producer, w.topic, NULL, 0, &i, sizeof i),
                         0);
        if (i % 20000 == 10000) {
            usleep(30000);
            redis_kill(&w.server, SIGKILL);
            usleep(30000);
            redis_run(&w.server);
        }
    }
    flush(&w, 60000);
    salvo_reader *reader = read_back(&w, "killed");
    for (salvo_record got; next(reader, &got);) {
        uint32_t i;
        memcpy(&i, got.value, sizeof i);
        assert_in_range(i, 0, COUNT - 1);
        twice += seen[i]++ > 0;
        disorder += i <= last;
        last = i;
    }
    salvo_reader_close(reader);
    for (uint32_t i = 0; i < COUNT; i++)
        lost += !seen[i];
    salvo_ledger l = end(&w, 10000);
    printf("           exactly once %s: lost %u, stored twice %u, out of order %u\n", once, lost,
           twice, disorder);
    assert_int_equal(lost, 0);
    assert_int_equal(l.acknowledged, COUNT);
    if (strcmp(once, "true") == 0)
        assert_int_equal(twice + disorder, 0);
}

static void a_killed_server_loses_nothing(void **state)
{
    (void)state;
    killed_and_restarted("false");
    killed_and_restarted("true");
}

static void away_for_longer_than_the_deadline(void **state)
{
    (void)state;
    enum { COUNT = 100 };
    world w = new_world(NULL);
    set(&w, "delivery_timeout_ms", "500");
    open_it(&w, "away");
    salvo_message m = {.value = "v", .value_len = 1};
    assert_int_equal(salvo_send_wait(w.producer, w.topic, &m, 5000, NULL), 0);
    redis_kill(&w.server, SIGKILL);
    usleep(50000);
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(salvo_send(w.producer, w.topic, &m), 0);
    flush(&w, 10000);
    salvo_stats s = {.size = sizeof s};
    assert_int_equal(salvo_get_stats(w.producer, &s), 0);
    assert_int_equal(s.total.expired, COUNT);
    redis_run(&w.server);
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(salvo_send(w.producer, w.topic, &m), 0);
        usleep(1000);
    }
    flush(&w, 10000);
    salvo_ledger l = end(&w, 10000);
    assert_true(l.acknowledged > 1);
    assert_int_equal(l.failed, 0);
}

static void memory_that_runs_out_is_waited_for(void **state)
{
    (void)state;
    enum { COUNT = 20000 };
    static uint8_t seen[COUNT];
    world w = new_world(NULL);
    set(&w, "retry_backoff_ms", "5");
    set(&w, "redis_exactly_once", "true");
    open_it(&w, "oom");
    memset(seen, 0, sizeof seen);
    for (uint32_t i = 0; i < COUNT; i++) {
        if (i == COUNT / 4 || i == COUNT / 2) {
            usleep(20000);
            freeReplyObject(redis_do(&w.server, i == COUNT / 2 ? "CONFIG SET maxmemory 0"
                                                               : "CONFIG SET maxmemory 1"));
        }
        assert_int_equal(salvo_send_fire_and_forget(w.producer, w.topic, NULL, 0, &i, sizeof i),
                         0);
    }
    flush(&w, 30000);
    salvo_stats s = {.size = sizeof s};
    assert_int_equal(salvo_get_stats(w.producer, &s), 0);
    assert_true(s.broker_errors > 0);
    salvo_reader *reader = read_back(&w, "oom");
    uint32_t expected = 0;
    for (salvo_record got; next(reader, &got); expected++)
        assert_memory_equal(got.value, &expected, sizeof expected);
    salvo_reader_close(reader);
    assert_int_equal(expected, COUNT);
    assert_int_equal(end(&w, 10000).acknowledged, COUNT);
}

static void a_wrong_password_fails_messages_at_once(void **state)
{
    (void)state;
    static const char *const extra[] = {"--requirepass", "s3cret", NULL};
    char url[128];
    world w = new_world(extra);
    snprintf(url, sizeof url, "redis://:wrong-one@127.0.0.1:%d", w.server.port);
    set(&w, "redis_url", url);
    open_it(&w, "secret");
    salvo_message m = {.value = "v", .value_len = 1};
    salvo_report report;
    int err = salvo_send_wait(w.producer, w.topic, &m, 10000, &report);
    assert_int_equal(err, SALVO_ERR_AUTH);
    salvo_stats s = {.size = sizeof s};
    usleep(1100000); /* the state is a second old at most */
    assert_int_equal(salvo_get_stats(w.producer, &s), 0);
    assert_int_equal(strncmp(s.broker_state, "down", 4), 0);
    assert_null(strstr(s.broker_state, "wrong-one"));
    assert_int_equal(end(&w, 1000).failed, 1);
}

static void a_server_that_comes_up_later_gets_all(void **state)
{
    (void)state;
    enum { COUNT = 1000 };
    world w = new_world(NULL);
    redis_kill(&w.server, SIGKILL);
    open_it(&w, "late");
    for (uint32_t i = 0; i < COUNT; i++)
        assert_int_equal(salvo_send_fire_and_forget(w.producer, w.topic, NULL, 0, &i, sizeof i),
                         0);
    usleep(200000);
    redis_run(&w.server);
    flush(&w, 20000);
    assert_int_equal(redis_ask(&w.server, "XLEN late"), COUNT);
    assert_int_equal(end(&w, 10000).acknowledged, COUNT);
}

static void close_in_flight_gives_each_its_outcome(void **state)
{
    (void)state;
    enum { COUNT = 50000 };
    world w = new_world(NULL);
    open_it(&w, "closing");
    for (uint32_t i = 0; i < COUNT / 2; i++)
        assert_int_equal(salvo_send_fire_and_forget(w.producer, w.topic, NULL, 0, &i, sizeof i),
                         0);
    flush(&w, 10000);
    kill(w.server.pid, SIGSTOP);
    for (uint32_t i = 0; i < COUNT / 2; i++)
        assert_int_equal(salvo_send_fire_and_forget(w.producer, w.topic, NULL, 0, &i, sizeof i),
                         0);
    usleep(50000);
    salvo_ledger l = end(&w, 200);
    assert_int_equal(l.acknowledged, COUNT / 2);
    assert_true(l.maybe_delivered > 0 && l.maybe_delivered <= 2048);
    assert_int_equal(l.maybe_delivered + l.dropped, COUNT / 2);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_stay_in_order_over_threads),
        cmocka_unit_test(keys_stay_in_order_through_cuts_exactly_once),
        cmocka_unit_test(every_part_of_a_message_arrives),
        cmocka_unit_test(a_killed_server_loses_nothing),
        cmocka_unit_test(away_for_longer_than_the_deadline),
        cmocka_unit_test(memory_that_runs_out_is_waited_for),
        cmocka_unit_test(a_wrong_password_fails_messages_at_once),
        cmocka_unit_test(a_server_that_comes_up_later_gets_all),
        cmocka_unit_test(close_in_flight_gives_each_its_outcome),
    };
    return cmocka_run_group_tests_name("engine with redis", tests, NULL, NULL);
}
