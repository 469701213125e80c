/* SPDX-License-Identifier: Apache-2.0
 *
 * conformance_test TARGET... [--only PATTERN]: the one table. A new driver is one more line of
 * `targets`; what only its broker can be made to do is in hooks, and a hook that is not there
 * leaves its case out as "not offered". Ends with the table of cases by targets; its status is 0
 * only if nothing failed. Servers are started by script/broker, one per target.
 */
#include "conformance.h"
#include "driver.h"
#include <signal.h>

#define SETTINGS(...) (const char *const[]){__VA_ARGS__, NULL}
#define REDIS "redis_url", "redis://%s/0"
#define RABBITMQ "rabbitmq_url", "amqp://guest:guest@%s/"

static const target targets[] = {
    {"memory", "memory", NULL, NULL, true, false, SETTINGS("memory_partitions", "3"),
     &memory_hooks},
    {"kafka", "kafka", "kafka_bootstrap_servers", "%s", true, false, NULL, &kafka_hooks},
    {"redis", "redis", REDIS, false, false, NULL, &redis_hooks},
    {"redis-once", "redis", REDIS, true, false, SETTINGS("redis_exactly_once", "true"),
     &redis_hooks},
    {"redis-poll", "redis", REDIS, false, false, SETTINGS("io_backend", "poll"), &redis_hooks},
    {"rabbitmq", "rabbitmq", RABBITMQ, false, false, NULL, &rabbitmq_hooks},
    {"rabbitmq-window-1", "rabbitmq", RABBITMQ, false, true, SETTINGS("rabbitmq_window", "1"),
     &rabbitmq_hooks},
    {"rabbitmq-poll", "rabbitmq", RABBITMQ, false, false, SETTINGS("io_backend", "poll"),
     &rabbitmq_hooks},
};
enum { TARGETS = sizeof targets / sizeof *targets };

#define HOOK(name) offsetof(target_hooks, name)
static const conformance_case cases[] = {
    {"every message comes back once", 0, NO_HOOK, false, case_every_message_once},
    {"order of a key", 0, NO_HOOK, false, case_order_of_keys},
    {"order of a key, two flushers", 0, NO_HOOK, false, case_order_with_two_flushers},
    {"connections break: nothing lost, order as promised", 0, NO_HOOK, false,
     case_order_across_broken_connections},
    {"keys", SALVO_CAP_KEYS, NO_HOOK, false, case_keys},
    {"headers", SALVO_CAP_HEADERS, NO_HOOK, false, case_headers},
    {"timestamps", SALVO_CAP_TIMESTAMPS, NO_HOOK, false, case_timestamps},
    {"empty, null and binary values", SALVO_CAP_KEYS, NO_HOOK, false, case_values},
    {"values of 1 MB", 0, NO_HOOK, false, case_large_values},
    {"payload compression", SALVO_CAP_HEADERS, HOOK(stored_bytes), false, case_compression},
    {"too large for us", 0, NO_HOOK, false, case_too_large},
    {"too large for the broker", 0, HOOK(lower_limit), false, case_too_large_for_the_broker},
    {"many topics", 0, NO_HOOK, false, case_many_topics},
    {"part of a batch is refused", 0, HOOK(refuse_some), false, case_part_of_a_batch},
    {"close with messages in flight", 0, NO_HOOK, false, case_close_in_flight},
    {"flush deadlines", 0, NO_HOOK, false, case_flush_deadlines},
    {"a required broker that is not there", 0, NO_HOOK, false, case_require_broker},
    {"wrong password", 0, HOOK(login), true, case_wrong_password},
    {"unknown host", 0, NO_HOOK, true, case_unknown_host},
    {"open while the server is down", 0, NO_HOOK, false, case_open_while_down},
    {"silent for longer than the deadline", 0, NO_HOOK, true, case_silent_beyond_the_deadline},
    {"gone for longer than the deadline", 0, NO_HOOK, false, case_gone_beyond_the_deadline},
    {"topics: made and found again", 0, NO_HOOK, false, case_topics_made},
    {"topics: ensured, never changed", 0, NO_HOOK, false, case_topics_ensured},
    {"topics: filled and removed", 0, NO_HOOK, false, case_topics_filled_and_removed},
    {"lag of a group", 0, NO_HOOK, false, case_lag_of_a_group},
    {"reading: every message once", CAP_CONSUME, NO_HOOK, false, case_reading_once},
    {"reading: unsettled comes again", CAP_CONSUME, NO_HOOK, false,
     case_reading_unsettled_comes_again},
    {"reading: settled in any order", CAP_CONSUME, NO_HOOK, false, case_reading_out_of_order},
    {"reading: two members share", CAP_CONSUME, NO_HOOK, false, case_reading_two_members},
    {"reading: two groups get all", CAP_CONSUME | SALVO_CAP_GROUPS, NO_HOOK, false,
     case_reading_two_groups},
    {"reading: bounded hand", CAP_CONSUME, NO_HOOK, false, case_reading_bounded_hand},
    {"reading: pause and resume", CAP_CONSUME, NO_HOOK, false, case_reading_pause},
    {"reading: seek", CAP_CONSUME, NO_HOOK, false, case_reading_seek},
    {"reading: rewind", CAP_CONSUME, NO_HOOK, false, case_reading_rewind},
    {"reading: lag", CAP_CONSUME, NO_HOOK, false, case_reading_lag},
    {"reading: before the first message", CAP_CONSUME, NO_HOOK, false,
     case_reading_before_the_first},
    {"reading: wake ends a poll", CAP_CONSUME, NO_HOOK, false, case_reading_wake},
    {"reading: keys as sent", CAP_CONSUME | SALVO_CAP_KEYS, NO_HOOK, false, case_reading_keys},
    {"reading: headers as sent", CAP_CONSUME | SALVO_CAP_HEADERS, NO_HOOK, false,
     case_reading_headers},
    {"reading: timestamps as sent", CAP_CONSUME | SALVO_CAP_TIMESTAMPS, NO_HOOK, false,
     case_reading_timestamps},
    {"reading: empty, null and binary values", CAP_CONSUME | SALVO_CAP_KEYS, NO_HOOK, false,
     case_reading_values},
    {"reading: connections break, nothing lost", CAP_CONSUME, NO_HOOK, true,
     case_reading_across_breaks},
    {"reading: server killed and back", CAP_CONSUME, NO_HOOK, true, case_reading_server_bounces},
};
enum { CASES = sizeof cases / sizeof *cases };

/* --- running --------------------------------------------------------------------------------- */

typedef enum verdict { NOT_RUN, FAILED, OK, NOT_OFFERED } verdict;

typedef struct cell {
    const target *target;
    const conformance_case *c;
    world *w;
    verdict verdict;
    uint64_t took_ms;
} cell;

static cell cells[TARGETS][CASES];
static const target *current;

static bool offered(const world *w, const conformance_case *c)
{
    void (*hook)(void) = NULL;
    if ((w->capabilities & c->capabilities) != c->capabilities ||
        (c->network && !w->target->address_key))
        return false;
    if (c->hook == NO_HOOK)
        return true;
    if (w->target->hooks)
        memcpy(&hook, (const char *)w->target->hooks + c->hook, sizeof hook);
    return hook != NULL;
}

static int prepare(void **state)
{
    cell *at = *state;
    at->verdict = FAILED;
    at->took_ms = now_ms();
    server_ensure();
    (void)log_take();
    at->w = world_new(at->target);
    return 0;
}

static void run(void **state)
{
    cell *at = *state;
    if (!offered(at->w, at->c)) {
        at->verdict = NOT_OFFERED;
        skip();
    }
    at->c->run(at->w);
    world_finish(at->w);
    if (at->w->duplicates)
        print_message("%u duplicates\n", at->w->duplicates);
    at->verdict = OK;
}

static int clean(void **state)
{
    cell *at = *state;
    world_free(at->w);
    at->took_ms = now_ms() - at->took_ms;
    return 0;
}

static int begin(void **state)
{
    (void)state;
    server_start(current);
    return 0;
}

static int end(void **state)
{
    (void)state;
    server_stop();
    return 0;
}

static int run_target(size_t t)
{
    static char names[CASES][128];
    struct CMUnitTest tests[CASES];
    current = &targets[t];
    for (size_t i = 0; i < CASES; i++) {
        snprintf(names[i], sizeof names[i], "%s: %s", current->name, cases[i].name);
        cells[t][i] = (cell){.target = current, .c = &cases[i]};
        tests[i] = (struct CMUnitTest){names[i], run, prepare, clean, &cells[t][i]};
    }
    return _cmocka_run_group_tests(current->name, tests, CASES, begin, end);
}

/* --- the table ------------------------------------------------------------------------------- */

static void print_cell(const cell *at)
{
    static const char *const words[] = {"-", "FAILED", "ok", "not offered"};
    char text[32];
    if (at->verdict == OK || at->verdict == FAILED)
        snprintf(text, sizeof text, "%s %.1f s", words[at->verdict], (double)at->took_ms / 1000);
    else
        snprintf(text, sizeof text, "%s", words[at->verdict]);
    printf(" | %-18s", text);
}

static void print_table(const bool chosen[TARGETS])
{
    printf("\n%-52s", "case");
    for (size_t t = 0; t < TARGETS; t++)
        if (chosen[t])
            printf(" | %-18s", targets[t].name);
    putchar('\n');
    for (size_t i = 0; i < CASES; i++) {
        printf("%-52s", cases[i].name);
        for (size_t t = 0; t < TARGETS; t++)
            if (chosen[t])
                print_cell(&cells[t][i]);
        putchar('\n');
    }
}

static int usage(const char *why)
{
    fprintf(stderr, "conformance_test: %s\nusage: conformance_test TARGET... [--only PATTERN]\n"
                    "targets:", why);
    for (size_t t = 0; t < TARGETS; t++)
        fprintf(stderr, " %s", targets[t].name);
    fputc('\n', stderr);
    return 2;
}

int main(int argc, char **argv)
{
    bool chosen[TARGETS] = {false};
    int failed = 0;
    size_t t = TARGETS;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--only") == 0 && i + 1 < argc) {
            cmocka_set_test_filter(argv[++i]);
            continue;
        }
        for (t = 0; t < TARGETS && strcmp(argv[i], targets[t].name) != 0; t++)
            ;
        if (t == TARGETS)
            return usage(argv[i]);
        chosen[t] = true;
    }
    if (t == TARGETS)
        return usage("no target was given");
    signal(SIGPIPE, SIG_IGN);
    log_capture();
    for (t = 0; t < TARGETS; t++)
        if (chosen[t])
            failed |= run_target(t) != 0;
    print_table(chosen);
    return failed;
}
