/* SPDX-License-Identifier: Apache-2.0
 *
 * What the application sends, and what a full ring does to it. Each topic is a source with
 * streams of its own for times, sizes, keys and threads, so that a change of one leaves the
 * others' draws alone. A trace takes the place of all sources.
 *
 * A send here is the engine's, without the copy: the topic's flag, the stamp, the claim; where
 * there is no room, salvo_send_full() for the policies that never wait. A sender that waits under
 * `block` keeps its later messages in a queue of its own (that is what an application's threads
 * do), tries again whenever a flusher gave room, and gives up after its timeout.
 */
#include "world.h"

#include "error.h"
#include "partition.h"
#include "send.h"

#include <stdlib.h>

enum { FIRST_ROOM = 256, KEY_BYTES = 8 };
#define PS_PER_KILOSECOND UINT64_C(1000000000000000)

static uint64_t gap_ps(plan_world *w, uint32_t i)
{
    const salvo_plan_traffic *t = &w->traffic;
    unsigned __int128 permille = (unsigned __int128)t->topics[i].rate_per_s * t->scale_permille;
    uint64_t own_ns = w->sources[i].next_ps / 1000 - w->open_ns + t->from_ns; /* the traffic's */
    if (t->burst_permille != 0 && own_ns % t->burst_every_ns < t->burst_ns)
        permille = permille * t->burst_permille / 1000;
    uint64_t mean_ps = permille != 0 ? (uint64_t)(PS_PER_KILOSECOND / permille) : 0;
    if (mean_ps == 0)
        mean_ps = permille != 0 ? 1 : PS_PER_KILOSECOND;
    return t->arrivals == SALVO_PLAN_POISSON
               ? salvo_draw_exponential(&w->sources[i].arrivals, mean_ps)
               : mean_ps;
}

static void find_next(plan_world *w)
{
    uint64_t least_ps = PLAN_NEVER;
    for (uint32_t i = 0; i < w->source_count; i++)
        if (w->sources[i].next_ps < least_ps) {
            least_ps = w->sources[i].next_ps;
            w->next_source = i;
        }
    w->next_arrival_ns = least_ps == PLAN_NEVER ? PLAN_NEVER : least_ps / 1000;
}

static void trace_next(plan_world *w)
{
    if (w->trace_at == w->traffic.trace_count) {
        w->trace_at = 0;
        w->trace_base_ns += w->traffic.trace_ns;
    }
    unsigned __int128 at_ns = w->trace_base_ns + w->traffic.trace[w->trace_at].at_ns;
    w->next_arrival_ns = (uint64_t)(at_ns * 1000 / w->traffic.scale_permille);
}

/* Times are taken modulo 2^64: what is before from_ns comes with the next turn. */
static void open_trace(plan_world *w)
{
    const salvo_plan_traffic *t = &w->traffic;
    w->trace_base_ns = w->now_ns * t->scale_permille / 1000 - t->from_ns;
    while (w->trace_at < t->trace_count && t->trace[w->trace_at].at_ns < t->from_ns)
        w->trace_at++;
    trace_next(w);
}

static int open_source(plan_world *w, uint32_t i)
{
    const salvo_plan_topic *t = &w->traffic.topics[i];
    plan_source *s = &w->sources[i];
    uint64_t seed = w->run->seed;
    s->arrivals = salvo_draw_stream(seed, PLAN_STREAM_ARRIVALS, i);
    s->sizes = salvo_draw_stream(seed, PLAN_STREAM_SIZES, i);
    s->keys = salvo_draw_stream(seed, PLAN_STREAM_KEYS, i);
    s->threads = salvo_draw_stream(seed, PLAN_STREAM_THREADS, i);
    if (t->zipf != 0 && t->keys != 0) {
        s->zipf = salvo_draw_zipf_new(t->keys);
        if (s->zipf == NULL)
            return SALVO_ERR_NOMEM;
    }
    if (t->rate_per_s == 0) {
        s->next_ps = PLAN_NEVER;
        return 0;
    }
    s->next_ps = w->now_ns * 1000;
    uint64_t first_ps = gap_ps(w, i); /* sources of one rate do not send at one instant */
    s->next_ps = w->now_ns * 1000 + first_ps / w->source_count * i + 1;
    return 0;
}

int salvo_plan_arrivals_open(plan_world *w)
{
    w->open_ns = w->now_ns;
    w->source_count = w->traffic.trace != NULL ? 0 : w->traffic.topic_count;
    w->sources = calloc(w->traffic.topic_count, sizeof *w->sources);
    w->threads = calloc(w->traffic.threads, sizeof *w->threads);
    int err = w->sources == NULL || w->threads == NULL ? SALVO_ERR_NOMEM : 0;
    for (uint32_t i = 0; err == 0 && i < w->source_count; i++)
        err = open_source(w, i);
    if (err != 0)
        return err;
    if (w->traffic.trace != NULL)
        open_trace(w);
    else
        find_next(w);
    return 0;
}

void salvo_plan_arrivals_close(plan_world *w)
{
    for (uint32_t i = 0; w->sources != NULL && i < w->source_count; i++)
        free(w->sources[i].zipf);
    for (uint32_t i = 0; w->threads != NULL && i < w->traffic.threads; i++)
        free(w->threads[i].queue);
    free(w->sources);
    free(w->threads);
}

/* ---- One message ---- */

static uint32_t flusher_of(plan_world *w, const plan_letter *m)
{
    unsigned char key[UINT16_MAX];
    if (w->p->settings.flushers == 1)
        return 0;
    if (m->key == 0)
        return m->thread % w->p->settings.flushers;
    salvo_sizes_key(m->key, m->key_bytes, key);
    return salvo_flusher_by_hash(w->p, salvo_murmur2(key, m->key_bytes));
}

/* The hot path's steps. SALVO_RING_FULL: no room, nothing was counted. */
static int claim(plan_world *w, const plan_letter *m, salvo_letter *l)
{
    salvo *p = w->p;
    uint32_t flusher = flusher_of(w, m), ring = m->thread % p->settings.rings;
    l->entry = &p->topics.entries[m->topic];
    l->flusher = &p->flushers[flusher];
    l->ring = &p->rings[flusher * p->settings.rings + ring];
    uint64_t key_bytes = m->key != 0 ? m->key_bytes : 0;
    if (m->value_bytes + key_bytes > p->settings.max_message_bytes)
        return salvo_send_too_large(p, l->entry);
    l->length = (uint32_t)(sizeof(salvo_record_head) + key_bytes + m->value_bytes);
    if (atomic_load_explicit(&l->entry->full, memory_order_relaxed) != 0)
        return SALVO_RING_FULL;
    uint64_t cost_ns = (w->host.send_ps + l->length * w->host.send_per_byte_ps) / 1000;
    salvo_sizes_record record = {
        .stamp = salvo_plan_cpu_take(w, plan_task_sender(w, m->thread), cost_ns),
        .length = l->length, .key = m->key, .key_len = m->key_bytes, .topic = m->topic};
    int err = salvo_sizes_claim(l->flusher->sizes, ring, &record, &l->claim);
    if (err == 0)
        salvo_thread_accept(w->thread, m->topic, 1);
    return err;
}

static void look_if_idle(plan_world *w, uint32_t flusher)
{
    if (w->agents[flusher].offers_idle) {
        w->agents[flusher].offers_idle = false;
        atomic_store_explicit(&w->p->flushers[flusher].kicked, 1, memory_order_relaxed);
        salvo_plan_wake(w, flusher);
    }
}

static bool enqueue(plan_world *w, plan_thread *t, const plan_letter *m)
{
    if (t->end - t->first == t->room) {
        uint64_t room = t->room != 0 ? t->room * 2 : FIRST_ROOM;
        plan_letter *wider = malloc(room * sizeof *wider);
        if (wider == NULL) {
            w->out_of_memory = true;
            return false;
        }
        for (uint64_t i = t->first; i != t->end; i++)
            wider[i & (room - 1)] = t->queue[i & (t->room - 1)];
        free(t->queue);
        t->queue = wider;
        t->room = room;
    }
    t->queue[t->end++ & (t->room - 1)] = *m;
    return true;
}

static void kicked(plan_world *w, const salvo_flusher *f)
{
    salvo_plan_wake(w, f->index);
}

static void send(plan_world *w, const plan_letter *m)
{
    salvo_letter l = {0};
    plan_thread *t = &w->threads[m->thread];
    if (t->end != t->first) { /* its thread still waits in an earlier call */
        enqueue(w, t, m);
        return;
    }
    int err = claim(w, m, &l);
    if (err == 0) {
        look_if_idle(w, l.flusher->index);
        return;
    }
    if (err != SALVO_RING_FULL && err != SALVO_RING_NEVER)
        return;
    if (l.entry->policy != SALVO_POLICY_BLOCK || err == SALVO_RING_NEVER) {
        (void)salvo_send_full(w->p, &l, 1, salvo_ring_units(l.length));
        kicked(w, l.flusher);
        return;
    }
    if (!enqueue(w, t, m))
        return;
    t->since_ns = w->now_ns;
    w->blocked_threads++;
    w->measure.result->blocked++;
    salvo_flusher_kick(l.flusher);
    kicked(w, l.flusher);
}

static void draw(plan_world *w, plan_letter *m)
{
    uint32_t i = w->next_source;
    plan_source *s = &w->sources[i];
    const salvo_plan_topic *t = &w->traffic.topics[i];
    int64_t bytes = salvo_draw_table(&s->sizes, &t->value_bytes);
    m->topic = (uint16_t)i;
    m->value_bytes = bytes > 0 ? (uint32_t)bytes : 0;
    m->key_bytes = (uint16_t)(t->key_bytes != 0 ? t->key_bytes : KEY_BYTES);
    m->thread = (uint32_t)salvo_draw_below(&s->threads, w->traffic.threads);
    if (t->keys == 0)
        m->key = 0;
    else if (s->zipf != NULL)
        m->key = salvo_draw_zipf(&s->keys, s->zipf, t->keys);
    else
        m->key = 1 + (uint32_t)salvo_draw_below(&s->keys, t->keys);
    s->next_ps += gap_ps(w, i);
    find_next(w);
}

static void replay(plan_world *w, plan_letter *m)
{
    const salvo_plan_arrival *a = &w->traffic.trace[w->trace_at++];
    m->topic = a->topic;
    m->value_bytes = a->value_bytes;
    m->key = a->key;
    m->key_bytes = a->key_bytes != 0 ? a->key_bytes : KEY_BYTES;
    m->thread = w->thread_turn++ % w->traffic.threads;
    trace_next(w);
}

void salvo_plan_arrive(plan_world *w)
{
    plan_letter m = {.at_ns = w->next_arrival_ns};
    if (w->traffic.trace != NULL)
        replay(w, &m);
    else
        draw(w, &m);
    send(w, &m);
}

/* ---- Senders that wait ---- */

static uint64_t gives_up_ns(const plan_world *w, const plan_thread *t)
{
    const plan_letter *m = &t->queue[t->first & (t->room - 1)];
    return t->since_ns + (uint64_t)w->p->topics.entries[m->topic].block_ms * 1000000u;
}

uint64_t salvo_plan_arrivals_deadline(const plan_world *w)
{
    uint64_t next = PLAN_NEVER;
    for (uint32_t i = 0; w->blocked_threads != 0 && i < w->traffic.threads; i++) {
        const plan_thread *t = &w->threads[i];
        if (t->first != t->end && gives_up_ns(w, t) < next)
            next = gives_up_ns(w, t);
    }
    return next;
}

static void retry(plan_world *w, plan_thread *t)
{
    while (t->first != t->end) {
        const plan_letter *m = &t->queue[t->first & (t->room - 1)];
        uint64_t began_ns = t->since_ns;
        salvo_letter l = {0};
        int err = claim(w, m, &l);
        if (err == SALVO_RING_FULL) {
            if (gives_up_ns(w, t) > w->now_ns)
                return;
            (void)salvo_send_refuse(l.entry, SALVO_REFUSED_TIMEOUT, SALVO_ERR_TIMEOUT);
        }
        if (w->now_ns - began_ns > w->measure.result->blocked_longest_ns)
            w->measure.result->blocked_longest_ns = w->now_ns - began_ns;
        t->first++;
        t->since_ns = w->now_ns; /* the next call begins */
        if (t->first != t->end)
            w->measure.result->blocked++;
    }
    w->blocked_threads--;
}

void salvo_plan_arrivals_room(plan_world *w)
{
    for (uint32_t i = 0; w->blocked_threads != 0 && i < w->traffic.threads; i++)
        if (w->threads[i].first != w->threads[i].end)
            retry(w, &w->threads[i]);
}
