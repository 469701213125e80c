#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# script/bench consume: what reading from Kafka into a Python handler costs. The environment and
# the Kafka are those of bench/python.sh.
set -euo pipefail
SALVO_BENCH_SCRIPT=consume.py exec "$(dirname "${BASH_SOURCE[0]}")/python.sh" "$@"
