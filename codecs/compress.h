/* SPDX-License-Identifier: Apache-2.0
 *
 * Compression of single payloads, for brokers that compress nothing themselves.
 *
 * Guarantees: what compress() wrote, decompress() of the same codec gives back byte for byte, and
 * so does every other implementation of the format named at the codec; decompress() never gives
 * more than `limit` bytes, whatever the input claims; both take no lock and keep no state but the
 * context. Depends on nothing of the engine.
 */
#ifndef SALVO_COMPRESS_H
#define SALVO_COMPRESS_H

#include <stddef.h>

typedef struct salvo_codec { /* one of the table below */
    const char *name;             /* as in the configuration */
    const char *content_encoding; /* as in the header or property of a message */
    int (*open)(void **context);  /* one thread's at a time; 0 or SALVO_ERR_NOMEM */
    void (*close)(void *context);
    size_t (*bound)(size_t bytes); /* room that compress() needs for so many bytes at most */
    /* The compressed length, or 0 when it failed or does not fit. */
    size_t (*compress)(void *context, const void *in, size_t in_bytes, void *out,
                       size_t out_bytes);
    /* 0 and *out (malloc'ed, the caller's) of *out_bytes; SALVO_ERR_INVALID: not of this format
     * or damaged; SALVO_ERR_TOO_LARGE: beyond limit; SALVO_ERR_NOMEM. */
    int (*decompress)(void *context, const void *in, size_t in_bytes, size_t limit, void **out,
                      size_t *out_bytes);
} salvo_codec;

/* gzip (RFC 1952), lz4 (frame format), zstd (RFC 8878), snappy (raw format). NULL: no such codec;
 * also for "none". The length-bounded form is for what came from a broker. */
const salvo_codec *salvo_codec_find(const char *name);
const salvo_codec *salvo_codec_for_encoding(const char *encoding, size_t length);

#endif
