/* SPDX-License-Identifier: Apache-2.0
 *
 * One call of salvo_send_fire_and_forget by driver: what it costs does not depend on the broker.
 *
 * Guarantees: real servers, one after the other in each round, two paced threads; medians over the
 * rounds of each round's percentile; nothing refused, and all of it acknowledged, or the benchmark
 * fails. The timer's cost is in every figure. The rate is one that every broker takes.
 */
#include "harness.h"
#include "server.h"

#include <pthread.h>
#include <salvo/salvo.h>
#include <stdio.h>
#include <string.h>

enum { THREADS = 2, VALUE_BYTES = 100, PERCENTILES = 4, WARM = 2000 };

typedef struct contender {
    const char *driver, *key, *variable; /* key of the address; NULL: no server */
    bench_server server;
    bench_rounds percentile[PERCENTILES];
} contender;

static contender contenders[] = {
    {.driver = "null"},
    {.driver = "memory"},
    {.driver = "kafka", .key = "kafka_bootstrap_servers", .variable = "SALVO_BENCH_KAFKA"},
    {.driver = "redis", .key = "redis_url", .variable = "SALVO_BENCH_REDIS"},
    {.driver = "rabbitmq", .key = "rabbitmq_url", .variable = "SALVO_BENCH_RABBITMQ"}};
enum { CONTENDERS = sizeof contenders / sizeof contenders[0] };
static const double percents[PERCENTILES] = {50, 99, 99.9, 99.99};
static double rounds_wanted = 5, seconds_wanted = 5, rate_wanted = 5000;
static bool json_wanted;

typedef struct worker {
    salvo *producer;
    salvo_topic topic;
    pthread_t thread;
    bench_samples samples;
    size_t refused;
} worker;

static void config_set(salvo_config *config, const char *key, const char *value)
{
    if (salvo_config_set(config, key, value))
        bench_die("%s", salvo_config_error(config));
}

static salvo *open_producer(const contender *c)
{
    salvo_options options = {.size = sizeof options, .require_broker = 1};
    salvo_config *config;
    salvo *producer;
    if (salvo_config_new(&config))
        bench_die("no memory for a configuration");
    config_set(config, "message_broker", c->driver);
    config_set(config, "linger_us", "5000");
    if (c->key)
        config_set(config, c->key, c->server.address);
    if (salvo_open(config, &options, &producer))
        bench_die("salvo_open: %s", salvo_last_error());
    salvo_config_free(config);
    return producer;
}

static void *send_all(void *argument)
{
    worker *w = argument;
    char value[VALUE_BYTES];
    bench_pacer pacer;
    memset(value, 'x', sizeof value);
    if (salvo_thread_attach(w->producer))
        bench_die("salvo_thread_attach: %s", salvo_last_error());
    bench_pacer_start(&pacer, rate_wanted, BENCH_PACE_SLEEP);
    for (size_t i = 0; i < w->samples.capacity + WARM; i++) {
        memcpy(value, &i, sizeof i);
        bench_pacer_wait(&pacer);
        uint64_t begin = bench_ticks();
        int err = salvo_send_fire_and_forget(w->producer, w->topic, NULL, 0, value, sizeof value);
        uint64_t took = bench_ticks() - begin;
        w->refused += err != 0;
        if (i >= WARM)
            bench_sample(&w->samples, took);
    }
    return NULL;
}

static void close_producer(salvo *producer, const char *driver, size_t expected)
{
    salvo_close_report report;
    if (salvo_flush(producer, 120000) || salvo_close(producer, 120000, &report) ||
        report.ledger.acknowledged != expected)
        bench_die("%s: not all of %zu messages were acknowledged: %s", driver, expected,
                  salvo_last_error());
}

static void run_one(contender *c, int round)
{
    worker workers[THREADS] = {0};
    bench_samples all;
    size_t calls = (size_t)(rate_wanted * seconds_wanted);
    char name[32];
    salvo *producer = open_producer(c);
    snprintf(name, sizeof name, "bench-drivers-%d", round);
    bench_samples_init(&all, THREADS * calls);
    for (int i = 0; i < THREADS; i++) {
        worker *w = &workers[i];
        w->producer = producer;
        if (salvo_topic_open(producer, name, NULL, &w->topic))
            bench_die("salvo_topic_open: %s", salvo_last_error());
        bench_samples_init(&w->samples, calls);
        if (pthread_create(&w->thread, NULL, send_all, w))
            bench_die("no thread");
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(workers[i].thread, NULL);
        if (workers[i].refused)
            bench_die("%s: %zu messages were refused", c->driver, workers[i].refused);
        bench_samples_append(&all, &workers[i].samples);
        bench_samples_free(&workers[i].samples);
    }
    close_producer(producer, c->driver, THREADS * (calls + WARM));
    bench_samples_sort(&all);
    for (int k = 0; k < PERCENTILES; k++)
        bench_round_add(&c->percentile[k], bench_percentile(&all, percents[k]));
    bench_samples_free(&all);
}

static void print(void)
{
    bench_json json = {.used = 0};
    printf("\nOne send by driver: %d threads at %.0f/s each, 100 B, linger 5 ms, medians of %.0f "
           "rounds; refused: 0\ndriver          p50       p99     p99.9    p99.99\n",
           THREADS, rate_wanted, rounds_wanted);
    for (int i = 0; i < CONTENDERS; i++) {
        printf("%-10s", contenders[i].driver);
        for (int k = 0; k < PERCENTILES; k++) {
            char text[32], key[40];
            double ns = bench_ns(bench_median(&contenders[i].percentile[k]));
            printf(" %9s", bench_time_text(ns, text, sizeof text));
            snprintf(key, sizeof key, "%s_p%g_ns", contenders[i].driver, percents[k]);
            bench_json_number(&json, key, ns);
        }
        printf("\n");
    }
    for (int i = 0; i < CONTENDERS; i++)
        bench_bar(contenders[i].driver, bench_ns(bench_median(&contenders[i].percentile[1])), 10,
                  1e5, "ns at p99");
    if (json_wanted)
        bench_json_print(&json);
}

int main(int argc, char **argv)
{
    const bench_option options[] = {
        {"json", .flag = &json_wanted, .help = "one JSON object as the last line"},
        {"rounds", .number = &rounds_wanted, .least = 1, .most = 25, .help = "rounds"},
        {"seconds", .number = &seconds_wanted, .least = 1, .most = 60,
         .help = "of each driver in each round"},
        {"rate", .number = &rate_wanted, .least = 100, .most = 200000,
         .help = "messages a second of each thread"},
    };
    bench_options(argc, argv, "The sender's cost of one call, by driver, on real servers.", options,
                  sizeof options / sizeof options[0]);
    bench_time_init();
    for (int i = 0; i < CONTENDERS; i++)
        if (contenders[i].key)
            bench_server_start(&contenders[i].server, contenders[i].driver, contenders[i].variable,
                               "");
    for (int round = 0; round < (int)rounds_wanted; round++) {
        fprintf(stderr, "round %d of %.0f\n", round + 1, rounds_wanted);
        for (int turn = 0; turn < CONTENDERS; turn++)
            run_one(&contenders[(round + turn) % CONTENDERS], round);
    }
    print();
    return 0;
}
