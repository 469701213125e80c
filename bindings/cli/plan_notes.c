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
    "kafka_acks", "kafka_enable_idempotence", "kafka_compression_type", "payload_compression"};

typedef unsigned long long number;

static char *next(char notes[PLAN_NOTES][PLAN_TEXT], size_t *count)
{
    return notes[(*count)++];
}

static void note_ranges(const salvo_plan_case *c, const salvo_plan_result *r,
                        char notes[PLAN_NOTES][PLAN_TEXT], size_t *count)
{
    const salvo_plan_model *m = &c->model;
    uint64_t records = r->requests != 0 ? r->ledger.accepted / r->requests : 0;
    uint64_t bytes = records * c->mean_bytes;
    uint64_t per_s = salvo_cli_plan_rate(c, PLAN_HEADROOM_PERMILLE) * c->mean_bytes;
    if (m->bytes_max != 0 && bytes > m->bytes_max)
        snprintf(next(notes, count), PLAN_TEXT, "extrapolated: requests hold %llu B on average, "
                 "the probe measured up to %llu B", (number)bytes, (number)m->bytes_max);
    if (m->records_max != 0 && records > m->records_max)
        snprintf(next(notes, count), PLAN_TEXT, "extrapolated: requests hold %llu messages on "
                 "average, the probe measured up to %llu", (number)records, (number)m->records_max);
    if (m->in_flight_max != 0 && r->in_flight_peak > m->in_flight_max)
        snprintf(next(notes, count), PLAN_TEXT, "extrapolated: up to %llu requests in flight at a "
                 "time, the probe measured up to %llu", (number)r->in_flight_peak,
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

size_t salvo_cli_plan_notes(const salvo_plan_case *c, const salvo_plan_result *r,
                            char notes[PLAN_NOTES][PLAN_TEXT])
{
    size_t count = 0;
    if (c->model.steal_permille >= 10 * SALVO_STEAL_TOLD)
        snprintf(next(notes, &count), PLAN_TEXT, "the broker was probed while its host lost %llu "
                 "%% of its processors to others: probe again in a calmer hour",
                 (number)c->model.steal_permille / 10);
    note_ranges(c, r, notes, &count);
    if (c->model.measured)
        note_settings(c, notes, &count);
    return count;
}
