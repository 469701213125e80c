/* SPDX-License-Identifier: Apache-2.0
 *
 * names.c: a child of a process that is looking names up can look them up too; a fork does not
 * wait for a name server.
 */
#include "clock.h"
#include "names.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { FORKS = 200, THREADS = 2, SLOW_MS = 3000, CHILD_S = 20 };

static atomic_bool stop, is_slow; /* relaxed: threads are joined, or only counted on to be seen */

int __real_getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
                       struct addrinfo **addresses);
int __wrap_getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
                       struct addrinfo **addresses);
int __wrap_getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
                       struct addrinfo **addresses)
{
    if (strcmp(host, "slow") != 0)
        return __real_getaddrinfo(host, port, hints, addresses);
    atomic_store_explicit(&is_slow, true, memory_order_relaxed);
    usleep(SLOW_MS * 1000);
    return EAI_AGAIN;
}

static int look_up(const char *host)
{
    struct addrinfo *found = NULL;
    int error = salvo_names_look_up(host, "1", NULL, &found);
    if (error == 0)
        freeaddrinfo(found);
    return error;
}

static void *look_up_all_the_time(void *none)
{
    while (!atomic_load_explicit(&stop, memory_order_relaxed))
        look_up("127.0.0.1");
    return none;
}

static void *look_up_slowly(void *none)
{
    look_up("slow");
    return none;
}

static void a_child_looks_up(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        alarm(CHILD_S);
        _exit(look_up("127.0.0.1") == 0 ? 0 : 1);
    }
    int status;
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void children_look_up_too(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    atomic_store_explicit(&stop, false, memory_order_relaxed);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, look_up_all_the_time, NULL), 0);
    for (int i = 0; i < FORKS; i++)
        a_child_looks_up();
    atomic_store_explicit(&stop, true, memory_order_relaxed);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
}

static void a_fork_does_not_wait_for_a_name_server(void **state)
{
    (void)state;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, look_up_slowly, NULL), 0);
    while (!atomic_load_explicit(&is_slow, memory_order_relaxed))
        usleep(100);
    uint64_t began = salvo_clock_monotonic_ns();
    a_child_looks_up();
    assert_in_range(salvo_clock_monotonic_ns() - began, 0, (SLOW_MS - 500) * 1000000ull);
    pthread_join(thread, NULL);
    assert_int_equal(look_up("127.0.0.1"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(children_look_up_too),
        cmocka_unit_test(a_fork_does_not_wait_for_a_name_server),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
