/* SPDX-License-Identifier: Apache-2.0
 *
 * What the tests of the Redis driver share: a handle with a server of its own, batches, outcomes,
 * reading back. Include it after cmocka.h. Its functions fail the running test.
 */
#ifndef REDIS_WORLD_H
#define REDIS_WORLD_H

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

static inline void quiet(int level, const char *format, ...)
{
    (void)level, (void)format;
}

static inline uint64_t test_now(void *clock)
{
    (void)clock;
    return salvo_clock_monotonic_ns();
}

static inline void wake(void *flusher)
{
    (void)flusher;
}

static inline void set(world *w, const char *key, const char *value)
{
    if (salvo_config_set(w->config, key, value))
        fail_msg("%s", salvo_config_error(w->config));
}

static inline world *new_world(const char *const *extra)
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

static inline void open_it(world *w)
{
    char error[512] = "";
    if (ops.open(&w->env, &w->handle, error, sizeof error) ||
        ops.require(w->handle, 5000, error, sizeof error))
        fail_msg("open: %s", error);
    assert_int_equal(ops.topic(w->handle, 0, "t0", &w->plain), 0);
    assert_int_equal(ops.topic(w->handle, 1, "t1", &w->plain), 0);
    assert_int_equal(ops.partitions(w->handle, 0), 1);
}

static inline void end_world(world *w)
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
static inline int take_outcomes(world *w, int wait_ms)
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

static inline int try_submit(world *w, uint32_t topic, const salvo_driver_message *m,
                             uint32_t count)
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

static inline uint64_t submit(world *w, uint32_t topic, const salvo_driver_message *m,
                              uint32_t count)
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
static inline void settle(world *w, uint64_t from, int seconds)
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

static inline void assert_all(world *w, uint64_t token, int32_t status)
{
    for (uint32_t r = 0; r < w->range_count[token]; r++)
        assert_int_equal(w->ranges[token][r].status, status);
}

static inline void *reader(world *w, const char *topic, int expected)
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

static inline int next(void *r, salvo_record *record)
{
    char error[512] = "";
    int err = ops.reader_next(r, 20000, record, error, sizeof error);
    if (err && err != SALVO_ERR_END)
        fail_msg("reader_next: %d: %s", err, error);
    return err;
}

static inline salvo_driver_message text_message(const char *key, const char *value)
{
    return (salvo_driver_message){.key = key, .key_len = key ? strlen(key) : 0, .value = value,
                                  .value_len = value ? strlen(value) : 0};
}

static inline void assert_bytes(const void *got, size_t got_len, const void *sent, size_t sent_len)
{
    assert_int_equal(got == NULL, sent == NULL);
    assert_int_equal(got_len, sent_len);
    if (sent_len)
        assert_memory_equal(got, sent, sent_len);
}

static inline uint32_t pack_header(char *at, const char *name, const char *value)
{
    uint32_t lengths[2] = {(uint32_t)strlen(name), value ? (uint32_t)strlen(value) : UINT32_MAX};
    memcpy(at, lengths, sizeof lengths);
    memcpy(at + 8, name, lengths[0]);
    if (value)
        memcpy(at + 8 + lengths[0], value, lengths[1]);
    return 8 + lengths[0] + (value ? lengths[1] : 0);
}

static inline void kill_connections(world *w)
{
    redis_ask(&w->server, "CLIENT KILL TYPE normal SKIPME yes");
}

#endif
