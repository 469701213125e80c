/* SPDX-License-Identifier: Apache-2.0
 *
 * url.h. Guarantees: every byte of the text is looked at and belongs to exactly one part; a part
 * that does not fit is an error, never shortened; no error quotes what could be a password, and
 * as a misplaced '/' or '@' can turn a password into anything, none quotes any part.
 */
#include "url.h"

#include <ctype.h>
#include <salvo/err.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

typedef struct piece { /* of the text; begin NULL: absent */
    const char *begin;
    size_t len;
} piece;

typedef struct context {
    char *error;
    size_t error_size;
} context;

static int __attribute__((format(printf, 2, 3))) refuse(const context *c, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    if (c->error_size > 0)
        vsnprintf(c->error, c->error_size, format, arguments);
    va_end(arguments);
    return SALVO_ERR_CONFIG;
}

static int hex(char digit)
{
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    int lower = digit | 0x20;
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

/* Percent-decode into out. */
static int decode(const context *c, piece from, char *out, size_t size, const char *what)
{
    size_t n = 0;
    for (size_t i = 0; i < from.len; i++) {
        char byte = from.begin[i];
        if (byte == '%') {
            bool whole = from.len - i > 2;
            int high = whole ? hex(from.begin[i + 1]) : -1;
            int low = whole ? hex(from.begin[i + 2]) : -1;
            if (high < 0 || low < 0)
                return refuse(c, "URL: '%%' in the %s must be followed by two hex digits; "
                                 "write a percent sign as %%25", what);
            byte = (char)(high * 16 + low);
            i += 2;
        }
        if (byte == 0)
            return refuse(c, "URL: the %s has a zero byte (%%00), which is not allowed", what);
        if (n + 1 >= size)
            return refuse(c, "URL: the %s is longer than %zu bytes", what, size - 1);
        out[n++] = byte;
    }
    out[n] = 0;
    return 0;
}

static int copy(const context *c, piece from, char *out, size_t size, const char *what)
{
    if (from.len >= size)
        return refuse(c, "URL: the %s is longer than %zu bytes", what, size - 1);
    memcpy(out, from.begin, from.len);
    out[from.len] = 0;
    return 0;
}

static int parse_scheme(const context *c, const char *text, salvo_url *url, const char **rest)
{
    size_t n = 0;
    while (isalnum((unsigned char)text[n]) || (n > 0 && text[n] != 0 && strchr("+-.", text[n])))
        n++;
    if (n == 0 || !isalpha((unsigned char)text[0]) || strncmp(text + n, "://", 3) != 0)
        return refuse(c, "URL: it does not begin with scheme://; allowed is "
                         "scheme://[user[:password]@]host[:port][/path][?query]");
    int err = copy(c, (piece){text, n}, url->scheme, sizeof url->scheme, "scheme");
    for (size_t i = 0; err == 0 && i < n; i++)
        url->scheme[i] = (char)tolower((unsigned char)url->scheme[i]);
    *rest = text + n + 3;
    return err;
}

static int parse_userinfo(const context *c, piece info, salvo_url *url)
{
    const char *colon = memchr(info.begin, ':', info.len);
    piece user = {info.begin, colon != NULL ? (size_t)(colon - info.begin) : info.len};
    url->has_user = 1;
    int err = decode(c, user, url->user, sizeof url->user, "user");
    if (err != 0 || colon == NULL)
        return err;
    url->has_password = 1;
    return decode(c, (piece){colon + 1, info.len - user.len - 1}, url->password,
                  sizeof url->password, "password");
}

static bool host_byte(char byte, bool bracketed)
{
    if (bracketed)
        return isxdigit((unsigned char)byte) || byte == ':' || byte == '.';
    return isalnum((unsigned char)byte) || byte == '-' || byte == '.' || byte == '_';
}

static int parse_port(const context *c, piece port, salvo_url *url)
{
    unsigned value = 0;
    bool good = port.len >= 1 && port.len <= 5;
    for (size_t i = 0; good && i < port.len; i++) {
        good = isdigit((unsigned char)port.begin[i]) != 0;
        value = value * 10 + (unsigned)(port.begin[i] - '0');
    }
    if (!good || value < 1 || value > 65535)
        return refuse(c, "URL: the port must be a number from 1 to 65535");
    snprintf(url->port, sizeof url->port, "%u", value);
    return 0;
}

static int parse_host(const context *c, piece text, salvo_url *url)
{
    bool bracketed = text.len > 0 && text.begin[0] == '[';
    const char *end = text.begin + text.len, *host = text.begin + bracketed, *stop = host;
    while (stop < end && host_byte(*stop, bracketed))
        stop++;
    piece name = {host, (size_t)(stop - host)};
    if (bracketed && (stop == end || *stop++ != ']'))
        return refuse(c, "URL: '[' must be followed by an IPv6 address and ']'");
    if (name.len == 0)
        return refuse(c, "URL: it names no host");
    if (stop < end && *stop != ':')
        return refuse(c, "URL: the host has a character other than letters, digits, '-', '.' and "
                         "'_'; write an IPv6 address in brackets, and '/', '?', '#' in a user or "
                         "password as %%2F, %%3F, %%23");
    int err = copy(c, name, url->host, sizeof url->host, "host");
    if (err == 0 && stop < end)
        err = parse_port(c, (piece){stop + 1, (size_t)(end - stop - 1)}, url);
    return err;
}

static int parse_authority(const context *c, piece authority, salvo_url *url)
{
    const char *at = NULL;
    for (size_t i = 0; i < authority.len; i++) /* the last: a host has none */
        at = authority.begin[i] == '@' ? authority.begin + i : at;
    if (at != NULL) {
        piece info = {authority.begin, (size_t)(at - authority.begin)};
        int err = parse_userinfo(c, info, url);
        if (err != 0)
            return err;
        authority.begin += info.len + 1;
        authority.len -= info.len + 1;
    }
    return parse_host(c, authority, url);
}

static int check_bytes(const context *c, const char *text)
{
    size_t n = strnlen(text, SALVO_URL_MAX + 1);
    if (n > SALVO_URL_MAX)
        return refuse(c, "URL: longer than %d bytes", SALVO_URL_MAX);
    for (size_t i = 0; i < n; i++) {
        if ((unsigned char)text[i] <= ' ' || text[i] == 0x7f)
            return refuse(c, "URL: a blank or control character at position %zu; write it in "
                             "percent form (a blank is %%20)", i + 1);
        if (text[i] == '#')
            return refuse(c, "URL: '#' at position %zu has no meaning here; write it as %%23",
                          i + 1);
    }
    return 0;
}

static int parse(const context *c, const char *text, salvo_url *url)
{
    const char *rest = NULL;
    int err = check_bytes(c, text);
    if (err == 0)
        err = parse_scheme(c, text, url, &rest);
    if (err != 0)
        return err;
    bool is_unix = strcmp(url->scheme, "unix") == 0;
    piece authority = {rest, strcspn(rest, "/?")};
    const char *path = rest + authority.len;
    if (is_unix && (authority.len != 0 || *path != '/' || path[1] == 0 || path[1] == '?'))
        return refuse(c, "URL: the path of a socket is written unix:///path/to/socket");
    if (!is_unix && strchr(path, '@') != NULL &&
        memchr(authority.begin, '@', authority.len) == NULL)
        return refuse(c, "URL: an '@' after a '/' or '?': in user and password write '/' as %%2F "
                         "and '?' as %%3F, elsewhere '@' as %%40");
    if (!is_unix)
        err = parse_authority(c, authority, url);
    if (err != 0)
        return err;
    size_t path_len = strcspn(path, "?");
    if (path_len > 0) {
        size_t skip = is_unix ? 0 : 1;
        url->has_path = 1;
        err = decode(c, (piece){path + skip, path_len - skip}, url->path, sizeof url->path,
                     "path");
    }
    path += path_len;
    if (err == 0 && *path == '?')
        err = copy(c, (piece){path + 1, strlen(path + 1)}, url->query, sizeof url->query,
                   "query");
    return err;
}

int salvo_url_parse(const char *text, salvo_url *url, char *error, size_t error_size)
{
    const context c = {error, error_size};
    if (error_size > 0)
        error[0] = 0;
    memset(url, 0, sizeof *url);
    int err = parse(&c, text, url);
    if (err != 0)
        memset(url, 0, sizeof *url); /* half an address, or a password, is of no use to anybody */
    return err;
}
