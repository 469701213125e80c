/* SPDX-License-Identifier: Apache-2.0
 *
 * A plan's rings and drain: ledgers of sizes. What a ring would do with a record of so many
 * bytes is done to its books only: places are claimed, padded, wrapped, taken and given back by
 * the ring's own arithmetic (ring.h), but there are neither descriptors nor payload. A record is
 * a few words in a queue that grows with what lies in the ring, not with the ring.
 *
 * Guarantee: the same claims and releases give the same answers, sequences, positions and order
 * as ring/ring.h and ring/drain.h (tests/unit/plan_sizes_test.c plays both side by side). One
 * thread; every claim is committed at once.
 */
#ifndef SALVO_PLAN_SIZES_H
#define SALVO_PLAN_SIZES_H

#include "drain.h"

typedef struct salvo_sizes_record {
    uint64_t stamp;
    uint32_t length; /* of the whole record, as in a ring */
    uint32_t key;    /* which key; 0: none */
    uint16_t key_len;
    uint16_t topic;
} salvo_sizes_record;

typedef struct salvo_sizes salvo_sizes;

/* A ring with the masks and limits of these options and nothing behind them. */
salvo_ring salvo_sizes_view(const salvo_ring_options *options);

/* Ledgers for `count` such rings, whose counters become readable as a ring's. NULL: no memory. */
salvo_sizes *salvo_sizes_new(salvo_ring *rings, uint32_t count);
void salvo_sizes_free(salvo_sizes *sizes); /* NULL is allowed */

/* As salvo_ring_claim_n and a commit: 0, SALVO_RING_FULL or SALVO_RING_NEVER. */
int salvo_sizes_claim(salvo_sizes *sizes, uint32_t ring, const salvo_sizes_record *record,
                      salvo_ring_claim *out);

/* As salvo_drain_*. The payload of a record is its head and its key, and lives until the next
 * peek. */
void salvo_sizes_begin(salvo_sizes *sizes, uint64_t t0);
bool salvo_sizes_peek(salvo_sizes *sizes, salvo_drain_record *out);
void salvo_sizes_advance(salvo_sizes *sizes);
void salvo_sizes_release(salvo_sizes *sizes);
uint64_t salvo_sizes_backlog(const salvo_sizes *sizes);

/* The bytes of key number `key`: the same number gives the same bytes. */
void salvo_sizes_key(uint32_t key, uint16_t key_len, unsigned char *out);

#endif
