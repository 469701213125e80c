/* SPDX-License-Identifier: Apache-2.0
 *
 * The configuration as the engine uses it: read once at open, sizes settled, memory computed.
 *
 * buffer_bytes = rings + arena + the driver's queues. The rings get at most a quarter of it and
 * are as many as usable cores, fewer where that would make them too small; a driver with a queue
 * of its own gets a quarter; the arena has the rest.
 */
#include "producer.h"

#include "config_internal.h"
#include "error.h"
#include "flusher.h"
#include "report.h"
#include "thread.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>

enum {
    RING_BYTES_DEFAULT = 4 << 20,
    RING_BYTES_MIN = 64 << 10,
    BYTES_PER_DESCRIPTOR = 128, /* a record of 100 B fills both arrays alike */
    RECORD_SPARE = 1024         /* head, extra and headers beside max_message_bytes */
};

static uint32_t cgroup_cores(void)
{
    char quota[32];
    long long period = 0;
    uint32_t cores = UINT32_MAX;
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "re");
    if (f == NULL)
        return cores;
    if (fscanf(f, "%31s %lld", quota, &period) == 2 && period > 0 && quota[0] != 'm') {
        long long us = 0;
        if (sscanf(quota, "%lld", &us) == 1 && us > 0)
            cores = (uint32_t)((us + period - 1) / period);
    }
    fclose(f);
    return cores;
}

uint32_t salvo_usable_cores(void)
{
    cpu_set_t set;
    uint32_t cores = 1, quota = cgroup_cores();
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        cores = (uint32_t)CPU_COUNT(&set);
    if (quota < cores)
        cores = quota;
    return cores == 0 ? 1 : cores;
}

static uint64_t at_most_power(uint64_t n)
{
    uint64_t p = 1;
    while (p * 2 <= n)
        p *= 2;
    return p;
}

static int size_rings(salvo_settings *s, uint32_t cores)
{
    uint64_t quarter = s->buffer_bytes / 4 / s->flushers;
    uint64_t need = 4u * ((uint64_t)s->max_message_bytes + RECORD_SPARE), least = RING_BYTES_MIN;
    while (least < need)
        least *= 2;
    s->rings = cores;
    if (s->ring_bytes == 0) {
        s->ring_bytes = (uint32_t)(least > RING_BYTES_DEFAULT ? least : RING_BYTES_DEFAULT);
        while (s->ring_bytes > least && (uint64_t)s->ring_bytes * s->rings > quarter)
            s->ring_bytes /= 2;
        if (s->rings > quarter / s->ring_bytes)
            s->rings = (uint32_t)(quarter / s->ring_bytes);
        if (s->rings == 0)
            s->rings = 1;
    } else if (s->ring_bytes < least) {
        salvo_error_set("ring_bytes = %u is too small for max_message_bytes = %u: at least %llu, "
                        "or 0 to let the engine choose", s->ring_bytes, s->max_message_bytes,
                        (unsigned long long)least);
        return SALVO_ERR_CONFIG;
    }
    if (s->ring_descriptors == 0)
        s->ring_descriptors = s->ring_bytes / BYTES_PER_DESCRIPTOR;
    s->ring_descriptors = (uint32_t)at_most_power(s->ring_descriptors);
    return 0;
}

salvo_ring_options salvo_settings_ring(const salvo_settings *s)
{
    /* Only an unmirrored ring can lie in huge pages; below one it gains nothing (ring.h). */
    return (salvo_ring_options){
        .bytes = s->ring_bytes,
        .descriptors = s->ring_descriptors,
        .flags = s->ring_bytes >= SALVO_RING_HUGE_BYTES ? SALVO_RING_UNMIRRORED : 0};
}

static uint64_t rings_bytes(const salvo_settings *s)
{
    salvo_ring_options ring = salvo_settings_ring(s);
    return (uint64_t)s->flushers * s->rings * salvo_ring_footprint(&ring);
}

static int size_arena(salvo_settings *s, bool has_queue)
{
    uint64_t rings = rings_bytes(s);
    uint64_t least = s->flushers * (2u * (uint64_t)SALVO_ARENA_RESERVE +
                                    2u * (uint64_t)s->max_message_bytes);
    s->driver_bytes = has_queue ? s->buffer_bytes / 4 : 0;
    uint64_t taken = rings + s->driver_bytes;
    s->arena_bytes = s->buffer_bytes > taken ? s->buffer_bytes - taken : 0;
    if (s->arena_bytes >= least)
        return 0;
    salvo_error_set("buffer_bytes = %llu is too small: %u flusher(s) with %u ring(s) of %u bytes "
                    "and max_message_bytes = %u need at least %llu",
                    (unsigned long long)s->buffer_bytes, s->flushers, s->rings, s->ring_bytes,
                    s->max_message_bytes,
                    (unsigned long long)((rings + least) * (has_queue ? 4 : 3) / 3));
    return SALVO_ERR_CONFIG;
}

static uint64_t ns_of(const salvo_config *c, const char *key, uint64_t unit_ns)
{
    return (uint64_t)salvo_config_int(c, key) * unit_ns;
}

static void read_words(const salvo_config *c, salvo_settings *s)
{
    s->full_policy = salvo_config_is(c, "full_policy", "fail")          ? SALVO_POLICY_FAIL
                     : salvo_config_is(c, "full_policy", "drop_newest") ? SALVO_POLICY_DROP_NEWEST
                                                                        : SALVO_POLICY_BLOCK;
    s->idle = salvo_config_is(c, "idle_strategy", "busy")   ? SALVO_IDLE_BUSY
              : salvo_config_is(c, "idle_strategy", "park") ? SALVO_IDLE_PARK
                                                            : SALVO_IDLE_ADAPTIVE;
    s->wake_idle = salvo_config_is(c, "wake", "idle");
    s->clock = salvo_config_is(c, "clock", "monotonic") ? SALVO_CLOCK_MONOTONIC : SALVO_CLOCK_TSC;
}

int salvo_settings_read(const salvo_config *c, const salvo_driver_ops *driver, uint32_t cores,
                        salvo_settings *s)
{
    memset(s, 0, sizeof *s);
    s->buffer_bytes = (uint64_t)salvo_config_int(c, "buffer_bytes");
    s->ring_bytes = (uint32_t)salvo_config_int(c, "ring_bytes");
    s->ring_descriptors = (uint32_t)salvo_config_int(c, "ring_descriptors");
    s->flushers = (uint32_t)salvo_config_int(c, "flushers");
    s->max_message_bytes = (uint32_t)salvo_config_int(c, "max_message_bytes");
    s->max_topics = (uint32_t)salvo_config_int(c, "max_topics");
    s->max_threads = (uint32_t)salvo_config_int(c, "max_threads");
    s->max_reports = (uint32_t)salvo_config_int(c, "max_reports");
    s->max_in_flight_batches = (uint32_t)salvo_config_int(c, "max_in_flight_batches");
    s->batch_bytes = (uint32_t)salvo_config_int(c, "batch_bytes");
    s->batch_messages = (uint32_t)salvo_config_int(c, "batch_messages");
    s->linger_ns = ns_of(c, "linger_us", 1000);
    s->delivery_timeout_ns = ns_of(c, "delivery_timeout_ms", 1000000);
    s->retry_backoff_ns = ns_of(c, "retry_backoff_ms", 1000000);
    s->retry_backoff_max_ns = ns_of(c, "retry_backoff_max_ms", 1000000);
    s->claim_stall_ns = ns_of(c, "claim_stall_ms", 1000000);
    s->park_max_ns = ns_of(c, "park_max_us", 1000);
    s->block_ms = (uint32_t)salvo_config_int(c, "send_timeout_ms");
    s->enqueue_sample = (uint32_t)salvo_config_int(c, "enqueue_sample");
    read_words(c, s);
    int err = size_rings(s, cores);
    bool has_queue = (driver->capabilities(c) & SALVO_CAP_OWN_RETRIES) != 0;
    return err != 0 ? err : size_arena(s, has_queue);
}

uint64_t salvo_settings_memory(const salvo_settings *s)
{
    return sizeof(salvo) + rings_bytes(s) + s->driver_bytes + s->flushers * salvo_flusher_bytes(s) +
           salvo_segment_bytes(s->flushers, s->max_topics) +
           salvo_reports_bytes(s->max_reports, s->flushers) +
           (uint64_t)s->max_topics * sizeof(salvo_topic_entry) +
           (uint64_t)s->max_threads * salvo_thread_bytes(s);
}
