# SPDX-License-Identifier: Apache-2.0
"""The quick ways: the awaitable of send_fire_and_forget behaves as a coroutine does, and lists that
are encoded in runs arrive whole and in order."""

from __future__ import annotations

import asyncio
import collections.abc
import gc
import os
import sys
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from salvo import _engine
from salvo.messaging import (
    BufferFull,
    MessagingError,
    SerializationError,
    configure_messaging,
    get_producer,
)
from salvo.messaging.encoding import encode_batch
from salvo.messaging.testing import records


def values(topic: str) -> list[Any]:
    return [record.json() for record in records(topic)]


Way = Callable[[collections.abc.Coroutine[Any, Any, None]], Any]


async def as_task(sending: Any) -> None:
    await asyncio.create_task(sending, name="a task")


async def gathered(sending: Any) -> None:
    await asyncio.gather(sending)


async def with_a_limit(sending: Any) -> None:
    await asyncio.wait_for(sending, 5)


async def plainly(sending: Any) -> None:
    assert await sending is None


async def delegated(sending: Any) -> None:
    class Wrapped:
        def __await__(self) -> Any:
            return (yield from sending.__await__())

    await Wrapped()


@pytest.mark.parametrize("way", [plainly, as_task, gathered, with_a_limit, delegated])
@pytest.mark.parametrize("warm", [False, True])
def test_whatever_takes_a_coroutine_takes_it(way: Way, warm: bool) -> None:
    async def go() -> None:
        producer = get_producer()
        if warm:  # the engine is open, the topic known: no Python code runs
            await producer.send("t", {"n": 0})
        sending = producer.send_fire_and_forget("t", {"n": 1}, key="k")
        assert asyncio.iscoroutine(sending)
        await way(sending)
        await producer.flush()

    asyncio.run(go())
    assert values("t")[-1] == {"n": 1} and records("t")[-1].key == b"k"
    assert len(values("t")) == 1 + warm


def test_frameworks_see_an_async_function() -> None:
    producer = get_producer()
    assert asyncio.iscoroutinefunction(producer.send_fire_and_forget)
    sending = producer.send_fire_and_forget("t", {"n": 1})
    assert "send_fire_and_forget" in sending.__qualname__
    asyncio.run(sending)
    producer.sync.flush()
    assert values("t") == [{"n": 1}]


def test_nothing_is_sent_before_it_is_awaited() -> None:
    async def go() -> None:
        producer = get_producer()
        await producer.send("t", {"n": 0})
        with pytest.warns(RuntimeWarning, match="send_fire_and_forget.* was never awaited"):
            producer.send_fire_and_forget("t", {"n": 1})
        closed = producer.send_fire_and_forget("t", {"n": 2})
        closed.close()
        thrown = producer.send_fire_and_forget("t", {"n": 3})
        with pytest.raises(ZeroDivisionError):
            thrown.throw(ZeroDivisionError())
        with pytest.raises(ValueError, match="a text"):
            producer.send_fire_and_forget("t", {"n": 3}).throw(ValueError, "a text")
        for used in (closed, thrown):
            with pytest.raises(RuntimeError, match="already awaited"):
                await used
        with pytest.raises(TypeError, match="just-started"):
            producer.send_fire_and_forget("t", {"n": 4}).send(1)
        await producer.flush()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        asyncio.run(go())
    assert values("t") == [{"n": 0}]


def test_a_task_cancelled_before_it_began_sends_nothing() -> None:
    async def go() -> None:
        producer = get_producer()
        await producer.send("t", {"n": 0})
        task = asyncio.create_task(producer.send_fire_and_forget("t", {"n": 1}))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await producer.flush()

    asyncio.run(go())
    assert values("t") == [{"n": 0}]


def test_it_is_used_once() -> None:
    async def go() -> None:
        producer = get_producer()
        await producer.send("t", {"n": 0})
        sending = producer.send_fire_and_forget("t", {"n": 1})
        await sending
        with pytest.raises(RuntimeError, match="already awaited"):
            await sending
        await producer.flush()

    asyncio.run(go())
    assert values("t") == [{"n": 0}, {"n": 1}]


def test_a_loop_of_them_lets_others_run() -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def go() -> None:
        producer = get_producer()
        await producer.send("t", {"n": 0})
        task = asyncio.create_task(other())
        await asyncio.sleep(0)
        before = turns
        for n in range(2560):
            await producer.send_fire_and_forget("t", {"n": n})
        assert turns - before >= 9
        task.cancel()

    asyncio.run(go())


def test_the_slow_ways_and_the_errors() -> None:
    async def go() -> None:
        producer = get_producer()
        await producer.send("t", {"n": 0})
        await producer.send_fire_and_forget("t", {"huge": 2**70})
        await producer.send_fire_and_forget("t", {"n": 1}, key=7)
        await producer.send_fire_and_forget("t", [1, 2])
        await producer.send_fire_and_forget("t", value={"n": 2}, headers={"h": "v"})
        await producer.send_fire_and_forget("another", {"n": 3})
        with pytest.raises(SerializationError, match=r"\$\.a\[1\]"):
            await producer.send_fire_and_forget("t", {"a": [1, object()]})
        with pytest.raises(MessagingError, match="give the message once"):
            await producer.send_fire_and_forget("t")
        with pytest.raises(MessagingError, match="key"):
            await producer.send_fire_and_forget("t", {"n": 1}, key="\ud800")
        with pytest.raises(MessagingError, match="no/topic"):
            await producer.send_fire_and_forget("no/topic", {"n": 1})
        await producer.flush()
        assert values("t") == [{"n": 0}, {"huge": 2**70}, {"n": 1}, [1, 2], {"n": 2}]
        assert records("t")[2].key == b"7" and values("another") == [{"n": 3}]
        await producer.stop()
        await producer.send_fire_and_forget("t", {"n": 4})  # opens it again
        await producer.flush()

    asyncio.run(go())
    assert values("t")[-1] == {"n": 4}


@pytest.mark.parametrize("policy", ["block", "fail", "drop_newest"])
def test_no_room(policy: str) -> None:
    configure_messaging(message_broker="kafka", kafka_bootstrap_servers="127.0.0.1:1",
                        send_timeout_ms=100, buffer_bytes="16MiB", ring_bytes="256KiB",
                        max_message_bytes=10000, batch_bytes=65536, close_timeout_ms=0,
                        full_policy=policy)
    big = {"text": "x" * 1000}

    async def go() -> None:
        producer = get_producer()
        await producer.send_batch_fire_and_forget("t", [big] * 30000)
        offered = producer.ledger()["offered"]
        refused = 0
        attempts = 3000 if policy == "drop_newest" else 30_000
        for _ in range(attempts):  # the flusher may still free some
            try:
                await producer.send_fire_and_forget("t", big)
            except BufferFull:
                refused += 1
                if refused == 3:
                    break
        counts = producer.ledger()
        if policy == "drop_newest":
            assert refused == 0 and counts["refused_dropped"] > 0
            assert counts["offered"] - offered == attempts
        else:
            assert refused == 3
            assert counts["refused_timeout" if policy == "block" else "refused_full"] > 0
        assert counts["offered"] == counts["accepted"] + sum(
            count for name, count in counts.items() if name.startswith("refused_"))

    asyncio.run(go())


def test_cancelled_while_it_waits_for_room() -> None:
    configure_messaging(message_broker="kafka", kafka_bootstrap_servers="127.0.0.1:1",
                        send_timeout_ms=60_000, buffer_bytes="16MiB", ring_bytes="256KiB",
                        max_message_bytes=10000, batch_bytes=65536, close_timeout_ms=0)
    big = {"text": "x" * 1000}

    async def fill(producer: Any) -> None:
        while True:
            await producer.send_fire_and_forget("t", big)

    async def go() -> None:
        producer = get_producer()
        task = asyncio.create_task(fill(producer))
        await asyncio.sleep(0.5)
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        counts = producer.ledger()
        assert counts["pending"] == counts["accepted"] > 0

    asyncio.run(go())


def test_a_loop_that_ends_while_one_waits_for_room_leaks_nothing() -> None:
    configure_messaging(message_broker="kafka", kafka_bootstrap_servers="127.0.0.1:1",
                        send_timeout_ms=60_000, buffer_bytes="16MiB", ring_bytes="256KiB",
                        max_message_bytes=10000, batch_bytes=65536, close_timeout_ms=0)
    big = {"text": "x" * 1000}

    class Seen:
        pass

    async def fill(producer: Any, watched: Any) -> None:
        while True:
            await producer.send_fire_and_forget("t", big)

    def abandon() -> weakref.ref[Seen]:
        loop, watched = asyncio.new_event_loop(), Seen()
        task = loop.create_task(fill(get_producer(), watched))
        loop.run_until_complete(asyncio.sleep(0.5))
        assert not task.done()
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        loop.close()
        return weakref.ref(watched)

    gone = abandon()
    gc.collect()
    assert gone() is None


def test_it_keeps_nothing() -> None:
    message, key = {"n": 1}, "a key of its own"

    async def go() -> tuple[int, ...]:
        producer = get_producer()
        for _ in range(2000):
            await producer.send_fire_and_forget("t", message, key=key)
        with pytest.raises(SerializationError):
            await producer.send_fire_and_forget("t", {"a": object()}, key=key)
        producer.send_fire_and_forget("t", message, key=key).close()
        gc.collect()
        return sys.getrefcount(message), sys.getrefcount(key), sys.getrefcount(None)

    before = asyncio.run(go())
    after = asyncio.run(go())
    assert before[:2] == after[:2] and abs(after[2] - before[2]) < 1000


def test_an_item_that_steps_its_own_sending() -> None:
    sending: Any = None

    class Odd(dict):  # type: ignore[type-arg]
        def items(self) -> Any:
            with pytest.raises(ValueError, match="already executing"):
                sending.send(None)
            with pytest.raises(ValueError, match="already executing"):
                sending.close()
            return super().items()

    class Model:
        def __fspath__(self) -> str:
            Odd().items()
            return "path"

    async def go() -> None:
        nonlocal sending
        producer = get_producer()
        await producer.send("t", {"n": 0})
        os.PathLike.register(Model)
        sending = producer.send_fire_and_forget("t", {"where": Model()})
        await sending
        await producer.flush()

    asyncio.run(go())
    assert values("t") == [{"n": 0}, {"where": "path"}]


# --- lists ---


def sent_batch(items: list[Any]) -> list[Any]:
    get_producer().sync.send_batch_fire_and_forget("t", items)
    get_producer().sync.flush()
    return values("t")


def test_runs_of_every_size_arrive_in_order() -> None:
    for count in (0, 1, 1023, 1024, 1025, 2048, 5000):
        batch = encode_batch([{"n": n} for n in range(count)])
        assert len(batch) == count
    items = [{"n": n} for n in range(5000)]
    assert sent_batch(items) == items


def test_texts_that_fill_blocks_and_texts_larger_than_one() -> None:
    configure_messaging(max_message_bytes=2_000_000, buffer_bytes="256MiB", ring_bytes="16MiB")
    items = [{"n": n, "text": "x" * (n * 7919 % 3000)} for n in range(4000)]
    items[2000] = {"n": 2000, "text": "y" * 700_000}
    items[3500] = {"n": 3500, "text": "z" * 1_500_000}
    assert sent_batch(items) == items


def test_another_kind_of_item_behind_the_first_run() -> None:
    items: list[Any] = [{"n": n} for n in range(3000)]
    items[2500] = ["a", "list"]
    items[2600] = "a string"
    get_producer().sync.send_batch_fire_and_forget("t", items)
    get_producer().sync.flush()
    found = records("t")
    assert len(found) == 3000
    assert found[2500].json() == ["a", "list"] and found[2600].value == b"a string"
    assert found[2999].json() == {"n": 2999}


def test_a_list_that_changes_while_it_is_encoded() -> None:
    items: list[Any] = [{"n": n} for n in range(3000)]

    class Shrinks:
        def __fspath__(self) -> str:
            del items[2000:]
            return "gone"

    os.PathLike.register(Shrinks)
    items[10] = {"n": Shrinks()}
    get_producer().sync.send_batch_fire_and_forget("t", items)
    get_producer().sync.flush()
    found = values("t")
    assert found[10] == {"n": "gone"} and found[1999] == {"n": 1999}
    assert len(found) in (2000, 3000)  # what the list was, or what it became; nothing else


def test_a_list_that_waits_for_room_keeps_its_texts() -> None:
    configure_messaging(buffer_bytes="16MiB", ring_bytes="256KiB", max_message_bytes=10000)
    first = [{"a": n, "text": "x" * 500} for n in range(6000)]
    second = [{"b": n, "text": "y" * 500} for n in range(6000)]

    async def go() -> None:
        producer = get_producer()
        await asyncio.gather(producer.send_batch_fire_and_forget("t", first),
                             producer.send_batch_fire_and_forget("t", second))
        for _ in range(20):  # the blocks of those that are done are used again
            await producer.send_batch_fire_and_forget("u", first[:1000])
        await producer.flush()

    asyncio.run(go())
    found = values("t")
    assert [item for item in found if "a" in item] == first
    assert [item for item in found if "b" in item] == second
    assert values("u") == first[:1000] * 20


def test_an_encoder_that_returns_something_else() -> None:
    with pytest.raises(TypeError, match="must return bytes"):
        _engine.Batch.lines(lambda items: "text", [{}], True)  # type: ignore[arg-type,return-value]
    assert _engine.Batch.lines(lambda items: b"{}\n{}\n", [{}], True) is None
    assert _engine.Batch.lines(lambda items: b"{}", [{}], True) is None
    assert _engine.Batch.lines(lambda items: b"{}\n", [[]], True) is None
    assert _engine.Batch.lines(lambda items: b"{}\n", [[]], False) is not None
