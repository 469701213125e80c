/* SPDX-License-Identifier: Apache-2.0
 *
 * Tasks share the plan's cores as arithmetic says.
 */
#include "engine_fixture.h"
#include "plan/world.h"

static plan_world world;
static salvo producer;

static void open_cores(uint32_t cores)
{
    world = (plan_world){.now_ns = 1000, .p = &producer};
    producer.settings.flushers = 2;
    world.host.cores = cores;
    world.broker = (salvo_plan_broker){.brokers = 2, .servers = 3};
    world.traffic.threads = 4;
    assert_int_equal(salvo_plan_cpu_open(&world), 0);
}

static void take(uint32_t task, uint64_t cost_ns, uint64_t should_begin, uint64_t should_end)
{
    uint64_t begin_ns = salvo_plan_cpu_take(&world, task, cost_ns);
    assert_int_equal(begin_ns, should_begin);
    assert_int_equal(begin_ns + cost_ns, should_end);
}

static void tasks_have_numbers_of_their_own(void **state)
{
    (void)state;
    open_cores(1);
    assert_int_equal(plan_task_flusher(0), PLAN_TASK_APP + 1);
    assert_int_equal(plan_task_link(&world, 0), plan_task_flusher(1) + 1);
    assert_int_equal(plan_task_server(&world, 0, 0), plan_task_link(&world, 3) + 1);
    assert_int_equal(plan_task_server(&world, 1, 0), plan_task_server(&world, 0, 2) + 1);
    assert_int_equal(plan_task_sender(&world, 0), plan_task_server(&world, 1, 2) + 1);
    salvo_plan_cpu_close(&world);
}

/* A and B have a core each. C begins with two thirds of one, and so do they from then on: 135 for
 * its 90. A's next work waits for its first, which lasts longer now. */
static void three_share_two(void **state)
{
    (void)state;
    open_cores(2);
    take(0, 100, 1000, 1100);
    take(1, 100, 1000, 1100);
    take(2, 90, 1045, 1135);
    take(0, 50, 1120, 1170); /* 150 of its own, 100 and 90: 340 on two cores */
    take(3, 0, 1000, 1000);
    assert_int_equal(world.cpu.busy_ns, 340);
    world.now_ns = 1135; /* C is done, B has 10 left */
    take(3, 20, 1140, 1160); /* three again: 20, 20 and 10 on two cores */
    assert_int_equal(world.cpu.running_count, 3);
    world.now_ns = 2000;
    take(1, 10, 2000, 2010);
    assert_int_equal(world.cpu.running_count, 1); /* the others have ended */
    salvo_plan_cpu_close(&world);
}

/* Never more than the cores give: three tasks of which each has its next work at its end. */
static void no_more_than_there_is(void **state)
{
    uint64_t end_ns[3] = {0}, done_ns[3] = {0};
    (void)state;
    for (uint32_t cores = 1; cores <= 3; cores++) {
        open_cores(cores);
        memset(end_ns, 0, sizeof end_ns);
        memset(done_ns, 0, sizeof done_ns);
        while (world.now_ns < 1000000) {
            for (uint32_t task = 0; task < 3; task++)
                if (end_ns[task] <= world.now_ns) {
                    uint64_t cost_ns = 50 + 10 * task;
                    end_ns[task] = salvo_plan_cpu_take(&world, task, cost_ns) + cost_ns;
                    done_ns[task] += cost_ns;
                }
            world.now_ns = end_ns[0] < end_ns[1] ? end_ns[0] : end_ns[1];
            world.now_ns = end_ns[2] < world.now_ns ? end_ns[2] : world.now_ns;
        }
        assert_in_range(world.cpu.busy_ns, 980000 * cores, 1010000 * cores);
        for (int task = 0; task < 3; task++) /* and to each its share */
            assert_in_range(done_ns[task], 300000 * cores, 345000 * cores);
        salvo_plan_cpu_close(&world);
    }
}

/* Eleven tasks on one core, looked at each 7 ns: less than a nanosecond for each adds up. */
static void small_shares_add_up(void **state)
{
    uint64_t left_ns = 0;
    (void)state;
    open_cores(1);
    for (uint32_t task = 1; task < 11; task++)
        (void)salvo_plan_cpu_take(&world, task, 10000);
    for (; world.now_ns < 71000; world.now_ns += 7)
        (void)salvo_plan_cpu_take(&world, 0, 1);
    for (uint32_t task = 0; task < 11; task++)
        left_ns += world.cpu.left_ns[task];
    assert_in_range(world.cpu.busy_ns - left_ns, 69900, 70000);
    salvo_plan_cpu_close(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tasks_have_numbers_of_their_own),
        cmocka_unit_test(three_share_two),
        cmocka_unit_test(no_more_than_there_is),
        cmocka_unit_test(small_shares_add_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
