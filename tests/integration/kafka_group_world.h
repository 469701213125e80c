/* SPDX-License-Identifier: Apache-2.0
 *
 * What the tests of Kafka's consumer groups and transactions share: numbered messages, members,
 * and a tally that knows each message's history. Include it after kafka_world.h. The tally may be
 * written by several threads; the other functions fail the running test, so only its own thread
 * may call them.
 */
#ifndef KAFKA_GROUP_WORLD_H
#define KAFKA_GROUP_WORLD_H

#include <stdbool.h>

#include "kafka_world.h"
#include <pthread.h>
#include <salvo/consumer.h>
#include <salvo/transaction.h>
#include <stdatomic.h>

enum { AT_ONCE = 500, PARTITIONS_MOST = 16 };

/* Message n of a partition: its number as text, and as its key. */
static inline void fill(const char *address, const char *name, int partitions, int from, int to)
{
    world w = world_new(address);
    salvo_topic topic = world_open(&w, name);
    for (int n = from; n < to; n++) {
        for (int p = 0; p < partitions; p++) {
            char text[16];
            size_t len = (size_t)snprintf(text, sizeof text, "%d", n);
            salvo_message m = {.value = text, .value_len = len, .key = text, .key_len = len,
                               .partition_plus1 = p + 1};
            assert_int_equal(salvo_send(w.producer, topic, &m), 0);
        }
    }
    world_flush(&w, 60000);
    assert_int_equal(world_end(&w, 30000), 0);
}

static inline salvo_config *member_config(const char *address)
{
    return world_new(address).config;
}

static inline void config_set(salvo_config *config, const char *key, const char *value)
{
    if (salvo_config_set(config, key, value))
        fail_msg("%s", salvo_config_error(config));
}

/* options: group and topic are filled in. */
static inline salvo_consumer *member_open(const salvo_config *config, const char *group,
                                          const char *topic, salvo_consumer_options options)
{
    salvo_consumer *consumer;
    options.size = sizeof options;
    options.group = group;
    options.topics = &topic;
    options.topic_count = 1;
    if (salvo_consumer_open(config, NULL, &options, &consumer))
        fail_msg("salvo_consumer_open: %s", salvo_last_error());
    return consumer;
}

static inline salvo_consumer_stats member_stats(salvo_consumer *consumer)
{
    salvo_consumer_stats stats = {.size = sizeof stats};
    assert_int_equal(salvo_consumer_get_stats(consumer, &stats), 0);
    return stats;
}

static inline int number_of(const salvo_record *r)
{
    char text[16] = "";
    memcpy(text, r->value, r->value_len < 15 ? r->value_len : 15);
    return atoi(text);
}

/* What happened to each message: how often given, and whether it was settled when given again. */
typedef struct tally {
    int partitions, messages; /* of each partition */
    _Atomic int *given;       /* [partition * messages + number] */
    _Atomic int *settled;
    _Atomic int distinct, repeated, repeated_settled, disorder;
} tally;

static inline tally *tally_new(int partitions, int messages)
{
    tally *t = calloc(1, sizeof *t);
    t->partitions = partitions;
    t->messages = messages;
    t->given = calloc((size_t)(partitions * messages), sizeof *t->given);
    t->settled = calloc((size_t)(partitions * messages), sizeof *t->settled);
    return t;
}

static inline void tally_free(tally *t)
{
    free(t->given);
    free(t->settled);
    free(t);
}

static inline void tally_given(tally *t, const salvo_record *r)
{
    int at = r->partition * t->messages + number_of(r);
    if (atomic_fetch_add(&t->given[at], 1) == 0)
        atomic_fetch_add(&t->distinct, 1);
    else
        atomic_fetch_add(&t->repeated, 1);
    if (atomic_load(&t->settled[at]) > 0)
        atomic_fetch_add(&t->repeated_settled, 1);
}

static inline void tally_settled(tally *t, int partition, int number)
{
    atomic_fetch_add(&t->settled[partition * t->messages + number], 1);
}

/* Poll until `wanted` messages came, or `wait_ms` are over; ids (may be NULL) gets theirs. */
static inline size_t member_take(salvo_consumer *consumer, tally *t, size_t wanted,
                                 uint64_t wait_ms, uint64_t *ids)
{
    uint64_t end = world_now_ms() + wait_ms;
    size_t got = 0;
    while (got < wanted && world_now_ms() < end) {
        const salvo_delivered *messages;
        size_t count, most = wanted - got < AT_ONCE ? wanted - got : AT_ONCE;
        int err = salvo_consumer_poll(consumer, 100, &messages, most, &count);
        if (err && err != SALVO_ERR_TIMEOUT)
            fail_msg("salvo_consumer_poll: %s", salvo_last_error());
        for (size_t i = 0; i < count; i++) {
            if (t)
                tally_given(t, &messages[i].record);
            if (ids)
                ids[got + i] = messages[i].id;
        }
        got += count;
    }
    return got;
}

/* Nothing comes for a while. */
static inline void member_quiet(salvo_consumer *consumer, uint64_t ms)
{
    assert_int_equal(member_take(consumer, NULL, 1, ms, NULL), 0);
}

/* Poll with nothing wanted until so many partitions are ours. */
static inline void member_assigned(salvo_consumer *consumer, uint32_t partitions)
{
    uint64_t end = world_now_ms() + 30000;
    while (member_stats(consumer).assigned != partitions) {
        const salvo_delivered *messages;
        size_t count;
        if (world_now_ms() > end)
            fail_msg("%u partitions after 30 s, not %u; %s", member_stats(consumer).assigned,
                     partitions, member_stats(consumer).broker_state);
        assert_int_equal(salvo_consumer_poll(consumer, 0, &messages, 0, &count),
                         SALVO_ERR_TIMEOUT);
        usleep(5000);
    }
}

#endif
