/* SPDX-License-Identifier: Apache-2.0
 *
 * Consuming from RabbitMQ queues, against servers of the test's own: members share a queue, what
 * the dead held comes again, connections and servers go and come back, queues are deleted, acks
 * come in any order.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "server_world.h"

#include "consumer_world.h"

typedef struct world {
    salvo_config *config;
    char url[256], queue[64];
    taken *a, *b;
} world;

static world *begin(const char *url, const char *name)
{
    world *w = calloc(1, sizeof *w);
    w->a = calloc(1, sizeof *w->a);
    w->b = calloc(1, sizeof *w->b);
    snprintf(w->url, sizeof w->url, "%s", url);
    snprintf(w->queue, sizeof w->queue, "consumer-%s-%d", name, (int)getpid());
    assert_int_equal(salvo_config_new(&w->config), 0);
    consumer_set(w->config, "message_broker", "rabbitmq");
    consumer_set(w->config, "rabbitmq_url", w->url);
    consumer_set(w->config, "reconnect_backoff_ms", "20");
    consumer_set(w->config, "retry_backoff_max_ms", "100");
    return w;
}

static void end(world *w)
{
    if (salvo_topic_delete(w->config, w->queue, 5000))
        fail_msg("delete: %s", salvo_last_error());
    salvo_config_free(w->config);
    free(w->a);
    free(w->b);
    free(w);
}

static void add(world *w, int first, int count)
{
    salvo *s = NULL;
    if (salvo_open(w->config, NULL, &s))
        fail_msg("producer: %s", salvo_last_error());
    salvo_topic topic;
    assert_int_equal(salvo_topic_open(s, w->queue, NULL, &topic), 0);
    for (int i = first; i < first + count; i++) {
        char text[16];
        snprintf(text, sizeof text, "%d", i);
        salvo_message m = {.value = text, .value_len = strlen(text), .key = "k", .key_len = 1};
        assert_int_equal(salvo_send(s, topic, &m), 0);
    }
    assert_int_equal(salvo_flush(s, 20000), 0);
    assert_int_equal(salvo_close(s, 20000, NULL), 0);
}

static int64_t ready(world *w)
{
    salvo_lag lag;
    if (salvo_group_lag(w->config, NULL, "g", w->queue, &lag, 1, 5000) != 1)
        fail_msg("lag: %s", salvo_last_error());
    return lag.lag;
}

static void test_share(void **state)
{
    (void)state;
    world *w = begin(server_shared("rabbitmq"), "share");
    salvo_consumer *a = consumer_open_as(w->config, "g", NULL, w->queue, 200, 0);
    salvo_consumer *b = consumer_open_as(w->config, "g", NULL, w->queue, 200, 0);
    add(w, 0, 5000);
    uint64_t until = consumer_now_ms() + 30000;
    while (w->a->count + w->b->count < 5000 && consumer_now_ms() < until) {
        assert_true(take_some(a, w->a, 20, true) >= 0);
        assert_true(take_some(b, w->b, 20, true) >= 0);
    }
    for (int i = 0; i < 5000; i++)
        assert_int_equal(w->a->times[i] + w->b->times[i], 1);
    assert_true(w->a->count > 1000 && w->b->count > 1000);
    assert_int_equal(consumer_stats(a).assigned, 1);
    consumer_end(a);
    consumer_end(b);
    assert_int_equal(ready(w), 0); /* all were acknowledged, also those taken last */
    end(w);
}

static void test_killed(void **state)
{
    (void)state;
    world *w = begin(server_shared("rabbitmq"), "killed");
    salvo_consumer *first = consumer_new(w->config, "g", w->queue); /* declares it */
    consumer_end(first);
    add(w, 0, 1000);
    child_kill(consumer_child(w->config, "g", NULL, w->queue, 400, 4));
    salvo_consumer *c = consumer_new(w->config, "g", w->queue);
    take_until(c, w->a, 1000, 3000, true);
    int again = 0;
    for (int i = 0; i < 1000; i++) {
        assert_in_range(w->a->times[i], 0, 1);
        again += w->a->deliveries[i] == 2;
    }
    assert_in_range(w->a->count, 700, 900 + 100); /* all but what it acknowledged */
    assert_true(again >= 300);
    assert_int_equal(consumer_stats(c).redelivered, again);
    consumer_end(c);
    assert_int_equal(ready(w), 0);
    end(w);
}

static void test_killed_often(void **state)
{
    (void)state;
    world *w = begin(server_shared("rabbitmq"), "often");
    add(w, 0, 10000);
    killed_often(w->config, w->queue, 10000, 20);
    end(w);
}

/* Acks in a wild order, in small hands: the server is told of each, once. */
static void test_any_order(void **state)
{
    (void)state;
    world *w = begin(server_shared("rabbitmq"), "order");
    salvo_consumer *c = consumer_open_as(w->config, "g", NULL, w->queue, 50, 0);
    add(w, 0, 3000);
    uint64_t hand[50], until = consumer_now_ms() + 30000;
    int held = 0, settled = 0;
    unsigned seed = 7;
    while (settled < 3000 && consumer_now_ms() < until) {
        const salvo_delivered *m;
        size_t count;
        (void)!salvo_consumer_poll(c, held < 25 ? 20 : 0, &m, 50, &count);
        for (size_t i = 0; i < count; i++) {
            assert_true(held < 50);
            hand[held++] = m[i].id;
            take_note(w->a, &m[i]);
        }
        for (int n = 0; n < 10 && held > 1; n++) { /* the oldest is kept as long as may be */
            int at = 1 + (int)(rand_r(&seed) % (unsigned)(held - 1));
            assert_int_equal(salvo_consumer_ack(c, &hand[at], 1), 1);
            hand[at] = hand[--held];
            settled++;
        }
        if (settled % 1000 > 980 || settled >= 2999) {
            settled += held;
            assert_int_equal(salvo_consumer_ack(c, hand, (size_t)held), held);
            held = 0;
        }
    }
    assert_int_equal(settled, 3000);
    assert_int_equal(w->a->count, 3000);
    assert_int_equal(consumer_stats(c).lost, 0);
    consumer_end(c);
    assert_int_equal(ready(w), 0);
    end(w);
}

static void test_never_acked(void **state)
{
    (void)state;
    world *w = begin(server_shared("rabbitmq"), "never");
    salvo_consumer *c = consumer_new(w->config, "g", w->queue);
    add(w, 0, 100);
    take_until(c, w->a, 100, 10000, false);
    assert_int_equal(salvo_consumer_ack(c, w->a->ids, 40), 40);
    assert_int_equal(salvo_consumer_rewind(c), 0);
    assert_int_equal(salvo_consumer_is_held(c, w->a->ids[50]), 0);
    take_until(c, w->b, 60, 10000, false);
    take_for(c, w->b, 300, false);
    assert_int_equal(w->b->count, 60);
    assert_int_equal(w->b->times[39], 0);
    assert_int_equal(w->b->deliveries[99], 2);
    consumer_end(c);
    assert_int_equal(ready(w), 60);
    end(w);
}

static void test_pause(void **state)
{
    (void)state;
    world *w = begin(server_shared("rabbitmq"), "pause");
    salvo_consumer *c = consumer_new(w->config, "g", w->queue);
    add(w, 0, 100);
    const salvo_delivered *m;
    size_t count = 0;
    while (count == 0)
        (void)!salvo_consumer_poll(c, 100, &m, 10, &count);
    for (size_t i = 0; i < count; i++)
        take_note(w->a, &m[i]);
    assert_int_equal(salvo_consumer_pause(c, w->queue, SALVO_PARTITION_ALL), 0);
    take_for(c, w->a, 500, false);
    assert_int_equal(w->a->count, count);
    salvo_consumer *other = consumer_new(w->config, "g", w->queue);
    take_until(other, w->b, 50, 5000, false); /* what was not given is free for others */
    assert_true(w->b->count >= 50);
    consumer_end(other);
    assert_int_equal(salvo_consumer_ack(c, w->a->ids, 1), 1); /* a pause settles nothing */
    assert_int_equal(salvo_consumer_resume(c, w->queue, 0), 0);
    take_until(c, w->a, 100, 10000, false);
    assert_int_equal(w->a->count, 100);
    assert_int_equal(consumer_stats(c).lost, 0);
    consumer_end(c);
    end(w);
}

static void test_manual_commit(void **state)
{
    (void)state;
    world *w = begin(server_shared("rabbitmq"), "manual");
    salvo_consumer *c = consumer_open_as(w->config, "g", NULL, w->queue, 0, 1);
    add(w, 0, 100);
    take_until(c, w->a, 100, 10000, true);
    take_for(c, w->a, 200, true);
    consumer_end(c);
    assert_int_equal(ready(w), 100);
    c = consumer_open_as(w->config, "g", NULL, w->queue, 0, 1);
    take_until(c, w->b, 100, 10000, true);
    uint64_t before = consumer_now_ms();
    assert_int_equal(salvo_consumer_commit(c, 5000), 0);
    print_message("commit of 100: %d ms\n", (int)(consumer_now_ms() - before));
    consumer_end(c);
    assert_int_equal(ready(w), 0);
    end(w);
}

static void test_queue_deleted(void **state)
{
    (void)state;
    world *w = begin(server_shared("rabbitmq"), "deleted");
    salvo_consumer *c = consumer_new(w->config, "g", w->queue);
    add(w, 0, 10);
    take_until(c, w->a, 10, 10000, false);
    assert_int_equal(salvo_topic_delete(w->config, w->queue, 5000), 0);
    take_for(c, w->a, 300, false);
    assert_int_equal(salvo_consumer_ack(c, w->a->ids, 10), 10); /* of a queue that is gone */
    add(w, 10, 10);
    take_until(c, w->a, 20, 10000, true);
    assert_int_equal(w->a->different, 20);
    consumer_end(c);
    assert_int_equal(ready(w), 0);
    end(w);
}

static void test_refused(void **state)
{
    (void)state;
    world *w = begin(server_shared("rabbitmq"), "refused");
    salvo_consumer *c = NULL;
    const char *topic = "amq.nobody-may-declare-this";
    salvo_consumer_options options = {.size = sizeof options, .group = "g", .topics = &topic,
                                      .topic_count = 1, .open_timeout_ms = 5000};
    int err = salvo_consumer_open(w->config, NULL, &options, &c);
    assert_true(err == SALVO_ERR_AUTH || err == SALVO_ERR_UNKNOWN_TOPIC);
    assert_non_null(strstr(salvo_last_error(), topic));
    consumer_set(w->config, "rabbitmq_url", "amqp://nobody:wrong@127.0.0.1:1/");
    options.open_timeout_ms = 300;
    assert_int_equal(salvo_consumer_open(w->config, NULL, &options, &c), SALVO_ERR_UNREACHABLE);
    assert_null(strstr(salvo_last_error(), "wrong"));
    consumer_set(w->config, "rabbitmq_url", w->url);
    end(w);
}

/* A handler may be long as long as somebody polls: heartbeats go out though nothing is wanted. */
static void test_heartbeats(void **state)
{
    (void)state;
    world *w = begin(server_shared("rabbitmq"), "beats");
    consumer_set(w->config, "rabbitmq_heartbeat_s", "1");
    salvo_consumer *c = consumer_new(w->config, "g", w->queue);
    add(w, 0, 10);
    take_until(c, w->a, 10, 10000, false);
    uint64_t until = consumer_now_ms() + 5000;
    while (consumer_now_ms() < until) {
        const salvo_delivered *none;
        size_t count;
        assert_int_equal(salvo_consumer_poll(c, 0, &none, 0, &count), SALVO_ERR_TIMEOUT);
        usleep(100000);
    }
    for (int i = 0; i < 10; i++)
        assert_int_equal(salvo_consumer_is_held(c, w->a->ids[i]), 1);
    assert_int_equal(consumer_stats(c).lost, 0);
    usleep(5000000); /* and nobody polls: the server takes us for dead */
    take_until(c, w->b, 10, 10000, true);
    assert_int_equal(w->b->count, 10);
    assert_int_equal(consumer_stats(c).lost, 10);
    consumer_end(c);
    assert_int_equal(ready(w), 0);
    end(w);
}

/* Large messages and many small ones, in one hand that is bounded. */
static void test_large(void **state)
{
    (void)state;
    world *w = begin(server_shared("rabbitmq"), "large");
    salvo_consumer *c = consumer_open_as(w->config, "g", NULL, w->queue, 20, 0);
    char *large = calloc(1, 700000);
    salvo *s = NULL;
    salvo_topic topic;
    assert_int_equal(salvo_open(w->config, NULL, &s), 0);
    assert_int_equal(salvo_topic_open(s, w->queue, NULL, &topic), 0);
    for (int i = 0; i < 60; i++) {
        size_t n = (size_t)i % 3 * 350000;
        memset(large, 'a' + i % 26, 700000);
        salvo_message m = {.value = large, .value_len = n};
        assert_int_equal(salvo_send(s, topic, &m), 0);
    }
    assert_int_equal(salvo_close(s, 30000, NULL), 0);
    int got = 0;
    uint64_t until = consumer_now_ms() + 30000;
    while (got < 60 && consumer_now_ms() < until) {
        const salvo_delivered *m;
        size_t count;
        if (salvo_consumer_poll(c, 50, &m, 100, &count))
            continue;
        for (size_t i = 0; i < count; i++, got++) {
            const char *value = m[i].record.value;
            assert_int_equal(m[i].record.value_len, (size_t)got % 3 * 350000);
            for (size_t b = 0; b < m[i].record.value_len; b += 997)
                assert_int_equal(value[b], 'a' + got % 26);
            assert_int_equal(salvo_consumer_ack(c, &m[i].id, 1), 1);
        }
    }
    assert_int_equal(got, 60);
    consumer_end(c);
    free(large);
    end(w);
}

/* A server that is killed, and one that is silent: what was in hand comes again. */
static void test_server_killed(void **state)
{
    (void)state;
    char url[256] = "";
    server_own("rabbitmq", "start", "", url, sizeof url);
    world *w = begin(url, "server");
    salvo_consumer *c = consumer_open_as(w->config, "g", NULL, w->queue, 500, 0);
    add(w, 0, 2000);
    sleep(3); /* RabbitMQ 3.10 forgets queues that are younger when it is killed */
    take_until(c, w->a, 400, 10000, false);
    server_own("rabbitmq", "kill", "", NULL, 0);
    take_for(c, w->a, 300, false);
    assert_int_equal(salvo_consumer_is_held(c, w->a->ids[0]), 0);
    server_own("rabbitmq", "restart", "", NULL, 0);
    take_until(c, w->b, 2000, 60000, true);
    assert_int_equal(w->b->different, 2000);
    for (int i = 0; i < 400; i++)
        assert_int_equal(w->b->times[i] >= 1, 1);
    assert_true(consumer_stats(c).lost >= 400);
    consumer_end(c);
    end(w);
    server_own("rabbitmq", "stop", "", NULL, 0);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_share),
        cmocka_unit_test(test_killed),
        cmocka_unit_test(test_killed_often),
        cmocka_unit_test(test_any_order),
        cmocka_unit_test(test_never_acked),
        cmocka_unit_test(test_pause),
        cmocka_unit_test(test_manual_commit),
        cmocka_unit_test(test_queue_deleted),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_heartbeats),
        cmocka_unit_test(test_large),
        cmocka_unit_test(test_server_killed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
