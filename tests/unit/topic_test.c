/* SPDX-License-Identifier: Apache-2.0
 *
 * Topics: names, options, and what a driver is told of a topic: its own options, else the
 * configuration's, checked, and copied.
 */
#include "engine_fixture.h"

#include "compress.h"
#include "topic.h"

static const salvo_driver_topic *told(engine *e, salvo_topic topic)
{
    const salvo_topic_entry *entry = salvo_topic_at(&e->p->topics, topic);
    assert_non_null(entry);
    return &entry->driver;
}

static salvo_topic open_topic(engine *e, const char *name, salvo_topic_options *options)
{
    salvo_topic topic;
    options->size = sizeof *options;
    if (salvo_topic_open(e->p, name, options, &topic) != 0)
        fail_msg("%s", salvo_last_error());
    return topic;
}

static void expect_refused(engine *e, salvo_topic_options *options, const char *text)
{
    salvo_topic topic = 4711;
    options->size = sizeof *options;
    assert_int_equal(salvo_topic_open(e->p, "refused", options, &topic), SALVO_ERR_INVALID);
    assert_int_equal(topic, 4711);
    if (strstr(salvo_last_error(), text) == NULL)
        fail_msg("\"%s\" lacks \"%s\"", salvo_last_error(), text);
    assert_non_null(strstr(salvo_last_error(), "\"refused\""));
    assert_non_null(strstr(salvo_last_error(), "allowed"));
}

static void defaults_are_the_configurations_defaults(void **state)
{
    (void)state;
    engine e;
    engine_open(&e, NULL);
    const salvo_driver_topic *d = told(&e, e.topic);
    assert_null(d->codec);
    assert_int_equal(d->compress_least_bytes, 256);
    assert_int_equal(d->redis_maxlen, 0);
    assert_false(d->redis_nomkstream);
    assert_true(d->rabbitmq_mandatory);
    assert_string_equal(d->rabbitmq_exchange, "");
    assert_string_equal(d->rabbitmq_exchange_type, "");
    assert_string_equal(d->rabbitmq_routing_key, "");
    engine_close(&e, 0);
}

static void the_configuration_speaks_for_all_topics(void **state)
{
    (void)state;
    engine e;
    engine_open(&e, (const char *[]){
        "payload_compression", "zstd", "payload_compression_least_bytes", "77",
        "redis_maxlen", "1000", "redis_nomkstream", "true", "rabbitmq_mandatory", "false",
        "rabbitmq_exchange", "orders", "rabbitmq_exchange_type", "topic",
        "rabbitmq_routing_key", "a.b", NULL});
    const salvo_driver_topic *d = told(&e, e.topic);
    assert_ptr_equal(d->codec, salvo_codec_find("zstd"));
    assert_int_equal(d->compress_least_bytes, 77);
    assert_int_equal(d->redis_maxlen, 1000);
    assert_true(d->redis_nomkstream);
    assert_false(d->rabbitmq_mandatory);
    assert_string_equal(d->rabbitmq_exchange, "orders");
    assert_string_equal(d->rabbitmq_exchange_type, "topic");
    assert_string_equal(d->rabbitmq_routing_key, "a.b");

    salvo_topic_options o = {.payload_compression = "none", .redis_maxlen = UINT64_MAX,
                             .redis_nomkstream = 2, .rabbitmq_optional = 2,
                             .rabbitmq_exchange = "", .rabbitmq_exchange_type = "",
                             .rabbitmq_routing_key = ""};
    d = told(&e, open_topic(&e, "other", &o));
    assert_null(d->codec);
    assert_int_equal(d->redis_maxlen, 0);
    assert_false(d->redis_nomkstream);
    assert_true(d->rabbitmq_mandatory);
    assert_string_equal(d->rabbitmq_exchange, "");
    assert_string_equal(d->rabbitmq_exchange_type, "");
    assert_string_equal(d->rabbitmq_routing_key, "");
    engine_close(&e, 0);
}

static void a_topics_own_options_win_and_are_copied(void **state)
{
    (void)state;
    engine e;
    engine_open(&e, (const char *[]){"redis_maxlen", "5", NULL});
    char codec[] = "gzip", exchange[] = "logs", type[] = "fanout", key[] = "k";
    salvo_topic_options o = {.payload_compression = codec, .redis_maxlen = 9,
                             .redis_nomkstream = 1, .rabbitmq_optional = 1,
                             .rabbitmq_exchange = exchange, .rabbitmq_exchange_type = type,
                             .rabbitmq_routing_key = key};
    salvo_topic topic = open_topic(&e, "mine", &o);
    memset(codec, 'x', 1);
    memset(exchange, 'x', 1);
    memset(type, 'x', 1);
    memset(key, 'x', 1);
    const salvo_driver_topic *d = told(&e, topic);
    assert_ptr_equal(d->codec, salvo_codec_find("gzip"));
    assert_int_equal(d->redis_maxlen, 9);
    assert_true(d->redis_nomkstream);
    assert_false(d->rabbitmq_mandatory);
    assert_string_equal(d->rabbitmq_exchange, "logs");
    assert_string_equal(d->rabbitmq_exchange_type, "fanout");
    assert_string_equal(d->rabbitmq_routing_key, "k");

    salvo_topic again; /* the first opening decides; a second one finds the same topic */
    assert_int_equal(salvo_topic_open(e.p, "mine", NULL, &again), 0);
    assert_int_equal(again, topic);
    assert_ptr_equal(told(&e, again)->codec, salvo_codec_find("gzip"));
    engine_close(&e, 0);
}

/* A program built with an older header says so by its size: what lies behind is not read. */
static void what_is_behind_the_size_is_not_read(void **state)
{
    (void)state;
    engine e;
    engine_open(&e, NULL);
    salvo_topic_options o = {.payload_compression = (const char *)(uintptr_t)1,
                             .redis_nomkstream = 99};
    o.size = offsetof(salvo_topic_options, payload_compression);
    salvo_topic topic;
    assert_int_equal(salvo_topic_open(e.p, "old", &o, &topic), 0);
    assert_null(told(&e, topic)->codec);
    engine_close(&e, 0);
}

static void bad_options_are_named(void **state)
{
    (void)state;
    engine e;
    char longest[257];
    memset(longest, 'k', sizeof longest);
    longest[256] = '\0';
    engine_open(&e, NULL);
    expect_refused(&e, &(salvo_topic_options){.payload_compression = "brotli"}, "\"brotli\"");
    expect_refused(&e, &(salvo_topic_options){.payload_compression = ""}, "payload_compression");
    expect_refused(&e, &(salvo_topic_options){.redis_nomkstream = 3}, "redis_nomkstream = 3");
    expect_refused(&e, &(salvo_topic_options){.rabbitmq_optional = 3}, "rabbitmq_optional = 3");
    expect_refused(&e, &(salvo_topic_options){.rabbitmq_exchange = longest},
                   "rabbitmq_exchange has 256 bytes; allowed: at most 255");
    expect_refused(&e, &(salvo_topic_options){.rabbitmq_routing_key = longest},
                   "rabbitmq_routing_key has 256 bytes; allowed: at most 255");
    expect_refused(&e, &(salvo_topic_options){.rabbitmq_exchange = "e",
                                              .rabbitmq_exchange_type = "x-delayed"},
                   "\"x-delayed\"");
    salvo_topic_options o = {.rabbitmq_exchange_type = "topic"};
    salvo_topic topic;
    o.size = sizeof o;
    assert_int_equal(salvo_topic_open(e.p, "refused", &o, &topic), SALVO_ERR_INVALID);
    assert_non_null(strstr(salvo_last_error(), "without rabbitmq_exchange"));

    longest[255] = '\0'; /* what is allowed, to the byte; and nothing of the above stayed */
    o = (salvo_topic_options){.rabbitmq_routing_key = longest};
    topic = open_topic(&e, "refused", &o);
    assert_int_equal(topic, e.topic + 1);
    assert_int_equal(strlen(told(&e, topic)->rabbitmq_routing_key), 255);
    engine_close(&e, 0);
}

static void names_are_checked_and_counted(void **state)
{
    (void)state;
    engine e;
    engine_open(&e, (const char *[]){"max_topics", "3", NULL});
    static const char *const bad[] = {"", ".", "..", "a b", "a/b", "\xc3\xa4"};
    salvo_topic topic, first, second;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(salvo_topic_open(e.p, bad[i], NULL, &topic), SALVO_ERR_INVALID);
    assert_int_equal(salvo_topic_open(e.p, "a.b-c_D9", NULL, &first), 0);
    assert_int_equal(salvo_topic_open(e.p, "second", NULL, &second), 0);
    assert_int_not_equal(first, second);
    assert_int_equal(salvo_topic_open(e.p, "third", NULL, &topic), SALVO_ERR_LIMIT);
    assert_non_null(strstr(salvo_last_error(), "max_topics (3)"));
    assert_int_equal(salvo_topic_open(e.p, "second", NULL, &topic), 0);
    assert_int_equal(topic, second);
    engine_close(&e, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_the_configurations_defaults),
        cmocka_unit_test(the_configuration_speaks_for_all_topics),
        cmocka_unit_test(a_topics_own_options_win_and_are_copied),
        cmocka_unit_test(what_is_behind_the_size_is_not_read),
        cmocka_unit_test(bad_options_are_named),
        cmocka_unit_test(names_are_checked_and_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
