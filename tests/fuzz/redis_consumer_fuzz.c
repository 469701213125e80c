/* SPDX-License-Identifier: Apache-2.0
 *
 * What a Redis server may answer to a consumer, on its two connections in turn: groups, entries,
 * claims, counts of deliveries, errors. The first byte selects what the consumer does. See wire.h.
 */
#include "wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const pairs[] = {"redis_url", "redis://host/", "max_message_bytes", "4096",
                                        "reconnect_backoff_ms", "1", "retry_backoff_max_ms", "1",
                                        NULL};
    salvo_wire_consume(salvo_driver_find("redis"), pairs, data, size);
    return 0;
}
