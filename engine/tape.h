/* SPDX-License-Identifier: Apache-2.0
 *
 * The producer's side of recording (salvo/tape.h), and the memory that both share.
 *
 *   PATH            the producer's counters (segment.h); beside it, while somebody records:
 *   PATH.request    made and locked by the recorder: it asks
 *   PATH.tape       made by the producer, all of its room reserved: a ring of slots
 *
 * Writers (flushers; senders that met a full ring) take a position by fetch_add and never wait: a
 * reader that is too slow loses what is overwritten, and can tell how many. A slot's `turn` is 0
 * while it is written and position + 1 when it is complete; `check` finds the slot that two
 * writers a whole lap apart wrote at once. The producer's tape stays mapped until it closes, so
 * that a sender that still writes when the recording ends writes into memory that is there.
 */
#ifndef SALVO_TAPE_INTERNAL_H
#define SALVO_TAPE_INTERNAL_H

#include "record.h"

#include <salvo/tape.h>
#include <stdatomic.h>

enum { SALVO_TAPE_SLOTS = 1 << 16 };
#define SALVO_TAPE_MAGIC UINT64_C(0x31455041544c4153)

typedef struct salvo_tape_slot {
    _Atomic uint64_t turn, words[3], check;
} salvo_tape_slot;

typedef struct salvo_tape_ring {
    _Atomic uint64_t magic; /* stored last, with release */
    _Alignas(64) _Atomic uint64_t next;
    _Alignas(64) salvo_tape_slot slots[SALVO_TAPE_SLOTS];
} salvo_tape_ring;

typedef struct salvo_taping { /* of a producer */
    _Atomic(salvo_tape_ring *) ring; /* NULL: nobody records */
    salvo_tape_ring *kept;           /* mapped, recording or not */
    _Atomic uint64_t salt; /* relaxed: at a change of recordings either will do */
    uint64_t next_look_ns;
} salvo_taping;

struct salvo;

/* Flusher 0, each round: whether somebody asks, some times a second. */
void salvo_taping_look(struct salvo *p, uint64_t now_ns);
void salvo_taping_close(struct salvo *p);

/* A record that was drained; ring is not NULL. */
void salvo_taping_drained(const struct salvo *p, salvo_tape_ring *ring, uint32_t topic,
                          uint64_t stamp, uint32_t flags, const void *payload, uint32_t length);

/* n messages of `length` met a full ring at begin_ns: fate REFUSED or REFUSED_LATE, or ACCEPTED
 * with the stamp that they got in the end. */
void salvo_taping_full(const struct salvo *p, uint32_t topic, uint32_t n, uint32_t bytes,
                       uint64_t begin_ns, uint64_t stamp, uint32_t fate);

#endif
