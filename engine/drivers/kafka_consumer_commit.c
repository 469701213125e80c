/* SPDX-License-Identifier: Apache-2.0
 *
 * Commits. Guarantees: what goes out is the position of a window, so nothing unsettled; one commit
 * is out at a time, so an older one never overtakes a newer one; what was not answered, or was
 * refused, stays dirty and goes out again with the next one.
 */
#include "kafka_consumer.h"
#include "clock.h"
#include "error.h"
#include <stdio.h>
#include <time.h>

#define MS UINT64_C(1000000)
#define RETRY_NS (1000 * MS)
#define RETRY_PAUSE_MS 50

bool salvo_kafka_claim_is_dirty(const salvo_kafka_claim *claim)
{
    return claim->known >= 0 && salvo_window_position(&claim->window) > claim->known;
}

/* Where all is settled, what follows and is no message (the markers of transactions) is passed
 * over: else the group would never be at the end of its topic. */
void salvo_kafka_pass_markers(salvo_kafka_consumer *c, salvo_kafka_claim *claim)
{
    if (claim->known < 0 || claim->window.count > 0 || claim->leaving || claim->refetch)
        return;
    rd_kafka_topic_partition_list_t *one = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(one, claim->topic, claim->partition);
    if (!rd_kafka_position(c->rk, one))
        salvo_window_pass(&claim->window, one->elems[0].offset);
    rd_kafka_topic_partition_list_destroy(one);
}

rd_kafka_topic_partition_list_t *salvo_kafka_offsets(salvo_kafka_consumer *c)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)c->assigned);
    for (uint32_t i = 0; i < c->claim_room; i++) {
        salvo_kafka_claim *claim = c->claims[i];
        if (!claim->id)
            continue;
        salvo_kafka_pass_markers(c, claim);
        if (!salvo_kafka_claim_is_dirty(claim))
            continue;
        claim->sent = salvo_window_position(&claim->window);
        rd_kafka_topic_partition_list_add(list, claim->topic, claim->partition)->offset =
            claim->sent;
    }
    if (list->cnt > 0)
        return list;
    rd_kafka_topic_partition_list_destroy(list);
    return NULL;
}

void salvo_kafka_offsets_known(salvo_kafka_consumer *c,
                               const rd_kafka_topic_partition_list_t *offsets)
{
    for (int i = 0; offsets && i < offsets->cnt; i++) {
        const rd_kafka_topic_partition_t *p = &offsets->elems[i];
        salvo_kafka_claim *claim = salvo_kafka_claim_find(c, p->topic, p->partition);
        /* Else it is of an earlier claim. */
        if (!p->err && claim && claim->sent == p->offset && claim->known < p->offset)
            claim->known = p->offset;
    }
}

bool salvo_kafka_commit_begin(salvo_kafka_consumer *c)
{
    if (c->commit_out)
        return false;
    c->acked = false;
    c->commit_error = RD_KAFKA_RESP_ERR_NO_ERROR;
    rd_kafka_topic_partition_list_t *offsets = salvo_kafka_offsets(c);
    if (!offsets)
        return false;
    rd_kafka_resp_err_t err = rd_kafka_commit_queue(c->rk, offsets, c->commits, NULL, NULL);
    rd_kafka_topic_partition_list_destroy(offsets);
    c->commit_out = !err;
    c->commit_error = err;
    return !err;
}

static rd_kafka_resp_err_t first_error(rd_kafka_event_t *event,
                                       const rd_kafka_topic_partition_list_t *offsets)
{
    rd_kafka_resp_err_t err = rd_kafka_event_error(event);
    for (int i = 0; offsets && i < offsets->cnt && !err; i++)
        err = offsets->elems[i].err;
    return err == RD_KAFKA_RESP_ERR__NO_OFFSET ? RD_KAFKA_RESP_ERR_NO_ERROR : err;
}

static void answered(salvo_kafka_consumer *c, rd_kafka_event_t *event)
{
    const rd_kafka_topic_partition_list_t *offsets = rd_kafka_event_topic_partition_list(event);
    rd_kafka_resp_err_t whole = rd_kafka_event_error(event), err = first_error(event, offsets);
    c->commit_out = false;
    c->commit_error = err;
    if (!whole)
        salvo_kafka_offsets_known(c, offsets);
    if (!err) {
        c->env->count(c->env->consumer, SALVO_COUNT_COMMITS, 1);
        c->commit_warned = false;
        return;
    }
    c->acked = true; /* it is still to be done */
    c->next_commit_ns = salvo_clock_monotonic_ns() +
                        (c->commit_interval_ns < RETRY_NS ? c->commit_interval_ns : RETRY_NS);
    c->env->count(c->env->consumer, SALVO_COUNT_COMMIT_FAILURES, 1);
    if (!c->commit_warned)
        c->env->log(SALVO_LOG_WARNING, "kafka: group '%s': a commit failed, and is repeated: %s",
                    c->env->options->group, rd_kafka_err2str(err));
    c->commit_warned = true;
}

void salvo_kafka_commit_answers(salvo_kafka_consumer *c, int timeout_ms)
{
    while (c->commit_out) {
        rd_kafka_event_t *event = rd_kafka_queue_poll(c->commits, timeout_ms);
        if (!event)
            return;
        if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_OFFSET_COMMIT)
            answered(c, event);
        rd_kafka_event_destroy(event);
    }
}

void salvo_kafka_commit_due(salvo_kafka_consumer *c)
{
    if (!c->automatic || c->commit_out || c->fatal)
        return;
    uint64_t now = salvo_clock_monotonic_ns();
    if (now < c->next_commit_ns)
        return;
    c->next_commit_ns = now + c->commit_interval_ns;
    if (c->acked)
        (void)salvo_kafka_commit_begin(c);
}

/* A commit's outcome for people. */
static int refused(const salvo_kafka_consumer *c, char *error, size_t error_size)
{
    int code = salvo_kafka_error_code(c->commit_error);
    const char *next = code == SALVO_ERR_TRANSIENT
                           ? "; poll on: what stays ours is committed later, the rest is given "
                             "again, to whoever has its partition"
                       : code == SALVO_ERR_FATAL ? "; close this consumer and open another" : "";
    snprintf(error, error_size, "kafka: the commit of group '%s' failed: %s%s",
             c->env->options->group, rd_kafka_err2str(c->commit_error), next);
    return code;
}

static void pause_ms(int ms)
{
    struct timespec pause = {.tv_nsec = ms * (long)MS};
    nanosleep(&pause, NULL);
}

int salvo_kafka_commit(void *handle, uint64_t timeout_ms, char *error, size_t error_size)
{
    salvo_kafka_consumer *c = handle;
    uint64_t deadline = salvo_kafka_deadline_ns(timeout_ms);
    for (;;) {
        /* One that is out may be older than what was settled since. */
        salvo_kafka_commit_answers(c, salvo_kafka_left_ms(deadline));
        if (!c->commit_out && !salvo_kafka_commit_begin(c) && !c->commit_error)
            return 0;
        salvo_kafka_commit_answers(c, salvo_kafka_left_ms(deadline));
        int left = salvo_kafka_left_ms(deadline);
        if (c->commit_out) {
            snprintf(error, error_size, "kafka: the commit of group '%s' was not answered within "
                     "%llu ms; it may have been done, and is repeated with the next one",
                     c->env->options->group, (unsigned long long)timeout_ms);
            return SALVO_ERR_TIMEOUT;
        }
        if (c->commit_error && (!salvo_kafka_passes(c->commit_error) || left == 0))
            return refused(c, error, error_size);
        if (c->commit_error)
            pause_ms(left < RETRY_PAUSE_MS ? left : RETRY_PAUSE_MS);
    }
}

int salvo_kafka_consumer_settle(salvo_kafka_consumer *c,
                                rd_kafka_topic_partition_list_t **offsets,
                                rd_kafka_consumer_group_metadata_t **group, char *error,
                                size_t error_size)
{
    *offsets = NULL;
    *group = NULL;
    if (c->torn || rd_kafka_assignment_lost(c->rk)) {
        snprintf(error, error_size, "kafka: group '%s' gave partitions of this transaction to "
                 "another member: abort it, rewind the consumer, and do the batch again",
                 c->env->options->group);
        return SALVO_ERR_TRANSIENT;
    }
    *offsets = salvo_kafka_offsets(c);
    if (*offsets)
        *group = rd_kafka_consumer_group_metadata(c->rk);
    if (!*offsets || *group)
        return 0;
    rd_kafka_topic_partition_list_destroy(*offsets);
    *offsets = NULL;
    snprintf(error, error_size, "kafka: group '%s' is not joined yet: abort, and do the batch "
             "again", c->env->options->group);
    return SALVO_ERR_TRANSIENT;
}
