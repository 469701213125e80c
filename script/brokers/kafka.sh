# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2034,SC2154 # script/broker's variables
#
# What script/broker knows of Kafka: one node (KRaft) from jars pinned in script/kafka/pom.xml,
# which Maven fetches once. Sourced by script/broker, whose variables and functions it uses.

readonly kafka_version=3.9.1
readonly kafka_cache="${XDG_CACHE_HOME:-$HOME/.cache}/salvo/kafka-$kafka_version"

kafka_need_java() {
    command -v java >/dev/null ||
        die "no java on PATH; install it: sudo apt-get install openjdk-17-jre-headless"
    local line major
    line=$(java -version 2>&1 | grep -m1 ' version ') || line=unknown
    major=$(sed -n 's/^[^"]*"\([0-9]*\).*/\1/p' <<<"$line")
    [[ ${major:-0} -ge 17 ]] ||
        die "Kafka $kafka_version needs Java 17 or later, PATH has '$line';" \
            "install it: sudo apt-get install openjdk-17-jre-headless"
}

kafka_jars_complete() {
    cmp -s "$here/kafka/pom.xml" "$kafka_cache/pom.xml" || return 1
    local jar
    while read -r jar; do
        [[ -s "$kafka_cache/libs/$jar" ]] || return 1
    done <"$kafka_cache/jars.txt"
}

# Copies the jars into the cache: into a folder beside it, then one rename, under a lock, so that
# nobody ever sees half of them.
kafka_need_jars() {
    kafka_jars_complete 2>/dev/null && return
    command -v mvn >/dev/null ||
        die "no mvn on PATH to fetch Kafka $kafka_version; install it: sudo apt-get install maven"
    mkdir -p "$(dirname "$kafka_cache")"
    (
        flock 8
        kafka_jars_complete 2>/dev/null && exit 0
        say "fetching Apache Kafka $kafka_version (once, 60 MB) into $kafka_cache"
        part=$(mktemp -d "$kafka_cache.part.XXXXXX")
        trap 'rm -rf "$part"' EXIT
        mvn -q -B -f "$here/kafka/pom.xml" dependency:copy-dependencies \
            -DoutputDirectory="$part/libs" >"$part/mvn.log" 2>&1 || {
            grep -m3 ERROR "$part/mvn.log" >&2 || cat "$part/mvn.log" >&2
            die "Maven could not fetch Kafka $kafka_version; check the" \
                "network and ~/.m2/settings.xml, then run this again"
        }
        (cd "$part/libs" && ls) >"$part/jars.txt"
        cp "$here/kafka/pom.xml" "$part/pom.xml"
        chmod 755 "$part"
        rm -rf "$kafka_cache"
        mv "$part" "$kafka_cache"
    ) 8>"$kafka_cache.lock"
}


kafka_classpath() {
    kafka_need_jars
    printf '%s\n' "$kafka_cache/libs/*"
}

broker_need() {
    title="Kafka $kafka_version"
    ports_needed=2
    kafka_need_java
    kafka_need_jars
}

broker_check_property() {
    [[ $1 =~ ^[a-z0-9.]+= && $1 != *$'\n'* ]] ||
        die "--set '$1': KEY=VALUE is allowed, e.g. message.max.bytes=2000000"
}

broker_address() { printf '127.0.0.1:%s\n' "$port"; }

broker_configure() { # PORT CONTROLLER_PORT
    [[ $data != *[$'\n|&\\']* ]] || die "--dir $data: Kafka's properties cannot hold | & or \\"
    sed -e "s|@PORT@|$1|g" -e "s|@CONTROLLER_PORT@|$2|g" -e "s|@DATA@|$data|g" \
        -e "s|@AUTO_CREATE@|$auto_create|g" "$here/kafka/server.properties" \
        >"$data/server.properties"
    ((${#properties[@]} == 0)) ||
        printf '%s\n' "${properties[@]}" >>"$data/server.properties"
    [[ -d $data/logs ]] || kafka_format
}

kafka_format() {
    local id
    id=$(head -c 16 /dev/urandom | base64 | tr '+/' 'Aa' | tr -d '=')
    java -Xmx128m -XX:TieredStopAtLevel=1 -cp "$kafka_cache/libs/*" \
        kafka.tools.StorageTool format -t "$id" -c "$data/server.properties" \
        >"$data/format.log" 2>&1 && return
    grep -m3 -iE 'exception|invalid|error' "$data/format.log" >&2 || cat "$data/format.log" >&2
    die "Kafka refused its configuration (above); check --set and --dir"
}

broker_launch() {
    local heap
    read -r -a heap <<<"${KAFKA_HEAP_OPTS:--Xms256m -Xmx512m}"
    spawn java "${heap[@]}" -XX:+ExitOnOutOfMemoryError \
        "-Dlog4j.configuration=file:$here/kafka/log4j.properties" \
        -cp "$kafka_cache/libs/*" kafka.Kafka "$data/server.properties"
}

broker_ready() { grep -q 'Kafka Server started' "$data/server.log" && connects "$port"; }

broker_lost_port() { grep -q 'Address already in use' "$data/server.log"; }

broker_explain() {
    grep -m3 -E 'ERROR|FATAL|Exception|Address already in use' "$data/server.log" ||
        tail -n 5 "$data/server.log"
}

broker_run() { # CLASS [argument ...]
    (($#)) || die "run needs a class, e.g. org.apache.kafka.tools.TopicCommand"
    broker_need
    exec java -Xmx256m -XX:TieredStopAtLevel=1 \
        "-Dlog4j.configuration=file:$here/kafka/log4j.properties" \
        -cp "$kafka_cache/libs/*" "$@"
}
