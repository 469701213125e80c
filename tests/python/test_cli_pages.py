# SPDX-License-Identifier: Apache-2.0
"""Every command of the documentation's pages, and of the project's own, runs as printed: on
``memory``, and, where SALVO_TEST_KAFKA says that there are Kafkas, on one of its own: the printed
names of topics are those of other tests, too."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator

import pages
import pytest
from commands import KAFKA, UP, Endless, core, fresh, shop

PAGE_MODULE = """
    from core.messaging import message_handler, worker

    @worker(topic="events.raw")
    async def enrich_event(event: dict) -> None: ...

    @worker(topic="tasks", name="TaskWorker")
    async def task(message: dict) -> None: ...

    @worker(topic="tasks", name="MyWorker")
    async def mine(message: dict) -> None: ...

    @message_handler(topic="orders.created")
    async def order(message: dict) -> None: ...
"""
BASH = [b for b in pages.all_blocks() if b.language in ("bash", "sh", "shell")]
COMMANDS = [line.partition("#")[0].strip() for b in BASH for line in b.text.splitlines()
            if line.startswith("core ")]
needs_pages = pytest.mark.skipif(not COMMANDS, reason=f"no pages in {pages.FOLDER}")


@pytest.fixture(params=["memory", "kafka"])
def broker(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Its name; a Kafka is started, and stopped again."""
    if request.param == "memory":
        yield "memory"
        return
    if not KAFKA:
        pytest.skip("SALVO_TEST_KAFKA names no Kafka")
    script = [str(pages.REPOSITORY / "script" / "broker"), "kafka"]
    name = ["--name", f"pages-{os.getpid()}"]
    started = subprocess.run([*script, "start", *name, "--owner", str(os.getpid())], text=True,
                             capture_output=True, timeout=180)
    assert started.returncode == 0, started.stderr
    try:
        monkeypatch.setenv("SALVO_TEST_KAFKA", started.stdout.strip())
        yield "kafka"
    finally:
        subprocess.run([*script, "stop", *name], capture_output=True, timeout=60)


def filled_in(command: str, topic: str) -> str:
    """Placeholders as a reader fills them in."""
    if "<name>" in command:
        command = command.replace("<name>", "MyWorker" if "runworker" in command else topic)
    return command.replace("<group>", "page-group").replace("<topic>", topic)


def is_endless(command: str) -> bool:
    return command.split()[1] in ("consumer", "runworker") or command.split()[1:3] in (
        ["kafka", "consume"], ["kafka", "worker"])


def run_all(commands: list[str], broker: str) -> None:
    """Each as printed; endless ones are told to stop."""
    for command in commands:
        arguments = shlex.split(command)[1:]
        if is_endless(command):
            with Endless(*arguments, broker=broker) as running:
                running.until(UP)
                time.sleep(0.3)
                assert running.stop(signal.SIGTERM) == 143, (command, running.lines)
            assert "Traceback" not in "".join(running.lines), command
            continue
        done = core(*arguments, broker=broker)
        if broker == "memory" and arguments[0] != "workers":
            assert done.returncode == 1 and "memory, which lives" in done.stderr, command
        elif broker == "kafka":
            assert done.returncode == 0, (command, done)


OWN = [line.partition("#")[0].strip()
       for b in pages.blocks_of(pages.REPOSITORY / "docs" / "commands.md", "commands")
       if b.language == "bash" for line in b.text.splitlines()]
OWN_MODULE = """
    from core.messaging import EventTopic, message_handler, worker

    class Returns(EventTopic):
        name = "returns"

    @worker(topic="events", dlq_topic="orders.dlq")
    async def enrich(event: dict) -> None: ...

    @message_handler(topic="orders", group_id="shipping", dlq_topic="orders.dlq")
    async def ship(message: dict) -> None: ...
"""


def test_every_command_of_the_projects_page(broker: str) -> None:
    shop(OWN_MODULE)
    if broker == "kafka":
        for topic in ("orders", "orders.dlq", "events"):
            core("topics", "create", topic, broker="kafka")
    commands = [command for command in OWN if command]
    assert len(commands) >= 20 and all(command.startswith("core ") for command in commands)
    run_all(commands, broker)


def test_the_pages_print_what_is_tested() -> None:
    if COMMANDS:
        assert len(COMMANDS) >= 16 and sum(map(is_endless, COMMANDS)) >= 10


@needs_pages
def test_every_command_of_the_pages(broker: str) -> None:
    shop(PAGE_MODULE)
    topic = fresh("page")
    run_all([filled_in(printed, topic) for printed in COMMANDS], broker)
