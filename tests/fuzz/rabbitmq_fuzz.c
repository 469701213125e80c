/* SPDX-License-Identifier: Apache-2.0
 *
 * What a RabbitMQ server may send: the driver from its login on, with publisher confirms, returns,
 * refused channels and declarations, heartbeats and lost connections. See wire.h.
 */
#include "wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const pairs[] = {"rabbitmq_url", "amqp://user:hidden@host/",
                                        "rabbitmq_window", "16",
                                        "max_message_bytes", "4096", "reconnect_backoff_ms", "1",
                                        "retry_backoff_max_ms", "1", NULL};
    salvo_wire_drive(salvo_driver_find("rabbitmq"), pairs, data, size);
    return 0;
}
