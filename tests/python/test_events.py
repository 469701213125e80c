# SPDX-License-Identifier: Apache-2.0
"""Topic classes, schemas, @producer and @event."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
import sqlalchemy
from pydantic import BaseModel
from salvo.messaging import (
    CommandTopic,
    ConfigurationError,
    Event,
    EventPublisher,
    EventTopic,
    InvalidMessage,
    MessagingError,
    SchemaError,
    StateTopic,
    Topic,
    UnknownTopic,
    configure_messaging,
    event,
    event_failures,
    get_all_topics,
    get_producer,
    get_topic,
    producer,
    publish,
    publish_event,
)
from salvo.messaging.testing import records
from sqlalchemy import orm


class User(BaseModel):
    id: int
    email: str = "none"


def values(topic: Any) -> list[Any]:
    return [record.json() for record in records(topic)]


def test_topics_are_registered() -> None:
    class Users(EventTopic):
        name = "users"

    class State(StateTopic):
        name = "users.state"

    assert get_topic("users") is Users and get_all_topics()["users.state"] is State
    assert (Users.partitions, Users.replication_factor, Users.retention_ms) == (1, 1, None)
    assert (Users.cleanup_policy, Users.value_serializer) == ("delete", "json")
    assert (State.cleanup_policy, CommandTopic.cleanup_policy) == ("compact", "delete")
    with pytest.raises(UnknownTopic, match="users.state"):
        get_topic("user")
    with pytest.warns(UserWarning, match='"users"'):

        class Others(Topic):
            name = "users"

    assert get_topic("users") is Others
    with pytest.warns(UserWarning, match='"users"'):

        class Users(Topic):  # type: ignore[no-redef]  # the same name and place
            name = "users"

    assert get_topic("users") is Users
    with pytest.raises(UnknownTopic, match="no name"):
        asyncio.run(publish(Topic, {}))


def test_a_class_validates_and_a_name_does_not() -> None:
    class Users(Topic):
        name = "users"
        schema = User

    async def go() -> None:
        await publish("users", {"anything": 1})
        await publish(Users, {"id": "5"})
        await publish(Users, User(id=6))
        await publish(Users, b'{"id": 7, "more": 1}')
        await get_producer().send_batch_fire_and_forget(Users, [{"id": 8}, User(id=9)])
        for call in (publish(Users, {"id": "five"}),
                     get_producer().send_batch_fire_and_forget(Users, [{"id": 1}, {"id": "x"}]),
                     get_producer().send_fire_and_forget(Users, {})):
            with pytest.raises(SchemaError) as raised:
                await call
            assert (raised.value.topic, raised.value.field) == ("users", "id")

    asyncio.run(go())
    assert values("users")[0] == {"anything": 1}
    assert values("users")[1:] == [{"id": n, "email": "none"} for n in range(5, 10)]


def test_avro_without_a_registry_is_refused() -> None:
    class Later(Topic):
        name = "later"
        schema = {"type": "record", "name": "R", "fields": []}
        value_serializer = "avro"

    with pytest.raises(MessagingError, match="Schema Registry not configured"):
        asyncio.run(publish(Later, {}))


def test_producer_decorator() -> None:
    @producer(topic="out", key_field="id")
    async def one(n: int) -> dict[str, int] | None:
        """Says what it does."""
        return {"id": n} if n else None

    @producer("out", key="k")
    def two(n: int) -> dict[str, int]:
        return {"id": n}

    class Service:
        @producer("out")
        async def three(self) -> list[int]:
            return [3]

    async def go() -> None:
        assert await one(1) == {"id": 1} and await one(0) is None
        assert await Service().three() == [3]
        assert two(9) == {"id": 9}  # in a loop's thread: does not wait

    assert one.__doc__ == "Says what it does."
    asyncio.run(go())
    assert two(2) == {"id": 2}
    with pytest.raises(InvalidMessage, match="no \"absent\""):
        producer("out", key_field="absent")(lambda: {"id": 1})()
    assert values("out") == [{"id": 1}, [3], {"id": 9}, {"id": 2}]
    assert [r.key for r in records("out")] == [b"1", None, b"k", b"k"]


@dataclasses.dataclass
class Data:
    id: int
    secret: str = "hash"


class Struct(msgspec.Struct):
    id: int


class WithDict:
    id = 3

    def to_dict(self) -> dict[str, int]:
        return {"id": self.id}


class Base(orm.DeclarativeBase):
    pass


class Row(Base):
    __tablename__ = "rows"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    password_hash: orm.Mapped[str] = orm.mapped_column(default="secret", deferred=True)


def stored(number: int) -> tuple[orm.Session, Row]:
    """A row that was committed: SQLAlchemy loads its columns again when they are read."""
    engine = sqlalchemy.create_engine("sqlite://")
    Base.metadata.create_all(engine)
    session = orm.Session(engine)
    row = Row(id=number)
    session.add(row)
    session.commit()
    return session, row


def test_event_results() -> None:
    configure_messaging(source="shop", default_topic="all")
    session, row = stored(4)
    results = [{"id": 1}, User(id=2), WithDict(), row, Data(5), Struct(6)]

    @event("thing.done", key_field="id", exclude={"secret", "password_hash", "email"})
    async def act(n: int) -> Any:
        return results[n]

    async def go() -> None:
        for n in range(len(results)):
            assert await act(n) is results[n]

    asyncio.run(go())
    assert "password_hash" in sqlalchemy.inspect(row).unloaded  # left out: not even read
    session.close()
    events = values("all")
    assert [e["data"] for e in events] == [{"id": n + 1} for n in range(6)]
    assert {e["source"] for e in events} == {"shop"} and len({e["id"] for e in events}) == 6
    assert list(events[0]) == ["id", "name", "data", "timestamp", "source"]
    assert [r.key for r in records("all")] == [str(n + 1).encode() for n in range(6)]
    read = Event.from_message(events[0])
    assert read.name == "thing.done" and read.timestamp is not None
    assert abs((datetime.now(UTC) - read.timestamp).total_seconds()) < 60


def test_one_name_to_exclude() -> None:
    @event("one", topic="t", exclude="secret")
    def act() -> Data:
        return Data(1)

    act()
    assert values("t")[0]["data"] == {"id": 1}


def test_the_result_stands_whatever_is_wrong_with_the_event() -> None:
    session, row = stored(1)
    session.expire_all()
    session.close()
    results: list[Any] = [row, {"id": 1.5}, {"no id": 1}, {"id": 1, "x": object()}]

    @event("wrong", topic="t", key_field="id")
    async def act(n: int) -> Any:
        return results[n]

    before = event_failures().get("wrong", 0)
    for n in range(len(results)):
        assert asyncio.run(act(n)) is results[n]
    assert event_failures()["wrong"] == before + len(results) and records("t") == []


def test_event_key_alone_and_sync() -> None:
    @event("seen", topic="t", key_field="id", include_result=False)
    def act() -> dict[str, Any]:
        return {"id": 7, "private": "x"}

    assert act() == {"id": 7, "private": "x"}
    (sent,) = values("t")
    assert sent["data"] == {"id": 7}


def test_an_object_that_can_be_no_event() -> None:
    class Plain:
        def __init__(self) -> None:
            self.password_hash = "x"

    @event("plain", topic="t")
    async def act() -> Any:
        return Plain()

    with pytest.raises(TypeError, match="to_dict"):
        asyncio.run(act())
    assert records("t") == []
    for wrong in ({"on_error": "ignore"}, {"include_result": False}):
        with pytest.raises(ValueError):
            event("plain", **wrong)


def test_the_result_stands_when_publishing_fails(caplog: pytest.LogCaptureFixture) -> None:
    configure_messaging(message_broker="kafka", kafka_enabled=False)

    @event("lost", topic="t")
    async def act() -> dict[str, int]:
        return {"id": 1}

    @event("lost", topic="t", on_error="raise")
    async def strict() -> dict[str, int]:
        return {"id": 1}

    before = event_failures().get("lost", 0)
    assert asyncio.run(act()) == {"id": 1}
    assert event_failures()["lost"] == before + 1 and "lost was not published" in caplog.text
    with pytest.raises(ConfigurationError):
        asyncio.run(strict())


def test_publish_event_with_a_schema() -> None:
    class Users(Topic):
        name = "users"
        schema = User

    asyncio.run(publish_event("user.created", {"id": "1"}, topic=Users, key=1, source="s"))
    (sent,) = values("users")
    assert sent["data"] == {"id": 1, "email": "none"} and sent["source"] == "s"
    with pytest.raises(SchemaError):
        asyncio.run(publish_event("user.created", {}, topic=Users))


@pytest.mark.parametrize("form", [
    {"name": "n", "id": "1", "timestamp": "2026-02-01T12:00:00Z", "data": 5},
    {"event_type": "n", "event_id": 1, "occurred_at": "2026-02-01T12:00:00", "data": 5},
    {"event": "n", "event_id": "1", "timestamp": "2026-02-01T13:00:00+01:00", "data": 5},
])
def test_every_form_of_envelope_is_read(form: dict[str, Any]) -> None:
    read = Event.from_message(form)
    assert (read.name, read.id, read.data) == ("n", "1", 5)
    assert read.timestamp == datetime(2026, 2, 1, 12, tzinfo=UTC)


def test_event_publisher() -> None:
    @dataclasses.dataclass
    class Paid:
        event_id: str
        event_type: str
        occurred_at: datetime
        aggregate_id: str

    when = datetime(2026, 1, 1, tzinfo=UTC)
    asyncio.run(EventPublisher(get_producer()).publish(Paid("1", "paid", when, "order-1")))
    (record,) = records("events.paid")
    assert record.key == b"order-1" and record.json()["data"]["event_id"] == "1"
    assert record.json()["occurred_at"] == when.isoformat()
    with pytest.raises(MessagingError):
        asyncio.run(EventPublisher(get_producer()).publish(object()))  # type: ignore[arg-type]
