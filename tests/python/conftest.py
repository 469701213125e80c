# SPDX-License-Identifier: Apache-2.0
"""Each test has a folder, a configuration and producers of its own, on the memory broker."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from salvo.messaging import configure_messaging, registry, settings, topics


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    for key in settings._types:
        monkeypatch.delenv(key.upper(), raising=False)
    settings.reset()
    before = dict(topics._topics)
    configure_messaging(message_broker="memory")
    yield
    for facade in list(registry._facades):
        facade.sync.stop(5)
    registry._named.clear()
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
