/* SPDX-License-Identifier: Apache-2.0
 *
 * What one call costs the caller: salvo_send_fire_and_forget against rd_kafka_produce, same run,
 * same real Kafka, same settings, 100 B. Beside them a plain copy of as many bytes at the same
 * pace: the floor, below which nothing can be on that machine.
 *
 * Guarantees: each round measures both at every point, in turns; figures are medians over the
 * rounds of each round's percentile; refusals and the rate that was really sent stand beside
 * them; every message of both was acknowledged by the broker, or the benchmark fails. Raw figures
 * hold the cost of the timer; ratios are taken after subtracting it (at least one tick stays).
 */
#include "broker.h"
#include "contestant.h"
#include "harness.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { OURS, THEIRS, FLOOR, KINDS };
static const contestant_kind kinds[KINDS] = {SALVO, RDKAFKA, COPY};

enum { MAX_THREADS = 2, VALUE_BYTES = 100, KEYS = 1024, PERCENTILES = 4, RATES = 4 };

static const double percents[PERCENTILES] = {50, 99, 99.9, 99.99};
static const char *const percent_names[PERCENTILES] = {"p50", "p99", "p99.9", "p99.99"};
static const double rates[RATES] = {50e3, 100e3, 200e3, 0}; /* a thread; 0: saturated */

static double rounds_wanted = 5, samples_wanted = 1e6, partitions = 4, linger_ms = 5,
              only_threads, only_keyed = -1;
static bool quick, json_wanted, naps;
static const char *set_text;
static char keys[KEYS][8];

typedef struct figures { /* of one contestant at one point */
    bench_rounds percentile[PERCENTILES], per_second;
    uint64_t refused, samples;
} figures;

typedef struct point {
    int threads;
    bool keyed;
    double rate;
    figures of[KINDS]; /* in the order of kinds[] */
} point;

static point points[2 * MAX_THREADS * RATES];
static size_t point_count;

typedef struct worker {
    contestant *c;
    const point *points; /* RATES of them */
    pthread_barrier_t *barrier;
    size_t calls; /* of a paced point and round */
    bench_samples samples;
    uint64_t refused, accepted;
    double seconds;
} worker;

/* One thread, one point, one round. kind is a constant where this is inlined. */
static inline __attribute__((always_inline)) void send_point(worker *w, const point *p,
                                                             contestant_kind kind, size_t calls)
{
    char value[VALUE_BYTES];
    bench_pacer pacer;
    memset(value, 'x', sizeof value);
    w->samples.count = 0;
    w->refused = 0;
    uint64_t from_ns = bench_now_ns();
    bench_pacer_start(&pacer, p->rate, naps ? BENCH_PACE_NAP : BENCH_PACE_SLEEP);
    for (size_t i = 0; i < calls; i++) {
        const char *key = p->keyed ? keys[i * 7 % KEYS] : NULL;
        memcpy(value, &i, sizeof i);
        bench_pacer_wait(&pacer);
        uint64_t begin = bench_ticks();
        int err = contestant_send(w->c, kind, key, key ? sizeof keys[0] : 0, value,
                                  sizeof value);
        bench_sample(&w->samples, bench_ticks() - begin);
        w->refused += err != 0;
    }
    w->accepted += calls - w->refused;
    w->seconds = (double)(bench_now_ns() - from_ns) / 1e9;
}

static void send_round(worker *w, const point *p, size_t calls)
{
    if (w->c->kind == SALVO)
        send_point(w, p, SALVO, calls);
    else if (w->c->kind == COPY)
        send_point(w, p, COPY, calls);
    else
        send_point(w, p, RDKAFKA, calls);
}

/* The same thread sends all rates of its group, as a service's threads live long. */
static void *work(void *argument)
{
    worker *w = argument;
    point warm = w->points[0];
    warm.rate = 200e3;
    contestant_attach(w->c);
    pthread_barrier_wait(w->barrier);
    send_round(w, &warm, w->samples.capacity < 200000 ? w->samples.capacity : 200000);
    pthread_barrier_wait(w->barrier);
    for (int i = 0; i < RATES; i++) {
        pthread_barrier_wait(w->barrier); /* the contestant is at rest */
        send_round(w, &w->points[i], w->calls);
        pthread_barrier_wait(w->barrier);
        pthread_barrier_wait(w->barrier); /* the samples were taken */
    }
    return NULL;
}

static void take_figures(figures *f, worker *workers, int threads)
{
    bench_samples all;
    double seconds = 0;
    bench_samples_init(&all, (size_t)threads * workers[0].calls);
    for (int i = 0; i < threads; i++) {
        bench_samples_append(&all, &workers[i].samples);
        f->refused += workers[i].refused;
        seconds = fmax(seconds, workers[i].seconds);
    }
    bench_samples_sort(&all);
    for (int k = 0; k < PERCENTILES; k++)
        bench_round_add(&f->percentile[k], bench_percentile(&all, percents[k]));
    bench_round_add(&f->per_second, (double)all.count / seconds);
    f->samples += all.count;
    bench_samples_free(&all);
}

/* All rates of one group (threads, keys) with one contestant, in one round. */
static void run_group(point *group, int which, const char *address)
{
    worker workers[MAX_THREADS] = {0};
    pthread_t threads[MAX_THREADS];
    pthread_barrier_t barrier;
    contestant c;
    char topic[64];
    int n = group->threads;
    uint64_t accepted = 0;
    bench_topic_create(address, (int)partitions, topic, sizeof topic);
    contestant_options options = {.address = address, .topic = topic, .linger_ms = linger_ms,
                                  .set = set_text};
    contestant_open(&c, kinds[which], &options);
    pthread_barrier_init(&barrier, NULL, (unsigned)n + 1);
    for (int i = 0; i < n; i++) {
        size_t calls = (size_t)ceil(samples_wanted / rounds_wanted / n);
        workers[i] = (worker){.c = &c, .points = group, .barrier = &barrier, .calls = calls};
        bench_samples_init(&workers[i].samples, calls);
        if (pthread_create(&threads[i], NULL, work, &workers[i]))
            bench_die("no thread");
    }
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier); /* warm */
    for (int i = 0; i < RATES; i++) {
        contestant_flush(&c);
        pthread_barrier_wait(&barrier);
        pthread_barrier_wait(&barrier);
        take_figures(&group[i].of[which], workers, n);
        contestant_flush(&c);
        pthread_barrier_wait(&barrier);
    }
    for (int i = 0; i < n; i++) {
        pthread_join(threads[i], NULL);
        accepted += workers[i].accepted;
        bench_samples_free(&workers[i].samples);
    }
    contestant_close(&c, accepted);
    pthread_barrier_destroy(&barrier);
    bench_topic_delete(address, topic);
}

static void print_point(const point *p)
{
    for (int which = 0; which < KINDS; which++) {
        const figures *f = &p->of[which];
        char text[32];
        double sent = bench_median(&f->per_second) / p->threads;
        if (p->rate > 0)
            snprintf(text, sizeof text, "%.0fk/s", p->rate / 1e3);
        else
            snprintf(text, sizeof text, "saturated");
        printf("%d  %-4s %-9s  %-16s %9.0f%c %8llu", p->threads, p->keyed ? "keys" : "-", text,
               contestant_names[kinds[which]], sent,
               p->rate > 0 && sent < 0.98 * p->rate ? '!' : ' ',
               (unsigned long long)f->refused);
        for (int k = 0; k < PERCENTILES; k++)
            printf(" %9s", bench_time_text(bench_ns(bench_median(&f->percentile[k])), text,
                                           sizeof text));
        printf("   %s", bench_time_text(bench_ns(bench_least(&f->percentile[1])), text,
                                        sizeof text));
        printf("..%s\n", bench_time_text(bench_ns(bench_most(&f->percentile[1])), text,
                                         sizeof text));
        bench_warn_spread("a p50", &f->percentile[0], 1.5);
    }
}

static void print_table(void)
{
    printf("\nThe call, raw (timer included), medians of %.0f rounds; sent: a thread and second, "
           "! where the rate was not reached\n", rounds_wanted);
    printf("threads, keys, rate                       sent  refused       p50       p99     "
           "p99.9    p99.99   p99 of rounds\n");
    for (size_t i = 0; i < point_count; i++)
        print_point(&points[i]);
}

static void print_picture(void)
{
    for (size_t i = 0; i < point_count; i++) {
        const point *p = &points[i];
        if (p->threads != MAX_THREADS || p->rate != rates[RATES - 2])
            continue;
        printf("\n%d threads at %.0fk/s each, %s keys (ns, each step of 11 # is a factor of 32)\n",
               p->threads, p->rate / 1e3, p->keyed ? "shared" : "without");
        for (int k = 0; k < 3; k++)
            for (int which = 0; which < KINDS; which++) {
                char label[40];
                snprintf(label, sizeof label, "%s %s", percent_names[k],
                         contestant_names[kinds[which]]);
                bench_bar(label, bench_ns(bench_median(&p->of[which].percentile[k])), 10, 1e7,
                          "ns");
            }
    }
}

static double ratio(const point *p, int k, double timer)
{
    double ours = bench_median(&p->of[OURS].percentile[k]) - timer;
    double theirs = bench_median(&p->of[THEIRS].percentile[k]) - timer;
    return fmax(theirs, 1) / fmax(ours, 1);
}

/* The worst of the paced points with two threads. */
static double worst_ratio(bool keyed, int k, double timer)
{
    double worst = INFINITY;
    for (size_t i = 0; i < point_count; i++)
        if (points[i].threads == MAX_THREADS && points[i].keyed == keyed && points[i].rate > 0)
            worst = fmin(worst, ratio(&points[i], k, timer));
    return worst;
}

static void print_json(void)
{
    static const char *const names[3] = {"p50_ratio", "p99_ratio", "p999_ratio"};
    static const char *const prefix[4] = {"", "keyed_", "raw_", "raw_keyed_"};
    bench_json json = {.used = 0};
    uint64_t refused = 0;
    double timer = (double)bench_timer_ticks();
    printf("\nrd_kafka_produce / salvo, worst of the paced two-thread points, timer subtracted\n");
    for (int raw = 0; raw < 2; raw++)
        for (int keyed = 0; keyed < 2; keyed++)
            for (int k = 0; k < 3; k++) {
                char name[40];
                double value = worst_ratio(keyed, k, raw ? 0 : timer);
                snprintf(name, sizeof name, "%s%s", prefix[2 * raw + keyed], names[k]);
                bench_json_number(&json, name, value);
                if (!raw)
                    printf("  %-18s %.1f\n", name, value);
            }
    for (size_t i = 0; i < point_count; i++)
        refused += points[i].of[OURS].refused + points[i].of[THEIRS].refused;
    bench_json_number(&json, "refused", (double)refused);
    bench_json_number(&json, "timer_ns", bench_ns(timer));
    bench_json_number(&json, "samples_a_point", (double)points[0].of[OURS].samples);
    bench_json_number(&json, "rounds", rounds_wanted);
    if (json_wanted)
        bench_json_print(&json);
}

static void make_points(void)
{
    for (int keyed = 0; keyed < 2; keyed++)
        for (int threads = 1; threads <= MAX_THREADS; threads++) {
            if ((only_threads > 0 && threads != (int)only_threads) ||
                (only_keyed >= 0 && keyed != (int)only_keyed))
                continue;
            for (int i = 0; i < RATES; i++)
                points[point_count++] = (point){.threads = threads, .keyed = keyed,
                                                .rate = rates[i]};
        }
    for (int i = 0; i < KEYS; i++) {
        char text[16];
        snprintf(text, sizeof text, "key-%04d", i);
        memcpy(keys[i], text, sizeof keys[i]);
    }
}

int main(int argc, char **argv)
{
    const bench_option options[] = {
        {"quick", .flag = &quick, .help = "a tenth of the samples, 3 rounds, for development"},
        {"json", .flag = &json_wanted, .help = "one JSON object as the last line"},
        {"rounds", .number = &rounds_wanted, .least = 1, .most = 25, .help = "rounds"},
        {"samples", .number = &samples_wanted, .least = 1e4, .most = 1e7,
         .help = "calls a point, over all rounds"},
        {"partitions", .number = &partitions, .least = 1, .most = 64, .help = "of the topic"},
        {"linger-ms", .number = &linger_ms, .least = 0, .most = 1000, .help = "of both"},
        {"threads", .number = &only_threads, .least = 1, .most = 2, .help = "only so many threads"},
        {"keyed", .number = &only_keyed, .least = 0, .most = 1, .help = "only with 1, without 0"},
        {"naps", .flag = &naps, .help = "never spin: sleep when ahead, send what came due"},
        {"set", .text = &set_text, .help = "key=value,... of Salvo's configuration"},
    };
    bench_options(argc, argv, "The sender's cost of one call, Salvo beside rd_kafka_produce.",
                  options, sizeof options / sizeof options[0]);
    if (quick) {
        rounds_wanted = 3;
        samples_wanted = 1e5;
    }
    bench_time_init();
    const char *address = bench_broker();
    make_points();
    for (int round = 0; round < (int)rounds_wanted; round++) {
        fprintf(stderr, "round %d of %.0f\n", round + 1, rounds_wanted);
        for (size_t i = 0; i < point_count; i += RATES)
            for (int turn = 0; turn < KINDS; turn++)
                run_group(&points[i], (round + turn) % KINDS, address);
    }
    print_table();
    print_picture();
    print_json();
    return 0;
}
