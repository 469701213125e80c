/* SPDX-License-Identifier: Apache-2.0
 *
 * Partitions come and go: claims, and the rebalances that begin and end them.
 *
 * Giving partitions away (cooperative): none of them is shown any more; once what is in hand of
 * them is settled, or kafka_rebalance_wait_ms is over, a commit goes out; once it is answered,
 * or that time is over again, the claims end and librdkafka may go on. All in steps that poll
 * takes, none of which waits. Partitions that were lost (the group has given us up) end at once,
 * without a commit, which would be refused or, worse, be taken for another's.
 */
#include "kafka_consumer.h"
#include "clock.h"
#include "error.h"
#include <stdlib.h>
#include <string.h>

#define COMMIT_WAIT_NS UINT64_C(3000000000)

salvo_kafka_claim *salvo_kafka_claim_find(const salvo_kafka_consumer *c, const char *topic,
                                          int32_t partition)
{
    for (uint32_t i = 0; i < c->claim_room; i++) {
        salvo_kafka_claim *claim = c->claims[i];
        if (claim->id && claim->partition == partition && strcmp(claim->topic, topic) == 0)
            return claim;
    }
    return NULL;
}

salvo_kafka_claim *salvo_kafka_claim_of(salvo_kafka_consumer *c, const rd_kafka_message_t *m)
{
    salvo_kafka_claim *claim = NULL;
    for (uint32_t i = 0; i < c->claim_room && !claim; i++)
        if (c->claims[i]->id && c->claims[i]->rkt == m->rkt &&
            c->claims[i]->partition == m->partition)
            claim = c->claims[i];
    if (!claim) {
        claim = salvo_kafka_claim_find(c, rd_kafka_topic_name(m->rkt), m->partition);
        if (claim)
            claim->rkt = m->rkt; /* lives as long as the assignment */
    }
    if (claim)
        c->last = claim;
    return claim;
}

static salvo_kafka_claim *free_slot(salvo_kafka_consumer *c)
{
    for (uint32_t i = 0; i < c->claim_room; i++)
        if (!c->claims[i]->id)
            return c->claims[i];
    salvo_kafka_claim **more = realloc(c->claims, (c->claim_room + 1) * sizeof *more);
    if (!more)
        return NULL;
    c->claims = more;
    salvo_kafka_claim *claim = calloc(1, sizeof *claim);
    if (!claim)
        return NULL;
    claim->slot = c->claim_room;
    c->claims[c->claim_room++] = claim;
    return claim;
}

/* Room for all that may be in hand, and as much again that is settled behind one that is not. */
static uint32_t window_most(const salvo_kafka_consumer *c)
{
    uint64_t most = 2 * ((uint64_t)c->env->options->max_in_hand + c->most_at_once);
    return most < SALVO_WINDOW_MOST ? SALVO_WINDOW_MOST : most < INT32_MAX ? (uint32_t)most
                                                                         : INT32_MAX;
}

static void fresh(salvo_kafka_consumer *c, salvo_kafka_claim *claim, int64_t position)
{
    claim->id = ++c->last_claim_id;
    claim->rkt = NULL;
    claim->known = claim->sent = position;
    claim->leaving = claim->full = claim->refetch = false;
    salvo_window_init(&claim->window, position, window_most(c));
}

salvo_kafka_claim *salvo_kafka_claim_begin(salvo_kafka_consumer *c, const char *topic,
                                           int32_t partition)
{
    salvo_kafka_claim *claim = free_slot(c);
    char *name = strdup(topic);
    if (!claim || !name) {
        free(name);
        return NULL;
    }
    claim->topic = name;
    claim->partition = partition;
    fresh(c, claim, -1);
    c->assigned++;
    c->env->count(c->env->consumer, SALVO_COUNT_ASSIGNED, 1);
    return claim;
}

static void set_fetching(salvo_kafka_consumer *c, const salvo_kafka_claim *claim, bool on)
{
    rd_kafka_topic_partition_list_t *one = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(one, claim->topic, claim->partition);
    rd_kafka_resp_err_t err = on ? rd_kafka_resume_partitions(c->rk, one)
                                 : rd_kafka_pause_partitions(c->rk, one);
    (void)err; /* per partition: unknown, which it is not */
    rd_kafka_topic_partition_list_destroy(one);
}

/* What a transaction has settled of a claim that ends would be lost to it: its outputs without
 * their input. */
static void tear(salvo_kafka_consumer *c, const salvo_kafka_claim *claim)
{
    if (c->env->options->transactional && claim->known >= 0 &&
        (claim->window.unsettled > 0 || salvo_kafka_claim_is_dirty(claim)))
        c->torn = true;
}

static void forget(salvo_kafka_consumer *c, salvo_kafka_claim *claim)
{
    c->env->revoked(c->env->consumer, claim->id);
    salvo_window_free(&claim->window);
    c->last = NULL;
    claim->id = 0;
}

void salvo_kafka_claim_end(salvo_kafka_consumer *c, salvo_kafka_claim *claim)
{
    tear(c, claim);
    if (claim->stopped)
        set_fetching(c, claim, true); /* whoever gets it next begins afresh */
    claim->stopped = false;
    forget(c, claim);
    free(claim->topic);
    claim->topic = NULL;
    c->assigned--;
    c->env->count(c->env->consumer, SALVO_COUNT_ASSIGNED, -1);
}

void salvo_kafka_claim_renew(salvo_kafka_consumer *c, salvo_kafka_claim *claim, int64_t position)
{
    bool full = claim->full;
    tear(c, claim);
    forget(c, claim);
    fresh(c, claim, position);
    claim->full = full; /* its fetching is still paused */
}

void salvo_kafka_claims_free(salvo_kafka_consumer *c)
{
    for (uint32_t i = 0; i < c->claim_room; i++) {
        if (c->claims[i]->id) {
            salvo_window_free(&c->claims[i]->window);
            free(c->claims[i]->topic);
        }
        free(c->claims[i]);
    }
    free(c->claims);
    c->claims = NULL;
    c->claim_room = 0;
}

/* Resuming what is not paused would not be without effect: librdkafka before 2.4 may begin to fetch
 * from an earlier offset then. */
void salvo_kafka_claim_fetching(salvo_kafka_consumer *c, salvo_kafka_claim *claim)
{
    bool stop = claim->full || salvo_kafka_is_paused(c, claim->topic, claim->partition);
    if (stop != claim->stopped)
        set_fetching(c, claim, !stop);
    claim->stopped = stop;
}

/* Fetch again from where the window ends. What librdkafka holds of it is out of date then. */
static void refetch(salvo_kafka_consumer *c, salvo_kafka_claim *claim)
{
    rd_kafka_topic_partition_list_t *one = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(one, claim->topic, claim->partition)->offset =
        claim->window.next;
    rd_kafka_error_t *failed = rd_kafka_seek_partitions(c->rk, one, 1000);
    claim->refetch = failed || one->elems[0].err;
    if (failed)
        rd_kafka_error_destroy(failed);
    rd_kafka_topic_partition_list_destroy(one);
}

void salvo_kafka_claim_balance(salvo_kafka_consumer *c, salvo_kafka_claim *claim)
{
    uint32_t room = salvo_window_room(&claim->window);
    if (claim->refetch && claim->window.next >= 0)
        refetch(c, claim);
    if (!claim->full && room < c->most_at_once) {
        claim->full = true;
        salvo_kafka_claim_fetching(c, claim);
    } else if (claim->full && room >= claim->window.most / 2) {
        claim->full = false;
        salvo_kafka_claim_fetching(c, claim);
    }
}

/* --- rebalances -------------------------------------------------------------------------------*/

/* Not so with a user's rdkafka.partition.assignment.strategy, while closing, or where the group's
 * part of librdkafka has ended already: then it answers NULL. */
bool salvo_kafka_is_cooperative(const salvo_kafka_consumer *c)
{
    const char *protocol = rd_kafka_rebalance_protocol(c->rk);
    return protocol && strcmp(protocol, "COOPERATIVE") == 0;
}

static void tell(salvo_kafka_consumer *c, const char *what, rd_kafka_error_t *failed)
{
    if (!failed)
        return;
    c->env->log(SALVO_LOG_WARNING, "kafka: group '%s': %s: %s", c->env->options->group, what,
                rd_kafka_error_string(failed));
    rd_kafka_error_destroy(failed);
}

static rd_kafka_error_t *as_error(rd_kafka_resp_err_t err)
{
    return err ? rd_kafka_error_new(err, "%s", rd_kafka_err2str(err)) : NULL;
}

/* Stopping a partition ends its forwarding, on librdkafka's main thread: the question before is
 * answered by that thread, so after it what was stopped has stopped. */
void salvo_kafka_forward(salvo_kafka_consumer *c, const rd_kafka_topic_partition_list_t *list)
{
    (void)rd_kafka_rebalance_protocol(c->rk);
    for (int i = 0; i < list->cnt; i++) {
        rd_kafka_queue_t *queue = rd_kafka_queue_get_partition(c->rk, list->elems[i].topic,
                                                               list->elems[i].partition);
        if (!queue)
            continue;
        rd_kafka_queue_forward(queue, c->messages);
        rd_kafka_queue_destroy(queue);
    }
}

static void assign(salvo_kafka_consumer *c, const rd_kafka_topic_partition_list_t *list)
{
    rd_kafka_topic_partition_list_t *kept = rd_kafka_topic_partition_list_new(list->cnt);
    for (int i = 0; i < list->cnt; i++) {
        const rd_kafka_topic_partition_t *p = &list->elems[i];
        if (!salvo_kafka_claim_find(c, p->topic, p->partition) &&
            !salvo_kafka_claim_begin(c, p->topic, p->partition)) {
            c->env->log(SALVO_LOG_ERROR, "kafka: no memory for partition %d of topic '%s'; it "
                        "waits for the next rebalance", (int)p->partition, p->topic);
            continue;
        }
        rd_kafka_topic_partition_list_add(kept, p->topic, p->partition)->offset = p->offset;
    }
    salvo_kafka_forward(c, kept);
    tell(c, "assign", salvo_kafka_is_cooperative(c)
                            ? rd_kafka_incremental_assign(c->rk, kept)
                            : as_error(rd_kafka_assign(c->rk, kept)));
    for (int i = 0; i < kept->cnt; i++) {
        const rd_kafka_topic_partition_t *p = &kept->elems[i];
        salvo_kafka_claim_fetching(c, salvo_kafka_claim_find(c, p->topic, p->partition));
        salvo_kafka_consumer_found(c, p->topic);
    }
    rd_kafka_topic_partition_list_destroy(kept);
}

/* The claims end; librdkafka may give the partitions away. */
static void unassign(salvo_kafka_consumer *c, const rd_kafka_topic_partition_list_t *list)
{
    for (int i = 0; i < list->cnt; i++) {
        salvo_kafka_claim *claim =
            salvo_kafka_claim_find(c, list->elems[i].topic, list->elems[i].partition);
        if (claim)
            salvo_kafka_claim_end(c, claim);
    }
    tell(c, "unassign", salvo_kafka_is_cooperative(c)
                              ? rd_kafka_incremental_unassign(c->rk, list)
                              : as_error(rd_kafka_assign(c->rk, NULL)));
}

void salvo_kafka_leave_now(salvo_kafka_consumer *c)
{
    rd_kafka_topic_partition_list_t *list = c->leaving.list;
    if (!list)
        return;
    c->leaving = (salvo_kafka_leaving){0};
    unassign(c, list);
    rd_kafka_topic_partition_list_destroy(list);
}

/* Nothing in hand of what leaves; in a transaction: and all of it committed with it. */
static bool leaving_settled(const salvo_kafka_consumer *c)
{
    for (uint32_t i = 0; i < c->claim_room; i++) {
        const salvo_kafka_claim *claim = c->claims[i];
        if (!claim->id || !claim->leaving)
            continue;
        if (claim->window.unsettled > 0 ||
            (c->env->options->transactional && salvo_kafka_claim_is_dirty(claim)))
            return false;
    }
    return true;
}

static bool leaving_dirty(const salvo_kafka_consumer *c)
{
    for (uint32_t i = 0; i < c->claim_room; i++)
        if (c->claims[i]->id && c->claims[i]->leaving && salvo_kafka_claim_is_dirty(c->claims[i]))
            return true;
    return false;
}

void salvo_kafka_leave(salvo_kafka_consumer *c)
{
    salvo_kafka_leaving *l = &c->leaving;
    if (!l->list)
        return;
    if (c->fatal || rd_kafka_assignment_lost(c->rk)) {
        salvo_kafka_leave_now(c);
        return;
    }
    uint64_t now = salvo_clock_monotonic_ns();
    if (!l->committing) {
        if (!leaving_settled(c) && now < l->deadline_ns)
            return;
        l->committing = true;
        l->deadline_ns = now + COMMIT_WAIT_NS;
    }
    if (!c->automatic || now >= l->deadline_ns) {
        salvo_kafka_leave_now(c);
        return;
    }
    if (c->commit_out)
        return;
    /* An answer of before may have left some; what fails twice is the next member's. */
    if (!leaving_dirty(c) || (l->committed && !salvo_kafka_passes(c->commit_error))) {
        salvo_kafka_leave_now(c);
        return;
    }
    l->committed = true;
    if (!salvo_kafka_commit_begin(c))
        salvo_kafka_leave_now(c);
}

static void give_away(salvo_kafka_consumer *c, const rd_kafka_topic_partition_list_t *list)
{
    if (c->closing || rd_kafka_assignment_lost(c->rk)) {
        unassign(c, list);
        return;
    }
    for (int i = 0; i < list->cnt; i++) {
        salvo_kafka_claim *claim =
            salvo_kafka_claim_find(c, list->elems[i].topic, list->elems[i].partition);
        if (claim)
            claim->leaving = true;
    }
    c->leaving = (salvo_kafka_leaving){
        .list = rd_kafka_topic_partition_list_copy(list),
        .deadline_ns = salvo_clock_monotonic_ns() + c->rebalance_wait_ns,
    };
    salvo_kafka_leave(c);
}

void salvo_kafka_rebalance(salvo_kafka_consumer *c, rd_kafka_event_t *event)
{
    rd_kafka_resp_err_t what = rd_kafka_event_error(event);
    const rd_kafka_topic_partition_list_t *list = rd_kafka_event_topic_partition_list(event);
    c->env->count(c->env->consumer, SALVO_COUNT_REBALANCES, 1);
    salvo_kafka_leave_now(c); /* it is overtaken: the group has not waited */
    c->joined |= what == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
    if (what == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS && !c->closing)
        assign(c, list);
    else if (what == RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS)
        give_away(c, list);
    else
        rd_kafka_assign(c->rk, NULL); /* librdkafka asks for this on any other outcome */
}
