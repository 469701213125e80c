/* SPDX-License-Identifier: Apache-2.0
 *
 * The buddy allocator of arena.h. Free blocks are chained through their own first bytes, so the
 * bookkeeping outside the mapping is one byte per 4 KiB.
 *
 * Invariants: state[i] is meaningful only where block i begins a block; a free block's buddy of
 * the same level is not free (they would have been merged); the sum of taken blocks is `used`.
 */
#include "arena.h"

#include "record.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

struct salvo_arena_free {
    salvo_arena_free *next, *previous;
};

static uint32_t level_of(uint64_t bytes)
{
    uint32_t level = 0;
    while (((uint64_t)SALVO_ARENA_MIN_BLOCK << level) < bytes)
        level++;
    return level;
}

static size_t index_of(const salvo_arena *a, const void *block)
{
    return (size_t)((const unsigned char *)block - a->base) / SALVO_ARENA_MIN_BLOCK;
}

static void put_free(salvo_arena *a, void *block, uint32_t level)
{
    salvo_arena_free *f = block;
    f->previous = NULL;
    f->next = a->free[level];
    if (f->next != NULL)
        f->next->previous = f;
    a->free[level] = f;
    a->state[index_of(a, block)] = (uint8_t)(level << 1 | 1u);
}

static void cut_free(salvo_arena *a, salvo_arena_free *f, uint32_t level)
{
    if (f->previous != NULL)
        f->previous->next = f->next;
    else
        a->free[level] = f->next;
    if (f->next != NULL)
        f->next->previous = f->previous;
}

static int reserve(salvo_arena *arena, uint64_t bytes, uint64_t top, int flags)
{
    memset(arena, 0, sizeof *arena);
    uint32_t top_level = level_of(top);
    if (top_level >= SALVO_ARENA_LEVELS)
        return -EINVAL;
    top = (uint64_t)SALVO_ARENA_MIN_BLOCK << top_level;
    bytes -= bytes % top;
    if (bytes == 0)
        return -EINVAL;
    arena->state = calloc(bytes / SALVO_ARENA_MIN_BLOCK, 1);
    if (arena->state == NULL)
        return -ENOMEM;
    arena->base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1,
                       0);
    if (arena->base == MAP_FAILED) {
        free(arena->state);
        memset(arena, 0, sizeof *arena);
        return -ENOMEM;
    }
    arena->bytes = bytes;
    arena->levels = top_level + 1;
    return 0;
}

int salvo_arena_open(salvo_arena *arena, uint64_t bytes, uint64_t top)
{
    int err = reserve(arena, bytes, top, 0);
    if (err != 0)
        return err;
    uint32_t top_level = arena->levels - 1;
    top = (uint64_t)SALVO_ARENA_MIN_BLOCK << top_level;
    madvise(arena->base, arena->bytes, MADV_HUGEPAGE);
    for (uint64_t at = arena->bytes; at > 0; at -= top)
        put_free(arena, arena->base + at - top, top_level);
    arena->fresh = arena->bytes;
    return 0;
}

int salvo_arena_open_sparse(salvo_arena *arena, uint64_t bytes, uint64_t top)
{
    int err = reserve(arena, bytes, top, MAP_NORESERVE);
    if (err == 0)
        madvise(arena->base, arena->bytes, MADV_NOHUGEPAGE);
    return err;
}

void salvo_arena_close(salvo_arena *arena)
{
    if (arena->base != NULL)
        munmap(arena->base, arena->bytes);
    free(arena->state);
    memset(arena, 0, sizeof *arena);
}

static void count_used(salvo_arena *a, uint64_t change)
{
    /* One writer: load and store relaxed; readers only look. */
    atomic_store_explicit(&a->used,
                          atomic_load_explicit(&a->used, memory_order_relaxed) + change,
                          memory_order_relaxed);
}

void *salvo_arena_take(salvo_arena *arena, uint64_t bytes, uint64_t *size)
{
    uint32_t want = level_of(bytes), level = want;
    while (level < arena->levels && arena->free[level] == NULL)
        level++;
    if (level == arena->levels && want < level && arena->fresh < arena->bytes) {
        put_free(arena, arena->base + arena->fresh, --level); /* as if it had lain there, last */
        arena->fresh += (uint64_t)SALVO_ARENA_MIN_BLOCK << level;
    }
    if (level >= arena->levels)
        return NULL;
    salvo_arena_free *f = arena->free[level];
    cut_free(arena, f, level);
    while (level > want) {
        level--;
        put_free(arena, (unsigned char *)f + ((uint64_t)SALVO_ARENA_MIN_BLOCK << level), level);
    }
    *size = (uint64_t)SALVO_ARENA_MIN_BLOCK << want;
    arena->state[index_of(arena, f)] = (uint8_t)(want << 1);
    count_used(arena, *size);
    return f;
}

void salvo_arena_give(salvo_arena *arena, void *block)
{
    size_t at = index_of(arena, block);
    uint32_t level = arena->state[at] >> 1;
    count_used(arena, -((uint64_t)SALVO_ARENA_MIN_BLOCK << level));
    while (level + 1 < arena->levels) {
        size_t buddy = at ^ ((size_t)1 << level);
        if (arena->state[buddy] != (level << 1 | 1u))
            break;
        cut_free(arena, (void *)(arena->base + buddy * SALVO_ARENA_MIN_BLOCK), level);
        arena->state[at > buddy ? at : buddy] = 0; /* begins no block any more */
        at &= ~((size_t)1 << level);
        level++;
    }
    put_free(arena, arena->base + at * SALVO_ARENA_MIN_BLOCK, level);
}
