#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# package_test SOURCE_DIR BINARY_DIR: installs into a prefix of its own, then builds and runs
# outside programs against it: C11 by pkg-config (shared and static), C++17 by the CMake package
# (shared and static). A wrong version is refused; no path of the source tree is left behind.
# shellcheck source=tests/check/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
source_dir=$1 binary_dir=$2
user=$source_dir/tests/check/package
cmake=${CMAKE:-cmake}

"$cmake" --install "$binary_dir" --prefix "$scratch/first" >/dev/null
mv "$scratch/first" "$scratch/prefix" # an installation may be moved
prefix=$scratch/prefix
pc=$(find "$prefix" -name salvo.pc)
[ -n "$pc" ] || { complain "salvo.pc was not installed"; verdict; }
libdir=$(cd "$(dirname "$pc")/.." && pwd)
export PKG_CONFIG_PATH=$libdir/pkgconfig LD_LIBRARY_PATH=$libdir

runs() {
    local said
    said=$("$1" 2>&1) || complain "$1 ended with status $?: $said"
    [ "$said" = "1 acknowledged" ] || complain "$1 said: $said"
}

flags=(-std=c11 -Wall -Wextra -Werror)
# pkg-config's words are meant to be split.
# shellcheck disable=SC2046
"${CC:-cc}" "${flags[@]}" "$user/one.c" -o "$scratch/one_shared" $(pkg-config --cflags --libs salvo)
runs "$scratch/one_shared"
# shellcheck disable=SC2046
"${CC:-cc}" "${flags[@]}" "$user/one.c" -o "$scratch/one_static" $(pkg-config --cflags salvo) \
    $(pkg-config --libs --static salvo | sed 's/-lsalvo/-l:libsalvo.a/')
runs "$scratch/one_static"
! ldd "$scratch/one_static" | grep -q libsalvo || complain "the static program needs libsalvo.so"

# All that the archive needs is named: a program that takes every object of it links too.
# shellcheck disable=SC2046
"${CC:-cc}" "${flags[@]}" "$user/one.c" -o "$scratch/one_whole" $(pkg-config --cflags salvo) \
    $(pkg-config --libs --static salvo |
        sed 's/-lsalvo/-Wl,--whole-archive -l:libsalvo.a -Wl,--no-whole-archive/')
runs "$scratch/one_whole"

version=$(pkg-config --modversion salvo)
configure() { # FOLDER [VERSION]
    "$cmake" -G Ninja -S "$user" -B "$scratch/$1" -DCMAKE_PREFIX_PATH="$prefix" \
        -DWANTED_VERSION="${2-$1}" >"$scratch/log" 2>&1
}
if configure "$version" && "$cmake" --build "$scratch/$version" >"$scratch/log" 2>&1; then
    runs "$scratch/$version/one_shared"
    runs "$scratch/$version/one_static"
else
    complain "the CMake package: $(tail -n 30 "$scratch/log")"
fi
# Where something is missing, the package says what.
PKG_CONFIG_LIBDIR=/nowhere PKG_CONFIG_PATH='' configure lacking "$version" &&
    complain "the CMake package found the static library's needs where there are none"
tr '\n' ' ' <"$scratch/log" | grep -q 'librdkafka.*liburing.*libzstd' ||
    complain "the CMake package does not say what is missing: $(tail -n 5 "$scratch/log")"
! configure 99.0 || complain "the CMake package claims to be version 99.0"

while read -r path; do
    complain "names the source tree: $path"
done < <(grep -rlF "$source_dir" "$prefix" --include='*.pc' --include='*.cmake' --include='*.h')
verdict
