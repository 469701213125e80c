/* SPDX-License-Identifier: Apache-2.0
 *
 * getaddrinfo() beside fork(): glibc takes locks of its own inside, which a fork by another thread
 * would leave locked in the child for ever. Guarantees: no look-up that began less than
 * SALVO_NAMES_FORK_MS ago is under way while the process forks (a longer one waits for a name
 * server, without those locks); a fork waits no longer than that. Look-ups of the host program's
 * own are its own care.
 */
#ifndef SALVO_NAMES_H
#define SALVO_NAMES_H

#include <netdb.h>

enum { SALVO_NAMES_FORK_MS = 200 };

/* As getaddrinfo(). */
int salvo_names_look_up(const char *host, const char *port, const struct addrinfo *hints,
                        struct addrinfo **addresses);

#endif
