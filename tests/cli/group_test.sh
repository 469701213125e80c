#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# group_test PROGRAM SOURCE_DIR kafka|redis|rabbitmq: `salvo consume --group` against the real
# server whose address is in SALVO_TEST_KAFKA and so on: what was printed is settled, what was not
# is given again, whatever ended the command.
broker=$3
case $broker in
kafka) address=${SALVO_TEST_KAFKA:-} key=KAFKA_BOOTSTRAP_SERVERS ;;
redis) address=${SALVO_TEST_REDIS:-} key=REDIS_URL ;;
rabbitmq) address=${SALVO_TEST_RABBITMQ:-} key=RABBITMQ_URL ;;
esac
[ -n "$address" ] || { echo "no address of $broker is set"; exit 77; }
# shellcheck source=tests/cli/common.sh
. "$(dirname "$0")/common.sh"
export MESSAGE_BROKER=$broker "$key=$address"
topic=group-$$-$RANDOM group=cli-$$-$RANDOM
export REDIS_CLAIM_IDLE_MS=1000 # of a member that was killed

# member ARGUMENT...: consume as one; joining takes seconds, which --timeout does not count
member() { run consume -t "$topic" -g "$group" "$@"; }

a_group_goes_on_where_it_was() {
    seq 2000 >lines
    run produce -t "$topic" --json lines
    json_is acknowledged 2000
    member -n 700
    status_is 0
    [ "$(wc -l <out)" -eq 700 ] || fail "$(wc -l <out) lines instead of 700"
    cp out all
    member --timeout 2500
    status_is 0
    [ ! -s err ] || fail 'consume speaks'
    cat out >>all
    sort -n all | cmp -s - lines || fail "two members one after the other: not each line once"
    member --timeout 1500
    out_empty
    member -n 5 --timeout 1500
    status_is 1
    err_has 'only 0 of 5 records'
}

a_signal_settles_what_was_printed() {
    local signal=$1
    run produce -t "$topic" <(seq 300)
    : >printed # the shell that empties it may start late: what the last signal left is no output
    "$program" consume -t "$topic" -g "$group" >printed 2>err &
    local pid=$! waited=0
    while [ "$(wc -l <printed)" -lt 300 ] && [ $((waited += 1)) -lt 300 ]; do sleep 0.1; done
    [ "$(wc -l <printed)" -eq 300 ] || fail "$(wc -l <printed) lines instead of 300"
    kill "-$signal" "$pid"
    status=0
    wait "$pid" || status=$?
    status_is 130
    [ ! -s err ] || fail 'consume speaks'
    member --timeout 1500
    out_empty
}

what_was_not_written_comes_again() {
    run produce -t "$topic" <(seq 10)
    status=0
    "$program" consume -t "$topic" -g "$group" >/dev/full 2>err || status=$?
    status_is 1
    err_has 'standard output: cannot write: No space left'
    member -n 10 --timeout 20000
    status_is 0
    [ "$(sort -n out)" = "$(seq 10)" ] || fail "lost: $(wc -l <out) of 10 lines came again"
}

another_group_gets_all() {
    run consume -t "$topic" -g "$group-2" --timeout 2500 -f key-value
    [ "$(wc -l <out)" -eq 2610 ] || fail "$(wc -l <out) lines instead of 2610"
    run produce -t "$topic-late" <(seq 5)
    run consume -t "$topic-late" -g "$group" --from end --timeout 1500
    status_is 0
    out_empty
}

a_group_goes_on_where_it_was
a_signal_settles_what_was_printed INT
a_signal_settles_what_was_printed TERM
what_was_not_written_comes_again
[ "$broker" = rabbitmq ] || another_group_gets_all # a queue is shared by all who read it
verdict
