/* SPDX-License-Identifier: Apache-2.0
 *
 * What an open producer costs that has nothing to do: CPU of the whole process, user and system,
 * over some seconds after one message was delivered and things have settled.
 * Guarantees: each contestant is alone in a process of its own; medians over interleaved rounds.
 */
#include "broker.h"
#include "child.h"
#include "contestant.h"
#include "harness.h"

#include <stdio.h>
#include <unistd.h>

static double seconds = 20, settle = 3, rounds_wanted = 1;
static bool quick, json_wanted;
static const char *set_text, *address;

static void measure(const void *argument, void *result)
{
    contestant c;
    char topic[64], value[100] = "one message, so that all connections are up";
    contestant_kind kind = *(const contestant_kind *)argument;
    bench_topic_create(address, 1, topic, sizeof topic);
    contestant_options options = {.address = address, .topic = topic, .linger_ms = 5,
                                  .set = set_text};
    contestant_open(&c, kind, &options);
    contestant_attach(&c);
    if (contestant_send(&c, kind, NULL, 0, value, sizeof value))
        bench_die("%s refused its only message", contestant_names[kind]);
    contestant_flush(&c);
    usleep((useconds_t)(settle * 1e6));
    uint64_t cpu_ns = bench_process_cpu_ns(), from_ns = bench_now_ns();
    usleep((useconds_t)(seconds * 1e6));
    cpu_ns = bench_process_cpu_ns() - cpu_ns;
    *(double *)result = 100.0 * (double)cpu_ns / (double)(bench_now_ns() - from_ns);
    contestant_close(&c, 1);
    bench_topic_delete(address, topic);
}

int main(int argc, char **argv)
{
    const bench_option options[] = {
        {"quick", .flag = &quick, .help = "5 seconds, for development"},
        {"json", .flag = &json_wanted, .help = "one JSON object as the last line"},
        {"rounds", .number = &rounds_wanted, .least = 1, .most = 20, .help = "rounds"},
        {"seconds", .number = &seconds, .least = 1, .most = 600, .help = "measured, each"},
        {"settle", .number = &settle, .least = 0, .most = 60, .help = "seconds before them"},
        {"set", .text = &set_text, .help = "key=value,... of Salvo's configuration"},
    };
    static const contestant_kind kinds[2] = {SALVO, RDKAFKA};
    bench_rounds percent[2] = {{.count = 0}};
    bench_json json = {.used = 0};
    bench_options(argc, argv, "CPU of an open, idle producer with the kafka driver.", options,
                  sizeof options / sizeof options[0]);
    if (quick)
        seconds = 5;
    bench_time_init();
    address = bench_broker();
    for (int round = 0; round < (int)rounds_wanted; round++)
        for (int i = 0; i < 2; i++) {
            double value;
            bench_in_child(measure, &kinds[i], &value, sizeof value);
            bench_round_add(&percent[i], value);
        }
    printf("\nCPU while idle, %% of one core over %.0f s (goal for Salvo: at most 0.3)\n", seconds);
    for (int i = 0; i < 2; i++)
        bench_bar(i ? "librdkafka alone" : "salvo", bench_median(&percent[i]), 0.01, 10, "%");
    bench_json_number(&json, "idle_cpu_percent", bench_median(&percent[0]));
    bench_json_number(&json, "rdkafka_idle_cpu_percent", bench_median(&percent[1]));
    bench_json_number(&json, "seconds", seconds);
    if (json_wanted)
        bench_json_print(&json);
    return 0;
}
