/* SPDX-License-Identifier: Apache-2.0
 *
 * The help text of `salvo produce`; salvo.1 says the same at length.
 */
#ifndef SALVO_CLI_PRODUCE_HELP_H
#define SALVO_CLI_PRODUCE_HELP_H

static const char produce_help[] =
    "usage: salvo produce [OPTION...] [FILE...]\n"
    "\n"
    "Sends each line of the files (- or none: standard input) as a message.\n"
    "Status 0 only if every message was acknowledged; 1 not all, 2 usage, 130 interrupted.\n"
    "\n"
    "where to\n"
    "  -b, --broker NAME         kafka, redis, rabbitmq, memory, null (message_broker)\n"
    "  -t, --topic TOPIC         default: default_topic (events)\n"
    "  -p, --partition N         to this partition; default: chosen by key. Redis and RabbitMQ\n"
    "                            have partition 0 only\n"
    "\n"
    "what\n"
    "      --ndjson              each line must be one JSON value\n"
    "      --avro FILE           each line is JSON, and is sent as Avro by the schema in FILE, in\n"
    "                            Confluent's wire format (kafka_schema_registry_url)\n"
    "      --skip-invalid        count and skip lines that are not valid JSON or lack the key\n"
    "      --skip-empty          skip empty lines; default: an empty message each\n"
    "      --key-field A.B       NDJSON: key from this field of each line\n"
    "  -k, --key-delimiter TEXT  lines: the key ends at the first TEXT; without it, no key\n"
    "  -H, --header NAME=VALUE   a header for every message; may be repeated\n"
    "\n"
    "how\n"
    "      --rate N              messages a second, evenly spaced\n"
    "      --threads N           sending threads; the same key stays in order, other lines\n"
    "                            only with 1 (default)\n"
    "      --linger-ms N         how long a message waits for others in its batch\n"
    "      --compression NAME    none, gzip, snappy, lz4, zstd: batches with Kafka, single values\n"
    "                            from payload_compression_least_bytes with Redis and RabbitMQ\n"
    "  -s, --set KEY=VALUE       any configuration key, see salvo config; may be repeated\n"
    "      --config FILE         instead of ./core.toml\n"
    "      --require-broker      fail when the broker does not answer at the start\n"
    "      --flush-timeout MS    longest wait for acknowledgements at the end; default: until\n"
    "                            delivery_timeout_ms has settled all\n"
    "      --drain-timeout MS    the same after Ctrl-C; default 10000\n"
    "\n"
    "what is told (on standard error)\n"
    "  -q, --quiet               nothing but errors\n"
    "      --json                the summary as one JSON object, the last line\n"
    "      --percentiles FILE    write the latency distribution, HdrHistogram's text form\n"
    "\n"
    "A full buffer makes the command wait, until Ctrl-C, or for send_timeout_ms where that is\n"
    "set; full_policy=fail or drop_newest make it give lines up instead. CR LF: the CR stays.\n";

#endif
