/* SPDX-License-Identifier: Apache-2.0
 *
 * The Redis driver: a topic is a stream, a message an entry, a flusher a connection.
 *
 * Guarantees. One partition per topic. Commands are pipelined, up to redis_window messages ahead
 * of their replies, in the order of submission. What was not acknowledged when a connection ended
 * is sent again in order on the next one, before anything new: without redis_exactly_once it can
 * then be there twice (counted in the state's text), with it never (redis_once.c). A refusal that
 * a retry may mend (OOM, LOADING, ...) goes back to the engine as TRANSIENT, together with all of
 * its topic that is unsent, so that the engine's back-off and deadlines apply; what went out
 * behind it may then overtake it, but not with redis_exactly_once. Nothing is taken while the
 * connection is down. Past its deadline a batch that is surely unsent goes back to expire, one
 * that may have been sent is MAYBE. A server that owes a reply for a third of delivery_timeout_ms
 * is taken for dead: the connection is made anew.
 * Not guaranteed: that what Redis acknowledged survives it; see appendfsync in its own manual.
 * Offsets are entry ids, ms << 20 | seq, or -1 where that does not fit.
 */
#include "driver.h"

#include "config_internal.h"
#include "error.h"
#include "redis_admin.h"
#include "redis_consumer.h"
#include "redis_internal.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MS UINT64_C(1000000)

enum { OUT_BYTES = 1 << 20, COMMAND_SPARE = 64 << 10, ROUNDS = 16 };

static uint32_t redis_capabilities(const salvo_config *config)
{
    uint32_t order = salvo_config_bool(config, "redis_exactly_once") ? SALVO_CAP_ORDERED_RETRY : 0;
    return SALVO_CAP_KEYS | SALVO_CAP_HEADERS | SALVO_CAP_TIMESTAMPS | SALVO_CAP_OFFSETS |
           SALVO_CAP_READ | SALVO_CAP_GROUPS | SALVO_CAP_OWN_RETRIES | order;
}

static uint64_t power_above(uint64_t n)
{
    uint64_t p = 1;
    while (p < n)
        p *= 2;
    return p;
}

/* The connection's outgoing room: the largest message as a command must fit. */
static uint64_t out_bytes(const salvo_config *config)
{
    uint64_t least = (uint64_t)salvo_config_int(config, "max_message_bytes") + COMMAND_SPARE;
    return power_above(least > OUT_BYTES ? least : OUT_BYTES);
}

static uint64_t redis_overhead_bytes(const salvo_config *config)
{
    uint64_t window = power_above((uint64_t)salvo_config_int(config, "redis_window"));
    uint64_t batches = (uint64_t)salvo_config_int(config, "max_in_flight_batches");
    uint64_t topics = (uint64_t)salvo_config_int(config, "max_topics");
    return sizeof(salvo_redis) + window * sizeof(salvo_redis_flight) +
           2 * batches * sizeof(salvo_redis_entry) + topics * sizeof(salvo_redis_topic) +
           SALVO_REDIS_IN_BYTES;
}

static void redis_close(void *handle)
{
    salvo_redis *h = handle;
    salvo_redis_link_close(&h->link);
    for (uint32_t i = 0; h->topics && i < h->env.max_topics; i++) {
        free(h->topics[i].name);
        free(h->topics[i].state_key);
        salvo_redis_template_free(&h->topics[i].xadd);
    }
    for (int i = 0; i < SALVO_REDIS_CODECS; i++)
        if (h->codecs[i].codec)
            h->codecs[i].codec->close(h->codecs[i].context);
    for (uint32_t i = 0; h->entries && i < h->entry_count; i++)
        if (h->entries[i].ranges != h->entries[i].few)
            free(h->entries[i].ranges);
    free(h->topics);
    free(h->entries);
    free(h->flights);
    free(h->scratch);
    free(h->packed);
    free(h);
}

static bool open_tables(salvo_redis *h)
{
    uint32_t flights = (uint32_t)power_above(h->window);
    h->entry_count = 2 * (h->env.max_batches ? h->env.max_batches : 1);
    h->flight_mask = flights - 1;
    h->topics = calloc(h->env.max_topics ? h->env.max_topics : 1, sizeof *h->topics);
    h->entries = calloc(h->entry_count, sizeof *h->entries);
    h->flights = calloc(flights, sizeof *h->flights);
    for (uint32_t i = 0; h->entries && i < h->entry_count; i++) {
        h->entries[i].ranges = h->entries[i].few;
        h->entries[i].next = h->free;
        h->free = &h->entries[i];
    }
    return h->topics && h->entries && h->flights;
}

static int redis_open(const salvo_driver_env *env, void **handle, char *error, size_t error_size)
{
    salvo_redis *h = calloc(1, sizeof *h);
    snprintf(error, error_size, "redis driver: no memory for its handle");
    if (!h)
        return SALVO_ERR_NOMEM;
    h->env = *env;
    h->window = (uint32_t)salvo_config_int(env->config, "redis_window");
    h->once = salvo_config_bool(env->config, "redis_exactly_once");
    h->max_message_bytes = (uint32_t)salvo_config_int(env->config, "max_message_bytes");
    h->out_bytes = out_bytes(env->config);
    h->answer_ns = (uint64_t)salvo_config_int(env->config, "delivery_timeout_ms") * MS / 3;
    salvo_redis_link_options link = {
        .config = env->config, .now_ns = env->now_ns, .clock = env->clock, .wake = env->wake,
        .flusher = env->flusher, .function = h->once ? salvo_redis_once_function : NULL,
        .out_bytes = h->out_bytes, .in_bytes = SALVO_REDIS_IN_BYTES};
    int err = salvo_redis_link_open(&h->link, &link, error, error_size);
    if (!err && !open_tables(h))
        err = SALVO_ERR_NOMEM;
    if (!err && h->once)
        err = salvo_redis_once_open(h);
    if (err) {
        redis_close(h);
        return err;
    }
    *handle = h;
    return 0;
}

/* On the way up or not: connections made here count as any other. */
static void connected(salvo_redis *h)
{
    h->connects++;
    h->answered_ns = salvo_redis_now(h);
    if (h->once)
        salvo_redis_once_connected(h);
}

static int redis_require(void *handle, uint32_t timeout_ms, char *error, size_t error_size)
{
    salvo_redis *h = handle;
    bool was_up = h->link.state == SALVO_REDIS_UP;
    int err = salvo_redis_link_wait(&h->link, timeout_ms, error, error_size);
    if (!err && !was_up)
        connected(h);
    return err;
}

/* The context of a codec is shared by its topics. */
static int take_codec(salvo_redis *h, salvo_redis_topic *t, const salvo_codec *codec)
{
    for (int i = 0; i < SALVO_REDIS_CODECS; i++) {
        if (!h->codecs[i].codec) {
            int err = codec->open(&h->codecs[i].context);
            if (err)
                return err;
            h->codecs[i].codec = codec;
        }
        if (h->codecs[i].codec == codec) {
            t->codec = codec;
            t->codec_context = h->codecs[i].context;
            return 0;
        }
    }
    return SALVO_ERR_UNSUPPORTED;
}

static int open_topic(salvo_redis *h, salvo_redis_topic *t, const char *name,
                      const salvo_driver_topic *options)
{
    char key[400];
    salvo_redis_wish wish = {.stream = name, .maxlen = options->redis_maxlen,
                             .nomkstream = options->redis_nomkstream, .nested = h->once};
    snprintf(key, sizeof key, "salvo:once:%s:%s", name, h->producer);
    t->name = strdup(name);
    t->state_key = strdup(key);
    t->next_seq = 1;
    t->compress_least = options->compress_least_bytes;
    if (!t->name || !t->state_key)
        return SALVO_ERR_NOMEM;
    int err = salvo_redis_template_init(&t->xadd, &wish);
    return !err && options->codec ? take_codec(h, t, options->codec) : err;
}

static int redis_topic(void *handle, uint32_t topic, const char *name,
                       const salvo_driver_topic *options)
{
    salvo_redis *h = handle;
    if (topic >= h->env.max_topics)
        return SALVO_ERR_LIMIT;
    salvo_redis_topic *t = &h->topics[topic];
    if (t->name)
        return 0;
    int err = open_topic(h, t, name, options);
    if (err) {
        free(t->name);
        free(t->state_key);
        salvo_redis_template_free(&t->xadd);
        memset(t, 0, sizeof *t);
    }
    return err;
}

/* Not known until the server let us in once, so that a wrong password fails messages at once. */
static int redis_partitions(void *handle, uint32_t topic)
{
    const salvo_redis *h = handle;
    if (topic >= h->env.max_topics || !h->topics[topic].name)
        return SALVO_ERR_UNKNOWN_TOPIC;
    if (h->link.refusal)
        return h->link.refusal;
    return h->link.ever_up ? 1 : 0;
}

static void redis_credit(void *handle, salvo_driver_credit *credit)
{
    const salvo_redis *h = handle;
    bool up = h->link.state == SALVO_REDIS_UP && !h->link.lost;
    credit->batches = up ? h->env.max_batches - h->out : 0;
    credit->messages = up ? UINT32_MAX : 0;
    credit->bytes = up ? UINT64_MAX : 0;
}

static int redis_submit(void *handle, const salvo_driver_batch *batch, uint64_t token)
{
    salvo_redis *h = handle;
    if (batch->topic >= h->env.max_topics || !h->topics[batch->topic].name)
        return SALVO_ERR_UNKNOWN_TOPIC;
    if (batch->partition != 0)
        return SALVO_ERR_PARTITION;
    if (h->link.state != SALVO_REDIS_UP || h->out >= h->env.max_batches || !h->free ||
        h->topics[batch->topic].doomed)
        return SALVO_ERR_TRANSIENT;
    salvo_redis_entry *e = h->free;
    h->free = e->next;
    memset(e, 0, sizeof *e);
    e->token = token;
    e->batch = *batch;
    e->limit = batch->count;
    e->ranges = e->few;
    e->range_room = SALVO_REDIS_FEW;
    salvo_redis_push(h, e);
    return 0;
}

/* The connection is of no more use: what was in flight waits for the next one. */
static void lose(salvo_redis *h, const char *why)
{
    salvo_redis_rewind(h);
    salvo_redis_link_drop(&h->link, why);
}

/* Replies open the window, so sending and receiving take turns until neither has anything to do:
 * the flusher sleeps on the socket afterwards, not on what was read from it. */
static void receive_and_send(salvo_redis *h)
{
    bool sent = true;
    for (int i = 0; sent; i++) {
        if (salvo_redis_receive(h) != 0) {
            lose(h, h->link.why);
            return;
        }
        sent = !h->link.lost && salvo_redis_send(h);
        salvo_redis_settle_local(h);
        if (sent)
            salvo_io_step(h->link.io);
        if (i == ROUNDS) { /* others want their turn, too */
            h->env.wake(h->env.flusher);
            break;
        }
    }
    bool owed = h->flight_head != h->flight_tail;
    if (h->link.lost)
        lose(h, NULL);
    else if (owed && salvo_redis_now(h) - h->answered_ns > h->answer_ns)
        lose(h, "the server owes a reply for too long");
}

static int redis_poll(void *handle, salvo_driver_outcome *outcomes, uint32_t max)
{
    salvo_redis *h = handle;
    salvo_redis_release_handed(h);
    if (salvo_redis_link_step(&h->link))
        connected(h);
    if (h->link.state == SALVO_REDIS_UP)
        receive_and_send(h);
    if (h->first)
        salvo_redis_look_at_deadlines(h, salvo_redis_now(h));
    if (h->link.lost)
        lose(h, "it did not take a message before its deadline");
    return (int)salvo_redis_hand_out(h, outcomes, max);
}

static void redis_flush(void *handle)
{
    (void)handle; /* nothing lingers: poll sends all that the window allows */
}

static int redis_descriptors(void *handle, int *fds, int max)
{
    const salvo_redis *h = handle;
    return salvo_io_descriptors(h->link.io, fds, max);
}

static void redis_purge(void *handle, uint32_t timeout_ms)
{
    (void)timeout_ms; /* never waits */
    salvo_redis *h = handle;
    if (h->link.state == SALVO_REDIS_UP)
        lose(h, "given up");
    salvo_redis_give_up(h);
}

static void redis_state(void *handle, char *text, size_t size)
{
    salvo_redis *h = handle;
    salvo_redis_link_text(&h->link, text, size);
    size_t used = strlen(text);
    if (h->resent > 0 && strncmp(text, "up", 2) == 0)
        snprintf(text + used, size - used, ", %llu sent twice", (unsigned long long)h->resent);
}

const salvo_driver_ops salvo_driver_redis = {
    .size = sizeof(salvo_driver_ops),
    .abi = SALVO_DRIVER_ABI,
    .name = "redis",
    .capabilities = redis_capabilities,
    .overhead_bytes = redis_overhead_bytes,
    .open = redis_open,
    .require = redis_require,
    .topic = redis_topic,
    .partitions = redis_partitions,
    .credit = redis_credit,
    .submit = redis_submit,
    .poll = redis_poll,
    .flush = redis_flush,
    .descriptors = redis_descriptors,
    .purge = redis_purge,
    .close = redis_close,
    .state = redis_state,
    .reader_open = salvo_redis_reader_open,
    .reader_next = salvo_redis_reader_next,
    .reader_close = salvo_redis_reader_close,
    .topic_delete = salvo_redis_topic_delete,
    .topics = &salvo_redis_topic_ops,
    .consumer = &salvo_redis_consumer_ops,
};
