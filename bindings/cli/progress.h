/* SPDX-License-Identifier: Apache-2.0
 *
 * The live line of a producer on a terminal: rate, pending, p99, and the broker when it is away.
 */
#ifndef SALVO_CLI_PROGRESS_H
#define SALVO_CLI_PROGRESS_H

#include <salvo/salvo.h>
#include <stdbool.h>

typedef struct salvo_progress {
    bool live;          /* standard error is a terminal and nobody asked for quiet */
    bool quiet;
    bool told;          /* that the broker is away; once per outage */
    uint64_t last_ns, last_acknowledged, down_since_ns;
    double rate; /* smoothed, a second */
} salvo_progress;

void salvo_progress_init(salvo_progress *progress, bool quiet);
/* Look, and draw where a line is wanted; to be called some five times a second. */
void salvo_progress_step(salvo_progress *progress, salvo *producer);
void salvo_progress_end(salvo_progress *progress);

#endif
