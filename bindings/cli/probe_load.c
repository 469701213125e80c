/* SPDX-License-Identifier: Apache-2.0
 *
 * A producer at work, for `salvo probe`: what a message costs its parts while all of them run at
 * once. The grid and the sweep send the same few batches again and again, from memory that stays
 * in the nearest caches; a service's messages come through rings and arenas, and its threads and a
 * broker here share what cache there is (where a host leaves a virtual machine 2 MB of its third
 * level, each part costs 1.6 to 2.2 times as much).
 * So it works at half of what the costs known so far allow, and then, with those that this told,
 * close to the limit. Guarantee: figures change only where the parts kept up and did enough to be
 * measured.
 */
#include "probe.h"

#include "load_pace.h"
#include "load_payload.h"

#include <math.h>
#include <salvo/stats.h>

#define MS UINT64_C(1000000)
#define SECOND UINT64_C(1000000000)
#define LINGER_US "5000" /* a batch is a request then */
#define LEAST_CORES 0.05 /* what does less is noise */
#define HALF 0.5
#define CLOSE 0.85
enum { OPEN_MS = 15000, CLOSE_MS = 10000, FLUSH_MS = 5000,
       LEAST_SHARE = 80 /* per cent of what was due */ };

typedef struct spent { /* so far */
    uint64_t at_ns, messages, acknowledged, batches, sends_ns, flushers_ns, library_ns, broker_ns;
} spent;

typedef struct work {
    salvo *producer;
    salvo_topic topic;
    double rate; /* messages a second */
    uint64_t sent, sends_ns, clock_ns; /* clock_ns: to read a thread's clock, a system call */
} work;

/* CPU of a message in all parts, by the costs known so far. */
static double message_ns(const salvo_probing *p)
{
    double bytes = p->value_bytes;
    const salvo_fit_cost *parts[] = {&p->flusher, &p->thread, &p->library, &p->host};
    double sum = (p->call_ps + p->call_byte_ps * bytes) / 1000;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        sum += parts[i]->per_record_ns + parts[i]->per_byte_ns * bytes;
    return sum;
}

/* A share of what the cores can do, and the sweep saw go through. */
static double rate_for(const salvo_probing *p, double share)
{
    double cores = salvo_load_cores() * 1e9 / fmax(message_ns(p), 1), messages = 0, bytes = 0;
    for (size_t i = 0; i < p->flow_count; i++) {
        messages = fmax(messages, p->flows[i].per_s * p->flows[i].records);
        bytes = fmax(bytes, p->flows[i].per_s * p->flows[i].bytes);
    }
    double rate = share * fmin(cores, fmin(messages, bytes / p->value_bytes));
    return p->max_rate != 0 ? fmin(rate, (double)p->max_rate) : rate;
}

/* The probe's own configuration, but for what this needs. */
static salvo_config *config_of(const salvo_probing *p)
{
    const char *maxlen = salvo_config_get(p->config, "redis_maxlen");
    const char *const pairs[][2] = {{"linger_us", LINGER_US}, {"full_policy", "fail"},
                                    {"metrics_listen", ""}, {"redis_maxlen", maxlen}};
    salvo_config *config = salvo_cli_load(&p->settings);
    for (size_t i = 0; config != NULL && i < sizeof pairs / sizeof *pairs; i++)
        if (salvo_config_set_from(config, pairs[i][0], pairs[i][1], "salvo probe") != 0)
            salvo_cli_say("%s", salvo_config_error(config));
    return config;
}

static int open_producer(const salvo_probing *p, const char *topic, work *w)
{
    salvo_options options = {.size = sizeof options, .open_timeout_ms = OPEN_MS,
                             .require_broker = 1};
    salvo_config *config = config_of(p);
    int err = config == NULL ? SALVO_ERR_INVALID : salvo_open(config, &options, &w->producer);
    if (err == 0)
        err = salvo_topic_open(w->producer, topic, NULL, &w->topic);
    salvo_config_free(config);
    return err;
}

static spent spent_now(const salvo_probing *p, const work *w)
{
    salvo_stats stats = {.size = sizeof stats};
    (void)!salvo_get_stats(w->producer, &stats);
    uint64_t flushers_ns = salvo_probing_cpu_of_threads("salvo-flusher");
    uint64_t own_ns = salvo_probing_cpu_ns(CLOCK_THREAD_CPUTIME_ID);
    uint64_t others_ns = salvo_probing_process_cpu_ns() - own_ns;
    return (spent){.at_ns = salvo_cli_now_ns(), .messages = w->sent,
                   .acknowledged = stats.total.acknowledged, .batches = stats.batches,
                   .sends_ns = w->sends_ns, .flushers_ns = flushers_ns,
                   .library_ns = others_ns > flushers_ns ? others_ns - flushers_ns : 0,
                   .broker_ns = p->on_host ? salvo_probing_cpu_of(p->broker_pid) : 0};
}

static uint64_t clock_cost_ns(void)
{
    uint64_t least = UINT64_MAX;
    for (int i = 0; i < 100; i++) {
        uint64_t before_ns = salvo_probing_cpu_ns(CLOCK_THREAD_CPUTIME_ID);
        uint64_t took_ns = salvo_probing_cpu_ns(CLOCK_THREAD_CPUTIME_ID) - before_ns;
        least = took_ns < least ? took_ns : least;
    }
    return least;
}

/* What is due and not refused; only the calls are counted as the calling thread's. */
static void send_due(const salvo_probing *p, work *w, uint64_t due)
{
    int err = 0;
    uint64_t before_ns = salvo_probing_cpu_ns(CLOCK_THREAD_CPUTIME_ID);
    while (err == 0 && w->sent < due) {
        err = salvo_send_fire_and_forget(w->producer, w->topic, NULL, 0,
                                         salvo_payload_at(p->block, w->sent, p->value_bytes),
                                         p->value_bytes);
        w->sent += err == 0;
    }
    uint64_t took_ns = salvo_probing_cpu_ns(CLOCK_THREAD_CPUTIME_ID) - before_ns;
    w->sends_ns += took_ns > w->clock_ns ? took_ns - w->clock_ns : 0;
}

static int send_until(const salvo_probing *p, work *w, uint64_t begin_ns, uint64_t until_ns)
{
    int status = 0;
    for (uint64_t now_ns; status == 0 && (now_ns = salvo_cli_now_ns()) < until_ns;) {
        send_due(p, w, (uint64_t)(w->rate * (double)(now_ns - begin_ns) / 1e9));
        salvo_probing_sleep(MS);
        status = salvo_probing_interrupted();
    }
    return status;
}

static void correct(salvo_probing *p, const spent *a, const spent *b)
{
    double wall = (double)(b->at_ns - a->at_ns), bytes = p->value_bytes;
    double least = LEAST_CORES * wall, idle = wall * (double)p->broker_idle_permille / 1000;
    double n = (double)(b->acknowledged - a->acknowledged);
    double sent = (double)(b->messages - a->messages), batches = (double)(b->batches - a->batches);
    salvo_fit_cost call = {0, p->call_byte_ps / 1000, p->call_ps / 1000};
    p->load.rate = n * 1e9 / wall;
    p->load.send *= salvo_fit_at_work(
        &(salvo_fit_work){(double)(b->sends_ns - a->sends_ns), 0, sent, bytes, 0},
        (salvo_fit_cost *[]){&call}, 1);
    p->load.flusher *= salvo_fit_at_work(
        &(salvo_fit_work){(double)(b->flushers_ns - a->flushers_ns),
                          batches * (p->flusher.base_ns + p->thread.base_ns), n, bytes, least},
        (salvo_fit_cost *[]){&p->flusher, &p->thread}, 2);
    p->load.library *= salvo_fit_at_work(
        &(salvo_fit_work){(double)(b->library_ns - a->library_ns),
                          batches * (p->library.base_ns + p->library_request_ns), n, bytes, least},
        (salvo_fit_cost *[]){&p->library}, 1);
    p->load.broker *= salvo_fit_at_work(
        &(salvo_fit_work){(double)(b->broker_ns - a->broker_ns),
                          batches * p->host.base_ns + idle, n, bytes, least},
        (salvo_fit_cost *[]){&p->host}, 1);
    p->call_ps = call.per_record_ns * 1000;
    p->call_byte_ps = call.per_byte_ns * 1000;
}

/* One rate, of which the first quarter is not counted. */
static int work_at(salvo_probing *p, work *w, double share, uint64_t length_ns)
{
    w->rate = rate_for(p, share);
    w->sent = 0;
    salvo_probing_progress(p, "a producer at work: %.0f messages/s", w->rate);
    uint64_t begin_ns = salvo_cli_now_ns();
    int status = send_until(p, w, begin_ns, begin_ns + length_ns / 4);
    spent before = spent_now(p, w);
    if (status == 0)
        status = send_until(p, w, begin_ns, begin_ns + length_ns);
    spent after = spent_now(p, w);
    double due = w->rate * (double)(after.at_ns - before.at_ns) / 1e9;
    if (status == 0 && (double)(after.acknowledged - before.acknowledged) * 100 > due * LEAST_SHARE)
        correct(p, &before, &after);
    return status;
}

int salvo_probing_load(salvo_probing *p, const char *topic, uint64_t length_ns)
{
    work w = {.clock_ns = clock_cost_ns()};
    int err = open_producer(p, topic, &w);
    if (err != 0) {
        if (w.producer != NULL)
            (void)!salvo_close(w.producer, 0, NULL);
        salvo_cli_say("probe: no producer could be opened (%s): what messages cost is what single "
                      "requests told", salvo_last_error());
        return 0; /* the rest was measured */
    }
    p->load = (salvo_probe_load){.send = 1, .flusher = 1, .library = 1, .broker = 1};
    int status = work_at(p, &w, HALF, length_ns / 2);
    if (status == 0) {
        (void)!salvo_flush(w.producer, FLUSH_MS);
        status = work_at(p, &w, CLOSE, length_ns / 2);
    }
    (void)!salvo_close(w.producer, status == 0 ? CLOSE_MS : 0, NULL);
    return status;
}
