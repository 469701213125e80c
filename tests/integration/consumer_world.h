/* SPDX-License-Identifier: Apache-2.0
 *
 * What the tests of consumers share, through the public interface: opening, taking, counting.
 * Include it after cmocka.h. Its functions fail the running test.
 */
#ifndef CONSUMER_WORLD_H
#define CONSUMER_WORLD_H

#include <salvo/config.h>
#include <salvo/consumer.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

enum { TAKEN_MOST = 65536 };

/* Messages are numbers in text; what came is counted by number. */
typedef struct taken {
    int times[TAKEN_MOST];
    uint32_t deliveries[TAKEN_MOST]; /* as told last */
    uint64_t ids[TAKEN_MOST];        /* the last one's */
    int count, different;
} taken;

static inline uint64_t consumer_now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static inline void consumer_set(salvo_config *config, const char *key, const char *value)
{
    if (salvo_config_set(config, key, value))
        fail_msg("%s", salvo_config_error(config));
}

static inline salvo_consumer *consumer_open_as(const salvo_config *config, const char *group,
                                               const char *member, const char *topic,
                                               uint32_t max_in_hand, uint32_t manual)
{
    salvo_consumer *c = NULL;
    salvo_consumer_options options = {.size = sizeof options, .group = group, .member = member,
                                      .topics = &topic, .topic_count = 1,
                                      .max_in_hand = max_in_hand, .manual_commit = manual};
    if (salvo_consumer_open(config, NULL, &options, &c))
        fail_msg("open: %s", salvo_last_error());
    return c;
}

static inline salvo_consumer *consumer_new(const salvo_config *config, const char *group,
                                           const char *topic)
{
    return consumer_open_as(config, group, NULL, topic, 0, 0);
}

static inline void take_note(taken *t, const salvo_delivered *m)
{
    char text[16] = "";
    assert_true(m->record.value != NULL && m->record.value_len < sizeof text);
    memcpy(text, m->record.value, m->record.value_len);
    int number = atoi(text);
    assert_in_range(number, 0, TAKEN_MOST - 1);
    t->different += t->times[number]++ == 0;
    t->deliveries[number] = m->deliveries;
    t->ids[number] = m->id;
    t->count++;
}

/* One poll; how many came. An error of the broker's is returned. */
static inline int take_some(salvo_consumer *c, taken *t, uint64_t wait_ms, bool ack)
{
    const salvo_delivered *messages;
    size_t count;
    int err = salvo_consumer_poll(c, wait_ms, &messages, 1000, &count);
    if (err && err != SALVO_ERR_TIMEOUT)
        return err;
    for (size_t i = 0; i < count; i++) {
        take_note(t, &messages[i]);
        if (ack)
            assert_int_equal(salvo_consumer_ack(c, &messages[i].id, 1), 1);
    }
    return (int)count;
}

/* Until `different` numbers came, or it took too long. */
static inline void take_until(salvo_consumer *c, taken *t, int different, uint64_t ms, bool ack)
{
    uint64_t end = consumer_now_ms() + ms;
    while (t->different < different && consumer_now_ms() < end)
        if (take_some(c, t, 50, ack) < 0)
            fail_msg("poll: %s", salvo_last_error());
}

/* Poll for so long, whatever comes. */
static inline void take_for(salvo_consumer *c, taken *t, uint64_t ms, bool ack)
{
    uint64_t end = consumer_now_ms() + ms;
    while (consumer_now_ms() < end)
        (void)take_some(c, t, 50, ack);
}

static inline salvo_consumer_stats consumer_stats(salvo_consumer *c)
{
    salvo_consumer_stats stats = {.size = sizeof stats};
    assert_int_equal(salvo_consumer_get_stats(c, &stats), 0);
    return stats;
}

static inline void consumer_end(salvo_consumer *c)
{
    if (salvo_consumer_close(c, 5000))
        fail_msg("close: %s", salvo_last_error());
}

/* A process that opens a consumer, takes at least `least` messages, acknowledges every n-th (0:
 * none) and waits, polling, for its end. Returns once it has them. */
static inline pid_t consumer_child(const salvo_config *config, const char *group,
                                   const char *member, const char *topic, int least, int every)
{
    int ready[2];
    char byte;
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        taken *t = calloc(1, sizeof *t);
        salvo_consumer *c = consumer_open_as(config, group, member, topic, 0, 0);
        for (bool told = false;;) {
            const salvo_delivered *messages;
            size_t count = 0;
            (void)!salvo_consumer_poll(c, 20, &messages, 1000, &count);
            for (size_t i = 0; i < count; i++) {
                take_note(t, &messages[i]);
                if (every && t->count % every == 0)
                    (void)salvo_consumer_ack(c, &messages[i].id, 1);
            }
            if (!told && t->count >= least) {
                (void)!salvo_consumer_commit(c, 5000);
                told = write(ready[1], "x", 1) == 1;
            }
        }
    }
    close(ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    return pid;
}

/* A process that works: notes each message in shared memory, then acknowledges it. */
static inline pid_t consumer_worker(const salvo_config *config, const char *group,
                                    const char *topic, uint8_t *done)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid != 0)
        return pid;
    salvo_consumer *c = consumer_open_as(config, group, NULL, topic, 100, 0);
    for (;;) {
        const salvo_delivered *messages;
        size_t count = 0;
        (void)!salvo_consumer_poll(c, 20, &messages, 20, &count);
        for (size_t i = 0; i < count; i++) {
            char text[16] = "";
            memcpy(text, messages[i].record.value, messages[i].record.value_len);
            usleep(1000);
            done[atoi(text)] = 1;
            (void)salvo_consumer_ack(c, &messages[i].id, 1);
        }
    }
}

static inline void child_kill(pid_t pid)
{
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

/* Two workers, of which the older one is killed at any time, for so many rounds; then one that may
 * finish. Every message must have been processed. */
static inline void killed_often(const salvo_config *config, const char *topic, int count,
                                int rounds)
{
    uint8_t *done = mmap(NULL, (size_t)count, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                         -1, 0);
    assert_true(done != MAP_FAILED);
    unsigned seed = 5;
    int processed = 0;
    pid_t a = consumer_worker(config, "g", topic, done);
    for (int i = 0; i < rounds; i++) {
        pid_t b = consumer_worker(config, "g", topic, done);
        usleep(50000 + (unsigned)rand_r(&seed) % 200000);
        child_kill(a);
        a = b;
    }
    for (int i = 0; i < count; i++)
        processed += done[i];
    print_message("%d of %d processed when the last was killed\n", processed, count);
    for (uint64_t until = consumer_now_ms() + 40000;
         processed < count && consumer_now_ms() < until; usleep(50000)) {
        processed = 0;
        for (int i = 0; i < count; i++)
            processed += done[i];
    }
    child_kill(a);
    munmap(done, (size_t)count);
    assert_int_equal(processed, count);
}

#endif
