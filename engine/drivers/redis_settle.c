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

/* An error for all that was to be answered. */
static int refuse(salvo_redis *h, const salvo_redis_flight *f, const char *text)
{
    salvo_redis_verdict verdict = salvo_redis_judge(text);
    if (strncmp(text, "SALVOGAP", 8) != 0)
        log_once(h, f, text);
    settle_some(h, f, f->first + f->count, verdict.status, -1);
    if (verdict.status == SALVO_ERR_TRANSIENT)
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
        return refuse(h, f, "SALVONOSTREAM there is no such stream (redis_nomkstream)");
    case REDIS_REPLY_ERROR:
        return refuse(h, f, reply->text);
    default:
        return end_connection(h, "an answer to XADD that is none");
    }
}

/* Ids and refusals; after one for now the function stopped. */
static int appended(salvo_redis *h, const salvo_redis_flight *f, const salvo_redis_reply *reply)
{
    if (reply->whole.type == REDIS_REPLY_ERROR)
        return refuse(h, f, reply->text);
    if (reply->whole.type != REDIS_REPLY_ARRAY || reply->count > f->count || reply->count == 0)
        return end_connection(h, "an answer to the function that is none");
    h->link.failures = 0;
    h->topics[f->topic].known_seq = f->seq + f->count - 1;
    for (uint32_t i = 0; i < reply->count; i++) {
        const salvo_redis_part *part = &reply->parts[i];
        bool error = part->type == REDIS_REPLY_ERROR;
        if (error)
            log_once(h, f, reply->text);
        if (error && part->number == SALVO_ERR_TRANSIENT)
            return refuse(h, f, reply->text);
        if (!error && part->type != REDIS_REPLY_STRING)
            return end_connection(h, "an answer to the function that is none");
        settle_some(h, f, f->first + i + 1, error ? (int32_t)part->number : 0,
                    error ? -1 : part->number);
    }
    return reply->count == f->count ? 0 : end_connection(h, "the function answered too little");
}

static int synced(salvo_redis *h, const salvo_redis_flight *f, const salvo_redis_reply *reply)
{
    salvo_redis_topic *t = &h->topics[f->topic];
    t->syncing = false;
    if (reply->whole.type == REDIS_REPLY_ARRAY && salvo_redis_once_synced(h, f->topic, reply))
        return 0;
    if (reply->whole.type != REDIS_REPLY_ERROR)
        return end_connection(h, "an answer to the function that is none");
    log_once(h, f, reply->text);
    return end_connection(h, reply->text); /* with its pause before the next try */
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
