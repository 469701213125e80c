/* SPDX-License-Identifier: Apache-2.0
 *
 * A whole life of a producer (open, topic, sends, flush, close) against a real server, again and
 * again: each time another allocation fails, or another system call of the sockets. Whatever it
 * is: an error is told, or it is mended; each message that was accepted has its outcome in time,
 * what was acknowledged is in the broker, and no block is left behind.
 *
 *     once_test --driver redis|rabbitmq
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "fault.h"
#include "once.h"

#include <salvo/reader.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

enum { MESSAGES = 12, FLUSH_MS = 20000, SESSIONS = 1 << 14, TIMES = 12 };

static const char *driver;
static fault_broker broker;
static char url[128];
static uint32_t session;
static _Atomic unsigned char acked[SESSIONS * MESSAGES];
static unsigned char seen[SESSIONS * MESSAGES];
static uint64_t mended, told, refused; /* lives; refused: their open */

static void on_report(void *context, const salvo_report *reports, size_t count)
{
    (void)context;
    for (size_t i = 0; i < count; i++)
        if (reports[i].status == 0)
            atomic_store(&acked[reports[i].opaque], 1);
}

static void quiet(void *context, int level, const char *text)
{
    (void)context;
    (void)level;
    (void)text;
}

static void set(salvo_config *config, const char *key, const char *value)
{
    if (salvo_config_set(config, key, value) != 0)
        fail_msg("%s", salvo_config_error(config));
}

static salvo_config *configuration(const char *backend)
{
    salvo_config *config;
    assert_int_equal(salvo_config_new(&config), 0);
    set(config, "message_broker", driver);
    set(config, strcmp(driver, "redis") == 0 ? "redis_url" : "rabbitmq_url", url);
    set(config, "io_backend", backend);
    set(config, "reconnect_backoff_ms", "1");
    set(config, "retry_backoff_ms", "1");
    set(config, "retry_backoff_max_ms", "5");
    set(config, "connect_timeout_ms", "2000");
    set(config, "max_topics", "4");
    set(config, "max_threads", "4");
    set(config, "max_reports", "1024");
    return config;
}

typedef struct life {
    int opened, flushed, closed;
    uint32_t sent; /* accepted */
    salvo_close_report report;
} life;

static void send_some(salvo *producer, salvo_topic topic, life *l)
{
    for (uint32_t i = 0; i < MESSAGES; i++) {
        uint32_t number = session * MESSAGES + i;
        const salvo_header header = {"h", 1, "v", 1};
        const salvo_message m = {.value = &number, .value_len = sizeof number, .key = "k",
                                 .key_len = 1, .headers = &header, .header_count = 1,
                                 .opaque = number, .report = 1};
        l->sent += salvo_send(producer, topic, &m) == 0;
        if (i == MESSAGES / 2) /* two batches, the second on a connection that works or broke */
            l->flushed = salvo_flush(producer, FLUSH_MS);
    }
    int again = salvo_flush(producer, FLUSH_MS);
    l->flushed = l->flushed != 0 ? l->flushed : again;
}

static life live(const salvo_config *config)
{
    salvo_options options = {.size = sizeof options, .on_report = on_report};
    salvo *producer;
    salvo_topic topic;
    life l = {0};
    l.opened = salvo_open(config, &options, &producer);
    if (l.opened != 0)
        return l;
    if (salvo_topic_open(producer, "once", NULL, &topic) == 0)
        send_some(producer, topic, &l);
    l.closed = salvo_close(producer, 5000, &l.report);
    return l;
}

/* What holds for every life. */
static void judge(const life *l, const char *what, unsigned long long n)
{
    const salvo_ledger *g = &l->report.ledger;
    if (l->opened != 0) {
        if (salvo_last_error()[0] == '\0')
            fail_msg("%s %llu: the open failed (%s) and said nothing", what, n,
                     salvo_strerror(l->opened));
        refused++;
        return;
    }
    if (l->flushed != 0)
        fail_msg("%s %llu: flush: %s; sent %u, acknowledged %llu", what, n,
                 salvo_strerror(l->flushed), l->sent, (unsigned long long)g->acknowledged);
    if (g->accepted != l->sent || g->pending != 0 || g->pending_counted != 0 ||
        g->accepted != g->acknowledged + g->failed + g->expired + g->dropped)
        fail_msg("%s %llu: the ledger: sent %u, accepted %llu, acknowledged %llu, failed %llu, "
                 "pending %llu", what, n, l->sent, (unsigned long long)g->accepted,
                 (unsigned long long)g->acknowledged, (unsigned long long)g->failed,
                 (unsigned long long)g->pending);
    *(g->acknowledged == MESSAGES ? &mended : &told) += 1;
}

static void next_session(void)
{
    session++;
    assert_true(session < SESSIONS);
}

/* --- allocations ----------------------------------------------------------------------------- */

static void each_allocation_fails_once(void **state)
{
    (void)state;
    salvo_config *config = configuration("poll");
    uint64_t count = 0, alive = 0, usual = 0, n = 0;
    mended = told = refused = 0;
    for (int i = 0; i < 3; i++) { /* what libraries keep for good, they keep now */
        fault_heap_arm(0);
        life l = live(config);
        fault_heap_disarm(&count, &usual);
        judge(&l, "no allocation", 0);
        if (l.opened != 0)
            fail_msg("%s", salvo_last_error());
        assert_int_equal(l.report.ledger.acknowledged, l.sent);
        next_session();
    }
    if (usual != 0)
        fail_msg("%d blocks are left when nothing fails", (int)usual);
    do {
        fault_heap_arm(++n);
        life l = live(config);
        fault_heap_disarm(&count, &alive);
        judge(&l, "allocation", (unsigned long long)n);
        if (alive != 0)
            fail_msg("%d blocks are left when allocation %d fails", (int)alive, (int)n);
        next_session();
    } while (count >= n);
    print_message("%s: %d allocations, each failed once: %d opens refused, %d lives told their "
                  "messages so, %d delivered all\n", driver, (int)n - 1, (int)refused, (int)told,
                  (int)mended);
    assert_true(n > 30);
    salvo_config_free(config);
}

/* --- system calls ---------------------------------------------------------------------------- */

static void calls_fail_once(const char *backend)
{
    salvo_config *config = configuration(backend);
    int kinds = 0, failures = 0;
    mended = told = refused = 0;
    for (int call = 0; call < fault_call_count; call++) {
        uint64_t n = 0, made;
        do {
            fault_call_arm(call, ++n);
            life l = live(config);
            made = fault_call_disarm();
            judge(&l, fault_call_name(call), (unsigned long long)n);
            failures += made >= n;
            next_session();
        } while (made >= n && n < TIMES);
        kinds += n > 1;
    }
    print_message("%s over %s: %d kinds of system calls, %d failures: %d opens refused, %d lives "
                  "told their messages so, %d delivered all\n", driver, backend, kinds, failures,
                  (int)refused, (int)told, (int)mended);
    assert_true(kinds >= 8);
    salvo_config_free(config);
}

static void each_call_fails_once_with_poll(void **state)
{
    (void)state;
    calls_fail_once("poll");
}

static void each_call_fails_once_with_io_uring(void **state)
{
    (void)state;
    salvo_config *config = configuration("io_uring");
    life l = live(config);
    salvo_config_free(config);
    next_session();
    if (l.opened != 0) {
        assert_int_equal(l.opened, SALVO_ERR_UNSUPPORTED); /* else it is no reason to skip */
        print_message("no io_uring here: not tested\n");
        skip();
    }
    calls_fail_once("io_uring");
}

/* --- and the broker has it -------------------------------------------------------------------- */

static void what_was_acknowledged_is_there(void **state)
{
    (void)state;
    salvo_config *config = configuration("poll");
    salvo_reader_options options = {.size = sizeof options, .stop_at_end = 1};
    salvo_reader *reader;
    salvo_record r;
    uint32_t number, wanted = 0, missing = 0, twice = 0;
    int err;
    if (salvo_reader_open(config, NULL, "once", &options, &reader) != 0)
        fail_msg("%s", salvo_last_error());
    while ((err = salvo_reader_next(reader, 10000, &r)) == 0) {
        assert_int_equal(r.value_len, sizeof number);
        memcpy(&number, r.value, sizeof number);
        assert_true(number < sizeof seen);
        twice += seen[number]++ > 0;
    }
    if (err != SALVO_ERR_END)
        fail_msg("%s", salvo_last_error());
    salvo_reader_close(reader);
    for (uint32_t i = 0; i < session * MESSAGES; i++) {
        wanted += atomic_load(&acked[i]);
        missing += atomic_load(&acked[i]) && seen[i] == 0;
    }
    print_message("%s: %u acknowledged, %u lost, %u duplicates\n", driver, wanted, missing,
                  twice);
    assert_int_equal(missing, 0);
    salvo_config_free(config);
}

static int start(void **state)
{
    (void)state;
    salvo_set_log(quiet, NULL);
    fault_broker_start(&broker, driver, 0);
    snprintf(url, sizeof url, strcmp(driver, "redis") == 0 ? "redis://127.0.0.1:%u/0"
                                                           : "amqp://guest:guest@127.0.0.1:%u/",
             broker.port);
    return 0;
}

static int finish(void **state)
{
    (void)state;
    fault_broker_stop(&broker);
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_allocation_fails_once),
        cmocka_unit_test(each_call_fails_once_with_poll),
        cmocka_unit_test(each_call_fails_once_with_io_uring),
        cmocka_unit_test(what_was_acknowledged_is_there),
    };
    if (argc != 3 || strcmp(argv[1], "--driver") != 0)
        return 2;
    driver = argv[2];
    return cmocka_run_group_tests_name(driver, tests, start, finish);
}
