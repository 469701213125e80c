/* SPDX-License-Identifier: Apache-2.0
 *
 * `salvo metrics`: all producers of this user on this host for Prometheus, from outside: printed
 * once, or served by HTTP until a signal comes.
 */
#include "cli.h"

#include <poll.h>
#include <salvo/metrics.h>
#include <stdio.h>
#include <string.h>

enum { ONCE_OPTION = CLI_LONG_ONLY, LISTEN_OPTION, DIR_OPTION, FORMAT_OPTION };

static const char help[] =
    "usage: salvo metrics [OPTION...]\n\n"
    "Serve the metrics of all producers of this user on this host, from outside, at /metrics:\n"
    "as OpenMetrics where the scraper asks for it, else in Prometheus' text format.\n\n"
    "      --listen ADDRESS  PORT, ADDRESS:PORT or [ADDRESS]:PORT (default 127.0.0.1:9464);\n"
    "                        without an address the loopback; port 0: any, printed\n"
    "      --once            print the metrics to standard output and end\n"
    "      --format FORMAT   of --once: openmetrics (default) or prometheus\n"
    "      --dir DIR         the producers' stats_dir (default /dev/shm/salvo-UID)\n"
    "  -h, --help\n\n"
    "A producer can serve its own from inside: the key metrics_listen.\n\n"
    "examples\n"
    "  salvo metrics &\n"
    "  curl -s http://127.0.0.1:9464/metrics\n"
    "  salvo metrics --once --format prometheus | promtool check metrics\n";

static int serve(const char *listen, const char *directory)
{
    salvo_metrics_server *server;
    salvo_cli_catch_signals();
    if (salvo_metrics_serve(listen, directory, &server) != 0) {
        salvo_cli_say("%s", salvo_last_error());
        return CLI_FAILED;
    }
    salvo_cli_say("serving http://%s/metrics; Ctrl-C ends it", salvo_metrics_address(server));
    struct pollfd wait = {salvo_cli_signal_fd(), POLLIN, 0};
    while (salvo_cli_signals() == 0)
        poll(&wait, 1, -1);
    salvo_metrics_stop(server);
    return CLI_OK;
}

static int print(const char *directory, salvo_metrics_format format)
{
    int err = salvo_metrics_write_all(directory, format, stdout);
    if (err == 0)
        return CLI_OK;
    const char *why = salvo_last_error();
    salvo_cli_say("%s", err != SALVO_ERR_IO || (why && *why) ? why : "standard output failed");
    return CLI_FAILED;
}

static int run_metrics(int argc, char **argv)
{
    static const struct option options[] = {{"listen", required_argument, NULL, LISTEN_OPTION},
                                            {"once", no_argument, NULL, ONCE_OPTION},
                                            {"format", required_argument, NULL, FORMAT_OPTION},
                                            {"dir", required_argument, NULL, DIR_OPTION},
                                            {"help", no_argument, NULL, 'h'}, {0}};
    const char *listen = NULL, *directory = NULL, *format = NULL;
    bool once = false;
    int option;
    while ((option = salvo_cli_getopt(argc, argv, "metrics", "h", options)) != -1) {
        switch (option) {
        case LISTEN_OPTION: listen = optarg; break;
        case ONCE_OPTION: once = true; break;
        case FORMAT_OPTION: format = optarg; break;
        case DIR_OPTION: directory = optarg; break;
        case 'h': fputs(help, stdout); return CLI_OK;
        default: return CLI_USAGE;
        }
    }
    if (optind < argc)
        return salvo_cli_usage("metrics", "unexpected argument `%s`", argv[optind]);
    if (format && strcmp(format, "openmetrics") != 0 && strcmp(format, "prometheus") != 0)
        return salvo_cli_usage("metrics", "--format: `%s` is neither openmetrics nor prometheus",
                               format);
    if (once && listen)
        return salvo_cli_usage("metrics", "--once does not listen: leave out --listen");
    if (format && !once)
        return salvo_cli_usage("metrics", "--format goes with --once: a scraper chooses itself");
    if (!once)
        return serve(listen ? listen : "127.0.0.1:9464", directory);
    return print(directory, format && strcmp(format, "prometheus") == 0
                                ? SALVO_METRICS_PROMETHEUS : SALVO_METRICS_OPENMETRICS);
}

const salvo_cli_command salvo_cli_metrics = {
    "metrics", "serve running producers' metrics", help, run_metrics};
