/* SPDX-License-Identifier: Apache-2.0
 *
 * Ids in hand against a plain list: added once, settled once, acknowledged in the order of
 * settling, forgotten as told; and texts that are ids, or nearly.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "drivers/redis_hand.h"

enum { IDS = 3000, AWAY = 0, HELD, SETTLED };

static salvo_redis_id id_of(uint32_t i)
{
    return (salvo_redis_id){1700000000000 + i / 40, i % 40 + 1}; /* clusters */
}

static uint32_t index_of(salvo_redis_id id)
{
    return (uint32_t)(id.ms - 1700000000000) * 40 + (uint32_t)id.seq - 1;
}

static void look(const salvo_redis_hand *hand, const uint8_t *is)
{
    uint32_t place = 0, seen = 0, want = 0, held = 0;
    salvo_redis_id id;
    while (salvo_redis_hand_next(hand, &place, &id)) {
        assert_int_not_equal(is[index_of(id)], AWAY);
        seen++;
    }
    for (uint32_t i = 0; i < IDS; i++) {
        want += is[i] != AWAY;
        held += is[i] == HELD;
    }
    assert_int_equal(seen, want);
    assert_int_equal(hand->count, want);
    assert_int_equal(hand->held, held);
}

static void answer(salvo_redis_hand *hand, uint8_t *is)
{
    hand->ack_sent = hand->ack_due; /* all of it went out, and half of that was answered */
    uint32_t n = (hand->ack_sent + 1) / 2;
    for (uint32_t i = 0; i < n; i++)
        is[index_of(hand->acks[i])] = AWAY;
    salvo_redis_hand_acked(hand, n);
}

static void forget(salvo_redis_hand *hand, uint8_t *is, bool uncommitted)
{
    for (uint32_t i = hand->ack_due; uncommitted && i < hand->ack_count; i++)
        is[index_of(hand->acks[i])] = AWAY;
    for (uint32_t i = 0; i < IDS; i++)
        is[i] = is[i] == HELD ? AWAY : is[i];
    salvo_redis_hand_forget(hand, uncommitted);
}

static void test_wild(void **state)
{
    (void)state;
    salvo_redis_hand hand = {0};
    uint8_t *is = calloc(IDS, 1);
    unsigned seed = 11;
    for (int round = 0; round < 200000; round++) {
        uint32_t i = (uint32_t)rand_r(&seed) % IDS, what = (uint32_t)rand_r(&seed) % 64;
        if (what < 30) {
            assert_int_equal(salvo_redis_hand_add(&hand, id_of(i)), is[i] == AWAY);
            is[i] = is[i] == AWAY ? HELD : is[i];
        } else if (what < 62) {
            bool commit = what < 50;
            assert_int_equal(salvo_redis_hand_settle(&hand, id_of(i), commit), is[i] == HELD);
            is[i] = is[i] == HELD ? SETTLED : is[i];
        } else {
            answer(&hand, is);
        }
        if (round % 20011 == 0)
            forget(&hand, is, round % 2 == 0);
        if (round % 1009 == 0)
            look(&hand, is);
    }
    look(&hand, is);
    salvo_redis_hand_clear(&hand);
    assert_int_equal(hand.count, 0);
    assert_int_equal(salvo_redis_hand_add(&hand, id_of(1)), 1);
    salvo_redis_hand_free(&hand);
    free(is);
}

static void test_ids(void **state)
{
    (void)state;
    static const char *const wrong[] = {"", "-", "1", "1-", "-1", "1-2-3", "a-1", "1-a", " 1-2",
                                        "0-0", "18446744073709551616-1", "1-99999999999999999999"};
    salvo_redis_id id;
    char text[SALVO_REDIS_ID_TEXT];
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_false(salvo_redis_id_parse(wrong[i], strlen(wrong[i]), &id));
    const char *most = "18446744073709551615-18446744073709551615";
    assert_true(salvo_redis_id_parse(most, strlen(most), &id));
    assert_int_equal(salvo_redis_id_print(id, text), strlen(most));
    assert_string_equal(text, most);
    assert_false(salvo_redis_id_parse("12-3", 3, &id)); /* its length counts, not a zero byte */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wild),
        cmocka_unit_test(test_ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
