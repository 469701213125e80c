# SPDX-License-Identifier: Apache-2.0
"""Handlers that fail, hang or block: retries, dead letters, threads; db; their life."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from salvo.messaging import (
    ConfigurationError,
    Event,
    consumer,
    consumers_for,
    create_consumer,
    message_handler,
    on_event,
    publish,
    set_db_provider,
    start_all_consumers,
    stop_all_consumers,
)
from salvo.messaging.consuming import Source
from salvo.messaging.registry import get_db_provider
from salvo.messaging.testing import records

from reading import all_running, fresh, stats, until

# --- retries and dead letters ---


def test_retries_are_made_after_their_delay_and_end_in_the_dead_letters() -> None:
    times: list[float] = []
    done: list[int] = []

    @message_handler(topic="t", max_retries=2, retry_delay=0.15, dlq_topic="dead")
    async def handle(message: dict[str, Any]) -> None:
        if message["n"] == 0:
            message["n"] = 7  # what the next attempt must not see
            times.append(time.monotonic())
            raise RuntimeError("it never works")
        done.append(message["n"])

    async def go() -> None:
        async with all_running() as consumers:
            await publish("t", {"n": 0}, key="a", headers={"trace": "1"})
            await publish("t", {"n": 1}, key="b")
            await publish("t", {"n": 2}, key="a")
            await until(lambda: len(done) == 2)
            assert stats(consumers, "retries", "failed", "dead_lettered") == (2, 1, 1)
            assert (await consumers[0].lag())[0][4] >= 0

    asyncio.run(go())
    assert done == [1, 2]  # another key goes on, the same one waits
    assert len(times) == 3
    assert all(0.14 < b - a < 5 for a, b in zip(times, times[1:], strict=False))
    (letter,) = records("dead")
    headers = dict(letter.headers)
    assert (letter.value, letter.key, headers["trace"]) == (b'{"n":0}', b"a", b"1")
    assert headers["salvo-attempts"] == b"3" and headers["salvo-error"] == b"it never works"
    assert headers["salvo-original-topic"] == b"t" and headers["salvo-original-offset"] == b"0"


def test_without_a_dead_letter_topic_it_is_counted_and_committed() -> None:
    got: list[int] = []

    @message_handler(topic="t", group_id="g")
    async def handle(message: dict[str, Any]) -> None:
        if message["n"] == 1:
            raise RuntimeError("no")
        got.append(message["n"])

    async def go() -> None:
        async with all_running() as consumers:
            for n in range(3):
                await publish("t", {"n": n})
            await until(lambda: len(got) == 2)
            assert stats(consumers, "handled", "failed", "retries") == (2, 1, 0)
        async with create_consumer("g", ["t"], got.append) as again:
            await asyncio.sleep(0.3)
            assert again.stats()["received"] == 0

    asyncio.run(go())


def test_handlers_keep_their_own_policies_in_one_group() -> None:
    attempts: dict[str, int] = {"a": 0, "b": 0}

    def make(topic: str, retries: int, letters: str | None) -> None:
        async def handle(message: Any) -> None:
            attempts[topic] += 1
            raise RuntimeError("no")

        handle.__qualname__ = topic
        message_handler(topic=topic, group_id="g", max_retries=retries, retry_delay=0.01,
                        dlq_topic=letters)(handle)

    make("a", 3, "a.dead")
    make("b", 1, None)

    async def go() -> None:
        async with all_running() as consumers:
            await publish("a", {})
            await publish("b", {})
            await until(lambda: stats(consumers, "failed") == 2)
            await until(lambda: stats(consumers, "dead_lettered") == 1)

    asyncio.run(go())
    assert attempts == {"a": 4, "b": 2} and len(records("a.dead")) == 1


def test_the_dead_letters_are_those_of_the_handler_that_failed() -> None:
    @message_handler(topic="t", group_id="g", dlq_topic="of.another")
    async def fine(message: Any) -> None: ...

    @message_handler(topic="t", group_id="g")
    async def failing(message: Any) -> None:
        raise RuntimeError("no")

    async def go() -> None:
        async with all_running() as consumers:
            await publish("t", {})
            await until(lambda: stats(consumers, "failed") == 1)
            await asyncio.sleep(0.1)
            assert stats(consumers, "dead_lettered") == 0

    asyncio.run(go())
    assert records("of.another") == []


def test_a_handler_that_hangs_is_a_failure() -> None:
    cancelled: list[str] = []

    @message_handler(topic="t", timeout=0.1, max_retries=1, retry_delay=0.01, dlq_topic="dead")
    async def handle(message: Any) -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            cancelled.append("once")
            raise

    async def go() -> None:
        async with all_running() as consumers:
            await publish("t", {})
            await until(lambda: stats(consumers, "dead_lettered") == 1)

    asyncio.run(go())
    (letter,) = records("dead")
    assert b"0.1 s" in (dict(letter.headers)["salvo-error"] or b"") and len(cancelled) == 2


def test_a_sync_handler_that_hangs_is_left_behind() -> None:
    ending = threading.Event()
    began: list[int] = []

    @message_handler(topic="t", timeout=0.1, concurrency=2)
    def handle(message: dict[str, Any]) -> None:
        began.append(message["n"])
        if message["n"] == 0:
            ending.wait(30)

    async def go() -> None:
        async with all_running() as consumers:
            await publish("t", {"n": 0})
            await publish("t", {"n": 1})
            await until(lambda: len(began) == 2 and stats(consumers, "failed", "handled") == (1, 1))

    try:
        asyncio.run(go())
    finally:
        ending.set()


def test_sync_handlers_do_not_block_the_loop() -> None:
    ended: list[int] = []

    @message_handler(topic="t", concurrency=4)
    def handle(message: dict[str, Any]) -> None:
        time.sleep(0.2)
        ended.append(message["n"])

    async def go() -> None:
        async with all_running():
            for n in range(4):
                await publish("t", {"n": n}, key=str(n * 7))
            turns = 0
            while len(ended) < 4:
                await asyncio.sleep(0.01)
                turns += 1
            assert turns > 10

    asyncio.run(go())


@pytest.mark.parametrize("raised", [
    KeyError("k"), StopIteration(), StopAsyncIteration(), asyncio.CancelledError(),
    ExceptionGroup("g", [ValueError()]), RecursionError(), TimeoutError(),
    type("Odd", (Exception,), {"__slots__": (), "__str__": lambda self: 1 / 0})(),
])
@pytest.mark.parametrize("sync", [False, True])
def test_whatever_a_handler_raises_the_next_message_is_handled(raised: BaseException, sync: bool
                                                               ) -> None:
    got: list[int] = []

    def work(message: dict[str, Any]) -> None:
        if message["n"] == 0:
            raise raised
        got.append(message["n"])

    async def awaited(message: dict[str, Any]) -> None:
        work(message)

    async def go() -> None:
        async with create_consumer("g", ["t"], work if sync else awaited) as one:
            await publish("t", {"n": 0})
            await publish("t", {"n": 1})
            await until(lambda: got)
            await until(lambda: one.stats()["failed"] == 1)

    asyncio.run(go())


def test_a_dead_letter_that_cannot_be_written_is_not_committed() -> None:
    async def fail(message: Any) -> None:
        raise RuntimeError("no")

    async def go() -> None:
        # A name that no broker takes: it cannot be written, now or later.
        one = create_consumer("g", ["t"], fail, dlq_topic="no such name")
        await one.start()
        await publish("t", {"n": 1}, key="a")
        await until(lambda: one.stats()["failed"] == 1)
        assert one.is_running and one.stats()["dead_lettered"] in (0, 1)
        await one.stop(1)
        async with create_consumer("g", ["t"]) as again:
            assert (await asyncio.wait_for(anext(again), 10))["n"] == 1

    asyncio.run(go())


# --- db ---


def test_db_is_entered_for_each_message_and_only_where_it_is_named() -> None:
    log: list[Any] = []

    @contextlib.asynccontextmanager
    async def session() -> AsyncIterator[str]:
        log.append("enter")
        try:
            yield "session"
        except RuntimeError:
            log.append("rollback")
            raise
        finally:
            log.append("exit")

    @message_handler(topic="with")
    async def with_db(message: dict[str, Any], db: Any) -> None:
        log.append(("with", db))
        if message.get("fail"):
            raise RuntimeError("no")

    @message_handler(topic="sync")
    def sync_with_db(message: Any, db: Any) -> None:
        log.append(("sync", db))

    @message_handler(topic="without")
    async def without(message: Any) -> None:
        log.append("without")

    async def go() -> None:
        set_db_provider(session)
        assert get_db_provider() is session
        async with all_running() as consumers:
            for topic, value in (("with", {}), ("with", {"fail": 1}), ("sync", {}),
                                 ("without", {})):
                before = stats(consumers, "handled", "failed")
                await publish(topic, value)
                await until(lambda: stats(consumers, "handled", "failed") != before)  # noqa: B023

    asyncio.run(go())
    assert log == ["enter", ("with", "session"), "exit",
                   "enter", ("with", "session"), "rollback", "exit",
                   "enter", ("sync", "session"), "exit", "without"]


def test_db_from_an_async_generator_and_none_without_a_provider() -> None:
    got: list[Any] = []

    @message_handler(topic="t")
    async def handle(message: Any, *, db: Any) -> None:
        got.append(db)

    async def get_db() -> AsyncIterator[int]:
        yield 7

    async def go() -> None:
        async with all_running():
            await publish("t", {})
            await until(lambda: got == [None])
            set_db_provider(get_db)
            await publish("t", {})
            await until(lambda: got == [None, 7])

    asyncio.run(go())


# --- life ---


def test_auto_start() -> None:
    got: list[str] = []

    def make(name: str, auto_start: bool) -> None:
        def handle(message: Any) -> None:
            got.append(name)

        handle.__qualname__ = name
        message_handler(topic="t", group_id=name, auto_start=auto_start)(handle)

    make("yes", True)
    make("no", False)

    async def go() -> None:
        started = await start_all_consumers()
        assert [each.group_id for each in started] == ["yes"]
        await publish("t", {})
        await until(lambda: got)
        await stop_all_consumers()
        await asyncio.sleep(0.2)

    asyncio.run(go())
    assert got == ["yes"]


def test_a_class_that_cannot_be_made_says_so() -> None:
    @consumer("g", topics=["t"])
    class Needs:
        def __init__(self, something: int) -> None: ...

        @on_event("e")
        async def handle(self, event: Event) -> None: ...

    async def go() -> None:
        with pytest.raises(ConfigurationError, match="Needs.*without arguments"):
            await consumers_for("g")[0].start()

    asyncio.run(go())


def test_stop_in_the_midst_returns_what_was_not_begun() -> None:
    got: list[int] = []
    began = asyncio.Event()

    async def slow(message: dict[str, Any]) -> None:
        began.set()
        await asyncio.sleep(0.2)
        got.append(message["n"])

    async def go(handle: Callable[..., Any], count: int) -> None:
        async with create_consumer("g", ["t"], handle):
            await asyncio.wait_for(began.wait(), 10)
            await until(lambda: len(got) >= count)

    async def both() -> None:
        for n in range(10):
            await publish("t", {"n": n}, key="k")
        await go(slow, 0)
        assert got == [0]
        await go(lambda message: got.append(message["n"]), 10)
        await asyncio.sleep(0.2)

    asyncio.run(both())
    assert got == list(range(10))


def test_retries_and_dead_letters_on_every_broker(broker: str) -> None:
    topic, dead, group = fresh(), fresh("dead"), fresh("g")
    attempts: list[int] = []
    letters: dict[bytes, Any] = {}

    async def handle(message: Any) -> None:
        attempts.append(message["n"])
        if message["n"] == 1:
            raise RuntimeError("é" * 2000)

    async def read(source: Source) -> None:
        while len(letters) < 2:
            letters.update({message.value: message for message in await source.take(10)})

    async def go() -> None:
        reader = Source(group=fresh("g"), topics=[dead])
        await reader.start()
        async with create_consumer(group, [topic], handle, max_retries=2, retry_delay=0.05,
                                   dlq_topic=dead) as one:
            for n in range(3):
                await publish(topic, {"n": n}, key=f"k{n}", headers={"trace": "1"})
            await publish(topic, b"{", key="k3")
            await asyncio.wait_for(read(reader), 60)
            await until(lambda: one.stats()["engine"]["acknowledged"] == 4)
            assert one.stats()["dead_lettered"] == 2
        await reader.close()

    asyncio.run(go())
    assert sorted(attempts) == [0, 1, 1, 1, 2]
    failed, poison = letters[b'{"n":1}'], letters[b"{"]
    assert failed.key == b"k1" and poison.key == b"k3"
    headers = failed.headers
    assert headers["salvo-error"].decode() == "é" * 512 and headers["trace"] == b"1"
    assert headers["salvo-attempts"] == b"3" and poison.headers["salvo-attempts"] == b"1"
    assert headers["salvo-original-topic"].decode() == topic
