/* SPDX-License-Identifier: Apache-2.0
 *
 * A real Redis. Its administration goes over a connection of hiredis, so that what the driver
 * wrote is looked at by somebody else.
 */
#include "conformance.h"
#include <hiredis/hiredis.h>

static redisReply *ask(const char *format, ...)
{
    redisContext *context = redisConnect("127.0.0.1", server_port());
    if (!context || context->err)
        fail_msg("redis: %s", context ? context->errstr : "no memory");
    va_list arguments;
    va_start(arguments, format);
    redisReply *reply = redisvCommand(context, format, arguments);
    va_end(arguments);
    if (!reply || reply->type == REDIS_REPLY_ERROR)
        fail_msg("redis: %s: %s", format, reply ? reply->str : context->errstr);
    redisFree(context);
    return reply;
}

#define TELL(...) freeReplyObject(ask(__VA_ARGS__))

static void login(world *w, const char *password)
{
    char url[160];
    TELL("ACL SETUSER salvo reset on >right ~* &* +@all");
    snprintf(url, sizeof url, "redis://salvo:%s@%s/0", password, server_address());
    world_set(w, "redis_url", url);
}

/* The ids of a stream end at 2^64-1: of one that is 15 short of it the rest is refused. */
static void nearly_full(const char *stream)
{
    static const char id[] = "18446744073709551615-18446744073709551600";
    TELL("XADD %s %s value x", stream, id);
    TELL("XDEL %s %s", stream, id);
}

static void refuse_some(world *w)
{
    enum { LEFT = 15, COUNT = 60 };
    char full[96], list[96], missing[96];
    nearly_full(world_fresh_name(full));
    TELL("RPUSH %s x", world_fresh_name(list));
    world_set(w, "linger_us", "300000"); /* one batch each, all in one window */
    world_open(w);
    salvo_topic_options existing = {.size = sizeof existing, .redis_nomkstream = 1};
    uint32_t topics[] = {world_topic_named(w, full, NULL), world_topic_named(w, list, NULL),
                         world_topic(w, NULL),
                         world_topic_named(w, world_fresh_name(missing), &existing)};
    for (uint32_t i = 0; i < COUNT; i++) {
        const int fates[] = {i < LEFT ? 0 : SALVO_ERR_REJECTED, SALVO_ERR_REJECTED, 0,
                             SALVO_ERR_UNKNOWN_TOPIC};
        for (uint32_t t = 0; t < 4; t++) {
            char text[16]; /* with a time of its own: the ids of the first stream tell none */
            salvo_message m = {.value = text, .timestamp_ms = wall_ms()};
            m.value_len = (size_t)snprintf(text, sizeof text, "%u", i);
            assert_true(world_send(w, topics[t], t, &m));
            world_expect_last(w, fates[t]);
        }
    }
    world_flush(w, 30000);
    TELL("DEL %s", list); /* a list is nothing that could be read back */
}

static size_t lower_limit(world *w)
{
    TELL("CONFIG SET proto-max-bulk-len 1048576");
    world_set(w, "max_message_bytes", "4194304");
    world_set(w, "buffer_bytes", "134217728");
    return 2000000;
}

static void restore_limit(world *w)
{
    (void)w;
    TELL("CONFIG SET proto-max-bulk-len 536870912");
}

/* The longest string of the only entry. */
static size_t stored_bytes(world *w, const char *topic)
{
    (void)w;
    redisReply *entries = ask("XRANGE %s - +", topic);
    size_t longest = 0;
    assert_int_equal(entries->elements, 1);
    const redisReply *fields = entries->element[0]->element[1];
    for (size_t i = 0; i < fields->elements; i++)
        if (fields->element[i]->len > longest)
            longest = fields->element[i]->len;
    freeReplyObject(entries);
    return longest;
}

const target_hooks redis_hooks = {
    .login = login,
    .refuse_some = refuse_some,
    .lower_limit = lower_limit,
    .restore_limit = restore_limit,
    .stored_bytes = stored_bytes,
};
