/* SPDX-License-Identifier: Apache-2.0
 *
 * What a call without a connection of its own goes to: configuration, driver and, for `memory`,
 * the producer's broker. config NULL: the producer's; without one what file and environment say,
 * as `salvo config` shows it. Guarantees: on failure salvo_last_error() says why and nothing is
 * left to be freed; else salvo_choice_end() frees what was loaded.
 */
#ifndef SALVO_CHOOSE_H
#define SALVO_CHOOSE_H

#include "driver.h"

typedef struct salvo_choice {
    const salvo_config *config;
    const salvo_driver_ops *driver;
    void *shared;        /* the producer's, or NULL */
    salvo_config *owned; /* loaded here, or NULL */
} salvo_choice;

/* 0, CONFIG, INVALID (two brokers), FORKED, CLOSED or NOMEM. */
int salvo_choose(const salvo_config *config, salvo *producer, salvo_choice *out);
void salvo_choice_end(salvo_choice *choice);

#endif
