/* SPDX-License-Identifier: Apache-2.0
 *
 * The live line. Where there is no terminal nothing is drawn, but a broker that stays away is
 * told once in a line, so that a waiting command does not look like a hanging one.
 */
#include "progress.h"

#include "cli.h"
#include "picture.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define DOWN_PATIENCE_NS 2000000000u

void salvo_progress_init(salvo_progress *progress, bool quiet)
{
    *progress = (salvo_progress){.quiet = quiet, .live = !quiet && isatty(STDERR_FILENO),
                                 .last_ns = salvo_cli_now_ns()};
}

static void watch_broker(salvo_progress *progress, const salvo_stats *stats, uint64_t now)
{
    if (strncmp(stats->broker_state, "down", 4) != 0) {
        progress->down_since_ns = 0;
        progress->told = false;
        return;
    }
    if (progress->down_since_ns == 0)
        progress->down_since_ns = now;
    if (progress->told || now - progress->down_since_ns < DOWN_PATIENCE_NS)
        return;
    progress->told = true;
    salvo_cli_say("waiting for the broker, which is %s; Ctrl-C gives up", stats->broker_state);
}

static void draw(salvo_progress *progress, const salvo_stats *stats)
{
    char acknowledged[28], rate[28], pending[28], p99[16], line[256];
    const char *state = stats->broker_state;
    struct winsize size = {.ws_col = 80};
    ioctl(STDERR_FILENO, TIOCGWINSZ, &size);
    int len = snprintf(line, sizeof line, "%s acknowledged  %s/s  pending %s  p99 %s%s%s",
                       salvo_picture_count(stats->total.acknowledged, acknowledged),
                       salvo_picture_count((uint64_t)progress->rate, rate),
                       salvo_picture_count(stats->total.pending, pending),
                       salvo_picture_time(stats->stage[SALVO_STAGE_TOTAL].p99, p99),
                       strncmp(state, "down", 4) == 0 ? "  broker " : "",
                       strncmp(state, "down", 4) == 0 ? state : "");
    int room = size.ws_col > 1 ? size.ws_col - 1 : 79;
    len = len > (int)sizeof line - 1 ? (int)sizeof line - 1 : len;
    fprintf(stderr, "\r%.*s\033[K", len > room ? room : len, line);
    fflush(stderr);
    salvo_cli_progress_shown(true);
}

void salvo_progress_step(salvo_progress *progress, salvo *producer)
{
    salvo_stats stats = {.size = sizeof stats};
    if (salvo_get_stats(producer, &stats) != 0)
        return;
    uint64_t now = salvo_cli_now_ns();
    uint64_t passed = now - progress->last_ns;
    if (!progress->quiet)
        watch_broker(progress, &stats, now);
    if (!progress->live || passed < 100000000)
        return;
    double rate = (double)(stats.total.acknowledged - progress->last_acknowledged) * 1e9 /
                  (double)passed;
    progress->rate = progress->rate > 0 ? progress->rate * 0.6 + rate * 0.4 : rate;
    progress->last_acknowledged = stats.total.acknowledged;
    progress->last_ns = now;
    draw(progress, &stats);
}

void salvo_progress_end(salvo_progress *progress)
{
    if (progress->live)
        fputs("\r\033[K", stderr);
    salvo_cli_progress_shown(false);
}
