#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# peers_test SALVO C_PEERS: the same schedule file is the same load in C, Python and Java:
# times, sizes, keys and payload bytes of the first 1,000 messages. What is not one is refused. A
# language whose runtime is missing is left out and named.
set -euo pipefail
salvo=$1 peers=$2
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"

schedule() { # FILE ARGUMENT...
    "$salvo" bench --write-schedule "$@" --rate 1000 --warmup 500ms --duration 2s --quiet
}
schedule plain
schedule mixed --size 1-3000 --keys 500:zipf --payload ratio:3 --seed 7 --arrivals poisson
schedule huge --size 0:500,8:498,1000000:2 --payload ratio:2.5 --seed 3
schedule text --payload text
head -c 5000 plain >short
{ head -c 4096 plain; tail -c 1600 plain; head -c $((2500 * 16 - 1600)) /dev/zero; } >backwards

players=("$peers/kafka_librdkafka")
if command -v python3 >/dev/null; then
    players+=("python3 $here/play.py")
else
    echo "Python is left out: no python3"
fi
if classes=$("$here/java.sh" "$scratch/classes" 2>why); then
    players+=("java -cp $classes Play")
else
    echo "Java is left out: $(tail -n 1 why)"
fi
for player in "${players[@]}"; do
    for file in plain mixed huge; do
        # shellcheck disable=SC2086 # a command and its arguments
        sum=$($player --check $file) || { echo "$player does not play '$file'"; exit 1; }
        echo "$file $sum"
    done >sums
    [ -e first ] || cp sums first
    cmp first sums || { echo "$player plays something else"; cat first sums; exit 1; }
    for file in text short backwards; do
        # shellcheck disable=SC2086
        if $player --check $file 2>err; then echo "$player plays '$file'"; exit 1; fi
        [ "$(wc -l <err)" -eq 1 ] || { echo "$player: not one line:"; cat err; exit 1; }
    done
done
[ "$(grep -c ' 1000$' first)" -eq 3 ] || { echo "not 1,000 messages each"; exit 1; }
# What became known in each second is all that became known. The Python player without a client.
see_seconds() { # SUMMARY: 500 messages of warm-up and 2,000 in two seconds
    python3 - "$1" <<'PY'
import json, sys
s = json.load(open(sys.argv[1]))
assert s["offered"] == s["accepted"] == s["acknowledged"] == 2000, s["acknowledged"]
assert len(s["over_time"]) == 2
for name in ("offered", "accepted", "acknowledged", "failed"):
    assert sum(second[name] for second in s["over_time"]) == s[name], name
assert all(900 <= second["acknowledged"] <= 1100 for second in s["over_time"]), s["over_time"]
PY
}
if command -v python3 >/dev/null; then
    cat >peer.py <<'PY'
import sys
sys.path.insert(0, sys.argv.pop(1))
import play, time
play.encode = lambda values: str(len(values))
player = play.Player("none", "0")
def send(at_ns, value, key):
    player.settled(at_ns, True)
    return True
play.play(player, send, time.sleep, lambda _: None)
PY
    echo | python3 peer.py "$here" plain summary >/dev/null
    see_seconds summary
    if [ -n "${SALVO_TEST_REDIS:-}" ] && [ -x "$peers/redis_hiredis" ]; then
        echo | "$peers/redis_hiredis" plain summary address="$SALVO_TEST_REDIS" \
            topic=salvo-peers-test window=64 >/dev/null
        see_seconds summary
    fi
fi
cat first
echo "${#players[@]} players agree"
