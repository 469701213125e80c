#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What `salvo consume` says where there is nothing to read, and of groups.
# shellcheck source=tests/cli/common.sh
. "$(dirname "$0")/common.sh"

run consume --broker memory --topic t
status_is 1
err_has 'lives in one process'
err_lines 1
run consume --broker null --topic t
status_is 1
err_lines 1
run consume --broker kafka --topic t --set kafka_bootstrap_servers=127.0.0.1:1 --exit-at-end
status_is 1
err_has '127.0.0.1:1'
out_empty

# Groups.
run consume --broker kafka --topic t --group g --exit-at-end
status_is 2
err_has 'a group has no end'
run consume --broker kafka --topic t --member m
status_is 2
err_has '--group is missing'
run consume --broker memory --topic t --group g
status_is 1
err_has 'lives in one process'
run consume --broker null --topic t --group g
status_is 1
err_has 'null driver keeps nothing that could be consumed'
run consume --broker redis --topic t --group g --set redis_url=redis://127.0.0.1:1/0
status_is 1
err_has '127.0.0.1:1'
run consume --broker rabbitmq --topic t --group g --set rabbitmq_url=amqp://127.0.0.1:1/
status_is 1
err_has '127.0.0.1:1'
out_empty
verdict
