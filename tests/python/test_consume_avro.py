# SPDX-License-Identifier: Apache-2.0
"""Consumers of topics whose class says value_serializer = "avro", with the tests' registry."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel
from salvo.messaging import (
    AvroModel,
    Topic,
    avro_wire,
    configure_messaging,
    create_consumer,
    get_producer,
    publish,
)
from salvo.messaging.testing import records

import pages
from reading import until

sys.path.insert(0, str(pages.REPOSITORY / "tests" / "registry"))
import server  # noqa: E402


class User(AvroModel):
    user_id: int
    email: str


class Plain(BaseModel):
    user_id: int


@pytest.fixture(autouse=True)
def registry() -> Iterator[server.Server]:
    with server.Server() as started:
        configure_messaging(kafka_schema_registry_url=started.url)
        yield started
    avro_wire._wires.clear()
    avro_wire._current = None


@pytest.fixture(autouse=True)
def users() -> type[Topic]:
    class Users(Topic):
        name = "users"
        schema = User
        value_serializer = "avro"

    return Users


def test_handlers_and_loops_get_what_the_bytes_hold(users: type[Topic]) -> None:
    got: list[Any] = []

    async def go() -> None:
        await publish(users, {"user_id": 1, "email": "a@b.c"}, key="k")
        async with create_consumer("g", users, got.append):
            await until(lambda: got)
        async with create_consumer("h", users, got.append, schema=Plain):
            await until(lambda: len(got) == 2)
        async with create_consumer("i", users) as consumer:
            message = await anext(consumer)
            assert message == {"user_id": 1, "email": "a@b.c"} and message.key == b"k"
            assert message.value is not None and message.value[:1] == b"\0"
            assert await consumer.ack(message)

    asyncio.run(go())
    assert got == [{"user_id": 1, "email": "a@b.c"}, Plain(user_id=1)]


@pytest.mark.parametrize("value", [b"{}", b"", b"\0", b"\0\0\0\0\1\xff", b"\0\0\0\x03\xe8\0"])
def test_what_is_no_avro_is_poison(users: type[Topic], value: bytes) -> None:
    got: list[Any] = []

    async def go() -> None:
        await publish("users", value)
        await publish(users, {"user_id": 1, "email": "a@b.c"})
        async with create_consumer("g", users, got.append, dlq_topic="dead", max_retries=3):
            await until(lambda: got)
        await get_producer().flush()

    asyncio.run(go())
    (letter,) = records("dead")
    assert letter.value == value
    assert dict(letter.headers)["salvo-error-type"] == b"BadMessage"


def test_a_registry_that_is_away_is_waited_for(
    users: type[Topic], registry: server.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    from salvo.messaging import decoding
    from salvo.messaging.errors import RegistryError

    monkeypatch.setattr(decoding, "_FIRST_PAUSE", 0.05)
    asked: list[int] = []
    real = avro_wire.decode_confluent_soon

    async def away(data: bytes, model: Any = None) -> Any:
        asked.append(1)
        if len(asked) < 4:
            raise RegistryError("the registry is away", 503)
        return await real(data, model)

    monkeypatch.setattr(avro_wire, "decode_confluent_soon", away)
    got: list[Any] = []

    async def go() -> None:
        await publish(users, {"user_id": 1, "email": "a@b.c"})
        async with create_consumer("g", users, got.append) as consumer:
            await until(lambda: got)
            assert consumer.stats()["failed"] == 0

    asyncio.run(go())
    assert len(asked) == 4
