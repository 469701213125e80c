/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of `salvo report` share. Everything in a result is taken for text of anybody:
 * it enters the page through salvo_report_text and salvo_report_data alone, which leave no
 * character that could end or begin markup.
 */
#ifndef SALVO_CLI_REPORT_H
#define SALVO_CLI_REPORT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#define REPORT_RUNS_MOST 16
#define REPORT_COLORS 8   /* classes color-0 to color-7 of page.css */
#define REPORT_SLICES 300 /* of the measured time that are shown; longer runs are thinned */

typedef struct salvo_report_run {
    json_t *result;
    char *name; /* unlike all others */
    json_t *slices; /* over_time, thinned; see report_data.c */
} salvo_report_run;

typedef struct salvo_page {
    const char *title;
    salvo_report_run runs[REPORT_RUNS_MOST];
    size_t count;
} salvo_page;

/* report_files.c: what the page is made of. Without Chart.js at build time `chart` is empty. */
extern const char salvo_report_page[], salvo_report_style[], salvo_report_script[],
    salvo_report_chart[];

/* A number of a result by its path ("columns.acknowledged.p99_ns"). */
typedef enum salvo_report_kind { REPORT_ABSENT, REPORT_NUMBER, REPORT_NEVER } salvo_report_kind;

typedef struct salvo_report_value {
    salvo_report_kind kind; /* REPORT_NEVER: a percentile among messages that never arrived */
    double number;
} salvo_report_value;

const json_t *salvo_report_find(const json_t *result, const char *path);
salvo_report_value salvo_report_look(const json_t *result, const char *path);
bool salvo_report_valid(const salvo_report_run *run);
/* Why it is not valid; never NULL. */
const char *salvo_report_reason(const salvo_report_run *run);
/* Offered in the whole run and not acknowledged for certain: refused, failed, expired, dropped. */
salvo_report_value salvo_report_lost(const json_t *result);

/* " again" behind the class of a colour that is used a second time. */
static inline const char *salvo_report_again(size_t index)
{
    return index >= REPORT_COLORS ? " again" : "";
}

/* report_data.c */
extern const char *const salvo_report_columns[], *const salvo_report_stages[]; /* NULL ends them */
json_t *salvo_report_thin(const json_t *result);
json_t *salvo_report_data(const salvo_page *report);

/* report_text.c: text and numbers for people; HTML. */
void salvo_report_text(FILE *to, const char *text);
const char *salvo_report_string(const json_t *value, char *text, size_t size); /* any scalar */
void salvo_report_time(FILE *to, double ns);
void salvo_report_number(FILE *to, double value); /* three or more digits, grouped */

/* report_tables.c, report_settings.c: the page's body. */
void salvo_report_tables(FILE *to, const salvo_page *report);
void salvo_report_heads(FILE *to, const salvo_page *report, const char *first);
void salvo_report_over_time(FILE *to, const salvo_page *report);
void salvo_report_settings(FILE *to, const salvo_page *report);

/* report_html.c: the whole page, allocated; NULL: no memory. */
char *salvo_report_html(const salvo_page *report, size_t *size);

/* Any page of ours: what stands in page.html's places. */
typedef struct salvo_page_parts {
    const char *title, *nav; /* nav: markup of this program */
    void (*alarm)(FILE *to, const void *context);  /* NULL: none */
    void (*legend)(FILE *to, const void *context); /* NULL: none */
    void (*body)(FILE *to, const void *context);
    json_t *data; /* for page.js; the page takes it over */
    const void *context;
} salvo_page_parts;
char *salvo_page_html(const salvo_page_parts *parts, size_t *size);

#endif
