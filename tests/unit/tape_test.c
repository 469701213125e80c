/* SPDX-License-Identifier: Apache-2.0
 *
 * Recording from outside: what is read is what was sent, what is overwritten is counted, and the
 * same memory serves one recording after the other. The recorder is another process, as it has to
 * be: a lock does not hold against its own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "producer.h"
#include "tape.h"
#include <salvo/tape.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char directory[64];

static salvo *open_producer(salvo_topic *topic)
{
    salvo_config *config;
    salvo *p;
    assert_int_equal(salvo_config_new(&config), 0);
    assert_int_equal(salvo_config_set(config, "message_broker", "null"), 0);
    assert_int_equal(salvo_config_set(config, "stats_dir", directory), 0);
    assert_int_equal(salvo_open(config, NULL, &p), 0);
    salvo_config_free(config);
    assert_int_equal(salvo_topic_open(p, "t", NULL, topic), 0);
    return p;
}

/* In the recorder's process: 0 when it read `want` messages of 7 bytes with one key. */
static int record(const salvo_watch_info *info, int ready, unsigned want)
{
    static salvo_tape_entry entries[4096];
    salvo_tape *tape = NULL;
    uint64_t lost = 0;
    uint32_t key = 0;
    unsigned got = 0;
    if (salvo_tape_open(info, 5000, &tape) != 0)
        return 1;
    if (write(ready, "!", 1) != 1)
        return 2;
    for (int i = 0; i < 2000 && got + lost < want; i++) {
        size_t n = salvo_tape_read(tape, entries, 4096, &lost);
        for (size_t k = 0; k < n; k++) {
            const salvo_tape_entry *e = &entries[k];
            key = got == 0 ? e->key : key;
            got++;
            if (e->value_bytes != 7 || e->key != key || e->key == 0 || e->key_bytes != 3 ||
                e->topic != 0 || e->fate != SALVO_TAPE_ACCEPTED)
                return 3;
        }
        usleep(5000);
    }
    salvo_tape_close(tape);
    return got + lost == want && lost == 0 ? 0 : 4;
}

static void record_some(salvo *p, salvo_topic topic, unsigned count)
{
    salvo_watch_info info = {.size = sizeof info};
    int ends[2], status;
    char byte;
    salvo_segment_info(&p->segment, &info);
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(record(&info, ends[1], count));
    close(ends[1]);
    assert_int_equal(read(ends[0], &byte, 1), 1);
    close(ends[0]);
    for (unsigned i = 0; i < count; i++)
        while (salvo_send_fire_and_forget(p, topic, "abc", 3, "payload", 7) != 0)
            usleep(1000);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void what_is_sent_is_read(void **state)
{
    salvo_topic topic;
    (void)state;
    salvo *p = open_producer(&topic);
    record_some(p, topic, 5000);
    record_some(p, topic, 4000); /* before the flusher noticed the end of the first */
    for (int i = 0; i < 100 && atomic_load(&p->taping.ring) != NULL; i++)
        usleep(20000); /* the flusher notices that nobody asks any more */
    assert_null(atomic_load(&p->taping.ring));
    record_some(p, topic, 3000);
    assert_int_equal(salvo_close(p, 5000, NULL), 0);
}

/* Against the memory itself: the reader sleeps while its ring goes round. */
static void what_is_overwritten_is_counted(void **state)
{
    static salvo_tape_entry entries[4096];
    salvo_topic topic;
    salvo_tape *tape;
    salvo_watch_info info = {.size = sizeof info};
    uint64_t lost = 0, got = 0;
    (void)state;
    salvo *p = open_producer(&topic);
    salvo_segment_info(&p->segment, &info);
    int asks[2], ends[2];
    char byte;
    assert_int_equal(pipe(asks), 0);
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork(); /* which asks, and holds the lock, while we read */
    assert_true(child >= 0);
    if (child == 0) {
        bool good = salvo_tape_open(&info, 5000, &tape) == 0 && write(asks[1], "!", 1) == 1 &&
                    read(ends[0], &byte, 1) == 1;
        if (!good)
            _exit(1);
        got = 0;
        for (size_t n; (n = salvo_tape_read(tape, entries, 4096, &lost)) > 0;)
            got += n;
        salvo_tape_close(tape);
        _exit(lost == 1000 && got == SALVO_TAPE_SLOTS ? 0 : 2);
    }
    assert_int_equal(read(asks[0], &byte, 1), 1);
    assert_non_null(atomic_load(&p->taping.ring));
    for (unsigned i = 0; i < SALVO_TAPE_SLOTS + 1000; i++)
        salvo_taping_full(p, topic, 1, 10, i, 0, SALVO_TAPE_REFUSED);
    assert_int_equal(write(ends[1], "!", 1), 1);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(salvo_close(p, 5000, NULL), 0);
}

static bool is_there(const salvo_watch_info *info, const char *suffix)
{
    char path[sizeof info->path + 16];
    snprintf(path, sizeof path, "%s%s", info->path, suffix);
    return access(path, F_OK) == 0;
}

/* A writer that sleeps for a lap writes behind one of the next: neither waits for it, the reader
 * does not either, and a killed recorder leaves no tape. */
static void a_late_writer_holds_nobody_up(void **state)
{
    static salvo_tape_entry entries[4096];
    salvo_topic topic;
    salvo_tape *tape;
    salvo_watch_info info = {.size = sizeof info};
    uint64_t lost = 0, got = 0;
    int asks[2], ends[2], status;
    char byte;
    (void)state;
    salvo *p = open_producer(&topic);
    salvo_segment_info(&p->segment, &info);
    assert_int_equal(pipe(asks), 0);
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (salvo_tape_open(&info, 5000, &tape) != 0 || write(asks[1], "!", 1) != 1 ||
            read(ends[0], &byte, 1) != 1)
            _exit(1);
        for (size_t n; (n = salvo_tape_read(tape, entries, 4096, &lost)) > 0;)
            got += n;
        _exit(lost == 1000 && got == SALVO_TAPE_SLOTS ? 0 : 2); /* as if it had been killed */
    }
    assert_int_equal(read(asks[0], &byte, 1), 1);
    salvo_tape_ring *ring = atomic_load(&p->taping.ring);
    assert_non_null(ring);
    for (unsigned i = 0; i < SALVO_TAPE_SLOTS + 1000; i++)
        salvo_taping_full(p, topic, 1, 10, i, 0, SALVO_TAPE_REFUSED);
    uint64_t next = atomic_exchange(&ring->next, 500); /* the late one's */
    salvo_taping_full(p, topic, 1, 10, 1, 0, SALVO_TAPE_REFUSED);
    atomic_store(&ring->next, next);
    assert_true(is_there(&info, ".tape"));
    assert_int_equal(write(ends[1], "!", 1), 1);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    for (int i = 0; i < 100 && is_there(&info, ".tape"); i++)
        usleep(20000);
    assert_false(is_there(&info, ".tape"));
    char request[sizeof info.path + 16];
    snprintf(request, sizeof request, "%s.request", info.path);
    assert_int_equal(unlink(request), 0); /* the next recorder's to take over */
    assert_int_equal(salvo_close(p, 5000, NULL), 0);
}

static void a_stopped_producer_is_told(void **state)
{
    salvo_watch_info info = {.size = sizeof info};
    salvo_tape *tape = NULL;
    (void)state;
    snprintf(info.path, sizeof info.path, "%s/1-0.salvo", directory);
    assert_int_equal(salvo_tape_open(&info, 50, &tape), SALVO_ERR_TIMEOUT);
    assert_null(tape);
    assert_non_null(strstr(salvo_last_error(), "did not begin to record"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_sent_is_read),
        cmocka_unit_test(what_is_overwritten_is_counted),
        cmocka_unit_test(a_late_writer_holds_nobody_up),
        cmocka_unit_test(a_stopped_producer_is_told),
    };
    snprintf(directory, sizeof directory, "/dev/shm/salvo-tape-test-%d", (int)getpid());
    if (mkdir(directory, 0700) != 0)
        return 77;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    rmdir(directory); /* fails, and stays to be seen, where something was left */
    return failed;
}
