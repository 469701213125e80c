/* SPDX-License-Identifier: Apache-2.0
 *
 * The log of the embedded memory broker: topics, partitions, offsets. One per producer, shared by
 * its flushers' handles and by readers; who still uses it keeps it alive (references), so what
 * arrived can be read after the producer was closed.
 *
 * A segment is one stored batch, written by one thread, then linked and never changed again. It
 * is in two lists: its partition's (by offset) and the store's (by age); the oldest of the store
 * is therefore the oldest of its partition too, and retention takes it from the head of both.
 *
 *   bytes    = sum of size over all linked segments <= limit_bytes
 *   base_offset of a segment's successor = base_offset + count   (no gaps)
 *   first_offset = the head's base_offset, or next_offset when the partition is empty
 *
 * A reader pins the segments it stands on: an evicted segment lives on until its last pin goes,
 * outside of limit_bytes (at most one per partition and reader).
 * One mutex guards the lists and the script; payload is copied outside of it.
 */
#ifndef SALVO_MEMORY_STORE_H
#define SALVO_MEMORY_STORE_H

#include "driver.h"
#include "memory_script.h"
#include <pthread.h>

#define SALVO_MEMORY_NULL UINT32_MAX /* a length: there is no key, the value is null */
#define SALVO_MEMORY_BYTES_DEFAULT (UINT64_C(256) << 20)
#define SALVO_MEMORY_PARTITIONS_MAX 1024

typedef struct salvo_memory_record { /* then key, value, headers; padded to 8 */
    int64_t timestamp_ms;
    uint32_t key_len, value_len, headers_bytes, reserved;
} salvo_memory_record;

typedef struct salvo_memory_segment {
    struct salvo_memory_segment *next;       /* in its partition, while it is not evicted */
    struct salvo_memory_segment *next_by_age;
    struct salvo_memory_partition *partition;
    int64_t base_offset;
    uint32_t count; /* records */
    uint32_t pins;
    bool evicted;
    size_t size, used; /* bytes: of the allocation, of records */
    _Alignas(8) unsigned char records[];
} salvo_memory_segment;

typedef struct salvo_memory_partition {
    salvo_memory_segment *head, *tail;
    int64_t next_offset;
    struct salvo_memory_share *shares; /* of groups that read it; memory_group.h */
} salvo_memory_partition;

typedef struct salvo_memory_topic { /* never freed before the store */
    struct salvo_memory_topic *next;
    uint32_t partition_count;
    salvo_memory_partition *partitions;
    char name[];
} salvo_memory_topic;

typedef struct salvo_memory_store {
    pthread_mutex_t mutex;
    pthread_cond_t changed; /* a segment or topic came, or closed; on CLOCK_MONOTONIC */
    uint32_t references;
    uint32_t waiters; /* readers in a wait on `changed` */
    bool closed;      /* the producer is gone: nothing more will come */
    bool warned_full;
    bool evict; /* memory_full */
    bool scripted;
    uint32_t partition_count; /* of a new topic */
    uint64_t limit_bytes, bytes;
    uint64_t evicted_messages;
    size_t message_bytes_max;
    salvo_memory_segment *oldest, *newest;
    salvo_memory_topic *topics;
    struct salvo_memory_group *groups; /* memory_group.h */
    salvo_memory_script script;
    uint64_t down_until_ns;
} salvo_memory_store;

/* A store as the configuration says; one reference, the producer's. */
int salvo_memory_store_new(const salvo_config *config, salvo_memory_store **out, char *error,
                           size_t error_size);
void salvo_memory_store_hold(salvo_memory_store *store);
void salvo_memory_store_release(salvo_memory_store *store);

/* Nothing more will come: readers at the end learn it. */
void salvo_memory_store_end(salvo_memory_store *store);

/* The topic of that name; made if it is new (NULL: no memory). */
salvo_memory_topic *salvo_memory_store_topic(salvo_memory_store *store, const char *name);

/* A topic of that many partitions: 0, REJECTED (it is there), INVALID or NOMEM. */
int salvo_memory_store_create(salvo_memory_store *store, const char *name, int32_t partitions);

/* With store->mutex held: the topic, or NULL if there is none. */
salvo_memory_topic *salvo_memory_store_find(salvo_memory_store *store, const char *name);

/* An unlinked segment for count records of bytes in all (NULL: no memory), and a record more. */
salvo_memory_segment *salvo_memory_segment_new(uint32_t count, uint64_t bytes);
bool salvo_memory_segment_add(salvo_memory_segment *segment, const salvo_driver_message *message,
                              int64_t now_ms);

/* Link a segment at the end of a partition and set its base_offset. 0: it is the store's now.
 * TRANSIENT: full (memory_full=reject); TOO_LARGE: it alone is over memory_bytes; then it stays
 * the caller's. *segment may have moved. */
int salvo_memory_store_append(salvo_memory_store *store, salvo_memory_topic *topic,
                              int32_t partition, salvo_memory_segment **segment);

/* With store->mutex held, what groups must hear of (memory_group.c): a segment came, the producer
 * is gone. And the end of all groups. */
void salvo_memory_groups_arrived(const salvo_memory_partition *partition);
void salvo_memory_groups_ended(const salvo_memory_store *store);
void salvo_memory_groups_free(salvo_memory_store *store);

/* With store->mutex held: pins. Unpinning the last one of an evicted segment frees it. */
void salvo_memory_segment_pin(salvo_memory_segment *segment);
void salvo_memory_segment_unpin(salvo_memory_segment *segment);

/* The script. Is the broker down at now_ns (starts a "down" whose turn it is)? */
bool salvo_memory_store_down(salvo_memory_store *store, uint64_t now_ns);

/* The step of one submitted batch; false: the broker is down and no step was used. */
bool salvo_memory_store_step(salvo_memory_store *store, uint64_t now_ns, salvo_memory_step *step);

#endif
