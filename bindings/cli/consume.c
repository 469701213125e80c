/* SPDX-License-Identifier: Apache-2.0
 *
 * `salvo consume`: prints what arrived. Guarantees: standard output carries records only; status
 * 0 only if all that was asked for was read and written; a closed pipe ends it quietly, a full
 * disk with an error. Records are written at once when no more are waiting.
 */
#include "consume.h"
#include "consume_format.h"

#include <errno.h>
#include <salvo/reader.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OUTPUT_BYTES (256u << 10)

static const char help[] =
    "usage: salvo consume --topic TOPIC [OPTION...]\n"
    "\n"
    "Prints the records of a topic: a Kafka topic, a Redis stream, a RabbitMQ queue. Without\n"
    "--group it takes nothing away: no offset is committed, no group joined, no message\n"
    "acknowledged. While it runs, other consumers of a RabbitMQ queue do not get what it was\n"
    "shown. With --group it is a member: it gets its share of what the group has not settled,\n"
    "and acknowledges what it has printed; what it has not is given to the group again.\n"
    "Values that salvo compressed come back as they were.\n"
    "Status 0 if all that was asked for was read; 1 not, 2 usage, 130 interrupted.\n"
    "\n"
    "  -b, --broker NAME         kafka, redis, rabbitmq (message_broker)\n"
    "  -t, --topic TOPIC         required\n"
    "  -g, --group GROUP         join this consumer group\n"
    "      --member NAME         this member's name in the group, kept over restarts\n"
    "      --from beginning|end  where to begin; default: beginning. With --group: where a group\n"
    "                            begins that has settled nothing (kafka_auto_offset_reset)\n"
    "  -n, --count N             end after N records\n"
    "      --exit-at-end         end where the topic ended when the command began\n"
    "      --timeout MS          end when nothing came for so long\n"
    "  -f, --format FORMAT       value (default), key-value, json, or a text such as\n"
    "                            '%t/%p/%o %k %v\\n': %k key, %v value, %p partition,\n"
    "                            %o offset, %t topic, %T Unix time in ms, %h headers, %% a\n"
    "                            percent sign, \\n \\t \\r \\0 \\\\ as in C\n"
    "      --avro                values are Avro in Confluent's wire format: print them as JSON\n"
    "                            (kafka_schema_registry_url)\n"
    "  -s, --set KEY=VALUE       any configuration key; may be repeated\n"
    "      --config FILE         instead of ./core.toml\n";

enum { OPT_FROM = CLI_LONG_ONLY, OPT_EXIT, OPT_TIMEOUT, OPT_CONFIG, OPT_MEMBER, OPT_AVRO };

static const struct option options_table[] = {{"broker", required_argument, NULL, 'b'},
                                              {"topic", required_argument, NULL, 't'},
                                              {"group", required_argument, NULL, 'g'},
                                              {"member", required_argument, NULL, OPT_MEMBER},
                                              {"from", required_argument, NULL, OPT_FROM},
                                              {"count", required_argument, NULL, 'n'},
                                              {"format", required_argument, NULL, 'f'},
                                              {"timeout", required_argument, NULL, OPT_TIMEOUT},
                                              {"avro", no_argument, NULL, OPT_AVRO},
                                              {"exit-at-end", no_argument, NULL, OPT_EXIT},
                                              {"set", required_argument, NULL, 's'},
                                              {"config", required_argument, NULL, OPT_CONFIG},
                                              {"help", no_argument, NULL, 'h'},
                                              {0}};

static bool take_from(consume_options *o, const char *text)
{
    o->from_end = strcmp(text, "end") == 0;
    if (o->from_end || strcmp(text, "beginning") == 0) {
        salvo_cli_set(&o->settings, "kafka_auto_offset_reset", o->from_end ? "latest" : "earliest",
                      "--from");
        return true;
    }
    salvo_cli_usage("consume", "--from: `%s` is not beginning or end", text);
    return false;
}

static bool take_format(consume_options *o, const char *text)
{
    const char *wrong = salvo_format_check(text);
    o->format = text;
    if (wrong)
        salvo_cli_usage("consume", "--format: `%s`: %s", text, wrong);
    return !wrong;
}

static bool take_option(consume_options *o, int option, char *text)
{
    switch (option) {
    case 'b': salvo_cli_set(&o->settings, "message_broker", text, "--broker"); return true;
    case 't': o->topic = text; return true;
    case 'g': o->group = text; return true;
    case OPT_MEMBER: o->member = text; return true;
    case OPT_FROM: return take_from(o, text);
    case 'n': return salvo_cli_number("consume", "count", text, 1, INT64_MAX, &o->count);
    case 'f': return take_format(o, text);
    case OPT_TIMEOUT:
        return salvo_cli_number("consume", "timeout", text, 1, 1000000000, &o->timeout_ms);
    case OPT_EXIT: return o->exit_at_end = true;
    case OPT_AVRO: return o->as_avro = true;
    case 's': return salvo_cli_set_pair(&o->settings, "consume", text);
    default: o->settings.file = text; return true;
    }
}

static int parse(int argc, char **argv, consume_options *o)
{
    int option;
    while ((option = salvo_cli_getopt(argc, argv, "consume", "b:t:g:n:f:s:h", options_table)) !=
           -1) {
        if (option == 'h') {
            fputs(help, stdout);
            return -1;
        }
        if (option == '?' || !take_option(o, option, optarg))
            return CLI_USAGE;
    }
    if (optind < argc)
        return salvo_cli_usage("consume", "unexpected argument `%s`", argv[optind]);
    if (o->member && !o->group)
        return salvo_cli_usage("consume", "--member is a name in a group: --group is missing");
    if (o->exit_at_end && o->group)
        return salvo_cli_usage("consume", "a group has no end: use --timeout or --count instead "
                                          "of --exit-at-end");
    return o->topic ? CLI_OK : salvo_cli_usage("consume", "--topic is missing");
}

int salvo_consume_write_failed(void)
{
    if (errno != EPIPE)
        salvo_cli_say("standard output: cannot write: %s", strerror(errno));
    return CLI_FAILED;
}

int salvo_consume_read_failed(int err, uint64_t count)
{
    const char *text = salvo_last_error();
    salvo_cli_say("after %llu records: %s", (unsigned long long)count,
                  *text ? text : salvo_strerror(err));
    return CLI_FAILED;
}

/* Nothing came for a while: what was asked for decides whether that is an end. */
int salvo_consume_timed_out(const consume_options *o, uint64_t count)
{
    if (o->count == 0)
        return CLI_OK;
    salvo_cli_say("only %llu of %llu records came before %llu ms passed without one",
                  (unsigned long long)count, (unsigned long long)o->count,
                  (unsigned long long)o->timeout_ms);
    return CLI_FAILED;
}

int salvo_consume_print(const consume_options *o, const salvo_record *record)
{
    char error[600];
    salvo_record shown = *record;
    bool decoded = o->avro && record->value;
    if (decoded) {
        salvo_bytes value = {record->value, record->value_len};
        if (!salvo_cli_avro_decode(o->avro, &value, error, sizeof error)) {
            salvo_cli_say("partition %d, offset %lld: %s", (int)record->partition,
                          (long long)record->offset, error);
            return CLI_FAILED;
        }
        shown.value = value.data;
        shown.value_len = value.len;
    }
    return salvo_format_write(stdout, o->format, &shown, decoded) ? CLI_OK
                                                                  : salvo_consume_write_failed();
}

static int copy_records(salvo_reader *reader, const consume_options *o)
{
    uint64_t count = 0, last_ns = salvo_cli_now_ns();
    bool waiting = false;
    salvo_record record;
    while (o->count == 0 || count < o->count) {
        if (salvo_cli_signals() > 0)
            return CLI_INTERRUPTED;
        int err = salvo_reader_next(reader, waiting ? CONSUME_SLICE_MS : 0, &record);
        if (err == 0) {
            int status = salvo_consume_print(o, &record);
            if (status != CLI_OK)
                return status;
            waiting = false;
            last_ns = 0;
            count++;
            continue;
        }
        if (err == SALVO_ERR_END)
            return CLI_OK;
        if (err != SALVO_ERR_TIMEOUT && err != SALVO_ERR_INTERRUPTED)
            return salvo_consume_read_failed(err, count);
        if (fflush(stdout) != 0)
            return salvo_consume_write_failed();
        waiting = true;
        uint64_t now = salvo_cli_now_ns();
        last_ns = last_ns ? last_ns : now;
        if (o->timeout_ms && now - last_ns >= o->timeout_ms * 1000000)
            return salvo_consume_timed_out(o, count);
    }
    return CLI_OK;
}

static int with_config(const consume_options *o, const salvo_config *config)
{
    const char *broker = salvo_config_get(config, "message_broker");
    if (broker && strcmp(broker, "memory") == 0) {
        salvo_cli_say("the broker `memory` lives in one process and holds nothing here; "
                      "consume reads another broker, e.g. --broker kafka");
        return CLI_FAILED;
    }
    if (o->group)
        return salvo_consume_group(o, config);
    salvo_reader *reader = NULL;
    salvo_reader_options options = {.size = sizeof options, .from_end = o->from_end,
                                    .stop_at_end = o->exit_at_end};
    int err = salvo_reader_open(config, NULL, o->topic, &options, &reader);
    if (err != 0) {
        const char *text = salvo_last_error();
        salvo_cli_say("%s", *text ? text : salvo_strerror(err));
        return salvo_cli_signals() > 0 ? CLI_INTERRUPTED : CLI_FAILED;
    }
    int status = copy_records(reader, o);
    salvo_reader_close(reader);
    if (fflush(stdout) != 0 && status == CLI_OK)
        status = salvo_consume_write_failed();
    return status;
}

static int run(int argc, char **argv)
{
    static char buffer[OUTPUT_BYTES];
    consume_options o = {.format = "value"};
    salvo_cli_avro avro = {0};
    int status = parse(argc, argv, &o);
    if (status == CLI_OK) {
        setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
        salvo_cli_catch_signals();
        salvo_config *config = salvo_cli_load(&o.settings);
        status = config ? CLI_OK : CLI_USAGE;
        if (status == CLI_OK && o.as_avro) {
            o.avro = &avro;
            status = salvo_cli_avro_read(&avro, config);
        }
        if (status == CLI_OK)
            status = with_config(&o, config);
        salvo_cli_avro_close(&avro);
        salvo_config_free(config);
    }
    salvo_cli_settings_free(&o.settings);
    return status < 0 ? CLI_OK : status;
}

const salvo_cli_command salvo_cli_consume = {"consume", "print the records of a topic", help, run};
