/* SPDX-License-Identifier: Apache-2.0
 *
 * The memory driver: an embedded broker of this process (log: memory_store.h, reading:
 * memory_reader.h, what it can be told to do wrong: `memory_script`, grammar in memory_script.h).
 *
 * Guarantees. A handle is a queue: batches are settled (stored, refused ...) by poll(), strictly
 * in the order of their submission, each as soon as it is due. So a delayed batch holds up those
 * behind it, as on one connection to a real broker. Nothing is stored before its turn: what purge
 * finds is DROPPED and what a fatal step finds is FATAL, both surely unsent.
 * Ordered retry: when a batch, or a part of it, comes back TRANSIENT, all batches of its partition
 * that were submitted behind it come back TRANSIENT too, and until the engine has seen the last
 * of them submit() takes no more for that partition (TRANSIENT). So a retry in order stays so.
 * A message over max_message_bytes is TOO_LARGE and the rest of its batch is stored.
 * Not guaranteed: anything after the process ends; beyond memory_bytes, see `memory_full`.
 */
#include "driver.h"
#include "error.h"
#include "memory_admin.h"
#include "memory_consumer.h"
#include "memory_reader.h"
#include "memory_script.h"
#include "memory_store.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define INLINE_RANGES 2

typedef struct memory_entry { /* one submitted batch */
    uint64_t token;
    salvo_driver_batch batch; /* a copy; what it points to is the engine's until the outcome */
    salvo_memory_step step;
    uint64_t due_ns;
    bool doomed; /* behind a TRANSIENT one of its partition */
    uint32_t range_count, range_room;
    salvo_driver_range *ranges; /* `few`, or allocated when there are more */
    salvo_driver_range few[INLINE_RANGES];
} memory_entry;

/* A ring: entries [released, head) were handed out by the last poll, [head, tail) wait. */
typedef struct memory_handle {
    salvo_driver_env env;
    salvo_memory_store *store;
    salvo_memory_topic **topics; /* by the producer's id */
    memory_entry *entries;
    uint32_t room;
    uint64_t released, head, tail; /* free-running */
    uint32_t doomed;               /* of those that wait */
    bool broken;                   /* a fatal step: nothing is taken any more */
} memory_handle;

static memory_entry *entry_at(const memory_handle *h, uint64_t position)
{
    return &h->entries[position % h->room];
}

static uint64_t now(const memory_handle *h)
{
    return h->env.now_ns(h->env.clock);
}

static uint32_t memory_capabilities(const salvo_config *config)
{
    (void)config;
    return SALVO_CAP_KEYS | SALVO_CAP_HEADERS | SALVO_CAP_PARTITIONS | SALVO_CAP_TIMESTAMPS |
           SALVO_CAP_ORDERED_RETRY | SALVO_CAP_OFFSETS | SALVO_CAP_READ | SALVO_CAP_GROUPS;
}

/* The log is one for all flushers: each handle answers for its share of it. */
static uint64_t memory_overhead_bytes(const salvo_config *config)
{
    const char *bytes = salvo_config_get(config, "memory_bytes");
    const char *flushers = salvo_config_get(config, "flushers");
    uint64_t log_bytes = bytes ? strtoull(bytes, NULL, 10) : SALVO_MEMORY_BYTES_DEFAULT;
    uint64_t handles = flushers ? strtoull(flushers, NULL, 10) : 1;
    if (handles == 0)
        handles = 1;
    return (log_bytes + handles - 1) / handles + sizeof(memory_handle);
}

static int memory_open_shared(const salvo_config *config, void **shared, char *error,
                              size_t error_size)
{
    salvo_memory_store *store;
    int err = salvo_memory_store_new(config, &store, error, error_size);
    *shared = store;
    return err;
}

static void memory_close_shared(void *shared)
{
    salvo_memory_store_end(shared);
    salvo_memory_store_release(shared);
}

static void memory_close(void *handle)
{
    memory_handle *h = handle;
    for (uint32_t i = 0; h->entries && i < h->room; i++)
        if (h->entries[i].ranges != h->entries[i].few)
            free(h->entries[i].ranges);
    free(h->entries);
    free(h->topics);
    salvo_memory_store_release(h->store);
    free(h);
}

static int memory_open(const salvo_driver_env *env, void **handle, char *error, size_t error_size)
{
    memory_handle *h = calloc(1, sizeof *h);
    if (h) {
        h->env = *env;
        h->store = env->shared;
        salvo_memory_store_hold(h->store);
        h->room = env->max_batches ? 2 * env->max_batches : 1;
        h->topics = calloc(env->max_topics ? env->max_topics : 1, sizeof *h->topics);
        h->entries = calloc(h->room, sizeof *h->entries);
        if (h->topics && h->entries) {
            *handle = h;
            return 0;
        }
        memory_close(h);
    }
    snprintf(error, error_size, "memory driver: no memory for its handle");
    return SALVO_ERR_NOMEM;
}

/* A scripted "down" ends by the engine's clock; the wait itself is bounded by the real one. */
static int memory_require(void *handle, uint32_t timeout_ms, char *error, size_t error_size)
{
    memory_handle *h = handle;
    const struct timespec nap = {.tv_nsec = 1000000};
    for (uint32_t waited_ms = 0; salvo_memory_store_down(h->store, now(h)); waited_ms++) {
        if (waited_ms >= timeout_ms) {
            snprintf(error, error_size, "memory broker: still down after %u ms, as its "
                     "memory_script says", timeout_ms);
            return SALVO_ERR_UNREACHABLE;
        }
        nanosleep(&nap, NULL);
    }
    return 0;
}

static int memory_topic(void *handle, uint32_t topic, const char *name,
                            const salvo_driver_topic *options)
{
    (void)options;
    memory_handle *h = handle;
    if (topic >= h->env.max_topics)
        return SALVO_ERR_LIMIT;
    if (!h->topics[topic])
        h->topics[topic] = salvo_memory_store_topic(h->store, name);
    return h->topics[topic] ? 0 : SALVO_ERR_NOMEM;
}

static int memory_partitions(void *handle, uint32_t topic)
{
    memory_handle *h = handle;
    if (topic >= h->env.max_topics || !h->topics[topic])
        return SALVO_ERR_UNKNOWN_TOPIC;
    if (salvo_memory_store_down(h->store, now(h)))
        return 0; /* an error would be for good */
    return (int)h->topics[topic]->partition_count;
}

/* A broker that is down is told by submit(), as a real one is only noticed on use. */
static void memory_credit(void *handle, salvo_driver_credit *credit)
{
    const memory_handle *h = handle;
    bool open = !h->broken;
    credit->batches = open ? h->env.max_batches - (uint32_t)(h->tail - h->head) : 0;
    credit->messages = open ? UINT32_MAX : 0;
    credit->bytes = open ? UINT64_MAX : 0;
}

static bool same_partition(const salvo_driver_batch *a, const salvo_driver_batch *b)
{
    return a->topic == b->topic && a->partition == b->partition;
}

static bool waits_for_doomed(const memory_handle *h, const salvo_driver_batch *batch)
{
    for (uint64_t i = h->head; h->doomed > 0 && i != h->tail; i++)
        if (entry_at(h, i)->doomed && same_partition(&entry_at(h, i)->batch, batch))
            return true;
    return false;
}

/* All that waits is due now and fares as status. */
static void give_up(memory_handle *h, int32_t status)
{
    for (uint64_t i = h->head; i != h->tail; i++) {
        memory_entry *entry = entry_at(h, i);
        entry->step = (salvo_memory_step){.action = SALVO_MEMORY_FAIL, .status = status};
        entry->due_ns = 0;
    }
}

static int memory_submit(void *handle, const salvo_driver_batch *batch, uint64_t token)
{
    memory_handle *h = handle;
    salvo_memory_step step;
    if (batch->topic >= h->env.max_topics || !h->topics[batch->topic])
        return SALVO_ERR_UNKNOWN_TOPIC;
    if (batch->partition < 0 ||
        (uint32_t)batch->partition >= h->topics[batch->topic]->partition_count)
        return SALVO_ERR_PARTITION;
    if (h->broken || h->tail - h->head >= h->env.max_batches || waits_for_doomed(h, batch))
        return SALVO_ERR_TRANSIENT;
    uint64_t now_ns = now(h);
    if (!salvo_memory_store_step(h->store, now_ns, &step))
        return SALVO_ERR_TRANSIENT;
    memory_entry *entry = entry_at(h, h->tail++);
    *entry = (memory_entry){.token = token, .batch = *batch, .step = step};
    entry->ranges = entry->few;
    entry->range_room = INLINE_RANGES;
    entry->due_ns = step.action == SALVO_MEMORY_DELAY ? now_ns + step.time_ns : 0;
    if (step.action == SALVO_MEMORY_FATAL) {
        h->broken = true;
        give_up(h, SALVO_ERR_FATAL);
    }
    return 0;
}

static void whole(memory_entry *entry, int32_t status)
{
    entry->ranges[0] =
        (salvo_driver_range){.count = entry->batch.count, .status = status, .base_offset = -1};
    entry->range_count = 1;
}

static bool grow_ranges(memory_entry *entry)
{
    uint32_t room = 8 * entry->range_room;
    bool inside = entry->ranges == entry->few;
    salvo_driver_range *more = realloc(inside ? NULL : entry->ranges, room * sizeof *more);
    if (!more)
        return false;
    if (inside)
        memcpy(more, entry->few, sizeof entry->few);
    entry->ranges = more;
    entry->range_room = room;
    return true;
}

/* Message `index` fares as status, like the one before it if that is the same. */
static bool add_range(memory_entry *entry, uint32_t index, int32_t status, int64_t offset)
{
    if (entry->range_count > 0) {
        salvo_driver_range *last = &entry->ranges[entry->range_count - 1];
        if (last->status == status) {
            last->count++;
            return true;
        }
    }
    if (entry->range_count == entry->range_room && !grow_ranges(entry))
        return false;
    entry->ranges[entry->range_count++] =
        (salvo_driver_range){.first = index, .count = 1, .status = status, .base_offset = offset};
    return true;
}

static int64_t wall_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Copy the first `keep` messages, where they are not too large, into the segment; the ranges'
 * offsets are relative to it. */
static int fill(const memory_handle *h, memory_entry *entry, uint32_t keep,
                salvo_memory_segment *segment)
{
    size_t bytes_max = h->store->message_bytes_max;
    int64_t now_ms = wall_ms();
    salvo_driver_cursor cursor = {0};
    salvo_driver_message message;
    for (uint32_t i = 0; i < entry->batch.count; i++) {
        if (!salvo_batch_next(&entry->batch, &cursor, &message)) {
            salvo_log(SALVO_LOG_ERROR, "memory driver: a batch ended after %u of %u messages", i,
                      entry->batch.count);
            return SALVO_ERR_REJECTED;
        }
        int32_t status = i < keep ? 0 : entry->step.status;
        int64_t offset = -1;
        if (message.key_len + message.value_len + message.headers_bytes > bytes_max) {
            status = SALVO_ERR_TOO_LARGE;
        } else if (status == 0) {
            offset = segment->count;
            if (!salvo_memory_segment_add(segment, &message, now_ms))
                return SALVO_ERR_NOMEM;
        }
        if (!add_range(entry, i, status, offset))
            return SALVO_ERR_NOMEM;
    }
    return 0;
}

/* Store the first `keep` messages; the ranges say how each fared. */
static void store_batch(memory_handle *h, memory_entry *entry, uint32_t keep)
{
    salvo_memory_topic *topic = h->topics[entry->batch.topic];
    salvo_memory_segment *segment =
        salvo_memory_segment_new(entry->batch.count, entry->batch.bytes);
    int err = segment ? fill(h, entry, keep, segment) : SALVO_ERR_NOMEM;
    if (!err && segment->count > 0) {
        err = salvo_memory_store_append(h->store, topic, entry->batch.partition, &segment);
        if (!err) {
            int64_t base = segment->base_offset;
            for (uint32_t i = 0; i < entry->range_count; i++)
                if (entry->ranges[i].status == 0)
                    entry->ranges[i].base_offset += base;
            return;
        }
    }
    free(segment);
    if (err)
        whole(entry, err == SALVO_ERR_NOMEM ? SALVO_ERR_TRANSIENT : err);
}

/* After `failed` came back TRANSIENT: those of its partition behind it do as well. */
static void doom_followers(memory_handle *h, const memory_entry *failed)
{
    for (uint64_t i = h->head; i != h->tail; i++) {
        memory_entry *entry = entry_at(h, i);
        if (entry->doomed || !same_partition(&entry->batch, &failed->batch))
            continue;
        entry->step =
            (salvo_memory_step){.action = SALVO_MEMORY_FAIL, .status = SALVO_ERR_TRANSIENT};
        entry->due_ns = 0;
        entry->doomed = true;
        h->doomed++;
    }
}

/* Decide the fate of the entry that was just taken from the head. */
static void settle(memory_handle *h, memory_entry *entry)
{
    switch (entry->step.action) {
    case SALVO_MEMORY_OK:
    case SALVO_MEMORY_DELAY:
        store_batch(h, entry, UINT32_MAX);
        break;
    case SALVO_MEMORY_PARTIAL:
        store_batch(h, entry, entry->step.keep);
        break;
    case SALVO_MEMORY_FAIL:
    case SALVO_MEMORY_DOWN:
    case SALVO_MEMORY_FATAL:
        if (entry->step.status == SALVO_ERR_MAYBE)
            store_batch(h, entry, UINT32_MAX);
        whole(entry, entry->step.status);
        break;
    }
    if (entry->doomed)
        h->doomed--;
    for (uint32_t i = 0; i < entry->range_count; i++)
        if (entry->ranges[i].status == SALVO_ERR_TRANSIENT) {
            doom_followers(h, entry);
            break;
        }
}

static void release_handed_out(memory_handle *h)
{
    for (; h->released != h->head; h->released++) {
        memory_entry *entry = entry_at(h, h->released);
        if (entry->ranges != entry->few)
            free(entry->ranges);
        entry->ranges = entry->few;
    }
}

static int memory_poll(void *handle, salvo_driver_outcome *outcomes, uint32_t max)
{
    memory_handle *h = handle;
    uint32_t n = 0;
    release_handed_out(h);
    while (n < max && h->head != h->tail) {
        memory_entry *entry = entry_at(h, h->head);
        if (entry->due_ns > 0 && entry->due_ns > now(h))
            break;
        h->head++;
        settle(h, entry);
        outcomes[n++] = (salvo_driver_outcome){.token = entry->token,
                                               .range_count = entry->range_count,
                                               .ranges = entry->ranges};
    }
    return n == 0 && h->broken && h->head == h->tail ? SALVO_ERR_FATAL : (int)n;
}

static void memory_flush(void *handle)
{
    (void)handle; /* nothing lingers */
}

static int memory_descriptors(void *handle, int *fds, int max)
{
    (void)handle, (void)fds, (void)max;
    return 0; /* outcomes come by the clock: the flusher polls */
}

static void memory_purge(void *handle, uint32_t timeout_ms)
{
    (void)timeout_ms; /* never waits */
    give_up(handle, SALVO_ERR_DROPPED);
}

static void memory_state(void *handle, char *text, size_t size)
{
    const memory_handle *h = handle;
    uint64_t now_ns = now(h);
    pthread_mutex_lock(&h->store->mutex);
    bool down = now_ns < h->store->down_until_ns;
    uint64_t left_ms = down ? (h->store->down_until_ns - now_ns) / 1000000 : 0;
    uint64_t evicted = h->store->evicted_messages;
    pthread_mutex_unlock(&h->store->mutex);
    if (down)
        snprintf(text, size, "down: by memory_script, for %llu ms", (unsigned long long)left_ms);
    else if (evicted > 0)
        snprintf(text, size, "up: %llu messages evicted, memory_bytes is full",
                 (unsigned long long)evicted);
    else
        snprintf(text, size, "up");
}

const salvo_driver_ops salvo_driver_memory = {
    .size = sizeof(salvo_driver_ops),
    .abi = SALVO_DRIVER_ABI,
    .name = "memory",
    .capabilities = memory_capabilities,
    .overhead_bytes = memory_overhead_bytes,
    .open_shared = memory_open_shared,
    .close_shared = memory_close_shared,
    .open = memory_open,
    .require = memory_require,
    .topic = memory_topic,
    .partitions = memory_partitions,
    .credit = memory_credit,
    .submit = memory_submit,
    .poll = memory_poll,
    .flush = memory_flush,
    .descriptors = memory_descriptors,
    .purge = memory_purge,
    .close = memory_close,
    .state = memory_state,
    .reader_open = salvo_memory_reader_open,
    .reader_next = salvo_memory_reader_next,
    .reader_close = salvo_memory_reader_close,
    .consumer = &salvo_memory_consumer_ops,
    .topics = &salvo_memory_topic_ops,
};
