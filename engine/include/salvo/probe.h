/* SPDX-License-Identifier: Apache-2.0
 *
 * A driver without the engine around it, for measuring brokers: batches made by hand go to
 * submit(), and what became of them is timed, on the calling thread, with the settings, the
 * partitions and the way of waiting that a producer's flusher has. One thread per probe.
 */
#ifndef SALVO_PROBE_H
#define SALVO_PROBE_H

#include <salvo/config.h>
#include <stdint.h>
#include <salvo/err.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct salvo_probe salvo_probe;

typedef struct salvo_probe_sample { /* of one batch that came back */
    uint64_t begin_ns; /* submit() was called, on CLOCK_MONOTONIC */
    uint64_t end_ns;   /* its outcome was there */
    uint64_t cpu_ns;   /* of the calling thread between the two */
    uint64_t bytes;
    uint32_t batch;    /* as submitted */
    uint32_t records;
    uint32_t in_flight; /* when it was submitted, itself included */
    int32_t status;    /* 0, or of its first message that failed */
} salvo_probe_sample;

/* Open the driver that the configuration names and make the topic known to it. Blocks up to
 * timeout_ms, until a broker answered and the topic's partitions are known. The configuration is
 * copied. On failure *out is NULL and salvo_last_error() tells more. */
SALVO_API SALVO_MUST_USE int salvo_probe_open(const salvo_config *config, const char *topic,
                                              uint32_t timeout_ms, salvo_probe **out);
/* Gives up what is still out, for which it may block some seconds. */
SALVO_API void salvo_probe_close(salvo_probe *probe);

SALVO_API uint32_t salvo_probe_partitions(const salvo_probe *probe);
SALVO_API const char *salvo_probe_driver(const salvo_probe *probe); /* its name */

/* Make a batch that can be submitted again and again, one time at once: so many records, whose
 * values are cut from block one after the other, from `at` on and from the start again. NOMEM: no
 * room for it; remove others. */
SALVO_API SALVO_MUST_USE int salvo_probe_make(salvo_probe *probe, int32_t partition,
                                              uint32_t records, uint32_t value_bytes,
                                              const void *block, uint32_t block_bytes,
                                              uint32_t at, uint32_t *batch);
SALVO_API void salvo_probe_remove_all(salvo_probe *probe); /* none may be out */

/* 0, or TRANSIENT when the driver takes no more now, or its error. Where a producer gives the
 * driver one request's worth of a partition at a time (salvo_probe_bursts), so does this: what does
 * not fit is TRANSIENT until all of it is back. A burst ends with the next salvo_probe_wait(). */
SALVO_API SALVO_MUST_USE int salvo_probe_submit(salvo_probe *probe, uint32_t batch);

/* Outcomes that are there now, or until until_ns: how many (0 to max), or an error. */
SALVO_API int salvo_probe_wait(salvo_probe *probe, uint64_t until_ns, salvo_probe_sample *samples,
                               uint32_t max);
SALVO_API uint32_t salvo_probe_out(const salvo_probe *probe); /* batches in flight */

SALVO_API int salvo_probe_bursts(const salvo_probe *probe); /* 0 or 1 */
/* The burst is complete: the driver's library need not wait for more. */
SALVO_API void salvo_probe_hurry(salvo_probe *probe);

/* How late a thread like a flusher's wakes from a sleep of nap_ns. */
SALVO_API uint64_t salvo_probe_overshoot(uint64_t nap_ns);

typedef struct salvo_probe_engine { /* CPU time of the engine over `null` */
    uint64_t send_ns;  /* all sends together */
    uint64_t empty_ns; /* a round of the flusher without work, its look at the descriptors too */
    uint64_t work_ns;  /* rounds until all is settled */
    uint64_t rounds, batches, records;
} salvo_probe_engine;

/* Send `records` values and step the flusher by hand until they are settled. */
SALVO_API SALVO_MUST_USE int salvo_probe_measure_engine(const salvo_config *config,
                                                        uint32_t records, uint32_t value_bytes,
                                                        salvo_probe_engine *out);

#ifdef __cplusplus
}
#endif
#endif
