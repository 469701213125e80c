/* SPDX-License-Identifier: Apache-2.0
 *
 * One consumer of the memory broker, used by many threads at once: one sends, one polls, three
 * acknowledge (in any order), one wakes, one asks and pauses; meanwhile a second member comes and
 * goes, so that shares move. Checked: every message is settled at least once, none is given twice
 * while its claim lives, the counts agree, the lag ends at 0. For ThreadSanitizer above all.
 *
 * consumer_stress [--long]
 */
#include <pthread.h>
#include <salvo/consumer.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ACKERS = 3, QUEUE = 1 << 12, MESSAGES_MAX = 400000 };

typedef struct item {
    uint64_t id;
    uint32_t number;
} item;

static salvo *producer;
static salvo_config *config;
static salvo_topic topic;
static salvo_consumer *consumer;
static uint32_t messages = 40000;
static _Atomic uint32_t settled[MESSAGES_MAX];
static _Atomic uint32_t done; /* distinct numbers that were settled */
static _Atomic bool over;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t came = PTHREAD_COND_INITIALIZER;
static item queue[QUEUE];
static size_t queued;

static void die(const char *what)
{
    fprintf(stderr, "consumer_stress: %s: %s\n", what, salvo_last_error());
    exit(1);
}

static void check(bool good, const char *what)
{
    if (!good)
        die(what);
}

static salvo_consumer *join(void)
{
    static const char *const topics[] = {"stress"};
    const salvo_consumer_options options = {.size = sizeof options, .group = "g", .topics = topics,
                                            .topic_count = 1, .max_in_hand = 700};
    salvo_consumer *c;
    check(salvo_consumer_open(config, producer, &options, &c) == 0, "open");
    return c;
}

static uint32_t number_of(const salvo_delivered *m)
{
    uint32_t number;
    check(m->record.value_len == sizeof number, "a value that nobody sent");
    memcpy(&number, m->record.value, sizeof number);
    check(number < messages, "a number that nobody sent");
    return number;
}

static void settle(uint32_t number)
{
    if (atomic_fetch_add(&settled[number], 1) == 0)
        atomic_fetch_add(&done, 1);
}

static void *sends(void *context)
{
    (void)context;
    for (uint32_t i = 0; i < messages; i++) {
        char key[16];
        int n = snprintf(key, sizeof key, "%u", i % 64);
        check(salvo_send_fire_and_forget(producer, topic, key, (size_t)n, &i, sizeof i) == 0,
              "send");
        if (i % 512 == 0)
            usleep(500);
    }
    check(salvo_flush(producer, 60000) == 0, "flush");
    return NULL;
}

static void *polls(void *context)
{
    (void)context;
    uint64_t last = 0;
    while (!atomic_load(&over)) {
        const salvo_delivered *given;
        size_t n;
        int err = salvo_consumer_poll(consumer, 200, &given, 300, &n);
        check(err == 0 || err == SALVO_ERR_TIMEOUT, "poll");
        pthread_mutex_lock(&lock);
        for (size_t i = 0; i < n; i++) {
            check(given[i].id > last, "an id twice");
            last = given[i].id;
            check(queued < QUEUE, "more in hand than is allowed");
            queue[queued++] = (item){last, number_of(&given[i])};
        }
        pthread_cond_broadcast(&came);
        pthread_mutex_unlock(&lock);
    }
    return NULL;
}

/* Takes from anywhere in the queue, so that settling has no order. */
static void *acks(void *context)
{
    uint64_t random = (uint64_t)(uintptr_t)context;
    for (;;) {
        pthread_mutex_lock(&lock);
        while (queued == 0 && !atomic_load(&over))
            pthread_cond_wait(&came, &lock);
        if (queued == 0) {
            pthread_mutex_unlock(&lock);
            return NULL;
        }
        random = random * 6364136223846793005u + 1442695040888963407u;
        size_t at = (size_t)(random >> 33) % queued;
        item it = queue[at];
        queue[at] = queue[--queued];
        pthread_mutex_unlock(&lock);
        int64_t n = salvo_consumer_ack(consumer, &it.id, 1);
        check(n == 0 || n == 1, "ack"); /* 0: its share went to the other member */
        if (n == 1)
            settle(it.number);
    }
}

static void *wakes(void *context)
{
    (void)context;
    while (!atomic_load(&over)) {
        salvo_consumer_wake(consumer);
        usleep(700);
    }
    return NULL;
}

static void *asks(void *context)
{
    (void)context;
    for (uint32_t i = 0; !atomic_load(&over); i++) {
        salvo_consumer_stats s = {.size = sizeof s};
        salvo_lag lags[8];
        check(salvo_consumer_get_stats(consumer, &s) == 0, "stats");
        check(s.received == s.acknowledged + s.lost + s.in_hand, "the counts do not agree");
        check(s.in_hand <= 700, "max_in_hand");
        check(salvo_consumer_lag(consumer, lags, 8, 100) >= 0, "lag");
        check(salvo_consumer_pause(consumer, "stress", (int32_t)(i % 4)) == 0, "pause");
        usleep(1500);
        check(salvo_consumer_resume(consumer, "stress", SALVO_PARTITION_ALL) == 0, "resume");
    }
    return NULL;
}

/* Comes, settles most of what it gets, leaves with the rest. */
static void visit(uint32_t round)
{
    salvo_consumer *c = join();
    for (uint32_t i = 0; i < 10; i++) {
        const salvo_delivered *given;
        size_t n;
        int err = salvo_consumer_poll(c, 20, &given, 50, &n);
        check(err == 0 || err == SALVO_ERR_TIMEOUT, "poll of the second");
        for (size_t k = 0; k < n; k++)
            if ((k + round) % 5 != 0 && salvo_consumer_ack(c, &given[k].id, 1) == 1)
                settle(number_of(&given[k]));
    }
    check(salvo_consumer_close(c, 1000) == 0, "close of the second");
}

static void set(const char *key, const char *value)
{
    check(salvo_config_set(config, key, value) == 0, key);
}

static void check_lag(void)
{
    salvo_lag lags[8];
    int64_t n = salvo_consumer_lag(consumer, lags, 8, 1000);
    check(n == 4, "not all partitions came back");
    for (int64_t i = 0; i < n; i++)
        check(lags[i].lag == 0, "the lag did not end at 0");
}

int main(int argc, char **argv)
{
    void *(*const work[])(void *) = {sends, polls, acks, acks, acks, wakes, asks};
    enum { THREADS = sizeof work / sizeof *work };
    pthread_t threads[THREADS];
    if (argc > 1 && strcmp(argv[1], "--long") == 0)
        messages = MESSAGES_MAX;
    check(salvo_config_new(&config) == 0, "config");
    set("message_broker", "memory");
    set("memory_partitions", "4");
    set("kafka_rebalance_wait_ms", "0"); /* what is in hand of a share that moves is lost */
    check(salvo_open(config, NULL, &producer) == 0, "producer");
    check(salvo_topic_open(producer, "stress", NULL, &topic) == 0, "topic");
    consumer = join();
    for (uintptr_t i = 0; i < THREADS; i++)
        check(pthread_create(&threads[i], NULL, work[i], (void *)i) == 0, "thread");
    for (uint32_t round = 0; atomic_load(&done) < messages; round++)
        if (round % 4 == 0)
            visit(round);
        else
            usleep(5000);
    usleep(50000); /* what is in hand twice is settled too */
    atomic_store(&over, true);
    pthread_mutex_lock(&lock);
    pthread_cond_broadcast(&came);
    pthread_mutex_unlock(&lock);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    check_lag();
    salvo_consumer_stats s = {.size = sizeof s};
    check(salvo_consumer_get_stats(consumer, &s) == 0, "stats");
    check(s.rebalances > 2, "no share ever moved");
    check(salvo_consumer_close(consumer, 1000) == 0, "close");
    check(salvo_close(producer, 10000, NULL) == 0, "close of the producer");
    salvo_config_free(config);
    printf("%u messages, all settled; %llu rebalances, %llu lost to the other member\n", messages,
           (unsigned long long)s.rebalances, (unsigned long long)s.lost);
    return 0;
}
