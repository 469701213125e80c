# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2034,SC2154 # broker, url_key, url and program are the tests'
#
# The command against a real Redis or RabbitMQ: what was produced is consumed, whole, in order and
# in every format, compressed or not; what goes wrong is told in one line and by the status.
# Sourced by redis_test.sh and rabbitmq_test.sh with $broker, $url_key (the variable of its
# address) and $url.
export MESSAGE_BROKER=$broker
export "$url_key=$url"
topic=cli-$$-$RANDOM

lines_come_back() {
    seq 10000 >lines
    run produce -t "$topic" --json lines
    status_is 0
    json_is acknowledged 10000
    json_is failed 0
    run consume -t "$topic" --exit-at-end
    status_is 0
    [ ! -s err ] || fail 'consume speaks'
    cmp -s out lines || fail '10,000 lines did not come back in order'
    run consume -t "$topic" --exit-at-end -n 10000 # nothing was taken away
    status_is 0
    cmp -s out lines || fail 'a second time they did not come back'
    run produce -t "$topic" --json --quiet lines
    run consume -t "$topic" --exit-at-end
    [ "$(wc -l <out)" -eq 20000 ] || fail 'not 20,000 lines after a second run'
}

keys_keep_their_order() {
    awk 'BEGIN { for (i = 0; i < 10000; i++) print i % 101 "\t" i }' >keyed
    run produce -t "$topic-k" -k $'\t' --threads 4 --json keyed
    status_is 0
    json_is acknowledged 10000
    run consume -t "$topic-k" --exit-at-end -f key-value
    status_is 0
    sort keyed >expected
    sort out | cmp -s - expected || fail 'what came back is not what was sent'
    awk '($1 in last) && $2 <= last[$1] { exit 1 } { last[$1] = $2 }' out || fail 'a key lost order'
}

formats_tell_all() {
    run produce -t "$topic-h" -H a=b -H 'c=d e' <(printf 'x"y\n\n')
    status_is 0
    run consume -t "$topic-h" -n 2 -f '%t|%p|%k|%v|%h%%\n'
    status_is 0
    [ "$(head -n 1 out)" = "$topic-h|0||x\"y|a=b,c=d e%" ] || fail "format: $(head -n 1 out)"
    [ "$(tail -n 1 out)" = "$topic-h|0|||a=b,c=d e%" ] || fail "format: $(tail -n 1 out)"
    run consume -t "$topic-h" -n 1 -f json
    out_has '"key":null,"value":"x\\"y","headers":\[\{"name":"a","value":"b"\}'
    run consume -t "$topic-h" -n 3 --timeout 1500
    status_is 1
    err_has 'only 2 of 3 records'
    run consume -t "$topic-h" --from end --timeout 1500
    status_is 0
    out_empty
}

any_bytes_come_back() {
    {
        head -c 300000 /dev/urandom | tr '\n' ' '
        printf '\n'
        head -c 999000 /dev/zero | tr '\0' z
        printf '\n\377\0\376\n'
    } >any
    run produce -t "$topic-b" any
    status_is 0
    run consume -t "$topic-b" --exit-at-end
    status_is 0
    cmp -s out any || fail 'bytes changed'
}

compressed_values_come_back() {
    local codec
    for codec in none gzip lz4 zstd snappy; do
        run produce -t "$topic-$codec" --compression "$codec" any lines
        status_is 0
        run consume -t "$topic-$codec" --exit-at-end
        status_is 0
        cat any lines | cmp -s - out || fail "$codec: what came back is not what was sent"
        run consume -t "$topic-$codec" -n 1 -f '%h\n'
        [ "$(cat out)" = '' ] || fail "$codec: the record still says that it is compressed"
    done
    run produce -t "$topic" --compression brotli lines
    status_is 2
    err_has brotli
}

what_goes_wrong_is_told() {
    run consume -t "$topic-nowhere" --exit-at-end
    status_is 1
    err_lines 1
    err_has "$topic-nowhere"
    run produce -t "$topic" -p 3 lines
    status_is 1
    local nobody=127.0.0.1:1
    run consume -s "${url_key,,}=${url%%://*}://$nobody/" -t "$topic" --exit-at-end
    status_is 1
    err_has "$nobody"
    err_has 'Connection refused'
    run produce --require-broker -s "${url_key,,}=${url%%://*}://$nobody/" \
        -s connect_timeout_ms=1000 lines
    status_is 1
    err_has "$nobody"
    run produce -s "${url_key,,}=${url%%://*}://$nobody/" -s delivery_timeout_ms=1500 --json lines
    status_is 1
    json_is accepted 10000
    json_is acknowledged 0
    json_is pending 0
    run produce -s "${url_key,,}=nonsense" lines
    status_is 2
}

secrets_stay_secret() {
    local address=${url#*://}
    address=${address#*@}
    run produce --require-broker -s "${url_key,,}=${url%%://*}://nobody:hush-hush@$address" lines
    status_is 1
    err_has 127.0.0.1
    ! grep -q hush-hush err || fail 'the password was told'
    run consume -s "${url_key,,}=${url%%://*}://nobody:hush-hush@$address" -t "$topic"
    status_is 1
    ! grep -q hush-hush err || fail 'the password was told'
    run config -s "${url_key,,}=${url%%://*}://nobody:hush-hush@$address"
    ! grep -q hush-hush out || fail 'the password was told'
}

full_disks_and_closed_pipes() {
    status=0
    "$program" consume -t "$topic" --exit-at-end >/dev/full 2>err || status=$?
    status_is 1
    err_has 'standard output: cannot write: No space left'
    { "$program" consume -t "$topic" --exit-at-end 2>err || echo "$?" >code; } | head -n 1 >out
    [ ! -s err ] || fail 'a closed pipe is told'
}

lines_come_back
keys_keep_their_order
formats_tell_all
any_bytes_come_back
compressed_values_come_back
what_goes_wrong_is_told
secrets_stay_secret
full_disks_and_closed_pipes
