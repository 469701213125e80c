/* SPDX-License-Identifier: Apache-2.0
 *
 * Members of one group that behave badly: they settle out of order, rewind, go silent until they
 * are given up, come back, settle what was taken from them, seek to where they stand, leave with
 * messages in hand. Checked: whatever they do, every message is settled by somebody who held it,
 * or the run never ends; what a dead claim settles counts nothing; a commit never passes a message
 * that is not settled (it would never be given again).
 *
 * group_stress [--long | SEED]
 */
#include <pthread.h>
#include <salvo/consumer.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MEMBERS = 4, PARTITIONS = 6, MESSAGES_MAX = 200000, KEPT = 256, GIVE_UP_S = 120 };

static salvo *producer;
static salvo_config *config;
static uint32_t messages = 20000;
static _Atomic uint32_t settled[MESSAGES_MAX], done;
static _Atomic uint64_t refused, expelled, rewound;
static uint64_t seed = 1;

static void check(bool good, const char *what)
{
    if (good)
        return;
    fprintf(stderr, "group_stress: %s: %s (seed %llu)\n", what, salvo_last_error(),
            (unsigned long long)seed);
    exit(1);
}

typedef struct member {
    pthread_t thread;
    uint64_t random;
    salvo_consumer *consumer;
    struct {
        uint64_t id;
        uint32_t number;
    } kept[KEPT]; /* given, to be settled some time */
    uint32_t count;
} member;

static uint32_t draw(member *m, uint32_t below)
{
    m->random = m->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(m->random >> 33) % below;
}

static void join(member *m)
{
    static const char *const topics[] = {"group"};
    const salvo_consumer_options options = {.size = sizeof options, .group = "g", .topics = topics,
                                            .topic_count = 1, .max_in_hand = KEPT};
    check(salvo_consumer_open(config, producer, &options, &m->consumer) == 0, "open");
    m->count = 0;
}

static void settle_one(member *m)
{
    if (m->count == 0)
        return;
    uint32_t at = draw(m, m->count);
    uint64_t id = m->kept[at].id;
    uint32_t number = m->kept[at].number;
    m->kept[at] = m->kept[--m->count];
    int held = salvo_consumer_is_held(m->consumer, id);
    int64_t n = salvo_consumer_ack(m->consumer, &id, 1);
    check(n == held, "ack and is_held do not agree"); /* nobody else uses this consumer */
    check(salvo_consumer_ack(m->consumer, &id, 1) == 0, "settled twice");
    if (n == 0)
        atomic_fetch_add(&refused, 1);
    else if (atomic_fetch_add(&settled[number], 1) == 0)
        atomic_fetch_add(&done, 1);
}

static void take(member *m)
{
    const salvo_delivered *given;
    size_t n, room = KEPT - m->count;
    if (room == 0)
        settle_one(m);
    int err = salvo_consumer_poll(m->consumer, draw(m, 5), &given, room ? room : 1, &n);
    check(err == 0 || err == SALVO_ERR_TIMEOUT, "poll");
    for (size_t i = 0; i < n; i++) {
        check(given[i].record.value_len == 4, "a value that nobody sent");
        m->kept[m->count].id = given[i].id;
        memcpy(&m->kept[m->count++].number, given[i].record.value, 4);
    }
}

/* To where it is read anyway: what is committed, or what is in hand, never beyond. */
static void seek(member *m)
{
    salvo_lag lags[PARTITIONS];
    int64_t n = salvo_consumer_lag(m->consumer, lags, PARTITIONS, 100);
    check(n >= 0, "lag");
    if (n == 0)
        return;
    const salvo_lag *l = &lags[draw(m, (uint32_t)n)];
    int err = salvo_consumer_seek(m->consumer, l->topic, l->partition,
                                  l->committed >= 0 ? l->committed : SALVO_OFFSET_BEGIN);
    check(err == 0 || err == SALVO_ERR_PARTITION, "seek");
}

static void misbehave(member *m)
{
    switch (draw(m, 120)) {
    case 0:
        check(salvo_consumer_rewind(m->consumer) == 0, "rewind");
        atomic_fetch_add(&rewound, 1);
        return;
    case 1:
        usleep(80000); /* longer than kafka_session_timeout_ms */
        atomic_fetch_add(&expelled, 1);
        return;
    case 2:
        check(salvo_consumer_close(m->consumer, 1000) == 0, "close");
        join(m);
        return;
    case 3: seek(m); return;
    case 4: check(salvo_consumer_commit(m->consumer, 1000) == 0, "commit"); return;
    default: return;
    }
}

static void *run(void *context)
{
    member *m = context;
    join(m);
    time_t end = time(NULL) + GIVE_UP_S;
    while (atomic_load(&done) < messages) {
        take(m);
        for (uint32_t i = draw(m, 60); i > 0; i--)
            settle_one(m);
        misbehave(m);
        check(time(NULL) < end, "a message was never given again");
    }
    check(salvo_consumer_close(m->consumer, 1000) == 0, "close");
    return NULL;
}

static void set(const char *key, const char *value)
{
    check(salvo_config_set(config, key, value) == 0, key);
}

static void send_all(void)
{
    salvo_topic topic;
    check(salvo_topic_open(producer, "group", NULL, &topic) == 0, "topic");
    for (uint32_t i = 0; i < messages; i++) {
        check(salvo_send_fire_and_forget(producer, topic, &i, 1, &i, sizeof i) == 0, "send");
        if (i % 256 == 0)
            usleep(300);
    }
    check(salvo_flush(producer, 60000) == 0, "flush");
}

int main(int argc, char **argv)
{
    static member members[MEMBERS];
    if (argc > 1 && strcmp(argv[1], "--long") == 0)
        messages = MESSAGES_MAX;
    else if (argc > 1)
        seed = strtoull(argv[1], NULL, 10);
    check(salvo_config_new(&config) == 0, "config");
    set("message_broker", "memory");
    set("memory_partitions", "6");
    set("kafka_session_timeout_ms", "60");
    set("kafka_rebalance_wait_ms", "10");
    check(salvo_open(config, NULL, &producer) == 0, "producer");
    for (uint32_t i = 0; i < MEMBERS; i++) {
        members[i].random = seed * 1000003 + i;
        check(pthread_create(&members[i].thread, NULL, run, &members[i]) == 0, "thread");
    }
    send_all();
    for (uint32_t i = 0; i < MEMBERS; i++)
        pthread_join(members[i].thread, NULL);
    salvo_lag lags[PARTITIONS];
    check(salvo_group_lag(NULL, producer, "g", "group", lags, PARTITIONS, 0) == PARTITIONS, "lag");
    check(refused > 0, "nothing that was settled late was refused");
    check(salvo_close(producer, 10000, NULL) == 0, "close of the producer");
    salvo_config_free(config);
    printf("%u messages, all settled; %llu late settlements refused, %llu silences, %llu rewinds\n",
           messages, (unsigned long long)refused, (unsigned long long)expelled,
           (unsigned long long)rewound);
    return 0;
}
