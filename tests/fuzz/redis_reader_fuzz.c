/* SPDX-License-Identifier: Apache-2.0
 *
 * What a Redis server may send to a reader: entries of a stream, fields that are not ours, payloads
 * that claim to be compressed. The first byte selects the reader's options. See wire.h.
 */
#include "wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const pairs[] = {"redis_url", "redis://host/", "max_message_bytes", "4096",
                                        "reconnect_backoff_ms", "1", "retry_backoff_max_ms", "1",
                                        NULL};
    salvo_wire_read(salvo_driver_find("redis"), pairs, data, size);
    return 0;
}
