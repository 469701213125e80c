#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# salvo top against real producers: alone, several, killed, closed; once, as JSON, on a terminal.
# shellcheck source=tests/cli/common.sh
. "$(dirname "$0")/common.sh"
dir=$(mktemp -d /dev/shm/salvo-test-XXXXXX)
trap 'rm -rf "$scratch" "$dir"' EXIT

# start NAME BROKER LINES: a producer that has sent its lines and waits for more
start() {
    mkfifo "$1.in"
    "$program" produce --broker "$2" --topic "$1" --quiet --set "stats_dir=$dir" \
        --set "kafka_client_id=$1" <"$1.in" >/dev/null 2>&1 &
    pids[$1]=$!
    exec {pipe}<>"$1.in"
    seq "$3" >&"$pipe"
    pipes[$1]=$pipe
}
top() { run top --dir "$dir" -i 300ms "$@"; }
# settled NAME LINES: waits until that many are acknowledged as seen from outside
settled() {
    for _ in {1..100}; do
        top --once --json "$1"
        grep -q "\"acknowledged\":$2," out && return
    done
    fail "$1 never had $2 acknowledged"
}
declare -A pids pipes

# Nobody, and wrong use.
top --once
status_is 1
err_lines 1
err_has "no producer in $dir: start a program that uses Salvo"
top --once --json 1
status_is 1
err_has 'no producer called 1'
run top --dir "$dir/none"
status_is 1
err_lines 1
for wrong in --interval=1x --interval=10ms --interval=; do
    run top "$wrong"
    status_is 2
    err_has 'is not a time from 200ms to 3600s'
done
run top a b
status_is 2
run top --help
status_is 0
out_has '^usage: salvo top'

# One.
start first null 1000
settled first 1000
top --once --json
status_is 0
[ "$(wc -l <out)" -eq 1 ] || fail "not one object on one line"
out_has "\"pid\":${pids[first]},"
out_has '"state":"alive"'
out_has '"driver":"null"'
out_has '"balanced":true'
out_has '"ledger":\{"offered":1000,"accepted":1000,'
out_has '"total":\{"since_start":\{"count":1000,'
out_has '"hdr":"HISTF'
out_has '"topics":\[\{"name":"first","ledger":\{"offered":1000,'
out_has '"interval_s":0\.[0-9]'
if command -v python3 >/dev/null; then
    python3 -m json.tool <out >/dev/null || fail "not JSON"
fi
top --once
out_has "pid ${pids[first]}: alive for"
out_has '^ledger   offered 1,000  accepted 1,000  refused 0$'
out_has '^ total .* (us|ms|ns)'
[ "$(wc -L <out)" -le 80 ] || fail "wider than 80 columns"

# Sent between the two looks: the rate is that of the interval.
(sleep 0.3; seq 500 >&"${pipes[first]}") &
top -i 1s --once --json "${pids[first]}"
wait $!
out_has '"acknowledged_per_s":[1-9]'
settled first 1500

# Several: a list, and one by its name.
start second memory 200
settled second 200
[ "$(grep -o '"pid"' out | wc -l)" -eq 1 ] || fail "more than the one that was asked for"
top --once
out_has 'pid program +driver'
out_has "${pids[first]} .* null"
out_has "${pids[second]} .* memory"

# Stopped: alive, and not answering.
kill -STOP "${pids[second]}"
sleep 3.2
top --once second
out_has "pid ${pids[second]}: not answering since [0-9:]+, for 0:00:0"
out_has '^rate     nothing new$'
kill -CONT "${pids[second]}"

# Killed: its last state. Closed: gone.
kill -KILL "${pids[first]}"
wait "${pids[first]}" 2>/dev/null
top --once first
status_is 0
out_has "pid ${pids[first]}: dead since [0-9:]+, for 0:00:"
out_has '^ledger   offered 1,500 '
top --once --json first
out_has '"state":"dead"'
out_has '"ledger":\{"offered":1500,"accepted":1500,'
top --once # the only one alive, in full
out_has "pid ${pids[second]}: alive"
out_has "1 more have ended; .*pid ${pids[first]}"

pipe=${pipes[second]}
exec {pipe}>&-
wait "${pids[second]}"
top --once second
status_is 1
err_has 'no producer called second'

# A file that is none does no harm.
head -c 100000 /dev/urandom >"$dir/1-0.salvo"
top --once first
status_is 0

# On a terminal of 60 columns: in place, cut to its width, and given back. A closed pipe ends it.
if command -v python3 >/dev/null; then
    LC_ALL=C python3 - "$program" "$dir" >out 2>err <<'PY' || fail "on a terminal"
import fcntl, os, pty, select, signal, struct, sys, termios, time
def watch(how):
    pid, fd = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "xterm"
        time.sleep(0.2)
        os.execv(sys.argv[1], ["salvo", "top", "--dir", sys.argv[2], "-i", "200ms", "first"])
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 60, 0, 0))
    before = termios.tcgetattr(fd)
    out, done = b"", False
    while True:
        if not select.select([fd], [], [], 10)[0]:
            sys.exit("silent")
        try:
            more = os.read(fd, 65536)
        except OSError:
            break
        if not more:
            break
        out += more
        if not done and out.count(b"\033[H") == 3:
            fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 10, 50, 0, 0))
        if not done and out.count(b"\033[H") >= 5:
            assert termios.tcgetattr(fd)[3] != before[3], "no raw keys"
            done = True
            os.write(fd, b"q") if how == "q" else os.kill(pid, signal.SIGINT)
    status = os.waitpid(pid, 0)[1]
    assert os.waitstatus_to_exitcode(status) == 0, status
    assert out.startswith(b"\033[?1049h") and out.endswith(b"\033[?25h\033[?1049l"), out[-80:]
    pictures = out.split(b"\033[H")
    for picture, columns, rows in ((pictures[1], 60, 30), (pictures[-1], 50, 10)):
        text = picture.split(b"\033[J")[0].replace(b"\033[K", b"")
        lines = text.split(b"\r\n")
        assert len(lines) <= rows, lines
        assert all(len(line.rstrip(b"\r\n")) <= columns for line in lines), lines
        assert b"dead since" in lines[0], lines
watch("q")
watch("ctrl-c")
PY
fi
"$program" top --dir "$dir" --json -i 200ms | head -n 1 >/dev/null
verdict
