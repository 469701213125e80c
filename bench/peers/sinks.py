# SPDX-License-Identifier: Apache-2.0
"""What script/bench peers knows of each sink (docs/peers.md).

How its server is started, what Salvo is told so that all are alike, how many messages of a topic
the server has, and how the topic goes away again.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass


@dataclass
class Sink:
    """One sink, equal settings for all."""

    name: str
    server: list[str]  # script/broker's --set
    settings: dict[str, str]  # of the peers: KEY=VALUE
    salvo: dict[str, str]  # the same for Salvo
    address_key: str
    rate: str  # that all but the slowest can keep up with on a small machine
    about: str  # for the table

    def stored(self, address: str, topic: str) -> int:
        """Messages that the server has."""
        return {"kafka": kafka_stored, "redis": redis_stored,
                "rabbitmq": rabbitmq_stored}[self.name](address, topic)

    def remove(self, address: str, topic: str) -> None:
        """Remove the topic."""
        {"kafka": kafka_remove, "redis": redis_remove,
         "rabbitmq": rabbitmq_remove}[self.name](address, topic)


def kafka(linger_us: int, compression: str) -> Sink:
    """Batches of 128 KiB, 64 MiB of buffer, five requests in flight, idempotent."""
    settings = {"acks": "all", "idempotence": "true", "compression": compression,
                "linger_us": str(linger_us), "batch_bytes": str(128 << 10),
                "buffer_bytes": str(64 << 20), "in_flight": "5"}
    salvo = {"kafka_acks": "all", "kafka_enable_idempotence": "true",
             "kafka_compression_type": compression, "linger_us": str(linger_us),
             "batch_bytes": settings["batch_bytes"], "buffer_bytes": settings["buffer_bytes"],
             "rdkafka.max.in.flight.requests.per.connection": "5"}
    return Sink("kafka", [], settings, salvo, "kafka_bootstrap_servers", "10k",
                f"acks=all, idempotent, linger {linger_us / 1000:g} ms, batch 128 KiB, "
                f"buffer 64 MiB, 5 in flight, compression {compression}")


def redis(linger_us: int, compression: str) -> Sink:
    """The same window for all; nobody but Salvo has a linger, so it has none."""
    del linger_us, compression
    salvo = {"linger_us": "0", "redis_window": "2048", "buffer_bytes": str(64 << 20)}
    return Sink("redis", ["appendonly=no"], {"window": "2048"}, salvo, "redis_url",
                "10k", "XADD, window 2048, no linger, appendonly no")


def rabbitmq(linger_us: int, compression: str) -> Sink:
    """The same window for all, persistent messages to a durable queue."""
    del linger_us, compression
    salvo = {"linger_us": "0", "rabbitmq_window": "2048", "buffer_bytes": str(64 << 20)}
    return Sink("rabbitmq", [], {"window": "2048"}, salvo, "rabbitmq_url",
                "2k", "confirms, persistent, mandatory, durable queue, window 2048, no linger")


SINKS = {"kafka": kafka, "redis": redis, "rabbitmq": rabbitmq}


def kafka_stored(address: str, topic: str) -> int:
    """The sum of all partitions' lengths."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": address, "group.id": "peers", "log_level": 3})
    partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
    count = 0
    for partition in partitions:
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=30)
        count += high - low
    consumer.close()
    return count


def kafka_remove(address: str, topic: str) -> None:
    """Delete the topic."""
    from confluent_kafka.admin import AdminClient

    admin = AdminClient({"bootstrap.servers": address, "log_level": 3})
    admin.delete_topics([topic])[topic].result(30)


def redis_stored(address: str, topic: str) -> int:
    """The stream's length."""
    import redis as client

    return int(client.Redis.from_url(address).xlen(topic))


def redis_remove(address: str, topic: str) -> None:
    """Delete the stream."""
    import redis as client

    client.Redis.from_url(address).delete(topic)


async def _rabbitmq_ask(address: str, topic: str, remove: bool) -> int:
    import aio_pika

    connection = await aio_pika.connect(address)
    async with connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(topic, passive=True)
        if remove:
            await queue.delete(if_unused=False, if_empty=False)
        return int(queue.declaration_result.message_count or 0)


def rabbitmq_stored(address: str, topic: str) -> int:
    """The queue's length."""
    return asyncio.run(_rabbitmq_ask(address, topic, False))


def rabbitmq_remove(address: str, topic: str) -> None:
    """Delete the queue."""
    asyncio.run(_rabbitmq_ask(address, topic, True))
