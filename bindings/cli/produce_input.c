/* SPDX-License-Identifier: Apache-2.0
 *
 * The reader thread of `salvo produce`: files or standard input, cut into lines at LF (a CR
 * before it stays part of the value; a last line without LF counts). Guarantees: on a bad line,
 * an unreadable file or a stop, all lines before it have been handed over; input that comes
 * slowly is handed over as it comes; no line longer than max_message_bytes is ever held.
 */
#include "produce.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct reader {
    produce_job *job;
    produce_block *block;
    size_t begin; /* where the line begins that has no end yet */
    size_t scan;  /* no LF from begin to here */
    const char *file;
    uint64_t line; /* lines of this file so far */
    unsigned turn; /* the queue of lines without a key */
    produce_parcel *parcels[PRODUCE_MAX_THREADS];
} reader;

void salvo_produce_fail(produce_job *job, const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (!atomic_exchange_explicit(&job->failed, true, memory_order_relaxed))
        salvo_cli_say("%s", text);
}

static bool stopped(const reader *r)
{
    return atomic_load_explicit(&r->job->stop, memory_order_relaxed) || salvo_cli_signals() > 0;
}

static void hand_over(reader *r)
{
    for (unsigned i = 0; i < r->job->options->threads; i++) {
        if (r->parcels[i]) {
            r->job->handed += r->parcels[i]->count;
            salvo_produce_queue_push(&r->job->queues[i], r->parcels[i]);
        }
        r->parcels[i] = NULL;
    }
    r->turn = (r->turn + 1) % (unsigned)r->job->options->threads;
}

/* FNV-1a: any spread will do, as long as a key always selects the same thread. */
static unsigned queue_of(const reader *r, salvo_bytes key)
{
    if (r->job->options->threads == 1 || !key.data)
        return r->turn;
    uint64_t hash = 14695981039346656037u;
    const unsigned char *at = key.data;
    for (size_t i = 0; i < key.len; i++)
        hash = (hash ^ at[i]) * 1099511628211u;
    return (unsigned)((hash ^ (hash >> 32)) % r->job->options->threads);
}

/* The line as Avro, in the block's memory; false with a text for people. */
static bool to_avro(reader *r, salvo_bytes *value, char *error, size_t error_size)
{
    salvo_cli_avro *avro = r->job->avro;
    if (avro == NULL)
        return true;
    if (!salvo_cli_avro_encode(avro, value, error, error_size))
        return false;
    value->data = salvo_produce_block_store(r->block, value->data, value->len);
    return true;
}

/* False: the job must stop here. */
static bool take_line(reader *r, const char *text, size_t len)
{
    produce_job *job = r->job;
    const produce_options *options = job->options;
    char error[256];
    salvo_bytes value = {text, len}, key = {NULL, 0};
    r->line++;
    job->lines++;
    if (len == 0 && options->skip_empty) {
        job->skipped_empty++;
        return true;
    }
    if (len > job->max_message_bytes) {
        salvo_produce_fail(job, "%s:%llu: %zu bytes; allowed are %llu (max_message_bytes)",
                           r->file, (unsigned long long)r->line, len,
                           (unsigned long long)job->max_message_bytes);
        return false;
    }
    if (!salvo_produce_key(options, r->block, &value, &key, error, sizeof error) ||
        !to_avro(r, &value, error, sizeof error)) {
        if (options->skip_invalid) {
            job->skipped_invalid++;
            return true;
        }
        salvo_produce_fail(job, "%s:%llu: %s; --skip-invalid counts and skips such lines",
                           r->file, (unsigned long long)r->line, error);
        return false;
    }
    unsigned to = queue_of(r, key);
    bool keyed = options->key_field || options->key_delimiter;
    if (!r->parcels[to])
        r->parcels[to] = salvo_produce_parcel_new(r->block, r->file, keyed);
    salvo_produce_parcel_add(r->parcels[to], value, key, r->line);
    if (r->parcels[to]->count >= PRODUCE_PARCEL_LINES)
        hand_over(r);
    return true;
}

static bool take_lines(reader *r)
{
    produce_block *block = r->block;
    for (;;) {
        const char *from = block->bytes + r->scan;
        const char *end = memchr(from, '\n', block->used - r->scan);
        if (!end) {
            r->scan = block->used;
            return true;
        }
        size_t stop = (size_t)(end - block->bytes);
        size_t begin = r->begin;
        r->begin = r->scan = stop + 1;
        if (!take_line(r, block->bytes + begin, stop - begin))
            return false;
    }
}

/* Room behind what was read: the unfinished line moves to a new block, or, when it is all there
 * is, its block grows; nothing points into it then. */
static bool make_room(reader *r)
{
    produce_block *block = r->block;
    size_t rest = block->used - r->begin;
    if (block->used < block->size)
        return true;
    if (rest > r->job->max_message_bytes) {
        salvo_produce_fail(r->job, "%s:%llu: more than %llu bytes without a line end; allowed are "
                           "%llu (max_message_bytes)", r->file, (unsigned long long)r->line + 1,
                           (unsigned long long)rest - 1,
                           (unsigned long long)r->job->max_message_bytes);
        return false;
    }
    if (r->begin == 0) {
        block->size *= 2;
        block->bytes = salvo_cli_realloc(block->bytes, block->size);
        return true;
    }
    hand_over(r);
    size_t size = rest * 2 > PRODUCE_BLOCK_BYTES ? rest * 2 : PRODUCE_BLOCK_BYTES;
    produce_block *next = salvo_produce_block_new(size);
    memcpy(next->bytes, block->bytes + r->begin, rest);
    next->used = r->scan = rest;
    r->begin = 0;
    salvo_produce_block_release(block);
    r->block = next;
    return true;
}

/* Waits until there is something to read; what is already there goes on its way before. */
static bool wait_for_input(reader *r, int fd)
{
    struct pollfd polled[2] = {{.fd = fd, .events = POLLIN},
                               {.fd = salvo_cli_signal_fd(), .events = POLLIN}};
    if (poll(polled, 2, 0) == 0) {
        hand_over(r);
        while (poll(polled, 2, -1) < 0 && errno == EINTR && !stopped(r))
            ;
    }
    return !stopped(r);
}

static bool read_all(reader *r, int fd)
{
    while (wait_for_input(r, fd) && make_room(r)) {
        produce_block *block = r->block;
        ssize_t got = read(fd, block->bytes + block->used, block->size - block->used);
        if (got < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (got < 0) {
            salvo_produce_fail(r->job, "%s: cannot read: %s", r->file, strerror(errno));
            return false;
        }
        block->used += (size_t)got;
        if (!take_lines(r))
            return false;
        if (got > 0)
            continue;
        size_t begin = r->begin;
        r->begin = r->scan = block->used;
        return begin == block->used || take_line(r, block->bytes + begin, block->used - begin);
    }
    return false;
}

static bool read_file(reader *r, const char *path)
{
    bool standard = strcmp(path, "-") == 0;
    struct stat about;
    r->file = standard ? "standard input" : path;
    r->line = 0;
    int fd = standard ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        salvo_produce_fail(r->job, "%s: cannot open: %s", path, strerror(errno));
        return false;
    }
    bool good = true;
    if (fstat(fd, &about) == 0 && S_ISDIR(about.st_mode)) {
        salvo_produce_fail(r->job, "%s: is a directory; allowed are files and - for standard "
                           "input", path);
        good = false;
    } else {
        posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
        good = read_all(r, fd);
        hand_over(r); /* parcels carry one file's name */
    }
    if (!standard)
        close(fd);
    return good;
}

void *salvo_produce_read(void *context)
{
    produce_job *job = context;
    reader r = {.job = job, .block = salvo_produce_block_new(PRODUCE_BLOCK_BYTES)};
    for (size_t i = 0; i < job->options->file_count; i++)
        if (!read_file(&r, job->options->files[i]))
            break;
    salvo_produce_block_release(r.block);
    for (unsigned i = 0; i < job->options->threads; i++)
        salvo_produce_queue_close(&job->queues[i]);
    salvo_produce_thread_ended(job);
    return NULL;
}
