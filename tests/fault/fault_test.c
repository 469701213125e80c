/* SPDX-License-Identifier: Apache-2.0
 *
 * Faults on real servers, one table for all drivers. After every run: the ledger balances, all that
 * was acknowledged is in the broker, nothing accepted is missing where the policy and the buffer
 * allow that, memory stayed in its bound; duplicates, disorder and times are told.
 *
 *     fault_test --driver NAME [--long] [--minutes N] [--rate N] [--only CASE] [--report FILE]
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "run.h"

#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { AFTER_READY_MS = 7000, SHORT_RATE = 20000, LONG_RATE = 50000 };
#define MS UINT64_C(1000000)
#define MIB (UINT64_C(1) << 20)

static fault_world world;
static uint64_t end_ns; /* with --long: no round begins after it */

/* --- strikes --------------------------------------------------------------------------------- */

static void struck(fault_world *w)
{
    w->struck_ns = fault_now_ns();
    atomic_store(&w->shared->phase, FAULT_STRUCK);
}

static void kill_server(fault_world *w)
{
    while (fault_now_ns() - w->ready_ns < AFTER_READY_MS * MS)
        fault_pause_ms(10);
    struck(w);
    fault_broker_kill(&w->broker);
    fault_broker_restart(&w->broker);
    w->ready_ns = fault_now_ns();
}

static void hold_server(fault_world *w, uint32_t ms)
{
    struck(w);
    fault_broker_signal(&w->broker, SIGSTOP);
    fault_pause_ms(ms);
    fault_broker_signal(&w->broker, SIGCONT);
}

static void hold_5_s(fault_world *w) { hold_server(w, 5000); }
static void hold_30_s(fault_world *w) { hold_server(w, 30000); }

static uint32_t any(fault_world *w, uint32_t from, uint32_t to)
{
    w->random = w->random * 1664525u + 1013904223u;
    return from + (uint32_t)(((uint64_t)(w->random >> 8) * (to - from + 1)) >> 24);
}

/* Where the bytes stop is drawn: in a length, in a header, in a value, at a border now and then. */
static void cut_often(fault_world *w, fault_mode mode, uint32_t most_bytes)
{
    struck(w);
    for (int i = 0; i < (w->lengthy ? 20 : 6); i++) {
        uint64_t before = fault_proxy_read(w->proxy).cuts;
        const uint64_t end = fault_now_ns() + 10000 * MS;
        fault_proxy_set(w->proxy, mode, any(w, 1, most_bytes));
        while (fault_proxy_read(w->proxy).cuts == before && fault_now_ns() < end)
            fault_pause_ms(1);
        fault_proxy_set(w->proxy, FAULT_PASS, 0);
        if (fault_proxy_read(w->proxy).cuts == before)
            fail_msg("cut %d: no bytes came through the proxy within 10 s", i + 1);
        fault_pause_ms(any(w, 20, 500));
    }
}

static void cut_requests(fault_world *w) { cut_often(w, FAULT_CUT_REQUEST, 20000); }
static void cut_replies(fault_world *w) { cut_often(w, FAULT_CUT_REPLY, 60); }

static void swallow_replies(fault_world *w)
{
    uint64_t before = fault_proxy_read(w->proxy).swallowed;
    struck(w);
    fault_proxy_set(w->proxy, FAULT_SWALLOW, 0);
    fault_pause_ms(3000);
    fault_proxy_set(w->proxy, FAULT_PASS, 0); /* for new connections */
    if (fault_proxy_read(w->proxy).swallowed == before)
        fail_msg("no reply came to be swallowed");
}

static void drain_slowly(fault_world *w)
{
    struck(w);
    fault_proxy_set(w->proxy, FAULT_SLOW, (uint64_t)w->rate * FAULT_VALUE_BYTES / 3);
    fault_pause_ms(4000);
    fault_proxy_set(w->proxy, FAULT_PASS, 0);
}

static void stall(fault_world *w)
{
    struck(w);
    fault_proxy_set(w->proxy, FAULT_STALL, 0);
    fault_pause_ms(4000);
    fault_proxy_set(w->proxy, FAULT_PASS, 0);
}

static void follow_script(fault_world *w)
{
    struck(w); /* the script strikes by itself, some batches in */
    fault_pause_ms(2500);
}

static const fault_case cases[] = {
    {.name = "killed", .drivers = "kafka redis rabbitmq", .strike = kill_server, .felt_ms = 100},
    {.name = "stopped for 5 s", .drivers = "kafka redis rabbitmq", .strike = hold_5_s,
     .felt_ms = 4000},
    {.name = "stopped for 30 s", .drivers = "kafka redis rabbitmq", .strike = hold_30_s,
     .felt_ms = 4000, .lengthy = true},
    {.name = "cut in requests", .drivers = "kafka redis rabbitmq", .strike = cut_requests,
     .proxied = true},
    {.name = "cut in replies", .drivers = "kafka redis rabbitmq", .strike = cut_replies,
     .proxied = true},
    {.name = "replies swallowed", .drivers = "kafka redis rabbitmq", .strike = swallow_replies,
     .proxied = true, .needs_silence = true, .felt_ms = 1000},
    {.name = "slow drain", .drivers = "kafka redis rabbitmq", .strike = drain_slowly,
     .proxied = true, .felt_ms = 1000},
    {.name = "stalled", .drivers = "kafka redis rabbitmq", .strike = stall, .proxied = true,
     .felt_ms = 3000, .lengthy = true},
    {.name = "killed, exactly once", .drivers = "redis", .strike = kill_server,
     .extra = {"redis_exactly_once", "true"}, .ordered = true, .once = true, .felt_ms = 100},
    {.name = "cut in requests, exactly once", .drivers = "redis", .strike = cut_requests,
     .extra = {"redis_exactly_once", "true"}, .ordered = true, .once = true, .proxied = true,
     .lengthy = true},
    {.name = "cut in replies, exactly once", .drivers = "redis", .strike = cut_replies,
     .extra = {"redis_exactly_once", "true"}, .ordered = true, .once = true, .proxied = true},
    {.name = "cut in replies, window of 1", .drivers = "rabbitmq", .strike = cut_replies,
     .extra = {"rabbitmq_window", "1"}, .ordered = true, .rate = 20, .proxied = true},
    {.name = "down", .drivers = "memory", .strike = follow_script, .felt_ms = 1500,
     .script = "ok*1000;down:2s"},
    {.name = "breaks for good", .drivers = "memory", .strike = follow_script,
     .script = "ok*1000;fatal;ok*3;fatal;ok*200;fatal"},
    {.name = "refuses parts", .drivers = "memory", .strike = follow_script,
     .script = "ok*1000;partial:3:transient;ok*9;partial:1:transient;fail:transient*20;ok*50;"
               "partial:0:transient*9"},
    {.name = "answers late", .drivers = "memory", .strike = follow_script, .felt_ms = 50,
     .script = "ok*1000;delay:700ms*9;delay:20ms*50"},
    {.name = "rejects", .drivers = "memory", .strike = follow_script, .tells = true,
     .script = "ok*1000;reject*9;ok*20;partial:2:rejected*5;fail:too_large*3"},
    {.name = "loses acknowledgements", .drivers = "memory", .strike = follow_script,
     .tells = true, .script = "ok*1000;maybe*9;ok*20;maybe*5"},
};
enum { CASES = sizeof cases / sizeof *cases };

/* --- the command on a full disk -------------------------------------------------------------- */

/* Runs `salvo ...`; its last line on standard error goes to err, how many there were to lines. */
static int command(const char *arguments, char *err, size_t size, int *lines)
{
    char text[4096], line[512];
    snprintf(text, sizeof text, "%s %s", SALVO_PROGRAM, arguments);
    FILE *pipe = popen(text, "r");
    assert_non_null(pipe);
    for (*lines = 0; fgets(line, sizeof line, pipe) != NULL; ++*lines)
        snprintf(err, size, "%s", line);
    int status = pclose(pipe);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void disk_full(void **state)
{
    (void)state;
    fault_world *w = &world;
    char arguments[2048], where[1024], err[512] = "";
    int lines;
    bool outside = strcmp(w->driver, "memory") != 0;
    fault_prepare(w, &(fault_case){.name = "disk full", .script = ""});
    fault_where(w, where, sizeof where);
    if (outside)
        assert_int_equal(fault_create_topic(w->shared), 0);
    snprintf(arguments, sizeof arguments,
             "produce -q --percentiles /dev/full %s 2>&1 >/dev/null <" SALVO_SOURCE_DIR
             "/LICENSE", where);
    assert_int_equal(command(arguments, err, sizeof err, &lines), 1);
    assert_int_equal(lines, 1);
    assert_non_null(strstr(err, "/dev/full"));
    assert_non_null(strstr(err, "No space left"));
    fault_say(w, "%s: disk full: produce --percentiles: %s", w->driver, strtok(err, "\n"));
    if (!outside)
        return;
    snprintf(arguments, sizeof arguments, "consume --exit-at-end %s 2>&1 >/dev/full", where);
    assert_int_equal(command(arguments, err, sizeof err, &lines), 1);
    assert_int_equal(lines, 1);
    assert_non_null(strstr(err, "No space left"));
    fault_say(w, "%s: disk full: consume: %s", w->driver, strtok(err, "\n"));
}

/* --- the suite ------------------------------------------------------------------------------- */

static int start(void **state)
{
    (void)state;
    if (world.started || strcmp(world.driver, "memory") == 0)
        return 0;
    fault_broker_start(&world.broker, world.driver, fault_proxy_port(world.proxy));
    world.ready_ns = fault_now_ns();
    fault_proxy_aim(world.proxy, world.broker.proxied_port);
    world.started = true;
    return 0;
}

static int finish(void **state)
{
    (void)state;
    if (!world.started || fault_now_ns() < end_ns)
        return 0;
    fault_broker_stop(&world.broker);
    world.started = false;
    return 0;
}

static int mend(void **state)
{
    (void)state;
    fault_proxy_set(world.proxy, FAULT_PASS, 0);
    if (world.broker.pid > 0)
        kill(world.broker.pid, SIGCONT);
    return 0;
}

static void one_case(void **state) { fault_run(&world, *state); }

static bool applies(const fault_case *c, const char *only)
{
    return strstr(c->drivers, world.driver) != NULL && (!c->lengthy || world.lengthy) &&
           (only == NULL || strcmp(only, c->name) == 0);
}

static int run_round(const char *only)
{
    struct CMUnitTest tests[CASES + 1];
    fault_case *given[CASES];
    size_t count = 0;
    for (size_t i = 0; i < CASES; i++)
        if (applies(&cases[i], only)) {
            given[count] = malloc(sizeof **given);
            memcpy(given[count], &cases[i], sizeof **given);
            tests[count] = (struct CMUnitTest){cases[i].name, one_case, NULL, mend, given[count]};
            count++;
        }
    size_t runs = count;
    if (only == NULL || strcmp(only, "disk full") == 0)
        tests[count++] = (struct CMUnitTest){"disk full", disk_full, NULL, NULL, NULL};
    int failed = _cmocka_run_group_tests(world.driver, tests, count, start, finish);
    for (size_t i = 0; i < runs; i++)
        free(given[i]);
    return failed;
}

static int be_the_load(const char *fd)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* no load outlives its test */
    fault_shared *s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED, atoi(fd), 0);
    return s == MAP_FAILED ? 1 : fault_load(s);
}

static void prepare_world(void)
{
    world.shared_fd = memfd_create("fault", 0);
    if (world.shared_fd < 0 || ftruncate(world.shared_fd, sizeof *world.shared) != 0)
        exit(2);
    world.shared = mmap(NULL, sizeof *world.shared, PROT_READ | PROT_WRITE, MAP_SHARED,
                        world.shared_fd, 0);
    world.proxy = fault_proxy_new();
    if (world.shared == MAP_FAILED || world.proxy == NULL)
        exit(2);
    world.random = (uint32_t)getpid();
    /* With the policy block a full buffer slows the senders down and loses nothing; RabbitMQ cannot
     * keep the high rate here, so that a larger one would only take longer to drain. */
    world.buffer_bytes = !world.lengthy                              ? 128 * MIB
                         : strcmp(world.driver, "rabbitmq") == 0 ? 256 * MIB
                                                                 : 768 * MIB;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"driver", 1, NULL, 'd'}, {"long", 0, NULL, 'l'},   {"minutes", 1, NULL, 'm'},
        {"rate", 1, NULL, 'r'},   {"report", 1, NULL, 'f'}, {"only", 1, NULL, 'o'}, {0}};
    const char *only = NULL, *report = NULL;
    int minutes = 0, failed = 0;
    if (argc == 3 && strcmp(argv[1], "--load") == 0)
        return be_the_load(argv[2]);
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;)
        switch (o) {
        case 'd': world.driver = optarg; break;
        case 'l': world.lengthy = true; break;
        case 'm': minutes = atoi(optarg); break;
        case 'r': world.rate = (uint32_t)atoi(optarg); break;
        case 'f': report = optarg; break;
        case 'o': only = optarg; break;
        default: return 2;
        }
    if (world.driver == NULL)
        return 2;
    if (world.rate == 0)
        world.rate = world.lengthy ? LONG_RATE : SHORT_RATE;
    if (report != NULL && (world.report = fopen(report, "w")) == NULL)
        return 2;
    prepare_world();
    end_ns = fault_now_ns() + (uint64_t)(world.lengthy && minutes == 0 ? 10 : minutes) *
                                  60000 * MS;
    fault_say(&world, "%s at %u messages/s of %d bytes, seed %u; lost 0 holds by full_policy "
              "block (send_timeout_ms 60000), buffer_bytes %llu MiB, delivery_timeout_ms %s",
              world.driver, world.rate, FAULT_VALUE_BYTES, world.random,
              (unsigned long long)(world.buffer_bytes / MIB),
              world.lengthy ? "600000" : "60000 (18000 where Redis is silent)");
    do
        failed += run_round(only);
    while (fault_now_ns() < end_ns);
    fault_say(&world, "%s: %u runs, %d failed", world.driver, world.runs, failed);
    fault_tell_calls(&world, "    all send calls", world.calls);
    return failed != 0;
}
