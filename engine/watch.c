/* SPDX-License-Identifier: Apache-2.0
 *
 * Producers seen from outside; see salvo/watch.h and segment.h. The mapping is another process's
 * to write at any time: sizes follow from the head as it was read once and checked against the
 * file, counters are copied before they are looked at, texts end where their room ends.
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
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { FLUSHERS_MAX = 64, KEEP_MS = 3600 * 1000, TRIES = 100 };

struct salvo_watch {
    const salvo_segment_head *head; /* mapped read-only */
    size_t mapped;
    salvo_segment_shape shape;
    salvo_watch_info info;
    uint32_t flushers, topics;
    int fd;
    salvo_segment_copy *copy; /* of the last update */
    uint64_t generation;      /* of copy; 0: none */
};

static bool is_locked(int fd)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    return fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
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

static int take_head(salvo_watch *w, const char *path)
{
    const salvo_segment_head *h = w->head;
    /* Acquire: pairs with the release at the end of fill_head(). */
    if (atomic_load_explicit(&h->magic, memory_order_acquire) != SALVO_SEGMENT_MAGIC)
        return fail(path, "not a producer's counters", SALVO_ERR_INVALID);
    if (h->abi != SALVO_SEGMENT_ABI)
        return fail(path, "of another version of Salvo", SALVO_ERR_INVALID);
    w->flushers = h->flushers;
    w->topics = h->topics;
    if (w->flushers < 1 || w->flushers > FLUSHERS_MAX || w->topics > SALVO_SEGMENT_TOPICS_MAX)
        return fail(path, "damaged", SALVO_ERR_INVALID);
    salvo_segment_shape_of(w->flushers, w->topics, &w->shape);
    if (w->shape.bytes > w->mapped)
        return fail(path, "cut off", SALVO_ERR_INVALID);
    w->info = (salvo_watch_info){.size = sizeof w->info, .pid = h->pid,
                                 .started_at_ms = h->started_at_ms};
    take_text(w->info.program, h->program, sizeof w->info.program);
    take_text(w->info.client_id, h->client_id, sizeof w->info.client_id);
    take_text(w->info.driver, h->driver, sizeof w->info.driver);
    take_text(w->info.version, h->version, sizeof w->info.version);
    size_t length = strlen(path);
    if (length >= sizeof w->info.path)
        return fail(path, "the path is too long", SALVO_ERR_INVALID);
    memcpy(w->info.path, path, length + 1);
    return 0;
}

static int attach(salvo_watch *w, const char *path)
{
    struct stat st;
    w->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (w->fd < 0)
        return fail(path, strerror(errno), SALVO_ERR_IO);
    int err = check_file(path, w->fd, &st);
    if (err != 0)
        return err;
    w->mapped = (size_t)st.st_size;
    void *at = mmap(NULL, w->mapped, PROT_READ, MAP_SHARED, w->fd, 0);
    if (at == MAP_FAILED)
        return fail(path, strerror(errno), SALVO_ERR_IO);
    w->head = at;
    err = take_head(w, path);
    if (err != 0)
        return err;
    w->copy = calloc(1, w->shape.copy_bytes);
    return w->copy != NULL ? 0 : fail(path, "no memory", SALVO_ERR_NOMEM);
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
    if (w->head != NULL)
        munmap((void *)(uintptr_t)w->head, w->mapped);
    if (w->fd >= 0)
        close(w->fd);
    free(w->copy);
    free(w);
}

/* One try: false when the copy changed meanwhile or there is none. */
static bool take_copy(salvo_watch *w)
{
    uint64_t g = atomic_load_explicit(&w->head->generation, memory_order_acquire);
    if (g == 0)
        return false;
    const _Atomic uint64_t *from =
        (const void *)((const char *)w->head + w->shape.copy_at[g % 2]);
    uint64_t *to = (void *)w->copy;
    for (size_t i = 0; i < w->shape.copy_bytes / 8; i++) /* acquire: see segment.h */
        to[i] = atomic_load_explicit(&from[i], memory_order_acquire);
    w->generation = atomic_load_explicit(&w->head->generation, memory_order_acquire) == g ? g : 0;
    return w->generation != 0;
}

/* The copy is ours now: make it harmless. */
static void check_copy(salvo_segment_copy *c, uint32_t topics)
{
    if (c->topic_count > topics)
        c->topic_count = topics;
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
    for (int i = 0; i < TRIES; i++)
        if (take_copy(w)) {
            check_copy(w->copy, w->topics);
            w->info.updated_at_ms = w->copy->updated_at_ms;
            return 0;
        }
    w->generation = 0;
    return SALVO_ERR_TRANSIENT;
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
static void add_stage(const salvo_watch *w, salvo_stage stage, salvo_histogram *into)
{
    for (uint32_t i = 0; i < w->flushers; i++) {
        size_t index = (size_t)i * SALVO_STAGES + stage;
        const char *at = (const char *)w->head + w->shape.histograms_at;
        (void)salvo_histogram_add_foreign(into, at + index * w->shape.histogram_bytes,
                                          w->shape.histogram_bytes);
    }
}

int salvo_watch_get_stage(salvo_watch *w, salvo_stage stage, salvo_histogram *into)
{
    if (w == NULL || into == NULL || (unsigned)stage >= SALVO_STAGES)
        return SALVO_ERR_INVALID;
    salvo_histogram *sum = salvo_histogram_new(SALVO_SEGMENT_DIGITS);
    if (sum == NULL)
        return SALVO_ERR_NOMEM;
    add_stage(w, stage, sum);
    salvo_histogram_add(into, sum);
    salvo_histogram_free(sum);
    return 0;
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
        if (sum == NULL)
            return SALVO_ERR_NOMEM;
        add_stage(w, (salvo_stage)i, sum);
        salvo_histogram_summary(sum, &s.stage[i]);
        salvo_histogram_free(sum);
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

/* "123-0.salvo": the pid, or -1. */
static long pid_of(const char *name)
{
    char *end;
    long pid = strtol(name, &end, 10);
    size_t length = strlen(name);
    return pid > 0 && *end == '-' && length > 6 && strcmp(name + length - 6, ".salvo") == 0 ? pid
                                                                                            : -1;
}

static bool long_dead(const salvo_watch *w)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t now_ms = (uint64_t)now.tv_sec * 1000u;
    uint64_t last_ms = w->info.updated_at_ms != 0 ? w->info.updated_at_ms : w->info.started_at_ms;
    return !w->info.alive && now_ms > last_ms && now_ms - last_ms > KEEP_MS;
}

/* True: *info is filled. Our own files must not even be opened: closing them drops our lock. */
static bool look_at(const char *directory, const char *name, salvo_watch_info *info)
{
    char path[512];
    salvo_watch *w;
    long pid = pid_of(name);
    int n = snprintf(path, sizeof path, "%s/%s", directory, name);
    if (pid < 0 || pid == getpid() || n < 0 || (size_t)n >= sizeof path ||
        salvo_watch_open(path, &w) != 0)
        return false;
    if (salvo_watch_update(w) != 0)
        w->info.updated_at_ms = 0; /* none yet: it counts from its start */
    bool keep = !long_dead(w);
    if (!keep)
        unlink(path);
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
