/* SPDX-License-Identifier: Apache-2.0
 *
 * See probe_noise.h. Medians tell a slice's pace, so that a pause, which hits few requests, is not
 * told twice; a residual is what a request takes more than the middle one of its own slice.
 */
#include "probe_noise.h"

#include "cli.h"
#include "probe_fit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define PAUSE_NS 3000000.0
enum { SLICE_LEAST = 5, FLOW_LEAST = 100, PACE_LEAST = 10, PACE_MOST = 1000000 };

static int64_t *grow(int64_t *values, size_t count, size_t more)
{
    return salvo_cli_realloc(values, (count + more) * sizeof *values);
}

/* Of `count` requests: sorted times in `took`, the middle one. */
static double middle_of(const salvo_noise_request *requests, size_t count, int64_t *took)
{
    for (size_t i = 0; i < count; i++)
        took[i] = requests[i].took_ns;
    salvo_fit_quantiles(took, count, NULL, 0);
    return salvo_fit_percentile(took, count, 50);
}

static bool met_pause(double took_ns, double middle)
{
    return took_ns - middle >= PAUSE_NS && took_ns >= 3 * middle;
}

static size_t keep_pauses(salvo_noise *n, const int64_t *sorted, size_t count, double middle)
{
    size_t met = 0;
    while (met < count && met_pause((double)sorted[count - 1 - met], middle))
        met++;
    if (met == 0)
        return 0;
    n->pauses_ns = grow(n->pauses_ns, n->pause_count, met);
    for (size_t i = count - met; i < count; i++)
        n->pauses_ns[n->pause_count++] = sorted[i] - (int64_t)middle;
    return met;
}

static void keep_pace(salvo_noise *n, double of_flow)
{
    n->pace_permille = salvo_cli_realloc(n->pace_permille,
                                         (n->pace_count + 1) * sizeof *n->pace_permille);
    double permille = fmin(fmax(of_flow * 1000, PACE_LEAST), PACE_MOST);
    n->pace_permille[n->pace_count++] = (uint32_t)(permille + 0.5);
}

/* The slices in turn; returns how many residuals there are. */
static size_t keep_slices(salvo_noise *n, const salvo_noise_request *requests, size_t count,
                          double middle, int64_t *scratch, int64_t *residuals)
{
    size_t kept = 0;
    for (size_t from = 0, to; from < count; from = to) {
        int64_t slice = requests[from].ended_ns / NOISE_SLICE_NS;
        for (to = from; to < count && requests[to].ended_ns / NOISE_SLICE_NS == slice; to++) {}
        double own = to - from < SLICE_LEAST ? middle
                                             : middle_of(requests + from, to - from, scratch);
        if (met_pause(own, middle)) /* pauses tell that */
            own = middle;
        keep_pace(n, own / middle);
        for (size_t i = from; i < to; i++)
            if (!met_pause((double)requests[i].took_ns, middle))
                residuals[kept++] = requests[i].took_ns - (int64_t)own;
    }
    return kept;
}

size_t salvo_noise_add(salvo_noise *n, salvo_noise_request *requests, size_t count,
                       bool pauses_only)
{
    if (count < FLOW_LEAST)
        return 0;
    int64_t *scratch = salvo_cli_alloc(count * sizeof *scratch);
    double middle = middle_of(requests, count, scratch);
    size_t met = keep_pauses(n, scratch, count, middle);
    if (!pauses_only && middle > 0) {
        int64_t *residuals = salvo_cli_alloc(count * sizeof *residuals);
        size_t kept = keep_slices(n, requests, count, middle, scratch, residuals);
        n->residual_ns = grow(n->residual_ns, n->residual_count, NOISE_TABLE);
        salvo_fit_quantiles(residuals, kept, n->residual_ns + n->residual_count, NOISE_TABLE);
        n->residual_count += NOISE_TABLE;
        free(residuals);
    }
    free(scratch);
    return met;
}

size_t salvo_noise_watch(salvo_noise *n, const int64_t *took_ns, size_t count)
{
    if (count < FLOW_LEAST)
        return 0;
    int64_t *scratch = salvo_cli_alloc(count * sizeof *scratch);
    memcpy(scratch, took_ns, count * sizeof *scratch);
    salvo_fit_quantiles(scratch, count, NULL, 0);
    double middle = salvo_fit_percentile(scratch, count, 50);
    size_t met = 0;
    for (size_t i = 0; i < count; i++) {
        bool late = met_pause((double)took_ns[i], middle);
        if (!late || (i > 0 && met_pause((double)took_ns[i - 1], middle)))
            continue;
        n->pauses_ns = grow(n->pauses_ns, n->pause_count, 1);
        n->pauses_ns[n->pause_count++] = took_ns[i] - (int64_t)middle; /* first: waited longest */
        met++;
    }
    free(scratch);
    return met;
}

size_t salvo_noise_residuals(salvo_noise *n, int64_t *table)
{
    if (n->residual_count != 0)
        salvo_fit_quantiles(n->residual_ns, n->residual_count, table, NOISE_TABLE);
    return n->residual_count / NOISE_TABLE;
}

void salvo_noise_free(salvo_noise *n)
{
    free(n->pace_permille);
    free(n->residual_ns);
    free(n->pauses_ns);
}
