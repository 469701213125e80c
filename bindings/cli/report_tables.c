/* SPDX-License-Identifier: Apache-2.0
 *
 * The tables of the page: a column a result, with the ratio to the first one. They are complete
 * by themselves; the charts repeat them.
 */
#include "report.h"

#include <stdlib.h>
#include <string.h>

typedef enum unit { UNIT_TIME, UNIT_NUMBER, UNIT_BYTES, UNIT_PERCENT } unit;

typedef struct row {
    const char *label, *path;
    unit unit;
    bool ratio;
} row;

static void put_value(FILE *to, salvo_report_value value, unit as)
{
    if (value.kind == REPORT_ABSENT)
        fputs("&ndash;", to);
    else if (value.kind == REPORT_NEVER)
        fputs("<strong>never</strong>", to);
    else if (as == UNIT_TIME)
        salvo_report_time(to, value.number);
    else if (as == UNIT_BYTES)
        salvo_report_number(to, value.number / 1e6);
    else
        salvo_report_number(to, value.number);
    if (value.kind == REPORT_NUMBER)
        fputs(as == UNIT_BYTES ? " MB/s" : as == UNIT_PERCENT ? " %" : "", to);
}

static void put_ratio(FILE *to, salvo_report_value value, salvo_report_value first)
{
    if (value.kind != REPORT_NUMBER || first.kind != REPORT_NUMBER ||
        value.number <= 0 || first.number <= 0)
        return;
    double ratio = value.number / first.number;
    bool plain = ratio >= 0.095 && ratio < 1000;
    fprintf(to, plain ? " <small>&times;%.2f</small>" : " <small>&times;%.2g</small>", ratio);
}

static void cell(FILE *to, salvo_report_value value, const salvo_report_value *first,
                 unit as, const char *class)
{
    fprintf(to, "<td%s>", class);
    put_value(to, value, as);
    if (first)
        put_ratio(to, value, *first);
    fputs("</td>", to);
}

static void open_table(FILE *to, const salvo_page *report, const char *label)
{
    fprintf(to, "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"%s\">"
            "<table class=\"compare\">\n", label);
    salvo_report_heads(to, report, "");
    fputs("<tbody>\n", to);
}

static void close_table(FILE *to)
{
    fputs("</tbody></table></div>\n", to);
}

void salvo_report_heads(FILE *to, const salvo_page *report, const char *first)
{
    fprintf(to, "<thead><tr><th scope=\"col\">%s</th>", *first ? first : "&nbsp;");
    for (size_t i = 0; i < report->count; i++) {
        fprintf(to, "<th scope=\"col\" class=\"run color-%zu%s\"><bdi>", i % REPORT_COLORS,
                salvo_report_again(i));
        salvo_report_text(to, report->runs[i].name);
        fputs("</bdi>", to);
        if (!salvo_report_valid(&report->runs[i]))
            fputs(" <em class=\"badge\">INVALID</em>", to);
        fputs("</th>", to);
    }
    fputs("</tr></thead>\n", to);
}

static void group(FILE *to, const salvo_page *report, const char *name, const char *text)
{
    fprintf(to, "<tr class=\"group\"><th scope=\"rowgroup\" colspan=\"%zu\"><span>%s "
            "<small>%s</small></span></th></tr>\n", report->count + 1, name, text);
}

static void put_row(FILE *to, const salvo_page *report, const row *r)
{
    fprintf(to, "<tr><th scope=\"row\">%s</th>", r->label);
    salvo_report_value first = salvo_report_look(report->runs[0].result, r->path);
    for (size_t i = 0; i < report->count; i++)
        cell(to, salvo_report_look(report->runs[i].result, r->path),
             r->ratio && i > 0 ? &first : NULL, r->unit, "");
    fputs("</tr>\n", to);
}

/* --- who ran --------------------------------------------------------------------------------- */

static void figure_of(FILE *to, const char *label, salvo_report_value value, unit as,
                      const char *class)
{
    fprintf(to, "<div><dd%s>", class);
    put_value(to, value, as);
    fprintf(to, "</dd><dt>%s</dt></div>\n", label);
}

static const char *main_column(const json_t *result)
{
    return salvo_report_find(result, "columns.acknowledged") ? "acknowledged" : "accepted";
}

static void put_card(FILE *to, const salvo_report_run *run, size_t index)
{
    char text[64], path[64];
    static const char *const about[] = {"client", "client_version", "broker", "started_at"};
    bool valid = salvo_report_valid(run);
    fprintf(to, "<article class=\"card color-%zu%s\">\n<h2><bdi>", index % REPORT_COLORS,
            valid ? "" : " invalid");
    salvo_report_text(to, run->name);
    fputs("</bdi></h2>\n<p class=\"quiet\"><bdi>", to);
    for (size_t i = 0; i < sizeof about / sizeof *about; i++) {
        const json_t *value = json_object_get(run->result, about[i]);
        if (value)
            fputs(i == 0 ? "" : i == 1 ? " " : " &middot; ", to);
        salvo_report_text(to, salvo_report_string(value, text, sizeof text));
    }
    fputs("</bdi></p>\n", to);
    if (!valid) {
        fputs("<p class=\"alarm\"><strong>INVALID</strong> <bdi>", to);
        salvo_report_text(to, salvo_report_reason(run));
        fputs("</bdi></p>\n", to);
    }
    const char *column = main_column(run->result);
    fputs("<dl>\n", to);
    snprintf(path, sizeof path, "%s_per_s", column);
    snprintf(text, sizeof text, "%s a second", column);
    figure_of(to, text, salvo_report_look(run->result, path), UNIT_NUMBER, "");
    snprintf(path, sizeof path, "columns.%s.p99_ns", column);
    snprintf(text, sizeof text, "p99 to %s", column);
    figure_of(to, text, salvo_report_look(run->result, path), UNIT_TIME,
              valid ? "" : " class=\"invalid\"");
    salvo_report_value lost = salvo_report_lost(run->result);
    figure_of(to, "not delivered", lost, UNIT_NUMBER, lost.number > 0 ? " class=\"lost\"" : "");
    figure_of(to, "CPU a message", salvo_report_look(run->result, "cpu_ns_per_message"),
              UNIT_TIME, "");
    fputs("</dl>\n</article>\n", to);
}

/* --- latency --------------------------------------------------------------------------------- */

static void put_percentiles(FILE *to, const salvo_page *report, const char *set,
                            const char *column)
{
    static const struct {
        const char *label, *member;
    } rows[] = {{"p50", "p50_ns"},      {"p90", "p90_ns"},       {"p99", "p99_ns"},
                {"p99.9", "p999_ns"},   {"p99.99", "p9999_ns"},  {"max", "max_ns"}};
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
        char path[64], invalid[64];
        snprintf(path, sizeof path, "%s.%s.%s", set, column, rows[k].member);
        snprintf(invalid, sizeof invalid, "%s.%s.invalid", set, column);
        fprintf(to, "<tr><th scope=\"row\">%s</th>", rows[k].label);
        salvo_report_value first = salvo_report_look(report->runs[0].result, path);
        for (size_t i = 0; i < report->count; i++) {
            const json_t *result = report->runs[i].result;
            bool bad = json_is_true(salvo_report_find(result, invalid));
            cell(to, salvo_report_look(result, path), i > 0 ? &first : NULL, UNIT_TIME,
                 bad ? " class=\"invalid\"" : "");
        }
        fputs("</tr>\n", to);
    }
}

static void put_counts(FILE *to, const salvo_page *report, const char *column)
{
    char path[64];
    snprintf(path, sizeof path, "columns.%s.count", column);
    put_row(to, report, &(row){"offered", path, UNIT_NUMBER, false});
    snprintf(path, sizeof path, "columns.%s.infinite", column);
    put_row(to, report, &(row){"of them never", path, UNIT_NUMBER, false});
}

static bool anybody_has(const salvo_page *report, const char *set, const char *column)
{
    char path[64];
    snprintf(path, sizeof path, "%s.%s.count", set, column);
    for (size_t i = 0; i < report->count; i++)
        if (salvo_report_look(report->runs[i].result, path).number > 0)
            return true;
    return false;
}

static void put_chart(FILE *to, const char *name, const char *title, const char *text)
{
    fprintf(to, "<figure class=\"chart\" data-chart=\"%s\"><figcaption>%s <small>%s</small>"
            "</figcaption><div class=\"plot\"><canvas role=\"img\" aria-label=\"%s: the table "
            "has its figures\"></canvas></div></figure>\n", name, title, text, title);
}

static void put_latency(FILE *to, const salvo_page *report)
{
    static const char *const meanings[] = {
        "from the intended time to the broker's acknowledgement",
        "from the intended time to the call's return", "inside the call",
        "from the intended time to a reader"};
    fputs("<section id=\"latency\"><h2>Latency</h2>\n<p>Percentiles of all messages offered: "
          "those that were refused, failed or expired count as infinite, so a curve ends where "
          "they begin.</p>\n<div class=\"charts\">\n", to);
    for (size_t i = 0; salvo_report_columns[i]; i++)
        if (anybody_has(report, "columns", salvo_report_columns[i]))
            put_chart(to, salvo_report_columns[i], salvo_report_columns[i], meanings[i]);
    fputs("</div>\n", to);
    open_table(to, report, "Latency");
    for (size_t i = 0; salvo_report_columns[i]; i++) {
        if (!anybody_has(report, "columns", salvo_report_columns[i]))
            continue;
        group(to, report, salvo_report_columns[i], meanings[i]);
        put_percentiles(to, report, "columns", salvo_report_columns[i]);
        put_counts(to, report, salvo_report_columns[i]);
    }
    close_table(to);
    fputs("<p class=\"quiet\">A ratio is to the first result. A red struck-through figure is not "
          "valid: the generator was later than a tenth of it.</p></section>\n", to);
}

/* --- rates ----------------------------------------------------------------------------------- */

static void put_lost(FILE *to, const salvo_page *report)
{
    fputs("<tr><th scope=\"row\">not delivered</th>", to);
    for (size_t i = 0; i < report->count; i++) {
        salvo_report_value lost = salvo_report_lost(report->runs[i].result);
        cell(to, lost, NULL, UNIT_NUMBER, lost.number > 0 ? " class=\"lost\"" : "");
    }
    fputs("</tr>\n", to);
}

static void put_rates(FILE *to, const salvo_page *report)
{
    static const row rates[] = {{"offered/s", "offered_per_s", UNIT_NUMBER, true},
                                {"accepted/s", "accepted_per_s", UNIT_NUMBER, true},
                                {"acknowledged/s", "acknowledged_per_s", UNIT_NUMBER, true},
                                {"accepted bytes", "bytes_per_s", UNIT_BYTES, true},
                                {"CPU a message", "cpu_ns_per_message", UNIT_TIME, true}};
    static const row ledger[] = {{"offered", "ledger.offered", UNIT_NUMBER, false},
                                 {"accepted", "ledger.accepted", UNIT_NUMBER, false},
                                 {"refused: full", "ledger.refused_full", UNIT_NUMBER, false},
                                 {"refused: other", "ledger.refused_other", UNIT_NUMBER, false},
                                 {"acknowledged", "ledger.acknowledged", UNIT_NUMBER, false},
                                 {"failed", "ledger.failed", UNIT_NUMBER, false},
                                 {"&ndash; maybe delivered", "ledger.maybe_delivered", UNIT_NUMBER,
                                  false},
                                 {"expired", "ledger.expired", UNIT_NUMBER, false},
                                 {"dropped", "ledger.dropped", UNIT_NUMBER, false},
                                 {"pending", "ledger.pending", UNIT_NUMBER, false}};
    fputs("<section id=\"rates\"><h2>Rates, losses, cost</h2>\n<div class=\"charts\">\n", to);
    put_chart(to, "rate", "messages a second", "lines: acknowledged; dotted: offered");
    put_chart(to, "p99", "p99 over time", "a gap: never, or nothing arrived");
    fputs("</div>\n", to);
    open_table(to, report, "Rates, losses, cost");
    group(to, report, "rates", "of the measured part");
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++)
        put_row(to, report, &rates[i]);
    put_lost(to, report);
    group(to, report, "ledger", "of the whole run, warm-up included");
    for (size_t i = 0; i < sizeof ledger / sizeof *ledger; i++)
        put_row(to, report, &ledger[i]);
    close_table(to);
    salvo_report_over_time(to, report);
    fputs("</section>\n", to);
}

static void put_second(FILE *to, const json_t *slice)
{
    static const row columns[] = {{"", "at_s", UNIT_NUMBER, false},
                                  {"", "offered", UNIT_NUMBER, false},
                                  {"", "accepted", UNIT_NUMBER, false},
                                  {"", "acknowledged", UNIT_NUMBER, false},
                                  {"", "refused", UNIT_NUMBER, false},
                                  {"", "p50_ns", UNIT_TIME, false},
                                  {"", "p99_ns", UNIT_TIME, false}};
    fputs("<tr>", to);
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++) {
        salvo_report_value value = salvo_report_look(slice, columns[i].path);
        if (value.kind == REPORT_ABSENT && json_is_true(json_object_get(slice, "never")))
            value.kind = REPORT_NEVER;
        cell(to, value, NULL, columns[i].unit, "");
    }
    fputs("</tr>\n", to);
}

void salvo_report_over_time(FILE *to, const salvo_page *report)
{
    for (size_t i = 0; i < report->count; i++) {
        size_t k;
        json_t *slice;
        if (json_array_size(report->runs[i].slices) == 0)
            continue;
        fprintf(to, "<details><summary>Over time, as a table: <bdi class=\"run color-%zu%s\">",
                i % REPORT_COLORS, salvo_report_again(i));
        salvo_report_text(to, report->runs[i].name);
        fputs("</bdi></summary>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" "
              "aria-label=\"Over time\"><table><thead><tr><th scope=\"col\">s</th>"
              "<th scope=\"col\">offered/s</th><th scope=\"col\">accepted/s</th>"
              "<th scope=\"col\">acknowledged/s</th><th scope=\"col\">refused/s</th>"
              "<th scope=\"col\">p50</th><th scope=\"col\">p99</th></tr></thead><tbody>\n", to);
        json_array_foreach(report->runs[i].slices, k, slice)
            put_second(to, slice);
        fputs("</tbody></table></div></details>\n", to);
    }
}

/* --- stages, trust --------------------------------------------------------------------------- */

static void put_stages(FILE *to, const salvo_page *report)
{
    static const char *const meanings[] = {"inside the call, sampled", "until a flusher took it",
                                           "from submitting to the outcome",
                                           "from the call to the outcome"};
    bool any = false;
    for (size_t i = 0; salvo_report_stages[i]; i++)
        any |= anybody_has(report, "stages", salvo_report_stages[i]);
    if (!any)
        return;
    fputs("<section id=\"stages\"><h2>Stages</h2>\n<p>Where messages that got an outcome spent "
          "their time inside of the producer; <b>batch</b> is what the others do not cover: "
          "waiting for the batch to fill (the linger) and encoding.</p>\n<div class=\"charts\">",
          to);
    put_chart(to, "stages", "mean time by stage",
              "<span class=\"stage stage-0\">enqueue</span> "
              "<span class=\"stage stage-1\">queue</span> "
              "<span class=\"stage stage-2\">batch</span> "
              "<span class=\"stage stage-3\">broker</span>");
    fputs("</div>\n", to);
    open_table(to, report, "Stages");
    for (size_t i = 0; salvo_report_stages[i]; i++) {
        char path[64];
        if (!anybody_has(report, "stages", salvo_report_stages[i]))
            continue;
        group(to, report, salvo_report_stages[i], meanings[i]);
        snprintf(path, sizeof path, "stages.%s.mean_ns", salvo_report_stages[i]);
        put_row(to, report, &(row){"mean", path, UNIT_TIME, true});
        put_percentiles(to, report, "stages", salvo_report_stages[i]);
    }
    close_table(to);
    fputs("</section>\n", to);
}

static void put_trust(FILE *to, const salvo_page *report)
{
    static const row rows[] = {
        {"lateness p99", "generator.lateness.p99_ns", UNIT_TIME, false},
        {"lateness max", "generator.lateness.max_ns", UNIT_TIME, false},
        {"hiccups p99", "generator.hiccups.p99_ns", UNIT_TIME, false},
        {"hiccups max", "generator.hiccups.max_ns", UNIT_TIME, false},
        {"steal", "generator.steal_percent", UNIT_PERCENT, false}};
    fputs("<section id=\"trust\"><h2>How far to believe it</h2>\n<p>How late the load generator "
          "itself was, by how much the host overslept a thread's 1&nbsp;ms, and the share of the "
          "processors that a hypervisor gave to others.</p>\n", to);
    open_table(to, report, "How far to believe it");
    fputs("<tr><th scope=\"row\">valid</th>", to);
    for (size_t i = 0; i < report->count; i++)
        fputs(salvo_report_valid(&report->runs[i]) ? "<td>yes</td>"
                                                   : "<td class=\"lost\">NO</td>", to);
    fputs("</tr>\n", to);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        put_row(to, report, &rows[i]);
    close_table(to);
    fputs("</section>\n", to);
}

void salvo_report_tables(FILE *to, const salvo_page *report)
{
    fputs("<div class=\"cards\">\n", to);
    for (size_t i = 0; i < report->count; i++)
        put_card(to, &report->runs[i], i);
    fputs("</div>\n", to);
    put_latency(to, report);
    put_rates(to, report);
    put_stages(to, report);
    put_trust(to, report);
    salvo_report_settings(to, report);
}
