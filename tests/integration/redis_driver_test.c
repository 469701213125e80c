/* SPDX-License-Identifier: Apache-2.0
 *
 * The Redis driver alone against real servers of the test's own, through its table of operations:
 * what arrives is what was submitted, what is refused is told apart, and reading back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "redis_world.h"

/* Noise of `size` bytes that lives as long as the program. */
static char *noise(size_t size)
{
    static char *bytes;
    enum { MOST = 4 << 20 };
    uint32_t x = 1;
    if (!bytes) {
        bytes = malloc(MOST);
        for (size_t i = 0; i < MOST; i++)
            bytes[i] = (char)((x = x * 1664525u + 1013904223u) >> 24);
    }
    assert_true(size <= MOST);
    return bytes;
}

static void all_kinds_arrive(bool once)
{
    char headers[128];
    world *w = new_world(NULL);
    set(w, "redis_exactly_once", once ? "true" : "false");
    open_it(w);
    uint32_t used = pack_header(headers, "trace", "abc");
    used += pack_header(headers + used, "nothing", NULL);
    used += pack_header(headers + used, "empty", "");
    salvo_driver_message m[9] = {
        text_message("k", "v"), text_message(NULL, "no key"), text_message("", ""),
        text_message("tomb", NULL), text_message(NULL, NULL), text_message("k", "with"),
        {.value = "bin\0\r\n$5\r\n\xff", .value_len = 12},
        {.value = noise(1000000), .value_len = 1000000 - 3, .key = "big", .key_len = 3},
        {.value = noise(16384), .value_len = 16384}};
    m[5].headers = headers;
    m[5].headers_bytes = used;
    m[5].timestamp_ms = 1700000000123;
    uint64_t token = submit(w, 0, m, 9);
    settle(w, token, 20);
    assert_all(w, token, 0);
    char text[96];
    ops.state(w->handle, text, sizeof text);
    assert_int_equal(strncmp(text, "up", 2), 0);
    int64_t offsets[9];
    for (uint32_t r = 0; r < w->range_count[token]; r++)
        for (uint32_t i = 0; i < w->ranges[token][r].count; i++)
            offsets[w->ranges[token][r].first + i] = w->ranges[token][r].base_offset + i;
    void *r = reader(w, "t0", 0);
    salvo_record got;
    for (int i = 0; i < 9; i++) {
        assert_int_equal(next(r, &got), 0);
        assert_int_equal(got.partition, 0);
        assert_int_equal(got.offset, offsets[i]);
        assert_bytes(got.key, got.key_len, m[i].key, m[i].key_len);
        assert_bytes(got.value, got.value_len, m[i].value, m[i].value_len);
        assert_int_equal(got.header_count, i == 5 ? 3 : 0);
        assert_true(i == 5 ? got.timestamp_ms == 1700000000123
                           : got.timestamp_ms > 1700000000123);
        if (i != 5)
            continue;
        assert_string_equal(got.headers[0].name, "trace");
        assert_bytes(got.headers[0].value, got.headers[0].value_len, "abc", 3);
        assert_null(got.headers[1].value);
        assert_non_null(got.headers[2].value);
        assert_int_equal(got.headers[2].value_len, 0);
    }
    assert_int_equal(next(r, &got), SALVO_ERR_END);
    ops.reader_close(r);
    end_world(w);
}

static void all_kinds_arrive_plainly(void **state)
{
    (void)state;
    all_kinds_arrive(false);
}

static void all_kinds_arrive_by_the_function(void **state)
{
    (void)state;
    all_kinds_arrive(true);
}

/* What any client sees: the fields of the documentation. */
static void other_clients_can_read_it(void **state)
{
    (void)state;
    char headers[64];
    world *w = new_world(NULL);
    open_it(w);
    salvo_driver_message m[2] = {text_message("k", "v"), text_message(NULL, NULL)};
    m[0].headers = headers;
    m[0].headers_bytes = pack_header(headers, "a", "1");
    m[0].headers_bytes += pack_header(headers + m[0].headers_bytes, "b", NULL);
    m[0].timestamp_ms = 1700000000000;
    submit(w, 0, m, 2);
    settle(w, 0, 10);
    redisReply *reply = redis_do(&w->server, "XRANGE t0 - +");
    assert_int_equal(reply->elements, 2);
    static const char *const fields[] = {"key", "k", "timestamp", "1700000000000", "h:a", "1",
                                         "n:b", "", "value", "v"};
    const redisReply *entry = reply->element[0]->element[1];
    assert_int_equal(entry->elements, 10);
    for (size_t i = 0; i < 10; i++)
        assert_string_equal(entry->element[i]->str, fields[i]);
    entry = reply->element[1]->element[1];
    assert_int_equal(entry->elements, 2);
    assert_string_equal(entry->element[0]->str, "null");
    freeReplyObject(reply);
    /* and the other way round: fields that are not ours are headers */
    freeReplyObject(redis_do(&w->server, "XADD theirs 5-7 data hello"));
    void *r = reader(w, "theirs", 0);
    salvo_record got;
    assert_int_equal(next(r, &got), 0);
    assert_null(got.value);
    assert_int_equal(got.header_count, 1);
    assert_string_equal(got.headers[0].name, "data");
    assert_bytes(got.headers[0].value, got.headers[0].value_len, "hello", 5);
    assert_int_equal(got.offset, 5 << 20 | 7);
    ops.reader_close(r);
    reader(w, "nowhere", SALVO_ERR_UNKNOWN_TOPIC);
    end_world(w);
}

static void every_compression_arrives(void **state)
{
    (void)state;
    static const char *const kinds[] = {"gzip", "snappy", "lz4", "zstd"};
    enum { COUNT = 200, LEAST = 100 };
    static char values[COUNT][1000];
    static salvo_driver_message m[COUNT];
    world *w = new_world(NULL);
    open_it(w);
    for (int i = 0; i < COUNT; i++) {
        memset(values[i], 'x', sizeof values[i]);
        sprintf(values[i], "%d", i);
        m[i] = (salvo_driver_message){.value = values[i],
                                      .value_len = i % 2 ? sizeof values[i] : LEAST - 1};
    }
    for (uint32_t kind = 0; kind < 4; kind++) {
        salvo_driver_topic options = {.codec = salvo_codec_find(kinds[kind]),
                                      .compress_least_bytes = LEAST};
        assert_int_equal(ops.topic(w->handle, 4 + kind, kinds[kind], &options), 0);
        submit(w, 4 + kind, m, COUNT);
        settle(w, 0, 10);
        assert_all(w, w->next_token - 1, 0);
        void *r = reader(w, kinds[kind], 0);
        salvo_record got;
        for (int i = 0; i < COUNT; i++) {
            assert_int_equal(next(r, &got), 0);
            assert_bytes(got.value, got.value_len, m[i].value, m[i].value_len);
            assert_int_equal(got.header_count, 0);
        }
        ops.reader_close(r);
        char command[64];
        snprintf(command, sizeof command, "XRANGE %s - + COUNT 2", kinds[kind]);
        redisReply *reply = redis_do(&w->server, command);
        assert_int_equal(reply->element[0]->element[1]->elements, 2);
        assert_int_equal(reply->element[1]->element[1]->elements, 4);
        assert_string_equal(reply->element[1]->element[1]->element[0]->str, "content-encoding");
        assert_true(reply->element[1]->element[1]->element[3]->len < 500);
        freeReplyObject(reply);
    }
    end_world(w);
}

static void too_large_is_alone(void **state)
{
    (void)state;
    static const char *const extra[] = {"--proto-max-bulk-len", "1048576", NULL};
    for (int once = 0; once < 2; once++) {
        world *w = new_world(extra);
        set(w, "max_message_bytes", "3000000");
        set(w, "redis_exactly_once", once ? "true" : "false");
        open_it(w);
        salvo_driver_message m[5] = {
            text_message(NULL, "a"), {.value = noise(3000001), .value_len = 3000001}, /* ours */
            text_message(NULL, "b"), {.value = noise(2000000), .value_len = 2000000}, /* theirs */
            text_message(NULL, "c")};
        submit(w, 0, m, 5);
        settle(w, 0, 20);
        int large = 0, good = 0, again = 0;
        for (uint32_t r = 0; r < w->range_count[0]; r++) {
            int32_t status = w->ranges[0][r].status;
            large += status == SALVO_ERR_TOO_LARGE ? (int)w->ranges[0][r].count : 0;
            good += status == 0 ? (int)w->ranges[0][r].count : 0;
            again += status == SALVO_ERR_TRANSIENT ? (int)w->ranges[0][r].count : 0;
        }
        assert_int_equal(large, 2);
        assert_int_equal(good + again, 3);
        assert_true(once || again == 0);
        assert_int_equal(redis_ask(&w->server, "XLEN t0"), good);
        end_world(w);
    }
}

static void refusals_are_told_apart(void **state)
{
    (void)state;
    for (int once = 0; once < 2; once++) {
        world *w = new_world(NULL);
        set(w, "redis_exactly_once", once ? "true" : "false");
        open_it(w);
        salvo_driver_topic strict = {.redis_nomkstream = true};
        assert_int_equal(ops.topic(w->handle, 2, "strict", &strict), 0);
        freeReplyObject(redis_do(&w->server, "SET t1 text"));
        salvo_driver_message m[2] = {text_message(NULL, "a"), text_message(NULL, "b")};
        uint64_t nobody = submit(w, 2, m, 2);
        uint64_t wrong = submit(w, 1, m, 1);
        uint64_t good = submit(w, 0, m, 2);
        settle(w, 0, 10);
        assert_all(w, nobody, SALVO_ERR_UNKNOWN_TOPIC);
        assert_all(w, wrong, SALVO_ERR_REJECTED);
        assert_all(w, good, 0);
        freeReplyObject(redis_do(&w->server, "XADD strict * value first"));
        freeReplyObject(redis_do(&w->server, "DEL t1"));
        uint64_t now = submit(w, 2, m, 2);
        uint64_t too = submit(w, 1, m, 2);
        settle(w, 0, 10);
        assert_all(w, now, 0);
        assert_all(w, too, 0);
        assert_int_equal(redis_ask(&w->server, "XLEN strict"), 3);
        assert_int_equal(redis_ask(&w->server, "XLEN t1"), 2);
        end_world(w);
    }
}

static void streams_are_trimmed(void **state)
{
    (void)state;
    enum { COUNT = 2000 };
    static salvo_driver_message m[COUNT];
    for (int once = 0; once < 2; once++) {
        world *w = new_world(NULL);
        set(w, "redis_exactly_once", once ? "true" : "false");
        open_it(w);
        salvo_driver_topic options = {.redis_maxlen = 300};
        assert_int_equal(ops.topic(w->handle, 3, "short", &options), 0);
        for (int i = 0; i < COUNT; i++)
            m[i] = text_message(NULL, "value");
        submit(w, 3, m, COUNT);
        settle(w, 0, 10);
        assert_all(w, 0, 0);
        assert_in_range(redis_ask(&w->server, "XLEN short"), 300, 500);
        end_world(w);
    }
}

static void require_says_why(world *w, const char *url, int expected, const char *part)
{
    char error[512] = "";
    salvo_driver_env env = w->env;
    void *handle;
    set(w, "redis_url", url);
    assert_int_equal(ops.open(&env, &handle, error, sizeof error), 0);
    assert_int_equal(ops.require(handle, 1500, error, sizeof error), expected);
    if (!strstr(error, part) || strstr(error, "s3cret") || strstr(error, "wrong-one"))
        fail_msg("%s: %s", url, error);
    assert_int_equal(ops.topic(handle, 0, "t0", &w->plain), 0);
    assert_int_equal(ops.partitions(handle, 0), expected == 0                       ? 1
                                                : expected == SALVO_ERR_UNREACHABLE ? 0
                                                                                    : expected);
    ops.close(handle);
}

static void opening_says_what_is_wrong(void **state)
{
    (void)state;
    static const char *const extra[] = {"--requirepass", "s3cret", NULL};
    world *w = new_world(extra);
    char url[128];
    snprintf(url, sizeof url, "redis://:s3cret@127.0.0.1:%d/3", w->server.port);
    require_says_why(w, url, 0, "");
    snprintf(url, sizeof url, "redis://:wrong-one@127.0.0.1:%d", w->server.port);
    require_says_why(w, url, SALVO_ERR_AUTH, "WRONGPASS");
    snprintf(url, sizeof url, "redis://someone:wrong-one@127.0.0.1:%d", w->server.port);
    require_says_why(w, url, SALVO_ERR_AUTH, "WRONGPASS");
    snprintf(url, sizeof url, "redis://127.0.0.1:%d", w->server.port);
    require_says_why(w, url, SALVO_ERR_AUTH, "NOAUTH");
    snprintf(url, sizeof url, "redis://:s3cret@127.0.0.1:%d/99", w->server.port);
    require_says_why(w, url, SALVO_ERR_REJECTED, "out of range");
    snprintf(url, sizeof url, "redis://127.0.0.1:%d", redis_free_port());
    require_says_why(w, url, SALVO_ERR_UNREACHABLE, "refused");
    require_says_why(w, "redis://no-such-host.invalid:6379", SALVO_ERR_UNREACHABLE,
                     "no-such-host.invalid");
    char error[512] = "";
    set(w, "redis_url", "http://:s3cret@127.0.0.1/");
    assert_int_equal(ops.open(&w->env, &w->handle, error, sizeof error), SALVO_ERR_CONFIG);
    assert_non_null(strstr(error, "rediss"));
    assert_null(strstr(error, "s3cret"));
    w->handle = NULL;
    end_world(w);
}

static void a_reader_follows_and_reconnects(void **state)
{
    (void)state;
    world *w = new_world(NULL);
    char error[512] = "";
    void *r;
    salvo_record got;
    salvo_reader_options options = {.size = sizeof options, .from_end = 1};
    set(w, "reconnect_backoff_ms", "1");
    freeReplyObject(redis_do(&w->server, "XADD f * value old"));
    assert_int_equal(ops.reader_open(w->config, NULL, "f", &options, &r, error, sizeof error), 0);
    assert_int_equal(ops.reader_next(r, 50, &got, error, sizeof error), SALVO_ERR_TIMEOUT);
    for (int i = 0; i < 5; i++) {
        char command[64], text[8];
        snprintf(text, sizeof text, "n%d", i);
        snprintf(command, sizeof command, "XADD f * value %s", text);
        freeReplyObject(redis_do(&w->server, command));
        assert_int_equal(ops.reader_next(r, 5000, &got, error, sizeof error), 0);
        assert_bytes(got.value, got.value_len, text, 2);
        kill_connections(w);
    }
    assert_int_equal(ops.reader_next(r, 100, &got, error, sizeof error), SALVO_ERR_TIMEOUT);
    ops.reader_close(r);
    end_world(w);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_kinds_arrive_plainly),
        cmocka_unit_test(all_kinds_arrive_by_the_function),
        cmocka_unit_test(other_clients_can_read_it),
        cmocka_unit_test(every_compression_arrives),
        cmocka_unit_test(too_large_is_alone),
        cmocka_unit_test(refusals_are_told_apart),
        cmocka_unit_test(streams_are_trimmed),
        cmocka_unit_test(opening_says_what_is_wrong),
        cmocka_unit_test(a_reader_follows_and_reconnects),
    };
    return cmocka_run_group_tests_name("redis driver", tests, NULL, NULL);
}
