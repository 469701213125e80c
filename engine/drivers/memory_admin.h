/* SPDX-License-Identifier: Apache-2.0
 *
 * Topics of the memory broker: the driver's operations on them (see driver_consumer.h).
 */
#ifndef SALVO_MEMORY_ADMIN_H
#define SALVO_MEMORY_ADMIN_H

#include "driver_consumer.h"

extern const salvo_driver_topic_ops salvo_memory_topic_ops;

#endif
