/* SPDX-License-Identifier: Apache-2.0
 *
 * What all steps of `salvo probe` do with requests: make them, note their failures, wait until
 * none is out, tell what went wrong; and the clocks of this process.
 */
#include "probe.h"

#include "load_draw.h"
#include "load_payload.h"

#include <time.h>

#define MS UINT64_C(1000000)
#define SECOND UINT64_C(1000000000)
enum { SAMPLES = 64 };

uint64_t salvo_probing_cpu_ns(clockid_t whose)
{
    struct timespec t;
    clock_gettime(whose, &t);
    return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

uint64_t salvo_probing_process_cpu_ns(void)
{
    return salvo_probing_cpu_ns(CLOCK_PROCESS_CPUTIME_ID);
}

int salvo_probing_failed(const char *what, int err)
{
    const char *text = salvo_last_error();
    salvo_cli_say("probe: %s: %s", what, text != NULL && *text != '\0' ? text
                                                                       : salvo_strerror(err));
    return CLI_FAILED;
}

int salvo_probing_interrupted(void)
{
    return salvo_cli_signals() != 0 ? CLI_INTERRUPTED : 0;
}

void salvo_probing_sleep(uint64_t ns)
{
    struct timespec t = {(time_t)(ns / SECOND), (long)(ns % SECOND)};
    nanosleep(&t, NULL);
}

void salvo_probing_watched(salvo_probing *p, const salvo_probe_watch *w)
{
    if (p->watch_count < PROBE_WATCHES)
        p->watches[p->watch_count++] = *w;
}

int salvo_probing_make(salvo_probing *p, uint32_t records, uint32_t value_bytes,
                       uint32_t partition, uint32_t *batch)
{
    uint32_t at = (uint32_t)(salvo_load_random(&p->random) % SALVO_LOAD_BLOCK_BYTES);
    return salvo_probe_make(p->probe, (int32_t)(partition % p->partitions), records, value_bytes,
                            p->block, SALVO_LOAD_BLOCK_BYTES, at, batch);
}

void salvo_probing_note(salvo_probing *p, const salvo_probe_sample *s)
{
    if (s->status == 0)
        return;
    p->failed++;
    p->failed_status = s->status;
}

/* Waits until none is out. */
int salvo_probing_settle(salvo_probing *p)
{
    salvo_probe_sample samples[SAMPLES];
    uint64_t until_ns = salvo_cli_now_ns() + PROBE_REQUEST_TIMEOUT_S * SECOND;
    while (salvo_probe_out(p->probe) != 0) {
        int n = salvo_probe_wait(p->probe, salvo_cli_now_ns() + 100 * MS, samples, SAMPLES);
        for (int i = 0; i < n; i++)
            salvo_probing_note(p, &samples[i]);
        if (n < 0)
            return salvo_probing_failed("the driver gave up its connection", n);
        if (salvo_cli_now_ns() > until_ns) {
            salvo_cli_say("probe: %u requests without an answer for %d s",
                          salvo_probe_out(p->probe), PROBE_REQUEST_TIMEOUT_S);
            return CLI_FAILED;
        }
        if (salvo_probing_interrupted() != 0)
            return CLI_INTERRUPTED;
    }
    return 0;
}
