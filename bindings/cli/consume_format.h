/* SPDX-License-Identifier: Apache-2.0
 *
 * How `salvo consume` writes a record.
 */
#ifndef SALVO_CLI_CONSUME_FORMAT_H
#define SALVO_CLI_CONSUME_FORMAT_H

#include <salvo/reader.h>
#include <stdbool.h>
#include <stdio.h>

/* Checks a --format: a name (value, key-value, json) or a text with % fields. NULL, or what is
 * wrong with it. */
const char *salvo_format_check(const char *format);

/* Writes a record (a value that is JSON stands as such in the format json); false when the stream
 * failed or memory ran out (errno tells). */
bool salvo_format_write(FILE *to, const char *format, const salvo_record *record,
                        bool value_is_json);

#endif
