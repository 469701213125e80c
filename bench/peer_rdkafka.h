/* SPDX-License-Identifier: Apache-2.0
 *
 * The peer: librdkafka as a careful application uses it, with Salvo's settings (acks=all,
 * idempotence, linger, murmur2 keys, no compression). Delivery reports are taken in batches of
 * events by a thread of its own; the queue is so large, or
 * waits, that nothing is refused.
 */
#ifndef BENCH_PEER_RDKAFKA_H
#define BENCH_PEER_RDKAFKA_H

#include <librdkafka/rdkafka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

typedef struct peer {
    rd_kafka_t *rk;
    rd_kafka_topic_t *rkt;
    rd_kafka_queue_t *queue;
    pthread_t reporter;
    int flags; /* of rd_kafka_produce */
    _Atomic int stop;
    _Atomic uint64_t acknowledged, failed;
} peer;

typedef struct peer_options { /* zero: the default */
    double linger_ms;
    int only_errors;          /* reports of failures only */
    uint32_t queue_messages;  /* 0: so many that nothing is refused; else a full queue blocks */
    uint32_t batch_bytes;     /* 0: librdkafka's own default */
} peer_options;

void peer_open(peer *p, const char *address, const char *topic, const peer_options *options);
/* Waits until all that was produced is settled; 0, or -1 after timeout_ms. */
int peer_flush(peer *p, int timeout_ms);
void peer_close(peer *p);

/* One message, copied, as salvo_send_fire_and_forget does it; 0 or -1 when refused. */
static inline int peer_send(peer *p, const void *key, size_t key_len, void *value,
                            size_t value_len)
{
    return rd_kafka_produce(p->rkt, RD_KAFKA_PARTITION_UA, p->flags, value, value_len, key, key_len,
                            NULL);
}

#endif
