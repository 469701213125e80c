/* SPDX-License-Identifier: Apache-2.0
 *
 * Flush: "everything accepted before the call is settled", without a count per message.
 *
 *   IDLE -> MARKED: remember how far each ring is claimed, drain at once
 *   MARKED -> WAITING: the drain passed the marks; all open batches close; a new epoch begins
 *   WAITING -> IDLE: no record of the epochs before is unsettled; the round is done
 *
 * One round at a time; requests that come during a round share the next one. So two epoch
 * counters are enough: of this epoch and of the one that is being waited for.
 */
#include "flusher.h"

#include "report.h"

enum { AGAIN_NS = 100 * 1000, SHORT_NS = 1000 * 1000 };

static void begin_round(salvo_flusher *f)
{
    /* Acquire: pairs with the request in salvo_flush(): what was accepted before it is claimed. */
    f->flush_round = atomic_load_explicit(&f->flush_wanted, memory_order_acquire);
    salvo_drain_mark(&f->drain, f->flush_marks);
    f->flush_state = SALVO_FLUSH_MARKED;
    f->next_drain_ns = 0;
}

void salvo_flusher_flush_step(salvo_flusher *f)
{
    if (f->flush_state == SALVO_FLUSH_IDLE) {
        if (atomic_load_explicit(&f->flush_wanted, memory_order_relaxed) ==
            atomic_load_explicit(&f->flush_done, memory_order_relaxed))
            return;
        begin_round(f);
    }
    if (f->flush_state == SALVO_FLUSH_MARKED) {
        if (!salvo_drain_passed(&f->drain, f->flush_marks)) {
            uint64_t again_ns = f->now_ns + (f->short_of_memory ? SHORT_NS : AGAIN_NS);
            if (f->next_drain_ns > again_ns)
                f->next_drain_ns = again_ns; /* soon, but no spinning: a claim may be open */
            return;
        }
        f->epoch++;
        f->flush_state = SALVO_FLUSH_WAITING;
        salvo_flusher_close_due(f, true);
    }
    if (!f->handle_dead)
        f->producer->driver->flush(f->handle);
    if (f->epoch_records[(f->epoch - 1) & 1] != 0)
        return;
    f->flush_state = SALVO_FLUSH_IDLE;
    salvo_reports_publish(f->producer->reports, f->index); /* seen by whoever polls after it */
    /* Release: the waiter sees the outcomes' counters. */
    atomic_store_explicit(&f->flush_done, f->flush_round, memory_order_release);
    salvo_event_signal(&f->producer->settled);
}
