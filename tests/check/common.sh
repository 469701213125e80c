# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What the checks share; sourced. Guarantees: a scratch folder that is gone at the end, and a
# failure for each complaint, all of them told.
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
complaints=0

complain() {
    printf '%s\n' "$*"
    complaints=$((complaints + 1))
}

# The last command of a check: its status.
verdict() {
    [ "$complaints" -eq 0 ] && return 0
    printf '%s complaints\n' "$complaints"
    return 1
}
