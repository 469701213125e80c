/* SPDX-License-Identifier: Apache-2.0
 *
 * A configuration: setting, reading and copying it. Guarantees: a value is checked before it is
 * stored; a lower layer never overrides a higher one, whichever came first; an error, that of a
 * failed allocation included, leaves all values as they were; no error text shows a secret.
 * Files are read in config_file.c; what follows from several keys together is in config_check.c.
 */
#include "config_store.h"

#include <assert.h>
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHOWN_MAX 512u      /* a value as listings show it */
#define QUOTED_MAX 96u      /* a value as errors quote it */
#define PROPERTIES_MAX 512u /* librdkafka itself has under 200 */

int salvo_config_fail(salvo_config *config, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(config->error, sizeof config->error, format, arguments);
    va_end(arguments);
    return SALVO_ERR_CONFIG;
}

static int fail_memory(salvo_config *config)
{
    (void)salvo_config_fail(config, "out of memory; the configuration is unchanged");
    return SALVO_ERR_NOMEM;
}

int salvo_config_new(salvo_config **out)
{
    if (out == NULL)
        return SALVO_ERR_INVALID;
    *out = NULL;
    salvo_config *config = calloc(1, sizeof *config);
    if (config == NULL)
        return SALVO_ERR_NOMEM;
    config->stored = calloc(salvo_key_count, sizeof *config->stored);
    config->effective = calloc(salvo_key_count, sizeof *config->effective);
    if (config->stored == NULL || config->effective == NULL) {
        salvo_config_free(config);
        return SALVO_ERR_NOMEM;
    }
    salvo_config_refresh(config);
    *out = config;
    return SALVO_OK;
}

static void wipe_and_free(char *text)
{
    if (text != NULL)
        explicit_bzero(text, strlen(text)); /* it may be a password */
    free(text);
}

static void free_contents(salvo_config *config)
{
    for (size_t i = 0; config->stored != NULL && i < salvo_key_count; i++)
        wipe_and_free(config->stored[i].text);
    for (size_t i = 0; i < config->property_count; i++) {
        wipe_and_free(config->properties[i].value.text);
        free(config->properties[i].name);
    }
    free(config->stored);
    free(config->effective);
    free(config->properties);
}

void salvo_config_free(salvo_config *config)
{
    if (config == NULL)
        return;
    free_contents(config);
    free(config);
}

void salvo_config_adopt(salvo_config *config, salvo_config *from)
{
    free_contents(config);
    *config = *from;
    free(from);
    salvo_config_refresh(config); /* `why` moved with the struct */
}

/* Fill *stored with copies. False: out of memory. */
static bool store(salvo_stored *stored, salvo_layer layer, const char *text, const char *shown,
                  const char *source, int64_t number)
{
    size_t text_size = strlen(text) + 1, shown_size = strlen(shown) + 1;
    char *block = malloc(text_size + shown_size + strlen(source) + 1);
    if (block == NULL)
        return false;
    memcpy(block, text, text_size);
    memcpy(block + text_size, shown, shown_size);
    strcpy(block + text_size + shown_size, source);
    *stored = (salvo_stored){.text = block,
                             .shown = block + text_size,
                             .source = block + text_size + shown_size,
                             .number = number,
                             .layer = layer};
    return true;
}

static int put_key(salvo_config *config, salvo_layer layer, int index, const char *value,
                   const char *source)
{
    const salvo_key *key = &salvo_keys[index];
    salvo_stored *stored = &config->stored[index];
    char canonical[SALVO_KEY_VALUE_MAX], shown[SHOWN_MAX], allowed[256];
    int64_t number;
    if (!salvo_key_parse(key, value, canonical, &number)) {
        salvo_mask(key, key->name, value, shown, QUOTED_MAX);
        salvo_key_allowed(key, allowed, sizeof allowed);
        return salvo_config_fail(config, "%s = \"%s\" (%s): not allowed; allowed: %s", key->name,
                                 shown, source, allowed);
    }
    if (stored->text != NULL && stored->layer > layer)
        return SALVO_OK;
    salvo_mask(key, key->name, canonical, shown, sizeof shown);
    salvo_stored fresh;
    bool stored_ok = store(&fresh, layer, canonical, shown, source, number);
    explicit_bzero(canonical, sizeof canonical);
    if (!stored_ok)
        return fail_memory(config);
    wipe_and_free(stored->text);
    *stored = fresh;
    return SALVO_OK;
}

static salvo_property *find_property(const salvo_config *config, const char *name)
{
    for (size_t i = 0; i < config->property_count; i++)
        if (strcmp(config->properties[i].name, name) == 0)
            return &config->properties[i];
    return NULL;
}

static bool is_property_name(const char *name)
{
    const char *rest = name + strlen(SALVO_RDKAFKA_PREFIX);
    for (const char *at = rest; *at != '\0'; at++)
        if (!isalnum((unsigned char)*at) && strchr("._-", *at) == NULL)
            return false;
    return *rest != '\0' && strlen(name) < SALVO_KEY_NAME_MAX;
}

static bool append_property(salvo_config *config, const char *name, const salvo_stored *value)
{
    if (config->property_count == config->property_room) {
        size_t room = config->property_room == 0 ? 8 : config->property_room * 2;
        salvo_property *more = realloc(config->properties, room * sizeof *more);
        if (more == NULL)
            return false;
        config->properties = more;
        config->property_room = room;
    }
    char *copy = strdup(name);
    if (copy == NULL)
        return false;
    config->properties[config->property_count++] = (salvo_property){copy, *value};
    return true;
}

static int put_property(salvo_config *config, salvo_layer layer, const char *name,
                        const char *value, const char *source)
{
    char quoted[QUOTED_MAX], shown[SHOWN_MAX];
    salvo_property *property = find_property(config, name);
    if (!is_property_name(name)) {
        salvo_mask(NULL, "", name, quoted, sizeof quoted);
        return salvo_config_fail(config, "%s (%s): no property name; allowed: rdkafka.<property> "
                                 "of letters, digits and ._-, under %u bytes",
                                 quoted, source, SALVO_KEY_NAME_MAX);
    }
    if (strlen(value) >= SALVO_RDKAFKA_VALUE_MAX)
        return salvo_config_fail(config, "%s (%s): value too long; allowed: under %u bytes", name,
                                 source, SALVO_RDKAFKA_VALUE_MAX);
    if (property == NULL && config->property_count == PROPERTIES_MAX)
        return salvo_config_fail(config, "%s (%s): too many properties; allowed: %u", name,
                                 source, PROPERTIES_MAX);
    if (property != NULL && property->value.layer > layer)
        return SALVO_OK;
    salvo_stored fresh;
    salvo_mask(NULL, name, value, shown, sizeof shown);
    if (!store(&fresh, layer, value, shown, source, 0))
        return fail_memory(config);
    if (property != NULL) {
        wipe_and_free(property->value.text);
        property->value = fresh;
    } else if (!append_property(config, name, &fresh)) {
        wipe_and_free(fresh.text);
        return fail_memory(config);
    }
    return SALVO_OK;
}

static int fail_unknown(salvo_config *config, const char *key, const char *value,
                        const char *source)
{
    char name[QUOTED_MAX], shown[QUOTED_MAX];
    const char *nearest = salvo_key_nearest(key);
    salvo_mask(NULL, "", key, name, sizeof name);
    salvo_mask(NULL, key, value, shown, sizeof shown);
    if (strchr(key, '.') != NULL)
        return salvo_config_fail(config, "%s = \"%s\" (%s): unknown key; properties of librdkafka "
                                 "are written rdkafka.%s", name, shown, source, name);
    return salvo_config_fail(config, "%s = \"%s\" (%s): unknown key; %s%s%s", name, shown, source,
                             nearest != NULL ? "nearest: " : "",
                             nearest != NULL ? nearest : "salvo config lists the known ones",
                             nearest != NULL ? "; salvo config lists all" : "");
}

int salvo_config_put(salvo_config *config, salvo_layer layer, const char *key, const char *value,
                     const char *source)
{
    int index = salvo_key_find(key);
    if (index >= 0)
        return put_key(config, layer, index, value, source);
    if (strncmp(key, SALVO_RDKAFKA_PREFIX, strlen(SALVO_RDKAFKA_PREFIX)) == 0)
        return put_property(config, layer, key, value, source);
    return fail_unknown(config, key, value, source);
}

int salvo_config_set_from(salvo_config *config, const char *key, const char *value,
                          const char *source)
{
    if (config == NULL)
        return SALVO_ERR_INVALID;
    if (key == NULL || value == NULL) {
        (void)salvo_config_fail(config, "%s: a null %s cannot be set", key == NULL ? "" : key,
                                key == NULL ? "key" : "value");
        return SALVO_ERR_INVALID;
    }
    int err = salvo_config_put(config, SALVO_LAYER_CODE, key, value,
                               source != NULL ? source : "code");
    salvo_config_refresh(config);
    return err;
}

int salvo_config_set(salvo_config *config, const char *key, const char *value)
{
    return salvo_config_set_from(config, key, value, "code");
}

static int copy_contents(salvo_config *copy, const salvo_config *config)
{
    for (size_t i = 0; i < salvo_key_count; i++) {
        const salvo_stored *from = &config->stored[i];
        if (from->text != NULL && !store(&copy->stored[i], from->layer, from->text, from->shown,
                                         from->source, from->number))
            return SALVO_ERR_NOMEM;
    }
    for (size_t i = 0; i < config->property_count; i++) {
        const salvo_property *from = &config->properties[i];
        int err = put_property(copy, from->value.layer, from->name, from->value.text,
                               from->value.source);
        if (err != SALVO_OK)
            return err;
    }
    return SALVO_OK;
}

int salvo_config_clone(const salvo_config *config, salvo_config **out)
{
    if (config == NULL || out == NULL)
        return SALVO_ERR_INVALID;
    int err = salvo_config_new(out);
    if (err != SALVO_OK)
        return err;
    err = copy_contents(*out, config);
    if (err != SALVO_OK) {
        salvo_config_free(*out);
        *out = NULL;
        return err;
    }
    memcpy((*out)->error, config->error, sizeof config->error);
    salvo_config_refresh(*out);
    return SALVO_OK;
}

const char *salvo_config_error(const salvo_config *config)
{
    return config != NULL ? config->error : "";
}

const char *salvo_config_get(const salvo_config *config, const char *key)
{
    if (config == NULL || key == NULL)
        return NULL;
    int index = salvo_key_find(key);
    if (index >= 0) {
        const char *text = config->effective[index].text;
        return *text != '\0' ? text : NULL;
    }
    const salvo_property *property = find_property(config, key);
    return property != NULL ? property->value.text : NULL;
}

/* A key that the engine's own code asks for: absence is a bug. */
static const salvo_effective *known(const salvo_config *config, const char *key)
{
    int index = salvo_key_find(key);
    assert(config != NULL && index >= 0);
    return config != NULL && index >= 0 ? &config->effective[index] : NULL;
}

int64_t salvo_config_int(const salvo_config *config, const char *key)
{
    const salvo_effective *value = known(config, key);
    return value != NULL ? value->number : -1;
}

bool salvo_config_bool(const salvo_config *config, const char *key)
{
    const salvo_effective *value = known(config, key);
    return value != NULL && value->number == 1;
}

bool salvo_config_is(const salvo_config *config, const char *key, const char *text)
{
    const salvo_effective *value = known(config, key);
    return value != NULL && strcmp(value->text, text) == 0;
}

bool salvo_config_source_is_default(const salvo_config *config, const char *key)
{
    const salvo_effective *value = known(config, key);
    return value == NULL || value->layer == SALVO_LAYER_DEFAULT;
}

int salvo_config_each_rdkafka(const salvo_config *config,
                              int (*visit)(const char *property, const char *value,
                                           const char *source, void *context),
                              void *context)
{
    int stop = 0;
    for (size_t i = 0; i < config->property_count && stop == 0; i++) {
        const salvo_property *property = &config->properties[i];
        stop = visit(property->name + strlen(SALVO_RDKAFKA_PREFIX), property->value.text,
                     property->value.source, context);
    }
    return stop;
}

static int visit_key(const salvo_config *config, size_t index,
                     int (*visit)(const salvo_config_entry *entry, void *context), void *context)
{
    const salvo_key *key = &salvo_keys[index];
    char allowed[256];
    salvo_key_allowed(key, allowed, sizeof allowed);
    salvo_config_entry entry = {.key = key->name,
                                .value = config->effective[index].shown,
                                .default_value = key->initial,
                                .type = salvo_key_type_name(key->type),
                                .unit = key->unit,
                                .allowed = allowed,
                                .source = config->effective[index].source,
                                .help = key->help};
    return visit(&entry, context);
}

int salvo_config_each(const salvo_config *config,
                      int (*visit)(const salvo_config_entry *entry, void *context), void *context)
{
    if (config == NULL || visit == NULL)
        return SALVO_ERR_INVALID;
    int stop = 0;
    for (size_t i = 0; i < salvo_key_count && stop == 0; i++)
        stop = visit_key(config, i, visit, context);
    for (size_t i = 0; i < config->property_count && stop == 0; i++) {
        salvo_config_entry entry = {.key = config->properties[i].name,
                                    .value = config->properties[i].value.shown,
                                    .default_value = "",
                                    .type = "string",
                                    .unit = "",
                                    .allowed = "what librdkafka allows",
                                    .source = config->properties[i].value.source,
                                    .help = "Passed on to librdkafka."};
        stop = visit(&entry, context);
    }
    return stop;
}
