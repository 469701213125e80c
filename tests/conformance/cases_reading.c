/* SPDX-License-Identifier: Apache-2.0
 *
 * Cases about consuming: at least once, nothing settled before it is acknowledged, shares, bounds.
 * Messages are numbered through a case; a lane's have one key, so they are in one partition.
 */
#include "reading.h"
#include "driver.h"
#include <pthread.h>
#include <unistd.h>

static book seen; /* of the running case: large, so not on the stack */

/* A topic of its own, and a group of its own. */
static uint32_t begin(world *w, char group[96])
{
    seen.count = 0;
    world_open(w);
    world_fresh_name(group);
    return world_topic(w, NULL);
}

static void send(world *w, uint32_t topic, uint32_t lanes, uint32_t first, uint32_t count)
{
    for (uint32_t i = first; i < first + count; i++)
        world_must_send(w, topic, i % lanes, i, 40);
    world_flush(w, 30000);
}

static void check_order(const book *b)
{
    for (size_t i = 0; i < b->count; i++)
        for (size_t k = i + 1; k < b->count && k < i + 200; k++)
            if (b->all[i].lane == b->all[k].lane && b->all[i].number >= b->all[k].number)
                fail_msg("message %u came after %u of its lane", b->all[k].number,
                         b->all[i].number);
}

void case_reading_once(world *w)
{
    char group[96];
    uint32_t topic = begin(w, group), n = world_many(w, 3000);
    salvo_consumer *c = reading_join(w, group, w->topic_names[topic], NULL);
    send(w, topic, 7, 0, n);
    while (seen.count < n) {
        size_t before = seen.count;
        if (reading_take(c, &seen, 250, before ? 10000 : 30000) == 0)
            fail_msg("only %zu of %u messages came; log: %s", before, n, log_take());
        reading_ack(c, &seen, before, seen.count - before);
    }
    reading_expect_nothing(c);
    reading_check_times(&seen, 0, n, 1, 1);
    check_order(&seen);
    salvo_consumer_stats s = reading_stats(c);
    assert_int_equal(s.received, n);
    assert_int_equal(s.acknowledged, n);
    assert_int_equal(s.in_hand, 0);
    assert_int_equal(s.lost, 0);
    reading_leave(c);
    c = reading_join(w, group, w->topic_names[topic], NULL);
    reading_expect_nothing(c);
    reading_leave(c);
}

void case_reading_unsettled_comes_again(world *w)
{
    char group[96];
    uint32_t topic = begin(w, group);
    send(w, topic, 3, 0, 50);
    salvo_consumer *c = reading_join(w, group, w->topic_names[topic], NULL);
    reading_expect(c, &seen, 50);
    reading_leave(c);
    c = reading_join(w, group, w->topic_names[topic], NULL);
    reading_expect(c, &seen, 50);
    reading_check_times(&seen, 0, 50, 2, 2);
    for (size_t i = 0; i < 50; i++) /* 0: this broker does not count */
        assert_in_range(seen.all[i].deliveries, 0, 1);
    for (size_t i = 50; i < 100; i++)
        assert_true(seen.all[i].deliveries == 0 || seen.all[i].deliveries == 2);
    reading_ack(c, &seen, 50, 50);
    assert_int_equal(salvo_consumer_ack(c, &seen.all[60].id, 1), 0); /* once is enough */
    reading_leave(c);
    c = reading_join(w, group, w->topic_names[topic], NULL);
    reading_expect_nothing(c);
    reading_leave(c);
}

/* What is committed is the lowest unsettled, however the acknowledgements come. */
void case_reading_out_of_order(world *w)
{
    char group[96];
    uint32_t topic = begin(w, group);
    send(w, topic, 1, 0, 20);
    salvo_consumer *c = reading_join(w, group, w->topic_names[topic], NULL);
    reading_expect(c, &seen, 20);
    for (size_t i = 20; i-- > 0;)
        if (seen.all[i].number != 5 && seen.all[i].number != 12)
            reading_ack(c, &seen, i, 1);
    assert_int_equal(reading_stats(c).in_hand, 2);
    reading_leave(c);
    seen.count = 0;
    c = reading_join(w, group, w->topic_names[topic], NULL);
    reading_expect(c, &seen, reading_has_offsets(w) ? 15 : 2);
    reading_check_times(&seen, 0, 5, 0, 0);
    reading_check_times(&seen, 5, 1, 1, 1);
    reading_check_times(&seen, 12, 1, 1, 1);
    reading_ack(c, &seen, 0, seen.count);
    if (salvo_consumer_commit(c, 10000))
        fail_msg("salvo_consumer_commit: %s", salvo_last_error());
    reading_leave(c);
    c = reading_join(w, group, w->topic_names[topic], NULL);
    reading_expect_nothing(c);
    reading_leave(c);
}

/* Two members take in turn until `total` entries are in the book; what they took is settled. */
static void take_in_turn(salvo_consumer *members[2], size_t total, size_t share[2])
{
    uint64_t until = now_ms() + 30000;
    while (seen.count < total && now_ms() < until)
        for (int i = 0; i < 2; i++) {
            size_t before = seen.count, n = reading_take(members[i], &seen, 10, 20);
            share[i] += n;
            reading_ack(members[i], &seen, before, n);
        }
    if (seen.count != total)
        fail_msg("%zu of %zu messages came; log: %s", seen.count, total, log_take());
}

static void until_both_have_a_share(salvo_consumer *members[2])
{
    uint64_t until = now_ms() + 30000;
    while (reading_stats(members[0]).assigned == 0 || reading_stats(members[1]).assigned == 0) {
        for (int i = 0; i < 2; i++)
            assert_int_equal(reading_take(members[i], &seen, 1, 20), 0);
        if (now_ms() > until)
            fail_msg("one of two members has nothing assigned; log: %s", log_take());
    }
    for (int round = 0; round < 10; round++) /* the rest of the rebalance */
        for (int i = 0; i < 2; i++)
            assert_int_equal(reading_take(members[i], &seen, 1, 20), 0);
}

void case_reading_two_members(world *w)
{
    char group[96];
    uint32_t topic = begin(w, group);
    send(w, topic, 16, 0, 16); /* so that all of it is there before they join */
    salvo_consumer *c[2] = {reading_join(w, group, w->topic_names[topic], NULL), NULL};
    reading_expect(c[0], &seen, 16);
    reading_ack(c[0], &seen, 0, 16);
    c[1] = reading_join(w, group, w->topic_names[topic], NULL);
    until_both_have_a_share(c);
    size_t share[2] = {0, 0};
    send(w, topic, 16, 16, 400);
    take_in_turn(c, 416, share);
    reading_check_times(&seen, 0, 416, 1, 1);
    assert_true(share[0] > 0 && share[1] > 0);

    seen.count = 0;
    send(w, topic, 16, 416, 100);
    reading_take(c[0], &seen, 20, 5000);
    assert_true(seen.count > 0);
    reading_leave(c[0]); /* with what it took, and its share */
    seen.count = 0;
    if (reading_take(c[1], &seen, 100, 30000) != 100)
        fail_msg("%zu of 100 messages came to who stayed; log: %s", seen.count, log_take());
    reading_check_times(&seen, 416, 100, 1, 1);
    reading_ack(c[1], &seen, 0, 100);
    reading_expect_nothing(c[1]);
    reading_leave(c[1]);
}

void case_reading_bounded_hand(world *w)
{
    char group[96];
    uint32_t topic = begin(w, group);
    const salvo_consumer_options seven = {.max_in_hand = 7};
    send(w, topic, 3, 0, 50);
    salvo_consumer *c = reading_join(w, group, w->topic_names[topic], &seven);
    reading_expect(c, &seen, 7);
    assert_int_equal(reading_stats(c).in_hand, 7);
    reading_ack(c, &seen, 2, 3);
    reading_expect(c, &seen, 3);
    for (size_t settled = 0; settled < 50;) {
        size_t end = seen.count;
        for (; settled < end; settled++)
            if (settled < 2 || settled > 4)
                reading_ack(c, &seen, settled, 1);
        reading_take(c, &seen, end < 43 ? 7 : 50 - end, 10000);
        assert_in_range(reading_stats(c).in_hand, 0, 7);
        if (seen.count == end && end < 50)
            fail_msg("only %zu of 50 messages came", end);
    }
    reading_check_times(&seen, 0, 50, 1, 1);
    reading_leave(c);
}

void case_reading_pause(world *w)
{
    char group[96];
    uint32_t topic = begin(w, group);
    const char *name = w->topic_names[topic];
    send(w, topic, 3, 0, 20);
    salvo_consumer *c = reading_join(w, group, name, NULL);
    reading_expect(c, &seen, 20);
    reading_ack(c, &seen, 0, 20);
    assert_int_equal(salvo_consumer_pause(c, name, SALVO_PARTITION_ALL), 0);
    send(w, topic, 3, 20, 20);
    reading_expect_nothing(c);
    assert_int_equal(salvo_consumer_resume(c, name, SALVO_PARTITION_ALL), 0);
    reading_expect(c, &seen, 20);
    reading_check_times(&seen, 0, 40, 1, 1);
    reading_ack(c, &seen, 20, 20);
    assert_int_equal(salvo_consumer_pause(c, "another", 0), SALVO_ERR_UNKNOWN_TOPIC);
    reading_leave(c);
}

static void seek(salvo_consumer *c, const char *name, int32_t partition, int64_t offset)
{
    if (salvo_consumer_seek(c, name, partition, offset) != 0)
        fail_msg("salvo_consumer_seek to %lld: %s", (long long)offset, salvo_last_error());
}

void case_reading_seek(world *w)
{
    char group[96];
    uint32_t topic = begin(w, group);
    const char *name = w->topic_names[topic];
    send(w, topic, 1, 0, 20);
    salvo_consumer *c = reading_join(w, group, name, NULL);
    reading_expect(c, &seen, 20);
    int32_t partition = seen.all[0].partition;
    if (!reading_has_offsets(w)) {
        assert_int_equal(salvo_consumer_seek(c, name, partition, 0), SALVO_ERR_UNSUPPORTED);
        assert_non_null(strstr(salvo_last_error(), "no offsets to seek"));
        reading_leave(c);
        return;
    }
    seek(c, name, partition, seen.all[13].offset);
    assert_int_equal(salvo_consumer_is_held(c, seen.all[0].id), 0);
    assert_int_equal(salvo_consumer_ack(c, &seen.all[13].id, 1), 0);
    seen.count = 0;
    reading_expect(c, &seen, 7);
    reading_check_times(&seen, 13, 7, 1, 1);
    seek(c, name, partition, SALVO_OFFSET_BEGIN);
    seen.count = 0;
    reading_expect(c, &seen, 20);
    reading_check_times(&seen, 0, 20, 1, 1);
    seek(c, name, partition, SALVO_OFFSET_END);
    reading_expect_nothing(c);
    seen.count = 0;
    send(w, topic, 1, 20, 1);
    reading_expect(c, &seen, 1);
    assert_int_equal(seen.all[0].number, 20);
    reading_leave(c);
}

void case_reading_rewind(world *w)
{
    char group[96];
    uint32_t topic = begin(w, group);
    send(w, topic, 1, 0, 20);
    salvo_consumer *c = reading_join(w, group, w->topic_names[topic], NULL);
    reading_expect(c, &seen, 20);
    reading_ack(c, &seen, 0, 5);
    assert_int_equal(salvo_consumer_commit(c, 10000), 0);
    if (salvo_consumer_rewind(c))
        fail_msg("salvo_consumer_rewind: %s", salvo_last_error());
    assert_int_equal(salvo_consumer_is_held(c, seen.all[7].id), 0);
    assert_int_equal(salvo_consumer_ack(c, &seen.all[7].id, 1), 0);
    assert_int_equal(reading_stats(c).lost, 15);
    reading_expect(c, &seen, 15);
    reading_check_times(&seen, 0, 5, 1, 1);
    reading_check_times(&seen, 5, 15, 2, 2);
    reading_ack(c, &seen, 20, 15);
    reading_leave(c);
}

void case_reading_lag(world *w)
{
    char group[96];
    uint32_t topic = begin(w, group);
    bool exact = (w->capabilities & SALVO_CAP_OFFSETS) != 0;
    send(w, topic, 3, 0, 30);
    salvo_consumer *c = reading_join(w, group, w->topic_names[topic], NULL);
    reading_expect(c, &seen, 30);
    if (exact)
        assert_int_equal(reading_lag(c), 30);
    for (size_t i = 0; i < 30; i++) /* a lane's prefix: offsets move with it */
        if (seen.all[i].number < 9)
            reading_ack(c, &seen, i, 1);
    assert_int_equal(salvo_consumer_commit(c, 10000), 0);
    if (exact)
        assert_int_equal(reading_lag(c), 21);
    for (size_t i = 0; i < 30; i++)
        if (seen.all[i].number >= 9)
            reading_ack(c, &seen, i, 1);
    assert_int_equal(salvo_consumer_commit(c, 10000), 0);
    assert_int_equal(reading_lag(c), 0);
    reading_leave(c);
}

/* Who joins before there is anything gets what comes later; also of a topic that nobody made. */
void case_reading_before_the_first(world *w)
{
    char group[96], name[96];
    uint32_t topic = begin(w, group);
    salvo_consumer *c = reading_join(w, group, w->topic_names[topic], NULL);
    reading_expect_nothing(c);
    send(w, topic, 3, 0, 5);
    reading_expect(c, &seen, 5);
    reading_ack(c, &seen, 0, 5);
    reading_leave(c);

    seen.count = 0;
    world_fresh_name(name);
    c = reading_join(w, group, name, NULL);
    reading_expect_nothing(c);
    uint32_t later = world_topic_named(w, name, NULL);
    send(w, later, 3, 0, 5);
    reading_expect(c, &seen, 5);
    reading_ack(c, &seen, 0, 5);
    reading_leave(c);
}

void case_reading_two_groups(world *w)
{
    char group[96], other[96];
    uint32_t topic = begin(w, group);
    world_fresh_name(other);
    send(w, topic, 3, 0, 30);
    salvo_consumer *a = reading_join(w, group, w->topic_names[topic], NULL);
    reading_expect(a, &seen, 30);
    reading_ack(a, &seen, 0, 30);
    reading_leave(a);
    salvo_consumer *b = reading_join(w, other, w->topic_names[topic], NULL);
    reading_expect(b, &seen, 30);
    reading_check_times(&seen, 0, 30, 2, 2);
    reading_ack(b, &seen, 30, 30);
    reading_leave(b);
}

static void *wake_soon(void *consumer)
{
    usleep(300000);
    salvo_consumer_wake(consumer);
    return NULL;
}

void case_reading_wake(world *w)
{
    char group[96];
    uint32_t topic = begin(w, group);
    const salvo_delivered *messages;
    pthread_t thread;
    size_t n;
    send(w, topic, 3, 0, 5);
    salvo_consumer *c = reading_join(w, group, w->topic_names[topic], NULL);
    reading_expect(c, &seen, 5);
    reading_ack(c, &seen, 0, 5);
    uint64_t began = now_ms();
    assert_int_equal(pthread_create(&thread, NULL, wake_soon, c), 0);
    int err = salvo_consumer_poll(c, 120000, &messages, 10, &n);
    pthread_join(thread, NULL);
    assert_int_equal(err, SALVO_ERR_TIMEOUT);
    assert_int_equal(n, 0);
    assert_in_range(now_ms() - began, 200, 60000);
    reading_leave(c);
}

/* --- what is in a message ---------------------------------------------------------------------*/

/* One group reads all that the case before sent, and finds it as it was sent. */
static void read_as_sent(world *w)
{
    const char *names[TOPICS_MAX];
    char group[96];
    world_reading_begin(w);
    for (uint32_t i = 0; i < w->topic_count; i++)
        names[i] = w->topic_names[i];
    for (uint32_t i = 0; i < w->topic_count; i++) {
        salvo_consumer *c = reading_join(w, world_fresh_name(group), names[i], NULL);
        uint32_t left = 0;
        for (uint32_t k = 0; k < w->count; k++)
            left += w->sent[k].topic == i && !w->sent[k].accepted;
        for (uint64_t until = now_ms() + 30000; left > 0 && now_ms() < until;) {
            const salvo_delivered *messages;
            size_t n;
            int err = salvo_consumer_poll(c, 100, &messages, 100, &n);
            if (err && err != SALVO_ERR_TIMEOUT)
                fail_msg("salvo_consumer_poll: %s", salvo_last_error());
            for (size_t k = 0; k < n; k++) {
                world_reading_take(w, i, &messages[k].record);
                assert_string_equal(messages[k].record.topic, names[i]);
                assert_int_equal(salvo_consumer_ack(c, &messages[k].id, 1), 1);
            }
            left -= (uint32_t)n;
        }
        reading_expect_nothing(c);
        reading_leave(c);
    }
    world_reading_end(w);
}

void case_reading_keys(world *w)
{
    case_keys(w);
    read_as_sent(w);
}

void case_reading_headers(world *w)
{
    case_headers(w);
    read_as_sent(w);
}

void case_reading_timestamps(world *w)
{
    case_timestamps(w);
    read_as_sent(w);
}

void case_reading_values(world *w)
{
    case_values(w);
    read_as_sent(w);
}

/* --- trouble ----------------------------------------------------------------------------------*/

/* Take and settle until each of the numbers [0, count) came, whatever comes twice. */
static void take_all_at_least_once(salvo_consumer *c, uint32_t count)
{
    uint32_t missing = count;
    for (uint64_t until = now_ms() + 60000; missing > 0 && now_ms() < until;) {
        size_t before = seen.count;
        (void)reading_take(c, &seen, 500, 200);
        for (size_t i = before; i < seen.count; i++) /* some may be lost to us by now */
            (void)salvo_consumer_ack(c, &seen.all[i].id, 1);
        missing = 0;
        for (uint32_t i = 0; i < count; i++)
            missing += reading_times(&seen, i) == 0;
    }
    if (missing > 0)
        fail_msg("%u of %u messages never came; the broker is %s; log: %s", missing, count,
                 reading_stats(c).broker_state, log_take());
}

/* Connections break under it: at least once all the same. */
void case_reading_across_breaks(world *w)
{
    char group[96];
    uint32_t topic = begin(w, group), n = world_many(w, 1000);
    salvo_consumer *c = reading_join(w, group, w->topic_names[topic], NULL);
    w->may_duplicate = w->may_reorder = true;
    for (uint32_t part = 0; part < 5; part++) {
        send(w, topic, 7, part * (n / 5), n / 5);
        size_t before = seen.count, got = reading_take(c, &seen, n / 10, 30000);
        assert_true(got > 0);
        (void)server_cut();
        for (size_t i = before; i < seen.count; i++) /* some may be lost to us by now */
            (void)salvo_consumer_ack(c, &seen.all[i].id, 1);
    }
    take_all_at_least_once(c, n / 5 * 5);
    reading_leave(c);
}

/* A group that has forgotten us lets us in again while we poll, and then gives again. */
static void until_committed(salvo_consumer *c)
{
    int err = SALVO_ERR_TIMEOUT;
    for (uint64_t until = now_ms() + 40000; err && now_ms() < until;) {
        size_t before = seen.count;
        (void)reading_take(c, &seen, 500, 500);
        for (size_t i = before; i < seen.count; i++)
            (void)salvo_consumer_ack(c, &seen.all[i].id, 1);
        err = salvo_consumer_commit(c, 5000);
    }
    if (err)
        fail_msg("salvo_consumer_commit: %s", salvo_last_error());
}

/* The server is killed and comes back: no error, nothing lost, and at the end all is settled. */
void case_reading_server_bounces(world *w)
{
    char group[96];
    uint32_t topic = begin(w, group);
    w->may_duplicate = w->may_reorder = true;
    send(w, topic, 7, 0, 200);
    salvo_consumer *c = reading_join(w, group, w->topic_names[topic], NULL);
    assert_true(reading_take(c, &seen, 100, 30000) > 0);
    reading_ack(c, &seen, 0, seen.count / 2);
    if (salvo_consumer_commit(c, 10000))
        fail_msg("salvo_consumer_commit: %s", salvo_last_error());
    usleep((w->target->hooks ? w->target->hooks->topic_settles_ms : 0) * 1000);
    server_kill();
    (void)reading_take(c, &seen, 200, 1000); /* what it had fetched, then nothing */
    for (size_t i = 0; i < seen.count; i++)
        (void)salvo_consumer_ack(c, &seen.all[i].id, 1);
    server_restart();
    take_all_at_least_once(c, 200);
    send(w, topic, 7, 200, 50);
    take_all_at_least_once(c, 250);
    until_committed(c);
    reading_leave(c);
    c = reading_join(w, group, w->topic_names[topic], NULL);
    reading_expect_nothing(c);
    reading_leave(c);
}
