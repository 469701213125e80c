/* SPDX-License-Identifier: Apache-2.0
 *
 * Producers and the drain, all at once, on rings so small that they are full and wrap all the
 * time. Checked for each case of the table: every record comes exactly once, each producer's
 * in order, with the contents it wrote; aborted ones never; a ring never holds more than it has;
 * at the end all space is back. Delays can be put between stamp, claim and commit.
 *
 * ring_stress [--long] [case]
 */
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#include "drain.h"
#include "stamp.h"

#define MAX_PRODUCERS 4
#define MAX_RINGS 4
#define RING_BYTES (64u << 10)
#define DESCRIPTORS 256u
#define MAX_LENGTH 700u
#define MAX_GROUP 5u

typedef struct test_case {
    const char *name;
    uint32_t producers, rings, flags, start_sequence, start_position;
    bool delays;
} test_case;

#define UNMIRRORED SALVO_RING_UNMIRRORED
static const test_case cases[] = {
    {"1 producer, 1 ring", 1, 1, 0, 0, 0, false},
    {"1 producer, 1 ring, unmirrored", 1, 1, UNMIRRORED, 0, 0, false},
    {"2 producers share a ring", 2, 1, 0, 0, 0, false},
    {"2 producers share a ring, unmirrored", 2, 1, UNMIRRORED, 0, 0, false},
    {"2 producers, a ring each", 2, 2, 0, 0, 0, false},
    {"4 producers share a ring, wraps", 4, 1, 0, 0xFFFFF000u, 0xFFFF0000u, false},
    {"4 producers share a ring, wraps, unmirrored", 4, 1, UNMIRRORED, 0xFFFFF000u, 0xFFFF0000u,
     false},
    {"4 producers, 2 rings, delays", 4, 2, 0, 0xFFFFFFFFu, 0x7FFFFFF0u, true},
    {"4 producers, 4 rings, delays, unmirrored", 4, 4, UNMIRRORED, 0x7FFFFFF0u, 0xFFFFFFFFu, true},
    {"3 producers, 4 rings (one idle)", 3, 4, 0, 1, 1, false},
};

typedef struct producer {
    salvo_ring *ring;
    pthread_t thread;
    uint32_t id, records;
    uint64_t random, full;
    bool delays;
} producer;

static uint32_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

/* What record `number` of producer `id` is like: known to both sides. */
static bool is_aborted(uint32_t id, uint32_t number)
{
    return (number * 2654435761u + id) % 23 == 0;
}

static uint32_t length_of(uint32_t id, uint32_t number)
{
    uint32_t mixed = (number + 1) * 2654435761u ^ id * 40503u;
    return mixed % 8 == 0 ? mixed % MAX_LENGTH : (mixed >> 8) % 120;
}

static void fill(unsigned char *p, uint32_t length, uint32_t id, uint32_t number)
{
    for (uint32_t i = 0; i < length; i++)
        p[i] = (unsigned char)(number * 31 + id * 101 + i);
}

static bool intact(const unsigned char *p, uint32_t length, uint32_t id, uint32_t number)
{
    for (uint32_t i = 0; i < length; i++) {
        if (p[i] != (unsigned char)(number * 31 + id * 101 + i))
            return false;
    }
    return true;
}

static void delay(producer *p)
{
    if (!p->delays)
        return;
    uint32_t kind = next_random(&p->random) % 256;
    if (kind == 0)
        sched_yield();
    else if (kind < 8)
        for (uint32_t i = 0; i < kind * 100; i++)
            atomic_signal_fence(memory_order_seq_cst);
}

/* Stamp, claim n, write and commit each (the last one first, now and then). */
static void send_group(producer *p, uint32_t first, uint32_t n)
{
    uint32_t total = 0, offset[MAX_GROUP];
    for (uint32_t i = 0; i < n; i++) {
        offset[i] = total;
        total += salvo_ring_units(length_of(p->id, first + i));
    }
    uint64_t now = stamp();
    delay(p);
    salvo_ring_claim c;
    while (salvo_ring_claim_n(p->ring, n, total, &c) != 0) {
        p->full++;
        sched_yield();
        now = stamp();
    }
    bool backwards = (first & 4) != 0;
    for (uint32_t k = 0; k < n; k++) {
        uint32_t i = backwards ? n - 1 - k : k;
        uint32_t length = length_of(p->id, first + i), position = c.position + offset[i];
        delay(p);
        fill(salvo_ring_payload(p->ring, position), length, p->id, first + i);
        delay(p);
        salvo_ring_commit(p->ring, c.sequence + i, position, length, first + i,
                          is_aborted(p->id, first + i) ? SALVO_RING_ABORTED : 0, p->id, now);
    }
}

static void *produce(void *argument)
{
    producer *p = argument;
    for (uint32_t number = 0; number < p->records;) {
        uint32_t n = next_random(&p->random) % 4 == 0 ? 1 + next_random(&p->random) % MAX_GROUP : 1;
        if (n > p->records - number)
            n = p->records - number;
        send_group(p, number, n);
        number += n;
    }
    return NULL;
}

static int fail(const char *what, const salvo_drain_record *r, uint32_t expected)
{
    printf("FAILED: %s: producer %u, number %u, expected %u, %u bytes, ring %u\n", what,
           r->claimant, r->tag, expected, r->length, r->ring);
    return 1;
}

static int check(const salvo_drain_record *r, uint32_t *expected, uint32_t producers)
{
    if (r->claimant >= producers)
        return fail("no such producer", r, 0);
    uint32_t *e = &expected[r->claimant];
    while (is_aborted(r->claimant, *e))
        ++*e;
    if (r->tag != *e)
        return fail("lost, doubled or out of order", r, *e);
    if (r->length != length_of(r->claimant, r->tag))
        return fail("wrong length", r, *e);
    if (!intact(r->payload, r->length, r->claimant, r->tag))
        return fail("contents", r, *e);
    ++*e;
    return 0;
}

/* Passes until all that will be sent was taken; 0: all right. */
static int consume(salvo_drain *drain, salvo_ring *rings, const test_case *c, uint32_t records,
                   uint64_t deadline_ns)
{
    uint32_t expected[MAX_PRODUCERS] = {0};
    uint64_t left = 0;
    for (uint32_t id = 0; id < c->producers; id++)
        for (uint32_t k = 0; k < records; k++)
            left += !is_aborted(id, k);
    while (left != 0) {
        salvo_drain_record r;
        uint32_t taken = 0;
        salvo_drain_begin(drain, stamp_fenced());
        while (salvo_drain_peek(drain, &r)) {
            if (check(&r, expected, c->producers) != 0)
                return 1;
            salvo_drain_advance(drain);
            left--;
            if (++taken % 64 == 0) /* release in the middle of a pass, too */
                salvo_drain_release(drain);
        }
        salvo_drain_release(drain);
        for (uint32_t i = 0; i < c->rings; i++) {
            uint64_t used = salvo_ring_used_bytes(&rings[i]);
            if (used > RING_BYTES || used % SALVO_RING_UNIT != 0)
                return printf("FAILED: ring %u holds %" PRIu64 " bytes\n", i, used), 1;
        }
        if (taken == 0) {
            if (stamp_ns() > deadline_ns)
                return printf("FAILED: %" PRIu64 " records never came\n", left), 1;
            sched_yield();
        }
    }
    return 0;
}

static int at_rest(salvo_drain *drain, salvo_ring *rings, uint32_t count)
{
    salvo_drain_record r;
    salvo_drain_begin(drain, stamp_fenced());
    if (salvo_drain_peek(drain, &r))
        return fail("one too many", &r, 0);
    salvo_drain_release(drain);
    for (uint32_t i = 0; i < count; i++) {
        if (!salvo_ring_empty(&rings[i]) || salvo_ring_used_bytes(&rings[i]) != 0)
            return printf("FAILED: ring %u is not empty at the end\n", i), 1;
    }
    return 0;
}

static int run_case(const test_case *c, uint32_t records)
{
    salvo_ring rings[MAX_RINGS], *pointers[MAX_RINGS];
    producer producers[MAX_PRODUCERS] = {{0}};
    salvo_ring_options options = {RING_BYTES, DESCRIPTORS, c->flags, c->start_sequence,
                                  c->start_position};
    for (uint32_t i = 0; i < c->rings; i++) {
        pointers[i] = &rings[i];
        if (salvo_ring_open(&rings[i], &options) != 0)
            return printf("FAILED: cannot open a ring\n"), 1;
    }
    salvo_drain drain;
    if (salvo_drain_open(&drain, pointers, c->rings, UINT64_MAX) != 0)
        return printf("FAILED: cannot open the drain\n"), 1;
    uint64_t start = stamp_ns();
    for (uint32_t i = 0; i < c->producers; i++) {
        producers[i] = (producer){.ring = &rings[i % c->rings], .id = i, .records = records,
                                  .random = i + 1, .delays = c->delays};
        if (pthread_create(&producers[i].thread, NULL, produce, &producers[i]) != 0)
            return printf("FAILED: cannot start a thread\n"), 1;
    }
    if (consume(&drain, rings, c, records, start + 100000000000u) != 0)
        return 1; /* main ends the process, and the producers with it */
    uint64_t full = 0;
    for (uint32_t i = 0; i < c->producers; i++) {
        pthread_join(producers[i].thread, NULL);
        full += producers[i].full;
    }
    int result = at_rest(&drain, rings, c->rings);
    uint64_t ns = stamp_ns() - start;
    printf("%-46s %8u records, full %7" PRIu64 " times, %5" PRIu64 " ms: %s\n", c->name,
           records * c->producers, full, ns / 1000000, result == 0 ? "ok" : "FAILED");
    salvo_drain_close(&drain);
    for (uint32_t i = 0; i < c->rings; i++)
        salvo_ring_close(&rings[i]);
    return result;
}

int main(int argc, char **argv)
{
    uint32_t records = 200000;
    long only = -1;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--long") == 0)
            records = 5000000;
        else
            only = atol(argv[i]);
    }
    stamp_init();
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (long i = 0; i < (long)(sizeof cases / sizeof cases[0]); i++) {
        if ((only < 0 || only == i) && run_case(&cases[i], records) != 0)
            return 1;
    }
    return 0;
}
