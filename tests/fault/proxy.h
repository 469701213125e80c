/* SPDX-License-Identifier: Apache-2.0
 *
 * A TCP proxy on loopback, in a thread of its own, that can be told to misbehave: between a driver
 * and its real server. Guarantees: bytes of a direction keep their order; what was passed before a
 * cut reaches its receiver; while it passes it changes nothing.
 */
#ifndef SALVO_FAULT_PROXY_H
#define SALVO_FAULT_PROXY_H

#include <stdint.h>

typedef enum fault_mode {
    FAULT_PASS,
    FAULT_CUT_REQUEST, /* each connection ends after so many bytes towards the server */
    FAULT_CUT_REPLY,   /* ... towards the client */
    FAULT_SWALLOW,     /* replies vanish; a connection that lost one never gets another again */
    FAULT_SLOW,        /* so many bytes a second towards the server, of all connections */
    FAULT_STALL        /* nothing moves */
} fault_mode;

typedef struct fault_counts {
    uint64_t accepted, cuts; /* connections */
    uint64_t to_server, to_client, swallowed; /* bytes */
} fault_counts;

typedef struct fault_proxy fault_proxy;

/* Listens on a free port of loopback; NULL: no thread, no socket. */
fault_proxy *fault_proxy_new(void);
uint16_t fault_proxy_port(const fault_proxy *proxy);
/* Where new connections lead; any time. */
void fault_proxy_aim(fault_proxy *proxy, uint16_t server_port);
/* From now on, for open connections and new ones. A cut counts its bytes from here, or from the
 * connection's own beginning; number: bytes, or bytes a second. */
void fault_proxy_set(fault_proxy *proxy, fault_mode mode, uint64_t number);
fault_counts fault_proxy_read(fault_proxy *proxy);
void fault_proxy_free(fault_proxy *proxy);

#endif
