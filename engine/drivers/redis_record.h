/* SPDX-License-Identifier: Apache-2.0
 *
 * A stream's entry as a record: the inverse of redis_format.h, for readers and consumers. Fields
 * of other names than the driver's own come as headers of those names. Knows no socket, allocates
 * nothing.
 */
#ifndef SALVO_REDIS_RECORD_H
#define SALVO_REDIS_RECORD_H

#include "compress.h"
#include <salvo/reader.h>

typedef struct salvo_redis_text { /* with a zero byte behind it */
    const char *bytes;
    size_t length;
} salvo_redis_text;

/* What one field tells. headers: those of the record so far, with room for one more. *codec gets
 * how the value is compressed, where this field says so. */
void salvo_redis_record_field(salvo_record *record, salvo_header *headers, salvo_redis_text name,
                              salvo_redis_text value, const salvo_codec **codec);

/* The value as it was before it was compressed, malloc'ed; at most `most` bytes. 0, or NOMEM,
 * INVALID, TOO_LARGE: the record is as it was. */
int salvo_redis_record_unpack(salvo_record *record, const salvo_codec *codec, size_t most,
                              void **unpacked);

#endif
