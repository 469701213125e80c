/* SPDX-License-Identifier: Apache-2.0
 *
 * The RabbitMQ driver: one connection per flusher, publisher confirms, a window of messages that
 * are published and not yet confirmed. See rabbitmq_internal.h for how its files work together.
 *
 * Guarantees: a message is acknowledged when the server has confirmed it; what was not confirmed
 * when a channel or a connection was lost is published again, first and in order, under the same
 * message-id, so nothing is lost and duplicates can be told; the flusher never blocks. Values are
 * not copied but into the connection's buffer.
 *
 * Order: messages of a topic are published in order. With a window of 1 they also arrive in order
 * whatever fails; with a larger one a message that the server refused for now may fall behind,
 * and after a reconnect a run of messages may come twice.
 *
 * Deadlines: of a batch whose deadline passed, what surely was not sent goes back to the engine
 * (TRANSIENT), which knows each message's own deadline, and with it, to keep the order, what lies
 * behind it of the same topic. What may have arrived is reported MAYBE.
 */
#include "config_internal.h"
#include "error.h"
#include "rabbitmq_admin.h"
#include "rabbitmq_consumer.h"
#include "rabbitmq_internal.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define MS UINT64_C(1000000)
#define OUT_BYTES_LEAST (UINT64_C(512) << 10)
#define OUT_BYTES_MOST (UINT64_C(2) << 20)
#define LOOK_EVERY_NS (10 * MS)
#define REFUSED_AFTER_NS (5000 * MS) /* so long refused: it is no passing trouble */
#define BYE_MS 500

static uint64_t power_of_two(uint64_t least)
{
    uint64_t p = 1;
    while (p < least)
        p *= 2;
    return p;
}

static uint32_t rabbitmq_capabilities(const salvo_config *config)
{
    uint32_t all = SALVO_CAP_KEYS | SALVO_CAP_HEADERS | SALVO_CAP_TIMESTAMPS | SALVO_CAP_READ |
                   SALVO_CAP_OWN_RETRIES;
    return salvo_config_int(config, "rabbitmq_window") == 1 ? all | SALVO_CAP_ORDERED_RETRY : all;
}

static uint64_t rabbitmq_overhead_bytes(const salvo_config *config)
{
    uint64_t window = power_of_two((uint64_t)salvo_config_int(config, "rabbitmq_window"));
    return 2 * window * sizeof(salvo_rabbitmq_entry) + SALVO_RABBITMQ_IN_BYTES +
           OUT_BYTES_LEAST + (uint64_t)salvo_config_int(config, "max_message_bytes");
}

/* --- open and close ------------------------------------------------------------------------ */

static void free_handle(salvo_rabbitmq *r)
{
    salvo_rabbitmq_link_free(&r->link);
    salvo_rabbitmq_publish_close(r);
    salvo_rabbitmq_topics_close(r);
    salvo_rabbitmq_slots_close(&r->slots);
    pthread_mutex_destroy(&r->lock);
    free(r->out);
    free(r->again);
    free(r);
}

static void rabbitmq_close(void *handle)
{
    salvo_rabbitmq *r = handle;
    r->purged = true;
    salvo_rabbitmq_link_bye(&r->link, BYE_MS);
    free_handle(r);
}

static void on_frame(void *context, const salvo_rabbitmq_frame *frame)
{
    salvo_rabbitmq *r = context;
    if (frame->channel == SALVO_RABBITMQ_PUBLISHING)
        salvo_rabbitmq_publishing_frame(r, frame);
    else if (frame->channel == SALVO_RABBITMQ_DECLARING)
        salvo_rabbitmq_declaring_frame(r, frame);
    else
        salvo_rabbitmq_link_fail(&r->link, SALVO_ERR_UNREACHABLE,
                                 "the server broke the protocol: channel %u", frame->channel);
}

static int new_handle(const salvo_driver_env *env, salvo_rabbitmq **out)
{
    salvo_rabbitmq *r = calloc(1, sizeof *r);
    uint64_t id;
    *out = r;
    if (!r)
        return SALVO_ERR_NOMEM;
    r->env = env;
    pthread_mutex_init(&r->lock, NULL);
    r->window = (uint32_t)salvo_config_int(env->config, "rabbitmq_window");
    uint64_t room = power_of_two(r->window);
    r->out_mask = room - 1;
    r->again_room = (uint32_t)room;
    r->first_tag = r->next_tag = 1;
    r->asked = UINT32_MAX;
    r->earliest_ns = UINT64_MAX;
    r->out = calloc(room, sizeof *r->out);
    r->again = calloc(room, sizeof *r->again);
    r->topics = calloc(env->max_topics, sizeof *r->topics);
    r->listed = calloc(env->max_topics, sizeof *r->listed);
    if (getrandom(&id, sizeof id, 0) != (ssize_t)sizeof id)
        id = salvo_rabbitmq_now(r);
    snprintf(r->id, sizeof r->id, "%016llx-", (unsigned long long)id);
    snprintf(r->state, sizeof r->state, "connecting");
    /* Twice: those handed out last are still being read while as many are out. */
    int err = salvo_rabbitmq_slots_open(&r->slots, 2 * env->max_batches);
    return err || !r->out || !r->again || !r->topics || !r->listed ? SALVO_ERR_NOMEM : 0;
}

static int rabbitmq_open(const salvo_driver_env *env, void **handle, char *error, size_t error_size)
{
    salvo_rabbitmq *r;
    *handle = NULL;
    snprintf(error, error_size, "rabbitmq: no memory for a handle");
    int err = new_handle(env, &r);
    if (err == 0) {
        salvo_io_options io = {.backend = salvo_config_get(env->config, "io_backend"),
                               .now_ns = env->now_ns, .clock = env->clock, .wake = env->wake,
                               .flusher = env->flusher};
        uint64_t out_bytes = OUT_BYTES_LEAST;
        while (out_bytes < OUT_BYTES_MOST && out_bytes * 4 <= env->queue_bytes)
            out_bytes *= 2;
        err = salvo_rabbitmq_link_open(&r->link, env->config, &io, out_bytes, error, error_size);
        r->link.on_frame = on_frame;
        r->link.context = r;
    }
    if (err != 0) {
        if (r)
            free_handle(r);
        return err;
    }
    *handle = r;
    return 0;
}

static int rabbitmq_require(void *handle, uint32_t timeout_ms, char *error, size_t error_size)
{
    salvo_rabbitmq *r = handle;
    const salvo_url *url = &r->link.url;
    uint64_t end = salvo_rabbitmq_now(r) + timeout_ms * MS;
    while (!r->ready) {
        (void)salvo_rabbitmq_channel_step(r);
        if (r->ready)
            break;
        uint64_t now = salvo_rabbitmq_now(r);
        if (r->refused_since_ns) {
            snprintf(error, error_size, "rabbitmq: %s:%s refused us: %s; see the user, password "
                     "and vhost in rabbitmq_url, and tls_*", url->host, url->port, r->link.why);
            return SALVO_ERR_AUTH;
        }
        if (now >= end) {
            snprintf(error, error_size, "rabbitmq: no login at %s:%s within %u ms: %s", url->host,
                     url->port, timeout_ms, r->link.why[0] ? r->link.why : "no answer");
            return SALVO_ERR_UNREACHABLE;
        }
        uint64_t left = (end - now) / MS + 1;
        (void)salvo_io_wait(r->link.io, left < 20 ? left : 20);
    }
    return 0;
}

static int rabbitmq_topic(void *handle, uint32_t topic, const char *name,
                          const salvo_driver_topic *options)
{
    return salvo_rabbitmq_topic_add(handle, topic, name, options);
}

static int rabbitmq_partitions(void *handle, uint32_t topic)
{
    const salvo_rabbitmq *r = handle;
    if (topic >= r->env->max_topics || !r->topics[topic].name)
        return SALVO_ERR_UNKNOWN_TOPIC;
    if (r->topics[topic].error)
        return r->topics[topic].error;
    if (r->topics[topic].known)
        return 1;
    bool refused = r->refused_since_ns &&
                   salvo_rabbitmq_now(r) - r->refused_since_ns > REFUSED_AFTER_NS;
    return refused ? SALVO_ERR_AUTH : 0;
}

/* --- submit and poll ----------------------------------------------------------------------- */

/* Batches are taken while less than a window waits behind the one that is on its way. */
static void rabbitmq_credit(void *handle, salvo_driver_credit *credit)
{
    const salvo_rabbitmq *r = handle;
    uint32_t tokens = salvo_rabbitmq_slots_tokens(&r->slots);
    *credit = (salvo_driver_credit){0};
    if (!r->ready || r->link.blocked || r->purged || tokens >= r->env->max_batches ||
        r->slots.untaken >= r->window)
        return;
    credit->batches = r->env->max_batches - tokens;
    credit->messages = UINT32_MAX;
    credit->bytes = UINT64_MAX;
}

static int rabbitmq_submit(void *handle, const salvo_driver_batch *batch, uint64_t token)
{
    salvo_rabbitmq *r = handle;
    if (batch->topic >= r->env->max_topics || !r->topics[batch->topic].name)
        return SALVO_ERR_UNKNOWN_TOPIC;
    if (batch->partition != 0 || !batch->count)
        return SALVO_ERR_INVALID;
    if (r->topics[batch->topic].error)
        return r->topics[batch->topic].error;
    /* Not for the window: one credit may be used for several batches, and a refusal costs the
     * engine's backoff. What is beyond the window waits in the slots. */
    if (!r->ready || r->link.blocked || r->purged ||
        salvo_rabbitmq_slots_tokens(&r->slots) >= r->env->max_batches ||
        !salvo_rabbitmq_slots_add(&r->slots, batch, token))
        return SALVO_ERR_TRANSIENT;
    if (batch->deadline_ns < r->earliest_ns)
        r->earliest_ns = batch->deadline_ns;
    (void)salvo_rabbitmq_publish(r); /* the next poll sends */
    return 0;
}

/* Drop the connection if it may still look into bytes of the batches. */
static void let_go(salvo_rabbitmq *r, bool unsent)
{
    if (!r->link.conn)
        return;
    uint64_t released = salvo_io_bytes_released(r->link.conn);
    if (!unsent && !r->writer.active && r->stable_end <= released)
        return;
    salvo_rabbitmq_link_fail(&r->link, SALVO_ERR_UNREACHABLE,
                             "the server took no more until a delivery deadline");
    salvo_rabbitmq_lost(r);
}

/* Settle what is known of a slot; statuses for what may have arrived and for what did not. */
static void give_back(salvo_rabbitmq *r, uint32_t slot, int32_t maybe, int32_t unsent)
{
    for (uint64_t tag = r->first_tag; tag != r->next_tag; tag++)
        if (r->out[tag & r->out_mask].slot == slot)
            salvo_rabbitmq_entry_settle(r, &r->out[tag & r->out_mask], maybe);
    for (uint32_t i = 0; i < r->again_count; i++) {
        salvo_rabbitmq_entry *e = &r->again[r->again_head + i];
        if (e->slot == slot)
            salvo_rabbitmq_entry_settle(r, e, e->maybe ? maybe : unsent);
    }
    salvo_rabbitmq_slots_refuse(&r->slots, slot, unsent);
}

static void expire(salvo_rabbitmq *r, uint32_t index)
{
    const salvo_rabbitmq_slot *late = &r->slots.slot[index];
    bool unsent = false;
    uint32_t topic = late->batch.topic;
    uint64_t sent = r->link.conn ? salvo_io_bytes_sent(r->link.conn) : 0;
    for (uint64_t tag = r->first_tag; tag != r->next_tag; tag++) {
        const salvo_rabbitmq_entry *e = &r->out[tag & r->out_mask];
        unsent |= e->slot == index && e->end > sent;
    }
    let_go(r, unsent);
    give_back(r, index, SALVO_ERR_MAYBE, SALVO_ERR_TRANSIENT);
    for (uint64_t i = r->slots.queue_head; i != r->slots.queue_tail; i++) {
        uint32_t behind = r->slots.queue[i % r->slots.room];
        if (r->slots.slot[behind].out && r->slots.slot[behind].batch.topic == topic)
            salvo_rabbitmq_slots_refuse(&r->slots, behind, SALVO_ERR_TRANSIENT);
    }
}

static void look_for_late(salvo_rabbitmq *r)
{
    uint64_t now = salvo_rabbitmq_now(r);
    if (now < r->earliest_ns)
        return;
    r->earliest_ns = UINT64_MAX;
    for (uint32_t i = 0; i < r->slots.room; i++) {
        const salvo_rabbitmq_slot *slot = &r->slots.slot[i];
        if (slot->out && slot->batch.deadline_ns <= now)
            expire(r, i);
        else if (slot->out && slot->batch.deadline_ns < r->earliest_ns)
            r->earliest_ns = slot->batch.deadline_ns;
    }
    if (r->earliest_ns < now + LOOK_EVERY_NS)
        r->earliest_ns = now + LOOK_EVERY_NS;
}

static int rabbitmq_poll(void *handle, salvo_driver_outcome *outcomes, uint32_t max)
{
    salvo_rabbitmq *r = handle;
    salvo_rabbitmq_slots_recycle(&r->slots);
    (void)salvo_rabbitmq_channel_step(r);
    look_for_late(r);
    if (salvo_rabbitmq_publish(r))
        salvo_rabbitmq_link_send(&r->link);
    return (int)salvo_rabbitmq_slots_hand_out(&r->slots, outcomes, max);
}

/* Nothing lingers here: each poll publishes what it may and hands it to the kernel. */
static void rabbitmq_flush(void *handle)
{
    (void)handle;
}

static int rabbitmq_descriptors(void *handle, int *fds, int max)
{
    return salvo_io_descriptors(((salvo_rabbitmq *)handle)->link.io, fds, max);
}

static void rabbitmq_purge(void *handle, uint32_t timeout_ms)
{
    salvo_rabbitmq *r = handle;
    uint64_t end = salvo_rabbitmq_now(r) + timeout_ms * MS;
    for (uint32_t slot; (slot = salvo_rabbitmq_slots_first(&r->slots)) != SALVO_RABBITMQ_NO_SLOT &&
                        !r->writer.active;)
        salvo_rabbitmq_slots_refuse(&r->slots, slot, SALVO_ERR_DROPPED);
    /* What is on its way may still be confirmed: nothing new is begun meanwhile. */
    r->purged = true;
    while (r->ready && !r->link.blocked && !r->writer.active && r->first_tag != r->next_tag &&
           salvo_rabbitmq_now(r) < end) {
        (void)salvo_io_wait(r->link.io, 10);
        (void)salvo_rabbitmq_channel_step(r);
    }
    if (r->link.conn && r->first_tag != r->next_tag) {
        salvo_rabbitmq_link_fail(&r->link, SALVO_ERR_CLOSED, "given up");
        salvo_rabbitmq_lost(r);
    }
    for (uint32_t i = 0; i < r->slots.room; i++)
        if (r->slots.slot[i].out)
            give_back(r, i, SALVO_ERR_MAYBE, SALVO_ERR_DROPPED);
}

static void rabbitmq_state(void *handle, char *text, size_t size)
{
    salvo_rabbitmq *r = handle;
    pthread_mutex_lock(&r->lock);
    snprintf(text, size, "%s", r->state);
    pthread_mutex_unlock(&r->lock);
}

const salvo_driver_ops salvo_driver_rabbitmq = {
    .size = sizeof(salvo_driver_ops),
    .abi = SALVO_DRIVER_ABI,
    .name = "rabbitmq",
    .capabilities = rabbitmq_capabilities,
    .overhead_bytes = rabbitmq_overhead_bytes,
    .open = rabbitmq_open,
    .require = rabbitmq_require,
    .topic = rabbitmq_topic,
    .partitions = rabbitmq_partitions,
    .credit = rabbitmq_credit,
    .submit = rabbitmq_submit,
    .poll = rabbitmq_poll,
    .flush = rabbitmq_flush,
    .descriptors = rabbitmq_descriptors,
    .purge = rabbitmq_purge,
    .close = rabbitmq_close,
    .state = rabbitmq_state,
    .reader_open = salvo_rabbitmq_reader_open,
    .reader_next = salvo_rabbitmq_reader_next,
    .reader_close = salvo_rabbitmq_reader_close,
    .topic_delete = salvo_rabbitmq_topic_delete,
    .consumer = &salvo_rabbitmq_consumer_ops,
    .topics = &salvo_rabbitmq_topic_ops,
};
