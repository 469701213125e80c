/* SPDX-License-Identifier: Apache-2.0
 *
 * Moving about in partitions, and how far behind a member is. Guarantees: after a seek or a rewind
 * that returned 0 nothing from before it is given; on an error the claims that were not moved are
 * as they were; what is paused stays paused over rebalances.
 */
#include "kafka_consumer.h"
#include "clock.h"
#include "config_internal.h"
#include <stdio.h>
#include <string.h>
#include <time.h>

#define MS UINT64_C(1000000)
#define MOVE_TIMEOUT_MS 10000
/* Of one try. On a busy machine librdkafka 2.0.2 now and then never answers a seek (2 of 14 runs
 * of the conformance case), and does when it is asked again; the same seek twice does no harm. */
#define SEEK_TIMEOUT_MS 1000
#define SEEK_PAUSE_MS 10

static int failed_for(const salvo_kafka_consumer *c, const char *what, rd_kafka_resp_err_t err,
                      char *error, size_t error_size)
{
    int code = salvo_kafka_error_code(err);
    snprintf(error, error_size, "kafka: group '%s': %s: %s%s", c->env->options->group, what,
             rd_kafka_err2str(err), code == SALVO_ERR_TRANSIENT ? "; try again" : "");
    return code == SALVO_ERR_TRANSIENT && err != RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS
               ? SALVO_ERR_UNREACHABLE
               : code;
}

/* Take those out that are done; true: all are. *err: why one is not. */
static bool drop_done(rd_kafka_topic_partition_list_t *list, rd_kafka_resp_err_t *err)
{
    *err = RD_KAFKA_RESP_ERR_NO_ERROR;
    for (int i = list->cnt - 1; i >= 0; i--) {
        if (!list->elems[i].err)
            rd_kafka_topic_partition_list_del_by_idx(list, i);
        else
            *err = list->elems[i].err;
    }
    return list->cnt == 0;
}

/* A partition that is not being fetched cannot be moved (its committed offset is still asked for,
 * or kafka_auto_offset_reset = none has stopped it): it is begun anew. Not while a rebalance waits
 * for us, which this would answer. */
static rd_kafka_resp_err_t begin_at(salvo_kafka_consumer *c,
                                    const rd_kafka_topic_partition_list_t *list)
{
    if (c->leaving.list || !salvo_kafka_is_cooperative(c))
        return RD_KAFKA_RESP_ERR__STATE;
    rd_kafka_error_t *failed = rd_kafka_incremental_unassign(c->rk, list);
    salvo_kafka_forward(c, list);
    if (!failed)
        failed = rd_kafka_incremental_assign(c->rk, list);
    rd_kafka_resp_err_t err = failed ? rd_kafka_error_code(failed) : RD_KAFKA_RESP_ERR_NO_ERROR;
    if (failed)
        rd_kafka_error_destroy(failed);
    for (int i = 0; i < list->cnt; i++) {
        salvo_kafka_claim *claim =
            salvo_kafka_claim_find(c, list->elems[i].topic, list->elems[i].partition);
        if (!claim)
            continue;
        claim->stopped = false; /* it has begun anew */
        salvo_kafka_claim_fetching(c, claim);
    }
    return err;
}

/* Have librdkafka fetch from these offsets. The list is used up. */
static rd_kafka_resp_err_t move(salvo_kafka_consumer *c, rd_kafka_topic_partition_list_t *list)
{
    uint64_t deadline = salvo_kafka_deadline_ns(MOVE_TIMEOUT_MS);
    rd_kafka_resp_err_t err = RD_KAFKA_RESP_ERR_NO_ERROR;
    while (list->cnt > 0) {
        int left_ms = salvo_kafka_left_ms(deadline);
        rd_kafka_error_t *failed = rd_kafka_seek_partitions(
            c->rk, list, left_ms < SEEK_TIMEOUT_MS ? left_ms : SEEK_TIMEOUT_MS);
        if (failed) {
            err = rd_kafka_error_code(failed);
            rd_kafka_error_destroy(failed);
            if (err == RD_KAFKA_RESP_ERR__TIMED_OUT && salvo_kafka_left_ms(deadline) > 0)
                continue;
            return err;
        }
        if (drop_done(list, &err))
            break;
        if (err == RD_KAFKA_RESP_ERR__STATE && !begin_at(c, list))
            break;
        if (!salvo_kafka_passes(err) || salvo_kafka_left_ms(deadline) == 0)
            return err;
        struct timespec pause = {.tv_nsec = SEEK_PAUSE_MS * (long)MS};
        nanosleep(&pause, NULL);
    }
    return RD_KAFKA_RESP_ERR_NO_ERROR;
}

int salvo_kafka_seek(void *handle, const char *topic, int32_t partition, int64_t offset,
                     char *error, size_t error_size)
{
    salvo_kafka_consumer *c = handle;
    char what[320];
    salvo_kafka_consumer_events(c); /* what the group has told meanwhile */
    salvo_kafka_claim *claim = salvo_kafka_claim_find(c, topic, partition);
    if (!claim || claim->leaving) {
        snprintf(error, error_size, "kafka: partition %d of topic '%s' is not this member's%s",
                 (int)partition, topic, claim ? " any more"
                 : c->assigned ? "" : ": the group has given it none yet; poll, and try again");
        return SALVO_ERR_PARTITION;
    }
    rd_kafka_topic_partition_list_t *one = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(one, topic, partition)->offset =
        offset == SALVO_OFFSET_BEGIN ? RD_KAFKA_OFFSET_BEGINNING
        : offset == SALVO_OFFSET_END ? RD_KAFKA_OFFSET_END : offset;
    rd_kafka_resp_err_t err = move(c, one);
    rd_kafka_topic_partition_list_destroy(one);
    snprintf(what, sizeof what, "cannot seek in partition %d of topic '%s'", (int)partition,
             topic);
    if (err)
        return failed_for(c, what, err, error, error_size);
    salvo_kafka_claim_renew(c, claim, offset >= 0 ? offset : -1);
    return 0;
}

/* The claims that are ours, and stay. */
static rd_kafka_topic_partition_list_t *ours(const salvo_kafka_consumer *c)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)c->assigned);
    for (uint32_t i = 0; i < c->claim_room; i++)
        if (c->claims[i]->id && !c->claims[i]->leaving)
            rd_kafka_topic_partition_list_add(list, c->claims[i]->topic, c->claims[i]->partition);
    return list;
}

static int64_t reset_offset(const salvo_kafka_consumer *c)
{
    return salvo_config_is(c->env->config, "kafka_auto_offset_reset", "latest")
               ? RD_KAFKA_OFFSET_END : RD_KAFKA_OFFSET_BEGINNING;
}

/* Where each claim reads on: what the broker has, else where this claim began. */
static void choose_positions(salvo_kafka_consumer *c, rd_kafka_topic_partition_list_t *list)
{
    for (int i = 0; i < list->cnt; i++) {
        rd_kafka_topic_partition_t *p = &list->elems[i];
        salvo_kafka_claim *claim = salvo_kafka_claim_find(c, p->topic, p->partition);
        if (p->offset >= 0)
            continue;
        p->offset = claim && claim->known >= 0 ? claim->known : reset_offset(c);
    }
}

/* Nothing was given of it: it reads where it should. */
static void drop_untouched(salvo_kafka_consumer *c, rd_kafka_topic_partition_list_t *list)
{
    for (int i = list->cnt - 1; i >= 0; i--) {
        const salvo_kafka_claim *claim =
            salvo_kafka_claim_find(c, list->elems[i].topic, list->elems[i].partition);
        if (claim && claim->known < 0 && !claim->refetch)
            rd_kafka_topic_partition_list_del_by_idx(list, i);
    }
}

/* Under new claims from now on, but for those that could not be moved. */
static void renew(salvo_kafka_consumer *c, const rd_kafka_topic_partition_list_t *list,
                  const rd_kafka_topic_partition_list_t *unmoved)
{
    for (int i = 0; i < list->cnt; i++) {
        const rd_kafka_topic_partition_t *p = &list->elems[i];
        salvo_kafka_claim *claim = salvo_kafka_claim_find(c, p->topic, p->partition);
        if (!unmoved || !rd_kafka_topic_partition_list_find(unmoved, p->topic, p->partition))
            salvo_kafka_claim_renew(c, claim, p->offset >= 0 ? p->offset : -1);
    }
}

static rd_kafka_resp_err_t ask_committed(salvo_kafka_consumer *c,
                                         rd_kafka_topic_partition_list_t *list)
{
    rd_kafka_resp_err_t err = RD_KAFKA_RESP_ERR_NO_ERROR;
    if (list->cnt > 0)
        err = rd_kafka_committed(c->rk, list, MOVE_TIMEOUT_MS);
    for (int i = 0; i < list->cnt && !err; i++)
        err = list->elems[i].err;
    return err;
}

int salvo_kafka_rewind(void *handle, char *error, size_t error_size)
{
    salvo_kafka_consumer *c = handle;
    salvo_kafka_consumer_events(c); /* what the group has told meanwhile */
    salvo_kafka_leave_now(c);       /* what was settled of it is forgotten too */
    rd_kafka_topic_partition_list_t *list = ours(c);
    salvo_kafka_commit_answers(c, MOVE_TIMEOUT_MS); /* one that is out moves it */
    drop_untouched(c, list);
    rd_kafka_resp_err_t err = ask_committed(c, list);
    if (!err) {
        choose_positions(c, list);
        rd_kafka_topic_partition_list_t *targets = rd_kafka_topic_partition_list_copy(list);
        err = move(c, targets);
        renew(c, list, err ? targets : NULL);
        rd_kafka_topic_partition_list_destroy(targets);
    }
    rd_kafka_topic_partition_list_destroy(list);
    if (err)
        return failed_for(c, "cannot rewind to what is committed", err, error, error_size);
    c->torn = false; /* what was begun is forgotten as a whole */
    c->acked = false;
    return 0;
}

/* --- pausing ----------------------------------------------------------------------------------*/

bool salvo_kafka_is_paused(const salvo_kafka_consumer *c, const char *topic, int32_t partition)
{
    return rd_kafka_topic_partition_list_find(c->paused, topic, partition) ||
           rd_kafka_topic_partition_list_find(c->paused, topic, SALVO_PARTITION_ALL);
}

/* Resuming the topic resumes each of its partitions. */
static void remember(salvo_kafka_consumer *c, const char *topic, int32_t partition, bool paused)
{
    if (paused && !rd_kafka_topic_partition_list_find(c->paused, topic, partition))
        rd_kafka_topic_partition_list_add(c->paused, topic, partition);
    for (int i = c->paused->cnt - 1; i >= 0 && !paused; i--) {
        const rd_kafka_topic_partition_t *p = &c->paused->elems[i];
        if (strcmp(p->topic, topic) == 0 &&
            (partition == SALVO_PARTITION_ALL || p->partition == partition))
            rd_kafka_topic_partition_list_del_by_idx(c->paused, i);
    }
}

/* Where the whole topic is paused and one partition of it is wanted: the others stay paused. */
static void split(salvo_kafka_consumer *c, const char *topic)
{
    if (!rd_kafka_topic_partition_list_del(c->paused, topic, SALVO_PARTITION_ALL))
        return;
    for (uint32_t i = 0; i < c->claim_room; i++)
        if (c->claims[i]->id && strcmp(c->claims[i]->topic, topic) == 0)
            remember(c, topic, c->claims[i]->partition, true);
}

int salvo_kafka_pause(void *handle, const char *topic, int32_t partition, bool paused,
                      char *error, size_t error_size)
{
    salvo_kafka_consumer *c = handle;
    (void)error, (void)error_size;
    if (!paused && partition != SALVO_PARTITION_ALL)
        split(c, topic);
    remember(c, topic, partition, paused);
    for (uint32_t i = 0; i < c->claim_room; i++)
        if (c->claims[i]->id && strcmp(c->claims[i]->topic, topic) == 0)
            salvo_kafka_claim_fetching(c, c->claims[i]);
    return 0;
}

/* --- lag --------------------------------------------------------------------------------------*/

/* Ends (RD_KAFKA_OFFSET_END) or beginnings of the partitions, one request a broker; those with an
 * error get -1. */
static rd_kafka_topic_partition_list_t *edges(salvo_kafka_consumer *c,
                                              const rd_kafka_topic_partition_list_t *of,
                                              int64_t which, int timeout_ms,
                                              rd_kafka_resp_err_t *err)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_copy(of);
    for (int i = 0; i < list->cnt; i++)
        list->elems[i].offset = which; /* as a time: Kafka's way to ask for its edges */
    *err = rd_kafka_offsets_for_times(c->rk, list, timeout_ms);
    for (int i = 0; i < list->cnt; i++)
        if (*err || list->elems[i].err)
            list->elems[i].offset = -1;
    return list;
}

static int64_t at_least_0(int64_t value)
{
    return value < 0 ? 0 : value;
}

/* What this member has still to settle of a partition. */
static salvo_lag lag_of(const salvo_kafka_claim *claim, int64_t committed, int64_t begin,
                        int64_t end)
{
    salvo_lag lag = {.partition = claim->partition, .committed = committed, .end = end,
                     .lag = -1};
    snprintf(lag.topic, sizeof lag.topic, "%s", claim->topic);
    int64_t settled = salvo_window_position(&claim->window);
    if (settled < committed)
        settled = committed;
    if (settled < 0)
        settled = begin;
    if (end >= 0 && settled >= 0)
        lag.lag = at_least_0(end - settled);
    return lag;
}

int64_t salvo_kafka_lag(void *handle, salvo_lag *lags, size_t max, uint64_t timeout_ms,
                        char *error, size_t error_size)
{
    salvo_kafka_consumer *c = handle;
    uint64_t deadline = salvo_kafka_deadline_ns(timeout_ms);
    rd_kafka_topic_partition_list_t *list = ours(c);
    int64_t count = list->cnt;
    rd_kafka_resp_err_t err = RD_KAFKA_RESP_ERR_NO_ERROR, ignored;
    if (count > 0)
        err = rd_kafka_committed(c->rk, list, salvo_kafka_left_ms(deadline));
    if (err || count == 0) {
        rd_kafka_topic_partition_list_destroy(list);
        return err ? failed_for(c, "cannot ask what is committed", err, error, error_size) : 0;
    }
    rd_kafka_topic_partition_list_t *ends =
        edges(c, list, RD_KAFKA_OFFSET_END, salvo_kafka_left_ms(deadline), &err);
    rd_kafka_topic_partition_list_t *begins =
        edges(c, list, reset_offset(c), salvo_kafka_left_ms(deadline), &ignored);
    for (int i = 0; i < list->cnt && (size_t)i < max && !err; i++) {
        const rd_kafka_topic_partition_t *p = &list->elems[i];
        salvo_kafka_claim *claim = salvo_kafka_claim_find(c, p->topic, p->partition);
        salvo_kafka_pass_markers(c, claim);
        lags[i] = lag_of(claim, p->offset >= 0 ? p->offset : -1, begins->elems[i].offset,
                         ends->elems[i].offset);
    }
    rd_kafka_topic_partition_list_destroy(begins);
    rd_kafka_topic_partition_list_destroy(ends);
    rd_kafka_topic_partition_list_destroy(list);
    return err ? failed_for(c, "cannot ask for the ends", err, error, error_size) : count;
}
