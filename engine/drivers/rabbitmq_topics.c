/* SPDX-License-Identifier: Apache-2.0
 *
 * Topics to queues and exchanges. On the default exchange a topic is a durable queue; a named
 * exchange is declared, durable, where its type is given, else it must exist. What exists with
 * other arguments, or may not be declared with our rights, is taken as it is (passive
 * declaration).
 *
 * Declarations go one at a time on a channel of their own, which an error closes, so that no
 * error of theirs touches a message. A topic that was refused is asked for again every few
 * seconds: it may have been made or allowed since.
 */
#include "rabbitmq_internal.h"

#include "error.h"
#include <stdlib.h>
#include <string.h>

#define RECHECK_NS (5000 * UINT64_C(1000000))
enum { NAME_MAX_BYTES = 255, METHOD_ROOM = 2 * NAME_MAX_BYTES + 64 };

static bool encode_publish(salvo_rabbitmq_topic *t)
{
    uint8_t frame[METHOD_ROOM];
    amqp_basic_publish_t publish = {.exchange = salvo_rabbitmq_bytes(t->exchange),
                                    .routing_key = salvo_rabbitmq_bytes(t->routing_key),
                                    .mandatory = t->options->rabbitmq_mandatory};
    t->method_len = salvo_rabbitmq_encode(frame, sizeof frame, SALVO_RABBITMQ_PUBLISHING,
                                          AMQP_BASIC_PUBLISH_METHOD, &publish);
    t->method = t->method_len ? malloc(t->method_len) : NULL;
    if (t->method)
        memcpy(t->method, frame, t->method_len);
    return t->method != NULL;
}

int salvo_rabbitmq_topic_add(salvo_rabbitmq *r, uint32_t id, const char *name,
                             const salvo_driver_topic *options)
{
    if (id >= r->env->max_topics)
        return SALVO_ERR_LIMIT;
    salvo_rabbitmq_topic *t = &r->topics[id];
    if (t->name)
        return 0;
    if (strlen(name) > NAME_MAX_BYTES)
        return SALVO_ERR_INVALID;
    t->name = strdup(name);
    if (!t->name)
        return SALVO_ERR_NOMEM;
    t->options = options;
    t->exchange = options->rabbitmq_exchange ? options->rabbitmq_exchange : "";
    t->routing_key = options->rabbitmq_routing_key && options->rabbitmq_routing_key[0]
                         ? options->rabbitmq_routing_key
                         : t->name;
    if (!encode_publish(t)) {
        free(t->name);
        t->name = NULL;
        return SALVO_ERR_NOMEM;
    }
    r->listed[r->listed_count++] = id;
    r->declare_due = true;
    return 0;
}

void salvo_rabbitmq_topics_close(salvo_rabbitmq *r)
{
    for (uint32_t i = 0; r->listed && i < r->listed_count; i++) {
        free(r->topics[r->listed[i]].name);
        free(r->topics[r->listed[i]].method);
    }
    free(r->topics);
    free(r->listed);
    r->topics = NULL;
    r->listed = NULL;
}

void salvo_rabbitmq_topic_again(salvo_rabbitmq *r, uint32_t id)
{
    if (r->topics[id].declared == SALVO_RABBITMQ_DECLARED)
        r->topics[id].declared = SALVO_RABBITMQ_UNDECLARED;
    r->declare_due = true;
}

void salvo_rabbitmq_topics_forget(salvo_rabbitmq *r)
{
    for (uint32_t i = 0; i < r->listed_count; i++) {
        salvo_rabbitmq_topic *t = &r->topics[r->listed[i]];
        t->declared = SALVO_RABBITMQ_UNDECLARED;
        t->passive = false;
    }
    r->asked = UINT32_MAX;
    r->declare_open = false;
    r->declare_due = r->listed_count != 0;
}

static bool ask(salvo_rabbitmq *r, const salvo_rabbitmq_topic *t)
{
    const char *type = t->options->rabbitmq_exchange_type ? t->options->rabbitmq_exchange_type : "";
    bool passive = t->passive;
    if (t->exchange[0] == '\0') {
        amqp_queue_declare_t queue = {.queue = salvo_rabbitmq_bytes(t->routing_key),
                                      .passive = passive, .durable = 1};
        return salvo_rabbitmq_put_method(&r->link, SALVO_RABBITMQ_DECLARING,
                                         AMQP_QUEUE_DECLARE_METHOD, &queue);
    }
    amqp_exchange_declare_t exchange = {.exchange = salvo_rabbitmq_bytes(t->exchange),
                                        .type = salvo_rabbitmq_bytes(type[0] ? type : "direct"),
                                        .passive = passive || type[0] == '\0', .durable = 1};
    return salvo_rabbitmq_put_method(&r->link, SALVO_RABBITMQ_DECLARING,
                                     AMQP_EXCHANGE_DECLARE_METHOD, &exchange);
}

void salvo_rabbitmq_topics_step(salvo_rabbitmq *r)
{
    if (!r->declare_due || !r->declare_open || r->asked != UINT32_MAX)
        return;
    uint64_t now = salvo_rabbitmq_now(r);
    bool later = false;
    for (uint32_t i = 0; i < r->listed_count; i++) {
        salvo_rabbitmq_topic *t = &r->topics[r->listed[i]];
        bool due = t->declared == SALVO_RABBITMQ_UNDECLARED ||
                   (t->declared == SALVO_RABBITMQ_REFUSED && now >= t->retry_ns);
        later |= t->declared == SALVO_RABBITMQ_REFUSED;
        if (!due)
            continue;
        if (!ask(r, t))
            return; /* no room now */
        r->asked = r->listed[i];
        /* A topic that is asked for again keeps being refused meanwhile. */
        if (t->declared == SALVO_RABBITMQ_UNDECLARED)
            t->declared = t->passive ? SALVO_RABBITMQ_ASKED_PASSIVE : SALVO_RABBITMQ_ASKED;
        return;
    }
    r->declare_due = later;
}

static void answered(salvo_rabbitmq *r)
{
    if (r->asked == UINT32_MAX) {
        salvo_rabbitmq_link_fail(&r->link, SALVO_ERR_UNREACHABLE,
                                 "the server broke the protocol: it declared what nobody asked "
                                 "for");
        return;
    }
    salvo_rabbitmq_topic *t = &r->topics[r->asked];
    t->declared = SALVO_RABBITMQ_DECLARED;
    t->known = true;
    t->passive = false;
    t->error = 0;
    r->asked = UINT32_MAX;
}

static void refused(salvo_rabbitmq *r, salvo_rabbitmq_topic *t, const amqp_channel_close_t *close)
{
    char text[160];
    bool rights = close->reply_code == AMQP_ACCESS_REFUSED ||
                  close->reply_code == AMQP_RESOURCE_LOCKED;
    bool first = t->declared != SALVO_RABBITMQ_REFUSED;
    if (!t->passive && close->reply_code != AMQP_NOT_FOUND) {
        t->passive = true; /* it may be there all the same */
        if (first)
            t->declared = SALVO_RABBITMQ_UNDECLARED;
        return;
    }
    t->passive = false;
    t->declared = SALVO_RABBITMQ_REFUSED;
    t->error = rights ? SALVO_ERR_AUTH : SALVO_ERR_UNKNOWN_TOPIC;
    t->retry_ns = salvo_rabbitmq_now(r) + RECHECK_NS;
    if (first)
        r->env->log(SALVO_LOG_ERROR, "rabbitmq: topic '%s': %s '%s': %u %s", t->name,
                    t->exchange[0] ? "exchange" : "queue",
                    t->exchange[0] ? t->exchange : t->routing_key, close->reply_code,
                    salvo_rabbitmq_text(text, sizeof text, close->reply_text));
}

static void on_close(salvo_rabbitmq *r, const amqp_channel_close_t *close)
{
    amqp_channel_close_ok_t ok = {0};
    amqp_channel_open_t again = {0};
    if (r->asked != UINT32_MAX)
        refused(r, &r->topics[r->asked], close);
    r->asked = UINT32_MAX;
    r->declare_due = true;
    r->declare_open = false;
    if (!salvo_rabbitmq_put_method(&r->link, SALVO_RABBITMQ_DECLARING, AMQP_CHANNEL_CLOSE_OK_METHOD,
                                   &ok) ||
        !salvo_rabbitmq_put_method(&r->link, SALVO_RABBITMQ_DECLARING, AMQP_CHANNEL_OPEN_METHOD,
                                   &again))
        salvo_rabbitmq_link_fail(&r->link, SALVO_ERR_UNREACHABLE, "no room to open the channel "
                                                                  "again");
}

void salvo_rabbitmq_declaring_frame(salvo_rabbitmq *r, const salvo_rabbitmq_frame *frame)
{
    switch (frame->type == AMQP_FRAME_METHOD ? frame->method.id : 0) {
    case AMQP_CHANNEL_OPEN_OK_METHOD:
        r->declare_open = true;
        return;
    case AMQP_QUEUE_DECLARE_OK_METHOD:
    case AMQP_EXCHANGE_DECLARE_OK_METHOD:
        answered(r);
        return;
    case AMQP_CHANNEL_CLOSE_METHOD:
        on_close(r, frame->method.decoded);
        return;
    default:
        salvo_rabbitmq_link_fail(&r->link, SALVO_ERR_UNREACHABLE, "the server broke the protocol: "
                                 "0x%08x on the channel for declarations", frame->method.id);
    }
}
