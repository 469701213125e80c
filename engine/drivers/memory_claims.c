/* SPDX-License-Identifier: Apache-2.0
 *
 * What a consumer of the memory broker has been assigned. Guarantees: a claim begins where its
 * group stands and never twice with the same number; what is settled is committed before a claim
 * is given up, never after it was lost; a share that moves is first settled, for as long as
 * leave_ns, while the others go on.
 */
#include "memory_consumer.h"

#include "config_internal.h"
#include "error.h"
#include <stdio.h>
#include <string.h>
#include <time.h>

uint64_t salvo_memory_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* --- claims -----------------------------------------------------------------------------------*/

static void begin_at(salvo_memory_consumer *c, salvo_memory_slot *slot, int64_t offset)
{
    slot->claim = ++c->last_claim;
    c->env.count(c->env.consumer, SALVO_COUNT_ASSIGNED, 1);
    slot->settled = slot->leaving = false;
    salvo_memory_place_set(&slot->place, &slot->topic->partitions[slot->partition], offset);
    salvo_window_init(&slot->window, slot->place.next, SALVO_WINDOW_MOST);
    salvo_memory_member_notify(&c->member);
}

static int64_t first_offset(const salvo_memory_partition *partition)
{
    return partition->head ? partition->head->base_offset : partition->next_offset;
}

/* Where a group without a commit begins, once for each of its shares: a member that leaves before
 * it settled anything must not take the beginning with it. */
static int fix_start(const salvo_memory_consumer *c, salvo_memory_slot *slot, char *error,
                     size_t error_size)
{
    const salvo_memory_partition *partition = &slot->topic->partitions[slot->partition];
    if (slot->share->start >= 0 || slot->share->committed >= 0)
        return 0;
    if (salvo_config_is(c->env.config, "kafka_auto_offset_reset", "none")) {
        snprintf(error, error_size, "group %s has no committed offset in %s/%u, and "
                 "kafka_auto_offset_reset is none: set it to earliest or latest",
                 c->env.options->group, slot->topic->name, slot->partition);
        return SALVO_ERR_CONFIG;
    }
    bool latest = salvo_config_is(c->env.config, "kafka_auto_offset_reset", "latest");
    slot->share->start = latest ? partition->next_offset : first_offset(partition);
    return 0;
}

static int begin(salvo_memory_consumer *c, salvo_memory_slot *slot, char *error,
                 size_t error_size)
{
    int err = fix_start(c, slot, error, error_size);
    if (!err)
        begin_at(c, slot, salvo_memory_share_position(slot->share));
    return err;
}

static void commit_slot(salvo_memory_consumer *c, salvo_memory_slot *slot)
{
    if (!slot->settled || slot->share->owner != &c->member)
        return;
    slot->settled = false;
    slot->share->committed = salvo_window_position(&slot->window);
    c->env.count(c->env.consumer, SALVO_COUNT_COMMITS, 1);
}

void salvo_memory_claims_commit(salvo_memory_consumer *c)
{
    for (uint32_t i = 0; i < c->slot_count; i++)
        if (c->slots[i].claim)
            commit_slot(c, &c->slots[i]);
}

void salvo_memory_claim_end(salvo_memory_consumer *c, salvo_memory_slot *slot)
{
    uint32_t claim = slot->claim;
    if (!c->env.options->manual_commit)
        commit_slot(c, slot);
    slot->claim = 0;
    slot->leaving = slot->settled = false;
    if (slot->place.segment)
        salvo_memory_segment_unpin(slot->place.segment);
    slot->place = (salvo_memory_place){0};
    salvo_window_free(&slot->window);
    c->env.count(c->env.consumer, SALVO_COUNT_ASSIGNED, -1);
    c->env.revoked(c->env.consumer, claim);
}

/* Ours, and to be another's: when all is settled, or its time is over. */
static void leave_slot(salvo_memory_consumer *c, salvo_memory_slot *slot, uint64_t now_ns)
{
    if (!slot->leaving)
        slot->leave_by_ns = now_ns + c->leave_ns;
    slot->leaving = true;
    if (slot->window.unsettled > 0 && now_ns < slot->leave_by_ns)
        return;
    salvo_memory_claim_end(c, slot);
    salvo_memory_share_release(slot->share);
}

static int follow_slot(salvo_memory_consumer *c, salvo_memory_slot *slot, uint64_t now_ns,
                       bool *leaving, char *error, size_t error_size)
{
    bool ours = slot->share->owner == &c->member, stays = slot->share->wanted == &c->member;
    if (slot->claim && !ours)
        salvo_memory_claim_end(c, slot); /* we were silent for too long */
    if (ours && !stays && slot->claim)
        leave_slot(c, slot, now_ns);
    else if (ours && !stays)
        salvo_memory_share_release(slot->share);
    else if (ours && !slot->claim)
        return begin(c, slot, error, error_size);
    else if (slot->leaving) { /* it stays after all */
        slot->leaving = false;
        salvo_memory_member_notify(&c->member);
    }
    *leaving |= slot->claim && slot->leaving;
    return 0;
}

/* We were silent for too long and come back: as a new member. */
static int join_again(salvo_memory_consumer *c, char *error, size_t error_size)
{
    for (uint32_t i = 0; i < c->slot_count; i++)
        if (c->slots[i].claim)
            salvo_memory_claim_end(c, &c->slots[i]);
    c->env.log(SALVO_LOG_WARNING, "consumer of group %s: nothing was polled for longer than 30 "
               "times kafka_session_timeout_ms: what it had went to other members",
               c->env.options->group);
    int err = salvo_memory_group_join(c->store, c->env.options->group, &c->member);
    if (err == SALVO_ERR_REJECTED)
        snprintf(error, error_size, "group %s has another member named %s by now: close this "
                 "consumer", c->env.options->group, c->member.name);
    return err;
}

int salvo_memory_claims_follow(salvo_memory_consumer *c, char *error, size_t error_size)
{
    uint64_t now_ns = salvo_memory_now_ns();
    bool leaving = false, moved = false;
    int err = 0;
    c->member.seen_ns = now_ns;
    if (!c->member.group && (err = join_again(c, error, error_size)) != 0)
        return err;
    salvo_memory_group_expel_silent(c->member.group, now_ns);
    if (!c->member.changed)
        return 0;
    c->member.changed = false;
    for (uint32_t i = 0; i < c->slot_count; i++) {
        uint32_t claim = c->slots[i].claim;
        int failed = follow_slot(c, &c->slots[i], now_ns, &leaving, error, error_size);
        err = err ? err : failed;
        moved |= c->slots[i].claim != claim;
    }
    c->env.count(c->env.consumer, SALVO_COUNT_REBALANCES, moved);
    if (leaving || err)
        c->member.changed = true; /* the rest is done in the next poll */
    return err;
}

/* --- moving about -----------------------------------------------------------------------------*/

static int not_ours(const salvo_memory_consumer *c, const char *topic, int32_t partition,
                    char *error, size_t error_size)
{
    snprintf(error, error_size, "%s/%d is not assigned to this member of group %s", topic,
             (int)partition, c->env.options->group);
    return SALVO_ERR_PARTITION;
}

static salvo_memory_slot *find_slot(const salvo_memory_consumer *c, const char *topic,
                                    int32_t partition)
{
    for (uint32_t i = 0; i < c->slot_count; i++)
        if (c->slots[i].partition == (uint32_t)partition &&
            strcmp(c->slots[i].topic->name, topic) == 0)
            return &c->slots[i];
    return NULL;
}

static int seek_slot(salvo_memory_consumer *c, salvo_memory_slot *slot, int64_t offset,
                     char *error, size_t error_size)
{
    const salvo_memory_partition *partition = &slot->topic->partitions[slot->partition];
    int64_t end = partition->next_offset;
    if (offset > end) {
        snprintf(error, error_size, "offset %lld: %s/%u ends at %lld", (long long)offset,
                 slot->topic->name, slot->partition, (long long)end);
        return SALVO_ERR_INVALID;
    }
    int64_t first = first_offset(partition);
    if (offset == SALVO_OFFSET_END)
        offset = end;
    else if (offset < first)
        offset = first;
    slot->share->skipped |= offset > slot->share->given;
    salvo_memory_claim_end(c, slot);
    begin_at(c, slot, offset);
    return 0;
}

int salvo_memory_consumer_seek(void *handle, const char *topic, int32_t partition, int64_t offset,
                               char *error, size_t error_size)
{
    salvo_memory_consumer *c = handle;
    salvo_memory_slot *slot = find_slot(c, topic, partition);
    pthread_mutex_lock(&c->store->mutex);
    int err = salvo_memory_claims_follow(c, error, error_size);
    if (!err && (!slot || !slot->claim))
        err = not_ours(c, topic, partition, error, error_size);
    if (!err)
        err = seek_slot(c, slot, offset, error, error_size);
    pthread_mutex_unlock(&c->store->mutex);
    return err;
}

int salvo_memory_consumer_rewind(void *handle, char *error, size_t error_size)
{
    salvo_memory_consumer *c = handle;
    pthread_mutex_lock(&c->store->mutex);
    int err = salvo_memory_claims_follow(c, error, error_size);
    for (uint32_t i = 0; !err && i < c->slot_count; i++) {
        salvo_memory_slot *slot = &c->slots[i];
        if (!slot->claim)
            continue;
        salvo_memory_claim_end(c, slot);
        err = begin(c, slot, error, error_size);
        c->member.changed = true; /* it may have been leaving */
    }
    pthread_mutex_unlock(&c->store->mutex);
    return err;
}

int salvo_memory_consumer_pause(void *handle, const char *topic, int32_t partition, bool paused,
                                char *error, size_t error_size)
{
    salvo_memory_consumer *c = handle;
    bool found = false;
    pthread_mutex_lock(&c->store->mutex);
    for (uint32_t i = 0; i < c->slot_count; i++) {
        salvo_memory_slot *slot = &c->slots[i];
        if (strcmp(slot->topic->name, topic) != 0 ||
            (partition != SALVO_PARTITION_ALL && slot->partition != (uint32_t)partition))
            continue;
        slot->paused = paused;
        found = true;
    }
    if (found && !paused)
        salvo_memory_member_notify(&c->member);
    pthread_mutex_unlock(&c->store->mutex);
    if (found)
        return 0;
    snprintf(error, error_size, "%s has no partition %d", topic, (int)partition);
    return SALVO_ERR_PARTITION;
}

/* --- lag --------------------------------------------------------------------------------------*/

int64_t salvo_memory_consumer_lag(void *handle, salvo_lag *lags, size_t max, uint64_t timeout_ms,
                                  char *error, size_t error_size)
{
    salvo_memory_consumer *c = handle;
    size_t count = 0;
    (void)timeout_ms; /* never waits */
    pthread_mutex_lock(&c->store->mutex);
    int err = salvo_memory_claims_follow(c, error, error_size);
    for (uint32_t i = 0; !err && i < c->slot_count; i++) {
        const salvo_memory_slot *slot = &c->slots[i];
        if (!slot->claim)
            continue;
        if (count < max)
            salvo_memory_share_lag(slot->share, slot->topic, slot->partition, &lags[count]);
        count++;
    }
    pthread_mutex_unlock(&c->store->mutex);
    return err ? err : (int64_t)count;
}

/* With the mutex held. A group that has not begun counts from where it would begin. */
static void lag_without_member(const salvo_config *config, const salvo_memory_group *group,
                               const salvo_memory_topic *topic, uint32_t partition, salvo_lag *lag)
{
    const salvo_memory_share *share =
        group ? salvo_memory_group_share(group, topic, partition) : NULL;
    salvo_memory_share_lag(share, topic, partition, lag);
    if (share && salvo_memory_share_position(share) >= 0)
        return;
    if (salvo_config_is(config, "kafka_auto_offset_reset", "latest"))
        lag->lag = 0;
    else if (salvo_config_is(config, "kafka_auto_offset_reset", "none"))
        lag->lag = -1;
}

int64_t salvo_memory_group_lag(const salvo_config *config, void *shared, const char *group,
                               const char *topic, salvo_lag *lags, size_t max,
                               uint32_t timeout_ms, char *error, size_t error_size)
{
    salvo_memory_store *store = shared;
    (void)timeout_ms;
    if (!store) {
        snprintf(error, error_size,
                 "the groups of the memory broker live in its producer: give that producer");
        return SALVO_ERR_INVALID;
    }
    pthread_mutex_lock(&store->mutex);
    const salvo_memory_group *its = salvo_memory_group_find(store, group);
    const salvo_memory_topic *found = salvo_memory_store_find(store, topic);
    int64_t count = found ? (int64_t)found->partition_count : SALVO_ERR_UNKNOWN_TOPIC;
    for (uint32_t p = 0; found && p < found->partition_count && p < max; p++)
        lag_without_member(config, its, found, p, &lags[p]);
    pthread_mutex_unlock(&store->mutex);
    if (!found)
        snprintf(error, error_size, "memory broker: there is no topic '%s'", topic);
    return count;
}
