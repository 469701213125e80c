/* SPDX-License-Identifier: Apache-2.0
 *
 * Read back what arrived: from Kafka, a Redis stream, a RabbitMQ queue, or the `memory` broker of
 * this process, taking nothing away. For tools and tests; one thread per reader. Services use
 * consumer.h.
 */
#ifndef SALVO_READER_H
#define SALVO_READER_H

#include <salvo/salvo.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct salvo_reader salvo_reader;

typedef struct salvo_reader_options { /* zero means default */
    size_t size;
    uint32_t from_end;       /* not 0: only what arrives after the open */
    uint32_t stop_at_end;    /* not 0: SALVO_ERR_END when all partitions are read to their end as
                                it was at the open */
    uint32_t open_timeout_ms; /* default 10000 */
} salvo_reader_options;

typedef struct salvo_record { /* valid until the next call on the reader */
    const char *topic;
    int32_t partition;
    int64_t offset;
    int64_t timestamp_ms;
    const void *key; /* NULL: none */
    size_t key_len;
    const void *value; /* NULL: null */
    size_t value_len;
    const salvo_header *headers;
    size_t header_count;
} salvo_record;

/* producer: NULL, or for `memory` the producer whose broker is read (its data lives there).
 * Blocks up to open_timeout_ms. Errors: UNKNOWN_TOPIC, UNREACHABLE, AUTH, UNSUPPORTED, ...;
 * salvo_last_error() has the text. */
SALVO_API SALVO_MUST_USE int salvo_reader_open(const salvo_config *config, salvo *producer,
                                               const char *topic,
                                               const salvo_reader_options *options,
                                               salvo_reader **out);

/* The next record: 0, SALVO_ERR_TIMEOUT, SALVO_ERR_END or an error. */
SALVO_API SALVO_MUST_USE int salvo_reader_next(salvo_reader *reader, uint64_t timeout_ms,
                                               salvo_record *record);
SALVO_API void salvo_reader_close(salvo_reader *reader);

#ifdef __cplusplus
}
#endif
#endif
