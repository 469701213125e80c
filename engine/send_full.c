/* SPDX-License-Identifier: Apache-2.0
 *
 * The slow half of a send: the ring or the topic's share is full. Everything here may take locks
 * and system calls; a send that finds room never comes here.
 *
 * A blocked sender kicks its flusher and sleeps on the producer's `space` event in slices of at
 * most 1 ms: the flusher looks at `space_waiters` without a fence, so a wake-up may be missed
 * once, and then costs a slice.
 */
#include "send.h"

#include "error.h"
#include "probes.h"

enum { SLICE_NS = 1000 * 1000 };

int salvo_send_refuse(salvo_topic_entry *entry, salvo_refusal why, int err)
{
    salvo_topic_refuse(entry, why, 1);
    return err;
}

static int try_claim(salvo *p, salvo_letter *letter, uint32_t n, uint32_t units)
{
    if (atomic_load_explicit(&letter->entry->full, memory_order_relaxed) != 0)
        return SALVO_RING_FULL;
    letter->stamp = salvo_clock_stamp(&p->clock); /* before the claim: the drain's proof */
    return salvo_ring_claim_n(letter->ring, n, units, &letter->claim);
}

static int wait_for_room(salvo *p, salvo_letter *letter, uint32_t n, uint32_t units)
{
    uint64_t deadline_ns =
        salvo_clock_monotonic_ns() + (uint64_t)letter->entry->block_ms * 1000000u;
    int got;
    bool kick = true;
    atomic_fetch_add(&p->space_waiters, 1);
    for (;;) {
        uint32_t seen = salvo_event_read(&p->space);
        got = try_claim(p, letter, n, units);
        uint64_t now_ns = salvo_clock_monotonic_ns();
        if (got == 0 || now_ns >= deadline_ns || salvo_producer_check(p) != 0 ||
            atomic_load_explicit(&p->unblocked, memory_order_relaxed))
            break;
        if (kick)
            salvo_flusher_kick(letter->flusher);
        uint64_t slice_ns = now_ns + SLICE_NS;
        /* Woken by the flusher: it is at work and needs no kick. */
        kick = !salvo_event_wait(&p->space, seen, slice_ns < deadline_ns ? slice_ns : deadline_ns);
    }
    atomic_fetch_sub(&p->space_waiters, 1);
    return got;
}

int salvo_send_too_large(const salvo *p, salvo_topic_entry *entry)
{
    salvo_error_set("topic \"%s\": key, value and headers together are larger than "
                    "max_message_bytes = %u; raise it, and the broker's own limit with it",
                    entry->name, p->settings.max_message_bytes);
    return salvo_send_refuse(entry, SALVO_REFUSED_TOO_LARGE, SALVO_ERR_TOO_LARGE);
}

/* For a recorder: demand that met a full ring is seen, too. */
static void tape(const salvo *p, const salvo_letter *letter, uint32_t n, uint64_t begin_ns,
                 uint32_t fate)
{
    uint32_t prefix = (uint32_t)salvo_record_prefix(letter->flags);
    salvo_taping_full(p, letter->topic, n, letter->length > prefix ? letter->length - prefix : 0,
                      begin_ns, letter->stamp, fate);
}

int salvo_send_full(salvo *p, salvo_letter *letter, uint32_t n, uint32_t units)
{
    salvo_topic_entry *entry = letter->entry;
    salvo_probe_claim_full(entry->name, (uint64_t)units * SALVO_RING_UNIT, n, entry->policy);
    if (units > letter->ring->max_units)
        return salvo_send_too_large(p, entry);
    uint64_t begin_ns = salvo_clock_ns(&p->clock, salvo_clock_stamp(&p->clock));
    switch (entry->policy) {
    case SALVO_POLICY_FAIL:
        salvo_flusher_kick(letter->flusher);
        tape(p, letter, n, begin_ns, SALVO_TAPE_REFUSED);
        return salvo_send_refuse(entry, SALVO_REFUSED_FULL, SALVO_ERR_FULL);
    case SALVO_POLICY_DROP_NEWEST:
        salvo_flusher_kick(letter->flusher);
        tape(p, letter, n, begin_ns, SALVO_TAPE_REFUSED);
        return salvo_send_refuse(entry, SALVO_REFUSED_DROPPED, SALVO_ERR_FULL);
    default:
        break;
    }
    if (salvo_in_callback || p->stepped)
        return salvo_send_refuse(entry, SALVO_REFUSED_FULL, SALVO_ERR_FULL);
    if (wait_for_room(p, letter, n, units) == 0) {
        tape(p, letter, n, begin_ns, SALVO_TAPE_ACCEPTED);
        return 0;
    }
    tape(p, letter, n, begin_ns, SALVO_TAPE_REFUSED_LATE);
    int err = salvo_producer_check(p);
    return salvo_send_refuse(entry, SALVO_REFUSED_TIMEOUT, err != 0 ? err : SALVO_ERR_TIMEOUT);
}
