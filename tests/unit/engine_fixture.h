/* SPDX-License-Identifier: Apache-2.0
 *
 * What tests of the whole engine share: a producer on the memory broker whose only flusher is
 * stepped by hand under a clock that stands still until it is told. Every step ends with the
 * ledger's equation, and with pending counted a second way.
 */
#ifndef SALVO_ENGINE_FIXTURE_H
#define SALVO_ENGINE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "flusher.h"
#include "producer.h"
#include <salvo/reader.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define US UINT64_C(1000)
#define MS (1000 * US)
#define SECOND (1000 * MS)

typedef struct engine {
    salvo *p;
    salvo_topic topic; /* "t" */
    uint64_t now_ns;
    uint64_t open_claims; /* claimed, not committed: in the rings but not pending */
} engine;

static inline uint64_t engine_now(void *context)
{
    /* Relaxed: some tests move the clock while a sender reads it. */
    return __atomic_load_n(&((engine *)context)->now_ns, __ATOMIC_RELAXED);
}

/* A configuration of key, value, ..., NULL on top of the tests' own defaults. */
static inline salvo_config *engine_config(const char *const *pairs)
{
    static const char *const defaults[] = {"message_broker", "memory", "linger_us", "1000",
                                           "idle_strategy", "busy", NULL};
    salvo_config *config;
    assert_int_equal(salvo_config_new(&config), 0);
    for (const char *const *p = defaults; *p != NULL; p += 2)
        assert_int_equal(salvo_config_set(config, p[0], p[1]), 0);
    for (; pairs != NULL && *pairs != NULL; pairs += 2)
        if (salvo_config_set(config, pairs[0], pairs[1]) != 0)
            fail_msg("%s", salvo_config_error(config));
    return config;
}

/* stepped: with the clock of the fixture; else with threads and the real one. */
static inline void engine_open_as(engine *e, bool stepped, const salvo_options *options,
                                  const char *const *pairs)
{
    salvo_config *config = engine_config(pairs);
    *e = (engine){.now_ns = SECOND};
    salvo_producer_hooks hooks = {.clock = engine_now, .clock_context = e, .stepped = true};
    int err = salvo_producer_open(config, options, stepped ? &hooks : NULL, &e->p);
    if (err != 0)
        fail_msg("%s: %s", salvo_strerror(err), salvo_last_error());
    salvo_config_free(config);
    assert_int_equal(salvo_topic_open(e->p, "t", NULL, &e->topic), 0);
}

static inline void engine_open(engine *e, const char *const *pairs)
{
    engine_open_as(e, true, NULL, pairs);
}

static inline salvo_ledger engine_ledger(engine *e, salvo_topic topic)
{
    salvo_ledger l;
    assert_int_equal(salvo_get_ledger(e->p, topic, &l), 0);
    return l;
}

static inline void engine_check_ledger(const salvo_ledger *l)
{
    assert_int_equal(l->offered, l->accepted + l->refused_full + l->refused_dropped +
                                     l->refused_timeout + l->refused_too_large +
                                     l->refused_invalid);
    assert_int_equal(l->accepted,
                     l->acknowledged + l->failed + l->expired + l->dropped + l->pending);
    assert_true(l->maybe_delivered <= l->failed);
}

/* At rest: nobody sends, nobody works. */
static inline void engine_check(engine *e)
{
    salvo_ledger l = engine_ledger(e, SALVO_ALL_TOPICS);
    engine_check_ledger(&l);
    assert_int_equal(l.pending + e->open_claims, l.pending_counted);
}

static inline salvo_stats engine_stats(engine *e)
{
    salvo_stats s = {.size = sizeof s};
    assert_int_equal(salvo_get_stats(e->p, &s), 0);
    return s;
}

static inline int engine_step(engine *e, uint64_t after_ns)
{
    e->now_ns += after_ns;
    int work = salvo_flusher_work(&e->p->flushers[0]);
    engine_check(e);
    return work;
}

/* Step every `each_ns` until nothing is pending. */
static inline void engine_settle(engine *e, uint64_t each_ns, unsigned most)
{
    for (unsigned i = 0; i < most; i++) {
        engine_step(e, each_ns);
        if (engine_ledger(e, SALVO_ALL_TOPICS).pending == 0)
            return;
    }
    fail_msg("still pending after %u steps", most);
}

/* The values "first", "first + 1", ... as decimal text, to one partition or -1. */
static inline void engine_send(engine *e, int32_t partition, unsigned first, unsigned count)
{
    for (unsigned i = first; i < first + count; i++) {
        char text[16];
        salvo_message m = {.value = text, .partition_plus1 = partition + 1};
        m.value_len = (size_t)snprintf(text, sizeof text, "%u", i);
        assert_int_equal(salvo_send(e->p, e->topic, &m), 0);
    }
    engine_check(e);
}

static inline salvo_reader *engine_reader(engine *e, const char *topic)
{
    const salvo_reader_options options = {
        .size = sizeof options, .stop_at_end = 1, .open_timeout_ms = 1000};
    salvo_reader *reader;
    int err = salvo_reader_open(NULL, e->p, topic, &options, &reader);
    if (err != 0)
        fail_msg("%s: %s", salvo_strerror(err), salvo_last_error());
    return reader;
}

/* What arrived in a partition of "t" is exactly first, first + 1, ... */
static inline void engine_expect(engine *e, int32_t partition, unsigned first, unsigned count)
{
    salvo_reader *reader = engine_reader(e, "t");
    salvo_record r;
    unsigned next = first;
    while (salvo_reader_next(reader, 0, &r) == 0) {
        if (r.partition != partition)
            continue;
        char text[16] = "";
        assert_in_range(r.value_len, 1, sizeof text - 1);
        memcpy(text, r.value, r.value_len);
        assert_int_equal(strtoul(text, NULL, 10), next);
        next++;
    }
    salvo_reader_close(reader);
    assert_int_equal(next, first + count);
}

/* Close, and expect the books balanced with nothing pending. */
static inline salvo_close_report engine_close(engine *e, int expected)
{
    salvo_close_report report;
    assert_int_equal(salvo_close(e->p, 10000, &report), expected);
    engine_check_ledger(&report.ledger);
    assert_int_equal(report.ledger.pending, 0);
    assert_int_equal(report.undelivered,
                     report.ledger.failed + report.ledger.expired + report.ledger.dropped);
    e->p = NULL;
    return report;
}

#endif
