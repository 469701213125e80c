#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# readme_test SOURCE_DIR libsalvo.so: the C program of README.md compiles as printed without a
# warning, runs on the embedded broker and says that its message was delivered, and so do those of
# docs/topics.md, docs/consuming.md and docs/avro.md, which print what the page says; the scripts
# that README.md names exist.
# shellcheck source=tests/check/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
source_dir=$1 shared=$2

compile() { # PAGE PROGRAM: its first C block
    awk '/^```c$/ {on = 1; next} /^```/ {if (on) exit} on' "$source_dir/$1" >"$scratch/$2.c"
    [ -s "$scratch/$2.c" ] || complain "$1 has no C block"
    "${CC:-cc}" -std=c11 -Wall -Wextra -Werror -I "$source_dir/engine/include" "$scratch/$2.c" \
        -o "$scratch/$2" "$shared" -Wl,-rpath,"$(dirname "$shared")"
}

compile README.md ten
prints_what_it_says() { # PAGE PROGRAM: the block after the C block
    compile "$1" "$2"
    awk '/^```c$/ {on = 1} on && /^```/ {fences++; next} fences == 3' "$source_dir/$1" \
        >"$scratch/said"
    [ -s "$scratch/said" ] || complain "$1 does not say what its program prints"
    MESSAGE_BROKER=memory "$scratch/$2" >"$scratch/out" ||
        complain "$1's program ended with status $?"
    cmp -s "$scratch/said" "$scratch/out" || complain "$1's program printed: $(cat "$scratch/out")"
}
cd "$scratch"
prints_what_it_says docs/topics.md topics
prints_what_it_says docs/consuming.md consuming
prints_what_it_says docs/avro.md avro
MESSAGE_BROKER=memory ./ten >out || complain "the README's program ended with status $?"
grep -qx '1 delivered' out || complain "the README's program printed: $(cat out)"

while read -r path; do
    [ -x "$source_dir/$path" ] || complain "README.md names $path, which is not there"
done < <(grep -oE 'script/[a-z]+' "$source_dir/README.md" | sort -u)
verdict
