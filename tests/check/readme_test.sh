#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# readme_test SOURCE_DIR libsalvo.so: the C program of README.md compiles as printed without a
# warning, runs on the embedded broker and says that its message was delivered; the scripts that
# README.md names exist.
# shellcheck source=tests/check/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
source_dir=$1 shared=$2

awk '/^```c$/ {on = 1; next} /^```/ {if (on) exit} on' "$source_dir/README.md" >"$scratch/ten.c"
[ -s "$scratch/ten.c" ] || complain "README.md has no C block"
"${CC:-cc}" -std=c11 -Wall -Wextra -Werror -I "$source_dir/engine/include" "$scratch/ten.c" \
    -o "$scratch/ten" "$shared" -Wl,-rpath,"$(dirname "$shared")"
cd "$scratch"
MESSAGE_BROKER=memory ./ten >out || complain "the README's program ended with status $?"
grep -qx '1 delivered' out || complain "the README's program printed: $(cat out)"

while read -r path; do
    [ -x "$source_dir/$path" ] || complain "README.md names $path, which is not there"
done < <(grep -oE 'script/[a-z]+' "$source_dir/README.md" | sort -u)
verdict
