/* SPDX-License-Identifier: Apache-2.0
 *
 * Delivery tags against a server that remembers: it is told of each settled tag once, never of an
 * open one, and `multiple` always names a tag that it still waits for.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "drivers/rabbitmq_tags.h"

enum { TAGS = 20000, GIVEN = 1, SETTLED, TOLD };

typedef struct server {
    salvo_rabbitmq_tags tags;
    uint8_t is[TAGS + 1];
    uint64_t told;
} server;

static void tell(server *s, bool apart)
{
    uint64_t prefix = s->tags.prefix;
    if (prefix != 0) {
        assert_int_equal(s->is[prefix], SETTLED); /* it waits for this very one */
        for (uint64_t tag = s->told + 1; tag <= prefix; tag++) {
            assert_int_not_equal(s->is[tag], GIVEN);
            s->is[tag] = TOLD;
        }
        while (s->told < TAGS && s->is[s->told + 1] == TOLD)
            s->told++;
    }
    salvo_rabbitmq_tags_told_prefix(&s->tags);
    for (uint64_t tag = 0; apart && (tag = salvo_rabbitmq_tags_apart(&s->tags, tag + 1)) != 0;) {
        assert_int_equal(s->is[tag], SETTLED);
        s->is[tag] = TOLD;
        salvo_rabbitmq_tags_told(&s->tags, tag);
    }
}

static void test_wild(void **state)
{
    (void)state;
    server *s = calloc(1, sizeof *s);
    unsigned seed = 3;
    uint64_t next = 1, open[512];
    uint32_t held = 0;
    salvo_rabbitmq_tags_free(&s->tags);
    while (next <= TAGS || held > 0) {
        int what = rand_r(&seed) % 8;
        if (what < 4 && next <= TAGS && held < 512) {
            assert_true(salvo_rabbitmq_tags_give(&s->tags));
            s->is[next] = GIVEN;
            open[held++] = next++;
        } else if (what < 7 && held > 0) {
            uint32_t at = (uint32_t)rand_r(&seed) % held;
            assert_true(salvo_rabbitmq_tags_settle(&s->tags, open[at]));
            assert_false(salvo_rabbitmq_tags_settle(&s->tags, open[at]));
            s->is[open[at]] = SETTLED;
            open[at] = open[--held];
        } else {
            tell(s, rand_r(&seed) % 4 == 0);
        }
        assert_int_equal(s->tags.open, held);
    }
    tell(s, true);
    for (uint64_t tag = 1; tag <= TAGS; tag++)
        assert_int_equal(s->is[tag], TOLD);
    assert_int_equal(s->tags.apart, 0);
    assert_false(salvo_rabbitmq_tags_settle(&s->tags, TAGS));
    assert_false(salvo_rabbitmq_tags_settle(&s->tags, TAGS + 1));
    salvo_rabbitmq_tags_free(&s->tags);
    free(s);
}

/* What went back to the queue is told already, at whichever end it lies. */
static void test_requeued(void **state)
{
    (void)state;
    salvo_rabbitmq_tags tags = {0};
    salvo_rabbitmq_tags_free(&tags);
    for (int i = 0; i < 4; i++)
        assert_true(salvo_rabbitmq_tags_give(&tags));
    salvo_rabbitmq_tags_told(&tags, 1);
    salvo_rabbitmq_tags_told(&tags, 3);
    assert_int_equal(tags.prefix, 0);
    assert_true(salvo_rabbitmq_tags_settle(&tags, 2));
    assert_int_equal(tags.prefix, 2);
    assert_false(salvo_rabbitmq_tags_settle(&tags, 3));
    salvo_rabbitmq_tags_told_prefix(&tags);
    assert_int_equal(tags.first, 4);
    assert_int_equal(tags.open, 1);
    salvo_rabbitmq_tags_told(&tags, 4);
    assert_int_equal(tags.first, tags.next);
    assert_int_equal(tags.prefix, 0);
    salvo_rabbitmq_tags_reset(&tags);
    assert_int_equal(tags.next, 1);
    salvo_rabbitmq_tags_free(&tags);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wild),
        cmocka_unit_test(test_requeued),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
