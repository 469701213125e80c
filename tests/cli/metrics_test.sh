#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# salvo metrics over real producers: other people's readers take what it writes (promtool and
# Python's prometheus_client, where they are installed), it serves and ends, and the dashboard asks
# for what there is.
# shellcheck source=tests/cli/common.sh
. "$(dirname "$0")/common.sh"
dir=$(mktemp -d /dev/shm/salvo-test-XXXXXX)
trap 'rm -rf "$scratch" "$dir"' EXIT

# Wrong use.
for wrong in '--format=x --once' '--format=prometheus' '--once --listen=0' 'more' '--listne=1'; do
    # Words are wanted.
    # shellcheck disable=SC2086
    run metrics $wrong
    status_is 2
    err_lines 1
done
run metrics --listen nonsense
status_is 1
err_has '"nonsense" is not PORT, ADDRESS:PORT or [ADDRESS]:PORT'
run metrics --help
status_is 0
out_has '^usage: salvo metrics'
run metrics --once --dir "$dir/none"
status_is 1
err_lines 1

# Nobody is there: that is no error, and still a text.
run metrics --once --dir "$dir"
status_is 0
out_has '^salvo_build_info\{version="[0-9.]+"\} 1$'
[ "$(tail -n 1 out)" = '# EOF' ] || fail "no end"

# Two producers, one of them killed.
acknowledged() { grep -q "^salvo_messages_acknowledged_total.*topic=\"$2\"} $1\$" out; }
mkfifo one two
"$program" produce --broker null -t orders --quiet -s "stats_dir=$dir" <one >/dev/null 2>&1 &
one=$!
"$program" produce --broker memory -t clicks --quiet -s "stats_dir=$dir" <two >/dev/null 2>&1 &
two=$!
exec 8<>one 9<>two
seq 1000 >&8
seq 300 >&9
for _ in {1..100}; do
    run metrics --once --dir "$dir"
    acknowledged 1000 orders && acknowledged 300 clicks && break
    sleep 0.1
done
kill -KILL "$one"
wait "$one" 2>/dev/null
run metrics --once --dir "$dir"
status_is 0
of() {
    printf '%s\\{producer="%s-0",pid="%s",program="salvo",' "$1" "$2" "$2"
    printf 'client_id="core-framework",driver="%s"' "$3"
}
out_has "^$(of salvo_producer_up $one null)\\} 0\$"
out_has "^$(of salvo_producer_up $two memory)\\} 1\$"
out_has "^$(of salvo_messages_acknowledged_total $one null),topic=\"orders\"\\} 1000\$"
out_has "^$(of salvo_messages_refused_total $two memory),topic=\"clicks\",reason=\"full\"\\} 0\$"
out_has "^$(of salvo_stage_latency_seconds_bucket $two memory),stage=\"total\",le=\"\\+Inf\"\\} 300"
cp out openmetrics

# Other people's readers.
run metrics --once --format prometheus --dir "$dir"
status_is 0
cp out prometheus
if command -v promtool >/dev/null; then
    promtool check metrics <prometheus >told 2>&1 || fail "promtool: $(cat told)"
    [ ! -s told ] || fail "promtool: $(head -n 3 told)"
else
    echo "promtool is not here: not asked"
fi
reader='' # Debian's package is for Debian's Python
for python in python3 /usr/bin/python3; do
    "$python" -c 'import prometheus_client' 2>/dev/null && reader=$python
done
if [ -n "$reader" ]; then
    "$reader" - <<'PY' || fail "prometheus_client refuses it"
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as prometheus
def samples(families):
    return {(s.name, tuple(sorted(s.labels.items()))): s.value
            for f in families for s in f.samples}
a = samples(openmetrics(open("openmetrics").read()))
b = samples(prometheus(open("prometheus").read()))
assert len(a) > 200 and a.keys() == b.keys(), (len(a), len(b))
assert sum(v for (name, _), v in a.items() if name == "salvo_messages_accepted_total") == 1300
PY
else
    echo "prometheus_client is not here: not asked"
fi

# Every metric of the dashboard and of the document is one of these, and the other way round.
dashboard=$source_dir/docs/grafana-dashboard.json
if command -v python3 >/dev/null; then
    python3 -m json.tool <"$dashboard" >/dev/null || fail "the dashboard is not JSON"
fi
sed -n 's/^\(salvo_[a-z_]*\)[{ ].*/\1/p' prometheus | sort -u >there
grep -oE 'salvo_[a-z_]+' "$dashboard" | sort -u >asked
while read -r name; do
    fail "the dashboard asks for $name, which is not there"
done < <(comm -13 there asked)
while read -r name; do
    grep -q "\`${name%_bucket}" "$source_dir/docs/watching.md" ||
        fail "docs/watching.md lacks $name"
done < <(grep -vE '_(sum|count)$' there)

# Served, until a signal comes.
"$program" metrics --listen 0 --dir "$dir" 2>told &
server=$!
for _ in {1..100}; do
    grep -q serving told && break
    sleep 0.05
done
port=$(sed -n 's|.*http://127.0.0.1:\([0-9]*\)/metrics.*|\1|p' told)
get() {
    exec 7<>"/dev/tcp/127.0.0.1/$port" || return
    printf 'GET %s HTTP/1.0\r\n\r\n' "$1" >&7
    cat <&7 >out
    exec 7>&-
}
get /metrics
out_has '^HTTP/1.[01] 200'
out_has "^$(of salvo_messages_accepted_total $two memory),topic=\"clicks\"\\} 300"
seq 50 >&9
for _ in {1..50}; do
    get /metrics
    grep -q '^salvo_messages_acknowledged_total.*topic="clicks"} 350' out && break
    sleep 0.1
done
out_has "^$(of salvo_messages_acknowledged_total $two memory),topic=\"clicks\"\\} 350"
get /
out_has '^HTTP/1.[01] 404'
run metrics --listen "$port" --dir "$dir"
status_is 1
err_has 'Address already in use'
kill -TERM "$server"
wait "$server" || fail "status $? at SIGTERM"

exec 8>&- 9>&-
wait "$two"
verdict
