/* SPDX-License-Identifier: Apache-2.0
 *
 * The Kafka driver's handle, shared by its files. Threads: the flusher owns everything but the
 * topics' helper thread (kafka_topics.c), which resolves metadata since librdkafka blocks for
 * it, and state(), which any thread may call. What they share is atomic or under `lock`.
 */
#ifndef SALVO_KAFKA_INTERNAL_H
#define SALVO_KAFKA_INTERNAL_H

#include "kafka_slots.h"
#include <pthread.h>
#include <stdatomic.h>

#define SALVO_KAFKA_REASON_BYTES 256

typedef struct salvo_kafka_topic {
    char *name; /* name and rkt: written by the flusher before the topic is listed */
    rd_kafka_topic_t *rkt;
    _Atomic int32_t partitions; /* > 0, 0 not known yet, or an error; written by the helper */
    uint64_t next_ns, unknown_since_ns, backoff_ns; /* the helper's */
    bool refused_logged;
} salvo_kafka_topic;

typedef enum salvo_kafka_link { SALVO_KAFKA_CONNECTING, SALVO_KAFKA_UP, SALVO_KAFKA_DOWN }
    salvo_kafka_link;

typedef struct salvo_kafka {
    const salvo_driver_env *env;
    rd_kafka_t *rk;
    rd_kafka_queue_t *queue;
    int event_fd;
    salvo_kafka_mode mode;
    bool abandoned; /* given up: later reports of librdkafka are nobody's */
    bool fatal_told;
    rd_kafka_resp_err_t fatal_error;
    uint64_t fatal_since_ns;
    bool inflight_purged;
    uint64_t cost_limit, bytes_limit, messages_limit;
    salvo_kafka_slots slots;
    rd_kafka_message_t *scratch; /* for submit */

    salvo_kafka_topic *topics; /* by the producer's id */
    uint32_t *listed;          /* ids in the order they came */
    uint32_t listed_count;     /* under lock */
    uint64_t refresh_ns;
    pthread_t helper;
    bool helper_runs, helper_stop; /* stop: under lock */
    bool push_wanted;              /* under lock */
    pthread_mutex_t lock;
    pthread_cond_t wake_helper;

    _Atomic int link;                 /* salvo_kafka_link */
    char reason[SALVO_KAFKA_REASON_BYTES]; /* of DOWN; under lock */
    _Atomic uint64_t refused_since_ns; /* authentication fails since; 0: it does not */
} salvo_kafka;

/* kafka_topics.c */
int salvo_kafka_topics_start(salvo_kafka *kafka);
void salvo_kafka_topics_stop(salvo_kafka *kafka);
int salvo_kafka_topic_add(salvo_kafka *kafka, uint32_t id, const char *name);
int salvo_kafka_topic_partitions(salvo_kafka *kafka, uint32_t id);
/* Have the helper send what librdkafka lets linger. Flusher; does not wait for it. */
void salvo_kafka_push(salvo_kafka *kafka);

/* kafka_events.c */
void salvo_kafka_link_up(salvo_kafka *kafka);
void salvo_kafka_begin_fatal(salvo_kafka *kafka);
/* Take one event off the queue and act on it; waits for it up to timeout_ms. False: none came. */
bool salvo_kafka_event(salvo_kafka *kafka, int timeout_ms);

/* kafka_reader.c */
int salvo_kafka_reader_open(const salvo_config *config, void *shared, const char *topic,
                            const salvo_reader_options *options, void **reader, char *error,
                            size_t error_size);
int salvo_kafka_reader_next(void *reader, uint64_t timeout_ms, salvo_record *record, char *error,
                            size_t error_size);
void salvo_kafka_reader_close(void *reader);

/* A message's opaque value tells its slot and its place in the batch. */
_Static_assert(sizeof(void *) == 8, "slot and index share one pointer");
static inline void *salvo_kafka_opaque(uint32_t slot, uint32_t index)
{
    return (void *)((uintptr_t)slot << 32 | index);
}

#endif
