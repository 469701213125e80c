/* SPDX-License-Identifier: Apache-2.0
 *
 * A producer's counters in shared memory: see segment.h.
 */
#include "segment.h"

#include "config_internal.h"
#include "error.h"
#include "histogram.h"
#include "producer.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

enum { HEAD_BYTES = 4096, FILES_MAX = 1000 };

static uint64_t unix_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000u + (uint64_t)t.tv_nsec / 1000000u;
}

void salvo_segment_shape_of(uint32_t flushers, uint32_t topics, salvo_segment_shape *shape)
{
    size_t copy = sizeof(salvo_segment_copy) + topics * sizeof(salvo_segment_topic);
    shape->copy_bytes = copy;
    copy = (copy + 63u) & ~(size_t)63u;
    shape->copy_at[0] = HEAD_BYTES;
    shape->copy_at[1] = HEAD_BYTES + copy;
    shape->histogram_bytes = salvo_histogram_bytes(SALVO_SEGMENT_DIGITS);
    shape->histograms_at = HEAD_BYTES + 2 * copy;
    shape->bytes = shape->histograms_at + (size_t)flushers * SALVO_STAGES * shape->histogram_bytes;
    shape->bytes = (shape->bytes + 4095u) & ~(size_t)4095u;
}

static uint32_t topics_of(uint32_t max_topics)
{
    return max_topics < SALVO_SEGMENT_TOPICS_MAX ? max_topics : SALVO_SEGMENT_TOPICS_MAX;
}

uint64_t salvo_segment_bytes(uint32_t flushers, uint32_t max_topics)
{
    salvo_segment_shape shape;
    salvo_segment_shape_of(flushers, topics_of(max_topics), &shape);
    return shape.bytes + shape.copy_bytes;
}

bool salvo_segment_directory(const char *configured, char *path, size_t size)
{
    int n = configured != NULL && configured[0] != '\0'
                ? snprintf(path, size, "%s", configured)
                : snprintf(path, size, "/dev/shm/salvo-%u", (unsigned)geteuid());
    return n > 0 && (size_t)n < size;
}

/* Why the directory does not serve, or NULL. It is made where it is missing. */
static const char *directory_fault(const char *path)
{
    struct stat st;
    struct statfs fs;
    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        return strerror(errno);
    if (lstat(path, &st) != 0 || statfs(path, &fs) != 0)
        return strerror(errno);
    if (!S_ISDIR(st.st_mode))
        return "not a directory";
    if (st.st_uid != geteuid() || (st.st_mode & 022) != 0)
        return "others may write to it (it must be yours, mode 0700)";
    if (fs.f_type != TMPFS_MAGIC && fs.f_type != RAMFS_MAGIC)
        return "not on a tmpfs (writing back a disk's pages would stall the flushers)";
    return NULL;
}

/* Held until the process ends or closes the file; not by its children. */
static bool take_lock(int fd)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    return fcntl(fd, F_SETLK, &lock) == 0;
}

static void drop_file(salvo_segment *s)
{
    if (s->fd < 0)
        return;
    unlink(s->path);
    close(s->fd);
    s->fd = -1;
}

/* A file of our own, locked and with all its room reserved. */
static bool open_file(salvo_segment *s, const char *directory)
{
    for (int i = 0; i < FILES_MAX; i++) {
        int n = snprintf(s->path, sizeof s->path, "%s/%ld-%d.salvo", directory, (long)getpid(), i);
        if (n < 0 || (size_t)n >= sizeof s->path)
            return false;
        s->fd = open(s->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (s->fd >= 0 || errno != EEXIST)
            break;
    }
    if (s->fd < 0)
        return false;
    int err = take_lock(s->fd) ? 0 : EAGAIN;
    for (bool again = err == 0; again; again = err == EINTR) /* an application's signals */
        err = posix_fallocate(s->fd, 0, (off_t)s->shape.bytes);
    if (err == 0)
        return true;
    drop_file(s);
    errno = err;
    return false;
}

static void *map(const salvo_segment *s)
{
    int flags = s->fd >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS;
    void *at = mmap(NULL, s->shape.bytes, PROT_READ | PROT_WRITE, flags | MAP_POPULATE, s->fd, 0);
    if (at == MAP_FAILED)
        return NULL;
    (void)madvise(at, s->shape.bytes, MADV_DONTFORK); /* nothing of a child's can publish */
    return at;
}

static void fill_head(salvo_segment_head *h, const salvo *p)
{
    char program[16] = "?";
    prctl(PR_GET_NAME, program);
    FILE *f = fopen("/proc/self/comm", "re"); /* the process's, not the opening thread's */
    if (f != NULL) {
        if (fgets(program, sizeof program, f) != NULL)
            program[strcspn(program, "\n")] = '\0';
        fclose(f);
    }
    h->abi = SALVO_SEGMENT_ABI;
    h->flushers = p->settings.flushers;
    h->topics = topics_of(p->settings.max_topics);
    h->pid = getpid();
    h->started_at_ms = unix_ms();
    snprintf(h->program, sizeof h->program, "%s", program);
    snprintf(h->client_id, sizeof h->client_id, "%.63s",
             salvo_config_get(p->config, "kafka_client_id"));
    snprintf(h->driver, sizeof h->driver, "%s", p->driver->name);
    snprintf(h->version, sizeof h->version, "%s", salvo_version());
    /* Release: pairs with the acquire in salvo_watch_open(). */
    atomic_store_explicit(&h->magic, SALVO_SEGMENT_MAGIC, memory_order_release);
}

/* 0, also where sharing was tried in vain in the default directory. */
static int try_to_share(salvo_segment *s, const salvo *p)
{
    char directory[200];
    const char *configured = salvo_config_get(p->config, "stats_dir");
    const char *fault = salvo_segment_directory(configured, directory, sizeof directory)
                            ? directory_fault(directory)
                            : "the path is too long";
    if (fault == NULL && !open_file(s, directory))
        fault = strerror(errno);
    if (fault == NULL)
        return 0;
    if (configured != NULL && configured[0] != '\0') {
        salvo_error_set("stats_dir = \"%s\": %s; choose a directory below /dev/shm, or set "
                        "stats_shared = false", configured, fault);
        return SALVO_ERR_CONFIG;
    }
    salvo_log(SALVO_LOG_INFO, "salvo top will not see this producer: %s: %s", directory, fault);
    return 0;
}

int salvo_segment_open(salvo_segment *s, const salvo *p, bool shared)
{
    *s = (salvo_segment){.fd = -1};
    salvo_segment_shape_of(p->settings.flushers, topics_of(p->settings.max_topics), &s->shape);
    int err = shared ? try_to_share(s, p) : 0;
    if (err != 0)
        return err;
    s->mine = calloc(1, s->shape.copy_bytes);
    s->head = s->mine != NULL ? map(s) : NULL;
    if (s->head == NULL) {
        drop_file(s);
        return SALVO_ERR_NOMEM;
    }
    fill_head(s->head, p);
    return 0;
}

void salvo_segment_close(salvo_segment *s)
{
    if (s->head != NULL) { /* else it was never opened */
        munmap(s->head, s->shape.bytes);
        drop_file(s);
    }
    free(s->mine);
    *s = (salvo_segment){.fd = -1};
}

void salvo_segment_info(const salvo_segment *s, salvo_watch_info *info)
{
    const salvo_segment_head *h = s->head;
    *info = (salvo_watch_info){.size = sizeof *info, .pid = h->pid, .alive = 1,
                               .started_at_ms = h->started_at_ms, .updated_at_ms = unix_ms()};
    memcpy(info->program, h->program, sizeof info->program);
    memcpy(info->client_id, h->client_id, sizeof info->client_id);
    memcpy(info->driver, h->driver, sizeof info->driver);
    memcpy(info->version, h->version, sizeof info->version);
    if (s->fd >= 0)
        memcpy(info->path, s->path, sizeof info->path);
}

void *salvo_segment_histogram(const salvo_segment *s, uint32_t flusher, salvo_stage stage)
{
    size_t index = (size_t)flusher * SALVO_STAGES + stage;
    return (char *)s->head + s->shape.histograms_at + index * s->shape.histogram_bytes;
}

static void fill_copy(salvo_segment_copy *c, salvo *p)
{
    uint32_t count = atomic_load_explicit(&p->topics.count, memory_order_acquire);
    uint32_t room = topics_of(p->settings.max_topics);
    c->updated_at_ms = unix_ms();
    c->topic_count = count < room ? count : room;
    salvo_stats_fill(p, &c->stats);
    for (uint32_t i = 0; i < c->topic_count; i++) {
        memcpy(c->topics[i].name, p->topics.entries[i].name, sizeof p->topics.entries[i].name);
        (void)salvo_ledger_read(p, i, &c->topics[i].ledger);
    }
}

void salvo_segment_publish(salvo_segment *s, salvo *p, uint64_t now_ns)
{
    if (s->fd < 0 || now_ns < s->next_ns)
        return;
    s->next_ns = now_ns + SALVO_SEGMENT_EVERY_MS * UINT64_C(1000000);
    fill_copy(s->mine, p);
    uint64_t g = atomic_load_explicit(&s->head->generation, memory_order_relaxed) + 1;
    _Atomic uint64_t *to = (void *)((char *)s->head + s->shape.copy_at[g % 2]);
    const uint64_t *from = (const void *)s->mine;
    size_t words = (sizeof *s->mine + s->mine->topic_count * sizeof s->mine->topics[0]) / 8;
    for (size_t i = 0; i < words; i++) /* release: see segment.h */
        atomic_store_explicit(&to[i], from[i], memory_order_release);
    atomic_store_explicit(&s->head->generation, g, memory_order_release);
}
