/* SPDX-License-Identifier: Apache-2.0
 *
 * `salvo bench`: the open-loop load generator. Guarantees: what was offered is accounted for in
 * every column; a result that cannot be believed says so and why; the topics of a run's own are
 * removed, also after an error.
 */
#include "bench.h"
#include "load_result.h"

#include <string.h>

#define STREAM_BYTES (UINT64_C(256) << 20)
#define ENTRY_BYTES 50u /* what an entry of a stream costs beside its value, roughly */

/* Entries that a stream of the run's own may hold: some STREAM_BYTES of messages like the first
 * thousand. */
static void bound_streams(const salvo_bench_options *o, char *text, size_t size)
{
    salvo_load_source source = salvo_load_begin(&o->load);
    salvo_load_message m;
    uint64_t index, bytes = 0, count = 0;
    for (; count < 1000 && salvo_load_next(&source, &m, &index); count++)
        bytes += m.value_bytes + ENTRY_BYTES;
    uint64_t most = count ? STREAM_BYTES / (bytes / count) / o->topics : 0;
    snprintf(text, size, "%llu", (unsigned long long)(most < 1000 ? 1000 : most));
}

/* The generator's own defaults: below what file, environment and command line say. */
static salvo_config *load_config(salvo_bench_options *o)
{
    char bound[24];
    bound_streams(o, bound, sizeof bound);
    const struct {
        const char *key, *value;
    } ours[] = {{"full_policy", "fail"},
                {"max_reports", "16777216"},
                {"redis_maxlen", o->existing ? "0" : bound}};
    salvo_config *config = salvo_cli_load(&o->settings);
    for (size_t i = 0; config && i < sizeof ours / sizeof *ours; i++)
        if (!salvo_cli_config_is_set(config, ours[i].key) &&
            salvo_config_set_from(config, ours[i].key, ours[i].value, "salvo bench") != 0)
            salvo_cli_say("%s", salvo_config_error(config));
    return config;
}

static int write_schedule(const salvo_bench_options *o)
{
    char error[400];
    json_t *about = salvo_bench_load_json(o, 0);
    bool good = salvo_load_write_file(&o->load, o->write_schedule, about, error, sizeof error);
    json_decref(about);
    if (!good)
        salvo_cli_say("--write-schedule: %s", error);
    return good ? CLI_OK : CLI_FAILED;
}

/* What --fail-if says of a result. A bound that is kept is kept also by a late generator, whose
 * lateness is part of the latency; one that is broken may be its fault, which is told. */
static int judge(const salvo_bench_options *o, const json_t *result)
{
    int status = CLI_OK;
    for (size_t i = 0; i < o->fail_count; i++) {
        uint64_t ns;
        char text[16];
        if (!salvo_bench_bound_holds(&o->fail_if[i], result, &ns))
            continue;
        salvo_cli_say("--fail-if %s: it is %s", o->fail_if[i].text, salvo_bench_time(ns, text));
        status = CLI_FAILED;
    }
    if (status == CLI_FAILED && json_is_false(json_object_get(result, "valid")))
        salvo_cli_say("--fail-if: the result is invalid: %s",
                      json_string_value(json_object_get(result, "invalid_because")));
    return status;
}

static int tell(const salvo_bench_options *o, const json_t *result)
{
    char error[400];
    bool to_stdout = o->out && strcmp(o->out, "-") == 0;
    salvo_bench_show(to_stdout ? stderr : stdout, result);
    if (to_stdout && json_dumpf(result, stdout, JSON_INDENT(1) | JSON_PRESERVE_ORDER |
                                                    JSON_REAL_PRECISION(9)) != 0)
        return CLI_FAILED;
    if (o->out && !to_stdout && !salvo_result_write(result, o->out, error, sizeof error)) {
        salvo_cli_say("--out: %s", error);
        return CLI_FAILED;
    }
    return judge(o, result);
}

/* Hours of load must not end in a file that cannot be written. */
static bool writable(const char *option, const char *path)
{
    FILE *file = path && strcmp(path, "-") != 0 ? fopen(path, "ae") : stdout;
    if (!file)
        salvo_cli_say("--%s: cannot write %s: %m", option, path);
    else if (file != stdout)
        fclose(file);
    return file != NULL;
}

static int measure(salvo_bench_options *o)
{
    json_t *result = NULL;
    salvo_config *config = load_config(o);
    if (!config)
        return CLI_USAGE;
    int status = CLI_FAILED;
    if (writable("out", o->out) && writable("hdr", o->hdr)) {
        salvo_cli_catch_signals();
        if (salvo_bench_make_topics(o, config))
            status = o->until_given ? salvo_bench_until(o, config, &result)
                                    : salvo_bench_once(o, config, &result);
        salvo_bench_remove_topics(o, config);
    }
    if (result) {
        int told = tell(o, result);
        status = status == CLI_OK ? told : status;
    }
    json_decref(result);
    salvo_config_free(config);
    return status;
}

static int run(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "compare") == 0)
        return salvo_bench_compare(argc - 1, argv + 1);
    if (argc > 1 && strcmp(argv[1], "merge") == 0)
        return salvo_bench_merge(argc - 1, argv + 1);
    salvo_bench_options o = {.threads = 1, .seed = 1, .drain_s = 30};
    int status = salvo_bench_parse(argc, argv, &o);
    if (status == CLI_OK)
        status = o.write_schedule ? write_schedule(&o) : measure(&o);
    salvo_bench_options_free(&o);
    return status < 0 ? CLI_OK : status;
}

const salvo_cli_command salvo_cli_bench = {"bench", "measure: an open-loop load generator",
                                           salvo_bench_help, run};
