/* SPDX-License-Identifier: Apache-2.0
 *
 * A flusher's round, and its opening and closing; see flusher.h.
 */
#include "flusher.h"

#include "error.h"
#include "plan/sizes.h"
#include "report.h"
#include "thread.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { LONGEST_NAP_NS = 100 * 1000 * 1000 };

void salvo_flusher_read_clock(salvo_flusher *f)
{
    f->now_tick = salvo_clock_read_fenced(&f->producer->clock);
    f->now_ns = salvo_clock_ns(&f->producer->clock, f->now_tick);
}

/* The sampled durations of send calls, from the threads whose home this flusher is. */
static void collect_samples(salvo_flusher *f)
{
    salvo *p = f->producer;
    uint32_t count = atomic_load_explicit(&p->thread_count, memory_order_acquire);
    for (uint32_t i = f->index; i < count; i += p->settings.flushers) {
        salvo_thread *t = p->threads[i];
        uint32_t tail = atomic_load_explicit(&t->sample_tail, memory_order_relaxed);
        /* Acquire: pairs with the release in the send path's sample(). */
        uint32_t head = atomic_load_explicit(&t->sample_head, memory_order_acquire);
        for (; tail != head; tail++) {
            uint64_t ticks = atomic_load_explicit(&t->samples[tail % SALVO_THREAD_SAMPLES],
                                                  memory_order_relaxed);
            salvo_histogram_record(f->stages[SALVO_STAGE_ENQUEUE],
                                   salvo_clock_ns(&p->clock, ticks), 1);
        }
        atomic_store_explicit(&t->sample_tail, tail, memory_order_release);
    }
}

static void share_out(salvo_flusher *f)
{
    const salvo_settings *s = &f->producer->settings;
    uint32_t count = atomic_load_explicit(&f->producer->topics.count, memory_order_acquire);
    uint64_t kept = (uint64_t)s->rings * s->ring_bytes;
    uint64_t arena = f->pool.arena.bytes;
    if (count == 0)
        count = 1; /* the first topic may come, and be sent to, before this is asked again */
    if (count == f->topics_seen)
        return;
    f->topics_seen = count;
    kept = (kept < arena / 2 ? kept : arena / 2) + SALVO_ARENA_RESERVE;
    f->share_bytes = (kept < arena / 4 * 3 ? arena - kept : arena / 4) / count;
    if (f->share_bytes < SALVO_ARENA_MIN_BLOCK)
        f->share_bytes = SALVO_ARENA_MIN_BLOCK;
}

static void tell_senders(salvo_flusher *f)
{
    salvo *p = f->producer;
    if (atomic_load_explicit(&p->space_waiters, memory_order_relaxed) != 0)
        salvo_event_signal(&p->space);
}

/* Readers copy the complete text; the other one is written at most once a second, so a reader
 * would have to sleep that long inside its copy to see a change, and then only of text. */
static void publish_state(salvo_flusher *f)
{
    enum { EVERY_NS = 1000 * 1000 * 1000 };
    uint32_t next = 1 - atomic_load_explicit(&f->state_at, memory_order_relaxed);
    if (f->now_ns < f->next_state_ns)
        return;
    f->next_state_ns = f->now_ns + EVERY_NS;
    if (f->handle_dead)
        snprintf(f->state[next], sizeof f->state[next], "down: being opened again");
    else
        f->producer->driver->state(f->handle, f->state[next], sizeof f->state[next]);
    atomic_store_explicit(&f->state_at, next, memory_order_release);
}

void salvo_flusher_state(salvo_flusher *f, char *text, size_t size)
{
    /* Acquire: pairs with the release in publish_state(). */
    uint32_t at = atomic_load_explicit(&f->state_at, memory_order_acquire);
    snprintf(text, size, "%.95s", f->state[at]);
}

int salvo_flusher_work(salvo_flusher *f)
{
    salvo_flusher_read_clock(f);
    f->round++;
    f->wake_at_ns = f->now_ns + LONGEST_NAP_NS;
    share_out(f);
    publish_state(f);
    if (f->index == 0) {
        salvo_segment_publish(&f->producer->segment, f->producer, f->now_ns);
        salvo_taping_look(f->producer, f->now_ns);
    }
    uint64_t drained_before = atomic_load_explicit(&f->counters.drained, memory_order_relaxed);
    salvo_flusher_flush_step(f);
    /* Awake for another reason shortly before a pass: it comes now, and saves a wake-up. */
    if (f->now_ns + f->drain_every_ns / 4 >= f->next_drain_ns ||
        atomic_load_explicit(&f->kicked, memory_order_relaxed) != 0) {
        /* Acquire: what the kicker did before is seen by this drain. */
        atomic_exchange_explicit(&f->kicked, 0, memory_order_acquire);
        salvo_flusher_drain(f);
        collect_samples(f);
    }
    uint64_t work = atomic_load_explicit(&f->counters.drained, memory_order_relaxed) -
                    drained_before;
    if (work != 0)
        tell_senders(f);
    salvo_flusher_expire(f);
    salvo_flusher_close_due(f, false);
    salvo_flusher_flush_step(f);
    int submitted = salvo_flusher_submit(f);
    int settled = salvo_flusher_poll(f);
    if (settled > 0) {
        submitted += salvo_flusher_submit(f);
        salvo_flusher_flush_step(f);
        tell_senders(f);
    }
    salvo_reports_publish(f->producer->reports, f->index);
    salvo_flusher_wake_by(f, f->next_drain_ns);
    return (int)(work > 1u << 30 ? 1u << 30 : work) + submitted + settled;
}

/* After the last round: whatever is left is dropped. Claims that were never committed are stepped
 * over, so that what lies behind them is counted, too; their space is never used again. */
void salvo_flusher_end(salvo_flusher *f)
{
    enum { TRIES = 1000 }; /* without progress */
    for (int i = 0; i < TRIES;) {
        uint64_t before = atomic_load_explicit(&f->counters.drained, memory_order_relaxed);
        salvo_flusher_read_clock(f);
        salvo_flusher_drain(f);
        salvo_flusher_give_up(f);
        salvo_reports_publish(f->producer->reports, f->index);
        if (before != atomic_load_explicit(&f->counters.drained, memory_order_relaxed))
            continue;
        i++;
        if (f->short_of_memory)
            continue; /* until a pass finds nothing, whatever the idle strategy */
        if (salvo_drain_backlog(&f->drain) == 0)
            break;
        f->stuck_claims += salvo_drain_skip_stuck(&f->drain);
    }
    tell_senders(f);
}

static void wake_from_driver(void *flusher)
{
    salvo_flusher_kick(flusher);
}

static uint64_t env_now_ns(void *context)
{
    const salvo_clock *clock = context;
    return salvo_clock_ns(clock, salvo_clock_stamp(clock));
}

static int open_driver(salvo_flusher *f, char *error, size_t error_size)
{
    salvo *p = f->producer;
    f->env = (salvo_driver_env){
        .config = p->config,
        .shared = p->driver_shared,
        .now_ns = env_now_ns,
        .clock = &p->clock,
        .log = salvo_log,
        .wake = wake_from_driver,
        .flusher = f,
        .flusher_index = f->index,
        .flusher_count = p->settings.flushers,
        .queue_bytes = p->settings.driver_bytes / p->settings.flushers,
        .max_topics = p->settings.max_topics,
        .max_batches = p->settings.max_in_flight_batches,
    };
    return p->driver->open(&f->env, &f->handle, error, error_size);
}

static int open_tables(salvo_flusher *f)
{
    const salvo_settings *s = &f->producer->settings;
    f->topics = calloc(s->max_topics, sizeof *f->topics);
    f->flush_marks = calloc(s->rings, sizeof *f->flush_marks);
    if (f->topics == NULL || f->flush_marks == NULL)
        return SALVO_ERR_NOMEM;
    for (int i = 0; i < SALVO_STAGES; i++)
        f->stages[i] = salvo_histogram_place(
            salvo_segment_histogram(&f->producer->segment, f->index, (salvo_stage)i),
            SALVO_SEGMENT_DIGITS);
    f->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    return f->event_fd < 0 ? SALVO_ERR_IO : 0;
}

static int open_drain(salvo_flusher *f)
{
    const salvo *p = f->producer;
    uint32_t rings = p->settings.rings;
    salvo_ring **list = calloc(rings, sizeof *list);
    if (list == NULL)
        return SALVO_ERR_NOMEM;
    for (uint32_t i = 0; i < rings; i++)
        list[i] = &p->rings[f->index * rings + i];
    int err = salvo_drain_open(&f->drain, list, rings,
                               salvo_clock_ticks(&p->clock, p->settings.claim_stall_ns));
    free(list);
    return err == 0 ? 0 : SALVO_ERR_NOMEM;
}

uint64_t salvo_flusher_bytes(const salvo_settings *s)
{
    uint64_t arena = s->arena_bytes / s->flushers;
    return arena + salvo_batch_pool_overhead(arena) + s->max_topics * sizeof(salvo_lane_topic);
}

static int open_memory(salvo_flusher *f, bool sizes_only)
{
    const salvo_settings *s = &f->producer->settings;
    uint64_t arena = s->arena_bytes / s->flushers, record = (uint64_t)s->max_message_bytes + 4096u;
    if (!sizes_only) {
        int err = open_drain(f);
        return err != 0 ? err : salvo_batch_pool_open(&f->pool, arena, record);
    }
    f->sizes = salvo_sizes_new(&f->producer->rings[f->index * s->rings], s->rings);
    return f->sizes == NULL ? SALVO_ERR_NOMEM
                            : salvo_batch_pool_open_sizes(&f->pool, arena, record);
}

int salvo_flusher_open(salvo_flusher *f, salvo *producer, uint32_t index, bool sizes_only,
                       char *error, size_t error_size)
{
    f->producer = producer;
    f->index = index;
    f->event_fd = -1;
    f->topics_seen = UINT32_MAX;
    f->drain_every_ns = 100 * 1000;
    f->shortest_linger_ns = UINT64_MAX; /* no topic has records yet */
    snprintf(error, error_size, "no memory for a flusher (lower buffer_bytes)");
    int err = open_tables(f);
    if (err == 0 && open_memory(f, sizes_only) != 0)
        err = SALVO_ERR_NOMEM;
    if (err == 0)
        err = open_driver(f, error, error_size);
    return err;
}

void salvo_flusher_close(salvo_flusher *f)
{
    if (f->producer == NULL)
        return;
    if (f->handle != NULL)
        f->producer->driver->close(f->handle);
    salvo_batch_pool_close(&f->pool);
    salvo_drain_close(&f->drain);
    salvo_sizes_free(f->sizes);
    for (uint32_t i = 0; f->topics != NULL && i < f->producer->settings.max_topics; i++)
        free(f->topics[i].parts);
    free(f->topics);
    free(f->flush_marks);
    if (f->event_fd >= 0)
        close(f->event_fd);
}
