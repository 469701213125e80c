/* SPDX-License-Identifier: Apache-2.0
 *
 * Snappy's raw format by libsnappy. It carries no checksum: damage is found only where it breaks
 * the format. Its library keeps no context.
 */
#include "codecs.h"
#include "unpacked.h"

#include <snappy-c.h>

/* No element of the format gives more than 64 bytes for 3. */
#define SNAPPY_RATIO_MAX 22u

static int snappy_open(void **context)
{
    *context = NULL;
    return 0;
}

static void snappy_close(void *context)
{
    (void)context;
}

static size_t snappy_bound(size_t bytes)
{
    return snappy_max_compressed_length(bytes);
}

static size_t snappy_pack(void *context, const void *in, size_t in_bytes, void *out,
                          size_t out_bytes)
{
    (void)context;
    if (in_bytes > UINT32_MAX) /* more than the format can say */
        return 0;
    size_t n = out_bytes; /* the library asks for the whole bound, also where less would do */
    return snappy_compress(in, in_bytes, out, &n) == SNAPPY_OK ? n : 0;
}

static int snappy_unpack(void *context, const void *in, size_t in_bytes, size_t limit, void **out,
                         size_t *out_bytes)
{
    (void)context;
    size_t told;
    if (snappy_uncompressed_length(in, in_bytes, &told) != SNAPPY_OK)
        return SALVO_ERR_INVALID;
    if (told > limit)
        return SALVO_ERR_TOO_LARGE;
    if (told / SNAPPY_RATIO_MAX > in_bytes)
        return SALVO_ERR_INVALID;
    char *data = malloc(told + 1);
    if (data == NULL)
        return SALVO_ERR_NOMEM;
    size_t n = told;
    if (snappy_uncompress(in, in_bytes, data, &n) != SNAPPY_OK) {
        free(data);
        return SALVO_ERR_INVALID;
    }
    *out = data;
    *out_bytes = n;
    return 0;
}

const salvo_codec salvo_codec_snappy = {
    .name = "snappy",
    .content_encoding = "snappy",
    .open = snappy_open,
    .close = snappy_close,
    .bound = snappy_bound,
    .compress = snappy_pack,
    .decompress = snappy_unpack,
};
