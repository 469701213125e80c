/* SPDX-License-Identifier: Apache-2.0
 *
 * The fit of a broker model. Costs: every set of coefficients that may be 0 is solved exactly and
 * the best one without a negative is taken (eight sets of three). Window and servers: each pair
 * plays the measured flows, as the planner would, and the one that comes nearest is taken.
 */
#include "probe_fit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FLIGHT_MOST = 256, PLAYED = 4000 /* requests of a flow */ };

double salvo_fit_ns(const salvo_fit_cost *cost, double bytes, double records)
{
    return cost->base_ns + bytes * cost->per_byte_ns + records * cost->per_record_ns;
}

/* Solve the n equations of a in place (Gauss with pivots); false: they are dependent. */
static bool solve(double a[3][4], int n)
{
    for (int i = 0; i < n; i++) {
        int pivot = i;
        for (int k = i + 1; k < n; k++)
            if (fabs(a[k][i]) > fabs(a[pivot][i]))
                pivot = k;
        if (fabs(a[pivot][i]) < 1e-12)
            return false;
        for (int j = 0; j <= n; j++) {
            double swap = a[i][j];
            a[i][j] = a[pivot][j];
            a[pivot][j] = swap;
        }
        for (int k = 0; k < n; k++) {
            double factor = k == i ? 0 : a[k][i] / a[i][i];
            for (int j = i; j <= n && factor != 0; j++)
                a[k][j] -= factor * a[i][j];
        }
    }
    return true;
}

/* Least squares with three unknowns, as their normal equations. */
typedef struct equations {
    double a[3][3], b[3], yy;
} equations;

static void add_row(equations *e, const double row[3], double y)
{
    for (int i = 0; i < 3; i++) {
        for (int j = 0; j < 3; j++)
            e->a[i][j] += row[i] * row[j];
        e->b[i] += row[i] * y;
    }
    e->yy += y * y;
}

/* With the unknowns of this set alone, scaled to be of one size. */
static bool solve_set(const equations *e, unsigned set, double x[3])
{
    double a[3][4] = {{0}}, scale[3];
    int columns[3], n = 0;
    for (int i = 0; i < 3; i++) {
        scale[i] = e->a[i][i] > 0 ? 1 / sqrt(e->a[i][i]) : 1;
        if ((set >> i & 1) != 0)
            columns[n++] = i;
    }
    for (int i = 0; i < n; i++) {
        for (int j = 0; j < n; j++)
            a[i][j] = e->a[columns[i]][columns[j]] * scale[columns[i]] * scale[columns[j]];
        a[i][n] = e->b[columns[i]] * scale[columns[i]];
    }
    if (!solve(a, n))
        return false;
    memset(x, 0, 3 * sizeof *x);
    for (int i = 0; i < n; i++) {
        x[columns[i]] = a[i][n] / a[i][i] * scale[columns[i]];
        if (x[columns[i]] < 0)
            return false;
    }
    return true;
}

static double misfit(const equations *e, const double x[3])
{
    double sum = e->yy;
    for (int i = 0; i < 3; i++) {
        sum -= 2 * x[i] * e->b[i];
        for (int j = 0; j < 3; j++)
            sum += x[i] * e->a[i][j] * x[j];
    }
    return sum;
}

static bool solve_nonnegative(const equations *e, double best[3])
{
    double least = INFINITY, x[3];
    for (unsigned set = 1; set < 8; set++) {
        double error = solve_set(e, set, x) ? misfit(e, x) : INFINITY;
        if (error < least) {
            least = error;
            memcpy(best, x, sizeof x);
        }
    }
    return least < INFINITY;
}

bool salvo_fit_request(const salvo_fit_point *points, size_t count, salvo_fit_cost *cost)
{
    equations e = {0};
    double x[3];
    if (count < 3)
        return false;
    for (size_t i = 0; i < count; i++) {
        double ns = points[i].ns;
        if (!(ns > 0))
            return false;
        /* divided by the measured time, so that errors are relative */
        add_row(&e, (double[3]){1 / ns, points[i].bytes / ns, points[i].records / ns}, 1);
    }
    if (!solve_nonnegative(&e, x))
        return false;
    *cost = (salvo_fit_cost){x[0], x[1], x[2]};
    return true;
}

/* ---- Flows ---- */

typedef struct play {
    double thread_ns, library_ns, service_ns; /* of each request */
    uint32_t window, servers;
    double now, thread_free, library_free;
    double waiting_at[FLIGHT_MOST]; /* when the client has handed it over */
    double end[FLIGHT_MOST];        /* 0: not yet served */
    uint32_t waiting, sent;
    uint64_t done;
} play;

/* The client makes one more request. */
static void hand_over(play *p)
{
    p->thread_free = fmax(p->now, p->thread_free) + p->thread_ns;
    double begin = fmax(p->thread_free, p->library_free);
    p->library_free = begin + p->library_ns; /* the service time has it in it: what follows waits */
    p->waiting_at[p->waiting++] = begin;
}

static void cut(double *list, uint32_t *count, uint32_t at)
{
    --*count;
    memmove(&list[at], &list[at + 1], (*count - at) * sizeof *list);
}

static void move(play *p)
{
    while (p->waiting != 0 && p->sent < p->window && p->waiting_at[0] <= p->now) {
        cut(p->waiting_at, &p->waiting, 0);
        p->end[p->sent++] = 0;
    }
    for (uint32_t i = 0; i < p->sent && i < p->servers; i++) /* in the order of sending */
        if (p->end[i] == 0)
            p->end[i] = p->now + p->service_ns;
}

static bool step(play *p)
{
    double next = INFINITY;
    uint32_t which = FLIGHT_MOST;
    for (uint32_t i = 0; i < p->sent; i++)
        if (p->end[i] != 0 && p->end[i] < next) {
            next = p->end[i];
            which = i;
        }
    if (p->waiting != 0 && p->sent < p->window && p->waiting_at[0] < next) {
        p->now = fmax(p->now, p->waiting_at[0]);
        return true;
    }
    if (which == FLIGHT_MOST)
        return false;
    p->now = next;
    p->done++;
    cut(p->end, &p->sent, which);
    hand_over(p);
    return true;
}

static double of_request(const salvo_fit_cost *cost, const salvo_fit_flow *flow)
{
    return cost->base_ns * flow->batches + flow->bytes * cost->per_byte_ns +
           flow->records * cost->per_record_ns;
}

double salvo_fit_rate(const salvo_fit_flow *flow, const salvo_fit_cost *service,
                      const salvo_fit_client *client, uint32_t window, uint32_t servers)
{
    double begin = 0;
    uint64_t before = 0;
    if (flow->in_flight == 0 || flow->in_flight > FLIGHT_MOST || window == 0)
        return 0;
    play p = {.window = window, .servers = servers,
              .thread_ns = of_request(&client->thread, flow),
              .library_ns = of_request(&client->library, flow) + client->request_ns,
              .service_ns = salvo_fit_ns(service, flow->bytes, flow->records)};
    for (uint32_t i = 0; i < flow->in_flight; i++)
        hand_over(&p);
    move(&p);
    while (p.done < PLAYED && step(&p)) {
        move(&p);
        if (before == 0 && p.done >= PLAYED / 4) {
            before = p.done;
            begin = p.now;
        }
    }
    return p.now > begin ? (double)(p.done - before) / (p.now - begin) * 1e9 : 0;
}

void salvo_fit_split(double base, double each, double merged, double *batch_ns, double *request_ns)
{
    *batch_ns = base;
    *request_ns = 0;
    if (merged < 1.5 || each >= base)
        return;
    double request = (base - fmax(each, 0)) / (1 - 1 / merged);
    *request_ns = fmin(request, base);
    *batch_ns = base - *request_ns;
}

salvo_fit_window salvo_fit_flows(const salvo_fit_flow *flows, size_t count,
                                 const salvo_fit_cost *service, const salvo_fit_client *client,
                                 uint32_t most)
{
    static const uint32_t servers[] = {1, 2, 3, 4, 5, 6, 8, 12, 16},
                          windows[] = {64, 32, 24, 16, 12, 10, 8, 7, 6, 5, 4, 3, 2, 1};
    enum { SERVERS = sizeof servers / sizeof *servers, WINDOWS = sizeof windows / sizeof *windows };
    salvo_fit_window best = {.window = 1, .servers = 1, .error = INFINITY};
    for (size_t k = 0; k < SERVERS; k++)
        for (size_t w = 0; w < WINDOWS && windows[w] >= servers[k]; w++) {
            double sum = 0;
            if (windows[w] > most)
                continue;
            for (size_t i = 0; i < count; i++) {
                double rate = salvo_fit_rate(&flows[i], service, client, windows[w], servers[k]);
                double e = flows[i].per_s > 0 && rate > 0 ? log(rate / flows[i].per_s) : 0;
                sum += fabs(e); /* not its square: what a hiccup spoilt counts once */
            }
            double error = sum / (double)(count != 0 ? count : 1);
            if (error < best.error * 0.97 - 1e-6)
                best = (salvo_fit_window){windows[w], servers[k],
                                          w != 0 && windows[w] != most, error};
        }
    return best;
}

salvo_fit_pause_rates salvo_fit_pauses(const salvo_fit_watch *watches, size_t count)
{
    equations e = {0};
    double x[3] = {0};
    for (size_t i = 0; i < count; i++) {
        const salvo_fit_watch *w = &watches[i];
        double weight = 1 / sqrt(fmax(w->pauses, 1)); /* a count scatters by its root */
        add_row(&e, (double[3]){w->wall_ns * weight, w->busy_ns * weight, w->bytes * weight},
                w->pauses * weight);
    }
    (void)solve_nonnegative(&e, x); /* nothing was watched: 0 */
    return (salvo_fit_pause_rates){x[0], x[1], x[2]};
}

/* ---- Quantiles ---- */

static int ascending(const void *a, const void *b)
{
    int64_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x > y) - (x < y);
}

double salvo_fit_percentile(const int64_t *sorted, size_t count, double percentile)
{
    if (count == 0)
        return 0;
    double at = percentile / 100 * (double)(count - 1);
    size_t low = (size_t)at, high = low + 1 < count ? low + 1 : low;
    return (double)sorted[low] + (at - (double)low) * (double)(sorted[high] - sorted[low]);
}

void salvo_fit_quantiles(int64_t *values, size_t count, int64_t *table, size_t size)
{
    qsort(values, count, sizeof *values, ascending);
    for (size_t i = 0; i < size; i++)
        table[i] = (int64_t)salvo_fit_percentile(values, count,
                                                 100.0 * (double)i / (double)(size - 1));
}

double salvo_fit_at_work(const salvo_fit_work *work, salvo_fit_cost *const *costs, size_t count)
{
    double varies_ns = 0, rest_ns = work->measured_ns - work->fixed_ns;
    for (size_t i = 0; i < count; i++)
        varies_ns += work->each * (costs[i]->per_record_ns + costs[i]->per_byte_ns * work->bytes);
    if (varies_ns <= 0 || varies_ns < work->least_ns || rest_ns <= 0)
        return 1;
    double by = fmax(0.25, fmin(10, rest_ns / varies_ns));
    for (size_t i = 0; i < count; i++) {
        costs[i]->per_record_ns *= by;
        costs[i]->per_byte_ns *= by;
    }
    return by;
}
