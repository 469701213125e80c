#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The command against a real Kafka (SALVO_TEST_KAFKA=HOST:PORT): what was produced is consumed,
# in order per key, in every format.
[ -n "${SALVO_TEST_KAFKA:-}" ] || { echo 'SALVO_TEST_KAFKA is not set'; exit 77; }
# shellcheck source=tests/cli/common.sh
. "$(dirname "$0")/common.sh"
export KAFKA_BOOTSTRAP_SERVERS=$SALVO_TEST_KAFKA MESSAGE_BROKER=kafka
topic=cli-$$-$RANDOM

awk 'BEGIN { for (i = 0; i < 40000; i++) print i % 101 "\t" i }' >keyed
run produce -t "$topic" -k $'\t' --threads 4 --json keyed
status_is 0
json_is acknowledged 40000
run consume -t "$topic" --exit-at-end -f key-value
status_is 0
[ ! -s err ] || fail "consume speaks"
sort keyed >expected
sort out | cmp -s - expected || fail "what came back is not what was sent"
awk '($1 in last) && $2 <= last[$1] { exit 1 } { last[$1] = $2 }' out || fail "a key lost order"

run produce -t "$topic-h" -H a=b -H 'c=d e' --compression lz4 <(printf 'x"y\n\n')
status_is 0
run consume -t "$topic-h" -n 2 -f '%t|%p|%o|%k|%v|%h%%\n'
status_is 0
[ "$(head -n 1 out)" = "$topic-h|0|0||x\"y|a=b,c=d e%" ] || fail "format: $(head -n 1 out)"
run consume -t "$topic-h" -n 1 -f json
out_has '"key":null,"value":"x\\"y","headers":\[\{"name":"a","value":"b"\}'
run consume -t "$topic-h" -n 3 --timeout 1500
status_is 1
err_has 'only 2 of 3 records'
run consume -t "$topic-h" --from end --timeout 1500
status_is 0
out_empty

status=0
"$program" consume -t "$topic" --exit-at-end >/dev/full 2>err || status=$?
status_is 1
err_has 'standard output: cannot write: No space left'
{ "$program" consume -t "$topic" --exit-at-end 2>err || echo "$?" >code; } | head -n 1 >out
[ ! -s err ] || fail "a closed pipe is told"

seq 1000000 >million
run produce -t "$topic-m" --json million
status_is 0
json_is acknowledged 1000000
run consume -t "$topic-m" --exit-at-end
cmp -s out million || fail "a million lines did not come back in order"

# A run of salvo bench has topics of its own, bounded in time, and removes them.
"$program" bench --quiet --rate 100 --duration 4s --warmup 0 --partitions 2 >/dev/null 2>&1 &
load=$!
own=''
for _ in {1..100}; do
    run topics list
    own=$(grep -oE "^ *salvo-bench-[0-9]+-$load-0" out) && break
    sleep 0.1
done
[ -n "$own" ] || fail "salvo bench made no topic: $(cat out)"
# shellcheck disable=SC2086
run topics describe $own
status_is 0
out_has ' 10m( |$)'
wait "$load" || fail "salvo bench: status $?"
run topics list
grep -q -- "-$load-0" out && fail "salvo bench left its topic"
verdict
