/* SPDX-License-Identifier: Apache-2.0
 *
 * HdrHistogram's V2 compressed encoding; see hdr.h.
 */
#include "hdr.h"

#include <salvo/err.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define COOKIE 0x1c849313u            /* V2, one byte a word */
#define COOKIE_COMPRESSED 0x1c849314u /* V2, deflated */
enum {
    HEADER = 40,
    COUNT_BYTES = 10,           /* of one count at most */
    LENGTH_MAX = 128 * 1024,    /* counts: 3 digits over all of 64 bits are 57,344 */
    PAYLOAD_MAX = LENGTH_MAX * COUNT_BYTES,
    TEXT_MAX = 4 << 20
};

static void put(uint8_t *at, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        at[i] = (uint8_t)(value >> (8 * (bytes - 1 - i)));
}

static uint64_t take(const uint8_t *at, unsigned bytes)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes; i++)
        value = value << 8 | at[i];
    return value;
}

/* LEB128 of at most 9 bytes; the ninth has 8 bits of payload. */
static size_t put_count(uint8_t *at, int64_t value)
{
    uint64_t v = (uint64_t)value << 1 ^ (uint64_t)(value >> 63);
    size_t n = 0;
    while (v >= 0x80 && n < 8) {
        at[n++] = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    at[n++] = (uint8_t)v;
    return n;
}

static bool take_count(const uint8_t **at, const uint8_t *end, int64_t *value)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < 9; i++) {
        if (*at == end)
            return false;
        uint8_t byte = *(*at)++;
        if (i == 8 || byte < 0x80) {
            v |= (uint64_t)byte << (7 * i);
            *value = (int64_t)(v >> 1 ^ (0 - (v & 1)));
            return true;
        }
        v |= (uint64_t)(byte & 0x7f) << (7 * i);
    }
    return false;
}

static size_t put_payload(uint8_t *at, const salvo_hdr *form, uint32_t length)
{
    size_t n = HEADER;
    for (uint32_t i = 0; i < length; i++) {
        uint32_t zeros = 0;
        while (i + zeros < length && form->counts[i + zeros] == 0)
            zeros++;
        if (zeros > 0) {
            n += put_count(at + n, -(int64_t)zeros);
            i += zeros - 1;
        } else {
            n += put_count(at + n, (int64_t)(form->counts[i] & INT64_MAX));
        }
    }
    put(at, COOKIE, 4);
    put(at + 4, n - HEADER, 4);
    put(at + 8, 0, 4);
    put(at + 12, form->digits, 4);
    put(at + 16, 1, 8);
    put(at + 24, form->highest, 8);
    put(at + 32, UINT64_C(0x3ff0000000000000), 8); /* 1.0 */
    return n;
}

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static char *base64(const uint8_t *in, size_t n)
{
    char *text = malloc((n + 2) / 3 * 4 + 1), *to = text;
    for (size_t i = 0; text != NULL && i < n; i += 3) {
        uint32_t v = (uint32_t)in[i] << 16 | (i + 1 < n ? (uint32_t)in[i + 1] << 8 : 0) |
                     (i + 2 < n ? in[i + 2] : 0);
        *to++ = alphabet[v >> 18];
        *to++ = alphabet[v >> 12 & 63];
        *to++ = i + 1 < n ? alphabet[v >> 6 & 63] : '=';
        *to++ = i + 2 < n ? alphabet[v & 63] : '=';
    }
    if (text != NULL)
        *to = '\0';
    return text;
}

/* Writes at most 3 bytes for 4 letters; how many, or 0 for a text that is none. */
static size_t from_base64(const char *text, size_t length, uint8_t *out)
{
    size_t n = 0;
    uint32_t bits = 0, have = 0;
    while (length > 0 && text[length - 1] == '=')
        length--;
    for (size_t i = 0; i < length; i++) {
        const char *at = text[i] != '\0' ? strchr(alphabet, text[i]) : NULL;
        if (at == NULL)
            return 0;
        bits = bits << 6 | (uint32_t)(at - alphabet);
        have += 6;
        if (have >= 8) {
            have -= 8;
            out[n++] = (uint8_t)(bits >> have);
        }
    }
    return n;
}

int salvo_hdr_encode(const salvo_hdr *form, char **text)
{
    uint32_t length = form->length;
    while (length > 0 && form->counts[length - 1] == 0)
        length--;
    uint8_t *plain = malloc(HEADER + (size_t)length * COUNT_BYTES);
    size_t bytes = plain != NULL ? put_payload(plain, form, length) : 0;
    uLongf packed_bytes = compressBound(bytes);
    uint8_t *packed = plain != NULL ? malloc(8 + packed_bytes) : NULL;
    *text = NULL;
    if (packed != NULL && compress2(packed + 8, &packed_bytes, plain, bytes, 6) == Z_OK) {
        put(packed, COOKIE_COMPRESSED, 4);
        put(packed + 4, packed_bytes, 4);
        *text = base64(packed, 8 + packed_bytes);
    }
    free(packed);
    free(plain);
    return *text != NULL ? 0 : SALVO_ERR_NOMEM;
}

static int take_payload(const uint8_t *at, size_t bytes, salvo_hdr *form)
{
    if (bytes < HEADER || take(at, 4) != COOKIE || take(at + 4, 4) != bytes - HEADER ||
        take(at + 8, 4) != 0 || take(at + 16, 8) != 1 ||
        take(at + 32, 8) != UINT64_C(0x3ff0000000000000))
        return SALVO_ERR_INVALID;
    form->digits = (unsigned)take(at + 12, 4);
    form->highest = take(at + 24, 8);
    if (form->digits < 1 || form->digits > 5)
        return SALVO_ERR_INVALID;
    form->counts = calloc(LENGTH_MAX, sizeof *form->counts);
    if (form->counts == NULL)
        return SALVO_ERR_NOMEM;
    const uint8_t *next = at + HEADER, *end = at + bytes;
    while (next < end) {
        int64_t value;
        if (!take_count(&next, end, &value) || value < -(int64_t)LENGTH_MAX)
            return SALVO_ERR_INVALID;
        uint32_t steps = value < 0 ? (uint32_t)-value : 1;
        if (steps > LENGTH_MAX - form->length)
            return SALVO_ERR_INVALID;
        if (value > 0)
            form->counts[form->length] = (uint64_t)value;
        form->length += steps;
    }
    return 0;
}

static int inflate_payload(const uint8_t *packed, size_t bytes, salvo_hdr *form)
{
    uLongf plain_bytes = PAYLOAD_MAX + HEADER;
    uint8_t *plain = malloc(plain_bytes);
    int err = plain == NULL ? SALVO_ERR_NOMEM : SALVO_ERR_INVALID;
    if (plain != NULL && bytes > 8 && take(packed, 4) == COOKIE_COMPRESSED &&
        take(packed + 4, 4) == bytes - 8 &&
        uncompress(plain, &plain_bytes, packed + 8, bytes - 8) == Z_OK)
        err = take_payload(plain, plain_bytes, form);
    free(plain);
    return err;
}

int salvo_hdr_decode(const char *text, salvo_hdr *form)
{
    *form = (salvo_hdr){0};
    size_t length = text != NULL ? strnlen(text, TEXT_MAX) : 0;
    if (length == 0 || length == TEXT_MAX)
        return SALVO_ERR_INVALID;
    uint8_t *packed = malloc(length);
    if (packed == NULL)
        return SALVO_ERR_NOMEM;
    int err = inflate_payload(packed, from_base64(text, length, packed), form);
    free(packed);
    if (err != 0) {
        free(form->counts);
        *form = (salvo_hdr){0};
    }
    return err;
}
