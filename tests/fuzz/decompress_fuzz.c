/* SPDX-License-Identifier: Apache-2.0
 *
 * Payloads that claim to be compressed: arbitrary bytes, for each codec. Whatever they are: no
 * more than the limit comes out, and what is compressed here comes back byte for byte. The first
 * byte of the input selects codec and limit.
 */
#include "compress.h"
#include "fuzz.h"

#include <salvo/err.h>

static const char *const names[] = {"gzip", "lz4", "zstd", "snappy"};
enum { CODECS = 4 };

static void unpack(const salvo_codec *codec, void *context, const uint8_t *data, size_t size,
                   size_t limit)
{
    void *out = NULL;
    size_t n = 0;
    int err = codec->decompress(context, data, size, limit, &out, &n);
    if (err == 0) {
        fuzz_check(n <= limit, "no more than the limit");
        fuzz_touch(out, n);
        free(out);
        return;
    }
    fuzz_check(err == SALVO_ERR_INVALID || err == SALVO_ERR_TOO_LARGE || err == SALVO_ERR_NOMEM,
               "an error is one of those promised");
}

static void there_and_back(const salvo_codec *codec, void *context, const uint8_t *data,
                           size_t size)
{
    size_t bound = codec->bound(size), n = 0;
    void *packed = malloc(bound), *out = NULL;
    fuzz_check(packed != NULL, "memory for a small payload");
    size_t m = codec->compress(context, data, size, packed, bound);
    fuzz_check(m > 0 && m <= bound, "a payload fits into its bound");
    fuzz_check(codec->decompress(context, packed, m, size, &out, &n) == 0, "it comes back");
    fuzz_check(n == size && (size == 0 || memcmp(out, data, size) == 0), "as it was");
    free(out);
    if (size > 0) /* too little room: 0, nothing written beyond it */
        fuzz_check(codec->compress(context, data, size, packed, m / 2) <= m / 2, "room is kept");
    free(packed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const size_t limits[] = {0, 1, 100, 1 << 20};
    static void *contexts[CODECS]; /* kept, as by a producer: one input must not spoil the next */
    if (size == 0)
        return 0;
    unsigned which = data[0] % CODECS;
    const salvo_codec *codec = salvo_codec_find(names[which]);
    fuzz_check(codec != NULL, "the codec exists");
    if (!contexts[which])
        fuzz_check(codec->open(&contexts[which]) == 0, "the codec opens");
    unpack(codec, contexts[which], data + 1, size - 1, limits[data[0] / CODECS % 4]);
    there_and_back(codec, contexts[which], data + 1, size - 1);
    (void)salvo_codec_for_encoding((const char *)data, size < 8 ? size : 8);
    return 0;
}
