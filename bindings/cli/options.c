/* SPDX-License-Identifier: Apache-2.0
 *
 * Option parsing and the effective configuration of the salvo command. Every error is one line
 * that names the option, the value and what is allowed.
 */
#include "cli.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Levenshtein distance of two short names; anything longer than the row is never near. */
static size_t distance(const char *a, const char *b)
{
    size_t row[64];
    size_t a_len = strlen(a), b_len = strlen(b);
    if (b_len >= 63 || a_len >= 63)
        return SIZE_MAX;
    for (size_t j = 0; j <= b_len; j++)
        row[j] = j;
    for (size_t i = 1; i <= a_len; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b_len; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[b_len];
}

const char *salvo_cli_nearest(const char *word, const char *const *names, size_t count)
{
    const char *found = NULL;
    size_t best = strlen(word) / 3 + 2; /* further than that is another word */
    for (size_t i = 0; i < count; i++) {
        size_t d = distance(word, names[i]);
        if (d < best) {
            best = d;
            found = names[i];
        }
    }
    return found;
}

static void unknown_option(const char *command, const char *given, const struct option *options)
{
    const char *names[64];
    size_t count = 0;
    while (options[count].name && count < 64) {
        names[count] = options[count].name;
        count++;
    }
    char word[64] = "";
    const char *start = given + strspn(given, "-");
    size_t len = strcspn(start, "=");
    if (len < sizeof word)
        memcpy(word, start, len);
    const char *near = salvo_cli_nearest(word, names, count);
    if (near)
        salvo_cli_usage(command, "unknown option `--%.*s`; did you mean `--%s`?", (int)len, start,
                        near);
    else
        salvo_cli_usage(command, "unknown option `--%.*s`", (int)len, start);
}

/* The begin of a long option's name, which getopt_long would take for it. Commands look for some
 * options before all are read, by their whole names: a shorter one would be taken and do nothing.
 * True after a printed error that names what it may mean. */
static bool abbreviated(const char *command, const char *word, const struct option *options)
{
    char names[512] = "";
    const char *given = word + 2;
    size_t len = strcspn(given, "=");
    if (strncmp(word, "--", 2) != 0 || len == 0)
        return false;
    for (; options->name; options++) {
        size_t used = strlen(names);
        if (strncmp(options->name, given, len) != 0)
            continue;
        if (options->name[len] == '\0')
            return false;
        snprintf(names + used, sizeof names - used, "%s`--%s`", used ? ", " : "", options->name);
    }
    if (names[0] != '\0')
        salvo_cli_usage(command, "option `--%.*s` is not written out; it may be %s", (int)len,
                        given, names);
    return names[0] != '\0';
}

int salvo_cli_getopt(int argc, char **argv, const char *command, const char *letters,
                     const struct option *options)
{
    char text[64] = ":"; /* tells a missing argument from an unknown option */
    int index = -1;
    strncat(text, letters, sizeof text - 2);
    opterr = 0;
    int at = optind;
    int option = getopt_long(argc, argv, text, options, &index);
    bool apart = index >= 0 && optarg != NULL && optarg == argv[optind - 1]; /* from its value */
    bool named = index >= 0 || option == ':' || option == '?';
    if (named && abbreviated(command, argv[optind - (apart ? 2 : 1)], options))
        return '?';
    if (option == ':') {
        salvo_cli_usage(command, "option `%s` needs a value", argv[optind - 1]);
        return '?';
    }
    if (option != '?')
        return option;
    if (optopt == 0)
        unknown_option(command, argv[optind - 1], options);
    else if (optopt < CLI_LONG_ONLY && strncmp(argv[at], "--", 2) != 0)
        salvo_cli_usage(command, "unknown option `-%c`", optopt);
    else
        salvo_cli_usage(command, "option `%.*s` takes no value",
                        (int)strcspn(argv[optind - 1], "="), argv[optind - 1]);
    return '?';
}

bool salvo_cli_number(const char *command, const char *option, const char *text, uint64_t low,
                      uint64_t high, uint64_t *out)
{
    char *end = NULL;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    bool whole = text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0;
    if (whole && value >= low && value <= high) {
        *out = value;
        return true;
    }
    salvo_cli_usage(command, "--%s: `%s` is not a whole number from %llu to %llu", option, text,
                    (unsigned long long)low, (unsigned long long)high);
    return false;
}

void salvo_cli_set(salvo_cli_settings *settings, const char *key, const char *value,
                   const char *source)
{
    size_t size = (settings->count + 1) * sizeof *settings->set;
    settings->set = salvo_cli_realloc(settings->set, size);
    settings->set[settings->count].key = key;
    settings->set[settings->count].value = value;
    settings->set[settings->count].source = source;
    settings->count++;
}

bool salvo_cli_set_pair(salvo_cli_settings *settings, const char *command, const char *pair)
{
    const char *equals = strchr(pair, '=');
    if (!equals || equals == pair) {
        salvo_cli_usage(command, "--set: `%s` is not key=value", pair);
        return false;
    }
    char *key = strndup(pair, (size_t)(equals - pair));
    size_t size = (settings->owned_count + 1) * sizeof *settings->owned;
    settings->owned = salvo_cli_realloc(settings->owned, size);
    settings->owned[settings->owned_count++] = key;
    if (!key) {
        salvo_cli_say("out of memory");
        return false;
    }
    salvo_cli_set(settings, key, equals + 1, "--set");
    return true;
}

void salvo_cli_settings_free(salvo_cli_settings *settings)
{
    for (size_t i = 0; i < settings->owned_count; i++)
        free(settings->owned[i]);
    free(settings->owned);
    free(settings->set);
    *settings = (salvo_cli_settings){0};
}

static int apply(const salvo_cli_settings *settings, salvo_config *config)
{
    int err = salvo_config_load_file(config, settings->file);
    if (err == 0)
        err = salvo_config_load_env(config);
    for (size_t i = 0; i < settings->count && err == 0; i++)
        err = salvo_config_set_from(config, settings->set[i].key, settings->set[i].value,
                                    settings->set[i].source);
    return err;
}

salvo_config *salvo_cli_load(const salvo_cli_settings *settings)
{
    salvo_config *config = NULL;
    int err = salvo_config_new(&config);
    if (err != 0) {
        salvo_cli_say("configuration: %s", salvo_strerror(err));
        return NULL;
    }
    err = apply(settings, config);
    if (err == 0)
        return config;
    const char *text = salvo_config_error(config);
    salvo_cli_say("%s", text && *text ? text : salvo_strerror(err));
    salvo_config_free(config);
    return NULL;
}

uint64_t salvo_cli_config_number(const salvo_config *config, const char *key, uint64_t fallback)
{
    const char *text = salvo_config_get(config, key);
    char *end = NULL;
    if (!text || !*text)
        return fallback;
    unsigned long long value = strtoull(text, &end, 10);
    return *end == '\0' ? value : fallback;
}

struct search {
    const char *key;
    bool set;
};

static int look(const salvo_config_entry *entry, void *context)
{
    struct search *search = context;
    if (strcmp(entry->key, search->key) != 0)
        return 0;
    search->set = strcmp(entry->source, "default") != 0;
    return 1;
}

bool salvo_cli_config_is_set(const salvo_config *config, const char *key)
{
    struct search search = {.key = key};
    salvo_config_each(config, look, &search);
    return search.set;
}
