/* SPDX-License-Identifier: Apache-2.0
 *
 * What the broker has against what was sent. Guarantees: each record is found among the sent
 * messages by its bytes (key, value, headers, and null is not empty); one that nobody sent, or
 * that failed for sure, or that came in a wrong order or twice where that must not be, fails the
 * test; so does an acknowledged message that is not there.
 */
#include "conformance.h"
#include "driver.h"

enum { BUCKETS = 1 << 16, LANES = 256, PARTITIONS = 16 };

typedef struct index {
    uint32_t buckets[BUCKETS]; /* a message, plus 1 */
    uint32_t last[LANES][PARTITIONS]; /* the latest first coming, plus 1 */
} index_t;

static uint32_t mix(uint32_t hash, const void *bytes, size_t len)
{
    const unsigned char *at = bytes;
    hash = (hash ^ (bytes ? 1u : 2u)) * 16777619u;
    for (size_t i = 0; bytes && i < len; i++)
        hash = (hash ^ at[i]) * 16777619u;
    return (hash ^ (uint32_t)len) * 16777619u;
}

static uint32_t hash_of(uint32_t topic, const void *key, size_t key_len, const void *value,
                        size_t value_len)
{
    uint32_t hash = mix(2166136261u, &topic, sizeof topic);
    hash = mix(mix(hash, key, key_len), value, value_len);
    return (hash ^ hash >> 16) % BUCKETS;
}

/* The oldest first, so that of two alike the earlier is found first. */
static void fill(index_t *x, world *w)
{
    memset(x, 0, sizeof *x);
    for (uint32_t i = w->count; i-- > 0;) {
        const salvo_message *m = &w->sent[i].message;
        uint32_t bucket = hash_of(w->sent[i].topic, m->key, m->key_len, m->value, m->value_len);
        w->sent[i].next_alike = x->buckets[bucket];
        x->buckets[bucket] = i + 1;
    }
}

static bool same_bytes(const void *a, size_t a_len, const void *b, size_t b_len)
{
    return (a == NULL) == (b == NULL) && a_len == b_len && (!a_len || !memcmp(a, b, a_len));
}

static bool same(const salvo_message *m, const salvo_record *r)
{
    if (!same_bytes(m->key, m->key_len, r->key, r->key_len) ||
        !same_bytes(m->value, m->value_len, r->value, r->value_len) ||
        m->header_count != r->header_count)
        return false;
    for (size_t i = 0; i < m->header_count; i++) {
        const salvo_header *a = &m->headers[i], *b = &r->headers[i];
        if (!same_bytes(a->name, a->name_len, b->name, b->name_len) ||
            !same_bytes(a->value, a->value_len, b->value, b->value_len))
            return false;
    }
    return true;
}

static void print_some(char *text, size_t size, const void *bytes, size_t len)
{
    const unsigned char *at = bytes;
    size_t used = (size_t)snprintf(text, size, "%s%zu bytes", bytes ? "" : "null, ", len);
    for (size_t i = 0; bytes && i < len && i < 24 && used + 4 < size; i++)
        used += (size_t)snprintf(text + used, size - used, "%s%02x", i ? "" : ": ", at[i]);
}

/* Two alike may be in different partitions; the report says which is which. */
static bool elsewhere(const sent *s, const salvo_record *r)
{
    return s->report.status == 0 && s->report.partition >= 0 && s->report.partition != r->partition;
}

/* The message that a record is: the first alike that was not seen yet, else the first alike. */
static sent *find(const index_t *x, world *w, uint32_t topic, const salvo_record *r)
{
    sent *seen = NULL;
    uint32_t at = x->buckets[hash_of(topic, r->key, r->key_len, r->value, r->value_len)];
    for (; at; at = w->sent[at - 1].next_alike) {
        sent *s = &w->sent[at - 1];
        if (s->topic != topic || s->accepted || elsewhere(s, r) || !same(&s->message, r))
            continue;
        if (!s->seen)
            return s;
        if (!seen)
            seen = s;
    }
    if (seen)
        return seen;
    char key[128], value[128], headers[512] = "";
    print_some(key, sizeof key, r->key, r->key_len);
    print_some(value, sizeof value, r->value, r->value_len);
    for (size_t i = 0, used = 0; i < r->header_count && used < sizeof headers; i++)
        used += (size_t)snprintf(headers + used, sizeof headers - used, " '%.*s'=%s(%zu)",
                                 (int)r->headers[i].name_len, r->headers[i].name,
                                 r->headers[i].value ? "" : "null", r->headers[i].value_len);
    fail_msg("the broker has what nobody sent: key %s; value %s; %zu headers:%s", key, value,
             r->header_count, headers);
    return NULL;
}

static void check_order(index_t *x, world *w, const sent *s, const salvo_record *r)
{
    assert_in_range(r->partition, 0, PARTITIONS - 1);
    assert_in_range(s->lane, 0, LANES - 1);
    uint32_t *last = &x->last[s->lane][r->partition], place = (uint32_t)(s - w->sent) + 1;
    if (!w->may_reorder && place < *last)
        fail_msg("out of order: message %u came after %u of its lane %u, partition %d", place - 1,
                 *last - 1, s->lane, r->partition);
    if (place > *last)
        *last = place;
}

static void check_timestamp(const world *w, const sent *s, const salvo_record *r)
{
    if (!(w->capabilities & SALVO_CAP_TIMESTAMPS))
        return;
    if (s->message.timestamp_ms)
        assert_int_equal(r->timestamp_ms, s->message.timestamp_ms);
    else /* two seconds of tolerance: some drivers stamp in whole seconds */
        assert_in_range(r->timestamp_ms, s->sent_ms - 2000, wall_ms() + 2000);
}

static void take(index_t *x, world *w, uint32_t topic, const salvo_record *r)
{
    sent *s = find(x, w, topic, r);
    if (s->seen++) {
        w->duplicates++;
        return;
    }
    s->seen_offset = r->offset;
    check_order(x, w, s, r);
    check_timestamp(w, s, r);
    if (s->message.partition_plus1)
        assert_int_equal(r->partition, s->message.partition_plus1 - 1);
}

static void check_seen(const world *w, uint32_t i)
{
    const sent *s = &w->sent[i];
    int status = s->accepted ? s->accepted : s->report.status;
    if (status == 0 && !s->seen)
        fail_msg("message %u of topic %s was acknowledged, and is not in the broker", i,
                 w->topic_names[s->topic]);
    if (status != 0 && status != SALVO_ERR_MAYBE && s->seen)
        fail_msg("message %u is in the broker, and was reported as: %s", i,
                 salvo_strerror(status));
    if (status == 0 && s->seen == 1 && s->report.offset >= 0 &&
        (w->capabilities & SALVO_CAP_OFFSETS))
        assert_int_equal(s->seen_offset, s->report.offset);
}

static uint32_t acknowledged_in(const world *w, uint32_t topic)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < w->count; i++)
        n += w->sent[i].topic == topic && !w->sent[i].accepted && !w->sent[i].report.status;
    return n;
}

static salvo_reader *open_reader(world *w, uint32_t topic, bool stop_at_end)
{
    salvo_reader *reader = NULL;
    salvo_reader_options options = {.size = sizeof options, .stop_at_end = stop_at_end};
    int err = salvo_reader_open(w->good_config, w->producer, w->topic_names[topic], &options,
                                &reader);
    if (err && (err != SALVO_ERR_UNKNOWN_TOPIC || acknowledged_in(w, topic)))
        fail_msg("salvo_reader_open: %s", salvo_last_error());
    return reader;
}

void world_open_readers(world *w)
{
    for (uint32_t i = 0; i < w->topic_count; i++)
        w->readers[i] = open_reader(w, i, false);
}

static void check_all_seen(const world *w)
{
    for (uint32_t i = 0; i < w->count; i++)
        check_seen(w, i);
    if (w->duplicates && !w->may_duplicate)
        fail_msg("%u duplicates", w->duplicates);
}

static index_t *consumed; /* between world_reading_begin() and _end() */

void world_reading_begin(world *w)
{
    free(consumed); /* of a case that failed */
    consumed = malloc(sizeof *consumed);
    assert_non_null(consumed);
    fill(consumed, w);
}

void world_reading_take(world *w, uint32_t topic, const salvo_record *record)
{
    take(consumed, w, topic, record);
}

void world_reading_end(world *w)
{
    free(consumed);
    consumed = NULL;
    check_all_seen(w);
}

void world_read_back(world *w)
{
    index_t *x = malloc(sizeof *x);
    assert_non_null(x);
    fill(x, w);
    for (uint32_t topic = 0; topic < w->topic_count; topic++) {
        salvo_record r;
        int err = SALVO_ERR_END;
        salvo_reader *reader = w->readers[topic] ? w->readers[topic] : open_reader(w, topic, true);
        w->readers[topic] = reader;
        while (reader && (err = salvo_reader_next(reader, 20000, &r)) == 0)
            take(x, w, topic, &r);
        if (err != SALVO_ERR_END)
            fail_msg("salvo_reader_next: %s", salvo_last_error());
        salvo_reader_close(reader);
        w->readers[topic] = NULL;
    }
    free(x);
    check_all_seen(w);
}
