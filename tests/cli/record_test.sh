#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# salvo record: a trace of a live producer, refusals and blocking in it, CSV, caps, bad input.
# shellcheck source=tests/cli/common.sh
. "$(dirname "$0")/common.sh"
mkdir -m 700 "/dev/shm/salvo-record-test-$$" || exit 77
dir=/dev/shm/salvo-record-test-$$
trap 'rm -rf "$scratch" "$dir"' EXIT

# look FILE EXPRESSION: of header h and records r, (at_ns, value_bytes, key, topic, key_bytes, fate)
look() {
    python3 - "$1" "$2" <<'PY'
import gzip, json, struct, sys
data = gzip.open(sys.argv[1]).read()
h = json.loads(data[:4096])
assert len(data[4096:]) % 24 == 0 and data[4095:4096] == b'\n'
r = [struct.unpack_from('<QIIHHI', data, at) for at in range(4096, len(data), 24)]
assert all(a[0] <= b[0] for a, b in zip(r, r[1:])), 'not in the order of time'
assert eval(sys.argv[2]), (sys.argv[2], h, r[:3], len(r))
PY
}
see() { look "$1" "$2" 2>py || { cat py; fail "$1: not $2"; }; }

# start ARGUMENT...: a load in the background; waits until it can be watched
start() {
    rm -f "$dir"/*
    "$program" bench --quiet -s "stats_dir=$dir" --warmup 0 "$@" >load.out 2>&1 &
    load=$!
    for _ in $(seq 100); do
        compgen -G "$dir/*.salvo" >/dev/null && return
        sleep 0.05
    done
    fail "no producer to be watched"
}

# --- a live producer ---------------------------------------------------------------------------
start -b null --rate 2k --keys 10 --size 50-500 --duration 6s
sleep 0.5 # past its first message, which is no load
run record --dir "$dir" --out t.salvo --seconds 2 "$load"
status_is 0
err_has ' 0 refused, 0 blocked, 0 lost'
compgen -G "$dir/*.request" >/dev/null && fail "the request stays"
run record --dir "$dir" --out again.salvo --seconds 1 # the only one there is
status_is 0
wait "$load"
[ -z "$(ls "$dir")" ] || fail "the producer leaves $(ls "$dir")"
see t.salvo 'h["format"] == "salvo-trace" and h["version"] == 1 and h["records"] == len(r)'
see t.salvo '2000 < len(r) < 4500 and h["topics"][0].startswith("salvo-bench-")'
see t.salvo 'all(50 <= x[1] <= 500 and x[2] != 0 and 1 <= x[4] <= 2 and x[5] == 0 for x in r)'
see t.salvo 'len({x[2] for x in r}) == 10 and r[0][0] == 0'
see again.salvo 'len(r) > 500'
see t.salvo '1 <= h["resolution_ns"] < 1000 and "threads" not in h'
# Another recording, another salt: the same ten keys are other hashes.
python3 - <<'PY' || fail "keys of two recordings can be compared"
import gzip, struct
keys = [{struct.unpack_from('<Q2I', d, at)[2] for at in range(4096, len(d), 24)}
        for d in (gzip.open(f).read() for f in ('t.salvo', 'again.salvo'))]
assert len(keys[0] & keys[1]) < 3, keys
PY
run bench --quiet -b null --trace t.salvo --out b.json
status_is 0
run plan predict --trace t.salvo -b redis
status_is 0

# --- demand that was throttled is seen -----------------------------------------------------------
small=(-s "buffer_bytes=$((8388608 + $(nproc) * 262144))" -s ring_bytes=131072
    -s max_message_bytes=16384 -s max_in_flight_batches=4 -s batch_messages=4)
start -b memory --rate 2k --size 15000 --duration 5s -s full_policy=fail "${small[@]}" \
    -s memory_script='ok*1200;down:1s'
run record --dir "$dir" --out full.salvo --seconds 8 "$load"
status_is 0
wait "$load"
err_has 'the producer has ended'
see full.salvo 'sum(x[5] == 0xffffffff for x in r) > 100'
see full.salvo 'h["topics"][0].startswith("salvo-bench-")' # also of one that has ended
start -b memory --rate 2k --size 15000 --duration 5s -s full_policy=block "${small[@]}" \
    -s memory_script='ok*1200;down:1s'
run record --dir "$dir" --out blocked.salvo --seconds 4 "$load"
status_is 0
kill "$load" && wait "$load"
see blocked.salvo '300000 < max(x[5] for x in r if x[5] < 0xfffffffe) < 5000000'
see blocked.salvo 'h["resolution_ns"] == 1000' # for how long is noted in us

# --- the cap -------------------------------------------------------------------------------------
start -b null --rate 50k --keys 1000 --size 10-900 --duration 6s
run record --dir "$dir" --out cap.salvo --seconds 5 --max-bytes 100k "$load"
status_is 0
err_has 'cut by --max-bytes'
err_has '--max-bytes 100000 was full after '
err_has 'raise it, or record fewer --seconds'
err_lines 2
kill "$load" && wait "$load"
[ "$(stat -c %s cap.salvo)" -le 100000 ] || fail "larger than its cap"
see cap.salvo 'h["truncated"] and len(r) > 1000'
run plan predict --trace cap.salvo --json
status_is 0
err_has 'its size cap ended it: what came later is not planned for'

# --- a recorder that is too slow ------------------------------------------------------------------
start -b null --rate 100k --duration 6s
"$program" record --quiet --dir "$dir" --out lost.salvo --seconds 4 "$load" 2>err &
recorder=$!
sleep 0.7
kill -STOP "$recorder"
sleep 2
kill -CONT "$recorder"
wait "$recorder" || fail "no recording"
kill "$load" && wait "$load"
see lost.salvo 'h["lost"] > 0'
err_has 'came too fast to be recorded: record again with a core free for it, or plan with --scale'
err_lines 1

# --- CSV --------------------------------------------------------------------------------------
cat >c.csv <<'CSV'
topic,at_ms,bytes,key,more
orders,1.5,200,b,x
orders,0.5,100,a,x
"even,ts ""q""",1,300,a,x
CSV
run record --from-csv c.csv --out c.salvo --scale 2
status_is 0
see c.salvo '[x[0] for x in r] == [0, 250000, 500000] and [x[1] for x in r] == [100, 300, 200]'
see c.salvo 'r[0][2] == r[1][2] != r[2][2] and h["topics"] == ["orders", "even,ts \"q\""]'
see c.salvo 'h["resolution_ns"] == 50000' # 0.5 ms has a tenth, at twice the speed
while read -r name time step; do
    printf '%s,bytes\n3,1\n%s,2\n' "$name" "$time" >step.csv
    run record --from-csv step.csv --out step.salvo
    status_is 0
    see step.salvo "h['resolution_ns'] == $step"
done <<'STEPS'
at_s 4 1000000000
at_ms 4 1000000
at_ms 1.25 10000
at_us 4.50 10
at_ns 4 1
at_ns 4.5 1
at_s 4.5e-05 1000
STEPS
printf 'at_s,bytes\n1699999999.123456789,1\n1699999999.123456790,1\n' >since-1970.csv
run record --from-csv since-1970.csv --out since-1970.salvo
status_is 0
see since-1970.salvo '[x[0] for x in r] == [0, 1]'
# Names that do not fit into the header are cut; what was recorded stays.
awk 'BEGIN { print "at_ms,bytes,topic"
             for (i = 0; i < 200; i++) printf "%d,9,%0100d\n", i, i }' >names.csv
run record --from-csv names.csv --out names.salvo
status_is 0
err_lines 2
err_has 'the names of 200 topics do not fit'
see names.salvo 'len(r) == 200 and len(set(h["topics"])) == 200 and h["topics"][7].endswith("~7")'
awk 'BEGIN { print "at_ms,bytes,topic"
             for (i = 0; i < 1500; i++) printf "%d,9,topic-%d\n", i, i }' >many.csv
run record --from-csv many.csv --out many.salvo
status_is 0
err_has 'the names of 1500 topics do not fit'
see many.salvo 'len(r) == 1500 and h["topics"] == 1500 and r[1499][3] == 1499'
run bench --quiet -b null --trace many.salvo --out many.json
status_is 0
# As spreadsheets and people write it: a byte order mark, blanks around fields.
printf '\xef\xbb\xbf"at_ms" , bytes ,topic, key\t\r\n 1 , 20 , "a, b " ,\r\n' >wide.csv
printf '2,\t30 , a , k \r\n' >>wide.csv
run record --from-csv wide.csv --out wide.salvo
status_is 0
see wide.salvo '[x[:2] for x in r] == [(0, 20), (1000000, 30)] and h["topics"] == ["a, b ", "a"]'
see wide.salvo 'r[0][2] == 0 and r[1][2] != 0 and r[1][4] == 1'
while IFS='|' read -r text told; do
    printf '%b' "$text" >bad.csv
    run record --from-csv bad.csv --out bad.salvo
    status_is 1
    err_lines 1
    err_has "$told"
    [ ! -e bad.salvo ] || fail "a trace of bad input"
done <<'BAD'
time,bytes\n1,2\n|line 1: names none of at_ns, at_us, at_ms, at_s, but begins with `time`
at_s,at_ms,bytes\n1,1,2\n|line 1: names more than one of
at_s,size\n1,2\n|line 1: names no column bytes
at_s,bytes\n1,2\nx,3\n|line 3: not a time
at_s,bytes\n-1,2\n|line 2: not a time
at_s,bytes\n1,-2\n|line 2: not a number of bytes
at_s,bytes\n1\n|line 2: too few columns
at_s,bytes\n|holds no messages
BAD

# --- usage ------------------------------------------------------------------------------------
run record --dir "$dir" --out x.salvo
status_is 1
err_has 'no producer of this user runs'
run record --dir "$dir" --out x.salvo nobody
status_is 1
err_has 'no running producer is '
run record --from-csv c.csv --out /nonexistent/x
status_is 1
err_has 'cannot write /nonexistent/x'
mkdir folder
start -b null --rate 100 --duration 3s
run record --dir "$dir" --out folder --seconds 100 "$load" # at once, not when it was recorded
status_is 1
err_lines 1
err_has 'cannot write folder: it is a directory'
kill "$load" && wait "$load"
run record --from-csv c.csv --out folder
status_is 1
err_has 'cannot write folder: it is a directory'
run record --from-csv c.csv --out c.csv
status_is 1
err_has 'it is what --from-csv reads'
run record --from-csv c.csv --out /dev/null
status_is 1
err_has 'no regular file'
run record --from-csv c.csv --out "$(printf 'x/%.0s' $(seq 3000))"
status_is 1
err_has 'the path is too long'
for wrong in '' '--out x --seconds 0' '--out x --max-bytes 5' '--out x --scale 0' '--out x a b' \
    '--out x --from-csv c.csv 12' '--out=' \
    '--out x --from-csv c.csv --seconds 5' '--out x --from-csv c.csv --dir .'; do
    # words are wanted
    # shellcheck disable=SC2086
    run record $wrong
    status_is 2
    err_lines 1
done
run record --help
status_is 0
out_has '--from-csv'
verdict
