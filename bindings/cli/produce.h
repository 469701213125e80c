/* SPDX-License-Identifier: Apache-2.0
 *
 * The inside of `salvo produce`. One reader thread cuts its input into lines and hands parcels of
 * lines to the sending threads over bounded queues. A parcel points into a block of input; the
 * last parcel of a block frees it, so no line is copied on its way to the engine.
 *
 * Order: a parcel's lines are sent in order, a queue keeps the order of its parcels, and a key
 * always selects the same queue. So lines with the same key stay in order with any number of
 * threads, and all lines do with one.
 */
#ifndef SALVO_CLI_PRODUCE_H
#define SALVO_CLI_PRODUCE_H

#include "avro.h"
#include "cli.h"

#include <pthread.h>
#include <stdatomic.h>

#define PRODUCE_MAX_THREADS 64u
#define PRODUCE_MAX_HEADERS 64u
#define PRODUCE_BLOCK_BYTES (256u << 10)
#define PRODUCE_PARCEL_LINES 16384u
#define PRODUCE_QUEUE_PARCELS 4u

typedef struct produce_slab {
    struct produce_slab *next;
    size_t used, size;
    char bytes[];
} produce_slab;

typedef struct produce_block {
    atomic_uint references; /* the reader's, and one per parcel */
    char *bytes;
    size_t size, used;
    produce_slab *slabs; /* keys that do not lie in the input as they are; the reader's */
} produce_block;

typedef struct produce_parcel {
    struct produce_parcel *next;
    produce_block *block;
    const char *file;
    salvo_bytes *values;
    salvo_bytes *keys; /* NULL: this input has no keys; data NULL: this line has none */
    uint64_t *lines;   /* numbers from 1, for errors */
    size_t count, room;
} produce_parcel;

typedef struct produce_queue {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    produce_parcel *head, *tail;
    unsigned count;
    bool closed;
} produce_queue;

typedef struct produce_options {
    salvo_cli_settings settings;
    const char *topic; /* NULL: default_topic */
    const char *key_field, *key_delimiter;
    size_t key_delimiter_len;
    salvo_header headers[PRODUCE_MAX_HEADERS];
    size_t header_count;
    int64_t partition; /* -1: any */
    uint64_t rate;     /* messages a second; 0: as fast as it goes */
    uint64_t threads, flush_timeout_ms, drain_timeout_ms;
    const char *percentiles;
    const char *avro; /* the file of a schema: lines are JSON, values become Avro */
    char **files;
    size_t file_count;
    bool ndjson, skip_invalid, skip_empty, quiet, json, require_broker;
} produce_options;

typedef struct produce_job {
    const produce_options *options;
    salvo *producer;
    salvo_topic topic;
    const char *topic_name, *broker;
    salvo_cli_avro *avro; /* NULL: lines go as they are; the reader's */
    uint64_t max_message_bytes;
    uint64_t send_timeout_ms; /* longest a message waits for room; 0: as long as it takes */
    bool blocking;            /* the full policy is `block` */
    int done_fd;              /* readable when a thread ended */
    uint64_t start_ns;
    atomic_bool stop;         /* nothing more is read or sent; what was accepted is delivered */
    atomic_bool failed;       /* an error was told */
    atomic_uint running;      /* threads that have not ended */
    _Atomic uint64_t next_ps; /* pacing: when the next message is due, from start_ns */
    atomic_uint_least64_t sent, lost; /* accepted; refused for good */
    /* The reader's, read after it was joined: */
    uint64_t lines, skipped_invalid, skipped_empty, handed;
    produce_queue queues[PRODUCE_MAX_THREADS];
} produce_job;

/* produce_queue.c */
produce_block *salvo_produce_block_new(size_t size);
void salvo_produce_block_release(produce_block *block);
char *salvo_produce_block_store(produce_block *block, const char *text, size_t len);
produce_parcel *salvo_produce_parcel_new(produce_block *block, const char *file, bool keyed);
void salvo_produce_parcel_add(produce_parcel *parcel, salvo_bytes value, salvo_bytes key,
                              uint64_t line);
void salvo_produce_parcel_free(produce_parcel *parcel);
void salvo_produce_queue_init(produce_queue *queue);
void salvo_produce_queue_push(produce_queue *queue, produce_parcel *parcel); /* waits for room */
produce_parcel *salvo_produce_queue_pop(produce_queue *queue); /* waits; NULL: closed and empty */
void salvo_produce_queue_close(produce_queue *queue);

/* produce_key.c: checks one line and finds its key; false with a text for people. */
bool salvo_produce_key(const produce_options *options, produce_block *block, salvo_bytes *value,
                       salvo_bytes *key, char *error, size_t error_size);

/* produce_input.c, produce_send.c: the threads; context is the job or the sender. */
void *salvo_produce_read(void *job);
typedef struct produce_sender {
    produce_job *job;
    produce_queue *queue;
} produce_sender;
void *salvo_produce_send(void *sender);
void salvo_produce_thread_ended(produce_job *job);

/* Tell the first failure of a job, and stop it. */
void salvo_produce_fail(produce_job *job, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* produce_report.c */
typedef struct produce_result {
    salvo_stats stats; /* before the close: the histograms */
    salvo_ledger ledger;
    double seconds;
    uint64_t not_sent;
    int status;
} produce_result;
void salvo_produce_report(const produce_job *job, const produce_result *result);
void salvo_produce_report_json(const produce_job *job, const produce_result *result);

#endif
