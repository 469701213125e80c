/* SPDX-License-Identifier: Apache-2.0
 *
 * Batches over the arena; see batch.h. The pool is sized at open (one batch needs at least one
 * arena block), so that no batch is ever lacking while there is memory for its bytes.
 */
#include "batch.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

static uint32_t pad8(uint64_t n)
{
    return (uint32_t)((n + 7u) & ~(uint64_t)7u);
}

uint64_t salvo_batch_pool_overhead(uint64_t arena_bytes)
{
    return arena_bytes / SALVO_ARENA_MIN_BLOCK * (sizeof(salvo_batch) + 1u);
}

static uint64_t top_bytes(uint64_t record_bytes)
{
    uint64_t top = record_bytes + sizeof(salvo_block) + sizeof(salvo_record_stored) + 8u;
    return top < (1u << 20) ? 1u << 20 : top;
}

int salvo_batch_pool_open(salvo_batch_pool *pool, uint64_t arena_bytes, uint64_t record_bytes)
{
    memset(pool, 0, sizeof *pool);
    int err = salvo_arena_open(&pool->arena, arena_bytes, top_bytes(record_bytes));
    if (err != 0)
        return err;
    pool->count = (uint32_t)(pool->arena.bytes / SALVO_ARENA_MIN_BLOCK);
    pool->batches = calloc(pool->count, sizeof *pool->batches);
    if (pool->batches == NULL) {
        salvo_arena_close(&pool->arena);
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < pool->count; i++)
        pool->batches[i].index = i; /* touched now: no page fault later */
    return 0;
}

/* Tables of 100 GB of batches are taken page by page, too. */
int salvo_batch_pool_open_sizes(salvo_batch_pool *pool, uint64_t arena_bytes,
                                uint64_t record_bytes)
{
    memset(pool, 0, sizeof *pool);
    int err = salvo_arena_open_sparse(&pool->arena, arena_bytes, top_bytes(record_bytes));
    if (err != 0)
        return err;
    pool->sizes_only = true;
    pool->count = (uint32_t)(pool->arena.bytes / SALVO_ARENA_MIN_BLOCK);
    pool->batches = mmap(NULL, pool->count * sizeof *pool->batches, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pool->batches != MAP_FAILED)
        return 0;
    salvo_arena_close(&pool->arena);
    memset(pool, 0, sizeof *pool);
    return -ENOMEM;
}

void salvo_batch_pool_close(salvo_batch_pool *pool)
{
    salvo_arena_close(&pool->arena);
    if (!pool->sizes_only)
        free(pool->batches);
    else
        munmap(pool->batches, pool->count * sizeof *pool->batches);
    memset(pool, 0, sizeof *pool);
}

salvo_batch *salvo_batch_open(salvo_batch_pool *pool, uint32_t topic, int32_t partition)
{
    salvo_batch *b = pool->free;
    if (b == NULL && pool->fresh == pool->count)
        return NULL;
    if (b != NULL) {
        pool->free = b->next;
    } else {
        b = &pool->batches[pool->fresh];
        b->index = pool->fresh++;
    }
    uint32_t index = b->index, turn = b->turn + 1;
    memset(b, 0, sizeof *b);
    b->index = index;
    b->turn = turn;
    b->driver.topic = topic;
    b->driver.partition = partition;
    b->driver.walk = b;
    b->expires_ns = UINT64_MAX;
    b->state = SALVO_BATCH_OPEN;
    return b;
}

void salvo_batch_free(salvo_batch_pool *pool, salvo_batch *batch)
{
    for (salvo_block *block = batch->first, *next; block != NULL; block = next) {
        next = block->next;
        salvo_arena_give(&pool->arena, block);
    }
    batch->first = batch->last = NULL;
    batch->state = SALVO_BATCH_FREE;
    batch->next = pool->free;
    pool->free = batch;
}

/* What the rest of the batch will take, if it goes on as before: a record is stored with up to 32
 * bytes beside its own. The arena's blocks are powers of two; the next smaller one is asked for,
 * because two of them waste less than one that is half empty. */
static uint64_t rest_bytes(const salvo_batch *batch, uint32_t batch_bytes)
{
    uint64_t bytes = batch->driver.bytes;
    uint64_t left = bytes < batch_bytes ? batch_bytes - bytes : 0;
    if (bytes != 0)
        left = left * batch->arena_bytes / bytes;
    uint64_t block = SALVO_ARENA_MIN_BLOCK;
    while (2 * block <= left)
        block *= 2;
    return block;
}

/* Blocks grow with the batch, from one that fits the first record to what is left of it: many thin
 * partitions stay cheap and a busy one gets few blocks. */
static bool add_block(salvo_batch_pool *pool, salvo_batch *batch, uint64_t need,
                      uint32_t batch_bytes)
{
    uint64_t want = batch->last == NULL ? SALVO_ARENA_MIN_BLOCK : 2u * (uint64_t)batch->last->size;
    uint64_t rest = rest_bytes(batch, batch_bytes), size;
    if (want > rest)
        want = rest;
    if (want < need + sizeof(salvo_block))
        want = need + sizeof(salvo_block);
    salvo_block *block = salvo_arena_take(&pool->arena, want, &size);
    if (block == NULL && want > need + sizeof(salvo_block))
        block = salvo_arena_take(&pool->arena, need + sizeof(salvo_block), &size);
    if (block == NULL)
        return false;
    block->next = NULL;
    block->used = (uint32_t)sizeof *block;
    block->size = (uint32_t)size;
    if (batch->last != NULL)
        batch->last->next = block;
    else
        batch->first = block;
    batch->last = block;
    batch->last_bytes = block->used;
    batch->arena_bytes += size;
    return true;
}

static bool has_extras(const salvo_batch_item *item)
{
    salvo_record_extra extra = {0};
    if (item->head.headers_len != 0)
        return true;
    if ((item->flags & SALVO_RECORD_EXTRA) != 0)
        memcpy(&extra, (const unsigned char *)item->payload + sizeof(salvo_record_head),
               sizeof extra);
    return extra.timestamp_ms != 0;
}

bool salvo_batch_append(salvo_batch_pool *pool, salvo_batch *batch, const salvo_batch_item *item,
                        uint32_t batch_bytes)
{
    uint32_t bytes = pad8(sizeof(salvo_record_stored) + (uint64_t)item->length);
    if (batch->last == NULL || batch->last->size - batch->last_bytes < bytes)
        if (!add_block(pool, batch, bytes, batch_bytes))
            return false;
    salvo_record_stored *stored =
        (salvo_record_stored *)(void *)((unsigned char *)batch->last + batch->last->used);
    stored->stamp = item->stamp;
    stored->bytes = pool->sizes_only ? (uint32_t)sizeof *stored : bytes;
    stored->flags = item->flags;
    if (!pool->sizes_only)
        memcpy(stored + 1, item->payload, item->length);
    batch->last->used += stored->bytes;
    batch->last_bytes += bytes;
    if (batch->records == 0 || item->stamp < batch->oldest_stamp)
        batch->oldest_stamp = item->stamp;
    if (item->expires_ns < batch->expires_ns)
        batch->expires_ns = item->expires_ns;
    batch->records++;
    batch->driver.count++;
    batch->driver.bytes += item->length - salvo_record_prefix(item->flags);
    batch->driver.deadline_ns = batch->expires_ns;
    if (has_extras(item))
        batch->driver.extras = 1;
    return true;
}

void salvo_stored_extra(const salvo_record_stored *stored, salvo_record_extra *extra)
{
    if ((stored->flags & SALVO_RECORD_EXTRA) != 0)
        memcpy(extra, (const unsigned char *)(stored + 1) + sizeof(salvo_record_head),
               sizeof *extra);
    else
        memset(extra, 0, sizeof *extra);
}

bool salvo_batch_next(const salvo_driver_batch *batch, salvo_driver_cursor *cursor,
                      salvo_driver_message *message)
{
    const salvo_batch *b = batch->walk;
    salvo_batch_walk walk = {NULL, cursor->offset};
    salvo_record_stored *stored;
    walk = cursor->offset == 0 ? salvo_batch_walk_start(b) : walk;
    if (cursor->offset != 0)
        memcpy(&walk.block, &cursor->block, sizeof walk.block);
    do {
        stored = salvo_batch_walk_next(&walk);
    } while (stored != NULL && (stored->flags & SALVO_RECORD_SETTLED) != 0);
    if (stored == NULL)
        return false;
    cursor->block = walk.block;
    cursor->offset = walk.offset;
    cursor->index++;

    salvo_record_head head;
    salvo_record_extra extra;
    memcpy(&head, stored + 1, sizeof head);
    salvo_stored_extra(stored, &extra);
    const unsigned char *key =
        (const unsigned char *)(stored + 1) + salvo_record_prefix(stored->flags);
    const unsigned char *headers = key + salvo_record_span(head.key_len);
    message->key = head.key_len == SALVO_NULL_LEN ? NULL : key;
    message->key_len = salvo_record_span(head.key_len);
    message->headers = headers;
    message->headers_bytes = head.headers_len;
    message->value = head.value_len == SALVO_NULL_LEN ? NULL : headers + head.headers_len;
    message->value_len = salvo_record_span(head.value_len);
    message->timestamp_ms = extra.timestamp_ms;
    return true;
}

uint64_t salvo_batch_token(const salvo_batch *batch)
{
    return (uint64_t)batch->turn << 32 | batch->index;
}

salvo_batch *salvo_batch_of(salvo_batch_pool *pool, uint64_t token)
{
    uint32_t index = (uint32_t)token;
    if (index >= pool->count)
        return NULL;
    salvo_batch *b = &pool->batches[index];
    return b->state == SALVO_BATCH_OUT && b->turn == (uint32_t)(token >> 32) ? b : NULL;
}
