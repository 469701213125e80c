# SPDX-License-Identifier: Apache-2.0
"""One round of one contestant of consume.py: consume_contestant.py NAME KAFKA TOPIC COUNT.

Prints {"per_s", "cpu_us"}: the rate from the first message that the handler saw to the last, and
CPU of the whole process (user and system) a message, joining included. Guarantees: exactly the
first COUNT messages were seen, each once, or the round fails. All read from the beginning with a
group of their own, with fetches of up to 8 MiB, and commit in the background.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
import uuid
from typing import Any

FETCH_BYTES, BATCH = 8 << 20, 500


class Seen:
    """Counts what the handler read; done is set with the last message."""

    def __init__(self, count: int) -> None:
        self.count, self.sum, self.left = count, 0, count
        self.began = self.ended = 0.0

    def one(self, message: Any) -> None:
        """A message, decoded: reads its field."""
        if self.left == self.count:
            self.began = time.perf_counter()
        if self.left > 0:
            self.sum += message["id"]
        self.left -= 1
        if self.left == 0:
            self.ended = time.perf_counter()

    def many(self, messages: list[Any]) -> None:
        """A batch."""
        if self.left == self.count:
            self.began = time.perf_counter()
        take = messages if len(messages) <= self.left else messages[:max(self.left, 0)]
        total = 0
        for message in take:
            total += message["id"]
        self.sum += total
        self.left -= len(messages)
        if self.left <= 0 and not self.ended:
            self.ended = time.perf_counter()

    @property
    def done(self) -> bool:
        return self.left <= 0

    def result(self) -> dict[str, float]:
        wanted = self.count * 1_000_000 + self.count * (self.count - 1) // 2
        assert self.sum == wanted, f"the ids sum up to {self.sum}, not {wanted}"
        used = resource.getrusage(resource.RUSAGE_SELF)
        read = self.count - min(self.left, 0)  # a batch may go beyond
        return {"per_s": self.count / (self.ended - self.began),
                "cpu_us": (used.ru_utime + used.ru_stime) * 1e6 / read}


def fill(kafka: str, topic: str, count: int) -> None:
    """COUNT events of 82 bytes."""
    from salvo.messaging import configure_messaging, get_producer

    configure_messaging(message_broker="kafka", kafka_bootstrap_servers=kafka, kafka_linger_ms=5)

    async def go() -> None:
        producer = get_producer()
        for begin in range(0, count, 10_000):
            await producer.send_batch_fire_and_forget(topic, [
                {"id": 1_000_000 + i, "user": f"user-{i % 1000:04}", "action": "click",
                 "page": f"/p/{i % 100:03}", "ts": 1700000000 + i}
                for i in range(begin, min(begin + 10_000, count))])
        assert await producer.flush(120) == 0

    asyncio.run(go())


# --- Salvo ---


def configure(kafka: str) -> None:
    from salvo.messaging import configure_messaging

    configure_messaging(message_broker="kafka", kafka_bootstrap_servers=kafka, kafka_linger_ms=5,
                        kafka_auto_offset_reset="earliest", kafka_max_poll_records=BATCH)


def salvo_worker(seen: Seen, kafka: str, topic: str, output: str | None = None,
                 batch: bool = False) -> None:
    """A worker until it has seen all."""
    from salvo.messaging import Worker
    from salvo.messaging.workers import run_worker

    configure(kafka)

    async def go() -> None:
        end = asyncio.Event()

        def look() -> None:
            if seen.done:
                end.set()

        attributes: dict[str, Any] = {"input_topic": topic, "output_topic": output,
                                      "group_id": uuid.uuid4().hex}
        if batch:
            async def process_batch(self: Any, messages: list[dict[str, Any]]) -> list[Any]:
                seen.many(messages)
                look()
                return [None] * len(messages)
            attributes |= {"process_batch": process_batch, "batch_size": BATCH}
        else:
            async def process(self: Any, message: dict[str, Any]) -> Any:
                seen.one(message)
                look()
                return {"id": message["id"]} if output else None
            attributes["process"] = process
        worker = type("Bench", (Worker,), attributes)
        task = asyncio.ensure_future(run_worker(worker))
        waits = asyncio.ensure_future(end.wait())
        await asyncio.wait({task, waits}, return_when=asyncio.FIRST_COMPLETED)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(go())


def salvo_handler(seen: Seen, kafka: str, topic: str) -> None:
    """create_consumer with a handler."""
    from salvo.messaging import create_consumer

    configure(kafka)

    async def go() -> None:
        end = asyncio.Event()

        async def handler(message: dict[str, Any]) -> None:
            seen.one(message)
            if seen.done:
                end.set()

        consumer = create_consumer(group_id=uuid.uuid4().hex, topics=[topic],
                                   message_handler=handler)
        await consumer.start()
        await end.wait()
        await consumer.stop()

    asyncio.run(go())


# --- peers ---


def confluent(seen: Seen, kafka: str, topic: str, batch: bool) -> None:
    """Its loop, one message or many at a time."""
    import msgspec
    from confluent_kafka import Consumer

    decode = msgspec.json.Decoder().decode
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": uuid.uuid4().hex,
                         "auto.offset.reset": "earliest", "fetch.max.bytes": FETCH_BYTES,
                         "max.partition.fetch.bytes": FETCH_BYTES})
    consumer.subscribe([topic])
    while not seen.done:
        if batch:
            seen.many([decode(message.value()) for message in consumer.consume(BATCH, 1.0)])
            continue
        message = consumer.poll(1.0)
        if message is not None:
            seen.one(decode(message.value()))
    consumer.close()


def aiokafka(seen: Seen, kafka: str, topic: str, many: bool) -> None:
    """An async handler a message."""
    import msgspec
    from aiokafka import AIOKafkaConsumer

    async def handler(message: dict[str, Any]) -> None:
        seen.one(message)

    async def go() -> None:
        decode = msgspec.json.Decoder().decode
        consumer = AIOKafkaConsumer(topic, bootstrap_servers=kafka, group_id=uuid.uuid4().hex,
                                    auto_offset_reset="earliest", fetch_max_bytes=FETCH_BYTES,
                                    max_partition_fetch_bytes=FETCH_BYTES)
        await consumer.start()
        if many:
            while not seen.done:
                for records in (await consumer.getmany(timeout_ms=1000,
                                                       max_records=BATCH)).values():
                    for record in records:
                        await handler(decode(record.value))
        else:
            async for record in consumer:
                await handler(decode(record.value))
                if seen.done:
                    break
        await consumer.stop()

    asyncio.run(go())


def faststream(seen: Seen, kafka: str, topic: str, output: str | None) -> None:
    """Its subscriber on confluent-kafka, with a publisher or without."""
    import logging

    import msgspec
    from faststream.confluent import KafkaBroker

    decode = msgspec.json.Decoder().decode

    async def go() -> None:
        end = asyncio.Event()
        broker = KafkaBroker(kafka, logger=None, log_level=logging.ERROR)

        async def handler(body: bytes) -> Any:
            message = decode(body)
            seen.one(message)
            if seen.done:
                end.set()
            return {"id": message["id"]} if output else None

        async def raw(message: Any) -> bytes:
            return message.body

        decorated = broker.publisher(output)(handler) if output else handler
        broker.subscriber(topic, group_id=uuid.uuid4().hex, auto_offset_reset="earliest",
                          decoder=raw)(decorated)
        await broker.start()
        await end.wait()
        await broker.stop()

    asyncio.run(go())


def play(name: str, seen: Seen, kafka: str, topic: str) -> None:
    """Whoever it is."""
    kind, _, way = name.partition("_")
    output = f"{topic}-{name}" if way == "output" else None
    if name == "salvo_handler":
        salvo_handler(seen, kafka, topic)
    elif kind == "salvo":
        salvo_worker(seen, kafka, topic, output, way == "batch")
    elif kind == "confluent":
        confluent(seen, kafka, topic, way == "consume")
    elif kind == "aiokafka":
        aiokafka(seen, kafka, topic, way == "getmany")
    else:
        faststream(seen, kafka, topic, output)


def main() -> None:
    """One round."""
    name, kafka, topic, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
    if name == "fill":
        fill(kafka, topic, count)
        return
    seen = Seen(count)
    play(name, seen, kafka, topic)
    print(json.dumps(seen.result()))


if __name__ == "__main__":
    main()
