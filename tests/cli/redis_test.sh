#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The command against a real Redis (SALVO_TEST_REDIS=redis://HOST:PORT/0), and what another client
# sees of it.
[ -n "${SALVO_TEST_REDIS:-}" ] || { echo 'SALVO_TEST_REDIS is not set'; exit 77; }
# shellcheck source=tests/cli/common.sh
. "$(dirname "$0")/common.sh"
broker=redis url_key=REDIS_URL url=$SALVO_TEST_REDIS
# shellcheck source=tests/cli/wire.sh
. "$(dirname "$0")/wire.sh"

if command -v redis-cli >/dev/null; then
    client() { redis-cli -u "$url" "$@"; }
    run produce -t "$topic-c" -k , -H a=b --compression zstd -s payload_compression_least_bytes=9 \
        <(printf 'k,short\nk,%s\n' "$(yes 'long long' | head -n 99 | tr '\n' ' ')")
    client xrange "$topic-c" - + | sed 's/^[0-9]*-[0-9]*$/ID/' >out
    out_has '^key$'
    out_has '^h:a$'
    [ "$(grep -c '^content-encoding$' out)" -eq 1 ] || fail 'not one value is compressed'
    [ "$(grep -c '^ID$' out)" -eq 2 ] || fail 'not two entries'
    grep -q 'long long' out && fail 'the long value is not compressed'
    grep -q '^short$' out || fail 'the short value is compressed'
    # What another client wrote.
    client xadd "$topic-x" '*' value v1 key k1 colour red >/dev/null
    run consume -t "$topic-x" --exit-at-end -f '%k %v %h\n'
    [ "$(cat out)" = 'k1 v1 colour=red' ] || fail "another client's entry: $(cat out)"
    # Options of topics by --set.
    run produce -t "$topic-m" -s redis_maxlen=100 lines
    status_is 0
    [ "$(client xlen "$topic-m")" -lt 1000 ] || fail 'the stream was not trimmed'
    run produce -t "$topic-n" -s redis_nomkstream=true -s delivery_timeout_ms=2000 --json lines
    status_is 1
    json_is acknowledged 0
    [ "$(client exists "$topic-n")" -eq 0 ] || fail 'the stream was made'
    run produce -t "$topic-1" -s redis_exactly_once=true --json lines
    status_is 0
    json_is acknowledged 10000
    run consume -t "$topic-1" --exit-at-end
    cmp -s out lines || fail 'exactly once: the lines did not come back in order'
    client keys "$topic*" | xargs -r redis-cli -u "$url" del >/dev/null
fi
verdict
