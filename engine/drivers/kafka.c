/* SPDX-License-Identifier: Apache-2.0
 *
 * The Kafka driver, over librdkafka: one handle per flusher. Guarantees: the payload is never
 * copied here and never freed by librdkafka (keys and headers are copied by it); a token comes
 * back once, when librdkafka has reported each of its messages; order per partition is kept
 * through librdkafka's retries with idempotence, or with one request in flight.
 *
 * Refused in the middle of a batch: the credit is below librdkafka's own limits, so its queue is
 * never full in practice (a user's rdkafka.queue.buffering.* lowers the credit too). If it is
 * all the same, nothing more of the batch is offered, so that order holds, and the rest becomes a
 * TRANSIENT range of the outcome: neither lost nor sent twice.
 *
 * Fatal errors of librdkafka: new messages are refused, queued ones come back at once, those in
 * flight when the broker answers or after INFLIGHT_GRACE_NS; then poll says FATAL and the engine
 * re-opens. What was in flight without an answer is sent again by the new handle, which has a new
 * producer id: it can arrive twice, and cannot be lost.
 *
 * The engine's payloads must outlive close(): where purge() ran out of time, a connection may still
 * be writing from them.
 */
#include "clock.h"
#include "config_internal.h"
#include "error.h"
#include "kafka_admin.h"
#include "kafka_config.h"
#include "kafka_consumer.h"
#include "kafka_internal.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define MS UINT64_C(1000000)
#define CHUNK 1024u              /* messages offered at once: their array stays in the cache */
#define MESSAGE_COST_BYTES 256u  /* what librdkafka keeps for a message, key and headers apart */
#define EVENTS_PER_POLL 64       /* so that the flusher gets to its rings */
#define INFLIGHT_GRACE_NS (2000 * MS)
#define DESTROY_WAIT_S 10
/* Request and receive buffers of one connection: five requests of batch.size in flight, and
 * librdkafka's own tables. */
#define OVERHEAD_BYTES (UINT64_C(8) << 20)

static uint32_t kafka_capabilities(const salvo_config *config)
{
    uint32_t all = SALVO_CAP_KEYS | SALVO_CAP_HEADERS | SALVO_CAP_PARTITIONS |
                   SALVO_CAP_TIMESTAMPS | SALVO_CAP_OFFSETS | SALVO_CAP_READ | SALVO_CAP_GROUPS |
                   SALVO_CAP_ORDERED_RETRY | SALVO_CAP_OWN_RETRIES;
    char error[256];
    int err;
    rd_kafka_conf_t *conf =
        salvo_kafka_conf(config, RD_KAFKA_PRODUCER, NULL, &err, error, sizeof error);
    if (!conf)
        return all; /* open will say what is wrong */
    char text[8] = "";
    size_t size = sizeof text;
    rd_kafka_conf_get(conf, "enable.idempotence", text, &size);
    if (strcmp(text, "true") != 0 &&
        salvo_kafka_conf_number(conf, "max.in.flight.requests.per.connection", 1) > 1)
        all &= ~SALVO_CAP_ORDERED_RETRY;
    rd_kafka_conf_destroy(conf);
    return all;
}

static uint64_t kafka_overhead_bytes(const salvo_config *config)
{
    (void)config;
    return OVERHEAD_BYTES;
}

/* --- open and close ------------------------------------------------------------------------ */

static void *destroy_handle(void *rk)
{
    rd_kafka_destroy_flags(rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    return NULL;
}

/* librdkafka waits for its threads, which may hang in name resolution: not longer than this. */
static void destroy_bounded(salvo_kafka *k)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, destroy_handle, k->rk)) {
        destroy_handle(k->rk);
        return;
    }
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += DESTROY_WAIT_S;
    if (pthread_timedjoin_np(thread, NULL, &until) == 0)
        return;
    pthread_detach(thread);
    k->env->log(SALVO_LOG_WARNING, "kafka: librdkafka's threads did not end within %d s; left "
                                   "to end by themselves", DESTROY_WAIT_S);
}

static void kafka_close(void *handle)
{
    salvo_kafka *k = handle;
    salvo_kafka_topics_stop(k);
    if (k->queue) {
        rd_kafka_queue_io_event_enable(k->queue, -1, NULL, 0);
        rd_kafka_queue_destroy(k->queue);
    }
    if (k->rk)
        destroy_bounded(k);
    if (k->event_fd >= 0)
        close(k->event_fd);
    salvo_kafka_slots_free(&k->slots);
    pthread_mutex_destroy(&k->lock);
    free(k->scratch);
    free(k->topics);
    free(k->listed);
    free(k);
}

static salvo_kafka *new_handle(const salvo_driver_env *env)
{
    salvo_kafka *k = calloc(1, sizeof *k);
    if (!k)
        return NULL;
    k->env = env;
    k->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    pthread_mutex_init(&k->lock, NULL);
    k->scratch = calloc(CHUNK, sizeof *k->scratch);
    k->topics = calloc(env->max_topics, sizeof *k->topics);
    k->listed = calloc(env->max_topics, sizeof *k->listed);
    /* Twice: those handed out last are still being read while as many are out. */
    int err = salvo_kafka_slots_init(&k->slots, 2 * env->max_batches);
    if (err || k->event_fd < 0 || !k->scratch || !k->topics || !k->listed) {
        kafka_close(k);
        return NULL;
    }
    return k;
}

static void take_limits(salvo_kafka *k, const rd_kafka_conf_t *conf)
{
    int64_t batch = salvo_config_int(k->env->config, "batch_messages");
    int64_t messages = salvo_kafka_conf_number(conf, "queue.buffering.max.messages", 100000);
    int64_t kbytes = salvo_kafka_conf_number(conf, "queue.buffering.max.kbytes", 1048576);
    int64_t refresh = salvo_kafka_conf_number(conf, "topic.metadata.refresh.interval.ms", 300000);
    k->messages_limit = messages > 0 ? (uint64_t)messages : UINT32_MAX;
    k->bytes_limit = (uint64_t)kbytes * 1024;
    uint64_t least = (uint64_t)batch * MESSAGE_COST_BYTES; /* one batch must always fit */
    k->cost_limit = k->env->queue_bytes > least ? k->env->queue_bytes : least;
    k->refresh_ns = (uint64_t)(refresh > 0 ? refresh : 300000) * MS;
}

static int start(salvo_kafka *k, char *error, size_t error_size)
{
    int err;
    rd_kafka_conf_t *conf = salvo_kafka_conf(k->env->config, RD_KAFKA_PRODUCER, k->env->log,
                                             &err, error, error_size);
    if (!conf)
        return err;
    take_limits(k, conf);
    rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR | RD_KAFKA_EVENT_LOG |
                                       RD_KAFKA_EVENT_STATS);
    char text[384];
    if (rd_kafka_conf_set(conf, "log.queue", "true", text, sizeof text) != RD_KAFKA_CONF_OK ||
        !(k->rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, text, sizeof text))) {
        rd_kafka_conf_destroy(conf);
        snprintf(error, error_size, "kafka: %s", text);
        return SALVO_ERR_CONFIG;
    }
    k->queue = rd_kafka_queue_get_main(k->rk);
    rd_kafka_set_log_queue(k->rk, k->queue);
    static const uint64_t one = 1;
    rd_kafka_queue_io_event_enable(k->queue, k->event_fd, &one, sizeof one);
    err = salvo_kafka_topics_start(k);
    if (err)
        snprintf(error, error_size, "kafka: no memory for the helper thread");
    return err;
}

/* Once per producer: which client does it, where another was asked for. */
static int kafka_open_shared(const salvo_config *config, void **shared, char *error,
                             size_t error_size)
{
    (void)error, (void)error_size;
    *shared = NULL;
    if (!salvo_config_is(config, "kafka_backend", "confluent"))
        salvo_log(SALVO_LOG_INFO, "kafka_backend = %s: this build sends through librdkafka",
                  salvo_config_get(config, "kafka_backend"));
    return 0;
}

static int kafka_open(const salvo_driver_env *env, void **handle, char *error, size_t error_size)
{
    *handle = NULL;
    salvo_kafka *k = new_handle(env);
    if (!k) {
        snprintf(error, error_size, "kafka: no memory or descriptors for a handle");
        return SALVO_ERR_NOMEM;
    }
    int err = start(k, error, error_size);
    if (err) {
        kafka_close(k);
        return err;
    }
    *handle = k;
    return 0;
}

static int kafka_require(void *handle, uint32_t timeout_ms, char *error, size_t error_size)
{
    salvo_kafka *k = handle;
    uint64_t end = salvo_clock_monotonic_ns() + timeout_ms * MS;
    const char *servers = salvo_config_get(k->env->config, "kafka_bootstrap_servers");
    for (;;) {
        uint64_t now = salvo_clock_monotonic_ns();
        uint64_t left = now < end ? (end - now) / MS : 0;
        const struct rd_kafka_metadata *metadata;
        if (!rd_kafka_metadata(k->rk, 0, NULL, &metadata, left < 200 ? (int)left : 200)) {
            rd_kafka_metadata_destroy(metadata);
            salvo_kafka_link_up(k);
            return 0;
        }
        while (salvo_kafka_event(k, 0))
            ;
        pthread_mutex_lock(&k->lock);
        char reason[SALVO_KAFKA_REASON_BYTES];
        snprintf(reason, sizeof reason, "%s", k->reason);
        pthread_mutex_unlock(&k->lock);
        if (atomic_load_explicit(&k->refused_since_ns, memory_order_relaxed)) {
            snprintf(error, error_size, "kafka: %s refused our credentials: %s; see "
                     "kafka_security_protocol and kafka_sasl_*", servers, reason);
            return SALVO_ERR_AUTH;
        }
        if (left == 0) {
            snprintf(error, error_size, "kafka: no broker of kafka_bootstrap_servers = %s "
                     "answered within %u ms%s%s", servers, timeout_ms, reason[0] ? ": " : "",
                     reason);
            return SALVO_ERR_UNREACHABLE;
        }
    }
}

static int kafka_topic(void *handle, uint32_t topic, const char *name,
                           const salvo_driver_topic *options)
{
    (void)options;
    return salvo_kafka_topic_add(handle, topic, name);
}

static int kafka_partitions(void *handle, uint32_t topic)
{
    return salvo_kafka_topic_partitions(handle, topic);
}

/* --- submit -------------------------------------------------------------------------------- */

static void set_readable(salvo_kafka *k)
{
    uint64_t one = 1;
    ssize_t n = write(k->event_fd, &one, sizeof one);
    (void)n; /* fails only where it is readable already */
}

static void reset_readable(salvo_kafka *k)
{
    uint64_t count;
    ssize_t n = read(k->event_fd, &count, sizeof count);
    (void)n; /* fails only where it was not readable */
}

static uint32_t tokens_out(const salvo_kafka *k)
{
    return k->slots.out_count + (uint32_t)(k->slots.ready_tail - k->slots.ready_head);
}

static void kafka_credit(void *handle, salvo_driver_credit *credit)
{
    const salvo_kafka *k = handle;
    const salvo_kafka_slots *s = &k->slots;
    *credit = (salvo_driver_credit){0};
    if (k->mode != SALVO_KAFKA_RUNNING || tokens_out(k) >= k->env->max_batches)
        return;
    credit->batches = k->env->max_batches - tokens_out(k);
    uint64_t messages = k->messages_limit > s->out_messages ? k->messages_limit - s->out_messages
                                                            : 0;
    uint64_t by_cost = k->cost_limit > s->out_cost
                           ? (k->cost_limit - s->out_cost) / MESSAGE_COST_BYTES
                           : 0;
    if (s->out_messages && by_cost < messages) /* an empty queue takes a batch of any size */
        messages = by_cost;
    credit->messages = messages < UINT32_MAX ? (uint32_t)messages : UINT32_MAX;
    credit->bytes = k->bytes_limit > s->out_bytes ? k->bytes_limit - s->out_bytes : 0;
}

/* What became of the offers of one submit. */
typedef struct offer {
    salvo_kafka *k;
    rd_kafka_topic_t *rkt;
    int32_t partition;
    uint32_t slot;
    uint32_t taken;
    uint64_t cost;
    bool stopped;  /* nothing more is offered, so that order holds */
    bool permanent; /* some message was refused for good */
} offer;

static void refused(offer *o, uint32_t index, uint32_t count, rd_kafka_resp_err_t err)
{
    int32_t status = salvo_kafka_status(err, RD_KAFKA_MSG_STATUS_NOT_PERSISTED, o->k->mode);
    if (status == SALVO_ERR_FATAL || status == SALVO_ERR_TRANSIENT)
        o->stopped = true;
    else
        o->permanent = true;
    if (status == SALVO_ERR_FATAL)
        salvo_kafka_begin_fatal(o->k);
    salvo_kafka_slots_record(&o->k->slots, o->slot, index, count, status, -1);
}

/* Offer n plain messages, the first of which has place `first` in the batch. */
static void offer_chunk(offer *o, uint32_t first, uint32_t n)
{
    rd_kafka_message_t *m = o->k->scratch;
    uint32_t good =
        (uint32_t)rd_kafka_produce_batch(o->rkt, o->partition, 0 /* no copy */, m, (int)n);
    o->taken += good;
    for (uint32_t i = 0; good < n && i < n; i++)
        if (m[i].err)
            refused(o, first + i, 1, m[i].err);
}

static void submit_plain(offer *o, const salvo_driver_batch *batch)
{
    salvo_driver_cursor cursor = {0};
    salvo_driver_message message;
    uint32_t index = 0;
    while (index < batch->count && !o->stopped) {
        uint32_t first = index, n = 0;
        for (; n < CHUNK && index < batch->count; n++, index++) {
            if (!salvo_batch_next(batch, &cursor, &message))
                break;
            rd_kafka_message_t *m = &o->k->scratch[n];
            m->err = RD_KAFKA_RESP_ERR_NO_ERROR;
            union { const void *in; void *out; } value = {message.value}, key = {message.key};
            m->payload = value.out; /* librdkafka does not write to it */
            m->len = message.value_len;
            m->key = key.out;
            m->key_len = message.key_len;
            m->_private = salvo_kafka_opaque(o->slot, index);
            o->cost += MESSAGE_COST_BYTES + message.key_len;
        }
        offer_chunk(o, first, n);
    }
    if (index < batch->count)
        refused(o, index, batch->count - index, RD_KAFKA_RESP_ERR__QUEUE_FULL);
}

/* Packed headers to librdkafka's; NULL when there are none or (*err) no memory. */
static rd_kafka_headers_t *headers_of(const salvo_driver_message *message,
                                      rd_kafka_resp_err_t *err)
{
    if (!message->headers_bytes)
        return NULL;
    rd_kafka_headers_t *headers = rd_kafka_headers_new(8);
    const char *at = message->headers, *end = at + message->headers_bytes;
    while (at < end && !*err) {
        uint32_t lengths[2];
        memcpy(lengths, at, sizeof lengths);
        const char *name = at + sizeof lengths, *value = name + lengths[0];
        bool null = lengths[1] == UINT32_MAX;
        *err = rd_kafka_header_add(headers, name, (ssize_t)lengths[0], null ? NULL : value,
                                   null ? 0 : (ssize_t)lengths[1]);
        at = value + (null ? 0 : lengths[1]);
    }
    if (!*err)
        return headers;
    rd_kafka_headers_destroy(headers);
    return NULL;
}

static rd_kafka_resp_err_t produce_one(offer *o, const salvo_driver_message *message,
                                       uint32_t index)
{
    rd_kafka_resp_err_t err = RD_KAFKA_RESP_ERR_NO_ERROR;
    rd_kafka_headers_t *headers = headers_of(message, &err);
    if (err)
        return err;
    union { const void *in; void *out; } value = {message->value}, key = {message->key};
    rd_kafka_vu_t vus[7] = {
        {.vtype = RD_KAFKA_VTYPE_RKT, .u.rkt = o->rkt},
        {.vtype = RD_KAFKA_VTYPE_PARTITION, .u.i32 = o->partition},
        {.vtype = RD_KAFKA_VTYPE_VALUE, .u.mem = {value.out, message->value_len}},
        {.vtype = RD_KAFKA_VTYPE_KEY, .u.mem = {key.out, message->key_len}},
        {.vtype = RD_KAFKA_VTYPE_OPAQUE, .u.ptr = salvo_kafka_opaque(o->slot, index)},
        {.vtype = RD_KAFKA_VTYPE_TIMESTAMP, .u.i64 = message->timestamp_ms},
        {.vtype = RD_KAFKA_VTYPE_HEADERS, .u.headers = headers},
    };
    rd_kafka_error_t *failed = rd_kafka_produceva(o->k->rk, vus, headers ? 7 : 6);
    if (!failed)
        return RD_KAFKA_RESP_ERR_NO_ERROR; /* librdkafka owns the headers now */
    err = rd_kafka_error_code(failed);
    rd_kafka_error_destroy(failed);
    if (headers)
        rd_kafka_headers_destroy(headers);
    return err;
}

static void submit_extras(offer *o, const salvo_driver_batch *batch)
{
    salvo_driver_cursor cursor = {0};
    salvo_driver_message message;
    uint32_t index = 0;
    for (; index < batch->count && !o->stopped; index++) {
        if (!salvo_batch_next(batch, &cursor, &message))
            break;
        rd_kafka_resp_err_t err = produce_one(o, &message, index);
        o->cost += MESSAGE_COST_BYTES + message.key_len + message.headers_bytes;
        o->taken += !err;
        if (err)
            refused(o, index, 1, err);
    }
    if (index < batch->count)
        refused(o, index, batch->count - index, RD_KAFKA_RESP_ERR__QUEUE_FULL);
}

static int kafka_submit(void *handle, const salvo_driver_batch *batch, uint64_t token)
{
    salvo_kafka *k = handle;
    if (batch->topic >= k->env->max_topics || !k->topics[batch->topic].rkt)
        return SALVO_ERR_UNKNOWN_TOPIC;
    if (batch->partition < 0 || !batch->count)
        return SALVO_ERR_INVALID;
    if (k->mode != SALVO_KAFKA_RUNNING || tokens_out(k) >= k->env->max_batches)
        return SALVO_ERR_TRANSIENT;
    offer o = {.k = k, .rkt = k->topics[batch->topic].rkt, .partition = batch->partition,
               .slot = salvo_kafka_slots_take(&k->slots, token, batch->count)};
    if (o.slot == SALVO_KAFKA_NO_SLOT)
        return SALVO_ERR_TRANSIENT;
    if (batch->extras)
        submit_extras(&o, batch);
    else
        submit_plain(&o, batch);
    if (!o.taken && !o.permanent) {
        salvo_kafka_slots_untake(&k->slots, o.slot);
        return SALVO_ERR_TRANSIENT;
    }
    salvo_kafka_slots_charge(&k->slots, o.slot, o.cost, batch->bytes);
    if (salvo_kafka_slots_filled(&k->slots, o.slot))
        set_readable(k); /* nothing of it will be reported: poll has work already */
    return 0;
}

/* --- poll ---------------------------------------------------------------------------------- */

/* A fatal handle is empty when the broker has answered what was in flight, or does not. */
static bool fatal_is_over(salvo_kafka *k)
{
    if (k->slots.out_count) {
        uint64_t waited = salvo_clock_monotonic_ns() - k->fatal_since_ns;
        if (waited > INFLIGHT_GRACE_NS && !k->inflight_purged) {
            k->inflight_purged = true;
            rd_kafka_purge(k->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT |
                                      RD_KAFKA_PURGE_F_NON_BLOCKING);
        }
        return false;
    }
    return !salvo_kafka_slots_have_ready(&k->slots);
}

static int kafka_poll(void *handle, salvo_driver_outcome *outcomes, uint32_t max)
{
    salvo_kafka *k = handle;
    salvo_kafka_slots_recycle(&k->slots);
    int events = 0;
    if (salvo_kafka_slots_have_ready(&k->slots)) {
        reset_readable(k);
    } else if (salvo_kafka_event(k, 0)) {
        /* Reset between the first event and the rest: what comes after it sets the descriptor
         * again if the queue was empty, what came before is taken now. And an empty queue costs
         * no system call. */
        reset_readable(k);
        events = 1;
    }
    while (events < EVENTS_PER_POLL && salvo_kafka_event(k, 0))
        events++;
    uint32_t n = salvo_kafka_slots_hand_out(&k->slots, outcomes, max);
    if (salvo_kafka_slots_have_ready(&k->slots) || events == EVENTS_PER_POLL)
        set_readable(k); /* there may be more */
    if (!n && k->mode == SALVO_KAFKA_FATAL && fatal_is_over(k))
        return SALVO_ERR_FATAL;
    return (int)n;
}

/* librdkafka's linger is half a millisecond, which its thread sleeps in whole ones. A push costs
 * some 20 us of CPU: the helper, librdkafka's threads and the helper again are woken. */
static void kafka_flush(void *handle)
{
    salvo_kafka *k = handle;
    if (k->slots.out_messages != 0)
        salvo_kafka_push(k);
}

static int kafka_descriptors(void *handle, int *fds, int max)
{
    if (max < 1)
        return 0;
    fds[0] = ((salvo_kafka *)handle)->event_fd;
    return 1;
}

static void kafka_purge(void *handle, uint32_t timeout_ms)
{
    salvo_kafka *k = handle;
    k->mode = SALVO_KAFKA_PURGED;
    rd_kafka_purge(k->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
    uint64_t end = salvo_clock_monotonic_ns() + timeout_ms * MS;
    while (k->slots.out_count) {
        uint64_t now = salvo_clock_monotonic_ns();
        if (!salvo_kafka_event(k, now < end ? (int)((end - now) / MS) + 1 : 0) && now >= end)
            break;
    }
    if (!k->slots.out_count)
        return;
    k->abandoned = true; /* a half-sent request, say: nobody can tell */
    salvo_kafka_slots_give_up(&k->slots, SALVO_ERR_MAYBE);
}

static void kafka_state(void *handle, char *text, size_t size)
{
    salvo_kafka *k = handle;
    int link = atomic_load_explicit(&k->link, memory_order_relaxed);
    if (link != SALVO_KAFKA_DOWN) {
        snprintf(text, size, "%s", link == SALVO_KAFKA_UP ? "up" : "connecting");
        return;
    }
    pthread_mutex_lock(&k->lock);
    snprintf(text, size, "down: %s", k->reason);
    pthread_mutex_unlock(&k->lock);
}

const salvo_driver_ops salvo_driver_kafka = {
    .size = sizeof(salvo_driver_ops),
    .abi = SALVO_DRIVER_ABI,
    .name = "kafka",
    .capabilities = kafka_capabilities,
    .overhead_bytes = kafka_overhead_bytes,
    .burst = salvo_kafka_burst,
    .open_shared = kafka_open_shared,
    .open = kafka_open,
    .require = kafka_require,
    .topic = kafka_topic,
    .partitions = kafka_partitions,
    .credit = kafka_credit,
    .submit = kafka_submit,
    .poll = kafka_poll,
    .flush = kafka_flush,
    .descriptors = kafka_descriptors,
    .purge = kafka_purge,
    .close = kafka_close,
    .state = kafka_state,
    .reader_open = salvo_kafka_reader_open,
    .reader_next = salvo_kafka_reader_next,
    .reader_close = salvo_kafka_reader_close,
    .topic_delete = salvo_kafka_topic_delete,
    .consumer = &salvo_kafka_consumer_ops,
    .transaction = &salvo_kafka_transaction_ops,
    .topics = &salvo_kafka_topic_ops,
};
