/* SPDX-License-Identifier: Apache-2.0
 *
 * What tests of watching share: a folder on a tmpfs, and child processes with a producer that do
 * as they are told over a pipe. Children end with the test that started them.
 */
#ifndef SALVO_WATCH_FIXTURE_H
#define SALVO_WATCH_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "segment.h"
#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <salvo/salvo.h>
#include <salvo/watch.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

typedef struct watch_dir {
    char path[64];
} watch_dir;

typedef struct producing {
    pid_t pid;
    int to, from;
} producing;

#define watch_unit_test(f) cmocka_unit_test_setup_teardown(f, watch_dir_make, watch_dir_remove)

static inline int watch_dir_make(void **state)
{
    watch_dir *d = calloc(1, sizeof *d);
    snprintf(d->path, sizeof d->path, "/dev/shm/salvo-test-XXXXXX");
    *state = d;
    return mkdtemp(d->path) != NULL ? 0 : -1;
}

static inline int watch_dir_remove(void **state)
{
    watch_dir *d = *state;
    char path[512];
    DIR *dir = opendir(d->path);
    for (struct dirent *e; dir != NULL && (e = readdir(dir)) != NULL;) {
        snprintf(path, sizeof path, "%s/%s", d->path, e->d_name);
        remove(path); /* "." and ".." refuse */
    }
    closedir(dir);
    rmdir(d->path);
    free(d);
    return 0;
}

static inline salvo_config *watch_config(const char *directory, const char *broker,
                                         const char *shared)
{
    const char *const pairs[][2] = {{"message_broker", broker}, {"stats_dir", directory},
                                    {"stats_shared", shared}, {"kafka_client_id", "tester"},
                                    {"linger_us", "1000"}, {"buffer_bytes", "16777216"},
                                    {"full_policy", "fail"}, {"memory_bytes", "1048576"}};
    salvo_config *config;
    if (salvo_config_new(&config) != 0)
        return NULL;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (salvo_config_set(config, pairs[i][0], pairs[i][1]) != 0)
            fprintf(stderr, "%s\n", salvo_config_error(config));
    return config;
}

static inline salvo *open_producer(const watch_dir *d, const char *broker, const char *shared)
{
    salvo_config *config = watch_config(d->path, broker, shared);
    salvo *p = NULL;
    if (salvo_open(config, NULL, &p) != 0)
        fprintf(stderr, "%s\n", salvo_last_error());
    salvo_config_free(config);
    return p;
}

static inline int exit_status(pid_t child)
{
    int status = -1;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Every fourth message to "clicks", the others to "orders". */
static inline void send_some(salvo *p, uint64_t n)
{
    static const char value[100];
    salvo_topic orders, clicks;
    if (salvo_topic_open(p, "orders", NULL, &orders) != 0 ||
        salvo_topic_open(p, "clicks", NULL, &clicks) != 0)
        _exit(3);
    for (uint64_t i = 0; i < n; i++) {
        int err = salvo_send_fire_and_forget(p, i % 4 == 3 ? clicks : orders, NULL, 0, value,
                                             sizeof value);
        if (err != 0 && err != SALVO_ERR_FULL)
            _exit(4);
    }
}

/* 'f': fork a child that stays; 'e': one that ends; 'w': work until killed; 'c': close. */
static inline void obey(salvo *p, int from, int to)
{
    char order = 0;
    while (read(from, &order, 1) == 1 && order != 'c') {
        pid_t child = order == 'f' || order == 'e' ? fork() : -1;
        if (child == 0) {
            prctl(PR_SET_PDEATHSIG, 0);
            _exit(order == 'f' ? (int)read(from, &order, 1) : 0); /* stays until the test ends */
        }
        if (order == 'e')
            waitpid(child, NULL, 0);
        while (order == 'w')
            send_some(p, 1000);
        order = (char)(order - 'a' + 'A');
        if (write(to, &order, 1) != 1)
            _exit(3);
    }
}

static inline void be_a_producer(const watch_dir *d, const char *broker, uint64_t n, int from,
                                 int to)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    salvo *p = open_producer(d, broker, "true");
    if (p == NULL)
        _exit(2);
    send_some(p, n);
    if (salvo_flush(p, 10000) != 0 || write(to, "R", 1) != 1)
        _exit(2);
    obey(p, from, to);
    _exit(salvo_close(p, 10000, NULL) == 0 ? 0 : 1);
}

static inline int hear(const producing *p)
{
    char c = 0;
    return read(p->from, &c, 1) == 1 ? c : -1;
}

static inline void tell(const producing *p, char order)
{
    assert_int_equal(write(p->to, &order, 1), 1);
}

/* A child whose producer has n messages acknowledged. */
static inline producing produce(const watch_dir *d, const char *broker, uint64_t n)
{
    int down[2], up[2];
    assert_int_equal(pipe2(down, O_CLOEXEC), 0);
    assert_int_equal(pipe2(up, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        close(down[1]);
        be_a_producer(d, broker, n, down[0], up[1]);
    }
    close(down[0]);
    close(up[1]);
    producing p = {pid, down[1], up[0]};
    assert_int_equal(hear(&p), 'R');
    return p;
}

static inline void finish(producing *p)
{
    tell(p, 'c');
    assert_int_equal(exit_status(p->pid), 0);
    close(p->to);
    close(p->from);
}

static inline void kill_it(producing *p)
{
    kill(p->pid, SIGKILL);
    waitpid(p->pid, NULL, 0);
    close(p->to);
    close(p->from);
}

/* The first of the folder, when its copy has so many acknowledged; copies are 100 ms apart. */
static inline salvo_watch *attach_to(const watch_dir *d, uint64_t acknowledged, salvo_stats *s)
{
    salvo_watch_info info;
    salvo_watch *w;
    assert_true(salvo_watch_list(d->path, &info, 1) >= 1);
    assert_int_equal(salvo_watch_open(info.path, &w), 0);
    for (int i = 0; i < 1000; i++) {
        if (salvo_watch_update(w) == 0 && salvo_watch_get_stats(w, s) == 0 &&
            s->total.acknowledged >= acknowledged)
            return w;
        usleep(10000);
    }
    fail_msg("only %llu acknowledged", (unsigned long long)s->total.acknowledged);
    return NULL;
}

#endif
