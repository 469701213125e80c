/* SPDX-License-Identifier: Apache-2.0
 *
 * An engine that consumes: opens, polls until the input has ended, settles some of it, closes.
 * Guarantees, to a finding: what a delivery shows may be read until the next poll, none is of a
 * claim that ended or is given twice under one tag, an error has a text of one line, and every
 * call ends.
 */
#include "wire.h"

#include "driver_consumer.h"
#include <salvo/err.h>

enum { ROUNDS = 400, AT_ONCE = 7, HAND = 4096, OPEN_MS = 2000 };

typedef struct engine {
    salvo_driver_tag hand[HAND];
    uint32_t held, ended;
} engine;

static void ignore_log(int level, const char *format, ...)
{
    (void)level, (void)format;
}

static void on_revoked(void *consumer, uint32_t claim)
{
    engine *e = consumer;
    if (claim > e->ended)
        e->ended = claim;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < e->held; i++)
        if (e->hand[i].claim != claim)
            e->hand[kept++] = e->hand[i];
    e->held = kept;
}

static void on_count(void *consumer, int what, int64_t change)
{
    (void)consumer, (void)what, (void)change;
}

static void check_error(const char *error, size_t size)
{
    fuzz_check(memchr(error, 0, size) && *error, "an error has a text");
    fuzz_check(!strchr(error, '\n'), "of one line");
}

static void look(engine *e, const salvo_driver_delivery *d)
{
    const salvo_record *r = &d->record;
    fuzz_check(r->topic && (strcmp(r->topic, "zero") == 0 || strcmp(r->topic, "one") == 0),
               "a record is of its topic");
    if (r->key)
        fuzz_touch(r->key, r->key_len);
    if (r->value)
        fuzz_touch(r->value, r->value_len);
    for (size_t i = 0; i < r->header_count; i++) {
        fuzz_touch(r->headers[i].name, r->headers[i].name_len);
        if (r->headers[i].value)
            fuzz_touch(r->headers[i].value, r->headers[i].value_len);
    }
    for (uint32_t i = 0; i < e->held; i++)
        fuzz_check(e->hand[i].claim != d->tag.claim || e->hand[i].a != d->tag.a ||
                   e->hand[i].b != d->tag.b, "what is in hand is not given again");
    if (e->held < HAND)
        e->hand[e->held++] = d->tag;
}

/* The newest half, so that older ones stay open. */
static void settle(const salvo_driver_consumer_ops *ops, void *handle, engine *e)
{
    uint32_t half = e->held / 2;
    ops->ack(handle, e->hand + half, e->held - half);
    e->held = half;
}

static void run(const salvo_driver_consumer_ops *ops, void *handle, engine *e, uint8_t options)
{
    char error[256] = "";
    salvo_driver_delivery given[AT_ONCE];
    for (int i = 0; i < ROUNDS && (salvo_wire_left() > 0 || i < 20); i++) {
        memset(given, 0, sizeof given);
        int n = ops->poll(handle, 5, given, i % 8 == 7 ? 0 : AT_ONCE, error, sizeof error);
        fuzz_check(n <= AT_ONCE, "no more is given than was asked for");
        for (int j = 0; j < n; j++)
            look(e, &given[j]);
        if (n < 0)
            check_error(error, sizeof error);
        if (n > 0 && i % 2)
            settle(ops, handle, e);
        if ((options & 4) && i % 16 == 5 && ops->rewind(handle, error, sizeof error) == 0)
            fuzz_check(e->held == 0, "a rewind ends all claims");
        if ((options & 8) && i % 16 < 2)
            (void)ops->pause(handle, "zero", -1, i % 2 == 0, error, sizeof error);
        if ((options & 16) && i % 16 == 9)
            (void)ops->commit(handle, 3, error, sizeof error);
    }
}

void salvo_wire_consume(const salvo_driver_ops *ops, const char *const *pairs, const uint8_t *data,
                        size_t size)
{
    static const char *const topics[] = {"zero", "one"};
    static engine e;
    salvo_config *config;
    void *handle = NULL;
    char error[256] = "";
    if (size == 0 || salvo_config_new(&config) != 0)
        return;
    for (; *pairs; pairs += 2)
        fuzz_check(salvo_config_set(config, pairs[0], pairs[1]) == 0, pairs[0]);
    memset(&e, 0, sizeof e);
    salvo_consumer_options options = {
        .size = sizeof options, .group = "group", .topics = topics, .topic_count = 2,
        .member = data[0] & 1 ? "member" : NULL, .max_in_hand = 50, .open_timeout_ms = OPEN_MS,
        .manual_commit = (data[0] & 2) != 0};
    salvo_consumer_env env = {.config = config, .options = &options, .log = ignore_log,
                              .revoked = on_revoked, .count = on_count, .consumer = &e};
    salvo_wire_start(data + 1, size - 1);
    int err = ops->consumer->open(&env, &handle, error, sizeof error);
    if (err != 0)
        check_error(error, sizeof error);
    fuzz_check((err == 0) == (handle != NULL), "an open that fails leaves no consumer");
    if (err == 0) {
        run(ops->consumer, handle, &e, data[0]);
        (void)ops->consumer->close(handle, 50, error, sizeof error);
    }
    salvo_config_free(config);
}
