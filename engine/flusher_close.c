/* SPDX-License-Identifier: Apache-2.0
 *
 * Closing batches: by bytes, count and waiter as they are filled (flusher_drain.c), by linger or
 * for a flush here. Partitions with anything open or ready are in a ring of their own, so that a
 * round costs what is going on, not what exists.
 */
#include "flusher.h"

#include "probes.h"

void salvo_flusher_wake_by(salvo_flusher *f, uint64_t at_ns)
{
    if (at_ns < f->wake_at_ns)
        f->wake_at_ns = at_ns;
}

void salvo_flusher_part_active(salvo_flusher *f, salvo_part *part)
{
    if (part->active)
        return;
    part->active = true;
    if (f->active == NULL) {
        f->active = part->next = part->previous = part;
        return;
    }
    part->next = f->active;
    part->previous = f->active->previous;
    part->previous->next = part;
    part->next->previous = part;
}

void salvo_flusher_part_idle(salvo_flusher *f, salvo_part *part)
{
    if (!part->active || part->open != NULL || part->ready.first != NULL)
        return;
    part->active = false;
    if (part->next == part) {
        f->active = NULL;
        return;
    }
    part->previous->next = part->next;
    part->next->previous = part->previous;
    if (f->active == part)
        f->active = part->next;
}

void salvo_flusher_close_batch(salvo_flusher *f, salvo_part *part, _Atomic uint64_t *why)
{
    salvo_batch *b = part->open;
    salvo_lane_topic *t = &f->topics[part->topic];
    salvo_probe_batch_close(f->producer->topics.entries[part->topic].name, b->driver.partition,
                            b->driver.count, b->driver.bytes, why - &f->counters.closed_by_bytes);
    part->open = NULL;
    b->state = SALVO_BATCH_READY;
    b->sequence = f->closed++;
    b->next = NULL;
    b->previous = part->ready.last;
    if (part->ready.last != NULL)
        part->ready.last->next = b;
    else
        part->ready.first = b;
    part->ready.last = b;
    if (t->sticky == b->driver.partition)
        t->sticky = (t->sticky + 1) % t->part_count;
    salvo_count(why, 1);
    salvo_count(&f->counters.batches, 1);
}

void salvo_flusher_close_due(salvo_flusher *f, bool all)
{
    salvo_part *part = f->active;
    if (part == NULL)
        return;
    const salvo_clock *clock = &f->producer->clock;
    salvo_part *last = part->previous;
    for (;; part = part->next) {
        if (part->open != NULL) {
            uint64_t linger_ns = f->producer->topics.entries[part->topic].linger_ns;
            uint64_t due_ns = salvo_clock_ns(clock, part->open->oldest_stamp) + linger_ns;
            bool short_of_room = f->short_of_memory || f->topics[part->topic].full;
            /* An older epoch: it was held until now, and a flush waits for it. Short of room:
             * only submitting gives memory back, so linger must not hold it. */
            if (all || part->open->epoch != f->epoch)
                salvo_flusher_close_batch(f, part, &f->counters.closed_by_waiter);
            else if (short_of_room)
                salvo_flusher_close_batch(f, part, &f->counters.closed_by_bytes);
            else if (due_ns <= f->now_ns)
                salvo_flusher_close_batch(f, part, &f->counters.closed_by_linger);
            else
                salvo_flusher_wake_by(f, due_ns);
        }
        if (part == last)
            return;
    }
}
