# SPDX-License-Identifier: Apache-2.0
"""Workers with ``exactly_once`` on a real Kafka (SALVO_TEST_KAFKA), read back by other people's
``read_committed`` client: each input has its outputs once, whatever failed meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from salvo import _engine
from salvo.messaging import (
    RetryPolicy,
    Worker,
    WorkerRun,
    configure_messaging,
    errors,
    get_producer,
    transactions,
    worker,
    workers,
)

KAFKA = os.environ.get("SALVO_TEST_KAFKA", "")
pytestmark = pytest.mark.skipif(not KAFKA, reason="SALVO_TEST_KAFKA names no Kafka")
Topics = Callable[[str], str]


@pytest.fixture(autouse=True)
def kafka() -> Iterator[None]:
    workers.unregister_all()
    configure_messaging(message_broker="kafka", kafka_bootstrap_servers=KAFKA)
    yield
    workers.unregister_all()


@pytest.fixture
def topic() -> Topics:
    mark = uuid.uuid4().hex[:10]
    return lambda name: f"{name}-{mark}"


def committed(topic: str, count: int, seconds: float = 30) -> list[Any]:
    """What a read_committed reader sees: until ``count`` have come, and a second longer."""
    from confluent_kafka import Consumer

    reader = Consumer({"bootstrap.servers": KAFKA, "group.id": uuid.uuid4().hex,
                       "auto.offset.reset": "earliest", "isolation.level": "read_committed"})
    reader.subscribe([topic])
    got: list[Any] = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for message in reader.consume(1000, 0.2):
            if message.error() is None:
                got.append(message)
        if len(got) >= count:
            until = min(until, time.monotonic() + 1)
            count = 1 << 60
    reader.close()
    return got


def numbers(messages: list[Any]) -> Counter[int]:
    return Counter(json.loads(message.value())["n"] for message in messages)


async def send(topic: str, count: int, keys: int = 5) -> None:
    await get_producer().send_batch(
        topic, [{"n": n, "key": f"k{n % keys}"} for n in range(count)], key_field="key")


async def handle(name: str, done: Callable[[WorkerRun], bool], seconds: float = 60) -> WorkerRun:
    run = WorkerRun(name)
    task = asyncio.create_task(run.run())
    until = time.monotonic() + seconds
    try:
        while not done(run):
            assert time.monotonic() < until and not task.done(), f"not in time: {run.stats()}"
            await asyncio.sleep(0.02)
    finally:
        await run.stop(10)
    await task
    return run


def has(count: int) -> Callable[[WorkerRun], bool]:
    """The offsets of so many are committed, since it was opened the last time."""
    return lambda run: run.stats().get("committed", 0) >= count


def test_outputs_letters_and_offsets_are_one_transaction(run: Any, topic: Topics) -> None:
    @worker(topic=topic("in"), output_topic=topic("out"), dlq_topic=topic("dead"),
            group_id=topic("g"), exactly_once=True, concurrency=3, max_retries=0)
    async def once(event: dict[str, Any]) -> dict[str, Any] | None:
        await asyncio.sleep(0)
        if event["n"] % 50 == 7:
            raise ValueError("poison")
        return event if event["n"] % 2 else None

    async def main() -> None:
        await send(topic("in"), 300)
        await handle("once", has(300))
        # All of the input is committed: a second run of the group is given nothing.
        again = WorkerRun("once")
        task = asyncio.create_task(again.run())
        await asyncio.sleep(2)
        assert again.stats()["received"] == 0
        await again.stop(10)
        await task

    run(main())
    odd = {n for n in range(300) if n % 2 and n % 50 != 7}
    out = committed(topic("out"), len(odd))
    assert numbers(out) == Counter(odd)
    by_key: dict[bytes, list[int]] = {}
    for message in out:
        by_key.setdefault(message.key(), []).append(json.loads(message.value())["n"])
    assert all(row == sorted(row) for row in by_key.values())
    letters = committed(topic("dead"), 6)
    assert numbers(letters) == Counter({7, 57, 107, 157, 207, 257})
    assert dict(letters[0].headers())["salvo-error"] == b"poison"


def test_batches(run: Any, topic: Topics) -> None:
    class Batches(Worker):
        input_topic = topic("in")
        output_topic = topic("out")
        group_id = topic("g")
        exactly_once = True
        batch_size = 20

        async def process_batch(self, events: list[dict[str, Any]]) -> list[Any] | None:
            if events[0]["n"] == 0:
                raise ValueError("one by one")
            return None if events[0]["n"] == -1 else [e if e["n"] % 3 else None for e in events]

        async def process(self, event: dict[str, Any]) -> dict[str, Any]:
            return event

    async def main() -> None:
        await send(topic("in"), 100, keys=1)
        counts = (await handle("Batches", has(100))).stats()
        assert counts["batches_failed"] == 1 and counts["succeeded"] == 100

    run(main())
    out = numbers(committed(topic("out"), 70))
    assert max(out.values()) == 1 and {n for n in range(100) if n % 3} <= set(out)


def test_a_retry_that_waits_keeps_no_transaction_open(run: Any, topic: Topics) -> None:
    failed: list[float] = []
    transacting: list[tuple[float, float]] = []
    transact = transactions.Transactions._transact

    def timed(self: Any, *arguments: Any) -> None:
        began = time.monotonic()
        transact(self, *arguments)
        transacting.append((began, time.monotonic()))

    @worker(topic=topic("in"), output_topic=topic("out"), group_id=topic("g"), exactly_once=True,
            retry_policy=RetryPolicy(3, "fixed", 1.0))
    async def once(event: dict[str, Any]) -> dict[str, Any]:
        if event["n"] == 10 and len(failed) < 2:
            failed.append(time.monotonic())
            raise ValueError
        return event

    async def main() -> None:
        await send(topic("in"), 30, keys=30)
        await handle("once", has(30))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transactions.Transactions, "_transact", timed)
        run(main())
    assert len(failed) == 2 and failed[1] - failed[0] >= 1.0
    assert not any(began <= failed[0] and failed[1] <= end for began, end in transacting)
    assert numbers(committed(topic("out"), 30)) == Counter(range(30))


class Spoilt:
    """A transaction whose commits fail as told, before or after the broker did it."""

    def __init__(self, inner: Any, plan: list[Any]) -> None:
        self._inner, self._plan = inner, plan

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def commit(self, *arguments: Any) -> None:
        error = self._plan.pop(0) if self._plan else None
        if error is not None:
            raise error
        self._inner.commit(*arguments)


def test_an_aborted_batch_is_handled_again_and_seen_once(
        run: Any, topic: Topics, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = [errors.TransientError("on purpose"), None, errors.TransientError("again")]
    opened = _engine.Transaction
    monkeypatch.setattr(_engine, "Transaction",
                        lambda *arguments: Spoilt(opened(*arguments), plan))
    handled: Counter[int] = Counter()

    @worker(topic=topic("in"), output_topic=topic("out"), group_id=topic("g"), exactly_once=True)
    async def once(event: dict[str, Any]) -> dict[str, Any]:
        handled[event["n"]] += 1
        await asyncio.sleep(0.001)
        return event

    async def main() -> None:
        await send(topic("in"), 200)
        await handle("once", lambda run: not plan and has(200)(run))

    run(main())
    assert max(handled.values()) > 1, "an abort handles its batch again"
    assert numbers(committed(topic("out"), 200)) == Counter(range(200))


def test_a_fatal_error_opens_the_whole_worker_anew(
        run: Any, topic: Topics, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_FIRST_PAUSE", 0.1)
    plan: list[Any] = [None, errors.FatalError("fenced, on purpose")]
    opened = _engine.Transaction
    made: list[Any] = []

    def open_it(*arguments: Any) -> Any:
        made.append(Spoilt(opened(*arguments), plan))
        return made[-1]

    monkeypatch.setattr(_engine, "Transaction", open_it)

    @worker(topic=topic("in"), output_topic=topic("out"), group_id=topic("g"), exactly_once=True)
    async def once(event: dict[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(0.001)
        return event

    async def main() -> None:
        await send(topic("in"), 300)
        first: list[int] = []

        def done(run: WorkerRun) -> bool:
            if len(made) == 1:
                first[:] = [run.stats().get("committed", 0)]
            return len(made) == 2 and has(300 - first[0])(run) and run.stats()["received"] > 0

        await handle("once", done)

    run(main())
    assert numbers(committed(topic("out"), 300)) == Counter(range(300))


def test_a_later_transaction_of_the_same_id_fences_the_worker(run: Any, topic: Topics) -> None:
    """What was fenced aborts; opened anew, it fences the other in turn, and loses nothing."""

    @worker(topic=topic("in"), output_topic=topic("out"), group_id=topic("g"), exactly_once=True,
            transactional_id=topic("id"))
    async def once(event: dict[str, Any]) -> dict[str, Any]:
        return event

    async def main() -> None:
        await send(topic("in"), 50)
        run_ = WorkerRun("once")
        task = asyncio.create_task(run_.run())
        await _until(lambda: has(50)(run_))
        config = workers.settings.effective()
        other = await asyncio.to_thread(_engine.Transaction, config, topic("id"))
        await send(topic("in"), 50)
        await _until(lambda: run_.reopened == 1 and run_.stats()["received"] == 50 and
                     has(50)(run_))
        await run_.stop(10)
        await task
        with pytest.raises(errors.MessagingError):
            await asyncio.to_thread(_use, other, topic("out"))
        other.close(5)

    run(main())
    assert numbers(committed(topic("out"), 100)) == Counter({n: 2 for n in range(50)})


def _use(transaction: Any, topic: str) -> None:
    transaction.begin()
    transaction.send(topic, b'{"n": -1}', None, (), 10)
    transaction.commit(None, [], 10)


async def _until(condition: Callable[[], bool], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not come true in time"
        await asyncio.sleep(0.02)


def test_what_the_broker_refuses_is_a_dead_letter_and_stops_nothing(
        run: Any, topic: Topics) -> None:
    """Over the broker's limit and under ours: the whole transaction is refused, then each message
    by itself, and only the one that is to blame is given up."""
    configure_messaging(max_message_bytes=3_000_000)

    @worker(topic=topic("in"), output_topic=topic("out"), dlq_topic=topic("dead"),
            group_id=topic("g"), exactly_once=True)
    async def once(event: dict[str, Any]) -> dict[str, Any]:
        return {"n": event["n"], "pad": os.urandom(900_000).hex() if event["n"] == 5 else ""}

    async def main() -> None:
        await send(topic("in"), 12)
        await handle("once", has(12))

    run(main())
    assert numbers(committed(topic("out"), 11)) == Counter(set(range(12)) - {5})
    assert numbers(committed(topic("dead"), 1)) == Counter({5})


def test_two_members_share_and_hand_over(run: Any, topic: Topics) -> None:
    """A member joins and leaves while both work: nothing lost, nothing doubled."""
    topics = topic("in")

    class Once(Worker):
        input_topic = topics
        output_topic = topic("out")
        group_id = topic("g")
        exactly_once = True
        concurrency = 4

        async def process(self, event: dict[str, Any]) -> dict[str, Any]:
            await asyncio.sleep(0.002)
            return event

    sent = 0
    enough = asyncio.Event()

    async def keep_sending() -> None:
        nonlocal sent
        while not enough.is_set():
            await get_producer().send_batch(
                topics, [{"n": n, "key": f"k{n % 40}"} for n in range(sent, sent + 50)],
                key_field="key")
            sent += 50
            await asyncio.sleep(0.02)

    async def main() -> None:
        await asyncio.to_thread(make_partitions, topics, 4)
        sending = asyncio.create_task(keep_sending())
        first, second = WorkerRun(Once), WorkerRun(Once)
        tasks = [asyncio.create_task(first.run())]
        await _until(lambda: has(200)(first))
        tasks.append(asyncio.create_task(second.run()))
        await _until(lambda: has(200)(second))
        await first.stop(10)
        enough.set()
        await sending
        done = first.stats()["committed"]
        await _until(lambda: has(sent - done)(second), 90)
        await second.stop(10)
        await asyncio.gather(*tasks)

    run(main())
    assert numbers(committed(topic("out"), sent)) == Counter(range(sent))


def make_partitions(topic: str, count: int) -> None:
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": KAFKA})
    for made in admin.create_topics([NewTopic(topic, count, 1)]).values():
        made.result()
