/* SPDX-License-Identifier: Apache-2.0
 *
 * A Redis consumer's handle, as its files share it. The polling thread, but where it says so.
 *
 *   reading connection    XREADGROUP ... BLOCK, one at a time --.
 *   command connection    XGROUP, XACK, XAUTOCLAIM, XCLAIM,     |--> batches --> poll
 *                         XPENDING, XREADGROUP from an id  -----'
 *
 * Two connections, since a command waits behind a blocking one of its own connection: with one, a
 * commit in a quiet stream takes as long as the rest of the block, with two a round trip.
 *
 * A stream's claim is a number for "its entries that we hold". It ends (revoked) where they may
 * have gone to another member: when nothing could be renewed for redis_claim_idle_ms, at a rewind,
 * and when the stream or its group was removed. What is still ours then comes again, out of the
 * server's list of our pending entries (`history`).
 */
#ifndef SALVO_REDIS_CONSUMER_H
#define SALVO_REDIS_CONSUMER_H

#include "driver_consumer.h"
#include "io_set.h"
#include "redis_connect.h"
#include "redis_hand.h"
#include "redis_tree.h"

typedef enum salvo_redis_group {
    SALVO_REDIS_GROUP_UNKNOWN,
    SALVO_REDIS_GROUP_ASKED,
    SALVO_REDIS_GROUP_THERE
} salvo_redis_group;

typedef enum salvo_redis_history {
    SALVO_REDIS_HISTORY_READ,
    SALVO_REDIS_HISTORY_DUE, /* from history_at on */
    SALVO_REDIS_HISTORY_ASKED
} salvo_redis_history;

typedef struct salvo_redis_stream {
    char *name;
    uint32_t claim;
    bool paused;
    salvo_redis_group group;
    bool made;  /* the group was there once: where it is not any more, it begins at 0 */
    bool ended; /* it was made anew: what was in hand is in no stream any more */
    salvo_redis_history history;
    bool history_again; /* from the beginning, when the answer under way is here */
    salvo_redis_id history_at;
    int error;  /* why the server refuses it; asked again at retry_ns */
    char why[160];
    uint64_t retry_ns, claim_ns;
    salvo_redis_id claim_at; /* where XAUTOCLAIM goes on */
    bool claiming;
    salvo_redis_hand hand;
} salvo_redis_stream;

typedef struct salvo_redis_found { /* an entry of a batch */
    salvo_redis_id id;
    size_t fields;        /* its first field's name, as a node */
    uint32_t field_count; /* names and values */
    uint32_t stream, claim, deliveries;
    bool given;
} salvo_redis_found;

typedef struct salvo_redis_batch { /* a reply with entries */
    struct salvo_redis_batch *next;
    salvo_redis_tree tree;
    salvo_redis_found *found;
    size_t count, room, at; /* all before `at` were given */
    salvo_header *headers;  /* of those that were given */
    size_t header_count, header_room;
    void **unpacked;
    size_t unpacked_count, unpacked_room;
} salvo_redis_batch;

typedef enum salvo_redis_asked {
    SALVO_REDIS_ASKED_GROUP,   /* XGROUP CREATE, or XPENDING where it must be there */
    SALVO_REDIS_ASKED_ACK,     /* XACK of n */
    SALVO_REDIS_ASKED_HISTORY, /* XREADGROUP ... <id> */
    SALVO_REDIS_ASKED_CLAIM,   /* XAUTOCLAIM */
    SALVO_REDIS_ASKED_COUNTS,  /* XPENDING: deliveries of a batch's entries */
    SALVO_REDIS_ASKED_RENEW,   /* XCLAIM ... JUSTID */
    SALVO_REDIS_ASKED_LEFT,    /* XPENDING: is anything left? */
    SALVO_REDIS_ASKED_REMOVE   /* XGROUP DELCONSUMER */
} salvo_redis_asked;

typedef struct salvo_redis_command { /* awaits its reply */
    salvo_redis_asked what;
    uint32_t stream, n;
    salvo_redis_batch *batch; /* of COUNTS */
} salvo_redis_command;

typedef struct salvo_redis_consumer {
    const salvo_consumer_env *env;
    const char *group;
    char name[256]; /* the consumer's in the group */
    bool manual, must_exist, from_end;
    bool may_revoke; /* this call may */
    bool closing;
    uint64_t claim_idle_ns;
    size_t most_bytes; /* max_message_bytes */

    salvo_redis_link reading, commands;
    salvo_redis_source read_source, command_source;
    salvo_io_set set;

    salvo_redis_stream *streams;
    uint32_t stream_count, last_claim;

    salvo_redis_command *asked; /* a ring of a power of two */
    uint32_t asked_mask, asked_head, asked_tail; /* free-running */
    bool reading_asked; /* XREADGROUP ... BLOCK is on its way */
    uint32_t read_count; /* entries to ask for */
    uint64_t read_retry_ns;

    uint64_t worked_ns;   /* when this handle was last looked after */
    uint64_t renewed_ns;  /* all that is in hand was surely ours until then, at least */
    uint64_t renewing_ns; /* when the round under way began; 0: none is */
    uint32_t renewals;    /* commands of it that are not answered */
    bool renewal_cut;     /* not all of it went out */
    uint32_t chunk;       /* ids in one command */

    salvo_redis_batch *first, *last, *free, *command_into, *read_into;
    uint32_t free_count, buffered; /* entries that were not given */
    uint64_t resent;
    char *line;
    size_t line_room;
} salvo_redis_consumer;

static inline uint32_t salvo_redis_in_hand(const salvo_redis_consumer *c)
{
    uint32_t held = 0;
    for (uint32_t i = 0; i < c->stream_count; i++)
        held += c->streams[i].hand.held;
    return held;
}

/* All entries that are pending with us, from the beginning: some may have got lost on the way. */
static inline void salvo_redis_need_history(salvo_redis_stream *s)
{
    s->history_again = s->history == SALVO_REDIS_HISTORY_ASKED;
    if (!s->history_again)
        s->history = SALVO_REDIS_HISTORY_DUE;
    s->history_at = (salvo_redis_id){0, 0};
}

extern const salvo_driver_consumer_ops salvo_redis_consumer_ops;

/* redis_consumer_send.c: what is due, onto the connections. */
void salvo_redis_consumer_send(salvo_redis_consumer *c, uint64_t now_ns);
void salvo_redis_consumer_read(salvo_redis_consumer *c, uint64_t now_ns);
/* False: no room now. */
bool salvo_redis_consumer_ask(salvo_redis_consumer *c, salvo_redis_asked what, uint32_t stream);
/* How often the entries of a batch were delivered? It is queued with the answer. */
void salvo_redis_consumer_count(salvo_redis_consumer *c, salvo_redis_batch *batch,
                                uint32_t stream);
/* At close: what is pending with us may be claimed by others at once. False: not all of it. */
bool salvo_redis_consumer_give_back(salvo_redis_consumer *c, uint32_t stream);
int salvo_redis_consumer_buffers(salvo_redis_consumer *c, size_t *out_bytes);

/* redis_consumer_reply.c: what came. NULL, or why the connection is of no more use. */
const char *salvo_redis_consumer_heard(salvo_redis_consumer *c, salvo_redis_link *link);
/* It ended: what is not answered is asked again. */
void salvo_redis_consumer_lost(salvo_redis_consumer *c, salvo_redis_link *link, const char *why);

/* redis_consumer_batch.c */
salvo_redis_batch *salvo_redis_batch_new(salvo_redis_consumer *c);
void salvo_redis_batch_free(salvo_redis_consumer *c, salvo_redis_batch *batch);
void salvo_redis_batch_destroy(salvo_redis_batch *batch);
void salvo_redis_batch_queue(salvo_redis_consumer *c, salvo_redis_batch *batch);
/* Batches that are wholly given and whose bytes nobody looks at any more. */
void salvo_redis_batch_recycle(salvo_redis_consumer *c);
int salvo_redis_batch_give(salvo_redis_consumer *c, salvo_driver_delivery *deliveries, size_t max,
                           char *error, size_t error_size);
/* Entries at the walk's place, new ones into the batch; *seen: how many there were, *last_id: the
 * last of them. False: that is none. */
bool salvo_redis_batch_take(salvo_redis_consumer *c, salvo_redis_batch *batch,
                            salvo_redis_walk *walk, uint32_t stream, uint32_t *seen,
                            salvo_redis_id *last_id);

#endif
