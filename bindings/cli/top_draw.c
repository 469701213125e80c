/* SPDX-License-Identifier: Apache-2.0
 *
 * The pictures of `salvo top`. They read well from 60 columns on; what is wider is cut by whoever
 * shows them. Rates are of the last interval, percentiles of it and since the start.
 */
#include "top.h"

#include <math.h>
#include <string.h>
#include <time.h>

enum { TOPICS_SHOWN = 10 };

static const char *const stage_names[SALVO_STAGES] = {"enqueue", "queue", "broker", "total"};

/* 1234567 as "1.23M": five columns at most. text: at least 16 bytes. */
static const char *brief(double value, char *text)
{
    static const char units[] = {0, 'k', 'M', 'G', 'T', 'P', 'E'};
    size_t unit = 0;
    while (value >= 999.5 && unit + 1 < sizeof units) {
        value /= 1000;
        unit++;
    }
    int decimals = value >= 99.95 || unit == 0 ? 0 : value >= 9.995 ? 1 : 2;
    snprintf(text, 16, "%.*f%.1s", decimals, value, unit ? &units[unit] : "");
    return text;
}

static const char *bytes_of(uint64_t bytes, char *text)
{
    double mib = (double)bytes / 1048576;
    snprintf(text, 16, mib >= 10 ? "%.0f MiB" : "%.1f MiB", mib);
    return text;
}

/* share of columns, in eighths of one where the locale can show them; filled up with spaces. */
static void bar(const salvo_picture *p, double share, int columns)
{
    static const char *const parts[] = {" ", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
    share = !(share > 0) ? 0 : share > 1 ? 1 : share;
    int eighths = (int)(share * columns * 8 + 0.5);
    if (share > 0 && eighths == 0)
        eighths = 1;
    if (!p->utf8)
        eighths = (eighths + 7) / 8 * 8;
    for (int i = 0; i < columns; i++) {
        int rest = eighths - i * 8;
        fputs(rest >= 8 ? (p->utf8 ? "█" : "#") : rest > 0 ? parts[rest] : " ", p->to);
    }
}

static void sparkline(const salvo_picture *p, const top_source *s, int columns)
{
    static const char *const steps[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
    static const char ascii[] = "_.-=oO#@";
    size_t first = s->history_count > (size_t)columns ? s->history_count - (size_t)columns : 0;
    double most = 0;
    for (size_t i = first; i < s->history_count; i++)
        most = s->history[i] > most ? s->history[i] : most;
    for (size_t i = first; i < s->history_count; i++) {
        int step = most > 0 ? (int)(s->history[i] / most * 7 + 0.5) : 0;
        if (p->utf8)
            fputs(steps[step], p->to);
        else
            fputc(ascii[step], p->to);
    }
}

static const char *age_of(uint64_t since_ms, char *text)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    uint64_t now_s = (uint64_t)t.tv_sec, since_s = since_ms / 1000;
    uint64_t age = now_s > since_s ? now_s - since_s : 0;
    if (age >= 86400)
        snprintf(text, 32, "%llu d %02llu h", (unsigned long long)(age / 86400),
                 (unsigned long long)(age / 3600 % 24));
    else
        snprintf(text, 32, "%llu:%02llu:%02llu", (unsigned long long)(age / 3600),
                 (unsigned long long)(age / 60 % 60), (unsigned long long)(age % 60));
    return text;
}

static void state_of(const top_source *s, char *text, size_t size)
{
    uint64_t since_ms;
    char age[32], when[16] = "";
    const char *state = salvo_top_state(s, &since_ms);
    time_t at = (time_t)(since_ms / 1000);
    struct tm local;
    age_of(since_ms, age);
    if (localtime_r(&at, &local) != NULL)
        strftime(when, sizeof when, "%H:%M:%S", &local);
    if (strcmp(state, "alive") == 0)
        snprintf(text, size, "alive for %s", age);
    else
        snprintf(text, size, "%s since %s, for %s", state, when, age);
}

static void draw_head(const salvo_picture *p, const top_source *s)
{
    char state[96];
    state_of(s, state, sizeof state);
    fprintf(p->to, "%s, pid %lld: %s\n", s->info.program, (long long)s->info.pid, state);
    fprintf(p->to, "%s as %s, salvo %s, %s clock\n", s->info.driver, s->info.client_id,
            s->info.version, s->now.known ? s->now.stats.clock : "?");
    if (s->now.known)
        fprintf(p->to, "broker   %s\n", s->now.stats.broker_state);
}

static void draw_rate(const salvo_picture *p, const top_source *s)
{
    const salvo_ledger *now = &s->now.stats.total, *before = &s->before.stats.total;
    char a[16], b[16], c[16];
    fprintf(p->to, "rate     ");
    if (s->seconds > 0)
        fprintf(p->to, "%s/s acknowledged, %s/s offered, %s/s refused\n",
                brief(salvo_top_rate(s, now->acknowledged, before->acknowledged), a),
                brief(salvo_top_rate(s, now->offered, before->offered), b),
                brief(salvo_top_rate(s, salvo_top_refused(now), salvo_top_refused(before)), c));
    else
        fprintf(p->to, "nothing new\n");
    if (s->history_count < 2)
        return;
    fprintf(p->to, "         ");
    sparkline(p, s, (int)p->width - 10);
    fputc('\n', p->to);
}

static void draw_counts(const salvo_picture *p, const char *label, const char *const *names,
                        const uint64_t *values, size_t count)
{
    char text[28];
    fprintf(p->to, "%-9s", label);
    for (size_t i = 0; i < count; i++)
        fprintf(p->to, "%s%s %s", i ? "  " : "", names[i], salvo_picture_count(values[i], text));
    fputc('\n', p->to);
}

static void draw_ledger(const salvo_picture *p, const salvo_stats *t)
{
    const salvo_ledger *l = &t->total;
    draw_counts(p, "ledger", (const char *[]){"offered", "accepted", "refused"},
                (uint64_t[]){l->offered, l->accepted, salvo_top_refused(l)}, 3);
    draw_counts(p, "", (const char *[]){"acknowledged", "pending"},
                (uint64_t[]){l->acknowledged, l->pending}, 2);
    draw_counts(p, "", (const char *[]){"failed", "maybe", "expired", "dropped"},
                (uint64_t[]){l->failed, l->maybe_delivered, l->expired, l->dropped}, 4);
    if (salvo_top_refused(l) != 0)
        draw_counts(p, " refused",
                    (const char *[]){"full", "by policy", "timeout", "large", "invalid"},
                    (uint64_t[]){l->refused_full, l->refused_dropped, l->refused_timeout,
                                 l->refused_too_large, l->refused_invalid}, 5);
    if (!salvo_picture_balanced(l))
        fprintf(p->to, "         DOES NOT BALANCE; please report this\n");
}

static void draw_fill(const salvo_picture *p, const char *name, uint64_t used, uint64_t all)
{
    char text[16];
    double share = all != 0 ? (double)used / (double)all : 0;
    fprintf(p->to, "%-9s", name);
    bar(p, share, (int)p->width - 36);
    fprintf(p->to, " %5.1f %% of %s\n", share * 100, bytes_of(all, text));
}

static void draw_batches(const salvo_picture *p, const top_source *s)
{
    const salvo_stats *t = &s->now.stats, *b = &s->before.stats;
    char rate[16], count[28];
    double all = t->batches != 0 ? (double)t->batches : 1;
    fprintf(p->to, "batches  %s", salvo_picture_count(t->batches, count));
    if (s->seconds > 0)
        fprintf(p->to, ", %s/s", brief(salvo_top_rate(s, t->batches, b->batches), rate));
    fprintf(p->to, "; in flight %s", salvo_picture_count(t->in_flight_batches, count));
    fprintf(p->to, " of %s messages\n", salvo_picture_count(t->in_flight_messages, count));
    fprintf(p->to, " closed  by linger %.0f %%, bytes %.0f %%, count %.0f %%, waiter %.0f %%\n",
            (double)t->closed_by_linger / all * 100, (double)t->closed_by_bytes / all * 100,
            (double)t->closed_by_count / all * 100, (double)t->closed_by_waiter / all * 100);
    draw_counts(p, "trouble", (const char *[]){"retries", "reopens", "errors", "stalled claims"},
                (uint64_t[]){t->retries, t->reopens, t->broker_errors, t->stalled_claims}, 4);
    if (t->stalled_since_ns != 0)
        fprintf(p->to, "         ring %u is held up by a claim, for %.1f s\n", t->stalled_ring,
                (double)t->stalled_since_ns / 1e9);
}

static void draw_stages(const salvo_picture *p, const char *title, const salvo_latency *stages)
{
    static const char *const columns[] = {"p50", "p90", "p99", "p99.9", "p99.99", "max"};
    char text[16];
    fprintf(p->to, "%-10s", title);
    for (int i = 0; i < 6; i++)
        fprintf(p->to, " %7s", columns[i]);
    fputc('\n', p->to);
    for (int s = 0; s < SALVO_STAGES; s++) {
        const salvo_latency *l = &stages[s];
        const uint64_t values[6] = {l->p50, l->p90, l->p99, l->p999, l->p9999, l->max};
        fprintf(p->to, " %-9s", stage_names[s]);
        for (int i = 0; i < 6; i++)
            fprintf(p->to, " %7s", l->count ? salvo_picture_time(values[i], text) : "-");
        fputc('\n', p->to);
    }
}

/* How many lie between which times, of the whole way, since the start: logarithmic steps. */
static void draw_curve(const salvo_picture *p, const top_source *s)
{
    const salvo_histogram *h = s->start[SALVO_STAGE_TOTAL];
    const salvo_latency *l = &s->now.stats.stage[SALVO_STAGE_TOTAL];
    enum { ROWS = 6 };
    double low = l->min > 1000 ? (double)l->min : 1000, high = (double)l->max;
    uint64_t upto = 0, all = h != NULL ? salvo_histogram_count(h) : 0;
    char text[16];
    if (all == 0 || high <= low)
        return;
    fprintf(p->to, "total, since start: how many take up to\n");
    for (int i = 1; i <= ROWS; i++) {
        double bound = i == ROWS ? high : low * pow(high / low, (double)i / ROWS);
        uint64_t next = i == ROWS ? all : salvo_histogram_upto(h, (uint64_t)bound);
        next = next < upto ? upto : next;
        double share = (double)(next - upto) / (double)all;
        upto = next;
        fprintf(p->to, " %9s ", salvo_picture_time((uint64_t)bound, text));
        bar(p, share, (int)p->width - 22);
        fprintf(p->to, " %6.2f %%\n", share * 100);
    }
}

static void draw_topics(const salvo_picture *p, const top_source *s)
{
    static const salvo_ledger none;
    size_t order[TOPICS_SHOWN];
    size_t count = salvo_top_busiest(s, order, TOPICS_SHOWN);
    int room = (int)p->width - 40;
    if (count == 0)
        return;
    fprintf(p->to, "%-*s %8s %9s %9s %9s\n", room, "topic", "acked/s", "acked", "pending", "lost");
    for (size_t i = 0; i < count; i++) {
        const top_topic *t = &s->now.topics[order[i]];
        const salvo_ledger *l = &t->ledger;
        const salvo_ledger *b =
            order[i] < s->before.topic_count ? &s->before.topics[order[i]].ledger : &none;
        char rate[16], acked[16], pending[16], lost[16];
        fprintf(p->to, " %-*.*s %8s %9s %9s %9s\n", room - 1, room - 1, t->name,
                brief(salvo_top_rate(s, l->acknowledged, b->acknowledged), rate),
                brief((double)l->acknowledged, acked), brief((double)l->pending, pending),
                brief((double)(l->failed + l->expired + l->dropped), lost));
    }
    if (s->now.topic_count > count)
        fprintf(p->to, " and %zu more\n", s->now.topic_count - count);
}

void salvo_top_draw_one(const salvo_picture *p, const top_source *s)
{
    draw_head(p, s);
    if (!s->now.known) {
        fprintf(p->to, "it has not told anything yet\n");
        return;
    }
    draw_rate(p, s);
    draw_ledger(p, &s->now.stats);
    draw_fill(p, "rings", s->now.stats.ring_used_bytes, s->now.stats.ring_bytes);
    draw_fill(p, "arena", s->now.stats.arena_used_bytes, s->now.stats.arena_bytes);
    draw_batches(p, s);
    if (s->seconds > 0)
        draw_stages(p, "interval", s->interval);
    draw_stages(p, "from start", s->now.stats.stage);
    draw_topics(p, s);
    draw_curve(p, s);
}

void salvo_top_draw_list(const salvo_picture *p, const top_view *view)
{
    fprintf(p->to, "%7s %-14s %-8s %7s %7s %5s %7s\n", "pid", "program", "driver", "acked/s",
            "pending", "rings", "p99");
    for (size_t i = 0; i < view->count; i++) {
        const top_source *s = view->sources[i];
        const salvo_stats *t = &s->now.stats;
        const salvo_latency *l = s->seconds > 0 ? &s->interval[SALVO_STAGE_TOTAL]
                                                : &t->stage[SALVO_STAGE_TOTAL];
        char rate[16], pending[16], p99[16], state[96];
        uint64_t since_ms;
        fprintf(p->to, "%7lld %-14.14s %-8.8s ", (long long)s->info.pid, s->info.program,
                s->info.driver);
        if (s->now.known)
            fprintf(p->to, "%7s %7s %3.0f %% %7s\n",
                    brief(salvo_top_rate(s, t->total.acknowledged,
                                         s->before.stats.total.acknowledged), rate),
                    brief((double)t->total.pending, pending),
                    t->ring_bytes ? (double)t->ring_used_bytes / (double)t->ring_bytes * 100 : 0,
                    l->count ? salvo_picture_time(l->p99, p99) : "-");
        else
            fprintf(p->to, "nothing yet\n");
        state_of(s, state, sizeof state);
        if (strcmp(salvo_top_state(s, &since_ms), "alive") != 0)
            fprintf(p->to, "        %s\n", state);
        else if (s->now.known && strncmp(t->broker_state, "up", 2) != 0)
            fprintf(p->to, "        broker %s\n", t->broker_state);
    }
    fprintf(p->to, "\n`salvo top PID` shows one.\n");
}
