/* SPDX-License-Identifier: Apache-2.0
 *
 * HdrHistogram's interval logs, format 1.3, as its own log writer makes them.
 */
#ifndef SALVO_LOAD_HDRLOG_H
#define SALVO_LOAD_HDRLOG_H

#include <salvo/histogram.h>
#include <stdbool.h>
#include <stdio.h>

/* NULL with errno. unix_ns: the start of the run, to which intervals are relative. */
FILE *salvo_hdrlog_open(const char *path, uint64_t unix_ns);

/* One interval of one tag; an empty histogram is no line. False: no memory, or it was not
 * written. */
bool salvo_hdrlog_write(FILE *log, const char *tag, double start_s, double length_s,
                        const salvo_histogram *h);

/* False: something was not written. */
bool salvo_hdrlog_close(FILE *log);

#endif
