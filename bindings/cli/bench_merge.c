/* SPDX-License-Identifier: Apache-2.0
 *
 * `salvo bench merge`: results of processes that ran at the same time as one. Histograms, ledgers
 * and rates are added; the cost of a message is the mean by messages; of percentiles of single
 * seconds, which cannot be added, the worst is kept.
 */
#include "bench.h"
#include "load_result.h"

#include <stdlib.h>
#include <string.h>

static const char help[] =
    "usage: salvo bench merge [--out FILE] A.json B.json...\n"
    "\n"
    "Adds the results of processes that ran together (--start-at) to one. They are of one load:\n"
    "only rate, seed, threads and addresses may differ.\n"
    "  -o, --out FILE   the merged result as JSON; - for standard output\n";

static void add_number(json_t *into, const json_t *from, const char *name)
{
    json_t *a = json_object_get(into, name);
    const json_t *b = json_object_get(from, name);
    if (json_is_integer(a) && json_is_integer(b))
        json_object_set_new(into, name, json_integer(json_integer_value(a) +
                                                     json_integer_value(b)));
    else if (json_is_number(b))
        json_object_set_new(into, name, json_real(json_number_value(a) + json_number_value(b)));
}

/* H to H; a member of one alone is taken as it is. False: damaged. */
static bool add_histograms(json_t *into, const json_t *from)
{
    const char *name;
    json_t *other;
    bool good = true;
    json_object_foreach((json_t *)(uintptr_t)from, name, other) {
        json_t *mine = json_object_get(into, name);
        uint64_t a_infinite, b_infinite;
        if (!json_is_object(other) || !json_object_get(other, "hdr"))
            continue;
        if (!mine) {
            json_object_set(into, name, other);
            continue;
        }
        salvo_histogram *a = salvo_result_decode(mine, &a_infinite);
        salvo_histogram *b = salvo_result_decode(other, &b_infinite);
        good = a && b && good;
        if (a && b) {
            salvo_histogram_add(a, b);
            json_object_set_new(into, name, salvo_result_histogram(a, a_infinite + b_infinite));
        }
        salvo_histogram_free(a);
        salvo_histogram_free(b);
    }
    return good;
}

static void worse(json_t *into, const json_t *from, const char *name)
{
    const json_t *a = json_object_get(into, name), *b = json_object_get(from, name);
    if (json_is_null(b) || (json_is_number(a) && json_number_value(b) > json_number_value(a)))
        json_object_set(into, name, (json_t *)(uintptr_t)b);
}

static void add_over_time(json_t *into, const json_t *from)
{
    size_t i;
    json_t *slice;
    json_array_foreach(from, i, slice) {
        json_t *mine = json_array_get(into, i);
        if (!mine) {
            json_array_append(into, slice);
            continue;
        }
        add_number(mine, slice, "offered");
        add_number(mine, slice, "accepted");
        add_number(mine, slice, "acknowledged");
        add_number(mine, slice, "refused");
        worse(mine, slice, "p50_ns");
        worse(mine, slice, "p99_ns");
    }
}

static double member(const json_t *object, const char *name)
{
    return json_number_value(json_object_get(object, name));
}

static void add_costs(json_t *into, const json_t *from)
{
    double a = member(into, "accepted_per_s"), b = member(from, "accepted_per_s");
    double cost = member(into, "cpu_ns_per_message") * a + member(from, "cpu_ns_per_message") * b;
    json_object_set_new(into, "cpu_ns_per_message", json_real(a + b > 0 ? cost / (a + b) : 0));
    json_t *mine = json_object_get(into, "generator");
    const json_t *other = json_object_get(from, "generator");
    if (member(other, "steal_percent") > member(mine, "steal_percent"))
        json_object_set(mine, "steal_percent", json_object_get(other, "steal_percent"));
    cost = member(mine, "cpu_ns_per_message") * a + member(other, "cpu_ns_per_message") * b;
    json_object_set_new(mine, "cpu_ns_per_message", json_real(a + b > 0 ? cost / (a + b) : 0));
}

static bool add(json_t *into, const json_t *from)
{
    static const char *const sums[] = {"processes", "offered_per_s", "accepted_per_s",
                                       "acknowledged_per_s", "bytes_per_s"};
    const char *name;
    json_t *value, *ledger = json_object_get(into, "ledger");
    bool good = add_histograms(json_object_get(into, "columns"), json_object_get(from, "columns"));
    good = add_histograms(json_object_get(into, "stages"), json_object_get(from, "stages")) && good;
    good = add_histograms(json_object_get(into, "generator"), json_object_get(from, "generator")) &&
           good;
    json_object_foreach(json_object_get(from, "ledger"), name, value)
        add_number(ledger, json_object_get(from, "ledger"), name);
    add_costs(into, from);
    for (size_t i = 0; i < sizeof sums / sizeof *sums; i++)
        add_number(into, from, sums[i]);
    add_over_time(json_object_get(into, "over_time"), json_object_get(from, "over_time"));
    json_array_extend(json_object_get(into, "runs"), json_object_get(from, "runs"));
    if (json_is_true(json_object_get(into, "valid")) &&
        json_is_false(json_object_get(from, "valid"))) {
        json_object_set(into, "valid", json_object_get(from, "valid"));
        json_object_set(into, "invalid_because", json_object_get(from, "invalid_because"));
    }
    return good;
}

/* A new one, of all; NULL after a printed error. */
static json_t *sum_of(json_t *const *results, char *const *paths, int count)
{
    json_t *into = json_deep_copy(results[0]);
    for (int i = 1; i < count && into; i++) {
        if (add(into, results[i]))
            continue;
        salvo_cli_say("bench merge: %s: a histogram is damaged", paths[i]);
        json_decref(into);
        into = NULL;
    }
    return into;
}

static json_t *merge(int count, char **paths)
{
    char error[400];
    int read = 0;
    bool good = true;
    json_t *into = NULL, **results = salvo_cli_alloc((size_t)count * sizeof *results);
    while (good && read < count) {
        results[read] = salvo_result_read(paths[read], error, sizeof error);
        if (!results[read]) {
            salvo_cli_say("bench merge: %s", error);
            break;
        }
        for (int i = 0; good && i < read; i++)
            good = salvo_bench_alike(results[i], results[read], paths[i], paths[read]);
        read++;
    }
    if (good && read == count)
        into = sum_of(results, paths, count);
    for (int i = 0; i < read; i++)
        json_decref(results[i]);
    free(results);
    if (into)
        salvo_result_judge(into);
    return into;
}

int salvo_bench_merge(int argc, char **argv)
{
    static const struct option options[] = {
        {"out", required_argument, NULL, 'o'}, {"help", no_argument, NULL, 'h'}, {0}};
    const char *out = NULL;
    char error[400];
    int option;
    while ((option = salvo_cli_getopt(argc, argv, "bench", "o:h", options)) != -1) {
        if (option == 'h') {
            fputs(help, stdout);
            return CLI_OK;
        }
        if (option == '?')
            return CLI_USAGE;
        out = optarg;
    }
    if (argc - optind < 2)
        return salvo_cli_usage("bench", "merge takes two or more results");
    json_t *result = merge(argc - optind, argv + optind);
    bool good = result != NULL, to_stdout = out && strcmp(out, "-") == 0;
    if (good)
        salvo_bench_show(to_stdout ? stderr : stdout, result);
    if (good && to_stdout)
        good = json_dumpf(result, stdout, JSON_INDENT(1) | JSON_PRESERVE_ORDER |
                                              JSON_REAL_PRECISION(9)) == 0;
    else if (good && out && !(good = salvo_result_write(result, out, error, sizeof error)))
        salvo_cli_say("--out: %s", error);
    json_decref(result);
    return good ? CLI_OK : CLI_FAILED;
}
