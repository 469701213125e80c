/* SPDX-License-Identifier: Apache-2.0
 *
 * Blocks of payload. `ratio:R` alternates random bytes and zeros in pieces of 256 bytes, which
 * general compressors shrink to about 1/R; `text` is words by chance, English letters, some three
 * to one for them.
 */
#include "load_payload.h"

#include "load_draw.h"

#include <errno.h>
#include <stdio.h>

enum { PIECE_BYTES = 256 };

static void fill_random(unsigned char *block, uint64_t seed)
{
    uint64_t state = seed == 0 ? 1 : seed;
    for (size_t i = 0; i < SALVO_LOAD_BLOCK_BYTES; i += 8)
        salvo_payload_stamp(block + i, salvo_load_random(&state));
}

static void fill_text(unsigned char *block, uint64_t seed)
{
    static const char *const words[] = {
        "the",    "order",  "of",      "customer", "is",     "shipped", "to",     "address",
        "with",   "status", "pending", "payment",  "from",   "account", "amount", "currency",
        "and",    "item",   "price",   "quantity", "stock",  "in",      "store",  "warehouse",
        "for",    "user",   "session", "request",  "error",  "timeout", "at",     "server",
        "click",  "page",   "view",    "search",   "query",  "result",  "not",    "found",
        "signal", "sensor", "value",   "reading",  "degree", "pressure", "level", "alarm"};
    uint64_t state = seed == 0 ? 1 : seed;
    size_t at = 0;
    while (at < SALVO_LOAD_BLOCK_BYTES) {
        char word[32];
        uint64_t draw = salvo_load_random(&state) >> 16;
        const char *next = words[draw % (sizeof words / sizeof *words)];
        bool plain = (draw >> 32 & 7) != 0; /* one in eight is a number */
        int length = plain ? snprintf(word, sizeof word, "%s ", next)
                            : snprintf(word, sizeof word, "%u ", (unsigned)(draw >> 8 & 0xfffff));
        for (int i = 0; i < length && at < SALVO_LOAD_BLOCK_BYTES; i++)
            block[at++] = (unsigned char)word[i];
    }
}

static bool fill_file(unsigned char *block, const char *path, char *error, size_t error_size)
{
    errno = 0;
    FILE *file = fopen(path, "re");
    size_t length = file ? fread(block, 1, SALVO_LOAD_BLOCK_BYTES, file) : 0;
    bool good = file && !ferror(file) && length > 0;
    if (!good)
        snprintf(error, error_size, "payload file %s: %s", path,
                 errno ? strerror(errno) : "it is empty");
    if (file)
        fclose(file);
    for (size_t i = length; good && i < SALVO_LOAD_BLOCK_BYTES; i++)
        block[i] = block[i - length];
    return good;
}

bool salvo_payload_fill(unsigned char *block, const char *text, uint64_t seed, char *error,
                        size_t error_size)
{
    const char *end = "";
    double ratio = 0;
    if (strncmp(text, "file:", 5) == 0)
        return fill_file(block, text + 5, error, error_size);
    if (strcmp(text, "text") == 0) {
        fill_text(block, seed);
        return true;
    }
    fill_random(block, seed);
    if (strcmp(text, "random") == 0)
        return true;
    if (strncmp(text, "ratio:", 6) == 0 && salvo_load_number(text + 6, &end, &ratio) &&
        *end == '\0' && ratio >= 1 && ratio <= 100) {
        size_t keep = (size_t)(PIECE_BYTES / ratio + 0.5);
        for (size_t i = 0; i < SALVO_LOAD_BLOCK_BYTES; i += PIECE_BYTES)
            memset(block + i + keep, 0, PIECE_BYTES - keep);
        return true;
    }
    snprintf(error, error_size, "`%s` is no payload: allowed are random, text, ratio:R (1 to 100) "
             "and file:PATH", text);
    return false;
}
