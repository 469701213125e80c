# SPDX-License-Identifier: Apache-2.0
"""The core command on real brokers, where SALVO_TEST_KAFKA and the like name one: topics, lag, dead
letters from the failure to the replay, output to a reader that goes away."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from commands import KAFKA, SCRIPT, Endless, core, environment, fresh, kafka, needs_kafka, shop
from salvo.messaging import configure_messaging, publish, stop_all_producers


@needs_kafka
def test_topics_from_the_command_line() -> None:
    name, other = fresh("cli"), fresh("cli")
    made = kafka(f"kafka create-topic {name} --partitions 3 --json")
    assert (made["partitions"], made["messages"]) == (3, 0)
    assert "60000" in kafka(f"topics create {other} -p 2 --retention-ms 60000 "
                            "--cleanup-policy compact").splitlines()[1].split()
    for listing in ("topics list", "kafka topics"):
        rows = {row["name"]: row for row in kafka(f"{listing} --json")}
        assert rows[other]["cleanup_policy"] == "compact" and rows[name]["partitions"] == 3
        assert re.search(rf"(?m)^{name} +3 ", kafka(listing))
    again = core("topics", "create", name, broker="kafka")
    assert again.returncode == 1 and name in again.stderr and "already" in again.stderr
    kafka(f"topics delete {name} --yes")
    gone = core("topics", "describe", name, broker="kafka")
    assert gone.returncode == 1 and name in gone.stderr
    assert core("topics", "delete", name, broker="kafka").returncode == 1


@needs_kafka
def test_classes_are_ensured_and_differences_shown() -> None:
    name = fresh("cli")
    shop(f"""
        from core.messaging import StateTopic
        class State(StateTopic):
            name = "{name}"
            partitions = 2
    """)
    (row,) = kafka("topics ensure --json")
    assert row == {"name": name, "outcome": "created", "differences": []}
    assert kafka("topics ensure --json")[0]["outcome"] == "as wanted"
    module = Path("shop/workers.py")
    module.write_text(module.read_text().replace("partitions = 2", "partitions = 5"))
    done = core("topics", "ensure", "--json", broker="kafka")
    (row,) = json.loads(done.stdout)
    assert done.returncode == 1 and row["outcome"] == "different"
    assert any("partitions" in text and "5" in text for text in row["differences"])
    assert kafka(f"topics describe {name} --json")["partitions"] == 2


@needs_kafka
def test_dead_letters_are_shown_and_replayed() -> None:
    raw, dlq = fresh("raw"), fresh("dlq")
    shop(f"""
        import os
        from core.messaging import worker

        @worker(topic="{raw}", dlq_topic="{dlq}", max_retries=0)
        async def strict(event: dict) -> None:
            if event["n"] % 2 and not os.path.exists("mended"):
                raise ValueError("odd\\x1b[31m: " + str(event["n"]))
            print("done", event["n"], flush=True)
    """)

    async def send() -> None:
        configure_messaging(message_broker="kafka", kafka_bootstrap_servers=KAFKA)
        for n in range(4):
            await publish(raw, {"n": n}, key=f"k{n}", headers={"own": "h"})
        await stop_all_producers()

    asyncio.run(send())
    with Endless("runworker", "strict", broker="kafka") as command:
        command.until("done 2")
        command.until(f"to {dlq}", count=2)
        assert command.stop(signal.SIGTERM) == 143
    assert "\x1b" not in "".join(command.lines)
    assert "4 received, 2 succeeded, 2 failed, 2 dead lettered" in "".join(command.lines)
    (row,) = kafka("dlq list --json")
    assert row == {"topic": dlq, "messages": 2, "waiting": 2, "of": ["strict"]}
    assert "odd\\x1b[31m: 3" in kafka(f"dlq show {dlq}")
    first, second = kafka(f"dlq show {dlq} --json")
    assert (first["key"], first["value"], first["headers"]["own"]) == ("k1", {"n": 1}, "h")
    assert first["headers"]["salvo-original-topic"] == raw
    assert len(kafka(f"dlq show {dlq} --json --limit 1")) == 1

    dry = kafka(f"dlq replay {dlq} --dry-run").splitlines()
    assert dry == [f"{dlq}[0]@0 -> {raw} key=k1", f"{dlq}[0]@1 -> {raw} key=k3"]
    one = kafka(f"dlq replay {dlq} --limit 1 --json")
    assert one == {"topic": dlq, "replayed": 1, "dry_run": False, "to": {raw: 1}, "left": 0}
    assert kafka("dlq list --json")[0]["waiting"] == 1
    assert kafka(f"dlq replay {dlq} --json")["replayed"] == 1
    assert kafka(f"dlq replay {dlq} --json")["replayed"] == 0
    (lag,) = kafka("lag --json")
    assert (lag["group"], lag["topic"], lag["lag"]) == ("strict", raw, 2)
    assert kafka(f"lag --group other --topic {raw} --json")[0]["lag"] == 6

    replayed = core("consumer", "-t", raw, "-g", "look", "--limit", "6", "--json", broker="kafka")
    messages = [json.loads(line) for line in replayed.stdout.splitlines()]
    assert [m["value"]["n"] for m in messages] == [0, 1, 2, 3, 1, 3]
    assert [m["headers"] for m in messages[4:]] == [{"own": "h"}] * 2
    assert [m["key"] for m in messages[4:]] == ["k1", "k3"]
    Path("mended").touch()
    with Endless("kafka", "worker", "strict", broker="kafka") as command:
        command.until("done 3")
        assert command.stop(signal.SIGINT) == 130
    assert command.output == ["done 1\n", "done 3\n"]
    assert kafka("lag --json")[0]["lag"] == 0


@pytest.mark.parametrize("broker", ["redis", "rabbitmq"])
def test_dead_letters_of_the_other_brokers(broker: str) -> None:
    if not os.environ.get(f"SALVO_TEST_{broker.upper()}"):
        pytest.skip(f"SALVO_TEST_{broker.upper()} names none")
    raw, dlq = fresh("raw"), fresh("dlq")
    shop(f"""
        import os
        from core.messaging import get_producer, worker

        @worker(topic="{raw}", dlq_topic="{dlq}", max_retries=0)
        async def strict(event: dict) -> None:
            assert os.path.exists("mended"), "not yet"
            print("done", event["n"], flush=True)

        if not os.path.exists("sent"):
            open("sent", "w").close()
            for n in range(3):
                get_producer().sync.send("{raw}", {{"n": n}}, key=f"k{{n}}", headers={{"own": "h"}})
    """)

    def told(*arguments: str) -> Any:
        done = core(*arguments, "--json", broker=broker)
        assert done.returncode == 0, done
        return json.loads(done.stdout)

    with Endless("runworker", "strict", broker=broker) as command:
        command.until(f"to {dlq}", count=3)
        assert command.stop(signal.SIGTERM) == 143
    assert told("dlq", "list")[0]["waiting"] == 3
    letters = told("dlq", "show", dlq)
    assert [each["value"]["n"] for each in letters] == [0, 1, 2]
    assert letters[0]["headers"]["salvo-error"] == "not yet"
    assert told("dlq", "replay", dlq, "--dry-run")["replayed"] == 3
    assert told("dlq", "replay", dlq, "--limit", "2")["replayed"] == 2
    assert told("dlq", "list")[0]["waiting"] == 1
    with Endless("runworker", "strict", broker=broker) as command:  # two fail again
        command.until(f"to {dlq}", count=2)
        assert told("dlq", "replay", dlq)["replayed"] == 3  # which fail again meanwhile
        command.until(f"to {dlq}", count=5)
        assert command.stop(signal.SIGTERM) == 143
    assert told("dlq", "list")[0]["waiting"] == 3
    assert told("dlq", "replay", dlq, "--limit", "2")["replayed"] == 2
    Path("mended").touch()
    with Endless("runworker", "strict", broker=broker) as command:
        command.until("done", count=2)
        assert told("dlq", "replay", dlq)["replayed"] == 1
        command.until("done", count=3)
        assert command.stop(signal.SIGTERM) == 143
    assert sorted(command.output) == ["done 0\n", "done 1\n", "done 2\n"]
    assert told("lag")[0]["lag"] == 0 and told("dlq", "list")[0]["waiting"] == 0


@needs_kafka
def test_the_lag_of_a_topic_that_is_not_there_yet() -> None:
    topic = fresh("none")
    shop(f"""
        from core.messaging import message_handler

        @message_handler(topic="{topic}", group_id="g")
        async def handle(message): ...
    """)
    assert kafka("lag --json") == [{"group": "g", "topic": topic, "partition": None,
                                    "committed": None, "end": None, "lag": 0}]
    named = core("lag", "-g", "g", "-t", topic, broker="kafka")
    assert named.returncode == 1 and topic in named.stderr


@needs_kafka
def test_what_is_no_dead_letter_is_not_replayed_by_guess() -> None:
    topic, target = fresh("odd"), fresh("target")

    async def send() -> None:
        configure_messaging(message_broker="kafka", kafka_bootstrap_servers=KAFKA)
        await publish(topic, b"\xff", key=b"\xfe")
        await stop_all_producers()

    asyncio.run(send())
    done = core("dlq", "replay", topic, broker="kafka")
    assert done.returncode == 1 and "--to TOPIC" in done.stderr and "0 were replayed" in done.stderr
    assert core("dlq", "replay", topic, "--to", topic, broker="kafka").returncode == 1
    assert kafka(f"dlq replay {topic} --to {target} --json")["to"] == {target: 1}
    printed = kafka(f"consumer -t {target} -g g --limit 1 --json")
    assert (printed["key"], printed["value"]) == ("\\xfe", "\\xff")


@needs_kafka
def test_a_reader_that_goes_away_ends_the_command() -> None:
    topic = fresh("pipe")

    async def send() -> None:
        configure_messaging(message_broker="kafka", kafka_bootstrap_servers=KAFKA)
        for n in range(3):
            await publish(topic, {"n": n})
        await stop_all_producers()

    asyncio.run(send())
    command = f"{shlex.quote(str(SCRIPT))} consumer -t {topic} -g g | head -n 1"
    process = subprocess.Popen(["bash", "-o", "pipefail", "-c", command], text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               env=environment("kafka"))
    assert process.stdout is not None and '"n":0' in process.stdout.readline()
    for _ in range(60):  # more comes, so that it writes again
        asyncio.run(send())
        time.sleep(0.5)
        if process.poll() is not None:
            break
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 0 and "Traceback" not in errors, errors
    again = kafka(f"consumer -t {topic} -g g --limit 1 --json")
    assert again["offset"] <= 3  # what could not be written was not acknowledged
