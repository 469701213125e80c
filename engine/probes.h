/* SPDX-License-Identifier: Apache-2.0
 *
 * Static probes (USDT, provider "salvo") for bpftrace, perf and SystemTap. Not attached, each is
 * one no-op instruction, on no path that every send takes; without <sys/sdt.h> (Debian's
 * systemtap-sdt-dev) they are not there at all. Arguments, all 64 bits wide; texts are pointers:
 *
 *   claim_full   topic's name, bytes wanted, records wanted, policy (salvo_policy)
 *   batch_close  topic's name, partition, messages, bytes, why (0 bytes, 1 count, 2 linger,
 *                3 somebody waits)
 *   submit       topic's name, partition, messages, bytes, what the driver said (0: it has it)
 *   outcome      topic's name, status (0: acknowledged, else salvo_err), messages
 */
#ifndef SALVO_PROBES_H
#define SALVO_PROBES_H

#include <stdint.h>

#if defined(__has_include)
#if __has_include(<sys/sdt.h>)
#include <sys/sdt.h>
#define SALVO_PROBES 1
#endif
#endif

static inline void salvo_probe_claim_full(const char *topic, uint64_t bytes, uint64_t records,
                                          int64_t policy)
{
#ifdef SALVO_PROBES
    DTRACE_PROBE4(salvo, claim_full, topic, bytes, records, policy);
#endif
    (void)topic, (void)bytes, (void)records, (void)policy;
}

static inline void salvo_probe_batch_close(const char *topic, int64_t partition, uint64_t messages,
                                           uint64_t bytes, int64_t why)
{
#ifdef SALVO_PROBES
    DTRACE_PROBE5(salvo, batch_close, topic, partition, messages, bytes, why);
#endif
    (void)topic, (void)partition, (void)messages, (void)bytes, (void)why;
}

static inline void salvo_probe_submit(const char *topic, int64_t partition, uint64_t messages,
                                      uint64_t bytes, int64_t err)
{
#ifdef SALVO_PROBES
    DTRACE_PROBE5(salvo, submit, topic, partition, messages, bytes, err);
#endif
    (void)topic, (void)partition, (void)messages, (void)bytes, (void)err;
}

static inline void salvo_probe_outcome(const char *topic, int64_t status, uint64_t messages)
{
#ifdef SALVO_PROBES
    DTRACE_PROBE3(salvo, outcome, topic, status, messages);
#endif
    (void)topic, (void)status, (void)messages;
}

#endif
