/* SPDX-License-Identifier: Apache-2.0
 *
 * Avro: somebody's bytes by a schema that is ours, or by somebody's schema (the first byte
 * chooses; a schema of the input ends at a zero byte). Whatever they are: what is decoded is JSON
 * that encodes again, and of our schemas to a value that decodes to the same text.
 */
#include "fuzz.h"

#include <salvo/schema.h>

static const char *const ours[] = {
    "{\"type\":\"record\",\"name\":\"R\",\"fields\":[{\"name\":\"a\",\"type\":\"long\"},"
    "{\"name\":\"b\",\"type\":[\"null\",\"string\"]},{\"name\":\"c\",\"type\":\"double\"},"
    "{\"name\":\"d\",\"type\":[\"null\",\"R\",\"bytes\",\"boolean\"]}]}",
    "{\"type\":\"array\",\"items\":{\"type\":\"array\",\"items\":\"null\"}}",
    "{\"type\":\"array\",\"items\":[\"int\",\"float\",{\"type\":\"enum\",\"name\":\"E\","
    "\"symbols\":[\"A\",\"B\"]},{\"type\":\"fixed\",\"name\":\"F\",\"size\":3}]}",
};
enum { OURS = sizeof ours / sizeof *ours };

static salvo_schema *schema_of(const uint8_t **data, size_t *size, int *is_ours)
{
    uint8_t which;
    salvo_schema *schema;
    salvo_schema_fault fault = {""};
    fuzz_take(data, size, &which, 1);
    *is_ours = which % (OURS + 1) < OURS;
    const char *text = *is_ours ? ours[which % (OURS + 1)] : (const char *)*data;
    size_t len = *is_ours ? strlen(text) : strnlen(text, *size);
    int err = salvo_schema_parse(text, len, &schema, &fault);
    if (!*is_ours) {
        size_t used = len < *size ? len + 1 : len;
        *data += used;
        *size -= used;
    }
    fuzz_check(err == 0 || (schema == NULL && fault.text[0] != '\0'), "a refusal says why");
    return schema;
}

static void there_and_back(const salvo_schema *schema, const salvo_schema_bytes *text, int is_ours)
{
    salvo_schema_bytes bytes = {0}, again = {0};
    salvo_schema_fault fault = {""};
    int err = salvo_schema_encode(schema, (const char *)text->data, text->len, &bytes, &fault);
    fuzz_check(err == 0 || !is_ours, "what was decoded encodes");
    if (err == 0)
        fuzz_check(salvo_schema_decode(schema, bytes.data, bytes.len, &again, NULL) == 0,
                   "and decodes");
    if (err == 0 && is_ours)
        fuzz_check(again.len == text->len && memcmp(again.data, text->data, text->len) == 0,
                   "to the same text");
    salvo_schema_bytes_free(&bytes);
    salvo_schema_bytes_free(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int is_ours;
    salvo_schema_bytes text = {0};
    salvo_schema_fault fault = {""};
    salvo_schema *schema = schema_of(&data, &size, &is_ours);
    if (schema == NULL)
        return 0;
    int err = salvo_schema_decode(schema, data, size, &text, &fault);
    fuzz_check(err == 0 || (text.len == 0 && fault.text[0] != '\0'), "nothing of it stays");
    if (err == 0)
        there_and_back(schema, &text, is_ours);
    text.len = 0;
    err = salvo_schema_encode(schema, (const char *)data, size, &text, &fault);
    fuzz_check(err == 0 || text.len == 0, "nothing of it stays");
    fuzz_touch(text.data, text.len);
    salvo_schema_bytes_free(&text);
    salvo_schema_free(schema);
    return 0;
}
