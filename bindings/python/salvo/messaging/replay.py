# SPDX-License-Identifier: Apache-2.0
"""Dead letters, looked at and sent back to the topics they came from.

Guarantees: key and value go back unchanged, with the headers that the original had; a letter is
acknowledged only after the broker has its replay, so that none is lost and an interrupted replay
goes on where it was (at least once); what fails again and comes back meanwhile waits for the next
replay, so that one replay always ends. Where several members of the group replay at once, they
share the letters.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from salvo._engine import Message
from salvo.messaging import deadletter
from salvo.messaging.consuming import Source
from salvo.messaging.errors import InvalidMessage
from salvo.messaging.registry import get_producer

GROUP = "salvo-replay"
_CHUNK = 500
_LOOK_S = 0.5  # how long to wait for letters before the lag is looked at


@dataclass
class Replayed:
    """What a replay did: how many letters went to which topic."""

    topics: Counter[str] = field(default_factory=Counter)
    left: int = 0  # came after the replay had begun

    @property
    def count(self) -> int:
        return self.topics.total()


def target_of(letter: Message, to: str | None = None) -> str:
    """Where a letter goes back to; InvalidMessage where it does not say."""
    origin = letter.headers.get(deadletter.TOPIC)
    target = to if to is not None else (origin or b"").decode("utf-8", "replace")
    place = f"{letter.topic}[{letter.partition}]@{letter.offset}"
    if not target:
        raise InvalidMessage(f"{place} has no header {deadletter.TOPIC}: it is no dead letter of "
                             "this system; name the topic that such messages go to (--to TOPIC)")
    if target == letter.topic:
        raise InvalidMessage(f"{place} came from the dead letter topic itself; name another topic "
                             "that such messages go to (--to TOPIC)")
    return target


def own_headers(letter: Message) -> dict[str, bytes | None]:
    """The headers that the original had."""
    return {name: value for name, value in letter.headers.items()
            if not name.startswith(deadletter.PREFIX)}


def failed_at_ms(letter: Message) -> int:
    """When it failed for good: its header says it to the millisecond, the broker's time of the
    letter perhaps only to the second."""
    said = letter.headers.get(deadletter.FAILED_AT) or b""
    try:
        return int(datetime.fromisoformat(said.decode("ascii")).timestamp() * 1000)
    except (ValueError, OverflowError):
        return letter.timestamp


class _Replay:
    """One run over a dead letter topic."""

    def __init__(self, source: Source, limit: int | None, dry_run: bool, to: str | None,
                 told: Callable[[Message, str], None] | None) -> None:
        self.done = Replayed()
        self._source, self._limit, self._dry_run = source, limit, dry_run
        self._to, self._told = to, told
        self._began_ms = int(time.time() * 1000)
        self._unsettled = 0  # given to us and not to be acknowledged

    def _left(self) -> int:
        most = _CHUNK if self._limit is None else self._limit - self.done.count
        return min(_CHUNK, most)

    async def run(self, patience: float) -> Replayed:
        waited = time.monotonic()
        await self._source.start()
        while self._left() > 0:
            try:
                letters = await asyncio.wait_for(self._source.take(self._left()), _LOOK_S)
            except TimeoutError:
                if await self._is_at_end() or time.monotonic() - waited > patience:
                    break
                continue
            if not letters:
                break
            await self._send_back(letters)
            waited = time.monotonic()
        return self.done

    async def _is_at_end(self) -> bool:
        """Nothing is behind but what we hold: only then is silence the end."""
        if not self._source.stats()["assigned"]:
            return False
        lags = [row[4] for row in await self._source.lag()]
        return bool(lags) and min(lags) >= 0 and sum(lags) <= self._unsettled

    async def _send_back(self, letters: Sequence[Message]) -> None:
        old = [each for each in letters if failed_at_ms(each) <= self._began_ms]
        self.done.left += len(letters) - len(old)
        self._unsettled += len(letters) - len(old)
        targets = [target_of(letter, self._to) for letter in old]
        if not self._dry_run:
            await self._deliver(old, targets)
        for letter, target in zip(old, targets, strict=True):
            self.done.topics[target] += 1
            if self._told is not None:
                self._told(letter, target)
        self._unsettled += len(old) if self._dry_run else 0

    async def _deliver(self, letters: Sequence[Message], targets: Sequence[str]) -> None:
        """In order; each is acknowledged once the broker has its replay."""
        producer = get_producer()
        deliveries = [
            await producer.send(target, letter.value, key=letter.key,
                                headers=own_headers(letter), wait=False)
            for letter, target in zip(letters, targets, strict=True)]
        for letter, delivery in zip(letters, deliveries, strict=True):
            await delivery
            self._source.ack([letter])


async def replay(
    topic: str, *, limit: int | None = None, dry_run: bool = False, to: str | None = None,
    group: str = GROUP, patience: float = 10.0,
    told: Callable[[Message, str], None] | None = None,
) -> Replayed:
    """Send the letters of a dead letter topic back to where they came from (``to``: to that topic,
    all of them). ``told`` is called with each letter and its target. ``dry_run`` sends and
    acknowledges nothing. ``patience``: seconds without any letter after which it ends, where the
    broker does not tell the end."""
    # Commits are made at the end, and at intervals, whatever the configuration says.
    source = Source(group=group, topics=[topic], manual_commit=False, name="a replay")
    run = _Replay(source, limit, dry_run, to, told)
    try:
        return await run.run(patience)
    finally:
        await source.close()
