/* SPDX-License-Identifier: Apache-2.0
 *
 * Every codec gives back what it took, keeps its limit whatever the input claims, tells damage,
 * and speaks the format that others speak (gzip, lz4 and zstd of the PATH, where they are).
 */
#include "compress.h"

#include <salvo/err.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define MIB ((size_t)1 << 20)

static const char *const names[] = {"gzip", "lz4", "zstd", "snappy"};
#define CODECS (sizeof names / sizeof *names)

typedef struct packed {
    const salvo_codec *codec;
    void *context;
    uint8_t *data;
    size_t bytes;
} packed;

static uint64_t next_random(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    return *seed ^= *seed << 17;
}

/* Text, or what nothing can compress. */
static uint8_t *content(size_t bytes, bool text)
{
    static const char *const words[] = {"order ", "payment ", "of ", "customer ",
                                        "accepted ", "the ", "refused ", "42 "};
    uint64_t seed = 88172645463325252u + bytes;
    uint8_t *data = malloc(bytes + 1);
    assert_non_null(data);
    for (size_t i = 0; i < bytes;) {
        uint64_t random = next_random(&seed) >> 32;
        const char *word = text ? words[random % 8] : (const char *)&random;
        size_t n = text ? strlen(word) : 1;
        for (size_t k = 0; k < n && i < bytes; k++)
            data[i++] = (uint8_t)word[k];
    }
    return data;
}

static void open_codec(packed *p, const char *name)
{
    memset(p, 0, sizeof *p);
    p->codec = salvo_codec_find(name);
    assert_non_null(p->codec);
    assert_int_equal(p->codec->open(&p->context), 0);
}

static void pack(packed *p, const void *in, size_t in_bytes)
{
    size_t room = p->codec->bound(in_bytes);
    free(p->data);
    p->data = malloc(room);
    assert_non_null(p->data);
    p->bytes = p->codec->compress(p->context, in, in_bytes, p->data, room);
    assert_true(p->bytes > 0);
    assert_true(p->bytes <= room);
}

static void close_codec(packed *p)
{
    p->codec->close(p->context);
    free(p->data);
}

static int unpack(packed *p, const void *in, size_t in_bytes, size_t limit, void **out,
                  size_t *out_bytes)
{
    *out = NULL;
    *out_bytes = 0;
    return p->codec->decompress(p->context, in, in_bytes, limit, out, out_bytes);
}

static void expect_error(packed *p, const void *in, size_t in_bytes, size_t limit, int wanted)
{
    void *out;
    size_t out_bytes;
    int err = unpack(p, in, in_bytes, limit, &out, &out_bytes);
    if (err == 0)
        free(out);
    assert_int_equal(err, wanted);
}

static void expect_content(packed *p, const void *in, size_t in_bytes, const void *wanted,
                           size_t wanted_bytes, size_t limit)
{
    void *out;
    size_t out_bytes;
    assert_int_equal(unpack(p, in, in_bytes, limit, &out, &out_bytes), 0);
    assert_int_equal(out_bytes, wanted_bytes);
    assert_non_null(out);
    assert_memory_equal(out, wanted, wanted_bytes);
    free(out);
}

static void is_found_by_name_and_encoding(void **state)
{
    (void)state;
    for (size_t i = 0; i < CODECS; i++) {
        const salvo_codec *codec = salvo_codec_find(names[i]);
        assert_non_null(codec);
        assert_string_equal(codec->name, names[i]);
        char text[32]; /* not ended: the length counts */
        memset(text, 'x', sizeof text);
        size_t length = strlen(codec->content_encoding);
        memcpy(text, codec->content_encoding, length);
        assert_ptr_equal(salvo_codec_for_encoding(text, length), codec);
        assert_null(salvo_codec_for_encoding(text, length + 1));
        assert_null(salvo_codec_for_encoding(text, length - 1));
        text[0] = (char)(text[0] - 'a' + 'A');
        assert_ptr_equal(salvo_codec_for_encoding(text, length), codec);
    }
    static const char *const no_codec[] = {"none", "", "GZIP", "brotli", "identity"};
    for (size_t i = 0; i < sizeof no_codec / sizeof *no_codec; i++)
        assert_null(salvo_codec_find(no_codec[i]));
    assert_null(salvo_codec_find(NULL));
    assert_null(salvo_codec_for_encoding(NULL, 0));
    assert_null(salvo_codec_for_encoding("", 0));
    assert_null(salvo_codec_for_encoding("identity", 8));
}

/* One context for all sizes, up and down: nothing of one content stays for the next. */
static void gives_back_what_it_took(void **state)
{
    (void)state;
    static const size_t sizes[] = {0,    1,     2,       3,         100,     4096,        65535,
                                   65536, 65537, 262145, 1000003, MIB - 1, MIB, MIB + 1, 5, 0};
    for (size_t i = 0; i < CODECS; i++) {
        packed p;
        open_codec(&p, names[i]);
        for (size_t s = 0; s < 2 * sizeof sizes / sizeof *sizes; s++) {
            size_t bytes = sizes[s / 2];
            uint8_t *data = content(bytes, s % 2);
            pack(&p, data, bytes);
            expect_content(&p, p.data, p.bytes, data, bytes, bytes);
            expect_content(&p, p.data, p.bytes, data, bytes, 16 * MIB);
            if (bytes >= 4096 && s % 2) /* text shrinks */
                assert_true(p.bytes < bytes - bytes / 8);
            if (bytes > 0)
                expect_error(&p, p.data, p.bytes, bytes - 1, SALVO_ERR_TOO_LARGE);
            free(data);
        }
        close_codec(&p);
    }
}

static void says_when_it_does_not_fit(void **state)
{
    (void)state;
    uint8_t *data = content(5000, false);
    uint8_t *room = malloc(5000);
    for (size_t i = 0; i < CODECS; i++) {
        packed p;
        open_codec(&p, names[i]);
        for (size_t bytes = 0; bytes < 5000; bytes += 499)
            assert_int_equal(p.codec->compress(p.context, data, 5000, room, bytes), 0);
        pack(&p, data, 5000); /* the context still works */
        expect_content(&p, p.data, p.bytes, data, 5000, 5000);
        close_codec(&p);
    }
    free(room);
    free(data);
}

/* A small message that claims to be, or is, far larger than the limit. */
static void stops_at_the_limit(void **state)
{
    (void)state;
    uint8_t *zeros = calloc(1, 64 * MIB);
    assert_non_null(zeros);
    for (size_t i = 0; i < CODECS; i++) {
        packed p;
        open_codec(&p, names[i]);
        pack(&p, zeros, 64 * MIB);
        static const size_t limits[] = {0, 1, 1000, MIB, 64 * MIB - 1};
        for (size_t l = 0; l < sizeof limits / sizeof *limits; l++)
            expect_error(&p, p.data, p.bytes, limits[l], SALVO_ERR_TOO_LARGE);
        expect_content(&p, p.data, p.bytes, zeros, 64 * MIB, 64 * MIB);
        close_codec(&p);
    }
    free(zeros);
}

/* What says that it is small and is not: the claim is not believed. */
static void does_not_believe_a_claim(void **state)
{
    (void)state;
    packed p;
    open_codec(&p, "snappy"); /* 4 GiB - 1 in six bytes */
    expect_error(&p, "\xff\xff\xff\xff\x0f\x00", 6, MIB, SALVO_ERR_TOO_LARGE);
    expect_error(&p, "\xff\xff\xff\xff\x0f\x00", 6, SIZE_MAX, SALVO_ERR_INVALID);
    close_codec(&p);

    uint8_t *zeros = calloc(1, 4 * MIB);
    open_codec(&p, "zstd"); /* the size of the content, 4 bytes behind magic and descriptor */
    pack(&p, zeros, 4 * MIB);
    assert_int_equal(p.data[4] >> 6, 2);
    static const uint8_t small[4] = {16};
    memcpy(p.data + ((p.data[4] & 0x20) ? 5 : 6), small, sizeof small);
    void *out;
    size_t out_bytes;
    assert_true(unpack(&p, p.data, p.bytes, MIB, &out, &out_bytes) != 0);
    close_codec(&p);
    free(zeros);
}

static void tells_truncation(void **state)
{
    (void)state;
    uint8_t *data = content(3000, true);
    for (size_t i = 0; i < CODECS; i++) {
        packed p;
        open_codec(&p, names[i]);
        pack(&p, data, 3000);
        for (size_t bytes = 0; bytes < p.bytes; bytes++) {
            uint8_t *part = malloc(bytes + 1); /* of its own: reading beyond would be seen */
            memcpy(part, p.data, bytes);
            expect_error(&p, part, bytes, MIB, SALVO_ERR_INVALID);
            free(part);
        }
        expect_content(&p, p.data, p.bytes, data, 3000, 3000);
        close_codec(&p);
    }
    free(data);
}

/* Every single flipped bit: an error, or (flags nobody needs; snappy has no checksum) a result
 * within the limit; with a checksum never another content. */
static void tells_damage(void **state)
{
    (void)state;
    uint8_t *data = content(1500, true);
    for (size_t i = 0; i < CODECS; i++) {
        packed p;
        open_codec(&p, names[i]);
        pack(&p, data, 1500);
        uint32_t told = 0;
        for (size_t bit = 0; bit < p.bytes * 8; bit++) {
            p.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
            void *out;
            size_t out_bytes;
            int err = unpack(&p, p.data, p.bytes, 20000, &out, &out_bytes);
            told += err != 0;
            assert_true(err == 0 || err == SALVO_ERR_INVALID || err == SALVO_ERR_TOO_LARGE);
            assert_true(out_bytes <= 20000);
            if (err == 0 && strcmp(names[i], "snappy") != 0)
                assert_true(out_bytes == 1500 && memcmp(out, data, 1500) == 0);
            free(out);
            p.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        assert_true(told > (strcmp(names[i], "snappy") == 0 ? 100 : p.bytes * 7));
        expect_content(&p, p.data, p.bytes, data, 1500, 1500);
        close_codec(&p);
    }
    free(data);
}

static void refuses_noise(void **state)
{
    (void)state;
    for (size_t i = 0; i < CODECS; i++) {
        packed p;
        open_codec(&p, names[i]);
        expect_error(&p, "", 0, MIB, SALVO_ERR_INVALID);
        expect_error(&p, "\x80", 1, MIB, SALVO_ERR_INVALID);
        expect_error(&p, "plain text, and not packed at all", 33, MIB, SALVO_ERR_INVALID);
        uint8_t *data = content(4096, false);
        for (size_t from = 0; from < 4000; from += 7) {
            void *out;
            size_t out_bytes;
            if (unpack(&p, data + from, 64, 1000, &out, &out_bytes) == 0)
                free(out);
            assert_true(out_bytes <= 1000);
        }
        free(data);
        close_codec(&p);
    }
}

/* What the formats allow: several members or frames in a row are one content; garbage is not. */
static void reads_members_in_a_row(void **state)
{
    (void)state;
    for (size_t i = 0; i + 1 < CODECS; i++) { /* all but snappy */
        packed p;
        open_codec(&p, names[i]);
        pack(&p, "hello ", 6);
        uint8_t row[512];
        memcpy(row, p.data, p.bytes);
        size_t bytes = p.bytes;
        pack(&p, "world", 5);
        memcpy(row + bytes, p.data, p.bytes);
        bytes += p.bytes;
        expect_content(&p, row, bytes, "hello world", 11, 11);
        expect_error(&p, row, bytes, 10, SALVO_ERR_TOO_LARGE);
        memcpy(row + bytes, "garbage", 7);
        expect_error(&p, row, bytes + 7, 100, SALVO_ERR_INVALID);
        close_codec(&p);
    }
}

/* Snappy has no tool of its own: its format by hand, a literal and a copy. */
static void reads_snappy_by_hand(void **state)
{
    (void)state;
    packed p;
    open_codec(&p, "snappy");
    expect_content(&p, "\x05\x10hello", 7, "hello", 5, 5);
    expect_content(&p, "\x0a\x04xy\x11\x02", 6, "xyxyxyxyxy", 10, 10);
    close_codec(&p);
}

/* --- other people's tools ---------------------------------------------------------------- */

/* `command <in`: the output, whole. */
static uint8_t *through(const char *command, const void *in, size_t in_bytes, size_t *out_bytes)
{
    char path[] = "/tmp/salvo-compress.XXXXXX", line[256];
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    FILE *file = fdopen(fd, "wb");
    assert_int_equal(fwrite(in, 1, in_bytes, file), in_bytes);
    assert_int_equal(fclose(file), 0);
    assert_true(snprintf(line, sizeof line, "cat %s | %s", path, command) < (int)sizeof line);
    FILE *pipe = popen(line, "r");
    assert_non_null(pipe);
    uint8_t *out = malloc(4 * MIB);
    assert_non_null(out);
    *out_bytes = fread(out, 1, 4 * MIB, pipe);
    int status = pclose(pipe);
    unlink(path);
    assert_int_equal(status, 0);
    return out;
}

static void agrees_with_the_tools(void **state)
{
    (void)state;
    static const struct {
        const char *codec, *there, *unpack, *pack;
    } tools[] = {
        {"gzip", "gzip -V >/dev/null 2>&1", "gzip -dc", "gzip -9c"},
        {"lz4", "lz4 -V >/dev/null 2>&1", "lz4 -dc", "lz4 -9 -BD -c"},
        {"zstd", "zstd -V >/dev/null 2>&1", "zstd -dc", "zstd -19 --long=27 -c"},
    };
    static const size_t sizes[] = {0, 1, 1000, 70000, 2 * MIB + 5};
    for (size_t i = 0; i < sizeof tools / sizeof *tools; i++) {
        if (system(tools[i].there) != 0) {
            print_message("%s is not installed: not compared\n", tools[i].codec);
            continue;
        }
        packed p;
        open_codec(&p, tools[i].codec);
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
            size_t bytes = sizes[s], theirs_bytes;
            uint8_t *data = content(bytes, true);
            pack(&p, data, bytes);
            uint8_t *theirs = through(tools[i].unpack, p.data, p.bytes, &theirs_bytes);
            assert_int_equal(theirs_bytes, bytes);
            assert_memory_equal(theirs, data, bytes);
            free(theirs);
            theirs = through(tools[i].pack, data, bytes, &theirs_bytes);
            expect_content(&p, theirs, theirs_bytes, data, bytes, bytes);
            if (bytes > 0)
                expect_error(&p, theirs, theirs_bytes, bytes - 1, SALVO_ERR_TOO_LARGE);
            free(theirs);
            free(data);
        }
        close_codec(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_found_by_name_and_encoding),
        cmocka_unit_test(gives_back_what_it_took),
        cmocka_unit_test(says_when_it_does_not_fit),
        cmocka_unit_test(stops_at_the_limit),
        cmocka_unit_test(does_not_believe_a_claim),
        cmocka_unit_test(tells_truncation),
        cmocka_unit_test(tells_damage),
        cmocka_unit_test(refuses_noise),
        cmocka_unit_test(reads_members_in_a_row),
        cmocka_unit_test(reads_snappy_by_hand),
        cmocka_unit_test(agrees_with_the_tools),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
