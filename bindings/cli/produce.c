/* SPDX-License-Identifier: Apache-2.0
 *
 * `salvo produce`: options, the life of the job, and its exit status. Guarantees: status 0 only
 * if every line that was to be sent was acknowledged; whatever ends the input early (a bad line,
 * a signal), what was accepted before is still delivered, within the drain time after a signal.
 */
#include "produce.h"

#include "produce_help.h"
#include "progress.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define STEP_MS 200u
#define BLOCK_MS 250u /* one try to get room; a stop is noticed this fast */

enum {
    OPT_NDJSON = CLI_LONG_ONLY, OPT_SKIP_INVALID, OPT_SKIP_EMPTY, OPT_KEY_FIELD, OPT_LINGER,
    OPT_COMPRESSION, OPT_CONFIG, OPT_FLUSH_TIMEOUT, OPT_DRAIN_TIMEOUT, OPT_JSON, OPT_PERCENTILES,
    OPT_RATE, OPT_THREADS, OPT_REQUIRE, OPT_AVRO
};

static const struct option options_table[] = {
    {"broker", required_argument, NULL, 'b'},
    {"topic", required_argument, NULL, 't'},
    {"ndjson", no_argument, NULL, OPT_NDJSON},
    {"avro", required_argument, NULL, OPT_AVRO},
    {"skip-invalid", no_argument, NULL, OPT_SKIP_INVALID},
    {"skip-empty", no_argument, NULL, OPT_SKIP_EMPTY},
    {"key-field", required_argument, NULL, OPT_KEY_FIELD},
    {"key-delimiter", required_argument, NULL, 'k'},
    {"header", required_argument, NULL, 'H'},
    {"partition", required_argument, NULL, 'p'},
    {"rate", required_argument, NULL, OPT_RATE},
    {"threads", required_argument, NULL, OPT_THREADS},
    {"linger-ms", required_argument, NULL, OPT_LINGER},
    {"compression", required_argument, NULL, OPT_COMPRESSION},
    {"set", required_argument, NULL, 's'},
    {"config", required_argument, NULL, OPT_CONFIG},
    {"require-broker", no_argument, NULL, OPT_REQUIRE},
    {"flush-timeout", required_argument, NULL, OPT_FLUSH_TIMEOUT},
    {"drain-timeout", required_argument, NULL, OPT_DRAIN_TIMEOUT},
    {"quiet", no_argument, NULL, 'q'},
    {"json", no_argument, NULL, OPT_JSON},
    {"percentiles", required_argument, NULL, OPT_PERCENTILES},
    {"help", no_argument, NULL, 'h'},
    {0}};

static bool add_header(produce_options *o, const char *text)
{
    const char *equals = strchr(text, '=');
    if (!equals || equals == text || equals - text > 255) {
        salvo_cli_usage("produce", "--header: `%s` is not name=value with a name of 1 to 255 "
                        "bytes", text);
        return false;
    }
    if (o->header_count == PRODUCE_MAX_HEADERS) {
        salvo_cli_usage("produce", "--header: more than %u headers", PRODUCE_MAX_HEADERS);
        return false;
    }
    o->headers[o->header_count++] = (salvo_header){text, (size_t)(equals - text), equals + 1,
                                                   strlen(equals + 1)};
    return true;
}

static bool set_linger(produce_options *o, const char *text)
{
    uint64_t linger_ms;
    char pair[48];
    if (!salvo_cli_number("produce", "linger-ms", text, 0, 900000, &linger_ms))
        return false;
    /* the finer key wins over kafka_linger_ms, wherever that was set */
    snprintf(pair, sizeof pair, "%llu", (unsigned long long)linger_ms * 1000);
    char *value = strdup(pair);
    o->settings.owned = salvo_cli_realloc(o->settings.owned, (o->settings.owned_count + 1) *
                                                                 sizeof *o->settings.owned);
    o->settings.owned[o->settings.owned_count++] = value;
    salvo_cli_set(&o->settings, "linger_us", value ? value : "", "--linger-ms");
    return true;
}

static bool take_flag(produce_options *o, int option)
{
    switch (option) {
    case OPT_NDJSON: return o->ndjson = true;
    case OPT_SKIP_INVALID: return o->skip_invalid = true;
    case OPT_SKIP_EMPTY: return o->skip_empty = true;
    case OPT_REQUIRE: return o->require_broker = true;
    case OPT_JSON: return o->json = true;
    case 'q': return o->quiet = true;
    default: return false;
    }
}

static bool take_number(produce_options *o, int option, const char *text)
{
    uint64_t value = 0;
    switch (option) {
    case 'p':
        if (!salvo_cli_number("produce", "partition", text, 0, INT32_MAX - 1, &value))
            return false;
        o->partition = (int64_t)value;
        return true;
    case OPT_RATE:
        return salvo_cli_number("produce", "rate", text, 1, 1000000000, &o->rate);
    case OPT_THREADS:
        return salvo_cli_number("produce", "threads", text, 1, PRODUCE_MAX_THREADS, &o->threads);
    case OPT_FLUSH_TIMEOUT:
        return salvo_cli_number("produce", "flush-timeout", text, 1, 1000000000,
                                &o->flush_timeout_ms);
    default:
        return salvo_cli_number("produce", "drain-timeout", text, 0, 1000000000,
                                &o->drain_timeout_ms);
    }
}

static bool take_option(produce_options *o, int option, char *text)
{
    switch (option) {
    case 'b': salvo_cli_set(&o->settings, "message_broker", text, "--broker"); return true;
    case 't': o->topic = text; return true;
    case 'k':
        o->key_delimiter = text;
        o->key_delimiter_len = strlen(text);
        return true;
    case OPT_KEY_FIELD: o->key_field = text; return true;
    case 'H': return add_header(o, text);
    case 's': return salvo_cli_set_pair(&o->settings, "produce", text);
    case OPT_CONFIG: o->settings.file = text; return true;
    case OPT_AVRO:
        o->avro = text;
        return o->ndjson = true;
    case OPT_LINGER: return set_linger(o, text);
    case OPT_COMPRESSION: /* each broker's driver reads its own */
        salvo_cli_set(&o->settings, "payload_compression", text, "--compression");
        salvo_cli_set(&o->settings, "kafka_compression_type", text, "--compression");
        return true;
    case OPT_PERCENTILES: o->percentiles = text; return true;
    default: return take_flag(o, option) || take_number(o, option, text);
    }
}

static bool check(const produce_options *o)
{
    if (o->key_field && !o->ndjson)
        salvo_cli_usage("produce", "--key-field needs --ndjson; lines have --key-delimiter");
    else if (o->key_delimiter && o->ndjson)
        salvo_cli_usage("produce", "--key-delimiter is for lines; NDJSON has --key-field");
    else if (o->key_delimiter && o->key_delimiter_len == 0)
        salvo_cli_usage("produce", "--key-delimiter is empty");
    else if (o->skip_invalid && !o->ndjson)
        salvo_cli_usage("produce", "--skip-invalid needs --ndjson or --avro");
    else
        return true;
    return false;
}

/* CLI_OK: go on. -1: help was asked for and printed. */
static int parse(int argc, char **argv, produce_options *o)
{
    static char standard[] = "-";
    static char *standard_input[] = {standard};
    int option;
    while ((option = salvo_cli_getopt(argc, argv, "produce", "b:t:k:H:p:s:qh",
                                      options_table)) != -1) {
        if (option == 'h') {
            fputs(produce_help, stdout);
            return -1;
        }
        if (option == '?' || !take_option(o, option, optarg))
            return CLI_USAGE;
    }
    o->files = optind < argc ? argv + optind : standard_input;
    o->file_count = optind < argc ? (size_t)(argc - optind) : 1;
    return check(o) ? CLI_OK : CLI_USAGE;
}

static int open_producer(produce_job *job, const salvo_config *config)
{
    const produce_options *o = job->options;
    const char *policy = salvo_config_get(config, "full_policy");
    job->blocking = !policy || strcmp(policy, "block") == 0;
    job->max_message_bytes = salvo_cli_config_number(config, "max_message_bytes", 1 << 20);
    if (salvo_cli_config_is_set(config, "send_timeout_ms"))
        job->send_timeout_ms = salvo_cli_config_number(config, "send_timeout_ms", 0);
    salvo_options options = {.size = sizeof options, .require_broker = o->require_broker};
    salvo_topic_options topic = {.size = sizeof topic};
    if (job->blocking) {
        topic.full_policy = SALVO_POLICY_BLOCK;
        topic.block_ms = BLOCK_MS;
    }
    int err = salvo_open(config, &options, &job->producer);
    if (err == 0)
        err = salvo_topic_open(job->producer, job->topic_name, &topic, &job->topic);
    if (err == 0)
        return CLI_OK;
    const char *text = salvo_last_error();
    salvo_cli_say("%s", *text ? text : salvo_strerror(err));
    if (job->producer && salvo_close(job->producer, 1, NULL) != 0)
        salvo_cli_say("closing failed");
    return err == SALVO_ERR_CONFIG || err == SALVO_ERR_INVALID ? CLI_USAGE : CLI_FAILED;
}

static bool start_thread(produce_job *job, pthread_t *thread, void *(*run)(void *), void *context)
{
    atomic_fetch_add_explicit(&job->running, 1, memory_order_relaxed);
    int err = pthread_create(thread, NULL, run, context);
    if (err == 0)
        return true;
    atomic_fetch_sub_explicit(&job->running, 1, memory_order_relaxed);
    salvo_produce_fail(job, "cannot start a thread: %s", strerror(err));
    return false;
}

static void wait_for_threads(produce_job *job, salvo_progress *progress)
{
    struct pollfd done = {.fd = job->done_fd, .events = POLLIN};
    bool told = false;
    /* acquire: partner of the release in salvo_produce_thread_ended. */
    while (atomic_load_explicit(&job->running, memory_order_acquire) > 0) {
        if (poll(&done, 1, STEP_MS) > 0) {
            uint64_t count;
            ssize_t n = read(job->done_fd, &count, sizeof count);
            (void)n;
        }
        if (salvo_cli_signals() > 0 && !told) {
            told = true;
            salvo_cli_say("stopping; what was accepted is delivered within %llu ms, Ctrl-C "
                          "again gives up", (unsigned long long)job->options->drain_timeout_ms);
        }
        salvo_progress_step(progress, job->producer);
    }
}

static void run_threads(produce_job *job, salvo_progress *progress)
{
    produce_sender senders[PRODUCE_MAX_THREADS];
    pthread_t threads[PRODUCE_MAX_THREADS + 1];
    unsigned count = 0;
    for (; count < job->options->threads; count++) {
        salvo_produce_queue_init(&job->queues[count]);
        senders[count] = (produce_sender){job, &job->queues[count]};
        if (!start_thread(job, &threads[count], salvo_produce_send, &senders[count]))
            break;
    }
    bool reading = count == job->options->threads &&
                   start_thread(job, &threads[count], salvo_produce_read, job);
    for (unsigned i = 0; i < count && !reading; i++)
        salvo_produce_queue_close(&job->queues[i]);
    wait_for_threads(job, progress);
    for (unsigned i = 0; i < count + reading; i++)
        pthread_join(threads[i], NULL);
}

/* Until all is settled, the time is up, or a person has had enough. */
static bool drain(produce_job *job, salvo_progress *progress)
{
    uint64_t start = salvo_cli_now_ns(), signalled = salvo_cli_signals() > 0 ? start : 0;
    for (;;) {
        int err = salvo_flush(job->producer, STEP_MS);
        uint64_t now = salvo_cli_now_ns(), limit = job->options->flush_timeout_ms;
        if (err != SALVO_ERR_TIMEOUT)
            return err == 0;
        if (salvo_cli_signals() > 0 && signalled == 0)
            signalled = now;
        if (salvo_cli_signals() > 1)
            return false;
        if (signalled && now - signalled >= job->options->drain_timeout_ms * 1000000)
            return false;
        if (!signalled && limit && now - start >= limit * 1000000)
            return false;
        salvo_progress_step(progress, job->producer);
    }
}

static bool write_percentiles(produce_job *job)
{
    const char *path = job->options->percentiles;
    FILE *file = fopen(path, "we");
    int err = file ? salvo_write_percentiles(job->producer, SALVO_STAGE_TOTAL, file)
                   : SALVO_ERR_IO;
    if (file && fclose(file) != 0 && err == 0)
        err = SALVO_ERR_IO;
    if (err == 0)
        return true;
    salvo_cli_say("%s: cannot write the percentiles: %s", path, strerror(errno));
    return false;
}

static int judge(const produce_job *job, const produce_result *result, bool percentiles_ok)
{
    const salvo_ledger *l = &result->ledger;
    uint64_t sent = atomic_load_explicit(&job->sent, memory_order_relaxed);
    uint64_t lost = atomic_load_explicit(&job->lost, memory_order_relaxed);
    if (l->acknowledged != sent)
        salvo_cli_say("%llu of %llu messages were not acknowledged: failed %llu (%llu of them "
                      "maybe delivered), expired %llu, dropped %llu; the broker is %s",
                      (unsigned long long)(sent - l->acknowledged), (unsigned long long)sent,
                      (unsigned long long)l->failed, (unsigned long long)l->maybe_delivered,
                      (unsigned long long)l->expired, (unsigned long long)l->dropped,
                      *result->stats.broker_state ? result->stats.broker_state : "unknown");
    if (lost)
        salvo_cli_say("%llu lines were refused for want of room (full_policy, send_timeout_ms)",
                      (unsigned long long)lost);
    if (salvo_cli_signals() > 0)
        return CLI_INTERRUPTED;
    bool failed = atomic_load_explicit(&job->failed, memory_order_relaxed);
    bool all = l->acknowledged == sent && lost == 0 && result->not_sent == 0;
    return all && !failed && percentiles_ok ? CLI_OK : CLI_FAILED;
}

static int run_job(produce_job *job)
{
    salvo_progress progress;
    produce_result result = {.stats = {.size = sizeof result.stats}};
    salvo_close_report report = {0};
    salvo_progress_init(&progress, job->options->quiet);
    job->start_ns = salvo_cli_now_ns();
    run_threads(job, &progress);
    bool settled = drain(job, &progress);
    salvo_progress_end(&progress);
    result.seconds = (double)(salvo_cli_now_ns() - job->start_ns) / 1e9;
    bool good = salvo_get_stats(job->producer, &result.stats) == 0;
    if (job->options->percentiles)
        good = write_percentiles(job) && good;
    int err = salvo_close(job->producer, settled ? 1000 : 1, &report);
    if (err != 0 && err != SALVO_ERR_DROPPED) {
        salvo_cli_say("closing failed: %s", salvo_strerror(err));
        good = false;
    }
    result.ledger = report.ledger;
    result.not_sent = job->handed - atomic_load_explicit(&job->sent, memory_order_relaxed) -
                      atomic_load_explicit(&job->lost, memory_order_relaxed);
    result.status = judge(job, &result, good);
    if (job->options->json)
        salvo_produce_report_json(job, &result);
    else if (!job->options->quiet)
        salvo_produce_report(job, &result);
    return result.status;
}

static int with_config(const produce_options *o, const salvo_config *config)
{
    produce_job *job = salvo_cli_alloc(sizeof *job);
    const char *topic = o->topic ? o->topic : salvo_config_get(config, "default_topic");
    const char *broker = salvo_config_get(config, "message_broker");
    job->options = o;
    job->topic_name = topic && *topic ? topic : "events";
    job->broker = broker && *broker ? broker : "kafka";
    job->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (strcmp(job->broker, "memory") == 0 && !o->quiet)
        salvo_cli_say("the broker `memory` lives in one process: these messages are gone when "
                      "this command ends");
    salvo_cli_avro avro = {0};
    int status = CLI_OK;
    if (o->avro) {
        job->avro = &avro;
        status = salvo_cli_avro_write(&avro, config, o->avro, job->topic_name);
    }
    if (status == CLI_OK)
        status = open_producer(job, config);
    if (status == CLI_OK)
        status = run_job(job);
    salvo_cli_avro_close(&avro);
    close(job->done_fd);
    free(job);
    return status;
}

static int run(int argc, char **argv)
{
    produce_options o = {.partition = -1, .threads = 1, .drain_timeout_ms = 10000};
    int status = parse(argc, argv, &o);
    if (status == CLI_OK) {
        salvo_cli_catch_signals();
        salvo_config *config = salvo_cli_load(&o.settings);
        status = config ? with_config(&o, config) : CLI_USAGE;
        salvo_config_free(config);
    }
    salvo_cli_settings_free(&o.settings);
    return status < 0 ? CLI_OK : status;
}

const salvo_cli_command salvo_cli_produce = {"produce", "send lines or NDJSON", produce_help, run};
