/* SPDX-License-Identifier: Apache-2.0
 *
 * What RabbitMQ does with each kind of message, queue and exchange, and what becomes of those
 * that it refuses, against a real server (SALVO_TEST_RABBITMQ).
 */
#include "rabbitmq_world.h"

static const char *url;

/* --- what a message can be ----------------------------------------------------------------- */

enum { LARGE = 1 << 20 };
static char large[LARGE], binary[256];

typedef struct kind {
    const char *what;
    salvo_message message;
} kind;

static const salvo_header some[] = {
    {"text", 4, "plain", 5}, {"null", 4, NULL, 0}, {"empty", 5, "", 0}, {"text", 4, "again", 5},
    {"bytes", 5, "\0\xff\n", 3}};

static const kind kinds[] = {
    {"plain", {.value = "hello", .value_len = 5}},
    {"empty", {.value = "", .value_len = 0}},
    {"null", {.value = NULL}},
    {"binary", {.value = binary, .value_len = sizeof binary, .key = binary, .key_len = 256}},
    {"empty key", {.value = "v", .value_len = 1, .key = "", .key_len = 0}},
    {"key", {.value = "v", .value_len = 1, .key = "k", .key_len = 1}},
    {"null with key", {.value = NULL, .key = "tombstone", .key_len = 9}},
    {"headers", {.value = "h", .value_len = 1, .headers = some, .header_count = 5}},
    {"time", {.value = "t", .value_len = 1, .timestamp_ms = 1700000000123}},
    {"all", {.value = large, .value_len = LARGE, .key = "k", .key_len = 1, .headers = some,
             .header_count = 5, .timestamp_ms = 1}},
    {"just more than a frame", {.value = large, .value_len = 131073}},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

static void assert_bytes(const void *a, size_t a_len, const void *b, size_t b_len)
{
    assert_int_equal(a == NULL, b == NULL);
    assert_int_equal(a_len, b_len);
    if (a_len)
        assert_memory_equal(a, b, a_len);
}

static void assert_is(const salvo_record *r, const salvo_message *m)
{
    assert_bytes(r->value, r->value_len, m->value, m->value_len);
    assert_bytes(r->key, r->key_len, m->key, m->key_len);
    assert_int_equal(r->header_count, m->header_count);
    for (size_t i = 0; i < m->header_count; i++) {
        assert_bytes(r->headers[i].name, r->headers[i].name_len, m->headers[i].name,
                     m->headers[i].name_len);
        assert_bytes(r->headers[i].value, r->headers[i].value_len, m->headers[i].value,
                     m->headers[i].value_len);
    }
    if (m->timestamp_ms)
        assert_int_equal(r->timestamp_ms, m->timestamp_ms);
    else
        assert_true(r->timestamp_ms > INT64_C(1700000000000));
}

static void send_kinds(const char *compression, const char *queue)
{
    world w = world_new(url);
    world_set(&w, "max_message_bytes", "2000000");
    world_set(&w, "payload_compression", compression);
    world_set(&w, "payload_compression_least_bytes", "16");
    world_start(&w);
    salvo_topic topic = world_topic(&w, queue, NULL);
    for (int i = 0; i < KINDS; i++)
        assert_int_equal(salvo_send(w.producer, topic, &kinds[i].message), 0);
    world_flush(&w, 30000);
    assert_int_equal(world_end(&w).acknowledged, KINDS);
}

static void every_kind_comes_back_and_reading_takes_nothing(void **state)
{
    (void)state;
    static const char *const codecs[] = {"none", "gzip", "lz4", "zstd", "snappy"};
    for (size_t c = 0; c < sizeof codecs / sizeof *codecs; c++) {
        char queue[96];
        send_kinds(codecs[c], fresh_name(queue, codecs[c]));
        for (int round = 0; round < 2; round++) { /* the second finds what the first gave back */
            world w = world_new(url);
            salvo_reader *reader = world_read(w.config, queue);
            salvo_record r;
            for (int i = 0; i < KINDS; i++) {
                assert_true(world_next(reader, &r));
                assert_int_equal(r.offset, i);
                assert_is(&r, &kinds[i].message);
            }
            assert_false(world_next(reader, &r));
            salvo_reader_close(reader);
            salvo_config_free(w.config);
        }
        other_delete_queue(url, queue);
    }
}

/* Another client sees what the documentation says. */
static void another_client_reads_it(void **state)
{
    (void)state;
    char queue[96];
    amqp_message_t m;
    world w = world_new(url);
    world_start(&w);
    salvo_topic topic = world_topic(&w, fresh_name(queue, "other"), NULL);
    salvo_message message = {.value = "value", .value_len = 5, .key = "key", .key_len = 3,
                             .timestamp_ms = 1700000000123};
    assert_int_equal(salvo_send_wait(w.producer, topic, &message, 10000, NULL), 0);
    world_end(&w);
    amqp_connection_state_t c = other_open(url);
    assert_int_equal(amqp_basic_get(c, 1, amqp_cstring_bytes(queue), 1).reply_type,
                     AMQP_RESPONSE_NORMAL);
    assert_int_equal(amqp_read_message(c, 1, &m, 0).reply_type, AMQP_RESPONSE_NORMAL);
    assert_memory_equal(m.body.bytes, "value", 5);
    assert_int_equal(m.properties.delivery_mode, 2);
    assert_int_equal(m.properties.timestamp, 1700000000);
    assert_int_equal(m.properties.message_id.len, 29);
    assert_int_equal(m.properties.headers.num_entries, 2);
    const amqp_table_entry_t *h = m.properties.headers.entries;
    assert_memory_equal(h[0].key.bytes, "salvo-key", h[0].key.len);
    assert_memory_equal(h[0].value.value.bytes.bytes, "key", 3);
    assert_memory_equal(h[1].key.bytes, "timestamp_in_ms", h[1].key.len);
    assert_int_equal(h[1].value.value.i64, 1700000000123);
    amqp_destroy_message(&m);
    other_close(c);
    other_delete_queue(url, queue);
}

/* --- queues and exchanges ------------------------------------------------------------------ */

static void a_deleted_queue_fails_what_was_on_its_way_and_comes_back(void **state)
{
    (void)state;
    char queue[96];
    world w = world_new(url);
    world_start(&w);
    salvo_topic topic = world_topic(&w, fresh_name(queue, "deleted"), NULL);
    assert_int_equal(world_send_wait(&w, topic, "before"), 0);
    other_delete_queue(url, queue);
    assert_int_equal(world_send_wait(&w, topic, "into the void"), SALVO_ERR_UNKNOWN_TOPIC);
    assert_int_equal(world_send_wait(&w, topic, "after"), 0);
    salvo_ledger l = world_end(&w);
    assert_int_equal(l.acknowledged, 2);
    assert_int_equal(l.failed, 1);
    other_delete_queue(url, queue);
}

static void a_queue_of_other_arguments_is_used(void **state)
{
    (void)state;
    char queue[96];
    other_declare_queue(url, fresh_name(queue, "args"), NULL, NULL, 1000);
    world w = world_new(url);
    world_start(&w);
    salvo_topic topic = world_topic(&w, queue, NULL);
    assert_int_equal(world_send_wait(&w, topic, "x"), 0);
    world_end(&w);
    other_delete_queue(url, queue);
}

/* reject-publish: nacks until the deadline; then it surely did not arrive. */
static void a_full_queue_is_tried_until_the_deadline(void **state)
{
    (void)state;
    char queue[96];
    salvo_report report;
    other_declare_queue(url, fresh_name(queue, "full"), "x-overflow", "reject-publish", 1);
    world w = world_new(url);
    world_set(&w, "delivery_timeout_ms", "1500");
    world_start(&w);
    salvo_topic topic = world_topic(&w, queue, NULL);
    assert_int_equal(world_send_wait(&w, topic, "fits"), 0);
    salvo_message late = {.value = "late", .value_len = 4};
    assert_int_equal(salvo_send_wait(w.producer, topic, &late, 20000, &report), SALVO_ERR_EXPIRED);
    assert_true(report.latency_ns >= UINT64_C(1400000000));
    salvo_ledger l = world_end(&w);
    assert_int_equal(l.acknowledged, 1);
    assert_int_equal(l.expired, 1);
    other_delete_queue(url, queue);
}

static void exchanges(void **state)
{
    (void)state;
    char exchange[96], queue[96], missing[96];
    salvo_topic_options typed = {.size = sizeof typed,
                                 .rabbitmq_exchange = fresh_name(exchange, "x"),
                                 .rabbitmq_exchange_type = "direct",
                                 .rabbitmq_routing_key = "here"};
    salvo_topic_options plain = typed, nowhere = typed, optional = typed;
    plain.rabbitmq_exchange_type = NULL;
    plain.rabbitmq_exchange = fresh_name(missing, "missing");
    nowhere.rabbitmq_routing_key = optional.rabbitmq_routing_key = "nowhere";
    optional.rabbitmq_optional = 1;
    world w = world_new(url);
    world_start(&w);
    salvo_topic here = world_topic(&w, "here", &typed);
    other_declare_queue(url, fresh_name(queue, "bound"), NULL, NULL, 0);
    assert_int_equal(world_send_wait(&w, here, "unbound"), SALVO_ERR_UNKNOWN_TOPIC);
    other_bind(url, queue, exchange, "here");
    assert_int_equal(world_send_wait(&w, here, "bound"), 0);
    assert_int_equal(world_send_wait(&w, world_topic(&w, "nowhere", &nowhere), "n"),
                     SALVO_ERR_UNKNOWN_TOPIC);
    assert_int_equal(world_send_wait(&w, world_topic(&w, "optional", &optional), "o"), 0);
    assert_int_equal(world_send_wait(&w, world_topic(&w, "missing", &plain), "m"),
                     SALVO_ERR_UNKNOWN_TOPIC);
    assert_int_equal(world_send_wait(&w, here, "and again"), 0);
    world_end(&w);
    world r = world_new(url);
    salvo_reader *reader = world_read(r.config, queue);
    salvo_record record;
    assert_true(world_next(reader, &record));
    assert_memory_equal(record.value, "bound", 5);
    assert_true(world_next(reader, &record));
    assert_memory_equal(record.value, "and again", 9);
    assert_false(world_next(reader, &record));
    salvo_reader_close(reader);
    salvo_config_free(r.config);
    other_delete_queue(url, queue);
    other_delete_exchange(url, exchange);
}

/* The server closes the channel; messages of another topic on it are not lost. */
static void a_deleted_exchange_harms_nobody_else(void **state)
{
    (void)state;
    enum { COUNT = 20000 };
    char exchange[96], queue[96], bound[96];
    salvo_topic_options typed = {.size = sizeof typed,
                                 .rabbitmq_exchange = fresh_name(exchange, "x"),
                                 .rabbitmq_exchange_type = "fanout"};
    world w = world_new(url);
    world_start(&w);
    salvo_topic fan = world_topic(&w, "fan", &typed);
    salvo_topic steady = world_topic(&w, fresh_name(queue, "steady"), NULL);
    other_declare_queue(url, fresh_name(bound, "bound"), NULL, NULL, 0);
    assert_int_equal(world_send_wait(&w, fan, "unbound"), SALVO_ERR_UNKNOWN_TOPIC);
    other_bind(url, bound, exchange, "");
    assert_int_equal(world_send_wait(&w, fan, "bound"), 0);
    for (int i = 0; i < COUNT; i++)
        world_send(&w, steady, "steady");
    other_delete_exchange(url, exchange);
    for (int i = 0; i < 10; i++)
        world_send(&w, fan, "gone"); /* 404, declared anew, then returned: nothing is bound */
    for (int i = 0; i < COUNT; i++)
        world_send(&w, steady, "steady");
    world_flush(&w, 60000);
    salvo_ledger all, l;
    assert_int_equal(salvo_get_ledger(w.producer, steady, &l), 0);
    assert_int_equal(salvo_get_ledger(w.producer, fan, &all), 0);
    assert_int_equal(l.acknowledged, 2 * COUNT);
    assert_int_equal(all.failed, 11);
    assert_int_equal(all.acknowledged, 1);
    world_end(&w);
    other_delete_queue(url, queue);
    other_delete_queue(url, bound);
    other_delete_exchange(url, exchange);
}

static void headers_that_amqp_cannot_carry_fail_alone(void **state)
{
    (void)state;
    char queue[96];
    static char huge[200000];
    salvo_header routing = {"CC", 2, "elsewhere", 9}, wide = {"h", 1, huge, sizeof huge};
    salvo_message bad[] = {
        {.value = "v", .value_len = 1, .headers = &routing, .header_count = 1},
        {.value = "v", .value_len = 1, .headers = &wide, .header_count = 1},
    };
    static const int status[] = {SALVO_ERR_REJECTED, SALVO_ERR_TOO_LARGE};
    world w = world_new(url);
    world_start(&w);
    salvo_topic topic = world_topic(&w, fresh_name(queue, "bad"), NULL);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(salvo_send_wait(w.producer, topic, &bad[i], 10000, NULL), status[i]);
        assert_int_equal(world_send_wait(&w, topic, "good"), 0);
    }
    world_end(&w);
    other_delete_queue(url, queue);
}

static void many_topics(void **state)
{
    (void)state;
    enum { TOPICS = 100, EACH = 50 };
    static char names[TOPICS][96];
    world w = world_new(url);
    world_start(&w);
    salvo_topic topics[TOPICS];
    for (int i = 0; i < TOPICS; i++)
        topics[i] = world_topic(&w, fresh_name(names[i], "many"), NULL);
    for (int n = 0; n < EACH; n++)
        for (int i = 0; i < TOPICS; i++)
            world_send(&w, topics[i], names[i]);
    world_flush(&w, 60000);
    assert_int_equal(world_end(&w).acknowledged, TOPICS * EACH);
    for (int i = 0; i < TOPICS; i++)
        other_delete_queue(url, names[i]);
}

/* --- opening ------------------------------------------------------------------------------- */

static void required(const char *address, int expected, const char *says)
{
    world w = world_new(address);
    salvo_options options = {.size = sizeof options, .require_broker = 1, .open_timeout_ms = 3000};
    assert_int_equal(salvo_open(w.config, &options, &w.producer), expected);
    if (says && !strstr(salvo_last_error(), says))
        fail_msg("'%s' does not say '%s'", salvo_last_error(), says);
    assert_null(strstr(salvo_last_error(), "s3cret"));
    if (!expected)
        world_end(&w);
    else
        salvo_config_free(w.config);
}

static void what_cannot_be_opened_says_why(void **state)
{
    (void)state;
    char text[256];
    const char *at = strchr(url, '@');
    assert_non_null(at);
    const char *end = strchr(at, '/');
    int length = (int)(end ? end - at : (long)strlen(at));
    required(url, 0, NULL);
    snprintf(text, sizeof text, "amqp://guest:s3cret%.*s/", length, at);
    required(text, SALVO_ERR_AUTH, "ACCESS_REFUSED");
    snprintf(text, sizeof text, "amqp://guest:guest%.*s/no%%20such", length, at);
    required(text, SALVO_ERR_AUTH, "no such");
    required("amqp://guest:s3cret@127.0.0.1:1/", SALVO_ERR_UNREACHABLE, "efused");
    required("amqp://guest:s3cret@no-such-host.invalid/", SALVO_ERR_UNREACHABLE, "no-such-host");
}

static void readers_say_what_is_wrong(void **state)
{
    (void)state;
    world w = world_new(url);
    salvo_reader *reader;
    assert_int_equal(salvo_reader_open(w.config, NULL, "no-such-queue", NULL, &reader),
                     SALVO_ERR_UNKNOWN_TOPIC);
    assert_non_null(strstr(salvo_last_error(), "no-such-queue"));
    salvo_config_free(w.config);
}

static int setup(void **state)
{
    (void)state;
    url = server_shared("rabbitmq");
    for (size_t i = 0; i < sizeof binary; i++)
        binary[i] = (char)(255 - i);
    for (size_t i = 0; i < LARGE; i++)
        large[i] = (char)(i * 2654435761u >> (i % 16384 < 8192 ? 24 : 31));
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_comes_back_and_reading_takes_nothing),
        cmocka_unit_test(another_client_reads_it),
        cmocka_unit_test(a_deleted_queue_fails_what_was_on_its_way_and_comes_back),
        cmocka_unit_test(a_queue_of_other_arguments_is_used),
        cmocka_unit_test(a_full_queue_is_tried_until_the_deadline),
        cmocka_unit_test(exchanges),
        cmocka_unit_test(a_deleted_exchange_harms_nobody_else),
        cmocka_unit_test(headers_that_amqp_cannot_carry_fail_alone),
        cmocka_unit_test(many_topics),
        cmocka_unit_test(what_cannot_be_opened_says_why),
        cmocka_unit_test(readers_say_what_is_wrong),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
