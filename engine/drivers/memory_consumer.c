/* SPDX-License-Identifier: Apache-2.0
 *
 * Consuming from the memory broker. Guarantees: members of a group share the partitions of their
 * topics (memory_group.h), each partition is read in order, in turn with the others; messages are
 * given in place, their segments pinned until the next poll; what retention took is skipped with a
 * warning. An acknowledgement is committed at once (with manual_commit: in commit), for there is
 * no broker to spare. Topics are made where they are not there yet. The descriptor is readable
 * while a poll has something to give or to do; an appending flusher makes it so, by one system
 * call per batch at most.
 * A member that does not poll for 30 times kafka_session_timeout_ms (5 minutes, if nobody says
 * otherwise) is given up: Kafka's own limit for one that lives and does not poll.
 */
#include "memory_consumer.h"

#include "config_internal.h"
#include "error.h"
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define MS_NS UINT64_C(1000000)
#define SILENT_SESSIONS 30u

/* --- opening ----------------------------------------------------------------------------------*/

static void free_handle(salvo_memory_consumer *c)
{
    for (salvo_memory_headers *block = c->headers, *next; block; block = next) {
        next = block->next;
        free(block);
    }
    if (c->member.fd >= 0)
        close(c->member.fd);
    free(c->given);
    free(c->topics);
    free(c->slots);
    free(c);
}

static bool take_topics(salvo_memory_consumer *c)
{
    const salvo_consumer_options *o = c->env.options;
    size_t slots = 0;
    c->topics = calloc(o->topic_count, sizeof(salvo_memory_topic *));
    for (size_t i = 0; c->topics && i < o->topic_count; i++) {
        c->topics[i] = salvo_memory_store_topic(c->store, o->topics[i]);
        if (!c->topics[i])
            return false;
        slots += c->topics[i]->partition_count;
    }
    c->slots = c->topics ? calloc(slots, sizeof *c->slots) : NULL;
    if (!c->slots)
        return false;
    for (size_t i = 0; i < o->topic_count; i++)
        for (uint32_t p = 0; p < c->topics[i]->partition_count; p++)
            c->slots[c->slot_count++] = (salvo_memory_slot){.topic = c->topics[i], .partition = p};
    return true;
}

static salvo_memory_consumer *new_handle(const salvo_consumer_env *env)
{
    salvo_memory_consumer *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->env = *env;
    c->store = env->shared;
    c->member.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (c->member.fd < 0 || !take_topics(c)) {
        free_handle(c);
        return NULL;
    }
    c->member.name = env->options->member;
    c->member.topics = c->topics;
    c->member.topic_count = env->options->topic_count;
    c->member.silence_ns = SILENT_SESSIONS * MS_NS *
                           (uint64_t)salvo_config_int(env->config, "kafka_session_timeout_ms");
    c->member.seen_ns = salvo_memory_now_ns();
    c->leave_ns = (uint64_t)salvo_config_int(env->config, "kafka_rebalance_wait_ms") * MS_NS;
    return c;
}

static int join(salvo_memory_consumer *c)
{
    pthread_mutex_lock(&c->store->mutex);
    salvo_memory_group *before = salvo_memory_group_find(c->store, c->env.options->group);
    if (before) /* one of our name may be gone */
        salvo_memory_group_expel_silent(before, c->member.seen_ns);
    int err = salvo_memory_group_join(c->store, c->env.options->group, &c->member);
    for (uint32_t i = 0; !err && i < c->slot_count; i++)
        c->slots[i].share = salvo_memory_group_share(c->member.group, c->slots[i].topic,
                                                     c->slots[i].partition);
    c->store->references += !err;
    pthread_mutex_unlock(&c->store->mutex);
    return err;
}

static int consumer_open(const salvo_consumer_env *env, void **handle, char *error,
                         size_t error_size)
{
    if (!env->shared) {
        snprintf(error, error_size,
                 "the data of the memory broker lives in its producer: give that producer");
        return SALVO_ERR_INVALID;
    }
    salvo_memory_consumer *c = new_handle(env);
    int err = c ? join(c) : SALVO_ERR_NOMEM;
    if (err && c)
        free_handle(c);
    if (err == SALVO_ERR_REJECTED)
        snprintf(error, error_size, "memory broker: group %s has a member named %s already: close "
                 "it, or take another name", env->options->group, env->options->member);
    else if (err)
        snprintf(error, error_size, "memory broker: no memory for a consumer");
    *handle = err ? NULL : c;
    return err;
}

/* --- giving -----------------------------------------------------------------------------------*/

static bool can_give(const salvo_memory_slot *slot)
{
    return salvo_memory_place_readable(&slot->place) && salvo_window_room(&slot->window) > 0;
}

/* With the mutex held: keep a segment until the next poll. */
static bool keep_segment(salvo_memory_consumer *c, salvo_memory_segment *segment)
{
    if (c->given_count == c->given_room) {
        uint32_t room = c->given_room ? 2 * c->given_room : 16;
        salvo_memory_segment **given = realloc(c->given, room * sizeof *given);
        if (!given)
            return false;
        c->given = given;
        c->given_room = room;
    }
    salvo_memory_segment_pin(segment);
    c->given[c->given_count++] = segment;
    return true;
}

/* With the mutex held: what the last poll gave may go. */
static void release_given(salvo_memory_consumer *c)
{
    for (uint32_t i = 0; i < c->given_count; i++)
        salvo_memory_segment_unpin(c->given[i]);
    c->given_count = 0;
    c->headers_at = c->headers;
    c->headers_used = 0;
}

/* With the mutex held: stand on a segment with something to give. */
static bool go_on(salvo_memory_consumer *c, salvo_memory_slot *slot)
{
    int64_t missed = 0;
    if (!slot->claim || slot->leaving || slot->paused)
        return false;
    if (!salvo_memory_place_readable(&slot->place)) {
        salvo_memory_segment *left = salvo_memory_place_advance(
            &slot->place, &slot->topic->partitions[slot->partition], &missed);
        if (left)
            salvo_memory_segment_unpin(left);
    }
    if (missed > 0)
        c->env.log(SALVO_LOG_WARNING,
                   "group %s: %lld messages of memory topic %s/%u were evicted before they were "
                   "read; raise memory_bytes or read sooner", c->env.options->group,
                   (long long)missed, slot->topic->name, slot->partition);
    c->window_full |= salvo_window_room(&slot->window) == 0;
    return can_give(slot) && keep_segment(c, slot->place.segment);
}

/* Room for the headers of one more message, or NULL. */
static salvo_header *headers_room(salvo_memory_consumer *c)
{
    if (c->headers_at &&
        c->headers_used + SALVO_MEMORY_HEADERS_MAX <= SALVO_MEMORY_BLOCK_HEADERS)
        return &c->headers_at->of[c->headers_used];
    salvo_memory_headers *next = c->headers_at ? c->headers_at->next : c->headers;
    if (!next) {
        next = malloc(sizeof *next);
        if (!next)
            return NULL;
        next->next = NULL;
        if (c->headers_at)
            c->headers_at->next = next;
        else
            c->headers = next;
    }
    c->headers_at = next;
    c->headers_used = 0;
    return next->of;
}

/* One message of a slot that can give; false: no memory. */
static bool give(salvo_memory_consumer *c, salvo_memory_slot *slot, salvo_driver_delivery *out)
{
    salvo_header *headers = headers_room(c);
    int64_t offset = slot->place.next;
    if (!headers || !salvo_window_give(&slot->window, offset))
        return false;
    int err = salvo_memory_place_take(&slot->place, slot->topic, slot->partition, headers,
                                      &out->record);
    if (err)
        c->env.log(SALVO_LOG_ERROR, "memory topic %s/%u, offset %lld: malformed headers",
                   slot->topic->name, slot->partition, (long long)offset);
    c->headers_used += (uint32_t)out->record.header_count;
    out->tag = (salvo_driver_tag){.claim = slot->claim, .a = (uint64_t)offset};
    out->deliveries = offset >= slot->share->given ? 1 : slot->share->skipped ? 0 : 2;
    return true;
}

/* With the mutex held, for nothing is copied: a stored batch of each partition in turn. */
static size_t give_ready(salvo_memory_consumer *c, salvo_driver_delivery *out, size_t max)
{
    size_t n = 0;
    for (uint32_t idle = 0; n < max && idle < c->slot_count;) {
        c->turn = (c->turn + 1) % c->slot_count;
        salvo_memory_slot *slot = &c->slots[c->turn];
        if (!go_on(c, slot)) {
            idle++;
            continue;
        }
        for (idle = 0; n < max && can_give(slot); n++)
            if (!give(c, slot, &out[n]))
                return n;
        if (slot->place.next > slot->share->given)
            slot->share->given = slot->place.next;
    }
    return n;
}

/* --- polling ----------------------------------------------------------------------------------*/

/* With the mutex held: nothing is left to give until somebody notifies. */
static void make_quiet(salvo_memory_consumer *c)
{
    uint64_t count;
    if (read(c->member.fd, &count, sizeof count) < 0) { /* it is empty already */
    }
    c->member.ready = false;
}

static int look(salvo_memory_consumer *c, salvo_driver_delivery *out, size_t max, char *error,
                size_t error_size)
{
    pthread_mutex_lock(&c->store->mutex);
    release_given(c);
    c->window_full = false;
    int err = salvo_memory_claims_follow(c, error, error_size);
    size_t n = err ? 0 : give_ready(c, out, max);
    if (n < max)
        make_quiet(c);
    if (!err && n == 0 && max > 0 && c->store->closed) {
        snprintf(error, error_size, "the producer of this memory broker was closed: nothing more "
                 "will come");
        err = SALVO_ERR_CLOSED;
    }
    pthread_mutex_unlock(&c->store->mutex);
    return err ? err : (int)n;
}

static int consumer_poll(void *handle, uint64_t timeout_ms, salvo_driver_delivery *deliveries,
                         size_t max, char *error, size_t error_size)
{
    salvo_memory_consumer *c = handle;
    uint64_t deadline_ns = salvo_memory_now_ns() + timeout_ms * MS_NS;
    for (;;) {
        int n = look(c, deliveries, max, error, error_size);
        if (n != 0 || timeout_ms == 0)
            return n;
        /* Acquire: pairs with the release in consumer_wake, whose write comes after it: a wake
         * whose word is not seen here is still to be read. */
        if (atomic_exchange_explicit(&c->woken, 0, memory_order_acquire))
            return 0;
        uint64_t now_ns = salvo_memory_now_ns();
        if (now_ns >= deadline_ns)
            return 0;
        struct pollfd fd = {.fd = c->member.fd, .events = POLLIN};
        if (poll(&fd, 1, (int)((deadline_ns - now_ns + MS_NS - 1) / MS_NS)) < 0)
            return 0; /* a signal: the engine looks whether to go on */
    }
}

static int consumer_descriptor(void *handle)
{
    return ((salvo_memory_consumer *)handle)->member.fd;
}

static void consumer_wake(void *handle)
{
    salvo_memory_consumer *c = handle;
    const uint64_t one = 1;
    atomic_store_explicit(&c->woken, 1, memory_order_release); /* see consumer_poll */
    if (write(c->member.fd, &one, sizeof one) < 0) { /* full: readable as it is */
    }
}

/* --- settling ---------------------------------------------------------------------------------*/

static salvo_memory_slot *slot_of(salvo_memory_consumer *c, uint32_t claim,
                                  salvo_memory_slot *guess)
{
    if (guess && guess->claim == claim)
        return guess;
    for (uint32_t i = 0; i < c->slot_count; i++)
        if (c->slots[i].claim == claim)
            return &c->slots[i];
    return NULL;
}

static void consumer_ack(void *handle, const salvo_driver_tag *tags, size_t count)
{
    salvo_memory_consumer *c = handle;
    salvo_memory_slot *slot = NULL;
    bool leaving = false;
    for (size_t i = 0; i < count; i++) {
        slot = slot_of(c, tags[i].claim, slot);
        if (slot && salvo_window_settle(&slot->window, (int64_t)tags[i].a))
            slot->settled = true;
        leaving |= slot && slot->leaving;
    }
    pthread_mutex_lock(&c->store->mutex);
    if (!c->env.options->manual_commit)
        salvo_memory_claims_commit(c);
    if (leaving || c->window_full)
        salvo_memory_member_notify(&c->member);
    pthread_mutex_unlock(&c->store->mutex);
}

static int consumer_commit(void *handle, uint64_t timeout_ms, char *error, size_t error_size)
{
    salvo_memory_consumer *c = handle;
    (void)timeout_ms, (void)error, (void)error_size; /* it cannot wait or fail */
    pthread_mutex_lock(&c->store->mutex);
    salvo_memory_claims_commit(c);
    pthread_mutex_unlock(&c->store->mutex);
    return 0;
}

static void consumer_state(void *handle, char *text, size_t size)
{
    salvo_memory_consumer *c = handle;
    pthread_mutex_lock(&c->store->mutex);
    bool closed = c->store->closed;
    pthread_mutex_unlock(&c->store->mutex);
    snprintf(text, size, "%s", closed ? "down: its producer was closed" : "up");
}

static int consumer_close(void *handle, uint64_t timeout_ms, char *error, size_t error_size)
{
    salvo_memory_consumer *c = handle;
    salvo_memory_store *store = c->store;
    (void)timeout_ms, (void)error, (void)error_size;
    pthread_mutex_lock(&store->mutex);
    release_given(c);
    for (uint32_t i = 0; i < c->slot_count; i++)
        if (c->slots[i].claim)
            salvo_memory_claim_end(c, &c->slots[i]);
    if (c->member.group)
        salvo_memory_group_leave(&c->member);
    pthread_mutex_unlock(&store->mutex);
    free_handle(c);
    salvo_memory_store_release(store);
    return 0;
}

const salvo_driver_consumer_ops salvo_memory_consumer_ops = {
    .open = consumer_open,
    .poll = consumer_poll,
    .descriptor = consumer_descriptor,
    .wake = consumer_wake,
    .ack = consumer_ack,
    .commit = consumer_commit,
    .seek = salvo_memory_consumer_seek,
    .rewind = salvo_memory_consumer_rewind,
    .pause = salvo_memory_consumer_pause,
    .lag = salvo_memory_consumer_lag,
    .state = consumer_state,
    .close = consumer_close,
    .group_lag = salvo_memory_group_lag,
};
