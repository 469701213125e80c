/* SPDX-License-Identifier: Apache-2.0
 *
 * The modelled brokers and the connections to them. A batch is a request: the client library's
 * thread takes it (one at a time a connection), it waits until fewer than `window` requests of
 * its connection are out, then for one of the broker's servers, which needs the service time.
 *
 * What a plan's coefficients contain already is not counted again: service times were measured
 * with the library and the broker's own CPU in them, so those add the wait for a core (and keep
 * that core from others), but not their own length.
 *
 * Over librdkafka batches of a partition leave in one request: those of a burst, or, where the
 * driver takes more than that, those that wait together, as far as its limits allow. So a backlog
 * is worked off in large requests.
 *
 * Outages. Refuse: what is out is lost and sent again, first and in order, once the broker is
 * back. Black hole: answers stop; afterwards TCP's next retransmission (200 ms, doubling) or the
 * request timeout brings them. Slow: service times are multiplied. Stalls: a broker rests.
 */
#include "world.h"

#include <stdlib.h>

#define TIB (UINT64_C(1) << 40)
#define HOUR_NS UINT64_C(3600000000000)
enum { TCP_RETRY_NS = 200 * 1000 * 1000 };

void salvo_plan_list_push(plan_world *w, plan_list *list, uint32_t r)
{
    w->requests[r].next = PLAN_NONE;
    if (list->first == PLAN_NONE)
        list->first = r;
    else
        w->requests[list->last].next = r;
    list->last = r;
}

static uint32_t pop(plan_world *w, plan_list *list)
{
    uint32_t r = list->first;
    list->first = w->requests[r].next;
    if (list->first == PLAN_NONE)
        list->last = PLAN_NONE;
    return r;
}

static plan_link *link_of(plan_world *w, uint32_t r)
{
    return &w->links[w->requests[r].link];
}

/* The outcome of a request waits for its flusher's next poll. */
static void finish(plan_world *w, uint32_t r, int status)
{
    plan_handle *h = w->handles[w->requests[r].link / w->broker.brokers];
    for (uint32_t rider; r != PLAN_NONE; r = rider) {
        plan_request *q = &w->requests[r];
        rider = q->rider;
        h->done[h->done_end++ % h->done_room] = (plan_done){
            .token = q->token,
            .range = {.count = q->count, .status = status, .base_offset = -1}};
        q->next = w->free_request;
        w->free_request = r;
    }
    salvo_plan_wake(w, h->index);
}

/* librdkafka fills a request with what waits for the same partition when it is sent. */
static void join(plan_world *w, plan_link *link, uint32_t leader)
{
    enum { LOOK_AT = 256 };
    plan_request *first = &w->requests[leader];
    const plan_handle *h = w->handles[first->link / w->broker.brokers];
    uint32_t before = PLAN_NONE, last = leader, r = link->waiting.first;
    if (h->request_bytes == 0 || first->sent != 0)
        return;
    for (int i = 0; i < LOOK_AT && r != PLAN_NONE; i++) {
        plan_request *q = &w->requests[r];
        uint32_t next = q->next;
        bool same = q->topic == first->topic && q->partition == first->partition && q->sent == 0;
        if (same && (first->bytes + q->bytes > h->request_bytes ||
                     first->records + q->records > h->request_records || q->ready_ns > w->now_ns))
            return;
        if (!same) {
            before = r;
            r = next;
            continue;
        }
        *(before == PLAN_NONE ? &link->waiting.first : &w->requests[before].next) = next;
        if (next == PLAN_NONE)
            link->waiting.last = before;
        w->requests[last].rider = r;
        last = r;
        first->bytes += q->bytes;
        first->records += q->records;
        r = next;
    }
}

/* A broker has good and bad moments, longer than a request: a neighbour on its cores, a disk. */
static uint64_t pace_permille(const plan_world *w, const plan_node *node)
{
    const salvo_plan_broker *b = &w->broker;
    if (b->pace_count == 0)
        return 1000;
    return b->pace_permille[(node->pace_from + w->now_ns / b->pace_slice_ns) % b->pace_count];
}

static uint64_t service_ns(plan_world *w, plan_node *node, const plan_request *q)
{
    int64_t ns = (int64_t)plan_cost_ns(&w->broker.service, q->bytes, q->records) +
                 salvo_draw_table(&node->service, &w->broker.residual_ns);
    uint64_t sooner_ns = q->pushed ? w->broker.pushed_ns : 0; /* less than base */
    uint64_t least = (w->broker.service.base_ns - sooner_ns) / 4 + 1;
    ns -= (int64_t)sooner_ns;
    uint64_t floored = ns < (int64_t)least ? least : (uint64_t)ns;
    unsigned __int128 slowed = (unsigned __int128)floored * node->slow_permille / 1000 *
                               pace_permille(w, node) / 1000;
    return slowed < TIB * 1000 ? (uint64_t)slowed + 1 : TIB * 1000; /* twelve days are for ever */
}

/* Nothing is answered until then; what is being served takes so much longer. */
static void freeze(plan_world *w, plan_node *node, uint64_t until_ns)
{
    uint64_t from_ns = node->frozen_until_ns > w->now_ns ? node->frozen_until_ns : w->now_ns;
    if (until_ns <= from_ns)
        return;
    for (uint32_t k = 0; k < w->broker.servers; k++)
        if (node->serving[k] != PLAN_NONE)
            node->end_ns[k] += until_ns - from_ns;
    node->frozen_until_ns = until_ns;
}

/* Now and then a broker rests for what it has taken or done: collects its garbage, writes to its
 * disk. So `often` in `whole` of it. */
static void pause_for(plan_world *w, plan_node *node, uint64_t amount, uint64_t often,
                      uint64_t whole)
{
    if (often == 0)
        return;
    uint64_t chance = amount < whole / often ? amount * often : whole;
    if (salvo_draw_below(&node->pauses, whole) >= chance)
        return;
    int64_t length_ns = salvo_draw_table(&node->pauses, &w->broker.pause_ns);
    if (length_ns > 0)
        freeze(w, node, w->now_ns + (uint64_t)length_ns);
}

static void note_size(const plan_world *w, const plan_request *q)
{
    salvo_plan_result *result = w->measure.result;
    if (q->bytes > result->request_bytes_peak)
        result->request_bytes_peak = q->bytes;
    if (q->records > result->request_records_peak)
        result->request_records_peak = q->records;
}

static void serve(plan_world *w, plan_node *node)
{
    if (node->frozen_until_ns > w->now_ns || node->down_until_ns > w->now_ns)
        return;
    for (uint32_t k = 0; k < w->broker.servers && node->queue.first != PLAN_NONE; k++) {
        if (node->serving[k] != PLAN_NONE)
            continue;
        uint32_t r = pop(w, &node->queue);
        const plan_request *q = &w->requests[r];
        note_size(w, q);
        uint64_t cpu_ns = plan_cost_ns(&w->broker.on_host, q->bytes, q->records);
        uint64_t begin_ns = salvo_plan_cpu_take(
            w, plan_task_server(w, (uint32_t)(node - w->nodes), k), cpu_ns);
        uint64_t takes_ns = service_ns(w, node, q);
        node->serving[k] = r;
        node->end_ns[k] = begin_ns + takes_ns;
        node->busy_ns += takes_ns;
        pause_for(w, node, q->bytes, w->broker.pauses_per_tib, TIB);
        pause_for(w, node, takes_ns, w->broker.pauses_per_busy_hour, HOUR_NS);
    }
}

/* The library's thread works for so long, once it has done what it has; when it begins. The service
 * time has this work in it, so it is what follows that waits for its end. */
static uint64_t work(plan_world *w, plan_link *link, uint64_t cost_ns)
{
    uint64_t begin_ns = salvo_plan_cpu_take(w, plan_task_link(w, (uint32_t)(link - w->links)),
                                            cost_ns);
    uint64_t from_ns = link->thread_free_ns > begin_ns ? link->thread_free_ns : begin_ns;
    link->thread_free_ns = from_ns + cost_ns;
    link->thread_busy_ns += cost_ns;
    return begin_ns;
}

static uint64_t leaves_ns(const plan_world *w, const plan_link *link)
{
    return w->requests[link->waiting.first].ready_ns;
}

/* From the library's thread to the window, from there to the broker. */
static void move_link(plan_world *w, plan_link *link, plan_node *node)
{
    while (link->coming.first != PLAN_NONE) {
        plan_request *q = &w->requests[link->coming.first];
        if (q->ready_ns > w->now_ns || link->thread_free_ns > w->now_ns)
            break;
        q->ready_ns = work(w, link, plan_cost_ns(&w->host.library, q->bytes, q->records) +
                                        (q->batches - 1) * w->host.library.base_ns);
        salvo_plan_list_push(w, &link->waiting, pop(w, &link->coming));
    }
    while (link->waiting.first != PLAN_NONE && w->requests[link->waiting.first].deadline_ns <=
                                                   w->now_ns)
        finish(w, pop(w, &link->waiting), SALVO_ERR_EXPIRED);
    while (link->waiting.first != PLAN_NONE && link->in_flight < w->broker.window &&
           node->down_until_ns <= w->now_ns && leaves_ns(w, link) <= w->now_ns) {
        uint32_t r = pop(w, &link->waiting);
        join(w, link, r);
        work(w, link, w->host.library_request_ns);
        link->in_flight++;
        if (link->in_flight > w->measure.result->in_flight_peak)
            w->measure.result->in_flight_peak = link->in_flight;
        if (w->requests[r].sent++ != 0)
            w->request_retries++;
        salvo_plan_list_push(w, &node->queue, r);
    }
}

static uint64_t earliest(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t link_next(const plan_world *w, const plan_link *link, const plan_node *node)
{
    uint64_t next = PLAN_NEVER;
    if (link->coming.first != PLAN_NONE) {
        uint64_t ready_ns = w->requests[link->coming.first].ready_ns;
        next = ready_ns > link->thread_free_ns ? ready_ns : link->thread_free_ns;
    }
    if (link->waiting.first != PLAN_NONE) {
        const plan_request *q = &w->requests[link->waiting.first];
        next = earliest(next, q->deadline_ns);
        if (link->in_flight < w->broker.window)
            next = earliest(next, leaves_ns(w, link) > node->down_until_ns ? leaves_ns(w, link)
                                                                          : node->down_until_ns);
    }
    return next;
}

uint64_t salvo_plan_brokers_next(const plan_world *w)
{
    uint64_t next = PLAN_NEVER;
    for (uint32_t b = 0; b < w->broker.brokers; b++) {
        const plan_node *node = &w->nodes[b];
        next = earliest(next, node->next_stall_ns);
        if (node->down_until_ns != 0)
            next = earliest(next, node->down_until_ns);
        for (uint32_t k = 0; k < w->broker.servers; k++)
            next = earliest(next, node->end_ns[k]);
        if (node->queue.first != PLAN_NONE && node->frozen_until_ns > w->now_ns)
            next = earliest(next, node->frozen_until_ns);
        for (uint32_t f = 0; f < w->p->settings.flushers; f++)
            next = earliest(next, link_next(w, &w->links[f * w->broker.brokers + b], node));
    }
    return next < w->now_ns ? w->now_ns : next;
}

static void stall(plan_world *w, plan_node *node)
{
    int64_t length_ns = salvo_draw_table(&node->lengths, &w->broker.stall_ns);
    if (length_ns > 0)
        freeze(w, node, w->now_ns + (uint64_t)length_ns);
    uint64_t mean_ns = HOUR_NS / w->broker.stalls_per_hour;
    node->next_stall_ns = w->now_ns + salvo_draw_exponential(&node->stalls, mean_ns) + 1;
}

void salvo_plan_brokers_step(plan_world *w)
{
    for (uint32_t b = 0; b < w->broker.brokers; b++) {
        plan_node *node = &w->nodes[b];
        if (node->next_stall_ns <= w->now_ns)
            stall(w, node);
        if (node->down_until_ns != 0 && node->down_until_ns <= w->now_ns) {
            node->down_until_ns = 0; /* connected: the driver wakes its flusher */
            for (uint32_t f = 0; f < w->p->settings.flushers; f++)
                salvo_plan_wake(w, f);
        }
        for (uint32_t k = 0; k < w->broker.servers; k++) {
            if (node->end_ns[k] > w->now_ns)
                continue;
            uint32_t r = node->serving[k];
            link_of(w, r)->in_flight--;
            node->serving[k] = PLAN_NONE;
            node->end_ns[k] = PLAN_NEVER;
            w->requests_done++;
            finish(w, r, 0);
        }
        for (uint32_t f = 0; f < w->p->settings.flushers; f++)
            move_link(w, &w->links[f * w->broker.brokers + b], node);
        serve(w, node);
    }
}

/* All that is out at a broker goes back to the front of its connection's queue, in order. */
static void lose(plan_world *w, plan_node *node)
{
    plan_list out = {PLAN_NONE, PLAN_NONE};
    for (uint32_t k = 0; k < w->broker.servers; k++)
        if (node->serving[k] != PLAN_NONE) {
            salvo_plan_list_push(w, &out, node->serving[k]);
            node->serving[k] = PLAN_NONE;
            node->end_ns[k] = PLAN_NEVER;
        }
    while (node->queue.first != PLAN_NONE)
        salvo_plan_list_push(w, &out, pop(w, &node->queue));
    while (out.first != PLAN_NONE) {
        uint32_t r = pop(w, &out);
        plan_link *link = link_of(w, r);
        uint32_t before = PLAN_NONE, after = link->waiting.first;
        link->in_flight--;
        while (after != PLAN_NONE && w->requests[after].sent != 0) { /* lost before it */
            before = after;
            after = w->requests[after].next;
        }
        w->requests[r].next = after;
        *(before == PLAN_NONE ? &link->waiting.first : &w->requests[before].next) = r;
        if (after == PLAN_NONE)
            link->waiting.last = r;
    }
}

static uint64_t after_black_hole_ns(const plan_world *w, uint64_t for_ns)
{
    uint64_t retry_ns = TCP_RETRY_NS, at_ns = TCP_RETRY_NS;
    while (at_ns < for_ns)
        at_ns += retry_ns *= 2;
    if (for_ns >= w->broker.request_timeout_ns)
        return for_ns + w->broker.reconnect_ns;
    return earliest(at_ns, w->broker.request_timeout_ns + w->broker.reconnect_ns);
}

void salvo_plan_brokers_change(plan_world *w, const plan_change *change)
{
    const salvo_plan_outage *o = change->outage;
    uint32_t count = o->brokers != 0 && o->brokers < w->broker.brokers ? o->brokers
                                                                       : w->broker.brokers;
    for (uint32_t b = 0; b < count; b++) {
        plan_node *node = &w->nodes[b];
        if (o->kind == SALVO_PLAN_SLOW)
            node->slow_permille = change->begins ? o->slow_permille : 1000;
        if (!change->begins)
            continue;
        if (o->kind == SALVO_PLAN_BLACK_HOLE)
            freeze(w, node, w->now_ns + after_black_hole_ns(w, o->for_ns));
        if (o->kind == SALVO_PLAN_REFUSE) {
            lose(w, node);
            node->down_until_ns = w->now_ns + o->for_ns + w->broker.reconnect_ns;
        }
    }
}

/* A burst is one request; its batches lie side by side. */
static bool same_burst(const plan_world *w, uint32_t leader, uint32_t r)
{
    const plan_request *a = &w->requests[leader], *b = &w->requests[r];
    return w->p->burst.bytes != 0 && a->topic == b->topic && a->partition == b->partition;
}

void salvo_plan_round_ended(plan_world *w, uint32_t flusher, uint64_t end_ns)
{
    plan_handle *h = w->handles[flusher];
    uint32_t leader = PLAN_NONE, last = PLAN_NONE;
    while (h->fresh.first != PLAN_NONE) {
        uint32_t r = pop(w, &h->fresh);
        plan_request *q = &w->requests[r];
        q->ready_ns = end_ns;
        if (leader != PLAN_NONE && same_burst(w, leader, r)) {
            plan_request *first = &w->requests[leader];
            w->requests[last].rider = r;
            first->bytes += q->bytes;
            first->records += q->records;
            first->batches++;
        } else {
            leader = r;
            salvo_plan_list_push(w, &link_of(w, r)->coming, r);
        }
        last = r;
    }
}

int salvo_plan_brokers_open(plan_world *w)
{
    uint32_t links = w->p->settings.flushers * w->broker.brokers;
    w->links = calloc(links, sizeof *w->links);
    w->nodes = calloc(w->broker.brokers, sizeof *w->nodes);
    if (w->links == NULL || w->nodes == NULL)
        return SALVO_ERR_NOMEM;
    for (uint32_t i = 0; i < links; i++)
        w->links[i].coming = w->links[i].waiting = (plan_list){PLAN_NONE, PLAN_NONE};
    for (uint32_t b = 0; b < w->broker.brokers; b++) {
        plan_node *node = &w->nodes[b];
        node->queue = (plan_list){PLAN_NONE, PLAN_NONE};
        node->slow_permille = 1000;
        node->service = salvo_draw_stream(w->run->seed, PLAN_STREAM_SERVICE, b);
        node->stalls = salvo_draw_stream(w->run->seed, PLAN_STREAM_STALLS, b);
        node->lengths = salvo_draw_stream(w->run->seed, PLAN_STREAM_STALL_LENGTH, b);
        node->pauses = salvo_draw_stream(w->run->seed, PLAN_STREAM_PAUSES, b);
        if (w->broker.pace_count != 0) {
            salvo_draw pace = salvo_draw_stream(w->run->seed, PLAN_STREAM_PACE, b);
            node->pace_from = (uint32_t)salvo_draw_below(&pace, w->broker.pace_count);
        }
        node->next_stall_ns = PLAN_NEVER;
        if (w->broker.stalls_per_hour != 0)
            node->next_stall_ns = w->now_ns + 1 + salvo_draw_exponential(
                &node->stalls, UINT64_C(3600000000000) / w->broker.stalls_per_hour);
        for (uint32_t k = 0; k < PLAN_SERVERS_MAX; k++) {
            node->serving[k] = PLAN_NONE;
            node->end_ns[k] = PLAN_NEVER;
        }
    }
    return 0;
}

void salvo_plan_brokers_close(plan_world *w)
{
    free(w->links);
    free(w->nodes);
    free(w->requests);
}

static void drop_list(plan_world *w, plan_list *list)
{
    while (list->first != PLAN_NONE)
        finish(w, pop(w, list), SALVO_ERR_DROPPED);
}

void salvo_plan_brokers_give_up(plan_world *w, plan_handle *h)
{
    for (uint32_t b = 0; w->nodes != NULL && b < w->broker.brokers; b++)
        lose(w, &w->nodes[b]);
    drop_list(w, &h->fresh);
    for (uint32_t b = 0; w->links != NULL && b < w->broker.brokers; b++) {
        drop_list(w, &w->links[h->index * w->broker.brokers + b].coming);
        drop_list(w, &w->links[h->index * w->broker.brokers + b].waiting);
    }
}
