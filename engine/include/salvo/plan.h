/* SPDX-License-Identifier: Apache-2.0
 *
 * A producer under a virtual clock: the engine's own rounds, batches, partitioner, linger, window,
 * retries, deadlines and full policies, run against modelled traffic, cores and broker. Nothing is
 * copied, encoded or sent, no thread is started, and no memory is taken for messages' bytes.
 *
 * Guarantee: integers only; no host, path, wall clock or mathematical library has a part in the
 * result, and each entity draws from a stream of its own. The same input gives the same result.
 * Times are nanoseconds, `_ps` picoseconds, `_permille` thousandths. 0 means the default that is
 * named, else none.
 */
#ifndef SALVO_PLAN_H
#define SALVO_PLAN_H

#include <salvo/config.h>
#include <salvo/stats.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Quantiles at equal steps of probability, ascending; one value: constant; none: 0. Between two
 * of them values are drawn evenly. */
typedef struct salvo_plan_table {
    const int64_t *values;
    uint32_t count;
} salvo_plan_table;

typedef struct salvo_plan_cost { /* of a core */
    uint64_t base_ns, per_byte_ps, per_record_ps;
} salvo_plan_cost;

typedef struct salvo_plan_broker {
    uint32_t brokers;    /* 1 */
    uint32_t partitions; /* of each topic; 1 */
    uint32_t window;     /* requests in flight on a connection; 1 */
    uint32_t servers;    /* requests served at a time by a broker; 1; at most 64 */
    salvo_plan_cost service;       /* base: a request */
    salvo_plan_table residual_ns;
    uint64_t stalls_per_hour;
    salvo_plan_table stall_ns;
    uint64_t reconnect_ns;         /* 100 ms */
    uint64_t request_timeout_ns;   /* 30 s */
    salvo_plan_cost on_host;       /* what a broker on the same cores uses; base: a request */
    uint64_t pauses_per_tib;       /* a broker rests so often as it takes bytes; at most 10^9 */
    uint64_t pauses_per_busy_hour; /* and so often as its servers are at work; at most 3,600,000 */
    salvo_plan_table pause_ns;
    uint64_t pushed_ns;            /* a request that is hurried on is answered so much sooner */
    const uint32_t *pace_permille; /* service times in slices of time, of what they are else:
                                      played from a random one on, over and over; none: 1000 */
    uint32_t pace_count;
    uint64_t pace_slice_ns;
} salvo_plan_broker;

typedef struct salvo_plan_host {
    uint32_t cores;                /* 2 */
    uint32_t app_busy_permille;    /* of one core, by the application itself */
    uint64_t app_slice_ns;         /* for how long at a time; 200 us */
    uint64_t round_ns;             /* the flusher: a round of work */
    salvo_plan_cost flusher;       /* what it drains; base: a batch */
    salvo_plan_cost submit;        /* what it gives to the driver, which leaves after that; base: a
                                      batch; codec included */
    salvo_plan_cost library;       /* the client library's thread of a connection; base: a batch */
    uint64_t send_ps, send_per_byte_ps; /* the calling thread */
    salvo_plan_table overshoot_ns; /* how late a sleeping flusher wakes */
    uint64_t library_request_ns;   /* the client library's thread: a request, however many batches
                                      leave in it */
} salvo_plan_host;

typedef struct salvo_plan_topic {
    uint64_t rate_per_s;
    salvo_plan_table value_bytes;  /* at least 0 each */
    uint32_t keys;                 /* 0: messages without keys */
    uint32_t key_bytes;            /* 8 */
    uint32_t zipf;                 /* not 0: key k is drawn in proportion to 1 / k */
} salvo_plan_topic;

enum { SALVO_PLAN_CONSTANT, SALVO_PLAN_POISSON };

typedef struct salvo_plan_arrival { /* of a trace, in the order of time */
    uint64_t at_ns;
    uint32_t value_bytes, key;
    uint16_t topic, key_bytes;
    uint32_t reserved;
} salvo_plan_arrival;

typedef struct salvo_plan_traffic {
    const salvo_plan_topic *topics;
    uint32_t topic_count;
    uint32_t threads;              /* that send; 1 */
    uint32_t arrivals;             /* SALVO_PLAN_... */
    uint32_t scale_permille;       /* of all rates; 1000 */
    uint32_t burst_permille;       /* rate within bursts, of the rate; 0: none */
    uint64_t burst_ns, burst_every_ns;
    const salvo_plan_arrival *trace; /* instead of rates and sizes; starts again at its end */
    uint64_t trace_count, trace_ns;
    uint64_t from_ns;              /* bursts and a trace are taken from there on, as if it had run
                                      so long; a trace: less than trace_ns, in its own time */
} salvo_plan_traffic;

enum { SALVO_PLAN_REFUSE, SALVO_PLAN_BLACK_HOLE, SALVO_PLAN_SLOW };

typedef struct salvo_plan_outage {
    uint64_t from_ns, for_ns;      /* from: since the beginning of the measured part */
    uint32_t kind;                 /* SALVO_PLAN_... */
    uint32_t brokers;              /* how many; 0: all */
    uint32_t slow_permille;        /* of the service time */
    uint32_t reserved;
} salvo_plan_outage;

typedef struct salvo_plan_run {
    size_t size;                   /* sizeof(salvo_plan_run) */
    const salvo_config *config;    /* the producer's; its message_broker is modelled */
    salvo_plan_traffic traffic;
    salvo_plan_broker broker;
    salvo_plan_host host;
    const salvo_plan_outage *outages;
    uint32_t outage_count;
    uint32_t reserved;
    uint64_t seed;
    uint64_t warmup_ns, duration_ns;
    uint64_t window_ns;            /* 10 s */
} salvo_plan_run;

typedef struct salvo_plan_window {
    uint64_t from_ns, for_ns;
    uint64_t offered, refused, acknowledged;
    uint64_t p50_ns, p99_ns, max_ns; /* stamp to outcome; UINT64_MAX: among those that failed */
    uint64_t pending;              /* at its end */
    uint32_t disturbed;            /* not 0: an outage, or the recovery from it */
    uint32_t reserved;
} salvo_plan_window;

typedef struct salvo_plan_result {
    size_t size;
    salvo_ledger ledger;           /* of the measured part */
    uint64_t blocked, blocked_longest_ns; /* sends that had to wait for room */
    uint64_t p50_ns, p99_ns, p999_ns, max_ns; /* of undisturbed windows together */
    uint64_t worst_p50_ns, worst_p99_ns;      /* the worst undisturbed window */
    uint64_t broker_p50_ns;        /* the stage `broker`, submit to outcome; disturbed or not */
    uint64_t recovery_ns;          /* the longest, from an outage's end; UINT64_MAX: not over */
    uint64_t batches, closed_by_bytes, closed_by_count, closed_by_linger, requests, retries;
    uint64_t ring_bytes, ring_peak_bytes;     /* of all rings */
    uint64_t arena_bytes, arena_peak_bytes;
    uint64_t share_bytes, share_peak_bytes;   /* of a topic, in one flusher's arena */
    uint64_t library_peak_bytes;   /* the client library's queue */
    uint64_t library_bytes;
    uint64_t in_flight_peak;       /* requests at one time on the fullest connection */
    uint64_t request_bytes_peak, request_records_peak; /* what the largest requests held */
    uint64_t oldest_ns;            /* the oldest message was so old when it was settled */
    uint64_t memory_bytes;         /* as the producer would report it */
    uint64_t flusher_busy_permille; /* of a core, the busiest flusher */
    uint64_t library_busy_permille; /* the busiest connection's thread */
    uint64_t server_busy_permille; /* of the busiest broker's servers */
    uint64_t cores_busy_permille;  /* of all cores together */
    uint64_t growing;              /* not 0: pending grew from window to window to the end */
    uint64_t rounds, records;      /* what was simulated */
    uint32_t rings, reserved;      /* of a flusher */
    uint32_t window_count, reserved2;
    salvo_plan_window *windows;
} salvo_plan_result;

/* 0, SALVO_ERR_INVALID, SALVO_ERR_CONFIG or SALVO_ERR_NOMEM; salvo_last_error() tells more. */
SALVO_API SALVO_MUST_USE int salvo_plan_simulate(const salvo_plan_run *run,
                                                 salvo_plan_result *result);
SALVO_API void salvo_plan_result_free(salvo_plan_result *result);


#ifdef __cplusplus
}
#endif
#endif
