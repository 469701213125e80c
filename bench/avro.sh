#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# script/bench avro: what a message as Avro costs in Python. The environment is that of
# bench/python.sh; no broker is needed.
set -euo pipefail
export SALVO_BENCH_SCRIPT=avro.py SALVO_BENCH_ALONE=1
exec "$(dirname "${BASH_SOURCE[0]}")/python.sh" "$@"
