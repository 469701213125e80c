/* SPDX-License-Identifier: Apache-2.0
 *
 * The time-ordered drain, one thread: interleavings made by hand with stamps made by hand, then
 * random ones of senders that hand a baton on, of claims held open, and of passes, step by step.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "drain.h"

#define RINGS 3u
#define DESCRIPTORS 64u
#define STALL 100u

typedef struct fixture {
    salvo_ring ring[RINGS];
    salvo_ring *pointers[RINGS];
    salvo_drain drain;
} fixture;

static void open_at(fixture *f, uint32_t sequence, uint32_t position, uint32_t flags)
{
    for (uint32_t i = 0; i < RINGS; i++) {
        salvo_ring_options o = {64u << 10, DESCRIPTORS, flags, sequence + i, position - i};
        assert_int_equal(salvo_ring_open(&f->ring[i], &o), 0);
        f->pointers[i] = &f->ring[i];
    }
    assert_int_equal(salvo_drain_open(&f->drain, f->pointers, RINGS, STALL), 0);
}

static int setup(void **state)
{
    static fixture f;
    open_at(&f, 0xFFFFFFFEu, 0xFFFFFFFDu, 0);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    fixture *f = *state;
    salvo_drain_close(&f->drain);
    for (uint32_t i = 0; i < RINGS; i++)
        salvo_ring_close(&f->ring[i]);
    return 0;
}

static salvo_ring_claim claim(fixture *f, uint32_t ring)
{
    salvo_ring_claim c;
    assert_int_equal(salvo_ring_claim_n(&f->ring[ring], 1, 1, &c), 0);
    return c;
}

static void commit(fixture *f, uint32_t ring, salvo_ring_claim c, uint64_t stamp, uint32_t tag,
                   uint32_t flags)
{
    memcpy(salvo_ring_payload(&f->ring[ring], c.position), &tag, sizeof tag);
    salvo_ring_commit(&f->ring[ring], c.sequence, c.position, sizeof tag, tag, flags, ring, stamp);
}

/* One whole send; the tag is the stamp. */
static void put(fixture *f, uint32_t ring, uint64_t stamp)
{
    commit(f, ring, claim(f, ring), stamp, (uint32_t)stamp, 0);
}

/* A pass at t0 takes exactly these tags, ended by 0. */
static void pass_takes(fixture *f, uint64_t t0, const uint32_t *tags)
{
    salvo_drain_record r;
    salvo_drain_begin(&f->drain, t0);
    while (salvo_drain_peek(&f->drain, &r)) {
        assert_int_equal(r.tag, *tags);
        assert_memory_equal(r.payload, tags, sizeof *tags);
        assert_int_equal(r.length, sizeof *tags);
        assert_int_equal(r.ring, r.claimant);
        tags++;
        salvo_drain_advance(&f->drain);
    }
    assert_int_equal(*tags, 0);
    salvo_drain_release(&f->drain);
}
#define TAGS(...) ((const uint32_t[]){__VA_ARGS__ __VA_OPT__(, ) 0})

static salvo_drain_stall stalls(const fixture *f)
{
    salvo_drain_stall s;
    salvo_drain_stalls(&f->drain, &s);
    return s;
}

static void test_open(void **state)
{
    (void)state;
    salvo_drain d;
    assert_int_equal(salvo_drain_open(&d, NULL, 0, 1), -EINVAL);
}

static void test_merge(void **state)
{
    fixture *f = *state;
    put(f, 0, 10), put(f, 0, 40), put(f, 1, 20), put(f, 1, 25), put(f, 2, 5), put(f, 2, 60);
    assert_int_equal(salvo_drain_backlog(&f->drain), 6);
    pass_takes(f, 100, TAGS(5, 10, 20, 25, 40, 60));
    assert_int_equal(salvo_drain_backlog(&f->drain), 0);
    for (uint32_t i = 0; i < RINGS; i++)
        assert_true(salvo_ring_empty(&f->ring[i]));
    pass_takes(f, 101, TAGS());
}

static void test_bound_is_t0(void **state)
{
    fixture *f = *state;
    put(f, 0, 10), put(f, 0, 31), put(f, 1, 30);
    pass_takes(f, 30, TAGS(10, 30)); /* up to T0 and with it */
    pass_takes(f, 31, TAGS(31));
}

/* A sender of a shared ring may sleep between stamp and claim. */
static void test_unsorted_ring(void **state)
{
    fixture *f = *state;
    put(f, 0, 50), put(f, 0, 5), put(f, 1, 20), put(f, 1, 55);
    pass_takes(f, 100, TAGS(20, 50, 5, 55));
}

static void test_ties(void **state)
{
    fixture *f = *state;
    for (uint32_t i = 0; i < 9; i++)
        put(f, i % RINGS, 7);
    pass_takes(f, 7, TAGS(7, 7, 7, 7, 7, 7, 7, 7, 7));
}

static void test_open_claim_holds_later_stamps(void **state)
{
    fixture *f = *state;
    put(f, 0, 5);
    pass_takes(f, 8, TAGS(5)); /* all clear at 8 */
    salvo_ring_claim a = claim(f, 0);
    put(f, 0, 15), put(f, 1, 20), put(f, 1, 21), put(f, 2, 7);
    pass_takes(f, 30, TAGS(7)); /* only what is not after the clear pass */
    pass_takes(f, 31, TAGS());
    commit(f, 0, a, 10, 10, 0);
    pass_takes(f, 40, TAGS(10, 15, 20, 21));
    assert_int_equal(stalls(f).count, 0);
}

/* What is ahead of the open claim in its own ring is held by the bound as well. */
static void test_open_claim_after_prefix(void **state)
{
    fixture *f = *state;
    pass_takes(f, 8, TAGS());
    put(f, 0, 9), put(f, 1, 6);
    salvo_ring_claim a = claim(f, 0);
    pass_takes(f, 30, TAGS(6));
    commit(f, 0, a, 10, 10, 0);
    pass_takes(f, 31, TAGS(9, 10));
}

/* The first pass ever meets an open claim: there is no clear pass, so nothing is safe. */
static void test_open_claim_in_first_pass(void **state)
{
    fixture *f = *state;
    salvo_ring_claim a = claim(f, 2);
    put(f, 0, 9);
    pass_takes(f, 30, TAGS());
    commit(f, 2, a, 3, 3, 0);
    pass_takes(f, 31, TAGS(3, 9));
}

/* Why T0 must be read before the tails: with a T0 from the future (which is what a late reading
 * is), this order is lost. The same steps with the right T0 are in the second half. */
static void test_late_t0_loses_order(void **state)
{
    fixture *f = *state;
    for (uint32_t base = 0; base <= 1000; base += 1000) {
        uint64_t late = base == 0 ? 500 : base + 1;
        pass_takes(f, late, TAGS()); /* the true time is base + 1 */
        salvo_ring_claim open = claim(f, 0);
        put(f, 0, base + 12); /* A, hidden behind the open claim */
        put(f, 1, base + 20); /* then B */
        if (base == 0) {
            pass_takes(f, base + 30, TAGS(20)); /* B without A */
            commit(f, 0, open, 11, 11, 0);
            pass_takes(f, 501, TAGS(11, 12));
        } else {
            pass_takes(f, base + 30, TAGS());
            commit(f, 0, open, base + 11, base + 11, 0);
            pass_takes(f, base + 31, TAGS(base + 11, base + 12, base + 20));
        }
    }
}

static void test_stall(void **state)
{
    fixture *f = *state;
    pass_takes(f, 8, TAGS());
    salvo_ring_claim a = claim(f, 1), b = claim(f, 1);
    put(f, 0, 20);
    pass_takes(f, 30, TAGS());
    pass_takes(f, 30 + STALL, TAGS());
    assert_int_equal(stalls(f).count, 0);
    pass_takes(f, 31 + STALL, TAGS(20)); /* longer than STALL since the pass at 30 */
    put(f, 2, 140);
    pass_takes(f, 200, TAGS(140));
    salvo_drain_stall s = stalls(f);
    assert_int_equal(s.count, 1); /* once for each claim, not for each pass */
    assert_int_equal(s.ring, 1);
    assert_int_equal(s.since, 30);
    assert_int_equal(s.claimant, SALVO_RING_NOBODY);
    /* The next claim of the same ring gets its own time. */
    commit(f, 1, a, 10, 10, 0);
    put(f, 0, 205);
    pass_takes(f, 210, TAGS());
    assert_int_equal(stalls(f).since, 0);
    pass_takes(f, 211 + STALL, TAGS(10, 205));
    assert_int_equal(stalls(f).count, 2);
    assert_int_equal(stalls(f).since, 210);
    commit(f, 1, b, 11, 11, 0);
    pass_takes(f, 400, TAGS(11));
    assert_int_equal(stalls(f).since, 0);
    assert_int_equal(stalls(f).count, 2);
}

static void test_oldest_stall_is_reported(void **state)
{
    fixture *f = *state;
    claim(f, 2);
    pass_takes(f, 10, TAGS());
    claim(f, 0);
    pass_takes(f, 50, TAGS());
    pass_takes(f, 300, TAGS());
    assert_int_equal(stalls(f).count, 2);
    assert_int_equal(stalls(f).ring, 2);
    assert_int_equal(stalls(f).since, 10);
}

static void test_aborted(void **state)
{
    fixture *f = *state;
    commit(f, 0, claim(f, 0), 1, 1, SALVO_RING_ABORTED);
    put(f, 0, 10);
    commit(f, 0, claim(f, 0), 90, 90, SALVO_RING_ABORTED);
    put(f, 0, 30), put(f, 1, 20);
    commit(f, 1, claim(f, 1), 999, 999, SALVO_RING_ABORTED); /* beyond the bound: no matter */
    pass_takes(f, 50, TAGS(10, 20, 30));
    for (uint32_t i = 0; i < RINGS; i++)
        assert_true(salvo_ring_empty(&f->ring[i]));
}

static void test_peek_and_early_end(void **state)
{
    fixture *f = *state;
    salvo_drain_record r;
    assert_false(salvo_drain_peek(&f->drain, &r)); /* before any pass */
    put(f, 0, 10), put(f, 1, 11), put(f, 0, 12);
    salvo_drain_begin(&f->drain, 50);
    for (int i = 0; i < 3; i++) {
        assert_true(salvo_drain_peek(&f->drain, &r));
        assert_int_equal(r.tag, 10);
    }
    salvo_drain_advance(&f->drain);
    assert_true(salvo_drain_peek(&f->drain, &r));
    assert_int_equal(r.tag, 11); /* peeked, not taken */
    assert_false(salvo_ring_empty(&f->ring[0]));
    salvo_drain_release(&f->drain);
    assert_int_equal(salvo_ring_used_bytes(&f->ring[0]), 8);
    assert_int_equal(salvo_ring_used_bytes(&f->ring[1]), 8);
    pass_takes(f, 51, TAGS(11, 12));
}

/* A commit may be shorter than its claim; the rest comes back too. */
static void test_short_commit(void **state)
{
    fixture *f = *state;
    salvo_ring_claim c;
    for (int lap = 0; lap < 40; lap++) {
        assert_int_equal(salvo_ring_claim_n(&f->ring[0], 1, 2000, &c), 0);
        commit(f, 0, c, 1, 1, 0);
        assert_int_equal(salvo_ring_claim_n(&f->ring[0], 1, 2000, &c), 0);
        commit(f, 0, c, 2, 2, 0);
        pass_takes(f, 10, TAGS(1, 2));
        assert_int_equal(salvo_ring_used_bytes(&f->ring[0]), 0);
    }
}

static void test_marks(void **state)
{
    fixture *f = *state;
    uint32_t marks[RINGS];
    salvo_drain_mark(&f->drain, marks);
    assert_true(salvo_drain_passed(&f->drain, marks));
    put(f, 0, 10);
    salvo_ring_claim open = claim(f, 1);
    salvo_drain_mark(&f->drain, marks); /* claimed counts, committed or not */
    put(f, 2, 12);
    assert_false(salvo_drain_passed(&f->drain, marks));
    pass_takes(f, 20, TAGS());
    assert_false(salvo_drain_passed(&f->drain, marks));
    commit(f, 1, open, 11, 11, 0);
    salvo_drain_record r;
    salvo_drain_begin(&f->drain, 21);
    for (int i = 0; i < 2; i++) {
        assert_false(salvo_drain_passed(&f->drain, marks));
        assert_true(salvo_drain_peek(&f->drain, &r));
        salvo_drain_advance(&f->drain);
    }
    assert_true(salvo_drain_passed(&f->drain, marks)); /* 12 came after the mark */
    assert_int_equal(salvo_drain_backlog(&f->drain), 1);
    for (uint32_t i = 0; i < 3 * DESCRIPTORS; i++) { /* and it stays so, laps later */
        put(f, 0, 100 + i);
        pass_takes(f, 100 + i, i == 0 ? TAGS(12, 100) : TAGS(100 + i));
        assert_true(salvo_drain_passed(&f->drain, marks));
    }
}

static void test_skip_stuck(void **state)
{
    fixture *f = *state;
    uint32_t marks[RINGS];
    pass_takes(f, 8, TAGS());
    put(f, 0, 10);
    uint64_t used = salvo_ring_used_bytes(&f->ring[0]);
    salvo_ring_claim a = claim(f, 0);
    put(f, 0, 12);
    claim(f, 0); /* a second stuck one in the same ring */
    put(f, 0, 14), put(f, 1, 11), put(f, 1, 15);
    salvo_drain_mark(&f->drain, marks);
    pass_takes(f, 30, TAGS());
    assert_int_equal(salvo_drain_skip_stuck(&f->drain), 1);
    assert_int_equal(salvo_drain_skip_stuck(&f->drain), 0); /* one at a time */
    pass_takes(f, 31, TAGS());                              /* the second one holds now */
    assert_int_equal(salvo_drain_skip_stuck(&f->drain), 0); /* the first was not reached yet */
    pass_takes(f, 32 + STALL, TAGS(10, 11, 12, 15));
    assert_false(salvo_drain_passed(&f->drain, marks));
    assert_int_equal(salvo_drain_skip_stuck(&f->drain), 1);
    pass_takes(f, 200, TAGS(14));
    assert_true(salvo_drain_passed(&f->drain, marks));
    assert_int_equal(salvo_drain_backlog(&f->drain), 0);
    /* Its own and all later space is never given back; what was before it is. */
    assert_int_equal(salvo_ring_used_bytes(&f->ring[0]), 4 * used);
    assert_true(salvo_ring_empty(&f->ring[1]));
    /* The late commit changes nothing any more. */
    commit(f, 0, a, 11, 11, 0);
    pass_takes(f, 300, TAGS());
    salvo_ring_claim c;
    int left = 0;
    while (salvo_ring_claim_n(&f->ring[0], 1, 1, &c) == 0) {
        assert_int_not_equal(c.sequence & (DESCRIPTORS - 1), a.sequence & (DESCRIPTORS - 1));
        left++;
    }
    assert_int_equal(left, DESCRIPTORS - 4);
}

static void test_skip_nothing(void **state)
{
    fixture *f = *state;
    assert_int_equal(salvo_drain_skip_stuck(&f->drain), 0);
    salvo_ring_claim a = claim(f, 0);
    pass_takes(f, 10, TAGS());
    commit(f, 0, a, 5, 5, 0); /* committed after the pass: nothing to skip */
    assert_int_equal(salvo_drain_skip_stuck(&f->drain), 0);
    pass_takes(f, 20, TAGS(5));
}

/* ---- Random interleavings ---- */

#define RELAYS 2u  /* independent batons: a key each */
#define HOLDERS 2u /* senders that stamp, claim and commit whenever they like */
#define HOLDER_TAG 0x80000000u

typedef struct sender {
    uint32_t step, ring, sent;
    uint64_t stamp;
    salvo_ring_claim claim;
} sender;

static uint32_t random_below(uint64_t *seed, uint32_t n)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*seed >> 33) % n;
}

/* One step of a send: stamp, claim (or find the ring full), commit (or abort). */
static void sender_step(fixture *f, sender *s, uint32_t tag, uint64_t now, uint64_t *seed)
{
    if (s->step == 0) {
        s->ring = random_below(seed, RINGS);
        s->stamp = now;
        s->step = 1;
    } else if (s->step == 1) {
        if (salvo_ring_claim_n(&f->ring[s->ring], 1, 1, &s->claim) == 0)
            s->step = 2;
    } else {
        bool abort = random_below(seed, 16) == 0;
        commit(f, s->ring, s->claim, s->stamp, tag, abort ? SALVO_RING_ABORTED : 0);
        s->sent += !abort;
        s->step = 0;
    }
}

/* A pass may begin some time after T0 was read, end early, and forget to release. */
static void pass_step(fixture *f, uint64_t t0, uint32_t *expected, uint64_t *seed)
{
    salvo_drain_record r;
    salvo_drain_begin(&f->drain, t0);
    uint32_t most = random_below(seed, 3) == 0 ? random_below(seed, 10) : UINT32_MAX;
    for (uint32_t i = 0; i < most && salvo_drain_peek(&f->drain, &r); i++) {
        assert_true(r.stamp <= t0);
        if (!(r.tag & HOLDER_TAG)) { /* relay << 24 | number: in the order of the baton */
            assert_int_equal(r.tag & 0xFFFFFF, expected[r.tag >> 24]);
            expected[r.tag >> 24]++;
        }
        salvo_drain_advance(&f->drain);
    }
    if (random_below(seed, 4) != 0)
        salvo_drain_release(&f->drain);
}

static void random_run(uint64_t seed, uint32_t flags)
{
    static fixture f;
    sender relay[RELAYS] = {{0}}, holder[HOLDERS] = {{0}};
    uint32_t expected[RELAYS] = {0};
    uint64_t now = 1, t0 = 0;
    open_at(&f, 0xFFFFFF00u + (uint32_t)seed, 0xFFFFFE00u, flags);
    f.drain.stall_ticks = UINT64_MAX - 1;
    for (int i = 0; i < 3000; i++, now++) {
        uint32_t who = random_below(&seed, 20);
        if (who < 14) {
            uint32_t k = who % RELAYS;
            sender_step(&f, &relay[k], k << 24 | relay[k].sent, now, &seed);
        } else if (who < 17) {
            sender_step(&f, &holder[who % HOLDERS], HOLDER_TAG, now, &seed);
        } else if (t0 == 0) {
            t0 = now;
        } else {
            pass_step(&f, t0, expected, &seed);
            t0 = 0;
        }
    }
    for (uint32_t k = 0; k < HOLDERS; k++) { /* commit what is open, then all must come */
        if (holder[k].step == 2)
            commit(&f, holder[k].ring, holder[k].claim, holder[k].stamp, HOLDER_TAG, 0);
    }
    for (uint32_t k = 0; k < RELAYS; k++) {
        if (relay[k].step == 2)
            commit(&f, relay[k].ring, relay[k].claim, relay[k].stamp, HOLDER_TAG, 0);
    }
    while (salvo_drain_backlog(&f.drain) != 0)
        pass_step(&f, now++, expected, &seed);
    for (uint32_t k = 0; k < RELAYS; k++)
        assert_int_equal(expected[k], relay[k].sent);
    void *state = &f;
    teardown(&state);
}

static void test_random_interleavings(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 2000; seed++)
        random_run(seed, seed % 4 == 0 ? SALVO_RING_UNMIRRORED : 0);
}

int main(void)
{
#define WITH_RINGS(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_open),
        WITH_RINGS(test_merge),
        WITH_RINGS(test_bound_is_t0),
        WITH_RINGS(test_unsorted_ring),
        WITH_RINGS(test_ties),
        WITH_RINGS(test_open_claim_holds_later_stamps),
        WITH_RINGS(test_open_claim_after_prefix),
        WITH_RINGS(test_open_claim_in_first_pass),
        WITH_RINGS(test_late_t0_loses_order),
        WITH_RINGS(test_stall),
        WITH_RINGS(test_oldest_stall_is_reported),
        WITH_RINGS(test_aborted),
        WITH_RINGS(test_peek_and_early_end),
        WITH_RINGS(test_short_commit),
        WITH_RINGS(test_marks),
        WITH_RINGS(test_skip_stuck),
        WITH_RINGS(test_skip_nothing),
        cmocka_unit_test(test_random_interleavings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
