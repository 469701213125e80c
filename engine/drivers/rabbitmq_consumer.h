/* SPDX-License-Identifier: Apache-2.0
 *
 * A RabbitMQ consumer's handle, as its files share it. The polling thread, but where it says so.
 *
 *   one connection:  channel 1: basic.qos, basic.consume of each queue, deliveries, acks
 *                    channel 2: queue.declare, so that its errors close no deliveries' channel
 *
 *   frames -> parcel (a message as it came) -> poll: record
 *
 * A claim is one life of channel 1, over all queues: when it ends, the server gives all that was
 * not acknowledged to whoever consumes. What it had then been told, and what not, is not known to
 * us: acknowledgements that were under way may be lost, and their messages come again.
 */
#ifndef SALVO_RABBITMQ_CONSUMER_H
#define SALVO_RABBITMQ_CONSUMER_H

#include "driver_consumer.h"
#include "io_set.h"
#include "rabbitmq_internal.h"
#include "rabbitmq_record.h"
#include "rabbitmq_tags.h"

enum { SALVO_RABBITMQ_CONSUMING = 1 /* the channel; SALVO_RABBITMQ_DECLARING is the other */ };

typedef enum salvo_rabbitmq_channel {
    SALVO_RABBITMQ_CHANNEL_NONE,
    SALVO_RABBITMQ_CHANNEL_OPENING,
    SALVO_RABBITMQ_CHANNEL_QOS, /* asked for */
    SALVO_RABBITMQ_CHANNEL_OPEN,
    SALVO_RABBITMQ_CHANNEL_CLOSING /* by us: what comes until close-ok is void */
} salvo_rabbitmq_channel;

typedef enum salvo_rabbitmq_subscribed {
    SALVO_RABBITMQ_NOT_SUBSCRIBED,
    SALVO_RABBITMQ_SUBSCRIBING,
    SALVO_RABBITMQ_SUBSCRIBED,
    SALVO_RABBITMQ_CANCELLING
} salvo_rabbitmq_subscribed;

typedef struct salvo_rabbitmq_queue {
    char *topic;
    const char *name; /* topic, or rabbitmq_routing_key */
    char tag[256];    /* the consumer's */
    bool there, passive, paused;
    salvo_rabbitmq_subscribed subscribed;
    int error; /* why the server refuses it; asked again at retry_ns */
    char why[160];
    uint64_t retry_ns;
} salvo_rabbitmq_queue;

typedef struct salvo_rabbitmq_parcel {
    struct salvo_rabbitmq_parcel *next;
    uint64_t tag;
    uint32_t queue;
    bool redelivered;
    uint32_t header_len;
    uint8_t *header; /* the content header's payload */
    uint8_t *body;
    uint64_t body_len; /* as announced */
    size_t got, room;  /* of it */
} salvo_rabbitmq_parcel;

typedef struct salvo_rabbitmq_consumer {
    const salvo_consumer_env *env;
    salvo_rabbitmq_link link;
    salvo_io_set set;
    bool manual, closing, waiting; /* waiting: for an answer; nothing is held back */
    bool connecting, up;
    uint32_t attempts;
    uint64_t connect_ns;

    salvo_rabbitmq_queue *queues;
    uint32_t queue_count;
    uint32_t declaring;   /* the queue that was asked for; UINT32_MAX: none */
    uint32_t subscribing; /* the same */
    bool declare_open;
    salvo_rabbitmq_channel channel;
    uint64_t channel_ns; /* not opened before */
    uint32_t confirming; /* basic.qos under way only to hear that all before it arrived */

    uint32_t claim, ended; /* ended: to be told (revoked); 0: none */
    salvo_rabbitmq_tags tags;
    bool unconfirmed;      /* acks went out, and nothing was answered behind them */
    uint64_t apart_ns;     /* since when some are settled apart; 0: none */
    salvo_rabbitmq_parcel *receiving, *first, *last, *shown;
    bool header_seen;
    size_t buffered_bytes;
    salvo_rabbitmq_record *records; /* of what the last poll gave */
    size_t record_room;
    int64_t offset;

    pthread_mutex_t lock;
    char state[SALVO_RABBITMQ_TEXT_BYTES]; /* under lock */
} salvo_rabbitmq_consumer;

extern const salvo_driver_consumer_ops salvo_rabbitmq_consumer_ops;

/* rabbitmq_consumer_frames.c */
void salvo_rabbitmq_consumer_frame(void *context, const salvo_rabbitmq_frame *frame);
/* Channel 1 is no more: its messages are no longer ours. */
void salvo_rabbitmq_consumer_over(salvo_rabbitmq_consumer *c);
void salvo_rabbitmq_parcel_free(salvo_rabbitmq_parcel *parcel);
bool salvo_rabbitmq_requeue(salvo_rabbitmq_consumer *c, uint64_t tag);

/* rabbitmq_consumer_queues.c: what is to be asked for next. */
void salvo_rabbitmq_consumer_queues_step(salvo_rabbitmq_consumer *c, uint64_t now_ns);
void salvo_rabbitmq_consumer_declaring_frame(salvo_rabbitmq_consumer *c,
                                             const salvo_rabbitmq_frame *frame);
bool salvo_rabbitmq_consumer_qos(salvo_rabbitmq_consumer *c);
void salvo_rabbitmq_queue_refused(salvo_rabbitmq_consumer *c, salvo_rabbitmq_queue *q,
                                  const amqp_channel_close_t *close, uint64_t pause_ms);

#endif
