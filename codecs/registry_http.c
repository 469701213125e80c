/* SPDX-License-Identifier: Apache-2.0
 *
 * Requests to a Schema Registry by libcurl. Guarantees: http and https only, no redirects, bounded
 * in time and in size; user and password never stand in a text. Not for two threads at one time.
 */
#include "registry.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ANSWER_BYTES_MAX = 16 << 20, TIMEOUT_MS = 10000, SHOWN_BYTES = 160 };

typedef struct address {
    char *url; /* without user, password and a slash at the end */
    char *user, *password;
} address;

struct salvo_http {
    CURL *curl;
    struct curl_slist *headers;
    address addresses[SALVO_REGISTRY_ADDRESSES_MAX];
    size_t count, first; /* first: who answered last */
    char *user, *password, *ca_file, *cert_file, *key_file;
    long timeout_ms;
};

typedef struct body {
    char *data;
    size_t len;
} body;

static int fail(salvo_schema_fault *fault, int err, const char *what, const char *why)
{
    if (fault != NULL)
        snprintf(fault->text, sizeof fault->text, "%s%s", what, why);
    return err;
}

static void start_curl(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

/* A part of an address, in the C library's memory. */
static char *part_of(CURLU *url, CURLUPart part, unsigned flags)
{
    char *text = NULL, *copy = NULL;
    if (curl_url_get(url, part, &text, flags) == CURLUE_OK && text != NULL)
        copy = strdup(text);
    curl_free(text);
    return copy;
}

static int parse_address(CURLU *url, const char *text, address *to, salvo_schema_fault *fault)
{
    static const char allowed[] = "each address of the Schema Registry is http://HOST:PORT or "
                                  "https://HOST:PORT, several are separated by commas";
    if (curl_url_set(url, CURLUPART_URL, text, 0) != CURLUE_OK)
        return fail(fault, SALVO_ERR_INVALID, allowed, "");
    char *scheme = part_of(url, CURLUPART_SCHEME, 0);
    bool known = scheme != NULL && (strcmp(scheme, "http") == 0 || strcmp(scheme, "https") == 0);
    free(scheme);
    if (!known)
        return fail(fault, SALVO_ERR_INVALID, allowed, "");
    to->user = part_of(url, CURLUPART_USER, CURLU_URLDECODE);
    to->password = part_of(url, CURLUPART_PASSWORD, CURLU_URLDECODE);
    static const CURLUPart dropped[] = {CURLUPART_USER, CURLUPART_PASSWORD, CURLUPART_QUERY,
                                        CURLUPART_FRAGMENT};
    for (size_t i = 0; i < sizeof dropped / sizeof *dropped; i++)
        (void)curl_url_set(url, dropped[i], NULL, 0);
    to->url = part_of(url, CURLUPART_URL, 0);
    if (to->url == NULL)
        return SALVO_ERR_NOMEM;
    for (size_t len = strlen(to->url); len != 0 && to->url[len - 1] == '/'; len--)
        to->url[len - 1] = '\0';
    return 0;
}

static int parse_addresses(salvo_http *http, const char *urls, salvo_schema_fault *fault)
{
    char *copy = strdup(urls), *rest = NULL;
    int err = copy != NULL ? 0 : SALVO_ERR_NOMEM;
    for (char *text = copy != NULL ? strtok_r(copy, ", \t", &rest) : NULL;
         text != NULL && err == 0; text = strtok_r(NULL, ", \t", &rest)) {
        CURLU *url = curl_url();
        if (http->count == SALVO_REGISTRY_ADDRESSES_MAX)
            err = fail(fault, SALVO_ERR_INVALID, "more than 16 addresses of a Schema Registry", "");
        else
            err = url != NULL ? parse_address(url, text, &http->addresses[http->count++], fault)
                              : SALVO_ERR_NOMEM;
        curl_url_cleanup(url);
    }
    free(copy);
    if (err == 0 && http->count == 0)
        err = fail(fault, SALVO_ERR_INVALID, "Schema Registry not configured: set "
                   "kafka_schema_registry_url, e.g. http://localhost:8081", "");
    return err;
}

static bool copy_to(char **to, const char *text)
{
    *to = text != NULL && *text != '\0' ? strdup(text) : NULL;
    return *to != NULL || text == NULL || *text == '\0';
}

int salvo_http_open(const salvo_registry_options *o, salvo_http **out, salvo_schema_fault *fault)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, start_curl);
    *out = NULL;
    salvo_http *http = calloc(1, sizeof *http);
    if (http == NULL)
        return SALVO_ERR_NOMEM;
    http->timeout_ms = o->timeout_ms != 0 ? (long)o->timeout_ms : TIMEOUT_MS;
    int err = parse_addresses(http, o->url != NULL ? o->url : "", fault);
    if (err == 0) {
        http->curl = curl_easy_init();
        http->headers = curl_slist_append(NULL, "Content-Type: "
                                                "application/vnd.schemaregistry.v1+json");
        bool copied = copy_to(&http->user, o->user) && copy_to(&http->password, o->password) &&
                      copy_to(&http->ca_file, o->ca_file) &&
                      copy_to(&http->cert_file, o->cert_file) &&
                      copy_to(&http->key_file, o->key_file);
        if (http->curl == NULL || http->headers == NULL || !copied)
            err = SALVO_ERR_NOMEM;
    }
    if (err != 0)
        salvo_http_close(http);
    else
        *out = http;
    return err;
}

static void free_secret(char *text)
{
    if (text != NULL)
        explicit_bzero(text, strlen(text));
    free(text);
}

void salvo_http_close(salvo_http *http)
{
    if (http == NULL)
        return;
    curl_easy_cleanup(http->curl);
    curl_slist_free_all(http->headers);
    for (size_t i = 0; i < http->count; i++) {
        free(http->addresses[i].url);
        free(http->addresses[i].user);
        free_secret(http->addresses[i].password);
    }
    free(http->user);
    free_secret(http->password);
    free(http->ca_file);
    free(http->cert_file);
    free(http->key_file);
    free(http);
}

static size_t take(char *data, size_t size, size_t count, void *context)
{
    body *to = context;
    size_t len = size * count;
    if (len > ANSWER_BYTES_MAX - to->len)
        return 0;
    char *moved = realloc(to->data, to->len + len + 1);
    if (moved == NULL)
        return 0;
    memcpy(moved + to->len, data, len);
    to->data = moved;
    to->len += len;
    return len;
}

static void prepare(salvo_http *http, const address *to, const char *url, const char *sent,
                    body *answer)
{
    CURL *curl = http->curl;
    const char *user = http->user != NULL ? http->user : to->user;
    const char *password = http->user != NULL ? http->password : to->password;
    curl_easy_reset(curl); /* connections stay */
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, http->timeout_ms);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, http->headers);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "salvo");
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, answer);
    if (sent != NULL)
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, sent);
    if (user != NULL) {
        curl_easy_setopt(curl, CURLOPT_HTTPAUTH, (long)CURLAUTH_BASIC);
        curl_easy_setopt(curl, CURLOPT_USERNAME, user);
        curl_easy_setopt(curl, CURLOPT_PASSWORD, password != NULL ? password : "");
    }
    if (http->ca_file != NULL)
        curl_easy_setopt(curl, CURLOPT_CAINFO, http->ca_file);
    if (http->cert_file != NULL)
        curl_easy_setopt(curl, CURLOPT_SSLCERT, http->cert_file);
    if (http->key_file != NULL)
        curl_easy_setopt(curl, CURLOPT_SSLKEY, http->key_file);
}

/* "; ADDRESS: why" behind what other addresses failed of. */
static void note(salvo_schema_fault *fault, const char *url, const char *why)
{
    if (fault == NULL)
        return;
    size_t used = strlen(fault->text), room = sizeof fault->text - used;
    snprintf(fault->text + used, room, "%s%.*s: %.*s", used != 0 ? "; " : "", SHOWN_BYTES, url,
             SHOWN_BYTES, why);
}

/* One address; false, with a note, where it did not answer or is in trouble. */
static bool ask_one(salvo_http *http, const address *to, const char *path, const char *sent,
                    salvo_http_answer *answer, salvo_schema_fault *fault)
{
    char *url = NULL, words[48];
    body got = {NULL, 0};
    if (asprintf(&url, "%s%s", to->url, path) < 0)
        return false;
    prepare(http, to, url, sent, &got);
    CURLcode code = curl_easy_perform(http->curl);
    free(url);
    answer->status = 0;
    if (code == CURLE_OK)
        curl_easy_getinfo(http->curl, CURLINFO_RESPONSE_CODE, &answer->status);
    bool good = code == CURLE_OK && answer->status < 500;
    if (good) {
        answer->json = got.data != NULL ? json_loadb(got.data, got.len, JSON_DECODE_ANY, NULL)
                                        : NULL;
    } else {
        snprintf(words, sizeof words, "status %ld", answer->status);
        note(fault, to->url, code != CURLE_OK ? curl_easy_strerror(code) : words);
    }
    free(got.data);
    return good;
}

int salvo_http_ask(salvo_http *http, const char *path, const json_t *sent,
                   salvo_http_answer *answer, salvo_schema_fault *fault)
{
    salvo_schema_fault notes = {""};
    *answer = (salvo_http_answer){0, NULL};
    char *text = sent != NULL ? json_dumps(sent, JSON_COMPACT) : NULL;
    if (sent != NULL && text == NULL)
        return SALVO_ERR_NOMEM;
    for (size_t i = 0; i < http->count; i++) {
        size_t at = (http->first + i) % http->count;
        if (!ask_one(http, &http->addresses[at], path, text, answer, &notes))
            continue;
        http->first = at;
        free(text);
        return 0;
    }
    free(text);
    return fail(fault, SALVO_ERR_UNREACHABLE, "no Schema Registry answered: ", notes.text);
}

char *salvo_http_escape(salvo_http *http, const char *text)
{
    char *escaped = curl_easy_escape(http->curl, text, 0);
    char *copy = escaped != NULL ? strdup(escaped) : NULL;
    curl_free(escaped);
    return copy;
}
