/* SPDX-License-Identifier: Apache-2.0
 *
 * Results as JSON (docs/formats.md): histograms with messages that never arrived, reading and
 * writing, the machine, and whether a result may be believed.
 */
#ifndef SALVO_LOAD_RESULT_H
#define SALVO_LOAD_RESULT_H

#include <jansson.h>
#include <salvo/histogram.h>
#include <stdbool.h>

#define SALVO_INFINITE UINT64_MAX

/* The percentile over the recorded values and `infinite` larger ones: SALVO_INFINITE where it
 * falls among these, 0 where there is nothing. */
uint64_t salvo_result_at(const salvo_histogram *h, uint64_t infinite, double percentile);

/* The object H; NULL: no memory. */
json_t *salvo_result_histogram(const salvo_histogram *h, uint64_t infinite);

/* The histogram of an H and its infinite ones; NULL: it has none or a damaged one. */
salvo_histogram *salvo_result_decode(const json_t *object, uint64_t *infinite);

/* A percentile of an H by its name ("p99"), or any other from its histogram ("p99.5"). False:
 * nothing was measured. */
bool salvo_result_percentile(const json_t *object, const char *name, uint64_t *out);

/* Read a result: size, format, version and the columns' histograms are checked. */
json_t *salvo_result_read(const char *path, char *error, size_t error_size);
bool salvo_result_write(const json_t *result, const char *path, char *error, size_t error_size);

json_t *salvo_result_machine(const char *clock);

/* Compare the generator's lateness with the columns: its p99 above a tenth of a column's p99 (or,
 * where that is infinite, of its p90 or p50) makes that column "invalid", and for `acknowledged`
 * (else `accepted`) the whole result. A result that is invalid already stays so. */
void salvo_result_judge(json_t *result);

/* Name of the column that a result is about: acknowledged, else accepted. */
const char *salvo_result_main_column(const json_t *result);

#endif
