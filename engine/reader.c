/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading back: the public calls, handed to the driver that the configuration names. Guarantees:
 * on failure *out is NULL and salvo_last_error() says why; a null is an error, not a crash.
 */
#include "choose.h"
#include "error.h"
#include <stdlib.h>
#include <string.h>

#define OPEN_TIMEOUT_MS 10000u

struct salvo_reader {
    const salvo_driver_ops *driver;
    void *driver_reader;
};

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

static int open_with(const salvo_choice *choice, const char *topic,
                     const salvo_reader_options *given, salvo_reader **out)
{
    char text[SALVO_ERROR_BYTES] = "";
    salvo_reader_options options;
    int err = take_options(given, &options);
    if (!err && !choice->driver->reader_open) {
        salvo_error_set("the %s driver keeps nothing that could be read", choice->driver->name);
        err = SALVO_ERR_UNSUPPORTED;
    }
    if (err)
        return err;
    salvo_reader *reader = malloc(sizeof *reader);
    if (!reader) {
        salvo_error_set("no memory for a reader");
        return SALVO_ERR_NOMEM;
    }
    reader->driver = choice->driver;
    err = choice->driver->reader_open(choice->config, choice->shared, topic, &options,
                                      &reader->driver_reader, text, sizeof text);
    if (err) {
        salvo_error_set("%s", text[0] ? text : salvo_strerror(err));
        free(reader);
        return err;
    }
    *out = reader;
    return 0;
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
    salvo_choice choice;
    int err = salvo_choose(config, producer, &choice);
    if (err)
        return err;
    err = open_with(&choice, topic, options, out);
    salvo_choice_end(&choice);
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
