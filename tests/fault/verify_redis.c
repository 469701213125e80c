/* SPDX-License-Identifier: Apache-2.0
 *
 * Redis' store for the verifier, by hiredis: XRANGE from where the last one ended, XTRIM behind
 * it, the stream removed at the end. A server that is away is connected to anew.
 */
#include "fault.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { AT_ONCE = 2000 };

typedef struct redis_store {
    redisContext *c; /* NULL: not connected */
    char last[64];   /* the id that was read last */
} redis_store;

/* NULL: no answer; the connection is given up and made anew at the next call. */
static redisReply *ask(redis_store *r, fault_shared *s, int argc, const char **argv)
{
    redisReply *reply = NULL;
    if (r->c == NULL) {
        char host[64];
        const char *colon = strchr(s->address, ':');
        snprintf(host, sizeof host, "%.*s", (int)(colon - s->address), s->address);
        r->c = redisConnectWithTimeout(host, atoi(colon + 1), (struct timeval){1, 0});
        if (r->c != NULL && r->c->err == 0)
            redisSetTimeout(r->c, (struct timeval){2, 0});
    }
    if (r->c != NULL && r->c->err == 0)
        reply = redisCommandArgv(r->c, argc, argv, NULL);
    if (reply == NULL && r->c != NULL) {
        redisFree(r->c);
        r->c = NULL;
    }
    return reply;
}

static int create(fault_shared *s)
{
    (void)s;
    return 0; /* the first XADD does */
}

static void *open_store(fault_shared *s, salvo *producer)
{
    (void)s;
    (void)producer;
    redis_store *r = calloc(1, sizeof *r);
    if (r != NULL)
        snprintf(r->last, sizeof r->last, "0-0");
    return r;
}

static const redisReply *field(const redisReply *entry, const char *name)
{
    for (size_t i = 0; i + 1 < entry->elements; i += 2)
        if (strcmp(entry->element[i]->str, name) == 0)
            return entry->element[i + 1];
    return NULL;
}

static void take(redis_store *r, fault_shared *s, const redisReply *entry)
{
    const redisReply *value = field(entry->element[1], "value");
    const redisReply *key = field(entry->element[1], "key");
    snprintf(r->last, sizeof r->last, "%s", entry->element[0]->str);
    fault_take(s, key != NULL ? key->str : "", key != NULL ? key->len : 0,
               value != NULL ? value->str : "", value != NULL ? value->len : 0, false);
}

static int read_some(void *store, fault_shared *s)
{
    redis_store *r = store;
    char from[80], most[16];
    snprintf(from, sizeof from, "(%s", r->last);
    snprintf(most, sizeof most, "%d", AT_ONCE);
    const char *range[] = {"XRANGE", s->topic, from, "+", "COUNT", most};
    redisReply *reply = ask(r, s, 6, range);
    int n = 0;
    if (reply != NULL && reply->type == REDIS_REPLY_ARRAY)
        for (; n < (int)reply->elements; n++)
            take(r, s, reply->element[n]);
    if (reply != NULL)
        freeReplyObject(reply); /* an error (LOADING) is waited for, like no answer */
    if (n > 0) {
        const char *trim[] = {"XTRIM", s->topic, "MINID", r->last};
        reply = ask(r, s, 4, trim);
        if (reply != NULL)
            freeReplyObject(reply);
    }
    return n;
}

static void close_store(void *store, fault_shared *s)
{
    redis_store *r = store;
    const char *del[] = {"DEL", s->topic};
    redisReply *reply = ask(r, s, 2, del);
    if (reply != NULL)
        freeReplyObject(reply);
    if (r->c != NULL)
        redisFree(r->c);
    free(r);
}

const fault_store fault_store_redis = {"redis", create, open_store, read_some, close_store};
