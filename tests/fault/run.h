/* SPDX-License-Identifier: Apache-2.0
 *
 * One run of the suite: a load, a verifier, a strike, the judgement. Include it after cmocka.h.
 */
#ifndef SALVO_FAULT_RUN_H
#define SALVO_FAULT_RUN_H

#include "fault.h"
#include "proxy.h"

#include <stdio.h>

typedef struct fault_world {
    const char *driver;
    uint32_t rate;
    uint64_t buffer_bytes;
    bool started, lengthy;
    fault_broker broker;
    fault_proxy *proxy;
    uint64_t ready_ns; /* when the server was last ready */
    uint32_t random;
    FILE *report; /* NULL: none */
    fault_shared *shared;
    int shared_fd;
    uint32_t runs;
    fault_calls calls[FAULT_PHASES]; /* of all runs */
    uint64_t struck_ns, mended_ns;   /* of this run: when it was struck, when mended */
} fault_world;

typedef struct fault_case {
    const char *name, *drivers;
    void (*strike)(fault_world *w); /* breaks, and mends */
    const char *extra[2]; /* one more setting */
    bool ordered, once; /* by it: promises beyond the driver's usual ones */
    uint32_t rate;      /* 0: the world's */
    bool proxied;       /* the load goes through the proxy */
    bool lengthy;       /* only with --long */
    bool tells;         /* outcomes other than acknowledged are what it is about */
    bool needs_silence; /* replies that never come: the driver's own time-outs are set short */
    uint32_t felt_ms;   /* so many ms worth of messages must have waited, else nothing happened */
    const char *script; /* of the memory broker */
} fault_case;

/* Runs one case; fails the running test with what was broken. */
void fault_run(fault_world *w, const fault_case *c);

/* Its first step: topic, address and settings, in w->shared; and the same for the command. */
void fault_prepare(fault_world *w, const fault_case *c);
void fault_where(const fault_world *w, char *text, size_t size);

void fault_tell_calls(fault_world *w, const char *what, const fault_calls calls[FAULT_PHASES]);
void fault_say(fault_world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
void fault_pause_ms(uint32_t ms);

#endif
