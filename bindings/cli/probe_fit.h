/* SPDX-License-Identifier: Apache-2.0
 *
 * From measured requests to a broker model: the cost of a request, how many are in flight and
 * served at a time, and tables of quantiles. No I/O and no time: the same figures, the same model.
 */
#ifndef SALVO_CLI_PROBE_FIT_H
#define SALVO_CLI_PROBE_FIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct salvo_fit_point { /* of one shape of request */
    double bytes, records, ns;
} salvo_fit_point;

typedef struct salvo_fit_cost {
    double base_ns, per_byte_ns, per_record_ns;
} salvo_fit_cost;

/* Least squares of the relative errors, no coefficient below 0. False: fewer than 3 points, or
 * one whose ns is not positive. */
bool salvo_fit_request(const salvo_fit_point *points, size_t count, salvo_fit_cost *cost);
double salvo_fit_ns(const salvo_fit_cost *cost, double bytes, double records);

/* So many requests are kept in flight; each that comes back is sent again at once. */
typedef struct salvo_fit_flow {
    double bytes, records; /* of each */
    uint32_t in_flight, batches; /* batches: in each */
    double per_s;          /* measured */
    double thread_ns, library_ns, host_ns; /* CPU of each: ours, the library's, the broker's here */
} salvo_fit_flow;

typedef struct salvo_fit_client { /* of this side: one after the other; base: a batch */
    salvo_fit_cost thread, library;
    double request_ns; /* the library's, of a request, however many batches are in it */
} salvo_fit_client;

/* What a broker with such a window and so many servers would do. */
double salvo_fit_rate(const salvo_fit_flow *flow, const salvo_fit_cost *service,
                      const salvo_fit_client *client, uint32_t window, uint32_t servers);

/* base: what a request costs by itself, with one batch in it; each: what a batch costs of it where
 * `merged` share one. Splits base into a batch's part and a request's. */
void salvo_fit_split(double base, double each, double merged, double *batch_ns,
                     double *request_ns);

typedef struct salvo_fit_window {
    uint32_t window, servers;
    bool window_seen; /* else it is the largest that was tried or may be */
    double error;     /* mean of the relative errors */
} salvo_fit_window;

/* The pair that explains the flows best, with a window of at most `most`; the simpler of two that
 * do it alike. */
salvo_fit_window salvo_fit_flows(const salvo_fit_flow *flows, size_t count,
                                 const salvo_fit_cost *service, const salvo_fit_client *client,
                                 uint32_t most);

/* A broker, watched for a while: so long, so long of it at work, so much it took, and how often it
 * paused. */
typedef struct salvo_fit_watch {
    double wall_ns, busy_ns, bytes, pauses;
} salvo_fit_watch;

typedef struct salvo_fit_pause_rates {
    double per_ns, per_busy_ns, per_byte;
} salvo_fit_pause_rates;

/* Pauses that come with time, with work and with bytes: least squares, each count weighted by its
 * own scatter, none below 0. Needs times with little work and with much to tell them apart. */
salvo_fit_pause_rates salvo_fit_pauses(const salvo_fit_watch *watches, size_t count);

/* What parts did at work: `each` messages of so many bytes, measured_ns in all, fixed_ns of it for
 * their batches. Multiplies what goes with messages and bytes in all `costs` alike, so that they
 * come to that, and returns by how much (0.25 to 10): 1 and nothing changed where they came to
 * less than least_ns, or nothing was measured beyond fixed_ns. */
typedef struct salvo_fit_work {
    double measured_ns, fixed_ns, each, bytes, least_ns;
} salvo_fit_work;
double salvo_fit_at_work(const salvo_fit_work *work, salvo_fit_cost *const *costs, size_t count);

/* Sorts values; size quantiles at equal steps of probability. */
void salvo_fit_quantiles(int64_t *values, size_t count, int64_t *table, size_t size);
double salvo_fit_percentile(const int64_t *sorted, size_t count, double percentile);

#endif
