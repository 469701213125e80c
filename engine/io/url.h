/* SPDX-License-Identifier: Apache-2.0
 *
 * The address of a broker: scheme://[user[:password]@]host[:port][/path][?query], and
 * unix:///path/to/socket. User, password and path are percent-decoded; an IPv6 host stands in
 * brackets. Guarantees: the whole text is checked, nothing is cut off silently, and the error
 * never shows the password.
 */
#ifndef SALVO_URL_H
#define SALVO_URL_H

#include <stddef.h>

enum { SALVO_URL_MAX = 2048 };

typedef struct salvo_url { /* "" where absent; has_* tells an empty one from none */
    char scheme[16];
    char user[256], password[1024];
    char host[256], port[8];
    char path[1024]; /* without the first slash; of unix: with it */
    char query[512];
    unsigned has_user : 1, has_password : 1, has_path : 1;
} salvo_url;

/* 0, or SALVO_ERR_CONFIG with *error: what is wrong with it, and what is allowed. */
int salvo_url_parse(const char *text, salvo_url *url, char *error, size_t error_size);

#endif
