#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# script/bench peers: Salvo and other clients, side by side (docs/peers.md). Here: a Python with
# the peers' packages, in build/peers/venv; the rest is bench/peers/run.py.
set -euo pipefail
# shellcheck source=script/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/../script/common.sh"

venv=$top/build/peers/venv
requirements=$top/bench/peers/requirements.txt

make_venv() {
    rm -rf "$venv"
    python3 -m venv "$venv" && "$venv/bin/pip" install -q -r "$requirements" &&
        cp "$requirements" "$venv/requirements.txt"
}

cmp -s "$requirements" "$venv/requirements.txt" ||
    step "fetching the Python peers from PyPI (once)" make_venv ||
    die "no packages from PyPI; check the network and pip's configuration, then run this again"
PYTHONDONTWRITEBYTECODE=1 exec "$venv/bin/python" "$top/bench/peers/run.py" \
    --build "$top/build/release" "$@"
