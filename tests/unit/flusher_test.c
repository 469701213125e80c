/* SPDX-License-Identifier: Apache-2.0
 *
 * The flusher, stepped by hand: when batches leave, what retries and re-opens do to order, what
 * expires when, what is held, and who pays for a full share.
 */
#include "engine_fixture.h"

static uint64_t acknowledged(engine *e)
{
    return engine_ledger(e, SALVO_ALL_TOPICS).acknowledged;
}

static void linger_is_exact(void **state)
{
    (void)state;
    engine e;
    engine_open(&e, NULL);
    engine_send(&e, -1, 1, 3);
    engine_step(&e, 0);
    engine_step(&e, 1 * MS - 1);
    assert_int_equal(engine_stats(&e).batches, 0);
    engine_step(&e, 1);
    assert_int_equal(engine_stats(&e).closed_by_linger, 1);
    assert_int_equal(acknowledged(&e), 3);
    engine_expect(&e, 0, 1, 3);
    engine_close(&e, 0);
}

static void linger_is_the_topics_own(void **state)
{
    (void)state;
    engine e;
    engine_open(&e, NULL);
    const salvo_topic_options options = {.size = sizeof options, .linger_us = 50};
    assert_int_equal(salvo_topic_open(e.p, "quick", &options, &e.topic), 0);
    engine_send(&e, -1, 1, 1);
    engine_step(&e, 50 * US - 1);
    assert_int_equal(acknowledged(&e), 0);
    engine_step(&e, 1);
    assert_int_equal(acknowledged(&e), 1);
    engine_close(&e, 0);
}

static void closes_by_count_and_bytes(void **state)
{
    (void)state;
    engine e;
    char value[600] = {0};
    engine_open(&e, (const char *[]){"batch_messages", "4", "batch_bytes", "1000", NULL});
    engine_send(&e, -1, 1, 9);
    engine_step(&e, 0);
    assert_int_equal(engine_stats(&e).closed_by_count, 2);
    engine_step(&e, 0); /* one batch of a partition is out at a time */
    assert_int_equal(acknowledged(&e), 8); /* the ninth lingers */
    engine_step(&e, 1 * MS);
    for (int i = 0; i < 3; i++)
        assert_int_equal(salvo_send_fire_and_forget(e.p, e.topic, NULL, 0, value, sizeof value),
                         0);
    engine_step(&e, 0);
    engine_step(&e, 0);
    assert_int_equal(engine_stats(&e).closed_by_bytes, 2);
    assert_int_equal(acknowledged(&e), 11);
    engine_step(&e, 1 * MS);
    assert_int_equal(acknowledged(&e), 12);
    engine_close(&e, 0);
}

/* A record without a key that finds its batch full does not stay behind on that partition. */
static void full_batches_leave_no_stragglers(void **state)
{
    (void)state;
    engine e;
    char value[300] = {0};
    engine_open(&e, (const char *[]){"memory_partitions", "4", "batch_bytes", "1000", NULL});
    for (int i = 0; i < 10; i++) /* three fill a batch */
        assert_int_equal(salvo_send_fire_and_forget(e.p, e.topic, NULL, 0, value, sizeof value),
                         0);
    engine_step(&e, 0);
    assert_int_equal(engine_stats(&e).closed_by_bytes, 3);
    engine_step(&e, 1 * MS);
    assert_int_equal(engine_stats(&e).closed_by_linger, 1);
    assert_int_equal(acknowledged(&e), 10);
    engine_close(&e, 0);
}

/* A topic that is opened and sent to after the round has looked at the topics. */
static void a_first_topic_has_a_share(void **state)
{
    (void)state;
    engine e = {.now_ns = SECOND};
    salvo_config *config = engine_config(NULL);
    salvo_producer_hooks hooks = {.clock = engine_now, .clock_context = &e, .stepped = true};
    assert_int_equal(salvo_producer_open(config, NULL, &hooks, &e.p), 0);
    salvo_config_free(config);
    engine_step(&e, 0);
    assert_int_equal(salvo_topic_open(e.p, "t", NULL, &e.topic), 0);
    engine_send(&e, -1, 1, 1);
    salvo_flusher_drain(&e.p->flushers[0]);
    assert_int_equal(e.p->topics.entries[e.topic].full, 0);
    engine_step(&e, 1 * MS);
    assert_int_equal(acknowledged(&e), 1);
    engine_close(&e, 0);
}

/* While a little comes: half the linger between passes, at least 1 ms, at most a quarter park. */
static void pauses_follow_linger(void **state)
{
    (void)state;
    static const struct {
        const char *linger_us;
        uint64_t pause_ns;
    } cases[] = {{"0", 1 * MS}, {"1000", 1 * MS}, {"4000", 2 * MS}, {"100000", 5 * MS}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        engine e;
        engine_open(&e, (const char *[]){"linger_us", cases[i].linger_us, "idle_strategy",
                                         "adaptive", "park_max_us", "20000", NULL});
        for (unsigned n = 0; n < 20; n++) {
            engine_send(&e, -1, n, 1);
            engine_step(&e, 10 * MS);
        }
        assert_int_equal(e.p->flushers[0].drain_every_ns, cases[i].pause_ns);
        engine_settle(&e, 10 * MS, 20);
        engine_close(&e, 0);
    }
}

static bool offers_after(const char *wake, const char *linger_us, unsigned at_once,
                         uint64_t pause_ns)
{
    engine e;
    engine_open(&e, (const char *[]){"linger_us", linger_us, "idle_strategy", "adaptive", "wake",
                                     wake, NULL});
    for (unsigned n = 0; n < 20; n++) {
        engine_send(&e, -1, n, at_once);
        engine_step(&e, pause_ns);
        engine_step(&e, pause_ns); /* a pass that finds nothing changes nothing */
    }
    bool offers = salvo_flusher_offers(&e.p->flushers[0]);
    engine_settle(&e, 10 * MS, 20);
    engine_close(&e, 0);
    return offers;
}

/* wake=idle: messages that come one by one and do not linger wake it; others are looked for. */
static void thin_traffic_wakes(void **state)
{
    (void)state;
    assert_true(offers_after("idle", "0", 1, 1 * MS));
    assert_false(offers_after("none", "0", 1, 1 * MS));
    assert_false(offers_after("idle", "1000", 1, 1 * MS));
    assert_false(offers_after("idle", "0", 3, 1 * MS));
    assert_false(offers_after("idle", "0", 1, 20 * US)); /* 25,000 a second */
}

static void every_kind_of_send_is_sampled(void **state)
{
    (void)state;
    engine e;
    salvo_bytes values[2] = {{"v", 1}, {"w", 1}};
    salvo_message message = {.value = "v", .value_len = 1};
    engine_open(&e, (const char *[]){"enqueue_sample", "1", NULL});
    assert_int_equal(salvo_send_fire_and_forget(e.p, e.topic, NULL, 0, "v", 1), 0);
    assert_int_equal(salvo_send_batch_fire_and_forget(e.p, e.topic, values, 2), 2);
    assert_int_equal(salvo_send(e.p, e.topic, &message), 0);
    engine_settle(&e, 10 * MS, 20);
    assert_int_equal(engine_stats(&e).stage[SALVO_STAGE_ENQUEUE].count, 3);
    engine_close(&e, 0);
}

static void flush_cuts_linger_short(void **state)
{
    (void)state;
    engine e;
    engine_open(&e, (const char *[]){"linger_us", "60000000", NULL});
    engine_send(&e, -1, 1, 5);
    engine_step(&e, 0);
    assert_int_equal(acknowledged(&e), 0);
    assert_int_equal(salvo_flush(e.p, 0), SALVO_ERR_TIMEOUT); /* asked for; nobody has worked */
    engine_step(&e, 0);
    assert_int_equal(acknowledged(&e), 5);
    assert_int_equal(engine_stats(&e).closed_by_waiter, 1);
    assert_int_equal(e.p->flushers[0].flush_done, e.p->flushers[0].flush_wanted);
    engine_close(&e, 0);
}

/* A flush waits for what was accepted before it, and not for what comes later. */
static void flush_waits_for_the_past_only(void **state)
{
    (void)state;
    engine e;
    engine_open(&e, (const char *[]){"memory_script", "delay:1s", "linger_us", "60000000", NULL});
    salvo_flusher *f = &e.p->flushers[0];
    engine_send(&e, -1, 1, 1);
    assert_int_equal(salvo_flush(e.p, 0), SALVO_ERR_TIMEOUT);
    engine_step(&e, 0);
    engine_send(&e, -1, 2, 1);
    engine_step(&e, 1 * SECOND - 1);
    assert_int_not_equal(f->flush_done, f->flush_wanted);
    engine_step(&e, 1);
    assert_int_equal(f->flush_done, f->flush_wanted);
    assert_int_equal(acknowledged(&e), 1);
    assert_int_equal(engine_ledger(&e, e.topic).pending, 1);
    engine_close(&e, SALVO_ERR_DROPPED);
}

static void a_flush_reaches_held_messages(void **state)
{
    (void)state;
    engine e;
    engine_open(&e, (const char *[]){"memory_script", "down:100ms", "linger_us", "60000000",
                                     NULL});
    engine_send(&e, -1, 1, 3);
    engine_step(&e, 0);
    assert_int_equal(salvo_flush(e.p, 0), SALVO_ERR_TIMEOUT);
    engine_step(&e, 1 * MS);
    for (int i = 0; i < 60; i++)
        engine_step(&e, 10 * MS);
    assert_int_equal(acknowledged(&e), 3);
    engine_close(&e, 0);
}

static void retries_back_off_and_keep_order(void **state)
{
    (void)state;
    engine e;
    engine_open(&e, (const char *[]){"memory_script", "fail:transient*2", "batch_messages", "2",
                                     "retry_backoff_ms", "100", NULL});
    engine_send(&e, 0, 1, 6);
    engine_step(&e, 0); /* three batches; the first comes back, the others must wait for it */
    assert_int_equal(acknowledged(&e), 0);
    engine_step(&e, 74 * MS); /* at most a quarter is taken off the pause */
    assert_int_equal(engine_stats(&e).retries, 0);
    engine_step(&e, 26 * MS);
    assert_int_equal(engine_stats(&e).retries, 1);
    assert_int_equal(acknowledged(&e), 0);
    engine_step(&e, 100 * MS); /* doubled: at least 150 ms */
    assert_int_equal(engine_stats(&e).retries, 1);
    engine_settle(&e, 20 * MS, 20);
    assert_int_equal(engine_stats(&e).retries, 2);
    engine_expect(&e, 0, 1, 6);
    engine_close(&e, 0);
}

/* A part of a batch fails for a while, and only that part comes again. */
static void part_of_a_batch_is_retried(void **state)
{
    (void)state;
    engine e;
    engine_open(&e, (const char *[]){"memory_script", "partial:2:transient", NULL});
    engine_send(&e, 0, 1, 5);
    engine_step(&e, 1 * MS);
    assert_int_equal(acknowledged(&e), 2);
    engine_settle(&e, 50 * MS, 20);
    engine_expect(&e, 0, 1, 5);
    engine_close(&e, 0);
}

static void fatal_loses_nothing(void **state)
{
    (void)state;
    engine e;
    engine_open(&e, (const char *[]){"memory_script", "ok; delay:5ms; fatal; ok; fatal",
                                     "batch_messages", "3", "memory_partitions", "2", NULL});
    for (unsigned i = 0; i < 10; i++) {
        engine_send(&e, 0, 1 + 3 * i, 3);
        engine_send(&e, 1, 101 + 3 * i, 3);
        engine_step(&e, 1 * MS);
    }
    engine_settle(&e, 20 * MS, 200);
    assert_int_equal(engine_stats(&e).reopens, 2);
    engine_expect(&e, 0, 1, 30);
    engine_expect(&e, 1, 101, 30);
    engine_close(&e, 0);
}

static void ttl_is_exact_before_submit(void **state)
{
    (void)state;
    engine e;
    engine_open(&e, (const char *[]){"linger_us", "20000", NULL});
    salvo_message m = {.value = "x", .value_len = 1, .ttl_ms = 20};
    assert_int_equal(salvo_send(e.p, e.topic, &m), 0); /* leaves and expires at the same time */
    m.ttl_ms = 21;
    assert_int_equal(salvo_send(e.p, e.topic, &m), 0);
    for (int i = 0; i < 13; i++) /* the last look at what expires is 1 ms before the linger */
        engine_step(&e, i == 0 ? 7 * MS : 1 * MS);
    engine_step(&e, 1 * MS);
    salvo_ledger l = engine_ledger(&e, e.topic);
    assert_int_equal(l.expired, 1);
    assert_int_equal(l.acknowledged, 1);
    engine_close(&e, SALVO_ERR_DROPPED);
}

static void the_delivery_deadline_holds_while_down(void **state)
{
    (void)state;
    engine e;
    engine_open(&e, (const char *[]){"memory_script", "ok; down:10s", "delivery_timeout_ms",
                                     "2000", "linger_us", "0", NULL});
    engine_send(&e, 0, 1, 1);
    engine_step(&e, 0);
    engine_send(&e, 0, 2, 3);
    for (int i = 0; i < 199; i++)
        engine_step(&e, 10 * MS);
    assert_int_equal(engine_ledger(&e, e.topic).expired, 0);
    engine_step(&e, 10 * MS);
    engine_step(&e, 10 * MS);
    assert_int_equal(engine_ledger(&e, e.topic).expired, 3);
    assert_non_null(strstr(engine_stats(&e).broker_state, "down"));
    for (int i = 0; i < 100; i++)
        engine_step(&e, 100 * MS);
    engine_expect(&e, 0, 1, 1); /* what expired is not delivered later */
    engine_close(&e, SALVO_ERR_DROPPED);
}

static void held_messages_expire_too(void **state)
{
    (void)state;
    engine e;
    engine_open(&e, (const char *[]){"memory_script", "down:10s", NULL});
    salvo_message m = {.value = "1", .value_len = 1, .ttl_ms = 100};
    assert_int_equal(salvo_send(e.p, e.topic, &m), 0);
    engine_send(&e, -1, 1, 2);
    for (int i = 0; i < 12; i++)
        engine_step(&e, 10 * MS);
    assert_int_equal(engine_ledger(&e, e.topic).expired, 1);
    engine_settle(&e, 100 * MS, 120);
    engine_expect(&e, 0, 1, 2);
    engine_close(&e, SALVO_ERR_DROPPED);
}

static void held_messages_are_routed_in_order(void **state)
{
    (void)state;
    engine e;
    engine_open(&e, (const char *[]){"memory_script", "down:50ms", "batch_messages", "4",
                                     "memory_partitions", "3", NULL});
    for (unsigned i = 0; i < 8; i++) {
        engine_send(&e, 2, 1 + 5 * i, 5);
        engine_step(&e, 1 * MS);
    }
    assert_int_equal(acknowledged(&e), 0);
    engine_step(&e, 45 * MS);
    engine_send(&e, 2, 41, 5); /* behind those that were held */
    engine_settle(&e, 10 * MS, 20);
    engine_expect(&e, 2, 1, 45);
    engine_close(&e, 0);
}

static void a_partition_that_is_not_there(void **state)
{
    (void)state;
    engine e;
    salvo_report report;
    engine_open(&e, (const char *[]){"memory_partitions", "2", NULL});
    salvo_message m = {.value = "x", .value_len = 1, .partition_plus1 = 3, .report = 1,
                       .opaque = 42};
    assert_int_equal(salvo_send(e.p, e.topic, &m), 0);
    engine_send(&e, 1, 1, 2);
    engine_settle(&e, 1 * MS, 5);
    assert_int_equal(salvo_poll_reports(e.p, &report, 1), 1);
    assert_int_equal(report.status, SALVO_ERR_PARTITION);
    assert_int_equal(report.opaque, 42);
    assert_int_equal(engine_ledger(&e, e.topic).failed, 1);
    engine_expect(&e, 1, 1, 2);
    engine_close(&e, SALVO_ERR_DROPPED);
}

/* A topic that is not delivered fills its share; its senders meet their policy, others flow. */
static void a_full_share_is_its_topics_own(void **state)
{
    (void)state;
    engine e;
    static char value[10000];
    salvo_topic other;
    salvo_message m = {.value = value, .value_len = sizeof value, .partition_plus1 = 1};
    engine_open(&e, (const char *[]){"memory_script", "delay:3s", "full_policy", "fail",
                                     "buffer_bytes", "16777216", "memory_partitions", "2", NULL});
    assert_int_equal(salvo_topic_open(e.p, "other", NULL, &other), 0);
    int err = 0;
    for (int i = 0; i < 2000 && (err = salvo_send(e.p, e.topic, &m)) == 0; i++)
        engine_step(&e, 1 * MS);
    assert_int_equal(err, SALVO_ERR_FULL);
    assert_int_equal(engine_ledger(&e, e.topic).refused_full, 1);
    assert_int_equal(engine_ledger(&e, e.topic).acknowledged, 0);
    assert_int_equal(e.p->topics.entries[e.topic].full, 1);
    assert_int_equal(e.p->topics.entries[other].full, 0);
    for (int i = 0; i < 20; i++)
        assert_int_equal(salvo_send(e.p, other, &m), 0);
    engine_settle(&e, 10 * MS, 3000);
    assert_int_equal(e.p->topics.entries[e.topic].full, 0);
    assert_int_equal(salvo_send(e.p, e.topic, &m), 0);
    assert_int_equal(engine_ledger(&e, other).acknowledged, 20);
    engine_settle(&e, 1 * MS, 5);
    engine_close(&e, 0);
}

static void close_drops_what_is_pending(void **state)
{
    (void)state;
    engine e;
    engine_open(&e, (const char *[]){"memory_script", "delay:60s", "batch_messages", "2", NULL});
    engine_send(&e, 0, 1, 7); /* out, ready, open */
    engine_step(&e, 0);
    engine_send(&e, 0, 8, 2); /* in the ring */
    salvo_close_report report = engine_close(&e, SALVO_ERR_DROPPED);
    assert_int_equal(report.ledger.dropped, 9);
    assert_int_equal(report.stuck_claims, 0);
}

/* The null driver as a library that wants bursts, and answers when it is told. */
static bool answers;
static unsigned hurried;

static void count_flush(void *handle)
{
    (void)handle;
    hurried++;
}

static uint32_t bursting_capabilities(const salvo_config *config)
{
    return salvo_driver_null.capabilities(config) | SALVO_CAP_OWN_RETRIES;
}

static void at_most_eight(const salvo_config *config, salvo_driver_burst *burst)
{
    (void)config;
    *burst = (salvo_driver_burst){.bytes = 1000, .messages = 8, .message_bytes = 10};
}

static int told_poll(void *handle, salvo_driver_outcome *outcomes, uint32_t max)
{
    return answers ? salvo_driver_null.poll(handle, outcomes, max) : 0;
}

static void open_bursting(engine *e, salvo_driver_ops *ops, const char *batch_messages,
                          const char *linger_us)
{
    *ops = salvo_driver_null;
    ops->capabilities = bursting_capabilities;
    ops->burst = at_most_eight;
    ops->poll = told_poll;
    ops->flush = count_flush;
    *e = (engine){.now_ns = SECOND};
    salvo_config *config = engine_config((const char *[]){
        "message_broker", "null", "null_partitions", "2", "batch_messages", batch_messages,
        "linger_us", linger_us, NULL});
    salvo_producer_hooks hooks = {.clock = engine_now, .clock_context = e, .stepped = true,
                                  .driver = ops};
    assert_int_equal(salvo_producer_open(config, NULL, &hooks, &e->p), 0);
    salvo_config_free(config);
    assert_int_equal(salvo_topic_open(e->p, "t", NULL, &e->topic), 0);
    answers = false;
    hurried = 0;
}

/* What is out stays alone until it came back; another partition does not wait for it. */
static void bursts_wait_for_their_outcome(void **state)
{
    (void)state;
    engine e;
    salvo_driver_ops ops;
    open_bursting(&e, &ops, "3", "1000");
    engine_send(&e, 0, 1, 15); /* five batches; a burst has room for two */
    engine_step(&e, 0);
    assert_int_equal(engine_stats(&e).in_flight_batches, 2);
    engine_send(&e, 1, 1, 3);
    engine_step(&e, 10 * US);
    assert_int_equal(engine_stats(&e).in_flight_batches, 3);
    engine_send(&e, 1, 4, 3);
    engine_step(&e, 10 * US); /* there is room for it, but it is another round */
    assert_int_equal(engine_stats(&e).in_flight_batches, 3);
    answers = true;
    engine_step(&e, 10 * US); /* all come back, and the next leave in the same round */
    assert_int_equal(acknowledged(&e), 9);
    assert_int_equal(engine_stats(&e).in_flight_batches, 3);
    engine_settle(&e, 10 * US, 3);
    assert_int_equal(acknowledged(&e), 21);
    engine_close(&e, 0);
}

/* The library is hurried where nothing lingers long, or where more waits behind the burst. */
static void bursts_are_hurried_where_it_helps(void **state)
{
    (void)state;
    static const struct {
        const char *linger_us;
        unsigned sent, hurried;
    } cases[] = {{"1000", 3, 1}, {"1000", 2, 1}, {"5000", 3, 0}, {"5000", 2, 0}, {"5000", 15, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        engine e;
        salvo_driver_ops ops;
        open_bursting(&e, &ops, "3", cases[i].linger_us);
        engine_send(&e, 0, 1, cases[i].sent);
        engine_step(&e, 0);
        engine_step(&e, 500 * US); /* a pass that finds nothing changes nothing */
        engine_step(&e, 5 * MS);   /* two linger */
        assert_int_equal(hurried, cases[i].hurried);
        answers = true;
        engine_settle(&e, 10 * US, 4);
        engine_close(&e, 0);
    }
}

/* Bytes count with what each message costs beside; and a batch that is too large for a burst goes
 * alone. */
static void a_burst_is_bounded_by_bytes(void **state)
{
    (void)state;
    static const struct {
        const char *batch_messages;
        size_t value_bytes, sent;
        uint64_t out;
    } cases[] = {{"2", 230, 8, 2}, /* of 480 B, two fit into 1,000 */
                 {"2", 241, 8, 1}, /* of 502 B */
                 {"20", 600, 40, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        engine e;
        salvo_driver_ops ops;
        char value[600] = {0};
        open_bursting(&e, &ops, cases[i].batch_messages, "1000");
        salvo_message m = {.value = value, .value_len = cases[i].value_bytes, .partition_plus1 = 1};
        for (size_t k = 0; k < cases[i].sent; k++)
            assert_int_equal(salvo_send(e.p, e.topic, &m), 0);
        engine_step(&e, 0);
        assert_int_equal(engine_stats(&e).in_flight_batches, cases[i].out);
        answers = true;
        engine_settle(&e, 10 * US, 6);
        assert_int_equal(acknowledged(&e), cases[i].sent);
        engine_close(&e, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linger_is_exact),
        cmocka_unit_test(linger_is_the_topics_own),
        cmocka_unit_test(closes_by_count_and_bytes),
        cmocka_unit_test(full_batches_leave_no_stragglers),
        cmocka_unit_test(a_first_topic_has_a_share),
        cmocka_unit_test(pauses_follow_linger),
        cmocka_unit_test(thin_traffic_wakes),
        cmocka_unit_test(every_kind_of_send_is_sampled),
        cmocka_unit_test(flush_cuts_linger_short),
        cmocka_unit_test(flush_waits_for_the_past_only),
        cmocka_unit_test(a_flush_reaches_held_messages),
        cmocka_unit_test(retries_back_off_and_keep_order),
        cmocka_unit_test(part_of_a_batch_is_retried),
        cmocka_unit_test(fatal_loses_nothing),
        cmocka_unit_test(bursts_wait_for_their_outcome),
        cmocka_unit_test(bursts_are_hurried_where_it_helps),
        cmocka_unit_test(a_burst_is_bounded_by_bytes),
        cmocka_unit_test(ttl_is_exact_before_submit),
        cmocka_unit_test(the_delivery_deadline_holds_while_down),
        cmocka_unit_test(held_messages_expire_too),
        cmocka_unit_test(held_messages_are_routed_in_order),
        cmocka_unit_test(a_partition_that_is_not_there),
        cmocka_unit_test(a_full_share_is_its_topics_own),
        cmocka_unit_test(close_drops_what_is_pending),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
