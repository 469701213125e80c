/* SPDX-License-Identifier: Apache-2.0
 *
 * A reader's caller: opens, takes records until the input has ended, closes. Guarantees, to a
 * finding: what a record shows may be read until the next call, an error has a text of one line,
 * and every call ends.
 */
#include "wire.h"

#include <salvo/err.h>

enum { RECORDS = 500, OPEN_MS = 2000, NEXT_MS = 20 };

static void ignore_log(void *context, int level, const char *text)
{
    (void)context, (void)level;
    fuzz_touch(text, strlen(text));
}

static void look(const salvo_record *record)
{
    fuzz_check(record->topic && strcmp(record->topic, "zero") == 0, "a record is of its topic");
    if (record->key)
        fuzz_touch(record->key, record->key_len);
    if (record->value)
        fuzz_touch(record->value, record->value_len);
    for (size_t i = 0; i < record->header_count; i++) {
        fuzz_touch(record->headers[i].name, record->headers[i].name_len);
        if (record->headers[i].value)
            fuzz_touch(record->headers[i].value, record->headers[i].value_len);
    }
}

static void check_error(const char *error, size_t size)
{
    fuzz_check(memchr(error, 0, size) && *error, "an error has a text");
    fuzz_check(!strchr(error, '\n'), "of one line");
}

static void read_all(const salvo_driver_ops *ops, void *reader)
{
    char error[256] = "";
    salvo_record record;
    for (int i = 0; i < RECORDS; i++) {
        memset(&record, 0, sizeof record);
        int err = ops->reader_next(reader, NEXT_MS, &record, error, sizeof error);
        if (err == 0)
            look(&record);
        else if (err != SALVO_ERR_TIMEOUT && err != SALVO_ERR_END)
            check_error(error, sizeof error);
        if (err == SALVO_ERR_END || (err != 0 && salvo_wire_left() == 0))
            return;
    }
}

void salvo_wire_read(const salvo_driver_ops *ops, const char *const *pairs, const uint8_t *data,
                     size_t size)
{
    salvo_reader_options options = {.size = sizeof options, .open_timeout_ms = OPEN_MS};
    salvo_config *config;
    void *reader = NULL;
    char error[256] = "";
    if (size == 0 || salvo_config_new(&config) != 0)
        return;
    for (; *pairs; pairs += 2)
        fuzz_check(salvo_config_set(config, pairs[0], pairs[1]) == 0, pairs[0]);
    salvo_set_log(ignore_log, NULL);
    options.stop_at_end = data[0] & 1;
    options.from_end = data[0] & 2;
    salvo_wire_start(data + 1, size - 1);
    int err = ops->reader_open(config, NULL, "zero", &options, &reader, error, sizeof error);
    if (err != 0)
        check_error(error, sizeof error);
    fuzz_check((err == 0) == (reader != NULL), "an open that fails leaves no reader");
    if (err == 0) {
        read_all(ops, reader);
        ops->reader_close(reader);
    }
    salvo_config_free(config);
}
