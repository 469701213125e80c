# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What demo, test and bench share; sourced, never run. Guarantees: works from any folder, keeps
# standard output for the caller, and shows a step's output only on a terminal or when it failed.

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
me=${0##*/}
export HOME="${HOME:-/tmp}"

say() { printf '%s: %s\n' "$me" "$*" >&2; }
die() {
    say "$*"
    exit 1
}

# step TITLE COMMAND...: one line before, one with the time after. The command's output goes to
# a log whose end is shown when the command fails; on a terminal it is shown as it comes.
step() {
    local title=$1 log status=0 began=$SECONDS
    shift
    say "$title ..."
    if [ -t 2 ]; then
        "$@" >&2 || status=$?
    else
        log=$(mktemp)
        "$@" >"$log" 2>&1 || status=$?
        [ "$status" -eq 0 ] || tail -n 60 "$log" >&2
        rm -f "$log"
    fi
    [ "$status" -eq 0 ] || say "$title: failed with status $status"
    [ "$status" -ne 0 ] || say "$title: done in $((SECONDS - began)) s"
    return "$status"
}

# configure PRESET [-Dname=value...]: ninja re-runs CMake by itself later; quick when unchanged.
configure() {
    local preset=$1
    shift
    (cd "$top" && cmake --preset "$preset" "$@")
}

# build PRESET [TARGET...]
build() {
    local preset=$1
    shift
    (cd "$top" && cmake --build --preset "$preset" ${1:+--target "$@"})
}
