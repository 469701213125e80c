/* SPDX-License-Identifier: Apache-2.0
 *
 * The null driver: takes every batch and acknowledges it at the next poll, for measuring what the
 * engine itself costs. Guarantees: constant work per batch, nothing per message, no allocation
 * after topic(); offsets count up per topic and partition of one handle (several flushers count
 * each for themselves). It keeps nothing, so there is nothing to read back.
 */
#include "driver.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define PARTITIONS_MAX 1024

typedef struct null_slot {
    uint64_t token;
    salvo_driver_range range;
} null_slot;

/* A ring of slots. What the last poll handed out stays untouched until the next poll, hence twice
 * max_batches: at most max_batches wait (tail - head), and as many were handed out last. */
typedef struct null_handle {
    uint64_t head, tail; /* free-running */
    uint32_t room;       /* slots */
    uint32_t max_batches, max_topics, partitions;
    null_slot *slots;
    int64_t **offsets; /* by topic: the next offset of each partition; NULL: not known yet */
} null_handle;

static int read_partitions(const salvo_config *config, uint32_t *out, char *error, size_t size)
{
    const char *text = salvo_config_get(config, "null_partitions");
    char *end = NULL;
    errno = 0;
    unsigned long long value = text ? strtoull(text, &end, 10) : 1;
    if (text && (end == text || *end || errno || value < 1 || value > PARTITIONS_MAX)) {
        snprintf(error, size, "null_partitions = \"%s\": allowed is 1 to %d", text,
                 PARTITIONS_MAX);
        return SALVO_ERR_CONFIG;
    }
    *out = (uint32_t)value;
    return 0;
}

static uint32_t null_capabilities(const salvo_config *config)
{
    (void)config;
    return SALVO_CAP_KEYS | SALVO_CAP_HEADERS | SALVO_CAP_PARTITIONS | SALVO_CAP_TIMESTAMPS |
           SALVO_CAP_ORDERED_RETRY | SALVO_CAP_OFFSETS;
}

static uint64_t null_overhead_bytes(const salvo_config *config)
{
    (void)config;
    return sizeof(null_handle); /* slots and offsets: some kilobytes, known only at open */
}

static void null_close(void *handle)
{
    null_handle *h = handle;
    for (uint32_t i = 0; h->offsets && i < h->max_topics; i++)
        free(h->offsets[i]);
    free(h->offsets);
    free(h->slots);
    free(h);
}

static int null_open(const salvo_driver_env *env, void **handle, char *error, size_t error_size)
{
    uint32_t partitions;
    int err = read_partitions(env->config, &partitions, error, error_size);
    if (err)
        return err;
    null_handle *h = calloc(1, sizeof *h);
    if (h) {
        h->partitions = partitions;
        h->max_batches = env->max_batches;
        h->max_topics = env->max_topics;
        h->room = 2 * env->max_batches;
        h->slots = calloc(h->room ? h->room : 1, sizeof *h->slots);
        h->offsets = calloc(h->max_topics ? h->max_topics : 1, sizeof *h->offsets);
        if (h->slots && h->offsets) {
            *handle = h;
            return 0;
        }
        null_close(h);
    }
    snprintf(error, error_size, "null driver: no memory for its handle");
    return SALVO_ERR_NOMEM;
}

static int null_require(void *handle, uint32_t timeout_ms, char *error, size_t error_size)
{
    (void)handle, (void)timeout_ms, (void)error, (void)error_size;
    return 0;
}

static int null_topic(void *handle, uint32_t topic, const char *name,
                          const salvo_driver_topic *options)
{
    (void)options;
    null_handle *h = handle;
    (void)name;
    if (topic >= h->max_topics)
        return SALVO_ERR_LIMIT;
    if (!h->offsets[topic])
        h->offsets[topic] = calloc(h->partitions, sizeof **h->offsets);
    return h->offsets[topic] ? 0 : SALVO_ERR_NOMEM;
}

static int null_partitions(void *handle, uint32_t topic)
{
    const null_handle *h = handle;
    if (topic >= h->max_topics || !h->offsets[topic])
        return SALVO_ERR_UNKNOWN_TOPIC;
    return (int)h->partitions;
}

static void null_credit(void *handle, salvo_driver_credit *credit)
{
    const null_handle *h = handle;
    credit->batches = h->max_batches - (uint32_t)(h->tail - h->head);
    credit->messages = UINT32_MAX;
    credit->bytes = UINT64_MAX;
}

static int null_submit(void *handle, const salvo_driver_batch *batch, uint64_t token)
{
    null_handle *h = handle;
    if (batch->topic >= h->max_topics || !h->offsets[batch->topic])
        return SALVO_ERR_UNKNOWN_TOPIC;
    if (batch->partition < 0 || (uint32_t)batch->partition >= h->partitions)
        return SALVO_ERR_PARTITION;
    if (h->tail - h->head >= h->max_batches)
        return SALVO_ERR_TRANSIENT;
    int64_t *next = &h->offsets[batch->topic][batch->partition];
    h->slots[h->tail++ % h->room] = (null_slot){
        .token = token,
        .range = {.count = batch->count, .base_offset = *next},
    };
    *next += batch->count;
    return 0;
}

static int null_poll(void *handle, salvo_driver_outcome *outcomes, uint32_t max)
{
    null_handle *h = handle;
    uint32_t n = 0;
    for (; n < max && h->head != h->tail; n++) {
        const null_slot *slot = &h->slots[h->head++ % h->room];
        outcomes[n] = (salvo_driver_outcome){
            .token = slot->token, .range_count = 1, .ranges = &slot->range};
    }
    return (int)n;
}

static void null_flush(void *handle)
{
    (void)handle; /* nothing lingers */
}

static int null_descriptors(void *handle, int *fds, int max)
{
    (void)handle, (void)fds, (void)max;
    return 0; /* outcomes wait from the submit on */
}

static void null_purge(void *handle, uint32_t timeout_ms)
{
    (void)handle, (void)timeout_ms; /* all that is out has its outcome already */
}

static void null_state(void *handle, char *text, size_t size)
{
    (void)handle;
    snprintf(text, size, "up");
}

const salvo_driver_ops salvo_driver_null = {
    .size = sizeof(salvo_driver_ops),
    .abi = SALVO_DRIVER_ABI,
    .name = "null",
    .capabilities = null_capabilities,
    .overhead_bytes = null_overhead_bytes,
    .open = null_open,
    .require = null_require,
    .topic = null_topic,
    .partitions = null_partitions,
    .credit = null_credit,
    .submit = null_submit,
    .poll = null_poll,
    .flush = null_flush,
    .descriptors = null_descriptors,
    .purge = null_purge,
    .close = null_close,
    .state = null_state,
};
