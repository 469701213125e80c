/* SPDX-License-Identifier: Apache-2.0
 *
 * Replies: each settles what was sent first and not yet answered. Guarantees: a reply is believed
 * only where one is owed; an answer of another kind than the command can have ends the connection;
 * a refusal that a retry may mend sends what is unsent of its topic back with it, in order.
 */
#include "redis_internal.h"

#include "error.h"
#include <stdio.h>
#include <string.h>

static void log_once(salvo_redis *h, const salvo_redis_flight *f, const char *text)
{
    if (strcmp(h->trouble, text) == 0)
        return;
    snprintf(h->trouble, sizeof h->trouble, "%s", text);
    salvo_log(SALVO_LOG_WARNING, "redis: topic \"%s\": %s", h->topics[f->topic].name, text);
}

static int end_connection(salvo_redis *h, const char *why)
{
    snprintf(h->link.why, sizeof h->link.why, "%s", why);
    return 1;
}

static void settle_some(salvo_redis *h, const salvo_redis_flight *f, uint32_t to, int32_t status,
                        int64_t offset)
{
    if (f->slot != SALVO_REDIS_NONE)
        salvo_redis_settle(h, &h->entries[f->slot], to, status, offset);
}

/* An error for messages [from, the flight's end). */
static int refuse(salvo_redis *h, const salvo_redis_flight *f, uint32_t from, const char *text,
                  bool only_first)
{
    salvo_redis_verdict verdict = salvo_redis_judge(text);
    uint32_t end = f->first + f->count;
    bool gap = strncmp(text, "SALVOGAP", 8) == 0;
    if (!gap)
        log_once(h, f, text);
    if (only_first && verdict.status != SALVO_ERR_UNKNOWN_TOPIC && from + 1 < end) {
        settle_some(h, f, from + 1, verdict.status, -1);
        settle_some(h, f, end, SALVO_ERR_TRANSIENT, -1); /* the function stopped there */
    } else {
        settle_some(h, f, end, verdict.status, -1);
    }
    if (h->once || verdict.status == SALVO_ERR_TRANSIENT)
        salvo_redis_doom(h, f->topic);
    return verdict.reconnect ? end_connection(h, text) : 0;
}

static int added(salvo_redis *h, const salvo_redis_flight *f, const salvo_redis_reply *reply)
{
    switch (reply->whole.type) {
    case REDIS_REPLY_STRING:
        h->link.failures = 0;
        settle_some(h, f, f->first + 1, 0, reply->whole.number);
        return 0;
    case REDIS_REPLY_NIL:
        return refuse(h, f, f->first, "SALVONOSTREAM there is no such stream (redis_nomkstream)",
                      false);
    case REDIS_REPLY_ERROR:
        return refuse(h, f, f->first, reply->text, false);
    default:
        return end_connection(h, "an answer to XADD that is none");
    }
}

/* The ids of those that were stored, and an error where the function stopped. */
static int appended(salvo_redis *h, const salvo_redis_flight *f, const salvo_redis_reply *reply)
{
    if (reply->whole.type == REDIS_REPLY_ERROR)
        return refuse(h, f, f->first, reply->text, false);
    if (reply->whole.type != REDIS_REPLY_ARRAY || reply->count > f->count || reply->count == 0)
        return end_connection(h, "an answer to the function that is none");
    for (uint32_t i = 0; i < reply->count; i++) {
        const salvo_redis_part *part = &reply->parts[i];
        if (part->type == REDIS_REPLY_ERROR)
            return refuse(h, f, f->first + i, reply->text, true);
        if (part->type != REDIS_REPLY_STRING)
            return end_connection(h, "an answer to the function that is none");
        h->link.failures = 0;
        settle_some(h, f, f->first + i + 1, 0, part->number);
    }
    return reply->count == f->count ? 0 : end_connection(h, "the function answered too little");
}

static int synced(salvo_redis *h, const salvo_redis_flight *f, const salvo_redis_reply *reply)
{
    salvo_redis_topic *t = &h->topics[f->topic];
    t->syncing = false;
    if (reply->whole.type == REDIS_REPLY_INTEGER && reply->whole.number >= 0) {
        salvo_redis_once_synced(h, f->topic, (uint64_t)reply->whole.number);
        return 0;
    }
    if (reply->whole.type != REDIS_REPLY_ERROR)
        return end_connection(h, "an answer to the function that is none");
    log_once(h, f, reply->text);
    if (salvo_redis_judge(reply->text).status == SALVO_ERR_TRANSIENT) {
        salvo_redis_doom(h, f->topic);
        return end_connection(h, reply->text); /* with its pause before the next try */
    }
    return end_connection(h, reply->text);
}

void salvo_redis_settle_local(salvo_redis *h)
{
    while (h->flight_head != h->flight_tail) {
        salvo_redis_flight f = h->flights[h->flight_head & h->flight_mask];
        if (f.kind != SALVO_REDIS_LOCAL)
            return;
        h->flight_head++;
        h->in_flight--;
        settle_some(h, &f, f.first + 1, f.status, -1);
    }
}

static int on_reply(void *context, const salvo_redis_reply *reply)
{
    salvo_redis *h = context;
    salvo_redis_settle_local(h);
    if (h->flight_head == h->flight_tail) {
        bool error = reply->whole.type == REDIS_REPLY_ERROR;
        return end_connection(h, error ? reply->text : "a reply came that nobody asked for");
    }
    salvo_redis_flight f = h->flights[h->flight_head++ & h->flight_mask];
    h->in_flight -= f.count;
    if (f.kind == SALVO_REDIS_ADD)
        return added(h, &f, reply);
    return f.kind == SALVO_REDIS_APPEND ? appended(h, &f, reply) : synced(h, &f, reply);
}

int salvo_redis_receive(salvo_redis *h)
{
    const void *bytes;
    size_t n = salvo_io_input(h->link.conn, &bytes);
    if (n == 0)
        return 0;
    h->answered_ns = salvo_redis_now(h);
    int err = salvo_redis_parser_run(&h->link.parser, bytes, n, on_reply, h);
    salvo_io_consume(h->link.conn, n);
    salvo_redis_settle_local(h);
    return err == SALVO_ERR_INVALID ? end_connection(h, h->link.parser.error) : err;
}
