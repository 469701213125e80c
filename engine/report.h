/* SPDX-License-Identifier: Apache-2.0
 *
 * Delivery reports on their way from flushers to whoever polls, or to the callback.
 *
 * Guarantees: a slot is reserved before a message is accepted, so a report is never lost for lack
 * of room and memory is bounded by max_reports; a flusher never waits for a poller. One ring per
 * flusher (single producer); pollers exclude each other with a lock that no flusher takes.
 */
#ifndef SALVO_REPORT_H
#define SALVO_REPORT_H

#include <salvo/salvo.h>
#include <stdbool.h>

typedef struct salvo_reports salvo_reports;

salvo_reports *salvo_reports_new(uint32_t max_reports, uint32_t flushers,
                                 salvo_report_fn *callback, void *context);
void salvo_reports_free(salvo_reports *reports);
uint64_t salvo_reports_bytes(uint32_t max_reports, uint32_t flushers);

/* A sender: one atomic add on a shared line (some 5 to 20 ns), only for messages that want a
 * report. False: max_reports are out. */
bool salvo_reports_reserve(salvo_reports *reports);
void salvo_reports_unreserve(salvo_reports *reports);

/* Flusher `flusher`: hand one report over; publish after a round makes them visible. */
void salvo_reports_push(salvo_reports *reports, uint32_t flusher, const salvo_report *report);
void salvo_reports_publish(salvo_reports *reports, uint32_t flusher);

int salvo_reports_poll(salvo_reports *reports, salvo_report *out, size_t max);
int salvo_reports_fd(const salvo_reports *reports);
uint64_t salvo_reports_waiting(const salvo_reports *reports);

#endif
