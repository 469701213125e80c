# SPDX-License-Identifier: Apache-2.0
"""One round of one contestant of bench.py: contestant.py NAME KAFKA TOPIC EVENTS.

Prints {"accepted_per_s", "acknowledged_per_s"}. Both clocks start at the first event; warming up
(connection, metadata, first batch) comes before. Exit status 77: this contestant cannot run here.
All wait for all replicas, are idempotent, and linger 5 ms.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

Clock = tuple[float, float, float]  # began, all accepted, all acknowledged


def events(count: int) -> list[dict[str, Any]]:
    """Events whose JSON has 82 bytes."""
    return [{"id": 1_000_000 + i, "user": f"user-{i % 1000:04}", "action": "click",
             "page": f"/p/{i % 100:03}", "ts": 1700000000 + i} for i in range(count)]


def missing(what: str) -> Any:
    """Leave this contestant out."""
    print(what, file=sys.stderr)
    sys.exit(77)


# --- Salvo ---


def salvo(send: Callable[[Any, str, Any], Awaitable[None]], data: Any, kafka: str,
          topic: str) -> Clock:
    """Any of Salvo's ways of sending."""
    from salvo.messaging import configure_messaging, get_producer

    configure_messaging(message_broker="kafka", kafka_bootstrap_servers=kafka, kafka_linger_ms=5,
                        buffer_bytes="256MiB", ring_bytes="32MiB")

    async def go() -> Clock:
        producer = get_producer()
        await producer.send(topic, {"warm": "up"})
        before = producer.ledger()
        began = time.perf_counter()
        await send(producer, topic, data)
        accepted = time.perf_counter()
        assert await producer.flush(120) == 0
        acknowledged = time.perf_counter()
        after = producer.ledger()
        assert after["acknowledged"] - before["acknowledged"] == len(data), after
        assert after["offered"] == after["accepted"], after
        return began, accepted, acknowledged

    return asyncio.run(go())


async def batch(producer: Any, topic: str, data: Any) -> None:
    await producer.send_batch_fire_and_forget(topic, data)


async def one_by_one(producer: Any, topic: str, data: Any) -> None:
    for event in data:
        await producer.send_fire_and_forget(topic, event)


async def nowait(producer: Any, topic: str, data: Any) -> None:
    for event in data:
        await producer.send(topic, event, wait=False)


async def wait_each(producer: Any, topic: str, data: Any) -> None:
    for event in data:
        await producer.send(topic, event, wait=True)


async def gather(producer: Any, topic: str, data: Any) -> None:
    """A thousand at one time."""
    for at in range(0, len(data), 1000):
        await asyncio.gather(*(producer.send(topic, event, wait=True)
                               for event in data[at : at + 1000]))


# --- confluent-kafka ---


def confluent_settings(kafka: str) -> dict[str, Any]:
    return {"bootstrap.servers": kafka, "acks": "all", "enable.idempotence": True, "linger.ms": 5,
            "queue.buffering.max.messages": 2_000_000,
            "queue.buffering.max.kbytes": 1_048_576}


def confluent(encode: Callable[[Any], bytes] | None, data: Any, kafka: str, topic: str,
              each: bool = False) -> Clock:
    """produce() per event, polled now and then; `each`: flushed after every event."""
    from confluent_kafka import Producer

    producer = Producer(confluent_settings(kafka))
    failed: list[Any] = []
    settled = 0

    def report(error: Any, message: Any) -> None:
        nonlocal settled
        settled += 1
        if error is not None:
            failed.append(error)

    producer.produce(topic, b"warm up", on_delivery=report)
    producer.flush()
    began = time.perf_counter()
    for i, event in enumerate(data):
        producer.produce(topic, encode(event) if encode else event, on_delivery=report)
        if each:
            producer.flush()
        elif i % 1000 == 0:
            producer.poll(0)
    accepted = time.perf_counter()
    producer.flush()
    acknowledged = time.perf_counter()
    assert not failed and settled == len(data) + 1
    return began, accepted, acknowledged


def confluent_orjson(data: Any, kafka: str, topic: str) -> Clock:
    try:
        import orjson
    except ImportError:
        return missing("no orjson")
    return confluent(orjson.dumps, data, kafka, topic)


def confluent_msgspec(data: Any, kafka: str, topic: str) -> Clock:
    import msgspec

    return confluent(msgspec.json.Encoder().encode, data, kafka, topic)


def confluent_batch(data: Any, kafka: str, topic: str) -> Clock:
    """produce_batch, where this confluent-kafka has it, with the fastest JSON."""
    import msgspec
    from confluent_kafka import Producer

    producer = Producer(confluent_settings(kafka))
    if not hasattr(producer, "produce_batch"):
        return missing("this confluent-kafka has no produce_batch")
    encode = msgspec.json.Encoder().encode
    producer.produce(topic, b"warm up")
    producer.flush()
    began = time.perf_counter()
    for at in range(0, len(data), 10_000):
        run = [{"value": encode(event)} for event in data[at : at + 10_000]]
        assert producer.produce_batch(topic, run) == len(run)
    accepted = time.perf_counter()
    assert producer.flush() == 0
    return began, accepted, time.perf_counter()


def confluent_aio(data: Any, kafka: str, topic: str) -> Clock:
    """AIOProducer, where this confluent-kafka has it."""
    try:
        from confluent_kafka.aio import AIOProducer
    except ImportError:
        try:
            from confluent_kafka.experimental.aio import AIOProducer
        except ImportError:
            return missing("this confluent-kafka has no AIOProducer")

    async def go() -> Clock:
        producer = AIOProducer(confluent_settings(kafka))
        await (await producer.produce(topic, b"warm up"))
        began = time.perf_counter()
        futures = [await producer.produce(topic, json.dumps(event).encode()) for event in data]
        accepted = time.perf_counter()
        await producer.flush()
        await asyncio.gather(*futures)
        acknowledged = time.perf_counter()
        await producer.close()
        return began, accepted, acknowledged

    return asyncio.run(go())


# --- aiokafka, kafka-python ---


def aiokafka(way: str, data: Any, kafka: str, topic: str) -> Clock:
    """send, send_and_wait one after the other, or a gather of them."""
    from aiokafka import AIOKafkaProducer

    async def go() -> Clock:
        producer = AIOKafkaProducer(
            bootstrap_servers=kafka, acks="all", enable_idempotence=True, linger_ms=5,
            value_serializer=lambda value: json.dumps(value).encode())
        await producer.start()
        await producer.send_and_wait(topic, "warm up")
        began = time.perf_counter()
        futures: list[Any] = []
        if way == "send":
            futures = [await producer.send(topic, event) for event in data]
        elif way == "gather":
            for at in range(0, len(data), 1000):
                await asyncio.gather(*(producer.send_and_wait(topic, event)
                                       for event in data[at : at + 1000]))
        else:
            for event in data:
                await producer.send_and_wait(topic, event)
        accepted = time.perf_counter()
        await producer.flush()
        await asyncio.gather(*futures)
        acknowledged = time.perf_counter()
        await producer.stop()
        return began, accepted, acknowledged

    return asyncio.run(go())


def kafka_python(data: Any, kafka: str, topic: str) -> Clock:
    from kafka import KafkaProducer

    producer = KafkaProducer(bootstrap_servers=kafka, acks="all", linger_ms=5,
                             value_serializer=lambda value: json.dumps(value).encode())
    producer.send(topic, "warm up").get(30)
    began = time.perf_counter()
    futures = [producer.send(topic, event) for event in data]
    accepted = time.perf_counter()
    producer.flush()
    for future in futures:
        future.get(60)
    return began, accepted, time.perf_counter()


def ready(data: Any) -> list[bytes]:
    """The events as bytes: encoding is not what is measured there."""
    return [json.dumps(event, separators=(",", ":")).encode() for event in data]


Round = Callable[[Any, str, str], Clock]
ROUNDS: dict[str, Round] = {
    "salvo_batch_dict": lambda data, k, t: salvo(batch, data, k, t),
    "salvo_batch_bytes": lambda data, k, t: salvo(batch, ready(data), k, t),
    "salvo_faf": lambda data, k, t: salvo(one_by_one, data, k, t),
    "salvo_send_nowait": lambda data, k, t: salvo(nowait, data, k, t),
    "salvo_send_wait": lambda data, k, t: salvo(wait_each, data, k, t),
    "salvo_gather_wait": lambda data, k, t: salvo(gather, data, k, t),
    "confluent_json": lambda data, k, t: confluent(lambda v: json.dumps(v).encode(), data, k, t),
    "confluent_orjson": confluent_orjson,
    "confluent_msgspec": confluent_msgspec,
    "confluent_produce_batch": confluent_batch,
    "confluent_aio": confluent_aio,
    "confluent_wait": lambda data, k, t: confluent(
        lambda v: json.dumps(v).encode(), data, k, t, each=True),
    "aiokafka_send": lambda data, k, t: aiokafka("send", data, k, t),
    "aiokafka_send_and_wait": lambda data, k, t: aiokafka("wait", data, k, t),
    "aiokafka_gather_wait": lambda data, k, t: aiokafka("gather", data, k, t),
    "kafka_python": kafka_python,
    "confluent_bytes": lambda data, k, t: confluent(None, ready(data), k, t),
}


def main() -> None:
    """One round."""
    name, kafka, topic, count = sys.argv[1:5]
    data = events(int(count))
    began, accepted, acknowledged = ROUNDS[name](data, kafka, topic)
    print(json.dumps({"accepted_per_s": len(data) / (accepted - began),
                      "acknowledged_per_s": len(data) / (acknowledged - began)}))


if __name__ == "__main__":
    main()
