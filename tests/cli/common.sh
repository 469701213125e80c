# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What the tests of the command share; sourced with the program and the source folder as
# arguments. Each test runs in an empty folder of its own, with an environment that configures
# nothing; all failures are told before the status.
set -u
program=$(realpath "$1")
source_dir=$(realpath "$2")
export program source_dir
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch" || exit 1
unset "${!KAFKA_@}" "${!MESSAGE_@}" "${!REDIS_@}" "${!RABBITMQ_@}"
failures=0

# run ARGUMENT...: sets status, and leaves the output in the files out and err
run() {
    status=0
    "$program" "$@" >out 2>err || status=$?
}

fail() {
    printf 'line %s: %s\n' "${BASH_LINENO[1]}" "$*"
    sed 's/^/  err: /' err | head -5
    failures=$((failures + 1))
}

status_is() { [ "$status" -eq "$1" ] || fail "status $status instead of $1"; }
err_has() { grep -qF -- "$1" err || fail "standard error lacks: $1"; }
err_lines() { [ "$(wc -l <err)" -eq "$1" ] || fail "not $1 lines on standard error"; }
out_empty() { [ ! -s out ] || fail "standard output is not empty"; }
out_has() { grep -qE -- "$1" out || fail "standard output lacks: $1"; }

# json FIELD: a number or word from the summary, the last line of standard error
json() { tail -n 1 err | sed -n "s/.*\"$1\":\([a-z0-9.]*\).*/\1/p"; }
json_is() { [ "$(json "$1")" = "$2" ] || fail "$1 is $(json "$1") instead of $2"; }

# The end of a test.
verdict() {
    [ "$failures" -eq 0 ] && exit 0
    printf '%s failures\n' "$failures"
    exit 1
}
