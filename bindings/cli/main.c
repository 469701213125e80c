/* SPDX-License-Identifier: Apache-2.0
 *
 * The salvo command: finds the subcommand and runs it. Unknown names get one line with the
 * nearest known one and status 2.
 */
#include "cli.h"

#include <stdio.h>
#include <string.h>

static const salvo_cli_command *const commands[] = {
    &salvo_cli_produce, &salvo_cli_consume, &salvo_cli_topics, &salvo_cli_lag,
    &salvo_cli_bench, &salvo_cli_config, &salvo_cli_plan,
    &salvo_cli_probe, &salvo_cli_record,
    &salvo_cli_version,
    &salvo_cli_report, &salvo_cli_top, &salvo_cli_metrics};
#define COMMANDS (sizeof commands / sizeof commands[0])

static int run_version(int argc, char **argv)
{
    static const struct option options[] = {{"help", no_argument, NULL, 'h'}, {0}};
    int option;
    while ((option = salvo_cli_getopt(argc, argv, "version", "h", options)) != -1) {
        if (option != 'h')
            return CLI_USAGE;
        fputs(salvo_cli_version.help, stdout);
        return CLI_OK;
    }
    if (optind < argc)
        return salvo_cli_usage("version", "unexpected argument `%s`", argv[optind]);
    printf("salvo %s\n", salvo_version());
    return CLI_OK;
}

const salvo_cli_command salvo_cli_version = {
    "version", "print the version",
    "usage: salvo version\n\nPrints the version of the engine that is linked.\n", run_version};

static void print_help(FILE *to)
{
    fputs("usage: salvo COMMAND [OPTION...]\n\n"
          "Send messages to Kafka, Redis or RabbitMQ with an exact account; see, measure\n"
          "and plan it.\n\ncommands\n", to);
    for (size_t i = 0; i < COMMANDS; i++)
        fprintf(to, "  %-9s %s\n", commands[i]->name, commands[i]->summary);
    fputs("\n`salvo COMMAND --help` tells the rest; so does man salvo.\n\nexamples\n"
          "  seq 1000000 | salvo produce --broker kafka --topic numbers\n"
          "  salvo consume --broker kafka --topic numbers --exit-at-end\n"
          "  salvo produce --broker redis -s redis_url=redis://localhost:6379/0 -t lines FILE\n"
          "  salvo produce --broker rabbitmq -t lines FILE\n"
          "  salvo bench --broker kafka --rate 50k --out result.json\n"
          "  salvo top\n"
          "  salvo plan --rate 80k --size 100 --p99 10ms --outage 10s\n"
          "  salvo config --changed\n", to);
}

static int unknown(const char *name)
{
    const char *names[COMMANDS];
    for (size_t i = 0; i < COMMANDS; i++)
        names[i] = commands[i]->name;
    const char *near = salvo_cli_nearest(name, names, COMMANDS);
    const char *what = name[0] == '-' ? "option" : "command";
    if (near)
        salvo_cli_say("unknown %s `%s`; did you mean `%s`? See salvo --help", what, name, near);
    else
        salvo_cli_say("unknown %s `%s`; see salvo --help", what, name);
    return CLI_USAGE;
}

static const salvo_cli_command *find(const char *name)
{
    for (size_t i = 0; i < COMMANDS; i++)
        if (strcmp(name, commands[i]->name) == 0)
            return commands[i];
    return NULL;
}

/* Help and version text is data too: a full disk must not pass for success. */
static int finish(int status)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return status;
    return status != CLI_OK ? status : CLI_FAILED;
}

int main(int argc, char **argv)
{
    salvo_set_log(salvo_cli_log, NULL);
    if (argc < 2) {
        print_help(stderr);
        return CLI_USAGE;
    }
    const char *name = argv[1];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        const salvo_cli_command *about = argc > 2 ? find(argv[2]) : NULL;
        if (argc > 2 && !about)
            return unknown(argv[2]);
        if (about)
            fputs(about->help, stdout);
        else
            print_help(stdout);
        return finish(CLI_OK);
    }
    if (strcmp(name, "--version") == 0)
        name = "version";
    const salvo_cli_command *command = find(name);
    if (!command)
        return unknown(name);
    return finish(command->run(argc - 1, argv + 1));
}
