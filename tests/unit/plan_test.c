/* SPDX-License-Identifier: Apache-2.0
 *
 * Plans: the engine in sizes against the engine itself on the same arrivals; the same seed gives
 * the same result; queues behave as theory says; outages cost what arithmetic says.
 */
#include "engine_fixture.h"
#include "plan/draw.h"
#include "plan/sizes.h"
#include "thread.h"
#include <salvo/plan.h>

/* ---- Sizes against bytes ---- */

typedef struct twin { /* two producers on the null driver under one clock */
    engine real, sizes;
    salvo_thread *thread;
} twin;

static const char *const settings[] = {"message_broker", "null", "null_partitions", "3",
                                       "linger_us", "3000", "batch_bytes", "16384",
                                       "batch_messages", "40", "full_policy", "fail",
                                       "buffer_bytes", "16777216", "max_message_bytes", "20000",
                                       "ring_bytes", "131072", "idle_strategy", "adaptive", NULL};

static void open_twin(twin *t)
{
    engine *engines[] = {&t->real, &t->sizes};
    for (int i = 0; i < 2; i++) {
        engine *e = engines[i];
        *e = (engine){.now_ns = SECOND};
        salvo_config *config = engine_config(settings);
        salvo_producer_hooks hooks = {.clock = engine_now, .clock_context = e, .stepped = true,
                                      .cores = 1, .sizes_only = i == 1};
        if (salvo_producer_open(config, NULL, &hooks, &e->p) != 0)
            fail_msg("%s", salvo_last_error());
        salvo_config_free(config);
        assert_int_equal(salvo_topic_open(e->p, "t", NULL, &e->topic), 0);
    }
    int err;
    t->thread = salvo_thread_find(t->sizes.p, &err);
    assert_non_null(t->thread);
}

static void send_both(twin *t, uint32_t key, uint32_t bytes)
{
    static unsigned char value[20000];
    unsigned char text[8];
    salvo_ring_claim claim;
    salvo_sizes_key(key, sizeof text, text);
    int real = salvo_send_fire_and_forget(t->real.p, 0, key != 0 ? text : NULL,
                                          key != 0 ? sizeof text : 0, value, bytes);
    salvo_sizes_record record = {.stamp = t->sizes.now_ns, .key = key, .key_len = 8,
                                 .length = 16 + bytes + (key != 0 ? 8 : 0)};
    bool full = atomic_load(&t->sizes.p->topics.entries[0].full) != 0;
    int sizes = full ? SALVO_RING_FULL
                     : salvo_sizes_claim(t->sizes.p->flushers[0].sizes, 0, &record, &claim);
    assert_int_equal(real == 0, sizes == 0);
    if (sizes == 0)
        salvo_thread_accept(t->thread, 0, 1);
    else
        salvo_flusher_kick(&t->sizes.p->flushers[0]); /* as salvo_send_full() does */
}

static void step_both(twin *t, uint64_t after_ns)
{
    t->real.now_ns += after_ns;
    t->sizes.now_ns += after_ns;
    salvo_flusher *a = &t->real.p->flushers[0], *b = &t->sizes.p->flushers[0];
    assert_int_equal(salvo_flusher_work(a), salvo_flusher_work(b));
    const salvo_flusher_counters *x = &a->counters, *y = &b->counters;
    assert_int_equal(x->batches, y->batches); /* as many batches, closed for the same reason */
    assert_int_equal(x->closed_by_bytes, y->closed_by_bytes);
    assert_int_equal(x->closed_by_count, y->closed_by_count);
    assert_int_equal(x->closed_by_linger, y->closed_by_linger);
    assert_int_equal(x->drained, y->drained);
    assert_int_equal(x->in_flight_messages, y->in_flight_messages);
    assert_int_equal(a->wake_at_ns, b->wake_at_ns); /* and the next round is due at one time */
    assert_int_equal(a->drain_every_ns, b->drain_every_ns);
    assert_int_equal(a->pool.arena.used, b->pool.arena.used);
    assert_int_equal(a->topics[0].in_batches, b->topics[0].in_batches);
    for (int32_t i = 0; i < a->topics[0].part_count; i++) { /* in the same partitions */
        const salvo_batch *p = a->topics[0].parts[i].open, *q = b->topics[0].parts[i].open;
        assert_int_equal(p != NULL, q != NULL);
        if (p != NULL)
            assert_int_equal(p->driver.count, q->driver.count);
    }
}

static void sizes_behave_as_bytes(void **state)
{
    (void)state;
    for (uint32_t seed = 1; seed <= 5; seed++) {
        twin t;
        open_twin(&t);
        salvo_draw d = salvo_draw_stream(seed, 1, 1);
        for (int i = 0; i < 3000; i++) {
            uint64_t burst = salvo_draw_below(&d, 30) == 0 ? 400 : salvo_draw_below(&d, 12);
            for (uint64_t k = 0; k < burst; k++)
                send_both(&t, (uint32_t)salvo_draw_below(&d, 50),
                          (uint32_t)salvo_draw_below(&d, salvo_draw_below(&d, 30) == 0 ? 19000
                                                                                       : 300));
            step_both(&t, salvo_draw_below(&d, 2000) * US);
        }
        salvo_ledger a = engine_ledger(&t.real, SALVO_ALL_TOPICS),
                     b = engine_ledger(&t.sizes, SALVO_ALL_TOPICS);
        assert_int_equal(a.accepted, b.accepted);
        assert_int_equal(a.acknowledged, b.acknowledged);
        assert_true(t.real.p->flushers[0].counters.closed_by_linger > 100);
        assert_true(t.real.p->flushers[0].counters.closed_by_count > 10);
        (void)engine_close(&t.real, a.pending != 0 ? SALVO_ERR_DROPPED : 0);
        (void)engine_close(&t.sizes, b.pending != 0 ? SALVO_ERR_DROPPED : 0);
    }
}

/* ---- Simulations ---- */

typedef struct setup {
    salvo_plan_run run;
    salvo_plan_topic topic;
    salvo_plan_outage outage;
    int64_t size;
    salvo_config *config;
} setup;

static void prepare(setup *s, uint64_t rate, const char *const *pairs)
{
    *s = (setup){.size = 100};
    bool idle_told = false;
    s->config = engine_config(pairs);
    for (const char *const *p = pairs; *p != NULL; p += 2)
        idle_told |= strcmp(*p, "idle_strategy") == 0;
    if (!idle_told) /* the fixture's `busy` makes millions of rounds a second */
        assert_int_equal(salvo_config_set(s->config, "idle_strategy", "adaptive"), 0);
    s->topic = (salvo_plan_topic){.rate_per_s = rate, .value_bytes = {&s->size, 1}};
    s->run = (salvo_plan_run){.size = sizeof s->run, .config = s->config, .seed = 1,
                              .traffic = {.topics = &s->topic, .topic_count = 1, .threads = 2,
                                          .arrivals = SALVO_PLAN_POISSON},
                              .broker = {.window = 5, .servers = 1, .service = {MS, 0, 0}},
                              .host = {.cores = 2},
                              .warmup_ns = SECOND, .duration_ns = 4 * SECOND};
}

static void simulate(const setup *s, salvo_plan_result *r)
{
    int err = salvo_plan_simulate(&s->run, r);
    if (err != 0)
        fail_msg("%s: %s", salvo_strerror(err), salvo_last_error());
    assert_int_equal(r->ledger.pending, r->ledger.pending_counted);
}

static const char *const kafka[] = {"message_broker", "kafka", "linger_us", "2000",
                                    "full_policy", "fail", NULL};

static void same_seed_same_bytes(void **state)
{
    static const int64_t residual[] = {-300000, 0, 900000}, late[] = {0, 50000, 400000};
    (void)state;
    setup s;
    salvo_plan_result a, b, c;
    prepare(&s, 30000, kafka);
    s.topic.keys = 500;
    s.topic.zipf = 1;
    s.run.broker.residual_ns = (salvo_plan_table){residual, 3};
    s.run.broker.stalls_per_hour = 3600;
    s.run.broker.stall_ns = (salvo_plan_table){late, 3};
    s.run.broker.partitions = 4;
    s.run.host = (salvo_plan_host){.cores = 2, .app_busy_permille = 500, .round_ns = 1500,
                                   .flusher = {4000, 60, 90000}, .library = {9000, 300, 250000},
                                   .send_ps = 80000, .overshoot_ns = {late, 3}};
    s.outage = (salvo_plan_outage){.from_ns = SECOND, .for_ns = SECOND};
    s.run.outages = &s.outage;
    s.run.outage_count = 1;
    simulate(&s, &a);
    simulate(&s, &b);
    assert_int_equal(a.window_count, b.window_count);
    assert_memory_equal(a.windows, b.windows, a.window_count * sizeof *a.windows);
    salvo_plan_window *of_a = a.windows, *of_b = b.windows;
    a.windows = b.windows = NULL;
    assert_memory_equal(&a, &b, sizeof a);
    free(of_a);
    free(of_b);
    s.run.seed = 2; /* and the seed does matter */
    simulate(&s, &c);
    assert_int_not_equal(a.ledger.offered, c.ledger.offered);
    salvo_plan_result_free(&c);
    salvo_config_free(s.config);
}

/* One message a request, one server: M/D/1, whose mean wait is rho * service / 2 (1 - rho). A
 * flusher that is always awake adds nothing, so latency is wait + service: 1 ms and at a load of
 * 70 % 1.167 ms more. The median of such a wait is below its mean. */
static void queues_as_theory_says(void **state)
{
    static const char *const pairs[] = {"message_broker", "redis", "linger_us", "0",
                                        "batch_messages", "1", "idle_strategy", "busy",
                                        "buffer_bytes", "268435456", NULL};
    (void)state;
    setup s;
    salvo_plan_result r;
    prepare(&s, 700, pairs);
    s.run.broker.window = 1000;
    s.run.host.round_ns = 20000; /* it never sleeps: 20 us are the most that it adds */
    s.run.duration_ns = 40 * SECOND;
    simulate(&s, &r);
    assert_in_range(r.server_busy_permille, 680, 720);
    assert_in_range(r.p50_ns, 1500 * US, 2167 * US);
    assert_in_range(r.p99_ns, 6 * MS, 9 * MS); /* M/D/1 at 0.7: 7.3 ms */
    salvo_plan_result_free(&r);
    s.topic.rate_per_s = 1300; /* more than the server can do */
    s.run.duration_ns = 30 * SECOND;
    s.run.window_ns = 5 * SECOND;
    simulate(&s, &r);
    assert_true(r.growing);
    assert_in_range(r.ledger.acknowledged, 29900, 30001);
    salvo_plan_result_free(&r);
    salvo_config_free(s.config);
}

/* A constant flow whose latency is linger plus service, nothing else: each batch waits its linger
 * from its oldest message on, and 1 ms for the broker. */
static void latency_by_hand(void **state)
{
    static const char *const pairs[] = {"message_broker", "redis", "linger_us", "10000",
                                        "idle_strategy", "busy", NULL};
    (void)state;
    setup s;
    salvo_plan_result r;
    prepare(&s, 1000, pairs);
    s.run.traffic.arrivals = SALVO_PLAN_CONSTANT;
    s.run.host.round_ns = 10000;
    simulate(&s, &r);
    assert_in_range(r.max_ns, 11 * MS, 11 * MS + 50 * US);
    assert_in_range(r.p50_ns, 5 * MS, 7 * MS);
    assert_in_range(r.broker_p50_ns, MS, MS + 50 * US);
    assert_in_range(r.batches, 4000 / 11 - 2, 4000 / 10 + 2);
    assert_int_equal(r.closed_by_linger, r.batches);
    salvo_plan_result_free(&r);
    salvo_config_free(s.config);
}

/* The library's work is in the service time already, so it takes a core but no time of its own;
 * what the flusher does to give a batch away does. */
static void costs_by_hand(void **state)
{
    static const char *const pairs[] = {"message_broker", "kafka", "linger_us", "10000",
                                        "idle_strategy", "busy", NULL};
    (void)state;
    setup s;
    salvo_plan_result r;
    prepare(&s, 1000, pairs);
    s.run.traffic.arrivals = SALVO_PLAN_CONSTANT;
    s.run.host.round_ns = 10000;
    s.run.host.library.base_ns = 500 * US;
    s.run.host.library_request_ns = 200 * US;
    simulate(&s, &r);
    assert_in_range(r.max_ns, 11 * MS, 11 * MS + 50 * US);
    assert_in_range(r.library_busy_permille, 55, 75); /* 0.7 of each 11 ms */
    salvo_plan_result_free(&r);
    s.run.host.submit = (salvo_plan_cost){.base_ns = 500 * US, .per_record_ps = 10000000};
    simulate(&s, &r); /* ten or eleven records of 10 us */
    assert_in_range(r.max_ns, 11600 * US, 11600 * US + 60 * US);
    salvo_plan_result_free(&r);
    salvo_config_free(s.config);
}

/* The flusher looks once a millisecond, where 100 messages wait: ten batches, which leave as one
 * request. Where the library is hurried it is answered half a millisecond sooner, and so is
 * the one before it, for which it waits. */
static void bursts_by_hand(void **state)
{
    static const char *const pairs[] = {"message_broker", "kafka", "linger_us", "1000",
                                        "batch_messages", "10", "idle_strategy", "busy", NULL};
    (void)state;
    setup s;
    salvo_plan_result r;
    uint64_t p50_ns[2];
    prepare(&s, 100000, pairs);
    s.run.duration_ns = s.run.warmup_ns = SECOND;
    s.run.broker.service.base_ns = 800 * US;
    s.run.host.round_ns = 1000;
    for (int i = 0; i < 2; i++) {
        s.run.broker.pushed_ns = i == 0 ? 0 : 500 * US;
        simulate(&s, &r);
        assert_in_range(r.requests, 900, 3750);
        assert_in_range(r.batches, 9750, 11500); /* some are closed by their linger */
        assert_int_equal(r.in_flight_peak, 1);
        p50_ns[i] = r.p50_ns;
        salvo_plan_result_free(&r);
    }
    assert_in_range(p50_ns[0] - p50_ns[1], 500 * US, 900 * US); /* its own, half the other's */
    s.run.broker.pushed_ns = 2 * MS; /* more than there is */
    assert_int_equal(salvo_plan_simulate(&s.run, &r), SALVO_ERR_INVALID);
    salvo_config_free(s.config);
}

/* 1,000 a second and ten times as many for 100 ms of each 10 s: where the run begins decides. Of a
 * trace with 2,000 in its sixth second likewise, and its turn begins anew after it. */
static void traffic_from_a_moment_on(void **state)
{
    static const char *const pairs[] = {"message_broker", "redis", "linger_us", "1000", NULL};
    static salvo_plan_arrival trace[2010];
    const struct {
        uint64_t from_ns, bursts, trace;
    } cases[] = {{0, 1000, 1}, {9 * SECOND, 1900, 1}, {4 * SECOND, 1000, 2000},
                 {8 * SECOND, 1000, 1}, {9 * SECOND + 500 * MS, 1000, 1}};
    (void)state;
    for (uint64_t i = 0; i < 2010; i++)
        trace[i] = (salvo_plan_arrival){.at_ns = i < 5 ? i * SECOND
                                                 : i < 2005 ? 5 * SECOND + (i - 5) * 500 * US
                                                            : (i - 1999) * SECOND,
                                        .value_bytes = 100};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        setup s;
        salvo_plan_result r;
        prepare(&s, 1000, pairs);
        s.run.duration_ns = s.run.warmup_ns = SECOND;
        s.run.traffic.from_ns = cases[i].from_ns;
        s.run.traffic.burst_permille = 10000;
        s.run.traffic.burst_ns = 100 * MS;
        s.run.traffic.burst_every_ns = 10 * SECOND;
        simulate(&s, &r);
        assert_in_range(r.ledger.offered, cases[i].bursts * 9 / 10, cases[i].bursts * 11 / 10);
        salvo_plan_result_free(&r);
        s.run.traffic.trace = trace;
        s.run.traffic.trace_count = 2010;
        s.run.traffic.trace_ns = 11 * SECOND;
        simulate(&s, &r);
        assert_in_range(r.ledger.offered, cases[i].trace, cases[i].trace + 1);
        salvo_plan_result_free(&r);
        salvo_config_free(s.config);
    }
}

/* 40,000 messages of 100 B a second are 4 MB: with one for each 400 kB there are ten a second, of
 * 20 ms: a fifth of the time, in which nothing is answered. */
static void pauses_by_hand(void **state)
{
    static const int64_t length_ns = 20 * 1000 * 1000;
    static const char *const pairs[] = {"message_broker", "redis", "linger_us", "1000", NULL};
    (void)state;
    setup s;
    salvo_plan_result calm, r;
    prepare(&s, 40000, pairs);
    s.run.broker.servers = 4;
    s.run.duration_ns = 10 * SECOND;
    simulate(&s, &calm);
    s.run.broker.pauses_per_tib = (UINT64_C(1) << 40) / 400000;
    s.run.broker.pause_ns = (salvo_plan_table){&length_ns, 1};
    simulate(&s, &r);
    assert_true(calm.p99_ns < 5 * MS);
    assert_in_range(r.p50_ns, 0, calm.p50_ns + MS); /* most messages meet none */
    assert_in_range(r.p99_ns, 17 * MS, 60 * MS);    /* one in five does */
    salvo_plan_result_free(&calm);
    salvo_plan_result_free(&r);
    salvo_config_free(s.config);
}

/* 20 pauses a second of work, of 20 ms: with 1,000 requests a second of 0.5 ms ten a second, with
 * requests of 10 us one in five seconds, which a percent of the messages does not meet. */
static void pauses_come_with_work(void **state)
{
    static const int64_t length_ns = 20 * 1000 * 1000;
    static const char *const pairs[] = {"message_broker", "redis", "linger_us", "1000", NULL};
    static const uint64_t base_ns[] = {500 * US, 10 * US};
    (void)state;
    for (int i = 0; i < 2; i++) {
        setup s;
        salvo_plan_result r;
        prepare(&s, 40000, pairs);
        s.run.broker.servers = 4;
        s.run.duration_ns = 10 * SECOND;
        s.run.broker.service = (salvo_plan_cost){.base_ns = base_ns[i]};
        s.run.broker.pauses_per_busy_hour = 20 * 3600;
        s.run.broker.pause_ns = (salvo_plan_table){&length_ns, 1};
        simulate(&s, &r);
        assert_in_range(r.p99_ns, i == 0 ? 17 * MS : 0, i == 0 ? 60 * MS : 5 * MS);
        salvo_plan_result_free(&r);
        salvo_config_free(s.config);
    }
}

/* A request of a message, half the time busy. In one slice of ten requests take 3 ms, one comes
 * each 2 ms: the 17th comes after 32 ms and is the last that is done in it, after 51. Were each
 * tenth request slow by itself, none would wait for long. */
static void pace_by_hand(void **state)
{
    static const uint32_t pace[] = {1000, 1000, 1000, 1000, 3000, 1000, 1000, 1000, 1000, 1000};
    static const char *const pairs[] = {"message_broker", "redis", "linger_us", "0",
                                        "batch_messages", "1", "idle_strategy", "busy", NULL};
    (void)state;
    setup s;
    salvo_plan_result r;
    prepare(&s, 500, pairs);
    s.run.traffic.arrivals = SALVO_PLAN_CONSTANT;
    s.run.host.round_ns = 10000;
    s.run.broker.window = 64;
    s.run.broker.pace_permille = pace;
    s.run.broker.pace_count = 10;
    s.run.broker.pace_slice_ns = 50 * MS;
    simulate(&s, &r);
    assert_in_range(r.p50_ns, MS, MS + 100 * US);
    assert_in_range(r.max_ns, 17 * MS, 20 * MS);
    salvo_plan_result_free(&r);
    s.run.broker.pace_slice_ns = 0;
    assert_int_equal(salvo_plan_simulate(&s.run, &r), SALVO_ERR_INVALID);
    salvo_config_free(s.config);
}

static uint64_t refused_with(const char *buffer, uint64_t rate, uint64_t *peak)
{
    const char *const pairs[] = {"message_broker", "redis", "linger_us", "5000", "full_policy",
                                 "fail", "buffer_bytes", buffer, NULL};
    setup s;
    salvo_plan_result r;
    prepare(&s, rate, pairs);
    s.run.traffic.arrivals = SALVO_PLAN_CONSTANT;
    s.run.broker.servers = 2;
    s.outage = (salvo_plan_outage){.from_ns = SECOND, .for_ns = 5 * SECOND};
    s.run.outages = &s.outage;
    s.run.outage_count = 1;
    s.run.duration_ns = 10 * SECOND;
    s.run.window_ns = SECOND; /* one of them ends with the outage */
    simulate(&s, &r);
    uint64_t refused = r.ledger.refused_full;
    assert_int_equal(r.ledger.offered, r.ledger.accepted + refused);
    *peak = 0;
    for (uint32_t i = 0; i < r.window_count; i++)
        if (r.windows[i].pending > *peak)
            *peak = r.windows[i].pending;
    if (refused == 0)
        assert_in_range(r.recovery_ns, 100 * MS, 3 * SECOND);
    salvo_plan_result_free(&r);
    salvo_config_free(s.config);
    return refused;
}

/* 5 s at 80,000 messages/s of 100 B are 400,000 messages; each takes 136 bytes of the arena, so
 * 54 MB are the least, and less must be refused; 5 s of 1.3 times as many need 1.3 times that. */
static void outage_by_hand(void **state)
{
    uint64_t peak;
    (void)state;
    assert_int_equal(refused_with("117440512", 80000, &peak), 0);
    assert_in_range(peak, 400000, 410000);
    assert_in_range(refused_with("52428800", 80000, &peak), 1000, 400000);
    assert_true(peak * 136 < 52428800);
    uint64_t little = refused_with("41943040", 80000, &peak);
    assert_true(refused_with("52428800", 80000, &peak) < little); /* more memory: fewer refused */
    assert_true(refused_with("52428800", 104000, &peak) >
                refused_with("52428800", 80000, &peak)); /* higher rate: more */
}

/* After 10 s without an answer TCP sends again 12.6 s after the first loss (200 ms, doubling). */
static void black_hole_by_hand(void **state)
{
    (void)state;
    setup s;
    salvo_plan_result r;
    prepare(&s, 1000, kafka);
    s.outage = (salvo_plan_outage){.from_ns = SECOND, .for_ns = 10 * SECOND,
                                   .kind = SALVO_PLAN_BLACK_HOLE};
    s.run.outages = &s.outage;
    s.run.outage_count = 1;
    s.run.duration_ns = 20 * SECOND;
    simulate(&s, &r);
    assert_in_range(r.recovery_ns, 2600 * MS, 2800 * MS);
    assert_in_range(r.oldest_ns, 12600 * MS, 12700 * MS);
    assert_int_equal(r.ledger.expired, 0);
    assert_int_equal(r.retries, 0); /* nothing is sent twice */
    salvo_plan_result_free(&r);
    s.outage.kind = SALVO_PLAN_REFUSE;
    simulate(&s, &r);
    assert_in_range(r.recovery_ns, 100 * MS, 200 * MS); /* reconnect_ns, and catching up */
    salvo_plan_result_free(&r);
    salvo_config_free(s.config);
}

/* The deadline of a message holds in an outage that is longer. */
static void deadline_in_outage(void **state)
{
    static const char *const pairs[] = {"message_broker", "redis", "linger_us", "1000",
                                        "delivery_timeout_ms", "3000", NULL};
    (void)state;
    setup s;
    salvo_plan_result r;
    prepare(&s, 1000, pairs);
    s.run.traffic.arrivals = SALVO_PLAN_CONSTANT;
    s.outage = (salvo_plan_outage){.from_ns = SECOND, .for_ns = 5 * SECOND};
    s.run.outages = &s.outage;
    s.run.outage_count = 1;
    s.run.duration_ns = 8 * SECOND;
    simulate(&s, &r);
    assert_in_range(r.ledger.expired, 2000, 2200); /* 5.1 s minus 3 s */
    salvo_plan_result_free(&r);
    salvo_config_free(s.config);
}

/* A thread that waits under `block` keeps its order and is counted; nothing is lost. */
static void blocked_senders(void **state)
{
    static const char *const pairs[] = {"message_broker", "redis", "linger_us", "1000",
                                        "full_policy", "block", "buffer_bytes", "20971520",
                                        "max_message_bytes", "10000", NULL};
    (void)state;
    setup s;
    salvo_plan_result r;
    prepare(&s, 50000, pairs);
    s.run.broker.servers = 4;
    s.outage = (salvo_plan_outage){.from_ns = SECOND, .for_ns = 4 * SECOND};
    s.run.outages = &s.outage;
    s.run.outage_count = 1;
    s.run.duration_ns = 12 * SECOND;
    simulate(&s, &r);
    assert_true(r.blocked > 0);
    assert_in_range(r.blocked_longest_ns, SECOND, 5 * SECOND);
    assert_int_equal(r.ledger.offered, r.ledger.accepted);
    assert_true(r.recovery_ns < 4 * SECOND);
    salvo_plan_result_free(&r);
    salvo_config_free(s.config);
}

static void wrong_runs(void **state)
{
    (void)state;
    setup s;
    salvo_plan_result r;
    prepare(&s, 1000, kafka);
    s.run.broker.servers = 65;
    assert_int_equal(salvo_plan_simulate(&s.run, &r), SALVO_ERR_INVALID);
    assert_non_null(strstr(salvo_last_error(), "64 servers"));
    s.run.broker.servers = 1;
    s.run.traffic.topic_count = 0;
    assert_int_equal(salvo_plan_simulate(&s.run, &r), SALVO_ERR_INVALID);
    const salvo_plan_arrival far = {.at_ns = 5, .topic = 3};
    s.run.traffic.topic_count = 1;
    s.run.traffic.trace = &far;
    s.run.traffic.trace_count = 1;
    s.run.traffic.trace_ns = 10;
    assert_int_equal(salvo_plan_simulate(&s.run, &r), SALVO_ERR_INVALID);
    salvo_config_free(s.config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_behave_as_bytes), cmocka_unit_test(same_seed_same_bytes),
        cmocka_unit_test(queues_as_theory_says), cmocka_unit_test(latency_by_hand),
        cmocka_unit_test(outage_by_hand),        cmocka_unit_test(black_hole_by_hand),
        cmocka_unit_test(deadline_in_outage),    cmocka_unit_test(blocked_senders),
        cmocka_unit_test(traffic_from_a_moment_on),
        cmocka_unit_test(wrong_runs),            cmocka_unit_test(bursts_by_hand),
        cmocka_unit_test(pauses_by_hand),        cmocka_unit_test(costs_by_hand),
        cmocka_unit_test(pace_by_hand),          cmocka_unit_test(pauses_come_with_work),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
