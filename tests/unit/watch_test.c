/* SPDX-License-Identifier: Apache-2.0
 *
 * Producers of real child processes seen from outside: alive, closed, killed, long dead, forked;
 * snapshots balance while the producer works; what is no producer's file is refused.
 */
#include "watch_fixture.h"

#include <sys/stat.h>

/* Alive and idle: what it says is exact. Closed: its file is gone, its watcher is not disturbed. */
static void alive_then_closed(void **state)
{
    watch_dir *d = *state;
    producing p = produce(d, "memory", 1000);
    salvo_watch_info info;
    salvo_stats s = {.size = sizeof s};
    const char *name;
    salvo_ledger l;

    assert_int_equal(salvo_watch_list(d->path, &info, 1), 1);
    assert_int_equal(info.pid, p.pid);
    assert_int_equal(info.alive, 1);
    assert_string_equal(info.program, "watch_test");
    assert_string_equal(info.client_id, "tester");
    assert_string_equal(info.driver, "memory");
    assert_string_equal(info.version, salvo_version());
    salvo_watch *w = attach_to(d, 1000, &s);
    assert_int_equal(s.total.accepted, 1000);
    assert_int_equal(s.total.pending, 0);
    assert_int_equal(s.topics, 2);
    assert_string_equal(s.broker_state, "up");
    for (int stage = SALVO_STAGE_QUEUE; stage < SALVO_STAGES; stage++)
        assert_int_equal(s.stage[stage].count, 1000);
    assert_int_equal(salvo_watch_get_topic(w, 0, &name, &l), 0);
    assert_string_equal(name, "orders");
    assert_int_equal(l.acknowledged, 750);
    assert_int_equal(salvo_watch_get_topic(w, 1, &name, &l), 0);
    assert_string_equal(name, "clicks");
    assert_int_equal(l.acknowledged, 250);
    assert_int_equal(salvo_watch_get_topic(w, 2, &name, &l), SALVO_ERR_UNKNOWN_TOPIC);
    finish(&p);
    assert_int_equal(salvo_watch_list(d->path, &info, 1), 0);
    assert_int_equal(access(info.path, F_OK), -1);
    assert_int_equal(salvo_watch_update(w), 0);
    assert_int_equal(salvo_watch_get_info(w, &info), 0);
    assert_int_equal(info.alive, 0);
    salvo_watch_close(w);
}

static void killed_shows_its_last_state(void **state)
{
    watch_dir *d = *state;
    producing p = produce(d, "null", 500);
    salvo_stats s = {.size = sizeof s};
    salvo_watch *w = attach_to(d, 500, &s);
    salvo_watch_info info = {.size = sizeof info};

    kill_it(&p);
    assert_int_equal(salvo_watch_update(w), 0);
    assert_int_equal(salvo_watch_get_info(w, &info), 0);
    assert_int_equal(info.alive, 0);
    salvo_watch_close(w);
    assert_int_equal(salvo_watch_list(d->path, &info, 1), 1);
    assert_int_equal(info.alive, 0);
    assert_int_equal(info.pid, p.pid);
    w = attach_to(d, 500, &s);
    assert_int_equal(s.stage[SALVO_STAGE_TOTAL].count, 500);
    salvo_watch_close(w);
}

/* Write when its counters were last copied. */
static void age(const char *path, uint64_t ms_ago)
{
    int fd = open(path, O_RDWR);
    struct timespec now;
    salvo_segment_head h;
    salvo_segment_shape shape;

    assert_int_equal(pread(fd, &h, sizeof h, 0), sizeof h);
    salvo_segment_shape_of(h.flushers, h.topics, &shape);
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t at = (uint64_t)now.tv_sec * 1000 - ms_ago;
    for (int i = 0; i < 2; i++)
        assert_int_equal(pwrite(fd, &at, sizeof at, (off_t)shape.copy_at[i]), sizeof at);
    close(fd);
}

static void put_file(const watch_dir *d, const char *name, long seconds_ago)
{
    char path[300];
    snprintf(path, sizeof path, "%s/%s", d->path, name);
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
    struct timespec times[2];
    clock_gettime(CLOCK_REALTIME, &times[0]);
    times[0].tv_sec -= seconds_ago;
    times[1] = times[0];
    assert_int_equal(ftruncate(fd, 8192), 0);
    assert_int_equal(futimens(fd, times), 0);
    close(fd);
}

static bool is_there(const watch_dir *d, const char *name)
{
    char path[300];
    snprintf(path, sizeof path, "%s/%s", d->path, name);
    return access(path, F_OK) == 0;
}

static void dead_are_kept_for_an_hour(void **state)
{
    watch_dir *d = *state;
    producing p = produce(d, "null", 10), living = produce(d, "null", 10);
    salvo_watch_info infos[4];
    salvo_stats s = {.size = sizeof s};

    salvo_watch_close(attach_to(d, 10, &s));
    kill_it(&p);
    assert_int_equal(salvo_watch_list(d->path, infos, 4), 2);
    assert_int_equal(infos[0].pid, p.pid); /* by start */
    age(infos[0].path, 59 * 60 * 1000);
    assert_int_equal(salvo_watch_list(d->path, infos, 4), 2);
    char beside[2][32]; /* of a recorder that was killed with it */
    snprintf(beside[0], sizeof beside[0], "%d-0.salvo.tape", (int)p.pid);
    snprintf(beside[1], sizeof beside[1], "%d-0.salvo.request", (int)p.pid);
    put_file(d, beside[0], 0);
    put_file(d, beside[1], 0);
    age(infos[0].path, 61 * 60 * 1000);
    assert_int_equal(salvo_watch_list(d->path, infos + 1, 3), 1);
    assert_false(is_there(d, beside[0]) || is_there(d, beside[1]));
    assert_int_equal(infos[1].pid, living.pid);
    assert_int_equal(access(infos[0].path, F_OK), -1);
    finish(&living);
}

static void old_remains_are_removed_and_nothing_else(void **state)
{
    watch_dir *d = *state;

    put_file(d, "7-0.salvo", 3700);
    put_file(d, "8-0.salvo", 3500);
    put_file(d, "notes.salvo", 3700);
    put_file(d, "7-0.txt", 3700);
    assert_int_equal(salvo_watch_list(d->path, NULL, 0), 0);
    assert_false(is_there(d, "7-0.salvo"));
    assert_true(is_there(d, "8-0.salvo"));
    assert_true(is_there(d, "notes.salvo"));
    assert_true(is_there(d, "7-0.txt"));
}

/* A grandchild of the producer's outlives it and holds every descriptor it had. */
static void a_fork_does_not_keep_it_alive(void **state)
{
    watch_dir *d = *state;
    producing p = produce(d, "null", 10);
    salvo_stats s = {.size = sizeof s};
    salvo_watch_info info;

    salvo_watch_close(attach_to(d, 10, &s));
    tell(&p, 'f');
    assert_int_equal(hear(&p), 'F');
    kill(p.pid, SIGKILL);
    waitpid(p.pid, NULL, 0);
    assert_int_equal(salvo_watch_list(d->path, &info, 1), 1);
    assert_int_equal(info.alive, 0);
    close(p.to);
    close(p.from);
}

/* The child of a producer's process ends: its descriptors close, the lock stays. */
static void the_end_of_a_fork_does_not_end_it(void **state)
{
    watch_dir *d = *state;
    producing p = produce(d, "null", 10);
    salvo_watch_info info;

    tell(&p, 'e');
    assert_int_equal(hear(&p), 'E');
    assert_int_equal(salvo_watch_list(d->path, &info, 1), 1);
    assert_int_equal(info.alive, 1);
    finish(&p);
}

/* Looking at ourselves is refused before the file is opened: the lock stays. */
static void own_producers_are_not_opened(void **state)
{
    watch_dir *d = *state;
    salvo *p = open_producer(d, "null", "true");
    salvo_watch_info info;
    salvo_watch *w;
    char path[300];

    assert_int_equal(salvo_watch_list(d->path, NULL, 0), 0);
    snprintf(path, sizeof path, "%s/%ld-0.salvo", d->path, (long)getpid());
    assert_int_equal(access(path, F_OK), 0);
    assert_int_equal(salvo_watch_open(path, &w), SALVO_ERR_INVALID);
    pid_t child = fork();
    if (child == 0)
        _exit(salvo_watch_list(d->path, &info, 1) == 1 && info.alive == 1 ? 0 : 1);
    assert_int_equal(exit_status(child), 0);
    assert_int_equal(salvo_close(p, 1000, NULL), 0);
}

static void unshared_leaves_no_file(void **state)
{
    watch_dir *d = *state;
    salvo *p = open_producer(d, "null", "false");
    char path[300];

    snprintf(path, sizeof path, "%s/%ld-0.salvo", d->path, (long)getpid());
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(salvo_close(p, 1000, NULL), 0);
}

static void expect_refused(const char *directory, const char *why)
{
    salvo_config *config = watch_config(directory, "null", "true");
    salvo *p;

    assert_int_equal(salvo_open(config, NULL, &p), SALVO_ERR_CONFIG);
    if (strstr(salvo_last_error(), why) == NULL)
        fail_msg("\"%s\" lacks \"%s\"", salvo_last_error(), why);
    salvo_config_free(config);
}

static void directories_that_do_not_serve(void **state)
{
    watch_dir *d = *state;
    char path[300], disk[] = "watch_test.XXXXXX";
    struct statfs fs;

    snprintf(path, sizeof path, "%s/open", d->path);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(chmod(path, 0770), 0);
    expect_refused(path, "others may write to it");
    snprintf(path, sizeof path, "%s/link", d->path);
    assert_int_equal(symlink(d->path, path), 0);
    expect_refused(path, "not a directory");
    snprintf(path, sizeof path, "%s/none/none", d->path);
    expect_refused(path, "No such file");
    assert_non_null(mkdtemp(disk));
    assert_int_equal(statfs(disk, &fs), 0);
    if (fs.f_type != TMPFS_MAGIC)
        expect_refused(disk, "not on a tmpfs");
    rmdir(disk);
}

/* Total and topics of one copy, read while the producer works. */
static void check_balance(const salvo_ledger *l)
{
    assert_int_equal(l->offered, l->accepted + l->refused_full + l->refused_dropped +
                                     l->refused_timeout + l->refused_too_large +
                                     l->refused_invalid);
    assert_int_equal(l->accepted,
                     l->acknowledged + l->failed + l->expired + l->dropped + l->pending);
    assert_true(l->pending < UINT64_C(1) << 40); /* never below zero */
}

static void snapshots_balance_at_work(void **state)
{
    watch_dir *d = *state;
    producing p = produce(d, "memory", 10);
    salvo_stats s = {.size = sizeof s}, last;
    salvo_watch *w = attach_to(d, 10, &s);
    salvo_ledger l;
    const char *name;

    tell(&p, 'w');
    for (int seen = 0; seen < 10; seen += s.total.offered != last.total.offered) {
        last = s;
        usleep(5000);
        assert_int_equal(salvo_watch_update(w), 0);
        assert_int_equal(salvo_watch_get_stats(w, &s), 0);
        check_balance(&s.total);
        assert_true(s.total.offered >= last.total.offered);
        assert_true(s.stage[SALVO_STAGE_TOTAL].count >= last.stage[SALVO_STAGE_TOTAL].count);
        for (salvo_topic t = 0; t < 2; t++) {
            assert_int_equal(salvo_watch_get_topic(w, t, &name, &l), 0);
            check_balance(&l);
        }
    }
    salvo_watch_close(w);
    kill_it(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        watch_unit_test(alive_then_closed),
        watch_unit_test(killed_shows_its_last_state),
        watch_unit_test(dead_are_kept_for_an_hour),
        watch_unit_test(old_remains_are_removed_and_nothing_else),
        watch_unit_test(a_fork_does_not_keep_it_alive),
        watch_unit_test(the_end_of_a_fork_does_not_end_it),
        watch_unit_test(own_producers_are_not_opened),
        watch_unit_test(unshared_leaves_no_file),
        watch_unit_test(directories_that_do_not_serve),
        watch_unit_test(snapshots_balance_at_work),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
