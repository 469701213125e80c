/* SPDX-License-Identifier: Apache-2.0
 *
 * The HTTP below the registry's client: one request after the other, to one address of several.
 */
#ifndef SALVO_REGISTRY_H
#define SALVO_REGISTRY_H

#include <jansson.h>
#include <salvo/schema.h>

enum { SALVO_REGISTRY_ADDRESSES_MAX = 16 };

typedef struct salvo_http salvo_http;

/* What came back: the status of HTTP, and the body where it is JSON. */
typedef struct salvo_http_answer {
    long status;
    json_t *json; /* NULL: it is none */
} salvo_http_answer;

int salvo_http_open(const salvo_registry_options *options, salvo_http **http,
                    salvo_schema_fault *fault);
void salvo_http_close(salvo_http *http);

/* GET, or POST where there is a body. Each address is tried, the one that answered last comes
 * first. 0: there is an answer below 500, whose json the caller frees. */
int salvo_http_ask(salvo_http *http, const char *path, const json_t *body,
                   salvo_http_answer *answer, salvo_schema_fault *fault);

/* A part of a path, escaped; the caller frees it with free(). NULL without memory. */
char *salvo_http_escape(salvo_http *http, const char *text);

#endif
