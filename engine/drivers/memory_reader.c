/* SPDX-License-Identifier: Apache-2.0
 *
 * A reader of one topic of the memory broker. Guarantees: each partition is read in order of
 * offsets, one stored batch at a time in turn; nothing is given twice; what retention took before
 * it was read is skipped, with a warning that says how much. Records are given in place: the
 * batch they lie in is pinned until the reader has left it. The lock is taken once per batch, not
 * per record, and never while waiting (a condition variable gives it back).
 */
#include "memory_reader.h"
#include "error.h"
#include "memory_place.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct reader_place {
    salvo_memory_place at;
    int64_t end; /* stop_at_end: where to stop */
} reader_place;

typedef struct memory_reader {
    salvo_memory_store *store;
    salvo_memory_topic *topic;
    bool stop_at_end;
    uint32_t current; /* partition whose segment is being read */
    salvo_header headers[SALVO_MEMORY_HEADERS_MAX];
    reader_place places[];
} memory_reader;

static struct timespec deadline_after(uint64_t timeout_ms)
{
    const uint64_t forever_s = UINT64_C(1) << 31; /* further away than any process lives */
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    uint64_t seconds = timeout_ms / 1000;
    at.tv_sec += (time_t)(seconds < forever_s ? seconds : forever_s);
    at.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
    if (at.tv_nsec >= 1000000000) {
        at.tv_nsec -= 1000000000;
        at.tv_sec++;
    }
    return at;
}

/* With the mutex held: wait for any change. false: the deadline passed. */
static bool wait_for_change(salvo_memory_store *store, const struct timespec *deadline)
{
    store->waiters++;
    int failed = pthread_cond_timedwait(&store->changed, &store->mutex, deadline);
    store->waiters--;
    return failed != ETIMEDOUT;
}

/* With the mutex held. A topic appears when a flusher first hears of it, which may be a moment
 * after salvo_topic_open() returned: hence the wait. */
static salvo_memory_topic *wait_for_topic(salvo_memory_store *store, const char *name,
                                          uint32_t timeout_ms)
{
    struct timespec deadline = deadline_after(timeout_ms);
    salvo_memory_topic *topic = salvo_memory_store_find(store, name);
    while (!topic && !store->closed && wait_for_change(store, &deadline))
        topic = salvo_memory_store_find(store, name);
    return topic ? topic : salvo_memory_store_find(store, name);
}

static void place_at_open(reader_place *place, const salvo_memory_partition *partition,
                          bool from_end)
{
    place->end = partition->next_offset;
    salvo_memory_place_set(&place->at, partition, from_end ? partition->next_offset : 0);
}

int salvo_memory_reader_open(const salvo_config *config, void *shared, const char *topic,
                             const salvo_reader_options *options, void **reader, char *error,
                             size_t error_size)
{
    salvo_memory_store *store = shared;
    (void)config;
    if (!store) {
        snprintf(error, error_size,
                 "the data of the memory broker lives in its producer: give that producer");
        return SALVO_ERR_INVALID;
    }
    pthread_mutex_lock(&store->mutex);
    salvo_memory_topic *found = wait_for_topic(store, topic, options->open_timeout_ms);
    memory_reader *r = NULL;
    if (found) {
        size_t count = found->partition_count;
        r = calloc(1, sizeof *r + count * sizeof *r->places);
        for (size_t i = 0; r && i < count; i++)
            place_at_open(&r->places[i], &found->partitions[i], options->from_end != 0);
        store->references += r != NULL;
    }
    pthread_mutex_unlock(&store->mutex);
    if (!found) {
        snprintf(error, error_size, "memory broker: no topic \"%s\" after %u ms", topic,
                 options->open_timeout_ms);
        return SALVO_ERR_UNKNOWN_TOPIC;
    }
    if (!r) {
        snprintf(error, error_size, "memory broker: no memory for a reader");
        return SALVO_ERR_NOMEM;
    }
    r->store = store;
    r->topic = found;
    r->stop_at_end = options->stop_at_end != 0;
    *reader = r;
    return 0;
}

static bool readable(const memory_reader *r, const reader_place *place)
{
    return salvo_memory_place_readable(&place->at) &&
           (!r->stop_at_end || place->at.next < place->end);
}

/* With the mutex held: make `current` a partition with something to read. 0, SALVO_ERR_END when
 * nothing more will come, SALVO_ERR_TIMEOUT when there is nothing now. */
static int find_readable(memory_reader *r, int64_t *missed, uint32_t *missed_in)
{
    bool all_ended = true;
    for (uint32_t i = 1; i <= r->topic->partition_count; i++) {
        uint32_t at = (r->current + i) % r->topic->partition_count;
        reader_place *place = &r->places[at];
        if (r->stop_at_end && place->at.next >= place->end)
            continue;
        all_ended = false;
        if (!readable(r, place)) {
            int64_t gap = 0;
            salvo_memory_segment *left = salvo_memory_place_advance(
                &place->at, &r->topic->partitions[at], &gap);
            if (left)
                salvo_memory_segment_unpin(left);
            if (gap > 0) {
                *missed += gap;
                *missed_in = at;
            }
        }
        if (readable(r, place)) {
            r->current = at;
            return 0;
        }
    }
    return (r->stop_at_end && all_ended) || r->store->closed ? SALVO_ERR_END : SALVO_ERR_TIMEOUT;
}

static int wait_readable(memory_reader *r, uint64_t timeout_ms)
{
    int64_t missed = 0;
    uint32_t missed_in = 0;
    struct timespec deadline = deadline_after(timeout_ms);
    pthread_mutex_lock(&r->store->mutex);
    int err = find_readable(r, &missed, &missed_in);
    while (err == SALVO_ERR_TIMEOUT && timeout_ms > 0) {
        bool more = wait_for_change(r->store, &deadline);
        err = find_readable(r, &missed, &missed_in);
        if (!more)
            break;
    }
    pthread_mutex_unlock(&r->store->mutex);
    if (missed > 0)
        salvo_log(SALVO_LOG_WARNING,
                  "reader of memory topic %s: %lld messages (lately of partition %u) were evicted "
                  "before they were read; raise memory_bytes or read sooner",
                  r->topic->name, (long long)missed, missed_in);
    return err;
}

int salvo_memory_reader_next(void *reader, uint64_t timeout_ms, salvo_record *record,
                             char *error, size_t error_size)
{
    memory_reader *r = reader;
    if (!readable(r, &r->places[r->current])) {
        int err = wait_readable(r, timeout_ms);
        if (err)
            return err;
    }
    int err = salvo_memory_place_take(&r->places[r->current].at, r->topic, r->current, r->headers,
                                      record);
    if (err)
        snprintf(error, error_size,
                 "memory broker: offset %lld of partition %d of %s has malformed headers",
                 (long long)record->offset, record->partition, record->topic);
    return err;
}

void salvo_memory_reader_close(void *reader)
{
    memory_reader *r = reader;
    pthread_mutex_lock(&r->store->mutex);
    for (uint32_t i = 0; i < r->topic->partition_count; i++)
        if (r->places[i].at.segment)
            salvo_memory_segment_unpin(r->places[i].at.segment);
    pthread_mutex_unlock(&r->store->mutex);
    salvo_memory_store_release(r->store);
    free(r);
}
