/* SPDX-License-Identifier: Apache-2.0
 *
 * wake=idle with a real flusher that parks for a second: nobody's message waits for the end of a
 * park, whether the flusher had just parked, or long ago.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include <salvo/salvo.h>

#define MS UINT64_C(1000000)
enum { SENDS = 12, SLOW_MS = 60, SLOW_MOST = 3, GIVE_UP_MS = 5000 };

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 * MS + (uint64_t)t.tv_nsec;
}

static void pause_ms(uint64_t ms)
{
    nanosleep(&(struct timespec){(time_t)(ms / 1000), (long)(ms % 1000 * MS)}, NULL);
}

static salvo *open_with(const char *wake, salvo_topic *topic)
{
    static const char *const settings[][2] = {{"message_broker", "memory"}, {"linger_us", "0"},
                                              {"park_max_us", "1000000"}};
    salvo_config *config;
    salvo *producer;
    assert_int_equal(salvo_config_new(&config), 0);
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++)
        assert_int_equal(salvo_config_set(config, settings[i][0], settings[i][1]), 0);
    assert_int_equal(salvo_config_set(config, "wake", wake), 0);
    assert_int_equal(salvo_open(config, NULL, &producer), 0);
    salvo_config_free(config);
    assert_int_equal(salvo_topic_open(producer, "woken", NULL, topic), 0);
    return producer;
}

/* How many of SENDS, with such pauses between them, were settled later than in SLOW_MS. After
 * 300 ms without messages a park takes 128 ms or more. */
static unsigned slow_ones(const char *wake, uint64_t between_ms)
{
    salvo_topic topic;
    salvo *producer = open_with(wake, &topic);
    unsigned slow = 0;
    for (unsigned i = 1; i <= SENDS; i++) {
        salvo_ledger l = {0};
        pause_ms(between_ms);
        uint64_t begin = now_ns();
        assert_int_equal(salvo_send_fire_and_forget(producer, topic, NULL, 0, "x", 1), 0);
        while (now_ns() - begin < GIVE_UP_MS * MS) {
            assert_int_equal(salvo_get_ledger(producer, topic, &l), 0);
            if (l.acknowledged == i)
                break;
            pause_ms(1);
        }
        assert_int_equal(l.acknowledged, i);
        slow += now_ns() - begin > SLOW_MS * MS;
    }
    assert_int_equal(salvo_close(producer, 5000, NULL), 0);
    return slow;
}

static void a_parked_flusher_is_woken(void **state)
{
    (void)state;
    assert_in_range(slow_ones("idle", 0), 0, SLOW_MOST);
    assert_in_range(slow_ones("idle", 5), 0, SLOW_MOST);
    assert_in_range(slow_ones("idle", 300), 0, SLOW_MOST);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_parked_flusher_is_woken)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
