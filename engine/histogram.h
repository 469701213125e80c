/* SPDX-License-Identifier: Apache-2.0
 *
 * Log-linear latency histograms, HdrHistogram's bucket layout (3 significant digits are kept with
 * sub_bucket_bits 11). One writer each; readers merge. A reader sees each count either before or
 * after an increment, never torn; a merge is not a point in time.
 */
#ifndef SALVO_HISTOGRAM_H
#define SALVO_HISTOGRAM_H

#include <salvo/stats.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>

typedef struct salvo_histogram salvo_histogram;

/* Values 1 ns .. 1 h (larger ones are counted as 1 h; 0 as 0). Bytes needed for one: */
size_t salvo_histogram_bytes(void);
salvo_histogram *salvo_histogram_new(void); /* NULL: no memory */
void salvo_histogram_free(salvo_histogram *h);
/* The writer. No allocation, no atomic read-modify-write. */
void salvo_histogram_record(salvo_histogram *h, uint64_t ns);
void salvo_histogram_record_n(salvo_histogram *h, uint64_t ns, uint64_t n);
/* Readers. */
void salvo_histogram_add(salvo_histogram *into, const salvo_histogram *from);
void salvo_histogram_summary(const salvo_histogram *h, salvo_latency *out);
uint64_t salvo_histogram_at(const salvo_histogram *h, double percentile); /* 0..100 */
int salvo_histogram_write_percentiles(const salvo_histogram *h, FILE *stream, double unit_ns);
#endif
