/* SPDX-License-Identifier: Apache-2.0
 *
 * Configuration: layers, later wins: defaults, a TOML file's [messaging] table, the environment
 * (key in upper case), code. One table lists every key (salvo_config_each, docs/configuration.md).
 * A salvo_config is not thread-safe; salvo_open() copies what it needs.
 */
#ifndef SALVO_CONFIG_H
#define SALVO_CONFIG_H

#include <salvo/err.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct salvo_config salvo_config;

/* One effective value. Strings live until the next change of the configuration. */
typedef struct salvo_config_entry {
    const char *key;
    const char *value;         /* effective, as text; "****" for a secret that is set */
    const char *default_value; /* as text; "" for none */
    const char *type;          /* "string", "int", "bool", "enum", "size" */
    const char *unit;          /* "ms", "bytes", ... or "" */
    const char *allowed;       /* range or choices, for people */
    const char *source;        /* "default", "core.toml:12", "environment", "code" ... */
    const char *help;          /* one line */
} salvo_config_entry;

/* A configuration with the defaults. Caller frees with salvo_config_free(). */
SALVO_API SALVO_MUST_USE int salvo_config_new(salvo_config **out);
SALVO_API void salvo_config_free(salvo_config *config);

/* Read a TOML file. path NULL: ./core.toml if it exists, else nothing happens. An unknown key, a
 * bad value or malformed TOML is SALVO_ERR_CONFIG; salvo_config_error() names file and line. */
SALVO_API SALVO_MUST_USE int salvo_config_load_file(salvo_config *config, const char *path);

/* Take known keys (in upper case) from the environment; unknown names are ignored. */
SALVO_API SALVO_MUST_USE int salvo_config_load_env(salvo_config *config);

/* Set a value from code. "rdkafka.<property>" passes through to librdkafka. */
SALVO_API SALVO_MUST_USE int salvo_config_set(salvo_config *config, const char *key,
                                              const char *value);

/* As salvo_config_set, with the name of the source that errors and listings show (copied). */
SALVO_API SALVO_MUST_USE int salvo_config_set_from(salvo_config *config, const char *key,
                                                   const char *value, const char *source);

/* The text of the last error: key, value, source, what is allowed, nearest name. */
SALVO_API const char *salvo_config_error(const salvo_config *config);

/* Effective value of one key as text, or NULL if unknown or unset. Secrets are NOT masked. */
SALVO_API const char *salvo_config_get(const salvo_config *config, const char *key);

/* Calls visit once per key in the table's order, then per rdkafka.* property; stops and returns
 * the visitor's value when it is not 0. Secrets are masked. */
SALVO_API int salvo_config_each(const salvo_config *config,
                                int (*visit)(const salvo_config_entry *entry, void *context),
                                void *context);

#ifdef __cplusplus
}
#endif
#endif
