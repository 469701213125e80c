/* SPDX-License-Identifier: Apache-2.0
 *
 * What a plan or a prediction leans on: where it leaves what the probe measured, and where the
 * broker was probed under other conditions. Nothing here depends on the host or the time.
 */
#include "plan.h"

#include "load_pace.h"

#include <stdio.h>
#include <string.h>

const char *const salvo_cli_plan_shaping[PLAN_SHAPING] = {
    "kafka_acks", "kafka_enable_idempotence", /* compression comes last: note_compression */
    "kafka_compression_type", "payload_compression"};

typedef unsigned long long number;

static char *next(char notes[PLAN_NOTES][PLAN_TEXT], size_t *count)
{
    return notes[(*count)++];
}

static uint64_t records_of(const salvo_plan_result *r)
{
    return r != NULL && r->requests != 0 ? r->ledger.accepted / r->requests : 0;
}

static void note_requests(const salvo_plan_case *c, const salvo_plan_basis *basis,
                          char notes[PLAN_NOTES][PLAN_TEXT], size_t *count)
{
    const salvo_plan_model *m = &c->model;
    uint64_t told = records_of(basis->told), records = records_of(basis->headroom);
    records = records < told ? told : records;
    uint64_t bytes = records * c->mean_bytes;
    if (m->bytes_max != 0 && bytes > m->bytes_max)
        snprintf(next(notes, count), PLAN_TEXT, "extrapolated: requests hold %llu B on average, "
                 "the probe measured up to %llu B", (number)bytes, (number)m->bytes_max);
    if (m->records_max != 0 && records > m->records_max)
        snprintf(next(notes, count), PLAN_TEXT, "extrapolated: requests hold %llu messages on "
                 "average, the probe measured up to %llu", (number)records, (number)m->records_max);
    if (basis->outage == NULL)
        return;
    bytes = basis->outage->request_bytes_peak;
    records = basis->outage->request_records_peak;
    if (m->bytes_max != 0 && bytes > m->bytes_max)
        snprintf(next(notes, count), PLAN_TEXT, "extrapolated: after the outage requests hold up "
                 "to %llu B, the probe measured up to %llu B", (number)bytes,
                 (number)m->bytes_max);
    if (m->records_max != 0 && records > m->records_max)
        snprintf(next(notes, count), PLAN_TEXT, "extrapolated: after the outage requests hold up "
                 "to %llu messages, the probe measured up to %llu", (number)records,
                 (number)m->records_max);
}

static void note_load(const salvo_plan_case *c, const salvo_plan_basis *basis,
                      char notes[PLAN_NOTES][PLAN_TEXT], size_t *count)
{
    const salvo_plan_model *m = &c->model;
    uint64_t per_s = salvo_cli_plan_rate(c, PLAN_HEADROOM_PERMILLE) * c->mean_bytes;
    uint64_t in_flight = basis->told->in_flight_peak;
    if (basis->headroom != NULL && basis->headroom->in_flight_peak > in_flight)
        in_flight = basis->headroom->in_flight_peak;
    if (basis->outage != NULL && basis->outage->in_flight_peak > in_flight)
        in_flight = basis->outage->in_flight_peak;
    if (m->in_flight_max != 0 && in_flight > m->in_flight_max)
        snprintf(next(notes, count), PLAN_TEXT, "extrapolated: up to %llu requests in flight at a "
                 "time, the probe measured up to %llu", (number)in_flight,
                 (number)m->in_flight_max);
    if (m->bytes_per_s_max != 0 && per_s > m->bytes_per_s_max)
        snprintf(next(notes, count), PLAN_TEXT, "extrapolated: %llu B a second with 30 %% "
                 "headroom; the probe went to %llu and met no limit", (number)per_s,
                 (number)m->bytes_per_s_max);
}

static void note_settings(const salvo_plan_case *c, char notes[PLAN_NOTES][PLAN_TEXT],
                          size_t *count)
{
    char list[PLAN_TEXT / 2] = "";
    for (size_t i = 0; i < PLAN_SHAPING; i++) {
        const char *probed = c->model.settings[i];
        bool ours = strncmp(salvo_cli_plan_shaping[i], "kafka", 5) ==
                    0 ? strcmp(c->model.driver, "kafka") == 0
                      : strcmp(c->model.driver, "kafka") != 0;
        size_t used = strlen(list);
        if (ours && probed != NULL && strcmp(probed, c->shaping[i]) != 0)
            snprintf(list + used, sizeof list - used, "%s%s = %s", used != 0 ? ", " : "",
                     salvo_cli_plan_shaping[i], probed);
    }
    if (*list != '\0')
        snprintf(next(notes, count), PLAN_TEXT, "the broker was probed with other settings (%s): "
                 "probe it with yours", list);
}

/* Numbers that were stated, not measured, know nothing of compression. */
static void note_compression(const salvo_plan_case *c, char notes[PLAN_NOTES][PLAN_TEXT],
                             size_t *count)
{
    size_t i = strcmp(c->model.driver, "kafka") == 0 ? PLAN_SHAPING - 2 : PLAN_SHAPING - 1;
    if (strcmp(c->shaping[i], "none") != 0)
        snprintf(next(notes, count), PLAN_TEXT, "%s = %s has no part in this: neither its CPU nor "
                 "smaller requests; a model that `salvo probe` made with it knows them",
                 salvo_cli_plan_shaping[i], c->shaping[i]);
}

salvo_plan_basis salvo_cli_plan_basis(const salvo_plan_case *c, const salvo_plan_found *f)
{
    return (salvo_plan_basis){.told = &f->as_told, .headroom = &f->steady,
                              .outage = c->outage_ns != 0 ? &f->outage : NULL};
}

size_t salvo_cli_plan_notes(const salvo_plan_case *c, const salvo_plan_basis *basis,
                            char notes[PLAN_NOTES][PLAN_TEXT])
{
    size_t count = 0;
    if (c->model.steal_permille >= 10 * SALVO_STEAL_TOLD)
        snprintf(next(notes, &count), PLAN_TEXT, "the broker was probed while its host lost %llu "
                 "%% of its processors to others: probe again in a calmer hour",
                 (number)c->model.steal_permille / 10);
    note_requests(c, basis, notes, &count);
    note_load(c, basis, notes, &count);
    if (c->model.measured)
        note_settings(c, notes, &count);
    else
        note_compression(c, notes, &count);
    return count;
}
