/* SPDX-License-Identifier: Apache-2.0
 *
 * What a RabbitMQ server may send to a reader: deliveries with properties and headers of all
 * kinds, bodies in pieces, payloads that claim to be compressed. The first byte selects the
 * reader's options. See wire.h.
 */
#include "wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const pairs[] = {"rabbitmq_url", "amqp://host/", "max_message_bytes", "4096",
                                        NULL};
    salvo_wire_read(salvo_driver_find("rabbitmq"), pairs, data, size);
    return 0;
}
