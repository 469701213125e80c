# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Secrets in settings, without a broker: wherever they come from and however wrong they are, no
# listing, error or log line of the command or of a client shows them. (With brokers: X_test.sh.)
# shellcheck source=tests/security/common.sh
. "$(dirname "$0")/common.sh"

# look NAME COMMAND...: runs it watched, in a folder with $core; the status does not matter
look() {
    local name=$1
    shift
    printf '%b\n' "${core:-}" >core.toml
    watched "$name" "$@" </dev/null || true
    [ -s "$name.out" ] || [ -s "$name.err" ] || fail "$name says nothing at all"
}

all_forms() { # NAME: of what is in the environment and in $core
    look "$1-list" "$program" config
    look "$1-json" "$program" config --json
    look "$1-markdown" "$program" config --markdown
    look "$1-client" "$client" topic # it lists the configuration too
}

export MESSAGE_BROKER=memory CLIENT_OPEN_MS=300
KAFKA_SASL_PASSWORD=$mark REDIS_URL=redis://u:$mark@h:1/0 RABBITMQ_URL=amqps://u:$mark@h/v \
    KAFKA_SCHEMA_REGISTRY_URL=http://u:$mark@h/ KAFKA_BOOTSTRAP_SERVERS=u:$mark@h:9092 \
    all_forms environment
grep -q '^kafka_sasl_password  *\*\*\*\*' environment-list.out || fail 'no masked password'
core="[messaging]\nkafka_sasl_password = \"$mark\"\nredis_url = \"rediss://:$mark@h\"\n"
core+="rabbitmq_url = \"amqp://u:$mark@h\"\nrdkafka.ssl.key.password = \"$mark\"\n"
core+="rdkafka.sasl.password = \"$mark\"\n\"rdkafka.ssl.keystore.password\" = \"$mark\"\n"
core+="rdkafka.sasl.oauthbearer.client.secret = \"$mark\"\nrdkafka.ssl.key.pem = \"$mark\"\n"
core+="rdkafka.sasl.oauthbearer.config = \"x=$mark\""
all_forms file

# Settings that are wrong are quoted in errors, but for what may be a secret.
count=0
for core in "kafka_sasl_password = \"$mark" "kafka_sasl_password = $mark" \
    "kafka_sasl_password = [\"$mark\"]" "kafka_sasl_pasword = \"$mark\"" \
    "kafka_sasl_password = '$mark' x" "password = \"$mark\"" "rdkafka.sasl.passwd = \"$mark\"" \
    "redis_url = [\"redis://u:$mark@h\"]" "redis_urll = \"redis://u:$mark@h\""; do
    core="[messaging]\n$core"
    look wrong-file-$((count += 1)) "$program" config --changed
done
core=''
for url in "u:$mark@[bad" "u:$mark@:x/" "u:p@$mark@h:1" "u:a/$mark@h" ":$mark@h:99999/0" \
    "u:%zz$mark@h" "u:$mark%@h" "u:$mark@h:port" "$mark@" "h?password=$mark"; do
    for broker in redis rabbitmq; do
        MESSAGE_BROKER=$broker REDIS_URL=redis://$url RABBITMQ_URL=amqp://$url \
            KAFKA_BOOTSTRAP_SERVERS=$url all_forms wrong-url-$((count += 1))
        MESSAGE_BROKER=$broker REDIS_URL=redis://$url RABBITMQ_URL=amqp://$url \
            look wrong-url-$count "$program" produce -t topic --flush-timeout 500
    done
done
MESSAGE_BROKER=kafka KAFKA_SASL_PASSWORD=$(printf "$mark%.0s" {1..500}) all_forms too-long
no_secrets .
verdict
