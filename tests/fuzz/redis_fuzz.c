/* SPDX-License-Identifier: Apache-2.0
 *
 * What a Redis server may send: the driver from its login on, with refusals of all kinds, ids that
 * are none, lost connections. The first byte selects whether resends are exactly-once (a function
 * on the server). See wire.h.
 */
#include "wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *const pairs[] = {"redis_url", "redis://user:hidden@host/1",
                                 "redis_window", "16",
                                 "max_message_bytes", "4096",
                                 "reconnect_backoff_ms", "1",
                                 "retry_backoff_max_ms", "1",
                                 "redis_exactly_once", size > 0 && (data[0] & 1) ? "true" : "false",
                                 NULL};
    if (size > 0)
        salvo_wire_drive(salvo_driver_find("redis"), pairs, data + 1, size - 1);
    return 0;
}
