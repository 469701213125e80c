/* SPDX-License-Identifier: Apache-2.0
 *
 * Recording the traffic of a running producer from outside, for `salvo record`: when, how large,
 * which topic, a salted hash of the key, and what was refused or held up. No payloads, no keys.
 */
#ifndef SALVO_TAPE_H
#define SALVO_TAPE_H

#include <salvo/watch.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct salvo_tape salvo_tape;

enum { /* salvo_tape_entry.fate; between ACCEPTED and REFUSED_LATE: see `stamp_ns` */
    SALVO_TAPE_ACCEPTED = 0
};
#define SALVO_TAPE_REFUSED_LATE 0xfffffffeu /* after blocking */
#define SALVO_TAPE_REFUSED 0xffffffffu

typedef struct salvo_tape_entry {
    uint64_t stamp_ns;    /* of the producer's clock */
    uint32_t value_bytes; /* headers included; of refused ones the key, too */
    uint32_t key;         /* 0: none, or refused */
    uint16_t topic, key_bytes;
    uint32_t fate; /* other than the above: no message, but word that those with this stamp and
                      topic had been blocked for so many us before it */
} salvo_tape_entry;

/* Ask the producer to record. Blocks up to timeout_ms for its flusher to notice. 0, or
 * SALVO_ERR_TIMEOUT (it is stopped, or older than recording), SALVO_ERR_LIMIT where another one
 * records, SALVO_ERR_IO. salvo_last_error() tells more. */
SALVO_API SALVO_MUST_USE int salvo_tape_open(const salvo_watch_info *producer, uint32_t timeout_ms,
                                             salvo_tape **out);
SALVO_API void salvo_tape_close(salvo_tape *tape); /* and stop; NULL is allowed */

/* What came since the last call, at most max; never waits. *lost (added to): overwritten before
 * they were read. */
SALVO_API size_t salvo_tape_read(salvo_tape *tape, salvo_tape_entry *entries, size_t max,
                                 uint64_t *lost);

#ifdef __cplusplus
}
#endif
#endif
