/* SPDX-License-Identifier: Apache-2.0
 *
 * Groups of several members, and trouble, on a real Kafka of the test's own: members join and leave
 * under load, one is killed, the broker is killed and comes back. What holds all the time: every
 * message is given at least once, in order within a claim, and again only if it was not settled.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kafka_group_world.h"
#include <dirent.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static char broker[64];

/* --- members that are threads -----------------------------------------------------------------*/

typedef struct member {
    const salvo_config *config;
    const char *group, *topic;
    tally *t;
    uint32_t pace_us; /* between polls */
    uint32_t batch;
    _Atomic bool stop;
    _Atomic int last[PARTITIONS_MOST]; /* by partition, since it was given to this member */
    _Atomic uint64_t lost;
    int closed; /* what close said */
    pthread_t thread;
} member;

/* What was given is settled when the next poll comes: so a rebalance finds messages in hand. */
static void *run_member(void *argument)
{
    member *m = argument;
    salvo_consumer *consumer = member_open(m->config, m->group, m->topic,
                                           (salvo_consumer_options){0});
    uint64_t ids[AT_ONCE];
    int partitions[AT_ONCE], numbers[AT_ONCE];
    size_t held = 0;
    while (!atomic_load(&m->stop)) {
        for (size_t i = 0; i < held; i++)
            if (salvo_consumer_is_held(consumer, ids[i]) == 1 &&
                salvo_consumer_ack(consumer, &ids[i], 1) == 1)
                tally_settled(m->t, partitions[i], numbers[i]);
        held = 0;
        const salvo_delivered *messages;
        size_t count;
        (void)!salvo_consumer_poll(consumer, 50, &messages, m->batch, &count);
        for (size_t i = 0; i < count; i++) {
            const salvo_record *r = &messages[i].record;
            int number = number_of(r), last = atomic_load(&m->last[r->partition]);
            bool again = atomic_load(&m->t->given[r->partition * m->t->messages + number]) > 0;
            if (number != last + 1 && !again && last >= 0 && number < last)
                atomic_fetch_add(&m->t->disorder, 1);
            atomic_store(&m->last[r->partition], number);
            tally_given(m->t, r);
            ids[held] = messages[i].id;
            partitions[held] = r->partition;
            numbers[held++] = number;
        }
        if (m->pace_us)
            usleep(m->pace_us);
    }
    atomic_store(&m->lost, member_stats(consumer).lost);
    m->closed = salvo_consumer_close(consumer, 10000);
    return NULL;
}

static void start_member(member *m, const salvo_config *config, const char *group,
                         const char *topic, tally *t)
{
    *m = (member){.config = config, .group = group, .topic = topic, .t = t, .pace_us = 500,
                  .batch = 100};
    for (int p = 0; p < PARTITIONS_MOST; p++)
        atomic_store(&m->last[p], -1);
    assert_int_equal(pthread_create(&m->thread, NULL, run_member, m), 0);
}

static void stop_member(member *m)
{
    atomic_store(&m->stop, true);
    assert_int_equal(pthread_join(m->thread, NULL), 0);
    assert_int_equal(m->closed, 0);
}

static void await_distinct(const tally *t, int wanted, uint64_t wait_ms)
{
    uint64_t end = world_now_ms() + wait_ms;
    while (atomic_load(&t->distinct) < wanted && world_now_ms() < end)
        usleep(10000);
    if (atomic_load(&t->distinct) < wanted)
        fail_msg("%d of %d messages after %llu ms", atomic_load(&t->distinct), wanted,
                 (unsigned long long)wait_ms);
}

typedef struct filler {
    const char *topic;
    int partitions, messages;
} filler;

static void *run_filler(void *argument)
{
    const filler *f = argument;
    for (int at = 0; at < f->messages; at += f->messages / 20)
        fill(broker, f->topic, f->partitions, at, at + f->messages / 20);
    return NULL;
}

/* Three members come and go while 100 000 messages flow. */
static void test_rebalance_under_load(void **state)
{
    (void)state;
    enum { PARTITIONS = 6, MESSAGES = 16680 };
    char topic[96];
    fresh_name(topic, "load");
    create_topic(broker, topic, PARTITIONS);
    salvo_config *config = member_config(broker);
    tally *t = tally_new(PARTITIONS, MESSAGES);
    filler f = {topic, PARTITIONS, MESSAGES};
    pthread_t filling;
    assert_int_equal(pthread_create(&filling, NULL, run_filler, &f), 0);
    static member members[7];
    int first = 0, next = 0; /* members[first .. next) run */
    for (; next < 3; next++)
        start_member(&members[next], config, "load", topic, t);
    for (int step = 1; step <= 4; step++) {
        await_distinct(t, PARTITIONS * MESSAGES / 6 * step, 120000);
        start_member(&members[next++], config, "load", topic, t);
        stop_member(&members[first++]);
    }
    await_distinct(t, PARTITIONS * MESSAGES, 120000);
    assert_int_equal(pthread_join(filling, NULL), 0);
    uint64_t lost = 0;
    for (; first < next; first++)
        stop_member(&members[first]);
    for (int i = 0; i < next; i++)
        lost += atomic_load(&members[i].lost);
    print_message("repeated %d, lost to members %llu\n", atomic_load(&t->repeated),
                  (unsigned long long)lost);
    assert_int_equal(atomic_load(&t->disorder), 0);
    assert_int_equal(atomic_load(&t->repeated_settled), 0);
    tally_free(t);
    salvo_config_free(config);
}

/* --- a member that is killed ------------------------------------------------------------------*/

/* A child that takes, settles the first half, and says when it has; it never returns. */
static _Noreturn void child_member(const char *topic, int out, size_t most)
{
    uint64_t ids[1000];
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* with the test, whatever becomes of it */
    salvo_config *config = member_config(broker);
    config_set(config, "kafka_session_timeout_ms", "1500");
    config_set(config, "kafka_heartbeat_interval_ms", "300");
    salvo_consumer *consumer = member_open(config, "killed", topic, (salvo_consumer_options){0});
    size_t got = member_take(consumer, NULL, most, 30000, ids);
    (void)!salvo_consumer_ack(consumer, ids, got / 2);
    int err = salvo_consumer_commit(consumer, 10000);
    (void)!write(out, err ? "e" : "k", 1);
    for (;;) {
        const salvo_delivered *m;
        size_t count;
        (void)!salvo_consumer_poll(consumer, 100, &m, 0, &count);
    }
}

static void test_killed_member(void **state)
{
    (void)state;
    enum { MESSAGES = 500 };
    char topic[96], said = 0;
    int pipes[2];
    fresh_name(topic, "killed");
    create_topic(broker, topic, 1);
    fill(broker, topic, 1, 0, MESSAGES);
    assert_int_equal(pipe(pipes), 0);
    pid_t child = fork();
    if (child == 0)
        child_member(topic, pipes[1], 200);
    assert_int_equal(read(pipes[0], &said, 1), 1);
    assert_int_equal(said, 'k');
    salvo_config *config = member_config(broker);
    salvo_consumer *consumer = member_open(config, "killed", topic, (salvo_consumer_options){0});
    member_quiet(consumer, 2000); /* the child has the only partition */
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, NULL, 0), child);
    tally *t = tally_new(1, MESSAGES);
    assert_int_equal(member_take(consumer, t, MESSAGES - 100, 30000, NULL), MESSAGES - 100);
    assert_int_equal(atomic_load(&t->given[99]), 0);
    assert_int_equal(atomic_load(&t->given[100]), 1); /* was in the child's hand */
    tally_free(t);
    assert_int_equal(salvo_consumer_close(consumer, 10000), 0);
    salvo_config_free(config);
    close(pipes[0]);
    close(pipes[1]);
}

/* Closed at any moment of joining: which librdkafka before 2.3 does not survive by itself. */
static void test_close_while_joining(void **state)
{
    (void)state;
    char topic[96];
    fresh_name(topic, "joining");
    create_topic(broker, topic, 2);
    salvo_config *config = member_config(broker);
    for (int i = 0; i < 12; i++) {
        salvo_consumer *a = member_open(config, "joining", topic, (salvo_consumer_options){0});
        salvo_consumer *b = member_open(config, "joining", topic, (salvo_consumer_options){0});
        usleep((useconds_t)i * 2000);
        assert_int_equal(salvo_consumer_close(a, 10000), 0);
        assert_int_equal(salvo_consumer_close(b, 10000), 0);
    }
    salvo_config_free(config);
}

/* Takes, settles and closes again and again. */
typedef struct churner {
    const salvo_config *config;
    const char *topic;
    int rounds, failed;
    pthread_t thread;
} churner;

static void *churn(void *argument)
{
    churner *h = argument;
    uint64_t ids[20];
    for (int i = 0; i < h->rounds; i++) {
        salvo_consumer *consumer = member_open(h->config, "churn", h->topic,
                                               (salvo_consumer_options){0});
        const salvo_delivered *messages;
        size_t count = 0;
        (void)!salvo_consumer_poll(consumer, 2000, &messages, 20, &count);
        for (size_t m = 0; m < count; m++)
            ids[m] = messages[m].id;
        (void)!salvo_consumer_ack(consumer, ids, count);
        h->failed += salvo_consumer_close(consumer, 10000) != 0;
    }
    return NULL;
}

/* Members close while others come and go, so in every state of a rebalance: their last commit is
 * taken all the same, and none waits for its whole time. */
static void test_close_while_rebalancing(void **state)
{
    (void)state;
    enum { MEMBERS = 4, ROUNDS = 10, MESSAGES = 2000 };
    char topic[96];
    fresh_name(topic, "churn");
    create_topic(broker, topic, MEMBERS);
    fill(broker, topic, MEMBERS, 0, MESSAGES);
    salvo_config *config = member_config(broker);
    churner churners[MEMBERS];
    for (int i = 0; i < MEMBERS; i++) {
        churners[i] = (churner){.config = config, .topic = topic, .rounds = ROUNDS};
        assert_int_equal(pthread_create(&churners[i].thread, NULL, churn, &churners[i]), 0);
    }
    for (int i = 0; i < MEMBERS; i++) {
        assert_int_equal(pthread_join(churners[i].thread, NULL), 0);
        assert_int_equal(churners[i].failed, 0);
    }
    salvo_config_free(config);
}

/* What it has in hand is wanted by another member, and not settled: closing does not wait for
 * that, nor for the other one, which does not poll meanwhile. */
static void test_close_while_giving_away(void **state)
{
    (void)state;
    char topic[96];
    uint64_t ids[600];
    fresh_name(topic, "giving");
    create_topic(broker, topic, 2);
    fill(broker, topic, 2, 0, 500);
    salvo_config *config = member_config(broker);
    config_set(config, "kafka_heartbeat_interval_ms", "300");
    config_set(config, "kafka_rebalance_wait_ms", "60000");
    salvo_consumer *a = member_open(config, "giving", topic, (salvo_consumer_options){0});
    assert_int_equal(member_take(a, NULL, 600, 30000, ids), 600); /* of both partitions */
    assert_int_equal(salvo_consumer_ack(a, ids, 50), 50);
    salvo_consumer *b = member_open(config, "giving", topic, (salvo_consumer_options){0});
    uint64_t rebalances = member_stats(a).rebalances;
    while (member_stats(a).rebalances == rebalances) { /* the test's own time limit ends it */
        const salvo_delivered *messages;
        size_t count;
        assert_int_equal(salvo_consumer_poll(a, 10, &messages, 0, &count), SALVO_ERR_TIMEOUT);
    }
    assert_int_equal(salvo_consumer_close(a, 10000), 0);
    tally *t = tally_new(2, 500);
    assert_int_equal(member_take(b, t, 950, 30000, NULL), 950);
    assert_int_equal(atomic_load(&t->repeated), 0);
    assert_int_equal(salvo_consumer_close(b, 10000), 0);
    tally_free(t);
    salvo_config_free(config);
}

static int threads_here(void)
{
    int count = 0;
    DIR *tasks = opendir("/proc/self/task");
    while (readdir(tasks))
        count++;
    closedir(tasks);
    return count;
}

/* Its last commit waits behind a join that another member holds up, for longer than it may: the
 * client's threads end once that one polls. */
static void test_close_behind_a_join(void **state)
{
    (void)state;
    const salvo_delivered *messages;
    char topic[96];
    uint64_t ids[1];
    size_t count;
    fresh_name(topic, "behind");
    create_topic(broker, topic, 2);
    salvo_config *config = member_config(broker);
    config_set(config, "kafka_heartbeat_interval_ms", "300");
    salvo_consumer *a = member_open(config, "behind", topic, (salvo_consumer_options){0});
    member_assigned(a, 2);
    salvo_consumer *b = member_open(config, "behind", topic, (salvo_consumer_options){0});
    member_assigned(a, 1); /* and joins again, for which the group waits for b */
    fill(broker, topic, 2, 0, 1);
    assert_int_equal(member_take(a, NULL, 1, 30000, ids), 1);
    assert_int_equal(salvo_consumer_ack(a, ids, 1), 1);
    int closed = salvo_consumer_close(a, 1000), before = threads_here();
    uint64_t end = world_now_ms() + 30000;
    if (closed != 0) /* on a busy machine the join may be over before */
        assert_int_equal(closed, SALVO_ERR_TIMEOUT);
    while (closed != 0 && threads_here() > before - 3 && world_now_ms() < end)
        (void)!salvo_consumer_poll(b, 50, &messages, 0, &count);
    if (closed != 0) /* its main thread, a broker's, the coordinator's */
        assert_true(threads_here() <= before - 3);
    assert_int_equal(salvo_consumer_close(b, 10000), 0);
    salvo_config_free(config);
}

/* --- a broker that is killed ------------------------------------------------------------------*/

/* Poll, and settle what comes, until the state begins like this. */
static void await_state(salvo_consumer *consumer, tally *t, const char *wanted)
{
    uint64_t ids[100], end = world_now_ms() + 60000;
    while (strncmp(member_stats(consumer).broker_state, wanted, strlen(wanted)) != 0) {
        if (world_now_ms() > end)
            fail_msg("after 60 s the state is '%s'", member_stats(consumer).broker_state);
        size_t got = member_take(consumer, t, 100, 100, ids);
        assert_true(salvo_consumer_ack(consumer, ids, got) >= 0);
    }
}

/* Killed while there is work, and killed while there is none. */
static void test_bounced_broker(void **state)
{
    (void)state;
    enum { PARTITIONS = 2, MESSAGES = 2000 };
    char topic[96];
    uint64_t ids[100];
    fresh_name(topic, "bounced");
    create_topic(broker, topic, PARTITIONS);
    fill(broker, topic, PARTITIONS, 0, MESSAGES / 2);
    salvo_config *config = member_config(broker);
    config_set(config, "kafka_auto_commit_interval_ms", "100");
    salvo_consumer *consumer = member_open(config, "bounced", topic, (salvo_consumer_options){0});
    tally *t = tally_new(PARTITIONS, MESSAGES);
    for (int bounce = 0; bounce < 2; bounce++) {
        assert_int_equal(member_take(consumer, t, 100, 30000, ids), 100);
        assert_int_equal(salvo_consumer_ack(consumer, ids, 100), 100);
        own_broker("kill", NULL, 0);
        await_state(consumer, t, "down");
        own_broker("restart", NULL, 0);
        await_state(consumer, t, "up");
        if (bounce == 0)
            fill(broker, topic, PARTITIONS, MESSAGES / 2, MESSAGES);
    }
    uint64_t end = world_now_ms() + 60000;
    while (atomic_load(&t->distinct) < PARTITIONS * MESSAGES && world_now_ms() < end) {
        size_t got = member_take(consumer, t, 100, 100, ids);
        assert_true(salvo_consumer_ack(consumer, ids, got) >= 0);
    }
    assert_int_equal(atomic_load(&t->distinct), PARTITIONS * MESSAGES);
    assert_int_equal(salvo_consumer_commit(consumer, 30000), 0);
    assert_int_equal(member_stats(consumer).in_hand, 0);
    assert_int_equal(salvo_consumer_close(consumer, 10000), 0);
    consumer = member_open(config, "bounced", topic, (salvo_consumer_options){0});
    member_quiet(consumer, 3000);
    assert_int_equal(salvo_consumer_close(consumer, 10000), 0);
    tally_free(t);
    salvo_config_free(config);
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
        cmocka_unit_test(test_killed_member), /* forks: before there are threads */
        cmocka_unit_test(test_close_while_joining),
        cmocka_unit_test(test_close_while_rebalancing),
        cmocka_unit_test(test_close_while_giving_away),
        cmocka_unit_test(test_close_behind_a_join),
        cmocka_unit_test(test_rebalance_under_load),
        cmocka_unit_test(test_bounced_broker),
    };
    return cmocka_run_group_tests(tests, start_broker, stop_broker);
}
