/* SPDX-License-Identifier: Apache-2.0
 *
 * Cases about the stream of messages: each once, in order (also over two flushers, and across
 * connections that break), to many topics, and a close that finds some of them on their way.
 */
#include "conformance.h"
#include "driver.h"
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

void case_every_message_once(world *w)
{
    enum { TOPICS = 3 };
    uint32_t topics[TOPICS], count = world_many(w, 20000);
    world_open(w);
    for (uint32_t i = 0; i < TOPICS; i++)
        topics[i] = world_topic(w, NULL);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t lane = i % 9; /* each topic has three: two keys, and messages without one */
        assert_true(world_send_number(w, topics[i % TOPICS], lane, lane < 6, i, i % 997));
    }
    world_flush(w, 60000);
    assert_int_equal(world_outcomes(w, 0), count);
}

/* --- order ----------------------------------------------------------------------------------- */

enum { SENDERS = 2, KEYS_EACH = 4, LANES_EACH = KEYS_EACH + 1 };

typedef struct sender {
    world *w;
    uint32_t topic, me, count, every, nap_us; /* a nap after every so many */
    bool keyed_only;
    uint32_t refused;
    pthread_t thread;
} sender;

/* Its own keys in turn, and between them messages without one. */
static void *send_all(void *context)
{
    sender *s = context;
    for (uint32_t i = 0; i < s->count; i++) {
        uint32_t turn = i % (s->keyed_only ? KEYS_EACH : LANES_EACH);
        s->refused += !world_send_number(s->w, s->topic, s->me * LANES_EACH + turn,
                                         turn < KEYS_EACH, i, 60);
        if (s->nap_us && i % s->every == s->every - 1)
            usleep(s->nap_us);
    }
    return NULL;
}

static void start_senders(sender senders[SENDERS], const sender *model)
{
    for (uint32_t i = 0; i < SENDERS; i++) {
        senders[i] = *model;
        senders[i].me = i;
        assert_int_equal(pthread_create(&senders[i].thread, NULL, send_all, &senders[i]), 0);
    }
}

static void join_senders(sender senders[SENDERS])
{
    for (uint32_t i = 0; i < SENDERS; i++)
        pthread_join(senders[i].thread, NULL);
    for (uint32_t i = 0; i < SENDERS; i++)
        assert_int_equal(senders[i].refused, 0);
}

static void run_order(world *w, bool keyed_only)
{
    sender senders[SENDERS];
    uint32_t each = world_many(w, 10000);
    world_open(w);
    sender model = {.w = w, .topic = world_topic(w, NULL), .count = each, .every = 100,
                    .nap_us = 500, .keyed_only = keyed_only};
    start_senders(senders, &model);
    join_senders(senders);
    world_flush(w, 60000);
    assert_int_equal(world_outcomes(w, 0), SENDERS * each);
}

void case_order_of_keys(world *w)
{
    run_order(w, false);
}

/* With two flushers the promise is for keys. */
void case_order_with_two_flushers(world *w)
{
    world_set(w, "flushers", "2");
    run_order(w, true);
}

void case_order_across_broken_connections(world *w)
{
    enum { CUTS = 6 };
    sender senders[SENDERS];
    uint32_t each = world_many(w, 4000);
    int cut = 0;
    w->may_reorder = !(w->capabilities & SALVO_CAP_ORDERED_RETRY);
    w->may_duplicate = !w->target->exact;
    if (w->target->hooks && w->target->hooks->plan_cuts)
        w->target->hooks->plan_cuts(w);
    world_set(w, "batch_messages", "50"); /* so that each break finds several on their way */
    world_open(w);
    sender model = {.w = w, .topic = world_topic(w, NULL), .count = each, .every = 4,
                    .nap_us = w->target->slow ? 10000 : 1000};
    assert_true(world_send_number(w, model.topic, SENDERS * LANES_EACH, true, 0, 10));
    world_flush(w, 60000); /* connected, and the topic is known */
    start_senders(senders, &model);
    for (int i = 0; i < CUTS; i++) {
        usleep(150000);
        server_signal(SIGSTOP); /* so that it has requests that it answers to nobody */
        cut += server_cut();
        server_signal(SIGCONT);
    }
    join_senders(senders);
    world_flush(w, 60000);
    assert_int_equal(world_outcomes(w, 0), SENDERS * each + 1);
    if (w->target->address_key)
        assert_true(cut >= CUTS / 2); /* the others may have found it reconnecting */
}

/* --- topics ---------------------------------------------------------------------------------- */

void case_many_topics(world *w)
{
    enum { TOPICS = 50 };
    uint32_t topics[TOPICS], count = world_many(w, 5000);
    world_open(w);
    for (uint32_t i = 0; i < TOPICS; i++)
        topics[i] = world_topic(w, NULL);
    for (uint32_t i = 0; i < count; i++)
        world_must_send(w, topics[i % TOPICS], i % TOPICS, i, 40);
    world_flush(w, 60000);
    assert_int_equal(world_outcomes(w, 0), count);
    for (uint32_t i = 0; i < TOPICS; i++) {
        salvo_ledger l;
        assert_int_equal(salvo_get_ledger(w->producer, w->topics[i], &l), 0);
        assert_int_equal(l.acknowledged, count / TOPICS);
    }
}

/* --- close ----------------------------------------------------------------------------------- */

static void check_close_outcomes(const world *w)
{
    uint32_t told = world_outcomes(w, 0) + world_outcomes(w, SALVO_ERR_DROPPED) +
                    world_outcomes(w, SALVO_ERR_MAYBE);
    assert_int_equal(told, w->count);
    print_message("close: %u acknowledged, %u dropped, %u maybe delivered\n",
                  world_outcomes(w, 0), world_outcomes(w, SALVO_ERR_DROPPED),
                  world_outcomes(w, SALVO_ERR_MAYBE));
}

void case_close_in_flight(world *w)
{
    enum { COUNT = 20000 };
    static const uint64_t waits_ms[] = {0, 3};
    world_set(w, "batch_messages", "100");
    for (size_t i = 0; i < sizeof waits_ms / sizeof *waits_ms; i++) {
        world *inner = i ? world_new(w->target) : w;
        world_open(inner);
        uint32_t topic = world_topic(inner, NULL);
        assert_true(world_send_number(inner, topic, 0, true, COUNT, 10));
        world_flush(inner, 60000);
        for (uint32_t n = 0; n < COUNT; n++)
            world_must_send(inner, topic, n % 5, n, 200);
        assert_true(world_ledger(inner).pending > 0);
        (void)world_close(inner, waits_ms[i]); /* its books are checked there */
        check_close_outcomes(inner);
        if (inner != w) {
            world_finish(inner);
            world_free(inner);
        }
    }
}
