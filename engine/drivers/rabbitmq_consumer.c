/* SPDX-License-Identifier: Apache-2.0
 *
 * Consuming from RabbitMQ queues; see rabbitmq_consumer.h for how its files work together,
 * docs/rabbitmq.md for what is promised.
 *
 * Guarantees: a message is given until its basic.ack reached the server, here or elsewhere; none
 * is acknowledged before it was settled; heartbeats go out in every poll, also with max 0. What
 * is not settled when a connection ends comes again, marked as redelivered. Messages wait here up
 * to BUFFERED_BYTES, then in the socket, then at the server.
 */
#include "rabbitmq_admin.h"
#include "rabbitmq_consumer.h"

#include "clock.h"
#include "config_internal.h"
#include "error.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define MS UINT64_C(1000000)
#define MESSAGE_MOST (UINT64_C(256) << 20)
#define BUFFERED_BYTES ((size_t)64 << 20)
enum { SLICE_MS = 50, ROUNDS = 16, AT_ONCE = 512, APART_MS = 50, GROUP_BYTES = 200 };
#define OUT_BYTES ((size_t)512 << 10)

static uint64_t monotonic(void *clock)
{
    (void)clock;
    return salvo_clock_monotonic_ns();
}

static uint64_t deadline_in(uint64_t ms)
{
    uint64_t now = salvo_clock_monotonic_ns();
    return ms < (UINT64_MAX - now) / MS ? now + ms * MS : UINT64_MAX;
}

static uint64_t left_ms(uint64_t deadline_ns)
{
    uint64_t now = salvo_clock_monotonic_ns();
    return now < deadline_ns ? (deadline_ns - now + MS - 1) / MS : 0;
}

static void set_state(salvo_rabbitmq_consumer *c, const char *is, const char *more)
{
    pthread_mutex_lock(&c->lock);
    snprintf(c->state, sizeof c->state, "%s: %.200s", is, more);
    pthread_mutex_unlock(&c->lock);
}

/* --- acknowledging -------------------------------------------------------------------------- */

static bool put_ack(salvo_rabbitmq_consumer *c, uint64_t tag, bool multiple)
{
    amqp_basic_ack_t ack = {.delivery_tag = tag, .multiple = multiple};
    return salvo_rabbitmq_put_method(&c->link, SALVO_RABBITMQ_CONSUMING, AMQP_BASIC_ACK_METHOD,
                                     &ack) &&
           (c->unconfirmed = true);
}

/* Those behind one that is open go one by one: when `all`, when they have waited, or when they
 * are so many that the server might stop delivering. False: there was no room for all of it. */
static bool send_acks(salvo_rabbitmq_consumer *c, uint64_t now_ns, bool all)
{
    salvo_rabbitmq_tags *tags = &c->tags;
    if (c->channel != SALVO_RABBITMQ_CHANNEL_OPEN)
        return tags->prefix == 0 && tags->apart == 0;
    if (tags->prefix != 0 && !put_ack(c, tags->prefix, true))
        return false;
    salvo_rabbitmq_tags_told_prefix(tags);
    if (tags->apart == 0)
        c->apart_ns = 0;
    else if (c->apart_ns == 0)
        c->apart_ns = now_ns;
    if (tags->apart == 0 || (!all && now_ns - c->apart_ns < APART_MS * MS &&
                             tags->apart < c->env->options->max_in_hand / 8))
        return true;
    for (uint64_t tag = 0; (tag = salvo_rabbitmq_tags_apart(tags, tag + 1)) != 0;) {
        if (!put_ack(c, tag, false))
            return false;
        salvo_rabbitmq_tags_told(tags, tag);
    }
    c->apart_ns = 0;
    return true;
}

/* --- what goes on --------------------------------------------------------------------------- */

static uint64_t pause_ns(const salvo_rabbitmq_consumer *c)
{
    uint64_t first = (uint64_t)salvo_config_int(c->env->config, "reconnect_backoff_ms") * MS;
    uint64_t most = (uint64_t)salvo_config_int(c->env->config, "retry_backoff_max_ms") * MS;
    uint64_t pause = first << (c->attempts < 20 ? c->attempts : 20);
    return pause < most ? pause : most > first ? most : first;
}

static void lost(salvo_rabbitmq_consumer *c, uint64_t now_ns)
{
    bool again = c->attempts > 0;
    salvo_rabbitmq_consumer_over(c);
    c->up = c->connecting = c->declare_open = false;
    c->declaring = UINT32_MAX;
    for (uint32_t i = 0; i < c->queue_count; i++) {
        c->queues[i].there = c->queues[i].passive = false;
        c->queues[i].retry_ns = 0;
    }
    c->connect_ns = now_ns + pause_ns(c);
    c->attempts++;
    set_state(c, "down", c->link.why);
    if (!again && !c->closing)
        c->env->log(SALVO_LOG_WARNING, "rabbitmq: %s:%s: %s; trying again", c->link.url.host,
                    c->link.url.port, c->link.why);
}

static void came_up(salvo_rabbitmq_consumer *c)
{
    amqp_channel_open_t open = {0};
    c->up = true;
    if (!salvo_rabbitmq_put_method(&c->link, SALVO_RABBITMQ_DECLARING, AMQP_CHANNEL_OPEN_METHOD,
                                   &open))
        salvo_rabbitmq_link_fail(&c->link, SALVO_ERR_UNREACHABLE, "no room to open a channel");
    if (c->attempts > 0 && c->ended != 0)
        c->env->log(SALVO_LOG_NOTICE, "rabbitmq: connected again");
    set_state(c, "up", salvo_io_backend(c->link.io));
}

static size_t unread(const salvo_rabbitmq_consumer *c)
{
    const void *bytes;
    return c->link.conn ? salvo_io_input(c->link.conn, &bytes) : 0;
}

/* True: something arrived while we were sending, and nobody would wake us for it again. */
static bool work_once(salvo_rabbitmq_consumer *c)
{
    uint64_t now_ns = salvo_clock_monotonic_ns();
    size_t before = SIZE_MAX;
    if (!c->connecting && now_ns >= c->connect_ns) {
        c->connecting = true;
        salvo_rabbitmq_link_connect(&c->link);
    }
    c->link.held = c->buffered_bytes > BUFFERED_BYTES && !c->waiting;
    if (c->connecting)
        (void)salvo_rabbitmq_link_step(&c->link);
    if (c->connecting && c->link.stage == SALVO_RABBITMQ_OPEN && !c->up)
        came_up(c);
    if (c->up && c->link.stage == SALVO_RABBITMQ_OPEN) {
        if (!c->manual)
            (void)send_acks(c, now_ns, c->closing);
        salvo_rabbitmq_consumer_queues_step(c, now_ns);
        before = unread(c);
        salvo_rabbitmq_link_send(&c->link);
    }
    if (c->connecting && c->link.stage == SALVO_RABBITMQ_DOWN)
        lost(c, now_ns);
    return unread(c) > before && !c->link.held;
}

static void work(salvo_rabbitmq_consumer *c)
{
    for (int round = 0; round < ROUNDS; round++)
        if (!work_once(c))
            return;
    salvo_io_set_wake(&c->set); /* others want their turn, too */
}

static void tell_ended(salvo_rabbitmq_consumer *c)
{
    if (c->ended != 0)
        c->env->revoked(c->env->consumer, c->ended);
    c->ended = 0;
}

/* --- open ----------------------------------------------------------------------------------- */

static void recycle(salvo_rabbitmq_consumer *c)
{
    size_t i = 0;
    for (salvo_rabbitmq_parcel *next; c->shown; c->shown = next) {
        next = c->shown->next;
        c->records[i++].body = NULL; /* the parcel's */
        salvo_rabbitmq_parcel_free(c->shown);
    }
}

static void destroy(salvo_rabbitmq_consumer *c)
{
    recycle(c);
    salvo_rabbitmq_consumer_over(c);
    salvo_io_set_close(&c->set);
    salvo_rabbitmq_link_free(&c->link);
    salvo_rabbitmq_tags_free(&c->tags);
    for (size_t i = 0; i < c->record_room; i++)
        salvo_rabbitmq_record_close(&c->records[i]);
    for (uint32_t i = 0; c->queues && i < c->queue_count; i++)
        free(c->queues[i].topic);
    free(c->records);
    free(c->queues);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

/* <group>.<member or eight digits>.<number>: who looks at the server sees whose it is. */
static void name_tags(salvo_rabbitmq_consumer *c)
{
    const salvo_consumer_options *options = c->env->options;
    char member[32];
    uint32_t random;
    if (getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random)
        random = (uint32_t)salvo_clock_monotonic_ns();
    snprintf(member, sizeof member, "%08x", random);
    for (uint32_t i = 0; i < c->queue_count; i++)
        snprintf(c->queues[i].tag, sizeof c->queues[i].tag, "%.*s.%.30s.%u", GROUP_BYTES,
                 options->group, options->member ? options->member : member, i);
}

static int new_handle(const salvo_consumer_env *env, salvo_rabbitmq_consumer **out, char *error,
                      size_t error_size)
{
    const salvo_consumer_options *options = env->options;
    const char *key = salvo_config_get(env->config, "rabbitmq_routing_key");
    bool own = salvo_config_is(env->config, "rabbitmq_exchange", ""); /* the default exchange */
    salvo_rabbitmq_consumer *c = calloc(1, sizeof *c);
    *out = c;
    if (!c)
        return SALVO_ERR_NOMEM;
    c->set.all = c->set.wake = c->set.more = -1;
    c->env = env;
    c->claim = 1;
    c->declaring = c->subscribing = UINT32_MAX;
    c->manual = options->manual_commit != 0;
    pthread_mutex_init(&c->lock, NULL);
    snprintf(c->state, sizeof c->state, "connecting");
    salvo_rabbitmq_tags_free(&c->tags);
    c->queue_count = (uint32_t)options->topic_count;
    c->queues = calloc(options->topic_count, sizeof *c->queues);
    for (uint32_t i = 0; i < c->queue_count; i++) {
        if (!c->queues || !(c->queues[i].topic = strdup(options->topics[i])))
            return SALVO_ERR_NOMEM;
        c->queues[i].name = own && key && key[0] ? key : c->queues[i].topic;
    }
    if (own && key && key[0] && c->queue_count > 1) {
        snprintf(error, error_size, "rabbitmq: with rabbitmq_routing_key all topics are one queue: "
                 "consume one topic, or unset it");
        return SALVO_ERR_CONFIG;
    }
    name_tags(c);
    return 0;
}

/* Something that the server will not let us do; 0: nothing is known. */
static int trouble(const salvo_rabbitmq_consumer *c, char *error, size_t error_size)
{
    const salvo_url *url = &c->link.url;
    bool down = !c->up && c->attempts > 0;
    if (down && c->link.error != SALVO_ERR_UNREACHABLE && c->link.error != SALVO_ERR_CLOSED) {
        snprintf(error, error_size, "rabbitmq: %s:%s: %s", url->host, url->port, c->link.why);
        return c->link.error;
    }
    for (uint32_t i = 0; i < c->queue_count; i++)
        if (c->queues[i].error) {
            snprintf(error, error_size, "rabbitmq: queue '%s' at %s:%s: %s", c->queues[i].name,
                     url->host, url->port, c->queues[i].why);
            return c->queues[i].error;
        }
    return 0;
}

static bool all_subscribed(const salvo_rabbitmq_consumer *c)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->queue_count; i++)
        n += c->queues[i].subscribed == SALVO_RABBITMQ_SUBSCRIBED;
    return n == c->queue_count;
}

static int wait_open(salvo_rabbitmq_consumer *c, char *error, size_t error_size)
{
    uint32_t timeout_ms = c->env->options->open_timeout_ms;
    uint64_t deadline_ns = deadline_in(timeout_ms);
    for (;;) {
        work(c);
        if (all_subscribed(c))
            return 0;
        int err = trouble(c, error, error_size);
        if (err)
            return err;
        uint64_t left = left_ms(deadline_ns);
        if (left == 0)
            break;
        (void)salvo_io_set_wait(&c->set, left < SLICE_MS ? left : SLICE_MS);
    }
    snprintf(error, error_size, "rabbitmq: %s:%s did not answer within %u ms%s%s",
             c->link.url.host, c->link.url.port, timeout_ms, c->link.why[0] ? ": " : "",
             c->link.why);
    return SALVO_ERR_UNREACHABLE;
}

static int consumer_open(const salvo_consumer_env *env, void **handle, char *error,
                         size_t error_size)
{
    salvo_rabbitmq_consumer *c;
    salvo_io_options io = {.backend = salvo_config_get(env->config, "io_backend"),
                           .now_ns = monotonic};
    *handle = NULL;
    snprintf(error, error_size, "rabbitmq: no memory for a consumer");
    int err = new_handle(env, &c, error, error_size);
    if (!err)
        err = salvo_rabbitmq_link_open(&c->link, env->config, &io, OUT_BYTES, error, error_size);
    if (!err)
        err = salvo_io_set_open(&c->set, &c->link.io, 1, error, error_size);
    if (!err) {
        c->link.on_frame = salvo_rabbitmq_consumer_frame;
        c->link.context = c;
        err = wait_open(c, error, error_size);
    }
    if (err) {
        if (c)
            destroy(c);
        return err;
    }
    c->ended = 0; /* claims of attempts that failed: nothing was given */
    env->count(env->consumer, SALVO_COUNT_ASSIGNED, c->queue_count);
    salvo_io_set_leave(&c->set, c->first != NULL);
    *handle = c;
    error[0] = '\0';
    return 0;
}

/* --- poll ----------------------------------------------------------------------------------- */

static bool records_room(salvo_rabbitmq_consumer *c, size_t count)
{
    if (count <= c->record_room)
        return true;
    salvo_rabbitmq_record *records = realloc(c->records, count * sizeof *records);
    if (!records)
        return false;
    c->records = records;
    for (; c->record_room < count; c->record_room++)
        salvo_rabbitmq_record_open(&records[c->record_room]);
    return true;
}

/* Quorum queues count deliveries; others only say that there was one. */
static uint32_t deliveries(const salvo_rabbitmq_parcel *parcel, const salvo_record *record)
{
    static const char name[] = "x-delivery-count";
    for (size_t i = 0; i < record->header_count; i++) {
        const salvo_header *h = &record->headers[i];
        if (h->name_len == sizeof name - 1 && memcmp(h->name, name, h->name_len) == 0 && h->value &&
            h->value_len > 0 && h->value_len < 10)
            return (uint32_t)strtoul(h->value, NULL, 10) + 1;
    }
    return parcel->redelivered ? 2 : 1;
}

/* What cannot be read of a message is left out, so that no single one stops a queue. */
static void show(salvo_rabbitmq_consumer *c, salvo_rabbitmq_record *r,
                 const salvo_rabbitmq_parcel *parcel, salvo_driver_delivery *d)
{
    uint64_t body_bytes;
    *d = (salvo_driver_delivery){.tag = {.claim = c->claim, .a = parcel->tag}};
    if (salvo_rabbitmq_record_begin(r, parcel->header, parcel->header_len, &body_bytes)) {
        r->body = parcel->body;
        r->body_len = parcel->got;
        (void)salvo_rabbitmq_record_show(r, MESSAGE_MOST, &d->record); /* else: as it came */
        r->body_len = 0;
    } else {
        d->record.value = parcel->body ? (const void *)parcel->body : "";
        d->record.value_len = parcel->got;
    }
    d->record.topic = c->queues[parcel->queue].topic;
    d->record.offset = c->offset++;
    d->deliveries = deliveries(parcel, &d->record);
}

static int give(salvo_rabbitmq_consumer *c, salvo_driver_delivery *deliveries_, size_t max)
{
    salvo_rabbitmq_parcel **end = &c->shown;
    size_t n = 0, most = max < AT_ONCE ? max : AT_ONCE;
    if (!records_room(c, most))
        return SALVO_ERR_NOMEM;
    while (n < most && c->first) {
        salvo_rabbitmq_parcel *parcel = c->first;
        c->first = parcel->next;
        c->last = c->first ? c->last : NULL;
        c->buffered_bytes -= parcel->got + parcel->header_len;
        parcel->next = NULL;
        *end = parcel;
        end = &parcel->next;
        show(c, &c->records[n], parcel, &deliveries_[n]);
        n++;
    }
    return (int)n;
}

static int consumer_poll(void *handle, uint64_t timeout_ms, salvo_driver_delivery *given,
                         size_t max, char *error, size_t error_size)
{
    salvo_rabbitmq_consumer *c = handle;
    uint64_t deadline_ns = deadline_in(timeout_ms);
    int n;
    recycle(c);
    for (;;) {
        work(c);
        tell_ended(c);
        n = give(c, given, max);
        uint64_t left = left_ms(deadline_ns);
        if (n != 0 || max == 0 || left == 0 ||
            salvo_io_set_wait(&c->set, left < SLICE_MS ? left : SLICE_MS))
            break;
    }
    if (n < 0)
        snprintf(error, error_size, "rabbitmq: no memory for messages");
    else if (n == 0 && max > 0)
        n = trouble(c, error, error_size);
    salvo_io_set_leave(&c->set, c->first != NULL);
    return n;
}

static int consumer_descriptor(void *handle)
{
    return salvo_io_set_descriptor(&((salvo_rabbitmq_consumer *)handle)->set);
}

static void consumer_wake(void *handle)
{
    salvo_io_set_wake(&((salvo_rabbitmq_consumer *)handle)->set);
}

/* --- settling ------------------------------------------------------------------------------- */

static void consumer_ack(void *handle, const salvo_driver_tag *tags, size_t count)
{
    salvo_rabbitmq_consumer *c = handle;
    for (size_t i = 0; i < count; i++)
        if (tags[i].claim == c->claim)
            (void)salvo_rabbitmq_tags_settle(&c->tags, tags[i].a);
}

/* Tell the server what is settled, and hear that it knows: basic.qos is answered in its turn, a
 * basic.ack is not answered at all. */
static int settle(salvo_rabbitmq_consumer *c, uint64_t deadline_ns, char *error, size_t error_size)
{
    uint32_t claim = c->claim;
    bool asked = false, owed = c->tags.prefix != 0 || c->tags.apart != 0 || c->unconfirmed;
    c->waiting = true;
    while (c->claim == claim && (!asked || c->confirming > 0)) {
        if (!asked && send_acks(c, salvo_clock_monotonic_ns(), true) &&
            c->channel == SALVO_RABBITMQ_CHANNEL_OPEN && salvo_rabbitmq_consumer_qos(c)) {
            asked = true;
            c->confirming++;
        }
        work(c);
        uint64_t left = left_ms(deadline_ns);
        if (left == 0 || (asked ? c->confirming == 0 : !owed))
            break;
        (void)salvo_io_set_wait(&c->set, left < SLICE_MS ? left : SLICE_MS);
    }
    c->waiting = false;
    bool ok = !owed || (c->claim == claim && asked && c->confirming == 0);
    if (owed)
        c->env->count(c->env->consumer, ok ? SALVO_COUNT_COMMITS : SALVO_COUNT_COMMIT_FAILURES, 1);
    c->unconfirmed = c->unconfirmed && !ok;
    if (ok)
        return 0;
    snprintf(error, error_size, "rabbitmq: the server did not confirm acknowledgements in "
             "time%s%s; what they are of may come again", c->link.why[0] ? ": " : "", c->link.why);
    return c->up ? SALVO_ERR_TIMEOUT : SALVO_ERR_UNREACHABLE;
}

static int consumer_commit(void *handle, uint64_t timeout_ms, char *error, size_t error_size)
{
    salvo_rabbitmq_consumer *c = handle;
    int err = settle(c, deadline_in(timeout_ms), error, error_size);
    salvo_io_set_leave(&c->set, c->first != NULL || c->ended != 0);
    return err;
}

/* By closing the channel: the server puts all that was not acknowledged back in its place. */
static int consumer_rewind(void *handle, char *error, size_t error_size)
{
    salvo_rabbitmq_consumer *c = handle;
    amqp_channel_close_t close = {.reply_code = AMQP_REPLY_SUCCESS};
    if (!c->manual)
        (void)send_acks(c, salvo_clock_monotonic_ns(), true);
    if (c->channel == SALVO_RABBITMQ_CHANNEL_OPEN) {
        if (!salvo_rabbitmq_put_method(&c->link, SALVO_RABBITMQ_CONSUMING,
                                       AMQP_CHANNEL_CLOSE_METHOD, &close)) {
            snprintf(error, error_size, "rabbitmq: the connection has no room now");
            return SALVO_ERR_TRANSIENT;
        }
        salvo_rabbitmq_consumer_over(c);
        c->channel = SALVO_RABBITMQ_CHANNEL_CLOSING;
        salvo_rabbitmq_link_send(&c->link);
    }
    tell_ended(c);
    salvo_io_set_leave(&c->set, true);
    return 0;
}

/* What of the queue is here and was not given goes back at once: others may want it. */
static void requeue_all_of(salvo_rabbitmq_consumer *c, uint32_t queue)
{
    salvo_rabbitmq_parcel **link = &c->first;
    c->last = NULL;
    while (*link) {
        salvo_rabbitmq_parcel *parcel = *link;
        if (parcel->queue != queue || !salvo_rabbitmq_requeue(c, parcel->tag)) {
            c->last = parcel;
            link = &parcel->next;
            continue;
        }
        *link = parcel->next;
        c->buffered_bytes -= parcel->got + parcel->header_len;
        salvo_rabbitmq_parcel_free(parcel);
    }
}

static int consumer_pause(void *handle, const char *topic, int32_t partition, bool paused,
                          char *error, size_t error_size)
{
    salvo_rabbitmq_consumer *c = handle;
    if (partition > 0) {
        snprintf(error, error_size, "rabbitmq: a queue has no partition %d, only 0",
                 (int)partition);
        return SALVO_ERR_PARTITION;
    }
    for (uint32_t i = 0; i < c->queue_count; i++) {
        if (strcmp(c->queues[i].topic, topic) != 0)
            continue;
        c->queues[i].paused = paused;
        if (paused)
            requeue_all_of(c, i);
    }
    salvo_io_set_leave(&c->set, true);
    return 0;
}

static int64_t consumer_lag(void *handle, salvo_lag *lags, size_t max, uint64_t timeout_ms,
                            char *error, size_t error_size)
{
    salvo_rabbitmq_consumer *c = handle;
    uint64_t deadline_ns = deadline_in(timeout_ms);
    for (uint32_t i = 0; i < c->queue_count && i < max; i++) {
        uint64_t left = left_ms(deadline_ns);
        int64_t n = salvo_rabbitmq_group_lag(c->env->config, NULL, c->env->options->group,
                                             c->queues[i].topic, lags + i, 1,
                                             left < UINT32_MAX ? (uint32_t)left : UINT32_MAX,
                                             error, error_size);
        if (n < 0)
            return n;
        if (i == 0 && lags[i].lag >= 0 && c->queue_count == 1)
            lags[i].lag += c->tags.open; /* ready ones, and ours */
    }
    return c->queue_count;
}

static void consumer_state(void *handle, char *text, size_t size)
{
    salvo_rabbitmq_consumer *c = handle;
    pthread_mutex_lock(&c->lock);
    snprintf(text, size, "%s", c->state);
    pthread_mutex_unlock(&c->lock);
}

/* The end of the connection gives back what is not acknowledged. */
static int consumer_close(void *handle, uint64_t timeout_ms, char *error, size_t error_size)
{
    salvo_rabbitmq_consumer *c = handle;
    uint64_t deadline_ns = deadline_in(timeout_ms);
    c->closing = true;
    int err = c->manual ? 0 : settle(c, deadline_ns, error, error_size);
    uint64_t left = left_ms(deadline_ns);
    c->link.held = false;
    if (c->connecting)
        salvo_rabbitmq_link_bye(&c->link, left < 1000 ? (uint32_t)left : 1000);
    c->env->count(c->env->consumer, SALVO_COUNT_ASSIGNED, -(int64_t)c->queue_count);
    destroy(c);
    return err;
}

const salvo_driver_consumer_ops salvo_rabbitmq_consumer_ops = {
    .open = consumer_open,
    .poll = consumer_poll,
    .descriptor = consumer_descriptor,
    .wake = consumer_wake,
    .ack = consumer_ack,
    .commit = consumer_commit,
    .rewind = consumer_rewind,
    .pause = consumer_pause,
    .lag = consumer_lag,
    .state = consumer_state,
    .close = consumer_close,
    .group_lag = salvo_rabbitmq_group_lag,
};
