/* SPDX-License-Identifier: Apache-2.0
 *
 * The options of `salvo bench`. A scenario file holds the same options, one a line; the command
 * line wins over it.
 */
#include "bench.h"
#include "load_payload.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SHORTEST_S 0.01 /* that a load may last */

const char salvo_bench_help[] =
    "usage: salvo bench [OPTION...]\n"
    "       salvo bench compare A.json B.json\n"
    "       salvo bench merge [--out FILE] A.json B.json...\n"
    "\n"
    "Sends a load in open loop and measures it: each message is due at a time of its own, and\n"
    "its latency counts from then, however late the system before it was. Percentiles are over\n"
    "all messages offered; refused, failed and expired ones count as infinite.\n"
    "Status 0 measured; 1 failed, a --fail-if was met or --until found no rate; 2 usage; 130\n"
    "interrupted.\n"
    "\n"
    "the load\n"
    "  -r, --rate RATE           messages a second: 50k (default: 1k), or steps that repeat:\n"
    "                            10k:5s,50k:5s,0:500ms\n"
    "      --arrivals HOW        constant (default), poisson, burst:N (N at once)\n"
    "      --size SIZE           bytes: 100 (default), 50-500, 100:9,1000:1 (size:weight),\n"
    "                            exp:MEAN, normal:MEAN:DEVIATION, lognormal:MEDIAN:SIGMA,\n"
    "                            file:PATH (lines `size` or `size weight`)\n"
    "      --payload WHAT        random (default), text, ratio:R (compressible so), file:PATH\n"
    "      --keys KEYS           0 (default: no key), 1000, 1000:zipf, 1000:zipf:1.2\n"
    "      --threads N           that send; default 1\n"
    "      --topics N            default 1, or as many as a trace has\n"
    "      --duration TIME       measured: 10s (default), 500ms, 2m\n"
    "      --warmup TIME         before it, not measured; default 2s\n"
    "      --seed N              same seed, same load; default 1\n"
    "      --write-schedule FILE write the load to a file and send nothing\n"
    "      --schedule FILE       play such a file instead of all of the above but --threads and\n"
    "                            --topics\n"
    "      --trace FILE          play a trace of salvo record: its times, sizes, keys, topics;\n"
    "                            --warmup is then its first part, default 0\n"
    "      --scale X             play the trace X times as fast; default 1\n"
    "      --scenario FILE       lines such as `rate = 50k` and `consume`: options of this list;\n"
    "                            # begins a comment; the command line wins\n"
    "\n"
    "the target\n"
    "  -b, --broker NAME         kafka, redis, rabbitmq, memory, null (message_broker)\n"
    "  -s, --set KEY=VALUE       any configuration key; full_policy is `fail` here unless set\n"
    "      --config FILE         instead of ./core.toml\n"
    "      --existing TOPIC      send there (with --topics N: TOPIC-0 ...), and keep it. Default:\n"
    "                            topics of the run's own, removed afterwards\n"
    "      --partitions N        of each of these; default: as the broker makes them\n"
    "\n"
    "the measurement\n"
    "      --consume             read back too, for the column `consumed`; sizes of 8 and more\n"
    "      --drain S             how long to wait for late sends and outcomes; default 30\n"
    "      --spin US             spin so long before a due time instead of sleeping; default 50,\n"
    "                            or 0 where cores are scarce\n"
    "      --start-at TIME       Unix time in seconds, for several processes and hosts\n"
    "      --until 'p99<1ms'     look for the highest rate that keeps the bound; --rate is the\n"
    "                            first that is tried\n"
    "      --fail-if 'p99>5ms'   status 1 if so; may be repeated. Columns are call, accepted,\n"
    "                            acknowledged (default) and consumed: 'call.p99.9>2us'\n"
    "      --name TEXT           of the result; default: the broker\n"
    "  -o, --out FILE            the result as JSON; - for standard output\n"
    "      --hdr FILE            HdrHistogram log, an interval a second, a tag a column\n"
    "  -q, --quiet               no progress\n"
    "\n"
    "compare says with an interval how B differs from A; several runs of one side are separated\n"
    "by commas. merge adds the results of processes that ran together.\n";

enum {
    OPT_ARRIVALS = CLI_LONG_ONLY, OPT_SIZE, OPT_PAYLOAD, OPT_KEYS, OPT_THREADS, OPT_TOPICS,
    OPT_DURATION, OPT_WARMUP, OPT_SEED, OPT_WRITE, OPT_SCHEDULE, OPT_SCENARIO, OPT_CONFIG,
    OPT_EXISTING, OPT_CONSUME, OPT_DRAIN, OPT_SPIN, OPT_START, OPT_UNTIL, OPT_FAIL, OPT_NAME,
    OPT_HDR, OPT_TRACE, OPT_SCALE, OPT_PARTITIONS
};

enum { SCENARIO_MOST = 1000 };

static const struct option options_table[] = {
    {"rate", required_argument, NULL, 'r'},
    {"arrivals", required_argument, NULL, OPT_ARRIVALS},
    {"size", required_argument, NULL, OPT_SIZE},
    {"payload", required_argument, NULL, OPT_PAYLOAD},
    {"keys", required_argument, NULL, OPT_KEYS},
    {"threads", required_argument, NULL, OPT_THREADS},
    {"topics", required_argument, NULL, OPT_TOPICS},
    {"duration", required_argument, NULL, OPT_DURATION},
    {"warmup", required_argument, NULL, OPT_WARMUP},
    {"seed", required_argument, NULL, OPT_SEED},
    {"write-schedule", required_argument, NULL, OPT_WRITE},
    {"schedule", required_argument, NULL, OPT_SCHEDULE},
    {"trace", required_argument, NULL, OPT_TRACE},
    {"scale", required_argument, NULL, OPT_SCALE},
    {"scenario", required_argument, NULL, OPT_SCENARIO},
    {"broker", required_argument, NULL, 'b'},
    {"set", required_argument, NULL, 's'},
    {"config", required_argument, NULL, OPT_CONFIG},
    {"existing", required_argument, NULL, OPT_EXISTING},
    {"partitions", required_argument, NULL, OPT_PARTITIONS},
    {"consume", no_argument, NULL, OPT_CONSUME},
    {"drain", required_argument, NULL, OPT_DRAIN},
    {"spin", required_argument, NULL, OPT_SPIN},
    {"start-at", required_argument, NULL, OPT_START},
    {"until", required_argument, NULL, OPT_UNTIL},
    {"fail-if", required_argument, NULL, OPT_FAIL},
    {"name", required_argument, NULL, OPT_NAME},
    {"out", required_argument, NULL, 'o'},
    {"hdr", required_argument, NULL, OPT_HDR},
    {"quiet", no_argument, NULL, 'q'},
    {"help", no_argument, NULL, 'h'},
    {0}};

static bool take_start(salvo_bench_options *o, const char *text)
{
    char *end;
    o->start_at = strtod(text, &end);
    if (end != text && *end == '\0' && o->start_at > 0 && o->start_at < 1e11)
        return true;
    salvo_cli_usage("bench", "--start-at: `%s` is no Unix time in seconds, such as $(date +%%s)",
                    text);
    return false;
}

static bool take_scale(salvo_bench_options *o, const char *text)
{
    const char *end;
    if (salvo_load_number(text, &end, &o->scale) && *end == '\0' && o->scale >= 1e-3 &&
        o->scale <= 1e3)
        return true;
    salvo_cli_usage("bench", "--scale: `%s` is no factor from 0.001 to 1000", text);
    return false;
}

static bool take_fail(salvo_bench_options *o, const char *text)
{
    if (o->fail_count == BENCH_BOUNDS_MOST) {
        salvo_cli_usage("bench", "--fail-if: more than %d", BENCH_BOUNDS_MOST);
        return false;
    }
    return salvo_bench_bound_parse(&o->fail_if[o->fail_count++], "fail-if", text);
}

static bool take_number(int option, const char *text, salvo_bench_options *o)
{
    switch (option) {
    case OPT_THREADS:
        return salvo_cli_number("bench", "threads", text, 1, BENCH_THREADS_MOST, &o->threads);
    case OPT_TOPICS:
        return salvo_cli_number("bench", "topics", text, 1, BENCH_TOPICS_MOST, &o->topics);
    case OPT_SEED:
        o->seed_given = true;
        return salvo_cli_number("bench", "seed", text, 1, INT64_MAX, &o->seed);
    case OPT_PARTITIONS:
        return salvo_cli_number("bench", "partitions", text, 1, 10000, &o->partitions);
    case OPT_DRAIN:
        o->drain_given = true;
        return salvo_cli_number("bench", "drain", text, 0, 100000, &o->drain_s);
    default:
        o->spin_given = true;
        return salvo_cli_number("bench", "spin", text, 0, 1000000, &o->spin_us);
    }
}

static bool take_option(salvo_bench_options *o, int option, char *text)
{
    switch (option) {
    case 'r': o->rate = text; return true;
    case OPT_ARRIVALS: o->arrivals = text; return true;
    case OPT_SIZE: o->size = text; return true;
    case OPT_PAYLOAD: o->payload = text; return true;
    case OPT_KEYS: o->keys = text; return true;
    case OPT_DURATION: o->duration = text; return true;
    case OPT_WARMUP: o->warmup = text; return true;
    case OPT_WRITE: o->write_schedule = text; return true;
    case OPT_SCHEDULE: o->schedule = text; return true;
    case OPT_TRACE: o->trace = text; return true;
    case OPT_SCALE: return take_scale(o, text);
    case OPT_SCENARIO: return true; /* its lines stand before these */
    case 'b': salvo_cli_set(&o->settings, "message_broker", text, "--broker"); return true;
    case 's': return salvo_cli_set_pair(&o->settings, "bench", text);
    case OPT_CONFIG: o->settings.file = text; return true;
    case OPT_EXISTING: o->existing = text; return true;
    case OPT_CONSUME: return o->consume = true;
    case OPT_START: return take_start(o, text);
    case OPT_UNTIL:
        o->until_given = true;
        return salvo_bench_bound_parse(&o->until, "until", text);
    case OPT_FAIL: return take_fail(o, text);
    case OPT_NAME: o->name = text; return true;
    case 'o': o->out = text; return true;
    case OPT_HDR: o->hdr = text; return true;
    case 'q': return o->quiet = true;
    default: return take_number(option, text, o);
    }
}

/* --- the scenario ---------------------------------------------------------------------------- */

static void keep(salvo_bench_options *o, char *word)
{
    size_t size = (o->owned_count + 1) * sizeof *o->owned;
    o->owned = salvo_cli_realloc(o->owned, size);
    o->owned[o->owned_count++] = word;
}

static char *trim(char *text)
{
    char *end = text + strlen(text);
    while (end > text && strchr(" \t\r\n", end[-1]))
        *--end = '\0';
    return text + strspn(text, " \t");
}

/* "name = value" becomes --name=value; "name" becomes --name. False: it is none of a file. */
static bool take_line(salvo_bench_options *o, char *line)
{
    char *name = trim(line), *equals = strchr(name, '=');
    if (*name == '#' || *name == '\0')
        return true;
    if (equals)
        *equals = '\0';
    const char *value = equals ? trim(equals + 1) : "";
    name = trim(name);
    if (strcmp(name, "scenario") == 0)
        return false;
    size_t size = strlen(name) + strlen(value) + 4;
    char *word = salvo_cli_alloc(size);
    snprintf(word, size, equals ? "--%s=%s" : "--%s", name, value);
    keep(o, word);
    return true;
}

static int take_lines(salvo_bench_options *o, FILE *file)
{
    char *line = NULL;
    size_t room = 0;
    int status = CLI_OK;
    while (status == CLI_OK && getline(&line, &room, file) != -1) {
        if (o->owned_count == SCENARIO_MOST)
            status = salvo_cli_usage("bench", "--scenario: %s: more than %d options", o->scenario,
                                     SCENARIO_MOST);
        else if (!take_line(o, line))
            status = salvo_cli_usage("bench", "--scenario: %s: `scenario` is no line of such a "
                                     "file: one file holds it all", o->scenario);
    }
    free(line);
    if (status == CLI_OK && ferror(file)) {
        salvo_cli_say("--scenario: cannot read %s", o->scenario);
        status = CLI_FAILED;
    }
    return status;
}

static int read_scenario(salvo_bench_options *o)
{
    FILE *file = fopen(o->scenario, "re");
    if (!file) {
        salvo_cli_say("--scenario: cannot read %s: %s", o->scenario, strerror(errno));
        return CLI_FAILED;
    }
    int status = take_lines(o, file);
    fclose(file);
    return status;
}

/* The command line with the scenario's words in front; NULL with a status. */
static char **expand(salvo_bench_options *o, int *argc, char **argv, int *status)
{
    for (int i = 1; i < *argc; i++) {
        if (strncmp(argv[i], "--scenario=", 11) == 0)
            o->scenario = argv[i] + 11;
        else if (strcmp(argv[i], "--scenario") == 0 && i + 1 < *argc)
            o->scenario = argv[i + 1];
    }
    *status = o->scenario ? read_scenario(o) : CLI_OK;
    if (*status != CLI_OK)
        return NULL;
    size_t count = (size_t)*argc + o->owned_count;
    char **words = salvo_cli_alloc((count + 1) * sizeof *words);
    words[0] = argv[0];
    if (o->owned_count)
        memcpy(words + 1, o->owned, o->owned_count * sizeof *words);
    memcpy(words + 1 + o->owned_count, argv + 1, (size_t)(*argc - 1) * sizeof *words);
    *argc = (int)count;
    return words;
}

/* --- the load -------------------------------------------------------------------------------- */

static bool take_time(const char *option, const char *text, double low, double *out)
{
    const char *end;
    if (salvo_load_seconds(text, &end, out) && *end == '\0' && *out >= low && *out <= 86400)
        return true;
    salvo_cli_usage("bench", "--%s: `%s` is no time from %g s to one day, such as 10s, 500ms, 2m",
                    option, text, low);
    return false;
}

static int describe(salvo_bench_options *o)
{
    salvo_load *load = &o->load;
    char error[400];
    const char *option = "rate";
    if (!take_time("duration", o->duration ? o->duration : "10s", SHORTEST_S, &load->duration_s) ||
        !take_time("warmup", o->warmup ? o->warmup : "2s", 0, &load->warmup_s))
        return CLI_USAGE;
    load->seed = o->seed;
    load->size_text = o->size ? o->size : "100";
    load->keys_text = o->keys ? o->keys : "0";
    load->payload_text = o->payload ? o->payload : "random";
    bool good = salvo_load_take_rate(load, o->rate ? o->rate : "1k", error, sizeof error);
    if (good) {
        option = "arrivals";
        good = salvo_load_take_arrivals(load, o->arrivals ? o->arrivals : "constant", error,
                                        sizeof error);
    }
    if (good) {
        option = "size";
        good = salvo_load_sizes_parse(&load->sizes, load->size_text, error, sizeof error);
    }
    if (good) {
        option = "keys";
        good = salvo_load_keys_parse(&load->keys, load->keys_text, error, sizeof error);
    }
    return good ? CLI_OK : salvo_cli_usage("bench", "--%s: %s", option, error);
}

static int play_file(salvo_bench_options *o)
{
    char error[400];
    if (o->rate || o->arrivals || o->size || o->keys || o->payload || o->duration || o->warmup ||
        o->seed_given || o->until_given || o->write_schedule)
        return salvo_cli_usage("bench", "--schedule: the file says all of the load; leave out "
                               "--rate, --arrivals, --size, --keys, --payload, --duration, "
                               "--warmup, --seed, --until and --write-schedule");
    if (salvo_load_open_file(&o->load, o->schedule, error, sizeof error))
        return CLI_OK;
    salvo_cli_say("--schedule: %s", error);
    return CLI_FAILED;
}

/* A trace that has not all: the load is lighter or shorter than what was recorded. */
static void warn_of_trace(const salvo_bench_options *o)
{
    const salvo_load *l = &o->load;
    char one_of[64] = "", lost[64] = "";
    if (l->trace_one_of > 1)
        snprintf(one_of, sizeof one_of, "; it holds one of %llu messages",
                 (unsigned long long)l->trace_one_of);
    if (l->trace_lost > 0)
        snprintf(lost, sizeof lost, "; %llu messages were lost when it was recorded",
                 (unsigned long long)l->trace_lost);
    if (one_of[0] || lost[0] || l->trace_truncated)
        salvo_cli_say("bench: %s is not all that was sent%s%s%s", o->trace, one_of, lost,
                      l->trace_truncated ? "; its size cap ended it" : "");
}

static int play_trace(salvo_bench_options *o)
{
    salvo_load *load = &o->load;
    char error[400];
    double duration = 86400;
    if (o->rate || o->arrivals || o->size || o->keys || o->schedule || o->until_given)
        return salvo_cli_usage("bench", "--trace: the file says when, how large and which key; "
                               "leave out --rate, --arrivals, --size, --keys, --schedule and "
                               "--until");
    if ((o->warmup && !take_time("warmup", o->warmup, 0, &load->warmup_s)) ||
        (o->duration && !take_time("duration", o->duration, SHORTEST_S, &duration)))
        return CLI_USAGE;
    load->seed = o->seed;
    load->payload_text = o->payload ? o->payload : "random";
    if (!salvo_load_open_trace(load, o->trace, o->scale > 0 ? o->scale : 1, error, sizeof error)) {
        salvo_cli_say("--trace: %s", error);
        return CLI_FAILED;
    }
    load->duration_s -= load->warmup_s;
    if (load->duration_s <= 0)
        return salvo_cli_usage("bench", "--warmup: the trace is not as long");
    if (load->duration_s < SHORTEST_S) /* messages of one moment have no rate: it is per second */
        load->duration_s = 1;
    load->duration_s = duration < load->duration_s ? duration : load->duration_s;
    warn_of_trace(o);
    return CLI_OK;
}

static bool of_consumed(const salvo_bench_bound *bound)
{
    return strcmp(bound->column, "consumed") == 0;
}

static int check_bounds(const salvo_bench_options *o)
{
    const salvo_load *load = &o->load;
    for (size_t i = 0; i < o->fail_count && !o->consume; i++)
        if (of_consumed(&o->fail_if[i]))
            return salvo_cli_usage("bench", "--fail-if %s: without --consume nothing is read back",
                                   o->fail_if[i].text);
    if (!o->until_given)
        return CLI_OK;
    if (of_consumed(&o->until) && !o->consume)
        return salvo_cli_usage("bench", "--until %s: without --consume nothing is read back",
                               o->until.text);
    if (load->step_count != 1)
        return salvo_cli_usage("bench", "--until looks for one rate: give --rate without steps");
    if (load->steps[0].rate < 1)
        return salvo_cli_usage("bench", "--until tries whole rates from 1 message a second; --rate "
                               "%s is less", load->rate_text);
    if (o->start_at > 0)
        return salvo_cli_usage("bench", "--start-at is for one run, --until makes several");
    return CLI_OK;
}

/* What the target is and how it is measured: nothing is sent to it. */
static int check_write(const salvo_bench_options *o)
{
    if (!o->write_schedule ||
        !(o->settings.count || o->settings.file || o->existing || o->partitions || o->consume ||
          o->drain_given || o->spin_given || o->start_at > 0 || o->until_given || o->fail_count ||
          o->name || o->out || o->hdr))
        return CLI_OK;
    return salvo_cli_usage("bench", "--write-schedule sends nothing; leave out --broker, --set, "
                           "--config, --existing, --partitions, --consume, --drain, --spin, "
                           "--start-at, --until, --fail-if, --name, --out and --hdr");
}

static int check(const salvo_bench_options *o)
{
    char error[400];
    const salvo_load_sizes *sizes = &o->load.sizes;
    if (o->consume && !o->load.file && sizes->kind == SALVO_LOAD_SIZE_RANGE && sizes->low < 8)
        return salvo_cli_usage("bench", "--consume: a message of less than 8 bytes has no room for "
                               "its time; use a larger --size");
    if (o->partitions != 0 && o->existing)
        return salvo_cli_usage("bench", "--partitions is for topics of the run's own, not for "
                               "--existing ones");
    unsigned char *block = salvo_cli_alloc(SALVO_LOAD_BLOCK_BYTES);
    bool good = salvo_payload_fill(block, o->load.payload_text, o->load.seed, error, sizeof error);
    free(block);
    return good ? CLI_OK : salvo_cli_usage("bench", "--payload: %s", error);
}

int salvo_bench_parse(int argc, char **argv, salvo_bench_options *o)
{
    int option, status;
    char **words = expand(o, &argc, argv, &status);
    if (!words)
        return status;
    while (status == CLI_OK && (option = salvo_cli_getopt(argc, words, "bench", "r:b:s:o:qh",
                                                          options_table)) != -1) {
        if (option == 'h') {
            fputs(salvo_bench_help, stdout);
            status = -1;
        } else if (option == '?' || !take_option(o, option, optarg)) {
            status = CLI_USAGE;
        }
    }
    if (status == CLI_OK && optind < argc)
        status = salvo_cli_usage("bench", "unexpected argument `%s`", words[optind]);
    free(words);
    if (status == CLI_OK)
        status = o->trace ? play_trace(o) : o->schedule ? play_file(o) : describe(o);
    if (o->topics == 0) /* not told */
        o->topics = o->load.file_topics ? o->load.file_topic_count : 1;
    o->topics = o->topics < BENCH_TOPICS_MOST ? o->topics : BENCH_TOPICS_MOST;
    if (status == CLI_OK && o->scale > 0 && !o->trace)
        status = salvo_cli_usage("bench", "--scale is for --trace; use --rate");
    status = status == CLI_OK ? check(o) : status;
    status = status == CLI_OK ? check_bounds(o) : status;
    return status == CLI_OK ? check_write(o) : status;
}

void salvo_bench_options_free(salvo_bench_options *o)
{
    for (size_t i = 0; i < o->owned_count; i++)
        free(o->owned[i]);
    free(o->owned);
    salvo_cli_settings_free(&o->settings);
    salvo_load_free(&o->load);
}
