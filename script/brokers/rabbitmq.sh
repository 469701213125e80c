# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2034,SC2154 # script/broker's variables
#
# What script/broker knows of RabbitMQ: Debian's server, started without its wrapper, so that any
# user may. Everything that two Erlang nodes of a machine could share is the instance's own: node
# name, folders, cookie, ports, and the port mapper (epmd), which is started before the node and
# ended after it. Sourced by script/broker, whose variables and functions it uses.

readonly rabbitmq_bin=/usr/lib/rabbitmq/bin

broker_need() {
    if [[ ! -x $rabbitmq_bin/rabbitmq-server ]] || ! command -v epmd >/dev/null; then
        die "no $rabbitmq_bin/rabbitmq-server or no epmd; install them:" \
            "sudo apt-get install rabbitmq-server"
    fi
    title="RabbitMQ $(readlink -f "$rabbitmq_bin/rabbitmq-server" |
        sed -n 's/.*rabbitmq_server-\([0-9.]*\).*/\1/p')"
    ports_needed=3
}

broker_check_property() {
    [[ $1 =~ ^[A-Za-z0-9_.]+= && $1 != *$'\n'* ]] ||
        die "--set '$1': KEY=VALUE is allowed, e.g. vm_memory_high_watermark.absolute=200MB"
    case ${1%%=*} in
    listeners.tcp | listeners.tcp.*)
        die "--set '$1': this key is the script's own; see --port" ;;
    esac
}

# Who logs in as another user than guest knows its name and password.
broker_address() {
    local who=guest:guest@
    [[ ! -f $data/rabbitmq.conf ]] || ! grep -qE '^default_(user|pass) ' "$data/rabbitmq.conf" ||
        who=''
    printf 'amqp://%s127.0.0.1:%s/\n' "$who" "$port"
}

broker_configure() { # PORT DISTRIBUTION_PORT EPMD_PORT
    local property
    mkdir -p "$data/home" "$data/log" "$data/nodes"
    printf '[].\n' >"$data/plugins"
    : >"$data/rabbitmq-env.conf"
    {
        printf 'listeners.tcp.1 = 127.0.0.1:%s\n' "$1"
        for property in "${properties[@]}"; do
            printf '%s = %s\n' "${property%%=*}" "${property#*=}"
        done
    } >"$data/rabbitmq.conf"
    local local_only='-kernel inet_dist_use_interface {127,0,0,1}'
    printf '%s\n' "HOME=$data/home" "ERL_EPMD_PORT=$3" "ERL_EPMD_ADDRESS=127.0.0.1" \
        "RABBITMQ_NODENAME=salvo-$name@localhost" "RABBITMQ_DIST_PORT=$2" \
        "RABBITMQ_NODE_PORT=$1" "RABBITMQ_NODE_IP_ADDRESS=127.0.0.1" \
        "RABBITMQ_MNESIA_BASE=$data/nodes" "RABBITMQ_LOG_BASE=$data/log" \
        "RABBITMQ_ENABLED_PLUGINS_FILE=$data/plugins" "RABBITMQ_PID_FILE=$data/pid" \
        "RABBITMQ_CONFIG_FILE=$data/rabbitmq.conf" \
        "RABBITMQ_ADVANCED_CONFIG_FILE=$data/advanced.config" \
        "RABBITMQ_CONF_ENV_FILE=$data/rabbitmq-env.conf" \
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=$local_only" "RABBITMQ_CTL_ERL_ARGS=$local_only" \
        "RUNNING_UNDER_SYSTEMD=true" >"$data/environment" # the server's script gives way to it
}

# Sets environment=(...): the instance's, and nothing of ours that could lead it elsewhere.
rabbitmq_environment() {
    local variable
    for variable in "${!RABBITMQ_@}" "${!ERL_@}" NOTIFY_SOCKET; do unset "$variable"; done
    mapfile -t environment <"$data/environment"
    epmd_port=$(sed -n 's/^ERL_EPMD_PORT=//p' "$data/environment")
}

broker_launch() {
    local environment epmd_port deadline=$((SECONDS + 10))
    rabbitmq_environment
    setsid epmd -port "$epmd_port" -address 127.0.0.1 </dev/null >"$data/epmd.log" 2>&1 9>&- &
    side_pid=$!
    disown
    side_mark=$(process_mark "$side_pid") || true
    state_save
    while ! connects "$epmd_port" && side_running && ((SECONDS < deadline)); do
        sleep 0.02
    done
    spawn env "${environment[@]}" "$rabbitmq_bin/rabbitmq-server"
}

# It has booted (till then a neighbour could hold the port), and it speaks AMQP: it answers the
# protocol's header with a method's frame.
broker_ready() {
    grep -q 'Starting broker.*completed' "$data/server.log" &&
        [[ $(converse "$port" 'AMQP\x00\x00\x09\x01' 1) == $'\x01' ]]
}

broker_lost_port() {
    ! side_running ||
        grep -qsE 'eaddrinuse|already running|in use' "$data/server.log" "$data"/log/*.log
}

broker_explain() {
    cat "$data/epmd.log"
    grep -hsm3 -iE '\[error\]|error|eaddrinuse|invalid' "$data"/log/*.log "$data/server.log" ||
        tail -n 5 "$data/server.log"
}

broker_run() { # [argument ...]
    local environment epmd_port
    need_running
    rabbitmq_environment
    exec env "${environment[@]}" "$rabbitmq_bin/rabbitmqctl" "$@"
}
