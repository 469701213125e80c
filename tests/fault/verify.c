/* SPDX-License-Identifier: Apache-2.0
 *
 * The verifier: one thread that reads what is in the broker and keeps account of it. Guarantees:
 * every record that is read is either a message that was sent, whole and with its own key, or
 * counted as corrupt; the first coming of each is marked, later ones are duplicates (apart from
 * those that the broker says it hands to this reader a second time); a first coming behind a
 * younger message of its key is counted as disorder.
 */
#include "fault.h"

#include <pthread.h>
#include <salvo/reader.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static void count(_Atomic uint64_t *what)
{
    atomic_fetch_add_explicit(what, 1, memory_order_relaxed);
}

void fault_take(fault_shared *s, const void *key, size_t key_len, const void *value, size_t len,
                bool redelivered)
{
    fault_verdict *v = &s->verdict;
    uint32_t thread, n;
    char own_key[16];
    count(&v->read);
    if (!fault_value_read(value, len, &thread, &n) ||
        key_len != fault_key(own_key, thread, n) || memcmp(key, own_key, key_len) != 0) {
        count(&v->corrupt);
        return;
    }
    if (fault_set_bit(&s->seen, thread, n)) {
        count(redelivered ? &v->redelivered : &v->duplicates);
        return;
    }
    count(&v->distinct);
    int64_t *last = &v->last[thread][n % FAULT_KEYS];
    if ((int64_t)n < *last)
        count(&v->disorder);
    else
        *last = n;
}

static uint64_t count_bits(const fault_bits *with, const fault_bits *other, bool in_other,
                           char *first, size_t size)
{
    uint64_t sum = 0;
    for (int t = 0; t < FAULT_THREADS; t++)
        for (int w = 0; w < FAULT_WORDS; w++) {
            uint64_t a = atomic_load_explicit(&with->word[t][w], memory_order_relaxed);
            if (a == 0)
                continue;
            uint64_t b = atomic_load_explicit(&other->word[t][w], memory_order_relaxed);
            uint64_t found = a & (in_other ? b : ~b);
            if (found != 0 && sum == 0 && size > 0)
                snprintf(first, size, "message %d of thread %d",
                         w * 64 + __builtin_ctzll(found), t);
            sum += (uint64_t)__builtin_popcountll(found);
        }
    return sum;
}

uint64_t fault_lost(const fault_shared *s, char *first, size_t size)
{
    return count_bits(&s->acked, &s->seen, false, first, size);
}

uint64_t fault_ghosts(const fault_shared *s)
{
    return count_bits(&s->refused, &s->seen, true, NULL, 0);
}

/* --- the thread ------------------------------------------------------------------------------ */

static struct {
    pthread_t id;
    fault_shared *shared;
    salvo *producer;
    const fault_store *store;
} verifier;

static void *verify(void *context)
{
    fault_shared *s = context;
    void *store = verifier.store->open(s, verifier.producer);
    while (store != NULL && !atomic_load(&s->stop_verifier)) {
        int n = verifier.store->read(store, s);
        if (n < 0)
            break;
        if (n == 0)
            nanosleep(&(struct timespec){0, 5000000}, NULL);
    }
    if (store != NULL)
        verifier.store->close(store, s);
    return NULL;
}

static const fault_store *store_of(const fault_shared *s)
{
    static const fault_store *const stores[] = {&fault_store_kafka, &fault_store_memory,
                                                &fault_store_redis, &fault_store_rabbitmq};
    for (size_t i = 0; i < sizeof stores / sizeof *stores; i++)
        if (strcmp(stores[i]->driver, s->driver) == 0)
            return stores[i];
    return NULL;
}

int fault_create_topic(fault_shared *s) { return store_of(s)->create(s); }

int fault_verify_start(fault_shared *s, salvo *producer)
{
    verifier.store = store_of(s);
    for (int t = 0; t < FAULT_THREADS; t++)
        for (int k = 0; k < FAULT_KEYS; k++)
            s->verdict.last[t][k] = -1;
    verifier.shared = s;
    verifier.producer = producer;
    if (!s->verify_inside && fault_create_topic(s) != 0)
        return -1;
    return pthread_create(&verifier.id, NULL, verify, s);
}

void fault_verify_join(void) { pthread_join(verifier.id, NULL); }

/* --- memory: read by the engine's own reader, in the load's process --------------------------- */

static int memory_create(fault_shared *s)
{
    (void)s;
    return 0;
}

static void *memory_open(fault_shared *s, salvo *producer)
{
    salvo_reader_options options = {.size = sizeof options};
    salvo_reader *reader = NULL;
    if (salvo_reader_open(NULL, producer, s->topic, &options, &reader) != 0)
        snprintf(s->verdict.error, sizeof s->verdict.error, "reader: %s", salvo_last_error());
    return reader;
}

static int memory_read(void *store, fault_shared *s)
{
    salvo_record r;
    int n = 0, err = 0;
    while (n < 1000 && (err = salvo_reader_next(store, n == 0 ? 20 : 0, &r)) == 0) {
        fault_take(s, r.key, r.key_len, r.value, r.value_len, false);
        n++;
    }
    if (err == 0 || err == SALVO_ERR_TIMEOUT)
        return n;
    snprintf(s->verdict.error, sizeof s->verdict.error, "reader: %s", salvo_last_error());
    return -1;
}

static void memory_close(void *store, fault_shared *s)
{
    (void)s;
    salvo_reader_close(store);
}

const fault_store fault_store_memory = {"memory", memory_create, memory_open, memory_read,
                                        memory_close};
