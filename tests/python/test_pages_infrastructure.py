# SPDX-License-Identifier: Apache-2.0
"""The classes that the documentation's infrastructure page prints, and those that core.messaging
offers in their place: the same names and signatures, and each works where the other does. The
printed ones run as printed, on aiokafka and aio_pika, against a real Kafka and RabbitMQ where
SALVO_TEST_KAFKA and SALVO_TEST_RABBITMQ name them."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import inspect
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from typing import Any

import core.messaging
import pages
import pytest
from pages_brokers import KAFKA, needs_kafka, start_anew
from reading import fresh, until
from salvo import messaging
from salvo.messaging import configure_messaging, get_producer
from salvo.messaging.testing import records

BLOCKS = pages.needed()
HEADINGS = {"Kafka Producer": "KafkaProducer", "Kafka Consumer": "KafkaConsumer",
            "RabbitMQ Queue": "RabbitMQQueue", "Event Publishing": "EventPublisher",
            "Task Worker": "TaskWorker"}
COVERS = {f"messaging-infrastructure:{heading}:1" for heading in HEADINGS}
RABBITMQ = os.environ.get("SALVO_TEST_RABBITMQ", "")
WARNINGS: list[Any] = []


class Logger:
    """As structlog's, which the page uses."""

    def error(self, event: str, **facts: Any) -> None:
        WARNINGS.append((event, facts))

    warning = error


@dataclasses.dataclass
class Paid:
    event_id: str
    event_type: str
    occurred_at: datetime
    aggregate_id: str


def printed() -> dict[str, Any]:
    """The classes as the page prints them; each block runs after those above it."""
    WARNINGS.clear()
    names: dict[str, Any] = {"Callable": Callable, "Awaitable": Awaitable, "logger": Logger(),
                             "asdict": dataclasses.asdict, "DomainEvent": Paid, "json": json}
    for heading in HEADINGS:
        exec(pages.compiled(BLOCKS[f"messaging-infrastructure:{heading}:1"]), names)
    return names


def ours_and_printed(name: str) -> tuple[Any, Any]:
    return getattr(core.messaging, name), printed()[name]


@pytest.mark.parametrize("name", HEADINGS.values())
def test_the_same_signatures(name: str) -> None:
    ours, theirs = ours_and_printed(name)
    assert ours is not theirs and ours.__name__ == theirs.__name__
    methods = [method for method in vars(theirs) if inspect.isfunction(vars(theirs)[method])]
    assert "__init__" in methods and len(methods) >= 2
    for method in methods:
        found, wanted = getattr(ours, method), getattr(theirs, method)
        assert inspect.iscoroutinefunction(found) == inspect.iscoroutinefunction(wanted)
        parameters = inspect.signature(found).parameters
        for (name_of, parameter), want in zip(
                parameters.items(), inspect.signature(wanted).parameters.values(), strict=False):
            assert (name_of, parameter.kind) == (want.name, want.kind)
            assert want.default in (want.empty, parameter.default)
        more = list(parameters.values())[len(inspect.signature(wanted).parameters):]
        assert all(each.default is not each.empty or each.kind in (each.VAR_KEYWORD,)
                   for each in more)


def test_both_publishers_send_the_same() -> None:
    event = Paid("1", "paid", datetime(2026, 1, 1), "order-1")

    async def go() -> None:
        for publisher in ours_and_printed("EventPublisher"):
            await publisher(get_producer()).publish(event)

    asyncio.run(go())
    ours, theirs = records("events.paid")
    assert (theirs.key, theirs.value) == (ours.key, ours.value)


class Queue:
    """What a task worker is made with."""

    async def connect(self) -> None:
        pass

    async def consume(self, handler: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
        for message in ({"type": "add", "data": {"n": 1}}, {"type": "?"}, {}, {"type": "add"}):
            await handler(message)


def test_both_task_workers_do_the_same(caplog: pytest.LogCaptureFixture) -> None:
    done: list[Any] = []

    async def add(data: dict[str, Any]) -> None:
        done.append(data)

    async def go() -> None:
        for cls in ours_and_printed("TaskWorker"):
            worker = cls(Queue())
            worker.register("add", add)
            await worker.start()

    asyncio.run(go())
    assert done == [{"n": 1}, {}] * 2
    assert [facts for _, facts in WARNINGS] == [{"task_type": "?"}, {"task_type": None}]
    assert len(caplog.records) == 2 and "'?'" in caplog.records[0].getMessage()


@contextlib.asynccontextmanager
async def consuming(consumer: Any, handler: Any) -> AsyncIterator[None]:
    await consumer.start()
    inner = getattr(consumer, "_consumer", None)
    if inner is not None:  # aiokafka's, which begins with what comes once it has a position
        for place in inner.assignment():
            await inner.position(place)
    task = asyncio.create_task(consumer.consume(handler))
    try:
        yield
    finally:
        if inner is None:
            await consumer.stop()
            await asyncio.wait_for(task, 30)
        else:
            task.cancel()
            await inner.stop()


@needs_kafka
def test_producers_and_consumers_of_both_kinds_on_kafka() -> None:
    topic, got = fresh("printed"), {}

    async def go() -> None:
        configure_messaging(message_broker="kafka", kafka_bootstrap_servers=KAFKA)
        await asyncio.to_thread(start_anew, fresh("g"), [topic])
        names = printed()
        async with contextlib.AsyncExitStack() as stack:
            for cls in (messaging.KafkaConsumer, names["KafkaConsumer"]):
                got[cls] = seen = []

                async def handle(message: Any, seen: list[Any] = seen) -> None:
                    seen.append(message)
                    if message["n"] == 0:
                        raise LookupError("told, and the next one comes")

                await stack.enter_async_context(consuming(cls(KAFKA, fresh("g"), [topic]), handle))
            for cls in (messaging.KafkaProducer, names["KafkaProducer"]):
                producer = cls(KAFKA)
                await producer.start()
                await producer.send(topic, {"n": 0, "by": cls.__module__}, "key")
                await producer.send(topic=topic, value={"n": 1, "by": cls.__module__}, key=None)
                await producer.stop()
            await until(lambda: all(len(seen) == 4 for seen in got.values()), 60)

    asyncio.run(go())
    ours, theirs = got.values()
    assert ours == theirs and [message["n"] for message in ours] == [0, 1, 0, 1]
    assert [key.key for key in records(topic)] == [b"key", None] * 2
    told = ("message_processing_failed", {"error": "told, and the next one comes"})
    assert WARNINGS == [told] * 2  # the printed consumer's; ours logs


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # aio_pika's own
@pytest.mark.skipif(not RABBITMQ, reason="SALVO_TEST_RABBITMQ names no RabbitMQ")
@pytest.mark.parametrize("workers", ["ours", "printed"])
@pytest.mark.parametrize("consumers", ["ours", "printed"])
@pytest.mark.parametrize("publishers", ["ours", "printed"])
def test_queues_and_task_workers_of_both_kinds(
    publishers: str, consumers: str, workers: str
) -> None:
    kinds = {"ours": vars(messaging), "printed": printed()}
    name, done = fresh("tasks"), []

    async def add(data: dict[str, Any]) -> None:
        done.append(data["n"])

    async def go() -> None:
        to = kinds[publishers]["RabbitMQQueue"](RABBITMQ, name)
        await to.connect()
        queue = kinds[consumers]["RabbitMQQueue"](RABBITMQ, name)
        await queue.connect()
        worker = kinds[workers]["TaskWorker"](queue)
        worker.register("add", add)
        running = asyncio.create_task(worker.start())
        for n in range(5):
            await to.publish({"type": "add", "data": {"n": n}})
        await until(lambda: len(done) == 5)
        for each, kind in ((queue, consumers), (to, publishers)):
            await (each.close() if kind == "ours" else each._connection.close())
        running.cancel()
        await asyncio.wait([running], timeout=30)
        assert running.done()

    asyncio.run(go())
    gc.collect()  # what aio_pika left of the loop, now
    assert done == list(range(5))
