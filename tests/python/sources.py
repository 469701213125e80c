# SPDX-License-Identifier: Apache-2.0
"""A source in memory for tests of the runner: what was given, what was acknowledged, and when."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterable
from typing import Any

from salvo import _engine


def message(number: int, key: bytes | None = None, value: Any = None, **fields: Any) -> Any:
    """A message whose id is its offset + 1."""
    data = json.dumps({"n": number} if value is None else value).encode()
    given = {"topic": "in", "partition": 0, "offset": number, "timestamp": 1_700_000_000_000,
             "key": key, "value": data, "id": number + 1, "deliveries": 1, **fields}
    return _engine.Message(**given)


class FakeSource:
    """Gives its messages once, at most ``in_hand`` unacknowledged; then waits until it is closed,
    or, with ``ends``, closes itself once all are settled."""

    def __init__(self, messages: Iterable[Any], *, in_hand: int = 5000, ends: bool = True) -> None:
        self.waiting = list(messages)
        self.in_hand = in_hand
        self.ends = ends
        self.given: dict[int, Any] = {}
        self.acked: list[int] = []
        self.lost: set[int] = set()
        self.closed = False
        self.on_ack: Callable[[list[Any]], None] = lambda messages: None
        self._changed = asyncio.Event()

    async def take(self, max: int) -> list[Any]:
        while not self.closed:
            count = min(max, self.in_hand - len(self.given))
            taken, self.waiting = self.waiting[:count], self.waiting[count:]
            if taken:
                self.given.update({each.id: each for each in taken})
                return taken
            if self.ends and not self.waiting and not self.given:
                return []
            self._changed.clear()
            await self._changed.wait()
        return []

    def ack(self, messages: list[Any]) -> int:
        self.on_ack(messages)
        before = len(self.acked)
        for each in messages:
            if self.given.pop(each.id, None) is not None:
                self.acked.append(each.offset)
        self._changed.set()
        return len(self.acked) - before

    def lose(self, *numbers: int) -> None:
        """Another member has them now."""
        for number in numbers:
            self.given.pop(number + 1, None)
            self.lost.add(number)
        self._changed.set()

    def held(self, each: Any) -> bool:
        return each.id in self.given

    def all_held(self, messages: list[Any]) -> bool:
        return all(self.held(each) for each in messages)

    def add(self, *messages: Any) -> None:
        self.waiting += messages
        self._changed.set()

    async def close(self, timeout: float) -> None:
        self.closed = True
        self._changed.set()


async def within(seconds: float, condition: Callable[[], bool]) -> None:
    """Wait for something that must come true."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not come true in time"
        await asyncio.sleep(0.005)
