# SPDX-License-Identifier: Apache-2.0
"""Attacks: bad input in every place, calls that cross each other, values that change while they
are sent. Whatever happens, a call accepts its message once or raises a MessagingError."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import math
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from pydantic import BaseModel
from salvo.messaging import (
    ConfigurationError,
    Dropped,
    EventTopic,
    InvalidMessage,
    MessagingError,
    ProducerClosed,
    configure,
    configure_messaging,
    get_producer,
    registry,
)
from salvo.messaging.encoding import encode
from salvo.messaging.native import Native
from salvo.messaging.testing import records

Child = Callable[..., subprocess.CompletedProcess[str]]
DOWN = {"message_broker": "kafka", "kafka_bootstrap_servers": "127.0.0.1:1"}


class Text(str):
    pass


class Unreadable(Mapping[str, Any]):
    def __getitem__(self, key: str) -> Any:
        raise RuntimeError("not now")

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError("not now")

    def __len__(self) -> int:
        return 1


class Anything(BaseModel):
    x: Any


def released() -> memoryview:
    view = memoryview(b"abc")
    view.release()
    return view


BAD = {
    "key": [{"key": "\ud800"}, {"key": released()}, {"key": 10**5000}],
    "headers": [{"headers": h} for h in (
        {"\ud800": "a"}, {"a": "\ud800"}, {"": "a"}, {"a" * 256: "a"}, 5, "abc", [("a",)], [5],
        {str(i): "a" for i in range(65)})],
    "timestamp": [{"timestamp": t} for t in (math.nan, math.inf, 2**63, 2**70, -1, True)],
    "partition": [{"partition": n} for n in (2**31 - 1, 2**31, 2**70, 1.0)],
    "timeout": [{"timeout": t} for t in ("1", [], math.nan, True)],
    "topic": [{"topic": t} for t in (
        "", "a\0b", "\ud800", "é" * 700, "x" + "é" * 700, "xx" + "\U0001f600" * 300)],
    "value": [{"message": m} for m in (
        "\ud800", Text("\ud800"), {"a": "\ud800"}, released(), {"a": released()}, Unreadable(),
        {"a": [Unreadable()]}, dict)],
    "schema": [{"topic": "class", "message": m} for m in (
        {"x": object()}, "\ud800", released(), {"x": Unreadable()})],
}


@pytest.mark.parametrize("where", BAD)
def test_bad_input_is_refused_in_one_way_and_nothing_is_sent(where: str) -> None:
    class Class(EventTopic):
        name = "class"
        schema = Anything

    producer = get_producer()
    producer.sync.start()
    for bad in BAD[where]:
        call = {"topic": "t", "message": {}, **bad}
        call["topic"] = Class if call["topic"] == "class" else call["topic"]
        forget = {name: value for name, value in call.items() if name != "timeout"}
        calls: list[Callable[[], Any]] = [
            lambda: producer.sync.send(**call), lambda: asyncio.run(producer.send(**call))]
        if where != "timeout":
            calls.append(lambda: producer.sync.send_fire_and_forget(**forget))
            calls.append(lambda: asyncio.run(producer.send_fire_and_forget(**forget)))
        if where in ("topic", "value", "schema", "key"):
            rest = {"key": call.get("key"), "topic": call["topic"]}
            calls.append(lambda: producer.sync.send_batch(messages=[call["message"]], **rest))
            calls.append(lambda: asyncio.run(producer.send_batch_fire_and_forget(
                events=[call["message"]], **rest)))
        for attempt in calls:
            with pytest.raises(MessagingError):
                attempt()
    assert producer.ledger()["accepted"] == 0


@pytest.mark.parametrize("wrong", [5, None, object(), released(), "ab", b"ab", {}, Unreadable()])
@pytest.mark.parametrize("more", [{}, {"key_field": "k"}])
def test_what_is_no_list(wrong: Any, more: dict[str, Any]) -> None:
    class Class(EventTopic):
        name = "class"
        schema = Anything

    for topic in ("t", Class):
        with pytest.raises(InvalidMessage):
            get_producer().sync.send_batch(topic, wrong, **more)
        with pytest.raises(InvalidMessage):
            asyncio.run(get_producer().send_batch_fire_and_forget(topic, wrong, **more))
    assert list(get_producer().sync.send_batch("t", (b"a" for _ in range(2)))) != []


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_settings_that_are_no_text(text: str) -> None:
    for told in (configure, configure_messaging):
        with pytest.raises(ConfigurationError):
            told(kafka_bootstrap_servers=text)
        with pytest.raises(ConfigurationError):
            told(**{"message_" + text: "x"})


def test_views_and_odd_keys() -> None:
    get_producer().sync.send("t", memoryview(b"abcdef")[::2])
    get_producer().sync.send_batch("t", [memoryview(b"abcdef")[::-1], Text("é")])
    assert [r.value for r in records("t")] == [b"ace", b"fedcba", "é".encode()]
    assert json.loads(encode({(1, 2): 3})) == {"1,2": 3}


class Changes(os.PathLike[str]):
    """As it is encoded it changes the list that it is in."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __fspath__(self) -> str:
        if len(self.items) < 5000:
            self.items.append({"n": Changes(self.items)})
        return "x"


@pytest.mark.parametrize("first", [{"n": 1}, "text"])
def test_a_list_that_grows_while_it_is_encoded(first: Any) -> None:
    items: list[Any] = [first]
    items.extend({"n": Changes(items)} for _ in range(3))
    accepted = get_producer().sync.send_batch_fire_and_forget("t", items)
    assert accepted < 100
    assert [r.value for r in records("t")[1:]] == [b'{"n":"x"}'] * (accepted - 1)


def test_a_value_that_changes_while_a_send_waits_for_room(monkeypatch: pytest.MonkeyPatch) -> None:
    value, real, tries = bytearray(b"before"), Native.send, 0

    def full_at_first(self: Native, *arguments: Any) -> Any:
        nonlocal tries
        tries += 1
        return None if tries % 2 else real(self, *arguments)

    async def change() -> None:
        value[:] = b"after!!"

    async def go(send: Any) -> None:
        value[:] = b"before"
        await asyncio.gather(send("t", value), change())

    monkeypatch.setattr(Native, "send", full_at_first)
    asyncio.run(go(get_producer().send))
    asyncio.run(go(get_producer().send_fire_and_forget))
    assert [r.value for r in records("t")] == [b"before"] * 2


@pytest.mark.parametrize("timeout", [-1, -0.5, math.inf, 1e300])
def test_odd_times_to_wait_end_no_thread(timeout: float) -> None:
    """The thread that flushes for others once died of a negative time, and flush never worked
    again."""
    producer = get_producer()

    async def go() -> None:
        await producer.send_fire_and_forget("t", {})
        async with asyncio.timeout(20):
            await producer.flush(timeout)
            assert await producer.flush(10) == 0

    asyncio.run(go())
    producer.sync.flush(timeout)
    producer.sync.stop(timeout)
    for wrong in (None, "1", math.nan):
        with pytest.raises(InvalidMessage):
            asyncio.run(producer.flush(wrong))  # type: ignore[arg-type]


def test_a_flush_that_meets_a_stop_does_not_wait_for_its_time() -> None:
    for flushed_before in (True, False):
        producer = get_producer()
        producer.sync.start()
        if flushed_before:
            producer.sync.flush()
        native, told = producer._native, threading.Event()
        assert native is not None
        producer.sync.stop()
        native.flush_then(60, told.set)
        assert told.wait(5)
        assert not any(t.name == "salvo-flush" for t in threading.enumerate() if t.is_alive()
                       ) or flushed_before


def test_flush_keeps_no_loop_alive() -> None:
    async def go() -> weakref.ref[asyncio.AbstractEventLoop]:
        await get_producer().send("t", {})
        await get_producer().flush()
        return weakref.ref(asyncio.get_running_loop())

    dead = asyncio.run(go())
    for _ in range(100):
        gc.collect()
        if dead() is None:
            break
        time.sleep(0.01)
    assert dead() is None


def test_sends_that_wait_for_nothing_starve_nobody() -> None:
    async def go(send: Callable[[], Any], many: int) -> int:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        for _ in range(many):
            await send()
        task.cancel()
        return turns

    p = get_producer()
    assert asyncio.run(go(lambda: p.send("t", {}, wait=False), 2000)) >= 5
    assert asyncio.run(go(lambda: p.send_batch("t", [b"x"] * 300, wait=False), 10)) >= 5


def test_a_stop_while_another_thread_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between taking the engine and keeping it: the producer must not keep a closed one."""
    producer, real = get_producer(), registry.acquire
    producer.sync.start()
    native = producer._native
    assert native is not None
    producer._drop()

    def acquire(*arguments: Any) -> Native:
        taken = real(*arguments)
        stopping.start()
        stopping.join(0.3)
        return taken

    def stop() -> None:
        registry.forget(native)
        registry.shut(native, 5)

    stopping = threading.Thread(target=stop)
    monkeypatch.setattr(registry, "acquire", acquire)
    producer._ready()
    monkeypatch.undo()
    configure_messaging(message_broker="memory")
    stopping.join()
    producer._current = producer._native  # as if no setting had changed
    assert producer.sync.send("t", {}, timeout=10).done


def test_a_stop_that_is_cancelled_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    configure_messaging(**DOWN, close_timeout_ms=100)
    caplog.set_level(logging.WARNING, "salvo.messaging")

    async def go() -> None:
        delivery = await get_producer().send("t", {}, wait=False)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(get_producer().stop(30), 0.05)
        with pytest.raises(Dropped):
            await delivery

    asyncio.run(go())
    for _ in range(500):
        if not registry._leaving:
            break
        time.sleep(0.01)
    assert not registry._leaving and "1 messages were accepted and not" in caplog.text


def test_stops_and_sends_in_many_threads() -> None:
    """What is accepted while another thread stops is delivered and known to be; nothing stays."""
    failures: list[BaseException] = []
    until = time.monotonic() + 1.5

    def work(stops: bool) -> None:
        producer = get_producer().sync
        while time.monotonic() < until:
            try:
                if stops:
                    time.sleep(0.005)
                    producer.stop(20)
                else:
                    producer.send("t", {}, wait=False, timeout=20).wait(20)
            except ProducerClosed:
                pass
            except BaseException as error:
                failures.append(error)

    get_producer().sync.start()
    native = get_producer()._native
    assert native is not None
    for _ in range(2):  # the second one has looked before the first one was done
        registry.forget(native)
    registry.shut(native, 5)
    registry.forget(native)
    assert not registry._leaving
    threads = [threading.Thread(target=work, args=(n > 2,)) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    get_producer().sync.stop()
    assert failures == [] and not registry._leaving


def test_ctrl_c_in_one_thread_leaves_no_other_waiting() -> None:
    """The main thread takes the reports of a loop in another one, and is interrupted then."""
    producer, ready, done = get_producer(), threading.Event(), threading.Event()
    loops: list[Any] = []

    async def go() -> None:
        delivery = await producer.send("t", {}, wait=False)
        waiting = asyncio.ensure_future(_outcome(delivery))
        await asyncio.sleep(0)
        native = producer._native
        assert native is not None
        native.detach()
        loops.append(asyncio.get_running_loop())
        ready.set()
        await asyncio.wait_for(waiting, 20)
        done.set()

    configure_messaging(linger_us=300_000)
    thread = threading.Thread(target=lambda: asyncio.run(go()))
    thread.start()
    assert ready.wait(10)
    loop, real = loops[0], loops[0].call_soon_threadsafe

    def interrupted(*arguments: Any) -> Any:
        loop.call_soon_threadsafe = real
        raise KeyboardInterrupt

    loop.call_soon_threadsafe = interrupted
    native = producer._native
    assert native is not None
    with pytest.raises(KeyboardInterrupt):
        native.flush(10)
    assert done.wait(5)
    thread.join()


async def _outcome(delivery: Any) -> Any:
    return await delivery


def test_a_collection_of_garbage_that_closes(child: Child) -> None:
    """A finalizer may run anything, in the middle of settling too (CPython 3.11)."""
    done = child("""
        import asyncio, gc, sys, time
        from salvo.messaging import configure_messaging, get_producer
        configure_messaging(message_broker="memory")
        p = get_producer()
        armed = False
        def collected(phase, info):
            global armed
            if armed and phase == "start":
                armed = False
                native.close(5)
        async def outcome(d):
            await d
        async def go():
            global armed, native
            ds = [await p.send("t", {"n": n}, wait=False) for n in range(50)]
            native = p._native
            waits = [asyncio.ensure_future(outcome(d)) for d in ds]
            await asyncio.sleep(0)
            native.detach()
            time.sleep(0.3)  # the reports are there, and nobody has taken them
            gc.callbacks.append(collected)
            keep = [[] for _ in range(200)]  # no list is at hand: the next one is made anew
            gc.set_threshold(1, 1, 1)
            armed = True
            try:
                native.collect()
            except Exception as error:
                assert type(error).__name__ == "ProducerClosed", error
            armed = False
            gc.set_threshold(700, 10, 10)
            await asyncio.gather(*waits)
            assert {d.status for d in ds} == {0}
            counts = {sys.getrefcount(d) for d in ds}
            assert min(counts) >= 2, counts
        asyncio.run(go())
    """)
    assert done.returncode == 0, done.stderr


def test_after_the_exit_flush_nothing_is_accepted(child: Child) -> None:
    done = child("""
        import atexit
        def late():
            try:
                get_producer().sync.send_fire_and_forget("t", {})
            except ProducerClosed as error:
                print(error)
        atexit.register(late)  # before the package's own: it runs after it
        from salvo.messaging import ProducerClosed, configure_messaging, get_producer
        configure_messaging(message_broker="memory")
    """)
    assert "the interpreter ends" in done.stdout and done.returncode == 0


def test_exit_without_standard_error(child: Child) -> None:
    done = child("""
        import os, sys
        from salvo.messaging import configure_messaging, get_producer
        from salvo.messaging.infrastructure import KafkaProducer
        configure_messaging(message_broker="kafka", kafka_bootstrap_servers="127.0.0.1:1",
                            close_timeout_ms=50)
        get_producer().sync.send_fire_and_forget("t", {})
        other = KafkaProducer("127.0.0.1:2")
        other.sync.send_fire_and_forget("t", {})
        natives = get_producer()._native, other._native
        import atexit, salvo.messaging.registry as registry
        atexit.unregister(registry._flush_at_exit)
        sys.stderr = None
        registry._flush_at_exit()
        for native in natives:
            try:
                native.stats()
            except Exception as error:
                print(type(error).__name__)
    """)
    assert done.stdout.split() == ["ProducerClosed"] * 2
