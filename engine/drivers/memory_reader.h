/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading the memory broker: the driver's reader operations (see driver.h and salvo/reader.h).
 */
#ifndef SALVO_MEMORY_READER_H
#define SALVO_MEMORY_READER_H

#include "driver.h"

int salvo_memory_reader_open(const salvo_config *config, void *shared, const char *topic,
                             const salvo_reader_options *options, void **reader, char *error,
                             size_t error_size);
int salvo_memory_reader_next(void *reader, uint64_t timeout_ms, salvo_record *record,
                             char *error, size_t error_size);
void salvo_memory_reader_close(void *reader);

#endif
