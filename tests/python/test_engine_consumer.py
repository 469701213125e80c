# SPDX-License-Identifier: Apache-2.0
"""The extension's Message and Consumer, and Source: what they hold and refuse; threads."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from salvo import _engine
from salvo.messaging import (
    BadMessage,
    MessagingError,
    ProducerClosed,
    Received,
    get_producer,
    publish,
)
from salvo.messaging.consuming import Source


def test_a_message_is_what_it_was_made_of() -> None:
    message = _engine.Message("t", 3, 4, 5, b"k", b'{"a":[1]}', {"h": b"v", "n": None}, 6, 7)
    assert (message.topic, message.partition, message.offset, message.timestamp) == ("t", 3, 4, 5)
    assert (message.key, message.value, message.id, message.deliveries) == (
        b"k", b'{"a":[1]}', 6, 7)
    assert message.headers == {"h": b"v", "n": None}
    with pytest.raises(AttributeError):
        message.offset = 1  # type: ignore[misc]
    assert message.json() == {"a": [1]} and message.json() is not message.json()
    assert _engine.Message("t").json() is None and _engine.Message("t").headers == {}


@pytest.mark.parametrize("value", [b"", b"{", b"\xff", b'{"a":1}x', b"[" * 100_000, b"NaN"])
def test_what_is_no_json_says_where(value: bytes) -> None:
    with pytest.raises(BadMessage) as raised:
        _engine.Message("t", 1, 2, value=value).json()
    assert (raised.value.topic, raised.value.partition, raised.value.offset) == ("t", 1, 2)
    assert isinstance(raised.value, ValueError) and "t" in str(raised.value)


def test_messages_do_not_leak() -> None:
    headers = {"h": b"v" * 100}
    value = json.dumps({"a": "b" * 200}).encode()

    def work() -> None:
        for n in range(1000):
            message = _engine.Message("t", n, n, n, b"k", value, dict(headers), n)
            message.json(), message.headers, repr(message)

    work()
    gc.collect()
    before = sys.getrefcount(value), sys.getrefcount(headers["h"])
    work()
    assert (sys.getrefcount(value), sys.getrefcount(headers["h"])) == before


@pytest.mark.parametrize(("arguments", "named"), [
    ({"group": ""}, "group"), ({"topics": []}, "topic"), ({"topics": ["x" * 300]}, "249"),
    ({"topics": ["x\0y"]}, "name"), ({"group": "g" * 300}, "249"),
])
def test_what_a_source_refuses(arguments: dict[str, Any], named: str) -> None:
    async def go() -> None:
        with pytest.raises((MessagingError, ValueError)) as raised:
            await Source(**{"group": "g", "topics": ["t"], **arguments}).start()
        assert named in str(raised.value)

    asyncio.run(go())


def test_a_str_is_no_list_of_topics() -> None:
    with pytest.raises(TypeError, match="topics"):
        _engine.Consumer(_engine.Config(), None, "g", "t")


def test_a_closed_consumer_says_so_and_close_is_idempotent() -> None:
    async def go() -> None:
        source = Source(group="g", topics=["t"])
        await source.start()
        consumer = source.consumer
        descriptor = consumer.fileno()
        await asyncio.gather(*(source.close() for _ in range(3)))
        await source.close()
        consumer.close(1)
        assert consumer.closed
        for call in (consumer.fileno, consumer.stats, consumer.rewind, lambda: consumer.poll(1),
                     lambda: consumer.ack([]), lambda: consumer.commit(1)):
            with pytest.raises(ProducerClosed):
                call()
        assert os.fstat(descriptor)  # nobody else has got its number meanwhile
        assert await source.take(1) == []

    asyncio.run(go())


def test_ack_takes_messages_alone() -> None:
    async def go() -> None:
        await publish("t", {"n": 1})
        await publish("t", {"n": 2})
        async with _started("t") as source:
            first, second = [*(await source.take(1)), *(await source.take(1))]
            consumer = source.consumer
            for wrong in (1, None, ["x"], [first, 2]):
                with pytest.raises(TypeError):
                    consumer.ack(wrong)  # type: ignore[arg-type]
            assert consumer.held(first) and consumer.held(second)  # nothing of it was settled
            stranger = _engine.Message("t", id=10**6)
            assert consumer.ack(stranger) == 0 and not consumer.held(stranger)
            assert consumer.ack([first, first]) == 1 and consumer.ack(first) == 0
            assert consumer.ack((second,)) == 1

    asyncio.run(go())


class _started:
    def __init__(self, *topics: str, group: str = "g", **options: Any) -> None:
        self.source = Source(group=group, topics=list(topics), **options)

    async def __aenter__(self) -> Source:
        await self.source.start()
        return self.source

    async def __aexit__(self, *error: object) -> None:
        await self.source.close()


def test_threads_poll_ack_commit_and_close_at_one_time() -> None:
    async def fill() -> None:
        await get_producer().send_batch("t", [{"n": n} for n in range(5000)])

    asyncio.run(fill())
    native = get_producer()._ready()
    consumer = _engine.Consumer(native.config, native, "g", ["t"])
    seen: list[int] = []
    failures: list[BaseException] = []
    ended = threading.Event()

    def poll() -> None:
        while not ended.is_set():
            got = consumer.poll(50)
            seen.extend(m.offset for m in got)
            consumer.ack(got)

    def commit() -> None:
        while not ended.is_set():
            consumer.commit(1)
            consumer.stats(), consumer.lag(1)

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except ProducerClosed:
            pass
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(work,))
               for work in (poll, poll, commit, commit)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 30
    while len(seen) < 5000 and time.monotonic() < end:
        time.sleep(0.01)
    closers = [threading.Thread(target=guarded, args=(lambda: consumer.close(5),))
               for _ in range(2)]
    for thread in closers:
        thread.start()
    ended.set()
    for thread in [*threads, *closers]:
        thread.join(30)
    assert failures == [] and sorted(seen) == list(range(5000)) and consumer.closed


def test_received_knows_its_message() -> None:
    message = _engine.Message("t", 1, 2, 3, b"k", b'{"n":1}', {"h": b"v"})
    received = Received.of(message)
    assert received == {"n": 1} and received.message is message
    assert (received.topic, received.partition, received.offset, received.timestamp,
            received.key, received.headers, received.value) == (
        "t", 1, 2, 3, b"k", {"h": b"v"}, b'{"n":1}')
    assert json.dumps(received) == '{"n": 1}' and {**received} == {"n": 1}
