/* SPDX-License-Identifier: Apache-2.0
 *
 * The frame format of LZ4 by liblz4: with a checksum of the content, in independent blocks.
 * Reads several frames in a row as one content. Memory: a context keeps 16 KB, and for reading
 * two blocks of the largest size that a frame claimed, so at most 8 MB beside the limit.
 */
#include "codecs.h"
#include "unpacked.h"

#include <lz4frame.h>
#include <stdbool.h>
#include <string.h>

typedef struct lz4_context {
    LZ4F_cctx *packer;
    LZ4F_dctx *unpacker;
} lz4_context;

static void lz4_close(void *context)
{
    lz4_context *c = context;
    if (c == NULL)
        return;
    (void)LZ4F_freeCompressionContext(c->packer);
    (void)LZ4F_freeDecompressionContext(c->unpacker);
    free(c);
}

static int lz4_open(void **context)
{
    lz4_context *c = calloc(1, sizeof *c);
    if (c == NULL)
        return SALVO_ERR_NOMEM;
    if (LZ4F_isError(LZ4F_createCompressionContext(&c->packer, LZ4F_VERSION)) ||
        LZ4F_isError(LZ4F_createDecompressionContext(&c->unpacker, LZ4F_VERSION))) {
        lz4_close(c);
        return SALVO_ERR_NOMEM;
    }
    *context = c;
    return 0;
}

/* The smallest blocks that take the content in one, so that its readers need no more memory. */
static LZ4F_preferences_t preferences(size_t bytes)
{
    LZ4F_preferences_t p;
    memset(&p, 0, sizeof p);
    p.frameInfo.blockSizeID = bytes <= (64u << 10)    ? LZ4F_max64KB
                              : bytes <= (256u << 10) ? LZ4F_max256KB
                              : bytes <= (1u << 20)   ? LZ4F_max1MB
                                                      : LZ4F_max4MB;
    p.frameInfo.blockMode = LZ4F_blockIndependent;
    p.frameInfo.contentChecksumFlag = LZ4F_contentChecksumEnabled;
    p.frameInfo.contentSize = bytes;
    p.autoFlush = 1;
    return p;
}

static size_t lz4_bound(size_t bytes)
{
    LZ4F_preferences_t p = preferences(bytes);
    return LZ4F_compressBound(bytes, &p) + LZ4F_HEADER_SIZE_MAX;
}

static size_t lz4_compress(void *context, const void *in, size_t in_bytes, void *out,
                           size_t out_bytes)
{
    LZ4F_cctx *packer = ((lz4_context *)context)->packer;
    LZ4F_preferences_t p = preferences(in_bytes);
    uint8_t *to = out;
    size_t used = LZ4F_compressBegin(packer, to, out_bytes, &p);
    if (LZ4F_isError(used))
        return 0;
    size_t n = LZ4F_compressUpdate(packer, to + used, out_bytes - used, in, in_bytes, NULL);
    if (LZ4F_isError(n))
        return 0;
    used += n;
    n = LZ4F_compressEnd(packer, to + used, out_bytes - used, NULL);
    return LZ4F_isError(n) ? 0 : used + n;
}

static int error_of(size_t result)
{
    bool memory = strcmp(LZ4F_getErrorName(result), "ERROR_allocation_failed") == 0;
    return memory ? SALVO_ERR_NOMEM : SALVO_ERR_INVALID;
}

/* All frames of `in`: 0, or what hinders. */
static int unpack(LZ4F_dctx *unpacker, const uint8_t *in, size_t in_bytes, salvo_unpacked *u)
{
    size_t hint = 1; /* 0: at the end of a frame */
    while (in_bytes > 0 || hint != 0) {
        if (u->used == u->room) {
            int err = salvo_unpacked_grow(u);
            if (err != 0)
                return err;
        }
        size_t read = in_bytes, written = u->room - u->used;
        hint = LZ4F_decompress(unpacker, u->data + u->used, &written, in, &read, NULL);
        if (LZ4F_isError(hint))
            return error_of(hint);
        in += read;
        in_bytes -= read;
        u->used += written;
        if (hint != 0 && in_bytes == 0 && u->used < u->room)
            return SALVO_ERR_INVALID; /* it wants more than there is */
    }
    return 0;
}

static int lz4_decompress(void *context, const void *in, size_t in_bytes, size_t limit, void **out,
                          size_t *out_bytes)
{
    LZ4F_dctx *unpacker = ((lz4_context *)context)->unpacker;
    salvo_unpacked u;
    int err = salvo_unpacked_open(&u, salvo_unpacked_guess(in_bytes), limit);
    if (err != 0)
        return err;
    LZ4F_resetDecompressionContext(unpacker);
    err = unpack(unpacker, in, in_bytes, &u);
    return salvo_unpacked_close(&u, err, out, out_bytes);
}

const salvo_codec salvo_codec_lz4 = {
    .name = "lz4",
    .content_encoding = "lz4",
    .open = lz4_open,
    .close = lz4_close,
    .bound = lz4_bound,
    .compress = lz4_compress,
    .decompress = lz4_decompress,
};
