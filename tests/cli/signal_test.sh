#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The first signal ends the reading and drains, the second gives up; a closed pipe is quiet.
# shellcheck source=tests/cli/common.sh
. "$(dirname "$0")/common.sh"

# start ARGUMENT...: produce from a pipe that stays open; 3 lines are in it
start() {
    rm -f pipe
    mkfifo pipe
    "$program" produce --topic t --json "$@" <pipe >out 2>err &
    pid=$!
    exec 9>pipe
    seq 3 >&9
    sleep 1 # the lines are accepted, and the command waits for more
}
finish() {
    status=0
    wait "$pid" || status=$?
    exec 9>&-
}

for signal in INT TERM; do
    start --broker null
    kill "-$signal" "$pid"
    finish
    status_is 130
    err_has 'stopping'
    json_is acknowledged 3
    json_is interrupted true
    json_is balanced true
done

# A Kafka that is not there: nothing can be delivered, so the drain time passes ...
start --broker kafka --set kafka_bootstrap_servers=127.0.0.1:1 --drain-timeout 500
kill -INT "$pid"
finish
status_is 130
err_has '3 of 3 messages were not acknowledged'
json_is acknowledged 0
json_is pending 0
json_is balanced true

# ... or a person has had enough.
start --broker kafka --set kafka_bootstrap_servers=127.0.0.1:1 --drain-timeout 60000
kill -INT "$pid"
sleep 0.5
kill -INT "$pid"
began=$SECONDS
finish
status_is 130
[ $((SECONDS - began)) -lt 20 ] || fail "the second signal did not end it"
json_is acknowledged 0
verdict
