/* SPDX-License-Identifier: Apache-2.0
 *
 * XADD until a real Redis acknowledged: Salvo against hiredis with pipelining at the same window,
 * two ways (a sliding window: each append beyond it takes one reply; and in turns: a window of
 * appends, then its replies), and redis-benchmark's own figure. And what laying a command out
 * costs: redisFormatCommandArgv against the driver's template.
 *
 * Guarantees: interleaved rounds, medians; each measurement in a process and on an empty server;
 * the clock runs from the first send until the last reply; CPU is the client process's, all
 * threads, user and system; every message was acknowledged and is in the stream, or the benchmark
 * fails; the two formatters' bytes are compared first. rate_ratio is against the faster of
 * hiredis' two ways. With SALVO_BENCH_REDIS=redis://127.0.0.1:PORT/0 that local server is used and
 * EMPTIED, else a throw-away one, without appendonly, that ends with this process.
 */
#include "child.h"
#include "contestant.h"
#include "harness.h"
#include "redis_format.h"
#include "server.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_VALUE = 65536, FLUSH_MS = 120000, WARM = 20000 };
typedef enum { OURS, ONCE, SLIDING, TURNS, TOOL, KINDS } kind;
static const char *const names[KINDS] = {"salvo", "salvo, exactly once", "hiredis, sliding",
                                         "hiredis, in turns", "redis-benchmark"};
static const char stream[] = "bench";

typedef struct job {
    kind kind;
    size_t messages;
} job;

typedef struct outcome {
    double per_second, cpu_ns; /* cpu_ns: a message; 0: not known */
    double server_cores;       /* CPU time of the server by wall time */
} outcome;

static double rounds_wanted = 7, messages_wanted = 1e6, window = 2048, bytes = 100,
              linger_ms = 1, only_kind = -1;
static bool quick, json_wanted;
static const char *set_text;
static bench_server server;
static int port;
static char value[MAX_VALUE];

/* --- the server ---------------------------------------------------------------------------- */

static redisContext *connect_to_it(void)
{
    redisContext *c = redisConnect("127.0.0.1", port);
    if (!c || c->err)
        bench_die("no Redis at 127.0.0.1:%d: %s", port, c ? c->errstr : "no memory");
    return c;
}

static long long ask(const char *command)
{
    redisContext *c = connect_to_it();
    redisReply *reply = redisCommand(c, command);
    if (!reply || reply->type == REDIS_REPLY_ERROR)
        bench_die("redis: %s: %s", command, reply ? reply->str : c->errstr);
    long long number = reply->type == REDIS_REPLY_INTEGER ? reply->integer : -1;
    freeReplyObject(reply);
    redisFree(c);
    return number;
}

static void start_server(void)
{
    const char *address = bench_server_start(&server, "redis", "SALVO_BENCH_REDIS",
                                             "--set appendonly=no");
    if (sscanf(address, "redis://127.0.0.1:%d", &port) != 1)
        bench_die("SALVO_BENCH_REDIS='%s': redis://127.0.0.1:PORT/0 is allowed", address);
}

/* --- contestants --------------------------------------------------------------------------- */

static void append(redisContext *c)
{
    const char *words[5] = {"XADD", stream, "*", "value", value};
    const size_t lengths[5] = {4, sizeof stream - 1, 1, 5, (size_t)bytes};
    if (redisAppendCommandArgv(c, 5, words, lengths) != REDIS_OK)
        bench_die("hiredis: %s", c->errstr);
}

static void take_reply(redisContext *c)
{
    redisReply *reply;
    if (redisGetReply(c, (void **)&reply) != REDIS_OK || reply->type != REDIS_REPLY_STRING)
        bench_die("hiredis: no acknowledgement: %s", c->errstr);
    freeReplyObject(reply);
}

static void hiredis_some(redisContext *c, kind k, size_t messages)
{
    size_t sent = 0, answered = 0, most = (size_t)window;
    while (answered < messages) {
        while (sent < messages && sent - answered < most) {
            append(c);
            sent++;
        }
        size_t until = k == TURNS ? sent : answered + 1;
        while (answered < until) {
            take_reply(c);
            answered++;
        }
    }
}

static void measure_hiredis(const job *j, outcome *o)
{
    redisContext *c = connect_to_it();
    hiredis_some(c, j->kind, WARM);
    uint64_t cpu_ns = bench_process_cpu_ns(), from_ns = bench_now_ns();
    double server_s = bench_server_cpu_s(&server);
    hiredis_some(c, j->kind, j->messages);
    double wall_ns = (double)(bench_now_ns() - from_ns);
    o->cpu_ns = (double)(bench_process_cpu_ns() - cpu_ns) / (double)j->messages;
    o->per_second = (double)j->messages * 1e9 / wall_ns;
    o->server_cores = (bench_server_cpu_s(&server) - server_s) * 1e9 / wall_ns;
    redisFree(c);
}

static void salvo_some(salvo *producer, salvo_topic topic, size_t messages)
{
    for (size_t i = 0; i < messages; i++)
        if (salvo_send_fire_and_forget(producer, topic, NULL, 0, value, (size_t)bytes))
            bench_die("salvo: a message was refused");
    if (salvo_flush(producer, FLUSH_MS))
        bench_die("salvo: not everything was acknowledged in %d s", FLUSH_MS / 1000);
}

static void measure_salvo(const job *j, outcome *o)
{
    char set[512];
    salvo_topic topic;
    salvo_close_report report;
    snprintf(set, sizeof set, "redis_url=redis://127.0.0.1:%d,redis_window=%.0f,"
             "redis_exactly_once=%s%s%s", port, window, j->kind == ONCE ? "true" : "false",
             set_text ? "," : "", set_text ? set_text : "");
    salvo *producer = bench_salvo_open("redis", NULL, linger_ms, set);
    if (salvo_topic_open(producer, stream, NULL, &topic) || salvo_thread_attach(producer))
        bench_die("salvo: %s", salvo_last_error());
    salvo_some(producer, topic, WARM);
    uint64_t cpu_ns = bench_process_cpu_ns(), from_ns = bench_now_ns();
    double server_s = bench_server_cpu_s(&server);
    salvo_some(producer, topic, j->messages);
    double wall_ns = (double)(bench_now_ns() - from_ns);
    o->cpu_ns = (double)(bench_process_cpu_ns() - cpu_ns) / (double)j->messages;
    o->per_second = (double)j->messages * 1e9 / wall_ns;
    o->server_cores = (bench_server_cpu_s(&server) - server_s) * 1e9 / wall_ns;
    if (salvo_close(producer, FLUSH_MS, &report) ||
        report.ledger.acknowledged != j->messages + WARM)
        bench_die("salvo: not everything was acknowledged");
}

/* redis-benchmark with one connection; it says messages a second. */
static void measure_tool(const job *j, outcome *o)
{
    char command[512], line[512];
    snprintf(command, sizeof command, "redis-benchmark -h 127.0.0.1 -p %d -c 1 -P %.0f -n %zu -q "
             "XADD %s '*' value %.*s 2>/dev/null | tr '\\r' '\\n'", port, window, j->messages,
             stream, (int)(bytes < 200 ? bytes : 200), value);
    FILE *pipe = popen(command, "r");
    while (pipe && fgets(line, sizeof line, pipe)) {
        const char *at = strstr(line, " requests per second");
        while (at && at > line && at[-1] != ' ')
            at--;
        if (at)
            o->per_second = atof(at);
    }
    if (pipe)
        pclose(pipe);
}

static void measure(const void *argument, void *result)
{
    const job *j = argument;
    outcome *o = result;
    if (j->kind == TOOL)
        measure_tool(j, o);
    else if (j->kind == OURS || j->kind == ONCE)
        measure_salvo(j, o);
    else
        measure_hiredis(j, o);
    char command[64];
    snprintf(command, sizeof command, "XLEN %s", stream);
    if (j->kind != TOOL && ask(command) != (long long)j->messages + WARM)
        bench_die("%s: not every message is in the stream", names[j->kind]);
}

/* --- formatting ---------------------------------------------------------------------------- */

static double format_hiredis(size_t n)
{
    const char *words[5] = {"XADD", stream, "*", "value", value};
    const size_t lengths[5] = {4, sizeof stream - 1, 1, 5, (size_t)bytes};
    uint64_t from = bench_ticks();
    for (size_t i = 0; i < n; i++) {
        char *command;
        if (redisFormatCommandArgv(&command, 5, words, lengths) < 0)
            bench_die("hiredis: no memory");
        __asm__ volatile("" : : "r"(command) : "memory");
        redisFreeCommand(command);
    }
    return bench_ns((double)(bench_ticks() - from)) / (double)n;
}

static double format_ours(const salvo_redis_template *t, size_t n)
{
    static char room[64 << 10];
    salvo_redis_item item = {.value = value, .value_len = (size_t)bytes};
    char *at = room;
    uint32_t args;
    if (salvo_redis_bound(t, &item) + item.value_len > sizeof room)
        return 0;
    uint64_t from = bench_ticks();
    for (size_t i = 0; i < n; i++) {
        if ((size_t)(room + sizeof room - at) < salvo_redis_bound(t, &item) + item.value_len)
            at = room;
        at = salvo_redis_format(at, t, &item, false, &args);
        __asm__ volatile("" : : "r"(at) : "memory");
    }
    return bench_ns((double)(bench_ticks() - from)) / (double)n;
}

static void compare_bytes(const salvo_redis_template *t)
{
    static char ours[MAX_VALUE + 4096];
    const char *words[5] = {"XADD", stream, "*", "value", value};
    const size_t lengths[5] = {4, sizeof stream - 1, 1, 5, (size_t)bytes};
    salvo_redis_item item = {.value = value, .value_len = (size_t)bytes};
    char *theirs;
    uint32_t args;
    int n = redisFormatCommandArgv(&theirs, 5, words, lengths);
    char *end = salvo_redis_format(ours, t, &item, false, &args);
    if (n != (int)(end - ours) || memcmp(theirs, ours, (size_t)n) != 0)
        bench_die("the two formatters differ");
    redisFreeCommand(theirs);
}

/* --- results ------------------------------------------------------------------------------- */

static bench_rounds rate[KINDS], cpu[KINDS], cores[KINDS], format[2];

static void run_round(int round, const salvo_redis_template *t)
{
    for (int turn = 0; turn < KINDS; turn++) {
        job j = {.kind = (kind)((round + turn) % KINDS), .messages = (size_t)messages_wanted};
        outcome o = {0};
        if (only_kind >= 0 && j.kind != (kind)only_kind)
            continue;
        ask("FLUSHALL");
        bench_in_child(measure, &j, &o, sizeof o);
        bench_round_add(&rate[j.kind], o.per_second);
        bench_round_add(&cpu[j.kind], o.cpu_ns);
        bench_round_add(&cores[j.kind], o.server_cores);
    }
    size_t n = quick ? 1000000 : 5000000;
    if (only_kind >= 0)
        return;
    bench_round_add(&format[0], format_ours(t, n));
    bench_round_add(&format[1], format_hiredis(n));
}

static void print_table(void)
{
    printf("\nXADD of %.0f B until acknowledged, window %.0f, medians of %.0f rounds "
           "(least..most); lost: 0\n", bytes, window, rounds_wanted);
    printf("contestant             messages/s                     client CPU ns/msg   "
           "server's cores\n");
    for (int k = 0; k < KINDS; k++) {
        printf("%-20s  %9.0f (%.0f..%.0f)   ", names[k], bench_median(&rate[k]),
               bench_least(&rate[k]), bench_most(&rate[k]));
        if (k == TOOL)
            printf("     -               -\n");
        else
            printf("%6.0f (%.0f..%.0f)   %5.2f\n", bench_median(&cpu[k]), bench_least(&cpu[k]),
                   bench_most(&cpu[k]), bench_median(&cores[k]));
    }
    printf("laying out one command: template %.1f ns, redisFormatCommandArgv %.1f ns\n",
           bench_median(&format[0]), bench_median(&format[1]));
    for (int k = 0; k < KINDS; k++)
        bench_bar(names[k], bench_median(&rate[k]), 1e4, 1e7, "msg/s");
}

static void print_json(void)
{
    bench_json json = {.used = 0};
    double ours = bench_median(&rate[OURS]), sliding = bench_median(&rate[SLIDING]),
           turns = bench_median(&rate[TURNS]), tool = bench_median(&rate[TOOL]);
    kind best = sliding > turns ? SLIDING : TURNS;
    bench_json_number(&json, "rate_ratio", ours / bench_median(&rate[best]));
    bench_json_number(&json, "format_ratio", bench_median(&format[1]) / bench_median(&format[0]));
    bench_json_number(&json, "rate_ratio_sliding", ours / sliding);
    bench_json_number(&json, "rate_ratio_turns", ours / turns);
    if (tool > 0)
        bench_json_number(&json, "rate_ratio_redis_benchmark", ours / tool);
    bench_json_number(&json, "rate_ratio_exactly_once", bench_median(&rate[ONCE]) / ours);
    bench_json_number(&json, "cpu_ratio", bench_median(&cpu[OURS]) / bench_median(&cpu[best]));
    bench_json_number(&json, "messages_per_second", ours);
    bench_json_number(&json, "cpu_ns", bench_median(&cpu[OURS]));
    bench_json_number(&json, "format_ns", bench_median(&format[0]));
    bench_json_number(&json, "server_cores", bench_median(&cores[OURS]));
    bench_json_number(&json, "window", window);
    bench_json_number(&json, "rounds", rounds_wanted);
    if (json_wanted)
        bench_json_print(&json);
}

int main(int argc, char **argv)
{
    const bench_option options[] = {
        {"quick", .flag = &quick, .help = "fewer messages, 3 rounds, for development"},
        {"json", .flag = &json_wanted, .help = "one JSON object as the last line"},
        {"rounds", .number = &rounds_wanted, .least = 1, .most = 50, .help = "rounds"},
        {"messages", .number = &messages_wanted, .least = 1e4, .most = 1e7, .help = "a round"},
        {"window", .number = &window, .least = 1, .most = 65536, .help = "of all: redis_window"},
        {"bytes", .number = &bytes, .least = 1, .most = 32768, .help = "of a value"},
        {"linger-ms", .number = &linger_ms, .least = 0, .most = 1000, .help = "Salvo's"},
        {"only", .number = &only_kind, .least = 0, .most = KINDS - 1,
         .help = "one contestant alone, for a profile; 0: salvo"},
        {"set", .text = &set_text, .help = "key=value,... of Salvo's configuration"},
    };
    bench_options(argc, argv, "Rate and client CPU until a real Redis acknowledged.", options,
                  sizeof options / sizeof options[0]);
    if (quick) {
        rounds_wanted = 3;
        messages_wanted = 4e5;
    }
    memset(value, 'x', sizeof value);
    bench_time_init();
    start_server();
    salvo_redis_template t;
    salvo_redis_wish wish = {.stream = stream};
    if (salvo_redis_template_init(&t, &wish))
        bench_die("no memory");
    compare_bytes(&t);
    for (int round = 0; round < (int)rounds_wanted; round++) {
        fprintf(stderr, "round %d of %.0f\n", round + 1, rounds_wanted);
        run_round(round, &t);
    }
    print_table();
    print_json();
    return 0;
}
