/* SPDX-License-Identifier: Apache-2.0
 *
 * What the tests of RabbitMQ share: producers, readers, and rabbitmq-c as the other client, which
 * makes and breaks queues and exchanges behind Salvo's back.
 */
#ifndef RABBITMQ_WORLD_H
#define RABBITMQ_WORLD_H

#include "server_world.h"

#include <amqp.h>
#include <amqp_tcp_socket.h>
#include <salvo/reader.h>
#include <salvo/salvo.h>
#include <stdbool.h>
#include <time.h>

typedef struct world {
    salvo_config *config;
    salvo *producer;
} world;

static inline uint64_t world_now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* A name that no other run has used. */
static inline const char *fresh_name(char name[96], const char *what)
{
    static int count;
    snprintf(name, 96, "salvo-%s-%d-%llx-%d", what, (int)getpid(),
             (unsigned long long)world_now_ms(), count++);
    return name;
}

static inline void world_set(world *w, const char *key, const char *value)
{
    if (salvo_config_set(w->config, key, value))
        fail_msg("%s", salvo_config_error(w->config));
}

static inline world world_new(const char *url)
{
    world w = {0};
    assert_int_equal(salvo_config_new(&w.config), 0);
    world_set(&w, "message_broker", "rabbitmq");
    world_set(&w, "rabbitmq_url", url);
    return w;
}

static inline void world_start(world *w)
{
    if (salvo_open(w->config, NULL, &w->producer))
        fail_msg("salvo_open: %s", salvo_last_error());
}

static inline salvo_topic world_topic(world *w, const char *name,
                                      const salvo_topic_options *options)
{
    salvo_topic topic;
    if (salvo_topic_open(w->producer, name, options, &topic))
        fail_msg("salvo_topic_open: %s", salvo_last_error());
    return topic;
}

static inline void world_send(world *w, salvo_topic topic, const char *text)
{
    assert_int_equal(salvo_send_fire_and_forget(w->producer, topic, NULL, 0, text, strlen(text)),
                     0);
}

static inline int world_send_wait(world *w, salvo_topic topic, const char *text)
{
    return salvo_send_wait(w->producer, topic,
                           &(salvo_message){.value = text, .value_len = strlen(text)}, 30000, NULL);
}

static inline void world_state(world *w, char text[96])
{
    salvo_stats s = {.size = sizeof s};
    assert_int_equal(salvo_get_stats(w->producer, &s), 0);
    memcpy(text, s.broker_state, 96);
}

static inline void world_flush(world *w, uint64_t timeout_ms)
{
    char state[96];
    int err = salvo_flush(w->producer, timeout_ms);
    world_state(w, state);
    if (err)
        fail_msg("salvo_flush: %s; broker %s", salvo_strerror(err), state);
}

/* Close; the ledger must balance and be at rest. */
static inline salvo_ledger world_end(world *w)
{
    salvo_close_report r;
    int err = salvo_close(w->producer, 30000, &r);
    const salvo_ledger *l = &r.ledger;
    assert_true(err == 0 || err == SALVO_ERR_DROPPED);
    assert_int_equal(l->accepted, l->acknowledged + l->failed + l->expired + l->dropped);
    assert_int_equal(l->pending, 0);
    assert_int_equal(l->pending_counted, 0);
    assert_int_equal(err == 0, r.undelivered == 0);
    salvo_config_free(w->config);
    *w = (world){0};
    return r.ledger;
}

static inline salvo_reader *world_read(const salvo_config *config, const char *queue)
{
    salvo_reader *reader;
    salvo_reader_options options = {.size = sizeof options, .stop_at_end = 1};
    if (salvo_reader_open(config, NULL, queue, &options, &reader))
        fail_msg("salvo_reader_open: %s", salvo_last_error());
    return reader;
}

/* False at the end. */
static inline bool world_next(salvo_reader *reader, salvo_record *record)
{
    int err = salvo_reader_next(reader, 20000, record);
    if (err && err != SALVO_ERR_END)
        fail_msg("salvo_reader_next: %s", salvo_last_error());
    return !err;
}

/* --- the other client ---------------------------------------------------------------------- */

static inline amqp_connection_state_t other_open(const char *url)
{
    struct amqp_connection_info info;
    char copy[256];
    snprintf(copy, sizeof copy, "%s", url);
    assert_int_equal(amqp_parse_url(copy, &info), 0);
    amqp_connection_state_t c = amqp_new_connection();
    amqp_socket_t *socket = amqp_tcp_socket_new(c);
    assert_int_equal(amqp_socket_open(socket, info.host, info.port), 0);
    assert_int_equal(amqp_login(c, "/", 0, 131072, 0, AMQP_SASL_METHOD_PLAIN, info.user,
                                info.password).reply_type, AMQP_RESPONSE_NORMAL);
    amqp_channel_open(c, 1);
    assert_int_equal(amqp_get_rpc_reply(c).reply_type, AMQP_RESPONSE_NORMAL);
    return c;
}

static inline void other_ok(amqp_connection_state_t c)
{
    assert_int_equal(amqp_get_rpc_reply(c).reply_type, AMQP_RESPONSE_NORMAL);
}

static inline void other_close(amqp_connection_state_t c)
{
    amqp_connection_close(c, AMQP_REPLY_SUCCESS);
    amqp_destroy_connection(c);
}

static inline void other_delete_queue(const char *url, const char *name)
{
    amqp_connection_state_t c = other_open(url);
    amqp_queue_delete(c, 1, amqp_cstring_bytes(name), 0, 0);
    other_ok(c);
    other_close(c);
}

static inline void other_delete_exchange(const char *url, const char *name)
{
    amqp_connection_state_t c = other_open(url);
    amqp_exchange_delete(c, 1, amqp_cstring_bytes(name), 0);
    other_ok(c);
    other_close(c);
}

/* A durable queue; with an argument of its own where `argument` is not NULL. */
static inline void other_declare_queue(const char *url, const char *name, const char *argument,
                                       const char *text, int number)
{
    amqp_connection_state_t c = other_open(url);
    amqp_table_entry_t entries[2] = {
        {.key = amqp_cstring_bytes("x-max-length"),
         .value = {.kind = AMQP_FIELD_KIND_I32, .value.i32 = number}},
        {.key = amqp_cstring_bytes(argument ? argument : ""),
         .value = {.kind = AMQP_FIELD_KIND_UTF8,
                   .value.bytes = amqp_cstring_bytes(text ? text : "")}}};
    amqp_table_t table = {.num_entries = argument ? 2 : 1, .entries = entries};
    amqp_queue_declare(c, 1, amqp_cstring_bytes(name), 0, 1, 0, 0,
                       number ? table : amqp_empty_table);
    other_ok(c);
    other_close(c);
}

static inline void other_bind(const char *url, const char *queue, const char *exchange,
                              const char *key)
{
    amqp_connection_state_t c = other_open(url);
    amqp_queue_bind(c, 1, amqp_cstring_bytes(queue), amqp_cstring_bytes(exchange),
                    amqp_cstring_bytes(key), amqp_empty_table);
    other_ok(c);
    other_close(c);
}

#endif
