/* SPDX-License-Identifier: Apache-2.0
 *
 * Schedule files (docs/formats.md): written from a source, mapped for playing. What is read was
 * perhaps written by others: the header and the size are checked here, each record when its turn
 * comes. A file that could not be written whole is removed.
 */
#include "load_source.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HEADER_BYTES = 4096, RECORD_BYTES = 16 };

static const char *text_of(json_t *object, const char *name, const char *otherwise)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text ? text : otherwise;
}

static bool take_header(salvo_load *load, const char *path, char *error, size_t error_size)
{
    json_error_t where;
    json_t *h = json_loadb((const char *)load->file, HEADER_BYTES, 0, &where);
    json_t *about = json_object_get(h, "load");
    double messages = json_number_value(json_object_get(h, "messages"));
    double room = (double)((load->file_bytes - HEADER_BYTES) / RECORD_BYTES);
    load->file_header = h;
    load->warmup_s = json_number_value(json_object_get(h, "warmup_s"));
    load->duration_s = json_number_value(json_object_get(h, "duration_s"));
    load->seed = (uint64_t)json_integer_value(json_object_get(h, "seed"));
    load->rate_text = text_of(about, "rate", "");
    load->arrivals_text = text_of(about, "arrivals", "");
    load->size_text = text_of(about, "size", "");
    load->keys_text = text_of(about, "keys", "0");
    load->payload_text = text_of(h, "payload", "random");
    load->file_messages = messages >= 0 && messages <= room ? (uint64_t)messages : 0;
    if (!h || strcmp(text_of(h, "format", ""), "salvo-schedule") != 0)
        snprintf(error, error_size, "%s: not a schedule file", path);
    else if (json_integer_value(json_object_get(h, "version")) != 1)
        snprintf(error, error_size, "%s: a schedule of a version that this salvo does not know; "
                 "it knows 1", path);
    else if (!(messages >= 1 && messages <= room))
        snprintf(error, error_size, "%s: %.0f messages are promised and %.0f are there", path,
                 messages, room);
    else if (!(load->duration_s > 0 && load->duration_s <= 1e6 && load->warmup_s >= 0 &&
               load->warmup_s <= 1e6))
        snprintf(error, error_size, "%s: duration_s or warmup_s is not within 0 to 1000000", path);
    else
        return true;
    return false;
}

bool salvo_load_open_file(salvo_load *load, const char *path, char *error, size_t error_size)
{
    struct stat about;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &about) != 0) {
        snprintf(error, error_size, "cannot read %s: %s", path, strerror(errno));
        if (fd >= 0)
            close(fd);
        return false;
    }
    void *memory = MAP_FAILED;
    if (S_ISREG(about.st_mode) && about.st_size >= HEADER_BYTES)
        memory = mmap(NULL, (size_t)about.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
    close(fd);
    if (memory == MAP_FAILED) {
        snprintf(error, error_size, "%s: not a schedule file", path);
        return false;
    }
    load->file = memory;
    load->file_bytes = (size_t)about.st_size;
    return take_header(load, path, error, error_size);
}

void salvo_load_free(salvo_load *load)
{
    if (load->file)
        munmap((void *)(uintptr_t)load->file, load->file_bytes);
    json_decref(load->file_header);
    free(load->file_topics);
    salvo_load_sizes_free(&load->sizes);
    *load = (salvo_load){0};
}

static void put_little(unsigned char *bytes, uint64_t value, int count)
{
    for (int i = 0; i < count; i++)
        bytes[i] = (unsigned char)(value >> 8 * i);
}

static bool write_records(const salvo_load *load, FILE *to, uint64_t *count)
{
    salvo_load_source source = salvo_load_begin(load);
    salvo_load_message m;
    uint64_t index;
    unsigned char record[RECORD_BYTES];
    bool good = true;
    while (good && salvo_load_next(&source, &m, &index)) {
        put_little(record, m.at_ns, 8);
        put_little(record + 8, m.value_bytes, 4);
        put_little(record + 12, m.key, 4);
        good = fwrite(record, sizeof record, 1, to) == 1;
    }
    *count = source.index;
    return good;
}

static bool write_header(const salvo_load *load, FILE *to, json_t *load_json, uint64_t count)
{
    char header[HEADER_BYTES];
    json_t *h = json_pack("{s:s, s:i, s:I, s:f, s:f, s:s, s:I, s:O}", "format", "salvo-schedule",
                          "version", 1, "messages", (json_int_t)count, "duration_s",
                          load->duration_s, "warmup_s", load->warmup_s, "payload",
                          load->payload_text, "seed", (json_int_t)load->seed, "load", load_json);
    char *text = h ? json_dumps(h, JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(12))
                   : NULL;
    size_t length = text ? strlen(text) : sizeof header;
    json_decref(h);
    memset(header, ' ', sizeof header);
    header[sizeof header - 1] = '\n';
    if (length < sizeof header)
        memcpy(header, text, length);
    free(text);
    errno = length < sizeof header ? 0 : EMSGSIZE;
    return length < sizeof header && fseek(to, 0, SEEK_SET) == 0 &&
           fwrite(header, sizeof header, 1, to) == 1;
}

bool salvo_load_write_file(const salvo_load *load, const char *path, json_t *load_json,
                           char *error, size_t error_size)
{
    uint64_t count = 0;
    FILE *to = fopen(path, "we");
    bool good = to && fseek(to, HEADER_BYTES, SEEK_SET) == 0 && write_records(load, to, &count) &&
                write_header(load, to, load_json, count);
    int why = errno;
    if (to && fclose(to) != 0 && good) {
        good = false;
        why = errno;
    }
    if (good)
        return true;
    snprintf(error, error_size, "cannot write %s: %s", path, strerror(why));
    if (to)
        unlink(path);
    return false;
}
