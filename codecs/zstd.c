/* SPDX-License-Identifier: Apache-2.0
 *
 * Zstandard (RFC 8878) by libzstd, with a checksum of the content. Reads several frames in a row
 * as one content. Reading works in one go into the result, which is tried larger where the frames
 * do not say how large it is: so the window that a frame claims costs no memory.
 */
#include "codecs.h"
#include "unpacked.h"

#include <zstd.h>
#include <zstd_errors.h>

typedef struct zstd_context {
    ZSTD_CCtx *packer;
    ZSTD_DCtx *unpacker;
} zstd_context;

static void zstd_close(void *context)
{
    zstd_context *c = context;
    if (c == NULL)
        return;
    (void)ZSTD_freeCCtx(c->packer);
    (void)ZSTD_freeDCtx(c->unpacker);
    free(c);
}

static int zstd_open(void **context)
{
    zstd_context *c = calloc(1, sizeof *c);
    if (c == NULL)
        return SALVO_ERR_NOMEM;
    c->packer = ZSTD_createCCtx();
    c->unpacker = ZSTD_createDCtx();
    if (c->packer == NULL || c->unpacker == NULL ||
        ZSTD_isError(ZSTD_CCtx_setParameter(c->packer, ZSTD_c_checksumFlag, 1))) {
        zstd_close(c);
        return SALVO_ERR_NOMEM;
    }
    *context = c;
    return 0;
}

static size_t zstd_bound(size_t bytes)
{
    return ZSTD_compressBound(bytes) + sizeof(uint32_t); /* the checksum */
}

static size_t zstd_compress(void *context, const void *in, size_t in_bytes, void *out,
                            size_t out_bytes)
{
    size_t n = ZSTD_compress2(((zstd_context *)context)->packer, out, out_bytes, in, in_bytes);
    return ZSTD_isError(n) ? 0 : n;
}

static int error_of(size_t result)
{
    switch (ZSTD_getErrorCode(result)) {
    case ZSTD_error_dstSize_tooSmall:
        return SALVO_ERR_TOO_LARGE;
    case ZSTD_error_memory_allocation:
        return SALVO_ERR_NOMEM;
    default:
        return SALVO_ERR_INVALID;
    }
}

static int zstd_decompress(void *context, const void *in, size_t in_bytes, size_t limit,
                           void **out, size_t *out_bytes)
{
    ZSTD_DCtx *unpacker = ((zstd_context *)context)->unpacker;
    if (in_bytes == 0)
        return SALVO_ERR_INVALID;
    unsigned long long told = ZSTD_getFrameContentSize(in, in_bytes);
    if (told == ZSTD_CONTENTSIZE_ERROR)
        return SALVO_ERR_INVALID;
    if (told == ZSTD_CONTENTSIZE_UNKNOWN)
        told = salvo_unpacked_guess(in_bytes);
    else if (told > limit)
        return SALVO_ERR_TOO_LARGE;
    salvo_unpacked u;
    int err = salvo_unpacked_open(&u, (size_t)told, limit);
    while (err == 0) {
        size_t n = ZSTD_decompressDCtx(unpacker, u.data, u.room, in, in_bytes);
        if (!ZSTD_isError(n)) {
            u.used = n;
            break;
        }
        err = error_of(n);
        if (err == SALVO_ERR_TOO_LARGE)
            err = salvo_unpacked_grow(&u);
    }
    return salvo_unpacked_close(&u, err, out, out_bytes);
}

const salvo_codec salvo_codec_zstd = {
    .name = "zstd",
    .content_encoding = "zstd",
    .open = zstd_open,
    .close = zstd_close,
    .bound = zstd_bound,
    .compress = zstd_compress,
    .decompress = zstd_decompress,
};
