/* SPDX-License-Identifier: Apache-2.0
 *
 * The consumer handle: what consumer.c and consumer_open.c share, and who may touch what.
 *
 * The handle is a page of its own, wiped in a forked child (MADV_WIPEONFORK) and never unmapped,
 * as a producer's is: so `live` can be asked after fork and after close.
 *
 *   busy      somebody runs a slot of the driver's handle; at most one at a time
 *   visitors  threads that wait to be it and go before a poll that waits
 *   callers   threads inside a call that uses the handle; close waits for them
 * All three under `gate`. Acknowledging takes only the hand's own mutex.
 */
#ifndef SALVO_CONSUMER_INTERNAL_H
#define SALVO_CONSUMER_INTERNAL_H

#include "consumer.h"
#include "consumer_hand.h"
#include "wait.h"

#include <pthread.h>
#include <stdatomic.h>

enum { /* live; a wiped page reads 0 */
    SALVO_CONSUMER_FORKED = 0,
    SALVO_CONSUMER_OPEN = 1,
    SALVO_CONSUMER_CLOSED = 2 /* or closing */
};

enum { SALVO_CONSUMER_COUNTS = SALVO_COUNT_ASSIGNED + 1 };

struct salvo_consumer {
    _Atomic uint32_t live;
    _Atomic uint32_t woken; /* by salvo_consumer_wake(), not yet noticed by a poll */
    _Atomic uint32_t wakers; /* inside salvo_consumer_wake(), which takes no lock; close waits */
    const salvo_driver_ops *driver;
    const salvo_driver_consumer_ops *ops;
    void *handle;
    salvo_config *config;           /* a copy of the user's */
    salvo_consumer_options options; /* complete; what it points to is ours */
    salvo_consumer_env env;
    salvo_hand hand;
    salvo_event room; /* moves when something was acknowledged, or on wake */
    uint32_t most_at_once;
    uint32_t array_room;
    salvo_driver_delivery *given; /* [array_room], of the last poll */
    salvo_delivered *delivered;
    _Atomic int64_t counts[SALVO_CONSUMER_COUNTS];

    pthread_mutex_t gate;
    pthread_cond_t changed; /* of what the gate guards */
    bool busy, polling;
    uint32_t visitors, callers;
};

/* 0, SALVO_ERR_INVALID (NULL), _FORKED or _CLOSED, with the text set. */
int salvo_consumer_check(const salvo_consumer *consumer, const char *call);

/* The alone of consumer.h, for those who hold a call already. */
void salvo_consumer_alone(salvo_consumer *consumer);
void salvo_consumer_pass_acks(salvo_consumer *consumer);
void salvo_consumer_end_alone(salvo_consumer *consumer);

/* Set the thread's last error to text, or to err's own where there is none. Returns err. */
int salvo_consumer_failed(int err, const char *text);

#endif
