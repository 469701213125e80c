/* SPDX-License-Identifier: Apache-2.0
 *
 * A place in a partition of the memory broker's log, as readers and consumers keep it. The segment
 * it stands on is pinned. Records are given in place: they lie in that segment and live as long
 * as somebody pins it.
 */
#ifndef SALVO_MEMORY_PLACE_H
#define SALVO_MEMORY_PLACE_H

#include "memory_store.h"

#define SALVO_MEMORY_HEADERS_MAX 64 /* of a message, see salvo/salvo.h */

typedef struct salvo_memory_place { /* all zero: before the first record */
    salvo_memory_segment *segment; /* pinned; NULL: before the head */
    uint32_t index;                /* records of the segment that are done ... */
    size_t position;               /* ... and their bytes */
    int64_t next;                  /* offset to be read */
} salvo_memory_place;

/* A record can be taken now, without the lock. */
static inline bool salvo_memory_place_readable(const salvo_memory_place *place)
{
    return place->segment && place->index < place->segment->count;
}

/* With the mutex held: stand (anew) before `offset`, or at the end where it is beyond. The place
 * must stand on no segment. */
void salvo_memory_place_set(salvo_memory_place *place, const salvo_memory_partition *partition,
                            int64_t offset);

/* With the mutex held, on a place whose segment is done: go on to the next one, if there is one.
 * Returns the segment that was left, to be unpinned by the caller; adds to *missed what retention
 * took from under the place. */
salvo_memory_segment *salvo_memory_place_advance(salvo_memory_place *place,
                                                 const salvo_memory_partition *partition,
                                                 int64_t *missed);

/* Give the record of a readable place and step over it; headers: of SALVO_MEMORY_HEADERS_MAX, for
 * the record to point to. 0, or SALVO_ERR_INVALID: its headers are malformed (it is given, and
 * stepped over, without them). */
int salvo_memory_place_take(salvo_memory_place *place, const salvo_memory_topic *topic,
                            uint32_t partition, salvo_header *headers, salvo_record *record);

#endif
