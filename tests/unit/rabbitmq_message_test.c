/* SPDX-License-Identifier: Apache-2.0
 *
 * What the driver writes by hand, rabbitmq-c reads back; and what a server sends is cut and shown
 * without looking beyond its bytes.
 */
#include "driver_fixture.h"
#include "drivers/rabbitmq_internal.h"
#include "drivers/rabbitmq_record.h"

typedef struct world {
    salvo_rabbitmq r;
    salvo_rabbitmq_topic topic;
    salvo_driver_topic options;
    uint8_t bytes[1 << 16];
} world;

static void world_open(world *w)
{
    static const char method[] = "METHOD";
    memset(w, 0, sizeof *w);
    w->r.link.frame_max = 4096;
    w->r.wall_s = 1700000001;
    memcpy(w->r.id, "0123456789abcdef-", 18);
    w->topic.method = (uint8_t *)(uintptr_t)method;
    w->topic.method_len = 6;
}

/* Writes the message; gives the content header's payload. */
static size_t write_head(world *w, const salvo_driver_message *m, const char *encoding,
                         uint64_t body_len, const uint8_t **payload)
{
    salvo_rabbitmq_content c = {.message = m, .topic = &w->topic, .encoding = encoding,
                                .body_len = body_len, .seq = 0xabc};
    int64_t n = salvo_rabbitmq_head_bytes(&w->r, &c);
    assert_true(n > 0);
    uint8_t *end = salvo_rabbitmq_head_write(&w->r, &c, w->bytes);
    assert_int_equal(end - w->bytes, n);
    assert_memory_equal(w->bytes, "METHOD", 6);
    salvo_rabbitmq_frame frame;
    assert_int_equal(salvo_rabbitmq_cut(w->bytes + 6, (size_t)n - 6, &frame), n - 6);
    for (size_t less = 0; less < (size_t)n - 6; less++) /* every cut of it is incomplete */
        assert_int_equal(salvo_rabbitmq_cut(w->bytes + 6, less, &frame), 0);
    assert_int_equal(salvo_rabbitmq_cut(w->bytes + 6, (size_t)n - 6, &frame), n - 6);
    assert_int_equal(frame.type, AMQP_FRAME_HEADER);
    assert_int_equal(frame.channel, SALVO_RABBITMQ_PUBLISHING);
    *payload = frame.payload;
    return frame.size;
}

static size_t pack(char *at, const char *name, const char *value, uint32_t value_len)
{
    uint32_t lengths[2] = {(uint32_t)strlen(name), value ? value_len : UINT32_MAX};
    memcpy(at, lengths, sizeof lengths);
    memcpy(at + 8, name, lengths[0]);
    if (value)
        memcpy(at + 8 + lengths[0], value, value_len);
    return 8 + lengths[0] + (value ? value_len : 0);
}

static void all_of_a_message_is_read_back(void **state)
{
    (void)state;
    world w;
    world_open(&w);
    char headers[64];
    size_t n = pack(headers, "a", "x\0y", 3);
    n += pack(headers + n, "b", NULL, 0);
    salvo_driver_message m = {.value = "v", .value_len = 1, .key = "k\0", .key_len = 2,
                              .headers = headers, .headers_bytes = (uint32_t)n,
                              .timestamp_ms = 1600000000999};
    const uint8_t *payload;
    size_t size = write_head(&w, &m, "zstd", 77, &payload);
    assert_int_equal(salvo_rabbitmq_get_be(payload + 4, 8), 77);
    amqp_pool_t pool;
    void *decoded;
    init_amqp_pool(&pool, 4096);
    union { const uint8_t *in; void *out; } rest = {payload + 12};
    assert_int_equal(amqp_decode_properties(AMQP_BASIC_CLASS, &pool,
                                            (amqp_bytes_t){.len = size - 12, .bytes = rest.out},
                                            &decoded), 0);
    const amqp_basic_properties_t *p = decoded;
    uint64_t seq;
    assert_int_equal(p->_flags, AMQP_BASIC_CONTENT_ENCODING_FLAG | AMQP_BASIC_HEADERS_FLAG |
                                    AMQP_BASIC_DELIVERY_MODE_FLAG | AMQP_BASIC_MESSAGE_ID_FLAG |
                                    AMQP_BASIC_TIMESTAMP_FLAG);
    assert_memory_equal(p->content_encoding.bytes, "zstd", p->content_encoding.len);
    assert_int_equal(p->delivery_mode, 2);
    assert_int_equal(p->timestamp, 1600000000);
    assert_memory_equal(p->message_id.bytes, "0123456789abcdef-000000000abc", 29);
    assert_true(salvo_rabbitmq_id_parse(&w.r, p->message_id, &seq));
    assert_int_equal(seq, 0xabc);
    assert_int_equal(p->headers.num_entries, 4);
    empty_amqp_pool(&pool);
}

static void a_plain_message_has_no_headers(void **state)
{
    (void)state;
    world w;
    world_open(&w);
    salvo_driver_message m = {.value = "v", .value_len = 1};
    const uint8_t *payload;
    write_head(&w, &m, NULL, 1, &payload);
    assert_int_equal(salvo_rabbitmq_get_be(payload + 12, 2) & AMQP_BASIC_HEADERS_FLAG, 0);
}

static void what_fits_no_frame_is_refused(void **state)
{
    (void)state;
    world w;
    world_open(&w);
    static char key[4096];
    char headers[64];
    salvo_driver_message m = {.value = "v", .value_len = 1, .key = key, .key_len = sizeof key};
    salvo_rabbitmq_content c = {.message = &m, .topic = &w.topic};
    assert_int_equal(salvo_rabbitmq_head_bytes(&w.r, &c), SALVO_ERR_TOO_LARGE);
    m = (salvo_driver_message){.value = "v", .value_len = 1, .headers = headers,
                               .headers_bytes = (uint32_t)pack(headers, "BCC", "q", 1)};
    assert_int_equal(salvo_rabbitmq_head_bytes(&w.r, &c), SALVO_ERR_REJECTED);
}

static void ids_of_others_are_not_ours(void **state)
{
    (void)state;
    world w;
    uint64_t seq;
    static const char *const others[] = {"", "0123456789abcdef-", "0123456789abcdeX-000000000abc",
                                         "0123456789abcdef-000000000aBc",
                                         "0123456789abcdef-000000000abcd"};
    world_open(&w);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        assert_false(salvo_rabbitmq_id_parse(&w.r, amqp_cstring_bytes(others[i]), &seq));
}

/* Bytes as the driver writes them, through the reader's side. */
static void a_record_shows_what_was_written(void **state)
{
    (void)state;
    world w;
    uint64_t left;
    salvo_record shown;
    salvo_rabbitmq_record record;
    const uint8_t *payload;
    char headers[64];
    world_open(&w);
    salvo_rabbitmq_record_open(&record);
    salvo_driver_message m = {.key = "", .headers = headers, .timestamp_ms = 5,
                              .headers_bytes = (uint32_t)pack(headers, "h", "", 0)};
    size_t size = write_head(&w, &m, NULL, 0, &payload);
    assert_true(salvo_rabbitmq_record_begin(&record, payload, size, &left));
    assert_int_equal(left, 0);
    assert_int_equal(salvo_rabbitmq_record_show(&record, 1000, &shown), 0);
    assert_null(shown.value);
    assert_non_null(shown.key);
    assert_int_equal(shown.key_len, 0);
    assert_int_equal(shown.timestamp_ms, 5);
    assert_int_equal(shown.header_count, 1);
    assert_non_null(shown.headers[0].value);
    /* Every cut of it is refused, and damaged bytes are looked at no further than they go. */
    for (size_t less = 0; less < size; less++) {
        uint8_t *exact = malloc(less + 1);
        memcpy(exact, payload, less);
        assert_false(salvo_rabbitmq_record_begin(&record, exact, less, &left));
        free(exact);
    }
    for (size_t i = 12; i < size; i++) {
        uint8_t *copy = malloc(size);
        memcpy(copy, payload, size);
        copy[i] ^= 0xff;
        if (salvo_rabbitmq_record_begin(&record, copy, size, &left))
            (void)salvo_rabbitmq_record_show(&record, 1000, &shown);
        free(copy);
    }
    salvo_rabbitmq_record_close(&record);
}

static void damaged_compression_is_an_error(void **state)
{
    (void)state;
    world w;
    uint64_t left;
    salvo_record shown;
    salvo_rabbitmq_record record;
    const uint8_t *payload;
    world_open(&w);
    salvo_rabbitmq_record_open(&record);
    salvo_driver_message m = {.value = "v", .value_len = 1};
    size_t size = write_head(&w, &m, "gzip", 4, &payload);
    assert_true(salvo_rabbitmq_record_begin(&record, payload, size, &left));
    assert_true(salvo_rabbitmq_record_body(&record, "\x1f\x8b\x08?", 4));
    assert_int_equal(salvo_rabbitmq_record_show(&record, 1000, &shown), SALVO_ERR_INVALID);
    salvo_rabbitmq_record_close(&record);
}

/* --- slots --------------------------------------------------------------------------------- */

static void slots_merge_ranges_and_complete_once(void **state)
{
    (void)state;
    fixture f;
    static const char *const pairs[] = {"message_broker", "null", NULL};
    salvo_rabbitmq_slots s;
    salvo_driver_cursor at;
    salvo_driver_message m;
    salvo_driver_outcome o;
    fixture_open(&f, salvo_driver_find("null"), pairs);
    assert_int_equal(salvo_rabbitmq_slots_open(&s, 2), 0);
    salvo_batch *batch = fixture_batch(&f, 0, 0, 0, 6);
    assert_true(salvo_rabbitmq_slots_add(&s, &batch->driver, 42));
    uint32_t slot = salvo_rabbitmq_slots_first(&s);
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(salvo_rabbitmq_slots_take(&s, slot, &at, &m), i);
    assert_int_equal(*(const char *)m.value, '3');
    salvo_rabbitmq_slots_untake(&s, slot, &at);
    assert_int_equal(salvo_rabbitmq_slots_take(&s, slot, &at, &m), 3);
    assert_int_equal(*(const char *)m.value, '3');
    salvo_rabbitmq_slots_record(&s, slot, 3, 1, 0);
    salvo_rabbitmq_slots_record(&s, slot, 1, 1, SALVO_ERR_MAYBE);
    salvo_rabbitmq_slots_record(&s, slot, 2, 1, 0);
    salvo_rabbitmq_slots_refuse(&s, slot, SALVO_ERR_TRANSIENT);
    assert_int_equal(salvo_rabbitmq_slots_hand_out(&s, &o, 1), 0);
    salvo_rabbitmq_slots_record(&s, slot, 0, 1, 0);
    assert_int_equal(salvo_rabbitmq_slots_hand_out(&s, &o, 1), 1);
    assert_int_equal(o.token, 42);
    static const salvo_driver_range expected[] = {
        {0, 1, 0, 0, -1}, {1, 1, SALVO_ERR_MAYBE, 0, -1}, {2, 2, 0, 0, -1},
        {4, 2, SALVO_ERR_TRANSIENT, 0, -1}};
    assert_int_equal(o.range_count, 4);
    assert_memory_equal(o.ranges, expected, sizeof expected);
    assert_int_equal(salvo_rabbitmq_slots_hand_out(&s, &o, 1), 0);
    assert_int_equal(salvo_rabbitmq_slots_first(&s), SALVO_RABBITMQ_NO_SLOT);
    assert_true(salvo_rabbitmq_slots_add(&s, &batch->driver, 43));
    assert_false(salvo_rabbitmq_slots_add(&s, &batch->driver, 44)); /* 42 is still being read */
    salvo_rabbitmq_slots_recycle(&s);
    assert_true(salvo_rabbitmq_slots_add(&s, &batch->driver, 44));
    salvo_rabbitmq_slots_close(&s);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_of_a_message_is_read_back),
        cmocka_unit_test(a_plain_message_has_no_headers),
        cmocka_unit_test(what_fits_no_frame_is_refused),
        cmocka_unit_test(ids_of_others_are_not_ours),
        cmocka_unit_test(a_record_shows_what_was_written),
        cmocka_unit_test(damaged_compression_is_an_error),
        cmocka_unit_test(slots_merge_ranges_and_complete_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
