/* SPDX-License-Identifier: Apache-2.0
 *
 * What a message costs in a batch: thread CPU time of the sender, 100 B, batches of 1,000 from
 * distinct source buffers, Salvo into the `null` driver, librdkafka into a real Kafka.
 *
 * Guarantees: nothing is refused and no ring fills while the clock runs, because a region of
 * batches is smaller than half a ring and everybody drains between regions, off the clock; the
 * cost of reading the thread's clock is measured and subtracted; medians over interleaved rounds.
 * Copying alone is measured twice: into memory that only the sender touches, and into memory that
 * another core reads between the regions, as any hand-over between cores must.
 */
#include "broker.h"
#include "contestant.h"
#include "harness.h"

#include <math.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VALUE_BYTES = 100, STRIDE = 104, BATCH = 1000, POOL = 16, REGION = 8 };

typedef enum entry {
    E_SALVO, E_COPY, E_COPY_SHARED, E_PRODUCE, E_BATCH, E_BATCH_GIVEN, ENTRIES
} entry;
static const char *const entry_names[ENTRIES] = {
    "salvo batch, null", "memcpy", "memcpy, read by a core", "rd_kafka_produce",
    "rd_kafka_produce_batch", "same, partition given"};

static double rounds_wanted = 9, messages_wanted = 400e3, partitions = 4;
static bool quick, json_wanted;
static const char *set_text;

static salvo_bytes source[POOL][BATCH]; /* each value in a buffer of its own */
static rd_kafka_message_t messages[POOL][BATCH];
static size_t next_batch;

static salvo *producer;
static salvo_topic topic;
static peer kafka;
static unsigned char *target; /* as large as one of Salvo's rings */
static size_t target_bytes, target_at;
static uint64_t refused;

/* A second core that reads what was copied, when told to. */
static sem_t read_asked, read_done;
static _Atomic uint64_t read_sum;

static void *read_target(void *unused)
{
    (void)unused;
    for (;;) {
        uint64_t sum = 0;
        sem_wait(&read_asked);
        for (size_t i = 0; i < target_bytes; i += 64)
            sum += target[i];
        atomic_store_explicit(&read_sum, sum, memory_order_relaxed); /* the reading is wanted */
        sem_post(&read_done);
    }
    return NULL;
}

static void copy_batch(const salvo_bytes *values)
{
    for (size_t i = 0; i < BATCH; i++) {
        if (target_at + STRIDE > target_bytes)
            target_at = 0;
        memcpy(target + target_at, values[i].data, values[i].len);
        __asm__ volatile("" ::: "memory"); /* the copy is wanted */
        target_at += STRIDE;
    }
}

static void send_batch(entry e)
{
    size_t at = next_batch++ % POOL;
    int64_t taken = BATCH;
    if (e == E_SALVO) {
        taken = salvo_send_batch_fire_and_forget(producer, topic, source[at], BATCH);
    } else if (e == E_COPY || e == E_COPY_SHARED) {
        copy_batch(source[at]);
    } else if (e == E_PRODUCE) {
        taken = 0;
        for (int i = 0; i < BATCH; i++)
            taken += !peer_send(&kafka, NULL, 0, messages[at][i].payload, VALUE_BYTES);
    } else {
        int32_t partition = e == E_BATCH ? RD_KAFKA_PARTITION_UA
                                         : (int32_t)(next_batch % (size_t)partitions);
        taken = rd_kafka_produce_batch(kafka.rkt, partition, RD_KAFKA_MSG_F_COPY, messages[at],
                                       BATCH);
    }
    refused += taken == BATCH ? 0 : taken < 0 ? BATCH : (uint64_t)(BATCH - taken);
}

/* Off the clock: everything that was sent is gone before the next region. */
static void drain(entry e)
{
    if (e == E_SALVO && salvo_flush(producer, 60000))
        bench_die("salvo_flush: the null driver did not take everything in 60 s");
    if (e >= E_PRODUCE && peer_flush(&kafka, 60000))
        bench_die("rd_kafka_flush: not everything was acknowledged in 60 s");
    if (e == E_COPY_SHARED) {
        sem_post(&read_asked);
        sem_wait(&read_done);
    }
}

static double clock_cost_ns(void)
{
    enum { N = 10000 };
    uint64_t from = bench_thread_cpu_ns();
    for (int i = 0; i < N; i++)
        (void)bench_thread_cpu_ns();
    return (double)(bench_thread_cpu_ns() - from) / N;
}

/* Mean CPU of the sending thread, ns a message. */
static double measure(entry e, double clock_ns)
{
    size_t regions = (size_t)ceil(messages_wanted / (BATCH * REGION));
    double cpu_ns = 0;
    for (size_t i = 0; i < regions + 2; i++) {
        uint64_t from = bench_thread_cpu_ns();
        for (int k = 0; k < REGION; k++)
            send_batch(e);
        if (i >= 2) /* the first two warm up */
            cpu_ns += (double)(bench_thread_cpu_ns() - from) - clock_ns;
        drain(e);
    }
    return cpu_ns / (double)(regions * BATCH * REGION);
}

static void *room(size_t bytes)
{
    void *memory = malloc(bytes);
    if (!memory)
        bench_die("no memory");
    memset(memory, 'x', bytes);
    return memory;
}

static void make_sources(void)
{
    for (int i = 0; i < POOL; i++)
        for (int k = 0; k < BATCH; k++) {
            void *value = room(VALUE_BYTES);
            source[i][k] = (salvo_bytes){value, VALUE_BYTES};
            messages[i][k] = (rd_kafka_message_t){.payload = value, .len = VALUE_BYTES};
        }
}

static void open_salvo(void)
{
    salvo_stats stats = {.size = sizeof stats};
    producer = bench_salvo_open("null", NULL, 5, set_text);
    if (salvo_topic_open(producer, "batch", NULL, &topic) || salvo_thread_attach(producer) ||
        salvo_get_stats(producer, &stats) || stats.rings == 0)
        bench_die("salvo: %s", salvo_last_error());
    target_bytes = stats.ring_bytes / stats.rings;
    if (target_bytes < (size_t)2 * STRIDE * BATCH * REGION)
        bench_die("a ring of %zu bytes is too small for this benchmark", target_bytes);
    target = room(target_bytes);
    printf("one ring: %zu KiB; refill: %d batches of %d, then all drain off the clock\n",
           target_bytes / 1024, REGION, BATCH);
}

static void print(const bench_rounds *ns)
{
    bench_json json = {.used = 0};
    double ours = bench_median(&ns[E_SALVO]), copy = bench_median(&ns[E_COPY]);
    printf("\nCPU of the sender, ns a message of %d B, medians of %.0f rounds; refused: %llu\n",
           VALUE_BYTES, rounds_wanted, (unsigned long long)refused);
    for (int e = 0; e < ENTRIES; e++) {
        printf("  %-24s %8.2f  (%.2f..%.2f)\n", entry_names[e], bench_median(&ns[e]),
               bench_least(&ns[e]), bench_most(&ns[e]));
        bench_warn_spread(entry_names[e], &ns[e], 1.5);
    }
    for (int e = 0; e < ENTRIES; e++)
        bench_bar(entry_names[e], bench_median(&ns[e]), 1, 1e3, "ns");
    printf("beyond copying: %.2f ns (goal: at most 5); rd_kafka_produce / salvo: %.1f\n",
           ours - copy, bench_median(&ns[E_PRODUCE]) / ours);
    bench_json_number(&json, "ns_per_msg", ours);
    bench_json_number(&json, "copy_ns_per_msg", copy);
    bench_json_number(&json, "copy_shared_ns_per_msg", bench_median(&ns[E_COPY_SHARED]));
    bench_json_number(&json, "ratio_vs_produce", bench_median(&ns[E_PRODUCE]) / ours);
    bench_json_number(&json, "ratio_vs_produce_batch", bench_median(&ns[E_BATCH]) / ours);
    bench_json_number(&json, "ratio_vs_produce_batch_given",
                      bench_median(&ns[E_BATCH_GIVEN]) / ours);
    bench_json_number(&json, "refused", (double)refused);
    if (json_wanted)
        bench_json_print(&json);
}

int main(int argc, char **argv)
{
    const bench_option options[] = {
        {"quick", .flag = &quick, .help = "fewer messages, 3 rounds, for development"},
        {"json", .flag = &json_wanted, .help = "one JSON object as the last line"},
        {"rounds", .number = &rounds_wanted, .least = 1, .most = 50, .help = "rounds"},
        {"messages", .number = &messages_wanted, .least = 1e4, .most = 1e8,
         .help = "of each, a round"},
        {"partitions", .number = &partitions, .least = 1, .most = 64, .help = "of the topic"},
        {"set", .text = &set_text, .help = "key=value,... of Salvo's configuration"},
    };
    bench_rounds ns[ENTRIES] = {{.count = 0}};
    char name[64];
    pthread_t reader;
    bench_options(argc, argv, "CPU a message of sending in batches, and of copying alone.",
                  options, sizeof options / sizeof options[0]);
    if (quick) {
        rounds_wanted = 3;
        messages_wanted = 80e3;
    }
    bench_time_init();
    double clock_ns = clock_cost_ns();
    printf("reading the thread's CPU clock: %.0f ns, subtracted\n", clock_ns);
    const char *address = bench_broker();
    bench_topic_create(address, (int)partitions, name, sizeof name);
    make_sources();
    open_salvo();
    sem_init(&read_asked, 0, 0);
    sem_init(&read_done, 0, 0);
    if (pthread_create(&reader, NULL, read_target, NULL) || pthread_detach(reader))
        bench_die("no thread");
    peer_open(&kafka, address, name, &(peer_options){.linger_ms = 5});
    for (int round = 0; round < (int)rounds_wanted; round++)
        for (int turn = 0; turn < ENTRIES; turn++) {
            entry e = (entry)((round + turn) % ENTRIES);
            bench_round_add(&ns[e], measure(e, clock_ns));
        }
    print(ns);
    peer_close(&kafka);
    bench_topic_delete(address, name);
    if (salvo_close(producer, 10000, NULL))
        bench_die("salvo_close: not everything was delivered");
    return 0;
}
