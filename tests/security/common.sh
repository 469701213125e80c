# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What the tests of security share; sourced with the salvo command, the source folder and the
# client program as arguments. An attempt runs the command and the client with settings in the
# environment, in a folder and a process of its own; `settle` waits for all of them and tells
# their failures. Guarantees: whatever runs here is watched: its arguments and all that it writes
# are searched for $mark, which every secret of the tests contains.
client=$(realpath "$3")
# shellcheck source=tests/cli/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/../cli/common.sh"
# shellcheck source=tests/security/certificates.sh
. "$source_dir/tests/security/certificates.sh"
unset "${!TLS_@}" "${!IO_@}"
mark=S3CRETmark
: >err # what fail() shows, where a test has no other
attempts=() pids=() cleanups=()
prefix=sec-$$-$RANDOM
mkdir certificates attempts
make_certificates "$scratch/certificates" "$mark-key" || exit 1
# shellcheck disable=SC2034 # the tests use it
certs=$scratch/certificates

leave() {
    local status=$? i
    trap - EXIT
    jobs -p | xargs -r kill 2>/dev/null
    for ((i = ${#cleanups[@]} - 1; i >= 0; i--)); do
        ${cleanups[i]} || true # words are wanted: a command and its arguments
    done
    rm -rf "$scratch"
    exit "$status"
}
trap leave EXIT
trap 'exit 130' INT TERM HUP

# free_ports N: ports of 127.0.0.1 where nobody listens, below those of outgoing connections
free_ports() {
    local port tried=' '
    while [ "$(wc -w <<<"$tried")" -lt "$1" ]; do
        port=$((20000 + RANDOM % 10000))
        [[ $tried == *" $port "* ]] && continue
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || tried+="$port "
    done
    echo "$tried"
}

# watch PID FILE: the arguments of a process and of its children go to FILE while it runs
watch() {
    local child
    while kill -0 "$1" 2>/dev/null; do
        for child in "$1" $(cat "/proc/$1/task/"*/children 2>/dev/null); do
            tr '\0' ' ' <"/proc/$child/cmdline"
        done 2>/dev/null
        sleep 0.03
    done >>"$2"
}

# watched NAME COMMAND...: runs it watched; its output goes to NAME.out and NAME.err
watched() {
    local name=$1 pid result=0
    shift
    "$@" >"$name.out" 2>"$name.err" &
    pid=$!
    watch "$pid" "$name.arguments" &
    wait "$pid" || result=$?
    wait
    return "$result"
}

# settings KEY=VALUE...: into the environment; as arguments of env they would show for a moment
settings() {
    local setting
    for setting in "$@"; do export "${setting?}"; done
}

wrong() { printf '%s\n' "$*" >>wrong; }

# begin NAME FUNCTION ARGUMENT...: in the background, in a folder of its own, with $core as its
# core.toml; a few at a time, so that a slow machine's server still answers each of them in time
begin() {
    local name=$1
    shift
    while [ "$(jobs -rp | wc -l)" -ge 4 ]; do sleep 0.05; done
    mkdir "$scratch/attempts/$name"
    printf '%s\n' "${core:-}" >"$scratch/attempts/$name/core.toml"
    attempts+=("$name")
    (
        trap - EXIT
        cd "$scratch/attempts/$name" && "$@"
    ) &
    pids+=($!)
}

# accepted NAME KEY=VALUE...: what is produced with these settings is read back with them
accepted() { begin "$1" try_accepted "$@"; }
try_accepted() {
    local topic=$prefix-$1
    shift
    settings "$@"
    printf '%s\n' one two three >in
    watched produce "$program" produce -t "$topic" --require-broker --json in ||
        wrong "produce: status $?"
    grep -q '"acknowledged":3,' produce.err || wrong 'produce: not 3 acknowledged'
    watched consume "$program" consume -t "$topic" -n 3 --timeout 15000 ||
        wrong "consume: status $?"
    cmp -s in consume.out || wrong 'what came back is not what was sent'
    watched client "$client" "$topic" || wrong "client: status $?"
}

# unchecked NAME PROPERTY KEY=VALUE...: with one check switched off the same is delivered
unchecked() { begin "unchecked-$1" try_unchecked "$@"; }
try_unchecked() {
    local topic=$prefix-unchecked-$1 property=$2
    shift 2
    settings "$@"
    echo one | watched produce "$program" produce -t "$topic" --require-broker --json \
        --set "$property" || wrong "produce: status $?"
    grep -q '"acknowledged":1,' produce.err || wrong 'produce: not acknowledged'
}

# refused NAME TEXT KEY=VALUE...: with these settings nothing is delivered nor read, at once
# (--require-broker) and after a while, and the error says TEXT (an extended expression)
refused() { begin "$1" try_refused "$@"; }
try_refused() {
    local topic=$prefix-$1 text=$2
    shift 2
    settings "$@"
    printf '%s\n' one two three >in
    refusal "$text" open "$program" produce -t "$topic" --require-broker --json in &
    refusal "$text" read "$program" consume -t "$topic" -n 1 --timeout 5000 &
    refusal "$text" client "$client" "$topic" &
    DELIVERY_TIMEOUT_MS=10000 refusal "$text" late "$program" produce -t "$topic" --json in &
    wait
    [ -z "${also:-}" ] || return 0 # such settings are refused before there is a ledger
    grep -q '"acknowledged":0,' late.err || wrong 'produce without --require-broker: no ledger'
    grep -q '"balanced":true' late.err || wrong 'produce without --require-broker: ledger'
}

# refusal TEXT NAME COMMAND...: it ends with status 1 (or $also), and says TEXT; each line on the
# command's standard error is one of its own
refusal() {
    local text=$1 name=$2 result=0
    shift 2
    watched "$name" "$@" || result=$?
    [ "$result" -eq 1 ] || [ "$result" -eq "${also:-1}" ] || wrong "$name: status $result"
    grep -qE -- "$text" "$name.err" || wrong "$name: standard error lacks: $text"
    grep -qE 'acknowledged"?:? ?[1-9]' "$name.err" "$name.out" && wrong "$name: acknowledged"
    [ "$name" = client ] || ! grep -v '^salvo: \|^{' "$name.err" >lines-"$name" ||
        wrong "$name: lines that are no error: $(head -n 1 lines-"$name")"
}

# settle: waits for all attempts, tells their failures, and looks for secrets in all there is
settle() {
    local name
    wait "${pids[@]}"
    for name in "${attempts[@]}"; do
        if [ -s "attempts/$name/wrong" ]; then
            failures=$((failures + 1))
            sed "s/^/$name: /" "attempts/$name/wrong"
            tail -n 4 "attempts/$name/"*.err
        fi
    done
    attempts=() pids=()
    no_secrets attempts
}

# no_secrets PATH...: none of the marks is in what was written or in the arguments of a process
no_secrets() {
    local written=(--include='*.out' --include='*.err' --include='*.arguments')
    grep -rqaF --include='*.arguments' "$program" "$@" || fail 'no process was watched'
    grep -rlaF "${written[@]}" "$mark" "$@" >found || return 0
    failures=$((failures + 1))
    printf 'a secret is shown in %s\n' "$(paste -sd' ' found)"
    grep -rahF "${written[@]}" "$mark" "$@" | cut -c 1-300 | head -n 3
}
