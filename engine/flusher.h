/* SPDX-License-Identifier: Apache-2.0
 *
 * A flusher: an agent that owns everything behind its rings: drain, batches, driver handle.
 *
 * salvo_flusher_work() does one round (drain, close, submit, poll, settle) and says how much it
 * did; flusher_run.c loops it on a thread with an idle strategy, tests step it by hand with a
 * clock of theirs. Shares nothing: other threads see its atomics, and ask by `requests`.
 *
 * The life of a message here: taken from the rings in time order -> appended to the open batch
 * of its topic and partition (or held, while the partitions are unknown) -> READY, in order, per
 * partition -> OUT at the driver -> settled once: counted, measured, reported.
 */
#ifndef SALVO_FLUSHER_H
#define SALVO_FLUSHER_H

#include "batch.h"
#include "drain.h"
#include "histogram.h"
#include "producer.h"

typedef enum salvo_outcome_kind {
    SALVO_OUT_ACKNOWLEDGED,
    SALVO_OUT_FAILED,
    SALVO_OUT_MAYBE, /* counted in failed, too */
    SALVO_OUT_EXPIRED,
    SALVO_OUT_DROPPED,
    SALVO_OUT_KINDS
} salvo_outcome_kind;

typedef struct salvo_batch_list {
    salvo_batch *first, *last;
} salvo_batch_list;

typedef struct salvo_part { /* a partition of a topic, as one flusher sees it */
    salvo_batch *open;
    salvo_batch_list ready;   /* in order; submitted from the front */
    struct salvo_part *next, *previous; /* in flusher->active while open or ready */
    uint32_t topic, out;      /* batches at the driver */
    bool active;
    uint32_t burst_messages;  /* submitted in round burst_round, the last with something out */
    uint64_t burst_bytes, burst_round;
} salvo_part;

typedef struct salvo_lane_topic { /* a topic, as one flusher sees it */
    salvo_part *parts;
    int32_t part_count;    /* 0: not known yet */
    int32_t error;         /* the driver's permanent answer for this topic */
    int32_t sticky;        /* partition of messages without a key, until its batch closes */
    bool known;            /* the driver was told */
    bool full;             /* our share of it is full */
    salvo_batch_list held; /* records that wait for part_count, in order */
    uint64_t arena_used;   /* bytes of blocks */
    _Atomic uint64_t outcomes[SALVO_OUT_KINDS];
    _Atomic uint64_t in_batches; /* records drained and not settled: counted independently */
} salvo_lane_topic;

typedef struct salvo_flusher_counters { /* one writer: the flusher */
    _Atomic uint64_t batches, closed_by_bytes, closed_by_count, closed_by_linger,
        closed_by_waiter, retries, reopens, broker_errors, in_flight_messages,
        in_flight_batches, backlog, drained;
} salvo_flusher_counters;

enum { /* salvo_flusher.requests: bits, set by others */
    SALVO_REQUEST_STOP = 1 /* give up what is pending, then end */
};

struct salvo_flusher {
    salvo *producer;
    uint32_t index;
    salvo_drain drain;
    struct salvo_sizes *sizes; /* a plan: in the place of rings and drain; else NULL */
    salvo_batch_pool pool;
    salvo_lane_topic *topics; /* [max_topics] */
    salvo_part *active;       /* partitions with open or ready batches */
    uint64_t share_bytes;     /* of the arena, per topic */
    uint32_t topics_seen;

    void *handle;             /* the driver's */
    salvo_driver_env env;
    bool handle_dead;         /* fatal: all tokens are back, to be closed and opened again */
    uint64_t reopen_at_ns;
    uint32_t reopens_in_row;  /* without an acknowledgement between them */
    uint32_t out_batches;

    uint64_t now_ns, now_tick, round; /* of this round */
    uint64_t closed;          /* batches closed: their sequence */
    uint64_t next_expiry_ns;
    uint64_t next_drain_ns, drain_every_ns, busy_at_ns; /* busy_at: the last record was met */
    uint64_t shortest_linger_ns; /* of topics with records since the last empty pass */
    uint64_t wake_at_ns;      /* when the next round is due if nothing happens */
    bool short_of_memory, giving_up, left_backlog;
    bool hurries;             /* what was submitted is for somebody in a hurry; flusher_submit.c */
    bool thin;                /* the last records came one by one, and nobody lets them linger */
    uint64_t met_at_ns;       /* the pass that took records, the last time */

    /* Flush rounds: see flusher_flush.c. */
    _Atomic uint32_t flush_wanted, flush_done;
    uint32_t flush_round, epoch, *flush_marks; /* marks: [rings] */
    enum { SALVO_FLUSH_IDLE, SALVO_FLUSH_MARKED, SALVO_FLUSH_WAITING } flush_state;
    uint64_t epoch_records[2]; /* unsettled records of this and of the last epoch */

    salvo_histogram *stages[SALVO_STAGES];
    struct {
        uint64_t stamp, count;
    } runs[SALVO_STAGES]; /* equal stamps in a row are measured at once */
    salvo_flusher_counters counters;

    /* Waking; see flusher_run.c. */
    _Atomic uint32_t requests, kicked, parked;
    _Alignas(64) _Atomic uint32_t idle; /* wake=idle: the next sender wakes it */
    int event_fd;
    pthread_t thread;
    bool running;
    /* The driver's state: two texts, `state_at` says which is complete. */
    char state[2][96];
    _Atomic uint32_t state_at;
    uint64_t next_state_ns;
    uint64_t stuck_claims; /* met by salvo_flusher_end() */
};

int salvo_flusher_open(salvo_flusher *f, salvo *producer, uint32_t index, bool sizes_only,
                       char *error, size_t error_size);
void salvo_flusher_close(salvo_flusher *f); /* after its thread ended */
uint64_t salvo_flusher_bytes(const salvo_settings *settings);

/* One round at f's own time; returns how much was done. */
int salvo_flusher_work(salvo_flusher *f);

void salvo_flusher_end(salvo_flusher *f); /* instead of a last round: drops what is left */

int salvo_flusher_start(salvo_flusher *f);
void salvo_flusher_join(salvo_flusher *f);
void salvo_flusher_kick(salvo_flusher *f); /* any thread: work soon */
void salvo_flusher_idle(salvo_flusher *f, int work);
/* wake=idle: whether the next sender may be asked to wake it, as far as its own pace goes. */
bool salvo_flusher_offers(const salvo_flusher *f);

/* Any thread: the driver's state for people. The handle may be closed and opened again by the
 * flusher meanwhile, so the flusher keeps the text (once a second) and readers copy it. */
void salvo_flusher_state(salvo_flusher *f, char *text, size_t size);

/* Between the flusher's files. */
void salvo_flusher_drain(salvo_flusher *f);            /* flusher_drain.c */
void salvo_flusher_know_topic(salvo_flusher *f, uint32_t topic);
void salvo_flusher_route_held(salvo_flusher *f, uint32_t topic);
void salvo_flusher_close_batch(salvo_flusher *f, salvo_part *part, _Atomic uint64_t *why);
void salvo_flusher_close_due(salvo_flusher *f, bool all); /* flusher_close.c */
void salvo_flusher_part_idle(salvo_flusher *f, salvo_part *part);
void salvo_flusher_part_active(salvo_flusher *f, salvo_part *part);
void salvo_flusher_wake_by(salvo_flusher *f, uint64_t at_ns);
int salvo_flusher_submit(salvo_flusher *f);            /* flusher_submit.c */
/* Whether a batch still fits beside what of its partition is out; that it was submitted. */
bool salvo_burst_fits(const salvo_driver_burst *limit, const salvo_part *part,
                      const salvo_batch *b, uint64_t round);
void salvo_burst_count(const salvo_driver_burst *limit, salvo_part *part, const salvo_batch *b,
                       uint64_t round);
int salvo_flusher_poll(salvo_flusher *f);
void salvo_flusher_expire(salvo_flusher *f);
void salvo_flusher_give_up(salvo_flusher *f);
void salvo_flusher_fail_held(salvo_flusher *f, uint32_t topic, int status);
void salvo_flusher_settle(salvo_flusher *f, salvo_batch *b, const salvo_driver_range *ranges,
                          uint32_t range_count); /* flusher_settle.c */
void salvo_flusher_settle_all(salvo_flusher *f, salvo_batch *b, int status);
void salvo_flusher_settle_expired(salvo_flusher *f, salvo_batch *b);
void salvo_flusher_settle_record(salvo_flusher *f, uint32_t topic, const salvo_batch_item *item,
                                 int status);
void salvo_flusher_free_batch(salvo_flusher *f, salvo_batch *b);
void salvo_flusher_charge(salvo_flusher *f, uint32_t topic, uint64_t arena_bytes_before,
                          const salvo_batch *b);
void salvo_flusher_flush_step(salvo_flusher *f);       /* flusher_flush.c */
void salvo_flusher_read_clock(salvo_flusher *f);
void salvo_flusher_measure(salvo_flusher *f, salvo_stage stage, uint64_t stamp);
void salvo_flusher_measure_end(salvo_flusher *f, salvo_stage stage);

static inline void salvo_count(_Atomic uint64_t *counter, uint64_t change)
{
    /* One writer. Release so that a reader who sees an outcome sees what came before it. */
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + change,
                          memory_order_release);
}

#endif
