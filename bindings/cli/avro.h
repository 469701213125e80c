/* SPDX-License-Identifier: Apache-2.0
 *
 * Avro in `salvo produce --avro` and `salvo consume --avro`: the Schema Registry of the
 * configuration, and values to and from JSON. Not for two threads at one time.
 */
#ifndef SALVO_CLI_AVRO_H
#define SALVO_CLI_AVRO_H

#include "cli.h"

#include <salvo/schema.h>

typedef struct salvo_cli_avro {
    salvo_registry *registry;
    salvo_schema *schema; /* what is written; NULL: this one reads */
    int32_t id;
    salvo_schema_bytes room; /* the value that was made last */
} salvo_cli_avro;

/* For writing to a topic by the schema in a file, whose id is asked for now; for reading. CLI_OK,
 * or after a printed error the status. */
int salvo_cli_avro_write(salvo_cli_avro *avro, const salvo_config *config, const char *file,
                         const char *topic);
int salvo_cli_avro_read(salvo_cli_avro *avro, const salvo_config *config);
void salvo_cli_avro_close(salvo_cli_avro *avro);

/* Turns a value into the other form; it lies in the struct until the next call. False with a text
 * for people. */
bool salvo_cli_avro_encode(salvo_cli_avro *avro, salvo_bytes *value, char *error, size_t size);
bool salvo_cli_avro_decode(salvo_cli_avro *avro, salvo_bytes *value, char *error, size_t size);

#endif
