/* SPDX-License-Identifier: Apache-2.0
 *
 * Entries between a reply and a poll; see redis_consumer.h. Guarantees: an entry that is in hand
 * is not taken twice; what a poll shows stays until the next one; what cannot be unpacked is shown
 * as it is, with its `content-encoding` as a header, so that no single entry stops a stream.
 */
#include "redis_consumer.h"

#include "error.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEPT_BYTES = 4 << 20, KEPT_BATCHES = 4, FOUND_FIRST = 64 };

void salvo_redis_batch_destroy(salvo_redis_batch *batch)
{
    if (!batch)
        return;
    for (size_t i = 0; i < batch->unpacked_count; i++)
        free(batch->unpacked[i]);
    salvo_redis_tree_free(&batch->tree);
    free(batch->unpacked);
    free(batch->found);
    free(batch->headers);
    free(batch);
}

salvo_redis_batch *salvo_redis_batch_new(salvo_redis_consumer *c)
{
    salvo_redis_batch *batch = c->free;
    if (!batch)
        return calloc(1, sizeof *batch);
    c->free = batch->next;
    c->free_count--;
    batch->next = NULL;
    return batch;
}

void salvo_redis_batch_free(salvo_redis_consumer *c, salvo_redis_batch *batch)
{
    if (c->free_count >= KEPT_BATCHES || batch->tree.room > KEPT_BYTES) {
        salvo_redis_batch_destroy(batch);
        return;
    }
    for (size_t i = 0; i < batch->unpacked_count; i++)
        free(batch->unpacked[i]);
    batch->unpacked_count = batch->header_count = batch->count = batch->at = 0;
    salvo_redis_tree_clear(&batch->tree);
    batch->next = c->free;
    c->free = batch;
    c->free_count++;
}

void salvo_redis_batch_queue(salvo_redis_consumer *c, salvo_redis_batch *batch)
{
    if (batch->count == 0) {
        salvo_redis_batch_free(c, batch);
        return;
    }
    batch->next = NULL;
    if (c->last)
        c->last->next = batch;
    else
        c->first = batch;
    c->last = batch;
    c->buffered += (uint32_t)batch->count;
}

static bool found_room(salvo_redis_batch *batch)
{
    if (batch->count < batch->room)
        return true;
    size_t room = batch->room ? 2 * batch->room : FOUND_FIRST;
    salvo_redis_found *found = realloc(batch->found, room * sizeof *found);
    if (found) {
        batch->found = found;
        batch->room = room;
    }
    return found != NULL;
}

/* An entry [id, fields]: 1 taken, 0 not (it is in hand, or deleted), -1 that is none. */
static int take_one(salvo_redis_consumer *c, salvo_redis_batch *batch, salvo_redis_walk *walk,
                    uint32_t stream, salvo_redis_id *id)
{
    salvo_redis_stream *s = &c->streams[stream];
    salvo_redis_text text;
    uint32_t parts, fields;
    if (!salvo_redis_walk_array(walk, &parts))
        return -1;
    if (parts == 0) /* nil: deleted, in the words of Redis 6 */
        return 0;
    if (parts != 2 || !salvo_redis_walk_text(walk, &text) ||
        !salvo_redis_id_parse(text.bytes, text.length, id) ||
        !salvo_redis_walk_array(walk, &fields) || fields % 2 != 0)
        return -1;
    size_t first = walk->at;
    bool deleted = walk->tree->nodes[first - 1].type == REDIS_REPLY_NIL;
    for (uint32_t i = 0; i < fields; i++)
        if (!salvo_redis_walk_text(walk, &text))
            return -1;
    int added = found_room(batch) ? salvo_redis_hand_add(&s->hand, *id) : -1;
    if (added <= 0)
        return added;
    if (deleted) { /* pending, but gone from the stream: nobody can process it */
        (void)salvo_redis_hand_settle(&s->hand, *id, true);
        return 0;
    }
    batch->found[batch->count++] = (salvo_redis_found){
        .id = *id, .fields = first, .field_count = fields, .stream = stream, .claim = s->claim,
        .deliveries = 1};
    return 1;
}

bool salvo_redis_batch_take(salvo_redis_consumer *c, salvo_redis_batch *batch,
                            salvo_redis_walk *walk, uint32_t stream, uint32_t *seen,
                            salvo_redis_id *last_id)
{
    uint32_t entries;
    *seen = 0;
    if (!salvo_redis_walk_array(walk, &entries))
        return false;
    for (; *seen < entries; ++*seen) {
        salvo_redis_id id = *last_id;
        if (take_one(c, batch, walk, stream, &id) < 0)
            return false;
        *last_id = id;
    }
    return true;
}

/* --- giving -------------------------------------------------------------------------------- */

/* Room for the headers of all that is left of a batch, so that none moves once it was shown. */
static bool headers_room(salvo_redis_batch *batch)
{
    size_t need = 0;
    if (batch->header_count > 0 || batch->at > 0)
        return batch->headers != NULL;
    for (size_t i = 0; i < batch->count; i++)
        need += batch->found[i].field_count / 2;
    if (need < batch->header_room)
        return true;
    salvo_header *headers = realloc(batch->headers, (need + 1) * sizeof *headers);
    if (headers) {
        batch->headers = headers;
        batch->header_room = need + 1;
    }
    return headers != NULL;
}

static void unpack(const salvo_redis_consumer *c, salvo_redis_batch *batch, salvo_record *record,
                   const salvo_codec *codec)
{
    salvo_header *headers = batch->headers + batch->header_count;
    if (batch->unpacked_count == batch->unpacked_room) {
        size_t room = batch->unpacked_room ? 2 * batch->unpacked_room : 16;
        void **unpacked = realloc(batch->unpacked, room * sizeof *unpacked);
        if (unpacked) {
            batch->unpacked = unpacked;
            batch->unpacked_room = room;
        }
    }
    void *out = NULL;
    if (batch->unpacked_count < batch->unpacked_room &&
        salvo_redis_record_unpack(record, codec, c->most_bytes, &out) == 0) {
        batch->unpacked[batch->unpacked_count++] = out;
        return;
    }
    static const char name[] = "content-encoding"; /* its own field left the room for it */
    headers[record->header_count++] = (salvo_header){
        .name = name, .name_len = sizeof name - 1, .value = codec->content_encoding,
        .value_len = strlen(codec->content_encoding)};
}

static void show(salvo_redis_consumer *c, salvo_redis_batch *batch, const salvo_redis_found *e,
                 salvo_driver_delivery *d)
{
    const salvo_codec *codec = NULL;
    char id[SALVO_REDIS_ID_TEXT];
    size_t n = salvo_redis_id_print(e->id, id);
    *d = (salvo_driver_delivery){
        .record = {.topic = c->streams[e->stream].name, .offset = salvo_redis_offset(id, n),
                   .timestamp_ms = (int64_t)e->id.ms},
        .tag = {.claim = e->claim, .a = e->id.ms, .b = e->id.seq},
        .deliveries = e->deliveries};
    for (uint32_t i = 0; i < e->field_count; i += 2) {
        const salvo_redis_node *field = &batch->tree.nodes[e->fields + i];
        salvo_redis_record_field(&d->record, batch->headers + batch->header_count,
                                 salvo_redis_tree_text(&batch->tree, field),
                                 salvo_redis_tree_text(&batch->tree, field + 1), &codec);
    }
    if (codec && d->record.value)
        unpack(c, batch, &d->record, codec);
    batch->header_count += d->record.header_count;
}

static int give_some(salvo_redis_consumer *c, salvo_redis_batch *batch,
                     salvo_driver_delivery *deliveries, size_t max)
{
    int given = 0;
    for (size_t i = batch->at; i < batch->count && (size_t)given < max; i++) {
        salvo_redis_found *e = &batch->found[i];
        const salvo_redis_stream *s = &c->streams[e->stream];
        bool ours = e->claim == s->claim;
        if (e->given || (ours && s->paused))
            continue;
        e->given = true;
        c->buffered--;
        if (ours)
            show(c, batch, e, &deliveries[given++]);
    }
    while (batch->at < batch->count && batch->found[batch->at].given)
        batch->at++;
    return given;
}

int salvo_redis_batch_give(salvo_redis_consumer *c, salvo_driver_delivery *deliveries, size_t max,
                           char *error, size_t error_size)
{
    size_t given = 0;
    for (salvo_redis_batch *batch = c->first; batch && given < max; batch = batch->next) {
        if (!headers_room(batch)) {
            snprintf(error, error_size, "redis: no memory for a message's headers");
            return given > 0 ? (int)given : SALVO_ERR_NOMEM;
        }
        given += (size_t)give_some(c, batch, deliveries + given, max - given);
    }
    return (int)given;
}

void salvo_redis_batch_recycle(salvo_redis_consumer *c)
{
    salvo_redis_batch **link = &c->first;
    c->last = NULL;
    while (*link) {
        salvo_redis_batch *batch = *link;
        if (batch->at < batch->count) {
            c->last = batch;
            link = &batch->next;
            continue;
        }
        *link = batch->next;
        salvo_redis_batch_free(c, batch);
    }
}
