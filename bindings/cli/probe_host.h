/* SPDX-License-Identifier: Apache-2.0
 *
 * The broker's process, where it runs on this host, and whether it draws on our cores.
 */
#ifndef SALVO_CLI_PROBE_HOST_H
#define SALVO_CLI_PROBE_HOST_H

#include <stdbool.h>
#include <stdint.h>

int salvo_probing_broker_pid(const char *address); /* which listens at HOST:PORT; 0: not found */
uint64_t salvo_probing_cpu_of(int pid);            /* so far; 0: it may not be looked at */
/* Of this process' threads whose names begin so; what ended is not in it. */
uint64_t salvo_probing_cpu_of_threads(const char *name);
bool salvo_probing_shares_cores(int pid);          /* also where that cannot be told */

#endif
