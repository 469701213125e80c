# SPDX-License-Identifier: Apache-2.0
"""The project's own pages on Python: every snippet runs as printed, each by itself, against
``memory`` and, where SALVO_TEST_KAFKA names one, a real Kafka; those that need a server run where
the tests are told of one."""

from __future__ import annotations

import asyncio
import inspect
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pages
import pytest
import salvo.messaging
from salvo.messaging import (
    configure_messaging,
    errors,
    event_failures,
    get_producer,
    settings,
    stop_all_producers,
    testing,
)

PAGE = pages.REPOSITORY / "docs" / "python.md"
README = pages.REPOSITORY / "README.md"
ALL = pages.blocks_of(PAGE, "python") + pages.blocks_of(README, "README")
BLOCKS = {f"{b.page}:{b.heading}:{b.number}": b for b in ALL if b.language == "python"}
Names = dict[str, Any]
began_ms = 0


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def records(topic: str) -> list[testing.Record]:
    """What the snippet itself sent: a real broker keeps what earlier ones did."""
    return [r for r in testing.records(topic) if r.timestamp >= began_ms]


def values(topic: str) -> list[Any]:
    return [record.json() for record in records(topic)]


def run(block: pages.Block) -> Names:
    """Blocks with a top-level await run inside a coroutine, the others without a loop."""
    names: Names = {}
    if pages.compiled(block).co_flags & inspect.CO_COROUTINE:
        asyncio.run(pages.run(block, names))
    else:
        running = pages.run(block, names)
        with pytest.raises(StopIteration):
            running.send(None)
    return names


# --- one check per block: what was sent, by topic ---


def ways(names: Names) -> None:
    assert names["count"] == 1000 and names["delivery"].topic == "page-views"
    sent = records("page-views")
    assert len(sent) == 3 + 1000 + 5 and {r.key for r in sent[:3]} == {b"user-1", None}
    assert [r.key for r in sent if r.json()["page"] == "/7"] == [b"7"]
    assert sum(r.key == b"everybody" for r in sent) == 5
    assert dict(sent[0].headers) == {"via": b"web"}


def whole_or_nothing(names: Names) -> None:
    assert records("orders") == []


def topics(names: Names) -> None:
    assert values("orders.created") == [{"id": 7, "total": 0.0}, {"id": 8, "total": 9.5}]
    assert names["Orders"].partitions == 6 and names["Stock"].cleanup_policy == "compact"


def events(names: Names) -> None:
    updated, created = records("user-events")
    assert (updated.json()["name"], updated.key) == ("user.updated", b"1")
    assert created.key == b"2" and created.json()["data"] == {"id": 2, "email": "a@example.com"}
    assert values("audit") == [{"text": "registered"}]
    assert "user.created" not in event_failures()


def loops(names: Names) -> None:
    assert len(names["done"]) == 1000 and all(each.done for each in names["done"])
    assert sorted(v["n"] for v in values("jobs")) == list(range(1003))


def blocking(names: Names) -> None:
    assert [v["id"] for v in values("orders")] == [3, 4, 5, 6, 7] and names["later"].done


def others(names: Names) -> None:
    assert [r.json() for r in testing.records("changes", names["local"])] == [{"id": 1}]
    opened = [names[n]._native for n in ("audit", "cache")] + [names["tasks"]._producer._native]
    assert opened == [None] * 3


def life(names: Names) -> None:
    assert callable(signal.getsignal(signal.SIGTERM))
    assert salvo.messaging.registry._natives == {}


def web(names: Names) -> None:
    from fastapi.testclient import TestClient

    with TestClient(names["app"]) as client:
        assert client.post("/orders/9").json() == {"topic": "orders"}
        assert get_producer()._native is not None and values("orders") == [{"id": 9}]
    assert get_producer()._native is None
    with TestClient(names["other"]) as client:
        assert client.app_state == {"ready": True}


def invoiced(names: Names) -> None:
    order = {"id": 7, "items": [{"price": 2}, {"price": 3}]}

    async def go() -> None:
        task = asyncio.ensure_future(salvo.messaging.run_worker("invoice"))
        await salvo.messaging.publish("orders", order, key="7")
        while not values("invoices") and not task.done():
            await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(asyncio.wait_for(go(), 60))
    assert values("invoices") == [{"order": 7, "total": 5}]


def nothing(names: Names) -> None:
    """The block asserts it all itself."""


CHECKS: dict[str, Callable[[Names], None]] = {
    "python:Ways to send:1": ways,
    "python:Ways to send:2": whole_or_nothing,
    "python:Topics and schemas:1": topics,
    "python:Events:1": events,
    "python:asyncio:1": loops,
    "python:Without an event loop:1": blocking,
    "python:Configuration:1": nothing,
    "python:Configuration:2": others,
    "python:Life:1": life,
    "python:Life:2": web,
    "python:Tests of your own:1": nothing,
    "README:And back again:1": invoiced,
}
PROGRAMS = ("python:Quick start, without a server:1", "README:Eight lines of Python:1")
SERVERS = {"python:Read it back:1": "KAFKA", "python:Read it back:2": "REDIS",
           "python:Read it back:3": "RABBITMQ"}
VARIABLES = {"KAFKA": "KAFKA_BOOTSTRAP_SERVERS", "REDIS": "REDIS_URL", "RABBITMQ": "RABBITMQ_URL"}


def test_every_snippet_is_accounted_for() -> None:
    assert set(BLOCKS) == {*CHECKS, *SERVERS, *PROGRAMS}


@pytest.mark.parametrize("broker", ["memory", "kafka"])
@pytest.mark.parametrize("name", CHECKS)
def test_snippet(name: str, broker: str) -> None:
    global began_ms
    if broker == "kafka":
        address = os.environ.get("SALVO_TEST_KAFKA")
        if not address:
            pytest.skip("SALVO_TEST_KAFKA names no Kafka")
        configure_messaging(message_broker="kafka", kafka_bootstrap_servers=address)
    began_ms = int(time.time() * 1000)
    CHECKS[name](run(BLOCKS[name]))
    asyncio.run(stop_all_producers())


@pytest.mark.parametrize("name", SERVERS)
def test_snippet_that_reads_back(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    server = SERVERS[name]
    address = os.environ.get(f"SALVO_TEST_{server}")
    if not address:
        pytest.skip(f"SALVO_TEST_{server} names none")
    monkeypatch.setenv(VARIABLES[server], address)
    run(BLOCKS[name])
    asyncio.run(stop_all_producers())


@pytest.mark.parametrize("name", PROGRAMS)
def test_program(name: str, tmp_path: Path) -> None:
    """As a newcomer runs it: a file, nothing in the environment; it prints what the page says."""
    block = BLOCKS[name]
    (tmp_path / "hello.py").write_text(block.text)
    done = subprocess.run([sys.executable, "-B", "hello.py"], cwd=tmp_path, env={}, text=True,
                          capture_output=True, timeout=60)
    (output,) = [b for b in ALL if (b.page, b.heading) == (block.page, block.heading)
                 and b.language == "text"]
    assert (done.stdout, done.stderr) == (output.text, "")


def table_after(heading: str) -> list[list[str]]:
    """The cells of the tables below a heading."""
    section = PAGE.read_text("utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows if not row[0].startswith("---")]


def test_the_table_of_errors_is_whole_and_true() -> None:
    named: set[str] = set()
    for row in table_after("Errors"):
        kinds = re.findall(r"`(\w+)`", row[0])
        for kind in kinds:
            cls = getattr(errors, kind)
            builtin = [b for b in cls.__mro__ if b.__module__ == "builtins"][:1]
            said = re.findall(r"`(\w+)`", row[1])
            if said and kind == kinds[-1]:
                assert [b.__name__ for b in builtin] == said, kind
            named.add(kind)
    every = {name for name, cls in vars(errors).items()
             if inspect.isclass(cls) and issubclass(cls, errors.MessagingError)}
    assert every - named == {"MessagingError", "DeliveryError", "BrokerError"}


def test_the_table_of_settings_is_true() -> None:
    """Each key exists, and the default that the page tells is the engine's."""
    settings.reset()
    checked = 0
    for key, default, *_ in table_after("Configuration"):
        names, shown = re.findall(r"`(\w+)`", key), default.strip("`")
        for name in names:
            assert name in settings._types or name in settings._ALIASES, name
        if re.fullmatch(r"\d+|\w+", shown) and len(names) == 1:
            assert str(settings.setting(names[0])).lower() == shown
            checked += 1
    assert checked >= 5


def test_every_public_name_is_told_of() -> None:
    text = "".join(page.read_text("utf-8") for page in sorted(PAGE.parent.glob("*.md")))
    untold = {name for name in salvo.messaging.__all__ if not re.search(rf"\b{name}\b", text)}
    assert untold == set()
