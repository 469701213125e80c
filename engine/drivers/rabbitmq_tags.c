/* SPDX-License-Identifier: Apache-2.0
 *
 * Delivery tags; see rabbitmq_tags.h.
 */
#include "rabbitmq_tags.h"

#include <stdlib.h>
#include <string.h>

enum { GIVEN = 1, SETTLED, TOLD, ROOM_FIRST = 256, ROOM_MOST = 1 << 20 };

void salvo_rabbitmq_tags_free(salvo_rabbitmq_tags *tags)
{
    free(tags->state);
    *tags = (salvo_rabbitmq_tags){.first = 1, .next = 1};
}

void salvo_rabbitmq_tags_reset(salvo_rabbitmq_tags *tags)
{
    tags->first = tags->next = 1;
    tags->prefix = 0;
    tags->open = tags->apart = 0;
}

static uint8_t *state_of(const salvo_rabbitmq_tags *tags, uint64_t tag)
{
    return &tags->state[tag & (tags->room - 1)];
}

static bool grow(salvo_rabbitmq_tags *tags)
{
    uint32_t room = tags->room ? 2 * tags->room : ROOM_FIRST;
    uint8_t *state = room <= ROOM_MOST ? malloc(room) : NULL;
    if (!state)
        return false;
    for (uint64_t tag = tags->first; tag != tags->next; tag++)
        state[tag & (room - 1)] = *state_of(tags, tag);
    free(tags->state);
    tags->state = state;
    tags->room = room;
    return true;
}

bool salvo_rabbitmq_tags_give(salvo_rabbitmq_tags *tags)
{
    if (tags->next - tags->first >= tags->room && !grow(tags))
        return false;
    *state_of(tags, tags->next++) = GIVEN;
    tags->open++;
    return true;
}

/* `first` moves over all that is settled. */
static void advance(salvo_rabbitmq_tags *tags)
{
    while (tags->first != tags->next && *state_of(tags, tags->first) != GIVEN) {
        if (*state_of(tags, tags->first) == SETTLED) {
            tags->prefix = tags->first;
            tags->apart--;
        }
        tags->first++;
    }
}

bool salvo_rabbitmq_tags_settle(salvo_rabbitmq_tags *tags, uint64_t tag)
{
    if (tag < tags->first || tag >= tags->next || *state_of(tags, tag) != GIVEN)
        return false;
    *state_of(tags, tag) = SETTLED;
    tags->open--;
    tags->apart++;
    advance(tags);
    return true;
}

uint64_t salvo_rabbitmq_tags_apart(const salvo_rabbitmq_tags *tags, uint64_t from)
{
    uint64_t tag = from > tags->first ? from : tags->first;
    while (tags->apart > 0 && tag < tags->next) {
        if (*state_of(tags, tag) == SETTLED)
            return tag;
        tag++;
    }
    return 0;
}

void salvo_rabbitmq_tags_told(salvo_rabbitmq_tags *tags, uint64_t tag)
{
    if (tag < tags->first || tag >= tags->next || *state_of(tags, tag) == TOLD)
        return;
    if (*state_of(tags, tag) == SETTLED)
        tags->apart--;
    else
        tags->open--;
    *state_of(tags, tag) = TOLD;
    advance(tags);
}

void salvo_rabbitmq_tags_told_prefix(salvo_rabbitmq_tags *tags)
{
    tags->prefix = 0;
}
