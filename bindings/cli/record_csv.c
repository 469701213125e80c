/* SPDX-License-Identifier: Apache-2.0
 *
 * A trace from CSV (docs/formats.md): a line of column names, then a line a message, in any order
 * of time. Keys are hashed with a salt that is drawn for the file and stored nowhere. A bad line
 * ends with its number.
 */
#include "record.h"

#include "load_draw.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum { FIELDS = 32, LINE_BYTES = 65536 };
#define BLANKS " \t"
#define BYTE_ORDER_MARK "\xef\xbb\xbf"
#define TIME_MOST (UINT64_C(1) << 62)

enum { AT_NS, AT_US, AT_MS, AT_S, BYTES, KEY, KEY_BYTES, TOPIC, FATE, COLUMNS };

typedef struct csv {
    const char *path;
    FILE *file;
    int place[COLUMNS]; /* -1: not there */
    uint64_t line, salt;
} csv;

static int bad(const csv *c, const char *what, const char *text)
{
    salvo_cli_say("%s: line %llu: %s `%.60s`", c->path, (unsigned long long)c->line, what, text);
    return CLI_FAILED;
}

static char *trimmed(char *from, char *to)
{
    while (to > from && strchr(BLANKS, to[-1]) != NULL)
        to--;
    return to;
}

/* In place: fields may stand in double quotes; blanks around one are no part of it. How many; more
 * than FIELDS: -1. */
static int cut(char *line, char *fields[FIELDS])
{
    int n = 0;
    line[strcspn(line, "\r\n")] = '\0';
    for (char *at = line; n < FIELDS; at++) {
        at += strspn(at, BLANKS);
        char *to = at, *open_end = at; /* blanks from here on are outside of quotes */
        fields[n++] = at;
        if (*at == '"') {
            for (at++; *at != '\0' && (*at != '"' || at[1] == '"'); at++) {
                at += *at == '"';
                *to++ = *at;
            }
            at += *at == '"';
            open_end = to;
        }
        while (*at != '\0' && *at != ',')
            *to++ = *at++;
        bool end = *at == '\0';
        *trimmed(open_end, to) = '\0';
        if (end)
            return n;
    }
    return -1;
}

static int read_names(csv *c, char *line)
{
    static const char *const names[COLUMNS] = {"at_ns", "at_us", "at_ms", "at_s", "bytes", "key",
                                               "key_bytes", "topic", "fate"};
    char *fields[FIELDS];
    bool marked = strncmp(line, BYTE_ORDER_MARK, 3) == 0; /* as spreadsheets do */
    int n = cut(marked ? line + 3 : line, fields), times = 0;
    for (int k = 0; k < COLUMNS; k++) {
        c->place[k] = -1;
        for (int i = 0; i < n; i++)
            if (strcmp(fields[i], names[k]) == 0)
                c->place[k] = i;
        times += k <= AT_S && c->place[k] >= 0;
    }
    if (n > 0 && times == 1 && c->place[BYTES] >= 0)
        return 0;
    return bad(c, n < 0         ? "more than 32 columns, beginning with"
                  : times == 0  ? "names none of at_ns, at_us, at_ms, at_s, but begins with"
                  : times > 1   ? "names more than one of at_ns, at_us, at_ms, at_s; begins with"
                                : "names no column bytes; begins with",
               fields[0]);
}

static bool whole(const char *text, uint64_t most, uint64_t *out)
{
    char *end;
    errno = 0;
    *out = strtoull(text, &end, 10);
    return errno == 0 && end != text && *end == '\0' && strchr(text, '-') == NULL && *out <= most;
}

/* Digits of a fraction make a step ten times finer each; what is finer than a ns is left out. */
static const char *take_fraction(const char *at, uint64_t *step_ns, uint64_t *ns)
{
    for (; *at >= '0' && *at <= '9'; at++) {
        *step_ns /= 10;
        *ns += *step_ns * (uint64_t)(*at - '0');
    }
    return at;
}

/* As it is written, for a double cannot hold the ns of a time since 1970. *finest_ns: of its last
 * digit. False: not such a number, or too large. */
static bool decimal(const char *text, uint64_t unit_ns, uint64_t *ns, uint64_t *finest_ns)
{
    uint64_t step_ns = unit_ns, value = 0;
    const char *at = text;
    for (; *at >= '0' && *at <= '9'; at++) {
        value = value * 10 + (uint64_t)(*at - '0');
        if (value > TIME_MOST / unit_ns)
            return false;
    }
    bool some = at != text;
    *ns = value * unit_ns;
    if (*at == '.') {
        some = some || at[1] != '\0';
        at = take_fraction(at + 1, &step_ns, ns);
    }
    *finest_ns = step_ns != 0 ? step_ns : 1;
    return some && *at == '\0';
}

/* 1.5e-3, as programs write small numbers. */
static bool scientific(const char *text, uint64_t unit_ns, uint64_t *ns, uint64_t *finest_ns)
{
    char *end;
    size_t mantissa = strcspn(text, "eE");
    const char *point = memchr(text, '.', mantissa);
    double value = strtod(text, &end) * (double)unit_ns;
    if (text[mantissa] == '\0' || *end != '\0' || !(value >= 0 && value < (double)TIME_MOST))
        return false;
    double decimals = point != NULL ? (double)(text + mantissa - point - 1) : 0;
    double finest = (double)unit_ns * pow(10, strtod(text + mantissa + 1, NULL) - decimals);
    *ns = (uint64_t)llround(value);
    *finest_ns = finest < 1 ? 1 : finest < 1e18 ? (uint64_t)llround(finest) : TIME_MOST;
    return true;
}

/* Also notes the finest digit of all times so far. */
static bool take_time(const csv *c, salvo_trace *t, char *const fields[], uint64_t *ns)
{
    static const uint64_t units_ns[] = {1, 1000, 1000000, 1000000000};
    uint64_t finest_ns;
    int k = AT_NS;
    while (c->place[k] < 0)
        k++; /* one of them is there: read_names() */
    const char *text = fields[c->place[k]];
    if (!decimal(text, units_ns[k], ns, &finest_ns) &&
        !scientific(text, units_ns[k], ns, &finest_ns))
        return false;
    if (t->resolution_ns == 0 || finest_ns < t->resolution_ns)
        t->resolution_ns = finest_ns;
    return true;
}

static uint32_t hash(const csv *c, const char *key)
{
    uint64_t h = c->salt;
    for (; *key != '\0'; key++) {
        h = (h ^ (unsigned char)*key) * UINT64_C(0x9e3779b97f4a7c15);
        h ^= h >> 29;
    }
    h = (h ^ c->salt) * UINT64_C(0xbf58476d1ce4e5b9);
    h ^= h >> 32;
    return (uint32_t)h != 0 ? (uint32_t)h : 1;
}

static int take_line(csv *c, salvo_trace *t, char *line)
{
    char *fields[FIELDS];
    int n = cut(line, fields), topic = 0;
    salvo_trace_message m = {0};
    uint64_t value;
    for (int k = 0; k < COLUMNS; k++)
        if (c->place[k] >= n)
            return bad(c, "too few columns:", line);
    if (!take_time(c, t, fields, &m.at_ns))
        return bad(c, "not a time, in", line);
    if (!whole(fields[c->place[BYTES]], UINT32_MAX, &value))
        return bad(c, "not a number of bytes:", fields[c->place[BYTES]]);
    m.value_bytes = (uint32_t)value;
    const char *key = c->place[KEY] >= 0 ? fields[c->place[KEY]] : "";
    if (*key != '\0') {
        size_t length = strlen(key);
        m.key = hash(c, key);
        m.key_bytes = length < UINT16_MAX ? (uint16_t)length : UINT16_MAX;
    }
    if (c->place[KEY_BYTES] >= 0) {
        if (!whole(fields[c->place[KEY_BYTES]], UINT16_MAX, &value))
            return bad(c, "not a number of bytes:", fields[c->place[KEY_BYTES]]);
        m.key_bytes = (uint16_t)value;
    }
    if (c->place[FATE] >= 0) {
        if (!whole(fields[c->place[FATE]], UINT32_MAX, &value))
            return bad(c, "not a fate:", fields[c->place[FATE]]);
        m.fate = (uint32_t)value;
    }
    topic = salvo_trace_topic(t, c->place[TOPIC] >= 0 ? fields[c->place[TOPIC]] : "topic");
    if (topic < 0)
        return bad(c, "too many topics:", fields[c->place[TOPIC]]);
    m.topic = (uint16_t)topic;
    (void)salvo_trace_add(t, &m); /* a trace that is full says so */
    return 0;
}

int salvo_trace_from_csv(salvo_trace *t, const char *path)
{
    csv c = {.path = path};
    char *line = salvo_cli_alloc(LINE_BYTES);
    int status = 0;
    if (getrandom(&c.salt, sizeof c.salt, 0) != sizeof c.salt ||
        (c.file = strcmp(path, "-") == 0 ? stdin : fopen(path, "re")) == NULL) {
        salvo_cli_say("record: cannot read %s: %s", path, strerror(errno));
        free(line);
        return CLI_FAILED;
    }
    while (status == 0 && !t->truncated && fgets(line, LINE_BYTES, c.file) != NULL) {
        c.line++;
        if (strlen(line) == LINE_BYTES - 1)
            status = bad(&c, "a line of more than 64 KiB:", line);
        else if (c.line == 1)
            status = read_names(&c, line);
        else if (strspn(line, " \r\n") != strlen(line))
            status = take_line(&c, t, line);
    }
    if (status == 0 && ferror(c.file)) {
        salvo_cli_say("record: cannot read %s: %s", path, strerror(errno));
        status = CLI_FAILED;
    }
    if (status == 0 && t->count == 0) {
        salvo_cli_say("%s: holds no messages", path);
        status = CLI_FAILED;
    }
    if (c.file != stdin)
        fclose(c.file);
    free(line);
    return status;
}
