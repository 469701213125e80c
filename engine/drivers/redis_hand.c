/* SPDX-License-Identifier: Apache-2.0
 *
 * Ids in hand; see redis_hand.h. Open addressing with linear probing; a removal moves those behind
 * it up, so that no place is ever merely "deleted".
 */
#include "redis_hand.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PLACES_FIRST = 64, ACKS_FIRST = 64 };

void salvo_redis_hand_free(salvo_redis_hand *hand)
{
    free(hand->places);
    free(hand->acks);
    *hand = (salvo_redis_hand){0};
}

static bool empty(const salvo_redis_held *place)
{
    return place->id.ms == 0 && place->id.seq == 0;
}

static uint32_t hash(salvo_redis_id id)
{
    uint64_t h = (id.ms * UINT64_C(0x9E3779B97F4A7C15)) ^ (id.seq * UINT64_C(0xC2B2AE3D27D4EB4F));
    return (uint32_t)(h >> 32) ^ (uint32_t)h;
}

/* Where it is, or where it would be. */
static salvo_redis_held *place_of(const salvo_redis_hand *hand, salvo_redis_id id)
{
    uint32_t at = hash(id) & hand->mask;
    while (!empty(&hand->places[at]) &&
           (hand->places[at].id.ms != id.ms || hand->places[at].id.seq != id.seq))
        at = (at + 1) & hand->mask;
    return &hand->places[at];
}

static bool grow(salvo_redis_hand *hand)
{
    uint32_t old = hand->places ? hand->mask + 1 : 0, room = old ? 2 * old : PLACES_FIRST;
    salvo_redis_held *from = hand->places, *to = calloc(room, sizeof *to);
    if (!to)
        return false;
    hand->places = to;
    hand->mask = room - 1;
    for (uint32_t i = 0; i < old; i++)
        if (!empty(&from[i]))
            *place_of(hand, from[i].id) = from[i];
    free(from);
    return true;
}

int salvo_redis_hand_add(salvo_redis_hand *hand, salvo_redis_id id)
{
    if ((!hand->places || 2 * (hand->count + 1) > hand->mask) && !grow(hand))
        return -1;
    salvo_redis_held *place = place_of(hand, id);
    if (!empty(place))
        return 0;
    *place = (salvo_redis_held){.id = id};
    hand->count++;
    hand->held++;
    return 1;
}

static void remove_at(salvo_redis_hand *hand, salvo_redis_held *place)
{
    uint32_t hole = (uint32_t)(place - hand->places), at = hole;
    hand->count--;
    hand->held -= !place->settled;
    for (;;) {
        at = (at + 1) & hand->mask;
        if (empty(&hand->places[at]))
            break;
        uint32_t home = hash(hand->places[at].id) & hand->mask;
        if (((at - home) & hand->mask) >= ((at - hole) & hand->mask)) {
            hand->places[hole] = hand->places[at];
            hole = at;
        }
    }
    hand->places[hole] = (salvo_redis_held){0};
}

bool salvo_redis_hand_settle(salvo_redis_hand *hand, salvo_redis_id id, bool commit)
{
    salvo_redis_held *place = hand->places ? place_of(hand, id) : NULL;
    if (!place || empty(place) || place->settled)
        return false;
    if (hand->ack_count == hand->ack_room) {
        uint32_t room = hand->ack_room ? 2 * hand->ack_room : ACKS_FIRST;
        salvo_redis_id *acks = realloc(hand->acks, room * sizeof *acks);
        if (!acks)
            return false;
        hand->acks = acks;
        hand->ack_room = room;
    }
    place->settled = true;
    hand->held--;
    hand->acks[hand->ack_count++] = id;
    if (commit)
        hand->ack_due = hand->ack_count;
    return true;
}

static void drop_acks(salvo_redis_hand *hand, uint32_t first, uint32_t n)
{
    for (uint32_t i = first; i < first + n; i++) {
        salvo_redis_held *place = place_of(hand, hand->acks[i]);
        if (!empty(place))
            remove_at(hand, place);
    }
    hand->ack_count -= n;
    memmove(hand->acks + first, hand->acks + first + n,
            (hand->ack_count - first) * sizeof *hand->acks);
}

void salvo_redis_hand_acked(salvo_redis_hand *hand, uint32_t n)
{
    n = n < hand->ack_sent ? n : hand->ack_sent;
    if (n == 0)
        return;
    drop_acks(hand, 0, n);
    hand->ack_sent -= n;
    hand->ack_due -= n;
}

void salvo_redis_hand_forget(salvo_redis_hand *hand, bool uncommitted)
{
    if (uncommitted && hand->ack_count > hand->ack_due)
        drop_acks(hand, hand->ack_due, hand->ack_count - hand->ack_due);
    for (uint32_t i = 0; hand->held > 0 && i <= hand->mask;)
        if (!empty(&hand->places[i]) && !hand->places[i].settled)
            remove_at(hand, &hand->places[i]); /* and look at what moved here */
        else
            i++;
}

void salvo_redis_hand_clear(salvo_redis_hand *hand)
{
    if (hand->places)
        memset(hand->places, 0, ((size_t)hand->mask + 1) * sizeof *hand->places);
    hand->count = hand->held = 0;
    hand->ack_count = hand->ack_due = hand->ack_sent = 0;
}

bool salvo_redis_hand_next(const salvo_redis_hand *hand, uint32_t *place, salvo_redis_id *id)
{
    for (; hand->places && *place <= hand->mask; ++*place)
        if (!empty(&hand->places[*place])) {
            *id = hand->places[(*place)++].id;
            return true;
        }
    return false;
}

static bool digits(const char **at, const char *end, uint64_t *n)
{
    const char *from = *at;
    for (*n = 0; *at != end && **at >= '0' && **at <= '9'; ++*at) {
        uint64_t digit = (uint64_t)(**at - '0');
        if (*n > (UINT64_MAX - digit) / 10)
            return false;
        *n = 10 * *n + digit;
    }
    return *at != from;
}

bool salvo_redis_id_parse(const char *text, size_t length, salvo_redis_id *id)
{
    const char *at = text, *end = text + length;
    return digits(&at, end, &id->ms) && at != end && *at++ == '-' && digits(&at, end, &id->seq) &&
           at == end && (id->ms > 0 || id->seq > 0);
}

size_t salvo_redis_id_print(salvo_redis_id id, char text[SALVO_REDIS_ID_TEXT])
{
    return (size_t)snprintf(text, SALVO_REDIS_ID_TEXT, "%llu-%llu", (unsigned long long)id.ms,
                            (unsigned long long)id.seq);
}
