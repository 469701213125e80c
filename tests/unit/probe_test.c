/* SPDX-License-Identifier: Apache-2.0
 *
 * The driver's seam: batches made by hand come back, again and again, timed, with what became of
 * them; and the engine's own costs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "clock.h"
#include <salvo/probe.h>
#include <salvo/salvo.h>

#include <string.h>

static const char block[4096] = "payload";

static salvo_probe *open_probe(const char *script)
{
    salvo_config *config;
    salvo_probe *p = NULL;
    assert_int_equal(salvo_config_new(&config), 0);
    assert_int_equal(salvo_config_set(config, "message_broker", "memory"), 0);
    assert_int_equal(salvo_config_set(config, "memory_script", script), 0);
    if (salvo_probe_open(config, "t", 5000, &p) != 0)
        fail_msg("%s", salvo_last_error());
    salvo_config_free(config); /* it has a copy */
    assert_true(salvo_probe_partitions(p) >= 1);
    assert_string_equal(salvo_probe_driver(p), "memory");
    return p;
}

static salvo_probe_sample exchange(salvo_probe *p, uint32_t batch)
{
    salvo_probe_sample s = {0};
    uint64_t until_ns = salvo_clock_monotonic_ns() + UINT64_C(10000000000);
    int n = 0;
    assert_int_equal(salvo_probe_submit(p, batch), 0);
    assert_int_equal(salvo_probe_out(p), 1);
    assert_int_equal(salvo_probe_submit(p, batch), SALVO_ERR_INVALID); /* it is out */
    while (n == 0 && salvo_clock_monotonic_ns() < until_ns)
        n = salvo_probe_wait(p, until_ns, &s, 1);
    assert_int_equal(n, 1);
    assert_int_equal(salvo_probe_out(p), 0);
    return s;
}

static void a_batch_comes_back_again_and_again(void **state)
{
    uint32_t batch;
    (void)state;
    salvo_probe *p = open_probe("delay:5ms*3");
    assert_int_equal(salvo_probe_make(p, 0, 100, 50, block, sizeof block, 4000, &batch), 0);
    for (int i = 0; i < 5; i++) {
        salvo_probe_sample s = exchange(p, batch);
        assert_int_equal(s.status, 0);
        assert_int_equal(s.batch, batch);
        assert_int_equal(s.records, 100);
        assert_int_equal(s.bytes, 5000);
        assert_int_equal(s.in_flight, 1);
        assert_true(s.end_ns > s.begin_ns && s.cpu_ns <= s.end_ns - s.begin_ns + 1000000);
        assert_true(i >= 3 || s.end_ns - s.begin_ns >= 5000000); /* as the script delays it */
    }
    salvo_probe_remove_all(p);
    assert_int_equal(salvo_probe_submit(p, batch), SALVO_ERR_INVALID);
    salvo_probe_close(p);
}

static void failures_are_told(void **state)
{
    uint32_t batch;
    (void)state;
    salvo_probe *p = open_probe("reject");
    assert_int_equal(salvo_probe_make(p, 0, 1, 10, block, sizeof block, 0, &batch), 0);
    assert_int_equal(exchange(p, batch).status, SALVO_ERR_REJECTED);
    assert_int_equal(exchange(p, batch).status, 0);
    salvo_probe_close(p);
}

static void many_are_in_flight(void **state)
{
    uint32_t batches[8];
    salvo_probe_sample samples[8];
    unsigned seen = 0;
    (void)state;
    salvo_probe *p = open_probe("delay:2ms*8");
    for (uint32_t i = 0; i < 8; i++) {
        assert_int_equal(salvo_probe_make(p, 0, 1, 10, block, sizeof block, 0, &batches[i]), 0);
        assert_int_equal(salvo_probe_submit(p, batches[i]), 0);
    }
    assert_int_equal(salvo_probe_out(p), 8);
    uint64_t until_ns = salvo_clock_monotonic_ns() + UINT64_C(10000000000);
    for (int n; seen != 255 && salvo_clock_monotonic_ns() < until_ns;) {
        n = salvo_probe_wait(p, until_ns, samples, 8);
        for (int i = 0; i < n; i++) {
            assert_int_equal(seen >> samples[i].batch & 1, 0); /* once each */
            assert_int_equal(samples[i].in_flight, samples[i].batch + 1);
            seen |= 1u << samples[i].batch;
        }
    }
    assert_int_equal(seen, 255);
    salvo_probe_close(p);
}

static void bad_arguments_are_refused(void **state)
{
    uint32_t batch;
    (void)state;
    salvo_probe *p = open_probe("ok");
    assert_int_equal(salvo_probe_make(p, 0, 0, 10, block, sizeof block, 0, &batch),
                     SALVO_ERR_INVALID);
    assert_int_equal(salvo_probe_make(p, 0, 1, 5000, block, sizeof block, 0, &batch),
                     SALVO_ERR_INVALID);
    assert_int_equal(salvo_probe_make(p, 1000, 1, 10, block, sizeof block, 0, &batch),
                     SALVO_ERR_INVALID);
    assert_int_equal(salvo_probe_submit(p, 77), SALVO_ERR_INVALID);
    assert_int_equal(salvo_probe_make(p, 0, 1, 10, block, sizeof block, 0, &batch), 0);
    assert_int_equal(salvo_probe_submit(p, batch), 0);
    salvo_probe_close(p); /* with one out */
}

static void the_engine_is_measured(void **state)
{
    salvo_config *config;
    salvo_probe_engine e;
    (void)state;
    assert_int_equal(salvo_config_new(&config), 0);
    assert_int_equal(salvo_probe_measure_engine(config, 500, 100, &e), 0);
    assert_int_equal(e.records, 500);
    assert_true(e.batches >= 1 && e.rounds >= 1);
    assert_true(e.send_ns > 0 && e.work_ns > 0 && e.empty_ns > 0);
    salvo_config_free(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_batch_comes_back_again_and_again),
        cmocka_unit_test(failures_are_told),
        cmocka_unit_test(many_are_in_flight),
        cmocka_unit_test(bad_arguments_are_refused),
        cmocka_unit_test(the_engine_is_measured),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
