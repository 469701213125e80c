# SPDX-License-Identifier: Apache-2.0
"""@consumer, @on_event, @message_handler: what is registered, routing, schemas."""

from __future__ import annotations

import asyncio
import logging
import threading
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel
from salvo.messaging import (
    ConfigurationError,
    Event,
    Topic,
    configure_messaging,
    consumer,
    consumers_for,
    create_consumer,
    message_handler,
    on_event,
    publish,
    publish_event,
    set_db_provider,
)
from salvo.messaging.registry import (
    get_all_consumers,
    get_all_event_handlers,
    get_all_message_handlers,
    get_consumer,
)
from salvo.messaging.testing import records

from reading import all_running, stats, until

# --- registering ---


def test_what_is_registered_is_found() -> None:
    @consumer("orders", topics=["user-events", "payment-events"], auto_start=True)
    class OrderConsumer:
        @on_event("user.created")
        async def created(self, event: Event, db: Any) -> None: ...

        @on_event("payment.completed", "payment.made")
        def paid(self, event: Event) -> None: ...

    @message_handler(topic=["a", "b"], dlq_topic="dead", max_retries=2)
    async def both(message: dict[str, Any]) -> None: ...

    @consumer(topic="c", group_id="mine")
    async def one(message: dict[str, Any]) -> None: ...

    events = get_all_event_handlers()
    assert set(events) == {"user.created", "payment.completed", "payment.made"}
    assert events["user.created"][0].name == "OrderConsumer.created"
    assert events["user.created"][0].wants_db and not events["payment.made"][0].wants_db
    assert "created" in repr(events)
    assert {t: [h.name for h in hs] for t, hs in get_all_message_handlers().items()} == {
        "a": ["both"], "b": ["both"], "c": ["one"]}
    specs = get_all_consumers()
    assert set(specs) == {"OrderConsumer", "both", "one"}
    assert (specs["both"].topics, specs["both"].dlq_topic) == (["a", "b"], "dead")
    assert specs["OrderConsumer"].auto_start and not specs["one"].auto_start
    assert specs["one"].group_id == "mine"
    configure_messaging(default_group="shop")  # after the decorator
    assert specs["both"].group_id == "shop"
    with pytest.raises(ConfigurationError, match="OrderConsumer, both, one"):
        get_consumer("ones")
    assert one.__name__ == "one" and isinstance(OrderConsumer(), OrderConsumer)


def test_what_cannot_be_registered() -> None:
    for wrong, named in (
        (lambda: consumer("g")(print), "topic"),
        (lambda: consumer("g", topics=["t"])(type("Empty", (), {})), "on_event"),
        (lambda: on_event(), "name"),
        (lambda: message_handler(topic="t", max_retries=-1)(print), "max_retries"),
        (lambda: message_handler(topic="t", timeout=-1)(print), "timeout"),
        (lambda: message_handler()(print), "topic"),
        (lambda: consumer("g", topics=["t"], unknown_event="no"), "ignore"),
        (lambda: set_db_provider(7), "async context manager"),  # type: ignore[arg-type]
    ):
        with pytest.raises(ConfigurationError, match=named):
            wrong()  # type: ignore[no-untyped-call]
    assert get_all_consumers() == {}


def test_a_reload_takes_the_place_and_another_module_does_not() -> None:
    def make(module: str) -> None:
        async def handle(message: Any) -> None: ...

        handle.__module__ = module
        message_handler(topic="t")(handle)

    make("a")
    make("a")
    assert list(get_all_consumers()) == ["handle"]
    make("b")
    assert list(get_all_consumers()) == ["handle", "b.handle"]


# --- routing ---


def test_events_go_to_their_methods() -> None:
    got: list[Any] = []

    @consumer("orders", topics=["user-events"])
    class Orders:
        def __init__(self) -> None:
            self.count = 0

        @on_event("user.created")
        async def created(self, event: Event, db: Any) -> None:
            self.count += 1
            got.append((event, db, self.count))

        @on_event("user.updated")
        def updated(self, event: Event) -> None:
            got.append((event, threading.current_thread().name, 0))

    async def go() -> None:
        async with all_running() as consumers:
            await publish_event("user.created", {"id": 1}, topic="user-events", key=7)
            await publish("user-events", {"event_type": "user.updated", "event_id": 5,
                                          "occurred_at": "2026-02-01T12:00:00", "data": {"id": 2}})
            await publish("user-events", {"event": "user.created", "data": None},
                          timestamp=1_700_000_000_000)
            await until(lambda: len(got) == 3)
            assert consumers[0].group_id == "orders"

    asyncio.run(go())
    (first, db, one), (second, thread, _), (third, _, two) = got
    assert (first.name, first.data, first.key, db, one, two) == (
        "user.created", {"id": 1}, b"7", None, 1, 2)
    assert (first.topic, first.partition, first.offset) == ("user-events", 0, 0)
    assert first.timestamp.tzinfo is not None and first.source and first.id
    assert (second.id, second.timestamp) == ("5", datetime(2026, 2, 1, 12, tzinfo=UTC))
    assert thread.startswith("salvo-handler")
    assert third.timestamp == datetime.fromtimestamp(1_700_000_000, UTC) and third.data is None


def test_an_unknown_event_is_counted_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    _orders([])

    async def go() -> None:
        async with all_running() as consumers:
            for name in ("a", "b", "a", "a"):
                await publish_event(name, {}, topic="t")
            await publish("t", {"n": 1})
            await publish("t", {"name": {"no": "name"}})
            await until(lambda: stats(consumers, "handled") == 6)
            assert consumers[0].stats()["unknown"] == {
                'event "a"': 3, 'event "b"': 1, "messages of t without an event's name": 2}

    with caplog.at_level(logging.WARNING, "salvo.messaging"):
        asyncio.run(go())
    told = [r.getMessage() for r in caplog.records if "nobody handles" in r.getMessage()]
    assert len(told) == 3 and 'event "a"' in told[0]


def _orders(got: list[Any], **options: Any) -> None:
    @consumer("orders", topics=["t"], **options)
    class Orders:
        @on_event("known")
        async def known(self, event: Event) -> None:
            got.append(event.data)


@pytest.mark.parametrize(("policy", "attempts"), [("dlq", b"1"), ("error", b"3")])
def test_an_unknown_event_by_policy(policy: str, attempts: bytes) -> None:
    got: list[Any] = []
    _orders(got, unknown_event=policy, dlq_topic="dead", max_retries=2, retry_delay=0.01)

    async def go() -> None:
        async with all_running() as consumers:
            await publish_event("strange", {"n": 1}, topic="t")
            await publish_event("known", {"n": 2}, topic="t")
            await until(lambda: got and stats(consumers, "dead_lettered") == 1)

    asyncio.run(go())
    (letter,) = records("dead")
    headers = dict(letter.headers)
    assert letter.json()["name"] == "strange" and headers["salvo-error-type"] == b"UnknownEvent"
    if policy == "dlq":
        assert headers["salvo-attempts"] == attempts
    assert b"strange" in (headers["salvo-error"] or b"")


def test_each_handler_of_a_message_runs() -> None:
    got: list[tuple[str, int]] = []
    failing = {"second": 2}

    def make(name: str) -> None:
        async def handle(message: dict[str, Any]) -> None:
            if failing.get(name, 0):
                failing[name] -= 1
                raise RuntimeError(name)
            got.append((name, message["n"]))

        handle.__qualname__ = name
        message_handler(topic="t", group_id="g", max_retries=3, retry_delay=0.01)(handle)

    for name in ("first", "second", "third"):
        make(name)

    async def go() -> None:
        async with all_running() as consumers:
            assert len(consumers) == 1
            await publish("t", {"n": 1}, key="k")
            await publish("t", {"n": 2}, key="k")
            await until(lambda: len(got) == 6)
            await asyncio.sleep(0.1)

    asyncio.run(go())
    assert got == [("first", 1), ("third", 1), ("second", 1),
                   ("first", 2), ("second", 2), ("third", 2)]


def test_groups_are_consumers_of_their_own() -> None:
    got: list[str] = []

    def make(name: str, group: str, topic: str) -> None:
        def handle(message: Any) -> None:
            got.append(name)

        handle.__qualname__ = name
        message_handler(topic=topic, group_id=group)(handle)

    make("a", "g", "t")
    make("b", "h", "t")
    make("c", "g", "u")

    async def go() -> None:
        async with all_running() as consumers:
            assert {c.group_id: c.topics for c in consumers} == {"g": ["t", "u"], "h": ["t"]}
            await publish("t", {})
            await publish("u", {})
            await until(lambda: len(got) == 3)
        assert sorted(got) == ["a", "b", "c"]
        assert [c.topics for c in consumers_for("g", "u")] == [["u"]]
        assert consumers_for("nobody") == []

    asyncio.run(go())


def test_create_consumer_runs_what_its_group_has_registered() -> None:
    got: list[Any] = []
    _orders(got)

    async def go() -> None:
        one = create_consumer(group_id="orders", topics=["other-topic"])
        await one.start()
        await publish_event("known", {"n": 1}, topic="other-topic")
        await until(lambda: got)
        await one.stop()

    asyncio.run(go())
    assert got == [{"n": 1}]


def test_topic_classes_name_topics() -> None:
    class Things(Topic):
        name = "things"

    @message_handler(topic=Things, dlq_topic=Things)
    async def handle(message: Any) -> None: ...

    assert get_consumer("handle").topics == ["things"] == [get_consumer("handle").dlq_topic]


# --- schemas ---


class Order(BaseModel):
    order_id: int
    total: float = 0.5


def test_a_schema_gives_models_and_refuses_the_rest() -> None:
    got: list[Any] = []

    @message_handler(topic="t", schema=Order, max_retries=5, retry_delay=60, dlq_topic="dead")
    async def handle(message: Order, db: Any) -> None:
        got.append(message)

    async def go() -> None:
        async with all_running() as consumers:
            for value in ({"order_id": "1"}, {"order_id": "x"}, b"{", b"[]", None,
                          {"order_id": 2, "total": 3}):
                await publish("t", value)
            await until(lambda: len(got) == 2 and stats(consumers, "dead_lettered") == 4)

    asyncio.run(go())
    assert got == [Order(order_id=1), Order(order_id=2, total=3)]
    letters = records("dead")
    assert [letter.value for letter in letters] == [b'{"order_id":"x"}', b"{", b"[]", None]
    headers = dict(letters[0].headers)
    assert headers["salvo-error-type"] == b"BadMessage" and headers["salvo-attempts"] == b"1"
    assert b"order_id" in (headers["salvo-error"] or b"")


def test_a_schema_may_be_any_type() -> None:
    got: list[Any] = []

    @message_handler(topic="t", schema=list[int])
    async def handle(message: list[int]) -> None:
        got.append(message)

    async def go() -> None:
        async with all_running():
            await publish("t", [1, 2])
            await until(lambda: got)

    asyncio.run(go())
    assert got == [[1, 2]]


def test_names_that_nobody_handles_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    from salvo.messaging import routing

    monkeypatch.setattr(routing, "_NAMES_MAX", 3)
    _orders([])

    async def go() -> None:
        async with all_running() as consumers:
            for n in range(20):
                await publish_event(f"event-{n % 10}", {}, topic="t")
            await until(lambda: stats(consumers, "handled") == 20)
            unknown = consumers[0].stats()["unknown"]
            assert len(unknown) == 4 and unknown["(others)"] == 14

    asyncio.run(go())
