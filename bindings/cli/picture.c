/* SPDX-License-Identifier: Apache-2.0
 *
 * Draws what picture.h promises. Bars of times are logarithmic (each column the same factor),
 * because the stages lie orders of magnitude apart; bars of shares are linear.
 */
#include "picture.h"

#include <langinfo.h>
#include <locale.h>
#include <math.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static const char *const stage_names[SALVO_STAGES] = {"enqueue", "queue", "broker", "total"};

salvo_picture salvo_picture_for(FILE *to)
{
    salvo_picture picture = {to, 80, false};
    struct winsize size;
    if (isatty(fileno(to)) && ioctl(fileno(to), TIOCGWINSZ, &size) == 0 && size.ws_col >= 40)
        picture.width = size.ws_col > 120 ? 120 : size.ws_col;
    setlocale(LC_CTYPE, ""); /* characters only: numbers keep their decimal point */
    picture.utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    return picture;
}

const char *salvo_picture_count(uint64_t value, char *text)
{
    char digits[24];
    int len = snprintf(digits, sizeof digits, "%llu", (unsigned long long)value);
    char *at = text;
    for (int i = 0; i < len; i++) {
        if (i > 0 && (len - i) % 3 == 0)
            *at++ = ',';
        *at++ = digits[i];
    }
    *at = '\0';
    return text;
}

const char *salvo_picture_time(uint64_t ns, char *text)
{
    static const char *const units[] = {"ns", "us", "ms", "s"};
    double value = (double)ns;
    int unit = 0;
    while (unit < 3 && value >= 999.5) {
        value /= 1000;
        unit++;
    }
    int decimals = unit == 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
    snprintf(text, 16, "%.*f %s", decimals, value, units[unit]);
    return text;
}

/* A bar of eighths of a column; ASCII has whole columns only. */
static void bar(const salvo_picture *picture, double columns)
{
    static const char *const parts[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
    int eighths = (int)(columns * 8 + 0.5);
    if (columns > 0 && eighths < 8)
        eighths = eighths > 1 ? eighths : 1;
    if (!picture->utf8)
        eighths = columns > 0 && eighths < 8 ? 8 : eighths;
    for (int i = 0; i < eighths / 8; i++)
        fputs(picture->utf8 ? "█" : "#", picture->to);
    if (picture->utf8)
        fputs(parts[eighths % 8], picture->to);
}

static void percentiles_of(const salvo_latency *latency, uint64_t values[6])
{
    const uint64_t all[6] = {latency->p50,  latency->p90,   latency->p99,
                             latency->p999, latency->p9999, latency->max};
    memcpy(values, all, sizeof all);
}

static const char *const columns[6] = {"p50", "p90", "p99", "p99.9", "p99.99", "max"};

static void latency_table(const salvo_picture *picture,
                          const salvo_latency stages[SALVO_STAGES])
{
    char text[16];
    fprintf(picture->to, "%-8s", "latency");
    for (int i = 0; i < 6; i++)
        fprintf(picture->to, " %9s", columns[i]);
    fputc('\n', picture->to);
    for (int s = 0; s < SALVO_STAGES; s++) {
        uint64_t values[6];
        percentiles_of(&stages[s], values);
        fprintf(picture->to, "%-8s", stage_names[s]);
        for (int i = 0; i < 6; i++)
            fprintf(picture->to, " %9s",
                    stages[s].count ? salvo_picture_time(values[i], text) : "-");
        fputc('\n', picture->to);
    }
}

static void latency_bars(const salvo_picture *picture, const char *name,
                         const salvo_latency *latency, double low, double high)
{
    uint64_t values[6];
    char text[16];
    double room = (double)picture->width - 30;
    percentiles_of(latency, values);
    for (int i = 0; i < 6; i++) {
        double share = log((double)(values[i] ? values[i] : 1) / low) / log(high / low);
        share = share < 0 ? 0 : share > 1 ? 1 : share;
        fprintf(picture->to, "%-8s %-6s %10s  ", i == 0 ? name : "", columns[i],
                salvo_picture_time(values[i], text));
        bar(picture, share * room);
        fputc('\n', picture->to);
    }
}

void salvo_picture_latency(const salvo_picture *picture,
                           const salvo_latency stages[SALVO_STAGES])
{
    double low = 1e18, high = 0;
    latency_table(picture, stages);
    for (int s = 0; s < SALVO_STAGES; s++) {
        if (stages[s].count == 0)
            continue;
        double p50 = stages[s].p50 ? (double)stages[s].p50 : 1;
        low = p50 < low ? p50 : low;
        high = (double)stages[s].max > high ? (double)stages[s].max : high;
    }
    if (high == 0)
        return;
    char first[16], last[16];
    low /= 2; /* the smallest bar is to be seen */
    high = high > low * 2 ? high : low * 2;
    fprintf(picture->to, "\nlogarithmic, %s to %s\n", salvo_picture_time((uint64_t)low, first),
            salvo_picture_time((uint64_t)high, last));
    for (int s = 0; s < SALVO_STAGES; s++)
        if (stages[s].count && (s == SALVO_STAGE_ENQUEUE || s == SALVO_STAGE_TOTAL))
            latency_bars(picture, stage_names[s], &stages[s], low, high);
}

static uint64_t refused(const salvo_ledger *ledger)
{
    return ledger->refused_full + ledger->refused_dropped + ledger->refused_timeout +
           ledger->refused_too_large + ledger->refused_invalid;
}

bool salvo_picture_balanced(const salvo_ledger *ledger)
{
    return ledger->offered == ledger->accepted + refused(ledger) &&
           ledger->accepted == ledger->acknowledged + ledger->failed + ledger->expired +
                                   ledger->dropped + ledger->pending;
}

typedef struct part {
    const char *name;
    uint64_t count;
} part;

static void equation(const salvo_picture *picture, const char *name, uint64_t sum,
                     const part *parts, size_t count)
{
    char text[28];
    fprintf(picture->to, "  %s %s =", name, salvo_picture_count(sum, text));
    for (size_t i = 0; i < count; i++)
        fprintf(picture->to, "%s %s %s", i ? " +" : "", parts[i].name,
                salvo_picture_count(parts[i].count, text));
    fputc('\n', picture->to);
}

/* Rows of the parts that are not zero. */
static void shares(const salvo_picture *picture, uint64_t sum, const part *parts, size_t count)
{
    char text[28];
    double room = (double)picture->width - 48;
    for (size_t i = 0; i < count; i++) {
        if (parts[i].count == 0)
            continue;
        double share = sum ? (double)parts[i].count / (double)sum : 0;
        /* 99.99996 % must not be printed as everything */
        double shown = parts[i].count < sum && share > 0.99999 ? 99.999 : share * 100;
        fprintf(picture->to, "  %-18s %15s %7.*f %%  ", parts[i].name,
                salvo_picture_count(parts[i].count, text), shown > 99.9 && shown < 100 ? 3 : 1,
                shown);
        bar(picture, share * room);
        fputc('\n', picture->to);
    }
}

void salvo_picture_ledger(const salvo_picture *picture, const salvo_ledger *ledger)
{
    const part offered[] = {{"accepted", ledger->accepted}, {"refused", refused(ledger)}};
    const part accepted[] = {{"acknowledged", ledger->acknowledged},
                             {"failed", ledger->failed},
                             {"expired", ledger->expired},
                             {"dropped", ledger->dropped},
                             {"pending", ledger->pending}};
    const part reasons[] = {{"refused: full", ledger->refused_full},
                            {"refused: dropped", ledger->refused_dropped},
                            {"refused: timeout", ledger->refused_timeout},
                            {"refused: too large", ledger->refused_too_large},
                            {"refused: invalid", ledger->refused_invalid}};
    fprintf(picture->to, "ledger%s\n",
            salvo_picture_balanced(ledger) ? "" : " DOES NOT BALANCE; please report this");
    equation(picture, "offered ", ledger->offered, offered, 2);
    equation(picture, "accepted", ledger->accepted, accepted, 5);
    shares(picture, ledger->accepted, accepted, 5);
    if (ledger->maybe_delivered) {
        const part maybe = {"maybe delivered", ledger->maybe_delivered};
        shares(picture, ledger->accepted, &maybe, 1);
    }
    shares(picture, ledger->offered, reasons, 5);
}

void salvo_picture_share(const salvo_picture *picture, const char *label, uint64_t count,
                         uint64_t total, uint64_t most)
{
    char text[28];
    double room = (double)picture->width - 42;
    fprintf(picture->to, "  %10s %13s %8.4f %%  ", label, salvo_picture_count(count, text),
            total ? 100 * (double)count / (double)total : 0);
    bar(picture, most ? (double)count / (double)most * room : 0);
    fputc('\n', picture->to);
}
