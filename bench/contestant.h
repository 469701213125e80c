/* SPDX-License-Identifier: Apache-2.0
 *
 * Salvo and librdkafka behind one small face, with the same settings (acks=all, idempotence,
 * linger, no compression; all else each one's defaults). Guarantees: contestant_close ends the
 * benchmark when a message that was accepted was not acknowledged: no figure counts lost work.
 */
#ifndef BENCH_CONTESTANT_H
#define BENCH_CONTESTANT_H

#include "peer_rdkafka.h"
#include <salvo/salvo.h>
#include <stdbool.h>
#include <string.h>

/* COPY sends nothing: it copies the bytes to the next place of a buffer as large as a ring, in huge
 * pages like one. What it takes is the machine's share of every figure, the floor. */
typedef enum contestant_kind {
    SALVO, RDKAFKA, BY_HAND, CONTESTANTS, COPY = CONTESTANTS
} contestant_kind;
extern const char *const contestant_names[CONTESTANTS + 1];
enum { COPY_BYTES = 4 << 20, COPY_STEP_BYTES = 128 };
extern _Thread_local char *contestant_copy;

typedef struct contestant {
    contestant_kind kind;
    salvo *producer;
    salvo_topic topic;
    peer peer;
    uint64_t acknowledged; /* after contestant_close */
} contestant;

typedef struct contestant_options {
    const char *address, *topic;
    double linger_ms;
    const char *set;         /* "key=value,key=value" on top of Salvo's defaults, or NULL */
    uint32_t queue_messages; /* of librdkafka's queue; see peer_options */
} contestant_options;

void contestant_open(contestant *c, contestant_kind kind, const contestant_options *options);
void contestant_attach(contestant *c); /* each sending thread, first */
/* Waits until all that was sent is acknowledged. */
void contestant_flush(contestant *c);
void contestant_close(contestant *c, uint64_t expected);

/* A producer alone, for drivers other than Kafka. */
salvo *bench_salvo_open(const char *driver, const char *address, double linger_ms,
                        const char *set);

/* 0, or not 0 when refused. Meant to be inlined with a constant kind. */
static inline int contestant_send(contestant *c, contestant_kind kind, const void *key,
                                  size_t key_len, void *value, size_t value_len)
{
    if (kind == COPY) {
        static _Thread_local size_t at;
        memcpy(contestant_copy + at, value, value_len);
        at = (at + COPY_STEP_BYTES) % COPY_BYTES;
        return 0;
    }
    if (kind == SALVO)
        return salvo_send_fire_and_forget(c->producer, c->topic, key, key_len, value, value_len);
    return peer_send(&c->peer, key, key_len, value, value_len);
}

#endif
