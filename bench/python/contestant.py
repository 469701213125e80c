# SPDX-License-Identifier: Apache-2.0
"""One round of one contestant of bench.py: contestant.py NAME KAFKA TOPIC EVENTS.

Prints {"accepted_per_s", "acknowledged_per_s", "cpu_us", "refused"}: rates from the first event
on; CPU of the whole process, user and system, per message until all were acknowledged. Guarantees:
a connection, metadata and a burst of the same kind come before the clocks start; all messages were
acknowledged and none was refused, or the round fails; exit status 77: this contestant cannot run
here. All wait for all replicas, are idempotent, linger 5 ms, do not compress, keep up to 5
requests in flight, and take batches of up to 1 MB (aiokafka_gather_wait: aiokafka's own 16 KB).
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

LINGER_MS, BATCH_BYTES, RUN = 5, 1_000_000, 10_000
FEW = 50  # messages that warm up where each is waited for

Encode = Callable[[Any], bytes]
Loop = Callable[[Any], Awaitable[None]]


def events(count: int) -> list[dict[str, Any]]:
    """Events whose JSON has 82 bytes."""
    return [{"id": 1_000_000 + i, "user": f"user-{i % 1000:04}", "action": "click",
             "page": f"/p/{i % 100:03}", "ts": 1700000000 + i} for i in range(count)]


def missing(what: str) -> NoReturn:
    """Leave this contestant out: nothing comes after it."""
    print(what, file=sys.stderr)
    sys.exit(77)


class Clock:
    """Runs from begin() over accepted() to acknowledged()."""

    def __init__(self, count: int) -> None:
        self.count = count

    @staticmethod
    def _cpu() -> float:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return used.ru_utime + used.ru_stime

    def begin(self) -> None:
        """After warming up."""
        gc.collect()
        self.cpu = self._cpu()
        self.began = time.perf_counter()

    def accepted(self) -> None:
        """The library has all events."""
        self.taken = time.perf_counter()

    def acknowledged(self) -> None:
        """So has the broker."""
        self.ended = time.perf_counter()
        self.cpu = self._cpu() - self.cpu

    def result(self) -> dict[str, float]:
        """What is printed."""
        return {"accepted_per_s": self.count / (self.taken - self.began),
                "acknowledged_per_s": self.count / (self.ended - self.began),
                "cpu_us": self.cpu * 1e6 / self.count, "refused": 0}


def warm_up(data: Any, few: bool) -> Any:
    return data[:FEW] if few else data


# --- Salvo ---


def salvo(send: Callable[[Any, str, Any], Awaitable[None]], data: Any, kafka: str, topic: str,
          clock: Clock, few: bool = False) -> None:
    """Any of Salvo's ways of sending."""
    from salvo.messaging import configure_messaging, get_producer

    configure_messaging(message_broker="kafka", kafka_bootstrap_servers=kafka,
                        kafka_linger_ms=LINGER_MS, buffer_bytes="256MiB", ring_bytes="64MiB")

    async def go() -> None:
        producer = get_producer()
        await producer.send(topic, {"warm": "up"})
        await send(producer, topic, warm_up(data, few))
        assert await producer.flush(120) == 0
        before = producer.ledger()
        clock.begin()
        await send(producer, topic, data)
        clock.accepted()
        assert await producer.flush(120) == 0
        clock.acknowledged()
        after = producer.ledger()
        assert after["acknowledged"] - before["acknowledged"] == len(data), after
        assert after["offered"] == after["accepted"], after

    asyncio.run(go())


async def batch(producer: Any, topic: str, data: Any) -> None:
    """send_batch_fire_and_forget"""
    await producer.send_batch_fire_and_forget(topic, data)


async def one_by_one(producer: Any, topic: str, data: Any) -> None:
    """send_fire_and_forget"""
    for event in data:
        await producer.send_fire_and_forget(topic, event)


async def nowait(producer: Any, topic: str, data: Any) -> None:
    """send(wait=False)"""
    for event in data:
        await producer.send(topic, event, wait=False)


async def wait_each(producer: Any, topic: str, data: Any) -> None:
    """send(wait=True), one after the other"""
    for event in data:
        await producer.send(topic, event, wait=True)


async def gather(producer: Any, topic: str, data: Any) -> None:
    """send(wait=True), a thousand at one time"""
    for at in range(0, len(data), 1000):
        await asyncio.gather(*(producer.send(topic, event, wait=True)
                               for event in data[at : at + 1000]))


# --- confluent-kafka ---


def confluent_settings(kafka: str) -> dict[str, Any]:
    """Librdkafka's, with a queue that holds every burst."""
    return {"bootstrap.servers": kafka, "acks": "all", "enable.idempotence": True,
            "linger.ms": LINGER_MS, "batch.size": BATCH_BYTES, "compression.type": "none",
            "queue.buffering.max.messages": 2_000_000,
            "queue.buffering.max.kbytes": 1_048_576}


def json_of(name: str) -> Encode:
    """The encoder of that name."""
    if name == "orjson":
        try:
            import orjson
        except ImportError:
            missing("no orjson")
        dumps: Encode = orjson.dumps
        return dumps
    if name == "msgspec":
        import msgspec

        return msgspec.json.Encoder().encode
    if name == "bytes":
        return lambda event: event
    dumps_text = json.JSONEncoder(separators=(",", ":")).encode  # json.dumps would add blanks
    return lambda event: dumps_text(event).encode()


class Confluent:
    """A producer whose deliveries are counted where the way of sending asks for them."""

    def __init__(self, kafka: str, topic: str, encode: Encode) -> None:
        from confluent_kafka import Producer

        self.producer = Producer(confluent_settings(kafka))
        self.topic, self.encode, self.settled = topic, encode, 0

    def report(self, error: Any, message: Any) -> None:
        """What each delivery calls."""
        assert error is None, error
        self.settled += 1

    def send(self, data: Any) -> None:
        """produce() per event with a delivery callback, polled now and then."""
        produce, encode, report = self.producer.produce, self.encode, self.report
        for i, event in enumerate(data):
            produce(self.topic, encode(event), on_delivery=report)
            if i % 1000 == 0:
                self.producer.poll(0)

    def forget(self, data: Any) -> None:
        """produce() per event, without a callback."""
        produce, encode = self.producer.produce, self.encode
        for i, event in enumerate(data):
            produce(self.topic, encode(event))
            if i % 1000 == 0:
                self.producer.poll(0)

    def wait(self, data: Any) -> None:
        """produce() and flush() for each: flush ends the linger."""
        for event in data:
            self.producer.produce(self.topic, self.encode(event), on_delivery=self.report)
            self.producer.flush()

    def batch(self, data: Any) -> None:
        """produce_batch()"""
        if not hasattr(self.producer, "produce_batch"):
            missing("this confluent-kafka has no produce_batch")
        encode = self.encode
        for at in range(0, len(data), RUN):
            run = [{"value": encode(event)} for event in data[at : at + RUN]]
            assert self.producer.produce_batch(self.topic, run) == len(run)


def confluent(way: str, encoder: str, data: Any, kafka: str, topic: str, clock: Clock) -> None:
    """Any of the ways of class Confluent."""
    contestant = Confluent(kafka, topic, json_of(encoder))
    send = getattr(contestant, way)
    first = warm_up(data, way == "wait")
    send(first)
    contestant.producer.flush()
    clock.begin()
    send(data)
    clock.accepted()
    assert contestant.producer.flush() == 0
    clock.acknowledged()
    if way in ("send", "wait"):
        assert contestant.settled == len(first) + len(data)


def confluent_aio(encoder: str, data: Any, kafka: str, topic: str, clock: Clock) -> None:
    """AIOProducer, where this confluent-kafka has it."""
    try:
        from confluent_kafka.aio import AIOProducer
    except ImportError:
        missing("this confluent-kafka has no AIOProducer")
    encode = json_of(encoder)

    async def go() -> None:
        producer = AIOProducer(confluent_settings(kafka), buffer_timeout=LINGER_MS / 1000)
        for measured in (False, True):
            if measured:
                clock.begin()
            futures = [await producer.produce(topic, encode(event)) for event in data]
            if measured:
                clock.accepted()
            await producer.flush()
            await asyncio.gather(*futures)
        clock.acknowledged()
        await producer.close()

    asyncio.run(go())


# --- aiokafka, kafka-python ---


def aiokafka(way: str, encoder: str, data: Any, kafka: str, topic: str, clock: Clock,
             batch_bytes: int = BATCH_BYTES) -> None:
    """send (futures kept), forget (dropped), wait (one after the other), gather, batch."""
    from aiokafka import AIOKafkaProducer

    encode = json_of(encoder)

    async def go() -> None:
        producer = AIOKafkaProducer(
            bootstrap_servers=kafka, acks="all", enable_idempotence=True, linger_ms=LINGER_MS,
            max_batch_size=batch_bytes, value_serializer=encode)
        await producer.start()

        async def send(part: Any) -> list[Any]:
            return [await producer.send(topic, event) for event in part]

        async def forget(part: Any) -> list[Any]:
            for event in part:
                await producer.send(topic, event)
            return []

        async def wait(part: Any) -> list[Any]:
            for event in part:
                await producer.send_and_wait(topic, event)
            return []

        async def gather_all(part: Any) -> list[Any]:
            for at in range(0, len(part), 1000):
                await asyncio.gather(*(producer.send_and_wait(topic, event)
                                       for event in part[at : at + 1000]))
            return []

        async def batches(part: Any) -> list[Any]:
            built = producer.create_batch()
            for event in part:
                assert built.append(key=None, value=event, timestamp=None) is not None
            return [await producer.send_batch(built, topic, partition=0)]

        run = {"send": send, "forget": forget, "wait": wait, "gather": gather_all,
               "batch": batches}[way]
        await producer.send_and_wait(topic, "warm up" if encoder != "bytes" else b"warm up")
        first = await run(warm_up(data, way == "wait"))
        await producer.flush()
        await asyncio.gather(*first)
        clock.begin()
        futures = await run(data)
        clock.accepted()
        await producer.flush()
        await asyncio.gather(*futures)
        clock.acknowledged()
        await producer.stop()

    asyncio.run(go())


def kafka_python(encoder: str, data: Any, kafka: str, topic: str, clock: Clock) -> None:
    """send(), futures kept."""
    from kafka import KafkaProducer

    producer = KafkaProducer(
        bootstrap_servers=kafka, acks="all", enable_idempotence=True, linger_ms=LINGER_MS,
        batch_size=BATCH_BYTES, max_in_flight_requests_per_connection=5,
        value_serializer=json_of(encoder))
    for measured in (False, True):
        if measured:
            clock.begin()
        futures = [producer.send(topic, event) for event in data]
        if measured:
            clock.accepted()
        producer.flush()
        for future in futures:
            future.get(60)
    clock.acknowledged()
    producer.close()


def ready(data: Any) -> list[bytes]:
    """The events as bytes: encoding is not what is measured there."""
    return [json.dumps(event, separators=(",", ":")).encode() for event in data]


Round = Callable[[Any, str, str, Clock], None]
ROUNDS: dict[str, Round] = {
    "salvo_batch_dict": lambda *a: salvo(batch, *a),
    "salvo_batch_bytes": lambda d, *a: salvo(batch, ready(d), *a),
    "salvo_faf": lambda *a: salvo(one_by_one, *a),
    "salvo_send_nowait": lambda *a: salvo(nowait, *a),
    "salvo_send_wait": lambda d, k, t, c: salvo(wait_each, d, k, t, c, few=True),
    "salvo_gather_wait": lambda *a: salvo(gather, *a),
    "confluent_json": lambda *a: confluent("forget", "json", *a),
    "confluent_orjson": lambda *a: confluent("forget", "orjson", *a),
    "confluent_msgspec": lambda *a: confluent("forget", "msgspec", *a),
    "confluent_callback": lambda *a: confluent("send", "json", *a),
    "confluent_wait": lambda *a: confluent("wait", "json", *a),
    "confluent_batch_json": lambda *a: confluent("batch", "json", *a),
    "confluent_batch_orjson": lambda *a: confluent("batch", "orjson", *a),
    "confluent_aio": lambda *a: confluent_aio("json", *a),
    "confluent_aio_orjson": lambda *a: confluent_aio("orjson", *a),
    "confluent_bytes": lambda d, *a: confluent("forget", "bytes", ready(d), *a),
    "aiokafka_send": lambda *a: aiokafka("send", "json", *a),
    "aiokafka_send_orjson": lambda *a: aiokafka("send", "orjson", *a),
    "aiokafka_forget": lambda *a: aiokafka("forget", "json", *a),
    "aiokafka_batch": lambda *a: aiokafka("batch", "json", *a),
    "aiokafka_wait": lambda *a: aiokafka("wait", "json", *a),
    "aiokafka_gather_wait": lambda d, k, t, c: aiokafka("gather", "json", d, k, t, c, 16384),
    "aiokafka_gather_1mb": lambda *a: aiokafka("gather", "json", *a),
    "kafka_python": lambda *a: kafka_python("json", *a),
    "kafka_python_orjson": lambda *a: kafka_python("orjson", *a),
}


def main() -> None:
    """One round."""
    name, kafka, topic, count = sys.argv[1:5]
    data = events(int(count))
    clock = Clock(len(data))
    ROUNDS[name](data, kafka, topic, clock)
    print(json.dumps(clock.result()))


if __name__ == "__main__":
    main()
