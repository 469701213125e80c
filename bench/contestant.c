/* SPDX-License-Identifier: Apache-2.0
 *
 * Opening, flushing and closing of the contestants; see contestant.h for the guarantees.
 */
#include "contestant.h"
#include "harness.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define FLUSH_MS 120000

const char *const contestant_names[CONTESTANTS + 1] = {"salvo", "rd_kafka_produce", "by hand",
                                                       "copy alone"};
_Thread_local char *contestant_copy;

static void config_set(salvo_config *config, const char *key, const char *value)
{
    if (salvo_config_set(config, key, value))
        bench_die("%s", salvo_config_error(config));
}

/* Takes "key=value,key=value". */
static void config_set_all(salvo_config *config, const char *set)
{
    char *copy = strdup(set), *rest = copy, *pair;
    while ((pair = strsep(&rest, ","))) {
        char *value = strchr(pair, '=');
        if (!value)
            bench_die("--set '%s': key=value,key=value is allowed", set);
        *value++ = '\0';
        config_set(config, pair, value);
    }
    free(copy);
}

salvo *bench_salvo_open(const char *driver, const char *address, double linger_ms,
                        const char *set)
{
    char linger_us[32];
    salvo_config *config;
    salvo *producer;
    if (salvo_config_new(&config))
        bench_die("no memory for a configuration");
    config_set(config, "message_broker", driver);
    if (address)
        config_set(config, "kafka_bootstrap_servers", address);
    snprintf(linger_us, sizeof linger_us, "%.0f", linger_ms * 1000);
    config_set(config, "linger_us", linger_us);
    if (set)
        config_set_all(config, set);
    salvo_options options = {.size = sizeof options, .require_broker = 1};
    if (salvo_open(config, &options, &producer))
        bench_die("salvo_open: %s", salvo_last_error());
    salvo_config_free(config);
    return producer;
}

void contestant_open(contestant *c, contestant_kind kind, const contestant_options *options)
{
    c->kind = kind;
    if (kind == COPY)
        return;
    if (kind == SALVO) {
        c->producer = bench_salvo_open("kafka", options->address, options->linger_ms,
                                       options->set);
        if (salvo_topic_open(c->producer, options->topic, NULL, &c->topic))
            bench_die("salvo_topic_open: %s", salvo_last_error());
        return;
    }
    peer_options how = {.linger_ms = options->linger_ms, .only_errors = kind == BY_HAND,
                        .queue_messages = options->queue_messages};
    peer_open(&c->peer, options->address, options->topic, &how);
}

void contestant_attach(contestant *c)
{
    if (c->kind == COPY && !contestant_copy) {
        contestant_copy = aligned_alloc(2 << 20, COPY_BYTES); /* the process's, to its end */
        if (!contestant_copy)
            bench_die("no memory");
        (void)madvise(contestant_copy, COPY_BYTES, MADV_HUGEPAGE);
        memset(contestant_copy, 1, COPY_BYTES);
    }
    if (c->kind == SALVO && salvo_thread_attach(c->producer))
        bench_die("salvo_thread_attach: %s", salvo_last_error());
}

void contestant_flush(contestant *c)
{
    if (c->kind == COPY)
        return;
    int err = c->kind == SALVO ? salvo_flush(c->producer, FLUSH_MS)
                               : peer_flush(&c->peer, FLUSH_MS);
    if (err)
        bench_die("%s: not everything was acknowledged in %d s", contestant_names[c->kind],
                  FLUSH_MS / 1000);
}

static uint64_t close_salvo(contestant *c)
{
    salvo_close_report report;
    int err = salvo_close(c->producer, FLUSH_MS, &report);
    if (err)
        bench_die("salvo_close: %s, %" PRIu64 " messages undelivered", salvo_strerror(err),
                  report.undelivered);
    return report.ledger.acknowledged;
}

void contestant_close(contestant *c, uint64_t expected)
{
    if (c->kind == COPY) {
        c->acknowledged = expected;
    } else if (c->kind == SALVO) {
        c->acknowledged = close_salvo(c);
    } else {
        contestant_flush(c);
        peer_close(&c->peer);
        uint64_t failed = atomic_load(&c->peer.failed);
        c->acknowledged = c->kind == BY_HAND ? expected - failed
                                             : atomic_load(&c->peer.acknowledged);
    }
    if (c->acknowledged != expected)
        bench_die("%s: %" PRIu64 " messages were accepted, %" PRIu64 " acknowledged",
                  contestant_names[c->kind], expected, c->acknowledged);
}
