/* SPDX-License-Identifier: Apache-2.0
 *
 * A batch: messages of one topic and partition on their way from the ring to their outcome.
 *
 *   OPEN --close--> READY --submit--> OUT --outcome--> settled, given back
 *                     ^----- transient or fatal -----'
 *
 * Guarantees: a record is copied here from the ring once and stays in place until its outcome;
 * every record is settled exactly once (SALVO_RECORD_SETTLED); order inside a batch is the order
 * of appending. This file alone owns where a record's bytes live. One flusher thread; only
 * salvo_batch_next() may be called by others while the batch is OUT.
 */
#ifndef SALVO_BATCH_H
#define SALVO_BATCH_H

#include "arena.h"
#include "driver.h"
#include "record.h"

typedef enum salvo_batch_state {
    SALVO_BATCH_FREE,
    SALVO_BATCH_OPEN,
    SALVO_BATCH_READY,
    SALVO_BATCH_OUT
} salvo_batch_state;

typedef struct salvo_block { /* at the beginning of each arena block of a batch */
    struct salvo_block *next;
    uint32_t used, size; /* bytes, this head included */
} salvo_block;

typedef struct salvo_batch {
    salvo_driver_batch driver; /* first: what the driver sees */
    struct salvo_batch *next, *previous;
    salvo_block *first, *last;
    uint64_t arena_bytes;      /* of its blocks */
    uint64_t oldest_stamp;     /* ticks: linger counts from it */
    uint64_t expires_ns;       /* the earliest deadline of its records */
    uint64_t sequence;         /* order of closing: resubmission keeps it */
    uint64_t submitted_ns;
    uint64_t not_before_ns;    /* back-off */
    uint32_t last_bytes;       /* of its last block: charged so far */
    uint32_t records;          /* appended so far, settled ones included */
    uint32_t index;            /* in the pool; with turn it makes the token */
    uint32_t turn;
    uint32_t attempts;
    uint32_t epoch;            /* flush round */
    salvo_batch_state state;
} salvo_batch;

typedef struct salvo_batch_pool {
    salvo_arena arena;
    salvo_batch *batches;
    salvo_batch *free;
    uint32_t count;
    uint32_t fresh;  /* batches from here on were never opened */
    bool sizes_only; /* a plan: bytes are accounted for, but not kept */
} salvo_batch_pool;

/* arena_bytes of blocks; a record of up to record_bytes must fit. 0 or -errno. */
int salvo_batch_pool_open(salvo_batch_pool *pool, uint64_t arena_bytes, uint64_t record_bytes);
/* For a plan: the same accounts, but of each record only stamp and flags are kept. */
int salvo_batch_pool_open_sizes(salvo_batch_pool *pool, uint64_t arena_bytes,
                                uint64_t record_bytes);
void salvo_batch_pool_close(salvo_batch_pool *pool);
uint64_t salvo_batch_pool_overhead(uint64_t arena_bytes);

salvo_batch *salvo_batch_open(salvo_batch_pool *pool, uint32_t topic, int32_t partition);
void salvo_batch_free(salvo_batch_pool *pool, salvo_batch *batch);

/* What an append needs to know of a record. */
typedef struct salvo_batch_item {
    const void *payload;
    uint32_t length, flags;
    uint64_t stamp, expires_ns;
    salvo_record_head head;
} salvo_batch_item;

/* Copy a record in; batch_bytes hints how large blocks should become. False: no memory now. */
bool salvo_batch_append(salvo_batch_pool *pool, salvo_batch *batch, const salvo_batch_item *item,
                        uint32_t batch_bytes);

/* Walk all records, settled ones too. */
typedef struct salvo_batch_walk {
    salvo_block *block;
    uint32_t offset;
} salvo_batch_walk;
static inline salvo_batch_walk salvo_batch_walk_start(const salvo_batch *batch)
{
    return (salvo_batch_walk){batch->first, (uint32_t)sizeof(salvo_block)};
}
static inline salvo_record_stored *salvo_batch_walk_next(salvo_batch_walk *walk)
{
    while (walk->block != NULL && walk->offset >= walk->block->used) {
        walk->block = walk->block->next;
        walk->offset = (uint32_t)sizeof(salvo_block);
    }
    if (walk->block == NULL)
        return NULL;
    salvo_record_stored *stored =
        (salvo_record_stored *)(void *)((unsigned char *)walk->block + walk->offset);
    walk->offset += stored->bytes;
    return stored;
}

static inline const void *salvo_stored_payload(const salvo_record_stored *stored)
{
    return stored + 1;
}
void salvo_stored_extra(const salvo_record_stored *stored, salvo_record_extra *extra);

/* The token of a batch that is OUT, and back; NULL for one that was never given. */
uint64_t salvo_batch_token(const salvo_batch *batch);
salvo_batch *salvo_batch_of(salvo_batch_pool *pool, uint64_t token);

#endif
