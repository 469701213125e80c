/* SPDX-License-Identifier: Apache-2.0
 *
 * A driver's handle on its own; see salvo/probe.h. Guarantees: the driver is opened, fed and polled
 * by its table as a flusher does it (credit before submit, sleep on its descriptors), a batch's
 * bytes stay where they are while it is out, and each token is taken back once.
 */
#include <salvo/probe.h>

#include "batch.h"
#include "clock.h"
#include "config_internal.h"
#include "error.h"
#include "flusher.h"
#include "producer.h"

#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
    OUTCOMES = 64,
    MAX_FDS = 8,
    NAP_NS = 5 * 1000 * 1000, /* a flusher's longest while messages come */
    PURGE_MS = 2000,
    TOPIC_MS = 100            /* between two looks at the partitions */
};
#define ARENA_BYTES (UINT64_C(256) << 20)
#define MS UINT64_C(1000000)

typedef struct flight { /* of a batch, by its index in the pool */
    salvo_batch *batch;
    uint64_t begin_ns, begin_cpu_ns;
    uint32_t in_flight, records;
} flight;

struct salvo_probe {
    salvo_config *config;
    const salvo_driver_ops *driver;
    salvo_settings settings;
    salvo_driver_env env;
    salvo_driver_topic options;
    void *shared, *handle;
    salvo_clock clock;
    salvo_batch_pool pool;
    flight *flights; /* [pool.count] */
    uint32_t count, out, partitions; /* batches made; out; of the topic */
    int event_fd;
    uint64_t deadline_ns; /* a batch's, from its submit */
    unsigned char *record; /* a message laid out as in a ring */
    salvo_driver_burst burst;
    salvo_part *parts;     /* [partitions]: only what bursts need */
    uint64_t round;
};

static uint64_t env_now_ns(void *context)
{
    const salvo_clock *clock = context;
    return salvo_clock_ns(clock, salvo_clock_stamp(clock));
}

static void wake(void *context)
{
    uint64_t one = 1;
    ssize_t ignored = write(((salvo_probe *)context)->event_fd, &one, sizeof one);
    (void)ignored; /* full: it is readable anyway */
}

static uint64_t thread_cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void nap(salvo_probe *p, uint64_t until_ns)
{
    struct pollfd fds[MAX_FDS + 1];
    int raw[MAX_FDS];
    uint64_t now_ns = salvo_clock_monotonic_ns(), count;
    uint64_t nap_ns = until_ns > now_ns ? until_ns - now_ns : 0;
    struct timespec timeout = {0, (long)(nap_ns < NAP_NS ? nap_ns : NAP_NS)};
    int n = p->driver->descriptors(p->handle, raw, MAX_FDS);
    fds[0] = (struct pollfd){p->event_fd, POLLIN, 0};
    for (int i = 0; i < n; i++)
        fds[i + 1] = (struct pollfd){raw[i], POLLIN, 0};
    if (ppoll(fds, (nfds_t)n + 1, &timeout, NULL) > 0 && fds[0].revents != 0) {
        ssize_t ignored = read(p->event_fd, &count, sizeof count);
        (void)ignored;
    }
}

/* ---- Opening ---- */

static int choose(salvo_probe *p, const salvo_config *config)
{
    const char *why = NULL;
    int err = salvo_config_clone(config, &p->config);
    if (err != 0)
        return err;
    err = salvo_config_validate(p->config);
    if (err != 0) {
        salvo_error_set("%s", salvo_config_error(p->config));
        return err;
    }
    const char *name = salvo_config_broker(p->config, &why);
    p->driver = name != NULL ? salvo_driver_find(name) : NULL;
    if (p->driver != NULL && p->driver->burst != NULL)
        p->driver->burst(p->config, &p->burst);
    if (p->driver != NULL)
        return salvo_settings_read(p->config, p->driver, salvo_usable_cores(), &p->settings);
    salvo_error_set("message_broker: %s", name != NULL ? "not in this build" : why);
    return SALVO_ERR_CONFIG;
}

static int open_memory(salvo_probe *p)
{
    uint64_t record = (uint64_t)p->settings.max_message_bytes + 4096u;
    if (salvo_batch_pool_open(&p->pool, ARENA_BYTES, record) != 0)
        return SALVO_ERR_NOMEM;
    p->flights = calloc(p->pool.count, sizeof *p->flights);
    p->record = malloc(sizeof(salvo_record_head) + record);
    p->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    return p->flights == NULL || p->record == NULL || p->event_fd < 0 ? SALVO_ERR_NOMEM : 0;
}

static int open_handle(salvo_probe *p, uint32_t timeout_ms)
{
    char error[400] = "";
    int err = 0;
    if (p->driver->open_shared != NULL)
        err = p->driver->open_shared(p->config, &p->shared, error, sizeof error);
    p->env = (salvo_driver_env){
        .config = p->config,
        .shared = p->shared,
        .now_ns = env_now_ns,
        .clock = &p->clock,
        .log = salvo_log,
        .wake = wake,
        .flusher = p,
        .flusher_count = 1,
        .queue_bytes = p->settings.driver_bytes,
        .max_topics = p->settings.max_topics,
        .max_batches = p->settings.max_in_flight_batches,
    };
    if (err == 0)
        err = p->driver->open(&p->env, &p->handle, error, sizeof error);
    if (err == 0 && p->driver->require != NULL)
        err = p->driver->require(p->handle, timeout_ms, error, sizeof error);
    if (err != 0 && error[0] != '\0')
        salvo_error_set("%s", error);
    else if (err != 0)
        salvo_error_set("%s: %s", p->driver->name, salvo_strerror(err));
    return err;
}

static int open_topic(salvo_probe *p, const char *topic, uint64_t until_ns)
{
    salvo_topic_options none = {.size = sizeof none};
    int err = salvo_topic_driver_fill(&p->options, p->config, topic, &none);
    if (err == 0)
        err = p->driver->topic(p->handle, 0, topic, &p->options);
    while (err == 0) {
        salvo_driver_outcome outcome;
        int n = p->driver->partitions(p->handle, 0);
        salvo_driver_credit credit = {0};
        p->driver->credit(p->handle, &credit);
        p->partitions = n > 0 ? (uint32_t)n : 0;
        if (n > 0 && credit.batches != 0) {
            p->parts = calloc((uint32_t)n, sizeof *p->parts);
            return p->parts != NULL ? 0 : SALVO_ERR_NOMEM;
        }
        uint64_t now_ns = salvo_clock_monotonic_ns();
        if (n < 0 && now_ns >= until_ns) {
            err = n;
        } else if (now_ns >= until_ns) {
            err = SALVO_ERR_UNREACHABLE;
        } else { /* a topic that is not there yet may be in a moment */
            (void)p->driver->poll(p->handle, &outcome, 1);
            nap(p, now_ns + TOPIC_MS * MS);
        }
    }
    char state[96] = "";
    p->driver->state(p->handle, state, sizeof state);
    salvo_error_set("%s: topic \"%s\": %s (%s)", p->driver->name, topic, salvo_strerror(err),
                    state);
    return err;
}

int salvo_probe_open(const salvo_config *config, const char *topic, uint32_t timeout_ms,
                     salvo_probe **out)
{
    salvo_error_clear();
    if (out == NULL || config == NULL || topic == NULL)
        return SALVO_ERR_INVALID;
    *out = NULL;
    int err = salvo_topic_name_check(topic); /* drivers take what a producer would not */
    if (err != 0)
        return err;
    salvo_probe *p = calloc(1, sizeof *p);
    if (p == NULL)
        return SALVO_ERR_NOMEM;
    p->event_fd = -1;
    uint64_t until_ns = salvo_clock_monotonic_ns() + timeout_ms * MS;
    err = choose(p, config);
    if (err == 0) {
        salvo_clock_init(&p->clock, p->settings.clock);
        p->deadline_ns = p->settings.delivery_timeout_ns;
        err = open_memory(p);
    }
    if (err == 0)
        err = open_handle(p, timeout_ms);
    if (err == 0)
        err = open_topic(p, topic, until_ns);
    if (err != 0) {
        salvo_probe_close(p);
        return err;
    }
    salvo_error_clear();
    *out = p;
    return 0;
}

static void give_up(salvo_probe *p)
{
    salvo_driver_outcome outcomes[OUTCOMES];
    p->driver->purge(p->handle, PURGE_MS);
    for (int n = 1; p->out != 0 && n > 0;) {
        n = p->driver->poll(p->handle, outcomes, OUTCOMES);
        p->out -= n > 0 ? (uint32_t)n : 0;
    }
}

void salvo_probe_close(salvo_probe *p)
{
    if (p == NULL)
        return;
    if (p->handle != NULL && p->out != 0)
        give_up(p);
    if (p->handle != NULL)
        p->driver->close(p->handle);
    if (p->shared != NULL && p->driver->close_shared != NULL)
        p->driver->close_shared(p->shared);
    salvo_topic_driver_free(&p->options);
    salvo_batch_pool_close(&p->pool);
    if (p->event_fd >= 0)
        close(p->event_fd);
    salvo_config_free(p->config);
    free(p->flights);
    free(p->parts);
    free(p->record);
    free(p);
}

uint32_t salvo_probe_partitions(const salvo_probe *probe)
{
    return probe->partitions;
}

const char *salvo_probe_driver(const salvo_probe *probe)
{
    return probe->driver->name;
}

uint32_t salvo_probe_out(const salvo_probe *probe)
{
    return probe->out;
}

int salvo_probe_bursts(const salvo_probe *probe)
{
    return probe->burst.bytes != 0;
}

void salvo_probe_hurry(salvo_probe *probe)
{
    probe->driver->flush(probe->handle);
}

/* ---- Batches ---- */

static bool append(salvo_probe *p, salvo_batch *b, uint32_t value_bytes, const unsigned char *value,
                   uint32_t hint)
{
    salvo_record_head head = {.value_len = value_bytes, .key_len = SALVO_NULL_LEN,
                              .partition = b->driver.partition};
    salvo_batch_item item = {.payload = p->record, .length = (uint32_t)sizeof head + value_bytes,
                             .stamp = salvo_clock_stamp(&p->clock), .expires_ns = UINT64_MAX,
                             .head = head};
    memcpy(p->record, &head, sizeof head);
    memcpy(p->record + sizeof head, value, value_bytes);
    return salvo_batch_append(&p->pool, b, &item, hint);
}

int salvo_probe_make(salvo_probe *p, int32_t partition, uint32_t records, uint32_t value_bytes,
                     const void *block, uint32_t block_bytes, uint32_t at, uint32_t *batch)
{
    if (records == 0 || value_bytes > p->settings.max_message_bytes || value_bytes > block_bytes ||
        partition < 0 || (uint32_t)partition >= p->partitions)
        return SALVO_ERR_INVALID;
    salvo_batch *b = salvo_batch_open(&p->pool, 0, partition);
    if (b == NULL)
        return SALVO_ERR_NOMEM;
    uint64_t all = (uint64_t)records * (value_bytes + 64u);
    uint32_t hint = all < p->settings.batch_bytes ? (uint32_t)all : p->settings.batch_bytes;
    for (uint32_t i = 0; i < records; i++) {
        at = at + value_bytes <= block_bytes ? at : 0;
        if (!append(p, b, value_bytes, (const unsigned char *)block + at, hint)) {
            salvo_batch_free(&p->pool, b);
            return SALVO_ERR_NOMEM;
        }
        at += value_bytes;
    }
    b->state = SALVO_BATCH_READY;
    p->flights[b->index].batch = b;
    p->count = p->count > b->index + 1 ? p->count : b->index + 1;
    *batch = b->index;
    return 0;
}

void salvo_probe_remove_all(salvo_probe *p)
{
    for (uint32_t i = 0; i < p->count; i++) {
        salvo_batch *b = p->flights[i].batch;
        if (b != NULL && b->state != SALVO_BATCH_OUT) {
            salvo_batch_free(&p->pool, b);
            p->flights[i].batch = NULL;
        }
    }
}

int salvo_probe_submit(salvo_probe *p, uint32_t batch)
{
    salvo_driver_credit credit = {0};
    if (batch >= p->count || p->flights[batch].batch == NULL ||
        p->flights[batch].batch->state != SALVO_BATCH_READY)
        return SALVO_ERR_INVALID;
    flight *f = &p->flights[batch];
    salvo_batch *b = f->batch;
    f->begin_ns = salvo_clock_monotonic_ns();
    f->begin_cpu_ns = thread_cpu_ns();
    p->driver->credit(p->handle, &credit);
    if (credit.batches == 0 || b->driver.count > credit.messages ||
        b->driver.bytes > credit.bytes || p->out >= p->env.max_batches)
        return SALVO_ERR_TRANSIENT;
    salvo_part *part = &p->parts[b->driver.partition];
    if (!salvo_burst_fits(&p->burst, part, b, p->round))
        return SALVO_ERR_TRANSIENT;
    b->driver.deadline_ns = b->expires_ns = env_now_ns(&p->clock) + p->deadline_ns;
    b->state = SALVO_BATCH_OUT;
    int err = p->driver->submit(p->handle, &b->driver, salvo_batch_token(b));
    if (err != 0) {
        b->state = SALVO_BATCH_READY;
        return err;
    }
    f->in_flight = ++p->out;
    salvo_burst_count(&p->burst, part, b, p->round);
    part->out++;
    return 0;
}

static bool take_back(salvo_probe *p, const salvo_driver_outcome *outcome, uint64_t now_ns,
                      salvo_probe_sample *sample)
{
    salvo_batch *b = salvo_batch_of(&p->pool, outcome->token);
    if (b == NULL)
        return false;
    const flight *f = &p->flights[b->index];
    *sample = (salvo_probe_sample){.begin_ns = f->begin_ns, .end_ns = now_ns,
                                   .cpu_ns = thread_cpu_ns() - f->begin_cpu_ns,
                                   .bytes = b->driver.bytes, .batch = b->index,
                                   .records = b->driver.count, .in_flight = f->in_flight};
    for (uint32_t i = 0; i < outcome->range_count && sample->status == 0; i++)
        sample->status = outcome->ranges[i].status;
    b->state = SALVO_BATCH_READY;
    b->turn++; /* its next token is another one */
    p->out--;
    p->parts[b->driver.partition].out--;
    return true;
}

int salvo_probe_wait(salvo_probe *p, uint64_t until_ns, salvo_probe_sample *samples, uint32_t max)
{
    salvo_driver_outcome outcomes[OUTCOMES];
    p->round++;
    for (;;) {
        int n = p->driver->poll(p->handle, outcomes, max < OUTCOMES ? max : OUTCOMES), taken = 0;
        uint64_t now_ns = salvo_clock_monotonic_ns();
        for (int i = 0; i < n; i++)
            taken += take_back(p, &outcomes[i], now_ns, &samples[taken]);
        if (taken != 0 || n < 0)
            return n < 0 ? n : taken;
        if (now_ns >= until_ns)
            return 0;
        nap(p, until_ns);
    }
}
