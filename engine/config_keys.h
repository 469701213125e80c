/* SPDX-License-Identifier: Apache-2.0
 *
 * The one table of configuration keys, and what can be told from a key alone: its nearest name,
 * whether a text is a value of it, and what of a value may be shown. Pure functions: nothing
 * here allocates, keeps state or blocks.
 */
#ifndef SALVO_CONFIG_KEYS_H
#define SALVO_CONFIG_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum salvo_key_type {
    SALVO_KEY_STRING,
    SALVO_KEY_INT,
    SALVO_KEY_BOOL,
    SALVO_KEY_ENUM,
    SALVO_KEY_SIZE /* bytes; takes suffixes */
} salvo_key_type;

#define SALVO_KEY_SECRET (1u << 0)   /* never shown */
#define SALVO_KEY_URL (1u << 1)      /* shown without the credentials in it */
#define SALVO_KEY_POWER_OF_2 (1u << 2)
#define SALVO_KEY_OR_ZERO (1u << 3)  /* 0 is allowed beside min..max */
#define SALVO_KEY_NO_ENV (1u << 4)   /* too common a name to be taken from the environment */

#define SALVO_RDKAFKA_PREFIX "rdkafka."
#define SALVO_KEY_VALUE_MAX 4096u        /* bytes of a value, with its end */
#define SALVO_RDKAFKA_VALUE_MAX 65536u   /* these may hold whole certificates */
#define SALVO_KEY_NAME_MAX 128u

typedef struct salvo_key {
    const char *name;
    salvo_key_type type;
    const char *unit;
    const char *initial; /* default as text; "" for none. A key with a default cannot be emptied */
    int64_t min, max;    /* int and size */
    const char *choices; /* enum: "a|b|c"; else NULL */
    unsigned flags;
    const char *help;
} salvo_key;

extern const salvo_key salvo_keys[];
extern const size_t salvo_key_count;

/* Index of a key or of its alias, or -1. */
int salvo_key_find(const char *name);

/* The table's name that is closest to an unknown one, or NULL when none is close. */
const char *salvo_key_nearest(const char *name);

/* Check `text` and write its canonical form (size >= SALVO_KEY_VALUE_MAX) and its number (enum:
 * index of the choice or -1, bool: 0 or 1, string: 0). An empty text is a value of keys that
 * have no default. False: not a value of this key. */
bool salvo_key_parse(const salvo_key *key, const char *text, char *canonical, int64_t *number);

/* What is allowed, for people. */
void salvo_key_allowed(const salvo_key *key, char *text, size_t size);
const char *salvo_key_type_name(salvo_key_type type);

/* True when a name sounds like a secret: rdkafka.* properties and unknown keys. */
bool salvo_name_is_secret(const char *name);

/* Write `value` of `name` (key may be NULL) as it may be shown: on one line, "****" for a
 * secret, credentials inside URLs masked, cut off with "..." where the room ends. */
void salvo_mask(const salvo_key *key, const char *name, const char *value, char *shown,
                size_t size);

#endif
