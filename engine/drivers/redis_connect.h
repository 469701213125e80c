/* SPDX-License-Identifier: Apache-2.0
 *
 * A connection to the Redis server of redis_url, logged in: AUTH, SELECT, CLIENT SETNAME, PING
 * and, where asked for, FUNCTION LOAD. Guarantees: nothing blocks but salvo_redis_link_wait();
 * an attempt ends within connect_timeout_ms; pauses between attempts double from
 * reconnect_backoff_ms to retry_backoff_max_ms until the user says that something worked; the
 * password is in no text. One thread, but salvo_redis_link_state(): any.
 */
#ifndef SALVO_REDIS_CONNECT_H
#define SALVO_REDIS_CONNECT_H

#include "driver.h"
#include "io/io.h"
#include "io/url.h"
#include "redis_reply.h"
#include <pthread.h>

typedef enum salvo_redis_link_state {
    SALVO_REDIS_IDLE, /* until the next attempt */
    SALVO_REDIS_CONNECTING,
    SALVO_REDIS_LOGIN,
    SALVO_REDIS_UP
} salvo_redis_link_state;

typedef struct salvo_redis_link_options {
    const salvo_config *config;
    uint64_t (*now_ns)(void *clock);
    void *clock;
    void (*wake)(void *flusher);
    void *flusher;
    const char *function; /* Lua text to load at login; NULL: none */
    size_t out_bytes, in_bytes;
} salvo_redis_link_options;

enum { SALVO_REDIS_STEPS = 5 };

typedef struct salvo_redis_link {
    salvo_io *io;
    salvo_io_conn *conn; /* NULL while IDLE */
    salvo_redis_parser parser;
    salvo_redis_link_state state;
    bool lost;        /* UP, but the connection ended: salvo_redis_link_drop() is next */
    int32_t refusal;  /* why the server will not have us: AUTH or REJECTED; 0: nothing known */
    bool ever_up;
    char why[256];    /* the last trouble */

    uint64_t (*now_ns)(void *clock);
    void *clock;
    salvo_url url;
    salvo_io_target target;
    char *files[3];   /* of the target */
    const char *function;
    uint32_t db, connect_ms;
    uint64_t backoff_ns, backoff_max_ns, next_ns, deadline_ns;
    uint32_t failures; /* in a row */
    char steps[SALVO_REDIS_STEPS]; /* of the login: which replies are awaited */
    uint32_t step_count, step_at;

    pthread_mutex_t mutex; /* of text */
    char text[96];
} salvo_redis_link;

/* 0, CONFIG, NOMEM, INVALID, LIMIT or UNSUPPORTED with *error. Close it in any case. */
int salvo_redis_link_open(salvo_redis_link *l, const salvo_redis_link_options *options,
                          char *error, size_t error_size);
void salvo_redis_link_close(salvo_redis_link *l);

/* Go on. True: it is UP since this call. While UP only the sockets move: what arrived is the
 * caller's to parse, then `lost` to look at. */
bool salvo_redis_link_step(salvo_redis_link *l);

/* Give the connection up because of l->why, or of `why`; the next attempt comes by itself. */
void salvo_redis_link_drop(salvo_redis_link *l, const char *why);

/* Something was stored: the next trouble begins with the first pause again. */
void salvo_redis_link_works(salvo_redis_link *l);

/* Until it is UP (0), refused (AUTH, REJECTED) or timeout_ms passed (UNREACHABLE); *error. */
int salvo_redis_link_wait(salvo_redis_link *l, uint64_t timeout_ms, char *error,
                          size_t error_size);

void salvo_redis_link_text(salvo_redis_link *l, char *text, size_t size);

/* Where it leads, for texts: host:port or a path. */
const char *salvo_redis_link_place(const salvo_redis_link *l, char *text, size_t size);

#endif
