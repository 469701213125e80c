#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# shellcheck disable=SC2016 # the backticks are the messages' own
# salvo bench: the account of a run, what a stall looks like, files that it writes and plays,
# bounds, merging, comparing; usage. With a server in SALVO_TEST_KAFKA, SALVO_TEST_REDIS or
# SALVO_TEST_RABBITMQ also that a run's topics are gone afterwards.
# shellcheck source=tests/cli/common.sh
. "$(dirname "$0")/common.sh"

# number FILE PATH: a member of a JSON file, e.g. columns.call.count; "None" for null
number() {
    python3 - "$1" "$2" <<'PY'
import functools, json, sys
print(functools.reduce(lambda o, k: o[k], sys.argv[2].split('.'), json.load(open(sys.argv[1]))))
PY
}
is() { [ "$(number "$1" "$2")" = "$3" ] || fail "$2 is $(number "$1" "$2") instead of $3"; }
bench() { run bench --quiet --broker memory "$@"; }

# --- the account -----------------------------------------------------------------------------
bench --rate 2k --duration 3s --warmup 500ms --threads 2 --topics 2 --consume --keys 100:zipf \
    --out a.json --hdr a.hlog
status_is 0
out_has '2,000 messages/s offered'
out_has '^acknowledged '
for column in call accepted acknowledged consumed; do
    is a.json "columns.$column.count" 6000
    is a.json "columns.$column.infinite" 0
done
is a.json ledger.offered 7000
is a.json ledger.acknowledged 7000
is a.json load.topics 2
grep -q '^#\[Histogram log format version 1.3\]' a.hlog || fail "no HdrHistogram log"
[ "$(grep -c '^Tag=acknowledged,' a.hlog)" -ge 2 ] || fail "no interval a second"
# Other people's reader: HdrHistogram's own log processor (Debian's libhdrhistogram-java).
reader=/usr/share/java/hdrhistogram.jar
if [ -e "$reader" ] && command -v java >/dev/null; then
    for column in call accepted acknowledged consumed; do
        java -cp "$reader" org.HdrHistogram.HistogramLogProcessor -i a.hlog -tag "$column" \
            -outputValueUnitRatio 1 >hlog.read 2>err || fail "the log of $column is not read"
        python3 - "$column" <<'PY' || fail "another reader has other values for $column"
import json, re, sys
column, text = json.load(open('a.json'))['columns'][sys.argv[1]], open('hlog.read').read()
# the table of all: value, percentile, count so far, 1/(1-percentile)
rows = [line.split() for line in text[text.rindex('Percentile TotalCount'):].splitlines()
        if re.match(r'\s*[0-9]+\.[0-9]+\s+[01]\.', line)]
assert int(re.findall(r'Total count\s+=\s+(\d+)', text)[-1]) == column['count'], 'count'
for percentile, key in ((0.5, 'p50_ns'), (0.99, 'p99_ns'), (1.0, 'max_ns')):
    value = next(float(row[0]) for row in rows if float(row[1]) >= percentile)
    assert value >= column[key] * 0.99, (key, value, column[key])
    below = max([float(row[0]) for row in rows if float(row[1]) <= percentile])
    assert below <= column[key] * 1.01, (key, below, column[key])
PY
    done
else
    echo "HdrHistogram's log processor is not here: not asked"
fi

# --- refused and failed messages are infinite ------------------------------------------------
bench --rate 1k --duration 1s --warmup 0 --out r.json -s memory_script='ok;reject*1000000' \
    --fail-if 'p50>1m' --fail-if 'accepted.p50>1m'
status_is 2
bench --rate 1k --duration 1s --warmup 0 --out r.json -s memory_script='ok;reject*1000000' \
    --fail-if 'p50>10s' --fail-if 'call.p50>10s'
status_is 1
err_has '--fail-if p50>10s: it is never'
is r.json columns.acknowledged.infinite 1000
is r.json columns.acknowledged.p50_ns None
is r.json columns.accepted.infinite 0
grep -q 'call.p50>10s: it is' err && fail "the call is not slow"

# --- a server that stalls: messages that were due meanwhile show it ----------------------------
small=(--rate 2k --size 15000 --warmup 0 -s full_policy=block -s ring_bytes=131072
       -s buffer_bytes=$((8388608 + $(nproc) * 262144)) -s max_message_bytes=16384
       -s max_in_flight_batches=4 -s batch_messages=4)
bench "${small[@]}" --duration 6s --out s.json -s memory_script='ok*500;down:1s' \
    --fail-if 'accepted.p99.9>300ms' --fail-if 'acknowledged.p99.9>500ms'
status_is 1
err_has '--fail-if accepted.p99.9>300ms: it is'
err_has '--fail-if acknowledged.p99.9>500ms: it is'
is s.json columns.acknowledged.infinite 0

# --- a server that is gone for good: the run ends all the same, and what was due counts ----------
lost=(bench --quiet --broker memory "${small[@]}" -s memory_script='ok*20;down:3600s')
run "${lost[@]}" --duration 3s --drain 1 --out g.json
status_is 0
err_has 'because sends before them were blocked'
sent=$(($(number g.json ledger.accepted) + $(number g.json ledger.refused_other)))
is g.json ledger.offered "$sent"
is g.json columns.call.count 6000
is g.json valid True
[ "$sent" -ge 6000 ] || fail "of 6,000 messages $sent are in the ledger"
"$program" "${lost[@]}" --duration 60s >out 2>err &
pid=$!
sleep 3 # its buffer is full
kill -TERM "$pid"
status=0
wait "$pid" || status=$?
status_is 130

# Sent, and never answered: a signal ends the wait for outcomes, too.
"$program" bench --quiet --broker memory --rate 100 --duration 1s --warmup 0 \
    -s memory_script='ok*2;down:3600s' >out 2>err &
pid=$!
sleep 2.5
kill -TERM "$pid"
status=0
wait "$pid" || status=$?
status_is 130

# The second topic's first message is never answered: a signal ends that wait, too.
"$program" bench --quiet --broker memory --topics 2 --rate 100 --duration 1s --warmup 0 \
    -s memory_script='ok*1;down:3600s' >out 2>err &
pid=$!
sleep 1.5
kill -TERM "$pid"
begun=$SECONDS status=0
wait "$pid" || status=$?
status_is 130
[ $((SECONDS - begun)) -lt 15 ] || fail "it went on for $((SECONDS - begun)) s after the signal"
err_has 'a first message did not arrive'

# --- a generator that is too slow: that is no word about the system ------------------------------
run bench --quiet --broker null --rate 50M --duration 500ms --warmup 0 --drain 0 --out n.json
status_is 0
err_has 'because the generator cannot make so many'
is n.json valid False

# --- schedule files ----------------------------------------------------------------------------
run bench --rate 500:1s,2k:1s --arrivals poisson --size 50-500 --duration 2s --warmup 0 \
    --payload text --write-schedule x.schedule
status_is 0
run bench --rate 500:1s,2k:1s --arrivals poisson --size 50-500 --duration 2s --warmup 0 \
    --payload text --write-schedule y.schedule
cmp -s x.schedule y.schedule || fail "the same load gives another schedule"
bench --schedule x.schedule --out p.json
status_is 0
messages=$((($(stat -c %s x.schedule) - 4096) / 16))
is p.json columns.acknowledged.count "$messages"
is p.json load.size 50-500
bench --schedule x.schedule --rate 5
status_is 2
err_has '--schedule: the file says'
head -c 5000 x.schedule >cut.schedule
bench --schedule cut.schedule
status_is 1
err_has 'messages are promised'
bench --schedule /dev/null
status_is 1
err_has 'not a schedule file'

# --- traces --------------------------------------------------------------------------------------
python3 - <<'PY'
import gzip, json, struct
header = json.dumps({'format': 'salvo-trace', 'version': 1, 'topics': ['a'], 'records': 0})
records = [struct.pack('<QIIHHI', i * 1000000, 10 + i % 90, i % 7, 0, 0, 0) for i in range(2000)]
trace = (header.ljust(4095) + '\n').encode() + b''.join(records)
gzip.open('t.trace', 'wb').write(trace)
open('plain.trace', 'wb').write(trace)
open('cut.trace', 'wb').write(open('t.trace', 'rb').read()[:1000])
open('back.trace', 'wb').write(trace + records[3])
three = trace[:4096].replace(b'["a"]', b'["a", "b", "c"]').rstrip().ljust(4095) + b'\n'
for i in range(2000): # 14 of 20 for the first, 5 for the second
    topic = 0 if i % 20 < 14 else 1 if i % 20 < 19 else 2
    three += struct.pack('<QIIHHI', i * 1000000, 50, 0, topic, 0, 0)
open('three.trace', 'wb').write(three)
lossy = trace[:4096].replace(b'"records"', b'"one_of": 4, "lost": 7, "truncated": true, "records"')
open('lossy.trace', 'wb').write(lossy.rstrip().ljust(4095) + b'\n' + trace[4096:4096 + 24 * 100])
for count in 1, 10:
    open(f'moment-{count}.trace', 'wb').write(trace[:4096] + records[0] * count)
PY
bench --trace t.trace --scale 2 --warmup 200ms --out t.json
status_is 0
is t.json columns.acknowledged.count 1600
is t.json ledger.offered 2000
bench --trace plain.trace --duration 500ms --out t.json
status_is 0
is t.json columns.acknowledged.count 500
for wrong in cut:'it is cut or damaged' back:'times go backwards'; do
    bench --trace "${wrong%%:*}.trace"
    status_is 1
    err_lines 1
    err_has "${wrong#*:}"
done
bench --trace three.trace --scale 4 --out t.json
status_is 0
is t.json load.topics 3
bench --trace three.trace --scale 4 --topics 2 --out t.json
is t.json load.topics 2
bench --trace a.json
status_is 1
err_has 'not a trace'
bench --trace lossy.trace --out t.json
status_is 0
err_lines 1
err_has 'it holds one of 4 messages; 7 messages were lost when it was recorded; its size cap ended'
is t.json load.trace_one_of 4
is t.json load.trace_lost 7
is t.json load.trace_truncated True
for count in 1 10; do # at one moment: that many in a second, not in a microsecond
    bench --trace "moment-$count.trace" --out t.json
    status_is 0
    is t.json offered_per_s "$count.0"
done

# --- scenario, merge, compare --------------------------------------------------------------------
printf '# a test\nrate = 1k\nduration=1s\nwarmup = 0\nset = linger_us=100\nname = from a file\n' >f
at=$(($(date +%s) + 2))
"$program" bench --quiet --broker memory --scenario f --seed 2 --start-at "$at" --out c.json \
    >/dev/null 2>&1 &
bench --scenario f --rate 300 --start-at "$at" --out b.json
status_is 0
wait "$!" || fail "the process beside it failed"
is b.json columns.call.count 300
is b.json name 'from a file'
is b.json settings.linger_us 100
printf 'rote = 1k\n' >bad
bench --scenario bad
status_is 2
err_has 'did you mean'
printf 'rate = 1k\nscenario = f\n' >bad
bench --scenario bad
status_is 2
err_lines 1
err_has 'bad: `scenario` is no line of such a file'
for _ in $(seq 1001); do echo 'seed = 1'; done >bad
bench --scenario bad
status_is 2
err_has 'bad: more than 1000 options'
run bench merge --out m.json b.json c.json
status_is 0
is m.json columns.acknowledged.count 1300
is m.json processes 2
is m.json ledger.offered 1300
python3 - <<'PY'
import json
def write(name, **changes):
    result = json.load(open('c.json'))
    result['runs'] = [name]
    for path, value in changes.items():
        *parts, last = path.split('__')
        at = result
        for part in parts:
            at = at[part]
        at[last] = value
    json.dump(result, open(name + '.json', 'w'))
write('broker', broker='kafka')
write('size', load__size='200')
write('setting', settings__linger_us='7')
write('more', settings__batch_bytes='70000')
write('long', duration_s=2.0)
write('late', started_at='2030-01-31T12:00:00Z')
PY
for wrong in broker:'broker is "memory" in b.json and "kafka" in broker.json' \
    size:'load.size is "100" in b.json and "200" in size.json' \
    setting:'settings.linger_us is "100" in b.json and "7" in setting.json' \
    more:'settings.batch_bytes is not set in b.json and "70000" in more.json' \
    long:'duration_s is 1.0 in b.json and 2.0 in long.json' late:'s apart, and last 1 s' \
    b:'b.json and b.json are the same run' m:'b.json and m.json are the same run'; do
    run bench merge --out w.json b.json "${wrong%%:*}.json"
    status_is 1
    out_empty
    err_lines 1
    err_has "${wrong#*:}"
done
[ ! -e w.json ] || fail "a merged result was written"
run bench compare a.json a.json
status_is 0
out_has '^acknowledged p99 .* to '
run bench compare c.json,c.json,c.json c.json,c.json,c.json
out_has 'acknowledged p99 .* 1.000 +1.000 to 1.000  no difference shown'
run bench compare a.json x.schedule
status_is 1

# --- nothing measured: that is no result ---------------------------------------------------------
bench --rate 1 --warmup 500ms --duration 100ms --out zero.json
status_is 0
out_has '^INVALID: no message was due in the measured part'
is zero.json valid False
for pair in 'zero.json a.json' 'a.json zero.json'; do
    # shellcheck disable=SC2086
    run bench compare $pair
    status_is 1
    out_empty
    err_has 'zero.json: no message was measured'
done
bench --until 'p99<1s' --rate 1 --warmup 500ms --duration 100ms
status_is 1
err_lines 1
err_has 'at 1 messages/s none is due in the measured part'

# --- bounds --------------------------------------------------------------------------------------
# One message in flight that takes 20 ms: some 50 messages a second, for a while a few more. On a
# busy machine the generator may be the limit before: not three times in a row.
for _ in 1 2 3; do
    bench --until 'p90<300ms' --rate 32 --duration 1s --warmup 0 -s full_policy=block \
        -s max_in_flight_batches=1 -s batch_messages=1 -s memory_script='delay:20ms*100000000' \
        --out u.json
    [ "$status" -eq 0 ] && break
    err_has 'the generator was late'
done
status_is 0
rate=$(number u.json until.rate)
python3 -c "import sys; sys.exit(not 1 <= $rate <= 150)" || fail "--until found $rate"
is u.json until.confirmed 3
err_has 'messages/s keep p90<300ms, confirmed 3 times'
bench --until 'p50<1ns' --rate 100 --duration 100ms --warmup 0
status_is 1
err_has 'no rate keeps p50<1ns'

# --- usage and files that cannot be written ---------------------------------------------------
for wrong in '--rate x' '--size 9-3' '--keys a' '--payload pdf' '--arrivals now' '--until p99>1ms' \
    '--fail-if p99<1ms' '--fail-if pelf.p99>1ms' '--duration 0' '--threads 0' '--size 4 --consume' \
    '--until p99<1ms --rate 1k:1s,2k:1s' 'more' '--start-at noon' '--until p99<1ms --rate 0.5' \
    '--until p99<1ms --start-at 5' '--until consumed.p99<1ms' '--fail-if consumed.p99>1ms'; do
    # words are wanted
    # shellcheck disable=SC2086
    bench $wrong
    status_is 2
    err_lines 1
done
for wrong in '--until p99<1ms' '-b null' '--consume' '--fail-if p99>1ms' '--out x' '--hdr x' \
    '-s linger_us=1' '--existing t' '--partitions 2' '--drain 1' '--start-at 5'; do
    # shellcheck disable=SC2086
    run bench --write-schedule z.schedule $wrong
    status_is 2
    err_lines 1
    err_has '--write-schedule sends nothing; leave out'
done
[ ! -e z.schedule ] || fail "a schedule was written"
bench --out /nonexistent/x
status_is 1
err_lines 1
err_has 'cannot write /nonexistent/x'
bench --hdr /nonexistent/x
status_is 1
run bench --rate 10 --duration 100ms --write-schedule /nonexistent/x
status_is 1
err_has 'cannot write /nonexistent/x'
run bench --help
status_is 0
out_has '--until'

# --- a broker that is not there: nothing was made, nothing is removed ---------------------------
run bench --quiet --broker redis -s redis_url=redis://127.0.0.1:1/0
status_is 1
err_has '127.0.0.1:1 is not to be reached'
grep -q 'could not be removed' err && fail "it looks for topics that it did not make"
[ "$(wc -l <err)" -le 2 ] || fail "more than two lines for a broker that is not there"

# --- topics go --------------------------------------------------------------------------------
gone() { # BROKER KEY ADDRESS
    [ -n "$3" ] || return 0
    run bench --quiet --broker "$1" -s "$2=$3" --rate 200 --duration 1s --warmup 0 --consume \
        --topics 1 --out t.json
    status_is 0
    is t.json columns.consumed.infinite 0
    run consume --broker "$1" -s "$2=$3" --topic "$(number t.json load.topic)" --exit-at-end
    status_is 1
    run bench --quiet --broker "$1" -s "$2=$3" --rate 200 --duration 1s --warmup 0 \
        --existing bench-test-keeps
    status_is 0
    run consume --broker "$1" -s "$2=$3" --topic bench-test-keeps --exit-at-end --count 201
    status_is 0
}
if [ -n "${SALVO_TEST_KAFKA:-}" ]; then
    run bench --quiet --broker kafka -s "kafka_bootstrap_servers=$SALVO_TEST_KAFKA" --rate 2k \
        --keys 100 --duration 1s --warmup 0 --partitions 3 --out p.json
    status_is 0
    is p.json load.partitions 3
fi
run bench --quiet --broker memory --rate 2k --keys 100 --duration 1s --partitions 3 --out p.json
status_is 0
is p.json load.partitions 3
run bench --quiet --broker memory --rate 200 --duration 1s --partitions 3 --existing t
status_is 2
if [ -n "${SALVO_TEST_REDIS:-}" ] && command -v redis-cli >/dev/null; then
    redis-cli -u "$SALVO_TEST_REDIS" del bench-three-{0,1,2} >/dev/null
    run bench --quiet --broker redis -s "redis_url=$SALVO_TEST_REDIS" --trace three.trace \
        --scale 4 --existing bench-three
    status_is 0
    for want in 0:1401 1:501 2:101; do
        redis-cli -u "$SALVO_TEST_REDIS" xlen "bench-three-${want%:*}" >out
        out_has "^${want#*:}\$" # each in the topic that it had, after a first one
    done
fi
if [ -n "${SALVO_TEST_REDIS:-}" ]; then # two processes read one topic: each counts its own
    at=$(($(date +%s) + 2))
    for rate in 300 500; do
        "$program" bench --quiet --broker redis -s "redis_url=$SALVO_TEST_REDIS" --rate "$rate" \
            --duration 1s --warmup 0 --consume --existing bench-test-shared --start-at "$at" \
            --out "shared-$rate.json" >/dev/null 2>err &
        pids[rate]=$!
    done
    for rate in 300 500; do
        wait "${pids[rate]}" || fail "a process failed"
        python3 - "shared-$rate.json" "$rate" <<'PY' || fail "not its own messages"
import json, sys
consumed = json.load(open(sys.argv[1]))['columns']['consumed']
assert consumed['infinite'] == 0 and consumed['count'] == int(sys.argv[2]), consumed['count']
PY
    done
fi
gone kafka kafka_bootstrap_servers "${SALVO_TEST_KAFKA:-}"
gone redis redis_url "${SALVO_TEST_REDIS:-}"
gone rabbitmq rabbitmq_url "${SALVO_TEST_RABBITMQ:-}"
verdict
