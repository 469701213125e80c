/* SPDX-License-Identifier: Apache-2.0
 *
 * gzip (RFC 1952) by zlib. Reads several members in a row as one content, as the format says;
 * anything else behind the last one is damage. Memory: a context keeps 310 KB.
 */
#include "codecs.h"
#include "unpacked.h"

#include <limits.h>
#include <stdbool.h>
#include <zlib.h>

#define GZIP_WINDOW (MAX_WBITS + 16) /* zlib's way to ask for gzip instead of its own wrapping */
#define GZIP_WRAPPING 18u
#define GZIP_MEMORY_LEVEL 8 /* zlib's default */

typedef struct gzip_context {
    z_stream packer, unpacker;
} gzip_context;

static int gzip_open(void **context)
{
    gzip_context *c = calloc(1, sizeof *c);
    if (c == NULL)
        return SALVO_ERR_NOMEM;
    if (deflateInit2(&c->packer, Z_DEFAULT_COMPRESSION, Z_DEFLATED, GZIP_WINDOW,
                     GZIP_MEMORY_LEVEL, Z_DEFAULT_STRATEGY) != Z_OK) {
        free(c);
        return SALVO_ERR_NOMEM;
    }
    if (inflateInit2(&c->unpacker, GZIP_WINDOW) != Z_OK) {
        (void)deflateEnd(&c->packer);
        free(c);
        return SALVO_ERR_NOMEM;
    }
    *context = c;
    return 0;
}

static void gzip_close(void *context)
{
    gzip_context *c = context;
    if (c == NULL)
        return;
    (void)deflateEnd(&c->packer);
    (void)inflateEnd(&c->unpacker);
    free(c);
}

static size_t gzip_bound(size_t bytes)
{
    return deflateBound(NULL, bytes) + GZIP_WRAPPING; /* NULL: for any setting */
}

static uInt at_most(size_t bytes)
{
    return bytes < UINT_MAX ? (uInt)bytes : UINT_MAX;
}

static size_t gzip_compress(void *context, const void *in, size_t in_bytes, void *out,
                            size_t out_bytes)
{
    z_stream *z = &((gzip_context *)context)->packer;
    if (in_bytes > UINT_MAX || deflateReset(z) != Z_OK)
        return 0;
    z->next_in = (Bytef *)(uintptr_t)in; /* zlib only reads it */
    z->avail_in = (uInt)in_bytes;
    z->next_out = out;
    z->avail_out = at_most(out_bytes);
    return deflate(z, Z_FINISH) == Z_STREAM_END ? z->total_out : 0;
}

/* Until the end of a member: 0, or what hinders. */
static int unpack_member(z_stream *z, const uint8_t *end, salvo_unpacked *u)
{
    for (;;) {
        if (u->used == u->room) {
            int err = salvo_unpacked_grow(u);
            if (err != 0)
                return err;
        }
        z->avail_in = at_most((size_t)(end - z->next_in));
        z->avail_out = at_most(u->room - u->used);
        z->next_out = u->data + u->used;
        int result = inflate(z, Z_NO_FLUSH);
        u->used = (size_t)(z->next_out - u->data);
        if (result == Z_STREAM_END)
            return 0;
        if (result == Z_MEM_ERROR)
            return SALVO_ERR_NOMEM;
        bool full = u->used == u->room, starved = z->next_in == end;
        if ((result != Z_OK && result != Z_BUF_ERROR) || (starved && !full))
            return SALVO_ERR_INVALID;
    }
}

static int gzip_decompress(void *context, const void *in, size_t in_bytes, size_t limit,
                           void **out, size_t *out_bytes)
{
    z_stream *z = &((gzip_context *)context)->unpacker;
    const uint8_t *end = (const uint8_t *)in + in_bytes;
    if (in_bytes == 0)
        return SALVO_ERR_INVALID;
    salvo_unpacked u;
    int err = salvo_unpacked_open(&u, salvo_unpacked_guess(in_bytes), limit);
    if (err != 0)
        return err;
    z->next_in = (Bytef *)(uintptr_t)in;
    do
        err = inflateReset(z) == Z_OK ? unpack_member(z, end, &u) : SALVO_ERR_INVALID;
    while (err == 0 && z->next_in != end);
    return salvo_unpacked_close(&u, err, out, out_bytes);
}

const salvo_codec salvo_codec_gzip = {
    .name = "gzip",
    .content_encoding = "gzip",
    .open = gzip_open,
    .close = gzip_close,
    .bound = gzip_bound,
    .compress = gzip_compress,
    .decompress = gzip_decompress,
};
