/* SPDX-License-Identifier: Apache-2.0
 *
 * The engine's half of consuming, over a driver of the test's own: ids and bounds, what is passed
 * on when, claims that end, threads that visit while a poll waits, options, close.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "consumer_hand.h"
#include "consumer_internal.h"
#include "driver.h"
#include "error.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* --- the driver: gives numbered messages of one claim, without end ----------------------------*/

typedef struct fake {
    salvo_consumer_env env;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool woken;
    uint32_t claim;
    uint64_t next;      /* to be given */
    uint64_t available; /* one past what may be given */
    uint32_t most;      /* at once */
    uint32_t revoke;    /* in the next poll: this claim ends */
    int fail;           /* the next poll's result */
    uint64_t acked[4096];
    uint32_t ack_claims[4096];
    size_t ack_count;
    uint32_t inside; /* threads in a slot that must be alone */
    uint32_t polls, commits, pauses;
    bool overlapped;
} fake;

static fake *driver; /* the open handle */

static void enter(fake *f)
{
    f->overlapped |= __atomic_add_fetch(&f->inside, 1, __ATOMIC_SEQ_CST) != 1;
}

static void leave(fake *f)
{
    __atomic_sub_fetch(&f->inside, 1, __ATOMIC_SEQ_CST);
}

static int fake_open(const salvo_consumer_env *env, void **handle, char *error, size_t error_size)
{
    if (strcmp(env->options->group, "refused") == 0) {
        snprintf(error, error_size, "the broker refused %s", env->options->group);
        return SALVO_ERR_AUTH;
    }
    fake *f = calloc(1, sizeof *f);
    assert_non_null(f);
    f->env = *env;
    f->claim = 1;
    f->most = UINT32_MAX;
    f->available = UINT64_MAX;
    pthread_mutex_init(&f->mutex, NULL);
    pthread_cond_init(&f->changed, NULL);
    *handle = driver = f;
    return 0;
}

static void wait_for_wake(fake *f, uint64_t timeout_ms)
{
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    at.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
    at.tv_sec += (time_t)(timeout_ms / 1000) + at.tv_nsec / 1000000000;
    at.tv_nsec %= 1000000000;
    while (!f->woken)
        if (pthread_cond_timedwait(&f->changed, &f->mutex, &at) != 0)
            break;
}

static int fake_poll(void *handle, uint64_t timeout_ms, salvo_driver_delivery *deliveries,
                     size_t max, char *error, size_t error_size)
{
    fake *f = handle;
    int n = 0;
    enter(f);
    pthread_mutex_lock(&f->mutex);
    f->polls++;
    if (f->revoke) {
        f->env.revoked(f->env.consumer, f->revoke);
        f->revoke = 0;
        f->claim++;
    }
    if (f->fail) {
        n = f->fail;
        f->fail = 0;
        snprintf(error, error_size, "as told");
    } else {
        if (f->next >= f->available && timeout_ms > 0)
            wait_for_wake(f, timeout_ms);
        for (; (size_t)n < max && (uint32_t)n < f->most && f->next < f->available; n++)
            deliveries[n] = (salvo_driver_delivery){
                .record = {.topic = "t", .offset = (int64_t)f->next, .value = "v", .value_len = 1},
                .tag = {.claim = f->claim, .a = f->next++},
                .deliveries = 1};
    }
    f->woken = false;
    pthread_mutex_unlock(&f->mutex);
    leave(f);
    return n;
}

static int fake_descriptor(void *handle)
{
    (void)handle;
    return 0;
}

static void fake_wake(void *handle)
{
    fake *f = handle;
    pthread_mutex_lock(&f->mutex);
    f->woken = true;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->mutex);
}

static void fake_ack(void *handle, const salvo_driver_tag *tags, size_t count)
{
    fake *f = handle;
    enter(f);
    for (size_t i = 0; i < count; i++) {
        size_t at = __atomic_fetch_add(&f->ack_count, 1, __ATOMIC_SEQ_CST) % 4096;
        f->ack_claims[at] = tags[i].claim, f->acked[at] = tags[i].a;
    }
    leave(f);
}

static int fake_commit(void *handle, uint64_t timeout_ms, char *error, size_t error_size)
{
    fake *f = handle;
    (void)timeout_ms;
    enter(f);
    f->commits++;
    f->env.count(f->env.consumer, SALVO_COUNT_COMMITS, 1);
    leave(f);
    snprintf(error, error_size, "no quorum");
    return f->commits == 2 ? SALVO_ERR_TRANSIENT : 0;
}

static int fake_rewind(void *handle, char *error, size_t error_size)
{
    fake *f = handle;
    (void)error, (void)error_size;
    f->env.revoked(f->env.consumer, f->claim++);
    return 0;
}

static int fake_pause(void *handle, const char *topic, int32_t partition, bool paused, char *error,
                      size_t error_size)
{
    fake *f = handle;
    (void)topic, (void)partition, (void)paused, (void)error, (void)error_size;
    enter(f);
    f->pauses++;
    leave(f);
    return 0;
}

static int64_t fake_lag(void *handle, salvo_lag *lags, size_t max, uint64_t timeout_ms, char *error,
                        size_t error_size)
{
    (void)handle, (void)lags, (void)max, (void)timeout_ms, (void)error, (void)error_size;
    return 0;
}

static void fake_state(void *handle, char *text, size_t size)
{
    snprintf(text, size, "%s", handle ? "up" : "");
}

static uint32_t closes;

static int fake_close(void *handle, uint64_t timeout_ms, char *error, size_t error_size)
{
    fake *f = handle;
    (void)timeout_ms, (void)error, (void)error_size;
    assert_int_equal(f->inside, 0);
    closes++;
    free(f);
    return 0;
}

static const salvo_driver_consumer_ops fake_consumer_ops = {
    .open = fake_open, .poll = fake_poll, .descriptor = fake_descriptor, .wake = fake_wake,
    .ack = fake_ack, .commit = fake_commit, .rewind = fake_rewind, .pause = fake_pause,
    .lag = fake_lag, .state = fake_state, .close = fake_close,
};
static const salvo_driver_ops fake_ops = {
    .size = sizeof fake_ops, .name = "redis", .consumer = &fake_consumer_ops};
static const salvo_driver_ops empty_ops = {.size = sizeof empty_ops, .name = "null"};

const salvo_driver_ops *salvo_driver_find(const char *name)
{
    return strcmp(name, "null") == 0 ? &empty_ops : &fake_ops;
}

/* --- helpers ----------------------------------------------------------------------------------*/

static salvo_config *config_of(const char *broker)
{
    salvo_config *config;
    assert_int_equal(salvo_config_new(&config), 0);
    assert_int_equal(salvo_config_set(config, "message_broker", broker), 0);
    return config;
}

static salvo_consumer *open_with(uint32_t max_in_hand)
{
    const char *topics[] = {"t", "u", "t"};
    const salvo_consumer_options options = {.size = sizeof options, .group = "g",
                                            .topics = topics, .topic_count = 3,
                                            .max_in_hand = max_in_hand};
    salvo_config *config = config_of("redis");
    salvo_consumer *c;
    int err = salvo_consumer_open(config, NULL, &options, &c);
    if (err)
        fail_msg("%s", salvo_last_error());
    salvo_config_free(config); /* it was copied */
    return c;
}

static size_t take(salvo_consumer *c, uint64_t *ids, size_t max)
{
    const salvo_delivered *messages;
    size_t n;
    int err = salvo_consumer_poll(c, 0, &messages, max, &n);
    assert_true(err == 0 || err == SALVO_ERR_TIMEOUT);
    assert_int_equal(err == 0, n > 0);
    for (size_t i = 0; i < n; i++)
        ids[i] = messages[i].id;
    return n;
}

static salvo_consumer_stats stats_of(salvo_consumer *c)
{
    salvo_consumer_stats s = {.size = sizeof s};
    assert_int_equal(salvo_consumer_get_stats(c, &s), 0);
    return s;
}

/* --- cases ------------------------------------------------------------------------------------*/

static void bounds_and_passing_on(void **state)
{
    (void)state;
    uint64_t ids[2000];
    salvo_consumer *c = open_with(100);
    assert_int_equal(driver->env.options->topic_count, 2); /* each topic once */
    assert_int_equal(take(c, ids, 60), 60);
    assert_int_equal(take(c, ids + 60, 60), 40);
    assert_int_equal(take(c, ids + 100, 60), 0);
    assert_int_equal(salvo_consumer_ack(c, ids + 10, 5), 5);
    assert_int_equal(salvo_consumer_ack(c, ids + 10, 6), 1);
    assert_int_equal(driver->ack_count, 0); /* the driver hears of it in the next poll */
    assert_int_equal(take(c, ids + 100, 60), 6);
    assert_int_equal(driver->ack_count, 6);
    assert_int_equal(driver->acked[0], 10);
    assert_int_equal(driver->acked[5], 15);
    assert_int_equal(salvo_consumer_is_held(c, ids[0]), 1);
    assert_int_equal(salvo_consumer_is_held(c, ids[10]), 0);
    assert_int_equal(salvo_consumer_is_held(c, 0), 0);
    assert_int_equal(salvo_consumer_is_held(c, UINT64_MAX), 0);
    assert_int_equal(salvo_consumer_commit(c, 0), 0);
    assert_int_equal(salvo_consumer_commit(c, 0), SALVO_ERR_TRANSIENT);
    assert_string_equal(salvo_last_error(), "no quorum");
    salvo_consumer_stats s = stats_of(c);
    assert_int_equal(s.received, 106);
    assert_int_equal(s.acknowledged, 6);
    assert_int_equal(s.in_hand, 100);
    assert_int_equal(s.commits, 2);
    assert_int_equal(salvo_consumer_close(c, 0), 0);
}

static void a_poll_gives_no_more_than_the_setting(void **state)
{
    (void)state;
    static uint64_t ids[2000];
    salvo_consumer *c = open_with(0);
    assert_int_equal(driver->env.options->max_in_hand, 5000); /* 10 times kafka_max_poll_records */
    assert_int_equal(take(c, ids, 2000), 500);
    assert_int_equal(salvo_consumer_close(c, 0), 0);
}

/* One message stays in hand for ever while others come and go, in random order. */
static void ids_are_never_reused(void **state)
{
    (void)state;
    uint64_t ids[64], first, last = 0, held[64], random = 7;
    size_t holding = 0, acked = 0;
    salvo_consumer *c = open_with(64);
    assert_int_equal(take(c, &first, 1), 1);
    for (int round = 0; round < 3000; round++) {
        size_t n = take(c, ids, 63 - holding);
        for (size_t i = 0; i < n; i++) {
            assert_true(ids[i] > last);
            last = ids[i];
            held[holding++] = ids[i];
        }
        while (holding > 0 && (random = random * 6364136223846793005u + 1) >> 60 != 0) {
            size_t at = (size_t)(random >> 33) % holding;
            assert_int_equal(salvo_consumer_is_held(c, held[at]), 1);
            assert_int_equal(salvo_consumer_ack(c, &held[at], 1), 1);
            assert_int_equal(salvo_consumer_is_held(c, held[at]), 0);
            held[at] = held[--holding];
            acked++;
        }
        assert_int_equal(salvo_consumer_is_held(c, first), 1);
    }
    assert_int_equal(stats_of(c).acknowledged, acked);
    assert_int_equal(stats_of(c).in_hand, holding + 1);
    assert_int_equal(salvo_consumer_close(c, 0), 0);
}

static void a_claim_that_ends_takes_its_messages(void **state)
{
    (void)state;
    uint64_t ids[30];
    salvo_consumer *c = open_with(100);
    assert_int_equal(take(c, ids, 10), 10);
    assert_int_equal(salvo_consumer_rewind(c), 0);
    assert_int_equal(salvo_consumer_is_held(c, ids[0]), 0);
    assert_int_equal(take(c, ids + 10, 10), 10);
    assert_int_equal(salvo_consumer_ack(c, ids, 20), 10); /* only those of the claim that lives */
    driver->revoke = driver->claim;
    assert_int_equal(take(c, ids + 20, 10), 10);
    assert_int_equal(driver->ack_count, 10); /* they were passed on before it ended */
    for (size_t i = 0; i < 10; i++)
        assert_int_equal(driver->ack_claims[i], 2);
    assert_int_equal(stats_of(c).lost, 10);
    assert_int_equal(stats_of(c).in_hand, 10);
    assert_int_equal(salvo_consumer_close(c, 0), 0);
}

/* Tags of an ended claim are dropped when it ends between the acknowledgement and the poll. */
static void tags_of_an_ended_claim_are_not_passed_on(void **state)
{
    (void)state;
    salvo_hand hand;
    const salvo_driver_tag *tags;
    salvo_driver_delivery given[4] = {{.tag = {.claim = 1, .a = 1}}, {.tag = {.claim = 2, .a = 2}},
                                      {.tag = {.claim = 1, .a = 3}}, {.tag = {.claim = 2, .a = 4}}};
    salvo_delivered out[4];
    assert_int_equal(salvo_hand_init(&hand, 4), 0);
    assert_int_equal(salvo_hand_reserve(&hand, 9), 4);
    salvo_hand_give(&hand, given, 4, out);
    const uint64_t both[] = {out[0].id, out[1].id};
    assert_int_equal(salvo_hand_ack(&hand, both, 2), 2);
    salvo_hand_revoke(&hand, 1);
    assert_int_equal(hand.lost, 1);
    assert_false(salvo_hand_has(&hand, out[2].id));
    assert_true(salvo_hand_has(&hand, out[3].id));
    assert_int_equal(salvo_hand_take_acks(&hand, &tags), 1);
    assert_int_equal(tags[0].a, 2);
    assert_int_equal(salvo_hand_room(&hand), 3);
    salvo_hand_free(&hand);
    assert_int_equal(salvo_hand_ack(&hand, both, 2), 0);
}

typedef struct poller {
    pthread_t thread;
    salvo_consumer *c;
    uint64_t timeout_ms;
    int err;
    size_t count;
} poller;

static void *poll_in_thread(void *context)
{
    poller *p = context;
    const salvo_delivered *messages;
    p->err = salvo_consumer_poll(p->c, p->timeout_ms, &messages, 10, &p->count);
    return NULL;
}

static void start(poller *p, salvo_consumer *c)
{
    *p = (poller){.c = c, .timeout_ms = 60000};
    assert_int_equal(pthread_create(&p->thread, NULL, poll_in_thread, p), 0);
    for (bool polling = false; !polling; usleep(1000)) {
        pthread_mutex_lock(&c->gate);
        polling = c->polling;
        pthread_mutex_unlock(&c->gate);
    }
}

static void others_visit_while_a_poll_waits(void **state)
{
    (void)state;
    poller p;
    uint64_t ids[4];
    const salvo_delivered *messages;
    size_t n;
    salvo_consumer *c = open_with(100);
    driver->available = 3;
    assert_int_equal(take(c, ids, 4), 3);
    start(&p, c);
    assert_int_equal(salvo_consumer_poll(c, 0, &messages, 1, &n), SALVO_ERR_INVALID);
    assert_non_null(strstr(salvo_last_error(), "another thread is polling"));
    for (int i = 0; i < 200; i++)
        assert_int_equal(salvo_consumer_pause(c, "u", SALVO_PARTITION_ALL), 0);
    assert_int_equal(salvo_consumer_lag(c, NULL, 0, 0), 0);
    usleep(150000); /* the last visit is forgotten */
    assert_int_equal(salvo_consumer_ack(c, ids, 3), 3);
    for (int i = 0; i < 5000 && __atomic_load_n(&driver->ack_count, __ATOMIC_SEQ_CST) < 3; i++)
        usleep(1000); /* passed on while it waits */
    assert_int_equal(driver->ack_count, 3);
    assert_int_equal(p.count, 0);
    salvo_consumer_wake(c);
    pthread_join(p.thread, NULL);
    assert_int_equal(p.err, SALVO_ERR_TIMEOUT);
    assert_false(driver->overlapped);
    assert_int_equal(driver->pauses, 200);
    assert_int_equal(salvo_consumer_close(c, 0), 0);
}

static void a_full_hand_waits_for_room(void **state)
{
    (void)state;
    poller p;
    uint64_t ids[10];
    salvo_consumer *c = open_with(10);
    assert_int_equal(take(c, ids, 10), 10);
    start(&p, c);
    usleep(50000);
    assert_int_equal(salvo_consumer_ack(c, ids, 4), 4);
    pthread_join(p.thread, NULL);
    assert_int_equal(p.err, 0);
    assert_int_equal(p.count, 4);
    assert_true(driver->polls < 100); /* it slept */
    assert_int_equal(salvo_consumer_close(c, 0), 0);
}

static void a_wake_before_the_poll_counts(void **state)
{
    (void)state;
    poller p;
    salvo_consumer *c = open_with(10);
    driver->available = 0;
    salvo_consumer_wake(c);
    p = (poller){.c = c, .timeout_ms = 60000};
    poll_in_thread(&p);
    assert_int_equal(p.err, SALVO_ERR_TIMEOUT);
    p.timeout_ms = 30;
    poll_in_thread(&p);
    assert_int_equal(p.err, SALVO_ERR_TIMEOUT);
    driver->fail = SALVO_ERR_AUTH;
    poll_in_thread(&p);
    assert_int_equal(p.err, SALVO_ERR_AUTH);
    assert_string_equal(salvo_last_error(), "as told");
    assert_int_equal(salvo_consumer_close(c, 0), 0);
}

static void close_ends_a_poll_that_waits(void **state)
{
    (void)state;
    poller p;
    uint64_t id = 1;
    salvo_consumer_stats s = {.size = sizeof s};
    salvo_consumer *c = open_with(10);
    driver->available = 0;
    start(&p, c);
    uint32_t before = closes;
    assert_int_equal(salvo_consumer_close(c, 0), 0);
    assert_int_equal(closes, before + 1);
    pthread_join(p.thread, NULL);
    assert_int_equal(p.err, SALVO_ERR_CLOSED);
    assert_int_equal(salvo_consumer_ack(c, &id, 1), SALVO_ERR_CLOSED);
    assert_int_equal(salvo_consumer_is_held(c, 1), SALVO_ERR_CLOSED);
    assert_int_equal(salvo_consumer_get_stats(c, &s), SALVO_ERR_CLOSED);
    assert_int_equal(salvo_consumer_fd(c), SALVO_ERR_CLOSED);
    assert_int_equal(salvo_consumer_close(c, 0), SALVO_ERR_CLOSED);
    salvo_consumer_wake(c);
    salvo_consumer_wake(NULL);
}

static void refused(const char *broker, const salvo_consumer_options *o, int err, const char *text)
{
    salvo_config *config = config_of(broker);
    salvo_consumer *c = (salvo_consumer *)(void *)config; /* anything but NULL */
    assert_int_equal(salvo_consumer_open(config, NULL, o, &c), err);
    assert_null(c);
    if (!strstr(salvo_last_error(), text))
        fail_msg("\"%s\" lacks \"%s\"", salvo_last_error(), text);
    salvo_config_free(config);
}

static void options_are_checked(void **state)
{
    (void)state;
    char long_name[251];
    const char *topics[] = {"t", ""}, *null[] = {NULL};
    memset(long_name, 'n', 250);
    long_name[250] = '\0';
    salvo_consumer_options good = {.size = sizeof good, .group = "g", .topics = topics,
                                   .topic_count = 1}, o;
    refused("redis", NULL, SALVO_ERR_INVALID, "options are NULL");
    o = good, o.size = 0;
    refused("redis", &o, SALVO_ERR_INVALID, "size is 0");
    o = good, o.group = NULL;
    refused("redis", &o, SALVO_ERR_INVALID, "no group was given");
    o = good, o.group = long_name;
    refused("redis", &o, SALVO_ERR_INVALID, "group has not 1 to 249 bytes");
    o = good, o.member = "";
    refused("redis", &o, SALVO_ERR_INVALID, "member's name has not");
    o = good, o.topic_count = 0;
    refused("redis", &o, SALVO_ERR_INVALID, "no topic was given");
    o = good, o.topic_count = 2;
    refused("redis", &o, SALVO_ERR_INVALID, "a topic has not 1 to 249 bytes");
    o = good, o.topics = null;
    refused("redis", &o, SALVO_ERR_INVALID, "a topic is NULL");
    o = good, o.manual_commit = 3;
    refused("redis", &o, SALVO_ERR_INVALID, "manual_commit is 0, 1 or 2");
    o = good, o.max_in_hand = (1u << 24) + 1;
    refused("redis", &o, SALVO_ERR_INVALID, "max_in_hand is over");
    o = good, o.transactional = 1;
    refused("redis", &o, SALVO_ERR_UNSUPPORTED, "redis has no transactions");
    o = good, o.group = "refused";
    refused("redis", &o, SALVO_ERR_AUTH, "the broker refused refused");
    refused("null", &good, SALVO_ERR_UNSUPPORTED, "null driver keeps nothing");
    assert_int_equal(salvo_consumer_open(NULL, NULL, &good, NULL), SALVO_ERR_INVALID);
    assert_int_equal(salvo_consumer_ack(NULL, NULL, 0), SALVO_ERR_INVALID);
    assert_int_equal(salvo_consumer_close(NULL, 0), SALVO_ERR_INVALID);
}

static void who_decides_on_commits(void **state)
{
    (void)state;
    const char *topic = "t";
    static const struct {
        const char *setting;
        uint32_t option, expected;
    } rows[] = {{"true", 0, 0}, {"false", 0, 1}, {"true", 1, 1}, {"false", 2, 0}};
    for (size_t i = 0; i < 4; i++) {
        const salvo_consumer_options o = {.size = sizeof o, .group = "g", .topics = &topic,
                                          .topic_count = 1, .manual_commit = rows[i].option};
        salvo_config *config = config_of("redis");
        salvo_consumer *c;
        assert_int_equal(salvo_config_set(config, "kafka_enable_auto_commit", rows[i].setting), 0);
        assert_int_equal(salvo_consumer_open(config, NULL, &o, &c), 0);
        assert_int_equal(driver->env.options->manual_commit, rows[i].expected);
        assert_int_equal(salvo_consumer_close(c, 0), 0);
        salvo_config_free(config);
    }
}

static void calls_are_checked(void **state)
{
    (void)state;
    const salvo_delivered *messages;
    salvo_consumer_stats s = {0};
    size_t n;
    salvo_consumer *c = open_with(10);
    assert_int_equal(salvo_consumer_poll(c, 0, NULL, 1, &n), SALVO_ERR_INVALID);
    assert_int_equal(salvo_consumer_poll(c, 0, &messages, 1, NULL), SALVO_ERR_INVALID);
    assert_int_equal(salvo_consumer_poll(c, 60000, &messages, 0, &n), SALVO_ERR_TIMEOUT);
    assert_int_equal(salvo_consumer_ack(c, NULL, 1), SALVO_ERR_INVALID);
    assert_int_equal(salvo_consumer_seek(c, "t", 0, 0), SALVO_ERR_UNSUPPORTED);
    assert_int_equal(salvo_consumer_seek(c, "t", -1, 0), SALVO_ERR_INVALID);
    assert_int_equal(salvo_consumer_seek(c, "x", 0, 0), SALVO_ERR_UNKNOWN_TOPIC);
    assert_int_equal(salvo_consumer_pause(c, NULL, 0), SALVO_ERR_INVALID);
    assert_int_equal(salvo_consumer_pause(c, "t", -2), SALVO_ERR_INVALID);
    assert_int_equal(salvo_consumer_lag(c, NULL, 1, 0), SALVO_ERR_INVALID);
    assert_int_equal(salvo_consumer_get_stats(c, &s), SALVO_ERR_INVALID);
    assert_int_equal(salvo_consumer_fd(c), 0);
    assert_int_equal(salvo_consumer_close(c, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bounds_and_passing_on),
        cmocka_unit_test(a_poll_gives_no_more_than_the_setting),
        cmocka_unit_test(ids_are_never_reused),
        cmocka_unit_test(a_claim_that_ends_takes_its_messages),
        cmocka_unit_test(tags_of_an_ended_claim_are_not_passed_on),
        cmocka_unit_test(others_visit_while_a_poll_waits),
        cmocka_unit_test(a_full_hand_waits_for_room),
        cmocka_unit_test(a_wake_before_the_poll_counts),
        cmocka_unit_test(close_ends_a_poll_that_waits),
        cmocka_unit_test(options_are_checked),
        cmocka_unit_test(who_decides_on_commits),
        cmocka_unit_test(calls_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
