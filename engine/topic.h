/* SPDX-License-Identifier: Apache-2.0
 *
 * The topic table: names to ids, options, and the counters of refused messages.
 * Guarantees: an id once given stays valid and its entry in place until close; look-up by id is
 * lock-free; at most max_topics. Refusals are cold, so their counters are shared and atomic.
 */
#ifndef SALVO_TOPIC_H
#define SALVO_TOPIC_H

#include "driver.h"

#include <pthread.h>
#include <salvo/salvo.h>
#include <stdatomic.h>

#define SALVO_TOPIC_NAME_MAX 249u /* Kafka's limit */
#define SALVO_RABBITMQ_NAME_MAX 255u /* a short string of AMQP */

typedef enum salvo_refusal {
    SALVO_REFUSED_FULL,
    SALVO_REFUSED_DROPPED,
    SALVO_REFUSED_TIMEOUT,
    SALVO_REFUSED_TOO_LARGE,
    SALVO_REFUSED_INVALID,
    SALVO_REFUSALS
} salvo_refusal;

typedef struct salvo_topic_entry {
    _Alignas(64) _Atomic uint32_t full; /* flushers whose share for it is full; read-mostly */
    salvo_policy policy;
    uint32_t block_ms, batch_bytes, batch_messages;
    uint64_t linger_ns;
    char name[SALVO_TOPIC_NAME_MAX + 1];
    salvo_driver_topic driver;
    _Alignas(64) _Atomic uint64_t refused[SALVO_REFUSALS];
} salvo_topic_entry;

typedef struct salvo_topic_table {
    salvo_topic_entry *entries;
    _Atomic uint32_t count; /* release after the entry is complete */
    uint32_t max;
    pthread_mutex_t lock; /* cold: creation */
} salvo_topic_table;

int salvo_topics_open(salvo_topic_table *table, uint32_t max);
void salvo_topics_close(salvo_topic_table *table);

int salvo_topic_name_check(const char *name); /* 0, or INVALID with the text set */

/* What the driver is told of the topic; 0, INVALID (with the text set) or NOMEM. */
int salvo_topic_driver_fill(salvo_driver_topic *d, const salvo_config *config, const char *topic,
                            const salvo_topic_options *options);
void salvo_topic_driver_free(salvo_driver_topic *d);

/* The entry of an id, or NULL. */
static inline salvo_topic_entry *salvo_topic_at(salvo_topic_table *table, salvo_topic topic)
{
    /* Acquire: pairs with the release in salvo_topic_open(). */
    return topic < atomic_load_explicit(&table->count, memory_order_acquire)
               ? &table->entries[topic]
               : NULL;
}

static inline void salvo_topic_refuse(salvo_topic_entry *topic, salvo_refusal why, uint64_t n)
{
    atomic_fetch_add_explicit(&topic->refused[why], n, memory_order_relaxed);
}

#endif
