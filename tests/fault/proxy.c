/* SPDX-License-Identifier: Apache-2.0
 *
 * The proxy; see proxy.h. One thread polls all sockets. A side that is to get no more bytes of a
 * cut connection is closed in order (it has read all that was passed); the other side gets a reset
 * every second time, since drivers meet both.
 */
#include "proxy.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTIONS = 64, PIECE = 64 << 10, TICK_MS = 20 };
enum { CLIENT, SERVER, SIDES };

/* One direction: what came from `side` and waits to go to the other. */
typedef struct stream {
    size_t begin, end;
    bool ended;       /* the reader saw the end */
    uint64_t passed;  /* since the last fault_proxy_set() */
    unsigned char bytes[PIECE];
} stream;

typedef struct connection {
    int fd[SIDES]; /* -1: free */
    bool lost_replies;
    stream from[SIDES];
} connection;

struct fault_proxy {
    pthread_mutex_t lock; /* of all below but the thread's own connections */
    pthread_t thread;
    int listener, wake[2];
    uint16_t port, aim;
    fault_mode mode;
    uint64_t number, generation;
    fault_counts counts;
    bool stop;
    /* The thread's own. */
    uint64_t seen_generation, budget_at_ns;
    double budget; /* bytes that may go to the server now, when slow */
    connection *all[CONNECTIONS];
};

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static struct sockaddr_in loopback(uint16_t port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return a;
}

static void tune(int fd)
{
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static void end(fault_proxy *p, int slot, bool reset_client)
{
    connection *c = p->all[slot];
    struct linger now = {1, 0};
    if (reset_client)
        setsockopt(c->fd[CLIENT], SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(c->fd[CLIENT]);
    close(c->fd[SERVER]);
    free(c);
    p->all[slot] = NULL;
}

static void cut(fault_proxy *p, int slot)
{
    end(p, slot, p->counts.cuts % 2 == 0);
    p->counts.cuts++;
}

static void take_connection(fault_proxy *p)
{
    int client = accept4(p->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (client < 0)
        return;
    struct sockaddr_in to = loopback(p->aim);
    int server = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    connection *c = calloc(1, sizeof *c);
    int slot = 0;
    while (slot < CONNECTIONS && p->all[slot] != NULL)
        slot++;
    bool ok = server >= 0 && c != NULL && slot < CONNECTIONS &&
              (connect(server, (struct sockaddr *)&to, sizeof to) == 0 || errno == EINPROGRESS);
    if (!ok) {
        close(client);
        if (server >= 0)
            close(server);
        free(c);
        return;
    }
    tune(client);
    tune(server);
    c->fd[CLIENT] = client;
    c->fd[SERVER] = server;
    p->all[slot] = c;
    p->counts.accepted++;
}

/* How much of n bytes from `side` may go on now. */
static size_t may_pass(fault_proxy *p, const connection *c, int side, size_t n)
{
    bool cutting = (p->mode == FAULT_CUT_REQUEST && side == CLIENT) ||
                   (p->mode == FAULT_CUT_REPLY && side == SERVER);
    uint64_t most = n;
    if (p->mode == FAULT_STALL)
        most = 0;
    else if (cutting)
        most = p->number > c->from[side].passed ? p->number - c->from[side].passed : 0;
    else if (p->mode == FAULT_SLOW && side == CLIENT)
        most = p->budget > 0 ? (uint64_t)p->budget : 0;
    return most < n ? (size_t)most : n;
}

/* Whether the connection's cut is due: its bytes have been passed. */
static bool cut_is_due(const fault_proxy *p, const connection *c)
{
    return (p->mode == FAULT_CUT_REQUEST && c->from[CLIENT].passed >= p->number) ||
           (p->mode == FAULT_CUT_REPLY && c->from[SERVER].passed >= p->number);
}

static bool pull(connection *c, int side)
{
    stream *s = &c->from[side];
    if (s->end == PIECE || s->ended)
        return true;
    ssize_t n = recv(c->fd[side], s->bytes + s->end, PIECE - s->end, 0);
    if (n == 0)
        s->ended = true;
    if (n > 0)
        s->end += (size_t)n;
    return n >= 0 || errno == EAGAIN || errno == EINTR;
}

static bool push(fault_proxy *p, connection *c, int side)
{
    stream *s = &c->from[side];
    size_t n = may_pass(p, c, side, s->end - s->begin);
    if (side == SERVER && p->mode == FAULT_SWALLOW && n > 0)
        c->lost_replies = true;
    if (side == SERVER && c->lost_replies) {
        p->counts.swallowed += n;
        s->begin += n;
    } else if (n > 0) {
        ssize_t sent = send(c->fd[!side], s->bytes + s->begin, n, MSG_NOSIGNAL);
        if (sent < 0)
            return errno == EAGAIN || errno == EINTR;
        s->begin += (size_t)sent;
        s->passed += (uint64_t)sent;
        *(side == CLIENT ? &p->counts.to_server : &p->counts.to_client) += (uint64_t)sent;
        if (side == CLIENT)
            p->budget -= (double)sent;
    }
    if (s->begin == s->end)
        s->begin = s->end = 0;
    return true;
}

/* False: the connection is over. */
static bool serve(fault_proxy *p, connection *c, const struct pollfd *polled)
{
    for (int side = 0; side < SIDES; side++) {
        short seen = polled[side].revents;
        if ((seen & (POLLIN | POLLHUP | POLLERR)) != 0 && p->mode != FAULT_STALL &&
            !pull(c, side))
            return false;
    }
    for (int side = 0; side < SIDES; side++)
        if (!push(p, c, side))
            return false;
    for (int side = 0; side < SIDES; side++)
        if (c->from[side].ended && c->from[side].begin == c->from[side].end)
            return false;
    return true;
}

static void refill(fault_proxy *p)
{
    uint64_t now = now_ns();
    if (p->mode == FAULT_SLOW) {
        p->budget += (double)(now - p->budget_at_ns) * (double)p->number / 1e9;
        if (p->budget > (double)p->number / 10) /* no saving up for a burst */
            p->budget = (double)p->number / 10;
    }
    p->budget_at_ns = now;
    if (p->seen_generation == p->generation)
        return;
    p->seen_generation = p->generation;
    p->budget = 0;
    for (int i = 0; i < CONNECTIONS; i++)
        if (p->all[i] != NULL)
            p->all[i]->from[CLIENT].passed = p->all[i]->from[SERVER].passed = 0;
}

static short wanted(fault_proxy *p, const connection *c, int side)
{
    const stream *in = &c->from[side], *out = &c->from[!side];
    short events = 0;
    if (p->mode == FAULT_STALL)
        return 0;
    if (in->end < PIECE && !in->ended)
        events |= POLLIN;
    if (may_pass(p, c, !side, out->end - out->begin) > 0)
        events |= POLLOUT;
    return events;
}

static void round_of(fault_proxy *p, struct pollfd *polled)
{
    pthread_mutex_lock(&p->lock);
    refill(p);
    polled[0] = (struct pollfd){.fd = p->listener, .events = POLLIN};
    polled[1] = (struct pollfd){.fd = p->wake[0], .events = POLLIN};
    for (int i = 0; i < CONNECTIONS; i++)
        for (int side = 0; side < SIDES; side++) {
            struct pollfd *f = &polled[2 + 2 * i + side];
            short events = p->all[i] != NULL ? wanted(p, p->all[i], side) : 0;
            *f = (struct pollfd){.fd = events != 0 ? p->all[i]->fd[side] : -1, .events = events};
        }
    pthread_mutex_unlock(&p->lock);
    poll(polled, 2 + 2 * CONNECTIONS, TICK_MS);
    pthread_mutex_lock(&p->lock);
    char drain[64];
    if ((polled[1].revents & POLLIN) != 0 && read(p->wake[0], drain, sizeof drain) < 0)
        p->stop = true;
    refill(p);
    for (int i = 0; i < CONNECTIONS; i++) {
        if (p->all[i] == NULL)
            continue;
        if (!serve(p, p->all[i], &polled[2 + 2 * i]))
            end(p, i, false);
        else if (cut_is_due(p, p->all[i]))
            cut(p, i);
    }
    if ((polled[0].revents & POLLIN) != 0)
        take_connection(p);
    pthread_mutex_unlock(&p->lock);
}

static void *run(void *context)
{
    fault_proxy *p = context;
    struct pollfd polled[2 + 2 * CONNECTIONS];
    for (bool stop = false; !stop;) {
        round_of(p, polled);
        pthread_mutex_lock(&p->lock);
        stop = p->stop;
        pthread_mutex_unlock(&p->lock);
    }
    for (int i = 0; i < CONNECTIONS; i++)
        if (p->all[i] != NULL)
            end(p, i, false);
    return NULL;
}

fault_proxy *fault_proxy_new(void)
{
    struct sockaddr_in a = loopback(0);
    socklen_t size = sizeof a;
    fault_proxy *p = calloc(1, sizeof *p);
    if (p == NULL)
        return NULL;
    pthread_mutex_init(&p->lock, NULL);
    p->budget_at_ns = now_ns();
    p->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (p->listener < 0 || bind(p->listener, (struct sockaddr *)&a, size) != 0 ||
        listen(p->listener, 16) != 0 ||
        getsockname(p->listener, (struct sockaddr *)&a, &size) != 0 || pipe(p->wake) != 0 ||
        pthread_create(&p->thread, NULL, run, p) != 0) {
        free(p); /* the process ends: its descriptors with it */
        return NULL;
    }
    pthread_mutex_lock(&p->lock);
    p->port = ntohs(a.sin_port);
    pthread_mutex_unlock(&p->lock);
    return p;
}

uint16_t fault_proxy_port(const fault_proxy *proxy) { return proxy->port; }

static void wake(fault_proxy *p)
{
    while (write(p->wake[1], "", 1) < 0 && errno == EINTR)
        ;
}

void fault_proxy_aim(fault_proxy *proxy, uint16_t server_port)
{
    pthread_mutex_lock(&proxy->lock);
    proxy->aim = server_port;
    pthread_mutex_unlock(&proxy->lock);
}

void fault_proxy_set(fault_proxy *proxy, fault_mode mode, uint64_t number)
{
    pthread_mutex_lock(&proxy->lock);
    proxy->mode = mode;
    proxy->number = number;
    proxy->generation++;
    pthread_mutex_unlock(&proxy->lock);
    wake(proxy);
}

fault_counts fault_proxy_read(fault_proxy *proxy)
{
    pthread_mutex_lock(&proxy->lock);
    fault_counts counts = proxy->counts;
    pthread_mutex_unlock(&proxy->lock);
    return counts;
}

void fault_proxy_free(fault_proxy *proxy)
{
    pthread_mutex_lock(&proxy->lock);
    proxy->stop = true;
    pthread_mutex_unlock(&proxy->lock);
    wake(proxy);
    pthread_join(proxy->thread, NULL);
    close(proxy->listener);
    close(proxy->wake[0]);
    close(proxy->wake[1]);
    pthread_mutex_destroy(&proxy->lock);
    free(proxy);
}
