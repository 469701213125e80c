/* SPDX-License-Identifier: Apache-2.0
 *
 * Consuming from Redis streams, against servers of the test's own: members share, what the dead
 * held is taken over, what the living hold is not, connections and servers go and come back,
 * streams are flushed, entries are deleted or are none of ours.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "redis_server.h"

#include "consumer_world.h"

typedef struct world {
    redis_server server;
    salvo_config *config;
    taken *a, *b;
} world;

static world *begin(const char *const *extra, const char *claim_idle_ms)
{
    world *w = calloc(1, sizeof *w);
    w->server = redis_begin(extra);
    w->a = calloc(1, sizeof *w->a);
    w->b = calloc(1, sizeof *w->b);
    assert_int_equal(salvo_config_new(&w->config), 0);
    consumer_set(w->config, "message_broker", "redis");
    consumer_set(w->config, "redis_url", w->server.url);
    consumer_set(w->config, "redis_claim_idle_ms", claim_idle_ms);
    return w;
}

static void end(world *w)
{
    salvo_config_free(w->config);
    redis_end(&w->server);
    free(w->a);
    free(w->b);
    free(w);
}

static void add(world *w, const char *stream, int first, int count)
{
    for (int i = first; i < first + count; i++)
        redisAppendCommand(w->server.admin, "XADD %s * key %d value %d", stream, i % 7, i);
    for (int i = 0; i < count; i++) {
        redisReply *reply = NULL;
        assert_int_equal(redisGetReply(w->server.admin, (void **)&reply), REDIS_OK);
        assert_int_equal(reply->type, REDIS_REPLY_STRING);
        freeReplyObject(reply);
    }
}

static long long pending(world *w, const char *group)
{
    char command[64];
    snprintf(command, sizeof command, "XPENDING s %s", group);
    redisReply *reply = redis_do(&w->server, command);
    assert_int_equal(reply->type, REDIS_REPLY_ARRAY);
    long long n = reply->element[0]->integer;
    freeReplyObject(reply);
    return n;
}

static size_t consumers(world *w, const char *group)
{
    char command[64];
    snprintf(command, sizeof command, "XINFO CONSUMERS s %s", group);
    redisReply *reply = redis_do(&w->server, command);
    size_t n = reply->elements;
    freeReplyObject(reply);
    return n;
}

static void test_share(void **state)
{
    (void)state;
    world *w = begin(NULL, "60000");
    add(w, "s", 0, 5000);
    salvo_consumer *a = consumer_open_as(w->config, "g", NULL, "s", 500, 0);
    salvo_consumer *b = consumer_open_as(w->config, "g", NULL, "s", 500, 0);
    uint64_t until = consumer_now_ms() + 20000;
    while (w->a->count + w->b->count < 5000 && consumer_now_ms() < until) {
        assert_true(take_some(a, w->a, 20, true) >= 0);
        assert_true(take_some(b, w->b, 20, true) >= 0);
    }
    assert_int_equal(w->a->count + w->b->count, 5000);
    for (int i = 0; i < 5000; i++)
        assert_int_equal(w->a->times[i] + w->b->times[i], 1);
    assert_true(w->a->count > 500 && w->b->count > 500);
    assert_int_equal(consumer_stats(a).assigned, 1);
    consumer_end(a);
    consumer_end(b);
    assert_int_equal(pending(w, "g"), 0);
    assert_int_equal(consumers(w, "g"), 0); /* nothing pending: they are removed */

    taken *other = calloc(1, sizeof *other); /* another group gets all of it again */
    salvo_consumer *c = consumer_new(w->config, "h", "s");
    take_until(c, other, 5000, 20000, true);
    assert_int_equal(other->count, 5000);
    consumer_end(c);
    free(other);
    end(w);
}

static void test_latest(void **state)
{
    (void)state;
    world *w = begin(NULL, "60000");
    consumer_set(w->config, "kafka_auto_offset_reset", "latest");
    add(w, "s", 0, 100);
    salvo_consumer *c = consumer_new(w->config, "g", "s");
    add(w, "s", 100, 50);
    take_until(c, w->a, 50, 10000, true);
    take_for(c, w->a, 300, true);
    assert_int_equal(w->a->count, 50);
    assert_int_equal(w->a->times[100], 1);
    consumer_end(c);
    consumer_set(w->config, "kafka_auto_offset_reset", "none");
    const char *topic = "s";
    salvo_consumer_options options = {.size = sizeof options, .group = "new", .topics = &topic,
                                      .topic_count = 1};
    assert_int_equal(salvo_consumer_open(w->config, NULL, &options, &c), SALVO_ERR_UNKNOWN_TOPIC);
    assert_non_null(strstr(salvo_last_error(), "kafka_auto_offset_reset"));
    end(w);
}

static void test_killed(void **state)
{
    (void)state;
    world *w = begin(NULL, "600");
    add(w, "s", 0, 1000);
    pid_t child = consumer_child(w->config, "g", NULL, "s", 400, 4);
    child_kill(child);
    long long left = pending(w, "g");
    assert_in_range(left, 250, 1000);
    salvo_consumer *c = consumer_new(w->config, "g", "s");
    uint64_t until = consumer_now_ms() + 20000;
    while (consumer_now_ms() < until && (w->a->count < 10 || pending(w, "g") > 0))
        assert_true(take_some(c, w->a, 50, true) >= 0);
    int again = 0;
    for (int i = 0; i < 1000; i++) {
        assert_in_range(w->a->times[i], 0, 1);
        again += w->a->deliveries[i] == 2;
    }
    assert_int_equal(again, left);      /* all that the dead one held, each once */
    assert_true(w->a->count >= 750);    /* all that it did not acknowledge */
    assert_int_equal(consumer_stats(c).redelivered, left);
    consumer_end(c);
    end(w);
}

static void test_killed_often(void **state)
{
    (void)state;
    world *w = begin(NULL, "500");
    add(w, "s", 0, 10000);
    killed_often(w->config, "s", 10000, 20);
    end(w);
}

/* A handler may take as long as it likes, as long as somebody polls. */
static void test_long_handler(void **state)
{
    (void)state;
    world *w = begin(NULL, "400");
    add(w, "s", 0, 20);
    salvo_consumer *a = consumer_new(w->config, "g", "s");
    take_until(a, w->a, 20, 10000, false);
    salvo_consumer *b = consumer_new(w->config, "g", "s");
    uint64_t until = consumer_now_ms() + 2000;
    while (consumer_now_ms() < until) {
        const salvo_delivered *none;
        size_t count;
        assert_int_equal(salvo_consumer_poll(a, 0, &none, 0, &count), SALVO_ERR_TIMEOUT);
        assert_int_equal(take_some(b, w->b, 50, true), 0);
    }
    assert_int_equal(salvo_consumer_ack(a, &w->a->ids[3], 1), 1);
    for (int i = 0; i < 20; i++)
        assert_int_equal(salvo_consumer_is_held(a, w->a->ids[i]), i != 3);
    consumer_end(a);
    take_until(b, w->b, 19, 3000, true); /* given back: long before it would count as idle */
    assert_int_equal(w->b->count, 19);
    consumer_end(b);
    assert_int_equal(consumers(w, "g"), 1); /* a's name stays: things were pending with it */
    end(w);
}

static void test_stalled(void **state)
{
    (void)state;
    world *w = begin(NULL, "300");
    add(w, "s", 0, 20);
    salvo_consumer *a = consumer_new(w->config, "g", "s");
    salvo_consumer *b = consumer_new(w->config, "g", "s");
    while (w->a->different < 20)
        take_until(a, w->a, 20, 100, false);
    take_until(b, w->b, 20, 10000, true); /* nobody polls a */
    assert_int_equal(w->b->count, 20);
    assert_int_equal(salvo_consumer_commit(b, 5000), 0);
    take_for(a, w->a, 300, false);
    assert_int_equal(w->a->count, 20); /* b has acknowledged them: they do not come again */
    assert_int_equal(consumer_stats(a).lost, 20);
    assert_int_equal(salvo_consumer_is_held(a, w->a->ids[0]), 0);
    add(w, "s", 20, 10); /* and it goes on */
    take_until(a, w->a, 30, 10000, true);
    assert_int_equal(w->a->different, 30);
    consumer_end(b);
    consumer_end(a);
    assert_int_equal(pending(w, "g"), 0);
    end(w);
}

static void test_own_pending_first(void **state)
{
    (void)state;
    world *w = begin(NULL, "60000");
    add(w, "s", 0, 300);
    child_kill(consumer_child(w->config, "g", "me", "s", 300, 0));
    add(w, "s", 300, 10);
    salvo_consumer *c = consumer_open_as(w->config, "g", "me", "s", 0, 0);
    while (w->a->count < 300)
        assert_true(take_some(c, w->a, 1000, false) >= 0);
    for (int i = 0; i < 300; i++) { /* at once, and before what is new */
        assert_int_equal(w->a->times[i], 1);
        assert_int_equal(w->a->deliveries[i], 2);
    }
    take_until(c, w->a, 310, 5000, false);
    assert_int_equal(w->a->count, 310);
    consumer_end(c);
    end(w);
}

static void test_rewind_and_pause(void **state)
{
    (void)state;
    world *w = begin(NULL, "60000");
    add(w, "s", 0, 100);
    salvo_consumer *c = consumer_new(w->config, "g", "s");
    take_until(c, w->a, 100, 10000, false);
    assert_int_equal(salvo_consumer_ack(c, w->a->ids, 40), 40);
    assert_int_equal(salvo_consumer_rewind(c), 0);
    assert_int_equal(salvo_consumer_is_held(c, w->a->ids[50]), 0);
    take_until(c, w->b, 60, 10000, false);
    take_for(c, w->b, 300, false);
    assert_int_equal(w->b->count, 60); /* what was acknowledged does not come again */
    assert_int_equal(w->b->times[39], 0);
    assert_int_equal(w->b->deliveries[99], 2);
    assert_int_equal(salvo_consumer_pause(c, "s", SALVO_PARTITION_ALL), 0);
    add(w, "s", 100, 10);
    take_for(c, w->b, 500, false);
    assert_int_equal(w->b->count, 60);
    assert_int_equal(salvo_consumer_resume(c, "s", 0), 0);
    take_until(c, w->b, 70, 10000, false);
    assert_int_equal(w->b->count, 70);
    consumer_end(c);
    end(w);
}

static void test_manual_commit(void **state)
{
    (void)state;
    world *w = begin(NULL, "60000");
    add(w, "s", 0, 100);
    salvo_consumer *c = consumer_open_as(w->config, "g", "me", "s", 0, 1);
    take_until(c, w->a, 100, 10000, true);
    take_for(c, w->a, 300, true);
    assert_int_equal(pending(w, "g"), 100);
    consumer_end(c);
    assert_int_equal(pending(w, "g"), 100);
    c = consumer_open_as(w->config, "g", "me", "s", 0, 1);
    take_until(c, w->b, 100, 10000, true);
    assert_int_equal(w->b->count, 100);
    uint64_t before = consumer_now_ms();
    assert_int_equal(salvo_consumer_commit(c, 5000), 0);
    assert_int_equal(pending(w, "g"), 0);
    for (int i = 0; i < 20; i++) { /* in a quiet stream: no commit waits for the reading */
        add(w, "s", 100 + i, 1);
        take_until(c, w->b, 101 + i, 5000, true);
        assert_int_equal(salvo_consumer_commit(c, 5000), 0);
        assert_int_equal(pending(w, "g"), 0);
    }
    print_message("20 messages, each committed: %d ms\n", (int)(consumer_now_ms() - before));
    consumer_end(c);
    end(w);
}

/* Connections are cut all the time: nothing in hand is lost, nothing comes twice. */
static void test_connections_cut(void **state)
{
    (void)state;
    world *w = begin(NULL, "60000");
    consumer_set(w->config, "reconnect_backoff_ms", "1");
    consumer_set(w->config, "retry_backoff_max_ms", "10");
    add(w, "s", 0, 20000);
    salvo_consumer *c = consumer_open_as(w->config, "g", NULL, "s", 700, 0);
    while (w->a->count < 50)
        assert_true(take_some(c, w->a, 20, false) >= 0);
    int held = w->a->count; /* through all of it */
    uint64_t until = consumer_now_ms() + 30000;
    for (int i = 0; w->a->different < 20000 && consumer_now_ms() < until; i++) {
        assert_true(take_some(c, w->a, 20, true) >= 0);
        if (i % 3 == 0 && i < 150)
            redis_ask(&w->server, "CLIENT KILL TYPE normal SKIPME yes");
    }
    assert_int_equal(w->a->different, 20000);
    assert_int_equal(w->a->count, 20000);
    assert_int_equal(consumer_stats(c).in_hand, held);
    for (int i = 0; i < held; i++)
        assert_int_equal(salvo_consumer_ack(c, &w->a->ids[i], 1), 1);
    assert_int_equal(consumer_stats(c).lost, 0);
    consumer_end(c);
    assert_int_equal(pending(w, "g"), 0);
    end(w);
}

static void test_server_killed(void **state)
{
    (void)state;
    static const char *const durable[] = {"--appendonly", "yes", "--appendfsync", "always", NULL};
    world *w = begin(durable, "60000");
    consumer_set(w->config, "reconnect_backoff_ms", "10");
    consumer_set(w->config, "retry_backoff_max_ms", "50");
    add(w, "s", 0, 3000);
    salvo_consumer *c = consumer_open_as(w->config, "g", NULL, "s", 500, 0);
    take_until(c, w->a, 400, 10000, false); /* in hand through all of it */
    for (int round = 0; round < 3; round++) {
        redis_kill(&w->server, SIGKILL);
        take_for(c, w->a, 200, false);
        redis_run(&w->server);
        take_for(c, w->a, 300, false);
    }
    for (int i = 0; i < 3000; i++)
        if (w->a->times[i])
            assert_int_equal(salvo_consumer_ack(c, &w->a->ids[i], 1), 1);
    take_until(c, w->a, 3000, 20000, true);
    assert_int_equal(w->a->different, 3000);
    assert_int_equal(w->a->count, 3000);
    assert_int_equal(salvo_consumer_commit(c, 5000), 0);
    assert_int_equal(pending(w, "g"), 0);
    consumer_end(c);
    end(w);
}

static void test_flushed(void **state)
{
    (void)state;
    world *w = begin(NULL, "60000");
    add(w, "s", 0, 10);
    salvo_consumer *c = consumer_new(w->config, "g", "s");
    take_until(c, w->a, 10, 5000, false);
    freeReplyObject(redis_do(&w->server, "FLUSHALL"));
    add(w, "s", 10, 10); /* before the consumer can see that the group is gone */
    take_until(c, w->a, 20, 10000, true);
    assert_int_equal(w->a->different, 20);
    assert_int_equal(consumer_stats(c).lost, 10);
    redis_ask(&w->server, "DEL s");
    take_for(c, w->a, 700, true);
    add(w, "s", 20, 10);
    take_until(c, w->a, 30, 10000, true);
    assert_int_equal(w->a->different, 30);
    redis_ask(&w->server, "DEL s");
    redis_ask(&w->server, "LPUSH s x");
    uint64_t until = consumer_now_ms() + 5000;
    int err = 0;
    while (err >= 0 && consumer_now_ms() < until)
        err = take_some(c, w->a, 50, true);
    assert_true(err < 0);
    assert_non_null(strstr(salvo_last_error(), "WRONGTYPE"));
    assert_non_null(strstr(salvo_last_error(), "'s'"));
    redis_ask(&w->server, "DEL s");
    add(w, "s", 30, 10);
    until = consumer_now_ms() + 5000;
    while (w->a->different < 40 && consumer_now_ms() < until)
        (void)take_some(c, w->a, 50, true);
    assert_int_equal(w->a->different, 40);
    consumer_end(c);
    end(w);
}

static void test_deleted_entries(void **state)
{
    (void)state;
    world *w = begin(NULL, "300");
    add(w, "s", 0, 50);
    child_kill(consumer_child(w->config, "g", "me", "s", 50, 0));
    redis_ask(&w->server, "XTRIM s MAXLEN 10");
    salvo_consumer *c = consumer_open_as(w->config, "g", "me", "s", 0, 0);
    take_until(c, w->a, 10, 5000, true);
    take_for(c, w->a, 500, true);
    assert_int_equal(w->a->count, 10);
    assert_int_equal(pending(w, "g"), 0);
    add(w, "s", 50, 50);
    child_kill(consumer_child(w->config, "g", "other", "s", 1, 0));
    redis_ask(&w->server, "XTRIM s MAXLEN 5");
    take_for(c, w->a, 1500, true); /* claimed from the other */
    assert_int_equal(pending(w, "g"), 0);
    consumer_end(c);
    end(w);
}

/* Entries that other programs wrote, and such that lie about themselves. */
static void test_foreign(void **state)
{
    (void)state;
    world *w = begin(NULL, "60000");
    freeReplyObject(redis_do(&w->server, "XADD s * name Ada age 36"));
    freeReplyObject(redis_do(&w->server, "XADD s * content-encoding zstd value rubbish"));
    freeReplyObject(redis_do(&w->server, "XADD s * null x"));
    freeReplyObject(redis_do(&w->server, "XADD s 99999999999999999-5 value 1"));
    salvo_consumer *c = consumer_new(w->config, "g", "s");
    int got = 0;
    for (int i = 0; i < 100 && got < 4; i++) {
        const salvo_delivered *m;
        size_t count;
        if (salvo_consumer_poll(c, 50, &m, 1, &count))
            continue;
        const salvo_record *r = &m->record;
        if (got == 0) {
            assert_int_equal(r->header_count, 2);
            assert_memory_equal(r->headers[0].name, "name", 4);
            assert_memory_equal(r->headers[1].value, "36", 2);
            assert_null(r->value);
        } else if (got == 1) {
            assert_memory_equal(r->value, "rubbish", 7);
            assert_int_equal(r->header_count, 1);
            assert_memory_equal(r->headers[0].value, "zstd", 4);
        } else if (got == 2) {
            assert_null(r->value);
        } else {
            assert_int_equal(r->offset, -1);
        }
        assert_int_equal(salvo_consumer_ack(c, &m->id, 1), 1);
        got++;
    }
    assert_int_equal(got, 4);
    consumer_end(c);
    assert_int_equal(pending(w, "g"), 0);
    end(w);
}

/* Rights that are missing, at the open and later. */
static void test_rights(void **state)
{
    (void)state;
    world *w = begin(NULL, "60000");
    char url[160];
    const char *topic = "s";
    salvo_consumer *c = NULL;
    salvo_consumer_options options = {.size = sizeof options, .group = "g", .topics = &topic,
                                      .topic_count = 1};
    freeReplyObject(redis_do(&w->server, "ACL SETUSER u on >secret ~* +@all -xgroup"));
    snprintf(url, sizeof url, "redis://u:secret@127.0.0.1:%d", w->server.port);
    consumer_set(w->config, "redis_url", url);
    assert_int_equal(salvo_consumer_open(w->config, NULL, &options, &c), SALVO_ERR_AUTH);
    assert_non_null(strstr(salvo_last_error(), "NOPERM"));
    assert_null(strstr(salvo_last_error(), "secret"));
    freeReplyObject(redis_do(&w->server, "ACL SETUSER u +xgroup"));
    assert_int_equal(salvo_consumer_open(w->config, NULL, &options, &c), 0);
    freeReplyObject(redis_do(&w->server, "ACL SETUSER u -xreadgroup"));
    int err = 0;
    for (uint64_t until = consumer_now_ms() + 5000; err >= 0 && consumer_now_ms() < until;)
        err = take_some(c, w->a, 50, true);
    assert_int_equal(err, SALVO_ERR_AUTH);
    freeReplyObject(redis_do(&w->server, "ACL SETUSER u +xreadgroup"));
    add(w, "s", 0, 10);
    for (uint64_t until = consumer_now_ms() + 5000; w->a->count < 10 && consumer_now_ms() < until;)
        (void)take_some(c, w->a, 50, true);
    assert_int_equal(w->a->count, 10);
    consumer_end(c);
    snprintf(url, sizeof url, "redis://u:wrong@127.0.0.1:%d", w->server.port);
    consumer_set(w->config, "redis_url", url);
    assert_int_equal(salvo_consumer_open(w->config, NULL, &options, &c), SALVO_ERR_AUTH);
    end(w);
}

/* Several streams in one consumer, large values among them, and a lag. */
static void test_streams(void **state)
{
    (void)state;
    world *w = begin(NULL, "60000");
    const char *topics[] = {"s", "t", "u"};
    char *large = malloc(300001);
    memset(large, ' ', 300000);
    large[300000] = '\0';
    add(w, "t", 0, 1000);
    for (int i = 0; i < 60; i++) {
        memcpy(large, "1000", 4);
        freeReplyObject(redisCommand(w->server.admin, "XADD s * value %b", large, (size_t)300000));
    }
    salvo_consumer *c = NULL;
    salvo_consumer_options options = {.size = sizeof options, .group = "g", .topics = topics,
                                      .topic_count = 3, .max_in_hand = 90};
    assert_int_equal(salvo_consumer_open(w->config, NULL, &options, &c), 0);
    salvo_lag lags[3];
    assert_int_equal(salvo_consumer_lag(c, lags, 3, 5000), 3);
    assert_string_equal(lags[1].topic, "t");
    assert_int_equal(lags[1].lag, 1000);
    assert_int_equal(lags[2].lag, 0);
    uint64_t until = consumer_now_ms() + 20000;
    int s = 0, t = 0;
    while (s + t < 1060 && consumer_now_ms() < until) {
        const salvo_delivered *m;
        size_t count;
        if (salvo_consumer_poll(c, 50, &m, 100, &count))
            continue;
        for (size_t i = 0; i < count; i++) {
            bool big = strcmp(m[i].record.topic, "s") == 0;
            assert_int_equal(m[i].record.value_len == 300000, big);
            s += big;
            t += !big;
            assert_int_equal(salvo_consumer_ack(c, &m[i].id, 1), 1);
        }
        assert_true(consumer_stats(c).in_hand <= 90);
    }
    assert_int_equal(s, 60);
    assert_int_equal(t, 1000);
    assert_int_equal(salvo_consumer_commit(c, 5000), 0);
    assert_int_equal(salvo_consumer_lag(c, lags, 3, 5000), 3);
    assert_int_equal(lags[0].lag + lags[1].lag + lags[2].lag, 0);
    consumer_end(c);
    free(large);
    end(w);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_share),
        cmocka_unit_test(test_latest),
        cmocka_unit_test(test_killed),
        cmocka_unit_test(test_killed_often),
        cmocka_unit_test(test_long_handler),
        cmocka_unit_test(test_stalled),
        cmocka_unit_test(test_own_pending_first),
        cmocka_unit_test(test_rewind_and_pause),
        cmocka_unit_test(test_manual_commit),
        cmocka_unit_test(test_connections_cut),
        cmocka_unit_test(test_server_killed),
        cmocka_unit_test(test_flushed),
        cmocka_unit_test(test_deleted_entries),
        cmocka_unit_test(test_foreign),
        cmocka_unit_test(test_rights),
        cmocka_unit_test(test_streams),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
