/* SPDX-License-Identifier: Apache-2.0
 *
 * RabbitMQ's store for the verifier, by rabbitmq-c: the topic's durable queue is declared, consumed
 * and acknowledged (which trims it), and deleted at the end. A server that is away is connected to
 * anew; what it then hands out again says so itself.
 */
#include "fault.h"

#include <amqp.h>
#include <amqp_tcp_socket.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { AT_ONCE = 1000, WINDOW = 4000 };

typedef struct rabbit_store {
    amqp_connection_state_t c; /* NULL: not connected */
} rabbit_store;

static void leave(rabbit_store *r)
{
    if (r->c != NULL)
        amqp_destroy_connection(r->c);
    r->c = NULL;
}

static bool fine(rabbit_store *r)
{
    return amqp_get_rpc_reply(r->c).reply_type == AMQP_RESPONSE_NORMAL;
}

static bool prepare(rabbit_store *r, fault_shared *s)
{
    amqp_bytes_t queue = amqp_cstring_bytes(s->topic);
    if (amqp_login(r->c, "/", 0, 131072, 0, AMQP_SASL_METHOD_PLAIN, "guest", "guest")
            .reply_type != AMQP_RESPONSE_NORMAL)
        return false;
    amqp_channel_open(r->c, 1);
    if (!fine(r))
        return false;
    amqp_queue_declare(r->c, 1, queue, 0, 1, 0, 0, amqp_empty_table);
    if (!fine(r))
        return false;
    amqp_basic_qos(r->c, 1, 0, WINDOW, 0);
    if (!fine(r))
        return false;
    amqp_basic_consume(r->c, 1, queue, amqp_empty_bytes, 0, 0, 0, amqp_empty_table);
    return fine(r);
}

static bool join(rabbit_store *r, fault_shared *s)
{
    const char *colon = strchr(s->address, ':');
    char host[64];
    snprintf(host, sizeof host, "%.*s", (int)(colon - s->address), s->address);
    r->c = amqp_new_connection();
    amqp_socket_t *socket = r->c != NULL ? amqp_tcp_socket_new(r->c) : NULL;
    struct timeval soon = {5, 0};
    if (socket != NULL)
        amqp_set_handshake_timeout(r->c, &soon);
    if (socket != NULL && amqp_set_rpc_timeout(r->c, &soon) == 0 &&
        amqp_socket_open_noblock(socket, host, atoi(colon + 1), &soon) == 0 && prepare(r, s))
        return true;
    leave(r);
    return false;
}

static int create(fault_shared *s)
{
    (void)s;
    return 0; /* whoever comes first declares it: the driver or the reader */
}

static void *open_store(fault_shared *s, salvo *producer)
{
    (void)s;
    (void)producer;
    return calloc(1, sizeof(rabbit_store));
}

/* The key travels as a header. */
static amqp_bytes_t key_of(const amqp_basic_properties_t *p)
{
    static const char own[] = "salvo-key";
    if ((p->_flags & AMQP_BASIC_HEADERS_FLAG) != 0)
        for (int i = 0; i < p->headers.num_entries; i++) {
            const amqp_table_entry_t *e = &p->headers.entries[i];
            bool bytes = e->value.kind == AMQP_FIELD_KIND_UTF8 ||
                         e->value.kind == AMQP_FIELD_KIND_BYTES;
            if (bytes && e->key.len == sizeof own - 1 &&
                memcmp(e->key.bytes, own, sizeof own - 1) == 0)
                return e->value.value.bytes;
        }
    return amqp_empty_bytes;
}

/* 1: a message was taken; 0: none came in time; -1: the connection is over. */
static int take_one(rabbit_store *r, fault_shared *s, uint64_t *tag, int wait_ms)
{
    amqp_envelope_t e;
    struct timeval wait = {0, wait_ms * 1000};
    amqp_rpc_reply_t got = amqp_consume_message(r->c, &e, &wait, 0);
    if (got.reply_type != AMQP_RESPONSE_NORMAL)
        return got.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION &&
                       got.library_error == AMQP_STATUS_TIMEOUT
                   ? 0
                   : -1;
    amqp_bytes_t key = key_of(&e.message.properties);
    fault_take(s, key.bytes, key.len, e.message.body.bytes, e.message.body.len, e.redelivered);
    *tag = e.delivery_tag;
    amqp_destroy_envelope(&e);
    return 1;
}

static int read_some(void *store, fault_shared *s)
{
    rabbit_store *r = store;
    uint64_t tag = 0;
    int n = 0, got = 1;
    if (r->c == NULL && !join(r, s))
        return 0;
    while (n < AT_ONCE && (got = take_one(r, s, &tag, n == 0 ? 50 : 0)) > 0)
        n++;
    amqp_maybe_release_buffers(r->c);
    if (got < 0 || (n > 0 && amqp_basic_ack(r->c, 1, tag, 1) != 0))
        leave(r);
    return n;
}

static void close_store(void *store, fault_shared *s)
{
    rabbit_store *r = store;
    if (r->c != NULL || join(r, s))
        amqp_queue_delete(r->c, 1, amqp_cstring_bytes(s->topic), 0, 0);
    leave(r);
    free(r);
}

const fault_store fault_store_rabbitmq = {"rabbitmq", create, open_store, read_some,
                                          close_store};
