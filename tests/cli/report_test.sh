#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# salvo report: a page of real results and of made-up ones; what may not get into it; files that
# are no results; usage. How the page looks is tests/report's.
# shellcheck source=tests/cli/common.sh
. "$(dirname "$0")/common.sh"
PYTHONDONTWRITEBYTECODE=1 python3 "$source_dir/tests/report/results.py"

page_has() { grep -qF -- "$1" report.html || fail "the page lacks: $1"; }
page_lacks() { if grep -qF -- "$1" report.html; then fail "the page has: $1"; fi; }

# --- the page of a real result -------------------------------------------------------------------
run bench --quiet --broker memory --rate 1k --duration 2s --warmup 0 --consume --out real.json
status_is 0
run report real.json --title 'On <this> machine'
status_is 0
out_empty
err_has 'report.html has 1 result; open it in a browser'
page_has '<title>On &lt;this&gt; machine</title>'
page_has "default-src 'none'"
for part in acknowledged accepted consumed stages.queue 'lateness p99' p99.99 full_policy; do
    page_has "${part#stages.}"
done
run report real.json --out -
grep -q '</html>' out || fail "no page on standard output"

# --- figures: the page says what the results say, and ratios to the first ------------------------
cat >tiny.py <<'PY'
import json, sys
sys.path.insert(0, sys.argv[1] + '/tests/report')
from results import histogram, result, write
slow = [1000000 * i for i in range(1, 101)]
write('one.json', result('one', columns={'acknowledged': histogram(slow)}))
write('two.json', result('two', columns={'acknowledged': histogram([2 * v for v in slow[:95]], 5)},
                         settings={'linger_us': '7'}))
PY
PYTHONDONTWRITEBYTECODE=1 python3 tiny.py "$source_dir"
run report one.json two.json
status_is 0
page_has '>p50</th><td>50.0 ms</td><td>100 ms <small>&times;2.00</small></td></tr>'
page_has '<tr><th scope="row">p99</th><td>99.0 ms</td><td><strong>never</strong></td></tr>'
page_has '<tr><th scope="row">of them never</th><td>0</td><td>5</td></tr>'
page_has '<code>linger_us</code></th><td><bdi>5000</bdi></td><td><bdi>7</bdi></td>'
python3 - <<'PY' || fail "the curves are wrong"
import json, re
text = open('report.html', encoding='utf-8').read()
runs = json.loads(re.search('id="data">(.*?)</script>', text, re.S)[1])['runs']
one, two = (run['curves']['acknowledged'] for run in runs)
assert one['never'] == 0 and two['never'] == 5
for curve, scale in (one, 1e6), (two, 2e6):
    for x, ns in curve['points']:
        rank = max(int(100 * (1 - 1 / x) + 0.5), 1) if x < 100 else 100
        assert abs(ns - rank * scale) <= ns / 500, (x, ns, rank)
assert one['points'][-1][0] == 100 and abs(one['points'][-1][1] / 100e6 - 1) < 0.002
assert 10 < two['points'][-1][0] <= 20, two['points'][-1]  # 5 of 100 never came
xs = [x for x, _ in one['points']]
assert xs == sorted(xs) and len(xs) > 30
PY

# --- invalid results are loud ------------------------------------------------------------------
run report a.json b.json
status_is 0
err_has 'b.json is invalid: the generator was late by more than a tenth'
page_has 'role="alert"><strong>1 of 2 results is invalid.'
page_has '<bdi>librdkafka</bdi>: <bdi>the generator was late by more than a tenth</bdi>'
page_has '<em class="badge">INVALID</em>'
run report a.json
page_lacks 'role="alert"'
page_lacks 'class="badge"'

# --- the same name twice -----------------------------------------------------------------------
cp a.json other.json
run report a.json other.json a.json
status_is 0
page_has '<bdi>kafka, linger 5 ms, other.json</bdi>'

# --- hostile text stays text -------------------------------------------------------------------
run report nasty.json --title '</title><script>alert(3)</script>'
status_is 0
[ "$(grep -o '<script' report.html | wc -l)" -eq 3 ] || fail "a name became a script"
page_lacks '<img'
page_lacks 'alert(1)</script>'
page_has '\u003c/script\u003e\u003cscript\u003ealert(1)'
page_has '\u2028{{data}}'
cat >hostile.py <<'PY'
import sys
sys.path.insert(0, sys.argv[1] + '/tests/report')
from results import histogram, result, write
write('types.json', result('types', settings=[1], load=7, machine='x', ledger=None, over_time={},
                           stages=3, generator=[], valid='yes', started_at={'a': 1}))
write('huge.json', result('huge', offered_per_s=1e308, acknowledged_per_s=-1e308,
                          bytes_per_s=2 ** 63 - 1, cpu_ns_per_message=1e300,
                          over_time=[{'at_s': 1e308, 'offered': 1e308, 'acknowledged': 1e308,
                                      'p99_ns': 1e308, 'p50_ns': -5}] * 1000))
write('ends.json', result('ends', columns={
    'acknowledged': {**histogram([1]), 'infinite': 2 ** 63 - 1, 'count': -2 ** 63}}))
write('escape.json', result('\x1b[2J\x07\r\n', valid=False, invalid_because='\x1b[2J\x07\nxy'))
PY
PYTHONDONTWRITEBYTECODE=1 python3 hostile.py "$source_dir"
run report types.json huge.json ends.json escape.json
status_is 0
err_lines 3
if LC_ALL=C grep -q $'[\x1b\x07\r]' err report.html; then fail "control characters got through"; fi
python3 - <<'PY' || fail "runs or seconds got lost"
import json, re
text = open('report.html', encoding='utf-8').read()
runs = json.loads(re.search('id="data">(.*?)</script>', text, re.S)[1])['runs']
assert [len(run['over_time']) for run in runs] == [0, 250, 30, 30]
PY
page_lacks nan
page_lacks '"inf'

# --- files that are no results -----------------------------------------------------------------
bad() { # FILE TEXT
    rm -f report.html
    run report a.json "$1"
    status_is 1
    err_lines 1
    err_has "$2"
    [ ! -e report.html ] || fail "a page in spite of $1"
}
printf '{"format": "salvo-result", ' >cut.json
bad cut.json 'cut.json:'
sed 's/"version": 1/"version": 2/' a.json >v2.json
bad v2.json 'a version that this salvo does not know'
sed 's/salvo-result/salvo-trace/' a.json >other.json
bad other.json 'not a result of salvo bench'
sed 's/HISTFAAA\(.\{40\}\)[^"]*/HISTFAAA\1/' a.json >histf.json
bad histf.json 'columns are missing or damaged'
sed 's/"duration_s": 30/"duration_s": 1e999/' a.json >real.json
bad real.json 'real.json:1:'
sed 's/"duration_s": 30/"duration_s": 99999999999999999999/' a.json >big.json
bad big.json 'big.json:1:'
printf '[%.0s' {1..5000} >deep.json
bad deep.json 'deep.json:'
printf '\x00\xff' >bytes.json
bad bytes.json 'bytes.json:1:'
bad missing.json 'cannot read missing.json'
bad . 'report: .'

# --- usage ---------------------------------------------------------------------------------------
run report
status_is 2
err_has 'name at least one result'
# words are wanted
# shellcheck disable=SC2046
run report $(printf 'a.json %.0s' {1..17})
status_is 2
err_has '17 results; a page takes at most 16'
run report a.json --out a.json
status_is 2
err_has 'that is one of the results'
grep -q salvo-result a.json || fail "the result was overwritten"
run report a.json --out /nonexistent/x
status_is 1
err_lines 1
err_has 'cannot write /nonexistent/x'
run report a.json --out /dev/full
status_is 1
err_lines 1
run report --outt
status_is 2
run report --help
status_is 0
out_has '--title'
verdict
