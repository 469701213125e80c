/* SPDX-License-Identifier: Apache-2.0
 *
 * What the benchmarks print and read: bars, the JSON line, options. Guarantees: the JSON line is
 * one valid object; a bad option ends the program with one line that says what is allowed.
 */
#include "harness.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void bench_die(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    fflush(stdout);
    fputs("bench: ", stderr);
    vfprintf(stderr, format, list);
    fputc('\n', stderr);
    va_end(list);
    exit(1);
}

void bench_warn_spread(const char *what, const bench_rounds *rounds, double factor)
{
    static bool said;
    if (said || rounds->count < 2 || bench_most(rounds) <= factor * bench_least(rounds))
        return;
    said = true;
    printf("NOISE: %s spread from %.4g to %.4g over the rounds; is something else running?\n",
           what, bench_least(rounds), bench_most(rounds));
}

const char *bench_time_text(double ns, char *text, size_t size)
{
    if (ns < 1e3)
        snprintf(text, size, "%.0f ns", ns);
    else if (ns < 1e6)
        snprintf(text, size, "%.1f us", ns / 1e3);
    else
        snprintf(text, size, "%.1f ms", ns / 1e6);
    return text;
}

void bench_bar(const char *label, double value, double from, double to, const char *unit)
{
    enum { WIDTH = 44 };
    double part = value > from ? log10(value / from) / log10(to / from) : 0;
    int length = 1 + (int)(part * (WIDTH - 1));
    length = length > WIDTH ? WIDTH : length;
    printf("  %-22s ", label);
    for (int i = 0; i < length; i++)
        putchar('#');
    printf(" %.4g %s\n", value, unit);
}

static void json_add(bench_json *json, const char *name, const char *quote, const char *value)
{
    size_t room = sizeof json->text - json->used;
    int n = snprintf(json->text + json->used, room, "%s\"%s\": %s%s%s",
                     json->used ? ", " : "", name, quote, value, quote);
    if (n < 0 || (size_t)n >= room)
        bench_die("the JSON line is too long at '%s'", name);
    json->used += (size_t)n;
}

void bench_json_number(bench_json *json, const char *name, double value)
{
    char text[32];
    snprintf(text, sizeof text, isfinite(value) ? "%.6g" : "null", value);
    json_add(json, name, "", text);
}

void bench_json_text(bench_json *json, const char *name, const char *value)
{
    json_add(json, name, "\"", value); /* names of our own: nothing to escape */
}

void bench_json_print(bench_json *json)
{
    printf("{%s}\n", json->text);
    fflush(stdout);
}

static void print_help(const char *program, const char *about, const bench_option *options,
                       size_t count)
{
    const char *slash = strrchr(program, '/');
    printf("usage: %s [options]\n%s\n\n", slash ? slash + 1 : program, about);
    for (size_t i = 0; i < count; i++) {
        char left[40];
        snprintf(left, sizeof left, "--%s%s", options[i].name, options[i].flag ? "" : " X");
        printf("  %-18s %s", left, options[i].help);
        if (options[i].number)
            printf(" (%g to %g; default %g)", options[i].least, options[i].most,
                   *options[i].number);
        putchar('\n');
    }
    exit(0);
}

static void bad_option(const char *text, const char *allowed)
{
    fprintf(stderr, "bench: option '%s': %s; see --help\n", text, allowed);
    exit(2);
}

static void take_number(const bench_option *option, const char *text)
{
    char *end, allowed[80];
    double value = text ? strtod(text, &end) : 0;
    snprintf(allowed, sizeof allowed, "a number from %g to %g is allowed", option->least,
             option->most);
    if (!text || end == text || *end || !(value >= option->least && value <= option->most))
        bad_option(option->name, allowed);
    *option->number = value;
}

void bench_options(int argc, char **argv, const char *about, const bench_option *options,
                   size_t count)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))
            print_help(argv[0], about, options, count);
        size_t k = 0;
        while (k < count && (strncmp(argv[i], "--", 2) || strcmp(argv[i] + 2, options[k].name)))
            k++;
        if (k == count)
            bad_option(argv[i], "there is no such option");
        if (options[k].flag) {
            *options[k].flag = true;
            continue;
        }
        i++;
        if (options[k].number)
            take_number(&options[k], i < argc ? argv[i] : NULL);
        else if (i < argc)
            *options[k].text = argv[i];
        else
            bad_option(argv[i - 1], "it needs a value");
    }
}
