#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# venv.sh SOURCE_DIR BUILD_DIR [PYTHON]: a virtual environment in BUILD_DIR/python/venv with both
# packages and what the tests need. Guarantees: does nothing at all, in a second, when nothing
# has changed since it last ended well, and compiles again only what has; another interpreter gets
# a new environment; exit status 77, with the reason, where there is no such Python or pip reaches
# no index; nothing is written into the source folder.
set -euo pipefail
source_dir=$1 home=$2/python python=${3:-python3}

skip() {
    printf 'skipped: %s\n' "$*"
    exit 77
}

# What goes into the environment, and what goes into the packages, as a line each.
environment_mark() {
    "$python" -c 'import sys; print(sys.version, sys.base_prefix)'
    cat "$source_dir"/tests/python/{venv.sh,requirements.txt} \
        "$source_dir"/bindings/*/pyproject.toml
}
packages_mark() {
    cd "$source_dir"
    find CMakeLists.txt cmake ring codecs engine bindings/python bindings/core -type f \
        ! -name '*.pyc' -print0 | sort -z | xargs -0 sha256sum
}
mark() { "$1" | sha256sum | cut -d ' ' -f 1; }
is_marked() { [ "$(cat "$home/$1.mark" 2>/dev/null)" = "$2" ]; }

# install ARGUMENT...: pip; without an index the tests are skipped.
install() {
    "$home/venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@" \
        2>"$home/pip.log" && return
    cat "$home/pip.log"
    if grep -qiE 'connection|network|resolve host|timed out|No matching distribution' \
        "$home/pip.log"; then
        skip "pip reaches no package index"
    fi
    exit 1
}

"$python" -c 'import sys, venv, ensurepip; assert (3, 11) <= sys.version_info < (3, 14)' ||
    skip "$python is no CPython 3.11 to 3.13 with venv (Debian: python3-venv, python3-dev)"
mkdir -p "$home"
environment=$(mark environment_mark)
packages=$(mark packages_mark)
if ! is_marked environment "$environment"; then
    rm -rf "$home/venv" "$home/build" "$home"/*.mark
    "$python" -m venv "$home/venv"
    install -r "$source_dir/tests/python/requirements.txt" scikit-build-core hatchling msgspec \
        pydantic
    printf '%s\n' "$environment" >"$home/environment.mark"
fi
if ! is_marked packages "$packages"; then
    # --no-build-isolation: the build tools are here; build-dir: what did not change is kept.
    rm -f "$home/packages.mark"
    install --no-build-isolation --no-deps --force-reinstall \
        --config-settings=build-dir="$home/build" "$source_dir/bindings/python"
    install --no-build-isolation --no-deps --force-reinstall "$source_dir/bindings/core"
    "$home/venv/bin/python" -m pip check
    printf '%s\n' "$packages" >"$home/packages.mark"
fi
