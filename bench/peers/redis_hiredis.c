/* SPDX-License-Identifier: Apache-2.0
 *
 * hiredis with pipelining: one connection that does not block, XADDs appended as they are due,
 * written when nothing is due, replies taken in order. A full window waits for replies.
 */
#include "play.h"

#include <hiredis/hiredis.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_MS = 10000 };

typedef struct client {
    play *play;
    redisContext *c;
    const char *stream;
    play_queue waiting;
} client;

static void check(const client *c, int status)
{
    if (status != REDIS_OK)
        play_die("hiredis: %s", c->c->errstr);
}

static bool write_some(client *c)
{
    int done = 0;
    check(c, redisBufferWrite(c->c, &done));
    return done != 0;
}

static void take_replies(client *c)
{
    void *reply = NULL;
    check(c, redisBufferRead(c->c));
    check(c, redisGetReplyFromReader(c->c, &reply));
    while (reply) {
        bool good = ((redisReply *)reply)->type == REDIS_REPLY_STRING;
        if (!good)
            fprintf(stderr, "peer: redis: %s\n", ((redisReply *)reply)->str);
        freeReplyObject(reply);
        play_queue *q = &c->waiting;
        play_settled(c->play, q->at_ns[q->taken++ % q->room], good);
        check(c, redisGetReplyFromReader(c->c, &reply));
    }
}

/* Write what is there, and take replies until the time; once at least. */
static void serve(void *state, uint64_t until_ns)
{
    client *c = state;
    uint64_t now;
    do {
        struct pollfd fd = {.fd = c->c->fd, .events = POLLIN};
        if (!write_some(c))
            fd.events |= POLLOUT;
        now = play_now_ns();
        uint64_t left = until_ns > now ? until_ns - now : 0;
        struct timespec t = {.tv_sec = (time_t)(left / 1000000000u),
                             .tv_nsec = (long)(left % 1000000000u)};
        if (ppoll(&fd, 1, &t, NULL) > 0 && fd.revents & (POLLIN | POLLERR | POLLHUP))
            take_replies(c);
        now = play_now_ns();
    } while (now < until_ns);
}

static bool send_to_redis(void *state, const play_message *m)
{
    client *c = state;
    const char *words[7] = {"XADD", c->stream, "*"};
    size_t lengths[7] = {4, strlen(c->stream), 1};
    int count = 3;
    while (c->waiting.put - c->waiting.taken >= c->waiting.room)
        serve(c, play_now_ns() + 1000000);
    if (m->key) {
        words[count] = "key";
        lengths[count++] = 3;
        words[count] = m->key;
        lengths[count++] = m->key_len;
    }
    words[count] = "value";
    lengths[count++] = 5;
    words[count] = m->value;
    lengths[count++] = m->value_len;
    check(c, redisAppendCommandArgv(c->c, count, words, lengths));
    c->waiting.at_ns[c->waiting.put++ % c->waiting.room] = m->at_ns;
    return true;
}

static void drain(void *state, unsigned timeout_ms)
{
    client *c = state;
    uint64_t end = play_now_ns() + timeout_ms * UINT64_C(1000000);
    while (c->waiting.taken < c->waiting.put && play_now_ns() < end)
        serve(c, play_now_ns() + 1000000);
}

static void *open_client(play *p)
{
    char host[256];
    int port;
    client *c = calloc(1, sizeof *c);
    const char *address = play_text(p, "address");
    if (sscanf(address, "redis://%255[^:/]:%d", host, &port) != 2)
        play_die("address=%s: redis://HOST:PORT/0 is wanted", address);
    if (!c || !(c->c = redisConnectNonBlock(host, port)) || c->c->err)
        play_die("hiredis: no connection to %s", address);
    c->play = p;
    c->stream = play_text(p, "topic");
    play_queue_init(&c->waiting, play_number(p, "window"));
    (void)poll(&(struct pollfd){.fd = c->c->fd, .events = POLLOUT}, 1, FIRST_MS);
    send_to_redis(c, &(play_message){.at_ns = 0, .value = "first", .value_len = 5});
    drain(c, FIRST_MS);
    if (c->waiting.taken != 1)
        play_die("hiredis: a first message was not acknowledged");
    return c;
}

static void close_client(void *state)
{
    client *c = state;
    redisFree(c->c);
    free(c->waiting.at_ns);
    free(c);
}

static const char *version(void)
{
    static char text[32];
    snprintf(text, sizeof text, "%d.%d.%d", HIREDIS_MAJOR, HIREDIS_MINOR, HIREDIS_PATCH);
    return text;
}

int main(int argc, char **argv)
{
    const play_client hiredis = {.name = "hiredis", .version = version, .open = open_client,
                                 .send = send_to_redis, .serve = serve, .drain = drain,
                                 .close = close_client};
    return play_main(argc, argv, &hiredis);
}
