/* SPDX-License-Identifier: Apache-2.0
 *
 * The machine and the settings: what differs between the results stands in front and is marked,
 * the rest is said once.
 */
#include "report.h"

#include <string.h>

#define TEXT_MOST 300 /* of a value that is compared */

static const struct {
    const char *name, *path; /* path "": of the result itself */
} groups[] = {{"run", ""}, {"load", "load"}, {"settings", "settings"}, {"machine", "machine"}};
#define GROUPS (sizeof groups / sizeof *groups)

static const char *const of_run[] = {"client",    "client_version", "broker",
                                     "warmup_s",  "duration_s",     "processes"};

static void value_at(const salvo_report_run *run, const char *path, const char *key, char *text)
{
    const json_t *value = json_object_get(salvo_report_find(run->result, path), key);
    char scalar[64];
    if (strcmp(key, "memory_bytes") == 0 && json_is_number(value))
        snprintf(text, TEXT_MOST, "%.1f GiB", json_number_value(value) / (1 << 30));
    else
        snprintf(text, TEXT_MOST, "%s", salvo_report_string(value, scalar, sizeof scalar));
}

/* Topics that a run makes for itself have other names each time. */
static bool differs(const salvo_page *report, const char *path, const char *key)
{
    char first[TEXT_MOST], other[TEXT_MOST];
    value_at(&report->runs[0], path, key, first);
    bool own = strcmp(key, "topic") == 0 && strncmp(first, "salvo-bench-", 12) == 0;
    for (size_t i = 1; i < report->count; i++) {
        value_at(&report->runs[i], path, key, other);
        if (strcmp(first, other) != 0 && !(own && strncmp(other, "salvo-bench-", 12) == 0))
            return true;
    }
    return false;
}

/* All keys that any result has in a group, in the order of their appearance. */
static json_t *keys_of(const salvo_page *report, size_t group)
{
    json_t *keys = json_object();
    for (size_t i = 0; group == 0 && i < sizeof of_run / sizeof *of_run; i++)
        json_object_set_new(keys, of_run[i], json_true());
    for (size_t i = 0; group > 0 && i < report->count; i++) {
        const char *key;
        json_t *value, *object = json_object_get(report->runs[i].result, groups[group].path);
        json_object_foreach(object, key, value)
            json_object_set_new(keys, key, json_true());
    }
    return keys;
}

static void put_key(FILE *to, const char *key)
{
    fputs("<tr><th scope=\"row\"><code>", to);
    salvo_report_text(to, key);
    fputs("</code></th>", to);
}

static void put_text(FILE *to, const char *text)
{
    fputs("<td><bdi>", to);
    if (*text)
        salvo_report_text(to, text);
    else
        fputs("&ndash;", to);
    fputs("</bdi></td>", to);
}

/* Prints the keys that differ, or those that do not; how many. */
static size_t put_group(FILE *to, const salvo_page *report, size_t group, bool differing)
{
    char text[TEXT_MOST];
    const char *key;
    size_t count = 0;
    json_t *value, *keys = keys_of(report, group);
    json_object_foreach(keys, key, value) {
        if (differs(report, groups[group].path, key) != differing)
            continue;
        if (count++ == 0)
            fprintf(to, "<tr class=\"group\"><th scope=\"rowgroup\" colspan=\"%zu\"><span>%s"
                    "</span></th></tr>\n", differing ? report->count + 1 : 2, groups[group].name);
        put_key(to, key);
        for (size_t i = 0; i < (differing ? report->count : 1); i++) {
            value_at(&report->runs[i], groups[group].path, key, text);
            put_text(to, text);
        }
        fputs("</tr>\n", to);
    }
    json_decref(keys);
    return count;
}

static void put_differing(FILE *to, const salvo_page *report)
{
    size_t count = 0;
    fputs("<h3>What differs</h3>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" "
          "aria-label=\"What differs\"><table class=\"compare differs\">\n", to);
    salvo_report_heads(to, report, "");
    fputs("<tbody>\n", to);
    for (size_t i = 0; i < GROUPS; i++)
        count += put_group(to, report, i, true);
    if (count == 0)
        fprintf(to, "<tr><td colspan=\"%zu\">nothing</td></tr>\n", report->count + 1);
    fputs("</tbody></table></div>\n", to);
}

void salvo_report_settings(FILE *to, const salvo_page *report)
{
    fputs("<section id=\"settings\"><h2>Machine and settings</h2>\n", to);
    if (report->count > 1)
        put_differing(to, report);
    fputs(report->count > 1 ? "<details open><summary>The same in all</summary>\n" : "", to);
    fputs("<table class=\"plain\"><tbody>\n", to);
    for (size_t i = 0; i < GROUPS; i++)
        put_group(to, report, i, false);
    fputs("</tbody></table>\n", to);
    fputs(report->count > 1 ? "</details>\n" : "", to);
    fputs("</section>\n", to);
}
