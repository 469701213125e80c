/* SPDX-License-Identifier: Apache-2.0
 *
 * Replies in whatever pieces they arrive, malformed and oversized ones, ids, and what errors mean.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "drivers/redis_reply.h"
#include "error.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 4096 };

typedef struct taken {
    salvo_redis_reply replies[8];
    int count, stop_at, total;
} taken;

static int take(void *context, const salvo_redis_reply *reply)
{
    taken *t = context;
    if (t->count < 8)
        t->replies[t->count++] = *reply;
    return ++t->total == t->stop_at ? 7 : 0;
}

/* All of it, `piece` bytes at a time. */
static int run(const char *text, size_t length, size_t piece, taken *t)
{
    salvo_redis_parser p;
    int err = 0;
    memset(t, 0, sizeof *t);
    assert_int_equal(salvo_redis_parser_open(&p), 0);
    for (size_t at = 0; at < length && !err; at += piece)
        err = salvo_redis_parser_run(&p, text + at, length - at < piece ? length - at : piece,
                                     take, t);
    if (err == SALVO_ERR_INVALID)
        assert_true(strlen(p.error) > 10);
    salvo_redis_parser_close(&p);
    return err;
}

static void replies_in_any_pieces(void **state)
{
    (void)state;
    static const char all[] = "$15\r\n1700000000000-5\r\n$-1\r\n+PONG\r\n:42\r\n"
                              "-OOM command not allowed\r\n*3\r\n$3\r\n5-0\r\n$0\r\n\r\n"
                              "-WRONGTYPE no\r\n";
    for (size_t piece = 1; piece < sizeof all; piece++) {
        taken t;
        assert_int_equal(run(all, sizeof all - 1, piece, &t), 0);
        assert_int_equal(t.count, 6);
        const salvo_redis_reply *r = t.replies;
        assert_int_equal(r[0].whole.type, REDIS_REPLY_STRING);
        assert_int_equal(r[0].whole.number, INT64_C(1700000000000) << 20 | 5);
        assert_int_equal(r[1].whole.type, REDIS_REPLY_NIL);
        assert_int_equal(r[2].whole.type, REDIS_REPLY_STATUS);
        assert_string_equal(r[2].text, "PONG");
        assert_int_equal(r[3].whole.number, 42);
        assert_int_equal(r[4].whole.type, REDIS_REPLY_ERROR);
        assert_string_equal(r[4].text, "OOM command not allowed");
        assert_int_equal(r[5].whole.type, REDIS_REPLY_ARRAY);
        assert_int_equal(r[5].count, 3);
        assert_int_equal(r[5].parts[0].number, 5 << 20);
        assert_int_equal(r[5].parts[1].number, -1);
        assert_int_equal(r[5].parts[2].type, REDIS_REPLY_ERROR);
        assert_int_equal(r[5].parts[2].number, SALVO_ERR_REJECTED);
        assert_string_equal(r[5].text, "WRONGTYPE no");
    }
}

static void a_stop_is_obeyed(void **state)
{
    (void)state;
    taken t = {.stop_at = 2};
    salvo_redis_parser p;
    assert_int_equal(salvo_redis_parser_open(&p), 0);
    assert_int_equal(salvo_redis_parser_run(&p, ":1\r\n:2\r\n:3\r\n", 12, take, &t), 7);
    assert_int_equal(t.total, 2);
    salvo_redis_parser_close(&p);
}

static void malformed_replies_end_the_parser(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "HTTP/1.1 400 Bad Request\r\n", "\r\n", "$x\r\n", "$-2\r\n", "*-2\r\n", ":12a\r\n",
        ":\r\n", "$99999999999999999999\r\n", "*2147483648\r\n", "?", "\x15\x03\x03",
        "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        taken t;
        if (run(bad[i], strlen(bad[i]), 3, &t) != SALVO_ERR_INVALID)
            fail_msg("accepted: %s", bad[i]);
        assert_int_equal(t.total, 0);
    }
}

static void oversized_replies_end_the_parser(void **state)
{
    (void)state;
    size_t room = 2 * SALVO_REDIS_REPLY_MAX;
    char *text = malloc(room);
    memset(text, 'x', room);
    memcpy(text, "$2000000000\r\n", 13);
    taken t;
    assert_int_equal(run(text, room, 1000, &t), SALVO_ERR_INVALID);
    memset(text, 'x', room); /* a line without an end */
    text[0] = '-';
    assert_int_equal(run(text, room, 100000, &t), SALVO_ERR_INVALID);
    assert_int_equal(t.total, 0);
    free(text);
}

static void texts_are_bounded_and_printable(void **state)
{
    (void)state;
    char text[MOST];
    taken t;
    memset(text, 'y', sizeof text);
    memcpy(text, "-ERR \x1b[2J\x80", 10);
    memcpy(text + sizeof text - 2, "\r\n", 2);
    assert_int_equal(run(text, sizeof text, sizeof text, &t), 0);
    assert_int_equal(t.count, 1);
    assert_int_equal(strlen(t.replies[0].text), SALVO_REDIS_TEXT - 1);
    assert_memory_equal(t.replies[0].text, "ERR ?[2J?y", 10);
}

static void more_elements_than_are_kept(void **state)
{
    (void)state;
    enum { COUNT = SALVO_REDIS_PARTS + 100 };
    static char text[5 * COUNT];
    char *at = text;
    taken t;
    at += sprintf(at, "*%d\r\n", COUNT);
    for (int i = 0; i < COUNT; i++)
        at += sprintf(at, ":%d\r\n", i % 10);
    assert_int_equal(run(text, (size_t)(at - text), 7, &t), 0);
    assert_int_equal(t.replies[0].count, COUNT);
    for (int i = 0; i < SALVO_REDIS_PARTS; i++)
        assert_int_equal(t.replies[0].parts[i].number, i % 10);
}

static int64_t offset(const char *id)
{
    return salvo_redis_offset(id, strlen(id));
}

static void ids_keep_their_order_as_offsets(void **state)
{
    (void)state;
    assert_int_equal(offset("0-1"), 1);
    assert_int_equal(offset("1-0"), 1 << 20);
    assert_true(offset("1700000000000-1048575") < offset("1700000000001-0"));
    assert_true(offset("8796093022207-1048575") == INT64_MAX);
    static const char *const none[] = {"", "1", "-", "1-", "-1", "1-1048576", "8796093022208-0",
                                       "1-1x", "x-1", "18446744073709551616-1", "1--1", " 1-1",
                                       "99999999999999999999999999999999999999999999999999-1"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        assert_int_equal(offset(none[i]), -1);
}

static void errors_are_told_apart(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int32_t status;
        bool reconnect;
    } cases[] = {
        {"OOM command not allowed when used memory > 'maxmemory'.", SALVO_ERR_TRANSIENT, false},
        {"BUSY Redis is busy running a script.", SALVO_ERR_TRANSIENT, false},
        {"MISCONF Redis is configured to save RDB snapshots", SALVO_ERR_TRANSIENT, false},
        {"CLUSTERDOWN The cluster is down", SALVO_ERR_TRANSIENT, false},
        {"LOADING Redis is loading the dataset in memory", SALVO_ERR_TRANSIENT, true},
        {"READONLY You can't write against a read only replica.", SALVO_ERR_TRANSIENT, true},
        {"MASTERDOWN Link with MASTER is down", SALVO_ERR_TRANSIENT, true},
        {"NOAUTH Authentication required.", SALVO_ERR_AUTH, true},
        {"NOPERM this user has no permissions", SALVO_ERR_AUTH, false},
        {"WRONGPASS invalid username-password pair", SALVO_ERR_AUTH, true},
        {"MOVED 3999 127.0.0.1:6381", SALVO_ERR_REJECTED, false},
        {"WRONGTYPE Operation against a key", SALVO_ERR_REJECTED, false},
        {"NOGROUP No such key", SALVO_ERR_REJECTED, false},
        {"ERR Protocol error: invalid bulk length", SALVO_ERR_TOO_LARGE, true},
        {"ERR Function not found", SALVO_ERR_TRANSIENT, true},
        {"ERR wrong number of arguments for 'xadd' command", SALVO_ERR_REJECTED, false},
        {"OOMPH is no OOM", SALVO_ERR_REJECTED, false},
        {"", SALVO_ERR_REJECTED, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        salvo_redis_verdict v = salvo_redis_judge(cases[i].text);
        if (v.status != cases[i].status || v.reconnect != cases[i].reconnect)
            fail_msg("%s: %d, %d", cases[i].text, v.status, v.reconnect);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replies_in_any_pieces),
        cmocka_unit_test(a_stop_is_obeyed),
        cmocka_unit_test(malformed_replies_end_the_parser),
        cmocka_unit_test(oversized_replies_end_the_parser),
        cmocka_unit_test(texts_are_bounded_and_printable),
        cmocka_unit_test(more_elements_than_are_kept),
        cmocka_unit_test(ids_keep_their_order_as_offsets),
        cmocka_unit_test(errors_are_told_apart),
    };
    return cmocka_run_group_tests_name("redis reply", tests, NULL, NULL);
}
