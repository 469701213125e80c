/* SPDX-License-Identifier: Apache-2.0
 *
 * Consuming from the memory broker: the handle, for its parts (memory_consumer.c: opening, polling,
 * settling; memory_claims.c: what is assigned, committed, moved). `mutex` below is the store's.
 */
#ifndef SALVO_MEMORY_CONSUMER_H
#define SALVO_MEMORY_CONSUMER_H

#include "driver_consumer.h"
#include "memory_group.h"
#include "memory_place.h"
#include "window.h"

extern const salvo_driver_consumer_ops salvo_memory_consumer_ops;

enum { SALVO_MEMORY_BLOCK_HEADERS = 1024 };

typedef struct salvo_memory_headers { /* of the messages of one poll */
    struct salvo_memory_headers *next;
    salvo_header of[SALVO_MEMORY_BLOCK_HEADERS];
} salvo_memory_headers;

typedef struct salvo_memory_slot { /* one partition of a subscribed topic */
    salvo_memory_topic *topic;
    uint32_t partition;
    salvo_memory_share *share;
    uint32_t claim; /* 0: not ours now */
    bool paused;
    bool settled; /* something was, since the last commit */
    bool leaving; /* another member shall have it: nothing more is given */
    uint64_t leave_by_ns;
    salvo_memory_place place; /* no segment without a claim */
    salvo_window window;      /* empty without a claim */
} salvo_memory_slot;

typedef struct salvo_memory_consumer { /* the polling thread's, but for what says otherwise */
    salvo_consumer_env env;
    salvo_memory_store *store;
    salvo_memory_member member; /* under the mutex, but for fd */
    salvo_memory_topic **topics;
    salvo_memory_slot *slots;
    uint32_t slot_count, turn;
    uint32_t last_claim;
    bool window_full;  /* of a slot, at the last look: settling makes it go on */
    uint64_t leave_ns; /* how long a share that moves may be settled */
    _Atomic uint32_t woken; /* any thread */
    salvo_memory_segment **given; /* pinned: what the last poll gave lies in them */
    uint32_t given_count, given_room;
    salvo_memory_headers *headers, *headers_at;
    uint32_t headers_used; /* of headers_at */
} salvo_memory_consumer;

uint64_t salvo_memory_now_ns(void);

/* With the mutex held. Begin and end claims as the group says. 0, or an error with its text. */
int salvo_memory_claims_follow(salvo_memory_consumer *c, char *error, size_t error_size);

/* With the mutex held: end a claim (revoked); commit what is settled of it before. */
void salvo_memory_claim_end(salvo_memory_consumer *c, salvo_memory_slot *slot);

/* With the mutex held: commit what is settled of all, where it is still ours. */
void salvo_memory_claims_commit(salvo_memory_consumer *c);

int salvo_memory_consumer_seek(void *handle, const char *topic, int32_t partition, int64_t offset,
                               char *error, size_t error_size);
int salvo_memory_consumer_rewind(void *handle, char *error, size_t error_size);
int salvo_memory_consumer_pause(void *handle, const char *topic, int32_t partition, bool paused,
                                char *error, size_t error_size);
int64_t salvo_memory_consumer_lag(void *handle, salvo_lag *lags, size_t max, uint64_t timeout_ms,
                                  char *error, size_t error_size);
int64_t salvo_memory_group_lag(const salvo_config *config, void *shared, const char *group,
                               const char *topic, salvo_lag *lags, size_t max,
                               uint32_t timeout_ms, char *error, size_t error_size);

#endif
