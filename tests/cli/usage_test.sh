#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# shellcheck disable=SC2016 # the backticks are the messages' own
# Wrong command lines get one line with the nearest name and status 2; every option is in the
# help, the manual and the completion.
# shellcheck source=tests/cli/common.sh
. "$(dirname "$0")/common.sh"

wrong() { # TEXT ARGUMENT...: one line that has TEXT
    local text=$1
    shift
    run "$@"
    status_is 2
    out_empty
    err_lines 1
    err_has "$text"
}

wrong 'did you mean `produce`?' prodce
wrong 'see salvo --help' xyzzy
wrong 'did you mean `--topic`?' produce --topc x
wrong 'see salvo consume --help' consume --topc x -t y
wrong 'unknown option `-z`' produce -z
wrong '`--topic` needs a value' produce --topic
wrong '`--json` takes no value' produce --json=1
wrong '`--scen` is not written out; it may be `--scenario`' bench --scen /nonexistent
wrong '`--broker-mod` is not written out' plan --rate 1k --broker-mod /nonexistent
wrong 'it may be `--key-field`, `--key-delimiter`' produce --ke=x
wrong '--rate: `fast` is not a whole number from 1' produce --rate fast
wrong '--threads: `65` is not a whole number from 1 to 64' produce --threads 65
wrong '--partition: `-1`' produce --partition=-1
wrong 'is not name=value' produce --header x
wrong '--key-field needs --ndjson' produce --key-field x
wrong '--skip-invalid needs --ndjson' produce --skip-invalid
wrong '--key-delimiter is for lines' produce --ndjson -k :
wrong '--topic is missing' consume
wrong 'is not beginning or end' consume -t x --from middle
wrong 'allowed are value, key-value, json' consume -t x --format xml
wrong 'allowed are value, key-value, json' consume -t x --format '%v%q'
wrong 'exclude each other' config --json --markdown
wrong 'is not key=value' config --set x
wrong 'unexpected argument' version x
wrong 'what is to be done is missing' topics
wrong 'did you mean `describe`?' topics descrbe
wrong 'create: which topic?' topics create
wrong 'unexpected argument `x`' topics list x
wrong 'describe takes no --partitions' topics describe x --partitions 2
wrong 'create takes no --all' topics create x --all
wrong 'is no time such as 500ms' topics create x --retention 7
wrong 'is no time such as 500ms' topics create x --retention 200000000000d
wrong '--partitions: `0` is not a whole number from 1' topics ensure x --partitions 0
wrong '--group is missing' lag -t x
wrong '--topic is missing' lag -g x
wrong '--most: `-1`' lag -g x -t y --most=-1
wrong 'linger_us' produce --broker null --set linger_us=never

run
status_is 2
run --version
status_is 0
out_has '^salvo [0-9]+\.[0-9]+\.[0-9]+$'

for command in produce consume topics lag config version bench plan probe record report top \
               metrics; do
    run "$command" --help
    status_is 0
    out_has "^usage: salvo $command"
    [ ! -s err ] || fail "$command --help writes to standard error"
    mapfile -t options < <(grep -oE -- '--[a-z][a-z-]*' out | sort -u)
    for option in "${options[@]}"; do
        sed 's/\\//g' "$source_dir/bindings/cli/salvo.1" | grep -qF -- "$option" ||
            fail "salvo.1 lacks $option of $command"
    done
done

# shellcheck source=/dev/null
. "$source_dir/bindings/cli/salvo.bash-completion"
COMP_WORDS=("$program" prod) COMP_CWORD=1
_salvo
[ "${COMPREPLY[*]}" = produce ] || fail "completion of prod: ${COMPREPLY[*]}"
COMP_WORDS=("$program" produce --key-f) COMP_CWORD=2
_salvo
[ "${COMPREPLY[*]}" = --key-field ] || fail "completion of --key-f: ${COMPREPLY[*]}"
COMP_WORDS=("$program" topics des) COMP_CWORD=2
_salvo
[ "${COMPREPLY[*]}" = describe ] || fail "completion of topics des: ${COMPREPLY[*]}"
COMP_WORDS=("$program" produce --set kafka_linger) COMP_CWORD=3
_salvo 2>/dev/null
[ "${COMPREPLY[*]}" = kafka_linger_ms= ] || fail "completion of --set: ${COMPREPLY[*]}"

status=0
"$program" --help >/dev/full 2>err || status=$?
status_is 1
verdict
