/* SPDX-License-Identifier: Apache-2.0
 *
 * Places in the memory broker's log: see the header.
 */
#include "memory_place.h"

#include <string.h>

static size_t record_bytes(const salvo_memory_record *stored)
{
    size_t key_len = stored->key_len == SALVO_MEMORY_NULL ? 0 : stored->key_len;
    size_t value_len = stored->value_len == SALVO_MEMORY_NULL ? 0 : stored->value_len;
    size_t len = sizeof *stored + key_len + value_len + stored->headers_bytes;
    return (len + 7) & ~(size_t)7;
}

static void step_over(salvo_memory_place *place, const salvo_memory_record *stored)
{
    place->position += record_bytes(stored);
    place->index++;
    place->next++;
}

void salvo_memory_place_set(salvo_memory_place *place, const salvo_memory_partition *partition,
                            int64_t offset)
{
    salvo_memory_segment *segment = partition->head;
    *place = (salvo_memory_place){.next = offset};
    if (offset > partition->next_offset)
        place->next = offset = partition->next_offset;
    if (!segment || offset <= segment->base_offset)
        return; /* it goes on at the head */
    while (segment->next && offset >= segment->base_offset + segment->count)
        segment = segment->next;
    salvo_memory_segment_pin(segment);
    place->segment = segment;
    place->next = segment->base_offset;
    while (place->next < offset) {
        salvo_memory_record stored;
        memcpy(&stored, segment->records + place->position, sizeof stored);
        step_over(place, &stored);
    }
}

salvo_memory_segment *salvo_memory_place_advance(salvo_memory_place *place,
                                                 const salvo_memory_partition *partition,
                                                 int64_t *missed)
{
    salvo_memory_segment *old = place->segment;
    /* An evicted segment's `next` may be gone; all that was before the head is older anyway. */
    salvo_memory_segment *next = old && !old->evicted ? old->next : partition->head;
    if (!next)
        return NULL;
    salvo_memory_segment_pin(next);
    if (next->base_offset > place->next)
        *missed += next->base_offset - place->next;
    *place = (salvo_memory_place){.segment = next, .next = next->base_offset};
    return old;
}

static int unpack_headers(const unsigned char *at, size_t bytes, salvo_header *headers,
                          salvo_record *record)
{
    const unsigned char *end = at + bytes;
    size_t count = 0;
    for (; at < end; count++) {
        uint32_t lens[2];
        if (count == SALVO_MEMORY_HEADERS_MAX || (size_t)(end - at) < sizeof lens)
            return SALVO_ERR_INVALID;
        memcpy(lens, at, sizeof lens);
        at += sizeof lens;
        size_t value_len = lens[1] == SALVO_MEMORY_NULL ? 0 : lens[1];
        if ((size_t)(end - at) < lens[0] + value_len)
            return SALVO_ERR_INVALID;
        headers[count] = (salvo_header){
            .name = (const char *)at,
            .name_len = lens[0],
            .value = lens[1] == SALVO_MEMORY_NULL ? NULL : at + lens[0],
            .value_len = value_len,
        };
        at += lens[0] + value_len;
    }
    record->headers = count > 0 ? headers : NULL;
    record->header_count = count;
    return 0;
}

int salvo_memory_place_take(salvo_memory_place *place, const salvo_memory_topic *topic,
                            uint32_t partition, salvo_header *headers, salvo_record *record)
{
    const unsigned char *at = place->segment->records + place->position;
    salvo_memory_record stored;
    memcpy(&stored, at, sizeof stored);
    at += sizeof stored;
    size_t key_len = stored.key_len == SALVO_MEMORY_NULL ? 0 : stored.key_len;
    size_t value_len = stored.value_len == SALVO_MEMORY_NULL ? 0 : stored.value_len;
    *record = (salvo_record){
        .topic = topic->name,
        .partition = (int32_t)partition,
        .offset = place->next,
        .timestamp_ms = stored.timestamp_ms,
        .key = stored.key_len == SALVO_MEMORY_NULL ? NULL : at,
        .key_len = key_len,
        .value = stored.value_len == SALVO_MEMORY_NULL ? NULL : at + key_len,
        .value_len = value_len,
    };
    step_over(place, &stored);
    return unpack_headers(at + key_len + value_len, stored.headers_bytes, headers, record);
}
