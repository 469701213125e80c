/* SPDX-License-Identifier: Apache-2.0
 *
 * Results. What is read is taken for data of anybody: bounded, checked, then used.
 */
#include "load_result.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#define FILE_MOST (256u << 20)
#define LATE_PART 10u /* of the latency shown: more than its tenth is too late */
#define LATE_NS 100000000u /* where nothing is shown */

static const struct {
    const char *name, *member;
    double percentile;
} known[] = {{"p50", "p50_ns", 50},        {"p90", "p90_ns", 90},
             {"p99", "p99_ns", 99},        {"p99.9", "p999_ns", 99.9},
             {"p99.99", "p9999_ns", 99.99}, {"max", "max_ns", 100}};
#define KNOWN (sizeof known / sizeof known[0])

uint64_t salvo_result_at(const salvo_histogram *h, uint64_t infinite, double percentile)
{
    uint64_t finite = salvo_histogram_count(h), total = finite + infinite;
    if (total == 0)
        return 0;
    double rank = floor(percentile / 100 * (double)total + 0.5);
    rank = rank < 1 ? 1 : rank;
    if (rank > (double)finite)
        return SALVO_INFINITE;
    return salvo_histogram_at(h, 100 * rank / (double)finite);
}

json_t *salvo_result_histogram(const salvo_histogram *h, uint64_t infinite)
{
    salvo_latency latency;
    char *text = NULL;
    json_t *object = json_object();
    salvo_histogram_summary(h, &latency);
    if (!object || salvo_histogram_encode(h, &text) != 0) {
        json_decref(object);
        return NULL;
    }
    json_object_set_new(object, "count", json_integer((json_int_t)(latency.count + infinite)));
    json_object_set_new(object, "infinite", json_integer((json_int_t)infinite));
    bool any = latency.count > 0;
    json_object_set_new(object, "min_ns",
                        any ? json_integer((json_int_t)latency.min) : json_null());
    json_object_set_new(object, "mean_ns",
                        any ? json_integer((json_int_t)latency.mean) : json_null());
    for (size_t i = 0; i < KNOWN; i++) {
        uint64_t ns = salvo_result_at(h, infinite, known[i].percentile);
        bool shown = latency.count + infinite > 0 && ns != SALVO_INFINITE;
        json_object_set_new(object, known[i].member,
                            shown ? json_integer((json_int_t)ns) : json_null());
    }
    json_object_set_new(object, "hdr", json_string(text));
    free(text);
    return object;
}

salvo_histogram *salvo_result_decode(const json_t *object, uint64_t *infinite)
{
    salvo_histogram *h = NULL;
    const char *text = json_string_value(json_object_get(object, "hdr"));
    json_int_t count = json_integer_value(json_object_get(object, "infinite"));
    *infinite = count > 0 ? (uint64_t)count : 0;
    return text && salvo_histogram_decode(text, &h) == 0 ? h : NULL;
}

bool salvo_result_percentile(const json_t *object, const char *name, uint64_t *out)
{
    json_int_t count = json_integer_value(json_object_get(object, "count"));
    if (count <= 0)
        return false;
    for (size_t i = 0; i < KNOWN; i++) {
        const json_t *value = json_object_get(object, known[i].member);
        if (strcmp(name, known[i].name) != 0)
            continue;
        *out = json_is_integer(value) ? (uint64_t)json_integer_value(value) : SALVO_INFINITE;
        return true;
    }
    uint64_t infinite;
    double percentile = name[0] == 'p' ? strtod(name + 1, NULL) : 0;
    salvo_histogram *h = salvo_result_decode(object, &infinite);
    if (h)
        *out = salvo_result_at(h, infinite, percentile);
    salvo_histogram_free(h);
    return h != NULL;
}

/* --- files ----------------------------------------------------------------------------------- */

static bool good_columns(const json_t *result)
{
    const char *name;
    json_t *column, *columns = json_object_get(result, "columns");
    json_object_foreach(columns, name, column) {
        uint64_t infinite;
        salvo_histogram *h = salvo_result_decode(column, &infinite);
        if (!h)
            return false;
        salvo_histogram_free(h);
    }
    return json_is_object(columns);
}

json_t *salvo_result_read(const char *path, char *error, size_t error_size)
{
    struct stat about;
    json_error_t where;
    FILE *file = fopen(path, "re");
    if (!file || fstat(fileno(file), &about) != 0) {
        snprintf(error, error_size, "cannot read %s: %s", path, strerror(errno));
        if (file)
            fclose(file);
        return NULL;
    }
    bool fits = about.st_size <= (off_t)FILE_MOST;
    json_t *result = fits ? json_loadf(file, 0, &where) : NULL;
    fclose(file);
    const char *format = json_string_value(json_object_get(result, "format"));
    if (!fits)
        snprintf(error, error_size, "%s: larger than %u MiB", path, FILE_MOST >> 20);
    else if (!result)
        snprintf(error, error_size, "%s:%d: %s", path, where.line, where.text);
    else if (!format || strcmp(format, "salvo-result") != 0)
        snprintf(error, error_size, "%s: not a result of salvo bench --out", path);
    else if (json_integer_value(json_object_get(result, "version")) != 1)
        snprintf(error, error_size, "%s: a result of a version that this salvo does not know; it "
                 "knows 1", path);
    else if (!good_columns(result))
        snprintf(error, error_size, "%s: columns are missing or damaged", path);
    else
        return result;
    json_decref(result);
    return NULL;
}

bool salvo_result_write(const json_t *result, const char *path, char *error, size_t error_size)
{
    FILE *to = fopen(path, "we");
    bool good = to && json_dumpf(result, to, JSON_INDENT(1) | JSON_PRESERVE_ORDER |
                                                 JSON_REAL_PRECISION(9)) == 0 &&
                fputc('\n', to) != EOF;
    int why = errno;
    if (to && fclose(to) != 0 && good) {
        good = false;
        why = errno;
    }
    if (!good)
        snprintf(error, error_size, "cannot write %s: %s", path, strerror(why));
    return good;
}

/* --- the machine ----------------------------------------------------------------------------- */

static void cpu_name(char *name, size_t size)
{
    char line[256];
    FILE *file = fopen("/proc/cpuinfo", "re");
    snprintf(name, size, "unknown");
    while (file && fgets(line, sizeof line, file)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || !colon)
            continue;
        line[strcspn(line, "\n")] = '\0';
        snprintf(name, size, "%s", colon + 1 + strspn(colon + 1, " "));
        break;
    }
    if (file)
        fclose(file);
}

json_t *salvo_result_machine(const char *clock)
{
    char cpu[256];
    struct utsname system = {0};
    cpu_name(cpu, sizeof cpu);
    uname(&system);
    return json_pack("{s:s, s:i, s:I, s:s, s:s}", "cpu", cpu, "cores",
                     (int)sysconf(_SC_NPROCESSORS_ONLN), "memory_bytes",
                     (json_int_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE), "kernel",
                     system.release, "clock", clock);
}

/* --- belief ---------------------------------------------------------------------------------- */

const char *salvo_result_main_column(const json_t *result)
{
    json_t *columns = json_object_get(result, "columns");
    return json_object_get(columns, "acknowledged") ? "acknowledged" : "accepted";
}

/* The column's p99, or where that is infinite the next lower one that is not. */
static const char *finite_percentile(const json_t *column, uint64_t *ns)
{
    static const char *const names[] = {"p99", "p90", "p50"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (salvo_result_percentile(column, names[i], ns) && *ns != SALVO_INFINITE)
            return names[i];
    return NULL;
}

static json_t *why_late(uint64_t late_ns, const char *column, const char *name, uint64_t shown_ns)
{
    char why[200];
    int n = snprintf(why, sizeof why, "the generator was late: p99 of its lateness is %.1f us, ",
                     (double)late_ns / 1e3);
    if (name)
        snprintf(why + n, sizeof why - (size_t)n, "more than a tenth of the %s of `%s`, %.1f us",
                 name, column, (double)shown_ns / 1e3);
    else
        snprintf(why + n, sizeof why - (size_t)n, "and most of `%s` never came", column);
    return json_string(why);
}

void salvo_result_judge(json_t *result)
{
    static const char *const judged[] = {"accepted", "acknowledged", "consumed"};
    json_t *columns = json_object_get(result, "columns");
    json_t *generator = json_object_get(result, "generator");
    uint64_t late = 0, shown;
    if (!salvo_result_percentile(json_object_get(generator, "lateness"), "p99", &late))
        return;
    for (size_t i = 0; i < sizeof judged / sizeof *judged; i++) {
        json_t *column = json_object_get(columns, judged[i]);
        const char *name = column ? finite_percentile(column, &shown) : NULL;
        if (!column || late <= (name ? shown / LATE_PART : LATE_NS))
            continue;
        json_object_set_new(column, "invalid", json_true());
        if (strcmp(judged[i], salvo_result_main_column(result)) != 0 ||
            !json_is_true(json_object_get(result, "valid")))
            continue;
        json_object_set_new(result, "valid", json_false());
        json_object_set_new(result, "invalid_because", why_late(late, judged[i], name, shown));
    }
}
