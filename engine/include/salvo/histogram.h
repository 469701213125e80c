/* SPDX-License-Identifier: Apache-2.0
 *
 * Log-linear latency histograms in HdrHistogram's bucket layout, as Salvo keeps them of its own
 * stages and as its tools use them. One writer each; readers merge. A reader sees each count
 * either before or after an increment, never torn; a merge is not a point in time.
 * Values are nanoseconds, 1 ns to 1 h: larger ones count as 1 h, 0 as 0.
 */
#ifndef SALVO_HISTOGRAM_PUBLIC_H
#define SALVO_HISTOGRAM_PUBLIC_H

#include <salvo/stats.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

/* digits: significant decimal digits that are kept, 2 (37 KB) or 3 (270 KB); NULL: neither, or no
 * memory. */
SALVO_API salvo_histogram *salvo_histogram_new(unsigned digits);
SALVO_API void salvo_histogram_free(salvo_histogram *h); /* NULL is allowed */

/* The writer: n times the value. No allocation, no system call, no read-modify-write. */
SALVO_API void salvo_histogram_record(salvo_histogram *h, uint64_t ns, uint64_t n);

/* Readers. Adding histograms of other digits keeps every count, at the coarser place. */
SALVO_API void salvo_histogram_add(salvo_histogram *into, const salvo_histogram *from);

/* Add to into what now has counted since before was a copy of it, and make before such a copy
 * again. All of the same digits, or nothing happens. */
SALVO_API void salvo_histogram_since(salvo_histogram *into, const salvo_histogram *now,
                                     salvo_histogram *before);
SALVO_API void salvo_histogram_summary(const salvo_histogram *h, salvo_latency *out);
SALVO_API uint64_t salvo_histogram_count(const salvo_histogram *h);

/* The value that percentile (0 to 100) of all recorded ones do not exceed; 0: none recorded. */
SALVO_API uint64_t salvo_histogram_at(const salvo_histogram *h, double percentile);

/* How many were recorded that count as ns or less. */
SALVO_API uint64_t salvo_histogram_upto(const salvo_histogram *h, uint64_t ns);

/* The sum of all recorded values modulo 2^64. */
SALVO_API uint64_t salvo_histogram_sum(const salvo_histogram *h);

/* Write the percentile distribution in HdrHistogram's text form (value, percentile, count,
 * 1/(1-p)), values in units of unit_ns. SALVO_ERR_IO when the stream failed, or SALVO_ERR_NOMEM.*/
SALVO_API SALVO_MUST_USE int salvo_histogram_write_percentiles(const salvo_histogram *h,
                                                               FILE *stream, double unit_ns);

/* HdrHistogram's V2 compressed encoding ("HISTF..."), as its logs carry it. encode: *text is
 * allocated (free() it) and ends with a NUL; 0 or SALVO_ERR_NOMEM. decode: a histogram of 2 or 3
 * digits with a unit of 1 and no value above 1 h; SALVO_ERR_INVALID for anything else. */
SALVO_API SALVO_MUST_USE int salvo_histogram_encode(const salvo_histogram *h, char **text);
SALVO_API SALVO_MUST_USE int salvo_histogram_decode(const char *text, salvo_histogram **out);

#ifdef __cplusplus
}
#endif
#endif
