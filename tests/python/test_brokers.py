# SPDX-License-Identifier: Apache-2.0
"""Real brokers, read back by other people's clients.

SALVO_TEST_KAFKA, SALVO_TEST_REDIS and SALVO_TEST_RABBITMQ name them (script/broker prints such
addresses); without one its tests are skipped.
"""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from typing import Any

import pytest
from salvo.messaging import (
    ConfluentProducer,
    KafkaProducer,
    MessagingError,
    RabbitMQQueue,
    RedisProducer,
    configure_messaging,
    get_producer,
)

KAFKA, REDIS, RABBITMQ = (
    os.environ.get(f"SALVO_TEST_{name}", "") for name in ("KAFKA", "REDIS", "RABBITMQ"))
needs_kafka = pytest.mark.skipif(not KAFKA, reason="SALVO_TEST_KAFKA names no Kafka")
needs_redis = pytest.mark.skipif(not REDIS, reason="SALVO_TEST_REDIS names no Redis")
needs_rabbitmq = pytest.mark.skipif(not RABBITMQ, reason="SALVO_TEST_RABBITMQ names no RabbitMQ")

ITEMS = [{"id": n, "text": "é" * (n % 5)} for n in range(500)]


def fresh(name: str) -> str:
    return f"{name}-{uuid.uuid4().hex[:12]}"


async def send_all(producer: Any, topic: str) -> None:
    """One by one, as a batch, and as a batch that nobody waits for."""
    for item in ITEMS[:3]:
        await producer.send(topic, item, key="k", headers={"h": "v"})
    deliveries = await producer.send_batch(topic, ITEMS[3:10], key="k")
    assert all(delivery.status == 0 for delivery in deliveries)
    assert await producer.send_batch_fire_and_forget(topic, ITEMS[10:], key="k") == 490
    assert await producer.flush() == 0


@needs_kafka
@pytest.mark.parametrize("cls", [ConfluentProducer, KafkaProducer])
def test_kafka_read_by_aiokafka(cls: Any) -> None:
    from aiokafka import AIOKafkaConsumer

    async def go() -> None:
        topic, producer = fresh("py"), cls(KAFKA)
        await send_all(producer, topic)
        consumer = AIOKafkaConsumer(topic, bootstrap_servers=KAFKA, auto_offset_reset="earliest")
        await consumer.start()
        got = [await asyncio.wait_for(consumer.getone(), 30) for _ in ITEMS]
        await consumer.stop()
        assert [json.loads(m.value) for m in got] == ITEMS
        assert {m.key for m in got} == {b"k"} and got[0].headers == (("h", b"v"),)
        await producer.stop()

    asyncio.run(go())


@needs_kafka
def test_kafka_read_by_confluent_kafka() -> None:
    from confluent_kafka import Consumer

    topic, producer = fresh("py"), KafkaProducer(KAFKA)
    delivery = asyncio.run(producer.send(topic, {"n": 1}, "key", timestamp=1_700_000_000_123))
    consumer = Consumer({"bootstrap.servers": KAFKA, "group.id": topic,
                         "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    message = consumer.poll(30)
    consumer.close()
    assert message is not None and message.error() is None
    assert (message.value(), message.key(), message.offset()) == (b'{"n":1}', b"key", 0)
    assert delivery.offset == 0 and delivery.timestamp == message.timestamp()[1]


@needs_kafka
def test_a_partition_that_is_not_there() -> None:
    configure_messaging(message_broker="kafka", kafka_bootstrap_servers=KAFKA)

    async def go() -> None:
        topic = fresh("py")
        await get_producer().send(topic, {})
        with pytest.raises(MessagingError):
            await get_producer().send(topic, {}, partition=99, timeout=30)

    asyncio.run(go())


@needs_redis
def test_redis_read_by_redis_py() -> None:
    import redis

    topic, producer = fresh("py"), RedisProducer(REDIS)
    asyncio.run(send_all(producer, topic))
    entries = redis.Redis.from_url(REDIS).xrange(topic)
    assert len(entries) == len(ITEMS)
    texts = [json.dumps(item, ensure_ascii=False, separators=(",", ":")).encode() for item in ITEMS]
    for text, (_, fields) in zip(texts, entries, strict=True):
        assert text in fields.values() and b"k" in fields.values()


@needs_rabbitmq
def test_rabbitmq_read_by_aio_pika() -> None:
    import aio_pika

    configure_messaging(rabbitmq_exchange="amq.fanout")  # where other messages go, not a queue's

    async def go() -> None:
        name = fresh("py")
        queue = RabbitMQQueue(RABBITMQ, name)
        await queue.connect()
        for item in ITEMS[:20]:
            delivery = await queue.publish(item)
            assert delivery.status == 0
        connection = await aio_pika.connect_robust(RABBITMQ)
        async with connection:
            channel = await connection.channel()
            theirs = await channel.declare_queue(name, durable=True)
            got = [await theirs.get(timeout=10) for _ in range(20)]
            assert [json.loads(m.body) for m in got] == ITEMS[:20]
            assert {m.delivery_mode for m in got} == {aio_pika.DeliveryMode.PERSISTENT}
            for message in got:
                await message.ack()
            await theirs.delete()
        await queue.close()

    asyncio.run(go())
