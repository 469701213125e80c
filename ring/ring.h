/* SPDX-License-Identifier: Apache-2.0
 *
 * The ring: many producers put records into one bounded piece of memory, one consumer takes them.
 *
 * Guarantees. A claim never waits: it gets its place, or is told that the ring is full (true at
 * some instant within the call), after a number of steps that only grows when somebody else
 * made progress. Records leave in the order of their claims. A record is contiguous in memory.
 * Nothing is ever zeroed. Not guaranteed: order between rings (that is drain.h), fairness
 * between producers, or progress past a claim that its thread never commits.
 *
 * Two arrays, one word. A record is a descriptor (32 bytes) in `desc` and payload in `bytes`.
 * Both indices run freely modulo 2^32 and are packed into one 64-bit word, (sequence << 32 |
 * position), so that one compare-and-swap claims a place in both. The payload is mapped twice in
 * a row, so a record that crosses the end is contiguous; SALVO_RING_UNMIRRORED maps it once, and
 * a claim that would cross the end also claims a descriptor that pads to the end, born aborted.
 *
 * The life of the slot desc[i & mask] in the lap of index i:
 *
 *     FREE  word == i + 1 - D     claimed once the tail's sequence passes i (the word tells
 *       |                         nothing yet; reading only words below the tail does)
 *       | claim: tail CAS (i -> i + n)                                          edge C
 *       v
 *     CLAIMED  tail > i, word == i + 1 - D     the claimant alone writes slot and payload
 *       |
 *       | commit: word = i + 1                                                  edge R
 *       v
 *     READY (committed, or aborted by its flag)     the consumer alone reads both
 *       |
 *       | release: head passes i                                                edge F
 *       v
 *     FREE for index i + D: word == (i + D) + 1 - D, as above
 *
 * The word carries the lap, therefore no slot is reset and no payload byte can look like a
 * header. open() writes i + 1 - D for the D indices from start_sequence on, so that the first lap
 * is like all others, wherever the counters start.
 *
 * Invariants (D descriptors, U units of payload; all differences modulo 2^32):
 *     I1  tail.sequence - head.sequence <= D     tail.position - head.position <= U
 *     I2  tail.sequence - cached.sequence <= D   tail.position - cached.position <= U
 *     I3  cached <= head <= tail, each of them only grows
 *     I4  desc[i & mask].sequence == i + 1  <=>  index i is READY, for i in [head, tail)
 * D <= 2^30 and U <= 2^28, so a difference is never ambiguous between words of one moment.
 *
 * Edges (release at the left, acquire at the right):
 *     R   commit's store of desc.sequence    -> the consumer's load in salvo_ring_ready:
 *         slot and payload are complete before the consumer reads them.
 *     F1  release's store of head            -> a producer's load of head in refresh, and
 *     F2  refresh's CAS of cached_head       -> every claim's load of cached_head:
 *         the consumer has read the old record before a claimant overwrites it. cached_head is
 *         what most claims look at, so it must carry the edge on: relaxed would not do.
 *     C   the claim's CAS of tail            -> the consumer's load of tail:
 *         the drain's proof needs only that the tail does not run ahead of T0 (drain.c); the
 *         edge makes what a claimant saw visible to a consumer that sees the claim.
 *
 * Why a stale view is harmless. A claim reads tail (T), then cached_head (c), then swaps T. The
 * loads stay in that order because the first is an acquire, too. If the swap succeeds, tail was T
 * all along, so c belongs to the moment of T and I2 holds for the pair: the free space computed
 * is never too much. If T was stale, `used` may come out as anything: larger than the capacity
 * (c is ahead of T) means that T is stale, and leads to the slow path, which reads tail again;
 * anything else fails at the swap. "Full" is said only when head was read between two equal
 * reads of tail. refresh() moves cached_head from the value it began with by a CAS, not by a
 * store: a producer that sleeps between reading head and storing it would otherwise put back a
 * value 2^32 units old, which looks young again. While cached_head keeps the value c, claims are
 * granted against c only, so tail <= c + capacity, so the head stored is at most one lap ahead.
 *
 * ABA. The swap could succeed on a tail that has come round: exactly k * 2^32 claims by others
 * between one claim's loads and its swap, with a position that is back as well (it is, if all
 * records have one size). It does harm only if the ring is then fuller than when c was read, by
 * more than was free. A thread must sleep there for 2^32 claims (over 200 s at 20 million/s on
 * one ring) and then wake at one exact claim of them: about 2^-32 for each such sleep. That
 * residual is accepted; one record would be overwritten. The consumer has no such window.
 *
 * Progress: claim lock-free until full; commit, abort, payload wait-free; the consumer's tail,
 * ready, release wait-free; used_bytes, empty wait-free, for any thread.
 *
 * The segment holds counters and offsets, never a pointer; `salvo_ring` is one process's view.
 */
#ifndef SALVO_RING_H
#define SALVO_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SALVO_RING_UNIT 8u       /* positions count units of 8 bytes */
#define SALVO_RING_HUGE_BYTES (2u << 20) /* a huge page: rings from here on gain by one mapping */
#define SALVO_RING_UNMIRRORED 1u /* option: single private mapping; padding instead of wrapping */
#define SALVO_RING_ABORTED 1u    /* descriptor flag: to be stepped over */
#define SALVO_RING_NOBODY UINT32_MAX /* claimant of a padding descriptor */
#define SALVO_RING_MIN_BYTES (64u << 10)
#define SALVO_RING_MIN_DESCRIPTORS 16u
#define SALVO_RING_MAX_DESCRIPTORS (1u << 30)

#define SALVO_RING_FULL (-1)  /* now; later it may fit */
#define SALVO_RING_NEVER (-2) /* more than a quarter of the ring */

/* Written by the claimant between claim and commit; `sequence` is the commit word. */
typedef struct salvo_ring_desc {
    uint64_t stamp;
    uint32_t position; /* units, free running */
    uint32_t length;   /* bytes of payload */
    uint32_t tag;      /* the user's */
    uint32_t flags;    /* SALVO_RING_ABORTED; the upper 16 bits are the user's */
    uint32_t claimant;
    _Atomic uint32_t sequence; /* == index + 1: ready, committed or aborted */
} salvo_ring_desc;
_Static_assert(sizeof(salvo_ring_desc) == 32, "two descriptors fill a cache line");

/* The first page of the segment. 128 bytes apart: the hardware fetches lines in pairs. */
typedef struct salvo_ring_segment {
    uint64_t magic; /* which layout this is */
    uint64_t size;  /* of the segment, bytes */
    uint64_t desc_offset, bytes_offset;
    uint32_t descriptors, units, flags, reserved;
    _Alignas(128) _Atomic uint64_t tail; /* producers: CAS */
    _Atomic uint64_t cached_head;        /* producers: a head that was */
    _Alignas(128) _Atomic uint64_t head; /* consumer: release store */
} salvo_ring_segment;

/* One process's view; read-only after open. */
typedef struct salvo_ring {
    salvo_ring_segment *segment;
    salvo_ring_desc *desc;
    unsigned char *bytes;
    uint32_t desc_mask, unit_mask;
    uint32_t max_descriptors, max_units; /* of one claim: a quarter */
    uint32_t flags;
    uint64_t mapped; /* bytes of address space */
} salvo_ring;

typedef struct salvo_ring_options {
    uint32_t bytes;       /* of payload: a power of two, at least 64 KiB */
    uint32_t descriptors; /* a power of two, 16 to 2^30 */
    uint32_t flags;
    uint32_t start_sequence, start_position; /* tests start just below a wrap */
} salvo_ring_options;

typedef struct salvo_ring_claim { /* of the first record */
    uint32_t sequence, position;
} salvo_ring_claim;

/* 0, -EINVAL (sizes, flags) or the -errno of the system. All pages are present afterwards. */
int salvo_ring_open(salvo_ring *ring, const salvo_ring_options *options);
/* Nobody may use the ring any more, stuck claimants included. */
void salvo_ring_close(salvo_ring *ring);
/* Bytes of memory that a ring with these options uses (the second mapping uses none). */
uint64_t salvo_ring_footprint(const salvo_ring_options *options);
/* A claim's slow path: 0 look again (*tail is fresh), -1 full. */
int salvo_ring_refresh(salvo_ring *ring, uint64_t *tail, uint64_t seen);

static inline uint64_t salvo_ring_pack(uint32_t sequence, uint32_t position)
{
    return (uint64_t)sequence << 32 | position;
}

static inline uint32_t salvo_ring_sequence(uint64_t word)
{
    return (uint32_t)(word >> 32);
}

static inline uint32_t salvo_ring_position(uint64_t word)
{
    return (uint32_t)word;
}

/* Units that `length` bytes take: at least one, so that positions tell records apart. */
static inline uint32_t salvo_ring_units(uint32_t length)
{
    return length == 0 ? 1 : (length - 1) / SALVO_RING_UNIT + 1;
}

/* ---- Producers: any thread, any number at once ---- */

/* The payload of a claim, contiguous to its end. */
static inline void *salvo_ring_payload(const salvo_ring *ring, uint32_t position)
{
    return ring->bytes + (size_t)(position & ring->unit_mask) * SALVO_RING_UNIT;
}

/* Exactly once per claimed record, in any order, by its claimant. `length` may be less than was
 * claimed. Abort: SALVO_RING_ABORTED in flags; the record is stepped over. */
static inline void salvo_ring_commit(salvo_ring *ring, uint32_t sequence, uint32_t position,
                                     uint32_t length, uint32_t tag, uint32_t flags,
                                     uint32_t claimant, uint64_t stamp)
{
    salvo_ring_desc *desc = &ring->desc[sequence & ring->desc_mask];
    desc->stamp = stamp;
    desc->position = position;
    desc->length = length;
    desc->tag = tag;
    desc->flags = flags;
    desc->claimant = claimant;
    /* Edge R: pairs with salvo_ring_ready. */
    atomic_store_explicit(&desc->sequence, sequence + 1, memory_order_release);
}

/* Units to the end of the payload if `units` from `position` on would cross it, else 0. */
static inline uint32_t salvo_ring_padding(const salvo_ring *ring, uint32_t position,
                                          uint32_t units)
{
    uint32_t left = ring->unit_mask + 1 - (position & ring->unit_mask);
    return (ring->flags & SALVO_RING_UNMIRRORED) && units > left ? left : 0;
}

static inline bool salvo_ring_fits(const salvo_ring *ring, uint64_t tail, uint64_t head,
                                   uint32_t n, uint32_t units)
{
    uint32_t descriptors = ring->desc_mask + 1, capacity = ring->unit_mask + 1;
    uint32_t used_n = salvo_ring_sequence(tail) - salvo_ring_sequence(head);
    uint32_t used = salvo_ring_position(tail) - salvo_ring_position(head);
    /* No sum that could wrap: a stale tail makes `used` as large as 2^32 - 1. */
    return used_n <= descriptors && n <= descriptors - used_n && used <= capacity &&
           units <= capacity - used;
}

/* Claim n >= 1 consecutive records, total_units >= n of payload together, with one CAS. Each is
 * then written and committed with its own sequence (out->sequence + i) and position (those of
 * the records before it added to out->position). 0, SALVO_RING_FULL or SALVO_RING_NEVER. */
static inline int salvo_ring_claim_n(salvo_ring *ring, uint32_t n, uint32_t total_units,
                                     salvo_ring_claim *out)
{
    salvo_ring_segment *segment = ring->segment;
    if (__builtin_expect(n > ring->max_descriptors || total_units > ring->max_units, 0))
        return SALVO_RING_NEVER;
    /* Acquire: not after the load of cached_head below (see "Why a stale view is harmless"). */
    uint64_t tail = atomic_load_explicit(&segment->tail, memory_order_acquire);
    uint32_t padding;
    for (;;) {
        /* Edge F2: pairs with the CAS in salvo_ring_refresh. */
        uint64_t seen = atomic_load_explicit(&segment->cached_head, memory_order_acquire);
        padding = salvo_ring_padding(ring, salvo_ring_position(tail), total_units);
        uint32_t count = n + (padding != 0), units = total_units + padding;
        if (__builtin_expect(!salvo_ring_fits(ring, tail, seen, count, units), 0)) {
            if (salvo_ring_refresh(ring, &tail, seen) != 0)
                return SALVO_RING_FULL;
            continue;
        }
        uint64_t next = salvo_ring_pack(salvo_ring_sequence(tail) + count,
                                        salvo_ring_position(tail) + units);
        /* Edge C: pairs with salvo_ring_tail. */
        if (__builtin_expect(atomic_compare_exchange_weak_explicit(&segment->tail, &tail, next,
                                                                   memory_order_acq_rel,
                                                                   memory_order_acquire), 1))
            break;
    }
    out->sequence = salvo_ring_sequence(tail);
    out->position = salvo_ring_position(tail);
    if (padding) {
        salvo_ring_commit(ring, out->sequence++, out->position, padding * SALVO_RING_UNIT, 0,
                          SALVO_RING_ABORTED, SALVO_RING_NOBODY, 0);
        out->position += padding;
    }
    return 0;
}

/* ---- The one consumer (the drain) ---- */

/* Edge C: pairs with the CAS in salvo_ring_claim_n. */
static inline uint64_t salvo_ring_tail(const salvo_ring *ring)
{
    return atomic_load_explicit(&ring->segment->tail, memory_order_acquire);
}

/* Is the record with this sequence, which is below the tail, ready to be read? */
static inline bool salvo_ring_ready(const salvo_ring *ring, uint32_t sequence)
{
    /* Edge R: pairs with salvo_ring_commit. */
    return atomic_load_explicit(&ring->desc[sequence & ring->desc_mask].sequence,
                                memory_order_acquire) == sequence + 1;
}

/* Ring memory is checked before it is believed: may `length` bytes from `payload` on (as given by
 * salvo_ring_payload) be read, whatever a descriptor says? */
static inline bool salvo_ring_holds(const salvo_ring *ring, const void *payload, uint32_t length)
{
    size_t at = (size_t)((const unsigned char *)payload - ring->bytes);
    size_t capacity = ((size_t)ring->unit_mask + 1) * SALVO_RING_UNIT;
    return length <= ring->max_units * SALVO_RING_UNIT &&
           (!(ring->flags & SALVO_RING_UNMIRRORED) || length <= capacity - at);
}

static inline uint64_t salvo_ring_head(const salvo_ring *ring)
{
    return atomic_load_explicit(&ring->segment->head, memory_order_acquire);
}

/* Give all space before `word` back; nothing before it may be read any more. */
static inline void salvo_ring_release(salvo_ring *ring, uint64_t word)
{
    /* Edge F1: pairs with the load of head in salvo_ring_refresh. */
    atomic_store_explicit(&ring->segment->head, word, memory_order_release);
}

/* ---- Any thread, for statistics ---- */

/* Payload bytes claimed and not yet released. Head is read first: the tail read after it is not
 * behind it (head was stored after that tail was read); it may be laps ahead, hence the limit. */
static inline uint64_t salvo_ring_used_bytes(const salvo_ring *ring)
{
    uint64_t head = salvo_ring_head(ring), tail = salvo_ring_tail(ring);
    uint32_t used = salvo_ring_position(tail) - salvo_ring_position(head);
    uint32_t capacity = ring->unit_mask + 1;
    return (uint64_t)(used < capacity ? used : capacity) * SALVO_RING_UNIT;
}

/* Was everything that is claimed released, a moment ago? */
static inline bool salvo_ring_empty(const salvo_ring *ring)
{
    uint64_t head = salvo_ring_head(ring);
    return salvo_ring_sequence(salvo_ring_tail(ring)) == salvo_ring_sequence(head);
}

#endif
