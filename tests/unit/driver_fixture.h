/* SPDX-License-Identifier: Apache-2.0
 *
 * What tests of drivers share: a handle with a clock that stands still until it is told, and
 * batches built as the engine builds them (batch.c), so that salvo_batch_next() is the real one.
 */
#ifndef SALVO_DRIVER_FIXTURE_H
#define SALVO_DRIVER_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "batch.h"
#include "driver.h"
#include "error.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIXTURE_BATCHES 64u
#define FIXTURE_TOPICS 8u

typedef struct fixture {
    const salvo_driver_ops *ops;
    salvo_config *config;
    salvo_batch_pool pool;
    salvo_driver_env env;
    void *handle;
    uint64_t now_ns;
    salvo_driver_topic plain; /* no wishes */
} fixture;

static inline uint64_t fixture_now(void *clock)
{
    return ((fixture *)clock)->now_ns;
}

static inline void fixture_wake(void *flusher)
{
    (void)flusher;
}

/* A configuration of key, value, ..., NULL. */
static inline salvo_config *fixture_config(const char *const *pairs)
{
    salvo_config *config;
    assert_int_equal(salvo_config_new(&config), 0);
    for (; pairs && *pairs; pairs += 2)
        if (salvo_config_set(config, pairs[0], pairs[1]) != 0)
            fail_msg("%s", salvo_config_error(config));
    return config;
}

static inline void fixture_open_handle(fixture *f)
{
    char error[256] = "";
    assert_int_equal(f->ops->open(&f->env, &f->handle, error, sizeof error), 0);
    assert_int_equal(f->ops->topic(f->handle, 0, "zero", &f->plain), 0);
    assert_int_equal(f->ops->topic(f->handle, 1, "one", &f->plain), 0);
}

static inline void fixture_open(fixture *f, const salvo_driver_ops *ops, const char *const *pairs)
{
    char error[256] = "";
    memset(f, 0, sizeof *f);
    f->ops = ops;
    f->config = fixture_config(pairs);
    f->now_ns = 1000000000;
    f->env = (salvo_driver_env){.config = f->config,
                                .now_ns = fixture_now,
                                .clock = f,
                                .log = salvo_log,
                                .wake = fixture_wake,
                                .flusher_count = 1,
                                .max_topics = FIXTURE_TOPICS,
                                .max_batches = FIXTURE_BATCHES};
    assert_int_equal(salvo_batch_pool_open(&f->pool, 16u << 20, 4u << 20), 0);
    if (ops->open_shared)
        assert_int_equal(ops->open_shared(f->config, &f->env.shared, error, sizeof error), 0);
    fixture_open_handle(f);
}

static inline void fixture_close(fixture *f)
{
    f->ops->close(f->handle);
    if (f->ops->close_shared)
        f->ops->close_shared(f->env.shared);
    salvo_batch_pool_close(&f->pool);
    salvo_config_free(f->config);
}

static inline void fixture_add(fixture *f, salvo_batch *batch, const salvo_driver_message *m)
{
    salvo_record_head head = {
        .value_len = m->value ? (uint32_t)m->value_len : SALVO_NULL_LEN,
        .key_len = m->key ? (uint32_t)m->key_len : SALVO_NULL_LEN,
        .headers_len = m->headers_bytes,
        .partition = batch->driver.partition,
    };
    salvo_record_extra extra = {.timestamp_ms = m->timestamp_ms};
    size_t length = sizeof head + sizeof extra + m->key_len + m->headers_bytes + m->value_len;
    unsigned char *payload = malloc(length), *at = payload;
    assert_non_null(payload);
    at = (unsigned char *)mempcpy(at, &head, sizeof head);
    at = (unsigned char *)mempcpy(at, &extra, sizeof extra);
    at = m->key_len ? (unsigned char *)mempcpy(at, m->key, m->key_len) : at;
    at = m->headers_bytes ? (unsigned char *)mempcpy(at, m->headers, m->headers_bytes) : at;
    if (m->value_len)
        memcpy(at, m->value, m->value_len);
    salvo_batch_item item = {.payload = payload,
                             .length = (uint32_t)length,
                             .flags = SALVO_RECORD_EXTRA,
                             .stamp = 1,
                             .expires_ns = UINT64_MAX,
                             .head = head};
    assert_true(salvo_batch_append(&f->pool, batch, &item, 1u << 20));
    free(payload);
}

/* A batch of `count` values "first", "first + 1", ... as decimal text. */
static inline salvo_batch *fixture_batch(fixture *f, uint32_t topic, int32_t partition,
                                         unsigned first, unsigned count)
{
    salvo_batch *batch = salvo_batch_open(&f->pool, topic, partition);
    assert_non_null(batch);
    for (unsigned i = 0; i < count; i++) {
        char text[16];
        int len = snprintf(text, sizeof text, "%u", first + i);
        fixture_add(f, batch, &(salvo_driver_message){.value = text, .value_len = (size_t)len});
    }
    return batch;
}

static inline int fixture_submit(fixture *f, const salvo_batch *batch, uint64_t token)
{
    return f->ops->submit(f->handle, &batch->driver, token);
}

/* Poll one outcome and expect it whole. */
static inline void fixture_expect(fixture *f, uint64_t token, int32_t status, int64_t offset)
{
    salvo_driver_outcome o;
    assert_int_equal(f->ops->poll(f->handle, &o, 1), 1);
    assert_int_equal(o.token, token);
    assert_int_equal(o.range_count, 1);
    assert_int_equal(o.ranges[0].first, 0);
    assert_int_equal(o.ranges[0].status, status);
    assert_int_equal(o.ranges[0].base_offset, offset);
}

static inline void fixture_expect_nothing(fixture *f)
{
    salvo_driver_outcome o;
    assert_int_equal(f->ops->poll(f->handle, &o, 1), 0);
}

#endif
