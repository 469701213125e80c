/* SPDX-License-Identifier: Apache-2.0
 *
 * A result for people: the rates with drops and CPU beside them, a table of columns and
 * percentiles, a picture of the distribution, and what speaks against believing it.
 */
#include "bench.h"
#include "load_result.h"
#include "picture.h"

#include <math.h>
#include <string.h>

static const char *const percentiles[] = {"p50", "p90", "p99", "p99.9", "p99.99", "max"};
#define PERCENTILES (sizeof percentiles / sizeof percentiles[0])
#define PICTURE_ROWS 14

static double number(const json_t *object, const char *name)
{
    return json_number_value(json_object_get(object, name));
}

static const char *count(double value, char *text)
{
    return salvo_picture_count(value > 0 ? (uint64_t)(value + 0.5) : 0, text);
}

static void show_rates(FILE *to, const json_t *result)
{
    char a[28], b[28], c[28], d[28];
    const json_t *ledger = json_object_get(result, "ledger");
    double refused = number(ledger, "offered") - number(ledger, "accepted");
    double lost = number(ledger, "failed") + number(ledger, "expired") +
                  number(ledger, "dropped") + number(ledger, "pending");
    fprintf(to, "%s messages/s offered, %s accepted, %s acknowledged, %.1f MB/s\n",
            count(number(result, "offered_per_s"), a), count(number(result, "accepted_per_s"), b),
            count(number(result, "acknowledged_per_s"), c), number(result, "bytes_per_s") / 1e6);
    fprintf(to, "%s refused, %s lost; %s ns of CPU a message\n\n", count(refused, a),
            count(lost, b), count(number(result, "cpu_ns_per_message"), d));
}

static void show_row(FILE *to, const char *name, const json_t *column)
{
    char text[16];
    fprintf(to, "%-12s", name);
    for (size_t i = 0; i < PERCENTILES; i++) {
        uint64_t ns;
        bool any = salvo_result_percentile(column, percentiles[i], &ns);
        fprintf(to, " %9s", any ? salvo_bench_time(ns, text) : "-");
    }
    fprintf(to, "%s\n", json_is_true(json_object_get(column, "invalid")) ? "  INVALID" : "");
}

static void show_table(FILE *to, const json_t *result)
{
    const json_t *columns = json_object_get(result, "columns");
    const json_t *generator = json_object_get(result, "generator");
    fprintf(to, "%-12s", "latency");
    for (size_t i = 0; i < PERCENTILES; i++)
        fprintf(to, " %9s", percentiles[i]);
    fputc('\n', to);
    for (int c = 0; c < BENCH_SHOWN; c++) {
        const json_t *column = json_object_get(columns, salvo_bench_columns[c]);
        if (column)
            show_row(to, salvo_bench_columns[c], column);
    }
    show_row(to, "(lateness)", json_object_get(generator, "lateness"));
    show_row(to, "(hiccups)", json_object_get(generator, "hiccups"));
    if (number(generator, "steal_percent") >= 0.05)
        fprintf(to, "%.1f %% of the processors was stolen by the host\n",
                number(generator, "steal_percent"));
}

/* Shares of a histogram in bins of equal width on a logarithmic axis. */
static void show_shares(FILE *to, const salvo_histogram *h, uint64_t infinite, const char *name)
{
    const salvo_picture picture = salvo_picture_for(to);
    salvo_latency latency;
    salvo_histogram_summary(h, &latency);
    double low = log10((double)(latency.min ? latency.min : 1)), high = log10((double)latency.max);
    double step = high > low ? (high - low) / PICTURE_ROWS : 0.1;
    uint64_t below = 0, most = infinite, bins[PICTURE_ROWS];
    for (int i = 0; i < PICTURE_ROWS; i++) {
        double edge = pow(10, low + (i + 1) * step) + 1;
        uint64_t upto = i == PICTURE_ROWS - 1 ? latency.count
                                              : salvo_histogram_upto(h, (uint64_t)edge);
        bins[i] = upto - below;
        below = upto;
        most = bins[i] > most ? bins[i] : most;
    }
    fprintf(to, "\n%s, from the intended time: how many messages took so long\n", name);
    for (int i = 0; i < PICTURE_ROWS; i++) {
        char text[16];
        uint64_t edge = (uint64_t)pow(10, low + (i + 1) * step);
        salvo_picture_share(&picture, salvo_bench_time(edge, text), bins[i],
                            latency.count + infinite, most);
    }
    if (infinite > 0)
        salvo_picture_share(&picture, "never", infinite, latency.count + infinite, most);
}

void salvo_bench_show(FILE *to, const json_t *result)
{
    const char *name = salvo_result_main_column(result);
    const json_t *why = json_object_get(result, "invalid_because");
    uint64_t infinite;
    show_rates(to, result);
    show_table(to, result);
    salvo_histogram *h =
        salvo_result_decode(json_object_get(json_object_get(result, "columns"), name), &infinite);
    if (h && salvo_histogram_count(h) > 0)
        show_shares(to, h, infinite, name);
    salvo_histogram_free(h);
    if (json_is_false(json_object_get(result, "valid")))
        fprintf(to, "\nINVALID: %s\n", json_is_string(why) ? json_string_value(why) : "unknown");
}
