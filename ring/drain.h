/* SPDX-License-Identifier: Apache-2.0
 *
 * The time-ordered drain: the one consumer of several rings, which takes their records so that
 * order across threads costs the senders nothing but a stamp.
 *
 * Guarantee: if a send A (stamp, claim, commit) returned before a send B began, in whatever
 * threads and rings, A is taken before B. It holds as long as the clock is monotonic across
 * threads and ticks between two stamps that have a claim between them, T0 is read before the
 * tails, and no claim is held open for longer than stall_ticks. The proof is in drain.c.
 * Every committed record is taken exactly once; aborted ones are stepped over.
 * Not guaranteed: any particular order between sends that overlap in time.
 *
 * Use, always on the same thread unless a function says otherwise:
 *     t0 = read the clock, fenced;  begin(d, t0);
 *     while (peek(d, &r)) { use r; advance(d); }
 *     release(d);
 * A pass may end early; what was not advanced over comes again. begin, advance, release and
 * peek are wait-free; begin looks at each commit word once per pass and spins a bounded time.
 */
#ifndef SALVO_DRAIN_H
#define SALVO_DRAIN_H

#include "ring.h"

typedef struct salvo_drain_record {
    const void *payload; /* valid until release */
    uint32_t length, tag, flags, claimant;
    uint32_t ring;       /* index into the rings of the drain */
    uint64_t stamp;
} salvo_drain_record;

typedef struct salvo_drain_stall {
    uint64_t count;    /* claims so far that stalled: held open for longer than stall_ticks */
    uint32_t ring;     /* of the oldest stall now, else of the last one */
    uint32_t claimant; /* SALVO_RING_NOBODY: a claim names its thread only when it commits */
    uint64_t since;    /* T0 of the pass that first met it; 0: none is stuck now */
} salvo_drain_stall;

/* The drain's books on one ring. Equations (modulo 2^32):
 *     head <= taken <= ready <= tail's sequence   [taken, ready): committed, or the hole
 *     clear_t0 == T0 of the last pass in which ready reached the tail */
typedef struct salvo_drain_lane {
    salvo_ring *ring;
    uint64_t head_stamp; /* of record `taken`; UINT64_MAX: taken == ready */
    uint64_t tail;       /* as read in this pass, packed */
    uint64_t clear_t0;
    uint64_t short_since; /* T0 of the first pass that ended at claim `short_at` */
    uint64_t released;    /* the last head stored */
    uint64_t frozen_head; /* where release ends for good, if frozen */
    uint32_t taken, ready;
    uint32_t position; /* end of the last record taken, units */
    uint32_t short_at;
    uint32_t hole; /* the sequence to step over, if has_hole */
    bool is_short, stalled, has_hole, frozen;
} salvo_drain_lane;

typedef struct salvo_drain {
    salvo_drain_lane *lanes;
    salvo_drain_lane *current; /* the lane of the last peek, or NULL */
    uint64_t limit;            /* current may go on up to this stamp without a new comparison */
    uint64_t bound;            /* no larger stamp is taken in this pass */
    uint64_t stall_ticks;
    uint32_t count;
    _Atomic uint32_t stall_ring;
    _Atomic uint64_t stall_count, stall_since;
} salvo_drain;

/* The rings stay the caller's and must outlive the drain. stall_ticks in the stamps' unit.
 * 0, -EINVAL (no rings) or -ENOMEM. */
int salvo_drain_open(salvo_drain *drain, salvo_ring *const *rings, uint32_t count,
                     uint64_t stall_ticks);
void salvo_drain_close(salvo_drain *drain);

/* Begin a pass. t0 must have been read right before, ordered before any later load, on the clock
 * of the stamps (which are below UINT64_MAX). */
void salvo_drain_begin(salvo_drain *drain, uint64_t t0);

/* The next record of this pass in the order of stamps; false: none (left) in this pass. Calls
 * without an advance between them give the same record. */
bool salvo_drain_peek(salvo_drain *drain, salvo_drain_record *out);

/* Take the record that the last peek gave. */
void salvo_drain_advance(salvo_drain *drain);

/* Give the space of all records taken back to the producers. */
void salvo_drain_release(salvo_drain *drain);

/* Records (padding and aborted ones included) that are claimed now and not yet taken. */
uint64_t salvo_drain_backlog(const salvo_drain *drain);

/* For flush: marks[i] = how far ring i is claimed now; passed: is all that was claimed then
 * taken? A mark is good for the next 2^32 - D claims of its ring, and true stays true so long. */
void salvo_drain_mark(const salvo_drain *drain, uint32_t *marks);
bool salvo_drain_passed(const salvo_drain *drain, const uint32_t *marks);

/* When the rings are being closed: decide to step over the claim at which the last begin ended
 * in each ring. Returns how many. They are lost; what follows comes with the next begin. Space
 * from such a claim on is never given back, because its thread may still write there. A ring
 * that has one to step over that was not reached yet gets no second one. */
uint32_t salvo_drain_skip_stuck(salvo_drain *drain);

/* Any thread; each field is some recent value of its own. */
void salvo_drain_stalls(const salvo_drain *drain, salvo_drain_stall *out);

#endif
