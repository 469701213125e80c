/* SPDX-License-Identifier: Apache-2.0
 *
 * The engine through its public functions against a Kafka of the test's own that is killed,
 * absent, started late or lacks the topic, and across a fork. Nothing accepted is lost without
 * being told, and the ledger balances in each.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "kafka_world.h"
#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>

static char address[64];

static int start_broker(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "start --auto-create off --owner %d", (int)getpid());
    own_broker(command, address, sizeof address);
    return 0;
}

static int stop_broker(void **state)
{
    (void)state;
    own_broker("stop", NULL, 0);
    return 0;
}

/* Values are numbers below `total`. Counts how often each came; the sum is returned. */
static uint32_t read_numbers(world *w, const char *name, uint32_t *seen, uint32_t total)
{
    salvo_reader *reader = world_read(w, name);
    salvo_record got;
    uint32_t sum = 0, number;
    memset(seen, 0, total * sizeof *seen);
    for (; world_next(reader, &got); sum++) {
        assert_int_equal(got.value_len, sizeof number);
        memcpy(&number, got.value, sizeof number);
        assert_true(number < total);
        seen[number]++;
    }
    salvo_reader_close(reader);
    return sum;
}

static int send_number(world *w, salvo_topic topic, uint32_t number)
{
    salvo_message m = {.value = &number, .value_len = sizeof number, .opaque = number,
                       .report = 1};
    return salvo_send(w->producer, topic, &m);
}

/* --- killed in the middle -------------------------------------------------------------------- */

enum { SENDERS = 2, EACH = 100000, TOTAL = SENDERS * EACH };

typedef struct sender {
    salvo *producer;
    salvo_topic topic;
    uint32_t first;
    _Atomic uint32_t sent;
    int errors;
    pthread_t thread;
} sender;

static void *send_all(void *context)
{
    sender *s = context;
    char key[16];
    int key_len = snprintf(key, sizeof key, "%u", s->first);
    for (uint32_t i = 0; i < EACH; i++) {
        uint32_t number = s->first + i;
        s->errors += salvo_send_fire_and_forget(s->producer, s->topic, key, (size_t)key_len,
                                                &number, sizeof number) != 0;
        atomic_store_explicit(&s->sent, i + 1, memory_order_relaxed); /* a hint for the killer */
        if (i % 100 == 99)
            usleep(8000);
    }
    return NULL;
}

/* First comings must ascend within a key: only a repeat may go back. */
static uint32_t count_duplicates(world *w, const char *name)
{
    static uint32_t seen[TOTAL];
    uint32_t next[SENDERS] = {0}, duplicates = 0, number;
    memset(seen, 0, sizeof seen);
    salvo_reader *reader = world_read(w, name);
    salvo_record got;
    while (world_next(reader, &got)) {
        assert_int_equal(got.value_len, sizeof number);
        memcpy(&number, got.value, sizeof number);
        assert_true(number < TOTAL);
        if (seen[number]++) {
            duplicates++;
            continue;
        }
        assert_int_equal(number % EACH, next[number / EACH]);
        next[number / EACH]++;
    }
    salvo_reader_close(reader);
    for (int i = 0; i < SENDERS; i++)
        assert_int_equal(next[i], EACH);
    return duplicates;
}

static void a_killed_broker_loses_nothing(void **state)
{
    (void)state;
    static sender senders[SENDERS];
    char name[96];
    world w = world_new(address);
    create_topic(address, fresh_name(name, "killed"), 2);
    salvo_topic topic = world_open(&w, name);
    for (uint32_t i = 0; i < SENDERS; i++) {
        senders[i] = (sender){.producer = w.producer, .topic = topic, .first = i * EACH};
        assert_int_equal(pthread_create(&senders[i].thread, NULL, send_all, &senders[i]), 0);
    }
    while (atomic_load(&senders[0].sent) < EACH / 3)
        usleep(1000);
    own_broker("kill", NULL, 0);
    bool during = atomic_load(&senders[0].sent) < EACH;
    own_broker("restart", NULL, 0);
    for (int i = 0; i < SENDERS; i++)
        pthread_join(senders[i].thread, NULL);
    assert_true(during);
    world_flush(&w, 60000);
    salvo_ledger l = world_rest(&w);
    for (int i = 0; i < SENDERS; i++)
        assert_int_equal(senders[i].errors, 0);
    assert_int_equal(l.accepted, TOTAL);
    assert_int_equal(l.acknowledged, TOTAL);
    print_message("killed broker: %d accepted, 0 lost, %u duplicates\n", TOTAL,
                  count_duplicates(&w, name));
    assert_int_equal(world_end(&w, 10000), 0);
}

/* --- down at the open ------------------------------------------------------------------------ */

static void messages_wait_for_a_broker_that_is_down(void **state)
{
    (void)state;
    enum { COUNT = 1000 };
    static uint32_t seen[COUNT];
    static salvo_report reports[COUNT];
    char name[96];
    create_topic(address, fresh_name(name, "down"), 1);
    own_broker("kill", NULL, 0);
    world w = world_new(address);
    salvo_topic topic = world_open(&w, name);
    for (uint32_t i = 0; i < COUNT; i++)
        assert_int_equal(send_number(&w, topic, i), 0);
    salvo_stats s = {.size = sizeof s};
    uint64_t end = world_now_ms() + 10000;
    do {
        usleep(10000);
        assert_int_equal(salvo_get_stats(w.producer, &s), 0);
    } while (strncmp(s.broker_state, "down: ", 6) != 0 && world_now_ms() < end);
    assert_memory_equal(s.broker_state, "down: ", 6);
    assert_int_equal(salvo_flush(w.producer, 200), SALVO_ERR_TIMEOUT);
    assert_int_equal(salvo_get_stats(w.producer, &s), 0);
    assert_ledger(&s.total);
    assert_int_equal(s.total.pending, COUNT);
    assert_int_equal(s.total.pending_counted, COUNT);

    own_broker("restart", NULL, 0);
    world_flush(&w, 30000);
    world_reports(&w, reports, COUNT, 5000);
    for (uint32_t i = 0; i < COUNT; i++)
        assert_int_equal(reports[i].status, 0);
    assert_int_equal(world_rest(&w).acknowledged, COUNT);
    assert_int_equal(read_numbers(&w, name, seen, COUNT), COUNT);
    for (uint32_t i = 0; i < COUNT; i++)
        assert_int_equal(seen[i], 1);
    assert_int_equal(world_end(&w, 10000), 0);
}

static void require_broker_fails_in_time(void **state)
{
    (void)state;
    world w = world_new("127.0.0.1:1");
    salvo_options options = {.size = sizeof options, .require_broker = 1, .open_timeout_ms = 700};
    uint64_t begin = world_now_ms();
    w.producer = (salvo *)&w;
    assert_int_equal(salvo_open(w.config, &options, &w.producer), SALVO_ERR_UNREACHABLE);
    assert_in_range(world_now_ms() - begin, 0, 700 + 5000); /* the margin is the machine's */
    assert_null(w.producer);
    assert_non_null(strstr(salvo_last_error(), "127.0.0.1:1"));
    assert_non_null(strstr(salvo_last_error(), "onnect"));
    world_set(&w, "kafka_bootstrap_servers", address);
    options.open_timeout_ms = 20000;
    assert_int_equal(salvo_open(w.config, &options, &w.producer), 0);
    assert_int_equal(world_end(&w, 10000), 0);
}

/* --- a topic that is not there --------------------------------------------------------------- */

/* Send one until it is acknowledged; returns how many were not. */
static uint32_t send_until_taken(world *w, salvo_topic topic, int32_t refusal)
{
    uint64_t end = world_now_ms() + 30000;
    salvo_report report;
    for (uint32_t refused = 0;; refused++) {
        assert_true(world_now_ms() < end);
        assert_int_equal(send_number(w, topic, 0), 0);
        world_reports(w, &report, 1, 20000);
        if (!report.status)
            return refused;
        assert_int_equal(report.status, refusal);
        usleep(50000);
    }
}

static void an_unknown_topic_is_told_and_mended(void **state)
{
    (void)state;
    enum { COUNT = 10 };
    static salvo_report reports[COUNT];
    uint32_t seen[1];
    char name[96];
    world w = world_new(address);
    salvo_topic topic = world_open(&w, fresh_name(name, "missing"));
    for (uint32_t i = 0; i < COUNT; i++)
        assert_int_equal(send_number(&w, topic, i), 0);
    world_reports(&w, reports, COUNT, 30000);
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_int_equal(reports[i].status, SALVO_ERR_UNKNOWN_TOPIC);
        assert_int_equal(reports[i].opaque, i);
        assert_int_equal(reports[i].offset, -1);
    }
    assert_int_equal(world_rest(&w).failed, COUNT);
    create_topic(address, name, 1);
    uint32_t refused = send_until_taken(&w, topic, SALVO_ERR_UNKNOWN_TOPIC);
    salvo_ledger l = world_rest(&w);
    assert_int_equal(l.failed, COUNT + refused);
    assert_int_equal(l.maybe_delivered, 0);
    assert_int_equal(l.acknowledged, 1);
    assert_int_equal(read_numbers(&w, name, seen, 1), 1);
    assert_int_equal(world_end(&w, 10000), SALVO_ERR_DROPPED);
}

/* --- gone for longer than the deadline ------------------------------------------------------- */

static void await_down(world *w)
{
    salvo_stats s = {.size = sizeof s};
    for (int i = 0; i < 100; i++) {
        assert_int_equal(salvo_get_stats(w->producer, &s), 0);
        if (strncmp(s.broker_state, "down", 4) == 0)
            return;
        usleep(100000);
    }
    fail_msg("the broker was killed, but broker_state says \"%s\"", s.broker_state);
}

static void a_passed_deadline_is_told(void **state)
{
    (void)state;
    enum { COUNT = 500 };
    static uint32_t seen[COUNT + 1];
    static salvo_report reports[COUNT];
    salvo_report first;
    uint32_t maybe = 0;
    char name[96];
    world w = world_new(address);
    world_set(&w, "delivery_timeout_ms", "2000");
    create_topic(address, fresh_name(name, "deadline"), 1);
    salvo_topic topic = world_open(&w, name);
    assert_int_equal(send_number(&w, topic, COUNT), 0);
    world_flush(&w, 20000);
    world_reports(&w, &first, 1, 5000);
    assert_int_equal(first.status, 0);
    own_broker("kill", NULL, 0);
    for (uint32_t i = 0; i < COUNT / 2; i++) /* may still be written to the dying connection */
        assert_int_equal(send_number(&w, topic, i), 0);
    await_down(&w);
    for (uint32_t i = COUNT / 2; i < COUNT; i++) /* surely never sent */
        assert_int_equal(send_number(&w, topic, i), 0);
    world_flush(&w, 30000);
    world_reports(&w, reports, COUNT, 5000);
    salvo_ledger l = world_rest(&w);
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_true(reports[i].status == SALVO_ERR_EXPIRED ||
                    reports[i].status == SALVO_ERR_MAYBE);
        assert_true(reports[i].latency_ns >= 1900000000u); /* not given up before its time */
        maybe += reports[i].status == SALVO_ERR_MAYBE;
    }
    assert_true(maybe <= COUNT / 2);
    assert_int_equal(l.acknowledged, 1);
    assert_int_equal(l.expired, COUNT - maybe);
    assert_int_equal(l.failed, maybe);
    assert_int_equal(l.maybe_delivered, maybe);
    print_message("passed deadline: %u expired, %u maybe delivered\n", COUNT - maybe, maybe);

    own_broker("restart", NULL, 0);
    (void)read_numbers(&w, name, seen, COUNT + 1);
    assert_int_equal(seen[COUNT], 1);
    for (uint32_t i = 0; i < COUNT; i++) /* what expired must surely not be there */
        assert_true(reports[i].status == SALVO_ERR_MAYBE || !seen[reports[i].opaque]);
    (void)send_until_taken(&w, topic, SALVO_ERR_EXPIRED); /* the producer goes on */
    assert_int_equal(world_rest(&w).acknowledged, 2);
    assert_int_equal(world_end(&w, 10000), SALVO_ERR_DROPPED);
}

/* --- fork ------------------------------------------------------------------------------------ */

/* In the child: every call refuses. Returns the number of the first that did not. */
static int use_in_child(world *w, salvo_topic topic)
{
    salvo_stats s = {.size = sizeof s};
    salvo_report report;
    salvo_topic other;
    const int got[] = {
        send_number(w, topic, 0),
        salvo_send_fire_and_forget(w->producer, topic, NULL, 0, "x", 1),
        salvo_thread_attach(w->producer),
        salvo_topic_open(w->producer, "other", NULL, &other),
        salvo_poll_reports(w->producer, &report, 1),
        salvo_get_stats(w->producer, &s),
        salvo_flush(w->producer, 1000),
        salvo_close(w->producer, 1000, NULL),
    };
    for (size_t i = 0; i < sizeof got / sizeof *got; i++)
        if (got[i] != SALVO_ERR_FORKED)
            return (int)i + 1;
    return 0;
}

static void a_fork_neither_loses_nor_doubles(void **state)
{
    (void)state;
    enum { COUNT = 3000 };
    static uint32_t seen[COUNT];
    char name[96];
    world w = world_new(address);
    world_set(&w, "linger_us", "200000"); /* so that the fork finds some in rings and batches */
    create_topic(address, fresh_name(name, "fork"), 1);
    salvo_topic topic = world_open(&w, name);
    for (uint32_t i = 0; i < COUNT / 3; i++)
        assert_int_equal(send_number(&w, topic, i), 0);
    world_flush(&w, 20000);
    for (uint32_t i = COUNT / 3; i < 2 * COUNT / 3; i++)
        assert_int_equal(send_number(&w, topic, i), 0);
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (!child) {
        alarm(20); /* a child that hangs is a failure, not a hanging test */
        exit(use_in_child(&w, topic)); /* with all that runs at exit */
    }
    for (uint32_t i = 2 * COUNT / 3; i < COUNT; i++)
        assert_int_equal(send_number(&w, topic, i), 0);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    world_flush(&w, 20000);
    salvo_ledger l = world_rest(&w);
    assert_int_equal(l.offered, COUNT);
    assert_int_equal(l.acknowledged, COUNT);
    assert_int_equal(read_numbers(&w, name, seen, COUNT), COUNT);
    for (uint32_t i = 0; i < COUNT; i++)
        assert_int_equal(seen[i], 1);
    assert_int_equal(world_end(&w, 10000), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(require_broker_fails_in_time),
        cmocka_unit_test(an_unknown_topic_is_told_and_mended),
        cmocka_unit_test(a_fork_neither_loses_nor_doubles),
        cmocka_unit_test(a_killed_broker_loses_nothing),
        cmocka_unit_test(messages_wait_for_a_broker_that_is_down),
        cmocka_unit_test(a_passed_deadline_is_told),
    };
    return cmocka_run_group_tests_name("engine, faults", tests, start_broker, stop_broker);
}
