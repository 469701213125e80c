#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# produce --avro and consume --avro with the registry of tests/registry: what is told when a schema,
# a line, the registry or its rules are wrong; and, where SALVO_TEST_REDIS or SALVO_TEST_KAFKA name
# a server, that JSON comes back as it was.
command -v python3 >/dev/null || { echo 'no python3 for the registry'; exit 77; }
# shellcheck source=tests/cli/common.sh
. "$(dirname "$0")/common.sh"

# registry [OPTION...]: starts one; sets url and server
registry() {
    rm -f address
    python3 -B "$source_dir/tests/registry/server.py" "$@" >address &
    server=$!
    for _ in $(seq 100); do
        [ -s address ] && break
        sleep 0.1
    done
    url=$(cat address)
}
stop() { kill "$server" && wait "$server"; }

cat >order.avsc <<'TEXT'
{"type": "record", "name": "Order", "namespace": "shop", "fields": [
  {"name": "id", "type": "long"},
  {"name": "note", "type": ["null", "string"], "default": null},
  {"name": "price", "type": "double", "default": 0.5}]}
TEXT
printf '%s\n' '{"id":1,"note":"a","price":2.5}' '{"id":2,"note":null,"price":0.5}' >lines
send() { run produce -b null -t orders --avro order.avsc "$@"; }

send lines
status_is 2
err_has 'Schema Registry not configured: set kafka_schema_registry_url'
registry
export KAFKA_SCHEMA_REGISTRY_URL=$url
send --json lines
status_is 0
json_is acknowledged 2
send <(echo '{"id":"x"}')
status_is 1
err_has ':1: id: a whole number is needed, not a text; --skip-invalid counts'
send --skip-invalid --json <(printf '%s\n' '{"id":"x"}' '{"id":3}' '{"id":4,"nothing":1}' 'no JSON')
status_is 0
json_is acknowledged 1
run produce -b null -t orders --avro none.avsc lines
status_is 2
err_has 'none.avsc: cannot read: No such file'
echo '{"type": "record"}' >bad.avsc
run produce -b null -t orders --avro bad.avsc lines
status_is 2
err_has 'bad.avsc: the schema is no Avro schema'
sed 's/"default": 0.5/"doc": "now needed"/; s/"price"/"cost"/' order.avsc >later.avsc
run produce -b null -t orders --avro later.avsc lines
status_is 1
err_has 'orders-value`: the schema is not compatible with the one that is registered'
err_has "'cost' has no default value"
send -s kafka_subject_strategy=record -s kafka_schema_auto_register=false lines
status_is 1
err_has 'shop.Order`: the schema is not registered there'
send -s kafka_subject_strategy=record lines
status_is 0
send -s kafka_subject_strategy=topics lines
status_is 2

# What comes back, by whichever servers there are.
come_back() {
    local broker=$1
    shift
    local topic=avro-$$-$RANDOM
    run produce -b "$broker" "$@" -t "$topic" --avro order.avsc --key-field id lines
    status_is 0
    run consume -b "$broker" "$@" -t "$topic" --avro -n 2
    status_is 0
    cmp -s out lines || fail "$broker: it came back as $(cat out)"
    run consume -b "$broker" "$@" -t "$topic" --avro -n 1 -f json
    out_has '"key":"1","value":\{"id":1,"note":"a","price":2.5\}'
    run consume -b "$broker" "$@" -t "$topic" --avro -n 1 \
        -s kafka_schema_registry_url=http://127.0.0.1:1
    status_is 1
    err_has 'offset'
    err_has 'no Schema Registry answered: http://127.0.0.1:1'
    run produce -b "$broker" "$@" -t "$topic-x" <(echo 'plain text')
    run consume -b "$broker" "$@" -t "$topic-x" --avro -n 1
    status_is 1
    err_has "not in Confluent's wire format"
}
[ -z "${SALVO_TEST_REDIS:-}" ] || come_back redis -s "redis_url=$SALVO_TEST_REDIS"
[ -z "${SALVO_TEST_KAFKA:-}" ] || come_back kafka -s "kafka_bootstrap_servers=$SALVO_TEST_KAFKA"
stop
send lines
status_is 1
err_has "no Schema Registry answered: $url"

# TLS and credentials. Neither password nor user is ever shown.
if command -v openssl >/dev/null; then
    openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout key.pem \
        -out cert.pem -addext 'subjectAltName=IP:127.0.0.1' 2>/dev/null
    registry --user me --password hunter2 --certfile cert.pem --keyfile key.pem
    export KAFKA_SCHEMA_REGISTRY_URL=$url
    send lines
    status_is 1
    err_has 'no Schema Registry answered'
    export KAFKA_SCHEMA_REGISTRY_CAFILE=cert.pem
    send lines
    status_is 1
    err_has 'refuses the credentials'
    export KAFKA_SCHEMA_REGISTRY_USER=me KAFKA_SCHEMA_REGISTRY_PASSWORD=hunter3
    send lines
    status_is 1
    grep -q hunter err && fail 'a password is shown'
    export KAFKA_SCHEMA_REGISTRY_PASSWORD=hunter2
    send lines
    status_is 0
    stop
fi
verdict
