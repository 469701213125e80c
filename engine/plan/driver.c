/* SPDX-License-Identifier: Apache-2.0
 *
 * The modelled broker's driver, as the engine sees it: capabilities, bursts and limits are those of
 * the driver that is modelled, and what is submitted in a round leaves when the round is over.
 */
#include "world.h"

#include "config_internal.h"
#include "error.h"

#include <stdio.h>
#include <stdlib.h>

enum { KAFKA_MESSAGE_BYTES = 256, KAFKA_REQUEST_BYTES = 1000000 };

static const salvo_driver_ops *modelled(const salvo_config *config)
{
    const char *name = salvo_config_broker(config, NULL);
    return name != NULL ? salvo_driver_find(name) : NULL;
}

static uint32_t plan_capabilities(const salvo_config *config)
{
    return modelled(config)->capabilities(config);
}

static uint64_t plan_overhead_bytes(const salvo_config *config)
{
    return modelled(config)->overhead_bytes(config);
}

static void plan_burst(const salvo_config *config, salvo_driver_burst *burst)
{
    if (modelled(config)->burst != NULL)
        modelled(config)->burst(config, burst);
}

static void plan_close(void *handle)
{
    plan_handle *h = handle;
    if (h == NULL)
        return;
    h->world->handles[h->index] = NULL;
    free(h->done);
    free(h);
}

static int plan_open(const salvo_driver_env *env, void **handle, char *error, size_t error_size)
{
    plan_world *w = env->shared;
    plan_handle *h = calloc(1, sizeof *h);
    if (h != NULL)
        h->done = calloc(env->max_batches, sizeof *h->done);
    if (h == NULL || h->done == NULL) {
        free(h);
        snprintf(error, error_size, "no memory for a modelled driver");
        return SALVO_ERR_NOMEM;
    }
    h->world = w;
    h->index = env->flusher_index;
    h->done_room = env->max_batches;
    h->fresh = (plan_list){PLAN_NONE, PLAN_NONE};
    const salvo_driver_ops *real = modelled(env->config);
    if (real == &salvo_driver_kafka) { /* librdkafka keeps so much for each message */
        uint64_t least = (uint64_t)salvo_config_int(env->config, "batch_messages") *
                         KAFKA_MESSAGE_BYTES;
        h->message_bytes = KAFKA_MESSAGE_BYTES;
        h->limit_bytes = env->queue_bytes > least ? env->queue_bytes : least;
        h->request_bytes = KAFKA_REQUEST_BYTES;
        h->request_records = (uint64_t)salvo_config_int(env->config, "batch_messages");
    }
    w->handles[h->index] = h;
    *handle = h;
    return 0;
}

static int plan_topic(void *handle, uint32_t topic, const char *name,
                      const salvo_driver_topic *options)
{
    (void)handle, (void)topic, (void)name, (void)options;
    return 0;
}

static int plan_partitions(void *handle, uint32_t topic)
{
    (void)topic;
    return (int)((plan_handle *)handle)->world->broker.partitions;
}

static void plan_credit(void *handle, salvo_driver_credit *credit)
{
    const plan_handle *h = handle;
    const plan_node *node = h->world->nodes;
    if (h->message_bytes == 0 && node[0].down_until_ns != 0) { /* those take nothing meanwhile */
        *credit = (salvo_driver_credit){0};
        return;
    }
    credit->batches = h->done_room - h->out_batches;
    credit->bytes = UINT64_MAX;
    credit->messages = UINT32_MAX;
    uint64_t used = h->out_messages * h->message_bytes;
    if (h->message_bytes != 0 && used != 0) { /* an empty queue takes a batch of any size */
        uint64_t room = h->limit_bytes > used ? (h->limit_bytes - used) / h->message_bytes : 0;
        credit->messages = room < UINT32_MAX ? (uint32_t)room : UINT32_MAX;
    }
}

static uint32_t new_request(plan_world *w)
{
    if (w->free_request == PLAN_NONE) {
        uint32_t room = w->request_room != 0 ? w->request_room * 2 : 256;
        plan_request *more = realloc(w->requests, room * sizeof *more);
        if (more == NULL)
            return PLAN_NONE;
        w->requests = more;
        for (uint32_t i = room; i-- > w->request_room;) {
            more[i].next = w->free_request;
            w->free_request = i;
        }
        w->request_room = room;
    }
    uint32_t r = w->free_request;
    w->free_request = w->requests[r].next;
    return r;
}

static int plan_submit(void *handle, const salvo_driver_batch *batch, uint64_t token)
{
    plan_handle *h = handle;
    plan_world *w = h->world;
    uint32_t r = new_request(w);
    if (r == PLAN_NONE) {
        w->out_of_memory = true;
        return SALVO_ERR_TRANSIENT;
    }
    uint32_t broker = ((uint32_t)batch->partition + batch->topic) % w->broker.brokers;
    w->requests[r] = (plan_request){.token = token, .bytes = batch->bytes, .count = batch->count,
                                    .deadline_ns = batch->deadline_ns, .rider = PLAN_NONE,
                                    .records = batch->count, .topic = batch->topic, .batches = 1,
                                    .partition = (uint32_t)batch->partition,
                                    .link = h->index * w->broker.brokers + broker};
    salvo_plan_list_push(w, &h->fresh, r);
    h->out_batches++;
    h->out_messages += batch->count;
    plan_agent *a = &w->agents[h->index];
    a->submitted++;
    a->records += batch->count;
    a->bytes += batch->bytes;
    if (h->out_messages * h->message_bytes > w->library_peak)
        w->library_peak = h->out_messages * h->message_bytes;
    return 0;
}

static int plan_poll(void *handle, salvo_driver_outcome *outcomes, uint32_t max)
{
    plan_handle *h = handle;
    uint32_t n = 0;
    for (; n < max && h->done_first != h->done_end; n++) {
        plan_done *done = &h->done[h->done_first++ % h->done_room];
        outcomes[n] = (salvo_driver_outcome){
            .token = done->token, .range_count = 1, .ranges = &done->range};
        h->out_batches--;
        h->out_messages -= done->range.count;
    }
    return (int)n;
}

/* Nothing lingers here, but in the library's base there is what it does otherwise. */
static void plan_flush(void *handle)
{
    plan_handle *h = handle;
    for (uint32_t r = h->fresh.first; r != PLAN_NONE; r = h->world->requests[r].next)
        h->world->requests[r].pushed = true;
}

static int plan_descriptors(void *handle, int *fds, int max)
{
    (void)handle, (void)fds, (void)max;
    return 0;
}

/* The end of a world: everything comes back. */
static void plan_purge(void *handle, uint32_t timeout_ms)
{
    plan_handle *h = handle;
    (void)timeout_ms;
    salvo_plan_brokers_give_up(h->world, h);
}

static void plan_state(void *handle, char *text, size_t size)
{
    (void)handle;
    snprintf(text, size, "modelled");
}

const salvo_driver_ops salvo_plan_driver = {
    .size = sizeof(salvo_driver_ops),
    .abi = SALVO_DRIVER_ABI,
    .name = "plan",
    .capabilities = plan_capabilities,
    .overhead_bytes = plan_overhead_bytes,
    .burst = plan_burst,
    .open = plan_open,
    .topic = plan_topic,
    .partitions = plan_partitions,
    .credit = plan_credit,
    .submit = plan_submit,
    .poll = plan_poll,
    .flush = plan_flush,
    .descriptors = plan_descriptors,
    .purge = plan_purge,
    .close = plan_close,
    .state = plan_state,
};
