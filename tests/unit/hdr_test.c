/* SPDX-License-Identifier: Apache-2.0
 *
 * HdrHistogram's encoding: texts that PyPI's hdrhistogram 0.10.8 wrote are read with every count
 * in its place and written again byte for byte the same; damage is refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "hdr.h"
#include <salvo/histogram.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define HOUR_NS UINT64_C(3600000000000)

/* HdrHistogram(1, 3600000000000, digits): i^4 for i of 1 to 100, 300 times 5, twice an hour, one
 * 0, 70,000 times 1,000,000; then encode(). */
static const struct {
    unsigned digits;
    uint64_t p50, p999, hour;
    const char *text;
} vectors[] = {
    {2, 1003519, 1056767, 3607772528639,
     "HISTFAAAAL14nC2MLQoCQRhAZ54KLrIsy7Isi39BRMSgBoNpEdFiMhs8gNEgJovFYDIYLIJnELyAB7CJFovdI/jt"
     "7sxjmI/3Pqa0PXhKqZdKD+bVSmXGndtZRT8TyD2zHhvecIUdfDUPzVFz0uw1a1YsmLFkyJQ5fSImjOjSk2lAgyZt"
     "mWufe96nTI26mJb0olCmakyILzcwLsbFS/DFhkJcbMGR4oh3paQ1EFsQbNPtZMM1P9hYCfGGlWwVuFSyf3m4GxI="},
    {3, 1000447, 1049599, 3601330077695,
     "HISTFAAAAQF4nC2NP0tCYRSH7+953+vNoBbX5ua+QVtfIhqiqUkiGqJBgi4RDhEiIiIk4iARjgYXkYhwCJEGoXAw"
     "aJC4Q3+2O9Xt1XOGczg8z++snZVynqd1b15mMZWuWxt3197m1/wA/ovNUWACU59omd4q9RWGWb6zhFmeA0YBcYbE"
     "pxHQsdR8yhleDRVLbIksJcPAEFpalgeYwaWha2jz9rgUiQtoQo//JwlUDTPxKX5FmZSiD2N4F/diJCbiQyROrEAR"
     "6qIpbkXXMU9iLKYidliBc1FMw0RVNERbdBzbFwMXeUSeQ4454VQL+soJNSe0XHgottlhlz32085zkHo3P7J/gCBN"
     "Aw=="},
};
enum { VECTORS = sizeof vectors / sizeof vectors[0], RECORDED = 70403 };

static void reads_what_another_wrote(void **state)
{
    (void)state;
    for (size_t v = 0; v < VECTORS; v++) {
        salvo_histogram *h;
        assert_int_equal(salvo_histogram_decode(vectors[v].text, &h), 0);
        assert_int_equal(salvo_histogram_count(h), RECORDED);
        assert_int_equal(salvo_histogram_upto(h, 0), 1);
        assert_int_equal(salvo_histogram_upto(h, 1), 2);
        assert_int_equal(salvo_histogram_upto(h, 16), 303); /* 0, 1, 16 and the fives */
        assert_int_equal(salvo_histogram_upto(h, 15), 302);
        assert_int_equal(salvo_histogram_at(h, 50), vectors[v].p50);
        assert_int_equal(salvo_histogram_at(h, 99.9), vectors[v].p999);
        assert_int_equal(salvo_histogram_at(h, 100), vectors[v].hour);
        salvo_histogram_free(h);
    }
}

static size_t value_of(char c)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    return (size_t)(strchr(alphabet, c) - alphabet);
}

/* base64 of cookie, length and a deflated payload: the payload. */
static uLongf payload_of(const char *text, uint8_t *payload, uLongf room)
{
    static uint8_t packed[4096];
    size_t n = 0;
    for (; *text != '\0' && *text != '='; text += 4) {
        uint32_t bits = 0;
        for (int i = 0; i < 4; i++)
            bits = bits << 6 | (uint32_t)(text[i] == '=' ? 0 : value_of(text[i]));
        packed[n++] = (uint8_t)(bits >> 16);
        packed[n++] = (uint8_t)(bits >> 8);
        packed[n++] = (uint8_t)bits;
    }
    assert_int_equal(uncompress(payload, &room, packed + 8, n - 8), Z_OK);
    return room;
}

/* Recorded by us, of the same values: the same payload to the last byte. */
static void writes_what_another_wrote(void **state)
{
    (void)state;
    for (size_t v = 0; v < VECTORS; v++) {
        salvo_histogram *h = salvo_histogram_new(vectors[v].digits);
        static uint8_t mine[4096], theirs[4096];
        char *text;
        for (uint64_t i = 1; i <= 100; i++)
            salvo_histogram_record(h, i * i * i * i, 1);
        salvo_histogram_record(h, 5, 300);
        salvo_histogram_record(h, HOUR_NS, 2);
        salvo_histogram_record(h, 0, 1);
        salvo_histogram_record(h, 1000000, 70000);
        assert_int_equal(salvo_histogram_encode(h, &text), 0);
        assert_int_equal(strncmp(text, "HISTFAAA", 8), 0);
        uLongf bytes = payload_of(text, mine, sizeof mine);
        assert_int_equal(bytes, payload_of(vectors[v].text, theirs, sizeof theirs));
        assert_memory_equal(mine, theirs, bytes);
        free(text);
        salvo_histogram_free(h);
    }
}

/* Every count, the largest ones and none at all. */
static void round_trip_keeps_every_count(void **state)
{
    static const unsigned digits[] = {2, 3};
    uint64_t seed = 88172645463325252;
    (void)state;
    for (int round = 0; round < 20; round++) {
        salvo_histogram *h = salvo_histogram_new(digits[round % 2]), *back;
        char *text;
        for (int i = 0; i < round * 50; i++) {
            seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
            salvo_histogram_record(h, seed >> (22 + seed % 40), seed >> (15 + seed / 7 % 49));
        }
        assert_int_equal(salvo_histogram_encode(h, &text), 0);
        assert_int_equal(salvo_histogram_decode(text, &back), 0);
        for (uint64_t ns = 1; ns < HOUR_NS; ns += ns / 100 + 1)
            assert_int_equal(salvo_histogram_upto(h, ns), salvo_histogram_upto(back, ns));
        assert_int_equal(salvo_histogram_count(h), salvo_histogram_count(back));
        free(text);
        salvo_histogram_free(h);
        salvo_histogram_free(back);
    }
}

static void counts_up_to_63_bits(void **state)
{
    static const uint64_t all[] = {1, 127, 128, UINT64_C(1) << 56, (UINT64_C(1) << 56) - 1,
                                   (UINT64_C(1) << 62) + 12345, INT64_MAX};
    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        uint64_t counts[10] = {0, all[i], 0, 0, 0, all[i]};
        salvo_hdr form = {.digits = 2, .highest = HOUR_NS, .counts = counts, .length = 10}, back;
        char *text;
        assert_int_equal(salvo_hdr_encode(&form, &text), 0);
        assert_int_equal(salvo_hdr_decode(text, &back), 0);
        assert_int_equal(back.digits, 2);
        assert_int_equal(back.highest, HOUR_NS);
        assert_int_equal(back.length, 6); /* trailing zeros are not kept */
        assert_memory_equal(back.counts, counts, 6 * sizeof counts[0]);
        free(back.counts);
        free(text);
    }
}

static void refuse(const char *text)
{
    salvo_histogram *h = (salvo_histogram *)(uintptr_t)1;
    assert_int_equal(salvo_histogram_decode(text, &h), SALVO_ERR_INVALID);
    assert_null(h);
}

/* The deflated text ends with a checksum: a bit that flips is met. */
static void damage_is_refused(void **state)
{
    const char *good = vectors[0].text;
    size_t length = strlen(good);
    char *text = strdup(good);
    (void)state;

    refuse(NULL);
    refuse("");
    refuse("=");
    refuse("HISTF");
    refuse("not base64 at all!");
    for (size_t i = 0; i < length - 2; i++) { /* the last two may hold unused bits */
        memcpy(text, good, length + 1);
        text[i] = text[i] == 'A' ? 'B' : 'A';
        refuse(text);
        text[i] = '*';
        refuse(text);
        text[i] = '\0'; /* cut off */
        refuse(text);
    }
    free(text);
}

/* Well-formed and wrong: a payload of our own making around one changed field. */
static void false_claims_are_refused(void **state)
{
    uint64_t counts[60000] = {0};
    salvo_hdr form = {.digits = 4, .highest = HOUR_NS, .counts = counts, .length = 4};
    char *text;
    (void)state;

    counts[1] = 1;
    assert_int_equal(salvo_hdr_encode(&form, &text), 0);
    refuse(text); /* 4 digits: read by salvo_hdr_decode() only */
    free(text);
    form.digits = 6;
    assert_int_equal(salvo_hdr_encode(&form, &text), 0);
    refuse(text);
    free(text);
    form.digits = 2;
    form.length = 60000;
    counts[59999] = 1; /* far above an hour */
    assert_int_equal(salvo_hdr_encode(&form, &text), 0);
    refuse(text);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_another_wrote),
        cmocka_unit_test(writes_what_another_wrote),
        cmocka_unit_test(round_trip_keeps_every_count),
        cmocka_unit_test(counts_up_to_63_bits),
        cmocka_unit_test(damage_is_refused),
        cmocka_unit_test(false_claims_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
