#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The demo checks itself; this checks that it does so on an ordinary, an empty and no file.
# shellcheck source=tests/cli/common.sh
. "$(dirname "$0")/common.sh"

LC_ALL=C run "$source_dir/LICENSE" 200000
status_is 0
out_has '^lines .* 0 differ'
out_has '^events +200000 sent, 200000 read back, 0 missing, 0 doubled, 0 damaged, 0 out of order'
out_has '^total +p50 .*#'
out_has '^all read back'
LC_ALL=C.UTF-8 run "$source_dir/LICENSE" 2000
out_has '█'
: >empty
run empty 100
status_is 0
run missing
status_is 1
err_has 'No such file'
verdict
