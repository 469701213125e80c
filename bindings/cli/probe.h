/* SPDX-License-Identifier: Apache-2.0
 *
 * `salvo probe` between its files:
 *
 *   probe.c          options, the order of things, the topic
 *   probe_requests.c what these have in common
 *   probe_measure.c  the grid, the ramp, and this side's costs
 *   probe_sweep.c    requests in flight; probe_noise.c: how much they differ
 *   probe_load.c     a producer at work: what its parts cost together
 *   probe_model.c    from what was measured to the model (docs/formats.md)
 *   probe_show.c     the table and the picture
 *   probe_host.c     the broker's process, where it is here
 */
#ifndef SALVO_CLI_PROBE_H
#define SALVO_CLI_PROBE_H

#include "cli.h"
#include "probe_fit.h"
#include "probe_host.h"
#include "probe_noise.h"

#include <jansson.h>
#include <salvo/probe.h>
#include <time.h>

enum { PROBE_SHAPES = 32, PROBE_FLOWS = 32, PROBE_STEPS = 64, PROBE_WATCHES = 96, PROBE_ENGINE = 8,
       PROBE_TABLE = NOISE_TABLE, PROBE_NAPS = 400, PROBE_REQUEST_TIMEOUT_S = 60 };

typedef struct salvo_probe_shape {
    uint32_t records, value_bytes;
    int64_t *service_ns; /* of each request, without this thread's CPU */
    size_t count, room;
    uint64_t wall_ns, thread_ns, process_ns; /* sums: of time and of CPU */
    int64_t host_ns;
    double median_ns, model_ns;
} salvo_probe_shape;

typedef struct salvo_probe_step { /* of the ramp */
    double offered_per_s, acknowledged_per_s, requests_per_s;
    uint64_t p50_ns, p99_ns;
    bool kept; /* its p99 did not triple and what was offered was acknowledged */
} salvo_probe_step;

typedef struct salvo_probe_watch { /* a flow with one in flight, or a step of the ramp */
    double wall_ns, requests, bytes, records, pauses; /* bytes, records: of each request */
    bool busy;                                        /* there was always one in flight */
} salvo_probe_watch;

typedef struct salvo_probe_load { /* of a producer: how many times as dear each message was */
    double rate, send, flusher, library, broker; /* rate: messages a second; 0: not measured */
} salvo_probe_load;

typedef struct salvo_probing {
    salvo_cli_settings settings;
    const char *topic, *out, *payload;
    bool quiet;
    uint32_t value_bytes, brokers;
    uint64_t max_rate, seconds, seed;

    salvo_config *config;
    salvo_probe *probe;
    const char *driver;
    bool on_host;   /* the broker's process was found on this host */
    int broker_pid;
    uint64_t broker_idle_permille; /* of a core, without requests */
    char name[300];
    unsigned char *block;
    uint32_t partitions;
    uint64_t random, batch_bytes, batch_messages, linger_ns;

    salvo_probe_shape shapes[PROBE_SHAPES];
    size_t shape_count;
    salvo_fit_flow flows[PROBE_FLOWS];
    size_t flow_count;
    salvo_probe_step steps[PROBE_STEPS];
    size_t step_count;
    salvo_probe_watch watches[PROBE_WATCHES];
    size_t watch_count;
    salvo_probe_step limit;
    bool limit_met;
    uint64_t failed, observed_ns; /* requests that failed; time with something in flight */
    int failed_status;
    double steal_percent;          /* of the processors: what the host above took meanwhile */
    uint64_t background_permille;  /* of a core: what the host did before */

    salvo_probe_engine engine[PROBE_ENGINE];
    uint32_t engine_bytes[PROBE_ENGINE];
    int64_t naps[PROBE_NAPS];

    /* the model */
    salvo_fit_cost service, thread, flusher, library, host; /* thread: at the driver's seam */
    salvo_fit_window window;
    double flow_model[PROBE_FLOWS]; /* requests a second, as the model has them */
    bool bursts;      /* one request's worth of a partition at a time */
    double pushed_ns; /* a request that the library is hurried to send is answered so much sooner */
    double library_request_ns, round_ns, call_ps, call_byte_ps, overshoot_mean_ns;
    int64_t residual[PROBE_TABLE], overshoot[PROBE_TABLE];
    int64_t *stalls;
    size_t stall_count;
    salvo_noise noise; /* under load */
    salvo_probe_load load;
    double errors[3]; /* p50, p90, max of the fit, per cent */
} salvo_probing;

/* Each 0, or a status after a printed error. */
int salvo_probing_own_costs(salvo_probing *p);
int salvo_probing_grid(salvo_probing *p, uint64_t budget_ns);
int salvo_probing_sweep(salvo_probing *p, uint64_t budget_ns);
int salvo_probing_ramp(salvo_probing *p, uint64_t budget_ns);
uint64_t salvo_probing_least_rate(uint64_t budget_ns); /* of --max-rate, for such a ramp */
int salvo_probing_fit_requests(salvo_probing *p); /* needs grid and own costs */
void salvo_probing_fit_flows(salvo_probing *p);   /* needs that */
/* Needs that: it corrects the costs of messages. Opens a connection of its own. */
int salvo_probing_load(salvo_probing *p, const char *topic, uint64_t length_ns);

/* probe_requests.c. Status after a printed error, or 0; make: an error of the engine's. */
int salvo_probing_failed(const char *what, int err);
int salvo_probing_interrupted(void);
int salvo_probing_make(salvo_probing *p, uint32_t records, uint32_t value_bytes,
                       uint32_t partition, uint32_t *batch);
void salvo_probing_note(salvo_probing *p, const salvo_probe_sample *s); /* whether it failed */
void salvo_probing_watched(salvo_probing *p, const salvo_probe_watch *w); /* while there is room */
int salvo_probing_settle(salvo_probing *p); /* waits until none is out */
void salvo_probing_sleep(uint64_t ns);
uint64_t salvo_probing_cpu_ns(clockid_t whose);
uint64_t salvo_probing_process_cpu_ns(void);

json_t *salvo_probing_model(const salvo_probing *p);
void salvo_probing_show(const salvo_probing *p, FILE *to);

void salvo_probing_progress(const salvo_probing *p, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
