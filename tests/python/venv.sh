#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# venv.sh SOURCE_DIR BUILD_DIR [PYTHON]: a virtual environment in BUILD_DIR/python/venv with both
# packages, as a user installs them, and what the tests need. Exit status 77, with the reason,
# where Python has no venv or pip reaches no index. Builds again only what has changed.
set -euo pipefail
source_dir=$1 home=$2/python python=${3:-python3}

skip() {
    printf 'skipped: %s\n' "$*"
    exit 77
}

"$python" -c 'import sys, venv, ensurepip; assert (3, 11) <= sys.version_info < (3, 14)' ||
    skip "$python is no CPython 3.11 to 3.13 with venv (Debian: python3-venv, python3-dev)"
mkdir -p "$home"
[ -x "$home/venv/bin/python" ] || "$python" -m venv "$home/venv"
pip=("$home/venv/bin/python" -m pip install --quiet --disable-pip-version-check)
if ! "${pip[@]}" -r "$source_dir/tests/python/requirements.txt" scikit-build-core hatchling ninja \
    msgspec pydantic 2>"$home/pip.log"; then
    cat "$home/pip.log"
    if grep -qiE 'connection|network|resolve host|timed out|No matching distribution' \
        "$home/pip.log"; then
        skip "pip reaches no package index"
    fi
    exit 1
fi
# --no-build-isolation: the build tools are here already; build-dir: what did not change is kept.
"${pip[@]}" --no-build-isolation --no-deps --force-reinstall \
    --config-settings=build-dir="$home/build" "$source_dir/bindings/python"
"${pip[@]}" --no-build-isolation --no-deps --force-reinstall "$source_dir/bindings/core"
