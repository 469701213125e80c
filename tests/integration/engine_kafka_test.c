/* SPDX-License-Identifier: Apache-2.0
 *
 * The engine through its public functions against a real Kafka (SALVO_TEST_KAFKA=host:port) that
 * stays up: order per key over threads and flushers, Kafka's partitions, every part of a message,
 * every compression, limits. The ledger balances in each.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "kafka_world.h"
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

/* --- order over threads ---------------------------------------------------------------------- */

/* A lane is a sequence of messages that must stay in order. Lanes with a key and lanes with an
 * explicit partition are handed from thread to thread with each message; a lane without either
 * belongs to one thread and is ordered within each partition that it meets. */
enum { THREADS = 4, PARTITIONS = 4, KEYED = 16, EXPLICIT = PARTITIONS, FREE = THREADS,
       HANDED = KEYED + EXPLICIT, LANES = HANDED + FREE, PER_LANE = 1500 };

typedef struct mark {
    uint32_t lane, counter;
} mark;

typedef struct relay {
    salvo *producer;
    salvo_topic topic;
    _Atomic uint32_t baton[HANDED]; /* the next counter; its remainder by THREADS is whose turn */
    _Atomic int errors;
} relay;

typedef struct runner {
    relay *relay;
    uint32_t me;
    pthread_t thread;
} runner;

static void send_mark(relay *r, uint32_t lane, uint32_t counter)
{
    char key[32];
    mark value = {lane, counter};
    salvo_message m = {.value = &value, .value_len = sizeof value};
    if (lane < KEYED) {
        m.key = key;
        m.key_len = (size_t)snprintf(key, sizeof key, "key-%u", lane);
    } else if (lane < HANDED) {
        m.partition_plus1 = (int32_t)(lane - KEYED) + 1;
    }
    if (salvo_send(r->producer, r->topic, &m))
        atomic_fetch_add(&r->errors, 1);
}

static void *run(void *context)
{
    const runner *self = context;
    relay *r = self->relay;
    uint32_t free_sent = 0, left = HANDED;
    while (left) {
        bool sent = false;
        left = HANDED;
        for (uint32_t lane = 0; lane < HANDED; lane++) {
            /* acquire: pairs with the release below, so that the sends are one after the other */
            uint32_t counter = atomic_load_explicit(&r->baton[lane], memory_order_acquire);
            left -= counter == PER_LANE;
            if (counter == PER_LANE || counter % THREADS != self->me)
                continue;
            send_mark(r, lane, counter);
            atomic_store_explicit(&r->baton[lane], counter + 1, memory_order_release);
            sent = true;
        }
        if (free_sent < PER_LANE)
            send_mark(r, HANDED + self->me, free_sent++);
        else if (!sent)
            sched_yield();
    }
    while (free_sent < PER_LANE)
        send_mark(r, HANDED + self->me, free_sent++);
    return NULL;
}

static void check_relay(world *w, const char *name)
{
    static uint8_t seen[LANES][PER_LANE];
    static uint32_t next[LANES][PARTITIONS]; /* the smallest counter that may come */
    memset(seen, 0, sizeof seen);
    memset(next, 0, sizeof next);
    salvo_reader *reader = world_read(w, name);
    salvo_record got;
    uint32_t total = 0;
    for (; world_next(reader, &got); total++) {
        mark m;
        char key[32];
        assert_int_equal(got.value_len, sizeof m);
        memcpy(&m, got.value, sizeof m);
        assert_in_range(m.lane, 0, LANES - 1);
        assert_in_range(m.counter, 0, PER_LANE - 1);
        assert_in_range(got.partition, 0, PARTITIONS - 1);
        assert_int_equal(seen[m.lane][m.counter]++, 0);
        uint32_t *expected = &next[m.lane][got.partition];
        if (m.lane < HANDED)
            assert_int_equal(m.counter, *expected);
        else
            assert_true(m.counter >= *expected);
        *expected = m.counter + 1;
        if (m.lane < KEYED) {
            int len = snprintf(key, sizeof key, "key-%u", m.lane);
            assert_int_equal(got.key_len, len);
            assert_memory_equal(got.key, key, (size_t)len);
            /* librdkafka's own murmur2, not ours; it looks at the key alone */
            assert_int_equal(got.partition, rd_kafka_msg_partitioner_murmur2(
                                                NULL, key, (size_t)len, PARTITIONS, NULL, NULL));
        } else {
            assert_null(got.key);
            if (m.lane < HANDED)
                assert_int_equal(got.partition, m.lane - KEYED);
        }
    }
    salvo_reader_close(reader);
    assert_int_equal(total, LANES * PER_LANE);
}

/* The state is for people: it may be a second old. */
static void assert_up(world *w, uint32_t flushers)
{
    salvo_stats s = {.size = sizeof s};
    uint64_t end = world_now_ms() + 10000;
    do {
        usleep(10000);
        assert_int_equal(salvo_get_stats(w->producer, &s), 0);
    } while (strcmp(s.broker_state, "up") != 0 && world_now_ms() < end);
    assert_string_equal(s.broker_state, "up");
    assert_string_equal(s.driver, "kafka");
    assert_int_equal(s.flushers, flushers);
}

static void run_relay(const char *flushers)
{
    static relay r;
    char name[96];
    runner runners[THREADS];
    memset(&r, 0, sizeof r);
    world w = world_new(shared_broker());
    world_set(&w, "flushers", flushers);
    create_topic(shared_broker(), fresh_name(name, "relay"), PARTITIONS);
    r.topic = world_open(&w, name);
    r.producer = w.producer;
    for (uint32_t i = 0; i < THREADS; i++) {
        runners[i] = (runner){.relay = &r, .me = i};
        assert_int_equal(pthread_create(&runners[i].thread, NULL, run, &runners[i]), 0);
    }
    for (uint32_t i = 0; i < THREADS; i++)
        pthread_join(runners[i].thread, NULL);
    assert_int_equal(r.errors, 0);
    world_flush(&w, 30000);
    salvo_ledger l = world_rest(&w);
    assert_int_equal(l.accepted, LANES * PER_LANE);
    assert_int_equal(l.acknowledged, LANES * PER_LANE);
    check_relay(&w, name);
    assert_up(&w, (uint32_t)atoi(flushers));
    assert_int_equal(world_end(&w, 10000), 0);
}

static void keys_stay_in_order_over_threads(void **state)
{
    (void)state;
    run_relay("1");
}

static void keys_stay_in_order_over_two_flushers(void **state)
{
    (void)state;
    run_relay("2");
}

/* --- every part of a message ----------------------------------------------------------------- */

static void assert_bytes(const void *got, size_t got_len, const void *sent, size_t sent_len)
{
    assert_int_equal(got == NULL, sent == NULL);
    assert_int_equal(got_len, sent_len);
    if (sent_len)
        assert_memory_equal(got, sent, sent_len);
}

static void assert_arrived(const salvo_record *got, const salvo_message *sent,
                           const salvo_report *report)
{
    assert_int_equal(report->status, 0);
    assert_int_equal(got->offset, report->offset);
    assert_int_equal(got->partition, report->partition);
    /* Without a timestamp of its own a message gets the driver's, at most the linger later. */
    if (sent->timestamp_ms) {
        assert_int_equal(got->timestamp_ms, sent->timestamp_ms);
        assert_int_equal(report->timestamp_ms, sent->timestamp_ms);
    } else {
        assert_true(report->timestamp_ms <= got->timestamp_ms + 1000);
    }
    assert_bytes(got->key, got->key_len, sent->key, sent->key_len);
    assert_bytes(got->value, got->value_len, sent->value, sent->value_len);
    assert_int_equal(got->header_count, sent->header_count);
    for (size_t i = 0; i < sent->header_count; i++) {
        const salvo_header *a = &got->headers[i], *b = &sent->headers[i];
        assert_bytes(a->name, a->name_len, b->name, b->name_len);
        assert_bytes(a->value, a->value_len, b->value, b->value_len);
    }
}

static char *noise(size_t size)
{
    char *bytes = malloc(size);
    assert_non_null(bytes);
    uint32_t x = 1;
    for (size_t i = 0; i < size; i++)
        bytes[i] = (char)((x = x * 1664525u + 1013904223u) >> 24);
    return bytes;
}

static void every_part_of_a_message_arrives(void **state)
{
    (void)state;
    enum { COUNT = 8 };
    char name[96], *big = noise(1000000);
    const salvo_header headers[] = {{"trace", 5, "abc", 3}, {"null", 4, NULL, 0},
                                    {"empty", 5, "", 0}, {"trace", 5, "\0\1", 2}};
    const salvo_message m[COUNT] = {
        {.key = "k", .key_len = 1, .value = "v", .value_len = 1},
        {.value = "no key", .value_len = 6},
        {.key = "", .value = ""},
        {.key = "tombstone", .key_len = 9},
        {0},
        {.value = "headers", .value_len = 7, .headers = headers, .header_count = 4},
        {.key = "then", .key_len = 4, .value = "x", .value_len = 1, .headers = headers,
         .header_count = 1, .timestamp_ms = 1700000000123},
        {.value = big, .value_len = 1000000},
    };
    world w = world_new(shared_broker());
    create_topic(shared_broker(), fresh_name(name, "parts"), 1);
    salvo_topic topic = world_open(&w, name);
    uint64_t before_ms = (uint64_t)time(NULL) * 1000;
    for (uint64_t i = 0; i < COUNT; i++) {
        salvo_message copy = m[i];
        copy.opaque = i + 100;
        copy.report = 1;
        assert_int_equal(salvo_send(w.producer, topic, &copy), 0);
    }
    world_flush(&w, 20000);
    salvo_report reports[COUNT];
    world_reports(&w, reports, COUNT, 5000);
    salvo_reader *reader = world_read(&w, name);
    salvo_record got;
    for (uint64_t i = 0; i < COUNT; i++) {
        assert_true(world_next(reader, &got));
        assert_int_equal(reports[i].opaque, i + 100);
        assert_int_equal(reports[i].offset, i);
        assert_true(reports[i].latency_ns > 0);
        assert_arrived(&got, &m[i], &reports[i]);
        assert_true(m[i].timestamp_ms || (uint64_t)got.timestamp_ms >= before_ms);
    }
    assert_false(world_next(reader, &got));
    salvo_reader_close(reader);
    assert_int_equal(world_rest(&w).acknowledged, COUNT);
    assert_int_equal(world_end(&w, 10000), 0);
    free(big);
}

static void too_large_is_final(void **state)
{
    (void)state;
    char name[96], *big = noise(3000000);
    world w = world_new(shared_broker());
    create_topic(shared_broker(), fresh_name(name, "large"), 1);
    salvo_topic topic = world_open(&w, name);
    salvo_message m = {.value = big, .value_len = 1000001, .report = 1};
    assert_int_equal(salvo_send(w.producer, topic, &m), SALVO_ERR_TOO_LARGE);
    assert_non_null(strstr(salvo_strerror(SALVO_ERR_TOO_LARGE), "max_message_bytes"));
    salvo_ledger l = world_rest(&w);
    assert_int_equal(l.offered, 1);
    assert_int_equal(l.refused_too_large, 1);
    assert_int_equal(l.accepted, 0);
    assert_int_equal(salvo_close(w.producer, 10000, NULL), 0);

    /* Over the broker's limit (1 MiB by default) and not over ours: it alone fails. */
    world_set(&w, "max_message_bytes", "4194304");
    world_set(&w, "buffer_bytes", "134217728");
    topic = world_open(&w, name);
    const size_t sizes[3] = {10, 3000000, 20};
    for (uint64_t i = 0; i < 3; i++) {
        m.value_len = sizes[i];
        m.opaque = i;
        assert_int_equal(salvo_send(w.producer, topic, &m), 0);
    }
    world_flush(&w, 20000);
    salvo_report reports[3];
    world_reports(&w, reports, 3, 5000);
    for (int i = 0; i < 3; i++)
        assert_int_equal(reports[i].status, reports[i].opaque == 1 ? SALVO_ERR_TOO_LARGE : 0);
    l = world_rest(&w);
    assert_int_equal(l.acknowledged, 2);
    assert_int_equal(l.failed, 1);
    assert_int_equal(l.maybe_delivered, 0);
    salvo_reader *reader = world_read(&w, name);
    salvo_record got;
    assert_true(world_next(reader, &got));
    assert_int_equal(got.value_len, 10);
    assert_true(world_next(reader, &got));
    assert_int_equal(got.value_len, 20);
    assert_false(world_next(reader, &got));
    salvo_reader_close(reader);
    assert_int_equal(world_end(&w, 10000), SALVO_ERR_DROPPED);
    free(big);
}

static void every_compression_arrives(void **state)
{
    (void)state;
    static const char *const kinds[] = {"none", "gzip", "snappy", "lz4", "zstd"};
    enum { COUNT = 3000 };
    static char values[COUNT][200];
    static salvo_bytes spans[COUNT];
    for (int i = 0; i < COUNT; i++) {
        memset(values[i], 'x', sizeof values[i]);
        snprintf(values[i], sizeof values[i], "%d", i);
        spans[i] = (salvo_bytes){values[i], sizeof values[i]};
    }
    for (size_t kind = 0; kind < sizeof kinds / sizeof *kinds; kind++) {
        char name[96];
        world w = world_new(shared_broker());
        world_set(&w, "kafka_compression_type", kinds[kind]);
        create_topic(shared_broker(), fresh_name(name, kinds[kind]), 1);
        salvo_topic topic = world_open(&w, name);
        assert_int_equal(salvo_send_batch_fire_and_forget(w.producer, topic, spans, COUNT), COUNT);
        world_flush(&w, 20000);
        assert_int_equal(world_rest(&w).acknowledged, COUNT);
        salvo_reader *reader = world_read(&w, name);
        salvo_record got;
        for (int i = 0; i < COUNT; i++) {
            assert_true(world_next(reader, &got));
            assert_bytes(got.value, got.value_len, values[i], sizeof values[i]);
        }
        assert_false(world_next(reader, &got));
        salvo_reader_close(reader);
        assert_int_equal(world_end(&w, 10000), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_stay_in_order_over_threads),
        cmocka_unit_test(keys_stay_in_order_over_two_flushers),
        cmocka_unit_test(every_part_of_a_message_arrives),
        cmocka_unit_test(too_large_is_final),
        cmocka_unit_test(every_compression_arrives),
    };
    return cmocka_run_group_tests_name("engine", tests, NULL, NULL);
}
