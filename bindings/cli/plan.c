/* SPDX-License-Identifier: Apache-2.0
 *
 * `salvo plan`: what a producer needs, worked out by running the engine under a virtual clock
 * against a model of the broker. Same input, same seed: the same bytes, on any machine.
 */
#include "plan.h"
#include "plan_help.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    OPT_RATE = CLI_LONG_ONLY, OPT_SIZE, OPT_KEYS, OPT_KEY_BYTES, OPT_ZIPF, OPT_TOPICS,
    OPT_THREADS, OPT_ARRIVALS, OPT_BURST, OPT_TRACE, OPT_SCALE, OPT_TRAFFIC, OPT_MODEL,
    OPT_BASE, OPT_PER_BYTE, OPT_PER_RECORD, OPT_WINDOW, OPT_SERVERS, OPT_BROKERS,
    OPT_PARTITIONS, OPT_P99, OPT_OUTAGE, OPT_RECOVERY, OPT_CONSUMER, OPT_CORES, OPT_APP,
    OPT_SEED, OPT_HOUR, OPT_JSON, OPT_OUT, OPT_TOML, OPT_PAGE, OPT_PREDICT, OPT_CONFIG
};

static const struct option options_table[] = {
    {"rate", required_argument, NULL, OPT_RATE},
    {"size", required_argument, NULL, OPT_SIZE},
    {"keys", required_argument, NULL, OPT_KEYS},
    {"key-bytes", required_argument, NULL, OPT_KEY_BYTES},
    {"zipf", no_argument, NULL, OPT_ZIPF},
    {"topics", required_argument, NULL, OPT_TOPICS},
    {"threads", required_argument, NULL, OPT_THREADS},
    {"arrivals", required_argument, NULL, OPT_ARRIVALS},
    {"burst", required_argument, NULL, OPT_BURST},
    {"trace", required_argument, NULL, OPT_TRACE},
    {"scale", required_argument, NULL, OPT_SCALE},
    {"traffic", required_argument, NULL, OPT_TRAFFIC},
    {"broker-model", required_argument, NULL, OPT_MODEL},
    {"broker-base", required_argument, NULL, OPT_BASE},
    {"broker-per-byte", required_argument, NULL, OPT_PER_BYTE},
    {"broker-per-record", required_argument, NULL, OPT_PER_RECORD},
    {"broker-window", required_argument, NULL, OPT_WINDOW},
    {"broker-servers", required_argument, NULL, OPT_SERVERS},
    {"brokers", required_argument, NULL, OPT_BROKERS},
    {"partitions", required_argument, NULL, OPT_PARTITIONS},
    {"p99", required_argument, NULL, OPT_P99},
    {"outage", required_argument, NULL, OPT_OUTAGE},
    {"recovery", required_argument, NULL, OPT_RECOVERY},
    {"consumer-rate", required_argument, NULL, OPT_CONSUMER},
    {"cores", required_argument, NULL, OPT_CORES},
    {"app-busy", required_argument, NULL, OPT_APP},
    {"seed", required_argument, NULL, OPT_SEED},
    {"confirm", required_argument, NULL, OPT_HOUR},
    {"json", no_argument, NULL, OPT_JSON},
    {"out", required_argument, NULL, OPT_OUT},
    {"toml", required_argument, NULL, OPT_TOML},
    {"page", required_argument, NULL, OPT_PAGE},
    {"predict", no_argument, NULL, OPT_PREDICT},
    {"broker", required_argument, NULL, 'b'},
    {"set", required_argument, NULL, 's'},
    {"config", required_argument, NULL, OPT_CONFIG},
    {"help", no_argument, NULL, 'h'},
    {0}};

typedef struct plan_options {
    salvo_plan_case c;
    uint64_t topics, keys, key_bytes;
    bool zipf, json, predict;
    uint64_t seen; /* options, a bit each */
    const char *trace, *out, *toml, *page, *model, *broker;
} plan_options;

static int take(plan_options *o, int option, const char *text);

static uint64_t bit(int option)
{
    return UINT64_C(1) << (option - CLI_LONG_ONLY);
}

/* Which of these was given; NULL: none. */
static const char *given(const plan_options *o, const int *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        for (const struct option *t = options_table; t->name != NULL; t++)
            if (t->val == list[i] && (o->seen & bit(t->val)) != 0)
                return t->name;
    return NULL;
}

#define GIVEN(o, ...) \
    given(o, (const int[]){__VA_ARGS__}, sizeof((const int[]){__VA_ARGS__}) / sizeof(int))

static bool bounded(const char *option, const char *text, uint64_t low, uint64_t high,
                    uint64_t *out)
{
    if (!salvo_cli_plan_count(option, text, out))
        return false;
    if (*out >= low && *out <= high)
        return true;
    salvo_cli_usage("plan", "--%s: %s is not from %llu to %llu", option, text,
                    (unsigned long long)low, (unsigned long long)high);
    return false;
}

static bool take_u32(const char *option, const char *text, uint32_t low, uint32_t high,
                     uint32_t *out)
{
    uint64_t n;
    if (!bounded(option, text, low, high, &n))
        return false;
    *out = (uint32_t)n;
    return true;
}

/* "100" or "64-2k" */
static bool take_sizes(salvo_plan_case *c, const char *text)
{
    char low[32] = "";
    const char *dash = strchr(text, '-');
    size_t n = dash != NULL ? (size_t)(dash - text) : strlen(text);
    snprintf(low, sizeof low, "%.*s", (int)(n < sizeof low ? n : 0), text);
    if (!salvo_cli_plan_size("size", low, &c->least_bytes))
        return false;
    c->most_bytes = c->least_bytes;
    if (dash != NULL && !salvo_cli_plan_size("size", dash + 1, &c->most_bytes))
        return false;
    if (c->least_bytes <= c->most_bytes && c->most_bytes <= 256 << 20)
        return true;
    salvo_cli_usage("plan", "--size: `%s` is not SIZE or LOW-HIGH of at most 256 MiB", text);
    return false;
}

/* "3x:1s/60s": so many times the rate, for so long, once in so long */
static bool take_burst(salvo_plan_case *c, const char *text)
{
    char factor[16], length[24], every[24];
    uint64_t permille;
    if (sscanf(text, "%15[0-9.]x:%23[^/]/%23s", factor, length, every) != 3)
        return salvo_cli_usage("plan", "--burst: `%s` is not FACTORx:LENGTH/PERIOD, such as "
                               "3x:1s/60s", text), false;
    strncat(factor, "k", sizeof factor - strlen(factor) - 1); /* thousandths */
    if (!salvo_cli_plan_count("burst", factor, &permille) || permille > 1000000 ||
        !salvo_cli_plan_time("burst", length, &c->traffic.burst_ns) ||
        !salvo_cli_plan_time("burst", every, &c->traffic.burst_every_ns))
        return false;
    c->traffic.burst_permille = (uint32_t)permille;
    if (permille != 0 && c->traffic.burst_ns != 0 &&
        c->traffic.burst_ns < c->traffic.burst_every_ns)
        return true;
    return salvo_cli_usage("plan", "--burst: `%s`: a burst is shorter than its period and not "
                           "empty", text), false;
}

static bool target_time(const char *option, const char *text, uint64_t *out_ns)
{
    if (!salvo_cli_plan_time(option, text, out_ns))
        return false;
    if (*out_ns >= 1000 && *out_ns <= UINT64_C(86400000000000))
        return true;
    salvo_cli_usage("plan", "--%s: %s is not from 1us to 24h", option, text);
    return false;
}

/* "10s", "10s:refuse", "10s:black-hole", "10s:slow=5", each with "/1" for one broker only */
static bool take_outage(salvo_plan_case *c, const char *text)
{
    char length[24] = "", kind[32] = "refuse", extra = 0;
    unsigned brokers = 0, slow = 0;
    int n = sscanf(text, "%23[^:/]:%31[^/]/%u%c", length, kind, &brokers, &extra);
    if (n == 1 && strchr(text, '/') != NULL)
        n = sscanf(text, "%23[^:/]/%u%c", length, &brokers, &extra) == 2 ? 3 : 9;
    c->outage_brokers = brokers;
    if (strcmp(kind, "refuse") == 0)
        c->outage_kind = SALVO_PLAN_REFUSE;
    else if (strcmp(kind, "black-hole") == 0)
        c->outage_kind = SALVO_PLAN_BLACK_HOLE;
    else if (sscanf(kind, "slow=%u", &slow) == 1 && slow > 1 && slow <= 1000)
        c->outage_kind = SALVO_PLAN_SLOW;
    else
        n = 0;
    c->slow_permille = slow * 1000;
    if (n >= 1 && n <= 3)
        return target_time("outage", length, &c->outage_ns);
    return salvo_cli_usage("plan", "--outage: `%s` is not TIME[:refuse|:black-hole|:slow=K]"
                           "[/BROKERS], such as 10s or 10s:slow=5/1", text), false;
}

/* "rate=80k,size=100,...": options of traffic in one word */
static int take_traffic(plan_options *o, const char *text)
{
    static const char *const names[] = {"rate", "size", "keys", "key-bytes", "topics", "threads",
                                        "arrivals", "burst", "scale", "zipf"};
    char *copy = strdup(text), *rest = copy, *item;
    int status = copy != NULL ? 0 : CLI_FAILED;
    while (status == 0 && (item = strsep(&rest, ",")) != NULL) {
        char *value = strchr(item, '=');
        if (value != NULL)
            *value++ = '\0';
        const struct option *option = NULL;
        for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
            if (strcmp(item, names[i]) == 0)
                for (option = options_table; strcmp(option->name, item) != 0;)
                    option++;
        if (option == NULL || (value == NULL) != (option->has_arg == no_argument))
            status = salvo_cli_usage("plan", "--traffic: `%s` is none of rate=, size=, keys=, "
                                     "key-bytes=, topics=, threads=, arrivals=, burst=, scale=, "
                                     "zipf", item);
        else
            status = take(o, option->val, value);
    }
    free(copy);
    return status;
}

static int take_arrivals(salvo_plan_case *c, const char *text)
{
    if (strcmp(text, "poisson") == 0)
        c->traffic.arrivals = SALVO_PLAN_POISSON;
    else if (strcmp(text, "constant") == 0)
        c->traffic.arrivals = SALVO_PLAN_CONSTANT;
    else
        return salvo_cli_usage("plan", "--arrivals: `%s` is neither constant nor poisson", text);
    return 0;
}

static bool take_permille(const char *option, const char *text, uint64_t most, uint32_t *out)
{
    char thousandths[32];
    uint64_t n;
    snprintf(thousandths, sizeof thousandths, "%.20sk", text);
    if (!salvo_cli_plan_count(option, thousandths, &n))
        return false;
    *out = (uint32_t)n;
    if (n >= 1 && n <= most)
        return true;
    salvo_cli_usage("plan", "--%s: `%s` is not from 0.001 to %llu", option, text,
                    (unsigned long long)most / 1000);
    return false;
}

static int take_broker(plan_options *o, int option, const char *text)
{
    salvo_plan_broker *b = &o->c.model.broker;
    bool good = true;
    switch (option) {
    case OPT_BASE: good = salvo_cli_plan_time("broker-base", text, &b->service.base_ns); break;
    case OPT_PER_BYTE:
        good = salvo_cli_plan_ps("broker-per-byte", text, &b->service.per_byte_ps); break;
    case OPT_PER_RECORD:
        good = salvo_cli_plan_ps("broker-per-record", text, &b->service.per_record_ps); break;
    case OPT_WINDOW: good = take_u32("broker-window", text, 1, 1000000, &b->window); break;
    case OPT_SERVERS: good = take_u32("broker-servers", text, 1, 64, &b->servers); break;
    case OPT_BROKERS: good = take_u32("brokers", text, 1, 1000, &b->brokers); break;
    default: good = take_u32("partitions", text, 1, 10000, &b->partitions); break;
    }
    return good ? 0 : CLI_USAGE;
}

static bool take_confirm(salvo_plan_case *c, const char *text)
{
    if (!salvo_cli_plan_time("confirm", text, &c->confirm_ns))
        return false;
    if (c->confirm_ns >= UINT64_C(10000000000) && c->confirm_ns <= UINT64_C(3600000000000))
        return true;
    salvo_cli_usage("plan", "--confirm: %s is not from 10s to 1h", text);
    return false;
}

static int take_target(plan_options *o, int option, const char *text)
{
    salvo_plan_case *c = &o->c;
    bool good = true;
    switch (option) {
    case OPT_P99: good = target_time("p99", text, &c->p99_ns); break;
    case OPT_OUTAGE: good = take_outage(c, text); break;
    case OPT_RECOVERY: good = target_time("recovery", text, &c->recovery_ns); break;
    case OPT_CONSUMER:
        good = bounded("consumer-rate", text, 1, 1000000000, &c->consumer_per_s); break;
    case OPT_CORES: good = take_u32("cores", text, 1, 256, &c->model.host.cores); break;
    case OPT_HOUR: good = take_confirm(c, text); break;
    case OPT_APP:
        good = take_permille("app-busy", text, 256000, &c->model.host.app_busy_permille); break;
    default: good = bounded("seed", text, 0, INT64_MAX, &c->seed); break;
    }
    return good ? 0 : CLI_USAGE;
}

static int take(plan_options *o, int option, const char *text)
{
    salvo_plan_case *c = &o->c;
    bool good = true;
    o->seen |= option >= CLI_LONG_ONLY ? bit(option) : 0;
    switch (option) {
    case OPT_RATE: good = bounded("rate", text, 1, 1000000000, &c->rate_per_s); break;
    case OPT_SIZE: good = take_sizes(c, text); break;
    case OPT_KEYS: good = bounded("keys", text, 0, 100000000, &o->keys); break;
    case OPT_KEY_BYTES: good = bounded("key-bytes", text, 1, 65535, &o->key_bytes); break;
    case OPT_ZIPF: o->zipf = true; break;
    case OPT_TOPICS: good = bounded("topics", text, 1, PLAN_MAX_TOPICS, &o->topics); break;
    case OPT_THREADS: good = take_u32("threads", text, 1, 65536, &c->traffic.threads); break;
    case OPT_ARRIVALS: return take_arrivals(c, text);
    case OPT_BURST: good = take_burst(c, text); break;
    case OPT_SCALE: good = take_permille("scale", text, 1000000, &c->traffic.scale_permille);
        break;
    case OPT_TRAFFIC: return take_traffic(o, text);
    case OPT_TRACE: o->trace = text; break;
    case OPT_MODEL: break; /* read ahead of the others, which change it */
    case OPT_JSON: o->json = true; break;
    case OPT_OUT: o->out = text; break;
    case OPT_TOML: o->toml = text; break;
    case OPT_PAGE: o->page = text; break;
    case OPT_PREDICT: o->predict = true; break;
    case OPT_CONFIG: c->settings.file = text; break;
    case 'b': o->broker = text; break;
    case 's': good = salvo_cli_set_pair(&c->settings, "plan", text); break;
    default: return option >= OPT_P99 ? take_target(o, option, text)
                                      : take_broker(o, option, text);
    }
    return good ? 0 : CLI_USAGE;
}

/* The model first: options change what it says, wherever they stand. */
static int read_model(int argc, char **argv, plan_options *o)
{
    salvo_cli_plan_model_default(&o->c.model);
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--broker-model", 14) != 0)
            continue;
        o->model = argv[i][14] == '=' ? argv[i] + 15 : i + 1 < argc ? argv[i + 1] : NULL;
    }
    return o->model == NULL || salvo_cli_plan_model(o->model, &o->c.model) ? 0 : CLI_FAILED;
}

/* What would be read and ignored is refused. */
static int check_options(const plan_options *o)
{
    const char *name;
    if (o->trace == NULL && o->c.rate_per_s == 0)
        return salvo_cli_usage("plan", "how much is sent? --rate 80k, --traffic or --trace FILE");
    if (o->trace != NULL && o->c.rate_per_s != 0)
        return salvo_cli_usage("plan", "--trace and --rate exclude each other; --scale 1.5 "
                               "makes more of a trace");
    name = GIVEN(o, OPT_SIZE, OPT_KEYS, OPT_KEY_BYTES, OPT_ZIPF, OPT_TOPICS, OPT_ARRIVALS,
                 OPT_BURST);
    if (o->trace != NULL && name != NULL)
        return salvo_cli_usage("plan", "--%s: a trace has its own", name);
    name = GIVEN(o, OPT_KEY_BYTES, OPT_ZIPF);
    if (o->keys == 0 && name != NULL)
        return salvo_cli_usage("plan", "--%s needs --keys N", name);
    name = GIVEN(o, OPT_P99, OPT_OUTAGE, OPT_RECOVERY, OPT_CONSUMER, OPT_HOUR, OPT_TOML, OPT_PAGE);
    if (o->predict && name != NULL)
        return salvo_cli_usage("plan", "--%s: predict seeks nothing; it takes traffic, broker, "
                               "host and --json or --out", name);
    if (GIVEN(o, OPT_CONSUMER) != NULL && GIVEN(o, OPT_PARTITIONS) != NULL)
        return salvo_cli_usage("plan", "--consumer-rate decides the partitions: leave out "
                               "--partitions");
    if (o->c.outage_ns == 0 && GIVEN(o, OPT_RECOVERY) != NULL)
        return salvo_cli_usage("plan", "--recovery is from an outage: --outage 10s");
    if (o->c.outage_brokers > o->c.model.broker.brokers)
        return salvo_cli_usage("plan", "--outage: %u brokers of %u (--brokers)",
                               o->c.outage_brokers, o->c.model.broker.brokers);
    return 0;
}

static int parse(int argc, char **argv, plan_options *o)
{
    int option, status = read_model(argc, argv, o);
    while (status == 0 &&
           (option = salvo_cli_getopt(argc, argv, "plan", "b:s:h", options_table)) != -1) {
        if (option == 'h') {
            fputs(salvo_plan_help, stdout);
            return -1;
        }
        status = option == '?' ? CLI_USAGE : take(o, option, optarg);
    }
    if (status != 0)
        return status;
    if (optind < argc && strcmp(argv[optind], "predict") == 0) {
        o->predict = true;
        optind++;
    }
    if (optind < argc)
        return salvo_cli_usage("plan", "unexpected argument `%s`", argv[optind]);
    return check_options(o);
}

/* The topics of a rate, all alike, and what goes with the driver. */
static int complete(plan_options *o)
{
    salvo_plan_case *c = &o->c;
    if (o->broker != NULL)
        snprintf(c->model.driver, sizeof c->model.driver, "%s", o->broker);
    c->traffic.topics = c->topics;
    if (o->trace != NULL) {
        if (!salvo_cli_plan_trace(o->trace, c))
            return CLI_FAILED;
    } else {
        c->sizes[0] = (int64_t)c->least_bytes;
        c->sizes[1] = (int64_t)c->most_bytes;
        c->largest_bytes = c->most_bytes + (o->keys != 0 ? o->key_bytes : 0);
        c->mean_bytes = (c->least_bytes + c->most_bytes) / 2 + (o->keys != 0 ? o->key_bytes : 0);
        c->traffic.topic_count = (uint32_t)o->topics;
        for (uint64_t i = 0; i < o->topics; i++) /* the rest of the division to the first ones */
            c->topics[i] = (salvo_plan_topic){
                .rate_per_s = c->rate_per_s / o->topics + (i < c->rate_per_s % o->topics),
                .value_bytes = {c->sizes, c->sizes[0] == c->sizes[1] ? 1 : 2},
                .keys = (uint32_t)o->keys, .key_bytes = (uint32_t)o->key_bytes, .zipf = o->zipf};
    }
    c->rate_per_s = (uint64_t)((unsigned __int128)c->rate_per_s * c->traffic.scale_permille /
                               1000);
    if (c->rate_per_s == 0) {
        salvo_cli_say("less than one message a second: nothing to plan");
        return CLI_USAGE;
    }
    int status = salvo_cli_plan_fixed(c, o->broker != NULL || o->model != NULL);
    if (status != 0)
        return status;
    if (strcmp(c->model.driver, "kafka") != 0) {
        if (GIVEN(o, OPT_CONSUMER) != NULL)
            return salvo_cli_usage("plan", "--consumer-rate decides Kafka's partitions; %s has "
                                   "none", c->model.driver);
        if (strcmp(c->model.driver, "memory") != 0) {
            if (GIVEN(o, OPT_PARTITIONS) != NULL)
                return salvo_cli_usage("plan", "--partitions: %s has none", c->model.driver);
            c->model.broker.partitions = 1;
        }
    }
    return 0;
}

static int write_file(const char *path, const char *text)
{
    FILE *file = strcmp(path, "-") == 0 ? stdout : fopen(path, "we");
    if (file == NULL) {
        salvo_cli_say("%s: cannot write: %s", path, strerror(errno));
        return CLI_FAILED;
    }
    bool good = fputs(text, file) >= 0 && fflush(file) == 0;
    if (file != stdout && fclose(file) != 0)
        good = false;
    if (!good)
        salvo_cli_say("%s: cannot write: %s", path, strerror(errno));
    return good ? CLI_OK : CLI_FAILED;
}

/* A long search whose result cannot be written would be a pity: ask before. */
static int writable(const char *path)
{
    if (path == NULL || strcmp(path, "-") == 0)
        return 0;
    bool existed = access(path, F_OK) == 0;
    FILE *file = fopen(path, "ae");
    if (file == NULL) {
        salvo_cli_say("%s: cannot write: %s", path, strerror(errno));
        return CLI_FAILED;
    }
    fclose(file);
    if (!existed)
        unlink(path);
    return 0;
}

static int give(const plan_options *o, json_t *json)
{
    int status = CLI_OK;
    char *text = json_dumps(json, JSON_INDENT(2));
    char *line = text != NULL ? salvo_cli_alloc(strlen(text) + 2) : NULL;
    if (line != NULL)
        sprintf(line, "%s\n", text);
    if (line == NULL)
        status = CLI_FAILED;
    if (status == CLI_OK && o->json)
        status = write_file("-", line);
    if (status == CLI_OK && o->out != NULL)
        status = write_file(o->out, line);
    free(line);
    free(text);
    json_decref(json);
    return status;
}

static int predict(const plan_options *o)
{
    salvo_plan_prediction p = {0};
    int status = salvo_cli_plan_predict(&o->c, &p);
    if (status == 0) {
        if (!o->json)
            salvo_cli_plan_print_prediction(&o->c, &p);
        status = give(o, salvo_cli_plan_prediction_json(&o->c, &p));
    }
    salvo_plan_result_free(&p.at_rate);
    return status;
}

static int plan(plan_options *o)
{
    salvo_plan_found f = {0};
    int status = salvo_cli_plan_find(&o->c, &f);
    if (status == 0 && f.possible && !o->json)
        salvo_cli_plan_print(&o->c, &f);
    if (status == 0)
        status = give(o, salvo_cli_plan_json(&o->c, &f));
    if (status == 0 && f.possible && o->toml != NULL) {
        char *text = salvo_cli_plan_toml(&o->c, &f);
        status = write_file(o->toml, text);
        free(text);
    }
    if (status == 0 && f.possible && o->page != NULL) {
        char *text = salvo_cli_plan_page(&o->c, &f);
        status = text != NULL ? write_file(o->page, text) : CLI_FAILED;
        free(text);
    }
    if (status == 0 && !f.possible) {
        salvo_cli_say("cannot be met: %s", f.why);
        status = CLI_FAILED;
    }
    salvo_cli_plan_found_free(&f);
    return status;
}

static int run(int argc, char **argv)
{
    plan_options *o = salvo_cli_alloc(sizeof *o);
    o->topics = 1;
    o->key_bytes = 8;
    o->c.least_bytes = o->c.most_bytes = 100;
    o->c.p99_ns = 10000000;
    o->c.recovery_ns = UINT64_C(30000000000);
    o->c.seed = 1;
    o->c.confirm_ns = UINT64_C(3600000000000);
    o->c.traffic = (salvo_plan_traffic){.threads = 1, .arrivals = SALVO_PLAN_POISSON,
                                        .scale_permille = 1000};
    int status = parse(argc, argv, o);
    if (status == 0)
        status = complete(o);
    if (status == 0)
        status = writable(o->out);
    if (status == 0)
        status = writable(o->toml);
    if (status == 0)
        status = writable(o->page);
    if (status == 0)
        status = o->predict ? predict(o) : plan(o);
    free(o->c.trace);
    free(o->c.other_settings);
    salvo_cli_plan_model_free(&o->c.model);
    salvo_cli_settings_free(&o->c.settings);
    free(o);
    return status < 0 ? CLI_OK : status;
}

const salvo_cli_command salvo_cli_plan = {"plan", "how large things have to be", salvo_plan_help,
                                          run};
