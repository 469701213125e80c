/* SPDX-License-Identifier: Apache-2.0
 *
 * A flusher's bounded memory for batches: a buddy allocator over one mapping.
 * Guarantees: blocks are powers of two from 4 KiB to `top` bytes, aligned to their size;
 * allocation and free are O(levels); nothing is taken from the system after open. One thread, but
 * `used` may be read by any. A failed allocation means: settle something first.
 */
#ifndef SALVO_ARENA_H
#define SALVO_ARENA_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define SALVO_ARENA_MIN_BLOCK 4096u
#define SALVO_ARENA_LEVELS 20u
#define SALVO_ARENA_RESERVE (2u << 20) /* kept for moving held records, and one large one */

typedef struct salvo_arena_free salvo_arena_free;
typedef struct salvo_arena {
    unsigned char *base;
    uint64_t bytes;       /* a multiple of top */
    uint64_t fresh;       /* bytes from here on were never taken */
    uint32_t levels;      /* level 0: min blocks; levels - 1: top blocks */
    uint8_t *state;       /* per min block that begins a block: level << 1 | free */
    salvo_arena_free *free[SALVO_ARENA_LEVELS];
    _Atomic uint64_t used;
} salvo_arena;

/* bytes is rounded down to a multiple of top (itself rounded up to a power of two). */
int salvo_arena_open(salvo_arena *arena, uint64_t bytes, uint64_t top);
/* The same, but memory comes with its first use: for a plan, which touches little of it. */
int salvo_arena_open_sparse(salvo_arena *arena, uint64_t bytes, uint64_t top);
void salvo_arena_close(salvo_arena *arena);

/* A block of at least `bytes`; *size gets its real size. NULL: none now. */
void *salvo_arena_take(salvo_arena *arena, uint64_t bytes, uint64_t *size);
void salvo_arena_give(salvo_arena *arena, void *block);

#endif
