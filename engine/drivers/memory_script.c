/* SPDX-License-Identifier: Apache-2.0
 *
 * Parser of `memory_script`; the grammar is in the header. Guarantee: a text is taken whole or
 * refused with the step, its number and what is allowed.
 */
#include "memory_script.h"
#include <ctype.h>
#include <salvo/err.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIMES_MAX 1000000000u
#define SECONDS_MAX 1000000u
#define STEP_BYTES 64

static const struct {
    const char *name;
    int32_t status;
} statuses[] = {
    {"transient", SALVO_ERR_TRANSIENT}, {"rejected", SALVO_ERR_REJECTED},
    {"too_large", SALVO_ERR_TOO_LARGE}, {"auth", SALVO_ERR_AUTH},
    {"unknown_topic", SALVO_ERR_UNKNOWN_TOPIC}, {"expired", SALVO_ERR_EXPIRED},
    {"maybe", SALVO_ERR_MAYBE},
};

static const char allowed_actions[] = "allowed are ok, fail:STATUS, reject, maybe, "
                                      "partial:N:STATUS, delay:TIME, down:TIME and fatal, "
                                      "each with *TIMES";
static const char allowed_statuses[] = "allowed are transient, rejected, too_large, auth, "
                                       "unknown_topic, expired and maybe";

/* A number at *text of at most max; moves *text behind it. */
static bool read_number(const char **text, uint64_t max, uint64_t *out)
{
    const char *at = *text;
    uint64_t value = 0;
    for (; isdigit((unsigned char)*at); at++) {
        value = value * 10 + (uint64_t)(*at - '0');
        if (value > max)
            return false;
    }
    if (at == *text)
        return false;
    *text = at;
    *out = value;
    return true;
}

static const char *read_time(const char *text, uint64_t *out_ns)
{
    static const char problem[] = "a time is a number of us, ms or s, from 1us to 1000000s";
    uint64_t value, unit_ns;
    if (!read_number(&text, UINT64_MAX / 1000000000u, &value))
        return problem;
    if (strcmp(text, "us") == 0)
        unit_ns = 1000u;
    else if (strcmp(text, "ms") == 0)
        unit_ns = 1000000u;
    else if (strcmp(text, "s") == 0)
        unit_ns = 1000000000u;
    else
        return problem;
    *out_ns = value * unit_ns;
    return value == 0 || *out_ns > SECONDS_MAX * UINT64_C(1000000000) ? problem : NULL;
}

static const char *read_status(const char *text, int32_t *out)
{
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++)
        if (strcmp(text, statuses[i].name) == 0) {
            *out = statuses[i].status;
            return NULL;
        }
    return allowed_statuses;
}

static const char *read_partial(const char *text, salvo_memory_step *step)
{
    uint64_t keep;
    if (!read_number(&text, UINT32_MAX, &keep) || *text != ':')
        return "partial needs how many are stored and a status, as in partial:3:rejected";
    step->keep = (uint32_t)keep;
    return read_status(text + 1, &step->status);
}

/* NULL, or what is wrong with the action. */
static const char *read_action(const char *text, salvo_memory_step *step)
{
    static const struct {
        const char *name;
        salvo_memory_step step;
    } plain[] = {
        {"ok", {.action = SALVO_MEMORY_OK}},
        {"reject", {.action = SALVO_MEMORY_FAIL, .status = SALVO_ERR_REJECTED}},
        {"maybe", {.action = SALVO_MEMORY_FAIL, .status = SALVO_ERR_MAYBE}},
        {"fatal", {.action = SALVO_MEMORY_FATAL, .status = SALVO_ERR_FATAL}},
    };
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        if (strcmp(text, plain[i].name) == 0) {
            *step = plain[i].step;
            return NULL;
        }
    if (strncmp(text, "fail:", 5) == 0) {
        step->action = SALVO_MEMORY_FAIL;
        return read_status(text + 5, &step->status);
    }
    if (strncmp(text, "partial:", 8) == 0) {
        step->action = SALVO_MEMORY_PARTIAL;
        return read_partial(text + 8, step);
    }
    if (strncmp(text, "delay:", 6) == 0) {
        step->action = SALVO_MEMORY_DELAY;
        return read_time(text + 6, &step->time_ns);
    }
    if (strncmp(text, "down:", 5) == 0) {
        step->action = SALVO_MEMORY_DOWN;
        return read_time(text + 5, &step->time_ns);
    }
    return allowed_actions;
}

/* NULL, or what is wrong with the step. */
static const char *read_step(char *text, salvo_memory_step *step)
{
    uint64_t times = 1;
    char *star = strchr(text, '*');
    if (star) {
        const char *number = star + 1;
        *star = '\0';
        if (!read_number(&number, TIMES_MAX, &times) || *number || times == 0)
            return "the number after * must be 1 to 1000000000";
    }
    memset(step, 0, sizeof *step);
    const char *problem = read_action(text, step);
    step->times = times;
    return problem;
}

/* Copy [from, to) without the spaces around it; false: longer than any step can be. */
static bool trim(const char *from, const char *to, char out[STEP_BYTES])
{
    while (from < to && isspace((unsigned char)*from))
        from++;
    while (to > from && isspace((unsigned char)to[-1]))
        to--;
    size_t len = (size_t)(to - from);
    bool fits = len < STEP_BYTES;
    if (!fits)
        len = STEP_BYTES - 1;
    memcpy(out, from, len);
    out[len] = '\0';
    return fits;
}

int salvo_memory_script_parse(salvo_memory_script *script, const char *text, char *error,
                              size_t error_size)
{
    memset(script, 0, sizeof *script);
    if (!text || text[strspn(text, " \t\r\n")] == '\0')
        return 0;
    size_t steps = 1;
    for (const char *at = text; *at; at++)
        steps += *at == ';';
    script->steps = calloc(steps, sizeof *script->steps);
    if (!script->steps) {
        snprintf(error, error_size, "memory_script: no memory for %zu steps", steps);
        return SALVO_ERR_NOMEM;
    }
    for (const char *at = text; script->count < steps; script->count++) {
        char shown[STEP_BYTES], work[STEP_BYTES];
        size_t len = strcspn(at, ";");
        const char *problem = allowed_actions;
        if (trim(at, at + len, shown)) {
            memcpy(work, shown, sizeof work);
            problem = read_step(work, &script->steps[script->count]);
        }
        if (problem) {
            snprintf(error, error_size, "memory_script: step %zu \"%s\": %s", script->count + 1,
                     shown, problem);
            salvo_memory_script_free(script);
            return SALVO_ERR_CONFIG;
        }
        at += len + 1;
    }
    return 0;
}

void salvo_memory_script_free(salvo_memory_script *script)
{
    free(script->steps);
    memset(script, 0, sizeof *script);
}

salvo_memory_step salvo_memory_script_peek(const salvo_memory_script *script)
{
    if (script->at == script->count)
        return (salvo_memory_step){.action = SALVO_MEMORY_OK, .times = 1};
    return script->steps[script->at];
}

void salvo_memory_script_next(salvo_memory_script *script)
{
    if (script->at < script->count && ++script->done >= script->steps[script->at].times) {
        script->at++;
        script->done = 0;
    }
}
