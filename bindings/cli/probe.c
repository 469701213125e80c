/* SPDX-License-Identifier: Apache-2.0
 *
 * `salvo probe`: how a broker answers, measured at the driver's seam with production's driver,
 * settings and partitions. Guarantees: done within three minutes; a topic of its own is removed
 * afterwards, also after an error; a file that cannot be written is told before the measuring.
 */
#include "probe.h"

#include "load_draw.h"
#include "load_pace.h"
#include "load_payload.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SECOND UINT64_C(1000000000)
#define STREAM_MAXLEN "200000" /* entries that a stream of its own may hold */
enum { OPEN_MS = 15000, REMOVE_MS = 10000 };

static const char help[] =
    "usage: salvo probe [OPTION...]\n"
    "\n"
    "Measures how a broker answers, for `salvo plan --broker-model`: requests go straight to the\n"
    "driver and are timed until their outcome. A shuffled grid of sizes with one request in\n"
    "flight, a sweep of requests in flight, a ramp of rates until p99 triples, and a producer at\n"
    "work, for what its parts cost while all of them run. It sends some GB and loads the broker\n"
    "fully: not for one that others use.\n"
    "Status 0 measured; 1 failed; 2 usage; 130 interrupted.\n"
    "\n"
    "  -b, --broker NAME    kafka, redis, rabbitmq, memory, null (message_broker)\n"
    "  -s, --set KEY=VALUE  any configuration key: use production's\n"
    "      --config FILE    instead of ./core.toml\n"
    "      --topic T        use it and keep it: one with production's partitions. Default: a\n"
    "                       topic of its own, made by the broker, removed afterwards\n"
    "      --max-rate RATE  where the ramp ends at the latest: 80000, 80k, 1.5M; at least\n"
    "                       7200 divided by --seconds\n"
    "      --size N         bytes of a message in the ramp; default 100\n"
    "      --payload WHAT   random (default), text, ratio:R (compressible so), file:PATH\n"
    "      --brokers N      of the cluster; the driver cannot tell. Default 1\n"
    "      --seconds N      to measure, 5 to 150; default 110\n"
    "      --seed N         of sizes' order and payload; default 1\n"
    "  -o, --out FILE       the model as JSON; - for standard output\n"
    "  -q, --quiet          no progress\n";

enum { OPT_CONFIG = CLI_LONG_ONLY, OPT_TOPIC, OPT_MAX, OPT_SIZE, OPT_PAYLOAD, OPT_BROKERS,
       OPT_SECONDS, OPT_SEED };

void salvo_probing_progress(const salvo_probing *p, const char *format, ...)
{
    static char stage; /* where lines stay, one for each stage will do */
    va_list arguments;
    bool live = isatty(STDERR_FILENO) != 0;
    if (p->quiet || (!live && *format == stage))
        return;
    stage = *format;
    va_start(arguments, format);
    fprintf(stderr, live ? "\r\033[K" : "");
    vfprintf(stderr, format, arguments);
    fputs(live ? "" : "\n", stderr);
    fflush(stderr);
    va_end(arguments);
    salvo_cli_progress_shown(live);
}

static bool take_rate(const char *text, uint64_t *out)
{
    const char *end;
    double rate;
    if (salvo_load_number(text, &end, &rate) && *end == '\0' && rate >= 1 && rate <= 1e8) {
        *out = (uint64_t)rate;
        return true;
    }
    salvo_cli_usage("probe", "--max-rate: `%s` is not a rate up to 100M, such as 80k", text);
    return false;
}

static bool take(salvo_probing *p, int option)
{
    uint64_t n;
    bool good = true;
    switch (option) {
    case 'b': salvo_cli_set(&p->settings, "message_broker", optarg, "--broker"); break;
    case 's': good = salvo_cli_set_pair(&p->settings, "probe", optarg); break;
    case 'o': p->out = optarg; break;
    case 'q': p->quiet = true; break;
    case OPT_CONFIG: p->settings.file = optarg; break;
    case OPT_TOPIC: p->topic = optarg; break;
    case OPT_PAYLOAD: p->payload = optarg; break;
    case OPT_MAX: good = take_rate(optarg, &p->max_rate); break;
    case OPT_SIZE:
        good = salvo_cli_number("probe", "size", optarg, 1, 100000, &n);
        p->value_bytes = good ? (uint32_t)n : 0;
        break;
    case OPT_BROKERS:
        good = salvo_cli_number("probe", "brokers", optarg, 1, 1000, &n);
        p->brokers = good ? (uint32_t)n : 0;
        break;
    case OPT_SECONDS: good = salvo_cli_number("probe", "seconds", optarg, 5, 150, &p->seconds);
        break;
    case OPT_SEED: good = salvo_cli_number("probe", "seed", optarg, 0, INT64_MAX, &p->seed); break;
    default: good = false;
    }
    return good;
}

static uint64_t ramp_ns(const salvo_probing *p)
{
    return p->seconds * SECOND * 3 / 10;
}

static int parse(int argc, char **argv, salvo_probing *p)
{
    static const struct option options[] = {
        {"broker", required_argument, NULL, 'b'}, {"set", required_argument, NULL, 's'},
        {"config", required_argument, NULL, OPT_CONFIG},
        {"topic", required_argument, NULL, OPT_TOPIC},
        {"max-rate", required_argument, NULL, OPT_MAX}, {"size", required_argument, NULL, OPT_SIZE},
        {"payload", required_argument, NULL, OPT_PAYLOAD},
        {"brokers", required_argument, NULL, OPT_BROKERS},
        {"seconds", required_argument, NULL, OPT_SECONDS},
        {"seed", required_argument, NULL, OPT_SEED},
        {"out", required_argument, NULL, 'o'}, {"quiet", no_argument, NULL, 'q'},
        {"help", no_argument, NULL, 'h'}, {0}};
    int option;
    while ((option = salvo_cli_getopt(argc, argv, "probe", "b:s:o:qh", options)) != -1) {
        if (option == 'h') {
            fputs(help, stdout);
            return -1;
        }
        if (option == '?' || !take(p, option))
            return CLI_USAGE;
    }
    if (optind < argc)
        return salvo_cli_usage("probe", "unexpected argument `%s`", argv[optind]);
    uint64_t least = salvo_probing_least_rate(ramp_ns(p));
    if (p->max_rate != 0 && p->max_rate < least)
        return salvo_cli_usage("probe", "--max-rate: %llu is too low for a ramp in --seconds %llu: "
                               "from %llu on, or more seconds", (unsigned long long)p->max_rate,
                               (unsigned long long)p->seconds, (unsigned long long)least);
    return 0;
}

/* Address of the broker without what a URL may hold beside it: user, password, path. */
static void take_name(salvo_probing *p, const char *driver)
{
    static const char *const keys[][2] = {{"kafka", "kafka_bootstrap_servers"},
                                          {"redis", "redis_url"}, {"rabbitmq", "rabbitmq_url"}};
    const char *at = NULL;
    char host[256] = "";
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (strcmp(driver, keys[i][0]) == 0)
            at = salvo_config_get(p->config, keys[i][1]);
    if (at != NULL && strstr(at, "://") != NULL)
        at = strstr(at, "://") + 3;
    if (at != NULL && strrchr(at, '@') != NULL)
        at = strrchr(at, '@') + 1;
    if (at != NULL)
        snprintf(host, sizeof host, "%.*s", (int)strcspn(at, "/?#"), at);
    snprintf(p->name, sizeof p->name, "%s%s%s", driver, *host != '\0' ? " at " : "", host);
    bool here = strncmp(host, "127.", 4) == 0 || strncmp(host, "localhost", 9) == 0 ||
                strncmp(host, "[::1]", 5) == 0;
    p->broker_pid = here ? salvo_probing_broker_pid(host) : 0;
    p->on_host = p->broker_pid != 0 && salvo_probing_shares_cores(p->broker_pid);
    if (here && p->broker_pid == 0)
        salvo_cli_say("probe: the broker runs on this host, but its process may not be looked at: "
                      "the model lacks the CPU that it takes");
}

static int load(salvo_probing *p)
{
    char error[256];
    p->config = salvo_cli_load(&p->settings);
    if (p->config == NULL)
        return CLI_USAGE;
    if (p->topic == NULL && !salvo_cli_config_is_set(p->config, "redis_maxlen") &&
        salvo_config_set_from(p->config, "redis_maxlen", STREAM_MAXLEN, "salvo probe") != 0) {
        salvo_cli_say("%s", salvo_config_error(p->config));
        return CLI_USAGE;
    }
    p->batch_bytes = salvo_cli_config_number(p->config, "batch_bytes", 524288);
    p->batch_messages = salvo_cli_config_number(p->config, "batch_messages", 10000);
    p->linger_ns = 1000 * salvo_cli_config_number(p->config, "linger_us", 0);
    p->random = salvo_load_stream(p->seed, 1);
    p->block = salvo_cli_alloc(SALVO_LOAD_BLOCK_BYTES);
    if (salvo_payload_fill(p->block, p->payload, p->seed, error, sizeof error))
        return 0;
    return salvo_cli_usage("probe", "--payload: %s", error);
}

static int measure(salvo_probing *p, const char *topic)
{
    salvo_probing_progress(p, "connecting");
    int err = salvo_probe_open(p->config, topic, OPEN_MS, &p->probe);
    if (err != 0) {
        salvo_cli_say("probe: %s", salvo_last_error());
        return err == SALVO_ERR_INVALID ? CLI_USAGE : CLI_FAILED; /* the topic's name, a setting */
    }
    p->driver = salvo_probe_driver(p->probe);
    p->partitions = salvo_probe_partitions(p->probe);
    p->bursts = salvo_probe_bursts(p->probe) != 0;
    take_name(p, p->driver);
    salvo_pace_attach();
    uint64_t budget_ns = p->seconds * SECOND;
    int status = salvo_probing_own_costs(p);
    if (status == 0)
        status = salvo_probing_grid(p, budget_ns * 2 / 5);
    if (status == 0)
        status = salvo_probing_sweep(p, budget_ns * 3 / 10);
    if (status == 0)
        status = salvo_probing_ramp(p, ramp_ns(p));
    return status;
}

static int fit(salvo_probing *p, const char *topic)
{
    uint64_t length_ns = p->seconds * SECOND / 12;
    salvo_probing_progress(p, "fitting");
    int status = salvo_probing_fit_requests(p);
    if (status != 0)
        return status;
    salvo_probing_fit_flows(p);
    return salvo_probing_load(p, topic, length_ns > 2 * SECOND ? length_ns : 2 * SECOND);
}

static int write_model(const salvo_probing *p)
{
    json_t *model = salvo_probing_model(p);
    int err = model == NULL ? -1 : 0;
    if (err == 0 && strcmp(p->out, "-") == 0)
        err = json_dumpf(model, stdout, JSON_INDENT(1) | JSON_PRESERVE_ORDER) != 0 || puts("") < 0;
    else if (err == 0)
        err = json_dump_file(model, p->out, JSON_INDENT(1) | JSON_PRESERVE_ORDER);
    json_decref(model);
    if (err == 0)
        return 0;
    salvo_cli_say("--out: cannot write %s", p->out);
    return CLI_FAILED;
}

static bool writable(const char *path)
{
    if (path == NULL || strcmp(path, "-") == 0)
        return true;
    bool there = access(path, F_OK) == 0;
    FILE *file = fopen(path, "ae");
    if (file == NULL) {
        salvo_cli_say("--out: cannot write %s: %m", path);
        return false;
    }
    fclose(file);
    if (!there) /* an empty model is none, where the measuring fails or is ended */
        unlink(path);
    return true;
}

static int probe(salvo_probing *p)
{
    char own[64];
    const char *topic = p->topic != NULL ? p->topic : own;
    snprintf(own, sizeof own, "salvo-probe-%llu-%d",
             (unsigned long long)(salvo_load_unix_ns() / 1000000), (int)getpid());
    salvo_cli_catch_signals();
    salvo_steal host = salvo_steal_begin();
    int status = measure(p, topic);
    bool opened = p->probe != NULL;
    salvo_probe_close(p->probe);
    if (status == 0)
        status = fit(p, topic);
    p->steal_percent = salvo_steal_percent(&host);
    if (opened && p->topic == NULL && salvo_topic_delete(p->config, topic, REMOVE_MS) != 0)
        salvo_cli_say("probe: topic %s could not be removed: %s", topic, salvo_last_error());
    if (status != 0)
        return status;
    salvo_cli_progress_shown(false);
    if (!p->quiet && isatty(STDERR_FILENO) != 0)
        fputs("\r\033[K", stderr);
    salvo_probing_show(p, p->out != NULL && strcmp(p->out, "-") == 0 ? stderr : stdout);
    return p->out != NULL ? write_model(p) : 0;
}

static int run(int argc, char **argv)
{
    salvo_probing *p = salvo_cli_alloc(sizeof *p);
    p->value_bytes = 100;
    p->seconds = 110;
    p->brokers = 1;
    p->seed = 1;
    p->payload = "random";
    int status = parse(argc, argv, p);
    if (status == 0)
        status = load(p);
    if (status == 0)
        status = writable(p->out) ? probe(p) : CLI_FAILED;
    for (size_t i = 0; i < p->shape_count; i++)
        free(p->shapes[i].service_ns);
    free(p->stalls);
    salvo_noise_free(&p->noise);
    free(p->block);
    salvo_config_free(p->config);
    salvo_cli_settings_free(&p->settings);
    free(p);
    return status < 0 ? CLI_OK : status;
}

const salvo_cli_command salvo_cli_probe = {"probe", "measure a broker, for salvo plan", help, run};
