/* SPDX-License-Identifier: Apache-2.0
 *
 * How a configuration is kept; for config*.c alone.
 *
 * Each key has one stored value, that of the highest layer that set it, so the order in which
 * layers are read does not matter. From the stored values salvo_config_refresh() derives the
 * effective ones (defaults, keys that follow others, the choice of the broker): it runs after
 * each change, cannot fail, and everything that reads a configuration reads its result.
 */
#ifndef SALVO_CONFIG_STORE_H
#define SALVO_CONFIG_STORE_H

#include "config_internal.h"
#include "config_keys.h"

typedef enum salvo_layer {
    SALVO_LAYER_DEFAULT,
    SALVO_LAYER_FILE,
    SALVO_LAYER_ENV,
    SALVO_LAYER_CODE
} salvo_layer;

/* One allocation holds the three texts. */
typedef struct salvo_stored {
    char *text; /* NULL: nothing was set */
    const char *shown, *source;
    int64_t number;
    salvo_layer layer;
} salvo_stored;

typedef struct salvo_effective {
    const char *text, *shown, *source;
    int64_t number;
    salvo_layer layer;
    char derived[24]; /* what `text` points to where the value follows another's */
} salvo_effective;

typedef struct salvo_property { /* of librdkafka */
    char *name;                 /* with its prefix */
    salvo_stored value;
} salvo_property;

struct salvo_config {
    salvo_stored *stored;       /* by index in salvo_keys */
    salvo_effective *effective; /* likewise */
    salvo_property *properties;
    size_t property_count, property_room;
    const char *broker; /* NULL: ambiguous */
    char why[256];
    char error[768];
};

void salvo_config_refresh(salvo_config *config);

/* Like salvo_config_set_from, for any layer. On error the configuration is unchanged but for its
 * error text. */
int salvo_config_put(salvo_config *config, salvo_layer layer, const char *key, const char *value,
                     const char *source);

/* Set the error text and return SALVO_ERR_CONFIG. */
int salvo_config_fail(salvo_config *config, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Put the contents of `from` into `config` and free the rest of it. */
void salvo_config_adopt(salvo_config *config, salvo_config *from);

#endif
