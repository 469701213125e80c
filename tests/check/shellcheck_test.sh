#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Given SOURCE_DIR: shellcheck has nothing to say of any shell script of the project.
# Status 77 (skipped) where it is not installed.
# shellcheck source=tests/check/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$1"
command -v shellcheck >/dev/null || { echo "shellcheck is not installed"; exit 77; }
mapfile -t scripts < <(find .ci script bench tests examples bindings -type f \
    -exec awk 'FNR == 1 { if (/^#!.*sh$/ || FILENAME ~ /\.sh$/) print FILENAME; nextfile }' {} +)
[ "${#scripts[@]}" -gt 5 ] || complain "found only ${#scripts[@]} scripts: is this the project?"
shellcheck -x -P SCRIPTDIR -P . "${scripts[@]}" || complain "shellcheck: see above"
verdict
