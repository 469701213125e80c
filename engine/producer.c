/* SPDX-License-Identifier: Apache-2.0
 *
 * Opening and closing a producer, and flush. Cold paths only.
 *
 * Guarantees: a failed open leaves nothing behind but its error text; close gives every accepted
 * message an outcome before it frees anything. The handle's page and the threads' places stay
 * mapped after close (8 KiB a producer), so that a late call gets SALVO_ERR_CLOSED and a thread
 * that ends late finds something to read; so do rings in which a claim is still open, because its
 * thread may still write there.
 */
#include "producer.h"

#include "config_internal.h"
#include "error.h"
#include "flusher.h"
#include "metrics.h"
#include "plan/sizes.h"
#include "report.h"
#include "thread.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

_Thread_local bool salvo_in_callback;

int salvo_producer_check(const salvo *producer)
{
    if (producer == NULL)
        return SALVO_ERR_INVALID;
    /* Acquire: pairs with the release of SALVO_LIVE_OPEN at the end of open. */
    switch (atomic_load_explicit(&producer->live, memory_order_acquire)) {
    case SALVO_LIVE_OPEN: return 0;
    case SALVO_LIVE_FORKED: return SALVO_ERR_FORKED;
    default: return SALVO_ERR_CLOSED;
    }
}

void *salvo_producer_shared(salvo *producer)
{
    return producer->driver_shared;
}

const salvo_driver_ops *salvo_producer_driver(salvo *producer)
{
    return producer->driver;
}

const salvo_config *salvo_producer_config(salvo *producer)
{
    return producer->config;
}

static size_t whole_pages(size_t bytes)
{
    return (bytes + 4095u) & ~(size_t)4095u;
}

/* Memory that a forked child finds zeroed, and that is kept when the producer closes. */
static void *wiped_open(size_t bytes)
{
    bytes = whole_pages(bytes);
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    if (madvise(p, bytes, MADV_WIPEONFORK) != 0) {
        munmap(p, bytes);
        return NULL;
    }
    return p;
}

/* Only for an open that failed: nobody has seen the handle. */
static void wiped_close(void *p, size_t bytes)
{
    if (p != NULL)
        munmap(p, whole_pages(bytes));
}

static int open_rings(salvo *p, bool sizes_only)
{
    salvo_ring_options options = salvo_settings_ring(&p->settings);
    uint32_t count = p->settings.flushers * p->settings.rings;
    p->rings = calloc(count, sizeof *p->rings);
    if (p->rings == NULL)
        return SALVO_ERR_NOMEM;
    for (uint32_t i = 0; i < count; i++) {
        if (sizes_only) {
            p->rings[i] = salvo_sizes_view(&options);
            continue;
        }
        int err = salvo_ring_open(&p->rings[i], &options);
        if (err != 0) {
            salvo_error_set("ring of %u bytes: %s; lower buffer_bytes or ring_bytes, or raise the "
                            "memory limit", options.bytes, strerror(-err));
            return SALVO_ERR_NOMEM;
        }
    }
    return 0;
}

static int open_tables(salvo *p, const salvo_options *o, bool sizes_only)
{
    const salvo_settings *s = &p->settings;
    salvo_error_set("no memory for a producer's tables");
    int err = salvo_segment_open(&p->segment, p, !p->stepped &&
                                 salvo_config_bool(p->config, "stats_shared"));
    if (err != 0)
        return err;
    err = salvo_topics_open(&p->topics, s->max_topics);
    if (err != 0)
        return err;
    p->threads = calloc(s->max_threads, sizeof(salvo_thread *));
    p->places = wiped_open(s->max_threads * sizeof *p->places);
    p->ring_users = calloc(s->rings, sizeof *p->ring_users);
    p->reports = salvo_reports_new(s->max_reports, s->flushers, o->on_report, o->report_context);
    size_t bytes = s->flushers * sizeof(salvo_flusher);
    p->flushers = aligned_alloc(64, (bytes + 63u) & ~(size_t)63u);
    if (p->flushers != NULL)
        memset(p->flushers, 0, bytes);
    if (p->threads == NULL || p->places == NULL || p->ring_users == NULL || p->reports == NULL ||
        p->flushers == NULL)
        return SALVO_ERR_NOMEM;
    return open_rings(p, sizes_only);
}

static int open_flushers(salvo *p, const salvo_options *o, bool sizes_only)
{
    char error[400] = "";
    int err = 0;
    if (p->driver->open_shared != NULL)
        err = p->driver->open_shared(p->config, &p->driver_shared, error, sizeof error);
    for (uint32_t i = 0; err == 0 && i < p->settings.flushers; i++)
        err = salvo_flusher_open(&p->flushers[i], p, i, sizes_only, error, sizeof error);
    if (err == 0 && o->require_broker != 0 && p->driver->require != NULL)
        err = p->driver->require(p->flushers[0].handle,
                                 o->open_timeout_ms != 0 ? o->open_timeout_ms : 10000, error,
                                 sizeof error);
    if (err != 0 && error[0] != '\0') /* a driver's texts name it */
        salvo_error_set("%s", error);
    else if (err != 0)
        salvo_error_set("%s: %s", p->driver->name, salvo_strerror(err));
    return err;
}

/* Undo whatever was done; also the end of close. Flusher threads have ended. */
static void release(salvo *p, bool stuck)
{
    salvo_metrics_stop(p->metrics); /* before what it reads */
    p->metrics = NULL;
    for (uint32_t i = 0; p->flushers != NULL && i < p->settings.flushers; i++)
        salvo_flusher_close(&p->flushers[i]);
    if (p->driver_shared != NULL && p->driver->close_shared != NULL)
        p->driver->close_shared(p->driver_shared);
    uint32_t rings = p->settings.flushers * p->settings.rings;
    for (uint32_t i = 0; p->rings != NULL && i < rings; i++)
        if (p->rings[i].segment != NULL && !stuck)
            salvo_ring_close(&p->rings[i]);
    uint32_t threads = atomic_load_explicit(&p->thread_count, memory_order_acquire);
    for (uint32_t i = 0; p->threads != NULL && i < threads; i++)
        free(p->threads[i]);
    salvo_topics_close(&p->topics);
    salvo_reports_free(p->reports);
    salvo_taping_close(p); /* before the path that its name is made of */
    salvo_segment_close(&p->segment);
    free(p->flushers);
    free(p->rings);
    free(p->threads);
    free(p->ring_users);
    salvo_config_free(p->config);
    p->flushers = NULL;
    p->rings = NULL;
    p->threads = NULL;
    p->reports = NULL;
    p->config = NULL;
}

static int configure(salvo *p, const salvo_config *config, const salvo_producer_hooks *hooks)
{
    salvo_config *c = NULL;
    int err = config != NULL ? salvo_config_clone(config, &c) : salvo_config_new(&c);
    const char *why = NULL;
    if (err != 0) {
        salvo_error_set("no memory for a copy of the configuration");
        return err;
    }
    p->config = c;
    if (config == NULL) {
        err = salvo_config_load_file(c, NULL);
        if (err == 0)
            err = salvo_config_load_env(c);
    }
    if (err == 0)
        err = salvo_config_validate(c);
    if (err != 0) {
        salvo_error_set("%s", salvo_config_error(c));
        return err;
    }
    const char *broker = salvo_config_broker(c, &why);
    p->driver = broker != NULL ? salvo_driver_find(broker) : NULL;
    if (p->driver == NULL) {
        salvo_error_set(broker != NULL ? "message_broker \"%s\" is not in this build"
                                       : "message_broker: %s", broker != NULL ? broker : why);
        return SALVO_ERR_CONFIG;
    }
    err = salvo_settings_read(c, p->driver, hooks->cores != 0 ? hooks->cores : salvo_usable_cores(),
                              &p->settings);
    if (hooks->driver != NULL) {
        p->driver = hooks->driver;
        p->driver_shared = hooks->driver_shared;
    }
    p->capabilities = p->driver->capabilities(c);
    if (p->driver->burst != NULL)
        p->driver->burst(c, &p->burst);
    return err;
}

/* Where the key asks for it; a port that is taken fails the open. */
static int open_metrics(salvo *p)
{
    const char *listen = salvo_config_get(p->config, "metrics_listen");
    if (p->stepped || listen == NULL || listen[0] == '\0')
        return 0;
    int err = salvo_metrics_serve_one(listen, p, NULL, &p->metrics);
    if (err == 0)
        salvo_log(SALVO_LOG_INFO, "metrics at http://%s/metrics",
                  salvo_metrics_address(p->metrics));
    return err;
}

static int open_all(salvo *p, const salvo_config *config, const salvo_options *o,
                    const salvo_producer_hooks *hooks)
{
    int err = configure(p, config, hooks);
    if (err != 0)
        return err;
    if (hooks->clock != NULL) {
        p->clock.fake = hooks->clock;
        p->clock.context = hooks->clock_context;
        p->settings.clock = SALVO_CLOCK_FAKE;
    }
    salvo_clock_init(&p->clock, p->settings.clock);
    p->stepped = hooks->stepped;
    p->memory_bytes = salvo_settings_memory(&p->settings) + p->driver->overhead_bytes(p->config);
    err = open_tables(p, o, hooks->sizes_only);
    if (err == 0)
        err = open_flushers(p, o, hooks->sizes_only);
    if (err == 0)
        err = open_metrics(p);
    if (err != 0)
        return err;
    if (pthread_key_create(&p->thread_key, salvo_thread_leave) != 0) {
        salvo_error_set("no thread-specific key left: too many open producers");
        return SALVO_ERR_LIMIT;
    }
    pthread_mutex_init(&p->lock, NULL);
    for (uint32_t i = 0; err == 0 && !p->stepped && i < p->settings.flushers; i++)
        err = salvo_flusher_start(&p->flushers[i]);
    if (err != 0) {
        for (uint32_t i = 0; i < p->settings.flushers; i++)
            salvo_flusher_join(&p->flushers[i]);
        pthread_key_delete(p->thread_key);
        salvo_error_set("a flusher's thread could not be started");
    }
    return err;
}

int salvo_producer_open(const salvo_config *config, const salvo_options *options,
                        const salvo_producer_hooks *hooks, salvo **out)
{
    salvo_options o = {0};
    salvo_error_clear();
    if (out == NULL)
        return SALVO_ERR_INVALID;
    *out = NULL;
    if (options != NULL)
        memcpy(&o, options, options->size < sizeof o ? options->size : sizeof o);
    salvo *p = wiped_open(sizeof *p);
    if (p == NULL) {
        salvo_error_set("no memory for a producer (MADV_WIPEONFORK needs Linux 4.14)");
        return SALVO_ERR_NOMEM;
    }
    static const salvo_producer_hooks none = {0};
    int err = open_all(p, config, &o, hooks != NULL ? hooks : &none);
    if (err != 0) {
        release(p, false);
        wiped_close(p->places, p->settings.max_threads * sizeof *p->places);
        wiped_close(p, sizeof *p);
        return err;
    }
    salvo_error_clear();
    /* Release: pairs with salvo_producer_check(). */
    atomic_store_explicit(&p->live, SALVO_LIVE_OPEN, memory_order_release);
    *out = p;
    return 0;
}

int salvo_open(const salvo_config *config, const salvo_options *options, salvo **out)
{
    return salvo_producer_open(config, options, NULL, out);
}

static uint64_t deadline_of(uint64_t timeout_ms)
{
    uint64_t now_ns = salvo_clock_monotonic_ns();
    return timeout_ms > (UINT64_MAX - now_ns) / 1000000u ? UINT64_MAX
                                                         : now_ns + timeout_ms * 1000000u;
}

/* Ask all flushers for a round and wait for each. */
static int flush_until(salvo *p, uint64_t deadline_ns)
{
    uint32_t wanted[64];
    for (uint32_t i = 0; i < p->settings.flushers; i++) {
        salvo_flusher *f = &p->flushers[i];
        /* Release: pairs with the acquire in the flusher's begin_round(). */
        wanted[i] = atomic_fetch_add_explicit(&f->flush_wanted, 1, memory_order_release) + 1;
        salvo_flusher_kick(f);
    }
    for (uint32_t i = 0; i < p->settings.flushers; i++)
        for (;;) {
            uint32_t seen = salvo_event_read(&p->settled);
            uint32_t done = atomic_load_explicit(&p->flushers[i].flush_done,
                                                 memory_order_acquire);
            if ((int32_t)(done - wanted[i]) >= 0)
                break;
            if (!salvo_event_wait(&p->settled, seen, deadline_ns))
                return SALVO_ERR_TIMEOUT;
        }
    return 0;
}

int salvo_flush(salvo *producer, uint64_t timeout_ms)
{
    int err = salvo_producer_check(producer);
    if (err != 0)
        return err;
    if (salvo_in_callback)
        return SALVO_ERR_REENTRANT;
    return flush_until(producer, deadline_of(timeout_ms));
}

int salvo_unblock(salvo *producer)
{
    int err = salvo_producer_check(producer);
    if (err == 0) /* nothing comes with it: relaxed */
        atomic_store_explicit(&producer->unblocked, true, memory_order_relaxed);
    return err;
}

static void fill_close_report(salvo *p, salvo_close_report *report)
{
    memset(report, 0, sizeof *report);
    (void)salvo_ledger_read(p, SALVO_ALL_TOPICS, &report->ledger);
    report->undelivered =
        report->ledger.failed + report->ledger.expired + report->ledger.dropped;
    for (uint32_t i = 0; i < p->settings.flushers; i++)
        report->stuck_claims += p->flushers[i].stuck_claims;
}

int salvo_close(salvo *producer, uint64_t timeout_ms, salvo_close_report *report)
{
    salvo_close_report mine;
    int err = salvo_producer_check(producer);
    if (err != 0)
        return err;
    if (salvo_in_callback)
        return SALVO_ERR_REENTRANT;
    uint32_t open = SALVO_LIVE_OPEN;
    if (!atomic_compare_exchange_strong(&producer->live, &open, SALVO_LIVE_CLOSING))
        return SALVO_ERR_CLOSED; /* another thread closes */
    if (!producer->stepped)
        (void)flush_until(producer, deadline_of(timeout_ms));
    for (uint32_t i = 0; i < producer->settings.flushers; i++)
        salvo_flusher_join(&producer->flushers[i]);
    fill_close_report(producer, &mine);
    if (report != NULL)
        *report = mine;
    pthread_key_delete(producer->thread_key);
    pthread_mutex_lock(&producer->lock); /* a thread that ends now has left, or will see CLOSED */
    atomic_store(&producer->live, SALVO_LIVE_CLOSED);
    pthread_mutex_unlock(&producer->lock);
    salvo_thread_forget(producer);
    release(producer, mine.stuck_claims != 0);
    return mine.undelivered == 0 ? 0 : SALVO_ERR_DROPPED;
}
