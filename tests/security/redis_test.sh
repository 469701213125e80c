# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Redis behind users with rights (ACL) and TLS, against real servers, one for each certificate:
# right credentials deliver and read back; wrong passwords, rights, authorities, names, dates and
# client certificates are refused; no secret is shown.
# shellcheck source=tests/security/common.sh
. "$(dirname "$0")/common.sh"
command -v redis-server >/dev/null || { echo 'no redis-server: skipped'; exit 77; }

# A file, so that no password is an argument of a process.
printf '%s\n' 'user default off' "user alice on >$mark-pw ~* &* +@all" \
    "user other on >$mark-pw ~other* &* +@all" >users.acl

# start NAME CERTIFICATE yes|no: whether clients need certificates; sets plain and port
start() {
    local try url
    for try in 1 2 3; do # a port may be taken meanwhile
        read -r port <<<"$(free_ports 1)"
        url=$("$source_dir/script/broker" redis start --name "$prefix-$1" --owner $$ \
            --dir "$scratch" --set "tls-port=$port" --set "tls-cert-file=$certs/$2.crt" \
            --set "tls-key-file=$certs/$2.key" --set "tls-ca-cert-file=$certs/ca.crt" \
            --set "tls-auth-clients=$3" --set "aclfile=$scratch/users.acl" \
            --set appendfsync=no 2>broker.err) && break
        [ "$try" -lt 3 ] || { cat broker.err; exit 1; }
    done
    cleanups+=("$source_dir/script/broker redis stop --name $prefix-$1")
    plain=${url##*:} plain=${plain%/*}
}

start own server no
own=$port own_plain=$plain
start mutual server yes
mutual=$port
start wrong-name wrong-name no
wrong_name=$port
start expired expired no
expired=$port
export MESSAGE_BROKER=redis BUFFER_BYTES=16MiB
ca=TLS_CAFILE=$certs/ca.crt
alice=alice:$mark-pw

url() { echo "REDIS_URL=$1"; }
certificate() { echo "TLS_CERTFILE=$certs/$1.crt TLS_KEYFILE=$certs/$2.key"; }
secure=$(url "rediss://$alice@localhost:$own/0")
two_way=$(url "rediss://$alice@localhost:$mutual/0")

# shellcheck disable=SC2046 # words are wanted: each is a setting
{
    accepted acl "$(url "redis://$alice@127.0.0.1:$own_plain/0")"
    accepted tls "$secure" "$ca"
    accepted tls-poll "$secure" "$ca" IO_BACKEND=poll
    accepted tls-address "$(url "rediss://$alice@127.0.0.1:$own/0")" "$ca"
    accepted once "$secure" "$ca" REDIS_EXACTLY_ONCE=true
    accepted mutual "$two_way" "$ca" $(certificate client client)
    settle
    denied='user or password of redis_url refused'
    refused wrong-password "$denied: WRONGPASS" \
        "$(url "rediss://alice:$mark-no@localhost:$own/0")" "$ca"
    refused no-password "$denied: NOAUTH" "$(url "redis://127.0.0.1:$own_plain/0")"
    refused no-rights NOPERM "$(url "rediss://other:$mark-pw@localhost:$own/0")" "$ca"
    refused foreign-ca 'not signed by a trusted authority; set tls_cafile' "$secure" \
        "TLS_CAFILE=$certs/foreign-ca.crt"
    refused foreign-ca-poll 'not signed by a trusted authority; set tls_cafile' "$secure" \
        "TLS_CAFILE=$certs/foreign-ca.crt" IO_BACKEND=poll
    refused no-ca 'not signed by a trusted authority; set tls_cafile' "$secure"
    settle
    refused wrong-name 'does not name that host' \
        "$(url "rediss://$alice@localhost:$wrong_name/0")" "$ca"
    refused expired 'is expired' "$(url "rediss://$alice@localhost:$expired/0")" "$ca"
    refused no-client 'certificate' "$two_way" "$ca"
    refused foreign-client 'certificate|unknown ca' "$two_way" "$ca" \
        $(certificate foreign-client foreign-client)
    refused other-key "$certs/server.key" "$two_way" "$ca" $(certificate client server)
    refused locked-key "$certs/client-locked.key" "$two_way" "$ca" \
        $(certificate client client-locked)
    settle
}
verdict
