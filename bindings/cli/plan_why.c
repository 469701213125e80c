/* SPDX-License-Identifier: Apache-2.0
 *
 * Why a plan cannot be met, in one line: which part, in which run, and by how much.
 */
#include "plan.h"

#include "picture.h"

#include <stdio.h>

typedef unsigned long long number;

static const char *time_text(uint64_t ns, char text[16])
{
    return ns == UINT64_MAX ? "never" : salvo_picture_time(ns, text);
}

const char *salvo_cli_plan_bound(const salvo_plan_result *r)
{
    if (r->server_busy_permille >= 900)
        return "the broker's servers";
    if (r->flusher_busy_permille >= 900)
        return "the flusher's core";
    if (r->library_busy_permille >= 900)
        return "the client library's thread";
    if (r->cores_busy_permille >= 950)
        return "the host's cores";
    return "the window of requests in flight";
}

static int why_p99(char *text, size_t size, uint64_t is_ns, uint64_t wanted_ns)
{
    char is[16], wanted[16], over[16];
    if (is_ns == UINT64_MAX)
        return snprintf(text, size, "never; %s is asked for", time_text(wanted_ns, wanted));
    return snprintf(text, size, "%s; %s is asked for, %s too slow", time_text(is_ns, is),
                    time_text(wanted_ns, wanted),
                    time_text(is_ns > wanted_ns ? is_ns - wanted_ns : 0, over));
}

static int why_recovery(char *text, size_t size, const salvo_plan_case *c,
                        const salvo_plan_broke *b)
{
    char is[16], over[16], buffer[16];
    uint64_t wanted_ns = c->recovery_ns, is_ns = b->r->recovery_ns;
    const char *wanted = time_text(wanted_ns, buffer);
    if (is_ns == UINT64_MAX)
        return snprintf(text, size, "%s after the outage %llu messages still wait; %s is allowed: "
                        "the broker is too slow to catch up, or the rate too high", wanted,
                        (number)(b->r->ledger.pending * 1000 / b->shrunk_permille), wanted);
    is_ns = is_ns * 1000 / b->shrunk_permille;
    return snprintf(text, size, "catching up takes %s; %s is allowed, %s too slow",
                    time_text(is_ns, is), wanted,
                    time_text(is_ns > wanted_ns ? is_ns - wanted_ns : 0, over));
}

/* What a blocked sender has not sent yet is not in the ledger, but wanted. */
static int why_throughput(char *text, size_t size, const salvo_plan_case *c,
                          const salvo_plan_broke *b)
{
    uint64_t ms = b->over_ns / 1000000, wanted = salvo_cli_plan_rate(c, PLAN_HEADROOM_PERMILLE);
    uint64_t offered = b->r->ledger.offered * 1000 / ms;
    uint64_t is = b->r->ledger.acknowledged * 1000 / ms;
    wanted = wanted < offered ? offered : wanted;
    return snprintf(text, size, "%llu messages a second go through, because of %s; %llu are asked "
                    "for, %llu too many", (number)is, salvo_cli_plan_bound(b->r), (number)wanted,
                    (number)(wanted > is ? wanted - is : 0));
}

void salvo_cli_plan_why(const salvo_plan_case *c, salvo_plan_found *f, const salvo_plan_broke *b)
{
    const salvo_ledger *l = &b->r->ledger;
    int used = snprintf(f->why, sizeof f->why, "%s: %s ", salvo_cli_plan_limit_name(b->how),
                        b->where);
    char *text = f->why + used;
    size_t size = sizeof f->why - (size_t)used;
    f->possible = false;
    f->broken = b->how;
    if (b->how == PLAN_P99)
        (void)why_p99(text, size, b->p99_ns, c->p99_ns);
    else if (b->how == PLAN_RECOVERY)
        (void)why_recovery(text, size, c, b);
    else if (b->how == PLAN_THROUGHPUT)
        (void)why_throughput(text, size, c, b);
    else
        snprintf(text, size, "%llu of %llu messages %s",
                 (number)((l->offered - l->accepted + l->expired + l->failed + b->r->blocked) *
                          1000 / b->shrunk_permille),
                 (number)(l->offered * 1000 / b->shrunk_permille),
                 b->how == PLAN_EXPIRED ? "expire or fail"
                                        : "are refused, have to wait for room or expire");
}
