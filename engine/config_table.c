/* SPDX-License-Identifier: Apache-2.0
 *
 * The one table of configuration keys. docs/configuration.md is printed from it (a test compares
 * the two), so a help text says what is true of the key today, and who reads it.
 */
#include "config_keys.h"

#define KIB INT64_C(1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)
#define INT_MS_MAX INT64_C(2147483647) /* librdkafka's own bound of a time in ms */

#define STRING(name, initial, flags, help) \
    {name, SALVO_KEY_STRING, "", initial, 0, 0, 0, flags, help}
#define BOOL(name, initial, help) {name, SALVO_KEY_BOOL, "", initial, 0, 0, 0, 0, help}
#define ENUM(name, initial, choices, help) \
    {name, SALVO_KEY_ENUM, "", initial, 0, 0, choices, 0, help}
#define INT(name, unit, initial, min, max, help) \
    {name, SALVO_KEY_INT, unit, initial, min, max, 0, 0, help}
#define SIZE(name, initial, min, max, flags, help) \
    {name, SALVO_KEY_SIZE, "bytes", initial, min, max, 0, flags, help}

/* Audiences other than the producer read keys of the same table. */
#define PYTHON_ONLY "Read by the Python side; the C producer has no use for it. "
#define SCHEMAS_ONLY "Read where Avro is written or read; the producer has no use for it. "
#define CONSUMERS_ONLY "Read by consumers; the producer has no use for it. "

const salvo_key salvo_keys[] = {
    /* Which broker, and where it is. */
    ENUM("message_broker", "", "kafka|redis|rabbitmq|memory|null",
         "Broker to use (alias: broker). Unset: the only one whose address is set; kafka when it "
         "is among several, or when none is set."),
    STRING("bootstrap_servers", "", SALVO_KEY_URL | SALVO_KEY_NO_ENV,
           "Address of the chosen broker, whichever it is; from code and file only. In one layer "
           "the broker's own key wins over it."),
    BOOL("kafka_enabled", "true", "False: choosing the broker kafka is an error."),
    ENUM("kafka_backend", "aiokafka", "aiokafka|confluent|native",
         "Kafka client that is asked for; the C producer uses librdkafka for all of them."),
    STRING("kafka_bootstrap_servers", "localhost:9092", SALVO_KEY_URL,
           "Kafka brokers as host:port, separated by commas."),
    STRING("kafka_client_id", "core-framework", 0, "Name by which Kafka's logs know this client."),
    ENUM("kafka_acks", "all", "all|-1|1|0",
         "Replicas that must have a message before it counts as acknowledged (-1 is all)."),
    BOOL("kafka_enable_idempotence", "true",
         "No duplicates and no reordering by retries. Needs kafka_acks all; where only kafka_acks "
         "is set, to less, it is off."),
    ENUM("kafka_security_protocol", "PLAINTEXT", "PLAINTEXT|SSL|SASL_PLAINTEXT|SASL_SSL",
         "Transport and authentication of Kafka connections."),
    ENUM("kafka_sasl_mechanism", "", "PLAIN|SCRAM-SHA-256|SCRAM-SHA-512|GSSAPI|OAUTHBEARER",
         "SASL mechanism; needed with the SASL protocols."),
    STRING("kafka_sasl_username", "", 0, "SASL user name."),
    STRING("kafka_sasl_password", "", SALVO_KEY_SECRET, "SASL password."),
    STRING("kafka_ssl_cafile", "", 0, "File with the certificates of trusted authorities (PEM)."),
    STRING("kafka_ssl_certfile", "", 0, "File with this client's certificate (PEM)."),
    STRING("kafka_ssl_keyfile", "", 0, "File with this client's private key (PEM)."),
    ENUM("kafka_compression_type", "none", "none|gzip|snappy|lz4|zstd",
         "Compression of batches sent to Kafka."),
    INT("kafka_linger_ms", "ms", "0", 0, 900000,
        "How long a message may wait for others to share its batch; linger_us is finer."),
    SIZE("kafka_max_batch_size", "16384", 1, 64 * MIB, 0,
         "A batch is closed at this size, where this is set; batch_bytes overrides it."),
    INT("kafka_request_timeout_ms", "ms", "30000", 1, 900000,
        "How long a Kafka broker may take to answer a request."),
    INT("kafka_retry_backoff_ms", "ms", "100", 1, 300000,
        "Pause before the first retry; retry_backoff_ms overrides it."),
    BOOL("kafka_fire_and_forget", "false",
         PYTHON_ONLY "True: publishing does not wait for the broker by default."),
    STRING("kafka_schema_registry_url", "", SALVO_KEY_URL,
           SCHEMAS_ONLY "Address of the Schema Registry, or several, separated by commas; "
           "http://USER:PASSWORD@HOST:PORT is allowed."),
    STRING("kafka_schema_registry_user", "", 0,
           SCHEMAS_ONLY "User of the Schema Registry; wins over the address's."),
    STRING("kafka_schema_registry_password", "", SALVO_KEY_SECRET,
           SCHEMAS_ONLY "Password of the Schema Registry."),
    STRING("kafka_schema_registry_cafile", "", 0,
           SCHEMAS_ONLY "Certificates of trusted authorities (PEM) for https://; unset: the "
           "system's."),
    STRING("kafka_schema_registry_certfile", "", 0,
           SCHEMAS_ONLY "This client's certificate (PEM) for https://."),
    STRING("kafka_schema_registry_keyfile", "", 0,
           SCHEMAS_ONLY "This client's private key (PEM) for https://."),
    INT("kafka_schema_registry_timeout_ms", "ms", "10000", 1, 600000,
        SCHEMAS_ONLY "How long one request to one address of the Schema Registry may take."),
    BOOL("kafka_schema_auto_register", "true",
         SCHEMAS_ONLY "False: a schema that the registry does not know is an error."),
    ENUM("kafka_subject_strategy", "topic", "topic|record|topic_record",
         SCHEMAS_ONLY "Subject of a value's schema: TOPIC-value, its full name, TOPIC-NAME."),
    ENUM("kafka_auto_offset_reset", "earliest", "earliest|latest|none",
         CONSUMERS_ONLY "Where a group without a committed offset begins."),
    BOOL("kafka_enable_auto_commit", "true",
         CONSUMERS_ONLY "Commit settled offsets periodically."),
    INT("kafka_auto_commit_interval_ms", "ms", "5000", 1, INT_MS_MAX,
        CONSUMERS_ONLY "Time between such commits."),
    INT("kafka_max_poll_records", "records", "500", 1, 1000000,
        CONSUMERS_ONLY "Most records that one poll returns."),
    INT("kafka_session_timeout_ms", "ms", "10000", 1, 3600000,
        CONSUMERS_ONLY "Silence after which a group gives a member up."),
    INT("kafka_heartbeat_interval_ms", "ms", "3000", 1, 3600000,
        CONSUMERS_ONLY "Time between a member's heartbeats; less than the session timeout."),
    INT("kafka_rebalance_wait_ms", "ms", "3000", 0, 60000,
        CONSUMERS_ONLY "How long a partition that goes to another member is kept until what is in "
        "hand of it is settled."),
    ENUM("kafka_isolation_level", "read_committed", "read_committed|read_uncommitted",
         CONSUMERS_ONLY "Whether messages of open and aborted transactions are seen."),
    INT("kafka_transaction_timeout_ms", "ms", "60000", 1000, 900000,
        "Age at which the broker aborts an open transaction."),
    STRING("redis_url", "redis://localhost:6379/0", SALVO_KEY_URL, "Address of the Redis server."),
    STRING("rabbitmq_url", "amqp://guest:guest@localhost:5672/", SALVO_KEY_URL,
           "Address of the RabbitMQ server."),

    /* Redis and RabbitMQ: what their own wire path can be told. */
    ENUM("io_backend", "auto", "auto|io_uring|poll",
         "System interface of the sockets; auto: io_uring where the kernel allows it."),
    INT("connect_timeout_ms", "ms", "10000", 1, 600000,
        "Name resolution, connect, TLS and login together."),
    INT("reconnect_backoff_ms", "ms", "100", 1, 300000,
        "Pause before the first reconnect, of any driver; it doubles up to retry_backoff_max_ms."),
    STRING("tls_cafile", "", 0,
           "Certificates of trusted authorities (PEM) for rediss:// and amqps://; unset: the "
           "system's."),
    STRING("tls_certfile", "", 0, "This client's certificate (PEM) for rediss:// and amqps://."),
    STRING("tls_keyfile", "", 0, "This client's private key (PEM) for rediss:// and amqps://."),
    ENUM("payload_compression", "none", "none|gzip|lz4|zstd|snappy",
         "Compression of each value, for Redis and RabbitMQ; told in content-encoding."),
    SIZE("payload_compression_least_bytes", "256", 0, 1 * GIB, 0,
         "Smaller values go as they are."),
    INT("redis_window", "commands", "2048", 1, 65536,
        "Commands of one flusher that are sent and not yet answered."),
    INT("redis_maxlen", "messages", "0", 0, INT64_C(1) << 53,
        "Length to which streams are trimmed, roughly (MAXLEN ~); 0: not at all."),
    BOOL("redis_nomkstream", "false",
         "True: a stream that does not exist is an error (NOMKSTREAM), not created."),
    INT("redis_claim_idle_ms", "ms", "60000", 200, INT_MS_MAX,
        CONSUMERS_ONLY "Silence after which a member's messages go to others of its group."),
    BOOL("redis_exactly_once", "false",
         "Resends are exactly-once and ordered, by a function on the server (Redis 7 and later)."),
    INT("rabbitmq_window", "messages", "2048", 1, 65535,
        "Messages of one flusher that are published and not yet confirmed; 1 keeps the order "
        "across resends."),
    INT("rabbitmq_heartbeat_s", "s", "30", 0, 3600,
        "Silence after which a connection counts as dead; 0: no heartbeats."),
    STRING("rabbitmq_exchange", "", 0,
           "Exchange to publish to; unset: the default exchange, with a durable queue per topic."),
    ENUM("rabbitmq_exchange_type", "", "direct|fanout|topic|headers",
         "Declares the exchange, durable, as this type; unset: it must exist."),
    STRING("rabbitmq_routing_key", "", 0, "Routing key; unset: the topic's name."),
    BOOL("rabbitmq_mandatory", "true",
         "A message that reaches no queue is a permanent failure, not silently dropped."),
    STRING("default_topic", "events", 0,
           "Topic where none is named: salvo produce and consume, and the Python side."),
    STRING("default_group", "", 0, PYTHON_ONLY "Consumer group; unset: the application's name."),
    STRING("source", "", 0,
           PYTHON_ONLY "Sender in event envelopes; unset: the application's name."),
    STRING("modules", "", SALVO_KEY_NO_ENV,
           PYTHON_ONLY "Python modules that define workers and handlers, separated by commas or "
           "as a list, for the core command; from code and file only."),

    /* What a send does when there is no room. */
    INT("send_timeout_ms", "ms", "60000", 0, INT_MS_MAX,
        "How long a send waits for room under the policy block."),
    ENUM("full_policy", "block", "block|fail|drop_newest",
         "What a full ring or topic share does to a send, where the topic does not say."),

    /* Memory and bounds. */
    SIZE("buffer_bytes", "67108864", 4 * MIB, 1024 * GIB, 0,
         "Total for rings, batches in flight and the driver's queues."),
    SIZE("ring_bytes", "0", 64 * KIB, GIB, SALVO_KEY_POWER_OF_2 | SALVO_KEY_OR_ZERO,
         "Payload bytes of one ring; 0: chosen by the engine."),
    {"ring_descriptors", SALVO_KEY_INT, "records", "0", 1024, 16 * MIB, 0,
     SALVO_KEY_POWER_OF_2 | SALVO_KEY_OR_ZERO,
     "Records that one ring holds; 0: chosen by the engine."},
    SIZE("max_message_bytes", "1000000", 1, 256 * MIB, 0,
         "Largest message: key, value and headers together."),
    INT("max_topics", "topics", "256", 1, 65536, "Most topics of one producer."),
    INT("max_threads", "threads", "256", 1, 65536, "Most sending threads at one time."),
    INT("max_reports", "reports", "65536", 1, 16777216,
        "Most delivery reports that are asked for and not yet taken."),

    /* Batching and delivery. */
    INT("flushers", "threads", "1", 1, 64, "Flusher threads."),
    INT("linger_us", "us", "", 0, 900000000,
        "As kafka_linger_ms, for any broker and in microseconds; unset: follows it."),
    SIZE("batch_bytes", "0", 1, 64 * MIB, SALVO_KEY_OR_ZERO,
         "A batch is closed at this size; 0: kafka_max_batch_size where that is set, else 524288."),
    INT("batch_messages", "messages", "10000", 1, 1000000,
        "A batch is closed at this many messages."),
    INT("max_in_flight_batches", "batches", "1024", 1, 4096,
        "Batches of one flusher that are submitted and not yet settled."),
    INT("delivery_timeout_ms", "ms", "120000", 1, INT_MS_MAX,
        "A message without a TTL of its own that is not delivered by then fails."),
    INT("retry_backoff_ms", "ms", "", 1, 300000,
        "Pause before the first retry, for any broker; unset: follows kafka_retry_backoff_ms."),
    INT("retry_backoff_max_ms", "ms", "1000", 1, 300000,
        "The pause doubles with each retry up to this; by default never below the first pause."),
    INT("close_timeout_ms", "ms", "30000", 0, INT_MS_MAX,
        "How long closing may deliver what was accepted, where the caller does not say."),

    /* Threads and clocks. */
    ENUM("idle_strategy", "adaptive", "busy|adaptive|park",
         "What a flusher without work does: spin, spin then park, or park at once."),
    INT("park_max_us", "us", "20000", 1, 1000000,
        "Longest park of an idle flusher: what a message may wait beyond its linger; a quarter "
        "of it during the first second without messages."),
    ENUM("wake", "none", "none|idle",
         "idle: the first send after a flusher parked wakes it, for one system call; without "
         "linger every send does while they come one by one."),
    INT("claim_stall_ms", "ms", "100", 1, 60000,
        "A claim that stays uncommitted for so long stops holding the others back."),
    ENUM("clock", "auto", "auto|tsc|monotonic",
         "Source of stamps; auto: the processor's counter where the kernel trusts it."),
    INT("enqueue_sample", "calls", "1024", 0, 1000000000,
        "The enqueue histogram records every n-th call; 0: none."),

    /* Who may look. */
    BOOL("stats_shared", "true",
         "Counters and histograms lie in shared memory, for salvo top and salvo metrics."),
    STRING("stats_dir", "", 0,
           "Directory of that memory, on a tmpfs; unset: /dev/shm/salvo-UID."),
    STRING("metrics_listen", "", 0,
           "PORT, ADDRESS:PORT or [ADDRESS]:PORT where this producer serves its metrics by HTTP; "
           "without an address the loopback; unset: it does not."),

    /* The embedded brokers. */
    INT("memory_partitions", "partitions", "1", 1, 1024, "Partitions of each topic of memory."),
    SIZE("memory_bytes", "268435456", 64 * KIB, 1024 * GIB, 0, "Room of the memory broker."),
    ENUM("memory_full", "evict", "evict|reject",
         "What the memory broker does when full: forget the oldest records, or refuse new ones."),
    STRING("memory_script", "", 0,
           "Failures and delays that the memory broker shall act out, for tests."),
    INT("null_partitions", "partitions", "1", 1, 1024, "Partitions of each topic of null."),
};
const size_t salvo_key_count = sizeof salvo_keys / sizeof salvo_keys[0];
