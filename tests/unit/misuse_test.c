/* SPDX-License-Identifier: Apache-2.0
 *
 * Wrong use is told, not crashed on: nulls, calls after close and in a forked child, too many
 * threads; and a place that its thread left is used again.
 */
#include "engine_fixture.h"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

/* Every call that takes a handle; how many did not answer `expected`. */
static int calls_that_differ(salvo *p, int expected)
{
    salvo_topic topic;
    salvo_message m = {.value = "v", .value_len = 1};
    salvo_bytes b = {"v", 1};
    salvo_claim_slot slot = {.opaque_ = {0, 0, 0, 0, 0, 1}};
    salvo_report r;
    salvo_ledger l;
    salvo_stats s = {.size = sizeof s};
    return (salvo_topic_open(p, "t", NULL, &topic) != expected) +
           (salvo_thread_attach(p) != expected) + (salvo_send(p, 0, &m) != expected) +
           (salvo_send_fire_and_forget(p, 0, NULL, 0, "v", 1) != expected) +
           (salvo_send_batch_fire_and_forget(p, 0, &b, 1) != expected) +
           (salvo_send_wait(p, 0, &m, 1, &r) != expected) +
           (salvo_claim(p, 0, NULL, 0, 1, &slot) != expected) +
           (salvo_commit(p, &slot) != expected) + (salvo_abort(p, &slot) != expected) +
           (salvo_poll_reports(p, &r, 1) != expected) + (salvo_report_fd(p) != expected) +
           (salvo_flush(p, 1) != expected) + (salvo_unblock(p) != expected) +
           (salvo_get_stats(p, &s) != expected) +
           (salvo_get_ledger(p, 0, &l) != expected) +
           (salvo_write_percentiles(p, SALVO_STAGE_TOTAL, stdout) != expected) +
           (salvo_close(p, 1, NULL) != expected);
}

static void nulls_are_invalid(void **state)
{
    (void)state;
    engine e;
    assert_int_equal(calls_that_differ(NULL, SALVO_ERR_INVALID), 0);
    assert_int_equal(salvo_open(NULL, NULL, NULL), SALVO_ERR_INVALID);
    engine_open(&e, NULL);
    salvo_topic topic;
    assert_int_equal(salvo_topic_open(e.p, NULL, NULL, &topic), SALVO_ERR_INVALID);
    assert_int_equal(salvo_topic_open(e.p, "t", NULL, NULL), SALVO_ERR_INVALID);
    assert_int_equal(salvo_topic_open(e.p, "no spaces", NULL, &topic), SALVO_ERR_INVALID);
    assert_non_null(strstr(salvo_last_error(), "no spaces"));
    assert_int_equal(salvo_get_stats(e.p, NULL), SALVO_ERR_INVALID);
    assert_int_equal(salvo_get_ledger(e.p, 0, NULL), SALVO_ERR_INVALID);
    assert_int_equal(salvo_claim(e.p, e.topic, NULL, 0, 1, NULL), SALVO_ERR_INVALID);
    assert_int_equal(salvo_commit(e.p, NULL), SALVO_ERR_INVALID);
    engine_close(&e, 0);
}

static void after_close_all_is_closed(void **state)
{
    (void)state;
    engine e;
    engine_open(&e, NULL);
    salvo *p = e.p;
    engine_send(&e, -1, 1, 1);
    engine_settle(&e, 1 * MS, 5);
    engine_close(&e, 0);
    assert_int_equal(calls_that_differ(p, SALVO_ERR_CLOSED), 0);
}

static void a_forked_child_is_told(void **state)
{
    (void)state;
    engine e;
    salvo_claim_slot slot;
    engine_open_as(&e, false, NULL, NULL);
    engine_send(&e, -1, 1, 1);
    assert_int_equal(salvo_claim(e.p, e.topic, NULL, 0, 1, &slot), 0);
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(calls_that_differ(e.p, SALVO_ERR_FORKED) != 0 ||
              salvo_commit(e.p, &slot) != SALVO_ERR_FORKED);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    memcpy(slot.value, "2", 1); /* the parent works on */
    assert_int_equal(salvo_commit(e.p, &slot), 0);
    assert_int_equal(salvo_send_fire_and_forget(e.p, e.topic, NULL, 0, "3", 1), 0);
    assert_int_equal(salvo_flush(e.p, 60000), 0);
    engine_expect(&e, 0, 1, 3);
    engine_close(&e, 0);
}

static void *send_once(void *context)
{
    engine *e = context;
    int err = salvo_send_fire_and_forget(e->p, e->topic, NULL, 0, "1", 1);
    return (void *)(intptr_t)err;
}

static int from_a_thread(engine *e)
{
    pthread_t thread;
    void *result;
    assert_int_equal(pthread_create(&thread, NULL, send_once, e), 0);
    pthread_join(thread, &result);
    return (int)(intptr_t)result;
}

static void places_are_used_again(void **state)
{
    (void)state;
    engine e;
    engine_open(&e, (const char *[]){"max_threads", "2", NULL});
    assert_int_equal(salvo_thread_attach(e.p), 0);
    for (int i = 0; i < 20; i++)
        assert_int_equal(from_a_thread(&e), 0);
    assert_int_equal(engine_stats(&e).threads, 2);
    assert_int_equal(engine_ledger(&e, e.topic).accepted, 20); /* counters outlive their threads */
    engine_settle(&e, 1 * MS, 5);
    engine_close(&e, 0);
}

static void max_threads_is_a_limit(void **state)
{
    (void)state;
    engine e;
    engine_open(&e, (const char *[]){"max_threads", "1", NULL});
    assert_int_equal(salvo_thread_attach(e.p), 0);
    assert_int_equal(from_a_thread(&e), SALVO_ERR_LIMIT);
    assert_int_equal(engine_ledger(&e, e.topic).offered, 0);
    engine_close(&e, 0);
}

static void max_topics_is_a_limit(void **state)
{
    (void)state;
    engine e;
    salvo_topic topic;
    engine_open(&e, (const char *[]){"max_topics", "1", NULL});
    assert_int_equal(salvo_topic_open(e.p, "u", NULL, &topic), SALVO_ERR_LIMIT);
    assert_non_null(strstr(salvo_last_error(), "max_topics"));
    assert_int_equal(salvo_topic_open(e.p, "t", NULL, &topic), 0);
    assert_int_equal(topic, e.topic);
    engine_close(&e, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nulls_are_invalid),
        cmocka_unit_test(after_close_all_is_closed),
        cmocka_unit_test(a_forked_child_is_told),
        cmocka_unit_test(places_are_used_again),
        cmocka_unit_test(max_threads_is_a_limit),
        cmocka_unit_test(max_topics_is_a_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
