/* SPDX-License-Identifier: Apache-2.0
 *
 * Numbers with units and broker models, by integers only: a plan's input must come out the same
 * on every machine. What a file holds is bounded and checked before it is used.
 */
#include "plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct unit {
    const char *name;
    uint64_t factor; /* in thousandths of the result's unit */
} unit;

/* "12.5k" in thousandths, exactly; false: not a number with one of the units. */
static bool parse(const char *text, const unit *units, uint64_t *out)
{
    unsigned __int128 value = 0;
    uint64_t divisor = 1;
    const char *at = text;
    bool digits = false, fraction = false;
    for (; (*at >= '0' && *at <= '9') || (*at == '.' && !fraction); at++) {
        if (*at == '.') {
            fraction = true;
            continue;
        }
        digits = true;
        if (value > UINT64_MAX / 16 || divisor > 1000000000)
            return false;
        value = value * 10 + (unsigned)(*at - '0');
        divisor *= fraction ? 10 : 1;
    }
    for (const unit *u = units; digits && u->name != NULL; u++) {
        if (strcmp(at, u->name) != 0)
            continue;
        unsigned __int128 whole = value * u->factor / divisor / 1000;
        if (whole > INT64_MAX)
            return false;
        *out = (uint64_t)whole;
        return true;
    }
    return false;
}

bool salvo_cli_plan_count(const char *option, const char *text, uint64_t *out)
{
    static const unit units[] = {{"", 1000}, {"k", 1000000}, {"M", 1000000000},
                                 {"G", 1000000000000}, {NULL, 0}};
    if (parse(text, units, out))
        return true;
    salvo_cli_usage("plan", "--%s: `%s` is not a number such as 80000, 80k or 1.5M", option, text);
    return false;
}

bool salvo_cli_plan_time(const char *option, const char *text, uint64_t *out_ns)
{
    static const unit units[] = {{"ns", 1000}, {"us", 1000000}, {"ms", 1000000000},
                                 {"s", 1000000000000}, {"m", 60000000000000},
                                 {"h", 3600000000000000}, {NULL, 0}};
    if (parse(text, units, out_ns))
        return true;
    salvo_cli_usage("plan", "--%s: `%s` is not a time such as 800us, 5ms, 10s or 2m", option,
                    text);
    return false;
}

bool salvo_cli_plan_ps(const char *option, const char *text, uint64_t *out_ps)
{
    static const unit units[] = {{"ps", 1000}, {"ns", 1000000}, {"us", 1000000000},
                                 {"ms", 1000000000000}, {NULL, 0}};
    if (parse(text, units, out_ps))
        return true;
    salvo_cli_usage("plan", "--%s: `%s` is not a time such as 900ps, 1.5ns or 2us", option, text);
    return false;
}

bool salvo_cli_plan_size(const char *option, const char *text, uint64_t *out)
{
    static const unit units[] = {{"", 1000}, {"B", 1000}, {"k", 1024000}, {"KiB", 1024000},
                                 {"M", 1048576000}, {"MiB", 1048576000},
                                 {"G", 1073741824000}, {"GiB", 1073741824000}, {NULL, 0}};
    if (parse(text, units, out))
        return true;
    salvo_cli_usage("plan", "--%s: `%s` is not a size such as 100, 4k or 64MiB", option, text);
    return false;
}

/* ---- Broker models ---- */

typedef struct reading { /* the first thing that is wrong ends it */
    const char *path;
    bool failed;
} reading;

static void bad(reading *r, const char *key, const char *why)
{
    if (!r->failed)
        salvo_cli_say("%s: broker model: `%s` %s", r->path, key, why);
    r->failed = true;
}

static uint64_t number(reading *r, json_t *object, const char *key, uint64_t low, uint64_t high,
                       uint64_t fallback)
{
    json_t *value = json_object_get(object, key);
    char why[96];
    if (value == NULL || json_is_null(value))
        return fallback;
    json_int_t n = json_integer_value(value);
    if (json_is_integer(value) && n >= 0 && (uint64_t)n >= low && (uint64_t)n <= high)
        return (uint64_t)n;
    snprintf(why, sizeof why, "is not a whole number from %llu to %llu", (unsigned long long)low,
             (unsigned long long)high);
    bad(r, key, why);
    return fallback;
}

static void need(reading *r, json_t *object, const char *key)
{
    if (json_object_get(object, key) == NULL)
        bad(r, key, "is missing");
}

enum { TABLE_MOST = 1001 };
#define HOUR_NS UINT64_C(3600000000000)

static salvo_plan_table table(reading *r, json_t *object, const char *key, int64_t low,
                              int64_t **owned)
{
    json_t *array = json_object_get(object, key);
    salvo_plan_table t = {0};
    size_t count = json_array_size(array);
    if (array == NULL || json_is_null(array))
        return t;
    if (!json_is_array(array) || count == 0 || count > TABLE_MOST) {
        bad(r, key, "is not an array of 1 to 1,001 numbers");
        return t;
    }
    int64_t *values = salvo_cli_alloc(count * sizeof *values);
    for (size_t i = 0; i < count; i++) {
        json_t *value = json_array_get(array, i);
        values[i] = json_integer_value(value);
        if (!json_is_integer(value) || values[i] < low || values[i] > (int64_t)HOUR_NS ||
            (i != 0 && values[i] < values[i - 1]))
            bad(r, key, "holds a number that is no time, or not in ascending order");
    }
    *owned = values;
    t.values = values;
    t.count = (uint32_t)count;
    return t;
}

static void read_pace(reading *r, json_t *pace, salvo_plan_model *m)
{
    enum { PACE_MOST = 4000 };
    json_t *array = json_object_get(pace, "permille"), *value;
    size_t count = json_array_size(array), i;
    if (count == 0 || count > PACE_MOST) {
        bad(r, "permille", "of `pace` is not an array of 1 to 4,000 numbers");
        return;
    }
    m->pace = salvo_cli_alloc(count * sizeof *m->pace);
    json_array_foreach(array, i, value) {
        json_int_t n = json_integer_value(value);
        if (n < 10 || n > 1000000)
            bad(r, "permille", "of `pace` holds what is not a whole number from 10 to 1000000");
        m->pace[i] = (uint32_t)n;
    }
    m->broker.pace_permille = m->pace;
    m->broker.pace_count = (uint32_t)count;
    m->broker.pace_slice_ns = number(r, pace, "slice_ns", 1000000, HOUR_NS, 0);
    need(r, pace, "slice_ns");
}

static salvo_plan_cost cost(reading *r, json_t *o, const char *base, const char *byte,
                            const char *record)
{
    return (salvo_plan_cost){.base_ns = number(r, o, base, 0, HOUR_NS, 0),
                             .per_byte_ps = number(r, o, byte, 0, 1000000000000, 0),
                             .per_record_ps = number(r, o, record, 0, 1000000000000000, 0)};
}

static void read_client(reading *r, json_t *root, salvo_plan_model *m)
{
    json_t *client = json_object_get(root, "client");
    if (!json_is_object(client))
        return;
    json_t *flusher = json_object_get(client, "flusher"), *send = json_object_get(client, "send");
    json_t *library = json_object_get(client, "library");
    json_t *submit = json_object_get(client, "submit");
    m->host.cores = (uint32_t)number(r, client, "cores", 1, 256, m->host.cores);
    if (json_is_object(flusher)) {
        m->host.round_ns = number(r, flusher, "round_ns", 0, HOUR_NS, 0);
        m->host.flusher = cost(r, flusher, "batch_ns", "byte_ps", "record_ps");
    }
    if (json_is_object(submit))
        m->host.submit = cost(r, submit, "batch_ns", "byte_ps", "record_ps");
    if (json_is_object(library)) {
        m->host.library = cost(r, library, "batch_ns", "byte_ps", "record_ps");
        m->host.library_request_ns = number(r, library, "request_ns", 0, HOUR_NS, 0);
    }
    if (json_is_object(send)) {
        m->host.send_ps = number(r, send, "call_ps", 0, 1000000000000, 0);
        m->host.send_per_byte_ps = number(r, send, "byte_ps", 0, 1000000000, 0);
    }
    if (json_object_get(client, "overshoot_ns") != NULL) {
        free(m->tables[2]);
        m->tables[2] = NULL;
        m->host.overshoot_ns = table(r, client, "overshoot_ns", 0, &m->tables[2]);
    }
}

static uint64_t at_least_0(const json_t *value)
{
    json_int_t n = json_integer_value(value);
    return n > 0 ? (uint64_t)n : 0;
}

static uint64_t upper(json_t *measured, const char *key)
{
    return at_least_0(json_array_get(json_object_get(measured, key), 1));
}

/* How the broker was probed: with which settings, how far. */
static void read_conditions(json_t *root, salvo_plan_model *m)
{
    json_t *settings = json_object_get(root, "settings"), *limit = json_object_get(root, "limit");
    m->measured = json_is_object(settings);
    for (size_t i = 0; i < PLAN_SHAPING; i++) {
        const char *value = json_string_value(json_object_get(settings, salvo_cli_plan_shaping[i]));
        free(m->settings[i]);
        m->settings[i] = value != NULL ? strdup(value) : NULL;
    }
    if (json_is_false(json_object_get(limit, "reached")))
        m->bytes_per_s_max = at_least_0(json_object_get(limit, "bytes_per_s"));
}

static void read_root(reading *r, json_t *root, salvo_plan_model *m)
{
    static const char *const required[] = {"driver", "window", "servers", "service"};
    salvo_plan_broker *b = &m->broker;
    for (size_t i = 0; i < sizeof required / sizeof required[0]; i++)
        need(r, root, required[i]);
    json_t *service = json_object_get(root, "service"), *stalls = json_object_get(root, "stalls");
    json_t *on_host = json_object_get(root, "on_host"), *pauses = json_object_get(root, "pauses");
    json_t *pace = json_object_get(root, "pace");
    if (!json_is_object(service))
        bad(r, "service", "is not an object");
    need(r, service, "base_ns");
    snprintf(m->driver, sizeof m->driver, "%s", json_string_value(json_object_get(root, "driver"))
                                                    ? json_string_value(json_object_get(root,
                                                                                        "driver"))
                                                    : "");
    const char *name = json_string_value(json_object_get(root, "name"));
    snprintf(m->name, sizeof m->name, "%s", name != NULL ? name : "without a name");
    b->brokers = (uint32_t)number(r, root, "brokers", 1, 1000, 1);
    b->partitions = (uint32_t)number(r, root, "partitions", 1, 10000, 1);
    b->window = (uint32_t)number(r, root, "window", 1, 1000000, 1);
    b->servers = (uint32_t)number(r, root, "servers", 1, 64, 1);
    b->reconnect_ns = number(r, root, "reconnect_ns", 0, HOUR_NS, 0);
    b->request_timeout_ns = number(r, root, "request_timeout_ns", 0, HOUR_NS, 0);
    b->service = cost(r, service, "base_ns", "per_byte_ps", "per_record_ps");
    b->pushed_ns = number(r, service, "pushed_ns", 0, b->service.base_ns, 0);
    b->residual_ns = table(r, service, "residual_ns", -(int64_t)HOUR_NS, &m->tables[0]);
    if (json_is_object(stalls)) {
        b->stalls_per_hour = number(r, stalls, "per_hour", 0, 3600000, 0);
        b->stall_ns = table(r, stalls, "duration_ns", 0, &m->tables[1]);
    }
    if (json_is_object(pauses)) {
        b->pauses_per_tib = number(r, pauses, "per_tib", 0, 1000000000, 0);
        b->pauses_per_busy_hour = number(r, pauses, "per_busy_hour", 0, 3600000, 0);
        b->pause_ns = table(r, pauses, "duration_ns", 0, &m->tables[3]);
    }
    if (json_is_object(pace))
        read_pace(r, pace, m);
    if (json_is_object(on_host))
        b->on_host = cost(r, on_host, "batch_ns", "byte_ps", "record_ps");
    m->bytes_max = upper(json_object_get(root, "measured"), "bytes");
    m->steal_permille = number(r, root, "steal_permille", 0, 1000, 0);
    m->records_max = upper(json_object_get(root, "measured"), "records");
    m->in_flight_max = upper(json_object_get(root, "measured"), "in_flight");
    read_client(r, root, m);
    read_conditions(root, m);
}

bool salvo_cli_plan_model(const char *path, salvo_plan_model *m)
{
    reading r = {.path = path};
    json_error_t error;
    json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
    if (root == NULL) {
        salvo_cli_say(error.line > 0 ? "%s: broker model: %s (line %d)" : "%s: %s", path,
                      error.text, error.line);
        return false;
    }
    const char *format = json_string_value(json_object_get(root, "format"));
    if (format == NULL || strcmp(format, "salvo-broker-model") != 0)
        bad(&r, "format", "is not salvo-broker-model; salvo probe writes such files");
    else if (json_integer_value(json_object_get(root, "version")) != 1)
        bad(&r, "version", "is not 1, the only one that is known");
    else
        read_root(&r, root, m);
    static const char *const drivers[] = {"kafka", "redis", "rabbitmq", "memory", "null"};
    bool known = false;
    for (size_t i = 0; i < sizeof drivers / sizeof drivers[0]; i++)
        known |= strcmp(m->driver, drivers[i]) == 0;
    if (!known)
        bad(&r, "driver", "is none of kafka, redis, rabbitmq, memory, null");
    json_decref(root);
    return !r.failed;
}

/* A broker in the same data centre, as stated by --help: explicit numbers, not a measurement. */
void salvo_cli_plan_model_default(salvo_plan_model *m)
{
    static const int64_t overshoot[] = {5000, 50000, 60000, 70000, 200000};
    *m = (salvo_plan_model){
        .broker = {.brokers = 1, .partitions = 1, .window = 5, .servers = 2,
                   .service = {1000000, 1000, 20000}},
        .host = {.cores = 2, .round_ns = 1500, .flusher = {4000, 60, 90000},
                 .library = {9000, 300, 250000}, .send_ps = 80000, .send_per_byte_ps = 40,
                 .overshoot_ns = {overshoot, 5}},
        .name = "a typical broker, not a measured one",
        .driver = "kafka"};
}

void salvo_cli_plan_model_free(salvo_plan_model *m)
{
    for (size_t i = 0; i < sizeof m->tables / sizeof m->tables[0]; i++)
        free(m->tables[i]);
    for (size_t i = 0; i < PLAN_SHAPING; i++)
        free(m->settings[i]);
    free(m->pace);
}
