/* SPDX-License-Identifier: Apache-2.0
 *
 * The mapping of kafka_* keys to librdkafka's properties: one table for what is copied as it is,
 * a few lines for what needs a thought. Linger and batch size (kafka_linger_ms,
 * kafka_max_batch_size) are the engine's: librdkafka gets half a millisecond and large limits, so
 * that it neither waits again nor splits what the engine batched.
 */
#include "kafka_config.h"
#include "config_internal.h"
#include "config_keys.h"
#include "error.h"
#include "names.h"
#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* librdkafka's own bounds. */
#define SOCKET_TIMEOUT_MIN_MS 10
#define SOCKET_TIMEOUT_MAX_MS 300000
#define MESSAGE_MAX_MIN_BYTES 1000
#define MESSAGE_MAX_MAX_BYTES 1000000000
#define BATCH_MESSAGES_MIN 10000
/* What a record may need beside key and value; max_message_bytes speaks of the latter. */
#define MESSAGE_OVERHEAD_BYTES 4096
#define MAX_POLL_INTERVAL_MS 300000 /* its default */
#define BATCH_SIZE 1000000          /* so is this */
#define RECORD_BYTES 40 /* its own estimate of a record, key, value and headers apart */

/* What the client is for. */
typedef enum role { PRODUCER, READER, MEMBER, TRANSACTION } role;

typedef struct building {
    const salvo_config *config;
    rd_kafka_conf_t *conf;
    rd_kafka_type_t type;
    role role;
    const char *name;   /* group, or transactional id */
    const char *member; /* NULL: a fresh one */
    salvo_kafka_log *log;
    char *error;
    size_t error_size;
} building;

static int refuse(const building *b, const char *name, const char *source, const char *why)
{
    snprintf(b->error, b->error_size, "%s%s%s%s: %s", name, source ? " (from " : "",
             source ? source : "", source ? ")" : "", why);
    return SALVO_ERR_CONFIG;
}

/* `name` is what the person wrote, `property` what librdkafka calls it. */
static int set_from(building *b, const char *name, const char *source, const char *property,
                    const char *value)
{
    char text[512];
    rd_kafka_conf_res_t result = rd_kafka_conf_set(b->conf, property, value, text, sizeof text);
    if (result == RD_KAFKA_CONF_OK)
        return 0;
    if (result == RD_KAFKA_CONF_UNKNOWN)
        return refuse(b, name, source,
                      "this librdkafka has no such property; see its CONFIGURATION.md");
    /* librdkafka quotes the value that it refuses. */
    return refuse(b, name, source, salvo_name_is_secret(property) ? "not a value of it" : text);
}

static int set(building *b, const char *name, const char *property, const char *value)
{
    return set_from(b, name, NULL, property, value);
}

static int set_number(building *b, const char *name, const char *property, int64_t value)
{
    char text[24];
    snprintf(text, sizeof text, "%lld", (long long)value);
    return set(b, name, property, text);
}

static int64_t clamp(int64_t value, int64_t low, int64_t high)
{
    return value < low ? low : value > high ? high : value;
}

static const char *value_of(const building *b, const char *key)
{
    const char *value = salvo_config_get(b->config, key);
    return value && *value ? value : NULL;
}

typedef struct mapping {
    const char *key, *property;
    bool producer_only;
} mapping;

/* Copied where set. */
static const mapping mappings[] = {
    {"kafka_bootstrap_servers", "bootstrap.servers", false},
    {"kafka_client_id", "client.id", false},
    {"kafka_sasl_username", "sasl.username", false},
    {"kafka_sasl_password", "sasl.password", false},
    {"kafka_ssl_cafile", "ssl.ca.location", false},
    {"kafka_ssl_certfile", "ssl.certificate.location", false},
    {"kafka_ssl_keyfile", "ssl.key.location", false},
    {"kafka_retry_backoff_ms", "retry.backoff.ms", false},
    {"reconnect_backoff_ms", "reconnect.backoff.ms", false},
    {"retry_backoff_max_ms", "reconnect.backoff.max.ms", false},
    {"kafka_compression_type", "compression.type", true},
    {"delivery_timeout_ms", "message.timeout.ms", true},
};

static int set_mapped(building *b)
{
    for (size_t i = 0; i < sizeof mappings / sizeof *mappings; i++) {
        const mapping *m = &mappings[i];
        const char *value = value_of(b, m->key);
        if (!value || (m->producer_only && b->type != RD_KAFKA_PRODUCER))
            continue;
        int err = set(b, m->key, m->property, value);
        if (err)
            return err;
    }
    return 0;
}

static int set_security(building *b)
{
    const char *protocol = value_of(b, "kafka_security_protocol");
    const char *mechanism = value_of(b, "kafka_sasl_mechanism");
    char lower[32] = "plaintext";
    for (size_t i = 0; protocol && i < sizeof lower - 1; i++) {
        lower[i] = (char)tolower((unsigned char)protocol[i]);
        if (!protocol[i])
            break;
    }
    int err = set(b, "kafka_security_protocol", "security.protocol", lower);
    /* A user name without a mechanism means PLAIN, as with the clients these keys come from;
     * librdkafka's own default would be Kerberos. */
    if (!mechanism && value_of(b, "kafka_sasl_username"))
        mechanism = "PLAIN";
    if (!err && mechanism)
        err = set(b, "kafka_sasl_mechanism", "sasl.mechanism", mechanism);
    return err;
}

static int set_acks(building *b)
{
    const char *acks = value_of(b, "kafka_acks");
    bool all = !acks || strcmp(acks, "all") == 0 || strcmp(acks, "-1") == 0;
    bool idempotence = salvo_config_bool(b->config, "kafka_enable_idempotence");
    if (b->role == TRANSACTION) {
        if (b->log && (!all || !idempotence))
            b->log(SALVO_LOG_NOTICE, "kafka: transactions go with acks = all and idempotence, "
                                     "whatever kafka_acks and kafka_enable_idempotence say");
        all = idempotence = true;
    }
    if (idempotence && !all)
        return refuse(b, "kafka_acks", NULL,
                      "kafka_enable_idempotence = true needs kafka_acks = all; "
                      "set one of the two differently");
    if (!all && b->log) /* the configuration has switched idempotence off */
        b->log(SALVO_LOG_NOTICE,
               "kafka: kafka_acks = %s goes without idempotence: retries may duplicate", acks);
    int err = set(b, "kafka_acks", "acks", all ? "all" : acks);
    if (!err)
        err = set(b, "kafka_enable_idempotence", "enable.idempotence",
                  idempotence ? "true" : "false");
    /* Order per partition survives retries only with idempotence or one request at a time. */
    if (!err && !idempotence)
        err = set(b, "kafka_enable_idempotence", "max.in.flight.requests.per.connection", "1");
    return err;
}

static int set_timeouts(building *b)
{
    int64_t request = salvo_config_int(b->config, "kafka_request_timeout_ms");
    int64_t delivery = salvo_config_int(b->config, "delivery_timeout_ms");
    int err = set_number(b, "kafka_request_timeout_ms", "socket.timeout.ms",
                         clamp(request, SOCKET_TIMEOUT_MIN_MS, SOCKET_TIMEOUT_MAX_MS));
    if (!err && b->type == RD_KAFKA_PRODUCER)
        err = set_number(b, "kafka_request_timeout_ms", "request.timeout.ms",
                         request < delivery ? request : delivery);
    return err;
}

static int set_producer(building *b)
{
    int64_t bytes = salvo_config_int(b->config, "max_message_bytes") + MESSAGE_OVERHEAD_BYTES;
    int64_t messages = salvo_config_int(b->config, "batch_messages");
    int err = set_acks(b);
    if (!err)
        err = set_number(b, "max_message_bytes", "message.max.bytes",
                         clamp(bytes, MESSAGE_MAX_MIN_BYTES, MESSAGE_MAX_MAX_BYTES));
    if (!err)
        err = set_number(b, "batch_messages", "batch.num.messages",
                         clamp(messages, BATCH_MESSAGES_MIN, 1000000));
    if (!err)
        err = set(b, "linger", "linger.ms", "0.5"); /* a burst is submitted within that */
    /* The driver's credit bounds the queue; librdkafka's own bound must never be met first,
     * since it would split a batch. */
    if (!err)
        err = set(b, "queue", "queue.buffering.max.messages", "10000000");
    if (!err)
        err = set(b, "queue", "queue.buffering.max.kbytes", "2147483647");
    return err;
}

static int set_all(building *b, const char *name, const char *const (*properties)[2],
                   size_t count)
{
    int err = 0;
    for (size_t i = 0; !err && i < count; i++)
        err = set(b, name, properties[i][0], properties[i][1]);
    return err;
}

static int set_reader(building *b)
{
    static const char *const fixed[][2] = {
        {"group.id", "salvo-reader"}, /* asked for by librdkafka; nothing joins or commits */
        {"enable.auto.commit", "false"},
        {"enable.auto.offset.store", "false"},
        {"enable.partition.eof", "true"},
        {"auto.offset.reset", "earliest"},
        {"allow.auto.create.topics", "false"},
    };
    return set_all(b, "reader", fixed, sizeof fixed / sizeof *fixed);
}

/* Silence and heartbeats; max.poll.interval.ms must not be below the session's. */
static int set_session(building *b)
{
    int64_t session = salvo_config_int(b->config, "kafka_session_timeout_ms");
    int64_t heartbeat = salvo_config_int(b->config, "kafka_heartbeat_interval_ms");
    if (heartbeat >= session) {
        char why[128];
        snprintf(why, sizeof why, "%lld does not go with kafka_session_timeout_ms = %lld; allowed: "
                 "less, best a third of it", (long long)heartbeat, (long long)session);
        return refuse(b, "kafka_heartbeat_interval_ms", NULL, why);
    }
    int err = set_number(b, "kafka_session_timeout_ms", "session.timeout.ms", session);
    if (!err)
        err = set_number(b, "kafka_heartbeat_interval_ms", "heartbeat.interval.ms", heartbeat);
    if (!err && session > MAX_POLL_INTERVAL_MS)
        err = set_number(b, "kafka_session_timeout_ms", "max.poll.interval.ms", session);
    return err;
}

static int set_member(building *b)
{
    static const char *const fixed[][2] = {
        {"partition.assignment.strategy", "cooperative-sticky"},
        {"enable.auto.commit", "false"},       /* what is settled is the engine's to say */
        {"enable.auto.offset.store", "false"},
        {"enable.partition.eof", "false"},
        {"allow.auto.create.topics", "true"},  /* where the broker does so */
        {"topic.metadata.refresh.interval.ms", "2000"}, /* topics that are made later */
        /* Fetching stops at this many and goes on up to a second later (before librdkafka 2.2);
         * so let the bytes decide. */
        {"queued.min.messages", "10000000"},
    };
    int err = set_all(b, "consumer", fixed, sizeof fixed / sizeof *fixed);
    if (!err)
        err = set(b, "group", "group.id", b->name);
    if (!err && b->member)
        err = set(b, "member", "group.instance.id", b->member);
    const char *reset = value_of(b, "kafka_auto_offset_reset");
    if (!err)
        err = set(b, "kafka_auto_offset_reset", "auto.offset.reset",
                  strcmp(reset, "none") == 0 ? "error" : reset);
    if (!err)
        err = set(b, "kafka_isolation_level", "isolation.level",
                  value_of(b, "kafka_isolation_level"));
    if (!err)
        err = set_number(b, "buffer_bytes", "queued.max.messages.kbytes",
                         clamp(salvo_config_int(b->config, "buffer_bytes") / 1024, 1, 2097151));
    return err ? err : set_session(b);
}

/* Before the transaction's own deadline each message must have its outcome. */
static int set_transaction(building *b)
{
    int64_t whole = salvo_config_int(b->config, "kafka_transaction_timeout_ms");
    int64_t delivery = salvo_config_int(b->config, "delivery_timeout_ms");
    int64_t request = salvo_config_int(b->config, "kafka_request_timeout_ms");
    int64_t kbytes = salvo_config_int(b->config, "buffer_bytes") / 1024;
    int err = set_producer(b);
    if (!err)
        err = set(b, "transaction", "transactional.id", b->name);
    if (!err)
        err = set_number(b, "kafka_transaction_timeout_ms", "transaction.timeout.ms", whole);
    if (!err)
        err = set_number(b, "delivery_timeout_ms", "message.timeout.ms",
                         delivery < whole ? delivery : whole);
    if (!err)
        err = set_number(b, "kafka_request_timeout_ms", "socket.timeout.ms",
                         clamp(request, SOCKET_TIMEOUT_MIN_MS, whole - 100));
    if (!err) /* this queue is the only one: it is what bounds it, and where messages gather */
        err = set_number(b, "buffer_bytes", "queue.buffering.max.kbytes",
                         clamp(kbytes, 1, 2147483647));
    if (!err)
        err = set(b, "linger", "linger.ms", "5");
    if (!err) /* keys as the engine's, and as the Java client's */
        err = set(b, "partitioner", "partitioner", "murmur2_random");
    return err;
}

static bool is_one_of(const char *property, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(property, names[i]) == 0)
            return true;
    return false;
}

/* With these changed, tokens would not come back or would mean something else; or offsets would be
 * committed that are not settled. */
static bool is_the_drivers(const building *b, const char *property)
{
    static const char *const names[] = {
        "delivery.report.only.error", "enabled_events", "log.queue", "transactional.id",
        "enable.partition.eof",
    };
    static const char *const of_members[] = {
        "group.id", "group.instance.id", "enable.auto.commit", "auto.commit.enable",
        "enable.auto.offset.store",
    };
    return is_one_of(property, names, sizeof names / sizeof *names) ||
           (b->role == MEMBER &&
            is_one_of(property, of_members, sizeof of_members / sizeof *of_members));
}

static int pass_through(const char *property, const char *value, const char *source,
                        void *context)
{
    building *b = context;
    char name[SALVO_KEY_NAME_MAX + sizeof SALVO_RDKAFKA_PREFIX];
    snprintf(name, sizeof name, SALVO_RDKAFKA_PREFIX "%s", property);
    if (is_the_drivers(b, property))
        return refuse(b, name, source, "the driver's own; it cannot be changed");
    return set_from(b, name, source, property, value);
}

/* librdkafka's look-ups, so that a fork does not meet one; without all three: free the result. */
static int look_up(const char *node, const char *service, const struct addrinfo *hints,
                   struct addrinfo **result, void *opaque)
{
    (void)opaque;
    if (node || service || hints)
        return salvo_names_look_up(node, service, hints, result);
    freeaddrinfo(*result);
    return 0;
}

static int set_role(building *b)
{
    switch (b->role) {
    case PRODUCER: return set_producer(b);
    case READER: return set_reader(b);
    case MEMBER: return set_member(b);
    case TRANSACTION: return set_transaction(b);
    }
    return SALVO_ERR_INVALID;
}

/* With Nagle's algorithm the end of a request waits for the acknowledgement of what went before,
 * which the broker's TCP may hold back for 40 ms. */
static int set_socket(building *b)
{
    return set(b, "socket", "socket.nagle.disable", "true");
}

static rd_kafka_conf_t *build(building *b, int *err)
{
    b->conf = rd_kafka_conf_new();
    rd_kafka_conf_set_resolve_cb(b->conf, look_up);
    *err = set_mapped(b);
    if (!*err)
        *err = set_socket(b);
    if (!*err)
        *err = set_security(b);
    if (!*err)
        *err = set_timeouts(b);
    if (!*err)
        *err = set_role(b);
    if (!*err)
        *err = salvo_config_each_rdkafka(b->config, pass_through, b);
    if (!*err)
        return b->conf;
    rd_kafka_conf_destroy(b->conf);
    return NULL;
}

rd_kafka_conf_t *salvo_kafka_conf(const salvo_config *config, rd_kafka_type_t type,
                                  salvo_kafka_log *log, int *err, char *error,
                                  size_t error_size)
{
    building b = {.config = config, .type = type, .log = log, .error = error,
                  .error_size = error_size,
                  .role = type == RD_KAFKA_PRODUCER ? PRODUCER : READER};
    return build(&b, err);
}

rd_kafka_conf_t *salvo_kafka_group_conf(const salvo_config *config, const char *group,
                                        const char *member, salvo_kafka_log *log, int *err,
                                        char *error, size_t error_size)
{
    building b = {.config = config, .type = RD_KAFKA_CONSUMER, .log = log, .error = error,
                  .error_size = error_size, .role = MEMBER, .name = group, .member = member};
    return build(&b, err);
}

rd_kafka_conf_t *salvo_kafka_transaction_conf(const salvo_config *config, const char *id,
                                              salvo_kafka_log *log, int *err, char *error,
                                              size_t error_size)
{
    building b = {.config = config, .type = RD_KAFKA_PRODUCER, .log = log, .error = error,
                  .error_size = error_size, .role = TRANSACTION, .name = id};
    return build(&b, err);
}

int64_t salvo_kafka_conf_number(const rd_kafka_conf_t *conf, const char *property,
                                int64_t otherwise)
{
    char text[64];
    size_t size = sizeof text;
    if (rd_kafka_conf_get(conf, property, text, &size) != RD_KAFKA_CONF_OK)
        return otherwise;
    char *end;
    long long value = strtoll(text, &end, 10);
    return end == text ? otherwise : value;
}

/* An idempotent librdkafka sends a partition's next request when the last one is answered (it
 * holds messages in flight against the five requests that a broker remembers), and its thread
 * polls without a pause while others wait for that: 6 to 8 us of CPU a message of 1 KB at 100k/s,
 * and a broker on the same two cores answered in 200 ms instead of 6. So it gets one request's
 * worth at a time. */
void salvo_kafka_burst(const salvo_config *config, salvo_driver_burst *burst)
{
    char error[256], text[8] = "";
    size_t size = sizeof text;
    int err;
    rd_kafka_conf_t *conf =
        salvo_kafka_conf(config, RD_KAFKA_PRODUCER, NULL, &err, error, sizeof error);
    if (!conf)
        return; /* open will say what is wrong */
    rd_kafka_conf_get(conf, "enable.idempotence", text, &size);
    if (strcmp(text, "true") == 0) {
        int64_t batch = salvo_kafka_conf_number(conf, "batch.size", BATCH_SIZE);
        int64_t most = salvo_kafka_conf_number(conf, "message.max.bytes", BATCH_SIZE);
        burst->bytes = (uint64_t)(batch < most ? batch : most);
        burst->messages = (uint32_t)salvo_kafka_conf_number(conf, "batch.num.messages", 10000);
        burst->message_bytes = RECORD_BYTES;
    }
    rd_kafka_conf_destroy(conf);
}
