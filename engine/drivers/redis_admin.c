/* SPDX-License-Identifier: Apache-2.0
 *
 * Streams made, listed, looked at and removed, and where a group stands, over a connection of
 * their own. Guarantees: a key that is no stream is never touched but by removal; a stream is made
 * in one transaction, so that of two that make it one is told that it exists; a reply's memory is
 * bounded (redis_tree.h).
 *
 * A stream exists once something is in it, or a group of it: it is made by a group, which is
 * removed at once.
 */
#include "redis_admin.h"

#include "clock.h"
#include "config_internal.h"
#include "error.h"
#include "redis_connect.h"
#include "redis_format.h"
#include "redis_internal.h"
#include "redis_tree.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MS UINT64_C(1000000)
enum {
    SLICE_MS = 100,
    REPLY_BYTES = 16 << 20,
    COMMAND_BYTES = 4096,
    LIST_MOST = 1 << 20,
    OUT_BYTES = 64 << 10
};

typedef struct redis_admin {
    salvo_redis_link link;
    salvo_redis_source source;
    salvo_redis_tree trees[2]; /* one is read into, the other is the last reply */
    const salvo_redis_tree *reply;
    bool complete;
    uint64_t end_ns;
    const char *what; /* for texts: "stream 'x'" */
    char *error;
    size_t error_size;
} redis_admin;

static uint64_t admin_now(void *clock)
{
    (void)clock;
    return salvo_clock_monotonic_ns();
}

static int fail(redis_admin *a, int err, const char *why)
{
    char place[320];
    snprintf(a->error, a->error_size, "redis: %s at %s: %s", a->what,
             salvo_redis_link_place(&a->link, place, sizeof place), why);
    return err;
}

static void admin_close(redis_admin *a)
{
    salvo_redis_link_close(&a->link);
    salvo_redis_source_close(&a->source);
    salvo_redis_tree_free(&a->trees[0]);
    salvo_redis_tree_free(&a->trees[1]);
}

/* Close it in any case. */
static int admin_open(redis_admin *a, const salvo_config *config, const char *what,
                      uint32_t timeout_ms, char *error, size_t error_size)
{
    *a = (redis_admin){.what = what, .error = error, .error_size = error_size};
    a->trees[0].most = a->trees[1].most = REPLY_BYTES;
    a->source.into = &a->trees[0];
    a->end_ns = salvo_clock_monotonic_ns() + timeout_ms * MS;
    salvo_redis_link_options link = {.config = config, .now_ns = admin_now,
                                     .out_bytes = OUT_BYTES, .in_bytes = SALVO_REDIS_IN_BYTES};
    int err = salvo_redis_link_open(&a->link, &link, error, error_size);
    if (!err && (err = salvo_redis_source_open(&a->source)) != 0)
        snprintf(error, error_size, "redis: %s: no memory for a parser", what);
    return err ? err : salvo_redis_link_wait(&a->link, timeout_ms, error, error_size);
}

static int on_reply(void *context, salvo_redis_tree *tree)
{
    redis_admin *a = context;
    if (a->complete)
        return SALVO_ERR_INVALID; /* one more than was asked for */
    a->complete = true;
    a->reply = tree;
    a->source.into = &a->trees[tree == &a->trees[0]];
    return 0;
}

/* Go on until the reply is here: 0, or why it will not come. */
static int await_reply(redis_admin *a)
{
    while (!a->complete) {
        const void *bytes;
        if (salvo_redis_link_step(&a->link) || a->link.state != SALVO_REDIS_UP)
            return fail(a, SALVO_ERR_UNREACHABLE, "the connection was lost");
        size_t n = salvo_io_input(a->link.conn, &bytes);
        int err = n > 0 ? salvo_redis_source_feed(&a->source, bytes, n, on_reply, a) : 0;
        salvo_io_consume(a->link.conn, n);
        if (err)
            return fail(a, SALVO_ERR_UNREACHABLE, "what came is no reply of a Redis server");
        if (a->complete)
            return 0;
        if (a->link.lost)
            return fail(a, SALVO_ERR_UNREACHABLE, salvo_io_conn_error(a->link.conn));
        if (salvo_clock_monotonic_ns() >= a->end_ns)
            return fail(a, SALVO_ERR_UNREACHABLE, "the server did not answer in time");
        (void)salvo_io_wait(a->link.io, SLICE_MS);
    }
    return 0;
}

/* One command: 0 and a->reply, or an error that is told. */
static int ask(redis_admin *a, size_t count, const char *const *words)
{
    char command[COMMAND_BYTES], *at = salvo_redis_put_count(command, count), text[160];
    for (size_t i = 0; i < count; i++) {
        size_t length = strlen(words[i]);
        if (length + 64 > (size_t)(command + sizeof command - at))
            return fail(a, SALVO_ERR_INVALID, "the name is too long");
        at = salvo_redis_put_bulk(at, words[i], length);
    }
    a->complete = false;
    salvo_redis_tree_clear(a->source.into);
    if (!salvo_io_put(a->link.conn, command, (size_t)(at - command)))
        return fail(a, SALVO_ERR_UNREACHABLE, "the server takes no more");
    int err = await_reply(a);
    if (err)
        return err;
    if (a->reply->no_memory || a->reply->cut || a->reply->node_count == 0)
        return fail(a, SALVO_ERR_NOMEM, "the reply is too large");
    if (salvo_redis_tree_error(a->reply, text, sizeof text)[0] != '\0')
        return fail(a, salvo_redis_judge(text).status, text);
    return 0;
}

#define ASK(a, ...)                                                                              \
    ask(a, sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *), (const char *[]){__VA_ARGS__})

/* The text of a simple reply ("none", "stream", "OK"). */
static const char *word(const redis_admin *a)
{
    const salvo_redis_node *node = a->reply->nodes;
    bool text = node->type == REDIS_REPLY_STATUS || node->type == REDIS_REPLY_STRING;
    return text ? a->reply->texts + node->value : "";
}

/* 0: it is a stream; UNKNOWN_TOPIC: there is nothing of that name; REJECTED: something else. */
static int look(redis_admin *a, const char *name)
{
    char why[64], place[320];
    int err = ASK(a, "TYPE", name);
    if (err || strcmp(word(a), "stream") == 0)
        return err;
    if (strcmp(word(a), "none") == 0) {
        snprintf(a->error, a->error_size, "redis: there is no %s at %s", a->what,
                 salvo_redis_link_place(&a->link, place, sizeof place));
        return SALVO_ERR_UNKNOWN_TOPIC;
    }
    snprintf(why, sizeof why, "it is a %.16s, no stream", word(a));
    return fail(a, SALVO_ERR_REJECTED, why);
}

/* --- create, delete -------------------------------------------------------------------------- */

static int make(redis_admin *a, const char *name)
{
    static const char group[] = "salvo-topic-creation"; /* no such group is left behind */
    int err = ASK(a, "WATCH", name);
    if (!err)
        err = look(a, name);
    if (!err)
        return fail(a, SALVO_ERR_REJECTED, "it exists");
    if (err != SALVO_ERR_UNKNOWN_TOPIC)
        return err;
    err = ASK(a, "MULTI");
    if (!err)
        err = ASK(a, "XGROUP", "CREATE", name, group, "$", "MKSTREAM");
    if (!err)
        err = ASK(a, "XGROUP", "DESTROY", name, group);
    if (!err)
        err = ASK(a, "EXEC");
    if (err)
        return err;
    if (a->reply->nodes[0].type == REDIS_REPLY_NIL)
        return fail(a, SALVO_ERR_REJECTED, "it exists: somebody else made it just now");
    for (size_t i = 1; i < a->reply->node_count; i++)
        if (a->reply->nodes[i].type == REDIS_REPLY_ERROR)
            return fail(a, SALVO_ERR_REJECTED, a->reply->texts + a->reply->nodes[i].value);
    a->error[0] = '\0';
    return 0;
}

static int redis_create(const salvo_config *config, void *shared, const salvo_topic_spec *spec,
                        uint32_t timeout_ms, char *error, size_t error_size)
{
    redis_admin a;
    char what[280];
    (void)shared;
    snprintf(what, sizeof what, "stream '%s'", spec->name);
    int err = admin_open(&a, config, what, timeout_ms, error, error_size);
    if (!err)
        err = make(&a, spec->name);
    admin_close(&a);
    return err;
}

/* By UNLINK: the server gives the memory back in the background. */
int salvo_redis_topic_delete(const salvo_config *config, const char *topic, uint32_t timeout_ms,
                             char *error, size_t error_size)
{
    redis_admin a;
    char what[280];
    snprintf(what, sizeof what, "stream '%s'", topic);
    int err = admin_open(&a, config, what, timeout_ms, error, error_size);
    if (!err)
        err = ASK(&a, "UNLINK", topic);
    admin_close(&a);
    return err;
}

/* --- list, describe -------------------------------------------------------------------------- */

typedef struct names {
    salvo_topic_info *topics;
    size_t count, room;
} names;

/* Keys that could be no topic's name (too long, not printable) are left out. */
static bool is_name(salvo_redis_text text)
{
    if (text.length == 0 || text.length > 249)
        return false;
    for (size_t i = 0; i < text.length; i++)
        if ((unsigned char)text.bytes[i] < ' ' || text.bytes[i] == 127)
            return false;
    return true;
}

static bool add_name(names *n, salvo_redis_text text)
{
    if (!is_name(text))
        return true;
    if (n->count == n->room) {
        size_t room = n->room ? 2 * n->room : 256;
        salvo_topic_info *more = realloc(n->topics, room * sizeof *more);
        if (!more || room > LIST_MOST)
            return false;
        n->topics = more;
        n->room = room;
    }
    salvo_topic_info *t = &n->topics[n->count++];
    *t = (salvo_topic_info){.partitions = 1, .replication_factor = -1, .retention_ms = -1,
                            .messages = -1};
    memcpy(t->name, text.bytes, text.length);
    return true;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const salvo_topic_info *)a)->name, ((const salvo_topic_info *)b)->name);
}

/* SCAN may name a key more than once. */
static void drop_repeated(names *n)
{
    size_t kept = 0;
    if (n->count > 1)
        qsort(n->topics, n->count, sizeof *n->topics, by_name);
    for (size_t i = 0; i < n->count; i++)
        if (i == 0 || by_name(&n->topics[i], &n->topics[kept - 1]) != 0)
            n->topics[kept++] = n->topics[i];
    n->count = kept;
}

static int scan(redis_admin *a, names *n)
{
    char cursor[32] = "0";
    do {
        salvo_redis_text text;
        uint32_t two, count;
        int err = ASK(a, "SCAN", cursor, "COUNT", "1000", "TYPE", "stream");
        if (err)
            return err;
        salvo_redis_walk walk = {.tree = a->reply};
        if (!salvo_redis_walk_array(&walk, &two) || two != 2 ||
            !salvo_redis_walk_text(&walk, &text) || text.length >= sizeof cursor ||
            !salvo_redis_walk_array(&walk, &count))
            return fail(a, SALVO_ERR_UNREACHABLE, "an answer to SCAN that is none");
        snprintf(cursor, sizeof cursor, "%s", text.bytes);
        while (count-- > 0)
            if (!salvo_redis_walk_text(&walk, &text) || !add_name(n, text))
                return fail(a, SALVO_ERR_NOMEM, "no memory for so many");
    } while (strcmp(cursor, "0") != 0);
    drop_repeated(n);
    return 0;
}

static int64_t redis_list(const salvo_config *config, void *shared, salvo_topic_info **topics,
                          uint32_t timeout_ms, char *error, size_t error_size)
{
    redis_admin a;
    names n = {0};
    (void)shared;
    int err = admin_open(&a, config, "the list of streams", timeout_ms, error, error_size);
    if (!err)
        err = scan(&a, &n);
    admin_close(&a);
    *topics = n.topics;
    return err ? err : (int64_t)n.count;
}

static int redis_describe(const salvo_config *config, void *shared, const char *name,
                          salvo_topic_info *info, uint32_t timeout_ms, char *error,
                          size_t error_size)
{
    redis_admin a;
    char what[280];
    (void)shared;
    *info = (salvo_topic_info){.partitions = 1, .replication_factor = -1, .retention_ms = -1};
    snprintf(info->name, sizeof info->name, "%s", name);
    snprintf(what, sizeof what, "stream '%s'", name);
    int err = admin_open(&a, config, what, timeout_ms, error, error_size);
    if (!err)
        err = look(&a, name);
    if (!err)
        err = ASK(&a, "XLEN", name);
    if (!err)
        info->messages = a.reply->nodes[0].value;
    admin_close(&a);
    return err;
}

const salvo_driver_topic_ops salvo_redis_topic_ops = {
    .create = redis_create,
    .list = redis_list,
    .describe = redis_describe,
};

/* --- the lag of a group ---------------------------------------------------------------------- */

static void skip(salvo_redis_walk *walk)
{
    uint64_t left = 1; /* nodes still to be passed */
    const salvo_redis_node *node;
    while (left > 0 && (node = salvo_redis_walk_next(walk)) != NULL)
        left = left - 1 + (node->type == REDIS_REPLY_ARRAY ? node->count : 0);
}

/* The value of a field of a flat map of `count` nodes; NULL: it has none. *walk ends behind it. */
static const salvo_redis_node *field(salvo_redis_walk walk, uint32_t count, const char *name)
{
    const salvo_redis_node *found = NULL;
    salvo_redis_text key;
    for (uint32_t i = 0; i + 1 < count && !found; i += 2) {
        if (!salvo_redis_walk_text(&walk, &key))
            return NULL;
        if (strcmp(key.bytes, name) == 0)
            found = salvo_redis_walk_next(&walk);
        else
            skip(&walk);
    }
    return found;
}

static int64_t number_of(const salvo_redis_node *node)
{
    return node && node->type == REDIS_REPLY_INTEGER ? node->value : -1;
}

/* The offset behind an entry; 0 where there was none yet, -1 where it has none (redis_reply.h). */
static int64_t behind(const salvo_redis_tree *tree, const salvo_redis_node *node)
{
    if (!node || node->type != REDIS_REPLY_STRING)
        return -1;
    int64_t offset = salvo_redis_offset(tree->texts + node->value, node->count);
    return offset > 0 ? offset + 1 : offset;
}

typedef struct standing { /* of a group */
    bool there;
    int64_t pending, waiting; /* given and not acknowledged; not given yet (-1: not known) */
    int64_t delivered;        /* behind the last entry that was given */
} standing;

static int look_at_group(redis_admin *a, const char *group, const char *topic, standing *s)
{
    uint32_t groups, fields;
    int err = ASK(a, "XINFO", "GROUPS", topic);
    if (err)
        return err;
    salvo_redis_walk walk = {.tree = a->reply};
    (void)salvo_redis_walk_array(&walk, &groups);
    for (uint32_t i = 0; i < groups && !s->there; i++) {
        salvo_redis_walk at = walk;
        skip(&walk);
        (void)salvo_redis_walk_array(&at, &fields);
        const salvo_redis_node *name = field(at, fields, "name");
        if (!name || name->type != REDIS_REPLY_STRING ||
            strcmp(a->reply->texts + name->value, group) != 0)
            continue;
        s->there = true;
        s->pending = number_of(field(at, fields, "pending"));
        s->waiting = number_of(field(at, fields, "lag")); /* absent before Redis 7 */
        s->delivered = behind(a->reply, field(at, fields, "last-delivered-id"));
    }
    return 0;
}

/* Behind which entry nothing is settled for sure: the oldest that is pending. */
static int find_committed(redis_admin *a, const char *group, const char *topic, const standing *s,
                          salvo_lag *lag)
{
    lag->committed = s->delivered;
    if (s->pending <= 0)
        return 0;
    uint32_t count;
    salvo_redis_text oldest;
    int64_t pending;
    int err = ASK(a, "XPENDING", topic, group);
    if (err)
        return err;
    salvo_redis_walk walk = {.tree = a->reply};
    if (salvo_redis_walk_array(&walk, &count) && salvo_redis_walk_number(&walk, &pending) &&
        salvo_redis_walk_text(&walk, &oldest))
        lag->committed = salvo_redis_offset(oldest.bytes, oldest.length);
    return 0;
}

static int look_at_stream(redis_admin *a, const char *topic, int64_t *length, int64_t *end)
{
    uint32_t count;
    int err = ASK(a, "XINFO", "STREAM", topic);
    if (err)
        return err;
    salvo_redis_walk walk = {.tree = a->reply};
    (void)salvo_redis_walk_array(&walk, &count);
    *length = number_of(field(walk, count, "length"));
    *end = behind(a->reply, field(walk, count, "last-generated-id"));
    return 0;
}

/* Of a group that is not there yet: where its first consumer would make it begin. */
static int64_t lag_of_none(const salvo_config *config, int64_t length)
{
    if (salvo_config_is(config, "kafka_auto_offset_reset", "earliest"))
        return length;
    return salvo_config_is(config, "kafka_auto_offset_reset", "latest") ? 0 : -1;
}

static int stand(redis_admin *a, const salvo_config *config, const char *group, const char *topic,
                 salvo_lag *lag)
{
    standing s = {0};
    int64_t length = 0;
    int err = look(a, topic);
    if (!err)
        err = look_at_group(a, group, topic, &s);
    if (!err && s.there)
        err = find_committed(a, group, topic, &s, lag);
    if (!err)
        err = look_at_stream(a, topic, &length, &lag->end);
    if (err)
        return err;
    if (!s.there) {
        lag->lag = lag_of_none(config, length);
        return 0;
    }
    if (s.waiting < 0 && s.delivered == 0)
        s.waiting = length;
    else if (s.waiting < 0 && s.delivered >= lag->end)
        s.waiting = 0;
    lag->lag = s.waiting < 0 || s.pending < 0 ? -1 : s.waiting + s.pending;
    return 0;
}

int64_t salvo_redis_group_lag(const salvo_config *config, void *shared, const char *group,
                              const char *topic, salvo_lag *lags, size_t max,
                              uint32_t timeout_ms, char *error, size_t error_size)
{
    redis_admin a;
    char what[280];
    salvo_lag lag = {.committed = -1, .end = -1, .lag = -1};
    (void)shared;
    snprintf(lag.topic, sizeof lag.topic, "%s", topic);
    snprintf(what, sizeof what, "stream '%s'", topic);
    int err = admin_open(&a, config, what, timeout_ms, error, error_size);
    if (!err)
        err = stand(&a, config, group, topic, &lag);
    admin_close(&a);
    if (err)
        return err;
    if (max > 0)
        lags[0] = lag;
    return 1;
}
