/* SPDX-License-Identifier: Apache-2.0
 *
 * Cases about topics at the broker: made, found, looked at, compared with what is wanted, removed;
 * and where a group stands on one.
 */
#include "conformance.h"
#include "driver.h"
#include "driver_consumer.h"
#include <salvo/consumer.h>
#include <salvo/topics.h>
#include <time.h>

#define TOPICS_ROOM 4096

static const salvo_driver_topic_ops *ops_of(const world *w)
{
    return salvo_driver_find(w->target->driver)->topics;
}

static salvo *producer_of(const world *w)
{
    return w->target->address_key ? NULL : w->producer; /* no server: it lives in the producer */
}

static salvo_topic_spec spec_of(const char *name)
{
    return (salvo_topic_spec){.size = sizeof(salvo_topic_spec), .name = name};
}

static int create(world *w, const salvo_topic_spec *spec)
{
    return salvo_topic_create(w->good_config, producer_of(w), spec, 30000);
}

static int ensure(world *w, const salvo_topic_spec *spec, char text[256])
{
    return salvo_topic_ensure(w->good_config, producer_of(w), spec, text, 256, 30000);
}

static int describe(world *w, const char *name, salvo_topic_info *info)
{
    return salvo_topic_describe(w->good_config, producer_of(w), name, info, 30000);
}

#define GOOD(call)                                                                               \
    do {                                                                                         \
        if ((call) < 0)                                                                          \
            fail_msg("%s: %s", #call, salvo_last_error());                                       \
    } while (0)

static bool listed(world *w, const char *name)
{
    static salvo_topic_info all[TOPICS_ROOM];
    int64_t count = salvo_topic_list(w->good_config, producer_of(w), all, TOPICS_ROOM, 30000);
    GOOD(count);
    assert_true(count < TOPICS_ROOM);
    for (int64_t i = 0; i < count; i++) {
        if (i > 0)
            assert_true(strcmp(all[i - 1].name, all[i].name) < 0);
        if (strcmp(all[i].name, name) == 0) {
            assert_int_equal(all[i].messages, -1);
            return true;
        }
    }
    return false;
}

/* All that this broker can give a topic is given, and found again. */
void case_topics_made(world *w)
{
    char made[96], text[256];
    salvo_topic_info info;
    uint32_t can = ops_of(w)->can;
    world_open(w);
    salvo_topic_spec spec = spec_of(world_fresh_name(made));
    spec.partitions = can & SALVO_TOPIC_CAN_PARTITIONS ? 3 : 1;
    spec.retention_ms = can & SALVO_TOPIC_CAN_RETENTION ? 3600000 : 0;
    spec.cleanup_policy = can & SALVO_TOPIC_CAN_COMPACT ? "compact,delete" : "delete";
    assert_int_equal(describe(w, made, &info), SALVO_ERR_UNKNOWN_TOPIC);
    assert_non_null(strstr(salvo_last_error(), made));
    assert_int_equal(describe(w, made, &info), SALVO_ERR_UNKNOWN_TOPIC); /* looking makes none */
    GOOD(create(w, &spec));
    assert_int_equal(create(w, &spec), SALVO_ERR_REJECTED);
    assert_non_null(strstr(salvo_last_error(), made));
    GOOD(describe(w, made, &info));
    assert_string_equal(info.name, made);
    assert_int_equal(info.partitions, spec.partitions);
    assert_int_equal(info.messages, 0);
    if (can & SALVO_TOPIC_CAN_RETENTION)
        assert_int_equal(info.retention_ms, 3600000);
    assert_string_equal(info.cleanup_policy,
                        can & SALVO_TOPIC_CAN_COMPACT ? spec.cleanup_policy : "");
    assert_int_equal(ensure(w, &spec, text), 0);
    if (ops_of(w)->list)
        assert_true(listed(w, made));
    else
        assert_int_equal(salvo_topic_list(w->good_config, NULL, NULL, 0, 30000),
                         SALVO_ERR_UNSUPPORTED);
}

/* A topic that is there is never changed; what differs is named, each in a line. */
void case_topics_ensured(world *w)
{
    char name[96], text[256];
    salvo_topic_info before, after;
    uint32_t can = ops_of(w)->can;
    world_open(w);
    salvo_topic_spec spec = spec_of(world_fresh_name(name));
    assert_int_equal(ensure(w, &spec, text), 1);
    assert_string_equal(text, "");
    assert_int_equal(ensure(w, &spec, text), 0);
    GOOD(describe(w, name, &before));
    if (can & SALVO_TOPIC_CAN_PARTITIONS)
        spec.partitions = 5;
    if (can & SALVO_TOPIC_CAN_REPLICAS)
        spec.replication_factor = 2;
    if (can & SALVO_TOPIC_CAN_RETENTION)
        spec.retention_ms = 12345678;
    if (can & SALVO_TOPIC_CAN_COMPACT)
        spec.cleanup_policy = "compact";
    assert_int_equal(ensure(w, &spec, text), can ? 2 : 0);
    assert_int_equal(strstr(text, "partitions: 1, wanted 5") != NULL,
                     (can & SALVO_TOPIC_CAN_PARTITIONS) != 0);
    assert_int_equal(strstr(text, "replication_factor: 1, wanted 2") != NULL,
                     (can & SALVO_TOPIC_CAN_REPLICAS) != 0);
    assert_int_equal(strstr(text, "wanted 12345678") != NULL,
                     (can & SALVO_TOPIC_CAN_RETENTION) != 0);
    assert_int_equal(strstr(text, "cleanup_policy: delete, wanted compact") != NULL,
                     (can & SALVO_TOPIC_CAN_COMPACT) != 0);
    GOOD(describe(w, name, &after));
    assert_memory_equal(&before, &after, sizeof before);
    spec.partitions = 2;
    if (!(can & SALVO_TOPIC_CAN_PARTITIONS))
        assert_int_equal(ensure(w, &spec, text), SALVO_ERR_UNSUPPORTED);
}

static void send_many(world *w, uint32_t topic, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        world_must_send(w, topic, i % 7, i, 40);
    world_flush(w, 60000);
    assert_int_equal(world_outcomes(w, 0), w->count);
}

static void await_gone(world *w, const char *name)
{
    salvo_topic_info info;
    for (int i = 0; i < 100; i++) { /* a Kafka broker hears of it a moment later */
        if (describe(w, name, &info) == SALVO_ERR_UNKNOWN_TOPIC)
            return;
        nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    }
    fail_msg("topic %s is still there", name);
}

/* Messages go into a topic that was made before, are counted, and end with one that is removed. */
void case_topics_filled_and_removed(world *w)
{
    enum { COUNT = 500 };
    char kept[96], removed[96];
    salvo_topic_info info;
    world_open(w);
    salvo_topic_spec spec = spec_of(world_fresh_name(kept));
    spec.partitions = ops_of(w)->can & SALVO_TOPIC_CAN_PARTITIONS ? 4 : 1;
    GOOD(create(w, &spec));
    send_many(w, world_topic_named(w, kept, NULL), COUNT);
    GOOD(describe(w, kept, &info));
    assert_int_equal(info.messages, COUNT);
    assert_int_equal(info.partitions, spec.partitions);
    if (!w->target->address_key)
        return; /* its topics end with their producer */
    spec = spec_of(world_fresh_name(removed));
    GOOD(create(w, &spec));
    GOOD(salvo_topic_delete(w->good_config, removed, 30000));
    await_gone(w, removed);
    GOOD(salvo_topic_delete(w->good_config, removed, 30000)); /* gone is gone */
    GOOD(describe(w, kept, &info));
    assert_int_equal(info.messages, COUNT);
}

/* --- lag ------------------------------------------------------------------------------------- */

static int64_t lag_of(world *w, const char *group, const char *topic, int64_t partitions)
{
    salvo_lag lags[8];
    int64_t sum = 0;
    int64_t count = salvo_group_lag(w->good_config, producer_of(w), group, topic, lags, 8, 30000);
    GOOD(count);
    assert_int_equal(count, partitions);
    for (int64_t i = 0; i < count; i++) {
        assert_string_equal(lags[i].topic, topic);
        assert_int_equal(lags[i].partition, i);
        assert_true(lags[i].lag >= 0);
        sum += lags[i].lag;
    }
    return sum;
}

/* Read them all, settle as many as are asked for, leave. */
static void settle(world *w, const char *group, const char *topic, uint32_t all, uint32_t settled)
{
    const char *const topics[] = {topic};
    salvo_consumer_options options = {.size = sizeof options, .group = group, .topics = topics,
                                      .topic_count = 1, .max_in_hand = all};
    salvo_consumer *consumer;
    GOOD(salvo_consumer_open(w->good_config, producer_of(w), &options, &consumer));
    uint64_t deadline = now_ms() + 60000;
    for (uint32_t given = 0; given < all;) {
        const salvo_delivered *messages;
        size_t count;
        int err = salvo_consumer_poll(consumer, 500, &messages, 100, &count);
        if (err && err != SALVO_ERR_TIMEOUT)
            fail_msg("poll: %s", salvo_last_error());
        for (size_t i = 0; i < count; i++)
            if (given++ < settled)
                assert_int_equal(salvo_consumer_ack(consumer, &messages[i].id, 1), 1);
        assert_true(now_ms() < deadline);
    }
    GOOD(salvo_consumer_close(consumer, 30000));
}

void case_lag_of_a_group(world *w)
{
    enum { COUNT = 300, SETTLED = 120 };
    char name[96], text[256];
    world_open(w);
    salvo_topic_spec spec = spec_of(world_fresh_name(name));
    assert_int_equal(ensure(w, &spec, text), 1);
    salvo_lag lag;
    if (w->target->address_key)
        assert_int_equal(salvo_group_lag(w->good_config, NULL, "g", world_fresh_name(text), &lag,
                                         1, 30000), SALVO_ERR_UNKNOWN_TOPIC);
    assert_int_equal(lag_of(w, "g", name, 1), 0);
    uint32_t topic = world_topic_named(w, name, NULL);
    send_many(w, topic, COUNT);
    assert_int_equal(lag_of(w, "g", name, 1), COUNT); /* as its first member would begin */
    if (!(w->capabilities & SALVO_CAP_GROUPS))
        return; /* what is settled leaves the queue: there would be nothing to read back */
    settle(w, "g", name, COUNT, SETTLED);
    assert_int_equal(lag_of(w, "g", name, 1), COUNT - SETTLED);
    assert_int_equal(lag_of(w, "h", name, 1), COUNT); /* another group stands where it stood */
    settle(w, "g", name, COUNT - SETTLED, COUNT - SETTLED);
    assert_int_equal(lag_of(w, "g", name, 1), 0);
}
