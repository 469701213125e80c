/* SPDX-License-Identifier: Apache-2.0
 *
 * Error texts, the thread's last error, and the log hook (the library's only global state).
 */
#include "error.h"
#include <errno.h>
#include <salvo/salvo.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define LOG_BYTES 1024

typedef void log_fn(void *context, int level, const char *text);

static _Thread_local char last_error[SALVO_ERROR_BYTES];
static _Atomic(log_fn *) log_hook;
static _Atomic(void *) log_context;

const char *salvo_strerror(int err)
{
    switch ((salvo_err)err) {
    case SALVO_OK: return "no error";
    case SALVO_ERR_INVALID: return "invalid argument";
    case SALVO_ERR_NOMEM: return "out of memory";
    case SALVO_ERR_FULL: return "buffer full";
    case SALVO_ERR_TOO_LARGE: return "message over max_message_bytes or the broker's limit";
    case SALVO_ERR_TIMEOUT: return "timed out";
    case SALVO_ERR_CLOSED: return "producer is closed";
    case SALVO_ERR_FORKED: return "handle belongs to the parent process";
    case SALVO_ERR_UNKNOWN_TOPIC: return "unknown topic";
    case SALVO_ERR_CONFIG: return "invalid configuration";
    case SALVO_ERR_LIMIT: return "limit reached";
    case SALVO_ERR_REENTRANT: return "waiting call from inside a report callback";
    case SALVO_ERR_UNSUPPORTED: return "not supported by this driver";
    case SALVO_ERR_PARTITION: return "no such partition";
    case SALVO_ERR_EXPIRED: return "expired before delivery";
    case SALVO_ERR_MAYBE: return "fate unknown: may have been delivered";
    case SALVO_ERR_TRANSIENT: return "broker trouble, may be retried";
    case SALVO_ERR_REJECTED: return "rejected by the broker";
    case SALVO_ERR_AUTH: return "not authorized";
    case SALVO_ERR_UNREACHABLE: return "broker unreachable";
    case SALVO_ERR_FATAL: return "driver handle failed";
    case SALVO_ERR_IO: return "input/output error";
    case SALVO_ERR_DROPPED: return "given up before delivery";
    case SALVO_ERR_INTERRUPTED: return "interrupted";
    case SALVO_ERR_END: return "nothing more to read";
    }
    return "unknown error code";
}

const char *salvo_last_error(void)
{
    return last_error;
}

void salvo_error_clear(void)
{
    last_error[0] = '\0';
}

void salvo_error_set(const char *format, ...)
{
    char text[SALVO_ERROR_BYTES]; /* the arguments may point into last_error */
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    memcpy(last_error, text, sizeof text);
}

void salvo_set_log(void (*log)(void *context, int level, const char *text), void *context)
{
    atomic_store_explicit(&log_context, context, memory_order_relaxed);
    /* Release: who sees the hook (acquire in salvo_log) sees its context. */
    atomic_store_explicit(&log_hook, log, memory_order_release);
}

/* What a broker sent may contain line breaks; a log line is one line. */
static void make_one_line(char *text)
{
    for (unsigned char *at = (unsigned char *)text; *at; at++)
        if (*at < ' ' || *at == 0x7f)
            *at = ' ';
    size_t len = strlen(text);
    while (len > 0 && text[len - 1] == ' ')
        text[--len] = '\0';
}

void salvo_log(int level, const char *format, ...)
{
    int saved_errno = errno;
    /* Acquire: pairs with the release in salvo_set_log. */
    log_fn *hook = atomic_load_explicit(&log_hook, memory_order_acquire);
    if (hook || level <= SALVO_LOG_WARNING) {
        char text[LOG_BYTES];
        va_list arguments;
        va_start(arguments, format);
        errno = saved_errno; /* for %m */
        vsnprintf(text, sizeof text, format, arguments);
        va_end(arguments);
        make_one_line(text);
        if (hook)
            hook(atomic_load_explicit(&log_context, memory_order_relaxed), level, text);
        else
            fprintf(stderr, "salvo: %s\n", text);
    }
    errno = saved_errno;
}
