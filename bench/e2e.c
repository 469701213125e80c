/* SPDX-License-Identifier: Apache-2.0
 *
 * Until a real Kafka acknowledged: Salvo against rd_kafka_produce with the same settings, and
 * against the best that can be done with librdkafka by hand (rd_kafka_produce_batch, partition
 * given, no copy, reports of failures only).
 *
 * Guarantees: interleaved rounds, medians; each measurement in a process and on a topic of its
 * own; the clock runs from the first send until the last acknowledgement; CPU is the client
 * process's, all threads, user and system; all messages were acknowledged, none refused, or the
 * benchmark fails.
 */
#include "broker.h"
#include "child.h"
#include "contestant.h"
#include "harness.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SIZES = 2, MAX_VALUE = 1024, BY_HAND_BATCH = 1000, WARM = 20000 };

typedef struct job {
    contestant_kind kind;
    size_t value_bytes;
    size_t messages;
    double per_second; /* 0: saturated */
} job;

typedef struct outcome {
    double per_second, cpu_ns; /* cpu_ns: a message */
} outcome;

static const size_t value_bytes[SIZES] = {100, 1024};
static const double shares[SIZES] = {1, 0.25}; /* of messages and rate, by size */

static double rounds_wanted = 9, messages_wanted = 1.5e6, rate_wanted = 200e3, partitions = 4,
              linger_ms = 5, queue_messages, only_kind = -1, only_bytes = 0;
static bool quick, json_wanted;
static const char *set_text, *address;

/* `count` messages by hand: batches, each for one partition, straight from where they lie. */
static size_t send_by_hand(contestant *c, size_t sent, size_t count, size_t size)
{
    static char payload[BY_HAND_BATCH][MAX_VALUE];
    static rd_kafka_message_t batch[BY_HAND_BATCH];
    size_t n = count < BY_HAND_BATCH ? count : BY_HAND_BATCH;
    for (size_t i = 0; i < n; i++)
        batch[i] = (rd_kafka_message_t){.payload = payload[i], .len = size};
    int32_t partition = (int32_t)(sent / BY_HAND_BATCH % (size_t)partitions);
    int taken = rd_kafka_produce_batch(c->peer.rkt, partition, c->peer.flags & RD_KAFKA_MSG_F_BLOCK,
                                       batch, (int)n);
    if (taken != (int)n)
        bench_die("by hand: a batch was refused in part");
    return n;
}

static size_t send_one(contestant *c, contestant_kind kind, size_t sent, size_t size)
{
    char value[MAX_VALUE];
    memset(value, 'x', size);
    memcpy(value, &sent, sizeof sent);
    if (contestant_send(c, kind, NULL, 0, value, size))
        bench_die("%s: a message was refused", contestant_names[kind]);
    return 1;
}

static void send_some(contestant *c, size_t from, size_t to, size_t size)
{
    while (from < to) {
        if (c->kind == BY_HAND)
            from += send_by_hand(c, from, to - from, size);
        else if (c->kind == SALVO)
            from += send_one(c, SALVO, from, size);
        else
            from += send_one(c, RDKAFKA, from, size);
    }
}

/* Paced without spinning, which would count as client CPU: what came due, every millisecond. */
static void send_paced(contestant *c, const job *j)
{
    uint64_t start_ns = bench_now_ns();
    size_t sent = 0;
    while (sent < j->messages) {
        struct timespec tick = {0, 1000000};
        nanosleep(&tick, NULL);
        size_t due = (size_t)((double)(bench_now_ns() - start_ns) / 1e9 * j->per_second);
        due = due < j->messages ? due : j->messages;
        send_some(c, sent, due, j->value_bytes);
        sent = due;
    }
}

static void measure(const void *argument, void *result)
{
    const job *j = argument;
    outcome *o = result;
    contestant c;
    char topic[64];
    bench_topic_create(address, (int)partitions, topic, sizeof topic);
    contestant_options options = {.address = address, .topic = topic, .linger_ms = linger_ms,
                                  .set = set_text, .queue_messages = (uint32_t)queue_messages};
    contestant_open(&c, j->kind, &options);
    contestant_attach(&c);
    send_some(&c, 0, WARM, j->value_bytes);
    contestant_flush(&c);
    uint64_t cpu_ns = bench_process_cpu_ns(), from_ns = bench_now_ns();
    if (j->per_second > 0)
        send_paced(&c, j);
    else
        send_some(&c, 0, j->messages, j->value_bytes);
    contestant_flush(&c);
    o->cpu_ns = (double)(bench_process_cpu_ns() - cpu_ns) / (double)j->messages;
    o->per_second = (double)j->messages * 1e9 / (double)(bench_now_ns() - from_ns);
    contestant_close(&c, j->messages + WARM);
    bench_topic_delete(address, topic);
}

typedef struct figures {
    bench_rounds rate, cpu, paced_rate, paced_cpu;
} figures;
static figures all[SIZES][CONTESTANTS];

static void run_size(int size, int round, bool count)
{
    for (int turn = 0; turn < CONTESTANTS; turn++) {
        contestant_kind kind = (contestant_kind)((round + turn) % CONTESTANTS);
        figures *f = &all[size][kind];
        if ((only_kind >= 0 && kind != (contestant_kind)only_kind) ||
            (only_bytes > 0 && value_bytes[size] != (size_t)only_bytes))
            continue;
        job j = {.kind = kind, .value_bytes = value_bytes[size],
                 .messages = (size_t)(messages_wanted * shares[size])};
        outcome o;
        bench_in_child(measure, &j, &o, sizeof o);
        if (!count)
            continue;
        bench_round_add(&f->rate, o.per_second);
        bench_round_add(&f->cpu, o.cpu_ns);
        j.per_second = rate_wanted * shares[size];
        j.messages = (size_t)(j.per_second * (quick ? 0.5 : 2));
        bench_in_child(measure, &j, &o, sizeof o);
        bench_round_add(&f->paced_rate, o.per_second);
        bench_round_add(&f->paced_cpu, o.cpu_ns);
    }
}

static void print_table(void)
{
    printf("\nUntil acknowledged, medians of %.0f rounds (least..most); refused: 0, lost: 0 "
           "everywhere\n", rounds_wanted);
    printf("size  contestant        saturated/s                  CPU ns/msg           "
           "at a fixed rate/s  CPU ns/msg\n");
    for (int size = 0; size < SIZES; size++)
        for (int kind = 0; kind < CONTESTANTS; kind++) {
            const figures *f = &all[size][kind];
            printf("%4zu  %-16s %8.0f (%.0f..%.0f)  %6.0f (%.0f..%.0f)  %8.0f  "
                   "%6.0f (%.0f..%.0f)\n",
                   value_bytes[size], contestant_names[kind], bench_median(&f->rate),
                   bench_least(&f->rate), bench_most(&f->rate), bench_median(&f->cpu),
                   bench_least(&f->cpu), bench_most(&f->cpu), bench_median(&f->paced_rate),
                   bench_median(&f->paced_cpu), bench_least(&f->paced_cpu),
                   bench_most(&f->paced_cpu));
            bench_warn_spread("the saturated rate", &f->rate, 1.5);
        }
    for (int size = 0; size < SIZES; size++)
        for (int kind = 0; kind < CONTESTANTS; kind++) {
            char label[40];
            snprintf(label, sizeof label, "%zu %s", value_bytes[size], contestant_names[kind]);
            bench_bar(label, bench_median(&all[size][kind].rate), 1e4, 1e7, "msg/s");
        }
}

/* Of medians; rate: the smallest over sizes is the worst, CPU: the largest. */
static double rate_ratio(contestant_kind other, int *which)
{
    double worst = INFINITY;
    for (int size = 0; size < SIZES; size++) {
        double r = bench_median(&all[size][SALVO].rate) / bench_median(&all[size][other].rate);
        if (r < worst) {
            worst = r;
            *which = (int)value_bytes[size];
        }
    }
    return worst;
}

static double cpu_ratio(contestant_kind other, bool paced, int *which)
{
    double worst = 0;
    for (int size = 0; size < SIZES; size++) {
        const figures *a = &all[size][SALVO], *b = &all[size][other];
        double r = paced ? bench_median(&a->paced_cpu) / bench_median(&b->paced_cpu)
                         : bench_median(&a->cpu) / bench_median(&b->cpu);
        if (r > worst) {
            worst = r;
            *which = (int)value_bytes[size];
        }
    }
    return worst;
}

static double cpu_worst(contestant_kind other, int *which)
{
    int at;
    double saturated = cpu_ratio(other, false, which), paced = cpu_ratio(other, true, &at);
    if (paced <= saturated)
        return saturated;
    *which = -at; /* negative: at the fixed rate */
    return paced;
}

static void print_json(void)
{
    static const char *const names[2][2] = {{"rate_ratio", "cpu_ratio"},
                                            {"rate_ratio_best", "cpu_ratio_best"}};
    static const contestant_kind others[2] = {RDKAFKA, BY_HAND};
    bench_json json = {.used = 0};
    for (int i = 0; i < 2; i++) {
        int rate_at = 0, cpu_at = 0;
        double rate = rate_ratio(others[i], &rate_at), cpu = cpu_worst(others[i], &cpu_at);
        printf("against %-16s rate %.2f times (worst size: %d B), CPU %.2f times (worst: %d B, "
               "%s)\n", contestant_names[others[i]], rate, rate_at, cpu, abs(cpu_at),
               cpu_at < 0 ? "at the fixed rate" : "saturated");
        bench_json_number(&json, names[i][0], rate);
        bench_json_number(&json, names[i][1], cpu);
    }
    for (int size = 0; size < SIZES; size++) {
        const figures *a = &all[size][SALVO], *b = &all[size][RDKAFKA];
        char name[48];
        snprintf(name, sizeof name, "rate_ratio_%zu", value_bytes[size]);
        bench_json_number(&json, name, bench_median(&a->rate) / bench_median(&b->rate));
        snprintf(name, sizeof name, "cpu_ratio_%zu", value_bytes[size]);
        bench_json_number(&json, name, bench_median(&a->cpu) / bench_median(&b->cpu));
        snprintf(name, sizeof name, "cpu_ratio_paced_%zu", value_bytes[size]);
        bench_json_number(&json, name,
                          bench_median(&a->paced_cpu) / bench_median(&b->paced_cpu));
    }
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
        {"messages", .number = &messages_wanted, .least = 1e4, .most = 2e7,
         .help = "of 100 B, saturated, a round; a quarter of them of 1 KB"},
        {"rate", .number = &rate_wanted, .least = 1e3, .most = 1e6,
         .help = "the fixed rate of 100 B; a quarter of it of 1 KB"},
        {"partitions", .number = &partitions, .least = 1, .most = 64, .help = "of the topic"},
        {"linger-ms", .number = &linger_ms, .least = 0, .most = 1000, .help = "of all"},
        {"queue", .number = &queue_messages, .least = 0, .most = 1e7,
         .help = "messages in librdkafka's queue, then a send waits; 0: no bound"},
        {"only", .number = &only_kind, .least = 0, .most = CONTESTANTS - 1,
         .help = "one contestant alone, for a profile: 0 salvo, 1 rd_kafka_produce, 2 by hand"},
        {"bytes", .number = &only_bytes, .least = 100, .most = MAX_VALUE, .help = "only this size"},
        {"set", .text = &set_text, .help = "key=value,... of Salvo's configuration"},
    };
    bench_options(argc, argv, "Rate and client CPU until a real Kafka acknowledged.", options,
                  sizeof options / sizeof options[0]);
    if (quick) {
        rounds_wanted = 3;
        messages_wanted = 4e5;
    }
    bench_time_init();
    address = bench_broker();
    for (int size = 0; size < SIZES; size++) /* the broker's JIT compiler warms up */
        run_size(size, 0, false);
    for (int round = 0; round < (int)rounds_wanted; round++) {
        fprintf(stderr, "round %d of %.0f\n", round + 1, rounds_wanted);
        for (int size = 0; size < SIZES; size++)
            run_size(size, round, true);
    }
    print_table();
    print_json();
    return 0;
}
