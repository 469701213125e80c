/* SPDX-License-Identifier: Apache-2.0
 *
 * Avro: known bytes of the specification, JSON to bytes and back for every type, unions read
 * either way, defaults, what is refused and with which words, and damaged bytes.
 */
#include <salvo/schema.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static salvo_schema *parsed(const char *json)
{
    salvo_schema *schema;
    salvo_schema_fault fault = {""};
    if (salvo_schema_parse(json, strlen(json), &schema, &fault) != 0)
        fail_msg("%s: %s", json, fault.text);
    return schema;
}

/* The bytes as hexadecimal digits, in a buffer of its own. */
static const char *encoded(const salvo_schema *schema, const char *json)
{
    static char text[1024];
    salvo_schema_bytes out = {0};
    salvo_schema_fault fault = {""};
    if (salvo_schema_encode(schema, json, strlen(json), &out, &fault) != 0)
        fail_msg("%s: %s", json, fault.text);
    assert_true(out.len * 2 < sizeof text);
    text[0] = '\0';
    for (size_t i = 0; i < out.len; i++)
        snprintf(text + 2 * i, 3, "%02x", out.data[i]);
    salvo_schema_bytes_free(&out);
    return text;
}

static void assert_bytes(const char *type, const char *json, const char *expected)
{
    salvo_schema *schema = parsed(type);
    assert_string_equal(encoded(schema, json), expected);
    salvo_schema_free(schema);
}

/* JSON to bytes to `expected`. */
static void assert_way(const char *type, const char *json, const char *expected)
{
    salvo_schema *schema = parsed(type);
    salvo_schema_bytes bytes = {0}, text = {0};
    salvo_schema_fault fault = {""};
    if (salvo_schema_encode(schema, json, strlen(json), &bytes, &fault) != 0 ||
        salvo_schema_decode(schema, bytes.data, bytes.len, &text, &fault) != 0)
        fail_msg("%s: %s: %s", type, json, fault.text);
    assert_int_equal(text.len, strlen(expected));
    assert_memory_equal(text.data, expected, text.len);
    salvo_schema_bytes_free(&bytes);
    salvo_schema_bytes_free(&text);
    salvo_schema_free(schema);
}

static void assert_refused(const char *type, const char *json, const char *words)
{
    salvo_schema *schema = parsed(type);
    salvo_schema_bytes out = {0};
    salvo_schema_fault fault = {""};
    assert_int_equal(salvo_schema_put_id(&out, 7), 0);
    assert_int_equal(salvo_schema_encode(schema, json, strlen(json), &out, &fault),
                     SALVO_ERR_INVALID);
    assert_int_equal(out.len, SALVO_SCHEMA_HEADER_BYTES); /* nothing of it stays */
    if (strstr(fault.text, words) == NULL)
        fail_msg("%s: `%s` lacks `%s`", json, fault.text, words);
    assert_int_equal(salvo_schema_encode(schema, json, strlen(json), &out, NULL),
                     SALVO_ERR_INVALID);
    salvo_schema_bytes_free(&out);
    salvo_schema_free(schema);
}

static const char order[] =
    "{\"type\":\"record\",\"name\":\"Order\",\"namespace\":\"shop\",\"fields\":["
    "{\"name\":\"id\",\"type\":\"long\"},"
    "{\"name\":\"kind\",\"type\":{\"type\":\"enum\",\"name\":\"Kind\",\"symbols\":[\"A\",\"B\"]},"
    "\"default\":\"B\"},"
    "{\"name\":\"tags\",\"type\":{\"type\":\"array\",\"items\":\"string\"},\"default\":[\"x\"]},"
    "{\"name\":\"note\",\"type\":[\"null\",\"string\"],\"default\":null},"
    "{\"name\":\"next\",\"type\":[\"null\",\"Order\"],\"default\":null}]}";

static void test_known_bytes(void **state)
{
    (void)state;
    assert_bytes("\"long\"", "0", "00");
    assert_bytes("\"long\"", "-1", "01");
    assert_bytes("{\"type\":\"long\"}", "64", "8001");
    assert_bytes("\"long\"", "-9223372036854775808", "ffffffffffffffffff01");
    assert_bytes("\"string\"", "\"foo\"", "06666f6f");
    assert_bytes("{\"type\":\"array\",\"items\":\"long\"}", "[3,27]", "04063600");
    assert_bytes("[\"null\",\"string\"]", "\"a\"", "020261");
    assert_bytes("\"boolean\"", "true", "01");
    assert_bytes("\"double\"", "1", "000000000000f03f");
    assert_bytes("\"bytes\"", "\"\\u0000\\u00ff\"", "0400ff");
    assert_bytes(order, "{\"id\":1}", "0202020278000000");
}

static void test_every_type_comes_back(void **state)
{
    (void)state;
    assert_way("\"null\"", "null", "null");
    assert_way("\"int\"", "-2147483648", "-2147483648");
    assert_way("\"float\"", "0.1", "0.1");
    assert_way("\"double\"", "0.1", "0.1");
    assert_way("\"double\"", "3", "3.0");
    assert_way("\"double\"", "\"NaN\"", "\"NaN\"");
    assert_way("\"float\"", "\"-Infinity\"", "\"-Infinity\"");
    assert_way("\"string\"", "\"\\\"\\u0000\\n\\u001f\xc3\xa9\"",
               "\"\\\"\\u0000\\n\\u001f\xc3\xa9\"");
    assert_way("\"bytes\"", "\"\\u00ff\\\\a\"", "\"\xc3\xbf\\\\a\"");
    assert_way("{\"type\":\"fixed\",\"name\":\"F\",\"size\":2}", "\"ab\"", "\"ab\"");
    assert_way("{\"type\":\"map\",\"values\":\"int\"}", "{\"a\":1,\"b\":2}", "{\"a\":1,\"b\":2}");
    assert_way(order, "{\"id\":1,\"kind\":\"A\",\"tags\":[],\"note\":\"n\",\"next\":{\"id\":2}}",
               "{\"id\":1,\"kind\":\"A\",\"tags\":[],\"note\":\"n\",\"next\":{\"id\":2,\"kind\":"
               "\"B\",\"tags\":[\"x\"],\"note\":null,\"next\":null}}");
}

static void test_unions(void **state)
{
    static const char three[] = "[\"null\",\"long\",\"string\"]";
    static const char map[] = "[\"null\",{\"type\":\"map\",\"values\":\"long\"}]";
    (void)state;
    assert_way(three, "null", "null");
    assert_way(three, "7", "{\"long\":7}");
    assert_way(three, "{\"string\":\"7\"}", "{\"string\":\"7\"}");
    assert_way("[\"null\",\"string\"]", "{\"string\":\"a\"}", "\"a\"");
    assert_way(map, "{\"map\":3}", "{\"map\":3}"); /* a member of the map, not its name */
    assert_way(map, "{\"map\":{\"a\":3}}", "{\"a\":3}");
    assert_refused(three, "true", "true fits no branch");
}

static void test_what_is_refused(void **state)
{
    (void)state;
    assert_refused("\"long\"", "\"1\"", "a whole number is needed, not a text");
    assert_refused("\"int\"", "2147483648", "32 bits");
    assert_refused("\"float\"", "1e300", "32 bits");
    assert_refused("\"bytes\"", "\"\xc4\x80\"", "U+00FF");
    assert_refused("{\"type\":\"fixed\",\"name\":\"F\",\"size\":2}", "\"abc\"", "2 bytes");
    assert_refused(order, "{}", "id: it is missing");
    assert_refused(order, "{\"id\":1,\"Note\":\"\"}", "no field `Note`");
    assert_refused(order, "{\"id\":1,\"kind\":\"C\"}", "kind: `C` is none");
    assert_refused(order, "{\"id\":1,\"tags\":[\"a\",1]}", "tags.1: a text is needed");
    assert_refused(order, "{\"id\":1,\"next\":{\"id\":2,\"note\":3}}", "next.note: a text");
    assert_refused(order, "{\"id\":", "invalid JSON");
}

static void test_deep_values_end(void **state)
{
    (void)state;
    size_t levels = 1000, used = 0;
    char *json = malloc(levels * 24 + 16);
    assert_non_null(json);
    for (size_t i = 0; i < levels; i++)
        used += (size_t)sprintf(json + used, "{\"id\":1,\"next\":");
    used += (size_t)sprintf(json + used, "null");
    for (size_t i = 0; i < levels; i++)
        json[used++] = '}';
    json[used] = '\0';
    assert_refused(order, json, "nested more than");
    free(json);
}

static void test_schemas_that_are_none(void **state)
{
    static const char *const bad[] = {"", "{", "{\"type\":\"lonk\"}", "\"lonk\"", "{}", "[[]]", "3",
                                      "{\"type\":\"record\",\"name\":\"R\"}",
                                      "{\"type\":\"array\"}"};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        salvo_schema *schema;
        salvo_schema_fault fault = {""};
        if (salvo_schema_parse(bad[i], strlen(bad[i]), &schema, &fault) == 0)
            fail_msg("%s is taken", bad[i]);
        assert_null(schema);
        assert_string_not_equal(fault.text, "");
    }
}

static void test_names_and_text(void **state)
{
    (void)state;
    salvo_schema *schema = parsed(order);
    assert_string_equal(salvo_schema_name(schema), "shop.Order");
    assert_string_equal(salvo_schema_text(schema), order);
    salvo_schema_free(schema);
    schema = parsed("\"long\"");
    assert_string_equal(salvo_schema_name(schema), "");
    salvo_schema_free(schema);
    salvo_schema_free(NULL);
}

static void test_headers(void **state)
{
    (void)state;
    salvo_schema_bytes out = {0};
    assert_int_equal(salvo_schema_put_id(&out, 0x01020304), 0);
    assert_memory_equal(out.data, "\0\1\2\3\4", 5);
    assert_int_equal(salvo_schema_id_of(out.data, out.len), 0x01020304);
    assert_int_equal(salvo_schema_id_of(out.data, 4), -1);
    assert_int_equal(salvo_schema_id_of("\1\0\0\0\1", 5), -1);
    assert_int_equal(salvo_schema_id_of("\0\xff\0\0\1", 5), -1);
    salvo_schema_bytes_free(&out);
}

/* Bytes that end early, and every byte changed to each of a few values: an error, or a value. */
static void test_damaged_bytes(void **state)
{
    static const char json[] = "{\"id\":1,\"tags\":[\"a\",\"b\"],\"note\":\"n\","
                               "\"next\":{\"id\":2}}";
    static const unsigned char values[] = {0, 1, 2, 3, 127, 128, 254, 255};
    (void)state;
    salvo_schema *schema = parsed(order);
    salvo_schema_bytes bytes = {0}, text = {0};
    salvo_schema_fault fault = {""};
    assert_int_equal(salvo_schema_encode(schema, json, strlen(json), &bytes, NULL), 0);
    for (size_t len = 0; len < bytes.len; len++)
        assert_int_equal(salvo_schema_decode(schema, bytes.data, len, &text, &fault),
                         SALVO_ERR_INVALID);
    assert_int_equal(text.len, 0);
    for (size_t i = 0; i < bytes.len; i++)
        for (size_t k = 0; k < sizeof values; k++) {
            unsigned char before = bytes.data[i];
            bytes.data[i] = values[k];
            text.len = 0;
            int err = salvo_schema_decode(schema, bytes.data, bytes.len, &text, &fault);
            assert_true(err == 0 || err == SALVO_ERR_INVALID);
            bytes.data[i] = before;
        }
    assert_int_equal(salvo_schema_decode(schema, "\2\2\0\0\0\0", 6, &text, &fault),
                     SALVO_ERR_INVALID);
    assert_non_null(strstr(fault.text, "1 bytes follow"));
    salvo_schema_bytes_free(&bytes);
    salvo_schema_bytes_free(&text);
    salvo_schema_free(schema);
}

/* Lengths that are negative, or longer than what is left. */
static void test_lengths_are_bounded(void **state)
{
    static const char *const types[] = {"\"string\"", "\"bytes\"",
                                        "{\"type\":\"map\",\"values\":\"null\"}"};
    static const char *const bad[] = {"\4a", "\1a", "\2\4a"};
    (void)state;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        salvo_schema *schema = parsed(types[i]);
        salvo_schema_bytes text = {0};
        salvo_schema_fault fault = {""};
        const char *bytes = bad[i < 2 ? 0 : 2];
        assert_int_equal(salvo_schema_decode(schema, bytes, strlen(bytes), &text, &fault),
                         SALVO_ERR_INVALID);
        assert_non_null(strstr(fault.text, "a length of 2 where 1 bytes are left"));
        if (i < 2)
            assert_int_equal(salvo_schema_decode(schema, bad[1], 2, &text, &fault),
                             SALVO_ERR_INVALID);
        assert_int_equal(text.len, 0);
        salvo_schema_bytes_free(&text);
        salvo_schema_free(schema);
    }
}

/* Counts of values that have no bytes. */
static void test_counts_are_bounded(void **state)
{
    (void)state;
    salvo_schema *schema = parsed("{\"type\":\"array\",\"items\":\"null\"}");
    salvo_schema_bytes text = {0};
    salvo_schema_fault fault = {""};
    assert_int_equal(salvo_schema_decode(schema, "\xfe\xff\xff\xff\xff\xff\xff\xff\xff\1\0", 11,
                                         &text, &fault), SALVO_ERR_INVALID);
    assert_non_null(strstr(fault.text, "a count of"));
    assert_int_equal(salvo_schema_decode(schema, "\4\0", 2, &text, &fault), 0);
    assert_memory_equal(text.data, "[null,null]", 11);
    /* Blocks with their size in front, as others may write them. */
    text.len = 0;
    assert_int_equal(salvo_schema_decode(schema, "\1\0\3\0\0", 5, &text, &fault), 0);
    assert_memory_equal(text.data, "[null,null,null]", 16);
    salvo_schema_bytes_free(&text);
    salvo_schema_free(schema);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_bytes),      cmocka_unit_test(test_every_type_comes_back),
        cmocka_unit_test(test_unions),           cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_deep_values_end),  cmocka_unit_test(test_schemas_that_are_none),
        cmocka_unit_test(test_names_and_text),   cmocka_unit_test(test_headers),
        cmocka_unit_test(test_damaged_bytes),    cmocka_unit_test(test_counts_are_bounded),
        cmocka_unit_test(test_lengths_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
