/* SPDX-License-Identifier: Apache-2.0
 *
 * Text and numbers for people, safe inside of HTML elements and quoted attributes.
 */
#include "report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void salvo_report_text(FILE *to, const char *text)
{
    for (; text && *text; text++) {
        switch (*text) {
        case '<': fputs("&lt;", to); break;
        case '>': fputs("&gt;", to); break;
        case '&': fputs("&amp;", to); break;
        case '"': fputs("&quot;", to); break;
        case '\'': fputs("&#39;", to); break;
        default: fputc((unsigned char)*text < ' ' || *text == 0x7f ? ' ' : *text, to);
        }
    }
}

const char *salvo_report_string(const json_t *value, char *text, size_t size)
{
    if (json_is_string(value))
        return json_string_value(value);
    if (json_is_integer(value))
        snprintf(text, size, "%lld", (long long)json_integer_value(value));
    else if (json_is_real(value))
        snprintf(text, size, "%.6g", json_real_value(value));
    else if (json_is_boolean(value))
        snprintf(text, size, "%s", json_is_true(value) ? "true" : "false");
    else
        snprintf(text, size, "%s", value && !json_is_null(value) ? "(not shown)" : "");
    return text;
}

/* Three digits that count, as in 1.23, 45.6, 789. */
static void three_digits(FILE *to, double value)
{
    fprintf(to, "%.*f", value < 9.995 ? 2 : value < 99.95 ? 1 : 0, value);
}

void salvo_report_time(FILE *to, double ns)
{
    static const struct {
        double below, unit;
        const char *name;
    } units[] = {{999.5, 1, "ns"}, {999.5e3, 1e3, "µs"}, {999.5e6, 1e6, "ms"},
                 {INFINITY, 1e9, "s"}};
    size_t i = 0;
    while (ns >= units[i].below && i < 3)
        i++;
    if (i == 0)
        fprintf(to, "%.0f", ns);
    else
        three_digits(to, ns / units[i].unit);
    fprintf(to, " %s", units[i].name);
}

void salvo_report_number(FILE *to, double value)
{
    char digits[64];
    if (value < 0 || value >= 1e18) {
        fprintf(to, "%.3g", value);
        return;
    }
    if (value < 99.95 && value != floor(value)) {
        three_digits(to, value);
        return;
    }
    int length = snprintf(digits, sizeof digits, "%.0f", value);
    for (int i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0)
            fputc(',', to);
        fputc(digits[i], to);
    }
}
