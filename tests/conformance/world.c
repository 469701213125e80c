/* SPDX-License-Identifier: Apache-2.0
 *
 * The world of one case: a producer of the target's, a copy of all that was sent, and the books.
 * Guarantees: what is compared with the ledger is counted here alone, from what salvo_send() said
 * and what reports said.
 */
#include "conformance.h"
#include "driver.h"
#include <time.h>
#include <unistd.h>

uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

int64_t wall_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

uint32_t world_many(const world *w, uint32_t count)
{
    return w->target->slow ? count / 10 : count;
}

/* --- opening --------------------------------------------------------------------------------- */

static void set(salvo_config *config, const char *key, const char *value)
{
    if (salvo_config_set(config, key, value))
        fail_msg("%s", salvo_config_error(config));
}

static void set_address(const target *t, salvo_config *config, const char *host_port)
{
    char text[256];
    const char *hole = strstr(t->address_format, "%s");
    assert_non_null(hole);
    snprintf(text, sizeof text, "%.*s%s%s", (int)(hole - t->address_format), t->address_format,
             host_port, hole + 2);
    set(config, t->address_key, text);
}

static salvo_config *new_config(const target *t)
{
    salvo_config *config;
    assert_int_equal(salvo_config_new(&config), 0);
    set(config, "message_broker", t->driver);
    if (t->address_key)
        set_address(t, config, server_address());
    for (const char *const *pair = t->settings; pair && *pair; pair += 2)
        set(config, pair[0], pair[1]);
    return config;
}

world *world_new(const target *t)
{
    world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    w->target = t;
    w->sent = calloc(SENT_MAX, sizeof *w->sent);
    assert_non_null(w->sent);
    w->config = new_config(t);
    w->good_config = new_config(t);
    const salvo_driver_ops *driver = salvo_driver_find(t->driver);
    if (!driver)
        fail_msg("this build has no driver named %s", t->driver);
    w->capabilities = driver->capabilities(w->config) | (driver->consumer ? CAP_CONSUME : 0);
    return w;
}

void world_free(world *w)
{
    reading_clean();
    if (w->producer) { /* the case failed */
        int err = salvo_close(w->producer, 0, NULL);
        (void)err;
    }
    for (uint32_t i = 0; i < w->topic_count; i++)
        salvo_reader_close(w->readers[i]);
    for (uint32_t i = 0; i < w->count; i++)
        free((void *)(uintptr_t)w->sent[i].message.headers); /* where the copy begins */
    salvo_config_free(w->config);
    salvo_config_free(w->good_config);
    free(w->sent);
    free(w);
}

void world_set(world *w, const char *key, const char *value)
{
    set(w->config, key, value);
}

void world_address(world *w, const char *host_port)
{
    set_address(w->target, w->config, host_port);
}

/* On a flusher's thread: it cannot fail the test, so it counts. */
static void on_report(void *context, const salvo_report *reports, size_t count)
{
    world *w = context;
    for (size_t i = 0; i < count; i++) {
        if (reports[i].opaque >= atomic_load(&w->count)) {
            atomic_fetch_add(&w->invented, 1);
            continue;
        }
        sent *s = &w->sent[reports[i].opaque];
        s->report = reports[i];
        /* release: pairs with the acquire in reports_of(), for what the report says */
        atomic_fetch_add_explicit(&s->reports, 1, memory_order_release);
    }
}

static uint32_t reports_of(const sent *s)
{
    return atomic_load_explicit(&s->reports, memory_order_acquire); /* see on_report() */
}

int world_try_open(world *w, const salvo_options *options)
{
    salvo_options all = {0};
    if (options)
        all = *options;
    all.size = sizeof all;
    all.on_report = on_report;
    all.report_context = w;
    int err = salvo_open(w->config, &all, &w->producer);
    assert_int_equal(err != 0, w->producer == NULL);
    w->opened |= !err;
    return err;
}

void world_open(world *w)
{
    if (world_try_open(w, NULL))
        fail_msg("salvo_open: %s", salvo_last_error());
}

const char *world_fresh_name(char name[96])
{
    static unsigned used;
    snprintf(name, 96, "conformance-%d-%llx-%u", (int)getpid(), (unsigned long long)wall_ms(),
             used++);
    return name;
}

uint32_t world_topic_named(world *w, const char *name, const salvo_topic_options *options)
{
    assert_true(w->topic_count < TOPICS_MAX);
    uint32_t i = w->topic_count++;
    snprintf(w->topic_names[i], sizeof w->topic_names[i], "%s", name);
    if (salvo_topic_open(w->producer, w->topic_names[i], options, &w->topics[i]))
        fail_msg("salvo_topic_open: %s", salvo_last_error());
    return i;
}

uint32_t world_topic(world *w, const salvo_topic_options *options)
{
    char name[96];
    return world_topic_named(w, world_fresh_name(name), options);
}

/* --- sending --------------------------------------------------------------------------------- */

static void *copy_to(char **at, const void *from, size_t len)
{
    void *to = *at;
    if (len)
        memcpy(to, from, len);
    *at += len;
    return to;
}

/* A deep copy in one allocation, which begins with the headers. NULL stays NULL. */
static bool copy_message(salvo_message *to, const salvo_message *from)
{
    size_t bytes = from->header_count * sizeof(salvo_header) + from->key_len + from->value_len + 1;
    for (size_t i = 0; i < from->header_count; i++)
        bytes += from->headers[i].name_len + from->headers[i].value_len;
    char *memory = malloc(bytes), *at = memory;
    if (!memory)
        return false;
    *to = *from;
    salvo_header *headers = copy_to(&at, from->headers, from->header_count * sizeof *headers);
    to->headers = headers;
    to->key = from->key ? copy_to(&at, from->key, from->key_len) : NULL;
    to->value = from->value ? copy_to(&at, from->value, from->value_len) : NULL;
    for (size_t i = 0; i < from->header_count; i++) {
        const salvo_header *h = &from->headers[i];
        headers[i].name = copy_to(&at, h->name, h->name_len);
        headers[i].value = h->value ? copy_to(&at, h->value, h->value_len) : NULL;
    }
    return true;
}

bool world_send(world *w, uint32_t topic, uint32_t lane, const salvo_message *message)
{
    uint32_t i = atomic_fetch_add(&w->count, 1);
    if (i >= SENT_MAX)
        abort(); /* a case that sends more needs a larger world */
    sent *s = &w->sent[i];
    if (!copy_message(&s->message, message))
        abort();
    s->topic = topic;
    s->lane = lane;
    s->expected = ANY_STATUS;
    s->sent_ms = wall_ms();
    salvo_message mine = *message; /* not the copy: what is kept must not be what was sent */
    mine.opaque = i;
    mine.report = 1;
    s->accepted = salvo_send(w->producer, w->topics[topic], &mine);
    return s->accepted == 0;
}

void world_must_send(world *w, uint32_t topic, uint32_t lane, uint32_t number, size_t len)
{
    if (world_send_number(w, topic, lane, true, number, len))
        return;
    salvo_stats s = {.size = sizeof s};
    assert_int_equal(salvo_get_stats(w->producer, &s), 0);
    fail_msg("message %u was refused: %s; pending %llu, in flight %llu, arena %llu of %llu, ring "
             "%llu of %llu, broker %s; log: %s", number,
             salvo_strerror(w->sent[w->count - 1].accepted), (unsigned long long)s.total.pending,
             (unsigned long long)s.in_flight_messages, (unsigned long long)s.arena_used_bytes,
             (unsigned long long)s.arena_bytes, (unsigned long long)s.ring_used_bytes,
             (unsigned long long)s.ring_bytes, s.broker_state, log_take());
}

bool world_send_number(world *w, uint32_t topic, uint32_t lane, bool keyed, uint32_t number,
                       size_t len)
{
    char value[4096], key[16];
    assert_true(len <= sizeof value);
    memset(value, 'v', sizeof value);
    int n = snprintf(value, sizeof value, "%u.%u.", lane, number);
    size_t value_len = len > (size_t)n ? len : (size_t)n;
    salvo_message m = {.value = value, .value_len = value_len};
    if (keyed) {
        m.key = key;
        m.key_len = (size_t)snprintf(key, sizeof key, "key-%u", lane);
    }
    return world_send(w, topic, lane, &m);
}

void world_expect_last(world *w, int status)
{
    w->sent[w->count - 1].expected = status;
}

/* --- the books ------------------------------------------------------------------------------- */

static void check_equations(const salvo_ledger *l)
{
    assert_int_equal(l->offered, l->accepted + l->refused_full + l->refused_dropped +
                                     l->refused_timeout + l->refused_too_large +
                                     l->refused_invalid);
    assert_int_equal(l->accepted,
                     l->acknowledged + l->failed + l->expired + l->dropped + l->pending);
    assert_true(l->maybe_delivered <= l->failed);
}

salvo_ledger world_ledger(world *w)
{
    salvo_ledger l;
    assert_int_equal(salvo_get_ledger(w->producer, SALVO_ALL_TOPICS, &l), 0);
    check_equations(&l);
    return l;
}

void world_flush(world *w, uint64_t timeout_ms)
{
    int err = salvo_flush(w->producer, timeout_ms);
    salvo_stats s = {.size = sizeof s};
    if (!err)
        return;
    assert_int_equal(salvo_get_stats(w->producer, &s), 0);
    fail_msg("salvo_flush(%llu ms): %s; pending %llu of %llu, in flight %llu, broker %s; log: %s",
             (unsigned long long)timeout_ms, salvo_strerror(err),
             (unsigned long long)s.total.pending, (unsigned long long)s.total.accepted,
             (unsigned long long)s.in_flight_messages, s.broker_state, log_take());
}

uint32_t world_outcomes(const world *w, int status)
{
    uint32_t found = 0;
    for (uint32_t i = 0; i < w->count; i++)
        found += reports_of(&w->sent[i]) && w->sent[i].report.status == status;
    return found;
}

static void check_one(const world *w, uint32_t i)
{
    const sent *s = &w->sent[i];
    if (reports_of(s) != (s->accepted == 0))
        fail_msg("message %u, of which the send said \"%s\": %u reports", i,
                 salvo_strerror(s->accepted), reports_of(s));
    if (s->accepted)
        return;
    int status = s->report.status;
    if (s->expected != ANY_STATUS && s->expected != status)
        fail_msg("message %u: %s, expected: %s", i, salvo_strerror(status),
                 salvo_strerror(s->expected));
    if (status == SALVO_ERR_TRANSIENT || status == SALVO_ERR_FATAL)
        fail_msg("message %u: \"%s\" is no final outcome", i, salvo_strerror(status));
    assert_int_equal(s->report.topic, w->topics[s->topic]);
}

/* What we counted against what the producer says at rest. */
static void check_books(world *w, const salvo_ledger *l)
{
    uint32_t accepted = 0;
    assert_int_equal(w->invented, 0);
    for (uint32_t i = 0; i < w->count; i++) {
        check_one(w, i);
        accepted += w->sent[i].accepted == 0;
    }
    uint32_t acknowledged = world_outcomes(w, 0);
    uint32_t expired = world_outcomes(w, SALVO_ERR_EXPIRED);
    uint32_t dropped = world_outcomes(w, SALVO_ERR_DROPPED);
    check_equations(l);
    assert_int_equal(l->pending, 0);
    assert_int_equal(l->pending_counted, 0);
    assert_int_equal(l->offered, w->count);
    assert_int_equal(l->accepted, accepted);
    assert_int_equal(l->acknowledged, acknowledged);
    assert_int_equal(l->expired, expired);
    assert_int_equal(l->dropped, dropped);
    assert_int_equal(l->failed, accepted - acknowledged - expired - dropped);
    assert_int_equal(l->maybe_delivered, world_outcomes(w, SALVO_ERR_MAYBE));
}

int world_close(world *w, uint64_t timeout_ms)
{
    salvo_close_report r;
    if (!w->target->address_key)
        world_open_readers(w); /* what it keeps lives in the producer */
    salvo *producer = w->producer;
    w->producer = NULL;
    int err = salvo_close(producer, timeout_ms, &r);
    if (err && err != SALVO_ERR_DROPPED)
        fail_msg("salvo_close: %s", salvo_strerror(err));
    check_books(w, &r.ledger);
    assert_int_equal(r.undelivered, r.ledger.failed + r.ledger.expired + r.ledger.dropped);
    assert_int_equal(err == 0, r.undelivered == 0);
    assert_int_equal(r.stuck_claims, 0);
    w->ledger = r.ledger;
    return err;
}

void world_finish(world *w)
{
    if (!w->opened)
        return; /* the case was about an open that fails */
    if (w->producer) {
        world_flush(w, 30000);
        salvo_ledger l = world_ledger(w);
        assert_int_equal(l.pending, 0);
        assert_int_equal(l.pending_counted, 0);
        int err = world_close(w, 10000);
        assert_int_equal(err != 0, w->ledger.acknowledged != w->ledger.accepted);
    }
    if (!w->consumed)
        world_read_back(w);
}
