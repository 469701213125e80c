/* SPDX-License-Identifier: Apache-2.0
 *
 * Consuming from Redis streams as a member of a group; see redis_consumer.h for how its files work
 * together, docs/redis.md for what is promised.
 *
 * Guarantees: an entry is given until its XACK was answered, to this or another member; none is
 * acknowledged before it was settled. What is in hand is renewed at a third of redis_claim_idle_ms,
 * so a long handler keeps its message as long as somebody polls; what others let lie for longer is
 * claimed. A lost connection costs nothing in hand. Memory: at most max_in_hand ids, and entries
 * of 32 MiB and one reply.
 * Not guaranteed: that no two members process an entry, should one of them stall for longer than
 * redis_claim_idle_ms: its claim has ended then, and salvo_consumer_is_held() says so.
 */
#include "redis_admin.h"
#include "redis_internal.h"

#include "clock.h"
#include "config_internal.h"
#include "error.h"
#include "redis_consumer.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define MS UINT64_C(1000000)

enum {
    SLICE_MS = 20,
    QUIET_MS = 100,
    ROUNDS = 16,
    READ_FIRST = 64,
    CLOSE_READ_MS = 300
};

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

/* --- what goes on --------------------------------------------------------------------------- */

static void step_link(salvo_redis_consumer *c, salvo_redis_link *link, salvo_redis_source *source)
{
    bool was_up = link->state == SALVO_REDIS_UP;
    if (salvo_redis_link_step(link) && salvo_redis_source_open(source))
        salvo_redis_link_drop(link, "no memory for a parser");
    if (link->state == SALVO_REDIS_UP) {
        const char *why = salvo_redis_consumer_heard(c, link);
        if (why)
            salvo_redis_consumer_lost(c, link, why);
    } else if (was_up) {
        salvo_redis_consumer_lost(c, link, link->why);
    }
}

/* Nobody looked for so long that what arrived meanwhile may be another member's by now. */
static void look_for_stall(salvo_redis_consumer *c, uint64_t now_ns)
{
    if (now_ns - c->worked_ns > c->claim_idle_ns / 2 && !c->closing) {
        if (c->commands.state == SALVO_REDIS_UP)
            salvo_redis_consumer_lost(c, &c->commands, "nobody polled this consumer for too long");
        if (c->reading.state == SALVO_REDIS_UP)
            salvo_redis_consumer_lost(c, &c->reading, "nobody polled this consumer for too long");
    }
    c->worked_ns = now_ns;
}

/* Something arrived while we were sending: nobody would wake us for it again. */
static bool unread(const salvo_redis_link *link)
{
    const void *bytes;
    return link->conn && salvo_io_input(link->conn, &bytes) > 0;
}

static void work_once(salvo_redis_consumer *c, uint64_t now_ns)
{
    step_link(c, &c->commands, &c->command_source);
    step_link(c, &c->reading, &c->read_source);
    if (c->commands.state == SALVO_REDIS_UP) {
        salvo_redis_consumer_send(c, now_ns);
        (void)salvo_io_step(c->commands.io);
    }
    if (c->commands.state == SALVO_REDIS_UP && c->reading.state == SALVO_REDIS_UP) {
        salvo_redis_consumer_read(c, now_ns);
        (void)salvo_io_step(c->reading.io);
    }
}

static void work(salvo_redis_consumer *c)
{
    uint64_t now_ns = salvo_clock_monotonic_ns();
    look_for_stall(c, now_ns);
    for (int round = 0; round < ROUNDS; round++) {
        work_once(c, now_ns);
        if (!unread(&c->commands) && !unread(&c->reading))
            return;
    }
    salvo_io_set_wake(&c->set); /* others want their turn, too */
}

/* A stream's entries are no longer ours, or are to come again. */
static void end_claim(salvo_redis_consumer *c, salvo_redis_stream *s)
{
    c->env->revoked(c->env->consumer, s->claim);
    s->claim = ++c->last_claim;
    salvo_redis_need_history(s);
}

static void end_claims(salvo_redis_consumer *c, uint64_t now_ns)
{
    for (uint32_t i = 0; i < c->stream_count; i++) {
        salvo_redis_stream *s = &c->streams[i];
        if (!s->ended)
            continue;
        c->env->log(SALVO_LOG_WARNING, "redis: stream '%s' or group '%s' was removed; reading it "
                    "from its beginning", s->name, c->group);
        s->ended = false;
        end_claim(c, s);
        salvo_redis_hand_clear(&s->hand);
    }
    if (salvo_redis_in_hand(c) == 0) {
        c->renewed_ns = now_ns;
        return;
    }
    if (now_ns - c->renewed_ns <= c->claim_idle_ns)
        return;
    c->env->log(SALVO_LOG_WARNING, "redis: group '%s': nothing in hand could be renewed within "
                "redis_claim_idle_ms: others may have it", c->group);
    for (uint32_t i = 0; i < c->stream_count; i++) {
        end_claim(c, &c->streams[i]);
        salvo_redis_hand_forget(&c->streams[i].hand, false);
    }
    c->renewed_ns = now_ns;
}

/* --- open ----------------------------------------------------------------------------------- */

static void destroy(salvo_redis_consumer *c)
{
    salvo_io_set_close(&c->set);
    salvo_redis_link_close(&c->commands);
    salvo_redis_link_close(&c->reading);
    salvo_redis_source_close(&c->command_source);
    salvo_redis_source_close(&c->read_source);
    while (c->asked && c->asked_head != c->asked_tail)
        salvo_redis_batch_destroy(c->asked[c->asked_head++ & c->asked_mask].batch);
    for (salvo_redis_batch *next; c->first; c->first = next) {
        next = c->first->next;
        salvo_redis_batch_destroy(c->first);
    }
    for (salvo_redis_batch *next; c->free; c->free = next) {
        next = c->free->next;
        salvo_redis_batch_destroy(c->free);
    }
    salvo_redis_batch_destroy(c->command_into);
    salvo_redis_batch_destroy(c->read_into);
    for (uint32_t i = 0; c->streams && i < c->stream_count; i++) {
        free(c->streams[i].name);
        salvo_redis_hand_free(&c->streams[i].hand);
    }
    free(c->streams);
    free(c->asked);
    free(c->line);
    free(c);
}

static void name_it(salvo_redis_consumer *c, const char *member)
{
    uint64_t random;
    if (getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random)
        random = salvo_clock_monotonic_ns();
    if (member)
        snprintf(c->name, sizeof c->name, "%s", member);
    else
        snprintf(c->name, sizeof c->name, "salvo-%016llx", (unsigned long long)random);
}

static int new_handle(const salvo_consumer_env *env, salvo_redis_consumer **out)
{
    const salvo_consumer_options *options = env->options;
    salvo_redis_consumer *c = calloc(1, sizeof *c);
    *out = c;
    if (!c)
        return SALVO_ERR_NOMEM;
    c->set.all = c->set.wake = c->set.more = -1;
    c->env = env;
    c->group = options->group;
    c->manual = options->manual_commit != 0;
    c->must_exist = salvo_config_is(env->config, "kafka_auto_offset_reset", "none");
    c->from_end = salvo_config_is(env->config, "kafka_auto_offset_reset", "latest");
    c->claim_idle_ns = (uint64_t)salvo_config_int(env->config, "redis_claim_idle_ms") * MS;
    c->most_bytes = (size_t)salvo_config_int(env->config, "max_message_bytes");
    c->read_count = READ_FIRST;
    c->renewed_ns = c->worked_ns = salvo_clock_monotonic_ns();
    name_it(c, options->member);
    c->stream_count = (uint32_t)options->topic_count;
    c->streams = calloc(options->topic_count, sizeof *c->streams);
    c->command_into = salvo_redis_batch_new(c);
    c->read_into = salvo_redis_batch_new(c);
    if (!c->streams || !c->command_into || !c->read_into)
        return SALVO_ERR_NOMEM;
    for (uint32_t i = 0; i < c->stream_count; i++) {
        salvo_redis_stream *s = &c->streams[i];
        s->claim = ++c->last_claim;
        s->history = options->member ? SALVO_REDIS_HISTORY_DUE : SALVO_REDIS_HISTORY_READ;
        if (!(s->name = strdup(options->topics[i])))
            return SALVO_ERR_NOMEM;
    }
    c->command_source.into = &c->command_into->tree;
    c->read_source.into = &c->read_into->tree;
    c->command_into->tree.most = c->read_into->tree.most = SALVO_REDIS_TEXT_MOST;
    return 0;
}

static int open_links(salvo_redis_consumer *c, size_t out_bytes, char *error, size_t error_size)
{
    salvo_redis_link_options link = {.config = c->env->config, .now_ns = monotonic,
                                     .out_bytes = out_bytes, .in_bytes = SALVO_REDIS_IN_BYTES};
    int err = salvo_redis_link_open(&c->commands, &link, error, error_size);
    if (!err)
        err = salvo_redis_link_open(&c->reading, &link, error, error_size);
    if (!err)
        err = salvo_io_set_open(&c->set, (salvo_io *[]){c->commands.io, c->reading.io}, 2, error,
                                error_size);
    return err;
}

/* Something that the server will not let us do; 0: nothing is known. */
static int trouble(const salvo_redis_consumer *c, char *error, size_t error_size)
{
    char place[320];
    const salvo_redis_link *link = c->commands.refusal ? &c->commands : &c->reading;
    salvo_redis_link_place(&c->commands, place, sizeof place);
    if (link->refusal) {
        snprintf(error, error_size, "redis: %s: %s", place, link->why);
        return link->refusal;
    }
    for (uint32_t i = 0; i < c->stream_count; i++)
        if (c->streams[i].error) {
            snprintf(error, error_size, "redis: %s: stream '%s', group '%s': %s", place,
                     c->streams[i].name, c->group, c->streams[i].why);
            return c->streams[i].error;
        }
    return 0;
}

static bool all_there(const salvo_redis_consumer *c)
{
    uint32_t there = 0;
    for (uint32_t i = 0; i < c->stream_count; i++)
        there += c->streams[i].group == SALVO_REDIS_GROUP_THERE;
    return there == c->stream_count && c->reading.state == SALVO_REDIS_UP;
}

static int wait_open(salvo_redis_consumer *c, char *error, size_t error_size)
{
    char place[320];
    uint32_t timeout_ms = c->env->options->open_timeout_ms;
    uint64_t deadline_ns = deadline_in(timeout_ms);
    for (;;) {
        work(c);
        if (all_there(c))
            return 0;
        int err = trouble(c, error, error_size);
        if (err)
            return err;
        uint64_t left = left_ms(deadline_ns);
        if (left == 0)
            break;
        (void)salvo_io_set_wait(&c->set, left < SLICE_MS ? left : SLICE_MS);
    }
    snprintf(error, error_size, "redis: %s did not answer within %u ms%s%s",
             salvo_redis_link_place(&c->commands, place, sizeof place), timeout_ms,
             c->commands.why[0] ? ": " : "", c->commands.why);
    return SALVO_ERR_UNREACHABLE;
}

static int consumer_open(const salvo_consumer_env *env, void **handle, char *error,
                         size_t error_size)
{
    salvo_redis_consumer *c;
    size_t out_bytes = 0;
    *handle = NULL;
    snprintf(error, error_size, "redis: no memory for a consumer");
    int err = new_handle(env, &c);
    if (!err)
        err = salvo_redis_consumer_buffers(c, &out_bytes);
    if (!err)
        err = open_links(c, out_bytes, error, error_size);
    if (!err)
        err = wait_open(c, error, error_size);
    if (err) {
        if (c)
            destroy(c);
        return err;
    }
    env->count(env->consumer, SALVO_COUNT_ASSIGNED, c->stream_count);
    salvo_io_set_leave(&c->set, false);
    *handle = c;
    error[0] = '\0';
    return 0;
}

/* --- poll ----------------------------------------------------------------------------------- */

static bool something_to_give(const salvo_redis_consumer *c)
{
    for (const salvo_redis_batch *batch = c->first; batch; batch = batch->next)
        for (size_t i = batch->at; i < batch->count; i++)
            if (!batch->found[i].given && !c->streams[batch->found[i].stream].paused)
                return true;
    return false;
}

/* How long nothing but the sockets needs a look. */
static uint64_t slice_ms(const salvo_redis_consumer *c)
{
    bool both = c->commands.state == SALVO_REDIS_UP && c->reading.state == SALVO_REDIS_UP;
    uint64_t quiet_ms = c->claim_idle_ns / MS / 8;
    if (!both)
        return SLICE_MS;
    return quiet_ms < QUIET_MS ? quiet_ms : QUIET_MS;
}

static int consumer_poll(void *handle, uint64_t timeout_ms, salvo_driver_delivery *deliveries,
                         size_t max, char *error, size_t error_size)
{
    salvo_redis_consumer *c = handle;
    uint64_t deadline_ns = deadline_in(timeout_ms);
    int given;
    salvo_redis_batch_recycle(c);
    for (;;) {
        work(c);
        end_claims(c, salvo_clock_monotonic_ns());
        given = salvo_redis_batch_give(c, deliveries, max, error, error_size);
        uint64_t left = left_ms(deadline_ns), slice = slice_ms(c);
        if (given != 0 || max == 0 || left == 0 ||
            salvo_io_set_wait(&c->set, left < slice ? left : slice))
            break;
    }
    if (given == 0 && max > 0)
        given = trouble(c, error, error_size);
    salvo_io_set_leave(&c->set, something_to_give(c) || unread(&c->commands) ||
                                    unread(&c->reading));
    return given;
}

static int consumer_descriptor(void *handle)
{
    return salvo_io_set_descriptor(&((salvo_redis_consumer *)handle)->set);
}

static void consumer_wake(void *handle)
{
    salvo_io_set_wake(&((salvo_redis_consumer *)handle)->set);
}

/* --- settling ------------------------------------------------------------------------------- */

static void consumer_ack(void *handle, const salvo_driver_tag *tags, size_t count)
{
    salvo_redis_consumer *c = handle;
    uint32_t at = 0;
    for (size_t i = 0; i < count; i++) {
        for (uint32_t n = 0; n < c->stream_count && c->streams[at].claim != tags[i].claim; n++)
            at = at + 1 < c->stream_count ? at + 1 : 0;
        salvo_redis_stream *s = &c->streams[at];
        if (s->claim == tags[i].claim)
            (void)salvo_redis_hand_settle(&s->hand, (salvo_redis_id){tags[i].a, tags[i].b},
                                          !c->manual);
    }
}

static bool owes_acks(const salvo_redis_consumer *c)
{
    for (uint32_t i = 0; i < c->stream_count; i++)
        if (c->streams[i].hand.ack_due > 0)
            return true;
    return false;
}

/* Until the server knows what is due. */
static int settle(salvo_redis_consumer *c, uint64_t deadline_ns, char *error, size_t error_size)
{
    for (;;) {
        work(c);
        if (!owes_acks(c))
            return 0;
        int err = trouble(c, error, error_size);
        uint64_t left = left_ms(deadline_ns);
        if (err)
            return err;
        if (left == 0)
            break;
        (void)salvo_io_set_wait(&c->set, left < SLICE_MS ? left : SLICE_MS);
    }
    snprintf(error, error_size, "redis: acknowledgements of group '%s' were not answered in "
             "time%s%s; what they are of may come again", c->group,
             c->commands.why[0] ? ": " : "", c->commands.why);
    return c->commands.state == SALVO_REDIS_UP ? SALVO_ERR_TIMEOUT : SALVO_ERR_UNREACHABLE;
}

static int consumer_commit(void *handle, uint64_t timeout_ms, char *error, size_t error_size)
{
    salvo_redis_consumer *c = handle;
    for (uint32_t i = 0; i < c->stream_count; i++)
        c->streams[i].hand.ack_due = c->streams[i].hand.ack_count;
    int err = settle(c, deadline_in(timeout_ms), error, error_size);
    salvo_io_set_leave(&c->set, something_to_give(c));
    return err;
}

static int consumer_rewind(void *handle, char *error, size_t error_size)
{
    salvo_redis_consumer *c = handle;
    (void)error, (void)error_size;
    for (uint32_t i = 0; i < c->stream_count; i++) {
        end_claim(c, &c->streams[i]);
        salvo_redis_hand_forget(&c->streams[i].hand, true);
    }
    salvo_io_set_leave(&c->set, true);
    return 0;
}

static int consumer_pause(void *handle, const char *topic, int32_t partition, bool paused,
                          char *error, size_t error_size)
{
    salvo_redis_consumer *c = handle;
    if (partition > 0) {
        snprintf(error, error_size, "redis: a stream has no partition %d, only 0", (int)partition);
        return SALVO_ERR_PARTITION;
    }
    for (uint32_t i = 0; i < c->stream_count; i++)
        if (strcmp(c->streams[i].name, topic) == 0)
            c->streams[i].paused = paused;
    salvo_io_set_leave(&c->set, something_to_give(c));
    return 0;
}

static int64_t consumer_lag(void *handle, salvo_lag *lags, size_t max, uint64_t timeout_ms,
                            char *error, size_t error_size)
{
    salvo_redis_consumer *c = handle;
    uint64_t deadline_ns = deadline_in(timeout_ms);
    for (uint32_t i = 0; i < c->stream_count && i < max; i++) {
        uint64_t left = left_ms(deadline_ns);
        int64_t n = salvo_redis_group_lag(c->env->config, NULL, c->group, c->streams[i].name,
                                          lags + i, 1, left < UINT32_MAX ? (uint32_t)left
                                                                         : UINT32_MAX,
                                          error, error_size);
        if (n < 0)
            return n;
    }
    return c->stream_count;
}

static void consumer_state(void *handle, char *text, size_t size)
{
    salvo_redis_link_text(&((salvo_redis_consumer *)handle)->commands, text, size);
}

/* --- close ---------------------------------------------------------------------------------- */

static bool up(const salvo_redis_consumer *c)
{
    return c->commands.state == SALVO_REDIS_UP;
}

/* What may come for us comes now, not after we left. */
static void stop_reading(salvo_redis_consumer *c, uint64_t deadline_ns)
{
    uint64_t most_ns = deadline_in(CLOSE_READ_MS);
    if (most_ns > deadline_ns)
        most_ns = deadline_ns;
    work(c);
    while (c->reading_asked && left_ms(most_ns) > 0) {
        (void)salvo_io_set_wait(&c->set, SLICE_MS);
        work(c);
    }
}

static void leave_group(salvo_redis_consumer *c, uint64_t deadline_ns)
{
    for (uint32_t i = 0; i < c->stream_count && up(c); i++) {
        salvo_redis_hand_forget(&c->streams[i].hand, false); /* nobody renews it any more */
        if (c->streams[i].group == SALVO_REDIS_GROUP_THERE)
            (void)salvo_redis_consumer_ask(c, SALVO_REDIS_ASKED_LEFT, i);
    }
    while (up(c) && c->asked_head != c->asked_tail && left_ms(deadline_ns) > 0) {
        work(c);
        if (c->asked_head != c->asked_tail)
            (void)salvo_io_set_wait(&c->set, SLICE_MS);
    }
}

static int consumer_close(void *handle, uint64_t timeout_ms, char *error, size_t error_size)
{
    salvo_redis_consumer *c = handle;
    uint64_t deadline_ns = deadline_in(timeout_ms);
    c->closing = true;
    stop_reading(c, deadline_ns);
    int err = owes_acks(c) ? settle(c, deadline_ns, error, error_size) : 0;
    for (uint32_t i = 0; i < c->stream_count && up(c); i++)
        if (c->streams[i].group == SALVO_REDIS_GROUP_THERE)
            (void)salvo_redis_consumer_give_back(c, i);
    leave_group(c, deadline_ns);
    c->env->count(c->env->consumer, SALVO_COUNT_ASSIGNED, -(int64_t)c->stream_count);
    destroy(c);
    return err;
}

const salvo_driver_consumer_ops salvo_redis_consumer_ops = {
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
    .group_lag = salvo_redis_group_lag,
};
