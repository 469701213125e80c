# SPDX-License-Identifier: Apache-2.0
"""Runs consumers and workers in one event loop until they end or a signal comes.

Guarantees: SIGINT and SIGTERM stop them in order: nothing new is taken, what is in hand is finished
or given back within the deadline, acknowledgements are committed, producers are flushed. The exit
status is 128 and the signal's number then. A second signal ends the process at once.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from salvo.messaging.cli import show
from salvo.messaging.registry import stop_all_producers

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Running(Protocol):
    """What can be run here: a consumer, or a worker."""

    async def run(self) -> None: ...
    async def stop(self, timeout: float, /) -> object: ...
    def stats(self) -> Mapping[str, Any]: ...


class _Signals:
    """The first one asks for a stop, the second one ends the process."""

    def __init__(self, deadline: float) -> None:
        self.number = 0
        self.came = asyncio.Event()
        self._deadline = deadline
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._take, number)

    def _take(self, number: int) -> None:
        if self.number:
            show.note("ended at once; what was in hand will be given again")
            os._exit(128 + number)
        self.number = number
        show.note(f"{signal.Signals(number).name}: stopping, for at most {self._deadline:g} s; "
                  "once more ends at once")
        self.came.set()


def _tell(each: Running) -> None:
    """What it did, on one line."""
    counts = [f"{count} {name.replace('_', ' ')}" for name, count in each.stats().items()
              if isinstance(count, int) and (count or name == "received")]
    name = getattr(each, "name", None) or f"group {getattr(each, 'group_id', '')}"
    show.note(f"{name}: {', '.join(counts) or '0 received'}")


async def _until_stopped(running: Sequence[Running], deadline: float) -> int:
    signals = _Signals(deadline)
    tasks = [asyncio.create_task(each.run()) for each in running]
    asked = asyncio.create_task(signals.came.wait())
    try:
        while not asked.done() and not all(task.done() for task in tasks):
            waiting = [asked, *(task for task in tasks if not task.done())]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if any(task.done() and task.exception() is not None for task in tasks):
                break
        until = time.monotonic() + deadline
        await asyncio.gather(*(each.stop(deadline) for each in running), return_exceptions=True)
        for each in running:
            _tell(each)
        await asyncio.gather(*tasks)
        await stop_all_producers(max(1.0, until - time.monotonic()))
    finally:
        asked.cancel()
        for task in tasks:
            task.cancel()
    return 128 + signals.number if signals.number else 0


def run_until_stopped(running: Sequence[Running], deadline: float) -> int:
    """Run them; returns the exit status. The first error of one of them is raised, after all have
    been stopped."""
    return asyncio.run(_until_stopped(running, deadline))
