/* SPDX-License-Identifier: Apache-2.0
 *
 * Salvo's main job in one process: the lines of a real file and a million events from two
 * threads go through the engine into the embedded `memory` broker, are read back and checked.
 * Status 0 only if every line came back equal and in order, every event exactly once, events of
 * one thread with the same key in order, and the ledger balances. Uses the public API only.
 */
#include <picture.h>

#include <errno.h>
#include <pthread.h>
#include <salvo/reader.h>
#include <salvo/salvo.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#define THREADS 2u
#define SENSORS 64u /* keys, shared by the threads */
#define LINES_PARTITION 0
#define FLUSH_MS 60000u

typedef struct demo {
    salvo_config *config;
    salvo *producer;
    salvo_topic lines, events;
    const char *text; /* the file */
    size_t text_len;
    uint64_t line_count;
    uint64_t per_thread;
} demo;

typedef struct sender {
    demo *d;
    unsigned id;
    int err;
} sender;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int complain(const char *what, int err)
{
    const char *text = salvo_last_error();
    fprintf(stderr, "demo: %s: %s\n", what, *text ? text : salvo_strerror(err));
    return 1;
}

/* The next line from *at, without its end; false at the end of the text. */
static bool next_line(const demo *d, size_t *at, salvo_bytes *line)
{
    if (*at >= d->text_len)
        return false;
    const char *from = d->text + *at;
    const char *end = memchr(from, '\n', d->text_len - *at);
    line->data = from;
    line->len = end ? (size_t)(end - from) : d->text_len - *at;
    *at += line->len + 1;
    return true;
}

static int send_lines(demo *d)
{
    salvo_bytes line;
    for (size_t at = 0; next_line(d, &at, &line);) {
        salvo_message message = {.value = line.data, .value_len = line.len,
                                 .partition_plus1 = LINES_PARTITION + 1};
        int err = salvo_send(d->producer, d->lines, &message);
        if (err != 0)
            return complain("a line was refused", err);
        d->line_count++;
    }
    return 0;
}

static void *send_events(void *context)
{
    sender *s = context;
    char key[24], value[96];
    for (uint64_t i = 0; i < s->d->per_thread && s->err == 0; i++) {
        int key_len = snprintf(key, sizeof key, "sensor-%u", (unsigned)(i * 7 % SENSORS));
        int len = snprintf(value, sizeof value,
                           "{\"thread\":%u,\"n\":%llu,\"reading\":%llu.%02llu,\"unit\":\"C\"}",
                           s->id, (unsigned long long)i, (unsigned long long)(i % 40),
                           (unsigned long long)(i * 13 % 100));
        s->err = salvo_send_fire_and_forget(s->d->producer, s->d->events, key, (size_t)key_len,
                                            value, (size_t)len);
    }
    return NULL;
}

static int send_all(demo *d)
{
    pthread_t threads[THREADS];
    sender senders[THREADS];
    int failed = 0;
    for (unsigned i = 0; i < THREADS; i++) {
        senders[i] = (sender){d, i, 0};
        int err = pthread_create(&threads[i], NULL, send_events, &senders[i]);
        if (err != 0) {
            fprintf(stderr, "demo: cannot start a thread: %s\n", strerror(err));
            exit(1);
        }
    }
    failed |= send_lines(d);
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        if (senders[i].err != 0)
            failed |= complain("an event was refused", senders[i].err);
    }
    int err = salvo_flush(d->producer, FLUSH_MS);
    return err != 0 ? complain("flush", err) : failed;
}

static salvo_reader *open_reader(const demo *d, const char *topic)
{
    salvo_reader_options options = {.size = sizeof options, .stop_at_end = 1};
    salvo_reader *reader = NULL;
    int err = salvo_reader_open(d->config, d->producer, topic, &options, &reader);
    if (err != 0)
        complain(topic, err);
    return reader;
}

static int check_lines(const demo *d)
{
    salvo_reader *reader = open_reader(d, "lines");
    salvo_record record;
    salvo_bytes line;
    uint64_t count = 0, wrong = 0;
    size_t at = 0;
    int err;
    if (!reader)
        return 1;
    while ((err = salvo_reader_next(reader, 1000, &record)) == 0) {
        bool expected = next_line(d, &at, &line);
        if (!expected || line.len != record.value_len ||
            memcmp(line.data, record.value, line.len) != 0)
            wrong++;
        count++;
    }
    salvo_reader_close(reader);
    if (err != SALVO_ERR_END)
        return complain("reading the lines", err);
    printf("lines    %llu sent, %llu read back, %llu differ or are out of order\n",
           (unsigned long long)d->line_count, (unsigned long long)count,
           (unsigned long long)wrong);
    return count != d->line_count || wrong != 0;
}

typedef struct audit {
    unsigned char *seen[THREADS]; /* how often each event came, up to 2 */
    uint64_t next[THREADS][SENSORS]; /* n of the last event of a thread and key, plus 1 */
    uint64_t count, doubled, unordered, strange;
} audit;

static void check_event(const demo *d, audit *a, const salvo_record *record)
{
    unsigned thread, sensor;
    unsigned long long n;
    char value[128], key[24];
    a->count++;
    if (record->value_len >= sizeof value || record->key_len >= sizeof key || !record->key ||
        !record->value) {
        a->strange++;
        return;
    }
    memcpy(value, record->value, record->value_len);
    value[record->value_len] = '\0';
    memcpy(key, record->key, record->key_len);
    key[record->key_len] = '\0';
    if (sscanf(value, "{\"thread\":%u,\"n\":%llu,", &thread, &n) != 2 ||
        sscanf(key, "sensor-%u", &sensor) != 1 || thread >= THREADS || n >= d->per_thread ||
        sensor != n * 7 % SENSORS) {
        a->strange++;
        return;
    }
    a->doubled += a->seen[thread][n] != 0;
    a->seen[thread][n] = 1;
    a->unordered += n + 1 <= a->next[thread][sensor];
    a->next[thread][sensor] = n + 1;
}

static int check_events(const demo *d)
{
    static audit a;
    salvo_reader *reader = open_reader(d, "events");
    salvo_record record;
    uint64_t missing = 0;
    int err;
    if (!reader)
        return 1;
    for (unsigned t = 0; t < THREADS; t++)
        if (!(a.seen[t] = calloc(d->per_thread + 1, 1)))
            return complain("no memory", SALVO_ERR_NOMEM);
    while ((err = salvo_reader_next(reader, 1000, &record)) == 0)
        check_event(d, &a, &record);
    salvo_reader_close(reader);
    for (unsigned t = 0; t < THREADS; t++) {
        for (uint64_t i = 0; i < d->per_thread; i++)
            missing += a.seen[t][i] == 0;
        free(a.seen[t]);
    }
    if (err != SALVO_ERR_END)
        return complain("reading the events", err);
    printf("events   %llu sent, %llu read back, %llu missing, %llu doubled, %llu damaged, "
           "%llu out of order\n", (unsigned long long)(THREADS * d->per_thread),
           (unsigned long long)a.count, (unsigned long long)missing,
           (unsigned long long)a.doubled, (unsigned long long)a.strange,
           (unsigned long long)a.unordered);
    return missing + a.doubled + a.strange + a.unordered != 0;
}

static int open_all(demo *d)
{
    char room[32];
    /* Enough for all of it, and refusing rather than forgetting, so that all can be read back. */
    snprintf(room, sizeof room, "%llu", (unsigned long long)(d->text_len * 64 + (64u << 20) +
                                                             THREADS * d->per_thread * 192));
    int err = salvo_config_new(&d->config);
    if (err == 0)
        err = salvo_config_set(d->config, "message_broker", "memory");
    if (err == 0)
        err = salvo_config_set(d->config, "memory_partitions", "4");
    if (err == 0)
        err = salvo_config_set(d->config, "memory_full", "reject");
    if (err == 0)
        err = salvo_config_set(d->config, "memory_bytes", room);
    if (err == 0)
        err = salvo_open(d->config, NULL, &d->producer);
    if (err == 0)
        err = salvo_topic_open(d->producer, "lines", NULL, &d->lines);
    if (err == 0)
        err = salvo_topic_open(d->producer, "events", NULL, &d->events);
    return err == 0 ? 0 : complain("open", err);
}

static int map_file(demo *d, const char *path)
{
    struct stat about;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &about) != 0 || !S_ISREG(about.st_mode)) {
        fprintf(stderr, "demo: %s: %s\n", path, fd < 0 ? strerror(errno) : "not a regular file");
        if (fd >= 0)
            close(fd);
        return 1;
    }
    d->text_len = (size_t)about.st_size;
    void *text = d->text_len ? mmap(NULL, d->text_len, PROT_READ, MAP_PRIVATE, fd, 0) : NULL;
    close(fd);
    if (text == MAP_FAILED) {
        fprintf(stderr, "demo: %s: cannot map: %s\n", path, strerror(errno));
        return 1;
    }
    d->text = text;
    return 0;
}

static int finish(demo *d)
{
    salvo_stats stats = {.size = sizeof stats};
    salvo_close_report report = {0};
    salvo_picture picture = salvo_picture_for(stdout);
    int failed = salvo_get_stats(d->producer, &stats) != 0;
    int err = salvo_close(d->producer, 10000, &report);
    if (err != 0)
        failed |= complain("close", err);
    salvo_config_free(d->config);
    putchar('\n');
    salvo_picture_latency(&picture, stats.stage);
    putchar('\n');
    salvo_picture_ledger(&picture, &report.ledger);
    failed |= !salvo_picture_balanced(&report.ledger);
    failed |= report.ledger.acknowledged != d->line_count + THREADS * d->per_thread;
    return failed;
}

int main(int argc, char **argv)
{
    demo d = {.per_thread = 500000};
    if (argc < 2 || argc > 3 || argv[1][0] == '-') {
        fputs("usage: salvo_demo FILE [EVENTS]\n\nSends the lines of FILE and EVENTS generated "
              "events (default 1000000) through\nthe embedded memory broker, reads them back "
              "and checks them.\n", stderr);
        return 2;
    }
    if (argc == 3)
        d.per_thread = strtoull(argv[2], NULL, 10) / THREADS;
    if (map_file(&d, argv[1]) || open_all(&d))
        return 1;
    double start = now();
    int failed = send_all(&d);
    double seconds = now() - start;
    uint64_t count = d.line_count + THREADS * d.per_thread;
    char text[28], rate[28];
    printf("sent     %s messages from %u threads in %.2f s: %s/s, all settled\n",
           salvo_picture_count(count, text), THREADS + 1, seconds,
           salvo_picture_count((uint64_t)((double)count / seconds), rate));
    if (d.line_count > 0) /* a topic begins with its first message */
        failed |= check_lines(&d);
    if (d.per_thread > 0)
        failed |= check_events(&d);
    failed |= finish(&d);
    puts(failed ? "\nFAILED" : "\nall read back: every message once, keys in order");
    return failed ? 1 : 0;
}
