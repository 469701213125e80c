/* SPDX-License-Identifier: Apache-2.0
 *
 * `salvo lag`: where a group of consumers stands on topics, without joining it. Guarantees:
 * nothing is changed at the broker; what it does not tell is shown as `-`, never as 0.
 */
#include "cli.h"

#include <jansson.h>
#include <salvo/consumer.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
    "usage: salvo lag --group GROUP --topic TOPIC [OPTION...]\n"
    "\n"
    "How many messages a group of consumers has still to settle, by partition. Nothing is\n"
    "joined, nothing changed. Where a Kafka group committed nothing yet, it is counted from\n"
    "where kafka_auto_offset_reset lets it begin. A RabbitMQ queue knows no groups: what waits\n"
    "in it is counted, without what consumers have in hand.\n"
    "Status 0 if all was told; 1 not, 2 usage, 3 with --most: a lag is above it.\n"
    "\n"
    "  -g, --group GROUP         required\n"
    "  -t, --topic TOPIC         required; may be repeated\n"
    "      --most N              status 3 if the lag of a topic is above N: for alerts\n"
    "      --json                one JSON array\n"
    "      --timeout MS          for each topic; default: 10000\n"
    "  -b, --broker NAME         kafka, redis, rabbitmq (message_broker)\n"
    "  -s, --set KEY=VALUE       any configuration key; may be repeated\n"
    "      --config FILE         instead of ./core.toml\n";

enum { OPT_MOST = CLI_LONG_ONLY, OPT_JSON, OPT_TIMEOUT, OPT_CONFIG };
enum { TOPICS_MAX = 256, FIRST_ROWS = 64, ABOVE = 3 };

static const struct option options_table[] = {{"group", required_argument, NULL, 'g'},
                                              {"topic", required_argument, NULL, 't'},
                                              {"most", required_argument, NULL, OPT_MOST},
                                              {"json", no_argument, NULL, OPT_JSON},
                                              {"timeout", required_argument, NULL, OPT_TIMEOUT},
                                              {"broker", required_argument, NULL, 'b'},
                                              {"set", required_argument, NULL, 's'},
                                              {"config", required_argument, NULL, OPT_CONFIG},
                                              {"help", no_argument, NULL, 'h'},
                                              {0}};

typedef struct lag_options {
    salvo_cli_settings settings;
    const char *group, *topics[TOPICS_MAX];
    size_t topic_count;
    uint64_t timeout_ms, most;
    bool json, bounded; /* bounded: by most */
} lag_options;

typedef struct rows {
    salvo_lag *row;
    size_t count, room;
} rows;

static bool take_topic(lag_options *o, const char *text)
{
    if (o->topic_count == TOPICS_MAX) {
        salvo_cli_usage("lag", "--topic: at most %d of them", TOPICS_MAX);
        return false;
    }
    o->topics[o->topic_count++] = text;
    return true;
}

static bool take_option(lag_options *o, int option, char *text)
{
    switch (option) {
    case 'g': o->group = text; return true;
    case 't': return take_topic(o, text);
    case OPT_MOST:
        o->bounded = true;
        return salvo_cli_number("lag", "most", text, 0, INT64_MAX, &o->most);
    case OPT_JSON: return o->json = true;
    case OPT_TIMEOUT: return salvo_cli_number("lag", "timeout", text, 1, 3600000, &o->timeout_ms);
    case 'b': salvo_cli_set(&o->settings, "message_broker", text, "--broker"); return true;
    case 's': return salvo_cli_set_pair(&o->settings, "lag", text);
    default: o->settings.file = text; return true;
    }
}

static int parse(int argc, char **argv, lag_options *o)
{
    int option;
    o->timeout_ms = 10000;
    while ((option = salvo_cli_getopt(argc, argv, "lag", "g:t:b:s:h", options_table)) != -1) {
        if (option == 'h') {
            fputs(help, stdout);
            return -1;
        }
        if (option == '?' || !take_option(o, option, optarg))
            return CLI_USAGE;
    }
    if (optind < argc)
        return salvo_cli_usage("lag", "unexpected argument `%s`", argv[optind]);
    if (!o->group)
        return salvo_cli_usage("lag", "--group is missing");
    return o->topic_count ? CLI_OK : salvo_cli_usage("lag", "--topic is missing");
}

/* The topic's partitions behind those that are there; false after a printed error. */
static bool ask(const lag_options *o, const salvo_config *config, const char *topic, rows *r)
{
    size_t wanted = FIRST_ROWS;
    for (;;) {
        r->room = r->count + wanted;
        r->row = salvo_cli_realloc(r->row, r->room * sizeof *r->row);
        int64_t n = salvo_group_lag(config, NULL, o->group, topic, r->row + r->count, wanted,
                                    (uint32_t)o->timeout_ms);
        if (n < 0) {
            salvo_cli_say("%s", salvo_last_error());
            return false;
        }
        if ((size_t)n <= wanted) {
            r->count += (size_t)n;
            return true;
        }
        wanted = (size_t)n;
    }
}

static const char *number_text(char text[24], int64_t number)
{
    if (number < 0)
        return "-";
    snprintf(text, 24, "%lld", (long long)number);
    return text;
}

static void print_table(const rows *r)
{
    int width = 5;
    for (size_t i = 0; i < r->count; i++)
        if ((int)strlen(r->row[i].topic) > width)
            width = (int)strlen(r->row[i].topic);
    printf("%-*s  %9s  %20s  %20s  %12s\n", width, "topic", "partition", "committed", "end", "lag");
    for (size_t i = 0; i < r->count; i++) {
        const salvo_lag *l = &r->row[i];
        char committed[24], end[24], lag[24];
        printf("%-*s  %9d  %20s  %20s  %12s\n", width, l->topic, (int)l->partition,
               number_text(committed, l->committed), number_text(end, l->end),
               number_text(lag, l->lag));
    }
}

static json_t *number_json(int64_t number)
{
    return number < 0 ? json_null() : json_integer(number);
}

static int print_json(const lag_options *o, const rows *r)
{
    json_t *array = json_array();
    for (size_t i = 0; i < r->count; i++) {
        const salvo_lag *l = &r->row[i];
        json_t *row = json_object();
        json_object_set_new(row, "group", json_string(o->group));
        json_object_set_new(row, "topic", json_string(l->topic));
        json_object_set_new(row, "partition", json_integer(l->partition));
        json_object_set_new(row, "committed", number_json(l->committed));
        json_object_set_new(row, "end", number_json(l->end));
        json_object_set_new(row, "lag", number_json(l->lag));
        json_array_append_new(array, row);
    }
    int failed = json_dumpf(array, stdout, JSON_INDENT(2)) != 0 || putchar('\n') == EOF;
    json_decref(array);
    return failed ? CLI_FAILED : CLI_OK;
}

/* An unknown lag may be any: it is above every bound. */
static bool above(const lag_options *o, const salvo_lag *row, size_t count)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++) {
        if (row[i].lag < 0)
            return true;
        sum += (uint64_t)row[i].lag;
    }
    return sum > o->most;
}

static int run_with(const lag_options *o, const salvo_config *config)
{
    rows r = {0};
    int status = CLI_OK;
    for (size_t i = 0; i < o->topic_count; i++) {
        size_t first = r.count;
        if (!ask(o, config, o->topics[i], &r))
            status = CLI_FAILED;
        else if (status == CLI_OK && o->bounded && above(o, r.row + first, r.count - first))
            status = ABOVE;
    }
    if (o->json) {
        int printed = print_json(o, &r);
        status = printed != CLI_OK ? printed : status;
    } else if (r.count > 0) {
        print_table(&r);
    }
    free(r.row);
    return status;
}

static int run(int argc, char **argv)
{
    lag_options o = {0};
    int status = parse(argc, argv, &o);
    if (status == CLI_OK) {
        salvo_config *config = salvo_cli_load(&o.settings);
        status = config ? run_with(&o, config) : CLI_USAGE;
        salvo_config_free(config);
    }
    salvo_cli_settings_free(&o.settings);
    return status < 0 ? CLI_OK : status;
}

const salvo_cli_command salvo_cli_lag = {"lag", "show where a consumer group stands", help, run};
