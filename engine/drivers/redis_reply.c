/* SPDX-License-Identifier: Apache-2.0
 *
 * Replies; see redis_reply.h. The reader builds no objects: its callbacks note what came in the
 * parser's one reply and return a token that only says "present".
 */
#include "redis_reply.h"

#include "error.h"
#include <stdio.h>
#include <string.h>

enum { FEED_BYTES = 4096, SEQ_BITS = 20, ID_MAX = 48 };

static char present; /* hiredis takes NULL for out of memory */

static salvo_redis_part *part_of(const redisReadTask *task)
{
    salvo_redis_parser *p = task->privdata;
    if (!task->parent)
        return &p->reply.whole;
    bool kept = !task->parent->parent && task->idx >= 0 && task->idx < SALVO_REDIS_PARTS;
    return kept ? &p->reply.parts[task->idx] : NULL;
}

static void note(const redisReadTask *task, int type, int64_t number)
{
    salvo_redis_part *part = part_of(task);
    if (part)
        *part = (salvo_redis_part){.type = type, .number = number};
}

static bool parse_number(const char **at, const char *end, uint64_t limit, uint64_t *out)
{
    const char *from = *at;
    uint64_t n = 0;
    for (; *at != end && **at >= '0' && **at <= '9'; ++*at) {
        n = 10 * n + (uint64_t)(**at - '0');
        if (n > limit)
            return false;
    }
    *out = n;
    return *at != from;
}

int64_t salvo_redis_offset(const char *id, size_t length)
{
    const char *at = id, *end = id + length;
    uint64_t ms, seq;
    if (length > ID_MAX || !parse_number(&at, end, (UINT64_C(1) << (63 - SEQ_BITS)) - 1, &ms) ||
        at == end || *at++ != '-' || !parse_number(&at, end, (1u << SEQ_BITS) - 1, &seq) ||
        at != end)
        return -1;
    return (int64_t)(ms << SEQ_BITS | seq);
}

/* A server's text goes to logs and terminals: one line, printable. */
static void keep_text(salvo_redis_parser *p, const char *text, size_t length)
{
    size_t n = length < SALVO_REDIS_TEXT - 1 ? length : SALVO_REDIS_TEXT - 1;
    for (size_t i = 0; i < n; i++)
        p->reply.text[i] = text[i] >= ' ' && text[i] < 127 ? text[i] : '?';
    p->reply.text[n] = '\0';
}

static void *on_string(const redisReadTask *task, char *text, size_t length)
{
    int64_t offset = -1;
    if (task->type == REDIS_REPLY_STRING)
        offset = salvo_redis_offset(text, length);
    if (offset < 0)
        keep_text(task->privdata, text, length);
    if (task->type == REDIS_REPLY_ERROR)
        offset = salvo_redis_judge(((salvo_redis_parser *)task->privdata)->reply.text).status;
    note(task, task->type, offset);
    return &present;
}

static void *on_array(const redisReadTask *task, int elements)
{
    salvo_redis_parser *p = task->privdata;
    note(task, REDIS_REPLY_ARRAY, -1);
    if (!task->parent)
        p->reply.count = (uint32_t)elements;
    return &present;
}

static void *on_integer(const redisReadTask *task, long long number)
{
    note(task, REDIS_REPLY_INTEGER, number);
    return &present;
}

static void *on_nil(const redisReadTask *task)
{
    note(task, REDIS_REPLY_NIL, -1);
    return &present;
}

static void on_free(void *object)
{
    (void)object;
}

int salvo_redis_parser_open(salvo_redis_parser *p)
{
    static redisReplyObjectFunctions functions = {on_string, on_array, on_integer, on_nil, on_free};
    memset(p, 0, sizeof *p);
    p->reader = redisReaderCreateWithFunctions(&functions);
    if (!p->reader)
        return SALVO_ERR_NOMEM;
    p->reader->privdata = p;
    p->reader->maxbuf = 0; /* keep the buffer */
    return 0;
}

void salvo_redis_parser_close(salvo_redis_parser *p)
{
    if (p->reader)
        redisReaderFree(p->reader);
    p->reader = NULL;
}

int salvo_redis_parser_reset(salvo_redis_parser *p)
{
    salvo_redis_parser_close(p);
    return salvo_redis_parser_open(p);
}

static int broken(salvo_redis_parser *p, const char *why)
{
    snprintf(p->error, sizeof p->error, "what came is no reply of a Redis server: %s", why);
    return SALVO_ERR_INVALID;
}

int salvo_redis_parser_run(salvo_redis_parser *p, const void *bytes, size_t n,
                           int (*on_reply)(void *context, const salvo_redis_reply *reply),
                           void *context)
{
    const char *at = bytes;
    while (n > 0) {
        size_t some = n < FEED_BYTES ? n : FEED_BYTES;
        if (redisReaderFeed(p->reader, at, some) != REDIS_OK)
            return broken(p, p->reader->errstr);
        at += some;
        n -= some;
        for (;;) {
            void *object = NULL;
            if (redisReaderGetReply(p->reader, &object) != REDIS_OK)
                return broken(p, p->reader->errstr);
            if (!object)
                break;
            int stop = on_reply(context, &p->reply);
            if (stop)
                return stop;
        }
        if (p->reader->len - p->reader->pos > SALVO_REDIS_REPLY_MAX)
            return broken(p, "a reply is too large");
    }
    return 0;
}

typedef struct rule {
    const char *begins;
    int32_t status;
    bool reconnect;
} rule;

/* The first that fits. Codes are the first word of an error; ERR needs more of its text. */
static const rule rules[] = {
    {"OOM ", SALVO_ERR_TRANSIENT, false},
    {"BUSY ", SALVO_ERR_TRANSIENT, false},
    {"MISCONF ", SALVO_ERR_TRANSIENT, false},    /* it cannot write its disk */
    {"NOREPLICAS ", SALVO_ERR_TRANSIENT, false},
    {"TRYAGAIN ", SALVO_ERR_TRANSIENT, false},
    {"CLUSTERDOWN ", SALVO_ERR_TRANSIENT, false},
    {"SALVOGAP ", SALVO_ERR_TRANSIENT, false},   /* ours: something before it is missing */
    {"SALVOFENCED ", SALVO_ERR_TRANSIENT, true}, /* ours: a later connection spoke */
    {"LOADING ", SALVO_ERR_TRANSIENT, true},
    {"READONLY ", SALVO_ERR_TRANSIENT, true},    /* a replica now: the name may lead elsewhere */
    {"MASTERDOWN ", SALVO_ERR_TRANSIENT, true},
    {"ERR Function not found", SALVO_ERR_TRANSIENT, true}, /* the login loads it */
    {"ERR max number of clients", SALVO_ERR_TRANSIENT, true},
    {"ERR Protocol error: invalid bulk length", SALVO_ERR_TOO_LARGE, true},
    {"ERR Protocol error", SALVO_ERR_REJECTED, true},
    {"NOAUTH ", SALVO_ERR_AUTH, true},
    {"NOPERM ", SALVO_ERR_AUTH, false},
    {"WRONGPASS ", SALVO_ERR_AUTH, true},
    {"SALVONOSTREAM ", SALVO_ERR_UNKNOWN_TOPIC, false}, /* ours: NOMKSTREAM and none is there */
    /* WRONGTYPE, MOVED and ASK (a cluster, with which we do not speak), NOGROUP, other ERR */
    {"", SALVO_ERR_REJECTED, false},
};

salvo_redis_verdict salvo_redis_judge(const char *error)
{
    const rule *r = rules;
    while (strncmp(error, r->begins, strlen(r->begins)) != 0)
        r++;
    return (salvo_redis_verdict){.status = r->status, .reconnect = r->reconnect};
}
