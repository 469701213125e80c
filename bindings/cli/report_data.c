/* SPDX-License-Identifier: Apache-2.0
 *
 * What the charts draw, computed here so that the page only draws: the curves of percentiles in
 * steps of halving distance to 100 %, the seconds thinned to at most REPORT_SLICES, the means of
 * the stages.
 */
#include "load_result.h"
#include "report.h"

#include <math.h>
#include <string.h>

#define STEPS 6 /* for each halving of the distance */

const char *const salvo_report_columns[] = {"acknowledged", "accepted", "call", "consumed", NULL};
const char *const salvo_report_stages[] = {"enqueue", "queue", "broker", "total", NULL};

static json_t *point(double x, double ns)
{
    return json_pack("[f,f]", x, ns);
}

/* Points [1/(1-p), ns] up to the last percentile that arrived; x ends at the number of messages.
 * never: how many messages did not arrive. */
static json_t *curve(const json_t *column)
{
    uint64_t infinite, last = SALVO_INFINITE;
    json_t *points = json_array();
    salvo_histogram *h = salvo_result_decode(column, &infinite);
    double total = h ? (double)salvo_histogram_count(h) + (double)infinite : 0;
    double distance = 1;
    for (unsigned i = 0; total > 0 && i < 64 * STEPS; i++) {
        double here = distance * (1 - 0.5 * (i % STEPS) / STEPS);
        if (i % STEPS == STEPS - 1)
            distance /= 2;
        bool end = here * total <= 1;
        uint64_t ns = salvo_result_at(h, infinite, end ? 100 : 100 * (1 - here));
        if (ns == SALVO_INFINITE)
            break;
        /* 0 has no place on a logarithmic axis. */
        if (end || ns != last || i % STEPS == 0)
            json_array_append_new(points, point(end ? total : 1 / here, ns > 0 ? (double)ns : 1));
        last = ns;
        if (end)
            break;
    }
    salvo_histogram_free(h);
    return json_pack("{s:o, s:f}", "points", points, "never", (double)infinite);
}

static json_t *curves(const json_t *result)
{
    json_t *all = json_object();
    for (size_t i = 0; salvo_report_columns[i]; i++) {
        const json_t *column =
            json_object_get(json_object_get(result, "columns"), salvo_report_columns[i]);
        if (column)
            json_object_set_new(all, salvo_report_columns[i], curve(column));
    }
    return all;
}

/* --- over time ------------------------------------------------------------------------------- */

static double member(const json_t *slice, const char *name)
{
    double value = json_number_value(json_object_get(slice, name));
    return fmin(fmax(value, 0), 1e18);
}

typedef struct part {
    double offered, accepted, acknowledged, refused, p50, p99;
    bool never;
    size_t seconds;
} part;

static void add(part *sum, const json_t *slice)
{
    double arrived = member(slice, "acknowledged");
    const json_t *p99 = json_object_get(slice, "p99_ns");
    sum->offered += member(slice, "offered");
    sum->accepted += member(slice, "accepted");
    sum->acknowledged += arrived;
    sum->refused += member(slice, "refused");
    sum->p50 = fmax(sum->p50, member(slice, "p50_ns"));
    sum->p99 = fmax(sum->p99, member(slice, "p99_ns"));
    sum->never |= json_is_null(p99);
    sum->seconds++;
}

/* A percentile of several seconds is the worst of theirs; of none, null. */
static json_t *slice_of(const part *sum, double at_s)
{
    double n = (double)sum->seconds;
    return json_pack("{s:f, s:f, s:f, s:f, s:f, s:o, s:o, s:b}", "at_s", at_s, "offered",
                     sum->offered / n, "accepted", sum->accepted / n, "acknowledged",
                     sum->acknowledged / n, "refused", sum->refused / n, "p50_ns",
                     sum->p50 > 0 ? json_real(sum->p50) : json_null(), "p99_ns",
                     sum->p99 > 0 && !sum->never ? json_real(sum->p99) : json_null(), "never",
                     sum->never);
}

json_t *salvo_report_thin(const json_t *result)
{
    const json_t *seconds = json_object_get(result, "over_time");
    size_t count = json_array_size(seconds);
    size_t step = (count + REPORT_SLICES - 1) / REPORT_SLICES;
    json_t *slices = json_array();
    for (size_t i = 0; i < count; i += step) {
        part sum = {0};
        for (size_t k = i; k < count && k < i + step; k++)
            add(&sum, json_array_get(seconds, k));
        json_array_append_new(slices, slice_of(&sum, member(json_array_get(seconds, i), "at_s")));
    }
    return slices;
}

/* --- stages ---------------------------------------------------------------------------------- */

/* Means add up; percentiles do not. What no stage covers is the time in a batch: the linger. */
static json_t *stages(const json_t *result)
{
    json_t *means = json_object();
    double sum = 0, total = salvo_report_look(result, "stages.total.mean_ns").number;
    for (size_t i = 0; strcmp(salvo_report_stages[i], "total") != 0; i++) {
        char path[64];
        snprintf(path, sizeof path, "stages.%s.mean_ns", salvo_report_stages[i]);
        double mean = fmax(salvo_report_look(result, path).number, 0);
        json_object_set_new(means, salvo_report_stages[i], json_real(mean));
        sum += mean;
    }
    json_object_set_new(means, "batch", json_real(fmax(total - sum, 0)));
    return total > 0 ? means : (json_decref(means), json_null());
}

json_t *salvo_report_data(const salvo_page *report)
{
    json_t *runs = json_array();
    for (size_t i = 0; i < report->count; i++) {
        const salvo_report_run *run = &report->runs[i];
        json_array_append_new(runs, json_pack("{s:s, s:b, s:o, s:O, s:o}", "name", run->name,
                                              "valid", salvo_report_valid(run), "curves",
                                              curves(run->result), "over_time", run->slices,
                                              "stages", stages(run->result)));
    }
    return json_pack("{s:o}", "runs", runs);
}
