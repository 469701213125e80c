# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Kafka behind SASL and TLS, against a real broker with a listener for each case: right
# credentials deliver and read back; wrong passwords, authorities, names, dates and client
# certificates are refused; no secret is shown. That a refusal is due to what it is named for is
# shown by the same settings without that check.
# shellcheck source=tests/security/common.sh
. "$(dirname "$0")/common.sh"
command -v java >/dev/null || { echo 'no java for Kafka: skipped'; exit 77; }

start_broker() {
    local ports listeners
    read -r -a ports <<<"$(free_ports 7)"
    plain=${ports[0]} sasl=${ports[2]} sasl_tls=${ports[3]} mutual=${ports[4]}
    wrong_name=${ports[5]} expired=${ports[6]}
    listeners="PLAINTEXT://127.0.0.1:$plain,SASL://127.0.0.1:$sasl"
    listeners+=",SASLTLS://localhost:$sasl_tls,MUTUAL://localhost:$mutual"
    listeners+=",WRONGNAME://localhost:$wrong_name,EXPIRED://localhost:$expired"
    local lines=("advertised.listeners=$listeners"
        "listeners=$listeners,CONTROLLER://127.0.0.1:${ports[1]}"
        "controller.quorum.voters=1@127.0.0.1:${ports[1]}"
        "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT$(printf ',%s' \
            SASL:SASL_PLAINTEXT SASLTLS:SASL_SSL MUTUAL:SSL WRONGNAME:SSL EXPIRED:SSL)"
        "sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512"
        ssl.keystore.type=PEM "ssl.keystore.location=$certs/server.pem"
        ssl.truststore.type=PEM "ssl.truststore.location=$certs/ca.crt"
        listener.name.mutual.ssl.client.auth=required
        listener.name.wrongname.ssl.keystore.type=PEM
        "listener.name.wrongname.ssl.keystore.location=$certs/wrong-name.pem"
        listener.name.expired.ssl.keystore.type=PEM
        "listener.name.expired.ssl.keystore.location=$certs/expired.pem")
    local set=() line package=org.apache.kafka.common.security
    for line in "${lines[@]}"; do set+=(--set "$line"); done
    # A file, so that no password is an argument of a process.
    printf '%s\n' 'KafkaServer {' \
        " $package.plain.PlainLoginModule required user_alice=\"$mark-p\";" \
        " $package.scram.ScramLoginModule required;" '};' >jaas.conf
    JAVA_TOOL_OPTIONS="-Djava.security.auth.login.config=$scratch/jaas.conf" \
        "$source_dir/script/broker" kafka start --name "$prefix" --owner $$ --port "$plain" \
        --dir "$scratch" "${set[@]}" >address 2>broker.err
}

add_scram_user() { # MECHANISM PASSWORD
    printf '%s=password=%s\n' "$1" "$2" >"scram-$1"
    "$source_dir/script/broker" kafka run kafka.admin.ConfigCommand \
        --bootstrap-server "127.0.0.1:$plain" --alter --entity-type users --entity-name alice \
        --add-config-file "scram-$1" >"scram-$1.out" 2>&1 || fail "no SCRAM user: see scram-$1.out"
}

start_broker || start_broker || { cat broker.err; exit 1; } # a port may have been taken meanwhile
cleanups+=("$source_dir/script/broker kafka stop --name $prefix")
add_scram_user SCRAM-SHA-256 "$mark-256" &
add_scram_user SCRAM-SHA-512 "$mark-512" &
wait
export MESSAGE_BROKER=kafka BUFFER_BYTES=16MiB

# sasl MECHANISM PASSWORD: the settings of both
sasl() { echo "KAFKA_SASL_MECHANISM=$1 KAFKA_SASL_USERNAME=alice KAFKA_SASL_PASSWORD=$2"; }
tls() { echo "KAFKA_SSL_CAFILE=$certs/$1.crt"; }
own() { echo "KAFKA_SSL_CERTFILE=$certs/$1.crt KAFKA_SSL_KEYFILE=$certs/$1.key"; }
at() { echo "KAFKA_SECURITY_PROTOCOL=$1 KAFKA_BOOTSTRAP_SERVERS=localhost:$2"; }

# Half of the attempts tell all that librdkafka has to tell.
loud='[messaging.rdkafka]
debug = "all"'
key_password() { printf '%s\n"ssl.key.password" = "%s"' "$loud" "$mark-$1"; }
denied='refused our credentials.*kafka_sasl_|Authentication failed'
certificate='certificate verify failed|certificate could not be verified'

# shellcheck disable=SC2046 # words are wanted: each is a setting
{
    for mechanism in PLAIN:p SCRAM-SHA-256:256 SCRAM-SHA-512:512; do
        password=$mark-${mechanism#*:} name=${mechanism%:*}
        core=$loud
        accepted "$name" $(at SASL_PLAINTEXT "$sasl") $(sasl "$name" "$password")
        core=''
        accepted "$name-tls" $(at SASL_SSL "$sasl_tls") $(tls ca) $(sasl "$name" "$password")
    done
    accepted mutual $(at SSL "$mutual") $(tls ca) $(own client)
    core=$(key_password key)
    accepted locked $(at SSL "$mutual") $(tls ca) $(own client) \
        "KAFKA_SSL_KEYFILE=$certs/client-locked.key"
    core=''
    verify=rdkafka.enable.ssl.certificate.verification=false
    unchecked foreign-ca "$verify" $(at SASL_SSL "$sasl_tls") $(tls foreign-ca) \
        $(sasl PLAIN "$mark-p")
    unchecked wrong-name rdkafka.ssl.endpoint.identification.algorithm=none \
        $(at SSL "$wrong_name") $(tls ca)
    unchecked expired "$verify" $(at SSL "$expired") $(tls ca)
    settle
    for name in PLAIN SCRAM-SHA-256 SCRAM-SHA-512; do
        core=$loud
        refused "$name-wrong" "$denied" $(at SASL_PLAINTEXT "$sasl") $(sasl "$name" "$mark-no")
        core=''
    done
    refused plain-tls-wrong "$denied" $(at SASL_SSL "$sasl_tls") $(tls ca) \
        $(sasl PLAIN "$mark-no")
    core=$(key_password no)
    also=2 refused locked-wrong 'ssl.key.location failed' $(at SSL "$mutual") $(tls ca) \
        $(own client) "KAFKA_SSL_KEYFILE=$certs/client-locked.key"
    core=''
    refused foreign-ca "$certificate" $(at SASL_SSL "$sasl_tls") $(tls foreign-ca) \
        $(sasl PLAIN "$mark-p")
    refused wrong-name "$certificate" $(at SSL "$wrong_name") $(tls ca)
    refused expired "$certificate" $(at SSL "$expired") $(tls ca)
    refused no-client 'certificate required|bad certificate' $(at SSL "$mutual") $(tls ca)
    refused foreign-client 'certificate unknown|unknown ca' $(at SSL "$mutual") $(tls ca) \
        $(own foreign-client)
    settle
}
verdict
