/* SPDX-License-Identifier: Apache-2.0
 *
 * The Kafka consumer's handle, shared by its files. The engine calls one slot at a time, so
 * nothing here is locked but what wake() and state() touch.
 *
 * Two queues of librdkafka: `events` (rebalances, errors, log lines: served in each poll, also
 * when nothing more is wanted) and `messages`, to which each partition is forwarded: so a full
 * hand never holds up a rebalance. A third one, `commits`, has the answers to commits, so that
 * commit() can wait for its own without running anything else.
 *
 * A claim is a partition from its assignment, seek or rewind to its revocation or the next of
 * these. What librdkafka has fetched before a seek or for a partition that was taken away is
 * dropped by its version barriers; what came through them all the same finds no claim here.
 *
 *   known <= sent <= position of the window, once `known` is known
 *   dirty: known < position; what is below `known` the broker has, or was never ours to commit
 */
#ifndef SALVO_KAFKA_CONSUMER_H
#define SALVO_KAFKA_CONSUMER_H

#include "driver.h"
#include "driver_consumer.h"
#include "kafka_client.h"
#include "kafka_internal.h"
#include "window.h"
#include <pthread.h>
#include <stdatomic.h>

typedef struct salvo_kafka_claim {
    uint32_t id;       /* never reused; 0: the slot is free */
    uint32_t slot;
    int32_t partition;
    char *topic;
    const rd_kafka_topic_t *rkt; /* as its messages carry it; NULL until the first one */
    salvo_window window;
    int64_t known, sent;
    bool leaving;     /* being given away: nothing more of it is shown */
    bool full;        /* its window is: nothing more of it is fetched */
    bool stopped;     /* librdkafka was told to pause it */
    bool refetch;     /* there was no memory for a message: to be fetched again */
} salvo_kafka_claim;

/* Partitions that the group wants back. */
typedef struct salvo_kafka_leaving {
    rd_kafka_topic_partition_list_t *list; /* NULL: nothing is leaving */
    uint64_t deadline_ns; /* of the settling, then of the commit */
    bool committing, committed;
} salvo_kafka_leaving;

typedef struct salvo_kafka_consumer {
    const salvo_consumer_env *env;
    rd_kafka_t *rk;
    rd_kafka_queue_t *events, *messages, *commits;
    int event_fd;
    _Atomic bool woken;
    bool automatic;  /* commits are ours to time */
    bool torn;       /* transactional: messages of this transaction were lost to us */
    bool closing;
    bool joining, joined; /* subscribed; and the group has answered with a first assignment */
    uint64_t commit_interval_ns, next_commit_ns, rebalance_wait_ns;
    uint32_t most_at_once;

    salvo_kafka_claim **claims; /* by slot */
    uint32_t claim_room, assigned, last_claim_id;
    salvo_kafka_claim *last;    /* of the last message */
    rd_kafka_topic_partition_list_t *paused; /* by the user; partition -1: the whole topic */
    salvo_kafka_leaving leaving;

    bool acked;       /* since the last commit went out */
    bool commit_out;  /* one at a time */
    rd_kafka_resp_err_t commit_error; /* of the last answer */
    bool commit_warned;

    rd_kafka_message_t **shown; /* of the last poll */
    size_t shown_count, shown_room;
    salvo_header *headers;
    size_t header_count, header_room;

    int failed; /* poll returns it, once; a fatal one each time */
    char failure[384];
    bool fatal, refused;
    uint64_t probe_ns;     /* when to ask next whether a broker is there */
    bool probe_out, in_doubt; /* a connection broke: is any broker there? */

    pthread_mutex_t lock;                  /* of what follows, for state() */
    salvo_kafka_link link;
    char reason[SALVO_KAFKA_REASON_BYTES]; /* of DOWN, or the last trouble */
    char missing[250];                     /* a topic that is not there yet; "": none */
} salvo_kafka_consumer;

/* kafka_consumer_claims.c: partitions come and go. */
salvo_kafka_claim *salvo_kafka_claim_find(const salvo_kafka_consumer *c, const char *topic,
                                          int32_t partition);
salvo_kafka_claim *salvo_kafka_claim_of(salvo_kafka_consumer *c, const rd_kafka_message_t *m);
/* The slot of `old` (its claim ends), or a free one. NULL: no memory. */
salvo_kafka_claim *salvo_kafka_claim_begin(salvo_kafka_consumer *c, const char *topic,
                                           int32_t partition);
void salvo_kafka_claim_end(salvo_kafka_consumer *c, salvo_kafka_claim *claim);
/* The same partition under a new claim, reading from `position` (-1: not known). */
void salvo_kafka_claim_renew(salvo_kafka_consumer *c, salvo_kafka_claim *claim,
                             int64_t position);
/* Have librdkafka fetch it, or not, as its state says. */
void salvo_kafka_claim_fetching(salvo_kafka_consumer *c, salvo_kafka_claim *claim);
void salvo_kafka_claims_free(salvo_kafka_consumer *c);
/* How partitions are given and taken: by increments. False too where the group has ended. */
bool salvo_kafka_is_cooperative(const salvo_kafka_consumer *c);
/* Their messages go to the queue of messages. Before they are assigned. */
void salvo_kafka_forward(salvo_kafka_consumer *c, const rd_kafka_topic_partition_list_t *list);
void salvo_kafka_rebalance(salvo_kafka_consumer *c, rd_kafka_event_t *event);
/* Go on with giving partitions away, as far as it can be done now. */
void salvo_kafka_leave(salvo_kafka_consumer *c);
/* Give them away at once, without a commit. */
void salvo_kafka_leave_now(salvo_kafka_consumer *c);
/* Fetching of full windows stops, and goes on when there is room. */
void salvo_kafka_claim_balance(salvo_kafka_consumer *c, salvo_kafka_claim *claim);

/* kafka_consumer_commit.c */
void salvo_kafka_pass_markers(salvo_kafka_consumer *c, salvo_kafka_claim *claim);
bool salvo_kafka_claim_is_dirty(const salvo_kafka_claim *claim);
/* What may be committed now, of every dirty claim; NULL: nothing, or no memory. */
rd_kafka_topic_partition_list_t *salvo_kafka_offsets(salvo_kafka_consumer *c);
/* The broker has these. */
void salvo_kafka_offsets_known(salvo_kafka_consumer *c,
                               const rd_kafka_topic_partition_list_t *offsets);
/* Send a commit where something is to be committed and none is out. False: nothing to do. */
bool salvo_kafka_commit_begin(salvo_kafka_consumer *c);
/* Take what answers are there; waits for one up to timeout_ms. */
void salvo_kafka_commit_answers(salvo_kafka_consumer *c, int timeout_ms);
void salvo_kafka_commit_due(salvo_kafka_consumer *c);
int salvo_kafka_commit(void *handle, uint64_t timeout_ms, char *error, size_t error_size);

/* kafka_consumer_offsets.c */
int salvo_kafka_seek(void *handle, const char *topic, int32_t partition, int64_t offset,
                     char *error, size_t error_size);
int salvo_kafka_rewind(void *handle, char *error, size_t error_size);
int salvo_kafka_pause(void *handle, const char *topic, int32_t partition, bool paused,
                      char *error, size_t error_size);
bool salvo_kafka_is_paused(const salvo_kafka_consumer *c, const char *topic, int32_t partition);
int64_t salvo_kafka_lag(void *handle, salvo_lag *lags, size_t max, uint64_t timeout_ms,
                        char *error, size_t error_size);

/* kafka_consumer_events.c */
void salvo_kafka_consumer_events(salvo_kafka_consumer *c);
/* A message that is an error. */
void salvo_kafka_consumer_error(salvo_kafka_consumer *c, rd_kafka_resp_err_t err,
                                const char *topic, int32_t partition, const char *text);
/* A broker has answered what was asked after it was down: an answer of before says nothing. */
void salvo_kafka_consumer_up(salvo_kafka_consumer *c);
void salvo_kafka_consumer_found(salvo_kafka_consumer *c, const char *topic);
void salvo_kafka_consumer_probe(salvo_kafka_consumer *c);

extern const salvo_driver_consumer_ops salvo_kafka_consumer_ops;

/* kafka_transaction.c asks a transactional consumer: what its transaction settles, by which group.
 * 0, or SALVO_ERR_TRANSIENT: messages were lost to another member meanwhile. *offsets NULL:
 * nothing is to be settled. */
int salvo_kafka_consumer_settle(salvo_kafka_consumer *c,
                                rd_kafka_topic_partition_list_t **offsets,
                                rd_kafka_consumer_group_metadata_t **group, char *error,
                                size_t error_size);

extern const salvo_driver_transaction_ops salvo_kafka_transaction_ops;

#endif
