/* SPDX-License-Identifier: Apache-2.0
 *
 * The public reader over the memory driver. The producer is a double: the calls by which a
 * reader reaches it are defined here (so the archive's producer.o is not linked), and the "engine"
 * is the test that submits by hand.
 */
#include "driver_fixture.h"
#include "producer.h"

static fixture engine;
static char place; /* only its address is used */
static salvo *const fake_producer = (salvo *)(void *)&place;

void *salvo_producer_shared(salvo *producer)
{
    assert_ptr_equal(producer, fake_producer);
    return engine.env.shared;
}

const salvo_driver_ops *salvo_producer_driver(salvo *producer)
{
    assert_ptr_equal(producer, fake_producer);
    return engine.ops;
}

const salvo_config *salvo_producer_config(salvo *producer)
{
    assert_ptr_equal(producer, fake_producer);
    return engine.config;
}

int salvo_producer_check(const salvo *producer)
{
    assert_ptr_equal(producer, fake_producer);
    return 0;
}

static int set_up(void **state)
{
    (void)state;
    fixture_open(&engine, &salvo_driver_memory, (const char *[]){"message_broker", "memory", NULL});
    assert_int_equal(fixture_submit(&engine, fixture_batch(&engine, 0, 0, 1, 2), 1), 0);
    fixture_expect(&engine, 1, 0, 0);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fixture_close(&engine);
    return 0;
}

static void reads_to_the_end(void **state)
{
    (void)state;
    const salvo_reader_options options = {.size = sizeof options, .stop_at_end = 1};
    for (int with_config = 0; with_config < 2; with_config++) {
        salvo_reader *reader;
        salvo_record r;
        assert_int_equal(salvo_reader_open(with_config ? engine.config : NULL, fake_producer,
                                           "zero", &options, &reader), 0);
        assert_int_equal(salvo_reader_next(reader, 0, &r), 0);
        assert_memory_equal(r.value, "1", 1);
        assert_int_equal(salvo_reader_next(reader, 0, &r), 0);
        assert_memory_equal(r.value, "2", 1);
        assert_int_equal(salvo_reader_next(reader, 0, &r), SALVO_ERR_END);
        salvo_reader_close(reader);
    }
}

static void expect_refused(const salvo_config *config, salvo *producer, const char *topic,
                           const salvo_reader_options *options, int err, const char *text)
{
    salvo_reader *reader = (salvo_reader *)(void *)&place;
    assert_int_equal(salvo_reader_open(config, producer, topic, options, &reader), err);
    assert_null(reader);
    if (!strstr(salvo_last_error(), text))
        fail_msg("\"%s\" lacks \"%s\"", salvo_last_error(), text);
}

static void misuse_is_told(void **state)
{
    (void)state;
    const salvo_reader_options unsized = {.stop_at_end = 1};
    const salvo_reader_options brief = {.size = sizeof brief, .open_timeout_ms = 1};
    salvo_config *null = fixture_config((const char *[]){"message_broker", "null", NULL});
    expect_refused(engine.config, NULL, "zero", NULL, SALVO_ERR_INVALID, "give that producer");
    expect_refused(engine.config, fake_producer, NULL, NULL, SALVO_ERR_INVALID, "no topic");
    expect_refused(engine.config, fake_producer, "zero", &unsized, SALVO_ERR_INVALID, "size is 0");
    expect_refused(engine.config, fake_producer, "gone", &brief, SALVO_ERR_UNKNOWN_TOPIC,
                   "no topic \"gone\" after 1 ms");
    expect_refused(null, NULL, "zero", NULL, SALVO_ERR_UNSUPPORTED, "null driver keeps nothing");
    assert_int_equal(salvo_reader_open(NULL, fake_producer, "zero", NULL, NULL),
                     SALVO_ERR_INVALID);
    assert_int_equal(salvo_reader_next(NULL, 0, NULL), SALVO_ERR_INVALID);
    salvo_reader_close(NULL);
    salvo_config_free(null);
}

static void drivers_are_found_by_name(void **state)
{
    (void)state;
    assert_ptr_equal(salvo_driver_find("memory"), &salvo_driver_memory);
    assert_ptr_equal(salvo_driver_find("null"), &salvo_driver_null);
    assert_ptr_equal(salvo_driver_find("kafka"), &salvo_driver_kafka);
    assert_null(salvo_driver_find("carrier pigeon"));
    assert_null(salvo_driver_find(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(reads_to_the_end, set_up, tear_down),
        cmocka_unit_test_setup_teardown(misuse_is_told, set_up, tear_down),
        cmocka_unit_test(drivers_are_found_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
