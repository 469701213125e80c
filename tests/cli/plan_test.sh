#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# `salvo plan`: the same bytes twice, targets that cannot be met, traces and models that are bad,
# outputs that cannot be written, a core.toml that the library takes, predictions.
# shellcheck source=tests/cli/common.sh
. "$(dirname "$0")/common.sh"

# value .a.b FILE
value() {
    python3 -c 'import json, sys
v = json.load(open(sys.argv[2]))
for key in sys.argv[1].strip(".").split("."):
    v = v[key]
print(json.dumps(v))' "$1" "$2"
}

# Small rates keep this short; the search is the same.
case=(--rate 3k --size 60-140 --keys 100 --threads 4 --p99 10ms --outage 2s --recovery 4s
      --confirm 2m)
run plan "${case[@]}" --json --out one.json --toml planned.toml --page one.html
status_is 0
cp out first
run plan "${case[@]}" --json --out two.json --toml two.toml --page two.html
cmp -s first out || fail "the same seed gave other output"
cmp -s one.json two.json || fail "the same seed gave another file"
cmp -s one.html two.html || fail "the same seed gave another page"
grep -q 'A plan for Salvo' one.html || fail "no page"
cmp -s planned.toml two.toml || fail "the same seed gave another core.toml"
[ "$(value .possible one.json)" = true ] || fail "it is possible"
buffer=$(value .settings.buffer_bytes one.json)
[ "$(value .in_outage.accepted one.json)" = "$(value .in_outage.offered one.json)" ] ||
    fail "messages were refused in the outage"
[ "$(value .as_told.worst_p99_ns one.json)" -le 10000000 ] || fail "p99 is over its target"
run config --config planned.toml --changed
status_is 0
out_has "^buffer_bytes +$buffer +planned.toml"
out_has "^linger_us +$(value .settings.linger_us one.json) +planned.toml"

# More is needed for more: never less memory for a higher rate or a longer outage.
run plan "${case[@]}" --rate 30k --json --out higher.json
[ "$(value .settings.buffer_bytes higher.json)" -ge "$buffer" ] || fail "less memory for more"
run plan "${case[@]}" --rate 30k --outage 4s --recovery 8s --json --out longer.json
[ "$(value .settings.buffer_bytes longer.json)" -ge \
    "$(value .settings.buffer_bytes higher.json)" ] || fail "less memory for a longer outage"
# Each setting's cliff is where it was told: the others pinned, 1.3 times 23,077 a second.
at_edge() { # SETTING, PART: breaks_at or holds, its hundredths, STATUS
    local edge pinned=() key
    edge=$(python3 -c 'import json, sys
for edge in json.load(open("higher.json"))["setting_cliffs"]:
    if edge["setting"] == sys.argv[1]:
        print(edge[sys.argv[2]] * int(sys.argv[3]) // 100)' "$1" "$2" "$3")
    for key in linger_us batch_bytes flushers delivery_timeout_ms buffer_bytes; do
        pinned+=(-s "$key=$(value ".settings.$key" higher.json)")
    done
    run plan "${case[@]}" --rate 23077 "${pinned[@]}" -s "$1=$edge" --confirm 10s --json
    status_is "$4"
}
at_edge buffer_bytes holds 110 0
at_edge buffer_bytes breaks_at 90 1
at_edge linger_us holds 90 0
at_edge linger_us breaks_at 115 1
run plan "${case[@]}" --seed 7
status_is 0
out_has '^settings'
out_has 'buffer_bytes'
out_has 'what breaks first'
out_has '^  linger_us .*; breaks at [0-9]+: p99'
out_has '^  delivery_timeout_ms .*; breaks at [0-9]+: the delivery deadline'

run plan --rate 10k --consumer-rate 2k --confirm 10s
out_has '^  partitions .* 7; breaks at 4: the consumers'

# Targets that cannot be met: one line says which part, and by how much.
run plan --rate 3k --p99 500us
status_is 1
err_lines 1
err_has 'cannot be met: p99'
err_has 'too slow'
run plan --rate 80k --p99 10ms --broker-per-record 20us --broker-servers 1
status_is 1
err_lines 1
err_has 'cannot be met: throughput'
run plan --rate 30k --p99 100ms --broker-per-record 20us --broker-servers 1 --outage 3s \
    --recovery 1s
status_is 1
err_lines 1
err_has 'cannot be met: recovery'

# What is told stays, and is in the core.toml with all else that is set.
run plan --rate 1k -s linger_us=200 -s batch_bytes=16384 -s flushers=2 -s buffer_bytes=512000000 \
    -s delivery_timeout_ms=5000 -s kafka_acks=1 --confirm 10s --json --toml told.toml
status_is 0
for setting in linger_us=200 batch_bytes=16384 flushers=2 buffer_bytes=512000000 \
    delivery_timeout_ms=5000; do
    [ "$(value ".settings.${setting%=*}" out)" = "${setting#*=}" ] || fail "$setting was not kept"
    grep -qx "${setting%=*} = ${setting#*=}" told.toml || fail "core.toml lacks $setting"
done
grep -qx 'kafka_acks = "1"' told.toml || fail "core.toml lacks what was set"
run plan --rate 1k --config told.toml --confirm 10s --json # and a file's likewise
[ "$(value .settings.linger_us out)" = 200 ] || fail "--config is not kept"
run config --config told.toml --changed
status_is 0
run plan --rate 1k -b redis -s redis_url=redis://u:pass@h:1/0 --confirm 10s --toml -
out_has '^# redis_url: holds a secret'
grep -q '\*\*' out && fail "a masked secret is in the core.toml"
run plan --rate 3k -s linger_us=20000
status_is 1
err_lines 1
err_has 'best that this linger gives at 3900 messages a second'
run plan --rate 3k -s buffer_bytes=16777216 --outage 60s --recovery 60s
status_is 1
err_lines 1
err_has 'with buffer_bytes = 16777216 as told'
err_has 'have to wait for room or expire'
grep -q 'as told, 0 of' err && fail 'none is refused, yet it is impossible'
run plan --rate 1k -s message_broker=redis --confirm 10s --json
[ "$(value .wanted.driver out)" = '"redis"' ] || fail "the configured broker is not planned for"

# Where a linger does not hold for long, a shorter one is taken: what is less strict is possible
# too.
run plan --rate 1k --confirm 10s --p99 8246us --json
status_is 0

# The busiest moment counts: bursts that are rarer than a run is long, a peak within a trace.
run plan predict --rate 3k --burst 40x:1s/60s --broker-per-record 10us --json
[ "$(value .p99_ns out)" -gt 100000000 ] || fail "the burst is not in the prediction"
awk 'BEGIN { OFS = ","; t = 0
             print "at_ms,bytes"
             for (i = 0; i < 30000; i++) {
                 print t, 100
                 t += t >= 20000 && t < 21000 ? 0.1 : 2
             } }' >peak.csv
run record --from-csv peak.csv --out peak.salvo
burst=(--rate 20k --size 1000 --p99 100ms --outage 2s --recovery 20s --confirm 10s --json)
run plan "${burst[@]}"
calm=$(value .settings.buffer_bytes out)
run plan "${burst[@]}" --burst 4x:1s/60s
[ "$(value .settings.buffer_bytes out)" -gt $((calm * 3 / 2)) ] ||
    fail "the burst does not come with the outage"
run plan predict --trace peak.salvo --broker-per-record 200us --broker-servers 1 --json
[ "$(value .p99_ns out)" -gt 100000000 ] || fail "the trace's peak is not in the prediction"

# What would be ignored, or makes no sense, is refused.
refused() { # WORDS-IN-THE-ANSWER ARGUMENT...
    local words=$1
    shift
    run plan "$@"
    status_is 2
    err_lines 1
    err_has "$words"
}
refused 'the broker model says kafka' --rate 1k -b kafka -s message_broker=redis
refused 'max_message_bytes is 1000000' predict --rate 10 --size 2M
refused 'predict seeks nothing' predict --rate 10 --p99 1ms
refused 'zipf needs --keys' --rate 1k --zipf
refused 'recovery is from an outage' --rate 1k --recovery 1s
refused '9 brokers of 1' --rate 1k --outage 1s/9
refused '0ms is not from' --rate 1k --p99 0ms
refused 'redis has none' --rate 1k -b redis --consumer-rate 100
refused 'consumer-rate decides the partitions' --rate 1k --consumer-rate 100 --partitions 3
refused 'partitions: redis has none' --rate 1k -b redis --partitions 3
refused 'a trace has its own' --trace peak.salvo --size 10
run plan --rate 20k --consumer-rate 1
status_is 1
err_lines 1
err_has 'need 26000 of each topic'

# Rare pauses that short windows do not meet: the hour does.
cat >pauses.json <<'JSON'
{"format": "salvo-broker-model", "version": 1, "driver": "redis", "window": 64, "servers": 1,
 "service": {"base_ns": 200000}, "stalls": {"per_hour": 3, "duration_ns": [2000000000, 2000000001]}}
JSON
run plan --rate 300 --p99 50ms --confirm 1h --broker-model pauses.json
status_is 1
err_lines 1
err_has 'cannot be met: p99: over 3600 s'

# Nor do they meet the room that senders lack: it is sized for the hour, and by other seeds.
sed 's/"per_hour": 3/"per_hour": 12/; s/2000000000, 2000000001/4000000000, 4000000001/' \
    pauses.json >waits.json
waits=(--rate 3k --size 10000 --p99 9s --broker-model waits.json --confirm 20m --json)
for policy in block fail; do
    run plan "${waits[@]}" -s full_policy=$policy
    status_is 0
    [ "$(value .settings.buffer_bytes out)" -gt 100000000 ] || fail "$policy: 4 s do not fit"
    [ "$(value .as_told.blocked out)" = 0 ] || fail "senders wait within the hour"
    [ "$(value .as_told.accepted out)" = "$(value .as_told.offered out)" ] ||
        fail "some are refused"
done
run plan "${waits[@]}" -s buffer_bytes=33554432
status_is 1
err_has 'cannot be met: room: over 1200 s '
err_has ' messages are refused, have to wait for room or expire'
grep -q 'over 1200 s 0 of' err && fail 'none is refused, yet it is impossible'
sed 's/"per_hour": 3/"per_hour": 120/; s/2000000000, 2000000001/8000000000, 8000000001/' \
    pauses.json >long.json
run plan --rate 3k --p99 20s --broker-model long.json --confirm 10s
status_is 1
err_has 'cannot be met: throughput: with other random numbers '
err_has '; 3900 are asked for, '
run plan --rate 5k --size 1000 --burst 100x:5ms/1s --p99 50ms -s ring_bytes=65536 \
    -s full_policy=fail -s max_message_bytes=2000
status_is 1
err_has 'cannot be met: room: with any linger'

# Outputs that cannot be written are met before the search.
run plan "${case[@]}" --out /nonexistent/plan.json
status_is 1
err_lines 1
err_has '/nonexistent/plan.json: cannot write'

# Models
cat >model.json <<'JSON'
{"format": "salvo-broker-model", "version": 1, "driver": "redis", "window": 64, "servers": 1,
 "name": "a test's", "measured": {"bytes": [100, 1000]},
 "service": {"base_ns": 200000, "per_byte_ps": 1000, "per_record_ps": 1000000,
             "residual_ns": [-10000, 0, 50000]},
 "client": {"cores": 2, "flusher": {"round_ns": 1500, "record_ps": 90000},
            "overshoot_ns": [1000, 60000]}}
JSON
run plan predict --rate 50k --broker-model model.json -s linger_us=2000 --json --out p.json
status_is 0
limit=$(value .limit_per_s p.json) # a request of 1 us a record and 0.1 us for its bytes
{ [ "$limit" -gt 700000 ] && [ "$limit" -lt 910000 ]; } || fail "the limit is $limit"
p50=$(value .p50_ns p.json)
{ [ "$p50" -gt 1000000 ] && [ "$p50" -lt 4000000 ]; } || fail "p50 is $p50"
out_has '"format": "salvo-prediction"'
for often in '"per_tib": 10000000' '"per_busy_hour": 12000'; do # of 50 ms, each second or third
    sed "s/\"window\"/\"pauses\": {$often, \"duration_ns\": [50000000, 50000001]}, &/" model.json \
        >paused.json
    run plan predict --rate 50k --broker-model paused.json -s linger_us=2000 --json --out q.json
    status_is 0
    p99=$(value .p99_ns q.json)
    [ "$p99" -gt 30000000 ] || fail "p99 is $p99 with pauses of 50 ms, $often"
done
with_pace() { sed "s/\"window\"/\"pace\": {$1}, &/" model.json >"$2"; }
with_pace '"slice_ns": 50000000, "permille": [2000]' slow.json
run plan predict --rate 50k --broker-model slow.json -s linger_us=2000 --json --out slow
slow=$(value .limit_per_s slow)
{ [ "$slow" -gt $((limit * 45 / 100)) ] && [ "$slow" -lt $((limit * 60 / 100)) ]; } ||
    fail "a broker of half the pace has a limit of $slow instead of $limit"
for permille in 19 123; do # of the processors, while the broker was probed
    sed "s/\"window\"/\"steal_permille\": $permille, &/" model.json >stolen.json
    run plan predict --rate 50k --broker-model stolen.json -s linger_us=2000
    status_is 0
    if [ $permille -gt 20 ]; then
        out_has 'lost 12 % of its processors'
    else
        grep -q 'its processors' out && fail "2 % are not worth a word"
    fi
done
sed 's/"bytes": \[100, 1000\]/"bytes": [100, 200], "records": [1, 2], "in_flight": [1, 1]/
     s/"base_ns": 200000/"base_ns": 5000000/; s/"servers": 1/"servers": 8/
     s/"window"/"limit": {"reached": false, "bytes_per_s": 9}, "settings": {}, &/' model.json \
    >narrow.json
run plan predict --rate 50k --broker-model narrow.json -s linger_us=2000 \
    -s payload_compression=zstd
out_has 'requests hold [0-9]* B on average, the probe measured up to 200 B'
out_has 'messages on average, the probe measured up to 2$'
out_has 'went to 9 and met no limit'
out_has 'requests in flight at a time, the probe measured up to 1$'
out_has 'probed with other settings .payload_compression = none.'
run plan --rate 20k --broker-model narrow.json --outage 1s --recovery 20s --p99 100ms --confirm 10s
status_is 0
out_has 'after the outage requests hold up to [0-9]* B, the probe measured up to 200 B'
out_has 'after the outage requests hold up to [0-9]* messages, the probe measured up to 2$'
run plan predict --rate 5k -s kafka_compression_type=zstd
out_has 'kafka_compression_type = zstd has no part in this'
run plan predict --rate 5k -b redis -s kafka_compression_type=zstd
status_is 0
grep -q 'has no part' out && fail "Kafka's compression is told of Redis"
run plan predict --rate 50k --broker-model narrow.json -s linger_us=2000 --json
out_has '"notes": \['
sed 's/"name": "a test.s", //' model.json >nameless.json
run plan predict --rate 50k --broker-model nameless.json --json
grep -q nameless out && fail "a path is in the result"
bad_pace() { # KEY PACE
    with_pace "$2" bad.json
    run plan predict --rate 1k --broker-model bad.json
    status_is 1
    err_lines 1
    err_has "broker model: \`$1\`"
}
bad_pace permille '"slice_ns": 50000000, "permille": [1000, 9]'
bad_pace permille '"slice_ns": 50000000'
bad_pace slice_ns '"permille": [1000]'
bad_pace slice_ns '"slice_ns": 50, "permille": [1000]'
sed 's/"window": 64, //' model.json >bad.json
run plan predict --rate 1k --broker-model bad.json
status_is 1
err_lines 1
err_has "\`window\` is missing"
sed 's/-10000, 0/0, -10000/' model.json >bad.json
run plan predict --rate 1k --broker-model bad.json
status_is 1
err_has 'residual_ns'
echo '{"format": "salvo-result", "version": 1}' >bad.json
run plan predict --rate 1k --broker-model bad.json
err_has 'salvo-broker-model'
run plan predict --rate 1k --broker-model missing.json
status_is 1
err_lines 1

# Traces
awk 'BEGIN { OFS = ","; print "at_ms,bytes,key,topic"
             for (i = 0; i < 20000; i++) print i / 4, 50 + i % 100, "k" i % 7, "t" i % 3
     }' >trace.csv
run record --from-csv trace.csv --out trace.salvo
run plan predict --trace trace.salvo --json
status_is 0
out_has '"rate_per_s": 4000,'
run plan predict --trace trace.salvo --scale 1.5 --json
out_has '"rate_per_s": 6000,'
python3 - <<'PY'
import gzip, struct
def header(more=""):
    head = '{"format": "salvo-trace", "version": 1, "topics": ["a", "b"]%s}' % more
    return head.ljust(4095).encode() + b"\n"
def records(fate):
    return b"".join(struct.pack("<QIIHHI", i * 500000, 100, i % 9, i % 2, 8,
                                fate if i % 4 == 3 else 0) for i in range(4000))
head, body = header(), records(0)
gzip.open("t.gz", "wb").write(head + body)
open("sampled", "wb").write(header(', "one_of": 2') + body)
open("lossy", "wb").write(header(', "lost": 1000') + body)
open("throttled", "wb").write(head + records(0xffffffff))
open("cut", "wb").write(head + body[:-5])
open("topic", "wb").write(head + struct.pack("<QIIHHI", 0, 100, 0, 2, 8, 0))
open("order", "wb").write(head + body[24:48] + body[:24])
open("gzcut", "wb").write(gzip.compress(head + body)[:-50])
PY
run plan predict --trace t.gz --json
status_is 0
out_has '"rate_per_s": 2000,'
[ ! -s err ] || fail 'a whole trace is complained of'
run plan predict --trace lossy --json
status_is 0
err_has '1000 messages more came too fast to be recorded: add --scale 1.25'
run plan predict --trace throttled --json
status_is 0
err_has '1000 of 4000 messages were refused or had to wait'
run plan predict --trace sampled
status_is 1
err_lines 1
err_has 'one of 2 messages'
for bad in cut topic order gzcut; do
    run plan predict --trace $bad
    status_is 1
    err_lines 1
    err_has "$bad: "
done
run plan predict --trace trace.csv
status_is 1
err_lines 1
err_has 'trace.csv: not a trace'

# The command line
run plan
status_is 2
err_lines 1
run plan --rate fast
status_is 2
err_has 'not a number such as'
run plan --rate 1k --outage 10s:sulk
status_is 2
err_has 'black-hole'
run plan --traffic rate=1k,color=red
status_is 2
err_has 'color'
run plan --traffic rate=3k,size=100,keys=10,zipf,burst=2x:1s/10s --p99 20ms --json
status_is 0
run plan --help
out_has 'salvo plan predict'
verdict
