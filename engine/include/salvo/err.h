/* SPDX-License-Identifier: Apache-2.0
 *
 * Error codes. Every call that can fail returns 0 or one of these negative numbers; the numbers
 * are part of the ABI and are never reused. Text: salvo_strerror(); with context, on cold paths:
 * salvo_last_error() or the `error` buffer of the call.
 */
#ifndef SALVO_ERR_H
#define SALVO_ERR_H

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define SALVO_API __attribute__((visibility("default")))
#define SALVO_MUST_USE __attribute__((warn_unused_result))
#else
#define SALVO_API
#define SALVO_MUST_USE
#endif

typedef enum salvo_err {
    SALVO_OK = 0,
    SALVO_ERR_INVALID = -1,       /* a null or an argument out of range */
    SALVO_ERR_NOMEM = -2,         /* an allocation or mapping failed */
    SALVO_ERR_FULL = -3,          /* ring or topic share full; policy `fail` or `drop_newest` */
    SALVO_ERR_TOO_LARGE = -4,     /* over max_message_bytes, or over the broker's own limit */
    SALVO_ERR_TIMEOUT = -5,       /* the deadline of this call passed */
    SALVO_ERR_CLOSED = -6,        /* the producer is closed or closing */
    SALVO_ERR_FORKED = -7,        /* the handle belongs to the parent of this process */
    SALVO_ERR_UNKNOWN_TOPIC = -8, /* no such topic id here, or no such topic at the broker */
    SALVO_ERR_CONFIG = -9,        /* an unknown key or a bad value; the text names it */
    SALVO_ERR_LIMIT = -10,        /* max_topics, max_threads or max_reports reached */
    SALVO_ERR_REENTRANT = -11,    /* a waiting call from inside a report callback */
    SALVO_ERR_UNSUPPORTED = -12,  /* the driver cannot do this; see its capabilities */
    SALVO_ERR_PARTITION = -13,    /* the topic has no such partition */
    SALVO_ERR_EXPIRED = -14,      /* TTL or delivery deadline passed before delivery */
    SALVO_ERR_MAYBE = -15,        /* fate unknown: it may have been delivered */
    SALVO_ERR_TRANSIENT = -16,    /* broker trouble that a retry may mend */
    SALVO_ERR_REJECTED = -17,     /* the broker refused this message for good */
    SALVO_ERR_AUTH = -18,         /* credentials or rights */
    SALVO_ERR_UNREACHABLE = -19,  /* no broker answered */
    SALVO_ERR_FATAL = -20,        /* the driver's handle is beyond repair and was re-opened */
    SALVO_ERR_IO = -21,           /* a file or system call failed; errno is kept */
    SALVO_ERR_DROPPED = -22,      /* given up by close or by policy */
    SALVO_ERR_INTERRUPTED = -23,  /* a signal handler asked to stop (readers) */
    SALVO_ERR_END = -24           /* nothing more to read */
} salvo_err;

/* A static text for a code; never NULL. Any thread; never blocks. */
SALVO_API const char *salvo_strerror(int err);

/* The context of the calling thread's last failed cold call ("" if none). Valid until that
 * thread's next cold call. Secrets never appear in it. */
SALVO_API const char *salvo_last_error(void);

#ifdef __cplusplus
}
#endif
#endif
