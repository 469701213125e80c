/* SPDX-License-Identifier: Apache-2.0
 *
 * The memory driver: what it stores and gives back, its outcomes by script under a clock that is
 * stepped by hand, its bounds, and several handles at once.
 */
#include "driver_fixture.h"
#include "drivers/memory_script.h"
#include <pthread.h>
#include <stdio.h>

static const salvo_reader_options to_end = {
    .size = sizeof to_end, .stop_at_end = 1, .open_timeout_ms = 1};

static void *open_reader(fixture *f, const char *topic, salvo_reader_options options)
{
    char error[256] = "";
    void *reader = NULL;
    int err = f->ops->reader_open(f->config, f->env.shared, topic, &options, &reader, error,
                                  sizeof error);
    if (err)
        fail_msg("%s", error);
    return reader;
}

static int next(fixture *f, void *reader, uint64_t timeout_ms, salvo_record *record)
{
    char error[256] = "";
    return f->ops->reader_next(reader, timeout_ms, record, error, sizeof error);
}

/* The values of a topic as "a b c", partition by partition. */
static void expect_values(fixture *f, const char *topic, const char *expected)
{
    char all[512] = "";
    size_t used = 0;
    salvo_record r;
    void *reader = open_reader(f, topic, to_end);
    while (next(f, reader, 0, &r) == 0)
        used += (size_t)snprintf(all + used, sizeof all - used, "%s%.*s", used ? " " : "",
                                 (int)r.value_len, (const char *)r.value);
    f->ops->reader_close(reader);
    assert_string_equal(all, expected);
}

static void keeps_all_of_a_message(void **state)
{
    (void)state;
    fixture f;
    fixture_open(&f, &salvo_driver_memory, NULL);
    const unsigned char headers[] = {2, 0, 0, 0, 1, 0, 0, 0, 'h', '1', 'v',
                                     1, 0, 0, 0, 255, 255, 255, 255, 'n'};
    salvo_batch *b = salvo_batch_open(&f.pool, 0, 0);
    fixture_add(&f, b, &(salvo_driver_message){.key = "key", .key_len = 3, .value = "v",
                                               .value_len = 1, .headers = headers,
                                               .headers_bytes = sizeof headers,
                                               .timestamp_ms = 42});
    fixture_add(&f, b, &(salvo_driver_message){.key = "", .value = NULL});
    fixture_add(&f, b, &(salvo_driver_message){.key = NULL, .value = ""});
    assert_int_equal(fixture_submit(&f, b, 7), 0);
    fixture_expect(&f, 7, 0, 0);
    fixture_expect_nothing(&f);

    salvo_record r;
    void *reader = open_reader(&f, "zero", to_end);
    assert_int_equal(next(&f, reader, 0, &r), 0);
    assert_string_equal(r.topic, "zero");
    assert_int_equal(r.partition, 0);
    assert_int_equal(r.offset, 0);
    assert_int_equal(r.timestamp_ms, 42);
    assert_int_equal(r.key_len, 3);
    assert_memory_equal(r.key, "key", 3);
    assert_int_equal(r.value_len, 1);
    assert_memory_equal(r.value, "v", 1);
    assert_int_equal(r.header_count, 2);
    assert_memory_equal(r.headers[0].name, "h1", 2);
    assert_memory_equal(r.headers[0].value, "v", 1);
    assert_int_equal(r.headers[1].name_len, 1);
    assert_null(r.headers[1].value);
    assert_int_equal(next(&f, reader, 0, &r), 0);
    assert_non_null(r.key);
    assert_int_equal(r.key_len, 0);
    assert_null(r.value);
    assert_true(r.timestamp_ms > 1600000000000);
    assert_int_equal(next(&f, reader, 0, &r), 0);
    assert_int_equal(r.offset, 2);
    assert_null(r.key);
    assert_non_null(r.value);
    assert_int_equal(r.value_len, 0);
    assert_int_equal(r.header_count, 0);
    assert_int_equal(next(&f, reader, 0, &r), SALVO_ERR_END);
    f.ops->reader_close(reader);
    fixture_close(&f);
}

static void counts_offsets_per_partition(void **state)
{
    (void)state;
    fixture f;
    fixture_open(&f, &salvo_driver_memory, (const char *[]){"memory_partitions", "2", NULL});
    assert_int_equal(f.ops->partitions(f.handle, 0), 2);
    assert_int_equal(f.ops->partitions(f.handle, 5), SALVO_ERR_UNKNOWN_TOPIC);
    assert_int_equal(fixture_submit(&f, fixture_batch(&f, 0, 2, 0, 1), 9), SALVO_ERR_PARTITION);
    assert_int_equal(fixture_submit(&f, fixture_batch(&f, 0, 0, 1, 3), 1), 0);
    assert_int_equal(fixture_submit(&f, fixture_batch(&f, 0, 1, 4, 2), 2), 0);
    assert_int_equal(fixture_submit(&f, fixture_batch(&f, 0, 0, 6, 1), 3), 0);
    assert_int_equal(fixture_submit(&f, fixture_batch(&f, 1, 0, 7, 1), 4), 0);
    fixture_expect(&f, 1, 0, 0);
    fixture_expect(&f, 2, 0, 0);
    fixture_expect(&f, 3, 0, 3);
    fixture_expect(&f, 4, 0, 0);
    expect_values(&f, "zero", "4 5 1 2 3 6");
    expect_values(&f, "one", "7");
    fixture_close(&f);
}

static void transient_holds_back_its_partition(void **state)
{
    (void)state;
    fixture f;
    fixture_open(&f, &salvo_driver_memory,
                 (const char *[]){"memory_partitions", "2", "memory_script",
                                  "ok; fail:transient", NULL});
    salvo_batch *a = fixture_batch(&f, 0, 0, 1, 1), *b = fixture_batch(&f, 0, 0, 2, 1);
    salvo_batch *c = fixture_batch(&f, 0, 1, 3, 1), *d = fixture_batch(&f, 0, 0, 4, 1);
    assert_int_equal(fixture_submit(&f, a, 1), 0);
    assert_int_equal(fixture_submit(&f, b, 2), 0); /* fails */
    assert_int_equal(fixture_submit(&f, c, 3), 0); /* another partition */
    assert_int_equal(fixture_submit(&f, d, 4), 0); /* must not overtake b */
    fixture_expect(&f, 1, 0, 0);
    fixture_expect(&f, 2, SALVO_ERR_TRANSIENT, -1);
    assert_int_equal(fixture_submit(&f, b, 2), SALVO_ERR_TRANSIENT); /* d is not known yet */
    fixture_expect(&f, 3, 0, 0);
    fixture_expect(&f, 4, SALVO_ERR_TRANSIENT, -1);
    assert_int_equal(fixture_submit(&f, b, 2), 0);
    assert_int_equal(fixture_submit(&f, d, 4), 0);
    fixture_expect(&f, 2, 0, 1);
    fixture_expect(&f, 4, 0, 2);
    fixture_expect_nothing(&f);
    expect_values(&f, "zero", "3 1 2 4");
    fixture_close(&f);
}

static void delay_follows_the_clock(void **state)
{
    (void)state;
    fixture f;
    fixture_open(&f, &salvo_driver_memory,
                 (const char *[]){"memory_script", "delay:50ms*1", NULL});
    assert_int_equal(fixture_submit(&f, fixture_batch(&f, 0, 0, 1, 1), 1), 0);
    assert_int_equal(fixture_submit(&f, fixture_batch(&f, 0, 0, 2, 1), 2), 0);
    f.now_ns += 49999999;
    fixture_expect_nothing(&f);
    f.now_ns += 1;
    fixture_expect(&f, 1, 0, 0);
    fixture_expect(&f, 2, 0, 1);
    fixture_close(&f);
}

static void refuses_as_told(void **state)
{
    (void)state;
    fixture f;
    fixture_open(&f, &salvo_driver_memory,
                 (const char *[]){"memory_script", "reject; maybe; partial:3:rejected; fail:auth",
                                  NULL});
    salvo_driver_outcome o;
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(fixture_submit(&f, fixture_batch(&f, 0, 0, 10 * i, 5), i), 0);
    fixture_expect(&f, 0, SALVO_ERR_REJECTED, -1);
    fixture_expect(&f, 1, SALVO_ERR_MAYBE, -1);
    assert_int_equal(f.ops->poll(f.handle, &o, 1), 1);
    assert_int_equal(o.range_count, 2);
    assert_int_equal(o.ranges[0].count, 3);
    assert_int_equal(o.ranges[0].status, 0);
    assert_int_equal(o.ranges[0].base_offset, 5);
    assert_int_equal(o.ranges[1].first, 3);
    assert_int_equal(o.ranges[1].count, 2);
    assert_int_equal(o.ranges[1].status, SALVO_ERR_REJECTED);
    fixture_expect(&f, 3, SALVO_ERR_AUTH, -1);
    expect_values(&f, "zero", "10 11 12 13 14 20 21 22");
    fixture_close(&f);
}

static void too_large_leaves_the_rest(void **state)
{
    (void)state;
    fixture f;
    fixture_open(&f, &salvo_driver_memory, (const char *[]){"max_message_bytes", "4", NULL});
    salvo_batch *b = salvo_batch_open(&f.pool, 0, 0);
    const char *values[] = {"a", "12345", "b", "12345", "1234", "c", "12345"};
    const int32_t status[] = {0, SALVO_ERR_TOO_LARGE, 0, SALVO_ERR_TOO_LARGE, 0,
                              SALVO_ERR_TOO_LARGE};
    const int64_t offset[] = {0, -1, 1, -1, 2, -1};
    for (size_t i = 0; i < 7; i++)
        fixture_add(&f, b, &(salvo_driver_message){.value = values[i],
                                                   .value_len = strlen(values[i])});
    assert_int_equal(fixture_submit(&f, b, 1), 0);
    salvo_driver_outcome o;
    assert_int_equal(f.ops->poll(f.handle, &o, 1), 1);
    assert_int_equal(o.range_count, 6);
    uint32_t covered = 0;
    for (uint32_t i = 0; i < 6; i++) {
        assert_int_equal(o.ranges[i].first, covered);
        assert_int_equal(o.ranges[i].status, status[i]);
        assert_int_equal(o.ranges[i].base_offset, offset[i]);
        covered += o.ranges[i].count;
    }
    assert_int_equal(covered, 7);
    fixture_expect_nothing(&f);
    expect_values(&f, "zero", "a b 1234 c");
    fixture_close(&f);
}

static void fatal_brings_all_back(void **state)
{
    (void)state;
    fixture f;
    fixture_open(&f, &salvo_driver_memory,
                 (const char *[]){"memory_script", "ok; delay:1s*2; fatal", NULL});
    salvo_batch *b[4];
    salvo_driver_outcome o;
    for (unsigned i = 0; i < 4; i++) {
        b[i] = fixture_batch(&f, 0, 0, i, 1);
        assert_int_equal(fixture_submit(&f, b[i], i), 0);
        if (i == 0)
            fixture_expect(&f, 0, 0, 0);
    }
    assert_int_equal(fixture_submit(&f, b[0], 9), SALVO_ERR_TRANSIENT);
    for (unsigned i = 1; i < 4; i++)
        fixture_expect(&f, i, SALVO_ERR_FATAL, -1);
    assert_int_equal(f.ops->poll(f.handle, &o, 1), SALVO_ERR_FATAL);
    f.ops->close(f.handle);
    fixture_open_handle(&f); /* the script goes on, it does not begin again */
    for (unsigned i = 1; i < 4; i++)
        assert_int_equal(fixture_submit(&f, b[i], i), 0);
    for (unsigned i = 1; i < 4; i++)
        fixture_expect(&f, i, 0, i);
    expect_values(&f, "zero", "0 1 2 3");
    fixture_close(&f);
}

static void down_takes_nothing(void **state)
{
    (void)state;
    fixture f;
    char text[96], error[96];
    fixture_open(&f, &salvo_driver_memory,
                 (const char *[]){"memory_script", "down:200ms; reject", NULL});
    salvo_batch *b = fixture_batch(&f, 0, 0, 1, 1);
    assert_int_equal(f.ops->partitions(f.handle, 0), 0);
    assert_int_equal(fixture_submit(&f, b, 1), SALVO_ERR_TRANSIENT);
    f.ops->state(f.handle, text, sizeof text);
    assert_string_equal(text, "down: by memory_script, for 200 ms");
    assert_int_equal(f.ops->require(f.handle, 2, error, sizeof error), SALVO_ERR_UNREACHABLE);
    fixture_expect_nothing(&f);
    f.now_ns += 200000000;
    assert_int_equal(f.ops->require(f.handle, 2, error, sizeof error), 0);
    assert_int_equal(f.ops->partitions(f.handle, 0), 1);
    assert_int_equal(fixture_submit(&f, b, 1), 0);
    fixture_expect(&f, 1, SALVO_ERR_REJECTED, -1);
    f.ops->state(f.handle, text, sizeof text);
    assert_string_equal(text, "up");
    fixture_close(&f);
}

static void purge_gives_back_each_token_once(void **state)
{
    (void)state;
    fixture f;
    salvo_driver_credit credit;
    fixture_open(&f, &salvo_driver_memory,
                 (const char *[]){"memory_script", "delay:1s*1000", NULL});
    salvo_batch *b = fixture_batch(&f, 0, 0, 1, 1);
    for (unsigned i = 0; i < FIXTURE_BATCHES; i++)
        assert_int_equal(fixture_submit(&f, b, i), 0);
    f.ops->credit(f.handle, &credit);
    assert_int_equal(credit.batches, 0);
    assert_int_equal(fixture_submit(&f, b, 99), SALVO_ERR_TRANSIENT);
    f.ops->purge(f.handle, 0);
    for (unsigned i = 0; i < FIXTURE_BATCHES; i++)
        fixture_expect(&f, i, SALVO_ERR_DROPPED, -1);
    fixture_expect_nothing(&f);
    expect_values(&f, "zero", "");
    fixture_close(&f);
}

static void ignore_log(void *context, int level, const char *text)
{
    (void)level, (void)text;
    ++*(int *)context;
}

/* 1 KiB a message, ten a batch. */
static void send_kilobytes(fixture *f, unsigned batches, int32_t status)
{
    static const char kilobyte[1024];
    salvo_batch *b = salvo_batch_open(&f->pool, 0, 0);
    for (unsigned i = 0; i < 10; i++)
        fixture_add(f, b, &(salvo_driver_message){.value = kilobyte, .value_len = 1024});
    for (unsigned i = 0; i < batches; i++) {
        salvo_driver_outcome o;
        assert_int_equal(fixture_submit(f, b, i), 0);
        assert_int_equal(f->ops->poll(f->handle, &o, 1), 1);
        assert_int_equal(o.ranges[0].status, status);
    }
    salvo_batch_free(&f->pool, b);
}

static void eviction_moves_offsets_on(void **state)
{
    (void)state;
    fixture f;
    salvo_record r;
    int logged = 0;
    salvo_set_log(ignore_log, &logged);
    fixture_open(&f, &salvo_driver_memory, (const char *[]){"memory_bytes", "65536", NULL});
    assert_int_equal(fixture_submit(&f, fixture_batch(&f, 0, 0, 77, 2), 1), 0);
    fixture_expect(&f, 1, 0, 0);
    void *reader = open_reader(&f, "zero", (salvo_reader_options){.size = sizeof to_end});
    assert_int_equal(next(&f, reader, 0, &r), 0);
    send_kilobytes(&f, 100, 0);
    assert_memory_equal(r.value, "77", 2); /* pinned while it is read */
    assert_int_equal(next(&f, reader, 0, &r), 0);
    assert_int_equal(r.offset, 1);
    assert_int_equal(next(&f, reader, 0, &r), 0);
    assert_int_equal(r.offset, 1002 - 60); /* six batches of 10 KiB fit */
    assert_int_equal(logged, 2);           /* full, and messages that were missed */
    for (int i = 0; i < 59; i++)
        assert_int_equal(next(&f, reader, 0, &r), 0);
    assert_int_equal(r.offset, 1001);
    assert_int_equal(next(&f, reader, 0, &r), SALVO_ERR_TIMEOUT);
    f.ops->reader_close(reader);
    fixture_close(&f);
    salvo_set_log(NULL, NULL);
}

static void full_rejects_when_told(void **state)
{
    (void)state;
    fixture f;
    int logged = 0;
    salvo_set_log(ignore_log, &logged);
    fixture_open(&f, &salvo_driver_memory,
                 (const char *[]){"memory_bytes", "65536", "memory_full", "reject", NULL});
    send_kilobytes(&f, 6, 0);
    send_kilobytes(&f, 2, SALVO_ERR_TRANSIENT);
    assert_int_equal(logged, 1);
    fixture_close(&f);
    salvo_set_log(NULL, NULL);
}

static void a_batch_that_never_fits_is_too_large(void **state)
{
    (void)state;
    fixture f;
    static const char big[100000];
    fixture_open(&f, &salvo_driver_memory, (const char *[]){"memory_bytes", "65536", NULL});
    salvo_batch *b = salvo_batch_open(&f.pool, 0, 0);
    fixture_add(&f, b, &(salvo_driver_message){.value = big, .value_len = sizeof big});
    assert_int_equal(fixture_submit(&f, b, 1), 0);
    fixture_expect(&f, 1, SALVO_ERR_TOO_LARGE, -1);
    fixture_close(&f);
}

static void *submit_one(void *argument)
{
    fixture *f = argument;
    assert_int_equal(fixture_submit(f, fixture_batch(f, 0, 0, 5, 1), 1), 0);
    fixture_expect(f, 1, 0, 1);
    return NULL;
}

static void readers_wait_at_the_end(void **state)
{
    (void)state;
    fixture f;
    salvo_record r;
    char error[128];
    void *unknown;
    pthread_t thread;
    fixture_open(&f, &salvo_driver_memory, NULL);
    assert_int_equal(f.ops->reader_open(f.config, f.env.shared, "nowhere", &to_end, &unknown,
                                        error, sizeof error), SALVO_ERR_UNKNOWN_TOPIC);
    assert_string_equal(error, "memory broker: no topic \"nowhere\" after 1 ms");
    assert_int_equal(fixture_submit(&f, fixture_batch(&f, 0, 0, 4, 1), 1), 0);
    fixture_expect(&f, 1, 0, 0);
    void *reader = open_reader(&f, "zero", (salvo_reader_options){.from_end = 1});
    void *ending = open_reader(&f, "zero", to_end);
    assert_int_equal(next(&f, reader, 1, &r), SALVO_ERR_TIMEOUT);
    assert_int_equal(pthread_create(&thread, NULL, submit_one, &f), 0);
    assert_int_equal(next(&f, reader, SALVO_WAIT_FOREVER, &r), 0);
    assert_int_equal(r.offset, 1);
    pthread_join(thread, NULL);
    assert_int_equal(next(&f, ending, 0, &r), 0);
    assert_int_equal(next(&f, ending, 0, &r), SALVO_ERR_END); /* as it was at the open */
    f.ops->reader_close(ending);
    fixture_close(&f);
    /* The producer is gone; its reader is not. */
    assert_int_equal(salvo_driver_memory.reader_next(reader, SALVO_WAIT_FOREVER, &r, error,
                                                     sizeof error), SALVO_ERR_END);
    salvo_driver_memory.reader_close(reader);
}

enum { SENDERS = 2, ROUNDS = 2000, PER_BATCH = 5 };

typedef struct sender {
    fixture f;
    unsigned number;
} sender;

static void *send_rounds(void *argument)
{
    sender *s = argument;
    for (unsigned i = 0; i < ROUNDS; i++) {
        salvo_driver_outcome o;
        salvo_batch *b =
            fixture_batch(&s->f, 0, 0, s->number * 1000000 + i * PER_BATCH, PER_BATCH);
        if (fixture_submit(&s->f, b, i) != 0 || s->f.ops->poll(s->f.handle, &o, 1) != 1)
            abort();
        salvo_batch_free(&s->f.pool, b);
    }
    return NULL;
}

static void handles_run_side_by_side(void **state)
{
    (void)state;
    static sender senders[SENDERS];
    pthread_t threads[SENDERS];
    salvo_record r;
    unsigned next_of[SENDERS] = {0};
    for (unsigned i = 0; i < SENDERS; i++) {
        fixture_open(&senders[i].f, &salvo_driver_memory, NULL);
        senders[i].number = i;
    }
    fixture *second = &senders[1].f; /* moves into the first one's broker */
    second->ops->close(second->handle);
    second->ops->close_shared(second->env.shared);
    second->env.shared = senders[0].f.env.shared;
    fixture_open_handle(second);
    for (unsigned i = 0; i < SENDERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, send_rounds, &senders[i]), 0);
    void *reader = open_reader(&senders[0].f, "zero", (salvo_reader_options){0});
    for (int64_t n = 0; n < SENDERS * ROUNDS * PER_BATCH; n++) {
        assert_int_equal(next(&senders[0].f, reader, 60000, &r), 0);
        assert_int_equal(r.offset, n);
        char text[16] = "";
        memcpy(text, r.value, r.value_len);
        unsigned value = (unsigned)strtoul(text, NULL, 10);
        assert_int_equal(value % 1000000, next_of[value / 1000000]++);
    }
    for (unsigned i = 0; i < SENDERS; i++)
        pthread_join(threads[i], NULL);
    salvo_driver_memory.reader_close(reader);
    second->ops->close(second->handle);
    salvo_batch_pool_close(&second->pool);
    salvo_config_free(second->config);
    fixture_close(&senders[0].f);
}

static void script_errors_say_what_is_allowed(void **state)
{
    (void)state;
    static const char *const bad[][2] = {
        {"fial*3", "step 1 \"fial*3\": allowed are ok, fail:STATUS"},
        {"ok;fail:soon", "step 2 \"fail:soon\": allowed are transient, rejected"},
        {"ok*0", "the number after * must be 1 to 1000000000"},
        {"ok*1x", "the number after *"},
        {"ok;", "step 2 \"\": allowed are"},
        {"delay:50", "a time is a number of us, ms or s"},
        {"delay:0ms", "a time is"},
        {"down:99999999999999999999s", "a time is"},
        {"partial:rejected", "partial needs how many"},
        {"partial:3", "partial needs how many"},
        {"partial:3:x", "allowed are transient"},
        {"fatal:1", "allowed are ok"},
        {"okokokokokokokokokokokokokokokokokokokokokokokokokokokokokokokokokokokokok", "allowed"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char error[512] = "";
        salvo_memory_script script;
        assert_int_equal(salvo_memory_script_parse(&script, bad[i][0], error, sizeof error),
                         SALVO_ERR_CONFIG);
        if (!strstr(error, bad[i][1]))
            fail_msg("%s: %s", bad[i][0], error);
    }
}

static void script_runs_in_order(void **state)
{
    (void)state;
    char error[256];
    salvo_memory_script s;
    assert_int_equal(salvo_memory_script_parse(&s, " ok*2 ;partial:3:maybe; down:2s ", error,
                                               sizeof error), 0);
    const salvo_memory_action order[] = {SALVO_MEMORY_OK, SALVO_MEMORY_OK, SALVO_MEMORY_PARTIAL,
                                         SALVO_MEMORY_DOWN, SALVO_MEMORY_OK, SALVO_MEMORY_OK};
    for (size_t i = 0; i < 6; i++) {
        salvo_memory_step step = salvo_memory_script_peek(&s);
        assert_int_equal(step.action, order[i]);
        if (i == 2)
            assert_int_equal(step.keep, 3);
        if (i == 3)
            assert_int_equal(step.time_ns, 2000000000);
        salvo_memory_script_next(&s);
    }
    salvo_memory_script_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_all_of_a_message),
        cmocka_unit_test(counts_offsets_per_partition),
        cmocka_unit_test(transient_holds_back_its_partition),
        cmocka_unit_test(delay_follows_the_clock),
        cmocka_unit_test(refuses_as_told),
        cmocka_unit_test(too_large_leaves_the_rest),
        cmocka_unit_test(fatal_brings_all_back),
        cmocka_unit_test(down_takes_nothing),
        cmocka_unit_test(purge_gives_back_each_token_once),
        cmocka_unit_test(eviction_moves_offsets_on),
        cmocka_unit_test(full_rejects_when_told),
        cmocka_unit_test(a_batch_that_never_fits_is_too_large),
        cmocka_unit_test(readers_wait_at_the_end),
        cmocka_unit_test(handles_run_side_by_side),
        cmocka_unit_test(script_errors_say_what_is_allowed),
        cmocka_unit_test(script_runs_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
