/* SPDX-License-Identifier: Apache-2.0
 *
 * What requests tell that were in flight one by one, each sent when the last was back: how a
 * broker's speed changes from slice to slice (its pace), how requests of one slice differ (its
 * residuals), and where it rested (its pauses). No I/O and no time.
 */
#ifndef SALVO_CLI_PROBE_NOISE_H
#define SALVO_CLI_PROBE_NOISE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { NOISE_SLICE_NS = 50000000, NOISE_TABLE = 1001 };

typedef struct salvo_noise_request {
    int64_t took_ns, ended_ns; /* ended: since the flow began */
} salvo_noise_request;

typedef struct salvo_noise {
    uint32_t *pace_permille; /* the middle request of each slice, of that of its flow; in turn */
    int64_t *residual_ns;    /* NOISE_TABLE quantiles of each flow, one behind the other */
    int64_t *pauses_ns;      /* by how much a request was late that met one */
    size_t pace_count, residual_count, pause_count;
} salvo_noise;

/* One flow's requests in the order of their ends, which are sorted by what they took. Slices of
 * too few requests keep the flow's pace. How many met a pause: 3 ms and three times as late as
 * their like. Pauses only, where pauses_only. */
size_t salvo_noise_add(salvo_noise *n, salvo_noise_request *requests, size_t count,
                       bool pauses_only);

/* Requests at a slow pace, in the order of their ends: how many pauses they met, where those that
 * are late one after the other met one. */
size_t salvo_noise_watch(salvo_noise *n, const int64_t *took_ns, size_t count);

/* All flows' residuals as one table of NOISE_TABLE; 0: there was no flow. */
size_t salvo_noise_residuals(salvo_noise *n, int64_t *table);
void salvo_noise_free(salvo_noise *n);

#endif
