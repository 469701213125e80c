/* SPDX-License-Identifier: Apache-2.0
 *
 * What a consumer has in hand: see the header for the structure and its invariants.
 */
#include "consumer_hand.h"

#include <salvo/err.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS_LEAST 64u

int salvo_hand_init(salvo_hand *hand, uint32_t most)
{
    *hand = (salvo_hand){.next_id = 1, .most = most};
    if (pthread_mutex_init(&hand->mutex, NULL) != 0)
        return SALVO_ERR_NOMEM;
    hand->mask = SLOTS_LEAST - 1;
    hand->slots = calloc(SLOTS_LEAST, sizeof *hand->slots);
    hand->queue = malloc(SLOTS_LEAST * sizeof *hand->queue);
    hand->passed = malloc(SLOTS_LEAST * sizeof *hand->passed);
    if (hand->slots && hand->queue && hand->passed)
        return 0;
    salvo_hand_free(hand);
    return SALVO_ERR_NOMEM;
}

void salvo_hand_free(salvo_hand *hand)
{
    pthread_mutex_lock(&hand->mutex);
    free(hand->slots);
    free(hand->queue);
    free(hand->passed);
    hand->slots = NULL;
    hand->queue = hand->passed = NULL;
    hand->held = hand->queued = 0;
    pthread_mutex_unlock(&hand->mutex);
}

uint32_t salvo_hand_room(salvo_hand *hand)
{
    pthread_mutex_lock(&hand->mutex);
    uint32_t room = hand->held < hand->most ? hand->most - hand->held : 0;
    pthread_mutex_unlock(&hand->mutex);
    return room;
}

/* Different low bits under a mask stay different under a longer one: every id has its place. */
static void move_slots(salvo_hand *hand, salvo_hand_slot *slots, uint64_t mask)
{
    for (uint64_t i = 0; i <= hand->mask; i++)
        if (hand->slots[i].id)
            slots[hand->slots[i].id & mask] = hand->slots[i];
    free(hand->slots);
    hand->slots = slots;
    hand->mask = mask;
}

/* With the mutex held: at least `slots` places. */
static bool grow(salvo_hand *hand, uint64_t wanted)
{
    uint64_t size = hand->mask + 1;
    while (size < wanted)
        size *= 2;
    if (size == hand->mask + 1)
        return true;
    salvo_hand_slot *slots = calloc(size, sizeof *slots);
    salvo_driver_tag *queue = slots ? realloc(hand->queue, size * sizeof *queue) : NULL;
    if (queue)
        hand->queue = queue;
    salvo_driver_tag *passed = queue ? realloc(hand->passed, size * sizeof *passed) : NULL;
    if (!passed) {
        free(slots);
        return false;
    }
    hand->passed = passed;
    move_slots(hand, slots, size - 1);
    return true;
}

uint32_t salvo_hand_reserve(salvo_hand *hand, uint32_t count)
{
    pthread_mutex_lock(&hand->mutex);
    uint32_t room = hand->held < hand->most ? hand->most - hand->held : 0;
    if (count > room)
        count = room;
    /* Half of the places stay free, so that the next free one is near; what is acknowledged while
     * the driver is asked for more must find room in the queue. */
    if (!grow(hand, 2 * ((uint64_t)hand->held + hand->queued + count))) {
        uint64_t half = (hand->mask + 1) / 2, used = (uint64_t)hand->held + hand->queued;
        uint64_t left = used < half ? half - used : 0;
        count = count < left ? count : (uint32_t)left;
    }
    pthread_mutex_unlock(&hand->mutex);
    return count;
}

void salvo_hand_give(salvo_hand *hand, const salvo_driver_delivery *given, uint32_t count,
                     salvo_delivered *out)
{
    pthread_mutex_lock(&hand->mutex);
    for (uint32_t i = 0; i < count; i++) {
        while (hand->slots[hand->next_id & hand->mask].id)
            hand->next_id++;
        uint64_t id = hand->next_id++;
        hand->slots[id & hand->mask] = (salvo_hand_slot){.id = id, .tag = given[i].tag};
        out[i] = (salvo_delivered){
            .record = given[i].record, .id = id, .deliveries = given[i].deliveries};
        hand->redelivered += given[i].deliveries > 1;
    }
    hand->held += count;
    hand->received += count;
    pthread_mutex_unlock(&hand->mutex);
}

/* With the mutex held. */
static salvo_hand_slot *find(salvo_hand *hand, uint64_t id)
{
    if (!id || !hand->slots)
        return NULL;
    salvo_hand_slot *slot = &hand->slots[id & hand->mask];
    return slot->id == id ? slot : NULL;
}

uint32_t salvo_hand_ack(salvo_hand *hand, const uint64_t *ids, size_t count)
{
    uint32_t settled = 0;
    pthread_mutex_lock(&hand->mutex);
    for (size_t i = 0; i < count; i++) {
        salvo_hand_slot *slot = find(hand, ids[i]);
        if (!slot)
            continue;
        slot->id = 0;
        hand->queue[hand->queued++] = slot->tag;
        settled++;
    }
    hand->held -= settled;
    hand->acknowledged += settled;
    pthread_mutex_unlock(&hand->mutex);
    return settled;
}

bool salvo_hand_has(salvo_hand *hand, uint64_t id)
{
    pthread_mutex_lock(&hand->mutex);
    bool has = find(hand, id) != NULL;
    pthread_mutex_unlock(&hand->mutex);
    return has;
}

uint32_t salvo_hand_take_acks(salvo_hand *hand, const salvo_driver_tag **tags)
{
    pthread_mutex_lock(&hand->mutex);
    salvo_driver_tag *queue = hand->queue;
    uint32_t count = hand->queued;
    hand->queue = hand->passed;
    hand->passed = queue;
    hand->queued = 0;
    pthread_mutex_unlock(&hand->mutex);
    *tags = queue;
    return count;
}

void salvo_hand_revoke(salvo_hand *hand, uint32_t claim)
{
    uint32_t kept = 0;
    pthread_mutex_lock(&hand->mutex);
    for (uint64_t i = 0; i <= hand->mask; i++)
        if (hand->slots[i].id && hand->slots[i].tag.claim == claim) {
            hand->slots[i].id = 0;
            hand->held--;
            hand->lost++;
        }
    for (uint32_t i = 0; i < hand->queued; i++)
        if (hand->queue[i].claim != claim)
            hand->queue[kept++] = hand->queue[i];
    hand->queued = kept;
    pthread_mutex_unlock(&hand->mutex);
}
