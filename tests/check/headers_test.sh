#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# headers_test SOURCE_DIR: each public header compiles alone as C11 and as C++17 without a warning,
# twice in one file too, includes only the C library and its neighbours, and shows no _Atomic.
# shellcheck source=tests/check/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
include=$1/engine/include

# compiles LABEL COMPILER FLAG... : of $scratch/unit, whose suffix the flags make unimportant
compiles() {
    local label=$1
    shift
    "$@" -Wall -Wextra -Werror -fsyntax-only -I "$include" "$scratch/unit" ||
        complain "$header: does not compile alone as $label"
}

allowed='^(salvo/[a-z_]+\.h|std(int|def|io|bool|arg)\.h)$'
for path in "$include"/salvo/*.h; do
    header=salvo/${path##*/}
    printf '#include <%s>\n#include <%s>\n' "$header" "$header" >"$scratch/unit"
    compiles C11 "${CC:-cc}" -std=c11 -pedantic -x c
    compiles C++17 "${CXX:-c++}" -std=c++17 -pedantic -x c++
    while read -r name; do
        [[ $name =~ $allowed ]] || complain "$header: includes <$name>, which users may not have"
    done < <(sed -n 's/^ *# *include *[<"]\([^>"]*\)[>"].*/\1/p' "$path")
    if "${CC:-cc}" -fpreprocessed -dD -E -P -x c "$path" 2>/dev/null |
        grep -nE '_Atomic|atomic_|rd_kafka'; then
        complain "$header: shows an atomic or a third-party type"
    fi
done
verdict
