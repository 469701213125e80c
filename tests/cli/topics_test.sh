#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# topics_test PROGRAM SOURCE_DIR kafka|redis|rabbitmq: `salvo topics` and `salvo lag` against a real
# server (SALVO_TEST_KAFKA and so on), as people and as programs read them.
broker=$3
variable=SALVO_TEST_${broker^^}
address=${!variable:-}
[ -n "$address" ] || { echo "$variable is not set"; exit 77; }
# shellcheck source=tests/cli/common.sh
. "$(dirname "$0")/common.sh"
export MESSAGE_BROKER=$broker
case $broker in
    kafka) export KAFKA_BOOTSTRAP_SERVERS=$address ;;
    redis) export REDIS_URL=$address ;;
    rabbitmq) export RABBITMQ_URL=$address ;;
esac
a=topics-$$-$RANDOM-a b=${a%a}b
trap '"$program" topics delete "$a" "$b" >/dev/null 2>&1; rm -rf "$scratch"' EXIT

# column N of the topic's line in a table, json_of KEY: of the first object of an array
column() { awk -v name="$1" -v n="$2" '$1 == name { print $n }' out; }
json_of() { sed -n "s/^ *\"$1\": \(.*[^,]\),*$/\1/p" out | head -n 1; }
column_is() { [ "$(column "$1" "$2")" = "$3" ] || fail "column $2 of $1: $(column "$1" "$2")"; }

run topics describe "$a"
status_is 1
out_empty
err_lines 1
err_has "'$a'"

shape=()
[ "$broker" = kafka ] && shape=(--partitions 4 --cleanup "compact,delete")
[ "$broker" != redis ] && shape+=(--retention 36h)
run topics create "$a" "${shape[@]}"
status_is 0
[ "$(cat out)" = "$a: created" ] || fail "create says: $(cat out)"
[ ! -s err ] || fail 'create speaks on standard error'
run topics create "$b" "$a"
status_is 1 # one of them was there
[ "$(cat out)" = "$b: created" ] || fail "create says: $(cat out)"
err_has "'$a'"

run topics describe "$a" "$b"
status_is 0
[ "$(wc -l <out)" -eq 3 ] || fail 'not a head and two lines'
column_is "$a" 2 "$([ "$broker" = kafka ] && echo 4 || echo 1)"
column_is "$a" 4 "$([ "$broker" = redis ] && echo - || echo 36h)"
column_is "$a" 5 "$([ "$broker" = kafka ] && echo compact,delete || echo -)"
column_is "$b" 6 0

run topics ensure "$a" "${shape[@]}"
status_is 0
[ "$(cat out)" = "$a: as wanted" ] || fail "ensure says: $(cat out)"
if [ "$broker" = redis ]; then
    run topics ensure "$a" --retention 1h
    status_is 1
    err_has 'no retention time: leave retention_ms out'
else
    run topics ensure "$a" --retention 1h
    status_is 1
    [ "$(cat out)" = "$a: different"$'\n''  retention_ms: 129600000, wanted 3600000' ] ||
        fail "ensure says: $(cat out)"
    run topics ensure "$a" --retention 1h --json
    status_is 1
    [ "$(json_of result)" = '"different"' ] || fail "result: $(json_of result)"
    out_has '"retention_ms: 129600000, wanted 3600000"'
fi
if [ "$broker" != kafka ]; then
    run topics create "$a-none" --partitions 2
    status_is 1
    err_has 'has one partition: set partitions to 1'
    run topics describe "$a-none"
    status_is 1
fi

seq 500 >lines
run produce -t "$b" --json lines
status_is 0
run topics describe "$b" --json
status_is 0
[ "$(json_of messages)" = 500 ] || fail "messages: $(json_of messages)"
[ "$(json_of name)" = "\"$b\"" ] || fail "name: $(json_of name)"

run lag -g readers -t "$b"
status_is 0
[ "$(awk 'NR > 1 { sum += $5 } END { print sum }' out)" = 500 ] || fail "lag: $(cat out)"
run lag -g readers -t "$b" --json --most 499
status_is 3
[ "$(json_of lag)" = 500 ] || fail "lag: $(json_of lag)"
[ "$(json_of committed)" = null ] || fail "committed: $(json_of committed)"
run lag -g readers -t "$b" --most 500
status_is 0
run lag -g readers -t "$a-none" -t "$b"
status_is 1
err_has "$a-none"
out_has "^$b "

if [ "$broker" = rabbitmq ]; then
    run topics list
    status_is 1
    err_has 'rabbitmqctl list_queues'
else
    run topics list
    status_is 0
    column_is "$b" 6 -
    grep -q '^__' out && fail "the broker's own are listed without --all"
    run topics list --json
    out_has "\"name\": \"$a\""
fi

run topics delete "$a" "$b"
status_is 0
[ "$(wc -l <out)" -eq 2 ] || fail "delete says: $(cat out)"
for _ in $(seq 50); do # a Kafka broker hears of it a moment later
    run topics describe "$b"
    [ "$status" -ne 0 ] && break
    sleep 0.1
done
status_is 1
status=0
"$program" topics delete "$a" >/dev/full 2>err || status=$?
status_is 1
verdict
