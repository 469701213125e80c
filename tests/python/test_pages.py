# SPDX-License-Identifier: Apache-2.0
"""Every producing block of the documentation's pages runs as printed, those with view sets over
HTTP.

Against ``memory``, and against a real Kafka and Redis where SALVO_TEST_KAFKA and SALVO_TEST_REDIS
name one; blocks that name such a broker themselves run only there.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import logging
import os
import traceback
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import core
import httpx
import pages
import pytest
from pages_brokers import needs_kafka, records, values
from pages_brokers import page_broker as page_broker
from pydantic import BaseModel
from salvo import messaging
from salvo.messaging import (
    SchemaError,
    configure_messaging,
    get_producer,
    set_db_provider,
    settings,
    stop_all_producers,
)

BLOCKS = pages.needed()
Names = dict[str, Any]


class Row:
    """A model as the pages use one: ``core.ModelViewSet`` makes and finds its rows."""

    rows: dict[int, Any]

    def __init_subclass__(cls) -> None:
        cls.rows = {}

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)

    @classmethod
    async def create(cls, *, db: Any, **values: Any) -> Row:
        row = cls(id=len(cls.rows) + 1, **values)
        await row.save(db)
        return row

    @classmethod
    async def create_user(cls, email: str, password: str, db: Any) -> Row:
        return await cls.create(email=email, password=password, db=db)

    @classmethod
    async def get(cls, id: str, *, db: Any) -> Row | None:
        assert db == "db"
        return cls.rows.get(int(id))

    async def save(self, db: Any) -> None:
        assert db == "db"
        self.rows[self.__dict__["id"]] = self

    def to_dict(self) -> dict[str, Any]:
        return {"id": self.__dict__["id"]}


@contextlib.asynccontextmanager
async def served(viewset: Any) -> AsyncIterator[httpx.AsyncClient]:
    """The application of one view set."""

    async def database() -> AsyncIterator[str]:
        yield "db"

    set_db_provider(database)
    application = httpx.ASGITransport(core.CoreApp(viewsets=[viewset]))
    async with httpx.AsyncClient(transport=application, base_url="http://app") as client:
        yield client


class Model(BaseModel):
    user_id: int = 0


def supplied() -> Names:
    """The names that the pages leave undefined."""
    return {
        "User": type("User", (Row,), {}), "Order": type("Order", (Row,), {}),
        "data": {"user_id": 9}, "uuid": uuid,
        "events": [{"id": i} for i in range(10)], "datetime": datetime.datetime,
        "SendEmailCommand": Model, "UserStateModel": Model, "Settings": core.Settings,
        "BaseModel": BaseModel, "logger": logging.getLogger("page"),
        "configure_messaging": configure_messaging, "get_producer": get_producer,
        "publish": messaging.publish,
    }


# --- one check per block; it gets the names that the block leaves ---


async def user_created(names: Names) -> None:
    async with served(names["UserViewSet"]) as client:
        answer = await client.post("/users/register", json={"email": "a@b.c", "password": "x"})
        assert (answer.status_code, answer.json()) == (200, {"id": 1, "email": "a@b.c"})
    (record,) = records("user-events")
    event = record.json()
    assert (record.key, event["name"], event["data"]) == (b"1", "user.created", answer.json())
    assert datetime.datetime.fromisoformat(event["timestamp"]).utcoffset() == datetime.timedelta(0)
    assert event["timestamp"].endswith("Z") and event["id"] and event["source"]


async def order_events(names: Names) -> None:
    async with served(names["OrderViewSet"]) as client:
        assert (await client.post("/orders", json={"total": 1})).status_code == 201
        done = await client.post("/orders/1/complete")
        assert done.json() == {"id": 1, "status": "completed"}
        assert (await client.post("/orders/2/complete")).status_code == 404
    found = [(r.key, r.json()["name"], r.json()["data"]) for r in records("order-events")]
    assert found == [(b"1", "order.created", {"id": 1}),
                     (b"1", "order.completed", {"id": 1, "status": "completed"})]


async def order_by_hand(names: Names) -> None:
    async with served(names["OrderViewSet"]) as client:
        order = {"user_id": 7, "total": 2.5, "items": [1, 2]}
        assert (await client.post("/orders", json=order)).status_code == 201
    assert values("orders.created") == [
        {"order_id": 1, "user_id": 7, "total": 2.5, "items_count": 2}]


async def order_created(names: Names) -> None:
    await names["send_order_created"](1, 2)
    assert values("orders.created")[0]["user_id"] == 2


async def user_updated(names: Names) -> None:
    await names["notify_user_updated"](5, "x@y.z")
    (event,) = values("user-events")
    assert (event["name"], event["data"]) == ("user.updated", {"id": 5, "email": "x@y.z"})


async def tracking(names: Names) -> None:
    async with served(names["TrackingViewSet"]) as client:
        answer = await client.post("/tracking/track", json={"events": [{"n": 1}, {"n": 2}]})
        assert answer.json() == {"queued": 2}
    assert values("tracking.events") == [{"n": 1}, {"n": 2}]


async def application(names: Names) -> None:
    """Its producers are made at their first use, kept, and flushed at its end."""
    app = names["app"]
    assert isinstance(app, core.CoreApp) and app.title == "My API"
    async with app.router.lifespan_context(app):
        producer = get_producer()
        delivery = await producer.send("lifecycle", {"n": 1}, wait=False)
        assert get_producer() is producer and producer._native is not None
    assert producer._native is None and (await delivery).offset >= 0


async def decorated(names: Names) -> None:
    assert values("user-events") == [{"user_id": 1, "action": "login"}]


def holds(topic: str, *expected: Any) -> Callable[[Names], Any]:
    async def check(names: Names) -> None:
        assert values(topic) == list(expected)

    return check


def sets(**expected: Any) -> Callable[[Names], Any]:
    async def check(names: Names) -> None:
        if "AppSettings" in names:
            assert isinstance(names["AppSettings"].__mro__[1], type)
        assert {key: settings.setting(key) for key in expected} == expected

    return check


async def topic_classes(names: Names) -> None:
    order = messaging.get_topic("order-events")
    assert order is names["OrderEvents"] and order.partitions == 6
    assert order.replication_factor == 3 and order.retention_ms == 604800000
    assert messaging.get_topic("user.state").cleanup_policy == "compact"
    assert messaging.get_topic("order.created").schema is names["OrderCreatedEvent"]


async def user_events_class(names: Names) -> None:
    assert names["UserEvents"].partitions == 3
    assert names["UserEvents"].cleanup_policy == "delete"


async def by_hand(names: Names) -> None:
    assert names["count"] == 1000 and len(records("topic")) == 1002


async def fast(names: Names) -> None:
    assert names["count"] == 10 and len(records("topic")) == 20


async def stopped(names: Names) -> None:
    assert messaging.registry._natives == {}


async def created(names: Names) -> None:
    assert names["producer"] is get_producer()


UP = {"user_id": 1, "action": "created"}
CHECKS: dict[str, Callable[[Names], Any]] = {
    "kafka-backends:Via código (ANTES de iniciar a app):1": sets(
        kafka_backend="confluent", kafka_bootstrap_servers="kafka:9092",
        database_url="postgresql+asyncpg://localhost/myapp"),
    "kafka-backends:Uso com Producer:1": holds("user-events", UP, {"user_id": 1}),
    "kafka-backends:Comportamento de Wait:2": holds("events", *[{"user_id": 9}] * 3),
    "kafka-backends:Via código:1": sets(
        kafka_security_protocol="SASL_SSL", kafka_sasl_password="password", kafka_linger_ms=5,
        kafka_compression_type="lz4", kafka_fire_and_forget=True),
    'kafka-backends:"Schema Registry not configured":1': sets(
        kafka_schema_registry_url="http://schema-registry:8081"),
    "kafka-backends:Performance baixa:2": holds("events", *[{"id": i} for i in range(10)]),
    "messaging-guide:Quick Start:1": holds("user-events", UP),
    "messaging-guide:Via Código:1": sets(message_broker="kafka", kafka_fire_and_forget=True),
    "messaging-guide:Método Simples: `publish()`:1": holds(
        "user-events", {"user_id": 1, "email": "user@example.com"}, {"user_id": 1},
        {"user_id": 9}),
    "messaging-guide:Com Decorator @event (ViewSets):1": user_created,
    "messaging-guide:Publicação Manual (Controle Total):1": by_hand,
    "messaging-guide:Topic Classes:1": topic_classes,
    "messaging-guide:Métodos de Alta Performance:1": fast,
    "messaging-guide:Exemplo: Endpoint de Tracking:1": tracking,
    "messaging-guide:Lifecycle Automático:1": application,
    "messaging-guide:Lifecycle Automático:2": stopped,
    'messaging-guide:"Producer not found":1': created,
    "messaging-overview:Kafka:1": sets(kafka_backend="aiokafka"),
    "messaging-overview:Redis:1": sets(redis_url="redis://localhost:6379/0"),
    "messaging-overview:Decorator:1": decorated,
    "messaging-overview:Define Topics:1": user_events_class,
    "messaging-overview:Schema Registry:1": sets(
        kafka_schema_registry_url="http://localhost:8081"),
    "messaging-overview:Kafka Configuration:1": sets(
        kafka_client_id="core-framework", kafka_heartbeat_interval_ms=3000),
    "messaging-quickstart:Configuration:1": sets(
        message_broker="kafka", kafka_bootstrap_servers="localhost:9092"),
    "messaging-quickstart:@event Decorator (Auto-Publish):1": user_created,
    "messaging-quickstart:Manual Producer:1": order_created,
    "messaging-quickstart:publish_event Helper:1": user_updated,
    "messaging-quickstart:Complete ViewSet Example:1": order_events,
    "messaging-quickstart:Complete ViewSet Example:2": order_by_hand,
}
# Tested by functions of their own, below.
SPECIAL = {
    "messaging-guide:Com Topic Class (Validação de Schema):1",
    "messaging-guide:Listar Topics Registrados:1",
    "messaging-guide:Schema Registry Connection Failed:1",
    "messaging-overview:Basic Usage:1",
    "messaging-overview:Producer:1",
}
COVERS = {*CHECKS, *SPECIAL}


@pytest.mark.usefixtures("page_broker")
@pytest.mark.parametrize("name", CHECKS)
def test_block(name: str) -> None:
    async def go() -> None:
        names = await pages.run(BLOCKS[name], supplied())
        await CHECKS[name](names)
        await stop_all_producers()

    asyncio.run(go())


def test_a_missing_field_is_refused_and_the_rest_runs() -> None:
    block = BLOCKS["messaging-guide:Com Topic Class (Validação de Schema):1"]

    async def go() -> None:
        names = supplied()
        with pytest.raises(SchemaError) as raised:
            await pages.run(block, names)
        assert raised.value.topic == "user-events" and raised.value.field == "created_at"
        assert records("user-events") == []
        at = [f.lineno for f in traceback.extract_tb(raised.tb)
              if f.filename == "messaging-guide.md"][0]
        assert at is not None
        kept = block.text.splitlines(keepends=True)
        kept[: at - block.line + 1] = ["\n"] * (at - block.line + 1)
        rest = pages.Block(block.page, "", 0, "", "".join(kept), block.line)
        await pages.run(rest, names)
        (sent,) = values("user-events")
        assert sent["user_id"] == 1 and set(sent) == {"user_id", "email", "created_at"}

    asyncio.run(go())


def test_code_and_env_line_in_one_block() -> None:
    block = BLOCKS["messaging-guide:Schema Registry Connection Failed:1"]
    comment = next(i for i, line in enumerate(block.text.splitlines()) if "via env" in line)
    lines = block.text.splitlines(keepends=True)
    code = pages.Block(block.page, "", 0, "", "".join(lines[:comment]), block.line)
    asyncio.run(pages.run(code, supplied()))
    url = "http://schema-registry:8081"
    assert settings.setting("kafka_schema_registry_url") == url
    settings.reset()
    Path(".env").write_text("".join(lines[comment:]))
    assert settings.setting("kafka_schema_registry_url") == url


def test_topics_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    async def go() -> None:
        names = supplied()
        await pages.run(BLOCKS["messaging-guide:Topic Classes:1"], names)
        await pages.run(BLOCKS["messaging-guide:Listar Topics Registrados:1"], names)
        assert names["order_topic"] is names["OrderEvents"]

    asyncio.run(go())
    assert "user.state: " in capsys.readouterr().out


@needs_kafka
def test_kafka_by_its_name() -> None:
    configure_messaging(kafka_bootstrap_servers=os.environ["SALVO_TEST_KAFKA"])

    async def go() -> None:
        before = len(records("events", get_producer("kafka")))
        await pages.run(BLOCKS["messaging-overview:Basic Usage:1"], supplied())
        assert await get_producer("kafka").flush() == 0
        sent = [r.json() for r in records("events", get_producer("kafka"))][before:]
        assert sent == [{"user_id": 1, "action": "login"}, {"user_id": 1, "action": "view"},
                        {"user_id": 2, "action": "click"}]

    asyncio.run(go())


@pytest.mark.skipif(not os.environ.get("SALVO_TEST_REDIS"), reason="SALVO_TEST_REDIS names none")
def test_redis_producer() -> None:
    configure_messaging(redis_url=os.environ["SALVO_TEST_REDIS"])

    async def go() -> None:
        names = await pages.run(BLOCKS["messaging-overview:Producer:1"], supplied())
        found = records("events", names["producer"])
        assert found[-1].json() == {"user_id": 1, "action": "login"}
        await names["producer"].stop()

    asyncio.run(go())
