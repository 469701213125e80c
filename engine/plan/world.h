/* SPDX-License-Identifier: Apache-2.0
 *
 * A plan's world: a producer in sizes only, and around it time, cores, senders and brokers. One
 * thread steps it from event to event; world.c says in which order.
 *
 *   arrivals.c   who sends what and when; what a full ring does to a sender
 *   driver.c     the driver's table
 *   broker.c     connections, servers, stalls, outages
 *   measure.c    windows, recovery, the result
 */
#ifndef SALVO_PLAN_WORLD_H
#define SALVO_PLAN_WORLD_H

#include "draw.h"
#include "flusher.h"
#include "sizes.h"

enum { PLAN_SERVERS_MAX = 64, PLAN_CORES_MAX = 256, PLAN_TOPICS_MAX = 1024 };
enum { /* kinds of entities: each number of a kind has a stream of random numbers */
    PLAN_STREAM_ARRIVALS = 1, PLAN_STREAM_SIZES, PLAN_STREAM_KEYS, PLAN_STREAM_THREADS,
    PLAN_STREAM_APP, PLAN_STREAM_OVERSHOOT, PLAN_STREAM_SERVICE, PLAN_STREAM_STALLS,
    PLAN_STREAM_STALL_LENGTH, PLAN_STREAM_PAUSES, PLAN_STREAM_PACE
};
#define PLAN_NEVER UINT64_MAX
#define PLAN_NONE UINT32_MAX

typedef struct plan_cpu { /* cpu.c */
    uint64_t *left_ns;    /* of each task: what it has still to do */
    uint32_t *running;    /* tasks that have something to do, in no order */
    uint32_t running_count, cores;
    uint64_t at_ns;       /* so far it is worked off */
    uint64_t busy_ns;
} plan_cpu;

typedef struct plan_source { /* a topic's arrivals */
    uint64_t next_ps;
    salvo_draw arrivals, sizes, keys, threads;
    uint64_t *zipf;
} plan_source;

typedef struct plan_letter { /* a message on its way into a ring */
    uint64_t at_ns;
    uint32_t value_bytes, key;
    uint16_t topic, key_bytes;
    uint32_t thread;
} plan_letter;

typedef struct plan_thread { /* an application thread; waits only under the policy `block` */
    plan_letter *queue;   /* [room], a power of two: the first one is the call that waits */
    uint64_t first, end, room;
    uint64_t since_ns;    /* that call began */
} plan_thread;

typedef struct plan_request {
    uint64_t token, bytes, ready_ns, deadline_ns; /* bytes: with those that ride along */
    uint32_t count, records; /* of its own batch; with those that ride along */
    uint32_t link;        /* [flusher * brokers + broker] */
    uint32_t topic, partition;
    uint32_t next, rider; /* rider: the next batch in the same request */
    uint32_t sent;        /* how often */
    uint32_t batches;     /* in it; those that join later apart */
    bool pushed;          /* the library was told to send it at once */
} plan_request;

typedef struct plan_list { /* of requests, by index */
    uint32_t first, last;
} plan_list;

typedef struct plan_done {
    uint64_t token;
    salvo_driver_range range;
} plan_done;

typedef struct plan_link { /* one flusher's connection to one broker */
    plan_list coming;     /* for the library's thread */
    plan_list waiting;    /* for the window */
    uint32_t in_flight;
    uint64_t thread_free_ns, thread_busy_ns;
} plan_link;

typedef struct plan_handle { /* the driver's, per flusher */
    struct plan_world *world;
    uint32_t index;
    uint32_t out_batches;
    uint64_t out_messages;
    plan_done *done;      /* [max_batches], a ring */
    uint64_t done_first, done_end;
    uint32_t done_room;
    uint64_t message_bytes, limit_bytes; /* of the library's queue; 0: not bounded */
    uint64_t request_bytes, request_records; /* the library joins batches up to that; 0: never */
    plan_list fresh;      /* submitted in the round that runs */
} plan_handle;

typedef struct plan_node { /* a broker */
    uint32_t serving[PLAN_SERVERS_MAX]; /* request, or PLAN_NONE */
    uint64_t end_ns[PLAN_SERVERS_MAX];
    plan_list queue;
    uint64_t frozen_until_ns, down_until_ns, next_stall_ns, busy_ns;
    uint32_t slow_permille, pace_from;
    salvo_draw service, stalls, lengths, pauses;
} plan_node;

typedef struct plan_agent { /* a flusher as the runner sees it */
    uint64_t due_ns;
    bool sleeping, offers_idle;
    uint64_t busy_ns, drained, batches; /* so far */
    uint64_t submitted, records, bytes; /* of a round: batches, what is in them */
    salvo_draw overshoot;
} plan_agent;

typedef struct plan_change { /* an outage begins or ends */
    uint64_t at_ns;
    const salvo_plan_outage *outage;
    bool begins;
} plan_change;

typedef struct plan_measure {
    void *memory, *broker_memory;
    salvo_histogram *window;        /* of this window, in `memory` */
    salvo_histogram *broker;        /* submit to outcome, in `broker_memory` */
    salvo_histogram *calm;          /* of all undisturbed ones */
    salvo_ledger at_start, at_window;
    uint64_t window_from_ns, calm_bad;
    uint64_t calm_peak;             /* pending, before and between disturbances */
    uint64_t recovering_since_ns;   /* PLAN_NEVER: not */
    uint32_t outages_now;
    bool disturbed;                 /* this window */
    bool started;
    uint64_t next_look_ns;
    uint64_t busy_at_start_ns, requests_at_start, retries_at_start;
    uint64_t batches_at_start[4];   /* all, by bytes, by count, by linger */
    salvo_plan_result *result;
    uint32_t room;
} plan_measure;

typedef struct plan_world {
    const salvo_plan_run *run;
    salvo_plan_broker broker;
    salvo_plan_host host;
    salvo_plan_traffic traffic;
    uint64_t now_ns, start_ns, end_ns; /* start: of the measured part */
    salvo *p;
    salvo_thread *thread;              /* as whom the engine counts what is accepted */
    plan_cpu cpu;
    salvo_draw app;
    uint64_t app_next_ns;
    plan_source *sources;
    uint32_t source_count, next_source;
    uint64_t open_ns;                  /* the first instant */
    uint64_t trace_at, trace_base_ns, next_arrival_ns;
    plan_thread *threads;
    uint32_t blocked_threads, thread_turn;
    plan_agent *agents;
    plan_handle **handles;             /* of the flushers, once open */
    plan_link *links;
    plan_node *nodes;
    plan_request *requests;
    uint32_t request_room, free_request;
    plan_change *changes;
    uint32_t change_count, next_change;
    uint64_t requests_done, request_retries;
    uint64_t library_peak;
    plan_measure measure;
    bool out_of_memory;
} plan_world;

/* cpu.c: tasks by number */
enum { PLAN_TASK_APP };

static inline uint32_t plan_task_flusher(uint32_t flusher)
{
    return PLAN_TASK_APP + 1 + flusher;
}

static inline uint32_t plan_task_link(const plan_world *w, uint32_t link)
{
    return plan_task_flusher(w->p->settings.flushers) + link;
}

static inline uint32_t plan_task_server(const plan_world *w, uint32_t node, uint32_t server)
{
    return plan_task_link(w, w->p->settings.flushers * w->broker.brokers) +
           node * w->broker.servers + server;
}

static inline uint32_t plan_task_sender(const plan_world *w, uint32_t thread)
{
    return plan_task_server(w, w->broker.brokers, 0) + thread;
}

int salvo_plan_cpu_open(plan_world *w);
void salvo_plan_cpu_close(plan_world *w);
/* So much work for the task, after what it has. Returns its end less the work itself: where it
 * shares no core, its beginning. */
uint64_t salvo_plan_cpu_take(plan_world *w, uint32_t task, uint64_t cost_ns);

/* world.c */
void salvo_plan_wake(plan_world *w, uint32_t flusher);

static inline uint64_t plan_cost_ns(const salvo_plan_cost *c, uint64_t bytes, uint64_t records)
{
    return c->base_ns + (bytes * c->per_byte_ps + records * c->per_record_ps) / 1000;
}

/* arrivals.c */
int salvo_plan_arrivals_open(plan_world *w);
void salvo_plan_arrivals_close(plan_world *w);
void salvo_plan_arrive(plan_world *w);        /* the arrival at w->next_arrival_ns */
void salvo_plan_arrivals_room(plan_world *w); /* blocked senders try again */
uint64_t salvo_plan_arrivals_deadline(const plan_world *w);

/* driver.c */
extern const salvo_driver_ops salvo_plan_driver;

/* broker.c */
void salvo_plan_list_push(plan_world *w, plan_list *list, uint32_t r); /* at its end */
void salvo_plan_brokers_give_up(plan_world *w, plan_handle *h); /* all of it comes back DROPPED */
int salvo_plan_brokers_open(plan_world *w);
void salvo_plan_brokers_close(plan_world *w);
uint64_t salvo_plan_brokers_next(const plan_world *w);
void salvo_plan_brokers_step(plan_world *w);
void salvo_plan_brokers_change(plan_world *w, const plan_change *change);
void salvo_plan_round_ended(plan_world *w, uint32_t flusher, uint64_t end_ns);

/* measure.c */
int salvo_plan_measure_open(plan_world *w, salvo_plan_result *result);
void salvo_plan_measure_turn(plan_world *w);  /* the warm-up is over, or a window is */
void salvo_plan_measure_before(plan_world *w);      /* a round */
void salvo_plan_measure_round(plan_world *w);
void salvo_plan_measure_change(plan_world *w, bool begins);
void salvo_plan_measure_end(plan_world *w);
void salvo_plan_measure_close(plan_world *w);
uint64_t salvo_plan_measure_next(const plan_world *w); /* when the window ends */

#endif
