/* SPDX-License-Identifier: Apache-2.0
 *
 * Producers seen from outside; see salvo/watch.h and segment.h. The file is another process's to
 * write and to cut off at any time. So it is read, not mapped: what is cut off is a short read, no
 * SIGBUS. Sizes follow from the head as it was read once and checked against the file, counters
 * are copied before they are looked at, texts end where their room ends.
 *
 * The kernel's copy of memory that is aligned moves whole words, and its loads are ordered by the
 * fence behind it like our own.
 */
#include <salvo/watch.h>

#include "error.h"
#include "histogram.h"
#include "segment.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { FLUSHERS_MAX = 64, KEEP_MS = 3600 * 1000, TRIES = 100 };

struct salvo_watch {
    salvo_segment_shape shape;
    salvo_watch_info info;
    uint32_t flushers, topics;
    int fd;
    void *histogram;          /* room for one, aligned to 64 */
    salvo_segment_copy *copy; /* of the last update */
    uint64_t generation;      /* of copy; 0: none */
};

static bool is_locked(int fd)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    return fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

/* "123-0.salvo": the pid, or -1. */
static long pid_of(const char *name)
{
    char *end;
    long pid = strtol(name, &end, 10);
    size_t length = strlen(name);
    return pid > 0 && *end == '-' && length > 6 && strcmp(name + length - 6, ".salvo") == 0 ? pid
                                                                                            : -1;
}

/* A text in memory of our own: ends within its room, and shows nothing but printable ASCII. */
static void tidy_text(char *text, size_t size)
{
    size_t i = 0;
    for (; i + 1 < size && text[i] != '\0'; i++)
        if (text[i] < ' ' || text[i] > '~')
            text[i] = '?';
    text[i] = '\0';
}

static void take_text(char *to, const char *from, size_t size)
{
    memcpy(to, from, size);
    tidy_text(to, size);
}

static int fail(const char *path, const char *why, int err)
{
    salvo_error_set("%s: %s", path, why);
    return err;
}

/* False: there is less, or an error. */
static bool read_at(const salvo_watch *w, void *to, size_t bytes, size_t at)
{
    for (size_t done = 0; done < bytes;) {
        ssize_t n = pread(w->fd, (char *)to + done, bytes - done, (off_t)(at + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        done += (size_t)n;
    }
    /* Acquire: pairs with the releases in segment.c, for the loads that pread() made. */
    atomic_thread_fence(memory_order_acquire);
    return true;
}

static int check_file(const char *path, int fd, struct stat *st)
{
    if (fstat(fd, st) != 0)
        return fail(path, strerror(errno), SALVO_ERR_IO);
    if (!S_ISREG(st->st_mode) || st->st_uid != geteuid())
        return fail(path, "not a file of yours", SALVO_ERR_INVALID);
    if (st->st_size < (off_t)sizeof(salvo_segment_head))
        return fail(path, "not a producer's counters", SALVO_ERR_INVALID);
    return 0;
}

static int take_info(salvo_watch *w, const salvo_segment_head *h, const char *path)
{
    size_t length = strlen(path);
    if (length >= sizeof w->info.path)
        return fail(path, "the path is too long", SALVO_ERR_INVALID);
    w->info = (salvo_watch_info){.size = sizeof w->info, .pid = h->pid,
                                 .started_at_ms = h->started_at_ms};
    take_text(w->info.program, h->program, sizeof w->info.program);
    take_text(w->info.client_id, h->client_id, sizeof w->info.client_id);
    take_text(w->info.driver, h->driver, sizeof w->info.driver);
    take_text(w->info.version, h->version, sizeof w->info.version);
    memcpy(w->info.path, path, length + 1);
    return 0;
}

static int take_head(salvo_watch *w, const char *path, uint64_t bytes)
{
    salvo_segment_head h;
    uint64_t magic = 0;
    /* The magic before the rest: see fill_head(). */
    if (!read_at(w, &magic, sizeof magic, offsetof(salvo_segment_head, magic)) ||
        magic != SALVO_SEGMENT_MAGIC || !read_at(w, &h, sizeof h, 0))
        return fail(path, "not a producer's counters", SALVO_ERR_INVALID);
    if (h.abi != SALVO_SEGMENT_ABI)
        return fail(path, "of another version of Salvo", SALVO_ERR_INVALID);
    w->flushers = h.flushers;
    w->topics = h.topics;
    if (w->flushers < 1 || w->flushers > FLUSHERS_MAX || w->topics > SALVO_SEGMENT_TOPICS_MAX)
        return fail(path, "damaged", SALVO_ERR_INVALID);
    salvo_segment_shape_of(w->flushers, w->topics, &w->shape);
    if (w->shape.bytes > bytes)
        return fail(path, "cut off", SALVO_ERR_INVALID);
    return take_info(w, &h, path);
}

static int attach(salvo_watch *w, const char *path)
{
    struct stat st;
    const char *name = strrchr(path, '/');
    /* Our own must not even be opened: closing it would drop our lock. */
    if (pid_of(name != NULL ? name + 1 : path) == getpid())
        return fail(path, "of this process; salvo_get_stats() tells it more", SALVO_ERR_INVALID);
    w->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (w->fd < 0)
        return fail(path, strerror(errno), errno == ELOOP ? SALVO_ERR_INVALID : SALVO_ERR_IO);
    int err = check_file(path, w->fd, &st);
    if (err == 0)
        err = take_head(w, path, (uint64_t)st.st_size);
    if (err != 0)
        return err;
    w->copy = calloc(1, w->shape.copy_bytes);
    w->histogram = aligned_alloc(64, w->shape.histogram_bytes);
    return w->copy != NULL && w->histogram != NULL ? 0
                                                   : fail(path, "no memory", SALVO_ERR_NOMEM);
}

int salvo_watch_open(const char *path, salvo_watch **out)
{
    salvo_error_clear();
    if (path == NULL || out == NULL)
        return SALVO_ERR_INVALID;
    *out = NULL;
    salvo_watch *w = calloc(1, sizeof *w);
    if (w == NULL)
        return SALVO_ERR_NOMEM;
    w->fd = -1;
    int err = attach(w, path);
    if (err != 0) {
        salvo_watch_close(w);
        return err;
    }
    *out = w;
    return 0;
}

void salvo_watch_close(salvo_watch *w)
{
    if (w == NULL)
        return;
    if (w->fd >= 0)
        close(w->fd);
    free(w->histogram);
    free(w->copy);
    free(w);
}

static bool read_generation(const salvo_watch *w, uint64_t *g)
{
    return read_at(w, g, sizeof *g, offsetof(salvo_segment_head, generation));
}

/* One try. SALVO_ERR_TRANSIENT: the copy changed meanwhile, or there is none. */
static int take_copy(salvo_watch *w)
{
    uint64_t g, after;
    salvo_segment_copy *c = w->copy;
    w->generation = 0;
    if (!read_generation(w, &g))
        return SALVO_ERR_IO;
    size_t at = w->shape.copy_at[g % 2];
    if (g == 0)
        return SALVO_ERR_TRANSIENT;
    if (!read_at(w, c, sizeof *c, at))
        return SALVO_ERR_IO;
    if (c->topic_count > w->topics)
        c->topic_count = w->topics;
    if (!read_at(w, c->topics, c->topic_count * sizeof c->topics[0], at + sizeof *c) ||
        !read_generation(w, &after))
        return SALVO_ERR_IO;
    if (after != g)
        return SALVO_ERR_TRANSIENT;
    w->generation = g;
    return 0;
}

/* The copy is ours now: make it harmless. */
static void tidy_copy(salvo_segment_copy *c)
{
    tidy_text(c->stats.broker_state, sizeof c->stats.broker_state);
    tidy_text(c->stats.driver, sizeof c->stats.driver);
    tidy_text(c->stats.clock, sizeof c->stats.clock);
    for (uint64_t i = 0; i < c->topic_count; i++)
        tidy_text(c->topics[i].name, sizeof c->topics[i].name);
}

int salvo_watch_update(salvo_watch *w)
{
    if (w == NULL)
        return SALVO_ERR_INVALID;
    w->info.alive = is_locked(w->fd);
    int err = SALVO_ERR_TRANSIENT;
    for (int i = 0; i < TRIES && err == SALVO_ERR_TRANSIENT; i++)
        err = take_copy(w);
    if (err != 0)
        return err;
    tidy_copy(w->copy);
    w->info.updated_at_ms = w->copy->updated_at_ms;
    return 0;
}

int salvo_watch_get_info(salvo_watch *w, salvo_watch_info *info)
{
    if (w == NULL || info == NULL || info->size < sizeof info->size)
        return SALVO_ERR_INVALID;
    w->info.alive = is_locked(w->fd);
    size_t size = info->size < sizeof w->info ? info->size : sizeof w->info;
    memcpy(info, &w->info, size);
    info->size = size;
    return 0;
}

/* into: of the segment's digits. */
static int add_stage(salvo_watch *w, salvo_stage stage, salvo_histogram *into)
{
    for (uint32_t i = 0; i < w->flushers; i++) {
        size_t index = (size_t)i * SALVO_STAGES + stage, bytes = w->shape.histogram_bytes;
        if (!read_at(w, w->histogram, bytes, w->shape.histograms_at + index * bytes))
            return SALVO_ERR_IO;
        (void)salvo_histogram_add_foreign(into, w->histogram, bytes);
    }
    return 0;
}

int salvo_watch_get_stage(salvo_watch *w, salvo_stage stage, salvo_histogram *into)
{
    if (w == NULL || into == NULL || (unsigned)stage >= SALVO_STAGES)
        return SALVO_ERR_INVALID;
    salvo_histogram *sum = salvo_histogram_new(SALVO_SEGMENT_DIGITS);
    if (sum == NULL)
        return SALVO_ERR_NOMEM;
    int err = add_stage(w, stage, sum);
    if (err == 0)
        salvo_histogram_add(into, sum);
    salvo_histogram_free(sum);
    return err;
}

int salvo_watch_get_stats(salvo_watch *w, salvo_stats *stats)
{
    if (w == NULL || stats == NULL || stats->size < sizeof stats->size)
        return SALVO_ERR_INVALID;
    if (w->generation == 0)
        return SALVO_ERR_TRANSIENT;
    salvo_stats s = w->copy->stats;
    for (int i = 0; i < SALVO_STAGES; i++) {
        salvo_histogram *sum = salvo_histogram_new(SALVO_SEGMENT_DIGITS);
        int err = sum != NULL ? add_stage(w, (salvo_stage)i, sum) : SALVO_ERR_NOMEM;
        if (err == 0)
            salvo_histogram_summary(sum, &s.stage[i]);
        salvo_histogram_free(sum);
        if (err != 0)
            return err;
    }
    s.size = stats->size < sizeof s ? stats->size : sizeof s;
    memcpy(stats, &s, s.size);
    return 0;
}

int salvo_watch_get_topic(salvo_watch *w, salvo_topic topic, const char **name,
                          salvo_ledger *ledger)
{
    if (w == NULL || name == NULL || ledger == NULL)
        return SALVO_ERR_INVALID;
    if (w->generation == 0)
        return SALVO_ERR_TRANSIENT;
    if (topic >= w->copy->topic_count)
        return SALVO_ERR_UNKNOWN_TOPIC;
    *name = w->copy->topics[topic].name;
    *ledger = w->copy->topics[topic].ledger;
    return 0;
}

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
}

static bool long_ago(uint64_t then_ms)
{
    uint64_t now = now_ms();
    return now > then_ms && now - then_ms > KEEP_MS;
}

/* What cannot be read, is nobody's and lies there for long: a producer that died while it opened,
 * or one of another version. */
static void remove_remains(const char *path)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == geteuid() && !is_locked(fd) &&
        long_ago((uint64_t)st.st_mtim.tv_sec * 1000u))
        unlink(path);
    close(fd);
}

/* A dead producer's, and what a recording left beside it. */
static void remove_dead(const char *path)
{
    static const char *const beside[] = {".tape", ".request"};
    char name[512 + 16];
    for (size_t i = 0; i < sizeof beside / sizeof beside[0]; i++) {
        snprintf(name, sizeof name, "%s%s", path, beside[i]);
        unlink(name);
    }
    unlink(path); /* the last: until then no other producer takes the name */
}

/* True: *info is filled. */
static bool look_at(const char *directory, const char *name, salvo_watch_info *info)
{
    char path[512];
    salvo_watch *w;
    long pid = pid_of(name);
    int n = snprintf(path, sizeof path, "%s/%s", directory, name);
    if (pid < 0 || pid == getpid() || n < 0 || (size_t)n >= sizeof path)
        return false;
    int err = salvo_watch_open(path, &w);
    if (err == SALVO_ERR_INVALID)
        remove_remains(path);
    if (err != 0)
        return false;
    if (salvo_watch_update(w) != 0)
        w->info.updated_at_ms = 0; /* none yet: it counts from its start */
    uint64_t last_ms = w->info.updated_at_ms != 0 ? w->info.updated_at_ms : w->info.started_at_ms;
    bool keep = w->info.alive || !long_ago(last_ms);
    if (!keep)
        remove_dead(path);
    *info = w->info;
    salvo_watch_close(w);
    return keep;
}

static int by_start(const void *a, const void *b)
{
    const salvo_watch_info *x = a, *y = b;
    if (x->started_at_ms != y->started_at_ms)
        return x->started_at_ms < y->started_at_ms ? -1 : 1;
    return strcmp(x->path, y->path);
}

int salvo_watch_list(const char *directory, salvo_watch_info *infos, size_t max)
{
    char path[200];
    salvo_error_clear();
    if ((infos == NULL && max != 0) || !salvo_segment_directory(directory, path, sizeof path))
        return SALVO_ERR_INVALID;
    DIR *d = opendir(path);
    if (d == NULL)
        return errno == ENOENT && (directory == NULL || directory[0] == '\0')
                   ? 0
                   : fail(path, strerror(errno), SALVO_ERR_IO);
    int count = 0;
    salvo_watch_info info;
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        if (look_at(path, e->d_name, &info)) {
            if ((size_t)count < max)
                infos[count] = info;
            count++;
        }
    closedir(d);
    if (max > 0)
        qsort(infos, (size_t)count < max ? (size_t)count : max, sizeof *infos, by_start);
    salvo_error_clear();
    return count;
}
