/* SPDX-License-Identifier: Apache-2.0
 *
 * The counters' file: a copy is whole however fast it is made, and a file of any content, or cut
 * off at any time, is refused or read, and never crashes its reader.
 */
#include "engine_fixture.h"
#include "segment.h"
#include "watch_fixture.h"

#include <salvo/histogram.h>
#include <sys/stat.h>

enum { HAMMER_TOPICS = 200, SNAPSHOTS = 300, DAMAGES = 3000 };

/* Copies without a pause; in each all counts of all topics are equal. */
static void hammer(const watch_dir *d)
{
    engine e;
    salvo_segment s;
    char name[16];

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    engine_open(&e, (const char *[]){"stats_dir", d->path, NULL});
    for (int i = 1; i < HAMMER_TOPICS; i++) {
        salvo_topic topic;
        snprintf(name, sizeof name, "t%d", i);
        assert_int_equal(salvo_topic_open(e.p, name, NULL, &topic), 0);
    }
    assert_int_equal(salvo_segment_open(&s, e.p, true), 0);
    for (uint64_t now_ns = 0;; now_ns += SECOND) {
        for (int i = 0; i < HAMMER_TOPICS; i++)
            for (int why = 0; why <= SALVO_REFUSED_INVALID; why++)
                e.p->topics.entries[i].refused[why]++;
        salvo_segment_publish(&s, e.p, now_ns);
    }
}

static void check_equal(const salvo_ledger *l, uint64_t n)
{
    assert_int_equal(l->refused_full, n);
    assert_int_equal(l->refused_dropped, n);
    assert_int_equal(l->refused_timeout, n);
    assert_int_equal(l->refused_too_large, n);
    assert_int_equal(l->refused_invalid, n);
}

static void copies_are_of_one_moment(void **state)
{
    watch_dir *d = *state;
    salvo_watch_info info;
    salvo_watch *w;
    const char *name;
    salvo_ledger l;
    pid_t child = fork();

    if (child == 0)
        hammer(d);
    while (salvo_watch_list(d->path, &info, 1) == 0)
        usleep(1000);
    assert_int_equal(salvo_watch_open(info.path, &w), 0);
    uint64_t last = 0;
    for (int seen = 0; seen < SNAPSHOTS;) {
        if (salvo_watch_update(w) != 0)
            continue;
        for (salvo_topic t = 0; t < HAMMER_TOPICS; t++) {
            assert_int_equal(salvo_watch_get_topic(w, t, &name, &l), 0);
            seen += t == 0 && l.refused_full != last; /* another one */
            last = t == 0 ? l.refused_full : last;
            check_equal(&l, last);
        }
    }
    salvo_watch_close(w);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
}

/* Everything that can be asked. */
static void read_all(const char *path)
{
    salvo_watch *w;
    salvo_watch_info info = {.size = sizeof info};
    salvo_stats s = {.size = sizeof s};
    salvo_histogram *h = salvo_histogram_new(3);
    const char *name;
    salvo_ledger l;

    if (salvo_watch_open(path, &w) == 0) {
        int err = salvo_watch_update(w);
        assert_true(err == 0 || err == SALVO_ERR_TRANSIENT || err == SALVO_ERR_IO);
        assert_int_equal(salvo_watch_get_info(w, &info), 0);
        assert_non_null(memchr(info.program, 0, sizeof info.program));
        if (err == 0 && salvo_watch_get_stats(w, &s) == 0) {
            assert_non_null(memchr(s.broker_state, 0, sizeof s.broker_state));
            for (salvo_topic t = 0; salvo_watch_get_topic(w, t, &name, &l) == 0; t++)
                assert_true(strlen(name) < 256 && strpbrk(name, "\033\n") == NULL);
        }
        for (int stage = 0; stage < SALVO_STAGES; stage++)
            err = salvo_watch_get_stage(w, (salvo_stage)stage, h);
        (void)salvo_histogram_at(h, 99.9);
        salvo_watch_close(w);
    }
    char *directory = strndup(path, (size_t)(strrchr(path, '/') - path));
    assert_true(salvo_watch_list(directory, &info, 1) >= 0);
    free(directory);
    salvo_histogram_free(h);
}

static uint64_t next(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    return *seed ^= *seed << 17;
}

/* A few bytes, a few words of all ones, or a whole range; more often in the head. */
static void damage(int fd, off_t bytes, uint64_t *seed)
{
    uint8_t junk[512];
    for (size_t i = 0; i < sizeof junk; i++)
        junk[i] = (uint8_t)next(seed);
    for (uint64_t n = next(seed) % 4 + 1; n > 0; n--) {
        uint64_t kind = next(seed) % 4;
        size_t length = kind == 0 ? 1 : kind == 1 ? 8 : next(seed) % sizeof junk + 1;
        if (kind == 1)
            memset(junk, 0xff, 8);
        uint64_t range = next(seed) % 2 ? sizeof(salvo_segment_head) : (uint64_t)bytes;
        assert_true(pwrite(fd, junk, length, (off_t)(next(seed) % range)) > 0);
    }
}

/* The file of a killed producer, as bytes. */
static uint8_t *remains(watch_dir *d, char *path, off_t *bytes)
{
    producing p = produce(d, "memory", 200);
    salvo_stats s = {.size = sizeof s};
    salvo_watch_info info;
    struct stat st;

    salvo_watch_close(attach_to(d, 200, &s));
    kill_it(&p);
    assert_int_equal(salvo_watch_list(d->path, &info, 1), 1);
    strcpy(path, info.path);
    int fd = open(path, O_RDONLY);
    assert_int_equal(fstat(fd, &st), 0);
    uint8_t *all = malloc((size_t)st.st_size);
    assert_int_equal(read(fd, all, (size_t)st.st_size), st.st_size);
    close(fd);
    *bytes = st.st_size;
    return all;
}

static void rewrite(const char *path, const uint8_t *all, off_t bytes)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_int_equal(write(fd, all, (size_t)bytes), bytes);
    close(fd);
}

static void damaged_files_never_crash(void **state)
{
    watch_dir *d = *state;
    char path[256];
    off_t bytes;
    uint64_t seed = 88172645463325252;
    uint8_t *all = remains(d, path, &bytes);

    for (int i = 0; i < DAMAGES; i++) {
        if (i % 8 == 0) /* else on top of the last damage */
            rewrite(path, all, bytes);
        int fd = open(path, O_RDWR | O_CREAT, 0600);
        damage(fd, bytes, &seed);
        if (i % 5 == 0)
            assert_int_equal(ftruncate(fd, (off_t)(next(&seed) % (uint64_t)bytes)), 0);
        close(fd);
        read_all(path);
    }
    free(all);
}

/* Cut off while it is watched: an error, and neither SIGBUS nor what was not there. */
static void cut_off_under_the_reader(void **state)
{
    watch_dir *d = *state;
    char path[256];
    off_t bytes;
    uint8_t *all = remains(d, path, &bytes);
    salvo_stats s = {.size = sizeof s};
    salvo_histogram *h = salvo_histogram_new(2);
    salvo_watch *w;

    assert_int_equal(salvo_watch_open(path, &w), 0);
    assert_int_equal(salvo_watch_update(w), 0);
    assert_int_equal(truncate(path, bytes / 2), 0);
    assert_int_equal(salvo_watch_get_stage(w, SALVO_STAGE_TOTAL, h), SALVO_ERR_IO);
    assert_int_equal(salvo_watch_get_stats(w, &s), SALVO_ERR_IO);
    assert_int_equal(salvo_histogram_count(h), 0);
    assert_int_equal(truncate(path, 100), 0);
    assert_int_equal(salvo_watch_update(w), SALVO_ERR_IO);
    assert_int_equal(salvo_watch_get_stats(w, &s), SALVO_ERR_TRANSIENT);
    salvo_watch_close(w);
    assert_int_equal(salvo_watch_open(path, &w), SALVO_ERR_INVALID);
    salvo_histogram_free(h);
    free(all);
}

static void expect_invalid(const char *path, const char *why)
{
    salvo_watch *w;
    int err = salvo_watch_open(path, &w);
    assert_true(err == SALVO_ERR_INVALID);
    assert_null(w);
    if (strstr(salvo_last_error(), why) == NULL)
        fail_msg("\"%s\" lacks \"%s\"", salvo_last_error(), why);
}

static void put_u32(const char *path, size_t at, uint32_t value)
{
    int fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, &value, sizeof value, (off_t)at), sizeof value);
    close(fd);
}

static void what_is_no_counters_file(void **state)
{
    watch_dir *d = *state;
    char path[256], other[300];
    off_t bytes;
    uint8_t *all = remains(d, path, &bytes);

    put_u32(path, offsetof(salvo_segment_head, abi), SALVO_SEGMENT_ABI + 1);
    expect_invalid(path, "another version");
    rewrite(path, all, bytes);
    put_u32(path, offsetof(salvo_segment_head, flushers), 0);
    expect_invalid(path, "damaged");
    put_u32(path, offsetof(salvo_segment_head, flushers), 64);
    expect_invalid(path, "cut off");
    rewrite(path, all, bytes);
    put_u32(path, offsetof(salvo_segment_head, topics), 1025);
    expect_invalid(path, "damaged");
    rewrite(path, all, bytes);
    snprintf(other, sizeof other, "%s/999999-0.salvo", d->path);
    assert_int_equal(symlink(path, other), 0);
    expect_invalid(other, "");
    assert_int_equal(salvo_watch_list(d->path, NULL, 0), 1);
    assert_int_equal(unlink(other), 0);
    assert_int_equal(mkfifo(other, 0600), 0);
    expect_invalid(other, "not a file of yours");
    expect_invalid(d->path, "not a file of yours");
    expect_invalid("/proc/self/status", "");
    if (geteuid() == 0) { /* only root can make another's */
        rewrite(path, all, bytes);
        assert_int_equal(chown(path, 65534, 65534), 0);
        expect_invalid(path, "not a file of yours");
    }
    free(all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        watch_unit_test(copies_are_of_one_moment),
        watch_unit_test(damaged_files_never_crash),
        watch_unit_test(cut_off_under_the_reader),
        watch_unit_test(what_is_no_counters_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
