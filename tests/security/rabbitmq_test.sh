# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# RabbitMQ behind users and TLS, against two real servers, of which one asks for certificates of
# clients: right credentials deliver and read back; wrong passwords, rights, authorities, names,
# dates and client certificates are refused; no secret is shown.
# shellcheck source=tests/security/common.sh
. "$(dirname "$0")/common.sh"
[ -x /usr/lib/rabbitmq/bin/rabbitmqctl ] || { echo 'no rabbitmq-server: skipped'; exit 77; }

control() { # SERVER COMMAND...; a password comes from standard input
    local name=$prefix-$1 out=$1.control
    shift
    "$source_dir/script/broker" rabbitmq run --name "$name" "$@" >"$out" 2>&1 ||
        fail "rabbitmqctl $1: $(tail -n 1 "$out")"
}

# start NAME true|false: whether clients need certificates; its address to NAME.port. It serves
# NAME.crt, which may change.
start() {
    local try port
    cp "$certs/server.crt" "$1.crt"
    cp "$certs/server.key" "$1.key"
    for try in 1 2 3; do # a port may be taken meanwhile
        read -r port <<<"$(free_ports 1)"
        echo "$port" >"$1.port"
        "$source_dir/script/broker" rabbitmq start --name "$prefix-$1" --owner $$ \
            --dir "$scratch" --set "listeners.ssl.1=127.0.0.1:$port" \
            --set "ssl_options.cacertfile=$certs/ca.crt" --set ssl_options.verify=verify_peer \
            --set "ssl_options.certfile=$scratch/$1.crt" \
            --set "ssl_options.keyfile=$scratch/$1.key" \
            --set "ssl_options.fail_if_no_peer_cert=$2" >"$1.url" 2>"$1.broker" && break
        [ "$try" -lt 3 ] || { cat "$1.broker"; return 1; }
    done
    control "$1" add_user alice <<<"$mark-pw"
    control "$1" set_permissions alice '.*' '.*' '.*'
}

# serve SERVER CERTIFICATE: from now on new connections get it
serve() {
    cp "$certs/$2.crt" "$1.crt"
    cp "$certs/$2.key" "$1.key"
    control "$1" eval 'ssl:clear_pem_cache().'
}

cleanups+=("$source_dir/script/broker rabbitmq stop --name $prefix-own"
    "$source_dir/script/broker rabbitmq stop --name $prefix-mutual")
start own false &
starting=$!
start mutual true || exit 1
wait "$starting" || exit 1
control own add_user stranger <<<"$mark-pw"
control own add_user mute <<<"$mark-pw"
control own set_permissions mute '.*' '^$' '^$' # may declare, neither write nor read
own=$(<own.port) mutual=$(<mutual.port) plain=$(<own.url)
plain=${plain##*:} plain=${plain%/}
export MESSAGE_BROKER=rabbitmq BUFFER_BYTES=16MiB
ca=TLS_CAFILE=$certs/ca.crt

url() { echo "RABBITMQ_URL=$1"; }
certificate() { echo "TLS_CERTFILE=$certs/$1.crt TLS_KEYFILE=$certs/$2.key"; }
secure=$(url "amqps://alice:$mark-pw@localhost:$own")
two_way=$(url "amqps://alice:$mark-pw@localhost:$mutual")

# shellcheck disable=SC2046 # words are wanted: each is a setting
{
    accepted user "$(url "amqp://alice:$mark-pw@127.0.0.1:$plain")"
    accepted tls "$secure" "$ca"
    accepted tls-poll "$secure" "$ca" IO_BACKEND=poll
    accepted mutual "$two_way" "$ca" $(certificate client client)
    settle
    refused wrong-password 'ACCESS_REFUSED' "$(url "amqps://alice:$mark-no@localhost:$own")" "$ca"
    refused no-vhost 'NOT_ALLOWED' "$(url "amqps://stranger:$mark-pw@localhost:$own")" "$ca"
    # Its queue is there already: who reads before it was declared is told 404, not 403.
    (export "${secure?}" "${ca?}"; echo first | "$program" produce -q -t "$prefix-no-rights") ||
        exit 1
    refused no-rights 'ACCESS_REFUSED' "$(url "amqps://mute:$mark-pw@localhost:$own")" "$ca"
    refused foreign-ca 'not signed by a trusted authority; set tls_cafile' "$secure" \
        "TLS_CAFILE=$certs/foreign-ca.crt"
    refused foreign-ca-poll 'not signed by a trusted authority; set tls_cafile' "$secure" \
        "TLS_CAFILE=$certs/foreign-ca.crt" IO_BACKEND=poll
    refused no-client 'certificate' "$two_way" "$ca"
    refused foreign-client 'unknown ca|certificate' "$two_way" "$ca" \
        $(certificate foreign-client foreign-client)
    settle
    serve own wrong-name
    serve mutual expired
    refused wrong-name 'does not name that host' "$secure" "$ca"
    refused expired 'is expired' "$two_way" "$ca" $(certificate client client)
    settle
    serve own server
    serve mutual server
    accepted again-mutual "$two_way" "$ca" $(certificate client client)
    accepted again "$secure" "$ca" # what refused was the certificate
    settle
}
verdict
