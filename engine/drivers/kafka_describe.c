/* SPDX-License-Identifier: Apache-2.0
 *
 * Looking at topics: partitions and replicas by metadata, retention and clean-up by
 * DescribeConfigs, messages by the ends of the partitions. Guarantees: what we have no right to
 * see of a topic's configuration is left "not told", the rest is shown.
 */
#include "kafka_admin.h"
#include "error.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CONFIGS_AT_ONCE = 200 };

static void fill(const rd_kafka_metadata_topic_t *t, salvo_topic_info *info)
{
    *info = (salvo_topic_info){.partitions = t->partition_cnt, .messages = -1,
                               .replication_factor = -1,
                               .retention_ms = SALVO_RETENTION_DEFAULT};
    snprintf(info->name, sizeof info->name, "%s", t->topic);
    if (t->partition_cnt > 0)
        info->replication_factor = t->partitions[0].replica_cnt;
    info->internal = strncmp(t->topic, "__", 2) == 0; /* the brokers' own begin like that */
}

static void take_config(const rd_kafka_ConfigResource_t *resource, salvo_topic_info *info)
{
    size_t count;
    const rd_kafka_ConfigEntry_t **entries =
        rd_kafka_ConfigResource_configs(resource, &count);
    for (size_t i = 0; i < count; i++) {
        const char *name = rd_kafka_ConfigEntry_name(entries[i]);
        const char *value = rd_kafka_ConfigEntry_value(entries[i]);
        if (!name || !value)
            continue;
        if (strcmp(name, "retention.ms") == 0)
            info->retention_ms = strtoll(value, NULL, 10);
        else if (strcmp(name, "cleanup.policy") == 0)
            snprintf(info->cleanup_policy, sizeof info->cleanup_policy, "%s", value);
    }
}

/* The answers come in the order of the questions, but nothing says that they must. */
static void take_configs(rd_kafka_event_t *event, salvo_topic_info *topics, size_t count)
{
    size_t answers;
    const rd_kafka_ConfigResource_t **resources = rd_kafka_DescribeConfigs_result_resources(
        rd_kafka_event_DescribeConfigs_result(event), &answers);
    for (size_t i = 0; i < answers; i++) {
        const char *name = rd_kafka_ConfigResource_name(resources[i]);
        size_t at = i;
        if (rd_kafka_ConfigResource_error(resources[i]))
            continue;
        if (at >= count || strcmp(topics[at].name, name) != 0)
            for (at = 0; at < count && strcmp(topics[at].name, name) != 0; at++)
                ;
        if (at < count)
            take_config(resources[i], &topics[at]);
    }
}

static int ask_configs(salvo_kafka_admin *a, salvo_topic_info *topics, size_t count, char *error,
                       size_t error_size)
{
    rd_kafka_ConfigResource_t *wishes[CONFIGS_AT_ONCE];
    for (size_t i = 0; i < count; i++)
        wishes[i] = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, topics[i].name);
    rd_kafka_AdminOptions_t *options =
        salvo_kafka_admin_options(a, RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS);
    rd_kafka_DescribeConfigs(a->rk, wishes, count, options, a->queue);
    rd_kafka_event_t *event = salvo_kafka_admin_wait(a);
    rd_kafka_resp_err_t err = event ? rd_kafka_event_error(event) : RD_KAFKA_RESP_ERR__TIMED_OUT;
    int failed = 0;
    if (err)
        failed = salvo_kafka_admin_fail(a, err, event ? rd_kafka_event_error_string(event) : NULL,
                                        "the topics' configuration", error, error_size);
    else
        take_configs(event, topics, count);
    if (event)
        rd_kafka_event_destroy(event);
    rd_kafka_AdminOptions_destroy(options);
    rd_kafka_ConfigResource_destroy_array(wishes, count);
    return failed;
}

static int64_t list(salvo_kafka_admin *a, salvo_topic_info **topics, char *error,
                    size_t error_size)
{
    int err;
    const struct rd_kafka_metadata *metadata =
        salvo_kafka_admin_metadata(a, NULL, &err, error, error_size);
    if (!metadata)
        return err;
    size_t count = (size_t)metadata->topic_cnt;
    *topics = calloc(count ? count : 1, sizeof **topics);
    for (size_t i = 0; *topics && i < count; i++)
        fill(&metadata->topics[i], &(*topics)[i]);
    rd_kafka_metadata_destroy(metadata);
    if (!*topics)
        return SALVO_ERR_NOMEM;
    for (size_t at = 0; !err && at < count; at += CONFIGS_AT_ONCE) {
        size_t some = count - at < CONFIGS_AT_ONCE ? count - at : CONFIGS_AT_ONCE;
        err = ask_configs(a, *topics + at, some, error, error_size);
    }
    return err ? err : (int64_t)count;
}

int64_t salvo_kafka_topic_list(const salvo_config *config, void *shared,
                               salvo_topic_info **topics, uint32_t timeout_ms, char *error,
                               size_t error_size)
{
    salvo_kafka_admin a;
    (void)shared;
    int err = salvo_kafka_admin_open(&a, config, NULL, timeout_ms, error, error_size);
    if (err)
        return err;
    int64_t count = list(&a, topics, error, error_size);
    salvo_kafka_admin_close(&a);
    return count;
}

static int count_messages(salvo_kafka_admin *a, salvo_topic_info *info, char *error,
                          size_t error_size)
{
    rd_kafka_topic_partition_list_t *first, *last;
    int err = salvo_kafka_admin_bounds(a, info->name, info->partitions, &first, &last, error,
                                       error_size);
    if (err)
        return err;
    info->messages = 0;
    for (int p = 0; p < info->partitions; p++)
        info->messages += last->elems[p].offset - first->elems[p].offset;
    rd_kafka_topic_partition_list_destroy(first);
    rd_kafka_topic_partition_list_destroy(last);
    return 0;
}

int salvo_kafka_topic_describe(const salvo_config *config, void *shared, const char *name,
                               salvo_topic_info *info, uint32_t timeout_ms, char *error,
                               size_t error_size)
{
    salvo_kafka_admin a;
    (void)shared;
    int err = salvo_kafka_admin_open(&a, config, NULL, timeout_ms, error, error_size);
    if (err)
        return err;
    const struct rd_kafka_metadata *metadata =
        salvo_kafka_admin_metadata(&a, name, &err, error, error_size);
    if (metadata) {
        fill(&metadata->topics[0], info);
        rd_kafka_metadata_destroy(metadata);
        err = ask_configs(&a, info, 1, error, error_size);
        if (!err)
            err = count_messages(&a, info, error, error_size);
    }
    salvo_kafka_admin_close(&a);
    return err;
}
