/* SPDX-License-Identifier: Apache-2.0
 *
 * HdrHistogram's V2 compressed encoding of counts, in base64 as its logs carry it ("HISTF...").
 *
 * Guarantees: what decode() took, encode() writes with the same counts; decode() reads nothing
 * beyond the text and allocates at most 2 MiB, whatever it claims. The format is that of the
 * public Java and C implementations: a header of 40 bytes big-endian (cookie, payload length,
 * index offset, digits, lowest, highest value, ratio), then counts as ZigZag LEB128, a negative
 * number for that many zeros; the whole deflated (RFC 1950) behind a cookie and a length.
 */
#ifndef SALVO_HDR_H
#define SALVO_HDR_H

#include <stdint.h>

typedef struct salvo_hdr {
    unsigned digits;  /* significant decimal digits, 1 to 5 */
    uint64_t highest; /* trackable value */
    uint64_t *counts; /* by index, from value 0 on */
    uint32_t length;  /* of counts; trailing zeros need not be there */
} salvo_hdr;

/* *text: malloc'ed, ends with a NUL. 0 or SALVO_ERR_NOMEM. */
int salvo_hdr_encode(const salvo_hdr *form, char **text);

/* form->counts: malloc'ed, the caller's. SALVO_ERR_INVALID: not of this format, damaged, or with
 * an offset, a unit or a ratio other than 0, 1 and 1. SALVO_ERR_NOMEM. */
int salvo_hdr_decode(const char *text, salvo_hdr *form);
#endif
