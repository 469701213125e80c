#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# `salvo config` tells each value and where it came from, and never a secret.
# shellcheck source=tests/cli/common.sh
. "$(dirname "$0")/common.sh"

cat >core.toml <<'TOML'
[messaging]
kafka_client_id = "from-file"
kafka_acks = "1"
TOML
export KAFKA_ACKS=all KAFKA_SASL_PASSWORD=hunter2 REDIS_PORT=tcp://10.0.0.1:6379
run config --changed --set kafka_linger_ms=7 --broker memory
status_is 0
out_has '^kafka_client_id +from-file +core.toml:2'
out_has '^kafka_acks +all +environment'
out_has '^kafka_linger_ms +7 +--set +ms$'
out_has '^message_broker +memory +--broker'
out_has '^kafka_sasl_password +\*\*\*\*'
grep -q hunter2 out err && fail "the password is shown"
grep -q '^max_topics' out && fail "--changed lists a default"
[ "$(awk '{ print index($0, $2) }' out | sort -u | wc -l)" -eq 1 ] || fail "columns are ragged"

run config
out_has '^max_topics +256 +default'

run config --json --changed
status_is 0
out_has '"key": "kafka_client_id"'
out_has '"source": "core.toml:2"'
if command -v python3 >/dev/null; then
    python3 -c 'import json; json.load(open("out"))' 2>err || fail "--json is not JSON"
fi

run config --markdown
out_has '^\| Key \| Value \| Source \|'
awk '{ gsub(/\\\|/, ""); if (gsub(/\|/, "|") != 9) exit 1 }' out || fail "a ragged table"

run config --set kafka_akcs=all
status_is 2
err_has kafka_acks
err_lines 1
run config --config missing.toml
status_is 2
err_has missing.toml
echo 'x = [' >bad.toml
run config --config bad.toml
status_is 2
err_has bad.toml

status=0
"$program" config >/dev/full 2>err || status=$?
status_is 1
err_has 'cannot write'
verdict
