/* SPDX-License-Identifier: Apache-2.0
 *
 * `salvo report`: one HTML page from one or more results, which needs nothing but a browser.
 */
#include "report.h"
#include "cli.h"
#include "load_result.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define NUMBER_MOST 1e18 /* what is larger is no measurement */

static const char help[] =
    "usage: salvo report [OPTION...] RESULT.json...\n"
    "\n"
    "Makes one HTML page of results that `salvo bench --out` or script/bench peers wrote:\n"
    "percentile curves, rates over time, stages, a comparison with the first of them, machines\n"
    "and settings. The page is a single file, loads nothing and opens offline; its tables need no\n"
    "JavaScript. Up to 16 results; those that are invalid are marked with their reason.\n"
    "\n"
    "options\n"
    "  -o, --out FILE    where to write the page; - is standard output (default: report.html)\n"
    "  -t, --title TEXT  the page's title\n"
    "  -h, --help        this text\n"
    "\n"
    "examples\n"
    "  salvo bench -b kafka -r 20k -o a.json\n"
    "  salvo bench -b kafka -r 20k -s linger_us=1000 --name 'linger 1 ms' -o b.json\n"
    "  salvo report a.json b.json --title 'Kafka: linger'\n";

const json_t *salvo_report_find(const json_t *result, const char *path)
{
    char key[64];
    while (result && *path) {
        size_t length = strcspn(path, ".");
        snprintf(key, sizeof key, "%.*s", (int)length, path);
        result = json_object_get(result, key);
        path += length + (path[length] == '.');
    }
    return result;
}

salvo_report_value salvo_report_look(const json_t *result, const char *path)
{
    const json_t *value = salvo_report_find(result, path);
    char parent[64];
    if (json_is_number(value)) {
        double number = fmin(fmax(json_number_value(value), -NUMBER_MOST), NUMBER_MOST);
        return (salvo_report_value){REPORT_NUMBER, number};
    }
    snprintf(parent, sizeof parent, "%s", path);
    char *dot = strrchr(parent, '.');
    bool percentile = dot && (strncmp(dot, ".p", 2) == 0 || strcmp(dot, ".max_ns") == 0);
    if (!json_is_null(value) || !percentile)
        return (salvo_report_value){REPORT_ABSENT, 0};
    snprintf(dot, sizeof parent - (size_t)(dot - parent), "%s", ".count");
    bool any = json_number_value(salvo_report_find(result, parent)) > 0;
    return (salvo_report_value){any ? REPORT_NEVER : REPORT_ABSENT, 0};
}

salvo_report_value salvo_report_lost(const json_t *result)
{
    static const char *const parts[] = {"ledger.refused_full", "ledger.refused_other",
                                        "ledger.failed", "ledger.expired", "ledger.dropped"};
    salvo_report_value sum = {REPORT_ABSENT, 0};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        salvo_report_value part = salvo_report_look(result, parts[i]);
        sum.kind = part.kind == REPORT_NUMBER ? REPORT_NUMBER : sum.kind;
        sum.number += part.number;
    }
    return sum;
}

bool salvo_report_valid(const salvo_report_run *run)
{
    return json_is_true(json_object_get(run->result, "valid"));
}

const char *salvo_report_reason(const salvo_report_run *run)
{
    const char *why = json_string_value(json_object_get(run->result, "invalid_because"));
    return why && *why ? why : "the result does not say why";
}

/* --- input ----------------------------------------------------------------------------------- */

static bool taken(const salvo_page *report, const char *name)
{
    for (size_t i = 0; i < report->count; i++)
        if (report->runs[i].name && strcmp(report->runs[i].name, name) == 0)
            return true;
    return false;
}

/* The result's own name, else the file's; with the file's or a number where it is taken. */
static char *name_of(const salvo_page *report, const json_t *result, const char *path)
{
    const char *own = json_string_value(json_object_get(result, "name"));
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    char *name = NULL;
    own = own && *own ? own : base;
    for (unsigned i = 0; i <= REPORT_RUNS_MOST + 1; i++) {
        int length = i == 0   ? asprintf(&name, "%s", own)
                     : i == 1 ? asprintf(&name, "%s, %s", own, base)
                              : asprintf(&name, "%s, %s (%u)", own, base, i);
        if (length < 0)
            return NULL;
        if (!taken(report, name))
            return name;
        free(name);
    }
    return NULL;
}

static bool read_run(salvo_page *report, const char *path)
{
    char error[400];
    salvo_report_run *run = &report->runs[report->count];
    run->result = salvo_result_read(path, error, sizeof error);
    if (!run->result) {
        salvo_cli_say("report: %s", error);
        return false;
    }
    run->name = name_of(report, run->result, path);
    run->slices = salvo_report_thin(run->result);
    report->count++;
    if (!salvo_report_valid(run)) {
        char why[300]; /* the terminal gets no control characters of a file */
        snprintf(why, sizeof why, "%s", salvo_report_reason(run));
        for (char *at = why; *at; at++)
            *at = (unsigned char)*at < ' ' || *at == 0x7f ? ' ' : *at;
        salvo_cli_say("report: %s is invalid: %s", path, why);
    }
    if (!run->name || !run->slices)
        salvo_cli_say("report: %s: out of memory", path);
    return run->name && run->slices;
}

/* The page must not replace a result. */
static bool is_input(const char *out, char **paths, int count)
{
    struct stat page, result;
    if (stat(out, &page) != 0)
        return false;
    for (int i = 0; i < count; i++)
        if (stat(paths[i], &result) == 0 && page.st_ino == result.st_ino &&
            page.st_dev == result.st_dev)
            return true;
    return false;
}

/* --- output ---------------------------------------------------------------------------------- */

static bool write_page(const char *out, const char *page, size_t size)
{
    bool to_stdout = strcmp(out, "-") == 0;
    FILE *to = to_stdout ? stdout : fopen(out, "we");
    bool good = to && fwrite(page, 1, size, to) == size && fflush(to) == 0;
    int why = errno;
    if (to && !to_stdout && fclose(to) != 0 && good) {
        good = false;
        why = errno;
    }
    if (!good)
        salvo_cli_say("report: cannot write %s: %s", to_stdout ? "standard output" : out,
                      strerror(why));
    return good;
}

static int make(const salvo_page *report, const char *out)
{
    size_t size;
    char *page = salvo_report_html(report, &size);
    if (!page) {
        salvo_cli_say("report: out of memory");
        return CLI_FAILED;
    }
    bool good = write_page(out, page, size);
    free(page);
    if (!good)
        return CLI_FAILED;
    if (!*salvo_report_chart)
        salvo_cli_say("report: this salvo was built without Chart.js, so the page has tables and "
                      "no charts; apt-get install libjs-chart.js and build again");
    if (strcmp(out, "-") != 0)
        salvo_cli_say("report: %s has %zu result%s; open it in a browser", out, report->count,
                      report->count == 1 ? "" : "s");
    return CLI_OK;
}

static int run_report(int argc, char **argv)
{
    static const struct option options[] = {{"out", required_argument, NULL, 'o'},
                                            {"title", required_argument, NULL, 't'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    static salvo_page report = {.title = "Salvo: measured"};
    const char *out = "report.html";
    int option;
    while ((option = salvo_cli_getopt(argc, argv, "report", "o:t:h", options)) != -1) {
        if (option == 'o')
            out = optarg;
        else if (option == 't')
            report.title = optarg;
        else if (option != 'h')
            return CLI_USAGE;
        else
            return fputs(help, stdout) < 0 ? CLI_FAILED : CLI_OK;
    }
    int count = argc - optind;
    if (count < 1)
        return salvo_cli_usage("report", "name at least one result of salvo bench --out");
    if (count > REPORT_RUNS_MOST)
        return salvo_cli_usage("report", "%d results; a page takes at most %d", count,
                               REPORT_RUNS_MOST);
    if (is_input(out, argv + optind, count))
        return salvo_cli_usage("report", "--out %s: that is one of the results", out);
    bool good = true;
    for (int i = 0; good && i < count; i++)
        good = read_run(&report, argv[optind + i]);
    int status = good ? make(&report, out) : CLI_FAILED;
    for (size_t i = 0; i < report.count; i++) {
        json_decref(report.runs[i].result);
        json_decref(report.runs[i].slices);
        free(report.runs[i].name);
    }
    return status;
}

const salvo_cli_command salvo_cli_report = {"report", "make an HTML page of results", help,
                                            run_report};
