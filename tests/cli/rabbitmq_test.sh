#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The command against a real RabbitMQ (SALVO_TEST_RABBITMQ=amqp://USER:PASSWORD@HOST:PORT/).
[ -n "${SALVO_TEST_RABBITMQ:-}" ] || { echo 'SALVO_TEST_RABBITMQ is not set'; exit 77; }
# shellcheck source=tests/cli/common.sh
. "$(dirname "$0")/common.sh"
broker=rabbitmq url_key=RABBITMQ_URL url=$SALVO_TEST_RABBITMQ
# shellcheck source=tests/cli/wire.sh
. "$(dirname "$0")/wire.sh"

# An exchange that nobody is bound to: mandatory messages come back, others are gone.
run produce -t "$topic-x" -s "rabbitmq_exchange=$topic-x" -s rabbitmq_exchange_type=fanout \
    --json lines
status_is 1
json_is acknowledged 0
json_is failed 10000
run produce -t "$topic-x" -s "rabbitmq_exchange=$topic-x" -s rabbitmq_exchange_type=fanout \
    -s rabbitmq_mandatory=false --json lines
status_is 0
json_is acknowledged 10000
# An exchange of another type is there already.
run produce -t "$topic-x" -s "rabbitmq_exchange=$topic-x" -s rabbitmq_exchange_type=topic \
    -s delivery_timeout_ms=2000 --json lines
status_is 1
json_is acknowledged 0
err_has "$topic-x"
# To the queue of another topic, by the routing key.
run produce -t "$topic-y" -s "rabbitmq_routing_key=$topic-z" -s rabbitmq_window=1 --json lines
status_is 0
json_is acknowledged 10000
run consume -t "$topic-z" --exit-at-end
status_is 0
cmp -s out lines || fail 'a window of 1: the lines did not come back in order'
verdict
