/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading back: the public calls, handed to the driver that the configuration names. Guarantees:
 * on failure *out is NULL and salvo_last_error() says why; a null is an error, not a crash.
 */
#include "config_internal.h"
#include "driver.h"
#include "error.h"
#include "producer.h"
#include <stdlib.h>
#include <string.h>

#define OPEN_TIMEOUT_MS 10000u

struct salvo_reader {
    const salvo_driver_ops *driver;
    void *driver_reader;
};

/* The driver that the configuration names; the producer's when there is no configuration. */
static int choose_driver(const salvo_config *config, salvo *producer,
                         const salvo_driver_ops **out)
{
    const salvo_driver_ops *of_producer = producer ? salvo_producer_driver(producer) : NULL;
    const char *why = NULL;
    const char *name = config || !of_producer ? salvo_config_broker(config, &why)
                                              : of_producer->name;
    *out = name ? salvo_driver_find(name) : NULL;
    if (!*out) {
        salvo_error_set("%s%s", name ? "this build has no driver named " : "",
                        name ? name : why ? why : "message_broker is not set");
        return SALVO_ERR_CONFIG;
    }
    if (!(*out)->reader_open) {
        salvo_error_set("the %s driver keeps nothing that could be read", name);
        return SALVO_ERR_UNSUPPORTED;
    }
    if (of_producer && of_producer != *out) {
        salvo_error_set("message_broker is %s, but the producer's is %s: leave one of them out",
                        name, of_producer->name);
        return SALVO_ERR_INVALID;
    }
    return 0;
}

static int take_options(const salvo_reader_options *given, salvo_reader_options *out)
{
    *out = (salvo_reader_options){.size = sizeof *out};
    if (given) {
        if (given->size < sizeof given->size) {
            salvo_error_set("salvo_reader_options.size is %zu: set it to "
                            "sizeof(salvo_reader_options)", given->size);
            return SALVO_ERR_INVALID;
        }
        memcpy(out, given, given->size < sizeof *out ? given->size : sizeof *out);
        out->size = sizeof *out;
    }
    if (out->open_timeout_ms == 0)
        out->open_timeout_ms = OPEN_TIMEOUT_MS;
    return 0;
}

static int open_with(const salvo_config *config, salvo *producer, const char *topic,
                     const salvo_reader_options *given, salvo_reader **out)
{
    char text[SALVO_ERROR_BYTES] = "";
    salvo_reader_options options;
    const salvo_driver_ops *driver;
    int err = take_options(given, &options);
    if (!err)
        err = choose_driver(config, producer, &driver);
    if (err)
        return err;
    salvo_reader *reader = malloc(sizeof *reader);
    if (!reader) {
        salvo_error_set("no memory for a reader");
        return SALVO_ERR_NOMEM;
    }
    reader->driver = driver;
    err = driver->reader_open(config, producer ? salvo_producer_shared(producer) : NULL, topic,
                              &options, &reader->driver_reader, text, sizeof text);
    if (err) {
        salvo_error_set("%s", text[0] ? text : salvo_strerror(err));
        free(reader);
        return err;
    }
    *out = reader;
    return 0;
}

/* What `salvo config` shows: defaults, ./core.toml, environment. */
static int load_config(salvo_config **out)
{
    int err = salvo_config_new(out);
    if (err) {
        salvo_error_set("no memory for a configuration");
        return err;
    }
    err = salvo_config_load_file(*out, NULL);
    if (!err)
        err = salvo_config_load_env(*out);
    if (err) {
        salvo_error_set("%s", salvo_config_error(*out));
        salvo_config_free(*out);
        *out = NULL;
    }
    return err;
}

int salvo_reader_open(const salvo_config *config, salvo *producer, const char *topic,
                      const salvo_reader_options *options, salvo_reader **out)
{
    salvo_error_clear();
    if (out)
        *out = NULL;
    if (!out || !topic || !*topic) {
        salvo_error_set("salvo_reader_open: %s", out ? "no topic was given" : "out is NULL");
        return SALVO_ERR_INVALID;
    }
    if (config || producer)
        return open_with(config, producer, topic, options, out);
    salvo_config *loaded;
    int err = load_config(&loaded);
    if (err)
        return err;
    err = open_with(loaded, NULL, topic, options, out);
    salvo_config_free(loaded);
    return err;
}

int salvo_reader_next(salvo_reader *reader, uint64_t timeout_ms, salvo_record *record)
{
    if (!reader || !record) {
        salvo_error_set("salvo_reader_next: %s is NULL", reader ? "record" : "reader");
        return SALVO_ERR_INVALID;
    }
    char text[SALVO_ERROR_BYTES];
    text[0] = '\0';
    int err = reader->driver->reader_next(reader->driver_reader, timeout_ms, record, text,
                                          sizeof text);
    if (err)
        salvo_error_set("%s", text[0] ? text : salvo_strerror(err));
    return err;
}

void salvo_reader_close(salvo_reader *reader)
{
    if (!reader)
        return;
    reader->driver->reader_close(reader->driver_reader);
    free(reader);
}
