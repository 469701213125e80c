/* SPDX-License-Identifier: Apache-2.0
 *
 * salvo_url_parse: each part, every refusal, and that no refusal shows a password.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "io/url.h"

#include <salvo/err.h>
#include <stdlib.h>
#include <string.h>

static salvo_url parsed(const char *text)
{
    char error[256] = "x";
    salvo_url url;
    if (salvo_url_parse(text, &url, error, sizeof error) != 0)
        fail_msg("%s: %s", text, error);
    assert_string_equal(error, "");
    return url;
}

static void takes_all_parts(void **state)
{
    (void)state;
    salvo_url u = parsed("AMQPS://us%65r:p%40%2f:w@Host-1.example_x:5671/%2Fv%20h?a=b&c=%2f/?");
    assert_string_equal(u.scheme, "amqps");
    assert_string_equal(u.user, "user");
    assert_string_equal(u.password, "p@/:w");
    assert_string_equal(u.host, "Host-1.example_x");
    assert_string_equal(u.port, "5671");
    assert_string_equal(u.path, "/v h");
    assert_string_equal(u.query, "a=b&c=%2f/?");
    assert_true(u.has_user && u.has_password && u.has_path);
}

static void absent_is_not_empty(void **state)
{
    (void)state;
    salvo_url u = parsed("redis://h");
    assert_string_equal(u.user, "");
    assert_string_equal(u.port, "");
    assert_false(u.has_user || u.has_password || u.has_path);
    u = parsed("redis://:secret@h/");
    assert_true(u.has_user && u.has_password && u.has_path);
    assert_string_equal(u.user, "");
    assert_string_equal(u.password, "secret");
    assert_string_equal(u.path, "");
    u = parsed("redis://user@h?x");
    assert_true(u.has_user);
    assert_false(u.has_password || u.has_path);
    assert_string_equal(u.query, "x");
}

static void takes_numbers_and_sockets(void **state)
{
    (void)state;
    salvo_url u = parsed("redis://[::1]:0080/0");
    assert_string_equal(u.host, "::1");
    assert_string_equal(u.port, "80");
    u = parsed("redis://[fe80::1.2.3.4]");
    assert_string_equal(u.host, "fe80::1.2.3.4");
    u = parsed("unix:///run/a%20b.sock?db=1");
    assert_string_equal(u.scheme, "unix");
    assert_string_equal(u.path, "/run/a b.sock");
    assert_string_equal(u.query, "db=1");
    assert_string_equal(u.host, "");
    u = parsed("redis://a:b@c@h"); /* a host has no '@', so the last one counts */
    assert_string_equal(u.password, "b@c");
    assert_string_equal(u.host, "h");
}

static void refuses(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"", "scheme://"}, {"redis", "scheme://"}, {"redis:/h", "scheme://"},
        {"1redis://h", "scheme://"}, {"://h", "scheme://"},
        {"averyveryverylongscheme://h", "scheme is longer"},
        {"redis://", "no host"}, {"redis:///0", "no host"}, {"redis://u:p@", "no host"},
        {"redis://h:", "1 to 65535"}, {"redis://h:0", "1 to 65535"},
        {"redis://h:65536", "1 to 65535"}, {"redis://h:123456", "1 to 65535"},
        {"redis://h:6x", "1 to 65535"}, {"redis://h:-1", "1 to 65535"},
        {"redis://::1", "no host"}, {"redis://[::1", "IPv6"}, {"redis://[::1]6", "host"},
        {"redis://[h]", "IPv6"}, {"redis://[]", "no host"}, {"redis://h%41", "host"},
        {"redis://h\xc3\xa9", "host"}, {"redis://h/%", "hex"}, {"redis://h/%4", "hex"},
        {"redis://h/%4g", "hex"}, {"redis://h/%00", "zero byte"},
        {"redis://u%zz@h", "in the user"}, {"redis://u:%zz@h", "in the password"},
        {"redis://h/a b", "blank"}, {"redis://h/a\n", "blank"}, {"redis://h/\x7f", "blank"},
        {"redis://h/#x", "'#'"}, {"redis://u:sec/ret@h", "%2F"}, {"redis://u:1/sec@h", "%2F"},
        {"redis://u:1?sec@h", "%3F"}, {"unix://h/p", "unix:///"}, {"unix://", "unix:///"},
        {"unix:///", "unix:///"}, {"unix:///?x", "unix:///"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char error[256] = "";
        salvo_url url, none = {.scheme = ""};
        if (salvo_url_parse(cases[i].text, &url, error, sizeof error) != SALVO_ERR_CONFIG)
            fail_msg("'%s' was taken", cases[i].text);
        if (strstr(error, cases[i].says) == NULL)
            fail_msg("'%s': '%s' does not say '%s'", cases[i].text, error, cases[i].says);
        assert_null(strstr(error, "sec"));
        assert_memory_equal(&url, &none, sizeof url);
    }
}

static void long_parts_are_refused_whole(void **state)
{
    (void)state;
    static const struct {
        const char *before, *after;
        size_t most;
    } parts[] = {{"r://", "@h", 255}, {"r://u:", "@h", 1023}, {"r://", "", 255},
                 {"r://h/", "", 1023}, {"r://h?", "", 511}, {"", "://h", 15}};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        for (size_t extra = 0; extra < 2; extra++) {
            char text[2048] = "", error[256];
            salvo_url url;
            size_t n = parts[i].most + extra;
            strcat(text, parts[i].before);
            memset(text + strlen(text), 'a', n);
            strcat(text, parts[i].after);
            assert_int_equal(salvo_url_parse(text, &url, error, sizeof error),
                             extra ? SALVO_ERR_CONFIG : 0);
        }
    char text[SALVO_URL_MAX + 2] = "r://h/", error[256];
    salvo_url url;
    memset(text + 6, 'a', sizeof text - 7);
    assert_int_equal(salvo_url_parse(text, &url, error, sizeof error), SALVO_ERR_CONFIG);
    assert_non_null(strstr(error, "2048"));
}

/* Any bytes at all: no part overruns, whatever is taken ends within its field. */
static void noise_does_no_harm(void **state)
{
    (void)state;
    static const char some[] = "ab:/@?[]%2fF#.-1 \n:///@@redisunix";
    unsigned seed = 1;
    for (int round = 0; round < 200000; round++) {
        char text[64] = "r://", error[8];
        salvo_url url;
        size_t n = (size_t)rand_r(&seed) % 40, from = (size_t)rand_r(&seed) % 5;
        for (size_t i = 0; i < n; i++)
            text[from + i] = some[(size_t)rand_r(&seed) % (sizeof some - 1)];
        text[from + n] = 0;
        if (salvo_url_parse(text, &url, error, sizeof error) == 0)
            assert_true(url.host[0] != 0 || strcmp(url.scheme, "unix") == 0);
        else
            assert_true(strlen(error) < sizeof error);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_all_parts),
        cmocka_unit_test(absent_is_not_empty),
        cmocka_unit_test(takes_numbers_and_sockets),
        cmocka_unit_test(refuses),
        cmocka_unit_test(long_parts_are_refused_whole),
        cmocka_unit_test(noise_does_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
