#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# salvo probe: a model of the memory broker with a scripted delay, of failing and silent ones,
# usage. With a server in SALVO_TEST_KAFKA, SALVO_TEST_REDIS or SALVO_TEST_RABBITMQ also that the
# topic is gone afterwards and that the planner takes the model.
# shellcheck source=tests/cli/common.sh
. "$(dirname "$0")/common.sh"

see() { # FILE EXPRESSION of the model m
    python3 -c "import json, sys; m = json.load(open('$1')); sys.exit(not ($2))" ||
        fail "$1: not $2"
}
probe() { run probe --quiet --seconds 5 "$@"; }

# --- each request takes 3 ms ---------------------------------------------------------------------
probe -b memory -s memory_script='delay:3ms*100000000' --max-rate 2k --out m.json
status_is 0
out_has '^a request '
out_has '^limit '
see m.json 'm["format"] == "salvo-broker-model" and m["version"] == 1 and m["driver"] == "memory"'
see m.json '2000000 < m["service"]["base_ns"] < 9000000'
see m.json 'len(m["service"]["residual_ns"]) == 1001'
see m.json 'm["service"]["residual_ns"] == sorted(m["service"]["residual_ns"])'
see m.json 'm["settings"]["memory_script"].startswith("delay:3ms")'
see m.json 'm["measured"]["records"] == [1, 4000] and m["fit"]["points"] > 10'
see m.json 'len(m["sweep"]) >= 2 and m["client"]["send"]["call_ps"] > 0'
see m.json '1 <= m["servers"] <= m["window"] <= 64 and "on_host" not in m'
see m.json '0 <= m["steal_permille"] <= 1000'
out_has '^pauses '
out_has '^at work '
# a producer at 2k/s does too little for its parts to be measured, but for the calls
see m.json '1600 < m["at_work"]["messages_per_s"] < 2400 and m["at_work"]["send_permille"] > 0'
see m.json 'm["at_work"]["flusher_permille"] == m["at_work"]["library_permille"] == 1000'
run plan predict --broker-model m.json --rate 1k
status_is 0

# --- far away: answers that come late are no missing ones, and the grid ends in time -------------
probe -b memory -s memory_script='delay:150ms*100000000' --max-rate 2k --out far.json
status_is 0
see far.json '1950 < m["limit"]["messages_per_s"] and not m["limit"]["reached"]'
see far.json '140000000 < m["service"]["base_ns"] < 160000000'

# --- without a limit -----------------------------------------------------------------------------
probe -b null --max-rate 2k --out - --seed 7
status_is 0
err_has 'limit at least '
see out 'not m["limit"]["reached"]'
see out 'm["at_work"]["messages_per_s"] > 0'
see out 'm["pace"]["slice_ns"] == 50000000 and len(m["pace"]["permille"]) >= 4'

# --- trouble -------------------------------------------------------------------------------------
probe -b memory -s memory_script='reject*100000000' --out x.json
status_is 1
err_has 'too few are left for a model'
probe -b redis -s redis_url=redis://127.0.0.1:1/0 --out x.json
status_is 1
err_has 'is not to be reached'
[ ! -e x.json ] || fail "an empty model stays"
probe -b null --out /nonexistent/x
status_is 1
err_lines 1
err_has 'cannot write /nonexistent/x'
for wrong in '--seconds 1' '--max-rate x' '--size 0' '--brokers 0' '--payload pdf' more; do
    # words are wanted
    # shellcheck disable=SC2086
    run probe -b null $wrong
    status_is 2
    err_lines 1
done
run probe -b null --seconds 5 --max-rate 1k # a quarter of it, in a twentieth of the ramp's time
status_is 2
err_lines 1
err_has '--max-rate: 1000 is too low for a ramp in --seconds 5: from 1423 on, or more seconds'
run probe -b null --max-rate 16
status_is 2
err_has 'from 65 on'
for broker in null memory 'redis -s redis_url=redis://127.0.0.1:1/0'; do # as `salvo bench`
    # words are wanted
    # shellcheck disable=SC2086
    probe -b $broker --topic 'bad topic'
    status_is 2
    err_lines 1
    err_has 'topic "bad topic": allowed are'
done
run probe --help
status_is 0
out_has '--max-rate'

# --- real ones -----------------------------------------------------------------------------------
real() { # BROKER KEY ADDRESS
    [ -n "$3" ] || return 0
    run probe --seconds 10 -b "$1" -s "$2=$3" --max-rate 4k --out real.json
    status_is 0
    grep -q 'could not be removed' err && fail "the topic stays"
    see real.json "m['driver'] == '$1' and m['service']['base_ns'] > 0"
    see real.json '"on_host" in m and \
        m["on_host"]["batch_ns"] < 1e9 and m["limit"]["messages_per_s"] > 0'
    run plan predict --broker-model real.json --rate 1k
    status_is 0
}
real kafka kafka_bootstrap_servers "${SALVO_TEST_KAFKA:-}"
real redis redis_url "${SALVO_TEST_REDIS:-}"
real rabbitmq rabbitmq_url "${SALVO_TEST_RABBITMQ:-}"
verdict
