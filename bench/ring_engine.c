/* SPDX-License-Identifier: Apache-2.0
 *
 * How the call's p50 and p99 grow with the number of threads that send through one engine into
 * the `null` driver, up to the number of cores (the flusher counted) and far beyond: at a fixed
 * rate that all threads share, and saturated (a full ring then makes the call wait: policy
 * `block`). Guarantees: nothing refused goes unseen; the timer's cost is in the figures.
 */
#include "contestant.h"
#include "harness.h"
#include "ring_queues.h"

#include <string.h>

enum { MOST_THREADS = 64, VALUE_BYTES = 100 };

typedef struct sender {
    salvo *producer;
    salvo_topic topic;
    pthread_barrier_t *barrier;
    double per_second;
    size_t calls;
    bench_samples samples;
    unsigned long long refused;
} sender;

static void *send_all(void *argument)
{
    sender *s = argument;
    char value[VALUE_BYTES];
    bench_pacer pacer;
    memset(value, 'x', sizeof value);
    if (salvo_thread_attach(s->producer))
        bench_die("salvo_thread_attach: %s", salvo_last_error());
    pthread_barrier_wait(s->barrier);
    bench_pacer_start(&pacer, s->per_second, BENCH_PACE_NAP);
    for (size_t i = 0; i < s->calls; i++) {
        bench_pacer_wait(&pacer);
        uint64_t begin = bench_ticks();
        int err = salvo_send_fire_and_forget(s->producer, s->topic, NULL, 0, value, sizeof value);
        bench_sample(&s->samples, bench_ticks() - begin);
        s->refused += err != 0;
    }
    return NULL;
}

/* All samples of a run, sorted; per_second 0: saturated. Returns the seconds it took. */
static double run(salvo *producer, int threads, int calls, double per_second, bench_samples *all,
                  unsigned long long *refused)
{
    static sender senders[MOST_THREADS];
    pthread_t ids[MOST_THREADS];
    pthread_barrier_t barrier;
    salvo_topic topic;
    if (salvo_topic_open(producer, "ring", NULL, &topic))
        bench_die("salvo_topic_open: %s", salvo_last_error());
    pthread_barrier_init(&barrier, NULL, (unsigned)threads + 1);
    for (int i = 0; i < threads; i++) {
        senders[i] = (sender){.producer = producer, .topic = topic, .barrier = &barrier,
                              .per_second = per_second / threads,
                              .calls = (size_t)(calls / threads)};
        bench_samples_init(&senders[i].samples, senders[i].calls);
        if (pthread_create(&ids[i], NULL, send_all, &senders[i]))
            bench_die("no thread");
    }
    pthread_barrier_wait(&barrier);
    uint64_t from_ns = bench_now_ns();
    for (int i = 0; i < threads; i++)
        pthread_join(ids[i], NULL);
    double seconds = (double)(bench_now_ns() - from_ns) / 1e9;
    all->count = 0;
    for (int i = 0; i < threads; i++) {
        bench_samples_append(all, &senders[i].samples);
        bench_samples_free(&senders[i].samples);
        *refused += senders[i].refused;
    }
    bench_samples_sort(all);
    pthread_barrier_destroy(&barrier);
    return seconds;
}

void engine_scaling(engine_point points[ENGINE_POINTS], int calls, double paced_per_second,
                    const char *set)
{
    bench_samples all;
    bench_samples_init(&all, (size_t)calls);
    for (int i = 0; i < ENGINE_POINTS; i++) {
        engine_point *p = &points[i];
        *p = (engine_point){.threads = 1 << i};
        salvo *producer = bench_salvo_open("null", NULL, 5, set);
        unsigned long long warm = 0;
        (void)run(producer, 1, calls / 4, 0, &all, &warm);
        (void)run(producer, p->threads, calls, paced_per_second, &all, &p->refused);
        p->paced_p50_ns = bench_ns(bench_percentile(&all, 50));
        p->paced_p99_ns = bench_ns(bench_percentile(&all, 99));
        double seconds = run(producer, p->threads, calls, 0, &all, &p->refused);
        p->full_p50_ns = bench_ns(bench_percentile(&all, 50));
        p->full_p99_ns = bench_ns(bench_percentile(&all, 99));
        p->full_per_second = (double)all.count / seconds;
        if (salvo_close(producer, 10000, NULL))
            bench_die("salvo_close: not everything was delivered");
    }
    bench_samples_free(&all);
}
