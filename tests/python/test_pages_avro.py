# SPDX-License-Identifier: Apache-2.0
"""Every block of the documentation's pages about Avro runs as printed, against the tests' Schema
Registry, on ``memory`` and on a real Kafka where SALVO_TEST_KAFKA names one; fastavro and
Confluent's own deserialiser read what the blocks wrote."""

from __future__ import annotations

import asyncio
import io
import json
import socket
import sys
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import core.messaging
import fastavro
import pages
import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext
from pages_brokers import KAFKA, needs_kafka, records
from pages_brokers import page_broker as page_broker
from pydantic import BaseModel
from salvo.messaging import (
    SchemaError,
    configure_messaging,
    get_producer,
    settings,
    stop_all_producers,
)

sys.path.insert(0, str(pages.REPOSITORY / "tests" / "registry"))
import server  # noqa: E402

BLOCKS = pages.needed()
GUIDE = "messaging-guide:{}:{}"
GENERATED = GUIDE.format("Auto-Geração a partir de Pydantic", 1)
PRINTED_SCHEMA = GUIDE.format("Auto-Geração a partir de Pydantic", 2)
BARE = GUIDE.format("Serialização Avro", 1)
DECORATED = GUIDE.format("Decorator @avro_schema", 1)
SENT = GUIDE.format("Publicar com Avro (Confluent)", 1)
DEFINED = "messaging-overview:Define Schema:1"
BY_CLASS = "messaging-overview:Send with Avro:1"
INCOMPLETE = "kafka-backends:Avro e Schema Registry (Apenas Confluent):1"
COVERS = {GENERATED, PRINTED_SCHEMA, BARE, DECORATED, SENT, DEFINED, BY_CLASS, INCOMPLETE}

Names = dict[str, Any]


@pytest.fixture
def registry() -> Iterator[server.Server]:
    with server.Server() as started:
        configure_messaging(kafka_schema_registry_url=started.url)
        yield started


def ran(*names: str, **supplied: Any) -> Names:
    """The names that these blocks leave, one after the other."""
    left: Names = dict(supplied)

    async def go() -> None:
        for name in names:
            await pages.run(BLOCKS[name], left)

    asyncio.run(go())
    return left


def confluent_reads(registry: server.Server, topic: str, value: bytes) -> Any:
    reads = AvroDeserializer(SchemaRegistryClient({"url": registry.url}))
    return reads(value, SerializationContext(topic, MessageField.VALUE))


def text(schema: Any) -> str:
    return json.dumps(schema)  # the order of keys counts


def test_the_generated_schema_is_the_printed_one(capsys: pytest.CaptureFixture[str]) -> None:
    names = ran(GENERATED)
    printed = json.loads(BLOCKS[PRINTED_SCHEMA].text)
    shown = json.loads(capsys.readouterr().out)
    assert text(shown) == text(names["schema"]) == text(printed)


def test_bytes_and_back() -> None:
    names = ran(GENERATED)
    event = names["UserEvent"](user_id=1, email="a@b.c", created_at=datetime(2026, 1, 2, 3, 4, 5),
                               roles=["admin"], metadata={"k": "v"})
    after = ran(BARE, **{**names, "event": event})
    read = fastavro.schemaless_reader(io.BytesIO(after["avro_bytes"]), names["schema"])
    assert read["user_id"] == 1 and read["roles"] == ["admin"] and read["metadata"] == {"k": "v"}
    back = after["event"]
    assert back is not event and type(back) is names["UserEvent"]
    assert back.model_dump(exclude={"created_at"}) == event.model_dump(exclude={"created_at"})
    assert back.created_at.timestamp() == event.created_at.timestamp()  # it was local time


def test_a_decorated_model() -> None:
    names = ran(DECORATED)
    assert names["schema"] == {
        "type": "record", "name": "OrderEvent", "namespace": "com.myapp.events",
        "fields": [{"name": "order_id", "type": "long"}, {"name": "total", "type": "double"}]}
    order = names["OrderEvent"](order_id=1, total=2.5)
    assert isinstance(order, BaseModel) and names["OrderEvent"].from_avro(order.to_avro()) == order
    assert fastavro.schemaless_reader(io.BytesIO(order.to_avro()), names["schema"]) == {
        "order_id": 1, "total": 2.5}


@pytest.mark.usefixtures("page_broker")
def test_sent_with_a_schema(registry: server.Server) -> None:
    ran(SENT)
    (record,) = records("events")
    assert record.value is not None and record.value[0] == 0
    assert confluent_reads(registry, "events", record.value) == {
        "event_id": "123", "event_name": "test"}
    assert list(registry.store.subjects) == ["events-value"]


def test_the_defined_schema() -> None:
    fields = [{"name": "user_id", "type": "long"}, {"name": "action", "type": "string"},
              {"name": "timestamp", "type": "string"}]
    assert text(ran(DEFINED)["schema"]) == text(
        {"type": "record", "name": "UserEvent", "fields": fields})


@needs_kafka
@pytest.mark.parametrize("page_broker", ["kafka"], indirect=True)
def test_sent_by_the_class(page_broker: str, registry: server.Server) -> None:
    names = ran(DEFINED, BY_CLASS)
    assert names["ConfluentProducer"] is core.messaging.ConfluentProducer
    (record,) = records("user-events")
    assert confluent_reads(registry, "user-events", record.value or b"") == names[
        "event"].model_dump()


@pytest.mark.parametrize("is_there", [True, False])
@pytest.mark.usefixtures("page_broker")
def test_a_missing_field_is_refused(
    is_there: bool, registry: server.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the printed registry is there, and where it is not. The rest of the block runs."""
    block, names, look_up = BLOCKS[INCOMPLETE], {"datetime": datetime}, socket.getaddrinfo

    def as_printed(host: Any, port: Any, *more: Any, **options: Any) -> Any:
        if (host, int(port or 0)) != ("schema-registry", 8081):
            return look_up(host, port, *more, **options)
        if not is_there:
            raise socket.gaierror(socket.EAI_NONAME, "there is no such host")
        return look_up("127.0.0.1", registry.server_address[1], *more, **options)

    monkeypatch.setattr(socket, "getaddrinfo", as_printed)

    async def go() -> None:
        with pytest.raises(SchemaError) as raised:
            await pages.run(block, names)
        assert raised.value.topic == "user-events" and "created_at" in str(raised.value)
        assert records("user-events") == [] and registry.store.subjects == {}
        assert settings.setting("kafka_schema_registry_url") == "http://schema-registry:8081"
        if is_there:
            whole = {"user_id": 1, "email": "a@b.c", "created_at": datetime(2026, 1, 2)}
            await names["producer"].send_avro(
                "user-events", whole, schema=names["UserEvent"].__avro_schema__())
            (record,) = records("user-events")
            read = confluent_reads(registry, "user-events", record.value or b"")
            assert read["email"] == "a@b.c"
            assert abs(read["created_at"].timestamp() - datetime(2026, 1, 2).timestamp()) < 1
        await stop_all_producers()

    asyncio.run(go())
