/* SPDX-License-Identifier: Apache-2.0
 *
 * A trace in memory and its file: header, records, gzip. Guarantees: the file never exceeds its
 * cap, is complete or says that it was cut, and replaces nothing until it is written.
 */
#include "record.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

enum { LOOK_EVERY = 4096, TAIL_BYTES = 64 << 10 }; /* zlib may hold so much back */

bool salvo_trace_add(salvo_trace *t, const salvo_trace_message *message)
{
    if (t->count >= t->most) {
        t->truncated = true;
        return false;
    }
    if (t->count == t->room) {
        t->room = t->room != 0 ? 2 * t->room : 4096;
        t->list = salvo_cli_realloc(t->list, t->room * sizeof *t->list);
    }
    t->list[t->count++] = *message;
    return true;
}

int salvo_trace_topic(salvo_trace *t, const char *name)
{
    for (size_t i = 0; i < t->topic_count; i++)
        if (strcmp(t->topics[i], name) == 0)
            return (int)i;
    if (t->topic_count == TRACE_TOPICS)
        return -1;
    char *copy = strdup(name);
    if (copy == NULL)
        return -1;
    t->topics[t->topic_count] = copy;
    return (int)t->topic_count++;
}

static int by_time(const void *a, const void *b)
{
    const salvo_trace_message *x = a, *y = b;
    return (x->at_ns > y->at_ns) - (x->at_ns < y->at_ns);
}

void salvo_trace_sort(salvo_trace *t)
{
    if (t->count == 0)
        return;
    qsort(t->list, t->count, sizeof *t->list, by_time);
    uint64_t first_ns = t->list[0].at_ns;
    for (size_t i = 0; i < t->count; i++)
        t->list[i].at_ns -= first_ns;
}

void salvo_trace_free(salvo_trace *t)
{
    for (size_t i = 0; i < t->topic_count; i++)
        free(t->topics[i]);
    free(t->list);
}

static void put_little(unsigned char *at, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        at[i] = (unsigned char)(value >> 8 * i);
}

static uint64_t scaled(const salvo_trace *t, uint64_t ns)
{
    return t->scale == 1 ? ns : (uint64_t)((double)ns / t->scale);
}

/* Topics' names, or the begin of each and its number where they are longer than `most`; 0: only
 * how many there are. */
static json_t *names_of(const salvo_trace *t, size_t most)
{
    if (most == 0)
        return json_integer((json_int_t)t->topic_count);
    json_t *topics = json_array();
    for (size_t i = 0; i < t->topic_count; i++) {
        const char *name = t->topics[i];
        size_t kept = strlen(name) <= most ? strlen(name) : most;
        char number[24] = "";
        while (kept > 0 && name[kept] != '\0' && ((unsigned char)name[kept] & 0xc0) == 0x80)
            kept--; /* not within a character */
        if (name[kept] != '\0')
            snprintf(number, sizeof number, "~%zu", i);
        json_array_append_new(topics, json_sprintf("%.*s%s", (int)kept, name, number));
    }
    return topics;
}

/* False: it does not fit, because of too many or too long topics' names. The place is rewritten by
 * nobody: records and duration of a trace that its cap cuts are 0, the file's end decides. */
static bool fill_header(const salvo_trace *t, bool cut, size_t name_most,
                        char header[TRACE_HEADER])
{
    char started_at[32];
    time_t seconds = (time_t)(t->started_at_ms / 1000);
    struct tm utc;
    strftime(started_at, sizeof started_at, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&seconds, &utc));
    json_t *topics = names_of(t, name_most);
    uint64_t last_ns = t->count != 0 ? t->list[t->count - 1].at_ns : 0;
    uint64_t step_ns = scaled(t, t->resolution_ns);
    json_t *root = json_pack(
        "{ss si ss sI so sI sI si sI sb}", "format", "salvo-trace", "version", 1, "started_at",
        started_at, "resolution_ns", step_ns != 0 ? (json_int_t)step_ns : (json_int_t)1, "topics",
        topics, "records", cut ? (json_int_t)0 : (json_int_t)t->count, "duration_ns",
        cut ? (json_int_t)0 : (json_int_t)scaled(t, last_ns), "one_of", 1, "lost",
        (json_int_t)t->lost, "truncated", cut || t->truncated);
    char *text = root != NULL ? json_dumps(root, JSON_COMPACT | JSON_PRESERVE_ORDER) : NULL;
    bool fits = text != NULL && strlen(text) < TRACE_HEADER;
    memset(header, ' ', TRACE_HEADER);
    if (fits)
        memcpy(header, text, strlen(text));
    header[TRACE_HEADER - 1] = '\n';
    free(text);
    json_decref(root);
    return fits;
}

static uint64_t file_bytes(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 ? (uint64_t)st.st_size : 0;
}

/* How many records were written; less than all: the cap. *good false: an error. */
static size_t write_records(salvo_trace *t, gzFile file, const char *path, bool *good)
{
    unsigned char b[TRACE_RECORD];
    size_t i = 0;
    for (; i < t->count && *good; i++) {
        const salvo_trace_message *m = &t->list[i];
        put_little(b, scaled(t, m->at_ns), 8);
        put_little(b + 8, m->value_bytes, 4);
        put_little(b + 12, m->key, 4);
        put_little(b + 16, m->topic, 2);
        put_little(b + 18, m->key_bytes, 2);
        put_little(b + 20, m->fate, 4);
        *good = gzwrite(file, b, sizeof b) == (int)sizeof b;
        if (i % LOOK_EVERY != 0)
            continue;
        *good = *good && gzflush(file, Z_SYNC_FLUSH) == Z_OK;
        if (file_bytes(path) + TAIL_BYTES > t->max_bytes)
            break;
    }
    return i;
}

/* A recording that nobody can repeat is not lost for names: they are cut as far as needed, or left
 * out. Their number fits always; false: no memory. */
static bool fit_header(const salvo_trace *t, bool cut, char header[TRACE_HEADER])
{
    size_t most = 128;
    if (fill_header(t, cut, SIZE_MAX, header))
        return true;
    for (; !fill_header(t, cut, most, header); most /= 2)
        if (most == 0)
            return false;
    if (most != 0)
        salvo_cli_say("record: the names of %zu topics do not fit into a trace's header: cut after "
                      "%zu bytes, and numbered", t->topic_count, most);
    else
        salvo_cli_say("record: the names of %zu topics do not fit into a trace's header, not even "
                      "cut: numbers stand for them", t->topic_count);
    return true;
}

/* A file of the first `count`; the second time with what the cap left. */
static int write_once(salvo_trace *t, const char *path, bool cut, size_t *written)
{
    char header[TRACE_HEADER];
    if (!fit_header(t, cut, header)) {
        salvo_cli_say("record: no memory");
        return CLI_FAILED;
    }
    gzFile file = gzopen(path, "wbe6");
    bool good = file != NULL && gzwrite(file, header, TRACE_HEADER) == TRACE_HEADER;
    if (good)
        *written = write_records(t, file, path, &good);
    if (file != NULL && gzclose(file) != Z_OK)
        good = false;
    if (good)
        return 0;
    salvo_cli_say("record: cannot write %s: %s", path, strerror(errno));
    return CLI_FAILED;
}

bool salvo_trace_part(const char *path, char part[TRACE_PATH])
{
    int n = snprintf(part, TRACE_PATH, "%s.part", path);
    return n >= 0 && n < TRACE_PATH;
}

int salvo_trace_write(salvo_trace *t, const char *path)
{
    char part[TRACE_PATH];
    size_t written = 0;
    if (!salvo_trace_part(path, part)) {
        salvo_cli_say("record: the path is too long");
        return CLI_FAILED;
    }
    int status = write_once(t, part, false, &written);
    if (status == 0 && written < t->count) { /* once more, and it says that it was cut */
        t->count = written;
        t->truncated = true;
        status = write_once(t, part, true, &written);
    }
    if (status == 0 && rename(part, path) != 0) {
        salvo_cli_say("record: cannot write %s: %s", path, strerror(errno));
        status = CLI_FAILED;
    }
    if (status != 0)
        unlink(part);
    return status;
}
