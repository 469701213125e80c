/* SPDX-License-Identifier: Apache-2.0
 *
 * How a message lies in a ring and in the arena.
 *
 *   ring:   head (16) [extra (32)] key headers value          length = all of it
 *   arena:  stored (16) then the same, padded to 8
 *
 * The ring's descriptor carries stamp, topic (tag) and flags; `stored` keeps them in the arena.
 * Headers are packed {u32 name_len, u32 value_len, name, value}; a null value has UINT32_MAX.
 */
#ifndef SALVO_RECORD_H
#define SALVO_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define SALVO_NULL_LEN UINT32_MAX

/* Flags: the upper half of a descriptor's flags belong to the engine. */
#define SALVO_RECORD_EXTRA (1u << 16)   /* `extra` follows the head */
#define SALVO_RECORD_REPORT (1u << 17)  /* a report slot is reserved */
#define SALVO_RECORD_WAITER (1u << 18)  /* somebody waits: the batch is closed at once */
#define SALVO_RECORD_SETTLED (1u << 19) /* arena only: its outcome is counted */
#define SALVO_RECORD_HELD (1u << 20)    /* arena only: waits for its topic's partitions */

typedef struct salvo_record_head {
    uint32_t value_len, key_len, headers_len;
    int32_t partition; /* SALVO_PARTITION_ANY: by key, or sticky */
} salvo_record_head;

typedef struct salvo_record_extra {
    int64_t timestamp_ms;
    uint64_t opaque;
    uint32_t ttl_ms;
    uint32_t waiter;      /* thread slot that waits */
    uint32_t waiter_turn; /* and its turn, so that a late outcome finds nobody */
    uint32_t reserved;
} salvo_record_extra;

typedef struct salvo_record_stored {
    uint64_t stamp;
    uint32_t bytes; /* of this record in the arena: stored + payload, padded */
    uint32_t flags;
} salvo_record_stored;

static inline uint32_t salvo_record_span(uint32_t len)
{
    return len == SALVO_NULL_LEN ? 0 : len;
}

static inline size_t salvo_record_prefix(uint32_t flags)
{
    return sizeof(salvo_record_head) +
           ((flags & SALVO_RECORD_EXTRA) != 0 ? sizeof(salvo_record_extra) : 0);
}

/* True when the packed headers in `bytes` end exactly there. */
static inline bool salvo_record_headers_sound(const unsigned char *headers, uint32_t bytes)
{
    uint32_t lengths[2]; /* of the name and of the value */
    while (bytes >= sizeof lengths) {
        memcpy(lengths, headers, sizeof lengths);
        uint64_t one = (uint64_t)sizeof lengths + lengths[0] + salvo_record_span(lengths[1]);
        if (one > bytes)
            return false;
        headers += one;
        bytes -= (uint32_t)one;
    }
    return bytes == 0;
}

/* True when the lengths inside a record of `length` bytes add up: ring memory is checked before
 * it is believed. */
static inline bool salvo_record_sound(const void *payload, uint32_t length, uint32_t flags,
                                      salvo_record_head *head)
{
    size_t prefix = salvo_record_prefix(flags);
    if (length < prefix)
        return false;
    memcpy(head, payload, sizeof *head);
    uint64_t sum = (uint64_t)prefix + salvo_record_span(head->value_len) +
                   salvo_record_span(head->key_len) + head->headers_len;
    return sum == length && (head->headers_len == 0 ||
                             salvo_record_headers_sound((const unsigned char *)payload + prefix +
                                                            salvo_record_span(head->key_len),
                                                        head->headers_len));
}

#endif
