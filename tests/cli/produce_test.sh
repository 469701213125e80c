#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# shellcheck disable=SC2016 # the backticks are the messages' own
# `salvo produce` counts and judges its input rightly; what was accepted is delivered whatever
# ends the input. On the brokers null and memory.
# shellcheck source=tests/cli/common.sh
. "$(dirname "$0")/common.sh"

# produce ARGUMENT...: on null, with the summary as JSON
produce() { run produce --broker null --topic t --json "$@"; }
all_is() { # N: N lines were sent and acknowledged
    json_is sent "$1"
    json_is acknowledged "$1"
    json_is balanced true
    out_empty
}

seq 1000000 >million
produce million
status_is 0
all_is 1000000
json_is lines 1000000
produce --threads 3 million
status_is 0
all_is 1000000

printf 'a\n\nb\r\nlast' >odd # 4 lines: one empty, one without an end
produce <odd
all_is 4
produce --skip-empty odd
all_is 3
json_is skipped_empty 1
produce odd odd - </dev/null # a last line is not joined with the next file
all_is 8
: >nothing
produce nothing
status_is 0
all_is 0

# Lines longer than a block of input, and one over the limit.
head -c 900000 /dev/zero | tr '\0' x >long
{ cat long; echo; cat long; echo; echo short; } >longs
produce longs
status_is 0
all_is 3
{ echo one; head -c 3000000 /dev/zero | tr '\0' x; echo; echo two; } >too_long
produce too_long
status_is 1
err_has 'too_long:2: '
err_has 'max_message_bytes'
all_is 1
{ echo one; echo 12345678901; } >over
produce --set max_message_bytes=10 over
status_is 1
err_has 'over:2: 11 bytes; allowed are 10 (max_message_bytes)'
all_is 1
echo 'k:12345678' >over_with_header # the value fits, the whole does not
produce --set max_message_bytes=10 -k : -H name=value over_with_header
status_is 1
err_has 'over_with_header:1: '
all_is 0

cat >good.ndjson <<'JSON'
{"user": {"id": 7, "name": "Zo\u00eb"}, "n": 1}
{"user": {"id": "x"}, "big": 1e10, "nul": "\u0000"}
{"user": {"id": true}}
JSON
produce --ndjson --key-field user.id good.ndjson
status_is 0
all_is 3
printf '%s\n' '{"user": {"id": 1}}' '{"user": ' '{"user": {}}' '{"user":{"id":[]}}' >bad.ndjson
produce --ndjson --key-field user.id good.ndjson bad.ndjson
status_is 1
err_has 'bad.ndjson:2: invalid JSON'
all_is 4
produce --ndjson --key-field user.id --skip-invalid good.ndjson bad.ndjson
status_is 0
all_is 4
json_is skipped_invalid 3
produce --ndjson --key-field user.id <(sed -n 3p bad.ndjson)
status_is 1
err_has 'no key field `user.id`'
printf '"\xff"\n' | produce --ndjson
status_is 1
err_has 'standard input:1: invalid JSON'

# Files that cannot be read: what came before them is delivered.
produce odd missing million
status_is 1
err_has 'missing: cannot open: No such file or directory'
all_is 4
produce "$scratch"
status_is 1
err_has 'is a directory'
produce --percentiles /dev/full odd
status_is 1
err_has '/dev/full: cannot write'
all_is 4
produce --percentiles spread odd
status_is 0
grep -q Percentile spread || fail "no percentiles"

# Headers, partitions, delimiters, several threads with keys.
produce -H a=b -H c= --set null_partitions=4 -p 3 --threads 2 million
all_is 1000000
produce -k : --threads 4 <(awk 'BEGIN { for (i = 0; i < 100000; i++) print i % 97 ":" i }')
all_is 100000

# A rate is never exceeded: 100 messages at 200 a second take 0.495 s or more.
produce --rate 200 --threads 2 <(seq 100)
status_is 0
all_is 100
awk -v s="$(json seconds)" 'BEGIN { exit !(s >= 0.45) }' || fail "--rate was exceeded"

# Memory: in one process, and told so; a broker that rejects makes the status 1.
run produce --broker memory --topic t <odd
status_is 0
err_has 'lives in one process'
err_has 'offered  4 = accepted 4 + refused 0'
err_has 'acknowledged 4'
run produce --broker memory -t t --quiet odd
status_is 0
err_lines 0
run produce --broker memory -t t --json --set memory_full=reject --set memory_bytes=1100000 \
    --set delivery_timeout_ms=1000 --set full_policy=fail million
status_is 1
err_has 'not acknowledged'
json_is balanced true
out_empty

run produce --broker null -t 'no/topic' odd
status_is 2
err_lines 1
verdict
