/* SPDX-License-Identifier: Apache-2.0
 *
 * The Kafka driver alone against a real Kafka (SALVO_TEST_KAFKA=host:port), through its table of
 * operations: what arrives is what was submitted, each token comes back once and with a true
 * outcome, through compressions, refusals, a killed broker (the test's own) and a fatal error.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "clock.h"
#include "config_internal.h"
#include "driver.h"
#include "drivers/kafka_internal.h"
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TOKENS 4096
#define SECONDS UINT64_C(1000000000)
#define ops salvo_driver_kafka
static const salvo_driver_topic plain;

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
    salvo_config *config;
    salvo_driver_env env;
    void *handle;
    uint64_t next_token;
    int came_back[TOKENS];          /* how often */
    salvo_driver_range ranges[TOKENS][16];
    uint32_t range_count[TOKENS];
    int fatal;
} world;

static void quiet(int level, const char *format, ...)
{
    if (!getenv("SALVO_TEST_VERBOSE"))
        return;
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "[%d] ", level);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
}

static uint64_t test_now(void *clock)
{
    (void)clock;
    return salvo_clock_monotonic_ns();
}

static const char *servers(void)
{
    const char *text = getenv("SALVO_TEST_KAFKA");
    if (!text || !*text)
        fail_msg("SALVO_TEST_KAFKA is not set: start a broker with `script/broker kafka start` "
                 "and give its address, or run script/test");
    return text;
}

static void set(world *w, const char *key, const char *value)
{
    if (salvo_config_set(w->config, key, value))
        fail_msg("%s", salvo_config_error(w->config));
}

static world *new_world(const char *address)
{
    world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    assert_int_equal(salvo_config_new(&w->config), 0);
    set(w, "kafka_bootstrap_servers", address);
    w->env = (salvo_driver_env){.config = w->config, .now_ns = test_now, .log = quiet,
                                .flusher_count = 1, .queue_bytes = 64u << 20,
                                .max_topics = 16, .max_batches = 512};
    return w;
}

static void open_it(world *w)
{
    char error[512] = "";
    if (ops.open(&w->env, &w->handle, error, sizeof error))
        fail_msg("open: %s", error);
}

static void end_world(world *w)
{
    if (w->handle)
        ops.close(w->handle);
    salvo_config_free(w->config);
    free(w);
}

/* A topic name that no other run has used. */
static const char *fresh(char *name, const char *what)
{
    sprintf(name, "salvo-test-%s-%d-%llx", what, (int)getpid(),
            (unsigned long long)salvo_clock_monotonic_ns());
    return name;
}

static void create_topic(const char *address, const char *name, int partitions)
{
    char error[256];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set(conf, "bootstrap.servers", address, error, sizeof error);
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, error, sizeof error);
    assert_non_null(rk);
    rd_kafka_NewTopic_t *topic = rd_kafka_NewTopic_new(name, partitions, 1, error, sizeof error);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
    rd_kafka_CreateTopics(rk, &topic, 1, NULL, queue);
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, 30000);
    assert_non_null(event);
    size_t count;
    const rd_kafka_CreateTopics_result_t *result = rd_kafka_event_CreateTopics_result(event);
    assert_non_null(result);
    const rd_kafka_topic_result_t **topics = rd_kafka_CreateTopics_result_topics(result, &count);
    assert_int_equal(rd_kafka_topic_result_error(topics[0]), 0);
    rd_kafka_event_destroy(event);
    rd_kafka_NewTopic_destroy(topic);
    rd_kafka_queue_destroy(queue);
    rd_kafka_destroy(rk);
}

/* What flushers do: poll, then sleep until a descriptor is readable. Returns how many came. */
static int take_outcomes(world *w, int wait_ms)
{
    salvo_driver_outcome outcomes[8];
    int n = ops.poll(w->handle, outcomes, 8);
    if (n == SALVO_ERR_FATAL) {
        w->fatal++;
        return 0;
    }
    assert_true(n >= 0);
    for (int i = 0; i < n; i++) {
        uint64_t token = outcomes[i].token;
        assert_true(token < w->next_token);
        w->came_back[token]++;
        assert_true(outcomes[i].range_count <= 16);
        w->range_count[token] = outcomes[i].range_count;
        uint32_t next = 0;
        for (uint32_t r = 0; r < outcomes[i].range_count; r++) {
            w->ranges[token][r] = outcomes[i].ranges[r];
            assert_int_equal(outcomes[i].ranges[r].first, next); /* ascending, no gaps */
            next += outcomes[i].ranges[r].count;
        }
    }
    if (!n && wait_ms) {
        struct pollfd p = {.events = POLLIN};
        assert_int_equal(ops.descriptors(w->handle, &p.fd, 1), 1);
        poll(&p, 1, wait_ms);
    }
    return n;
}

static int wait_partitions(world *w, uint32_t topic, int seconds)
{
    uint64_t end = salvo_clock_monotonic_ns() + (uint64_t)seconds * SECONDS;
    int n = 0;
    while (!n && salvo_clock_monotonic_ns() < end) {
        n = ops.partitions(w->handle, topic);
        take_outcomes(w, 10);
    }
    return n;
}

static uint64_t submit(world *w, uint32_t topic, int32_t partition,
                       const salvo_driver_message *messages, uint32_t count)
{
    salvo_driver_batch batch = {.topic = topic, .partition = partition, .count = count,
                                .walk = messages};
    for (uint32_t i = 0; i < count; i++) {
        batch.bytes += messages[i].key_len + messages[i].value_len + messages[i].headers_bytes;
        batch.extras += messages[i].headers_bytes || messages[i].timestamp_ms;
    }
    uint64_t token = w->next_token++;
    assert_true(token < TOKENS);
    int err;
    while ((err = ops.submit(w->handle, &batch, token)) == SALVO_ERR_TRANSIENT)
        take_outcomes(w, 10);
    assert_int_equal(err, 0);
    return token;
}

/* Wait until all tokens from `from` on are back; each must come exactly once. */
static void settle(world *w, uint64_t from, int seconds)
{
    uint64_t end = salvo_clock_monotonic_ns() + (uint64_t)seconds * SECONDS;
    uint64_t first = from;
    while (first < w->next_token && salvo_clock_monotonic_ns() < end) {
        take_outcomes(w, 50);
        while (first < w->next_token && w->came_back[first])
            first++;
    }
    for (uint64_t t = from; t < w->next_token; t++)
        assert_int_equal(w->came_back[t], 1);
}

static void assert_all(world *w, uint64_t token, int32_t status)
{
    for (uint32_t r = 0; r < w->range_count[token]; r++)
        assert_int_equal(w->ranges[token][r].status, status);
}

static void *reader(world *w, const char *topic, int expected)
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

static int next(void *r, salvo_record *record)
{
    char error[512] = "";
    return ops.reader_next(r, 20000, record, error, sizeof error);
}

static salvo_driver_message text_message(const char *key, const char *value)
{
    return (salvo_driver_message){.key = key, .key_len = key ? strlen(key) : 0, .value = value,
                                  .value_len = value ? strlen(value) : 0};
}

static void values_keys_and_nulls_arrive_as_sent(void **state)
{
    (void)state;
    char name[96];
    world *w = new_world(servers());
    create_topic(servers(), fresh(name, "plain"), 2);
    open_it(w);
    assert_int_equal(ops.topic(w->handle, 3, name, &plain), 0);
    assert_int_equal(wait_partitions(w, 3, 20), 2);
    salvo_driver_message m[5] = {text_message("k", "v"), text_message(NULL, "no key"),
                                 text_message("", ""), text_message("tomb", NULL),
                                 text_message(NULL, NULL)};
    uint64_t token = submit(w, 3, 1, m, 5);
    settle(w, token, 20);
    assert_int_equal(w->range_count[token], 1);
    assert_all(w, token, 0);
    assert_int_equal(w->ranges[token][0].base_offset, 0);
    char text[96];
    ops.state(w->handle, text, sizeof text);
    assert_string_equal(text, "up");

    void *r = reader(w, name, 0);
    salvo_record got;
    for (int i = 0; i < 5; i++) {
        assert_int_equal(next(r, &got), 0);
        assert_int_equal(got.partition, 1);
        assert_int_equal(got.offset, i);
        assert_int_equal(got.key == NULL, m[i].key == NULL);
        assert_int_equal(got.value == NULL, m[i].value == NULL);
        assert_int_equal(got.key_len, m[i].key_len);
        assert_int_equal(got.value_len, m[i].value_len);
        if (got.value_len)
            assert_memory_equal(got.value, m[i].value, got.value_len);
        if (got.key_len)
            assert_memory_equal(got.key, m[i].key, got.key_len);
    }
    assert_int_equal(next(r, &got), SALVO_ERR_END);
    ops.reader_close(r);
    end_world(w);
}

static uint32_t pack_header(char *at, const char *name, const char *value)
{
    uint32_t lengths[2] = {(uint32_t)strlen(name), value ? (uint32_t)strlen(value) : UINT32_MAX};
    memcpy(at, lengths, sizeof lengths);
    memcpy(at + 8, name, lengths[0]);
    if (value)
        memcpy(at + 8 + lengths[0], value, lengths[1]);
    return 8 + lengths[0] + (value ? lengths[1] : 0);
}

static void headers_and_timestamps_arrive(void **state)
{
    (void)state;
    char name[96], headers[128];
    world *w = new_world(servers());
    create_topic(servers(), fresh(name, "extras"), 1);
    open_it(w);
    assert_int_equal(ops.topic(w->handle, 0, name, &plain), 0);
    assert_int_equal(wait_partitions(w, 0, 20), 1);
    uint32_t used = pack_header(headers, "trace", "abc");
    used += pack_header(headers + used, "nothing", NULL);
    used += pack_header(headers + used, "empty", "");
    salvo_driver_message m[2] = {text_message("k", "with"), text_message(NULL, "")};
    m[0].headers = headers;
    m[0].headers_bytes = used;
    m[0].timestamp_ms = 1700000000123;
    uint64_t token = submit(w, 0, 0, m, 2);
    settle(w, token, 20);
    assert_all(w, token, 0);

    void *r = reader(w, name, 0);
    salvo_record got;
    assert_int_equal(next(r, &got), 0);
    assert_int_equal(got.timestamp_ms, 1700000000123);
    assert_int_equal(got.header_count, 3);
    assert_string_equal(got.headers[0].name, "trace");
    assert_int_equal(got.headers[0].value_len, 3);
    assert_memory_equal(got.headers[0].value, "abc", 3);
    assert_null(got.headers[1].value);
    assert_non_null(got.headers[2].value);
    assert_int_equal(got.headers[2].value_len, 0);
    assert_int_equal(next(r, &got), 0);
    assert_int_equal(got.header_count, 0);
    assert_true(got.timestamp_ms > 1700000000123); /* stamped by the driver */
    assert_non_null(got.value);
    assert_int_equal(next(r, &got), SALVO_ERR_END);
    ops.reader_close(r);
    end_world(w);
}

static void every_compression_arrives_in_order(void **state)
{
    (void)state;
    static const char *const kinds[] = {"none", "gzip", "snappy", "lz4", "zstd"};
    enum { COUNT = 5000 };
    static char values[COUNT][100];
    static salvo_driver_message m[COUNT];
    for (size_t kind = 0; kind < sizeof kinds / sizeof *kinds; kind++) {
        char name[96];
        world *w = new_world(servers());
        set(w, "kafka_compression_type", kinds[kind]);
        create_topic(servers(), fresh(name, kinds[kind]), 1);
        open_it(w);
        assert_int_equal(ops.topic(w->handle, 0, name, &plain), 0);
        assert_int_equal(wait_partitions(w, 0, 20), 1);
        for (int i = 0; i < COUNT; i++) {
            memset(values[i], 'x', sizeof values[i]);
            sprintf(values[i], "%d", i);
            m[i] = (salvo_driver_message){.value = values[i], .value_len = sizeof values[i]};
        }
        submit(w, 0, 0, m, 2500); /* more than is offered at once */
        submit(w, 0, 0, m + 2500, COUNT - 2500);
        settle(w, 0, 30);
        void *r = reader(w, name, 0);
        salvo_record got;
        for (int i = 0; i < COUNT; i++) {
            assert_int_equal(next(r, &got), 0);
            assert_int_equal(got.offset, i);
            assert_memory_equal(got.value, values[i], sizeof values[i]);
        }
        assert_int_equal(next(r, &got), SALVO_ERR_END);
        ops.reader_close(r);
        end_world(w);
    }
}

static void large_and_too_large(void **state)
{
    (void)state;
    char name[96];
    world *w = new_world(servers());
    set(w, "max_message_bytes", "4194304");
    create_topic(servers(), fresh(name, "large"), 1);
    open_it(w);
    assert_int_equal(ops.topic(w->handle, 0, name, &plain), 0);
    assert_int_equal(wait_partitions(w, 0, 20), 1);
    char *big = malloc(8u << 20);
    assert_non_null(big);
    for (size_t i = 0; i < 8u << 20; i++)
        big[i] = (char)(i * 2654435761u >> 13);
    salvo_driver_message good = {.value = big, .value_len = 1000000};
    salvo_driver_message brokers = {.value = big, .value_len = 2u << 20}; /* the broker's limit */
    salvo_driver_message mixed[3] = {text_message(NULL, "a"), /* the client's limit */
                                     {.value = big, .value_len = 8u << 20},
                                     text_message(NULL, "b")};
    uint64_t a = submit(w, 0, 0, &good, 1);
    settle(w, a, 20);
    uint64_t b = submit(w, 0, 0, &brokers, 1);
    settle(w, b, 20);
    uint64_t c = submit(w, 0, 0, mixed, 3);
    uint64_t d = submit(w, 0, 0, &mixed[1], 1);
    settle(w, c, 20);
    assert_all(w, a, 0);
    assert_all(w, b, SALVO_ERR_TOO_LARGE);
    assert_int_equal(w->range_count[c], 3);
    assert_int_equal(w->ranges[c][0].status, 0);
    assert_int_equal(w->ranges[c][1].status, SALVO_ERR_TOO_LARGE);
    assert_int_equal(w->ranges[c][2].status, 0);
    assert_all(w, d, SALVO_ERR_TOO_LARGE);
    void *r = reader(w, name, 0);
    salvo_record got;
    assert_int_equal(next(r, &got), 0);
    assert_int_equal(got.value_len, 1000000);
    assert_memory_equal(got.value, big, 1000000);
    assert_int_equal(next(r, &got), 0);
    assert_memory_equal(got.value, "a", 1);
    assert_int_equal(next(r, &got), 0);
    assert_memory_equal(got.value, "b", 1);
    assert_int_equal(next(r, &got), SALVO_ERR_END);
    ops.reader_close(r);
    free(big);
    end_world(w);
}

static void nobody_answers(void **state)
{
    (void)state;
    world *w = new_world("127.0.0.1:1");
    char error[512] = "";
    open_it(w);
    assert_int_equal(ops.require(w->handle, 700, error, sizeof error), SALVO_ERR_UNREACHABLE);
    assert_non_null(strstr(error, "127.0.0.1:1"));
    assert_non_null(strstr(error, "onnect"));
    assert_int_equal(ops.topic(w->handle, 0, "nowhere", &plain), 0);
    assert_int_equal(wait_partitions(w, 0, 1), 0);
    ops.state(w->handle, error, sizeof error);
    assert_memory_equal(error, "down: ", 6);
    salvo_driver_message m = text_message(NULL, "never sent");
    uint64_t token = submit(w, 0, 0, &m, 1);
    ops.purge(w->handle, 2000);
    settle(w, token, 1);
    assert_all(w, token, SALVO_ERR_DROPPED);
    assert_null(reader(w, "nowhere", SALVO_ERR_UNREACHABLE));
    end_world(w);
}

static void a_fatal_error_gives_all_back(void **state)
{
    (void)state;
    char name[96];
    world *w = new_world(servers());
    create_topic(servers(), fresh(name, "fatal"), 1);
    open_it(w);
    assert_int_equal(ops.topic(w->handle, 0, name, &plain), 0);
    assert_int_equal(wait_partitions(w, 0, 20), 1);
    enum { COUNT = 200 };
    salvo_driver_message m[COUNT];
    for (int i = 0; i < COUNT; i++)
        m[i] = text_message(NULL, "value");
    for (int i = 0; i < 50; i++)
        submit(w, 0, 0, m, COUNT);
    rd_kafka_test_fatal_error(((salvo_kafka *)w->handle)->rk,
                              RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER, "for the test");
    uint64_t end = salvo_clock_monotonic_ns() + 20 * SECONDS;
    while (!w->fatal && salvo_clock_monotonic_ns() < end)
        take_outcomes(w, 20);
    assert_int_equal(w->fatal, 1);
    uint64_t acknowledged = 0, again = 0;
    for (uint64_t t = 0; t < w->next_token; t++) {
        assert_int_equal(w->came_back[t], 1); /* before FATAL */
        for (uint32_t r = 0; r < w->range_count[t]; r++) {
            const salvo_driver_range *range = &w->ranges[t][r];
            assert_true(range->status == 0 || range->status == SALVO_ERR_FATAL);
            *(range->status ? &again : &acknowledged) += range->count;
        }
    }
    assert_int_equal(acknowledged + again, 50 * COUNT);
    assert_true(again > 0);
    /* The engine's part: a new handle, what came back first. */
    ops.close(w->handle);
    open_it(w);
    assert_int_equal(ops.topic(w->handle, 0, name, &plain), 0);
    assert_int_equal(wait_partitions(w, 0, 20), 1);
    uint64_t token = submit(w, 0, 0, m, COUNT);
    settle(w, token, 20);
    assert_all(w, token, 0);
    end_world(w);
}

/* --- a broker of the test's own -------------------------------------------------------------- */

static void broker(const char *what, char *output, size_t size)
{
    char command[512];
    snprintf(command, sizeof command, "%s/script/broker kafka %s --name driver-test-%d 2>&1",
             SALVO_SOURCE_DIR, what, (int)getpid());
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    char line[256];
    while (fgets(line, sizeof line, pipe)) {
        line[strcspn(line, "\n")] = '\0';
        if (output && strncmp(line, "127.0.0.1:", 10) == 0)
            snprintf(output, size, "%.63s", line);
    }
    int status = pclose(pipe);
    if (status)
        fail_msg("script/broker kafka %s: %s", what, line);
}

static int start_broker(void **state)
{
    static char address[64]; /* host:port */
    char command[128];
    snprintf(command, sizeof command, "start --auto-create off --owner %d", (int)getpid());
    broker(command, address, sizeof address);
    *state = address;
    return 0;
}

static int stop_broker(void **state)
{
    (void)state;
    broker("stop", NULL, 0);
    return 0;
}

static void unknown_topics_are_told_and_mended(void **state)
{
    char name[96];
    world *w = new_world(*state);
    open_it(w);
    char error[512] = "";
    assert_int_equal(ops.require(w->handle, 10000, error, sizeof error), 0);
    fresh(name, "missing");
    assert_int_equal(ops.topic(w->handle, 0, name, &plain), 0);
    assert_int_equal(wait_partitions(w, 0, 20), SALVO_ERR_UNKNOWN_TOPIC);
    assert_null(reader(w, name, SALVO_ERR_UNKNOWN_TOPIC));
    create_topic(*state, name, 3);
    uint64_t end = salvo_clock_monotonic_ns() + 20 * SECONDS;
    while (ops.partitions(w->handle, 0) != 3 && salvo_clock_monotonic_ns() < end)
        take_outcomes(w, 20);
    assert_int_equal(ops.partitions(w->handle, 0), 3);
    end_world(w);
}

static void a_killed_broker_loses_nothing(void **state)
{
    enum { BATCHES = 1500, COUNT = 20, TOTAL = BATCHES * COUNT };
    static uint32_t values[TOTAL];
    static salvo_driver_message m[TOTAL];
    char name[96];
    world *w = new_world(*state);
    create_topic(*state, fresh(name, "killed"), 1);
    open_it(w);
    assert_int_equal(ops.topic(w->handle, 0, name, &plain), 0);
    assert_int_equal(wait_partitions(w, 0, 20), 1);
    for (uint32_t i = 0; i < TOTAL; i++) {
        values[i] = i;
        m[i] = (salvo_driver_message){.value = &values[i], .value_len = sizeof values[i]};
    }
    for (uint32_t b = 0; b < BATCHES; b++) {
        if (b == BATCHES / 3)
            broker("kill", NULL, 0);
        if (b == BATCHES / 3 + 200)
            broker("restart", NULL, 0);
        submit(w, 0, 0, m + b * COUNT, COUNT);
        while (take_outcomes(w, 0) > 0)
            ;
        if (b < BATCHES / 3 - 50) /* what is out while the broker is away must fit max_batches */
            settle(w, 0, 30);
    }
    settle(w, 0, 90);
    for (uint64_t t = 0; t < w->next_token; t++)
        assert_all(w, t, 0);
    assert_int_equal(w->fatal, 0);
    void *r = reader(w, name, 0);
    salvo_record got;
    for (uint32_t i = 0; i < TOTAL; i++) { /* idempotent: once each and in order */
        assert_int_equal(next(r, &got), 0);
        assert_int_equal(got.value_len, sizeof i);
        assert_memory_equal(got.value, &i, sizeof i);
    }
    assert_int_equal(next(r, &got), SALVO_ERR_END);
    ops.reader_close(r);
    end_world(w);
}

int main(void)
{
    const struct CMUnitTest shared[] = {
        cmocka_unit_test(values_keys_and_nulls_arrive_as_sent),
        cmocka_unit_test(headers_and_timestamps_arrive),
        cmocka_unit_test(every_compression_arrives_in_order),
        cmocka_unit_test(large_and_too_large),
        cmocka_unit_test(nobody_answers),
        cmocka_unit_test(a_fatal_error_gives_all_back),
    };
    const struct CMUnitTest own[] = {
        cmocka_unit_test(unknown_topics_are_told_and_mended),
        cmocka_unit_test(a_killed_broker_loses_nothing),
    };
    int failed = cmocka_run_group_tests_name("driver", shared, NULL, NULL);
    return failed + cmocka_run_group_tests_name("own broker", own, start_broker, stop_broker);
}
