# SPDX-License-Identifier: Apache-2.0
"""The project's page on workers: every snippet runs as printed, on memory, and does what the page
says; every attribute and promise that it names exists."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pages
import pytest
from salvo.messaging import (
    Unsupported,
    Worker,
    WorkerRun,
    get_all_workers,
    get_producer,
    runner,
    settings,
    testing,
    threads,
    workers,
)

PAGE = pages.REPOSITORY / "docs" / "workers.md"
TEXT = PAGE.read_text("utf-8")
BLOCKS = {f"{b.heading}:{b.number}": b for b in pages.blocks_of(PAGE, "workers")}
Names = dict[str, Any]


@pytest.fixture(autouse=True)
def no_workers() -> Iterator[None]:
    workers.unregister_all()
    yield
    workers.unregister_all()


def execute(block: pages.Block) -> Names:
    names: Names = {}
    running = pages.run(block, names)
    with pytest.raises(StopIteration):
        running.send(None)
    return names


def handle(worker: str, topic: str, items: list[Any]) -> None:
    """Have a worker settle these."""

    async def go() -> None:
        for item in items:
            await get_producer().send(topic, item, key="k")
        run = WorkerRun(worker)
        task = asyncio.create_task(run.run())
        until = time.monotonic() + 30
        while run.stats().get("succeeded", 0) + run.stats().get("failed", 0) < len(items):
            assert time.monotonic() < until and not task.done()
            await asyncio.sleep(0.01)
        await run.stop(10)
        await task

    asyncio.run(go())


def values(topic: str) -> list[Any]:
    return [record.json() for record in testing.records(topic)]


def function(names: Names) -> None:
    handle("locate", "visits", [{"ip": "1"}, {}])
    assert values("visits.located") == [{"ip": "1", "country": "BR"}]
    assert asyncio.run(names["locate"]({})) is None


def a_class(names: Names) -> None:
    handle("Locate", "visits", [{"ip": "10.1"}, {"ip": "1"}, {"no": "ip"}])
    assert values("visits.located") == [{"ip": "1", "country": "BR"}]
    attempts = {dict(r.headers)["salvo-error-type"]: dict(r.headers)["salvo-attempts"]
                for r in testing.records("visits.dead")}
    assert attempts == {b"LookupError": b"4", b"BadMessage": b"1"}


def batches(names: Names) -> None:
    handle("Totals", "orders", [{"id": n, "prices": [n, 1]} for n in range(5)])
    assert values("orders.totals") == [{"id": n, "total": n + 1} for n in range(5)]


def retries(names: Names) -> None:
    handle("charge", "payments", [{"amount": 0}, {"amount": 1}])
    (letter,) = testing.records("payments.dead")
    assert dict(letter.headers)["salvo-attempts"] == b"1"
    told = set(re.findall(r"`(salvo-[a-z-]+)`", TEXT))
    assert told == {name for name, _ in letter.headers}


def once(names: Names) -> None:
    with pytest.raises(Unsupported):
        asyncio.run(WorkerRun("invoice").run())


def by_oneself(names: Names) -> None:
    """The block asserts it all itself."""


CHECKS: dict[str, Callable[[Names], None]] = {
    "A function:1": function, "A class:1": a_class, "Batches:1": batches, "Retries:1": retries,
    "Exactly once:1": once, "Running them yourself:1": by_oneself,
}


def test_every_snippet_is_accounted_for() -> None:
    assert set(BLOCKS) == set(CHECKS)


@pytest.mark.parametrize("name", CHECKS)
def test_snippet(name: str) -> None:
    CHECKS[name](execute(BLOCKS[name]))


def test_the_table_of_attributes_is_whole_and_true() -> None:
    rows = [line.strip("|").split("|") for line in TEXT.splitlines() if line.startswith("| `")]
    named: set[str] = set()
    for cells in rows:
        names = re.findall(r"`(\w+)`", cells[0])
        named.update(names)
        default = cells[1].strip().strip('`"')
        if len(names) == 1 and re.fullmatch(r"\d+|None|False|\w+", default) and default != "":
            shown = getattr(Worker, names[0])
            shown = shown[0].__name__ if isinstance(shown, tuple) else shown
            assert str(shown) == default, names[0]
    attributes = {name for name in Worker.__annotations__
                  if not name.startswith(("on_", "process"))}
    assert named == attributes


def test_what_the_page_counts_exists() -> None:
    stats = asyncio.run(_stats())
    section = TEXT.partition("`stats()` counts ")[2].split("\n")[0].partition("`get_all")[0]
    assert set(re.findall(r"`(\w+)`", section)) <= set(stats)
    assert threads.MAX_ABANDONED == 32 and "threads_abandoned" in stats and "reopened" in stats
    assert "kafka_transaction_timeout_ms" in settings._types
    assert runner.STOP_TIMEOUT == 30 and get_all_workers() == {}


async def _stats() -> dict[str, int]:
    class Idle:
        """A source that is closed already."""

        def held(self, message: Any) -> bool:
            return False

        def all_held(self, messages: list[Any]) -> bool:
            return False

        def ack(self, messages: list[Any]) -> int:
            return 0

        async def take(self, max: int) -> list[Any]:
            return []

        async def close(self, timeout: float) -> None:
            pass

    async def process(message: Any) -> None:
        pass

    idle = runner.Runner(Idle(), process, name="t")
    await idle.run()
    return {**idle.stats(), "reopened": 0}
