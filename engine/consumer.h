/* SPDX-License-Identifier: Apache-2.0
 *
 * What the engine's other parts may do with a consumer.
 */
#ifndef SALVO_ENGINE_CONSUMER_H
#define SALVO_ENGINE_CONSUMER_H

#include "driver.h"
#include "driver_consumer.h"

/* Be alone with the driver's handle (a poll that waits makes way), with all acknowledgements
 * passed on to it: for transactions. 0, or an error with salvo_last_error(): then nothing is to be
 * left. Between enter and leave the driver may call back (revoked, count). */
int salvo_consumer_enter(salvo_consumer *consumer, const salvo_driver_ops **driver,
                         void **handle);
void salvo_consumer_leave(salvo_consumer *consumer);

#endif
