/* SPDX-License-Identifier: Apache-2.0
 *
 * Consumer groups of the memory broker: who reads which partition, and what is committed. They
 * live in the store, like the log; all of this is called with store->mutex held.
 *
 * A share is one partition as one group sees it. It moves in two steps, so that what did not move
 * stays in hand (cooperative): `wanted` says who shall have it, and the owner gives it up in its
 * own time (salvo_memory_share_release). A share nobody owns goes to whom it is wanted by at once.
 *
 *   owner == NULL  =>  wanted == NULL (nobody in the group reads the topic)
 *   loads of two members that read the same topics differ by at most 1, once all has moved
 *   committed <= given; start is where the group began without a commit, fixed at its first claim
 */
#ifndef SALVO_MEMORY_GROUP_H
#define SALVO_MEMORY_GROUP_H

#include "driver_consumer.h"
#include "memory_store.h"

typedef struct salvo_memory_member {
    struct salvo_memory_member *next;
    struct salvo_memory_group *group; /* NULL: it was expelled, or never joined */
    const char *name;                 /* NULL: none */
    salvo_memory_topic *const *topics;
    size_t topic_count;
    int fd;            /* an eventfd */
    bool ready;        /* fd is readable */
    bool changed;      /* what it owns or shall own changed */
    uint32_t load;     /* shares that it shall own */
    uint64_t seen_ns;  /* its last poll */
    uint64_t silence_ns; /* after which it is given up */
} salvo_memory_member;

typedef struct salvo_memory_share {
    struct salvo_memory_share *next;              /* in the group */
    struct salvo_memory_share *next_of_partition; /* of the other groups */
    salvo_memory_topic *topic;
    uint32_t partition;
    int64_t committed; /* next offset; -1: none */
    int64_t start;     /* -1: not begun */
    int64_t given;     /* one past the last that was ever given: below it is a redelivery ... */
    bool skipped;      /* ... but maybe not, where a seek went ahead of it */
    salvo_memory_member *owner, *wanted;
} salvo_memory_share;

typedef struct salvo_memory_group {
    struct salvo_memory_group *next;
    salvo_memory_share *shares;
    salvo_memory_member *members;
    char name[];
} salvo_memory_group;

salvo_memory_group *salvo_memory_group_find(const salvo_memory_store *store, const char *name);

/* 0, SALVO_ERR_NOMEM, or SALVO_ERR_REJECTED (a member of that name is there). */
int salvo_memory_group_join(salvo_memory_store *store, const char *name,
                            salvo_memory_member *member);
void salvo_memory_group_leave(salvo_memory_member *member);

/* Members that were silent for too long lose what they have; a member finds `group` NULL then. */
void salvo_memory_group_expel_silent(salvo_memory_group *group, uint64_t now_ns);

salvo_memory_share *salvo_memory_group_share(const salvo_memory_group *group,
                                             const salvo_memory_topic *topic, uint32_t partition);

/* The owner has given it up: it goes to whom it is wanted by. */
void salvo_memory_share_release(salvo_memory_share *share);

/* Make a member's descriptor readable. */
void salvo_memory_member_notify(salvo_memory_member *member);

/* Where the group reads next. */
int64_t salvo_memory_share_position(const salvo_memory_share *share);
/* *lag is written for a share (NULL: the group has none) of a partition. */
void salvo_memory_share_lag(const salvo_memory_share *share, const salvo_memory_topic *topic,
                            uint32_t partition, salvo_lag *lag);

#endif
