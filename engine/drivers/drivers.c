/* SPDX-License-Identifier: Apache-2.0
 *
 * The drivers of this build. A driver is known to the engine by its name here, and only here.
 */
#include "driver.h"
#include <string.h>

static const salvo_driver_ops *const drivers[] = {
    &salvo_driver_kafka,
    &salvo_driver_memory,
    &salvo_driver_null,
    &salvo_driver_redis,
    &salvo_driver_rabbitmq,
};

const salvo_driver_ops *salvo_driver_find(const char *name)
{
    for (size_t i = 0; name && i < sizeof drivers / sizeof *drivers; i++)
        if (strcmp(drivers[i]->name, name) == 0)
            return drivers[i];
    return NULL;
}
