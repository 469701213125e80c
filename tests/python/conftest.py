# SPDX-License-Identifier: Apache-2.0
"""Each test has a folder, a configuration, producers, handlers, workers and topics of its own, on
the memory broker."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from reading import broker as broker  # each test that asks for it runs on all brokers
from salvo.messaging import (
    avro_wire,
    configure_messaging,
    consumers,
    consuming,
    handlers,
    registry,
    settings,
    topics,
    workers,
)


def forget_registered() -> None:
    """What a test has defined is not there for the next: handlers, the db provider, workers, and
    what is known of schema registries."""
    handlers.unregister_all()
    workers.unregister_all()
    avro_wire._wires.clear()
    avro_wire._current = None


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    for key in settings._types:
        monkeypatch.delenv(key.upper(), raising=False)
    settings.reset()
    forget_registered()
    before = dict(topics._topics)
    configure_messaging(message_broker="memory")
    yield
    for source in list(consuming._open):  # of a test that failed before it stopped them
        source.close_now(5)
    consumers._started.clear()
    for facade in list(registry._facades):
        facade.sync.stop(5)
    registry._named.clear()
    forget_registered()
    topics._topics.clear()
    topics._topics.update(before)
    settings.reset()


@pytest.fixture
def run() -> Callable[[Any], Any]:
    return asyncio.run


@pytest.fixture
def child(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a program in a process of its own."""

    def start(text: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", textwrap.dedent(text)], text=True,
                              capture_output=True, timeout=60, cwd=tmp_path, **options)

    return start
