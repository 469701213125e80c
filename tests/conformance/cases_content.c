/* SPDX-License-Identifier: Apache-2.0
 *
 * Cases about what a message is made of: keys, headers, timestamps, values, their compression and
 * their limits. What arrives is compared byte for byte by readback.c.
 */
#include "conformance.h"
#include "driver.h"

static char *noise(size_t len)
{
    uint32_t state = 2463534242u;
    char *bytes = malloc(len + 1);
    assert_non_null(bytes);
    for (size_t i = 0; i < len; i++) {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        bytes[i] = (char)(state >> 11);
    }
    return bytes;
}

static void all_arrive(world *w)
{
    world_flush(w, 60000);
    assert_int_equal(world_outcomes(w, 0), w->count);
}

void case_keys(world *w)
{
    char *big = noise(20000);
    const salvo_bytes keys[] = {
        {NULL, 0}, {"", 0},    {"k", 1},        {"\0", 1},          {"\0\r\n\xff", 4},
        {"*3", 2}, {"a b", 3}, {"\xc3\xa4", 2}, {"$5\r\nhello", 9}, {big, 20000},
    };
    world_open(w);
    uint32_t topic = world_topic(w, NULL);
    for (uint32_t round = 0; round < 3; round++)
        for (uint32_t i = 0; i < sizeof keys / sizeof *keys; i++) {
            char value[32];
            salvo_message m = {.value = value, .key = keys[i].data, .key_len = keys[i].len};
            m.value_len = (size_t)snprintf(value, sizeof value, "%u.%u", round, i);
            assert_true(world_send(w, topic, i, &m));
        }
    all_arrive(w);
    free(big);
}

/* --- headers --------------------------------------------------------------------------------- */

#define HEADER(name, value, len) {name, sizeof(name) - 1, value, len}

static void send_headers(world *w, uint32_t topic, const salvo_header *headers, size_t count)
{
    static uint32_t number;
    char value[32];
    salvo_message m = {.value = value, .headers = headers, .header_count = count};
    m.value_len = (size_t)snprintf(value, sizeof value, "%u", number++);
    assert_true(world_send(w, topic, 0, &m));
}

void case_headers(world *w)
{
    enum { MOST = 64 };
    static char names[MOST][16], longest[255];
    salvo_header many[MOST];
    char *big = noise(30000);
    const salvo_header few[] = {
        HEADER("trace", "abc", 3),    HEADER("empty", "", 0),       HEADER("null", NULL, 0),
        HEADER("twice", "1", 1),      HEADER("twice", "2", 1),      HEADER("twice", "1", 1),
        HEADER("binary", "\0\r\n\xff", 4), HEADER("key", "a key", 5), HEADER("value", "v", 1),
        HEADER("big", big, 30000),    HEADER("x y:\xc3\xa4=", "s", 1),
    };
    memset(longest, 'n', sizeof longest);
    const salvo_header extreme = {longest, sizeof longest, "x", 1};
    for (size_t i = 0; i < MOST; i++) {
        int n = snprintf(names[i], sizeof names[i], "name-%zu", i % 60); /* some of them twice */
        many[i] = (salvo_header){names[i], (size_t)n, names[i], i % 3 ? (size_t)n : 0};
        if (i % 3 == 1)
            many[i].value = NULL, many[i].value_len = 0;
    }
    world_open(w);
    uint32_t topic = world_topic(w, NULL);
    send_headers(w, topic, few, sizeof few / sizeof *few);
    send_headers(w, topic, NULL, 0);
    send_headers(w, topic, many, MOST);
    send_headers(w, topic, &extreme, 1);
    for (size_t i = 0; i < sizeof few / sizeof *few; i++)
        send_headers(w, topic, &few[i], 1);
    all_arrive(w);
    free(big);
}

/* --- timestamps, values ---------------------------------------------------------------------- */

void case_timestamps(world *w)
{
    const int64_t now = wall_ms();
    const int64_t times[] = {0, now, now - 86399999, now - 1, 0, 1577836800123, 1};
    world_open(w);
    uint32_t topic = world_topic(w, NULL);
    for (uint32_t i = 0; i < sizeof times / sizeof *times; i++) {
        char value[32];
        salvo_message m = {.value = value, .timestamp_ms = times[i]};
        m.value_len = (size_t)snprintf(value, sizeof value, "%u", i);
        assert_true(world_send(w, topic, 0, &m));
    }
    all_arrive(w);
    for (uint32_t i = 0; i < sizeof times / sizeof *times; i++)
        if (times[i])
            assert_int_equal(w->sent[i].report.timestamp_ms, times[i]);
}

void case_values(world *w)
{
    char bytes[256];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (char)i;
    const salvo_bytes values[] = {
        {NULL, 0},           {"", 0},           {"\0", 1},         {"\r\n", 2},
        {"$-1\r\n", 5},      {"*1\r\n$4\r\nPING\r\n", 14},         {bytes, sizeof bytes},
        {"\xce\x00\xce", 3}, {"{\"a\": 1}", 8}, {"null", 4},       {bytes, 1},
    };
    world_open(w);
    uint32_t topic = world_topic(w, NULL);
    for (uint32_t round = 0; round < 6; round++)
        for (uint32_t i = 0; i < sizeof values / sizeof *values; i++) {
            char key[32];
            salvo_message m = {.value = values[i].data, .value_len = values[i].len, .key = key};
            m.key_len = (size_t)snprintf(key, sizeof key, "%u", i);
            if (round % 2)
                m.key = NULL, m.key_len = 0;
            assert_true(world_send(w, topic, round % 2 ? 100 : i, &m));
        }
    all_arrive(w);
}

/* Up to the largest that is allowed, one after the other and mixed with small ones. */
void case_large_values(world *w)
{
    const size_t sizes[] = {1000000, 999999, 1, 65535, 65536, 131072, 262144 + 7, 1000000, 4096,
                            1000000, 524288, 3, 16384, 1000000, 900001, 1000000, 2, 750000};
    char *big = noise(1000000);
    world_open(w);
    uint32_t topic = world_topic(w, NULL);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        salvo_message m = {.value = big, .value_len = sizes[i]};
        big[0] = (char)i;
        assert_true(world_send(w, topic, 0, &m));
    }
    all_arrive(w);
    free(big);
}

/* --- compression ----------------------------------------------------------------------------- */

void case_compression(world *w)
{
    static const char *const codecs[] = {"gzip", "lz4", "zstd", "snappy", "none"};
    static const salvo_header header = HEADER("trace", "abc", 3);
    enum { LEN = 60000 };
    char *text = malloc(LEN), *other = noise(LEN);
    assert_non_null(text);
    for (size_t i = 0; i < LEN; i++)
        text[i] = "compressible "[i % 13];
    world_open(w);
    for (size_t i = 0; i < sizeof codecs / sizeof *codecs; i++) {
        salvo_topic_options options = {.size = sizeof options, .payload_compression = codecs[i]};
        uint32_t alone = world_topic(w, &options), mixed = world_topic(w, &options);
        salvo_message m = {.value = text, .value_len = LEN, .key = "k", .key_len = 1,
                           .headers = &header, .header_count = 1, .timestamp_ms = 1577836800123};
        assert_true(world_send(w, alone, 2 * (uint32_t)i, &m));
        for (uint32_t n = 0; n < 12; n++) {
            m.value = n % 4 == 3 ? NULL : n % 2 ? other : text;
            m.value_len = m.value ? n % 3 ? LEN - n : n : 0; /* some too small to be worth it */
            m.key_len = n % 2;
            assert_true(world_send(w, mixed, 100 + n, &m));
        }
        world_flush(w, 30000);
        size_t stored = w->target->hooks->stored_bytes(w, w->topic_names[alone]);
        if (strcmp(codecs[i], "none") == 0)
            assert_int_equal(stored, LEN);
        else
            assert_in_range(stored, 1, LEN / 10);
    }
    all_arrive(w);
    free(text);
    free(other);
}

/* --- limits ---------------------------------------------------------------------------------- */

void case_too_large(world *w)
{
    enum { MOST = 50000 };
    char *big = noise(MOST + 1);
    world_set(w, "max_message_bytes", "50000");
    world_open(w);
    uint32_t topic = world_topic(w, NULL);
    salvo_message m = {.value = big, .value_len = MOST};
    assert_true(world_send(w, topic, 0, &m));
    m.value_len = MOST + 1;
    assert_false(world_send(w, topic, 0, &m));
    assert_int_equal(w->sent[w->count - 1].accepted, SALVO_ERR_TOO_LARGE);
    assert_non_null(strstr(salvo_strerror(SALVO_ERR_TOO_LARGE), "max_message_bytes"));
    m.value_len = 3;
    assert_true(world_send(w, topic, 0, &m));
    world_flush(w, 30000);
    assert_int_equal(world_outcomes(w, 0), 2);
    assert_int_equal(world_ledger(w).refused_too_large, 1);
    free(big);
}

/* One that we would take and the broker does not: it alone fails, once, and the rest goes on. */
void case_too_large_for_the_broker(world *w)
{
    size_t size = w->target->hooks->lower_limit(w);
    char *big = noise(size);
    w->may_duplicate = !w->target->exact; /* its neighbours, where the connection ends with it */
    w->may_reorder = !(w->capabilities & SALVO_CAP_ORDERED_RETRY);
    world_open(w);
    uint32_t topic = world_topic(w, NULL);
    for (uint32_t i = 0; i < 20; i++) {
        assert_true(world_send_number(w, topic, 0, false, i, 100));
        world_expect_last(w, 0);
        if (i != 10)
            continue;
        salvo_message m = {.value = big, .value_len = size};
        assert_true(world_send(w, topic, 0, &m));
        world_expect_last(w, SALVO_ERR_TOO_LARGE);
    }
    int err = salvo_flush(w->producer, 30000);
    w->target->hooks->restore_limit(w);
    assert_int_equal(err, 0);
    assert_int_equal(world_outcomes(w, 0), 20);
    assert_int_equal(world_outcomes(w, SALVO_ERR_TOO_LARGE), 1);
    free(big);
}

void case_part_of_a_batch(world *w)
{
    w->target->hooks->refuse_some(w);
    world_flush(w, 30000);
    assert_in_range(world_outcomes(w, 0), 1, w->count - 1);
    for (uint32_t i = 0; i < w->count; i++)
        assert_int_not_equal(w->sent[i].expected, ANY_STATUS);
}
