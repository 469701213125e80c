# SPDX-License-Identifier: Apache-2.0
"""The runner's batches, and what it sends to the memory broker: outputs, dead letters, hooks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from salvo.messaging import get_producer, testing
from salvo.messaging.deadletter import DeadLetter, Write
from salvo.messaging.errors import MessageTooLarge, Unreachable
from salvo.messaging.retry import RetryPolicy
from salvo.messaging.runner import Runner
from sources import FakeSource, message, within

Run = Callable[[Any], Any]
SOON = RetryPolicy(max_retries=3, backoff="fixed", initial_delay=0.005)

# --- batches ---


def batches(**options: Any) -> tuple[FakeSource, Runner, list[list[int]], list[int]]:
    """100 messages in batches of 10; number 42 fails."""
    many: list[list[int]] = []
    single: list[int] = []

    async def process_batch(messages: list[Any]) -> list[int]:
        many.append([each.offset for each in messages])
        if any(each.offset == 42 for each in messages):
            raise ValueError("42")
        return [each.offset for each in messages]

    async def process(each: Any) -> int:
        single.append(each.offset)
        if each.offset == 42:
            raise ValueError("42")
        return int(each.offset)

    source = FakeSource([message(n, b"%d" % (n % 5)) for n in range(100)])
    runner = Runner(source, process, name="t", batch_size=10, process_batch=process_batch,
                    **options)
    return source, runner, many, single


def test_a_batch_that_fails_is_handled_message_by_message(run: Run) -> None:
    async def main() -> None:
        source, runner, many, single = batches()
        await asyncio.wait_for(runner.run(), 10)
        assert max(map(len, many)) == 10 and sum(many, []) == list(range(100))
        assert single == list(range(40, 50)) and sorted(source.acked) == list(range(100))
        assert (runner.failed, runner.batches_failed, runner.succeeded) == (1, 1, 99)

    run(main())


def test_retries_of_a_batch_keep_the_order_of_a_key(run: Run) -> None:
    async def main() -> None:
        source, runner, many, single = batches(retry=SOON)
        await asyncio.wait_for(runner.run(), 10)
        assert sorted(source.acked) == list(range(100))
        # 47 has the key of 42, which is tried four times before it is given up.
        assert single.count(42) == 4 and 47 not in single[:single.index(42) + 1]
        handled = [n for n in sum(many, []) + single if n % 5 == 2 and n > 42]
        assert single.index(42) < len(single) and handled

    run(main())


@pytest.mark.parametrize("result", [[1], 7, "abc", [1, 2, 3, 4]])
def test_results_of_a_batch_must_be_as_many_as_its_messages(run: Run, result: Any) -> None:
    async def process_batch(messages: list[Any]) -> Any:
        return result

    async def process(each: Any) -> None:
        pass

    async def main() -> None:
        runner = Runner(FakeSource([message(n) for n in range(3)]), process, name="t",
                        batch_size=3, process_batch=process_batch)
        await asyncio.wait_for(runner.run(), 5)
        assert runner.batches_failed == 1 and runner.succeeded == 3

    run(main())


# --- outputs and dead letters (sent to the memory broker) ---


def to_out(each: Any, result: Any) -> Write | None:
    return None if result is None else Write("out", b"%d" % result, each.key)


def test_outputs_go_out_in_order_and_before_their_input_is_acknowledged(run: Run) -> None:
    async def process(each: Any) -> int | None:
        return each.offset if each.offset % 2 else None

    async def main() -> None:
        source = FakeSource([message(n, b"key") for n in range(300)])

        def check(messages: list[Any]) -> None:
            there = {int(r.value or b"") for r in testing.records("out")}
            assert {each.offset for each in messages if each.offset % 2} <= there

        source.on_ack = check
        await asyncio.wait_for(Runner(source, process, name="t", output=to_out).run(), 30)
        assert len(source.acked) == 300

    run(main())
    sent = testing.records("out")
    assert [int(r.value or b"") for r in sent] == list(range(1, 300, 2))
    assert {r.key for r in sent} == {b"key"}


class Late:
    """A producer whose broker answers when it is told to; its own deliveries."""

    def __init__(self) -> None:
        self.answers: list[Any] = []
        self.answer = asyncio.Event()

    def post(self, topic: str, value: Any, key: Any, headers: Any) -> Any:

        class Delivery:
            status = 1

            def __await__(inner) -> Any:
                return self.answer.wait().__await__()

        self.answers.append((topic, value))
        return Delivery()


@pytest.mark.parametrize("topic", ["dead", "out"])
def test_an_input_waits_for_what_was_sent_for_it_and_nothing_else_does(
        run: Run, topic: str) -> None:
    async def process(each: Any) -> int | None:
        if topic == "dead" and each.offset % 2:
            raise ValueError
        return each.offset if each.offset % 2 else None

    async def main() -> None:
        late = Late()
        source = FakeSource([message(n, b"k") for n in range(100)])
        runner = Runner(source, process, name="t", output=to_out, producer=late,  # type: ignore
                        dead_letter=DeadLetter("dead"))
        task = asyncio.create_task(runner.run())
        await within(5, lambda: len(source.acked) == 50)
        assert all(n % 2 == 0 for n in source.acked)
        assert [to for to, _ in late.answers] == [topic] * 50  # sent, without waiting in between
        await asyncio.sleep(0.2)
        assert len(source.acked) == 50
        late.answer.set()
        await asyncio.wait_for(task, 5)
        assert source.acked[50:] == list(range(1, 100, 2))

    run(main())


def test_a_dead_letter_is_the_original_with_the_facts(run: Run) -> None:
    async def process(each: Any) -> None:
        raise LookupError("é" * 2000)

    value, headers = b"\xff\x00 no JSON", {"mine": b"1", "none": None, "salvo-error": b"older"}

    async def main() -> None:
        odd = message(41, b"\x00key", partition=3, headers=headers)
        odd = type(odd)(topic="in", partition=3, offset=41, timestamp=1234, key=b"\x00key",
                        value=value, headers=headers, id=42, deliveries=1)
        source = FakeSource([odd])
        runner = Runner(source, process, name="t", retry=SOON, dead_letter=DeadLetter("dead"))
        await asyncio.wait_for(runner.run(), 10)
        assert runner.stats()["dead_lettered"] == 1 and source.acked == [41]

    run(main())
    (letter,) = testing.records("dead")
    facts = dict(letter.headers)
    assert (letter.value, letter.key) == (value, b"\x00key")
    assert (facts["mine"], facts["none"]) == (b"1", None)
    assert facts["salvo-error-type"] == b"LookupError" and facts["salvo-attempts"] == b"4"
    assert facts["salvo-error"] == ("é" * 512).encode()
    assert facts["salvo-original-topic"] == b"in" and facts["salvo-original-partition"] == b"3"
    assert facts["salvo-original-offset"] == b"41"
    assert facts["salvo-original-timestamp"] == b"1234"
    assert (facts["salvo-failed-at"] or b"").endswith(b"Z") and len(facts) == 10


class Broken:
    """A producer to whose broken topics nothing can be sent for a while."""

    def __init__(self, *topics: str) -> None:
        self.topics = set(topics)

    def post(self, topic: str, value: Any, key: Any, headers: Any) -> None:
        """There is no room now."""

    async def send(self, topic: str, value: Any, **options: Any) -> Any:
        if topic in self.topics:
            raise Unreachable("no broker answered")
        return await get_producer().send(topic, value, **options)


@pytest.mark.parametrize("topic", ["dead", "out"])
def test_what_cannot_be_sent_stops_its_acknowledgement_not_the_process(
        run: Run, monkeypatch: pytest.MonkeyPatch, topic: str) -> None:
    monkeypatch.setattr("salvo.messaging.outbox._FIRST_PAUSE", 0.02)

    async def process(each: Any) -> int | None:
        if each.offset == 3:
            if topic == "dead":
                raise ValueError
            return 3
        return None

    async def main() -> None:
        broken = Broken(topic)
        source = FakeSource([message(n, b"k") for n in range(10)])
        runner = Runner(source, process, name="t", dead_letter=DeadLetter("dead"), output=to_out,
                        producer=broken)  # type: ignore[arg-type]
        task = asyncio.create_task(runner.run())
        await within(5, lambda: source.acked == [0, 1, 2, 4, 5, 6, 7, 8, 9])
        await asyncio.sleep(0.1)
        assert runner.stats()["blocked"] == 1 and not task.done()
        broken.topics.clear()
        await asyncio.wait_for(task, 10)
        assert source.acked[-1] == 3

    run(main())
    assert len(testing.records(topic)) == 1


def test_an_output_that_is_too_large_is_a_dead_letter(run: Run) -> None:
    attempts = 0

    async def process(each: Any) -> int:
        nonlocal attempts
        attempts += 1
        return int(each.offset)

    def huge(each: Any, result: int) -> Write:
        return Write("out", b"x" * (2_000_000 if result == 1 else 5), each.key)

    async def main() -> None:
        source = FakeSource([message(n) for n in range(3)])
        runner = Runner(source, process, name="t", retry=SOON, output=huge,
                        dead_letter=DeadLetter("dead"))
        await asyncio.wait_for(runner.run(), 10)
        assert sorted(source.acked) == [0, 1, 2] and runner.succeeded == 2

    run(main())
    (letter,) = testing.records("dead")
    assert dict(letter.headers)["salvo-error-type"] == MessageTooLarge.__name__.encode()
    assert attempts == 3 and len(testing.records("out")) == 2


def test_a_hook_that_fails_harms_nobody(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    calls: list[str] = []

    async def process(each: Any) -> None:
        if each.offset == 1:
            raise ValueError

    def hook(each: Any, what: Any) -> None:
        calls.append(f"{each.offset} {type(what).__name__} {threading.current_thread().name}")
        raise RuntimeError("in a hook")

    async def main() -> None:
        source = FakeSource([message(n) for n in range(3)])
        await Runner(source, process, name="t", on_error=hook, on_success=hook).run()
        assert source.acked == [0, 1, 2]

    run(main())
    assert [call.rpartition(" ")[0] for call in calls] == [
        "0 NoneType", "1 ValueError", "2 NoneType"]
    assert all("salvo-handler" in call for call in calls) and "in a hook" in caplog.text
