# SPDX-License-Identifier: Apache-2.0
"""Sends: what arrives is what was sent, in order, and what is wrong is refused whole."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import time
import uuid
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as rules
from hypothesis import strategies as st
from pydantic import BaseModel
from salvo.messaging import (
    BufferFull,
    ConfluentProducer,
    Expired,
    InvalidMessage,
    KafkaProducer,
    KeyTypeError,
    MessageTooLarge,
    MessagingError,
    RabbitMQQueue,
    RedisProducer,
    SendTimeout,
    SerializationError,
    Topic,
    UnknownTopic,
    Unreachable,
    configure_messaging,
    get_producer,
    publish,
    registry,
    stop_all_producers,
)
from salvo.messaging.testing import records


def values(topic: str) -> list[Any]:
    return [record.json() for record in records(topic)]


def test_a_delivery_tells_where_the_message_is() -> None:
    async def go() -> None:
        delivery = await publish("t", {"n": 1}, key="k", headers={"a": "1", "b": None},
                                 timestamp=1234)
        assert (delivery.topic, delivery.partition, delivery.offset) == ("t", 0, 0)
        assert delivery.timestamp == 1234 and delivery.done and delivery.exception() is None
        assert (await delivery) is delivery

    asyncio.run(go())
    (record,) = records("t")
    assert record.key == b"k" and record.timestamp == 1234 and record.json() == {"n": 1}
    assert record.headers == (("a", b"1"), ("b", None))


def test_message_and_value_are_one_argument() -> None:
    async def go() -> None:
        producer = get_producer()
        await publish("t", value={"n": 0})
        await publish("t", message={"n": 1})
        await producer.send("t", value={"n": 2})
        await producer.send(topic="t", message={"n": 3})
        nothing = await asyncio.gather(producer.send_fire_and_forget("t", value={"n": "value"}),
                                       producer.send_fire_and_forget("t", message={"n": "message"}))
        assert [*nothing] == [None, None]
        assert await producer.flush() == 0

    asyncio.run(go())
    get_producer().sync.send("t", value={"n": 4})
    assert [v["n"] for v in values("t")] == [0, 1, 2, 3, "value", "message", 4]


def test_wait_false_gives_a_delivery_for_later() -> None:
    async def go() -> None:
        producer = get_producer()
        delivery = await producer.send("t", {"n": 1}, wait=False)
        ignored = await producer.send("t", {"n": 2}, wait=False)
        first, second = await asyncio.gather(delivery, delivery)
        assert first is second is delivery and delivery.offset == 0
        assert await producer.flush() == 0
        await asyncio.sleep(0.05)
        assert ignored.done and ignored.offset == 1

    asyncio.run(go())


def test_fire_and_forget_configured() -> None:
    configure_messaging(kafka_fire_and_forget=True, linger_us=200_000)

    async def go() -> None:
        assert not (await publish("t", {"n": 1})).done
        assert (await publish("t", {"n": 2}, wait=True)).done

    asyncio.run(go())


def test_who_waits_cuts_the_linger_short() -> None:
    configure_messaging(linger_us=60_000_000)

    async def go() -> None:
        async with asyncio.timeout(20):
            await publish("t", {"n": 1})
            deliveries = await get_producer().send_batch("t", [{"n": 2}, {"n": 3}])
            assert [d.offset for d in deliveries] == [1, 2]
            await get_producer().send_fire_and_forget("t", {"n": 4})
            assert await get_producer().flush(10) == 0

    asyncio.run(go())
    get_producer().sync.send("t", {"n": 5}, timeout=10)
    assert [v["n"] for v in values("t")] == [1, 2, 3, 4, 5]


def test_partitions_and_keys() -> None:
    configure_messaging(memory_partitions=4)
    number = uuid.UUID(int=7)

    async def go() -> None:
        producer = get_producer()
        assert (await producer.send("t", b"x", partition=3)).partition == 3
        for key in ("a", b"a", 5, number, None, bytearray(b"a")):
            await producer.send("keys", b"x", key=key)
        with pytest.raises(MessagingError):
            await producer.send("t", b"x", partition=4)

    asyncio.run(go())
    keys = {record.key for record in records("keys")}
    assert keys == {b"a", b"5", str(number).encode(), None}


@pytest.mark.parametrize("wrong", [1.5, True, ["a"], object()])
def test_a_key_of_another_type_is_refused(wrong: Any) -> None:
    async def go() -> None:
        producer = get_producer()
        for call in (producer.send("t", {}, key=wrong),
                     producer.send_fire_and_forget("t", {}, key=wrong),
                     producer.send_batch("t", [{}], key=wrong),
                     producer.send_batch_fire_and_forget("t", [{}], key=wrong)):
            with pytest.raises(KeyTypeError) as raised:
                await call
            assert isinstance(raised.value, (TypeError, MessagingError))

    asyncio.run(go())
    assert records("t") == []


def test_batches_in_order_and_with_keys() -> None:
    async def go() -> None:
        producer = get_producer()
        items = [{"id": i, "k": str(i % 3)} for i in range(5000)]
        assert await producer.send_batch_fire_and_forget("t", items) == 5000
        deliveries = await producer.send_batch("t", items[:10])
        assert [d.offset for d in deliveries] == list(range(5000, 5010))
        assert await producer.send_batch_fire_and_forget("one", items[:10], key="k") == 10
        assert await producer.send_batch_fire_and_forget("each", items[:9], key_field="k") == 9
        assert await producer.send_batch_fire_and_forget("none", []) == 0
        assert await producer.send_batch("none", []) == []
        with pytest.raises(InvalidMessage):
            await producer.send_batch_fire_and_forget("t", items, key_field="absent")
        with pytest.raises(InvalidMessage):
            await producer.send_batch_fire_and_forget("t", {"not": "a list"})

    asyncio.run(go())
    assert [v["id"] for v in values("t")] == [*range(5000), *range(10)]
    assert {r.key for r in records("one")} == {b"k"}
    assert [(r.key or b"").decode() for r in records("each")] == [str(i % 3) for i in range(9)]


@dataclasses.dataclass
class Point:
    x: int
    y: float


class Struct(msgspec.Struct):
    name: str


class Model(BaseModel):
    when: datetime


def test_every_kind_of_value() -> None:
    when = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    given_values = [{"a": 1}, [1, 2], "text é", b"bytes", bytearray(b"array"), memoryview(b"view"),
                    Point(1, 2.5), Struct("n"), Model(when=when), None, msgspec.Raw(b"[1,\n2]")]
    expected = [b'{"a":1}', b"[1,2]", "text é".encode(), b"bytes", b"array", b"view",
                b'{"x":1,"y":2.5}', b'{"name":"n"}', b'{"when":"2026-01-02T03:04:05Z"}', None,
                b"[1,\n2]"]

    async def go() -> None:
        producer = get_producer()
        for value in given_values:
            await producer.send("one", value)
            await producer.send_fire_and_forget("each", value)
        await producer.send_batch("batch", given_values)
        await producer.send_batch_fire_and_forget("many", given_values)

    asyncio.run(go())
    for topic in ("one", "each", "batch", "many"):
        assert [record.value for record in records(topic)] == expected, topic


def test_a_bad_item_sends_nothing_of_its_batch() -> None:
    items: list[Any] = [{"n": i} for i in range(3000)]
    items[2500] = {"user": {"tags": [1, object()]}}

    async def go() -> None:
        for call in (get_producer().send_batch("t", items),
                     get_producer().send_batch_fire_and_forget("t", items)):
            with pytest.raises(SerializationError) as raised:
                await call
            assert raised.value.index == 2500 and raised.value.path == "$.user.tags[1]"
            assert isinstance(raised.value, TypeError)
        big = [b"x"] * 10 + [b"x" * 2_000_000]
        with pytest.raises(MessageTooLarge, match="item 10"):
            await get_producer().send_batch_fire_and_forget("t", big)
        with pytest.raises(MessageTooLarge):
            await get_producer().send("t", big[10])

    asyncio.run(go())
    assert records("t") == []


@pytest.mark.parametrize("arguments", [
    {"topic": "bad name", "message": {}}, {"topic": 5, "message": {}},
    {"topic": "t", "message": {}, "partition": -2}, {"topic": "t", "message": {}, "timestamp": "x"},
    {"topic": "t", "message": {}, "headers": {"a": 1}}, {"topic": "t"},
    {"topic": "t", "message": 1, "value": 2},
])
def test_bad_arguments_have_one_base_class(arguments: dict[str, Any]) -> None:
    with pytest.raises(MessagingError):
        asyncio.run(get_producer().send(**arguments))
    with pytest.raises(MessagingError):
        get_producer().sync.send(**arguments)


def test_an_object_that_is_no_topic() -> None:
    with pytest.raises(UnknownTopic):
        asyncio.run(publish(dict, {}))


def test_a_full_buffer_is_awaited_without_blocking_the_loop() -> None:
    configure_messaging(buffer_bytes="8MiB", max_message_bytes=10000, batch_bytes=65536)
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0.001)

    async def go() -> None:
        counting = asyncio.create_task(count_turns())
        items = [b"x" * 1000] * 60000
        assert await get_producer().send_batch_fire_and_forget("t", items) == 60000
        assert await get_producer().flush() == 0
        counting.cancel()

    asyncio.run(go())
    ledger = get_producer().ledger()
    assert ledger["accepted"] == ledger["offered"] == ledger["acknowledged"] == 60000
    assert turns > 3


@pytest.mark.parametrize("sync", [False, True])
@pytest.mark.parametrize("policy", ["fail", "drop_newest", "block"])
def test_a_buffer_that_stays_full(policy: str, sync: bool) -> None:
    """Nothing listens at that address, so nothing leaves the buffer."""
    configure_messaging(message_broker="kafka", kafka_bootstrap_servers="127.0.0.1:1",
                        full_policy=policy, send_timeout_ms=50, buffer_bytes="16MiB",
                        ring_bytes="256KiB",
                        max_message_bytes=10000, batch_bytes=65536, close_timeout_ms=0)
    producer = get_producer()

    async def go() -> None:
        items = [b"x" * 1000] * 30000
        accepted = (producer.sync.send_batch_fire_and_forget("t", items) if sync
                    else await producer.send_batch_fire_and_forget("t", items))
        assert 0 < accepted < 30000
        for _ in range(20000):  # the flusher may still free some
            try:
                if sync:
                    producer.sync.send("t", items[0], wait=False)
                else:
                    await producer.send("t", items[0], wait=False)
            except BufferFull:
                break
        else:
            pytest.fail("it never became full")
        if policy == "drop_newest":
            await producer.send_fire_and_forget("t", items[0])
        ledger = producer.ledger()
        refused = sum(v for k, v in ledger.items() if k.startswith("refused"))
        assert ledger["offered"] == ledger["accepted"] + refused and refused > 0
        which = {"fail": "full", "drop_newest": "dropped", "block": "timeout"}[policy]
        assert ledger[f"refused_{which}"] == refused
        await producer.stop(0)

    asyncio.run(go())


def test_what_a_forgotten_producer_sent_is_flushed_by_stop_all() -> None:
    async def go() -> None:
        await RedisProducer("redis://127.0.0.1:1", close_timeout_ms=0).start()
        await publish("t", {})
        gc.collect()
        assert len(registry._natives) == 2
        await stop_all_producers()
        assert registry._natives == {}

    asyncio.run(go())


def test_a_topic_classs_policy_wins() -> None:
    configure_messaging(message_broker="kafka", kafka_bootstrap_servers="127.0.0.1:1",
                        send_timeout_ms=2_000, buffer_bytes="16MiB", ring_bytes="256KiB",
                        max_message_bytes=10000, batch_bytes=65536, close_timeout_ms=0)

    class Strict(Topic):
        name = "strict"
        full_policy = "fail"

    async def go() -> None:
        producer, items = get_producer(), [b"x" * 1000] * 30000
        assert 0 < await producer.send_batch_fire_and_forget(Strict, items) < len(items)
        with pytest.raises(BufferFull, match='"strict": no room:'):
            for item in items:
                await producer.send_fire_and_forget(Strict, item)
        await producer.stop(0)

    asyncio.run(go())


def test_the_infrastructure_classes_wait_and_have_their_own_address() -> None:
    configure_messaging(kafka_fire_and_forget=True, close_timeout_ms=0, rabbitmq_exchange="other",
                        rabbitmq_exchange_type="fanout", rabbitmq_routing_key="k")

    async def go() -> None:
        kafka = KafkaProducer("127.0.0.1:1")
        with pytest.raises(SendTimeout):
            await kafka.send("t", {"n": 1}, "key", timeout=0.1)
        assert not (await kafka.send("t", {"n": 2}, wait=False)).done
        await kafka.stop(0)
        queue = RabbitMQQueue("amqp://u:p@127.0.0.1:1/", "tasks")
        with pytest.raises(Unreachable):
            await queue.connect()
        config = queue._producer._ready().config
        found = [config.get(f"rabbitmq_{key}") for key in
                 ("url", "exchange", "exchange_type", "routing_key")]
        assert found == ["amqp://u:p@127.0.0.1:1/", None, None, None]
        await queue.close()
        with pytest.raises(InvalidMessage, match="queue_name"):
            RabbitMQQueue("amqp://u:p@127.0.0.1:1/")
        assert RedisProducer("redis://127.0.0.1:1")._ready().config.get("redis_url") == (
            "redis://127.0.0.1:1")
        assert ConfluentProducer("127.0.0.1:2", flushers=2)._ready().broker == "kafka"
        assert ConfluentProducer()._ready() is get_producer("kafka")._ready()

    asyncio.run(go())


def test_a_broker_that_is_down() -> None:
    configure_messaging(message_broker="kafka", kafka_bootstrap_servers="127.0.0.1:1",
                        delivery_timeout_ms=1500, close_timeout_ms=0)

    async def go() -> None:
        producer = get_producer()
        began = time.monotonic()
        with pytest.raises(SendTimeout) as raised:
            await producer.send("t", {"n": 1}, wait=True, timeout=0.2)
        assert isinstance(raised.value, TimeoutError) and time.monotonic() - began < 5
        with pytest.raises(SendTimeout):
            producer.sync.send("t", {"n": 1}, timeout=0.1)
        delivery = await producer.send("t", {"n": 2}, wait=False)
        with pytest.raises((Expired, MessagingError)):
            await delivery
        assert delivery.exception() is not None
        await producer.stop(0)

    asyncio.run(go())


def test_cancelling_a_wait_harms_nobody() -> None:
    configure_messaging(linger_us=100_000)

    async def go() -> None:
        producer = get_producer()
        delivery = await producer.send("t", {"n": 1}, wait=False)
        waits = [asyncio.create_task(outcome_of(delivery)) for _ in range(3)]
        await asyncio.sleep(0)
        waits[0].cancel()
        done = await asyncio.gather(*waits, return_exceptions=True)
        assert isinstance(done[0], asyncio.CancelledError) and done[1] is done[2] is delivery
        assert (await producer.send("t", {"n": 2})).offset == 1

    asyncio.run(go())


async def outcome_of(delivery: Any) -> Any:
    return await delivery


def test_sync_twins() -> None:
    producer = get_producer().sync
    producer.start()
    assert producer.send("t", {"n": 1}, key="k").offset == 0
    producer.send_fire_and_forget("t", {"n": 2})
    assert producer.send_batch_fire_and_forget("t", [{"n": 3}, {"n": 4}]) == 2
    assert [d.offset for d in producer.send_batch("t", [{"n": 5}])] == [4]
    assert producer.flush() == 0
    assert [v["n"] for v in values("t")] == [1, 2, 3, 4, 5]
    producer.stop()


def test_a_loop_of_sends_starves_nobody() -> None:
    async def go() -> None:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        for i in range(2000):
            await get_producer().send_fire_and_forget("t", {"n": i})
        task.cancel()
        assert turns >= 5

    asyncio.run(go())
    assert len(records("t")) == 2000


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12)


@rules(max_examples=60, deadline=None)
@given(st.lists(st.dictionaries(st.text(), json_values, max_size=4), max_size=40))
def test_any_json_survives(items: list[dict[str, Any]]) -> None:
    producer = get_producer()
    before = len(records("any"))
    producer.sync.send_batch_fire_and_forget("any", items)
    assert values("any")[before:] == items
