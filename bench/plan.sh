#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Does the planner predict what happens? For a real Kafka and a real Redis: warm up, `salvo probe`,
# predictions to a file, then the loads themselves. Guarantees: brokers of its own, on loopback,
# ended with it; predictions are on disk before the first load runs.
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
salvo=${SALVO:-$top/build/release/bindings/cli/salvo}
out='' servers=(kafka redis) more=()

usage() {
    cat <<'TEXT'
usage: script/bench plan [--quick] [--json] [--out DIR] [--broker kafka|redis] [--rounds N]
                         [--seconds N]

Predictions of `salvo plan predict` against `salvo bench`: four combinations of linger and batch
size that the probe never saw, at 50, 70 and 85 % of the measured limit, in interleaved rounds.
Printed side by side: predicted, measured, repeat error (each round against the median of the
others), and the naive guess (linger + the probe's p99). Points whose repeat error exceeds 15 % are
unresolved; with fewer than 8 resolved ones there is no verdict. Where the host above a virtual
machine takes more than 2 % of the processors meanwhile (steal), a probe or a load has no say and is
played again: a probe twice at most, of the loads as many as one round has. A second probe after
the rounds tells how much the machine changed meanwhile (`drift`). Processors are kept from
halting, because a halted one is what a neighbour takes; this needs
kernel.sched_autogroup_enabled=0 (bench/awake.c says why).

  --quick        1 broker at a time as always, but 3 rounds of 5 s and a probe of 30 s
  --rounds N     default 5; --seconds N: of a round, default 30
  --broker NAME  only this one
  --out DIR      models, predictions and results stay there
  --json         the last line of standard output is one JSON object

Status 0 measured (whatever the verdict), 1 something failed. An idle machine is needed: a
broker takes an hour, with --quick a quarter of one.
TEXT
}

while [ $# -gt 0 ]; do
    case $1 in
    -h | --help) usage; exit 0 ;;
    --out) out=${2:?--out needs a folder}; shift ;;
    --broker) servers=("${2:?--broker needs a name}"); shift ;;
    --rounds | --seconds) more+=("$1" "${2:?$1 needs a number}"); shift ;;
    --quick | --json) more+=("$1") ;;
    *) echo "plan: unknown option '$1'; see --help" >&2; exit 2 ;;
    esac
    shift
done
case ${servers[0]} in
kafka | redis) ;;
*) echo "plan: --broker: '${servers[0]}' is neither kafka nor redis" >&2; exit 2 ;;
esac

name=plan-$$
scratch=${out:-$(mktemp -d)}
mkdir -p "$scratch"
stop() {
    local server
    kill "$awake" 2>/dev/null || true
    for server in "${servers[@]}"; do
        "$top/script/broker" "$server" stop --name "$name" || true
    done
    if [ -z "$out" ]; then rm -rf "$scratch"; fi
}
"$top/build/release/bench/tools/awake" &
awake=$!
trap stop EXIT

logs=${TMPDIR:-/tmp}
if [ -d /dev/shm ] && [ -w /dev/shm ]; then logs=/dev/shm; fi
export KAFKA_HEAP_OPTS=${KAFKA_HEAP_OPTS:--Xms1g -Xmx1g -XX:MaxGCPauseMillis=20 \
-XX:InitiatingHeapOccupancyPercent=35}

targets=()
for server in "${servers[@]}"; do
    set=()
    # As servers come, not as the tests want them: Redis in memory, Kafka with the heap of its own
    # start script. Its logs lie in memory too and are soon deleted, in small pieces: a rented disk
    # that stalls at 200 MB/s, and a kernel that frees a gigabyte, are not what is to be predicted.
    case $server in
    redis) set=(--set appendonly=no) ;;
    kafka) set=(--dir "$logs" --set log.retention.bytes=33554432 --set log.segment.bytes=33554432
        --set log.retention.check.interval.ms=500 --set log.segment.delete.delay.ms=500) ;;
    esac
    address=$("$top/script/broker" "$server" start --name "$name" --owner $$ "${set[@]}")
    targets+=(--target "$server=$address")
done
python3 "$top/bench/plan.py" --salvo "$salvo" --out "$scratch" "${targets[@]}" "${more[@]}"
