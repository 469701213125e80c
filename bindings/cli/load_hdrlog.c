/* SPDX-License-Identifier: Apache-2.0
 *
 * HdrHistogram's logs; see docs/formats.md.
 */
#include "load_hdrlog.h"

#include <stdlib.h>
#include <time.h>

FILE *salvo_hdrlog_open(const char *path, uint64_t unix_ns)
{
    char when[64];
    time_t seconds = (time_t)(unix_ns / 1000000000u);
    struct tm parts;
    FILE *log = fopen(path, "we");
    if (!log)
        return NULL;
    strftime(when, sizeof when, "%a %b %d %H:%M:%S UTC %Y", gmtime_r(&seconds, &parts));
    fprintf(log, "#[Histogram log format version 1.3]\n"
                 "#[StartTime: %.3f (seconds since epoch), %s]\n"
                 "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\","
                 "\"Interval_Compressed_Histogram\"\n", (double)unix_ns / 1e9, when);
    return log;
}

bool salvo_hdrlog_write(FILE *log, const char *tag, double start_s, double length_s,
                        const salvo_histogram *h)
{
    salvo_latency latency;
    char *text = NULL;
    salvo_histogram_summary(h, &latency);
    if (latency.count == 0)
        return true;
    if (salvo_histogram_encode(h, &text) != 0)
        return false;
    int length = fprintf(log, "Tag=%s,%.3f,%.3f,%.3f,%s\n", tag, start_s, length_s,
                         (double)latency.max / 1e6, text);
    free(text);
    return length > 0;
}

bool salvo_hdrlog_close(FILE *log)
{
    bool good = !ferror(log);
    return fclose(log) == 0 && good;
}
