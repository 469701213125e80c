/* SPDX-License-Identifier: Apache-2.0
 *
 * A broker on cores of its own does not draw on ours, wherever it runs; the CPU of threads is told
 * by their names.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "load_pace.h"
#include "probe_host.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static int core(const cpu_set_t *set, int which)
{
    for (int i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, set) && which-- == 0)
            return i;
    return -1;
}

static void run_on(pid_t pid, int which)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(which, &set);
    assert_int_equal(sched_setaffinity(pid, sizeof set, &set), 0);
}

static void cores_are_those_we_may_run_on(void **state)
{
    cpu_set_t all;
    (void)state;
    assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
    assert_int_equal(salvo_load_cores(), CPU_COUNT(&all));
    if (CPU_COUNT(&all) < 2)
        skip();
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* with the test, whatever becomes of it */
        pause();
        _exit(0);
    }
    run_on(0, core(&all, 0));
    assert_int_equal(salvo_load_cores(), 1);
    assert_true(salvo_probing_shares_cores(child)); /* it may run on all */
    run_on(child, core(&all, 1));
    assert_false(salvo_probing_shares_cores(child));
    run_on(child, core(&all, 0));
    assert_true(salvo_probing_shares_cores(child));
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_true(salvo_probing_shares_cores(child)); /* gone: who knows */
    assert_int_equal(sched_setaffinity(0, sizeof all, &all), 0);
}

enum { WORK_NS = 200000000 };
static atomic_bool worked, seen;

static void *work(void *unused)
{
    (void)unused;
    pthread_setname_np(pthread_self(), "probed-worker");
    while (salvo_load_thread_cpu_ns() < WORK_NS)
        ;
    atomic_store(&worked, true);
    while (!atomic_load(&seen))
        sched_yield();
    return NULL;
}

static void cpu_is_told_by_the_names_of_threads(void **state)
{
    pthread_t thread;
    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, work, NULL), 0);
    while (!atomic_load(&worked))
        usleep(1000);
    uint64_t ns = salvo_probing_cpu_of_threads("probed-");
    atomic_store(&seen, true);
    assert_in_range(ns, WORK_NS - 20000000, 100 * (uint64_t)WORK_NS); /* in ticks of 10 ms */
    assert_int_equal(salvo_probing_cpu_of_threads("another"), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(cores_are_those_we_may_run_on),
                                       cmocka_unit_test(cpu_is_told_by_the_names_of_threads)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
