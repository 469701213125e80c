/* SPDX-License-Identifier: Apache-2.0
 *
 * The flusher's part: batches go to the driver as its credit allows, outcomes come back and are
 * checked against driver.h, until the input has ended; then what is left is given up.
 */
#include "wire.h"

#include "batch.h"

#include <salvo/err.h>
#include <stdarg.h>

enum { BATCHES = 8, MESSAGES = 3, ROUNDS = 1000, SUBMITS = 64 };

typedef struct run {
    const salvo_driver_ops *ops;
    salvo_driver_env env;
    salvo_driver_topic topic;
    salvo_batch_pool pool;
    void *handle;
    salvo_batch *out[BATCHES]; /* by token - 1; NULL: not out */
    unsigned submits;
} run;

static void wake(void *flusher)
{
    (void)flusher;
}

/* What the peer says itself is no secret of ours. */
static bool shows_password(const char *text)
{
    return strstr(text, "hidden") != NULL && !salvo_wire_said("hidden");
}

static void __attribute__((format(printf, 2, 3))) write_log(int level, const char *format, ...)
{
    char text[2048];
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    (void)level;
    fuzz_check(n >= 0 && n < 1024, "a log line is bounded");
    fuzz_check(!shows_password(text), "no log line shows the password");
}

static void take_log(void *context, int level, const char *text)
{
    (void)context;
    write_log(level, "%s", text);
}

/* A value, a key and packed headers: {1, 1} "n" "v". */
static void add(run *r, salvo_batch *batch, uint32_t i)
{
    static const uint32_t lengths[2] = {1, 1};
    unsigned char payload[96 + MESSAGES];
    salvo_record_head head = {.value_len = 16 + i, .key_len = i == 0 ? SALVO_NULL_LEN : 3,
                              .headers_len = i == 1 ? sizeof lengths + 2 : 0,
                              .partition = 0};
    unsigned char *at = mempcpy(payload, &head, sizeof head);
    if (i != 0)
        at = mempcpy(at, "key", 3);
    if (i == 1) {
        at = mempcpy(at, lengths, sizeof lengths);
        at = mempcpy(at, "nv", 2);
    }
    memset(at, 'a' + (int)i, 16 + i);
    at += 16 + i;
    salvo_batch_item item = {.payload = payload, .length = (uint32_t)(at - payload), .stamp = 1,
                             .expires_ns = UINT64_MAX, .head = head};
    fuzz_check(salvo_batch_append(&r->pool, batch, &item, 4096), "room for a batch");
}

static void submit(run *r)
{
    salvo_driver_credit credit = {0};
    r->ops->credit(r->handle, &credit);
    for (uint64_t i = 0; i < BATCHES && r->submits < SUBMITS; i++) {
        uint32_t topic = (uint32_t)(i & 1);
        int partitions = r->ops->partitions(r->handle, topic);
        if (r->out[i] || credit.batches == 0 || credit.messages < MESSAGES || partitions <= 0)
            continue;
        salvo_batch *batch = salvo_batch_open(&r->pool, topic, 0);
        fuzz_check(batch != NULL, "a batch");
        for (uint32_t m = 0; m < MESSAGES; m++)
            add(r, batch, m);
        batch->driver.deadline_ns = salvo_wire_now_ns(NULL) + 5000000000u;
        r->submits++;
        credit.batches--;
        credit.messages -= MESSAGES;
        if (r->ops->submit(r->handle, &batch->driver, i + 1) == 0)
            r->out[i] = batch;
        else
            salvo_batch_free(&r->pool, batch);
    }
}

static void check_outcome(run *r, const salvo_driver_outcome *o)
{
    uint32_t next = 0;
    fuzz_check(o->token >= 1 && o->token <= BATCHES && r->out[o->token - 1],
               "a token that is out comes back, once");
    for (uint32_t i = 0; i < o->range_count; i++) {
        const salvo_driver_range *range = &o->ranges[i];
        fuzz_check(range->first == next && range->count > 0, "ranges ascend without gaps");
        fuzz_check(range->status <= 0 && range->status >= SALVO_ERR_END, "a status is known");
        next += range->count;
    }
    fuzz_check(next == MESSAGES, "ranges cover the batch");
}

/* True: the handle must be re-opened. */
static bool poll(run *r)
{
    salvo_driver_outcome outcomes[4];
    int n = r->ops->poll(r->handle, outcomes, 4);
    fuzz_check(n <= 4 && (n >= 0 || n == SALVO_ERR_FATAL), "poll tells what it may");
    for (int i = 0; i < n; i++)
        check_outcome(r, &outcomes[i]);
    for (int i = 0; i < n; i++) { /* ranges and bytes are the driver's until here */
        salvo_batch_free(&r->pool, r->out[outcomes[i].token - 1]);
        r->out[outcomes[i].token - 1] = NULL;
    }
    return n < 0;
}

static void run_all(run *r)
{
    char state[96];
    bool fatal = false;
    for (int i = 0; i < ROUNDS && salvo_wire_left() > 0 && !fatal; i++) {
        salvo_wire_pass();
        submit(r);
        r->ops->flush(r->handle);
        fatal = poll(r);
        r->ops->state(r->handle, state, sizeof state);
        fuzz_check(memchr(state, 0, sizeof state) && !shows_password(state),
                   "a state for people");
    }
    for (int i = 0; i < 10 && !fatal; i++)
        fatal = poll(r);
    if (!fatal)
        r->ops->purge(r->handle, 10);
    for (int i = 0; i < 2 * BATCHES && !fatal; i++)
        fatal = poll(r);
    for (int i = 0; i < BATCHES; i++)
        fuzz_check(r->out[i] == NULL, "after a purge, or a fatal error, all tokens came back");
}

void salvo_wire_drive(const salvo_driver_ops *ops, const char *const *pairs, const uint8_t *data,
                      size_t size)
{
    run r = {.ops = ops};
    salvo_config *config;
    char error[256] = "";
    if (salvo_config_new(&config) != 0)
        return;
    for (; *pairs; pairs += 2)
        fuzz_check(salvo_config_set(config, pairs[0], pairs[1]) == 0, pairs[0]);
    salvo_set_log(take_log, NULL);
    salvo_wire_start(data, size);
    r.env = (salvo_driver_env){.config = config, .now_ns = salvo_wire_now_ns, .log = write_log,
                               .wake = wake, .flusher_count = 1, .queue_bytes = 256 << 10,
                               .max_topics = 4, .max_batches = BATCHES};
    r.topic = (salvo_driver_topic){.rabbitmq_mandatory = true, .rabbitmq_exchange = "",
                                   .rabbitmq_exchange_type = "", .rabbitmq_routing_key = ""};
    fuzz_check(salvo_batch_pool_open(&r.pool, 1u << 20, 4096) == 0, "a pool");
    if (ops->open_shared)
        fuzz_check(ops->open_shared(config, &r.env.shared, error, sizeof error) == 0, error);
    fuzz_check(ops->open(&r.env, &r.handle, error, sizeof error) == 0, error);
    fuzz_check(ops->topic(r.handle, 0, "zero", &r.topic) == 0, "a topic");
    fuzz_check(ops->topic(r.handle, 1, "one", &r.topic) == 0, "a topic");
    run_all(&r);
    ops->close(r.handle);
    if (ops->close_shared)
        ops->close_shared(r.env.shared);
    salvo_batch_pool_close(&r.pool);
    salvo_config_free(config);
}
