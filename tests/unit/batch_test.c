/* SPDX-License-Identifier: Apache-2.0
 *
 * Batches over the arena: what goes in comes out, in order; settled records are not seen by a
 * driver; a token answers for one life of one batch.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "batch.h"
#include <salvo/salvo.h>
#include <stdlib.h>

static bool add(salvo_batch_pool *pool, salvo_batch *b, const char *key, const void *value,
                uint32_t value_len, uint64_t expires_ns)
{
    uint32_t key_len = key != NULL ? (uint32_t)strlen(key) : SALVO_NULL_LEN;
    salvo_record_head head = {.value_len = value != NULL ? value_len : SALVO_NULL_LEN,
                              .key_len = key_len,
                              .partition = SALVO_PARTITION_ANY};
    uint32_t length = (uint32_t)sizeof head + salvo_record_span(key_len) + value_len;
    unsigned char *payload = malloc(length);
    assert_non_null(payload);
    memcpy(payload, &head, sizeof head);
    if (key != NULL)
        memcpy(payload + sizeof head, key, key_len);
    if (value_len != 0)
        memcpy(payload + length - value_len, value, value_len);
    salvo_batch_item item = {.payload = payload, .length = length, .stamp = expires_ns / 2,
                             .expires_ns = expires_ns, .head = head};
    bool added = salvo_batch_append(pool, b, &item, 16384);
    free(payload);
    return added;
}

static void null_and_empty_come_back(void **state)
{
    (void)state;
    salvo_batch_pool pool;
    assert_int_equal(salvo_batch_pool_open(&pool, 4u << 20, 1000), 0);
    salvo_batch *b = salvo_batch_open(&pool, 3, 5);
    assert_true(add(&pool, b, NULL, NULL, 0, 40));
    assert_true(add(&pool, b, "", "", 0, 20));
    assert_true(add(&pool, b, "key", "value", 5, 60));
    assert_int_equal(b->driver.topic, 3);
    assert_int_equal(b->driver.partition, 5);
    assert_int_equal(b->driver.count, 3);
    assert_int_equal(b->driver.bytes, 8);
    assert_int_equal(b->driver.extras, 0);
    assert_int_equal(b->expires_ns, 20);
    assert_int_equal(b->driver.deadline_ns, 20);
    assert_int_equal(b->oldest_stamp, 10);
    salvo_driver_cursor c = {0};
    salvo_driver_message m;
    assert_true(salvo_batch_next(&b->driver, &c, &m));
    assert_null(m.key);
    assert_null(m.value);
    assert_true(salvo_batch_next(&b->driver, &c, &m));
    assert_non_null(m.key);
    assert_non_null(m.value);
    assert_int_equal(m.key_len + m.value_len, 0);
    assert_true(salvo_batch_next(&b->driver, &c, &m));
    assert_memory_equal(m.key, "key", 3);
    assert_memory_equal(m.value, "value", 5);
    assert_false(salvo_batch_next(&b->driver, &c, &m));
    salvo_batch_free(&pool, b);
    assert_int_equal(pool.arena.used, 0);
    salvo_batch_pool_close(&pool);
}

/* Over many blocks, with every third record settled before. */
static void settled_records_are_skipped(void **state)
{
    (void)state;
    enum { RECORDS = 5000 };
    salvo_batch_pool pool;
    assert_int_equal(salvo_batch_pool_open(&pool, 4u << 20, 1000), 0);
    salvo_batch *b = salvo_batch_open(&pool, 0, 0);
    for (uint32_t i = 0; i < RECORDS; i++)
        assert_true(add(&pool, b, NULL, &i, sizeof i, UINT64_MAX));
    assert_ptr_not_equal(b->first, b->last);
    assert_int_equal(pool.arena.used, b->arena_bytes);
    salvo_batch_walk walk = salvo_batch_walk_start(b);
    for (uint32_t i = 0; i < RECORDS; i++) {
        salvo_record_stored *s = salvo_batch_walk_next(&walk);
        assert_non_null(s);
        if (i % 3 == 0)
            s->flags |= SALVO_RECORD_SETTLED;
    }
    assert_null(salvo_batch_walk_next(&walk));
    salvo_driver_cursor c = {0};
    salvo_driver_message m;
    for (uint32_t i = 0, got; i < RECORDS; i++) {
        if (i % 3 == 0)
            continue;
        assert_true(salvo_batch_next(&b->driver, &c, &m));
        memcpy(&got, m.value, sizeof got);
        assert_int_equal(got, i);
    }
    assert_false(salvo_batch_next(&b->driver, &c, &m));
    salvo_batch_free(&pool, b);
    assert_int_equal(pool.arena.used, 0);
    salvo_batch_pool_close(&pool);
}

static void tokens_answer_for_one_life(void **state)
{
    (void)state;
    salvo_batch_pool pool;
    assert_int_equal(salvo_batch_pool_open(&pool, 1u << 20, 1000), 0);
    salvo_batch *b = salvo_batch_open(&pool, 0, 0);
    uint64_t token = salvo_batch_token(b);
    assert_null(salvo_batch_of(&pool, token)); /* not out yet */
    b->state = SALVO_BATCH_OUT;
    assert_ptr_equal(salvo_batch_of(&pool, token), b);
    assert_null(salvo_batch_of(&pool, pool.count));
    salvo_batch_free(&pool, b);
    assert_null(salvo_batch_of(&pool, token));
    salvo_batch *again = salvo_batch_open(&pool, 0, 0);
    assert_ptr_equal(again, b);
    again->state = SALVO_BATCH_OUT;
    assert_null(salvo_batch_of(&pool, token)); /* the same place in another life */
    salvo_batch_pool_close(&pool);
}

static void no_memory_leaves_the_batch_as_it_was(void **state)
{
    (void)state;
    enum { LARGE = 300000 };
    static unsigned char large[LARGE];
    salvo_batch_pool pool;
    assert_int_equal(salvo_batch_pool_open(&pool, 1u << 20, LARGE), 0);
    salvo_batch *b = salvo_batch_open(&pool, 0, 0);
    assert_true(add(&pool, b, NULL, large, LARGE, 10));
    assert_true(add(&pool, b, NULL, large, LARGE, 10));
    assert_false(add(&pool, b, NULL, large, LARGE, 5));
    assert_int_equal(b->records, 2);
    assert_int_equal(b->driver.count, 2);
    assert_int_equal(b->driver.bytes, 2 * LARGE);
    assert_int_equal(b->expires_ns, 10);
    assert_int_equal(pool.arena.used, b->arena_bytes);
    salvo_batch_free(&pool, b);
    assert_int_equal(pool.arena.used, 0);
    salvo_batch_pool_close(&pool);
}

static void the_pool_ends_and_comes_back(void **state)
{
    (void)state;
    salvo_batch_pool pool;
    salvo_batch *b, *list = NULL;
    uint32_t n = 0;
    assert_int_equal(salvo_batch_pool_open(&pool, 1u << 20, 1000), 0);
    for (; (b = salvo_batch_open(&pool, 0, 0)) != NULL; n++) {
        b->next = list;
        list = b;
    }
    assert_int_equal(n, pool.count);
    while ((b = list) != NULL) {
        list = b->next;
        salvo_batch_free(&pool, b);
    }
    assert_non_null(salvo_batch_open(&pool, 0, 0));
    salvo_batch_pool_close(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(null_and_empty_come_back),
        cmocka_unit_test(settled_records_are_skipped),
        cmocka_unit_test(tokens_answer_for_one_life),
        cmocka_unit_test(no_memory_leaves_the_batch_as_it_was),
        cmocka_unit_test(the_pool_ends_and_comes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
