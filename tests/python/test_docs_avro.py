# SPDX-License-Identifier: Apache-2.0
"""The project's page on Avro: every snippet runs as printed, on memory with the tests' registry,
and does what the page says; its tables are true."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pages
import pytest
from salvo.messaging import configure_messaging, decode_confluent, errors, settings, testing

sys.path.insert(0, str(pages.REPOSITORY / "tests" / "registry"))
import server  # noqa: E402

PAGE = pages.REPOSITORY / "docs" / "avro.md"
TEXT = PAGE.read_text("utf-8")
BLOCKS = {f"{b.heading}:{b.number}": b for b in pages.blocks_of(PAGE, "avro")
          if b.language == "python"}
Names = dict[str, Any]


@pytest.fixture(autouse=True)
def registry() -> Iterator[server.Server]:
    with server.Server() as started:
        configure_messaging(kafka_schema_registry_url=started.url)
        yield started


def models(names: Names, printed: str) -> None:
    schema = json.loads(printed)
    assert schema == names["OrderPlaced"].__avro_schema__()
    assert [f["name"] for f in schema["fields"]] == ["order_id", "placed_at", "lines", "note"]
    assert schema["fields"][2]["type"]["items"]["fields"][1]["type"]["precision"] == 10


def stock(names: Names, printed: str) -> None:
    assert names["Stock"].__avro_schema__()["namespace"] == "com.example.stock"


def page_views(names: Names, printed: str) -> None:
    assert printed.startswith("page it is missing")
    sent = [(r.key, decode_confluent(r.value or b"")) for r in testing.records("page-views")]
    assert sent == [(b"user-1", {"user_id": 1, "page": "/"}),
                    (None, {"user_id": 2, "page": "/pricing"})]


def signups(names: Names, printed: str) -> None:
    assert printed.splitlines() == ["email='a@example.com' plan='free'",
                                    "email='b@example.com' plan='free'"]


CHECKS: dict[str, Callable[[Names, str], None]] = {
    "Models:1": models, "Models:2": stock, "Send:1": page_views, "Send:2": signups}


def test_every_snippet_has_a_check() -> None:
    assert set(BLOCKS) == set(CHECKS)


@pytest.mark.parametrize("name", CHECKS)
def test_snippet(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    names: Names = {}
    if pages.compiled(BLOCKS[name]).co_flags & inspect.CO_COROUTINE:
        asyncio.run(pages.run(BLOCKS[name], names))
    else:
        running = pages.run(BLOCKS[name], names)
        with pytest.raises(StopIteration):
            running.send(None)
    CHECKS[name](names, capsys.readouterr().out)


def test_the_tables_are_true() -> None:
    settings.reset()
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")]
            for line in TEXT.splitlines() if line.startswith("| `kafka_")]
    for key, default, *_ in rows:
        for name in re.findall(r"`(\w+)`", key):
            assert name in settings._types, name
            if shown := re.fullmatch(r"`(\w+)`", default):
                assert str(settings.setting(name)).lower() == shown[1]
    assert len(rows) >= 6
    for name in re.findall(r"^\| `(\w+(?:Error|Schema))` \|", TEXT, re.MULTILINE):
        assert issubclass(getattr(errors, name), errors.MessagingError)
