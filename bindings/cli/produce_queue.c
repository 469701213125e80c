/* SPDX-License-Identifier: Apache-2.0
 *
 * Blocks of input, parcels of lines in them, and the bounded queues between the reader and the
 * sending threads. Guarantees: parcels leave a queue in the order in which they came; a block
 * lives as long as the reader or a parcel uses it.
 */
#include "produce.h"

#include <stdlib.h>
#include <string.h>

#define SLAB_BYTES (64u << 10)

produce_block *salvo_produce_block_new(size_t size)
{
    produce_block *block = salvo_cli_alloc(sizeof *block);
    atomic_init(&block->references, 1);
    block->bytes = salvo_cli_realloc(NULL, size);
    block->size = size;
    return block;
}

void salvo_produce_block_release(produce_block *block)
{
    /* acq_rel: whoever frees sees the reads of all others as done; they release here too. */
    if (atomic_fetch_sub_explicit(&block->references, 1, memory_order_acq_rel) != 1)
        return;
    while (block->slabs) {
        produce_slab *next = block->slabs->next;
        free(block->slabs);
        block->slabs = next;
    }
    free(block->bytes);
    free(block);
}

char *salvo_produce_block_store(produce_block *block, const char *text, size_t len)
{
    produce_slab *slab = block->slabs;
    if (!slab || slab->size - slab->used < len) {
        size_t size = len > SLAB_BYTES ? len : SLAB_BYTES;
        slab = salvo_cli_realloc(NULL, sizeof *slab + size);
        slab->next = block->slabs;
        slab->used = 0;
        slab->size = size;
        block->slabs = slab;
    }
    char *place = slab->bytes + slab->used;
    memcpy(place, text, len);
    slab->used += len;
    return place;
}

produce_parcel *salvo_produce_parcel_new(produce_block *block, const char *file, bool keyed)
{
    produce_parcel *parcel = salvo_cli_alloc(sizeof *parcel);
    /* relaxed: the caller holds a reference; the queue's mutex publishes the parcel. */
    atomic_fetch_add_explicit(&block->references, 1, memory_order_relaxed);
    parcel->block = block;
    parcel->file = file;
    parcel->room = 1024;
    parcel->values = salvo_cli_realloc(NULL, parcel->room * sizeof *parcel->values);
    parcel->lines = salvo_cli_realloc(NULL, parcel->room * sizeof *parcel->lines);
    if (keyed)
        parcel->keys = salvo_cli_realloc(NULL, parcel->room * sizeof *parcel->keys);
    return parcel;
}

void salvo_produce_parcel_add(produce_parcel *parcel, salvo_bytes value, salvo_bytes key,
                              uint64_t line)
{
    if (parcel->count == parcel->room) {
        size_t room = parcel->room * 2;
        parcel->values = salvo_cli_realloc(parcel->values, room * sizeof *parcel->values);
        parcel->lines = salvo_cli_realloc(parcel->lines, room * sizeof *parcel->lines);
        if (parcel->keys)
            parcel->keys = salvo_cli_realloc(parcel->keys, room * sizeof *parcel->keys);
        parcel->room = room;
    }
    parcel->values[parcel->count] = value;
    parcel->lines[parcel->count] = line;
    if (parcel->keys)
        parcel->keys[parcel->count] = key;
    parcel->count++;
}

void salvo_produce_parcel_free(produce_parcel *parcel)
{
    salvo_produce_block_release(parcel->block);
    free(parcel->values);
    free(parcel->keys);
    free(parcel->lines);
    free(parcel);
}

void salvo_produce_queue_init(produce_queue *queue)
{
    pthread_mutex_init(&queue->mutex, NULL);
    pthread_cond_init(&queue->changed, NULL);
}

void salvo_produce_queue_push(produce_queue *queue, produce_parcel *parcel)
{
    pthread_mutex_lock(&queue->mutex);
    while (queue->count >= PRODUCE_QUEUE_PARCELS)
        pthread_cond_wait(&queue->changed, &queue->mutex);
    if (queue->tail)
        queue->tail->next = parcel;
    else
        queue->head = parcel;
    queue->tail = parcel;
    queue->count++;
    pthread_cond_broadcast(&queue->changed);
    pthread_mutex_unlock(&queue->mutex);
}

produce_parcel *salvo_produce_queue_pop(produce_queue *queue)
{
    pthread_mutex_lock(&queue->mutex);
    while (!queue->head && !queue->closed)
        pthread_cond_wait(&queue->changed, &queue->mutex);
    produce_parcel *parcel = queue->head;
    if (parcel) {
        queue->head = parcel->next;
        if (!queue->head)
            queue->tail = NULL;
        queue->count--;
        pthread_cond_broadcast(&queue->changed);
    }
    pthread_mutex_unlock(&queue->mutex);
    return parcel;
}

void salvo_produce_queue_close(produce_queue *queue)
{
    pthread_mutex_lock(&queue->mutex);
    queue->closed = true;
    pthread_cond_broadcast(&queue->changed);
    pthread_mutex_unlock(&queue->mutex);
}
