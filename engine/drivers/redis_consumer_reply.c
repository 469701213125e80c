/* SPDX-License-Identifier: Apache-2.0
 *
 * What a server answers a consumer; see redis_consumer.h. Guarantees: a reply is believed only
 * where one is owed, and only in the shape that its command can have: anything else ends the
 * connection; entries that may have got lost with a connection are looked for among those that are
 * pending with us.
 */
#include "redis_consumer.h"

#include "clock.h"
#include "error.h"
#include <stdio.h>
#include <string.h>

#define MS UINT64_C(1000000)

enum {
    COUNT_MOST = 1024,
    FEW_BYTES = 256 << 10,
    MANY_BYTES = 4 << 20,
    READ_BYTES = 16 << 20,
    RETRY_MS = 500
};

static const char no_memory[] = "no memory for a reply";

static int end(salvo_redis_link *link, const char *why)
{
    snprintf(link->why, sizeof link->why, "%s", why);
    return 1;
}

static bool gone(const char *error) /* the group, or its stream */
{
    return strncmp(error, "NOGROUP", 7) == 0 || strncmp(error, "UNBLOCKED", 9) == 0;
}

static void refused(salvo_redis_consumer *c, salvo_redis_stream *s, int status, const char *error)
{
    if (s->error != status)
        c->env->log(SALVO_LOG_WARNING, "redis: stream '%s': %s", s->name, error);
    s->error = status;
    snprintf(s->why, sizeof s->why, "%s", error);
    s->group = SALVO_REDIS_GROUP_UNKNOWN;
    s->retry_ns = salvo_clock_monotonic_ns() + RETRY_MS * MS;
}

/* An error about one stream: its group is asked for again. Not 0: the connection is to end. */
static int stream_error(salvo_redis_consumer *c, salvo_redis_stream *s, const char *error)
{
    salvo_redis_verdict verdict = salvo_redis_judge(error);
    if (gone(error))
        s->group = SALVO_REDIS_GROUP_UNKNOWN;
    else if (verdict.reconnect)
        return end(&c->commands, error);
    else if (verdict.status == SALVO_ERR_TRANSIENT) {
        s->group = SALVO_REDIS_GROUP_UNKNOWN;
        s->retry_ns = salvo_clock_monotonic_ns() + RETRY_MS * MS;
    } else {
        refused(c, s, verdict.status, error);
    }
    return 0;
}

static int on_group(salvo_redis_consumer *c, salvo_redis_stream *s, const char *error)
{
    bool anew = error[0] == '\0' && !c->must_exist;
    if (c->must_exist && gone(error)) {
        refused(c, s, SALVO_ERR_UNKNOWN_TOPIC, "the group has no place in it yet, and "
                "kafka_auto_offset_reset = none says that it must");
        return 0;
    }
    if (error[0] && strncmp(error, "BUSYGROUP", 9) != 0)
        return stream_error(c, s, error);
    s->ended = s->ended || (anew && s->made);
    s->made = true;
    s->error = 0;
    s->group = SALVO_REDIS_GROUP_THERE;
    return 0;
}

static int on_ack(salvo_redis_consumer *c, salvo_redis_stream *s, uint32_t n, const char *error)
{
    if (error[0] && salvo_redis_judge(error).status == SALVO_ERR_TRANSIENT)
        return end(&c->commands, error); /* sent again by the next connection */
    salvo_redis_hand_acked(&s->hand, n);
    c->env->count(c->env->consumer,
                  error[0] ? SALVO_COUNT_COMMIT_FAILURES : SALVO_COUNT_COMMITS, 1);
    return error[0] ? stream_error(c, s, error) : 0;
}

/* The batch that was read, out of its source. */
static salvo_redis_batch *take_batch(salvo_redis_consumer *c, salvo_redis_batch **into,
                                     salvo_redis_source *source)
{
    salvo_redis_batch *batch = *into, *next = salvo_redis_batch_new(c);
    if (!next)
        return NULL;
    next->tree.most = READ_BYTES;
    *into = next;
    source->into = &next->tree;
    return batch;
}

/* The next replies shall be of a good size. */
static void adapt(salvo_redis_consumer *c, const salvo_redis_tree *tree, bool full)
{
    if (tree->cut)
        c->read_count = c->read_count > 4 ? c->read_count / 4 : 1;
    else if (tree->used > MANY_BYTES && c->read_count > 1)
        c->read_count /= 2;
    else if (full && tree->used < FEW_BYTES && c->read_count < COUNT_MOST)
        c->read_count *= 2;
}

static int on_history(salvo_redis_consumer *c, uint32_t stream, salvo_redis_tree *tree)
{
    salvo_redis_stream *s = &c->streams[stream];
    salvo_redis_walk walk = {tree, 0};
    salvo_redis_text name;
    uint32_t streams = 0, two = 0, seen = 0;
    salvo_redis_id last_id = s->history_at;
    bool cut = tree->cut, again = s->history_again;
    s->history_again = false;
    s->history = SALVO_REDIS_HISTORY_DUE;
    if (again || tree->no_memory) /* read it again, from the beginning */
        return tree->no_memory ? end(&c->commands, no_memory) : 0;
    if (!salvo_redis_walk_array(&walk, &streams) || streams > 1)
        return end(&c->commands, "an answer to XREADGROUP that is none");
    salvo_redis_batch *batch = take_batch(c, &c->command_into, &c->command_source);
    if (!batch)
        return end(&c->commands, no_memory);
    bool ok = streams == 0 || (salvo_redis_walk_array(&walk, &two) && two == 2 &&
                               salvo_redis_walk_text(&walk, &name) &&
                               salvo_redis_batch_take(c, batch, &walk, stream, &seen, &last_id));
    s->history_at = last_id;
    if (seen == 0 && !cut)
        s->history = SALVO_REDIS_HISTORY_READ;
    adapt(c, tree, seen >= c->read_count);
    salvo_redis_consumer_count(c, batch, stream);
    return ok || cut ? 0 : end(&c->commands, "an answer to XREADGROUP that is none");
}

static int on_claim(salvo_redis_consumer *c, uint32_t stream, salvo_redis_tree *tree)
{
    salvo_redis_stream *s = &c->streams[stream];
    salvo_redis_walk walk = {tree, 0};
    salvo_redis_text cursor;
    salvo_redis_id last_id = {0, 0};
    uint32_t parts, seen = 0;
    bool cut = tree->cut;
    s->claiming = false;
    if (tree->no_memory || !salvo_redis_walk_array(&walk, &parts) || parts < 2 ||
        !salvo_redis_walk_text(&walk, &cursor))
        return end(&c->commands, tree->no_memory ? no_memory
                                                 : "an answer to XAUTOCLAIM that is none");
    if (salvo_redis_id_parse(cursor.bytes, cursor.length, &s->claim_at))
        s->claim_ns = 0; /* there is more to look at */
    else
        s->claim_at = (salvo_redis_id){0, 0};
    salvo_redis_batch *batch = take_batch(c, &c->command_into, &c->command_source);
    if (!batch)
        return end(&c->commands, no_memory);
    bool ok = salvo_redis_batch_take(c, batch, &walk, stream, &seen, &last_id);
    if (cut)
        salvo_redis_need_history(s);
    adapt(c, tree, false);
    salvo_redis_consumer_count(c, batch, stream);
    return ok || cut ? 0 : end(&c->commands, "an answer to XAUTOCLAIM that is none");
}

/* [id, consumer, idle, deliveries] each, in the order of ids as the batch is. */
static int on_counts(salvo_redis_consumer *c, salvo_redis_batch *batch,
                     const salvo_redis_tree *tree)
{
    salvo_redis_walk walk = {tree, 0};
    salvo_redis_text text, name;
    salvo_redis_id id;
    uint32_t entries, parts;
    int64_t idle, deliveries;
    size_t at = 0;
    bool ok = salvo_redis_walk_array(&walk, &entries);
    for (uint32_t i = 0; ok && i < entries && walk.at < tree->node_count; i++) {
        ok = salvo_redis_walk_array(&walk, &parts) && parts == 4 &&
             salvo_redis_walk_text(&walk, &text) && salvo_redis_walk_text(&walk, &name) &&
             salvo_redis_walk_number(&walk, &idle) && salvo_redis_walk_number(&walk, &deliveries) &&
             salvo_redis_id_parse(text.bytes, text.length, &id);
        while (ok && at < batch->count &&
               (batch->found[at].id.ms < id.ms ||
                (batch->found[at].id.ms == id.ms && batch->found[at].id.seq < id.seq)))
            at++;
        if (ok && at < batch->count && batch->found[at].id.ms == id.ms &&
            batch->found[at].id.seq == id.seq && deliveries > 0 && deliveries < UINT32_MAX)
            batch->found[at].deliveries = (uint32_t)deliveries;
    }
    salvo_redis_batch_queue(c, batch);
    return ok ? 0 : end(&c->commands, "an answer to XPENDING that is none");
}

static void on_renewed(salvo_redis_consumer *c)
{
    if (c->renewals > 0 && --c->renewals > 0)
        return;
    if (!c->renewal_cut && c->renewing_ns != 0)
        c->renewed_ns = c->renewing_ns;
    c->renewing_ns = 0;
}

static int failed(salvo_redis_consumer *c, const salvo_redis_command *asked, const char *error)
{
    salvo_redis_stream *s = &c->streams[asked->stream];
    if (asked->what == SALVO_REDIS_ASKED_COUNTS)
        salvo_redis_batch_queue(c, asked->batch); /* without them */
    if (asked->what == SALVO_REDIS_ASKED_HISTORY)
        salvo_redis_need_history(s);
    if (asked->what == SALVO_REDIS_ASKED_RENEW) {
        c->renewal_cut = !gone(error);
        on_renewed(c);
    }
    s->history_again = false;
    if (s->history == SALVO_REDIS_HISTORY_ASKED)
        s->history = SALVO_REDIS_HISTORY_DUE;
    s->claiming = false;
    return asked->what == SALVO_REDIS_ASKED_LEFT || asked->what == SALVO_REDIS_ASKED_REMOVE
               ? 0
               : stream_error(c, s, error);
}

static int on_command(void *context, salvo_redis_tree *tree)
{
    salvo_redis_consumer *c = context;
    char error[160];
    salvo_redis_tree_error(tree, error, sizeof error);
    if (c->asked_head == c->asked_tail)
        return end(&c->commands, error[0] ? error : "a reply came that nobody asked for");
    salvo_redis_command asked = c->asked[c->asked_head++ & c->asked_mask];
    salvo_redis_stream *s = &c->streams[asked.stream];
    c->commands.failures = 0;
    if (asked.what == SALVO_REDIS_ASKED_GROUP)
        return on_group(c, s, error);
    if (asked.what == SALVO_REDIS_ASKED_ACK)
        return on_ack(c, s, asked.n, error);
    if (error[0])
        return failed(c, &asked, error);
    switch (asked.what) {
    case SALVO_REDIS_ASKED_HISTORY:
        return on_history(c, asked.stream, tree);
    case SALVO_REDIS_ASKED_CLAIM:
        return on_claim(c, asked.stream, tree);
    case SALVO_REDIS_ASKED_COUNTS:
        return on_counts(c, asked.batch, tree);
    case SALVO_REDIS_ASKED_RENEW:
        on_renewed(c);
        return 0;
    case SALVO_REDIS_ASKED_LEFT: /* at close; without a name of its own in the group nobody looks
                                    for a consumer again */
        if (tree->node_count == 1 && tree->nodes[0].type == REDIS_REPLY_ARRAY)
            (void)salvo_redis_consumer_ask(c, SALVO_REDIS_ASKED_REMOVE, asked.stream);
        return 0;
    default:
        return 0;
    }
}

/* --- the reading connection ----------------------------------------------------------------- */

static uint32_t stream_of(const salvo_redis_consumer *c, salvo_redis_text name)
{
    uint32_t i = 0;
    while (i < c->stream_count && (strlen(c->streams[i].name) != name.length ||
                                   memcmp(c->streams[i].name, name.bytes, name.length) != 0))
        i++;
    return i;
}

static int read_error(salvo_redis_consumer *c, const char *error)
{
    salvo_redis_verdict verdict = salvo_redis_judge(error);
    if (verdict.reconnect)
        return end(&c->reading, error);
    if (!gone(error))
        c->read_retry_ns = salvo_clock_monotonic_ns() + RETRY_MS * MS;
    for (uint32_t i = 0; i < c->stream_count; i++) { /* XGROUP tells which of them it is */
        salvo_redis_stream *s = &c->streams[i];
        if (s->group == SALVO_REDIS_GROUP_THERE)
            s->group = SALVO_REDIS_GROUP_UNKNOWN;
        if (verdict.status == SALVO_ERR_AUTH)
            refused(c, s, verdict.status, error);
    }
    return 0;
}

static int on_read(void *context, salvo_redis_tree *tree)
{
    salvo_redis_consumer *c = context;
    char error[160];
    if (!c->reading_asked)
        return end(&c->reading, "a reply came that nobody asked for");
    c->reading_asked = false;
    c->reading.failures = 0;
    if (salvo_redis_tree_error(tree, error, sizeof error)[0])
        return read_error(c, error);
    salvo_redis_walk walk = {tree, 0};
    salvo_redis_id last_id = {0, 0};
    uint32_t streams, two, seen, all = 0;
    if (tree->no_memory || !salvo_redis_walk_array(&walk, &streams))
        return end(&c->reading, "an answer to XREADGROUP that is none");
    if (streams == 0)
        return 0;
    salvo_redis_batch *batch = take_batch(c, &c->read_into, &c->read_source);
    if (!batch)
        return end(&c->reading, no_memory);
    bool ok = true, cut = tree->cut;
    for (uint32_t i = 0; ok && i < streams; i++) {
        salvo_redis_text name;
        ok = salvo_redis_walk_array(&walk, &two) && two == 2 && salvo_redis_walk_text(&walk, &name);
        uint32_t stream = ok ? stream_of(c, name) : c->stream_count;
        ok = stream < c->stream_count &&
             salvo_redis_batch_take(c, batch, &walk, stream, &seen, &last_id);
        all += ok ? seen : 0;
    }
    for (uint32_t i = 0; !ok && i < c->stream_count; i++)
        salvo_redis_need_history(&c->streams[i]);
    adapt(c, tree, all >= c->read_count);
    salvo_redis_batch_queue(c, batch);
    return ok || cut ? 0 : end(&c->reading, "an answer to XREADGROUP that is none");
}

const char *salvo_redis_consumer_heard(salvo_redis_consumer *c, salvo_redis_link *link)
{
    const void *bytes;
    bool commands = link == &c->commands;
    salvo_redis_source *source = commands ? &c->command_source : &c->read_source;
    size_t n = salvo_io_input(link->conn, &bytes);
    int err = n > 0 ? salvo_redis_source_feed(source, bytes, n, commands ? on_command : on_read, c)
                    : 0;
    salvo_io_consume(link->conn, n);
    if (err)
        return err == SALVO_ERR_INVALID ? source->error : link->why;
    return link->lost ? salvo_io_conn_error(link->conn) : NULL;
}

static void lost_command(salvo_redis_consumer *c, const salvo_redis_command *asked)
{
    salvo_redis_stream *s = &c->streams[asked->stream];
    if (asked->what == SALVO_REDIS_ASKED_COUNTS)
        salvo_redis_batch_queue(c, asked->batch);
    if (asked->what == SALVO_REDIS_ASKED_CLAIM)
        salvo_redis_need_history(s); /* they may be ours now */
}

void salvo_redis_consumer_lost(salvo_redis_consumer *c, salvo_redis_link *link, const char *why)
{
    char text[256];
    snprintf(text, sizeof text, "%s", why); /* it may lie in what is dropped */
    if (link->state != SALVO_REDIS_IDLE)
        salvo_redis_link_drop(link, text);
    if (link == &c->reading) {
        for (uint32_t i = 0; c->reading_asked && i < c->stream_count; i++)
            salvo_redis_need_history(&c->streams[i]);
        c->reading_asked = false;
        return;
    }
    while (c->asked_head != c->asked_tail)
        lost_command(c, &c->asked[c->asked_head++ & c->asked_mask]);
    for (uint32_t i = 0; i < c->stream_count; i++) {
        salvo_redis_stream *s = &c->streams[i];
        s->group = SALVO_REDIS_GROUP_UNKNOWN;
        s->claiming = false;
        s->hand.ack_sent = 0;
        if (s->history == SALVO_REDIS_HISTORY_ASKED || s->history_again)
            s->history = SALVO_REDIS_HISTORY_DUE;
        s->history_again = false;
    }
    c->renewals = 0;
    c->renewing_ns = 0;
}
