/* SPDX-License-Identifier: Apache-2.0
 *
 * One run; see run.h. What is demanded of every run, and what is only told, stands in judge().
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "run.h"

#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

enum {
    HEALTHY_MS = 2000,   /* before the strike, at least */
    MOST_WAIT_MS = 60000, /* for whatever must happen */
    RECOVERY_MS = 3000,   /* the load goes on so long; a server at its limit never catches up */
    RECOVERY_LONG_MS = 20000,
    DELIVERY_MS = 60000,  /* more than a server needs for a full buffer */
    DELIVERY_LONG_MS = 600000,
    REDIS_SILENT_MS = 18000, /* its driver gives a silent server a third of this */
    QUIET_MS = 300, /* nothing more was read for so long: no more duplicates come */
    SLACK_MIB = 24  /* stacks, the allocator's arenas, what libraries keep for themselves */
};
#define MS UINT64_C(1000000)
#define MIB (1024.0 * 1024.0)

void fault_say(fault_world *w, const char *format, ...)
{
    char line[1024];
    va_list list;
    va_start(list, format);
    vsnprintf(line, sizeof line, format, list);
    va_end(list);
    printf("%s\n", line);
    fflush(stdout);
    if (w->report != NULL) {
        fprintf(w->report, "%s\n", line);
        fflush(w->report);
    }
}

void fault_pause_ms(uint32_t ms)
{
    struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};
    while (nanosleep(&t, &t) != 0 && errno == EINTR)
        ;
}

/* --- the load's process ---------------------------------------------------------------------- */

static void set(fault_shared *s, const char *key, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void set(fault_shared *s, const char *key, const char *format, ...)
{
    va_list list;
    int i = 0;
    while (s->setting[i][0][0] != '\0')
        i++;
    assert_true(i + 1 < FAULT_SETTINGS);
    snprintf(s->setting[i][0], sizeof s->setting[i][0], "%s", key);
    va_start(list, format);
    vsnprintf(s->setting[i][1], sizeof s->setting[i][1], format, list);
    va_end(list);
}

static void configure(fault_world *w, const fault_case *c)
{
    fault_shared *s = w->shared;
    unsigned port = c->proxied ? fault_proxy_port(w->proxy) : w->broker.port;
    set(s, "message_broker", "%s", w->driver);
    set(s, "buffer_bytes", "%llu", (unsigned long long)w->buffer_bytes);
    set(s, "full_policy", "block");
    set(s, "send_timeout_ms", "%d", MOST_WAIT_MS);
    set(s, "delivery_timeout_ms", "%d",
        c->needs_silence && strcmp(w->driver, "redis") == 0 ? REDIS_SILENT_MS
        : w->lengthy                                          ? DELIVERY_LONG_MS
                                                              : DELIVERY_MS);
    set(s, "max_reports", "%llu", (unsigned long long)(w->buffer_bytes / 256));
    set(s, "linger_us", "2000");
    if (strcmp(w->driver, "kafka") == 0) {
        set(s, "kafka_bootstrap_servers", "127.0.0.1:%u",
            c->proxied ? w->broker.proxied_port : w->broker.port);
        set(s, "rdkafka.reconnect.backoff.max.ms", "1000"); /* its default is 10 s */
        if (c->needs_silence)
            set(s, "kafka_request_timeout_ms", "2000");
    } else if (strcmp(w->driver, "redis") == 0) {
        set(s, "redis_url", "redis://127.0.0.1:%u/0", port);
    } else if (strcmp(w->driver, "rabbitmq") == 0) {
        set(s, "rabbitmq_url", "amqp://guest:guest@127.0.0.1:%u/", port);
        if (c->needs_silence)
            set(s, "rabbitmq_heartbeat_s", "2");
    } else {
        set(s, "memory_partitions", "%d", FAULT_PARTITIONS);
        set(s, "memory_script", "%s", c->script);
    }
    if (c->extra[0] != NULL)
        set(s, c->extra[0], "%s", c->extra[1]);
}

void fault_prepare(fault_world *w, const fault_case *c)
{
    fault_shared *s = w->shared;
    memset(s, 0, sizeof *s);
    snprintf(s->driver, sizeof s->driver, "%s", w->driver);
    snprintf(s->topic, sizeof s->topic, "fault-%d-%u", (int)getpid(), w->runs++);
    snprintf(s->address, sizeof s->address, "127.0.0.1:%u", w->broker.port);
    s->rate = c->rate != 0 ? c->rate : w->rate;
    s->flush_ms = w->lengthy ? DELIVERY_LONG_MS : DELIVERY_MS;
    s->verify_inside = strcmp(w->driver, "memory") == 0;
    configure(w, c);
}

void fault_where(const fault_world *w, char *text, size_t size)
{
    const fault_shared *s = w->shared;
    int at = snprintf(text, size, "--topic %s", s->topic);
    for (int i = 0; s->setting[i][0][0] != '\0'; i++)
        if (s->setting[i][1][0] != '\0')
            at += snprintf(text + at, size - (size_t)at, " --set '%s=%s'", s->setting[i][0],
                           s->setting[i][1]);
}

static pid_t spawn(fault_world *w)
{
    char fd[16], program[] = "/proc/self/exe", option[] = "--load";
    char *argv[] = {program, option, fd, NULL};
    pid_t pid;
    snprintf(fd, sizeof fd, "%d", w->shared_fd);
    assert_int_equal(posix_spawn(&pid, program, NULL, NULL, argv, environ), 0);
    return pid;
}

static bool ended(pid_t pid)
{
    siginfo_t info = {0};
    return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) != 0 ||
           info.si_pid == pid;
}

/* Waits for a flag of the load's, which must not end before. */
static void await(fault_world *w, pid_t pid, const _Atomic uint32_t *flag, const char *what,
                  uint32_t most_ms)
{
    const uint64_t end = fault_now_ns() + most_ms * MS;
    while (atomic_load(flag) == 0) {
        if (ended(pid) && atomic_load(flag) == 0)
            fail_msg("the load ended before it was %s: %s", what, w->shared->error);
        if (fault_now_ns() > end)
            fail_msg("the load was not %s within %u ms: %s", what, most_ms, w->shared->error);
        fault_pause_ms(5);
    }
}

/* Until no more waits than a fifth of a second's messages. */
static void await_recovery(fault_world *w)
{
    const uint64_t end =
        fault_now_ns() + (w->lengthy ? RECOVERY_LONG_MS : RECOVERY_MS) * MS;
    const uint64_t few = w->shared->rate / 5;
    int calm = 0;
    while (calm < 10 && fault_now_ns() < end) {
        calm = atomic_load(&w->shared->pending) < few ? calm + 1 : 0;
        fault_pause_ms(20);
    }
    w->shared->recovered = calm >= 10;
}

static void end_verifier(fault_world *w)
{
    fault_shared *s = w->shared;
    uint64_t end = fault_now_ns() + MOST_WAIT_MS / 2 * MS, quiet_since = fault_now_ns();
    uint64_t read = 0;
    while (fault_now_ns() < end) {
        uint64_t now_read = atomic_load(&s->verdict.read);
        if (now_read != read)
            quiet_since = fault_now_ns();
        read = now_read;
        if (fault_lost(s, NULL, 0) == 0 && fault_now_ns() - quiet_since > QUIET_MS * MS)
            break;
        fault_pause_ms(10);
    }
    atomic_store(&s->stop_verifier, 1);
    fault_verify_join();
}

/* --- judgement ------------------------------------------------------------------------------- */

typedef struct judgement {
    char wrong[2048];
} judgement;

static void demand(judgement *j, bool met, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void demand(judgement *j, bool met, const char *format, ...)
{
    size_t at = strlen(j->wrong);
    va_list list;
    if (met)
        return;
    at += (size_t)snprintf(j->wrong + at, sizeof j->wrong - at, "%s", at > 0 ? "; " : "");
    if (at >= sizeof j->wrong)
        return;
    va_start(list, format);
    vsnprintf(j->wrong + at, sizeof j->wrong - at, format, list);
    va_end(list);
}

typedef unsigned long long ull;

static void judge_ledger(judgement *j, fault_world *w, const fault_case *c)
{
    const fault_shared *s = w->shared;
    const salvo_ledger *l = &s->ledger;
    uint64_t refused = l->refused_full + l->refused_dropped + l->refused_timeout +
                       l->refused_too_large + l->refused_invalid;
    uint64_t outcomes = l->acknowledged + l->failed + l->expired + l->dropped;
    demand(j, l->offered == l->accepted + refused, "offered %llu is not accepted %llu + refused "
           "%llu", (ull)l->offered, (ull)l->accepted, (ull)refused);
    demand(j, l->accepted == outcomes + l->pending && l->pending == 0 && l->pending_counted == 0,
           "accepted %llu is not settled %llu; pending %llu, counted %llu", (ull)l->accepted,
           (ull)outcomes, (ull)l->pending, (ull)l->pending_counted);
    demand(j, refused == 0, "%llu sends refused", (ull)refused);
    demand(j, s->acknowledged == l->acknowledged && s->maybe == l->maybe_delivered &&
           s->acknowledged + s->maybe + s->other == l->accepted,
           "reports (%llu acknowledged, %llu maybe, %llu other) do not match the ledger (%llu, "
           "%llu, %llu accepted)", (ull)s->acknowledged, (ull)s->maybe, (ull)s->other,
           (ull)l->acknowledged, (ull)l->maybe_delivered, (ull)l->accepted);
    demand(j, s->twice == 0, "%llu messages reported twice", (ull)s->twice);
    demand(j, s->flushed == 0, "flush: %s", salvo_strerror(s->flushed));
    if (!c->tells)
        demand(j, l->acknowledged == l->accepted, "%llu accepted and not acknowledged (failed "
               "%llu, of them maybe %llu, expired %llu, dropped %llu; last status: %s; broker %s)",
               (ull)(l->accepted - l->acknowledged), (ull)l->failed, (ull)l->maybe_delivered,
               (ull)l->expired, (ull)l->dropped, salvo_strerror(s->last_status),
               s->stats.broker_state);
    else
        demand(j, s->maybe + s->other > 0, "the fault told nobody anything");
}

/* What the drivers promise when something is sent again; README's table says the same. */
static bool keeps_order(const fault_world *w, const fault_case *c)
{
    return c->ordered || strcmp(w->driver, "kafka") == 0 || strcmp(w->driver, "memory") == 0;
}

static bool sends_once(const fault_world *w, const fault_case *c)
{
    bool idempotent = strcmp(w->driver, "kafka") == 0 && w->shared->stats.reopens == 0;
    return c->once || idempotent || strcmp(w->driver, "memory") == 0;
}

static void judge_broker(judgement *j, fault_world *w, const fault_case *c, uint64_t lost,
                         const char *first)
{
    const fault_shared *s = w->shared;
    const fault_verdict *v = &s->verdict;
    uint64_t ghosts = fault_ghosts(s);
    demand(j, lost == 0, "%llu LOST: acknowledged and not in the broker, first %s", (ull)lost,
           first);
    demand(j, ghosts == 0, "%llu reported as surely not delivered are in the broker",
           (ull)ghosts);
    demand(j, v->corrupt == 0, "%llu records are none that was sent", (ull)v->corrupt);
    demand(j, v->distinct <= s->ledger.accepted, "%llu distinct messages in the broker, %llu "
           "accepted", (ull)v->distinct, (ull)s->ledger.accepted);
    demand(j, !keeps_order(w, c) || v->disorder == 0, "%llu out of order within their key",
           (ull)v->disorder);
    demand(j, !sends_once(w, c) || v->duplicates == 0, "%llu duplicates", (ull)v->duplicates);
    demand(j, v->error[0] == '\0', "verifier: %s", v->error);
}

/* Told, not demanded: times. */
void fault_tell_calls(fault_world *w, const char *what, const fault_calls calls[FAULT_PHASES])
{
    const fault_calls *healthy = &calls[FAULT_HEALTHY], *struck = &calls[FAULT_STRUCK];
    uint64_t before = fault_calls_at(healthy, 0.9999), during = fault_calls_at(struck, 0.9999);
    fault_say(w, "%s, %llu healthy / %llu struck: p50 %llu / %llu ns, p99.99 %.1f / %.1f us: "
              "%.2f times, goal 2; longest %.1f / %.1f us", what, (ull)healthy->count,
              (ull)struck->count, (ull)fault_calls_at(healthy, 0.5),
              (ull)fault_calls_at(struck, 0.5), (double)before / 1e3, (double)during / 1e3,
              before > 0 ? (double)during / (double)before : 0, (double)healthy->longest / 1e3,
              (double)struck->longest / 1e3);
}

static void tell(fault_world *w, const fault_case *c, uint64_t lost, double grown)
{
    const fault_shared *s = w->shared;
    const fault_verdict *v = &s->verdict;
    const salvo_ledger *l = &s->ledger;
    fault_say(w, "%s: %s: %llu accepted at %.0f/s, acknowledged %llu, maybe %llu, other %llu, "
              "in the broker %llu", w->driver, c->name, (ull)l->accepted,
              (double)l->accepted * 1e9 / (double)s->sending_ns, (ull)l->acknowledged,
              (ull)s->maybe, (ull)s->other, (ull)v->distinct);
    fault_say(w, "    struck for %.1f s, then %.1f s until little waited%s, flushed in %.1f s",
              (double)(w->mended_ns - w->struck_ns) / 1e9,
              (double)(s->recovered_ns - w->mended_ns) / 1e9,
              s->recovered ? "" : " (not reached)", (double)s->flush_ns / 1e9);
    fault_say(w, "    lost %llu, duplicates %llu (and %llu handed to the verifier twice), out of "
              "order %llu; promised: lost 0%s%s", (ull)lost, (ull)v->duplicates,
              (ull)v->redelivered, (ull)v->disorder,
              sends_once(w, c) ? ", duplicates 0" : "", keeps_order(w, c) ? ", order" : "");
    fault_say(w, "    most waiting %llu, memory grew by %.1f MiB (bound %.1f), retries %llu, "
              "re-opened %llu", (ull)s->most_pending, grown,
              (double)s->stats.memory_bytes / MIB, (ull)s->stats.retries,
              (ull)s->stats.reopens);
    fault_tell_calls(w, "    send calls", s->calls);
    for (int phase = 0; phase < FAULT_PHASES; phase++)
        fault_calls_add(&w->calls[phase], &s->calls[phase]);
}

static void judge(fault_world *w, const fault_case *c)
{
    const fault_shared *s = w->shared;
    judgement j = {{0}};
    char first[64] = "";
    uint64_t lost = fault_lost(s, first, sizeof first);
    double grown = ((double)s->memory_peak - (double)s->memory_before) / MIB;
    double bound = (double)s->stats.memory_bytes / MIB;
    uint64_t felt = (uint64_t)s->rate * c->felt_ms / 1000;
    tell(w, c, lost, grown);
    judge_ledger(&j, w, c);
    judge_broker(&j, w, c, lost, first);
    demand(&j, s->memory_before > 0 && grown <= bound + SLACK_MIB,
           "memory grew by %.1f MiB, more than the bound of %.1f and %d", grown, bound,
           SLACK_MIB);
    demand(&j, s->most_pending >= felt, "at most %llu messages waited: the fault was not felt",
           (ull)s->most_pending);
    demand(&j, s->error[0] == '\0', "%s", s->error);
    if (j.wrong[0] != '\0') {
        fault_say(w, "    WRONG: %s", j.wrong);
        fail_msg("%s: %s: %s", w->driver, c->name, j.wrong);
    }
}

void fault_run(fault_world *w, const fault_case *c)
{
    int status = 0;
    fault_prepare(w, c);
    fault_shared *s = w->shared;
    if (!s->verify_inside && fault_verify_start(s, NULL) != 0)
        fail_msg("verifier: %s", s->verdict.error);
    pid_t pid = spawn(w);
    await(w, pid, &s->ready, "ready", MOST_WAIT_MS);
    fault_pause_ms(HEALTHY_MS);
    c->strike(w);
    w->mended_ns = fault_now_ns();
    await_recovery(w);
    s->recovered_ns = fault_now_ns();
    fault_pause_ms(200);
    atomic_store(&s->stop, 1);
    await(w, pid, &s->done, "done", 2 * MOST_WAIT_MS + s->flush_ms);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!s->verify_inside)
        end_verifier(w);
    judge(w, c);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}
