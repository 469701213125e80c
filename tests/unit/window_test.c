/* SPDX-License-Identifier: Apache-2.0
 *
 * The settlement window, against a model that keeps every offset in an array of flags.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "window.h"
#include <stdlib.h>
#include <string.h>

enum { OFFSETS = 20000 };

typedef struct model {
    enum { NEVER, GIVEN, SETTLED } state[OFFSETS];
    int64_t begin, next;
    uint32_t unsettled;
} model;

/* All below it is settled or was never given, and it is the highest such offset. */
static int64_t model_position(const model *m)
{
    for (int64_t i = m->begin; i < m->next; i++)
        if (m->state[i] == GIVEN)
            return i;
    return m->next;
}

static uint32_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

static void give(salvo_window *w, model *m, int64_t offset)
{
    assert_true(salvo_window_give(w, offset));
    m->state[offset] = GIVEN;
    m->next = offset + 1;
    m->unsettled++;
}

static void settle(salvo_window *w, model *m, int64_t offset)
{
    bool expected = offset >= 0 && offset < OFFSETS && m->state[offset] == GIVEN;
    assert_int_equal(salvo_window_settle(w, offset), expected);
    if (!expected)
        return;
    m->state[offset] = SETTLED;
    m->unsettled--;
}

static void compare(const salvo_window *w, const model *m)
{
    assert_int_equal(salvo_window_position(w), model_position(m));
    assert_int_equal(w->unsettled, m->unsettled);
    assert_true(w->unsettled <= w->count && w->count <= w->most);
    assert_int_equal(salvo_window_room(w), w->most - w->count);
}

/* Gives and settles in random order, with gaps where `gaps`, and asks for nonsense in between. */
static void random_run(uint64_t seed, uint32_t gaps, uint32_t most)
{
    static model m;
    salvo_window w;
    uint64_t random = seed;
    memset(&m, 0, sizeof m);
    m.begin = m.next = next_random(&random) % 100;
    salvo_window_init(&w, m.next, most);
    while (m.next < OFFSETS - 400) {
        uint32_t what = next_random(&random) % 16;
        uint32_t back = next_random(&random) % (most < 3000 ? most : 3000);
        if (what < 7 && salvo_window_room(&w) > 0)
            give(&w, &m, m.next + (gaps ? next_random(&random) % gaps : 0));
        else if (what < 15)
            settle(&w, &m, m.next - back);
        else
            settle(&w, &m, (int64_t)(next_random(&random) % OFFSETS));
        if (salvo_window_room(&w) == 0) {
            assert_false(salvo_window_give(&w, m.next));
            settle(&w, &m, salvo_window_position(&w));
        }
        if (what == 3)
            compare(&w, &m);
    }
    for (int64_t offset = OFFSETS - 1; offset >= 0; offset--)
        settle(&w, &m, offset);
    compare(&w, &m);
    assert_int_equal(salvo_window_position(&w), m.next);
    assert_int_equal(w.count, 0);
    salvo_window_free(&w);
}

static void any_order_against_a_model(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 6; seed++) {
        random_run(seed, 0, 5000);
        random_run(seed, 9, 700);
        random_run(seed, 2, 3);
        random_run(seed, 300, 64);
    }
}

static void backwards_commits_at_the_last(void **state)
{
    (void)state;
    salvo_window w;
    salvo_window_init(&w, 7, 1000);
    assert_int_equal(salvo_window_position(&w), 7);
    for (int64_t i = 7; i < 207; i++)
        assert_true(salvo_window_give(&w, i));
    for (int64_t i = 206; i > 7; i--) {
        assert_true(salvo_window_settle(&w, i));
        assert_int_equal(salvo_window_position(&w), 7);
    }
    assert_true(salvo_window_settle(&w, 7));
    assert_int_equal(salvo_window_position(&w), 207);
    assert_false(salvo_window_settle(&w, 7));
    salvo_window_free(&w);
}

static void what_is_passed_over_is_settled(void **state)
{
    (void)state;
    salvo_window w;
    salvo_window_init(&w, 10, 4);
    assert_true(salvo_window_give(&w, 12));
    assert_int_equal(salvo_window_position(&w), 12); /* 10 and 11 were no messages */
    salvo_window_pass(&w, 20);
    assert_int_equal(salvo_window_position(&w), 12);
    assert_true(salvo_window_settle(&w, 12));
    assert_int_equal(salvo_window_position(&w), 20);
    salvo_window_pass(&w, 5); /* never backwards */
    assert_int_equal(salvo_window_position(&w), 20);
    assert_false(salvo_window_give(&w, 19));
    assert_true(salvo_window_give(&w, 20));
    salvo_window_free(&w);
}

static void bounded_and_unknown_positions(void **state)
{
    (void)state;
    salvo_window w;
    salvo_window_init(&w, -1, 100);
    assert_int_equal(salvo_window_position(&w), -1);
    assert_false(salvo_window_give(&w, -1));
    for (int64_t i = 0; i < 100; i++)
        assert_true(salvo_window_give(&w, i));
    assert_false(salvo_window_give(&w, 100));
    assert_int_equal(w.next, 100);
    for (int64_t i = 1; i < 100; i++) /* the lowest is open: nothing gets free */
        assert_true(salvo_window_settle(&w, i));
    assert_int_equal(salvo_window_room(&w), 0);
    assert_true(salvo_window_settle(&w, 0));
    assert_int_equal(salvo_window_room(&w), 100);
    assert_true(salvo_window_give(&w, INT64_MAX - 1));
    assert_true(salvo_window_settle(&w, INT64_MAX - 1));
    assert_int_equal(salvo_window_position(&w), INT64_MAX);
    salvo_window_free(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_order_against_a_model),
        cmocka_unit_test(backwards_commits_at_the_last),
        cmocka_unit_test(what_is_passed_over_is_settled),
        cmocka_unit_test(bounded_and_unknown_positions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
