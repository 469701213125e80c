/* SPDX-License-Identifier: Apache-2.0
 *
 * Where a group stands on a topic, without joining it: its committed offsets beside the ends of
 * the partitions. Of a partition where nothing is committed the lag counts from where
 * kafka_auto_offset_reset would begin; with `none` it is unknown.
 */
#include "config_internal.h"
#include "error.h"
#include "kafka_admin.h"
#include <stdio.h>

typedef struct standing { /* of all partitions */
    rd_kafka_topic_partition_list_t *committed, *first, *last;
    bool earliest, latest; /* kafka_auto_offset_reset */
} standing;

static void fill(const standing *s, int p, salvo_lag *lag)
{
    int64_t first = s->first->elems[p].offset, end = s->last->elems[p].offset;
    int64_t committed = s->committed->elems[p].offset;
    int64_t from = committed >= 0 ? committed : s->earliest ? first : s->latest ? end : -1;
    if (from >= 0 && from < first)
        from = first; /* what lay between is gone */
    *lag = (salvo_lag){.partition = p, .committed = committed >= 0 ? committed : -1, .end = end,
                       .lag = from < 0 ? -1 : from < end ? end - from : 0};
    snprintf(lag->topic, sizeof lag->topic, "%s", s->last->elems[p].topic);
}

static int64_t look(salvo_kafka_admin *a, standing *s, const char *group, const char *topic,
                    salvo_lag *lags, size_t max, char *error, size_t error_size)
{
    int err;
    char what[560];
    const struct rd_kafka_metadata *metadata =
        salvo_kafka_admin_metadata(a, topic, &err, error, error_size);
    if (!metadata)
        return err;
    int32_t partitions = metadata->topics[0].partition_cnt;
    rd_kafka_metadata_destroy(metadata);
    /* Committed first: the ends only grow, so no lag is negative. */
    rd_kafka_resp_err_t failed = salvo_kafka_admin_offsets(a, topic, partitions,
                                                           RD_KAFKA_OFFSET_STORED, &s->committed);
    if (failed) {
        snprintf(what, sizeof what, "group '%s' on topic '%s'", group, topic);
        return salvo_kafka_admin_fail(a, failed, NULL, what, error, error_size);
    }
    err = salvo_kafka_admin_bounds(a, topic, partitions, &s->first, &s->last, error, error_size);
    if (!err) {
        for (int p = 0; p < partitions && (size_t)p < max; p++)
            fill(s, p, &lags[p]);
        rd_kafka_topic_partition_list_destroy(s->first);
        rd_kafka_topic_partition_list_destroy(s->last);
    }
    rd_kafka_topic_partition_list_destroy(s->committed);
    return err ? err : partitions;
}

int64_t salvo_kafka_group_lag(const salvo_config *config, void *shared, const char *group,
                              const char *topic, salvo_lag *lags, size_t max,
                              uint32_t timeout_ms, char *error, size_t error_size)
{
    salvo_kafka_admin a;
    standing s = {.earliest = salvo_config_is(config, "kafka_auto_offset_reset", "earliest"),
                  .latest = salvo_config_is(config, "kafka_auto_offset_reset", "latest")};
    (void)shared;
    int err = salvo_kafka_admin_open(&a, config, group, timeout_ms, error, error_size);
    if (err)
        return err;
    int64_t count = look(&a, &s, group, topic, lags, max, error, error_size);
    salvo_kafka_admin_close(&a);
    return count;
}
