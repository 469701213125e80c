/* SPDX-License-Identifier: Apache-2.0
 *
 * Addresses of brokers: arbitrary text. Whatever it is: parts end inside their fields, a refusal
 * has a text of one line and leaves no part behind, and what was taken can be written down and
 * read again as the same.
 */
#include "fuzz.h"
#include "url.h"

enum { TEXT_MAX = 3 * SALVO_URL_MAX + 64 }; /* written down, each byte may become three */

static size_t write_part(char *text, size_t at, const char *before, const char *part)
{
    at += (size_t)snprintf(text + at, TEXT_MAX - at, "%s", before);
    for (; *part; part++)
        at += (size_t)snprintf(text + at, TEXT_MAX - at, "%%%02x", (unsigned char)*part);
    return at;
}

/* Every byte of user, password and path in percent form. */
static void write_down(const salvo_url *u, char *text)
{
    int bracketed = strchr(u->host, ':') != NULL, is_unix = strcmp(u->scheme, "unix") == 0;
    size_t at = (size_t)snprintf(text, TEXT_MAX, "%s://", u->scheme);
    if (u->has_user)
        at = write_part(text, at, "", u->user);
    if (u->has_password)
        at = write_part(text, at, ":", u->password);
    if (u->has_user)
        at += (size_t)snprintf(text + at, TEXT_MAX - at, "@");
    at += (size_t)snprintf(text + at, TEXT_MAX - at, bracketed ? "[%s]" : "%s", u->host);
    if (u->port[0])
        at += (size_t)snprintf(text + at, TEXT_MAX - at, ":%s", u->port);
    if (u->has_path)
        at = write_part(text, at, "/", is_unix ? u->path + 1 : u->path);
    if (u->query[0])
        snprintf(text + at, TEXT_MAX - at, "?%s", u->query);
}

static void check_refusal(const salvo_url *u, const char *error)
{
    static const salvo_url none;
    fuzz_check(memcmp(u, &none, sizeof none) == 0, "a refusal leaves nothing behind");
    fuzz_check(*error && !strchr(error, '\n') && strlen(error) < 255, "one line says why");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char again[TEXT_MAX];
    salvo_url first, second;
    char error[256], *text = malloc(size + 1);
    if (!text)
        return 0;
    memcpy(text, data, size);
    text[size] = 0;
    int err = salvo_url_parse(text, &first, error, sizeof error);
    fuzz_check(salvo_url_parse(text, &second, NULL, 0) == err, "room for an error changes nothing");
    if (err != 0) {
        check_refusal(&first, error);
    } else {
        write_down(&first, again);
        if (strlen(again) <= SALVO_URL_MAX) {
            fuzz_check(salvo_url_parse(again, &second, error, sizeof error) == 0, again);
            fuzz_check(memcmp(&first, &second, sizeof first) == 0, "written and read again: same");
        }
    }
    free(text);
    return 0;
}
