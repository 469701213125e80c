# SPDX-License-Identifier: Apache-2.0
"""The contestants of avro.py: what turns a value into bytes with Confluent's header. All of them
must make the same bytes before any of them is measured."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import fastavro
import msgspec
from pydantic import BaseModel
from salvo.messaging import configure_messaging, get_producer
from salvo.messaging.avro_compile import compiled

HEADER = b"\0\0\0\0\1"
FLAT = {"type": "record", "name": "Click", "fields": [
    {"name": "id", "type": "long"}, {"name": "user", "type": "string"},
    {"name": "action", "type": "string"}, {"name": "page", "type": "string"},
    {"name": "ts", "type": "long"}, {"name": "ok", "type": "boolean"},
    {"name": "score", "type": "double"}]}
NESTED = {"type": "record", "name": "Order", "fields": [
    {"name": "id", "type": "long"}, {"name": "note", "type": ["null", "string"]},
    {"name": "lines", "type": {"type": "array", "items": {
        "type": "record", "name": "Line", "fields": [
            {"name": "sku", "type": "string"}, {"name": "price", "type": "double"},
            {"name": "count", "type": "int"}]}}},
    {"name": "labels", "type": {"type": "map", "values": "string"}}]}
CLICK = {"id": 1_000_001, "user": "user-0001", "action": "click", "page": "/p/001",
         "ts": 1_700_000_001, "ok": True, "score": 1.5}
ORDER = {"id": 7, "note": "by hand", "labels": {"a": "b", "c": "d"},
         "lines": [{"sku": f"sku-{i}", "price": i + 0.5, "count": i} for i in range(5)]}


class Model(BaseModel):
    """CLICK as pydantic has it."""

    id: int
    user: str
    action: str
    page: str
    ts: int
    ok: bool
    score: float


class Struct(msgspec.Struct):
    """CLICK as msgspec has it."""

    id: int
    user: str
    action: str
    page: str
    ts: int
    ok: bool
    score: float


Encode = Callable[[Any], bytes]


def by_salvo(schema: Any) -> Encode:
    """The encoder of the producing path."""
    encode = compiled(schema).encode
    return lambda value: encode(value, HEADER)


def by_fastavro(schema: Any) -> Encode:
    """The usual lines around schemaless_writer."""
    parsed = fastavro.parse_schema(schema)
    write, new = fastavro.schemaless_writer, io.BytesIO

    def encode(value: Any) -> bytes:
        stream = new()
        stream.write(HEADER)
        write(stream, parsed, value)
        return stream.getvalue()

    return encode


def by_confluent(schema: Any) -> Encode | None:
    """AvroSerializer with a registry in memory; None where this version has none."""
    try:
        from confluent_kafka.schema_registry import SchemaRegistryClient
        from confluent_kafka.schema_registry.avro import AvroSerializer
        from confluent_kafka.serialization import MessageField, SerializationContext

        client = SchemaRegistryClient.new_client({"url": "mock://bench"})
        serialize = AvroSerializer(client, json.dumps(schema))
        context = SerializationContext("bench", MessageField.VALUE)
        serialize(CLICK, context)
    except Exception as error:  # an extra is missing, or there is no such registry
        print(f"bench avro: confluent: left out: {error}", file=sys.stderr)
        return None
    return lambda value: serialize(value, context)  # type: ignore[no-any-return]


def sending(encode: Encode) -> Callable[[int], Awaitable[None]]:
    """Encode, and hand over to a producer that throws away."""
    producer = get_producer()

    async def run(count: int) -> None:
        send = producer.send_fire_and_forget
        for _ in range(count):
            await send("bench", encode(CLICK))

    return run


def contestants() -> dict[str, Callable[[int], None]]:
    """What is measured, by name; each runs a number of messages."""

    configure_messaging(message_broker="null")

    def loop(encode: Encode, value: Any) -> Callable[[int], None]:
        def run(count: int) -> None:
            for _ in range(count):
                encode(value)

        return run

    salvo, fast = by_salvo(FLAT), by_fastavro(FLAT)
    assert salvo(CLICK) == fast(CLICK) == salvo(Model(**CLICK)) == salvo(Struct(**CLICK))
    assert by_salvo(NESTED)(ORDER) == by_fastavro(NESTED)(ORDER)
    found = {
        "salvo_dict": loop(salvo, CLICK), "fastavro_dict": loop(fast, CLICK),
        "salvo_pydantic": loop(salvo, Model(**CLICK)),
        "fastavro_pydantic": loop(lambda model: fast(model.model_dump()), Model(**CLICK)),
        "salvo_msgspec": loop(salvo, Struct(**CLICK)),
        "salvo_nested": loop(by_salvo(NESTED), ORDER),
        "fastavro_nested": loop(by_fastavro(NESTED), ORDER)}
    confluent = by_confluent(FLAT)
    if confluent is not None:
        assert confluent(CLICK)[5:] == salvo(CLICK)[5:]
        found["confluent_dict"] = loop(confluent, CLICK)
    runner = asyncio.Runner()
    for name, encode in (("salvo_sent", salvo), ("fastavro_sent", fast)):
        run = sending(encode)
        found[name] = lambda count, run=run: runner.run(run(count))  # type: ignore[misc]
    return found
