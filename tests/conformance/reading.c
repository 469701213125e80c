/* SPDX-License-Identifier: Apache-2.0
 *
 * Members of groups for the cases about consuming, and what they were given.
 */
#include "reading.h"
#include "driver.h"

#define COMES_MS 30000u /* what must come comes within; joining a group takes seconds */
#define QUIET_MS 700u   /* what must not come would have come by then */
enum { OPEN_MAX = 8 };

static salvo_consumer *opened[OPEN_MAX];

static void set_known(salvo_config *config, const char *key, const char *value)
{
    if (salvo_config_get(config, key) && salvo_config_set(config, key, value))
        fail_msg("%s", salvo_config_error(config));
}

salvo_consumer *reading_join(world *w, const char *group, const char *topic,
                             const salvo_consumer_options *changes)
{
    salvo_consumer_options options = {0};
    if (changes)
        options = *changes;
    options.size = sizeof options;
    options.group = group;
    options.topics = &topic;
    options.topic_count = 1;
    set_known(w->good_config, "redis_claim_idle_ms", "1000"); /* what a member left behind */
    w->consumed = true;
    for (size_t i = 0; i < OPEN_MAX; i++)
        if (!opened[i]) {
            if (salvo_consumer_open(w->good_config, w->producer, &options, &opened[i]))
                fail_msg("salvo_consumer_open: %s", salvo_last_error());
            return opened[i];
        }
    fail_msg("a case has too many members");
    return NULL;
}

void reading_leave(salvo_consumer *c)
{
    for (size_t i = 0; i < OPEN_MAX; i++)
        if (opened[i] == c)
            opened[i] = NULL;
    if (salvo_consumer_close(c, 10000))
        fail_msg("salvo_consumer_close: %s", salvo_last_error());
}

void reading_clean(void)
{
    for (size_t i = 0; i < OPEN_MAX; i++) {
        if (opened[i])
            (void)salvo_consumer_close(opened[i], 1000);
        opened[i] = NULL;
    }
}

static void keep(book *b, const salvo_delivered *m)
{
    char text[32] = "";
    assert_true(b->count < TAKEN_MAX);
    taken *t = &b->all[b->count];
    *t = (taken){.id = m->id, .partition = m->record.partition, .deliveries = m->deliveries,
                 .offset = m->record.offset};
    memcpy(text, m->record.value, m->record.value_len < 31 ? m->record.value_len : 31);
    if (sscanf(text, "%u.%u.", &t->lane, &t->number) != 2)
        fail_msg("nobody sent \"%s\"", text);
    assert_int_not_equal(t->id, 0);
    if (b->count > 0 && t->id == b->all[b->count - 1].id)
        fail_msg("id %llu was given twice", (unsigned long long)t->id);
    b->count++;
}

size_t reading_take(salvo_consumer *c, book *b, size_t wanted, uint64_t quiet_ms)
{
    size_t before = b->count;
    uint64_t until = now_ms() + quiet_ms;
    while (b->count - before < wanted && now_ms() < until) {
        const salvo_delivered *messages;
        size_t n, most = wanted - (b->count - before);
        int err = salvo_consumer_poll(c, 100, &messages, most, &n);
        if (err && err != SALVO_ERR_TIMEOUT)
            fail_msg("salvo_consumer_poll: %s", salvo_last_error());
        assert_in_range(n, err ? 0 : 1, err ? 0 : most);
        for (size_t i = 0; i < n; i++)
            keep(b, &messages[i]);
        if (n > 0)
            until = now_ms() + quiet_ms;
    }
    return b->count - before;
}

void reading_expect_nothing(salvo_consumer *c)
{
    static book extra;
    extra.count = 0;
    if (reading_take(c, &extra, 1, QUIET_MS))
        fail_msg("message %u of lane %u came, and should not", extra.all[0].number,
                 extra.all[0].lane);
}

void reading_expect(salvo_consumer *c, book *b, size_t wanted)
{
    size_t n = reading_take(c, b, wanted, COMES_MS);
    if (n != wanted)
        fail_msg("%zu of %zu messages came; the broker is %s; log: %s", n, wanted,
                 reading_stats(c).broker_state, log_take());
    reading_expect_nothing(c);
}

void reading_ack(salvo_consumer *c, const book *b, size_t first, size_t count)
{
    for (size_t i = first; i < first + count; i++) {
        assert_int_equal(salvo_consumer_is_held(c, b->all[i].id), 1);
        assert_int_equal(salvo_consumer_ack(c, &b->all[i].id, 1), 1);
        assert_int_equal(salvo_consumer_is_held(c, b->all[i].id), 0);
    }
}

uint32_t reading_times(const book *b, uint32_t number)
{
    uint32_t times = 0;
    for (size_t i = 0; i < b->count; i++)
        times += b->all[i].number == number;
    return times;
}

void reading_check_times(const book *b, uint32_t first, uint32_t count, uint32_t at_least,
                         uint32_t at_most)
{
    for (uint32_t i = first; i < first + count; i++) {
        uint32_t times = reading_times(b, i);
        if (times < at_least || times > at_most)
            fail_msg("message %u was given %u times, expected: %u to %u", i, times, at_least,
                     at_most);
    }
}

salvo_consumer_stats reading_stats(salvo_consumer *c)
{
    salvo_consumer_stats s = {.size = sizeof s};
    assert_int_equal(salvo_consumer_get_stats(c, &s), 0);
    return s;
}

int64_t reading_lag(salvo_consumer *c)
{
    salvo_lag lags[16];
    int64_t sum = 0, n = salvo_consumer_lag(c, lags, 16, 10000);
    if (n < 0)
        fail_msg("salvo_consumer_lag: %s", salvo_last_error());
    assert_in_range(n, 1, 16);
    for (int64_t i = 0; i < n; i++)
        sum += lags[i].lag;
    return sum;
}

bool reading_has_offsets(const world *w)
{
    return salvo_driver_find(w->target->driver)->consumer->seek != NULL;
}
