/* SPDX-License-Identifier: Apache-2.0
 *
 * salvo_consumer_wake() beside salvo_consumer_close(): wake may come from any thread or a signal
 * handler at any moment, so close must not free the driver's handle under it. The driver is the
 * test's own: a wake of it takes as long as the test wants.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "driver.h"
#include "driver_consumer.h"
#include <errno.h>
#include <pthread.h>
#include <salvo/consumer.h>
#include <semaphore.h>
#include <string.h>
#include <unistd.h>

static sem_t entered, go_on;
static _Atomic bool slow;   /* the next wake waits for go_on */
static _Atomic bool inside; /* a wake is in the handle */
static _Atomic uint32_t closes, closed_inside;

static int fake_open(const salvo_consumer_env *env, void **handle, char *error, size_t error_size)
{
    (void)env, (void)error, (void)error_size;
    *handle = &slow;
    return 0;
}

static int fake_poll(void *handle, uint64_t timeout_ms, salvo_driver_delivery *deliveries,
                     size_t max, char *error, size_t error_size)
{
    (void)handle, (void)timeout_ms, (void)deliveries, (void)max, (void)error, (void)error_size;
    return 0;
}

static void fake_wake(void *handle)
{
    (void)handle;
    errno = EPIPE; /* a handler's caller must not see it */
    if (!slow)
        return;
    slow = false;
    inside = true;
    sem_post(&entered);
    sem_wait(&go_on);
    inside = false;
}

static int fake_close(void *handle, uint64_t timeout_ms, char *error, size_t error_size)
{
    (void)handle, (void)timeout_ms, (void)error, (void)error_size;
    closes++;
    closed_inside += inside;
    return 0;
}

static const salvo_driver_consumer_ops fake_consumer_ops = {
    .open = fake_open, .poll = fake_poll, .wake = fake_wake, .close = fake_close};
static const salvo_driver_ops fake_ops = {
    .size = sizeof fake_ops, .name = "redis", .consumer = &fake_consumer_ops};

const salvo_driver_ops *salvo_driver_find(const char *name)
{
    (void)name;
    return &fake_ops;
}

static salvo_consumer *open_one(void)
{
    const char *const topic = "t";
    const salvo_consumer_options options = {.size = sizeof options, .group = "g",
                                            .topics = &topic, .topic_count = 1};
    salvo_config *config;
    salvo_consumer *c;
    assert_int_equal(salvo_config_new(&config), 0);
    assert_int_equal(salvo_config_set(config, "message_broker", "redis"), 0);
    assert_int_equal(salvo_consumer_open(config, NULL, &options, &c), 0);
    salvo_config_free(config);
    return c;
}

static void *wake(void *consumer)
{
    salvo_consumer_wake(consumer);
    return NULL;
}

static void *close_it(void *consumer)
{
    int err = salvo_consumer_close(consumer, 0);
    return (void *)(intptr_t)err;
}

static void close_waits_for_a_wake(void **state)
{
    (void)state;
    pthread_t waker, closer;
    void *err;
    salvo_consumer *c = open_one();
    uint32_t before = closes;
    slow = true;
    assert_int_equal(pthread_create(&waker, NULL, wake, c), 0);
    sem_wait(&entered);
    assert_int_equal(pthread_create(&closer, NULL, close_it, c), 0);
    usleep(50000);
    assert_int_equal(closes, before); /* the handle is still in use */
    sem_post(&go_on);
    pthread_join(waker, NULL);
    pthread_join(closer, &err);
    assert_null(err);
    assert_int_equal(closes, before + 1);
    assert_int_equal(closed_inside, 0);
}

static void a_wake_leaves_errno_alone(void **state)
{
    (void)state;
    salvo_consumer *c = open_one();
    errno = EAGAIN;
    salvo_consumer_wake(c);
    assert_int_equal(errno, EAGAIN);
    assert_int_equal(salvo_consumer_close(c, 0), 0);
    salvo_consumer_wake(c); /* nothing happens */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(close_waits_for_a_wake),
        cmocka_unit_test(a_wake_leaves_errno_alone),
    };
    sem_init(&entered, 0, 0);
    sem_init(&go_on, 0, 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
