/* SPDX-License-Identifier: Apache-2.0
 *
 * `salvo bench compare A B`: the ratio B / A of medians, with a 95 % interval by bootstrap. The
 * samples are the results themselves where each side has three or more, else the one-second
 * slices of the measured part. Neighbouring slices are alike, so blocks of them are drawn.
 * The random numbers are fixed: the same files give the same interval.
 */
#include "bench.h"
#include "load_result.h"
#include "picture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define RUNS_MOST 64
#define SAMPLES_MOST 4096
#define RESAMPLES 4000

static const char help[] =
    "usage: salvo bench compare A.json[,A2.json...] B.json[,B2.json...]\n"
    "\n"
    "Says how B differs from A: the ratio B/A with a 95 % interval by bootstrap, over the results\n"
    "of each side where it has at least three (separated by commas), else over the seconds of\n"
    "the measured part. An interval around 1 shows no difference. Invalid results are told.\n";

typedef struct side {
    json_t *runs[RUNS_MOST];
    size_t count;
} side;

typedef struct sample {
    double values[SAMPLES_MOST];
    size_t count, block;
} sample;

static bool any_measured(const json_t *result)
{
    const json_t *column = json_object_get(json_object_get(result, "columns"),
                                           salvo_result_main_column(result));
    return json_integer_value(json_object_get(column, "count")) > 0;
}

static bool read_side(side *s, const char *text)
{
    char error[400], *list = strdup(text), *rest = list;
    bool good = list != NULL;
    for (char *path; good && (path = strsep(&rest, ","));) {
        json_t *result = s->count < RUNS_MOST ? salvo_result_read(path, error, sizeof error) : NULL;
        good = result != NULL;
        if (!good) {
            salvo_cli_say("bench compare: %s", s->count < RUNS_MOST ? error : "too many files");
            break;
        }
        s->runs[s->count++] = result;
        good = any_measured(result);
        if (!good) {
            salvo_cli_say("bench compare: %s: no message was measured", path);
            break;
        }
        const char *why = json_string_value(json_object_get(result, "invalid_because"));
        if (json_is_false(json_object_get(result, "valid")))
            salvo_cli_say("bench compare: %s is invalid: %s", path, why ? why : "unknown");
    }
    free(list);
    return good;
}

/* A metric of one result: a rate or cost by its name, else column and percentile. */
static bool value_of(const json_t *result, const char *column, const char *what, double *out)
{
    uint64_t ns;
    if (!column) {
        *out = json_number_value(json_object_get(result, what));
        return *out > 0;
    }
    const json_t *h = json_object_get(json_object_get(result, "columns"), column);
    if (!salvo_result_percentile(h, what, &ns) || ns == 0)
        return false;
    *out = ns == SALVO_INFINITE ? INFINITY : (double)ns;
    return true;
}

static void from_runs(const side *s, const char *column, const char *what, sample *to)
{
    to->count = 0;
    to->block = 1;
    for (size_t i = 0; i < s->count; i++)
        to->count += value_of(s->runs[i], column, what, &to->values[to->count]);
}

/* The slices' own members: null is infinite. */
static void from_slices(const side *s, const char *member, sample *to)
{
    to->count = 0;
    for (size_t r = 0; r < s->count; r++) {
        size_t i;
        json_t *slice;
        json_array_foreach(json_object_get(s->runs[r], "over_time"), i, slice) {
            const json_t *value = json_object_get(slice, member);
            if (to->count < SAMPLES_MOST && value)
                to->values[to->count++] = json_is_number(value) ? json_number_value(value)
                                                                : INFINITY;
        }
    }
    to->block = (size_t)ceil(cbrt((double)to->count));
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, size_t count)
{
    qsort(values, count, sizeof *values, ascending);
    if (count % 2 || isinf(values[count / 2]))
        return values[count / 2];
    return (values[count / 2 - 1] + values[count / 2]) / 2;
}

static double resampled(const sample *s, uint64_t *random)
{
    static double drawn[SAMPLES_MOST];
    for (size_t i = 0; i < s->count;) {
        size_t from = salvo_load_random(random) % s->count;
        for (size_t k = 0; k < s->block && i < s->count; k++)
            drawn[i++] = s->values[(from + k) % s->count];
    }
    return median(drawn, s->count);
}

static double ratio(double a, double b)
{
    return isinf(a) && isinf(b) ? 1 : a > 0 ? b / a : INFINITY;
}

/* False: too few samples for an interval. */
static bool interval(const sample *a, const sample *b, double *low, double *high)
{
    static double ratios[RESAMPLES];
    uint64_t random = salvo_load_stream(1, 0);
    if (a->count < 3 || b->count < 3)
        return false;
    for (size_t i = 0; i < RESAMPLES; i++) {
        double of_a = resampled(a, &random);
        ratios[i] = ratio(of_a, resampled(b, &random));
    }
    qsort(ratios, RESAMPLES, sizeof *ratios, ascending);
    *low = ratios[(size_t)(RESAMPLES * 0.025)];
    *high = ratios[(size_t)(RESAMPLES * 0.975)];
    return true;
}

static const char *shown(bool time, double value, char *text)
{
    if (time)
        return salvo_bench_time(isinf(value) ? SALVO_INFINITE : (uint64_t)value, text);
    return salvo_picture_count((uint64_t)(value + 0.5), text);
}

/* member: of a slice, where the metric has one; else NULL. */
static void row(const side *a, const side *b, const char *column, const char *what,
                const char *member)
{
    static sample of_a, of_b;
    char name[40], x[28], y[28];
    double low, high;
    from_runs(a, column, what, &of_a);
    from_runs(b, column, what, &of_b);
    if (of_a.count == 0 || of_b.count == 0)
        return;
    double mid_a = median(of_a.values, of_a.count), mid_b = median(of_b.values, of_b.count);
    snprintf(name, sizeof name, "%s%s%s", column ? column : "", column ? " " : "", what);
    printf("%-24s %12s %12s %8.3f", name, shown(column, mid_a, x), shown(column, mid_b, y),
           ratio(mid_a, mid_b));
    if ((of_a.count < 3 || of_b.count < 3) && member) {
        from_slices(a, member, &of_a);
        from_slices(b, member, &of_b);
    }
    if (!interval(&of_a, &of_b, &low, &high))
        printf("   -\n");
    else
        printf("   %.3f to %.3f  %s\n", low, high, low > 1 ? "B is higher"
                                                   : high < 1 ? "B is lower"
                                                              : "no difference shown");
}

static void table(const side *a, const side *b)
{
    static const char *const percentiles[] = {"p50", "p99", "p99.9"};
    static const char *const members[] = {"p50_ns", "p99_ns", NULL};
    const char *main_column = salvo_result_main_column(a->runs[0]);
    printf("%-24s %12s %12s %8s   %s\n", "", "A", "B", "B/A", "95 % interval of B/A");
    for (int c = 0; c < BENCH_SHOWN; c++)
        for (int p = 0; p < 3; p++)
            row(a, b, salvo_bench_columns[c], percentiles[p],
                strcmp(salvo_bench_columns[c], main_column) == 0 ? members[p] : NULL);
    row(a, b, NULL, "acknowledged_per_s", "acknowledged");
    row(a, b, NULL, "cpu_ns_per_message", NULL);
    if (a->count < 3 || b->count < 3)
        printf("\n-: an interval takes three results of each side; for p50 and p99 of `%s` and its "
               "rate, three seconds\n", main_column);
}

int salvo_bench_compare(int argc, char **argv)
{
    side a = {.count = 0}, b = {.count = 0};
    if (argc == 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        fputs(help, stdout);
        return CLI_OK;
    }
    if (argc != 3 || argv[1][0] == '-' || argv[2][0] == '-')
        return salvo_cli_usage("bench", "compare takes two results: salvo bench compare A.json "
                               "B.json");
    bool good = read_side(&a, argv[1]) && read_side(&b, argv[2]);
    if (good)
        table(&a, &b);
    for (size_t i = 0; i < a.count; i++)
        json_decref(a.runs[i]);
    for (size_t i = 0; i < b.count; i++)
        json_decref(b.runs[i]);
    return good ? CLI_OK : CLI_FAILED;
}
