#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What bench/python/bench.py (or consume.py: bench/consume.sh, avro.py: bench/avro.sh) needs: a
# virtual environment in build/ with both packages and the peers, and a real Kafka
# (SALVO_BENCH_KAFKA=HOST:PORT: that one). Guarantees: standard output is the bench's alone; the
# Kafka that it started ends with it.
set -euo pipefail
# shellcheck source=script/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/../script/common.sh"
# shellcheck disable=SC2034 # common.sh's lines begin with it
me="bench python"
readonly script=$top/bench/python/${SALVO_BENCH_SCRIPT:-bench.py}
readonly home=$top/build/bench-python
readonly python=$home/venv/bin/python

prepare() {
    [ -x "$python" ] || python3 -m venv "$home/venv" || return
    local pip=("$python" -m pip install --quiet --disable-pip-version-check)
    "${pip[@]}" -r "$top/bench/python/requirements.txt" || return
    # The build tools are here: no isolation; what did not change is not built again.
    "${pip[@]}" --no-build-isolation --no-deps --force-reinstall \
        --config-settings=build-dir="$home/build" "$top/bindings/python" || return
    "${pip[@]}" --no-build-isolation --no-deps --force-reinstall "$top/bindings/core"
}

case " $* " in
*' --help '* | *' -h '*) exec python3 "$script" --help ;;
esac
step "preparing Python" prepare
[ -z "${SALVO_BENCH_ALONE:-}" ] || exec "$python" "$script" "$@" # bench/avro.sh: no broker
if [ -z "${SALVO_BENCH_KAFKA:-}" ]; then
    name=bench-$$
    trap '"$top/script/broker" kafka stop --name "$name" >&2' EXIT
    # What the topics of long runs leave behind stays small.
    SALVO_BENCH_KAFKA=$("$top/script/broker" kafka start --name "$name" --owner $$ \
        --set log.retention.bytes=536870912 --set log.segment.bytes=67108864 \
        --set log.retention.check.interval.ms=5000 --set log.segment.delete.delay.ms=1000)
fi
"$python" "$script" --kafka "$SALVO_BENCH_KAFKA" \
    --c-program "$top/build/release/bench/python/rdkafka_loop" "$@"
