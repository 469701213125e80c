#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# exports_test SOURCE_DIR libsalvo.so libsalvo.a: the shared library exports exactly the functions
# that the public headers declare with SALVO_API; the static one defines no strong global name
# that does not begin with salvo_, so that it cannot collide with its host's.
# shellcheck source=tests/check/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
source_dir=$1 shared=$2 static=$3

# The preprocessor takes out comments; without its directives SALVO_API stays a word. A
# declaration may cover several lines.
sed '/^ *#/d' "$source_dir"/engine/include/salvo/*.h | "${CC:-cc}" -E -P -x c - |
    tr '\n' ' ' | sed 's/[;{}]/\n/g' |
    sed -n 's/.*SALVO_API[^(]*[ *]\(salvo_[a-z0-9_]*\) *(.*/\1/p' | sort -u >"$scratch/declared"
nm -D --defined-only "$shared" | awk '{print $NF}' | sort -u >"$scratch/exported"

[ -s "$scratch/declared" ] || complain "no SALVO_API function was found in the public headers"
while read -r name; do
    complain "declared in a public header, not exported: $name"
done < <(comm -23 "$scratch/declared" "$scratch/exported")
while read -r name; do
    complain "exported, not declared with SALVO_API: $name"
done < <(comm -13 "$scratch/declared" "$scratch/exported")

# Upper-case T, D, B, R: strong and global. Weak C++ templates (W, V, u) are the linker's to merge.
while read -r name; do
    complain "global in the static library without the salvo_ prefix: $name"
done < <(nm --defined-only "$static" | awk '$2 ~ /^[TDBRC]$/ && $3 !~ /^salvo_/ {print $3}' |
         sort -u)
verdict
