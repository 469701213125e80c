#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# probes_test libsalvo.so: where it was built with <sys/sdt.h>, the shared library has the four
# static probes with as many arguments as engine/probes.h says.
# shellcheck source=tests/check/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
library=$1

if ! echo '#include <sys/sdt.h>' | "${CC:-cc}" -E -x c - >/dev/null 2>&1; then
    echo "skipped: no <sys/sdt.h> here (Debian: systemtap-sdt-dev)"
    exit 77
fi
# Of each note: "name number-of-arguments".
readelf -n "$library" | awk '
    /Provider:/ { ours = $2 == "salvo" }
    /Name:/ { name = $2 }
    /Arguments:/ && ours { print name, NF - 1 }' | sort -u >"$scratch/probes"
for probe in 'claim_full 4' 'batch_close 5' 'submit 5' 'outcome 3'; do
    grep -qx "$probe" "$scratch/probes" || complain "no probe \"$probe\" in $library"
done
[ "$(wc -l <"$scratch/probes")" -eq 4 ] || complain "not four probes: $(cat "$scratch/probes")"
verdict
