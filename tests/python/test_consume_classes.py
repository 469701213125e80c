# SPDX-License-Identifier: Apache-2.0
"""KafkaConsumer, RedisConsumer, RabbitMQQueue and TaskWorker on the brokers they are named for."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from salvo.messaging import (
    KafkaConsumer,
    Producer,
    RabbitMQQueue,
    RedisConsumer,
    TaskWorker,
    configure_messaging,
    publish,
)

from reading import ADDRESSES, failing_at, fresh, until


@pytest.mark.skipif(not ADDRESSES["redis"], reason="SALVO_TEST_REDIS names no Redis")
def test_redis_consumer_starts_itself_and_ack_settles() -> None:
    import redis

    topic, group = fresh(), fresh("g")
    theirs = redis.Redis.from_url(ADDRESSES["redis"])

    async def go() -> None:
        configure_messaging(message_broker="redis", redis_url=ADDRESSES["redis"])
        for n in range(4):
            await publish(topic, {"n": n})
        consumer = RedisConsumer(topics=[topic], group_id=group, consumer_name="me")
        got = []
        async for message in consumer:
            got.append(message["n"])
            if message["n"] % 2 == 0:
                assert await consumer.ack(message)
            if len(got) == 4:
                break
        await consumer.stop()
        assert got == [0, 1, 2, 3]

    asyncio.run(go())
    assert theirs.xpending(topic, group)["pending"] == 2


@pytest.mark.skipif(not ADDRESSES["kafka"], reason="SALVO_TEST_KAFKA names no Kafka")
def test_kafka_consumer_with_an_address_of_its_own() -> None:
    topic, got = fresh(), []

    async def go() -> None:
        consumer = KafkaConsumer(ADDRESSES["kafka"], fresh("g"), [topic])
        await consumer.start()
        consuming = asyncio.create_task(consumer.consume(failing_at(-1, got)))
        producer = Producer("kafka", kafka_bootstrap_servers=ADDRESSES["kafka"])
        for n in range(3):
            await producer.send(topic, {"n": n}, key="k")
        await until(lambda: len(got) == 3, 60)
        await consumer.stop()
        await asyncio.wait_for(consuming, 10)

    asyncio.run(go())
    assert got == [0, 1, 2]


@pytest.mark.skipif(not ADDRESSES["rabbitmq"], reason="SALVO_TEST_RABBITMQ names no RabbitMQ")
def test_rabbitmq_queue_connect_publish_consume() -> None:
    import aio_pika

    async def go() -> None:
        name, got = fresh(), []
        queue = RabbitMQQueue(ADDRESSES["rabbitmq"], name)
        await queue.connect()
        await queue.connect()
        connection = await aio_pika.connect_robust(ADDRESSES["rabbitmq"])
        async with connection:
            channel = await connection.channel()
            theirs = await channel.declare_queue(name, passive=True)  # it is there
            for n in range(5):
                await queue.publish({"n": n})
            consuming = asyncio.create_task(queue.consume(failing_at(2, got)))
            await until(lambda: len(got) == 4)
            await asyncio.sleep(0.5)
            await queue.close()
            await asyncio.wait_for(consuming, 10)
            left = await channel.declare_queue(name, passive=True)
            assert left.declaration_result.message_count == 0
            await theirs.delete()
        assert got == [0, 1, 3, 4]

    asyncio.run(go())


@pytest.mark.skipif(not ADDRESSES["rabbitmq"], reason="SALVO_TEST_RABBITMQ names no RabbitMQ")
def test_task_worker_runs_tasks_of_a_queue() -> None:
    async def go() -> None:
        queue = RabbitMQQueue(ADDRESSES["rabbitmq"], fresh())
        worker, got = TaskWorker(queue), []

        async def add(data: Any) -> None:
            got.append(data)

        worker.register("add", add)
        worker.register("subtract", lambda data: got.append(-data["n"]))
        starting = asyncio.create_task(worker.start())
        await queue.connect()
        await queue.publish({"type": "add", "data": {"n": 1}})
        await queue.publish({"type": "multiply", "data": {"n": 2}})
        await queue.publish({"type": "subtract", "data": {"n": 3}})
        await until(lambda: len(got) == 2)
        await queue.close()
        await asyncio.wait_for(starting, 10)
        assert got == [{"n": 1}, -3] and worker.unknown == {"multiply": 1}

    asyncio.run(go())
