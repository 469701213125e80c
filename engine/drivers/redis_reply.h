/* SPDX-License-Identifier: Apache-2.0
 *
 * Replies of a Redis server, read by hiredis' reader out of the bytes that arrived, and what an
 * error among them means. Guarantees: nothing is allocated per reply; a reply that is larger than
 * SALVO_REDIS_REPLY_MAX, nested too deep or malformed ends the parser, which then says why; what
 * is kept of a reply's text is bounded and printable. Knows no socket.
 */
#ifndef SALVO_REDIS_REPLY_H
#define SALVO_REDIS_REPLY_H

#include <hiredis/read.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SALVO_REDIS_GROUP = 128,            /* most messages of one call of the function */
    SALVO_REDIS_PARTS = 2048,           /* most elements of an array that are kept */
    SALVO_REDIS_REPLY_MAX = 256 * 1024, /* bytes */
    SALVO_REDIS_TEXT = 192
};

/* A reply, or an element of an array. Entry ids "ms-seq" become one number, see below. */
typedef struct salvo_redis_part {
    int type;       /* REDIS_REPLY_... */
    int64_t number; /* of an integer; of an error: salvo_redis_judge()'s status; of an id that
                       fits: its offset; else -1 */
} salvo_redis_part;

typedef struct salvo_redis_reply {
    salvo_redis_part whole;
    uint32_t count; /* of an array: its elements, also those beyond the parts kept */
    salvo_redis_part parts[SALVO_REDIS_PARTS];
    char text[SALVO_REDIS_TEXT]; /* of the last error, status or string in it */
} salvo_redis_reply;

typedef struct salvo_redis_parser {
    redisReader *reader;
    salvo_redis_reply reply; /* the one that is being read */
    char error[192];
} salvo_redis_parser;

int salvo_redis_parser_open(salvo_redis_parser *p);
void salvo_redis_parser_close(salvo_redis_parser *p);
/* For a new connection: nothing of the old one is left. */
int salvo_redis_parser_reset(salvo_redis_parser *p);

/* Parse what arrived; on_reply is called for each complete reply, and stops the parser by a value
 * that is not 0, which is returned. Else 0, or SALVO_ERR_INVALID with p->error. */
int salvo_redis_parser_run(salvo_redis_parser *p, const void *bytes, size_t n,
                           int (*on_reply)(void *context, const salvo_redis_reply *reply),
                           void *context);

/* An entry id as an int64: ms << 20 | seq, which keeps the order of ids. -1: no id, or out of
 * range (more than 2^20 entries in one ms, or after the year 2248). */
int64_t salvo_redis_offset(const char *id, size_t length);

/* What an error reply means for the message (a salvo_err) and the connection. */
typedef struct salvo_redis_verdict {
    int32_t status; /* TRANSIENT: it was not stored, a retry may mend it */
    bool reconnect; /* the connection is of no more use */
} salvo_redis_verdict;
salvo_redis_verdict salvo_redis_judge(const char *error);

#endif
