/* SPDX-License-Identifier: Apache-2.0
 *
 * How an application thread waits: concurrencykit's event count on futexes. Read the count, look
 * at the condition, then wait for the count to move: a change in between is never slept through.
 */
#ifndef SALVO_WAIT_H
#define SALVO_WAIT_H

#include <stdbool.h>
#include <stdint.h>

typedef struct salvo_event { /* a ck_ec32; kept opaque so that few files see ck's headers */
    uint32_t counter;
} salvo_event;

uint32_t salvo_event_read(const salvo_event *event);

/* Wait until the count differs from `seen` or deadline_ns (CLOCK_MONOTONIC) passed: false then. */
bool salvo_event_wait(salvo_event *event, uint32_t seen, uint64_t deadline_ns);

/* Move the count and wake all who wait. Any thread; a system call only if somebody waits. */
void salvo_event_signal(salvo_event *event);

#endif
