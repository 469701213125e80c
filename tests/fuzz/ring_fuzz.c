/* SPDX-License-Identifier: Apache-2.0
 *
 * The image of a ring: counters, descriptors and payload of arbitrary bytes, as a stray write of
 * the application (or a torn segment) would leave them. The drain reads it and makes the checks
 * that the flusher makes. Whatever is there: a pass ends, and what passes the checks lies inside
 * the payload. The counters of a broken ring may be wrong afterwards; memory is not touched.
 */
#include "drain.h"
#include "fuzz.h"
#include "record.h"

enum { DESCRIPTORS = 16, PASSES = 3, PAYLOAD = 64 };

/* The pieces of the image come from the input; a quarter of it keeps the ring's own values, so
 * that records are met behind the first check. */
static void corrupt(salvo_ring *ring, const uint8_t **data, size_t *size)
{
    uint64_t head = salvo_ring_head(ring);
    uint32_t count = fuzz_number(data, size), jump = fuzz_number(data, size);
    for (uint32_t i = 0; i < DESCRIPTORS && *size > 0; i++) {
        salvo_ring_desc *desc = &ring->desc[i];
        uint32_t keep = fuzz_number(data, size);
        desc->stamp = fuzz_number(data, size);
        desc->position = fuzz_number(data, size);
        desc->length = fuzz_number(data, size);
        desc->tag = fuzz_number(data, size);
        desc->flags = fuzz_number(data, size);
        uint32_t word = salvo_ring_sequence(head) +
                        ((i - salvo_ring_sequence(head)) & (DESCRIPTORS - 1)) + 1;
        if ((keep & 3) == 0)
            word = fuzz_number(data, size);
        if ((keep & 4) == 0)
            desc->length %= 256;
        atomic_store_explicit(&desc->sequence, word, memory_order_relaxed);
        void *payload = salvo_ring_payload(ring, desc->position);
        if (salvo_ring_holds(ring, payload, PAYLOAD))
            fuzz_take(data, size, payload, *size < PAYLOAD ? *size : PAYLOAD);
    }
    uint64_t tail = (jump & 3) == 0 ? (uint64_t)count << 32 | jump
                                    : head + ((uint64_t)(count % (DESCRIPTORS + 1)) << 32);
    atomic_store_explicit(&ring->segment->tail, tail, memory_order_relaxed);
}

/* As the flusher: see take() in flusher_drain.c. */
static void judge(const salvo_ring *ring, const salvo_drain_record *r)
{
    salvo_record_head head;
    if (!salvo_ring_holds(ring, r->payload, r->length) ||
        !salvo_record_sound(r->payload, r->length, r->flags, &head))
        return;
    const unsigned char *at = r->payload, *end = ring->bytes + (ring->mapped -
                              (size_t)(ring->bytes - (unsigned char *)ring->segment));
    fuzz_check(at >= ring->bytes && r->length <= (size_t)(end - at), "a record lies in its ring");
    fuzz_touch(r->payload, r->length);
    at += salvo_record_prefix(r->flags) + salvo_record_span(head.key_len);
    for (size_t left = head.headers_len; left > 0;) { /* as the drivers walk them */
        uint32_t lengths[2];
        memcpy(lengths, at, sizeof lengths);
        size_t one = sizeof lengths + lengths[0] + salvo_record_span(lengths[1]);
        fuzz_check(one <= left, "headers that passed end where they say");
        at += one;
        left -= one;
    }
}

static void pass(salvo_drain *drain, salvo_ring *rings, uint64_t t0)
{
    salvo_drain_record r;
    uint32_t taken = 0;
    salvo_drain_begin(drain, t0);
    while (salvo_drain_peek(drain, &r)) {
        judge(&rings[r.ring], &r);
        salvo_drain_advance(drain);
        fuzz_check(++taken <= 2 * DESCRIPTORS, "a pass ends");
    }
    salvo_drain_release(drain);
    (void)salvo_drain_backlog(drain);
}

/* A producer meets what is left: it gets a place inside the payload, or none. */
static void claim(salvo_ring *ring, uint32_t length)
{
    salvo_ring_claim place;
    uint32_t units = salvo_ring_units(length % 4096);
    if (salvo_ring_claim_n(ring, 1, units, &place) != 0)
        return;
    memset(salvo_ring_payload(ring, place.position), 0x5a, (size_t)units * SALVO_RING_UNIT);
    salvo_ring_commit(ring, place.sequence, place.position, length % 4096, 0, 0, 0, 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    salvo_ring rings[2];
    salvo_ring *both[2] = {&rings[0], &rings[1]};
    salvo_drain drain;
    for (uint32_t i = 0; i < 2; i++) {
        salvo_ring_options options = {.bytes = SALVO_RING_MIN_BYTES, .descriptors = DESCRIPTORS,
                                      .flags = i == 0 ? SALVO_RING_UNMIRRORED : 0,
                                      .start_sequence = UINT32_MAX - 3};
        fuzz_check(salvo_ring_open(both[i], &options) == 0, "a ring opens");
    }
    fuzz_check(salvo_drain_open(&drain, both, 2, 100) == 0, "a drain opens");
    for (uint64_t t = 1; t <= PASSES; t++) {
        corrupt(both[t & 1], &data, &size);
        pass(&drain, rings, t * UINT32_MAX);
        claim(both[t & 1], fuzz_number(&data, &size));
        (void)salvo_drain_skip_stuck(&drain);
    }
    pass(&drain, rings, UINT64_MAX);
    salvo_drain_close(&drain);
    salvo_ring_close(&rings[0]);
    salvo_ring_close(&rings[1]);
    return 0;
}
