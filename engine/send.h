/* SPDX-License-Identifier: Apache-2.0
 *
 * Between the send path's files: what a message becomes in a ring, and what a full ring does.
 */
#ifndef SALVO_SEND_H
#define SALVO_SEND_H

#include "flusher.h"
#include "record.h"
#include "thread.h"

/* A message on its way into a ring. */
typedef struct salvo_letter {
    salvo_thread *thread;
    salvo_topic_entry *entry;
    salvo_topic topic;
    salvo_flusher *flusher;
    salvo_ring *ring;
    uint64_t stamp;
    salvo_ring_claim claim;
    uint32_t length; /* of the whole record */
    uint32_t flags;
} salvo_letter;

/* A claim that did not succeed at once: the topic's policy. Blocks only under `block`. Fills
 * letter->claim and letter->stamp on success; counts the refusal otherwise. n records of
 * `units` together. */
int salvo_send_full(salvo *p, salvo_letter *letter, uint32_t n, uint32_t units);

/* Count a refusal and return its error. */
int salvo_send_refuse(salvo_topic_entry *entry, salvo_refusal why, int err);
int salvo_send_too_large(const salvo *p, salvo_topic_entry *entry); /* with the text set */

/* The hot path's steps for the long form (send_message.c). claim: after flags and length. */
int salvo_send_address(salvo *p, salvo_topic topic, salvo_letter *l);
int salvo_send_claim(salvo *p, salvo_letter *l, const void *key, size_t key_len,
                     int32_t partition);
void salvo_send_commit(salvo *p, salvo_letter *l);

/* Every enqueue_sample-th call is timed. */
static inline void salvo_sample_begin(salvo_thread *t, bool *sampled)
{
    *sampled = t->until_sample != 0 && --t->until_sample == 0;
    if (__builtin_expect(*sampled, 0))
        t->until_sample = t->producer->settings.enqueue_sample; /* also if the send is refused */
}
void salvo_sample_end(const salvo *p, salvo_thread *t, uint64_t began); /* a stamp */

/* Which flusher a message without an explicit partition goes to. */
static inline uint32_t salvo_flusher_by_hash(const salvo *p, uint32_t hash)
{
    return hash % p->settings.flushers;
}

#endif
