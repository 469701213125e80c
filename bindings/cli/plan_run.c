/* SPDX-License-Identifier: Apache-2.0
 *
 * One simulation: a case with settings, for so long, at such a multiple of its rate.
 */
#include "plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECOND UINT64_C(1000000000)
#define OUTAGE_FROM_NS SECOND

static int set_number(salvo_config *config, const char *key, uint64_t value)
{
    char text[24];
    if (value == 0 && strcmp(key, "linger_us") != 0)
        return 0; /* as the configuration has it */
    snprintf(text, sizeof text, "%llu", (unsigned long long)value);
    return salvo_config_set_from(config, key, text, "salvo plan");
}

salvo_config *salvo_cli_plan_config(const salvo_plan_case *c, const salvo_plan_choice *choice)
{
    salvo_config *config = salvo_cli_load(&c->settings);
    if (config == NULL)
        return NULL;
    int err = salvo_config_set_from(config, "message_broker", c->model.driver, "the broker model");
    if (err == 0 && choice->linger_us != UINT64_MAX)
        err = set_number(config, "linger_us", choice->linger_us);
    if (err == 0)
        err = set_number(config, "buffer_bytes", choice->buffer_bytes);
    if (err == 0)
        err = set_number(config, "ring_bytes", choice->ring_bytes);
    if (err == 0)
        err = set_number(config, "batch_bytes", choice->batch_bytes);
    if (err == 0)
        err = set_number(config, "delivery_timeout_ms", choice->delivery_timeout_ms);
    if (err == 0)
        err = set_number(config, "flushers", choice->flushers);
    if (err == 0)
        return config;
    salvo_cli_say("%s", salvo_config_error(config));
    salvo_config_free(config);
    return NULL;
}

uint64_t salvo_cli_plan_rate(const salvo_plan_case *c, uint32_t scale_permille)
{
    return (uint64_t)((unsigned __int128)c->rate_per_s * scale_permille / 1000);
}

uint64_t salvo_cli_plan_span(const salvo_plan_case *c, uint32_t scale_permille, uint64_t records,
                             uint64_t least_ns, uint64_t most_ns)
{
    uint64_t rate = salvo_cli_plan_rate(c, scale_permille);
    if (c->traffic.burst_permille > 1000 && least_ns < c->traffic.burst_ns + SECOND)
        least_ns = c->traffic.burst_ns + SECOND; /* all of it, and some rest */
    if (least_ns > most_ns)
        least_ns = most_ns;
    uint64_t span_ns = rate != 0 ? records * 1000000 / rate * 1000 : most_ns;
    span_ns = span_ns > most_ns ? most_ns : span_ns;
    return span_ns < least_ns ? least_ns : span_ns;
}

/* The busiest moment comes right after the warm-up, or with the outage: short runs would miss it
 * else. */
static uint64_t traffic_from(const salvo_plan_case *c, const salvo_plan_shot *shot,
                             uint32_t scale_permille)
{
    const salvo_plan_traffic *t = &c->traffic;
    uint64_t turn_ns = t->trace != NULL ? t->trace_ns : t->burst_every_ns;
    uint64_t before_ns = shot->warmup_ns + (shot->outage_ns != 0 ? OUTAGE_FROM_NS : 0);
    if (t->trace != NULL)
        before_ns = before_ns / 1000 * scale_permille;
    return turn_ns != 0 ? (c->peak_ns + turn_ns - before_ns % turn_ns) % turn_ns : 0;
}

int salvo_cli_plan_shoot(const salvo_plan_case *c, const salvo_plan_choice *choice,
                         const salvo_plan_shot *shot, salvo_plan_result *result)
{
    memset(result, 0, sizeof *result);
    salvo_config *config = salvo_cli_plan_config(c, choice);
    if (config == NULL)
        return CLI_USAGE;
    salvo_plan_outage outage = {.from_ns = OUTAGE_FROM_NS, .for_ns = shot->outage_ns,
                                .kind = c->outage_kind, .brokers = c->outage_brokers,
                                .slow_permille = c->slow_permille};
    salvo_plan_run run = {.size = sizeof run, .config = config, .traffic = c->traffic,
                          .broker = c->model.broker, .host = c->model.host,
                          .outages = &outage, .outage_count = shot->outage_ns != 0,
                          .seed = shot->seed, .warmup_ns = shot->warmup_ns,
                          .duration_ns = shot->duration_ns, .window_ns = shot->window_ns};
    run.traffic.scale_permille = (uint32_t)((uint64_t)shot->scale_permille *
                                            c->traffic.scale_permille / 1000);
    run.traffic.from_ns = traffic_from(c, shot, run.traffic.scale_permille);
    run.broker.partitions = choice->partitions;
    int err = salvo_plan_simulate(&run, result);
    salvo_config_free(config);
    if (err == 0)
        return 0;
    salvo_cli_say("%s", salvo_last_error() && *salvo_last_error() ? salvo_last_error()
                                                                   : salvo_strerror(err));
    return err == SALVO_ERR_CONFIG ? CLI_USAGE : CLI_FAILED;
}
