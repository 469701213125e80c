/* SPDX-License-Identifier: Apache-2.0
 *
 * Traces, as docs/formats.md defines them: the binary form, plain or in gzip, and CSV. Every
 * record is checked before it is used; a bad one ends with its number or line.
 */
#include "plan.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { HEADER_BYTES = 4096, RECORD_BYTES = 24, LINE_BYTES = 4096, COLUMNS = 16 };
#define RECORDS_MOST UINT64_C(200000000)

typedef struct tracing {
    const char *path;
    salvo_plan_arrival *list;
    uint64_t count, room, topic_count, bytes;
    uint64_t lost, held; /* held: refused, or accepted after waiting */
    char *names[PLAN_MAX_TOPICS]; /* CSV */
} tracing;

static bool add(tracing *t, const salvo_plan_arrival *a)
{
    if (t->count == RECORDS_MOST) {
        salvo_cli_say("%s: more than %llu messages: cut the trace", t->path,
                      (unsigned long long)RECORDS_MOST);
        return false;
    }
    if (t->count != 0 && a->at_ns < t->list[t->count - 1].at_ns) {
        salvo_cli_say("%s: message %llu comes before the one ahead of it: sort by time", t->path,
                      (unsigned long long)t->count + 1);
        return false;
    }
    if (t->count == t->room) {
        t->room = t->room != 0 ? t->room * 2 : 4096;
        t->list = salvo_cli_realloc(t->list, t->room * sizeof *t->list);
    }
    t->list[t->count++] = *a;
    t->bytes += a->value_bytes + (a->key != 0 ? a->key_bytes : 0);
    return true;
}

static uint64_t little(const unsigned char *at, int bytes)
{
    uint64_t value = 0;
    while (bytes-- > 0)
        value = value << 8 | at[bytes];
    return value;
}

static bool read_header(tracing *t, char *header)
{
    header[HEADER_BYTES - 1] = '\0';
    json_t *root = json_loads(header, 0, NULL);
    const char *format = json_string_value(json_object_get(root, "format"));
    bool ours = format != NULL && strcmp(format, "salvo-trace") == 0;
    bool known = json_integer_value(json_object_get(root, "version")) == 1;
    json_int_t one_of = json_integer_value(json_object_get(root, "one_of"));
    json_int_t lost = json_integer_value(json_object_get(root, "lost"));
    t->lost = lost > 0 ? (uint64_t)lost : 0;
    t->topic_count = json_array_size(json_object_get(root, "topics"));
    json_decref(root);
    if (!ours)
        salvo_cli_say("%s: neither a trace (salvo record writes them) nor CSV with a line of "
                      "column names", t->path);
    else if (!known)
        salvo_cli_say("%s: a trace of a version that is not known", t->path);
    else if (one_of > 1)
        salvo_cli_say("%s: holds one of %lld messages; a plan needs a trace of all", t->path,
                      (long long)one_of);
    else if (t->topic_count == 0 || t->topic_count > PLAN_MAX_TOPICS)
        salvo_cli_say("%s: %llu topics; 1 to %d are allowed", t->path,
                      (unsigned long long)t->topic_count, PLAN_MAX_TOPICS);
    else
        return true;
    return false;
}

static bool read_binary(tracing *t, gzFile file)
{
    unsigned char b[RECORD_BYTES];
    int n;
    while ((n = gzread(file, b, RECORD_BYTES)) == RECORD_BYTES) {
        salvo_plan_arrival a = {.at_ns = little(b, 8), .value_bytes = (uint32_t)little(b + 8, 4),
                                .key = (uint32_t)little(b + 12, 4),
                                .topic = (uint16_t)little(b + 16, 2),
                                .key_bytes = (uint16_t)little(b + 18, 2)};
        if (a.topic >= t->topic_count || a.at_ns > INT64_MAX / 2) {
            salvo_cli_say("%s: message %llu: topic %u of %llu, at %llu ns: the file is damaged",
                          t->path, (unsigned long long)t->count + 1, a.topic,
                          (unsigned long long)t->topic_count, (unsigned long long)a.at_ns);
            return false;
        }
        t->held += little(b + 20, 4) != 0;
        if (!add(t, &a))
            return false;
    }
    if (n == 0)
        return true;
    salvo_cli_say("%s: ends within message %llu: the file is cut or damaged", t->path,
                  (unsigned long long)t->count + 1);
    return false;
}

/* ---- CSV ---- */

typedef enum column { C_TIME_NS, C_TIME_US, C_TIME_MS, C_TIME_S, C_BYTES, C_KEY, C_KEY_BYTES,
                      C_TOPIC, C_FATE, C_UNKNOWN } column;
static const char *const column_names[] = {"at_ns", "at_us", "at_ms", "at_s", "bytes", "key",
                                           "key_bytes", "topic", "fate"};

static column column_of(const char *name)
{
    int i = 0;
    while (i < C_UNKNOWN && strcmp(column_names[i], name) != 0)
        i++;
    return (column)i;
}

/* Cut at commas, in place; how many. */
static int cut(char *line, char *fields[COLUMNS])
{
    int n = 0;
    line[strcspn(line, "\r\n")] = '\0';
    for (char *at = line; at != NULL && n < COLUMNS; n++) {
        fields[n] = at;
        at = strchr(at, ',');
        if (at != NULL)
            *at++ = '\0';
    }
    return n;
}

/* Decimal digits with a point, times 10^decimals; false: something else. */
static bool decimal(const char *text, int decimals, uint64_t *out)
{
    uint64_t value = 0;
    int left = -1; /* no point yet */
    bool any = false;
    for (; *text != '\0'; text++) {
        if (*text == '.' && left < 0) {
            left = decimals;
            continue;
        }
        if (*text < '0' || *text > '9' || value > UINT64_MAX / 100)
            return false;
        any = true;
        if (left == 0)
            continue; /* finer than a nanosecond */
        value = value * 10 + (unsigned)(*text - '0');
        left -= left > 0;
    }
    for (left = left < 0 ? decimals : left; left > 0; left--) {
        if (value > UINT64_MAX / 100)
            return false;
        value *= 10;
    }
    *out = value;
    return any && value < INT64_MAX / 2;
}

static uint32_t hash(const char *text)
{
    uint32_t h = 2166136261u;
    for (; *text != '\0'; text++)
        h = (h ^ (unsigned char)*text) * 16777619u;
    return h != 0 ? h : 1;
}

static bool topic_of(tracing *t, const char *name, uint16_t *out)
{
    uint64_t i = 0;
    while (i < t->topic_count && strcmp(t->names[i], name) != 0)
        i++;
    if (i == PLAN_MAX_TOPICS)
        return false;
    if (i == t->topic_count) {
        t->names[i] = strdup(name);
        t->topic_count++;
    }
    *out = (uint16_t)i;
    return true;
}

static bool take_field(tracing *t, column c, const char *text, salvo_plan_arrival *a)
{
    static const int decimals[] = {0, 3, 6, 9};
    uint64_t n = 0;
    switch (c) {
    case C_TIME_NS: case C_TIME_US: case C_TIME_MS: case C_TIME_S:
        return decimal(text, decimals[c], &a->at_ns);
    case C_BYTES:
        a->value_bytes = decimal(text, 0, &n) && n <= UINT32_MAX ? (uint32_t)n : 0;
        return n <= UINT32_MAX && *text != '\0' && strspn(text, "0123456789") == strlen(text);
    case C_KEY:
        if (*text != '\0') {
            a->key = hash(text);
            a->key_bytes = a->key_bytes != 0 ? a->key_bytes : (uint16_t)strlen(text);
        }
        return true;
    case C_KEY_BYTES:
        if (!decimal(text, 0, &n) || n > UINT16_MAX)
            return false;
        a->key_bytes = (uint16_t)n;
        return true;
    case C_FATE:
        if (!decimal(text, 0, &n) || n > UINT32_MAX)
            return false;
        t->held += n != 0;
        return true;
    case C_TOPIC: return topic_of(t, text, &a->topic);
    default: return true;
    }
}

static bool read_csv_header(tracing *t, char *line, column *columns, int *count)
{
    char *fields[COLUMNS];
    bool has_time = false, has_bytes = false;
    *count = cut(line, fields);
    for (int i = 0; i < *count; i++) {
        columns[i] = column_of(fields[i]);
        if (columns[i] == C_UNKNOWN) {
            salvo_cli_say("%s: line 1: unknown column `%.40s`; allowed: at_ns, at_us, at_ms, "
                          "at_s, bytes, key, key_bytes, topic, fate", t->path, fields[i]);
            return false;
        }
        has_time |= columns[i] <= C_TIME_S;
        has_bytes |= columns[i] == C_BYTES;
    }
    if (!has_time || !has_bytes)
        salvo_cli_say("%s: line 1: the columns %s are missing", t->path,
                      has_time ? "bytes" : "at_ns (or at_us, at_ms, at_s) and bytes");
    return has_time && has_bytes;
}

static bool read_csv(tracing *t, gzFile file, char *header)
{
    char line[LINE_BYTES], *fields[COLUMNS];
    column columns[COLUMNS];
    int count;
    if (!read_csv_header(t, header, columns, &count))
        return false;
    for (uint64_t number = 2; gzgets(file, line, sizeof line) != NULL; number++) {
        salvo_plan_arrival a = {0};
        int n = cut(line, fields);
        if (n == 1 && fields[0][0] == '\0')
            continue;
        bool good = n == count;
        int i = 0;
        while (good && i < n && (good = take_field(t, columns[i], fields[i], &a)))
            i++;
        if (!good) {
            salvo_cli_say("%s: line %llu: %s", t->path, (unsigned long long)number,
                          n != count ? "not as many fields as columns"
                                     : column_names[columns[i]]);
            return false;
        }
        if (!add(t, &a))
            return false;
    }
    if (t->topic_count == 0)
        t->topic_count = 1;
    return true;
}

static bool read_all(tracing *t, gzFile file)
{
    char header[HEADER_BYTES];
    if (gzgets(file, header, sizeof header) == NULL) {
        salvo_cli_say("%s: the trace is empty or damaged", t->path);
        return false;
    }
    if (header[0] != '{')
        return read_csv(t, file, header);
    gzrewind(file);
    if (gzread(file, header, HEADER_BYTES) != HEADER_BYTES) {
        salvo_cli_say("%s: ends within its header: the file is cut", t->path);
        return false;
    }
    return read_header(t, header) && read_binary(t, file);
}

/* What a plan from it does not see. */
static void warn(const tracing *t)
{
    if (t->lost != 0)
        salvo_cli_say("%s: %llu messages more came too fast to be recorded: add --scale %.2f",
                      t->path, (unsigned long long)t->lost,
                      1.0 + (double)t->lost / (double)t->count);
    if (t->held != 0)
        salvo_cli_say("%s: %llu of %llu messages were refused or had to wait; they count as "
                      "offered when they were noted, so the demand may have been higher", t->path,
                      (unsigned long long)t->held, (unsigned long long)t->count);
}

bool salvo_cli_plan_trace(const char *path, salvo_plan_case *c)
{
    tracing t = {.path = path};
    gzFile file = gzopen(path, "rb");
    if (file == NULL) {
        salvo_cli_say("%s: %s", path, strerror(errno));
        return false;
    }
    bool good = read_all(&t, file);
    gzclose(file);
    if (good && (t.count < 2 || t.list[t.count - 1].at_ns == t.list[0].at_ns)) {
        salvo_cli_say("%s: %llu messages: too few for a rate", path, (unsigned long long)t.count);
        good = false;
    }
    for (uint64_t i = 0; i < PLAN_MAX_TOPICS; i++)
        free(t.names[i]);
    if (!good) {
        free(t.list);
        return false;
    }
    warn(&t);
    uint64_t first_ns = t.list[0].at_ns;
    for (uint64_t i = 0; i < t.count; i++)
        t.list[i].at_ns -= first_ns;
    uint64_t span_ns = t.list[t.count - 1].at_ns;
    c->trace = t.list;
    c->traffic.trace = t.list;
    c->traffic.trace_count = t.count;
    c->traffic.trace_ns = span_ns + span_ns / (t.count - 1); /* to the next first message */
    c->traffic.topic_count = (uint32_t)t.topic_count;
    c->rate_per_s = (uint64_t)((unsigned __int128)(t.count - 1) * 1000000000u / span_ns);
    c->mean_bytes = t.bytes / t.count;
    c->least_bytes = 0;
    c->most_bytes = UINT32_MAX;
    return true;
}
