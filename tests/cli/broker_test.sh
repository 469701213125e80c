#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# script/broker with Redis and RabbitMQ, as root and as anybody: start, kill, restart and stop on
# the same data and port; --set, --port and --owner; nothing is left behind, whatever went wrong.
# shellcheck source=tests/cli/common.sh
. "$(dirname "$0")/common.sh"
export XDG_STATE_HOME=$scratch/state TMPDIR=$scratch/data
mkdir "$XDG_STATE_HOME" "$TMPDIR"
name=cli-$$
kinds=()
command -v redis-server >/dev/null && kinds+=(redis)
[ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] && kinds+=(rabbitmq)
[ "${#kinds[@]}" -gt 0 ] || { echo 'neither redis-server nor rabbitmq-server is here'; exit 77; }

# An instance that a failure left is ended before its state goes.
# shellcheck disable=SC2317 # the trap calls it
leave() {
    local kind
    for kind in "${kinds[@]}"; do
        "$source_dir/script/broker" "$kind" stop --name "$name" >/dev/null 2>&1
        "$source_dir/script/broker" "$kind" stop --name "$name-2" >/dev/null 2>&1
    done
    rm -rf "$scratch"
}
trap leave EXIT

broker() {
    status=0
    "$source_dir/script/broker" "$@" >out 2>err </dev/null || status=$?
}
field() { sed -n "s/^$1 //p" out; }
ended() { [ ! -e "/proc/$1/stat" ] || grep -q '^[0-9]* (.*) Z' "/proc/$1/stat"; }
ends() { # PID: within ten seconds
    local wait
    for ((wait = 0; wait < 200; wait++)); do
        ended "$1" && return
        sleep 0.05
    done
    fail "process $1 is still there"
}
nothing_left() {
    [ -z "$(ls -A "$TMPDIR")" ] || fail "left in the data folder: $(ls -A "$TMPDIR")"
    [ -z "$(ls -A "$XDG_STATE_HOME/salvo/brokers")" ] || fail 'left in the state folder'
}
# What a person would ask: does it hold what was put into it?
put() {
    case $1 in
    redis) broker redis run --name "$name" set kept yes ;;
    rabbitmq) broker rabbitmq run --name "$name" add_vhost kept ;;
    esac
    status_is 0
}
kept() {
    case $1 in
    redis) broker redis run --name "$name" get kept && out_has '^yes$' ;;
    rabbitmq) broker rabbitmq run --name "$name" -q list_vhosts && out_has '^kept$' ;;
    esac
}
address_of() { # KIND PORT
    case $1 in
    redis) echo "redis://127.0.0.1:$2/0" ;;
    rabbitmq) echo "amqp://guest:guest@127.0.0.1:$2/" ;;
    esac
}

for kind in "${kinds[@]}"; do
    broker "$kind" start --name "$name"
    status_is 0
    [ "$(wc -l <out)" -eq 1 ] || fail 'not one line on standard output'
    address=$(cat out)
    port=$(sed 's/.*127\.0\.0\.1:\([0-9]*\).*/\1/' out)
    [ "$address" = "$(address_of "$kind" "$port")" ] || fail "the address is $address"
    broker "$kind" status --name "$name"
    status_is 0
    [ "$(field address)" = "$address" ] || fail 'status tells another address'
    pid=$(field pid)
    put "$kind"
    broker "$kind" start --name "$name"
    status_is 1
    err_has "already runs at $address"
    broker "$kind" kill --name "$name"
    status_is 0
    ends "$pid"
    broker "$kind" status --name "$name"
    status_is 1
    err_has 'restart brings it back'
    broker "$kind" run --name "$name"
    status_is 1
    err_has 'is not running; start it'
    broker "$kind" restart --name "$name"
    status_is 0
    [ "$(cat out)" = "$address" ] || fail "after the restart the address is $(cat out)"
    kept "$kind"
    broker "$kind" status --name "$name"
    pid=$(field pid)
    broker "$kind" start --name "$name-2" --port "$port"
    status_is 1
    err_has 'check --port'
    ended "$pid" && fail 'the neighbour was harmed'
    broker "$kind" stop --name "$name"
    status_is 0
    ends "$pid"
    nothing_left
    # Everything of it, helpers too: whatever names its folder in its environment or arguments.
    pgrep -f -- "$TMPDIR/salvo-$kind-$name" >out && fail "still running: $(cat out)"
    broker "$kind" stop --name "$name"
    status_is 0

    broker "$kind" start --name "$name" --set no_such.key=1 --set no-such-key=1
    status_is 1
    err_has "--set 'no"
    [ "$kind" = redis ] && bad=no-such-key=1 || bad=no_such.key=1
    broker "$kind" start --name "$name" --set "$bad"
    status_is 1
    err_has 'ended while starting'
    nothing_left
    broker "$kind" start --name "$name" --auto-create on
    status_is 1
    err_has 'is for kafka'

    sleep 1000 &
    owner=$!
    broker "$kind" start --name "$name" --owner "$owner"
    status_is 0
    broker "$kind" status --name "$name"
    pid=$(field pid)
    { kill "$owner" && wait "$owner"; } 2>/dev/null
    ends "$pid"
    for ((i = 0; i < 200; i++)); do # the data go first, then what is known of the broker
        [ -z "$(ls -A "$TMPDIR"; ls -A "$XDG_STATE_HOME/salvo/brokers")" ] && break
        sleep 0.05
    done
    nothing_left
done

if command -v redis-server >/dev/null; then
    broker redis start --name "$name" --set appendfsync=no --set requirepass=hush
    status_is 0
    broker redis run --name "$name" -a hush --no-auth-warning config get appendfsync
    out_has '^no$'
    tr '\0' ' ' <"/proc/$("$source_dir/script/broker" redis status --name "$name" |
        sed -n 's/^pid //p')/cmdline" | grep -q hush && fail 'a password is among the arguments'
    broker redis stop --name "$name"
    broker redis start --name "$name" --set port=1
    status_is 1
    err_has "the script's own"
fi

# Root's test of a plain user; a plain user has been tested already.
if [ "$(id -u)" -eq 0 ] && command -v setpriv >/dev/null &&
    setpriv --reuid=65534 --regid=65534 --clear-groups test -x "$source_dir/script/broker"; then
    chmod 755 "$scratch"
    chown -R 65534:65534 "$XDG_STATE_HOME" "$TMPDIR"
    for kind in "${kinds[@]}"; do
        setpriv --reuid=65534 --regid=65534 --clear-groups env HOME="$TMPDIR" \
            "$source_dir/script/broker" "$kind" start --name "$name" >out 2>err </dev/null ||
            fail "$kind does not start for a plain user"
        out_has "127.0.0.1:"
        setpriv --reuid=65534 --regid=65534 --clear-groups env HOME="$TMPDIR" \
            "$source_dir/script/broker" "$kind" stop --name "$name" >out 2>err </dev/null ||
            fail "$kind does not stop for a plain user"
        nothing_left
    done
fi
verdict
