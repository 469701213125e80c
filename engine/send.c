/* SPDX-License-Identifier: Apache-2.0
 *
 * The hot path: from the caller's buffers into a ring.
 *
 * Per send: one load of the handle's state, one thread-local comparison, one load of the topic's
 * `full` flag, one stamp, one compare-and-swap on the ring's tail, the copy, one release store.
 * Writes that another thread may share: the tail (a ring is one thread's while there are as many
 * rings as threads; about 10 ns more where two share it); with `report` the reservation (5 to
 * 20 ns); with wake=idle one exchange per idle period. No lock, no system call, no allocation.
 */
#include "send.h"

#include "partition.h"
#include "report.h"

enum { PAGE_BYTES = 4096 };

/* Every enqueue_sample-th call is timed; the flusher collects. The owner's own cache line. */
void salvo_sample_end(const salvo *p, salvo_thread *t, uint64_t began)
{
    uint64_t ticks = salvo_clock_stamp(&p->clock) - began;
    uint32_t head = atomic_load_explicit(&t->sample_head, memory_order_relaxed);
    /* Acquire: the flusher has read the slot; pairs with its release of sample_tail. */
    if (head - atomic_load_explicit(&t->sample_tail, memory_order_acquire) >= SALVO_THREAD_SAMPLES)
        return;
    atomic_store_explicit(&t->samples[head % SALVO_THREAD_SAMPLES], ticks, memory_order_relaxed);
    /* Release: pairs with the acquire in collect_samples(). */
    atomic_store_explicit(&t->sample_head, head + 1, memory_order_release);
}

static inline void wake_idle(salvo *p, salvo_flusher *f)
{
    if (p->settings.wake_idle && atomic_load_explicit(&f->idle, memory_order_relaxed) != 0 &&
        atomic_exchange(&f->idle, 0) != 0)
        salvo_flusher_kick(f);
}

/* Who sends what where; no claim yet. */
static inline int address(salvo *p, salvo_topic topic, salvo_letter *l)
{
    int err = 0;
    if (__builtin_expect(p == NULL, 0))
        return SALVO_ERR_INVALID;
    if (__builtin_expect(atomic_load_explicit(&p->live, memory_order_relaxed) != SALVO_LIVE_OPEN,
                         0))
        return salvo_producer_check(p);
    l->thread = salvo_thread_of(p, &err);
    if (__builtin_expect(l->thread == NULL, 0))
        return err;
    l->topic = topic;
    l->entry = salvo_topic_at(&p->topics, topic);
    return __builtin_expect(l->entry == NULL, 0) ? SALVO_ERR_UNKNOWN_TOPIC : 0;
}

/* A key selects the flusher, so that one key's messages meet in one place whoever sends them;
 * with one flusher nothing is hashed. */
static inline void route(salvo *p, salvo_letter *l, const void *key, size_t key_len,
                         int32_t partition)
{
    uint32_t flusher = 0;
    if (__builtin_expect(p->settings.flushers > 1, 0)) {
        if (partition >= 0)
            flusher = salvo_flusher_by_hash(p, (uint32_t)partition);
        else if (key != NULL)
            flusher = salvo_flusher_by_hash(p, salvo_murmur2(key, key_len));
        else
            flusher = l->thread->home;
    }
    l->flusher = &p->flushers[flusher];
    l->ring = &p->rings[flusher * p->settings.rings + l->thread->ring];
}

static inline int claim(salvo *p, salvo_letter *l)
{
    uint32_t units = salvo_ring_units(l->length);
    if (__builtin_expect(atomic_load_explicit(&l->entry->full, memory_order_relaxed) == 0, 1)) {
        l->stamp = salvo_clock_stamp(&p->clock); /* before the claim: the drain's proof */
        if (__builtin_expect(salvo_ring_claim_n(l->ring, 1, units, &l->claim) == 0, 1))
            return 0;
    }
    return salvo_send_full(p, l, 1, units);
}

/* The place that the thread's next send will write is fetched now, while nobody waits for it:
 * memory that the flusher has read is in its core's cache; and so is the translation of the page
 * behind it. p99 of a paced send 204 -> 130 ns at 200k/s, 287 -> 180 ns at 50k/s (two cores).
 * always_inline: gcc drops a call whose function does nothing but prefetch. */
static inline __attribute__((always_inline)) void prefetch_next(const salvo_letter *l)
{
    uint32_t next = l->claim.position + salvo_ring_units(l->length);
    const char *payload = salvo_ring_payload(l->ring, next);
    __builtin_prefetch(payload, 1);
    __builtin_prefetch(payload + 64, 1);
    __builtin_prefetch(payload + PAGE_BYTES, 1); /* past the end: no fault, no harm */
    __builtin_prefetch(&l->ring->desc[(l->claim.sequence + 2) & l->ring->desc_mask], 1);
}

static inline void commit(salvo *p, salvo_letter *l)
{
    salvo_thread_accept(l->thread, l->topic, 1);
    salvo_ring_commit(l->ring, l->claim.sequence, l->claim.position, l->length, l->topic, l->flags,
                      l->thread->slot, l->stamp);
    prefetch_next(l);
    wake_idle(p, l->flusher);
}

static inline unsigned char *write_head(unsigned char *at, size_t value_len, bool has_value,
                                        const void *key, size_t key_len, uint32_t headers_len,
                                        int32_t partition)
{
    salvo_record_head head = {
        .value_len = has_value ? (uint32_t)value_len : SALVO_NULL_LEN,
        .key_len = key != NULL ? (uint32_t)key_len : SALVO_NULL_LEN,
        .headers_len = headers_len,
        .partition = partition,
    };
    memcpy(at, &head, sizeof head);
    return at + sizeof head;
}

/* The length of a record without extra, or an error when it is over max_message_bytes. */
static inline int plain_length(const salvo *p, salvo_letter *l, size_t key_len, size_t value_len)
{
    size_t max = p->settings.max_message_bytes;
    if (__builtin_expect(key_len > max || value_len > max - key_len, 0))
        return salvo_send_too_large(p, l->entry);
    l->length = (uint32_t)(sizeof(salvo_record_head) + key_len + value_len);
    l->flags = 0;
    return 0;
}

static inline bool bytes_are_sound(const void *data, size_t len)
{
    return data != NULL || len == 0;
}

int salvo_send_fire_and_forget(salvo *producer, salvo_topic topic, const void *key,
                               size_t key_len, const void *value, size_t value_len)
{
    salvo_letter l;
    bool sampled;
    int err = address(producer, topic, &l);
    if (__builtin_expect(err != 0, 0))
        return err;
    if (__builtin_expect(!bytes_are_sound(key, key_len) || !bytes_are_sound(value, value_len), 0))
        return salvo_send_refuse(l.entry, SALVO_REFUSED_INVALID, SALVO_ERR_INVALID);
    salvo_sample_begin(l.thread, &sampled);
    err = plain_length(producer, &l, key_len, value_len);
    if (__builtin_expect(err != 0, 0))
        return err;
    route(producer, &l, key, key_len, SALVO_PARTITION_ANY);
    err = claim(producer, &l);
    if (__builtin_expect(err != 0, 0))
        return err;
    unsigned char *at = salvo_ring_payload(l.ring, l.claim.position);
    at = write_head(at, value_len, value != NULL, key, key_len, 0, SALVO_PARTITION_ANY);
    if (key_len != 0)
        memcpy(at, key, key_len);
    if (value_len != 0)
        memcpy(at + key_len, value, value_len);
    commit(producer, &l);
    if (__builtin_expect(sampled, 0))
        salvo_sample_end(producer, l.thread, l.stamp);
    return 0;
}

/* How many of values[0..count) one claim takes: bounded by a quarter of the ring, of which half
 * is asked for, so that the claim can succeed while the flusher drains the rest. */
static size_t chunk_of(const salvo *p, const salvo_letter *l, const salvo_bytes *values,
                       size_t count, uint32_t *units)
{
    uint32_t max_units = l->ring->max_units / 2, max_n = l->ring->max_descriptors / 2;
    size_t n = 0;
    *units = 0;
    for (; n < count && n < max_n; n++) {
        if (values[n].len > p->settings.max_message_bytes ||
            !bytes_are_sound(values[n].data, values[n].len))
            break;
        uint32_t more = salvo_ring_units((uint32_t)(sizeof(salvo_record_head) + values[n].len));
        if (n != 0 && *units + more > max_units)
            break;
        *units += more;
    }
    return n;
}

static void write_chunk(salvo *p, salvo_letter *l, const salvo_bytes *values, size_t n)
{
    uint32_t position = l->claim.position;
    salvo_thread_accept(l->thread, l->topic, n);
    for (size_t i = 0; i < n; i++) {
        uint32_t length = (uint32_t)(sizeof(salvo_record_head) + values[i].len);
        unsigned char *at = salvo_ring_payload(l->ring, position);
        at = write_head(at, values[i].len, values[i].data != NULL, NULL, 0, 0,
                        SALVO_PARTITION_ANY);
        if (values[i].len != 0)
            memcpy(at, values[i].data, values[i].len);
        salvo_ring_commit(l->ring, l->claim.sequence + (uint32_t)i, position, length, l->topic, 0,
                          l->thread->slot, l->stamp);
        position += salvo_ring_units(length);
    }
    wake_idle(p, l->flusher);
}

static int claim_chunk(salvo *p, salvo_letter *l, uint32_t n, uint32_t units)
{
    if (atomic_load_explicit(&l->entry->full, memory_order_relaxed) == 0) {
        l->stamp = salvo_clock_stamp(&p->clock);
        if (salvo_ring_claim_n(l->ring, n, units, &l->claim) == 0)
            return 0;
    }
    return salvo_send_full(p, l, n, units);
}

int64_t salvo_send_batch_fire_and_forget(salvo *producer, salvo_topic topic,
                                         const salvo_bytes *values, size_t count)
{
    salvo_letter l;
    size_t sent = 0;
    int err = address(producer, topic, &l);
    if (err != 0)
        return err;
    if (values == NULL && count != 0)
        return salvo_send_refuse(l.entry, SALVO_REFUSED_INVALID, SALVO_ERR_INVALID);
    route(producer, &l, NULL, 0, SALVO_PARTITION_ANY);
    bool sampled; /* a call counts once, and is timed as a whole */
    salvo_sample_begin(l.thread, &sampled);
    uint64_t began = sampled ? salvo_clock_stamp(&producer->clock) : 0;
    while (sent < count) {
        uint32_t units;
        size_t n = chunk_of(producer, &l, values + sent, count - sent, &units);
        if (n == 0) {
            bool large = values[sent].len > producer->settings.max_message_bytes;
            salvo_topic_refuse(l.entry, large ? SALVO_REFUSED_TOO_LARGE : SALVO_REFUSED_INVALID,
                               count - sent);
            return sent != 0 ? (int64_t)sent : large ? SALVO_ERR_TOO_LARGE : SALVO_ERR_INVALID;
        }
        uint64_t refused = count - sent - 1; /* the one at which it fails is counted below */
        err = claim_chunk(producer, &l, (uint32_t)n, units);
        if (err != 0) {
            salvo_topic_refuse(l.entry, err == SALVO_ERR_FULL &&
                                                l.entry->policy == SALVO_POLICY_DROP_NEWEST
                                            ? SALVO_REFUSED_DROPPED
                                        : err == SALVO_ERR_FULL ? SALVO_REFUSED_FULL
                                                                : SALVO_REFUSED_TIMEOUT,
                               refused);
            break;
        }
        write_chunk(producer, &l, values + sent, n);
        sent += n;
    }
    if (sampled)
        salvo_sample_end(producer, l.thread, began);
    return (int64_t)sent;
}

int salvo_claim(salvo *producer, salvo_topic topic, const void *key, size_t key_len,
                size_t value_len, salvo_claim_slot *slot)
{
    salvo_letter l;
    int err = address(producer, topic, &l);
    if (err != 0)
        return err;
    if (slot == NULL || !bytes_are_sound(key, key_len))
        return salvo_send_refuse(l.entry, SALVO_REFUSED_INVALID, SALVO_ERR_INVALID);
    err = plain_length(producer, &l, key_len, value_len);
    if (err != 0)
        return err;
    route(producer, &l, key, key_len, SALVO_PARTITION_ANY);
    err = claim(producer, &l);
    if (err != 0)
        return err;
    unsigned char *at = salvo_ring_payload(l.ring, l.claim.position);
    at = write_head(at, value_len, true, key, key_len, 0, SALVO_PARTITION_ANY);
    if (key_len != 0)
        memcpy(at, key, key_len);
    slot->value = at + key_len;
    slot->len = value_len;
    slot->opaque_[0] = (uint64_t)(uintptr_t)l.ring;
    slot->opaque_[1] = salvo_ring_pack(l.claim.sequence, l.claim.position);
    slot->opaque_[2] = l.stamp;
    slot->opaque_[3] = (uint64_t)l.length << 32 | l.topic;
    slot->opaque_[4] = (uint64_t)(uintptr_t)l.flusher;
    slot->opaque_[5] = 1; /* open */
    return 0;
}

static int end_claim(salvo *p, salvo_claim_slot *slot, uint32_t flags)
{
    if (p == NULL || slot == NULL || slot->opaque_[5] != 1)
        return SALVO_ERR_INVALID;
    uint32_t live = atomic_load_explicit(&p->live, memory_order_relaxed);
    if (live != SALVO_LIVE_OPEN && live != SALVO_LIVE_CLOSING)
        return salvo_producer_check(p);
    salvo_letter l = {.ring = (salvo_ring *)(uintptr_t)slot->opaque_[0],
                      .stamp = slot->opaque_[2],
                      .length = (uint32_t)(slot->opaque_[3] >> 32),
                      .topic = (uint32_t)slot->opaque_[3],
                      .flusher = (salvo_flusher *)(uintptr_t)slot->opaque_[4],
                      .flags = flags};
    l.claim.sequence = salvo_ring_sequence(slot->opaque_[1]);
    l.claim.position = salvo_ring_position(slot->opaque_[1]);
    l.thread = salvo_thread_last.producer == p ? salvo_thread_last.thread
                                               : salvo_thread_attached(p);
    if (l.thread == NULL)
        return SALVO_ERR_INVALID; /* not the thread that claimed */
    slot->opaque_[5] = 0;
    if ((flags & SALVO_RING_ABORTED) == 0) {
        commit(p, &l);
        return 0;
    }
    salvo_ring_commit(l.ring, l.claim.sequence, l.claim.position, l.length, l.topic, flags,
                      l.thread->slot, l.stamp);
    return 0;
}

int salvo_commit(salvo *producer, salvo_claim_slot *slot)
{
    return end_claim(producer, slot, 0);
}

int salvo_abort(salvo *producer, salvo_claim_slot *slot)
{
    return end_claim(producer, slot, SALVO_RING_ABORTED);
}

/* The full message: salvo_send and salvo_send_wait are in send_message.c, on these. */
int salvo_send_address(salvo *p, salvo_topic topic, salvo_letter *l)
{
    return address(p, topic, l);
}

int salvo_send_claim(salvo *p, salvo_letter *l, const void *key, size_t key_len, int32_t partition)
{
    route(p, l, key, key_len, partition);
    return claim(p, l);
}

void salvo_send_commit(salvo *p, salvo_letter *l)
{
    commit(p, l);
}
