# SPDX-License-Identifier: Apache-2.0
"""What the tests of consumers share: brokers, names, waiting."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from salvo.messaging import (
    Consumer,
    configure_messaging,
    consumers_for,
    create_consumer,
    publish,
    stop_all_consumers,
)

ADDRESSES = {name: os.environ.get(f"SALVO_TEST_{name.upper()}", "")
             for name in ("kafka", "redis", "rabbitmq")}
KEYS = {"kafka": "kafka_bootstrap_servers", "redis": "redis_url", "rabbitmq": "rabbitmq_url"}


@pytest.fixture(params=["memory", "kafka", "redis", "rabbitmq"])
def broker(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    if name != "memory":
        if not ADDRESSES[name]:
            pytest.skip(f"SALVO_TEST_{name.upper()} names no broker")
        configure_messaging(message_broker=name, **{KEYS[name]: ADDRESSES[name]},
                            kafka_auto_commit_interval_ms=100)
    return name


def fresh(name: str = "py") -> str:
    return f"{name}-{uuid.uuid4().hex[:12]}"


async def until(condition: Callable[[], Any], timeout: float = 30.0) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        await asyncio.sleep(0.01)


async def filled(broker: str, group: str, topic: str, count: int) -> None:
    """Messages that nobody has read. RabbitMQ keeps them only for a queue that is there: the first
    consumer makes it."""
    async with contextlib.AsyncExitStack() as stack:
        if broker == "rabbitmq":
            await stack.enter_async_context(create_consumer(group, [topic]))
        for n in range(count):
            await publish(topic, {"n": n}, key="k")


def failing_at(number: int, got: list[Any]) -> Callable[[Any], Awaitable[None]]:
    async def handle(message: Any) -> None:
        if message["n"] == number:
            raise RuntimeError("no")
        got.append(message["n"])

    return handle


@contextlib.asynccontextmanager
async def all_running(**options: Any) -> AsyncIterator[list[Consumer]]:
    """What ``core consumer`` runs."""
    consumers = consumers_for(**options)
    for each in consumers:
        await each.start()
    try:
        yield consumers
    finally:
        await stop_all_consumers(5)


def stats(consumers: list[Consumer], *names: str) -> Any:
    counted = [sum(each.stats()[name] for each in consumers) for name in names]
    return counted[0] if len(names) == 1 else tuple(counted)
