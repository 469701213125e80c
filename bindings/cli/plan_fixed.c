/* SPDX-License-Identifier: Apache-2.0
 *
 * What the configuration says about a plan. Guarantees: a setting given by --set or --config stays
 * as it is; one that speaks against the case is refused, never ignored.
 */
#include "plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct looking {
    salvo_plan_case *c;
    const char *broker, *broker_source; /* configured; NULL: not */
} looking;

static bool is_told(const salvo_plan_case *c, const char *source)
{
    size_t length = c->settings.file != NULL ? strlen(c->settings.file) : 0;
    return strcmp(source, "--set") == 0 ||
           (length != 0 && strncmp(source, c->settings.file, length) == 0 &&
            (source[length] == ':' || source[length] == '\0'));
}

static bool is_planned(const char *key)
{
    static const char *const keys[] = {"message_broker", "linger_us", "batch_bytes", "buffer_bytes",
                                       "delivery_timeout_ms", "flushers"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (strcmp(key, keys[i]) == 0)
            return true;
    return false;
}

/* A line of TOML. A secret, also one within a URL, is masked and stays where it is. */
static void put_line(FILE *to, const salvo_config_entry *entry)
{
    bool text = strcmp(entry->type, "string") == 0 || strcmp(entry->type, "enum") == 0;
    bool dotted = strchr(entry->key, '.') != NULL;
    if (strstr(entry->value, "****") != NULL) {
        fprintf(to, "# %s: holds a secret; it is not copied\n", entry->key);
        return;
    }
    fprintf(to, dotted ? "\"%s\" = " : "%s = ", entry->key);
    if (!text)
        fprintf(to, "%s\n", entry->value);
    else {
        fputc('"', to);
        for (const char *at = entry->value; *at != '\0'; at++)
            fprintf(to, *at == '"' || *at == '\\' ? "\\%c" : "%c", *at);
        fputs("\"\n", to);
    }
}

/* What else is set has shaped the plan, so it belongs to the core.toml. */
static void keep_line(salvo_plan_case *c, const salvo_config_entry *entry)
{
    char *lines = NULL;
    size_t size = 0;
    if (is_planned(entry->key))
        return;
    FILE *to = open_memstream(&lines, &size);
    if (to == NULL)
        return;
    fputs(c->other_settings != NULL ? c->other_settings : "", to);
    put_line(to, entry);
    if (fclose(to) == 0) {
        free(c->other_settings);
        c->other_settings = lines;
    } else {
        free(lines);
    }
}

static int look(const salvo_config_entry *entry, void *context)
{
    looking *l = context;
    salvo_plan_choice *fixed = &l->c->fixed;
    if (strcmp(entry->key, "message_broker") == 0 && strcmp(entry->source, "default") != 0) {
        l->broker = entry->value;
        l->broker_source = entry->source;
    }
    for (size_t i = 0; i < PLAN_SHAPING; i++)
        if (strcmp(entry->key, salvo_cli_plan_shaping[i]) == 0) {
            snprintf(l->c->shaping[i], sizeof l->c->shaping[i], "%s", entry->value);
            if (l->c->model.settings[i] == NULL) /* a model tells what was not the default */
                l->c->model.settings[i] = strdup(entry->default_value);
        }
    if (strcmp(entry->source, "default") != 0)
        keep_line(l->c, entry);
    if (!is_told(l->c, entry->source))
        return 0;
    unsigned long long value = strtoull(entry->value, NULL, 10); /* the configuration checked it */
    if (strcmp(entry->key, "linger_us") == 0)
        fixed->linger_us = value;
    else if (strcmp(entry->key, "batch_bytes") == 0)
        fixed->batch_bytes = value;
    else if (strcmp(entry->key, "buffer_bytes") == 0)
        fixed->buffer_bytes = value;
    else if (strcmp(entry->key, "delivery_timeout_ms") == 0)
        fixed->delivery_timeout_ms = value;
    else if (strcmp(entry->key, "flushers") == 0)
        fixed->flushers = (uint32_t)value;
    return 0;
}

/* Without a model or --broker the configured broker is planned for. */
static int choose_driver(salvo_plan_case *c, const looking *l, bool told)
{
    if (l->broker == NULL || strcmp(l->broker, c->model.driver) == 0)
        return 0;
    if (!told) {
        snprintf(c->model.driver, sizeof c->model.driver, "%s", l->broker);
        return 0;
    }
    if (strcmp(l->broker_source, "--set") != 0)
        return 0; /* what was told here goes before a file */
    return salvo_cli_usage("plan", "--set message_broker=%s: --broker or the broker model says %s",
                           l->broker, c->model.driver);
}

int salvo_cli_plan_fixed(salvo_plan_case *c, bool told)
{
    looking l = {.c = c};
    c->fixed = (salvo_plan_choice){.linger_us = UINT64_MAX};
    c->linger_below_us = UINT64_MAX;
    salvo_config *config = salvo_cli_load(&c->settings);
    if (config == NULL)
        return CLI_USAGE;
    salvo_config_each(config, look, &l);
    int status = choose_driver(c, &l, told);
    uint64_t most = salvo_cli_config_number(config, "max_message_bytes", 1000000);
    if (status == 0 && c->largest_bytes > most) {
        salvo_cli_say("messages of %llu B are refused: max_message_bytes is %llu; -s "
                      "max_message_bytes=%llu", (unsigned long long)c->largest_bytes,
                      (unsigned long long)most, (unsigned long long)c->largest_bytes);
        status = CLI_USAGE;
    }
    salvo_config_free(config);
    return status;
}
