/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading a stream back, for tools and tests, by XREAD: no group is joined, nothing is changed on
 * the server. Guarantees: entries in the order of their ids, each once, also across reconnects;
 * with stop_at_end those up to the last one found at the open; memory stays under
 * READ_BYTES + 2 * max_message_bytes and a part, whatever the stream holds. Fields that are none
 * of the driver's (redis_format.h) come as headers of their own names.
 */
#include "redis_internal.h"

#include "clock.h"
#include "config_internal.h"
#include "error.h"
#include "redis_record.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MS UINT64_C(1000000)

enum {
    OPEN_MS = 10000,
    BLOCK_MS = 500,
    READ_BYTES = 16 << 20, /* of one reply that are kept */
    COUNT_FIRST = 16,
    COUNT_MOST = 1024,
    FEW_BYTES = 64 << 10,
    ID_TEXT = 48
};

typedef struct entry_id {
    uint64_t ms, seq;
} entry_id;

typedef struct span { /* of the arena */
    size_t at, length;
} span;

typedef struct stored { /* an entry: its fields are spans[first .. first + count) */
    entry_id id;
    size_t first, count;
} stored;

typedef struct redis_reader {
    salvo_redis_link link;
    redisReader *parser;
    char *topic;
    size_t most_bytes; /* of a message */
    bool stop_at_end;
    entry_id last, end; /* the last one that was given; the last one to give */
    bool asked;         /* a reply is owed */
    uint32_t count;     /* to ask for */

    /* The reply that is being read. */
    bool complete, overflow, no_memory;
    int type;           /* of the whole */
    long long number;
    char error[SALVO_REDIS_TEXT];
    int id_depth;       /* where entry ids lie in it */
    char *arena;
    size_t used, room;
    span *spans;
    size_t span_count, span_room;
    stored *entries;
    size_t entry_count, entry_room, next;

    void *unpacked;     /* of the record that is shown */
    salvo_header *headers;
    size_t header_room;
} redis_reader;

static char present;

static uint64_t reader_now(void *clock)
{
    (void)clock;
    return salvo_clock_monotonic_ns();
}

static bool grow(void **array, size_t *room, size_t count, size_t size)
{
    if (count < *room)
        return true;
    size_t more = *room ? 2 * *room : 64;
    void *grown = realloc(*array, more * size);
    if (!grown)
        return false;
    *array = grown;
    *room = more;
    return true;
}

static bool arena_keep(redis_reader *r, const char *bytes, size_t n, span *out)
{
    if (r->used + n + 1 > r->room) {
        size_t more = 2 * r->room > r->used + n + 1 ? 2 * r->room : r->used + n + 1;
        char *grown = realloc(r->arena, more);
        if (!grown)
            return false;
        r->arena = grown;
        r->room = more;
    }
    *out = (span){r->used, n};
    memcpy(r->arena + r->used, bytes, n);
    r->arena[r->used + n] = '\0';
    r->used += n + 1;
    return true;
}

static int depth_of(const redisReadTask *task)
{
    int depth = 0;
    while ((task = task->parent))
        depth++;
    return depth;
}

static bool parse_id(const char *text, entry_id *id)
{
    char *end;
    if (text[0] < '0' || text[0] > '9')
        return false;
    id->ms = strtoull(text, &end, 10);
    if (*end != '-' || end[1] < '0' || end[1] > '9')
        return false;
    id->seq = strtoull(end + 1, &end, 10);
    return *end == '\0';
}

static void begin_entry(redis_reader *r, const char *text, size_t length)
{
    char id[ID_TEXT];
    snprintf(id, sizeof id, "%.*s", (int)(length < sizeof id ? length : sizeof id - 1), text);
    if (!grow((void **)(void *)&r->entries, &r->entry_room, r->entry_count, sizeof *r->entries)) {
        r->no_memory = true;
        return;
    }
    stored *e = &r->entries[r->entry_count];
    *e = (stored){.first = r->span_count};
    if (parse_id(id, &e->id))
        r->entry_count++;
}

static void *on_string(const redisReadTask *task, char *text, size_t length)
{
    redis_reader *r = task->privdata;
    int depth = depth_of(task);
    if (depth == 0) {
        r->type = task->type;
        snprintf(r->error, sizeof r->error, "%.*s", (int)(length < 150 ? length : 150), text);
        for (char *c = r->error; *c; c++) /* it goes to terminals: one line, printable */
            *c = *c >= ' ' && *c < 127 ? *c : '?';
    } else if (r->no_memory || r->overflow) {
        return &present;
    } else if (depth == r->id_depth && task->idx == 0) {
        begin_entry(r, text, length);
    } else if (depth == r->id_depth + 1 && r->entry_count > 0) {
        if (r->used > 0 && r->used + length > READ_BYTES + 2 * r->most_bytes) {
            r->overflow = true;
        } else if (!grow((void **)(void *)&r->spans, &r->span_room, r->span_count,
                         sizeof *r->spans) ||
                   !arena_keep(r, text, length, &r->spans[r->span_count])) {
            r->no_memory = true;
        } else {
            r->span_count++;
            r->entries[r->entry_count - 1].count++;
        }
    }
    return &present;
}

static void *on_array(const redisReadTask *task, int elements)
{
    redis_reader *r = task->privdata;
    (void)elements;
    if (!task->parent)
        r->type = REDIS_REPLY_ARRAY;
    return &present;
}

static void *on_integer(const redisReadTask *task, long long number)
{
    redis_reader *r = task->privdata;
    if (!task->parent) {
        r->type = REDIS_REPLY_INTEGER;
        r->number = number;
    }
    return &present;
}

static void *on_nil(const redisReadTask *task)
{
    redis_reader *r = task->privdata;
    if (!task->parent)
        r->type = REDIS_REPLY_NIL;
    return &present;
}

static void on_free(void *object)
{
    (void)object;
}

static int new_parser(redis_reader *r)
{
    static redisReplyObjectFunctions functions = {on_string, on_array, on_integer, on_nil, on_free};
    if (r->parser)
        redisReaderFree(r->parser);
    r->asked = false;
    r->parser = redisReaderCreateWithFunctions(&functions);
    if (!r->parser)
        return SALVO_ERR_NOMEM;
    r->parser->privdata = r;
    return 0;
}

void salvo_redis_reader_close(void *reader)
{
    redis_reader *r = reader;
    salvo_redis_link_close(&r->link);
    if (r->parser)
        redisReaderFree(r->parser);
    free(r->topic);
    free(r->arena);
    free(r->spans);
    free(r->entries);
    free(r->unpacked);
    free(r->headers);
    free(r);
}

/* A command of `count` words; its reply has entry ids at id_depth. */
static bool ask(redis_reader *r, size_t count, const char *const *words, int id_depth)
{
    char text[1024], *at = salvo_redis_put_count(text, count);
    for (size_t i = 0; i < count; i++)
        at = salvo_redis_put_bulk(at, words[i], strlen(words[i]));
    if (!salvo_io_put(r->link.conn, text, (size_t)(at - text)))
        return false;
    r->asked = true;
    r->complete = r->overflow = r->no_memory = false;
    r->id_depth = id_depth;
    r->used = r->span_count = r->entry_count = r->next = 0;
    return true;
}

/* Parse what arrived. NULL, or why the connection is of no more use. */
static const char *take_input(redis_reader *r)
{
    const void *bytes;
    size_t n = salvo_io_input(r->link.conn, &bytes);
    const char *why = NULL;
    if (n == 0)
        return NULL;
    void *object = NULL;
    if (redisReaderFeed(r->parser, bytes, n) != REDIS_OK ||
        redisReaderGetReply(r->parser, &object) != REDIS_OK)
        why = "what came is no reply of a Redis server";
    else if (r->parser->len - r->parser->pos > SALVO_REDIS_REPLY_MAX + 2 * r->most_bytes)
        why = "an entry is much larger than max_message_bytes";
    else if (object && !r->asked)
        why = "a reply came that nobody asked for";
    else if (object)
        r->complete = true;
    salvo_io_consume(r->link.conn, n);
    return why;
}

/* Move on, waiting up to wait_ms. False: the connection is not up, or was lost. */
static bool go_on(redis_reader *r, uint64_t wait_ms)
{
    if (salvo_redis_link_step(&r->link) && new_parser(r))
        salvo_redis_link_drop(&r->link, "no memory for a parser");
    if (r->link.state == SALVO_REDIS_UP && !r->complete) {
        const char *why = take_input(r);
        if (!why && r->link.lost)
            why = salvo_io_conn_error(r->link.conn);
        if (why) {
            salvo_redis_link_drop(&r->link, why);
            r->asked = false;
        }
    }
    if (!r->complete && wait_ms > 0)
        salvo_io_wait(r->link.io, wait_ms);
    return r->link.state == SALVO_REDIS_UP;
}

static uint64_t left_ms(uint64_t deadline_ns)
{
    uint64_t now = salvo_clock_monotonic_ns();
    return now < deadline_ns ? (deadline_ns - now + MS - 1) / MS : 0;
}

static uint64_t deadline_in(uint64_t ms)
{
    uint64_t now = salvo_clock_monotonic_ns();
    return ms < (UINT64_MAX - now) / MS ? now + ms * MS : UINT64_MAX;
}

static int no_answer(redis_reader *r, char *error, size_t error_size)
{
    char place[320];
    snprintf(error, error_size, "redis: %s did not answer in time for stream '%s'%s%s",
             salvo_redis_link_place(&r->link, place, sizeof place), r->topic,
             r->link.why[0] ? ": " : "", r->link.why);
    return r->link.refusal ? r->link.refusal : SALVO_ERR_UNREACHABLE;
}

/* For the open: one command and its reply. */
static int ask_and_wait(redis_reader *r, size_t count, const char *const *words, int id_depth,
                        uint64_t deadline_ns, char *error, size_t error_size)
{
    r->asked = r->complete = false;
    while (!r->complete) {
        uint64_t left = left_ms(deadline_ns);
        bool up = go_on(r, r->asked || r->link.state != SALVO_REDIS_UP
                               ? (left < BLOCK_MS ? left : BLOCK_MS) : 0);
        if (up && !r->asked)
            ask(r, count, words, id_depth);
        if (!r->complete && (left == 0 || r->link.refusal))
            return no_answer(r, error, error_size);
    }
    r->asked = r->complete = false;
    if (r->type != REDIS_REPLY_ERROR)
        return 0;
    snprintf(error, error_size, "redis: stream '%s': %s", r->topic, r->error);
    return salvo_redis_judge(r->error).status;
}

/* Is it there, and where does it end? */
static int look(redis_reader *r, bool from_end, uint64_t deadline_ns, char *error,
                size_t error_size)
{
    char place[320];
    const char *const exists[] = {"EXISTS", r->topic};
    const char *const newest[] = {"XREVRANGE", r->topic, "+", "-", "COUNT", "1"};
    int err = ask_and_wait(r, 2, exists, 9, deadline_ns, error, error_size);
    if (!err && r->type == REDIS_REPLY_INTEGER && r->number == 0) {
        snprintf(error, error_size, "redis: there is no stream '%s' at %s", r->topic,
                 salvo_redis_link_place(&r->link, place, sizeof place));
        return SALVO_ERR_UNKNOWN_TOPIC;
    }
    if (!err)
        err = ask_and_wait(r, 6, newest, 2, deadline_ns, error, error_size);
    if (err)
        return err;
    entry_id end = r->entry_count > 0 ? r->entries[0].id : (entry_id){0};
    r->entry_count = 0;
    r->end = end;
    if (from_end)
        r->last = end;
    return 0;
}

/* A reader whose connection is up; NULL with an error. */
static redis_reader *connect_reader(const salvo_config *config, const char *topic,
                                    uint64_t open_ms, int *err, char *error, size_t error_size)
{
    *err = SALVO_ERR_NOMEM;
    snprintf(error, error_size, "redis reader: no memory");
    redis_reader *r = calloc(1, sizeof *r);
    if (!r)
        return NULL;
    r->most_bytes = (size_t)salvo_config_int(config, "max_message_bytes");
    r->count = COUNT_FIRST;
    r->topic = strlen(topic) < 512 ? strdup(topic) : NULL;
    salvo_redis_link_options link = {.config = config, .now_ns = reader_now,
                                     .out_bytes = FEW_BYTES, .in_bytes = SALVO_REDIS_IN_BYTES};
    *err = salvo_redis_link_open(&r->link, &link, error, error_size);
    if (!*err)
        *err = r->topic ? new_parser(r) : SALVO_ERR_NOMEM;
    if (!*err)
        *err = salvo_redis_link_wait(&r->link, open_ms, error, error_size);
    if (!*err)
        return r;
    salvo_redis_reader_close(r);
    return NULL;
}

int salvo_redis_reader_open(const salvo_config *config, void *shared, const char *topic,
                            const salvo_reader_options *options, void **reader, char *error,
                            size_t error_size)
{
    (void)shared;
    *reader = NULL;
    int err;
    uint64_t open_ms = options && options->open_timeout_ms ? options->open_timeout_ms : OPEN_MS;
    uint64_t deadline_ns = deadline_in(open_ms);
    redis_reader *r = connect_reader(config, topic, open_ms, &err, error, error_size);
    if (!r)
        return err;
    r->stop_at_end = options && options->stop_at_end;
    err = look(r, options && options->from_end, deadline_ns, error, error_size);
    if (err) {
        salvo_redis_reader_close(r);
        return err;
    }
    *reader = r;
    error[0] = '\0';
    return 0;
}

/* The value as it was before it was compressed. */
static int unpack(redis_reader *r, salvo_record *record, const salvo_codec *codec, char *error,
                  size_t error_size)
{
    int err = salvo_redis_record_unpack(record, codec, r->most_bytes, &r->unpacked);
    if (err)
        snprintf(error, error_size, "redis: stream '%s': an entry's value cannot be read as %s%s",
                 r->topic, codec->content_encoding,
                 err == SALVO_ERR_TOO_LARGE ? ": it is larger than max_message_bytes" : "");
    return err;
}

static int take_field(redis_reader *r, salvo_record *record, span name, span value,
                      const salvo_codec **codec)
{
    if (!grow((void **)(void *)&r->headers, &r->header_room, record->header_count,
              sizeof *r->headers))
        return SALVO_ERR_NOMEM;
    salvo_redis_record_field(record, r->headers,
                             (salvo_redis_text){r->arena + name.at, name.length},
                             (salvo_redis_text){r->arena + value.at, value.length}, codec);
    return 0;
}

static int show(redis_reader *r, const stored *e, salvo_record *record, char *error,
                size_t error_size)
{
    const salvo_codec *codec = NULL;
    char id[ID_TEXT];
    int n = snprintf(id, sizeof id, "%llu-%llu", (unsigned long long)e->id.ms,
                     (unsigned long long)e->id.seq), err = 0;
    free(r->unpacked);
    r->unpacked = NULL;
    *record = (salvo_record){.topic = r->topic, .offset = salvo_redis_offset(id, (size_t)n),
                             .timestamp_ms = (int64_t)e->id.ms};
    for (size_t i = 0; !err && i + 1 < e->count; i += 2)
        err = take_field(r, record, r->spans[e->first + i], r->spans[e->first + i + 1], &codec);
    record->headers = r->headers;
    if (!err && codec && record->value)
        err = unpack(r, record, codec, error, error_size);
    return err;
}

static bool behind(entry_id a, entry_id b)
{
    return a.ms != b.ms ? a.ms > b.ms : a.seq >= b.seq;
}

static void ask_for_more(redis_reader *r, uint64_t left)
{
    char count[16], block[24], id[ID_TEXT];
    snprintf(count, sizeof count, "%u", r->count);
    snprintf(block, sizeof block, "%llu",
             (unsigned long long)(left == 0 ? 1 : left < BLOCK_MS ? left : BLOCK_MS));
    snprintf(id, sizeof id, "%llu-%llu", (unsigned long long)r->last.ms,
             (unsigned long long)r->last.seq);
    const char *const words[] = {"XREAD", "COUNT", count, "BLOCK", block, "STREAMS", r->topic, id};
    const char *const at_once[] = {"XREAD", "COUNT", count, "STREAMS", r->topic, id};
    if (r->stop_at_end)
        ask(r, 6, at_once, 4);
    else
        ask(r, 8, words, 4);
}

/* The reply is here. 0: look again; else what the caller gets. */
static int judge_reply(redis_reader *r, char *error, size_t error_size)
{
    bool full = r->entry_count == r->count;
    r->asked = r->complete = false;
    if (r->type == REDIS_REPLY_ERROR) {
        snprintf(error, error_size, "redis: stream '%s': %s", r->topic, r->error);
        return salvo_redis_judge(r->error).status;
    }
    if (r->no_memory)
        return SALVO_ERR_NOMEM;
    if (r->overflow) { /* the last one is cut short; the others are whole */
        r->entry_count = r->entry_count > 0 ? r->entry_count - 1 : 0;
        bool alone = r->count == 1;
        r->count = r->count > 1 ? r->count / 2 : 1;
        if (r->entry_count > 0 || !alone)
            return 0;
        snprintf(error, error_size, "redis: stream '%s': an entry is much larger than "
                 "max_message_bytes", r->topic);
        return SALVO_ERR_TOO_LARGE;
    }
    if (full && r->used < FEW_BYTES && r->count < COUNT_MOST)
        r->count *= 2;
    else if (r->used > READ_BYTES / 4 && r->count > 1)
        r->count /= 2;
    return r->type == REDIS_REPLY_NIL && r->stop_at_end ? SALVO_ERR_END : 0;
}

int salvo_redis_reader_next(void *reader, uint64_t timeout_ms, salvo_record *record, char *error,
                            size_t error_size)
{
    redis_reader *r = reader;
    uint64_t deadline_ns = deadline_in(timeout_ms);
    for (;;) {
        if (r->stop_at_end && behind(r->last, r->end))
            return SALVO_ERR_END;
        if (!r->asked && r->next < r->entry_count) {
            const stored *e = &r->entries[r->next++];
            r->last = e->id;
            return show(r, e, record, error, error_size);
        }
        uint64_t left = left_ms(deadline_ns);
        bool wait = r->asked || r->link.state != SALVO_REDIS_UP;
        bool up = go_on(r, wait ? (left < BLOCK_MS ? left : BLOCK_MS) : 0);
        if (r->complete) {
            int err = judge_reply(r, error, error_size);
            if (err)
                return err;
            continue;
        }
        if (up && !r->asked)
            ask_for_more(r, left);
        if (r->link.refusal)
            return no_answer(r, error, error_size);
        if (left == 0) {
            snprintf(error, error_size, "redis: nothing new in stream '%s'%s%s", r->topic,
                     r->link.why[0] ? "; last trouble: " : "", r->link.why);
            return SALVO_ERR_TIMEOUT;
        }
    }
}
