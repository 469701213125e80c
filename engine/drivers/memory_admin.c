/* SPDX-License-Identifier: Apache-2.0
 *
 * Topics of the memory broker. They live in their producer's store and end with it. Guarantees:
 * each call sees the store as it is at one moment; nothing waits.
 */
#include "memory_admin.h"
#include "error.h"
#include "memory_store.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int no_store(char *error, size_t error_size)
{
    snprintf(error, error_size,
             "the topics of the memory broker live in its producer: give that producer");
    return SALVO_ERR_INVALID;
}

static int memory_create(const salvo_config *config, void *shared, const salvo_topic_spec *spec,
                         uint32_t timeout_ms, char *error, size_t error_size)
{
    (void)config, (void)timeout_ms;
    if (!shared)
        return no_store(error, error_size);
    int err = salvo_memory_store_create(shared, spec->name, spec->partitions);
    if (err == SALVO_ERR_REJECTED)
        snprintf(error, error_size, "memory broker: there is a topic '%s' already", spec->name);
    else if (err == SALVO_ERR_INVALID)
        snprintf(error, error_size, "memory broker: topic '%s': partitions = %d: allowed are 1 to "
                 "%d", spec->name, spec->partitions, SALVO_MEMORY_PARTITIONS_MAX);
    return err;
}

static int64_t count_messages(const salvo_memory_topic *topic)
{
    int64_t messages = 0;
    for (uint32_t i = 0; i < topic->partition_count; i++) {
        const salvo_memory_partition *p = &topic->partitions[i];
        messages += p->head ? p->next_offset - p->head->base_offset : 0;
    }
    return messages;
}

static void fill(const salvo_memory_topic *topic, salvo_topic_info *info)
{
    *info = (salvo_topic_info){.partitions = (int32_t)topic->partition_count,
                               .replication_factor = -1, .retention_ms = -1, .messages = -1};
    snprintf(info->name, sizeof info->name, "%s", topic->name);
}

static int64_t memory_list(const salvo_config *config, void *shared, salvo_topic_info **topics,
                           uint32_t timeout_ms, char *error, size_t error_size)
{
    salvo_memory_store *store = shared;
    int64_t count = 0, at = 0;
    (void)config, (void)timeout_ms;
    if (!store)
        return no_store(error, error_size);
    pthread_mutex_lock(&store->mutex);
    for (const salvo_memory_topic *t = store->topics; t; t = t->next)
        count++;
    *topics = count > 0 ? malloc((size_t)count * sizeof **topics) : NULL;
    for (const salvo_memory_topic *t = store->topics; t && *topics; t = t->next)
        fill(t, &(*topics)[at++]);
    pthread_mutex_unlock(&store->mutex);
    return at == count ? count : SALVO_ERR_NOMEM;
}

static int memory_describe(const salvo_config *config, void *shared, const char *name,
                           salvo_topic_info *info, uint32_t timeout_ms, char *error,
                           size_t error_size)
{
    salvo_memory_store *store = shared;
    (void)config, (void)timeout_ms;
    if (!store)
        return no_store(error, error_size);
    pthread_mutex_lock(&store->mutex);
    const salvo_memory_topic *topic = salvo_memory_store_find(store, name);
    if (topic) {
        fill(topic, info);
        info->messages = count_messages(topic);
    }
    pthread_mutex_unlock(&store->mutex);
    if (topic)
        return 0;
    snprintf(error, error_size, "memory broker: there is no topic '%s'", name);
    return SALVO_ERR_UNKNOWN_TOPIC;
}

const salvo_driver_topic_ops salvo_memory_topic_ops = {
    .can = SALVO_TOPIC_CAN_PARTITIONS,
    .create = memory_create,
    .list = memory_list,
    .describe = memory_describe,
};
