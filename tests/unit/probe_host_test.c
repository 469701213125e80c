/* SPDX-License-Identifier: Apache-2.0
 *
 * A broker on cores of its own does not draw on ours, wherever it runs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "load_pace.h"
#include "probe_host.h"

#include <sched.h>
#include <signal.h>
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

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(cores_are_those_we_may_run_on)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
