/* SPDX-License-Identifier: Apache-2.0
 *
 * Exactly once on a real Kafka of the test's own. What is written is read back by consumers with
 * read_committed: each output once, none of what was aborted, and the input's offsets with it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kafka_group_world.h"
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static char broker[64];

typedef struct scene {
    char in[96], out[96], group[112], id[112];
    salvo_config *config;
    salvo_consumer *consumer;
    salvo_transaction *transaction;
} scene;

static scene begin(const char *what, int partitions, int messages)
{
    scene s = {0};
    char name[32];
    snprintf(name, sizeof name, "%.20s-in", what);
    fresh_name(s.in, name);
    snprintf(name, sizeof name, "%.20s-out", what);
    fresh_name(s.out, name);
    snprintf(s.group, sizeof s.group, "%s-group", s.in);
    snprintf(s.id, sizeof s.id, "%s-id", s.in);
    create_topic(broker, s.in, partitions);
    create_topic(broker, s.out, partitions);
    fill(broker, s.in, partitions, 0, messages);
    s.config = member_config(broker);
    return s;
}

static void open_consumer(scene *s)
{
    s->consumer = member_open(s->config, s->group, s->in,
                              (salvo_consumer_options){.transactional = 1});
}

static salvo_transaction *open_transaction(const scene *s)
{
    salvo_transaction *transaction;
    if (salvo_transaction_open(s->config, s->id, 30000, &transaction))
        fail_msg("salvo_transaction_open: %s", salvo_last_error());
    return transaction;
}

static void open_both(scene *s)
{
    s->transaction = open_transaction(s);
    open_consumer(s);
}

static void end(scene *s)
{
    salvo_transaction_close(s->transaction, 10000);
    if (s->consumer)
        salvo_consumer_close(s->consumer, 10000);
    salvo_config_free(s->config);
}

static int send_text(salvo_transaction *transaction, const char *topic, const char *text,
                     int32_t partition)
{
    salvo_message m = {.value = text, .value_len = strlen(text),
                       .partition_plus1 = partition + 1};
    return salvo_transaction_send(transaction, topic, &m, 10000);
}

/* Take at most `most`, send each on to the output, acknowledge. How many, or an error. */
static int process(scene *s, size_t most)
{
    const salvo_delivered *messages;
    size_t count;
    int err = salvo_consumer_poll(s->consumer, 500, &messages, most, &count);
    for (size_t i = 0; i < count && !err; i++) {
        const salvo_record *r = &messages[i].record;
        salvo_message m = {.value = r->value, .value_len = r->value_len, .key = r->key,
                           .key_len = r->key_len, .partition_plus1 = r->partition + 1};
        err = salvo_transaction_send(s->transaction, s->out, &m, 10000);
        if (!err)
            assert_int_equal(salvo_consumer_ack(s->consumer, &messages[i].id, 1), 1);
    }
    return err == SALVO_ERR_TIMEOUT && count == 0 ? 0 : err ? err : (int)count;
}

static void process_all(scene *s, size_t wanted)
{
    uint64_t deadline = world_now_ms() + 30000;
    for (size_t got = 0; got < wanted;) {
        assert_true(world_now_ms() < deadline);
        int n = process(s, wanted - got);
        if (n < 0)
            fail_msg("process: %s", salvo_last_error());
        got += (size_t)n;
    }
}

static void must(int err)
{
    if (err)
        fail_msg("%s: %s", salvo_strerror(err), salvo_last_error());
}

/* How many messages a fresh group sees: waits for `expected`, and a little for one more. */
static size_t see(const char *topic, const char *isolation, tally *t, size_t expected)
{
    static int groups;
    char group[64];
    snprintf(group, sizeof group, "see-%d-%d", (int)getpid(), ++groups);
    salvo_config *config = member_config(broker);
    config_set(config, "kafka_isolation_level", isolation);
    salvo_consumer *consumer = member_open(config, group, topic,
                                           (salvo_consumer_options){.max_in_hand = 100000});
    uint64_t deadline = world_now_ms() + 30000;
    while (member_stats(consumer).assigned == 0 && world_now_ms() < deadline) {
        const salvo_delivered *m;
        size_t count;
        (void)!salvo_consumer_poll(consumer, 20, &m, 0, &count);
        usleep(10000);
    }
    size_t got = member_take(consumer, t, expected, 30000, NULL);
    got += member_take(consumer, t, 1, 2000, NULL);
    salvo_consumer_close(consumer, 10000);
    salvo_config_free(config);
    return got;
}

/* The output has each of 0 .. messages once per partition, and no more. */
static void assert_exactly_once(const scene *s, int partitions, int messages)
{
    tally *t = tally_new(partitions, messages);
    size_t all = (size_t)(partitions * messages);
    size_t got = see(s->out, "read_committed", t, all);
    print_message("output: %zu of %zu, repeated %d\n", got, all, atomic_load(&t->repeated));
    assert_int_equal(atomic_load(&t->repeated), 0);
    assert_int_equal(atomic_load(&t->distinct), all);
    assert_int_equal(got, all);
    tally_free(t);
}

static int64_t committed_of(scene *s, int partition)
{
    salvo_lag lags[PARTITIONS_MOST];
    int64_t count = salvo_consumer_lag(s->consumer, lags, PARTITIONS_MOST, 10000);
    for (int64_t i = 0; i < count; i++)
        if (lags[i].partition == partition)
            return lags[i].committed;
    fail_msg("partition %d is not ours: %s", partition, salvo_last_error());
    return -1;
}

static void test_together(void **state)
{
    (void)state;
    scene s = begin("together", 1, 100);
    open_both(&s);
    must(salvo_transaction_begin(s.transaction));
    process_all(&s, 60);
    assert_int_equal(committed_of(&s, 0), -1);
    assert_int_equal(see(s.out, "read_committed", NULL, 0), 0);
    must(salvo_transaction_commit(s.transaction, s.consumer, 30000));
    assert_int_equal(committed_of(&s, 0), 60);
    assert_int_equal(see(s.out, "read_committed", NULL, 60), 60);
    must(salvo_transaction_begin(s.transaction));
    process_all(&s, 40);
    must(salvo_transaction_commit(s.transaction, s.consumer, 30000));
    assert_exactly_once(&s, 1, 100);
    assert_int_equal(member_stats(s.consumer).commits, 2);
    /* A group that reads the output gets to its end, markers and all. */
    salvo_consumer *reader = member_open(s.config, s.group, s.out, (salvo_consumer_options){0});
    uint64_t ids[100];
    salvo_lag lag;
    assert_int_equal(member_take(reader, NULL, 100, 30000, ids), 100);
    assert_int_equal(salvo_consumer_ack(reader, ids, 100), 100);
    member_quiet(reader, 500);
    assert_int_equal(salvo_consumer_lag(reader, &lag, 1, 10000), 1);
    assert_int_equal(lag.lag, 0);
    assert_int_equal(lag.end, 102); /* two of them are markers */
    assert_int_equal(salvo_consumer_close(reader, 10000), 0);
    end(&s);
}

/* Aborted: seen by nobody, and its input given again. */
static void test_abort(void **state)
{
    (void)state;
    scene s = begin("abort", 2, 50);
    open_both(&s);
    must(salvo_transaction_begin(s.transaction));
    process_all(&s, 70);
    must(salvo_transaction_abort(s.transaction, 30000));
    must(salvo_consumer_rewind(s.consumer));
    assert_int_equal(see(s.out, "read_committed", NULL, 0), 0);
    must(salvo_transaction_begin(s.transaction));
    process_all(&s, 100);
    must(salvo_transaction_commit(s.transaction, s.consumer, 30000));
    assert_int_equal(committed_of(&s, 0), 50);
    assert_int_equal(committed_of(&s, 1), 50);
    assert_exactly_once(&s, 2, 50);
    end(&s);
}

/* A later open of the id ends this one, for good; nothing of it is seen. */
static void test_fenced(void **state)
{
    (void)state;
    scene s = begin("fenced", 1, 10);
    open_both(&s);
    must(salvo_transaction_begin(s.transaction));
    process_all(&s, 10);
    salvo_transaction *zombie = s.transaction;
    s.transaction = open_transaction(&s);
    assert_int_equal(salvo_transaction_commit(zombie, s.consumer, 30000), SALVO_ERR_FATAL);
    assert_non_null(strstr(salvo_last_error(), s.id));
    assert_int_equal(salvo_transaction_begin(zombie), SALVO_ERR_FATAL);
    assert_int_equal(salvo_transaction_abort(zombie, 10000), SALVO_ERR_FATAL);
    salvo_transaction_close(zombie, 10000);
    assert_int_equal(committed_of(&s, 0), -1);
    must(salvo_consumer_rewind(s.consumer));
    must(salvo_transaction_begin(s.transaction));
    process_all(&s, 10);
    must(salvo_transaction_commit(s.transaction, s.consumer, 30000));
    assert_exactly_once(&s, 1, 10);
    end(&s);
}

/* One message that the broker refuses: nothing of the transaction is seen, and it is told why. */
static void test_rejected(void **state)
{
    (void)state;
    static char big[5000];
    scene s = begin("rejected", 1, 5);
    open_both(&s);
    create_topic_of(broker, "small-messages", 1, "max.message.bytes", "1000");
    must(salvo_transaction_begin(s.transaction));
    process_all(&s, 5);
    memset(big, 'x', sizeof big - 1);
    must(send_text(s.transaction, "small-messages", big, 0));
    assert_int_equal(salvo_transaction_commit(s.transaction, s.consumer, 30000),
                     SALVO_ERR_REJECTED);
    assert_non_null(strstr(salvo_last_error(), "small-messages"));
    assert_int_equal(salvo_transaction_commit(s.transaction, s.consumer, 30000),
                     SALVO_ERR_INVALID); /* abort it first */
    must(salvo_transaction_abort(s.transaction, 30000));
    must(salvo_consumer_rewind(s.consumer));
    must(salvo_transaction_begin(s.transaction));
    process_all(&s, 5);
    must(salvo_transaction_commit(s.transaction, s.consumer, 30000));
    assert_exactly_once(&s, 1, 5);
    end(&s);
}

/* The group has settled its whole input. */
static bool is_through(const scene *s)
{
    salvo_lag lags[PARTITIONS_MOST];
    int64_t count = salvo_group_lag(s->config, NULL, s->group, s->in, lags, PARTITIONS_MOST, 5000);
    for (int64_t i = 0; i < count; i++)
        if (lags[i].committed != lags[i].end)
            return false;
    return count > 0;
}

/* Do batches until all is through, whatever happens: what a worker does. */
static void work(scene *s, size_t batch, uint64_t deadline)
{
    while (world_now_ms() < deadline) {
        if (!s->transaction && salvo_transaction_open(s->config, s->id, 5000, &s->transaction))
            continue;
        int err = salvo_transaction_begin(s->transaction);
        int count = err ? 0 : process(s, batch);
        if (count < 0)
            err = count;
        if (!err)
            err = salvo_transaction_commit(s->transaction, s->consumer, 5000);
        if (!err && count == 0 && is_through(s))
            return;
        if (!err)
            continue;
        print_message("again: %s\n", salvo_last_error());
        if (err == SALVO_ERR_FATAL || salvo_transaction_abort(s->transaction, 10000)) {
            salvo_transaction_close(s->transaction, 1000);
            s->transaction = NULL;
        }
        while (salvo_consumer_rewind(s->consumer) && world_now_ms() < deadline)
            usleep(100000);
    }
}

static void *work_on(void *argument)
{
    work(argument, 50, world_now_ms() + 60000);
    return NULL;
}

static void *bounce(void *argument)
{
    (void)argument;
    for (int i = 0; i < 2; i++) {
        usleep(1500000);
        own_broker("restart", NULL, 0);
    }
    return NULL;
}

static void test_bounced_broker(void **state)
{
    (void)state;
    enum { PARTITIONS = 2, MESSAGES = 3000 };
    scene s = begin("bounced", PARTITIONS, MESSAGES);
    open_both(&s);
    pthread_t bouncing;
    assert_int_equal(pthread_create(&bouncing, NULL, bounce, NULL), 0);
    uint64_t deadline = world_now_ms() + 120000;
    work(&s, 10, deadline);
    assert_int_equal(pthread_join(bouncing, NULL), 0);
    assert_exactly_once(&s, PARTITIONS, MESSAGES);
    end(&s);
}

/* Partitions go to another member in the middle of a transaction: it cannot be committed. */
static void test_lost_partitions(void **state)
{
    (void)state;
    enum { PARTITIONS = 2, MESSAGES = 100 };
    scene a = begin("lost", PARTITIONS, MESSAGES);
    config_set(a.config, "kafka_rebalance_wait_ms", "300");
    open_both(&a);
    must(salvo_transaction_begin(a.transaction));
    process_all(&a, PARTITIONS * MESSAGES);
    scene b = a;
    snprintf(b.id, sizeof b.id, "%.90s-other", a.id);
    b.config = member_config(broker);
    open_both(&b);
    uint64_t deadline = world_now_ms() + 30000;
    const salvo_delivered *m;
    size_t count;
    while (member_stats(b.consumer).assigned != 1 && world_now_ms() < deadline) {
        (void)!salvo_consumer_poll(b.consumer, 20, &m, 0, &count);
        (void)!salvo_consumer_poll(a.consumer, 20, &m, 0, &count);
    }
    assert_int_equal(member_stats(b.consumer).assigned, 1);
    assert_int_equal(salvo_transaction_commit(a.transaction, a.consumer, 30000),
                     SALVO_ERR_TRANSIENT);
    must(salvo_transaction_abort(a.transaction, 30000));
    must(salvo_consumer_rewind(a.consumer));
    pthread_t other;
    assert_int_equal(pthread_create(&other, NULL, work_on, &b), 0);
    work_on(&a);
    assert_int_equal(pthread_join(other, NULL), 0);
    assert_exactly_once(&a, PARTITIONS, MESSAGES);
    end(&b);
    end(&a);
}

/* Killed in the middle: the next of its id ends what it left, and nobody waits for it. */
static void test_killed(void **state)
{
    (void)state;
    char said = 0;
    int pipes[2];
    scene s = begin("killed", 1, 20);
    assert_int_equal(pipe(pipes), 0);
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        s.transaction = open_transaction(&s);
        int err = salvo_transaction_begin(s.transaction);
        for (int i = 0; i < 20 && !err; i++)
            err = send_text(s.transaction, s.out, "19", 0);
        usleep(1000000); /* it is at the broker */
        (void)!write(pipes[1], err ? "e" : "k", 1);
        for (;;)
            pause();
    }
    assert_int_equal(read(pipes[0], &said, 1), 1);
    assert_int_equal(said, 'k');
    assert_int_equal(see(s.out, "read_uncommitted", NULL, 20), 20);
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, NULL, 0), child);
    open_both(&s);
    must(salvo_transaction_begin(s.transaction));
    process_all(&s, 20);
    must(salvo_transaction_commit(s.transaction, s.consumer, 30000));
    assert_exactly_once(&s, 1, 20);
    close(pipes[0]);
    close(pipes[1]);
    end(&s);
}

static void test_misuse(void **state)
{
    (void)state;
    scene s = begin("misuse", 1, 1);
    salvo_message m = {.value = "x", .value_len = 1};
    open_both(&s);
    assert_int_equal(salvo_transaction_send(s.transaction, s.out, &m, 0), SALVO_ERR_INVALID);
    assert_int_equal(salvo_transaction_commit(s.transaction, NULL, 0), SALVO_ERR_INVALID);
    must(salvo_transaction_abort(s.transaction, 0)); /* nothing to abort */
    must(salvo_transaction_begin(s.transaction));
    assert_int_equal(salvo_transaction_begin(s.transaction), SALVO_ERR_INVALID);
    m.value_len = 2000000;
    assert_int_equal(salvo_transaction_send(s.transaction, s.out, &m, 0), SALVO_ERR_TOO_LARGE);
    assert_int_equal(salvo_consumer_commit(s.consumer, 1000), SALVO_ERR_UNSUPPORTED);
    salvo_consumer *plain = member_open(s.config, "plain", s.in, (salvo_consumer_options){0});
    assert_int_equal(salvo_transaction_commit(s.transaction, plain, 1000), SALVO_ERR_INVALID);
    assert_non_null(strstr(salvo_last_error(), "transactional = 1"));
    salvo_consumer_close(plain, 10000);
    must(salvo_transaction_commit(s.transaction, s.consumer, 30000)); /* an empty one */
    salvo_transaction *none;
    salvo_config *memory;
    must(salvo_config_new(&memory));
    config_set(memory, "message_broker", "memory");
    assert_int_equal(salvo_transaction_open(memory, "x", 0, &none), SALVO_ERR_UNSUPPORTED);
    assert_non_null(strstr(salvo_last_error(), "kafka"));
    assert_int_equal(salvo_transaction_open(s.config, "", 0, &none), SALVO_ERR_INVALID);
    salvo_config_free(memory);
    config_set(s.config, "kafka_bootstrap_servers", "127.0.0.1:1");
    assert_int_equal(salvo_transaction_open(s.config, "x", 1000, &none), SALVO_ERR_UNREACHABLE);
    assert_null(none);
    end(&s);
}

static int start_broker(void **state)
{
    (void)state;
    own_broker("start --set group.min.session.timeout.ms=500", broker, sizeof broker);
    return 0;
}

static int stop_broker(void **state)
{
    (void)state;
    own_broker("stop", NULL, 0);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_killed), /* forks: before there are threads */
        cmocka_unit_test(test_together),
        cmocka_unit_test(test_abort),
        cmocka_unit_test(test_fenced),
        cmocka_unit_test(test_rejected),
        cmocka_unit_test(test_lost_partitions),
        cmocka_unit_test(test_misuse),
        cmocka_unit_test(test_bounced_broker),
    };
    return cmocka_run_group_tests(tests, start_broker, stop_broker);
}
