/* SPDX-License-Identifier: Apache-2.0
 *
 * The time-ordered drain: see drain.h for what it guarantees. This is why it does.
 *
 * Words. A send reads its stamp s, then claims (the CAS on its ring's tail), then commits, then
 * returns. A -> B: send A returned before send B began, that is, A's commit happens before the
 * reading of s(B). A pass reads T0, then each ring's tail, then commit words below that tail. The
 * known prefix of a ring is [taken, ready): all committed.
 *
 * Assumptions.
 *   (1) Clock. If reading x of the clock happens before reading y, x <= y; and if a claim lies
 *       between them (x, then a claim, then y), x < y. An invariant TSC read with rdtscp, or
 *       CLOCK_MONOTONIC at a resolution of ns, does this: a locked instruction takes longer
 *       than a tick. A clock with coarse ticks keeps order only between sends in different ticks.
 *   (2) Visibility. If a claim is done before its thread, or one that it synchronized with, reads
 *       the clock as y, then a load that comes after a reading T0 >= y sees that claim. This is
 *       the step that C11 cannot express: a CAS that is done is visible to all cores (coherent
 *       caches), the stamp is not read before earlier loads are done (rdtscp), and no load
 *       passes the reading of T0 (lfence).
 *
 * Theorem. A -> B implies that A is taken before B.
 *   In one ring: A's claim precedes B's, and a ring is taken in the order of claims.
 *   A in ring X, B in ring Y. Look at the moment when B is taken, in a pass with reading T0, and
 *   suppose that A was not taken yet. s(B) <= bound <= T0.
 *   (a) A is in X's known prefix. Let h be X's next record (maybe A itself). h was claimed before
 *       A or is A, so s(h) was read before h's claim, not after A's claim, before the reading of
 *       s(B): s(h) < s(B) by (1). Both are heads of their lanes, and the smaller stamp is taken
 *       first: B is not taken now. Contradiction.
 *       (Several producers may share X: then X is not sorted by stamp, for a claimant may sleep
 *       between stamp and claim. It need not be sorted: what counts is that everything ahead of A
 *       in X was claimed before A and hence stamped before s(B). Such a late small stamp only
 *       makes X's turn come sooner.)
 *   (b) A is not in X's known prefix. A's claim was done before s(B) was read and s(B) <= T0, so
 *       by (2) X's tail as read in this pass is past A, yet `ready` is not: X was short in this
 *       pass. Then bound <= clear_t0 = T0' of the last pass in which X was not short (or 0, if
 *       there was none: nothing is taken). s(B) <= T0', so by (2) X's tail as read in that pass
 *       was past A, and `ready` reached that tail. `ready` never goes back: A is in the known
 *       prefix or taken. Contradiction.                                                   QED
 *   Ties. Equal stamps imply by (1) that neither A -> B nor B -> A: any order will do.
 *   Waiting a little for a short ring and looking at its commit words again is sound: (b) uses
 *   only that its tail was read after T0, and commit words may be read at any time later.
 *   Stepping over aborted records and padding whatever their stamps is sound: (a) speaks of
 *   whichever record is next. Continuing with one lane up to the second smallest head (`limit`)
 *   compares the same heads, since other lanes' heads do not change meanwhile.
 *   A stalled ring (short at one claim for longer than stall_ticks) no longer lowers the bound;
 *   then (b) does not hold for the records behind the stuck claim, and for those only. Counted.
 *
 * What it does not need: sorted rings, a common tail, or any store by a sender but its own.
 */
#include "drain.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* How often a pass looks again at rings that are short. A claim lasts about 100 ns, a pause 20
 * to 60 ns; a claimant that was preempted is not worth more. */
#define SPIN_LIMIT 64

static inline void pause_cpu(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

int salvo_drain_open(salvo_drain *drain, salvo_ring *const *rings, uint32_t count,
                     uint64_t stall_ticks)
{
    memset(drain, 0, sizeof *drain);
    if (count == 0)
        return -EINVAL;
    drain->lanes = calloc(count, sizeof *drain->lanes);
    if (!drain->lanes)
        return -ENOMEM;
    drain->count = count;
    drain->stall_ticks = stall_ticks;
    for (uint32_t i = 0; i < count; i++) {
        salvo_drain_lane *lane = &drain->lanes[i];
        lane->ring = rings[i];
        lane->released = lane->tail = salvo_ring_head(rings[i]);
        lane->taken = lane->ready = salvo_ring_sequence(lane->tail);
        lane->position = salvo_ring_position(lane->tail);
        lane->head_stamp = UINT64_MAX;
    }
    return 0;
}

void salvo_drain_close(salvo_drain *drain)
{
    free(drain->lanes);
    drain->lanes = NULL;
    drain->current = NULL;
    drain->count = 0;
}

static inline const salvo_ring_desc *lane_desc(const salvo_drain_lane *lane)
{
    return &lane->ring->desc[lane->taken & lane->ring->desc_mask];
}

/* Extend the known prefix towards the tail of this pass; true: it reaches the tail. */
static bool lane_scan(salvo_drain_lane *lane)
{
    uint32_t end = salvo_ring_sequence(lane->tail), ready = lane->ready;
    while (ready != end && salvo_ring_ready(lane->ring, ready))
        ready++;
    lane->ready = ready;
    return ready == end;
}

static inline void lane_step(salvo_drain_lane *lane, const salvo_ring_desc *desc)
{
    lane->position = desc->position + salvo_ring_units(desc->length);
    lane->taken++;
}

/* The head that gives back all that was taken. At the tail it is the tail itself: a record may
 * be shorter than its claim. */
static uint64_t lane_head(const salvo_drain_lane *lane)
{
    if (lane->frozen)
        return lane->frozen_head;
    if (lane->taken == salvo_ring_sequence(lane->tail))
        return lane->tail;
    return salvo_ring_pack(lane->taken, lane->position);
}

/* Past what is not to be taken, to the lane's next record. */
static inline void lane_settle(salvo_drain_lane *lane)
{
    while (lane->taken != lane->ready) {
        if (__builtin_expect(lane->has_hole && lane->taken == lane->hole, 0)) {
            lane->frozen_head = lane_head(lane);
            lane->frozen = true;
            lane->has_hole = false;
            lane->taken++;
            continue;
        }
        const salvo_ring_desc *desc = lane_desc(lane);
        if (__builtin_expect(!(desc->flags & SALVO_RING_ABORTED), 1)) {
            lane->head_stamp = desc->stamp;
            __builtin_prefetch(salvo_ring_payload(lane->ring, desc->position));
            return;
        }
        lane_step(lane, desc);
    }
    lane->head_stamp = UINT64_MAX;
}

/* Look again at the short rings whose claim was not seen before: most end within the spin. */
static void spin_for_short(salvo_drain *drain)
{
    for (int round = 0; round < SPIN_LIMIT; round++) {
        bool again = false;
        for (uint32_t i = 0; i < drain->count; i++) {
            salvo_drain_lane *lane = &drain->lanes[i];
            bool known = lane->is_short && lane->short_at == lane->ready;
            if (lane->ready != salvo_ring_sequence(lane->tail) && !known)
                again |= !lane_scan(lane);
        }
        if (!again)
            return;
        pause_cpu();
    }
}

/* What a lane does to the bound of this pass. */
static void lane_bound(salvo_drain *drain, salvo_drain_lane *lane, uint64_t t0)
{
    if (lane->ready == salvo_ring_sequence(lane->tail)) {
        lane->clear_t0 = t0;
        lane->is_short = lane->stalled = false;
        return;
    }
    if (!lane->is_short || lane->short_at != lane->ready) { /* short at a claim that is new */
        lane->is_short = true;
        lane->stalled = false;
        lane->short_at = lane->ready;
        lane->short_since = t0;
    }
    if (!lane->stalled && t0 - lane->short_since > drain->stall_ticks) {
        lane->stalled = true;
        /* Relaxed, here and below: numbers for people, nothing else is read through them. */
        atomic_fetch_add_explicit(&drain->stall_count, 1, memory_order_relaxed);
        atomic_store_explicit(&drain->stall_ring, (uint32_t)(lane - drain->lanes),
                              memory_order_relaxed);
    }
    if (!lane->stalled && lane->clear_t0 < drain->bound)
        drain->bound = lane->clear_t0;
}

static void report_oldest_stall(salvo_drain *drain)
{
    uint64_t since = 0;
    uint32_t ring = atomic_load_explicit(&drain->stall_ring, memory_order_relaxed);
    for (uint32_t i = 0; i < drain->count; i++) {
        const salvo_drain_lane *lane = &drain->lanes[i];
        if (lane->stalled && (since == 0 || lane->short_since < since)) {
            since = lane->short_since;
            ring = i;
        }
    }
    atomic_store_explicit(&drain->stall_ring, ring, memory_order_relaxed);
    atomic_store_explicit(&drain->stall_since, since, memory_order_relaxed);
}

void salvo_drain_begin(salvo_drain *drain, uint64_t t0)
{
    bool all_clear = true;
    for (uint32_t i = 0; i < drain->count; i++) {
        drain->lanes[i].tail = salvo_ring_tail(drain->lanes[i].ring);
        all_clear &= lane_scan(&drain->lanes[i]);
    }
    if (!all_clear)
        spin_for_short(drain);
    drain->bound = t0 == UINT64_MAX ? t0 - 1 : t0; /* UINT64_MAX stands for an empty lane */
    bool any_stalled = false;
    for (uint32_t i = 0; i < drain->count; i++) {
        lane_bound(drain, &drain->lanes[i], t0);
        any_stalled |= drain->lanes[i].stalled;
        lane_settle(&drain->lanes[i]);
    }
    drain->current = NULL;
    if (any_stalled || atomic_load_explicit(&drain->stall_since, memory_order_relaxed) != 0)
        report_oldest_stall(drain);
}

/* The lane with the smallest head stamp within the bound, and how far it may go on alone. */
static salvo_drain_lane *choose_lane(salvo_drain *drain)
{
    salvo_drain_lane *best = NULL;
    uint64_t smallest = UINT64_MAX, second = UINT64_MAX;
    for (uint32_t i = 0; i < drain->count; i++) {
        uint64_t stamp = drain->lanes[i].head_stamp;
        if (stamp < smallest) {
            second = smallest;
            smallest = stamp;
            best = &drain->lanes[i];
        } else if (stamp < second) {
            second = stamp;
        }
    }
    drain->limit = second < drain->bound ? second : drain->bound;
    drain->current = smallest <= drain->bound ? best : NULL;
    return drain->current;
}

bool salvo_drain_peek(salvo_drain *drain, salvo_drain_record *out)
{
    salvo_drain_lane *lane = drain->current;
    if (!lane || lane->head_stamp > drain->limit) {
        lane = choose_lane(drain);
        if (!lane)
            return false;
    }
    const salvo_ring_desc *desc = lane_desc(lane);
    out->payload = salvo_ring_payload(lane->ring, desc->position);
    out->length = desc->length;
    out->tag = desc->tag;
    out->flags = desc->flags;
    out->claimant = desc->claimant;
    out->ring = (uint32_t)(lane - drain->lanes);
    out->stamp = desc->stamp;
    return true;
}

void salvo_drain_advance(salvo_drain *drain)
{
    salvo_drain_lane *lane = drain->current;
    lane_step(lane, lane_desc(lane));
    lane_settle(lane);
}

void salvo_drain_release(salvo_drain *drain)
{
    for (uint32_t i = 0; i < drain->count; i++) {
        salvo_drain_lane *lane = &drain->lanes[i];
        uint64_t head = lane_head(lane);
        if (head != lane->released) {
            salvo_ring_release(lane->ring, head);
            lane->released = head;
        }
    }
}

uint64_t salvo_drain_backlog(const salvo_drain *drain)
{
    uint64_t records = 0;
    for (uint32_t i = 0; i < drain->count; i++) {
        const salvo_drain_lane *lane = &drain->lanes[i];
        records += salvo_ring_sequence(salvo_ring_tail(lane->ring)) - lane->taken;
    }
    return records;
}

void salvo_drain_mark(const salvo_drain *drain, uint32_t *marks)
{
    for (uint32_t i = 0; i < drain->count; i++)
        marks[i] = salvo_ring_sequence(salvo_ring_tail(drain->lanes[i].ring));
}

bool salvo_drain_passed(const salvo_drain *drain, const uint32_t *marks)
{
    for (uint32_t i = 0; i < drain->count; i++) {
        const salvo_drain_lane *lane = &drain->lanes[i];
        uint32_t missing = marks[i] - lane->taken; /* at most D until passed, then "negative" */
        if (missing != 0 && missing <= lane->ring->desc_mask + 1)
            return false;
    }
    return true;
}

uint32_t salvo_drain_skip_stuck(salvo_drain *drain)
{
    uint32_t skipped = 0;
    for (uint32_t i = 0; i < drain->count; i++) {
        salvo_drain_lane *lane = &drain->lanes[i];
        if (lane->has_hole || lane->ready == salvo_ring_sequence(lane->tail) ||
            salvo_ring_ready(lane->ring, lane->ready))
            continue;
        lane->has_hole = true;
        lane->hole = lane->ready++;
        skipped++;
    }
    drain->current = NULL;
    return skipped;
}

void salvo_drain_stalls(const salvo_drain *drain, salvo_drain_stall *out)
{
    out->count = atomic_load_explicit(&drain->stall_count, memory_order_relaxed);
    out->ring = atomic_load_explicit(&drain->stall_ring, memory_order_relaxed);
    out->claimant = SALVO_RING_NOBODY;
    out->since = atomic_load_explicit(&drain->stall_since, memory_order_relaxed);
}
