/* SPDX-License-Identifier: Apache-2.0
 *
 * The Redis driver's handle, as its files share it. One flusher thread.
 *
 *   submit --> queue of entries (batches), first in first out
 *                 | sent by redis_send.c, up to redis_window messages ahead of their replies
 *                 v
 *              flights: what awaits its reply, in the order of sending
 *                 | settled by redis_queue.c, reply by reply
 *                 v
 *              done entries --> poll
 *
 * Equations, per entry: settled <= sent <= limit <= count, settled <= maybe <= limit while the
 * connection is lost; messages [0, settled) have their ranges; [settled, sent) are in flights;
 * [settled, maybe) may have reached the server by an earlier connection; [limit, count) go back
 * unsent, as rest_status.
 */
#ifndef SALVO_REDIS_INTERNAL_H
#define SALVO_REDIS_INTERNAL_H

#include "compress.h"
#include "driver.h"
#include "redis_connect.h"
#include "redis_format.h"
#include "redis_reply.h"

enum {
    SALVO_REDIS_FEW = 4,       /* ranges without an allocation */
    SALVO_REDIS_STABLE = 16384, /* a value from this size on is sent from where it lies */
    SALVO_REDIS_CODECS = 4,
    SALVO_REDIS_IN_BYTES = 256 << 10
};
#define SALVO_REDIS_NONE UINT32_MAX

typedef struct salvo_redis_entry { /* a batch */
    uint64_t token;
    salvo_driver_batch batch;      /* a copy; what it points to is the engine's */
    salvo_driver_cursor cursor;    /* of message `at` */
    uint32_t at;                   /* behind `sent` after a reconnect */
    uint32_t sent, settled, maybe, limit;
    int32_t rest_status;
    uint64_t seq;                  /* exactly once: of message 0; 0: none yet */
    uint64_t stable_end;           /* the connection's bytes_put behind the last stable value */
    struct salvo_redis_entry *next, *previous;
    uint32_t range_count, range_room;
    salvo_driver_range *ranges;    /* `few`, or allocated */
    salvo_driver_range few[SALVO_REDIS_FEW];
} salvo_redis_entry;

typedef enum salvo_redis_kind {
    SALVO_REDIS_ADD,   /* XADD */
    SALVO_REDIS_APPEND, /* the function, for some messages */
    SALVO_REDIS_SYNC,
    SALVO_REDIS_LOCAL  /* never sent: status is known */
} salvo_redis_kind;

typedef struct salvo_redis_flight {
    uint32_t slot;  /* of its entry; NONE: it was given up */
    uint32_t topic;
    uint32_t first, count; /* messages */
    uint64_t put_at; /* bytes_put before it */
    uint64_t seq;    /* of APPEND: of its first message */
    int32_t status; /* of LOCAL */
    uint32_t kind;
} salvo_redis_flight;

typedef struct salvo_redis_topic {
    char *name;
    salvo_redis_template xadd;
    const salvo_codec *codec;
    void *codec_context;  /* shared by the topics of a codec */
    uint32_t compress_least;
    uint32_t out;         /* batches that were taken and not handed back */
    bool doomed;          /* until `out` is 0 no more is taken, so that retries keep the order */
    /* Exactly once. */
    char *state_key;
    bool synced, syncing;
    uint64_t next_seq;  /* to give */
    uint64_t last_seq;  /* of the last message sent on this connection */
    uint64_t known_seq; /* up to it all outcomes are known here */
} salvo_redis_topic;

typedef struct salvo_redis {
    salvo_driver_env env;
    salvo_redis_link link;
    salvo_redis_topic *topics; /* by the producer's id */
    salvo_redis_entry *entries; /* slots */
    uint32_t entry_count;
    salvo_redis_entry *free, *first, *last; /* queue: first .. last */
    salvo_redis_entry *sending;             /* first of the queue with sent < limit, or NULL */
    salvo_redis_entry *done, *done_last, *handed;
    uint32_t out;               /* slots in use but for the handed ones */

    salvo_redis_flight *flights; /* a ring of a power of two */
    uint32_t flight_mask, flight_head, flight_tail; /* free-running */
    uint32_t window, in_flight; /* messages */

    bool once;
    char producer[33];          /* exactly once: this handle's random name */
    char epoch[24];             /* of this connection */
    uint64_t connects;
    uint32_t max_message_bytes;
    uint64_t out_bytes;
    uint64_t answered_ns;       /* when the server was last heard, or began to owe a reply */
    uint64_t answer_ns;         /* how long it may be silent */
    uint64_t next_look_ns;      /* at the deadlines */
    uint64_t resent;            /* messages that may have been stored twice */
    char *scratch;              /* of compression, and of a function's arguments */
    size_t scratch_room;
    char *packed;
    size_t packed_room;
    struct {
        const salvo_codec *codec;
        void *context;
    } codecs[SALVO_REDIS_CODECS];
    char trouble[SALVO_REDIS_TEXT]; /* the last refusal that was logged */
} salvo_redis;

static inline uint64_t salvo_redis_now(const salvo_redis *h)
{
    return h->env.now_ns(h->env.clock);
}

static inline uint32_t salvo_redis_slot(const salvo_redis *h, const salvo_redis_entry *e)
{
    return (uint32_t)(e - h->entries);
}

/* redis_queue.c: entries and what becomes of them. */
void salvo_redis_push(salvo_redis *h, salvo_redis_entry *e);
void salvo_redis_release_handed(salvo_redis *h);
uint32_t salvo_redis_hand_out(salvo_redis *h, salvo_driver_outcome *outcomes, uint32_t max);
/* Messages [e->settled, to) fared as status; offset of the first, or -1. */
void salvo_redis_settle(salvo_redis *h, salvo_redis_entry *e, uint32_t to, int32_t status,
                        int64_t offset);
/* What is surely unsent of a topic goes back, to be submitted again in order. */
void salvo_redis_doom(salvo_redis *h, uint32_t topic);
void salvo_redis_look_at_deadlines(salvo_redis *h, uint64_t now_ns);
/* The connection is gone: what was in flight is sent again when there is a new one. */
void salvo_redis_rewind(salvo_redis *h);
/* All goes back at once; the connection must be gone. */
void salvo_redis_give_up(salvo_redis *h);

/* redis_send.c: the queue onto the connection. True: something was put there. */
bool salvo_redis_send(salvo_redis *h);
salvo_redis_flight *salvo_redis_take_off(salvo_redis *h, salvo_redis_kind kind, uint32_t topic,
                                         const salvo_redis_entry *e);
/* The next message of e, compressed where the topic wants it; 0, or the status it fails with. */
int32_t salvo_redis_next_item(salvo_redis *h, salvo_redis_entry *e, salvo_redis_item *item);
bool salvo_redis_catch_up(salvo_redis_entry *e);
bool salvo_redis_scratch(char **bytes, size_t *room, size_t need);

/* redis_settle.c: replies. 0, or not 0: the connection is of no more use, link.why says why. */
int salvo_redis_receive(salvo_redis *h);
void salvo_redis_settle_local(salvo_redis *h);

/* redis_once.c: exactly once. */
extern const char salvo_redis_once_function[];
int salvo_redis_once_open(salvo_redis *h);
void salvo_redis_once_connected(salvo_redis *h);
bool salvo_redis_once_send(salvo_redis *h, salvo_redis_entry *e);
/* The answer to sync: what the server decided on has its outcome. False: it is none. */
bool salvo_redis_once_synced(salvo_redis *h, uint32_t topic, const salvo_redis_reply *told);

/* redis_reader.c */
int salvo_redis_reader_open(const salvo_config *config, void *shared, const char *topic,
                            const salvo_reader_options *options, void **reader, char *error,
                            size_t error_size);
int salvo_redis_reader_next(void *reader, uint64_t timeout_ms, salvo_record *record, char *error,
                            size_t error_size);
void salvo_redis_reader_close(void *reader);

#endif
