/* SPDX-License-Identifier: Apache-2.0
 *
 * `salvo config`: every effective value with where it came from. Secrets are masked by the
 * library before they get here.
 */
#include "cli.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
    "usage: salvo config [OPTION...]\n"
    "\n"
    "Prints each configuration value as it is in force here, and where it came from: default,\n"
    "core.toml with its line, environment, or an option of this command. Secrets are masked.\n"
    "\n"
    "      --changed             only what is not the default\n"
    "      --json                one JSON array\n"
    "      --markdown            a table for documents\n"
    "  -b, --broker NAME         as for the other commands\n"
    "  -s, --set KEY=VALUE       any configuration key; may be repeated\n"
    "      --config FILE         instead of ./core.toml\n";

enum { OPT_CHANGED = CLI_LONG_ONLY, OPT_JSON, OPT_MARKDOWN, OPT_CONFIG };

static const struct option options_table[] = {{"changed", no_argument, NULL, OPT_CHANGED},
                                              {"json", no_argument, NULL, OPT_JSON},
                                              {"markdown", no_argument, NULL, OPT_MARKDOWN},
                                              {"broker", required_argument, NULL, 'b'},
                                              {"set", required_argument, NULL, 's'},
                                              {"config", required_argument, NULL, OPT_CONFIG},
                                              {"help", no_argument, NULL, 'h'},
                                              {0}};

typedef struct config_options {
    salvo_cli_settings settings;
    bool changed, json, markdown;
} config_options;

typedef struct listing {
    const config_options *options;
    int key_width, value_width, source_width; /* of what is listed */
    json_t *array;
} listing;

static bool wanted(const listing *l, const salvo_config_entry *entry)
{
    return !l->options->changed || strcmp(entry->source, "default") != 0;
}

static int wider(int width, const char *text)
{
    int len = (int)strlen(text);
    return len > width ? len : width;
}

static int measure(const salvo_config_entry *entry, void *context)
{
    listing *l = context;
    if (wanted(l, entry)) {
        l->key_width = wider(l->key_width, entry->key);
        l->value_width = wider(l->value_width, entry->value);
        l->source_width = wider(l->source_width, entry->source);
    }
    return 0;
}

static int print_row(const salvo_config_entry *entry, void *context)
{
    const listing *l = context;
    if (wanted(l, entry))
        printf("%-*s  %-*s  %-*s  %s\n", l->key_width, entry->key, l->value_width, entry->value,
               l->source_width, entry->source, entry->unit);
    return 0;
}

static void print_cell(const char *text)
{
    putchar(' ');
    for (; *text; text++) {
        if (*text == '|')
            putchar('\\');
        putchar(*text);
    }
    fputs(" |", stdout);
}

static int print_markdown(const salvo_config_entry *entry, void *context)
{
    if (!wanted(context, entry))
        return 0;
    const char *cells[] = {entry->key,           entry->value,   entry->source, entry->type,
                           entry->unit, entry->default_value, entry->allowed, entry->help};
    putchar('|');
    for (size_t i = 0; i < sizeof cells / sizeof cells[0]; i++)
        print_cell(cells[i]);
    putchar('\n');
    return 0;
}

static int add_object(const salvo_config_entry *entry, void *context)
{
    listing *l = context;
    if (!wanted(l, entry))
        return 0;
    json_t *o = json_object();
    json_object_set_new(o, "key", json_string(entry->key));
    json_object_set_new(o, "value", json_string(entry->value));
    json_object_set_new(o, "source", json_string(entry->source));
    json_object_set_new(o, "default", json_string(entry->default_value));
    json_object_set_new(o, "type", json_string(entry->type));
    json_object_set_new(o, "unit", json_string(entry->unit));
    json_object_set_new(o, "allowed", json_string(entry->allowed));
    json_object_set_new(o, "help", json_string(entry->help));
    return json_array_append_new(l->array, o);
}

static int print_all(const config_options *o, const salvo_config *config)
{
    listing l = {.options = o};
    int err = 0;
    if (o->json) {
        l.array = json_array();
        err = salvo_config_each(config, add_object, &l);
        if (err == 0)
            err = json_dumpf(l.array, stdout, JSON_INDENT(2));
        json_decref(l.array);
        putchar('\n');
    } else if (o->markdown) {
        puts("| Key | Value | Source | Type | Unit | Default | Allowed | Meaning |\n"
             "|---|---|---|---|---|---|---|---|");
        err = salvo_config_each(config, print_markdown, &l);
    } else {
        err = salvo_config_each(config, measure, &l);
        err = err ? err : salvo_config_each(config, print_row, &l);
    }
    if (err == 0 && fflush(stdout) == 0)
        return CLI_OK;
    salvo_cli_say("standard output: cannot write the listing");
    return CLI_FAILED;
}

static int parse(int argc, char **argv, config_options *o)
{
    int option;
    while ((option = salvo_cli_getopt(argc, argv, "config", "b:s:h", options_table)) != -1) {
        switch (option) {
        case 'h': fputs(help, stdout); return -1;
        case OPT_CHANGED: o->changed = true; break;
        case OPT_JSON: o->json = true; break;
        case OPT_MARKDOWN: o->markdown = true; break;
        case 'b': salvo_cli_set(&o->settings, "message_broker", optarg, "--broker"); break;
        case 's':
            if (!salvo_cli_set_pair(&o->settings, "config", optarg))
                return CLI_USAGE;
            break;
        case OPT_CONFIG: o->settings.file = optarg; break;
        default: return CLI_USAGE;
        }
    }
    if (optind < argc)
        return salvo_cli_usage("config", "unexpected argument `%s`", argv[optind]);
    if (o->json && o->markdown)
        return salvo_cli_usage("config", "--json and --markdown exclude each other");
    return CLI_OK;
}

static int run(int argc, char **argv)
{
    config_options o = {0};
    int status = parse(argc, argv, &o);
    if (status == CLI_OK) {
        salvo_config *config = salvo_cli_load(&o.settings);
        status = config ? print_all(&o, config) : CLI_USAGE;
        salvo_config_free(config);
    }
    salvo_cli_settings_free(&o.settings);
    return status < 0 ? CLI_OK : status;
}

const salvo_cli_command salvo_cli_config = {"config", "show the configuration in force", help, run};
