#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What `salvo consume` says where there is nothing to read.
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
verdict
