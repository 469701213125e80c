#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# tidy_test SOURCE_DIR: the style (licence line, length of files, functions and lines) and the
# rules of who may include whom. ARCHITECTURE.md tells why; here is what is enforced.
# shellcheck source=tests/check/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$1"

mapfile -t files < <(find . \( -name .git -o -path ./build -o -name .cache -o -name __pycache__ \) \
    -prune -o -type f -print | sed 's|^\./||' | sort)
sources=() code=()
for file in "${files[@]}"; do
    case "$file" in
    *.c | *.h | *.cpp | *.hpp | *.cc) sources+=("$file"); code+=("$file") ;;
    *.cmake | *.cmake.in | *.pc.in | *CMakeLists.txt | *.sh | *.py | script/* | .ci/*)
        case "$file" in *.xml | *.md) ;; *) code+=("$file") ;; esac ;;
    esac
done
[ "${#sources[@]}" -gt 20 ] || complain "found only ${#sources[@]} sources: is this the project?"

# Style. Bytes that continue a UTF-8 character are not columns. A function's body runs from a
# brace that opens in column 0, or a line of column 0 that ends in ") {", to one that closes there.
LC_ALL=C awk -v lines=600 -v body=70 -v columns=100 '
    function done() {
        if (count > lines) print name ": " count " lines, at most " lines " are allowed"
        if (count > 0 && !spdx) print name ": does not begin with its SPDX-License-Identifier"
    }
    FNR == 1 { done(); name = FILENAME; opened = 0; spdx = 0 }
    { count = FNR; text = $0; gsub(/[\200-\277]/, "", text) }
    FNR == 1 || (FNR == 2 && shebang) { if (/^(\/\*|#|\/\/) SPDX-License-Identifier: /) spdx = 1 }
    FNR == 1 { shebang = /^#!/ }
    length(text) > columns { print FILENAME ":" FNR ": " length(text) " columns, at most " columns }
    /\t/ && FILENAME ~ /\.(c|h|cpp|hpp)$/ { print FILENAME ":" FNR ": a tab" }
    /^\{/ || /^[a-zA-Z_].*\) ?\{$/ { opened = FNR }
    /^\}/ { if (opened && FNR - opened + 1 > body)
                print FILENAME ":" opened ": a function of " FNR - opened + 1 " lines, limit " body
            opened = 0 }
    END { done() }
' "${code[@]}" >"$scratch/style"
while read -r line; do complain "$line"; done <"$scratch/style"

# Who includes whom: "file:line<TAB>form<TAB>name", form being < or ".
awk 'match($0, /^ *# *include *[<"][^>"]*[>"]/) {
         name = substr($0, RSTART, RLENGTH); sub(/^[^<"]*/, "", name)
         print FILENAME "\t" FNR "\t" substr(name, 1, 1) "\t" substr(name, 2, length(name) - 2)
     }' "${sources[@]}" >"$scratch/includes"

packers='lz4|zstd|snappy|zlib'
vendor='^(librdkafka/|hiredis/|amqp|rabbitmq-c/|ck_|toml|jansson|avro|curl/|openssl/|jemalloc/'
vendor+="|benchmark/|cmocka|liburing|$packers|microhttpd)"

# rule_broken FILE FORM NAME: prints why, or nothing
rule_broken() {
    local file=$1 form=$2 name=$3 near is_vendor=0
    near=$(dirname "$file")/$name
    [[ $form == '<' && $name =~ $vendor ]] && is_vendor=1
    [[ $name == *.c ]] && echo "a source includes no source"
    case "$file" in
    ring/* | codecs/* | bindings/* | examples/*)
        [[ $form == '"' && ($name == *../* || ! -e $near) ]] &&
            echo "this room has \"\" for its own headers only" ;;
    esac
    case "$file" in
    ring/*)
        [[ $name == salvo/* || $is_vendor = 1 ]] &&
            echo "ring/ includes nothing of the project and no library" ;;
    codecs/*)
        [[ $name == salvo/* && ! $name =~ ^salvo/(err|schema)\.h$ ]] &&
            echo "codecs/ knows the engine's error numbers and nothing else of it"
        [[ $is_vendor = 0 || $name =~ ^($packers) ||
           $file =~ ^codecs/(avro|registry) && $name =~ ^(avro\.h|jansson\.h|curl/) ]] ||
            echo "the libraries of codecs/ are those that compress, and avro-c, jansson and" \
                "libcurl for schemas" ;;
    engine/drivers/*)
        driver_rule "$file" "$form" "$name" "$is_vendor" ;;
    engine/io/*)
        [[ $form == '<' || -e $near || $name =~ ^(\.\./)?(clock|error)\.h$ ]] ||
            echo "io/ sees its own headers, clock.h and error.h"
        [[ $is_vendor = 0 || $name == liburing* || $name == openssl/* ]] ||
            echo "the libraries of io/ are liburing and OpenSSL" ;;
    engine/include/*)
        [[ $form == '<' && ($name == salvo/* || $name =~ ^std[a-z]+\.h$) ]] ||
            echo "a public header includes only <salvo/...> and the C library" ;;
    engine/*)
        [[ $name == drivers/* || $name == *codecs/* ]] &&
            echo "the engine knows drivers and codecs by their tables only"
        [[ $is_vendor = 0 || $name == ck_* || $name == toml* ||
           $file == engine/metrics_http.c && $name == microhttpd.h ]] ||
            echo "the engine's libraries are ck and toml++, and libmicrohttpd in metrics_http.c" ;;
    esac
    return 0
}

# A driver sees driver.h, driver_consumer.h, window.h, the clock, errors, the configuration's
# getters, io/, the table of codecs, its own headers (their names begin with the driver's) and its
# one library.
driver_rule() {
    local file=$1 form=$2 name=$3 is_vendor=$4 own
    own=${file##*/}
    own=${own%.*}
    own=${own%%_*}
    if [[ $form == '"' && ! $name =~ ^(io/)?(io|io_set|names|url)\.h$ && $name != compress.h &&
          ! $name =~ ^(\.\./)?(driver(_consumer)?|window|clock|error|config_(internal|keys))\.h$ &&
          $name != "$own"*.h ]]; then
        echo "a driver sees driver.h, driver_consumer.h, window.h, clock.h, error.h," \
            "config_internal.h, io.h, io_set.h, names.h, url.h, compress.h, its own headers"
    fi
    [ "$is_vendor" = 0 ] && return
    case "$own:$name" in
    kafka:librdkafka/* | redis:hiredis/* | rabbitmq:amqp* | rabbitmq:rabbitmq-c/*) ;;
    *) echo "a driver has one library, its broker's" ;;
    esac
}

while IFS=$'\t' read -r file line form name; do
    why=$(rule_broken "$file" "$form" "$name")
    [ -z "$why" ] || complain "$file:$line: includes $name: $why"
done <"$scratch/includes"
verdict
