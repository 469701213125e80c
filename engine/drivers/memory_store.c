/* SPDX-License-Identifier: Apache-2.0
 *
 * The memory broker's log: see the header for the structure and its invariants.
 */
#include "memory_store.h"
#include "error.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LIMIT_BYTES_MIN (UINT64_C(64) << 10)
#define MESSAGE_BYTES_DEFAULT 1048576u
#define SLACK_BYTES 4096u /* unused space that is not worth a realloc */

/* A whole number from the configuration; absent: *out stays. */
static int read_number(const salvo_config *config, const char *key, uint64_t min, uint64_t max,
                       uint64_t *out, char *error, size_t error_size)
{
    const char *text = salvo_config_get(config, key);
    if (!text || !*text)
        return 0;
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (end == text || *end || errno || *text == '-' || value < min || value > max) {
        snprintf(error, error_size, "%s = \"%s\": allowed is %llu to %llu", key, text,
                 (unsigned long long)min, (unsigned long long)max);
        return SALVO_ERR_CONFIG;
    }
    *out = value;
    return 0;
}

static int read_config(salvo_memory_store *store, const salvo_config *config, char *error,
                       size_t error_size)
{
    uint64_t partitions = 1, limit = SALVO_MEMORY_BYTES_DEFAULT, message = MESSAGE_BYTES_DEFAULT;
    const char *full = salvo_config_get(config, "memory_full");
    if (full && strcmp(full, "evict") != 0 && strcmp(full, "reject") != 0) {
        snprintf(error, error_size, "memory_full = \"%s\": allowed are evict and reject", full);
        return SALVO_ERR_CONFIG;
    }
    int err = read_number(config, "memory_partitions", 1, SALVO_MEMORY_PARTITIONS_MAX, &partitions,
                          error, error_size);
    if (!err)
        err = read_number(config, "memory_bytes", LIMIT_BYTES_MIN, INT64_MAX, &limit, error,
                          error_size);
    if (!err)
        err = read_number(config, "max_message_bytes", 1, UINT32_MAX - 1, &message, error,
                          error_size);
    if (!err)
        err = salvo_memory_script_parse(&store->script,
                                        salvo_config_get(config, "memory_script"), error,
                                        error_size);
    store->evict = !full || strcmp(full, "evict") == 0;
    store->partition_count = (uint32_t)partitions;
    store->limit_bytes = limit;
    store->message_bytes_max = message;
    store->scripted = store->script.count > 0;
    return err;
}

/* Deadlines are on CLOCK_MONOTONIC, so that a set wall clock neither cuts nor stretches a wait. */
static int init_locks(salvo_memory_store *store)
{
    pthread_condattr_t attributes;
    if (pthread_condattr_init(&attributes) != 0)
        return SALVO_ERR_NOMEM;
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    int failed = pthread_cond_init(&store->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    if (failed)
        return SALVO_ERR_NOMEM;
    if (pthread_mutex_init(&store->mutex, NULL) != 0) {
        pthread_cond_destroy(&store->changed);
        return SALVO_ERR_NOMEM;
    }
    return 0;
}

int salvo_memory_store_new(const salvo_config *config, salvo_memory_store **out, char *error,
                           size_t error_size)
{
    salvo_memory_store *store = calloc(1, sizeof *store);
    *out = NULL;
    if (!store) {
        snprintf(error, error_size, "memory broker: no memory");
        return SALVO_ERR_NOMEM;
    }
    int err = read_config(store, config, error, error_size);
    if (!err && (err = init_locks(store)) != 0)
        snprintf(error, error_size, "memory broker: no memory for its lock");
    if (err) {
        salvo_memory_script_free(&store->script);
        free(store);
        return err;
    }
    store->references = 1;
    *out = store;
    return 0;
}

void salvo_memory_store_hold(salvo_memory_store *store)
{
    pthread_mutex_lock(&store->mutex);
    store->references++;
    pthread_mutex_unlock(&store->mutex);
}

static void free_store(salvo_memory_store *store)
{
    for (salvo_memory_segment *s = store->oldest, *next; s; s = next) {
        next = s->next_by_age;
        free(s);
    }
    salvo_memory_groups_free(store);
    for (salvo_memory_topic *t = store->topics, *next; t; t = next) {
        next = t->next;
        free(t->partitions);
        free(t);
    }
    salvo_memory_script_free(&store->script);
    pthread_cond_destroy(&store->changed);
    pthread_mutex_destroy(&store->mutex);
    free(store);
}

void salvo_memory_store_release(salvo_memory_store *store)
{
    pthread_mutex_lock(&store->mutex);
    bool last = --store->references == 0;
    pthread_mutex_unlock(&store->mutex);
    if (last)
        free_store(store);
}

void salvo_memory_store_end(salvo_memory_store *store)
{
    pthread_mutex_lock(&store->mutex);
    store->closed = true;
    salvo_memory_groups_ended(store);
    pthread_cond_broadcast(&store->changed);
    pthread_mutex_unlock(&store->mutex);
}

salvo_memory_topic *salvo_memory_store_find(salvo_memory_store *store, const char *name)
{
    for (salvo_memory_topic *topic = store->topics; topic; topic = topic->next)
        if (strcmp(topic->name, name) == 0)
            return topic;
    return NULL;
}

static salvo_memory_topic *new_topic(uint32_t partition_count, const char *name)
{
    size_t name_size = strlen(name) + 1;
    salvo_memory_topic *topic = calloc(1, sizeof *topic + name_size);
    if (!topic)
        return NULL;
    topic->partitions = calloc(partition_count, sizeof *topic->partitions);
    if (!topic->partitions) {
        free(topic);
        return NULL;
    }
    topic->partition_count = partition_count;
    memcpy(topic->name, name, name_size);
    return topic;
}

/* With the mutex held. */
static salvo_memory_topic *add_topic(salvo_memory_store *store, const char *name,
                                     uint32_t partition_count)
{
    salvo_memory_topic *topic = new_topic(partition_count, name);
    if (topic) {
        topic->next = store->topics;
        store->topics = topic;
        pthread_cond_broadcast(&store->changed);
    }
    return topic;
}

salvo_memory_topic *salvo_memory_store_topic(salvo_memory_store *store, const char *name)
{
    pthread_mutex_lock(&store->mutex);
    salvo_memory_topic *topic = salvo_memory_store_find(store, name);
    if (!topic)
        topic = add_topic(store, name, store->partition_count);
    pthread_mutex_unlock(&store->mutex);
    return topic;
}

int salvo_memory_store_create(salvo_memory_store *store, const char *name, int32_t partitions)
{
    if (partitions < 1 || partitions > SALVO_MEMORY_PARTITIONS_MAX)
        return SALVO_ERR_INVALID;
    pthread_mutex_lock(&store->mutex);
    int err = salvo_memory_store_find(store, name) ? SALVO_ERR_REJECTED : 0;
    if (!err && !add_topic(store, name, (uint32_t)partitions))
        err = SALVO_ERR_NOMEM;
    pthread_mutex_unlock(&store->mutex);
    return err;
}

salvo_memory_segment *salvo_memory_segment_new(uint32_t count, uint64_t bytes)
{
    size_t size = sizeof(salvo_memory_segment) +
                  (size_t)count * (sizeof(salvo_memory_record) + 7) + bytes;
    salvo_memory_segment *segment = malloc(size);
    if (segment) {
        memset(segment, 0, sizeof *segment);
        segment->size = size;
    }
    return segment;
}

static unsigned char *put(unsigned char *at, const void *bytes, size_t len)
{
    if (len > 0)
        memcpy(at, bytes, len);
    return at + len;
}

bool salvo_memory_segment_add(salvo_memory_segment *segment, const salvo_driver_message *message,
                              int64_t now_ms)
{
    size_t len = sizeof(salvo_memory_record) + message->key_len + message->value_len +
                 message->headers_bytes;
    size_t padded = (len + 7) & ~(size_t)7;
    if (padded > segment->size - sizeof *segment - segment->used)
        return false;
    unsigned char *at = segment->records + segment->used;
    salvo_memory_record record = {
        .timestamp_ms = message->timestamp_ms ? message->timestamp_ms : now_ms,
        .key_len = message->key ? (uint32_t)message->key_len : SALVO_MEMORY_NULL,
        .value_len = message->value ? (uint32_t)message->value_len : SALVO_MEMORY_NULL,
        .headers_bytes = message->headers_bytes,
    };
    at = put(at, &record, sizeof record);
    at = put(at, message->key, message->key_len);
    at = put(at, message->value, message->value_len);
    at = put(at, message->headers, message->headers_bytes);
    segment->used += padded;
    segment->count++;
    return true;
}

/* Batches of which much was refused would hold memory that nobody uses. */
static salvo_memory_segment *shrink(salvo_memory_segment *segment)
{
    size_t size = sizeof *segment + segment->used;
    if (segment->size - size <= SLACK_BYTES)
        return segment;
    salvo_memory_segment *smaller = realloc(segment, size);
    if (!smaller)
        return segment;
    smaller->size = size;
    return smaller;
}

/* Unlink the oldest segment; returns it if the caller has to free it. */
static salvo_memory_segment *evict_oldest(salvo_memory_store *store)
{
    salvo_memory_segment *segment = store->oldest;
    salvo_memory_partition *partition = segment->partition;
    store->oldest = segment->next_by_age;
    if (!store->oldest)
        store->newest = NULL;
    partition->head = segment->next;
    if (!partition->head)
        partition->tail = NULL;
    store->bytes -= segment->size;
    store->evicted_messages += segment->count;
    segment->evicted = true;
    return segment->pins == 0 ? segment : NULL;
}

static void link_newest(salvo_memory_store *store, salvo_memory_partition *partition,
                        salvo_memory_segment *segment)
{
    segment->partition = partition;
    segment->base_offset = partition->next_offset;
    partition->next_offset += segment->count;
    if (partition->tail)
        partition->tail->next = segment;
    else
        partition->head = segment;
    partition->tail = segment;
    if (store->newest)
        store->newest->next_by_age = segment;
    else
        store->oldest = segment;
    store->newest = segment;
    store->bytes += segment->size;
}

static void free_by_age(salvo_memory_segment *segment)
{
    while (segment) {
        salvo_memory_segment *next = segment->next_by_age;
        free(segment);
        segment = next;
    }
}

static void warn_full(const salvo_memory_store *store)
{
    salvo_log(SALVO_LOG_WARNING, "memory broker: memory_bytes = %llu is full: %s",
              (unsigned long long)store->limit_bytes,
              store->evict ? "the oldest messages go, as memory_full = evict says"
                           : "batches are refused, as memory_full = reject says");
}

int salvo_memory_store_append(salvo_memory_store *store, salvo_memory_topic *topic,
                              int32_t partition, salvo_memory_segment **segment_in)
{
    salvo_memory_segment *segment = *segment_in = shrink(*segment_in);
    salvo_memory_segment *garbage = NULL;
    if (segment->size > store->limit_bytes)
        return SALVO_ERR_TOO_LARGE;
    pthread_mutex_lock(&store->mutex);
    bool full = store->bytes + segment->size > store->limit_bytes;
    bool warn = full && !store->warned_full;
    store->warned_full |= full;
    if (!full || store->evict) {
        while (store->bytes + segment->size > store->limit_bytes) {
            salvo_memory_segment *dead = evict_oldest(store);
            if (dead) {
                dead->next_by_age = garbage;
                garbage = dead;
            }
        }
        link_newest(store, &topic->partitions[partition], segment);
        salvo_memory_groups_arrived(&topic->partitions[partition]);
        if (store->waiters > 0)
            pthread_cond_broadcast(&store->changed);
    }
    pthread_mutex_unlock(&store->mutex);
    free_by_age(garbage);
    if (warn)
        warn_full(store);
    return full && !store->evict ? SALVO_ERR_TRANSIENT : 0;
}

void salvo_memory_segment_pin(salvo_memory_segment *segment)
{
    segment->pins++;
}

void salvo_memory_segment_unpin(salvo_memory_segment *segment)
{
    if (--segment->pins == 0 && segment->evicted)
        free(segment);
}

/* With the mutex held. */
static bool is_down(salvo_memory_store *store, uint64_t now_ns)
{
    if (now_ns < store->down_until_ns)
        return true;
    salvo_memory_step step = salvo_memory_script_peek(&store->script);
    if (step.action != SALVO_MEMORY_DOWN)
        return false;
    salvo_memory_script_next(&store->script);
    store->down_until_ns = now_ns + step.time_ns;
    return true;
}

bool salvo_memory_store_down(salvo_memory_store *store, uint64_t now_ns)
{
    if (!store->scripted)
        return false;
    pthread_mutex_lock(&store->mutex);
    bool down = is_down(store, now_ns);
    pthread_mutex_unlock(&store->mutex);
    return down;
}

bool salvo_memory_store_step(salvo_memory_store *store, uint64_t now_ns, salvo_memory_step *step)
{
    *step = (salvo_memory_step){.action = SALVO_MEMORY_OK};
    if (!store->scripted)
        return true;
    pthread_mutex_lock(&store->mutex);
    bool down = is_down(store, now_ns);
    if (!down) {
        *step = salvo_memory_script_peek(&store->script);
        salvo_memory_script_next(&store->script);
    }
    pthread_mutex_unlock(&store->mutex);
    return !down;
}
