/* SPDX-License-Identifier: Apache-2.0
 *
 * client TOPIC [KEY=VALUE...]: a program that uses the library as any other does, and tells all
 * that the library tells it: log lines of every level, errors, the listing of the configuration,
 * stats, reports, percentiles. core.toml, the environment and KEY=VALUE configure it;
 * CLIENT_OPEN_MS is how long it waits for the broker. Status 0: three messages were acknowledged;
 * 1: they were not.
 */
#include <salvo/salvo.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MESSAGES = 3, WAIT_MS = 15000 };

static void log_all(void *context, int level, const char *text)
{
    (void)context;
    fprintf(stderr, "log %d: %s\n", level, text);
}

static int list(const salvo_config_entry *e, void *context)
{
    (void)context;
    printf("%s|%s|%s|%s|%s|%s|%s\n", e->key, e->value, e->default_value, e->type, e->allowed,
           e->source, e->help);
    return 0;
}

static salvo_config *configure(int argc, char **argv)
{
    salvo_config *config;
    if (salvo_config_new(&config) != 0)
        return NULL;
    int err = salvo_config_load_file(config, NULL);
    if (err == 0)
        err = salvo_config_load_env(config);
    for (int i = 2; err == 0 && i < argc; i++) {
        char key[128] = "";
        const char *equals = strchr(argv[i], '=');
        if (equals && (size_t)(equals - argv[i]) < sizeof key)
            memcpy(key, argv[i], (size_t)(equals - argv[i]));
        err = salvo_config_set(config, key, equals ? equals + 1 : "");
    }
    if (err != 0)
        fprintf(stderr, "configuration: %s\n", salvo_config_error(config));
    (void)salvo_config_each(config, list, NULL);
    return config;
}

static uint64_t send_all(salvo *producer, const char *name)
{
    salvo_topic topic;
    uint64_t good = 0;
    if (salvo_topic_open(producer, name, NULL, &topic) != 0)
        return 0;
    for (int i = 0; i < MESSAGES; i++) {
        salvo_message message = {.value = "client", .value_len = 6, .report = 1};
        salvo_report report = {0};
        int err = salvo_send_wait(producer, topic, &message, WAIT_MS, &report);
        printf("report: %d %s, offset %lld\n", err, salvo_strerror(err), (long long)report.offset);
        good += err == 0;
    }
    return good;
}

static void tell(salvo *producer)
{
    salvo_stats stats = {.size = sizeof stats};
    if (salvo_get_stats(producer, &stats) == 0)
        printf("stats: %s, %s, state %s, retries %llu, errors %llu\n", stats.driver, stats.clock,
               stats.broker_state, (unsigned long long)stats.retries,
               (unsigned long long)stats.broker_errors);
    fwrite(&stats, sizeof stats, 1, stdout); /* what the lines above leave out */
    for (int stage = 0; stage < SALVO_STAGES; stage++)
        if (salvo_write_percentiles(producer, (salvo_stage)stage, stdout) != 0)
            puts("no percentiles");
}

int main(int argc, char **argv)
{
    salvo *producer = NULL;
    const char *open_ms = getenv("CLIENT_OPEN_MS");
    salvo_options options = {.size = sizeof options, .require_broker = 1,
                             .open_timeout_ms = open_ms ? (uint32_t)atoi(open_ms) : 10000};
    salvo_close_report report = {0};
    if (argc < 2)
        return 2;
    salvo_set_log(log_all, NULL);
    salvo_config *config = configure(argc, argv);
    int err = config ? salvo_open(config, &options, &producer) : SALVO_ERR_NOMEM;
    if (err != 0) {
        fprintf(stderr, "open: %s: %s\n", salvo_strerror(err), salvo_last_error());
        salvo_config_free(config);
        return 1;
    }
    uint64_t good = send_all(producer, argv[1]);
    tell(producer);
    err = salvo_close(producer, 1000, &report);
    fprintf(stderr, "close: %s: %s\n", salvo_strerror(err), salvo_last_error());
    printf("acknowledged %llu\n", (unsigned long long)report.ledger.acknowledged);
    salvo_config_free(config);
    return good == MESSAGES && report.ledger.acknowledged == MESSAGES ? 0 : 1;
}
