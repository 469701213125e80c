/* SPDX-License-Identifier: Apache-2.0
 *
 * The ledgers of sizes.h. A lane is a ring's two counters and a queue of what was claimed, padding
 * included, because padding takes a descriptor and is stepped over.
 */
#include "sizes.h"

#include "record.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_ROOM = 64, PADDING = UINT16_MAX /* as topic */ };

typedef struct sizes_lane {
    salvo_ring *ring;
    salvo_sizes_record *queue; /* [room], a power of two */
    uint64_t first, end, ready; /* free running; ready: claimed when the pass began */
    uint64_t room;
    uint64_t head_stamp; /* UINT64_MAX: nothing (left) in this pass */
    uint32_t taken, position; /* of the record at `first` */
} sizes_lane;

struct salvo_sizes {
    uint32_t count;
    uint64_t bound, limit;
    sizes_lane *lanes, *current;
    salvo_ring_segment *segments;
    unsigned char payload[sizeof(salvo_record_head) + UINT16_MAX];
};

salvo_ring salvo_sizes_view(const salvo_ring_options *options)
{
    return (salvo_ring){
        .desc_mask = options->descriptors - 1,
        .unit_mask = options->bytes / SALVO_RING_UNIT - 1,
        .max_descriptors = options->descriptors / 4,
        .max_units = options->bytes / SALVO_RING_UNIT / 4,
        .flags = options->flags,
    };
}

salvo_sizes *salvo_sizes_new(salvo_ring *rings, uint32_t count)
{
    salvo_sizes *s = calloc(1, sizeof *s);
    if (s == NULL)
        return NULL;
    s->count = count;
    s->lanes = calloc(count, sizeof *s->lanes);
    s->segments = aligned_alloc(128, count * sizeof *s->segments);
    if (s->segments != NULL)
        memset(s->segments, 0, count * sizeof *s->segments);
    bool complete = s->lanes != NULL && s->segments != NULL;
    for (uint32_t i = 0; complete && i < count; i++) {
        sizes_lane *lane = &s->lanes[i];
        lane->ring = &rings[i];
        lane->room = FIRST_ROOM;
        lane->head_stamp = UINT64_MAX;
        lane->queue = calloc(FIRST_ROOM, sizeof *lane->queue);
        complete = lane->queue != NULL;
        rings[i].segment = &s->segments[i];
    }
    if (complete)
        return s;
    salvo_sizes_free(s);
    return NULL;
}

void salvo_sizes_free(salvo_sizes *s)
{
    if (s == NULL)
        return;
    for (uint32_t i = 0; s->lanes != NULL && i < s->count; i++) {
        free(s->lanes[i].queue);
        if (s->lanes[i].ring != NULL)
            s->lanes[i].ring->segment = NULL;
    }
    free(s->lanes);
    free(s->segments);
    free(s);
}

static bool grow(sizes_lane *lane)
{
    salvo_sizes_record *wider = malloc(lane->room * 2 * sizeof *wider);
    if (wider == NULL)
        return false;
    for (uint64_t i = lane->first; i != lane->end; i++)
        wider[i & (lane->room * 2 - 1)] = lane->queue[i & (lane->room - 1)];
    free(lane->queue);
    lane->queue = wider;
    lane->room *= 2;
    return true;
}

static inline salvo_sizes_record *at(const sizes_lane *lane, uint64_t index)
{
    return &lane->queue[index & (lane->room - 1)];
}

int salvo_sizes_claim(salvo_sizes *sizes, uint32_t ring, const salvo_sizes_record *record,
                      salvo_ring_claim *out)
{
    sizes_lane *lane = &sizes->lanes[ring];
    salvo_ring_segment *segment = lane->ring->segment;
    uint32_t units = salvo_ring_units(record->length);
    if (units > lane->ring->max_units)
        return SALVO_RING_NEVER;
    uint64_t tail = atomic_load_explicit(&segment->tail, memory_order_relaxed);
    uint64_t head = atomic_load_explicit(&segment->head, memory_order_relaxed);
    uint32_t sequence = salvo_ring_sequence(tail), position = salvo_ring_position(tail);
    uint32_t padding = salvo_ring_padding(lane->ring, position, units);
    uint32_t count = 1 + (padding != 0);
    if (!salvo_ring_fits(lane->ring, tail, head, count, units + padding) ||
        (lane->end - lane->first + count > lane->room && !grow(lane)))
        return SALVO_RING_FULL;
    if (padding != 0)
        *at(lane, lane->end++) = (salvo_sizes_record){.length = padding * SALVO_RING_UNIT,
                                                      .topic = PADDING};
    *at(lane, lane->end++) = *record;
    out->sequence = sequence + (padding != 0);
    out->position = position + padding;
    /* Relaxed here and everywhere: one thread; atomic because the ring's readers expect it. */
    atomic_store_explicit(&segment->tail,
                          salvo_ring_pack(sequence + count, position + padding + units),
                          memory_order_relaxed);
    return 0;
}

static inline void step(sizes_lane *lane)
{
    lane->position += salvo_ring_units(at(lane, lane->first)->length);
    lane->taken++;
    lane->first++;
}

static inline void settle(sizes_lane *lane)
{
    while (lane->first != lane->ready && at(lane, lane->first)->topic == PADDING)
        step(lane);
    lane->head_stamp = lane->first != lane->ready ? at(lane, lane->first)->stamp : UINT64_MAX;
}

void salvo_sizes_begin(salvo_sizes *sizes, uint64_t t0)
{
    sizes->bound = t0;
    sizes->current = NULL;
    for (uint32_t i = 0; i < sizes->count; i++) {
        sizes->lanes[i].ready = sizes->lanes[i].end;
        settle(&sizes->lanes[i]);
    }
}

/* As the drain's: the smallest stamp, and up to the second smallest without looking again. */
static sizes_lane *choose(salvo_sizes *s)
{
    sizes_lane *best = NULL;
    uint64_t smallest = UINT64_MAX, second = UINT64_MAX;
    for (uint32_t i = 0; i < s->count; i++) {
        uint64_t stamp = s->lanes[i].head_stamp;
        if (stamp < smallest) {
            second = smallest;
            smallest = stamp;
            best = &s->lanes[i];
        } else if (stamp < second) {
            second = stamp;
        }
    }
    s->limit = second < s->bound ? second : s->bound;
    s->current = smallest <= s->bound ? best : NULL;
    return s->current;
}

void salvo_sizes_key(uint32_t key, uint16_t key_len, unsigned char *out)
{
    memset(out, '0', key_len);
    for (uint16_t i = key_len; i > 0 && key != 0; key /= 10)
        out[--i] = (unsigned char)('0' + key % 10);
}

bool salvo_sizes_peek(salvo_sizes *sizes, salvo_drain_record *out)
{
    sizes_lane *lane = sizes->current;
    if (lane == NULL || lane->head_stamp > sizes->limit) {
        lane = choose(sizes);
        if (lane == NULL)
            return false;
    }
    const salvo_sizes_record *record = at(lane, lane->first);
    uint32_t key_len = record->key != 0 ? record->key_len : 0;
    salvo_record_head head = {
        .value_len = record->length - (uint32_t)sizeof head - key_len,
        .key_len = record->key != 0 ? key_len : SALVO_NULL_LEN,
        .partition = -1,
    };
    memcpy(sizes->payload, &head, sizeof head);
    if (record->key != 0)
        salvo_sizes_key(record->key, record->key_len, sizes->payload + sizeof head);
    *out = (salvo_drain_record){.payload = sizes->payload, .length = record->length,
                                .tag = record->topic, .stamp = record->stamp,
                                .ring = (uint32_t)(lane - sizes->lanes)};
    return true;
}

void salvo_sizes_advance(salvo_sizes *sizes)
{
    step(sizes->current);
    settle(sizes->current);
}

void salvo_sizes_release(salvo_sizes *sizes)
{
    for (uint32_t i = 0; i < sizes->count; i++)
        atomic_store_explicit(&sizes->lanes[i].ring->segment->head,
                              salvo_ring_pack(sizes->lanes[i].taken, sizes->lanes[i].position),
                              memory_order_relaxed);
}

uint64_t salvo_sizes_backlog(const salvo_sizes *sizes)
{
    uint64_t records = 0;
    for (uint32_t i = 0; i < sizes->count; i++)
        records += sizes->lanes[i].end - sizes->lanes[i].first;
    return records;
}
