/* SPDX-License-Identifier: Apache-2.0
 *
 * The fit of a broker model recovers what synthetic measurements were made of.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "plan/draw.h"
#include "probe_fit.h"

#include <math.h>
#include <string.h>

static const uint32_t flights[] = {1, 2, 3, 4, 6, 8, 12, 16, 24, 32};
enum { FLIGHTS = sizeof flights / sizeof *flights };

static void near(double is, double should, double share)
{
    if (fabs(is - should) > share * fabs(should) + 1e-9)
        fail_msg("%f instead of %f", is, should);
}

static void costs_are_recovered(void **state)
{
    const salvo_fit_cost truth = {700000, 1.5, 90};
    static const double shapes[][2] = {{100, 1}, {1000, 1}, {100000, 1}, {1000, 10}, {10000, 10},
                                       {10000, 100}, {400000, 100}, {16000, 1000},
                                       {400000, 1000}, {64000, 4000}};
    salvo_fit_point points[10];
    salvo_fit_cost cost;
    salvo_draw draw = salvo_draw_stream(1, 2, 3);
    (void)state;
    for (int i = 0; i < 10; i++) { /* up to 2 % off */
        double off = 0.98 + 0.0004 * (double)salvo_draw_below(&draw, 101);
        points[i] = (salvo_fit_point){shapes[i][0], shapes[i][1], 0};
        points[i].ns = salvo_fit_ns(&truth, shapes[i][0], shapes[i][1]) * off;
    }
    assert_true(salvo_fit_request(points, 10, &cost));
    near(cost.base_ns, truth.base_ns, 0.03);
    near(cost.per_byte_ns, truth.per_byte_ns, 0.05);
    near(cost.per_record_ns, truth.per_record_ns, 0.1);
}

static void no_coefficient_is_negative(void **state)
{
    /* The more records the faster: no reason to believe it. */
    const salvo_fit_point points[] = {{1000, 1, 100}, {1000, 10, 95}, {1000, 100, 90},
                                      {9000, 100, 180}};
    salvo_fit_cost cost;
    (void)state;
    assert_true(salvo_fit_request(points, 4, &cost));
    assert_true(cost.base_ns >= 0 && cost.per_byte_ns >= 0 && cost.per_record_ns >= 0);
    assert_true(cost.per_record_ns == 0);
    near(cost.per_byte_ns, 0.0106, 0.1);
}

static void too_little_is_refused(void **state)
{
    const salvo_fit_point two[] = {{1, 1, 5}, {2, 1, 6}};
    const salvo_fit_point none[] = {{1, 1, 5}, {2, 1, 0}, {3, 1, 2}};
    salvo_fit_cost cost;
    (void)state;
    assert_false(salvo_fit_request(two, 2, &cost));
    assert_false(salvo_fit_request(none, 3, &cost));
}

static size_t make_flows(salvo_fit_flow *flows, const salvo_fit_cost *service,
                         const salvo_fit_client *client, uint32_t window, uint32_t servers)
{
    static const double shapes[][2] = {{10000, 100}, {100000, 1000}};
    size_t n = 0;
    salvo_draw draw = salvo_draw_stream(window, servers, 1);
    for (int s = 0; s < 2; s++)
        for (int i = 0; i < FLIGHTS; i++) {
            flows[n] = (salvo_fit_flow){.bytes = shapes[s][0], .records = shapes[s][1],
                                        .in_flight = flights[i], .batches = 1};
            flows[n].per_s = salvo_fit_rate(&flows[n], service, client, window, servers) *
                             (0.99 + 0.0002 * (double)salvo_draw_below(&draw, 101));
            n++;
        }
    return n;
}

static void servers_are_recovered(void **state)
{
    static const uint32_t pairs[][2] = {{1, 1}, {5, 1}, {5, 2}, {5, 3}, {8, 4}, {3, 3}};
    const salvo_fit_cost service = {600000, 1, 20};
    const salvo_fit_client client = {.thread = {2000, 0.01, 30}, .library = {5000, 0.02, 50}};
    salvo_fit_flow flows[2 * FLIGHTS];
    (void)state;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        size_t n = make_flows(flows, &service, &client, pairs[i][0], pairs[i][1]);
        salvo_fit_window w = salvo_fit_flows(flows, n, &service, &client, 64);
        if (w.servers != pairs[i][1])
            fail_msg("%u servers instead of %u", w.servers, pairs[i][1]);
        assert_true(w.error < 0.03);
    }
}

/* A window above the servers cannot be seen, and is not invented. */
static void what_cannot_be_seen_is_not_invented(void **state)
{
    const salvo_fit_cost service = {100000, 1, 100};
    const salvo_fit_client client = {.thread = {2000, 0.01, 30}};
    salvo_fit_flow flows[2 * FLIGHTS];
    (void)state;
    size_t n = make_flows(flows, &service, &client, 16, 2);
    salvo_fit_window w = salvo_fit_flows(flows, n, &service, &client, 64);
    assert_int_equal(w.servers, 2);
    assert_false(w.window_seen);
    w = salvo_fit_flows(flows, n, &service, &client, 5); /* the settings allow no more */
    assert_int_equal(w.servers, 2);
    assert_int_equal(w.window, 5);
}

/* A batch of its own costs 100 us, eight in a request 30 each: 20 a batch and 80 a request. */
static void a_request_is_told_from_its_batches(void **state)
{
    double batch, request;
    (void)state;
    salvo_fit_split(100000, 30000, 8, &batch, &request);
    near(batch, 20000, 0.001);
    near(request, 80000, 0.001);
    salvo_fit_split(100000, 100000, 8, &batch, &request); /* nothing is shared */
    near(batch, 100000, 0.001);
    assert_true(request == 0);
    salvo_fit_split(100000, 30000, 1, &batch, &request); /* cannot be told */
    near(batch, 100000, 0.001);
    salvo_fit_split(100000, 1000, 8, &batch, &request); /* never below nothing */
    assert_true(batch >= 0 && request <= 100000);
}

/* The library's thread is free so often, whatever the broker could do. */
static void batches_of_a_request_cost_apart(void **state)
{
    const salvo_fit_cost service = {1000, 0, 0};
    const salvo_fit_client client = {.library = {10000, 0, 0}, .request_ns = 40000};
    salvo_fit_flow flow = {.bytes = 100, .records = 1, .in_flight = 8, .batches = 1};
    (void)state;
    near(salvo_fit_rate(&flow, &service, &client, 8, 8), 20000, 0.01);
    flow.batches = 16;
    near(salvo_fit_rate(&flow, &service, &client, 8, 8), 5000, 0.01);
}

static void one_in_flight_is_one_after_the_other(void **state)
{
    const salvo_fit_cost service = {1000000, 0, 0};
    const salvo_fit_client client = {.thread = {250000, 0, 0}};
    salvo_fit_flow flow = {.bytes = 100, .records = 1, .in_flight = 1, .batches = 1};
    (void)state;
    near(salvo_fit_rate(&flow, &service, &client, 5, 2), 800, 0.01);
    flow.in_flight = 8; /* the thread of the client is free 4,000 times a second */
    near(salvo_fit_rate(&flow, &service, &client, 8, 8), 4000, 0.01);
    near(salvo_fit_rate(&flow, &service, &client, 8, 2), 2000, 0.01);
    near(salvo_fit_rate(&flow, &service, &client, 1, 1), 1000, 0.01);
}

/* What comes with time, with work and with bytes is told apart; what is less than nothing is not
 * counted with any. */
static void pauses_come_with_work(void **state)
{
    static const double wall[] = {10e9, 4e9, 4e9, 4e9}, busy[] = {1e8, 4e9, 4e9, 2e9},
                        bytes[] = {1e6, 2e8, 1.4e9, 9e8};
    static const salvo_fit_pause_rates rates[] = {
        {10e-9, 5e-9, 1e-8}, {0, 5e-9, 0}, {0, 0, 1e-8}, {10e-9, 0, 0}, {0, 0, 0}};
    salvo_fit_watch w[4];
    (void)state;
    for (size_t k = 0; k < sizeof rates / sizeof *rates; k++) {
        for (int i = 0; i < 4; i++) {
            w[i] = (salvo_fit_watch){wall[i], busy[i], bytes[i], 0};
            w[i].pauses = rates[k].per_ns * wall[i] + rates[k].per_busy_ns * busy[i] +
                          rates[k].per_byte * bytes[i];
        }
        salvo_fit_pause_rates found = salvo_fit_pauses(w, 4);
        near(found.per_ns * 1e9, rates[k].per_ns * 1e9, 0.001);
        near(found.per_busy_ns * 1e9, rates[k].per_busy_ns * 1e9, 0.001);
        near(found.per_byte * 1e9, rates[k].per_byte * 1e9, 0.001);
    }
    for (int i = 0; i < 4; i++) /* fewer with bytes than without */
        w[i].pauses = 40 + 10e-9 * busy[i] - 1e-8 * bytes[i];
    assert_true(salvo_fit_pauses(w, 4).per_byte == 0);
    assert_true(salvo_fit_pauses(w, 4).per_ns >= 0);
    assert_true(salvo_fit_pauses(w, 0).per_ns == 0);
}

/* 1,000 messages of 100 bytes, thought to take 100 us (two parts alike), took 250 beside 50 for
 * their batches: twice and a half as much each. */
static void parts_at_work_come_to_what_was_measured(void **state)
{
    salvo_fit_cost a = {7, 0.2, 30}, b = {9, 0.3, 20}, none = {5, 0, 0};
    salvo_fit_cost *both[] = {&a, &b}, *nothing[] = {&none};
    salvo_fit_work work = {300000, 50000, 1000, 100, 100000};
    (void)state;
    assert_float_equal(salvo_fit_at_work(&work, both, 2), 2.5, 1e-9);
    assert_float_equal(1000 * (a.per_record_ns + b.per_record_ns +
                               100 * (a.per_byte_ns + b.per_byte_ns)), 250000, 1e-6);
    assert_float_equal(a.per_byte_ns, 0.5, 1e-9);
    assert_float_equal(a.base_ns + b.base_ns, 16, 1e-9);
    work.least_ns = 250001; /* too little to be measured */
    work.measured_ns = 900000;
    assert_float_equal(salvo_fit_at_work(&work, both, 2), 1, 1e-9);
    work.least_ns = 0;
    work.measured_ns = 50000; /* all of it the batches' */
    assert_float_equal(salvo_fit_at_work(&work, both, 2), 1, 1e-9);
    assert_float_equal(a.per_byte_ns, 0.5, 1e-9);
    work.measured_ns = 1e9;
    assert_float_equal(salvo_fit_at_work(&work, both, 2), 10, 1e-9);
    assert_float_equal(salvo_fit_at_work(&work, nothing, 1), 1, 1e-9);
}

static void quantiles_are_equal_steps(void **state)
{
    int64_t values[101], table[5];
    (void)state;
    for (int i = 0; i < 101; i++)
        values[i] = (i * 37) % 101 - 50;
    salvo_fit_quantiles(values, 101, table, 5);
    const int64_t should[5] = {-50, -25, 0, 25, 50};
    assert_memory_equal(table, should, sizeof should);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(costs_are_recovered),
        cmocka_unit_test(no_coefficient_is_negative),
        cmocka_unit_test(too_little_is_refused),
        cmocka_unit_test(servers_are_recovered),
        cmocka_unit_test(what_cannot_be_seen_is_not_invented),
        cmocka_unit_test(a_request_is_told_from_its_batches),
        cmocka_unit_test(batches_of_a_request_cost_apart),
        cmocka_unit_test(one_in_flight_is_one_after_the_other),
        cmocka_unit_test(pauses_come_with_work),
        cmocka_unit_test(parts_at_work_come_to_what_was_measured),
        cmocka_unit_test(quantiles_are_equal_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
