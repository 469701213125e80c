/* SPDX-License-Identifier: Apache-2.0
 *
 * Groups of the memory broker: see the header for the structure and its invariants.
 */
#include "memory_group.h"
#include "error.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

salvo_memory_group *salvo_memory_group_find(const salvo_memory_store *store, const char *name)
{
    for (salvo_memory_group *group = store->groups; group; group = group->next)
        if (strcmp(group->name, name) == 0)
            return group;
    return NULL;
}

void salvo_memory_member_notify(salvo_memory_member *member)
{
    const uint64_t one = 1;
    if (member->ready)
        return;
    member->ready = true;
    /* It cannot block or fall short: the counter is far from its end. */
    if (write(member->fd, &one, sizeof one) != (ssize_t)sizeof one)
        member->ready = false;
}

static void tell(salvo_memory_member *member)
{
    if (!member)
        return;
    member->changed = true;
    salvo_memory_member_notify(member);
}

/* --- who shall have what ----------------------------------------------------------------------*/

static bool reads(const salvo_memory_member *member, const salvo_memory_topic *topic)
{
    for (size_t i = 0; i < member->topic_count; i++)
        if (member->topics[i] == topic)
            return true;
    return false;
}

/* The member with the least to do that reads the topic, or NULL. */
static salvo_memory_member *idlest(const salvo_memory_group *group,
                                   const salvo_memory_topic *topic)
{
    salvo_memory_member *best = NULL;
    for (salvo_memory_member *m = group->members; m; m = m->next)
        if (reads(m, topic) && (!best || m->load < best->load))
            best = m;
    return best;
}

static void want(salvo_memory_share *share, salvo_memory_member *member)
{
    if (share->wanted)
        share->wanted->load--;
    share->wanted = member;
    if (member)
        member->load++;
}

/* Move as little as possible: only what has nobody, or somebody with more than one too many. */
static void balance(salvo_memory_group *group)
{
    for (salvo_memory_share *s = group->shares; s; s = s->next)
        if (!s->wanted)
            want(s, idlest(group, s->topic));
    for (bool moved = true; moved;) { /* each move makes the loads more equal: it ends */
        moved = false;
        for (salvo_memory_share *s = group->shares; s; s = s->next) {
            salvo_memory_member *other = s->wanted ? idlest(group, s->topic) : NULL;
            if (!other || other->load + 1 >= s->wanted->load)
                continue;
            want(s, other);
            moved = true;
        }
    }
    for (salvo_memory_share *s = group->shares; s; s = s->next) {
        if (s->owner == s->wanted)
            continue;
        if (!s->owner)
            s->owner = s->wanted;
        tell(s->owner);
    }
}

void salvo_memory_share_release(salvo_memory_share *share)
{
    share->owner = share->wanted;
    tell(share->owner);
}

/* --- members ----------------------------------------------------------------------------------*/

static bool add_share(salvo_memory_group *group, salvo_memory_topic *topic, uint32_t partition)
{
    salvo_memory_share *share = calloc(1, sizeof *share);
    if (!share)
        return false;
    share->topic = topic;
    share->partition = partition;
    share->committed = share->start = -1;
    share->next = group->shares;
    group->shares = share;
    share->next_of_partition = topic->partitions[partition].shares;
    topic->partitions[partition].shares = share;
    return true;
}

salvo_memory_share *salvo_memory_group_share(const salvo_memory_group *group,
                                             const salvo_memory_topic *topic, uint32_t partition)
{
    for (salvo_memory_share *s = group->shares; s; s = s->next)
        if (s->topic == topic && s->partition == partition)
            return s;
    return NULL;
}

static bool add_shares(salvo_memory_group *group, const salvo_memory_member *member)
{
    for (size_t i = 0; i < member->topic_count; i++)
        for (uint32_t p = 0; p < member->topics[i]->partition_count; p++)
            if (!salvo_memory_group_share(group, member->topics[i], p) &&
                !add_share(group, member->topics[i], p))
                return false;
    return true;
}

static salvo_memory_group *new_group(salvo_memory_store *store, const char *name)
{
    size_t size = strlen(name) + 1;
    salvo_memory_group *group = calloc(1, sizeof *group + size);
    if (!group)
        return NULL;
    memcpy(group->name, name, size);
    group->next = store->groups;
    store->groups = group;
    return group;
}

int salvo_memory_group_join(salvo_memory_store *store, const char *name,
                            salvo_memory_member *member)
{
    salvo_memory_group *group = salvo_memory_group_find(store, name);
    if (!group)
        group = new_group(store, name);
    if (!group || !add_shares(group, member))
        return SALVO_ERR_NOMEM;
    for (salvo_memory_member *m = group->members; m && member->name; m = m->next)
        if (m->name && strcmp(m->name, member->name) == 0)
            return SALVO_ERR_REJECTED;
    member->group = group;
    member->load = 0;
    member->changed = true;
    member->next = group->members;
    group->members = member;
    balance(group);
    salvo_memory_member_notify(member);
    return 0;
}

void salvo_memory_group_leave(salvo_memory_member *member)
{
    salvo_memory_group *group = member->group;
    salvo_memory_member **link = &group->members;
    while (*link != member)
        link = &(*link)->next;
    *link = member->next;
    member->next = NULL;
    member->group = NULL;
    for (salvo_memory_share *s = group->shares; s; s = s->next) {
        if (s->wanted == member)
            want(s, NULL);
        if (s->owner == member)
            salvo_memory_share_release(s);
    }
    balance(group);
}

void salvo_memory_group_expel_silent(salvo_memory_group *group, uint64_t now_ns)
{
    for (salvo_memory_member *m = group->members, *next; m; m = next) {
        next = m->next;
        if (now_ns < m->seen_ns + m->silence_ns)
            continue;
        salvo_memory_group_leave(m);
        tell(m);
    }
}

/* --- what the log tells -----------------------------------------------------------------------*/

void salvo_memory_groups_arrived(const salvo_memory_partition *partition)
{
    for (salvo_memory_share *s = partition->shares; s; s = s->next_of_partition)
        if (s->owner)
            salvo_memory_member_notify(s->owner);
}

void salvo_memory_groups_ended(const salvo_memory_store *store)
{
    for (salvo_memory_group *group = store->groups; group; group = group->next)
        for (salvo_memory_member *m = group->members; m; m = m->next)
            salvo_memory_member_notify(m);
}

void salvo_memory_groups_free(salvo_memory_store *store)
{
    for (salvo_memory_group *group = store->groups, *next; group; group = next) {
        next = group->next;
        for (salvo_memory_share *s = group->shares, *after; s; s = after) {
            after = s->next;
            free(s);
        }
        free(group);
    }
    store->groups = NULL;
}

/* --- figures ----------------------------------------------------------------------------------*/

int64_t salvo_memory_share_position(const salvo_memory_share *share)
{
    return share->committed >= 0 ? share->committed : share->start;
}

void salvo_memory_share_lag(const salvo_memory_share *share, const salvo_memory_topic *topic,
                            uint32_t partition, salvo_lag *lag)
{
    const salvo_memory_partition *p = &topic->partitions[partition];
    int64_t first = p->head ? p->head->base_offset : p->next_offset;
    int64_t position = share ? salvo_memory_share_position(share) : -1;
    *lag = (salvo_lag){.partition = (int32_t)partition,
                       .committed = share ? share->committed : -1,
                       .end = p->next_offset,
                       .lag = p->next_offset - (position > first ? position : first)};
    snprintf(lag->topic, sizeof lag->topic, "%s", topic->name);
}
