/* SPDX-License-Identifier: Apache-2.0
 *
 * The RabbitMQ driver's handle, shared by its files. The flusher owns all of it but the text of
 * state(), which is under `lock`.
 *
 *   submit -> slots -> publish -> out[] -- ack -----> recorded in its slot
 *                        ^         |---- return -> recorded, refused for good
 *                        |         |---- nack ---.
 *                        '--- again[] <----------'-- channel or connection lost
 *
 * out[] is indexed by delivery tag and spans at most `window` tags; again[] goes first, ordered
 * by seq, which counts messages in the order they were taken from the slots. out[] and again[]
 * together hold at most `window` messages.
 */
#ifndef SALVO_RABBITMQ_INTERNAL_H
#define SALVO_RABBITMQ_INTERNAL_H

#include "compress.h"
#include "rabbitmq_link.h"
#include "rabbitmq_slots.h"
#include <pthread.h>

enum {
    SALVO_RABBITMQ_PUBLISHING = 1, /* channels */
    SALVO_RABBITMQ_DECLARING = 2,
    SALVO_RABBITMQ_ID_LEN = 16 + 1 + 12 /* hex: of this handle, '-', of the message */
};

/* Names of headers that carry what AMQP has no property for. */
#define SALVO_RABBITMQ_KEY "salvo-key"
#define SALVO_RABBITMQ_NULL "salvo-null"
#define SALVO_RABBITMQ_MS "timestamp_in_ms"

typedef enum salvo_rabbitmq_declared {
    SALVO_RABBITMQ_UNDECLARED,
    SALVO_RABBITMQ_ASKED,         /* declared, waiting for the answer */
    SALVO_RABBITMQ_ASKED_PASSIVE, /* it exists otherwise, or is not ours to make: is it there? */
    SALVO_RABBITMQ_DECLARED,
    SALVO_RABBITMQ_REFUSED        /* asked again at retry_ns */
} salvo_rabbitmq_declared;

typedef struct salvo_rabbitmq_topic {
    char *name; /* NULL: not known */
    const salvo_driver_topic *options;
    const char *exchange, *routing_key; /* routing_key: also the queue of the default exchange */
    uint8_t *method; /* basic.publish in a frame */
    size_t method_len;
    salvo_rabbitmq_declared declared;
    bool passive; /* the next declaration */
    bool known;   /* was declared once */
    int error;    /* of REFUSED */
    uint64_t retry_ns;
} salvo_rabbitmq_topic;

typedef struct salvo_rabbitmq_entry {
    uint64_t seq;
    uint64_t begin, end;    /* its place in the connection's bytes; end UINT64_MAX: being written;
                               begin UINT64_MAX: the server is through with its tag */
    salvo_driver_cursor at; /* before the message */
    uint32_t slot, index;   /* NO_SLOT: settled */
    bool maybe;             /* an earlier attempt may have arrived */
    bool alone;             /* it was published with nothing else on its way */
} salvo_rabbitmq_entry;

/* A message whose frames did not all fit at once. */
typedef struct salvo_rabbitmq_writer {
    bool active, stable;
    const uint8_t *body;
    size_t left;     /* of the body */
    size_t chunk;    /* of the current frame; 0: none is begun */
    unsigned piece;  /* of it: 1 body, 2 end */
} salvo_rabbitmq_writer;

typedef struct salvo_rabbitmq_returned { /* basic.return and the content that follows it */
    bool active, header_seen;
    uint16_t code;
    uint64_t left;
    char text[128];
} salvo_rabbitmq_returned;

typedef enum salvo_rabbitmq_shown {
    SALVO_RABBITMQ_SHOWN_NONE,
    SALVO_RABBITMQ_SHOWN_CONNECTING,
    SALVO_RABBITMQ_SHOWN_UP,
    SALVO_RABBITMQ_SHOWN_BLOCKED
} salvo_rabbitmq_shown;

typedef struct salvo_rabbitmq {
    const salvo_driver_env *env;
    salvo_rabbitmq_link link;
    bool connecting;   /* or connected */
    bool up;           /* the login ended: channels were asked for */
    bool ready;        /* confirm.select-ok came: messages may be published */
    bool declare_open; /* the declaring channel is */
    bool purged;
    uint32_t attempts;
    uint64_t connect_ns, refused_since_ns;
    uint64_t earliest_ns; /* no batch that is out has a deadline before */

    salvo_rabbitmq_topic *topics; /* by the producer's id */
    uint32_t *listed;             /* ids in the order they came */
    uint32_t listed_count;
    uint32_t asked;               /* topic whose declaration is on its way; UINT32_MAX: none */
    bool declare_due;             /* some topic may want to be declared */

    salvo_rabbitmq_slots slots;
    salvo_rabbitmq_entry *out;    /* of tag t at t & out_mask */
    uint64_t out_mask, first_tag, next_tag;
    salvo_rabbitmq_entry *again;
    uint32_t again_head, again_count, again_room;
    uint32_t window;
    uint64_t again_ns;            /* not before */
    uint32_t nacks;               /* in a row */
    uint32_t careful;             /* so many of again[] are published one at a time */
    uint64_t stable_end;          /* up to here the connection may look into batches */
    uint64_t nack_logged_ns, return_logged_ns;

    salvo_rabbitmq_writer writer;
    salvo_rabbitmq_returned returned;
    uint64_t seq;
    char id[SALVO_RABBITMQ_ID_LEN + 1];
    int64_t wall_s; /* for messages without a time of their own */
    uint8_t *scratch; /* compressed values */
    size_t scratch_bytes;
    struct { const salvo_codec *codec; void *context; } codecs[4];

    pthread_mutex_t lock;
    char state[SALVO_RABBITMQ_TEXT_BYTES]; /* under lock */
    bool down_logged;
    salvo_rabbitmq_shown shown;
} salvo_rabbitmq;

static inline uint64_t salvo_rabbitmq_now(const salvo_rabbitmq *r)
{
    return r->env->now_ns(r->env->clock);
}

/* Doubles from `first` up to retry_backoff_max_ms, minus up to a quarter. (rabbitmq.c) */
uint64_t salvo_rabbitmq_backoff_ns(const salvo_rabbitmq *r, const char *first, uint32_t attempts);

/* rabbitmq_publish.c: as much as window, room and topics allow. True: something was put. */
bool salvo_rabbitmq_publish(salvo_rabbitmq *r);
void salvo_rabbitmq_publish_close(salvo_rabbitmq *r);

/* rabbitmq_message.c: one message's frames up to its body; < 0: it can never be sent. */
typedef struct salvo_rabbitmq_content {
    const salvo_driver_message *message;
    const salvo_rabbitmq_topic *topic;
    const char *encoding; /* content-encoding; NULL: none */
    const void *body;
    size_t body_len;
    uint64_t seq;
} salvo_rabbitmq_content;
int64_t salvo_rabbitmq_head_bytes(const salvo_rabbitmq *r, const salvo_rabbitmq_content *content);
uint8_t *salvo_rabbitmq_head_write(const salvo_rabbitmq *r, const salvo_rabbitmq_content *content,
                                   uint8_t *at);
bool salvo_rabbitmq_id_parse(const salvo_rabbitmq *r, amqp_bytes_t id, uint64_t *seq);

/* rabbitmq_confirm.c: frames of the publishing channel; losing it. */
void salvo_rabbitmq_publishing_frame(salvo_rabbitmq *r, const salvo_rabbitmq_frame *frame);
void salvo_rabbitmq_out_lost(salvo_rabbitmq *r, uint64_t bytes_sent);
void salvo_rabbitmq_entry_settle(salvo_rabbitmq *r, salvo_rabbitmq_entry *entry, int32_t status);
void salvo_rabbitmq_out_trim(salvo_rabbitmq *r);

/* rabbitmq_topics.c */
int salvo_rabbitmq_topic_add(salvo_rabbitmq *r, uint32_t id, const char *name,
                             const salvo_driver_topic *options);
void salvo_rabbitmq_topics_close(salvo_rabbitmq *r);
void salvo_rabbitmq_topics_forget(salvo_rabbitmq *r); /* what a new connection must declare */
void salvo_rabbitmq_topics_step(salvo_rabbitmq *r);
void salvo_rabbitmq_topic_again(salvo_rabbitmq *r, uint32_t id);
void salvo_rabbitmq_declaring_frame(salvo_rabbitmq *r, const salvo_rabbitmq_frame *frame);

/* rabbitmq_channel.c: the connection comes and goes. */
bool salvo_rabbitmq_channel_step(salvo_rabbitmq *r);
void salvo_rabbitmq_lost(salvo_rabbitmq *r);
void salvo_rabbitmq_state_set(salvo_rabbitmq *r, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* rabbitmq_reader.c */
int salvo_rabbitmq_reader_open(const salvo_config *config, void *shared, const char *topic,
                               const salvo_reader_options *options, void **reader, char *error,
                               size_t error_size);
int salvo_rabbitmq_reader_next(void *reader, uint64_t timeout_ms, salvo_record *record, char *error,
                               size_t error_size);
void salvo_rabbitmq_reader_close(void *reader);

#endif
