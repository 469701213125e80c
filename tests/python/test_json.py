# SPDX-License-Identifier: Apache-2.0
"""Encoding: what msgspec refuses has another way, and an error names item and path."""

from __future__ import annotations

import asyncio
import contextlib
import decimal
import enum
import json
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import PurePosixPath
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel
from salvo import _engine
from salvo.messaging import encoding
from salvo.messaging.encoding import encode, encode_batch
from salvo.messaging.errors import SerializationError


class Number(int):
    pass


class Text(str):
    pass


class Colour(enum.Enum):
    RED = "red"


class Inner(BaseModel):
    x: decimal.Decimal


@pytest.mark.parametrize(("value", "expected"), [
    ({"n": Number(5)}, {"n": 5}),
    ({"s": Text("a")}, {"s": "a"}),
    ({Text("k"): 1}, {"k": 1}),
    ({5: 1}, {"5": 1}),
    ({"c": Colour.RED}, {"c": "red"}),
    ({"u": uuid.UUID(int=1)}, {"u": str(uuid.UUID(int=1))}),
    ({"d": decimal.Decimal("1.10")}, {"d": "1.10"}),
    ({"t": datetime(2026, 1, 1, tzinfo=UTC)}, {"t": "2026-01-01T00:00:00Z"}),
    ({"t": datetime(2026, 1, 1, 1)}, {"t": "2026-01-01T01:00:00"}),
    ({"t": date(2026, 1, 1)}, {"t": "2026-01-01"}),
    ({"m": Inner(x=decimal.Decimal("2"))}, {"m": {"x": "2"}}),
    ({"o": OrderedDict(a=1)}, {"o": {"a": 1}}),
    ({"p": PurePosixPath("/a")}, {"p": "/a"}),
    ({"big": 2**80}, {"big": 2**80}),
    ({"f": float("nan")}, {"f": None}),
    ({"s": {1}, "t": (1, 2)}, {"s": [1], "t": [1, 2]}),
])
def test_the_usual_way(value: Any, expected: Any) -> None:
    assert json.loads(encode(value)) == expected
    assert len(encode_batch([{"a": 1}, value])) == 2


def loop_in_itself() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["self"] = value
    return value


@pytest.mark.parametrize(("value", "path"), [
    ({"a": [1, {"b": object()}]}, "$.a[1].b"),
    ({"a": lambda: 1}, "$.a"),
    (object(), "$"),
    ({"m": {"x": [Inner(x=decimal.Decimal(1)), object()]}}, "$.m.x[1]"),
    ({"s": "\ud800"}, "$.s"),
])
def test_errors_name_the_place(value: Any, path: str) -> None:
    with pytest.raises(SerializationError) as raised:
        encode(value)
    assert raised.value.path == path and raised.value.index is None
    with pytest.raises(SerializationError) as raised:
        encode_batch([{}, value])
    assert raised.value.index == 1 and raised.value.path == path


def test_something_inside_itself() -> None:
    with pytest.raises(SerializationError):
        encode(loop_in_itself())
    with pytest.raises(SerializationError, match="item 0"):
        encode_batch([loop_in_itself()])
    with pytest.raises(SerializationError, match="surrogates"):
        encode("\ud800")


@pytest.mark.parametrize("smuggler", [
    {"a": msgspec.Raw(b"[1,\n2]")}, [msgspec.Raw(b"1\n")], {"a": msgspec.Raw(b"\n\n")},
])
def test_a_newline_inside_an_item_does_not_split_it(smuggler: Any) -> None:
    assert len(encode_batch([smuggler, smuggler])) == 2


class Switches:
    """Encoding it sends another message, and lets other threads run."""

    def __init__(self, number: int) -> None:
        self.number = number


@pytest.fixture
def with_hook() -> Iterator[Callable[[Any], None]]:
    """Encode with another hook for as long as a test runs."""
    def use(hook: Any) -> None:
        _engine.use_encoder(msgspec.json.Encoder(enc_hook=hook).encode_into, encoding.pool)

    yield use
    _engine.use_encoder(encoding.encode_into, encoding.pool)


def test_the_pool_survives_hooks_that_send_and_threads_that_switch(
    with_hook: Callable[[Any], None],
) -> None:
    from salvo.messaging import get_producer
    from salvo.messaging.testing import records

    producer = get_producer()
    for topic in ("outer", "inner"):
        producer._ready().place(topic)
    original = encoding._hook

    def hook(value: Any) -> Any:
        if isinstance(value, Switches):
            send = producer.send_fire_and_forget("inner", {"n": value.number, "pad": "y" * 900})
            with contextlib.suppress(StopIteration):
                send.send(None)  # it does not wait: there is room
            send.close()
            time.sleep(0.0001)
            return {"n": value.number}
        return original(value)

    with_hook(hook)

    async def work(number: int) -> None:
        for i in range(100):
            n = number * 100 + i
            await producer.send_fire_and_forget("outer", {"a": n, "s": Switches(n), "b": n})

    asyncio.run(work(0))
    threads = [threading.Thread(target=asyncio.run, args=(work(n),)) for n in range(1, 8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    outer = sorted((r.json() for r in records("outer")), key=lambda v: v["a"])
    assert outer == [{"a": n, "s": {"n": n}, "b": n} for n in range(800)]
    assert sorted(r.json()["n"] for r in records("inner")) == list(range(800))
