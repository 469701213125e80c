/* SPDX-License-Identifier: Apache-2.0
 *
 * kafka_client.h. Nothing here keeps state.
 */
#include "kafka_client.h"
#include "clock.h"
#include "error.h"
#include "kafka_slots.h"
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define MS UINT64_C(1000000)
#define DESTROY_WAIT_S 10
#define SLICE_MS 200

static void *destroy(void *rk)
{
    rd_kafka_destroy_flags(rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    return NULL;
}

void salvo_kafka_client_destroy(rd_kafka_t *rk, salvo_kafka_log *log)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, destroy, rk)) {
        destroy(rk);
        return;
    }
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += DESTROY_WAIT_S;
    if (pthread_timedjoin_np(thread, NULL, &until) == 0)
        return;
    pthread_detach(thread);
    log(SALVO_LOG_WARNING, "kafka: librdkafka's threads did not end within %d s; left to end by "
                           "themselves", DESTROY_WAIT_S);
}

int salvo_kafka_client_level(const char *facility, int level)
{
    /* CONFWARN: a property for producers that passes through to a consumer, or the reverse. */
    if (strcmp(facility, "CONFWARN") == 0)
        return SALVO_LOG_DEBUG;
    if (strcmp(facility, "FAIL") == 0 || strcmp(facility, "GETPID") == 0)
        return SALVO_LOG_INFO;
    return level < SALVO_LOG_ERROR ? SALVO_LOG_ERROR : level;
}

bool salvo_kafka_passes(rd_kafka_resp_err_t err)
{
    switch ((int)err) {
    case RD_KAFKA_RESP_ERR__TRANSPORT:
    case RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN:
    case RD_KAFKA_RESP_ERR__TIMED_OUT:
    case RD_KAFKA_RESP_ERR__TIMED_OUT_QUEUE:
    case RD_KAFKA_RESP_ERR__WAIT_COORD:
    case RD_KAFKA_RESP_ERR__IN_PROGRESS:
    case RD_KAFKA_RESP_ERR__PREV_IN_PROGRESS:
    case RD_KAFKA_RESP_ERR__RETRY:
    case RD_KAFKA_RESP_ERR__STATE: /* the partition is not being fetched yet */
    case RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS:
    case RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE:
    case RD_KAFKA_RESP_ERR_NOT_COORDINATOR:
    case RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS:
    case RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT:
    case RD_KAFKA_RESP_ERR_NETWORK_EXCEPTION:
    case RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE:
    case RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION:
    case RD_KAFKA_RESP_ERR_UNSTABLE_OFFSET_COMMIT:
    case RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS:
        return true;
    default:
        return false;
    }
}

int salvo_kafka_error_code(rd_kafka_resp_err_t err)
{
    if (salvo_kafka_is_auth(err))
        return SALVO_ERR_AUTH;
    switch ((int)err) {
    case RD_KAFKA_RESP_ERR__FATAL:
    case RD_KAFKA_RESP_ERR__FENCED:
    case RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID:
    case RD_KAFKA_RESP_ERR_PRODUCER_FENCED:
    case RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH:
        return SALVO_ERR_FATAL;
    case RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION: /* the group has moved on without us */
    case RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID:
    case RD_KAFKA_RESP_ERR__ASSIGNMENT_LOST:
        return SALVO_ERR_TRANSIENT;
    default:
        return salvo_kafka_passes(err) ? SALVO_ERR_TRANSIENT : SALVO_ERR_REJECTED;
    }
}

uint64_t salvo_kafka_deadline_ns(uint64_t timeout_ms)
{
    uint64_t now = salvo_clock_monotonic_ns();
    return timeout_ms < (UINT64_MAX - now) / MS ? now + timeout_ms * MS : UINT64_MAX;
}

int salvo_kafka_left_ms(uint64_t deadline_ns)
{
    uint64_t now = salvo_clock_monotonic_ns();
    uint64_t left = now < deadline_ns ? (deadline_ns - now + MS - 1) / MS : 0;
    return left < INT32_MAX / 2 ? (int)left : INT32_MAX / 2;
}

int salvo_kafka_await_broker(const salvo_kafka_waiting *w, char *error, size_t error_size)
{
    uint64_t deadline = salvo_kafka_deadline_ns(w->timeout_ms);
    for (;;) {
        int left = salvo_kafka_left_ms(deadline);
        const struct rd_kafka_metadata *metadata;
        if (!rd_kafka_metadata(w->rk, 0, NULL, &metadata, left < SLICE_MS ? left : SLICE_MS)) {
            rd_kafka_metadata_destroy(metadata);
            return 0;
        }
        w->serve(w->context);
        if (*w->refused) {
            snprintf(error, error_size, "kafka: %s refused our credentials: %s; see "
                     "kafka_security_protocol and kafka_sasl_*", w->servers, w->reason);
            return SALVO_ERR_AUTH;
        }
        if (left == 0) {
            snprintf(error, error_size, "kafka: no broker of kafka_bootstrap_servers = %s "
                     "answered within %u ms%s%s", w->servers, w->timeout_ms,
                     w->reason[0] ? ": " : "", w->reason);
            return SALVO_ERR_UNREACHABLE;
        }
    }
}
