# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2034,SC2154 # script/broker's variables
#
# What script/broker knows of Redis: Debian's redis-server, which writes and syncs every command
# before it answers, unless --set says otherwise. Sourced by script/broker, whose variables and
# functions it uses.

broker_need() {
    command -v redis-server >/dev/null ||
        die "no redis-server on PATH; install it: sudo apt-get install redis-server"
    title="Redis $(redis-server --version | sed -n 's/.* v=\([^ ]*\).*/\1/p')"
    ports_needed=1
}

broker_check_property() {
    [[ $1 =~ ^[a-z0-9-]+= && $1 != *$'\n'* ]] ||
        die "--set '$1': KEY=VALUE is allowed, e.g. maxmemory=100mb"
    case ${1%%=*} in
    port | bind | dir | daemonize | supervised | pidfile | logfile)
        die "--set '$1': this key is the script's own; see --port and --dir" ;;
    esac
}

broker_address() { printf 'redis://127.0.0.1:%s/0\n' "$port"; }

# A file, not arguments: what --set gives may be a password.
broker_configure() { # PORT
    local property value
    {
        printf '%s\n' "bind 127.0.0.1" "port $1" "dir \"$data\"" "daemonize no" 'save ""' \
            "appendonly yes" "appendfsync always"
        for property in "${properties[@]}"; do
            value=${property#*=}
            printf '%s %s\n' "${property%%=*}" "${value:-\"\"}"
        done
    } >"$data/redis.conf"
}

broker_launch() { spawn redis-server "$data/redis.conf"; }

# It holds the port (till then a neighbour could), and answers, no longer with LOADING.
broker_ready() {
    local answer
    grep -q 'Ready to accept connections' "$data/server.log" || return 1
    answer=$(converse "$port" 'PING\r\n' 7)
    [[ $answer == +PONG* || $answer == -NOAUTH || $answer == -NOPERM ]]
}

broker_lost_port() { grep -q 'Address already in use' "$data/server.log"; }

broker_explain() {
    grep -m3 -iE 'fatal|error|^>>>|bad directive|wrong number|Address already in use' \
        "$data/server.log" || tail -n 5 "$data/server.log"
}

broker_run() { # [argument ...]
    need_running
    exec redis-cli -h 127.0.0.1 -p "$port" "$@"
}
