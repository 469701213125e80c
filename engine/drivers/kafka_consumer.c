/* SPDX-License-Identifier: Apache-2.0
 *
 * Kafka consumer groups, over librdkafka's high-level consumer: opening, polling, closing; the
 * other halves are kafka_consumer_claims.c (rebalances), _commit.c, _offsets.c and _events.c.
 *
 * Guarantees: records are shown where librdkafka put them, nothing is copied; of one claim they
 * come in ascending order, each once; what is committed is what window.h says, so nothing that
 * is unsettled; a partition that the group wants back is kept until what is in hand of it is
 * settled or kafka_rebalance_wait_ms is over, while poll goes on with the others. A broker that is
 * away is no error: its state tells. Not guaranteed: that a message whose commit was lost with
 * its connection is not given again (at least once).
 */
#include "kafka_consumer.h"
#include "clock.h"
#include "config_internal.h"
#include "error.h"
#include "kafka_admin.h"
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define MS UINT64_C(1000000)
#define WAIT_MOST_MS 100 /* housekeeping is looked at so often */
#define CLOSE_SLICE_MS 50
#define JOIN_WAIT_MS 5000
#define JOIN_SLICE_MS 20
#define FETCH_AHEAD 4    /* messages whose heads are fetched into the cache before their turn */

/* --- open -------------------------------------------------------------------------------------*/

static void destroy_queue(rd_kafka_queue_t *queue)
{
    if (!queue)
        return;
    rd_kafka_queue_io_event_enable(queue, -1, NULL, 0);
    rd_kafka_queue_destroy(queue);
}

static void drop_shown(salvo_kafka_consumer *c)
{
    for (size_t i = 0; i < c->shown_count; i++)
        rd_kafka_message_destroy(c->shown[i]);
    c->shown_count = c->header_count = 0;
}

/* librdkafka before 2.3 ends the process by an assertion when a member is destroyed that asked to
 * join and has got no assignment yet. Such a one has left its group, and is left in memory. */
static bool is_between(const salvo_kafka_consumer *c)
{
    return c->joining && !c->joined && rd_kafka_version() < 0x02030000;
}

static bool may_be_destroyed(const salvo_kafka_consumer *c)
{
    if (!is_between(c))
        return true;
    c->env->log(SALVO_LOG_NOTICE, "kafka: group '%s': closed before it had joined: this librdkafka "
                "(%s) cannot free it; 2.3.0 can", c->env->options->group, rd_kafka_version_str());
    return false;
}

static void free_consumer(salvo_kafka_consumer *c)
{
    drop_shown(c);
    destroy_queue(c->messages);
    destroy_queue(c->commits);
    destroy_queue(c->events);
    if (c->rk && may_be_destroyed(c))
        salvo_kafka_client_destroy(c->rk, c->env->log);
    salvo_kafka_claims_free(c);
    if (c->leaving.list)
        rd_kafka_topic_partition_list_destroy(c->leaving.list);
    if (c->paused)
        rd_kafka_topic_partition_list_destroy(c->paused);
    if (c->event_fd >= 0)
        close(c->event_fd);
    pthread_mutex_destroy(&c->lock);
    free(c->shown);
    free(c->headers);
    free(c);
}

static salvo_kafka_consumer *new_consumer(const salvo_consumer_env *env)
{
    salvo_kafka_consumer *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    const salvo_config *config = env->config;
    c->env = env;
    pthread_mutex_init(&c->lock, NULL);
    c->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    c->automatic = !env->options->manual_commit && !env->options->transactional;
    c->commit_interval_ns =
        (uint64_t)salvo_config_int(config, "kafka_auto_commit_interval_ms") * MS;
    c->next_commit_ns = salvo_clock_monotonic_ns() + c->commit_interval_ns;
    c->rebalance_wait_ns = (uint64_t)salvo_config_int(config, "kafka_rebalance_wait_ms") * MS;
    c->most_at_once = (uint32_t)salvo_config_int(config, "kafka_max_poll_records");
    c->paused = rd_kafka_topic_partition_list_new(4);
    if (c->event_fd >= 0 && c->paused)
        return c;
    free_consumer(c);
    return NULL;
}

static void watch(salvo_kafka_consumer *c, rd_kafka_queue_t *queue)
{
    static const uint64_t one = 1;
    rd_kafka_queue_io_event_enable(queue, c->event_fd, &one, sizeof one);
}

static int start(salvo_kafka_consumer *c, char *error, size_t error_size)
{
    int err;
    char text[384];
    rd_kafka_conf_t *conf = salvo_kafka_group_conf(c->env->config, c->env->options->group,
                                                   c->env->options->member, c->env->log, &err,
                                                   error, error_size);
    if (!conf)
        return err;
    rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_REBALANCE | RD_KAFKA_EVENT_ERROR |
                                       RD_KAFKA_EVENT_LOG | RD_KAFKA_EVENT_STATS |
                                       RD_KAFKA_EVENT_OFFSET_COMMIT | RD_KAFKA_EVENT_FETCH);
    if (rd_kafka_conf_set(conf, "log.queue", "true", text, sizeof text) != RD_KAFKA_CONF_OK ||
        !(c->rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, text, sizeof text))) {
        rd_kafka_conf_destroy(conf);
        snprintf(error, error_size, "kafka consumer: %s", text);
        return SALVO_ERR_CONFIG;
    }
    rd_kafka_poll_set_consumer(c->rk);
    c->events = rd_kafka_queue_get_consumer(c->rk);
    c->messages = rd_kafka_queue_new(c->rk);
    c->commits = rd_kafka_queue_new(c->rk);
    rd_kafka_set_log_queue(c->rk, c->events);
    watch(c, c->events);
    watch(c, c->messages);
    watch(c, c->commits);
    return 0;
}

static int subscribe(salvo_kafka_consumer *c, char *error, size_t error_size)
{
    const salvo_consumer_options *o = c->env->options;
    rd_kafka_topic_partition_list_t *topics =
        rd_kafka_topic_partition_list_new((int)o->topic_count);
    for (size_t i = 0; i < o->topic_count; i++)
        rd_kafka_topic_partition_list_add(topics, o->topics[i], RD_KAFKA_PARTITION_UA);
    rd_kafka_resp_err_t err = rd_kafka_subscribe(c->rk, topics);
    rd_kafka_topic_partition_list_destroy(topics);
    c->joining = !err;
    if (!err)
        return 0;
    snprintf(error, error_size, "kafka: group '%s' cannot subscribe: %s", o->group,
             rd_kafka_err2str(err));
    return err == RD_KAFKA_RESP_ERR__INVALID_ARG ? SALVO_ERR_INVALID : salvo_kafka_error_code(err);
}

static void serve_events(void *consumer)
{
    salvo_kafka_consumer_events(consumer);
}

static int open_consumer(const salvo_consumer_env *env, void **handle, char *error,
                         size_t error_size)
{
    *handle = NULL;
    salvo_kafka_consumer *c = new_consumer(env);
    if (!c) {
        snprintf(error, error_size, "kafka: no memory or descriptors for a consumer");
        return SALVO_ERR_NOMEM;
    }
    int err = start(c, error, error_size);
    salvo_kafka_waiting waiting = {
        .rk = c->rk,
        .serve = serve_events,
        .context = c,
        .refused = &c->refused,
        .reason = c->reason, /* written by serve alone, on this thread */
        .servers = salvo_config_get(env->config, "kafka_bootstrap_servers"),
        .timeout_ms = env->options->open_timeout_ms,
    };
    if (!err)
        err = salvo_kafka_await_broker(&waiting, error, error_size);
    if (!err) {
        salvo_kafka_consumer_up(c);
        err = subscribe(c, error, error_size);
    }
    if (err) {
        free_consumer(c);
        return err;
    }
    *handle = c;
    return 0;
}

/* --- poll -------------------------------------------------------------------------------------*/

static bool room_for(salvo_kafka_consumer *c, size_t count)
{
    if (count <= c->shown_room)
        return true;
    rd_kafka_message_t **more = realloc(c->shown, count * sizeof(rd_kafka_message_t *));
    if (!more)
        return false;
    c->shown = more;
    c->shown_room = count;
    return true;
}

/* The array may move while it grows, so records get their place in it first as a number. */
static bool show_headers(salvo_kafka_consumer *c, rd_kafka_headers_t *headers,
                         salvo_record *record)
{
    size_t count = rd_kafka_header_cnt(headers);
    if (c->header_count + count > c->header_room) {
        size_t room = 2 * (c->header_count + count);
        salvo_header *more = realloc(c->headers, room * sizeof *more);
        if (!more)
            return false;
        c->headers = more;
        c->header_room = room;
    }
    for (size_t i = 0; i < count; i++) {
        salvo_header *h = &c->headers[c->header_count + i];
        rd_kafka_header_get_all(headers, i, &h->name, &h->value, &h->value_len);
        h->name_len = strlen(h->name);
    }
    c->header_count += count;
    record->header_count = count;
    return true;
}

static void place_headers(salvo_kafka_consumer *c, salvo_driver_delivery *deliveries, int count)
{
    size_t at = 0;
    for (int i = 0; i < count && c->header_count > 0; i++) {
        salvo_record *record = &deliveries[i].record;
        record->headers = record->header_count > 0 ? &c->headers[at] : NULL;
        at += record->header_count;
    }
}

/* There is no memory to show it: it, and what follows, is to be fetched again. */
static bool not_now(salvo_kafka_claim *claim)
{
    claim->refetch = true;
    return false;
}

static bool show(salvo_kafka_consumer *c, rd_kafka_message_t *m, salvo_driver_delivery *out)
{
    salvo_kafka_claim *claim = c->last;
    if (!claim || claim->rkt != m->rkt || claim->partition != m->partition)
        claim = salvo_kafka_claim_of(c, m);
    if (!claim || claim->leaving || claim->refetch)
        return false;
    if (m->offset < claim->window.next)
        return false; /* given before */
    *out = (salvo_driver_delivery){
        .record = {.topic = claim->topic,
                   .partition = m->partition,
                   .offset = m->offset,
                   .timestamp_ms = rd_kafka_message_timestamp(m, NULL),
                   .key = m->key,
                   .key_len = m->key_len,
                   .value = m->payload,
                   .value_len = m->len},
        .tag = {.claim = claim->id, .a = (uint64_t)m->offset, .b = claim->slot},
    };
    rd_kafka_headers_t *headers;
    size_t header_count = c->header_count;
    if (!rd_kafka_message_headers(m, &headers) && !show_headers(c, headers, &out->record))
        return not_now(claim);
    if (!salvo_window_give(&claim->window, m->offset)) {
        c->header_count = header_count;
        return not_now(claim);
    }
    if (claim->known < 0)
        claim->known = claim->sent = m->offset;
    return true;
}

/* How many deliveries; what does not come to be one is dropped. */
static int take(salvo_kafka_consumer *c, salvo_driver_delivery *deliveries, size_t max)
{
    int count = 0;
    ssize_t n = rd_kafka_consume_batch_queue(c->messages, 0, c->shown, max);
    c->shown_count = n > 0 ? (size_t)n : 0;
    for (size_t i = 0; i < c->shown_count; i++) {
        rd_kafka_message_t *m = c->shown[i];
        if (i + FETCH_AHEAD < c->shown_count)
            __builtin_prefetch(c->shown[i + FETCH_AHEAD]);
        if (m->err)
            salvo_kafka_consumer_error(c, m->err, m->rkt ? rd_kafka_topic_name(m->rkt) : "?",
                                       m->partition, rd_kafka_message_errstr(m));
        else
            count += show(c, m, &deliveries[count]);
    }
    place_headers(c, deliveries, count);
    return count;
}

/* Full windows, and those for which there was no memory. */
static void balance(salvo_kafka_consumer *c)
{
    for (uint32_t i = 0; i < c->claim_room; i++)
        if (c->claims[i]->id)
            salvo_kafka_claim_balance(c, c->claims[i]);
}

static void keep_house(salvo_kafka_consumer *c)
{
    salvo_kafka_consumer_events(c);
    salvo_kafka_commit_answers(c, 0);
    salvo_kafka_leave(c);
    salvo_kafka_commit_due(c);
    salvo_kafka_consumer_probe(c);
    balance(c);
}

static void set_readable(salvo_kafka_consumer *c)
{
    uint64_t one = 1;
    ssize_t n = write(c->event_fd, &one, sizeof one);
    (void)n; /* fails only where it is readable already */
}

static void reset_readable(salvo_kafka_consumer *c)
{
    uint64_t count;
    ssize_t n = read(c->event_fd, &count, sizeof count);
    (void)n; /* fails only where it was not readable */
}

static int tell_failure(salvo_kafka_consumer *c, char *error, size_t error_size)
{
    int err = c->failed;
    snprintf(error, error_size, "%s", c->failure);
    if (!c->fatal)
        c->failed = 0;
    return err;
}

/* One look at everything. How many, or an error. */
static int look(salvo_kafka_consumer *c, salvo_driver_delivery *deliveries, size_t max,
                char *error, size_t error_size)
{
    /* First reset, then look: what comes in between makes it readable again. */
    reset_readable(c);
    keep_house(c);
    int count = max > 0 && !c->fatal ? take(c, deliveries, max) : 0;
    if (c->shown_count > 0 && c->shown_count == max)
        set_readable(c); /* there may be more */
    return count == 0 && c->failed ? tell_failure(c, error, error_size) : count;
}

static int poll_consumer(void *handle, uint64_t timeout_ms, salvo_driver_delivery *deliveries,
                         size_t max, char *error, size_t error_size)
{
    salvo_kafka_consumer *c = handle;
    uint64_t deadline = salvo_kafka_deadline_ns(timeout_ms);
    max = max < c->most_at_once ? max : c->most_at_once;
    drop_shown(c);
    if (!room_for(c, max)) {
        snprintf(error, error_size, "kafka: no memory for %zu messages at once", max);
        return SALVO_ERR_NOMEM;
    }
    for (;;) {
        int count = look(c, deliveries, max, error, error_size);
        /* Relaxed: what woke us has its own edges. */
        bool woken = atomic_exchange_explicit(&c->woken, false, memory_order_relaxed);
        int left = salvo_kafka_left_ms(deadline);
        if (count || woken || left == 0)
            return count;
        drop_shown(c); /* all of them were dropped */
        struct pollfd fd = {.fd = c->event_fd, .events = POLLIN};
        if (poll(&fd, 1, left < WAIT_MOST_MS ? left : WAIT_MOST_MS) < 0 && errno == EINTR)
            return 0; /* a signal: its owner looks */
    }
}

static int descriptor(void *handle)
{
    return ((salvo_kafka_consumer *)handle)->event_fd;
}

static void wake(void *handle)
{
    salvo_kafka_consumer *c = handle;
    int saved_errno = errno; /* this may be a signal handler */
    atomic_store_explicit(&c->woken, true, memory_order_relaxed);
    set_readable(c);
    errno = saved_errno;
}

static void ack(void *handle, const salvo_driver_tag *tags, size_t count)
{
    salvo_kafka_consumer *c = handle;
    for (size_t i = 0; i < count; i++) {
        if (tags[i].b >= c->claim_room)
            continue;
        salvo_kafka_claim *claim = c->claims[tags[i].b];
        if (claim->id == tags[i].claim)
            c->acked |= salvo_window_settle(&claim->window, (int64_t)tags[i].a);
    }
}

static void state(void *handle, char *text, size_t size)
{
    salvo_kafka_consumer *c = handle;
    pthread_mutex_lock(&c->lock);
    if (c->link == SALVO_KAFKA_DOWN)
        snprintf(text, size, "down: %s", c->reason);
    else if (c->missing[0])
        snprintf(text, size, "up, not there yet: topic '%s'", c->missing);
    else
        snprintf(text, size, "%s", c->link == SALVO_KAFKA_UP ? "up" : "connecting");
    pthread_mutex_unlock(&c->lock);
}

/* --- close ------------------------------------------------------------------------------------*/

/* What librdkafka asks is answered, however late it is: else its threads would never end. */
static void leave_group(salvo_kafka_consumer *c, uint64_t deadline)
{
    uint64_t least = salvo_kafka_deadline_ns(CLOSE_SLICE_MS);
    deadline = deadline > least ? deadline : least;
    /* A queue of its own: the consumer's queue is forwarded to it, and cannot be to itself. */
    rd_kafka_queue_t *queue = rd_kafka_queue_new(c->rk);
    rd_kafka_error_t *failed = rd_kafka_consumer_close_queue(c->rk, queue);
    if (failed)
        rd_kafka_error_destroy(failed); /* fatal: nothing to be left */
    while (!failed && !rd_kafka_consumer_closed(c->rk) && salvo_kafka_left_ms(deadline) > 0) {
        int left = salvo_kafka_left_ms(deadline);
        rd_kafka_event_t *event =
            rd_kafka_queue_poll(queue, left < CLOSE_SLICE_MS ? left : CLOSE_SLICE_MS);
        if (event && rd_kafka_event_type(event) == RD_KAFKA_EVENT_REBALANCE)
            salvo_kafka_rebalance(c, event);
        if (event)
            rd_kafka_event_destroy(event);
    }
    rd_kafka_queue_destroy(queue);
}

/* Still a member: what the group asks for meanwhile is done as poll does it. An assignment that
 * is not taken would keep the group's generation from us, and with it every commit. */
static void pass_events(salvo_kafka_consumer *c)
{
    salvo_kafka_consumer_events(c);
    salvo_kafka_leave(c);
    struct pollfd fd = {.fd = c->event_fd, .events = POLLIN};
    (void)poll(&fd, 1, JOIN_SLICE_MS);
    reset_readable(c);
}

/* See may_be_destroyed(): what is on its way is waited for, so that it can be freed. */
static void finish_joining(salvo_kafka_consumer *c, uint64_t deadline)
{
    uint64_t most = salvo_kafka_deadline_ns(JOIN_WAIT_MS);
    while (is_between(c) && c->link != SALVO_KAFKA_DOWN &&
           salvo_kafka_left_ms(deadline < most ? deadline : most) > 0)
        pass_events(c);
}

/* Where another member has just come or gone, the commit is taken once this one has joined the
 * group's new generation, for which it waits as long as finish_joining(). */
static int last_commit(salvo_kafka_consumer *c, uint64_t deadline, char *error, size_t error_size)
{
    uint64_t most = salvo_kafka_deadline_ns(JOIN_WAIT_MS);
    for (;;) {
        int err = salvo_kafka_commit(c, (uint64_t)salvo_kafka_left_ms(deadline), error,
                                     error_size);
        bool joins = c->commit_error == RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION ||
                     c->commit_error == RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS;
        if (!err || !joins || salvo_kafka_left_ms(deadline < most ? deadline : most) == 0)
            return err;
        pass_events(c);
    }
}

static int close_consumer(void *handle, uint64_t timeout_ms, char *error, size_t error_size)
{
    salvo_kafka_consumer *c = handle;
    uint64_t deadline = salvo_kafka_deadline_ns(timeout_ms);
    int err = 0;
    drop_shown(c);
    finish_joining(c, deadline);
    if (c->automatic && !c->fatal)
        err = last_commit(c, deadline, error, error_size);
    c->closing = true;
    leave_group(c, deadline);
    free_consumer(c);
    return err;
}

const salvo_driver_consumer_ops salvo_kafka_consumer_ops = {
    .open = open_consumer,
    .poll = poll_consumer,
    .descriptor = descriptor,
    .wake = wake,
    .ack = ack,
    .commit = salvo_kafka_commit,
    .seek = salvo_kafka_seek,
    .rewind = salvo_kafka_rewind,
    .pause = salvo_kafka_pause,
    .lag = salvo_kafka_lag,
    .state = state,
    .close = close_consumer,
    .group_lag = salvo_kafka_group_lag,
};
