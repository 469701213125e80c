/* SPDX-License-Identifier: Apache-2.0
 *
 * A page as a whole: page.html with its places filled. Its policy lets exactly the scripts and
 * the style of this program run, by their hashes; no request can leave it. The results' data
 * stands in a block that is no script, with every < > & and non-ASCII character escaped.
 */
#include "report.h"

#include <openssl/evp.h>
#include <salvo/version.h>
#include <stdlib.h>
#include <string.h>

/* ' sha256-...' of a script or style, as the policy takes it */
static void put_hash(FILE *to, const char *text)
{
    unsigned char digest[EVP_MAX_MD_SIZE], base64[2 * EVP_MAX_MD_SIZE];
    unsigned size = 0;
    if (EVP_Digest(text, strlen(text), digest, &size, EVP_sha256(), NULL) != 1)
        return; /* then nothing runs */
    EVP_EncodeBlock(base64, digest, (int)size);
    fprintf(to, " 'sha256-%s'", (const char *)base64);
}

static void put_policy(FILE *to)
{
    fputs("default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; style-src", to);
    put_hash(to, salvo_report_style);
    fputs("; script-src", to);
    put_hash(to, salvo_report_script);
    if (*salvo_report_chart)
        put_hash(to, salvo_report_chart);
}

static void put_data(FILE *to, const json_t *data)
{
    char *text = data ? json_dumps(data, JSON_COMPACT | JSON_ENSURE_ASCII |
                                             JSON_REAL_PRECISION(6)) : NULL;
    for (const char *at = text ? text : "{\"runs\":[]}"; *at; at++) {
        if (*at == '<' || *at == '>' || *at == '&')
            fprintf(to, "\\u%04x", (unsigned)*at); /* they stand in strings only */
        else
            fputc(*at, to);
    }
    free(text);
}

static void put_alarm(FILE *to, const void *context)
{
    const salvo_page *report = context;
    size_t invalid = 0;
    for (size_t i = 0; i < report->count; i++)
        invalid += !salvo_report_valid(&report->runs[i]);
    if (invalid == 0)
        return;
    fprintf(to, "<div class=\"alarm loud\" role=\"alert\"><strong>%zu of %zu result%s invalid."
            "</strong> Do not draw conclusions from %s.<ul>\n", invalid, report->count,
            report->count == 1 ? " is" : invalid == 1 ? "s is" : "s are",
            invalid == 1 ? "it" : "them");
    for (size_t i = 0; i < report->count; i++) {
        if (salvo_report_valid(&report->runs[i]))
            continue;
        fputs("<li><bdi>", to);
        salvo_report_text(to, report->runs[i].name);
        fputs("</bdi>: <bdi>", to);
        salvo_report_text(to, salvo_report_reason(&report->runs[i]));
        fputs("</bdi></li>\n", to);
    }
    fputs("</ul></div>\n", to);
}

static void put_legend(FILE *to, const void *context)
{
    const salvo_page *report = context;
    fputs("<ul class=\"legend\">", to);
    for (size_t i = 0; i < report->count; i++) {
        fprintf(to, "<li class=\"run color-%zu%s\"><bdi>", i % REPORT_COLORS,
                salvo_report_again(i));
        salvo_report_text(to, report->runs[i].name);
        fputs(salvo_report_valid(&report->runs[i])
                  ? "</bdi></li>" : "</bdi> <em class=\"badge\">INVALID</em></li>", to);
    }
    fputs("</ul>\n", to);
}

static void put_body(FILE *to, const void *context)
{
    salvo_report_tables(to, context);
}

static void put_place(FILE *to, const salvo_page_parts *parts, const char *name, size_t length)
{
    char place[16];
    snprintf(place, sizeof place, "%.*s", (int)length, name);
    if (strcmp(place, "policy") == 0)
        put_policy(to);
    else if (strcmp(place, "title") == 0)
        salvo_report_text(to, parts->title);
    else if (strcmp(place, "nav") == 0)
        fputs(parts->nav, to);
    else if (strcmp(place, "version") == 0)
        fputs(SALVO_VERSION, to);
    else if (strcmp(place, "style") == 0)
        fputs(salvo_report_style, to);
    else if (strcmp(place, "alarm") == 0 && parts->alarm)
        parts->alarm(to, parts->context);
    else if (strcmp(place, "legend") == 0 && parts->legend)
        parts->legend(to, parts->context);
    else if (strcmp(place, "body") == 0)
        parts->body(to, parts->context);
    else if (strcmp(place, "data") == 0)
        put_data(to, parts->data);
    else if (strcmp(place, "chart") == 0)
        fputs(salvo_report_chart, to);
    else if (strcmp(place, "script") == 0)
        fputs(salvo_report_script, to);
}

char *salvo_page_html(const salvo_page_parts *parts, size_t *size)
{
    char *page = NULL;
    FILE *to = open_memstream(&page, size);
    const char *at = salvo_report_page, *open, *close;
    bool good = to != NULL;
    while (good && (open = strstr(at, "{{")) && (close = strstr(open, "}}"))) {
        fwrite(at, 1, (size_t)(open - at), to);
        put_place(to, parts, open + 2, (size_t)(close - open - 2));
        at = close + 2;
    }
    json_decref(parts->data);
    if (!good)
        return NULL;
    fputs(at, to);
    good = !ferror(to);
    if (fclose(to) == 0 && good)
        return page;
    free(page);
    return NULL;
}

char *salvo_report_html(const salvo_page *report, size_t *size)
{
    salvo_page_parts parts = {
        .title = report->title,
        .nav = "<a href=\"#latency\">Latency</a> <a href=\"#rates\">Rates</a> "
               "<a href=\"#stages\">Stages</a> <a href=\"#trust\">Trust</a> "
               "<a href=\"#settings\">Settings</a>",
        .alarm = put_alarm, .legend = put_legend, .body = put_body,
        .data = salvo_report_data(report), .context = report};
    return salvo_page_html(&parts, size);
}
