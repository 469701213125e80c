/* SPDX-License-Identifier: Apache-2.0
 *
 * `salvo topics`: list, describe, create, ensure, delete. Guarantees: standard output carries what
 * was found or done, a line (with --json one document) that a program can read; what is there is
 * never changed but by delete; status 0 only if all that was asked for is so now.
 */
#include "cli.h"

#include <jansson.h>
#include <salvo/topics.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
    "usage: salvo topics list|describe|create|ensure|delete [TOPIC...] [OPTION...]\n"
    "\n"
    "The topics at the broker: Kafka topics, Redis streams, durable RabbitMQ queues.\n"
    "\n"
    "  list                      all of them (--all: the broker's own too; not of RabbitMQ,\n"
    "                            where `rabbitmqctl list_queues` does it)\n"
    "  describe TOPIC...         these, with the number of messages that they hold\n"
    "  create TOPIC...           one that exists is an error\n"
    "  ensure TOPIC...           create what is not there; what is there and differs is not\n"
    "                            changed, but shown\n"
    "  delete TOPIC...           with all that they hold; nothing asks who uses them\n"
    "\n"
    "Status 0 if it was done (ensure: and all is as wanted); 1 not, 2 usage.\n"
    "\n"
    "      --partitions N        default: 1. More than 1 is Kafka's alone\n"
    "      --replication N       how many brokers keep it; default: 1. Kafka's alone\n"
    "      --retention TIME      how long messages are kept: 500ms, 30s, 15m, 12h, 7d or\n"
    "                            forever; default: the broker's. Not of Redis\n"
    "      --cleanup POLICY      delete, compact or compact,delete; default: the broker's\n"
    "      --all                 list: also what the broker keeps for itself\n"
    "      --json                one JSON array\n"
    "      --timeout MS          for each topic; default: 10000\n"
    "  -b, --broker NAME         kafka, redis, rabbitmq (message_broker)\n"
    "  -s, --set KEY=VALUE       any configuration key; may be repeated\n"
    "      --config FILE         instead of ./core.toml\n"
    "\n"
    "examples\n"
    "  salvo topics list -b kafka\n"
    "  salvo topics create orders --partitions 6 --retention 7d\n"
    "  salvo topics ensure orders --partitions 6 || echo orders differs\n";

enum { OPT_PARTITIONS = CLI_LONG_ONLY, OPT_REPLICATION, OPT_RETENTION, OPT_CLEANUP, OPT_ALL,
       OPT_JSON, OPT_TIMEOUT, OPT_CONFIG };

static const struct option options_table[] = {
    {"partitions", required_argument, NULL, OPT_PARTITIONS},
    {"replication", required_argument, NULL, OPT_REPLICATION},
    {"retention", required_argument, NULL, OPT_RETENTION},
    {"cleanup", required_argument, NULL, OPT_CLEANUP},
    {"all", no_argument, NULL, OPT_ALL},
    {"json", no_argument, NULL, OPT_JSON},
    {"timeout", required_argument, NULL, OPT_TIMEOUT},
    {"broker", required_argument, NULL, 'b'},
    {"set", required_argument, NULL, 's'},
    {"config", required_argument, NULL, OPT_CONFIG},
    {"help", no_argument, NULL, 'h'},
    {0}};

typedef struct topics_options {
    salvo_cli_settings settings;
    salvo_topic_spec spec;
    bool shaped, all, json; /* shaped: what a topic is to be like was said */
    uint64_t timeout_ms;
    char **names;
    int name_count;
} topics_options;

typedef struct run_state {
    const topics_options *options;
    salvo_config *config;
    json_t *array; /* of --json */
} run_state;

/* --- the command line ------------------------------------------------------------------------ */

static bool take_retention(topics_options *o, const char *text)
{
    static const struct {
        const char *unit;
        int64_t ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
    char *end;
    long long number = strtoll(text, &end, 10);
    o->spec.retention_ms = 0;
    if (strcmp(text, "forever") == 0)
        o->spec.retention_ms = SALVO_RETENTION_FOREVER;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (text[0] >= '0' && text[0] <= '9' && number > 0 && strcmp(end, units[i].unit) == 0 &&
            number <= INT64_MAX / units[i].ms)
            o->spec.retention_ms = number * units[i].ms;
    if (o->spec.retention_ms == 0)
        salvo_cli_usage("topics", "--retention: `%s` is no time such as 500ms, 30s, 15m, 12h, 7d, "
                        "nor forever", text);
    return o->spec.retention_ms != 0;
}

static bool take_count(const char *option, const char *text, int32_t *out)
{
    uint64_t number;
    if (!salvo_cli_number("topics", option, text, 1, 100000, &number))
        return false;
    *out = (int32_t)number;
    return true;
}

static bool take_option(topics_options *o, int option, char *text)
{
    o->shaped |= option >= OPT_PARTITIONS && option <= OPT_CLEANUP;
    switch (option) {
    case OPT_PARTITIONS: return take_count("partitions", text, &o->spec.partitions);
    case OPT_REPLICATION: return take_count("replication", text, &o->spec.replication_factor);
    case OPT_RETENTION: return take_retention(o, text);
    case OPT_CLEANUP: o->spec.cleanup_policy = text; return true;
    case OPT_ALL: return o->all = true;
    case OPT_JSON: return o->json = true;
    case OPT_TIMEOUT:
        return salvo_cli_number("topics", "timeout", text, 1, 3600000, &o->timeout_ms);
    case 'b': salvo_cli_set(&o->settings, "message_broker", text, "--broker"); return true;
    case 's': return salvo_cli_set_pair(&o->settings, "topics", text);
    default: o->settings.file = text; return true;
    }
}

static int parse(int argc, char **argv, topics_options *o)
{
    int option;
    o->spec.size = sizeof o->spec;
    o->timeout_ms = 10000;
    while ((option = salvo_cli_getopt(argc, argv, "topics", "b:s:h", options_table)) != -1) {
        if (option == 'h') {
            fputs(help, stdout);
            return -1;
        }
        if (option == '?' || !take_option(o, option, optarg))
            return CLI_USAGE;
    }
    return CLI_OK;
}

/* --- showing --------------------------------------------------------------------------------- */

static const char *number_text(char text[24], int64_t number)
{
    if (number < 0)
        return "-";
    snprintf(text, 24, "%lld", (long long)number);
    return text;
}

/* In the largest unit that loses nothing; "-" where the broker has none or does not tell. */
static const char *retention_text(char text[24], const salvo_topic_info *t)
{
    static const struct {
        const char *unit;
        int64_t ms;
    } units[] = {{"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}};
    if (t->retention_ms < 0)
        return t->retention_ms == SALVO_RETENTION_FOREVER && t->cleanup_policy[0] ? "forever" : "-";
    size_t i = 0;
    while (t->retention_ms % units[i].ms != 0)
        i++;
    snprintf(text, 24, "%lld%s", (long long)(t->retention_ms / units[i].ms), units[i].unit);
    return text;
}

static void print_table(const salvo_topic_info *topics, size_t count)
{
    int width = 5;
    for (size_t i = 0; i < count; i++)
        if ((int)strlen(topics[i].name) > width)
            width = (int)strlen(topics[i].name);
    printf("%-*s  %10s  %11s  %9s  %-14s  %12s\n", width, "topic", "partitions", "replication",
           "retention", "cleanup", "messages");
    for (size_t i = 0; i < count; i++) {
        const salvo_topic_info *t = &topics[i];
        char partitions[24], replication[24], retention[24], messages[24];
        printf("%-*s  %10s  %11s  %9s  %-14s  %12s\n", width, t->name,
               number_text(partitions, t->partitions),
               number_text(replication, t->replication_factor), retention_text(retention, t),
               t->cleanup_policy[0] ? t->cleanup_policy : "-", number_text(messages, t->messages));
    }
}

static json_t *number_json(int64_t number, bool known)
{
    return known ? json_integer(number) : json_null();
}

static json_t *topic_json(const salvo_topic_info *t)
{
    json_t *o = json_object();
    json_object_set_new(o, "name", json_string(t->name));
    json_object_set_new(o, "partitions", number_json(t->partitions, t->partitions >= 0));
    json_object_set_new(o, "replication_factor",
                        number_json(t->replication_factor, t->replication_factor >= 0));
    json_object_set_new(o, "retention_ms",
                        number_json(t->retention_ms, t->retention_ms != SALVO_RETENTION_DEFAULT));
    json_object_set_new(o, "cleanup_policy",
                        t->cleanup_policy[0] ? json_string(t->cleanup_policy) : json_null());
    json_object_set_new(o, "messages", number_json(t->messages, t->messages >= 0));
    json_object_set_new(o, "internal", json_boolean(t->internal != 0));
    return o;
}

static int show(run_state *r, const salvo_topic_info *topics, size_t count)
{
    for (size_t i = 0; r->array && i < count; i++)
        json_array_append_new(r->array, topic_json(&topics[i]));
    if (!r->array)
        print_table(topics, count);
    return CLI_OK;
}

static int failed(void)
{
    salvo_cli_say("%s", salvo_last_error());
    return CLI_FAILED;
}

/* "orders: created", or the same as JSON. */
static void done(run_state *r, const char *name, const char *what, const char *differences)
{
    if (!r->array) {
        printf("%s: %s\n", name, what);
        for (const char *at = differences; *at; at += strcspn(at, "\n"), at += *at == '\n')
            printf("  %.*s\n", (int)strcspn(at, "\n"), at);
        return;
    }
    json_t *o = json_object(), *lines = json_array();
    json_object_set_new(o, "name", json_string(name));
    json_object_set_new(o, "result", json_string(what));
    for (const char *at = differences; *at; at += strcspn(at, "\n"), at += *at == '\n')
        json_array_append_new(lines, json_stringn(at, strcspn(at, "\n")));
    json_object_set_new(o, "differences", lines);
    json_array_append_new(r->array, o);
}

/* --- the verbs ------------------------------------------------------------------------------- */

static int list(run_state *r)
{
    salvo_topic_info *topics = NULL;
    size_t room = 256, shown = 0;
    int64_t count = 0;
    do { /* more may have come meanwhile */
        room = (size_t)count > room ? (size_t)count : room;
        topics = salvo_cli_realloc(topics, room * sizeof *topics);
        count = salvo_topic_list(r->config, NULL, topics, room,
                                 (uint32_t)r->options->timeout_ms);
    } while (count > (int64_t)room);
    for (int64_t i = 0; i < count; i++)
        if (r->options->all || !topics[i].internal)
            topics[shown++] = topics[i];
    int status = count < 0 ? failed() : show(r, topics, shown);
    free(topics);
    return status;
}

static int describe(run_state *r)
{
    size_t shown = 0;
    int status = CLI_OK;
    salvo_topic_info *topics = salvo_cli_alloc((size_t)r->options->name_count * sizeof *topics);
    for (int i = 0; i < r->options->name_count; i++) {
        if (salvo_topic_describe(r->config, NULL, r->options->names[i], &topics[shown],
                                 (uint32_t)r->options->timeout_ms) == 0)
            shown++;
        else
            status = failed();
    }
    if (shown > 0 || r->array)
        show(r, topics, shown);
    free(topics);
    return status;
}

static int create(run_state *r)
{
    int status = CLI_OK;
    for (int i = 0; i < r->options->name_count; i++) {
        salvo_topic_spec spec = r->options->spec;
        spec.name = r->options->names[i];
        if (salvo_topic_create(r->config, NULL, &spec, (uint32_t)r->options->timeout_ms) == 0)
            done(r, spec.name, "created", "");
        else
            status = failed();
    }
    return status;
}

static int ensure(run_state *r)
{
    static const char *const words[] = {"as wanted", "created", "different"};
    int status = CLI_OK;
    for (int i = 0; i < r->options->name_count; i++) {
        char differences[1024];
        salvo_topic_spec spec = r->options->spec;
        spec.name = r->options->names[i];
        int how = salvo_topic_ensure(r->config, NULL, &spec, differences, sizeof differences,
                                     (uint32_t)r->options->timeout_ms);
        if (how < 0)
            status = failed();
        else
            done(r, spec.name, words[how], differences);
        if (how == 2)
            status = CLI_FAILED;
    }
    return status;
}

static int delete(run_state *r)
{
    int status = CLI_OK;
    for (int i = 0; i < r->options->name_count; i++) {
        if (salvo_topic_delete(r->config, r->options->names[i],
                               (uint32_t)r->options->timeout_ms) == 0)
            done(r, r->options->names[i], "deleted", "");
        else
            status = failed();
    }
    return status;
}

static const struct verb {
    const char *name;
    bool names, shapes; /* wants topics; a shape means something */
    int (*run)(run_state *r);
} verbs[] = {{"list", false, false, list},
             {"describe", true, false, describe},
             {"create", true, true, create},
             {"ensure", true, true, ensure},
             {"delete", true, false, delete}};
#define VERBS (sizeof verbs / sizeof *verbs)

static const struct verb *find_verb(const char *name)
{
    const char *names[VERBS];
    for (size_t i = 0; i < VERBS; i++) {
        names[i] = verbs[i].name;
        if (name && strcmp(name, names[i]) == 0)
            return &verbs[i];
    }
    const char *near = name ? salvo_cli_nearest(name, names, VERBS) : NULL;
    if (near)
        salvo_cli_usage("topics", "unknown action `%s`; did you mean `%s`?", name, near);
    else
        salvo_cli_usage("topics", "%s%s%s; allowed: list, describe, create, ensure, delete",
                        name ? "unknown action `" : "what is to be done is missing",
                        name ? name : "", name ? "`" : "");
    return NULL;
}

static int check(const topics_options *o, const struct verb *verb)
{
    if (verb->names && o->name_count == 0)
        return salvo_cli_usage("topics", "%s: which topic?", verb->name);
    if (!verb->names && o->name_count > 0)
        return salvo_cli_usage("topics", "%s: unexpected argument `%s`", verb->name, o->names[0]);
    if (o->shaped && !verb->shapes)
        return salvo_cli_usage("topics", "%s takes no --partitions, --replication, --retention "
                               "or --cleanup", verb->name);
    if (o->all && verb->names)
        return salvo_cli_usage("topics", "%s takes no --all", verb->name);
    return CLI_OK;
}

static int run_with(const topics_options *o, const struct verb *verb)
{
    run_state r = {.options = o, .config = salvo_cli_load(&o->settings)};
    if (!r.config)
        return CLI_USAGE;
    r.array = o->json ? json_array() : NULL;
    int status = verb->run(&r);
    if (r.array && (json_dumpf(r.array, stdout, JSON_INDENT(2)) != 0 || putchar('\n') == EOF))
        status = CLI_FAILED;
    json_decref(r.array);
    salvo_config_free(r.config);
    return status;
}

static int run(int argc, char **argv)
{
    topics_options o = {0};
    int status = parse(argc, argv, &o);
    const struct verb *verb = NULL;
    if (status == CLI_OK && !(verb = find_verb(argv[optind])))
        status = CLI_USAGE;
    if (status == CLI_OK) {
        o.names = argv + optind + 1;
        o.name_count = argc - optind - 1;
        status = check(&o, verb);
    }
    if (status == CLI_OK)
        status = run_with(&o, verb);
    salvo_cli_settings_free(&o.settings);
    return status < 0 ? CLI_OK : status;
}

const salvo_cli_command salvo_cli_topics = {"topics", "list, create, check and delete topics", help,
                                            run};
