/* SPDX-License-Identifier: Apache-2.0
 *
 * What the engine itself costs on this machine, over `null`: sends, and the rounds of a flusher
 * that is stepped by hand, so that nothing else is in the figures. And how late sleeps end.
 */
#include <salvo/probe.h>

#include "clock.h"
#include "config_internal.h"
#include "error.h"
#include "flusher.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/prctl.h>

enum { EMPTY_ROUNDS = 200, ROUNDS_MOST = 100000, TIMER_SLACK_NS = 5000 /* a flusher's */ };

static uint64_t cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t salvo_probe_overshoot(uint64_t nap_ns)
{
    struct timespec timeout = {(time_t)(nap_ns / 1000000000u), (long)(nap_ns % 1000000000u)};
    int slack = prctl(PR_GET_TIMERSLACK);
    prctl(PR_SET_TIMERSLACK, TIMER_SLACK_NS);
    uint64_t due_ns = salvo_clock_monotonic_ns() + nap_ns;
    (void)ppoll(NULL, 0, &timeout, NULL);
    uint64_t now_ns = salvo_clock_monotonic_ns();
    prctl(PR_SET_TIMERSLACK, slack);
    return now_ns > due_ns ? now_ns - due_ns : 0;
}

static int open_null(const salvo_config *config, salvo **out)
{
    static const char *const pairs[][2] = {{"message_broker", "null"}, {"linger_us", "0"},
                                           {"full_policy", "fail"}, {"flushers", "1"},
                                           {"wake", "none"}, {"enqueue_sample", "0"}};
    salvo_producer_hooks hooks = {.stepped = true};
    salvo_config *mine = NULL;
    int err = salvo_config_clone(config, &mine);
    for (size_t i = 0; err == 0 && i < sizeof pairs / sizeof pairs[0]; i++) {
        err = salvo_config_set(mine, pairs[i][0], pairs[i][1]);
        if (err != 0)
            salvo_error_set("%s", salvo_config_error(mine));
    }
    if (err == 0)
        err = salvo_producer_open(mine, NULL, &hooks, out);
    salvo_config_free(mine);
    return err;
}

static void measure_empty(salvo_flusher *f, salvo_probe_engine *out)
{
    struct pollfd fd = {f->event_fd, POLLIN, 0};
    struct timespec none = {0};
    uint64_t begin_ns = cpu_ns();
    for (int i = 0; i < EMPTY_ROUNDS; i++) {
        salvo_flusher_kick(f); /* a pass in each */
        (void)salvo_flusher_work(f);
        (void)ppoll(&fd, 1, &none, NULL);
    }
    out->empty_ns = (cpu_ns() - begin_ns) / EMPTY_ROUNDS;
}

static int measure(salvo *p, uint32_t records, uint32_t value_bytes, const unsigned char *value,
                   salvo_probe_engine *out)
{
    salvo_flusher *f = &p->flushers[0];
    salvo_topic topic;
    int err = salvo_topic_open(p, "probe", NULL, &topic);
    if (err != 0)
        return err;
    for (int i = 0; i < 2; i++) { /* the first time touches memory and resolves the topic */
        uint64_t begin_ns = cpu_ns();
        salvo_ledger ledger = {0};
        *out = (salvo_probe_engine){0};
        uint64_t batches = atomic_load_explicit(&f->counters.batches, memory_order_relaxed);
        while (out->records < records &&
               salvo_send_fire_and_forget(p, topic, NULL, 0, value, value_bytes) == 0)
            out->records++;
        out->send_ns = cpu_ns() - begin_ns;
        begin_ns = cpu_ns();
        do {
            salvo_flusher_kick(f);
            (void)salvo_flusher_work(f);
            err = salvo_ledger_read(p, topic, &ledger);
        } while (err == 0 && ledger.pending != 0 && ++out->rounds < ROUNDS_MOST);
        out->work_ns = cpu_ns() - begin_ns;
        out->rounds++;
        out->batches =
            atomic_load_explicit(&f->counters.batches, memory_order_relaxed) - batches;
    }
    measure_empty(f, out);
    return err;
}

int salvo_probe_measure_engine(const salvo_config *config, uint32_t records, uint32_t value_bytes,
                               salvo_probe_engine *out)
{
    salvo *p = NULL;
    unsigned char *value = calloc(value_bytes + 1u, 1);
    if (value == NULL)
        return SALVO_ERR_NOMEM;
    int err = open_null(config, &p);
    if (err == 0) {
        err = measure(p, records, value_bytes, value, out);
        int closed = salvo_close(p, 0, NULL);
        err = err != 0 ? err : closed;
    }
    free(value);
    return err;
}
