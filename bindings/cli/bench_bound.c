/* SPDX-License-Identifier: Apache-2.0
 *
 * Bounds as text: [column "."] percentile ("<" | ">") time, e.g. p99<1ms, call.p99.9>2us.
 */
#include "bench.h"
#include "load_result.h"
#include "picture.h"

#include <stdlib.h>
#include <string.h>

static bool take_time(const char *text, uint64_t *ns)
{
    static const struct {
        const char *name;
        double ns;
    } units[] = {{"ns", 1}, {"us", 1e3}, {"ms", 1e6}, {"s", 1e9}};
    const char *end;
    double value;
    if (!salvo_load_number(text, &end, &value))
        return false;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (strcmp(end, units[i].name) != 0)
            continue;
        *ns = (uint64_t)(value * units[i].ns);
        return value * units[i].ns <= 3.6e12;
    }
    return false;
}

static bool known_column(const char *name, size_t length)
{
    for (int c = 0; c < BENCH_SHOWN; c++)
        if (strlen(salvo_bench_columns[c]) == length &&
            strncmp(salvo_bench_columns[c], name, length) == 0)
            return true;
    return false;
}

static bool take(salvo_bench_bound *b, const char *text)
{
    const char *sign = strpbrk(text, "<>");
    const char *dot = strchr(text, '.');
    const char *name = text;
    if (!sign)
        return false;
    if (dot && dot < sign && (text[0] != 'p' || text[1] < '0' || text[1] > '9')) {
        if (!known_column(text, (size_t)(dot - text)))
            return false;
        snprintf(b->column, sizeof b->column, "%.*s", (int)(dot - text), text);
        name = dot + 1;
    }
    size_t length = (size_t)(sign - name);
    if (length < 2 || length >= sizeof b->percentile)
        return false;
    memcpy(b->percentile, name, length);
    b->percentile[length] = '\0';
    b->above = *sign == '>';
    if (strcmp(b->percentile, "max") != 0) {
        char *end;
        double percentile = strtod(b->percentile + 1, &end);
        if (b->percentile[0] != 'p' || *end || !(percentile > 0 && percentile <= 100))
            return false;
    }
    return take_time(sign + 1, &b->ns);
}

bool salvo_bench_bound_parse(salvo_bench_bound *bound, const char *option, const char *text)
{
    *bound = (salvo_bench_bound){.text = text};
    if (take(bound, text) && bound->above == (strcmp(option, "fail-if") == 0))
        return true;
    salvo_cli_usage("bench", "--%s: `%s` is no bound: allowed is [COLUMN.]pN or max, then %s, then "
                    "a time in ns, us, ms or s, e.g. '%s'; columns are call, accepted, "
                    "acknowledged (default) and consumed", option, text,
                    strcmp(option, "fail-if") == 0 ? ">" : "<",
                    strcmp(option, "fail-if") == 0 ? "p99>5ms" : "p99<1ms");
    return false;
}

bool salvo_bench_bound_holds(const salvo_bench_bound *bound, const json_t *result, uint64_t *ns)
{
    const char *column = bound->column[0] ? bound->column : salvo_result_main_column(result);
    json_t *columns = json_object_get(result, "columns");
    if (!salvo_result_percentile(json_object_get(columns, column), bound->percentile, ns))
        *ns = SALVO_INFINITE;
    return bound->above ? *ns > bound->ns : *ns < bound->ns;
}

const char *salvo_bench_time(uint64_t ns, char *text)
{
    if (ns == SALVO_INFINITE)
        return "never";
    return salvo_picture_time(ns, text);
}
