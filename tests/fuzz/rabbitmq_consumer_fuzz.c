/* SPDX-License-Identifier: Apache-2.0
 *
 * What a RabbitMQ server may send to a consumer: channels, queues, deliveries with properties of
 * all kinds, cancellations, closes. The first byte selects what the consumer does. See wire.h.
 */
#include "wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const pairs[] = {"rabbitmq_url", "amqp://host/", "max_message_bytes", "4096",
                                        "reconnect_backoff_ms", "1", "retry_backoff_max_ms", "1",
                                        NULL};
    salvo_wire_consume(salvo_driver_find("rabbitmq"), pairs, data, size);
    return 0;
}
