/* SPDX-License-Identifier: Apache-2.0
 *
 * The [messaging] table of a TOML text, one call per value: all that the project sees of toml++.
 */
#ifndef SALVO_CONFIG_TOML_H
#define SALVO_CONFIG_TOML_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SALVO_TOML_MALFORMED 1

typedef struct salvo_toml_value {
    const char *key; /* path below [messaging], joined by dots */
    size_t key_len;  /* more than strlen(key): it holds a zero byte */
    const char *text; /* lists of texts joined by commas; NULL: no text, number or boolean */
    size_t text_len;
    const char *type; /* for people: "a table", "an array", ... */
    unsigned line;
} salvo_toml_value;

typedef struct salvo_toml_error {
    unsigned line;
    char text[256];
} salvo_toml_error;

/* Calls visit for each value until it returns other than 0, and returns that. Strings are valid
 * during the call. 0: all was visited (also when there is no [messaging]). SALVO_TOML_MALFORMED:
 * *error tells where and why; nothing was visited. Keeps no state. */
int salvo_config_toml_read(const char *text, size_t size,
                           int (*visit)(const salvo_toml_value *value, void *context),
                           void *context, salvo_toml_error *error);

#ifdef __cplusplus
}
#endif
#endif
