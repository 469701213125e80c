/* SPDX-License-Identifier: Apache-2.0
 *
 * What a decompression has given so far: a buffer that grows up to one byte above its limit, by
 * which "exactly the limit" and "beyond it" are told apart. Guarantees: never more than that.
 */
#ifndef SALVO_UNPACKED_H
#define SALVO_UNPACKED_H

#include <salvo/err.h>
#include <stdint.h>
#include <stdlib.h>

typedef struct salvo_unpacked {
    uint8_t *data;
    size_t used, room, most;
} salvo_unpacked;

/* Room for `guess` bytes, or for as many as the limit allows. */
static inline int salvo_unpacked_open(salvo_unpacked *u, size_t guess, size_t limit)
{
    u->used = 0;
    u->most = limit < SIZE_MAX ? limit + 1 : limit;
    u->room = guess < u->most ? guess + 1 : u->most;
    u->data = malloc(u->room);
    return u->data != NULL ? 0 : SALVO_ERR_NOMEM;
}

static inline int salvo_unpacked_grow(salvo_unpacked *u)
{
    if (u->room == u->most)
        return SALVO_ERR_TOO_LARGE;
    size_t room = u->room < u->most / 2 ? u->room * 2 : u->most;
    uint8_t *data = realloc(u->data, room);
    if (data == NULL)
        return SALVO_ERR_NOMEM;
    u->data = data;
    u->room = room;
    return 0;
}

/* The end: hands the buffer over, or frees it where there is an error. */
static inline int salvo_unpacked_close(salvo_unpacked *u, int err, void **out, size_t *out_bytes)
{
    if (err == 0 && u->used == u->most)
        err = SALVO_ERR_TOO_LARGE;
    if (err != 0) {
        free(u->data);
        return err;
    }
    *out = u->data;
    *out_bytes = u->used;
    return 0;
}

/* A first guess for formats that do not say how long their content is. */
static inline size_t salvo_unpacked_guess(size_t in_bytes)
{
    return in_bytes < SIZE_MAX / 8 ? in_bytes * 4 + 64 : in_bytes;
}

#endif
