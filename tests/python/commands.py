# SPDX-License-Identifier: Apache-2.0
"""The core command as the tests run it: to its end, or until it is told to stop."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import textwrap
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

KAFKA = os.environ.get("SALVO_TEST_KAFKA", "")
ADDRESSES = {"kafka": "KAFKA_BOOTSTRAP_SERVERS", "redis": "REDIS_URL", "rabbitmq": "RABBITMQ_URL"}
needs_kafka = pytest.mark.skipif(not KAFKA, reason="SALVO_TEST_KAFKA names no Kafka")
SCRIPT = Path(sys.executable).with_name("core")
UP = "Ctrl-C stops"


def environment(broker: str) -> dict[str, str]:
    kept = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}
    found = {**kept, "MESSAGE_BROKER": broker, "PYTHONDONTWRITEBYTECODE": "1"}
    address = os.environ.get(f"SALVO_TEST_{broker.upper()}")
    return {**found, ADDRESSES[broker]: address} if broker in ADDRESSES and address else found


def core(*arguments: str, broker: str = "memory", **more: str) -> Any:
    """Run a command to its end in the current folder, which is the test's own."""
    return subprocess.run([str(SCRIPT), *arguments], text=True, capture_output=True, timeout=120,
                          env={**environment(broker), **more})


class Endless:
    """A command that runs until it is told to stop; its lines are collected as they come."""

    def __init__(self, *arguments: str, broker: str = "memory") -> None:
        self.lines: list[str] = []
        self.output: list[str] = []
        self.process = subprocess.Popen(
            [str(SCRIPT), *arguments], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=environment(broker))
        self._readers = [threading.Thread(target=self._collect, args=pair, daemon=True) for pair in
                         ((self.process.stderr, self.lines), (self.process.stdout, self.output))]
        for reader in self._readers:
            reader.start()

    def _collect(self, stream: Any, lines: list[str]) -> None:
        lines.extend(iter(stream.readline, ""))  # a list takes them one by one

    def until(self, text: str, seconds: float = 60, count: int = 1) -> None:
        deadline = time.monotonic() + seconds
        while "".join([*self.lines, *self.output]).count(text) < count:
            assert time.monotonic() < deadline and (
                self.process.poll() is None or any(r.is_alive() for r in self._readers)), (
                text, self.lines, self.output)
            time.sleep(0.01)

    def stop(self, number: int) -> int:
        self.process.send_signal(number)
        status = self.process.wait(60)
        for reader in self._readers:
            reader.join(10)
        return status

    def __enter__(self) -> Endless:
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def shop(text: str, modules: str = '["shop.workers"]') -> None:
    """An application in the current folder."""
    Path("shop").mkdir(exist_ok=True)
    Path("shop/__init__.py").touch()
    Path("shop/workers.py").write_text(textwrap.dedent(text))
    Path("core.toml").write_text(f"[messaging]\nmodules = {modules}\n")


WORKERS = """
    from core.messaging import Topic, consumer, get_producer, message_handler, on_event, worker

    class Orders(Topic):
        name = "orders"
        partitions = 3

    @worker(topic="raw", output_topic="rich", concurrency=2, max_retries=0, dlq_topic="raw.dlq")
    async def enrich(event: dict) -> dict:
        print("enrich", event["n"], flush=True)
        return {**event, "rich": True}

    @worker(topic="rich", group_id="readers")
    async def show(event: dict) -> None:
        print("show", event, flush=True)

    @message_handler(topic="orders", group_id="orderly", auto_start=True)
    async def order(message: dict) -> None:
        print("order", message, flush=True)

    @consumer("eventful", topics=["user-events"], dlq_topic="events.dlq")
    class Events:
        @on_event("user.created")
        async def created(self, event) -> None:
            print("created", event.data, flush=True)
"""
SENDING = WORKERS + """
    get_producer().sync.send("raw", {"n": 1})
    get_producer().sync.send("orders", {"n": 2})
"""


def fresh(name: str) -> str:
    return f"{name}-{uuid.uuid4().hex[:10]}"


def kafka(command: str) -> Any:
    done = core(*shlex.split(command), broker="kafka")
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return json.loads(done.stdout) if "--json" in command else done.stdout
