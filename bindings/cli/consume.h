/* SPDX-License-Identifier: Apache-2.0
 *
 * What the parts of `salvo consume` share.
 */
#ifndef SALVO_CLI_CONSUME_H
#define SALVO_CLI_CONSUME_H

#include "avro.h"
#include "cli.h"

#include <salvo/reader.h>

#define CONSUME_SLICE_MS 200u /* a signal is noticed this fast */

typedef struct consume_options {
    salvo_cli_settings settings;
    const char *topic, *format, *group, *member;
    uint64_t count, timeout_ms; /* 0: no bound */
    bool from_end, exit_at_end, as_avro;
    salvo_cli_avro *avro; /* with --avro: decodes values */
} consume_options;

/* Errors for people; each returns the status. */
int salvo_consume_write_failed(void);
int salvo_consume_read_failed(int err, uint64_t count);
int salvo_consume_timed_out(const consume_options *o, uint64_t count);

/* Writes a record as it was asked for: CLI_OK, or after a printed error the status. */
int salvo_consume_print(const consume_options *o, const salvo_record *record);

/* As a member of --group: prints, then acknowledges what was printed and flushed. */
int salvo_consume_group(const consume_options *o, const salvo_config *config);

#endif
