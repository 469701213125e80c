/* SPDX-License-Identifier: Apache-2.0
 *
 * Consuming from the memory broker through the public calls: groups, sharing, moving of shares,
 * what is committed when, retention, silence. What all drivers must do is in tests/conformance.
 */
#include "engine_fixture.h"

#include "consumer_internal.h"
#include <poll.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static engine e;
static salvo_config *config; /* of the consumers */

static void set_up_with(const char *const *pairs)
{
    engine_open_as(&e, false, NULL, pairs);
    config = engine_config(pairs);
}

static void tear_down(void)
{
    salvo_config_free(config);
    if (e.p)
        engine_close(&e, 0);
}

static salvo_consumer *join_all(const char *group, const char *member, const char *const *topics,
                                size_t count)
{
    const salvo_consumer_options options = {.size = sizeof options, .group = group,
                                            .member = member, .topics = topics,
                                            .topic_count = count};
    salvo_consumer *c;
    if (salvo_consumer_open(config, e.p, &options, &c))
        fail_msg("%s", salvo_last_error());
    return c;
}

static salvo_consumer *join_as(const char *group, const char *member, const char *topic)
{
    return join_all(group, member, &topic, 1);
}

static salvo_consumer *join(const char *group)
{
    return join_as(group, NULL, "t");
}

static void leave(salvo_consumer *c)
{
    assert_int_equal(salvo_consumer_close(c, 1000), 0);
}

static void send(int32_t partition, unsigned first, unsigned count)
{
    for (unsigned i = first; i < first + count; i++) {
        char text[16];
        salvo_message m = {.value = text, .partition_plus1 = partition + 1};
        m.value_len = (size_t)snprintf(text, sizeof text, "%u", i);
        assert_int_equal(salvo_send(e.p, e.topic, &m), 0);
    }
    assert_int_equal(salvo_flush(e.p, 10000), 0);
}

typedef struct taken {
    uint64_t ids[1000];
    unsigned numbers[1000];
    int32_t partitions[1000];
    uint32_t deliveries[1000];
    int64_t offsets[1000];
    size_t count;
} taken;

static void keep(taken *all, const salvo_delivered *m)
{
    char text[16] = "";
    assert_true(all->count < 1000 && m->record.value_len < sizeof text);
    memcpy(text, m->record.value, m->record.value_len);
    all->ids[all->count] = m->id;
    all->numbers[all->count] = (unsigned)strtoul(text, NULL, 10);
    all->partitions[all->count] = m->record.partition;
    all->deliveries[all->count] = m->deliveries;
    all->offsets[all->count++] = m->record.offset;
}

/* Adds what comes until `wanted` came, or nothing for 50 ms. */
static size_t take(salvo_consumer *c, taken *all, size_t wanted)
{
    size_t before = all->count;
    while (all->count - before < wanted) {
        const salvo_delivered *messages;
        size_t n;
        int err = salvo_consumer_poll(c, 50, &messages, wanted - (all->count - before), &n);
        if (err == SALVO_ERR_TIMEOUT)
            break;
        if (err)
            fail_msg("%s", salvo_last_error());
        for (size_t i = 0; i < n; i++)
            keep(all, &messages[i]);
    }
    return all->count - before;
}

static void ack(salvo_consumer *c, const taken *all, size_t first, size_t count)
{
    assert_int_equal(salvo_consumer_ack(c, all->ids + first, count), count);
}

static void pump(salvo_consumer *c)
{
    const salvo_delivered *messages;
    size_t n;
    assert_int_equal(salvo_consumer_poll(c, 0, &messages, 0, &n), SALVO_ERR_TIMEOUT);
}

static salvo_consumer_stats stats_of(salvo_consumer *c)
{
    salvo_consumer_stats s = {.size = sizeof s};
    assert_int_equal(salvo_consumer_get_stats(c, &s), 0);
    return s;
}

/* --- cases ------------------------------------------------------------------------------------*/

#define CONFIG(...) (const char *const[]){__VA_ARGS__, NULL}

static void what_is_settled_stays_settled(void **state)
{
    (void)state;
    taken a = {0}, b = {0};
    set_up_with(NULL);
    send(0, 0, 10);
    salvo_consumer *c = join("g");
    assert_int_equal(take(c, &a, 10), 10);
    ack(c, &a, 0, 3);
    ack(c, &a, 5, 5);
    leave(c);
    c = join("g");
    assert_int_equal(take(c, &b, 20), 7); /* from 3, the lowest that was not settled */
    for (unsigned i = 0; i < 7; i++) {
        assert_int_equal(b.numbers[i], 3 + i);
        assert_int_equal(b.deliveries[i], 2);
    }
    assert_int_equal(stats_of(c).redelivered, 7);
    leave(c);
    tear_down();
}

static void shares_move_and_the_others_stay(void **state)
{
    (void)state;
    taken a = {0}, b = {0};
    set_up_with(CONFIG("memory_partitions", "4"));
    for (int32_t p = 0; p < 4; p++)
        send(p, 100 * (unsigned)p, 5);
    salvo_consumer *one = join("g");
    assert_int_equal(take(one, &a, 20), 20);
    assert_int_equal(stats_of(one).assigned, 4);
    salvo_consumer *two = join("g");
    pump(one);
    pump(two);
    assert_int_equal(stats_of(two).assigned, 0); /* one still has them in hand */
    assert_int_equal(stats_of(one).lost, 0);
    for (size_t i = 0; i < 20; i++)
        ack(one, &a, i, 1);
    pump(one);
    assert_int_equal(take(two, &b, 20), 0); /* all was settled before it moved */
    assert_int_equal(stats_of(one).assigned, 2);
    assert_int_equal(stats_of(two).assigned, 2);
    for (int32_t p = 0; p < 4; p++)
        send(p, 100 * (unsigned)p + 5, 1);
    assert_int_equal(take(one, &a, 9), 2);
    assert_int_equal(take(two, &b, 9), 2);
    leave(two); /* not acknowledged: one gets it, and keeps what it has */
    assert_int_equal(take(one, &a, 9), 2);
    ack(one, &a, 20, 4);
    assert_int_equal(stats_of(one).lost, 0);
    leave(one);
    tear_down();
}

/* Members of several topics, some of one only: loads as equal as they can be, all is read. */
static void shares_are_balanced(void **state)
{
    (void)state;
    const char *const both[] = {"t", "u"};
    set_up_with(CONFIG("memory_partitions", "5"));
    salvo_consumer *c[4];
    for (int i = 0; i < 4; i++) {
        c[i] = i == 2 ? join_as("g", NULL, "u") : join_all("g", NULL, both, 2);
        for (int round = 0; round < 3; round++)
            for (int k = 0; k <= i; k++)
                pump(c[k]);
        uint32_t sum = 0;
        for (int k = 0; k <= i; k++) {
            uint32_t load = stats_of(c[k]).assigned;
            assert_in_range(load, 10 / (i + 1), (10 + i) / (i + 1));
            sum += load;
        }
        assert_int_equal(sum, 10);
    }
    for (int i = 0; i < 4; i++) /* who goes leaves all of his to those who can read it */
        leave(c[i]);
    salvo_consumer *last = join("g");
    pump(last);
    assert_int_equal(stats_of(last).assigned, 5);
    leave(last);
    tear_down();
}

static void who_does_not_settle_in_time_loses(void **state)
{
    (void)state;
    taken a = {0}, b = {0};
    set_up_with(CONFIG("memory_partitions", "2", "kafka_rebalance_wait_ms", "100"));
    send(0, 0, 5);
    send(1, 100, 5);
    salvo_consumer *one = join("g");
    assert_int_equal(take(one, &a, 10), 10);
    salvo_consumer *two = join("g");
    for (int i = 0; i < 40 && stats_of(one).lost == 0; i++) {
        pump(one);
        usleep(10000);
    }
    assert_int_equal(stats_of(one).lost, 5);
    assert_int_equal(take(two, &b, 10), 5);
    assert_int_equal(salvo_consumer_ack(one, a.ids, 10), 5); /* the other five are not ours */
    leave(one);
    leave(two);
    tear_down();
}

static void a_silent_member_is_given_up(void **state)
{
    (void)state;
    taken a = {0}, b = {0};
    set_up_with(CONFIG("kafka_session_timeout_ms", "4"));
    send(0, 0, 5);
    salvo_consumer *one = join("g");
    assert_int_equal(take(one, &a, 5), 5);
    salvo_consumer *two = join("g");
    usleep(150000);
    assert_int_equal(take(two, &b, 5), 5);
    assert_int_equal(b.deliveries[0], 2);
    ack(two, &b, 0, 5);
    pump(two);
    ack(one, &a, 0, 2); /* it knows no better; nobody hears of it */
    pump(one);          /* it comes back, as a new member */
    assert_int_equal(salvo_consumer_ack(one, a.ids, 5), 0);
    assert_int_equal(stats_of(one).lost, 3);
    assert_int_equal(stats_of(one).assigned, 0);
    leave(two);
    send(0, 5, 1);
    assert_int_equal(take(one, &a, 5), 1);
    leave(one);
    tear_down();
}

static void manual_commit_waits_for_commit(void **state)
{
    (void)state;
    taken a = {0}, b = {0};
    set_up_with(CONFIG("kafka_enable_auto_commit", "false"));
    send(0, 0, 6);
    salvo_consumer *c = join("g");
    assert_int_equal(take(c, &a, 6), 6);
    ack(c, &a, 0, 2);
    assert_int_equal(salvo_consumer_commit(c, 1000), 0);
    ack(c, &a, 2, 2);
    pump(c);
    assert_int_equal(stats_of(c).commits, 1);
    leave(c); /* without a commit */
    c = join("g");
    assert_int_equal(take(c, &b, 9), 4);
    assert_int_equal(b.numbers[0], 2);
    leave(c);
    tear_down();
}

static void where_a_new_group_begins(void **state)
{
    (void)state;
    taken a = {0}, b = {0};
    set_up_with(CONFIG("kafka_auto_offset_reset", "latest"));
    send(0, 0, 5);
    salvo_consumer *c = join("g");
    assert_int_equal(take(c, &a, 5), 0);
    send(0, 5, 2);
    assert_int_equal(take(c, &a, 5), 2);
    leave(c); /* nothing settled: the next member must not begin at a later end */
    send(0, 7, 1);
    c = join("g");
    assert_int_equal(take(c, &b, 5), 3);
    assert_int_equal(b.numbers[0], 5);
    leave(c);
    assert_int_equal(salvo_config_set(config, "kafka_auto_offset_reset", "none"), 0);
    c = join("another");
    const salvo_delivered *messages;
    size_t n;
    assert_int_equal(salvo_consumer_poll(c, 0, &messages, 5, &n), SALVO_ERR_CONFIG);
    assert_non_null(strstr(salvo_last_error(), "group another has no committed offset in t/0"));
    leave(c);
    tear_down();
}

static void seek_and_rewind(void **state)
{
    (void)state;
    taken a = {0};
    set_up_with(NULL);
    send(0, 0, 10); /* several batches or one: a seek finds its place within */
    send(0, 10, 10);
    salvo_consumer *c = join("g");
    pump(c);
    assert_int_equal(take(c, &a, 4), 4);
    assert_int_equal(salvo_consumer_seek(c, "t", 0, 13), 0);
    assert_int_equal(salvo_consumer_is_held(c, a.ids[0]), 0);
    assert_int_equal(take(c, &a, 99), 7);
    assert_int_equal(a.numbers[4], 13);
    assert_int_equal(a.deliveries[4], 1);
    assert_int_equal(salvo_consumer_seek(c, "t", 0, SALVO_OFFSET_BEGIN), 0);
    assert_int_equal(take(c, &a, 3), 3);
    assert_int_equal(a.numbers[11], 0);
    assert_int_equal(a.deliveries[11], 0); /* after a seek ahead nobody knows */
    ack(c, &a, 11, 2);
    assert_int_equal(salvo_consumer_rewind(c), 0);
    assert_int_equal(take(c, &a, 1), 1);
    assert_int_equal(a.numbers[14], 2);
    assert_int_equal(salvo_consumer_seek(c, "t", 0, SALVO_OFFSET_END), 0);
    assert_int_equal(take(c, &a, 1), 0);
    assert_int_equal(salvo_consumer_seek(c, "t", 0, 21), SALVO_ERR_INVALID);
    assert_int_equal(salvo_consumer_seek(c, "t", 1, 0), SALVO_ERR_PARTITION);
    assert_int_equal(salvo_consumer_seek(c, "u", 0, 0), SALVO_ERR_UNKNOWN_TOPIC);
    leave(c);
    tear_down();
}

static void evicted_is_skipped(void **state)
{
    (void)state;
    taken a = {0};
    char big[8000];
    set_up_with(CONFIG("memory_bytes", "65536", "max_message_bytes", "10000"));
    memset(big, '7', sizeof big);
    salvo_consumer *c = join("g");
    for (int i = 0; i < 30; i++) {
        salvo_message m = {.value = big, .value_len = i < 29 ? sizeof big : 2};
        assert_int_equal(salvo_send(e.p, e.topic, &m), 0);
        assert_int_equal(salvo_flush(e.p, 10000), 0);
    }
    assert_int_equal(salvo_consumer_seek(c, "t", 0, 29), 0);
    assert_int_equal(take(c, &a, 1), 1);
    assert_int_equal(a.numbers[0], 77);
    const salvo_delivered *messages;
    size_t n;
    assert_int_equal(salvo_consumer_rewind(c), 0);
    assert_int_equal(salvo_consumer_poll(c, 0, &messages, 99, &n), 0);
    assert_in_range(messages[0].record.offset, 20, 28); /* the head of what is left */
    assert_int_equal(messages[n - 1].record.offset, 29);
    leave(c);
    tear_down();
}

static bool readable(salvo_consumer *c, int timeout_ms)
{
    struct pollfd fd = {.fd = salvo_consumer_fd(c), .events = POLLIN};
    assert_true(fd.fd >= 0);
    return poll(&fd, 1, timeout_ms) == 1;
}

static void the_descriptor_tells(void **state)
{
    (void)state;
    taken a = {0};
    set_up_with(NULL);
    salvo_consumer *c = join("g");
    assert_int_equal(take(c, &a, 1), 0);
    assert_false(readable(c, 0));
    send(0, 0, 3);
    assert_true(readable(c, 5000));
    assert_int_equal(take(c, &a, 2), 2);
    assert_true(readable(c, 0)); /* one is left */
    assert_int_equal(take(c, &a, 2), 1);
    assert_false(readable(c, 0));
    assert_int_equal(salvo_consumer_pause(c, "t", SALVO_PARTITION_ALL), 0);
    send(0, 3, 1);
    assert_int_equal(take(c, &a, 2), 0);
    assert_false(readable(c, 0));
    assert_int_equal(salvo_consumer_resume(c, "t", 0), 0);
    assert_true(readable(c, 0));
    salvo_consumer_wake(c);
    assert_int_equal(take(c, &a, 2), 1);
    leave(c);
    tear_down();
}

static void names_and_misuse(void **state)
{
    (void)state;
    set_up_with(NULL);
    const char *topic = "t";
    salvo_consumer *c = join_as("g", "me", "new"), *second;
    salvo_consumer_options o = {.size = sizeof o, .group = "g", .member = "me", .topics = &topic,
                                .topic_count = 1};
    assert_int_equal(salvo_consumer_open(config, e.p, &o, &second), SALVO_ERR_REJECTED);
    assert_non_null(strstr(salvo_last_error(), "a member named me already"));
    assert_null(second);
    o.member = NULL;
    assert_int_equal(salvo_consumer_open(config, NULL, &o, &second), SALVO_ERR_INVALID);
    assert_non_null(strstr(salvo_last_error(), "give that producer"));
    o.transactional = 1;
    assert_int_equal(salvo_consumer_open(config, e.p, &o, &second), SALVO_ERR_UNSUPPORTED);
    assert_non_null(strstr(salvo_last_error(), "memory has no transactions"));
    leave(c);
    tear_down();
}

static void outlives_its_producer(void **state)
{
    (void)state;
    taken a = {0};
    const salvo_delivered *messages;
    size_t n;
    set_up_with(NULL);
    salvo_consumer *c = join("g");
    send(0, 0, 3);
    engine_close(&e, 0);
    assert_true(readable(c, 0));
    assert_int_equal(take(c, &a, 3), 3);
    ack(c, &a, 0, 3);
    assert_int_equal(salvo_consumer_poll(c, 1000, &messages, 1, &n), SALVO_ERR_CLOSED);
    assert_non_null(strstr(salvo_last_error(), "producer of this memory broker was closed"));
    assert_int_equal(stats_of(c).commits, 1);
    leave(c);
    tear_down();
}

static void lag_of_group_and_member(void **state)
{
    (void)state;
    taken a = {0};
    salvo_lag lags[4];
    set_up_with(CONFIG("memory_partitions", "2"));
    send(0, 0, 5);
    send(1, 0, 2);
    salvo_consumer *c = join("g");
    assert_int_equal(salvo_consumer_lag(c, lags, 4, 1000), 2);
    assert_int_equal(lags[0].lag + lags[1].lag, 7);
    assert_int_equal(lags[0].committed, -1);
    assert_int_equal(take(c, &a, 7), 7);
    ack(c, &a, 0, 7);
    assert_int_equal(salvo_consumer_lag(c, lags, 1, 1000), 2);
    assert_int_equal(lags[0].lag, 0);
    assert_string_equal(lags[0].topic, "t");
    assert_int_equal(lags[0].committed, lags[0].end);
    leave(c);
    tear_down();
}

static void a_fork_has_none(void **state)
{
    (void)state;
    set_up_with(NULL);
    salvo_consumer *c = join("g");
    pid_t child = fork();
    if (child == 0) {
        uint64_t id = 1;
        const salvo_delivered *messages;
        size_t n;
        salvo_consumer_wake(c);
        bool good = salvo_consumer_ack(c, &id, 1) == SALVO_ERR_FORKED &&
                    salvo_consumer_poll(c, 0, &messages, 1, &n) == SALVO_ERR_FORKED &&
                    salvo_consumer_commit(c, 0) == SALVO_ERR_FORKED &&
                    salvo_consumer_close(c, 0) == SALVO_ERR_FORKED;
        _exit(good ? 0 : 1);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    leave(c);
    assert_int_equal(salvo_consumer_close(c, 0), SALVO_ERR_CLOSED);
    tear_down();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_settled_stays_settled),
        cmocka_unit_test(shares_move_and_the_others_stay),
        cmocka_unit_test(shares_are_balanced),
        cmocka_unit_test(who_does_not_settle_in_time_loses),
        cmocka_unit_test(a_silent_member_is_given_up),
        cmocka_unit_test(manual_commit_waits_for_commit),
        cmocka_unit_test(where_a_new_group_begins),
        cmocka_unit_test(seek_and_rewind),
        cmocka_unit_test(evicted_is_skipped),
        cmocka_unit_test(the_descriptor_tells),
        cmocka_unit_test(names_and_misuse),
        cmocka_unit_test(outlives_its_producer),
        cmocka_unit_test(lag_of_group_and_member),
        cmocka_unit_test(a_fork_has_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
