/* SPDX-License-Identifier: Apache-2.0
 *
 * The Redis driver alone against real servers of the test's own, through its table of operations:
 * what arrives is what was submitted, each token comes back once with a true outcome, through
 * refusals, lost connections and killed servers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "clock.h"
#include "compress.h"
#include "config_internal.h"
#include "driver.h"
#include "redis_server.h"
#include <poll.h>

#define TOKENS 4096
#define SECONDS UINT64_C(1000000000)
#define ops salvo_driver_redis

/* The engine's iterator, here over an array: walk is the batch's first message. */
bool salvo_batch_next(const salvo_driver_batch *batch, salvo_driver_cursor *cursor,
                      salvo_driver_message *message)
{
    if (cursor->index >= batch->count)
        return false;
    *message = ((const salvo_driver_message *)batch->walk)[cursor->index++];
    return true;
}

typedef struct world {
    redis_server server;
    salvo_config *config;
    salvo_driver_env env;
    salvo_driver_topic plain;
    void *handle;
    uint64_t next_token;
    int came_back[TOKENS]; /* how often */
    salvo_driver_range *ranges[TOKENS];
    uint32_t range_count[TOKENS];
    uint64_t deadline_ns; /* of what is submitted; 0: none */
} world;

static void quiet(int level, const char *format, ...)
{
    (void)level, (void)format;
}

static uint64_t test_now(void *clock)
{
    (void)clock;
    return salvo_clock_monotonic_ns();
}

static void wake(void *flusher)
{
    (void)flusher;
}

static void set(world *w, const char *key, const char *value)
{
    if (salvo_config_set(w->config, key, value))
        fail_msg("%s", salvo_config_error(w->config));
}

static world *new_world(const char *const *extra)
{
    world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    w->server = redis_begin(extra);
    assert_int_equal(salvo_config_new(&w->config), 0);
    set(w, "redis_url", w->server.url);
    w->env = (salvo_driver_env){.config = w->config, .now_ns = test_now, .log = quiet,
                                .wake = wake, .flusher_count = 1, .queue_bytes = 16u << 20,
                                .max_topics = 16, .max_batches = 512};
    return w;
}

static void open_it(world *w)
{
    char error[512] = "";
    if (ops.open(&w->env, &w->handle, error, sizeof error) ||
        ops.require(w->handle, 5000, error, sizeof error))
        fail_msg("open: %s", error);
    assert_int_equal(ops.topic(w->handle, 0, "t0", &w->plain), 0);
    assert_int_equal(ops.topic(w->handle, 1, "t1", &w->plain), 0);
    assert_int_equal(ops.partitions(w->handle, 0), 1);
}

static void end_world(world *w)
{
    if (w->handle)
        ops.close(w->handle);
    for (int i = 0; i < TOKENS; i++)
        free(w->ranges[i]);
    salvo_config_free(w->config);
    redis_end(&w->server);
    free(w);
}

/* What flushers do: poll, then sleep until a descriptor is readable. */
static int take_outcomes(world *w, int wait_ms)
{
    salvo_driver_outcome outcomes[8];
    int n = ops.poll(w->handle, outcomes, 8);
    assert_true(n >= 0);
    for (int i = 0; i < n; i++) {
        uint64_t token = outcomes[i].token;
        size_t bytes = outcomes[i].range_count * sizeof *outcomes[i].ranges;
        assert_true(token < w->next_token);
        w->came_back[token]++;
        w->range_count[token] = outcomes[i].range_count;
        w->ranges[token] = malloc(bytes);
        memcpy(w->ranges[token], outcomes[i].ranges, bytes);
        uint32_t next = 0;
        for (uint32_t r = 0; r < outcomes[i].range_count; r++) {
            assert_int_equal(outcomes[i].ranges[r].first, next); /* ascending, no gaps */
            next += outcomes[i].ranges[r].count;
        }
    }
    if (!n && wait_ms) {
        struct pollfd p[4];
        int fds[4], count = ops.descriptors(w->handle, fds, 4);
        for (int i = 0; i < count; i++)
            p[i] = (struct pollfd){.fd = fds[i], .events = POLLIN};
        poll(p, (nfds_t)count, wait_ms);
    }
    return n;
}

static int try_submit(world *w, uint32_t topic, const salvo_driver_message *m, uint32_t count)
{
    salvo_driver_batch batch = {.topic = topic, .count = count, .walk = m,
                                .deadline_ns = w->deadline_ns};
    for (uint32_t i = 0; i < count; i++)
        batch.bytes += m[i].key_len + m[i].value_len + m[i].headers_bytes;
    assert_true(w->next_token < TOKENS);
    int err = ops.submit(w->handle, &batch, w->next_token);
    w->next_token += err == 0;
    return err;
}

static uint64_t submit(world *w, uint32_t topic, const salvo_driver_message *m, uint32_t count)
{
    int err;
    uint64_t end = salvo_clock_monotonic_ns() + 20 * SECONDS;
    while ((err = try_submit(w, topic, m, count)) == SALVO_ERR_TRANSIENT &&
           salvo_clock_monotonic_ns() < end)
        take_outcomes(w, 5);
    assert_int_equal(err, 0);
    return w->next_token - 1;
}

/* Wait until all tokens from `from` on are back; each must come exactly once. */
static void settle(world *w, uint64_t from, int seconds)
{
    uint64_t end = salvo_clock_monotonic_ns() + (uint64_t)seconds * SECONDS;
    uint64_t first = from;
    while (first < w->next_token && salvo_clock_monotonic_ns() < end) {
        take_outcomes(w, 5);
        while (first < w->next_token && w->came_back[first])
            first++;
    }
    for (uint64_t t = from; t < w->next_token; t++)
        assert_int_equal(w->came_back[t], 1);
}

static void assert_all(world *w, uint64_t token, int32_t status)
{
    for (uint32_t r = 0; r < w->range_count[token]; r++)
        assert_int_equal(w->ranges[token][r].status, status);
}

static void *reader(world *w, const char *topic, int expected)
{
    char error[512] = "";
    void *r = NULL;
    salvo_reader_options options = {.size = sizeof options, .stop_at_end = 1,
                                    .open_timeout_ms = 5000};
    int err = ops.reader_open(w->config, NULL, topic, &options, &r, error, sizeof error);
    if (err != expected)
        fail_msg("reader_open: %d: %s", err, error);
    if (err)
        assert_non_null(strstr(error, topic));
    return r;
}

static int next(void *r, salvo_record *record)
{
    char error[512] = "";
    int err = ops.reader_next(r, 20000, record, error, sizeof error);
    if (err && err != SALVO_ERR_END)
        fail_msg("reader_next: %d: %s", err, error);
    return err;
}

static salvo_driver_message text_message(const char *key, const char *value)
{
    return (salvo_driver_message){.key = key, .key_len = key ? strlen(key) : 0, .value = value,
                                  .value_len = value ? strlen(value) : 0};
}

static void assert_bytes(const void *got, size_t got_len, const void *sent, size_t sent_len)
{
    assert_int_equal(got == NULL, sent == NULL);
    assert_int_equal(got_len, sent_len);
    if (sent_len)
        assert_memory_equal(got, sent, sent_len);
}

static uint32_t pack_header(char *at, const char *name, const char *value)
{
    uint32_t lengths[2] = {(uint32_t)strlen(name), value ? (uint32_t)strlen(value) : UINT32_MAX};
    memcpy(at, lengths, sizeof lengths);
    memcpy(at + 8, name, lengths[0]);
    if (value)
        memcpy(at + 8 + lengths[0], value, lengths[1]);
    return 8 + lengths[0] + (value ? lengths[1] : 0);
}

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

/* Values of decimal counters, `from` up to `to`, that live until the program ends. */
static salvo_driver_message *counters(uint32_t from, uint32_t to)
{
    salvo_driver_message *m = calloc(to - from, sizeof *m);
    for (uint32_t i = from; i < to; i++) {
        char *text = malloc(12);
        m[i - from] = (salvo_driver_message){.value = text,
                                             .value_len = (size_t)sprintf(text, "%u", i)};
    }
    return m;
}

static void free_counters(salvo_driver_message *m, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        free((void *)(uintptr_t)m[i].value);
    free(m);
}

typedef struct tally {
    uint32_t lost, twice, disorder, total;
} tally;

static tally read_counters(world *w, const char *topic, uint32_t count)
{
    tally t = {0};
    uint8_t *seen = calloc(count, 1);
    void *r = reader(w, topic, 0);
    salvo_record got;
    int64_t last = -1;
    while (next(r, &got) == 0) {
        char text[16] = "";
        memcpy(text, got.value, got.value_len < 15 ? got.value_len : 15);
        long n = atol(text);
        assert_in_range(n, 0, count - 1);
        t.twice += seen[n]++ > 0;
        t.disorder += n <= last;
        last = n;
        t.total++;
    }
    ops.reader_close(r);
    for (uint32_t i = 0; i < count; i++)
        t.lost += !seen[i];
    free(seen);
    return t;
}

static void kill_connections(world *w)
{
    redis_ask(&w->server, "CLIENT KILL TYPE normal SKIPME yes");
}

/* Batches as the engine would: what comes back TRANSIENT is submitted again first. */
static tally stream_of(world *w, uint32_t batches, uint32_t each, void (*trouble)(world *w),
                       uint32_t every)
{
    salvo_driver_message *m = counters(0, batches * each);
    for (uint32_t b = 0; b < batches; b++) {
        submit(w, 0, m + b * each, each);
        if (trouble && b % every == every - 1)
            trouble(w);
        take_outcomes(w, 0);
    }
    settle(w, 0, 60);
    for (uint64_t t = 0; t < w->next_token; t++)
        assert_all(w, t, 0);
    free_counters(m, batches * each);
    return read_counters(w, "t0", batches * each);
}

static void killed_connections_lose_nothing(void **state)
{
    (void)state;
    world *w = new_world(NULL);
    set(w, "reconnect_backoff_ms", "1");
    open_it(w);
    tally t = stream_of(w, 400, 250, kill_connections, 20);
    assert_int_equal(t.lost, 0);
    char text[96];
    ops.state(w->handle, text, sizeof text);
    printf("           plain: %u stored twice; %s\n", t.twice, text);
    end_world(w);
}

static void exactly_once_survives_killed_connections(void **state)
{
    (void)state;
    world *w = new_world(NULL);
    set(w, "reconnect_backoff_ms", "1");
    set(w, "redis_exactly_once", "true");
    open_it(w);
    assert_true(ops.capabilities(w->config) & SALVO_CAP_ORDERED_RETRY);
    tally t = stream_of(w, 400, 250, kill_connections, 10);
    assert_int_equal(t.lost, 0);
    assert_int_equal(t.twice, 0);
    assert_int_equal(t.disorder, 0);
    end_world(w);
}

static void kill_and_restart(world *w)
{
    redis_kill(&w->server, SIGKILL);
    take_outcomes(w, 50);
    redis_run(&w->server);
}

static void a_killed_server_loses_nothing(void **state)
{
    (void)state;
    static const char *const extra[] = {"--appendonly", "yes", "--appendfsync", "always", NULL};
    for (int once = 0; once < 2; once++) {
        world *w = new_world(extra);
        set(w, "reconnect_backoff_ms", "5");
        set(w, "redis_exactly_once", once ? "true" : "false");
        open_it(w);
        tally t = stream_of(w, 200, 200, kill_and_restart, 50);
        assert_int_equal(t.lost, 0);
        if (once) {
            assert_int_equal(t.twice, 0);
            assert_int_equal(t.disorder, 0);
        }
        end_world(w);
    }
}

static void out_of_memory_is_transient(void **state)
{
    (void)state;
    for (int once = 0; once < 2; once++) {
        world *w = new_world(NULL);
        set(w, "redis_exactly_once", once ? "true" : "false");
        open_it(w);
        salvo_driver_message m[3] = {text_message(NULL, "0"), text_message(NULL, "1"),
                                     text_message(NULL, "2")};
        submit(w, 0, m, 1);
        settle(w, 0, 10);
        freeReplyObject(redis_do(&w->server, "CONFIG SET maxmemory 1"));
        uint64_t refused = submit(w, 0, m + 1, 2);
        settle(w, 0, 10);
        assert_all(w, refused, SALVO_ERR_TRANSIENT);
        freeReplyObject(redis_do(&w->server, "CONFIG SET maxmemory 0"));
        uint64_t taken = submit(w, 0, m + 1, 2);
        settle(w, 0, 10);
        assert_all(w, taken, 0);
        tally t = read_counters(w, "t0", 3);
        assert_int_equal(t.lost + t.twice + t.disorder, 0);
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

static void deadlines_hold_while_the_server_is_stopped(void **state)
{
    (void)state;
    world *w = new_world(NULL);
    set(w, "redis_window", "10");
    open_it(w);
    salvo_driver_message *m = counters(0, 40);
    kill(w->server.pid, SIGSTOP);
    w->deadline_ns = salvo_clock_monotonic_ns() + SECONDS / 2;
    uint64_t first = submit(w, 0, m, 20), second = submit(w, 0, m + 20, 20);
    settle(w, 0, 10);
    /* ten went out and may be there; the rest never left and goes back, to expire in the engine */
    assert_int_equal(w->range_count[first], 2);
    assert_int_equal(w->ranges[first][0].count, 10);
    assert_int_equal(w->ranges[first][0].status, SALVO_ERR_MAYBE);
    assert_int_equal(w->ranges[first][1].status, SALVO_ERR_TRANSIENT);
    assert_all(w, second, SALVO_ERR_TRANSIENT);
    kill(w->server.pid, SIGCONT);
    w->deadline_ns = 0;
    uint64_t again = submit(w, 0, m + 20, 20);
    settle(w, 0, 10);
    assert_all(w, again, 0);
    free_counters(m, 40);
    end_world(w);
}

static void purge_tells_maybe_from_dropped(void **state)
{
    (void)state;
    world *w = new_world(NULL);
    set(w, "redis_window", "10");
    open_it(w);
    salvo_driver_message *m = counters(0, 20);
    kill(w->server.pid, SIGSTOP);
    uint64_t token = submit(w, 0, m, 20), behind = submit(w, 1, m, 5);
    for (int i = 0; i < 10; i++)
        take_outcomes(w, 5);
    ops.purge(w->handle, 100);
    settle(w, 0, 1);
    assert_int_equal(w->range_count[token], 2);
    assert_int_equal(w->ranges[token][0].status, SALVO_ERR_MAYBE);
    assert_int_equal(w->ranges[token][0].count, 10);
    assert_int_equal(w->ranges[token][1].status, SALVO_ERR_DROPPED);
    assert_all(w, behind, SALVO_ERR_DROPPED);
    kill(w->server.pid, SIGCONT);
    free_counters(m, 20);
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
        cmocka_unit_test(killed_connections_lose_nothing),
        cmocka_unit_test(exactly_once_survives_killed_connections),
        cmocka_unit_test(a_killed_server_loses_nothing),
        cmocka_unit_test(out_of_memory_is_transient),
        cmocka_unit_test(opening_says_what_is_wrong),
        cmocka_unit_test(deadlines_hold_while_the_server_is_stopped),
        cmocka_unit_test(purge_tells_maybe_from_dropped),
        cmocka_unit_test(a_reader_follows_and_reconnects),
    };
    return cmocka_run_group_tests_name("redis driver", tests, NULL, NULL);
}
