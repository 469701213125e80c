#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# java.sh FOLDER: compiles the peers that are written in Java into FOLDER/NAME, each with Play.java,
# and prints the class path of Play.java alone. Needs a Java runtime, Kafka's jars as script/broker
# fetches them, and from Debian libecj-java (the compiler, 2 MB; no JDK) and libhdrhistogram-java.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ecj=/usr/share/java/ecj.jar hdr=/usr/share/java/hdrhistogram.jar
fail() {
    echo "$*" >&2
    exit 1
}
command -v java >/dev/null || fail "no java on PATH (Debian: openjdk-17-jre-headless)"
[ -e "$ecj" ] || fail "no $ecj (Debian: libecj-java)"
[ -e "$hdr" ] || fail "no $hdr (Debian: libhdrhistogram-java)"
jars=$("$here/../../script/broker" kafka classpath)
path=$hdr
for jar in "${jars%/\*}"/*.jar; do path+=:$jar; done

compile() { # FOLDER SOURCE...
    java -cp "$ecj" org.eclipse.jdt.internal.compiler.batch.Main -11 -proc:none -cp "$path" \
        -d "$@" >&2
}
mkdir -p "$1"
compile "$1/play" "$here/Play.java"
for source in "$here"/*_*.java; do
    name=$(basename "$source" .java)
    compile "$1/$name" "$here/Play.java" "$source"
done
echo "$1/play:$path"
