/* SPDX-License-Identifier: Apache-2.0
 *
 * The Redis driver alone while things go wrong: killed connections and servers, no memory, a
 * server that stands still. Each token comes back once with a true outcome; nothing is lost, and
 * exactly once nothing is there twice or out of order.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "redis_world.h"

/* Values of decimal counters, `from` up to `to`, that live until the program ends. */
static salvo_driver_message *counters(uint32_t from, uint32_t to)
{
    salvo_driver_message *m = calloc(to - from, sizeof *m);
    for (uint32_t i = from; i < to; i++) {
        char *text = malloc(12);
        m[i - from] = (salvo_driver_message){.value = text,
                                             .value_len = (size_t)sprintf(text, "%u", i)};
    }
    return m;
}

static void free_counters(salvo_driver_message *m, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        free((void *)(uintptr_t)m[i].value);
    free(m);
}

typedef struct tally {
    uint32_t lost, twice, disorder, total;
} tally;

static tally read_counters(world *w, const char *topic, uint32_t count)
{
    tally t = {0};
    uint8_t *seen = calloc(count, 1);
    void *r = reader(w, topic, 0);
    salvo_record got;
    int64_t last = -1;
    while (next(r, &got) == 0) {
        char text[16] = "";
        memcpy(text, got.value, got.value_len < 15 ? got.value_len : 15);
        long n = atol(text);
        assert_in_range(n, 0, count - 1);
        t.twice += seen[n]++ > 0;
        t.disorder += n <= last;
        last = n;
        t.total++;
    }
    ops.reader_close(r);
    for (uint32_t i = 0; i < count; i++)
        t.lost += !seen[i];
    free(seen);
    return t;
}

/* Batches as the engine would: what comes back TRANSIENT is submitted again first. */
static tally stream_of(world *w, uint32_t batches, uint32_t each, void (*trouble)(world *w),
                       uint32_t every)
{
    salvo_driver_message *m = counters(0, batches * each);
    for (uint32_t b = 0; b < batches; b++) {
        submit(w, 0, m + b * each, each);
        if (trouble && b % every == every - 1)
            trouble(w);
        take_outcomes(w, 0);
    }
    settle(w, 0, 60);
    for (uint64_t t = 0; t < w->next_token; t++)
        assert_all(w, t, 0);
    free_counters(m, batches * each);
    return read_counters(w, "t0", batches * each);
}

static void killed_connections_lose_nothing(void **state)
{
    (void)state;
    world *w = new_world(NULL);
    set(w, "reconnect_backoff_ms", "1");
    open_it(w);
    tally t = stream_of(w, 400, 250, kill_connections, 20);
    assert_int_equal(t.lost, 0);
    char text[96];
    ops.state(w->handle, text, sizeof text);
    printf("           plain: %u stored twice; %s\n", t.twice, text);
    end_world(w);
}

static void exactly_once_survives_killed_connections(void **state)
{
    (void)state;
    world *w = new_world(NULL);
    set(w, "reconnect_backoff_ms", "1");
    set(w, "redis_exactly_once", "true");
    open_it(w);
    assert_true(ops.capabilities(w->config) & SALVO_CAP_ORDERED_RETRY);
    tally t = stream_of(w, 400, 250, kill_connections, 10);
    assert_int_equal(t.lost, 0);
    assert_int_equal(t.twice, 0);
    assert_int_equal(t.disorder, 0);
    end_world(w);
}

/* The ids of a stream end at 2^64-1: what comes after the last 3000 is refused for good, also
 * where the answer was lost with its connection. */
static void refused_for_good_is_never_taken_for_stored(void **state)
{
    (void)state;
    enum { BATCHES = 60, EACH = 100, LEFT = 3000 };
    static const char id[] = "18446744073709551615-18446744073709548615";
    char command[96];
    world *w = new_world(NULL);
    set(w, "reconnect_backoff_ms", "1");
    set(w, "redis_exactly_once", "true");
    open_it(w);
    snprintf(command, sizeof command, "XADD t0 %s value x", id);
    freeReplyObject(redis_do(&w->server, command));
    salvo_driver_message *m = counters(0, BATCHES * EACH);
    for (uint32_t b = 0; b < BATCHES; b++) {
        submit(w, 0, m + b * EACH, EACH);
        take_outcomes(w, 0);
        if (b % 3 == 2)
            kill_connections(w);
    }
    settle(w, 0, 30);
    uint32_t stored = 0;
    for (uint64_t t = 0; t < BATCHES; t++)
        for (uint32_t r = 0; r < w->range_count[t]; r++) {
            const salvo_driver_range *range = &w->ranges[t][r];
            uint32_t first = (uint32_t)t * EACH + range->first;
            assert_int_equal(range->status, first < LEFT ? 0 : SALVO_ERR_REJECTED);
            stored += range->status == 0 ? range->count : 0;
        }
    assert_int_equal(stored, LEFT);
    assert_int_equal(redis_ask(&w->server, "XLEN t0"), LEFT + 1);
    free_counters(m, BATCHES * EACH);
    end_world(w);
}

/* A kill in the middle of writing a transaction leaves its beginning in the log. Redis 7.0 keeps
 * that beginning when it comes up, and after the next kill takes it for a part of what follows:
 * entries of it are there twice. Its own tool cuts the log before the transaction. */
static void mend_log(const world *w)
{
    char command[256];
    snprintf(command, sizeof command, "echo y | redis-check-aof --fix "
             "%s/appendonlydir/appendonly.aof.manifest >/dev/null", w->server.folder);
    assert_int_equal(system(command), 0);
}

static void kill_and_restart(world *w)
{
    redis_kill(&w->server, SIGKILL);
    take_outcomes(w, 50);
    mend_log(w);
    redis_run(&w->server);
}

static void a_killed_server_loses_nothing(void **state)
{
    (void)state;
    static const char *const extra[] = {"--appendonly", "yes", "--appendfsync", "always", NULL};
    for (int once = 0; once < 2; once++) {
        world *w = new_world(extra);
        set(w, "reconnect_backoff_ms", "5");
        set(w, "redis_exactly_once", once ? "true" : "false");
        open_it(w);
        tally t = stream_of(w, 200, 200, kill_and_restart, 50);
        assert_int_equal(t.lost, 0);
        if (once) {
            assert_int_equal(t.twice, 0);
            assert_int_equal(t.disorder, 0);
        }
        end_world(w);
    }
}

static void out_of_memory_is_transient(void **state)
{
    (void)state;
    for (int once = 0; once < 2; once++) {
        world *w = new_world(NULL);
        set(w, "redis_exactly_once", once ? "true" : "false");
        open_it(w);
        salvo_driver_message m[3] = {text_message(NULL, "0"), text_message(NULL, "1"),
                                     text_message(NULL, "2")};
        submit(w, 0, m, 1);
        settle(w, 0, 10);
        freeReplyObject(redis_do(&w->server, "CONFIG SET maxmemory 1"));
        uint64_t refused = submit(w, 0, m + 1, 2);
        settle(w, 0, 10);
        assert_all(w, refused, SALVO_ERR_TRANSIENT);
        freeReplyObject(redis_do(&w->server, "CONFIG SET maxmemory 0"));
        uint64_t taken = submit(w, 0, m + 1, 2);
        settle(w, 0, 10);
        assert_all(w, taken, 0);
        tally t = read_counters(w, "t0", 3);
        assert_int_equal(t.lost + t.twice + t.disorder, 0);
        end_world(w);
    }
}

/* Until all that was refused with it has been handed back, nothing of a topic may overtake it. */
static void a_topic_waits_for_what_comes_back(void **state)
{
    (void)state;
    world *w = new_world(NULL);
    set(w, "redis_exactly_once", "true");
    open_it(w);
    salvo_driver_message m = text_message(NULL, "v");
    submit(w, 0, &m, 1);
    settle(w, 0, 10);
    freeReplyObject(redis_do(&w->server, "CONFIG SET maxmemory 1"));
    uint64_t other = w->next_token + 3;
    for (int i = 0; i < 3; i++)
        submit(w, 0, &m, 1);
    salvo_driver_outcome o;
    for (int left = 3; left > 0; left--) {
        do { /* the other topic's is refused too, and may come back in between */
            while (ops.poll(w->handle, &o, 1) == 0)
                usleep(1000);
            assert_int_equal(o.ranges[0].status, SALVO_ERR_TRANSIENT);
        } while (o.token == other);
        assert_int_equal(try_submit(w, 0, &m, 1), left > 1 ? SALVO_ERR_TRANSIENT : 0);
        if (left == 3)
            assert_int_equal(try_submit(w, 1, &m, 1), 0); /* others flow */
    }
    freeReplyObject(redis_do(&w->server, "CONFIG SET maxmemory 0"));
    end_world(w);
}

static void deadlines_hold_while_the_server_is_stopped(void **state)
{
    (void)state;
    world *w = new_world(NULL);
    set(w, "redis_window", "10");
    open_it(w);
    salvo_driver_message *m = counters(0, 40);
    kill(w->server.pid, SIGSTOP);
    w->deadline_ns = salvo_clock_monotonic_ns() + SECONDS / 2;
    uint64_t first = submit(w, 0, m, 20), second = submit(w, 0, m + 20, 20);
    settle(w, 0, 10);
    /* ten went out and may be there; the rest never left and goes back, to expire in the engine */
    assert_int_equal(w->range_count[first], 2);
    assert_int_equal(w->ranges[first][0].count, 10);
    assert_int_equal(w->ranges[first][0].status, SALVO_ERR_MAYBE);
    assert_int_equal(w->ranges[first][1].status, SALVO_ERR_TRANSIENT);
    assert_all(w, second, SALVO_ERR_TRANSIENT);
    kill(w->server.pid, SIGCONT);
    w->deadline_ns = 0;
    uint64_t again = submit(w, 0, m + 20, 20);
    settle(w, 0, 10);
    assert_all(w, again, 0);
    free_counters(m, 40);
    end_world(w);
}

static void purge_tells_maybe_from_dropped(void **state)
{
    (void)state;
    world *w = new_world(NULL);
    set(w, "redis_window", "10");
    open_it(w);
    salvo_driver_message *m = counters(0, 20);
    kill(w->server.pid, SIGSTOP);
    uint64_t token = submit(w, 0, m, 20), behind = submit(w, 1, m, 5);
    for (int i = 0; i < 10; i++)
        take_outcomes(w, 5);
    ops.purge(w->handle, 100);
    settle(w, 0, 1);
    assert_int_equal(w->range_count[token], 2);
    assert_int_equal(w->ranges[token][0].status, SALVO_ERR_MAYBE);
    assert_int_equal(w->ranges[token][0].count, 10);
    assert_int_equal(w->ranges[token][1].status, SALVO_ERR_DROPPED);
    assert_all(w, behind, SALVO_ERR_DROPPED);
    kill(w->server.pid, SIGCONT);
    free_counters(m, 20);
    end_world(w);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(killed_connections_lose_nothing),
        cmocka_unit_test(exactly_once_survives_killed_connections),
        cmocka_unit_test(refused_for_good_is_never_taken_for_stored),
        cmocka_unit_test(a_killed_server_loses_nothing),
        cmocka_unit_test(out_of_memory_is_transient),
        cmocka_unit_test(a_topic_waits_for_what_comes_back),
        cmocka_unit_test(deadlines_hold_while_the_server_is_stopped),
        cmocka_unit_test(purge_tells_maybe_from_dropped),
    };
    return cmocka_run_group_tests_name("redis driver, faults", tests, NULL, NULL);
}
