/* SPDX-License-Identifier: Apache-2.0
 *
 * Errors with context, and the log. Guarantees: the last error's text belongs to its thread, is
 * cut at SALVO_ERROR_BYTES and never allocates; a log line is one line whatever was put into it,
 * and logging leaves errno alone. Neither belongs on a hot path.
 */
#ifndef SALVO_ERROR_H
#define SALVO_ERROR_H

#include <salvo/err.h>

#define SALVO_ERROR_BYTES 512

/* Levels are syslog's. */
enum {
    SALVO_LOG_ERROR = 3,
    SALVO_LOG_WARNING = 4,
    SALVO_LOG_NOTICE = 5,
    SALVO_LOG_INFO = 6,
    SALVO_LOG_DEBUG = 7
};

/* Set the calling thread's salvo_last_error(); arguments may point into the old text. */
void salvo_error_set(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Forget it: for the start of each cold call. */
void salvo_error_clear(void);

/* One line to the log hook, or, from warnings up, to standard error as "salvo: ...". */
void salvo_log(int level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
