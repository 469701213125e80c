# SPDX-License-Identifier: Apache-2.0
"""The project's own page on consuming in Python: every snippet runs as printed, each by itself, on
``memory``; those that need a server run where the tests are told of one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any

import pytest
from salvo.messaging import stop_all_producers

import pages

PAGE = pages.REPOSITORY / "docs" / "python-consuming.md"
BLOCKS = {f"{b.heading}:{b.number}": b for b in pages.blocks_of(PAGE, "python-consuming")
          if b.language == "python"}
RABBITMQ = "A queue of tasks on RabbitMQ:1"
Names = dict[str, Any]


def handler(names: Names) -> None:
    assert not names["consumer"].is_running and names["consumer"].stats()["handled"] == 1


def registered(names: Names) -> None:
    assert sorted(names["paid"], key=str) == [
        ("payment.completed", 1), ("payment.expired", 2), ("reserve", 1)]


def nothing(names: Names) -> None:
    """It asserts by itself."""


CHECKS: dict[str, Callable[[Names], None]] = {
    "A handler:1": handler, "A loop:1": nothing, "Handlers that register themselves:1": registered,
    "Handlers that register themselves:2": nothing, "When a handler fails:1": nothing,
    "What it counts:1": nothing,
}


def test_every_block_is_accounted_for() -> None:
    assert set(BLOCKS) == {*CHECKS, RABBITMQ}


@pytest.mark.parametrize("name", CHECKS)
def test_block(name: str) -> None:
    async def go() -> None:
        CHECKS[name](await asyncio.wait_for(pages.run(BLOCKS[name], {}), 30))
        await stop_all_producers()

    asyncio.run(go())


@pytest.mark.skipif(not os.environ.get("SALVO_TEST_RABBITMQ"), reason="it names no RabbitMQ")
def test_tasks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("RABBITMQ_URL", os.environ["SALVO_TEST_RABBITMQ"])
    asyncio.run(asyncio.wait_for(pages.run(BLOCKS[RABBITMQ], {}), 60))
    assert capsys.readouterr().out == "resize 7\n"
