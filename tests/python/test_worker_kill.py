# SPDX-License-Identifier: Apache-2.0
"""Workers that are killed with SIGKILL at random points: every input is handled at least once, in
order per key, and its output is there; with ``exactly_once`` a read_committed reader sees each
output once. SALVO_REPEAT kills (``script/test --long``: a hundred) on each of the brokers that
SALVO_TEST_KAFKA, SALVO_TEST_REDIS and SALVO_TEST_RABBITMQ name."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from salvo.messaging import configure_messaging, get_producer, testing

KILLS = int(os.environ.get("SALVO_REPEAT", "0")) or 4
PER_KILL = 240  # messages
KEYS = 7
ADDRESSES = {"kafka": "kafka_bootstrap_servers", "redis": "redis_url", "rabbitmq": "rabbitmq_url"}
BROKERS = [pytest.param(name, marks=pytest.mark.skipif(
    not os.environ.get(f"SALVO_TEST_{name.upper()}"),
    reason=f"SALVO_TEST_{name.upper()} names none")) for name in ADDRESSES]

PROGRAM = """
import asyncio, contextlib, os, signal
from salvo.messaging import RetryPolicy, Worker, configure_messaging, run_worker

configure_messaging(**{settings!r})
log = os.open("handled", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
tried = set()

class Killed(Worker):
    input_topic, output_topic, group_id = {names!r}
    member = transactional_id = group_id
    exactly_once = {exactly_once}
    concurrency = 3
    retry_policy = RetryPolicy(3, "fixed", 0.01)

    async def process(self, event):
        await asyncio.sleep(0.002)
        if event["n"] % 23 == 0 and event["n"] not in tried:
            tried.add(event["n"])
            raise ValueError("now and then")
        os.write(log, b"%d\\n" % event["n"])
        return event

async def main():
    task = asyncio.create_task(run_worker("Killed"))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task

asyncio.run(main())
"""


class Killed:
    """A worker's program, started and killed again and again."""

    def __init__(self, folder: Path, broker: str, exactly_once: bool) -> None:
        mark = uuid.uuid4().hex[:10]
        self.folder, self.count = folder, KILLS * PER_KILL
        self.input, self.output, self.group = f"in-{mark}", f"out-{mark}", f"g-{mark}"
        self.settings = {"message_broker": broker,
                         ADDRESSES[broker]: os.environ[f"SALVO_TEST_{broker.upper()}"]}
        text = textwrap.dedent(PROGRAM).format(
            settings=self.settings, names=(self.input, self.output, self.group),
            exactly_once=exactly_once)
        (folder / "worker.py").write_text(text)
        (folder / "handled").touch()

    def handled(self) -> list[int]:
        return [int(line) for line in (self.folder / "handled").read_text().split()]

    def is_all_handled(self) -> bool:
        """A quick machine may be done before the last kill."""
        return len(set(self.handled())) == self.count

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen([sys.executable, "worker.py"], cwd=self.folder, text=True,
                                stderr=(self.folder / "errors").open("w"))

    def said(self) -> str:
        return (self.folder / "errors").read_text()

    def kill_one(self) -> None:
        """Somewhere between its first messages and half a second later; or while it starts."""
        before = len(self.handled())
        process = self.start()
        try:
            if random.random() < 0.15:
                time.sleep(random.random())
            else:
                wait(lambda: len(self.handled()) > before or self.is_all_handled()
                     or process.poll() is not None, self.said)
                time.sleep(random.random() * 0.2)
        finally:
            process.kill()
            process.wait()

    def finish(self, is_done: Callable[[], bool]) -> None:
        """Run it until all is done, then end it as orderly as it can be."""
        process = self.start()
        try:
            wait(lambda: is_done() or process.poll() is not None, self.said)
            time.sleep(0.5)
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(40) == 0, self.said()


def wait(condition: Callable[[], bool], said: Callable[[], str], seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"not in time; the worker said: {said()[-2000:]}"
        time.sleep(0.02)


def check_handled(handled: list[int], count: int) -> None:
    """All, and the first time of each in the order of its key."""
    first = list(dict.fromkeys(handled))
    assert sorted(first) == list(range(count)), "lost"
    for key in range(KEYS):
        row = [n for n in first if n % KEYS == key]
        assert row == sorted(row), f"key {key} is out of order"


async def fill(killed: Killed) -> None:
    configure_messaging(**killed.settings)
    await get_producer().send_batch(
        killed.input, [{"n": n, "key": f"k{n % KEYS}"} for n in range(killed.count)],
        key_field="key")


def sent(killed: Killed) -> Counter[int]:
    return Counter(record.json()["n"] for record in testing.records(killed.output))


@pytest.mark.parametrize("broker", BROKERS)
def test_every_input_is_handled_and_has_its_output(tmp_path: Path, broker: str) -> None:
    killed = Killed(tmp_path, broker, exactly_once=False)
    asyncio.run(fill(killed))
    for _ in range(KILLS):
        killed.kill_one()
    # What was handled and killed before its output was sent comes again.
    killed.finish(lambda: killed.is_all_handled() and len(sent(killed)) == killed.count)
    check_handled(killed.handled(), killed.count)
    assert set(sent(killed)) == set(range(killed.count))


@pytest.mark.parametrize("broker", [p for p in BROKERS if "kafka" in p.values])
def test_exactly_once_doubles_no_output(tmp_path: Path, broker: str) -> None:
    killed = Killed(tmp_path, broker, exactly_once=True)
    asyncio.run(fill(killed))
    for _ in range(KILLS):
        killed.kill_one()
    reader = committed_reader(killed.output)
    seen: Counter[int] = Counter()
    killed.finish(lambda: read(reader, seen) >= killed.count)
    time.sleep(1)
    read(reader, seen)
    reader.close()
    assert seen == Counter(range(killed.count))
    check_handled(killed.handled(), killed.count)


def committed_reader(topic: str) -> Any:
    from confluent_kafka import Consumer

    reader = Consumer({"bootstrap.servers": os.environ["SALVO_TEST_KAFKA"],
                       "group.id": uuid.uuid4().hex, "auto.offset.reset": "earliest",
                       "isolation.level": "read_committed"})
    reader.subscribe([topic])
    return reader


def read(reader: Any, seen: Counter[int]) -> int:
    """What is committed by now; how many different ones have been seen."""
    for message in reader.consume(1000, 0.5):
        if message.error() is None:
            seen[json.loads(message.value())["n"]] += 1
    return len(seen)
