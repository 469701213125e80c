/* SPDX-License-Identifier: Apache-2.0
 *
 * Topics by name; see topic.h. Names follow Kafka's rule, so that a program can change its broker
 * without changing its topics.
 */
#include "topic.h"

#include "error.h"
#include "producer.h"

#include <stdlib.h>
#include <string.h>

int salvo_topics_open(salvo_topic_table *table, uint32_t max)
{
    table->entries = aligned_alloc(64, (size_t)max * sizeof *table->entries);
    if (table->entries == NULL)
        return SALVO_ERR_NOMEM;
    memset(table->entries, 0, (size_t)max * sizeof *table->entries);
    table->max = max;
    atomic_init(&table->count, 0);
    pthread_mutex_init(&table->lock, NULL);
    return 0;
}

void salvo_topics_close(salvo_topic_table *table)
{
    if (table->entries == NULL)
        return;
    pthread_mutex_destroy(&table->lock);
    for (uint32_t i = 0; i < atomic_load_explicit(&table->count, memory_order_relaxed); i++)
        salvo_topic_driver_free(&table->entries[i].driver);
    free(table->entries);
    table->entries = NULL;
}

int salvo_topic_name_check(const char *name)
{
    size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");
    if (n > 0 && n <= SALVO_TOPIC_NAME_MAX && name[n] == '\0' && strcmp(name, ".") != 0 &&
        strcmp(name, "..") != 0)
        return 0;
    salvo_error_set("topic \"%.64s\": allowed are 1 to %u of [A-Za-z0-9._-], not . or ..", name,
                    SALVO_TOPIC_NAME_MAX);
    return SALVO_ERR_INVALID;
}

static int fill_entry(salvo_topic_entry *e, const char *name, const salvo *p,
                      const salvo_topic_options *o)
{
    const salvo_settings *s = &p->settings;
    strcpy(e->name, name);
    e->policy = o->full_policy != SALVO_POLICY_DEFAULT ? o->full_policy : s->full_policy;
    e->block_ms = o->block_ms != 0 ? o->block_ms : s->block_ms;
    e->batch_bytes = o->batch_bytes != 0 ? o->batch_bytes : s->batch_bytes;
    e->batch_messages = o->batch_messages != 0 ? o->batch_messages : s->batch_messages;
    if (e->batch_messages > s->batch_messages)
        e->batch_messages = s->batch_messages; /* drivers size their tables by it */
    e->linger_ns = o->linger_us != 0 ? (uint64_t)o->linger_us * 1000u : s->linger_ns;
    return salvo_topic_driver_fill(&e->driver, p->config, name, o);
}

static int find_or_add(salvo *p, const char *name, const salvo_topic_options *options,
                       salvo_topic *out)
{
    salvo_topic_table *t = &p->topics;
    uint32_t count = atomic_load_explicit(&t->count, memory_order_relaxed); /* under the lock */
    for (uint32_t i = 0; i < count; i++)
        if (strcmp(t->entries[i].name, name) == 0) {
            *out = i;
            return 0;
        }
    if (count == t->max) {
        salvo_error_set("topic \"%s\": max_topics (%u) reached; raise max_topics", name, t->max);
        return SALVO_ERR_LIMIT;
    }
    int err = fill_entry(&t->entries[count], name, p, options);
    if (err != 0)
        return err;
    /* Release: pairs with salvo_topic_at(). */
    atomic_store_explicit(&t->count, count + 1, memory_order_release);
    *out = count;
    return 0;
}

int salvo_topic_open(salvo *producer, const char *name, const salvo_topic_options *options,
                     salvo_topic *out)
{
    salvo_topic_options o = {0};
    int err = salvo_producer_check(producer);
    salvo_error_clear();
    if (err != 0 || name == NULL || out == NULL)
        return err != 0 ? err : SALVO_ERR_INVALID;
    if (options != NULL)
        memcpy(&o, options, options->size < sizeof o ? options->size : sizeof o);
    err = salvo_topic_name_check(name);
    if (err != 0)
        return err;
    if (o.full_policy > SALVO_POLICY_DROP_NEWEST) {
        salvo_error_set("topic \"%s\": no such full_policy: %d", name, (int)o.full_policy);
        return SALVO_ERR_INVALID;
    }
    pthread_mutex_lock(&producer->topics.lock);
    err = find_or_add(producer, name, &o, out);
    pthread_mutex_unlock(&producer->topics.lock);
    return err;
}
